//! One read: a range of a file from its origin into the store.

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use futures::future::BoxFuture;
use larder_content::{CHUNK_BYTES, ChunkHash, ChunkLayout, OriginFile, Resource, VerifiedChunks};
use larder_origin::{Access, OriginError, Origins};
use larder_store::{Partial, SealError, Store, StoreError};

use crate::fetch::FetchError;
use crate::pace::Pace;

/// Chunks that are hashed and written together: 1 MiB, which is what a read holds in memory.
const SLAB_CHUNKS: u64 = 4;
/// Chunks of a read that take longer than this, each, are written one by one, and so is the first: peers wait for them.
const SLOW_CHUNK: Duration = Duration::from_millis(100);

/// What is read, and with what rights.
#[derive(Clone)]
pub(crate) struct Source {
    pub(crate) origins: Arc<Origins>,
    pub(crate) resource: Arc<Resource>,
    pub(crate) file: Arc<OriginFile>,
    pub(crate) access: Access,
    pub(crate) pace: Option<Arc<Pace>>,
}

impl Source {
    async fn open(&self, range: Range<u64>) -> Result<larder_origin::ByteStream, OriginError> {
        self.origins.read(&self.resource, &self.file, range, self.access).await
    }

    /// Waits until bytes that came may be taken, if reads are kept below a rate.
    async fn keep_pace(&self, bytes: usize) {
        if let Some(pace) = &self.pace {
            pace.take(bytes).await;
        }
    }

    /// Reads one byte: whether it may be read at all.
    pub(crate) async fn probe(&self) -> Result<(), OriginError> {
        let mut stream = self.open(0..self.file.size.min(1)).await?;
        stream.next().await.transpose().map(|_| ())
    }

    /// Reads one piece of a file.
    pub(crate) async fn read_piece(&self, place: Range<u64>) -> Result<Bytes, OriginError> {
        let mut stream = self.open(place.clone()).await?;
        let mut piece = BytesMut::with_capacity(length(place));
        while let Some(bytes) = stream.next().await {
            let bytes = bytes?;
            self.keep_pace(bytes.len()).await;
            piece.extend_from_slice(&bytes);
        }
        Ok(piece.freeze())
    }

    /// Reads a file of at most one slab whole, and seals it.
    pub(crate) async fn read_whole(&self, store: Store, scope: larder_content::Scope) -> Result<larder_store::Blob, ReadError> {
        let mut stream = self.open(0..self.file.size).await?;
        let mut slab = BytesMut::with_capacity(usize::try_from(self.file.size).unwrap_or_default());
        while let Some(bytes) = stream.next().await {
            let bytes = bytes?;
            self.keep_pace(bytes.len()).await;
            slab.extend_from_slice(&bytes);
        }
        let (file, bytes) = (self.file.clone(), slab.freeze());
        let sealed = tokio::task::spawn_blocking(move || {
            let chunks = VerifiedChunks::hashed(ChunkLayout::new(file.size), 0, bytes).map_err(|error| defect(&error))?;
            Ok(store.put(&file, scope, &chunks)?)
        });
        sealed.await.map_err(|panic| defect(&panic))?
    }

    /// Reads chunks of a large file into its partial file. `wrote` is told of what is written before `arrived` is told how many
    /// more are there.
    pub(crate) async fn read_range(
        &self,
        partial: Partial,
        chunks: Range<u64>,
        wrote: impl Fn(&VerifiedChunks) + Clone + Send + 'static,
        mut arrived: impl FnMut(u64) -> BoxFuture<'static, ()> + Send,
    ) -> Result<(), ReadError> {
        let layout = ChunkLayout::new(self.file.size);
        let mut stream = self.open(layout.bytes(chunks.start, chunks.end)).await?;
        let mut next = chunks.start;
        let (mut rest, mut slab) = (Bytes::new(), BytesMut::new());
        let mut ended = Ok(());
        let mut together = 1;
        while next < chunks.end && ended.is_ok() {
            let began = Instant::now();
            let wanted = length(layout.bytes(next, (next + together).min(chunks.end)));
            slab.reserve(wanted);
            while slab.len() < wanted {
                if rest.is_empty() {
                    match stream.next().await {
                        Some(Ok(bytes)) => {
                            self.keep_pace(bytes.len()).await;
                            rest = bytes;
                        }
                        Some(Err(error)) => {
                            ended = Err(ReadError::Origin(error));
                            break;
                        }
                        None => break,
                    }
                }
                slab.extend_from_slice(&rest.split_to(rest.len().min(wanted - slab.len())));
            }
            if slab.len() < wanted {
                slab.truncate(whole_chunks(slab.len()));
            }
            if slab.is_empty() {
                break;
            }
            let count = (slab.len() as u64).div_ceil(CHUNK_BYTES);
            let took = began.elapsed();
            slab = write(partial.clone(), layout, next, slab.freeze(), wrote.clone()).await?;
            arrived(count).await;
            next += count;
            together = to_gather(next, took, together);
        }
        ended
    }
}

/// Hashes and writes a slab, and gives back its memory. The next one waits in the kernel meanwhile.
async fn write(
    partial: Partial,
    layout: ChunkLayout,
    first: u64,
    bytes: Bytes,
    wrote: impl FnOnce(&VerifiedChunks) + Send + 'static,
) -> Result<BytesMut, ReadError> {
    let written = tokio::task::spawn_blocking(move || {
        let chunks = VerifiedChunks::hashed(layout, first, bytes.clone()).map_err(|error| defect(&error))?;
        // What is there may be what a peer sent for it: the origin knows better.
        write_over(&partial, &chunks, |_| false)?;
        wrote(&chunks);
        follow(&partial);
        drop(chunks);
        let mut memory = bytes.try_into_mut().unwrap_or_default();
        memory.clear();
        Ok(memory)
    });
    written.await.map_err(|panic| defect(&panic))?
}

/// Writes chunks, in place of others that are there, but for those that are `kept`; gives which it replaced.
pub(crate) fn write_over(partial: &Partial, chunks: &VerifiedChunks, kept: impl Fn(u64) -> bool) -> Result<Vec<u64>, StoreError> {
    partial.write(chunks)?;
    let is_other = |(chunk, hash): &(u64, &ChunkHash)| !kept(*chunk) && partial.hash(*chunk).is_some_and(|there| there != **hash);
    let others: Vec<u64> = chunks.indices().zip(chunks.hashes()).filter(is_other).map(|(chunk, _)| chunk).collect();
    others.iter().try_for_each(|chunk| partial.forget(*chunk..chunk + 1))?;
    if !others.is_empty() {
        partial.write(chunks)?;
    }
    Ok(others)
}

/// Lets the proof follow what was written.
pub(crate) fn follow(partial: &Partial) {
    if let Err(error) = partial.advance() {
        // The seal comes upon the same error, and reports it.
        tracing::debug!(%error, "the proof cannot follow the download");
    }
}

/// How many chunks from `next` on to gather, if it took so long to gather some before: slabs end where the file's do.
fn to_gather(next: u64, took: Duration, gathered: u64) -> u64 {
    let slow = took.as_secs_f64() > SLOW_CHUNK.as_secs_f64() * gathered as f64;
    if slow { 1 } else { SLAB_CHUNKS - next % SLAB_CHUNKS }
}

fn length(range: Range<u64>) -> usize {
    usize::try_from(range.end - range.start).unwrap_or(usize::MAX)
}

/// The bytes of the whole chunks among so many: a part of a chunk cannot be kept.
fn whole_chunks(bytes: usize) -> usize {
    bytes - bytes % length(0..CHUNK_BYTES)
}

pub(crate) fn defect(error: &dyn std::fmt::Display) -> ReadError {
    ReadError::Final(FetchError::Defect(error.to_string()))
}

/// How a read failed.
#[derive(Debug)]
pub(crate) enum ReadError {
    /// At its origin: the engine decides what follows.
    Origin(OriginError),
    /// At a peer.
    Peer(larder_engine::Outcome),
    /// At the proof of a small file.
    Mismatch { mismatch: larder_content::Mismatch, content: larder_content::ContentId },
    /// Here: no use in asking the origin again.
    Final(FetchError),
}

impl From<OriginError> for ReadError {
    fn from(error: OriginError) -> Self {
        Self::Origin(error)
    }
}

impl From<StoreError> for ReadError {
    fn from(error: StoreError) -> Self {
        Self::Final(FetchError::Store(error))
    }
}

impl From<SealError> for ReadError {
    fn from(error: SealError) -> Self {
        match error {
            SealError::Mismatch { mismatch, content } => Self::Mismatch { mismatch, content },
            SealError::Store(error) => error.into(),
            SealError::Incomplete { missing } => Self::Final(FetchError::Defect(format!("{missing} chunks of a whole file are missing"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slow_chunks_are_written_one_by_one_and_fast_ones_in_slabs() {
        let (slow, fast) = (Duration::from_millis(401), Duration::from_millis(399));
        assert_eq!((to_gather(1, fast, 4), to_gather(4, fast, 4), to_gather(7, fast, 4)), (3, 4, 1));
        assert_eq!((to_gather(4, slow, 4), to_gather(5, fast, 1), to_gather(5, fast, 4)), (1, 1, 3));
    }
}
