//! Plays scenarios by computing them, whichever way they name first.

use std::path::PathBuf;

use clap::Args;
use larder_harness::report::Screen;
use larder_harness::scenario::{NoLimit, Patience, Scenario, parse_bytes};
use larder_harness::simulation;

#[derive(Debug, Args)]
pub(crate) struct SimulateArguments {
    /// The scenarios.
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Writes the last report as JSON.
    #[arg(long, value_name = "OUT")]
    json: Option<PathBuf>,
    /// How much moves at a time [default: 256KiB up to 500 nodes, 16MiB above].
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes)]
    chunk: Option<u64>,
    /// Another seed than theirs.
    #[arg(long)]
    seed: Option<u64>,
    /// So many nodes in the first group instead.
    #[arg(long)]
    nodes: Option<usize>,
    /// Another patience than theirs; 0 for none.
    #[arg(long)]
    patience: Option<f64>,
    /// Each node by itself, straight from the origin.
    #[arg(long)]
    lone: bool,
}

/// Plays them.
pub(crate) fn run(arguments: &SimulateArguments) -> anyhow::Result<()> {
    let screen = Screen::new();
    for file in &arguments.files {
        let mut scenario = Scenario::open(file)?;
        scenario.seed = arguments.seed.unwrap_or(scenario.seed);
        scenario.lone |= arguments.lone;
        if let (Some(nodes), Some(group)) = (arguments.nodes, scenario.nodes.first_mut()) {
            group.count = nodes;
        }
        if let Some(patience) = arguments.patience {
            let none = Patience::Word(NoLimit::None);
            scenario.patience = Some(if patience > 0.0 { Patience::Times(patience) } else { none });
        }
        let report = simulation::play(&scenario, arguments.chunk, &mut |line| screen.say(line))?;
        let control = report.nodes.iter().filter_map(|node| node.control_sent).sum::<u64>() as f64 / report.nodes.len() as f64;
        let duplicates: u64 = report.nodes.iter().map(|node| node.duplicates).sum();
        let stalls: u64 = report.nodes.iter().map(|node| node.stalls).sum();
        screen.say(&format!(
            "{}: origin {:.3} of the files, floor {:?}; waits {:.1} / {:.1} / {:.1} / {:.1} s (first, median, p99, last); T* {:.1} s, last {:.3} T*; failed {}; \
             duplicates {:.4}; stalls {stalls}; beside content {:.0} kB sent by each, most {:.0} B/s; played in {:.1} s",
            report.scenario,
            report.origin_x(),
            report.floor_x(),
            report.wait(0.0),
            report.wait(0.5),
            report.wait(0.99),
            report.wait(1.0),
            report.bound.map_or(0.0, |bound| bound.seconds),
            report.time_x().unwrap_or_default(),
            report.failed(),
            duplicates as f64 / report.nodes.iter().map(|node| node.from.peers).sum::<u64>().max(1) as f64,
            control / 1e3,
            report.control_rate().unwrap_or_default(),
            report.played_s,
        ));
        if let Some(out) = &arguments.json {
            report.write(out)?;
        }
    }
    Ok(())
}
