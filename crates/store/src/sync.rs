//! Syncs what was written in groups, behind the writers' backs.
//!
//! Invariant: a group is marked as synced only after a sync that began when all of the group was written. Writers read
//! the group's number after they wrote, so what they record may be of a later group than needed, never of an earlier one.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use larder_content::FileKey;

use crate::blobs::BlobName;
use crate::folder::Folder;
use crate::index::Row;
use crate::records::StateRow;
use crate::{Shared, Store, StoreError, lock};

/// The longest a group lasts while something is written.
const EVERY: Duration = Duration::from_secs(2);

/// The sync groups of a store.
pub(crate) struct Groups {
    first: u64,
    current: AtomicU64,
    dirty: AtomicBool,
    broken: AtomicBool,
    boot: String,
    /// Held by the round that runs: who asks for one meanwhile waits for it.
    running: Mutex<()>,
    /// Partial files that became blobs in a group, whose leftovers go once that is synced.
    leftovers: Mutex<Vec<(u64, FileKey, BlobName)>>,
    /// Folders on other disks that copies were laid on.
    abroad: Mutex<Vec<Folder>>,
    stop: Mutex<bool>,
    wake: Condvar,
}

impl Groups {
    /// Groups from number `first` on, in this run of the operating system.
    pub(crate) fn new(first: u64, boot: String) -> Self {
        Self {
            first,
            current: AtomicU64::new(first),
            dirty: AtomicBool::new(false),
            broken: AtomicBool::new(false),
            boot,
            running: Mutex::default(),
            leftovers: Mutex::default(),
            abroad: Mutex::default(),
            stop: Mutex::default(),
            wake: Condvar::new(),
        }
    }

    /// The first group of this process.
    pub(crate) fn first(&self) -> u64 {
        self.first
    }

    /// The group of what has been written by now.
    pub(crate) fn current(&self) -> u64 {
        // In this order: a round that ends the group after this read finds the flag set afterwards, and another follows.
        let group = self.current.load(Ordering::SeqCst);
        self.dirty.store(true, Ordering::SeqCst);
        group
    }

    /// Leaves what remains of a partial file until the blob it became is synced.
    pub(crate) fn leave(&self, key: FileKey, name: BlobName) {
        let group = self.current();
        lock(&self.leftovers).push((group, key, name));
    }

    /// Takes back what was left of a partial file, because it is needed again.
    pub(crate) fn take_back(&self, key: FileKey) {
        lock(&self.leftovers).retain(|(_, left, _)| *left != key);
    }

    /// Syncs the disk of `folder` too in the next round. Do this before the group is read.
    pub(crate) fn also(&self, folder: Folder) -> Result<(), StoreError> {
        let device = folder.own_status()?.device;
        let mut abroad = lock(&self.abroad);
        let known = abroad.iter().any(|other| other.own_status().is_ok_and(|status| status.device == device));
        if !known {
            abroad.push(folder);
        }
        Ok(())
    }

    /// Waits until a round is due; whether it is to be the last.
    fn wait(&self) -> bool {
        let waited = self.wake.wait_timeout_while(lock(&self.stop), EVERY, |stop| !*stop);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }
}

impl Store {
    /// Syncs what was written so far. The store does this by itself too, every 2 s.
    ///
    /// # Errors
    /// If the disk fails; what was written since the last sync may be lost then.
    pub fn sync(&self) -> Result<(), StoreError> {
        self.shared.sync_round()
    }
}

impl Store {
    /// Records all that is known so far, so that a kill loses none of it. Quick: what was written is not synced.
    ///
    /// # Errors
    /// If the index cannot be written.
    pub fn flush(&self) -> Result<(), StoreError> {
        self.shared.record_served()?;
        self.shared.index.flush()
    }
}

impl Shared {
    /// Syncs what was written so far and marks it; removes what that makes needless.
    pub(crate) fn sync_round(&self) -> Result<(), StoreError> {
        let groups = &self.groups;
        let _running = lock(&groups.running);
        self.record_served()?;
        if !groups.dirty.swap(false, Ordering::SeqCst) {
            return Ok(());
        }
        // In this order: the disks of what is in the group are known before who laid it there reads the group.
        let group = groups.current.fetch_add(1, Ordering::SeqCst);
        let abroad = std::mem::take(&mut *lock(&groups.abroad));
        for folder in [&self.home].into_iter().chain(&abroad) {
            if let Err(error) = self.disk.sync(folder) {
                // The system tells of a lost write once: no later sync can make up for it.
                groups.broken.store(true, Ordering::SeqCst);
                return Err(folder.fault("", error));
            }
        }
        if groups.broken.load(Ordering::SeqCst) {
            return Ok(());
        }
        self.put_state(group, false)?;
        let (done, left) = std::mem::take(&mut *lock(&groups.leftovers)).into_iter().partition(|(of, _, _)| *of <= group);
        lock(&groups.leftovers).extend::<Vec<_>>(left);
        let done: Vec<(u64, FileKey, BlobName)> = done;
        done.into_iter().try_for_each(|(_, key, name)| self.clear_leftover(key, name))
    }

    /// Records how far synced the store is.
    pub(crate) fn put_state(&self, synced: u64, clean: bool) -> Result<(), StoreError> {
        let state = StateRow { first_group: self.groups.first, synced, boot: self.groups.boot.clone(), clean };
        self.index.put(Row::State, &state)?;
        self.index.flush()
    }

    /// Syncs all, and records that the store was left in good order.
    fn close(&self) -> Result<(), StoreError> {
        self.sync_round()?;
        if self.groups.broken.load(Ordering::SeqCst) {
            return Ok(());
        }
        self.put_state(self.groups.current.load(Ordering::SeqCst), true)
    }
}

/// Runs the rounds of a store, and the last one when it is dropped.
pub(crate) struct Keeper {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Keeper {
    /// Keeps `shared` synced; without a thread only at the end.
    pub(crate) fn new(shared: Arc<Shared>, with_thread: bool) -> Result<Self, StoreError> {
        let kept = Arc::clone(&shared);
        let run = move || {
            while !kept.groups.wait() {
                if let Err(error) = kept.sync_round() {
                    tracing::warn!(%error, "what was written since the last sync may not survive a power cut");
                }
            }
        };
        let spawn = || std::thread::Builder::new().name("store-sync".into()).spawn(run);
        let thread = with_thread.then(spawn).transpose().map_err(|error| shared.home.fault("", error))?;
        Ok(Self { shared, thread })
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        *lock(&self.shared.groups.stop) = true;
        self.shared.groups.wake.notify_all();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        if let Err(error) = self.shared.close() {
            tracing::warn!(%error, "the store could not be left in good order; it will be checked when it is opened again");
        }
    }
}
