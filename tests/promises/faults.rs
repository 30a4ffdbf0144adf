//! What goes wrong in a market: nodes that stop, clocks that are wrong, origins that are down, members that lie.

use std::net::TcpListener;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use larder_harness::faults::{Fault, Rule};
use larder_harness::hub::HubServer;
use larder_harness::market::Rogue;
use larder_harness::servers;
use rustix::process::Signal;
use serde_json::json;

use crate::crash::recorded;
use crate::daemon::end;
use crate::files::{Files, MIB, REPO};
use crate::market::{FAST, files};
use crate::member::{ANYWHERE, MARKET, Member, rogue};
use crate::node::{Node, Running, until};

const DAY_SECONDS: u64 = 24 * 3600;

/// One file that takes some seconds from a peer that sends [`SLOW`].
fn large() -> Files {
    Files::of_sizes([("model.safetensors", 24 * MIB)])
}

/// Bytes a second that a slow peer sends.
const SLOW: &str = "8000000";

/// A member that holds the files, sends them slowly, and comes back to the same address.
fn slow_holder(hub: &HubServer, files: &Files) -> Member {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let node = Node::new(hub).with("LARDER_PEERS_UPLOAD_BYTES_PER_SECOND", SLOW);
    let holder = Member::with(node, MARKET, &format!("/ip4/127.0.0.1/tcp/{port}"), &[]);
    holder.prepare(files, "own");
    hub.counts().reset();
    holder
}

#[test]
fn a_holder_that_is_killed_and_started_again_costs_no_byte_twice_and_serves_on() {
    let files = large();
    let hub = files.hub(FAST);
    let mut holder = slow_holder(&hub, &files);
    let member = Member::start(&hub, MARKET, &[&holder.address]);
    member.knows(1);
    let running = member.begin("second");
    holder.has_sent(6 * MIB);
    holder.kill();
    holder.run(true);
    let from = member.finish(running, &files, "second");
    let (peers, origin) = (from["peers"].as_u64().unwrap(), from["origin"].as_u64().unwrap());
    assert_eq!(peers + origin, files.bytes());
    assert!(peers > 4 * MIB, "{from}");
    hub.counts().reset();
    let third = Member::start(&hub, MARKET, &[&holder.address]);
    third.knows(1);
    third.finish(third.begin("third"), &files, "third");
    assert_eq!(hub.counts().content().body_bytes, 0);
}

#[test]
fn a_daemon_that_is_told_to_end_does_so_in_time_while_a_slow_peer_takes_from_it() {
    let files = large();
    let hub = files.hub(FAST);
    let mut holder = slow_holder(&hub, &files);
    let member = Member::start(&hub, MARKET, &[&holder.address]);
    member.knows(1);
    let running = member.begin("second");
    holder.has_sent(4 * MIB);
    // Within 5 s, with exit code 0.
    end(holder.daemon.take().unwrap(), Signal::TERM);
    let from = member.finish(running, &files, "second");
    assert!(from["peers"].as_u64() > Some(2 * MIB) && from["origin"].as_u64() > Some(0), "{from}");
    let read = hub.counts().content().body_bytes;
    assert!(read <= from["origin"].as_u64().unwrap() + MIB, "{read} bytes left the origin: {from}");
}

#[test]
fn without_its_origin_a_pinned_job_needs_all_of_it_at_home_or_at_a_peer() {
    let files = files();
    let hub = files.hub(FAST);
    let host = hub.endpoint().trim_start_matches("http://").to_owned();
    let pinned = json!([{"type": "HF", "repo": "org/name", "revision": hub.commit(REPO, "main"), "target": "/data"}]);
    let mut holder = Member::start(&hub, MARKET, &[]);
    let other = Member::start(&hub, MARKET, &[&holder.address]);
    let first =
        json!([{"type": "HF", "repo": "org/name", "revision": hub.commit(REPO, "main"), "files": ["config.json"], "target": "/data"}]);
    other.node.prepare(first.clone(), "part").ready();
    holder.node.prepare(pinned.clone(), "all").ready();
    holder.stop();
    drop(hub);
    holder.run(true);
    // What is at home.
    let report = holder.node.prepare(pinned.clone(), "again").ready();
    assert_eq!(report["totals"]["from"], json!({"cache": files.bytes(), "peers": 0, "origin": 0}));
    holder.assert_laid(&files, "again");
    other.node.prepare(first, "part-again").ready();
    // What is nowhere, and what was never listed.
    let never = json!([{"type": "HF", "repo": "org/none", "revision": "0123456789012345678901234567890123456789", "target": "/data"}]);
    for (member, wanted, name) in [(&holder, &never, "models/org/none@0123456789"), (&other, &pinned, "models/org/name@")] {
        let message = member.node.prepare(wanted.clone(), "never").says(1, &["ops[0] \"serve\", resources[0]", name, &host]);
        assert!(message.contains("refused") || message.contains("connect"), "{message}");
        assert!(!member.node.folder().join("never").exists());
    }
}

#[test]
fn a_job_that_the_origin_left_in_the_middle_goes_on_from_there() {
    let files = Files::of_sizes([("model.safetensors", 24 * MIB)]);
    let hub = files.hub(8 * MIB);
    let bootstrap = Member::start(&hub, MARKET, &[]);
    let node = Node::new(&hub).with("LARDER_ORIGIN_RANGE_BYTES", "1048576").with("LARDER_ORIGIN_READS_PER_FILE", "2");
    let member = Member::with(node.with("LARDER_ORIGIN_STALL_MS", "500"), MARKET, ANYWHERE, &[&bootstrap.address]);
    member.knows(1);
    let running = member.begin("job");
    until("some of it is there", || hub.counts().content().body_bytes > 8 * MIB);
    hub.faults().set(Rule::new("*", Fault::Refuse));
    running.wait().says(1, &["resources[0]", "models/org/name/model.safetensors", "did not answer"]);
    assert!(!member.node.folder().join("job").exists());
    // Again, from what is there: down, it says so anew; back, it gives what is missing.
    member.begin("job").wait().says(1, &["resources[0]", "models/org/name"]);
    hub.faults().clear();
    hub.counts().reset();
    let kept = recorded(&member.node);
    assert!(kept > 6 * MIB, "{kept} bytes were kept");
    let from = member.finish(member.begin("job"), &files, "job");
    assert_eq!(from, json!({"cache": kept, "peers": 0, "origin": files.bytes() - kept}));
    assert_eq!(hub.counts().content().body_bytes, files.bytes() - kept);
}

/// A node whose clock is wrong by `offset`, as "+1d", and whose time passes as for others.
fn with_clock(node: Node, offset: &str) -> Node {
    let node = node.with("LD_PRELOAD", wrong_clock().to_str().unwrap());
    node.with("FAKETIME", offset).with("FAKETIME_DONT_FAKE_MONOTONIC", "1")
}

/// The library that makes a process see another time.
fn wrong_clock() -> PathBuf {
    let packages = servers::folder().join("venv/lib");
    let versions = std::fs::read_dir(&packages).unwrap_or_else(|_| panic!("{} is not there: run scripts/servers", packages.display()));
    let inside = "site-packages/libfaketime/vendor/libfaketime/src/libfaketime.so.1";
    let found = versions.map(|version| version.unwrap().path().join(inside)).find(|library| library.exists());
    found.unwrap_or_else(|| panic!("there is no libfaketime below {}: run scripts/servers", packages.display()))
}

/// How many days a node's clock is ahead, as its last lease shows.
fn days_ahead(node: &Node) -> f64 {
    let leases = node.run(&["resources", "--json"]).ok().json["leases"].clone();
    let expires = leases[0]["expires"].as_u64().unwrap_or_else(|| panic!("{leases}"));
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    ((expires as f64 - now as f64) / DAY_SECONDS as f64 - 7.0).round()
}

/// Nodes a day ahead, a day behind and right, of a market with a bootstrap that is right.
fn apart(hub: &HubServer) -> (Member, [Member; 3]) {
    let bootstrap = Member::start(hub, MARKET, &[]);
    let members =
        ["+1d", "-1d", "+0"].map(|offset| Member::with(with_clock(Node::new(hub), offset), MARKET, ANYWHERE, &[&bootstrap.address]));
    members.iter().for_each(|member| member.knows(1));
    (bootstrap, members)
}

#[test]
fn nodes_whose_clocks_are_a_day_apart_share_as_others_do() {
    let files = large();
    // Warm: they know of the holder through the bootstrap, and have nobody else.
    let hub = files.hub(FAST);
    let (_bootstrap, members) = apart(&hub);
    members[0].prepare(&files, "warm");
    hub.faults().set(Rule::new("*/resolve/*", Fault::Status { code: 503, retry_after: None }));
    for member in &members[1..] {
        assert_eq!(member.prepare(&files, "warm")["peers"], files.bytes());
    }
    assert_eq!(members.each_ref().map(|member| days_ahead(&member.node)), [1.0, -1.0, 0.0]);
    // Cold.
    let hub = files.hub(6 * MIB);
    let (_bootstrap, members) = apart(&hub);
    let running = members.each_ref().map(|member| member.begin("cold"));
    for (member, running) in members.iter().zip(running) {
        member.finish(running, &files, "cold");
    }
    let copies = hub.counts().content().body_bytes as f64 / files.bytes() as f64;
    assert!(copies < 1.5, "{copies} copies left the origin for three nodes");
}

/// Three members fetch a file of so many bytes that nobody has, together with liars: the copies that left the origin.
fn cold_beside(kinds: &[Rogue], bytes: u64, logged: &[&str]) -> f64 {
    let files = Files::of_sizes([("model.safetensors", bytes), ("config.json", 900)]);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let hub = files.hub(6 * MIB);
    let bootstrap = Member::start(&hub, MARKET, &[]);
    let liars: Vec<_> = kinds.iter().map(|kind| rogue(&runtime, &bootstrap.address, *kind, &hub)).collect();
    let listening: Vec<String> = liars.iter().map(|liar| liar.listening()[0].clone()).collect();
    let known: Vec<&str> = listening.iter().chain([&bootstrap.address]).map(String::as_str).collect();
    let members = [(); 3].map(|()| Member::with(Node::new(&hub).with("LARDER_JOBS_PATIENCE", "0"), MARKET, ANYWHERE, &known));
    members.iter().for_each(|member| member.knows(1 + liars.len()));
    let running: Vec<Running> = members.iter().map(|member| member.begin("cold")).collect();
    for (member, running) in members.iter().zip(running) {
        member.finish(running, &files, "cold");
    }
    let noticed = |member: &Member| logged.iter().any(|logged| member.log().contains(logged));
    assert!(members.iter().any(noticed), "nobody noticed");
    let refuted = members.each_ref().map(|member| member.log().matches("it is fetched anew").count());
    assert!(refuted.into_iter().all(|times| times <= kinds.len()), "a liar was believed twice: {refuted:?}");
    hub.counts().content().body_bytes as f64 / files.bytes() as f64
}

#[test]
fn who_sends_other_bytes_than_it_signed_in_a_cold_swarm_is_banned() {
    let copies = cold_beside(&[Rogue::SendsOther], 16 * MIB, &["it lied"]);
    assert!(copies < 1.5, "{copies} copies left the origin for three nodes");
}

#[test]
fn who_signs_little_that_is_false_in_a_cold_swarm_costs_one_more_copy() {
    let copies = cold_beside(&[Rogue::SignsNearly], 16 * MIB, &["what came from peers does not match", "it lied"]);
    // Each of the three by itself would read it again: 4. Who took nothing false from it is ready first, and tells the others.
    assert!(copies < 2.6, "{copies} copies left the origin for three nodes");
}

#[test]
fn who_signs_much_that_is_false_in_a_cold_swarm_is_found_at_once_and_costs_what_it_signed() {
    let copies = cold_beside(&[Rogue::SignsFalse], 32 * MIB, &["they signed for it"]);
    assert!(copies < 1.6, "{copies} copies left the origin for three nodes");
}

#[test]
fn liars_who_each_swear_to_another_content_have_nobody_read_by_itself() {
    let copies = cold_beside(&[Rogue::SwearsNearly; 3], 16 * MIB, &["does not match"]);
    // Each of the three by itself would read it: 3.
    assert!(copies < 2.1, "{copies} copies left the origin for three nodes");
}
