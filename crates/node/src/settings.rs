//! What a node works with.

use std::str::FromStr;

use larder_engine::Config as EngineConfig;
use larder_peers::Identity;
use serde::{Deserialize, Serialize};

use crate::NodeError;

/// What a node works with. The default is a node alone: in no market, without limits.
#[derive(Debug, Clone, Default)]
pub struct NodeConfig {
    /// How much it reads at once, and when it gives up.
    pub engine: EngineConfig,
    /// For jobs that do not ask for their own. Default 1.5.
    pub patience: Patience,
    /// The most bytes a second that it reads from origins, all together. Default: no limit.
    pub origin_bytes_per_second: Option<u64>,
    /// What it is to others.
    pub peers: PeersConfig,
}

/// What a node is to others.
#[derive(Clone, Default)]
pub struct PeersConfig {
    /// The seed of its Ed25519 key. Without it the node is in no market.
    pub identity: Option<[u8; 32]>,
    /// The markets it is in. A job that names none is of the first.
    pub markets: Vec<MarketSettings>,
    /// The most bytes of content a second that it sends, in each market. Default: no limit.
    pub upload_bytes_per_second: Option<u64>,
    /// The most bytes of content a second that it takes from peers, in each market. Default: no limit.
    pub download_bytes_per_second: Option<u64>,
    /// Connections that it keeps up in each market; 0 for the default, 16.
    pub connections: usize,
    /// Whether it speaks QUIC besides TCP.
    pub quic: bool,
}

impl std::fmt::Debug for PeersConfig {
    /// Leaves out the key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PeersConfig").field("markets", &self.markets).finish_non_exhaustive()
    }
}

/// One market that a node is in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MarketSettings {
    /// The market's address.
    pub address: String,
    /// Where this node listens: multiaddrs.
    pub listen: Vec<String>,
    /// Whom it asks first: multiaddrs that end in a peer id.
    pub bootstrap: Vec<String>,
    /// The peer ids that are let in; none for all.
    pub allow: Vec<String>,
    /// Whether others begin with this node.
    pub is_bootstrap: bool,
}

/// How many times longer than straight from the origin a job may take before the origin helps more.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Patience {
    /// So many times, at least 1.
    Times(f64),
    /// However long it takes: the origin helps only where peers stall.
    Unlimited,
}

impl Default for Patience {
    fn default() -> Self {
        Self::Times(1.5)
    }
}

impl Patience {
    /// A number of times.
    ///
    /// # Errors
    /// If it is not a number of at least 1.
    pub fn times(times: f64) -> Result<Self, NodeError> {
        let wrong = || NodeError::Input("patience is a number of at least 1, fastest (which is 1), or none for no limit".into());
        if times.is_finite() && times >= 1.0 { Ok(Self::Times(times)) } else { Err(wrong()) }
    }

    pub(crate) fn limit(self) -> Option<f64> {
        match self {
            Self::Times(times) => Some(times),
            Self::Unlimited => None,
        }
    }
}

impl FromStr for Patience {
    type Err = NodeError;

    /// Reads a number, `fastest` for 1, or `none` for no limit.
    fn from_str(text: &str) -> Result<Self, NodeError> {
        match text {
            "none" => Ok(Self::Unlimited),
            "fastest" => Ok(Self::Times(1.0)),
            number => Self::times(number.parse().unwrap_or(f64::NAN)),
        }
    }
}

/// The peer id of a key.
#[must_use]
pub fn peer_id(seed: &[u8; 32]) -> String {
    Identity::from_seed(*seed).id().to_string()
}

/// The seed of a Solana key file: a JSON array of 64 numbers.
///
/// # Errors
/// Says why it is none.
pub fn solana_seed(json: &str) -> Result<[u8; 32], NodeError> {
    Identity::from_solana(json).map(|identity| identity.seed()).map_err(|error| NodeError::Input(error.to_string()))
}

/// The seed of a new key.
#[must_use]
pub fn new_seed() -> [u8; 32] {
    Identity::generate().seed()
}
