//! Plays a scenario with real processes, on loopback or behind lines of limited rates, and tells what came of it.

mod account;
mod stage;
mod watch;

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use larder_harness::faults::{Fault, Rule};
use larder_harness::market::{Order, Processor, Race, pass};
use larder_harness::report::Report;
use larder_harness::scenario::{Halt, OriginFaultKind, Patience, Plan, Scenario, Way};
use rustix::process::Signal;

use crate::workplace::Workplace;
use account::Account;
use stage::Stage;
use watch::Watch;

/// How often it is looked at what is due.
const TICK: Duration = Duration::from_millis(5);
/// How often all nodes are asked what they have got: more often shows more, and takes of the processor that they need.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// What the origin may still send after the last node is ready: reads that end when they are cancelled.
const AFTERWARDS: Duration = Duration::from_millis(500);
/// The most nodes that one machine runs at once.
const MOST_NODES: usize = 64;

/// Plays `scenario` in the way of real processes.
///
/// # Errors
/// Fails if this way does not fit the scenario, or a node does not get ready. Broken limits are told in the report.
pub(crate) fn play(scenario: &Scenario, way: Way, workplace: &Workplace, say: &mut dyn FnMut(&str)) -> anyhow::Result<Report> {
    let plan = scenario.plan();
    check(scenario, &plan, way)?;
    let mut stage = Stage::new(scenario, &plan, way, workplace)?;
    say(&format!("{}: {} nodes, {}; they get ready", scenario.name, plan.nodes.len(), way));
    stage.get_ready()?;
    let right = stage.right()?;
    let mut act = Act::new(scenario, &plan, &mut stage)?;
    let begun = Instant::now();
    act.run(begun, scenario.give_up_s)?;
    let played_s = begun.elapsed().as_secs_f64();
    let processor = Processor::now()?.busy_since(&act.processor);
    pass(AFTERWARDS)?;
    let Act { race, watch, left, traffic, .. } = act;
    let watch = watch.finish(&mut stage, &left, played_s);
    let prepared = race.close()?;
    let account = Account { scenario, plan: &plan, way, played_s, processor, left: &left };
    let mut report = account.report(&mut stage, &prepared, &watch, &traffic)?;
    for (one, job) in prepared.iter().zip(&plan.jobs) {
        if one.is_ready() {
            report.corrupt += one.wrong(&right[&job.resources])?.len() as u64;
        } else if left[job.node].is_none() {
            say(&one.told);
        }
    }
    report.judge(&scenario.limits);
    Ok(report)
}

fn check(scenario: &Scenario, plan: &Plan, way: Way) -> anyhow::Result<()> {
    ensure!(plan.nodes.len() <= MOST_NODES, "{} nodes are too many for one machine: {MOST_NODES} at most, or simulated", plan.nodes.len());
    ensure!(scenario.arrivals.expiry_h.is_none(), "arrivals.expiry_h: hours pass only where they are simulated");
    let lined = plan.nodes.iter().any(|node| node.downlink.is_some() || !node.reachable);
    ensure!(way == Way::Namespaces || !lined, "downlinks, and nodes that cannot be reached, take namespaces or are simulated");
    Ok(())
}

/// Something that happens in the middle.
#[derive(Debug, Clone, Copy)]
enum Due {
    /// A job comes.
    Job(usize),
    /// A node leaves, its commands with it.
    Leave(usize, Halt),
    /// Something begins to be wrong with the origin, or is right again.
    Fault(OriginFaultKind, bool),
}

/// A scenario that is being played.
struct Act<'a> {
    plan: &'a Plan,
    stage: &'a mut Stage,
    race: Race,
    /// What is still to happen, the next last.
    due: Vec<(f64, Due)>,
    watch: Watch,
    /// When each node left.
    left: Vec<Option<f64>>,
    processor: Processor,
    traffic: Vec<larder_harness::market::Traffic>,
}

impl<'a> Act<'a> {
    fn new(scenario: &Scenario, plan: &'a Plan, stage: &'a mut Stage) -> anyhow::Result<Self> {
        let order = |(number, job): (usize, &larder_harness::scenario::PlannedJob)| Order {
            node: job.node,
            definition: stage.job(&job.resources),
            root: format!("job-{number}"),
        };
        let orders: Vec<Order> = plan.jobs.iter().enumerate().map(order).collect();
        let patience = scenario.patience.map(Patience::spelled);
        let race = stage.market.line_up_each(&orders, patience.as_deref())?;
        let jobs = plan.jobs.iter().enumerate().map(|(number, job)| (job.at_s, Due::Job(number)));
        let leaving =
            plan.nodes.iter().enumerate().filter_map(|(number, node)| node.leaves.map(|(at_s, how)| (at_s, Due::Leave(number, how))));
        let faults = scenario.origin.faults.iter();
        let faults = faults.flat_map(|fault| [(fault.from_s, Due::Fault(fault.kind, true)), (fault.to_s, Due::Fault(fault.kind, false))]);
        let mut due: Vec<(f64, Due)> = jobs.chain(leaving).chain(faults).collect();
        due.sort_by(|a, b| b.0.total_cmp(&a.0));
        stage.hub.counts().reset();
        let watch = Watch::new(stage, plan.nodes.len());
        let (traffic, processor) = (stage.traffic()?, Processor::now()?);
        Ok(Self { plan, race, due, watch, left: vec![None; plan.nodes.len()], processor, traffic, stage })
    }

    fn run(&mut self, begun: Instant, give_up_s: f64) -> anyhow::Result<()> {
        let mut looked = begun;
        loop {
            let now_s = begun.elapsed().as_secs_f64();
            while let Some((_, due)) = self.due.pop_if(|(at_s, _)| *at_s <= now_s) {
                self.happen(due, now_s)?;
            }
            let arrived = !self.due.iter().any(|(_, due)| matches!(due, Due::Job(_)));
            if self.race.look()? && arrived || now_s > give_up_s {
                return Ok(());
            }
            if looked.elapsed() >= LOOK_EVERY {
                looked = Instant::now();
                self.watch.look(self.stage, &self.left, now_s);
            }
            pass(TICK)?;
        }
    }

    fn happen(&mut self, due: Due, now_s: f64) -> anyhow::Result<()> {
        match due {
            Due::Job(job) if self.left[self.plan.jobs[job].node].is_some() => self.race.stop(job),
            Due::Job(job) => self.race.let_go(job).context("a command did not wait for its start")?,
            Due::Leave(node, how) => {
                self.watch.look(self.stage, &self.left, now_s);
                self.left[node] = Some(now_s);
                match how {
                    Halt::Killed => self.stage.market.nodes()[node].kill(),
                    Halt::Frozen => self.stage.market.nodes()[node].daemon().into_iter().for_each(|daemon| daemon.signal(Signal::STOP)),
                }
                let its = self.plan.jobs.iter().enumerate().filter(|(_, job)| job.node == node && job.at_s <= now_s);
                its.for_each(|(job, _)| self.race.stop(job));
            }
            Due::Fault(OriginFaultKind::Down, on) => self.stage.hub.faults().set_down(on),
            Due::Fault(OriginFaultKind::Busy, true) => {
                self.stage.hub.faults().set(Rule::new("*", Fault::Status { code: 503, retry_after: None }));
            }
            Due::Fault(OriginFaultKind::Busy, false) => self.stage.hub.faults().clear(),
        }
        Ok(())
    }
}
