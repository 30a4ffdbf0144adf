//! Reads a job definition into resources and mounts.
//!
//! Text in, data out: no I/O, no clock, and no word of how anything is fetched. Two documents are read: a job's
//! definition ([`parse`]) and the list of what a market wants its hosts to hold ([`parse_required`]). A [`Job`] knows
//! what to get ([`Job::resources`]) and where it goes ([`Job::layout`]).
//! Invariants: every folder of a layout is a path below its root; no error, warning or `Debug` holds a credential or
//! the value of a literal that could be one.

mod definition;
mod error;
mod fields;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod layout;
mod literal;
mod required;
mod resource;
mod settings;
mod target;

pub use definition::{Entry, Job, MAX_RESOURCES, MAX_TEXT_BYTES, Op, parse};
pub use error::JobError;
pub use layout::{Layout, Mount, Part, Tree};
pub use required::{Required, RequiredEntry, parse_required};
pub use resource::Kind;
pub use settings::Settings;
pub use target::TargetPath;
