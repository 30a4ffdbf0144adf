//! Plays scenarios, and says what came of each.

use std::path::PathBuf;

use anyhow::{Context, ensure};
use clap::Args;
use larder_harness::report::{Report, Screen};
use larder_harness::scenario::{Scenario, Way};

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
    /// Writes the report as JSON; of several scenarios into this folder, under their names.
    #[arg(long, value_name = "OUT")]
    json: Option<PathBuf>,
    /// Writes the report as a page; of several scenarios into this folder.
    #[arg(long, value_name = "OUT")]
    html: Option<PathBuf>,
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
        let report = match way {
            Way::Simulated => anyhow::bail!("{}: simulated: not yet", scenario.name),
            Way::Processes | Way::Namespaces => play::play(&scenario, way, &workplace, &mut |line| Screen::new().say(line))?,
        };
        show(&report, &mut screen);
        for (out, extension) in [(&arguments.json, "json")] {
            let Some(out) = out else { continue };
            let path = if arguments.files.len() > 1 { out.join(format!("{}.{extension}", report.scenario)) } else { out.clone() };
            path.parent().map_or(Ok(()), std::fs::create_dir_all).with_context(|| path.display().to_string())?;
            report.write(&path)?;
        }
    }
    verdict(&screen)
}

fn show(report: &Report, screen: &mut Screen) {
    screen.say(&format!(
        "{}: origin {:.3}, last {:.2} s, T* {:?}, processor {:?}",
        report.scenario,
        report.origin_x(),
        report.wait(1.0),
        report.bound.map(|bound| bound.seconds),
        report.processor
    ));
    for limit in &report.limits {
        screen.promise(limit.kept, &format!("{}: {:?}, at most {}", limit.what, limit.value, limit.most));
    }
}
