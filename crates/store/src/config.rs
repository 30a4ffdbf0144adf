//! What an operator can set of the store.

use std::time::Duration;

/// What an operator can set of the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreConfig {
    /// Bytes that blobs and partial files may take together. Default: half of what is free on the disk when the store is
    /// opened, what it holds already counted as free.
    pub quota_bytes: Option<u64>,
    /// Bytes that stay free on the disk of the store, and on that of a target that needs copies. Default: 2 GiB.
    pub free_floor_bytes: u64,
    /// How long a blob is kept after its last use before it may be evicted. Default: 24 hours.
    pub keep: Duration,
    /// How long a lease holds unless it is renewed. Default: 7 days.
    pub lease: Duration,
}

impl Default for StoreConfig {
    fn default() -> Self {
        let hour = Duration::from_secs(60 * 60);
        Self { quota_bytes: None, free_floor_bytes: 2 << 30, keep: 24 * hour, lease: 7 * 24 * hour }
    }
}
