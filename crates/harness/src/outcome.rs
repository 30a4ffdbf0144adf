//! What came of one measured scene, as a file and as a row of a table.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use anyhow::Context;
use larder_harness::report::{Bound, megabytes};
use serde::{Deserialize, Serialize};

/// One measured scene. Rates are in bytes a second, times in seconds from the common start.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Outcome {
    pub(crate) name: String,
    /// How many nodes wanted the files.
    pub(crate) nodes: usize,
    /// How many more held them before.
    pub(crate) warm: usize,
    /// Whether each node worked for itself, without a market.
    pub(crate) lone: bool,
    pub(crate) files: u64,
    /// Of all files together.
    pub(crate) bytes: u64,
    pub(crate) origin_rate: u64,
    pub(crate) uplink: u64,
    pub(crate) downlink: Option<u64>,
    pub(crate) patience: Option<String>,
    /// What a single connection got of the origin's and of a node's rates, content only, before the start.
    pub(crate) origin_goodput: f64,
    pub(crate) uplink_goodput: f64,
    pub(crate) downlink_goodput: Option<f64>,
    /// Bodies of content that the origin sent, cancelled ones included; requests for content; all it sent, on the wire.
    pub(crate) origin_bytes: u64,
    pub(crate) origin_requests: u64,
    pub(crate) origin_wire_bytes: u64,
    pub(crate) first_s: f64,
    pub(crate) median_s: f64,
    pub(crate) last_s: f64,
    /// `T*`, and the time one node alone takes straight from the origin.
    pub(crate) bound_s: f64,
    pub(crate) alone_s: f64,
    /// The part of this machine's cores that was busy meanwhile.
    pub(crate) processor: f64,
    pub(crate) each: Vec<OfNode>,
}

/// One node of a scene; those that were warm have no time.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct OfNode {
    pub(crate) name: String,
    pub(crate) seconds: Option<f64>,
    pub(crate) from_cache: u64,
    pub(crate) from_peers: u64,
    pub(crate) from_origin: u64,
    /// On the wire.
    pub(crate) sent: u64,
    pub(crate) received: u64,
    pub(crate) peak_memory: u64,
}

impl Outcome {
    /// The physics of it, with `copies` of the files from the origin.
    pub(crate) fn bound(&self, copies: u64) -> Bound {
        let senders = if self.lone { 0 } else { (self.nodes + self.warm) as u64 };
        Bound {
            bytes: self.bytes,
            cold: self.nodes as u64,
            copies,
            downlink: self.downlink,
            origin: Some(self.origin_rate),
            uplinks: Some(self.uplink * senders).filter(|_| !self.lone),
        }
    }

    /// What the origin sent over what there is.
    pub(crate) fn origin_ratio(&self) -> f64 {
        self.origin_bytes as f64 / self.bytes.max(1) as f64
    }

    /// The last node's time over `T*`.
    pub(crate) fn over_bound(&self) -> f64 {
        self.last_s / self.bound_s
    }

    /// The most memory that a node had.
    pub(crate) fn peak_memory(&self) -> u64 {
        self.each.iter().map(|node| node.peak_memory).max().unwrap_or(0)
    }

    /// Rates in words.
    pub(crate) fn links(&self) -> String {
        let rate = |rate: u64| format!("{}/s", megabytes(rate));
        let down = self.downlink.map_or_else(String::new, |downlink| format!(", downlinks {}", rate(downlink)));
        format!("origin {}, uplinks {}{down}", rate(self.origin_rate), rate(self.uplink))
    }

    /// Writes it as JSON, with the ratios.
    pub(crate) fn write(&self, path: &Path) -> anyhow::Result<()> {
        let mut document = serde_json::to_value(self)?;
        document["origin_ratio"] = self.origin_ratio().into();
        document["over_bound"] = self.over_bound().into();
        let text = serde_json::to_string_pretty(&document)?;
        std::fs::write(path, text + "\n").with_context(|| path.display().to_string())
    }

    fn row(&self) -> Vec<String> {
        let patience = self.patience.clone().unwrap_or_else(|| "-".to_owned());
        let seconds = |seconds: f64| format!("{seconds:.1} s");
        vec![
            self.name.clone(),
            if self.warm == 0 { self.nodes.to_string() } else { format!("{} + {} warm", self.nodes, self.warm) },
            megabytes(self.bytes),
            self.links(),
            patience,
            format!("{:.3}", self.origin_ratio()),
            format!("{} / {} / {}", seconds(self.first_s), seconds(self.median_s), seconds(self.last_s)),
            seconds(self.bound_s),
            format!("{:.2}", self.over_bound()),
            seconds(self.alone_s),
            format!("{:.0} %", self.processor * 100.0),
            megabytes(self.peak_memory()),
        ]
    }
}

const TITLES: [&str; 12] = [
    "scene",
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

/// The scenes that were written to `files`, as a table in Markdown.
pub(crate) fn table(files: &[PathBuf]) -> anyhow::Result<String> {
    let mut text = format!("| {} |\n|{}\n", TITLES.join(" | "), "---|".repeat(TITLES.len()));
    for file in files {
        let place = || file.display().to_string();
        let outcome: Outcome = serde_json::from_str(&std::fs::read_to_string(file).with_context(place)?).with_context(place)?;
        writeln!(text, "| {} |", outcome.row().join(" | "))?;
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome() -> Outcome {
        let node = OfNode {
            name: "node-0".into(),
            seconds: Some(30.0),
            from_cache: 0,
            from_peers: 90,
            from_origin: 10,
            sent: 95,
            received: 105,
            peak_memory: 5_000_000,
        };
        Outcome {
            name: "cold".into(),
            nodes: 8,
            warm: 0,
            lone: false,
            files: 1,
            bytes: 256_000_000,
            origin_rate: 10_000_000,
            uplink: 10_000_000,
            downlink: None,
            patience: Some("none".into()),
            origin_goodput: 9_600_000.0,
            uplink_goodput: 9_600_000.0,
            downlink_goodput: None,
            origin_bytes: 263_680_000,
            origin_requests: 40,
            origin_wire_bytes: 280_000_000,
            first_s: 28.0,
            median_s: 29.0,
            last_s: 30.0,
            bound_s: 25.6,
            alone_s: 25.6,
            processor: 0.5,
            each: vec![node],
        }
    }

    #[test]
    fn a_written_outcome_is_a_row_of_the_table() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cold.json");
        outcome().write(&path).unwrap();
        let table = table(&[path]).unwrap();
        let row = "| cold | 8 | 256.0 MB | origin 10.0 MB/s, uplinks 10.0 MB/s | none | 1.030 | 28.0 s / 29.0 s / 30.0 s | 25.6 s | 1.17 \
            | 25.6 s | 50 % | 5.0 MB |";
        assert_eq!(table.lines().last(), Some(row));
    }

    #[test]
    fn nodes_without_a_market_send_nothing_to_one_another() {
        let lone = Outcome { lone: true, ..outcome() };
        assert!((lone.bound(8).seconds() - 8.0 * 25.6).abs() < 1e-9);
        let warm = Outcome { warm: 2, ..outcome() };
        assert!((warm.bound(0).seconds() - 8.0 * 25.6 / 10.0).abs() < 1e-9, "the holders' uplinks count");
    }
}
