//! What an origin says of a file's bytes, and how much that proves.

use std::fmt;

/// What the origin's metadata says of a file's bytes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum OriginDigest {
    /// A hash of the whole file: sha256 of HF LFS, a plain MD5 ETag, a full-object S3 checksum.
    Whole {
        /// The hash function.
        algorithm: Algorithm,
        /// Its output, of the algorithm's length.
        value: Vec<u8>,
    },
    /// A hash of the concatenated hashes of the parts: a multipart ETag, a composite S3 checksum.
    Parts {
        /// The hash function, of the parts as of the whole.
        algorithm: Algorithm,
        /// Its output, of the algorithm's length.
        value: Vec<u8>,
        /// How the file was cut.
        sizes: PartSizes,
    },
    /// The git blob id: SHA-1 of `blob <size>\0` before the bytes.
    GitSha1([u8; 20]),
    /// The Xet file hash: the root over content-defined pieces.
    Xet([u8; 32]),
}

/// How a multipart object was cut into parts.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum PartSizes {
    /// All parts but the last have this many bytes.
    Uniform {
        /// Bytes of every part but the last.
        bytes: u64,
    },
    /// Each part's size in bytes, in order.
    Listed(Vec<u64>),
    /// The origin told only how many parts there are: common sizes that fit are tried.
    Count(u32),
}

/// The hash functions that origins use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Algorithm {
    /// MD5, 16 bytes.
    Md5,
    /// SHA-1, 20 bytes.
    Sha1,
    /// SHA-256, 32 bytes.
    Sha256,
    /// CRC-32, 4 bytes, big endian.
    Crc32,
    /// CRC-32C, 4 bytes, big endian.
    Crc32C,
    /// CRC-64/NVME, 8 bytes, big endian.
    Crc64Nvme,
}

impl Algorithm {
    /// The output's length in bytes.
    #[must_use]
    pub fn bytes(self) -> usize {
        match self {
            Self::Md5 => 16,
            Self::Sha1 => 20,
            Self::Sha256 => 32,
            Self::Crc32 | Self::Crc32C => 4,
            Self::Crc64Nvme => 8,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Md5 => "md5",
            Self::Sha1 => "sha1",
            Self::Sha256 => "sha256",
            Self::Crc32 => "crc32",
            Self::Crc32C => "crc32c",
            Self::Crc64Nvme => "crc64nvme",
        }
    }
}

/// What a match proves against someone who would like other bytes to pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Strength {
    /// Nothing: anyone makes other bytes for it in a moment. It finds accidents.
    Accident,
    /// Only the file's author could have made two files for it, so it holds for one locator.
    OneLocator,
    /// Nobody can make other bytes for it, so it names the content wherever it lies.
    Content,
}

impl OriginDigest {
    /// A digest of the whole file.
    ///
    /// # Errors
    /// Fails if `value` has not the algorithm's length.
    pub fn whole(algorithm: Algorithm, value: &[u8]) -> Result<Self, ParseDigestError> {
        check_length(algorithm, value)?;
        Ok(Self::Whole { algorithm, value: value.to_vec() })
    }

    /// A digest of the parts' digests.
    ///
    /// # Errors
    /// Fails if `value` has not the algorithm's length.
    pub fn parts(algorithm: Algorithm, value: &[u8], sizes: PartSizes) -> Result<Self, ParseDigestError> {
        check_length(algorithm, value)?;
        Ok(Self::Parts { algorithm, value: value.to_vec(), sizes })
    }

    /// A git blob id of 40 hex digits.
    ///
    /// # Errors
    /// Fails on any other text.
    pub fn git_sha1(text: &str) -> Result<Self, ParseDigestError> {
        let mut value = [0; 20];
        hex::decode_to_slice(text, &mut value).map_err(|_| ParseDigestError::new(text))?;
        Ok(Self::GitSha1(value))
    }

    /// A sha256 of 64 hex digits.
    ///
    /// # Errors
    /// Fails on any other text.
    pub fn sha256(text: &str) -> Result<Self, ParseDigestError> {
        let value = hex::decode(text).map_err(|_| ParseDigestError::new(text))?;
        Self::whole(Algorithm::Sha256, &value)
    }

    /// A Xet file hash of 64 hex digits, in Xet's own order of digits.
    ///
    /// # Errors
    /// Fails on any other text.
    pub fn xet(text: &str) -> Result<Self, ParseDigestError> {
        crate::xet::parse_hash(text).map(Self::Xet).ok_or_else(|| ParseDigestError::new(text))
    }

    /// What a match with this digest proves.
    #[must_use]
    pub fn strength(&self) -> Strength {
        let of = |algorithm| match algorithm {
            Algorithm::Sha256 => Strength::Content,
            Algorithm::Md5 | Algorithm::Sha1 => Strength::OneLocator,
            Algorithm::Crc32 | Algorithm::Crc32C | Algorithm::Crc64Nvme => Strength::Accident,
        };
        match self {
            Self::Whole { algorithm, .. } | Self::Parts { algorithm, .. } => of(*algorithm),
            Self::GitSha1(_) => Strength::OneLocator,
            Self::Xet(_) => Strength::Content,
        }
    }

    /// The name a proof by this digest has in reports.
    #[must_use]
    pub fn kind(&self) -> ProofKind {
        match self {
            Self::Whole { algorithm, .. } => ProofKind::Whole(*algorithm),
            Self::Parts { algorithm, .. } => ProofKind::Parts(*algorithm),
            Self::GitSha1(_) => ProofKind::GitSha1,
            Self::Xet(_) => ProofKind::Xet,
        }
    }
}

fn check_length(algorithm: Algorithm, value: &[u8]) -> Result<(), ParseDigestError> {
    if value.len() == algorithm.bytes() {
        return Ok(());
    }
    Err(ParseDigestError::new(&hex::encode(value)))
}

/// By what a file was proven; printed as `sha256`, `xet`, `git-sha1`, `md5`, `md5-parts`, `none`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ProofKind {
    /// A hash of the whole file.
    Whole(Algorithm),
    /// The Xet root.
    Xet,
    /// The git blob id.
    GitSha1,
    /// A hash of the parts' hashes.
    Parts(Algorithm),
    /// The origin says nothing of the bytes that they match: they were read from it, and that is all.
    None,
}

impl fmt::Display for ProofKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Xet => f.write_str("xet"),
            Self::GitSha1 => f.write_str("git-sha1"),
            Self::Whole(algorithm) => f.write_str(algorithm.name()),
            Self::Parts(algorithm) => write!(f, "{}-parts", algorithm.name()),
            Self::None => f.write_str("none"),
        }
    }
}

/// A text that is no digest of its kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a digest of its kind")]
pub struct ParseDigestError(String);

impl ParseDigestError {
    fn new(text: &str) -> Self {
        Self(text.chars().take(80).collect())
    }
}
