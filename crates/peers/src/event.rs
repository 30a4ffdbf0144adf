//! What a market tells its node.

use larder_content::{FileMessage, Holding, NodeId, Subject};

use crate::book::Book;
use crate::exchange::Upload;

/// Something that happened in a market. All come over one bounded channel of 4,096 places: while no more than 1,024 are free,
/// sightings are dropped, whoever told them; for the rest, the peer that they come from waits until there is one.
#[derive(Debug)]
pub enum Event {
    /// A peer of this market and version is there, and has said hello.
    Connected(NodeId),
    /// It is there no more; also when it came back over another connection at once, since what was being told may be lost.
    Disconnected(NodeId),
    /// A peer tells something of a file.
    Told {
        /// Who tells.
        from: NodeId,
        /// What.
        message: FileMessage,
    },
    /// A node holds or fetches something, as it said itself or as another heard.
    Sighted(Sighting),
    /// A peer asks for chunks or hashes.
    Asked(Upload),
    /// The known peers have changed, or someone was banned: to be kept over a restart. At most once a minute, and at the end.
    Book(Book),
}

/// A node's holding of a subject: a hint until that node itself gives something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sighting {
    /// Of what.
    pub subject: Subject,
    /// Who.
    pub node: NodeId,
    /// How.
    pub holding: Holding,
}
