//! A market of nodes: peers first, the origin last, and no harm from peers that fail or lie.

use std::net::TcpListener;
use std::time::Duration;

use larder_harness::counts::Counts;
use larder_harness::faults::{Fault, Rule};
use larder_harness::hub::{Lie, Repo, Tree};
use larder_harness::market::{Known, Rogue, falsified};
use larder_harness::proxy::Proxy;
use serde_json::Value;

use crate::bucket_origin::{list, open, seaweed};
use crate::files::{Files, MIB, REPO, names, resource};
use crate::member::{ANYWHERE, MARKET, Member, rogue, rogue_of};
use crate::node::{Node, Running, until};

/// A rate of the origin that is no limit.
pub(crate) const FAST: u64 = 400 * MIB;

/// What the hub of a test serves.
pub(crate) fn files() -> Files {
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
        member.finish(running, &files, "cold");
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
    let mut holder = Member::with(slow, MARKET, ANYWHERE, &[&bootstrap.address]);
    holder.prepare(&files, "first");
    let member = Member::start(&hub, MARKET, &[&bootstrap.address, &holder.address]);
    member.knows(2);
    let running = member.begin("second");
    holder.has_sent(4 * MIB);
    holder.kill();
    let from = member.finish(running, &files, "second");
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
    second.assert_laid(&other, "third");
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

#[test]
fn peers_that_stall_lie_or_have_nothing_harm_no_job() {
    let large = Files::of_sizes([("model.safetensors", 24 * MIB)]);
    let both = Files::of_sizes([("model.safetensors", 24 * MIB), ("config.json", 900)]);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let kinds = [
        (Rogue::Stalls, &both, None),
        (Rogue::SendsFalse, &both, Some("it lied")),
        // The one chunk of a small file shows it; of a large file all must have come.
        (Rogue::SwearsFalse, &both, Some("it lied")),
        (Rogue::SwearsFalse, &large, Some("what came from peers does not match")),
        (Rogue::Refuses, &both, Some("a peer did not bring it")),
    ];
    for (kind, files, logged) in kinds {
        let hub = files.hub(FAST);
        let bootstrap = Member::start(&hub, MARKET, &[]);
        let rogue = rogue(&runtime, &bootstrap.address, kind, &hub);
        let node = Node::new(&hub).with("LARDER_LOG", "larder_node=debug,warn");
        let member = Member::with(node, MARKET, ANYWHERE, &[&bootstrap.address, &rogue.listening()[0]]);
        member.knows(2);
        let from = member.prepare(files, "job");
        assert_eq!(from["origin"], files.bytes(), "{kind:?}: {from}");
        let sent = hub.counts().content().body_bytes;
        assert!((files.bytes()..files.bytes() * 5 / 4).contains(&sent), "{kind:?}: the origin sent {sent} of {} bytes", files.bytes());
        let noticed = logged.map_or_else(|| member.has_seen_a_stall(), |logged| member.log().contains(logged));
        assert!(noticed, "{kind:?} was never met with: {}", member.log());
        runtime.block_on(async { tokio::time::timeout(Duration::from_secs(5), rogue.stop()).await }).unwrap();
    }
}

/// What may come of a liar that swears to a false file, and of its origin, where a list of pieces proves it.
struct Bounds {
    wasted: u64,
    origin: u64,
}

/// Has nodes made by `node` do `job`, which a holder has done and a liar swears falsely about, until one of them asked the liar for something.
fn meet_a_liar(holder: &Member, known: &Known, node: impl Fn() -> Node, job: &Value, files: &Files, origin: &Counts, most: &Bounds) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    holder.node.prepare(job.clone(), "first").ready();
    until("the holder has listed the pieces", || !names(&holder.node.home().join("pieces")).is_empty());
    let mut was_met = false;
    for round in 0..8 {
        let rogue = rogue_of(&runtime, &holder.address, Rogue::SwearsFalse, known.clone());
        let node = node().with("LARDER_LOG", "larder_node=debug,warn").with("LARDER_JOBS_PATIENCE", "0");
        let member = Member::with(node, MARKET, ANYWHERE, &[&holder.address, &rogue.listening()[0]]);
        member.knows(2);
        origin.reset();
        let report = member.node.prepare(job.clone(), "job").ready();
        member.assert_laid(files, "job");
        let (sent, wasted) = (origin.content().body_bytes, rogue.status().sent_bytes);
        assert_eq!(report["totals"]["from"]["peers"], files.bytes(), "{report}\n{}", member.log());
        assert!(sent <= most.origin, "the origin sent {sent} bytes\n{}", member.log());
        assert!(wasted <= most.wasted, "round {round}: {wasted} bytes came of the liar\n{}", member.log());
        was_met |= member.log().contains("does not fit the list of pieces");
        runtime.block_on(async { tokio::time::timeout(Duration::from_secs(5), rogue.stop()).await }).unwrap();
        if was_met {
            break;
        }
    }
    assert!(was_met, "the liar was never asked for anything");
}

#[test]
fn a_false_binding_costs_a_mebibyte_where_the_hub_tells_xet_hashes() {
    let files = Files::of_sizes([("model.safetensors", 64 * MIB)]);
    let hub = files.hub(FAST);
    let holder = Member::start(&hub, MARKET, &[]);
    let known = Known::of(&hub, &[REPO]).unwrap();
    // Beside what it sends of content, it speaks; the origin is asked for one piece.
    let most = Bounds { wasted: MIB + MIB / 8, origin: 128 * 1024 };
    meet_a_liar(&holder, &known, || Node::new(&hub), &resource(), &files, hub.counts(), &most);
}

#[test]
fn a_false_binding_costs_three_parts_where_a_bucket_tells_how_an_object_was_cut() {
    const PART: u64 = 5 * MIB;
    let files = Files::of_sizes([("model.bin", 60 * MIB)]);
    let bytes = &files.0["model.bin"];
    seaweed().store().unwrap().put_parts("pub", "market-parts/model.bin", bytes, PART).unwrap();
    let proxy = Proxy::start(seaweed().address()).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let listing = runtime.block_on(list(&open(proxy.endpoint(), "pub/market-parts/")));
    let listed = listing.manifest.files().iter().map(|file| (file.clone(), bytes.clone())).collect();
    let node = || Node::of_endpoint("http://127.0.0.1:9");
    let holder = Member::with(node(), MARKET, ANYWHERE, &[]);
    let url = format!("{}/pub/market-parts/", proxy.endpoint());
    let job = serde_json::json!([{"type": "S3", "url": url, "bucket": "pub", "target": "/data"}]);
    // Beside what it sends of content, it speaks; the origin is asked for nothing but whether anyone may read it.
    let most = Bounds { wasted: 3 * PART + MIB / 8, origin: 64 * 1024 };
    meet_a_liar(&holder, &Known::of_files(&listing.id, listed), node, &job, &files, proxy.counts(), &most);
}

#[test]
fn one_sha256_beside_two_xet_hashes_gives_each_job_what_its_own_origin_lists() {
    let files = Files::of_sizes([("model.safetensors", 96 * MIB)]);
    let hub = files.hub(FAST);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    // A repository of the liar's own: other bytes, of which it lists the sha256 of the files.
    let sha256 = hub.files("models/org/name", "main").remove(0).sha256.unwrap();
    let path = "model.safetensors";
    let tree = Tree::new().file(path, falsified(&files.0[path])).lie(path, Lie::Sha256(sha256));
    hub.publish(Repo::model("org/false").at("main", tree)).unwrap();
    let bootstrap = Member::start(&hub, MARKET, &[]);
    let rogue = rogue(&runtime, &bootstrap.address, Rogue::SwearsFalse, &hub);
    let node = Node::new(&hub).with("LARDER_LOG", "larder_node=debug,warn");
    let member = Member::with(node, MARKET, ANYWHERE, &[&bootstrap.address, &rogue.listening()[0]]);
    member.knows(2);
    let job = member.node.job("false", serde_json::json!([{"type": "HF", "repo": "org/false", "target": "/data"}]));
    let root = member.node.folder().join("false").display().to_string();
    let first = member.node.start(&["prepare", &job, "--json", "--root", &root]);
    until("the false one is proven by piece", || member.log().contains("it is proven by piece"));
    let second = member.begin("job");
    assert_eq!(first.wait().ready()["resources"][0]["proof"], serde_json::json!({"xet": 1}));
    member.finish(second, &files, "job");
    assert!(member.log().contains("and not the sha256"), "{}", member.log());
    runtime.block_on(async { tokio::time::timeout(Duration::from_secs(5), rogue.stop()).await }).unwrap();
}
