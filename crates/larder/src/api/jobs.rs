//! The jobs that were submitted to the API, from their submission until they are forgotten.
//!
//! | state | how it is left |
//! |---|---|
//! | queued | its task begins: running |
//! | running | it ends: ready or failed; it is cancelled; the node ends: failed, unless all its files are there |
//! | ready, failed, cancelled | never: it is forgotten when too many ended after it |
//!
//! Bounded: so many jobs at work, so many that ended, and so many bytes of their reports. What a cancelled job laid is released.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::SystemTime;

use larder_node::{Node, Progress, Report, ResourceProgress};
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::command::{NodeCommand, Order, Outcome, Telling, execute, seconds};

/// The most jobs that are at work at once.
pub(super) const MAX_ACTIVE: usize = 256;
/// The most jobs that are remembered after their end.
const MAX_ENDED: usize = 1000;
/// The most bytes of reports that are remembered.
const MAX_REPORT_BYTES: usize = 64 * 1024 * 1024;

/// Where a job stands.
#[derive(Debug, Clone)]
pub(super) enum State {
    Queued,
    Running,
    Ready(Arc<RawValue>),
    Failed(Arc<str>),
    Cancelled,
}

impl State {
    /// The name that it has in answers, events and metrics.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Ready(_) => "ready",
            Self::Failed(_) => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    pub(super) fn has_ended(&self) -> bool {
        match self {
            Self::Queued | Self::Running => false,
            Self::Ready(_) | Self::Failed(_) | Self::Cancelled => true,
        }
    }

    fn report_bytes(&self) -> usize {
        match self {
            Self::Ready(report) => report.get().len(),
            Self::Queued | Self::Running | Self::Failed(_) | Self::Cancelled => 0,
        }
    }

    fn failed(message: impl Into<String>) -> Self {
        Self::Failed(message.into().into())
    }
}

/// The names of all states, for whoever counts them.
pub(super) const STATES: [&str; 5] = ["queued", "running", "ready", "failed", "cancelled"];

/// One job.
pub(super) struct Job {
    id: String,
    name: String,
    created: SystemTime,
    ended: OnceLock<SystemTime>,
    progress: Progress,
    cancelled: CancellationToken,
    state: watch::Sender<State>,
}

/// What is told of a job. `progress` and `report` are left out of lists.
#[derive(Debug, Serialize)]
pub(super) struct JobView {
    id: String,
    name: String,
    state: &'static str,
    /// Seconds since 1970.
    created: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    ended: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    progress: Option<Vec<ResourceProgress>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    report: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

impl Job {
    fn new(id: String, name: String) -> Self {
        let (created, ended) = (SystemTime::now(), OnceLock::new());
        let state = watch::Sender::new(State::Queued);
        Self { id, name, created, ended, progress: Progress::default(), cancelled: CancellationToken::new(), state }
    }

    pub(super) fn id(&self) -> &str {
        &self.id
    }

    pub(super) fn state(&self) -> State {
        self.state.borrow().clone()
    }

    /// Hears of each new state.
    pub(super) fn watch(&self) -> watch::Receiver<State> {
        self.state.subscribe()
    }

    pub(super) fn progress(&self) -> Vec<ResourceProgress> {
        self.progress.snapshot()
    }

    /// All that is told of it.
    pub(super) fn view(&self) -> JobView {
        let mut view = self.summary();
        view.progress = Some(self.progress());
        if let State::Ready(report) = self.state() {
            view.report = Some((*report).to_owned());
        }
        view
    }

    /// What a list tells of it.
    pub(super) fn summary(&self) -> JobView {
        let state = self.state();
        let error = if let State::Failed(message) = &state { Some(message.to_string()) } else { None };
        JobView {
            id: self.id.clone(),
            name: self.name.clone(),
            state: state.name(),
            created: seconds(self.created),
            ended: self.ended.get().copied().map(seconds),
            progress: None,
            report: None,
            error,
        }
    }
}

/// All jobs that are known; cheap to clone.
#[derive(Clone)]
pub(crate) struct Jobs(Arc<Shared>);

struct Shared {
    node: Node,
    /// When the node ends, the jobs do.
    ending: CancellationToken,
    /// In the order of their submission.
    table: Mutex<VecDeque<Arc<Job>>>,
    active: watch::Sender<usize>,
}

impl Jobs {
    pub(crate) fn new(node: Node, ending: CancellationToken) -> Self {
        Self(Arc::new(Shared { node, ending, table: Mutex::default(), active: watch::Sender::new(0) }))
    }

    /// Begins a job; `None` if too many are at work.
    pub(super) fn submit(&self, name: String, order: Order) -> Option<Arc<Job>> {
        let job = Arc::new(Job::new(hex::encode(&larder_node::new_seed()[..8]), name));
        {
            let mut table = self.0.table();
            if *self.0.active.borrow() >= MAX_ACTIVE {
                return None;
            }
            self.0.active.send_modify(|active| *active += 1);
            table.push_back(job.clone());
        }
        let (shared, begun) = (self.0.clone(), job.clone());
        tokio::spawn(async move {
            let work = tokio::spawn(carry_out(shared.clone(), begun.clone(), order));
            let end = work.await.unwrap_or_else(|panic| State::failed(format!("a defect of Larder, please report it: {panic}")));
            shared.end(&begun, end);
        });
        Some(job)
    }

    pub(super) fn find(&self, id: &str) -> Option<Arc<Job>> {
        self.0.table().iter().find(|job| job.id == id).cloned()
    }

    /// All jobs, the last first.
    pub(super) fn all(&self) -> Vec<Arc<Job>> {
        self.0.table().iter().rev().cloned().collect()
    }

    /// Tells a job to end, and waits until it has; whether it was at work.
    pub(super) async fn cancel(&self, job: &Job) -> bool {
        if job.state().has_ended() {
            return false;
        }
        job.cancelled.cancel();
        let _ = job.watch().wait_for(State::has_ended).await;
        true
    }

    /// Waits until no job is at work.
    pub(crate) async fn settled(&self) {
        let _ = self.0.active.subscribe().wait_for(|active| *active == 0).await;
    }
}

impl Shared {
    fn table(&self) -> MutexGuard<'_, VecDeque<Arc<Job>>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end(&self, job: &Job, end: State) {
        let mut table = self.table();
        let _ = job.ended.set(SystemTime::now());
        job.state.send_replace(end);
        self.active.send_modify(|active| *active = active.saturating_sub(1));
        forget(&mut table, MAX_ENDED, MAX_REPORT_BYTES);
    }
}

/// Forgets the first jobs that ended, until no more are remembered than may be.
fn forget(table: &mut VecDeque<Arc<Job>>, most: usize, most_bytes: usize) {
    let ended = |job: &&Arc<Job>| job.state.borrow().has_ended();
    let mut count = table.iter().filter(ended).count();
    let mut bytes: usize = table.iter().map(|job| job.state.borrow().report_bytes()).sum();
    while count > most || (bytes > most_bytes && count > 1) {
        let Some(first) = table.iter().position(|job| ended(&job)) else { return };
        let Some(job) = table.remove(first) else { return };
        count -= 1;
        bytes -= job.state.borrow().report_bytes();
    }
}

/// Why a job is to end before it is done.
enum Stop {
    Cancelled,
    NodeEnds,
}

async fn carry_out(shared: Arc<Shared>, job: Arc<Job>, order: Order) -> State {
    job.state.send_replace(State::Running);
    let release = |lease: String| order.with(NodeCommand::Release { lease });
    let mut work = std::pin::pin!(execute(&shared.node, order.clone(), &job.progress));
    let stop = tokio::select! {
        biased;
        told = &mut work => return end_of(told).0,
        () = job.cancelled.cancelled() => Stop::Cancelled,
        () = shared.ending.cancelled() => Stop::NodeEnds,
    };
    // What is being laid belongs to a lease that only the end of the work tells of.
    let last = if job.progress.is_complete() { Some(end_of(work.await)) } else { None };
    match (stop, last) {
        (Stop::Cancelled, last) => {
            if let Some((_, Some(lease))) = last
                && let Telling::Failed { message, .. } = execute(&shared.node, release(lease), &Progress::default()).await
            {
                tracing::warn!(job = job.id, message, "what a cancelled job laid stays until its lease expires");
            }
            State::Cancelled
        }
        (Stop::NodeEnds, Some((end, _))) => end,
        (Stop::NodeEnds, None) => State::failed("the node has ended; what was fetched is kept, and the same job goes on from there"),
    }
}

/// The state that the last word of the work comes to, and the lease of a job that is ready.
fn end_of(told: Telling) -> (State, Option<String>) {
    let report = |report: &Report| match to_raw_value(report) {
        Ok(text) => (State::Ready(text.into()), Some(report.lease.clone())),
        Err(error) => (State::failed(error.to_string()), Some(report.lease.clone())),
    };
    match told {
        Telling::Done(outcome) => match *outcome {
            Outcome::Ready(ready) => report(&ready),
            Outcome::Status(_) | Outcome::Resources(_) | Outcome::Verified(_) | Outcome::Collected(_) | Outcome::Released(_) => {
                (State::failed("the job ended without a report"), None)
            }
        },
        Telling::Failed { message, .. } => (State::failed(message), None),
        Telling::Progress(_) => (State::failed("the job ended without a report"), None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(id: usize, state: State) -> Arc<Job> {
        let job = Job::new(id.to_string(), "job".into());
        job.state.send_replace(state);
        Arc::new(job)
    }

    fn ready(bytes: usize) -> State {
        State::Ready(to_raw_value(&"x".repeat(bytes - 2)).unwrap().into())
    }

    fn ids(table: &VecDeque<Arc<Job>>) -> Vec<&str> {
        table.iter().map(|job| job.id()).collect()
    }

    #[test]
    fn the_jobs_that_ended_first_are_forgotten_and_none_that_is_at_work() {
        let states = [State::Running, State::Cancelled, ready(10), State::Queued, State::failed("x"), ready(10)];
        let mut table: VecDeque<_> = states.into_iter().enumerate().map(|(id, state)| job(id, state)).collect();
        forget(&mut table, 4, 100);
        assert_eq!(ids(&table), ["0", "1", "2", "3", "4", "5"]);
        forget(&mut table, 3, 100);
        assert_eq!(ids(&table), ["0", "2", "3", "4", "5"]);
        forget(&mut table, 3, 19);
        assert_eq!(ids(&table), ["0", "3", "4", "5"]);
        // The last one stays, however long its report is.
        forget(&mut table, 3, 1);
        assert_eq!(ids(&table), ["0", "3", "5"]);
        forget(&mut table, 0, 1);
        assert_eq!(ids(&table), ["0", "3"]);
    }

    #[test]
    fn a_list_tells_neither_reports_nor_progress() {
        let job = job(7, ready(10));
        let keys = |view: &JobView| serde_json::to_value(view).unwrap().as_object().unwrap().keys().cloned().collect::<Vec<_>>().join(" ");
        assert_eq!(keys(&job.summary()), "created id name state");
        assert_eq!(keys(&job.view()), "created id name progress report state");
    }

    #[test]
    fn the_names_of_states_are_those_that_are_counted() {
        let states = [State::Queued, State::Running, ready(10), State::failed("x"), State::Cancelled];
        assert_eq!(states.map(|state| state.name()), STATES);
    }
}
