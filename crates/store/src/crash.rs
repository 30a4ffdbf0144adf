//! A disk that remembers what was not synced, and can lose its power, or fail once.
//!
//! What a power cut may leave is taken from what journaling file systems promise: names come and go in the order in which
//! they were made, up to some point; the bytes of any file that was not synced may be zeros instead, whatever its name.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use crate::disk::{Disk, RealDisk};
use crate::folder::Folder;
use crate::lock;

/// What a crash takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Loss {
    /// The process dies; the disk keeps all.
    Nothing,
    /// All bytes and names since the last sync.
    All,
    /// All bytes since the last sync, but no names.
    Bytes,
    /// Some bytes, and the names since some point.
    Some(u64),
}

/// How to take back one effect.
enum Undo {
    Bytes(File, u64, u64),
    Length(File, u64),
    Made(PathBuf),
    MadeFolder(PathBuf),
    Renamed { from: PathBuf, to: PathBuf, replaced: Option<PathBuf> },
    Removed { path: PathBuf, kept: PathBuf },
    RemovedFolder(PathBuf),
}

struct Journal {
    undo: Vec<Undo>,
    steps: u64,
    cut_at: u64,
    /// What an effect from `cut_at` on fails with.
    failure: io::ErrorKind,
    /// The effect that fails by itself, and the operating system's number of the error.
    failing: Option<(u64, i32)>,
    boot: u64,
    /// The devices of which a sync was asked since the last crash.
    synced: BTreeSet<u64>,
    /// Where names are kept that were removed, in case they come back.
    grave: PathBuf,
    buried: u64,
}

/// The disk, which also gives the index its power. Its clones are the same disk.
#[derive(Clone)]
pub(crate) struct CrashDisk(Arc<Mutex<Journal>>);

impl CrashDisk {
    /// A disk that fails from effect `cut_at` on. `grave` is an empty folder on the same file system.
    pub(crate) fn new(grave: &Path, cut_at: u64) -> Self {
        Self(Arc::new(Mutex::new(Journal {
            undo: vec![],
            steps: 0,
            cut_at,
            failure: io::ErrorKind::Other,
            failing: None,
            boot: 0,
            synced: BTreeSet::new(),
            grave: grave.into(),
            buried: 0,
        })))
    }

    /// Counts a row that is about to change, if there is still power. What a crash does to rows is up to the index.
    pub(crate) fn step(&self) -> io::Result<()> {
        let mut journal = lock(&self.0);
        journal.allows()?;
        journal.steps += 1;
        Ok(())
    }

    /// Lets `steps` more effects happen, and then none.
    pub(crate) fn cut_in(&self, steps: u64) {
        let mut journal = lock(&self.0);
        journal.cut_at = journal.steps + steps;
    }

    /// How many effects there were.
    pub(crate) fn steps(&self) -> u64 {
        lock(&self.0).steps
    }

    /// The devices that were synced since the last crash.
    pub(crate) fn synced(&self) -> BTreeSet<u64> {
        lock(&self.0).synced.clone()
    }

    /// Lets every effect fail with `failure`, or none if there is none.
    pub(crate) fn fail(&self, failure: Option<io::ErrorKind>) {
        let mut journal = lock(&self.0);
        journal.cut_at = if failure.is_some() { 0 } else { u64::MAX };
        journal.failure = failure.unwrap_or(io::ErrorKind::Other);
    }

    /// Lets effect `at` alone fail, with the error that has this number; a write after half of its bytes.
    pub(crate) fn fail_at(&self, at: u64, error: i32) {
        lock(&self.0).failing = Some((at, error));
    }

    /// Takes what is lost, and works again.
    pub(crate) fn crash(&self, loss: Loss) {
        let mut journal = lock(&self.0);
        let undo = std::mem::take(&mut journal.undo);
        let mut random = if let Loss::Some(seed) = loss { seed | 1 } else { 1 };
        let mut next = |bound: u64| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random % bound
        };
        let keeps = match loss {
            Loss::Nothing | Loss::Bytes => undo.len(),
            Loss::All => 0,
            Loss::Some(_) => next(undo.len() as u64 + 1) as usize,
        };
        for (at, effect) in undo.into_iter().enumerate().rev() {
            match effect {
                Undo::Bytes(file, offset, len) => {
                    let lost = match loss {
                        Loss::Nothing => false,
                        Loss::All | Loss::Bytes => true,
                        Loss::Some(_) => next(2) == 0,
                    };
                    if lost {
                        // The time of the last write is not lost with its bytes.
                        let modified = file.metadata().unwrap().modified().unwrap();
                        file.write_all_at(&vec![0; len as usize], offset).unwrap();
                        file.set_modified(modified).unwrap();
                    }
                }
                _ if at < keeps => {}
                Undo::Length(file, len) => file.set_len(len).unwrap(),
                Undo::Made(path) => fs::remove_file(path).unwrap(),
                Undo::MadeFolder(path) => fs::remove_dir(path).unwrap(),
                Undo::Renamed { from, to, replaced } => {
                    fs::rename(&to, from).unwrap();
                    if let Some(replaced) = replaced {
                        fs::rename(replaced, to).unwrap();
                    }
                }
                Undo::Removed { path, kept } => fs::rename(kept, path).unwrap(),
                Undo::RemovedFolder(path) => fs::create_dir(path).unwrap(),
            }
        }
        journal.cut_at = u64::MAX;
        journal.synced.clear();
        if loss != Loss::Nothing {
            journal.boot += 1;
        }
        let _ = fs::remove_dir_all(&journal.grave);
        fs::create_dir(&journal.grave).unwrap();
    }

    /// Counts as another run of the operating system.
    pub(crate) fn restart(&self) {
        lock(&self.0).boot += 1;
    }

    /// Lets the next effect happen if there is still power, and notes how to take it back.
    fn effect<T>(&self, act: impl FnOnce(&mut Journal) -> io::Result<(T, Undo)>) -> io::Result<T> {
        let mut journal = lock(&self.0);
        journal.allows()?;
        let (result, undo) = act(&mut journal)?;
        journal.steps += 1;
        journal.undo.push(undo);
        Ok(result)
    }
}

impl std::fmt::Debug for CrashDisk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "a disk after {} effects", self.steps())
    }
}

impl Journal {
    /// Whether the next effect may happen.
    fn allows(&mut self) -> io::Result<()> {
        if self.steps >= self.cut_at {
            return Err(self.failure.into());
        }
        let steps = self.steps;
        match self.failing.take_if(|(at, _)| *at == steps) {
            Some((_, error)) => Err(io::Error::from_raw_os_error(error)),
            None => Ok(()),
        }
    }

    fn is_about_to_fail(&self) -> bool {
        self.failing.is_some_and(|(at, _)| at == self.steps)
    }

    /// Gives a file a name in the grave as well, if it is there.
    fn bury(&mut self, path: &Path) -> Option<PathBuf> {
        self.buried += 1;
        let kept = self.grave.join(self.buried.to_string());
        fs::hard_link(path, &kept).ok().map(|()| kept)
    }
}

impl Disk for CrashDisk {
    fn make_folder(&self, folder: &Folder, name: &str, mode: u32, owner: Option<(u32, u32)>) -> io::Result<()> {
        self.effect(|_| RealDisk.make_folder(folder, name, mode, owner).map(|()| ((), Undo::MadeFolder(folder.path_of(name)))))
    }

    fn create(&self, folder: &Folder, name: &str) -> io::Result<File> {
        self.effect(|_| RealDisk.create(folder, name).map(|file| (file, Undo::Made(folder.path_of(name)))))
    }

    fn write_at(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
        if lock(&self.0).is_about_to_fail() {
            RealDisk.write_at(file, &bytes[..bytes.len() / 2], offset)?;
        }
        self.effect(|_| {
            RealDisk.write_at(file, bytes, offset)?;
            Ok(((), Undo::Bytes(file.try_clone()?, offset, bytes.len() as u64)))
        })
    }

    fn take_blocks(&self, file: &File, place: Range<u64>) {
        RealDisk.take_blocks(file, place);
    }

    fn set_len(&self, file: &File, bytes: u64) -> io::Result<()> {
        let before = file.metadata()?.len();
        self.effect(|_| {
            RealDisk.set_len(file, bytes)?;
            Ok(((), Undo::Length(file.try_clone()?, before)))
        })
    }

    fn clone_blocks(&self, _from: &File, _to: &File) -> io::Result<()> {
        // Its tests are about links and copies, on every file system.
        Err(io::ErrorKind::Unsupported.into())
    }

    fn set_mode(&self, file: &File, mode: u32, owner: Option<(u32, u32)>) -> io::Result<()> {
        // What a crash does to modes is of no matter: a blob is never written through its name.
        RealDisk.set_mode(file, mode, owner)
    }

    fn link(&self, from: (&Folder, &str), to: (&Folder, &str)) -> io::Result<()> {
        self.effect(|_| RealDisk.link(from, to).map(|()| ((), Undo::Made(to.0.path_of(to.1)))))
    }

    fn rename(&self, from: (&Folder, &str), to: (&Folder, &str)) -> io::Result<()> {
        self.effect(|journal| {
            let (from_path, to_path) = (from.0.path_of(from.1), to.0.path_of(to.1));
            let replaced = journal.bury(&to_path);
            RealDisk.rename(from, to)?;
            Ok(((), Undo::Renamed { from: from_path, to: to_path, replaced }))
        })
    }

    fn remove_file(&self, folder: &Folder, name: &str) -> io::Result<()> {
        if folder.status(name).ok().flatten().is_none() {
            return Err(io::ErrorKind::NotFound.into());
        }
        self.effect(|journal| {
            let path = folder.path_of(name);
            let kept = journal.bury(&path).ok_or(io::ErrorKind::NotFound)?;
            RealDisk.remove_file(folder, name)?;
            Ok(((), Undo::Removed { path, kept }))
        })
    }

    fn remove_folder(&self, folder: &Folder, name: &str) -> io::Result<()> {
        self.effect(|_| RealDisk.remove_folder(folder, name).map(|()| ((), Undo::RemovedFolder(folder.path_of(name)))))
    }

    fn sync(&self, folder: &Folder) -> io::Result<()> {
        let mut journal = lock(&self.0);
        journal.allows()?;
        journal.synced.extend(folder.own_status().map(|status| status.device));
        journal.steps += 1;
        journal.undo.clear();
        let _ = fs::remove_dir_all(&journal.grave);
        fs::create_dir(&journal.grave)
    }

    fn boot(&self) -> String {
        format!("boot {}", lock(&self.0).boot)
    }
}
