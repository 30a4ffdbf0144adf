//! Why a job could not be made ready.

use std::sync::Arc;

use larder_job::JobError;
use larder_origin::OriginError;
use larder_store::StoreError;

use crate::fetch::FetchError;

/// Why a job could not be made ready. The text says what, where and what to do, and holds no credential.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The definition is wrong.
    #[error(transparent)]
    Job(#[from] JobError),
    /// What was asked for cannot be asked for.
    #[error("{0}")]
    Input(String),
    /// A resource cannot be listed.
    #[error("{place}: {source}")]
    List {
        /// The entry that asks for it.
        place: String,
        /// What its origin said.
        source: OriginError,
    },
    /// A file cannot be fetched.
    #[error("{place}: {source}")]
    Fetch {
        /// The entry that asks for it.
        place: String,
        /// What went wrong.
        source: Arc<FetchError>,
    },
    /// Two resources put different files at one path.
    #[error("{path} is another file in {first} than in {second}: one target cannot hold both")]
    Conflict {
        /// The path, with its target.
        path: String,
        /// One resource.
        first: String,
        /// The other.
        second: String,
    },
    /// The store cannot do it.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A defect of Larder.
    #[error("a defect of Larder, please report it: {0}")]
    Defect(String),
}

impl NodeError {
    /// Whether what was asked for is wrong, so that asking again is of no use.
    #[must_use]
    pub fn is_wrong_input(&self) -> bool {
        match self {
            Self::Job(_) | Self::Input(_) | Self::Conflict { .. } => true,
            Self::List { source, .. } => matches!(source, OriginError::Refused { .. }),
            Self::Fetch { .. } | Self::Store(_) | Self::Defect(_) => false,
        }
    }
}
