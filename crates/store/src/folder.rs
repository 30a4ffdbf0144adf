//! Folders held open, so that what is done in them cannot be led elsewhere by a symbolic link.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use serde::{Deserialize, Serialize};

use crate::StoreError;

/// A folder that is held open. Names in it never follow a symbolic link at their end.
///
/// In the store's own home a name may be several segments long (`blobs/ab/<id>`), since nobody else writes there;
/// in a target it is always one segment.
#[derive(Debug)]
pub(crate) struct Folder {
    descriptor: OwnedFd,
    path: PathBuf,
}

/// What tells that a file was not touched: any write, link or replacement changes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Fingerprint {
    pub(crate) inode: u64,
    pub(crate) size: u64,
    pub(crate) modified_ns: i64,
    pub(crate) changed_ns: i64,
}

/// What is known of a name in a folder.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Status {
    pub(crate) is_file: bool,
    pub(crate) is_folder: bool,
    pub(crate) device: u64,
    pub(crate) has_other_links: bool,
    pub(crate) disk_bytes: u64,
    pub(crate) fingerprint: Fingerprint,
}

impl Fingerprint {
    /// Whether both are of the same bytes, as far as anything but links and modes can tell.
    pub(crate) fn same_bytes(&self, other: &Self) -> bool {
        (self.inode, self.size, self.modified_ns) == (other.inode, other.size, other.modified_ns)
    }

    /// When the bytes were last written, in seconds since 1970.
    pub(crate) fn modified_s(&self) -> u64 {
        u64::try_from(self.modified_ns / 1_000_000_000).unwrap_or(0)
    }
}

impl From<Stat> for Status {
    fn from(stat: Stat) -> Self {
        let kind = FileType::from_raw_mode(stat.st_mode);
        let nanoseconds = |seconds: i128, rest: i128| i64::try_from(seconds * 1_000_000_000 + rest).unwrap_or(i64::MAX);
        Self {
            is_file: kind == FileType::RegularFile,
            is_folder: kind == FileType::Directory,
            device: stat.st_dev,
            has_other_links: stat.st_nlink > 1,
            disk_bytes: u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(512),
            fingerprint: Fingerprint {
                inode: stat.st_ino,
                size: u64::try_from(stat.st_size).unwrap_or(0),
                modified_ns: nanoseconds(stat.st_mtime.into(), stat.st_mtime_nsec.into()),
                changed_ns: nanoseconds(stat.st_ctime.into(), stat.st_ctime_nsec.into()),
            },
        }
    }
}

/// The path from the root of all paths on; symbolic links stay as they are.
pub(crate) fn absolute(path: &Path) -> Result<PathBuf, StoreError> {
    std::path::absolute(path).map_err(|error| StoreError::of(path.into(), error))
}

impl Folder {
    /// Opens `path`, which may be reached through symbolic links: who named it meant it so.
    pub(crate) fn open(path: &Path) -> Result<Self, StoreError> {
        let fail = |error: rustix::io::Errno| StoreError::of(path.into(), error.into());
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        match rustix::fs::open(path, flags, Mode::empty()) {
            Ok(descriptor) => Ok(Self { descriptor, path: path.into() }),
            Err(rustix::io::Errno::NOTDIR) => Err(StoreError::Blocked { path: path.into(), why: "is not a folder" }),
            Err(error) => Err(fail(error)),
        }
    }

    /// Opens the folder `name` in this one; a symbolic link is no folder.
    pub(crate) fn enter(&self, name: &str) -> Result<Option<Self>, StoreError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match rustix::fs::openat(&self.descriptor, name, flags, Mode::empty()) {
            Ok(descriptor) => Ok(Some(Self { descriptor, path: self.path.join(name) })),
            Err(rustix::io::Errno::NOENT) => Ok(None),
            Err(rustix::io::Errno::NOTDIR | rustix::io::Errno::LOOP) => {
                Err(StoreError::Blocked { path: self.path.join(name), why: "is a file or a symbolic link where a folder is needed" })
            }
            Err(error) => Err(self.fault(name, error.into())),
        }
    }

    /// The same folder, open a second time.
    pub(crate) fn again(&self) -> Result<Self, StoreError> {
        let descriptor = self.descriptor.try_clone().map_err(|error| self.fault("", error))?;
        Ok(Self { descriptor, path: self.path.clone() })
    }

    /// What `name` is; `None` if it is not there.
    pub(crate) fn status(&self, name: &str) -> Result<Option<Status>, StoreError> {
        match rustix::fs::statat(&self.descriptor, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat.into())),
            Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => Ok(None),
            Err(error) => Err(self.fault(name, error.into())),
        }
    }

    /// What this folder itself is.
    pub(crate) fn own_status(&self) -> Result<Status, StoreError> {
        rustix::fs::fstat(&self.descriptor).map(Status::from).map_err(|error| self.fault("", error.into()))
    }

    /// Opens the file `name` for reading, or for writing too.
    pub(crate) fn file(&self, name: &str, writable: bool) -> Result<File, StoreError> {
        let access = if writable { OFlags::RDWR } else { OFlags::RDONLY };
        let flags = access | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let opened = rustix::fs::openat(&self.descriptor, name, flags, Mode::empty());
        opened.map(File::from).map_err(|error| self.fault(name, error.into()))
    }

    /// The names in the folder `name`, or in this one for `.`; none if it is not there.
    pub(crate) fn names(&self, name: &str) -> Result<Vec<String>, StoreError> {
        let entries = match std::fs::read_dir(self.path.join(name)) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(vec![]),
            Err(error) => return Err(self.fault(name, error)),
        };
        let mut names = vec![];
        for entry in entries {
            let entry = entry.map_err(|error| self.fault(name, error))?;
            names.extend(entry.file_name().into_string().ok());
        }
        Ok(names)
    }

    /// Bytes that this user may still write on the disk.
    pub(crate) fn free_bytes(&self) -> Result<u64, StoreError> {
        let disk = rustix::fs::fstatvfs(&self.descriptor).map_err(|error| self.fault("", error.into()))?;
        Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
    }

    /// The folder's path, as it was opened.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The path of `name`, for messages and for callers.
    pub(crate) fn path_of(&self, name: &str) -> PathBuf {
        if name.is_empty() { self.path.clone() } else { self.path.join(name) }
    }

    /// The error for what the operating system said of `name`.
    pub(crate) fn fault(&self, name: &str, error: io::Error) -> StoreError {
        StoreError::of(self.path_of(name), error)
    }
}

impl AsFd for Folder {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}
