//! Plays scenarios, and says what came of each.

use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use clap::Args;
use larder_harness::market::fill_memory;
use larder_harness::report::Screen;
use larder_harness::scenario::{Lying, Scenario, Way, parse_bytes};
use larder_harness::simulation;

use crate::play;
use crate::workplace::{Workplace, WorkplaceArguments, verdict};

#[derive(Debug, Args)]
pub(crate) struct RunArguments {
    /// The scenarios: files as those in scenarios/ of this crate.
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// How they are played [default: the first way that each names].
    #[arg(long, value_enum)]
    way: Option<Way>,
    /// Another seed than theirs.
    #[arg(long)]
    seed: Option<u64>,
    /// Each node by itself, straight from the origin: what it would be without Larder's market. Limits do not count.
    #[arg(long)]
    lone: bool,
    /// Nodes that lie do so in this way, whatever the scenario says.
    #[arg(long, value_enum, conflicts_with = "honest")]
    lies: Option<Lying>,
    /// Nodes that lie are left out. Limits do not count.
    #[arg(long)]
    honest: bool,
    /// How much moves at a time where it is simulated [default: 256KiB up to 500 nodes, as real nodes do, and 16MiB above].
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes)]
    chunk: Option<u64>,
    /// Writes the report as JSON; of several scenarios into this folder, under their names.
    #[arg(long, value_name = "OUT")]
    json: Option<PathBuf>,
    /// Writes the report as a page; of several scenarios into this folder.
    #[arg(long, value_name = "OUT")]
    html: Option<PathBuf>,
    /// Fills the memory that nothing needs before real nodes begin: where the host of a virtual machine takes free memory back, its first
    /// use costs processor time that is none of the nodes'.
    #[arg(long)]
    fill_memory: bool,
    #[command(flatten)]
    workplace: WorkplaceArguments,
}

/// Plays them one after the other. Fails if a limit of any was broken.
pub(crate) fn run(arguments: &RunArguments) -> anyhow::Result<()> {
    let scenarios: Vec<Scenario> = arguments.files.iter().map(|file| Scenario::open(file)).collect::<anyhow::Result<_>>()?;
    let workplace = Workplace::new(&arguments.workplace)?;
    let mut screen = Screen::new();
    for mut scenario in scenarios {
        let way = arguments.way.or(scenario.ways.first().copied()).context("a scenario without a way")?;
        ensure!(scenario.ways.contains(&way), "{} is not played in the way {way}: its ways are {:?}", scenario.name, scenario.ways);
        scenario.seed = arguments.seed.unwrap_or(scenario.seed);
        if arguments.lone {
            (scenario.lone, scenario.limits) = (true, larder_harness::scenario::Limits::default());
        }
        if arguments.honest {
            scenario.limits = larder_harness::scenario::Limits::default();
            scenario.nodes.retain(|nodes| nodes.lies.is_none());
        }
        let is_moot = arguments.lies.is_some() && scenario.nodes.iter().all(|nodes| nodes.lies.is_none());
        ensure!(!is_moot, "--lies: nobody lies in {}", scenario.name);
        let lying = scenario.nodes.iter_mut().filter_map(|nodes| nodes.lies.as_mut());
        lying.for_each(|lies| *lies = arguments.lies.unwrap_or(*lies));
        let report = match way {
            Way::Simulated => simulation::play(&scenario, arguments.chunk, &mut |line| Screen::new().say(line))?,
            Way::Processes | Way::Namespaces => {
                let _filled = arguments.fill_memory.then(|| fill_memory(workplace.folder()?)).transpose()?;
                play::play(&scenario, way, &workplace, &mut |line| Screen::new().say(line))?
            }
        };
        report.show(&mut screen);
        let place = |out: &Path, extension: &str| {
            if arguments.files.len() > 1 { out.join(format!("{}.{extension}", report.scenario)) } else { out.to_owned() }
        };
        if let Some(out) = &arguments.json {
            report.write(&ready(place(out, "json"))?)?;
        }
        if let Some(out) = &arguments.html {
            report.write_page(&ready(place(out, "html"))?)?;
        }
    }
    verdict(&screen)
}

/// The folder of this path is made if it is not there.
fn ready(path: PathBuf) -> anyhow::Result<PathBuf> {
    path.parent().map_or(Ok(()), std::fs::create_dir_all).with_context(|| path.display().to_string())?;
    Ok(path)
}
