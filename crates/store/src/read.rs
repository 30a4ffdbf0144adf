//! Reads chunks back, of blobs and of files that are still coming, for whoever asks for them.
//!
//! Invariant: a blob that was touched since it was verified gives nothing before it is verified again, and a chunk of a coming file
//! that an earlier run recorded gives nothing before it was hashed.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, MutexGuard};

use bytes::Bytes;
use larder_content::{Buffers, ChunkHash, ChunkLayout, VerifiedChunks};

use crate::blobs::{Blob, BlobName};
use crate::folder::{Fingerprint, Status};
use crate::partial::{Partial, file_name};
use crate::recent::Recent;
use crate::{Shared, Store, StoreError, lock};

/// The most chunks that one call reads: 4 MiB.
pub const MOST_READ_CHUNKS: u64 = 16;
/// The most buffers that are remembered to be read into, for good: 1 MiB each where peers ask.
pub(crate) const BUFFERS: usize = 8;
/// The most files of blobs that are kept open to be read.
const OPEN_FILES: usize = 64;
/// How often a blob is tried that others link or release all the while.
const TRIES: usize = 8;
/// Bytes that are read at a time where a whole file is.
pub(crate) const READ_BYTES: u64 = 1 << 20;

/// The file of a blob, open.
#[derive(Debug, Clone)]
pub(crate) struct OpenBlob {
    file: Arc<File>,
    /// As it was when the bytes were last known to be right.
    fingerprint: Fingerprint,
}

/// The files of blobs that were read of late.
pub(crate) fn open_blobs() -> Recent<BlobName, OpenBlob> {
    Recent::new(OPEN_FILES, 0)
}

impl Store {
    /// The bytes of chunks of a blob: of those that it has, and at most of [`MOST_READ_CHUNKS`].
    ///
    /// If its file was touched since it was last verified, it is hashed again first.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] if the blob turns out not to be what it was: it is gone then. Also if it cannot be read.
    pub fn read_blob(&self, blob: &Blob, chunks: Range<u64>) -> Result<Bytes, StoreError> {
        let shared = &*self.shared;
        let (name, layout) = (blob.name(), ChunkLayout::new(blob.size()));
        let chunks = clamp(layout, chunks);
        let place = layout.bytes(chunks.start, chunks.end);
        let fail = |error| shared.home.fault(&name.file(), error);
        for _ in 0..TRIES {
            let known = lock(&shared.open_blobs).get(&name);
            let known = known.map_or_else(|| shared.open_blob(name), Ok)?;
            let bytes = read(&shared.buffers, &known.file, &place);
            // Afterwards: then it says as much of what was read as of what was there before.
            let status = rustix::fs::fstat(&known.file).map(Status::from).map_err(|error| fail(error.into()))?;
            if status.fingerprint == known.fingerprint {
                return bytes.map_err(fail);
            }
            lock(&shared.open_blobs).remove(&name);
        }
        Err(StoreError::Damaged { path: blob.path().into(), why: "it changes all the while; its bytes are not given out".into() })
    }
}

impl Shared {
    /// Opens a blob whose bytes are right, and keeps it open.
    fn open_blob(&self, name: BlobName) -> Result<OpenBlob, StoreError> {
        let guard = self.stripe(name);
        let Some(fingerprint) = self.checked(name, &guard)? else { return Err(self.not_as_it_was(name)) };
        let open = OpenBlob { file: Arc::new(self.home.file(&name.file(), false)?), fingerprint };
        lock(&self.open_blobs).put(name, open.clone(), 0);
        Ok(open)
    }

    /// Closes the file of a blob that goes, so that its blocks can be freed.
    pub(crate) fn close_blob(&self, name: BlobName, _guard: &MutexGuard<'_, ()>) {
        lock(&self.open_blobs).remove(&name);
    }

    /// The error for a blob that was dropped because it is not what it was.
    pub(crate) fn not_as_it_was(&self, name: BlobName) -> StoreError {
        StoreError::Damaged { path: self.home.path_of(&name.file()), why: "its file is gone or was changed".into() }
    }
}

impl Partial {
    /// The bytes of chunks with their hashes: of those that the file has, and at most of [`MOST_READ_CHUNKS`]. `None` if one of
    /// them is not there.
    ///
    /// Chunks of an earlier run are hashed first; one that is not what was recorded becomes missing again.
    ///
    /// # Errors
    /// If the file or the index cannot be read.
    pub fn read(&self, chunks: Range<u64>) -> Result<Option<(Bytes, Vec<ChunkHash>)>, StoreError> {
        let layout = self.coming.layout;
        let chunks = clamp(layout, chunks);
        let state = lock(&self.coming.chunks);
        let (handle, epoch) = (Arc::clone(&state.handle), state.epoch);
        let Some(hashes) = state.hashes(chunks.clone()) else { return Ok(None) };
        let resumed = chunks.clone().any(|index| state.is_resumed(index));
        drop(state);
        let bytes = read(&self.shared().buffers, &handle, &layout.bytes(chunks.start, chunks.end));
        let bytes = bytes.map_err(|error| self.shared().home.fault(&file_name(&self.coming.key), error))?;
        if resumed && let Err(wrong) = VerifiedChunks::check(layout, chunks.start, bytes.clone(), &hashes) {
            self.lose(wrong.index, epoch)?;
            return Ok(None);
        }
        let mut state = lock(&self.coming.chunks);
        if state.epoch != epoch {
            return Ok(None);
        }
        state.found_right(&chunks);
        Ok(Some((bytes, hashes)))
    }

    /// The hash of a chunk that is there.
    #[must_use]
    pub fn hash(&self, index: u64) -> Option<ChunkHash> {
        lock(&self.coming.chunks).tree.get(index)
    }

    /// The runs of chunks that are there, each `first..end`, in order.
    ///
    /// Those of an earlier run are there by its word, and checked when they are read.
    #[must_use]
    pub fn have(&self) -> Vec<Range<u64>> {
        let chunks = lock(&self.coming.chunks);
        let missing = chunks.tree.missing();
        let starts = [0].into_iter().chain(missing.iter().map(|run| run.end));
        let ends = missing.iter().map(|run| run.start).chain([self.coming.layout.count()]);
        starts.zip(ends).filter(|(start, end)| start < end).map(|(start, end)| start..end).collect()
    }
}

/// Those of `chunks` that a file has, and that one call reads.
fn clamp(layout: ChunkLayout, chunks: Range<u64>) -> Range<u64> {
    let start = chunks.start.min(layout.count());
    start..chunks.end.clamp(start, layout.count()).min(start + MOST_READ_CHUNKS)
}

/// Reads `place` of a file into one of `buffers`.
pub(crate) fn read(buffers: &Buffers, file: &File, place: &Range<u64>) -> io::Result<Bytes> {
    let length = usize::try_from(place.end - place.start).unwrap_or(usize::MAX);
    let mut buffer = buffers.take(length);
    file.read_exact_at(&mut buffer[..length], place.start)?;
    Ok(buffers.keep(buffer, length))
}

/// Reads the first `size` bytes of a file in order.
pub(crate) fn read_all(file: &File, size: u64, take: &mut dyn FnMut(Bytes)) -> io::Result<()> {
    let (mut at, buffers) = (0, Buffers::new(1));
    while at < size {
        let end = size.min(at + READ_BYTES);
        take(read(&buffers, file, &(at..end))?);
        at = end;
    }
    Ok(())
}
