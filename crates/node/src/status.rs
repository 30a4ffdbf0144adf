//! What a node tells of itself: `larder status`, `peers` and `market` with `--json`, and the local API. A contract: fields may
//! be added, none removed.

use std::collections::BTreeMap;

use larder_engine::{MarketId, Peer, Record};
use larder_store::LedgerBytes;
use serde::{Deserialize, Serialize};

use crate::report::Sources;
use crate::{Node, NodeError};

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
    /// How many holdings (files and resources) of others it knows.
    pub heard_of: u64,
    /// Bytes sent over all connections since it joined.
    pub sent_bytes: u64,
    /// Bytes received over all connections since it joined.
    pub received_bytes: u64,
    /// Times that its network had to be started again.
    pub restarts: u64,
    /// Times that it banned a peer for what that sent.
    #[serde(default)]
    pub bans: u64,
    /// Why peers were turned away, the last eight.
    pub refused: Vec<String>,
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

/// What `node` tells of itself.
///
/// # Errors
/// If the store cannot be read.
pub(crate) async fn of(node: &Node) -> Result<Status, NodeError> {
    let (accounts, served) = node.blocking(|store| store.ledger().and_then(|ledger| Ok((ledger, store.served()?)))).await?;
    let sources = |bytes: LedgerBytes| Sources { cache: bytes.cache, peers: bytes.peers, origin: bytes.origin };
    let resources = accounts.into_iter().map(|(id, bytes)| (id, sources(bytes))).collect();
    let seen: Vec<_> = node.markets.all().map(|(id, market)| (id, market.status())).collect();
    let peers = seen.iter().flat_map(|(market, status)| status.peers.iter().map(|peer| Peer { market: *market, node: peer.node }));
    let ended = || NodeError::Defect("the task that fetches has ended".into());
    let (fetching, records) = node.fetcher.count(peers.collect()).await.ok_or_else(ended)?;
    let records: BTreeMap<Peer, Record> = records.into_iter().collect();
    let market = |(id, seen): (MarketId, larder_peers::MarketStatus)| MarketStatus {
        market: seen.address,
        listen: seen.listening,
        peers: seen.peers.into_iter().map(|peer| peer_status(&peer, records.get(&Peer { market: id, node: peer.node }))).collect(),
        known: seen.known_peers as u64,
        heard_of: seen.holdings as u64,
        sent_bytes: seen.sent_bytes,
        received_bytes: seen.received_bytes,
        restarts: seen.restarts,
        bans: seen.bans,
        refused: seen.refused,
    };
    Ok(Status {
        id: node.seed.as_ref().map(crate::peer_id).unwrap_or_default(),
        uptime_s: node.started.elapsed().as_secs(),
        markets: seen.into_iter().map(market).collect(),
        fetching,
        ledger: Ledger::of(resources, served),
    })
}

fn peer_status(peer: &larder_peers::PeerInfo, record: Option<&Record>) -> PeerStatus {
    let record = record.copied().unwrap_or_default();
    PeerStatus {
        id: peer.node.to_string(),
        address: peer.address.clone(),
        bootstrap: peer.is_bootstrap,
        received_bytes: record.verified_bytes,
        sent_bytes: peer.sent_bytes,
        failures: record.failures,
        stalls: record.stalls,
        round_trip_ms: peer.round_trip.map(|time| time.as_secs_f64() * 1e3),
    }
}
