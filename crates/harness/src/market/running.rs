//! Processes of `larder`: started where they belong, ended by their ids when they are dropped.
//!
//! Each is told to end first and killed after; the kernel kills it if this process ends in any other way.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context;
use rustix::process::{Pid, Signal, kill_process};

use super::machine::{Memory, processor_seconds};
use super::node::Place;
use crate::process::spawn;

/// How long a process may take to end once it is told to.
const END_WITHIN: Duration = Duration::from_secs(6);
/// The lines of a log that an error shows.
const SHOWN_LINES: usize = 12;
/// Waits for a line on standard input, then becomes the program that its arguments name.
const GATE: &str = "read -r line; exec \"$@\"";

/// The `larder` of this build: beside this program, or in the folder above, where the programs of tests lie.
///
/// # Errors
/// Fails if it is not there.
pub fn binary() -> anyhow::Result<PathBuf> {
    let here = std::env::current_exe()?;
    let found = here.ancestors().skip(1).take(2).map(|folder| folder.join("larder")).find(|path| path.is_file());
    found.with_context(|| format!("there is no larder beside {}: build it first with `cargo build -p larder`", here.display()))
}

/// What is to be started.
pub(crate) struct Start<'a> {
    pub(crate) place: &'a Place,
    pub(crate) arguments: &'a [String],
    pub(crate) environment: &'a [(String, String)],
    /// Where it runs, and where its outputs go: `<name>.out` and `<name>.log`.
    pub(crate) folder: &'a Path,
    pub(crate) name: &'a str,
    /// Whether it waits until it is let go.
    pub(crate) gated: bool,
}

/// A process that runs, or has ended.
#[derive(Debug)]
pub struct Running {
    child: Child,
    what: String,
    out: PathBuf,
    log: PathBuf,
    gate: Option<ChildStdin>,
    ended: Option<ExitStatus>,
    peak_bytes: u64,
}

impl Running {
    pub(crate) fn start(start: &Start) -> anyhow::Result<Self> {
        let mut words: Vec<String> = Vec::new();
        if let Place::Host(host) = start.place {
            words.extend(["nsenter".into(), format!("--net={}", host.namespace_file().display())]);
        }
        words.extend(["setpriv", "--pdeathsig", "KILL"].map(String::from));
        if start.gated {
            words.extend(["sh", "-c", GATE, "sh"].map(String::from));
        }
        words.push(binary()?.display().to_string());
        words.extend_from_slice(start.arguments);
        let (out, log) = (start.folder.join(format!("{}.out", start.name)), start.folder.join(format!("{}.log", start.name)));
        let create = |path: &Path| File::create(path).with_context(|| path.display().to_string());
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).current_dir(start.folder).env_clear();
        command.envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
        command.envs(start.environment.iter().map(|(name, value)| (name, value)));
        command.stdin(if start.gated { Stdio::piped() } else { Stdio::null() }).stdout(create(&out)?).stderr(create(&log)?);
        let mut child = spawn(command).with_context(|| format!("{} cannot be started", words[0]))?;
        let what = format!("`larder {}` of {}", start.arguments.join(" "), start.folder.display());
        Ok(Self { gate: child.stdin.take(), child, what, out, log, ended: None, peak_bytes: 0 })
    }

    /// Lets a process go that was told to wait.
    pub(crate) fn let_go(&mut self) -> io::Result<()> {
        self.gate.take().map_or(Ok(()), |mut gate| gate.write_all(b"go\n"))
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// How it ended; `None` while it runs.
    ///
    /// # Errors
    /// Fails if the kernel does not tell.
    pub fn ended(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        if self.ended.is_none() {
            self.peak_bytes = self.peak_bytes.max(self.memory().peak);
            self.ended = self.child.try_wait()?;
        }
        Ok(self.ended)
    }

    /// Whether it has not ended yet.
    pub fn is_running(&mut self) -> bool {
        matches!(self.ended(), Ok(None))
    }

    /// The memory it has; nothing once it has ended.
    #[must_use]
    pub fn memory(&self) -> Memory {
        if self.ended.is_some() { Memory::default() } else { Memory::of(self.id()).unwrap_or_default() }
    }

    /// The most memory that it was seen to have, in bytes.
    pub fn peak_bytes(&mut self) -> u64 {
        let _ = self.ended();
        self.peak_bytes
    }

    /// The processor seconds that it has taken; nothing once it has ended.
    #[must_use]
    pub fn processor_seconds(&self) -> f64 {
        if self.ended.is_some() { 0.0 } else { processor_seconds(self.id()).unwrap_or(0.0) }
    }

    /// What it has written to standard output by now.
    #[must_use]
    pub fn stdout(&self) -> String {
        read(&self.out)
    }

    /// What it has written to standard error by now.
    #[must_use]
    pub fn stderr(&self) -> String {
        read(&self.log)
    }

    /// What it is and how its log ends, for errors.
    #[must_use]
    pub fn told(&self) -> String {
        format!("{}\n{}", self.what, end_of(&self.log))
    }

    /// Where its log is.
    pub(crate) fn log(&self) -> &Path {
        &self.log
    }

    /// Sends a signal, if it still runs.
    pub fn signal(&mut self, signal: Signal) {
        let id = i32::try_from(self.id()).ok().and_then(Pid::from_raw);
        if let (true, Some(id)) = (self.is_running(), id) {
            // It may end in this very moment.
            let _ = kill_process(id, signal);
        }
    }

    /// Kills it as `kill -9` does, and waits until it is gone.
    pub fn kill(&mut self) {
        if self.is_running() {
            let _ = self.child.kill();
            self.ended = self.child.wait().ok().or(self.ended);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        end_all(&mut [self]);
    }
}

/// Tells all to end at once, and kills those that have not within 6 s.
pub(crate) fn end_all(all: &mut [&mut Running]) {
    let until = Instant::now() + END_WITHIN;
    all.iter_mut().for_each(|running| running.signal(Signal::TERM));
    while Instant::now() < until && all.iter_mut().any(|running| running.is_running()) {
        std::thread::sleep(Duration::from_millis(5));
    }
    all.iter_mut().for_each(|running| running.kill());
}

/// The last lines of a log.
pub(crate) fn end_of(log: &Path) -> String {
    let text = read(log);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(SHOWN_LINES)..].join("\n")
}

fn read(path: &Path) -> String {
    std::fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}
