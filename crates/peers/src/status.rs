//! What a market looks like from outside.

use std::time::Duration;

use larder_content::NodeId;

/// A market, now.
#[derive(Debug, Clone)]
pub struct MarketStatus {
    /// Its address.
    pub address: String,
    /// Where it listens, each ending in `/p2p/` and its id.
    pub listening: Vec<String>,
    /// The connected peers.
    pub peers: Vec<PeerInfo>,
    /// How many peers are known, connected or not.
    pub known_peers: usize,
    /// How many holdings of other nodes are known.
    pub holdings: usize,
    /// Bytes sent over all streams since the start.
    pub sent_bytes: u64,
    /// Bytes received over all streams since the start.
    pub received_bytes: u64,
    /// How often the event loop died and was started again.
    pub restarts: u64,
    /// Times that a peer was banned for what it sent.
    pub bans: u64,
    /// The last reasons why peers were turned away, at most 8.
    pub refused: Vec<String>,
}

/// A connected peer.
#[derive(Debug, Clone)]
pub struct PeerInfo {
    /// Who.
    pub node: NodeId,
    /// Its end of the connection.
    pub address: String,
    /// Whether it is a bootstrap.
    pub is_bootstrap: bool,
    /// Bytes sent to it over this connection.
    pub sent_bytes: u64,
    /// The last measured time there and back; none before the first.
    pub round_trip: Option<Duration>,
}
