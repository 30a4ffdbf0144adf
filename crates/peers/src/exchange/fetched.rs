//! What an asker holds: the pieces of one answer, as they come.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use larder_content::ChunkHash;
use tokio::sync::{Notify, mpsc};

use super::queue::Place;
use super::{FetchError, Piece};

/// One part of an answer.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "nearly all parts are pieces")]
pub(crate) enum Part {
    Piece {
        piece: Piece,
        /// The room that it has while it waits.
        _place: Option<Place>,
    },
    Hashes(Vec<ChunkHash>),
    /// All was said: without it, the connection broke.
    End,
}

/// The answer to one question. Dropping it tells the peer to stop.
#[derive(Debug)]
pub struct ChunkStream {
    pub(super) parts: Option<mpsc::Receiver<Result<Part, FetchError>>>,
    pub(super) received: Arc<AtomicU64>,
    pub(super) cancelled: Arc<Notify>,
}

impl ChunkStream {
    /// The next piece; none when the answer has ended, which may be before all chunks came.
    pub async fn next(&mut self) -> Option<Result<Piece, FetchError>> {
        match self.next_part().await? {
            Ok(Part::Piece { piece, .. }) => Some(Ok(piece)),
            Ok(Part::End) => None,
            Ok(Part::Hashes(_)) => Some(Err(FetchError::Lied("hashes that were not asked for".into()))),
            Err(error) => Some(Err(error)),
        }
    }

    /// The payload bytes that came so far, those of unfinished pieces too: to be watched from elsewhere. Grows also while what came waits
    /// because this node takes too little.
    #[must_use]
    pub fn counter(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.received)
    }

    async fn next_part(&mut self) -> Option<Result<Part, FetchError>> {
        match self.parts.as_mut()?.recv().await {
            Some(Ok(part @ (Part::Piece { .. } | Part::Hashes(_)))) => Some(Ok(part)),
            Some(Ok(Part::End)) => {
                self.parts = None;
                None
            }
            Some(Err(error)) => {
                self.parts = None;
                Some(Err(error))
            }
            None => {
                self.parts = None;
                Some(Err(FetchError::Broken("the peer left".into())))
            }
        }
    }
}

impl Drop for ChunkStream {
    fn drop(&mut self) {
        // The channel must be closed before the asking task looks which ones are.
        self.parts = None;
        self.cancelled.notify_one();
    }
}

/// The hashes of an answer to a question for them.
pub(crate) async fn hashes_of(mut answer: ChunkStream) -> Result<Vec<ChunkHash>, FetchError> {
    match answer.next_part().await {
        Some(Ok(Part::Hashes(hashes))) => Ok(hashes),
        Some(Ok(Part::Piece { .. } | Part::End)) => Err(FetchError::Lied("chunks that were not asked for".into())),
        Some(Err(error)) => Err(error),
        None => Err(FetchError::Refused),
    }
}
