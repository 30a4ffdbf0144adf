//! Holds a file's bytes against what its origin says of them.

use md5::Md5;
use sha1::Sha1;
use sha2::{Digest as _, Sha256};

use crate::parts::candidates;
use crate::xet::XetHasher;
use crate::{Algorithm, OriginDigest, PartSizes, PieceRow, ProofKind};

/// That a file's whole bytes match what its origin says of them; only a [`Prover`] makes one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Proof(ProofKind);

impl Proof {
    /// By what it was proven.
    #[must_use]
    pub fn kind(self) -> ProofKind {
        self.0
    }
}

/// A file's bytes are not what its origin says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the bytes do not match the {kind} that the origin lists: {detail}")]
pub struct Mismatch {
    /// The digest that does not match.
    pub kind: ProofKind,
    detail: String,
}

/// Takes a file's bytes in order, and tells at the end whether they are what one digest says.
pub struct Prover {
    kind: ProofKind,
    size: u64,
    seen: u64,
    expected: Vec<u8>,
    lanes: Vec<Lane>,
}

/// One way to compute the digest; there are several only where the part size has to be tried.
enum Lane {
    Whole(Hasher),
    Parts(PartsHasher),
    Xet(Box<XetHasher>),
}

impl Prover {
    /// A prover of `digest` for a file of `size` bytes. Without a digest only the size is checked.
    #[must_use]
    pub fn for_digest(digest: Option<&OriginDigest>, size: u64) -> Self {
        let (expected, lanes) = digest.map_or_else(Default::default, |digest| lanes(digest, size));
        Self { kind: digest.map_or(ProofKind::None, OriginDigest::kind), size, seen: 0, expected, lanes }
    }

    /// Takes the next bytes of the file.
    pub fn update(&mut self, bytes: &[u8]) {
        self.seen += bytes.len() as u64;
        for lane in &mut self.lanes {
            match lane {
                Lane::Whole(hasher) => hasher.update(bytes),
                Lane::Parts(hasher) => hasher.update(bytes),
                Lane::Xet(hasher) => hasher.update(bytes),
            }
        }
    }

    /// Compares what was seen with the digest.
    ///
    /// # Errors
    /// [`Mismatch`] if the bytes or their number are other than the origin says.
    pub fn finish(self) -> Result<Proof, Mismatch> {
        let Self { kind, size, seen, expected, lanes } = self;
        if seen != size {
            return Err(Mismatch { kind, detail: format!("{seen} bytes instead of {size}") });
        }
        if kind == ProofKind::None {
            return Ok(Proof(kind));
        }
        let mut found: Vec<Vec<u8>> = lanes.into_iter().map(Lane::finish).collect();
        if found.contains(&expected) {
            return Ok(Proof(kind));
        }
        found.truncate(1);
        let found = found.first().map_or_else(|| "no part size fits".to_owned(), hex::encode);
        Err(Mismatch { kind, detail: format!("{found} instead of {}", hex::encode(&expected)) })
    }
}

fn lanes(digest: &OriginDigest, size: u64) -> (Vec<u8>, Vec<Lane>) {
    match digest {
        OriginDigest::Whole { algorithm, value } => (value.clone(), vec![Lane::Whole(Hasher::new(*algorithm))]),
        OriginDigest::GitSha1(value) => {
            let mut hasher = Hasher::new(Algorithm::Sha1);
            hasher.update(format!("blob {size}\0").as_bytes());
            (value.to_vec(), vec![Lane::Whole(hasher)])
        }
        OriginDigest::Xet(value) => (value.to_vec(), vec![Lane::Xet(Box::default())]),
        OriginDigest::Parts { algorithm, value, sizes } => {
            let tried = || match sizes {
                PartSizes::Count(count) => candidates(size, *count).into_iter().map(PartCuts::Uniform).collect(),
                PartSizes::Uniform { .. } | PartSizes::Listed(_) => vec![],
            };
            let cuts: Vec<PartCuts> = PartCuts::known(sizes).map_or_else(tried, |known| vec![known]);
            (value.clone(), cuts.into_iter().map(|cuts| Lane::Parts(PartsHasher::new(*algorithm, cuts))).collect())
        }
    }
}

impl Lane {
    fn finish(self) -> Vec<u8> {
        match self {
            Self::Whole(hasher) => hasher.finish(),
            Self::Parts(hasher) => hasher.finish(),
            Self::Xet(hasher) => hasher.finish().to_vec(),
        }
    }
}

/// Hashes parts, and the concatenation of their hashes.
pub(crate) struct PartsHasher {
    algorithm: Algorithm,
    cuts: PartCuts,
    part: Hasher,
    part_bytes: u64,
    left_in_part: u64,
    outer: Hasher,
    /// The parts that have ended, if they are listed.
    listed: Option<Vec<PieceRow>>,
}

enum PartCuts {
    Uniform(u64),
    Listed(std::vec::IntoIter<u64>),
}

impl PartCuts {
    fn known(sizes: &PartSizes) -> Option<Self> {
        match sizes {
            PartSizes::Uniform { bytes } => Some(Self::Uniform(*bytes)),
            PartSizes::Listed(sizes) => Some(Self::Listed(sizes.clone().into_iter())),
            PartSizes::Count(_) => None,
        }
    }

    /// The size of the next part; past the list's end, all that is left.
    fn next(&mut self) -> u64 {
        match self {
            Self::Uniform(bytes) => (*bytes).max(1),
            Self::Listed(sizes) => sizes.next().unwrap_or(u64::MAX),
        }
    }
}

impl PartsHasher {
    fn new(algorithm: Algorithm, mut cuts: PartCuts) -> Self {
        let left_in_part = cuts.next();
        Self { algorithm, cuts, part: Hasher::new(algorithm), part_bytes: 0, left_in_part, outer: Hasher::new(algorithm), listed: None }
    }

    /// One that lists the parts, 40 bytes of memory each; `None` where their sizes are not known.
    pub(crate) fn listing(algorithm: Algorithm, sizes: &PartSizes) -> Option<Self> {
        Some(Self { listed: Some(vec![]), ..Self::new(algorithm, PartCuts::known(sizes)?) })
    }

    pub(crate) fn update(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.left_in_part == 0 {
                self.end_part();
                self.left_in_part = self.cuts.next();
                continue;
            }
            let taken = bytes.len().min(usize::try_from(self.left_in_part).unwrap_or(usize::MAX));
            self.part.update(&bytes[..taken]);
            self.part_bytes += taken as u64;
            self.left_in_part -= taken as u64;
            bytes = &bytes[taken..];
        }
    }

    fn end_part(&mut self) {
        let part = std::mem::replace(&mut self.part, Hasher::new(self.algorithm)).finish();
        self.outer.update(&part);
        let bytes = std::mem::take(&mut self.part_bytes);
        self.listed.iter_mut().for_each(|listed| listed.push(PieceRow::new(bytes, &part)));
    }

    fn end(&mut self) {
        if self.part_bytes > 0 {
            self.end_part();
        }
    }

    fn finish(mut self) -> Vec<u8> {
        self.end();
        self.outer.finish()
    }

    /// The parts of the bytes taken.
    pub(crate) fn into_parts(mut self) -> Vec<PieceRow> {
        self.end();
        self.listed.unwrap_or_default()
    }
}

/// One of the hash functions of [`Algorithm`].
pub(crate) enum Hasher {
    Md5(Md5),
    Sha1(Sha1),
    Sha256(Sha256),
    Crc(Box<crc_fast::Digest>, usize),
}

impl Hasher {
    pub(crate) fn new(algorithm: Algorithm) -> Self {
        let crc = |kind| Self::Crc(Box::new(crc_fast::Digest::new(kind)), algorithm.bytes());
        match algorithm {
            Algorithm::Md5 => Self::Md5(Md5::new()),
            Algorithm::Sha1 => Self::Sha1(Sha1::new()),
            Algorithm::Sha256 => Self::Sha256(Sha256::new()),
            Algorithm::Crc32 => crc(crc_fast::CrcAlgorithm::Crc32IsoHdlc),
            Algorithm::Crc32C => crc(crc_fast::CrcAlgorithm::Crc32Iscsi),
            Algorithm::Crc64Nvme => crc(crc_fast::CrcAlgorithm::Crc64Nvme),
        }
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Md5(hasher) => hasher.update(bytes),
            Self::Sha1(hasher) => hasher.update(bytes),
            Self::Sha256(hasher) => hasher.update(bytes),
            Self::Crc(hasher, _) => hasher.update(bytes),
        }
    }

    pub(crate) fn finish(self) -> Vec<u8> {
        match self {
            Self::Md5(hasher) => hasher.finalize().to_vec(),
            Self::Sha1(hasher) => hasher.finalize().to_vec(),
            Self::Sha256(hasher) => hasher.finalize().to_vec(),
            Self::Crc(hasher, bytes) => hasher.finalize().to_be_bytes()[8 - bytes..].to_vec(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proves(digest: &OriginDigest, bytes: &[u8]) -> bool {
        let mut prover = Prover::for_digest(Some(digest), bytes.len() as u64);
        bytes.chunks(7).for_each(|part| prover.update(part));
        match prover.finish() {
            Ok(proof) => proof.kind() == digest.kind(),
            Err(_) => false,
        }
    }

    fn whole(algorithm: Algorithm, hex_digits: &str) -> OriginDigest {
        OriginDigest::whole(algorithm, &hex::decode(hex_digits).unwrap()).unwrap()
    }

    /// Vectors: RFC 1321, FIPS 180-4, `git hash-object`, and the CRC catalogue's check values for "123456789".
    #[test]
    fn known_digests_prove_their_bytes_and_no_others() {
        let digits = b"123456789".as_slice();
        let cases = [
            (whole(Algorithm::Md5, "900150983cd24fb0d6963f7d28e17f72"), b"abc".as_slice()),
            (whole(Algorithm::Sha1, "a9993e364706816aba3e25717850c26c9cd0d89d"), b"abc"),
            (whole(Algorithm::Sha256, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"), b"abc"),
            (OriginDigest::git_sha1("ce013625030ba8dba906f756967f9e9ca394464a").unwrap(), b"hello\n"),
            (OriginDigest::git_sha1("e69de29bb2d1d6434b8b29ae775ad8c2e48c5391").unwrap(), b""),
            (whole(Algorithm::Crc32, "cbf43926"), digits),
            (whole(Algorithm::Crc32C, "e3069283"), digits),
            (whole(Algorithm::Crc64Nvme, "ae8b14860a799888"), digits),
        ];
        for (digest, bytes) in cases {
            assert!(proves(&digest, bytes), "{digest:?}");
            assert!(!proves(&digest, b"other"), "{digest:?}");
        }
    }

    fn etag(bytes: &[u8], part: usize) -> Vec<u8> {
        let parts: Vec<u8> = bytes.chunks(part).flat_map(|part| Md5::digest(part).to_vec()).collect();
        Md5::digest(parts).to_vec()
    }

    #[test]
    fn a_multipart_etag_proves_with_known_listed_and_guessed_part_sizes() {
        let mib = 1024 * 1024;
        let bytes: Vec<u8> = (0..11 * mib).map(|i| (i * 7 % 253) as u8).collect();
        let value = etag(&bytes, 5 * mib);
        let with = |sizes| OriginDigest::parts(Algorithm::Md5, &value, sizes).unwrap();
        assert!(proves(&with(PartSizes::Uniform { bytes: 5 * mib as u64 }), &bytes));
        assert!(proves(&with(PartSizes::Count(3)), &bytes));
        assert!(proves(&with(PartSizes::Listed(vec![5 * mib as u64, 5 * mib as u64, mib as u64])), &bytes));
        assert!(!proves(&with(PartSizes::Uniform { bytes: 4 * mib as u64 }), &bytes));
        assert!(!proves(&with(PartSizes::Count(2)), &bytes));
    }

    #[test]
    fn an_exact_multiple_of_the_part_size_has_no_empty_last_part() {
        let bytes = [5u8; 30];
        let digest = OriginDigest::parts(Algorithm::Md5, &etag(&bytes, 10), PartSizes::Uniform { bytes: 10 }).unwrap();
        assert!(proves(&digest, &bytes));
    }

    #[test]
    fn a_composite_sha256_proves_parts() {
        let bytes = [9u8; 25];
        let parts: Vec<u8> = bytes.chunks(10).flat_map(|part| Sha256::digest(part).to_vec()).collect();
        let digest = OriginDigest::parts(Algorithm::Sha256, &Sha256::digest(parts), PartSizes::Uniform { bytes: 10 }).unwrap();
        assert!(proves(&digest, &bytes));
    }

    #[test]
    fn without_a_digest_only_the_size_is_held() {
        let mut prover = Prover::for_digest(None, 3);
        prover.update(b"abc");
        assert_eq!(prover.finish().unwrap().kind(), ProofKind::None);
        assert!(Prover::for_digest(None, 3).finish().is_err());
    }
}
