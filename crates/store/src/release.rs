//! Takes back what was laid: only what is still as it was laid, and never through a symbolic link.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use larder_content::RelativePath;

use crate::blobs::BlobName;
use crate::folder::{Folder, Status};
use crate::index::Row;
use crate::lease::{Lease, Tree};
use crate::records::{BlobRow, CopyRow};
use crate::tree::temp_name;
use crate::walk::Walk;
use crate::{Shared, Store, StoreError, lock};

/// What releasing a lease removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Released {
    /// The lease that ended.
    pub lease: Lease,
    /// Files that were removed from its trees.
    pub files: u64,
    /// Trees of which nothing is left.
    pub trees: u64,
}

/// A file in a tree of a lease.
#[derive(Clone, Copy)]
pub(crate) struct LaidFile<'a> {
    pub(crate) lease: &'a Lease,
    pub(crate) tree: &'a Tree,
    pub(crate) path: &'a RelativePath,
    pub(crate) folder: &'a Folder,
    pub(crate) status: Status,
}

impl Store {
    /// Ends a lease and removes what was laid for it; `None` if there is no such lease.
    ///
    /// Files that another lease has laid at the same place stay. So does what the job changed or added, unless the tree is in
    /// the store's own `targets`: a writable one there goes as a whole.
    ///
    /// # Errors
    /// If something cannot be removed: then the lease stays, so that it can be tried again.
    pub fn release(&self, id: &str, now: SystemTime) -> Result<Option<Released>, StoreError> {
        let shared = &*self.shared;
        let Some(lease) = lock(&shared.leases).get(id).cloned() else { return Ok(None) };
        let mut released = Released { files: 0, trees: 0, lease };
        for tree in &released.lease.trees {
            released.files += shared.remove_tree(tree, id)?;
            released.trees += u64::from(!tree.path.exists());
        }
        shared.touch(&released.lease.blobs, now)?;
        shared.remove_file(&format!("leases/{id}"))?;
        lock(&shared.leases).remove(id);
        Ok(Some(released))
    }

    /// Releases the leases that have expired. One whose trees cannot be removed stays for the next time, and holds no blob any more.
    pub fn expire(&self, now: SystemTime) -> Vec<Released> {
        let expired: Vec<_> = self.leases().into_iter().filter(|lease| lease.expires <= now).collect();
        let release = |lease: Lease| match self.release(&lease.id, now) {
            Ok(released) => released,
            Err(error) => {
                tracing::warn!(lease = lease.id, %error, "what was laid for an expired lease cannot be removed");
                None
            }
        };
        expired.into_iter().filter_map(release).collect()
    }
}

impl Shared {
    /// Removes what lease `id` alone has laid in a tree.
    fn remove_tree(&self, tree: &Tree, id: &str) -> Result<u64, StoreError> {
        let leases = lock(&self.leases);
        let others = leases.values().filter(|lease| lease.id != id).flat_map(|lease| &lease.trees);
        let others: Vec<&Tree> = others.filter(|other| other.meets(tree)).collect();
        let own = tree.path.parent() == Some(&self.home.path_of("targets"));
        if tree.writable && own && others.is_empty() {
            drop(leases);
            return self.remove_whole(tree);
        }
        let alone = tree.without(&others);
        drop(leases);
        self.remove_laid(&alone)
    }

    /// Removes a folder of the store's own `targets` with all that a job put there.
    fn remove_whole(&self, tree: &Tree) -> Result<u64, StoreError> {
        // The standard library's removal follows no symbolic link. Nothing in it is a blob's.
        match std::fs::remove_dir_all(&tree.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(StoreError::of(tree.path.clone(), error)),
            Ok(()) | Err(_) => {}
        }
        for file in &tree.files {
            self.index.remove(Row::Copy(&tree.path_of(file)))?;
        }
        Ok(tree.files.len() as u64)
    }

    /// Removes the files of `tree` that are still as they were laid, then the folders that this left empty.
    pub(crate) fn remove_laid(&self, tree: &Tree) -> Result<u64, StoreError> {
        let root = match tree.open(None) {
            Ok(Some(root)) => root,
            // What is in the way there was not laid here.
            Ok(None) | Err(StoreError::Blocked { .. }) => return Ok(0),
            Err(other) => return Err(other),
        };
        let blobs = self.blobs_by_inode()?;
        let copies: HashMap<PathBuf, CopyRow> = self.index.copies(&tree.path).collect::<Result<_, _>>()?;
        let device = self.home.own_status()?.device;
        let mut files: Vec<&RelativePath> = tree.files.iter().collect();
        files.sort_by(|a, b| a.segments().cmp(b.segments()));
        let mut walk = Walk::new(root);
        let mut removed = 0;
        for path in &files {
            let folder = match walk.folder_of(path, None) {
                Ok(Some(folder)) => folder,
                Ok(None) | Err(StoreError::Blocked { .. }) => continue,
                Err(other) => return Err(other),
            };
            let _ = self.disk.remove_file(folder, &temp_name(path.file_name()));
            let Some(status) = folder.status(path.file_name())?.filter(|status| status.is_file) else { continue };
            let blob = blobs.get(&status.fingerprint.inode).filter(|_| status.device == device);
            let copied = copies.get(&tree.path_of(path)).is_some_and(|copy| copy.fingerprint == status.fingerprint);
            if blob.is_none() && !copied {
                continue;
            }
            self.unlink(folder, path.file_name(), blob.copied())?;
            self.index.remove(Row::Copy(&tree.path_of(path)))?;
            removed += 1;
        }
        self.remove_empty_folders(tree, walk, &files)?;
        Ok(removed)
    }

    /// Removes a laid file, and renews the fingerprint of the blob that it was a link of.
    fn unlink(&self, folder: &Folder, name: &str, blob: Option<BlobName>) -> Result<(), StoreError> {
        let remove = || self.disk.remove_file(folder, name);
        let removed = match blob {
            Some(blob) => self.relinking(blob, &self.stripe(blob), remove)?,
            None => remove(),
        };
        removed.map_err(|error| folder.fault(name, error))
    }

    pub(crate) fn blobs_by_inode(&self) -> Result<HashMap<u64, BlobName>, StoreError> {
        Ok(self.index.blobs()?.into_iter().map(|(name, row): (BlobName, BlobRow)| (row.fingerprint.inode, name)).collect())
    }

    /// Removes the folders of `files` that are empty, deepest first, and at last the tree's own.
    fn remove_empty_folders(&self, tree: &Tree, mut walk: Walk, files: &[&RelativePath]) -> Result<(), StoreError> {
        let folders: BTreeSet<&str> = files.iter().flat_map(|file| file.ancestors()).collect();
        let mut deepest_first: Vec<RelativePath> = folders.into_iter().filter_map(|folder| RelativePath::new(folder).ok()).collect();
        deepest_first.sort_by_key(|folder| std::cmp::Reverse(folder.segments().count()));
        for folder in &deepest_first {
            walk.close();
            if let Ok(Some(parent)) = walk.folder_of(folder, None) {
                // One that is not empty holds what others put there.
                let _ = self.disk.remove_folder(parent, folder.file_name());
            }
        }
        if let Some((parent, name)) = tree.open_parent()? {
            let _ = self.disk.remove_folder(&parent, &name);
        }
        Ok(())
    }

    /// Removes from all leased trees the files that `is_torn` says so of, and returns how many.
    pub(crate) fn remove_torn(&self, is_torn: &dyn Fn(LaidFile<'_>) -> Result<bool, StoreError>) -> u64 {
        let told = |error: StoreError| {
            tracing::warn!(%error, "a file in a target cannot be checked");
            false
        };
        let leases: Vec<Lease> = lock(&self.leases).values().cloned().collect();
        let mut removed = 0;
        for (lease, tree) in leases.iter().flat_map(|lease| lease.trees.iter().map(move |tree| (lease, tree))) {
            let Ok(Some(root)) = tree.open(None) else { continue };
            let mut walk = Walk::new(root);
            for path in &tree.files {
                let Ok(Some(folder)) = walk.folder_of(path, None) else { continue };
                let look = || {
                    let status = folder.status(path.file_name())?.filter(|status| status.is_file);
                    let torn = status.is_some_and(|status| is_torn(LaidFile { lease, tree, path, folder, status }).unwrap_or_else(told));
                    if torn {
                        self.disk.remove_file(folder, path.file_name()).map_err(|error| folder.fault(path.file_name(), error))?;
                    }
                    Ok::<_, StoreError>(torn)
                };
                // What a job did to its folders must not keep the store from its work.
                removed += u64::from(look().unwrap_or_else(told));
            }
        }
        removed
    }

    /// Removes the files that `is_torn` says so of from the store's own `targets`, whether a lease names them or not: the one that
    /// did may be torn as well, while another holds the same tree.
    pub(crate) fn remove_torn_strays(&self, is_torn: &dyn Fn(&Status) -> bool) -> Result<u64, StoreError> {
        let targets = self.home.path_of("targets");
        let mut files = vec![];
        files_below(&targets, "", &mut files);
        let mut walk = Walk::new(Folder::open(&targets)?);
        let mut removed = 0;
        for path in &files {
            let Ok(Some(folder)) = walk.folder_of(path, None) else { continue };
            if folder.status(path.file_name())?.is_some_and(|status| status.is_file && is_torn(&status)) {
                self.disk.remove_file(folder, path.file_name()).map_err(|error| folder.fault(path.file_name(), error))?;
                removed += 1;
            }
        }
        Ok(removed)
    }

    /// Removes the trees in the store's own `targets` that no lease names, and returns how many.
    ///
    /// A lease is written before its trees, so they are what is left of one that a power cut took.
    pub(crate) fn remove_unleased(&self) -> Result<u64, StoreError> {
        let targets = self.home.path_of("targets");
        let leased: Vec<PathBuf> = lock(&self.leases).values().flat_map(|lease| &lease.trees).map(|tree| tree.path.clone()).collect();
        let mut removed = 0;
        for name in self.home.names("targets")? {
            let path = targets.join(name);
            if leased.iter().any(|tree| tree.starts_with(&path)) {
                continue;
            }
            if std::fs::symlink_metadata(&path).is_ok_and(|found| found.is_dir()) {
                let mut files = vec![];
                files_below(&path, "", &mut files);
                let tree = Tree { root: targets.clone(), path, files, writable: true };
                self.remove_laid(&tree)?;
                self.remove_whole(&tree)?;
                removed += 1;
            }
        }
        Ok(removed)
    }
}

/// Adds the files below `folder` to `files`, as paths from `root` on.
fn files_below(root: &Path, folder: &str, files: &mut Vec<RelativePath>) {
    for entry in std::fs::read_dir(root.join(folder)).into_iter().flatten().flatten() {
        let Ok(name) = entry.file_name().into_string() else { continue };
        let path = if folder.is_empty() { name } else { format!("{folder}/{name}") };
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => files_below(root, &path, files),
            Ok(kind) if kind.is_file() => files.extend(RelativePath::new(path).ok()),
            Ok(_) | Err(_) => {}
        }
    }
}
