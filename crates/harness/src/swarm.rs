//! One measured scene: nodes behind links of limited rates, that all want the same files at once.
//!
//! The origin's bytes are counted where they leave it, and each link's by the kernel; times are from a common start.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::ensure;
use clap::{Args, ValueEnum};
use larder_harness::hub::{HubBuilder, HubServer, Repo, Tree};
use larder_harness::market::{ADDRESSES, Host, Market, Network, Place, Prepared, Processor, Traffic, job, pass, probe};
use larder_harness::report::{Screen, megabytes};
use rustix::process::Signal;

use crate::distant::DistantHub;
use crate::outcome::{OfNode, Outcome};
use crate::workplace::{Workplace, WorkplaceArguments, verdict};
use larder_harness::scenario::parse_bytes;

/// The repository that all want.
const REPOSITORY: &str = "harness/generated";
/// How many seconds a probe of a link takes.
const PROBE_SECONDS: u64 = 2;
/// What the origin may still send after the last node is ready: reads that end when they are cancelled.
const AFTERWARDS: Duration = Duration::from_millis(500);
/// How long a node may take to find out that its peers are of no use.
const FINDING_OUT_SECONDS: f64 = 2.0;
/// How long a scene may take, beyond ten times what it must.
const LIMIT: Duration = Duration::from_secs(120);

#[derive(Debug, Args)]
pub(crate) struct SwarmArguments {
    /// What the scene is called in reports.
    #[arg(long, default_value = "swarm")]
    name: String,
    /// How many nodes want the files.
    #[arg(long, default_value_t = 8)]
    nodes: usize,
    /// How many more nodes hold them before the start.
    #[arg(long, default_value_t = 0)]
    warm: usize,
    /// What becomes of the warm nodes.
    #[arg(long, value_name = "HOW", requires = "warm")]
    halt: Option<Halt>,
    /// How many seconds after the start it becomes of them.
    #[arg(long, default_value_t = 0.0, requires = "halt")]
    halt_after: f64,
    /// How many files there are.
    #[arg(long, default_value_t = 1)]
    files: u64,
    /// The size of each.
    #[arg(long, value_parser = parse_bytes, default_value = "256MiB")]
    bytes: u64,
    /// Bytes a second that the origin sends.
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes, default_value = "10MB")]
    origin_rate: u64,
    /// Bytes a second that each node sends.
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes, default_value = "10MB")]
    uplink: u64,
    /// Bytes a second that each node is sent [default: no limit].
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes)]
    downlink: Option<u64>,
    /// The patience of all jobs, a number or none [default: what nodes have].
    #[arg(long)]
    patience: Option<String>,
    /// Each node by itself, straight from the origin: no daemons, no market.
    #[arg(long, conflicts_with_all = ["warm", "patience"])]
    lone: bool,
    /// Seconds between the moment when all are connected and the start.
    #[arg(long, default_value_t = 3.0)]
    settle: f64,
    /// Writes what was measured to a file, as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Fails if the origin sends more than so many times the files.
    #[arg(long, value_name = "RATIO")]
    most_origin: Option<f64>,
    /// Fails if the last node takes more than so many times T*.
    #[arg(long, value_name = "RATIO")]
    most_bound: Option<f64>,
    /// Fails if the last node takes more than so many times what one alone takes straight from the origin.
    #[arg(long, value_name = "RATIO")]
    most_alone: Option<f64>,
    #[command(flatten)]
    workplace: WorkplaceArguments,
}

/// How a node stops to be of use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Halt {
    /// Its process is killed, and its connections end.
    Killed,
    /// It goes on to exist, and does and says nothing.
    Frozen,
}

/// Plays the scene.
pub(crate) fn run(arguments: &SwarmArguments) -> anyhow::Result<()> {
    ensure!(arguments.nodes > 0 && arguments.files * arguments.bytes > 0, "there must be a node, and a byte that it wants");
    let mut screen = Screen::new();
    let workplace = Workplace::new(&arguments.workplace)?;
    let network = Network::new()?;
    let mut scene = Scene::new(arguments, &workplace, &network)?;
    let goodputs = scene.get_ready()?;
    screen.say(&format!("{}: {}", arguments.name, scene.described(goodputs)));
    let (outcome, prepared) = scene.measure(goodputs)?;
    let right = scene.hub.sha256s(&format!("models/{REPOSITORY}"), "main")?;
    drop(scene);
    report(arguments, &mut screen, &outcome);
    for one in prepared.iter().filter(|one| !one.is_ready()) {
        screen.say(&one.told);
    }
    let ready = prepared.iter().filter(|one| one.is_ready()).count();
    screen.promise(ready == prepared.len(), &format!("{ready} of {} nodes are ready", prepared.len()));
    let mut wrong = Vec::new();
    for one in &prepared {
        wrong.extend(one.wrong(&right)?);
    }
    screen.promise(
        wrong.is_empty(),
        &format!("{} laid files have the sha256 of those at the origin {}", right.len() * ready, wrong.join(", ")),
    );
    let finding_out = if arguments.halt.is_some() { FINDING_OUT_SECONDS } else { 0.0 };
    let alone = (outcome.last_s - finding_out) / outcome.alone_s;
    let but = if arguments.halt.is_some() { ", but for 2 s to find out," } else { "" };
    let alone_is = format!("the last node's time{but} by that of one alone, straight from the origin");
    for (most, ratio, what) in [
        (arguments.most_origin, outcome.origin_ratio(), "the origin sent, by the bytes there are"),
        (arguments.most_bound, outcome.over_bound(), "the last node's time by T*"),
        (arguments.most_alone, alone, &alone_is),
    ] {
        if let Some(most) = most {
            screen.promise(ratio <= most, &format!("{what}: {ratio:.3}, at most {most}"));
        }
    }
    if let Some(path) = &arguments.json {
        outcome.write(path)?;
    }
    verdict(&screen)
}

/// What single connections get of the origin's and of a node's rates.
#[derive(Debug, Clone, Copy)]
struct Goodputs {
    origin: f64,
    uplink: f64,
    downlink: Option<f64>,
}

struct Scene<'a> {
    arguments: &'a SwarmArguments,
    market: Market,
    hub: HubServer,
    origin: Host,
    /// What it is sent has no limit, so links are measured towards it.
    bootstrap: Host,
    hosts: Vec<Host>,
    /// The numbers of the nodes that want the files, and of those that hold them before.
    cold: Vec<usize>,
    warm: Vec<usize>,
}

impl<'a> Scene<'a> {
    /// Hosts, links, the hub, and a market whose nodes do not run yet. Only the origin has no limit yet.
    fn new(arguments: &'a SwarmArguments, workplace: &Workplace, network: &Network) -> anyhow::Result<Self> {
        let repo = Repo::model(REPOSITORY).at("main", Tree::synthetic(arguments.files, arguments.bytes));
        let DistantHub { hub, host: origin } = DistantHub::start(network, HubBuilder::new().repo(repo))?;
        let mut market = workplace.market("swarm", ADDRESSES[0], hub.endpoint())?;
        let bootstrap = network.host("bootstrap", Network::address(1))?;
        bootstrap.limit_sending(arguments.uplink)?;
        if !arguments.lone {
            market.start_bootstrap(Place::Host(bootstrap.clone()))?;
        }
        let mut hosts = Vec::new();
        for number in 0..arguments.warm + arguments.nodes {
            let host = network.host(&format!("node{number}"), Network::address(u16::try_from(number + 2)?))?;
            host.limit_sending(arguments.uplink)?;
            arguments.downlink.map_or(Ok(()), |rate| host.limit_receiving(rate))?;
            let place = Place::Host(host.clone());
            let _: usize = if arguments.lone { market.add_lone(place)? } else { market.add(place)? };
            hosts.push(host);
        }
        let numbers: Vec<usize> = (0..hosts.len()).collect();
        let (warm, cold) = numbers.split_at(arguments.warm);
        let (warm, cold) = (warm.to_vec(), cold.to_vec());
        Ok(Self { arguments, market, hub, origin, bootstrap, hosts, cold, warm })
    }

    /// Starts the daemons, has the warm ones get the files, and limits the origin.
    fn get_ready(&mut self) -> anyhow::Result<Goodputs> {
        let uplink = probe(&self.hosts[0], &self.bootstrap, self.arguments.uplink * PROBE_SECONDS)?;
        let downlink = self.arguments.downlink.map(|rate| probe(&self.origin, &self.hosts[0], rate * PROBE_SECONDS)).transpose()?;
        if !self.arguments.lone {
            let all: Vec<usize> = self.warm.iter().chain(&self.cold).copied().collect();
            self.market.run(&all)?;
            self.market.wait_until_connected(&all, 1)?;
        }
        // One after the other: the first takes them from the origin, the others from those before.
        for holder in self.warm.clone() {
            let mut race = self.market.line_up(&[holder], &self.job(), "root", None)?;
            race.start()?;
            for one in race.finish(self.limit())? {
                ensure!(one.is_ready(), "{} did not get warm: {}", one.node, one.told);
            }
        }
        self.origin.limit_sending(self.arguments.origin_rate)?;
        let origin = probe(&self.origin, &self.bootstrap, self.arguments.origin_rate * PROBE_SECONDS)?;
        pass(Duration::try_from_secs_f64(self.arguments.settle)?)?;
        Ok(Goodputs { origin, uplink, downlink })
    }

    fn job(&self) -> String {
        job(REPOSITORY)
    }

    fn limit(&self) -> Duration {
        let bytes = (self.arguments.files * self.arguments.bytes * self.hosts.len() as u64) as f64;
        let narrowest = self.arguments.origin_rate.min(self.arguments.uplink).min(self.arguments.downlink.unwrap_or(u64::MAX));
        LIMIT + Duration::from_secs_f64(10.0 * bytes / narrowest as f64 / self.hosts.len().min(10) as f64)
    }

    fn traffic(&self) -> anyhow::Result<Vec<Traffic>> {
        self.hosts.iter().chain([&self.origin]).map(Host::traffic).collect()
    }

    fn measure(&mut self, goodputs: Goodputs) -> anyhow::Result<(Outcome, Vec<Prepared>)> {
        let mut race = self.market.line_up(&self.cold.clone(), &self.job(), "root", self.arguments.patience.as_deref())?;
        self.hub.counts().reset();
        let (traffic, processor) = (self.traffic()?, Processor::now()?);
        race.start()?;
        if let Some(how) = self.arguments.halt {
            pass(Duration::try_from_secs_f64(self.arguments.halt_after)?)?;
            self.halt_the_warm(how);
        }
        let mut prepared = race.finish(self.limit())?;
        let processor = Processor::now()?.busy_since(&processor);
        pass(AFTERWARDS)?;
        let mut moved: Vec<Traffic> = self.traffic()?.into_iter().zip(traffic).map(|(now, then)| now.since(then)).collect();
        let of_origin = moved.pop().unwrap_or_default();
        let mut outcome = self.outcome(goodputs);
        let content = self.hub.counts().content();
        (outcome.origin_bytes, outcome.origin_requests) = (content.body_bytes, content.requests);
        (outcome.origin_wire_bytes, outcome.processor) = (of_origin.sent, processor);
        outcome.each = self.each(&prepared, &moved);
        prepared.sort_by(|a, b| a.seconds.total_cmp(&b.seconds));
        let at = |index: usize| prepared.get(index).map_or(0.0, |one| one.seconds);
        (outcome.first_s, outcome.median_s, outcome.last_s) = (at(0), at(prepared.len() / 2), at(prepared.len() - 1));
        let copies = if self.arguments.lone { self.cold.len() } else { usize::from(self.warm.is_empty() || self.arguments.halt.is_some()) };
        outcome.bound_s = outcome.bound(copies as u64).seconds();
        outcome.alone_s = outcome.bound(1).alone();
        Ok((outcome, prepared))
    }

    fn halt_the_warm(&mut self, how: Halt) {
        for (_, node) in self.market.nodes().iter_mut().enumerate().filter(|(number, _)| self.warm.contains(number)) {
            match how {
                Halt::Killed => node.kill(),
                Halt::Frozen => node.daemon().into_iter().for_each(|daemon| daemon.signal(Signal::STOP)),
            }
        }
    }

    fn each(&mut self, prepared: &[Prepared], moved: &[Traffic]) -> Vec<OfNode> {
        let mut each = Vec::new();
        for (node, moved) in self.market.nodes().iter_mut().zip(moved) {
            let one = prepared.iter().find(|one| one.node == node.name());
            let from = |source: &str| one.map_or(0, |one| one.from(source));
            each.push(OfNode {
                name: node.name().to_owned(),
                seconds: one.map(|one| one.seconds),
                from_cache: from("cache"),
                from_peers: from("peers"),
                from_origin: from("origin"),
                sent: moved.sent,
                received: moved.received,
                peak_memory: node.memory().peak.max(one.map_or(0, |one| one.peak_bytes)),
            });
        }
        each
    }

    /// What was set, with nothing measured but the links.
    fn outcome(&self, goodputs: Goodputs) -> Outcome {
        let SwarmArguments { name, nodes, warm, files, bytes, origin_rate, uplink, downlink, patience, lone, .. } = self.arguments;
        Outcome {
            name: name.clone(),
            nodes: *nodes,
            // Of those that are halted nothing is to be had.
            warm: if self.arguments.halt.is_some() { 0 } else { *warm },
            lone: *lone,
            files: *files,
            bytes: files * bytes,
            origin_rate: *origin_rate,
            uplink: *uplink,
            downlink: *downlink,
            patience: patience.clone(),
            origin_goodput: goodputs.origin,
            uplink_goodput: goodputs.uplink,
            downlink_goodput: goodputs.downlink,
            origin_bytes: 0,
            origin_requests: 0,
            origin_wire_bytes: 0,
            first_s: 0.0,
            median_s: 0.0,
            last_s: 0.0,
            bound_s: 0.0,
            alone_s: 0.0,
            processor: 0.0,
            each: Vec::new(),
        }
    }

    fn described(&self, goodputs: Goodputs) -> String {
        let outcome = self.outcome(goodputs);
        let nodes = match (outcome.lone, self.arguments.warm) {
            (true, _) => format!("{} nodes, each by itself", outcome.nodes),
            (false, 0) => format!("{} cold nodes", outcome.nodes),
            (false, warm) => {
                let halted = self.arguments.halt.map_or_else(String::new, |how| {
                    format!(" and are {} {} s after the start", format!("{how:?}").to_lowercase(), self.arguments.halt_after)
                });
                format!("{} cold nodes and {warm} that are warm{halted}", outcome.nodes)
            }
        };
        let patience = outcome.patience.as_ref().map_or_else(String::new, |patience| format!(", patience {patience}"));
        let part = |goodput: f64, rate: u64, what: &str| format!("{:.3} of {what}", goodput / rate as f64);
        let mut carried =
            vec![part(goodputs.origin, outcome.origin_rate, "the origin's rate"), part(goodputs.uplink, outcome.uplink, "an uplink's")];
        carried.extend(goodputs.downlink.zip(outcome.downlink).map(|(goodput, rate)| part(goodput, rate, "a downlink's")));
        let (files, each, links) = (outcome.files, megabytes(self.arguments.bytes), outcome.links());
        let files = if files == 1 { format!("a file of {each}") } else { format!("{files} files of {each}") };
        format!("{nodes}, {files}, {links}{patience}; one connection carries {}", carried.join(", "))
    }
}

fn report(arguments: &SwarmArguments, screen: &mut Screen, outcome: &Outcome) {
    let row = |node: &OfNode| {
        let seconds = node.seconds.map_or_else(|| "warm".to_owned(), |seconds| format!("{seconds:.2} s"));
        let bytes = [node.from_peers, node.from_origin, node.sent, node.received, node.peak_memory].map(megabytes);
        [node.name.clone(), seconds].into_iter().chain(bytes).collect()
    };
    let rows: Vec<Vec<String>> = outcome.each.iter().map(row).collect();
    screen.table(&["", "done", "from peers", "from origin", "sent, wire", "received, wire", "peak memory"], &rows);
    let wire = outcome.origin_wire_bytes as f64 / outcome.bytes as f64;
    screen.say(&format!(
        "{}: origin {:.3} of the bytes ({} requests; {wire:.3} on the wire); first {:.2} s, median {:.2} s, last {:.2} s",
        arguments.name,
        outcome.origin_ratio(),
        outcome.origin_requests,
        outcome.first_s,
        outcome.median_s,
        outcome.last_s
    ));
    screen.say(&format!(
        "T* {:.2} s, last by T* {:.2}; alone straight from the origin {:.2} s; processor {:.0} %; peak memory {}",
        outcome.bound_s,
        outcome.over_bound(),
        outcome.alone_s,
        outcome.processor * 100.0,
        megabytes(outcome.peak_memory())
    ));
}
