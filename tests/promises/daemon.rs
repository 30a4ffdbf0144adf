//! The daemon: how it starts and ends, what it does for commands, and what makes it a node of a market.

use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use larder_harness::hub::{HubBuilder, Repo};
use larder_peers::Identity;
use rustix::process::Signal;
use serde_json::json;

use crate::api::get;
use crate::files::{Files, MIB, resource};
use crate::member::ANYWHERE;
use crate::node::{Finished, Node, Running, until};

/// The longest that a daemon may take to end.
const ENDS_WITHIN: Duration = Duration::from_secs(5);

/// What the hub of a test serves.
pub(crate) fn files() -> Files {
    Files::of_sizes([("model.safetensors", 24 * MIB), ("weights.bin", 3 * MIB), ("config.json", 900)])
}

/// Starts a daemon and waits until it is ready.
pub(crate) fn run(node: &Node, arguments: &[&str]) -> Running {
    let mut daemon = node.start(&[&["run"], arguments].concat());
    until("the daemon is ready", || daemon.stderr().contains("larder: ready") || !daemon.is_running());
    assert!(daemon.is_running(), "{}", daemon.stderr());
    daemon
}

/// Asks a daemon to end as an init system does, and gives what came of it.
#[track_caller]
pub(crate) fn end(daemon: Running, signal: Signal) -> Finished {
    let asked = Instant::now();
    daemon.signal(signal);
    let finished = daemon.wait();
    assert!(asked.elapsed() < ENDS_WITHIN, "it took {:?}: {}", asked.elapsed(), finished.stderr);
    finished.ok()
}

const MARKET: &str = "market-1";

/// Makes a node one of the market, which begins with the node at `bootstrap`.
fn join(node: Node, bootstrap: Option<&str>) -> Node {
    join_market(node, MARKET, bootstrap)
}

fn join_market(node: Node, market: &str, bootstrap: Option<&str>) -> Node {
    let mut arguments = vec!["init", "--market", market, "--listen", ANYWHERE];
    bootstrap.iter().for_each(|address| arguments.extend(["--bootstrap", address]));
    node.run(&arguments).ok();
    node
}

fn id(node: &Node) -> String {
    node.run(&["id"]).ok().stdout.trim_end().to_owned()
}

/// Where a daemon says that it listens.
fn address(node: &Node, daemon: &Running) -> String {
    let said = daemon.stderr();
    let line = said.lines().find(|line| line.starts_with("larder: ready")).unwrap();
    line.strip_prefix(&format!("larder: ready, {}, listening on ", id(node))).unwrap_or_else(|| panic!("{line}")).to_owned()
}

/// Waits until a daemon is connected to another node, and gives what it tells of it.
fn peer(node: &Node) -> serde_json::Value {
    let peers = || node.run(&["peers", "--json"]).ok().json["peers"].clone();
    until("a peer is connected", || peers()[0].is_object());
    peers()[0].clone()
}

#[test]
fn a_script_makes_nodes_of_a_market_and_prepares_through_them() {
    let hub = files().hub(400 * MIB);
    let boot = join(Node::new(&hub), None);
    assert!(id(&boot).starts_with("12D3KooW") && !id(&boot).contains(char::is_whitespace), "{}", id(&boot));
    let daemon = run(&boot, &["--bootstrap"]);
    let bootstrap = address(&boot, &daemon);
    assert!(bootstrap.starts_with("/ip4/127.0.0.1/tcp/") && bootstrap.ends_with(&format!("/p2p/{}", id(&boot))), "{bootstrap}");
    assert_eq!(boot.prepare(resource(), "root").ready()["totals"]["from"], json!({"cache": 0, "peers": 0, "origin": files().bytes()}));
    hub.counts().reset();

    let node = Node::new(&hub);
    let listen = [ANYWHERE, "/ip4/127.0.0.1/udp/0/quic-v1"];
    node.run(&["init", "--market", MARKET, "--listen", listen[0], listen[1], "--bootstrap", &bootstrap]).ok();
    assert_ne!(id(&node), id(&boot));
    let other = run(&node, &[]);
    let peer = peer(&node);
    assert_eq!((&peer["market"], &peer["id"], &peer["bootstrap"]), (&json!(MARKET), &json!(id(&boot)), &json!(true)), "{peer}");
    assert_eq!(node.prepare(resource(), "root").ready()["totals"]["from"]["peers"], files().bytes());
    files().assert_laid(&node.folder().join("root/data"));
    let status = node.run(&["status", "--json"]).ok().json;
    assert_eq!((&status["id"], &status["markets"][0]["market"]), (&json!(id(&node)), &json!(MARKET)), "{status}");
    assert_eq!((&status["ledger"]["from"]["peers"], &status["ledger"]["offload"]), (&json!(files().bytes()), &json!(1.0)), "{status}");
    assert_eq!(get(&node, "/v1/peers").of(200)["peers"][0]["id"], id(&boot));
    assert_eq!(get(&node, "/v1/markets").of(200)["markets"][0]["listen"].as_array().unwrap().len(), listen.len());
    assert_eq!(hub.counts().content().body_bytes, 0);
    end(other, Signal::TERM);
    end(daemon, Signal::INT);
}

#[test]
fn a_command_without_a_daemon_is_a_node_of_the_market_for_as_long_as_it_takes() {
    let hub = files().hub(400 * MIB);
    let boot = join(Node::new(&hub), None);
    let daemon = run(&boot, &["--bootstrap"]);
    boot.prepare(resource(), "root").ready();
    hub.counts().reset();
    let node = join(Node::new(&hub), Some(&address(&boot, &daemon)));
    assert_eq!(node.prepare(resource(), "root").ready()["totals"]["from"]["peers"], files().bytes());
    files().assert_laid(&node.folder().join("root/data"));
    assert_eq!(hub.counts().content().body_bytes, 0);
    // And it is gone then.
    until("nobody is connected", || get(&boot, "/v1/peers").of(200)["peers"] == json!([]));
    end(daemon, Signal::TERM);
}

#[test]
fn a_job_of_a_node_in_two_markets_asks_the_one_that_it_names() {
    let hub = files().hub(400 * MIB);
    let boots = ["a", "b"].map(|market| join_market(Node::new(&hub), market, None));
    let daemons = boots.each_ref().map(|boot| run(boot, &["--bootstrap"]));
    boots[1].prepare(resource(), "root").ready();
    let in_both = || {
        let node = join_market(Node::new(&hub), "b", Some(&address(&boots[1], &daemons[1])));
        join_market(node, "a", Some(&address(&boots[0], &daemons[0])))
    };
    let from = |node: &Node, wishes: &[&str]| {
        let (job, root) = (node.job("job", resource()), node.folder().join("root").display().to_string());
        node.run(&[&["prepare", &job, "--json", "--root", &root], wishes].concat()).ready()["totals"]["from"].clone()
    };
    let node = in_both();
    let daemon = run(&node, &[]);
    until("both are connected", || get(&node, "/v1/peers").of(200)["peers"].as_array().is_some_and(|peers| peers.len() == 2));
    assert_eq!(from(&node, &["--market", "b"])["peers"], files().bytes());
    end(daemon, Signal::TERM);
    // The first market, in which nobody has it.
    assert_eq!(from(&in_both(), &[])["origin"], files().bytes());
    daemons.into_iter().for_each(|daemon| drop(end(daemon, Signal::TERM)));
}

#[test]
fn what_needs_credentials_stays_at_home() {
    let token = "hf_thetokenthatopensall";
    let repo = Repo::model("org/name").at("main", files().tree()).private();
    let hub = HubBuilder::new().repo(repo).token(token).start().unwrap();
    let node = || Node::new(&hub).with("HF_TOKEN", token);
    let boot = join(node(), None);
    let daemon = run(&boot, &["--bootstrap"]);
    boot.prepare(resource(), "root").ready();
    let other = join(node(), Some(&address(&boot, &daemon)));
    let other_daemon = run(&other, &[]);
    peer(&other);
    let from = other.prepare(resource(), "root").ready()["totals"]["from"].clone();
    assert_eq!(from, json!({"cache": 0, "peers": 0, "origin": files().bytes()}));
    for node in [&boot, &other] {
        let status = get(node, "/v1/status").of(200);
        assert_eq!((&status["ledger"]["served"], &status["markets"][0]["heard_of"]), (&json!(0), &json!(0)), "{status}");
    }
    end(other_daemon, Signal::TERM);
    end(daemon, Signal::TERM);
}

#[test]
fn an_address_that_is_taken_is_named_and_its_node_does_not_run() {
    let first = join(Node::of_endpoint("http://127.0.0.1:9"), None);
    let daemon = run(&first, &[]);
    let taken = address(&first, &daemon).split("/p2p/").next().unwrap().to_owned();
    let second = Node::of_endpoint("http://127.0.0.1:9");
    second.run(&["init", "--market", MARKET, "--listen", &taken]).ok();
    second.run(&["run"]).says(1, &[MARKET, &taken, "in use"]);
    end(daemon, Signal::TERM);
    // The address is free, and so is the store.
    end(run(&second, &[]), Signal::TERM);
}

#[test]
fn a_node_is_known_by_the_hosts_own_key_when_told_so() {
    let (host, other) = (Identity::generate(), Identity::generate());
    let file = |secret: &Identity, public: &Identity| json!([&secret.seed()[..], &public.id().0[..]].concat()).to_string();
    let node = Node::of_endpoint("http://127.0.0.1:9");
    let key = node.write("solana", &file(&host, &host));
    let node = node.with("LARDER_PEERS_KEY", &key);
    assert_eq!(id(&node), host.id().to_string());
    assert!(!node.home().join("identity.key").exists());
    // Half of one key and half of another are none.
    node.write("solana", &file(&host, &other));
    node.run(&["id"]).says(1, &["solana.json"]);
}

#[test]
fn init_overwrites_nothing_and_adds_a_further_market() {
    let node = Node::of_endpoint("http://127.0.0.1:9");
    let read = |name: &str| std::fs::read_to_string(node.home().join(name)).unwrap();
    node.run(&["init"]).ok();
    let (config, key) = (read("config.toml"), read("identity.key"));
    assert_eq!(std::fs::metadata(node.home().join("identity.key")).unwrap().permissions().mode() & 0o777, 0o600);
    let id = node.run(&["id"]).ok().stdout;
    node.run(&["init", "--market", "one", "--listen", "/ip4/127.0.0.1/tcp/4001"]).ok();
    node.run(&["init", "--market", "two.b"]).ok();
    assert!(read("config.toml").starts_with(&config));
    assert_eq!((read("identity.key"), node.run(&["id"]).ok().stdout), (key.clone(), id));
    let before = read("config.toml");
    node.run(&["init", "--market", "one", "--listen", "/ip4/127.0.0.1/tcp/5"]).says(2, &["one", "already", "change its table"]);
    node.run(&["init", "--market", "three", "--listen", "127.0.0.1:5"]).says(2, &["write it as /ip4/"]);
    node.run(&["prepare", &node.job("job", resource()), "--market", "tow.b"]).says(2, &["did you mean two.b?"]);
    assert_eq!((read("config.toml"), read("identity.key")), (before, key.clone()));
    assert!(node.run(&["status"]).ok().stdout.contains("larder run"));
    // The seed of the key is shown nowhere.
    let shown = node.run(&["status", "--json"]).ok();
    assert!(!format!("{shown:?}").contains(key.trim()));
}

#[test]
fn the_ledger_says_where_bytes_came_from_also_when_no_daemon_runs() {
    let hub = files().hub(400 * MIB);
    let node = Node::new(&hub);
    let daemon = run(&node, &[]);
    let report = node.prepare(resource(), "first").ready();
    node.prepare(resource(), "second").ready();
    let (id, bytes) = (report["resources"][0]["id"].as_str().unwrap().to_owned(), files().bytes());
    let of_daemon = node.run(&["status", "--json"]).ok().json["ledger"].clone();
    assert_eq!(of_daemon["from"], json!({"cache": bytes, "peers": 0, "origin": bytes}), "{of_daemon}");
    assert_eq!(of_daemon["resources"][&id], of_daemon["from"]);
    assert_eq!((&of_daemon["offload"], &of_daemon["served"]), (&json!(0.5), &json!(0)));
    assert_eq!(get(&node, "/v1/ledger").of(200), of_daemon);
    let figures = get(&node, "/metrics").text;
    assert!(figures.contains(&format!("larder_content_bytes_total{{source=\"origin\"}} {bytes}\n")), "{figures}");
    end(daemon, Signal::TERM);
    assert_eq!(node.run(&["status", "--json"]).ok().json["ledger"], of_daemon);
    assert!(node.run(&["status"]).ok().stdout.contains("50.0 % spared the origin"));
}

#[test]
fn commands_are_carried_out_by_the_daemon_that_holds_the_store() {
    let hub = files().hub(14 * MIB);
    let node = Node::new(&hub);
    let daemon = run(&node, &[]);
    let job = node.job("job", resource());
    let commands = ["first", "second"].map(|root| {
        let root = node.folder().join(root).display().to_string();
        node.start(&["prepare", &job, "--json", "--root", &root, "--patience", "2"])
    });
    let lease = commands.map(|command| command.wait().ready()["lease"].as_str().unwrap().to_owned());
    assert_eq!(hub.counts().content().body_bytes, files().bytes());
    files().assert_laid(&node.folder().join("second/data"));
    node.run(&["release", &lease[0]]).ok();
    node.run(&["peers"]).ok();
    assert_eq!(node.run(&["market", "--json"]).ok().json, json!({"markets": []}));
    assert_eq!(node.run(&["verify", "--json"]).ok().json["damaged"], json!([]));
    let refused = node.run(&["prepare", &job, "--patience", "0.5"]);
    assert!(refused.code == Some(2) && refused.stderr.contains("at least 1"), "{refused:?}");
    end(daemon, Signal::TERM);
    // The store is free, and what the daemon did is there.
    assert_eq!(node.run(&["resources", "--json"]).ok().json["leases"][0]["lease"], lease[1]);
}

#[test]
fn whoever_opens_a_store_that_needed_repair_says_so() {
    let node = Node::of_endpoint("http://127.0.0.1:9");
    node.run(&["resources"]).ok();
    let spoil = || std::fs::write(node.home().join("temp/of-a-crash"), "half").unwrap();
    spoil();
    assert!(node.run(&["resources"]).ok().stderr.contains("the store was repaired"));
    spoil();
    let daemon = run(&node, &[]);
    assert!(daemon.stderr().contains("the store was repaired"), "{}", daemon.stderr());
    end(daemon, Signal::TERM);
}

#[test]
fn a_second_daemon_on_a_store_is_told_who_holds_it() {
    let node = Node::of_endpoint("http://127.0.0.1:9");
    let daemon = run(&node, &[]);
    let holder = format!("process {}", daemon.id());
    node.run(&["run"]).says(1, &[node.home().to_str().unwrap(), "larder run", &holder]);
    end(daemon, Signal::TERM);
    end(run(&node, &[]), Signal::TERM);
}

#[test]
fn a_daemon_that_is_told_to_end_before_it_is_ready_ends_well() {
    let node = Node::of_endpoint("http://127.0.0.1:9");
    let daemon = run(&node, &[]);
    // It waits some moments for the store.
    let mut second = node.start(&["run"]);
    until("it heeds the signal", || heeds_termination(second.id()) || !second.is_running());
    end(second, Signal::TERM);
    end(daemon, Signal::TERM);
}

/// Whether a process has a handler for SIGTERM, which is number 15.
fn heeds_termination(process: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let caught = status.lines().find_map(|line| u64::from_str_radix(line.strip_prefix("SigCgt:")?.trim(), 16).ok());
    caught.is_some_and(|caught| caught & (1 << 14) != 0)
}

#[test]
fn bootstrap_without_a_market_is_refused() {
    let node = Node::of_endpoint("http://127.0.0.1:9");
    node.run(&["run", "--bootstrap"]).says(2, &["needs a market"]);
    assert_eq!(node.run(&["init", "--listen", ANYWHERE]).code, Some(2));
    assert!(!node.home().join("config.toml").exists());
}
