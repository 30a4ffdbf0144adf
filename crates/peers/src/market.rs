//! The handle of a market: what the node calls.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use larder_content::{ChunkHash, Claim, ContentId, FileKey, FileMessage, Holding, NodeId, PieceRow, Subject};
use libp2p::multiaddr::Protocol;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::book::Book;
use crate::config::{Addresses, Config, MarketConfig, StartError};
use crate::control::{ControlRecord, FileMessageRecord, Link};
use crate::event::{Event, Sighting};
use crate::exchange::{ChunkRequest, ChunkStream, FetchError, MOST_HASHES, MOST_ROWS, hashes_of, pieces_of};
use crate::identity::{Identity, peer_of};
use crate::shared::{Command, MOST_COMMANDS, MOST_EVENTS, Shared, lock};
use crate::status::{MarketStatus, PeerInfo};
use crate::{look, supervisor};

/// How long a stop may take.
const STOP: Duration = Duration::from_secs(2);
/// The most holders of a subject that are given to the node.
const MOST_HOLDERS_GIVEN: usize = 256;

/// A market that this node takes part in. Clones are handles of the same one; it ends when the last is dropped.
#[derive(Clone)]
pub struct Market {
    shared: Arc<Shared>,
    _ends: Arc<DropGuard>,
    ended: CancellationToken,
}

impl fmt::Debug for Market {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Market({} as {})", self.shared.address, self.shared.identity.id())
    }
}

impl Market {
    /// Joins a market: returns once this node listens, with `known` peers and the bootstraps being dialled.
    ///
    /// What is `held` is announced as complete before the first peer can come: who knew it before a restart keeps to it.
    ///
    /// # Errors
    /// Names the address that is none, or that cannot be listened on.
    pub async fn start(
        identity: &Identity,
        market: MarketConfig,
        config: Config,
        known: Book,
        held: Vec<Subject>,
    ) -> Result<(Self, mpsc::Receiver<Event>), StartError> {
        let addresses = Addresses::read(&market, &config)?;
        let (commands, to_obey) = mpsc::channel(MOST_COMMANDS);
        let (events, to_take) = mpsc::channel(MOST_EVENTS);
        let shared = Arc::new(Shared::new(identity.clone(), market, config, addresses, &known, commands, events));
        held.into_iter().for_each(|subject| shared.announce(subject, Holding::Complete));
        let running = supervisor::start(Arc::clone(&shared), to_obey).await?;
        let ended = CancellationToken::new();
        let at_end = ended.clone().drop_guard();
        tokio::spawn(async move {
            running.await;
            drop(at_end);
        });
        let ends = Arc::new(shared.stopping.clone().drop_guard());
        Ok((Self { shared, _ends: ends, ended }, to_take))
    }

    /// The market's address.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.shared.address
    }

    /// This node.
    #[must_use]
    pub fn id(&self) -> NodeId {
        self.shared.identity.id()
    }

    /// Where this node listens, with the real ports, each ending in `/p2p/` and its id.
    #[must_use]
    pub fn listening(&self) -> Vec<String> {
        let peer = peer_of(self.id());
        let full = |address: &libp2p::Multiaddr| peer.map_or_else(|| address.clone(), |peer| address.clone().with(Protocol::P2p(peer)));
        lock(&self.shared.listening).iter().map(|address| full(address).to_string()).collect()
    }

    /// Tells a connected peer something, after all that it was told before. False if it is not connected, or does not keep up.
    #[must_use]
    pub fn tell(&self, to: NodeId, message: FileMessage) -> bool {
        let Some(link) = self.shared.link(to) else { return false };
        link.passes(&message.body);
        let Some(records) = FileMessageRecord::of(message) else { return false };
        records.into_iter().all(|record| link.send(&ControlRecord::Told(record)))
    }

    /// Asks connected peers and bootstraps who holds or fetches `subjects`, and adds what is known.
    ///
    /// Takes `look_for` at most, less when all have answered. Nodes that are heard of in the next hour are dialled.
    pub async fn look(&self, subjects: &[Subject]) -> Vec<Sighting> {
        look::look(&self.shared, subjects).await
    }

    /// Announces how this node stands to a subject: fetching at once, the rest within `announce_every`. Good for `expiry`.
    pub fn announce(&self, subject: Subject, holding: Holding) {
        self.shared.announce(subject, holding);
    }

    /// Who is known to hold or fetch a subject, without asking anyone; at most 256, those that are connected first.
    #[must_use]
    pub fn holders(&self, subject: Subject) -> Vec<(NodeId, Holding)> {
        let mut found = self.shared.connected_holders(subject);
        let connected: HashSet<NodeId> = found.iter().map(|(node, _)| *node).collect();
        found.extend(self.shared.holders(subject, MOST_HOLDERS_GIVEN).into_iter().filter(|(node, _)| !connected.contains(node)));
        found.truncate(MOST_HOLDERS_GIVEN);
        found
    }

    /// Signs that this node read these chunk hashes from the origin.
    #[must_use]
    pub fn claim(&self, file: FileKey, first: u64, hashes: Vec<ChunkHash>) -> Claim {
        let digest = Claim::digest(&self.shared.address, file, first, &hashes);
        Claim { file, first, hashes, signer: self.id(), signature: self.shared.identity.sign(&digest) }
    }

    /// Asks a connected peer for 1 to 64 chunks.
    ///
    /// # Errors
    /// [`FetchError::Unreachable`] if the peer is not connected; what comes of the question is said by the stream.
    pub async fn fetch(&self, from: NodeId, request: ChunkRequest) -> Result<ChunkStream, FetchError> {
        self.connected(from)?.asker.chunks(request).await
    }

    /// Asks a connected peer for the hashes of the first `count` chunks of a file. They are not checked here.
    ///
    /// # Errors
    /// Says why not all came.
    pub async fn fetch_hashes(&self, from: NodeId, file: FileKey, content: ContentId, count: u64) -> Result<Vec<ChunkHash>, FetchError> {
        let link = self.connected(from)?;
        let mut hashes = Vec::new();
        let mut first = 0;
        while first < count {
            let end = count.min(first + MOST_HASHES);
            hashes.extend(hashes_of(link.asker.hashes(file, Some(content), first..end).await?).await?);
            first = end;
        }
        Ok(hashes)
    }

    /// Asks for the pieces that a digest of a file of `size` bytes is made of, at most `most`: whether they make it is the caller's to find out.
    ///
    /// # Errors
    /// Says why they did not come.
    pub async fn fetch_pieces(&self, from: NodeId, file: FileKey, size: u64, most: u64) -> Result<Vec<PieceRow>, FetchError> {
        let link = self.connected(from)?;
        let (mut rows, mut covered) = (Vec::new(), 0u64);
        while covered < size && (rows.len() as u64) < most {
            let first = rows.len() as u64;
            let wanted = first..most.min(first + MOST_ROWS);
            let more = pieces_of(link.asker.pieces(file, wanted.clone()).await?).await?;
            covered = more.iter().fold(covered, |covered, row| covered.saturating_add(row.bytes));
            let is_last = (more.len() as u64) < wanted.end - wanted.start;
            if covered > size || is_last && covered < size || more.iter().any(|row| row.bytes == 0) {
                return Err(FetchError::Lied(format!("pieces of {covered} bytes of a file of {size}")));
            }
            rows.extend(more);
        }
        Ok(rows)
    }

    /// Asks for a connection to a node that was sighted; Connected tells when there is one.
    pub fn connect(&self, node: NodeId) {
        let _ = self.shared.commands.try_send(Command::Dial(node));
    }

    /// Whether a peer is connected and has said hello.
    #[must_use]
    pub fn is_connected(&self, node: NodeId) -> bool {
        self.shared.link(node).is_some()
    }

    /// Whether any peer is connected and has said hello.
    #[must_use]
    pub fn has_peers(&self) -> bool {
        !lock(&self.shared.links).is_empty()
    }

    /// Disconnects a node and keeps it out for a time.
    pub fn ban(&self, node: NodeId, period: Duration) {
        lock(&self.shared.gate).ban(node, period);
        self.shared.bans.fetch_add(1, Ordering::Relaxed);
        if let Some(link) = self.shared.link(node) {
            link.ends.cancel();
        }
        let _ = self.shared.commands.try_send(Command::Drop(node));
    }

    /// What the market looks like now.
    #[must_use]
    pub fn status(&self) -> MarketStatus {
        let (sent_bytes, received_bytes) = self.shared.traffic.totals();
        let mut peers: Vec<PeerInfo> = self.shared.links().iter().map(|link| info(link)).collect();
        peers.sort_by_key(|peer| peer.node);
        MarketStatus {
            address: self.shared.address.clone(),
            listening: self.listening(),
            peers,
            known_peers: lock(&self.shared.dialling).len(),
            holdings: lock(&self.shared.table).len(),
            sent_bytes,
            received_bytes,
            restarts: self.shared.restarts.load(Ordering::Relaxed),
            bans: self.shared.bans.load(Ordering::Relaxed),
            refused: lock(&self.shared.gate).reasons(),
        }
    }

    /// Says goodbye and ends the market, within 2 s.
    pub async fn stop(self) {
        self.shared.stopping.cancel();
        if timeout(STOP, self.ended.cancelled()).await.is_err() {
            self.shared.stopped.cancel();
        }
    }

    /// Makes the event loop panic, for the test of its restart.
    #[doc(hidden)]
    pub async fn crash(&self) {
        let _ = self.shared.commands.send(Command::Crash).await;
    }

    fn connected(&self, node: NodeId) -> Result<Arc<Link>, FetchError> {
        self.shared.link(node).ok_or(FetchError::Unreachable)
    }
}

fn info(link: &Link) -> PeerInfo {
    let (sent_bytes, _) = link.traffic.totals();
    let about = lock(&link.about);
    PeerInfo {
        node: link.node,
        address: link.address.to_string(),
        is_bootstrap: link.is_bootstrap.load(Ordering::Relaxed),
        sent_bytes,
        round_trip: about.round_trip,
    }
}
