//! The pieces that a digest is made of, those of a Xet hash and the parts of a bucket's object: whoever has their list can prove each by itself.
//!
//! A list may come from a stranger: [`Pieces::check`] takes it only if it makes the very digest that the origin lists. Of parts that shows all,
//! since the origin lists their sizes, too. Of a Xet hash it does not show that there are bytes for each piece: the nodes above the pieces
//! make the same root as the pieces do. Nodes and pieces are hashed with different keys, so that no bytes match a node: such a list proves
//! nothing that is false, but right bytes look wrong by it.

use std::ops::Range;

use crate::prover::{Hasher, PartsHasher};
use crate::xet::{self, XetHasher};
use crate::{OriginDigest, PartSizes};

/// The most parts of a bucket's object.
const MOST_PARTS: u64 = 10_000;
/// The longest part that is worth a list: less than that is lost where one is false.
const LONGEST_PART: u64 = 64 << 20;

/// The pieces of one file, in order, which make the digest that its origin lists. 40 bytes of memory a piece.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pieces {
    digest: OriginDigest,
    /// Where each ends.
    ends: Vec<u64>,
    hashes: Vec<[u8; 32]>,
}

/// One piece as a list tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PieceRow {
    /// How many bytes it has.
    pub bytes: u64,
    /// Its hash; one of fewer bytes ends in zeros.
    pub hash: [u8; 32],
}

impl PieceRow {
    /// The bytes of an encoded row.
    pub const BYTES: usize = 8 + 32;

    /// A piece of so many bytes whose hash has at most 32.
    pub(crate) fn new(bytes: u64, hash: &[u8]) -> Self {
        let mut padded = [0; 32];
        padded.iter_mut().zip(hash).for_each(|(to, from)| *to = *from);
        Self { bytes, hash: padded }
    }

    /// Rows as they are stored and sent: each the number of bytes, little-endian, and the hash.
    #[must_use]
    pub fn encode(rows: &[Self]) -> Vec<u8> {
        rows.iter().flat_map(|row| row.bytes.to_le_bytes().into_iter().chain(row.hash)).collect()
    }

    /// Reads encoded rows; `None` if `bytes` are not whole ones.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Vec<Self>> {
        let (rows, []) = bytes.as_chunks::<{ Self::BYTES }>() else { return None };
        let row = |row: &[u8; Self::BYTES]| {
            let (bytes, hash) = row.split_first_chunk::<8>()?;
            Some(Self { bytes: u64::from_le_bytes(*bytes), hash: hash.try_into().ok()? })
        };
        rows.iter().map(row).collect()
    }
}

impl Pieces {
    /// Takes a list, wherever it is from, for a file of `size` bytes, if it makes `digest`.
    #[must_use]
    pub fn check(digest: &OriginDigest, size: u64, rows: &[PieceRow]) -> Option<Self> {
        let mut end = 0u64;
        let mut ends = Vec::with_capacity(rows.len());
        for row in rows {
            end = end.checked_add(row.bytes).filter(|_| row.bytes > 0)?;
            ends.push(end);
        }
        let makes_it = rows.len() as u64 <= Self::most(digest, size) && end == size && make(digest, rows);
        makes_it.then(|| Self { digest: digest.clone(), ends, hashes: rows.iter().map(|row| row.hash).collect() })
    }

    /// The most pieces that a list for a file of `size` bytes may have; 0 where `digest` is not made of pieces, or nobody says of what parts,
    /// or of one, of more than an object can have, or of longer ones than 64 MiB.
    /// Of a Xet hash twice as many as there are of bytes that do not repeat, where each has 64 KiB on average, and some.
    #[must_use]
    pub fn most(digest: &OriginDigest, size: u64) -> u64 {
        let parts = |count: u64, longest: u64| if (2..=MOST_PARTS).contains(&count) && longest <= LONGEST_PART { count } else { 0 };
        match digest {
            OriginDigest::Xet(_) => (size / (32 * 1024) + 1024).min(size.div_ceil(xet::PIECE_MIN_BYTES as u64)),
            OriginDigest::Parts { sizes: PartSizes::Uniform { bytes }, .. } => parts(size.div_ceil((*bytes).max(1)), *bytes),
            OriginDigest::Parts { sizes: PartSizes::Listed(sizes), .. } => {
                parts(sizes.len() as u64, sizes.iter().copied().max().unwrap_or_default())
            }
            OriginDigest::Parts { sizes: PartSizes::Count(_), .. } | OriginDigest::Whole { .. } | OriginDigest::GitSha1(_) => 0,
        }
    }

    /// The digest that they make.
    #[must_use]
    pub fn digest(&self) -> &OriginDigest {
        &self.digest
    }

    /// Whether the file's bytes fit them for certain: parts are those that the origin lists.
    #[must_use]
    pub fn are_certain(&self) -> bool {
        matches!(self.digest, OriginDigest::Parts { .. })
    }

    /// The bytes of the longest.
    #[must_use]
    pub fn longest(&self) -> u64 {
        self.rows().map(|row| row.bytes).max().unwrap_or_default()
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.ends.len()
    }

    /// Where in the file a piece lies; nowhere if there is none of that number.
    #[must_use]
    pub fn place(&self, index: usize) -> Range<u64> {
        let start = index.checked_sub(1).and_then(|before| self.ends.get(before)).copied().unwrap_or_default();
        self.ends.get(index).map_or(start..start, |end| start..*end)
    }

    /// The pieces of which any byte lies in `bytes`.
    #[must_use]
    pub fn touched_by(&self, bytes: &Range<u64>) -> Range<usize> {
        let first = self.ends.partition_point(|end| *end <= bytes.start);
        let end = self.ends.partition_point(|end| *end < bytes.end) + 1;
        first..if bytes.is_empty() { first } else { end.min(self.ends.len()).max(first) }
    }

    /// Whether `bytes` are those of a piece.
    #[must_use]
    pub fn fits(&self, index: usize, bytes: &[u8]) -> bool {
        let mut prover = self.prover(index);
        prover.update(bytes);
        prover.fits()
    }

    /// Takes the bytes of one piece in order.
    #[must_use]
    pub fn prover(&self, index: usize) -> PieceProver<'_> {
        let hasher = match &self.digest {
            OriginDigest::Parts { algorithm, .. } => PieceHasher::Part(Hasher::new(*algorithm)),
            OriginDigest::Xet(_) | OriginDigest::Whole { .. } | OriginDigest::GitSha1(_) => PieceHasher::Xet(Box::new(xet::piece_hasher())),
        };
        PieceProver { pieces: self, index, hasher, seen: 0 }
    }

    /// The list, to be given to others.
    pub fn rows(&self) -> impl Iterator<Item = PieceRow> + '_ {
        self.hashes.iter().enumerate().map(|(index, hash)| {
            let place = self.place(index);
            PieceRow { bytes: place.end - place.start, hash: *hash }
        })
    }
}

/// Whether pieces of one byte or more make `digest`.
fn make(digest: &OriginDigest, rows: &[PieceRow]) -> bool {
    match digest {
        OriginDigest::Xet(root) => rows.iter().all(|row| row.bytes <= xet::PIECE_MAX_BYTES as u64) && xet::file_hash(rows) == *root,
        OriginDigest::Parts { algorithm, value, sizes } => {
            let is_cut = match sizes {
                PartSizes::Uniform { bytes } => {
                    rows.split_last().is_none_or(|(last, others)| last.bytes <= *bytes && others.iter().all(|row| row.bytes == *bytes))
                }
                PartSizes::Listed(sizes) => rows.iter().map(|row| row.bytes).eq(sizes.iter().copied()),
                PartSizes::Count(_) => false,
            };
            let mut outer = Hasher::new(*algorithm);
            let is_padded = rows.iter().all(|row| {
                let (hash, rest) = row.hash.split_at(algorithm.bytes());
                outer.update(hash);
                rest.iter().all(|byte| *byte == 0)
            });
            is_cut && is_padded && outer.finish() == *value
        }
        OriginDigest::Whole { .. } | OriginDigest::GitSha1(_) => false,
    }
}

/// Takes the bytes of one piece in order, and tells whether they are its.
pub struct PieceProver<'a> {
    pieces: &'a Pieces,
    index: usize,
    hasher: PieceHasher,
    seen: u64,
}

enum PieceHasher {
    Xet(Box<blake3::Hasher>),
    Part(Hasher),
}

impl PieceProver<'_> {
    /// Takes the next bytes of the piece.
    pub fn update(&mut self, bytes: &[u8]) {
        self.seen += bytes.len() as u64;
        match &mut self.hasher {
            PieceHasher::Xet(hasher) => drop(hasher.update(bytes)),
            PieceHasher::Part(hasher) => hasher.update(bytes),
        }
    }

    /// Whether what was taken is the piece.
    #[must_use]
    pub fn fits(self) -> bool {
        let found = match self.hasher {
            PieceHasher::Xet(hasher) => PieceRow { bytes: self.seen, hash: *hasher.finalize().as_bytes() },
            PieceHasher::Part(hasher) => PieceRow::new(self.seen, &hasher.finish()),
        };
        let place = self.pieces.place(self.index);
        place.end - place.start == found.bytes && self.pieces.hashes.get(self.index) == Some(&found.hash)
    }
}

/// Takes a file's bytes in order, and lists its pieces.
pub struct Lister {
    digest: OriginDigest,
    size: u64,
    hasher: ListHasher,
}

enum ListHasher {
    Xet(Box<XetHasher>),
    Parts(Box<PartsHasher>),
}

impl Lister {
    /// Lists the pieces of a file of `size` bytes that `digest` is made of; `None` where nobody can list them.
    #[must_use]
    pub fn new(digest: &OriginDigest, size: u64) -> Option<Self> {
        let hasher = match digest {
            _ if Pieces::most(digest, size) == 0 => return None,
            OriginDigest::Xet(_) => ListHasher::Xet(Box::default()),
            OriginDigest::Parts { algorithm, sizes, .. } => ListHasher::Parts(Box::new(PartsHasher::listing(*algorithm, sizes)?)),
            OriginDigest::Whole { .. } | OriginDigest::GitSha1(_) => return None,
        };
        Some(Self { digest: digest.clone(), size, hasher })
    }

    /// Takes the next bytes of the file.
    pub fn update(&mut self, bytes: &[u8]) {
        match &mut self.hasher {
            ListHasher::Xet(hasher) => hasher.update(bytes),
            ListHasher::Parts(hasher) => hasher.update(bytes),
        }
    }

    /// The list; `None` if the bytes are not those of the digest.
    #[must_use]
    pub fn finish(self) -> Option<Pieces> {
        let rows = match self.hasher {
            ListHasher::Xet(hasher) => hasher.into_pieces(),
            ListHasher::Parts(hasher) => hasher.into_parts(),
        };
        Pieces::check(&self.digest, self.size, &rows)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{Algorithm, Prover};

    fn piece_hash(bytes: &[u8]) -> [u8; 32] {
        *xet::piece_hasher().update(bytes).finalize().as_bytes()
    }

    fn data(len: usize) -> Vec<u8> {
        let mut state = 7u32;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        };
        (0..len).map(|_| next()).collect()
    }

    fn rows_of(bytes: &[u8]) -> Vec<PieceRow> {
        let mut hasher = XetHasher::new();
        hasher.update(bytes);
        hasher.into_pieces()
    }

    fn root(rows: &[PieceRow]) -> OriginDigest {
        OriginDigest::Xet(xet::file_hash(rows))
    }

    #[test]
    fn the_list_of_a_file_proves_each_of_its_pieces() {
        let bytes = data(1_000_000);
        let rows = rows_of(&bytes);
        let sent = PieceRow::decode(&PieceRow::encode(&rows)).unwrap();
        let list = Pieces::check(&root(&rows), 1_000_000, &sent).unwrap();
        assert!(list.count() > 3 && list.rows().eq(rows));
        for index in 0..list.count() {
            let place = list.place(index);
            let mut piece = bytes[place.start as usize..place.end as usize].to_vec();
            assert!(list.fits(index, &piece) && !list.fits(index + 1, &piece));
            piece[0] ^= 1;
            assert!(!list.fits(index, &piece) && !list.fits(index, &piece[1..]));
        }
    }

    fn parts_of(bytes: &[u8], algorithm: Algorithm, sizes: PartSizes) -> (OriginDigest, Vec<PieceRow>) {
        let mut hasher = PartsHasher::listing(algorithm, &sizes).unwrap();
        bytes.chunks(333).for_each(|some| hasher.update(some));
        let rows = hasher.into_parts();
        let mut outer = Hasher::new(algorithm);
        rows.iter().for_each(|row| outer.update(&row.hash[..algorithm.bytes()]));
        (OriginDigest::parts(algorithm, &outer.finish(), sizes).unwrap(), rows)
    }

    #[test]
    fn the_list_of_an_objects_parts_proves_each_of_them() {
        let bytes = data(10_000);
        for (algorithm, sizes) in [
            (Algorithm::Md5, PartSizes::Uniform { bytes: 3_000 }),
            (Algorithm::Sha256, PartSizes::Uniform { bytes: 5_000 }),
            (Algorithm::Md5, PartSizes::Listed(vec![9_000, 1, 999])),
        ] {
            let (digest, rows) = parts_of(&bytes, algorithm, sizes);
            let mut prover = Prover::for_digest(Some(&digest), 10_000);
            prover.update(&bytes);
            prover.finish().unwrap();
            let list = Pieces::check(&digest, 10_000, &rows).unwrap();
            assert!(list.are_certain() && rows.len() as u64 == Pieces::most(&digest, 10_000));
            let mut lister = Lister::new(&digest, 10_000).unwrap();
            lister.update(&bytes);
            assert_eq!(lister.finish().as_ref(), Some(&list));
            for index in 0..list.count() {
                let place = list.place(index);
                let mut part = bytes[place.start as usize..place.end as usize].to_vec();
                assert!(list.fits(index, &part));
                part[0] ^= 1;
                assert!(!list.fits(index, &part) && !list.fits(index, &part[1..]));
            }
            // Other sizes than the origin lists, or something after a hash.
            let mut moved = rows.clone();
            (moved[0].bytes, moved[1].bytes) = (moved[0].bytes - 1, moved[1].bytes + 1);
            assert!(Pieces::check(&digest, 10_000, &moved).is_none() && Pieces::check(&digest, 9_999, &rows).is_none());
            let mut longer = rows;
            longer[0].hash[31] ^= 1;
            assert!(Pieces::check(&digest, 10_000, &longer).is_none());
        }
    }

    #[test]
    fn where_nobody_says_how_it_was_cut_there_is_no_list() {
        let (digest, rows) = parts_of(&data(100), Algorithm::Md5, PartSizes::Uniform { bytes: 50 });
        let OriginDigest::Parts { algorithm, value, .. } = digest else { panic!("it is one of parts") };
        let counted = OriginDigest::parts(algorithm, &value, PartSizes::Count(2)).unwrap();
        assert!(Pieces::check(&counted, 100, &rows).is_none() && Lister::new(&counted, 100).is_none());
        // More parts than an object can have.
        let (digest, rows) = parts_of(&data(10_001), Algorithm::Md5, PartSizes::Uniform { bytes: 1 });
        assert!(Pieces::check(&digest, 10_001, &rows).is_none() && Lister::new(&digest, 10_001).is_none());
    }

    #[test]
    fn a_list_that_does_not_make_the_hash_is_none() {
        let rows = rows_of(&data(1_000_000));
        let root = root(&rows);
        let check = |rows: &[PieceRow], size| Pieces::check(&root, size, rows).is_some();
        assert!(check(&rows, 1_000_000) && !check(&rows, 999_999) && !check(&rows[1..], 1_000_000));
        let changed = |change: fn(&mut PieceRow)| {
            let mut rows = rows.clone();
            change(&mut rows[2]);
            rows
        };
        assert!(!check(&changed(|row| row.bytes += 1), 1_000_000));
        assert!(!check(&changed(|row| row.bytes = u64::MAX), 1_000_000));
        assert!(!check(&changed(|row| row.hash[5] ^= 1), 1_000_000));
        assert!(PieceRow::decode(&[0; 41]).is_none());
    }

    #[test]
    fn nodes_above_pieces_make_the_root_too_and_fit_no_bytes() {
        // Small pieces, so that some nodes are as short as a piece may be.
        let bytes = data(60_000);
        let row = |piece: &[u8]| PieceRow { bytes: piece.len() as u64, hash: piece_hash(piece) };
        let rows: Vec<PieceRow> = bytes.chunks(7_500).map(row).collect();
        let above = xet::level_above(&rows);
        assert!(above.len() < rows.len());
        let list = Pieces::check(&root(&rows), 60_000, &above).unwrap();
        for index in 0..list.count() {
            let place = list.place(index);
            assert!(!list.fits(index, &bytes[place.start as usize..place.end as usize]));
        }
    }

    proptest! {
        #[test]
        fn every_byte_touches_the_piece_that_it_lies_in(ends in proptest::collection::btree_set(1u64..500, 1..40), start in 0u64..500, len in 0u64..100) {
            let ends: Vec<u64> = ends.into_iter().collect();
            let size = ends.last().copied().unwrap();
            let list = Pieces { digest: OriginDigest::Xet([0; 32]), hashes: vec![[0; 32]; ends.len()], ends };
            let bytes = start.min(size)..(start + len).min(size);
            let meets = |index: &usize| bytes.clone().any(|byte| list.place(*index).contains(&byte));
            prop_assert_eq!(list.touched_by(&bytes).collect::<Vec<_>>(), (0..list.count()).filter(meets).collect::<Vec<_>>());
        }
    }
}
