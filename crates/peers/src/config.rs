//! What the operator decides of a market, and why a market cannot start.

use std::time::Duration;

use larder_content::NodeId;
use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;

use crate::identity::node_of;

/// The least connections that a bootstrap takes, whatever [`Config::most_connections`] says: newcomers need a place.
pub(crate) const BOOTSTRAP_CONNECTIONS: u32 = 1024;

/// The longest market address, in bytes: it stands in every protocol name.
const MOST_MARKET_ADDRESS_BYTES: usize = 64;

/// One market, and this node's place in it.
#[derive(Debug, Clone, Default)]
pub struct MarketConfig {
    /// The market's address: 1 to 64 letters, digits, `-`, `_`, `.`.
    pub address: String,
    /// Multiaddresses to listen on, such as `/ip4/0.0.0.0/tcp/4747` or `/ip4/0.0.0.0/udp/4747/quic-v1`.
    pub listen: Vec<String>,
    /// Nodes to begin with, such as `/dns4/host/tcp/4747/p2p/12D3KooW…`; redialled for ever.
    pub bootstrap: Vec<String>,
    /// The only nodes that may connect; empty for all.
    pub allow: Vec<NodeId>,
    /// Whether this node is one that others begin with.
    pub is_bootstrap: bool,
}

/// Limits and times, alike for all markets.
#[derive(Debug, Clone)]
pub struct Config {
    /// Connections to keep up, default 16; each costs about 0.1 MB of memory and 50 bytes a second when
    /// idle, and up to 24 MiB that came and were not read yet when files move.
    pub connections: usize,
    /// The most connections, default 128; three quarters of them may come from outside. A bootstrap takes 1024 at least.
    pub most_connections: u32,
    /// The most payload bytes sent in a second; no limit by default.
    pub upload_bytes_per_second: Option<u64>,
    /// The most payload bytes received in a second; no limit by default.
    pub download_bytes_per_second: Option<u64>,
    /// How long announcements that can wait are gathered, default 5 s.
    pub announce_every: Duration,
    /// How long an announcement is good for unless it is made again, default 24 h.
    pub expiry: Duration,
    /// How long a look around waits for answers at most, default 500 ms.
    pub look_for: Duration,
    /// Whether QUIC addresses are used; when false, one in `listen` is refused. Default true.
    pub quic: bool,
    /// How often connected peers compare what they know of each other, default 60 s, with a fifth of jitter.
    pub compare_every: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            connections: 16,
            most_connections: 128,
            upload_bytes_per_second: None,
            download_bytes_per_second: None,
            announce_every: Duration::from_secs(5),
            expiry: Duration::from_secs(24 * 3600),
            look_for: Duration::from_millis(500),
            quic: true,
            compare_every: Duration::from_secs(60),
        }
    }
}

/// Why a market does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The market's address cannot be part of a protocol name.
    #[error("the market address {0:?} is not 1 to 64 letters, digits, '-', '_', '.'")]
    Address(String),
    /// Not a multiaddress.
    #[error("{address:?} is not a multiaddress such as {example}: {reason}")]
    Multiaddress {
        /// What was given.
        address: String,
        /// What is wrong.
        reason: String,
        /// One that would do.
        example: &'static str,
    },
    /// A bootstrap without its peer id.
    #[error("the bootstrap {0:?} does not end in /p2p/ and an Ed25519 peer id (12D3KooW…)")]
    NoPeer(String),
    /// QUIC is switched off.
    #[error("{0:?} is a QUIC address, and QUIC is switched off; remove it from `listen` or switch QUIC on")]
    QuicIsOff(String),
    /// Another program listens there, or the system does not allow it.
    #[error("cannot listen on {address}: {reason}")]
    Listen {
        /// Where.
        address: String,
        /// What the system says.
        reason: String,
    },
    /// The libraries refuse their own settings or the key.
    #[error("the network cannot be set up: {0}")]
    Setup(String),
}

/// A market's configuration, read.
#[derive(Debug, Clone)]
pub(crate) struct Addresses {
    pub(crate) listen: Vec<Multiaddr>,
    pub(crate) bootstrap: Vec<(NodeId, Multiaddr)>,
}

impl Addresses {
    pub(crate) fn read(market: &MarketConfig, config: &Config) -> Result<Self, StartError> {
        let fits = |character: char| character.is_ascii_alphanumeric() || "-_.".contains(character);
        if market.address.is_empty() || market.address.len() > MOST_MARKET_ADDRESS_BYTES || !market.address.chars().all(fits) {
            return Err(StartError::Address(market.address.clone()));
        }
        let listen = market.listen.iter().map(|text| listen_address(text, config.quic)).collect::<Result<_, _>>()?;
        let bootstrap = market.bootstrap.iter().map(|text| bootstrap_address(text)).collect::<Result<_, _>>()?;
        Ok(Self { listen, bootstrap })
    }
}

fn listen_address(text: &str, quic: bool) -> Result<Multiaddr, StartError> {
    let example = "/ip4/0.0.0.0/tcp/4747";
    let wrong = |reason: String| StartError::Multiaddress { address: text.to_owned(), reason, example };
    let address: Multiaddr = text.parse().map_err(|error: libp2p::multiaddr::Error| wrong(error.to_string()))?;
    let is_quic = address.iter().any(|part| matches!(part, Protocol::QuicV1));
    let is_tcp = address.iter().any(|part| matches!(part, Protocol::Tcp(_)));
    if is_quic && !quic {
        return Err(StartError::QuicIsOff(text.to_owned()));
    }
    if !is_quic && !is_tcp {
        return Err(wrong("it has neither /tcp/PORT nor /udp/PORT/quic-v1".to_owned()));
    }
    Ok(address)
}

fn bootstrap_address(text: &str) -> Result<(NodeId, Multiaddr), StartError> {
    let example = "/ip4/192.0.2.1/tcp/4747/p2p/12D3KooW…";
    let mut address: Multiaddr = text.parse().map_err(|error: libp2p::multiaddr::Error| StartError::Multiaddress {
        address: text.to_owned(),
        reason: error.to_string(),
        example,
    })?;
    match address.pop() {
        Some(Protocol::P2p(peer)) if !address.is_empty() => {
            node_of(&peer).map(|node| (node, address)).ok_or_else(|| StartError::NoPeer(text.to_owned()))
        }
        _ => Err(StartError::NoPeer(text.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Identity;

    fn market(listen: &[&str], bootstrap: &[String]) -> MarketConfig {
        MarketConfig {
            address: "market".into(),
            listen: listen.iter().map(ToString::to_string).collect(),
            bootstrap: bootstrap.to_vec(),
            ..MarketConfig::default()
        }
    }

    #[test]
    fn an_address_that_cannot_be_used_is_named() {
        let refused = |market: &MarketConfig, config: &Config| Addresses::read(market, config).unwrap_err().to_string();
        let config = Config::default();
        assert!(refused(&market(&["0.0.0.0:80"], &[]), &config).contains("0.0.0.0:80"));
        assert!(refused(&market(&["/ip4/0.0.0.0/udp/1"], &[]), &config).contains("quic-v1"));
        assert!(refused(&market(&[], &["/ip4/1.2.3.4/tcp/5".into()]), &config).contains("/p2p/"));
        assert!(refused(&market(&["/ip4/0.0.0.0/udp/1/quic-v1"], &[]), &Config { quic: false, ..config.clone() }).contains("switched off"));
        assert!(refused(&MarketConfig { address: "a/b".into(), ..market(&[], &[]) }, &config).contains("a/b"));
        let peer = format!("/ip4/1.2.3.4/tcp/5/p2p/{}", Identity::generate().id());
        assert_eq!(Addresses::read(&market(&["/ip4/0.0.0.0/tcp/0"], &[peer]), &config).unwrap().bootstrap.len(), 1);
    }
}
