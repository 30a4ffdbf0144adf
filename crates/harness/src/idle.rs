//! Nodes at rest: what they cost while nobody wants anything.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use clap::Args;
use larder_harness::hub::{HubBuilder, Repo, Tree};
use larder_harness::market::{ADDRESSES, Market, Network, Place, Traffic, pass};
use larder_harness::report::{Screen, megabytes};
use serde::Serialize;

use crate::parse_bytes;
use crate::workplace::{Workplace, WorkplaceArguments, verdict};

/// How often memory is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

#[derive(Debug, Args)]
pub(crate) struct IdleArguments {
    /// How many nodes there are, beside the bootstrap.
    #[arg(long, default_value_t = 50)]
    nodes: usize,
    /// How long they are measured.
    #[arg(long, default_value_t = 120)]
    seconds: u64,
    /// Seconds between the moment when all are connected and the first look.
    #[arg(long, default_value_t = 60)]
    settle: u64,
    /// Writes what was measured to a file, as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Fails if a node has more memory.
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes)]
    most_memory: Option<u64>,
    /// Fails if a node sends, or is sent, more bytes a second.
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes)]
    most_wire: Option<u64>,
    #[command(flatten)]
    workplace: WorkplaceArguments,
}

/// What one node cost. Memory in bytes, the most that was seen; the wire in bytes a second.
#[derive(Debug, Clone, Default, Serialize)]
struct Cost {
    name: String,
    resident: u64,
    own: u64,
    sent: f64,
    received: f64,
    peers: usize,
}

/// Plays the scene.
pub(crate) fn run(arguments: &IdleArguments) -> anyhow::Result<()> {
    ensure!(arguments.nodes > 0 && arguments.seconds > 0, "there must be a node and a second");
    let mut screen = Screen::new();
    let workplace = Workplace::new(&arguments.workplace)?;
    let network = Network::new()?;
    let origin = network.host("origin", Network::address(0))?;
    let repo = Repo::model("harness/empty").at("main", Tree::synthetic(1, 1));
    let hub = origin.inside(|| HubBuilder::new().repo(repo).listen((origin.address(), 80).into()).start())?;
    let mut market = workplace.market("idle", ADDRESSES[0], hub.endpoint())?;
    let bootstrap = network.host("bootstrap", Network::address(1))?;
    market.start_bootstrap(Place::Host(bootstrap))?;
    let mut numbers = Vec::new();
    for number in 0..arguments.nodes {
        let host = network.host(&format!("node{number}"), Network::address(u16::try_from(number + 2)?))?;
        numbers.push(market.add(Place::Host(host))?);
    }
    market.run(&numbers)?;
    market.wait_until_connected(&numbers, 1)?;
    screen.say(&format!("{} nodes and a bootstrap are connected; they rest for {} s", arguments.nodes, arguments.settle));
    pass(Duration::from_secs(arguments.settle))?;
    let costs = measure(&mut market, Duration::from_secs(arguments.seconds))?;
    report(&mut screen, &costs);
    let (_, nodes) = costs.split_first().context("the bootstrap was measured")?;
    judge(arguments, &mut screen, nodes);
    if let Some(path) = &arguments.json {
        let text = serde_json::to_string_pretty(&costs)?;
        std::fs::write(path, text + "\n").with_context(|| path.display().to_string())?;
    }
    drop(market);
    verdict(&screen)
}

/// The cost of the bootstrap and of each node, over `time`.
fn measure(market: &mut Market, time: Duration) -> anyhow::Result<Vec<Cost>> {
    let traffic = |market: &mut Market| -> anyhow::Result<Vec<Traffic>> {
        let places = market.everyone().map(|node| match node.place() {
            Place::Host(host) => host.traffic(),
            Place::Loopback => Ok(Traffic::default()),
        });
        places.collect()
    };
    let mut costs: Vec<Cost> = market.everyone().map(|node| Cost { name: node.name().to_owned(), ..Cost::default() }).collect();
    let (before, started) = (traffic(market)?, Instant::now());
    while started.elapsed() < time {
        pass(LOOK_EVERY)?;
        for (node, cost) in market.everyone().zip(&mut costs) {
            let memory = node.memory();
            ensure!(memory.resident > 0, "{} has ended: {}", node.name(), node.told());
            (cost.resident, cost.own) = (cost.resident.max(memory.resident), cost.own.max(memory.own));
        }
    }
    let (after, seconds) = (traffic(market)?, started.elapsed().as_secs_f64());
    for ((now, then), cost) in after.into_iter().zip(before).zip(&mut costs) {
        let moved = now.since(then);
        (cost.sent, cost.received) = (moved.sent as f64 / seconds, moved.received as f64 / seconds);
    }
    for (node, cost) in market.everyone().zip(&mut costs) {
        cost.peers = node.connected()?;
    }
    Ok(costs)
}

fn report(screen: &mut Screen, costs: &[Cost]) {
    let row = |title: String, resident: f64, own: f64, sent: f64, received: f64, peers: f64| {
        let memory = [resident, own].map(|bytes| format!("{:.1} MB", bytes / 1e6));
        [title].into_iter().chain(memory).chain([format!("{sent:.0}"), format!("{received:.0}"), format!("{peers:.1}")]).collect::<Vec<_>>()
    };
    let Some((bootstrap, nodes)) = costs.split_first() else { return };
    let summed = |title: &str, sum: fn(&[f64]) -> f64| {
        let of = |field: fn(&Cost) -> f64| sum(&nodes.iter().map(field).collect::<Vec<_>>());
        let memory = [of(|cost| cost.resident as f64), of(|cost| cost.own as f64)];
        row(title.to_owned(), memory[0], memory[1], of(|cost| cost.sent), of(|cost| cost.received), of(|cost| cost.peers as f64))
    };
    let own = [bootstrap.resident as f64, bootstrap.own as f64, bootstrap.sent, bootstrap.received, bootstrap.peers as f64];
    let rows = [
        summed("mean of the nodes", |all| all.iter().sum::<f64>() / all.len().max(1) as f64),
        summed("most of the nodes", |all| all.iter().copied().fold(0.0, f64::max)),
        row("the bootstrap".to_owned(), own[0], own[1], own[2], own[3], own[4]),
    ];
    screen.table(&["", "memory", "without files", "sent B/s", "received B/s", "peers"], &rows);
}

fn judge(arguments: &IdleArguments, screen: &mut Screen, nodes: &[Cost]) {
    if let Some(most) = arguments.most_memory {
        let seen = nodes.iter().map(|cost| cost.resident).max().unwrap_or(0);
        screen.promise(seen <= most, &format!("no node has more than {} of memory: {}", megabytes(most), megabytes(seen)));
    }
    if let Some(most) = arguments.most_wire {
        let mean = |of: fn(&Cost) -> f64| nodes.iter().map(of).sum::<f64>() / nodes.len().max(1) as f64;
        let (sent, received) = (mean(|cost| cost.sent), mean(|cost| cost.received));
        let kept = sent.max(received) <= most as f64;
        screen.promise(kept, &format!("a node sends {sent:.0} B/s and is sent {received:.0} B/s on average, at most {most}"));
    }
}
