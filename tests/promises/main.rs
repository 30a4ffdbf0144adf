//! The promises of Larder, each proven with real processes on loopback.

mod bucket_origin;
mod node;
mod prepare;
mod trees;
