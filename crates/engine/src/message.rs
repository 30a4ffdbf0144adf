//! What the engine is told, and what it says to do.

use std::ops::Range;
use std::time::Duration;

use larder_content::{ChunkLayout, FileKey};

use crate::{GroupId, OriginId, ReadId};

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A file is to be fetched.
    Wanted {
        /// Its key.
        file: FileKey,
        /// How it is cut into chunks.
        layout: ChunkLayout,
        /// The runs of chunks that are not in the store.
        missing: Vec<Range<u64>>,
        /// Where it is read from.
        origin: OriginId,
        /// What it is wanted for.
        group: GroupId,
    },
    /// Nobody wants a file any more.
    Unwanted {
        /// Its key.
        file: FileKey,
    },
    /// The next chunks of a read are verified and in the store.
    Arrived {
        /// The read.
        read: ReadId,
        /// How many chunks, continuing where the last report ended.
        chunks: u64,
    },
    /// A read is over.
    Ended {
        /// The read.
        read: ReadId,
        /// How it went.
        outcome: Outcome,
    },
}

/// How a read ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// All that was asked for arrived.
    Complete,
    /// It broke off, and may work the next time.
    Broken,
    /// The origin asks to be left alone, for so long if it said how long.
    Busy(Option<Duration>),
    /// The origin sends whole files only.
    RangeIgnored,
    /// It can never work.
    Refused,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Read chunks of a file from its origin, and report what arrives.
    Read {
        /// The read's name in reports.
        read: ReadId,
        /// The file.
        file: FileKey,
        /// The chunks.
        chunks: Range<u64>,
    },
    /// Stop a read that is in vain or stalls; nothing about it needs to be reported.
    Cancel {
        /// The read.
        read: ReadId,
    },
    /// Every chunk of the file is in the store.
    Complete {
        /// The file.
        file: FileKey,
    },
    /// The file cannot be had, for the reason that its last read reported; if none did, its reads stalled.
    GiveUp {
        /// The file.
        file: FileKey,
    },
}
