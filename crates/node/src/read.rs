//! One read: a range of a file from its origin into the store.

use std::ops::Range;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use futures::future::BoxFuture;
use larder_content::{CHUNK_BYTES, ChunkLayout, OriginFile, Resource, VerifiedChunks};
use larder_origin::{Access, OriginError, Origins};
use larder_store::{Partial, SealError, Store, StoreError};
use tokio::task::JoinHandle;

use crate::fetch::FetchError;

/// Chunks that are hashed and written together: 1 MiB. A read holds at most two such slabs in memory.
const SLAB_CHUNKS: u64 = 4;

/// What is read, and with what rights.
#[derive(Clone)]
pub(crate) struct Source {
    pub(crate) origins: Arc<Origins>,
    pub(crate) resource: Arc<Resource>,
    pub(crate) file: Arc<OriginFile>,
    pub(crate) access: Access,
}

impl Source {
    async fn open(&self, range: Range<u64>) -> Result<larder_origin::ByteStream, OriginError> {
        self.origins.read(&self.resource, &self.file, range, self.access).await
    }

    /// Reads one byte: whether it may be read at all.
    pub(crate) async fn probe(&self) -> Result<(), OriginError> {
        let mut stream = self.open(0..self.file.size.min(1)).await?;
        stream.next().await.transpose().map(|_| ())
    }

    /// Reads a file of at most one slab whole, and seals it.
    pub(crate) async fn read_whole(&self, store: Store, scope: larder_content::Scope) -> Result<larder_store::Blob, ReadError> {
        let mut stream = self.open(0..self.file.size).await?;
        let mut slab = BytesMut::with_capacity(usize::try_from(self.file.size).unwrap_or_default());
        while let Some(bytes) = stream.next().await {
            slab.extend_from_slice(&bytes?);
        }
        let (file, bytes) = (self.file.clone(), slab.freeze());
        let sealed = tokio::task::spawn_blocking(move || {
            let chunks = VerifiedChunks::read_from_origin(ChunkLayout::new(file.size), 0, bytes).map_err(|error| defect(&error))?;
            Ok(store.put(&file, scope, &chunks)?)
        });
        sealed.await.map_err(|panic| defect(&panic))?
    }

    /// Reads chunks of a large file into its partial file; `arrived` is told how many more are there.
    pub(crate) async fn read_range(
        &self,
        partial: Partial,
        chunks: Range<u64>,
        mut arrived: impl FnMut(u64) -> BoxFuture<'static, ()> + Send,
    ) -> Result<(), ReadError> {
        let layout = ChunkLayout::new(self.file.size);
        let range = layout.bytes(chunks.start, chunks.end);
        let mut stream = self.open(range.clone()).await?;
        let mut next = chunks.start;
        let mut writing: Option<Writing> = None;
        let (mut rest, mut spare) = (Bytes::new(), BytesMut::new());
        let mut ended = Ok(());
        while next < chunks.end && ended.is_ok() {
            let slab_end = (next + SLAB_CHUNKS).min(chunks.end);
            let wanted = length(layout.bytes(next, slab_end));
            let mut slab = std::mem::take(&mut spare);
            slab.reserve(wanted);
            while slab.len() < wanted {
                if rest.is_empty() {
                    match stream.next().await {
                        Some(Ok(bytes)) => rest = bytes,
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
            spare = finish(&mut writing, &mut arrived).await?;
            if slab.is_empty() {
                break;
            }
            let count = (slab.len() as u64).div_ceil(CHUNK_BYTES);
            writing = Some(Writing { task: write(partial.clone(), layout, next, slab.freeze()), count });
            next += count;
        }
        finish(&mut writing, &mut arrived).await?;
        ended
    }
}

/// A slab that is being hashed and written.
struct Writing {
    /// Gives back the slab's memory.
    task: JoinHandle<Result<BytesMut, ReadError>>,
    count: u64,
}

/// Waits for the slab that is being written, tells that it has arrived, and returns its memory for the next.
async fn finish(writing: &mut Option<Writing>, arrived: &mut impl FnMut(u64) -> BoxFuture<'static, ()>) -> Result<BytesMut, ReadError> {
    let Some(Writing { task, count }) = writing.take() else { return Ok(BytesMut::new()) };
    let memory = task.await.map_err(|panic| defect(&panic))??;
    arrived(count).await;
    Ok(memory)
}

/// Hashes and writes a slab beside the reading of the next.
fn write(partial: Partial, layout: ChunkLayout, first: u64, bytes: Bytes) -> JoinHandle<Result<BytesMut, ReadError>> {
    tokio::task::spawn_blocking(move || {
        let chunks = VerifiedChunks::read_from_origin(layout, first, bytes.clone()).map_err(|error| defect(&error))?;
        partial.write(&chunks)?;
        drop(chunks);
        let mut memory = bytes.try_into_mut().unwrap_or_default();
        memory.clear();
        Ok(memory)
    })
}

fn length(range: Range<u64>) -> usize {
    usize::try_from(range.end - range.start).unwrap_or(usize::MAX)
}

/// The bytes of the whole chunks among so many: a part of a chunk cannot be kept.
fn whole_chunks(bytes: usize) -> usize {
    bytes - bytes % length(0..CHUNK_BYTES)
}

fn defect(error: &dyn std::fmt::Display) -> ReadError {
    ReadError::Final(FetchError::Defect(error.to_string()))
}

/// How a read failed.
#[derive(Debug)]
pub(crate) enum ReadError {
    /// At its origin: the engine decides what follows.
    Origin(OriginError),
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
