//! The promises of Larder, each proven with real processes on loopback.

mod bucket_origin;
