//! A node under test: the real `larder`, a home of its own, and an environment that holds nothing else.

use std::ffi::OsStr;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use larder_harness::hub::HubServer;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;

/// The longest that a command may take.
const DEADLINE: Duration = Duration::from_secs(300);
/// How often a condition is looked at that is waited for.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// A store's home and the environment of the commands on it.
pub(crate) struct Node {
    folder: TempDir,
    home: PathBuf,
    environment: Vec<(String, String)>,
}

impl Node {
    /// A node with a new home, for which `hub` is the hub.
    pub(crate) fn new(hub: &HubServer) -> Self {
        Self::of_endpoint(hub.endpoint())
    }

    /// A node with a new home, for which the hub is at `endpoint`.
    pub(crate) fn of_endpoint(endpoint: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path().join("home");
        let node = Self { folder, home, environment: Vec::new() };
        // The servers of the tests are on this machine.
        let node = node.with("HF_ENDPOINT", endpoint).with("LARDER_STORE_FREE_FLOOR_BYTES", "0");
        let node = node.with("LARDER_ORIGIN_PRIVATE_HOSTS", "*");
        // A busy machine makes peers slow: that is no reason here to ask the origin for more.
        node.with("LARDER_JOBS_PATIENCE", "0")
    }

    /// The same with another home.
    pub(crate) fn at(self, home: impl Into<PathBuf>) -> Self {
        Self { home: home.into(), ..self }
    }

    /// The same with a variable set in the environment.
    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.environment.retain(|(other, _)| other != name);
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// A folder of the test's own, which goes with the node. The home is in it.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The store's folder.
    pub(crate) fn home(&self) -> &Path {
        &self.home
    }

    /// Runs a command to its end.
    pub(crate) fn run<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Finished {
        self.start(arguments).wait()
    }

    /// Starts a command.
    pub(crate) fn start<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Running {
        Running::spawn(&mut self.command(arguments))
    }

    /// A command that is yet to be started.
    pub(crate) fn command<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Command {
        let mut command = Command::new(binary());
        command.env_clear().envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
        command.env("HOME", self.folder.path()).env("HF_HOME", self.folder.path().join("huggingface")).env("LARDER_HOME", &self.home);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.args(arguments).current_dir(self.folder.path());
        command
    }

    /// Writes a job definition of the market's shape, with one op that needs `resources`.
    pub(crate) fn job(&self, name: &str, resources: Value) -> String {
        self.job_of_ops(name, &[(name, resources)])
    }

    /// Writes a job definition of the market's shape.
    pub(crate) fn job_of_ops(&self, name: &str, ops: &[(&str, Value)]) -> String {
        self.write(name, &definition(ops).to_string())
    }

    /// Writes a text where the definitions are: the one place in the node's folder where secrets may lie.
    pub(crate) fn write(&self, name: &str, text: &str) -> String {
        let path = self.folder.path().join(format!("{name}.json"));
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    }

    /// Prepares a job with one op, `serve`, that needs `resources`, below the folder `root` of the node's.
    pub(crate) fn prepare(&self, resources: Value, root: &str) -> Finished {
        self.prepare_file(&self.job_of_ops(root, &[("serve", resources)]), root)
    }

    /// Prepares a written definition below the folder `root` of the node's.
    pub(crate) fn prepare_file(&self, job: &str, root: &str) -> Finished {
        let root = self.folder.path().join(root).display().to_string();
        self.run(&["prepare", job, "--json", "--root", &root])
    }
}

/// A job definition of the market's shape, with ops that need resources.
pub(crate) fn definition(ops: &[(&str, Value)]) -> Value {
    let op = |(id, resources): &(&str, Value)| {
        let args = json!({"image": "ubuntu", "cmd": ["ls"], "gpu": true, "resources": resources});
        json!({"type": "container/run", "id": id, "args": args})
    };
    let ops: Vec<Value> = ops.iter().map(op).collect();
    json!({"version": "0.1", "type": "container", "meta": {"trigger": "cli"}, "ops": ops})
}

/// The `larder` of this build, which lies beside the folder of the test executables.
fn binary() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let built = test.ancestors().nth(2).unwrap().join("larder");
    assert!(built.exists(), "{} is not there: build it first with `cargo build -p larder`", built.display());
    built
}

/// A command that runs.
pub(crate) struct Running {
    child: Child,
    stdout: Output,
    stderr: Output,
    peak_bytes: u64,
}

/// What came of a command.
#[derive(Debug)]
pub(crate) struct Finished {
    /// Its exit code; `None` if a signal ended it.
    pub(crate) code: Option<i32>,
    /// What it wrote to standard output.
    pub(crate) stdout: String,
    /// What it wrote to standard error.
    pub(crate) stderr: String,
    /// Its standard output as JSON; null if it is none.
    pub(crate) json: Value,
    /// The most memory that it was seen to hold.
    pub(crate) peak_bytes: u64,
}

impl Running {
    fn spawn(command: &mut Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let stdout = Output::of(child.stdout.take().unwrap());
        let stderr = Output::of(child.stderr.take().unwrap());
        Self { child, stdout, stderr, peak_bytes: 0 }
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it has written to standard error by now.
    pub(crate) fn stderr(&self) -> String {
        self.stderr.so_far()
    }

    /// The most memory that it has held by now.
    pub(crate) fn peak_bytes(&self) -> u64 {
        peak_bytes(self.id())
    }

    /// Whether it has not ended yet.
    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_raw(self.id().try_into().unwrap()).unwrap(), signal).unwrap();
    }

    /// Kills it as `kill -9` does, and waits until it is gone.
    pub(crate) fn kill(mut self) -> Finished {
        let _ = self.child.kill();
        self.wait()
    }

    /// Waits for its end.
    pub(crate) fn wait(mut self) -> Finished {
        let started = Instant::now();
        while self.is_running() && started.elapsed() < DEADLINE {
            self.peak_bytes = self.peak_bytes.max(peak_bytes(self.id()));
            std::thread::sleep(LOOK_EVERY);
        }
        let late = self.is_running();
        if late {
            let _ = self.child.kill();
        }
        let finished = self.finish();
        assert!(!late, "the command did not end within {DEADLINE:?}: {finished:?}");
        finished
    }

    fn finish(&mut self) -> Finished {
        let status: ExitStatus = self.child.wait().unwrap();
        let (stdout, stderr) = (self.stdout.whole(), self.stderr.whole());
        let json = serde_json::from_str(&stdout).unwrap_or_default();
        Finished { code: status.code(), stdout, stderr, json, peak_bytes: self.peak_bytes }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        // What libfaketime leaves of a process that was killed.
        for name in ["faketime_shm_", "sem.faketime_sem_"] {
            let _ = std::fs::remove_file(format!("/dev/shm/{name}{}", self.id()));
        }
    }
}

impl Finished {
    /// The same, known to have ended well.
    #[track_caller]
    pub(crate) fn ok(self) -> Self {
        assert_eq!(self.code, Some(0), "{}\n{}", self.stdout, self.stderr);
        self
    }

    /// The same, known to have failed with exit code 1.
    #[track_caller]
    pub(crate) fn failed(self) -> Self {
        assert_eq!(self.code, Some(1), "{}\n{}", self.stdout, self.stderr);
        self
    }

    /// The report of a job that is ready: all that its standard output holds.
    #[track_caller]
    pub(crate) fn ready(self) -> Value {
        let Self { json, stdout, .. } = self.ok();
        assert_eq!(json["state"], "ready", "{stdout}");
        json
    }

    /// The message of a command that ended with `code`, which holds all of `words`.
    #[track_caller]
    pub(crate) fn says(&self, code: i32, words: &[&str]) -> String {
        assert_eq!(self.code, Some(code), "{self:?}");
        let stderr = format!("\n{}", self.stderr.trim_end());
        let message = stderr.rsplit_once("\nerror: ").unwrap_or_else(|| panic!("{self:?}")).1.to_owned();
        assert!(self.stdout.is_empty() || self.json == json!({"state": "failed", "error": message}), "{self:?}");
        for word in words {
            assert!(message.contains(word), "{word:?} is not in: {message}");
        }
        message
    }
}

/// What a command writes to a pipe.
struct Output {
    bytes: Arc<Mutex<Vec<u8>>>,
    reader: Option<JoinHandle<()>>,
}

impl Output {
    fn of(mut pipe: impl Read + Send + 'static) -> Self {
        let bytes = Arc::<Mutex<Vec<u8>>>::default();
        let written = bytes.clone();
        let reader = std::thread::spawn(move || {
            let mut part = [0; 8192];
            while let Some(count) = pipe.read(&mut part).ok().filter(|count| *count > 0) {
                written.lock().unwrap().extend_from_slice(&part[..count]);
            }
        });
        Self { bytes, reader: Some(reader) }
    }

    fn so_far(&self) -> String {
        String::from_utf8_lossy(&self.bytes.lock().unwrap()).into_owned()
    }

    fn whole(&mut self) -> String {
        self.reader.take().into_iter().for_each(|reader| reader.join().unwrap());
        self.so_far()
    }
}

/// The most memory that a process has held so far; 0 once it has ended.
fn peak_bytes(id: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    peak.unwrap_or_default() * 1024
}

/// Waits until `holds` does.
#[track_caller]
pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < DEADLINE, "this did not come about within {DEADLINE:?}: {what}");
        std::thread::sleep(LOOK_EVERY);
    }
}

/// How often a loop of tries is done: `default` times, and `LARDER_ROUNDS` times as often if that is set.
pub(crate) fn rounds(default: u64) -> u64 {
    std::env::var("LARDER_ROUNDS").ok().and_then(|text| text.parse().ok()).map_or(default, |rounds: u64| rounds.saturating_mul(default))
}
