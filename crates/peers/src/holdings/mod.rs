//! Who holds what: this node's own announcements, and what is known of the others.

mod own;
mod table;
mod window;

pub(crate) use own::Own;
pub(crate) use table::{MOST_HOLDERS_TOLD, Row, Standing, Table};
pub(crate) use window::Window;

use larder_content::{Holding, Subject};

/// What one row adds to the digest of a node's holdings.
fn digest_of(subject: Subject, holding: Holding) -> u64 {
    let kind = match holding {
        Holding::Complete => 1,
        Holding::Fetching => 2,
        Holding::Gone => 3,
    };
    let mut hasher = blake3::Hasher::new_derive_key("larder 2026 holdings digest v1");
    hasher.update(&subject.0).update(&[kind]);
    let mut first = [0; 8];
    first.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
    u64::from_le_bytes(first)
}
