//! The control streams: one long stream a direction and peer, for everything small.
//!
//! | file | |
//! |---|---|
//! | `frame` | what is on the wire |
//! | `link` | a connection to a peer, and the writing half |
//! | `hear` | the reading half |

mod frame;
mod hear;
mod link;

pub(crate) use frame::{ControlRecord, FileMessageRecord, HelloRecord, HolderRecord, ROWS_A_FRAME, RowRecord, SUBJECTS_A_FRAME};
pub(crate) use hear::{hear, spare_frames};
pub(crate) use link::{Link, write_all};

/// The most peers in one introduction.
pub(crate) const PEERS_A_FRAME: usize = 32;
/// The most addresses that a peer may say it listens on.
const MOST_ADDRESSES_IN_HELLO: usize = 32;
