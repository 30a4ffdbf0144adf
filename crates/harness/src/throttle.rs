//! A rate that bodies keep to.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Hands out a rate to all who share it, first come, first served.
#[derive(Debug)]
pub(crate) struct Throttle {
    bytes_per_second: u64,
    free_at: Mutex<Option<Instant>>,
}

impl Throttle {
    /// A throttle of this rate; 0 counts as 1.
    pub(crate) fn new(bytes_per_second: u64) -> Self {
        Self { bytes_per_second: bytes_per_second.max(1), free_at: Mutex::new(None) }
    }

    /// How many bytes to ask for at a time, so that the flow is even: a twentieth of a second's.
    pub(crate) fn piece(&self) -> usize {
        usize::try_from(self.bytes_per_second / 20).unwrap_or(usize::MAX).clamp(1, 256 * 1024)
    }

    /// Waits until `bytes` more may go.
    pub(crate) async fn pass(&self, bytes: u64) {
        let cost = Duration::from_secs_f64(bytes as f64 / self.bytes_per_second as f64);
        let until = {
            let mut free_at = self.free_at.lock().unwrap_or_else(PoisonError::into_inner);
            let until = free_at.map_or_else(Instant::now, |at| at.max(Instant::now())) + cost;
            *free_at = Some(until);
            until
        };
        tokio::time::sleep_until(until).await;
    }
}
