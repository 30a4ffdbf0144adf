//! A soak: a market with churn, faults, liars and eviction for some minutes, in which every promise is checked all along.
//!
//! What happens is planned from a seed ([`plan`]); what comes of it depends on the machine's time, too.

mod account;
mod goods;
mod growth;
mod jobs;
mod members;
mod plan;
mod secrets;
mod trouble;
mod watch;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use clap::Args;
use larder_harness::market::{ADDRESSES, Market, Node, Place, pass};
use larder_harness::report::Screen;

use crate::workplace::{Workplace, WorkplaceArguments, verdict};
use account::{Account, Promise};
use goods::Goods;
use jobs::Job;
use members::Member;
use plan::{Event, NODES, PlannedJob, plan};
use secrets::Secrets;
use trouble::Trouble;
use watch::Watch;

/// How often it is looked at what is due.
const TICK: Duration = Duration::from_millis(20);
/// How long a daemon may take to answer what is more than a sign of life.
const TOLD_WITHIN: Duration = Duration::from_secs(10);
/// Seconds that all may take to come to an end when nothing is wrong any more.
const CALM_S: f64 = 180.0;

#[derive(Debug, Args)]
pub(crate) struct SoakArguments {
    /// How many minutes something happens; coming to an end takes some more seconds.
    #[arg(long, default_value_t = 5.0)]
    minutes: f64,
    /// The seed of what happens [default: one of chance, which is told].
    #[arg(long)]
    seed: Option<u64>,
    /// Writes what came of it to a file, as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    #[command(flatten)]
    workplace: WorkplaceArguments,
}

/// Plays it. Fails if a promise was broken; stores and logs are kept then.
pub(crate) fn run(arguments: &SoakArguments) -> anyhow::Result<()> {
    ensure!(arguments.minutes > 0.0, "there must be a moment to soak");
    let (mut screen, workplace) = (Screen::new(), Workplace::new(&arguments.workplace)?);
    let seed = arguments.seed.unwrap_or_else(|| fastrand::u64(..1_000_000));
    screen.say(&format!("soak of {} minutes, seed {seed}: {NODES} daemons get ready", arguments.minutes));
    let mut soak = Soak::new(&workplace, seed)?;
    let played = soak.play(arguments.minutes * 60.0);
    let account = soak.finish();
    account.show(&mut screen);
    if played.is_err() || !account.is_clean() {
        account.write(&workplace.folder()?.join("soak.json"))?;
        workplace.keep();
    }
    arguments.json.as_deref().map_or(Ok(()), |file| account.write(file))?;
    played.with_context(|| format!("seed {seed}"))?;
    verdict(&screen).with_context(|| format!("seed {seed}"))
}

/// A soak that is under way.
struct Soak {
    begun: Instant,
    /// Where definitions of jobs are written: the one place where the token may lie.
    orders: PathBuf,
    secrets: Secrets,
    goods: Goods,
    trouble: Trouble,
    jobs: Vec<Job>,
    /// How many jobs there were.
    numbered: u32,
    /// Jobs that come as soon as their nodes run.
    later: Vec<PlannedJob>,
    members: Vec<Member>,
    market: Market,
    watch: Watch,
    account: Account,
}

impl Soak {
    /// Starts the hub and all daemons, and waits until they are connected.
    fn new(workplace: &Workplace, seed: u64) -> anyhow::Result<Self> {
        let secrets = Secrets::new(seed);
        let goods = Goods::new(&secrets)?;
        let market = workplace.market("soak", ADDRESSES[0], goods.hub.endpoint())?;
        let quota = goods.quota_bytes.to_string();
        let mut market = market.with("LARDER_STORE_QUOTA_BYTES", &quota).with("LARDER_STORE_KEEP_HOURS", "0");
        market = market.with("LARDER_STORE_LEASE_HOURS", "1").with("LARDER_ORIGIN_STALL_MS", "5000");
        market.start_bootstrap(Place::Loopback)?;
        let numbers: Vec<usize> = (1..NODES).map(|_| market.add(Place::Loopback)).collect::<anyhow::Result<_>>()?;
        market.run(&numbers)?;
        market.wait_until_connected(&numbers, 1)?;
        let orders = workplace.folder()?.join("orders");
        std::fs::create_dir(&orders).with_context(|| orders.display().to_string())?;
        let mut soak = Self {
            begun: Instant::now(),
            orders,
            trouble: Trouble::new(seed),
            secrets,
            goods,
            jobs: Vec::new(),
            numbered: 0,
            later: Vec::new(),
            members: (0..NODES).map(|_| Member::running()).collect(),
            market,
            watch: Watch::default(),
            account: Account::new(seed),
        };
        (0..NODES).try_for_each(|number| soak.begin_line(number))?;
        Ok(soak)
    }

    /// Lets it all happen, waits until all is well again, and looks at everything once more.
    fn play(&mut self, seconds: f64) -> anyhow::Result<()> {
        self.account.seconds = seconds;
        let mut events = plan(self.account.seed, seconds).into_iter().peekable();
        while self.now_s() < seconds {
            while let Some((_, event)) = events.next_if(|(at_s, _)| *at_s <= self.now_s()) {
                self.happen(event)?;
            }
            self.tick()?;
            self.sample_if_due()?;
        }
        self.account.judge_growth();
        self.calm_down()?;
        self.last_look()
    }

    fn calm_down(&mut self) -> anyhow::Result<()> {
        Screen::new().say("nothing new comes; all comes to an end");
        self.end_trouble();
        let until_s = self.now_s() + CALM_S;
        while !self.jobs.is_empty() || !self.later.is_empty() || !self.members.iter().all(Member::is_up) {
            self.tick()?;
            ensure!(self.now_s() < until_s, "{} jobs are left {CALM_S} s after the last fault: {:?}", self.jobs.len(), self.jobs);
        }
        Ok(())
    }

    fn tick(&mut self) -> anyhow::Result<()> {
        self.step_trouble()?;
        self.step_members()?;
        self.step_jobs()?;
        pass(TICK)
    }

    fn happen(&mut self, event: Event) -> anyhow::Result<()> {
        match event {
            Event::Job(job) => self.begin_job(job),
            Event::Stop { node, how, harm, away_s } => self.stop(node, how, harm, away_s),
            Event::Freeze { node, for_s } => self.freeze(node, for_s),
            Event::Origin { failing, for_s } => {
                self.fail_origin(failing, for_s);
                Ok(())
            }
            Event::Liar { kind, for_s } => self.let_in(kind, for_s),
            Event::Flip { node } => self.flip(node),
        }
    }

    /// What came of it. The nodes end.
    fn finish(self) -> Account {
        self.account
    }

    fn now_s(&self) -> f64 {
        self.begun.elapsed().as_secs_f64()
    }

    fn node(&mut self, number: usize) -> anyhow::Result<&mut Node> {
        self.market.everyone().nth(number).with_context(|| format!("there is no node {number}"))
    }

    fn broke(&mut self, promise: Promise, what: &str) {
        let at_s = self.now_s();
        self.account.broke(at_s, promise, what);
    }

    /// Remembers something that was done.
    fn did(&mut self, what: &str, to: &str) {
        let at_s = self.now_s();
        self.account.did(at_s, what, to);
    }

    fn name(&mut self, number: usize) -> String {
        self.node(number).map(|node| node.name().to_owned()).unwrap_or_default()
    }

    /// Asks a daemon; nothing that it answers may hold the token. `None` if it does not answer, which is a broken promise.
    fn ask(&mut self, number: usize, method: &str, path: &str, body: &str) -> anyhow::Result<Option<(u16, String)>> {
        let node = self.node(number)?;
        let (name, answer) = (node.name().to_owned(), node.ask(method, path, body, TOLD_WITHIN));
        match answer {
            Ok((status, text)) => {
                if self.secrets.token_in(text.as_bytes()) {
                    self.broke(Promise::Secrets, &format!("{name} answers {method} {path} with the token"));
                }
                Ok(Some((status, text)))
            }
            Err(error) => {
                self.broke(Promise::Daemons, &format!("{name}: {error:#}"));
                Ok(None)
            }
        }
    }
}
