//! The command `larder`: what a person or a script touches. A library only for its own program, and for the fuzzer of what it reads.
//!
//! Exit codes: 0 done, 1 failed, 2 wrong input. With `--json` standard output holds one document and nothing else.

mod api;
mod arguments;
mod command;
mod config;
mod daemon;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod init;
mod print;
mod request;
mod screen;
mod session;
mod signals;
mod socket;
mod status;
mod terminal;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use arguments::{Arguments, Command};
use command::{NodeCommand, Order, Outcome, Telling};
use config::Config;
use indicatif::MultiProgress;
use larder_node::{NodeError, Prepare};
use screen::{Beside, Screen};
use serde_json::json;
use status::View;
use terminal::{remark, say};
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

const FAILED: u8 = 1;
const WRONG_INPUT: u8 = 2;

/// What is logged unless `LARDER_LOG` says otherwise. Gossip warns of each message whose signature is false, which strangers can send
/// by the thousand.
const DEFAULT_FILTER: &str = "warn,libp2p_gossipsub=error";

/// How long the store may take to close after a signal.
const CLOSING: Duration = Duration::from_secs(2);

/// Runs the command that the command line gives.
#[must_use]
pub fn main() -> ExitCode {
    let arguments = Arguments::read();
    let filter = tracing_subscriber::EnvFilter::try_from_env("LARDER_LOG").unwrap_or_else(|_| DEFAULT_FILTER.into());
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
    let done = |()| ExitCode::SUCCESS;
    let mut view = View::Whole;
    let command = match arguments.command {
        Command::Init(arguments) => {
            let init = init::plan(&config, arguments)?;
            return Ok(init::carry_out(&config, &init).and_then(say).map_or_else(failed, done));
        }
        Command::Id => return Ok(identify(&config).map_or_else(failed, done)),
        Command::Run(arguments) => {
            let node = daemon::plan(&config, arguments.bootstrap)?;
            return Ok(serve(config, node).map_or_else(failed, done));
        }
        Command::Plan(job) => return Ok(plan(&config, &request::job(&job)?, json).unwrap_or_else(failed)),
        Command::Prepare(arguments) => NodeCommand::Prepare(request::prepare(&config, &arguments)?),
        Command::Pull(arguments) => NodeCommand::Pull(request::pull(&config, arguments)?),
        Command::Status(_) => NodeCommand::Status,
        Command::Peers(_) => {
            view = View::Peers;
            NodeCommand::Status
        }
        Command::Market(_) => {
            view = View::Markets;
            NodeCommand::Status
        }
        Command::Resources(_) => NodeCommand::Resources,
        Command::Verify(_) => NodeCommand::Verify,
        Command::Gc(gc) => NodeCommand::Gc { all: gc.all },
        Command::Release(release) => NodeCommand::Release { lease: release.lease },
    };
    let shown = Shown { json, view, markets: config.node.peers.markets.len() };
    Ok(carry_out(&config, config.order(command), shown, screen).unwrap_or_else(failed))
}

/// How what comes of a command is shown.
#[derive(Clone, Copy)]
struct Shown {
    json: bool,
    /// Of a status.
    view: View,
    /// How many markets are configured.
    markets: usize,
}

fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()
}

fn identify(config: &Config) -> anyhow::Result<()> {
    say([larder_node::peer_id(&config.identity()?)])
}

/// Runs a daemon until a signal.
fn serve(config: Config, node: larder_node::NodeConfig) -> anyhow::Result<()> {
    let runtime = runtime()?;
    let end = runtime.block_on(daemon::run(Arc::new(config), node));
    runtime.shutdown_background();
    end
}

/// Runs an order to its end or to a signal, and prints what came of it.
fn carry_out(config: &Config, order: Order, shown: Shown, mut screen: Screen) -> anyhow::Result<ExitCode> {
    let (runtime, json) = (runtime()?, shown.json);
    let mut last = None;
    let tell = |telling| match telling {
        Telling::Progress(resources) => screen.show(&resources),
        end @ (Telling::Done(_) | Telling::Failed { .. }) => last = Some(end),
    };
    let interrupted = runtime.block_on(async {
        tokio::select! {
            () = session::run(config, order, tell) => false,
            () = signals::ending() => true,
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
        Some(Telling::Done(outcome)) => finish(&outcome, shown),
        Some(Telling::Failed { message, wrong_input }) => Ok(fail(json, &message, if wrong_input { WRONG_INPUT } else { FAILED })),
        Some(Telling::Progress(_)) | None => Ok(fail(json, "the command ended without a result", FAILED)),
    }
}

fn finish(outcome: &Outcome, shown: Shown) -> anyhow::Result<ExitCode> {
    if shown.json {
        let document = match outcome {
            Outcome::Ready(report) => serde_json::to_string_pretty(report)?,
            Outcome::Status(status) => serde_json::to_string_pretty(&shown.view.document(status))?,
            Outcome::Resources(inventory) => serde_json::to_string_pretty(inventory)?,
            Outcome::Verified(verified) => serde_json::to_string_pretty(verified)?,
            Outcome::Collected(collected) => serde_json::to_string_pretty(collected)?,
            Outcome::Released(released) => serde_json::to_string_pretty(released)?,
        };
        say(document.lines())?;
    } else {
        say(print::outcome(outcome, shown.view, shown.markets))?;
    }
    match outcome {
        Outcome::Verified(verified) if !verified.damaged.is_empty() => Ok(ExitCode::from(FAILED)),
        Outcome::Ready(_)
        | Outcome::Status(_)
        | Outcome::Resources(_)
        | Outcome::Verified(_)
        | Outcome::Collected(_)
        | Outcome::Released(_) => Ok(ExitCode::SUCCESS),
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

fn plan(config: &Config, request: &Prepare, json: bool) -> anyhow::Result<ExitCode> {
    let made = config.origin_settings().origins(None).and_then(|origins| larder_node::plan(request, &origins, &config.home));
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
