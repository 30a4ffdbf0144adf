//! The exchange of chunks: questions over one long stream to a peer, answered in their order.
//!
//! | file | |
//! |---|---|
//! | `frame` | what is on the wire |
//! | `ask` | the side that asks: one task a link |
//! | `fetched` | what the asker holds: a stream of pieces, cancelled by dropping it |
//! | `queue` | what pieces take up until they are taken |
//! | `serve` | the side that answers: one task a stream |
//! | `upload` | what the answering node holds: a place to put pieces |
//!
//! Bytes go from the libp2p stream to the caller and back without passing the event loop. Hashes are the caller's to check;
//! the shape of what comes, and signatures, are checked here.

mod ask;
mod fetched;
mod frame;
mod queue;
mod serve;
mod upload;

use std::ops::Range;

use bytes::Bytes;
use larder_content::{CHUNK_BYTES, Claim, ContentId, FileKey};

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use ask::fuzzing::read_answers;
pub(crate) use ask::{Asker, ask_all};
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use fetched::Part;
pub use fetched::{ChunkStream, Signs};
pub(crate) use fetched::{hashes_of, pieces_of};
#[cfg(test)]
pub(crate) use frame::{AnswerRecord, AskRecord};
pub(crate) use queue::Queue;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use serve::read_asks;
pub(crate) use serve::{UPLOADS_A_PEER, UPLOADS_AT_ONCE, serve};
pub use upload::{Gone, Upload, Wanted};

/// The most chunks that one question may be for.
pub(crate) const MOST_CHUNKS: u64 = 64;
/// The most chunks in a piece.
pub const PIECE_CHUNKS: u64 = 4;
/// The most bytes in a piece.
pub(crate) const PIECE_BYTES: usize = (PIECE_CHUNKS * CHUNK_BYTES) as usize;
/// The most chunk hashes that one question may be for.
pub(crate) const MOST_HASHES: u64 = 16_384;
/// The most rows of pieces that one question may be for.
pub(crate) const MOST_ROWS: u64 = 16_384;
/// The most questions to a peer that wait for their answer's end.
pub(crate) const MOST_ASKS: usize = 256;

/// A question for a run of chunks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChunkRequest {
    /// The file.
    pub file: FileKey,
    /// The content that it should be, if that is known.
    pub content: Option<ContentId>,
    /// Which chunks: 1 to 64.
    pub chunks: Range<u64>,
}

/// A run of 1 to 4 chunks: whole ones, but for the file's last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// The first chunk.
    pub first: u64,
    /// The bytes, at most 1 MiB, not yet checked against any hash.
    pub bytes: Bytes,
    /// Who read it from the origin: signed for this market and file, and for all chunks of the piece.
    pub claim: Option<Claim>,
    /// The content that the sender takes the file to be.
    pub content: Option<ContentId>,
}

impl Piece {
    /// The chunks it holds.
    #[must_use]
    pub fn chunks(&self) -> Range<u64> {
        self.first..self.first.saturating_add((self.bytes.len() as u64).div_ceil(CHUNK_BYTES))
    }

    /// Whether it may be sent as an answer to a question for `wanted`.
    pub(crate) fn fits(&self, wanted: &Range<u64>) -> bool {
        let chunks = self.chunks();
        let covered = |claim: &Claim| {
            let of = claim.chunks();
            claim.hashes.len() <= Claim::MAX_CHUNKS && of.start <= chunks.start && chunks.end <= of.end
        };
        !self.bytes.is_empty()
            && self.bytes.len() <= PIECE_BYTES
            && wanted.start <= chunks.start
            && chunks.end <= wanted.end
            && self.claim.as_ref().is_none_or(covered)
    }
}

/// Why a peer gave nothing, or not all.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FetchError {
    /// There is no connection, or the question cannot be asked.
    #[error("the peer is not connected")]
    Unreachable,
    /// It does not have it, or does not give it.
    #[error("the peer refused")]
    Refused,
    /// The connection ended in the middle; it may be nobody's fault.
    #[error("the connection broke: {0}")]
    Broken(String),
    /// It broke the rules: do not ask it again.
    #[error("the peer lied: {0}")]
    Lied(String),
}
