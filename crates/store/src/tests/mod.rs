//! The promises of the store, a module for each kind.

mod blobs;
mod crashes;
mod kills;
mod leases;
mod moments;
mod partials;
mod pieces;
mod sharing;
mod space;
mod trees;
