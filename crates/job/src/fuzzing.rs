//! The readers of what jobs and markets write, for a fuzzer.

use larder_content::fuzzing::Target;

use crate::{Job, MAX_RESOURCES, Settings, parse, parse_required};

/// This crate's readers. Of JSON an empty object in a list takes some 90 bytes for each of its seven, and is there up to three times. What
/// literals stand for counts as text: 64 KiB, and 16 bytes for each byte of the definition.
pub const TARGETS: &[Target] =
    &[Target::new("definition", definition).holding(16 << 20, 2048), Target::new("required", required).holding(256 << 10, 512)];

/// A definition, and settings before it: the lines down to an empty one.
fn definition(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let (pairs, definition) = text.split_once("\n\n").filter(|_| !text.starts_with('{')).unwrap_or(("", &text));
    let Ok(settings) = Settings::from_pairs(pairs.lines()) else { return };
    match parse(definition, &settings) {
        Ok(job) => holds(&job),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

fn holds(job: &Job) {
    assert!(job.resources().len() <= MAX_RESOURCES);
    let trees = &job.layout.trees;
    for (at, tree) in trees.iter().enumerate() {
        let below = |folder: &str| tree.folder.as_str().strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        let outer = trees.iter().enumerate().find(|(other, outer)| *other != at && below(outer.folder.as_str()));
        assert!(outer.is_none(), "{} lies in {:?}", tree.folder, outer.map(|(_, outer)| &outer.folder));
    }
    for mount in &job.layout.mounts {
        let (tree, op) = (&trees[mount.tree], &job.ops[mount.op]);
        assert!(mount.folder == tree.folder || mount.folder.ancestors().any(|folder| folder == tree.folder.as_str()));
        assert!(mount.entries.iter().all(|entry| op.entries[*entry].target == mount.target));
    }
    let mounted: usize = job.layout.mounts.iter().map(|mount| mount.entries.len()).sum();
    assert_eq!(mounted, job.ops.iter().map(|op| op.entries.len()).sum::<usize>(), "each entry has its mount");
    let again = job.layout.mounts.iter().map(|mount| (mount.op, mount.target.below_root())).collect::<std::collections::HashSet<_>>();
    assert_eq!(again.len(), job.layout.mounts.len(), "an op has one mount a target");
}

/// What a market wants its hosts to hold.
fn required(bytes: &[u8]) {
    if let Ok(required) = parse_required(&String::from_utf8_lossy(bytes)) {
        let resources = required.entries.iter().map(|entry| entry.resources.len()).sum::<usize>();
        assert!(resources <= MAX_RESOURCES && required.entries.iter().all(|entry| !entry.resources.is_empty()));
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_seed_of_the_corpus_is_read() {
        larder_content::fuzzing::replay(super::TARGETS, concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz"));
    }
}
