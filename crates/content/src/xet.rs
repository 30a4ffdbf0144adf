//! The Xet file hash: the root over a file's content-defined pieces.
//!
//! Pieces are cut by a Gear rolling hash (target 64 KiB, least 8 KiB, most 128 KiB), hashed with keyed BLAKE3, and
//! merged in groups of two to nine until one node is left.
//!
//! Source: the Xet protocol specification 1.1.0, "Content-defined chunking" and "Hashing methods"
//! (huggingface.co/docs/xet). Note the order of digits: each 8 bytes are written as a little-endian number.

use std::fmt::Write;

use crate::PieceRow;

/// The fewest bytes of a piece that is not the file's last.
pub(crate) const PIECE_MIN_BYTES: usize = 8 * 1024;
/// The most bytes of a piece.
pub(crate) const PIECE_MAX_BYTES: usize = 128 * 1024;
/// The window of the rolling hash: bytes further back do not matter.
const WINDOW_BYTES: usize = 64;
/// A piece ends where these bits of the rolling hash are all zero: one place in 65,536.
const BOUNDARY_MASK: u64 = 0xFFFF_0000_0000_0000;

/// The key of piece hashes.
const PIECE_KEY: [u8; 32] = [
    0x66, 0x97, 0xf5, 0x77, 0x5b, 0x95, 0x50, 0xde, 0x31, 0x35, 0xcb, 0xac, 0xa5, 0x97, 0x18, 0x1c, 0x9d, 0xe4, 0x21, 0x10, 0x9b, 0xeb,
    0x2b, 0x58, 0xb4, 0xd0, 0xb0, 0x4b, 0x93, 0xad, 0xf2, 0x29,
];
/// The key of the hashes of nodes above pieces.
const NODE_KEY: [u8; 32] = [
    0x01, 0x7e, 0xc5, 0xc7, 0xa5, 0x47, 0x29, 0x96, 0xfd, 0x94, 0x66, 0x66, 0xb4, 0x8a, 0x02, 0xe6, 0x5d, 0xdd, 0x53, 0x6f, 0x37, 0xc7,
    0x6d, 0xd2, 0xf8, 0x63, 0x52, 0xe6, 0x4a, 0x53, 0x71, 0x3f,
];
/// The key of the last step, from root to file hash.
const FILE_KEY: [u8; 32] = [0; 32];

/// Computes a Xet file hash from the file's bytes in order. Takes at most 128 KiB, and 40 bytes a piece.
pub struct XetHasher {
    gear: gearhash::Hasher<'static>,
    piece: blake3::Hasher,
    piece_bytes: usize,
    pieces: Vec<PieceRow>,
}

impl Default for XetHasher {
    fn default() -> Self {
        Self::new()
    }
}

impl XetHasher {
    /// A hasher that has seen no bytes.
    #[must_use]
    pub fn new() -> Self {
        Self { gear: gearhash::Hasher::default(), piece: piece_hasher(), piece_bytes: 0, pieces: Vec::new() }
    }

    /// Takes the next bytes of the file.
    pub fn update(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let (taken, ends) = self.scan(bytes);
            self.piece.update(&bytes[..taken]);
            self.piece_bytes += taken;
            if ends {
                self.end_piece();
            }
            bytes = &bytes[taken..];
        }
    }

    /// The file hash of the bytes taken.
    #[must_use]
    pub fn finish(self) -> [u8; 32] {
        file_hash(&self.into_pieces())
    }

    /// The pieces of the bytes taken.
    #[must_use]
    pub fn into_pieces(mut self) -> Vec<PieceRow> {
        if self.piece_bytes > 0 {
            self.end_piece();
        }
        self.pieces
    }

    /// How many of `bytes` belong to the current piece, and whether it ends with them.
    fn scan(&mut self, bytes: &[u8]) -> (usize, bool) {
        // Only the window before the first place where a piece may end can matter.
        let skip = (PIECE_MIN_BYTES - WINDOW_BYTES - 1).saturating_sub(self.piece_bytes).min(bytes.len());
        let end = bytes.len().min(PIECE_MAX_BYTES - self.piece_bytes);
        let mut at = skip;
        while let Some(step) = self.gear.next_match(&bytes[at..end], BOUNDARY_MASK) {
            at += step;
            if self.piece_bytes + at >= PIECE_MIN_BYTES {
                return (at, true);
            }
        }
        (end, self.piece_bytes + end == PIECE_MAX_BYTES)
    }

    fn end_piece(&mut self) {
        self.pieces.push(PieceRow { hash: *self.piece.finalize().as_bytes(), bytes: self.piece_bytes as u64 });
        self.piece.reset();
        self.piece_bytes = 0;
        self.gear.set_hash(0);
    }
}

/// Makes the hash of a piece.
pub(crate) fn piece_hasher() -> blake3::Hasher {
    blake3::Hasher::new_keyed(&PIECE_KEY)
}

/// The file hash that pieces, in order, have as their root; 32 zero bytes for no pieces.
pub(crate) fn file_hash(pieces: &[PieceRow]) -> [u8; 32] {
    let mut level = pieces.to_vec();
    while level.len() > 1 {
        level = level_above(&level);
    }
    match level.first() {
        Some(root) => *blake3::keyed_hash(&FILE_KEY, &root.hash).as_bytes(),
        None => [0; 32],
    }
}

/// The nodes above these.
pub(crate) fn level_above(nodes: &[PieceRow]) -> Vec<PieceRow> {
    let mut rest = nodes;
    let mut above = Vec::with_capacity(nodes.len() / 2);
    while !rest.is_empty() {
        let (group, more) = rest.split_at(group_len(rest));
        above.push(merge(group));
        rest = more;
    }
    above
}

/// How many of the next nodes have one parent: two to nine, ending with a node whose last number is a multiple of four.
fn group_len(nodes: &[PieceRow]) -> usize {
    let most = nodes.len().min(9);
    let cut = nodes.iter().take(most).skip(2).position(|node| node.hash[24] % 4 == 0);
    cut.map_or(most, |after| after + 3)
}

fn merge(group: &[PieceRow]) -> PieceRow {
    let mut text = String::with_capacity(group.len() * 88);
    for node in group {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{} : {}", format_hash(&node.hash), node.bytes);
    }
    let hash = *blake3::keyed_hash(&NODE_KEY, text.as_bytes()).as_bytes();
    PieceRow { hash, bytes: group.iter().map(|node| node.bytes).sum() }
}

/// A hash in Xet's order of digits: 64 of them.
#[must_use]
pub fn format_hash(hash: &[u8; 32]) -> String {
    hex::encode(swap(*hash))
}

/// Reads 64 hex digits in Xet's order.
#[must_use]
pub fn parse_hash(text: &str) -> Option<[u8; 32]> {
    let mut digits = [0; 32];
    hex::decode_to_slice(text, &mut digits).ok()?;
    Some(swap(digits))
}

/// Reverses each group of 8 bytes; its own inverse.
fn swap(mut hash: [u8; 32]) -> [u8; 32] {
    hash.chunks_exact_mut(8).for_each(<[u8]>::reverse);
    hash
}

#[cfg(test)]
mod tests {
    use super::*;

    fn generated(len: usize) -> Vec<u8> {
        let mut state = 1u64;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        };
        (0..len).map(|_| next()).collect()
    }

    fn hash_in_steps(bytes: &[u8], step: usize) -> String {
        let mut hasher = XetHasher::new();
        bytes.chunks(step).for_each(|part| hasher.update(part));
        format_hash(&hasher.finish())
    }

    /// Vectors made with `hf_xet.hash_files` 1.8.0 over the same bytes.
    #[test]
    fn equals_what_the_hubs_own_client_computes() {
        for (len, expected) in GENERATED {
            let bytes = generated(len);
            for step in [1_000_003, 4096, 777] {
                assert_eq!(hash_in_steps(&bytes, step), expected, "{len} bytes in steps of {step}");
            }
        }
        assert_eq!(hash_in_steps(&vec![0; 1_000_000], 65_536), ZEROS);
    }

    #[test]
    fn a_changed_piece_changes_the_root() {
        let mut hasher = XetHasher::new();
        hasher.update(&generated(1_000_000));
        let mut pieces = hasher.pieces.clone();
        let hash = file_hash(&pieces);
        assert!(pieces.len() > 4);
        pieces[3].hash[0] ^= 1;
        assert_ne!(file_hash(&pieces), hash);
    }

    #[test]
    fn digits_are_read_as_they_are_written() {
        let text = "84a4e05c6e80b44893c4436731b8b6cc61fe3ba5a54d3a5dafaff3a9ce4594e9";
        assert_eq!(format_hash(&parse_hash(text).unwrap()), text);
        assert_eq!(parse_hash("84a4"), None);
    }

    const GENERATED: [(usize, &str); 6] = [
        (0, "0000000000000000000000000000000000000000000000000000000000000000"),
        (1, "994b8e4a934411cc0f03e2089fb8c276893059dd1485f86226f0aac86473e33e"),
        (5000, "685f3a0621b252d079b6bdd66eff0d3610d6cd13f27d71f739d47944b1ceb136"),
        (8192, "556829086ec46083e937674309b466abd4c844d3229e78a0dc93c94d6ff6f0c8"),
        (100_000, "533b884c46bf6bbbe6f91eadda15cdefac1d3883f0bfd311f919ce3beb37f743"),
        (3_000_000, "ddbf6f5f08916b45bb8d59c42cb8ada0357eeddb103a854d10f8c031692958b2"),
    ];
    const ZEROS: &str = "c0c85185f4307d40facfd366573176e54fc9c76041e44e32d52489780a6d1eaa";
}
