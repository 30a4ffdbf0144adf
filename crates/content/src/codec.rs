//! The one encoding of what is stored or sent: a version byte, then bincode, within a limit of size.
//!
//! What is encoded is a [`Record`]: a struct of its own beside the domain type, so that either can change alone.

use bincode::error::DecodeError;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::{Algorithm, Locator, Manifest, OriginDigest, OriginFile, PartSizes, RelativePath};

/// The most bytes that any record may have.
const MAX_BYTES: usize = 256 * 1024 * 1024;

/// A struct as it is stored or sent.
pub trait Record: Serialize + DeserializeOwned {
    /// Which shape of the struct this is. A reader refuses what it does not know.
    const VERSION: u8;
    /// The most bytes an encoded record of this kind may have.
    const LIMIT_BYTES: usize;
}

/// Encodes a record.
///
/// # Errors
/// [`CodecError::TooLarge`] if it is over its limit.
pub fn encode<R: Record>(record: &R) -> Result<Vec<u8>, CodecError> {
    let mut bytes = vec![R::VERSION];
    let body =
        bincode::serde::encode_to_vec(record, bincode::config::standard()).map_err(|error| CodecError::Malformed(error.to_string()))?;
    bytes.extend(body);
    if bytes.len() > R::LIMIT_BYTES {
        return Err(CodecError::TooLarge { bytes: bytes.len(), limit: R::LIMIT_BYTES });
    }
    Ok(bytes)
}

/// Decodes a record that takes up all of `bytes`.
///
/// # Errors
/// Says whether it is too large, of another version, or malformed. What is allocated is bounded by the size of `bytes`, whatever they
/// claim inside.
pub fn decode<R: Record>(bytes: &[u8]) -> Result<R, CodecError> {
    if bytes.len() > R::LIMIT_BYTES {
        return Err(CodecError::TooLarge { bytes: bytes.len(), limit: R::LIMIT_BYTES });
    }
    match bytes.split_first() {
        Some((version, body)) if *version == R::VERSION => {
            let (record, used) = decode_body(body).map_err(|error| CodecError::Malformed(error.to_string()))?;
            if used != body.len() {
                return Err(CodecError::Malformed(format!("{} bytes too many", body.len() - used)));
            }
            Ok(record)
        }
        Some((version, _)) => Err(CodecError::Version { found: *version, known: R::VERSION }),
        None => Err(CodecError::Malformed("nothing there".into())),
    }
}

/// The most bytes that one encoded byte counts for: a number of 64 bits may take one.
const COUNTED: usize = 8;

/// Decodes within a limit that any record of this size keeps: a text takes up what it claims, within the limit, before its bytes are
/// looked for. The library's limits are constants, so they go in steps.
fn decode_body<R: Record>(body: &[u8]) -> Result<(R, usize), DecodeError> {
    const KIB: usize = 1024;
    const MIB: usize = 1024 * KIB;
    let bytes = body.len();
    if bytes <= 4 * KIB {
        decode_within::<R, { COUNTED * 4 * KIB }>(body)
    } else if bytes <= 64 * KIB {
        decode_within::<R, { COUNTED * 64 * KIB }>(body)
    } else if bytes <= MIB {
        decode_within::<R, { COUNTED * MIB }>(body)
    } else if bytes <= 16 * MIB {
        decode_within::<R, { COUNTED * 16 * MIB }>(body)
    } else {
        decode_within::<R, { COUNTED * MAX_BYTES }>(body)
    }
}

fn decode_within<R: Record, const LIMIT: usize>(body: &[u8]) -> Result<(R, usize), DecodeError> {
    bincode::serde::decode_from_slice(body, bincode::config::standard().with_limit::<LIMIT>())
}

/// Bytes that are no record of the kind wanted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// Over the limit of its kind.
    #[error("the record has {bytes} bytes, more than the {limit} that it may have")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// Written by another version.
    #[error("the record is of version {found}; this program knows version {known}")]
    Version {
        /// The version found.
        found: u8,
        /// The version known.
        known: u8,
    },
    /// Not a record.
    #[error("the record is malformed: {0}")]
    Malformed(String),
}

/// A [`Manifest`] as it is stored: at most 1,000,000 files and 256 MiB.
#[derive(Debug, Serialize, Deserialize)]
pub struct ManifestRecord {
    files: Vec<FileRecord>,
}

impl Record for ManifestRecord {
    const VERSION: u8 = 1;
    const LIMIT_BYTES: usize = MAX_BYTES;
}

#[derive(Debug, Serialize, Deserialize)]
struct FileRecord {
    path: String,
    size: u64,
    digests: Vec<DigestRecord>,
    endpoint: String,
    container: String,
    locator_path: String,
    version: String,
}

#[derive(Debug, Serialize, Deserialize)]
enum DigestRecord {
    Whole { algorithm: u8, value: Vec<u8> },
    Parts { algorithm: u8, value: Vec<u8>, sizes: PartSizesRecord },
    GitSha1([u8; 20]),
    Xet([u8; 32]),
}

#[derive(Debug, Serialize, Deserialize)]
enum PartSizesRecord {
    Uniform(u64),
    Listed(Vec<u64>),
    Count(u32),
}

const ALGORITHMS: [Algorithm; 6] =
    [Algorithm::Md5, Algorithm::Sha1, Algorithm::Sha256, Algorithm::Crc32, Algorithm::Crc32C, Algorithm::Crc64Nvme];

fn algorithm_number(algorithm: Algorithm) -> u8 {
    match algorithm {
        Algorithm::Md5 => 0,
        Algorithm::Sha1 => 1,
        Algorithm::Sha256 => 2,
        Algorithm::Crc32 => 3,
        Algorithm::Crc32C => 4,
        Algorithm::Crc64Nvme => 5,
    }
}

fn algorithm(number: u8) -> Result<Algorithm, CodecError> {
    let known = ALGORITHMS.get(usize::from(number)).copied();
    known.ok_or_else(|| CodecError::Malformed(format!("hash function {number} is not known")))
}

impl From<&Manifest> for ManifestRecord {
    fn from(manifest: &Manifest) -> Self {
        Self { files: manifest.files().iter().map(FileRecord::from).collect() }
    }
}

impl TryFrom<ManifestRecord> for Manifest {
    type Error = CodecError;

    fn try_from(record: ManifestRecord) -> Result<Self, CodecError> {
        let files = record.files.into_iter().map(OriginFile::try_from).collect::<Result<_, _>>()?;
        Self::new(files).map_err(|error| CodecError::Malformed(error.to_string()))
    }
}

impl From<&OriginFile> for FileRecord {
    fn from(file: &OriginFile) -> Self {
        let OriginFile { path, size, digests, locator } = file;
        let Locator { endpoint, container, path: locator_path, version } = locator.clone();
        let digests = digests.iter().map(DigestRecord::from).collect();
        Self { path: path.to_string(), size: *size, digests, endpoint, container, locator_path, version }
    }
}

impl TryFrom<FileRecord> for OriginFile {
    type Error = CodecError;

    fn try_from(record: FileRecord) -> Result<Self, CodecError> {
        let FileRecord { path, size, digests, endpoint, container, locator_path, version } = record;
        let path = RelativePath::new(path).map_err(|error| CodecError::Malformed(error.to_string()))?;
        let digests = digests.into_iter().map(OriginDigest::try_from).collect::<Result<_, _>>()?;
        Ok(Self { path, size, digests, locator: Locator { endpoint, container, path: locator_path, version } })
    }
}

impl From<&OriginDigest> for DigestRecord {
    fn from(digest: &OriginDigest) -> Self {
        match digest.clone() {
            OriginDigest::Whole { algorithm, value } => Self::Whole { algorithm: algorithm_number(algorithm), value },
            OriginDigest::Parts { algorithm, value, sizes } => {
                let sizes = match sizes {
                    PartSizes::Uniform { bytes } => PartSizesRecord::Uniform(bytes),
                    PartSizes::Listed(sizes) => PartSizesRecord::Listed(sizes),
                    PartSizes::Count(count) => PartSizesRecord::Count(count),
                };
                Self::Parts { algorithm: algorithm_number(algorithm), value, sizes }
            }
            OriginDigest::GitSha1(value) => Self::GitSha1(value),
            OriginDigest::Xet(value) => Self::Xet(value),
        }
    }
}

impl TryFrom<DigestRecord> for OriginDigest {
    type Error = CodecError;

    fn try_from(record: DigestRecord) -> Result<Self, CodecError> {
        let malformed = |error: crate::ParseDigestError| CodecError::Malformed(error.to_string());
        match record {
            DigestRecord::Whole { algorithm: number, value } => Self::whole(algorithm(number)?, &value).map_err(malformed),
            DigestRecord::Parts { algorithm: number, value, sizes } => {
                let sizes = match sizes {
                    PartSizesRecord::Uniform(bytes) => PartSizes::Uniform { bytes },
                    PartSizesRecord::Listed(sizes) => PartSizes::Listed(sizes),
                    PartSizesRecord::Count(count) => PartSizes::Count(count),
                };
                Self::parts(algorithm(number)?, &value, sizes).map_err(malformed)
            }
            DigestRecord::GitSha1(value) => Ok(Self::GitSha1(value)),
            DigestRecord::Xet(value) => Ok(Self::Xet(value)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn manifest() -> Manifest {
        let digests = vec![
            OriginDigest::sha256(&"ab".repeat(32)).unwrap(),
            OriginDigest::xet(&"cd".repeat(32)).unwrap(),
            OriginDigest::git_sha1(&"ef".repeat(20)).unwrap(),
            OriginDigest::parts(Algorithm::Md5, &[1; 16], PartSizes::Listed(vec![5, 6])).unwrap(),
            OriginDigest::parts(Algorithm::Crc64Nvme, &[1; 8], PartSizes::Uniform { bytes: 5 }).unwrap(),
            OriginDigest::parts(Algorithm::Sha1, &[1; 20], PartSizes::Count(9)).unwrap(),
        ];
        let file = |path: &str| OriginFile {
            path: RelativePath::new(path).unwrap(),
            size: 1 << 40,
            digests: digests.clone(),
            locator: Locator { endpoint: "https://hub".into(), container: "models/a/b".into(), path: path.into(), version: "c0".into() },
        };
        Manifest::new(vec![file("a"), file("b/c d.bin")]).unwrap()
    }

    #[test]
    fn a_manifest_comes_back_as_it_was() {
        let bytes = encode(&ManifestRecord::from(&manifest())).unwrap();
        let record: ManifestRecord = decode(&bytes).unwrap();
        assert_eq!(Manifest::try_from(record).unwrap(), manifest());
    }

    #[test]
    fn every_algorithm_has_its_number() {
        for (number, each) in (0u8..).zip(ALGORITHMS) {
            assert_eq!((algorithm_number(each), algorithm(number)), (number, Ok(each)));
        }
    }

    #[test]
    fn other_versions_and_trailing_bytes_are_refused() {
        let mut bytes = encode(&ManifestRecord::from(&manifest())).unwrap();
        bytes.push(0);
        assert!(matches!(decode::<ManifestRecord>(&bytes), Err(CodecError::Malformed(_))));
        bytes[0] = 9;
        assert_eq!(decode::<ManifestRecord>(&bytes).unwrap_err(), CodecError::Version { found: 9, known: 1 });
    }

    #[derive(Debug, Serialize, Deserialize)]
    struct Text(String, Vec<u64>);

    impl Record for Text {
        const VERSION: u8 = 1;
        const LIMIT_BYTES: usize = MAX_BYTES;
    }

    #[test]
    fn a_text_is_given_no_more_room_than_its_record_could_fill() {
        let claims = |bytes: u32| [&[1, 252][..], &bytes.to_le_bytes(), &[b'x'; 9]].concat();
        let why = |bytes: u32| decode::<Text>(&claims(bytes)).unwrap_err().to_string();
        assert!(why(1 << 20).contains("LimitExceeded"), "{}", why(1 << 20));
        assert!(why(1 << 12).contains("UnexpectedEnd"), "{}", why(1 << 12));
    }

    #[test]
    fn a_record_of_any_size_comes_back_as_it_was() {
        for size in [0, 500, 4090, 4096, 5000, 65_530, 65_540, 1 << 20, (1 << 24) + 1] {
            let text = Text("x".repeat(size / 2), vec![0; size / 2]);
            let Text(again, numbers) = decode(&encode(&text).unwrap()).unwrap();
            assert!(again == text.0 && numbers == text.1, "{size}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Some(first) = bytes.first_mut() {
                *first = ManifestRecord::VERSION;
            }
            let _ = decode::<ManifestRecord>(&bytes).map(Manifest::try_from);
        }

        #[test]
        fn a_changed_byte_is_refused_or_still_a_manifest(at in 0usize..400, to in any::<u8>()) {
            let mut bytes = encode(&ManifestRecord::from(&manifest())).unwrap();
            let at = at % bytes.len();
            bytes[at] = to;
            let _ = decode::<ManifestRecord>(&bytes).map(Manifest::try_from);
        }
    }
}
