//! What the engine is told, and what it says to do.

use std::ops::Range;
use std::time::Duration;

use larder_content::{ChunkLayout, ContentId, FileKey, FileMessage, Holding, NodeId};

use crate::{GroupId, MarketId, OriginId, Pieces, ReadId};

/// A node of a market, as another node of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Peer {
    /// The market.
    pub market: MarketId,
    /// The node.
    pub node: NodeId,
}

/// With whom a file may be shared, and how.
#[derive(Debug, Clone, PartialEq)]
pub struct Sharing {
    /// In which market.
    pub market: MarketId,
    /// This node's own id there.
    pub me: NodeId,
    /// How many times longer than straight from the origin it may take; `None` for no limit.
    pub patience: Option<f64>,
    /// Whether it is moved in one piece, and proven when it arrives.
    pub whole: bool,
    /// Nodes that are known to hold or fetch it.
    pub known: Vec<(NodeId, Holding)>,
    /// How long they were looked for: who is of use may have been heard in that time.
    pub looked: Duration,
    /// Whether this node is connected to any other of the market, through which one that begins at the same time is heard of.
    pub company: bool,
    /// Whether a chunk of it is read from the origin before it is taken to be what others say, where no list of pieces proves it.
    pub samples: bool,
}

/// What happened.
#[derive(Debug, Clone, PartialEq)]
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
        /// With whom it is shared; `None` for what comes from its origin alone.
        sharing: Option<Box<Sharing>>,
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
    /// Bytes come, though no whole chunk yet.
    Heard {
        /// The read.
        read: ReadId,
    },
    /// What its peer sends waits until this node takes it: the peer is not silent, whether it has begun with this read or not.
    HeldUp {
        /// The read.
        read: ReadId,
    },
    /// A read is over.
    Ended {
        /// The read.
        read: ReadId,
        /// How it went.
        outcome: Outcome,
    },
    /// A node is said to hold or fetch a file.
    Sighted {
        /// The file.
        file: FileKey,
        /// The node.
        peer: Peer,
        /// How it stands to the file.
        holding: Holding,
    },
    /// A peer said something.
    Told {
        /// The peer.
        peer: Peer,
        /// What it said.
        message: FileMessage,
    },
    /// A peer is gone, or cannot be reached.
    Lost {
        /// The peer.
        peer: Peer,
    },
    /// The answer to [`Action::FetchHashes`].
    Hashes {
        /// The file.
        file: FileKey,
        /// The peer that was asked.
        peer: Peer,
        /// The content it named.
        content: ContentId,
        /// What came of it.
        compared: Compared,
    },
    /// What this node reads from the origin does not fit the chunk hashes that it knows.
    Contradicted {
        /// The file.
        file: FileKey,
        /// The content that they belong to.
        content: ContentId,
    },
    /// Something was heard of the pieces that a file's digest is made of.
    Pieces {
        /// The file.
        file: FileKey,
        /// What was heard.
        pieces: Pieces,
    },
    /// Chunks were shown not to be the origin's, and are not in the store any more.
    Disproven {
        /// The file.
        file: FileKey,
        /// The content that it was taken to be, which it is not.
        content: Option<ContentId>,
        /// The runs of those chunks.
        missing: Vec<Range<u64>>,
    },
    /// The file's whole bytes were proven.
    Proven {
        /// The file.
        file: FileKey,
        /// What it is.
        content: ContentId,
        /// Who signed for chunks that are not its.
        liars: Vec<NodeId>,
    },
    /// The file's whole bytes were refuted.
    Refuted {
        /// The file.
        file: FileKey,
        /// Who is known to have signed for what is false.
        signers: Vec<NodeId>,
        /// The runs of chunks that come anew: what these signed, or if nobody is known, all that this node did not read from the origin itself.
        missing: Vec<Range<u64>>,
    },
}

/// The chunks of a file that are in the store, beside the chunk hashes of the content that it is said to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Compared {
    /// The hashes are kept.
    Known {
        /// The runs that fit.
        fits: Vec<Range<u64>>,
        /// The runs that do not, and were dropped.
        dropped: Vec<Range<u64>>,
        /// The nodes that signed for what does not fit.
        contradicted: Vec<NodeId>,
    },
    /// What this node read from the origin itself does not fit.
    Contradicted,
    /// No hashes came that combine to that content.
    Missing,
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
    /// It can never work. Of a peer: it has not what was asked of it.
    Refused,
    /// A peer sent what fails its own word.
    Lied,
    /// A peer passed on what fails the word of another, who signed it.
    Misled(NodeId),
}

/// Where a read gets its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum From {
    /// From the file's origin.
    Origin,
    /// From a peer.
    Peer {
        /// The peer.
        peer: Peer,
        /// What the file is, if that is known.
        content: Option<ContentId>,
    },
}

/// What to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Read chunks of a file, and report what arrives.
    Read {
        /// The read's name in reports.
        read: ReadId,
        /// The file.
        file: FileKey,
        /// The chunks.
        chunks: Range<u64>,
        /// Where they come from.
        from: From,
    },
    /// Stop a read that is in vain or stalls; nothing about it needs to be reported.
    Cancel {
        /// The read.
        read: ReadId,
    },
    /// Say something to a peer.
    Tell {
        /// The peer.
        peer: Peer,
        /// What to say.
        message: FileMessage,
    },
    /// Get the chunk hashes of a file from a peer, check that they combine to `content`, and report them.
    FetchHashes {
        /// The file.
        file: FileKey,
        /// The peer.
        peer: Peer,
        /// What the peer says the file is.
        content: ContentId,
    },
    /// Have nothing to do with a peer for so long.
    Ban {
        /// The peer.
        peer: Peer,
        /// How long.
        period: Duration,
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
