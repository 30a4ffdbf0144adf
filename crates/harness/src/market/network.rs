//! A network on this machine: hosts in network namespaces, each with an address and a link of its own to one router.
//!
//! Nothing of it touches the machine's own network. It takes root, one can be there at a time, and it is gone when it is
//! dropped; what a killed process left is removed by the next.

use std::fs::{File, TryLockError};
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// What the names of all namespaces begin with.
const PREFIX: &str = "larder-net-";
/// The namespace that routes between them. On a bridge every host would know every other's link address, and the kernel knows 1024 at most:
/// of 32 hosts some would not find each other.
const HUB: &str = "larder-net-router";
/// The router's address, on every link.
const ROUTER: &str = "198.19.255.254";
/// Where namespaces have names.
const NAMES: &str = "/run/netns";
/// Held by the process whose network it is.
const LOCK: &str = "/run/larder-net.lock";
/// The interface of each host.
const LINK: &str = "eth0";
/// What a link lets pass at once above its rate, at least.
const BURST_BYTES: u64 = 128 * 1024;
/// What may wait before a sender's link. The kernel lets a connection have two packets of it, so it does not fill; it is there so that nothing is
/// dropped.
const SENDER_QUEUE_BYTES: u64 = 4 * 1024 * 1024;
/// What may wait before a receiver's link, in milliseconds of its rate: as much as home routers have.
const RECEIVER_QUEUE_MS: u64 = 150;
/// What a connection sends in one packet, at least, in microseconds of its host's link: of 64 kB, those of a crowd would be two seconds of a
/// link of 2 MB/s.
const SENT_IN_ONE_GO_US: u64 = 13_000;
/// The most segments that the kernel puts into a packet, 64 kB. With 23 kB on a link of 10 MB/s, half again as much of the processor was taken for
/// the same times.
const MOST_SEGMENTS: u64 = 44;
/// The content of one segment.
const SEGMENT_BYTES: u64 = 1448;
/// How long a probe may take to send nothing.
const PROBE_STALL: Duration = Duration::from_secs(20);

/// A router, to which hosts can be added.
#[derive(Debug)]
pub struct Network {
    _lock: File,
}

/// A host of a network. It is there as long as the network is.
#[derive(Debug, Clone)]
pub struct Host {
    name: String,
    address: Ipv4Addr,
}

/// Bytes on the wire of one host, with all headers but those that the kernel adds when it cuts large packets apart.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Traffic {
    /// What it sent.
    pub sent: u64,
    /// What it was sent.
    pub received: u64,
}

impl Traffic {
    /// What came since `earlier`.
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        Self { sent: self.sent.saturating_sub(earlier.sent), received: self.received.saturating_sub(earlier.received) }
    }
}

impl Network {
    /// Makes the router, after it has removed what earlier ones left.
    ///
    /// # Errors
    /// Fails without root or without iproute2 and util-linux, if another process has a network, and if the kernel refuses.
    pub fn new() -> anyhow::Result<Self> {
        ensure!(rustix::process::geteuid().is_root(), "network namespaces take root: run this as root, or with sudo");
        for (tool, package) in [("ip", "iproute2"), ("tc", "iproute2"), ("nsenter", "util-linux")] {
            let there = Command::new(tool).arg("-V").output().is_ok();
            ensure!(there, "{tool} is missing. On Debian: apt-get install {package}");
        }
        let lock = File::create(LOCK).with_context(|| LOCK.to_owned())?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => bail!("another process has a network on this machine: one can be there at a time"),
            Err(TryLockError::Error(error)) => return Err(error).context(LOCK),
        }
        remove_all();
        let network = Self { _lock: lock };
        run("ip", &["netns", "add", HUB])?;
        without_ipv6(HUB)?;
        run("ip", &["-n", HUB, "link", "set", "lo", "up"])?;
        run("ip", &["-n", HUB, "addr", "add", &format!("{ROUTER}/32"), "dev", "lo"])?;
        // Some machines let no interface answer for an address of another.
        for (variable, value) in [("ip_forward", "1"), ("conf/all/arp_ignore", "0"), ("conf/default/arp_ignore", "0")] {
            within(HUB, || std::fs::write(format!("/proc/sys/net/ipv4/{variable}"), value).context(variable))?;
        }
        Ok(network)
    }

    /// Adds a host. It reaches all others, whatever their addresses, and nothing else.
    ///
    /// # Errors
    /// Fails if the kernel refuses, as it does for a name of more than 15 letters.
    pub fn host(&self, name: &str, address: Ipv4Addr) -> anyhow::Result<Host> {
        let host = Host { name: name.to_owned(), address };
        let namespace = host.namespace();
        run("ip", &["netns", "add", &namespace])?;
        without_ipv6(&namespace)?;
        run("ip", &["-n", HUB, "link", "add", name, "type", "veth", "peer", "name", LINK, "netns", &namespace])?;
        run("ip", &["-n", HUB, "link", "set", name, "up"])?;
        run("ip", &["-n", &namespace, "link", "set", "lo", "up"])?;
        run("ip", &["-n", &namespace, "link", "set", LINK, "up"])?;
        host.also_at(address)?;
        // Without a timer for each connection, which a crowd's would keep this machine busy with; every kernel lets it be chosen.
        host.set("tcp_congestion_control", "reno")?;
        // The kernel gives larger packets to connections that saw a short round trip when they were made, and so, where many
        // share a link, four times the rate of those that were made while its queue was long.
        host.set("tcp_tso_rtt_log", "0")?;
        host.send_packets_of(MOST_SEGMENTS)?;
        run("ip", &["-n", &namespace, "route", "add", ROUTER, "dev", LINK])?;
        run("ip", &["-n", &namespace, "route", "add", "default", "via", ROUTER, "src", &address.to_string()])?;
        Ok(host)
    }

    /// The address of host `number`, in a block of 256 of its own: 198.18.`number`.1 and on.
    ///
    /// Source: RFC 2544 appendix C.2.2: 198.18.0.0/15 is for such networks, and looks public.
    #[must_use]
    pub fn address(number: u16) -> Ipv4Addr {
        let [high, low] = number.to_be_bytes();
        Ipv4Addr::new(198, 18 + (high & 1), low, 1)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        remove_all();
    }
}

impl Host {
    fn namespace(&self) -> String {
        format!("{PREFIX}{}", self.name)
    }

    /// The file that stands for its namespace.
    #[must_use]
    pub fn namespace_file(&self) -> PathBuf {
        Path::new(NAMES).join(self.namespace())
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its address.
    #[must_use]
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// Gives it another address.
    ///
    /// # Errors
    /// Fails if the kernel refuses.
    pub fn also_at(&self, address: Ipv4Addr) -> anyhow::Result<()> {
        let address = format!("{address}/32");
        run("ip", &["-n", &self.namespace(), "addr", "add", &address, "dev", LINK])?;
        run("ip", &["-n", HUB, "route", "add", &address, "dev", &self.name])
    }

    /// Runs `work` on this host: sockets it makes are the host's, wherever they are used later.
    ///
    /// # Errors
    /// Fails if the host is gone, or `work` fails.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> anyhow::Result<T> + Send) -> anyhow::Result<T> {
        within(&self.namespace(), work)
    }

    /// From now on it sends at no more than so many bytes a second, headers included.
    ///
    /// # Errors
    /// Fails if the kernel refuses.
    pub fn limit_sending(&self, bytes_per_second: u64) -> anyhow::Result<()> {
        self.send_packets_of(bytes_per_second * SENT_IN_ONE_GO_US / 1_000_000 / SEGMENT_BYTES)?;
        shape(&self.namespace(), LINK, bytes_per_second, SENDER_QUEUE_BYTES)
    }

    /// Slow connections would send two segments at a time: then a crowd's packets keep this machine busier than its nodes.
    fn send_packets_of(&self, segments: u64) -> anyhow::Result<()> {
        self.set("tcp_min_tso_segs", &segments.clamp(2, MOST_SEGMENTS).to_string())
    }

    /// From now on it is sent no more than so many bytes a second, headers included.
    ///
    /// # Errors
    /// Fails if the kernel refuses.
    pub fn limit_receiving(&self, bytes_per_second: u64) -> anyhow::Result<()> {
        let queue = bytes_per_second * RECEIVER_QUEUE_MS / 1000;
        shape(HUB, &self.name, bytes_per_second, queue.max(2 * BURST_BYTES))
    }

    /// Lets its connections hold back no more than so many bytes that were not sent yet.
    ///
    /// # Errors
    /// Fails if the kernel refuses.
    pub fn limit_unsent(&self, bytes: u64) -> anyhow::Result<()> {
        self.set("tcp_notsent_lowat", &bytes.to_string())
    }

    fn set(&self, variable: &str, value: &str) -> anyhow::Result<()> {
        self.inside(|| std::fs::write(format!("/proc/sys/net/ipv4/{variable}"), value).with_context(|| variable.to_owned()))
    }

    /// What went over its link since it was made.
    ///
    /// # Errors
    /// Fails if the kernel does not tell.
    pub fn traffic(&self) -> anyhow::Result<Traffic> {
        let text = within(HUB, || Ok(std::fs::read_to_string("/proc/thread-self/net/dev")?))?;
        parse_traffic(&text, &self.name).with_context(|| format!("there is no link {}", self.name))
    }
}

/// Copies `bytes` from one host to another over one connection; gives bytes of content a second.
///
/// # Errors
/// Fails if no connection comes about, or it stalls.
pub fn probe(from: &Host, to: &Host, bytes: u64) -> anyhow::Result<f64> {
    let listener = to.inside(|| Ok(TcpListener::bind((to.address(), 0))?))?;
    let address = listener.local_addr()?;
    std::thread::scope(|scope| {
        let sender = scope.spawn(move || {
            let mut stream = from.inside(|| Ok(TcpStream::connect_timeout(&address, PROBE_STALL)?))?;
            stream.set_write_timeout(Some(PROBE_STALL))?;
            std::io::copy(&mut std::io::repeat(7).take(bytes), &mut stream)?;
            anyhow::Ok(stream.flush()?)
        });
        let received = receive(&listener, &sender);
        let sent = sender.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        sent.and(received)
    })
}

fn receive<T>(listener: &TcpListener, sender: &std::thread::ScopedJoinHandle<T>) -> anyhow::Result<f64> {
    listener.set_nonblocking(true)?;
    let mut stream = loop {
        match listener.accept() {
            Ok((stream, _)) => break stream,
            Err(error) if error.kind() == ErrorKind::WouldBlock && !sender.is_finished() => std::thread::sleep(Duration::from_millis(1)),
            Err(error) => return Err(error).context("no connection came"),
        }
    };
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(PROBE_STALL))?;
    let mut buffer = vec![0; 256 * 1024];
    stream.read_exact(&mut buffer[..1])?;
    let (started, mut sum) = (Instant::now(), 0);
    loop {
        match stream.read(&mut buffer)? {
            0 => return Ok(sum as f64 / started.elapsed().as_secs_f64()),
            length => sum += length as u64,
        }
    }
}

/// Source: tc-tbf(8).
fn shape(namespace: &str, device: &str, bytes_per_second: u64, queue_bytes: u64) -> anyhow::Result<()> {
    ensure!(bytes_per_second > 0, "a link of 0 bytes a second is none");
    let (rate, burst) = (format!("{}bit", bytes_per_second * 8), BURST_BYTES.max(bytes_per_second / 160).to_string());
    let limit = queue_bytes.to_string();
    run("tc", &["-n", namespace, "qdisc", "replace", "dev", device, "root", "tbf", "rate", &rate, "burst", &burst, "limit", &limit])
}

fn parse_traffic(text: &str, device: &str) -> Option<Traffic> {
    let line = text.lines().find_map(|line| line.trim_start().strip_prefix(device)?.strip_prefix(':'))?;
    let numbers: Vec<u64> = line.split_whitespace().filter_map(|number| number.parse().ok()).collect();
    // Seen from the router: what it receives, the host sent.
    Some(Traffic { sent: *numbers.first()?, received: *numbers.get(8)? })
}

fn within<T: Send>(namespace: &str, work: impl FnOnce() -> anyhow::Result<T> + Send) -> anyhow::Result<T> {
    let path = Path::new(NAMES).join(namespace);
    let file = File::open(&path).with_context(|| path.display().to_string())?;
    let entered = || {
        move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).with_context(|| path.display().to_string())?;
        work()
    };
    // A thread of its own, so that no other is moved.
    std::thread::scope(|scope| scope.spawn(entered).join()).unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Interfaces without IPv6 say nothing by themselves.
fn without_ipv6(namespace: &str) -> anyhow::Result<()> {
    within(namespace, || {
        for which in ["all", "default"] {
            match std::fs::write(format!("/proc/sys/net/ipv6/conf/{which}/disable_ipv6"), "1") {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error).context("IPv6 cannot be turned off"),
                Ok(()) | Err(_) => {}
            }
        }
        Ok(())
    })
}

/// Removes every namespace of ours; what cannot be removed is left.
fn remove_all() {
    for entry in std::fs::read_dir(NAMES).into_iter().flatten().flatten() {
        if let Some(name) = entry.file_name().to_str().filter(|name| name.starts_with(PREFIX)) {
            let _ = run("ip", &["netns", "delete", name]);
        }
    }
}

fn run(program: &str, arguments: &[&str]) -> anyhow::Result<()> {
    let output = Command::new(program).args(arguments).output().with_context(|| format!("{program} cannot be started"))?;
    let told = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "`{program} {}` failed: {}", arguments.join(" "), told.trim());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_router_receives_a_host_sent() {
        let text = "Inter-|   Receive | Transmit\n face |bytes packets\n    lo:       0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0\n\
            \x20   n1: 1111 2 3 4 5 6 7 8 9999 10 11 12 13 14 15 16\n   n10: 5 0 0 0 0 0 0 0 6 0 0 0 0 0 0 0\n";
        assert_eq!(parse_traffic(text, "n1"), Some(Traffic { sent: 1111, received: 9999 }));
        assert_eq!(parse_traffic(text, "n10"), Some(Traffic { sent: 5, received: 6 }));
        assert_eq!(parse_traffic(text, "n2"), None);
    }

    #[test]
    fn each_host_has_an_address_in_a_block_of_its_own_that_origins_may_listen_at() {
        let addresses: std::collections::BTreeSet<Ipv4Addr> = (0..500).map(Network::address).collect();
        let blocks: std::collections::BTreeSet<[u8; 3]> = addresses.iter().map(|a| [a.octets()[0], a.octets()[1], a.octets()[2]]).collect();
        assert_eq!((addresses.len(), blocks.len()), (500, 500));
        assert!(addresses.iter().all(|address| crate::serve::is_of_this_machine((*address).into())));
        assert!(!crate::serve::is_of_this_machine([198, 20, 0, 1].into()) && !crate::serve::is_of_this_machine([10, 0, 0, 1].into()));
    }
}
