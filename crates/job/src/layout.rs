//! Decides which folder each mount of a job gets.
//!
//! Targets of one op that lie inside each other are one *tree*: their files merge, and each is still a mount of its own,
//! whose folder is a sub-folder of the tree. A tree lies at `<outermost target>` below the root under which a job is
//! laid. Ops are other containers, so:
//!
//! - Trees of two ops that hold the same at the same target are one tree.
//! - Trees that hold the same are one tree *wherever* their targets are if one of them is writable, in whatever op: in the
//!   market one volume stands behind a resource, and what one op writes the next reads, if only read-only.
//! - Ops whose trees overlap otherwise clash: all their trees lie at `<op>/<outermost target>`.
//!
//! A mount is writable if any entry with its target allows writing, with a warning if another does not. Two resources are the
//! same if they are equal with files, revision and credentials.
//!
//! Invariants: no tree's folder lies in another's, or is the same; an op has one mount a target.

mod group;
mod place;

use std::collections::{BTreeSet, HashMap};

use larder_content::{RelativePath, Resource};

use self::group::Group;
use crate::definition::Op;
use crate::{JobError, TargetPath};

/// Where the files of a job lie, relative to the folder it is laid in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Layout {
    /// The folders of files to make; none lies in another.
    pub trees: Vec<Tree>,
    /// What is mounted where: one for each op and target, in the definition's order.
    pub mounts: Vec<Mount>,
}

/// A folder of files that is laid as one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tree {
    /// Where it lies, relative to the folder the job is laid in.
    pub folder: RelativePath,
    /// What it holds. Two files for one path among all parts are an error, unless they have the same content.
    pub parts: Vec<Part>,
    /// The folders in it, or `None` for itself, that a mount may write to.
    pub writable: BTreeSet<Option<RelativePath>>,
}

impl Tree {
    /// Whether a job may write to `file`, a path in this tree, so that it needs a copy of its own.
    #[must_use]
    pub fn is_writable(&self, file: &RelativePath) -> bool {
        let lies_in = |folder: &str| file.as_str().strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        self.writable.iter().any(|folder| folder.as_ref().is_none_or(|folder| lies_in(folder.as_str())))
    }
}

/// One resource in a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// The folder in the tree that its files lie below; `None` is the tree's own.
    pub below: Option<RelativePath>,
    /// The resource.
    pub resource: Resource,
}

/// A folder and the target it is mounted at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// The op's index in the job.
    pub op: usize,
    /// Where it is mounted in the op's container, as the first of its entries writes it.
    pub target: TargetPath,
    /// The indices of the op's entries that have this target.
    pub entries: Vec<usize>,
    /// Whether the job may write to it.
    pub writable: bool,
    /// The tree it shows, or shows a folder of: an index into [`Layout::trees`].
    pub tree: usize,
    /// What is mounted, relative to the folder the job is laid in: the tree's folder, or one in it.
    pub folder: RelativePath,
}

impl Layout {
    /// Lays out the entries of `ops`, and adds to `warnings` what an operator should know of it.
    pub(crate) fn new(ops: &[Op], warnings: &mut Vec<String>) -> Result<Self, JobError> {
        let groups = group::groups(ops, warnings);
        let plan = place::Plan::new(ops, &groups);
        let mut layout = Self::default();
        let mut by_folder: HashMap<RelativePath, usize> = HashMap::new();
        for (group, place) in groups.iter().zip(&plan.places) {
            let folder = match plan.prefixes.get(&place.op) {
                Some(prefix) => join(prefix, place.target.below_root()).map_err(|error| error.in_op(&ops[place.op].label))?,
                None => place.target.below_root().clone(),
            };
            let tree = *by_folder.entry(folder.clone()).or_insert(layout.trees.len());
            if tree == layout.trees.len() {
                layout.trees.push(Tree { folder, parts: group.parts(ops), writable: BTreeSet::new() });
            }
            layout.mount(group, tree)?;
        }
        layout.mounts.sort_by_key(|mount| (mount.op, mount.entries.first().copied()));
        layout.warn_of_lone_writers(ops, warnings);
        Ok(layout)
    }

    fn mount(&mut self, group: &Group, tree: usize) -> Result<(), JobError> {
        for member in &group.members {
            if member.writable {
                self.trees[tree].writable.insert(member.below.clone());
            }
            let folder = match &member.below {
                Some(below) => join(&self.trees[tree].folder, below)?,
                None => self.trees[tree].folder.clone(),
            };
            let (target, entries) = (member.target.clone(), member.entries.clone());
            self.mounts.push(Mount { op: group.op, target, entries, writable: member.writable, tree, folder });
        }
        Ok(())
    }

    /// Warns where an entry asks for what another may write, and yet does not see what is written.
    fn warn_of_lone_writers(&self, ops: &[Op], warnings: &mut Vec<String>) {
        let entries = |mount: &Mount| mount.entries.iter().map(|&entry| &ops[mount.op].entries[entry]).collect::<Vec<_>>();
        let mut writers: HashMap<&Resource, (&str, BTreeSet<usize>)> = HashMap::new();
        for mount in self.mounts.iter().filter(|mount| mount.writable) {
            for entry in entries(mount) {
                for resource in &entry.resources {
                    writers.entry(resource).or_insert((&entry.label, BTreeSet::new())).1.insert(mount.tree);
                }
            }
        }
        for mount in &self.mounts {
            for entry in entries(mount) {
                let written = entry.resources.iter().filter_map(|resource| writers.get(resource));
                if let Some((writer, _)) = written.filter(|(_, trees)| !trees.contains(&mount.tree)).min() {
                    warnings.push(format!(
                        "{}: {writer} may write what it asks for, but among other files: it gets a copy of its own and does not see what is written",
                        entry.label
                    ));
                }
            }
        }
    }
}

fn join(folder: &RelativePath, path: &RelativePath) -> Result<RelativePath, JobError> {
    let what = "is longer than a path can be, with the folder of its op before it";
    path.below(folder).map_err(|_| JobError::new(what, "shorten the op's id or its targets").in_field("target"))
}
