//! The rooms and their doors: which crate may use which, and where each heavy library lives.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use cargo_metadata::{DependencyKind, MetadataCommand};

/// Which of our crates each may use, and which of the heavy libraries.
const TABLE: [(&str, &[&str], &[&str]); 10] = [
    ("larder-content", &[], &["bincode"]),
    ("larder-job", &["larder-content"], &[]),
    ("larder-engine", &["larder-content"], &[]),
    ("larder-store", &["larder-content"], &["sled", "tokio"]),
    ("larder-origin", &["larder-content"], &["tokio", "reqwest", "hf-hub", "aws-sdk-s3", "aws-smithy-http-client"]),
    ("larder-peers", &["larder-content"], &["tokio", "libp2p"]),
    ("larder-node", &["larder-content", "larder-job", "larder-engine", "larder-store", "larder-origin", "larder-peers"], &["tokio"]),
    (
        "larder",
        &["larder-content", "larder-job", "larder-engine", "larder-store", "larder-origin", "larder-node"],
        &["tokio", "clap", "axum", "tracing-subscriber", "indicatif", "reqwest"],
    ),
    (
        "larder-harness",
        &["larder-content", "larder-job", "larder-engine", "larder-store", "larder-origin", "larder-peers", "larder-node"],
        &["tokio", "clap", "axum", "tracing-subscriber", "hyper", "reqwest", "aws-sdk-s3", "aws-smithy-http-client"],
    ),
    ("larder-tests", &["larder-content", "larder-harness", "larder-origin", "larder-peers"], &["libp2p", "tokio", "reqwest"]),
];

/// Libraries that decide how a crate is built, runs or stores: each only where the table allows it.
const HEAVY: [&str; 14] = [
    "aws-sdk-s3",
    "aws-smithy-http-client",
    "axum",
    "bincode",
    "clap",
    "hf-hub",
    "hyper",
    "indicatif",
    "libp2p",
    "redb",
    "reqwest",
    "sled",
    "tokio",
    "tracing-subscriber",
];

/// Libraries that one file alone may name, by the folder they are in.
const ONE_FILE: [(&str, &str); 5] = [
    ("sled", "crates/store"),
    ("bincode", "crates/content"),
    ("hf_hub", "crates/origin"),
    ("aws_sdk_s3", "crates/origin"),
    ("aws_sdk_s3", "crates/harness"),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

#[test]
fn no_crate_uses_what_its_room_must_not_know() {
    let metadata = MetadataCommand::new().manifest_path(root().join("Cargo.toml")).no_deps().exec().unwrap();
    let members: BTreeSet<&str> = metadata.packages.iter().map(|package| package.name.as_str()).collect();
    assert_eq!(members, TABLE.iter().map(|row| row.0).collect(), "the table and the workspace have the same crates");
    let mut wrong = Vec::new();
    for package in &metadata.packages {
        let (_, ours, heavy) = TABLE.iter().find(|row| row.0 == package.name.as_str()).unwrap();
        let tests_only = package.name.as_str() == "larder-tests";
        for dependency in package.dependencies.iter().filter(|dependency| tests_only || dependency.kind == DependencyKind::Normal) {
            let name = dependency.name.as_str();
            let of_ours = name == "larder" || name.starts_with("larder-");
            let listed = if of_ours { ours.contains(&name) } else { !HEAVY.contains(&name) || heavy.contains(&name) };
            if !listed {
                wrong.push(format!("{} uses {name}", package.name));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:?}");
}

#[test]
fn a_heavy_library_is_named_in_one_file_of_its_room() {
    let mut naming: BTreeMap<(&str, &str), Vec<String>> = BTreeMap::new();
    for file in sources() {
        let text = std::fs::read_to_string(root().join(&file)).unwrap();
        for (library, room) in ONE_FILE {
            let used = text.lines().any(|line| !line.trim_start().starts_with("//") && line.contains(&format!("{library}::")));
            if used && file.starts_with(room) {
                naming.entry((library, room)).or_default().push(file.clone());
            }
        }
    }
    for (library, room) in ONE_FILE {
        let files = naming.get(&(library, room)).map_or(0, Vec::len);
        assert!(files <= 1, "{library} is named in {:?}", naming[&(library, room)]);
    }
    assert_eq!(naming[&("sled", "crates/store")].len(), 1, "the check finds what it looks for");
}

#[test]
fn every_source_file_says_what_it_is_for() {
    let silent: Vec<String> =
        sources().into_iter().filter(|file| !std::fs::read_to_string(root().join(file)).unwrap().starts_with("//!")).collect();
    assert!(silent.is_empty(), "{silent:?} do not open with //!");
}

#[test]
fn no_source_file_is_too_long_to_read() {
    const MOST_LINES: usize = 500;
    let long: Vec<String> =
        sources().into_iter().filter(|file| std::fs::read_to_string(root().join(file)).unwrap().lines().count() > MOST_LINES).collect();
    assert!(long.is_empty(), "{long:?} have more than {MOST_LINES} lines");
}

/// The workspace's own Rust files, relative to its root.
fn sources() -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![root().join("crates"), root().join("tests")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned());
            }
        }
    }
    found
}
