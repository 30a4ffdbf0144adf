//! How a file's fetch ends: it is proven and handed to whoever waits, or read again, or given up.
//!
//! Invariant: others are told of a file only once it was proven by the digest that its key is made of; a job has it as soon as it is proven
//! by any that its origin lists.

use larder_content::{ContentId, FileKey, Holding, Mismatch, NodeId, OriginFile, ProofKind};
use larder_engine::Event;
use larder_store::{Blob, SealError, StoreError};

use super::FetchError;
use super::active::{Active, Body, Next, Ready};
use super::driver::{Driver, Report};

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
                let has_digest = !active.source.file.digests.is_empty();
                let kept = active.shared.is_some() && active.from_peers && active.refuted == 0;
                let (store, shared) = (self.store.clone(), active.shared.clone());
                tokio::task::spawn_blocking(move || {
                    let mut result = if has_digest { partial.seal() } else { partial.seal_unproven() };
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
                    let _ = reporter.blocking_send(Report::Sealed { key, reading, result, liars });
                });
            }
        }
    }

    pub(super) fn sealed(&mut self, key: FileKey, result: Result<Blob, SealError>, liars: Vec<NodeId>) {
        match result {
            Ok(blob) => self.proven(key, blob, liars),
            Err(SealError::Mismatch { .. }) if self.refute(key) => {}
            Err(SealError::Mismatch { mismatch, content }) => {
                self.engine.handle(Event::Unwanted { file: key }, self.now());
                if let Some(active) = self.active.get_mut(&key).filter(|active| active.from_peers) {
                    // From here on its origin alone is asked.
                    (active.refuted, active.share) = (2, None);
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

    /// Its bytes are what its origin lists. If it was proven by piece, and its key is made of another digest, jobs have it while it is held
    /// against that.
    pub(super) fn proven(&mut self, key: FileKey, blob: Blob, liars: Vec<NodeId>) {
        let Some(active) = self.active.get_mut(&key) else { return };
        let (file, scope) = (active.source.file.clone(), active.scope);
        let is_of_key = |proven: OriginFile| proven.key(scope) == key;
        if blob.proof() != ProofKind::Xet || file.by_pieces().is_none_or(is_of_key) {
            return self.succeed(key, &blob, liars);
        }
        active.hand_out(&blob);
        active.ready = Some(Ready { blob: blob.clone(), liars });
        let (store, reporter, reading) = (self.store.clone(), self.reporter.clone(), active.reading);
        tokio::task::spawn_blocking(move || {
            let result = store.prove(&blob, &file, scope);
            let _ = reporter.blocking_send(Report::Bound { key, reading, result });
        });
    }

    /// What jobs have already was held against the digest of its key.
    pub(super) fn bound(&mut self, key: FileKey, result: Result<Option<Blob>, StoreError>) {
        let Some(Ready { blob, liars }) = self.active.get_mut(&key).and_then(|active| active.ready.take()) else { return };
        match result {
            Ok(Some(_)) => return self.succeed(key, &blob, liars),
            Ok(None) => {
                tracing::warn!(file = %key, "its bytes match the Xet hash that the origin lists, and not the sha256: nobody else gets them")
            }
            Err(error) => tracing::warn!(file = %key, %error, "it cannot be held against the digest of its key: nobody else gets it"),
        }
        self.engine.handle(Event::Unwanted { file: key }, self.now());
        if let Some(active) = self.active.remove(&key) {
            self.announce(&active, key, Holding::Gone);
        }
    }

    fn succeed(&mut self, key: FileKey, blob: &Blob, liars: Vec<NodeId>) {
        self.engine.handle(Event::Proven { file: key, content: blob.content(), liars }, self.now());
        if let Some(mut active) = self.active.remove(&key) {
            self.announce(&active, key, Holding::Complete);
            active.hand_out(blob);
            if active.shared.is_some() && active.source.file.by_pieces().is_some() {
                self.list_later(blob.clone());
            }
        }
    }

    /// Fails the one whose way to the file was tried, and tries that of the next.
    pub(super) fn fail(&mut self, key: FileKey, error: FetchError) {
        self.engine.handle(Event::Unwanted { file: key }, self.now());
        let Some(mut active) = self.active.remove(&key) else { return };
        active.reads.drain().for_each(|(_, read)| read.abort());
        self.announce(&active, key, Holding::Gone);
        if let Some(active) = active.fail(error) {
            self.active.insert(key, active);
            self.begin(key);
        }
    }
}
