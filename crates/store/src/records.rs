//! What the index and the lease files hold, as it is encoded.

use std::collections::BTreeSet;

use larder_content::codec::Record;
use larder_content::{Algorithm, ContentId, FileKey, ProofKind};
use serde::{Deserialize, Serialize};

use crate::blobs::BlobName;
use crate::folder::Fingerprint;

/// The state of the whole store. Its version is that of the names of all rows too: an index of another one is made anew.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct StateRow {
    /// The first sync group of the process that wrote this.
    pub(crate) first_group: u64,
    /// All groups up to this one would survive a power cut.
    pub(crate) synced: u64,
    /// The run of the operating system it was written in.
    pub(crate) boot: String,
    /// Whether the process ended in good order.
    pub(crate) clean: bool,
}

/// A blob.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct BlobRow {
    /// The file as it was when its bytes were last known to be right.
    pub(crate) fingerprint: Fingerprint,
    /// When it was last written or leased, in seconds since 1970.
    pub(crate) used: u64,
    /// The sync group it was written in.
    pub(crate) group: u64,
    /// Whether no key is bound to it: it was found on disk after the index was lost.
    pub(crate) keyless: bool,
}

/// What a key is bound to, and by which proof.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct KeyRow {
    pub(crate) name: NameRecord,
    pub(crate) proof: ProofRecord,
}

/// That a key is bound to a blob, seen from the blob.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct OwnedKeyRow;

/// A file that is still coming.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct PartialRow {
    pub(crate) size: u64,
    /// What it became, or was about to: what is left of it goes once that would survive a power cut.
    pub(crate) sealed_as: Option<SealedRecord>,
}

/// The blob that a partial file became, and the key that leads to it. Both are named: a key may lead to another blob before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SealedRecord {
    pub(crate) key: [u8; 32],
    pub(crate) name: NameRecord,
}

/// A chunk of a file that is still coming.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ChunkRow {
    pub(crate) hash: [u8; 32],
    pub(crate) group: u64,
}

/// The group of copies that could not be looked at after a power cut: no sync ever covers it. They can be removed, as what was
/// laid here, but are not kept when their tree is laid again.
pub(crate) const UNSEEN_GROUP: u64 = u64::MAX;

/// A file that was laid as a copy, so that only this row tells that it is right.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct CopyRow {
    pub(crate) content: [u8; 32],
    pub(crate) fingerprint: Fingerprint,
    pub(crate) group: u64,
}

/// A resource that was prepared here.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ResourceRow {
    pub(crate) id: String,
    pub(crate) address: String,
    pub(crate) bytes: u64,
    pub(crate) files: u64,
    pub(crate) public: bool,
    pub(crate) used: u64,
}

/// A [`ResourceRow`] of version 1, which does not know what is public: so it is not.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct PrivateResourceRow {
    pub(crate) id: String,
    pub(crate) address: String,
    pub(crate) bytes: u64,
    pub(crate) files: u64,
    pub(crate) used: u64,
}

/// Where the bytes of a resource came from.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct AccountRow {
    pub(crate) resource: String,
    pub(crate) cache: u64,
    pub(crate) peers: u64,
    pub(crate) origin: u64,
    /// Grows with each change of any account.
    pub(crate) turn: u64,
}

/// How many bytes were given to peers.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ServedRow {
    pub(crate) bytes: u64,
}

/// What is known of the peers of a market.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct PeersRow {
    pub(crate) market: String,
    pub(crate) book: Vec<u8>,
}

/// A lease, as its file holds it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct LeaseRecord {
    pub(crate) job: String,
    pub(crate) created: u64,
    pub(crate) expires: u64,
    pub(crate) blobs: BTreeSet<NameRecord>,
    pub(crate) trees: Vec<TreeRecord>,
}

/// A tree of a lease.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct TreeRecord {
    pub(crate) root: Vec<u8>,
    pub(crate) path: Vec<u8>,
    pub(crate) files: Vec<String>,
    pub(crate) writable: bool,
}

/// What is kept of a listing beside the manifest.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ListingRecord {
    pub(crate) address: String,
    pub(crate) id: String,
    pub(crate) pinned: bool,
    pub(crate) private: bool,
    /// Seconds since 1970.
    pub(crate) listed: u64,
}

/// A [`BlobName`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct NameRecord {
    pub(crate) content: [u8; 32],
    pub(crate) private_key: Option<[u8; 32]>,
}

/// A [`ProofKind`].
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) enum ProofRecord {
    None,
    Xet,
    GitSha1,
    Whole(AlgorithmRecord),
    Parts(AlgorithmRecord),
}

/// An [`Algorithm`].
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) enum AlgorithmRecord {
    Md5,
    Sha1,
    Sha256,
    Crc32,
    Crc32C,
    Crc64Nvme,
}

/// Room for any record of a fixed size.
const SMALL_BYTES: usize = 512;
/// Room for a lease of a million files with long paths.
const LEASE_BYTES: usize = 256 * 1024 * 1024;
/// Room for addresses, whose length their origin bounds.
const NAMED_BYTES: usize = 64 * 1024;
/// Room for some thousands of peers with their addresses.
const BOOK_BYTES: usize = 16 * 1024 * 1024;

macro_rules! records {
    ($($record:ty: $version:expr, $limit:expr;)*) => {
        $(impl Record for $record {
            const VERSION: u8 = $version;
            const LIMIT_BYTES: usize = $limit;
        })*
    };
}

records! {
    StateRow: 2, SMALL_BYTES;
    BlobRow: 1, SMALL_BYTES;
    KeyRow: 1, SMALL_BYTES;
    OwnedKeyRow: 1, SMALL_BYTES;
    PartialRow: 1, SMALL_BYTES;
    ChunkRow: 1, SMALL_BYTES;
    CopyRow: 1, SMALL_BYTES;
    ResourceRow: 2, NAMED_BYTES;
    PrivateResourceRow: 1, NAMED_BYTES;
    AccountRow: 1, NAMED_BYTES;
    ServedRow: 1, SMALL_BYTES;
    PeersRow: 1, BOOK_BYTES;
    ListingRecord: 1, NAMED_BYTES;
    LeaseRecord: 2, LEASE_BYTES;
}

impl From<PrivateResourceRow> for ResourceRow {
    fn from(row: PrivateResourceRow) -> Self {
        let PrivateResourceRow { id, address, bytes, files, used } = row;
        Self { id, address, bytes, files, public: false, used }
    }
}

impl From<BlobName> for NameRecord {
    fn from(name: BlobName) -> Self {
        match name {
            BlobName::Public(content) => Self { content: content.0, private_key: None },
            BlobName::Private { key, content } => Self { content: content.0, private_key: Some(key.0) },
        }
    }
}

impl From<NameRecord> for BlobName {
    fn from(name: NameRecord) -> Self {
        let content = ContentId(name.content);
        name.private_key.map_or(Self::Public(content), |key| Self::Private { key: FileKey(key), content })
    }
}

impl From<ProofKind> for ProofRecord {
    fn from(kind: ProofKind) -> Self {
        match kind {
            ProofKind::None => Self::None,
            ProofKind::Xet => Self::Xet,
            ProofKind::GitSha1 => Self::GitSha1,
            ProofKind::Whole(algorithm) => Self::Whole(algorithm.into()),
            ProofKind::Parts(algorithm) => Self::Parts(algorithm.into()),
        }
    }
}

impl From<ProofRecord> for ProofKind {
    fn from(kind: ProofRecord) -> Self {
        match kind {
            ProofRecord::None => Self::None,
            ProofRecord::Xet => Self::Xet,
            ProofRecord::GitSha1 => Self::GitSha1,
            ProofRecord::Whole(algorithm) => Self::Whole(algorithm.into()),
            ProofRecord::Parts(algorithm) => Self::Parts(algorithm.into()),
        }
    }
}

impl From<Algorithm> for AlgorithmRecord {
    fn from(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::Md5 => Self::Md5,
            Algorithm::Sha1 => Self::Sha1,
            Algorithm::Sha256 => Self::Sha256,
            Algorithm::Crc32 => Self::Crc32,
            Algorithm::Crc32C => Self::Crc32C,
            Algorithm::Crc64Nvme => Self::Crc64Nvme,
        }
    }
}

impl From<AlgorithmRecord> for Algorithm {
    fn from(algorithm: AlgorithmRecord) -> Self {
        match algorithm {
            AlgorithmRecord::Md5 => Self::Md5,
            AlgorithmRecord::Sha1 => Self::Sha1,
            AlgorithmRecord::Sha256 => Self::Sha256,
            AlgorithmRecord::Crc32 => Self::Crc32,
            AlgorithmRecord::Crc32C => Self::Crc32C,
            AlgorithmRecord::Crc64Nvme => Self::Crc64Nvme,
        }
    }
}
