//! What nodes tell of themselves while a scenario is played.

use std::collections::BTreeMap;

use larder_harness::report::{Moment, Sources};
use serde_json::Value;

use super::stage::Stage;

/// What one node told last, since the start.
#[derive(Debug, Clone, Default)]
pub(super) struct Told {
    /// Content by the peer that sent it, under the peer's id.
    pub(super) by_peer: BTreeMap<String, u64>,
    pub(super) stalls: BTreeMap<String, u64>,
    pub(super) bans: u64,
    pub(super) served: u64,
    /// All that went over its connections.
    pub(super) sent: u64,
    pub(super) received: u64,
    pub(super) peak_memory: u64,
    pub(super) processor_s: f64,
}

/// Looks at all nodes now and then.
#[derive(Debug)]
pub(super) struct Watch {
    /// What each told before the start.
    before: Vec<Told>,
    now: Vec<Told>,
    timeline: Vec<Moment>,
}

/// All that was seen, since the start.
pub(super) struct Watched {
    pub(super) nodes: Vec<Told>,
    pub(super) timeline: Vec<Moment>,
}

impl Watch {
    pub(super) fn new(stage: &mut Stage, nodes: usize) -> Self {
        let mut watch = Self { before: vec![Told::default(); nodes], now: vec![Told::default(); nodes], timeline: Vec::new() };
        watch.ask(stage, &vec![None; nodes]);
        watch.before.clone_from(&watch.now);
        watch.timeline.push(Moment { at_s: 0.0, from: Sources::default() });
        watch
    }

    /// Asks all nodes that have not `left`, and notes what they have by now.
    pub(super) fn look(&mut self, stage: &mut Stage, left: &[Option<f64>], now_s: f64) {
        self.ask(stage, left);
        let peers = self.now.iter().zip(&self.before).map(|(now, before)| now.since(before).by_peer.values().sum::<u64>()).sum();
        let from = Sources { cache: 0, peers, origin: stage.hub.counts().content().body_bytes };
        self.timeline.push(Moment { at_s: now_s, from });
    }

    /// Looks for the last time.
    pub(super) fn finish(mut self, stage: &mut Stage, left: &[Option<f64>], now_s: f64) -> Watched {
        self.look(stage, left, now_s);
        let nodes = self.now.iter().zip(&self.before).map(|(now, before)| now.since(before)).collect();
        Watched { nodes, timeline: self.timeline }
    }

    fn ask(&mut self, stage: &mut Stage, left: &[Option<f64>]) {
        let nodes = stage.market.nodes().iter_mut().zip(&mut self.now).zip(left);
        // Who has left has told all that it will. A frozen one would be waited for, and all else with it.
        for ((node, told), _) in nodes.filter(|(_, left)| left.is_none()) {
            // Who works without a daemon tells nothing.
            if let Ok(status) = node.look() {
                told.note(&status);
            }
            if let Some(daemon) = node.daemon() {
                told.peak_memory = told.peak_memory.max(daemon.peak_bytes()).max(daemon.memory().peak);
                told.processor_s = told.processor_s.max(daemon.processor_seconds());
            }
        }
    }
}

impl Told {
    /// Peers come and go: what they sent stays.
    fn note(&mut self, status: &Value) {
        let number = |value: &Value| value.as_u64().unwrap_or(0);
        let markets = || status["markets"].as_array().into_iter().flatten();
        for peer in markets().flat_map(|market| market["peers"].as_array().into_iter().flatten()) {
            let id = peer["id"].as_str().unwrap_or_default();
            for (of, field) in [(&mut self.by_peer, "received_bytes"), (&mut self.stalls, "stalls")] {
                let most = of.entry(id.to_owned()).or_default();
                *most = number(&peer[field]).max(*most);
            }
        }
        self.served = number(&status["ledger"]["served"]);
        let sum = |field: &str| markets().map(|market| number(&market[field])).sum();
        (self.bans, self.sent, self.received) = (sum("bans"), sum("sent_bytes"), sum("received_bytes"));
    }

    fn since(&self, before: &Self) -> Self {
        let rest = |now: &BTreeMap<String, u64>, before: &BTreeMap<String, u64>| {
            now.iter().map(|(id, now)| (id.clone(), now.saturating_sub(before.get(id).copied().unwrap_or(0)))).collect()
        };
        Self {
            by_peer: rest(&self.by_peer, &before.by_peer),
            stalls: rest(&self.stalls, &before.stalls),
            bans: self.bans.saturating_sub(before.bans),
            served: self.served.saturating_sub(before.served),
            sent: self.sent.saturating_sub(before.sent),
            received: self.received.saturating_sub(before.received),
            peak_memory: self.peak_memory,
            processor_s: (self.processor_s - before.processor_s).max(0.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_a_peer_sent_stays_when_it_is_gone_and_what_was_before_does_not_count() {
        let status = |peers: Value| json!({"markets": [{"peers": peers, "bans": 1, "sent_bytes": 70, "received_bytes": 90}], "ledger": {"served": 5}});
        let mut told = Told::default();
        told.note(&status(json!([{"id": "a", "received_bytes": 10, "stalls": 1}])));
        let before = told.clone();
        told.note(&status(json!([{"id": "a", "received_bytes": 30, "stalls": 1}, {"id": "b", "received_bytes": 7, "stalls": 2}])));
        told.note(&status(json!([{"id": "b", "received_bytes": 9, "stalls": 2}])));
        let since = told.since(&before);
        assert_eq!((since.by_peer["a"], since.by_peer["b"]), (20, 9));
        assert_eq!((since.stalls["a"], since.stalls["b"], since.served, since.bans), (0, 2, 0, 0));
    }
}
