//! The headline figures of a run.

use super::{completion, escape};
use crate::report::words::{NOTHING, bytes, count, many, number, percent, rate, seconds};
use crate::report::{OfNode, Report};

/// A figure: what it is, the figure, its unit, what it says, and whether a limit on it was broken.
struct Tile {
    what: &'static str,
    figure: String,
    unit: &'static str,
    says: String,
    limits: &'static [&'static str],
}

/// All of them.
pub(super) fn tiles(report: &Report) -> String {
    let tiles = [origin(report), time(report), peers(report), ready(report), beside(report), cost(report)];
    let drawn: String = tiles.iter().map(|tile| tile.drawn(report)).collect();
    format!("<ul class=\"tiles\">\n{drawn}</ul>\n")
}

impl Tile {
    fn drawn(&self, report: &Report) -> String {
        let is_broken = report.limits.iter().any(|limit| !limit.kept && self.limits.contains(&limit.limit.as_str()));
        let (class, mark) = if is_broken { (" class=\"broken\"", " <span class=\"mark\">✗ limit broken</span>") } else { ("", "") };
        let (what, figure, unit, says) = (escape(self.what), escape(&self.figure), escape(self.unit), self.says.as_str());
        let long = if self.figure.chars().count() > 9 { " long" } else { "" };
        format!("<li{class}><h2>{what}</h2><p class=\"figure{long}\">{figure}<small>{unit}</small></p><p>{says}{mark}</p></li>\n")
    }
}

fn origin(report: &Report) -> Tile {
    let sent = bytes(report.origin.body_bytes as f64);
    let floor = report.floor_x().filter(|_| report.floor_bytes != report.wanted_bytes);
    let (figure, unit, says) = match floor {
        Some(floor) => (number(floor), "× the least", format!("{sent}; {} must leave it", bytes(report.floor_bytes as f64))),
        None => {
            let says = format!("{sent} for {} wanted; 1.0 is one copy for all", bytes(report.wanted_bytes as f64));
            (number(report.origin_x()), "copies", says)
        }
    };
    Tile { what: "The origin sent", figure, unit, says: escape(&says), limits: &["origin_x_max", "floor_x_max"] }
}

fn time(report: &Report) -> Tile {
    match (report.time_x(), &report.bound) {
        (Some(time_x), Some(bound)) if time_x.is_finite() => Tile {
            what: "The last node took",
            figure: number(time_x),
            unit: "T*",
            says: escape(&format!("{}; no scheme can be faster than {}", seconds(report.wait(1.0)), seconds(bound.seconds))),
            limits: &["time_x_max", "alone_x_max"],
        },
        _ if report.jobs.len() < 100 => Tile {
            what: "The last job waited",
            figure: seconds(report.wait(1.0)),
            unit: "",
            says: escape(&format!("half at most {}", seconds(report.wait(0.5)))),
            limits: &["time_x_max", "alone_x_max", "p99_wait_s_max"],
        },
        _ => Tile {
            what: "99 of 100 waited at most",
            figure: seconds(report.wait(0.99)),
            unit: "",
            says: escape(&format!("half at most {}, the longest {}", seconds(report.wait(0.5)), seconds(report.wait(1.0)))),
            limits: &["time_x_max", "alone_x_max", "p99_wait_s_max"],
        },
    }
}

fn peers(report: &Report) -> Tile {
    let from = report.from();
    let moved = from.peers as f64 + from.origin as f64;
    let (figure, unit) = split(&percent(from.peers as f64, moved), "%");
    let cache = if from.cache > 0 { format!("; {} were there already", bytes(from.cache as f64)) } else { String::new() };
    let says = escape(&format!("{} of {} that moved{cache}", bytes(from.peers as f64), bytes(moved)));
    Tile { what: "Peers gave", figure, unit, says, limits: &[] }
}

fn split(told: &str, unit: &'static str) -> (String, &'static str) {
    told.strip_suffix(unit).map_or((told.to_owned(), ""), |figure| (figure.trim_end().to_owned(), unit))
}

fn ready(report: &Report) -> Tile {
    let waits = if report.waits().is_empty() { "no job was ready".to_owned() } else { completion::told(report) };
    let all = report.waits().len() + report.failed();
    let (figure, unit) = split(&completion::share(report), "%");
    let ready = format!("{} of {}: ", count(report.waits().len() as u64), many(all, "job"));
    Tile { what: "Jobs ready", figure, unit, says: escape(&ready) + &waits, limits: &["failed_max", "p99_wait_s_max", "corrupt_max"] }
}

fn beside(report: &Report) -> Tile {
    let sum = |of: fn(&OfNode) -> u64| report.nodes.iter().map(of).fold(0, u64::saturating_add);
    let wrong = if report.corrupt > 0 { format!(", {}", many(report.corrupt as usize, "corrupt file")) } else { String::new() };
    let says = format!(
        "a node at most for words, gossip and headers; {} came twice, {}, {}{wrong}",
        bytes(sum(|node| node.duplicates) as f64),
        many(sum(|node| node.stalls) as usize, "stall"),
        many(sum(|node| node.bans) as usize, "ban")
    );
    let figure = report.control_rate().map_or_else(|| NOTHING.to_owned(), rate);
    Tile { what: "Beside content", figure, unit: "", says: escape(&says), limits: &["control_rate_max"] }
}

fn cost(report: &Report) -> Tile {
    let memory = report.nodes.iter().filter_map(|node| node.peak_memory).max();
    let processor = report.nodes.iter().filter_map(|node| node.processor_s).reduce(f64::max);
    let processor = processor.map_or_else(String::new, |processor| format!(", {} of processor", seconds(processor)));
    let busy = report.processor.map_or_else(String::new, |busy| format!("; this machine was {} busy", percent(busy, 1.0)));
    let figure = memory.map_or_else(|| NOTHING.to_owned(), |memory| bytes(memory as f64));
    let says = escape(&format!("of memory at most{processor}{busy}"));
    Tile { what: "A node took", figure, unit: "", says, limits: &[] }
}

#[cfg(test)]
mod tests {
    use super::super::super::samples;
    use super::*;

    #[test]
    fn a_broken_limit_is_marked_at_its_figure() {
        let html = tiles(&samples::mixed());
        assert_eq!(html.matches("✗ limit broken").count(), 2);
        assert_eq!(tiles(&samples::eight()).matches("✗").count(), 0);
    }

    #[test]
    fn a_run_that_never_ended_tells_waits_in_place_of_a_ratio() {
        assert!(tiles(&samples::day()).contains("99 of 100 waited at most"));
        assert!(tiles(&samples::never()).contains("The last job waited") && tiles(&samples::never()).contains("never"));
        assert!(tiles(&samples::eight()).contains("<p class=\"figure\">1.09<small>T*</small>"));
    }
}
