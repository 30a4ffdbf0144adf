//! The task that owns the engine.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use futures::future::BoxFuture;
use larder_content::{CHUNK_BYTES, ChunkLayout, ContentId, FileKey, FileMessage, FileWord, Holding, NodeId, OriginFile, Pieces, Scope};
use larder_engine::{Action, Compared, Config, Engine, Event, From, OriginId, Outcome, Peer, ReadId, Time};
use larder_origin::OriginError;
use larder_store::{Blob, Partial, SealError, Store, StoreError};
use tokio::sync::{Semaphore, mpsc, oneshot};

use super::active::{Active, Body, Supply};
use super::ask::{Heard, Question};
use super::ending::Judged;
use super::pieces::Verdict;
use super::reading::Reading;
use super::spot_checks::Found;
use super::{Command, FetchError, Fetched, QUEUE, Ticket, Wanted};
use crate::home::find_by_pieces;
use crate::market::{MarketEvent, Markets};
use crate::read::ReadError;

/// Files up to this size are read in one go and never partial: what is lost of one is read again in a moment.
const SMALL_BYTES: u64 = 4 * CHUNK_BYTES;

/// What the tasks that read and seal report.
pub(super) enum Report {
    Opened { key: FileKey, reading: u64, opened: Result<Opened, StoreError> },
    Arrived { key: FileKey, read: ReadId, chunks: u64, bytes: u64, supply: Supply },
    Heard { read: ReadId },
    HeldUp { read: ReadId },
    Compared { key: FileKey, reading: u64, peer: Peer, content: ContentId, question: u64, compared: Compared },
    Contradicted { key: FileKey, reading: u64, content: ContentId },
    Listed { key: FileKey, reading: u64, peer: Peer, pieces: Option<Arc<Pieces>> },
    ListIsLate { key: FileKey, reading: u64 },
    Doubted { key: FileKey, reading: u64, place: Range<u64> },
    Settled { key: FileKey, reading: u64, verdict: Verdict },
    Ended { key: FileKey, read: ReadId, result: Result<Option<(Blob, Supply)>, ReadError> },
    Sealed { key: FileKey, reading: u64, result: Result<Blob, SealError>, judged: Judged, liars: Vec<NodeId> },
    Checked { key: FileKey, reading: u64, found: Found },
    Bound { key: FileKey, reading: u64, result: Result<Option<Blob>, StoreError> },
}

/// What the store has of a file.
pub(super) enum Opened {
    /// All of it: it came while this fetch waited its turn.
    Blob(Blob),
    /// Nothing, and it is small.
    Small,
    /// Its partial file.
    Large(Partial),
}

/// Looks for a file in the store, and opens its partial file if it is large.
fn open(store: &Store, file: &OriginFile, scope: Scope) -> Result<Opened, StoreError> {
    if file.is_pinned(scope) {
        let found = store.find(&file.key(scope))?;
        if let Some(blob) = found.map_or_else(|| find_by_pieces(store, file, scope), |blob| Ok(Some(blob)))? {
            return Ok(Opened::Blob(blob));
        }
    }
    if file.size <= SMALL_BYTES {
        return Ok(Opened::Small);
    }
    let partial = store.partial(file, scope)?;
    // Of another reading, perhaps by another's listing.
    partial.drop_pieces();
    if partial.have_bytes() > 0 && !file.is_pinned(scope) {
        // Its chunks may be of another version.
        partial.discard()?;
        return store.partial(file, scope).map(Opened::Large);
    }
    Ok(Opened::Large(partial))
}

/// The task that owns the engine.
pub(super) struct Driver {
    pub(super) store: Store,
    pub(super) engine: Engine,
    started: Instant,
    pub(super) active: HashMap<FileKey, Active>,
    origins: HashMap<String, OriginId>,
    readings: u64,
    /// Whose turn it is to list the pieces of a file.
    pub(super) listing: Arc<Semaphore>,
    pub(super) markets: Markets,
    commands: mpsc::Receiver<Command>,
    events: mpsc::Receiver<MarketEvent>,
    reports: mpsc::Receiver<Report>,
    pub(super) reporter: mpsc::Sender<Report>,
}

impl Driver {
    pub(super) fn new(
        store: Store,
        config: Config,
        commands: mpsc::Receiver<Command>,
        markets: Markets,
        events: mpsc::Receiver<MarketEvent>,
    ) -> Self {
        let (reporter, reports) = mpsc::channel(QUEUE);
        let engine = Engine::new(config, fastrand::u64(..));
        let (active, origins, listing) = (HashMap::new(), HashMap::new(), Arc::new(Semaphore::new(1)));
        Self { store, engine, started: Instant::now(), active, origins, readings: 0, listing, markets, commands, events, reports, reporter }
    }

    pub(super) async fn run(mut self) {
        self.work().await;
        self.active.into_values().flat_map(|active| active.reads).for_each(|(_, read)| read.abort());
    }

    async fn work(&mut self) {
        loop {
            let now = self.now();
            while let Some(action) = self.engine.next_action(now) {
                self.act(action);
            }
            let deadline = self.engine.next_deadline(now).map(|at| tokio::time::Instant::from_std(self.started + at));
            let wait = async {
                match deadline {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                report = self.reports.recv() => match report {
                    Some(report) => self.report(report),
                    None => return,
                },
                command = self.commands.recv() => match command {
                    Some(Command::Want { wanted, ticket, answer }) => self.want(*wanted, ticket, answer),
                    Some(Command::Leave { key, ticket }) => self.leave(key, &ticket),
                    Some(Command::Count { answer, peers }) => {
                        let records = peers.into_iter().map(|peer| (peer, self.engine.record(peer))).collect();
                        let _ = answer.send((self.active.len() as u64, records));
                    }
                    None => return,
                },
                Some(event) = self.events.recv() => self.happened(event),
                () = wait => {}
            }
            // On a busy machine much has come that would look late if it were taken one by one.
            for _ in 0..QUEUE {
                let Ok(report) = self.reports.try_recv() else { break };
                self.report(report);
            }
        }
    }

    pub(super) fn now(&self) -> Time {
        self.started.elapsed()
    }

    fn want(&mut self, wanted: Wanted, ticket: Ticket, answer: oneshot::Sender<Result<Fetched, Arc<FetchError>>>) {
        let key = wanted.file.key(wanted.scope);
        match self.active.entry(key) {
            Entry::Occupied(active) => active.into_mut().join(wanted, ticket, answer),
            Entry::Vacant(place) => {
                place.insert(Active::new(wanted, ticket, answer));
                self.begin(key);
            }
        }
    }

    fn leave(&mut self, key: FileKey, ticket: &Ticket) {
        if self.active.get_mut(&key).is_some_and(|active| active.leave(ticket)) {
            if let Some(active) = self.active.remove(&key) {
                self.announce(&active, key, Holding::Gone);
                active.reads.into_values().for_each(|read| read.abort());
            }
            self.engine.handle(Event::Unwanted { file: key }, self.now());
        }
    }

    /// Begins a reading of a file with a look into the store: another job may have brought it meanwhile.
    pub(super) fn begin(&mut self, key: FileKey) {
        let Some(active) = self.active.get_mut(&key) else { return };
        self.readings += 1;
        let reading = self.readings;
        active.begin(reading);
        let (store, file, scope, reporter) = (self.store.clone(), active.source.file.clone(), active.scope, self.reporter.clone());
        tokio::task::spawn_blocking(move || {
            let opened = open(&store, &file, scope);
            // The receiver outlives the runtime's tasks, but for a shutdown.
            let _ = reporter.blocking_send(Report::Opened { key, reading, opened });
        });
    }

    fn ask_engine(&mut self, key: FileKey, missing: Vec<Range<u64>>) {
        let (sharing, now) = (self.share(key), self.now());
        let Some(active) = self.active.get_mut(&key) else { return };
        let next = OriginId(self.origins.len() as u64);
        let origin = *self.origins.entry(active.source.file.locator.endpoint.clone()).or_insert(next);
        let layout = ChunkLayout::new(active.source.file.size);
        let early = std::mem::take(&mut active.early);
        let event = Event::Wanted { file: key, layout, missing, origin, group: active.group, sharing };
        self.engine.handle(event, now);
        for peer in early {
            let message = FileMessage { file: key, body: FileWord::Follow };
            self.engine.handle(Event::Told { peer, message }, now);
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Read { read, file, chunks, from } => self.read(read, file, chunks, from),
            Action::Cancel { read } => {
                self.active.values_mut().filter_map(|active| active.reads.remove(&read)).for_each(|read| read.abort());
            }
            Action::Complete { file } => self.complete(file),
            Action::Tell { peer, message } => self.tell(peer, message),
            Action::FetchHashes { file, peer, content } => self.fetch_hashes(file, peer, content),
            Action::Ban { peer, period } => self.ban(peer, period),
            Action::GiveUp { file } => {
                let Some(active) = self.active.get_mut(&file) else { return };
                let error = active.last_error.take().unwrap_or_else(|| too_slow(&active.source.file));
                self.fail(file, error);
            }
        }
    }

    fn read(&mut self, read: ReadId, key: FileKey, chunks: Range<u64>, from: From) {
        let Some(active) = self.active.get_mut(&key) else { return };
        let reporter = self.reporter.clone();
        let task = match (&active.body, from, &active.shared) {
            (Body::Opening, ..) | (_, From::Peer { .. }, None) => {
                return self.engine.handle(Event::Ended { read, outcome: Outcome::Broken }, self.started.elapsed());
            }
            (Body::Small(_), From::Origin, _) => {
                let (source, store, scope) = (active.source.clone(), self.store.clone(), active.scope);
                tokio::spawn(async move {
                    let result = source.read_whole(store, scope).await.map(|blob| Some((blob, Supply::Origin)));
                    let _ = reporter.send(Report::Ended { key, read, result }).await;
                })
            }
            (Body::Large(partial), From::Origin, shared) => {
                let reading = Reading { key, read, reading: active.reading, chunks, reporter };
                tokio::spawn(reading.run(active.source.clone(), partial.clone(), shared.clone()))
            }
            (body, From::Peer { peer, content }, Some(shared)) => {
                let question = Question { shared: shared.clone(), node: peer.node, content, chunks };
                let heard = {
                    let (reporter, reading) = (reporter.clone(), active.reading);
                    move |heard| -> BoxFuture<'static, ()> {
                        let report = match heard {
                            Heard::Chunks(chunks, bytes) => Report::Arrived { key, read, chunks, bytes, supply: Supply::Peers },
                            Heard::Bytes => Report::Heard { read },
                            Heard::HeldUp => Report::HeldUp { read },
                            Heard::Wrong(place) => Report::Doubted { key, reading, place },
                        };
                        let reporter = reporter.clone();
                        Box::pin(async move { drop(reporter.send(report).await) })
                    }
                };
                if let Body::Large(partial) = body {
                    let partial = partial.clone();
                    tokio::spawn(async move {
                        let result = question.into_partial(partial, heard).await.map(|()| None);
                        let _ = reporter.send(Report::Ended { key, read, result }).await;
                    })
                } else {
                    let (store, file) = (self.store.clone(), active.source.file.clone());
                    tokio::spawn(async move {
                        let result = question.into_store(store, file, heard).await.map(|blob| Some((blob, Supply::Peers)));
                        let _ = reporter.send(Report::Ended { key, read, result }).await;
                    })
                }
            }
        };
        active.reads.insert(read, task.abort_handle());
    }

    fn report(&mut self, report: Report) {
        match report {
            Report::Opened { key, reading, opened } if self.is_current(key, reading) => self.opened(key, opened),
            Report::Sealed { key, reading, result, judged, liars } if self.is_current(key, reading) => {
                self.sealed(key, result, judged, liars)
            }
            Report::Checked { key, reading, found } if self.is_current(key, reading) => self.checked(key, found),
            Report::Bound { key, reading, result } if self.is_current(key, reading) => self.bound(key, result),
            Report::Compared { key, reading, peer, content, question, compared } if self.is_current(key, reading) => {
                self.compared(key, peer, content, question, compared);
            }
            Report::Contradicted { key, reading, content } if self.is_current(key, reading) => self.contradicted(key, content),
            Report::Listed { key, reading, peer, pieces } if self.is_current(key, reading) => self.listed(key, peer, pieces),
            Report::ListIsLate { key, reading } if self.is_current(key, reading) => self.list_is_late(key),
            Report::Doubted { key, reading, place } if self.is_current(key, reading) => self.doubt(key, place),
            Report::Settled { key, reading, verdict } if self.is_current(key, reading) => self.settled(key, verdict),
            Report::Opened { .. }
            | Report::Sealed { .. }
            | Report::Checked { .. }
            | Report::Bound { .. }
            | Report::Compared { .. }
            | Report::Contradicted { .. }
            | Report::Listed { .. }
            | Report::ListIsLate { .. }
            | Report::Doubted { .. }
            | Report::Settled { .. } => {}
            Report::Heard { read } => self.engine.handle(Event::Heard { read }, self.now()),
            Report::HeldUp { read } => self.engine.handle(Event::HeldUp { read }, self.now()),
            Report::Arrived { key, read, chunks, bytes, supply } => {
                let active = self.active.get_mut(&key).filter(|active| active.reads.contains_key(&read));
                if let Some(active) = active {
                    active.count(bytes, supply);
                    active.from_peers |= supply == Supply::Peers;
                    self.engine.handle(Event::Arrived { read, chunks }, self.now());
                }
            }
            Report::Ended { key, read, result } => self.ended(key, read, result),
        }
    }

    /// Whether a report is of the reading that is under way.
    fn is_current(&self, key: FileKey, reading: u64) -> bool {
        self.active.get(&key).is_some_and(|active| active.reading == reading)
    }

    fn opened(&mut self, key: FileKey, opened: Result<Opened, StoreError>) {
        let Some(active) = self.active.get_mut(&key) else { return };
        match opened {
            Ok(Opened::Blob(blob)) => self.proven(key, blob, Vec::new()),
            Ok(Opened::Small) => {
                active.body = Body::Small(None);
                let chunks = ChunkLayout::new(active.source.file.size).count();
                self.ask_engine(key, vec![0..chunks]);
            }
            Ok(Opened::Large(partial)) => {
                active.count(partial.have_bytes(), Supply::Cache);
                let missing = partial.missing();
                active.body = Body::Large(partial);
                self.ask_engine(key, missing);
            }
            Err(error) => self.fail(key, FetchError::Store(error)),
        }
    }

    fn ended(&mut self, key: FileKey, read: ReadId, result: Result<Option<(Blob, Supply)>, ReadError>) {
        let Some(active) = self.active.get_mut(&key) else { return };
        if active.reads.remove(&read).is_none() {
            return;
        }
        let outcome = match result {
            Ok(blob) => {
                if let Some((blob, supply)) = blob {
                    let size = active.source.file.size;
                    active.count(size, supply);
                    active.body = Body::Small(Some(blob));
                    let chunks = ChunkLayout::new(size).count();
                    self.engine.handle(Event::Arrived { read, chunks }, self.started.elapsed());
                }
                Outcome::Complete
            }
            Err(ReadError::Origin(error)) => {
                tracing::debug!(file = %active.source.file.locator, %error, "a read failed");
                let outcome = outcome(&error);
                active.last_error = Some(FetchError::Origin(error));
                outcome
            }
            Err(ReadError::Peer(outcome)) => {
                tracing::debug!(file = %active.source.file.locator, ?outcome, "a peer did not bring it");
                outcome
            }
            Err(ReadError::Final(error)) => {
                active.last_error = Some(error);
                Outcome::Refused
            }
            Err(ReadError::Mismatch { mismatch, content }) => {
                self.engine.handle(Event::Unwanted { file: key }, self.started.elapsed());
                self.mismatched(key, content, mismatch);
                return;
            }
        };
        self.engine.handle(Event::Ended { read, outcome }, self.now());
    }
}

/// What is wrong when the engine gave up on reads that reported nothing.
fn too_slow(file: &OriginFile) -> FetchError {
    let why = "it sends too slowly: its reads brought nothing for minutes".into();
    FetchError::Origin(OriginError::Unreachable { what: file.locator.to_string(), why, source: None })
}

/// What an error of an origin means to the engine.
fn outcome(error: &OriginError) -> Outcome {
    match error {
        OriginError::Busy { after, .. } => Outcome::Busy(*after),
        OriginError::Unreachable { .. } => Outcome::Broken,
        OriginError::RangeIgnored { .. } => Outcome::RangeIgnored,
        OriginError::Missing { .. }
        | OriginError::Denied { .. }
        | OriginError::Gated { .. }
        | OriginError::Changed { .. }
        | OriginError::Invalid { .. }
        | OriginError::Refused { .. } => Outcome::Refused,
    }
}
