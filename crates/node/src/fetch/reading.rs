//! One read from the origin, and what others are told of it.

use std::ops::Range;
use std::sync::Arc;

use futures::future::BoxFuture;
use larder_content::{ChunkLayout, FileKey, VerifiedChunks};
use larder_engine::ReadId;
use larder_store::Partial;
use tokio::sync::mpsc;

use super::active::Supply;
use super::driver::Report;
use super::shared::SharedFile;
use crate::read::{ReadError, Source};

/// One read of a large file.
pub(super) struct Reading {
    pub(super) key: FileKey,
    pub(super) read: ReadId,
    pub(super) reading: u64,
    pub(super) chunks: Range<u64>,
    pub(super) reporter: mpsc::Sender<Report>,
}

impl Reading {
    /// Reads from the origin, and reports.
    pub(super) async fn run(self, source: Source, partial: Partial, shared: Option<Arc<SharedFile>>) {
        let (key, read, reporter) = (self.key, self.read, self.reporter.clone());
        let result = self.carry_out(source, partial, shared).await.map(|()| None);
        // The receiver outlives the runtime's tasks, but for a shutdown.
        let _ = reporter.send(Report::Ended { key, read, result }).await;
    }

    async fn carry_out(self, source: Source, partial: Partial, shared: Option<Arc<SharedFile>>) -> Result<(), ReadError> {
        let Self { key, read, reading, chunks, reporter } = self;
        let mut next = chunks.start;
        let layout = ChunkLayout::new(source.file.size);
        let told = reporter.clone();
        let into = partial.clone();
        let wrote = move |chunks: &VerifiedChunks| {
            if let Some(content) = shared.as_ref().and_then(|shared| shared.read_own(&into, chunks)) {
                let _ = told.blocking_send(Report::Contradicted { key, reading, content });
            }
            // It may end a piece that a peer began. That it cannot be read back is found at the seal.
            let wrong = into.check_pieces(chunks).ok().flatten().into_iter().flatten().next();
            wrong.into_iter().for_each(|place| drop(told.blocking_send(Report::Doubted { key, reading, place })));
        };
        let arrived = |count| -> BoxFuture<'static, ()> {
            let bytes = layout.bytes(next, next + count);
            next += count;
            let report = Report::Arrived { key, read, chunks: count, bytes: bytes.end - bytes.start, supply: Supply::Origin };
            let reporter = reporter.clone();
            Box::pin(async move { drop(reporter.send(report).await) })
        };
        source.read_range(partial, chunks, wrote, arrived).await
    }
}
