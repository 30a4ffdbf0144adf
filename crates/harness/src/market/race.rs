//! Nodes that all want the same at the same moment.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::interrupt::{pass, wait_for};
use super::node::Node;
use super::running::{Running, end_all, end_of};

/// How long processes may take to come to where they wait for the start.
const LINE_UP: Duration = Duration::from_millis(300);
/// How much of a file is read at a time.
const READ_BYTES: usize = 1024 * 1024;
/// The folder below a root in which the repository of a job is laid.
pub const TARGET: &str = "data";

/// A job for a node.
#[derive(Debug, Clone)]
pub struct Order {
    /// The node's number.
    pub node: usize,
    /// The text of the job definition.
    pub definition: String,
    /// The folder of the node's below which the job is laid.
    pub root: String,
}

/// The text of a job definition that wants one repository: `models/org/name`.
#[must_use]
pub fn job(repository: &str) -> String {
    job_of([(repository, "")])
}

/// The text of a job definition that wants repositories, each in a folder of the target.
#[must_use]
pub fn job_of<'a>(repositories: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let resource = |(repository, folder): (&str, &str)| {
        let folder = if folder.is_empty() { String::new() } else { format!("{folder}/") };
        let repository = repository.strip_prefix("models/").unwrap_or(repository);
        json!({"type": "HF", "repo": repository, "target": format!("/{TARGET}/{folder}")})
    };
    let resources: Vec<Value> = repositories.into_iter().map(resource).collect();
    let arguments = json!({"image": "ubuntu", "cmd": ["ls"], "gpu": true, "resources": resources});
    let ops = json!([{"type": "container/run", "id": "serve", "args": arguments}]);
    json!({"version": "0.1", "type": "container", "meta": {"trigger": "cli"}, "ops": ops}).to_string()
}

/// Commands that make jobs ready, each of a node.
#[derive(Debug)]
pub struct Race {
    runners: Vec<Runner>,
}

#[derive(Debug)]
struct Runner {
    node: String,
    root: PathBuf,
    process: Running,
    daemon_log: Option<PathBuf>,
    started: Option<Instant>,
    seconds: Option<f64>,
}

impl Runner {
    /// What it printed, complained of, and what its daemon wrote last.
    fn told(&self) -> String {
        let of_daemon = self.daemon_log.as_deref().map_or_else(String::new, |log| format!("\nits daemon: {}", end_of(log)));
        format!("{}{}{of_daemon}", self.process.stdout(), self.process.told())
    }
}

/// What came of one node's command.
#[derive(Debug, Clone)]
pub struct Prepared {
    /// The node's name.
    pub node: String,
    /// The folder below which the targets are laid.
    pub root: PathBuf,
    /// Seconds from its start to the end of the command.
    pub seconds: f64,
    /// Its exit code; `None` if a signal ended it.
    pub code: Option<i32>,
    /// What it printed; null if that is no JSON.
    pub report: Value,
    /// What it was, printed and complained of, and what the daemon wrote last.
    pub told: String,
    /// The most memory that the command was seen to have, in bytes. With a daemon, that one has the memory.
    pub peak_bytes: u64,
}

impl Prepared {
    /// Whether everything was made ready.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.code == Some(0) && self.report["state"] == "ready"
    }

    /// Bytes that came from `cache`, `peers` or `origin`.
    #[must_use]
    pub fn from(&self, source: &str) -> u64 {
        self.report["totals"]["from"][source].as_u64().unwrap_or(0)
    }

    /// Which laid files are not those of `right` (sha256 by path): missing, other, or too many.
    ///
    /// # Errors
    /// Fails if a file cannot be read.
    pub fn wrong(&self, right: &BTreeMap<String, String>) -> anyhow::Result<Vec<String>> {
        let laid = laid(&self.root.join(TARGET))?;
        let paths = laid.keys().chain(right.keys()).collect::<std::collections::BTreeSet<_>>();
        Ok(paths.into_iter().filter(|path| laid.get(*path) != right.get(*path)).map(|path| format!("{}: {path}", self.node)).collect())
    }
}

impl Race {
    /// Starts a command for each order that waits until it is let go.
    pub(crate) fn line_up(nodes: &mut [Node], orders: &[Order], patience: Option<&str>) -> anyhow::Result<Self> {
        let mut runners = Vec::new();
        for order in orders {
            let node = nodes.get_mut(order.node).with_context(|| format!("there is no node {}", order.node))?;
            let (path, root) = (node.folder().join(format!("{}.json", order.root)), node.folder().join(&order.root));
            std::fs::write(&path, &order.definition).with_context(|| path.display().to_string())?;
            let mut arguments = vec!["prepare".to_owned(), path.display().to_string(), "--json".to_owned()];
            arguments.extend(["--root".to_owned(), root.display().to_string()]);
            arguments.extend(patience.iter().flat_map(|patience| ["--patience".to_owned(), (*patience).to_owned()]));
            let process = node.launch(&arguments, true)?;
            let daemon_log = node.daemon().map(|daemon| daemon.log().to_owned());
            runners.push(Runner { node: node.name().to_owned(), root, process, daemon_log, started: None, seconds: None });
        }
        pass(LINE_UP)?;
        Ok(Self { runners })
    }

    /// Lets all go.
    ///
    /// # Errors
    /// Fails if one has ended already.
    pub fn start(&mut self) -> anyhow::Result<()> {
        (0..self.runners.len()).try_for_each(|number| self.let_go(number))
    }

    /// Lets the command of one order go.
    ///
    /// # Errors
    /// Fails if it has ended already.
    pub fn let_go(&mut self, number: usize) -> anyhow::Result<()> {
        let Some(runner) = self.runners.get_mut(number) else { return Ok(()) };
        runner.started = Some(Instant::now());
        runner.process.let_go().with_context(|| runner.process.told())
    }

    /// Looks who has come in; says whether all have.
    ///
    /// # Errors
    /// Fails if the kernel does not tell.
    pub fn look(&mut self) -> anyhow::Result<bool> {
        for runner in self.runners.iter_mut().filter(|runner| runner.seconds.is_none()) {
            let seconds = runner.started.map(|started| started.elapsed().as_secs_f64());
            runner.seconds = runner.process.ended()?.and(seconds);
        }
        Ok(self.runners.iter().all(|runner| runner.seconds.is_some()))
    }

    /// Kills the command of one order, which has then come in without having made its job ready.
    pub fn stop(&mut self, number: usize) {
        if let Some(runner) = self.runners.get_mut(number) {
            runner.process.kill();
        }
    }

    /// Kills the command of one node as `kill -9` does, and takes it out.
    pub fn kill(&mut self, node: &str) {
        for runner in self.runners.iter_mut().filter(|runner| runner.node == node) {
            runner.process.kill();
        }
        self.runners.retain(|runner| runner.node != node);
    }

    /// Waits until all have come in.
    ///
    /// # Errors
    /// Fails if one has not within `limit`.
    pub fn finish(mut self, limit: Duration) -> anyhow::Result<Vec<Prepared>> {
        let waited = wait_for("nodes to make the job ready", limit, || Ok(self.look()?.then_some(())));
        let late: Vec<String> = self.runners.iter().filter(|runner| runner.seconds.is_none()).map(Runner::told).collect();
        waited.with_context(|| late.join("\n"))?;
        self.close()
    }

    /// Kills those that have not come in, and gives what came of each, in the order that they were lined up in.
    ///
    /// # Errors
    /// Fails if the kernel does not tell.
    pub fn close(mut self) -> anyhow::Result<Vec<Prepared>> {
        self.runners.iter_mut().for_each(|runner| runner.process.kill());
        let prepared = |runner: &mut Runner| -> anyhow::Result<Prepared> {
            let status = runner.process.ended()?;
            Ok(Prepared {
                node: runner.node.clone(),
                root: runner.root.clone(),
                seconds: runner.seconds.unwrap_or_default(),
                code: status.and_then(|status| status.code()),
                report: serde_json::from_str(&runner.process.stdout()).unwrap_or_default(),
                told: runner.told(),
                peak_bytes: runner.process.peak_bytes(),
            })
        };
        self.runners.iter_mut().map(prepared).collect()
    }
}

impl Drop for Race {
    fn drop(&mut self) {
        end_all(&mut self.runners.iter_mut().map(|runner| &mut runner.process).collect::<Vec<_>>());
    }
}

/// The sha256 of each file below `folder` by its path there; nothing if there is no such folder.
///
/// # Errors
/// Fails if a file cannot be read.
pub fn laid(folder: &Path) -> anyhow::Result<BTreeMap<String, String>> {
    let mut laid = BTreeMap::new();
    if folder.is_dir() {
        hash_below(folder, folder, &mut laid)?;
    }
    Ok(laid)
}

/// Puts the sha256 of each file below `folder` under its path relative to `top`.
fn hash_below(top: &Path, folder: &Path, laid: &mut BTreeMap<String, String>) -> anyhow::Result<()> {
    for entry in std::fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        if path.is_dir() {
            hash_below(top, &path, laid)?;
            continue;
        }
        let name = path.strip_prefix(top).unwrap_or(&path).display().to_string();
        laid.insert(name, sha256(&path).with_context(|| path.display().to_string())?);
    }
    Ok(())
}

/// The sha256 of a file, in hex.
///
/// # Errors
/// Fails if it cannot be read.
pub fn sha256(path: &Path) -> std::io::Result<String> {
    let (mut file, mut sha256, mut buffer) = (File::open(path)?, Sha256::new(), vec![0; READ_BYTES]);
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hex::encode(sha256.finalize())),
            length => sha256.update(&buffer[..length]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_laid_file_that_is_missing_other_or_too_many_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let laid = folder.path().join(TARGET);
        std::fs::create_dir_all(laid.join("a")).unwrap();
        std::fs::write(laid.join("a/right"), "right").unwrap();
        std::fs::write(laid.join("other"), "other").unwrap();
        std::fs::write(laid.join("more"), "more").unwrap();
        let of = |text: &str| hex::encode(Sha256::digest(text));
        let right = [("a/right", "right"), ("other", "another"), ("missing", "")].map(|(path, text)| (path.to_owned(), of(text)));
        let prepared = Prepared {
            node: "n1".into(),
            root: folder.path().into(),
            seconds: 0.0,
            code: Some(0),
            report: Value::Null,
            told: String::new(),
            peak_bytes: 0,
        };
        assert_eq!(prepared.wrong(&right.into()).unwrap(), ["n1: missing", "n1: more", "n1: other"]);
        assert!(!prepared.is_ready(), "a command that printed no report is not ready");
    }

    #[test]
    fn a_job_names_a_model_without_its_kind_and_others_with_it() {
        let repo = |name: &str| serde_json::from_str::<Value>(&job(name)).unwrap()["ops"][0]["args"]["resources"][0]["repo"].clone();
        assert_eq!((repo("models/org/name"), repo("datasets/org/name")), (json!("org/name"), json!("datasets/org/name")));
    }
}
