//! What an answering node holds: one question, and a place to put the answer.

use std::ops::Range;

use larder_content::{ChunkHash, ContentId, FileKey, PieceRow};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::Piece;

/// What a question is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// These chunks: 1 to 64.
    Chunks(Range<u64>),
    /// The hashes of these chunks: 1 to 16384.
    Hashes(Range<u64>),
    /// These of the pieces that a digest of the content is made of: 1 to 16384, of which not all may exist.
    Pieces(Range<u64>),
}

/// One part of the answer.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "nearly all parts are pieces")]
pub(super) enum Given {
    Piece(Piece),
    Hashes(Vec<ChunkHash>),
    Pieces(Vec<PieceRow>),
}

/// A peer's question. Dropped without a word, it is refused; dropped after some pieces, the answer ends there.
#[derive(Debug)]
pub struct Upload {
    /// For which file.
    pub file: FileKey,
    /// For which content, if the asker knows.
    pub content: Option<ContentId>,
    /// For what.
    pub wanted: Wanted,
    pub(super) answer: mpsc::Sender<Given>,
    pub(super) cancelled: CancellationToken,
}

/// The asker cancelled or left, or the piece is not what was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the asker is gone")]
pub struct Gone;

impl Upload {
    /// Completes when there is room for a piece: what is read before that only waits in memory.
    ///
    /// # Errors
    /// Fails when the asker cancelled or left: stop then.
    pub async fn room(&self) -> Result<(), Gone> {
        tokio::select! {
            biased;
            () = self.cancelled.cancelled() => Err(Gone),
            room = self.answer.reserve() => room.map(drop).map_err(|_| Gone),
        }
    }

    /// Sends a piece, once there is room for it. Pieces must be in order.
    ///
    /// # Errors
    /// Fails when the asker cancelled or left, or when the piece does not fit the question: stop then.
    pub async fn send(&mut self, piece: Piece) -> Result<(), Gone> {
        match &mut self.wanted {
            Wanted::Chunks(wanted) if piece.fits(wanted) => {}
            Wanted::Chunks(_) | Wanted::Hashes(_) | Wanted::Pieces(_) => return Err(Gone),
        }
        tokio::select! {
            biased;
            () = self.cancelled.cancelled() => Err(Gone),
            sent = self.answer.send(Given::Piece(piece)) => sent.map_err(|_| Gone),
        }
    }

    /// Sends the hashes that were asked for; if they are more or fewer, it refuses.
    pub async fn send_hashes(self, hashes: Vec<ChunkHash>) {
        let fits = match &self.wanted {
            Wanted::Hashes(wanted) => hashes.len() as u64 == wanted.end - wanted.start,
            Wanted::Chunks(_) | Wanted::Pieces(_) => false,
        };
        if fits {
            let _ = self.answer.send(Given::Hashes(hashes)).await;
        }
    }

    /// Sends those that there are of the pieces that were asked for; if they are none, or more, it refuses.
    pub async fn send_pieces(self, pieces: Vec<PieceRow>) {
        let fits = match &self.wanted {
            Wanted::Pieces(wanted) => !pieces.is_empty() && pieces.len() as u64 <= wanted.end - wanted.start,
            Wanted::Chunks(_) | Wanted::Hashes(_) => false,
        };
        if fits {
            let _ = self.answer.send(Given::Pieces(pieces)).await;
        }
    }

    /// Says that there is no answer.
    pub fn refuse(self) {
        drop(self);
    }

    /// Completes when the asker cancelled or left.
    pub async fn gone(&self) {
        tokio::select! {
            () = self.cancelled.cancelled() => {}
            () = self.answer.closed() => {}
        }
    }
}
