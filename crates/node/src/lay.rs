//! From blobs to trees that can be mounted, under a lease.

mod places;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use larder_content::{ContentId, RelativePath};
use larder_store::{Blob, BlobName, Lay, Store, StoreError, Tree};

use crate::goal::{Goal, GoalTree};
use crate::prepare::{Gathered, Listed};
use crate::{Node, NodeError};

pub(crate) use places::Places;

/// What was laid.
pub(crate) struct Laid {
    /// The lease on it.
    pub(crate) lease: String,
    /// The folder that each mount shows.
    pub(crate) sources: Vec<PathBuf>,
}

/// The files of one tree, and the folder they are laid in.
struct Laying {
    /// The folder that the operator named, or that of all trees in the store: jobs can only move what is below it.
    root: PathBuf,
    dest: PathBuf,
    readonly: Vec<(RelativePath, Blob)>,
    writable: Vec<(RelativePath, Blob)>,
    /// Whether the job may write to its own folder, and not only to folders in it.
    writable_itself: bool,
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
    let (job, owner) = (goal.name.clone(), goal.owner);
    // Whoever asked may be gone by the time it is laid: then nobody would know the lease.
    let asker = Arc::new(());
    let asked = Arc::downgrade(&asker);
    let places = node.places.clone();
    let lay = move |store: &Store| {
        let _taken = places.take(trees.iter().map(|tree| tree.dest.clone()).collect());
        let lease = lay_under_lease(store, &job, &trees, owner)?;
        if asked.strong_count() == 0 {
            store.release(&lease, SystemTime::now())?;
        }
        Ok::<_, StoreError>(lease)
    };
    let lease = node.blocking(lay).await?;
    drop(asker);
    Ok(Laid { lease, sources })
}

/// The lease comes first: what a crash leaves half laid can then be released.
fn lay_under_lease(store: &Store, job: &str, trees: &[Laying], owner: Option<(u32, u32)>) -> Result<String, StoreError> {
    let all = trees.iter().flat_map(|tree| tree.readonly.iter().chain(&tree.writable));
    let blobs: BTreeSet<BlobName> = all.map(|(_, blob)| blob.name()).collect();
    let lease = store.take_lease(job, blobs, trees.iter().map(Laying::leased).collect(), SystemTime::now())?;
    for (tree, leased) in trees.iter().zip(&lease.trees) {
        // The first makes the tree's own folder, which the job's user must own if the job may write there.
        let mut steps = [(&tree.readonly, Lay::ReadOnly), (&tree.writable, Lay::Writable { owner })];
        if tree.writable_itself {
            steps.reverse();
        }
        let steps = steps.into_iter().enumerate().filter(|(number, (files, _))| *number == 0 || !files.is_empty());
        let laid = steps.map(|(_, (files, how))| store.lay(leased, files, how)).try_for_each(|laid| laid.map(|_| ()));
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
    /// The tree as a lease keeps it.
    fn leased(&self) -> Tree {
        let files = self.readonly.iter().chain(&self.writable).map(|(path, _)| path.clone()).collect();
        let writable = self.writable_itself || !self.writable.is_empty();
        Tree { root: self.root.clone(), path: self.dest.clone(), files, writable }
    }
}

fn laying(goal: &Goal, tree: &GoalTree, gathered: &[Gathered], targets: &Path) -> Result<Laying, NodeError> {
    let files =
        tree.parts.iter().flat_map(|(want, below)| gathered[*want].files.iter().map(move |file| (*want, below, &file.path, &file.blob)));
    let merged = merge(goal, files, |blob| blob.content())?;
    let (writable, readonly): (Vec<_>, Vec<_>) =
        merged.into_iter().map(|(path, (_, blob))| (path, blob.clone())).partition(|(path, _)| tree.layout.is_writable(path));
    let in_store = |name: &str| (targets.to_owned(), targets.join(name));
    let (root, dest) = match &tree.dest {
        Some(dest) => (goal.root.as_ref().unwrap_or(dest).clone(), dest.clone()),
        None if tree.layout.writable.is_empty() => in_store(&tree_name(&readonly)),
        // What a job may write to is its own.
        None => in_store(&format!("{:032x}", fastrand::u128(..))),
    };
    Ok(Laying { root, dest, readonly, writable, writable_itself: tree.layout.writable.contains(&None) })
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
pub(crate) fn bytes_to_copy(goal: &Goal, listed: &[Listed], store: &Store) -> u64 {
    let mut bytes: u64 = 0;
    for tree in goal.trees.iter().filter(|tree| !tree.layout.writable.is_empty()) {
        if tree.dest.as_deref().is_none_or(|dest| store.shares_disk_with(dest).unwrap_or(true)) {
            let parts = tree.parts.iter().map(|(want, _)| listed[*want].listing.manifest.bytes());
            bytes = parts.fold(bytes, u64::saturating_add);
        }
    }
    bytes
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
