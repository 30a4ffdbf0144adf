//! Puts what was measured into a report.

use std::collections::BTreeMap;

use larder_content::CHUNK_BYTES;
use larder_harness::market::{Prepared, Traffic};
use larder_harness::report::{Fed, Moment, OfBound, OfJob, OfNode, OfOrigin, Report, Sources};
use larder_harness::scenario::{Patience, Pattern, Plan, Scenario, Way};

use super::stage::Stage;
use super::watch::{Told, Watched};

/// What is known of a run without asking its nodes.
pub(super) struct Account<'a> {
    pub(super) scenario: &'a Scenario,
    pub(super) plan: &'a Plan,
    pub(super) way: Way,
    pub(super) played_s: f64,
    pub(super) processor: f64,
    /// When each node left.
    pub(super) left: &'a [Option<f64>],
}

impl Account<'_> {
    pub(super) fn report(&self, stage: &mut Stage, prepared: &[Prepared], watched: &Watched, before: &[Traffic]) -> anyhow::Result<Report> {
        let Self { scenario, plan, .. } = self;
        let moved: Vec<Traffic> = stage.traffic()?.into_iter().zip(before).map(|(now, then)| now.since(*then)).collect();
        let content = stage.hub.counts().content();
        let wanted_bytes = stage.distinct_bytes(plan.wanted());
        let is_held = plan.nodes.iter().any(|node| plan.wanted().iter().all(|resource| node.warm.contains(resource)));
        let rate = scenario.origin.rate.map(|rate| rate.0);
        let together = scenario.arrivals.pattern == Pattern::Together && scenario.arrivals.jobs.is_none();
        let jobs: Vec<OfJob> = prepared
            .iter()
            .zip(&plan.jobs)
            .map(|(one, job)| OfJob {
                node: job.node,
                resources: job.resources.iter().map(|resource| plan.resources[*resource].name.clone()).collect(),
                at_s: job.at_s,
                waited_s: one.is_ready().then_some(one.seconds),
                left: self.left[job.node].is_some(),
                from: Sources { cache: one.from("cache"), peers: one.from("peers"), origin: one.from("origin") },
            })
            .collect();
        let numbers = stage.numbers();
        Ok(Report {
            version: Report::version(),
            scenario: scenario.name.clone(),
            about: scenario.about.clone(),
            way: self.way,
            seed: scenario.seed,
            lone: scenario.lone,
            patience: scenario.patience.map_or(Some(DEFAULT_PATIENCE), Patience::times),
            chunk_bytes: CHUNK_BYTES,
            wanted_bytes,
            floor_bytes: if is_held { 0 } else { wanted_bytes },
            origin: OfOrigin {
                rate,
                body_bytes: content.body_bytes,
                requests: content.requests,
                wire_bytes: (moved.len() > plan.nodes.len()).then(|| moved[plan.nodes.len()].sent),
            },
            bound: together.then(|| OfBound::from(plan.bound(wanted_bytes, rate, scenario.lone))),
            nodes: self.nodes(stage, prepared, &jobs, watched, &moved),
            fed: fed(&watched.nodes, &numbers),
            timeline: timeline(watched, &jobs),
            jobs,
            corrupt: 0,
            processor: Some(self.processor),
            played_s: self.played_s,
            limits: Vec::new(),
            void: None,
        })
    }

    fn nodes(&self, stage: &mut Stage, prepared: &[Prepared], jobs: &[OfJob], watched: &Watched, moved: &[Traffic]) -> Vec<OfNode> {
        let names: Vec<String> = stage.market.nodes().iter().map(|node| node.name().to_owned()).collect();
        let mut nodes = Vec::new();
        for (number, (planned, told)) in self.plan.nodes.iter().zip(&watched.nodes).enumerate() {
            let its = || jobs.iter().zip(prepared).filter(|(job, _)| job.node == number);
            let sum = |of: fn(&Sources) -> u64| its().map(|(job, _)| of(&job.from)).sum::<u64>();
            let from = Sources { cache: sum(|from| from.cache), peers: sum(|from| from.peers), origin: sum(|from| from.origin) };
            let received: u64 = told.by_peer.values().sum();
            let line = moved.get(number).filter(|_| moved.len() > self.plan.nodes.len());
            let of_commands = its().map(|(_, one)| one.peak_bytes).max().unwrap_or(0);
            nodes.push(OfNode {
                name: names[number].clone(),
                uplink: planned.uplink,
                downlink: planned.downlink,
                warm: !planned.warm.is_empty(),
                lies: planned.lies,
                reachable: planned.reachable,
                left_s: self.left[number],
                from,
                served: told.served,
                sent: line.map(|line| line.sent),
                received: line.map(|line| line.received),
                control_sent: (!self.scenario.lone).then(|| told.sent.saturating_sub(told.served)),
                control_received: (!self.scenario.lone).then(|| told.received.saturating_sub(received)),
                // What a job had that did not end is not known.
                duplicates: if self.left[number].is_some() { 0 } else { received.saturating_sub(from.peers) },
                stalls: told.stalls.values().sum(),
                bans: told.bans,
                peak_memory: Some(told.peak_memory.max(of_commands)),
                processor_s: (!self.scenario.lone).then_some(told.processor_s),
            });
        }
        nodes
    }
}

/// What jobs have that say nothing of it.
const DEFAULT_PATIENCE: f64 = 1.5;

fn fed(nodes: &[Told], numbers: &BTreeMap<String, usize>) -> Vec<Fed> {
    let each = |(to, told): (usize, &Told)| {
        let of = move |(id, bytes): (&String, &u64)| Some(Fed { from: *numbers.get(id)?, to, bytes: *bytes });
        told.by_peer.iter().filter_map(of).filter(|fed| fed.bytes > 0).collect::<Vec<_>>()
    };
    nodes.iter().enumerate().flat_map(each).collect()
}

/// What came from stores is known when a job is ready.
fn timeline(watched: &Watched, jobs: &[OfJob]) -> Vec<Moment> {
    let cached = |at_s: f64| {
        jobs.iter().filter(|job| job.waited_s.is_some_and(|waited_s| job.at_s + waited_s <= at_s)).map(|job| job.from.cache).sum()
    };
    watched.timeline.iter().map(|moment| Moment { from: Sources { cache: cached(moment.at_s), ..moment.from }, ..*moment }).collect()
}
