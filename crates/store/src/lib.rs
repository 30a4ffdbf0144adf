//! Keeps verified chunks and lays files into targets.
//!
//! All methods block: callers with an event loop run them on threads of their own.
//!
//! On disk, below the store's home (0700; `targets` and below 0755):
//!
//! ```text
//! lock                            who holds the store
//! index/                          what is known of the rest; can be rebuilt from it
//! blobs/ab/<content id>           0444, proven, may be read by anyone
//! private/ab/<key>.<content id>   0444, proven, found only by the key of its locator
//! hashes/ab/<content id>          the chunk hashes of a public blob of several chunks; checked when read
//! pieces/ab/<content id>          the pieces that a digest of a public blob is made of; sealed by their own hash
//! partial/<key>                   sparse, still coming
//! targets/<tree>/                 trees ready to mount
//! leases/<id>                     one file a lease
//! listings/<hash of address>      what origins listed
//! temp/                           files that have no name yet; emptied when the store is opened
//! ```
//!
//! # What a crash leaves
//!
//! A *kill* keeps all that was written, but the index may lose its last 200 ms. A *power cut* may also lose whatever no
//! sync covered: the bytes of a file, its name, or both. Every blob, chunk and copy carries the number of the sync group it
//! was written in, read after the write; a group is marked as synced after the sync. What is in no synced group is hashed
//! again when the store is opened after a power cut.
//!
//! | step | left by a kill after it | left by a power cut after it | mended by |
//! |---|---|---|---|
//! | put: temp file written | a stale temp | the same, perhaps torn | `temp/` is emptied |
//! | put: renamed to the blob, or keys recorded | a blob without a row | a torn blob without a row | hashed: kept with the keys it has, or removed |
//! | put: row recorded | the blob | a row of a torn or missing file | hashed: kept, or row, key and file removed |
//! | partial: file made | a file without a row | the same | removed |
//! | partial: row recorded | an empty partial | a row without a file | the row is removed |
//! | write: bytes written | bytes without a row | the same | fetched again |
//! | write: chunk recorded | the chunk | a row of lost bytes | hashed: kept, or the row is removed |
//! | forget: rows removed, and that flushed | bytes without a row | the same | fetched again |
//! | seal: linked as the blob, or keys recorded | two names of one file, the partial still whole | either name may be gone, bytes torn | a blob name without a row beside its partial is removed; the partial goes on |
//! | seal: row recorded | the blob, and leftovers of the partial | a row of a torn file | hashed: kept, or removed; the partial's good chunks go on |
//! | seal: leftovers removed | the blob | (only done once synced) | - |
//! | hashes: temp file written | a stale temp | the same, perhaps torn | `temp/` is emptied |
//! | hashes: renamed | the list | a list, perhaps torn, or of no blob | checked when it is read, and made anew; one of no blob is removed |
//! | pieces: temp file written, or renamed | as for hashes | a list, perhaps torn, or of no blob | the same |
//! | lease: file renamed into place | a lease over files not laid yet | the lease, none, or a torn file | a torn lease is removed, and so are trees in `targets` without a lease |
//! | lay: linked | a link whose blob has another fingerprint | the same, perhaps of a torn file | the blob is hashed; links of torn blobs are removed, in `targets` also those that no lease names |
//! | lay: copied to a temp | a stale temp in the target | the same | removed by `release`, or by the next `lay` |
//! | lay: copy renamed, then recorded | a copy, perhaps without a row | perhaps torn | after a power cut, one in no synced group or without a row is hashed: kept, or removed; after a kill, it is laid again |
//! | release: file unlinked | files still laid, their lease still there | the same | `release` again |
//! | evict: rows removed | a blob without a row | the same | hashed: kept with the keys it has |
//! | evict: lists of chunk hashes and pieces removed | a blob without a row | the same | as above; a list is made when it is asked for |
//! | evict: file removed | nothing | the blob without a row, or a row without a file | as above; the row is removed |
//!
//! When the index is lost, so are the keys of blobs, the chunks of files still coming, and what tells which copy is right. All
//! blobs are hashed, and so are the copies in leased trees. One that is what its lease holds gets its row back, so that it is
//! kept by the next `lay` and removed by `release`. Any other goes where jobs only read; where they write it stays, since it
//! may be what a job made of it.
//!
//! What is found damaged later, by `find`, by `lay` or by `verify`, is dropped with all its links in leased trees: they are the
//! same file. Its copies were made when it was right, and stay.
//!
//! Copies on a disk that is away when the store is opened after a power cut keep their rows, so that `release` removes them,
//! but the next `lay` makes them anew.
//!
//! What stays open: a power cut that tears a lease just taken leaves its trees outside of `targets` to nobody. The rows of
//! their copies are dropped unless a sync covered them, so the next `lay` replaces what is wrong there. A copy that jobs may
//! write to, and that the power cut tore that lost the index too, also stays until it is laid again.
//!
//! The ledger and the books of peers are rows that no sync waits for, and go with the index: they are an account and a start, and
//! nothing that is stored depends on them.
//!
//! An inode that has a second name is never written: [`Partial`] makes itself a new one first.

mod adopt;
mod blobs;
mod book;
mod config;
#[cfg(test)]
mod crash;
mod disk;
mod error;
mod folder;
mod follow;
mod forget;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod hashes;
mod index;
mod lease;
mod ledger;
mod listing;
mod open;
mod partial;
mod pieces;
mod piecewise;
mod prove;
mod public;
mod put;
mod read;
mod recent;
mod records;
mod recovery;
mod release;
mod seal;
mod space;
mod sync;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod tree;
mod verify;
mod walk;

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use larder_content::{Buffers, ChunkHashes, ContentId, FileKey};

pub use blobs::{Blob, BlobName};
pub use config::StoreConfig;
pub use error::{Limit, SealError, StoreError};
pub use lease::{Lease, Tree};
pub use ledger::{LEDGER_OTHERS, LedgerBytes};
pub use listing::{KnownResource, StoredListing};
pub use partial::Partial;
pub use read::MOST_READ_CHUNKS;
pub use recovery::Recovery;
pub use release::Released;
pub use space::{Reservation, Space};
pub use tree::{Laid, Lay};
pub use verify::{GcReport, VerifyReport};

use disk::Disk;
use folder::Folder;
use index::Index;
use ledger::Accounts;
use read::OpenBlob;
use recent::Recent;
use sync::{Groups, Keeper};

/// The store of one node; cheap to clone.
///
/// When the last clone goes, with it the last [`Partial`], what was written is synced and the store is free for others.
#[derive(Clone)]
pub struct Store {
    // Dropped first: it ends the thread that holds the other half too.
    _keeper: Arc<Keeper>,
    shared: Arc<Shared>,
}

/// What all clones of a store share.
struct Shared {
    home: Folder,
    disk: Box<dyn Disk>,
    config: StoreConfig,
    quota_bytes: u64,
    index: Index,
    groups: Groups,
    /// Each guards the files and rows of the blobs that fall to it.
    stripes: [Mutex<()>; 64],
    holds: Mutex<HashMap<BlobName, Weak<()>>>,
    /// Blobs that lost their keys with the index, by size.
    keyless: Mutex<HashMap<u64, Vec<BlobName>>>,
    /// Taken after a stripe, never before one.
    partials: Mutex<HashMap<FileKey, Weak<partial::Coming>>>,
    leases: Mutex<BTreeMap<String, Lease>>,
    /// Whether the file system of a device shares blocks between files of the store and its own.
    reflinks: Mutex<HashMap<u64, bool>>,
    reserved_bytes: Arc<Mutex<u64>>,
    blob_bytes: AtomicU64,
    /// The number of the next file in `temp`. Who makes or moves a small one holds it: the file system would let them spin.
    temps: Mutex<u64>,
    open_blobs: Mutex<Recent<BlobName, OpenBlob>>,
    /// What chunks are read into.
    buffers: Buffers,
    lists: Mutex<Recent<ContentId, Arc<ChunkHashes>>>,
    whole_lists: Mutex<Recent<ContentId, ()>>,
    /// Held by the one who makes a list of either kind.
    making_list: Mutex<()>,
    /// Bytes that are kept in memory for the proofs of files still coming.
    kept_bytes: Arc<AtomicU64>,
    /// Bytes given to peers that are not recorded yet.
    served: AtomicU64,
    /// Nothing until the ledger is first written.
    accounts: Mutex<Option<Accounts>>,
    recovery: Recovery,
    // Dropped last: the index is closed by then.
    _lock: File,
}

impl Store {
    /// What opening the store repaired.
    #[must_use]
    pub fn recovery(&self) -> &Recovery {
        &self.shared.recovery
    }

    /// The folder the store lives in.
    #[must_use]
    pub fn home(&self) -> &Path {
        self.shared.home.path()
    }

    /// The folder of the trees that are laid in the store itself.
    #[must_use]
    pub fn targets(&self) -> PathBuf {
        self.shared.home.path_of("targets")
    }
}

impl Shared {
    /// Writes `bytes` to a file that is to be renamed; 0444.
    fn write_temp(&self, bytes: &[u8]) -> Result<String, StoreError> {
        let mut next = lock(&self.temps);
        let name = format!("temp/{next}");
        *next += 1;
        let made = self.disk.create(&self.home, &name);
        drop(next);
        let write = || {
            let file = made?;
            self.disk.write_at(&file, bytes, 0)?;
            self.disk.set_mode(&file, 0o444, None)
        };
        let written = write().map_err(|error| self.home.fault(&name, error).needing(bytes.len() as u64));
        written.inspect_err(|_| self.drop_temp(&name))?;
        Ok(name)
    }

    /// Removes a temp file that came to nothing.
    fn drop_temp(&self, name: &str) {
        let _ = self.disk.remove_file(&self.home, name);
    }

    /// Removes a file of the home, which may be gone already.
    fn remove_file(&self, name: &str) -> Result<(), StoreError> {
        match self.disk.remove_file(&self.home, name) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(self.home.fault(name, error)),
            Ok(()) | Err(_) => Ok(()),
        }
    }
}

/// Locks what no panic can leave half done.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
