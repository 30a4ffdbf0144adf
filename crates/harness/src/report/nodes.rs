//! The nodes of a run as tables: each by itself while they are few, else by kind and by quantiles.

use super::words::{NOTHING, bytes, count, many, rate, seconds, whole};
use super::{OfNode, Report};

/// Cells below their titles, all as text for people.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Cells {
    pub(super) titles: Vec<&'static str>,
    pub(super) rows: Vec<Vec<String>>,
}

impl Cells {
    /// Without columns in which no row says anything; the first stays.
    fn without_empty(self) -> Self {
        let says = |column: usize| column == 0 || self.rows.iter().any(|row| !["", "0", NOTHING].contains(&row[column].as_str()));
        let kept: Vec<usize> = (0..self.titles.len()).filter(|column| says(*column)).collect();
        Self {
            titles: kept.iter().map(|column| self.titles[*column]).collect(),
            rows: self.rows.iter().map(|row| kept.iter().map(|column| row[*column].clone()).collect()).collect(),
        }
    }
}

/// What became of the jobs of one node.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Wait {
    /// It had none.
    NoJob,
    /// All were ready; the longest took so many seconds.
    Ready(f64),
    /// It left before one was ready.
    Left,
    /// One was never ready.
    Never,
}

impl Wait {
    fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Never, _) | (_, Self::Never) => Self::Never,
            (Self::Left, _) | (_, Self::Left) => Self::Left,
            (Self::Ready(one), Self::Ready(other)) => Self::Ready(one.max(other)),
            (Self::NoJob, some) | (some, Self::NoJob) => some,
        }
    }

    /// In a word.
    pub(super) fn told(self) -> String {
        match self {
            Self::NoJob => NOTHING.to_owned(),
            Self::Ready(waited_s) => seconds(waited_s),
            Self::Left => "left".to_owned(),
            Self::Never => "never".to_owned(),
        }
    }
}

/// What became of the jobs of each node, by its number.
pub(super) fn waits(report: &Report) -> Vec<Wait> {
    let mut waits = vec![Wait::NoJob; report.nodes.len()];
    for job in &report.jobs {
        let one = match (job.waited_s, job.left) {
            (Some(waited_s), _) => Wait::Ready(waited_s),
            (None, true) => Wait::Left,
            (None, false) => Wait::Never,
        };
        if let Some(wait) = waits.get_mut(job.node) {
            *wait = wait.and(one);
        }
    }
    waits
}

/// What sets a node apart, in a few words.
pub(super) fn kind(node: &OfNode) -> String {
    let first = match (node.lies, node.warm) {
        (Some(_), _) => "liar",
        (None, true) => "warm",
        (None, false) => "cold",
    };
    let unreachable = if node.reachable { "" } else { ", unreachable" };
    let left = if node.left_s.is_some() { ", left" } else { "" };
    format!("{first}{unreachable}{left}")
}

/// The lines of nodes, from the narrowest to the widest: `10.0 MB/s`, `3.00 MB/s to 25.0 MB/s`, `no limit`.
pub(super) fn lines(of: impl Iterator<Item = Option<u64>>) -> String {
    let (mut least, mut most, mut free) = (u64::MAX, 0, false);
    for line in of {
        match line {
            Some(line) => (least, most) = (least.min(line), most.max(line)),
            None => free = true,
        }
    }
    match (least, most, free) {
        (u64::MAX, ..) => "no limit".to_owned(),
        (least, _, true) => format!("{} to no limit", rate(least as f64)),
        (least, most, false) if least == most => rate(most as f64),
        (least, most, false) => format!("{} to {}", rate(least as f64), rate(most as f64)),
    }
}

fn told(value: Option<f64>, how: impl Fn(f64) -> String) -> String {
    value.map_or_else(|| NOTHING.to_owned(), how)
}

/// One row a node.
pub(super) fn each(report: &Report) -> Cells {
    let titles = vec![
        "node",
        "kind",
        "uplink",
        "downlink",
        "waited",
        "cache",
        "peers",
        "origin",
        "served",
        "duplicates",
        "stalls",
        "bans",
        "control",
        "memory",
        "processor",
    ];
    let span_s = report.timeline.last().map_or(0.0, |moment| moment.at_s);
    let row = |(node, wait): (&OfNode, Wait)| {
        let line = |line: Option<u64>| told(line.map(|line| line as f64), rate);
        vec![
            node.name.clone(),
            kind(node),
            line(node.uplink),
            line(node.downlink),
            wait.told(),
            bytes(node.from.cache as f64),
            bytes(node.from.peers as f64),
            bytes(node.from.origin as f64),
            bytes(node.served as f64),
            bytes(node.duplicates as f64),
            count(node.stalls),
            count(node.bans),
            told(control(node).filter(|_| span_s > 0.0).map(|bytes| bytes / span_s), rate),
            told(node.peak_memory.map(|memory| memory as f64), bytes),
            told(node.processor_s, seconds),
        ]
    };
    Cells { titles, rows: report.nodes.iter().zip(waits(report)).map(row).collect() }.without_empty()
}

/// Bytes beside content in the direction in which there were more.
fn control(node: &OfNode) -> Option<f64> {
    node.control_sent.max(node.control_received).map(|bytes| bytes as f64)
}

/// How many there are of each kind, and what became of its middle node.
pub(super) fn kinds(report: &Report) -> Cells {
    let waits = waits(report);
    let mut kinds: Vec<(String, Vec<usize>)> = Vec::new();
    for (number, node) in report.nodes.iter().enumerate() {
        let kind = kind(node);
        match kinds.iter_mut().find(|(known, _)| *known == kind) {
            Some((_, members)) => members.push(number),
            None => kinds.push((kind, vec![number])),
        }
    }
    kinds.sort_by_key(|(_, members)| std::cmp::Reverse(members.len()));
    let row = |(kind, members): &(String, Vec<usize>)| {
        let of = |value: fn(&OfNode) -> f64| middle(members.iter().map(|number| value(&report.nodes[*number])).collect());
        let ready = members.iter().filter_map(|number| if let Wait::Ready(waited_s) = waits[*number] { Some(waited_s) } else { None });
        vec![
            kind.clone(),
            count(members.len() as u64),
            lines(members.iter().map(|number| report.nodes[*number].uplink)),
            lines(members.iter().map(|number| report.nodes[*number].downlink)),
            told(middle(ready.collect()), seconds),
            told(of(|node| node.from.cache as f64), bytes),
            told(of(|node| node.from.peers as f64), bytes),
            told(of(|node| node.from.origin as f64), bytes),
            told(of(|node| node.served as f64), bytes),
        ]
    };
    let titles = vec!["kind", "nodes", "uplink", "downlink", "median wait", "cache", "peers", "origin", "served"];
    Cells { titles, rows: kinds.iter().map(row).collect() }.without_empty()
}

fn middle(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    quantile(&values, 0.5)
}

/// The least of the sorted `values` that this part of them does not exceed.
pub(super) fn quantile(values: &[f64], part: f64) -> Option<f64> {
    let rank = (part * values.len() as f64).ceil() as usize;
    values.get(rank.clamp(1, values.len().max(1)) - 1).copied()
}

/// What is told of all nodes by quantiles: its name, how it is written, and where it is found.
type Measure = (&'static str, fn(f64) -> String, fn(&OfNode) -> Option<f64>);

const MEASURES: [Measure; 12] = [
    ("from cache", bytes, |node| Some(node.from.cache as f64)),
    ("from peers", bytes, |node| Some(node.from.peers as f64)),
    ("from the origin", bytes, |node| Some(node.from.origin as f64)),
    ("served to peers", bytes, |node| Some(node.served as f64)),
    ("sent on the wire", bytes, |node| node.sent.map(|bytes| bytes as f64)),
    ("received on the wire", bytes, |node| node.received.map(|bytes| bytes as f64)),
    ("beside content", bytes, control),
    ("duplicates", bytes, |node| Some(node.duplicates as f64)),
    ("stalls of peers", whole, |node| Some(node.stalls as f64)),
    ("bans of peers", whole, |node| Some(node.bans as f64)),
    ("peak memory", bytes, |node| node.peak_memory.map(|bytes| bytes as f64)),
    ("processor time", seconds, |node| node.processor_s),
];

/// Which parts of all nodes are told.
const PARTS: [f64; 5] = [0.0, 0.1, 0.5, 0.9, 1.0];

/// The least, the middle and the most of all nodes, for whatever any node has.
pub(super) fn quantiles(report: &Report) -> Cells {
    let row = |name: &str, how: fn(f64) -> String, mut values: Vec<f64>| {
        values.sort_by(f64::total_cmp);
        let says = values.last().is_some_and(|most| *most > 0.0);
        let cells = PARTS.iter().filter_map(|part| quantile(&values, *part)).map(how);
        says.then(|| std::iter::once(name.to_owned()).chain(cells).collect())
    };
    let waits = waits(report).into_iter().filter_map(|wait| match wait {
        Wait::Ready(waited_s) => Some(waited_s),
        Wait::Never => Some(f64::INFINITY),
        Wait::NoJob | Wait::Left => None,
    });
    let measured = |(name, how, value): &Measure| row(name, *how, report.nodes.iter().filter_map(value).collect());
    let rows = row("longest wait", seconds, waits.collect()).into_iter().chain(MEASURES.iter().filter_map(measured)).collect();
    Cells { titles: vec!["of each node", "least", "10 %", "median", "90 %", "most"], rows }
}

/// Who took part, in a few words: `8 nodes`, `40 nodes: 28 cold, 12 cold, left`.
pub(super) fn crowd(report: &Report) -> String {
    let kinds = kinds(report);
    let all = many(report.nodes.len(), "node");
    if kinds.rows.len() < 2 {
        return all;
    }
    let each: Vec<String> = kinds.rows.iter().take(6).map(|row| format!("{} {}", row[1], row[0].replace(", ", " and "))).collect();
    format!("{all}: {}", each.join(", "))
}

#[cfg(test)]
mod tests {
    use super::super::samples;
    use super::*;

    #[test]
    fn each_node_is_a_row_and_columns_that_say_nothing_are_left_out() {
        let cells = each(&samples::eight());
        assert_eq!(cells.rows.len(), 8);
        assert!(
            cells.titles.contains(&"uplink") && !cells.titles.contains(&"downlink") && !cells.titles.contains(&"bans"),
            "{:?}",
            cells.titles
        );
        assert!(cells.rows.iter().all(|row| row.len() == cells.titles.len()));
    }

    #[test]
    fn kinds_are_told_apart_and_the_greatest_comes_first() {
        let kinds = kinds(&samples::mixed());
        let told: Vec<&str> = kinds.rows.iter().map(|row| row[0].as_str()).collect();
        assert_eq!(told, ["cold", "liar", "cold, left", "warm", "cold, unreachable"]);
        assert_eq!(crowd(&samples::mixed()), "120 nodes: 63 cold, 24 liar, 20 cold and left, 12 warm, 1 cold and unreachable");
    }

    #[test]
    fn quantiles_are_of_values_that_were_there() {
        let values: Vec<f64> = (1..=10).map(f64::from).collect();
        assert_eq!([0.0, 0.1, 0.5, 0.9, 1.0].map(|part| quantile(&values, part)), [1.0, 1.0, 5.0, 9.0, 10.0].map(Some));
        assert_eq!(quantile(&[], 0.5), None);
    }

    #[test]
    fn one_job_that_was_never_ready_makes_its_nodes_wait_for_ever() {
        let mut report = samples::eight();
        report.jobs.push(super::super::OfJob { node: 2, waited_s: None, ..report.jobs[2].clone() });
        report.jobs.push(super::super::OfJob { node: 99, ..report.jobs[2].clone() });
        assert_eq!(waits(&report)[2], Wait::Never);
        let quantiles = quantiles(&report);
        assert_eq!(quantiles.rows[0].last().map(String::as_str), Some("never"));
    }

    #[test]
    fn lines_are_told_from_the_narrowest_to_the_widest() {
        let told = |of: &[Option<u64>]| lines(of.iter().copied());
        assert_eq!(told(&[Some(3_000_000), Some(25_000_000)]), "3.00 MB/s to 25.0 MB/s");
        assert_eq!((told(&[None]), told(&[Some(1000)]), told(&[])), ("no limit".into(), "1.00 kB/s".into(), "no limit".into()));
    }
}
