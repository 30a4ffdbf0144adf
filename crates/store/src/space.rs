//! Room: what the store holds, what may be evicted, and what is promised to jobs.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use larder_content::FileKey;

use crate::blobs::BlobName;
use crate::index::Row;
use crate::lease::seconds;
use crate::partial::{Coming, file_name};
use crate::records::{BlobRow, PartialRow};
use crate::{Limit, Shared, Store, StoreError, lock};

/// Room that is kept for a job; given back when it is dropped.
#[derive(Debug)]
pub struct Reservation {
    bytes: Mutex<u64>,
    all: Arc<Mutex<u64>>,
}

impl Reservation {
    /// Says that so many of the bytes were written: they are counted as held instead.
    pub fn spent(&self, bytes: u64) {
        let mut left = lock(&self.bytes);
        let bytes = bytes.min(*left);
        *left -= bytes;
        *lock(&self.all) -= bytes;
    }

    /// The bytes that are still kept.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        *lock(&self.bytes)
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.spent(u64::MAX);
    }
}

/// How much room there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// Bytes of all blobs.
    pub blob_bytes: u64,
    /// Bytes of files that are still coming.
    pub partial_bytes: u64,
    /// Bytes that are kept for jobs and not written yet.
    pub reserved_bytes: u64,
    /// Bytes the store may hold.
    pub quota_bytes: u64,
    /// Bytes that are free on its disk.
    pub free_bytes: u64,
}

impl Store {
    /// Keeps room for `bytes` more, evicting what was not used for longest if it must: files that nobody goes on with first, then blobs.
    ///
    /// What a lease or a [`Blob`](crate::Blob) in this process holds stays, and so does what was used of late, and what has come of the
    /// files that are `wanted`.
    ///
    /// # Errors
    /// [`StoreError::Full`] if it cannot fit; nothing is evicted then.
    pub fn admit(&self, bytes: u64, wanted: &[FileKey], now: SystemTime) -> Result<Reservation, StoreError> {
        let shared = &*self.shared;
        let mut reserved = lock(&shared.reserved_bytes);
        let room = shared.room(*reserved)?;
        if room.least() < bytes {
            let mut idle = shared.idle_partials(now, shared.config.keep)?;
            idle.retain(|partial| !wanted.contains(&partial.key));
            let mut evictable = shared.evictable(now, shared.config.keep)?;
            let mut fits = shared.would_fit(bytes, &room, &idle, &evictable);
            if fits.is_err() {
                // What is left of partial files that became blobs keeps these on the disk until a sync covers them.
                shared.sync_round()?;
                evictable = shared.evictable(now, shared.config.keep)?;
                fits = shared.would_fit(bytes, &shared.room(*reserved)?, &idle, &evictable);
            }
            fits?;
            for partial in idle {
                if shared.room(*reserved)?.least() >= bytes {
                    break;
                }
                shared.drop_idle(&partial.key)?;
            }
            for (name, _) in evictable {
                if shared.room(*reserved)?.least() >= bytes {
                    break;
                }
                shared.evict(name, now)?;
            }
        }
        *reserved += bytes;
        Ok(Reservation { bytes: Mutex::new(bytes), all: Arc::clone(&shared.reserved_bytes) })
    }

    /// How much room there is.
    ///
    /// # Errors
    /// If the disk or the index cannot be read.
    pub fn space(&self) -> Result<Space, StoreError> {
        let shared = &*self.shared;
        Ok(Space {
            blob_bytes: shared.blob_bytes.load(Ordering::Relaxed),
            partial_bytes: shared.coming_bytes()?.0,
            reserved_bytes: *lock(&shared.reserved_bytes),
            quota_bytes: shared.quota_bytes,
            free_bytes: shared.home.free_bytes()?,
        })
    }
}

/// A file that was begun and that nobody goes on with.
pub(crate) struct IdlePartial {
    /// When it was last written to, in seconds since 1970.
    written_s: u64,
    pub(crate) key: FileKey,
    /// What it takes on the disk.
    pub(crate) bytes: u64,
}

/// Bytes that may still be taken.
struct Room {
    quota: u64,
    disk: u64,
}

impl Room {
    fn least(&self) -> u64 {
        self.quota.min(self.disk)
    }
}

impl Shared {
    /// The bytes of files that are still coming, and those for which blocks are taken though they have not come.
    pub(crate) fn coming_bytes(&self) -> Result<(u64, u64), StoreError> {
        let open: HashMap<FileKey, Arc<Coming>> =
            lock(&self.partials).iter().filter_map(|(key, coming)| Some((*key, coming.upgrade()?))).collect();
        let (mut there, mut ahead) = (0, 0);
        for (key, _) in self.index.partials()?.iter().filter(|(_, row)| row.sealed_as.is_none()) {
            let taken = self.home.status(&file_name(key))?.map_or(0, |status| status.disk_bytes);
            // What nobody is writing is counted by blocks, which costs no look at each chunk.
            let has = open.get(key).map_or(taken, |coming| coming.have_bytes().min(taken));
            there += has;
            ahead += taken - has;
        }
        Ok((there, ahead))
    }

    fn room(&self, reserved: u64) -> Result<Room, StoreError> {
        let (coming, ahead) = self.coming_bytes()?;
        let held = self.blob_bytes.load(Ordering::Relaxed) + coming;
        let disk = (self.home.free_bytes()? + ahead).saturating_sub(self.config.free_floor_bytes);
        Ok(Room { quota: self.quota_bytes.saturating_sub(held + reserved), disk: disk.saturating_sub(reserved) })
    }

    /// Whether `bytes` would fit if all that is `idle` and `evictable` went.
    fn would_fit(&self, bytes: u64, room: &Room, idle: &[IdlePartial], evictable: &[(BlobName, BlobRow)]) -> Result<(), StoreError> {
        let idle_bytes = idle.iter().map(|partial| partial.bytes).fold(0, u64::saturating_add);
        let sum = |row: &dyn Fn(&(BlobName, BlobRow)) -> u64| evictable.iter().map(row).fold(idle_bytes, u64::saturating_add);
        let of_quota = room.quota.saturating_add(sum(&|(_, row)| row.fingerprint.size));
        if of_quota < bytes {
            return Err(StoreError::Full { needed: bytes, free: of_quota, limit: Limit::Quota(self.quota_bytes) });
        }
        let of_disk = room.disk.saturating_add(sum(&|(name, row)| self.freed_by(*name, row)));
        if of_disk < bytes {
            let limit = Limit::Disk { path: self.home.path().into(), floor: self.config.free_floor_bytes };
            return Err(StoreError::Full { needed: bytes, free: of_disk, limit });
        }
        Ok(())
    }

    /// What evicting the blob gives back to the disk: nothing, as long as a target has the same file.
    fn freed_by(&self, name: BlobName, row: &BlobRow) -> u64 {
        let status = self.home.status(&name.file()).ok().flatten();
        if status.is_some_and(|status| !status.has_other_links) { row.fingerprint.size } else { 0 }
    }

    /// The blobs that nothing holds and nobody used for as long as `keep`, in the order in which they would be: last used first.
    pub(crate) fn evictable(&self, now: SystemTime, keep: Duration) -> Result<Vec<(BlobName, BlobRow)>, StoreError> {
        let leased = self.leased(now);
        let old = seconds(now).saturating_sub(keep.as_secs());
        let mut blobs = self.index.blobs()?;
        blobs.retain(|(name, row)| row.used <= old && !leased.contains(name) && !self.is_held(*name));
        blobs.sort_by_key(|(name, row)| (row.used, *name));
        Ok(blobs)
    }

    /// The files that were begun, and that nobody fetches nor wrote to for as long as `keep`, in the order in which they would go.
    pub(crate) fn idle_partials(&self, now: SystemTime, keep: Duration) -> Result<Vec<IdlePartial>, StoreError> {
        let old = seconds(now).saturating_sub(keep.as_secs());
        let mut idle = vec![];
        for (key, _) in self.index.partials()?.into_iter().filter(|(_, row)| row.sealed_as.is_none()) {
            let status = self.home.status(&file_name(&key))?;
            let written_s = status.map_or(0, |status| status.fingerprint.modified_s());
            let is_open = lock(&self.partials).get(&key).is_some_and(|coming| coming.strong_count() > 0);
            if written_s <= old && !is_open {
                idle.push(IdlePartial { written_s, key, bytes: status.map_or(0, |status| status.disk_bytes) });
            }
        }
        idle.sort_unstable_by_key(|partial| (partial.written_s, partial.key));
        Ok(idle)
    }

    /// Removes a file that was begun, unless someone took it up or it became a blob; whether it did.
    pub(crate) fn drop_idle(&self, key: &FileKey) -> Result<bool, StoreError> {
        let partials = lock(&self.partials);
        let is_open = partials.get(key).is_some_and(|coming| coming.strong_count() > 0);
        let row = self.index.get::<PartialRow>(Row::Partial(*key))?;
        if is_open || row.is_none_or(|row| row.sealed_as.is_some()) {
            return Ok(false);
        }
        self.drop_partial(key).map(|()| true)
    }

    /// Removes a blob unless someone took hold of it; whether it did.
    pub(crate) fn evict(&self, name: BlobName, now: SystemTime) -> Result<bool, StoreError> {
        let guard = self.stripe(name);
        let leased = || lock(&self.leases).values().any(|lease| lease.expires > now && lease.blobs.contains(&name));
        if self.is_held(name) || leased() {
            return Ok(false);
        }
        let Some(row) = self.index.get::<BlobRow>(Row::Blob(name))? else { return Ok(false) };
        self.forget(name, &row, &guard)?;
        drop(guard);
        self.drop_leftovers(name)?;
        Ok(true)
    }

    /// Removes what is left of the partial files that became the blob: no sync may have come to clear it.
    fn drop_leftovers(&self, name: BlobName) -> Result<(), StoreError> {
        let sealed = |row: &PartialRow| row.sealed_as.is_some_and(|sealed| BlobName::from(sealed.name) == name);
        for (key, _) in self.index.partials()?.into_iter().filter(|(_, row)| sealed(row)) {
            let partials = lock(&self.partials);
            if self.is_leftover(&partials, key, name)? {
                self.drop_partial(&key)?;
            }
        }
        Ok(())
    }
}
