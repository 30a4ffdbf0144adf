//! The promises of the peers' room, kept between real nodes over loopback.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod cold;
mod doors;
mod exchange;
mod frames;
mod holdings;
mod hostile;
mod node;
mod raw;
