//! What a lease holds stays, and what none holds can go.

use larder_harness::hub::Repo;
use serde_json::json;

use crate::bucket_origin::seaweed;
use crate::crash::recorded;
use crate::files::{Files, MIB, names, resource};
use crate::node::Node;

fn some() -> Files {
    Files::of_sizes([("model.safetensors", 9 * MIB + 1), ("vocab.bin", 2 * MIB), ("sub/config.json", 700), ("sub/deep/a.txt", 5_000)])
}

#[test]
fn what_no_lease_holds_is_removed_by_gc_and_what_one_holds_stays() {
    let hub = some().hub(400 * MIB);
    hub.publish(Repo::model("org/other").at("main", Files::of_sizes([("other.bin", 3 * MIB)]).tree())).unwrap();
    let other = json!([{"type": "HF", "repo": "org/other", "target": "/data"}]);
    let node = Node::new(&hub);
    let lease = node.prepare(resource(), "root").ready()["lease"].as_str().unwrap().to_owned();
    node.prepare(other, "other").ok();
    assert_eq!(node.run(&["gc", "--all", "--json"]).ok().json["files"], 0);
    assert_eq!(recorded(&node), some().bytes() + 3 * MIB);
    node.run(&["release", &lease]).ok();
    assert_eq!(names(&node.folder().join("root")), Vec::<String>::new());
    assert_eq!(node.run(&["gc", "--all", "--json"]).ok().json["files"], 4);
    assert_eq!((names(&node.home().join("blobs")).len(), recorded(&node)), (1, 3 * MIB));
}

#[test]
fn room_is_made_of_what_no_lease_holds_and_never_of_what_one_holds() {
    let hub = some().hub(400 * MIB);
    hub.publish(Repo::model("org/other").at("main", Files::of_sizes([("other.bin", 10 * MIB)]).tree())).unwrap();
    let other = || json!([{"type": "HF", "repo": "org/other", "target": "/data"}]);
    let node = Node::new(&hub).with("LARDER_STORE_QUOTA_BYTES", "15000000").with("LARDER_STORE_KEEP_HOURS", "0");
    let lease = node.prepare(resource(), "root").ready()["lease"].as_str().unwrap().to_owned();
    hub.counts().reset();
    node.prepare(other(), "other").says(1, &["10.48 MB needed, but only 3.45 MB", "quota"]);
    assert_eq!(hub.counts().content().requests, 0);
    some().assert_laid(&node.folder().join("root/data"));
    node.run(&["release", &lease]).ok();
    node.prepare(other(), "other").ok();
}

#[test]
fn files_of_an_older_revision_are_gone_once_the_newer_one_is_laid() {
    let (old, new) = (some(), Files::of_sizes([("model.safetensors", MIB), ("sub/config.json", 700), ("new/name.txt", 10)]));
    let hub = old.hub(400 * MIB);
    let node = Node::new(&hub);
    node.prepare(resource(), "root").ok();
    std::fs::write(node.folder().join("root/data/own.txt"), "of the operator").unwrap();
    hub.publish(Repo::model("org/name").at("main", new.tree())).unwrap();
    node.prepare(resource(), "root").ok();
    std::fs::remove_file(node.folder().join("root/data/own.txt")).unwrap();
    new.assert_laid(&node.folder().join("root/data"));
}

#[test]
fn of_what_a_job_may_write_to_release_removes_what_it_left_as_it_was() {
    let files = Files::of_sizes([("kept.bin", 400_000), ("sub/changed.bin", 300_000)]);
    for (path, bytes) in &files.0 {
        seaweed().store().unwrap().put("pub", &format!("leases-write/{path}"), bytes).unwrap();
    }
    let node = Node::of_endpoint("http://127.0.0.1:9");
    let url = format!("{}/pub/leases-write/", seaweed().endpoint());
    let writable = json!([{"type": "S3", "url": url, "bucket": "pub", "target": "/data", "allowWrite": true}]);
    let report = node.prepare(writable, "root").ready();
    let data = node.folder().join("root/data");
    std::fs::write(data.join("sub/changed.bin"), "a result").unwrap();
    std::fs::write(data.join("sub/new.txt"), "another").unwrap();
    node.run(&["release", report["lease"].as_str().unwrap()]).ok();
    assert_eq!(names(&data), ["sub/changed.bin", "sub/new.txt"]);
    assert_eq!(recorded(&node), files.bytes());

    // In the store's own folder nobody looks for results.
    let own = node.run(&["prepare", &node.folder().join("root.json").display().to_string(), "--json"]).ready();
    let source = std::path::PathBuf::from(own["mounts"][0]["source"].as_str().unwrap());
    files.assert_laid(&source);
    std::fs::write(source.join("sub/new.txt"), "another").unwrap();
    node.run(&["release", own["lease"].as_str().unwrap()]).ok();
    assert!(!source.exists());
    assert_eq!(recorded(&node), files.bytes());
}
