//! The jobs of a soak, from their submission until nothing is left of them, and what each may come to.

use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use anyhow::Context;
use larder_harness::market::Running;
use rustix::process::Signal;
use serde_json::{Value, json};

use super::Soak;
use super::account::Promise;
use super::plan::{NODES, PlannedJob, TRUSTED};
use super::secrets::files_below;

/// Seconds that a job may take, not counting those in which its origin fails or its node does nothing.
const DONE_WITHIN_S: f64 = 120.0;
/// Seconds between two looks at a job of the API.
const LOOK_EVERY_S: f64 = 0.2;
/// Seconds that what a job without a lease left is kept, before it is looked at for the last time: some of it may be under way.
const LEFT_S: f64 = 12.0;
/// The most jobs of one node.
const MOST: usize = 5;
/// What is said of a job that does not fit.
const FULL: &str = "within the store's quota";

/// A job.
#[derive(Debug)]
pub(super) struct Job {
    /// `soak-N`, as its lease is called, too.
    pub(super) name: String,
    pub(super) node: usize,
    pub(super) wants: PlannedJob,
    pub(super) root: PathBuf,
    state: State,
    begun_s: f64,
    look_s: f64,
    /// Seconds in which nothing kept it from getting on.
    clear_s: f64,
    stepped_s: f64,
    /// What happened while it was at work.
    met: Met,
    cancel_s: Option<f64>,
    /// The daemon was asked to cancel it here.
    cancelling: Option<UnixStream>,
    cancelled: bool,
}

#[derive(Debug)]
enum State {
    /// A job of the API, and its id there.
    Submitted(String),
    /// A command.
    Runs(Running),
    /// Ready, until its lease is released.
    Held { lease: String, until_s: f64 },
    /// It has no lease; what it left is looked at once more.
    Left { until_s: f64 },
    /// Nothing is left.
    Gone,
}

#[derive(Debug, Default, Clone, Copy)]
struct Met {
    failing_origin: bool,
    frozen: bool,
}

/// How a job ended.
enum End {
    Ready(Value),
    Failed(String),
    Cancelled,
    /// Its daemon was stopped.
    Interrupted,
}

impl Job {
    fn is_at_work(&self) -> bool {
        matches!(self.state, State::Submitted(_) | State::Runs(_))
    }

    /// Whether its lease may be there.
    pub(super) fn may_hold(&self) -> bool {
        self.is_at_work() || matches!(self.state, State::Held { .. })
    }
}

impl Soak {
    /// Begins a job at its node, or at the next that runs; none if no such has room for one more.
    pub(super) fn begin_job(&mut self, wants: PlannedJob) -> anyhow::Result<()> {
        let may = |number: &usize| !wants.shows_token || TRUSTED.contains(number);
        let has_room = |number: &usize| self.jobs.iter().filter(|job| job.node == *number && job.may_hold()).count() < MOST;
        let candidates = (wants.node..wants.node + NODES).map(|number| number % NODES);
        let Some(number) = candidates.filter(may).find(|number| self.members[*number].is_up() && has_room(number)) else {
            self.account.count("jobs for which no node had room");
            return Ok(());
        };
        self.numbered += 1;
        let name = format!("soak-{}", self.numbered);
        let root = self.node(number)?.folder().join("roots").join(&name);
        let definition = self.goods.definition(&wants, &self.secrets);
        let state = if wants.command {
            let path = self.orders.join(format!("{name}.json"));
            std::fs::write(&path, definition.to_string()).with_context(|| path.display().to_string())?;
            let words = ["prepare", &path.display().to_string(), "--json", "--root", &root.display().to_string()].map(String::from);
            State::Runs(self.node(number)?.start(&words)?)
        } else {
            let body = json!({"definition": definition, "root": root, "name": name}).to_string();
            let Some((status, text)) = self.ask(number, "POST", "/v1/jobs", &body)? else { return Ok(()) };
            let answer: Value = serde_json::from_str(&text).unwrap_or_default();
            let Some(id) = answer["id"].as_str() else {
                self.broke(Promise::Jobs, &format!("{name} was answered with {status}: {text}"));
                return Ok(());
            };
            State::Submitted(id.to_owned())
        };
        self.did("jobs", &format!("{name} at node {number}: {wants:?}"));
        let begun_s = self.now_s();
        let cancel_s = wants.cancel_after_s.map(|after_s| begun_s + after_s);
        let (met, cancelling, cancelled) = (Met::default(), None, false);
        let (look_s, clear_s, stepped_s) = (begun_s, 0.0, begun_s);
        let node = number;
        self.jobs.push(Job { name, node, wants, root, state, begun_s, look_s, clear_s, stepped_s, met, cancel_s, cancelling, cancelled });
        Ok(())
    }

    /// Whether a command has, or may get hold of, the store of a node.
    pub(super) fn has_commands(&self, number: usize) -> bool {
        self.jobs.iter().any(|job| job.node == number && matches!(job.state, State::Runs(_)))
    }

    /// Whether a job of a node has anything of a repository.
    pub(super) fn uses(&self, number: usize, repository: usize) -> bool {
        self.jobs.iter().any(|job| job.node == number && job.wants.repository == repository)
    }

    /// The daemon of these jobs was stopped: it does not remember them.
    pub(super) fn interrupt_jobs(&mut self, number: usize) {
        let until_s = self.now_s() + LEFT_S;
        for job in self.jobs.iter_mut().filter(|job| job.node == number && matches!(job.state, State::Submitted(_))) {
            job.state = State::Left { until_s };
            self.account.count("jobs interrupted");
        }
    }

    /// Goes on with each job.
    pub(super) fn step_jobs(&mut self) -> anyhow::Result<()> {
        let (later, now): (Vec<_>, Vec<_>) = std::mem::take(&mut self.later).into_iter().partition(|job| !self.members[job.node].is_up());
        self.later = later;
        now.into_iter().try_for_each(|job| self.begin_job(job))?;
        // Whatever a job does, it is not among the others meanwhile.
        for index in (0..self.jobs.len()).rev() {
            let mut job = self.jobs.swap_remove(index);
            self.step_job(&mut job)?;
            if !matches!(job.state, State::Gone) {
                self.jobs.push(job);
            }
        }
        Ok(())
    }

    fn step_job(&mut self, job: &mut Job) -> anyhow::Result<()> {
        let now_s = self.now_s();
        if job.is_at_work() {
            self.watch_over(job, now_s)?;
        }
        let end = match &mut job.state {
            State::Submitted(id) if self.members[job.node].is_up() && now_s >= job.look_s => {
                job.look_s = now_s + LOOK_EVERY_S;
                let path = format!("/v1/jobs/{id}");
                self.ask(job.node, "GET", &path, "")?.and_then(|(status, text)| end_of_answer(status, &text))
            }
            State::Runs(command) => command.ended()?.map(|_| end_of_command(command, job.cancelled)),
            State::Held { lease, until_s } if now_s >= *until_s && self.members[job.node].is_up() => {
                let lease = lease.clone();
                return self.release(job, &lease);
            }
            State::Left { until_s } if now_s >= *until_s => return self.clear_away(job),
            State::Submitted(_) | State::Held { .. } | State::Left { .. } | State::Gone => None,
        };
        end.map_or(Ok(()), |end| self.end_job(job, end))
    }

    /// Counts its time, and cancels it when that is due.
    fn watch_over(&mut self, job: &mut Job, now_s: f64) -> anyhow::Result<()> {
        let (fails, member) = (self.trouble.origin_fails(), &self.members[job.node]);
        job.met.failing_origin |= fails;
        job.met.frozen |= member.is_frozen();
        if !fails && !member.is_frozen() {
            job.clear_s += now_s - job.stepped_s;
        }
        job.stepped_s = now_s;
        if job.clear_s > DONE_WITHIN_S && !job.cancelled {
            self.broke(Promise::Jobs, &format!("{} is not done after {:.0} s: {job:?}", job.name, now_s - job.begun_s));
            job.cancel_s = Some(now_s);
        }
        if job.cancelled || job.cancel_s.is_none_or(|at_s| now_s < at_s) || self.members[job.node].is_frozen() {
            return Ok(());
        }
        match &mut job.state {
            State::Submitted(id) if self.members[job.node].is_up() => {
                let path = format!("/v1/jobs/{id}");
                job.cancelling = self.node(job.node)?.send("DELETE", &path, "").ok();
            }
            State::Runs(command) => command.signal(if job.begun_s.fract() < 0.5 { Signal::TERM } else { Signal::KILL }),
            State::Submitted(_) | State::Held { .. } | State::Left { .. } | State::Gone => return Ok(()),
        }
        job.cancelled = true;
        Ok(())
    }

    fn end_job(&mut self, job: &mut Job, end: End) -> anyhow::Result<()> {
        let (now_s, guarded) = (self.now_s(), self.goods.repositories[job.wants.repository].guarded);
        let is_ready = matches!(end, End::Ready(_));
        let wrong = self.goods.wrong(job.wants.repository, &job.root, is_ready)?;
        if !wrong.is_empty() {
            self.broke(
                Promise::Content,
                &format!("{} at node {}, ready {is_ready}: {wrong:?} in {}", job.name, job.node, job.root.display()),
            );
        }
        job.state = State::Left { until_s: now_s + LEFT_S };
        match end {
            End::Ready(report) => {
                if guarded && !job.wants.shows_token {
                    self.broke(Promise::Secrets, &format!("{} got what only the token opens: {job:?}", job.name));
                }
                let from = |source: &str| report["totals"]["from"][source].as_u64().unwrap_or(0);
                if guarded && from("peers") > 0 {
                    self.broke(Promise::Secrets, &format!("{} got guarded bytes from peers: {report}", job.name));
                }
                for source in ["cache", "peers", "origin"] {
                    self.account.add(&format!("bytes from {source}"), from(source));
                }
                self.account.count("jobs ready");
                let lease = report["lease"].as_str().unwrap_or_default().to_owned();
                job.state = State::Held { lease, until_s: now_s + job.wants.hold_s };
            }
            End::Cancelled => self.account.count("jobs cancelled"),
            End::Interrupted => self.account.count("jobs interrupted"),
            End::Failed(message) => self.judge_failure(job, &message)?,
        }
        Ok(())
    }

    /// Counts a failure, if there was a reason for it.
    fn judge_failure(&mut self, job: &Job, message: &str) -> anyhow::Result<()> {
        let is_denied = self.goods.repositories[job.wants.repository].guarded && !job.wants.shows_token;
        if self.secrets.token_in(message.as_bytes()) {
            self.broke(Promise::Secrets, &format!("{} failed with the token in its words", job.name));
        }
        if is_denied {
            self.account.count("jobs denied");
        } else if message.contains(FULL) && self.wanted_bytes(job) > self.goods.quota_bytes {
            self.account.count("jobs that did not fit");
        } else if job.met.failing_origin && !message.contains(FULL) {
            self.account.count("jobs failed with the origin");
        } else if job.met.frozen && job.wants.command {
            self.account.count("commands that gave up a frozen daemon");
        } else {
            let holds = if self.members[job.node].is_up() { self.ask(job.node, "GET", "/v1/resources", "")? } else { None };
            let holds = holds.map_or_else(|| "unknown".to_owned(), |(_, text)| text);
            self.broke(Promise::Jobs, &format!("{} at node {} failed: {message}: {job:?}; the store holds {holds}", job.name, job.node));
        }
        Ok(())
    }

    /// The most that the store of a node may have to hold for its jobs, those of a moment ago with them: each that is at work has room kept for
    /// what it found missing.
    fn wanted_bytes(&self, job: &Job) -> u64 {
        let bytes = |repository: usize| self.goods.repositories[repository].bytes;
        let (at_work, others): (Vec<&Job>, Vec<&Job>) =
            self.jobs.iter().filter(|other| other.node == job.node).partition(|other| other.is_at_work());
        let others: std::collections::BTreeSet<usize> = others.into_iter().map(|other| other.wants.repository).collect();
        let working = at_work.into_iter().map(|other| other.wants.repository).chain([job.wants.repository]);
        others.into_iter().chain(working).map(bytes).sum()
    }

    /// Gives up its lease: what was right until now goes.
    fn release(&mut self, job: &mut Job, lease: &str) -> anyhow::Result<()> {
        let wrong = self.goods.wrong(job.wants.repository, &job.root, true)?;
        if !wrong.is_empty() {
            self.broke(Promise::Content, &format!("{} at node {}, leased: {wrong:?} in {}", job.name, job.node, job.root.display()));
        }
        match self.ask(job.node, "POST", &format!("/v1/leases/{lease}/release"), "")? {
            Some((200, _)) => {}
            other => self.broke(Promise::Jobs, &format!("the lease of {} cannot be released: {other:?}", job.name)),
        }
        let left = files_below(&job.root)?;
        if !left.is_empty() {
            self.broke(Promise::Jobs, &format!("what was laid for {} stays when it is released: {left:?}", job.name));
        }
        self.account.count("leases released");
        self.remove(job);
        Ok(())
    }

    fn clear_away(&mut self, job: &mut Job) -> anyhow::Result<()> {
        let wrong = self.goods.wrong(job.wants.repository, &job.root, false)?;
        if !wrong.is_empty() {
            self.broke(Promise::Content, &format!("{} left torn files: {wrong:?} in {}", job.name, job.root.display()));
        }
        self.remove(job);
        Ok(())
    }

    fn remove(&self, job: &mut Job) {
        // What is not there need not be removed.
        let _ = std::fs::remove_dir_all(&job.root);
        let _ = std::fs::remove_file(self.orders.join(format!("{}.json", job.name)));
        job.state = State::Gone;
    }
}

fn end_of_answer(status: u16, text: &str) -> Option<End> {
    let answer: Value = serde_json::from_str(text).unwrap_or_default();
    match answer["state"].as_str() {
        Some("queued" | "running") => None,
        Some("ready") => Some(End::Ready(answer["report"].clone())),
        Some("cancelled") => Some(End::Cancelled),
        Some("failed") => {
            let message = answer["error"].as_str().unwrap_or_default();
            Some(if message.starts_with("the node has ended") { End::Interrupted } else { End::Failed(message.to_owned()) })
        }
        _ => Some(End::Failed(format!("{status}: {text}"))),
    }
}

fn end_of_command(command: &Running, cancelled: bool) -> End {
    let report: Value = serde_json::from_str(&command.stdout()).unwrap_or_default();
    match report["state"].as_str() {
        Some("ready") => End::Ready(report),
        _ if cancelled => End::Cancelled,
        Some("failed") => End::Failed(report["error"].as_str().unwrap_or_default().to_owned()),
        _ => End::Failed(format!("no report: {}", command.told())),
    }
}
