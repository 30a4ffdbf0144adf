//! Fetches files under the engine's direction: one task owns the engine, tells it what happens, and does what it says.
//!
//! Invariant: a file is fetched once at a time, however many jobs want it; the fetch belongs to this task and not to the job
//! that came first, and ends when the last of them has gone.

mod active;
mod ask;
mod claims;
mod driver;
mod ending;
mod peering;
mod pieces;
mod reading;
mod serve;
mod shared;
mod spot_checks;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use larder_content::{FileKey, Holding, Mismatch, NodeId, OriginFile, Resource, Scope, Subject};
use larder_engine::{Config, GroupId, MarketId, Peer, Record};
use larder_origin::{Access, OriginError, Origins};
use larder_store::{Blob, Reservation, Store, StoreError};
use tokio::sync::{mpsc, oneshot};

use crate::market::{MarketEvent, Markets};
use crate::pace::Pace;
use crate::progress::Meter;

/// How many requests and reports may wait for the task. Who sends more waits.
const QUEUE: usize = 1024;
/// Files that may wait for each read that can be under way: enough to keep all of them busy, and few beside 100,000 files.
const FILES_PER_READ: usize = 4;
/// How much of a file comes before the room for it is given back.
const ROOM_STEP_BYTES: u64 = 8 << 20;

/// A handle of the task that fetches.
#[derive(Clone)]
pub(crate) struct Fetcher {
    commands: mpsc::Sender<Command>,
    groups: Arc<AtomicU64>,
    files_at_once: usize,
}

/// A file that a job wants.
pub(crate) struct Wanted {
    pub(crate) file: OriginFile,
    pub(crate) scope: Scope,
    pub(crate) access: Access,
    pub(crate) resource: Arc<Resource>,
    pub(crate) origins: Arc<Origins>,
    pub(crate) pace: Option<Arc<Pace>>,
    pub(crate) share: Option<ShareWith>,
    pub(crate) group: GroupId,
    pub(crate) meter: Arc<Meter>,
    pub(crate) room: Arc<Room>,
}

/// With whom a file may be fetched together.
#[derive(Debug, Clone)]
pub(crate) struct ShareWith {
    pub(crate) market: MarketId,
    pub(crate) patience: Option<f64>,
    /// The resource that it is of.
    pub(crate) resource: Subject,
    /// Nodes that are known to hold or fetch it, and how long they were looked for.
    pub(crate) known: Vec<(NodeId, Holding)>,
    pub(crate) looked: Duration,
}

/// The room in the store that a job keeps for one file.
#[derive(Debug)]
pub(crate) struct Room {
    job: Arc<Reservation>,
    bytes: AtomicU64,
}

impl Room {
    /// `bytes` of what the job keeps.
    pub(crate) fn new(job: Arc<Reservation>, bytes: u64) -> Self {
        Self { job, bytes: AtomicU64::new(bytes) }
    }

    /// Keeps room for the bytes that are `missing`, and gives back the rest: the store counts them as held. Waits while room is
    /// made for another job.
    pub(crate) fn keep(&self, missing: u64) {
        self.job.spent(self.shrink(missing));
    }

    /// As [`Room::keep`], in large steps, and nobody waits.
    fn follow(&self, missing: u64) {
        if missing.saturating_add(ROOM_STEP_BYTES) <= self.bytes.load(Ordering::Relaxed) {
            let (job, bytes) = (self.job.clone(), self.shrink(missing));
            tokio::task::spawn_blocking(move || job.spent(bytes));
        }
    }

    /// How much less there is to keep.
    fn shrink(&self, missing: u64) -> u64 {
        self.bytes.fetch_min(missing, Ordering::Relaxed).saturating_sub(missing)
    }
}

/// A file that was fetched.
#[derive(Debug, Clone)]
pub(crate) struct Fetched {
    pub(crate) blob: Blob,
    /// The bytes of it that came from peers for this job.
    pub(crate) peer_bytes: u64,
    /// The bytes of it that came from the origin for this job.
    pub(crate) origin_bytes: u64,
}

/// Why a file could not be fetched.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// Its origin cannot give it.
    #[error(transparent)]
    Origin(OriginError),
    /// The store cannot take it.
    #[error(transparent)]
    Store(StoreError),
    /// Its bytes were read more than once and never matched.
    #[error("{what}: {mismatch}; it was read {times} times")]
    Corrupt {
        /// The file.
        what: String,
        /// What did not match.
        mismatch: Mismatch,
        /// How often it was read.
        times: usize,
    },
    /// A defect of Larder.
    #[error("a defect of Larder, please report it: {0}")]
    Defect(String),
}

enum Command {
    Want { wanted: Box<Wanted>, ticket: Ticket, answer: oneshot::Sender<Result<Fetched, Arc<FetchError>>> },
    Leave { key: FileKey, ticket: Ticket },
    Count { answer: oneshot::Sender<(u64, Vec<(Peer, Record)>)>, peers: Vec<Peer> },
}

/// Tells apart those who wait for one file.
type Ticket = Arc<()>;

impl Fetcher {
    /// Starts the task; it ends when the last handle is dropped.
    pub(crate) fn start(store: Store, config: Config, markets: &Markets, events: mpsc::Receiver<MarketEvent>) -> Self {
        let (commands, receiver) = mpsc::channel(QUEUE);
        let files_at_once = config.reads.saturating_mul(FILES_PER_READ);
        tokio::spawn(driver::Driver::new(store, config, receiver, markets.clone(), events).run());
        Self { commands, groups: Arc::default(), files_at_once }
    }

    /// How many files for one purpose should be wanted at once.
    pub(crate) fn files_at_once(&self) -> usize {
        self.files_at_once
    }

    /// How many files are being fetched, and what is remembered of peers.
    pub(crate) async fn count(&self, peers: Vec<Peer>) -> Option<(u64, Vec<(Peer, Record)>)> {
        let (answer, answered) = oneshot::channel();
        self.commands.send(Command::Count { answer, peers }).await.ok()?;
        answered.await.ok()
    }

    /// A number for files that are wanted for one purpose.
    pub(crate) fn new_group(&self) -> GroupId {
        GroupId(self.groups.fetch_add(1, Ordering::Relaxed))
    }

    /// Fetches a file. Dropping the future gives it up, unless others want it too.
    pub(crate) async fn fetch(&self, wanted: Wanted) -> Result<Fetched, Arc<FetchError>> {
        let gone = || Arc::new(FetchError::Defect("the task that fetches has ended".into()));
        let (answer, answered) = oneshot::channel();
        let ticket = Ticket::default();
        let key = wanted.file.key(wanted.scope);
        let mut guard = LeaveOnDrop { commands: self.commands.clone(), key, ticket: Some(ticket.clone()) };
        let command = Command::Want { wanted: Box::new(wanted), ticket, answer };
        self.commands.send(command).await.map_err(|_| gone())?;
        let result = answered.await.map_err(|_| gone())?;
        guard.ticket = None;
        result
    }
}

/// Takes a job off the list of those who wait for a file.
struct LeaveOnDrop {
    commands: mpsc::Sender<Command>,
    key: FileKey,
    /// `None` once the answer is there.
    ticket: Option<Ticket>,
}

impl Drop for LeaveOnDrop {
    fn drop(&mut self) {
        let Some(ticket) = self.ticket.take() else { return };
        let (commands, key) = (self.commands.clone(), self.key);
        if let Err(mpsc::error::TrySendError::Full(command)) = commands.try_send(Command::Leave { key, ticket })
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            runtime.spawn(async move { commands.send(command).await });
        }
    }
}

impl FetchError {
    /// What is wrong with an empty file of the resource `what`.
    pub(crate) fn of_empty(error: larder_store::SealError, what: &str) -> Self {
        match error {
            larder_store::SealError::Mismatch { mismatch, .. } => {
                Self::Corrupt { what: format!("an empty file of {what}"), mismatch, times: 0 }
            }
            larder_store::SealError::Store(error) => Self::Store(error),
            larder_store::SealError::Incomplete { .. } => Self::Defect("an empty file is incomplete".into()),
        }
    }
}
