//! What a node tells of itself: `larder status`, `peers` and `market` with `--json`, and the local API. A contract: fields may
//! be added, none removed.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::report::Sources;

/// What a node tells of itself.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Its peer id; empty where it has no key, because it is in no market.
    pub id: String,
    /// Seconds since it was started.
    pub uptime_s: u64,
    /// The markets it is in.
    pub markets: Vec<MarketStatus>,
    /// Files that are being fetched.
    pub fetching: u64,
    /// The bytes it moved.
    pub ledger: Ledger,
}

/// One market, as this node sees it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct MarketStatus {
    /// The market's address.
    pub market: String,
    /// Where this node listens, each with its peer id.
    pub listen: Vec<String>,
    /// The peers it is connected to.
    pub peers: Vec<PeerStatus>,
    /// How many other nodes it knows an address of.
    pub known: u64,
    /// How many subjects (files and resources) it has announced.
    pub announced: u64,
    /// How many subjects it knows holders of.
    pub heard_of: u64,
}

/// One peer.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct PeerStatus {
    /// Its peer id.
    pub id: String,
    /// Its address.
    pub address: String,
    /// Whether it is one of the market's bootstrap peers.
    pub bootstrap: bool,
    /// Verified bytes that it sent.
    pub received_bytes: u64,
    /// Bytes that were sent to it.
    pub sent_bytes: u64,
    /// Times that what it sent was not what it should have been.
    pub failures: u64,
    /// Times that it sent nothing for too long.
    pub stalls: u64,
    /// The round trip in milliseconds, if it was measured.
    pub round_trip_ms: Option<f64>,
}

/// Bytes of content by where they came from, since the store was made.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Ledger {
    /// What jobs of this node got.
    pub from: Sources,
    /// What peers got from this node.
    pub served: u64,
    /// The part of what jobs got that did not come from the origin: (cache + peers) / all; `None` before the first byte.
    pub offload: Option<f64>,
    /// The same by resource, under its id.
    pub resources: BTreeMap<String, Sources>,
}

impl Ledger {
    /// A ledger of these accounts.
    #[must_use]
    pub fn of(resources: BTreeMap<String, Sources>, served: u64) -> Self {
        let sum = resources.values().fold(Sources::default(), |sum, one| Sources {
            cache: sum.cache + one.cache,
            peers: sum.peers + one.peers,
            origin: sum.origin + one.origin,
        });
        let all = sum.cache + sum.peers + sum.origin;
        let offload = (all > 0).then(|| (sum.cache + sum.peers) as f64 / all as f64);
        Self { from: sum, served, offload, resources }
    }
}
