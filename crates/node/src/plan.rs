//! What a job would need and where it would go, told without touching the network.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use larder_job::Settings;
use larder_origin::Origins;
use serde::Serialize;

use crate::goal::Prepare;
use crate::{MountReport, NodeError};

/// What `larder plan` prints with `--json`.
#[derive(Debug, Clone, Serialize)]
pub struct PlanReport {
    /// The resources, in the definition's order.
    pub resources: Vec<PlannedResource>,
    /// The mounts: with a root the folders that would be laid there, else none yet.
    pub mounts: Vec<MountReport>,
    /// What an operator should know.
    pub warnings: Vec<String>,
}

/// One entry's resource.
#[derive(Debug, Clone, Serialize)]
pub struct PlannedResource {
    /// The op that asks for it.
    pub op: String,
    /// `HF`, `S3` or `Ollama`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its name; the version is known once its origin is asked.
    pub id: String,
    /// Where the op sees it.
    pub target: String,
    /// Whether the op may only read it.
    pub readonly: bool,
    /// The files asked for; empty means all.
    pub files: Vec<String>,
    /// Whether the definition brings credentials of its own for it.
    pub credentials: bool,
}

/// Tells what a job would need. `home` is where the store is, or would be.
///
/// # Errors
/// Those of the definition, and resources that cannot be read as written.
pub fn plan(request: &Prepare, origins: &Origins, home: &Path) -> Result<PlanReport, NodeError> {
    let job = larder_job::parse(&request.definition, &Settings::from_pairs(&request.set)?)?;
    let mut warnings = job.warnings.clone();
    let mut resources = Vec::new();
    for op in &job.ops {
        for entry in &op.entries {
            for resource in &entry.resources {
                let address = origins.address(resource).map_err(|source| NodeError::List { place: entry.label.clone(), source })?;
                resources.push(PlannedResource {
                    op: op.id.clone(),
                    kind: entry.kind.as_str().to_owned(),
                    id: address,
                    target: entry.target.as_written().to_owned(),
                    readonly: !entry.writable,
                    files: resource.files().iter().map(ToString::to_string).collect(),
                    credentials: has_own_credentials(resource),
                });
            }
        }
    }
    let source = |folder: &str| match &request.root {
        Some(root) => root.join(folder).display().to_string(),
        None => home.join("targets").join("…").display().to_string(),
    };
    let mounts = job.layout.mounts.iter().map(|mount| MountReport {
        op: job.ops[mount.op].id.clone(),
        target: mount.target.as_written().to_owned(),
        source: source(mount.folder.as_str()),
        readonly: !mount.writable,
    });
    let mounts = mounts.collect();
    if let Some(root) = &request.root {
        warnings.extend(disk_warnings(root, home));
    }
    Ok(PlanReport { resources, mounts, warnings })
}

fn disk_warnings(root: &Path, home: &Path) -> Vec<String> {
    let mut warnings = Vec::new();
    if root.starts_with("/mnt") && is_wsl() {
        warnings.push(format!(
            "{} is a Windows disk seen from WSL: files there are copied, and slow; choose a folder of Linux's own",
            root.display()
        ));
    }
    if on_one_file_system(home, root) == Some(false) {
        warnings.push(format!(
            "{} is on another file system than the store at {}: files will be copied instead of linked, and take their space twice",
            root.display(),
            home.display()
        ));
    }
    warnings
}

/// Whether links can be made from one folder to the other; both may not be there yet.
fn on_one_file_system(one: &Path, other: &Path) -> Option<bool> {
    let device = |path: &Path| path.ancestors().find_map(|folder| Some(std::fs::metadata(folder).ok()?.dev()));
    Some(device(one)? == device(other)?)
}

fn is_wsl() -> bool {
    std::fs::read_to_string("/proc/sys/kernel/osrelease").is_ok_and(|release| release.to_lowercase().contains("microsoft"))
}

fn has_own_credentials(resource: &larder_content::Resource) -> bool {
    match resource {
        larder_content::Resource::Hub(hub) => hub.token.is_some(),
        larder_content::Resource::Bucket(bucket) => bucket.credentials.as_ref().is_some_and(|credentials| credentials.keys.is_some()),
        larder_content::Resource::Ollama(_) => false,
    }
}
