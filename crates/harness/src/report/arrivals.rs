//! When jobs came, and when each was ready.

use super::Report;
use super::words::seconds;

/// Whether all jobs came at once, so that times of jobs are times of the run.
pub(super) fn are_together(report: &Report) -> bool {
    let first = report.jobs.first().map_or(0.0, |job| job.at_s);
    report.jobs.iter().all(|job| (job.at_s - first).abs() < 1e-3)
}

/// When jobs came, in order.
pub(super) fn came(report: &Report) -> Vec<f64> {
    sorted(report.jobs.iter().map(|job| job.at_s).collect())
}

/// When jobs were ready, in order.
pub(super) fn ready(report: &Report) -> Vec<f64> {
    sorted(report.jobs.iter().filter_map(|job| job.waited_s.map(|waited_s| job.at_s + waited_s)).collect())
}

fn sorted(mut times: Vec<f64>) -> Vec<f64> {
    times.retain(|time| time.is_finite());
    times.sort_by(f64::total_cmp);
    times
}

/// When the last thing happened that is told of.
pub(super) fn ended_s(report: &Report) -> f64 {
    let last = [came(report).last().copied(), ready(report).last().copied(), report.timeline.last().map(|moment| moment.at_s)];
    last.into_iter().flatten().filter(|time| time.is_finite()).fold(0.0, f64::max)
}

/// When they came, in words: `all at once`, `over 24 h`.
pub(super) fn told(report: &Report) -> String {
    if are_together(report) { "at once".to_owned() } else { format!("over {}", seconds(came(report).last().copied().unwrap_or(0.0))) }
}
