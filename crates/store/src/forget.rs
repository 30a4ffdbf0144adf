//! Takes chunks away from files that are still coming: those that turned out to be others than they should be.
//!
//! Invariant: that a chunk is gone would survive a kill and a power cut before anyone may write in its place. Otherwise its old
//! record might come back beside new bytes.

use std::ops::Range;
use std::sync::MutexGuard;
use std::sync::atomic::Ordering;

use crate::follow::Proving;
use crate::index::Row;
use crate::partial::Partial;
use crate::{StoreError, lock};

impl Partial {
    /// Drops the file with all chunks that are there. Does nothing if it was discarded, or became a blob.
    ///
    /// # Errors
    /// If it cannot be removed.
    pub fn discard(&self) -> Result<(), StoreError> {
        let _proving = self.hold_proof();
        if lock(&self.coming.chunks).end() {
            return Ok(());
        }
        let mut partials = lock(&self.shared().partials);
        partials.remove(&self.coming.key);
        self.shared().drop_partial(&self.coming.key)
    }

    /// Forgets chunks: they are missing then, and the proof begins anew.
    ///
    /// What is being written meanwhile is kept as it comes.
    ///
    /// # Errors
    /// If the index cannot be written.
    pub fn forget(&self, chunks: Range<u64>) -> Result<(), StoreError> {
        let _proving = self.hold_proof();
        let state = lock(&self.coming.chunks);
        if state.ended {
            return Ok(());
        }
        let end = chunks.end.min(self.coming.layout.count());
        let wrong: Vec<u64> = (chunks.start..end).filter(|index| state.tree.get(*index).is_some()).collect();
        drop(state);
        if wrong.is_empty() {
            return Ok(());
        }
        // As long as they are in the tree, nobody writes in their place.
        let index = &self.shared().index;
        wrong.iter().try_for_each(|chunk| index.remove(Row::Chunk(self.coming.key, *chunk)))?;
        index.flush()?;
        let mut state = lock(&self.coming.chunks);
        state.take_away(&wrong);
        Ok(())
    }

    /// Forgets a chunk of an earlier run that was damaged on disk, unless chunks were taken away since `epoch` or the file is being
    /// sealed: then all of it was looked at.
    pub(crate) fn lose(&self, index: u64, epoch: u64) -> Result<(), StoreError> {
        let key = self.coming.key;
        let mut state = lock(&self.coming.chunks);
        if state.epoch != epoch || state.sealing || state.ended {
            return Ok(());
        }
        tracing::warn!(%key, index, "a chunk of an earlier run was damaged on disk and is fetched again");
        state.take_away(&[index]);
        self.shared().index.remove(Row::Chunk(key, index))
    }

    /// Keeps the proof from going on, and the file from being sealed.
    pub(crate) fn hold_proof(&self) -> MutexGuard<'_, Proving> {
        self.coming.changing.fetch_add(1, Ordering::SeqCst);
        let proving = lock(&self.coming.proving);
        self.coming.changing.fetch_sub(1, Ordering::SeqCst);
        proving
    }
}
