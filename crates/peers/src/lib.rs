//! Finds the nodes of a market, hears what they hold, exchanges chunks with them.
//!
//! A [`Market`] is one swarm of libp2p behind a handle that can be cloned, and a channel of [`Event`]s. It knows nothing of disks,
//! jobs and origins: subjects, chunks and claims pass through it. Claims that it hands out were signed by who they say; the bytes
//! and hashes of chunks are for the caller to check.
//!
//! Whatever a stranger can make grow has a bound, a constant beside what it bounds.

mod address;
mod book;
mod config;
mod control;
mod event;
mod exchange;
mod frame;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod gate;
mod holdings;
mod identity;
mod look;
mod market;
mod pace;
mod shared;
mod status;
mod supervisor;
mod swarm;

pub use book::{Book, KnownBan, KnownPeer, decode_book, encode_book};
pub use config::{Config, MarketConfig, StartError};
pub use event::{Event, Sighting};
pub use exchange::{ChunkRequest, ChunkStream, FetchError, Gone, PIECE_CHUNKS, Piece, Signs, Upload, Wanted};
pub use identity::{Identity, IdentityError};
pub use market::Market;
pub use status::{MarketStatus, PeerInfo};
