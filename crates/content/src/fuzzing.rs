//! What a fuzzer runs: readers of what others wrote, each with what must hold of whatever it reads.
//!
//! Each crate that has such readers lists them in a module of this name, with small files to begin with in `fuzz/<target>`. Those are
//! read with the unit tests, each also changed a little; `scripts/fuzz` has a fuzzer change them for long, and counts what they hold.

use std::path::Path;

use crate::codec::{self, ManifestRecord};
use crate::{
    Algorithm, ContentId, MAX_FILE_BYTES, MAX_FILES, Manifest, NodeId, OriginDigest, PieceRow, Pieces, Prover, RelativePath, RepoId, Scope,
    xet,
};

/// A reader, and what must hold of what it reads: it panics where that does not hold.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// What it is called, and the folder of its files.
    pub name: &'static str,
    /// Reads.
    pub run: fn(&[u8]),
    /// The most bytes of memory that it may hold at once, however short what it reads is.
    pub base_bytes: usize,
    /// How many more it may hold for each byte of what it reads.
    pub bytes_per_byte: usize,
}

impl Target {
    /// A reader that holds 64 KiB, and 64 bytes more for each byte that it reads.
    #[must_use]
    pub const fn new(name: &'static str, run: fn(&[u8])) -> Self {
        Self { name, run, base_bytes: 64 * 1024, bytes_per_byte: 64 }
    }

    /// One that may hold more, for a reason that stands where it is listed.
    #[must_use]
    pub const fn holding(self, base_bytes: usize, bytes_per_byte: usize) -> Self {
        Self { base_bytes, bytes_per_byte, ..self }
    }

    /// Of a reader of records with lists that lie `lists` deep in each other. For a list's word on its length serde takes up to 1 MiB before
    /// its items came, and for a text's the codec up to 128 times the record's bytes, and 32 KiB.
    #[must_use]
    pub const fn of_records(self, lists: usize) -> Self {
        self.holding(64 * 1024 + lists * 1024 * 1024, 256)
    }
}

/// This crate's readers.
pub const TARGETS: &[Target] =
    &[Target::new("manifest", manifest).of_records(3), Target::new("pieces", pieces), Target::new("words", words)];

/// In how many ways each file is changed; `LARDER_ROUNDS` times as many if that is set.
const CHANGES: u64 = 300;

/// Reads each file of `corpus`, which has a folder for each of the targets, as it is and changed.
///
/// # Panics
/// If a target has no files, or its reader panics.
pub fn replay(targets: &[Target], corpus: &str) {
    let rounds = std::env::var("LARDER_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    for target in targets {
        let folder = Path::new(corpus).join(target.name);
        let files = std::fs::read_dir(&folder).map(|entries| entries.filter_map(Result::ok).map(|entry| entry.path()).collect());
        let mut files: Vec<_> = files.unwrap_or_default();
        files.sort();
        assert!(!files.is_empty(), "{} has no files", folder.display());
        for file in files {
            let seed = std::fs::read(&file).unwrap_or_default();
            for number in 0..=CHANGES.saturating_mul(rounds) {
                let bytes = if number == 0 { seed.clone() } else { change(&seed, number) };
                let read = std::panic::catch_unwind(|| (target.run)(&bytes));
                assert!(read.is_ok(), "{} fails with {}, changed in way {number}: {}", target.name, file.display(), hex::encode(&bytes));
            }
        }
    }
}

/// `seed` changed in one to four places, in the same way for the same number.
fn change(seed: &[u8], number: u64) -> Vec<u8> {
    const ODD: [u8; 8] = [0, 1, 0x7f, 0x80, 0xfb, 0xfc, 0xfd, 0xff];
    let (mut bytes, mut state) = (seed.to_vec(), number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let mut below = |end: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state >> 32).unwrap_or_default() % end.max(1)
    };
    for _ in 0..=below(4) {
        let (at, length) = (below(bytes.len()), below(16));
        let end = bytes.len().min(at + length);
        match (below(8), bytes.get_mut(at)) {
            (0 | 1, Some(byte)) => *byte ^= 1 << below(8),
            (2 | 3, Some(byte)) => *byte = ODD[below(ODD.len())],
            (4, Some(_)) => drop(bytes.drain(at..end)),
            (5 | 6, Some(_)) => {
                let again = bytes[at..end].to_vec();
                let to = below(bytes.len());
                bytes.splice(to..to, again);
            }
            (_, Some(_)) => bytes.truncate(at),
            (_, None) => bytes.push(ODD[below(ODD.len())]),
        }
    }
    bytes
}

/// A stored listing's files: they come back as they are when they are stored again, and every proof of them can be begun.
fn manifest(bytes: &[u8]) {
    let Ok(manifest) = codec::decode::<ManifestRecord>(bytes).and_then(Manifest::try_from) else { return };
    assert!(manifest.files().len() <= MAX_FILES);
    for file in manifest.files() {
        assert!(file.size <= MAX_FILE_BYTES);
        assert_ne!(file.key(Scope::Public), file.key(Scope::Private));
        for digest in file.proofs() {
            let mut prover = Prover::for_digest(Some(digest), file.size);
            prover.update(b"nine more");
            assert!(prover.finish().is_err() || file.size == 9);
        }
    }
    let again = codec::encode(&ManifestRecord::from(&manifest)).and_then(|bytes| codec::decode::<ManifestRecord>(&bytes));
    assert_eq!(again.and_then(Manifest::try_from), Ok(manifest));
}

/// A stranger's list of pieces: it is taken for the hash that it makes, and then its pieces are the file without a gap.
fn pieces(bytes: &[u8]) {
    let Some(rows) = PieceRow::decode(bytes) else { return };
    assert_eq!(PieceRow::encode(&rows), bytes);
    let sum = |sum: u64, row: &PieceRow| sum.checked_add(row.bytes);
    let Some(size) = rows.iter().try_fold(0, sum) else {
        return assert_eq!(Pieces::check(&OriginDigest::Xet([0; 32]), 0, &rows), None);
    };
    let root = OriginDigest::Xet(xet::file_hash(&rows));
    let fits = rows.len() as u64 <= Pieces::most(&root, size) && rows.iter().all(|row| (1..=128 * 1024).contains(&row.bytes));
    assert_eq!(Pieces::check(&root, size ^ 1, &rows), None);
    let taken = Pieces::check(&root, size, &rows);
    assert_eq!(taken.is_some(), fits);
    let Some(taken) = taken else { return };
    assert!(taken.rows().eq(rows.iter().copied()) && taken.count() == rows.len());
    let places = (0..rows.len()).map(|index| taken.place(index));
    assert_eq!(places.fold(0, |end, place| if place.start == end { place.end } else { u64::MAX }), size);
    assert_eq!(taken.touched_by(&(0..size)), 0..rows.len());
}

/// Names and digests, one a line: each is written as it was read.
fn words(bytes: &[u8]) {
    let same_digits = |digest: Option<OriginDigest>, text: &str| match digest {
        Some(OriginDigest::Xet(value)) => assert!(xet::format_hash(&value).eq_ignore_ascii_case(text)),
        Some(OriginDigest::GitSha1(value)) => assert!(hex::encode(value).eq_ignore_ascii_case(text)),
        Some(OriginDigest::Whole { value, .. }) => assert!(value.len() == Algorithm::Sha256.bytes() && text.len() == 2 * value.len()),
        Some(OriginDigest::Parts { .. }) => panic!("no text is one of parts"),
        None => {}
    };
    for text in String::from_utf8_lossy(bytes).lines() {
        if let Ok(path) = RelativePath::new(text) {
            assert!(path.as_str() == text && path.segments().all(|segment| !matches!(segment, "" | "." | "..")));
        }
        if let Some(node) = NodeId::parse(text) {
            assert_eq!(node.to_string(), text);
        }
        if let Some(content) = ContentId::parse(text) {
            assert_eq!(content.to_string(), text);
        }
        if let Ok(repo) = RepoId::new(text) {
            assert!(repo.as_str() == text && text.split('/').all(|segment| !segment.is_empty() && !segment.starts_with('.')));
        }
        for digest in [OriginDigest::sha256(text), OriginDigest::git_sha1(text), OriginDigest::xet(text)] {
            same_digits(digest.ok(), text);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Locator, OriginFile, PartSizes};

    #[test]
    fn every_seed_of_the_corpus_is_read() {
        replay(TARGETS, concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz"));
    }

    #[test]
    #[ignore = "writes the binary seeds anew, for another version of what is stored"]
    fn the_seeds_are_written() {
        let digests = vec![
            OriginDigest::sha256(&"ab".repeat(32)).unwrap(),
            OriginDigest::xet(&"cd".repeat(32)).unwrap(),
            OriginDigest::git_sha1(&"ef".repeat(20)).unwrap(),
            OriginDigest::parts(Algorithm::Md5, &[1; 16], PartSizes::Listed(vec![5, 6])).unwrap(),
            OriginDigest::parts(Algorithm::Crc64Nvme, &[1; 8], PartSizes::Uniform { bytes: 5 }).unwrap(),
            OriginDigest::parts(Algorithm::Sha1, &[1; 20], PartSizes::Count(9)).unwrap(),
        ];
        let locator = Locator { endpoint: "https://hub".into(), container: "models/a/b".into(), path: "x".into(), version: "c0".into() };
        let file = |path: &str, digests: &[OriginDigest]| {
            let path = RelativePath::new(path).unwrap();
            OriginFile { path, size: 11, digests: digests.to_vec(), locator: locator.clone() }
        };
        for (name, files) in [("none", vec![]), ("two", vec![file("a", &digests), file("b/c d.bin", &[])])] {
            let bytes = codec::encode(&ManifestRecord::from(&Manifest::new(files).unwrap())).unwrap();
            std::fs::write(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/manifest")).join(name), bytes).unwrap();
        }
        let row = |bytes: u64| PieceRow { bytes, hash: [bytes as u8; 32] };
        for (name, rows) in [("small", vec![row(5)]), ("several", vec![row(70_000), row(9_000), row(131_072), row(20_000), row(3)])] {
            std::fs::write(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/pieces")).join(name), PieceRow::encode(&rows)).unwrap();
        }
    }

    #[test]
    fn a_seed_is_changed_each_time_otherwise_and_the_same_way_again() {
        let changed: std::collections::BTreeSet<_> = (1..100).map(|number| change(b"a seed of some bytes", number)).collect();
        assert!(changed.len() > 90);
        assert_eq!(change(b"seed", 7), change(b"seed", 7));
        assert!((1..100).all(|number| change(b"", number).len() < 99), "nothing can be changed too");
    }
}
