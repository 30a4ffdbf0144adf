//! How jobs came to be ready: over time beside `T*` if they came at once, else by how long they waited.

use super::plot::{Plot, Size, WIDE, in_both_sizes, thinned};
use super::scale::Axis;
use super::{card, escape};
use crate::report::words::{count, many, percent, seconds};
use crate::report::{Report, arrivals};

/// The most steps that are drawn.
const STEPS: usize = 240;
/// Waits that differ by more than this are drawn in equal ratios.
const WIDE_RANGE: f64 = 30.0;

/// Which part of all jobs was ready after each time.
fn steps(times: &[f64], all: usize) -> Vec<[f64; 2]> {
    let mut steps = vec![[0.0, 0.0]];
    let share = |ready: usize| ready as f64 / all.max(1) as f64;
    let ranks: Vec<usize> = (0..times.len()).collect();
    for rank in thinned(&ranks, STEPS) {
        let before = steps.last().map_or(0.0, |step| step[1]);
        steps.push([times[rank], before]);
        steps.push([times[rank], share(rank + 1)]);
    }
    steps
}

/// The card of how jobs came to be ready, and that of those that wait if they come over time.
pub(super) fn completion(report: &Report) -> [String; 2] {
    let all = report.waits().len() + report.failed();
    if all == 0 {
        return [card("Jobs that were ready", "", "<p class=\"nothing\">There were no jobs.</p>"), String::new()];
    }
    if arrivals::are_together(report) {
        let lead = format!("Which part of {} had all its files. {}", many(all, "job"), unready(report));
        return [card("Jobs that were ready", lead.trim(), &in_both_sizes(|size| over_time(report, size, all))), String::new()];
    }
    let lead = format!("Which part of {} waited no longer than that. {}", many(all, "job"), unready(report));
    let waits = card("How long jobs waited", lead.trim(), &in_both_sizes(|size| by_wait(report, size, all)));
    let waiting = card("Jobs that wait", "How many had come and were not ready.", &in_both_sizes(|size| under_way(report, size)));
    [waits, waiting]
}

/// The plot of how jobs came to be ready, by itself.
pub(super) fn plot(report: &Report) -> String {
    let all = report.waits().len() + report.failed();
    if arrivals::are_together(report) { over_time(report, WIDE, all) } else { by_wait(report, WIDE, all) }
}

fn unready(report: &Report) -> String {
    let left = report.jobs.iter().filter(|job| job.left && job.waited_s.is_none()).count();
    let mut told = Vec::new();
    if report.failed() > 0 {
        told.push(format!("{} never ready.", count(report.failed() as u64)));
    }
    if left > 0 {
        told.push(format!("{} left before and do not count.", many(left, "node")));
    }
    told.join(" ")
}

fn over_time(report: &Report, size: Size, all: usize) -> String {
    let waits = report.waits();
    let ended_s = waits.last().copied().unwrap_or(0.0);
    let bound = report.bound.filter(|bound| bound.seconds > 0.0);
    let reach = ended_s.max(bound.map_or(0.0, |bound| bound.seconds));
    let most = if ended_s > 0.0 || bound.is_some() { reach * 1.06 } else { arrivals::ended_s(report) };
    let mut plot = Plot::new(size, Axis::time(most, size.ticks, "time since the jobs came"), Axis::share(""));
    let mut ready = steps(&waits, all);
    ready.push([most, waits.len() as f64 / all as f64]);
    let floor: Vec<[f64; 2]> = ready.iter().map(|[at, _]| [*at, 0.0]).collect();
    plot.area("under", &ready, &floor, "");
    plot.curve("ready", &ready);
    if let Some(bound) = bound {
        plot.upright("bound", bound.seconds, &format!("T* {}", seconds(bound.seconds)), 0);
        let beyond = if bound.alone_s > most { " (beyond)" } else { "" };
        plot.upright("alone", bound.alone_s, &format!("alone from the origin {}{beyond}", seconds(bound.alone_s)), 1);
    }
    if let (Some(last), 0) = (waits.last(), report.failed()) {
        plot.upright("last", *last, &format!("last {}", seconds(*last)), 2);
    }
    let shows = format!(
        "The share of jobs that were ready over time: half after {}, all after {}",
        seconds(report.wait(0.5)),
        seconds(report.wait(1.0))
    );
    plot.finish(&shows)
}

fn by_wait(report: &Report, size: Size, all: usize) -> String {
    let waits = report.waits();
    let [p50, p99, most] = [0.5, 0.99, 1.0].map(|part| report.wait(part));
    let reach = waits.last().copied().unwrap_or(1.0);
    let early = waits.get(waits.len() / 50).copied().unwrap_or(0.0);
    let x = if reach > WIDE_RANGE * early.max(reach * 1e-5) {
        Axis::time_in_ratios(early / 2.0, reach, size.ticks, "wait")
    } else {
        Axis::time(reach, size.ticks, "wait")
    };
    let mut plot = Plot::new(size, x, Axis::share(""));
    let waited = steps(&waits, all);
    let floor: Vec<[f64; 2]> = waited.iter().map(|[at, _]| [*at, 0.0]).collect();
    plot.area("under", &waited, &floor, "");
    plot.curve("ready", &waited);
    // Names stand where the curve is not: it is low to the left, and high to the right.
    for (class, name, at, row) in [("alone", "half", p50, 0), ("bound", "99 %", p99, 7)] {
        if at.is_finite() {
            plot.upright(class, at, &format!("{name} {}", seconds(at)), row);
        }
    }
    plot.finish(&format!("Waits of jobs: half at most {}, 99 of 100 at most {}, the longest {}", seconds(p50), seconds(p99), seconds(most)))
}

/// How many jobs had come and were not ready, over time. Those of nodes that left and those that were never ready do not count.
fn waiting(report: &Report) -> Vec<[f64; 2]> {
    let mut changes: Vec<(f64, i64)> = Vec::new();
    for job in &report.jobs {
        if let Some(waited_s) = job.waited_s {
            changes.extend([(job.at_s, 1), (job.at_s + waited_s, -1)]);
        }
    }
    changes.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut now = 0;
    changes
        .into_iter()
        .map(|(at, change)| {
            now += change;
            [at, now.max(0) as f64]
        })
        .collect()
}

fn under_way(report: &Report, size: Size) -> String {
    let waiting = waiting(report);
    let most = waiting.iter().map(|[_, jobs]| *jobs).fold(0.0, f64::max);
    let x = Axis::time(arrivals::ended_s(report), size.ticks, "time since the first job came");
    let mut plot = Plot::new(size, x, Axis::count(most as u64, 5, "jobs"));
    let thin = highest(&waiting, STEPS);
    let floor: Vec<[f64; 2]> = thin.iter().map(|[at, _]| [*at, 0.0]).collect();
    plot.area("under", &thin, &floor, "");
    plot.curve("ready", &thin);
    plot.finish(&format!("Jobs that had come and were not ready over time: at most {}", count(most as u64)))
}

/// The highest point of each of so many stretches, so that no height is lost.
fn highest(points: &[[f64; 2]], most: usize) -> Vec<[f64; 2]> {
    let long = points.len().div_ceil(most.max(1)).max(1);
    points.chunks(long).filter_map(|stretch| stretch.iter().copied().max_by(|a, b| a[1].total_cmp(&b[1]))).collect()
}

/// What the waits were, in a line.
pub(super) fn told(report: &Report) -> String {
    let first = report.waits().first().copied().unwrap_or(f64::INFINITY);
    let [p50, p99, last] = [0.5, 0.99, 1.0].map(|part| seconds(report.wait(part)));
    // Of a few jobs, 99 of 100 are all.
    let p99 = if report.jobs.len() < 100 { String::new() } else { format!("99 % {p99}, ") };
    escape(&format!("first {}, half {p50}, {p99}last {last}", seconds(first)))
}

/// Which part of the jobs was ready.
pub(super) fn share(report: &Report) -> String {
    let all = report.waits().len() + report.failed();
    percent(report.waits().len() as f64, all as f64)
}

#[cfg(test)]
mod tests {
    use super::super::super::samples;
    use super::*;

    #[test]
    fn steps_end_at_the_part_that_was_ready() {
        assert_eq!(steps(&[1.0, 2.0], 4), [[0.0, 0.0], [1.0, 0.0], [1.0, 0.25], [2.0, 0.25], [2.0, 0.5]]);
        let times: Vec<f64> = (0..10_000).map(f64::from).collect();
        assert!(steps(&times, 10_000).len() <= 2 * STEPS + 1);
        assert_eq!(steps(&times, 10_000).last(), Some(&[9999.0, 1.0]));
    }

    #[test]
    fn jobs_that_come_at_once_are_shown_beside_what_no_scheme_can_beat() {
        let [card, _] = completion(&samples::eight());
        assert!(card.contains("T* 51.2 s") && card.contains("alone from the origin 51.2 s") && card.contains("last 55.8 s"));
        let [card, _] = completion(&samples::never());
        assert!(card.contains("1 never ready") && !card.contains("last 5"), "nobody knows when the last would have been ready");
        let [card, _] = completion(&samples::mixed());
        assert!(card.contains("20 nodes left before and do not count"));
    }

    #[test]
    fn jobs_that_come_over_time_are_shown_by_their_waits() {
        let cards = completion(&samples::day()).concat();
        assert!(cards.contains("How long jobs waited") && cards.contains("Jobs that wait") && cards.contains("99 % "));
        assert_eq!(waiting(&samples::day()).last().map(|[_, jobs]| *jobs), Some(0.0), "in the end none waits");
    }

    #[test]
    fn no_height_is_lost_where_points_are_left_out() {
        let points: Vec<[f64; 2]> = (0..1000).map(|at| [f64::from(at), if at == 777 { 9.0 } else { 1.0 }]).collect();
        assert!(highest(&points, 10).len() <= 10 && highest(&points, 10).contains(&[777.0, 9.0]));
    }
}
