//! What `prepare` and `pull` print with `--json`: a contract. Fields may be added, none removed.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What was made ready.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// `ready`.
    pub state: String,
    /// The lease that keeps it; `larder release` takes it.
    pub lease: String,
    /// Milliseconds from the request to readiness.
    pub elapsed_ms: u64,
    /// What each entry of the job got.
    pub resources: Vec<ResourceReport>,
    /// What is to be mounted where.
    pub mounts: Vec<MountReport>,
    /// The sum over the resources.
    pub totals: Totals,
    /// What an operator should know.
    pub warnings: Vec<String>,
}

/// One resource of a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResourceReport {
    /// The op that asked for it.
    pub op: String,
    /// `HF` or `S3`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The resource with its version: `hf:models/org/name@<commit>`.
    pub id: String,
    /// Where the op sees it, as the definition writes it.
    pub target: String,
    /// The host's folder to mount there.
    pub source: String,
    /// Whether the op may only read it.
    pub readonly: bool,
    /// Its number of files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Where the bytes came from.
    pub from: Sources,
    /// How many files were proven by what.
    pub proof: BTreeMap<String, u64>,
}

/// A folder and where it is to be mounted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountReport {
    /// The op whose container it is for.
    pub op: String,
    /// Where the op sees it, as the definition writes it.
    pub target: String,
    /// The host's folder.
    pub source: String,
    /// Whether the op may only read it.
    pub readonly: bool,
}

/// Bytes by source. A file that a job wants twice, or that another job was fetching already, came from the cache.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sources {
    /// From the store.
    pub cache: u64,
    /// From peers.
    pub peers: u64,
    /// From the origin.
    pub origin: u64,
}

/// The sum over all resources of a job.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Files.
    pub files: u64,
    /// Bytes.
    pub bytes: u64,
    /// Where they came from.
    pub from: Sources,
}

impl Totals {
    /// The sum over `resources`.
    #[must_use]
    pub fn of(resources: &[ResourceReport]) -> Self {
        resources.iter().fold(Self::default(), |sum, resource| Self {
            files: sum.files + resource.files,
            bytes: sum.bytes + resource.bytes,
            from: Sources {
                cache: sum.from.cache + resource.from.cache,
                peers: sum.from.peers + resource.from.peers,
                origin: sum.from.origin + resource.from.origin,
            },
        })
    }
}
