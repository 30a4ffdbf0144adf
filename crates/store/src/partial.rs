//! Files that are still coming: chunks are written where they belong, then recorded, in any order.
//!
//! Invariants: a chunk is recorded only after its bytes were written; no two writers write one chunk at a time; a file
//! that has a second name is never written, since the other may lie in a job's target.

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::ops::Range;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex};

use larder_content::{ChunkHash, ChunkLayout, ChunkTree, FileKey, OriginFile, Scope, VerifiedChunks};

use crate::follow::{Kept, Proving};
use crate::index::Row;
use crate::piecewise::Piecewise;
use crate::read::read;
use crate::records::{ChunkRow, PartialRow};
use crate::{Shared, Store, StoreError, lock};

/// Bytes for which blocks are taken at once.
const SEGMENT_BYTES: u64 = 8 << 20;
/// Rows that are collected, then removed one by one, before others get their turn.
const ROWS_AT_A_TIME: usize = 1_000;

/// A file that is still coming; cheap to clone, and shared by all who ask for it. Keeps the store open.
#[derive(Clone)]
pub struct Partial {
    pub(crate) coming: Arc<Coming>,
    pub(crate) store: Store,
}

/// What all handles on one coming file share.
pub(crate) struct Coming {
    pub(crate) key: FileKey,
    pub(crate) scope: Scope,
    pub(crate) file: OriginFile,
    pub(crate) layout: ChunkLayout,
    pub(crate) chunks: Mutex<Chunks>,
    pub(crate) proving: Mutex<Proving>,
    /// How many wait to take chunks away.
    pub(crate) changing: AtomicUsize,
    /// One writes at a time: the file system would let them spin for the same lock instead. It holds the segments whose blocks
    /// were taken.
    writing: Mutex<HashSet<u64>>,
}

/// Which chunks are there.
pub(crate) struct Chunks {
    pub(crate) handle: Arc<File>,
    pub(crate) tree: ChunkTree,
    /// Chunks that are being written.
    busy: HashSet<u64>,
    /// Chunks of an earlier run, which were not read since.
    resumed: HashSet<u64>,
    /// Counts the times that chunks were taken away.
    pub(crate) epoch: u64,
    /// How far the proof has come, and runs that it will want, by their first chunk.
    pub(crate) fed: u64,
    pub(crate) kept: BTreeMap<u64, Kept>,
    /// What its pieces are held against, if their list is known.
    pub(crate) pieces: Option<Piecewise>,
    /// The proof is at its end: until it is done no chunk is lost.
    pub(crate) sealing: bool,
    /// It became a blob or was discarded: nothing is written any more.
    pub(crate) ended: bool,
}

impl Store {
    /// Opens the partial file of `file`, or begins one. Who asks for the same file twice gets the same.
    ///
    /// # Errors
    /// If it cannot be read or made.
    pub fn partial(&self, file: &OriginFile, scope: Scope) -> Result<Partial, StoreError> {
        let shared = &*self.shared;
        let key = file.key(scope);
        let mut partials = lock(&shared.partials);
        if let Some(coming) = partials.get(&key).and_then(std::sync::Weak::upgrade) {
            return Ok(Partial { coming, store: self.clone() });
        }
        let layout = ChunkLayout::new(file.size);
        let name = file_name(&key);
        let row = shared.index.get::<PartialRow>(Row::Partial(key))?.filter(|row| row.size == file.size);
        let there = shared.home.status(&name)?.is_some_and(|status| status.is_file);
        let chunks = if row.is_some() && there { shared.resume(&key, layout)? } else { shared.begin(&key, layout)? };
        let (chunks, proving, writing) = (Mutex::new(chunks), Mutex::default(), Mutex::default());
        let (file, changing) = (file.clone(), AtomicUsize::new(0));
        let coming = Arc::new(Coming { key, scope, file, layout, chunks, proving, changing, writing });
        partials.retain(|_, other| other.strong_count() > 0);
        partials.insert(key, Arc::downgrade(&coming));
        Ok(Partial { coming, store: self.clone() })
    }
}

impl Store {
    /// The bytes of a coming file of `size` bytes that are recorded under `key`; the file is not opened.
    ///
    /// # Errors
    /// If the index cannot be read.
    pub fn recorded_bytes(&self, key: &FileKey, size: u64) -> Result<u64, StoreError> {
        let layout = ChunkLayout::new(size);
        self.shared.index.chunks::<ChunkRow>(key).try_fold(0, |sum, row| {
            let (index, _) = row?;
            let place = layout.bytes(index, index + 1);
            Ok(sum + place.end - place.start)
        })
    }
}

impl Partial {
    /// The key its file is kept under.
    #[must_use]
    pub fn key(&self) -> FileKey {
        self.coming.key
    }

    /// The file's size in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.coming.layout.size()
    }

    /// The runs of chunks that are not there, each `first..end`, in order.
    #[must_use]
    pub fn missing(&self) -> Vec<Range<u64>> {
        let chunks = lock(&self.coming.chunks);
        if chunks.ended { vec![] } else { chunks.tree.missing() }
    }

    /// The bytes of the chunks that are there.
    #[must_use]
    pub fn have_bytes(&self) -> u64 {
        self.coming.have_bytes()
    }

    /// Writes chunks, then records them. Chunks that are there, or being written by someone else, are left out.
    ///
    /// # Errors
    /// [`StoreError::Full`] if the disk is full; what was recorded before stays.
    pub fn write(&self, chunks: &VerifiedChunks) -> Result<(), StoreError> {
        if chunks.layout() != self.coming.layout {
            let why = format!("it got chunks of a file of {} bytes, not {}", chunks.layout().size(), self.size());
            return Err(StoreError::Damaged { path: self.shared().home.path_of(&file_name(&self.coming.key)), why });
        }
        let (handle, runs) = lock(&self.coming.chunks).claim(chunks.indices());
        let mut written = Ok(());
        for run in runs {
            if written.is_ok() {
                written = self.write_run(&handle, chunks, run.clone());
            }
            lock(&self.coming.chunks).busy.retain(|index| !run.contains(index));
        }
        written
    }

    fn write_run(&self, handle: &File, chunks: &VerifiedChunks, run: Range<u64>) -> Result<(), StoreError> {
        let shared = self.shared();
        let place = self.coming.layout.bytes(run.start, run.end);
        let at = |position: u64| usize::try_from(position - chunks.offset()).unwrap_or(usize::MAX);
        let bytes = chunks.bytes().slice(at(place.start)..at(place.end));
        let written = {
            let mut taken = lock(&self.coming.writing);
            for segment in (place.start / SEGMENT_BYTES..place.end.div_ceil(SEGMENT_BYTES)).filter(|segment| taken.insert(*segment)) {
                let first = segment * SEGMENT_BYTES;
                shared.disk.take_blocks(handle, first..self.size().min(first + SEGMENT_BYTES));
            }
            shared.disk.write_at(handle, &bytes, place.start)
        };
        let fail = |error| shared.home.fault(&file_name(&self.coming.key), error).needing(bytes.len() as u64);
        written.map_err(fail)?;
        let group = shared.groups.current();
        let hashes = || chunks.indices().zip(chunks.hashes()).filter(|(index, _)| run.contains(index));
        for (index, hash) in hashes() {
            shared.index.put(Row::Chunk(self.coming.key, index), &ChunkRow { hash: hash.0, group })?;
        }
        let mut state = lock(&self.coming.chunks);
        hashes().for_each(|(index, hash)| state.tree.insert(index, *hash));
        state.keep(&run, bytes, &shared.kept_bytes);
        Ok(())
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.store.shared
    }
}

impl Coming {
    pub(crate) fn have_bytes(&self) -> u64 {
        let missing = lock(&self.chunks).tree.missing();
        let missing = missing.into_iter().map(|run| self.layout.bytes(run.start, run.end));
        self.layout.size() - missing.map(|bytes| bytes.end - bytes.start).sum::<u64>()
    }
}

impl Chunks {
    /// Marks those of `wanted` as busy that are neither there nor being written, and returns them as runs.
    fn claim(&mut self, wanted: Range<u64>) -> (Arc<File>, Vec<Range<u64>>) {
        let mut runs: Vec<Range<u64>> = vec![];
        let free = |index: &u64| !self.ended && self.tree.get(*index).is_none() && !self.busy.contains(index);
        for index in wanted.filter(free) {
            match runs.last_mut() {
                Some(run) if run.end == index => run.end += 1,
                Some(_) | None => runs.push(index..index + 1),
            }
        }
        self.busy.extend(runs.iter().cloned().flatten());
        (Arc::clone(&self.handle), runs)
    }

    /// The hashes of a run of chunks, if all of them are there.
    pub(crate) fn hashes(&self, run: Range<u64>) -> Option<Vec<ChunkHash>> {
        run.map(|index| self.tree.get(index)).collect()
    }

    /// Whether the chunk is of an earlier run, and was not read since.
    pub(crate) fn is_resumed(&self, index: u64) -> bool {
        self.resumed.contains(&index)
    }

    /// Notes that chunks were read and are what was recorded.
    pub(crate) fn found_right(&mut self, run: &Range<u64>) {
        for index in run.clone() {
            self.resumed.remove(&index);
        }
    }

    /// Takes chunks away, and begins another epoch.
    pub(crate) fn take_away(&mut self, indices: &[u64]) {
        for index in indices {
            self.tree.remove(*index);
            self.resumed.remove(index);
            self.pieces.iter_mut().for_each(|pieces| pieces.loses(*index));
        }
        self.epoch += 1;
        self.fed = 0;
        self.kept.clear();
    }

    /// Lets nothing more be written; whether that was so before.
    pub(crate) fn end(&mut self) -> bool {
        self.kept.clear();
        std::mem::replace(&mut self.ended, true)
    }
}

impl Shared {
    /// Begins a file without any chunk; what an earlier one left is dropped.
    fn begin(&self, key: &FileKey, layout: ChunkLayout) -> Result<Chunks, StoreError> {
        self.drop_partial(key)?;
        let name = file_name(key);
        let make = || {
            let file = self.disk.create(&self.home, &name)?;
            self.disk.set_len(&file, layout.size())?;
            Ok(file)
        };
        let file = make().map_err(|error| self.home.fault(&name, error))?;
        self.index.put(Row::Partial(*key), &PartialRow { size: layout.size(), sealed_as: None })?;
        Ok(Chunks::new(file, ChunkTree::new(layout)))
    }

    /// Takes up a file with the chunks that were recorded.
    fn resume(&self, key: &FileKey, layout: ChunkLayout) -> Result<Chunks, StoreError> {
        let name = file_name(key);
        let fail = |error| self.home.fault(&name, error);
        self.groups.take_back(*key);
        self.index.put(Row::Partial(*key), &PartialRow { size: layout.size(), sealed_as: None })?;
        let mut tree = ChunkTree::new(layout);
        for row in self.index.chunks::<ChunkRow>(key) {
            let (index, row) = row?;
            tree.insert(index, ChunkHash(row.hash));
        }
        let old = self.home.file(&name, false)?;
        if self.home.status(&name)?.is_some_and(|status| status.has_other_links) {
            self.own_inode(&name, &old, &tree)?;
        } else {
            self.disk.set_mode(&old, 0o600, None).map_err(fail)?;
        }
        let file = self.home.file(&name, true)?;
        if file.metadata().map_err(fail)?.len() != layout.size() {
            self.disk.set_len(&file, layout.size()).map_err(fail)?;
        }
        let mut chunks = Chunks::new(file, tree);
        chunks.resumed = (0..layout.count()).filter(|index| chunks.tree.get(*index).is_some()).collect();
        Ok(chunks)
    }

    /// Gives the file an inode of its own, with the chunks that are there.
    fn own_inode(&self, name: &str, old: &File, tree: &ChunkTree) -> Result<(), StoreError> {
        let temp = self.write_temp(&[])?;
        let copy = || {
            let held = self.home.file(&temp, false)?;
            self.disk.set_mode(&held, 0o600, None).map_err(|error| self.home.fault(&temp, error))?;
            let new = self.home.file(&temp, true)?;
            let fill = || {
                self.disk.set_len(&new, tree.layout().size())?;
                for index in (0..tree.layout().count()).filter(|index| tree.get(*index).is_some()) {
                    let place = tree.layout().bytes(index, index + 1);
                    self.disk.write_at(&new, &read(&self.buffers, old, &place)?, place.start)?;
                }
                self.disk.rename((&self.home, &temp), (&self.home, name))
            };
            fill().map_err(|error| self.home.fault(name, error).needing(tree.layout().size()))
        };
        copy().inspect_err(|_| self.drop_temp(&temp))
    }

    /// Removes a partial file: the rows of its chunks, its own, then the file.
    pub(crate) fn drop_partial(&self, key: &FileKey) -> Result<(), StoreError> {
        self.groups.take_back(*key);
        self.drop_partial_rows(key)?;
        self.remove_file(&file_name(key))
    }

    pub(crate) fn drop_partial_rows(&self, key: &FileKey) -> Result<(), StoreError> {
        while self.drop_some_chunk_rows(key)? > 0 {}
        self.index.remove(Row::Partial(*key))
    }

    /// Removes rows of chunks, and returns how many: none when none is left.
    pub(crate) fn drop_some_chunk_rows(&self, key: &FileKey) -> Result<usize, StoreError> {
        let rows = self.index.chunks::<ChunkRow>(key).take(ROWS_AT_A_TIME);
        let indices: Vec<u64> = rows.map(|row| row.map(|(index, _)| index)).collect::<Result<_, _>>()?;
        indices.iter().try_for_each(|index| self.index.remove(Row::Chunk(*key, *index)))?;
        Ok(indices.len())
    }
}

impl Chunks {
    fn new(file: File, tree: ChunkTree) -> Self {
        // What follows a chunk that is read is often still a hole, of which the kernel would make pages. That it may not do
        // without this advice is no fault.
        let _ = rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::Random);
        let (busy, resumed, kept) = (HashSet::new(), HashSet::new(), BTreeMap::new());
        Self { handle: Arc::new(file), tree, busy, resumed, epoch: 0, fed: 0, kept, pieces: None, sealing: false, ended: false }
    }
}

/// The file of what is coming under `key`.
pub(crate) fn file_name(key: &FileKey) -> String {
    format!("partial/{key}")
}
