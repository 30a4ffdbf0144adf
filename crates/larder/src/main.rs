//! The command `larder`: what a person or a script touches.
//!
//! Exit codes: 0 done, 1 failed, 2 wrong input. With `--json` standard output holds one document and nothing else.

mod api;
mod arguments;
mod command;
mod config;
mod print;
mod screen;
mod session;
mod terminal;

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use arguments::{Arguments, Command, JobArguments, PullArguments};
use command::{NodeCommand, Order, Outcome, Telling};
use config::Config;
use indicatif::MultiProgress;
use larder_node::{NodeError, Prepare, Pull};
use screen::{Beside, Screen};
use serde_json::json;
use terminal::{remark, say};
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

const FAILED: u8 = 1;
const WRONG_INPUT: u8 = 2;

/// How long the store may take to close after a signal.
const CLOSING: Duration = Duration::from_secs(2);

/// The longest job definition that is read.
const MAX_DEFINITION_BYTES: u64 = 16 * 1024 * 1024;

fn main() -> ExitCode {
    let arguments = Arguments::read();
    let filter = tracing_subscriber::EnvFilter::try_from_env("LARDER_LOG").unwrap_or_else(|_| "warn".into());
    // What libraries tell of their work holds keys and signed links: of them only warnings are shown, whatever is asked for.
    let discreet = filter_fn(|data| data.target().starts_with("larder") || *data.level() <= tracing::Level::WARN);
    let (json, bars) = (arguments.command.json(), MultiProgress::new());
    let screen = Screen::new(json, bars.clone());
    let lines = tracing_subscriber::fmt::layer().with_ansi(!bars.is_hidden()).with_writer(move || Beside(bars.clone()));
    tracing_subscriber::registry().with(lines).with(filter).with(discreet).init();
    // What cannot be understood before anything was done is wrong input.
    run(arguments, json, screen).unwrap_or_else(|error| fail(json, &format!("{error:#}"), WRONG_INPUT))
}

fn run(arguments: Arguments, json: bool, screen: Screen) -> anyhow::Result<ExitCode> {
    let config = Config::load(arguments.home)?;
    let failed = |error: anyhow::Error| fail(json, &format!("{error:#}"), FAILED);
    let command = match arguments.command {
        Command::Init => return Ok(init(&config).unwrap_or_else(failed)),
        Command::Plan(job) => return Ok(plan(&config, &prepare_request(&job)?, json).unwrap_or_else(failed)),
        Command::Prepare(job) => NodeCommand::Prepare(prepare_request(&job)?),
        Command::Pull(pull) => NodeCommand::Pull(pull_request(pull)?),
        Command::Resources(_) => NodeCommand::Resources,
        Command::Verify(_) => NodeCommand::Verify,
        Command::Gc(gc) => NodeCommand::Gc { all: gc.all },
        Command::Release(release) => NodeCommand::Release { lease: release.lease },
    };
    Ok(carry_out(&config, config.order(command), json, screen).unwrap_or_else(failed))
}

impl Config {
    fn order(&self, command: NodeCommand) -> Order {
        let hub_token = self.hub.token.as_ref().map(|token| token.expose().to_owned());
        let stall_ms = u64::try_from(self.hub.stall.as_millis()).unwrap_or(u64::MAX);
        Order { command, hub_endpoint: self.hub.endpoint.clone(), hub_token, stall_ms, private_hosts: self.private_hosts.clone() }
    }
}

/// Runs an order to its end or to a signal, and prints what came of it.
fn carry_out(config: &Config, order: Order, json: bool, mut screen: Screen) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let mut last = None;
    let tell = |telling| match telling {
        Telling::Progress(resources) => screen.show(&resources),
        end @ (Telling::Done(_) | Telling::Failed { .. }) => last = Some(end),
    };
    let interrupted = runtime.block_on(async {
        tokio::select! {
            () = session::run(config, order, tell) => false,
            () = signalled() => true,
        }
    });
    if interrupted {
        screen.interrupt();
        // Reads and writes under way are cut off; the store has this long to leave all in good order.
        runtime.shutdown_timeout(CLOSING);
        return Ok(fail(json, "stopped; what was fetched is kept, and the same command goes on from there", FAILED));
    }
    screen.end();
    runtime.shutdown_background();
    match last {
        Some(Telling::Done(outcome)) => finish(&outcome, json),
        Some(Telling::Failed { message, wrong_input }) => Ok(fail(json, &message, if wrong_input { WRONG_INPUT } else { FAILED })),
        Some(Telling::Progress(_)) | None => Ok(fail(json, "the command ended without a result", FAILED)),
    }
}

fn finish(outcome: &Outcome, json: bool) -> anyhow::Result<ExitCode> {
    if json {
        let document = match outcome {
            Outcome::Ready(report) => serde_json::to_string_pretty(report)?,
            Outcome::Resources(inventory) => serde_json::to_string_pretty(inventory)?,
            Outcome::Verified(verified) => serde_json::to_string_pretty(verified)?,
            Outcome::Collected(collected) => serde_json::to_string_pretty(collected)?,
            Outcome::Released(released) => serde_json::to_string_pretty(released)?,
        };
        say(document.lines())?;
    } else {
        say(print::outcome(outcome))?;
    }
    match outcome {
        Outcome::Verified(verified) if !verified.damaged.is_empty() => Ok(ExitCode::from(FAILED)),
        Outcome::Ready(_) | Outcome::Resources(_) | Outcome::Verified(_) | Outcome::Collected(_) | Outcome::Released(_) => {
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn fail(json: bool, message: &str, code: u8) -> ExitCode {
    let message = message.trim_end();
    if json {
        // A closed standard output leaves the exit code to tell of it.
        let _ = say(format!("{:#}", json!({"state": "failed", "error": message})).lines());
    }
    remark(format!("error: {message}").lines());
    ExitCode::from(code)
}

async fn signalled() {
    let terminated = async {
        match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
            Ok(mut signal) => signal.recv().await,
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminated => {}
    }
}

fn init(config: &Config) -> anyhow::Result<ExitCode> {
    let path = config.home.join("config.toml");
    std::fs::create_dir_all(&config.home).with_context(|| config.home.display().to_string())?;
    match std::fs::OpenOptions::new().write(true).create_new(true).open(&path) {
        Ok(mut file) => {
            file.write_all(config::explained().as_bytes()).with_context(|| path.display().to_string())?;
            say([format!("wrote {}", path.display())])?;
        }
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            say([format!("{} is there already, and stays", path.display())])?
        }
        Err(error) => return Err(error).with_context(|| path.display().to_string()),
    }
    Ok(ExitCode::SUCCESS)
}

fn plan(config: &Config, request: &Prepare, json: bool) -> anyhow::Result<ExitCode> {
    let made = config.order(NodeCommand::Resources).origins().and_then(|origins| larder_node::plan(request, &origins, &config.home));
    match made {
        Ok(made) if json => say(serde_json::to_string_pretty(&made)?.lines())?,
        Ok(made) => say(print::plan(&made))?,
        Err(error) => return Ok(fail(json, &error.to_string(), exit_code(&error))),
    }
    Ok(ExitCode::SUCCESS)
}

fn exit_code(error: &NodeError) -> u8 {
    if error.is_wrong_input() { WRONG_INPUT } else { FAILED }
}

fn prepare_request(job: &JobArguments) -> anyhow::Result<Prepare> {
    // Before the file: what should be a value may have been read as its name, and is not to show.
    anyhow::ensure!(job.set.iter().all(|pair| pair.contains('=')), "write each setting as one word: --set KEY=VALUE");
    let name = job.definition.file_stem().map_or_else(|| "job".to_owned(), |stem| stem.to_string_lossy().into_owned());
    let root = job.root.as_deref().map(absolute).transpose()?;
    Ok(Prepare { name, definition: read_definition(&job.definition)?, set: job.set.clone(), root, owner: job.owner })
}

fn pull_request(pull: PullArguments) -> anyhow::Result<Pull> {
    let to = pull.to.as_deref().map(absolute).transpose()?;
    let keys = if pull.resource.trim().starts_with("s3://") { config::aws_keys()? } else { None };
    Ok(Pull { resource: pull.resource, to, keys })
}

/// The path as seen from anywhere: another process may do the work.
fn absolute(path: &Path) -> anyhow::Result<PathBuf> {
    std::path::absolute(path).with_context(|| path.display().to_string())
}

fn read_definition(path: &Path) -> anyhow::Result<String> {
    let name = path.display().to_string();
    let input: Box<dyn Read> = if path == Path::new("-") {
        Box::new(std::io::stdin())
    } else {
        Box::new(std::fs::File::open(path).with_context(|| name.clone())?)
    };
    let mut bytes = Vec::new();
    input.take(MAX_DEFINITION_BYTES + 1).read_to_end(&mut bytes).with_context(|| name.clone())?;
    anyhow::ensure!(bytes.len() as u64 <= MAX_DEFINITION_BYTES, "{name}: a job definition may have at most 16 MiB");
    String::from_utf8(bytes).with_context(|| format!("{name} is not text in UTF-8"))
}
