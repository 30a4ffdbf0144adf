//! A market of nodes: peers first, the origin last, and no harm from peers that fail or lie.

use std::net::TcpListener;
use std::time::Duration;

use larder_content::{ContentId, FileKey, FileMessage, FileWord, Holding, NodeId, Subject};
use larder_harness::faults::{Fault, Rule};
use larder_harness::hub::HubServer;
use larder_peers::{Config, Event, Identity, Market, MarketConfig, Piece, Upload, Wanted};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::files::{Files, MIB, resource};
use crate::node::{Node, Running, until};

/// A rate of the origin that is no limit.
const FAST: u64 = 400 * MIB;
const MARKET: &str = "market-of-tests";

/// A member of a market: a node, and its daemon.
struct Member {
    node: Node,
    daemon: Option<Running>,
    /// Where others find it.
    address: String,
}

impl Member {
    /// A node of `market` that begins with `bootstrap`, and runs.
    fn start(hub: &HubServer, market: &str, bootstrap: &[&str]) -> Self {
        Self::with(Node::new(hub), market, "/ip4/127.0.0.1/tcp/0", bootstrap)
    }

    fn with(node: Node, market: &str, listen: &str, bootstrap: &[&str]) -> Self {
        let mut arguments = vec!["init", "--market", market, "--listen", listen];
        bootstrap.iter().for_each(|address| arguments.extend(["--bootstrap", address]));
        node.run(&arguments).ok();
        let mut member = Self { node, daemon: None, address: String::new() };
        member.run(bootstrap.is_empty());
        member
    }

    fn run(&mut self, bootstrap: bool) {
        let arguments: &[&str] = if bootstrap { &["run", "--bootstrap"] } else { &["run"] };
        let mut daemon = self.node.start(arguments);
        until("the daemon is ready", || daemon.stderr().contains("larder: ready") || !daemon.is_running());
        assert!(daemon.is_running(), "{}", daemon.stderr());
        let said = daemon.stderr();
        let listening = said.split("listening on ").nth(1).unwrap_or_else(|| panic!("{said}"));
        self.address = listening.split([',', '\n']).next().unwrap().trim().to_owned();
        self.daemon = Some(daemon);
    }

    fn status(&self) -> Value {
        self.node.run(&["status", "--json"]).ok().json
    }

    /// Waits until so many peers are connected.
    #[track_caller]
    fn knows(&self, peers: usize) {
        until("the peers are connected", || self.status()["markets"][0]["peers"].as_array().is_some_and(|found| found.len() >= peers));
    }

    /// Prepares the repository of the files in a folder of this name, and gives the bytes by source.
    #[track_caller]
    fn prepare(&self, files: &Files, root: &str) -> Value {
        let report = self.node.prepare(resource(), root).ready();
        files.assert_laid(&self.node.folder().join(root).join("data"));
        report["totals"]["from"].clone()
    }

    /// Begins to prepare it.
    fn begin(&self, root: &str) -> Running {
        let job = self.node.job_of_ops(root, &[("serve", resource())]);
        self.node.start(&["prepare", &job, "--json", "--patience", "none", "--root", self.node.folder().join(root).to_str().unwrap()])
    }

    fn stop(&mut self) {
        let daemon = self.daemon.take().unwrap();
        kill_process(Pid::from_raw(daemon.id().try_into().unwrap()).unwrap(), Signal::TERM).unwrap();
        daemon.wait().ok();
    }

    fn kill(&mut self) {
        self.daemon.take().unwrap().kill();
    }
}

fn files() -> Files {
    Files::of_sizes([("model.safetensors", 24 * MIB + 77), ("weights.bin", 3 * MIB), ("config.json", 900), ("vocab.txt", 300_000)])
}

#[test]
fn what_a_peer_holds_leaves_the_origin_alone() {
    let files = files();
    let hub = files.hub(FAST);
    let first = Member::start(&hub, MARKET, &[]);
    assert_eq!(first.prepare(&files, "first")["origin"], files.bytes());
    hub.counts().reset();
    for name in ["second", "third"] {
        let member = Member::start(&hub, MARKET, &[&first.address]);
        member.knows(1);
        let from = member.prepare(&files, name);
        assert_eq!((&from["peers"], &from["origin"]), (&files.bytes().into(), &0.into()), "{from}");
        let ledger = &member.status()["ledger"];
        assert_eq!(ledger["from"]["peers"], files.bytes(), "{ledger}");
        assert_eq!(ledger["offload"], 1.0, "{ledger}");
    }
    assert_eq!(hub.counts().content().body_bytes, 0);
    assert!(first.status()["ledger"]["served"].as_u64().unwrap() >= files.bytes());
}

#[test]
fn nodes_that_start_cold_together_share_one_download() {
    let files = Files::of_sizes([("model.safetensors", 48 * MIB), ("config.json", 900)]);
    let hub = files.hub(8 * MIB);
    let bootstrap = Member::start(&hub, MARKET, &[]);
    let members: Vec<Member> = (0..4).map(|_| Member::start(&hub, MARKET, &[&bootstrap.address])).collect();
    members.iter().for_each(|member| member.knows(1));
    let running: Vec<Running> = members.iter().map(|member| member.begin("cold")).collect();
    for (member, running) in members.iter().zip(running) {
        running.wait().ready();
        files.assert_laid(&member.node.folder().join("cold/data"));
    }
    let copies = hub.counts().content().body_bytes as f64 / files.bytes() as f64;
    assert!(copies < 1.5, "{copies} copies left the origin for four nodes");
}

#[test]
fn a_peer_that_is_killed_in_the_middle_costs_nothing_but_time() {
    let files = Files::of_sizes([("model.safetensors", 48 * MIB)]);
    let hub = files.hub(FAST);
    let bootstrap = Member::start(&hub, MARKET, &[]);
    let slow = Node::new(&hub).with("LARDER_PEERS_UPLOAD_BYTES_PER_SECOND", "8000000");
    let mut holder = Member::with(slow, MARKET, "/ip4/127.0.0.1/tcp/0", &[&bootstrap.address]);
    holder.prepare(&files, "first");
    let member = Member::start(&hub, MARKET, &[&bootstrap.address, &holder.address]);
    member.knows(2);
    let running = member.begin("second");
    until("bytes come from the holder", || holder.status()["markets"][0]["sent_bytes"].as_u64().is_some_and(|sent| sent > 4 * MIB));
    holder.kill();
    let from = &running.wait().ready()["totals"]["from"];
    files.assert_laid(&member.node.folder().join("second/data"));
    assert!(from["peers"].as_u64() > Some(0) && from["origin"].as_u64() > Some(0), "{from}");
}

#[test]
fn with_the_origin_down_after_the_listing_peers_are_enough_and_without_them_the_error_is_clear() {
    let files = files();
    let hub = files.hub(FAST);
    let first = Member::start(&hub, MARKET, &[]);
    first.prepare(&files, "first");
    hub.faults().set(Rule::new("*/resolve/*", Fault::Status { code: 503, retry_after: None }));
    let second = Member::start(&hub, MARKET, &[&first.address]);
    second.knows(1);
    assert_eq!(second.prepare(&files, "second")["peers"], files.bytes());
    // Another repository, which nobody holds.
    hub.faults().clear();
    hub.faults().set(Rule::new("*/resolve/*", Fault::Status { code: 404, retry_after: None }));
    let other = Files::of_sizes([("other.bin", 9 * MIB)]);
    let tree = other.tree();
    hub.publish(larder_harness::hub::Repo::model("org/other").at("main", tree)).unwrap();
    let wanted = serde_json::json!([{"type": "HF", "repo": "org/other", "target": "/data"}]);
    second.node.prepare(wanted.clone(), "third").says(1, &["other.bin"]);
    hub.faults().clear();
    second.node.prepare(wanted, "third").ready();
    other.assert_laid(&second.node.folder().join("third/data"));
}

#[test]
fn a_bootstrap_that_is_down_at_the_start_is_found_when_it_comes() {
    let files = files();
    let hub = files.hub(FAST);
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let listen = format!("/ip4/127.0.0.1/tcp/{port}");
    let mut bootstrap = Member::with(Node::new(&hub), MARKET, &listen, &[]);
    bootstrap.prepare(&files, "first");
    bootstrap.stop();
    let member = Member::start(&hub, MARKET, &[&bootstrap.address]);
    // Alone, and no worse for it.
    let other = Files::of_sizes([("other.bin", MIB)]);
    hub.publish(larder_harness::hub::Repo::model("org/other").at("main", other.tree())).unwrap();
    member.node.prepare(serde_json::json!([{"type": "HF", "repo": "org/other", "target": "/data"}]), "alone").ready();
    bootstrap.run(true);
    member.knows(1);
    // What it held before it was restarted it holds now.
    assert_eq!(member.prepare(&files, "second")["peers"], files.bytes());
    bootstrap.stop();
    assert!(member.status()["markets"][0]["market"] == MARKET, "a bootstrap that goes takes nobody with it");
}

#[test]
fn two_markets_stay_apart() {
    let files = files();
    let hub = files.hub(FAST);
    let here = Member::start(&hub, "here", &[]);
    here.prepare(&files, "first");
    let there = Member::start(&hub, "there", &[&here.address]);
    assert_eq!(there.prepare(&files, "second")["origin"], files.bytes());
    assert_eq!(there.status()["markets"][0]["peers"].as_array().map(Vec::len), Some(0));
}

#[test]
fn three_jobs_at_once_fetch_a_file_once() {
    let files = files();
    let hub = files.hub(16 * MIB);
    let member = Member::start(&hub, MARKET, &[]);
    let running: Vec<Running> = ["a", "b", "c"].iter().map(|root| member.begin(root)).collect();
    let reports: Vec<Value> = running.into_iter().map(|running| running.wait().ready()).collect();
    let origin: u64 = reports.iter().map(|report| report["totals"]["from"]["origin"].as_u64().unwrap()).sum();
    assert_eq!(origin, files.bytes());
    assert_eq!(hub.counts().content().body_bytes, files.bytes());
}

/// What a rogue does when it is asked for chunks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rogue {
    /// Nothing.
    Stalls,
    /// Sends what is not the file.
    SendsFalse,
    /// Says that the file is another, whose hashes and bytes it has.
    SwearsFalse,
    /// Says that it has what it has not.
    Refuses,
}

/// Lets a rogue take part in the market until the end of the test.
fn rogue(runtime: &tokio::runtime::Runtime, bootstrap: &str, kind: Rogue, resources: &[Subject], files: Vec<(FileKey, Vec<u8>)>) -> Market {
    let config = MarketConfig {
        address: MARKET.into(),
        listen: vec!["/ip4/127.0.0.1/tcp/0".into()],
        bootstrap: vec![bootstrap.into()],
        ..MarketConfig::default()
    };
    let started = runtime.block_on(Market::start(&Identity::generate(), config, Config::default(), Vec::new()));
    let (market, mut events) = started.unwrap();
    let subjects = resources.iter().copied().chain(files.iter().map(|(key, _)| Subject::from(*key)));
    subjects.for_each(|subject| market.announce(subject, Holding::Complete));
    let own = market.clone();
    runtime.spawn(async move {
        while let Some(event) = events.recv().await {
            match event {
                Event::Told { from, message: FileMessage { file, body: FileWord::Follow } } => {
                    let Some((_, bytes)) = files.iter().find(|(key, _)| *key == file) else { continue };
                    let content = if kind == Rogue::SwearsFalse { falsified(bytes) } else { bytes.clone() };
                    tell(&own, from, file, ContentId::of(&content));
                }
                Event::Asked(upload) => {
                    let bytes = files.iter().find(|(key, _)| *key == upload.file).map(|(_, bytes)| bytes.clone());
                    if let Some(bytes) = bytes {
                        tokio::spawn(misbehave(kind, upload, bytes));
                    }
                }
                Event::Told { .. } | Event::Connected(_) | Event::Disconnected(_) | Event::Sighted(_) | Event::Book(_) => {}
            }
        }
    });
    market
}

fn tell(market: &Market, to: NodeId, file: FileKey, content: ContentId) {
    let _ = market.tell(to, FileMessage { file, body: FileWord::Complete(content) });
}

fn falsified(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().map(|byte| byte ^ 0x55).collect()
}

async fn misbehave(kind: Rogue, mut upload: Upload, bytes: Vec<u8>) {
    let chunk = 256 * 1024;
    let false_bytes = falsified(&bytes);
    match (upload.wanted.clone(), kind) {
        (_, Rogue::Refuses) => upload.refuse(),
        (Wanted::Chunks(_), Rogue::Stalls) => upload.gone().await,
        (Wanted::Hashes(run), _) => {
            let held = if kind == Rogue::SwearsFalse { false_bytes } else { bytes };
            let layout = larder_content::ChunkLayout::new(held.len() as u64);
            let all = larder_content::VerifiedChunks::read_from_origin(layout, 0, held.into()).unwrap();
            let at = |index: u64| usize::try_from(index).unwrap().min(all.hashes().len());
            upload.send_hashes(all.hashes()[at(run.start)..at(run.end)].to_vec()).await;
        }
        (Wanted::Chunks(run), Rogue::SendsFalse | Rogue::SwearsFalse) => {
            for index in run {
                let start = usize::try_from(index).unwrap() * chunk;
                let part = false_bytes[start..(start + chunk).min(false_bytes.len())].to_vec();
                let piece = Piece { first: index, bytes: part.into(), claim: None, content: upload.content };
                if upload.send(piece).await.is_err() {
                    return;
                }
            }
        }
    }
}

#[test]
fn peers_that_stall_lie_or_have_nothing_harm_no_job() {
    let files = Files::of_sizes([("model.safetensors", 24 * MIB), ("config.json", 900)]);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    for kind in [Rogue::Stalls, Rogue::SendsFalse, Rogue::SwearsFalse, Rogue::Refuses] {
        let hub = files.hub(FAST);
        let commit = hub.commit("models/org/name", "main").unwrap();
        let resource = Subject::of_resource(&format!("hf:models/org/name@{commit}"));
        let held = hub.files("models/org/name", "main").into_iter().map(|facts| (key(&facts, &hub, &commit), files.0[&facts.path].clone()));
        let bootstrap = Member::start(&hub, MARKET, &[]);
        let rogue = rogue(&runtime, &bootstrap.address, kind, &[resource], held.collect());
        let member = Member::start(&hub, MARKET, &[&bootstrap.address, &rogue.listening()[0]]);
        member.knows(2);
        let from = member.prepare(&files, "job");
        assert_eq!(from["origin"], files.bytes(), "{kind:?}: {from}");
        runtime.block_on(async { tokio::time::timeout(Duration::from_secs(5), rogue.stop()).await }).unwrap();
    }
}

/// The key that the market has for a file of the hub's repository.
fn key(facts: &larder_harness::hub::FileFacts, hub: &HubServer, commit: &str) -> FileKey {
    let digests = match &facts.sha256 {
        Some(sha256) => vec![larder_content::OriginDigest::sha256(sha256).unwrap()],
        None => Vec::new(),
    };
    let locator = larder_content::Locator {
        endpoint: hub.endpoint().into(),
        container: "models/org/name".into(),
        path: facts.path.clone(),
        version: commit.into(),
    };
    let path = larder_content::RelativePath::new(&facts.path).unwrap();
    larder_content::OriginFile { path, size: facts.size, digests, locator }.key(larder_content::Scope::Public)
}
