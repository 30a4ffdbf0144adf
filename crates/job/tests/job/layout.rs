//! Every mount has a folder below the root, its own unless it is to be shared.

use larder_job::{Job, Mount};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{bucket, job_of, path};

fn s3(name: &str, target: &str) -> Value {
    json!({"type": "S3", "url": format!("s3://b/{name}"), "target": target})
}

fn written(name: &str, target: &str) -> Value {
    json!({"type": "S3", "url": format!("s3://b/{name}"), "target": target, "allowWrite": true})
}

/// The folders of all mounts, in order.
fn folders(job: &Job) -> Vec<&str> {
    job.layout.mounts.iter().map(|mount| mount.folder.as_str()).collect()
}

#[test]
fn entries_of_one_op_with_one_target_are_one_mount() {
    let job = job_of(&[("a", json!([s3("x", "/data/"), s3("y", "/other"), s3("z", "/root/../data")]))]).unwrap();
    let mounts: Vec<_> = job.layout.mounts.iter().map(|mount| (mount.target.as_written(), mount.entries.clone())).collect();
    assert_eq!(mounts, [("/data/", vec![0, 2]), ("/other", vec![1])]);
    let parts: Vec<_> = job.layout.trees[0].parts.iter().map(|part| (part.below.clone(), part.resource.clone())).collect();
    assert_eq!(parts, [(None, bucket("s3://b/x", &[])), (None, bucket("s3://b/z", &[]))]);
}

#[test]
fn a_target_is_writable_if_any_of_its_entries_is_and_says_so() {
    let job = job_of(&[("a", json!([s3("x", "/data"), written("y", "/data/")]))]).unwrap();
    assert!(job.layout.mounts[0].writable);
    assert!(job.warnings[0].contains("resources[1]") && job.warnings[0].contains("it is writable"), "{:?}", job.warnings);
}

#[test]
fn only_what_a_mount_may_write_to_needs_its_own_copy() {
    let job = job_of(&[("a", json!([s3("x", "/data"), written("y", "/data/sub")]))]).unwrap();
    let tree = &job.layout.trees[0];
    let writable: Vec<_> = ["sub/file", "sub", "sub2/file", "file"].into_iter().map(|file| tree.is_writable(&path(file))).collect();
    assert_eq!(writable, [true, true, false, false]);
    assert_eq!(job.layout.mounts.iter().map(|mount| mount.writable).collect::<Vec<_>>(), [false, true]);
}

#[test]
fn the_same_at_the_same_target_of_two_ops_is_laid_once() {
    let job = job_of(&[("a", json!([s3("x", "/data"), s3("y", "/data")])), ("b", json!([s3("y", "/data/"), s3("x", "/data")]))]).unwrap();
    assert_eq!((folders(&job), job.layout.trees.len()), (vec!["data", "data"], 1));
}

#[test]
fn ops_that_clash_are_laid_apart_and_others_are_not() {
    let job = job_of(&[
        ("a", json!([s3("x", "/data"), s3("z", "/own")])),
        ("b", json!([s3("y", "/data")])),
        ("c", json!([s3("z", "/own")])),
        ("d", json!([s3("w", "/else")])),
    ]);
    assert_eq!(folders(&job.unwrap()), ["a/data", "a/own", "b/data", "own", "else"]);
    let nested = job_of(&[("a", json!([s3("x", "/data")])), ("b", json!([s3("x", "/data/sub")]))]).unwrap();
    assert_eq!(folders(&nested), ["a/data", "b/data/sub"]);
    let beside = job_of(&[("a", json!([s3("x", "/data")])), ("b", json!([s3("x", "/data2")]))]).unwrap();
    assert_eq!(folders(&beside), ["data", "data2"]);
}

#[test]
fn an_ops_folder_is_never_in_the_way_of_a_target() {
    let job = job_of(&[
        ("data", json!([s3("x", "/m")])),
        ("../x: y", json!([s3("y", "/m")])),
        (".._x__y", json!([s3("z", "/m")])),
        ("plain", json!([s3("w", "/Data/m")])),
    ]);
    assert_eq!(folders(&job.unwrap()), ["data-0/m", "_._x__y/m", "_._x__y-2/m", "Data/m"]);
}

#[test]
fn equal_writable_resources_of_one_job_share_one_copy_wherever_they_are() {
    let ops = [("a", json!([written("x", "/work")])), ("b", json!([s3("x", "/input")])), ("c", json!([written("x", "/work")]))];
    let job = job_of(&ops).unwrap();
    assert_eq!((folders(&job), job.layout.trees.len(), job.warnings.len()), (vec!["work", "work", "work"], 1, 0));
    let one_op = job_of(&[("a", json!([s3("x", "/in"), written("x", "/out")]))]).unwrap();
    assert_eq!(folders(&one_op), ["in", "in"]);
    assert!(one_op.layout.trees[0].is_writable(&path("f")));
    let read_only = job_of(&[("a", json!([s3("x", "/work")])), ("b", json!([s3("x", "/input")]))]).unwrap();
    assert_eq!(folders(&read_only), ["work", "input"]);
    let other_files = json!([{"type": "S3", "url": "s3://b/x", "files": ["f"], "target": "/input"}]);
    assert_eq!(folders(&job_of(&[("a", json!([written("x", "/work")])), ("b", other_files)]).unwrap()), ["work", "input"]);
}

#[test]
fn sharing_keeps_the_place_in_the_tree() {
    let ops = [("a", json!([written("x", "/w"), s3("y", "/w/sub")])), ("b", json!([s3("y", "/r/sub"), s3("x", "/r")]))];
    assert_eq!(folders(&job_of(&ops).unwrap()), ["w", "w/sub", "w/sub", "w"]);
}

#[test]
fn a_reader_that_does_not_see_what_another_op_writes_is_warned_of() {
    let ops = [("a", json!([written("x", "/work")])), ("b", json!([s3("x", "/work"), s3("y", "/work/more")]))];
    let job = job_of(&ops).unwrap();
    assert_eq!(folders(&job), ["a/work", "b/work", "b/work/more"]);
    assert_eq!(job.warnings.len(), 1);
    assert!(job.warnings[0].starts_with("ops[1] \"b\", resources[0]: ops[0] \"a\", resources[0] may write"), "{:?}", job.warnings);
}

#[test]
fn a_folder_that_would_be_too_long_is_an_error_that_names_the_op() {
    let target = "/x".repeat(1_530);
    assert!(job_of(&[("a", json!([s3("x", &target)]))]).is_ok());
    let error = job_of(&[("a-long-enough-id", json!([s3("x", &target)])), ("b", json!([s3("y", &target)]))]).unwrap_err();
    assert!(error.to_string().starts_with("ops[0] \"a-long-enough-id\", target: "), "{error}");
}

fn any_ops() -> impl Strategy<Value = Vec<Vec<Value>>> {
    let segment = prop_oneof!["[ab]", Just("..".to_owned()), Just("o1".to_owned())];
    let target = proptest::collection::vec(segment, 1..4).prop_map(|segments| format!("/{}", segments.join("/")));
    let entry = (0..3u8, target, any::<bool>());
    let entry =
        entry.prop_map(|(name, target, write)| if write { written(&name.to_string(), &target) } else { s3(&name.to_string(), &target) });
    proptest::collection::vec(proptest::collection::vec(entry, 0..4), 1..5)
}

/// What a mount shows: each resource with the folder its files lie below, seen from the mount.
fn shown(job: &Job, mount: &Mount) -> Vec<String> {
    let tree = &job.layout.trees[mount.tree];
    let seen_from = format!("/{}", mount.folder);
    let part = |part: &larder_job::Part| {
        let folder = part.below.as_ref().map_or(format!("/{}", tree.folder), |below| format!("/{}/{below}", tree.folder));
        let rest = folder.strip_prefix(&seen_from).filter(|rest| rest.is_empty() || rest.starts_with('/'));
        rest.map(|rest| format!("{:?} at {rest:?}", part.resource))
    };
    sorted(tree.parts.iter().filter_map(part).collect())
}

/// What a mount is to show by the definition alone.
fn asked(job: &Job, mount: &Mount) -> Vec<String> {
    let entries = job.ops[mount.op].entries.iter().filter(|entry| mount.target.contains(&entry.target));
    let rest = |entry: &larder_job::Entry| entry.target.below(&mount.target).map_or(String::new(), |below| format!("/{below}"));
    let mut all = sorted(
        entries.flat_map(|entry| entry.resources.iter().map(move |resource| format!("{resource:?} at {:?}", rest(entry)))).collect(),
    );
    all.dedup();
    all
}

fn sorted(mut all: Vec<String>) -> Vec<String> {
    all.sort();
    all
}

fn overlap(one: &str, other: &str) -> bool {
    format!("{one}/").starts_with(&format!("{other}/")) || format!("{other}/").starts_with(&format!("{one}/"))
}

proptest! {
    #[test]
    fn every_mount_shows_what_its_op_asked_for_and_no_two_trees_touch(ops in any_ops()) {
        let ids: Vec<String> = (0..ops.len()).map(|index| format!("o{index}")).collect();
        let ops: Vec<_> = ids.iter().map(String::as_str).zip(ops.into_iter().map(Value::from)).collect();
        let Ok(job) = job_of(&ops) else { return Ok(()) };
        let layout = &job.layout;
        for (index, tree) in layout.trees.iter().enumerate() {
            for other in &layout.trees[..index] {
                prop_assert!(!overlap(tree.folder.as_str(), other.folder.as_str()), "{} and {}", tree.folder, other.folder);
            }
        }
        for mount in &layout.mounts {
            prop_assert_eq!(shown(&job, mount), asked(&job, mount));
            let below = mount.folder.as_str().strip_prefix(layout.trees[mount.tree].folder.as_str());
            prop_assert!(below.is_some_and(|below| below.is_empty() || below.starts_with('/')));
            let allowed = mount.entries.iter().any(|&entry| job.ops[mount.op].entries[entry].writable);
            prop_assert_eq!(mount.writable, allowed);
            if mount.writable {
                let file = path(&format!("{}/f", mount.folder).replacen(&format!("{}/", layout.trees[mount.tree].folder), "", 1));
                prop_assert!(layout.trees[mount.tree].is_writable(&file));
            }
        }
        let mut all: Vec<_> = layout.mounts.iter().flat_map(|mount| mount.entries.iter().map(move |&entry| (mount.op, entry))).collect();
        all.sort_unstable();
        let each: Vec<_> = job.ops.iter().enumerate().flat_map(|(op, o)| (0..o.entries.len()).map(move |entry| (op, entry))).collect();
        prop_assert_eq!(all, each);
    }
}
