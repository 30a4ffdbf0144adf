//! From blobs to trees that can be mounted, under a lease.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use larder_content::{ContentId, RelativePath};
use larder_store::{Blob, BlobName, Lay, Store, StoreError, Tree};

use crate::goal::{Goal, GoalTree};
use crate::prepare::{Gathered, Listed};
use crate::{Node, NodeError};

/// What was laid.
pub(crate) struct Laid {
    /// The lease on it.
    pub(crate) lease: String,
    /// The folder that each mount shows.
    pub(crate) sources: Vec<PathBuf>,
}

/// The files of one tree, and the folder they are laid in.
struct Laying {
    dest: PathBuf,
    readonly: Vec<(RelativePath, Blob)>,
    writable: Vec<(RelativePath, Blob)>,
    /// The folders in it that the job may write to.
    writable_folders: Vec<PathBuf>,
}

/// Lays all trees of a goal and takes a lease on them.
pub(crate) async fn lay(node: &Node, goal: &Goal, gathered: &[Gathered]) -> Result<Laid, NodeError> {
    let targets = node.store().targets();
    let trees = goal.trees.iter().map(|tree| laying(goal, tree, gathered, &targets)).collect::<Result<Vec<Laying>, _>>()?;
    let source = |mount: &crate::goal::GoalMount| {
        let dest = &trees[mount.tree].dest;
        mount.below.as_ref().map_or_else(|| dest.clone(), |below| dest.join(below.as_str()))
    };
    let sources = goal.mounts.iter().map(source).collect();
    let (job, root, owner) = (goal.name.clone(), goal.root.clone(), goal.owner);
    let lay = move |store: &Store| {
        trees.iter().try_for_each(|tree| refuse_links(root.as_deref(), &tree.dest))?;
        lay_under_lease(store, &job, &trees, owner)
    };
    let lease = node.blocking(lay).await?;
    Ok(Laid { lease, sources })
}

/// Refuses a folder that is reached through a symbolic link below the root: an earlier job may have put it there.
fn refuse_links(root: Option<&Path>, dest: &Path) -> Result<(), StoreError> {
    let Some(root) = root else { return Ok(()) };
    let mut below = dest.ancestors().take_while(|folder| *folder != root);
    match below.find(|folder| folder.is_symlink()) {
        Some(link) => Err(StoreError::Blocked { path: link.into(), why: "is a symbolic link where a folder is needed" }),
        None => Ok(()),
    }
}

/// The lease comes first: what a crash leaves half laid can then be released.
fn lay_under_lease(store: &Store, job: &str, trees: &[Laying], owner: Option<(u32, u32)>) -> Result<String, StoreError> {
    let all = trees.iter().flat_map(|tree| tree.readonly.iter().chain(&tree.writable));
    let blobs: BTreeSet<BlobName> = all.map(|(_, blob)| blob.name()).collect();
    let lease = store.take_lease(job, blobs, trees.iter().flat_map(Laying::leased).collect(), SystemTime::now())?;
    for tree in trees {
        // The first makes the tree's own folder, which the job's user must own if the job may write there.
        let mut steps = [(&tree.readonly, Lay::ReadOnly), (&tree.writable, Lay::Writable { owner, replace: true })];
        if tree.writable_folders.contains(&tree.dest) {
            steps.reverse();
        }
        let steps = steps.into_iter().enumerate().filter(|(number, (files, _))| *number == 0 || !files.is_empty());
        let laid = steps.map(|(_, (files, how))| store.lay(&tree.dest, files, how)).try_for_each(|laid| laid.map(|_| ()));
        if let Err(error) = laid {
            if let Err(error) = store.release(&lease.id, SystemTime::now()) {
                tracing::warn!(lease = lease.id, %error, "what was laid in part could not be removed");
            }
            return Err(error);
        }
    }
    Ok(lease.id)
}

impl Laying {
    /// The tree as a lease keeps it: what a job may write to is removed whole, of the rest only what was laid.
    fn leased(&self) -> Vec<Tree> {
        let paths = |files: &[(RelativePath, Blob)]| files.iter().map(|(path, _)| path.clone()).collect();
        let mut trees: Vec<Tree> =
            self.writable_folders.iter().map(|folder| Tree { path: folder.clone(), files: Vec::new(), writable: true }).collect();
        if !self.writable_folders.contains(&self.dest) {
            trees.push(Tree { path: self.dest.clone(), files: paths(&self.readonly), writable: false });
        }
        trees
    }
}

fn laying(goal: &Goal, tree: &GoalTree, gathered: &[Gathered], targets: &Path) -> Result<Laying, NodeError> {
    let files =
        tree.parts.iter().flat_map(|(want, below)| gathered[*want].files.iter().map(move |file| (*want, below, &file.path, &file.blob)));
    let merged = merge(goal, files, |blob| blob.content())?;
    let (writable, readonly): (Vec<_>, Vec<_>) =
        merged.into_iter().map(|(path, (_, blob))| (path, blob.clone())).partition(|(path, _)| tree.layout.is_writable(path));
    let dest = match &tree.dest {
        Some(dest) => dest.clone(),
        None if tree.layout.writable.is_empty() => targets.join(tree_name(&readonly)),
        // What a job may write to is its own.
        None => targets.join(format!("{:032x}", fastrand::u128(..))),
    };
    let folder = |folder: &Option<RelativePath>| folder.as_ref().map_or_else(|| dest.clone(), |folder| dest.join(folder.as_str()));
    let writable_folders = tree.layout.writable.iter().map(folder).collect();
    Ok(Laying { dest, readonly, writable, writable_folders })
}

/// The name of a read-only tree: equal trees of several jobs are one.
fn tree_name(files: &[(RelativePath, Blob)]) -> String {
    let lines: String = files.iter().map(|(path, blob)| format!("{path}\0{}\n", blob.content())).collect();
    ContentId::of(lines.as_bytes()).to_string()[..32].to_owned()
}

/// Refuses what the listings already show: files of different sizes at one path, or a file where another resource has a folder.
pub(crate) fn check_sizes(goal: &Goal, listed: &[Listed]) -> Result<(), NodeError> {
    for tree in &goal.trees {
        let files = tree.parts.iter().flat_map(|(want, below)| {
            listed[*want].listing.manifest.files().iter().map(move |file| (*want, below, &file.path, &file.size))
        });
        merge(goal, files, |size| *size)?;
    }
    Ok(())
}

/// The bytes that laying will copy on the store's own disk: those that jobs may write to.
pub(crate) fn bytes_to_copy(goal: &Goal, listed: &[Listed]) -> u64 {
    let writable = goal.trees.iter().filter(|tree| !tree.layout.writable.is_empty());
    writable.flat_map(|tree| &tree.parts).map(|(want, _)| listed[*want].listing.manifest.bytes()).sum()
}

/// Merges the files of several resources into one tree. `sameness` tells files at one path apart.
fn merge<'a, T, S: PartialEq>(
    goal: &Goal,
    files: impl Iterator<Item = (usize, &'a Option<RelativePath>, &'a RelativePath, &'a T)>,
    sameness: impl Fn(&T) -> S,
) -> Result<BTreeMap<RelativePath, (usize, &'a T)>, NodeError> {
    let name = |want: usize| goal.wants[want].address.clone();
    let conflict = |path: &str, first, second| NodeError::Conflict { path: path.to_owned(), first: name(first), second: name(second) };
    let mut merged: BTreeMap<RelativePath, (usize, &T)> = BTreeMap::new();
    for (want, below, path, file) in files {
        let path = match below {
            Some(below) => path.below(below).map_err(|error| NodeError::Input(error.to_string()))?,
            None => path.clone(),
        };
        if let Some((earlier, other)) = merged.get(&path) {
            if sameness(other) != sameness(file) {
                return Err(conflict(path.as_str(), *earlier, want));
            }
            continue;
        }
        merged.insert(path, (want, file));
    }
    for (path, (want, _)) in &merged {
        let folders = path.ancestors().filter_map(|folder| RelativePath::new(folder).ok());
        if let Some((folder, other)) = folders.filter_map(|folder| merged.get(&folder).map(|(other, _)| (folder, *other))).next() {
            return Err(conflict(folder.as_str(), other, *want));
        }
    }
    Ok(merged)
}
