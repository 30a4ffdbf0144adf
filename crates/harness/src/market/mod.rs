//! Markets of real nodes: processes of the `larder` beside this program, on loopback or in network namespaces.
//!
//! No process outlives its market, whatever becomes of this program; nothing of its environment reaches one.

mod interrupt;
mod machine;
mod network;
mod node;
mod race;
mod rogue;
mod running;

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;

pub use interrupt::{pass, stop_on_signals, wait_for};
pub use machine::{Memory, Processor, descriptors, fill_memory, processor_seconds, threads};
pub use network::{Host, Network, Traffic, probe};
pub use node::{Node, Place, Transport};
pub use race::{Order, Prepared, Race, TARGET, job, job_of, laid, sha256};
pub use rogue::{Known, Rogue, RogueNode, falsified, take_part};
pub use running::{Running, binary};

use node::Membership;
use running::end_all;

/// Addresses that markets can have.
pub const ADDRESSES: [&str; 2] = ["GvfYkpn3xumBxxePtnwot1HsXEzByyujmmRNSpxkRFoN", "FNDmPRMDDK4r6kWYTdgex8otnvEwvEK23QdwPWEqDyZc"];

/// How long nodes may take to find one another.
const CONNECTED_WITHIN: Duration = Duration::from_secs(30);
/// How long to wait before all nodes are asked again: it takes a process each.
const ASK_EVERY: Duration = Duration::from_millis(200);

/// The nodes of one market. All end when it is dropped.
#[derive(Debug)]
pub struct Market {
    folder: PathBuf,
    address: String,
    transports: Vec<Transport>,
    environment: Vec<(String, String)>,
    bootstrap: Option<Node>,
    nodes: Vec<Node>,
}

impl Market {
    /// A market without nodes, of one of [`ADDRESSES`] or another; its nodes live below `folder`, and `hub` is their hub's URL.
    #[must_use]
    pub fn new(folder: PathBuf, address: &str, hub: &str) -> Self {
        let environment = [("HF_ENDPOINT", hub), ("LARDER_ORIGIN_PRIVATE_HOSTS", "*"), ("LARDER_STORE_FREE_FLOOR_BYTES", "0")];
        Self {
            folder,
            address: address.to_owned(),
            transports: vec![Transport::Tcp, Transport::Quic],
            environment: environment.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
            bootstrap: None,
            nodes: Vec::new(),
        }
    }

    /// The same, with nodes that listen in other ways than by TCP and QUIC.
    #[must_use]
    pub fn listening(mut self, transports: &[Transport]) -> Self {
        self.transports = transports.to_vec();
        self
    }

    /// The same, with a variable in the environment of all its nodes.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.environment.retain(|(other, _)| other != name);
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Starts the bootstrap node, of which all nodes are told that are added later.
    ///
    /// # Errors
    /// Fails if it does not get ready.
    pub fn start_bootstrap(&mut self, place: Place) -> anyhow::Result<()> {
        let mut node = Node::new(&self.folder, "bootstrap", place, &self.environment)?;
        node.init(Membership { market: &self.address, transports: &self.transports, bootstrap: &[], listen_at: None })?;
        node.run(true)?;
        node.wait_until_ready()?;
        self.bootstrap = Some(node);
        Ok(())
    }

    /// Adds a node, and gives its number. Its daemon does not run yet.
    ///
    /// # Errors
    /// Fails if it cannot be set up.
    pub fn add(&mut self, place: Place) -> anyhow::Result<usize> {
        let address = place.address();
        self.add_listening_at(place, address)
    }

    /// Adds a node that listens at another address than its own: at one that others do not reach, it can only be the one that dials.
    ///
    /// # Errors
    /// Fails if it cannot be set up.
    pub fn add_listening_at(&mut self, place: Place, address: Ipv4Addr) -> anyhow::Result<usize> {
        let bootstrap = self.bootstrap.as_ref().map(Node::addresses).unwrap_or_default();
        let number = self.add_lone(place)?;
        self.nodes[number].init(Membership {
            market: &self.address,
            transports: &self.transports,
            bootstrap: &bootstrap,
            listen_at: Some(address),
        })?;
        Ok(number)
    }

    /// Adds a node that is in no market: each of its commands works for itself.
    ///
    /// # Errors
    /// Fails if it cannot be set up.
    pub fn add_lone(&mut self, place: Place) -> anyhow::Result<usize> {
        let number = self.nodes.len();
        self.nodes.push(Node::new(&self.folder, &format!("node-{number}"), place, &self.environment)?);
        Ok(number)
    }

    /// Adds a node that takes part and keeps none of the promises. It has no number.
    ///
    /// # Errors
    /// Fails if it cannot be started.
    pub fn start_rogue(&mut self, kind: Rogue, known: Known, place: &Place) -> anyhow::Result<RogueNode> {
        let bootstrap = self.bootstrap.as_ref().map(Node::addresses).unwrap_or_default();
        RogueNode::start(kind, known, place, &self.address, bootstrap)
    }

    /// All nodes but the bootstrap, in the order they were added.
    pub fn nodes(&mut self) -> &mut [Node] {
        &mut self.nodes
    }

    /// The bootstrap, if there is one, then all others.
    pub fn everyone(&mut self) -> impl Iterator<Item = &mut Node> {
        self.bootstrap.iter_mut().chain(&mut self.nodes)
    }

    /// The nodes of these numbers.
    fn some(&mut self, numbers: &[usize]) -> Vec<&mut Node> {
        self.nodes.iter_mut().enumerate().filter(|(number, _)| numbers.contains(number)).map(|(_, node)| node).collect()
    }

    /// Starts the daemons of these nodes at once, and waits until all are ready.
    ///
    /// # Errors
    /// Fails if one does not get ready.
    pub fn run(&mut self, numbers: &[usize]) -> anyhow::Result<()> {
        let mut nodes = self.some(numbers);
        nodes.iter_mut().try_for_each(|node| node.run(false))?;
        nodes.iter_mut().try_for_each(|node| node.wait_until_ready())
    }

    /// Waits until each of these nodes is connected to `peers` others, the bootstrap included.
    ///
    /// # Errors
    /// Fails if one is not within half a minute.
    pub fn wait_until_connected(&mut self, numbers: &[usize], peers: usize) -> anyhow::Result<()> {
        for node in self.some(numbers) {
            let mut seen = 0;
            let connected = wait_for("nodes to be connected", CONNECTED_WITHIN, || {
                seen = node.connected()?;
                if seen < peers {
                    pass(ASK_EVERY)?;
                }
                Ok((seen >= peers).then_some(()))
            });
            connected.with_context(|| format!("{} has {seen} peers of {peers}", node.name()))?;
        }
        Ok(())
    }

    /// Lines these nodes up to make a job ready below a folder `root` of each node's, with this patience.
    ///
    /// # Errors
    /// Fails if a process cannot be started.
    pub fn line_up(&mut self, numbers: &[usize], definition: &str, root: &str, patience: Option<&str>) -> anyhow::Result<Race> {
        let order = |node: &usize| Order { node: *node, definition: definition.to_owned(), root: root.to_owned() };
        self.line_up_each(&numbers.iter().map(order).collect::<Vec<_>>(), patience)
    }

    /// Lines up a command for each of these orders, with this patience.
    ///
    /// # Errors
    /// Fails if a process cannot be started.
    pub fn line_up_each(&mut self, orders: &[Order], patience: Option<&str>) -> anyhow::Result<Race> {
        Race::line_up(&mut self.nodes, orders, patience)
    }
}

impl Drop for Market {
    fn drop(&mut self) {
        end_all(&mut self.everyone().filter_map(|node| node.daemon.as_mut()).collect::<Vec<_>>());
    }
}
