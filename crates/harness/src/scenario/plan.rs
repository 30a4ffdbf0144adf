//! A scenario with every node, file and job by itself.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use super::quantity::spread;
use super::{FileGroup, Halt, Lying, NodeGroup, Pattern, Rate, Scenario, Spread};
use crate::report::Bound;

/// How much of a day's jobs come and go with its hour: three times as many at its height as at its depth.
const SWING: f64 = 0.5;

/// A scenario, ready to be played. The same scenario has the same plan.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// All nodes.
    pub nodes: Vec<PlannedNode>,
    /// All resources.
    pub resources: Vec<PlannedResource>,
    /// All jobs, in the order of their times.
    pub jobs: Vec<PlannedJob>,
}

/// One node. Rates are in bytes a second, and none where there is no limit.
#[derive(Debug, Clone, PartialEq)]
pub struct PlannedNode {
    /// What it sends.
    pub uplink: Option<u64>,
    /// What it is sent.
    pub downlink: Option<u64>,
    /// Bytes that it can store.
    pub disk: Option<u64>,
    /// The resources that it holds before.
    pub warm: Vec<usize>,
    /// What it is false in.
    pub lies: Option<Lying>,
    /// Whether others can connect to it.
    pub reachable: bool,
    /// When it leaves, in seconds from the first arrival, and how.
    pub leaves: Option<(f64, Halt)>,
}

/// One resource.
#[derive(Debug, Clone, PartialEq)]
pub struct PlannedResource {
    /// Its name.
    pub name: String,
    /// The folder that it is; else it has files.
    pub folder: Option<PathBuf>,
    /// The files that are generated.
    pub files: Vec<PlannedFile>,
}

/// One generated file. Its bytes depend on its path alone: the same path in two resources is the same file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct PlannedFile {
    /// Its path in the resource.
    pub path: String,
    /// Its size.
    pub bytes: u64,
}

/// One job: a node that wants resources.
#[derive(Debug, Clone, PartialEq)]
pub struct PlannedJob {
    /// The number of the node.
    pub node: usize,
    /// The numbers of the resources.
    pub resources: Vec<usize>,
    /// When, in seconds from the first arrival.
    pub at_s: f64,
}

impl Plan {
    pub(super) fn of(scenario: &Scenario) -> Self {
        let mut random = fastrand::Rng::with_seed(scenario.seed);
        let mut resources: Vec<PlannedResource> = Vec::new();
        for group in &scenario.resources {
            for number in 0..group.count {
                let name = if group.count == 1 { group.name.clone() } else { format!("{}-{number}", group.name) };
                let files = group.files.iter().enumerate().flat_map(|(kind, files)| generated(&name, kind, files, number, group.count));
                let files = files.collect();
                resources.push(PlannedResource { name, folder: group.folder.clone(), files });
            }
        }
        let named = |name: &String| resources.iter().position(|resource| resource.name == *name);
        let (mut nodes, mut wanting) = (Vec::new(), Vec::new());
        for group in &scenario.nodes {
            let warm: Vec<usize> = group.warm.iter().filter_map(named).collect();
            let (uplinks, downlinks) = (rates(group.uplink, group.count, &mut random), rates(group.downlink, group.count, &mut random));
            let leaving = leaving(group, &mut random);
            for (number, leaves) in leaving.into_iter().enumerate() {
                if group.wants && group.lies.is_none() {
                    wanting.push(nodes.len());
                }
                nodes.push(PlannedNode {
                    uplink: uplinks[number],
                    downlink: downlinks[number],
                    disk: group.disk.map(|disk| disk.0),
                    warm: warm.clone(),
                    lies: group.lies,
                    reachable: group.reachable,
                    leaves,
                });
            }
        }
        let jobs = jobs(scenario, &wanting, resources.len(), &mut random);
        Self { nodes, resources, jobs }
    }

    /// The bytes of the distinct generated files among these resources.
    #[must_use]
    pub fn distinct_bytes(&self, resources: impl IntoIterator<Item = usize>) -> u64 {
        let files = resources.into_iter().flat_map(|resource| &self.resources[resource].files);
        files.collect::<BTreeSet<_>>().into_iter().map(|file| file.bytes).sum()
    }

    /// All resources that any job wants.
    #[must_use]
    pub fn wanted(&self) -> BTreeSet<usize> {
        self.jobs.iter().flat_map(|job| job.resources.iter().copied()).collect()
    }

    /// The bytes that must leave the origin even if all nodes were one: each distinct file that nobody holds before, once for each time
    /// that no job has used it for `expiry_s`.
    #[must_use]
    pub fn floor_bytes(&self, expiry_s: Option<f64>) -> u64 {
        let warm: BTreeSet<&PlannedFile> =
            self.nodes.iter().flat_map(|node| &node.warm).flat_map(|resource| &self.resources[*resource].files).collect();
        let mut used: BTreeMap<&PlannedFile, f64> = BTreeMap::new();
        let mut bytes = 0;
        for job in &self.jobs {
            for file in job.resources.iter().flat_map(|resource| &self.resources[*resource].files) {
                let last = used.insert(file, job.at_s);
                let held = last.map_or(warm.contains(file), |last| expiry_s.is_none_or(|expiry_s| job.at_s - last <= expiry_s));
                bytes += if held { 0 } else { file.bytes };
            }
        }
        bytes
    }

    /// What bounds the time of nodes that all want the same `bytes` at once, of an origin that sends `origin` bytes a second. Nodes that
    /// lie send nothing of use, and the slowest downlink bounds the last node.
    #[must_use]
    pub fn bound(&self, bytes: u64, origin: Option<u64>, lone: bool) -> Bound {
        let wanting: BTreeSet<usize> = self.jobs.iter().map(|job| job.node).collect();
        let honest = || self.nodes.iter().filter(|node| node.lies.is_none());
        let stays_warm = |node: &PlannedNode| node.leaves.is_none() && self.wanted().iter().all(|wanted| node.warm.contains(wanted));
        let uplinks: Option<Vec<u64>> = honest().map(|node| node.uplink).collect();
        let copies = if lone { wanting.len() as u64 } else { u64::from(!honest().any(stays_warm)) };
        Bound {
            bytes,
            cold: wanting.len() as u64,
            copies,
            downlink: wanting.iter().filter_map(|node| self.nodes[*node].downlink).min(),
            origin,
            uplinks: uplinks.filter(|_| !lone).map(|uplinks| uplinks.iter().sum()),
        }
    }
}

fn generated(resource: &str, kind: usize, files: &FileGroup, number: usize, count: usize) -> Vec<PlannedFile> {
    let bytes = spread(files.bytes.ends(), number, count);
    let of = files.of.as_deref().unwrap_or(resource);
    let suffix = if bytes < crate::hub::BINARY_BYTES { "txt" } else { "bin" };
    // Files of another resource are those of its own first group.
    let kind = if files.of.is_some() { 0 } else { kind };
    (0..files.count).map(|file| PlannedFile { path: format!("{of}-{kind}/{:03}/{file:06}.{suffix}", file / 1000), bytes }).collect()
}

fn rates(of: Option<Spread<Rate>>, count: usize, random: &mut fastrand::Rng) -> Vec<Option<u64>> {
    let mut rates: Vec<Option<u64>> = (0..count).map(|number| of.map(|rates| spread(rates.ends(), number, count))).collect();
    random.shuffle(&mut rates);
    rates
}

/// When each node of a group leaves.
fn leaving(group: &NodeGroup, random: &mut fastrand::Rng) -> Vec<Option<(f64, Halt)>> {
    let Some(leaves) = group.leaves else { return vec![None; group.count] };
    let leavers = (leaves.share * group.count as f64).round() as usize;
    let [first, last] = leaves.between_s;
    let time = |number: usize, random: &mut fastrand::Rng| (number < leavers).then(|| (first + random.f64() * (last - first), leaves.how));
    let mut times: Vec<_> = (0..group.count).map(|number| time(number, random)).collect();
    random.shuffle(&mut times);
    times
}

fn jobs(scenario: &Scenario, wanting: &[usize], resources: usize, random: &mut fastrand::Rng) -> Vec<PlannedJob> {
    if wanting.is_empty() || resources == 0 {
        return Vec::new();
    }
    let arrivals = &scenario.arrivals;
    let weights: Vec<f64> = (1..=resources).map(|rank| (rank as f64).powf(-arrivals.popularity.unwrap_or(0.0))).collect();
    let all: f64 = weights.iter().sum();
    let chosen = |random: &mut fastrand::Rng| {
        let mut left = random.f64() * all;
        weights
            .iter()
            .position(|weight| {
                left -= weight;
                left <= 0.0
            })
            .unwrap_or(resources - 1)
    };
    let count = arrivals.jobs.unwrap_or(wanting.len());
    let mut jobs: Vec<PlannedJob> = (0..count)
        .map(|number| {
            let node = if arrivals.jobs.is_none() { wanting[number] } else { wanting[random.usize(0..wanting.len())] };
            let resources = if arrivals.popularity.is_some() { vec![chosen(random)] } else { (0..resources).collect() };
            let at_s = match arrivals.pattern {
                Pattern::Together => 0.0,
                Pattern::OneByOne => number as f64 * arrivals.seconds,
                // So many at random times are a Poisson process, given how many there are.
                Pattern::Poisson => random.f64() * arrivals.seconds,
                Pattern::Day => of_day(random) * arrivals.seconds,
            };
            PlannedJob { node, resources, at_s }
        })
        .collect();
    jobs.sort_by(|a, b| a.at_s.total_cmp(&b.at_s));
    let first = jobs.first().map_or(0.0, |job| job.at_s);
    jobs.iter_mut().for_each(|job| job.at_s -= first);
    jobs
}

/// A random part of a day that begins at its depth.
fn of_day(random: &mut fastrand::Rng) -> f64 {
    loop {
        let part = random.f64();
        if random.f64() * (1.0 + SWING) <= 1.0 - SWING * (part * std::f64::consts::TAU).cos() {
            return part;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO: &str = r#"
        name = "two"
        about = "Two resources that share files."
        ways = ["simulated"]
        patience = "none"
        origin = { rate = "10MB/s" }
        resources = [
            { name = "base", files = [{ count = 8, bytes = "16MB" }] },
            { name = "tuned", files = [{ count = 7, bytes = "16MB", of = "base" }, { bytes = "16MB" }] },
        ]
        nodes = [
            { count = 4, uplink = ["3MB/s", "24MB/s"], leaves = { share = 0.5, between_s = [2, 3] } },
            { uplink = "10MB/s", warm = ["base"], wants = false },
            { lies = "wrong-bytes", uplink = "10MB/s" },
        ]
    "#;

    fn two() -> Scenario {
        Scenario::parse(TWO).unwrap()
    }

    #[test]
    fn a_plan_is_the_same_for_the_same_seed_and_another_for_another() {
        assert_eq!(two().plan(), two().plan());
        assert_ne!(two().plan(), Scenario { seed: 2, ..two() }.plan());
    }

    #[test]
    fn files_of_another_resource_are_counted_once() {
        let plan = two().plan();
        assert_eq!(plan.distinct_bytes([0]), 8 * 16_000_000);
        assert_eq!(plan.distinct_bytes([0, 1]), 9 * 16_000_000);
    }

    #[test]
    fn nodes_get_their_lines_and_part_of_them_leaves() {
        let plan = two().plan();
        let mut uplinks: Vec<u64> = plan.nodes[..4].iter().filter_map(|node| node.uplink).collect();
        uplinks.sort_unstable();
        assert_eq!(uplinks, [3_000_000, 6_000_000, 12_000_000, 24_000_000]);
        let leaving: Vec<f64> = plan.nodes.iter().filter_map(|node| Some(node.leaves?.0)).collect();
        assert!(leaving.len() == 2 && leaving.iter().all(|at| (2.0..=3.0).contains(at)), "{leaving:?}");
        assert_eq!(plan.jobs.iter().map(|job| job.node).collect::<Vec<_>>(), [0, 1, 2, 3], "who lies or only serves wants nothing");
    }

    #[test]
    fn who_lies_lends_no_uplink_to_the_bound() {
        let plan = two().plan();
        let bound = plan.bound(100, Some(10), false);
        assert_eq!((bound.uplinks, bound.cold, bound.copies), (Some(55_000_000), 4, 1));
    }

    #[test]
    fn a_file_must_leave_the_origin_again_once_nobody_has_used_it_for_long() {
        let mut plan = two().plan();
        assert_eq!(plan.floor_bytes(None), 16_000_000, "the base is held, its other is not");
        plan.nodes[4].warm.clear();
        for (job, at_s) in plan.jobs.iter_mut().zip([0.0, 10.0, 30.0, 31.0]) {
            *job = PlannedJob { node: 0, resources: vec![1], at_s };
        }
        assert_eq!(plan.floor_bytes(Some(15.0)), 2 * 8 * 16_000_000);
        assert_eq!(plan.floor_bytes(Some(20.0)), 8 * 16_000_000);
    }

    #[test]
    fn popular_resources_are_chosen_more_often_and_a_day_has_a_height() {
        let text = r#"
            name = "day"
            about = "A day."
            ways = ["simulated"]
            resources = [{ name = "model", count = 30, files = [{ bytes = ["1MB", "1GB"] }] }]
            nodes = [{ count = 100 }]
            arrivals = { pattern = "day", jobs = 20000, seconds = 86400, popularity = 1.0 }
        "#;
        let plan = Scenario::parse(text).unwrap().plan();
        let of = |resource: usize| plan.jobs.iter().filter(|job| job.resources == [resource]).count();
        assert!(of(0) > 4 * of(9) && of(29) > 0, "{} {} {}", of(0), of(9), of(29));
        let between = |from: f64, to: f64| plan.jobs.iter().filter(|job| (from..to).contains(&(job.at_s / 86400.0))).count();
        assert!(between(0.4, 0.6) > 2 * between(0.0, 0.1) + between(0.9, 1.0), "the height is in the middle");
        assert_eq!((plan.resources[0].files[0].bytes, plan.resources[29].files[0].bytes), (1_000_000, 1_000_000_000));
    }

    #[test]
    fn what_does_not_fit_together_is_refused_with_its_place() {
        for (from, to, place) in [
            ("name = \"two\"", "name = \"t w o\"", "name"),
            ("warm = [\"base\"]", "warm = [\"other\"]", "nodes 2: warm"),
            ("of = \"base\"", "of = \"none\"", "tuned: of"),
            ("share = 0.5", "share = 5", "nodes 1: leaves"),
            ("patience = \"none\"", "patience = 0.5", "patience"),
            ("patience = \"none\"", "patiance = 1", "patiance"),
            ("\"10MB/s\" }", "\"10MB\" }", "10MB"),
            ("[\"3MB/s\", \"24MB/s\"]", "[\"3MB/s\"]", "spread"),
            ("wants = false", "wants = false, count = 2, warn = []", "warn"),
        ] {
            let error = format!("{:#}", Scenario::parse(&TWO.replace(from, to)).unwrap_err());
            assert!(error.contains(place), "{place}: {error}");
        }
        let nobody = TWO.replace("count = 4,", "count = 4, wants = false,");
        assert!(Scenario::parse(&nobody).unwrap_err().to_string().contains("nobody"));
    }
}
