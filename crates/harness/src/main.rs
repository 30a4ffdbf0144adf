//! What can be started from a shell: test origins, and measured markets of real nodes.

mod delay;
mod demo;
mod distant;
mod hash;
mod idle;
mod play;
mod proofs;
mod run;
mod soak;
mod stage;
mod workplace;
mod written;

use std::collections::BTreeMap;
use std::io::Write;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, ensure};
use clap::{Args, Parser, Subcommand};
use larder_harness::HubKind;
use larder_harness::hub::{HubBuilder, Repo, Tree};
use larder_harness::proxy::Proxy;
use larder_harness::scenario::parse_bytes;
use larder_harness::servers::{Keys, SeaweedFs};
use serde_json::{Value, json};

/// Simulations of many nodes keep many small things: this one takes an eighth less of their time than that of the C library.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Test origins that count, and fail when told to; markets of real nodes.
#[derive(Parser)]
#[command(version, max_term_width = 120)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Starts an origin on loopback, prints its addresses as one line of JSON, and runs until SIGTERM or Ctrl-C.
    ///
    /// While it runs, its endpoint answers
    ///   GET  /_harness/log      what was asked for and how many bytes were sent (?requests=false: sums only)
    ///   POST /_harness/faults   a rule or a list of rules, such as
    ///                           {"path":"*model.bin","fault":{"cut":{"percent":40}},"times":1,"side":"cdn"}
    ///   POST /_harness/reset    forgets counts and faults
    ///
    /// Faults: {"status":{"code":503,"retry_after":1}} {"stall":{"after":BYTES}} {"cut":{"percent":40}} {"flip":{"at":OFFSET}}
    ///   {"rewrite":{"from":OFFSET}} "ignore_range" {"length":{"by":-5}} {"drop_header":{"name":"etag"}}
    ///   {"set_header":{"name":"etag","value":"x"}} "redirect_loop" {"redirect_to":{"url":"http://..."}}
    ///   {"slow":{"bytes_per_second":1000}} "refuse"
    #[command(subcommand, verbatim_doc_comment)]
    Origin(Box<Origin>),
    /// Prints the BLAKE3 hash of a file, put together from the hashes of its chunks as a node does it.
    Hash {
        /// The file.
        file: PathBuf,
        /// How many threads hash [default: one for each core].
        #[arg(long)]
        threads: Option<NonZeroUsize>,
    },
    /// Prints as JSON how many seconds each way to prove a file takes on one core.
    Proofs {
        /// The file; it is read into memory.
        file: PathBuf,
    },
    /// Shows markets of real nodes on loopback: one cold, more that find it warm, a cold crowd, and one that is killed.
    Demo(demo::DemoArguments),
    /// Makes a network with hosts, links of limited rates and a counting origin, runs a command on it, and takes it down.
    ///
    /// The command finds in the file that LARDER_STAGE names what there is, as JSON:
    ///   origin, bootstrap, nodes   hosts: name, address, and the file of the network namespace, for `nsenter --net=FILE`
    ///   origin                     also the hub's endpoint, and the url of the one file that it has
    ///   file                       its repository, path, sha256 and bytes
    ///   bucket                     with --bucket, the endpoint and the bucket of the S3 server
    /// Both endpoints count as `origin` does. Takes root.
    #[command(verbatim_doc_comment)]
    Stage(stage::StageArguments),
    /// Plays scenarios, and fails when a limit of theirs is broken.
    Run(run::RunArguments),
    /// Runs a market of eight daemons with churn, faults, liars and eviction for so many minutes, and fails when a promise is broken or a
    /// daemon grows.
    Soak(soak::SoakArguments),
    /// Measures nodes at rest: their memory, and their bytes on the wire. Takes root: it makes network namespaces.
    Idle(idle::IdleArguments),
    /// Moves packets between two TUN devices, its standard input and output, with a delay.
    #[command(hide = true)]
    Delay(delay::DelayArguments),
    /// Shows reports of runs that were written as JSON.
    Report(written::ReportArguments),
}

#[derive(Subcommand)]
enum Origin {
    /// A HuggingFace hub, with its CDN on a host of its own.
    Hub(HubArguments),
    /// A SeaweedFS with a folder uploaded, and a counting proxy before it.
    ///
    /// Bucket pub may be read and listed by anyone, publist0 read but not listed, priv with keys only.
    Bucket(BucketArguments),
}

#[derive(Args)]
struct HubArguments {
    /// Serves a folder as a repository at a revision (main if not said): models/org/name[@revision]=FOLDER. Kinds are models,
    /// datasets and spaces.
    #[arg(long, value_name = "NAME[@REVISION]=FOLDER")]
    repo: Vec<String>,
    /// Serves generated files, which take no disk: models/org/name=1x8GiB, or =100000x20 for many small ones.
    #[arg(long, value_name = "NAME[@REVISION]=COUNTxBYTES")]
    synthetic: Vec<String>,
    /// Hides a repository from all but tokens with access.
    #[arg(long, value_name = "NAME")]
    private: Vec<String>,
    /// Lets everyone list a repository, but only tokens with access read its files.
    #[arg(long, value_name = "NAME")]
    gated: Vec<String>,
    /// Redirects requests for a former name of a repository: models/old/name=models/org/name.
    #[arg(long, value_name = "OLD=NAME")]
    formerly: Vec<String>,
    /// A token that may read everything. Tokens that are not named are invalid.
    #[arg(long)]
    token: Vec<String>,
    /// A valid token that may read nothing private or gated.
    #[arg(long)]
    token_without_access: Vec<String>,
    /// Where to listen: loopback, or 198.18.0.0/15 in a network namespace.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Where its CDN listens.
    #[arg(long, default_value = "127.0.0.2:0")]
    cdn_listen: SocketAddr,
    /// Bytes a second that all contents together keep to.
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes)]
    rate: Option<u64>,
    /// Tells no Xet hashes.
    #[arg(long)]
    no_xet: bool,
    /// Serves small files where they are asked for, without a redirect.
    #[arg(long)]
    direct: bool,
    /// How long signed URLs hold, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 3600)]
    url_seconds: u64,
    /// How many entries a page of the tree has.
    #[arg(long, value_name = "ENTRIES")]
    page_size: Option<usize>,
}

#[derive(Args)]
struct BucketArguments {
    /// The folder whose files are uploaded.
    #[arg(long, value_name = "FOLDER")]
    dir: PathBuf,
    /// The bucket they go to: pub, publist0 or priv.
    #[arg(long, default_value = "pub")]
    bucket: String,
    /// The prefix they go below.
    #[arg(long, default_value = "")]
    prefix: String,
    /// Larger files are uploaded in parts of this size.
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes, default_value = "8MiB")]
    part_size: u64,
    /// Where the proxy listens.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Bytes a second that all contents together keep to.
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes)]
    rate: Option<u64>,
}

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nobody may be there to read it.
            let _ = writeln!(std::io::stderr(), "larder-harness: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Origin(origin) => serve(*origin),
        Command::Hash { file, threads } => {
            let threads = threads.map_or_else(std::thread::available_parallelism, Ok)?;
            print(&hash::content_id(&file, threads.get())?)
        }
        Command::Proofs { file } => print(&serde_json::to_string(&proofs::measure(&file)?)?),
        Command::Demo(arguments) => demo::run(&arguments),
        Command::Stage(arguments) => stage::run(&arguments),
        Command::Run(arguments) => run::run(&arguments),
        Command::Soak(arguments) => soak::run(&arguments),
        Command::Idle(arguments) => idle::run(&arguments),
        Command::Delay(arguments) => delay::run(&arguments),
        Command::Report(arguments) => written::run(&arguments),
    }
}

fn serve(origin: Origin) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match origin {
        Origin::Hub(arguments) => {
            let hub = hub(arguments)?.start()?;
            print(&json!({"endpoint": hub.endpoint(), "cdn": hub.cdn_endpoint(), "repos": hub.repos()}))?;
            runtime.block_on(told_to_stop())
        }
        Origin::Bucket(arguments) => {
            let server = SeaweedFs::start()?;
            let files = server.store()?.put_folder(&arguments.bucket, &arguments.prefix, &arguments.dir, arguments.part_size)?;
            let proxy = Proxy::start_at(arguments.listen, server.address(), arguments.rate)?;
            print(&json!({"endpoint": proxy.endpoint(), "server": server.endpoint(), "files": files,
                "admin": keys(SeaweedFs::ADMIN), "reader": keys(SeaweedFs::READER)}))?;
            runtime.block_on(told_to_stop())
        }
    }
}

fn keys(keys: Keys) -> Value {
    json!({"id": keys.id, "secret": keys.secret})
}

/// Prints the line that whoever started it waits for.
fn print(line: &impl std::fmt::Display) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}

async fn told_to_stop() -> anyhow::Result<()> {
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    tokio::select! {
        _ = terminate.recv() => Ok(()),
        interrupted = tokio::signal::ctrl_c() => Ok(interrupted?),
    }
}

fn hub(arguments: HubArguments) -> anyhow::Result<HubBuilder> {
    let mut trees: BTreeMap<(String, String), Tree> = BTreeMap::new();
    let folders = arguments.repo.iter().map(|argument| (argument, false));
    for (argument, synthetic) in folders.chain(arguments.synthetic.iter().map(|argument| (argument, true))) {
        let (name, what) = argument.split_once('=').with_context(|| format!("{argument:?} is not written NAME=…"))?;
        let (name, revision) = name.split_once('@').unwrap_or((name, "main"));
        let more = if synthetic { generated(what)? } else { Tree::folder(PathBuf::from(what))? };
        let tree = trees.entry((name.to_owned(), revision.to_owned())).or_default();
        *tree = std::mem::take(tree).and(more);
    }
    let mut repos: BTreeMap<String, Repo> = BTreeMap::new();
    for ((name, revision), tree) in trees {
        let repo = repos.remove(&name).map_or_else(|| empty_repo(&name), Ok)?;
        repos.insert(name, repo.at(&revision, tree));
    }
    change(&mut repos, &arguments.private, Repo::private)?;
    change(&mut repos, &arguments.gated, Repo::gated)?;
    for argument in &arguments.formerly {
        let (old, name) = argument.split_once('=').with_context(|| format!("{argument:?} is not written OLD=NAME"))?;
        let (_, old) = split_name(old)?;
        change(&mut repos, &[name.to_owned()], |repo| repo.formerly(old))?;
    }
    ensure!(!repos.is_empty(), "there is nothing to serve: give --repo or --synthetic");
    let mut hub = HubBuilder::new()
        .listen(arguments.listen)
        .cdn_listen(arguments.cdn_listen)
        .xet(!arguments.no_xet)
        .direct(arguments.direct)
        .url_seconds(arguments.url_seconds);
    hub = repos.into_values().fold(hub, HubBuilder::repo);
    hub = arguments.token.iter().fold(hub, |hub, token| hub.token(token));
    hub = arguments.token_without_access.iter().fold(hub, |hub, token| hub.token_without_access(token));
    hub = arguments.page_size.into_iter().fold(hub, HubBuilder::page_size);
    Ok(arguments.rate.into_iter().fold(hub, HubBuilder::rate))
}

fn change(repos: &mut BTreeMap<String, Repo>, names: &[String], how: impl Fn(Repo) -> Repo) -> anyhow::Result<()> {
    for name in names {
        let repo = repos.remove(name).with_context(|| format!("{name:?} is not served: name it with --repo or --synthetic too"))?;
        repos.insert(name.clone(), how(repo));
    }
    Ok(())
}

fn empty_repo(name: &str) -> anyhow::Result<Repo> {
    let (kind, id) = split_name(name)?;
    Ok(Repo::new(kind, id))
}

/// Takes `models/org/name` apart.
fn split_name(name: &str) -> anyhow::Result<(HubKind, &str)> {
    let kinds = [HubKind::Model, HubKind::Dataset, HubKind::Space];
    let split = name.split_once('/').filter(|(_, id)| !id.is_empty() && id.split('/').count() <= 2);
    let found = split.and_then(|(plural, id)| Some((kinds.into_iter().find(|kind| kind.plural() == plural)?, id)));
    found.with_context(|| format!("{name:?} is not the name of a repository: write models/org/name, datasets/… or spaces/…"))
}

fn generated(what: &str) -> anyhow::Result<Tree> {
    let parts = what.split_once('x').and_then(|(count, bytes)| Some((count.parse().ok()?, parse_bytes(bytes).ok()?)));
    let (count, bytes) = parts.with_context(|| format!("{what:?} is not written COUNTxBYTES, such as 1x8GiB"))?;
    Ok(Tree::synthetic(count, bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }
}
