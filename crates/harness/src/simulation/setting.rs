//! The world before anything is wanted: nodes with their lines and what they hold, connected to some others; files; jobs.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use larder_content::{CHUNK_BYTES, ChunkLayout};
use larder_engine::{Config, Engine, Time};

use super::assumptions::{
    CONNECTIONS, CONTENT_PART, IN_FLIGHT_BYTES, LOOPBACK_US, NODE_WITHOUT_LIMIT, ORIGIN_WITHOUT_LIMIT, ROUND_TRIP_US, SMALL_BYTES,
    SPOKEN_OF_BYTES,
};
use super::clock::{Clock, Happening};
use super::names;
use super::node::{Counts, Node, Words};
use super::server::{Downlink, Server};
use super::wanting::Job;
use super::world::{File, Origin, Standing, World};
use crate::report::Sources;
use crate::scenario::{Lying, Plan, PlannedFile, PlannedNode, PlannedResource, Scenario};

/// How often all is counted at first.
const SAMPLE_EVERY: Duration = Duration::from_millis(250);
/// Above so many nodes, a node looks at what has come so often; where chunks are large, that often.
const FEW_NODES: usize = 64;
const LOOK_EVERY: Duration = Duration::from_millis(10);
const LOOK_EVERY_FOR_LARGE_CHUNKS: Duration = Duration::from_secs(1);
/// From so many nodes on, half as often.
const MANY_NODES: usize = 5000;

fn look_every(scale: u64, nodes: usize) -> Duration {
    match (scale, nodes) {
        (1, ..=FEW_NODES) => Duration::ZERO,
        (1, _) => LOOK_EVERY,
        (_, ..=FEW_NODES) => LOOK_EVERY * 4,
        (..=15, _) => LOOK_EVERY_FOR_LARGE_CHUNKS / 4,
        (_, ..MANY_NODES) => LOOK_EVERY_FOR_LARGE_CHUNKS,
        _ => LOOK_EVERY_FOR_LARGE_CHUNKS * 2,
    }
}

/// What the engine is told of itself. Where one of its chunks stands for many, all that it waits for a chunk is longer.
pub(super) fn engine_config(scale: u64) -> Config {
    let usual = Config::default();
    if scale == 1 {
        return usual;
    }
    let longer = u32::try_from(scale.div_ceil(4)).unwrap_or(u32::MAX);
    Config {
        assumed_origin_rate: usual.assumed_origin_rate / scale as f64,
        peer_stall: usual.peer_stall * longer,
        longest_chunk: usual.longest_chunk * longer,
        stalled_read: usual.stalled_read * longer,
        tell_every: usual.tell_every * longer.min(12),
        stagger: usual.stagger * longer.min(12),
        ..usual
    }
}

impl<'a> World<'a> {
    pub(super) fn new(scenario: &'a Scenario, plan: &'a Plan, scale: u64) -> anyhow::Result<Self> {
        let (seed, count) = (scenario.seed, plan.nodes.len());
        let mut random = fastrand::Rng::with_seed(seed ^ 0x5EED);
        let (files, resources) = files(plan, scale, seed)?;
        let config = engine_config(scale);
        let in_flight = usize::try_from(IN_FLIGHT_BYTES / (CHUNK_BYTES * scale)).unwrap_or_default().max(2);
        let nodes: Vec<Node> = (0..)
            .zip(&plan.nodes)
            .map(|(number, planned)| {
                let engine = Engine::new(config.clone(), random.u64(..));
                new_node(planned, names::node(number, seed), engine, in_flight)
            })
            .collect();
        let rate = scenario.origin.rate.map_or(ORIGIN_WITHOUT_LIMIT, |rate| rate.0 as f64) * CONTENT_PART;
        let has_lines = scenario.origin.rate.is_some() || plan.nodes.iter().any(|node| node.uplink.is_some() || node.downlink.is_some());
        let round_trips = if has_lines { ROUND_TRIP_US } else { LOOPBACK_US };
        let jobs: Vec<Job> = plan.jobs.iter().map(|job| new_job(job, &files, &resources)).collect();
        let subjects = resources.len() + files.len();
        let mut world = World {
            scenario,
            plan,
            scale,
            seed,
            clock: Clock::default(),
            random,
            nodes,
            origin: Origin {
                server: Server::new(rate, in_flight),
                is_down: false,
                is_busy: false,
                body_bytes: 0,
                requests: 0,
                next_stream: 0,
            },
            files,
            resources,
            standings: (0..subjects).map(|_| Standing::default()).collect(),
            open_jobs: jobs.len(),
            jobs,
            look_every: look_every(scale, count),
            round_trip_us: (*round_trips.start(), round_trips.end() - round_trips.start()),
            give_up_at: Duration::from_secs_f64(scenario.give_up_s),
            expiry: scenario.arrivals.expiry_h.map(|hours| Duration::from_secs_f64(hours * 3600.0)),
            timeline: Vec::new(),
            sample_every: SAMPLE_EVERY,
            sample_at: Time::ZERO,
            got: Sources::default(),
            gossip_bytes: 0,
            happened: 0,
        };
        world.warm_up();
        world.link_up();
        world.schedule();
        Ok(world)
    }

    /// Nodes hold what they hold before, and the market has heard of it.
    fn warm_up(&mut self) {
        for number in 0..self.nodes.len() {
            let lies = self.nodes[number].lies;
            let all: Vec<u32> = (0..).take(self.resources.len()).collect();
            let warm: Vec<u32> = self.plan.nodes[number].warm.iter().filter_map(|resource| u32::try_from(*resource).ok()).collect();
            for resource in if lies { all } else { warm } {
                let node = u32::try_from(number).unwrap_or(u32::MAX);
                self.standings[resource as usize].complete.insert(node);
                for file in self.resources[resource as usize].clone() {
                    if self.files[file as usize].is_spoken_of {
                        let subject = self.subject_of_file(file);
                        self.standings[subject as usize].complete.insert(node);
                    }
                    if !lies && self.nodes[number].blobs.insert(file) {
                        self.nodes[number].stored += self.files[file as usize].bytes;
                    }
                }
                if !lies {
                    self.nodes[number].held.insert(resource, Time::ZERO);
                    if let Some(expiry) = self.expiry {
                        self.clock.at(expiry, Happening::Expires { node, resource });
                    }
                }
            }
        }
    }

    /// Each node has dialled half of the connections that it keeps up; in a small market, all are connected.
    fn link_up(&mut self) {
        let count = u32::try_from(self.nodes.len()).unwrap_or(u32::MAX);
        if self.scenario.lone {
            return;
        }
        let reachable: Vec<u32> = (0..count).filter(|node| self.nodes[*node as usize].reachable).collect();
        for node in 0..count {
            if reachable.len() <= CONNECTIONS + 1 {
                for other in reachable.iter().copied().filter(|other| *other != node) {
                    self.connect(node, other);
                }
                continue;
            }
            let mut dialled = 0;
            while dialled < CONNECTIONS / 2 {
                let other = reachable[self.random.usize(0..reachable.len())];
                dialled += 1;
                if other != node && !self.nodes[node as usize].is_linked(other) {
                    self.connect(node, other);
                }
            }
        }
    }

    fn schedule(&mut self) {
        for job in 0..self.jobs.len() {
            let at = self.jobs[job].at;
            self.clock.at(at, Happening::Job(job));
        }
        for (node, planned) in (0..).zip(&self.plan.nodes) {
            if let Some((at_s, how)) = planned.leaves {
                self.clock.at(Duration::from_secs_f64(at_s), Happening::Leaves { node, how });
            }
        }
        for fault in &self.scenario.origin.faults {
            self.clock.at(Duration::from_secs_f64(fault.from_s), Happening::Fault(fault.kind, true));
            self.clock.at(Duration::from_secs_f64(fault.to_s), Happening::Fault(fault.kind, false));
        }
    }
}

fn new_node(planned: &PlannedNode, id: larder_content::NodeId, engine: Engine, in_flight: usize) -> Node {
    let rate = |limit: Option<u64>| limit.map_or(NODE_WITHOUT_LIMIT, |rate| rate as f64) * CONTENT_PART;
    Node {
        id,
        alive: true,
        reachable: planned.reachable,
        lies: planned.lies.is_some(),
        is_mute: planned.lies == Some(Lying::Stalls),
        engine,
        up: Server::new(rate(planned.uplink), in_flight),
        down: Downlink::new(rate(planned.downlink)),
        active: BTreeMap::new(),
        blobs: HashSet::new(),
        held: BTreeMap::new(),
        stored: 0,
        disk: planned.disk,
        jobs: 0,
        groups: 0,
        reads: BTreeMap::new(),
        inbox: Vec::new(),
        wakes_at: Time::MAX,
        eager_until: Time::ZERO,
        heard_at: Time::ZERO,
        begun: Vec::new(),
        links: Vec::new(),
        spare_words: Words::SPARE,
        dials: BTreeSet::new(),
        wanted: VecDeque::new(),
        failed: HashMap::new(),
        banned: BTreeMap::new(),
        untold: Vec::new(),
        tells_at: Time::MAX,
        counts: Counts::default(),
    }
}

fn new_job(planned: &crate::scenario::PlannedJob, files: &[File], resources: &[Vec<u32>]) -> Job {
    let wanted: Vec<u32> = planned.resources.iter().filter_map(|resource| u32::try_from(*resource).ok()).collect();
    let distinct: BTreeSet<u32> = wanted.iter().flat_map(|resource| &resources[*resource as usize]).copied().collect();
    let bytes = distinct.into_iter().map(|file| files[file as usize].bytes).sum();
    Job::new(u32::try_from(planned.node).unwrap_or(u32::MAX), wanted, Duration::from_secs_f64(planned.at_s), bytes)
}

/// All distinct files, and those of each resource. Empty files need not be fetched.
fn files(plan: &Plan, scale: u64, seed: u64) -> anyhow::Result<(Vec<File>, Vec<Vec<u32>>)> {
    let mut files: Vec<File> = Vec::new();
    let mut numbers: BTreeMap<PlannedFile, u32> = BTreeMap::new();
    let mut resources = Vec::new();
    for (resource, planned) in (0..).zip(&plan.resources) {
        let mut of_resource = Vec::new();
        for file in listed(planned)?.into_iter().filter(|file| file.bytes > 0) {
            let bytes = file.bytes;
            let number = *numbers.entry(file).or_insert_with(|| {
                let number = u32::try_from(files.len()).unwrap_or(u32::MAX);
                files.push(File {
                    key: names::file(number, seed),
                    content: names::content(number, seed),
                    bytes,
                    layout: ChunkLayout::new(bytes.div_ceil(scale)),
                    is_small: bytes <= SMALL_BYTES,
                    is_spoken_of: bytes >= SPOKEN_OF_BYTES,
                    resources: Vec::new(),
                });
                number
            });
            files[number as usize].resources.push(resource);
            of_resource.push(number);
        }
        resources.push(of_resource);
    }
    Ok((files, resources))
}

/// The files of a resource: those that are generated, or those in its folder.
fn listed(resource: &PlannedResource) -> anyhow::Result<Vec<PlannedFile>> {
    let Some(folder) = &resource.folder else { return Ok(resource.files.clone()) };
    let (mut found, mut open) = (Vec::new(), vec![folder.clone()]);
    while let Some(path) = open.pop() {
        let entries = std::fs::read_dir(&path).with_context(|| format!("{} cannot be listed", path.display()))?;
        for entry in entries {
            let entry = entry.with_context(|| path.display().to_string())?;
            let about = entry.metadata().with_context(|| entry.path().display().to_string())?;
            if about.is_dir() {
                open.push(entry.path());
            } else {
                found.push(PlannedFile { path: below(folder, &entry.path(), &resource.name), bytes: about.len() });
            }
        }
    }
    found.sort();
    Ok(found)
}

fn below(folder: &Path, path: &Path, resource: &str) -> String {
    format!("{resource}/{}", path.strip_prefix(folder).unwrap_or(path).display())
}
