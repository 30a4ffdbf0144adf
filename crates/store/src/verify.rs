//! Holds all that the store has against what it says it has.

use std::io;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use larder_content::{ChunkLayout, ContentId};

use crate::blobs::BlobName;
use crate::index::Row;
use crate::partial::file_name;
use crate::records::{BlobRow, ChunkRow};
use crate::release::Released;
use crate::{Shared, Store, StoreError, lock};

/// The most threads that hash at a time.
const MAX_THREADS: usize = 8;

/// What [`Store::verify`] found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VerifyReport {
    /// Blobs that are what their name says.
    pub blobs: u64,
    /// Their bytes.
    pub blob_bytes: u64,
    /// Files of blobs that were not, and were removed.
    pub damaged: Vec<PathBuf>,
    /// Files that are still coming.
    pub partials: u64,
    /// The bytes of their chunks that are there.
    pub partial_bytes: u64,
    /// Chunks that were not what was recorded, and are fetched again.
    pub damaged_chunks: u64,
}

/// What [`Store::gc`] removed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GcReport {
    /// Leases that had expired.
    pub released: Vec<Released>,
    /// Trees in the store's own `targets` that no lease names.
    pub trees: u64,
    /// Blobs that were not used for as long as they are kept.
    pub blobs: u64,
    /// Their bytes.
    pub blob_bytes: u64,
    /// Files still coming that nobody wrote to for as long.
    pub partials: u64,
    /// The bytes they took.
    pub partial_bytes: u64,
    /// Listings that were not asked for again for as long as a lease lasts and blobs are kept.
    pub listings: u64,
}

impl Store {
    /// Hashes all blobs and all recorded chunks. What is damaged is removed, and fetched again when it is next needed.
    ///
    /// # Errors
    /// If something cannot be read or removed.
    pub fn verify(&self) -> Result<VerifyReport, StoreError> {
        let shared = &*self.shared;
        let mut report = VerifyReport::default();
        let names: Vec<BlobName> = shared.index.blobs()?.into_iter().map(|(name, _)| name).collect();
        for (size, name) in in_parallel(&names, |name| shared.verify_blob(*name)).into_iter().zip(&names) {
            match size? {
                Some(size) => {
                    report.blobs += 1;
                    report.blob_bytes += size;
                }
                None => report.damaged.push(shared.home.path_of(&name.file())),
            }
        }
        for (key, row) in shared.index.partials()? {
            // One that is being written is looked at by its own proof.
            let open = lock(&shared.partials).get(&key).is_some_and(|coming| coming.strong_count() > 0);
            if row.sealed_as.is_some() || shared.home.status(&file_name(&key))?.is_none() {
                continue;
            }
            if !open {
                report.damaged_chunks += shared.drop_lost_chunks(&key, row.size, &|_| true)?;
            }
            report.partials += 1;
            let layout = ChunkLayout::new(row.size);
            for chunk in shared.index.chunks::<ChunkRow>(&key) {
                let place = layout.bytes(chunk.as_ref().map_or(0, |(index, _)| *index), chunk?.0 + 1);
                report.partial_bytes += place.end - place.start;
            }
        }
        Ok(report)
    }

    /// Removes what is not needed any more: expired leases with what was laid for them, old listings, and, if they were not used
    /// for as long as blobs are kept or `all` are to go, blobs that nothing holds and files that nobody is fetching.
    ///
    /// # Errors
    /// If something cannot be removed.
    pub fn gc(&self, now: SystemTime, all: bool) -> Result<GcReport, StoreError> {
        let shared = &*self.shared;
        let mut report = GcReport { released: self.expire(now), trees: shared.remove_unleased()?, ..GcReport::default() };
        let keep = if all { Duration::ZERO } else { shared.config.keep };
        for (name, row) in shared.evictable(now, keep)? {
            if shared.evict(name, now)? {
                report.blobs += 1;
                report.blob_bytes += row.fingerprint.size;
            }
        }
        for partial in shared.idle_partials(now, keep)? {
            if shared.drop_idle(&partial.key)? {
                report.partials += 1;
                report.partial_bytes += partial.bytes;
            }
        }
        if let Some(limit) = now.checked_sub(shared.config.keep + shared.config.lease) {
            report.listings = shared.drop_listings_before(limit)?;
        }
        Ok(report)
    }
}

impl Shared {
    /// Hashes a blob, and removes it if it is not what its name says. Returns its size if it is.
    fn verify_blob(&self, name: BlobName) -> Result<Option<u64>, StoreError> {
        let guard = self.stripe(name);
        let Some(row) = self.index.get::<BlobRow>(Row::Blob(name))? else { return Ok(None) };
        match self.home.status(&name.file())? {
            Some(status) if self.hashes_right(name, status)? => {
                self.index.put(Row::Blob(name), &BlobRow { fingerprint: status.fingerprint, ..row })?;
                Ok(Some(status.fingerprint.size))
            }
            status => {
                self.drop_damaged(name, &row, status, &guard)?;
                Ok(None)
            }
        }
    }
}

/// The BLAKE3 hash of bytes that are read.
pub(crate) fn hash(bytes: impl io::Read) -> io::Result<ContentId> {
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(bytes)?;
    Ok(ContentId(*hasher.finalize().as_bytes()))
}

/// Does `work` for each of `items` on as many threads as there are cores; the results keep the order.
pub(crate) fn in_parallel<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(MAX_THREADS).min(items.len());
    let next = AtomicUsize::new(0);
    let done: Mutex<Vec<(usize, R)>> = Mutex::default();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let Some(item) = items.get(at) else { break };
                    let result = work(item);
                    lock(&done).push((at, result));
                }
            });
        }
    });
    let mut done = std::mem::take(&mut *lock(&done));
    done.sort_by_key(|(at, _)| *at);
    done.into_iter().map(|(_, result)| result).collect()
}
