//! What a node tells of itself, as documents and as lines for people.

use std::time::Duration;

use indicatif::{HumanBytes, HumanDuration};
use larder_node::{Ledger, MarketStatus, PeerStatus, Sources, Status};
use serde_json::{Value, json};

use crate::print::counted;

/// The part of a status that is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum View {
    Whole,
    Peers,
    Markets,
}

impl View {
    /// The document that `--json` and the API show.
    pub(crate) fn document(self, status: &Status) -> Value {
        match self {
            Self::Whole => json!(status),
            Self::Peers => json!({"peers": peers(status).map(of_market).collect::<Vec<_>>()}),
            Self::Markets => json!({"markets": status.markets}),
        }
    }

    /// The lines that people read. `configured` is how many markets the configuration names.
    pub(crate) fn lines(self, status: &Status, configured: usize) -> Vec<String> {
        let mut lines = match self {
            Self::Whole => whole(status),
            Self::Peers => peers(status).map(peer).collect(),
            Self::Markets => status.markets.iter().map(market).collect(),
        };
        if status.markets.is_empty() {
            lines.push(match configured {
                0 => "in no market: `larder init --market ADDRESS` joins one".to_owned(),
                _ => "not in its market, because no daemon runs: start it with `larder run`".to_owned(),
            });
        } else if lines.is_empty() {
            lines.push("connected to no peer".to_owned());
        }
        lines
    }
}

fn peers(status: &Status) -> impl Iterator<Item = (&str, &PeerStatus)> {
    status.markets.iter().flat_map(|market| market.peers.iter().map(|peer| (market.market.as_str(), peer)))
}

/// A peer's document, with the market it is a peer in.
fn of_market((market, peer): (&str, &PeerStatus)) -> Value {
    let mut document = json!({ "market": market });
    if let (Value::Object(document), Value::Object(peer)) = (&mut document, json!(peer)) {
        document.extend(peer);
    }
    document
}

fn whole(status: &Status) -> Vec<String> {
    let Status { id, uptime_s, markets, fetching, ledger } = status;
    let mut lines = Vec::new();
    if !id.is_empty() {
        let (up, files) = (HumanDuration(Duration::from_secs(*uptime_s)), counted(*fetching, "file"));
        lines.push(format!("node {id}, up for {up}, fetching {files}"));
    }
    lines.extend(markets.iter().map(market));
    let Ledger { from, served, offload, resources } = ledger;
    let offload = offload.map_or_else(String::new, |offload| format!("; {:.1} % spared the origin", offload * 100.0));
    lines.push(format!("{}; {} sent to peers{offload}", sources(from), HumanBytes(*served)));
    lines.extend(resources.iter().map(|(id, from)| format!("{id}: {}", sources(from))));
    lines
}

fn sources(from: &Sources) -> String {
    format!("cache {}, peers {}, origin {}", HumanBytes(from.cache), HumanBytes(from.peers), HumanBytes(from.origin))
}

fn market(market: &MarketStatus) -> String {
    let MarketStatus { market, listen, peers, known, heard_of, sent_bytes, received_bytes, restarts, bans, refused } = market;
    let peers = counted(peers.len() as u64, "peer");
    let listen = if listen.is_empty() { "listening nowhere".to_owned() } else { format!("listening on {}", listen.join(", ")) };
    let moved = format!("{} sent, {} received", HumanBytes(*sent_bytes), HumanBytes(*received_bytes));
    let restarts = if *restarts > 0 { format!(", restarted {}", counted(*restarts, "time")) } else { String::new() };
    let bans = if *bans > 0 { format!(", {} banned", counted(*bans, "peer")) } else { String::new() };
    let refused = refused.last().map_or_else(String::new, |reason| format!("; turned away last: {reason}"));
    format!("market {market}: {peers}, {known} known, {heard_of} holdings heard of, {moved}, {listen}{restarts}{bans}{refused}")
}

fn peer((market, peer): (&str, &PeerStatus)) -> String {
    let PeerStatus { id, address, bootstrap, received_bytes, sent_bytes, failures, stalls, round_trip_ms } = peer;
    let bootstrap = if *bootstrap { ", bootstrap" } else { "" };
    let trip = round_trip_ms.map_or_else(String::new, |trip| format!(", {trip:.1} ms away"));
    let (received, sent) = (HumanBytes(*received_bytes), HumanBytes(*sent_bytes));
    format!("{market}: {id} at {address}{bootstrap}{trip}: sent us {received}, got {sent}, {failures} wrong, {stalls} stalled")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status() -> Status {
        let peer = |id: &str| PeerStatus { id: id.into(), address: "/ip4/1.2.3.4/tcp/5".into(), bootstrap: true, ..PeerStatus::default() };
        let market = |name: &str, peers| MarketStatus { market: name.into(), peers, ..MarketStatus::default() };
        let from = Sources { cache: 1, peers: 2, origin: 1 };
        Status {
            id: "12D3".into(),
            markets: vec![market("a", vec![peer("p1"), peer("p2")]), market("b", vec![peer("p1")])],
            ledger: Ledger::of([("hf:models/org/name@c".to_owned(), from)].into(), 7),
            ..Status::default()
        }
    }

    #[test]
    fn a_peer_is_shown_in_each_market_that_it_is_met_in() {
        let document = View::Peers.document(&status());
        let shown: Vec<_> = document["peers"]
            .as_array()
            .unwrap()
            .iter()
            .map(|peer| (peer["market"].as_str().unwrap(), peer["id"].as_str().unwrap()))
            .collect();
        assert_eq!(shown, [("a", "p1"), ("a", "p2"), ("b", "p1")]);
        assert_eq!(View::Peers.lines(&status(), 2).len(), 3);
        assert_eq!(View::Markets.document(&status())["markets"][1]["market"], "b");
    }

    #[test]
    fn the_whole_status_is_the_document_of_the_node() {
        assert_eq!(serde_json::from_value::<Status>(View::Whole.document(&status())).unwrap(), status());
        let lines = View::Whole.lines(&status(), 2).join("\n");
        assert!(lines.contains("75.0 % spared the origin") && lines.contains("hf:models/org/name@c"), "{lines}");
    }

    #[test]
    fn a_node_that_is_in_no_market_is_told_what_to_do() {
        for view in [View::Whole, View::Peers, View::Markets] {
            assert!(view.lines(&Status::default(), 0).last().unwrap().contains("larder init"));
            assert!(view.lines(&Status::default(), 1).last().unwrap().contains("larder run"));
        }
        let mut alone = status();
        alone.markets.iter_mut().for_each(|market| market.peers.clear());
        assert_eq!(View::Peers.lines(&alone, 2), ["connected to no peer"]);
    }
}
