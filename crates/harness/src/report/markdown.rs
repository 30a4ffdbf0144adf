//! Reports as rows of one table in Markdown, for pages that people read.

use super::words::{NOTHING, bytes, count, number, percent, seconds};
use super::{Report, nodes};

const TITLES: [&str; 13] = [
    "scenario",
    "way",
    "nodes",
    "bytes",
    "links",
    "patience",
    "origin's bytes by the file's",
    "first / median / last",
    "T*",
    "last by T*",
    "alone",
    "processor",
    "peak memory",
];

/// A table in Markdown with a row for each report.
#[must_use]
pub fn table(reports: &[Report]) -> String {
    let mut lines = vec![format!("| {} |", TITLES.join(" | ")), format!("|{}", "---|".repeat(TITLES.len()))];
    lines.extend(reports.iter().map(|report| format!("| {} |", row(report).map(|cell| cell.replace('|', "\\|")).join(" | "))));
    lines.join("\n")
}

fn row(report: &Report) -> [String; 13] {
    let told = |value: Option<f64>, how: fn(f64) -> String| value.map_or_else(|| NOTHING.to_owned(), how);
    let name = if report.void.is_some() { format!("{} (void)", report.scenario) } else { report.scenario.clone() };
    let first = report.waits().first().copied().unwrap_or(f64::INFINITY);
    let waits = [first, report.wait(0.5), report.wait(1.0)].map(seconds).join(" / ");
    let patience = if report.lone { NOTHING.to_owned() } else { report.patience.map_or_else(|| "none".to_owned(), number) };
    let memory = report.nodes.iter().filter_map(|node| node.peak_memory).max();
    [
        name,
        report.way.to_string(),
        people(report),
        bytes(report.wanted_bytes as f64),
        links(report),
        patience,
        number(report.origin_x()),
        waits,
        told(report.bound.map(|bound| bound.seconds), seconds),
        told(report.time_x(), number),
        told(report.bound.map(|bound| bound.alone_s), seconds),
        told(report.processor, |busy| percent(busy, 1.0)),
        told(memory.map(|memory| memory as f64), bytes),
    ]
}

/// `8`, `6 + 2 warm`.
fn people(report: &Report) -> String {
    let warm = report.nodes.iter().filter(|node| node.warm).count();
    let others = count((report.nodes.len() - warm) as u64);
    if warm == 0 { others } else { format!("{others} + {} warm", count(warm as u64)) }
}

/// The lines of all: `origin 10.0 MB/s, uplinks 3.00 MB/s to 25.0 MB/s`.
pub(super) fn links(report: &Report) -> String {
    let uplinks = nodes::lines(report.nodes.iter().map(|node| node.uplink));
    let limited = report.nodes.iter().any(|node| node.downlink.is_some());
    let downlinks =
        if limited { format!(", downlinks {}", nodes::lines(report.nodes.iter().map(|node| node.downlink))) } else { String::new() };
    format!("origin {}, uplinks {uplinks}{downlinks}", super::words::limit(report.origin.rate))
}

#[cfg(test)]
mod tests {
    use super::super::samples;
    use super::*;

    #[test]
    fn each_report_is_a_row_with_as_many_cells_as_there_are_titles() {
        let reports = samples::all();
        let table = table(&reports);
        let cells: Vec<usize> = table.lines().map(|line| line.matches('|').count()).collect();
        assert_eq!(cells, vec![TITLES.len() + 1; reports.len() + 2], "{table}");
        let row = table.lines().nth(2).unwrap();
        for cell in
            ["flash-crowd-8", "namespaces", "512 MB", "origin 10.0 MB/s, uplinks ", "none", "1.02", "/ 55.8 s", "51.2 s", "1.09", "44 %"]
        {
            assert!(row.contains(cell), "{cell}: {row}");
        }
    }

    #[test]
    fn a_void_run_is_marked_and_one_that_never_ended_has_no_last_time() {
        let odd = Report { scenario: "a | b".to_owned(), ..samples::eight() };
        assert!(table(&[odd]).contains("| a \\| b |"), "a bar in a name ends no cell");
        let table = table(&[samples::void(), samples::never()]);
        assert!(table.contains("flash-crowd-8 (void)") && table.contains("/ never"), "{table}");
    }
}
