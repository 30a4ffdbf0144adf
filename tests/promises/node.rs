//! A node under test: the real `larder`, a home of its own, and an environment that holds nothing else.

use std::ffi::OsStr;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use larder_harness::hub::HubServer;
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
        node.with("HF_ENDPOINT", endpoint).with("LARDER_STORE_FREE_FLOOR_BYTES", "0")
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
        let mut command = Command::new(binary());
        command.env_clear().envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
        command.env("HOME", self.folder.path()).env("HF_HOME", self.folder.path().join("huggingface")).env("LARDER_HOME", &self.home);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.args(arguments).current_dir(self.folder.path());
        Running::spawn(&mut command)
    }

    /// Writes a job definition of the market's shape, with one op that needs `resources`.
    pub(crate) fn job(&self, name: &str, resources: Value) -> String {
        self.job_of_ops(name, &[(name, resources)])
    }

    /// Writes a job definition of the market's shape.
    pub(crate) fn job_of_ops(&self, name: &str, ops: &[(&str, Value)]) -> String {
        let op = |(id, resources): &(&str, Value)| {
            let args = json!({"image": "ubuntu", "cmd": ["ls"], "gpu": true, "resources": resources});
            json!({"type": "container/run", "id": id, "args": args})
        };
        let ops: Vec<Value> = ops.iter().map(op).collect();
        let job = json!({"version": "0.1", "type": "container", "meta": {"trigger": "cli"}, "ops": ops});
        let path = self.folder.path().join(format!("{name}.json"));
        std::fs::write(&path, job.to_string()).unwrap();
        path.display().to_string()
    }
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
    stdout: Option<JoinHandle<String>>,
    stderr: Option<JoinHandle<String>>,
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
}

impl Running {
    fn spawn(command: &mut Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let stdout = Some(collect(child.stdout.take().unwrap()));
        let stderr = Some(collect(child.stderr.take().unwrap()));
        Self { child, stdout, stderr }
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether it has not ended yet.
    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
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
        let stdout = self.stdout.take().unwrap().join().unwrap();
        let stderr = self.stderr.take().unwrap().join().unwrap();
        let json = serde_json::from_str(&stdout).unwrap_or_default();
        Finished { code: status.code(), stdout, stderr, json }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
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
}

fn collect(mut pipe: impl Read + Send + 'static) -> JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        pipe.read_to_end(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes).into_owned()
    })
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

/// How often a loop of tries is done: `LARDER_ROUNDS`, or `default` if that is not set.
pub(crate) fn rounds(default: u64) -> u64 {
    std::env::var("LARDER_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(default)
}
