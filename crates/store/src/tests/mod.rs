//! The promises of the store, a module for each kind.

mod blobs;
mod leases;
mod partials;
mod space;
mod trees;
