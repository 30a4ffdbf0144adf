//! What can go wrong in the store, by what the caller does next.

use std::io;
use std::path::PathBuf;

use larder_content::{ContentId, Mismatch};

/// What went wrong in the store. Every path it names is one of the operator's or the store's own, never a secret.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process holds the store. Wait for it, join it, or use another home.
    #[error("the store {} is in use by {holder}: wait until that has ended, or use another home", .home.display())]
    InUse {
        /// The store's home.
        home: PathBuf,
        /// Who holds it, as it said itself.
        holder: String,
    },
    /// It does not fit. The operator must make room.
    #[error("{} needed, but only {} can be had {limit}", size(*.needed), size(*.free))]
    Full {
        /// Bytes that are needed.
        needed: u64,
        /// Bytes that can be had, eviction included.
        free: u64,
        /// What stands against more.
        limit: Limit,
    },
    /// The file system is mounted read-only.
    #[error("{} cannot be written: its file system is read-only", .path.display())]
    ReadOnly {
        /// What was to be written.
        path: PathBuf,
    },
    /// This user may not do that there.
    #[error("{} may not be used by this user: check its owner and mode", .path.display())]
    Denied {
        /// What was to be read or written.
        path: PathBuf,
    },
    /// Something that is not the store's own is in the way.
    #[error("{} {why}: remove it, or use another folder", .path.display())]
    Blocked {
        /// What is in the way.
        path: PathBuf,
        /// What it is.
        why: &'static str,
    },
    /// What lies on disk is not what was recorded; it has been dropped, or will be when the store is opened again.
    #[error("{} is damaged: {why}", .path.display())]
    Damaged {
        /// What is damaged.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The operating system refused.
    #[error("{}: {source}", .path.display())]
    Io {
        /// What it was about.
        path: PathBuf,
        /// What it said.
        #[source]
        source: io::Error,
    },
}

/// What stands against taking more room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Limit {
    /// The store's quota, in bytes.
    Quota(u64),
    /// The disk, and what must stay free on it.
    Disk {
        /// A folder on the disk.
        path: PathBuf,
        /// Bytes that must stay free.
        floor: u64,
    },
}

impl std::fmt::Display for Limit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Quota(quota) => {
                write!(f, "within the store's quota of {}: release leases, or raise quota_bytes", size(*quota))
            }
            Self::Disk { path, floor } => {
                write!(f, "on the disk of {}, where {} stay free: make room there, or release leases", path.display(), size(*floor))
            }
        }
    }
}

impl StoreError {
    /// The error for `source`, which the operating system said of `path`.
    pub(crate) fn of(path: PathBuf, source: io::Error) -> Self {
        let kind = source.kind();
        if matches!(kind, io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) {
            return Self::Full { needed: 1, free: 0, limit: Limit::Disk { path, floor: 0 } };
        }
        if kind == io::ErrorKind::ReadOnlyFilesystem {
            return Self::ReadOnly { path };
        }
        if kind == io::ErrorKind::PermissionDenied {
            return Self::Denied { path };
        }
        Self::Io { path, source }
    }

    /// The same, but for the bytes that a full disk did not take.
    pub(crate) fn needing(self, bytes: u64) -> Self {
        match self {
            Self::Full { free, limit, .. } => Self::Full { needed: bytes, free, limit },
            Self::InUse { .. }
            | Self::ReadOnly { .. }
            | Self::Denied { .. }
            | Self::Blocked { .. }
            | Self::Damaged { .. }
            | Self::Io { .. } => self,
        }
    }
}

/// Why a file did not become a blob.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// Chunks are missing, or those of an earlier run turned out to be damaged on disk: fetch what is missing.
    #[error("{missing} chunks of the file are missing")]
    Incomplete {
        /// How many.
        missing: u64,
    },
    /// The bytes are not what the origin lists. The chunks of a partial file stay, until the caller says which of them go.
    #[error("{mismatch} (the bytes have the content id {content})")]
    Mismatch {
        /// Which digest does not match.
        mismatch: Mismatch,
        /// What the bytes are: the same a second time, straight from the origin, means that the origin's listing is wrong.
        content: ContentId,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A number of bytes as a person reads it.
fn size(bytes: u64) -> String {
    let in_units_of = |unit: u64| format!("{}.{:02}", bytes / unit, bytes % unit * 100 / unit);
    match bytes {
        0..10_000 => format!("{bytes} bytes"),
        10_000..1_000_000 => format!("{} kB", in_units_of(1_000)),
        1_000_000..1_000_000_000 => format!("{} MB", in_units_of(1_000_000)),
        1_000_000_000.. => format!("{} GB", in_units_of(1_000_000_000)),
    }
}
