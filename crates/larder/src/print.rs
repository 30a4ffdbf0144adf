//! Writes what came of a command for people to read.

use std::fmt::Write;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use indicatif::{HumanBytes, HumanDuration};
use larder_node::{PlanReport, Report};

use crate::command::{Collected, Inventory, Outcome, Released, Verified};

/// What came of a command, as text that ends in a line break.
pub(crate) fn outcome(outcome: &Outcome) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = match outcome {
        Outcome::Ready(report) => ready(&mut text, report),
        Outcome::Resources(inventory) => resources(&mut text, inventory),
        Outcome::Verified(verified) => verify(&mut text, verified),
        Outcome::Collected(collected) => collect(&mut text, collected),
        Outcome::Released(released) => release(&mut text, released),
    };
    text
}

/// A plan, as text that ends in a line break.
pub(crate) fn plan(plan: &PlanReport) -> String {
    let mut text = String::new();
    for resource in &plan.resources {
        let rights = if resource.readonly { "" } else { ", writable" };
        let credentials = if resource.credentials { ", with credentials" } else { "" };
        let files = if resource.files.is_empty() { "all files".to_owned() } else { format!("{} files", resource.files.len()) };
        let _ = writeln!(text, "{}: {} ({files}{rights}{credentials}) at {}", resource.op, resource.id, resource.target);
    }
    for mount in &plan.mounts {
        let _ = writeln!(text, "{}: mount {} at {}{}", mount.op, mount.source, mount.target, rights(mount.readonly));
    }
    for warning in &plan.warnings {
        let _ = writeln!(text, "note: {warning}");
    }
    if plan.resources.is_empty() {
        text.push_str("The job needs no files.\n");
    }
    text
}

fn ready(text: &mut String, report: &Report) -> std::fmt::Result {
    for resource in &report.resources {
        let proofs: Vec<String> = resource.proof.iter().map(|(kind, count)| format!("{kind} {count}")).collect();
        let from = resource.from;
        writeln!(
            text,
            "{}: {} files, {} (cache {}, peers {}, origin {}), proven by {}",
            resource.id,
            resource.files,
            HumanBytes(resource.bytes),
            HumanBytes(from.cache),
            HumanBytes(from.peers),
            HumanBytes(from.origin),
            proofs.join(", ")
        )?;
    }
    for mount in report.mounts.iter().filter(|mount| mount.target != mount.source) {
        writeln!(text, "{}: mount {} at {}{}", mount.op, mount.source, mount.target, rights(mount.readonly))?;
    }
    for mount in report.mounts.iter().filter(|mount| mount.target == mount.source) {
        writeln!(text, "laid in {}", mount.source)?;
    }
    for warning in &report.warnings {
        writeln!(text, "note: {warning}")?;
    }
    writeln!(
        text,
        "ready after {:.3} s; release with: larder release {}",
        Duration::from_millis(report.elapsed_ms).as_secs_f64(),
        report.lease
    )
}

fn rights(readonly: bool) -> &'static str {
    if readonly { " (read only)" } else { " (writable)" }
}

fn resources(text: &mut String, inventory: &Inventory) -> std::fmt::Result {
    for resource in &inventory.resources {
        writeln!(text, "{}: {} files, {}, used {} ago", resource.id, resource.files, HumanBytes(resource.bytes), since(resource.used))?;
    }
    for lease in &inventory.leases {
        writeln!(text, "lease {} of {}: {} more; {}", lease.lease, lease.job, until(lease.expires), lease.trees.join(", "))?;
    }
    let Inventory { blob_bytes, partial_bytes, quota_bytes, free_bytes, .. } = inventory;
    writeln!(
        text,
        "{} held, {} coming, {} allowed, {} free on the disk",
        HumanBytes(*blob_bytes),
        HumanBytes(*partial_bytes),
        HumanBytes(*quota_bytes),
        HumanBytes(*free_bytes)
    )
}

fn verify(text: &mut String, verified: &Verified) -> std::fmt::Result {
    for damaged in &verified.damaged {
        writeln!(text, "damaged, removed: {damaged}")?;
    }
    let Verified { files, bytes, damaged, partial_files, partial_bytes } = verified;
    let (bytes, partial_bytes) = (HumanBytes(*bytes), HumanBytes(*partial_bytes));
    writeln!(text, "{files} files, {bytes}; {partial_files} coming, {partial_bytes} of them recorded; {} damaged", damaged.len())
}

fn collect(text: &mut String, collected: &Collected) -> std::fmt::Result {
    for lease in &collected.leases {
        writeln!(text, "lease {lease} had expired")?;
    }
    writeln!(text, "{} files removed, {}", collected.files, HumanBytes(collected.bytes))
}

fn release(text: &mut String, released: &Released) -> std::fmt::Result {
    writeln!(text, "lease {} released: {} files in {} folders removed", released.lease, released.files, released.trees)
}

fn since(seconds: u64) -> HumanDuration {
    HumanDuration(SystemTime::now().duration_since(UNIX_EPOCH + Duration::from_secs(seconds)).unwrap_or_default())
}

fn until(seconds: u64) -> HumanDuration {
    HumanDuration((UNIX_EPOCH + Duration::from_secs(seconds)).duration_since(SystemTime::now()).unwrap_or_default())
}
