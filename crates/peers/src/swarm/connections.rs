//! Which connections there are, and which one of a peer is used when both sides dialled.
//!
//! Of two connections that different sides dialled at the same time, the one of the lower id stays, on both sides. Else the newer stays: who dials
//! beside an older one has lost that.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use larder_content::NodeId;
use libp2p::swarm::ConnectionId;
use libp2p::{Multiaddr, PeerId, Stream};
use tokio::sync::{Mutex as Turn, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::setup::HANDSHAKE;
use super::streams::Kind;
use crate::book::MOST_ADDRESSES;
use crate::control::{ControlRecord, HelloRecord, Link, hear, write_all};
use crate::exchange::{Asker, ask_all, serve};
use crate::frame::FrameError;
use crate::identity::peer_of;
use crate::shared::{Command, Shared, Traffic, lock};

/// The most bulk streams that a peer may have open: one is enough, and one more while it begins anew.
const BULK_STREAMS: usize = 2;
/// The most openings of bulk streams that wait on one connection.
const MOST_OPENINGS: usize = 4;
/// The most addresses that this node says it listens on.
const ADDRESSES_IN_HELLO: usize = 16;
/// How long one dials at most, an address after the other.
const DIALLING: Duration = Duration::from_secs(HANDSHAKE.as_secs() * MOST_ADDRESSES as u64);
/// How long the opening of a bulk stream may take.
const OPENING: Duration = Duration::from_secs(12);
/// Looks (one a second) after which a connection whose tasks have ended is closed: the peer may yet say why.
const LOOKS_TO_CLOSE: u8 = 2;
/// Looks after which a connection without a hello is closed.
const LOOKS_FOR_HELLO: u8 = 15;
/// Looks after which a connection that moved no more than [`IDLE_BYTES`] is of no use.
const LOOKS_OF_USE: u16 = 300;
/// More than pings and comparisons bring in that time. Who passes much gossip on is of use too.
const IDLE_BYTES: u64 = 64 * 1024;

/// One connection.
struct Connection {
    link: Arc<Link>,
    queue: Option<mpsc::Receiver<Vec<u8>>>,
    openings: VecDeque<oneshot::Sender<Stream>>,
    is_heard: bool,
    bulk_streams: Arc<AtomicUsize>,
    has_greeted: bool,
    looks_ended: u8,
    looks_silent: u8,
    looks_unused: u16,
    /// What had moved when it was of use last.
    moved: u64,
}

/// What is to be done about a new connection.
pub(super) enum Verdict {
    /// Use it.
    Use,
    /// Use it, and close that one.
    Instead(ConnectionId),
    /// Close it.
    Close,
}

/// All connections that are in use.
pub(super) struct Connections {
    shared: Arc<Shared>,
    ends: CancellationToken,
    all: HashMap<ConnectionId, Connection>,
    chosen: HashMap<NodeId, ConnectionId>,
    turns: HashMap<NodeId, Weak<Turn<()>>>,
}

impl Connections {
    pub(super) fn new(shared: Arc<Shared>, ends: CancellationToken) -> Self {
        Self { shared, ends, all: HashMap::new(), chosen: HashMap::new(), turns: HashMap::new() }
    }

    /// Takes a new connection, and says what to do about it.
    pub(super) fn established(
        &mut self,
        node: NodeId,
        connection: ConnectionId,
        address: Multiaddr,
        is_dialled: bool,
        run: u64,
    ) -> Verdict {
        let before = self.chosen.get(&node).copied();
        let other = before.and_then(|before| self.all.get(&before));
        let is_lower = self.shared.identity.id() < node;
        let stays = |link: &Link| !link.ends.is_cancelled() && stays(link.is_dialled, link.since.elapsed(), is_dialled, is_lower);
        if other.is_some_and(|other| stays(&other.link)) {
            return Verdict::Close;
        }
        if let Some(other) = other {
            other.link.ends.cancel();
        }
        let turn = self.turn(node);
        let (asker, asks) = Asker::new();
        let traffic = Traffic::part_of(&self.shared.traffic);
        let ends = self.ends.child_token();
        let (link, queue) = Link::new(node, connection, address.clone(), is_dialled, asker, Arc::clone(&traffic), ends.clone(), turn);
        let hello = HelloRecord {
            addresses: self.shared.reachable_at(ADDRESSES_IN_HELLO),
            is_bootstrap: self.shared.is_bootstrap,
            run,
            seen_at: address.to_string(),
        };
        link.send(&ControlRecord::Hello(hello));
        let commands = self.shared.commands.clone();
        let open = move || {
            let commands = commands.clone();
            async move {
                let (reply, stream) = oneshot::channel();
                commands.send(Command::OpenBulk { connection, reply }).await.ok()?;
                tokio::time::timeout(OPENING, stream).await.ok()?.ok()
            }
        };
        self.shared.tasks.spawn(ask_all(Arc::clone(&self.shared), traffic, ends, asks, open));
        let entry = Connection {
            link,
            queue: Some(queue),
            openings: VecDeque::new(),
            is_heard: false,
            bulk_streams: Arc::default(),
            has_greeted: false,
            looks_ended: 0,
            looks_silent: 0,
            looks_unused: 0,
            moved: 0,
        };
        self.all.insert(connection, entry);
        self.chosen.insert(node, connection);
        before.map_or(Verdict::Use, Verdict::Instead)
    }

    /// A connection is no more. Gives its peer, and whether it had said hello, if it was the one in use.
    pub(super) fn closed(&mut self, connection: ConnectionId) -> Option<(NodeId, bool)> {
        let entry = self.all.remove(&connection)?;
        entry.link.ends.cancel();
        let node = entry.link.node;
        self.turns.retain(|_, turn| turn.strong_count() > 0);
        if self.chosen.get(&node) != Some(&connection) {
            return None;
        }
        self.chosen.remove(&node);
        Some((node, entry.has_greeted))
    }

    /// A stream that this side opened.
    pub(super) fn outbound(&mut self, connection: ConnectionId, kind: Kind, stream: Stream) {
        let Some(entry) = self.all.get_mut(&connection) else { return };
        match kind {
            Kind::Control => {
                if let Some(queue) = entry.queue.take() {
                    self.shared.tasks.spawn(write_all(Arc::clone(&entry.link), queue, stream));
                }
            }
            Kind::Bulk => {
                if let Some(reply) = entry.openings.pop_front() {
                    let _ = reply.send(stream);
                }
            }
        }
    }

    /// A stream could not be opened.
    pub(super) fn failed(&mut self, connection: ConnectionId, kind: Kind) {
        let Some(entry) = self.all.get_mut(&connection) else { return };
        match kind {
            Kind::Control => entry.link.ends.cancel(),
            Kind::Bulk => drop(entry.openings.pop_front()),
        }
    }

    /// A stream that the peer opened: a second control stream and a third bulk stream are closed.
    pub(super) fn inbound(&mut self, connection: ConnectionId, kind: Kind, stream: Stream) {
        let Some(entry) = self.all.get_mut(&connection) else { return };
        let (shared, link) = (Arc::clone(&self.shared), Arc::clone(&entry.link));
        match kind {
            Kind::Control if entry.is_heard => {}
            Kind::Control => {
                entry.is_heard = true;
                self.shared.tasks.spawn(hear(shared, link, stream));
            }
            Kind::Bulk if !lock(&shared.gate).serves(link.node) => {}
            Kind::Bulk => {
                let open = Arc::clone(&entry.bulk_streams);
                if open.fetch_add(1, Ordering::Relaxed) >= BULK_STREAMS {
                    open.fetch_sub(1, Ordering::Relaxed);
                    return;
                }
                self.shared.tasks.spawn(async move {
                    let traffic = Arc::clone(&link.traffic);
                    let answers = async {
                        link.is_told.cancelled().await;
                        serve(Arc::clone(&shared), traffic, Arc::clone(&link.uploads), stream).await
                    };
                    let ended = tokio::select! {
                        () = link.ends.cancelled() => None,
                        ended = answers => Some(ended),
                    };
                    open.fetch_sub(1, Ordering::Relaxed);
                    match ended {
                        Some(FrameError::Stalled) => {
                            tracing::debug!(node = %link.node, "takes nothing of what it asked for; it is given nothing for a while");
                            lock(&shared.gate).has_stalled(link.node);
                            link.ends.cancel();
                        }
                        Some(error) if error.is_offence() => {
                            let _ = shared.commands.send(Command::Offence { node: link.node, what: error.to_string() }).await;
                        }
                        Some(_) | None => {}
                    }
                });
            }
        }
    }

    /// Remembers who waits for a bulk stream. Gives the peer to open it to; none if it cannot be opened.
    pub(super) fn wants_bulk(&mut self, connection: ConnectionId, reply: oneshot::Sender<Stream>) -> Option<PeerId> {
        let entry = self.all.get_mut(&connection)?;
        if entry.openings.len() >= MOST_OPENINGS {
            return None;
        }
        entry.openings.push_back(reply);
        peer_of(entry.link.node)
    }

    /// A peer has said hello.
    pub(super) fn greeted(&mut self, connection: ConnectionId) {
        if let Some(entry) = self.all.get_mut(&connection) {
            entry.has_greeted = true;
        }
    }

    /// The connections to be closed, because their tasks have ended, nothing was said, or more than half of `most` are taken and they
    /// are of no use. To be called once a second.
    pub(super) fn look_through(&mut self, most: usize) -> Vec<ConnectionId> {
        let mut over = Vec::new();
        for (connection, entry) in &mut self.all {
            let (sent, received) = entry.link.traffic.totals();
            if sent + received > entry.moved + IDLE_BYTES {
                (entry.moved, entry.looks_unused) = (sent + received, 0);
            } else {
                entry.looks_unused = entry.looks_unused.saturating_add(1);
            }
            entry.looks_ended = entry.looks_ended.saturating_add(u8::from(entry.link.ends.is_cancelled()));
            entry.looks_silent = entry.looks_silent.saturating_add(u8::from(!entry.has_greeted));
            if entry.looks_ended >= LOOKS_TO_CLOSE || entry.looks_silent >= LOOKS_FOR_HELLO {
                over.push(*connection);
            }
        }
        let stays = |entry: &Connection| entry.link.is_bootstrap.load(Ordering::Relaxed);
        // What a crowd has no use for makes room at once for those who do.
        let is_refused = |entry: &Connection| entry.looks_unused > 0 && entry.link.is_refused.load(Ordering::Relaxed);
        let looks = |entry: &Connection| if is_refused(entry) { u16::MAX } else { entry.looks_unused };
        let unused = self.all.iter().filter(|(_, entry)| !stays(entry)).map(|(connection, entry)| (*connection, looks(entry)));
        over.extend(surplus(self.all.len(), most, unused.collect()));
        over
    }

    pub(super) fn link(&self, connection: ConnectionId) -> Option<&Arc<Link>> {
        self.all.get(&connection).map(|entry| &entry.link)
    }

    /// The connection to a peer that is in use.
    pub(super) fn link_to(&self, node: NodeId) -> Option<&Arc<Link>> {
        self.link(*self.chosen.get(&node)?)
    }

    /// The peers that there is a connection to.
    pub(super) fn nodes(&self) -> HashSet<NodeId> {
        self.chosen.keys().copied().collect()
    }

    /// How many of those this node has dialled.
    pub(super) fn dialled(&self) -> usize {
        self.chosen.values().filter(|connection| self.link(**connection).is_some_and(|link| link.is_dialled)).count()
    }

    fn turn(&mut self, node: NodeId) -> Arc<Turn<()>> {
        if let Some(turn) = self.turns.get(&node).and_then(Weak::upgrade) {
            return turn;
        }
        let turn = Arc::new(Turn::new(()));
        self.turns.insert(node, Arc::downgrade(&turn));
        turn
    }
}

/// Those of `unused`, each with the looks that it was of no use for, that make room for newcomers: jobs connect to whoever holds what
/// they want, and with no end to these no place would be left after a day.
fn surplus<C>(taken: usize, most: usize, mut unused: Vec<(C, u16)>) -> Vec<C> {
    unused.retain(|(_, looks)| *looks >= LOOKS_OF_USE);
    unused.sort_by_key(|(_, looks)| std::cmp::Reverse(*looks));
    unused.truncate(taken.saturating_sub(most / 2));
    unused.into_iter().map(|(connection, _)| connection).collect()
}

/// Whether a connection stays when there is another: of two that were dialled at the same time both ends keep the one that the lower id dialled.
/// Who dials beside an older one has that no more.
fn stays(is_dialled: bool, age: Duration, other_is_dialled: bool, is_lower: bool) -> bool {
    age < DIALLING && is_dialled != other_is_dialled && is_dialled == is_lower
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_two_dialled_at_once_both_ends_keep_the_same_and_an_old_one_keeps_nobody_out() {
        let second = Duration::from_secs(1);
        // What the lower one dialled is there first, at both ends, then second.
        assert!(stays(true, second, false, true) && stays(false, second, true, false));
        assert!(!stays(false, second, true, true) && !stays(true, second, false, false));
        assert!(!stays(true, DIALLING, false, true));
        assert!(!stays(true, second, true, true), "who dials twice has lost the first");
    }

    #[test]
    fn room_is_made_by_what_was_of_no_use_longest_and_only_where_it_is_short() {
        let unused = || vec![("new", 0), ("old", 400), ("older", 500), ("oldest", 600), ("young", 299)];
        assert_eq!(surplus(64, 128, unused()), [""; 0]);
        assert_eq!(surplus(66, 128, unused()), ["oldest", "older"]);
        assert_eq!(surplus(128, 128, unused()), ["oldest", "older", "old"]);
    }
}
