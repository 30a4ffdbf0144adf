//! Jobs that want the same file at the same time share one fetch, and nothing else: neither access nor trouble.

use larder_harness::hub::{HubBuilder, HubServer, Lie, Repo, Tree};
use serde_json::json;

use crate::files::MIB;
use crate::node::{Node, Running, until};

const GOOD: &str = "hf_good_token_0123456789";

fn weights() -> Vec<u8> {
    (0..6 * MIB).map(|at| (at * 31 % 251) as u8).collect()
}

fn started(node: &Node, hub: &HubServer, job: &str, root: &str) -> Running {
    let mut running = node.start(&["prepare", job, "--root", node.folder().join(root).to_str().unwrap(), "--json"]);
    until("content is on its way", || hub.counts().content().body_bytes > MIB || !running.is_running());
    assert!(running.is_running(), "{}", running.stderr());
    running
}

#[test]
fn a_job_that_shows_no_access_gets_nothing_of_what_another_is_fetching() {
    let repo = Repo::model("org/gated").gated().at("main", Tree::new().file("w.bin", weights()));
    let hub = HubBuilder::new().repo(repo).token(GOOD).rate(3 * MIB).start().unwrap();
    let node = Node::new(&hub);
    let with = |token: &str| json!([{"type": "HF", "repo": "org/gated", "target": "/data", "accessToken": token}]);
    let first = started(&node, &hub, &node.job("first", with(GOOD)), "first");
    let second = node.prepare(with("hf_bogus_token"), "second");
    second.says(1, &["org/gated"]);
    assert!(!node.folder().join("second/data/w.bin").exists());
    first.wait().ok();
    assert_eq!(std::fs::read(node.folder().join("first/data/w.bin")).unwrap(), weights());
}

#[test]
fn a_bad_origin_fails_the_job_that_named_it_and_not_the_one_that_joined() {
    let good =
        HubBuilder::new().repo(Repo::model("org/model").at("main", Tree::new().file("w.bin", weights()))).xet(false).start().unwrap();
    let sha256 = good.files("models/org/model", "main").remove(0).sha256.unwrap();
    let junk = Tree::new().file("w.bin", vec![7; weights().len()]).lie("w.bin", Lie::Sha256(sha256));
    let bad = HubBuilder::new().repo(Repo::model("org/copy").at("main", junk)).xet(false).rate(4 * MIB).start().unwrap();
    let liar = Node::new(&bad);
    let honest = Node::new(&good).at(liar.home());
    let of = |repo: &str| json!([{"type": "HF", "repo": repo, "target": "/data"}]);
    let first = started(&liar, &bad, &liar.job("first", of("org/copy")), "first");
    let second = honest.prepare(of("org/model"), "second").ok();
    assert_eq!(std::fs::read(honest.folder().join("second/data/w.bin")).unwrap(), weights());
    assert_eq!(second.json["totals"]["bytes"], json!(weights().len()));
    let message = first.wait().says(1, &["w.bin", "sha256"]);
    assert!(!message.contains("org/model"), "{message}");
    assert!(!liar.folder().join("first/data/w.bin").exists());
}

#[test]
fn twins_in_one_repository_are_fetched_once() {
    let tree = Tree::new().file("a.bin", weights()).file("b/c.bin", weights());
    let hub = HubBuilder::new().repo(Repo::model("org/twins").at("main", tree)).start().unwrap();
    let node = Node::new(&hub);
    let report = node.prepare(json!([{"type": "HF", "repo": "org/twins", "target": "/data"}]), "root").ready();
    assert_eq!(hub.counts().content().body_bytes, weights().len() as u64);
    assert_eq!(report["totals"]["from"]["origin"], json!(weights().len()));
    assert_eq!(report["totals"]["from"]["cache"], json!(weights().len()));
}

#[test]
fn sizes_that_no_disk_holds_are_refused_before_the_first_byte() {
    let tree = (0..4).fold(Tree::new(), |tree, number| {
        let path = format!("{number}.bin");
        tree.file(&path, vec![number; 100]).lie(&path, Lie::Size(1 << 62))
    });
    let hub = HubBuilder::new().repo(Repo::model("org/huge").at("main", tree)).start().unwrap();
    let node = Node::new(&hub);
    node.prepare(json!([{"type": "HF", "repo": "org/huge", "target": "/data"}]), "root").says(1, &["org/huge", "which no file has"]);
    assert_eq!(hub.counts().content().requests, 0);
}
