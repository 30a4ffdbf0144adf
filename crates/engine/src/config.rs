//! How much the engine does at once, and how patient it is.

use std::time::Duration;

/// How much is read at once, and what is tried again.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Reads under way at once, of all files together. Default 32; each costs a connection and about 2 MiB of memory.
    pub reads: usize,
    /// Reads under way at once of one file. Default 16.
    pub reads_per_file: usize,
    /// Chunks of 256 KiB asked for in one read. Default 32, so 8 MiB: shorter reads cost requests, longer ones make the proof
    /// of the file's start wait.
    pub range_chunks: u64,
    /// Times in a row that reads of a file may break off without a single chunk, before it is given up. Default 18: about two
    /// minutes, so that an origin may be gone for one.
    pub failures: u32,
    /// The wait after the first of them, doubled with each up to 8 s. Default 500 ms.
    pub first_wait: Duration,
    /// How long an origin may keep saying that it is busy before a file is given up. Default 15 minutes.
    pub busy: Duration,
    /// How long a read may bring no chunk before it is stopped and counts as broken off. Default 120 s, so that a trickle, which
    /// no timeout between bytes sees, does not keep its connection; on a line that slow less is read at once.
    pub stalled_read: Duration,
    /// How long a peer that was asked for chunks may send nothing before others are asked. Default 2 s.
    pub peer_stall: Duration,
    /// The longest that one chunk of a peer may take, however steadily its bytes come. Default 20 s: 13 kB/s.
    pub longest_chunk: Duration,
    /// How often peers are told which chunks came. Default 50 ms: less costs them messages, more makes them wait.
    pub tell_every: Duration,
    /// Between those who may read what nobody began to read: long enough to hear of it from one that did. Default 150 ms.
    pub stagger: Duration,
    /// The most peers that one file is shared with at once. Default 64, each 512 bytes of memory for every GiB of the file.
    pub partners: usize,
    /// The same where more fetch it, beside neighbours. Default 32: more make it no faster then, and each is told of every chunk.
    pub partners_in_crowd: usize,
    /// Bytes a second that this node would get straight from an origin of which it has read nothing, at least: half of the most that
    /// came by its line if that is more. Default 12.5 MB/s, the least that hosts of the market have.
    pub assumed_origin_rate: f64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            reads: 32,
            reads_per_file: 16,
            range_chunks: 32,
            failures: 18,
            first_wait: Duration::from_millis(500),
            busy: Duration::from_secs(15 * 60),
            stalled_read: Duration::from_secs(120),
            peer_stall: Duration::from_secs(2),
            longest_chunk: Duration::from_secs(20),
            tell_every: Duration::from_millis(50),
            stagger: Duration::from_millis(150),
            partners: 64,
            partners_in_crowd: 32,
            assumed_origin_rate: 12.5e6,
        }
    }
}
