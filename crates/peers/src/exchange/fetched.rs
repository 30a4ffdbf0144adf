//! What an asker holds: the pieces of one answer, as they come.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use larder_content::{ChunkHash, PieceRow};
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
    Pieces(Vec<PieceRow>),
    /// All was said: without it, the connection broke.
    End,
}

/// What shows that an answer goes on, to be watched from elsewhere.
#[derive(Debug, Default)]
pub struct Signs {
    pub(super) received: AtomicU64,
    pub(super) held_up: AtomicU64,
}

impl Signs {
    /// The payload bytes that came so far, those of unfinished pieces too.
    #[must_use]
    pub fn received_bytes(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// Grows while what its peer sends waits because this node takes too little.
    #[must_use]
    pub fn held_up(&self) -> u64 {
        self.held_up.load(Ordering::Relaxed)
    }
}

/// The answer to one question. Dropping it tells the peer to stop.
#[derive(Debug)]
pub struct ChunkStream {
    pub(super) parts: Option<mpsc::Receiver<Result<Part, FetchError>>>,
    pub(super) signs: Arc<Signs>,
    pub(super) cancelled: Arc<Notify>,
}

impl ChunkStream {
    /// The next piece; none when the answer has ended, which may be before all chunks came.
    pub async fn next(&mut self) -> Option<Result<Piece, FetchError>> {
        match self.next_part().await? {
            Ok(Part::Piece { piece, .. }) => Some(Ok(piece)),
            Ok(Part::End) => None,
            Ok(Part::Hashes(_) | Part::Pieces(_)) => Some(Err(FetchError::Lied("a list that was not asked for".into()))),
            Err(error) => Some(Err(error)),
        }
    }

    /// What shows that it goes on.
    #[must_use]
    pub fn signs(&self) -> Arc<Signs> {
        Arc::clone(&self.signs)
    }

    async fn next_part(&mut self) -> Option<Result<Part, FetchError>> {
        match self.parts.as_mut()?.recv().await {
            Some(Ok(part @ (Part::Piece { .. } | Part::Hashes(_) | Part::Pieces(_)))) => Some(Ok(part)),
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
        Some(Ok(Part::Piece { .. } | Part::Pieces(_) | Part::End)) => Err(FetchError::Lied("what was not asked for".into())),
        Some(Err(error)) => Err(error),
        None => Err(FetchError::Refused),
    }
}

/// The pieces of an answer to a question for them.
pub(crate) async fn pieces_of(mut answer: ChunkStream) -> Result<Vec<PieceRow>, FetchError> {
    match answer.next_part().await {
        Some(Ok(Part::Pieces(rows))) => Ok(rows),
        Some(Ok(Part::Piece { .. } | Part::Hashes(_) | Part::End)) => Err(FetchError::Lied("what was not asked for".into())),
        Some(Err(error)) => Err(error),
        None => Err(FetchError::Refused),
    }
}
