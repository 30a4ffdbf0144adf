//! A connection to a peer, as the rest of the room sees it, and the task that writes its control stream.

use std::collections::{BTreeSet, HashSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::{AsyncReadExt, AsyncWriteExt};
use larder_content::{FileWord, NodeId, Subject};
use libp2p::swarm::ConnectionId;
use libp2p::{Multiaddr, Stream};
use tokio::sync::{Mutex as Turn, Semaphore, mpsc};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::ControlRecord;
use crate::address::{at_address_of, reach_of};
use crate::book::{KnownPeer, MOST_ADDRESSES};
use crate::exchange::{Asker, UPLOADS_A_PEER};
use crate::frame;
use crate::shared::{Traffic, lock};

/// The most frames that wait to be written to a peer.
pub(crate) const MOST_FRAMES: usize = 4096;
/// The most bytes of them.
const MOST_QUEUED_BYTES: usize = 1024 * 1024;
/// How long a peer may take to read what was gathered; the link of one that does not is of no use.
const WRITING: Duration = Duration::from_secs(30);
/// The bytes that are gathered into one write.
const GATHERED_BYTES: usize = 64 * 1024;
/// The most subjects of which a peer hears what comes later.
const MOST_INTEREST_OF_PEER: usize = 4096;

/// A connection to a peer.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) node: NodeId,
    pub(crate) connection: ConnectionId,
    /// The peer's end.
    pub(crate) address: Multiaddr,
    /// Whether this node dialled.
    pub(crate) is_dialled: bool,
    pub(crate) since: Instant,
    pub(crate) asker: Asker,
    pub(crate) traffic: Arc<Traffic>,
    /// Places for answers that are prepared for this peer.
    pub(crate) uploads: Arc<Semaphore>,
    /// Ends all tasks of the link.
    pub(crate) ends: CancellationToken,
    /// Cancelled, in the sense of reached, when the node was told Connected: no question is passed on before that.
    pub(crate) is_told: CancellationToken,
    /// Held from Connected to Disconnected: the next link of the same peer waits for it.
    pub(crate) turn: Arc<Turn<()>>,
    pub(crate) is_bootstrap: AtomicBool,
    /// Whether the last word about a file was that one side has no room for the other.
    pub(crate) is_refused: AtomicBool,
    pub(crate) about: Mutex<About>,
    frames: mpsc::Sender<Vec<u8>>,
    queued_bytes: AtomicUsize,
    interest: Mutex<HashSet<Subject>>,
}

/// What is learned of a peer in the course of time.
#[derive(Debug, Default)]
pub(crate) struct About {
    pub(crate) round_trip: Option<Duration>,
    /// Where it listens, for others to be told: on the address that it is connected from.
    pub(crate) addresses: Vec<Multiaddr>,
}

impl Link {
    #[allow(clippy::too_many_arguments, reason = "the parts of a connection, each of its own type")]
    pub(crate) fn new(
        node: NodeId,
        connection: ConnectionId,
        address: Multiaddr,
        is_dialled: bool,
        asker: Asker,
        traffic: Arc<Traffic>,
        ends: CancellationToken,
        turn: Arc<Turn<()>>,
    ) -> (Arc<Self>, mpsc::Receiver<Vec<u8>>) {
        let (frames, queue) = mpsc::channel(MOST_FRAMES);
        let link = Self {
            node,
            connection,
            address,
            is_dialled,
            since: Instant::now(),
            asker,
            traffic,
            uploads: Arc::new(Semaphore::new(UPLOADS_A_PEER)),
            ends,
            turn,
            is_told: CancellationToken::new(),
            is_bootstrap: AtomicBool::new(false),
            is_refused: AtomicBool::new(false),
            about: Mutex::default(),
            frames,
            queued_bytes: AtomicUsize::new(0),
            interest: Mutex::default(),
        };
        (Arc::new(link), queue)
    }

    /// A word about a file passes, either way.
    pub(crate) fn passes(&self, word: &FileWord) {
        self.is_refused.store(*word == FileWord::Unfollow, Ordering::Relaxed);
    }

    /// Queues a frame; false if there is no room for it, or it cannot be one.
    pub(crate) fn send(&self, record: &ControlRecord) -> bool {
        let Ok(bytes) = frame::encode(record) else { return false };
        let length = bytes.len();
        if self.queued_bytes.fetch_add(length, Ordering::Relaxed) + length > MOST_QUEUED_BYTES || self.frames.try_send(bytes).is_err() {
            self.queued_bytes.fetch_sub(length, Ordering::Relaxed);
            return false;
        }
        true
    }

    /// Works out where the peer can be reached from where it says it listens and where it is connected from.
    pub(crate) fn learn_addresses(&self, listens: &[String]) {
        let parsed: Vec<Multiaddr> = listens.iter().filter_map(|text| text.parse().ok()).collect();
        let mut found: Vec<Multiaddr> = self.is_dialled.then(|| self.address.clone()).into_iter().collect();
        for address in parsed.iter().filter_map(|address| at_address_of(address, &self.address)) {
            if !found.contains(&address) && found.len() < MOST_ADDRESSES {
                found.push(address);
            }
        }
        lock(&self.about).addresses = found;
    }

    /// The peer as another may be told of it; none if it cannot be reached from there.
    pub(crate) fn introduction(&self, to: &Self) -> Option<KnownPeer> {
        let nearest = reach_of(&to.address);
        let about = lock(&self.about);
        let addresses: Vec<String> =
            about.addresses.iter().filter(|address| reach_of(address) >= nearest).map(ToString::to_string).collect();
        (!addresses.is_empty()).then_some(KnownPeer { node: self.node, addresses })
    }

    /// Remembers that the peer wants to hear of these.
    pub(crate) fn wants(&self, subjects: &BTreeSet<Subject>) {
        let mut interest = lock(&self.interest);
        for subject in subjects {
            if interest.len() >= MOST_INTEREST_OF_PEER {
                return;
            }
            interest.insert(*subject);
        }
    }

    /// Whether the peer wants to hear of this.
    pub(crate) fn is_interested(&self, subject: &Subject) -> bool {
        lock(&self.interest).contains(subject)
    }
}

/// Writes what is queued until the stream breaks or the link ends.
pub(crate) async fn write_all(link: Arc<Link>, mut queue: mpsc::Receiver<Vec<u8>>, stream: Stream) {
    let (mut input, mut output) = stream.split();
    // The peer says nothing here, but that it speaks the protocol, and that it has closed the stream.
    let closed = async {
        let _ = input.read(&mut [0; 1]).await;
    };
    let written = async {
        while let Some(first) = queue.recv().await {
            let mut bytes = first;
            while bytes.len() < GATHERED_BYTES
                && let Ok(next) = queue.try_recv()
            {
                bytes.extend(next);
            }
            link.queued_bytes.fetch_sub(bytes.len(), Ordering::Relaxed);
            let written = timeout(WRITING, async {
                output.write_all(&bytes).await?;
                output.flush().await
            });
            if !matches!(written.await, Ok(Ok(()))) {
                return;
            }
            link.traffic.sent(bytes.len());
        }
    };
    tokio::select! {
        () = closed => {}
        () = written => {}
        () = link.ends.cancelled() => {}
    }
    link.ends.cancel();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_peer_does_not_read_is_no_more_than_a_megabyte() {
        let (node, connection) = (NodeId([1; 32]), ConnectionId::new_unchecked(1));
        let address: Multiaddr = "/ip4/198.18.0.1/tcp/1".parse().unwrap();
        let (asker, _asks) = Asker::new();
        let (link, _queue) =
            Link::new(node, connection, address, true, asker, Arc::default(), CancellationToken::new(), Arc::new(Turn::new(())));
        let question = ControlRecord::WhoHas { question: 1, subjects: vec![[7; 32]; 1000] };
        let sent = (0..1000).filter(|_| link.send(&question)).count();
        assert!((20..=MOST_QUEUED_BYTES / 32_000).contains(&sent), "{sent}");
    }
}
