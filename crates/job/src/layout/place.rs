//! Decides which groups share a place, and whose places need the op's name before them.

use std::collections::{BTreeMap, HashMap, HashSet};

use larder_content::RelativePath;

use super::group::Group;
use crate::TargetPath;
use crate::definition::Op;

/// The longest folder name made of an op's id, in bytes.
const MAX_PREFIX_BYTES: usize = 64;

/// Where each group is laid.
pub(super) struct Plan<'a> {
    /// One for each group.
    pub(super) places: Vec<Place<'a>>,
    /// The folders of the ops that clash, by their index.
    pub(super) prefixes: BTreeMap<usize, RelativePath>,
}

/// The target, and the op whose target it is, that a group is laid at.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) op: usize,
    pub(super) target: &'a TargetPath,
}

impl<'a> Plan<'a> {
    pub(super) fn new(ops: &[Op], groups: &'a [Group]) -> Self {
        let places = places(groups);
        let clashing = clashing_ops(groups, &places);
        let prefixes = prefixes(ops, &clashing, &places);
        Self { places, prefixes }
    }
}

/// Groups that hold the same are laid where the first of them is, if one of them is writable.
fn places<'a>(groups: &'a [Group]) -> Vec<Place<'a>> {
    let written: HashSet<_> = groups.iter().filter(|group| group.is_writable()).map(|group| &group.holds).collect();
    let mut shared = HashMap::new();
    let place = |group: &'a Group| {
        let own = Place { op: group.op, target: &group.outermost };
        if written.contains(&group.holds) { *shared.entry(&group.holds).or_insert(own) } else { own }
    };
    groups.iter().map(place).collect()
}

/// The ops whose places overlap with those of others, but for the same content at the same target.
fn clashing_ops(groups: &[Group], places: &[Place]) -> HashSet<usize> {
    let mut content = HashMap::new();
    let mut clashing: HashSet<&str> = HashSet::new();
    for (group, place) in groups.iter().zip(places) {
        let target = place.target.below_root().as_str();
        if *content.entry(target).or_insert(&group.holds) != &group.holds {
            clashing.insert(target);
        }
    }
    for place in places {
        let target = place.target.below_root();
        for outer in target.ancestors().filter_map(|folder| content.get_key_value(folder)) {
            clashing.extend([*outer.0, target.as_str()]);
        }
    }
    places.iter().filter(|place| clashing.contains(place.target.below_root().as_str())).map(|place| place.op).collect()
}

/// A folder for each clashing op, named like it, that is neither another's nor in the way of a target laid without one.
fn prefixes(ops: &[Op], clashing: &HashSet<usize>, places: &[Place]) -> BTreeMap<usize, RelativePath> {
    let plain = places.iter().filter(|place| !clashing.contains(&place.op));
    let first_segment = |place: &Place| place.target.below_root().segments().next().map(str::to_lowercase);
    let mut taken: HashSet<String> = plain.filter_map(first_segment).collect();
    let mut prefixes = BTreeMap::new();
    for (index, op) in ops.iter().enumerate().filter(|(index, _)| clashing.contains(index)) {
        let name = folder_name(&op.id);
        let numbered = (index..).map(|number| format!("{name}-{number}"));
        let free = std::iter::once(name.clone()).chain(numbered).find(|name| taken.insert(name.to_lowercase()));
        if let Some(folder) = free.and_then(|name| RelativePath::new(name).ok()) {
            prefixes.insert(index, folder);
        }
    }
    prefixes
}

/// `id` with what a path, a shell or a mount option could trip over replaced by `_`.
fn folder_name(id: &str) -> String {
    let safe = |(at, c): (usize, char)| match c {
        'a'..='z' | 'A'..='Z' | '0'..='9' | '_' => c,
        '-' | '.' if at > 0 => c,
        _ => '_',
    };
    id.chars().take(MAX_PREFIX_BYTES).enumerate().map(safe).collect()
}
