//! Test origins that count, and fail when told to.
//!
//! [`hub`] is a HuggingFace hub, [`servers`] starts real S3 servers, and [`proxy`] counts before them. Each runs on threads
//! of its own, listens on loopback alone, and stops when it is dropped.

mod answer;
mod control;
pub mod counts;
mod delivery;
pub mod faults;
mod git;
pub mod hub;
pub mod proxy;
mod serve;
pub mod servers;
mod source;
mod throttle;

pub use larder_content::HubKind;
