//! What the parts of a market share: the handle, the event loop, and the tasks of each connection.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use larder_content::{Holding, NodeId, Subject};
use libp2p::swarm::ConnectionId;
use libp2p::{Multiaddr, Stream};
use tokio::sync::{Notify, Semaphore, mpsc, oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::address::is_here;
use crate::book::{Book, KnownPeer};
use crate::config::{Addresses, Config, MarketConfig};
use crate::control::{ControlRecord, HelloRecord, HolderRecord, Link, ROWS_A_FRAME, spare_frames};
use crate::event::{Event, Sighting};
use crate::exchange::{Queue, UPLOADS_AT_ONCE};
use crate::gate::Gate;
use crate::holdings::{Own, Table};
use crate::identity::Identity;
use crate::look::Questions;
use crate::pace::{Bucket, Cap};
use crate::swarm::Dialling;

/// The version of the protocols, of which both sides must speak the same.
pub(crate) const PROTOCOL_VERSION: u32 = 1;
/// Room for events that the node has not taken yet.
pub(crate) const MOST_EVENTS: usize = 4096;
/// Room that sightings leave for the other events.
const EVENTS_KEPT_FREE: usize = 1024;
/// Room for what the loop is asked to do.
pub(crate) const MOST_COMMANDS: usize = 1024;

/// What the event loop is asked to do.
#[derive(Debug)]
pub(crate) enum Command {
    /// Open a bulk stream; the sender is dropped if that fails.
    OpenBulk { connection: ConnectionId, reply: oneshot::Sender<Stream> },
    /// A peer has said hello.
    Greeted { link: Arc<Link>, hello: HelloRecord },
    /// See to it that this node is connected.
    Dial(NodeId),
    /// A peer knows these, and where they are.
    Heard(Vec<(NodeId, Vec<Multiaddr>)>),
    /// A peer broke the protocol.
    Offence { node: NodeId, what: String },
    /// Disconnect a node that was banned.
    Drop(NodeId),
    /// A peer leaves.
    Leaves(ConnectionId),
    /// Panic, so that a test sees what comes of it.
    Crash,
}

/// The bytes that went over our streams.
#[derive(Debug, Default)]
pub(crate) struct Traffic {
    sent: AtomicU64,
    received: AtomicU64,
    whole: Option<Arc<Traffic>>,
}

impl Traffic {
    /// That of one peer, which also counts for the market.
    pub(crate) fn part_of(whole: &Arc<Self>) -> Arc<Self> {
        Arc::new(Self { whole: Some(Arc::clone(whole)), ..Self::default() })
    }

    pub(crate) fn sent(&self, bytes: usize) {
        self.sent.fetch_add(bytes as u64, Ordering::Relaxed);
        if let Some(whole) = &self.whole {
            whole.sent(bytes);
        }
    }

    pub(crate) fn received(&self, bytes: usize) {
        self.received.fetch_add(bytes as u64, Ordering::Relaxed);
        if let Some(whole) = &self.whole {
            whole.received(bytes);
        }
    }

    /// Bytes sent and received.
    pub(crate) fn totals(&self) -> (u64, u64) {
        (self.sent.load(Ordering::Relaxed), self.received.load(Ordering::Relaxed))
    }
}

/// What is shared.
pub(crate) struct Shared {
    pub(crate) identity: Identity,
    /// The market's address.
    pub(crate) address: String,
    pub(crate) is_bootstrap: bool,
    pub(crate) config: Config,
    pub(crate) addresses: Addresses,
    pub(crate) started: Instant,
    pub(crate) links: Mutex<HashMap<NodeId, Arc<Link>>>,
    /// Changes whenever a link comes, or a bootstrap's first dial ends.
    pub(crate) arrivals: watch::Sender<u64>,
    /// Bootstraps that are being dialled.
    pub(crate) awaited: AtomicUsize,
    pub(crate) table: Mutex<Table>,
    pub(crate) own: Mutex<Own>,
    pub(crate) announced: Notify,
    pub(crate) questions: Mutex<Questions>,
    pub(crate) gate: Mutex<Gate>,
    pub(crate) upload: Cap,
    pub(crate) download: Cap,
    pub(crate) uploads: Arc<Semaphore>,
    pub(crate) queue: Queue,
    pub(crate) spare_frames: Mutex<Bucket>,
    pub(crate) traffic: Arc<Traffic>,
    pub(crate) listening: Mutex<Vec<Multiaddr>>,
    /// Where bootstraps see this node.
    pub(crate) external: Mutex<Vec<Multiaddr>>,
    pub(crate) dialling: Mutex<Dialling>,
    pub(crate) tasks: TaskTracker,
    pub(crate) restarts: AtomicU64,
    /// How often a node was banned for what it sent.
    pub(crate) bans: AtomicU64,
    /// The market is about to end: say so and close.
    pub(crate) stopping: CancellationToken,
    /// All tasks end.
    pub(crate) stopped: CancellationToken,
    pub(crate) commands: mpsc::Sender<Command>,
    events: mpsc::Sender<Event>,
}

impl Shared {
    pub(crate) fn new(
        identity: Identity,
        market: MarketConfig,
        config: Config,
        addresses: Addresses,
        known: &Book,
        commands: mpsc::Sender<Command>,
        events: mpsc::Sender<Event>,
    ) -> Self {
        let dialling = Dialling::new(identity.id(), &addresses.bootstrap, &known.peers);
        Self {
            identity,
            address: market.address,
            is_bootstrap: market.is_bootstrap,
            upload: Cap::new(config.upload_bytes_per_second),
            download: Cap::new(config.download_bytes_per_second),
            queue: Queue::default(),
            spare_frames: Mutex::new(spare_frames()),
            uploads: Arc::new(Semaphore::new(UPLOADS_AT_ONCE)),
            gate: Mutex::new(Gate::new(&market.allow, &known.bans)),
            config,
            awaited: AtomicUsize::new(dialling.awaited()),
            started: Instant::now(),
            links: Mutex::default(),
            arrivals: watch::Sender::new(0),
            table: Mutex::default(),
            own: Mutex::default(),
            announced: Notify::new(),
            questions: Mutex::default(),
            traffic: Arc::default(),
            listening: Mutex::default(),
            external: Mutex::default(),
            dialling: Mutex::new(dialling),
            addresses,
            tasks: TaskTracker::new(),
            restarts: AtomicU64::new(0),
            bans: AtomicU64::new(0),
            stopping: CancellationToken::new(),
            stopped: CancellationToken::new(),
            commands,
            events,
        }
    }

    /// That of a market without a loop, with the other ends of its channels.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn for_test() -> (Self, mpsc::Receiver<Command>, mpsc::Receiver<Event>) {
        let market = MarketConfig { address: "market".into(), ..MarketConfig::default() };
        let addresses = Addresses { listen: Vec::new(), bootstrap: Vec::new() };
        let ((commands, to_obey), (events, to_take)) = (mpsc::channel(16), mpsc::channel(MOST_EVENTS));
        (Self::new(Identity::generate(), market, Config::default(), addresses, &Book::default(), commands, events), to_obey, to_take)
    }

    /// The time since the market's start, which is what rows are dated by.
    pub(crate) fn now(&self) -> Duration {
        self.started.elapsed()
    }

    /// Takes an announcement of this node.
    pub(crate) fn announce(&self, subject: Subject, holding: Holding) {
        if !lock(&self.own).announce(subject, holding, self.now() + self.config.expiry) {
            tracing::warn!(market = %self.address, "too many holdings: this one is not announced");
        }
        self.announced.notify_one();
    }

    /// Tells the node; waits while it has too much to do.
    pub(crate) async fn emit(&self, event: Event) {
        tokio::select! {
            biased;
            _ = self.events.send(event) => {}
            () = self.stopped.cancelled() => {}
        }
    }

    /// Tells the node if it has time.
    pub(crate) fn try_emit(&self, event: Event) -> bool {
        self.events.capacity() > EVENTS_KEPT_FREE && self.events.try_send(event).is_ok()
    }

    /// The name of one of our protocols in this market.
    pub(crate) fn protocol(&self, kind: &str) -> String {
        format!("/larder/{}/{kind}/{PROTOCOL_VERSION}", self.address)
    }

    /// Where this node says that it can be reached, at most `most` addresses.
    pub(crate) fn reachable_at(&self, most: usize) -> Vec<String> {
        let (external, listening) = (lock(&self.external).clone(), lock(&self.listening).clone());
        let far_first = external.iter().chain(listening.iter().filter(|address| !is_here(address)));
        far_first.chain(listening.iter().filter(|address| is_here(address))).take(most).map(ToString::to_string).collect()
    }

    pub(crate) fn link(&self, node: NodeId) -> Option<Arc<Link>> {
        lock(&self.links).get(&node).cloned()
    }

    pub(crate) fn links(&self) -> Vec<Arc<Link>> {
        lock(&self.links).values().cloned().collect()
    }

    pub(crate) fn has_arrived(&self) {
        self.arrivals.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Who is known to hold or fetch a subject, this node left out.
    pub(crate) fn holders(&self, subject: Subject, most: usize) -> Vec<(NodeId, Holding)> {
        let mut found = lock(&self.table).holders(subject, most, self.now());
        found.retain(|(node, _)| *node != self.identity.id());
        found
    }

    /// Which peers are known to hold or fetch a subject.
    pub(crate) fn connected_holders(&self, subject: Subject) -> Vec<(NodeId, Holding)> {
        let (links, now) = (self.links(), self.now());
        let table = lock(&self.table);
        links.iter().filter_map(|link| Some((link.node, table.holding(link.node, subject, now)?))).collect()
    }

    /// Passes on what was not known: to the node, to peers that asked for it, and to the dialling.
    pub(crate) fn spread(&self, mut news: Vec<Sighting>, told_by: NodeId) {
        news.retain(|sighting| sighting.node != self.identity.id());
        if news.is_empty() {
            return;
        }
        for link in self.links() {
            // That others have something no more is nobody's to say but theirs.
            let wanted = |sighting: &&Sighting| {
                let is_for_it = link.node != told_by && link.node != sighting.node && sighting.holding != Holding::Gone;
                is_for_it && link.is_interested(&sighting.subject)
            };
            let rows: Vec<HolderRecord> = news.iter().filter(wanted).map(HolderRecord::from).collect();
            for rows in rows.chunks(ROWS_A_FRAME) {
                self.introduce(&link, news.iter().map(|sighting| sighting.node));
                link.send(&ControlRecord::Holders { question: 0, is_last: true, rows: rows.to_vec() });
            }
        }
        for sighting in news {
            let wanted = sighting.holding != Holding::Gone && lock(&self.questions).is_of_interest(&sighting.subject);
            if wanted && self.link(sighting.node).is_none() {
                let _ = self.commands.try_send(Command::Dial(sighting.node));
            }
            if !self.try_emit(Event::Sighted(sighting)) {
                tracing::debug!(?sighting, "dropped: the node has too much to do");
            }
        }
    }

    /// Tells a peer where those of `nodes` are that this node is connected to.
    pub(crate) fn introduce(&self, to: &Link, nodes: impl Iterator<Item = NodeId>) {
        let mut seen = std::collections::HashSet::new();
        let peers: Vec<KnownPeer> = nodes
            .filter(|node| *node != to.node && seen.insert(*node))
            .filter_map(|node| self.link(node)?.introduction(to))
            .take(crate::control::PEERS_A_FRAME)
            .collect();
        if !peers.is_empty() {
            to.send(&ControlRecord::Peers(peers.iter().map(Into::into).collect()));
        }
    }
}

/// Locks; a lock that a panic left behind is as good as any, since each change under one is complete in itself.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
