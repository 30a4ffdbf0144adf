//! The main way: a job definition in, proven files in its targets, and what the other commands say of them.

use std::collections::BTreeSet;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use larder_harness::faults::{Fault, Rule};
use larder_harness::hub::{HubBuilder, HubServer, Repo, Tree};
use larder_harness::proxy::Proxy;
use larder_harness::servers::real_model;
use serde_json::{Value, json};

use crate::bucket_origin::seaweed;
use crate::node::Node;
use crate::trees::{assert_ready_to_mount, blob_sizes, expected, files_below, noise};

const MIB: usize = 1024 * 1024;

/// The files of the model most tests use: small and large ones, an empty one, folders, odd names.
fn model_files() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("config.json", b"{\"a\": 1}".to_vec()),
        ("empty.txt", vec![]),
        ("model.safetensors", noise(3 * MIB + 5, 1)),
        ("onnx/model.onnx", noise(70_000, 2)),
        ("onnx/Ünï #1 %20?.txt", b"odd".to_vec()),
    ]
}

fn tree(files: &[(&str, Vec<u8>)]) -> Tree {
    files.iter().fold(Tree::new(), |tree, (path, bytes)| tree.file(path, bytes.clone()))
}

fn hub_of(files: &[(&str, Vec<u8>)]) -> HubServer {
    HubBuilder::new().repo(Repo::model("org/name").at("main", tree(files))).start().unwrap()
}

fn total(files: &[(&str, Vec<u8>)]) -> u64 {
    files.iter().map(|(_, bytes)| bytes.len() as u64).sum()
}

fn model_at(target: &str) -> Value {
    json!({"type": "HF", "repo": "org/name", "target": target})
}

fn keys(value: &Value) -> BTreeSet<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

#[track_caller]
fn assert_holds(folder: &Path, files: &[(&str, Vec<u8>)]) {
    let right = files.iter().map(|(path, bytes)| ((*path).to_owned(), bytes.clone())).collect();
    assert!(files_below(folder) == right, "{:?}", files_below(folder).keys());
    assert_ready_to_mount(folder);
}

#[test]
fn a_job_definition_becomes_proven_files_in_its_target_and_a_report() {
    let files = model_files();
    let hub = hub_of(&files);
    let node = Node::new(&hub);
    let report = node.prepare(json!([model_at("/data-models/")]), "root").ready();
    let laid = node.folder().join("root/data-models");
    assert_holds(&laid, &files);

    let from = json!({"cache": 0, "peers": 0, "origin": total(&files)});
    let commit = hub.commit("models/org/name", "main").unwrap();
    let id = format!("hf:models/org/name@{commit}");
    let source = laid.display().to_string();
    assert!(!report["lease"].as_str().unwrap().is_empty() && report["elapsed_ms"].is_u64());
    assert!(keys(&report).is_superset(&BTreeSet::from(["state", "lease", "elapsed_ms", "resources", "mounts", "totals"])));
    let resource = json!({"op": "serve", "type": "HF", "id": id, "target": "/data-models/", "source": source, "readonly": true,
        "files": 5, "bytes": total(&files), "from": from, "proof": {"git-sha1": 3, "sha256": 2}});
    assert_eq!(report["resources"], json!([resource]));
    assert_eq!(report["mounts"], json!([{"op": "serve", "target": "/data-models/", "source": source, "readonly": true}]));
    assert_eq!(report["totals"], json!({"files": 5, "bytes": total(&files), "from": from}));
}

#[test]
fn a_real_model_is_the_same_from_a_hub_and_from_a_bucket() {
    let model = real_model().unwrap();
    let (tree, parts) = (Tree::folder(&model).unwrap(), 8 * MIB as u64);
    let hub = HubBuilder::new().repo(Repo::model("sentence-transformers/all-MiniLM-L6-v2").at("main", tree)).start().unwrap();
    let files = seaweed().store().unwrap().put_folder("pub", "prepare-real/model", &model, parts).unwrap();
    let node = Node::new(&hub);
    let url = format!("{}/pub/prepare-real/model", seaweed().endpoint());
    let report = node.prepare(
        json!([
            {"type": "HF", "repo": "sentence-transformers/all-MiniLM-L6-v2", "target": "/hub"},
            {"type": "S3", "url": url, "bucket": "pub", "target": "/bucket"},
        ]),
        "root",
    );
    let report = report.ready();
    let (real, laid) = (files_below(&model), ["hub", "bucket"].map(|target| files_below(node.folder().join("root").join(target))));
    assert!(laid.iter().all(|laid| *laid == real), "{:?} instead of {:?}", laid.map(|laid| laid.into_keys()), real.keys());
    assert_ready_to_mount(node.folder().join("root"));
    for resource in report["resources"].as_array().unwrap() {
        assert_eq!((&resource["files"], &resource["proof"]["none"]), (&json!(files), &Value::Null), "{resource}");
    }
    let contents: BTreeSet<&Vec<u8>> = real.values().collect();
    assert_eq!(blob_sizes(&node).len(), contents.len(), "what is the same is kept once");
}

#[test]
fn what_was_prepared_once_is_laid_again_without_a_byte_of_content() {
    let files = model_files();
    let hub = hub_of(&files);
    let node = Node::new(&hub);
    node.prepare(json!([model_at("/data")]), "first").ready();
    hub.counts().reset();
    let report = node.prepare(json!([model_at("/data")]), "second").ready();
    assert_holds(&node.folder().join("second/data"), &files);
    assert_eq!(hub.counts().content().requests, 0);
    assert!(hub.counts().metadata().requests <= 2, "{:?}", hub.counts().snapshot().requests);
    assert_eq!(report["totals"]["from"], json!({"cache": total(&files), "peers": 0, "origin": 0}));
    let inode = |root: &str| node.folder().join(root).join("data/model.safetensors").metadata().unwrap();
    assert!(inode("first").ino() == inode("second").ino() || inode("first").nlink() == 1, "one copy: a hard link, or a reflink");
}

#[test]
fn a_large_file_of_two_repositories_is_read_once_and_kept_once() {
    let weights = noise(2 * MIB, 3);
    let repo = |name: &str, config: &str| {
        Repo::model(name).at("main", Tree::new().file("model.safetensors", weights.clone()).file("config.json", config.to_owned()))
    };
    let hub = HubBuilder::new().repo(repo("org/a", "a")).repo(repo("org/b", "b")).start().unwrap();
    let node = Node::new(&hub);
    let both = json!([{"type": "HF", "repo": "org/a", "target": "/a"}, {"type": "HF", "repo": "org/b", "target": "/b"}]);
    let report = node.prepare(both, "root").ready();
    let read = |repo: &str| hub.counts().file(&format!("models/{repo}/model.safetensors")).body_bytes;
    assert_eq!(read("org/a") + read("org/b"), weights.len() as u64);
    assert_eq!(blob_sizes(&node), [1, 1, weights.len() as u64]);
    assert_eq!(report["totals"]["from"], json!({"cache": weights.len(), "peers": 0, "origin": weights.len() + 2}));
    for (root, config) in [("root/a", "a"), ("root/b", "b")] {
        let right = expected([("config.json", config.as_bytes()), ("model.safetensors", &weights)]);
        assert!(files_below(node.folder().join(root)) == right);
    }
}

#[test]
fn only_the_files_that_a_job_names_are_read() {
    let files = model_files();
    let hub = hub_of(&files);
    let node = Node::new(&hub);
    let some = json!([{"type": "HF", "repo": "org/name", "target": "/data", "files": ["onnx/model.onnx", "config.json"]}]);
    let report = node.prepare(some, "root").ready();
    assert_holds(&node.folder().join("root/data"), &[files[0].clone(), files[3].clone()]);
    assert_eq!(report["totals"]["bytes"], 70_008);
    assert_eq!(hub.counts().content().body_bytes, 70_008);
}

#[test]
fn a_revision_is_a_branch_a_tag_a_commit_or_a_pull_request_of_any_kind_of_repository() {
    let at = |text: &str| Tree::new().file("which.txt", text.to_owned());
    let revisions = |repo: Repo| ["main", "v1.0", "feature/x", "refs/pr/1"].into_iter().fold(repo, |repo, name| repo.at(name, at(name)));
    let hub = HubBuilder::new()
        .repo(revisions(Repo::model("org/name")))
        .repo(revisions(Repo::dataset("org/name")))
        .repo(revisions(Repo::space("org/name")));
    let hub = hub.start().unwrap();
    let node = Node::new(&hub);
    for kind in ["", "datasets/", "spaces/"] {
        let name = if kind.is_empty() { "models/org/name".to_owned() } else { format!("{kind}org/name") };
        let commit = hub.commit(&name, "v1.0").unwrap();
        for (revision, means) in [
            (None, "main"),
            (Some("v1.0"), "v1.0"),
            (Some("feature/x"), "feature/x"),
            (Some("refs/pr/1"), "refs/pr/1"),
            (Some(&*commit), "v1.0"),
        ] {
            let mut entry = json!({"type": "HF", "repo": format!("{kind}org/name"), "target": "/data"});
            if let Some(revision) = revision {
                entry["revision"] = revision.into();
            }
            let root = format!("{kind}{}", revision.unwrap_or("none")).replace('/', "-");
            let report = node.prepare(json!([entry]), &root).ready();
            assert!(files_below(node.folder().join(&root)) == expected([("data/which.txt", means.as_bytes())]), "{kind}{revision:?}");
            assert!(report["resources"][0]["id"].as_str().unwrap().ends_with(&format!("{name}@{}", hub.commit(&name, means).unwrap())));
        }
    }
}

#[test]
fn overlapping_targets_of_one_op_are_one_tree() {
    let hub = HubBuilder::new()
        .repo(Repo::model("org/a").at("main", Tree::new().file("a.txt", "a").file("same.txt", "same")))
        .repo(Repo::model("org/b").at("main", Tree::new().file("b.txt", "b").file("same.txt", "same")))
        .start()
        .unwrap();
    let node = Node::new(&hub);
    let entry = |repo: &str, target: &str| json!({"type": "HF", "repo": repo, "target": target});
    let entries = json!([entry("org/a", "/data"), entry("org/b", "/data/"), entry("org/b", "/data/sub")]);
    let report = node.prepare(entries, "root").ready();
    let right = expected([("a.txt", b"a"), ("b.txt", b"b"), ("same.txt", b"same"), ("sub/b.txt", b"b"), ("sub/same.txt", b"same")]);
    assert_eq!(files_below(node.folder().join("root/data")), right);
    let mounts: Vec<_> =
        report["mounts"].as_array().unwrap().iter().map(|mount| (mount["target"].clone(), mount["source"].clone())).collect();
    let source = |name: &str| json!(node.folder().join(name).display().to_string());
    assert_eq!(mounts, [(json!("/data"), source("root/data")), (json!("/data/sub"), source("root/data/sub"))]);
}

#[test]
fn two_different_files_for_one_path_are_refused_with_the_names_of_both() {
    let hub = HubBuilder::new()
        .repo(Repo::model("org/a").at("main", Tree::new().file("x/f.txt", "one").file("g", "a file here")))
        .repo(Repo::model("org/b").at("main", Tree::new().file("x/f.txt", "two")))
        .repo(Repo::model("org/c").at("main", Tree::new().file("x/f.txt", "of another size")))
        .repo(Repo::model("org/d").at("main", Tree::new().file("g/f", "a folder there")))
        .start()
        .unwrap();
    let node = Node::new(&hub);
    for (other, path) in [("org/b", "x/f.txt"), ("org/c", "x/f.txt"), ("org/d", "g")] {
        let entry = |repo: &str| json!({"type": "HF", "repo": repo, "target": "/data"});
        let refused = node.prepare(json!([entry("org/a"), entry(other)]), "root");
        refused.says(2, &["models/org/a@main", &format!("models/{other}@main"), path]);
        assert_eq!(files_below(node.folder().join("root")).len(), 0);
    }
}

#[test]
fn ops_that_clash_are_laid_in_a_folder_each() {
    let repo = |name: &str| Repo::model(name).at("main", Tree::new().file("which.txt", name.to_owned()));
    let hub = HubBuilder::new().repo(repo("org/a")).repo(repo("org/b")).start().unwrap();
    let node = Node::new(&hub);
    let entry = |repo: &str, target: &str| json!([{"type": "HF", "repo": repo, "target": target}]);
    let job = node
        .job_of_ops("job", &[("first", entry("org/a", "/data")), ("second", entry("org/b", "/data")), ("third", entry("org/a", "/other"))]);
    let report = node.prepare_file(&job, "root").ready();
    let right = expected([("first/data/which.txt", b"org/a"), ("other/which.txt", b"org/a"), ("second/data/which.txt", b"org/b")]);
    assert_eq!(files_below(node.folder().join("root")), right);
    let mounts = report["mounts"].as_array().unwrap().iter();
    let mounts: Vec<_> =
        mounts.map(|mount| [&mount["op"], &mount["target"], &mount["source"]].map(|text| text.as_str().unwrap().to_owned())).collect();
    let source = |name: &str| node.folder().join("root").join(name).display().to_string();
    assert_eq!(
        mounts,
        [
            ["first".into(), "/data".into(), source("first/data")],
            ["second".into(), "/data".into(), source("second/data")],
            ["third".into(), "/other".into(), source("other")],
        ]
    );
}

#[test]
fn a_job_that_may_write_gets_copies_of_its_own() {
    let bytes = noise(400_000, 4);
    seaweed().store().unwrap().put("pub", "prepare-write/model.bin", &bytes).unwrap();
    let proxy = Proxy::start(seaweed().address()).unwrap();
    let node = Node::of_endpoint("http://127.0.0.1:9");
    let entry = json!([{"type": "S3", "url": format!("{}/pub/prepare-write/", proxy.endpoint()), "bucket": "pub", "target": "/data", "allowWrite": true}]);
    let job = node.job("job", entry);
    let owner = if rustix::process::geteuid().is_root() {
        (1234, 1235)
    } else {
        (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw())
    };
    let laid = |root: &str| node.folder().join(root).join("data/model.bin");
    for root in ["first", "second"] {
        let below = node.folder().join(root).display().to_string();
        let report = node.run(&["prepare", &job, "--json", "--root", &below, "--owner", &format!("{}:{}", owner.0, owner.1)]).ready();
        assert_eq!((&report["mounts"][0]["readonly"], &report["resources"][0]["readonly"]), (&json!(false), &json!(false)));
        assert_eq!(report["resources"][0]["type"], "S3");
        assert!(std::fs::read(laid(root)).unwrap() == bytes);
        let [file, folder] = [laid(root), laid(root).parent().unwrap().to_owned()].map(|path| path.metadata().unwrap());
        assert_eq!([(file.uid(), file.gid()), (folder.uid(), folder.gid())], [owner; 2]);
        assert!(file.permissions().mode() & 0o200 != 0 && folder.permissions().mode() & 0o200 != 0);
        std::fs::write(laid(root), b"changed by the job").unwrap();
    }
    assert_eq!(proxy.counts().content().body_bytes, bytes.len() as u64, "read once");
    assert_eq!(node.run(&["verify", "--json"]).ok().json["damaged"], json!([]));
}

#[test]
fn pull_lays_one_resource_in_a_folder() {
    let files = model_files();
    let hub = hub_of(&files);
    let node = Node::new(&hub);
    let to = node.folder().join("to");
    let commit = hub.commit("models/org/name", "main").unwrap();
    for (number, resource) in ["hf:org/name".to_owned(), format!("hf:org/name@{commit}")].iter().enumerate() {
        let to = to.join(number.to_string());
        let report = node.run(&["pull", resource, "--to", &to.display().to_string(), "--json"]).ready();
        assert_holds(&to, &files);
        assert_eq!(report["mounts"][0]["source"], to.display().to_string());
    }
    node.run(&["pull", "hf:org/name@main:config.json,onnx/model.onnx", "--to", &to.join("some").display().to_string(), "--json"]).ready();
    assert_holds(&to.join("some"), &[files[0].clone(), files[3].clone()]);
}

#[test]
fn a_plan_asks_nobody() {
    let hub = hub_of(&model_files());
    let node = Node::new(&hub);
    let entry = json!([{"type": "HF", "repo": "org/name", "target": "/data", "files": ["config.json"]},
        {"type": "S3", "url": format!("{}/pub/x", hub.endpoint()), "target": "/s3", "allowWrite": true, "IAM": {"REGION": "", "ACCESS_KEY_ID": "AKIAX", "SECRET_ACCESS_KEY": "secret-of-plan"}}]);
    let job = node.job("serve", entry);
    let root = node.folder().join("root");
    let planned = node.run(&["plan", &job, "--json", "--root", &root.display().to_string()]).ok();
    let plan = &planned.json;
    assert_eq!(hub.counts().metadata().requests + hub.counts().content().requests, 0);
    let [model, bucket] = [&plan["resources"][0], &plan["resources"][1]];
    assert!(model["id"].as_str().unwrap().ends_with("models/org/name@main"), "{plan}");
    assert_eq!(
        (&model["op"], &model["type"], &model["target"], &model["files"]),
        (&json!("serve"), &json!("HF"), &json!("/data"), &json!(["config.json"]))
    );
    assert_eq!((&bucket["type"], &bucket["readonly"], &bucket["credentials"]), (&json!("S3"), &json!(false), &json!(true)));
    assert_eq!(
        plan["mounts"][1],
        json!({"op": "serve", "target": "/s3", "source": root.join("s3").display().to_string(), "readonly": false})
    );
    assert!(!root.exists() && !planned.stdout.contains("secret-of-plan"));
    drop(hub);
    assert_eq!(node.run(&["plan", &job, "--json", "--root", &root.display().to_string()]).ok().json, *plan);
}

#[test]
fn what_is_held_is_listed_until_it_is_released() {
    let files = model_files();
    let hub = hub_of(&files);
    let node = Node::new(&hub);
    let report = node.prepare(json!([model_at("/data")]), "root").ready();
    let lease = report["lease"].as_str().unwrap();
    let held = node.run(&["resources", "--json"]).ok().json;
    assert_eq!(held["resources"][0]["id"], report["resources"][0]["id"]);
    assert_eq!((&held["resources"][0]["files"], &held["resources"][0]["bytes"]), (&json!(5), &json!(total(&files))));
    assert_eq!((&held["leases"][0]["lease"], &held["leases"][0]["job"]), (&json!(lease), &json!("root")));
    assert_eq!(held["leases"][0]["trees"], json!([node.folder().join("root/data").display().to_string()]));

    node.run(&["release", lease, "--json"]).ok();
    assert!(!node.folder().join("root/data").exists());
    let held = node.run(&["resources", "--json"]).ok().json;
    assert_eq!(held["leases"], json!([]));
    assert_eq!(held["resources"].as_array().unwrap().len(), 1, "what was released is still in the store");
    node.run(&["release", lease, "--json"]).says(2, &[lease, "larder resources"]);
}

#[test]
fn without_a_root_the_files_are_laid_in_the_store_ready_to_mount() {
    let files = model_files();
    let hub = hub_of(&files);
    let node = Node::new(&hub);
    let job = node.job("job", json!([model_at("/data-models/")]));
    let [first, second] = [0, 1].map(|_| node.run(&["prepare", &job, "--json"]).ready());
    let source = Path::new(first["mounts"][0]["source"].as_str().unwrap());
    assert!(source.starts_with(node.home().join("targets")) && first["resources"][0]["source"] == first["mounts"][0]["source"]);
    assert_holds(source, &files);
    assert_eq!(first["mounts"], second["mounts"], "equal read-only trees are one");
    node.run(&["release", first["lease"].as_str().unwrap()]).ok();
    assert_holds(source, &files);
    node.run(&["release", second["lease"].as_str().unwrap()]).ok();
    assert!(!source.exists());
}

#[test]
fn what_was_listed_lately_and_is_complete_needs_no_hub() {
    let files = model_files();
    let hub = hub_of(&files);
    let node = Node::new(&hub);
    let commit = hub.commit("models/org/name", "main");
    let pinned = json!([{"type": "HF", "repo": "org/name", "revision": commit, "target": "/data"}]);
    node.prepare(json!([model_at("/data")]), "by-branch").ready();
    node.prepare(pinned.clone(), "by-commit").ready();
    let some = json!([{"type": "HF", "repo": "org/name", "files": ["config.json"], "target": "/data"}]);
    let host = hub.endpoint().trim_start_matches("http://").to_owned();
    drop(hub);
    for (entry, root) in [(pinned, "commit-again"), (json!([model_at("/data")]), "branch-again")] {
        let report = node.prepare(entry, root).ready();
        assert_holds(&node.folder().join(root).join("data"), &files);
        assert_eq!(report["totals"]["from"]["origin"], 0);
    }
    node.prepare(some, "never-listed").says(1, &["ops[0] \"serve\", resources[0]", "models/org/name@main", &host]);
    assert!(!node.folder().join("never-listed").exists());
}

#[test]
fn all_entries_of_a_job_are_fetched_side_by_side() {
    let repo = |name: &str| {
        Repo::model(name)
            .at("main", Tree::new().file("model.bin", noise(2 * MIB, 5)).file(&format!("{}.txt", name.replace('/', "-")), name.to_owned()))
    };
    for stalled in ["org/a", "org/b"] {
        let hub = HubBuilder::new().repo(repo("org/a")).repo(repo("org/b")).start().unwrap();
        let other = if stalled == "org/a" { "org-b.txt" } else { "org-a.txt" };
        hub.faults().set(Rule::new(&format!("models/{stalled}/*"), Fault::Stall { after: 1 }));
        let node = Node::new(&hub).with("LARDER_ORIGIN_STALL_MS", "600000");
        let job =
            node.job("job", json!([{"type": "HF", "repo": "org/a", "target": "/a"}, {"type": "HF", "repo": "org/b", "target": "/b"}]));
        let mut running = node.start(&["prepare", &job, "--json"]);
        let counted = format!("models/{}/{other}", if stalled == "org/a" { "org/b" } else { "org/a" });
        crate::node::until("the other entry is read", || hub.counts().file(&counted).requests == 1);
        assert!(running.is_running());
        running.kill();
    }
}
