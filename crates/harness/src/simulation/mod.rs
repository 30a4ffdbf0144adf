//! Plays a scenario without a network: the node's own engine under a clock of events, over lines that are computed.
//!
//! | file | |
//! |---|---|
//! | `assumptions` | what is taken for granted: limits of the peers' room, times, sizes |
//! | `clock` | what is still to happen |
//! | `world` | all nodes and the origin; what happens to whom |
//! | `setting` | the world before anything is wanted |
//! | `node`, `crowd`, `names` | one node; sets of nodes; ids with numbers in them |
//! | `server` | a line that sends, and one that receives |
//! | `deciding` | one node's engine is told what came, and obeyed |
//! | `moving` | content on its way |
//! | `meeting` | connections, dials, and who leaves |
//! | `hearing` | announcements, and who hears of whom |
//! | `wanting` | jobs: list, look around, fetch, lay |
//! | `account` | the report |
//!
//! What decides in a real node decides here: `larder-engine`, told of the same events as by the node's driver. What `larder-peers`
//! does is modelled by its limits and times. Nothing depends on this machine's clock: a seed gives one report, but for
//! [`Report::played_s`].
//!
//! Above 500 nodes one chunk of the engine stands for 64 of a real node, so for 16 MiB: sizes and rates are divided by 64 before the
//! engine sees them, times stay, and what the engine waits for a chunk grows with what it takes (`setting::engine_config`). How much that
//! changes is seen by playing a scenario of up to 500 nodes both ways: `larder-harness run FILE --way simulated --chunk 256KiB`, and `--chunk 16MiB`.

mod account;
mod assumptions;
mod clock;
mod crowd;
mod deciding;
mod hearing;
mod meeting;
mod moving;
mod names;
mod node;
mod server;
mod setting;
mod wanting;
mod world;

#[cfg(test)]
mod tests;

use std::time::Instant;

use anyhow::ensure;
use larder_content::CHUNK_BYTES;

use crate::report::Report;
use crate::scenario::{Lying, Scenario};
use world::World;

/// Above so many nodes, chunks are large.
const MOST_NODES_WITH_REAL_CHUNKS: usize = 500;
/// The large ones.
const LARGE_CHUNK_BYTES: u64 = 16 << 20;

/// Plays a scenario, whichever way it names. `chunk_bytes` is a multiple of the real 256 KiB; if it is left out, it is that up to 500
/// nodes, and 16 MiB above.
///
/// # Errors
/// Fails if the size of chunks does not fit, or a folder of the scenario cannot be read. Limits that are broken are told in the report.
pub fn play(scenario: &Scenario, chunk_bytes: Option<u64>, progress: &mut dyn FnMut(&str)) -> anyhow::Result<Report> {
    let plan = scenario.plan();
    let others = plan.nodes.iter().filter_map(|node| node.lies).find(|lies| !matches!(lies, Lying::WrongBytes | Lying::Stalls));
    ensure!(others.is_none(), "lies: simulated nodes send wrong bytes or nothing, and know no other way");
    let usual = if plan.nodes.len() > MOST_NODES_WITH_REAL_CHUNKS { LARGE_CHUNK_BYTES } else { CHUNK_BYTES };
    let chunk_bytes = chunk_bytes.unwrap_or(usual);
    let fits = chunk_bytes > 0 && chunk_bytes.is_multiple_of(CHUNK_BYTES) && chunk_bytes <= 1 << 30;
    ensure!(fits, "chunks of {chunk_bytes} bytes: they are a multiple of 256 KiB, up to 1 GiB");
    let started = Instant::now();
    let mut world = World::new(scenario, &plan, chunk_bytes / CHUNK_BYTES)?;
    world.run(progress);
    let mut report = world.report();
    report.played_s = started.elapsed().as_secs_f64();
    report.judge(&scenario.limits);
    Ok(report)
}
