//! What this crate promises, over definitions of the market's shapes with invented names.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod documents;
mod faults;
mod hostile;
mod layout;
mod literals;

use larder_content::{BucketResource, HubKind, HubResource, RelativePath, RepoId, Resource};
use larder_job::{Entry, Job, JobError, Settings, parse};
use serde_json::{Value, json};

/// A job of ops with these ids and resources.
fn job_of(ops: &[(&str, Value)]) -> Result<Job, JobError> {
    let ops: Vec<Value> = ops.iter().map(|(id, resources)| json!({"id": id, "args": {"resources": resources}})).collect();
    parse(&json!({"ops": ops}).to_string(), &Settings::default())
}

/// The entry of a job of one op with one resource.
fn entry_of(resource: &Value) -> Result<Entry, JobError> {
    job_of(&[("only", json!([resource]))]).map(|mut job| job.ops[0].entries.remove(0))
}

fn path(text: &str) -> RelativePath {
    RelativePath::new(text).unwrap()
}

fn model(repo: &str, files: &[&str]) -> HubResource {
    let files = files.iter().map(|file| path(file)).collect();
    HubResource { kind: HubKind::Model, repo: RepoId::new(repo).unwrap(), revision: None, files, token: None }
}

fn bucket(url: &str, files: &[&str]) -> Resource {
    let files = files.iter().map(|file| path(file)).collect();
    Resource::Bucket(BucketResource { url: url.into(), bucket: None, files, credentials: None })
}
