//! What pieces take up: memory that is taken up again, and a bound on how many wait for the node to take them.

use std::sync::Arc;

use larder_content::Buffers;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The most buffers that are remembered, 1 MiB each at most: those of the pieces that wait, and of some that are being written.
const MOST_BUFFERS: usize = 32;
/// The most bytes that wait to be taken, of all links of a market; each link may have one piece more that came, and one that came when there had
/// been no room for 10 s; and each read one that it writes. Where the node's disk is slower than its peers, the rest waits with them.
const MOST_WAITING: usize = 16 << 20;

/// The pieces of all links of a market that came.
#[derive(Debug)]
pub(crate) struct Queue {
    pub(crate) buffers: Buffers,
    room: Arc<Semaphore>,
}

/// Room for a piece that waits, given back when this is dropped.
pub(super) type Place = OwnedSemaphorePermit;

impl Default for Queue {
    fn default() -> Self {
        Self { buffers: Buffers::new(MOST_BUFFERS), room: Arc::new(Semaphore::new(MOST_WAITING)) }
    }
}

impl Queue {
    /// Waits until a piece of `length` bytes may wait to be taken.
    pub(super) async fn place(&self, length: usize) -> Option<Place> {
        // Nobody closes it.
        Arc::clone(&self.room).acquire_many_owned(u32::try_from(length).ok()?).await.ok()
    }
}
