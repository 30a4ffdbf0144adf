//! The daemons of a soak: stopped, frozen, started again, and asked for a sign of life every second.
//!
//! | state | how it is left |
//! |---|---|
//! | starting | it says that it is ready: up |
//! | up | it is frozen, killed or told to end |
//! | frozen | its time is over: up |
//! | ending | it has ended: down |
//! | down | its time is over and no command has its store: starting |

use std::time::Duration;

use rustix::process::Signal;

use super::Soak;
use super::account::Promise;
use super::growth::Line;
use super::plan::{Harm, NODES, Stop};

/// Seconds that a daemon may take to be ready, and to end.
const READY_WITHIN_S: f64 = 60.0;
const END_WITHIN_S: f64 = 8.0;
/// How long a daemon may take for a sign of life, and how often it is asked for one.
const ANSWERS_WITHIN: Duration = Duration::from_secs(1);
const ASK_EVERY_S: f64 = 1.0;
/// Seconds that a daemon which was frozen is not asked.
const THAWING_S: f64 = 2.0;

/// What a daemon does.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum State {
    /// It was started.
    Starting {
        /// When.
        since_s: f64,
    },
    /// It is ready.
    Up,
    /// It does nothing.
    Frozen {
        /// Until when.
        until_s: f64,
    },
    /// It was told to end.
    Ending {
        /// When.
        since_s: f64,
    },
    /// It does not run.
    Down,
}

/// A daemon.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) state: State,
    /// When it is to be started again.
    back_s: f64,
    /// What is done to its store before.
    harm: Harm,
    restarts: u32,
    ask_s: f64,
    /// Where its samples are.
    pub(super) line: usize,
}

impl Member {
    pub(super) fn running() -> Self {
        Self { state: State::Up, back_s: 0.0, harm: Harm::None, restarts: 0, ask_s: 0.0, line: 0 }
    }

    pub(super) fn is_up(&self) -> bool {
        self.state == State::Up
    }

    pub(super) fn is_frozen(&self) -> bool {
        matches!(self.state, State::Frozen { .. })
    }
}

impl Soak {
    pub(super) fn stop(&mut self, number: usize, how: Stop, harm: Harm, away_s: f64) -> anyhow::Result<()> {
        if !self.members[number].is_up() {
            return Ok(());
        }
        let (now_s, name) = (self.now_s(), self.name(number));
        let member = &mut self.members[number];
        (member.back_s, member.harm) = (now_s + away_s, harm);
        match how {
            Stop::Killed => {
                member.state = State::Down;
                self.node(number)?.kill();
                self.did("daemons killed", &name);
            }
            Stop::Ended => {
                member.state = State::Ending { since_s: now_s };
                self.node(number)?.daemon().into_iter().for_each(|daemon| daemon.signal(Signal::TERM));
                self.did("daemons told to end", &name);
            }
        }
        self.interrupt_jobs(number);
        Ok(())
    }

    pub(super) fn freeze(&mut self, number: usize, for_s: f64) -> anyhow::Result<()> {
        if self.members[number].is_up() {
            self.members[number].state = State::Frozen { until_s: self.now_s() + for_s };
            self.node(number)?.daemon().into_iter().for_each(|daemon| daemon.signal(Signal::STOP));
            let name = self.name(number);
            self.did("daemons frozen", &format!("{name} for {for_s:.1} s"));
        }
        Ok(())
    }

    /// Goes on with each daemon.
    pub(super) fn step_members(&mut self) -> anyhow::Result<()> {
        for number in 0..NODES {
            let now_s = self.now_s();
            match self.members[number].state {
                State::Starting { since_s } => self.wait_until_ready(number, now_s - since_s)?,
                State::Up => self.look_after(number, now_s)?,
                State::Frozen { until_s } if now_s >= until_s => {
                    self.node(number)?.daemon().into_iter().for_each(|daemon| daemon.signal(Signal::CONT));
                    (self.members[number].state, self.members[number].ask_s) = (State::Up, now_s + THAWING_S);
                }
                State::Ending { since_s } => self.wait_for_the_end(number, now_s - since_s)?,
                State::Down if now_s >= self.members[number].back_s && !self.has_commands(number) => self.start(number)?,
                State::Frozen { .. } | State::Down => {}
            }
        }
        Ok(())
    }

    /// Brings all back at once.
    pub(super) fn bring_back(&mut self) {
        for member in &mut self.members {
            member.back_s = 0.0;
            if member.is_frozen() {
                member.state = State::Frozen { until_s: 0.0 };
            }
        }
    }

    /// Begins the samples of a process that has just been started.
    pub(super) fn begin_line(&mut self, number: usize) -> anyhow::Result<()> {
        let node = self.node(number)?.name().to_owned();
        self.account.lines.push(Line { node, restarts: self.members[number].restarts, samples: Vec::new() });
        self.members[number].line = self.account.lines.len() - 1;
        Ok(())
    }

    fn start(&mut self, number: usize) -> anyhow::Result<()> {
        match std::mem::replace(&mut self.members[number].harm, Harm::None) {
            Harm::None => {}
            Harm::Index => {
                let index = self.node(number)?.home().join("index");
                std::fs::remove_dir_all(&index)?;
                self.did("indexes removed", &index.display().to_string());
            }
            Harm::Flip => self.flip(number)?,
        }
        self.node(number)?.run(number == 0)?;
        let name = self.name(number);
        self.did("restarts", &name);
        self.members[number].restarts += 1;
        self.members[number].state = State::Starting { since_s: self.now_s() };
        self.begin_line(number)
    }

    fn wait_until_ready(&mut self, number: usize, waited_s: f64) -> anyhow::Result<()> {
        match self.node(number)?.is_ready() {
            Ok(true) => {
                self.members[number].state = State::Up;
                self.members[number].ask_s = 0.0;
            }
            Ok(false) if waited_s > READY_WITHIN_S => self.lost(number, "is not ready in time")?,
            Ok(false) => {}
            Err(error) => self.lost(number, &format!("{error:#}"))?,
        }
        Ok(())
    }

    fn wait_for_the_end(&mut self, number: usize, waited_s: f64) -> anyhow::Result<()> {
        let Some(daemon) = self.node(number)?.daemon() else { return Ok(()) };
        match daemon.ended()? {
            Some(status) if status.success() => self.members[number].state = State::Down,
            Some(status) => self.lost(number, &format!("was told to end, and ended with {status}"))?,
            None if waited_s > END_WITHIN_S => self.lost(number, &format!("was told to end, and did not within {END_WITHIN_S} s"))?,
            None => {}
        }
        Ok(())
    }

    /// Looks whether a daemon that is up runs and, every second, whether it answers; then nothing is held for jobs that are gone.
    fn look_after(&mut self, number: usize, now_s: f64) -> anyhow::Result<()> {
        let node = self.node(number)?;
        if !node.daemon().is_some_and(|daemon| daemon.is_running()) {
            return self.lost(number, "ended by itself");
        }
        if now_s < self.members[number].ask_s {
            return Ok(());
        }
        self.members[number].ask_s = now_s + ASK_EVERY_S;
        let node = self.node(number)?;
        let (name, answer) = (node.name().to_owned(), node.ask("GET", "/healthz", "", ANSWERS_WITHIN));
        match answer {
            Ok((200, _)) => {}
            Ok((status, text)) => self.broke(Promise::Daemons, &format!("{name} answers /healthz with {status}: {text}")),
            Err(error) => self.broke(Promise::Daemons, &format!("/healthz within a second: {error:#}")),
        }
        self.release_strays(number)
    }

    /// A daemon broke its promise; it is killed and comes back.
    fn lost(&mut self, number: usize, how: &str) -> anyhow::Result<()> {
        let node = self.node(number)?;
        let what = format!("{} {how}: {}", node.name(), node.told());
        node.kill();
        self.broke(Promise::Daemons, &what);
        (self.members[number].state, self.members[number].back_s) = (State::Down, self.now_s() + 1.0);
        self.interrupt_jobs(number);
        Ok(())
    }
}
