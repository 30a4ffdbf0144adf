//! Proof by piece: gets the list of a file's pieces from one who holds it, and settles with the origin who is wrong where what came does
//! not fit.
//!
//! Invariant: by a list of which the origin lists no more than the hash nobody is blamed. The origin says of the first piece that does not fit
//! whether the list is false or what came, and that costs one piece. Parts whose sizes it lists, too, need no word more.

use std::collections::{BTreeSet, HashSet, VecDeque};
use std::ops::Range;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use larder_content::{CHUNK_BYTES, ChunkLayout, ContentId, FileKey, OriginDigest, Pieces, VerifiedChunks};
use larder_engine::{Event, Peer, Pieces as PiecesHeard};
use larder_store::{Blob, Partial, StoreError};
use tokio_util::task::AbortOnDropHandle;

use super::active::Body;
use super::driver::{Driver, Report};
use super::shared::SharedFile;
use crate::read::Source;

/// The most peers that are asked for the list of one file, and at once: a list may take 0.13 % of its file's size in memory.
const MOST_ASKED: usize = 8;
const MOST_AT_ONCE: usize = 4;
/// After how long another is asked, too.
const LATE: Duration = Duration::from_millis(500);
/// How long after a file was proven its pieces are listed, for others: those who fetched it together are ready by then.
const LIST_AFTER: Duration = Duration::from_secs(2);
/// How long the origin may take to settle who is wrong; then the list is believed, which makes what the origin lists.
const SETTLES: Duration = Duration::from_secs(5);
/// How often it is asked that for one list.
const MOST_SETTLED: usize = 8;

/// The list of a file's pieces, as far as it is known.
#[derive(Default)]
pub(super) struct Listing {
    /// Whom it was asked of, or will be.
    offered: HashSet<Peer>,
    waiting: VecDeque<Peer>,
    /// Those who are asked: what they have not answered when the file's reading ends is of no use.
    asking: Vec<(Peer, AbortOnDropHandle<()>)>,
    /// Whether who was asked last may yet answer in time.
    is_awaited: bool,
    known: Option<Arc<Pieces>>,
    settling: Settling,
    /// How often it was asked who is wrong.
    settled: usize,
}

/// Whether it is being settled who is wrong.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Settling {
    #[default]
    No,
    Yes,
    /// And all chunks of the file came meanwhile.
    WhileComplete,
}

impl Listing {
    /// A peer may know it.
    fn offers(&mut self, peer: Peer) {
        if self.offered.len() < MOST_ASKED && self.offered.insert(peer) {
            self.waiting.push_back(peer);
        }
    }

    /// Whom to ask now, if anyone.
    fn next(&mut self) -> Option<Peer> {
        let may = !self.is_awaited && self.known.is_none() && self.asking.len() < MOST_AT_ONCE;
        let next = if may { self.waiting.pop_front() } else { None };
        self.is_awaited |= next.is_some();
        next
    }

    /// Whether its pieces say what it is.
    pub(super) fn is_known(&self) -> bool {
        self.known.is_some()
    }

    /// Whether the end of a file whose chunks are all there must wait: it comes once it is settled who is wrong.
    pub(super) fn is_being_settled(&mut self) -> bool {
        if self.settling == Settling::Yes {
            self.settling = Settling::WhileComplete;
        }
        self.settling != Settling::No
    }
}

/// Who was wrong about a piece.
pub(super) enum Verdict {
    /// What came, or what became of it on the disk: these chunks were forgotten; and the content that it came as.
    Chunks { missing: Vec<Range<u64>>, content: Option<ContentId> },
    /// The list.
    List,
}

impl Driver {
    /// A peer says that it has all of a file, and so can list its pieces.
    pub(super) fn may_list(&mut self, key: FileKey, peer: Peer) {
        let Some(active) = self.active.get_mut(&key) else { return };
        if active.source.file.listable().is_some() && matches!(active.body, Body::Large(_)) {
            active.listing.offers(peer);
            self.ask_for_pieces(key);
        }
    }

    fn heard_of_pieces(&mut self, file: FileKey, pieces: PiecesHeard) {
        self.engine.handle(Event::Pieces { file, pieces }, self.now());
    }

    fn ask_for_pieces(&mut self, key: FileKey) {
        let Some(active) = self.active.get_mut(&key) else { return };
        let (Body::Large(partial), Some(shared)) = (&active.body, &active.shared) else { return };
        let Some(digest) = active.source.file.listable().cloned() else { return };
        let Some(peer) = active.listing.next() else { return };
        let (partial, shared, reporter, reading) = (partial.clone(), shared.clone(), self.reporter.clone(), active.reading);
        let asking = tokio::spawn(async move {
            let mut asking = pin!(ask(&shared, &partial, peer, digest));
            let pieces = match tokio::time::timeout(LATE, &mut asking).await {
                Ok(pieces) => pieces,
                Err(_) => {
                    let _ = reporter.send(Report::ListIsLate { key, reading }).await;
                    asking.await
                }
            };
            let _ = reporter.send(Report::Listed { key, reading, peer, pieces }).await;
        });
        active.listing.asking.push((peer, AbortOnDropHandle::new(asking)));
        self.heard_of_pieces(key, PiecesHeard::Asked);
    }

    /// Who was asked for the list does not answer: so another is.
    pub(super) fn list_is_late(&mut self, key: FileKey) {
        self.active.get_mut(&key).into_iter().for_each(|active| active.listing.is_awaited = false);
        self.ask_for_pieces(key);
    }

    /// The list came, or not.
    pub(super) fn listed(&mut self, key: FileKey, peer: Peer, pieces: Option<Arc<Pieces>>) {
        let Some(active) = self.active.get_mut(&key) else { return };
        active.listing.asking.retain(|(asked, _)| *asked != peer);
        active.listing.is_awaited = false;
        let Some(pieces) = pieces else {
            if active.listing.waiting.is_empty() && active.listing.asking.is_empty() && active.listing.known.is_none() {
                self.heard_of_pieces(key, PiecesHeard::Unknown);
            }
            return self.ask_for_pieces(key);
        };
        tracing::debug!(file = %active.source.file.locator, peer = %peer.node, pieces = pieces.count(), "it is proven by piece");
        let longest = pieces.longest();
        active.listing.known = Some(pieces);
        active.listing.asking.clear();
        let Body::Large(partial) = &active.body else { return };
        let (partial, reporter, reading) = (partial.clone(), self.reporter.clone(), active.reading);
        self.heard_of_pieces(key, PiecesHeard::Listed { longest });
        // What cannot be read back is found at the seal.
        tokio::task::spawn_blocking(move || {
            let wrong = partial.check_all_pieces().ok().flatten().into_iter().flatten().next();
            wrong.into_iter().for_each(|place| drop(reporter.blocking_send(Report::Doubted { key, reading, place })));
        });
    }

    /// What lies at `place` is not as the list says: the origin is asked what it should be.
    pub(super) fn doubt(&mut self, key: FileKey, place: Range<u64>) {
        let Some(active) = self.active.get_mut(&key) else { return };
        let (Body::Large(partial), Some(shared), Some(pieces)) = (&active.body, &active.shared, &active.listing.known) else { return };
        if active.listing.settling != Settling::No {
            return;
        }
        tracing::info!(file = %active.source.file.locator, ?place, "what came does not fit the list of pieces");
        let (partial, shared, pieces, source) = (partial.clone(), shared.clone(), pieces.clone(), active.source.clone());
        active.listing.settling = Settling::Yes;
        active.listing.settled += 1;
        let is_doubtful = active.listing.settled > MOST_SETTLED && !pieces.are_certain();
        let (reporter, reading) = (self.reporter.clone(), active.reading);
        self.heard_of_pieces(key, PiecesHeard::Doubted);
        tokio::spawn(async move {
            let verdict = if is_doubtful { Verdict::List } else { settle(source, partial, shared, pieces, place).await };
            let _ = reporter.send(Report::Settled { key, reading, verdict }).await;
        });
    }

    /// It is known who was wrong.
    pub(super) fn settled(&mut self, key: FileKey, verdict: Verdict) {
        let Some(active) = self.active.get_mut(&key) else { return };
        let (Body::Large(partial), Some(shared)) = (&active.body, active.shared.clone()) else { return };
        let was_complete = std::mem::take(&mut active.listing.settling) == Settling::WhileComplete;
        match verdict {
            Verdict::Chunks { missing, content } => {
                active.take_back_runs(&missing);
                if active.listing.settled > MOST_SETTLED {
                    tracing::warn!(file = %active.source.file.locator, "what comes from peers is false again and again: its origin alone is asked");
                    active.share = None;
                    self.engine.handle(Event::Unwanted { file: key }, self.now());
                    return self.begin(key);
                }
                content.into_iter().for_each(|content| shared.forget_list(content));
                // If nothing is missing, it is complete once more.
                self.engine.handle(Event::Disproven { file: key, content, missing }, self.now());
            }
            Verdict::List => {
                partial.drop_pieces();
                (active.listing.known, active.listing.settled) = (None, 0);
                self.heard_of_pieces(key, PiecesHeard::Unknown);
                if was_complete {
                    return self.complete(key);
                }
                self.ask_for_pieces(key);
            }
        }
    }

    /// Lists the pieces of what was proven, before anyone asks for them. One file at a time.
    pub(super) fn list_later(&self, blob: Blob, digest: OriginDigest) {
        let (store, turn) = (self.store.clone(), self.listing.clone());
        tokio::spawn(async move {
            tokio::time::sleep(LIST_AFTER).await;
            let Ok(_turn) = turn.acquire().await else { return };
            let listed = tokio::task::spawn_blocking(move || store.list_pieces(&blob, &digest)).await;
            if let Ok(Err(error)) = listed {
                tracing::warn!(%error, "the pieces of a file cannot be listed");
            }
        });
    }
}

/// Gets the list from a peer, and has what comes held against it from now on.
async fn ask(shared: &SharedFile, partial: &Partial, peer: Peer, digest: OriginDigest) -> Option<Arc<Pieces>> {
    let (size, partial) = (partial.size(), partial.clone());
    let found = shared.market.fetch_pieces(peer.node, shared.key, size, Pieces::most(&digest, size)).await;
    let rows = found.inspect_err(|error| tracing::debug!(peer = %peer.node, %error, "no list of pieces came")).ok()?;
    let held = tokio::task::spawn_blocking(move || {
        let pieces = Arc::new(Pieces::check(&digest, size, &rows)?);
        partial.hold_against(Arc::clone(&pieces)).then_some(pieces)
    });
    held.await.ok()?
}

/// Reads a piece from the origin, if the list may be false. Unless that is other than the list says, what came is wrong, and all of it that does not fit is forgotten.
async fn settle(source: Source, partial: Partial, shared: Arc<SharedFile>, pieces: Arc<Pieces>, place: Range<u64>) -> Verdict {
    let read = if pieces.are_certain() { None } else { tokio::time::timeout(SETTLES, source.read_piece(place.clone())).await.ok() };
    let judged = tokio::task::spawn_blocking(move || match read {
        Some(Ok(bytes)) if !pieces.fits(pieces.touched_by(&place).start, &bytes) => Ok(Verdict::List),
        Some(_) | None => forget_wrong(&partial, &shared),
    });
    let judged: Result<_, StoreError> = judged.await.unwrap_or(Ok(Verdict::List));
    judged.unwrap_or_else(|error| {
        tracing::warn!(%error, "what does not fit the list of pieces cannot be forgotten");
        Verdict::List
    })
}

/// Forgets the chunks of all pieces that do not fit, but for those that this node read from the origin itself. The content that they came as
/// is known by a chunk that is as it came: what rotted on the disk is nobody's fault.
fn forget_wrong(partial: &Partial, shared: &SharedFile) -> Result<Verdict, StoreError> {
    let (mut runs, mut content): (Vec<Range<u64>>, _) = (vec![], None);
    let layout = ChunkLayout::new(partial.size());
    let places = partial.check_all_pieces()?.unwrap_or_default();
    let wrong: BTreeSet<u64> = places.iter().flat_map(|place| place.start / CHUNK_BYTES..place.end.div_ceil(CHUNK_BYTES)).collect();
    for chunk in wrong.into_iter().filter(|chunk| !shared.is_own(*chunk)) {
        let run = chunk..chunk + 1;
        if let Some((bytes, hashes)) = partial.read(run.clone())? {
            let is_as_it_came = VerifiedChunks::check(layout, chunk, bytes, &hashes).is_ok();
            let list = shared.list().filter(|list| is_as_it_came && list.run(run.clone()) == hashes);
            content = list.map(|list| list.content()).or(content);
        }
        match runs.last_mut().filter(|last| last.end == chunk) {
            Some(last) => last.end = run.end,
            None => runs.push(run),
        }
    }
    runs.iter().try_for_each(|run| partial.forget(run.clone()))?;
    let is_gone = |chunk: &u64| partial.hash(*chunk).is_none();
    let missing = runs.into_iter().flatten().filter(is_gone).map(|chunk| chunk..chunk + 1).collect();
    Ok(Verdict::Chunks { missing, content })
}
