//! Shows reports of runs that were written before: in the terminal, as a page, or as rows of a table.

use std::path::PathBuf;

use clap::Args;
use larder_harness::report::{Report, Screen, table};

#[derive(Debug, Args)]
pub(crate) struct ReportArguments {
    /// What `run --json` wrote.
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Prints one table in Markdown, a row for each report.
    #[arg(long)]
    markdown: bool,
}

/// Shows them, one after the other.
pub(crate) fn run(arguments: &ReportArguments) -> anyhow::Result<()> {
    let reports = arguments.files.iter().map(|file| Report::read(file)).collect::<anyhow::Result<Vec<Report>>>()?;
    let mut screen = Screen::new();
    if arguments.markdown {
        screen.say(&table(&reports));
        return Ok(());
    }
    for report in &reports {
        report.show(&mut screen);
    }
    Ok(())
}
