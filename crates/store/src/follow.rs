//! Lets the proof of a coming file follow its growing prefix: from memory where what comes next was just written.
//!
//! Invariant: what the proof was fed is what the file's chunks were since their epoch began. Whatever takes a chunk away begins
//! another epoch, and with it the proof from the start.

use std::fs::File;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, TryLockError};

use bytes::Bytes;
use larder_content::{CHUNK_BYTES, ChunkHash, VerifiedChunks};

use crate::partial::{Chunks, Partial, file_name};
use crate::prove::Trial;
use crate::read::{READ_BYTES, read};
use crate::{StoreError, lock};

/// How far ahead of the proof what is written is kept in memory for it: 16 MiB of each file.
const AHEAD_CHUNKS: u64 = 64;
/// The most bytes that are kept so for all files together.
const KEPT_BYTES: u64 = 64 << 20;

/// How far the proof has come.
#[derive(Default)]
pub(crate) struct Proving {
    pub(crate) trial: Option<Trial>,
    /// The first chunk that it was not fed.
    pub(crate) fed: u64,
    /// The epoch of the chunks that it was fed.
    pub(crate) epoch: u64,
}

/// A run of chunks just written, which the proof will want. Its bytes count against what all files keep.
pub(crate) struct Kept {
    end: u64,
    bytes: Bytes,
    all: Arc<AtomicU64>,
}

impl Kept {
    /// Keeps `bytes`, of the chunks up to `end`, if there is room.
    fn new(end: u64, bytes: Bytes, all: &Arc<AtomicU64>) -> Option<Self> {
        let with = |held: u64| Some(held + bytes.len() as u64).filter(|held| *held <= KEPT_BYTES);
        all.fetch_update(Ordering::Relaxed, Ordering::Relaxed, with).ok()?;
        Some(Self { end, bytes, all: Arc::clone(all) })
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.all.fetch_sub(self.bytes.len() as u64, Ordering::Relaxed);
    }
}

/// What the proof is fed next.
struct Next {
    end: u64,
    epoch: u64,
    /// Its bytes, if they are in memory.
    kept: Option<Kept>,
    handle: Arc<File>,
    /// The recorded hashes of those chunks that are of an earlier run.
    resumed: Vec<(u64, ChunkHash)>,
}

impl Partial {
    /// Takes the proof on over all chunks that are there without a gap. Returns at once if another thread is at it, or if the file is being
    /// proven by piece.
    ///
    /// # Errors
    /// If the file cannot be read back.
    pub fn advance(&self) -> Result<(), StoreError> {
        if lock(&self.coming.chunks).pieces.is_some() {
            return Ok(());
        }
        let mut proving = match self.coming.proving.try_lock() {
            Ok(proving) => proving,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return Ok(()),
        };
        // Who takes chunks away waits for the proof, which begins anew after that.
        while self.coming.changing.load(Ordering::SeqCst) == 0 && self.feed_some(&mut proving)? {}
        Ok(())
    }

    /// Feeds the proof with all that is there without a gap.
    pub(crate) fn feed(&self, proving: &mut Proving) -> Result<(), StoreError> {
        while self.feed_some(proving)? {}
        Ok(())
    }

    /// Feeds the proof with what comes next; whether there was anything. Chunks of an earlier run are hashed once more on the way;
    /// one that is not what was recorded becomes missing again, and the proof waits for it.
    fn feed_some(&self, proving: &mut Proving) -> Result<bool, StoreError> {
        let (key, layout) = (&self.coming.key, self.coming.layout);
        let Some(next) = lock(&self.coming.chunks).next_of_proof(proving) else { return Ok(false) };
        let place = layout.bytes(proving.fed, next.end);
        let bytes = match &next.kept {
            Some(kept) => kept.bytes.clone(),
            None => read(&self.shared().buffers, &next.handle, &place).map_err(|error| self.shared().home.fault(&file_name(key), error))?,
        };
        for (index, hash) in next.resumed {
            let own = layout.bytes(index, index + 1);
            let at = |position: u64| usize::try_from(position - place.start).unwrap_or(usize::MAX);
            if VerifiedChunks::check(layout, index, bytes.slice(at(own.start)..at(own.end)), &[hash]).is_err() {
                return self.lose(index, next.epoch).map(|()| false);
            }
        }
        lock(&self.coming.chunks).found_right(&(proving.fed..next.end));
        let Partial { coming, .. } = self;
        proving.trial.get_or_insert_with(|| Trial::new(&coming.file, coming.scope)).update(&bytes);
        proving.fed = next.end;
        Ok(true)
    }
}

impl Chunks {
    /// Keeps the bytes of a run just written if the proof comes to it soon.
    pub(crate) fn keep(&mut self, run: &Range<u64>, bytes: Bytes, all: &Arc<AtomicU64>) {
        if self.pieces.is_none() && run.start >= self.fed && run.start < self.fed + AHEAD_CHUNKS {
            self.kept.extend(Kept::new(run.end, bytes, all).map(|kept| (run.start, kept)));
        }
    }

    /// What the proof is fed next: at most up to where something is in memory, and to the first gap. Begins the proof anew if
    /// chunks were taken away since.
    fn next_of_proof(&mut self, proving: &mut Proving) -> Option<Next> {
        if proving.epoch != self.epoch {
            *proving = Proving { epoch: self.epoch, ..Proving::default() };
        }
        let first = proving.fed;
        self.fed = first;
        let (epoch, handle) = (self.epoch, Arc::clone(&self.handle));
        while let Some(kept) = self.kept.first_entry().filter(|kept| *kept.key() <= first) {
            let (start, kept) = kept.remove_entry();
            if start == first {
                return Some(Next { end: kept.end, epoch, kept: Some(kept), handle, resumed: vec![] });
            }
        }
        let limit = self.kept.keys().next().map_or(u64::MAX, |start| *start).min(first + READ_BYTES / CHUNK_BYTES);
        let there: Vec<(u64, ChunkHash)> = (first..limit).map_while(|index| Some((index, self.tree.get(index)?))).collect();
        let end = first + there.len() as u64;
        let resumed = there.into_iter().filter(|(index, _)| self.is_resumed(*index)).collect();
        (end > first).then_some(Next { end, epoch, kept: None, handle, resumed })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{all, bytes, chunks, public, store_in};
    use larder_content::Scope;

    /// Lets the proof take what there is; which runs it had from memory, and which not.
    fn follow(partial: &Partial) -> Vec<(u64, bool)> {
        let mut proving = lock(&partial.coming.proving);
        let mut steps = vec![];
        while let Some(next) = lock(&partial.coming.chunks).next_of_proof(&mut proving) {
            steps.push((next.end, next.kept.is_some()));
            proving.fed = next.end;
        }
        *proving = Proving { fed: proving.fed, ..Proving::default() };
        steps
    }

    #[test]
    fn what_comes_nearly_in_order_is_proven_from_memory_and_what_comes_far_ahead_is_read_back() {
        let (_folder, store) = store_in();
        let data = bytes(1, 80 * CHUNK_BYTES);
        let partial = store.partial(&public(&data), Scope::Public).unwrap();
        let write = |(first, end)| partial.write(&chunks(&data, first, end)).unwrap();
        let kept = || store.shared.kept_bytes.load(Ordering::Relaxed);
        [(2, 4), (70, 72), (1, 2)].into_iter().for_each(write);
        assert_eq!((follow(&partial), kept()), (vec![], 3 * CHUNK_BYTES));
        write((0, 1));
        assert_eq!((follow(&partial), kept()), (vec![(1, true), (2, true), (4, true)], 0));
        [(4, 6), (6, 70), (72, 80)].into_iter().for_each(write);
        assert_eq!(follow(&partial), [(6, true), (70, true), (74, false), (78, false), (80, false)]);
        assert_eq!(kept(), 0);
    }

    #[test]
    fn what_is_kept_in_memory_has_a_limit_for_all_files_and_is_given_back() {
        let (_folder, store) = store_in();
        let data: Vec<_> = (0..6).map(|seed| bytes(seed, AHEAD_CHUNKS * CHUNK_BYTES)).collect();
        let partials: Vec<_> = data.iter().map(|data| store.partial(&public(data), Scope::Public).unwrap()).collect();
        partials.iter().zip(&data).for_each(|(partial, data)| partial.write(&all(data)).unwrap());
        let kept = || store.shared.kept_bytes.load(Ordering::Relaxed);
        assert_eq!(kept(), KEPT_BYTES);
        partials[0].forget(3..4).unwrap();
        assert_eq!(kept(), KEPT_BYTES * 3 / 4);
        partials[1].discard().unwrap();
        assert_eq!(kept(), KEPT_BYTES / 2);
        assert!(partials[2].seal().is_ok() && partials[5].seal().is_ok());
        assert_eq!(kept(), KEPT_BYTES / 4);
        drop(partials);
        assert_eq!(kept(), 0);
    }
}
