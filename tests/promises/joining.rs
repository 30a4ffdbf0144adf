//! One store, several commands: the first does the work of all.

use std::fs::File;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use larder_harness::hub::{HubServer, Repo};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::crash::recorded;
use crate::files::{Files, MIB, resource};
use crate::node::{Node, Running, until};

fn files() -> Files {
    Files::of_sizes([("model.safetensors", 24 * MIB), ("weights.bin", 3 * MIB), ("config.json", 900), ("vocab.txt", 70_000)])
}

/// A hub that needs about two seconds to send the files.
fn slow() -> HubServer {
    files().hub(14 * MIB)
}

/// Starts to prepare the job and waits until content is on its way.
fn started(node: &Node, hub: &HubServer, job: &str, root: &str) -> Running {
    let mut running = start(node, job, root);
    until("content is on its way", || hub.counts().content().body_bytes > MIB || !running.is_running());
    assert!(running.is_running());
    running
}

fn start(node: &Node, job: &str, root: &str) -> Running {
    node.start(&["prepare", job, "--root", node.folder().join(root).to_str().unwrap()])
}

/// Waits until a command shows how far the work is: it has joined then, if it was not first.
fn joined(mut running: Running) -> Running {
    until("it has joined", || running.stderr().contains(" of ") || !running.is_running());
    assert!(running.is_running(), "{}", running.stderr());
    running
}

fn assert_laid(node: &Node, root: &str) {
    files().assert_laid(&node.folder().join(root).join("data"));
}

#[test]
fn two_commands_that_want_the_same_fetch_it_once() {
    let hub = slow();
    let node = Node::new(&hub);
    let job = node.job("job", resource());
    let (first, second) = (start(&node, &job, "first"), start(&node, &job, "second"));
    let (first, second) = (first.wait().ok(), second.wait().ok());
    assert_laid(&node, "first");
    assert_laid(&node, "second");
    assert_eq!(hub.counts().content().body_bytes, files().bytes(), "{}{}", first.stderr, second.stderr);
    assert_eq!(recorded(&node), files().bytes());
}

#[test]
fn commands_can_lay_the_same_at_the_same_place_at_the_same_time() {
    let small = (0..300).map(|number| (format!("{number}.txt"), 100 + number));
    let many = Files::of_sizes(small.chain([("model.safetensors".to_owned(), 30 * MIB)]));
    let hub = many.hub(14 * MIB);
    let node = Node::new(&hub);
    let job = node.job("job", resource());
    // All wait for the same file, and lay when its last byte is there.
    let in_store: Vec<Running> = (0..6).map(|_| node.start(&["prepare", &job, "--json"])).collect();
    let below_root: Vec<Running> = (0..6).map(|_| start(&node, &job, "root")).collect();
    let reports: Vec<Value> = in_store.into_iter().map(|running| running.wait().ready()).collect();
    below_root.into_iter().for_each(|running| drop(running.wait().ok()));
    assert_eq!(hub.counts().content().body_bytes, many.bytes());
    many.assert_laid(&node.folder().join("root/data"));
    // The place in the store is held by all, and gone with the last: also when all let go at the same time.
    let source = PathBuf::from(reports[0]["mounts"][0]["source"].as_str().unwrap());
    many.assert_laid(&source);
    let releases = reports[1..].iter().map(|report| node.start(&["release", report["lease"].as_str().unwrap()]));
    let releases: Vec<Running> = releases.collect();
    releases.into_iter().for_each(|running| drop(running.wait().ok()));
    many.assert_laid(&source);
    node.run(&["release", reports[0]["lease"].as_str().unwrap()]).ok();
    assert!(!source.exists());
}

#[test]
fn a_command_is_answered_while_another_prepares() {
    let hub = slow();
    let node = Node::new(&hub);
    let mut first = started(&node, &hub, &node.job("job", resource()), "root");
    let resources = node.run(&["resources", "--json"]).ok().json;
    assert!(resources["partial_bytes"].as_u64().is_some(), "{resources}");
    let verified = node.run(&["verify", "--json"]).ok().json;
    assert_eq!(verified["damaged"], json!([]));
    node.run(&["gc"]).ok();
    assert!(first.is_running());
    first.wait().ok();
    assert_laid(&node, "root");
}

#[test]
fn wrong_input_of_a_command_that_joined_has_the_exit_code_of_wrong_input() {
    let hub = slow();
    let node = Node::new(&hub);
    let first = started(&node, &hub, &node.job("job", resource()), "root");
    node.run(&["release", "0123456789abcdef"]).says(2, &["there is no lease 0123456789abcdef"]);
    node.run(&["prepare", &node.write("broken", "{\"ops\":[")]).says(2, &[]);
    first.wait().ok();
}

/// A command that joined goes on by itself after the first was ended in the middle.
fn goes_on_after(end: impl FnOnce(Running)) {
    let hub = slow();
    let node = Node::new(&hub);
    let job = node.job("job", resource());
    let first = started(&node, &hub, &job, "first");
    let second = joined(start(&node, &job, "second"));
    until("half is there", || hub.counts().content().body_bytes > files().bytes() / 2);
    end(first);
    second.wait().ok();
    assert_laid(&node, "second");
    assert_eq!(recorded(&node), files().bytes());
}

#[test]
fn a_command_that_joined_goes_on_by_itself_when_the_first_is_killed() {
    goes_on_after(|first| drop(first.kill()));
}

#[test]
fn a_command_that_joined_goes_on_by_itself_when_the_first_is_interrupted() {
    goes_on_after(|first| {
        first.signal(Signal::INT);
        first.wait().says(1, &["stopped"]);
    });
}

#[test]
fn a_command_that_joined_goes_on_by_itself_when_the_first_is_done() {
    let hub = slow();
    hub.publish(Repo::model("org/small").at("main", Files::of_sizes([("s.bin", 3 * MIB)]).tree())).unwrap();
    let node = Node::new(&hub);
    let small = node.job("small", json!([{"type": "HF", "repo": "org/small", "target": "/data"}]));
    let first = started(&node, &hub, &small, "first");
    let second = joined(start(&node, &node.job("job", resource()), "second"));
    first.wait().ok();
    second.wait().ok();
    assert_laid(&node, "second");
    assert_eq!(recorded(&node), files().bytes() + 3 * MIB);
}

#[test]
fn a_killed_command_that_had_joined_leaves_the_first_at_work() {
    let hub = slow();
    let node = Node::new(&hub);
    let job = node.job("job", resource());
    let first = started(&node, &hub, &job, "first");
    joined(start(&node, &job, "second")).kill();
    first.wait().ok();
    assert_laid(&node, "first");
    assert_eq!(hub.counts().content().body_bytes, files().bytes());
}

#[test]
fn a_holder_that_does_not_answer_is_named_within_seconds() {
    let node = Node::of_endpoint("http://127.0.0.1:9");
    node.run(&["resources"]).ok();
    let lock = File::options().write(true).open(node.home().join("lock")).unwrap();
    lock.try_lock().unwrap();
    std::fs::write(node.home().join("lock"), "someone else (process 7)\n").unwrap();
    let started = Instant::now();
    let refused = node.run(&["resources"]);
    assert!(started.elapsed() < Duration::from_secs(30));
    refused.says(1, &[node.home().to_str().unwrap(), "someone else (process 7)", "does not answer"]);
    // Nor does one that listens and says nothing hold a command up for ever.
    let _ = std::fs::remove_file(node.home().join("socket"));
    let _deaf = UnixListener::bind(node.home().join("socket")).unwrap();
    let started = Instant::now();
    let refused = node.run(&["resources"]);
    assert!(started.elapsed() < Duration::from_secs(30));
    refused.says(1, &["someone else (process 7)", "does not answer"]);
    drop(lock);
    node.run(&["resources"]).ok();
}

#[test]
fn a_socket_that_a_crash_left_is_no_obstacle() {
    let hub = slow();
    let node = Node::new(&hub);
    node.run(&["resources"]).ok();
    let _ = std::fs::remove_file(node.home().join("socket"));
    drop(UnixListener::bind(node.home().join("socket")).unwrap());
    assert!(node.home().join("socket").exists());
    let first = started(&node, &hub, &node.job("job", resource()), "root");
    node.run(&["resources"]).ok();
    first.wait().ok();
    assert_laid(&node, "root");
}

#[test]
fn a_home_with_a_path_too_long_for_a_socket_can_be_joined_like_any_other() {
    let hub = slow();
    let node = Node::new(&hub);
    let home = (0..12).fold(node.folder().to_owned(), |path, _| path.join("a-folder-with-a-long-name"));
    assert!(home.as_os_str().len() > 300);
    let node = node.at(home);
    let job = node.job("job", resource());
    let first = started(&node, &hub, &job, "first");
    let second = joined(start(&node, &job, "second"));
    first.wait().ok();
    second.wait().ok();
    assert_laid(&node, "first");
    assert_laid(&node, "second");
    assert_eq!(hub.counts().content().body_bytes, files().bytes());
}
