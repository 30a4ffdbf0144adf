//! Private content opens to those who show their access, and secrets show nowhere.

use std::path::Path;

use larder_harness::counts::Exchange;
use larder_harness::faults::{Fault, Rule};
use larder_harness::hub::{HubBuilder, HubServer, Lie, Repo, Tree};
use larder_harness::proxy::Proxy;
use larder_harness::servers::VIRTUAL_HOST_DOMAIN;
use serde_json::{Value, json};

use crate::bucket_origin::seaweed;
use crate::crash::recorded;
use crate::files::{Files, MIB, names};
use crate::node::{Finished, Node, until};
use crate::trees::assert_kept;

/// The token that opens everything, and one that opens nothing but is no forgery.
const TOKEN: &str = "hf_thetokenthatopensall";
const OTHER_TOKEN: &str = "hf_thetokenthatopensnone";

fn secret_files() -> Files {
    Files::of_sizes([("model.safetensors", 3 * MIB + 5), ("weights.bin", MIB), ("config.json", 900), ("sub/vocab.txt", 70_000)])
}

/// A hub with the same files in a private, a gated and a public repository.
fn hub() -> HubServer {
    hub_of(HubBuilder::new())
}

fn hub_of(builder: HubBuilder) -> HubServer {
    let repo = |id| Repo::model(id).at("main", secret_files().tree());
    let repos = builder.repo(repo("org/private").private()).repo(repo("org/gated").gated()).repo(repo("org/public"));
    repos.token(TOKEN).token_without_access(OTHER_TOKEN).start().unwrap()
}

fn of(repo: &str) -> Value {
    json!([{"type": "HF", "repo": repo, "target": "/data"}])
}

fn with_token(repo: &str, token: &str) -> Value {
    json!([{"type": "HF", "repo": repo, "target": "/data", "accessToken": token}])
}

/// The names of blobs that anyone may have, and of those that are private.
fn kept(node: &Node) -> (usize, usize) {
    (names(&node.home().join("blobs")).len(), names(&node.home().join("private")).len())
}

fn content(hub: &HubServer) -> Vec<Exchange> {
    hub.counts().snapshot().requests.into_iter().filter(|exchange| exchange.content).collect()
}

/// Nothing of a job that failed is laid.
#[track_caller]
fn assert_nothing_in(root: &Path) {
    assert_eq!(names(root), Vec::<String>::new());
}

#[test]
fn private_content_is_for_those_who_show_their_own_access() {
    let (hub, files) = (hub(), secret_files());
    for repo in ["org/private", "org/gated"] {
        let node = Node::new(&hub);
        let first = node.prepare(with_token(repo, TOKEN), "first").ready();
        assert_eq!(first["totals"]["from"]["origin"], files.bytes());
        files.assert_laid(&node.folder().join("first/data"));
        assert_eq!(kept(&node), (0, 4));

        for (number, strange) in [of(repo), with_token(repo, OTHER_TOKEN), with_token(repo, "hf_forged")].into_iter().enumerate() {
            let root = format!("strange{number}");
            node.prepare(strange, &root).says(1, &[repo]);
            assert_nothing_in(&node.folder().join(root));
        }

        hub.counts().reset();
        let again = node.prepare(with_token(repo, TOKEN), "again").ready();
        files.assert_laid(&node.folder().join("again/data"));
        assert_eq!(again["totals"]["from"], json!({"cache": files.bytes(), "peers": 0, "origin": 0}));
        // A byte of each file was read, to show that it may be: the small ones by the hub itself, with the token.
        let read = content(&hub);
        assert!(read.iter().map(|exchange| exchange.body_bytes).sum::<u64>() < 80_000, "{read:#?}");
        for path in files.0.keys() {
            assert_ne!(hub.counts().file(&format!("models/{repo}/{path}")).requests, 0, "{path}");
        }
        assert_eq!(recorded(&node), files.bytes());
    }
}

#[test]
fn a_fetch_under_way_is_shared_only_with_those_who_show_their_own_access() {
    let hub = hub_of(HubBuilder::new().rate(2 * MIB));
    let node = Node::new(&hub);
    let start = |name: &str, token: &str| {
        let root = node.folder().join(name).display().to_string();
        node.start(&["prepare", &node.job(name, with_token("org/gated", token)), "--root", &root])
    };
    // Anyone may list what is gated, so all three come to the same files at the same time.
    let mut first = start("first", TOKEN);
    until("content is on its way", || hub.counts().content().body_bytes > MIB || !first.is_running());
    let (stranger, friend) = (start("stranger", OTHER_TOKEN), start("friend", TOKEN));
    stranger.wait().says(1, &["org/gated"]);
    assert!(first.is_running(), "the stranger came too late");
    assert_nothing_in(&node.folder().join("stranger"));
    first.wait().ok();
    friend.wait().ok();
    secret_files().assert_laid(&node.folder().join("friend/data"));
    assert!(hub.counts().content().body_bytes < secret_files().bytes() + 80_000);
}

#[test]
fn a_token_of_the_environment_shows_access_as_one_of_the_job_does() {
    let (hub, files) = (hub(), secret_files());
    let node = Node::new(&hub).with("HF_TOKEN", TOKEN);
    node.prepare(of("org/private"), "root").ok();
    files.assert_laid(&node.folder().join("root/data"));
    assert_eq!(kept(&node), (0, 4));
    node.with("HF_TOKEN", "").prepare(of("org/private"), "strange").says(1, &["org/private"]);
}

#[test]
fn a_digest_that_someone_elses_listing_claims_opens_nothing_private() {
    let (hub, files) = (hub(), secret_files());
    let node = Node::new(&hub);
    node.prepare(with_token("org/private", TOKEN), "root").ok();
    let facts = hub.files("models/org/private", "main").into_iter().find(|file| file.path == "model.safetensors").unwrap();
    let other = vec![7; files.0["model.safetensors"].len()];
    let tree = Tree::new().file("model.safetensors", other).lie("model.safetensors", Lie::Sha256(facts.sha256.unwrap()));
    let tree = tree.lie("model.safetensors", Lie::Xet(facts.xet.unwrap()));
    hub.publish(Repo::model("org/liar").at("main", tree)).unwrap();
    for (number, liar) in [of("org/liar"), with_token("org/liar", TOKEN)].into_iter().enumerate() {
        let root = format!("liar{number}");
        node.prepare(liar, &root).says(1, &["org/liar", "model.safetensors"]);
        assert_nothing_in(&node.folder().join(root));
    }
    assert_eq!(kept(&node), (0, 4));
}

#[test]
fn private_content_is_private_still_after_the_index_is_lost() {
    let (hub, files) = (hub(), secret_files());
    let node = Node::new(&hub);
    node.prepare(with_token("org/private", TOKEN), "root").ok();
    std::fs::remove_dir_all(node.home().join("index")).unwrap();
    node.prepare(of("org/private"), "strange").says(1, &["org/private"]);
    hub.counts().reset();
    // The same bytes are public here: they are fetched as such, and not taken from what is private.
    let public = node.prepare(of("org/public"), "public").ready();
    assert_eq!(public["totals"]["from"]["origin"], files.bytes());
    std::fs::remove_dir_all(node.home().join("index")).unwrap();
    hub.counts().reset();
    let again = node.prepare(with_token("org/private", TOKEN), "again").ready();
    files.assert_laid(&node.folder().join("again/data"));
    assert_eq!(again["totals"]["from"]["origin"], 0);
    assert_eq!(kept(&node), (4, 4));
}

#[test]
fn a_token_for_what_is_public_is_not_sent_for_its_content_and_makes_nothing_private() {
    let (hub, files) = (hub(), secret_files());
    let node = Node::new(&hub);
    node.prepare(with_token("org/public", TOKEN), "root").ok();
    assert_eq!(kept(&node), (4, 0));
    assert!(!content(&hub).iter().any(|exchange| exchange.authorized));
    let without = node.prepare(of("org/public"), "without").ready();
    assert_eq!(without["totals"]["from"]["cache"], files.bytes());
}

#[test]
fn no_token_leaves_for_the_hosts_that_a_hub_redirects_to() {
    let hub = hub();
    let node = Node::new(&hub);
    node.prepare(with_token("org/private", TOKEN), "root").ok();
    let requests = hub.counts().snapshot().requests;
    let sides = |side| requests.iter().filter(move |exchange| exchange.side == side);
    assert!(sides(larder_harness::faults::Side::Cdn).all(|exchange| !exchange.authorized));
    assert_ne!(sides(larder_harness::faults::Side::Cdn).count(), 0);
    assert_ne!(sides(larder_harness::faults::Side::Hub).filter(|exchange| exchange.authorized).count(), 0);
}

#[test]
fn what_became_public_is_public_to_all() {
    let (hub, files) = (hub(), secret_files());
    let node = Node::new(&hub);
    node.prepare(with_token("org/private", TOKEN), "root").ok();
    hub.publish(Repo::model("org/private").at("main", files.tree())).unwrap();
    node.prepare(of("org/private"), "public").ok();
    files.assert_laid(&node.folder().join("public/data"));
    assert_eq!(kept(&node).0, 4);
}

#[test]
fn without_its_hub_pinned_public_content_is_enough_and_private_content_is_not() {
    let (hub, files) = (hub(), secret_files());
    let proxy = Proxy::start(hub.endpoint().strip_prefix("http://").unwrap().parse().unwrap()).unwrap();
    let node = Node::of_endpoint(proxy.endpoint());
    let pinned = |name: &str, token: Value| {
        let commit = hub.commit(&format!("models/{name}"), "main").unwrap();
        json!([{"type": "HF", "repo": name, "revision": commit, "target": "/data", "accessToken": token}])
    };
    let jobs = [pinned("org/public", json!(null)), pinned("org/private", json!(TOKEN))];
    for (number, job) in jobs.iter().enumerate() {
        node.prepare(job.clone(), &format!("root{number}")).ok();
    }
    for down in [Fault::Refuse, Fault::Status { code: 503, retry_after: None }] {
        proxy.faults().clear();
        proxy.faults().set(Rule::new("*", down));
        let [public, private] = jobs.clone();
        std::thread::scope(|scope| {
            scope.spawn(|| node.prepare(private, "down-private").says(1, &["org/private"]));
            node.prepare(public, "down-public").ok();
        });
        assert_nothing_in(&node.folder().join("down-private"));
        files.assert_laid(&node.folder().join("down-public/data"));
    }
}

#[test]
fn a_job_has_no_private_host_asked_but_those_of_the_operator() {
    seaweed().store().unwrap().put("pub", "private-hosts/x.bin", b"of this network").unwrap();
    let (hub, proxy) = (hub(), Proxy::start(seaweed().address()).unwrap());
    let port = proxy.address().port();
    let node = |hosts: &str| Node::new(&hub).with("LARDER_ORIGIN_PRIVATE_HOSTS", hosts);
    let keys = json!({"ACCESS_KEY_ID": "AKIA", "SECRET_ACCESS_KEY": "unused"});
    let job = |host: &str, iam: &Value| {
        let url = format!("{host}:{port}/pub/private-hosts/");
        json!([{"type": "S3", "url": url, "bucket": "pub", "target": "/data", "IAM": iam}])
    };
    for host in ["http://127.0.0.1", "http://127.1", "http://[::1]", "http://localhost", "https://10.0.0.1", "https://169.254.169.254"] {
        for iam in [&Value::Null, &keys] {
            for hosts in ["", "minio.lan"] {
                let finished = node(hosts).prepare(job(host, iam), "root");
                let said = finished.says(2, &["resources[0]", "url cannot be used", "no public address", "origin.private_hosts"]);
                assert!(!said.contains(host), "{host} may be the value of a setting: {said}");
            }
        }
    }
    assert_eq!(proxy.counts().snapshot().requests, []);
    node("127.0.0.1").prepare(job("http://127.0.0.1", &Value::Null), "root").ready();
    node("localhost").prepare(job("http://localhost", &Value::Null), "root").ready();
    // What the operator asks for himself needs no other word.
    let by_host = format!("http://pub.{VIRTUAL_HOST_DOMAIN}:{port}/private-hosts/");
    node("").run(&["pull", &by_host, "--json"]).ready();
    node("https://minio.lan").prepare(job("http://127.0.0.1", &Value::Null), "root").says(2, &["origin.private_hosts", "without schemes"]);
}

#[test]
fn what_is_set_on_the_command_line_shows_in_no_error() {
    let hub = hub();
    let node = Node::new(&hub);
    const LITERAL: &str = "%%ops.x.results.key%%";
    let hub_entry = json!({"type": "HF", "repo": "org/public", "target": "/data"});
    let bucket_entry = json!({"type": "S3", "url": "s3://bucket/x", "target": "/data",
        "IAM": {"ACCESS_KEY_ID": "a", "SECRET_ACCESS_KEY": "b", "REGION": ""}});
    for (entry, field, secret, named) in [
        (&hub_entry, "/type", "hush", LITERAL),
        (&hub_entry, "/repo", "hush/hush/hush", LITERAL),
        (&hub_entry, "/target", "hush", LITERAL),
        (&hub_entry, "/revision", &"hush".repeat(99), "revision"),
        (&hub_entry, "/files", "[\"../hush\"]", "files[0]"),
        (&bucket_entry, "/url", "hush", "url"),
        (&bucket_entry, "/url", "hush://h/x", "url"),
        (&bucket_entry, "/url", "https://hush:hush@h/x", "url"),
        (&bucket_entry, "/url", "https://h/hush#x", "url"),
        (&bucket_entry, "/url", "https://h/x?hush=hush", "url"),
        (&bucket_entry, "/url", "s3://hush hush/x", "url"),
        (&bucket_entry, "/bucket", "hush", "bucket"),
        (&bucket_entry, "/IAM/REGION", "hush", "IAM.REGION"),
        (&bucket_entry, "/IAM", "hush", "IAM"),
    ] {
        let mut entry = entry.clone();
        match field.rsplit_once('/') {
            Some((object, name)) => entry.pointer_mut(object).unwrap()[name] = json!(LITERAL),
            None => unreachable!(),
        }
        let (path, root) = (node.job("serve", json!([entry])), node.folder().join("root").display().to_string());
        for command in ["prepare", "plan"] {
            let finished = node.run(&[command, &path, "--json", "--root", &root, "--set", &format!("ops.x.results.key={secret}")]);
            finished.says(2, &["ops[0] \"serve\"", "resources[0]", named]);
            assert!(!format!("{finished:?}").contains("hush"), "{field}: {finished:?}");
        }
    }
    for (stray, said) in [
        (&["x.json", "--set", "ops.x.results.key", "hush"][..], "unexpected argument"),
        (&["x.json", "--set=ops.x.results.key", "hush"], "unexpected argument"),
        (&["x.json", "--set", "ops.x.results.key", "--hush"], "unexpected argument"),
        (&["--set", "ops.x.results.key", "hush"], "--set KEY=VALUE"),
    ] {
        let finished = node.run(&[&["prepare"], stray].concat());
        assert!(!finished.says(2, &[said]).contains("hush"), "{stray:?}: {finished:?}");
    }
    assert_eq!(hub.counts().snapshot().requests, []);
}

#[test]
fn no_secret_shows_in_any_output_log_or_file_of_the_store() {
    const KEY: &str = "AKIATHEKEYOFTHETEST";
    const SECRET_KEY: &str = "thesecretkeyofthetest";
    let hub = hub_of(HubBuilder::new().rate(6 * MIB));
    let node = Node::new(&hub).with("LARDER_LOG", "trace").with("HF_TOKEN", OTHER_TOKEN);
    let bucket = json!({"type": "S3", "url": format!("{}/bucket/prefix", hub.endpoint()), "target": "/s3",
        "IAM": {"REGION": "us-east-1", "ACCESS_KEY_ID": KEY, "SECRET_ACCESS_KEY": SECRET_KEY}});
    let jobs = [
        (0, with_token("org/private", TOKEN)),
        (0, with_token("org/gated", TOKEN)),
        (0, with_token("org/public", TOKEN)),
        (1, with_token("org/missing", TOKEN)),
        (1, of("org/private")),
        (1, json!([bucket])),
    ];
    let secrets = [TOKEN, OTHER_TOKEN, KEY, SECRET_KEY, "Signature=", "Policy="];
    let mut said = node.run(&["resources"]).ok();
    let mut listen = |finished: Finished| {
        said.stdout += &finished.stdout;
        said.stderr += &finished.stderr;
    };
    for (number, (code, job)) in jobs.into_iter().enumerate() {
        let (path, root) = (node.job(&format!("job{number}"), job), node.folder().join(format!("root{number}")));
        let run = |command: &'static str| node.start(&[command, &path, "--root", root.to_str().unwrap()]);
        // The second joins the first, and both go through the socket's messages.
        let (first, second, plan) = (run("prepare"), run("prepare"), run("plan"));
        for (code, finished) in [(code, first.wait()), (code, second.wait()), (0, plan.wait())] {
            assert_eq!(finished.code, Some(code), "job {number}: {}", finished.stderr);
            listen(finished);
        }
    }
    for command in ["resources", "verify", "gc"] {
        listen(node.run(&[command]).ok());
    }
    assert!(said.stderr.contains("TRACE") || said.stderr.contains("DEBUG"), "{}", said.stderr);
    assert_kept(&node, &said, &secrets);
}
