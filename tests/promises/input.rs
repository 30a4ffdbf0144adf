//! Wrong input: what is refused says where and why, and nothing is written for it.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use larder_harness::faults::{Fault, Rule};
use larder_harness::hub::{HubBuilder, HubServer, Lie, Repo, Tree};
use larder_harness::proxy::Proxy;
use larder_harness::servers::{Keys, RcloneS3};
use serde_json::{Value, json};

use crate::bucket_origin::seaweed;
use crate::files::MIB;
use crate::node::{Finished, Node, rounds};
use crate::trees::{expected, files_below, noise};

/// How many small files a repository of the default run has.
const SMALL_FILES: u64 = 2_000;
/// How many in a long one: the most that Larder is made for.
const MANY_SMALL_FILES: u64 = 100_000;
/// The memory that a job may take for each of them.
const BYTES_A_FILE: u64 = 3 * 1024;

fn small_hub() -> HubServer {
    HubBuilder::new().repo(Repo::model("org/name").at("main", Tree::new().file("config.json", "{}"))).start().unwrap()
}

fn requests(hub: &HubServer) -> u64 {
    hub.counts().metadata().requests + hub.counts().content().requests
}

/// The command ended with `code` and all of `words`, with a document on standard output, and nothing lies under the root.
#[track_caller]
fn assert_refused(node: &Node, finished: &Finished, code: i32, words: &[&str]) {
    finished.says(code, words);
    assert!(finished.json.is_object(), "no document: {finished:?}");
    assert!(!node.folder().join("root").exists(), "something was laid: {:?}", files_below(node.folder().join("root")).keys());
}

/// `larder prepare` of a definition's text.
fn prepare_text(node: &Node, text: &str) -> Finished {
    node.prepare_file(&node.write("text", text), "root")
}

/// A definition whose only op has this entry first.
fn with_entry(entry: &Value) -> String {
    json!({"ops": [{"type": "container/run", "id": "serve", "args": {"image": "ubuntu", "resources": [entry]}}]}).to_string()
}

#[test]
fn a_definition_that_cannot_be_read_is_refused_before_anyone_is_asked() {
    let hub = small_hub();
    let node = Node::new(&hub);
    let whole = with_entry(&json!({"type": "HF", "repo": "org/name", "target": "/data"}));
    let truncated = &whole[..whole.len() / 2];
    for (text, words) in [
        ("", &["not JSON"][..]),
        (truncated, &["not JSON", "line 1"]),
        ("[]", &["ops"]),
        (r#"{"ops": 5}"#, &["ops"]),
        (r#"{"ops": [5]}"#, &["ops[0]"]),
        (r#"{"ops": [{"id": 7}]}"#, &["ops[0]", "id", "a number"]),
        (r#"{"ops": [{"id": "serve", "args": {"resources": {}}}]}"#, &["ops[0]", "serve", "resources"]),
        (r#"{"ops": [{"id": "serve", "args": {"resources": [5]}}]}"#, &["ops[0]", "serve", "resources[0]", "a number"]),
        (r#"{"ops": [{"id": "a"}, {"id": "a"}]}"#, &["ops[1]", "id"]),
        (r#"{"required_images": [], "required_remote_resources": []}"#, &["required resources"]),
    ] {
        assert_refused(&node, &prepare_text(&node, text), 2, words);
    }
    assert_eq!(requests(&hub), 0);
}

#[test]
fn a_wrong_entry_is_refused_with_its_op_its_place_and_its_field() {
    let hub = small_hub();
    let node = Node::new(&hub);
    for (entry, field, why) in [
        (json!({"type": "FTP", "target": "/data"}), "type", "HF, S3 and Ollama"),
        (json!({"repo": "org/name", "target": "/data"}), "type", "missing"),
        (json!({"type": "HF", "repo": 5, "target": "/data"}), "repo", "a number"),
        (json!({"type": "HF", "target": "/data"}), "repo", "missing"),
        (json!({"type": "HF", "repo": "https://huggingface.co/org/name", "target": "/data"}), "repo", "address"),
        (json!({"type": "HF", "repo": "../../etc", "target": "/data"}), "repo", "not the name"),
        (json!({"type": "HF", "repo": "%%global.variables.MODEL%%", "target": "/data"}), "repo", "--set global.variables.MODEL="),
        (json!({"type": "HF", "repo": "%%ops.other.results.name%%", "target": "/data"}), "repo", "--set ops.other.results.name="),
        (json!({"type": "HF", "repo": "org/name"}), "target", "missing"),
        (json!({"type": "HF", "repo": "org/name", "target": ["/data"]}), "target", "a list"),
        (json!({"type": "HF", "repo": "org/name", "target": "data"}), "target", "relative"),
        (json!({"type": "HF", "repo": "org/name", "target": "/../data"}), "target", "climbs"),
        (json!({"type": "HF", "repo": "org/name", "target": "/a/../../data"}), "target", "climbs"),
        (json!({"type": "HF", "repo": "org/name", "target": "/a/.."}), "target", "root"),
        (json!({"type": "HF", "repo": "org/name", "target": "/a\u{0}b"}), "target", "control"),
        (json!({"type": "HF", "repo": "org/name", "target": format!("/{}", "x".repeat(300))}), "target", "255"),
        (json!({"type": "HF", "repo": "org/name", "target": "/data", "files": "config.json,x"}), "files", "list"),
        (json!({"type": "HF", "repo": "org/name", "target": "/data", "files": [1]}), "files[0]", "a number"),
        (json!({"type": "HF", "repo": "org/name", "target": "/data", "files": ["a", "../x"]}), "files[1]", "'..'"),
        (json!({"type": "HF", "repo": "org/name", "target": "/data", "files": ["/etc/passwd"]}), "files[0]", "absolute"),
        (json!({"type": "S3", "target": "/data"}), "url", "missing"),
        (json!({"type": "S3", "url": "ftp://host/x", "target": "/data"}), "", "scheme"),
        (json!({"type": "S3", "url": "http://192.0.2.1/x", "target": "/data"}), "", "https"),
        (json!({"type": "S3", "url": "s3://bucket/../x", "target": "/data"}), "", "'..'"),
        (json!({"type": "S3", "url": "https://host/x", "target": "/data", "allowWrite": "perhaps"}), "allowWrite", "true or false"),
        (
            json!({"type": "S3", "url": "s3://bucket/x", "target": "/data", "IAM": {"ACCESS_KEY_ID": "AKIAX"}}),
            "SECRET_ACCESS_KEY",
            "missing",
        ),
        (json!({"type": "Ollama", "model": "llama3"}), "", "Ollama models cannot be fetched by this version"),
    ] {
        let finished = prepare_text(&node, &with_entry(&entry));
        assert_refused(&node, &finished, 2, &["ops[0] \"serve\"", "resources[0]", field, why]);
        assert!(!finished.stderr.contains("AKIAX"), "{finished:?}");
    }
    assert_eq!(requests(&hub), 0);
}

#[test]
fn a_target_is_laid_where_it_leads_inside_the_root() {
    let node_hub = small_hub();
    let node = Node::new(&node_hub);
    let report = node.prepare(json!([{"type": "HF", "repo": "org/name", "target": "/root/../data"}]), "root").ready();
    assert_eq!(files_below(node.folder().join("root")), expected([("data/config.json", b"{}")]));
    assert_eq!(report["mounts"][0]["target"], "/root/../data");
    assert_eq!(report["mounts"][0]["source"], node.folder().join("root/data").display().to_string());
}

#[test]
fn literals_are_filled_in_from_the_definition_and_from_the_command_line() {
    let hub = small_hub();
    let node = Node::new(&hub);
    let entry = json!({"type": "HF", "repo": "%%global.variables.OWNER%%/%%ops.first.results.model%%", "target": "/data"});
    let definition = json!({"global": {"variables": {"OWNER": "org"}}, "ops": [{"id": "serve", "args": {"resources": [entry]}}]});
    let job = node.write("literals", &definition.to_string());
    let root = node.folder().join("root").display().to_string();
    node.run(&["prepare", &job, "--json", "--root", &root]).says(2, &["resources[0]", "--set ops.first.results.model="]);
    node.run(&["prepare", &job, "--json", "--root", &root, "--set", "ops.first.results.model=name"]).ready();
    assert_eq!(files_below(&root), expected([("data/config.json", b"{}")]));
    node.run(&["prepare", &job, "--json", "--root", &root, "--set", "no equals sign"]).says(2, &["KEY=VALUE"]);
}

#[test]
fn a_file_that_is_no_definition_is_refused_by_its_name() {
    let node = Node::new(&small_hub());
    let bad = node.folder().join("bad.json");
    std::fs::write(&bad, b"{\"ops\": [\xff]}").unwrap();
    let folder = node.folder().display().to_string();
    for (path, why) in [(bad.to_str().unwrap(), "UTF-8"), ("nowhere.json", "No such file"), (&folder, "directory")] {
        assert_refused(&node, &node.prepare_file(path, "root"), 2, &[path, why]);
    }
    assert!(!node.home().exists(), "no store is made for it");
}

#[test]
fn a_setting_that_does_not_exist_is_refused_with_the_nearest_that_does() {
    let hub = small_hub();
    let job = json!([{"type": "HF", "repo": "org/name", "target": "/data"}]);
    for (text, words) in [
        ("[store]\nquota_byte = 5", &["config.toml", "quota_byte", "did you mean quota_bytes?"][..]),
        ("[stor]\nquota_bytes = 5", &["config.toml", "[stor]", "did you mean store?"]),
        ("[store]\nquota_bytes = \"many\"", &["config.toml", "quota_bytes"]),
        ("[store", &["config.toml"]),
        ("[origin]\nreads = 0", &["origin.reads"]),
    ] {
        let node = Node::new(&hub);
        std::fs::create_dir(node.home()).unwrap();
        std::fs::write(node.home().join("config.toml"), text).unwrap();
        assert_refused(&node, &node.prepare(job.clone(), "root"), 2, words);
    }
    for (name, value, words) in [
        ("LARDER_STORE_QUOTA", "5", &["LARDER_STORE_QUOTA", "did you mean LARDER_STORE_QUOTA_BYTES?"][..]),
        ("LARDER_STORE_QUOTA_BYTES", "5 GB", &["LARDER_STORE_QUOTA_BYTES", "whole number"]),
        ("HF_ENDPOINT", "no address", &["no address"]),
        ("HF_ENDPOINT", "http://user:hidden@127.0.0.1:9", &["user, password or query"]),
    ] {
        let node = Node::new(&hub).with(name, value);
        let finished = node.prepare(job.clone(), "root");
        assert_refused(&node, &finished, 2, words);
        assert!(!finished.stderr.contains("hidden"), "{finished:?}");
    }
    assert_eq!(requests(&hub), 0);
}

#[test]
fn a_command_that_cannot_be_understood_is_wrong_input() {
    let node = Node::new(&small_hub());
    for arguments in [&["prepar"][..], &["prepare"], &["prepare", "x.json", "--owner", "root"], &["pull"], &[]] {
        assert_eq!(node.run(arguments).code, Some(2), "{arguments:?}");
    }
    for (resource, why) in [
        ("org/name", "hf:org/name"),
        ("hf:a/b/c", "hf:a/b/c"),
        ("hf:org/name@", "revision"),
        ("hf:org/name:../x", "'..'"),
        ("ftp://x", "https://"),
    ] {
        node.run(&["pull", resource, "--json"]).says(2, &[why]);
    }
    node.run(&["release", "no-lease", "--json"]).says(2, &["no-lease"]);
}

#[test]
fn a_listing_with_a_name_that_could_leave_its_folder_is_refused_whole() {
    let long = format!("{}.txt", "x".repeat(300));
    for bad in ["../up.txt", "a/../../up.txt", "/tmp/absolute.txt", "", "a\0b.txt", "a\\b.txt", "a//b.txt", "./a.txt", "a\nb.txt", &long] {
        let hub = HubBuilder::new()
            .repo(Repo::model("org/name").at("main", Tree::new().file("good.txt", "good").file(bad, "bad")))
            .start()
            .unwrap();
        let node = Node::new(&hub);
        let finished = node.prepare(json!([{"type": "HF", "repo": "org/name", "target": "/data"}]), "root");
        let shown: String = format!("{bad:?}").chars().take(60).collect();
        assert_refused(&node, &finished, 1, &["ops[0] \"serve\", resources[0]", "models/org/name@", &shown]);
        assert_eq!(hub.counts().content().requests, 0, "{bad:?}");
        let outside = std::fs::read_dir(node.folder()).unwrap().map(|entry| entry.unwrap().file_name()).collect::<Vec<_>>();
        assert!(outside.len() == 2 && outside.iter().all(|name| name == "home" || name == "root.json"), "{outside:?}");
    }
}

#[test]
fn a_listing_with_a_file_where_it_has_a_folder_is_refused_whole() {
    let tree = Tree::new().file("a", "file").file("a/b", "below it");
    let hub = HubBuilder::new().repo(Repo::model("org/name").at("main", tree)).start().unwrap();
    let node = Node::new(&hub);
    let finished = node.prepare(json!([{"type": "HF", "repo": "org/name", "target": "/data"}]), "root");
    assert_refused(&node, &finished, 1, &["resources[0]", "models/org/name@", "lists a as a file and as a folder"]);
    assert_eq!(hub.counts().content().requests, 0);
}

#[test]
fn a_listing_that_was_wrong_is_asked_for_anew_the_next_time() {
    let tree = || Tree::new().file("model.bin", noise(2_000_000, 1));
    let wrong = tree().lie("model.bin", Lie::Sha256("5".repeat(64)));
    let hub = HubBuilder::new().repo(Repo::model("org/name").at("main", wrong)).xet(false).start().unwrap();
    let node = Node::new(&hub);
    let job = json!([{"type": "HF", "repo": "org/name", "target": "/data"}]);
    node.prepare(job.clone(), "wrong").says(1, &["model.bin", "do not match"]);
    let commit = hub.commit("models/org/name", "main");
    hub.publish(Repo::model("org/name").at("main", tree())).unwrap();
    assert_eq!(hub.commit("models/org/name", "main"), commit);
    node.prepare(job, "right").ready();
    assert_eq!(files_below(node.folder().join("right/data")), expected([("model.bin", &noise(2_000_000, 1)[..])]));
}

#[test]
fn a_listing_that_needed_a_token_is_for_nobody_who_does_not_show_one() {
    const TOKEN: &str = "hf_thetokenthatopensall";
    let repo = |id| Repo::model(id).at("main", Tree::new().file("model.bin", noise(2_000_000, 1)));
    let hub = HubBuilder::new().repo(repo("org/public")).repo(repo("org/private").private()).token(TOKEN).start().unwrap();
    let proxy = Proxy::start(hub.endpoint().strip_prefix("http://").unwrap().parse().unwrap()).unwrap();
    let node = Node::of_endpoint(proxy.endpoint());
    let of = |repo: &str, revision: &str, token: Value| json!([{"type": "HF", "repo": repo, "revision": revision, "target": "/data", "accessToken": token}]);
    let commit = hub.commit("models/org/private", "main").unwrap();
    // What lies in the store is public, for it is in a public repository too.
    node.prepare(of("org/public", "main", json!(null)), "public").ok();
    for revision in ["main", &commit] {
        node.prepare(of("org/private", revision, json!(TOKEN)), "private").ok();
        node.prepare(of("org/private", revision, json!(null)), "strange").says(1, &["org/private"]);
    }
    proxy.faults().set(Rule::new("*", Fault::Refuse));
    std::thread::scope(|scope| {
        scope.spawn(|| node.prepare(of("org/private", "main", json!(TOKEN)), "strange").says(1, &["org/private"]));
        node.prepare(of("org/public", "main", json!(null)), "public").ok();
    });
    assert!(!node.folder().join("strange").exists());
}

#[test]
fn odd_keys_of_a_bucket_are_laid_under_their_own_names() {
    let names =
        ["plain.txt", "with space.txt", "a+b.txt", "100%.txt", "%20.txt", "Ünïcode/日本.txt", "#hash?.txt", "'q\"uote&.txt", "~.txt", "…"];
    for name in names {
        seaweed().store().unwrap().put("pub", &format!("input-odd/{name}"), name.as_bytes()).unwrap();
    }
    let proxy = Proxy::start(seaweed().address()).unwrap();
    let node = Node::of_endpoint("http://127.0.0.1:9");
    let entry = json!({"type": "S3", "url": format!("{}/pub/input-odd/", proxy.endpoint()), "bucket": "pub", "target": "/data"});
    node.prepare(json!([entry]), "root").ready();
    let right = names.iter().map(|name| ((*name).to_owned(), name.as_bytes().to_vec())).collect();
    assert_eq!(files_below(node.folder().join("root/data")), right);
}

#[test]
fn a_key_that_is_no_text_is_an_error_and_leaves_nothing() {
    const KEYS: Keys = Keys { id: "labrclone", secret: "labrclonesecret" };
    let buckets = tempfile::tempdir().unwrap();
    std::fs::create_dir(buckets.path().join("b")).unwrap();
    std::fs::write(buckets.path().join("b/good.txt"), "good").unwrap();
    std::fs::write(buckets.path().join("b").join(OsStr::from_bytes(b"bad-\xff\xfe.txt")), "bad").unwrap();
    let server = RcloneS3::start(buckets.path(), Some(KEYS)).unwrap();
    let node = Node::of_endpoint("http://127.0.0.1:9");
    let iam = json!({"REGION": "", "ACCESS_KEY_ID": KEYS.id, "SECRET_ACCESS_KEY": KEYS.secret});
    let entry = json!({"type": "S3", "url": format!("{}/b/", server.endpoint()), "target": "/data", "IAM": iam});
    let finished = node.prepare(json!([entry]), "root");
    assert_refused(&node, &finished, 1, &["resources[0]", "bad-"]);
}

#[test]
fn a_repository_of_very_many_files_is_laid_in_little_memory() {
    let count = if rounds(1) > 1 { MANY_SMALL_FILES } else { SMALL_FILES };
    let hub = HubBuilder::new().repo(Repo::model("org/name").at("main", Tree::synthetic(count, 20))).start().unwrap();
    let node = Node::new(&hub);
    let job = node.job("many", json!([{"type": "HF", "repo": "org/name", "target": "/data"}]));
    let finished = node.prepare_file(&job, "root");
    let most = 100 * MIB + count * BYTES_A_FILE;
    assert!(finished.peak_bytes > 0 && finished.peak_bytes < most, "{} MiB of {}", finished.peak_bytes / MIB, most / MIB);
    let report = finished.ready();
    assert_eq!(report["totals"]["files"], count);
    assert_eq!(files_below(node.folder().join("root/data")).values().map(|bytes| bytes.len() as u64).sum::<u64>(), count * 20);
}
