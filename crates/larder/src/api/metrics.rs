//! The node's figures in the text format of Prometheus.
//!
//! Names and labels are fixed or are markets' addresses, so that nothing in them needs to be escaped.

use std::fmt::{Display, Write};

use larder_node::Status;
use larder_store::Space;

use super::jobs::STATES;

/// What the figures are made of.
pub(super) struct Figures<'a> {
    pub(super) status: &'a Status,
    pub(super) space: Space,
    /// The states of all jobs that are known.
    pub(super) jobs: &'a [&'static str],
    pub(super) process: Process,
}

/// What the process itself uses.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Process {
    resident_bytes: Option<u64>,
    processor_s: Option<f64>,
}

impl Process {
    /// As the system tells it.
    pub(super) fn of_self() -> Self {
        let read = |name: &str| std::fs::read_to_string(format!("/proc/self/{name}")).unwrap_or_default();
        Self::parse(&read("status"), &read("stat"), rustix::param::clock_ticks_per_second())
    }

    fn parse(status: &str, stat: &str, ticks_per_second: u64) -> Self {
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.parse::<u64>().ok());
        // The name of the command, in brackets, may hold anything.
        let ticks = stat.rsplit_once(')').and_then(|(_, rest)| {
            let mut fields = rest.split_whitespace().skip(11);
            Some(fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?)
        });
        Self {
            resident_bytes: resident.map(|kilobytes| kilobytes * 1024),
            processor_s: ticks.map(|ticks| ticks as f64 / ticks_per_second as f64),
        }
    }
}

/// The text that Prometheus reads.
pub(super) fn text(figures: &Figures) -> String {
    let Figures { status, space, jobs, process } = figures;
    let (ledger, mut page) = (&status.ledger, Page::default());
    let sources = [("cache", ledger.from.cache), ("peers", ledger.from.peers), ("origin", ledger.from.origin)];
    page.family("larder_content_bytes_total", "counter", "Bytes of content that jobs got, by where they came from.");
    sources.iter().for_each(|(source, bytes)| page.labelled("source", source, bytes));
    page.one("larder_served_bytes_total", "counter", "Bytes of content that peers got from this node.", ledger.served);
    page.family("larder_peers", "gauge", "Peers that are connected, by market.");
    status.markets.iter().for_each(|market| page.labelled("market", &market.market, market.peers.len()));
    page.family("larder_known_nodes", "gauge", "Other nodes of which an address is known, by market.");
    status.markets.iter().for_each(|market| page.labelled("market", &market.market, market.known));
    page.family("larder_market_sent_bytes_total", "counter", "Bytes sent over all connections since the start, by market.");
    status.markets.iter().for_each(|market| page.labelled("market", &market.market, market.sent_bytes));
    page.family("larder_market_received_bytes_total", "counter", "Bytes received over all connections since the start, by market.");
    status.markets.iter().for_each(|market| page.labelled("market", &market.market, market.received_bytes));
    page.family("larder_market_restarts_total", "counter", "Times that the network of a market had to be started again.");
    status.markets.iter().for_each(|market| page.labelled("market", &market.market, market.restarts));
    page.family("larder_market_bans_total", "counter", "Times that a peer was banned for what it sent, by market.");
    status.markets.iter().for_each(|market| page.labelled("market", &market.market, market.bans));
    page.family("larder_jobs", "gauge", "Jobs of the API that are known, by state.");
    STATES.iter().for_each(|state| page.labelled("state", state, jobs.iter().filter(|job| *job == state).count()));
    page.one("larder_fetching_files", "gauge", "Files that are being fetched.", status.fetching);
    page.one(
        "larder_store_bytes",
        "gauge",
        "Bytes that the store holds, of complete files and of those still coming.",
        space.blob_bytes + space.partial_bytes,
    );
    page.one("larder_store_quota_bytes", "gauge", "Bytes that the store may hold.", space.quota_bytes);
    page.one("larder_disk_free_bytes", "gauge", "Bytes that are free on the disk of the store.", space.free_bytes);
    page.one("larder_uptime_seconds", "gauge", "Seconds since the node was started.", status.uptime_s);
    if let Some(bytes) = process.resident_bytes {
        page.one("process_resident_memory_bytes", "gauge", "Memory of the process that is in use.", bytes);
    }
    if let Some(seconds) = process.processor_s {
        page.one("process_cpu_seconds_total", "counter", "Processor time of the process.", seconds);
    }
    page.text
}

/// A page that is being written.
#[derive(Default)]
struct Page {
    text: String,
    /// The family that values belong to.
    name: &'static str,
}

impl Page {
    fn family(&mut self, name: &'static str, kind: &str, help: &str) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}");
        self.name = name;
    }

    fn labelled(&mut self, label: &str, of: &str, value: impl Display) {
        let _ = writeln!(self.text, "{}{{{label}=\"{of}\"}} {value}", self.name);
    }

    fn one(&mut self, name: &'static str, kind: &str, help: &str, value: impl Display) {
        self.family(name, kind, help);
        let _ = writeln!(self.text, "{name} {value}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_process_uses_is_read_whatever_its_name_is() {
        let status = "Name:\tlarder\nVmHWM:\t   99 kB\nVmRSS:\t   12 kB\n";
        let stat = "7 (a) b (c) S 1 7 7 0 -1 0 10 0 0 0 150 50 0 0 20 0 5 0 100 0 0";
        let process = Process::parse(status, stat, 100);
        assert_eq!(process, Process { resident_bytes: Some(12 * 1024), processor_s: Some(2.0) });
        assert_eq!(Process::parse("", "", 100), Process::default());
        let own = Process::of_self();
        assert!(own.resident_bytes.is_some_and(|bytes| bytes > 1 << 20) && own.processor_s.is_some());
    }

    #[test]
    fn every_figure_has_one_family_and_a_value() {
        let mut status = Status::default();
        status.markets.push(larder_node::MarketStatus { market: "a.b".into(), ..larder_node::MarketStatus::default() });
        status.ledger.from.peers = 7;
        let space = Space { blob_bytes: 5, partial_bytes: 6, reserved_bytes: 0, quota_bytes: 100, free_bytes: 200 };
        let text = text(&Figures { status: &status, space, jobs: &["ready", "running", "ready"], process: Process::of_self() });
        for line in [
            "larder_content_bytes_total{source=\"peers\"} 7",
            "larder_peers{market=\"a.b\"} 0",
            "larder_market_sent_bytes_total{market=\"a.b\"} 0",
            "larder_jobs{state=\"ready\"} 2",
            "larder_jobs{state=\"failed\"} 0",
            "larder_store_bytes 11",
        ] {
            assert!(text.lines().any(|other| other == line), "{line}: {text}");
        }
        let families: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
        let names: std::collections::BTreeSet<&str> = families.iter().copied().collect();
        assert_eq!(families.len(), names.len());
        let values = text.lines().filter(|line| !line.starts_with('#'));
        assert!(values.clone().all(|line| line.rsplit_once(' ').is_some_and(|(_, value)| value.parse::<f64>().is_ok())), "{text}");
        assert!(values.into_iter().all(|line| names.contains(line.split(['{', ' ']).next().unwrap())));
    }
}
