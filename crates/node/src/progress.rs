//! How far a job is, for whoever watches.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};

/// How far a job is: shared by those who work on it and those who watch it.
#[derive(Debug, Clone, Default)]
pub struct Progress(Arc<Mutex<Vec<Arc<Meter>>>>);

impl Progress {
    /// How far each resource is now.
    #[must_use]
    pub fn snapshot(&self) -> Vec<ResourceProgress> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().map(|meter| meter.snapshot()).collect()
    }

    /// Whether all files are in the store: what is left is to lay them.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        let resources = self.snapshot();
        !resources.is_empty() && resources.iter().all(|resource| resource.phase == Phase::Complete)
    }

    /// Begins to count for a resource.
    pub(crate) fn meter(&self, address: String) -> Arc<Meter> {
        let meter = Arc::new(Meter { address, ..Meter::default() });
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(meter.clone());
        meter
    }
}

/// How far one resource is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResourceProgress {
    /// Its name.
    pub address: String,
    /// What is being done.
    pub phase: Phase,
    /// Bytes of all its files; 0 until they are listed.
    pub bytes: u64,
    /// Bytes that were in the store.
    pub cache: u64,
    /// Bytes that came from peers.
    pub peers: u64,
    /// Bytes that came from the origin.
    pub origin: u64,
}

/// What is being done for a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Its origin is asked for the list of its files.
    Listing,
    /// Its files are looked for and fetched.
    Fetching,
    /// All its files are in the store.
    Complete,
}

/// What is counted for one resource.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    address: String,
    phase: AtomicU64,
    bytes: AtomicU64,
    cache: AtomicU64,
    peers: AtomicU64,
    origin: AtomicU64,
}

impl Meter {
    pub(crate) fn listed(&self, bytes: u64) {
        self.bytes.store(bytes, Relaxed);
        self.phase.store(1, Relaxed);
    }

    pub(crate) fn completed(&self) {
        self.phase.store(2, Relaxed);
    }

    pub(crate) fn add_cache(&self, bytes: u64) {
        self.cache.fetch_add(bytes, Relaxed);
    }

    pub(crate) fn add_peers(&self, bytes: u64) {
        self.peers.fetch_add(bytes, Relaxed);
    }

    /// What came from peers turned out to be something else, and is thrown away.
    pub(crate) fn take_back_peers(&self, bytes: u64) {
        self.peers.fetch_sub(bytes, Relaxed);
    }

    pub(crate) fn add_origin(&self, bytes: u64) {
        self.origin.fetch_add(bytes, Relaxed);
    }

    fn snapshot(&self) -> ResourceProgress {
        let phase = match self.phase.load(Relaxed) {
            0 => Phase::Listing,
            1 => Phase::Fetching,
            _ => Phase::Complete,
        };
        let [bytes, cache, peers, origin] = [&self.bytes, &self.cache, &self.peers, &self.origin].map(|count| count.load(Relaxed));
        ResourceProgress { address: self.address.clone(), phase, bytes, cache, peers, origin }
    }
}
