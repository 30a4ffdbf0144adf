//! The promises of Larder, each proven with real processes on loopback.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod api;
mod bucket_origin;
mod command;
mod crash;
mod daemon;
mod disk;
mod faults;
mod files;
mod hostile;
mod hub_origin;
mod input;
mod joining;
mod leases;
mod market;
mod member;
mod node;
mod origin_faults;
mod prepare;
mod private;
mod rooms;
mod scenarios;
mod sharing;
mod trees;
