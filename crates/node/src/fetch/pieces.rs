//! Proof by piece: gets the list of a file's pieces from one who holds it, and settles with the origin who is wrong where what came does
//! not fit.
//!
//! Invariant: by a list alone nobody is blamed. The origin says of the first piece that does not fit whether the list is false or what
//! came, and that costs one piece.

use std::collections::{HashSet, VecDeque};
use std::ops::Range;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use larder_content::{CHUNK_BYTES, FileKey, OriginDigest, OriginFile, Pieces};
use larder_engine::{Event, Peer, Pieces as PiecesHeard};
use larder_store::{Blob, Partial, StoreError};

use super::active::Body;
use super::driver::{Driver, Report};
use super::shared::SharedFile;
use crate::read::Source;

/// The most peers that are asked for the list of one file.
const MOST_ASKED: usize = 8;
/// After how long another is asked, too.
const LATE: Duration = Duration::from_millis(500);
/// How long after a file was proven its pieces are listed, for others: those who fetched it together are ready by then.
const LIST_AFTER: Duration = Duration::from_secs(2);

/// The list of a file's pieces, as far as it is known.
#[derive(Default)]
pub(super) struct Listing {
    /// Whom it was asked of, or will be.
    offered: HashSet<Peer>,
    waiting: VecDeque<Peer>,
    /// How many were asked and did not answer yet.
    asked: usize,
    /// Whether who was asked last may yet answer in time.
    is_awaited: bool,
    known: Option<Arc<Pieces>>,
    settling: Settling,
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
        let next = if self.is_awaited || self.known.is_some() { None } else { self.waiting.pop_front() };
        self.is_awaited |= next.is_some();
        self.asked += usize::from(next.is_some());
        next
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
    /// What came: these chunks were forgotten.
    Chunks(Vec<Range<u64>>),
    /// The list; or the origin does not say.
    List,
}

/// The digest of a file that is made of pieces.
fn pieced(file: &OriginFile) -> Option<&OriginDigest> {
    file.digests.iter().find(|digest| matches!(digest, OriginDigest::Xet(_)))
}

impl Driver {
    /// A peer says that it has all of a file, and so can list its pieces.
    pub(super) fn may_list(&mut self, key: FileKey, peer: Peer) {
        let Some(active) = self.active.get_mut(&key) else { return };
        if pieced(&active.source.file).is_some() && matches!(active.body, Body::Large(_)) {
            active.listing.offers(peer);
            self.ask_for_pieces(key);
        }
    }

    pub(super) fn heard_of_pieces(&mut self, file: FileKey, pieces: PiecesHeard) {
        self.engine.handle(Event::Pieces { file, pieces }, self.now());
    }

    fn ask_for_pieces(&mut self, key: FileKey) {
        let Some(active) = self.active.get_mut(&key) else { return };
        let (Body::Large(partial), Some(shared)) = (&active.body, &active.shared) else { return };
        let Some(digest) = pieced(&active.source.file).cloned() else { return };
        let Some(peer) = active.listing.next() else { return };
        let (partial, shared, reporter, reading) = (partial.clone(), shared.clone(), self.reporter.clone(), active.reading);
        self.heard_of_pieces(key, PiecesHeard::Asked);
        tokio::spawn(async move {
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
    }

    /// Who was asked for the list does not answer: so another is.
    pub(super) fn list_is_late(&mut self, key: FileKey) {
        self.active.get_mut(&key).into_iter().for_each(|active| active.listing.is_awaited = false);
        self.ask_for_pieces(key);
    }

    /// The list came, or not.
    pub(super) fn listed(&mut self, key: FileKey, peer: Peer, pieces: Option<(Arc<Pieces>, Vec<Range<u64>>)>) {
        let Some(active) = self.active.get_mut(&key) else { return };
        active.listing.asked -= 1;
        active.listing.is_awaited = false;
        let Some((pieces, wrong)) = pieces else {
            if active.listing.waiting.is_empty() && active.listing.asked == 0 && active.listing.known.is_none() {
                self.heard_of_pieces(key, PiecesHeard::Unknown);
            }
            return self.ask_for_pieces(key);
        };
        tracing::debug!(file = %active.source.file.locator, peer = %peer.node, pieces = pieces.count(), "it is proven by piece");
        active.listing.known = Some(pieces);
        self.heard_of_pieces(key, PiecesHeard::Listed);
        if let Some(place) = wrong.into_iter().next() {
            self.doubt(key, place);
        }
    }

    /// What lies at `place` is not as the list says: the origin is asked what it should be.
    pub(super) fn doubt(&mut self, key: FileKey, place: Range<u64>) {
        let Some(active) = self.active.get_mut(&key) else { return };
        let (Body::Large(partial), Some(shared), Some(pieces)) = (&active.body, &active.shared, &active.listing.known) else { return };
        if active.listing.settling != Settling::No {
            return;
        }
        tracing::info!(file = %active.source.file.locator, ?place, "what came does not fit the list of pieces: the origin is asked");
        let (partial, shared, pieces, source) = (partial.clone(), shared.clone(), pieces.clone(), active.source.clone());
        active.listing.settling = Settling::Yes;
        let (reporter, reading) = (self.reporter.clone(), active.reading);
        self.heard_of_pieces(key, PiecesHeard::Doubted);
        tokio::spawn(async move {
            let verdict = settle(source, partial, shared, pieces, place).await;
            let _ = reporter.send(Report::Settled { key, reading, verdict }).await;
        });
    }

    /// It is known who was wrong.
    pub(super) fn settled(&mut self, key: FileKey, verdict: Verdict) {
        let Some(active) = self.active.get_mut(&key) else { return };
        let (Body::Large(partial), Some(shared)) = (&active.body, active.shared.clone()) else { return };
        let was_complete = std::mem::take(&mut active.listing.settling) == Settling::WhileComplete;
        match verdict {
            Verdict::Chunks(missing) if !missing.is_empty() => {
                active.take_back_runs(&missing);
                let content = shared.list().map(|list| list.content());
                content.into_iter().for_each(|content| shared.forget_list(content));
                self.engine.handle(Event::Disproven { file: key, content, missing }, self.now());
            }
            Verdict::Chunks(_) | Verdict::List => {
                partial.drop_pieces();
                active.listing.known = None;
                self.heard_of_pieces(key, PiecesHeard::Unknown);
                if was_complete {
                    return self.complete(key);
                }
                self.ask_for_pieces(key);
            }
        }
    }

    /// Lists the pieces of what was proven, before anyone asks for them. One file at a time.
    pub(super) fn list_later(&self, blob: Blob) {
        let (store, turn) = (self.store.clone(), self.listing.clone());
        tokio::spawn(async move {
            tokio::time::sleep(LIST_AFTER).await;
            let Ok(_turn) = turn.acquire().await else { return };
            let listed = tokio::task::spawn_blocking(move || store.pieces(&blob).map(drop)).await;
            if let Ok(Err(error)) = listed {
                tracing::warn!(%error, "the pieces of a file cannot be listed");
            }
        });
    }
}

/// Gets the list from a peer, and holds what is there against it: where it does not fit.
async fn ask(shared: &SharedFile, partial: &Partial, peer: Peer, digest: OriginDigest) -> Option<(Arc<Pieces>, Vec<Range<u64>>)> {
    let (size, partial) = (partial.size(), partial.clone());
    let found = shared.market.fetch_pieces(peer.node, shared.key, size, Pieces::most(&digest, size)).await;
    let rows = found.inspect_err(|error| tracing::debug!(peer = %peer.node, %error, "no list of pieces came")).ok()?;
    let held = tokio::task::spawn_blocking(move || {
        let pieces = Arc::new(Pieces::check(&digest, size, &rows)?);
        partial.hold_against(Arc::clone(&pieces)).then_some(())?;
        let checked = partial.check_all_pieces();
        let checked = checked.inspect_err(|error| tracing::warn!(%error, "what is there cannot be held against its pieces"));
        Some((pieces, checked.ok()??))
    });
    held.await.ok()?
}

/// Reads a piece from the origin. If it is as the list says, what came is wrong, and all of it that does not fit is forgotten.
async fn settle(source: Source, partial: Partial, shared: Arc<SharedFile>, pieces: Arc<Pieces>, place: Range<u64>) -> Verdict {
    let Ok(bytes) = source.read_piece(place.clone()).await else { return Verdict::List };
    let judged = tokio::task::spawn_blocking(move || {
        let index = pieces.touched_by(&place).start;
        if !pieces.fits(index, &bytes) {
            return Ok(Verdict::List);
        }
        forget_wrong(&partial, &shared).map(Verdict::Chunks)
    });
    let judged: Result<_, StoreError> = judged.await.unwrap_or(Ok(Verdict::List));
    judged.unwrap_or_else(|error| {
        tracing::warn!(%error, "what does not fit the list of pieces cannot be forgotten");
        Verdict::List
    })
}

/// Forgets the chunks of all pieces that do not fit, but for those that this node read from the origin itself.
fn forget_wrong(partial: &Partial, shared: &SharedFile) -> Result<Vec<Range<u64>>, StoreError> {
    let mut forgotten = vec![];
    for place in partial.check_all_pieces()?.unwrap_or_default() {
        for chunk in place.start / CHUNK_BYTES..place.end.div_ceil(CHUNK_BYTES) {
            if !shared.is_own(chunk) && partial.hash(chunk).is_some() {
                partial.forget(chunk..chunk + 1)?;
                forgotten.push(chunk..chunk + 1);
            }
        }
    }
    Ok(forgotten)
}
