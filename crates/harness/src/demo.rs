//! Scenes with markets of real nodes on loopback, each a row of a table, and what they promise.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use larder_harness::hub::{HubBuilder, HubServer, Repo, Tree};
use larder_harness::market::{ADDRESSES, Market, Place, Prepared, job, wait_for};
use larder_harness::report::{Screen, megabytes};

use crate::workplace::{Workplace, WorkplaceArguments, verdict};
use crate::{empty_repo, generated};

/// The repository that is served if none is said, and what it holds.
const SYNTHETIC: (&str, &str) = ("models/harness/generated", "1x64MiB");
/// The most that a crowd without the files may read of them from the origin, by what they are.
const COLD_MOST: f64 = 1.3;
/// How many nodes take part in the scene in which one is killed.
const KILL_NODES: usize = 4;
/// How many seconds the hub takes for one copy in that scene, so that the middle can be hit.
const KILL_SECONDS: u64 = 5;
/// How long a scene may take.
const LIMIT: Duration = Duration::from_secs(300);
const TITLES: [&str; 8] = ["", "nodes", "bytes", "origin sent", "by the bytes", "from peers, each", "first", "last"];

#[derive(Debug, Args)]
pub(crate) struct DemoArguments {
    /// How many nodes find it warm.
    #[arg(long, default_value_t = 5)]
    nodes: usize,
    /// How many fresh nodes start cold together.
    #[arg(long, default_value_t = 8)]
    cold: usize,
    /// The repository, models/org/name=FOLDER [default: generated files].
    #[arg(long, value_name = "NAME=FOLDER")]
    repo: Option<String>,
    #[command(flatten)]
    workplace: WorkplaceArguments,
}

/// Plays all scenes.
pub(crate) fn run(arguments: &DemoArguments) -> anyhow::Result<()> {
    let (name, tree) = match &arguments.repo {
        Some(repo) => {
            let (name, folder) = repo.split_once('=').with_context(|| format!("{repo:?} is not written NAME=FOLDER"))?;
            (name, Tree::folder(folder)?)
        }
        None => (SYNTHETIC.0, generated(SYNTHETIC.1)?),
    };
    let repo = empty_repo(name)?.at("main", tree);
    let workplace = Workplace::new(&arguments.workplace)?;
    let mut scenes =
        Scenes { screen: Screen::new(), rows: Vec::new(), workplace: &workplace, repo: &repo, name, checked: 0, wrong: Vec::new() };
    let hub = scenes.hub(None)?;
    let counts = Served::of(&hub, name)?;
    let (files, bytes) = (counts.right.len(), megabytes(counts.bytes));
    scenes.screen.say(&format!("{name}: {files} files, {bytes}; nodes are processes on loopback, in markets with one bootstrap each.\n"));
    scenes.warm(&counts, arguments.nodes)?;
    scenes.cold(&counts, arguments.cold)?;
    scenes.killed(&counts)?;
    scenes.finish()
}

/// A hub, and what it serves.
struct Served<'a> {
    hub: &'a HubServer,
    /// sha256 by path.
    right: BTreeMap<String, String>,
    bytes: u64,
}

impl<'a> Served<'a> {
    fn of(hub: &'a HubServer, name: &str) -> anyhow::Result<Self> {
        let bytes = hub.files(name, "main").iter().map(|file| file.size).sum();
        Ok(Self { hub, right: hub.sha256s(name, "main")?, bytes })
    }

    fn sent(&self) -> u64 {
        self.hub.counts().content().body_bytes
    }
}

struct Scenes<'a> {
    screen: Screen,
    rows: Vec<Vec<String>>,
    workplace: &'a Workplace<'a>,
    repo: &'a Repo,
    name: &'a str,
    checked: usize,
    wrong: Vec<String>,
}

impl Scenes<'_> {
    fn hub(&self, rate: Option<u64>) -> anyhow::Result<HubServer> {
        let hub = HubBuilder::new().repo(self.repo.clone());
        rate.into_iter().fold(hub, HubBuilder::rate).start()
    }

    /// A market with a bootstrap and so many nodes whose daemons run.
    fn market(&self, name: &str, address: &str, hub: &HubServer, nodes: usize) -> anyhow::Result<(Market, Vec<usize>)> {
        let mut market = self.workplace.market(name, address, hub.endpoint())?;
        market.start_bootstrap(Place::Loopback)?;
        let numbers = join(&mut market, nodes)?;
        Ok((market, numbers))
    }

    /// One cold node, then more that find it warm.
    fn warm(&mut self, served: &Served, nodes: usize) -> anyhow::Result<()> {
        let (mut market, first) = self.market("warm", ADDRESSES[0], served.hub, 1)?;
        let sent = self.scene("one cold node", served, &mut market, &first)?;
        self.screen.promise(sent == served.bytes, &format!("one cold node: each byte left the origin once ({})", megabytes(sent)));
        let more = join(&mut market, nodes)?;
        let sent = self.scene(&format!("{nodes} more that find it warm"), served, &mut market, &more)?;
        self.screen.promise(sent == 0, &format!("{nodes} more: no byte of content left the origin ({})", megabytes(sent)));
        Ok(())
    }

    /// Nodes of another market that all start cold together.
    fn cold(&mut self, served: &Served, nodes: usize) -> anyhow::Result<()> {
        let (mut market, numbers) = self.market("cold", ADDRESSES[1], served.hub, nodes)?;
        let title = format!("{nodes} fresh nodes, cold together");
        let sent = self.scene(&title, served, &mut market, &numbers)?;
        let ratio = sent as f64 / served.bytes as f64;
        self.screen.promise(ratio <= COLD_MOST, &format!("{title}: the origin sent {ratio:.2} of the bytes, at most {COLD_MOST}"));
        Ok(())
    }

    /// A node that is killed in the middle of a cold start, and comes back.
    fn killed(&mut self, fast: &Served) -> anyhow::Result<()> {
        let hub = self.hub(Some((fast.bytes / KILL_SECONDS).max(1)))?;
        let served = Served { hub: &hub, right: fast.right.clone(), bytes: fast.bytes };
        let (mut market, numbers) = self.market("killed", ADDRESSES[0], &hub, KILL_NODES)?;
        let victim = numbers[0];
        let mut race = market.line_up(&numbers, &job(self.name), "root", None)?;
        race.start()?;
        wait_for("the hub to send half of the bytes", LIMIT, || Ok((served.sent() >= served.bytes / 2).then_some(())))?;
        let name = market.nodes()[victim].name().to_owned();
        let middle = !race.look()?;
        market.nodes()[victim].kill();
        race.kill(&name);
        let others = race.finish(LIMIT)?;
        let title = format!("{KILL_NODES} cold nodes, one killed");
        let sent = served.sent();
        let ready = self.add(&title, &served, &others, sent)?;
        self.screen
            .promise(middle && ready, &format!("{title} in the middle: the others are ready, and the origin sent {}", megabytes(sent)));
        market.nodes()[victim].run(false)?;
        market.nodes()[victim].wait_until_ready()?;
        self.scene("the killed one, started again", &served, &mut market, &[victim])?;
        Ok(())
    }

    /// Has these nodes make the job ready together, adds a row, and gives what the origin sent.
    fn scene(&mut self, title: &str, served: &Served, market: &mut Market, numbers: &[usize]) -> anyhow::Result<u64> {
        let before = served.sent();
        let mut race = market.line_up(numbers, &job(self.name), "root", None)?;
        race.start()?;
        let prepared = race.finish(LIMIT)?;
        let sent = served.sent() - before;
        let ready = self.add(title, served, &prepared, sent)?;
        self.screen.promise(ready, &format!("{title}: ready"));
        Ok(sent)
    }

    /// Adds a row, compares what was laid, and says whether all are ready.
    fn add(&mut self, title: &str, served: &Served, prepared: &[Prepared], sent: u64) -> anyhow::Result<bool> {
        for one in prepared {
            self.checked += served.right.len();
            self.wrong.extend(one.wrong(&served.right)?.into_iter().map(|wrong| format!("{title}: {wrong}")));
            if !one.is_ready() {
                self.screen.say(&one.told);
            }
        }
        let peers = prepared.iter().map(|one| one.from("peers")).sum::<u64>() / prepared.len().max(1) as u64;
        let seconds = prepared.iter().map(|one| one.seconds);
        let (first, last) = (seconds.clone().fold(f64::INFINITY, f64::min), seconds.fold(0.0, f64::max));
        let ratio = sent as f64 / served.bytes.max(1) as f64;
        let numbers = [prepared.len().to_string(), megabytes(served.bytes), megabytes(sent), format!("{ratio:.2}"), megabytes(peers)];
        let times = [format!("{first:.2} s"), format!("{last:.2} s")];
        self.rows.push([title.to_owned()].into_iter().chain(numbers).chain(times).collect());
        Ok(prepared.iter().all(Prepared::is_ready))
    }

    fn finish(mut self) -> anyhow::Result<()> {
        self.screen.promise(self.wrong.is_empty(), &format!("{} files in targets have the sha256 of those at the origin", self.checked));
        for wrong in &self.wrong {
            self.screen.say(&format!("        another file: {wrong}"));
        }
        self.screen.say("");
        self.screen.table(&TITLES, &self.rows);
        verdict(&self.screen)
    }
}

/// Adds so many nodes, and waits until each of them has a peer.
fn join(market: &mut Market, nodes: usize) -> anyhow::Result<Vec<usize>> {
    let numbers = (0..nodes).map(|_| market.add(Place::Loopback)).collect::<anyhow::Result<Vec<usize>>>()?;
    market.run(&numbers)?;
    market.wait_until_connected(&numbers, 1)?;
    Ok(numbers)
}
