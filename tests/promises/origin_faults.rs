//! Origins that fail, deny, lie or break off: what can pass is got over, and what cannot is named and leaves nothing.

use larder_harness::faults::{Fault, Rule, Side};
use larder_harness::hub::{HubBuilder, HubServer, Lie, Repo, Tree};
use larder_harness::proxy::Proxy;
use larder_harness::servers::SeaweedFs;
use serde_json::{Value, json};

use crate::bucket_origin::seaweed;
use crate::node::{Finished, Node, until};
use crate::trees::{assert_kept, blob_sizes, files_below, noise};

const MIB: usize = 1024 * 1024;
const CHUNK: u64 = 256 * 1024;
const TOKEN: &str = "hf_thetokenofthetest";
const STRANGER: &str = "hf_atokenwithoutaccess";
const BIG: &str = "models/org/name/model.safetensors";

/// A model of one large file, cut into many reads by [`careful`], and one small file.
struct Model {
    big: Vec<u8>,
    small: Vec<u8>,
}

impl Model {
    fn new() -> Self {
        Self { big: noise(5 * MIB + 77, 7), small: noise(3_000, 8) }
    }

    fn tree(&self) -> Tree {
        Tree::new().file("model.safetensors", self.big.clone()).file("config.json", self.small.clone())
    }

    fn hub(&self) -> HubServer {
        self.hub_of(HubBuilder::new())
    }

    fn hub_of(&self, builder: HubBuilder) -> HubServer {
        builder.repo(Repo::model("org/name").at("main", self.tree())).token(TOKEN).token_without_access(STRANGER).start().unwrap()
    }

    #[track_caller]
    fn assert_laid(&self, node: &Node, root: &str) {
        let files = files_below(node.folder().join(root).join("data"));
        assert!(files.len() == 2 && files["model.safetensors"] == self.big && files["config.json"] == self.small, "{:?}", files.keys());
    }
}

fn model_at_data() -> Value {
    json!([{"type": "HF", "repo": "org/name", "target": "/data"}])
}

/// A node that reads a large file in many ranges and waits half a second for what stalls.
fn careful(node: Node) -> Node {
    node.with("LARDER_ORIGIN_STALL_MS", "500").with("LARDER_ORIGIN_RANGE_BYTES", "1048576").with("LARDER_ORIGIN_READS_PER_FILE", "4")
}

/// It failed for its origin's sake, says so with all of `words`, and left neither a file in the target nor a secret anywhere.
#[track_caller]
fn assert_failed(node: &Node, finished: &Finished, words: &[&str]) {
    finished.says(1, words);
    let laid = files_below(node.folder().join("root"));
    assert!(laid.is_empty(), "something was laid: {:?}", laid.keys());
    assert_kept(node, finished, &[TOKEN, STRANGER, SeaweedFs::ADMIN.secret, SeaweedFs::READER.id, "Signature=", "Policy="]);
}

#[test]
fn what_a_hub_does_not_have_is_named() {
    let hub = Model::new().hub();
    let entry = |changes: Value| {
        let mut entry = model_at_data()[0].clone();
        entry.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        json!([entry])
    };
    for (changes, words) in [
        (json!({"repo": "org/other"}), ["models/org/other@main", "does not exist"]),
        (json!({"repo": "datasets/org/name"}), ["datasets/org/name@main", "does not exist"]),
        (json!({"revision": "v9"}), ["models/org/name@v9", "does not exist"]),
        (json!({"revision": "0123456789012345678901234567890123456789"}), ["models/org/name@0123456789", "does not exist"]),
        (json!({"files": ["config.json", "no/such.bin"]}), ["no/such.bin", "does not exist"]),
    ] {
        for token in [None, Some(TOKEN)] {
            let node = token.into_iter().fold(Node::new(&hub), |node, token| node.with("HF_TOKEN", token));
            let finished = node.prepare(entry(changes.clone()), "root");
            assert_failed(&node, &finished, &["ops[0] \"serve\", resources[0]", words[0], words[1]]);
        }
    }
    assert_eq!(hub.counts().content().requests, 0);
}

#[test]
fn who_may_not_read_is_told_what_is_missing() {
    let model = Model::new();
    let gated = Repo::model("org/gated").at("main", model.tree()).gated();
    let hub = model.hub_of(HubBuilder::new().repo(gated).repo(Repo::model("org/private").at("main", model.tree()).private()));
    for (repo, token, words) in [
        ("org/private", None, &["models/org/private@main", "does not exist, or it is private"][..]),
        ("org/private", Some("hf_nonsense"), &["models/org/private@main", "does not accept the token"]),
        ("org/private", Some(STRANGER), &["models/org/private@main", "does not exist"]),
        ("org/gated", None, &["models/org/gated", "is gated", "give the token of an account that has access"]),
        ("org/gated", Some(STRANGER), &["models/org/gated", "is gated", "ask for it on the repository's page"]),
    ] {
        let node = Node::new(&hub);
        let mut entry = json!({"type": "HF", "repo": repo, "target": "/data"});
        if let Some(token) = token {
            entry["accessToken"] = token.into();
        }
        let finished = node.prepare(json!([entry]), "root");
        assert_failed(&node, &finished, words);
        assert_kept(&node, &finished, &["hf_nonsense"]);
        assert_eq!(blob_sizes(&node).len(), 0);
    }
    assert_eq!(hub.counts().content().requests, 0);
    for (repo, token) in [("org/private", TOKEN), ("org/gated", TOKEN), ("org/name", "hf_nonsense")] {
        let node = Node::new(&hub).with("HF_TOKEN", token);
        let finished = node.prepare(json!([{"type": "HF", "repo": repo, "target": "/data"}]), "root");
        assert_kept(&node, &finished, &[token]);
        finished.ready();
        model.assert_laid(&node, "root");
    }
}

#[test]
fn a_token_goes_to_the_hub_only_and_not_for_what_is_public() {
    let model = Model::new();
    let hub = model.hub_of(HubBuilder::new().repo(Repo::model("org/gated").at("main", model.tree()).gated()));
    let node = Node::new(&hub).with("HF_TOKEN", TOKEN);
    node.prepare(model_at_data(), "public").ready();
    assert!(hub.counts().snapshot().requests.iter().all(|request| !request.authorized), "{:?}", hub.counts().snapshot().requests);
    node.prepare(json!([{"type": "HF", "repo": "org/gated", "target": "/data"}]), "gated").ready();
    let requests = hub.counts().snapshot().requests;
    assert!(requests.iter().any(|request| request.authorized && request.side == Side::Hub));
    assert!(requests.iter().all(|request| !request.authorized || request.side == Side::Hub), "{requests:?}");
    assert!(requests.iter().any(|request| request.content && request.side == Side::Cdn));
}

#[test]
fn what_a_bucket_does_not_have_or_give_is_named() {
    seaweed().store().unwrap().put("priv", "faults/x.txt", b"private").unwrap();
    let at = |path: &str| format!("{}/{path}", seaweed().endpoint());
    let iam = |id: &str, secret: &str| json!({"REGION": "", "ACCESS_KEY_ID": id, "SECRET_ACCESS_KEY": secret});
    let (reader, wrong) = (SeaweedFs::READER, "notthereaderssecret");
    for (entry, words) in [
        (
            json!({"url": at("nobucket/x/"), "bucket": "nobucket", "IAM": iam(SeaweedFs::ADMIN.id, SeaweedFs::ADMIN.secret)}),
            &["nobucket", "does not exist"][..],
        ),
        (json!({"url": at("pub/no/such/prefix/"), "bucket": "pub"}), &["pub/no/such/prefix/", "does not exist"]),
        (json!({"url": at("pub/"), "bucket": "pub", "files": ["no/such.bin"]}), &["no/such.bin", "does not exist"]),
        (json!({"url": at("priv/faults/"), "bucket": "priv"}), &["priv/faults/", "may not be read"]),
        (json!({"url": at("priv/faults/"), "IAM": iam(reader.id, wrong)}), &["priv/faults/", "may not be read"]),
        (json!({"url": at("priv/faults/"), "IAM": iam("AKIANOBODY", wrong)}), &["priv/faults/", "may not be read"]),
    ] {
        let node = Node::of_endpoint("http://127.0.0.1:9").with("LARDER_LOG", "debug");
        let mut entry = entry;
        (entry["type"], entry["target"]) = (json!("S3"), json!("/data"));
        let finished = node.prepare(json!([entry]), "root");
        assert_failed(&node, &finished, &[&["ops[0] \"serve\", resources[0]"], words].concat());
        assert_kept(&node, &finished, &[wrong, "AKIANOBODY"]);
        assert_eq!(blob_sizes(&node).len(), 0);
    }
    let node = Node::of_endpoint("http://127.0.0.1:9");
    let entry = json!({"type": "S3", "url": at("priv/faults/"), "target": "/data", "IAM": iam(reader.id, reader.secret)});
    node.prepare(json!([entry]), "root").ready();
    assert_eq!(files_below(node.folder().join("root/data"))["x.txt"], b"private");
}

#[test]
fn a_hub_that_errs_for_a_while_is_asked_again() {
    let model = Model::new();
    for (path, code) in [("/api/*", 500), ("/api/*", 503), ("models/org/name/*", 500), ("models/org/name/*", 502)] {
        let hub = model.hub();
        hub.faults().set(Rule::new(path, Fault::Status { code, retry_after: None }).times(3));
        let node = careful(Node::new(&hub));
        node.prepare(model_at_data(), "root").ready();
        model.assert_laid(&node, "root");
        assert_eq!(hub.faults().fired(), 3, "{path} {code}");
    }
}

#[test]
fn a_busy_origin_is_left_alone_for_as_long_as_it_asks() {
    let model = Model::new();
    // A 429 without Retry-After comes with `RateLimit: r=0;t=1`.
    for (path, code, retry_after) in [
        ("/api/*", 429, Some(2)),
        ("/api/*", 429, None),
        ("/api/*", 503, Some(2)),
        ("models/org/name/*", 429, Some(2)),
        (BIG, 503, Some(2)),
    ] {
        let hub = model.hub();
        hub.faults().set(Rule::new(path, Fault::Status { code, retry_after }).times(1));
        let node = careful(Node::new(&hub));
        let report = node.prepare(model_at_data(), "root").ready();
        model.assert_laid(&node, "root");
        assert_eq!(hub.faults().fired(), 1, "{path} {code}");
        assert!(report["elapsed_ms"].as_u64().unwrap() >= 2_000, "it did not wait as long as it was asked to: {path} {code}");
    }
}

#[test]
fn a_hub_that_never_recovers_is_given_up_by_name() {
    let hub = Model::new().hub();
    hub.faults().set(Rule::new("models/org/name/config.json", Fault::Status { code: 500, retry_after: None }));
    let node = Node::new(&hub);
    let finished = node.prepare(model_at_data(), "root");
    let host = hub.endpoint().trim_start_matches("http://");
    assert_failed(&node, &finished, &["resources[0]", "models/org/name/config.json", host, "500"]);
}

#[test]
fn a_read_that_breaks_off_loses_no_whole_chunk() {
    let model = Model::new();
    let breaks = 4;
    for fault in [Fault::Cut { percent: 40 }, Fault::Stall { after: 700_000 }] {
        let hub = model.hub();
        hub.faults().set(Rule::new(BIG, fault.clone()).on(Side::Cdn).times(breaks));
        let node = careful(Node::new(&hub));
        let report = node.prepare(model_at_data(), "root").ready();
        model.assert_laid(&node, "root");
        assert_eq!(hub.faults().fired(), u64::from(breaks), "{fault:?}");
        let (read, size) = (hub.counts().file(BIG).body_bytes, model.big.len() as u64);
        assert!(read <= size + u64::from(breaks) * CHUNK, "{read} of {size}: {fault:?}");
        assert_eq!(report["totals"]["from"]["origin"], size + model.small.len() as u64);
    }
}

#[test]
fn one_flipped_byte_is_found_and_the_file_read_again() {
    let model = Model::new();
    for (path, at) in [(BIG, 3_000_000), ("models/org/name/config.json", 17)] {
        let hub = model.hub();
        hub.faults().set(Rule::new(path, Fault::Flip { at }).times(1));
        let node = careful(Node::new(&hub));
        node.prepare(model_at_data(), "root").ready();
        model.assert_laid(&node, "root");
        assert_eq!(hub.faults().fired(), 1, "{path}");
    }
}

#[test]
fn bytes_that_never_match_reach_neither_target_nor_store() {
    let model = Model::new();
    for (path, at, digest) in [(BIG, 3_000_000, "sha256"), ("models/org/name/config.json", 17, "git-sha1")] {
        let hub = model.hub();
        hub.faults().set(Rule::new(path, Fault::Flip { at }));
        let node = careful(Node::new(&hub));
        let file = path.trim_start_matches("models/");
        let only = json!([{"type": "HF", "repo": "org/name", "target": "/data", "files": [file.trim_start_matches("org/name/")]}]);
        let finished = node.prepare(only.clone(), "root");
        let facts = hub.files("models/org/name", "main").into_iter().find(|facts| path.ends_with(&facts.path)).unwrap();
        let listed = facts.sha256.unwrap_or(facts.git_oid);
        assert_failed(&node, &finished, &["resources[0]", path, digest, &listed, "3 times"]);
        assert_eq!(blob_sizes(&node).len(), 0, "{path}");
        assert_eq!(files_below(node.home().join("partial")).len(), 0, "{path}");
        hub.faults().clear();
        node.prepare(only, "root").ready();
    }
}

#[test]
fn a_hub_that_ignores_ranges_is_read_whole() {
    let model = Model::new();
    let hub = model.hub();
    hub.faults().set(Rule::new("*", Fault::IgnoreRange));
    let node = careful(Node::new(&hub));
    node.prepare(model_at_data(), "root").ready();
    model.assert_laid(&node, "root");
    assert!(hub.faults().fired() > 0);
    assert!(
        hub.counts().file(BIG).requests <= 5,
        "of the first four none is of use, and then one reads the whole: {:?}",
        hub.counts().file(BIG)
    );
}

#[test]
fn a_listing_that_lies_about_a_size_or_a_digest_is_found_out() {
    let model = Model::new();
    let sha256 = "5".repeat(64);
    for (path, lie) in [
        ("model.safetensors", Lie::Size(model.big.len() as u64 - 1)),
        ("model.safetensors", Lie::Size(model.big.len() as u64 + 1)),
        ("model.safetensors", Lie::Size(10)),
        ("model.safetensors", Lie::Size(1 << 28)),
        ("model.safetensors", Lie::Sha256(sha256.clone())),
        ("model.safetensors", Lie::Xet(sha256.clone())),
        ("config.json", Lie::Size(model.small.len() as u64 - 1)),
        ("config.json", Lie::Size(model.small.len() as u64 + 1)),
        ("config.json", Lie::GitOid("5".repeat(40))),
    ] {
        let digest = !matches!(lie, Lie::Size(_));
        let repo = Repo::model("org/name").at("main", model.tree().lie(path, lie.clone()));
        let hub = HubBuilder::new().repo(repo).start().unwrap();
        let node = careful(Node::new(&hub));
        let finished = node.prepare(json!([{"type": "HF", "repo": "org/name", "target": "/data", "files": [path]}]), "root");
        // A Xet root is no more than a faster proof: where it is wrong, the sha256 decides.
        if matches!(lie, Lie::Xet(_)) {
            assert_eq!(finished.ready()["resources"][0]["proof"], json!({"sha256": 1}));
            continue;
        }
        assert_failed(&node, &finished, &[&format!("models/org/name/{path}"), if digest { "do not match" } else { "cannot be right" }]);
        assert_eq!(blob_sizes(&node).len(), 0, "{path} {lie:?}");
    }
}

#[test]
fn a_hub_that_sends_other_bytes_for_a_while_is_read_again() {
    let model = Model::new();
    let hub = model.hub();
    hub.faults().set(Rule::new(BIG, Fault::Rewrite { from: 2_000_000 }).times(2));
    let node = careful(Node::new(&hub));
    node.prepare(model_at_data(), "root").ready();
    model.assert_laid(&node, "root");
    assert_eq!(hub.faults().fired(), 2);
}

#[test]
fn an_object_that_changes_while_it_is_read_is_listed_anew() {
    let (old, new) = (noise(3 * MIB, 9), noise(3 * MIB, 10));
    seaweed().store().unwrap().put("pub", "faults-change/model.bin", &old).unwrap();
    let proxy = Proxy::start(seaweed().address()).unwrap();
    proxy.faults().set(Rule::new("*model.bin", Fault::Stall { after: 300_000 }));
    let node = careful(Node::of_endpoint("http://127.0.0.1:9"));
    let job = node.job(
        "serve",
        json!([{"type": "S3", "url": format!("{}/pub/faults-change/", proxy.endpoint()), "bucket": "pub", "target": "/data"}]),
    );
    let root = node.folder().join("root");
    let running = node.start(&["prepare", &job, "--json", "--root", &root.display().to_string()]);
    until("the object is being read", || proxy.counts().file("pub/faults-change/model.bin").body_bytes >= 300_000);
    seaweed().store().unwrap().put("pub", "faults-change/model.bin", &new).unwrap();
    proxy.faults().clear();
    let report = running.wait().ready();
    assert!(files_below(root.join("data"))["model.bin"] == new);
    assert_eq!(report["resources"][0]["proof"], json!({"md5": 1}));
}

#[test]
fn an_etag_that_its_bytes_never_match_is_no_digest_and_a_checksum_is_one() {
    let bytes = noise(6 * MIB, 11);
    seaweed().store().unwrap().put("pub", "faults-etag/model.bin", &bytes).unwrap();
    seaweed().store().unwrap().with_sha256().put_parts("pub", "faults-checksum/model.bin", &bytes, 5 * MIB as u64).unwrap();
    let proxy = Proxy::start(seaweed().address()).unwrap();
    let entry =
        |prefix: &str| json!([{"type": "S3", "url": format!("{}/pub/{prefix}/", proxy.endpoint()), "bucket": "pub", "target": "/data"}]);
    let node = Node::of_endpoint("http://127.0.0.1:9");
    proxy.faults().set(Rule::new("*model.bin", Fault::Flip { at: 5 }));
    let report = node.prepare(entry("faults-etag"), "etag").ready();
    assert_eq!(report["resources"][0]["proof"], json!({"none": 1}));
    let finished = node.prepare(entry("faults-checksum"), "root");
    assert_failed(&node, &finished, &["pub/faults-checksum/model.bin", "do not match the sha256-parts", "3 times"]);
    proxy.faults().clear();
    assert_eq!(node.prepare(entry("faults-checksum"), "root").ready()["resources"][0]["proof"], json!({"sha256-parts": 1}));
}

#[test]
fn redirects_in_circles_are_not_followed_for_ever() {
    for path in ["/api/*", "*model.safetensors", "*xet-bridge*", "*config.json"] {
        let hub = Model::new().hub();
        hub.faults().set(Rule::new(path, Fault::RedirectLoop));
        let node = Node::new(&hub);
        let finished = node.prepare(model_at_data(), "root");
        assert_failed(&node, &finished, &["resources[0]", "models/org/name", "redirects in circles"]);
        assert!(hub.faults().fired() < 40, "{path}: {}", hub.faults().fired());
    }
}

#[test]
fn a_signed_link_that_expires_on_the_way_is_asked_for_again() {
    let model = Model::new();
    let hub = model.hub_of(HubBuilder::new().url_seconds(1).rate(2 * MIB as u64));
    let node = careful(Node::new(&hub)).with("LARDER_ORIGIN_READS_PER_FILE", "1").with("LARDER_ORIGIN_STALL_MS", "5000");
    node.prepare(model_at_data(), "root").ready();
    model.assert_laid(&node, "root");
    let requests = hub.counts().snapshot().requests;
    assert!(requests.iter().any(|request| request.side == Side::Cdn && request.status == 403), "no link expired: {requests:?}");
    assert_eq!(hub.counts().file(BIG).body_bytes, model.big.len() as u64);
}

#[test]
fn a_wrong_length_is_never_taken_for_the_whole() {
    let model = Model::new();
    for (path, by) in [(BIG, -3), (BIG, 3), ("models/org/name/config.json", -3), ("models/org/name/config.json", 3)] {
        let hub = model.hub();
        hub.faults().set(Rule::new(path, Fault::Length { by }).times(1));
        let node = careful(Node::new(&hub));
        let finished = node.prepare(model_at_data(), "root");
        assert_eq!(hub.faults().fired(), 1);
        if finished.code == Some(0) {
            model.assert_laid(&node, "root");
        } else {
            assert_failed(&node, &finished, &[path, "bytes"]);
        }
    }
}
