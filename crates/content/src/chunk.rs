//! The BLAKE3 tree of a file, cut into chunks that are hashed alone and combine to its content id.
//!
//! A chunk is a subtree of 256 KiB; its hash is the subtree's chaining value. A file of one chunk has no subtree
//! below its root, so there the chunk's hash is the content id itself.
//!
//! Source: the BLAKE3 paper §2.1 (tree) and `blake3::hazmat` (chaining values of subtrees).

use std::fmt;

use blake3::hazmat::{self, HasherExt, Mode};
use bytes::Bytes;

/// Bytes of every chunk but a file's last.
pub const CHUNK_BYTES: u64 = 256 * 1024;

/// The BLAKE3 hash of a file's bytes: what `b3sum` prints.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContentId(pub [u8; 32]);

impl ContentId {
    /// The content id of bytes at hand.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }

    /// Reads 64 lower-case hex digits.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut id = [0; 32];
        hex::decode_to_slice(text, &mut id).ok()?;
        Some(Self(id)).filter(|id| id.to_string() == text)
    }
}

impl fmt::Display for ContentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for ContentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ContentId({self})")
    }
}

/// The hash of one chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ChunkHash(pub [u8; 32]);

/// How a file of a known size is cut into chunks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkLayout {
    size: u64,
}

impl ChunkLayout {
    /// The layout of a file of `size` bytes.
    #[must_use]
    pub fn new(size: u64) -> Self {
        Self { size }
    }

    /// The file's size in bytes.
    #[must_use]
    pub fn size(self) -> u64 {
        self.size
    }

    /// The number of chunks; an empty file has none.
    #[must_use]
    pub fn count(self) -> u64 {
        self.size.div_ceil(CHUNK_BYTES)
    }

    /// The bytes of the chunks from `first` up to, not with, `end`; clamped to the file.
    #[must_use]
    pub fn bytes(self, first: u64, end: u64) -> std::ops::Range<u64> {
        let at = |chunk: u64| chunk.saturating_mul(CHUNK_BYTES).min(self.size);
        at(first)..at(end)
    }

    /// The hash of chunk `index`, whose bytes these are.
    fn hash(self, index: u64, bytes: &[u8]) -> ChunkHash {
        if self.count() <= 1 {
            return ChunkHash(ContentId::of(bytes).0);
        }
        let mut hasher = blake3::Hasher::new();
        hasher.set_input_offset(index * CHUNK_BYTES).update(bytes);
        ChunkHash(hasher.finalize_non_root())
    }
}

/// A run of consecutive chunks whose bytes were hashed.
///
/// Each was hashed here; only [`VerifiedChunks::check`] also holds the hashes against others, which are already trusted.
#[derive(Debug, Clone)]
pub struct VerifiedChunks {
    layout: ChunkLayout,
    first: u64,
    hashes: Vec<ChunkHash>,
    bytes: Bytes,
}

impl VerifiedChunks {
    /// Hashes `bytes`, wherever they are from: what the hashes are held against is the caller's.
    ///
    /// # Errors
    /// Fails if `bytes` are not whole chunks of `layout` from chunk `first` on.
    pub fn hashed(layout: ChunkLayout, first: u64, bytes: Bytes) -> Result<Self, WrongChunk> {
        let count = (bytes.len() as u64).div_ceil(CHUNK_BYTES);
        let expected = layout.bytes(first, first + count);
        if expected.end - expected.start != bytes.len() as u64 || bytes.is_empty() {
            return Err(WrongChunk { index: first });
        }
        let cut = bytes.chunks(usize::try_from(CHUNK_BYTES).unwrap_or(usize::MAX));
        let hashes = (first..).zip(cut).map(|(index, chunk)| layout.hash(index, chunk)).collect();
        Ok(Self { layout, first, hashes, bytes })
    }

    /// Checks `bytes` that someone sent against `hashes` that are already trusted.
    ///
    /// # Errors
    /// Names the first chunk that has another hash than it should.
    pub fn check(layout: ChunkLayout, first: u64, bytes: Bytes, hashes: &[ChunkHash]) -> Result<Self, WrongChunk> {
        let found = Self::hashed(layout, first, bytes)?;
        let pairs = found.hashes.iter().zip(hashes);
        let wrong = pairs.take_while(|(found, wanted)| found == wanted).count();
        if wrong < found.hashes.len() || found.hashes.len() != hashes.len() {
            return Err(WrongChunk { index: first + wrong as u64 });
        }
        Ok(found)
    }

    /// The layout of the file they are of.
    #[must_use]
    pub fn layout(&self) -> ChunkLayout {
        self.layout
    }

    /// The indices of the chunks.
    #[must_use]
    pub fn indices(&self) -> std::ops::Range<u64> {
        self.first..self.first + self.hashes.len() as u64
    }

    /// Where in the file the bytes begin.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.first * CHUNK_BYTES
    }

    /// The chunks' hashes, in order.
    #[must_use]
    pub fn hashes(&self) -> &[ChunkHash] {
        &self.hashes
    }

    /// The chunks' bytes.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }
}

/// A chunk that has not the bytes it should have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("chunk {index} has not the bytes it should have")]
pub struct WrongChunk {
    /// The chunk's index in its file.
    pub index: u64,
}

/// The chunk hashes of a file, gathered in any order. 33 bytes of memory a chunk.
#[derive(Debug, Clone)]
pub struct ChunkTree {
    layout: ChunkLayout,
    hashes: Vec<Option<ChunkHash>>,
    known: u64,
}

impl ChunkTree {
    /// A tree of which nothing is known yet.
    #[must_use]
    pub fn new(layout: ChunkLayout) -> Self {
        let count = usize::try_from(layout.count()).unwrap_or(usize::MAX);
        Self { layout, hashes: vec![None; count], known: 0 }
    }

    /// The layout it is of.
    #[must_use]
    pub fn layout(&self) -> ChunkLayout {
        self.layout
    }

    /// Takes the hash of one chunk; an index past the end changes nothing.
    pub fn insert(&mut self, index: u64, hash: ChunkHash) {
        let slot = usize::try_from(index).ok().and_then(|index| self.hashes.get_mut(index));
        if let Some(slot) = slot
            && slot.replace(hash).is_none()
        {
            self.known += 1;
        }
    }

    /// Forgets the hash of one chunk.
    pub fn remove(&mut self, index: u64) {
        let slot = usize::try_from(index).ok().and_then(|index| self.hashes.get_mut(index));
        if slot.and_then(Option::take).is_some() {
            self.known -= 1;
        }
    }

    /// The hash of one chunk, if it is known.
    #[must_use]
    pub fn get(&self, index: u64) -> Option<ChunkHash> {
        usize::try_from(index).ok().and_then(|index| self.hashes.get(index).copied().flatten())
    }

    /// How many chunks are known.
    #[must_use]
    pub fn known(&self) -> u64 {
        self.known
    }

    /// Whether every chunk is known.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.known == self.layout.count()
    }

    /// The runs of chunks that are not known, each `first..end`, in order.
    #[must_use]
    pub fn missing(&self) -> Vec<std::ops::Range<u64>> {
        let mut runs: Vec<std::ops::Range<u64>> = Vec::new();
        for (index, _) in (0u64..).zip(&self.hashes).filter(|(_, hash)| hash.is_none()) {
            match runs.last_mut() {
                Some(run) if run.end == index => run.end += 1,
                Some(_) | None => runs.push(index..index + 1),
            }
        }
        runs
    }

    /// The content id that the chunks combine to, once every chunk is known.
    #[must_use]
    pub fn content_id(&self) -> Option<ContentId> {
        let hashes: Vec<ChunkHash> = self.hashes.iter().copied().collect::<Option<_>>()?;
        Some(combine(self.layout, &hashes))
    }
}

/// All chunk hashes of a file, known to combine to its content id. 32 bytes of memory a chunk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChunkHashes {
    layout: ChunkLayout,
    content: ContentId,
    hashes: Vec<ChunkHash>,
}

impl ChunkHashes {
    /// Takes a list from anywhere, if it is one hash a chunk and they combine to `content`.
    #[must_use]
    pub fn check(layout: ChunkLayout, content: ContentId, hashes: Vec<ChunkHash>) -> Option<Self> {
        (hashes.len() as u64 == layout.count() && combine(layout, &hashes) == content).then_some(Self { layout, content, hashes })
    }

    /// The list of a tree of which every chunk is known.
    #[must_use]
    pub fn of_tree(tree: &ChunkTree) -> Option<Self> {
        let hashes: Vec<ChunkHash> = tree.hashes.iter().copied().collect::<Option<_>>()?;
        let content = combine(tree.layout, &hashes);
        Some(Self { layout: tree.layout, content, hashes })
    }

    /// The layout they are of.
    #[must_use]
    pub fn layout(&self) -> ChunkLayout {
        self.layout
    }

    /// What they combine to.
    #[must_use]
    pub fn content(&self) -> ContentId {
        self.content
    }

    /// The hashes of the chunks of a run, clamped to the file.
    #[must_use]
    pub fn run(&self, chunks: std::ops::Range<u64>) -> &[ChunkHash] {
        let at = |index: u64| usize::try_from(index).unwrap_or(usize::MAX).min(self.hashes.len());
        &self.hashes[at(chunks.start).min(at(chunks.end))..at(chunks.end)]
    }
}

/// Combines all chunk hashes of a file to its content id.
fn combine(layout: ChunkLayout, hashes: &[ChunkHash]) -> ContentId {
    match hashes {
        [] => ContentId::of(&[]),
        [only] => ContentId(only.0),
        [..] => {
            let (left, right) = split(layout.size, hashes);
            let left_len = hazmat::left_subtree_len(layout.size);
            let root = hazmat::merge_subtrees_root(&subtree(left_len, left), &subtree(layout.size - left_len, right), Mode::Hash);
            ContentId(*root.as_bytes())
        }
    }
}

fn subtree(len: u64, hashes: &[ChunkHash]) -> hazmat::ChainingValue {
    if let [only] = hashes {
        return only.0;
    }
    let (left, right) = split(len, hashes);
    let left_len = hazmat::left_subtree_len(len);
    hazmat::merge_subtrees_non_root(&subtree(left_len, left), &subtree(len - left_len, right), Mode::Hash)
}

fn split(len: u64, hashes: &[ChunkHash]) -> (&[ChunkHash], &[ChunkHash]) {
    let chunks = hazmat::left_subtree_len(len) / CHUNK_BYTES;
    hashes.split_at(usize::try_from(chunks).unwrap_or(usize::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bytes(len: u64) -> Bytes {
        (0..len).map(|i| (i * 31 % 251) as u8).collect()
    }

    fn tree_of(data: &Bytes, backwards: bool) -> ChunkTree {
        let layout = ChunkLayout::new(data.len() as u64);
        let mut tree = ChunkTree::new(layout);
        let mut order: Vec<u64> = (0..layout.count()).collect();
        if backwards {
            order.reverse();
        }
        for index in order {
            let range = layout.bytes(index, index + 1);
            let chunk = data.slice(range.start as usize..range.end as usize);
            tree.insert(index, VerifiedChunks::hashed(layout, index, chunk).unwrap().hashes()[0]);
        }
        tree
    }

    #[test]
    fn chunk_hashes_combine_to_what_b3sum_prints_for_every_awkward_size() {
        let c = CHUNK_BYTES;
        for size in [0, 1, 1024, c - 1, c, c + 1, 2 * c - 1, 2 * c, 2 * c + 1, 3 * c, 4 * c, 5 * c + 17, 8 * c, 9 * c - 1] {
            let data = bytes(size);
            assert_eq!(tree_of(&data, false).content_id(), Some(ContentId::of(&data)), "{size} bytes");
            assert_eq!(tree_of(&data, true).content_id(), Some(ContentId::of(&data)), "{size} bytes, backwards");
        }
    }

    #[test]
    fn a_changed_byte_names_its_chunk() {
        let data = bytes(3 * CHUNK_BYTES + 5);
        let layout = ChunkLayout::new(data.len() as u64);
        let good = VerifiedChunks::hashed(layout, 0, data.clone()).unwrap();
        let mut bad = data.to_vec();
        bad[CHUNK_BYTES as usize * 2 + 9] ^= 1;
        let error = VerifiedChunks::check(layout, 0, bad.into(), good.hashes()).unwrap_err();
        assert_eq!(error.index, 2);
        assert!(VerifiedChunks::check(layout, 0, data.clone(), good.hashes()).is_ok());
        assert!(VerifiedChunks::check(layout, 0, data, &good.hashes()[1..]).is_err());
    }

    #[test]
    fn a_list_of_hashes_is_taken_only_for_the_content_it_combines_to() {
        let data = bytes(5 * CHUNK_BYTES + 3);
        let tree = tree_of(&data, false);
        let (layout, list) = (tree.layout(), ChunkHashes::of_tree(&tree).unwrap());
        assert_eq!(list.content(), ContentId::of(&data));
        let mut hashes = list.run(0..layout.count()).to_vec();
        assert_eq!(ChunkHashes::check(layout, list.content(), hashes.clone()), Some(list.clone()));
        assert_eq!((list.run(4..99).len(), list.run(7..9).len()), (2, 0));
        hashes.swap(1, 2);
        assert_eq!(ChunkHashes::check(layout, list.content(), hashes), None);
        assert_eq!(ChunkHashes::check(layout, list.content(), list.run(0..5).to_vec()), None);
    }

    #[test]
    fn only_whole_chunks_of_the_layout_are_taken() {
        let layout = ChunkLayout::new(2 * CHUNK_BYTES + 5);
        let chunk = |first, len| VerifiedChunks::hashed(layout, first, bytes(len));
        assert!(chunk(0, CHUNK_BYTES).is_ok() && chunk(2, 5).is_ok());
        assert!(chunk(0, 5).is_err() && chunk(2, 6).is_err() && chunk(3, 1).is_err() && chunk(0, 0).is_err());
    }

    #[test]
    fn missing_chunks_come_as_runs() {
        let mut tree = ChunkTree::new(ChunkLayout::new(6 * CHUNK_BYTES));
        for index in [1, 2, 5, 9] {
            tree.insert(index, ChunkHash([0; 32]));
        }
        assert_eq!(tree.missing(), [0..1, 3..5]);
        tree.remove(2);
        assert_eq!((tree.missing(), tree.known()), (vec![0..1, 2..5], 2));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn any_size_combines_to_the_content_id(size in 0u64..6 * CHUNK_BYTES) {
            let data = bytes(size);
            prop_assert_eq!(tree_of(&data, true).content_id(), Some(ContentId::of(&data)));
        }
    }
}
