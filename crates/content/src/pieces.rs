//! The pieces that an origin's digest is made of: whoever has their list can prove each by itself.
//!
//! A list may come from a stranger: [`Pieces::check`] takes it only if it makes the very digest that the origin lists. What that does not
//! show is that there are bytes for each of them: the nodes above the pieces of a Xet file make the same root as the pieces do. Nodes and
//! pieces are hashed with different keys, so that no bytes match a node: such a list proves nothing that is false, but right bytes look
//! wrong by it.

use std::ops::Range;

use crate::xet;
use crate::{Algorithm, OriginDigest, PartSizes};

/// The pieces of one file, in order, which make the digest that its origin lists. 40 bytes of memory a piece.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pieces {
    hash: PieceHash,
    /// Where each ends.
    ends: Vec<u64>,
    hashes: Vec<[u8; 32]>,
}

/// How the pieces of a file are hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PieceHash {
    Xet,
    Part(Algorithm),
}

/// One piece as a list tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PieceRow {
    /// How many bytes it has.
    pub bytes: u64,
    /// Its hash; one that is shorter has zeros behind it.
    pub hash: [u8; 32],
}

impl PieceRow {
    /// The bytes of an encoded row.
    pub const BYTES: usize = 8 + 32;

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

    /// A piece of so many bytes, with a hash of at most 32.
    pub(crate) fn new(bytes: u64, short: &[u8]) -> Self {
        let mut hash = [0; 32];
        hash.iter_mut().zip(short).for_each(|(place, byte)| *place = *byte);
        Self { bytes, hash }
    }
}

impl Pieces {
    /// Takes a list, wherever it is from, for a file of `size` bytes, if it makes `digest`.
    #[must_use]
    pub fn check(digest: &OriginDigest, size: u64, rows: &[PieceRow]) -> Option<Self> {
        if rows.len() as u64 > Self::most(digest, size) {
            return None;
        }
        let mut end = 0u64;
        let mut ends = Vec::with_capacity(rows.len());
        for row in rows {
            end = end.checked_add(row.bytes).filter(|_| row.bytes > 0)?;
            ends.push(end);
        }
        let makes_it = match digest {
            OriginDigest::Xet(root) => rows.iter().all(|row| row.bytes <= xet::PIECE_MAX_BYTES as u64) && xet::file_hash(rows) == *root,
            OriginDigest::Parts { algorithm, value, sizes } => {
                let hashes = rows.iter().map(|row| &row.hash[..algorithm.bytes()]);
                sizes.fit(rows.iter().map(|row| row.bytes)) && algorithm.hash_of(hashes) == *value
            }
            OriginDigest::Whole { .. } | OriginDigest::GitSha1(_) => false,
        };
        let hash = PieceHash::of(digest)?;
        (makes_it && end == size).then(|| Self { hash, ends, hashes: rows.iter().map(|row| row.hash).collect() })
    }

    /// The most pieces that `digest` may be made of for a file of `size` bytes; none if it is not made of pieces.
    #[must_use]
    pub fn most(digest: &OriginDigest, size: u64) -> u64 {
        match digest {
            OriginDigest::Xet(_) => size.div_ceil(xet::PIECE_MIN_BYTES as u64),
            OriginDigest::Parts { sizes, .. } => match sizes {
                PartSizes::Uniform { bytes } => size.div_ceil((*bytes).max(1)),
                PartSizes::Listed(sizes) => sizes.len() as u64,
                PartSizes::Count(count) => u64::from(*count),
            },
            OriginDigest::Whole { .. } | OriginDigest::GitSha1(_) => 0,
        }
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
        let place = self.place(index);
        let found = || match self.hash {
            PieceHash::Xet => xet::piece_hash(bytes),
            PieceHash::Part(algorithm) => PieceRow::new(0, &algorithm.hash_of([bytes])).hash,
        };
        place.end - place.start == bytes.len() as u64 && self.hashes.get(index).is_some_and(|hash| *hash == found())
    }

    /// The list, to be given to others.
    pub fn rows(&self) -> impl Iterator<Item = PieceRow> + '_ {
        self.hashes.iter().enumerate().map(|(index, hash)| {
            let place = self.place(index);
            PieceRow { bytes: place.end - place.start, hash: *hash }
        })
    }
}

impl PieceHash {
    fn of(digest: &OriginDigest) -> Option<Self> {
        match digest {
            OriginDigest::Xet(_) => Some(Self::Xet),
            OriginDigest::Parts { algorithm, .. } => Some(Self::Part(*algorithm)),
            OriginDigest::Whole { .. } | OriginDigest::GitSha1(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Prover;

    fn data(len: usize) -> Vec<u8> {
        let mut state = 7u32;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        };
        (0..len).map(|_| next()).collect()
    }

    fn xet_of(bytes: &[u8]) -> OriginDigest {
        let mut hasher = xet::XetHasher::new();
        hasher.update(bytes);
        OriginDigest::Xet(hasher.finish())
    }

    fn parts_of(bytes: &[u8], part: usize, sizes: PartSizes) -> OriginDigest {
        let hashes: Vec<Vec<u8>> = bytes.chunks(part).map(|part| Algorithm::Md5.hash_of([part])).collect();
        OriginDigest::parts(Algorithm::Md5, &Algorithm::Md5.hash_of(hashes.iter().map(Vec::as_slice)), sizes).unwrap()
    }

    fn made(digest: &OriginDigest, bytes: &[u8]) -> Pieces {
        let mut prover = Prover::for_digest(Some(digest), bytes.len() as u64);
        prover.update(bytes);
        prover.finish_with_pieces().unwrap().1.unwrap()
    }

    #[test]
    fn the_list_that_proves_a_file_proves_each_of_its_pieces_to_others() {
        let bytes = data(1_000_000);
        let part = 300_000;
        let sizes = [PartSizes::Uniform { bytes: part }, PartSizes::Listed(vec![part, part, part, 100_000])];
        let digests = sizes.map(|sizes| parts_of(&bytes, part as usize, sizes));
        for digest in [xet_of(&bytes)].iter().chain(&digests) {
            let list = made(digest, &bytes);
            let rows: Vec<PieceRow> = list.rows().collect();
            assert!(rows.len() > 3, "{digest:?}");
            let sent = PieceRow::decode(&PieceRow::encode(&rows)).unwrap();
            assert_eq!(Pieces::check(digest, 1_000_000, &sent).as_ref(), Some(&list));
            for index in 0..list.count() {
                let place = list.place(index);
                let mut piece = bytes[place.start as usize..place.end as usize].to_vec();
                assert!(list.fits(index, &piece) && !list.fits(index + 1, &piece));
                piece[0] ^= 1;
                assert!(!list.fits(index, &piece) && !list.fits(index, &piece[1..]));
            }
        }
    }

    #[test]
    fn a_list_that_does_not_make_the_digest_is_none() {
        let bytes = data(1_000_000);
        let digest = xet_of(&bytes);
        let rows: Vec<PieceRow> = made(&digest, &bytes).rows().collect();
        let check = |rows: &[PieceRow], size| Pieces::check(&digest, size, rows).is_some();
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
        let other = parts_of(&bytes, 300_000, PartSizes::Uniform { bytes: 200_000 });
        let parts: Vec<PieceRow> =
            bytes.chunks(300_000).map(|part| PieceRow::new(part.len() as u64, &Algorithm::Md5.hash_of([part]))).collect();
        assert!(Pieces::check(&other, 1_000_000, &parts).is_none(), "parts of another size than the origin says");
    }

    #[test]
    fn nodes_above_pieces_make_the_root_too_and_fit_no_bytes() {
        // Small pieces, so that some nodes are as short as a piece may be.
        let bytes = data(60_000);
        let rows: Vec<PieceRow> = bytes.chunks(2_500).map(|piece| PieceRow::new(piece.len() as u64, &xet::piece_hash(piece))).collect();
        let digest = OriginDigest::Xet(xet::file_hash(&rows));
        let above = xet::level_above(&rows);
        let list = Pieces::check(&digest, 60_000, &above).unwrap();
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
            let list = Pieces { hash: PieceHash::Xet, hashes: vec![[0; 32]; ends.len()], ends };
            let bytes = start.min(size)..(start + len).min(size);
            let meets = |index: &usize| bytes.clone().any(|byte| list.place(*index).contains(&byte));
            prop_assert_eq!(list.touched_by(&bytes).collect::<Vec<_>>(), (0..list.count()).filter(meets).collect::<Vec<_>>());
        }
    }
}
