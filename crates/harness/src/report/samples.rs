//! Reports as runs would leave them, for tests: made up, but their sums fit together.

use crate::scenario::{Limits, Lying, Way};

use super::{Bound, Fed, Moment, OfBound, OfJob, OfNode, OfOrigin, Report, Sources};

const MB: u64 = 1_000_000;
const GB: u64 = 1000 * MB;
/// How many moments a timeline has.
const MOMENTS: u32 = 120;

/// What a crowd is like that wants the same at once.
struct Crowd {
    name: &'static str,
    way: Way,
    nodes: usize,
    bytes: u64,
    origin: u64,
    uplink: [u64; 2],
    downlink: Option<u64>,
    /// From how many others each node gets.
    givers: usize,
    /// The last node's time by `T*`.
    time_x: f64,
}

impl Crowd {
    fn report(&self) -> Report {
        let mut random = fastrand::Rng::with_seed(7);
        let from_origin = self.bytes / 50 + self.bytes;
        let mut nodes = self.nodes(&mut random, from_origin);
        let fed = self.fed(&mut random, &mut nodes);
        let bound = OfBound::from(Bound {
            bytes: self.bytes,
            cold: self.nodes as u64,
            copies: 1,
            downlink: self.downlink,
            origin: Some(self.origin),
            uplinks: Some(nodes.iter().filter_map(|node| node.uplink).sum()),
        });
        let last_s = bound.seconds * self.time_x;
        let requests = 16 * self.nodes as u64;
        let wire_bytes = Some(from_origin + from_origin / 20);
        let mut report = Report {
            version: Report::version(),
            scenario: self.name.to_owned(),
            about: format!("{} nodes without the file want it at the same moment.", self.nodes),
            way: self.way,
            seed: 1,
            lone: false,
            patience: None,
            chunk_bytes: 256 * 1024,
            wanted_bytes: self.bytes,
            floor_bytes: self.bytes,
            origin: OfOrigin { rate: Some(self.origin), body_bytes: from_origin, requests, wire_bytes },
            bound: Some(bound),
            jobs: jobs(&mut random, &nodes, last_s),
            nodes,
            fed,
            timeline: self.timeline(from_origin, last_s),
            corrupt: 0,
            processor: Some(0.44),
            played_s: last_s,
            limits: Vec::new(),
            void: None,
        };
        let (origin_x_max, time_x_max) = (Some(1.05), Some(1.15));
        let (corrupt_max, failed_max, processor_max) = (Some(0), Some(0), Some(0.7));
        report.judge(&Limits { origin_x_max, time_x_max, corrupt_max, failed_max, processor_max, ..Limits::default() });
        report
    }

    fn nodes(&self, random: &mut fastrand::Rng, from_origin: u64) -> Vec<OfNode> {
        let node = |number: usize| {
            let origin = from_origin / self.nodes as u64;
            OfNode {
                name: format!("node-{number}"),
                uplink: Some(random.u64(self.uplink[0]..=self.uplink[1])),
                downlink: self.downlink,
                reachable: true,
                from: Sources { cache: 0, peers: self.bytes - origin.min(self.bytes), origin },
                received: Some(self.bytes + self.bytes / 20),
                peak_memory: Some(random.u64(40 * MB..70 * MB)),
                processor_s: Some(1.0 + random.f64()),
                control_sent: Some(random.u64(200_000..400_000)),
                control_received: Some(random.u64(200_000..400_000)),
                duplicates: random.u64(0..self.bytes / 200),
                stalls: random.u64(0..5) / 4,
                ..OfNode::default()
            }
        };
        (0..self.nodes).map(node).collect()
    }

    /// Who fed whom; tells the nodes what they served.
    fn fed(&self, random: &mut fastrand::Rng, nodes: &mut [OfNode]) -> Vec<Fed> {
        let mut fed = Vec::new();
        for (to, node) in nodes.iter().enumerate() {
            for giver in 1..=self.givers {
                let from = if self.givers + 1 >= self.nodes { (to + giver) % self.nodes } else { random.usize(0..self.nodes) };
                fed.push(Fed { from, to, bytes: node.from.peers / self.givers as u64 });
            }
        }
        fed.retain(|fed| fed.from != fed.to);
        for fed in &fed {
            nodes[fed.from].served += fed.bytes;
        }
        for node in nodes {
            node.sent = Some(node.served + node.served / 20);
        }
        fed
    }

    /// Peers begin a little later than the origin.
    fn timeline(&self, from_origin: u64, last_s: f64) -> Vec<Moment> {
        let moment = |number: u32| {
            let part = f64::from(number) / f64::from(MOMENTS);
            let origin = (from_origin as f64 * (part * 1.06).min(1.0)) as u64;
            let late = ((part * 1.05).clamp(0.02, 1.0) - 0.02) / 0.98;
            let peers = ((self.bytes * self.nodes as u64 - from_origin) as f64 * late) as u64;
            Moment { at_s: last_s * part, from: Sources { cache: 0, peers, origin } }
        };
        (0..=MOMENTS).map(moment).collect()
    }
}

/// One job a node, all at once; the first is ready last.
fn jobs(random: &mut fastrand::Rng, nodes: &[OfNode], last_s: f64) -> Vec<OfJob> {
    let job = |(node, of): (usize, &OfNode)| {
        let early = if node == 0 { 0.0 } else { 0.12 * random.f64() * random.f64() };
        let waited_s = Some(last_s * (1.0 - early));
        OfJob { node, resources: vec!["model".to_owned()], at_s: 0.0, waited_s, left: false, from: of.from }
    };
    nodes.iter().enumerate().map(job).collect()
}

/// Eight cold nodes.
pub(super) fn eight() -> Report {
    let uplink = [3 * MB, 25 * MB];
    Crowd {
        name: "flash-crowd-8",
        way: Way::Namespaces,
        nodes: 8,
        bytes: 512 * MB,
        origin: 10 * MB,
        uplink,
        downlink: None,
        givers: 7,
        time_x: 1.09,
    }
    .report()
}

/// 120 cold nodes, of which 12 hold all before, 24 lie, one cannot be reached, and 20 leave.
pub(super) fn mixed() -> Report {
    let uplink = [2 * MB, 20 * MB];
    let mut report = Crowd {
        name: "mixed-120",
        way: Way::Simulated,
        nodes: 120,
        bytes: 2 * GB,
        origin: 20 * MB,
        uplink,
        downlink: Some(40 * MB),
        givers: 30,
        time_x: 1.4,
    }
    .report();
    report.about = "A market with holders, liars and leavers, <and> \"one\" that nobody can reach & more.".to_owned();
    for number in 0..120 {
        let (node, job) = (&mut report.nodes[number], &mut report.jobs[number]);
        match number {
            0..12 => (node.warm, node.from) = (true, Sources { cache: 2 * GB, ..Sources::default() }),
            12..36 => (node.lies, node.from, node.served) = (Some(Lying::WrongBytes), Sources::default(), 0),
            36 => node.reachable = false,
            40..60 => (node.left_s, job.waited_s, job.left) = (Some(30.0 + number as f64), None, true),
            _ => node.bans = 24,
        }
    }
    report.fed.retain(|fed| !(12..36).contains(&fed.from) && fed.to >= 36);
    report.fed.iter_mut().filter(|fed| fed.from < 12).for_each(|fed| fed.bytes *= 9);
    report.jobs.retain(|job| job.node >= 36);
    report.judge(&Limits {
        origin_x_max: Some(1.0),
        time_x_max: Some(1.5),
        control_rate_max: Some(1000.0),
        corrupt_max: Some(0),
        ..Limits::default()
    });
    report
}

/// 10,000 cold nodes.
pub(super) fn ten_thousand() -> Report {
    let (name, way, uplink, downlink) = ("flash-crowd-10000", Way::Simulated, [31_250_000; 2], Some(62_500_000));
    Crowd { name, way, nodes: 10_000, bytes: 14 * GB, origin: 125 * MB, uplink, downlink, givers: 12, time_x: 1.31 }.report()
}

/// A day of 2,000 hosts: jobs come and go with its hours, and most models are somewhere already.
pub(super) fn day() -> Report {
    let mut random = fastrand::Rng::with_seed(3);
    let mut report = Crowd {
        name: "day-2000",
        way: Way::Simulated,
        nodes: 2000,
        bytes: 14 * GB,
        origin: 125 * MB,
        uplink: [6 * MB, 62 * MB],
        downlink: Some(62 * MB),
        givers: 9,
        time_x: 1.0,
    }
    .report();
    report.about = "A day of 2,000 hosts that want 300 models, the popular ones most, and forget them after 24 h.".to_owned();
    (report.bound, report.wanted_bytes, report.floor_bytes) = (None, 300 * 14 * GB, 310 * 14 * GB);
    let hour_of = |part: f64| 0.5 - 0.5 * (part * std::f64::consts::TAU).cos();
    report.jobs = (0..6000)
        .map(|_| {
            let mut part = random.f64();
            while random.f64() > 0.3 + 0.7 * hour_of(part) {
                part = random.f64();
            }
            let kind = random.f64();
            let (waited_s, from) = match kind {
                ..0.15 => (0.2 + random.f64(), Sources { cache: 14 * GB, ..Sources::default() }),
                ..0.93 => (220.0 + 600.0 * random.f64().powi(3), Sources { peers: 14 * GB, ..Sources::default() }),
                _ => (900.0 + 2500.0 * random.f64().powi(2), Sources { peers: 4 * GB, origin: 10 * GB, ..Sources::default() }),
            };
            OfJob {
                node: random.usize(0..2000),
                resources: vec!["model-7".to_owned()],
                at_s: part * 86_400.0,
                waited_s: Some(waited_s),
                left: false,
                from,
            }
        })
        .collect();
    report.jobs.sort_by(|a, b| a.at_s.total_cmp(&b.at_s));
    let until = |at_s: f64| {
        let done = report.jobs.iter().filter(|job| job.at_s <= at_s);
        done.fold(Sources::default(), |all, job| Sources {
            cache: all.cache + job.from.cache,
            peers: all.peers + job.from.peers,
            origin: all.origin + job.from.origin,
        })
    };
    report.timeline = (0..=144).map(|number| Moment { at_s: f64::from(number) * 620.0, from: until(f64::from(number) * 620.0) }).collect();
    report.origin.body_bytes = report.timeline.last().map_or(0, |moment| moment.from.origin);
    report.nodes.iter_mut().for_each(|node| node.from = Sources::default());
    for job in &report.jobs {
        let from = &mut report.nodes[job.node].from;
        *from = Sources { cache: from.cache + job.from.cache, peers: from.peers + job.from.peers, origin: from.origin + job.from.origin };
    }
    report.judge(&Limits { floor_x_max: Some(1.2), p99_wait_s_max: Some(3000.0), corrupt_max: Some(0), ..Limits::default() });
    report
}

/// Eight nodes of which one was never ready.
pub(super) fn never() -> Report {
    let mut report = eight();
    report.jobs[3].waited_s = None;
    report.judge(&Limits { failed_max: Some(0), time_x_max: Some(1.15), ..Limits::default() });
    report
}

/// Eight nodes on a machine that was too busy.
pub(super) fn void() -> Report {
    let mut report = eight();
    report.processor = Some(0.93);
    report.judge(&Limits { processor_max: Some(0.7), time_x_max: Some(1.15), ..Limits::default() });
    report
}

/// A run in which there was nothing: no bytes, no jobs, no nodes.
pub(super) fn nothing() -> Report {
    let mut report = eight();
    report.jobs.clear();
    report.nodes.clear();
    report.fed.clear();
    report.timeline.clear();
    report.limits.clear();
    (report.wanted_bytes, report.floor_bytes, report.origin, report.bound, report.processor) = (0, 0, OfOrigin::default(), None, None);
    report
}

/// Eight nodes that wanted files without a byte.
pub(super) fn zero_bytes() -> Report {
    let mut report = eight();
    (report.wanted_bytes, report.floor_bytes, report.origin.body_bytes) = (0, 0, 0);
    report.nodes.iter_mut().for_each(|node| (node.from, node.served, node.sent) = (Sources::default(), 0, None));
    report.jobs.iter_mut().for_each(|job| (job.from, job.waited_s) = (Sources::default(), Some(0.0)));
    report.timeline.iter_mut().for_each(|moment| moment.from = Sources::default());
    report.bound = Some(OfBound { copies: 1, downlink_s: 0.0, origin_s: 0.0, uplinks_s: 0.0, seconds: 0.0, alone_s: 0.0 });
    report.fed.clear();
    report
}

/// All of them.
pub(super) fn all() -> Vec<Report> {
    vec![eight(), mixed(), ten_thousand(), day(), never(), void(), nothing(), zero_bytes()]
}
