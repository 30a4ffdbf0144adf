//! Child processes that do not outlive this one, and ports for them.

use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{OnceLock, mpsc};
use std::thread;

use anyhow::Context;

/// Ports are taken from here on: below those the kernel gives to connections, and so are those 10,000 above.
const FIRST_PORT: u16 = 12_000;
/// How many ports there are to take.
const PORTS: u16 = 10_000;
/// How far above a port its second one is, for servers that take two.
pub(crate) const SECOND_PORT: u16 = 10_000;

/// A process that is killed when it is dropped.
#[derive(Debug)]
pub(crate) struct Process(Child);

impl Process {
    /// Starts `program`; the kernel kills it when this process ends, however that happens.
    pub(crate) fn start(program: &std::path::Path, arguments: &[String], log: std::fs::File) -> anyhow::Result<Self> {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]).arg(program).args(arguments);
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let child = spawn(command).with_context(|| format!("{} cannot be started", program.display()))?;
        Ok(Self(child))
    }

    /// Whether it still runs.
    pub(crate) fn is_running(&mut self) -> bool {
        matches!(self.0.try_wait(), Ok(None))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts a process from a thread that lasts as long as this process: the kernel's signal comes when the *thread* that
/// started a child ends, and tests run on threads of their own.
pub(crate) fn spawn(command: Command) -> io::Result<Child> {
    type Order = (Command, mpsc::SyncSender<io::Result<Child>>);
    static SPAWNER: OnceLock<mpsc::SyncSender<Order>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (sender, orders) = mpsc::sync_channel::<Order>(1);
        thread::spawn(move || {
            for (mut command, answer) in orders {
                let _ = answer.send(command.spawn());
            }
        });
        sender
    });
    let (answer, child) = mpsc::sync_channel(1);
    spawner.send((command, answer)).map_err(io::Error::other)?;
    child.recv().map_err(io::Error::other)?
}

/// A port of loopback that is free, and 10,000 above it another.
pub(crate) fn free_port() -> anyhow::Result<u16> {
    // Tests that run side by side in several processes start at different places.
    static NEXT: OnceLock<AtomicU16> = OnceLock::new();
    let next = NEXT.get_or_init(|| AtomicU16::new((std::process::id().wrapping_mul(37) % u32::from(PORTS)) as u16));
    let is_free = |port: u16| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok();
    let ports = (0..PORTS).map(|_| FIRST_PORT + next.fetch_add(1, Ordering::Relaxed) % PORTS);
    ports.into_iter().find(|port| is_free(*port) && is_free(port + SECOND_PORT)).context("no port is free")
}
