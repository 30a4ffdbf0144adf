//! A network for others' programs: the hosts, links and counting origin of a measured market, and a command that plays on them.
//!
//! What there is stands in a file, as JSON. The network ends with the command, and the command with this process.

use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use clap::Args;
use larder_harness::hub::{HubBuilder, Repo, Tree};
use larder_harness::market::{Host, Network, stop_on_signals, wait_for};
use larder_harness::proxy::Proxy;
use larder_harness::scenario::parse_bytes;
use larder_harness::scratch::Scratch;
use larder_harness::servers::SeaweedFs;
use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::{Value, json};

use crate::distant::DistantHub;

/// The repository with the one file.
const REPOSITORY: &str = "harness/generated";
/// The bucket that anyone may read, the port it is at, and the size of the parts that files go there in.
const BUCKET: &str = "pub";
const S3: u16 = 9000;
const PART_BYTES: u64 = 8 * 1024 * 1024;
/// The variable that tells the command where the file is.
const VARIABLE: &str = "LARDER_STAGE";
/// How long the command may take to end once it is told to.
const END_WITHIN: Duration = Duration::from_secs(20);

#[derive(Debug, Args)]
pub(crate) struct StageArguments {
    /// How many hosts there are for nodes.
    #[arg(long, default_value_t = 8)]
    nodes: usize,
    /// The size of the one file that the origin has.
    #[arg(long, value_parser = parse_bytes, default_value = "256MiB")]
    bytes: u64,
    /// Bytes a second that the origin sends.
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes, default_value = "10MB")]
    origin_rate: u64,
    /// Bytes a second that each host sends.
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes, default_value = "10MB")]
    uplink: u64,
    /// Bytes a second that each host is sent [default: no limit].
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes)]
    downlink: Option<u64>,
    /// The origin also has an S3 server, with the files of this folder in bucket pub, which anyone may read.
    #[arg(long, value_name = "FOLDER")]
    bucket: Option<PathBuf>,
    /// The command and its arguments.
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

/// Makes the network, runs the command, and takes the network down.
pub(crate) fn run(arguments: &StageArguments) -> anyhow::Result<()> {
    ensure!(arguments.nodes > 0 && arguments.bytes > 0, "there must be a host and a byte: say more for --nodes or --bytes");
    stop_on_signals()?;
    let scratch = Scratch::below(&beside_the_programs()?)?;
    let network = Network::new()?;
    let repo = Repo::model(REPOSITORY).at("main", Tree::synthetic(1, arguments.bytes));
    let DistantHub { hub, host: origin } = DistantHub::start(&network, HubBuilder::new().repo(repo))?;
    origin.limit_sending(arguments.origin_rate)?;
    let more = (1..).map(Network::address).zip(std::iter::once("bootstrap".to_owned()).chain((0..).map(|number| format!("node{number}"))));
    let mut hosts = Vec::new();
    for (address, name) in more.take(arguments.nodes + 1) {
        let host = network.host(&name, address)?;
        host.limit_sending(arguments.uplink)?;
        arguments.downlink.map_or(Ok(()), |rate| host.limit_receiving(rate))?;
        hosts.push(describe(&host));
    }
    let (path, sha256) = hub.sha256s(&format!("models/{REPOSITORY}"), "main")?.pop_first().context("the hub has no file")?;
    let mut from = describe(&origin);
    from["endpoint"] = hub.endpoint().into();
    from["url"] = format!("{}/{REPOSITORY}/resolve/main/{path}", hub.endpoint()).into();
    let file = json!({"repository": REPOSITORY, "path": path, "sha256": sha256, "bytes": arguments.bytes});
    let nodes = hosts.split_off(1);
    let bucket = arguments.bucket.as_deref().map(|folder| Bucket::start(&origin, folder)).transpose()?;
    let buckets = bucket.iter().map(|bucket| json!({"endpoint": bucket.proxy.endpoint(), "bucket": BUCKET})).next();
    let stage = json!({"origin": from, "file": file, "bucket": buckets, "bootstrap": hosts.pop(), "nodes": nodes});
    let told = scratch.path("stage.json");
    std::fs::write(&told, serde_json::to_string_pretty(&stage)? + "\n").with_context(|| told.display().to_string())?;
    play(&arguments.command, &told)
}

/// An S3 server that can only be reached over the origin's line.
struct Bucket {
    proxy: Proxy,
    _server: SeaweedFs,
}

impl Bucket {
    fn start(origin: &Host, folder: &Path) -> anyhow::Result<Self> {
        let server = SeaweedFs::start()?;
        server.store()?.put_folder(BUCKET, "", folder, PART_BYTES)?;
        let listener = origin.inside(|| Ok(TcpListener::bind((origin.address(), S3))?))?;
        Ok(Self { proxy: Proxy::start_on(listener, server.address())?, _server: server })
    }
}

/// What the command needs to know of a host.
fn describe(host: &Host) -> Value {
    json!({"name": host.name(), "address": host.address(), "namespace": host.namespace_file()})
}

/// Where the file is written: a folder beside that of this program.
fn beside_the_programs() -> anyhow::Result<PathBuf> {
    let here = std::env::current_exe()?;
    let above = here.ancestors().nth(2).context("this program lies in no folder: start it by its full path")?;
    Ok(above.join("stages"))
}

/// Runs the command to its end, with the path of what there is in its environment.
fn play(command: &[String], told: &Path) -> anyhow::Result<()> {
    let what = command.join(" ");
    let mut started = Command::new("setpriv");
    started.args(["--pdeathsig", "KILL"]).args(command).env(VARIABLE, told).process_group(0);
    let mut child = started.spawn().context("setpriv cannot be started. On Debian: apt-get install util-linux")?;
    let ended = wait_for("the command to end", Duration::MAX, || Ok(child.try_wait()?));
    end(&mut child);
    let status = ended?;
    ensure!(status.success(), "`{what}` failed: {status}");
    Ok(())
}

/// Tells a process to end, and kills it if it has not in time, with all that is left of its group.
fn end(child: &mut Child) {
    let id = child.id();
    let signal = |signal: Signal| {
        let group = i32::try_from(id).ok().and_then(Pid::from_raw);
        // Nothing of it may be left.
        group.map(|group| kill_process_group(group, signal))
    };
    let _ = signal(Signal::TERM);
    let until = Instant::now() + END_WITHIN;
    while Instant::now() < until && matches!(child.try_wait(), Ok(None)) {
        std::thread::sleep(Duration::from_millis(20));
    }
    let _ = signal(Signal::KILL);
    let _ = child.wait();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn a_command_is_told_where_the_stage_is_described() {
        let reads = words(&["sh", "-c", "test \"$LARDER_STAGE\" = /somewhere/stage.json"]);
        play(&reads, Path::new("/somewhere/stage.json")).unwrap();
        play(&reads, Path::new("/elsewhere/stage.json")).unwrap_err();
    }

    #[test]
    fn the_stage_fails_when_its_command_does_and_says_which() {
        let error = play(&words(&["sh", "-c", "exit 3"]), Path::new("/stage.json")).unwrap_err().to_string();
        assert!(error.contains("`sh -c exit 3` failed") && error.contains('3'), "{error}");
    }

    #[test]
    fn nothing_that_a_command_started_is_left_when_it_has_ended() {
        let folder = tempfile::tempdir().unwrap();
        let id = folder.path().join("id");
        play(&words(&["sh", "-c", &format!("sleep 600 & echo $! >{}", id.display())]), Path::new("/stage.json")).unwrap();
        let process = Path::new("/proc").join(std::fs::read_to_string(id).unwrap().trim());
        let state =
            || std::fs::read_to_string(process.join("stat")).map_or('X', |stat| stat.chars().nth(stat.rfind(')').unwrap() + 2).unwrap());
        wait_for("a process to be gone", Duration::from_secs(5), || Ok("XZ".contains(state()).then_some(()))).unwrap();
    }

    #[test]
    fn a_command_that_is_to_end_is_gone_afterwards() {
        let mut child = Command::new("sleep").arg("600").process_group(0).spawn().unwrap();
        end(&mut child);
        assert!(matches!(child.try_wait(), Ok(Some(status)) if !status.success()));
    }
}
