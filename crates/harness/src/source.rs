//! Where the bytes of a served file come from, and how they get to the socket without a wait in between.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::LazyLock;

use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt};

/// Bytes of one read. Larger ones gain nothing on loopback.
const READ_BYTES: u64 = 512 * 1024;
/// How many reads are done ahead of the socket.
const READS_AHEAD: usize = 4;
/// Generated content is made of blocks of this many bytes.
const BLOCK_BYTES: usize = 64 * 1024;
/// How many bytes generated blocks are cut out of.
const POOL_BYTES: usize = 4 * 1024 * 1024;

/// Where the bytes of a file come from.
#[derive(Debug, Clone)]
pub(crate) enum Source {
    /// A file on disk, read again for each request.
    Disk(PathBuf),
    /// Bytes in memory.
    Memory(Bytes),
    /// Bytes computed from a seed: no two blocks of 64 KiB are equal.
    Generated { seed: u64, bytes: u64 },
}

impl Source {
    /// How many bytes it has.
    pub(crate) fn size(&self) -> io::Result<u64> {
        match self {
            Self::Disk(path) => Ok(std::fs::metadata(path)?.len()),
            Self::Memory(bytes) => Ok(bytes.len() as u64),
            Self::Generated { bytes, .. } => Ok(*bytes),
        }
    }

    /// The bytes of `range` in order, in pieces of at most 512 KiB. A source that became shorter ends early.
    pub(crate) fn pieces(&self, range: Range<u64>) -> io::Result<impl Iterator<Item = io::Result<Bytes>> + Send + 'static> {
        let mut reader = Reader::open(self, range.start)?;
        let mut at = range.start;
        Ok(std::iter::from_fn(move || {
            let want = (range.end - at).min(READ_BYTES);
            let piece = if want == 0 { return None } else { reader.next(at, want) };
            at = match &piece {
                Ok(bytes) if !bytes.is_empty() => at + bytes.len() as u64,
                Ok(_) => return None,
                Err(_) => range.end,
            };
            Some(piece)
        }))
    }

    /// As [`Source::pieces`], read ahead of the caller. Runs inside a tokio runtime.
    pub(crate) fn stream(&self, range: Range<u64>) -> BoxStream<'static, io::Result<Bytes>> {
        if let Self::Memory(bytes) = self {
            let end = usize::try_from(range.end).unwrap_or(usize::MAX).min(bytes.len());
            let start = usize::try_from(range.start).unwrap_or(usize::MAX).min(end);
            return stream::iter([Ok(bytes.slice(start..end))]).boxed();
        }
        let one_read = range.end - range.start <= READ_BYTES;
        let pieces = match self.pieces(range) {
            Ok(pieces) => pieces,
            Err(error) => return stream::iter([Err(error)]).boxed(),
        };
        if one_read {
            return stream::iter(pieces).boxed();
        }
        let (sender, receiver) = tokio::sync::mpsc::channel(READS_AHEAD);
        tokio::task::spawn_blocking(move || {
            for piece in pieces {
                if sender.blocking_send(piece).is_err() {
                    break;
                }
            }
        });
        stream::unfold(receiver, |mut receiver| async { receiver.recv().await.map(|piece| (piece, receiver)) }).boxed()
    }
}

enum Reader {
    File(File),
    Memory(Bytes),
    Generated { seed: u64 },
}

impl Reader {
    fn open(source: &Source, at: u64) -> io::Result<Self> {
        Ok(match source {
            Source::Disk(path) => {
                let mut file = File::open(path)?;
                file.seek(SeekFrom::Start(at))?;
                Self::File(file)
            }
            Source::Memory(bytes) => Self::Memory(bytes.clone()),
            Source::Generated { seed, .. } => Self::Generated { seed: *seed },
        })
    }

    fn next(&mut self, at: u64, want: u64) -> io::Result<Bytes> {
        let length = usize::try_from(want).unwrap_or(usize::MAX);
        match self {
            Self::File(file) => {
                let mut piece = Vec::with_capacity(length);
                file.take(want).read_to_end(&mut piece)?;
                Ok(piece.into())
            }
            Self::Memory(bytes) => {
                let start = usize::try_from(at).unwrap_or(usize::MAX).min(bytes.len());
                Ok(bytes.slice(start..bytes.len().min(start + length)))
            }
            Self::Generated { seed } => Ok(generate(*seed, at, length)),
        }
    }
}

/// Bytes that look random, made by one step of a sequence at a time.
///
/// Source: `SplitMix64` (Steele, Lea, Flood 2014).
fn mix(state: u64) -> u64 {
    let mut z = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// `length` bytes of the endless content of `seed`, from offset `at` on.
///
/// Block `n` opens with 16 bytes of its own; the rest is cut out of a pool at a place that depends on seed and `n`. So it
/// costs a copy, and yet any two blocks differ.
fn generate(seed: u64, at: u64, length: usize) -> Bytes {
    static POOL: LazyLock<Vec<u8>> = LazyLock::new(|| (0..POOL_BYTES as u64 / 8).flat_map(|n| mix(n).to_le_bytes()).collect());
    let mut out = Vec::with_capacity(length);
    let block_bytes = BLOCK_BYTES as u64;
    let mut at = at;
    while out.len() < length {
        let block = at / block_bytes;
        let key = mix(seed ^ mix(block));
        let mut head = [0; 16];
        head[..8].copy_from_slice(&key.to_le_bytes());
        head[8..].copy_from_slice(&mix(key).to_le_bytes());
        let place = usize::try_from(key % (POOL_BYTES - BLOCK_BYTES) as u64).unwrap_or(0);
        let skip = usize::try_from(at % block_bytes).unwrap_or(0);
        let take = (BLOCK_BYTES - skip).min(length - out.len());
        let from_head = &head[skip.min(16)..(skip + take).min(16).max(skip.min(16))];
        out.extend_from_slice(from_head);
        out.extend_from_slice(&POOL[place + skip + from_head.len()..place + skip + take]);
        at += take as u64;
    }
    out.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(source: &Source, range: Range<u64>) -> Vec<u8> {
        source.pieces(range).unwrap().flat_map(|piece| piece.unwrap().to_vec()).collect()
    }

    #[test]
    fn generated_bytes_are_the_same_however_they_are_cut() {
        let source = Source::Generated { seed: 7, bytes: 1_500_000 };
        let whole = all(&source, 0..1_500_000);
        assert_eq!(whole.len(), 1_500_000);
        for range in [0..1, 3..20, 15..17, 65_530..65_560, 100_000..700_001, 1_499_999..1_500_000] {
            assert_eq!(all(&source, range.clone()), whole[range.start as usize..range.end as usize], "{range:?}");
        }
    }

    #[test]
    fn no_two_blocks_of_generated_bytes_are_equal() {
        let one = all(&Source::Generated { seed: 1, bytes: 0 }, 0..64 * 65_536);
        let two = all(&Source::Generated { seed: 2, bytes: 0 }, 0..64 * 65_536);
        let blocks: std::collections::HashSet<&[u8]> = one.chunks(65_536).chain(two.chunks(65_536)).collect();
        assert_eq!(blocks.len(), 128);
    }

    #[test]
    fn a_file_on_disk_is_read_by_range() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        let bytes: Vec<u8> = (0..1_200_000u32).map(|n| (n % 251) as u8).collect();
        std::fs::write(&path, &bytes).unwrap();
        let source = Source::Disk(path);
        assert_eq!(source.size().unwrap(), 1_200_000);
        assert_eq!(all(&source, 10..1_200_000), bytes[10..]);
        assert_eq!(all(&source, 0..0), b"");
    }
}
