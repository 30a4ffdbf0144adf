//! Puts what came of a simulation into a report.

use std::collections::BTreeSet;

use larder_content::CHUNK_BYTES;

use super::assumptions::{GOSSIP_BYTES, IDLE_BYTES_A_SECOND, MESH, RENEW_EVERY, ROW_BYTES, ROWS_A_MESSAGE};
use super::node::Node;
use super::wanting::{Job, patience};
use super::world::World;
use crate::report::{Fed, OfBound, OfJob, OfNode, OfOrigin, Report};
use crate::scenario::{Pattern, Way};

/// The most pairs of who served whom in a report: of more, those with the most bytes.
const MOST_PAIRS: usize = 20_000;

impl World<'_> {
    pub(super) fn report(&mut self) -> Report {
        let rate = self.scenario.origin.rate.map(|rate| rate.0);
        let wanted: BTreeSet<u32> =
            self.plan.wanted().into_iter().flat_map(|resource| &self.resources[resource]).copied().collect();
        let wanted_bytes = wanted.into_iter().map(|file| self.files[file as usize].bytes).sum();
        let (arrivals, gossip) = (&self.scenario.arrivals, self.gossip());
        let together = arrivals.pattern == Pattern::Together && arrivals.jobs.is_none();
        let generated = self.plan.resources.iter().all(|resource| resource.folder.is_none());
        let floor_bytes = if generated { self.plan.floor_bytes(arrivals.expiry_h.map(|hours| hours * 3600.0)) } else { wanted_bytes };
        Report {
            version: Report::version(),
            scenario: self.scenario.name.clone(),
            about: self.scenario.about.clone(),
            way: Way::Simulated,
            seed: self.scenario.seed,
            lone: self.scenario.lone,
            patience: patience(self.scenario.patience),
            chunk_bytes: CHUNK_BYTES * self.scale,
            wanted_bytes,
            floor_bytes,
            origin: OfOrigin { rate, body_bytes: self.origin.body_bytes, requests: self.origin.requests, wire_bytes: None },
            bound: together.then(|| OfBound::from(self.plan.bound(wanted_bytes, rate, self.scenario.lone))),
            jobs: self.jobs_of_report(),
            nodes: (0..self.nodes.len()).map(|number| self.node_of_report(number, gossip)).collect(),
            fed: self.fed(),
            timeline: std::mem::take(&mut self.timeline),
            corrupt: 0,
            processor: None,
            played_s: 0.0,
            limits: Vec::new(),
            void: None,
        }
    }

    fn jobs_of_report(&self) -> Vec<OfJob> {
        let job = |job: &Job| OfJob {
            node: job.node as usize,
            resources: job.resources.iter().map(|resource| self.plan.resources[*resource as usize].name.clone()).collect(),
            at_s: job.at.as_secs_f64(),
            waited_s: job.ready_at.map(|at| at.saturating_sub(job.at).as_secs_f64()),
            left: self.nodes[job.node as usize].counts.left_s.is_some(),
            from: job.from,
        };
        self.jobs.iter().map(job).collect()
    }

    fn node_of_report(&mut self, number: usize, gossip: f64) -> OfNode {
        let now = self.clock.now;
        self.nodes[number].count_links(now);
        let node = &self.nodes[number];
        let planned = &self.plan.nodes[number];
        let peers = node.counts.by_peer.keys().copied().chain(node.links.iter().map(|link| link.peer)).collect::<BTreeSet<u32>>();
        let stalls = peers.into_iter().map(|peer| node.engine.record(self.peer(peer)).stalls).sum();
        let beside = if self.scenario.lone { 0 } else { self.beside(number, gossip) };
        let counts = &node.counts;
        OfNode {
            name: format!("node-{number}"),
            uplink: planned.uplink,
            downlink: planned.downlink,
            warm: !planned.warm.is_empty(),
            lies: planned.lies,
            reachable: planned.reachable,
            left_s: counts.left_s,
            from: counts.from,
            served: counts.served,
            sent: None,
            received: None,
            control_sent: Some(counts.control_sent + beside),
            control_received: Some(counts.control_received + beside),
            duplicates: counts.duplicates,
            stalls,
            bans: counts.bans,
            peak_memory: None,
            processor_s: None,
        }
    }

    /// Bytes each way of gossip that a node heard and passed on in all the time.
    fn gossip(&self) -> f64 {
        // All hear what all announce anew.
        let messages = |node: &Node| (node.blobs.len() as u64 + node.held.len() as u64).div_ceil(ROWS_A_MESSAGE);
        let rows: usize = self.nodes.iter().map(|node| node.blobs.len().min(ROWS_A_MESSAGE as usize) + node.held.len()).sum();
        let renewal = self.nodes.iter().map(messages).sum::<u64>() * GOSSIP_BYTES + rows as u64 * ROW_BYTES;
        let renewed = renewal as f64 * (MESH - 1) as f64 * self.clock.now.as_secs_f64() / RENEW_EVERY.as_secs_f64();
        self.gossip_bytes as f64 + renewed
    }

    /// The same with connections that do nothing, in the time that the node was there.
    fn beside(&self, number: usize, gossip: f64) -> u64 {
        let node = &self.nodes[number];
        let part = node.counts.left_s.map_or(1.0, |left_s| left_s / self.clock.now.as_secs_f64().max(1e-9));
        // A float becomes the nearest number there is.
        (gossip * part + node.counts.link_seconds * IDLE_BYTES_A_SECOND) as u64
    }

    fn fed(&self) -> Vec<Fed> {
        let of = |(to, node): (usize, &Node)| {
            node.counts.by_peer.iter().map(move |(from, bytes)| Fed { from: *from as usize, to, bytes: *bytes }).collect::<Vec<_>>()
        };
        let mut fed: Vec<Fed> = self.nodes.iter().enumerate().flat_map(of).collect();
        if fed.len() > MOST_PAIRS {
            fed.sort_by_key(|pair| (std::cmp::Reverse(pair.bytes), pair.to, pair.from));
            fed.truncate(MOST_PAIRS);
        }
        fed
    }
}
