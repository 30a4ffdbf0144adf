//! Test origins that count, and fail when told to; markets of real nodes that read from them.
//!
//! [`hub`] is a HuggingFace hub, [`servers`] starts real S3 servers, and [`proxy`] counts before them. Each runs on threads
//! of its own, listens on loopback (or in a network namespace) alone, and stops when it is dropped. [`market`] starts nodes as
//! processes, on loopback or behind shaped links; [`simulation`] plays scenarios of any size without them.

mod answer;
mod control;
pub mod counts;
mod delivery;
pub mod faults;
mod git;
pub mod hub;
pub mod market;
mod process;
pub mod proxy;
pub mod report;
pub mod scenario;
pub mod scratch;
mod serve;
pub mod servers;
pub mod simulation;
mod source;
mod throttle;

pub use larder_content::HubKind;
