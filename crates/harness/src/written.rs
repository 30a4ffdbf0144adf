//! Shows reports of runs that were written before: in the terminal, as a page, or as rows of a table.

use std::path::PathBuf;

use anyhow::bail;
use clap::Args;
use larder_harness::report::{Report, Screen, table};

#[derive(Debug, Args)]
pub(crate) struct ReportArguments {
    /// What `run --json` wrote.
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Writes one report as a page of HTML that needs nothing beside itself.
    #[arg(long, value_name = "FILE", conflicts_with = "markdown")]
    html: Option<PathBuf>,
    /// Writes one report's plot of how jobs came to be ready, as a picture.
    #[arg(long, value_name = "FILE", conflicts_with = "markdown")]
    svg: Option<PathBuf>,
    /// Prints one table in Markdown, a row for each report.
    #[arg(long)]
    markdown: bool,
}

/// Shows them, one after the other.
pub(crate) fn run(arguments: &ReportArguments) -> anyhow::Result<()> {
    let reports = arguments.files.iter().map(|file| Report::read(file)).collect::<anyhow::Result<Vec<Report>>>()?;
    if let Some(page) = &arguments.html {
        let [report] = reports.as_slice() else { bail!("--html writes one report: give one file") };
        report.write_page(page)?;
    }
    if let Some(picture) = &arguments.svg {
        let [report] = reports.as_slice() else { bail!("--svg writes one report: give one file") };
        report.write_plot(picture)?;
    }
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
