//! Writes what came of a command for people to read.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use indicatif::{HumanBytes, HumanDuration};
use larder_node::{MountReport, PlanReport, Report};

use crate::command::{Collected, Inventory, Outcome, Released, Verified};
use crate::status::View;

/// What came of a command, in lines.
pub(crate) fn outcome(outcome: &Outcome, view: View, markets: usize) -> Vec<String> {
    match outcome {
        Outcome::Ready(report) => ready(report),
        Outcome::Status(status) => view.lines(status, markets),
        Outcome::Resources(inventory) => resources(inventory),
        Outcome::Verified(verified) => verify(verified),
        Outcome::Collected(collected) => collect(collected),
        Outcome::Released(released) => release(released),
    }
}

/// A plan, in lines.
pub(crate) fn plan(plan: &PlanReport) -> Vec<String> {
    let mut lines = Vec::new();
    for resource in &plan.resources {
        let rights = if resource.readonly { "" } else { ", writable" };
        let credentials = if resource.credentials { ", with credentials" } else { "" };
        let files = if resource.files.is_empty() { "all files".to_owned() } else { counted(resource.files.len() as u64, "file") };
        lines.push(format!("{}: {} ({files}{rights}{credentials}) at {}", resource.op, resource.id, resource.target));
    }
    lines.extend(plan.mounts.iter().map(mount));
    lines.extend(plan.warnings.iter().map(|warning| format!("note: {warning}")));
    if plan.resources.is_empty() {
        lines.push("The job needs no files.".to_owned());
    }
    lines
}

fn ready(report: &Report) -> Vec<String> {
    let mut lines = Vec::new();
    for resource in &report.resources {
        let proofs: Vec<String> = resource.proof.iter().map(|(kind, count)| format!("{kind} {count}")).collect();
        let from = resource.from;
        lines.push(format!(
            "{}: {}, {} (cache {}, peers {}, origin {}), proven by {}",
            resource.id,
            counted(resource.files, "file"),
            HumanBytes(resource.bytes),
            HumanBytes(from.cache),
            HumanBytes(from.peers),
            HumanBytes(from.origin),
            proofs.join(", ")
        ));
    }
    // What is pulled is for no container, so nothing is mounted.
    let pulled = |mount: &&MountReport| mount.target.is_empty() || mount.target == mount.source;
    lines.extend(report.mounts.iter().filter(|report| !pulled(report)).map(mount));
    lines.extend(report.mounts.iter().filter(pulled).map(|mount| format!("laid in {}", mount.source)));
    lines.extend(report.warnings.iter().map(|warning| format!("note: {warning}")));
    let seconds = Duration::from_millis(report.elapsed_ms).as_secs_f64();
    lines.push(format!("ready after {seconds:.3} s; release with: larder release {}", report.lease));
    lines
}

fn mount(mount: &MountReport) -> String {
    let rights = if mount.readonly { "read only" } else { "writable" };
    format!("{}: mount {} at {} ({rights})", mount.op, mount.source, mount.target)
}

fn resources(inventory: &Inventory) -> Vec<String> {
    let mut lines = Vec::new();
    for resource in &inventory.resources {
        let (files, bytes) = (counted(resource.files, "file"), HumanBytes(resource.bytes));
        lines.push(format!("{}: {files}, {bytes}, used {} ago", resource.id, since(resource.used)));
    }
    for lease in &inventory.leases {
        lines.push(format!("lease {} of {}: {} more; {}", lease.lease, lease.job, until(lease.expires), lease.trees.join(", ")));
    }
    let Inventory { blob_bytes, partial_bytes, quota_bytes, free_bytes, .. } = inventory;
    lines.push(format!(
        "{} held, {} coming, {} allowed, {} free on the disk",
        HumanBytes(*blob_bytes),
        HumanBytes(*partial_bytes),
        HumanBytes(*quota_bytes),
        HumanBytes(*free_bytes)
    ));
    lines
}

fn verify(verified: &Verified) -> Vec<String> {
    let mut lines: Vec<String> = verified.damaged.iter().map(|damaged| format!("damaged, removed: {damaged}")).collect();
    let Verified { files, bytes, damaged, partial_files, partial_bytes } = verified;
    let (files, bytes, partial_bytes, damaged) = (counted(*files, "file"), HumanBytes(*bytes), HumanBytes(*partial_bytes), damaged.len());
    lines.push(format!("{files}, {bytes}; {partial_files} coming, {partial_bytes} of them recorded; {damaged} damaged"));
    lines
}

fn collect(collected: &Collected) -> Vec<String> {
    let mut lines: Vec<String> = collected.leases.iter().map(|lease| format!("lease {lease} had expired")).collect();
    lines.push(format!("{} removed, {}", counted(collected.files, "file"), HumanBytes(collected.bytes)));
    lines
}

fn release(released: &Released) -> Vec<String> {
    let (files, folders) = (counted(released.files, "file"), counted(released.trees, "folder"));
    vec![format!("lease {} released: {files} in {folders} removed", released.lease)]
}

/// A number of things.
pub(crate) fn counted(count: u64, noun: &str) -> String {
    let ending = if count == 1 { "" } else { "s" };
    format!("{count} {noun}{ending}")
}

fn since(seconds: u64) -> HumanDuration {
    HumanDuration(SystemTime::now().duration_since(UNIX_EPOCH + Duration::from_secs(seconds)).unwrap_or_default())
}

fn until(seconds: u64) -> HumanDuration {
    HumanDuration((UNIX_EPOCH + Duration::from_secs(seconds)).duration_since(SystemTime::now()).unwrap_or_default())
}
