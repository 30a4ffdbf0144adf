//! The markets of the configuration: one table `[markets.<address>]` each.
//!
//! What is half said is refused with the reason, since a node that is in no market by mistake costs its operator every byte.

use std::collections::BTreeMap;

use anyhow::{Context, bail, ensure};
use larder_content::NodeId;
use multiaddr::{Multiaddr, Protocol};
use serde::Deserialize;

use super::fields::suggestion;
use larder_node::MarketSettings;

/// The section that holds one table for each market.
pub(super) const SECTION: &str = "markets";
/// The fields of a market.
const NAMES: [&str; 3] = ["listen", "bootstrap", "allow"];
/// The longest address of a market, in characters.
const MAX_ADDRESS: usize = 64;
/// The most addresses or peers that one field names.
const MAX_ENTRIES: usize = 10_000;

/// What the explained file says of markets.
pub(super) const EXPLAINED: &str = "
# A market: the hosts that share one queue of jobs, named by its address. `larder init --market ADDRESS` adds the table of one.
# [markets.ADDRESS]
# Where this node listens for other nodes of the market; [] means that it only calls.
# listen = [\"/ip4/0.0.0.0/tcp/4001\", \"/ip4/0.0.0.0/udp/4001/quic-v1\"]
# The nodes that it finds the others by.
# bootstrap = [\"/dns4/bootstrap.example/tcp/4001/p2p/12D3KooW...\"]
# The peer ids of the nodes that are let in; [] means all.
# allow = []
";

/// A market's table, as it is written.
#[derive(Default, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct MarketFields {
    pub(crate) listen: Vec<String>,
    pub(crate) bootstrap: Vec<String>,
    pub(crate) allow: Vec<String>,
}

/// Refuses addresses that name no market, and fields that mean nothing.
pub(super) fn check_names(markets: &toml::Table) -> anyhow::Result<()> {
    for (address, fields) in markets {
        check_address(address)?;
        let Some(fields) = fields.as_table() else {
            bail!("{SECTION}.{address} is a section: its fields follow a line [{SECTION}.{}]", key(address));
        };
        if let Some(name) = fields.keys().find(|name| !NAMES.contains(&name.as_str())) {
            bail!("there is no field {name} in [{SECTION}.{}]{}", key(address), suggestion(name, NAMES.into_iter()));
        }
    }
    Ok(())
}

/// Refuses an address that cannot be a part of protocol names, file names and labels.
fn check_address(address: &str) -> anyhow::Result<()> {
    let fits = |char: char| char.is_ascii_alphanumeric() || matches!(char, '.' | '_' | '-');
    let known = !address.is_empty() && address.len() <= MAX_ADDRESS && address.chars().all(fits);
    ensure!(known, "{address:?} names no market: an address has 1 to {MAX_ADDRESS} of the characters A-Z a-z 0-9 . _ -");
    Ok(())
}

/// What the tables come down to.
pub(super) fn compose(markets: BTreeMap<String, MarketFields>, quic: bool) -> anyhow::Result<Vec<MarketSettings>> {
    let settings = markets.into_iter().map(|(address, fields)| {
        let place = format!("[{SECTION}.{}]", key(&address));
        settings(address, fields, quic).context(place)
    });
    let settings: Vec<MarketSettings> = settings.collect::<anyhow::Result<_>>()?;
    let mut taken: BTreeMap<&str, &str> = BTreeMap::new();
    for market in &settings {
        for listen in market.listen.iter().filter(|listen| !has_any_port(listen)) {
            if let Some(other) = taken.insert(listen, &market.address) {
                bail!("{listen} is to be listened at twice, for {other} and for {}: give each a port of its own", market.address);
            }
        }
    }
    Ok(settings)
}

fn settings(address: String, fields: MarketFields, quic: bool) -> anyhow::Result<MarketSettings> {
    let MarketFields { listen, bootstrap, allow } = fields;
    for (name, entries) in [("listen", &listen), ("bootstrap", &bootstrap), ("allow", &allow)] {
        ensure!(entries.len() <= MAX_ENTRIES, "{name} has more than {MAX_ENTRIES} entries");
    }
    ensure!(
        !listen.is_empty() || !bootstrap.is_empty(),
        "without listen and bootstrap the node could not meet another: set one of them, or take the table out"
    );
    listen.iter().try_for_each(|text| check_listen(text, quic).with_context(|| format!("listen: {text:?}")))?;
    for peer in &allow {
        NodeId::parse(peer).with_context(|| format!("allow: {peer:?} is no peer id: `larder id` prints one"))?;
    }
    for text in &bootstrap {
        let peer = check_bootstrap(text, quic).with_context(|| format!("bootstrap: {text:?}"))?;
        let allowed = allow.is_empty() || allow.contains(&peer);
        ensure!(allowed, "bootstrap: {text:?} is not let in by allow: add {peer} there");
    }
    Ok(MarketSettings { address, listen, bootstrap, allow, is_bootstrap: false })
}

/// How an address is reached.
enum Reach {
    Tcp { any_port: bool },
    Quic { any_port: bool },
}

fn check_listen(text: &str, quic: bool) -> anyhow::Result<()> {
    const SHAPE: &str = "write it as /ip4/0.0.0.0/tcp/4001 or /ip4/0.0.0.0/udp/4001/quic-v1";
    let address = text.parse::<Multiaddr>().ok().with_context(|| format!("it is no address: {SHAPE}"))?;
    let parts: Vec<Protocol> = address.iter().collect();
    ensure!(matches!(parts.first(), Some(Protocol::Ip4(_) | Protocol::Ip6(_))), "it begins with no IP address: {SHAPE}");
    let reach = reach(&parts[1..]).with_context(|| SHAPE.to_owned())?;
    ensure!(quic || matches!(reach, Reach::Tcp { .. }), "peers.quic is false: set it to true, or listen on TCP");
    Ok(())
}

/// The peer that a bootstrap address leads to.
fn check_bootstrap(text: &str, quic: bool) -> anyhow::Result<String> {
    const SHAPE: &str = "write it as /ip4/203.0.113.5/tcp/4001/p2p/12D3KooW…, or with /dns4/name instead of the IP address";
    let address = text.parse::<Multiaddr>().ok().with_context(|| format!("it is no address: {SHAPE}"))?;
    let mut parts: Vec<Protocol> = address.iter().collect();
    let Some(Protocol::P2p(peer)) = parts.pop() else { bail!("it does not end in the node's peer id: {SHAPE}") };
    let host = |part: Option<&Protocol>| {
        matches!(
            part,
            Some(Protocol::Ip4(_) | Protocol::Ip6(_) | Protocol::Dns(_) | Protocol::Dns4(_) | Protocol::Dns6(_) | Protocol::Dnsaddr(_))
        )
    };
    ensure!(host(parts.first()), "it begins with no host: {SHAPE}");
    match reach(&parts[1..]).with_context(|| SHAPE.to_owned())? {
        Reach::Tcp { any_port: true } | Reach::Quic { any_port: true } => bail!("nobody listens on port 0"),
        Reach::Quic { .. } if !quic => bail!("peers.quic is false: set it to true, or name an address with TCP"),
        Reach::Tcp { .. } | Reach::Quic { .. } => {
            let node = NodeId::parse(&peer.to_base58()).context("its peer id is of no Larder node: `larder id` prints one of 12D3KooW…")?;
            Ok(node.to_string())
        }
    }
}

fn reach(parts: &[Protocol]) -> Option<Reach> {
    match parts {
        [Protocol::Tcp(port)] => Some(Reach::Tcp { any_port: *port == 0 }),
        [Protocol::Udp(port), Protocol::QuicV1] => Some(Reach::Quic { any_port: *port == 0 }),
        [..] => None,
    }
}

fn has_any_port(text: &str) -> bool {
    text.ends_with("/tcp/0") || text.ends_with("/udp/0/quic-v1")
}

/// The table of a market, as the file holds it.
pub(crate) fn table(address: &str, fields: &MarketFields) -> String {
    let list = |entries: &[String]| toml::Value::Array(entries.iter().cloned().map(toml::Value::String).collect()).to_string();
    let MarketFields { listen, bootstrap, allow } = fields;
    format!("\n[{SECTION}.{}]\nlisten = {}\nbootstrap = {}\nallow = {}\n", key(address), list(listen), list(bootstrap), list(allow))
}

/// Where a further market listens if nobody says where: on a port of its own.
pub(crate) fn default_listen(markets: usize, quic: bool) -> Vec<String> {
    let port = u16::try_from(markets).ok().and_then(|markets| 4001_u16.checked_add(markets)).unwrap_or_default();
    let quic = quic.then(|| format!("/ip4/0.0.0.0/udp/{port}/quic-v1"));
    [format!("/ip4/0.0.0.0/tcp/{port}")].into_iter().chain(quic).collect()
}

/// A market's address as a key of TOML.
fn key(address: &str) -> String {
    if address.contains('.') { format!("\"{address}\"") } else { address.to_owned() }
}
