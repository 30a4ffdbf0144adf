//! The one seam through which the store changes what is on disk.
//!
//! What goes past it are only the index, which keeps its own log, and the lock file. So a test can stand in for the disk,
//! forget what was not synced, and show what a power cut would leave.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use rustix::fs::{AtFlags, FallocateFlags, Gid, Mode, OFlags, Uid};

use crate::folder::Folder;

/// Bytes that are written at a time. For more the kernel takes large pages, which on a virtual machine are often memory that
/// the host has taken back meanwhile: writing a large file took up to twice as long.
const WRITE_BYTES: usize = 32 << 10;

/// Each way in which the store changes what is on disk.
pub(crate) trait Disk: Send + Sync {
    /// Makes a folder, of this owner if one is given.
    fn make_folder(&self, folder: &Folder, name: &str, mode: u32, owner: Option<(u32, u32)>) -> io::Result<()>;
    /// Makes a file that must not be there yet, open for reading and writing.
    fn create(&self, folder: &Folder, name: &str) -> io::Result<File>;
    /// Writes all of `bytes` at `offset`.
    fn write_at(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Sets the length; what is new is a hole.
    fn set_len(&self, file: &File, bytes: u64) -> io::Result<()>;
    /// Takes blocks for what will soon be written, where the file system can. Else they are taken when it goes to the disk, and a
    /// sync that does so makes who writes meanwhile wait.
    fn take_blocks(&self, file: &File, place: Range<u64>);
    /// Shares all blocks of `from` with `to`, where the file system can.
    fn clone_blocks(&self, from: &File, to: &File) -> io::Result<()>;
    /// Sets the mode, and the owner where one is given.
    fn set_mode(&self, file: &File, mode: u32, owner: Option<(u32, u32)>) -> io::Result<()>;
    /// Gives a file a second name.
    fn link(&self, from: (&Folder, &str), to: (&Folder, &str)) -> io::Result<()>;
    /// Moves a name, over what is there.
    fn rename(&self, from: (&Folder, &str), to: (&Folder, &str)) -> io::Result<()>;
    /// Removes a name of a file.
    fn remove_file(&self, folder: &Folder, name: &str) -> io::Result<()>;
    /// Removes an empty folder.
    fn remove_folder(&self, folder: &Folder, name: &str) -> io::Result<()>;
    /// Waits until all that was done on the file system of `folder` would survive a power cut.
    fn sync(&self, folder: &Folder) -> io::Result<()>;
    /// Which run of the operating system this is: what was written but not synced in an earlier one may be lost.
    fn boot(&self) -> String;
}

/// The disk as it is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RealDisk;

impl Disk for RealDisk {
    fn make_folder(&self, folder: &Folder, name: &str, mode: u32, owner: Option<(u32, u32)>) -> io::Result<()> {
        rustix::fs::mkdirat(folder, name, Mode::from_raw_mode(mode))?;
        // Opened, since a job may put a link in its place.
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let made = rustix::fs::openat(folder, name, flags, Mode::empty())?;
        // The process's umask may have taken bits away that a container needs.
        self.set_mode(&made.into(), mode, owner)
    }

    fn create(&self, folder: &Folder, name: &str) -> io::Result<File> {
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(rustix::fs::openat(folder, name, flags, Mode::RUSR | Mode::WUSR)?.into())
    }

    fn write_at(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
        (offset..).step_by(WRITE_BYTES).zip(bytes.chunks(WRITE_BYTES)).try_for_each(|(at, piece)| file.write_all_at(piece, at))
    }

    fn set_len(&self, file: &File, bytes: u64) -> io::Result<()> {
        file.set_len(bytes)
    }

    fn take_blocks(&self, file: &File, place: Range<u64>) {
        // A disk that is full says so when it is written to.
        let _ = rustix::fs::fallocate(file, FallocateFlags::KEEP_SIZE, place.start, place.end - place.start);
    }

    fn clone_blocks(&self, from: &File, to: &File) -> io::Result<()> {
        Ok(rustix::fs::ioctl_ficlone(to, from)?)
    }

    fn set_mode(&self, file: &File, mode: u32, owner: Option<(u32, u32)>) -> io::Result<()> {
        if let Some((user, group)) = owner {
            rustix::fs::fchown(file, Some(Uid::from_raw(user)), Some(Gid::from_raw(group)))?;
        }
        Ok(rustix::fs::fchmod(file, Mode::from_raw_mode(mode))?)
    }

    fn link(&self, from: (&Folder, &str), to: (&Folder, &str)) -> io::Result<()> {
        Ok(rustix::fs::linkat(from.0, from.1, to.0, to.1, AtFlags::empty())?)
    }

    fn rename(&self, from: (&Folder, &str), to: (&Folder, &str)) -> io::Result<()> {
        Ok(rustix::fs::renameat(from.0, from.1, to.0, to.1)?)
    }

    fn remove_file(&self, folder: &Folder, name: &str) -> io::Result<()> {
        Ok(rustix::fs::unlinkat(folder, name, AtFlags::empty())?)
    }

    fn remove_folder(&self, folder: &Folder, name: &str) -> io::Result<()> {
        Ok(rustix::fs::unlinkat(folder, name, AtFlags::REMOVEDIR)?)
    }

    fn sync(&self, folder: &Folder) -> io::Result<()> {
        Ok(rustix::fs::syncfs(folder)?)
    }

    fn boot(&self) -> String {
        std::fs::read_to_string("/proc/sys/kernel/random/boot_id").map_or_else(|_| String::new(), |id| id.trim().to_owned())
    }
}
