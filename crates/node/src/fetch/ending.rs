//! How a file's fetch ends: it is proven and handed to whoever waits, or read again, or given up.
//!
//! Invariant: others are told of a file only once it was proven by the digest that its key is made of; a job has it as soon as it is proven
//! by any that its origin lists.

use larder_content::{ContentId, FileKey, Holding, Mismatch, NodeId, OriginFile, ProofKind};
use larder_engine::Event;
use larder_store::{Blob, Partial, SealError, StoreError};

use super::FetchError;
use super::active::{Active, Body, Next, Ready};
use super::driver::{Driver, Report};

/// What a proof is of.
#[derive(Debug, Clone, Copy)]
pub(super) struct Judged {
    /// The content that it was taken to be, when that began.
    list: Option<ContentId>,
    /// Whether what came of peers comes anew if it fails: it is not thrown away.
    kept: bool,
}

impl Driver {
    /// All of its chunks are there.
    pub(super) fn complete(&mut self, key: FileKey) {
        let Some(active) = self.active.get_mut(&key) else { return };
        if active.listing.is_being_settled() {
            return;
        }
        match &active.body {
            Body::Opening => {}
            Body::Small(None) => self.fail(key, FetchError::Defect("a small file is complete but not sealed".into())),
            Body::Small(Some(blob)) => {
                let blob = blob.clone();
                self.succeed(key, &blob, Vec::new());
            }
            Body::Large(partial) => {
                let (partial, reporter, reading) = (partial.clone(), self.reporter.clone(), active.reading);
                let listed = active.source.file.clone();
                let kept = active.may_refute();
                let list = active.shared.as_ref().and_then(|shared| shared.list()).map(|list| list.content());
                let (store, shared) = (self.store.clone(), active.shared.clone());
                tokio::task::spawn_blocking(move || {
                    let is_unproven = listed.digests.is_empty();
                    let mut result = if is_unproven { partial.seal_unproven() } else { seal(&partial, &listed) };
                    // Nobody says which of its chunks are right.
                    if let Err(SealError::Mismatch { .. }) = result
                        && !kept
                        && let Err(error) = partial.discard()
                    {
                        result = Err(error.into());
                    }
                    let doubting = shared.filter(|shared| shared.doubts()).zip(result.as_ref().ok());
                    let judged = doubting.and_then(|(shared, blob)| Some(shared.liars(&*store.chunk_hashes(blob).ok()?)));
                    let liars = judged.unwrap_or_default();
                    let judged = Judged { list, kept };
                    let _ = reporter.blocking_send(Report::Sealed { key, reading, result, judged, liars });
                });
            }
        }
    }

    pub(super) fn sealed(&mut self, key: FileKey, result: Result<Blob, SealError>, judged: Judged, liars: Vec<NodeId>) {
        match result {
            Ok(blob) => self.proven(key, blob, liars),
            Err(SealError::Mismatch { .. }) if judged.kept && self.spot_check(key) => {}
            Err(SealError::Mismatch { .. }) if judged.kept => self.refute(key, judged.list),
            Err(SealError::Mismatch { mismatch, content }) => {
                self.engine.handle(Event::Unwanted { file: key }, self.now());
                if let Some(active) = self.active.get_mut(&key).filter(|active| active.from_peers) {
                    // From here on its origin alone is asked.
                    active.share = None;
                }
                self.mismatched(key, content, mismatch);
            }
            Err(SealError::Store(error)) => self.fail(key, FetchError::Store(error)),
            // Chunks that an earlier run recorded turned out to be damaged on disk: they are read again.
            Err(SealError::Incomplete { .. }) if self.active.get_mut(&key).is_some_and(Active::was_incomplete) => {
                self.engine.handle(Event::Unwanted { file: key }, self.now());
                self.begin(key);
            }
            Err(SealError::Incomplete { missing }) => {
                self.fail(key, FetchError::Defect(format!("{missing} chunks that were written are not there")));
            }
        }
    }

    pub(super) fn mismatched(&mut self, key: FileKey, content: ContentId, mismatch: Mismatch) {
        let Some(active) = self.active.get_mut(&key) else { return };
        tracing::warn!(file = %active.source.file.locator, %mismatch, "what was read does not match");
        match active.mismatched(content, mismatch) {
            Next::Again => self.begin(key),
            Next::TakeAsRead => {
                active.take_as_read();
                self.begin(key);
            }
            Next::Corrupt(error) => self.fail(key, error),
        }
    }

    /// Its bytes are what its origin lists. If it was proven by piece, and its key is made of another digest, jobs that have it listed with that
    /// Xet hash get it while it is held against the digest of the key; the others wait for that.
    pub(super) fn proven(&mut self, key: FileKey, blob: Blob, liars: Vec<NodeId>) {
        let Some(active) = self.active.get_mut(&key) else { return };
        let (file, scope) = (active.source.file.clone(), active.scope);
        let root = file.by_pieces().filter(|short| blob.proof() == ProofKind::Xet && short.key(scope) != key).and_then(|short| short.xet());
        let Some(root) = root else { return self.succeed(key, &blob, liars) };
        active.hand_out(&blob, |file| file.xet() == Some(root));
        active.ready = Some(Ready { blob: blob.clone(), root, liars });
        let (store, reporter, reading) = (self.store.clone(), self.reporter.clone(), active.reading);
        tokio::task::spawn_blocking(move || {
            let result = store.prove(&blob, &file, scope);
            let _ = reporter.blocking_send(Report::Bound { key, reading, result });
        });
    }

    /// What some jobs have already was held against the digest of its key. If that does not match, those who wait begin by their own way.
    pub(super) fn bound(&mut self, key: FileKey, result: Result<Option<Blob>, StoreError>) {
        let Some(Ready { blob, liars, .. }) = self.active.get_mut(&key).and_then(|active| active.ready.take()) else { return };
        match result {
            Ok(Some(_)) => return self.succeed(key, &blob, liars),
            Ok(None) => {
                tracing::warn!(file = %key, "its bytes match the Xet hash that the origin lists, and not the sha256: nobody else gets them")
            }
            Err(error) => tracing::warn!(file = %key, %error, "it cannot be held against the digest of its key: nobody else gets it"),
        }
        self.engine.handle(Event::Unwanted { file: key }, self.now());
        let Some(active) = self.active.remove(&key) else { return };
        self.announce(&active, key, Holding::Gone);
        self.go_on(key, active.pass_on());
    }

    fn succeed(&mut self, key: FileKey, blob: &Blob, liars: Vec<NodeId>) {
        self.engine.handle(Event::Proven { file: key, content: blob.content(), liars }, self.now());
        if let Some(mut active) = self.active.remove(&key) {
            self.announce(&active, key, Holding::Complete);
            active.hand_out(blob, |_| true);
            if let Some(digest) = active.source.file.listable().filter(|_| active.shared.is_some()) {
                self.list_later(blob.clone(), digest.clone());
            }
        }
    }

    /// Fails the one whose way to the file was tried, and tries that of the next.
    pub(super) fn fail(&mut self, key: FileKey, error: FetchError) {
        self.engine.handle(Event::Unwanted { file: key }, self.now());
        let Some(mut active) = self.active.remove(&key) else { return };
        active.reads.drain().for_each(|(_, read)| read.abort());
        self.announce(&active, key, Holding::Gone);
        self.go_on(key, active.fail(error));
    }

    /// Goes on with a file for whoever still waits for it.
    fn go_on(&mut self, key: FileKey, active: Option<Active>) {
        if let Some(active) = active {
            self.active.insert(key, active);
            self.begin(key);
        }
    }
}

/// Makes a blob of a file whose chunks are all there: by its pieces if they are known, else by the whole.
fn seal(partial: &Partial, listed: &OriginFile) -> Result<Blob, SealError> {
    // What came while other chunks were taken away was not looked at then.
    let by_pieces = match partial.check_all_pieces()? {
        Some(wrong) if wrong.is_empty() => partial.seal_by_pieces(listed)?,
        Some(_) | None => None,
    };
    by_pieces.map_or_else(|| partial.seal(), Ok)
}
