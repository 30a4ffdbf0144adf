//! The pieces that a Xet hash is made of: whoever has their list can prove each by itself.
//!
//! A list may come from a stranger: [`Pieces::check`] takes it only if it makes the very hash that the origin lists. What that does not
//! show is that there are bytes for each of them: the nodes above the pieces make the same root as the pieces do. Nodes and pieces are hashed
//! with different keys, so that no bytes match a node: such a list proves nothing that is false, but right bytes look wrong by it.

use std::ops::Range;

use crate::xet;

/// The pieces of one file, in order, which make the Xet hash that its origin lists. 40 bytes of memory a piece.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pieces {
    root: [u8; 32],
    /// Where each ends.
    ends: Vec<u64>,
    hashes: Vec<[u8; 32]>,
}

/// One piece as a list tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PieceRow {
    /// How many bytes it has.
    pub bytes: u64,
    /// Its hash.
    pub hash: [u8; 32],
}

impl PieceRow {
    /// The bytes of an encoded row.
    pub const BYTES: usize = 8 + 32;
    /// The most bytes of a piece.
    pub const MOST_BYTES: u64 = xet::PIECE_MAX_BYTES as u64;

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
    /// Takes a list, wherever it is from, for a file of `size` bytes, if it makes the Xet hash `root`.
    #[must_use]
    pub fn check(root: &[u8; 32], size: u64, rows: &[PieceRow]) -> Option<Self> {
        let mut end = 0u64;
        let mut ends = Vec::with_capacity(rows.len());
        for row in rows {
            end = end.checked_add(row.bytes).filter(|_| (1..=PieceRow::MOST_BYTES).contains(&row.bytes))?;
            ends.push(end);
        }
        let makes_it = rows.len() as u64 <= Self::most(size) && end == size && xet::file_hash(rows) == *root;
        makes_it.then(|| Self { root: *root, ends, hashes: rows.iter().map(|row| row.hash).collect() })
    }

    /// The most pieces that a list for a file of `size` bytes may have: twice as many as there are of bytes that do not repeat, where each has
    /// 64 KiB on average, and some.
    #[must_use]
    pub fn most(size: u64) -> u64 {
        (size / (32 * 1024) + 1024).min(size.div_ceil(xet::PIECE_MIN_BYTES as u64))
    }

    /// The Xet hash that they make.
    #[must_use]
    pub fn root(&self) -> &[u8; 32] {
        &self.root
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
        let is_long_enough = place.end - place.start == bytes.len() as u64;
        is_long_enough && self.hashes.get(index).is_some_and(|hash| *hash == xet::piece_hash(bytes))
    }

    /// The list, to be given to others.
    pub fn rows(&self) -> impl Iterator<Item = PieceRow> + '_ {
        self.hashes.iter().enumerate().map(|(index, hash)| {
            let place = self.place(index);
            PieceRow { bytes: place.end - place.start, hash: *hash }
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn data(len: usize) -> Vec<u8> {
        let mut state = 7u32;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        };
        (0..len).map(|_| next()).collect()
    }

    fn rows_of(bytes: &[u8]) -> Vec<PieceRow> {
        let mut hasher = xet::XetHasher::new();
        hasher.update(bytes);
        hasher.into_pieces()
    }

    #[test]
    fn the_list_of_a_file_proves_each_of_its_pieces() {
        let bytes = data(1_000_000);
        let rows = rows_of(&bytes);
        let sent = PieceRow::decode(&PieceRow::encode(&rows)).unwrap();
        let list = Pieces::check(&xet::file_hash(&rows), 1_000_000, &sent).unwrap();
        assert!(list.count() > 3 && list.rows().eq(rows));
        for index in 0..list.count() {
            let place = list.place(index);
            let mut piece = bytes[place.start as usize..place.end as usize].to_vec();
            assert!(list.fits(index, &piece) && !list.fits(index + 1, &piece));
            piece[0] ^= 1;
            assert!(!list.fits(index, &piece) && !list.fits(index, &piece[1..]));
        }
    }

    #[test]
    fn a_list_that_does_not_make_the_hash_is_none() {
        let rows = rows_of(&data(1_000_000));
        let root = xet::file_hash(&rows);
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
        let row = |piece: &[u8]| PieceRow { bytes: piece.len() as u64, hash: xet::piece_hash(piece) };
        let rows: Vec<PieceRow> = bytes.chunks(7_500).map(row).collect();
        let above = xet::level_above(&rows);
        assert!(above.len() < rows.len());
        let list = Pieces::check(&xet::file_hash(&rows), 60_000, &above).unwrap();
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
            let list = Pieces { root: [0; 32], hashes: vec![[0; 32]; ends.len()], ends };
            let bytes = start.min(size)..(start + len).min(size);
            let meets = |index: &usize| bytes.clone().any(|byte| list.place(*index).contains(&byte));
            prop_assert_eq!(list.touched_by(&bytes).collect::<Vec<_>>(), (0..list.count()).filter(meets).collect::<Vec<_>>());
        }
    }
}
