//! What is to be played: nodes and their lines, an origin, what they want and when, and the limits that must hold.
//!
//! A scenario is written as TOML; `scenarios/` beside this crate's sources has those that ship. [`Plan`] is the same with every node,
//! file and job by itself: whichever way it is played, the plan is the same for the same seed.

mod plan;
mod quantity;

use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use serde::{Deserialize, Serialize};

pub use plan::{Plan, PlannedFile, PlannedJob, PlannedNode, PlannedResource};
pub use quantity::{Bytes, Rate, Spread, parse_bytes};

/// A scenario as it is written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// What it is called: letters, digits and `-`.
    pub name: String,
    /// What it shows, in a sentence.
    pub about: String,
    /// The ways in which it can be played; the first if none is asked for.
    pub ways: Vec<Way>,
    /// Decides all that is random.
    #[serde(default = "one")]
    pub seed: u64,
    /// The patience of all jobs: a number, `"none"` for no limit; what nodes have by themselves if it is left out.
    #[serde(default)]
    pub patience: Option<Patience>,
    /// Whether each node works for itself, straight from the origin.
    #[serde(default)]
    pub lone: bool,
    /// The origin of all resources.
    #[serde(default)]
    pub origin: Origin,
    /// What can be wanted.
    pub resources: Vec<ResourceGroup>,
    /// Who there is.
    pub nodes: Vec<NodeGroup>,
    /// Who wants what when.
    #[serde(default)]
    pub arrivals: Arrivals,
    /// What must hold.
    #[serde(default)]
    pub limits: Limits,
    /// After how many seconds those that are not done yet count as never done. Default 3600; 100,000 for a day and more.
    #[serde(default = "an_hour")]
    pub give_up_s: f64,
}

/// How a scenario is played.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Way {
    /// Real `larder` processes on loopback, without limits to their lines.
    Processes,
    /// Real processes, each in a network namespace behind lines of its own. Takes root.
    Namespaces,
    /// The node's own engine under a clock of events, over lines that are computed.
    Simulated,
}

impl std::fmt::Display for Way {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Processes => "processes",
            Self::Namespaces => "namespaces",
            Self::Simulated => "simulated",
        })
    }
}

/// How many times longer than straight from the origin a job may take.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(untagged, expecting = "a number of at least 1, or \"none\"")]
pub enum Patience {
    /// So many times.
    Times(f64),
    /// No limit.
    Word(NoLimit),
}

/// The word for no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NoLimit {
    /// No limit.
    None,
}

impl Patience {
    /// As `larder prepare --patience` takes it.
    #[must_use]
    pub fn spelled(self) -> String {
        self.times().map_or_else(|| "none".to_owned(), |times| times.to_string())
    }

    /// The number; `None` for no limit.
    #[must_use]
    pub fn times(self) -> Option<f64> {
        match self {
            Self::Times(times) => Some(times),
            Self::Word(NoLimit::None) => None,
        }
    }
}

/// The origin.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Origin {
    /// What it sends in a second, to all together; no limit if it is left out.
    #[serde(default)]
    pub rate: Option<Rate>,
    /// What goes wrong with it.
    #[serde(default)]
    pub faults: Vec<OriginFault>,
}

/// A time in which something is wrong with the origin, in seconds from the first arrival.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OriginFault {
    /// When it begins.
    pub from_s: f64,
    /// When it is over.
    pub to_s: f64,
    /// What is wrong.
    pub kind: OriginFaultKind,
}

/// What can be wrong with an origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OriginFaultKind {
    /// It closes connections without an answer, those too that are under way.
    Down,
    /// It answers new requests with 503.
    Busy,
}

/// Resources of a kind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResourceGroup {
    /// What it is called; followed by a number if there are several.
    pub name: String,
    /// How many there are.
    #[serde(default = "one_of_it")]
    pub count: usize,
    /// A folder whose files it holds, relative to the scenario's file or absolute. Not together with `files`.
    #[serde(default)]
    pub folder: Option<PathBuf>,
    /// Files that are generated.
    #[serde(default)]
    pub files: Vec<FileGroup>,
}

/// Generated files of a kind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileGroup {
    /// How many.
    #[serde(default = "one_of_it")]
    pub count: usize,
    /// How large each is. Two sizes are spread over the resources of the group: the first has the least.
    pub bytes: Spread<Bytes>,
    /// The resource whose first files of this group's number these are. Its own if it is left out.
    #[serde(default)]
    pub of: Option<String>,
}

/// Nodes of a kind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeGroup {
    /// How many.
    #[serde(default = "one_of_it")]
    pub count: usize,
    /// What each sends in a second; no limit if it is left out. Two rates are spread over the group, in random order.
    #[serde(default)]
    pub uplink: Option<Spread<Rate>>,
    /// What each is sent in a second.
    #[serde(default)]
    pub downlink: Option<Spread<Rate>>,
    /// What each can store; no limit but the disk's if it is left out.
    #[serde(default)]
    pub disk: Option<Bytes>,
    /// The resources that each holds before the first arrival.
    #[serde(default)]
    pub warm: Vec<String>,
    /// Whether they want what is wanted. Those that do not only serve.
    #[serde(default = "yes")]
    pub wants: bool,
    /// What they are false in.
    #[serde(default)]
    pub lies: Option<Lying>,
    /// Whether others can connect to them.
    #[serde(default = "yes")]
    pub reachable: bool,
    /// When they leave for good.
    #[serde(default)]
    pub leaves: Option<Leaves>,
}

/// What a lying node does. Simulated ones know `wrong-bytes` and `stalls`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Lying {
    /// It says that it holds everything, and sends other bytes.
    WrongBytes,
    /// It says that it holds everything, and that it is something else, whose hashes and bytes it gives.
    SwearsFalse,
    /// The same, of something that is false in a single chunk, another for each such node.
    SwearsNearly,
    /// It says that it holds everything, and never answers.
    Stalls,
    /// It says that it holds everything, and answers that it does not.
    Refuses,
    /// It says that it holds everything, and sends a chunk every second and a half.
    Dawdles,
    /// It fetches too, signs what it says that it read from the origin, and sends other bytes.
    SendsOther,
    /// It fetches too, and signs bytes of its own as what it read from the origin.
    SignsFalse,
    /// The same, but only each eighth chunk of what it says that it read is false.
    SignsNearly,
}

/// That nodes leave.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Leaves {
    /// Which part of the group leaves: 0.3 are three of ten.
    pub share: f64,
    /// Between which seconds from the first arrival they do.
    pub between_s: [f64; 2],
    /// How.
    #[serde(default)]
    pub how: Halt,
}

/// How a node leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Halt {
    /// Its process is killed, and its connections end.
    #[default]
    Killed,
    /// It goes on to exist, and does and says nothing.
    Frozen,
}

/// Who wants what when.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Arrivals {
    /// When jobs come.
    #[serde(default)]
    pub pattern: Pattern,
    /// How many jobs there are. Each node that wants anything has one if it is left out.
    #[serde(default)]
    pub jobs: Option<usize>,
    /// Seconds: between two for `one-by-one`, over how many all come for `poisson` and `day`.
    #[serde(default)]
    pub seconds: f64,
    /// The exponent of Zipf's law by which jobs choose one resource, the first the most. A job wants all resources if it is left out.
    #[serde(default)]
    pub popularity: Option<f64>,
    /// After how many hours without use a node drops a resource. Never if it is left out.
    #[serde(default)]
    pub expiry_h: Option<f64>,
}

impl Default for Arrivals {
    fn default() -> Self {
        Self { pattern: Pattern::Together, jobs: None, seconds: 0.0, popularity: None, expiry_h: None }
    }
}

/// When jobs come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pattern {
    /// All at once.
    #[default]
    Together,
    /// With the same time between each two.
    OneByOne,
    /// At random times.
    Poisson,
    /// At random times of a day, three times as many at its height as at its depth.
    Day,
}

/// What must hold. Whatever is left out may be anything.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Content bytes that the origin sent, cancelled ones included, by those of the distinct files wanted.
    pub origin_x_max: Option<f64>,
    /// The same by what must leave the origin even if all nodes were one; see [`Plan::floor_bytes`].
    pub floor_x_max: Option<f64>,
    /// The last node's time by `T*`.
    pub time_x_max: Option<f64>,
    /// The last node's time by that of one alone, straight from the origin.
    pub alone_x_max: Option<f64>,
    /// Seconds that 99 of 100 jobs wait at most.
    pub p99_wait_s_max: Option<f64>,
    /// Files laid that are not what the origin has.
    pub corrupt_max: Option<u64>,
    /// Jobs that were not made ready, of nodes that did not leave.
    pub failed_max: Option<u64>,
    /// Bytes in each second that a node sends or receives beside content, on average.
    pub control_rate_max: Option<f64>,
    /// The part of this machine's processor that was busy, above which the run says nothing of times and is void.
    pub processor_max: Option<f64>,
}

fn one() -> u64 {
    1
}

fn one_of_it() -> usize {
    1
}

fn yes() -> bool {
    true
}

fn an_hour() -> f64 {
    3600.0
}

impl Scenario {
    /// Reads one from a file.
    ///
    /// # Errors
    /// Fails if the file cannot be read, or is no scenario; the error says where and what.
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))?;
        let mut scenario = Self::parse(&text).with_context(|| format!("{} is no scenario", path.display()))?;
        let beside = path.parent().unwrap_or(Path::new("."));
        for folder in scenario.resources.iter_mut().filter_map(|resource| resource.folder.as_mut()) {
            *folder = beside.join(&*folder);
        }
        Ok(scenario)
    }

    /// Reads one from its text.
    ///
    /// # Errors
    /// Fails if it is no TOML, has a field that is not known, or does not fit together.
    pub fn parse(text: &str) -> anyhow::Result<Self> {
        let scenario: Self = toml::from_str(text)?;
        scenario.check()?;
        Ok(scenario)
    }

    fn check(&self) -> anyhow::Result<()> {
        let is_name = |name: &str| !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
        ensure!(is_name(&self.name), "name: {:?} has other than letters, digits and -", self.name);
        ensure!(!self.ways.is_empty(), "ways: there is none");
        let patient = self.patience.and_then(Patience::times).is_none_or(|times| times >= 1.0 && times.is_finite());
        ensure!(patient, "patience: it is a number of at least 1, or \"none\"");
        ensure!(self.give_up_s.is_finite() && self.give_up_s > 0.0, "give_up_s: it is above 0");
        for (number, resource) in self.resources.iter().enumerate() {
            let place = format!("resources {}", resource.name);
            ensure!(is_name(&resource.name), "resources: {:?} has other than letters, digits and -", resource.name);
            ensure!(resource.folder.is_some() == resource.files.is_empty(), "{place}: it has either files or a folder");
            let known = |of: &String| self.resources[..number].iter().any(|other| other.name == *of && other.count == 1);
            let unknown = resource.files.iter().filter_map(|files| files.of.as_ref()).find(|of| !known(of));
            ensure!(unknown.is_none(), "{place}: of: there is no single resource {unknown:?} before it");
        }
        for (number, nodes) in self.nodes.iter().enumerate() {
            let place = format!("nodes {}", number + 1);
            let unknown = nodes.warm.iter().find(|name| !self.resources.iter().any(|resource| resource.name == **name));
            ensure!(unknown.is_none(), "{place}: warm: there is no resource {unknown:?}");
            let right = |leaves: &Leaves| (0.0..=1.0).contains(&leaves.share) && leaves.between_s[0] <= leaves.between_s[1];
            ensure!(nodes.leaves.as_ref().is_none_or(right), "{place}: leaves: a share of 0 to 1, and two seconds in order");
        }
        let faults = self.origin.faults.iter().all(|fault| 0.0 <= fault.from_s && fault.from_s <= fault.to_s);
        ensure!(faults, "origin.faults: from_s is before to_s");
        let spaced = matches!(self.arrivals.pattern, Pattern::Together) || self.arrivals.seconds > 0.0;
        ensure!(spaced, "arrivals: this pattern takes `seconds`");
        ensure!(!self.plan().jobs.is_empty(), "nobody wants anything: nodes that want, and resources, are missing");
        Ok(())
    }

    /// Every node, file and job by itself.
    #[must_use]
    pub fn plan(&self) -> Plan {
        Plan::of(self)
    }
}
