//! A kill at any moment tears nothing, and loses nothing that was recorded.

use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use fastrand::Rng;
use larder_harness::faults::{Fault, Rule};
use rustix::process::Signal;
use serde_json::Value;

use crate::disk::Mount;
use crate::files::{Files, MIB, REPO, names, resource};
use crate::node::{Finished, Node, Running, rounds, until};

/// What the hub sends a second: a download takes a second or two.
const RATE: u64 = 40 * MIB;
/// Rounds that run side by side.
const SIDE_BY_SIDE: u64 = 4;

/// One large file, some that are a few chunks long, and many small ones.
fn mixed() -> Files {
    let middling = (1..=5).map(|size| (format!("parts/{size}.bin"), size * MIB - 77));
    let small = (0..50).map(|number| (format!("small/{number}.txt"), 1_000 + 397 * number));
    Files::of_sizes(middling.chain(small).chain([("model.safetensors".to_owned(), 48 * MIB + 12_345)]))
}

fn many(count: u64) -> Files {
    Files::of_sizes((0..count).map(|number| (format!("d{:03}/f{number}.txt", number / 200), 300 + number % 700)))
}

/// What `larder verify` says is recorded, after which nothing may be damaged.
#[track_caller]
pub(crate) fn recorded(node: &Node) -> u64 {
    let verified = node.run(&["verify", "--json"]).ok().json;
    assert_eq!(verified["damaged"], serde_json::json!([]), "{verified}");
    number(&verified["bytes"]) + number(&verified["partial_bytes"])
}

#[track_caller]
fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("{value} is no number"))
}

/// Runs rounds side by side, each with a seed of its own.
fn in_rounds(count: u64, round: impl Fn(u64) + Sync) {
    let first = fastrand::u64(..1 << 32);
    std::thread::scope(|scope| {
        for lane in 0..SIDE_BY_SIDE.min(count) {
            let round = &round;
            scope.spawn(move || {
                for number in (lane..count).step_by(SIDE_BY_SIDE as usize) {
                    eprintln!("round {number} has seed {}", first + number);
                    round(first + number);
                }
            });
        }
    });
}

fn prepare(node: &Node, job: &str, root: &Path) -> Running {
    node.start(&["prepare", job, "--json", "--root", root.to_str().unwrap()])
}

#[test]
fn a_kill_at_any_moment_of_a_download_tears_nothing_and_no_recorded_chunk_is_fetched_again() {
    let files = mixed();
    in_rounds(rounds(20), |seed| {
        let mut random = Rng::with_seed(seed);
        let hub = files.hub(RATE);
        let node = Node::new(&hub);
        let (job, root) = (node.job("job", resource()), node.folder().join("root"));
        // One in six comes when all bytes have been sent: while files are sealed and laid.
        let moment = random.u64(0..files.bytes() * 6 / 5).min(files.bytes());
        let after = random.u64(0..if moment < files.bytes() { 30 } else { 300 });
        let mut running = prepare(&node, &job, &root);
        until("the moment of the kill", || hub.counts().content().body_bytes >= moment || !running.is_running());
        sleep(Duration::from_millis(after));
        running.kill();
        assert_eq!(files.torn(&root.join("data")), Vec::<String>::new(), "seed {seed}");
        let recorded = recorded(&node);
        let before = hub.counts().content().body_bytes;
        hub.counts().reset();
        let from = prepare(&node, &job, &root).wait().ready()["totals"]["from"].clone();
        let fetched = hub.counts().content().body_bytes;
        files.assert_laid(&root.join("data"));
        let missing = files.bytes() - recorded;
        assert!(fetched <= missing, "seed {seed}: {fetched} bytes were fetched, and only {missing} were missing after {before} bytes");
        assert_eq!(number(&from["cache"]) + number(&from["origin"]), files.bytes());
        assert_eq!(self::recorded(&node), files.bytes(), "seed {seed}");
    });
}

#[test]
fn what_was_recorded_before_a_kill_is_recorded_after_it() {
    let files = Files::of_sizes([("model.bin", 48 * MIB)]);
    let hub = files.hub(400 * MIB);
    hub.faults().set(Rule::new(&format!("{REPO}/*"), Fault::Stall { after: 3 * MIB }));
    let node = Node::new(&hub);
    let running = node.start(&["prepare", &node.job("job", resource())]);
    let held = || node.run(&["resources", "--json"]).ok().json["partial_bytes"].as_u64().unwrap();
    let sent = || hub.counts().content().body_bytes;
    let mut before = 0;
    until("all that comes is recorded", || {
        sleep(Duration::from_millis(400));
        let stalled = before == sent() && before >= 6 * MIB;
        before = sent();
        // A file system may need a block or two of its own for a file with holes.
        stalled && (before..before + 64 * 1024).contains(&held())
    });
    running.kill();
    assert_eq!(recorded(&node), before);
}

/// Watches a folder until `count` files are in it, and kills the command then.
fn kill_at(mut running: Running, folder: &Path, reached: impl Fn(usize) -> bool) -> Finished {
    until("the moment of the kill", || reached(names(folder).len()) || !running.is_running());
    running.kill()
}

#[test]
fn a_kill_while_files_are_laid_or_taken_back_tears_none_and_the_next_run_ends_it() {
    // In deep runs as many as a large repository of small files has.
    let files = many(if rounds(1) > 1 { 5_000 } else { 2_000 });
    let hub = files.hub(400 * MIB);
    let node = Node::new(&hub);
    let job = node.job("job", resource());
    node.run(&["prepare", &job]).ok();
    hub.counts().reset();
    let mount = Mount::tmpfs(256 * MIB);
    for round in 0..rounds(2) {
        let seed = fastrand::u64(..1 << 32);
        eprintln!("round {round} has seed {seed}");
        let mut random = Rng::with_seed(seed);
        // On another disk files are copied: that is where one could be torn.
        let disk = mount.as_ref().filter(|_| round % 2 == 1).map_or(node.folder(), Mount::path);
        let root = disk.join(format!("root{round}"));
        let laid = random.usize(0..files.0.len());
        kill_at(prepare(&node, &job, &root), &root, |count| count >= laid);
        assert_eq!(files.torn(&root.join("data")), Vec::<String>::new(), "seed {seed}");
        let done = prepare(&node, &job, &root).wait().ok();
        files.assert_laid(&root.join("data"));

        let lease = done.json["lease"].as_str().unwrap();
        let left = random.usize(0..files.0.len());
        kill_at(node.start(&["release", lease]), &root, |count| count <= left);
        assert_eq!(files.torn(&root.join("data")), Vec::<String>::new(), "seed {seed}");
        release_all(&node, &root);
        assert_eq!(names(&root), Vec::<String>::new(), "seed {seed}");
        assert_eq!(recorded(&node), files.bytes(), "seed {seed}");
    }
    assert_eq!(hub.counts().content().requests, 0);
}

/// Releases the leases on what is laid below `root`.
fn release_all(node: &Node, root: &Path) {
    let leases = node.run(&["resources", "--json"]).ok().json["leases"].clone();
    for lease in leases.as_array().unwrap() {
        if lease["trees"].as_array().unwrap().iter().any(|tree| Path::new(tree.as_str().unwrap()).starts_with(root)) {
            node.run(&["release", lease["lease"].as_str().unwrap()]).ok();
        }
    }
}

#[test]
fn a_kill_while_blobs_are_removed_leaves_no_torn_blob() {
    let files = many(600);
    let hub = files.hub(400 * MIB);
    let node = Node::new(&hub).with("LARDER_STORE_KEEP_HOURS", "0");
    let (job, root) = (node.job("job", resource()), node.folder().join("root"));
    let blobs = node.home().join("blobs");
    for round in 0..rounds(2) {
        let seed = fastrand::u64(..1 << 32);
        eprintln!("round {round} has seed {seed}");
        let done = prepare(&node, &job, &root).wait().ok();
        node.run(&["release", done.json["lease"].as_str().unwrap()]).ok();
        let left = Rng::with_seed(seed).usize(0..files.0.len());
        kill_at(node.start(&["gc", "--all"]), &blobs, |count| count <= left);
        assert_eq!(
            recorded(&node),
            names(&blobs).iter().map(|name| blobs.join(name).metadata().unwrap().len()).sum::<u64>(),
            "seed {seed}"
        );
        prepare(&node, &job, &root).wait().ok();
        files.assert_laid(&root.join("data"));
        release_all(&node, &root);
    }
    node.run(&["gc", "--all"]).ok();
    assert_eq!(recorded(&node), 0);
    assert_eq!(names(&blobs), Vec::<String>::new());
}

fn is_resumable_after(signal: Signal) {
    let files = mixed();
    let hub = files.hub(RATE);
    let node = Node::new(&hub);
    let (job, root) = (node.job("job", resource()), node.folder().join("root"));
    let running = prepare(&node, &job, &root);
    until("half of it is there", || hub.counts().content().body_bytes >= files.bytes() / 2);
    running.signal(signal);
    running.wait().says(1, &["stopped", "what was fetched is kept"]);
    assert_eq!(files.torn(&root.join("data")), Vec::<String>::new());
    let recorded = recorded(&node);
    assert!(recorded > 0);
    hub.counts().reset();
    prepare(&node, &job, &root).wait().ok();
    files.assert_laid(&root.join("data"));
    assert!(hub.counts().content().body_bytes <= files.bytes() - recorded);
}

#[test]
fn ctrl_c_leaves_a_state_that_the_same_command_goes_on_from() {
    is_resumable_after(Signal::INT);
}

#[test]
fn a_request_to_terminate_leaves_a_state_that_the_same_command_goes_on_from() {
    is_resumable_after(Signal::TERM);
}
