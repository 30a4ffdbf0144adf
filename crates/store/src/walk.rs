//! Goes from the root of a tree to its folders without ever following a symbolic link below that root.
//!
//! The root itself is whoever's choice who named it, so it may be reached through links. What is below it may be a job's.

use std::io;
use std::path::{Component, Path};

use larder_content::RelativePath;

use crate::StoreError;
use crate::disk::Disk;
use crate::folder::Folder;
use crate::lease::Tree;

/// The folders of a tree, of which those on the way to the last file stay open.
///
/// Files are best visited in order of path: each step then opens only what the last one did not.
pub(crate) struct Walk {
    root: Folder,
    open: Vec<(String, Folder)>,
}

/// How folders that are missing are made.
#[derive(Clone, Copy)]
pub(crate) struct Make<'a> {
    pub(crate) disk: &'a dyn Disk,
    pub(crate) owner: Option<(u32, u32)>,
}

impl Tree {
    /// Opens the tree's own folder; `None` if it is not there and is not to be made.
    pub(crate) fn open(&self, make: Option<Make<'_>>) -> Result<Option<Folder>, StoreError> {
        descend(&self.root, &self.below_root()?, make)
    }

    /// Opens the folder that the tree's own lies in, and says what that is called there; `None` if there is none.
    pub(crate) fn open_parent(&self) -> Result<Option<(Folder, String)>, StoreError> {
        let below = self.below_root()?;
        let (parent, name) = match below.split_last() {
            Some((name, above)) => (descend(&self.root, above, None)?, Some(*name)),
            None => match self.root.parent() {
                Some(parent) => (descend(parent, &[], None)?, self.root.file_name().and_then(|name| name.to_str())),
                None => (None, None),
            },
        };
        Ok(parent.zip(name.map(str::to_owned)))
    }

    /// The folders that lead from the root to the tree.
    fn below_root(&self) -> Result<Vec<&str>, StoreError> {
        let blocked = |why| StoreError::Blocked { path: self.path.clone(), why };
        let below = self.path.strip_prefix(&self.root).map_err(|_| blocked("does not lie in the root it was to be laid in"))?;
        let name = |part| match part {
            Component::Normal(name) => name.to_str().ok_or_else(|| blocked("has a name that is not UTF-8")),
            Component::Prefix(_) | Component::RootDir | Component::CurDir | Component::ParentDir => {
                Err(blocked("leads out of the root it was to be laid in"))
            }
        };
        below.components().map(name).collect()
    }
}

/// Opens the folder that the names in `below` lead to from `root`; `None` if it is not there and is not to be made.
fn descend(root: &Path, below: &[&str], make: Option<Make<'_>>) -> Result<Option<Folder>, StoreError> {
    let (mut nearest, mut missing) = (root, vec![]);
    while make.is_some() && !nearest.exists() {
        let (Some(parent), Some(name)) = (nearest.parent(), nearest.file_name()) else { break };
        missing.push(name);
        nearest = parent;
    }
    let mut folder = match Folder::open(nearest) {
        Err(StoreError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened?,
    };
    let blocked = || StoreError::Blocked { path: root.into(), why: "has a name that is not UTF-8" };
    let missing = missing.into_iter().rev().map(|name| name.to_str().ok_or_else(blocked));
    for name in missing.chain(below.iter().map(|name| Ok(*name))) {
        match step(&folder, name?, make)? {
            Some(inner) => folder = inner,
            None => return Ok(None),
        }
    }
    Ok(Some(folder))
}

/// Opens the folder `name` in `parent`; `None` if it is not there and is not to be made.
fn step(parent: &Folder, name: &str, make: Option<Make<'_>>) -> Result<Option<Folder>, StoreError> {
    match (parent.enter(name)?, make) {
        (None, Some(make)) => match make.disk.make_folder(parent, name, 0o755, make.owner) {
            // Another job may make it as well.
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(parent.fault(name, error)),
            Ok(()) | Err(_) => parent.enter(name),
        },
        (entered, _) => Ok(entered),
    }
}

impl Walk {
    /// A walk from the tree's own folder on.
    pub(crate) fn new(root: Folder) -> Self {
        Self { root, open: vec![] }
    }

    /// The tree's own folder.
    pub(crate) fn root(&self) -> &Folder {
        &self.root
    }

    /// Closes the folders on the way, so that they can be removed and looked up again.
    pub(crate) fn close(&mut self) {
        self.open.clear();
    }

    /// The folder that `path` lies in; `None` if it is not there and is not to be made.
    pub(crate) fn folder_of(&mut self, path: &RelativePath, make: Option<Make<'_>>) -> Result<Option<&Folder>, StoreError> {
        let mut wanted: Vec<&str> = path.segments().collect();
        wanted.pop();
        let common = wanted.iter().zip(&self.open).take_while(|(wanted, (name, _))| *wanted == name).count();
        self.open.truncate(common);
        for name in &wanted[common..] {
            let parent = self.open.last().map_or(&self.root, |(_, folder)| folder);
            match step(parent, name, make)? {
                Some(folder) => self.open.push(((*name).to_owned(), folder)),
                None => return Ok(None),
            }
        }
        Ok(Some(self.open.last().map_or(&self.root, |(_, folder)| folder)))
    }
}
