//! What the nodes of a market tell each other of what they hold and fetch.
//!
//! These are the words; who says them is known from the connection they came over. Only a [`Claim`] is passed on by others than
//! its author, so it alone carries a signature.

use std::fmt;
use std::ops::Range;

use crate::{ChunkHash, ContentId, FileKey};

/// A node of a market: its Ed25519 public key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub [u8; 32]);

/// What stands before the key in a libp2p peer id: an identity multihash of 36 bytes, and in it a key of 32 bytes of the kind
/// Ed25519. Source: the libp2p peer id specification.
const PEER_ID_PREFIX: [u8; 6] = [0x00, 0x24, 0x08, 0x01, 0x12, 0x20];

impl NodeId {
    /// Reads a libp2p peer id of an Ed25519 key, such as `12D3KooW…`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::from_peer_id(&bs58::decode(text).into_vec().ok()?)
    }

    /// Takes the key out of a libp2p peer id, if it is an Ed25519 one.
    #[must_use]
    pub fn from_peer_id(bytes: &[u8]) -> Option<Self> {
        bytes.strip_prefix(&PEER_ID_PREFIX)?.try_into().ok().map(Self)
    }

    /// The bytes of the libp2p peer id.
    #[must_use]
    pub fn to_peer_id(self) -> [u8; 38] {
        let mut bytes = [0; 38];
        let (prefix, key) = bytes.split_at_mut(PEER_ID_PREFIX.len());
        prefix.copy_from_slice(&PEER_ID_PREFIX);
        key.copy_from_slice(&self.0);
        bytes
    }
}

impl fmt::Display for NodeId {
    /// Writes the libp2p peer id.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&bs58::encode(self.to_peer_id()).into_string())
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NodeId({self})")
    }
}

/// What can be held or fetched, and so be asked for: a file, or a resource for all of its files.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Subject(pub [u8; 32]);

impl From<FileKey> for Subject {
    fn from(key: FileKey) -> Self {
        Self(key.0)
    }
}

impl Subject {
    /// A resource at its version, by the name it has in reports: `hf:models/org/name@<commit>`.
    #[must_use]
    pub fn of_resource(id: &str) -> Self {
        Self(blake3::derive_key("larder 2026 resource subject v1", id.as_bytes()))
    }
}

impl fmt::Debug for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Subject({})", hex::encode(&self.0[..6]))
    }
}

/// How a node stands to a subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Holding {
    /// It has all of it, proven.
    Complete,
    /// It is fetching it, and shares what it has by then.
    Fetching,
    /// It has nothing of it any more.
    Gone,
}

/// What a node tells another of one file that it fetches or holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileMessage {
    /// The file.
    pub file: FileKey,
    /// What it tells.
    pub body: FileWord,
}

/// The words for one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileWord {
    /// "I fetch it. Tell me what you have of it, now and when it grows."
    Follow,
    /// "I need not be told any more."
    Unfollow,
    /// "I have all of it, proven, and this is its content id": a binding.
    Complete(ContentId),
    /// "I take it to be this content, without proof so far, and can give the chunk hashes of that."
    Knows(ContentId),
    /// "I have these chunks more than I told before, and can show for each who read it from the origin or its place in the tree."
    Have(Vec<Range<u64>>),
    /// "These chunks, and no others, I am reading from the origin for all of us."
    Reading(Vec<Range<u64>>),
    /// "I have nothing of it and do not fetch it."
    Nothing,
}

/// A node's signed word for chunk hashes of a file whose content id nobody knows yet: "I read these from the origin".
///
/// It is made in the room of the peers, which signs and checks; elsewhere one that came in was checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// The file.
    pub file: FileKey,
    /// The first chunk.
    pub first: u64,
    /// The hashes of the chunks from there on: 1 to [`Claim::MAX_CHUNKS`].
    pub hashes: Vec<ChunkHash>,
    /// Who read them.
    pub signer: NodeId,
    /// The signer's Ed25519 signature of [`Claim::digest`].
    pub signature: [u8; 64],
}

impl Claim {
    /// The most chunks that one claim may hold: 4 MiB of the file.
    pub const MAX_CHUNKS: usize = 16;

    /// What is signed: the market, the file, the first chunk, and the hashes.
    #[must_use]
    pub fn digest(market: &str, file: FileKey, first: u64, hashes: &[ChunkHash]) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new_derive_key("larder 2026 claim v1");
        hasher.update(&(market.len() as u64).to_le_bytes());
        hasher.update(market.as_bytes()).update(&file.0).update(&first.to_le_bytes());
        for hash in hashes {
            hasher.update(&hash.0);
        }
        *hasher.finalize().as_bytes()
    }

    /// The chunks it is for.
    #[must_use]
    pub fn chunks(&self) -> Range<u64> {
        self.first..self.first.saturating_add(self.hashes.len() as u64)
    }

    /// The hashes of those of the chunks in `run` that it speaks of.
    #[must_use]
    pub fn run(&self, run: Range<u64>) -> &[ChunkHash] {
        let at = |chunk: u64| usize::try_from(chunk.saturating_sub(self.first)).unwrap_or(usize::MAX).min(self.hashes.len());
        self.hashes.get(at(run.start)..at(run.end)).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_written_as_the_peer_id_that_libp2p_knows() {
        // The first vector of the libp2p peer id specification is an Ed25519 key of this form.
        let text = "12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA";
        let node = NodeId::parse(text).unwrap();
        assert_eq!(node.to_string(), text);
        assert!(NodeId::parse("QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N").is_none());
        assert!(NodeId::parse("").is_none());
    }

    #[test]
    fn a_claim_is_of_one_market_file_and_place() {
        let (file, hashes) = (FileKey([1; 32]), [ChunkHash([2; 32])]);
        let one = Claim::digest("a", file, 3, &hashes);
        assert_ne!(one, Claim::digest("b", file, 3, &hashes));
        assert_ne!(one, Claim::digest("a", FileKey([9; 32]), 3, &hashes));
        assert_ne!(one, Claim::digest("a", file, 4, &hashes));
        assert_ne!(one, Claim::digest("a", file, 3, &[ChunkHash([3; 32])]));
    }
}
