//! A report in a terminal: a line for each thing that one wants to know, and at most some 16 rows of nodes.

use super::words::{NOTHING, bytes, count, limit, many, number, percent, rate, seconds, whole};
use super::{Judged, OfBound, Report, Screen, Sources, arrivals, nodes};

/// The most nodes that have a row each.
const ROWS: usize = 16;

/// `T*` as a formula, with plain letters.
pub(super) const FORMULA: &str = "T* = max(F/d, kF/u_origin, (N-k)F/sum u)";

impl Report {
    /// Shows it on the screen, and gives it each limit as a promise.
    pub fn show(&self, screen: &mut Screen) {
        for line in account(self) {
            screen.say(&line);
        }
        screen.say("");
        let tables = if self.nodes.len() <= ROWS { vec![nodes::each(self)] } else { vec![nodes::kinds(self), nodes::quantiles(self)] };
        for cells in tables {
            screen.table(&cells.titles, &cells.rows);
        }
        for judged in &self.limits {
            screen.promise(judged.kept, &judged.told());
        }
        if let Some(why) = &self.void {
            screen.say(&format!("VOID: {why}"));
        }
    }

    /// The letters of `T*` with what they are in this run.
    pub(super) fn letters(&self, bound: &OfBound) -> Vec<(&'static str, String)> {
        let wanting: std::collections::BTreeSet<usize> = self.jobs.iter().map(|job| job.node).collect();
        let downlink = wanting.iter().filter_map(|node| self.nodes.get(*node)?.downlink).min();
        let uplinks: Option<u64> = self.nodes.iter().filter(|node| node.lies.is_none()).map(|node| node.uplink).sum();
        vec![
            ("F", bytes(self.wanted_bytes as f64)),
            ("N", count(wanting.len() as u64)),
            ("k", count(bound.copies)),
            ("d", limit(downlink)),
            ("u_origin", limit(self.origin.rate)),
            ("sum u", if self.lone { "none: each for itself".to_owned() } else { limit(uplinks) }),
        ]
    }

    /// All bytes that nodes got, by source.
    pub(super) fn from(&self) -> Sources {
        self.nodes.iter().fold(Sources::default(), |all, node| Sources {
            cache: all.cache.saturating_add(node.from.cache),
            peers: all.peers.saturating_add(node.from.peers),
            origin: all.origin.saturating_add(node.from.origin),
        })
    }
}

impl Judged {
    /// What it limits, what was measured, and the most that it may be.
    pub(super) fn told(&self) -> String {
        format!("{}: {}, at most {}", self.what, self.value_told(), self.number(self.most))
    }

    /// What was measured, for people.
    pub(super) fn value_told(&self) -> String {
        self.value.map_or_else(|| "could not be measured".to_owned(), |value| self.number(value))
    }

    /// A number of this limit in its unit, so exact that two on different sides of it look different.
    pub(super) fn number(&self, value: f64) -> String {
        let how: fn(f64) -> String = match self.limit.as_str() {
            "p99_wait_s_max" => seconds,
            "control_rate_max" => rate,
            name if name.ends_with("_x_max") => number,
            _ => whole,
        };
        let look_the_same = self.value.is_some_and(|measured| how(measured) == how(self.most) && measured.total_cmp(&self.most).is_ne());
        if look_the_same { format!("{value:.4}") } else { how(value) }
    }
}

/// What is told before the tables, line by line.
fn account(report: &Report) -> Vec<String> {
    let mut lines = vec![headline(report), report.about.clone()];
    lines.extend(report.void.as_ref().map(|why| format!("VOID: {why}")));
    lines.push(String::new());
    let mut tell = |name: &str, what: String| lines.push(format!("{name:<11} {what}"));
    if let Some(bound) = &report.bound {
        tell("T*", with_numbers(bound));
        let letters: Vec<String> = report.letters(bound).into_iter().map(|(letter, is)| format!("{letter} = {is}")).collect();
        tell("", letters.join(", "));
        tell("last node", last(report, bound));
    }
    tell("waits", waits(report));
    tell("origin", origin(report));
    tell("sources", sources(report));
    tell("beside", beside(report));
    tell("cost", cost(report));
    lines
}

fn headline(report: &Report) -> String {
    let patience = report.patience.map_or_else(|| "no limit to patience".to_owned(), |patience| format!("patience {}", number(patience)));
    let lone = if report.lone { ", each for itself" } else { "" };
    format!(
        "{} ({}, seed {}): {}, {} {}{lone}, {}, {patience}",
        report.scenario,
        report.way,
        report.seed,
        nodes::crowd(report),
        many(report.jobs.len(), "job"),
        arrivals::told(report),
        bytes(report.wanted_bytes as f64),
    )
}

fn with_numbers(bound: &OfBound) -> String {
    let term = |seconds_taken: f64| if seconds_taken > 0.0 { seconds(seconds_taken) } else { NOTHING.to_owned() };
    let [downlink, origin, uplinks] = [bound.downlink_s, bound.origin_s, bound.uplinks_s].map(term);
    let formula = FORMULA.trim_start_matches("T* = ");
    format!("{formula} = max({downlink}, {origin}, {uplinks}) = {}", seconds(bound.seconds))
}

fn last(report: &Report, bound: &OfBound) -> String {
    let by = |ratio: Option<f64>| ratio.map_or_else(|| NOTHING.to_owned(), number);
    format!(
        "{}, {} T*; one alone from the origin takes {} ({} of it)",
        seconds(report.wait(1.0)),
        by(report.time_x()),
        seconds(bound.alone_s),
        by(report.alone_x()),
    )
}

fn waits(report: &Report) -> String {
    let first = report.waits().first().copied().unwrap_or(f64::INFINITY);
    let [p50, p99, last] = [0.5, 0.99, 1.0].map(|part| seconds(report.wait(part)));
    let left = report.jobs.iter().filter(|job| job.left && job.waited_s.is_none()).count();
    let left = if left > 0 { format!(", {left} left") } else { String::new() };
    let failed = if report.failed() > 0 { format!(", {} NEVER READY", report.failed()) } else { String::new() };
    let all = count(report.jobs.len() as u64);
    let ready = count(report.waits().len() as u64);
    format!("first {}, median {p50}, p99 {p99}, last {last}; {ready} of {all} ready{left}{failed}", seconds(first))
}

fn origin(report: &Report) -> String {
    let wire = report.origin.wire_bytes.map_or_else(String::new, |wire| format!(", {} on the wire", bytes(wire as f64)));
    let floor = report.floor_x().filter(|_| report.floor_bytes != report.wanted_bytes);
    let floor = floor.map_or_else(String::new, |floor| format!(", {} of what must leave it", number(floor)));
    format!(
        "{} copies beside 1.0{floor}: {} of content for {}, {}{wire}",
        number(report.origin_x()),
        bytes(report.origin.body_bytes as f64),
        bytes(report.wanted_bytes as f64),
        many(report.origin.requests as usize, "request"),
    )
}

fn sources(report: &Report) -> String {
    let from = report.from();
    let all = from.cache as f64 + from.peers as f64 + from.origin as f64;
    let part = |name: &str, of: u64| format!("{name} {} ({})", percent(of as f64, all), bytes(of as f64));
    [part("peers", from.peers), part("origin", from.origin), part("cache", from.cache)].join(", ")
}

fn beside(report: &Report) -> String {
    let sum = |of: fn(&super::OfNode) -> u64| report.nodes.iter().map(of).fold(0, u64::saturating_add);
    let control = report.control_rate().map_or_else(|| "not measured".to_owned(), |control| format!("at most {} a node", rate(control)));
    format!(
        "{} duplicates, {}, {}, control {control}, {}",
        bytes(sum(|node| node.duplicates) as f64),
        many(sum(|node| node.stalls) as usize, "stall"),
        many(sum(|node| node.bans) as usize, "ban"),
        many(report.corrupt as usize, "corrupt file"),
    )
}

fn cost(report: &Report) -> String {
    let most = |of: &dyn Fn(&super::OfNode) -> Option<f64>| report.nodes.iter().filter_map(of).reduce(f64::max);
    let told = |value: Option<f64>, how: fn(f64) -> String| value.map_or_else(|| "not measured".to_owned(), how);
    let memory = told(most(&|node| node.peak_memory.map(|memory| memory as f64)), bytes);
    let processor = told(most(&|node| node.processor_s), seconds);
    let busy = report.processor.map_or_else(String::new, |busy| format!(", this machine {} busy", percent(busy, 1.0)));
    format!("a node at most {memory} of memory and {processor} of processor{busy}; played in {}", seconds(report.played_s))
}

#[cfg(test)]
mod tests {
    use super::super::samples;
    use super::*;

    fn told(report: &Report) -> String {
        account(report).join("\n")
    }

    #[test]
    fn the_account_has_the_bound_with_its_numbers_and_the_last_node_beside_it() {
        let text = told(&samples::eight());
        for line in [
            "flash-crowd-8 (namespaces, seed 1): 8 nodes, 8 jobs at once, 512 MB, no limit to patience",
            "max(F/d, kF/u_origin, (N-k)F/sum u) = max(–, 51.2 s, ",
            "F = 512 MB, N = 8, k = 1, d = no limit, u_origin = 10.0 MB/s, sum u = ",
            "55.8 s, 1.09 T*; one alone from the origin takes 51.2 s (1.09 of it)",
            "1.02 copies beside 1.0: 522 MB of content for 512 MB, 128 requests, 548 MB on the wire",
            "8 of 8 ready",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn uplinks_of_liars_are_not_among_the_letters() {
        let report = samples::mixed();
        let letter = |report: &Report| report.bound.map(|bound| report.letters(&bound)).and_then(|mut letters| letters.pop());
        let honest = Report { nodes: report.nodes.iter().filter(|node| node.lies.is_none()).cloned().collect(), ..report.clone() };
        let all = Report {
            nodes: report.nodes.iter().map(|node| super::super::OfNode { lies: None, ..node.clone() }).collect(),
            ..report.clone()
        };
        assert!(letter(&report) == letter(&honest) && letter(&report) != letter(&all));
    }

    #[test]
    fn ten_thousand_nodes_take_no_more_lines_than_fit_on_a_screen() {
        let report = samples::ten_thousand();
        let rows = [nodes::kinds(&report), nodes::quantiles(&report)].map(|cells| cells.rows.len());
        assert!(rows.iter().sum::<usize>() <= 16 && account(&report).len() < 14, "{rows:?}");
    }

    #[test]
    fn a_void_run_and_jobs_that_were_never_ready_cannot_be_overlooked() {
        assert!(told(&samples::void()).contains("VOID: the processor was 93 % busy"));
        let text = told(&samples::never());
        assert!(text.contains("last never") && text.contains("7 of 8 ready, 1 NEVER READY"), "{text}");
    }

    #[test]
    fn each_broken_limit_is_counted_by_the_screen() {
        let mut screen = Screen::new();
        samples::mixed().show(&mut screen);
        assert_eq!(screen.broken(), 2);
    }

    #[test]
    fn no_account_tells_a_number_that_is_none() {
        for report in samples::all() {
            let text = told(&report);
            assert!(!["NaN", "inf", "Some("].iter().any(|none| text.contains(none)), "{text}");
        }
    }

    #[test]
    fn two_numbers_on_different_sides_of_a_limit_never_look_the_same() {
        let judged = Judged { limit: "origin_x_max".into(), what: "it".into(), value: Some(1.0504), most: 1.05, kept: false };
        assert_eq!(judged.told(), "it: 1.0504, at most 1.0500");
    }
}
