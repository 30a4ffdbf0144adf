//! What came of a scenario: one document, whichever way it was played.
//!
//! [`Report`] is also the schema of what `larder-harness run --json` writes: times are in seconds from the first arrival unless a field
//! says other, rates in bytes a second, and `null` stands where that way of playing does not measure.

mod arrivals;
mod bound;
#[cfg(test)]
mod documented;
mod markdown;
mod nodes;
mod page;
#[cfg(test)]
mod samples;
mod screen;
mod text;
mod words;

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, ensure};
use serde::{Deserialize, Serialize};

pub use bound::Bound;
pub use markdown::table;
pub use screen::{Screen, megabytes};

use crate::scenario::{Limits, Lying, Way};

/// The version of [`Report`].
const VERSION: u32 = 1;

/// One run of one scenario.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The version of this schema: 1.
    pub version: u32,
    /// The scenario's name.
    pub scenario: String,
    /// What it shows.
    pub about: String,
    /// How it was played.
    pub way: Way,
    /// The seed of its plan.
    pub seed: u64,
    /// Whether each node worked for itself, straight from the origin.
    pub lone: bool,
    /// How many times longer than straight from the origin jobs might take; `null` for no limit.
    pub patience: Option<f64>,
    /// How much of a file moves at a time.
    pub chunk_bytes: u64,
    /// The bytes of the distinct files that jobs wanted.
    pub wanted_bytes: u64,
    /// The bytes that must leave the origin even if all nodes were one: each distinct file once for each time that it has expired
    /// everywhere; 0 if somebody holds it before.
    pub floor_bytes: u64,
    /// The origin.
    pub origin: OfOrigin,
    /// What bounds the time of nodes that all want the same at once; `null` for other arrivals.
    pub bound: Option<OfBound>,
    /// Each job, in the order of arrivals.
    pub jobs: Vec<OfJob>,
    /// Each node.
    pub nodes: Vec<OfNode>,
    /// Who served whom.
    pub fed: Vec<Fed>,
    /// The bytes that all nodes had got by then, by source.
    pub timeline: Vec<Moment>,
    /// Laid files that are not those of the origin.
    pub corrupt: u64,
    /// The part of this machine's processor that was busy meanwhile.
    pub processor: Option<f64>,
    /// How long playing took on this machine's clock, without getting ready.
    pub played_s: f64,
    /// What was to hold, and whether it did.
    pub limits: Vec<Judged>,
    /// Why times of this run say nothing.
    pub void: Option<String>,
}

/// The origin of one run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct OfOrigin {
    /// What it could send; `null` for no limit.
    pub rate: Option<u64>,
    /// Bytes of content that it sent, cancelled reads included.
    pub body_bytes: u64,
    /// Requests for content.
    pub requests: u64,
    /// All that it sent, with all headers.
    pub wire_bytes: Option<u64>,
}

/// `T*` and its terms, in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct OfBound {
    /// How many copies must leave the origin.
    pub copies: u64,
    /// What the slowest downlink takes for one copy.
    pub downlink_s: f64,
    /// What the origin takes for its copies.
    pub origin_s: f64,
    /// What all uplinks together take for the others.
    pub uplinks_s: f64,
    /// `T*`: the greatest of them.
    pub seconds: f64,
    /// What one node alone takes straight from the origin.
    pub alone_s: f64,
}

impl From<Bound> for OfBound {
    fn from(bound: Bound) -> Self {
        let [downlink_s, origin_s, uplinks_s] = bound.terms();
        Self { copies: bound.copies, downlink_s, origin_s, uplinks_s, seconds: bound.seconds(), alone_s: bound.alone() }
    }
}

/// Bytes of content by where they came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Sources {
    /// What the node had.
    pub cache: u64,
    /// What peers sent.
    pub peers: u64,
    /// What the origin sent.
    pub origin: u64,
}

/// One job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OfJob {
    /// The number of its node.
    pub node: usize,
    /// The resources that it wanted.
    pub resources: Vec<String>,
    /// When it came.
    pub at_s: f64,
    /// How long it waited until all was laid; `null` if that never happened.
    pub waited_s: Option<f64>,
    /// Whether its node left before that.
    pub left: bool,
    /// Where its bytes came from.
    pub from: Sources,
}

/// One node.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct OfNode {
    /// Its name.
    pub name: String,
    /// What it could send; `null` for no limit.
    pub uplink: Option<u64>,
    /// What it could be sent.
    pub downlink: Option<u64>,
    /// Whether it held anything before.
    pub warm: bool,
    /// What it was false in.
    pub lies: Option<Lying>,
    /// Whether others could connect to it.
    pub reachable: bool,
    /// When it left.
    pub left_s: Option<f64>,
    /// Where its bytes came from.
    pub from: Sources,
    /// Bytes of content that peers got from it.
    pub served: u64,
    /// All that it sent, on the wire, with all headers.
    pub sent: Option<u64>,
    /// All that it was sent.
    pub received: Option<u64>,
    /// Bytes that it sent to peers beside content: words, gossip, headers of the protocol.
    pub control_sent: Option<u64>,
    /// Bytes that it received from peers beside content.
    pub control_received: Option<u64>,
    /// Bytes of content that it got more than once; of a node that left, only where the run is simulated.
    pub duplicates: u64,
    /// How often a peer that it asked stalled.
    pub stalls: u64,
    /// How often it banned a peer.
    pub bans: u64,
    /// The most memory that it had.
    pub peak_memory: Option<u64>,
    /// Processor seconds that it took.
    pub processor_s: Option<f64>,
}

/// Content that one node sent another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fed {
    /// The number of the node that sent.
    pub from: usize,
    /// The number of the node that received.
    pub to: usize,
    /// How many bytes.
    pub bytes: u64,
}

/// What all nodes together had got by a moment.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Moment {
    /// When.
    pub at_s: f64,
    /// Bytes by source, since the first arrival.
    pub from: Sources,
}

/// A limit, and what it was held against.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Judged {
    /// Its name in the scenario.
    pub limit: String,
    /// What it limits, in words.
    pub what: String,
    /// What was measured; `null` if nothing could be.
    pub value: Option<f64>,
    /// The most that it may be.
    pub most: f64,
    /// Whether it held.
    pub kept: bool,
}

impl Report {
    /// The version that is written.
    #[must_use]
    pub fn version() -> u32 {
        VERSION
    }

    /// What the origin sent, by the bytes of the distinct files wanted.
    #[must_use]
    pub fn origin_x(&self) -> f64 {
        self.origin.body_bytes as f64 / self.wanted_bytes.max(1) as f64
    }

    /// What the origin sent, by what it must.
    #[must_use]
    pub fn floor_x(&self) -> Option<f64> {
        (self.floor_bytes > 0).then(|| self.origin.body_bytes as f64 / self.floor_bytes as f64)
    }

    /// The waits of all jobs that were made ready, in order.
    #[must_use]
    pub fn waits(&self) -> Vec<f64> {
        let mut waits: Vec<f64> = self.jobs.iter().filter_map(|job| job.waited_s).collect();
        waits.sort_by(f64::total_cmp);
        waits
    }

    /// The wait that this part of all jobs (0 to 1) does not exceed; jobs that were never ready wait for ever, those of nodes that left
    /// do not count.
    #[must_use]
    pub fn wait(&self, part: f64) -> f64 {
        let waits = self.waits();
        let all = waits.len() + self.failed();
        let rank = ((part * all as f64).ceil() as usize).clamp(1, all.max(1));
        waits.get(rank - 1).copied().unwrap_or(if all == 0 { 0.0 } else { f64::INFINITY })
    }

    /// How many jobs were not made ready, though their nodes stayed.
    #[must_use]
    pub fn failed(&self) -> usize {
        self.jobs.iter().filter(|job| job.waited_s.is_none() && !job.left).count()
    }

    /// The last node's time by `T*`.
    #[must_use]
    pub fn time_x(&self) -> Option<f64> {
        self.bound.filter(|bound| bound.seconds > 0.0).map(|bound| self.wait(1.0) / bound.seconds)
    }

    /// The greatest rate of bytes beside content that a node sent or received, on average over the run.
    #[must_use]
    pub fn control_rate(&self) -> Option<f64> {
        let last = self.timeline.last().map_or(0.0, |moment| moment.at_s);
        let bytes = self.nodes.iter().flat_map(|node| [node.control_sent, node.control_received]).flatten().max();
        bytes.filter(|_| last > 0.0).map(|bytes| bytes as f64 / last)
    }

    /// Holds the run against what must hold.
    pub fn judge(&mut self, limits: &Limits) {
        let mut judged = Vec::new();
        let mut hold = |limit: &str, what: &str, most: Option<f64>, value: Option<f64>| {
            if let Some(most) = most {
                let kept = value.is_some_and(|value| value <= most);
                judged.push(Judged {
                    limit: limit.to_owned(),
                    what: what.to_owned(),
                    value: value.filter(|value| value.is_finite()),
                    most,
                    kept,
                });
            }
        };
        let count = |most: Option<u64>| most.map(|most| most as f64);
        hold("origin_x_max", "content from the origin, by what is wanted", limits.origin_x_max, Some(self.origin_x()));
        hold("floor_x_max", "content from the origin, by what must leave it", limits.floor_x_max, self.floor_x());
        hold("time_x_max", "the last node's time, by T*", limits.time_x_max, self.time_x());
        hold("alone_x_max", "the last node's time, by that of one alone", limits.alone_x_max, self.alone_x());
        hold("p99_wait_s_max", "seconds that 99 of 100 jobs wait at most", limits.p99_wait_s_max, Some(self.wait(0.99)));
        hold("corrupt_max", "laid files that are not the origin's", count(limits.corrupt_max), Some(self.corrupt as f64));
        hold("failed_max", "jobs that were never ready", count(limits.failed_max), Some(self.failed() as f64));
        hold("control_rate_max", "bytes a second beside content, of the busiest node", limits.control_rate_max, self.control_rate());
        self.limits = judged;
        let busy = limits.processor_max.zip(self.processor).filter(|(most, busy)| busy > most);
        self.void = busy.map(|(most, busy)| {
            format!("the processor was {:.0} % busy, above {:.0} %: times say how fast this machine is", busy * 100.0, most * 100.0)
        });
    }

    /// The last node's time by that of one alone.
    #[must_use]
    pub fn alone_x(&self) -> Option<f64> {
        self.bound.filter(|bound| bound.alone_s > 0.0).map(|bound| self.wait(1.0) / bound.alone_s)
    }

    /// Whether all limits held.
    #[must_use]
    pub fn is_kept(&self) -> bool {
        self.limits.iter().all(|limit| limit.kept)
    }

    /// Names of nodes by their number.
    #[must_use]
    pub fn names(&self) -> BTreeMap<usize, &str> {
        self.nodes.iter().enumerate().map(|(number, node)| (number, node.name.as_str())).collect()
    }

    /// Writes it as JSON.
    ///
    /// # Errors
    /// Fails if the file cannot be written.
    pub fn write(&self, path: &Path) -> anyhow::Result<()> {
        let text = serde_json::to_string_pretty(self)?;
        std::fs::write(path, text + "\n").with_context(|| format!("{} cannot be written", path.display()))
    }

    /// Reads what was written.
    ///
    /// # Errors
    /// Fails if the file cannot be read, or holds no report of this version.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))?;
        let report: Self = serde_json::from_str(&text).with_context(|| format!("{} is no report", path.display()))?;
        ensure!(report.version == VERSION, "{} is a report of version {}, not {VERSION}", path.display(), report.version);
        Ok(report)
    }
}
