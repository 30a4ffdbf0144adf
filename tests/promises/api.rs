//! The HTTP API of a daemon: what it promises scripts, and what it refuses.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{SyncSender, sync_channel};

use larder_harness::hub::HubServer;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::daemon::{end, files, run};
use crate::files::{Files, MIB, names, resource};
use crate::node::{Node, Running, until};

/// What the API answered.
#[derive(Debug)]
pub(crate) struct Answer {
    status: u16,
    pub(crate) text: String,
    json: Value,
}

impl Answer {
    /// The document of an answer that has this status.
    #[track_caller]
    pub(crate) fn of(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.text);
        self.json
    }

    /// The message of a refusal with this status, which holds `words`.
    #[track_caller]
    fn refuses(self, status: u16, words: &str) {
        let message = self.of(status)["error"].as_str().unwrap_or_default().to_owned();
        assert!(message.contains(words), "{words:?} is not in: {message}");
    }
}

/// Sends a request and reads the answer to its end.
fn exchange(mut stream: impl Read + Write, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
    // In this version of HTTP an answer has no length but its end.
    let mut request = format!("{method} {path} HTTP/1.0\r\nContent-Length: {}\r\n", body.len());
    headers.iter().for_each(|(name, value)| request.push_str(&format!("{name}: {value}\r\n")));
    stream.write_all(format!("{request}\r\n{body}").as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, text) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{answer:?}"));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_else(|| panic!("{head:?}"));
    Answer { status, text: text.to_owned(), json: serde_json::from_str(text).unwrap_or_default() }
}

/// Asks at the store's socket.
fn ask(node: &Node, method: &str, path: &str, body: &str) -> Answer {
    exchange(UnixStream::connect(node.home().join("socket")).unwrap(), method, path, &[], body)
}

/// Asks for something at the store's socket.
pub(crate) fn get(node: &Node, path: &str) -> Answer {
    ask(node, "GET", path, "")
}

/// A definition with one op, `serve`, that needs `resources`.
fn definition(resources: &Value) -> Value {
    crate::node::definition(&[("serve", resources.clone())])
}

/// Submits a job that is laid below the folder `root` of the node's, and gives its id.
#[track_caller]
fn submit(node: &Node, root: &str) -> String {
    let request = json!({"definition": definition(&resource()), "root": node.folder().join(root), "name": root});
    let id = ask(node, "POST", "/v1/jobs", &request.to_string()).of(202)["id"].as_str().unwrap().to_owned();
    assert!(!id.is_empty());
    id
}

/// The events of a job, to the last: names and data.
fn events(node: &Node, id: &str) -> Vec<(String, Value)> {
    events_of(get(node, &format!("/v1/jobs/{id}/events")))
}

/// A stream of which the first byte is waited for, and told of.
struct Heralded(UnixStream, Option<SyncSender<()>>);

impl Read for Heralded {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.0.read(buffer)?;
        self.1.take().into_iter().for_each(|herald| herald.send(()).unwrap());
        Ok(count)
    }
}

impl Write for Heralded {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.0.flush()
    }
}

fn events_of(answer: Answer) -> Vec<(String, Value)> {
    assert_eq!(answer.status, 200, "{}", answer.text);
    let event = |block: &str| {
        let field = |name: &str| block.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        Some((field("event:")?.to_owned(), serde_json::from_str(field("data:")?).unwrap()))
    };
    answer.text.split("\n\n").filter_map(event).collect()
}

fn on_its_way(hub: &HubServer) {
    until("content is on its way", || hub.counts().content().body_bytes > MIB);
}

#[test]
fn a_job_of_the_api_tells_of_its_progress_and_is_laid() {
    let hub = files().hub(20 * MIB);
    let node = Node::new(&hub);
    let daemon = run(&node, &[]);
    let id = submit(&node, "root");
    let events = events(&node, &id);
    let ((last, report), progress) = events.split_last().unwrap();
    assert_eq!(last, "ready", "{events:?}");
    assert!(progress.len() > 2 && progress.iter().all(|(name, _)| name == "progress"), "{events:?}");
    assert_eq!(progress.last().unwrap().1["resources"][0]["phase"], "complete");
    assert_eq!(report["totals"]["bytes"], files().bytes());
    files().assert_laid(&node.folder().join("root/data"));
    let job = get(&node, &format!("/v1/jobs/{id}")).of(200);
    assert_eq!((&job["state"], &job["name"], &job["report"]), (&json!("ready"), &json!("root"), report));
    let jobs = get(&node, "/v1/jobs").of(200);
    assert_eq!((jobs["jobs"].as_array().unwrap().len(), &jobs["jobs"][0]["id"]), (1, &json!(id)));
    // Who asks later hears how it ended.
    let again = crate::api::events(&node, &id);
    assert_eq!(again.last().unwrap().0, "ready");
    let lease = report["lease"].as_str().unwrap();
    assert_eq!(get(&node, "/v1/resources").of(200)["leases"][0]["lease"], lease);
    assert_eq!(ask(&node, "POST", &format!("/v1/leases/{lease}/release"), "").of(200)["files"], 3);
    assert_eq!(names(&node.folder().join("root")), Vec::<String>::new());
    ask(&node, "POST", &format!("/v1/leases/{lease}/release"), "").refuses(404, "there is no lease");
    end(daemon, Signal::TERM);
}

#[test]
fn a_job_that_is_cancelled_ends_and_lays_nothing() {
    let hub = files().hub(2 * MIB);
    let node = Node::new(&hub);
    let daemon = run(&node, &[]);
    let id = submit(&node, "root");
    on_its_way(&hub);
    let told = std::thread::scope(|scope| {
        let watching = scope.spawn(|| events(&node, &id));
        let job = ask(&node, "DELETE", &format!("/v1/jobs/{id}"), "").of(200);
        assert_eq!(job["state"], "cancelled");
        watching.join().unwrap()
    });
    assert_eq!(told.last().unwrap().0, "cancelled", "{told:?}");
    ask(&node, "DELETE", &format!("/v1/jobs/{id}"), "").refuses(409, "it is cancelled");
    ask(&node, "DELETE", "/v1/jobs/0123", "").refuses(404, "no such job");
    assert_eq!(get(&node, "/v1/resources").of(200)["leases"], json!([]));
    assert!(!node.folder().join("root/data").exists());
    end(daemon, Signal::TERM);
}

#[test]
fn a_job_that_cannot_be_done_says_why_and_one_that_is_wrong_is_refused_at_once() {
    let hub = files().hub(400 * MIB);
    let node = Node::new(&hub).with("LARDER_LOG", "trace");
    let daemon = run(&node, &[]);
    let secret = "hf_secret0123456789";
    let missing = json!([{"type": "HF", "repo": "org/none", "target": "/data", "accessToken": secret}]);
    let request = json!({"definition": definition(&missing).to_string()}).to_string();
    let id = ask(&node, "POST", "/v1/jobs", &request).of(202)["id"].as_str().unwrap().to_owned();
    let told = events(&node, &id);
    let (last, data) = told.last().unwrap();
    assert_eq!(last, "failed");
    assert!(data["error"].as_str().unwrap().contains("org/none"), "{data}");
    let job = get(&node, &format!("/v1/jobs/{id}"));
    assert!(!format!("{job:?}{told:?}").contains(secret));
    assert_eq!(job.of(200)["state"], "failed");
    let wrong = definition(&json!([{"type": "HF", "repo": "../up", "target": "/data"}]));
    let cases = [
        (json!({"definition": wrong}).to_string(), "repo"),
        (json!({"definition": {}, "rooot": "/x"}).to_string(), "did you mean root?"),
        (json!({"definition": secret}).to_string(), ""),
        (format!("{{\"definition\": {{}}, \"name\": [{secret:?}]}}"), "JSON object"),
        (secret.to_owned(), "JSON object"),
        (json!({"definition": definition(&resource()), "market": "none"}).to_string(), "no market"),
        (json!({"definition": definition(&resource()), "patience": 0.5}).to_string(), "at least 1"),
    ];
    for (body, words) in cases {
        let answer = ask(&node, "POST", "/v1/jobs", &body);
        assert!(!answer.text.contains(secret), "{answer:?}");
        answer.refuses(400, words);
    }
    ask(&node, "PUT", "/v1/jobs", "").refuses(405, "cannot be done");
    get(&node, "/v2/jobs").refuses(404, "nothing at this path");
    assert_eq!(get(&node, "/v1/jobs").of(200)["jobs"].as_array().unwrap().len(), 1);
    let finished = end(daemon, Signal::TERM);
    assert!(!finished.stderr.contains(secret), "{}", finished.stderr);
}

#[test]
fn more_jobs_than_a_node_can_keep_in_mind_are_refused() {
    // So slow that no job ends while others are submitted, on a busy machine too; and small, since each job reserves its part of the disk.
    let hub = Files::of_sizes([("model.safetensors", MIB)]).hub(MIB / 256);
    let node = Node::new(&hub);
    let daemon = run(&node, &[]);
    let ids: Vec<String> = (0..256).map(|_| submit(&node, "root")).collect();
    let request = json!({"definition": definition(&resource())}).to_string();
    ask(&node, "POST", "/v1/jobs", &request).refuses(429, "256 jobs");
    ask(&node, "DELETE", &format!("/v1/jobs/{}", ids[7]), "").of(200);
    submit(&node, "other");
    ask(&node, "POST", "/v1/jobs", &request).refuses(429, "256 jobs");
    end(daemon, Signal::TERM);
}

/// Where a daemon listens over TCP, and the header that opens it.
fn door(node: &Node, daemon: &Running) -> (String, String) {
    let line = daemon.stderr().lines().find(|line| line.contains("http://")).unwrap().to_owned();
    let token = std::fs::read_to_string(node.home().join("api-token")).unwrap();
    (line.split_once("http://").unwrap().1.to_owned(), format!("Bearer {}", token.trim()))
}

#[test]
fn over_tcp_a_job_is_laid_below_the_configured_folders_and_through_no_link() {
    let hub = files().hub(400 * MIB);
    let node = Node::new(&hub).with("LARDER_API_LISTEN", "127.0.0.1:0");
    let (open, elsewhere) = (node.folder().join("open"), node.folder().join("elsewhere"));
    [&open, &elsewhere].into_iter().for_each(|folder| std::fs::create_dir_all(folder).unwrap());
    std::os::unix::fs::symlink(&elsewhere, open.join("link")).unwrap();
    let node = node.with("LARDER_API_ROOTS", &open.display().to_string());
    let daemon = run(&node, &[]);
    let (place, bearer) = door(&node, &daemon);
    let submit = |root: &std::path::Path| {
        let request = json!({"definition": definition(&resource()), "root": root}).to_string();
        let headers = [("Host", place.as_str()), ("Authorization", &bearer)];
        exchange(TcpStream::connect(&place).unwrap(), "POST", "/v1/jobs", &headers, &request)
    };
    let last = |root: &std::path::Path| {
        let id = submit(root).of(202)["id"].as_str().unwrap().to_owned();
        events(&node, &id).pop().unwrap()
    };
    for outside in [&elsewhere, &open.join("../elsewhere")] {
        submit(outside).refuses(400, "api.roots");
    }
    assert_eq!(last(&open.join("job")).0, "ready");
    assert!(open.join("job").read_dir().unwrap().next().is_some());
    let (name, data) = last(&open.join("link/job"));
    assert_eq!(name, "failed", "{data}");
    assert!(elsewhere.read_dir().unwrap().next().is_none(), "it was laid through a link");
    end(daemon, Signal::TERM);
}

#[test]
fn over_tcp_only_whoever_has_the_token_is_answered() {
    let hub = files().hub(400 * MIB);
    let node = Node::new(&hub).with("LARDER_API_LISTEN", "127.0.0.1:0");
    let daemon = run(&node, &[]);
    let (place, bearer) = door(&node, &daemon);
    assert_eq!(std::fs::metadata(node.home().join("api-token")).unwrap().permissions().mode() & 0o777, 0o600);
    let at = |host: &str, authorization: &str, method: &str, path: &str| {
        let headers = [("Host", host), ("Authorization", authorization)];
        exchange(TcpStream::connect(&place).unwrap(), method, path, &headers, "")
    };
    for path in ["/v1/jobs", "/v1/status", "/v1/resources", "/metrics", "/v1/nothing"] {
        for wrong in ["", "Bearer 0123", bearer.strip_prefix("Bearer ").unwrap()] {
            at(&place, wrong, "GET", path).refuses(401, "api-token");
        }
    }
    assert_eq!(at(&place, "", "GET", "/healthz").status, 200);
    assert_eq!(at("localhost", "", "GET", "/readyz").status, 200);
    for path in ["/v1/jobs", "/v1/status", "/v1/resources", "/v1/peers", "/v1/markets", "/v1/ledger", "/metrics"] {
        let answer = at(&place, &bearer, "GET", path);
        assert_eq!(answer.status, 200, "{path}: {}", answer.text);
        assert!(!answer.text.contains(&bearer["Bearer ".len()..]));
    }
    // A page that a browser shows can reach this machine under a name of its own.
    for path in ["/healthz", "/v1/status"] {
        at("evil.example", &bearer, "GET", path).refuses(403, "Host");
        let of_page = |origin| {
            let headers = [("Host", place.as_str()), ("Authorization", &bearer), ("Origin", origin)];
            exchange(TcpStream::connect(&place).unwrap(), "GET", path, &headers, "")
        };
        of_page("https://evil.example").refuses(403, "Origin");
        assert_eq!(of_page("http://localhost:3000").status, 200);
    }
    // Orders, which bring their own settings, are taken at the socket alone.
    at(&place, &bearer, "POST", "/v1/orders").refuses(404, "nothing at this path");
    let finished = end(daemon, Signal::TERM);
    assert!(!finished.stderr.contains(&bearer["Bearer ".len()..]));
    node.with("LARDER_API_LISTEN", "0.0.0.0:0").run(&["run"]).says(2, &["0.0.0.0:0", "no loopback address"]);
}

#[test]
fn what_watches_over_a_node_learns_that_it_is_well_and_what_it_holds() {
    let hub = files().hub(400 * MIB);
    let node = Node::new(&hub);
    let daemon = run(&node, &[]);
    get(&node, "/healthz").of(200);
    get(&node, "/readyz").of(200);
    let id = submit(&node, "root");
    assert_eq!(events(&node, &id).last().unwrap().0, "ready");
    let figures = get(&node, "/metrics").text;
    let figure = |name: &str| figures.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<f64>().ok());
    assert_eq!(figure("larder_store_bytes"), Some(files().bytes() as f64), "{figures}");
    assert_eq!(figure("larder_jobs{state=\"ready\"}"), Some(1.0));
    assert!(figure("process_resident_memory_bytes") > Some(1e6) && figure("process_cpu_seconds_total") > Some(0.0));
    end(daemon, Signal::TERM);
}

#[test]
fn a_daemon_that_is_told_to_end_does_so_at_once_and_loses_nothing_that_was_fetched() {
    let hub = files().hub(4 * MIB);
    let node = Node::new(&hub);
    let daemon = run(&node, &[]);
    let id = submit(&node, "of-the-api");
    on_its_way(&hub);
    let job = node.job("job", resource());
    let mut command = node.start(&["prepare", &job, "--root", node.folder().join("of-a-command").to_str().unwrap()]);
    until("it has joined", || command.stderr().contains(" of ") || !command.is_running());
    assert!(command.is_running(), "{}", command.stderr());
    let told = std::thread::scope(|scope| {
        let (herald, heard) = sync_channel(1);
        let stream = Heralded(UnixStream::connect(node.home().join("socket")).unwrap(), Some(herald));
        let watching = scope.spawn(|| events_of(exchange(stream, "GET", &format!("/v1/jobs/{id}/events"), &[], "")));
        heard.recv().unwrap();
        end(daemon, Signal::TERM);
        watching.join().unwrap()
    });
    let (last, data) = told.last().unwrap();
    assert_eq!(last, "failed", "{told:?}");
    assert!(data["error"].as_str().unwrap().contains("the node has ended"), "{data}");
    // The command goes on by itself.
    command.wait().ok();
    files().assert_laid(&node.folder().join("of-a-command/data"));
}
