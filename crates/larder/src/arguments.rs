//! What can be written on the command line.

use std::path::PathBuf;

use clap::error::{ContextKind, ContextValue};
use clap::{Args, Parser, Subcommand};

use larder_node::Patience;

/// Fetches the files that jobs need, once, proven byte for byte, and lays them where jobs want them.
#[derive(Debug, Parser)]
#[command(name = "larder", version, about, max_term_width = 100)]
pub(crate) struct Arguments {
    /// The folder of the store and its configuration [default: $XDG_DATA_HOME/larder, else ~/.local/share/larder].
    #[arg(long, global = true, env = "LARDER_HOME", value_name = "DIR")]
    pub(crate) home: Option<PathBuf>,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make the store's folder, the node's key, and a configuration in which every field is explained.
    Init(InitArguments),
    /// Print the peer id of this node: the name by which others know it.
    Id,
    /// Run in the foreground until a signal: serve other nodes, the commands on this store, and the local HTTP API.
    Run(RunArguments),
    /// Show what a job needs and where it would go, without touching the network.
    Plan(JobArguments),
    /// Get everything a job needs, lay it, and print the mounts.
    Prepare(PrepareArguments),
    /// Get one resource: hf:org/name, hf:org/name@revision:file,file, s3://bucket/prefix or https://host/prefix.
    Pull(PullArguments),
    /// Show how the node is: its markets, and the bytes it moved by where they came from.
    Status(OutputArguments),
    /// List the peers that the node is connected to.
    Peers(OutputArguments),
    /// List the markets that the node is in.
    Market(OutputArguments),
    /// List what is in the store, and the leases on it.
    Resources(OutputArguments),
    /// Hash everything in the store again; what is damaged is removed and listed.
    Verify(OutputArguments),
    /// Remove what expired leases held and what was not used within keep_hours.
    Gc(GcArguments),
    /// Give up a lease: removes the trees that were laid for it.
    Release(ReleaseArguments),
}

impl Arguments {
    /// Reads the command line; ends the process if it cannot be understood.
    pub(crate) fn read() -> Self {
        Self::try_parse().unwrap_or_else(|mut error| {
            // What cannot be understood may be the value of a `--set KEY VALUE`, and so a secret; a tip would say it again.
            let sets = |argument: std::ffi::OsString| argument.to_string_lossy().starts_with("--set");
            if error.get(ContextKind::InvalidArg).is_some() && std::env::args_os().any(sets) {
                error.insert(ContextKind::InvalidArg, ContextValue::String("\u{2026}".into()));
                error.remove(ContextKind::Suggested);
            }
            error.exit()
        })
    }
}

impl Command {
    /// Whether standard output is to hold one JSON document.
    pub(crate) fn json(&self) -> bool {
        match self {
            Self::Init(_) | Self::Id | Self::Run(_) => false,
            Self::Plan(job) => job.output.json,
            Self::Prepare(prepare) => prepare.job.output.json,
            Self::Pull(pull) => pull.output.json,
            Self::Status(output) | Self::Peers(output) | Self::Market(output) | Self::Resources(output) | Self::Verify(output) => {
                output.json
            }
            Self::Gc(gc) => gc.output.json,
            Self::Release(release) => release.output.json,
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct InitArguments {
    /// The address of a market to join: its hosts share one queue of jobs.
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) market: Option<String>,
    /// Where to listen for other nodes of the market, such as /ip4/0.0.0.0/tcp/4001; may be repeated.
    #[arg(long, value_name = "MULTIADDR", requires = "market", num_args = 1..)]
    pub(crate) listen: Vec<String>,
    /// A node of the market to find the others by, with its peer id: MULTIADDR/p2p/PEER; may be repeated.
    #[arg(long, value_name = "MULTIADDR", requires = "market", num_args = 1..)]
    pub(crate) bootstrap: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct RunArguments {
    /// Be one of the nodes that others find each other by.
    #[arg(long)]
    pub(crate) bootstrap: bool,
}

#[derive(Debug, Args)]
pub(crate) struct PrepareArguments {
    #[command(flatten)]
    pub(crate) job: JobArguments,
    #[command(flatten)]
    pub(crate) wishes: Wishes,
}

/// How a job wants its files to be fetched.
#[derive(Debug, Clone, Args)]
pub(crate) struct Wishes {
    /// How many times longer than straight from the origin it may take: a number of at least 1, fastest (which is 1), or none.
    #[arg(long, value_name = "TIMES")]
    pub(crate) patience: Option<Patience>,
    /// The market whose nodes are asked; without it the first in the order of their addresses.
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) market: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct JobArguments {
    /// The job definition, or - for standard input.
    #[arg(value_name = "JOB.json")]
    pub(crate) definition: PathBuf,
    /// Lay each target below this folder instead of in the store.
    #[arg(long, value_name = "DIR")]
    pub(crate) root: Option<PathBuf>,
    /// A value that only the running job knows, such as ops.x.results.y=…; may be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(crate) set: Vec<String>,
    /// Who owns copies that the job may write to.
    #[arg(long, value_name = "UID:GID", value_parser = owner)]
    pub(crate) owner: Option<(u32, u32)>,
    #[command(flatten)]
    pub(crate) output: OutputArguments,
}

#[derive(Debug, Args)]
pub(crate) struct PullArguments {
    /// hf:org/name, hf:org/name@revision:file,file, s3://bucket/prefix or https://host/prefix.
    pub(crate) resource: String,
    /// Lay the files in this folder instead of in the store.
    #[arg(long, value_name = "DIR")]
    pub(crate) to: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) wishes: Wishes,
    #[command(flatten)]
    pub(crate) output: OutputArguments,
}

#[derive(Debug, Args)]
pub(crate) struct GcArguments {
    /// Remove also what was used lately but no lease holds.
    #[arg(long)]
    pub(crate) all: bool,
    #[command(flatten)]
    pub(crate) output: OutputArguments,
}

#[derive(Debug, Args)]
pub(crate) struct ReleaseArguments {
    /// The lease, as prepare, pull and resources print it.
    pub(crate) lease: String,
    #[command(flatten)]
    pub(crate) output: OutputArguments,
}

#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct OutputArguments {
    /// Print one JSON document on standard output, and nothing else there.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Reads `UID:GID`.
pub(crate) fn owner(text: &str) -> Result<(u32, u32), String> {
    let ids = text.split_once(':').and_then(|(user, group)| Some((user.parse().ok()?, group.parse().ok()?)));
    ids.ok_or_else(|| "it is written UID:GID, two numbers".into())
}
