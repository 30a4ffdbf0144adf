//! Lays files into targets.
//!
//! Invariants: a name in a target leads to a whole file or to none; nothing is written through a symbolic link below the
//! root of a tree; what a job may write shares nothing with a blob.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use larder_content::{ContentId, RelativePath};

use crate::blobs::Blob;
use crate::folder::{Folder, Status, absolute};
use crate::index::Row;
use crate::lease::Tree;
use crate::records::{BlobRow, CopyRow, UNSEEN_GROUP};
use crate::walk::{Make, Walk};
use crate::{Limit, Shared, Store, StoreError, lock};

/// How files are laid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lay {
    /// For reading: they share their blocks with the blobs where the file system can. 0444, folders 0755.
    ReadOnly,
    /// For writing: copies of their own, in place of whatever files are there. 0644, folders 0755.
    Writable {
        /// User and group that get the files, and the folders that are made; `None` leaves them to who runs this.
        owner: Option<(u32, u32)>,
    },
}

/// What laying did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Laid {
    /// Files that share the blocks of their blob.
    pub reflinked: u64,
    /// Files that are a second name of their blob.
    pub linked: u64,
    /// Files that were copied.
    pub copied: u64,
    /// Bytes that were copied.
    pub bytes_copied: u64,
    /// Files that were there already.
    pub kept: u64,
}

/// How a file gets into a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Means {
    Reflink,
    Link,
    Copy,
}

impl Store {
    /// Lays `files` into the folder of `tree`, which is made if it is not there.
    ///
    /// Take the lease on the tree first: then a crash in between leaves nothing that a release does not remove. Files that are
    /// there and right are kept, if jobs only read them; others are replaced in one step. What else is in the folder is not touched.
    ///
    /// # Errors
    /// [`StoreError::Blocked`] if a symbolic link or a folder is where none may be, [`StoreError::Full`] if copies do not fit
    /// (before any is made), [`StoreError::Damaged`] if a blob is not what it was: then it is gone, and has to be fetched again.
    pub fn lay(&self, tree: &Tree, files: &[(RelativePath, Blob)], how: Lay) -> Result<Laid, StoreError> {
        let shared = &*self.shared;
        let tree = Tree { root: absolute(&tree.root)?, path: absolute(&tree.path)?, files: vec![], writable: tree.writable };
        let owner = match how {
            Lay::ReadOnly => None,
            Lay::Writable { owner } => owner,
        };
        let mut files: Vec<&(RelativePath, Blob)> = files.iter().collect();
        files.sort_by(|a, b| a.0.segments().cmp(b.0.segments()));
        let make = Some(Make { disk: &*shared.disk, owner });
        let gone = || StoreError::Io { path: tree.path.clone(), source: io::ErrorKind::NotFound.into() };
        let mut walk = Walk::new(tree.open(make)?.ok_or_else(gone)?);
        let mut laid = Laid::default();
        let copies = shared.index.copies(&tree.path).collect::<Result<_, _>>()?;
        let device = shared.home.own_status()?.device;
        let mut laying = Laying { shared, tree, how, owner, means: Means::Copy, copies, device };
        let mut wrong = vec![];
        for entry in files {
            let there = match walk.folder_of(&entry.0, None)? {
                Some(folder) => folder.status(entry.0.file_name())?,
                None => None,
            };
            let keep = match there {
                Some(status) if status.is_folder => {
                    return Err(StoreError::Blocked { path: laying.tree.path_of(&entry.0), why: "is a folder where a file is to be" });
                }
                Some(status) => laying.is_right(&status, entry)?,
                None => false,
            };
            if keep {
                laid.kept += 1;
            } else {
                wrong.push(entry);
            }
        }
        laying.choose_means(walk.root(), &wrong)?;
        for at in 0..wrong.len() {
            let (path, blob) = wrong[at];
            let Some(folder) = walk.folder_of(path, make)? else { continue };
            laying.place(folder, path, blob, &wrong[at..], &mut laid)?;
        }
        Ok(laid)
    }

    /// Whether files laid at `dest` can share the store's disk. If not, laying there means copying.
    ///
    /// `dest` need not exist: then the folder counts in which it would be made.
    ///
    /// # Errors
    /// If no folder on the way to it can be looked at.
    pub fn shares_disk_with(&self, dest: &Path) -> Result<bool, StoreError> {
        let dest = absolute(dest)?;
        let nearest = dest.ancestors().find(|folder| folder.is_dir()).unwrap_or(Path::new("/"));
        let folder = Folder::open(nearest)?;
        let device = folder.own_status()?.device;
        let known = lock(&self.shared.reflinks).get(&device).copied().unwrap_or(false);
        Ok(known || device == self.shared.home.own_status()?.device)
    }
}

/// The name a file has in its folder until it is whole: the same each time, so that one left by a crash is found.
pub(crate) fn temp_name(name: &str) -> String {
    format!(".larder-{}.part", &ContentId::of(name.as_bytes()).to_string()[..16])
}

/// One run of [`Store::lay`].
struct Laying<'a> {
    shared: &'a Shared,
    tree: Tree,
    how: Lay,
    owner: Option<(u32, u32)>,
    means: Means,
    /// What earlier runs copied to this place.
    copies: HashMap<PathBuf, CopyRow>,
    /// The store's own disk.
    device: u64,
}

impl Laying<'_> {
    /// Whether what is there is what is to be laid: for reading, a link to the blob or a copy nobody touched.
    fn is_right(&self, status: &Status, (path, blob): &(RelativePath, Blob)) -> Result<bool, StoreError> {
        if self.how != Lay::ReadOnly || !status.is_file {
            return Ok(false);
        }
        let copy = self.copies.get(&self.tree.path_of(path));
        let is_known = |copy: &CopyRow| copy.group != UNSEEN_GROUP && copy.fingerprint == status.fingerprint;
        if copy.is_some_and(|copy| copy.content == blob.content().0 && is_known(copy)) {
            return Ok(true);
        }
        // As the blob was when it was right: a link to it would show what was written to it since.
        let row = self.shared.index.get::<BlobRow>(Row::Blob(blob.name()))?;
        Ok(status.device == self.device && row.is_some_and(|row| row.fingerprint == status.fingerprint))
    }

    /// Chooses how files get to the disk of `root`, and refuses copies that do not fit.
    fn choose_means(&mut self, root: &Folder, wrong: &[&(RelativePath, Blob)]) -> Result<(), StoreError> {
        let Some((_, sample)) = wrong.iter().max_by_key(|(_, blob)| blob.size()) else { return Ok(()) };
        let device = root.own_status()?.device;
        self.means = if self.shared.can_reflink(root, device, sample)? {
            Means::Reflink
        } else if self.how == Lay::ReadOnly && device == self.device {
            Means::Link
        } else {
            Means::Copy
        };
        if self.means == Means::Copy { self.check_room(root, wrong) } else { Ok(()) }
    }

    fn check_room(&self, folder: &Folder, files: &[&(RelativePath, Blob)]) -> Result<(), StoreError> {
        let needed = files.iter().fold(0, |sum: u64, (_, blob)| sum.saturating_add(blob.size()));
        let floor = self.shared.config.free_floor_bytes;
        let free = folder.free_bytes()?.saturating_sub(floor);
        if needed > free {
            return Err(StoreError::Full { needed, free, limit: Limit::Disk { path: self.tree.path.clone(), floor } });
        }
        Ok(())
    }

    /// Lays one file; `rest` are those that are still to be laid, this one first.
    fn place(
        &mut self,
        folder: &Folder,
        path: &RelativePath,
        blob: &Blob,
        rest: &[&(RelativePath, Blob)],
        laid: &mut Laid,
    ) -> Result<(), StoreError> {
        let (shared, name) = (self.shared, path.file_name());
        let guard = shared.stripe(blob.name());
        if shared.checked(blob.name(), &guard)?.is_none() {
            let why = "its bytes are not what they were; it was dropped, and has to be fetched again".into();
            return Err(StoreError::Damaged { path: blob.path().into(), why });
        }
        if self.means == Means::Link {
            let linked = shared.relinking(blob.name(), &guard, || self.link(folder, name, blob))?;
            match linked {
                Ok(()) => {
                    laid.linked += 1;
                    return Ok(());
                }
                // A file has as many links as its file system allows: one more is a copy.
                Err(error) if error.kind() == io::ErrorKind::TooManyLinks => {}
                Err(error) if cannot_link(&error) => {
                    self.means = Means::Copy;
                    self.check_room(folder, rest)?;
                }
                Err(error) => return Err(folder.fault(name, error)),
            }
        }
        drop(guard);
        let source = shared.home.file(&blob.name().file(), false)?;
        self.copy(folder, path, blob, &source)?;
        if self.means == Means::Reflink {
            laid.reflinked += 1;
        } else {
            laid.copied += 1;
            laid.bytes_copied += blob.size();
        }
        Ok(())
    }

    fn link(&self, folder: &Folder, name: &str, blob: &Blob) -> io::Result<()> {
        let disk = &*self.shared.disk;
        let file = blob.name().file();
        match disk.link((&self.shared.home, &file), (folder, name)) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let temp = temp_name(name);
                let _ = disk.remove_file(folder, &temp);
                disk.link((&self.shared.home, &file), (folder, &temp))?;
                disk.rename((folder, &temp), (folder, name))?;
                // Of two names of one file, a rename takes away none.
                let _ = disk.remove_file(folder, &temp);
                Ok(())
            }
            other => other,
        }
    }

    fn copy(&mut self, folder: &Folder, path: &RelativePath, blob: &Blob, source: &File) -> Result<(), StoreError> {
        let (disk, name) = (&*self.shared.disk, path.file_name());
        let temp = temp_name(name);
        let _ = disk.remove_file(folder, &temp);
        let mode = if self.how == Lay::ReadOnly { 0o444 } else { 0o644 };
        let fill = || {
            let file = disk.create(folder, &temp)?;
            match self.means {
                Means::Reflink => disk.clone_blocks(source, &file)?,
                Means::Link | Means::Copy => copy_bytes(source, &file, blob.size(), disk)?,
            }
            disk.set_mode(&file, mode, self.owner)?;
            disk.rename((folder, &temp), (folder, name))
        };
        fill().map_err(|error| {
            let _ = disk.remove_file(folder, &temp);
            folder.fault(name, error).needing(blob.size())
        })?;
        if let Some(status) = folder.status(name)? {
            if status.device != self.device {
                self.shared.groups.also(folder.again()?)?;
            }
            let group = self.shared.groups.current();
            let row = CopyRow { content: blob.content().0, fingerprint: status.fingerprint, group };
            self.shared.index.put(Row::Copy(&self.tree.path_of(path)), &row)?;
        }
        Ok(())
    }
}

fn copy_bytes(from: &File, to: &File, size: u64, disk: &dyn crate::disk::Disk) -> io::Result<()> {
    let mut at = 0;
    let mut written = Ok(());
    crate::read::read_all(from, size, &mut |bytes| {
        if written.is_ok() {
            written = disk.write_at(to, &bytes, at);
            at += bytes.len() as u64;
        }
    })?;
    written
}

/// Whether the file system cannot link there at all, for any file.
fn cannot_link(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::CrossesDevices | io::ErrorKind::Unsupported | io::ErrorKind::PermissionDenied)
}

impl Shared {
    /// Whether files on the device of `root` can share blocks with blobs: tried once, and remembered.
    fn can_reflink(&self, root: &Folder, device: u64, sample: &Blob) -> Result<bool, StoreError> {
        // Held to the end: two that lay at one place would probe with the same file.
        let mut reflinks = lock(&self.reflinks);
        if let Some(known) = reflinks.get(&device) {
            return Ok(*known);
        }
        if sample.size() == 0 {
            return Ok(false);
        }
        let probe = temp_name("reflink");
        let _ = self.disk.remove_file(root, &probe);
        let source = self.home.file(&sample.name().file(), false)?;
        let file = self.disk.create(root, &probe).map_err(|error| root.fault(&probe, error))?;
        let can = self.disk.clone_blocks(&source, &file).is_ok();
        self.disk.remove_file(root, &probe).map_err(|error| root.fault(&probe, error))?;
        reflinks.insert(device, can);
        Ok(can)
    }
}
