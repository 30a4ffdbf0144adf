//! A member of a market: a node under test, and its daemon.

use larder_harness::hub::HubServer;
use larder_harness::market::{Known, Rogue, take_part};
use rustix::process::Signal;
use serde_json::Value;
use tokio::runtime::Runtime;

use crate::daemon::end;
use crate::files::{Files, REPO, resource};
use crate::node::{Node, Running, until};

/// The market of most tests.
pub(crate) const MARKET: &str = "market-of-tests";
/// A place to listen at that the system chooses.
pub(crate) const ANYWHERE: &str = "/ip4/127.0.0.1/tcp/0";

/// Lets a rogue take part in the market until it is stopped; it speaks of the repository of tests.
pub(crate) fn rogue(runtime: &Runtime, bootstrap: &str, kind: Rogue, hub: &HubServer) -> larder_peers::Market {
    rogue_of(runtime, bootstrap, kind, Known::of(hub, &[REPO]).unwrap())
}

/// The same of one that speaks of what it is told.
pub(crate) fn rogue_of(runtime: &Runtime, bootstrap: &str, kind: Rogue, known: Known) -> larder_peers::Market {
    runtime.block_on(take_part(kind, known, MARKET, vec![ANYWHERE.into()], vec![bootstrap.into()])).unwrap()
}

/// A node, and its daemon.
pub(crate) struct Member {
    pub(crate) node: Node,
    pub(crate) daemon: Option<Running>,
    /// Where others find it.
    pub(crate) address: String,
}

impl Member {
    /// A node of `market` that begins with `bootstrap`, and runs.
    pub(crate) fn start(hub: &HubServer, market: &str, bootstrap: &[&str]) -> Self {
        Self::with(Node::new(hub), market, ANYWHERE, bootstrap)
    }

    /// The same of a node that is there.
    pub(crate) fn with(node: Node, market: &str, listen: &str, bootstrap: &[&str]) -> Self {
        let mut arguments = vec!["init", "--market", market, "--listen", listen];
        bootstrap.iter().for_each(|address| arguments.extend(["--bootstrap", address]));
        node.run(&arguments).ok();
        let mut member = Self { node, daemon: None, address: String::new() };
        member.run(bootstrap.is_empty());
        member
    }

    /// Starts the daemon, and waits until it is ready.
    pub(crate) fn run(&mut self, bootstrap: bool) {
        let arguments: &[&str] = if bootstrap { &["run", "--bootstrap"] } else { &["run"] };
        let mut daemon = self.node.start(arguments);
        until("the daemon is ready", || daemon.stderr().contains("larder: ready") || !daemon.is_running());
        assert!(daemon.is_running(), "{}", daemon.stderr());
        let said = daemon.stderr();
        let listening = said.split("listening on ").nth(1).unwrap_or_else(|| panic!("{said}"));
        self.address = listening.split([',', '\n']).next().unwrap().trim().to_owned();
        self.daemon = Some(daemon);
    }

    pub(crate) fn status(&self) -> Value {
        self.node.run(&["status", "--json"]).ok().json
    }

    /// What its daemon has written to standard error by now.
    pub(crate) fn log(&self) -> String {
        self.daemon.as_ref().unwrap().stderr()
    }

    /// Waits until so many peers are connected.
    #[track_caller]
    pub(crate) fn knows(&self, peers: usize) {
        until("the peers are connected", || self.status()["markets"][0]["peers"].as_array().is_some_and(|found| found.len() >= peers));
    }

    /// Waits until it has sent more than so many bytes.
    #[track_caller]
    pub(crate) fn has_sent(&self, bytes: u64) {
        until("it has sent some", || self.status()["markets"][0]["sent_bytes"].as_u64().is_some_and(|sent| sent > bytes));
    }

    /// Whether a peer that is connected has stalled.
    pub(crate) fn has_seen_a_stall(&self) -> bool {
        let peers = self.node.run(&["peers", "--json"]).ok().json["peers"].clone();
        peers.as_array().unwrap().iter().any(|peer| peer["stalls"].as_u64() > Some(0))
    }

    /// Prepares the repository of the files in a folder of this name, and gives the bytes by source.
    #[track_caller]
    pub(crate) fn prepare(&self, files: &Files, root: &str) -> Value {
        let report = self.node.prepare(resource(), root).ready();
        self.assert_laid(files, root);
        report["totals"]["from"].clone()
    }

    /// Begins to prepare it.
    pub(crate) fn begin(&self, root: &str) -> Running {
        let job = self.node.job_of_ops(root, &[("serve", resource())]);
        self.node.start(&["prepare", &job, "--json", "--root", self.node.folder().join(root).to_str().unwrap()])
    }

    /// Waits for what was begun, and gives the bytes by source.
    #[track_caller]
    pub(crate) fn finish(&self, running: Running, files: &Files, root: &str) -> Value {
        let report = running.wait().ready();
        self.assert_laid(files, root);
        report["totals"]["from"].clone()
    }

    /// Whether the files lie in the folder of this name, byte for byte.
    #[track_caller]
    pub(crate) fn assert_laid(&self, files: &Files, root: &str) {
        files.assert_laid(&self.node.folder().join(root).join("data"));
    }

    /// Asks the daemon to end, which it does well, and in time.
    #[track_caller]
    pub(crate) fn stop(&mut self) {
        end(self.daemon.take().unwrap(), Signal::TERM);
    }

    /// Kills the daemon as `kill -9` does.
    pub(crate) fn kill(&mut self) {
        self.daemon.take().unwrap().kill();
    }
}
