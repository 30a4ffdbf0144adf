//! What is on a bulk stream: the asker's frames one way, the answers' frames and their bytes the other.

use larder_content::codec::Record;
use larder_content::{ChunkHash, Claim, FileKey, NodeId};
use serde::{Deserialize, Serialize};

/// What the asker sends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum AskRecord {
    /// For chunks.
    Chunks { file: [u8; 32], content: Option<[u8; 32]>, first: u64, count: u64 },
    /// For the hashes of chunks.
    Hashes { file: [u8; 32], content: Option<[u8; 32]>, first: u64, count: u64 },
    /// For the pieces that a digest of the file is made of.
    Pieces { file: [u8; 32], first: u64, count: u64 },
    /// The answer to the question of this number, counted from 0 on the stream, is not wanted any more.
    Cancel { ask: u64 },
}

impl Record for AskRecord {
    const VERSION: u8 = 1;
    const LIMIT_BYTES: usize = 128;
}

/// What the answering node sends, for one question after the other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum AnswerRecord {
    /// So many bytes of the file follow.
    Piece { first: u64, bytes: u32, claim: Option<ClaimRecord>, content: Option<[u8; 32]> },
    /// So many hashes of 32 bytes follow.
    Hashes { count: u32 },
    /// So many rows of pieces follow, as they are encoded. Fewer than were asked for are the last.
    Pieces { count: u32 },
    /// That is all for this question.
    End,
    /// Nothing for this question.
    Refused,
}

impl Record for AnswerRecord {
    const VERSION: u8 = 1;
    const LIMIT_BYTES: usize = 1024;
}

/// A [`Claim`] beside its piece; the file is that of the question.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ClaimRecord {
    first: u64,
    hashes: Vec<[u8; 32]>,
    signer: [u8; 32],
    signature: ([u8; 32], [u8; 32]),
}

impl From<&Claim> for ClaimRecord {
    fn from(claim: &Claim) -> Self {
        let (mut left, mut right) = ([0; 32], [0; 32]);
        left.copy_from_slice(&claim.signature[..32]);
        right.copy_from_slice(&claim.signature[32..]);
        let hashes = claim.hashes.iter().map(|hash| hash.0).collect();
        Self { first: claim.first, hashes, signer: claim.signer.0, signature: (left, right) }
    }
}

impl ClaimRecord {
    pub(super) fn into_claim(self, file: FileKey) -> Claim {
        let mut signature = [0; 64];
        signature[..32].copy_from_slice(&self.signature.0);
        signature[32..].copy_from_slice(&self.signature.1);
        let hashes = self.hashes.into_iter().map(ChunkHash).collect();
        Claim { file, first: self.first, hashes, signer: NodeId(self.signer), signature }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use larder_content::codec;

    #[test]
    fn the_largest_answer_is_within_its_limit() {
        let claim = Claim {
            file: FileKey([1; 32]),
            first: u64::MAX - 16,
            hashes: vec![ChunkHash([255; 32]); Claim::MAX_CHUNKS],
            signer: NodeId([2; 32]),
            signature: [7; 64],
        };
        let record = AnswerRecord::Piece { first: u64::MAX, bytes: u32::MAX, claim: Some((&claim).into()), content: Some([9; 32]) };
        let bytes = codec::encode(&record).unwrap();
        assert_eq!(codec::decode::<AnswerRecord>(&bytes).unwrap(), record);
        assert_eq!(ClaimRecord::from(&claim).into_claim(claim.file), claim);
    }
}
