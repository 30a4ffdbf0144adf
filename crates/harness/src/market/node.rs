//! One node of a market: a home, an environment that holds nothing else, and the real `larder`.

use std::fs::File;
use std::io::{Read, Write};
use std::net::Ipv4Addr;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::Value;

use super::interrupt::wait_for;
use super::machine::Memory;
use super::network::Host;
use super::running::{Running, Start};
use crate::process::free_port;

/// How long a daemon may take to be ready.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// How long a command may take that only tells something.
const TOLD_WITHIN: Duration = Duration::from_secs(60);
/// How long a daemon may take to answer at its socket.
const LOOKED_WITHIN: Duration = Duration::from_secs(5);
/// The folder of its store, in its own.
const HOME: &str = "home";
/// What the line begins with that a daemon writes to standard error when it is ready.
const READY: &str = "larder: ready";
/// Where nodes listen that have an address of their own.
const PORT: u16 = 4001;

/// Where a node runs.
#[derive(Debug, Clone)]
pub enum Place {
    /// On loopback, with a port of its own.
    Loopback,
    /// On a host of a network, with an address of its own.
    Host(Host),
}

impl Place {
    /// Its address.
    #[must_use]
    pub fn address(&self) -> Ipv4Addr {
        match self {
            Self::Loopback => Ipv4Addr::LOCALHOST,
            Self::Host(host) => host.address(),
        }
    }

    /// Where a node there may listen.
    pub(crate) fn listen(&self) -> anyhow::Result<String> {
        Ok(Transport::Tcp.listen(self.address(), self.port()?))
    }

    /// A thread there: its sockets, and those of threads it makes, are the place's.
    pub(crate) fn thread(&self, work: impl FnOnce() + Send + 'static) -> anyhow::Result<std::thread::JoinHandle<()>> {
        match self {
            Self::Loopback => Ok(std::thread::spawn(work)),
            Self::Host(host) => host.inside(|| Ok(std::thread::spawn(work))),
        }
    }

    fn port(&self) -> anyhow::Result<u16> {
        match self {
            Self::Loopback => free_port(),
            Self::Host(_) => Ok(PORT),
        }
    }
}

/// How nodes reach one another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// TCP with TLS.
    Tcp,
    /// QUIC.
    Quic,
}

impl Transport {
    fn listen(self, address: Ipv4Addr, port: u16) -> String {
        match self {
            Self::Tcp => format!("/ip4/{address}/tcp/{port}"),
            Self::Quic => format!("/ip4/{address}/udp/{port}/quic-v1"),
        }
    }
}

/// What makes a node one of a market.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Membership<'a> {
    pub(crate) market: &'a str,
    pub(crate) transports: &'a [Transport],
    pub(crate) bootstrap: &'a [String],
    /// Where it listens, if not at its own address.
    pub(crate) listen_at: Option<Ipv4Addr>,
}

/// A node, whether its daemon runs or not.
#[derive(Debug)]
pub struct Node {
    name: String,
    folder: PathBuf,
    place: Place,
    environment: Vec<(String, String)>,
    listen: Vec<String>,
    peer: Option<String>,
    pub(crate) daemon: Option<Running>,
    /// How many processes were started for it: their logs have numbers.
    started: u32,
}

impl Node {
    /// Sets a variable in the environment of whatever is started for it from now on.
    pub fn set(&mut self, name: &str, value: &str) {
        self.environment.retain(|(other, _)| other != name);
        self.environment.push((name.to_owned(), value.to_owned()));
    }

    /// A node in a folder of its own below `folder`.
    pub(crate) fn new(folder: &Path, name: &str, place: Place, environment: &[(String, String)]) -> anyhow::Result<Self> {
        let folder = folder.join(name);
        std::fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
        let own = [("HOME", ""), ("HF_HOME", "huggingface"), ("LARDER_HOME", HOME)];
        let own = own.map(|(variable, inside)| (variable.to_owned(), folder.join(inside).display().to_string()));
        let environment = own.into_iter().chain(environment.iter().cloned()).collect();
        Ok(Self { name: name.to_owned(), folder, place, environment, listen: Vec::new(), peer: None, daemon: None, started: 0 })
    }

    /// Makes its key and configuration.
    pub(crate) fn init(&mut self, membership: Membership) -> anyhow::Result<()> {
        let (address, port) = (membership.listen_at.unwrap_or_else(|| self.place.address()), self.place.port()?);
        self.listen = membership.transports.iter().map(|transport| transport.listen(address, port)).collect();
        let mut arguments = vec!["init".to_owned(), "--market".to_owned(), membership.market.to_owned()];
        arguments.extend(self.listen.iter().flat_map(|address| ["--listen".to_owned(), address.clone()]));
        arguments.extend(membership.bootstrap.iter().flat_map(|address| ["--bootstrap".to_owned(), address.clone()]));
        self.tell(&arguments)?;
        self.peer = Some(self.tell(&["id".to_owned()])?.trim().to_owned());
        Ok(())
    }

    /// Its name in the market.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A folder of its own, where its home is, and the logs of its processes.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The folder of its store.
    #[must_use]
    pub fn home(&self) -> PathBuf {
        self.folder.join(HOME)
    }

    /// Where it runs.
    #[must_use]
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// Its peer id; empty if it is in no market.
    #[must_use]
    pub fn peer(&self) -> &str {
        self.peer.as_deref().unwrap_or_default()
    }

    /// Where it listens, each address with its peer id.
    #[must_use]
    pub fn addresses(&self) -> Vec<String> {
        self.listen.iter().map(|address| format!("{address}/p2p/{}", self.peer())).collect()
    }

    /// Starts a command of `larder`.
    ///
    /// # Errors
    /// Fails if it cannot be started.
    pub fn start(&mut self, arguments: &[String]) -> anyhow::Result<Running> {
        self.launch(arguments, false)
    }

    /// Starts a command; if `gated`, it waits until it is let go.
    pub(crate) fn launch(&mut self, arguments: &[String], gated: bool) -> anyhow::Result<Running> {
        self.started += 1;
        let name = format!("{}-{}", self.started, arguments.first().map_or("larder", String::as_str));
        let Self { place, environment, folder, .. } = self;
        Running::start(&Start { place, arguments, environment, folder, name: &name, gated })
    }

    /// Runs a command that soon ends, and gives what it wrote to standard output.
    ///
    /// # Errors
    /// Fails if the command does, or does not end.
    pub fn tell(&mut self, arguments: &[String]) -> anyhow::Result<String> {
        let mut running = self.start(arguments)?;
        let status = wait_for("a command to end", TOLD_WITHIN, || running.ended()).with_context(|| running.told())?;
        ensure!(status.success(), "{status}: {}", running.told());
        Ok(running.stdout())
    }

    /// What `larder status --json` says.
    ///
    /// # Errors
    /// Fails if the command does.
    pub fn status(&mut self) -> anyhow::Result<Value> {
        let told = self.tell(&["status", "--json"].map(String::from))?;
        serde_json::from_str(&told).with_context(|| format!("`larder status --json` of {} is no JSON", self.name))
    }

    /// The same, asked at the socket of its daemon: it takes no process.
    ///
    /// # Errors
    /// Fails if no daemon answers there.
    pub fn look(&self) -> anyhow::Result<Value> {
        let (_, body) = self.ask("GET", "/v1/status", "", LOOKED_WITHIN)?;
        serde_json::from_str(&body).with_context(|| format!("the status of {} is no JSON", self.name))
    }

    /// Asks its daemon at its socket, and gives the status and the body of the answer.
    ///
    /// # Errors
    /// Fails if no daemon answers there, or tells nothing for longer than `within`.
    pub fn ask(&self, method: &str, path: &str, body: &str, within: Duration) -> anyhow::Result<(u16, String)> {
        let mut socket = self.send(method, path, body)?;
        socket.set_read_timeout(Some(within))?;
        let mut answer = String::new();
        socket.read_to_string(&mut answer).with_context(|| format!("{}: {method} {path}", self.name))?;
        let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
        let (_, body) = answer.split_once("\r\n\r\n").with_context(|| format!("{} answers nothing", self.name))?;
        Ok((status.with_context(|| format!("{} answers without a status", self.name))?, body.to_owned()))
    }

    /// Asks the same, and waits for no answer: it comes from the socket, and the daemon may stop working on it when that is closed.
    ///
    /// # Errors
    /// Fails if no daemon listens there.
    pub fn send(&self, method: &str, path: &str, body: &str) -> anyhow::Result<UnixStream> {
        // A path that leads through the open folder may be longer than those of sockets.
        let home = File::open(self.home()).with_context(|| self.name.clone())?;
        let mut socket = UnixStream::connect(format!("/proc/self/fd/{}/socket", home.as_raw_fd())).with_context(|| self.name.clone())?;
        let head = format!("{method} {path} HTTP/1.1\r\nHost: node\r\nConnection: close\r\nContent-Length: {}\r\n", body.len());
        socket.write_all(format!("{head}Content-Type: application/json\r\n\r\n{body}").as_bytes())?;
        Ok(socket)
    }

    /// How many peers it is connected to.
    ///
    /// # Errors
    /// Fails if it does not tell.
    pub fn connected(&mut self) -> anyhow::Result<usize> {
        let status = self.status()?;
        let markets = status["markets"].as_array().with_context(|| format!("{} is in no market: {status}", self.name))?;
        Ok(markets.iter().map(|market| market["peers"].as_array().map_or(0, Vec::len)).sum())
    }

    /// Starts the daemon, without waiting until it is ready.
    ///
    /// # Errors
    /// Fails if it cannot be started.
    pub fn run(&mut self, bootstrap: bool) -> anyhow::Result<()> {
        let words = ["run", "--bootstrap"];
        let arguments = words[..1 + usize::from(bootstrap)].iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        self.daemon = Some(self.launch(&arguments, false)?);
        Ok(())
    }

    /// Waits until the daemon is ready.
    ///
    /// # Errors
    /// Fails if it is not within a minute, ends instead, or was not started.
    pub fn wait_until_ready(&mut self) -> anyhow::Result<()> {
        wait_for("a daemon to be ready", READY_WITHIN, || Ok(self.is_ready()?.then_some(()))).with_context(|| self.told())
    }

    /// Whether the daemon has said that it is ready.
    ///
    /// # Errors
    /// Fails if it ended instead, or was not started.
    pub fn is_ready(&mut self) -> anyhow::Result<bool> {
        let daemon = self.daemon.as_mut().with_context(|| format!("{} does not run", self.name))?;
        if daemon.stderr().lines().any(|line| line.starts_with(READY)) {
            return Ok(true);
        }
        ensure!(daemon.ended()?.is_none(), "it ended before it was ready: {}", daemon.told());
        Ok(false)
    }

    /// The daemon, if it was started.
    pub fn daemon(&mut self) -> Option<&mut Running> {
        self.daemon.as_mut()
    }

    /// What its daemon is and how its log ends, for errors.
    #[must_use]
    pub fn told(&self) -> String {
        self.daemon.as_ref().map(Running::told).unwrap_or_default()
    }

    /// The memory of its daemon.
    #[must_use]
    pub fn memory(&self) -> Memory {
        self.daemon.as_ref().map(Running::memory).unwrap_or_default()
    }

    /// Kills the daemon as `kill -9` does.
    pub fn kill(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            daemon.kill();
        }
    }
}
