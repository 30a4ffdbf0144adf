//! Where markets that are started from a shell live, and how their nodes differ from what is usual.

use std::cell::Cell;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Args, ValueEnum};
use larder_harness::market::{Market, Transport, stop_on_signals};
use larder_harness::report::Screen;
use larder_harness::scratch::Scratch;

/// What all commands that start markets take.
#[derive(Debug, Args)]
pub(crate) struct WorkplaceArguments {
    /// The folder below which stores and logs lie while it runs [default: markets, beside the folder of this program].
    #[arg(long, value_name = "DIR")]
    folder: Option<PathBuf>,
    /// Leaves stores and logs where they are, until the next run.
    #[arg(long)]
    keep: bool,
    /// What nodes write to their logs: error, warn, info, debug, trace.
    #[arg(long, value_name = "LEVEL")]
    log: Option<String>,
    /// How nodes listen [default: both].
    #[arg(long, value_enum)]
    transport: Option<OneTransport>,
    /// Sets a variable in the environment of all nodes.
    #[arg(long = "env", value_name = "NAME=VALUE")]
    variables: Vec<String>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum OneTransport {
    Tcp,
    Quic,
}

/// A folder for markets, which is removed afterwards if it is not to be kept.
pub(crate) struct Workplace<'a> {
    arguments: &'a WorkplaceArguments,
    scratch: Option<Scratch>,
    kept: Cell<bool>,
}

impl<'a> Workplace<'a> {
    /// A new folder. From now on signals end what runs in it before they end this process.
    pub(crate) fn new(arguments: &'a WorkplaceArguments) -> anyhow::Result<Self> {
        stop_on_signals()?;
        let here = std::env::current_exe()?;
        let beside = || here.ancestors().nth(2).map(|folder| folder.join("markets"));
        let folder = arguments.folder.clone().or_else(beside).context("this program lies in no folder: say --folder")?;
        let kept = Cell::new(arguments.keep);
        Ok(Self { arguments, scratch: Some(Scratch::below(&std::path::absolute(folder)?)?), kept })
    }

    /// The folder.
    pub(crate) fn folder(&self) -> anyhow::Result<&Path> {
        self.scratch.as_ref().map(Scratch::folder).context("the folder is gone")
    }

    /// Leaves all as it is, as if that had been asked for.
    pub(crate) fn keep(&self) {
        self.kept.set(true);
    }

    /// A market in a folder of its own.
    pub(crate) fn market(&self, name: &str, address: &str, hub: &str) -> anyhow::Result<Market> {
        let mut market = Market::new(self.folder()?.join(name), address, hub);
        if let Some(level) = &self.arguments.log {
            market = market.with("LARDER_LOG", level);
        }
        if let Some(transport) = self.arguments.transport {
            let transport = match transport {
                OneTransport::Tcp => Transport::Tcp,
                OneTransport::Quic => Transport::Quic,
            };
            market = market.listening(&[transport]);
        }
        for variable in &self.arguments.variables {
            let (name, value) = variable.split_once('=').with_context(|| format!("{variable:?} is not written NAME=VALUE"))?;
            market = market.with(name, value);
        }
        Ok(market)
    }
}

impl Drop for Workplace<'_> {
    fn drop(&mut self) {
        if let Some(kept) = self.scratch.take().filter(|_| self.kept.get()).map(Scratch::keep) {
            Screen::new().say(&format!("Stores and logs are in {}", kept.display()));
        }
    }
}

/// Fails if a promise was broken.
pub(crate) fn verdict(screen: &Screen) -> anyhow::Result<()> {
    anyhow::ensure!(screen.broken() == 0, "promises were broken: {}", screen.broken());
    Ok(())
}
