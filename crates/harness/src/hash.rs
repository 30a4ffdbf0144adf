//! The content id of a file on disk, for comparison with `b3sum`: chunks are hashed as the store hashes them, on several
//! threads.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use anyhow::Context;
use bytes::Bytes;
use larder_content::{ChunkLayout, ChunkTree, ContentId, VerifiedChunks};

/// The chunks that a thread takes at a time.
const RUN_CHUNKS: u64 = 1;
/// Where a buffer begins: some processors copy to other places at half the speed.
const ALIGNMENT: usize = 64;

/// Hashes the file at `path` on so many threads.
pub(crate) fn content_id(path: &Path, threads: usize) -> anyhow::Result<ContentId> {
    let place = || path.display().to_string();
    let file = File::open(path).with_context(place)?;
    let layout = ChunkLayout::new(file.metadata().with_context(place)?.len());
    let tree = Mutex::new(ChunkTree::new(layout));
    let next = AtomicU64::new(0);
    std::thread::scope(|scope| {
        let started: Vec<_> = (0..threads).map(|_| scope.spawn(|| hash_runs(&file, layout, &next, &tree))).collect();
        started.into_iter().try_for_each(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })
    .with_context(place)?;
    let tree = tree.into_inner().unwrap_or_else(PoisonError::into_inner);
    tree.content_id().with_context(|| format!("{} was not read whole: there must be at least one thread", place()))
}

/// Takes runs of chunks until none is left.
fn hash_runs(file: &File, layout: ChunkLayout, next: &AtomicU64, tree: &Mutex<ChunkTree>) -> anyhow::Result<()> {
    let mut buffer: Vec<u8> = Vec::new();
    loop {
        let first = next.fetch_add(RUN_CHUNKS, Ordering::Relaxed);
        let place = layout.bytes(first, first + RUN_CHUNKS);
        if place.is_empty() {
            return Ok(());
        }
        let length = usize::try_from(place.end - place.start)?;
        buffer.resize(length + ALIGNMENT, 0);
        let start = buffer.as_ptr().align_offset(ALIGNMENT).min(ALIGNMENT);
        file.read_exact_at(&mut buffer[start..start + length], place.start)?;
        let bytes = Bytes::from(buffer);
        let chunks = VerifiedChunks::hashed(layout, first, bytes.slice(start..start + length))?;
        let mut tree = tree.lock().unwrap_or_else(PoisonError::into_inner);
        chunks.indices().zip(chunks.hashes()).for_each(|(index, hash)| tree.insert(index, *hash));
        drop((chunks, tree));
        // The only handle left: the memory is used again.
        buffer = bytes.into();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_that_of_the_bytes_whatever_the_number_of_threads() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        for size in [0, 1, 262_144, 262_145, 3_000_000] {
            let bytes: Vec<u8> = (0..size).map(|n: u32| (n * 31 % 251) as u8).collect();
            std::fs::write(&path, &bytes).unwrap();
            for threads in [1, 3] {
                assert_eq!(content_id(&path, threads).unwrap(), ContentId::of(&bytes), "{size} bytes");
            }
        }
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let error = content_id(Path::new("/nowhere/file"), 1).unwrap_err();
        assert!(error.to_string().contains("/nowhere/file"));
    }
}
