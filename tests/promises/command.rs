//! The command as a person and a script meet it: what it writes, where, and how it ends.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use larder_harness::hub::{HubBuilder, HubServer, Repo, Tree};
use serde_json::json;

use crate::files::names;
use crate::node::{Finished, Node};

/// An address at which nobody answers.
const NOBODY: &str = "http://127.0.0.1:9";
/// The token that opens a private repository.
const TOKEN: &str = "hf_thetokenthatopens";
/// What clears a terminal.
const CLEAR: &str = "\u{1b}[2J";

fn small_hub() -> HubServer {
    let repo = |id| Repo::model(id).at("main", Tree::new().file("config.json", "{}"));
    HubBuilder::new().repo(repo("org/name")).repo(repo("org/private").private()).token(TOKEN).start().unwrap()
}

fn small_job(node: &Node) -> String {
    node.job("job", json!([{"type": "HF", "repo": "org/name", "target": "/data"}]))
}

/// What it wrote commands no terminal.
#[track_caller]
fn assert_plain(finished: &Finished) {
    for written in [&finished.stdout, &finished.stderr] {
        assert!(written.lines().all(|line| !line.contains(char::is_control)), "{written:?}");
    }
}

#[test]
fn a_definition_cannot_command_the_terminal_it_is_shown_on() {
    let node = Node::of_endpoint(NOBODY);
    let entry = |revision: &str, target: &str| json!([{"type": "HF", "repo": "org/name", "revision": revision, "target": target}]);
    let jobs = [
        (format!("op{CLEAR}"), entry("main", "/data")),
        ("serve".to_owned(), entry(&format!("main{CLEAR}"), "/data")),
        ("serve".to_owned(), entry("main", &format!("/{CLEAR}/../data"))),
    ];
    for (id, resources) in jobs {
        let job = node.job_of_ops("escapes", &[(&id, resources)]);
        for arguments in [&["plan", &job][..], &["plan", &job, "--json"], &["prepare", &job]] {
            let finished = node.run(arguments);
            finished.says(2, &["control character"]);
            assert_plain(&finished);
        }
    }
}

#[test]
fn a_name_on_the_command_line_cannot_command_the_terminal_either() {
    let node = Node::of_endpoint(NOBODY);
    let home = node.folder().join(format!("home{CLEAR}"));
    let node = node.at(home);
    let finished = node.run(&["plan", &format!("no{CLEAR}such.json")]);
    assert_eq!(finished.code, Some(2));
    assert!(finished.stderr.contains("no\\u001b[2Jsuch.json"), "{finished:?}");
    assert_plain(&finished);
    let finished = node.run(&["release", &format!("lease{CLEAR}"), "--json"]);
    assert_plain(&finished);
    let finished = node.run(&["init"]).ok();
    assert!(finished.stdout.contains("home\\u001b[2J"), "{finished:?}");
    assert_plain(&finished);
}

#[test]
fn output_that_nobody_reads_is_a_failure_and_no_panic() {
    let hub = small_hub();
    let node = Node::new(&hub).with("LARDER_LOG", "debug");
    let job = small_job(&node);
    let closed = || {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        Stdio::from(writer)
    };
    for arguments in
        [&["plan", &job][..], &["plan", &job, "--json"], &["prepare", &job], &["prepare", &job, "--json"], &["init"], &["resources"]]
    {
        let finished = node.command(arguments).stdout(closed()).output().unwrap();
        let stderr = String::from_utf8_lossy(&finished.stderr);
        assert_eq!(finished.status.code(), Some(1), "{arguments:?}: {stderr}");
        assert!(stderr.contains("error: standard output: "), "{arguments:?}: {stderr}");
        let neither = node.command(arguments).stdout(closed()).stderr(closed()).status().unwrap();
        assert_eq!(neither.code(), Some(1), "{arguments:?}");
        let ok = node.command(arguments).stdout(Stdio::null()).stderr(closed()).status().unwrap();
        assert_eq!(ok.code(), Some(0), "{arguments:?}");
    }
    let refused = node.command(&["prepare", "nowhere.json"]).stdout(closed()).stderr(closed()).status().unwrap();
    assert_eq!(refused.code(), Some(2));
}

/// A process that holds a store and answers each order with `answer`, which may end before the last word.
struct Holder {
    _lock: File,
    orders: Arc<AtomicUsize>,
}

impl Holder {
    fn start(node: &Node, answer: &'static str) -> Self {
        node.run(&["resources"]).ok();
        let lock = File::options().write(true).open(node.home().join("lock")).unwrap();
        lock.try_lock().unwrap();
        (&lock).write_all(b"someone else (process 7)\n").unwrap();
        lock.set_len(25).unwrap();
        let _ = std::fs::remove_file(node.home().join("socket"));
        let listener = UnixListener::bind(node.home().join("socket")).unwrap();
        let orders = Arc::<AtomicUsize>::default();
        let counted = orders.clone();
        std::thread::spawn(move || {
            for order in listener.incoming() {
                counted.fetch_add(1, Ordering::Relaxed);
                give(&mut order.unwrap(), answer);
            }
        });
        Self { _lock: lock, orders }
    }

    fn orders(&self) -> usize {
        self.orders.load(Ordering::Relaxed)
    }
}

/// Reads a request to the end of its JSON, and answers it.
fn give(stream: &mut UnixStream, answer: &str) {
    let mut request = Vec::new();
    let mut part = [0; 4096];
    while !request.ends_with(b"}") {
        let count = stream.read(&mut part).unwrap();
        assert_ne!(count, 0, "the request ends early");
        request.extend_from_slice(&part[..count]);
    }
    let _ = stream.write_all(answer.as_bytes());
}

#[test]
fn a_holder_that_drops_an_order_is_not_asked_without_end() {
    let node = Node::of_endpoint(NOBODY);
    let holder = Holder::start(&node, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{\"progress\":[]}\n");
    node.run(&["resources"]).says(1, &[node.home().to_str().unwrap(), "someone else (process 7)", "without a result"]);
    assert_eq!(holder.orders(), 2);
}

#[test]
fn a_holder_of_another_version_is_told_from_one_that_ended() {
    for answer in [
        "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{\"progress\":[]}\n{\"finished\":7}\n",
        "HTTP/1.1 404 Not Found\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 422 Unprocessable Entity\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
    ] {
        let node = Node::of_endpoint(NOBODY);
        let holder = Holder::start(&node, answer);
        node.run(&["resources"]).says(1, &[node.home().to_str().unwrap(), "someone else (process 7)", "another version"]);
        assert_eq!(holder.orders(), 1);
    }
}

#[test]
fn an_argument_that_is_no_text_is_taken_as_it_is() {
    let node = Node::of_endpoint(NOBODY);
    let home = node.folder().join(OsStr::from_bytes(b"home-\xff"));
    let mut argument = OsString::from("--home=");
    argument.push(&home);
    node.run(&[argument, OsString::from_vec(b"resources".to_vec())]).ok();
    assert!(home.join("lock").exists());
}

#[test]
fn times_that_no_clock_reaches_are_wrong_input() {
    for name in ["LARDER_STORE_KEEP_HOURS", "LARDER_STORE_LEASE_HOURS"] {
        let hub = small_hub();
        let node = Node::new(&hub);
        let job = small_job(&node);
        node.with(name, "5000000000000000").run(&["prepare", &job]).says(2, &["_hours must be at most 87600: ten years"]);
    }
    let hub = small_hub();
    let node = Node::new(&hub).with("LARDER_STORE_KEEP_HOURS", "87600").with("LARDER_STORE_LEASE_HOURS", "87600");
    node.run(&["prepare", &small_job(&node)]).ok();
    node.run(&["gc"]).ok();
}

#[test]
fn a_password_in_a_wrong_address_is_not_shown() {
    let node = Node::of_endpoint(NOBODY);
    for address in ["ftp://user:hidden@host/x", "http://user:hidden@host/x"] {
        let finished = node.run(&["pull", address, "--json"]);
        finished.says(2, &[]);
        assert!(!format!("{finished:?}").contains("hidden"), "{finished:?}");
    }
}

#[test]
fn half_a_pair_of_keys_is_an_error_only_where_they_are_needed() {
    let hub = small_hub();
    for (set, missing) in [("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"), ("AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID")] {
        let node = Node::new(&hub).with(set, "hidden");
        let finished = node.run(&["pull", "s3://bucket/prefix"]);
        let message = finished.says(2, &[&format!("{set} is set without {missing}")]);
        assert!(!message.contains("hidden"), "{message}");
        node.run(&["pull", "hf:org/name"]).ok();
        node.run(&["prepare", &small_job(&node)]).ok();
        node.run(&["gc", "--all"]).ok();
    }
}

#[test]
fn a_token_of_nothing_but_space_is_none() {
    let hub = small_hub();
    let node = Node::new(&hub).with("HF_TOKEN", " \n");
    node.run(&["pull", "hf:org/name"]).ok();
    node.run(&["pull", "hf:org/private"]).says(1, &["org/private"]);
    let hf_home = node.folder().join("huggingface");
    std::fs::create_dir(&hf_home).unwrap();
    std::fs::write(hf_home.join("token"), TOKEN).unwrap();
    node.run(&["pull", "hf:org/private"]).ok();
}

#[test]
fn what_is_pulled_is_said_to_be_laid_and_not_to_be_mounted() {
    let hub = small_hub();
    let node = Node::new(&hub);
    let to = node.folder().join("to").display().to_string();
    for arguments in [&["pull", "hf:org/name"][..], &["pull", "hf:org/name", "--to", &to]] {
        let finished = node.run(arguments).ok();
        let laid = finished.stdout.lines().find_map(|line| line.strip_prefix("laid in ")).unwrap_or_default();
        assert_eq!(names(laid.as_ref()), ["config.json"], "{finished:?}");
        assert!(!finished.stdout.contains("mount"), "{finished:?}");
    }
}
