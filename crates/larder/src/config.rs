//! The configuration: the one place that reads files and environment.
//!
//! A field `quota_bytes` of section `[store]` can also be set as `LARDER_STORE_QUOTA_BYTES`; the environment goes before the
//! file. What is wrong or only half said is refused here, before anything is done.

mod fields;
mod market;
mod secrets;

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use larder_content::Secret;
use larder_node::EngineConfig;
use larder_origin::{HubConfig, PrivateHosts};
use larder_store::StoreConfig;

use crate::command::{NodeCommand, Order, OriginSettings};
use larder_node::{NodeConfig, Patience, PeersConfig};

pub(crate) use fields::{explained, suggestion};
pub(crate) use market::{MarketFields, default_listen, table};
pub(crate) use secrets::{aws_keys, make_home};

use fields::{FileConfig, OriginFields, PeerFields, StoreFields};

/// The most hours that anything is kept or held: ten years.
const MAX_HOURS: u64 = 10 * 365 * 24;
/// The most peers that can be connected at once, in each market.
const MAX_CONNECTIONS: usize = 10_000;

/// Variables that begin as ours do and are no fields.
const OTHER_VARIABLES: [&str; 4] = ["LARDER_HOME", "LARDER_LOG", "LARDER_ROUNDS", "LARDER_SERVERS"];

/// What the command works with.
pub(crate) struct Config {
    pub(crate) home: PathBuf,
    pub(crate) store: StoreConfig,
    /// All but the node's key, which [`Config::joining`] adds.
    pub(crate) node: NodeConfig,
    /// The file of the node's key.
    pub(crate) key: PathBuf,
    /// Where the API listens beside the socket.
    pub(crate) api_listen: Option<SocketAddr>,
    /// The folders that jobs may be laid in over TCP.
    api_roots: Vec<PathBuf>,
    pub(crate) hub: HubConfig,
    /// As the field has it, so that it can be sent to the process that holds the store.
    pub(crate) private_hosts: String,
}

impl Config {
    /// Reads `config.toml` in the home folder, then the environment, which goes before it.
    pub(crate) fn load(home: Option<PathBuf>) -> anyhow::Result<Self> {
        let home = std::path::absolute(home.map_or_else(default_home, Ok)?)?;
        let text = read_text(&home.join(FILE))?;
        Self::parse(home, &text)
    }

    /// What a file with this text would come to, with the environment.
    pub(crate) fn parse(home: PathBuf, text: &str) -> anyhow::Result<Self> {
        let path = home.join(FILE).display().to_string();
        let mut table: toml::Table = text.parse().with_context(|| path.clone())?;
        fields::check_names(&table).with_context(|| path.clone())?;
        let variables = std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
        fields::apply_environment(&mut table, &OTHER_VARIABLES, variables)?;
        let written: FileConfig = table.try_into().with_context(|| format!("{path} or a LARDER_ variable"))?;
        Self::compose(home, written).with_context(|| path)
    }

    fn compose(home: PathBuf, written: FileConfig) -> anyhow::Result<Self> {
        let FileConfig { store, origin, jobs, peers, api, markets } = written;
        let stall = Duration::from_millis(origin.stall_ms.unwrap_or(20_000));
        ensure!(!stall.is_zero(), "origin.stall_ms must be at least 1");
        let mut hub = HubConfig { stall, token: secrets::hub_token(), ..HubConfig::default() };
        hub.endpoint = variable("HF_ENDPOINT").or(origin.hub_endpoint.clone()).unwrap_or(hub.endpoint);
        let private_hosts = origin.private_hosts.clone().unwrap_or_default();
        PrivateHosts::parse(&private_hosts).context("origin.private_hosts")?;
        let key = home.join(peers.key.as_deref().unwrap_or(secrets::KEY_FILE));
        ensure!(key.file_name().is_some() && key != home, "peers.key names no file");
        let markets = market::compose(markets, peers.quic.unwrap_or(true))?;
        let node = NodeConfig {
            engine: engine(&origin)?,
            patience: patience(jobs.patience)?,
            origin_bytes_per_second: cap(origin.bytes_per_second),
            peers: PeersConfig { markets, ..peers_config(&peers)? },
        };
        let api_listen = api_listen(api.listen.as_deref().unwrap_or_default().trim()).context("api.listen")?;
        let api_roots = api_roots(api.roots.as_deref().unwrap_or_default()).context("api.roots")?;
        Ok(Self { store: store_config(&store)?, home, node, key, api_listen, api_roots, hub, private_hosts })
    }

    /// The folder of `api.roots` that a path lies in by its name.
    pub(crate) fn root_of(&self, path: &Path) -> Option<&Path> {
        let goes_up = path.components().any(|part| part == Component::ParentDir);
        self.api_roots.iter().find(|root| !goes_up && path.starts_with(root)).map(PathBuf::as_path)
    }

    /// The configuration file.
    pub(crate) fn path(&self) -> PathBuf {
        self.home.join(FILE)
    }

    /// The text of the configuration file; empty if there is none.
    pub(crate) fn text(&self) -> anyhow::Result<String> {
        read_text(&self.path())
    }

    /// The seed of this node's key, which is made if there is none.
    pub(crate) fn identity(&self) -> anyhow::Result<[u8; 32]> {
        secrets::identity(&self.home, &self.key)
    }

    /// The token of the API, which is made if there is none.
    pub(crate) fn api_token(&self) -> anyhow::Result<Secret> {
        secrets::api_token(&self.home)
    }

    /// What a node in the configured markets works with.
    pub(crate) fn joining(&self) -> anyhow::Result<NodeConfig> {
        let mut node = self.node.clone();
        node.peers.identity = if node.peers.markets.is_empty() { None } else { Some(self.identity()?) };
        Ok(node)
    }

    /// What a node in no market works with.
    pub(crate) fn alone(&self) -> NodeConfig {
        let mut node = self.node.clone();
        node.peers.markets.clear();
        node
    }

    /// Refuses a market that is not configured.
    pub(crate) fn check_market(&self, address: &str) -> anyhow::Result<()> {
        let known = || self.node.peers.markets.iter().map(|market| market.address.as_str());
        if !known().any(|other| other == address) {
            bail!("this node is in no market {address:?}{}", suggestion(address, known()));
        }
        Ok(())
    }

    /// An order with the settings of this configuration.
    pub(crate) fn order(&self, command: NodeCommand) -> Order {
        Order { command, settings: self.origin_settings() }
    }

    /// What origins are asked with.
    pub(crate) fn origin_settings(&self) -> OriginSettings {
        let hub_token = self.hub.token.as_ref().map(|token| token.expose().to_owned());
        let stall_ms = u64::try_from(self.hub.stall.as_millis()).unwrap_or(u64::MAX);
        OriginSettings { hub_endpoint: self.hub.endpoint.clone(), hub_token, stall_ms, private_hosts: self.private_hosts.clone() }
    }
}

/// The name of the configuration file.
const FILE: &str = "config.toml";

fn store_config(written: &StoreFields) -> anyhow::Result<StoreConfig> {
    let hours = |name: &str, hours: u64| {
        ensure!(hours <= MAX_HOURS, "store.{name} must be at most {MAX_HOURS}: ten years");
        Ok(Duration::from_secs(hours * 3600))
    };
    let mut store = StoreConfig { quota_bytes: cap(written.quota_bytes), ..StoreConfig::default() };
    store.free_floor_bytes = written.free_floor_bytes.unwrap_or(store.free_floor_bytes);
    store.keep = written.keep_hours.map_or(Ok(store.keep), |keep| hours("keep_hours", keep))?;
    store.lease = written.lease_hours.map_or(Ok(store.lease), |lease| hours("lease_hours", lease))?;
    Ok(store)
}

fn engine(written: &OriginFields) -> anyhow::Result<EngineConfig> {
    let mut engine = EngineConfig::default();
    engine.reads = written.reads.unwrap_or(engine.reads);
    engine.reads_per_file = written.reads_per_file.unwrap_or(engine.reads_per_file);
    engine.range_chunks = written.range_bytes.map_or(engine.range_chunks, |bytes| bytes / larder_content::CHUNK_BYTES);
    if engine.reads == 0 || engine.reads_per_file == 0 || engine.range_chunks == 0 {
        bail!("origin.reads and origin.reads_per_file must be at least 1, and origin.range_bytes at least 262144");
    }
    Ok(engine)
}

fn peers_config(written: &PeerFields) -> anyhow::Result<PeersConfig> {
    let connections = written.connections.unwrap_or(16);
    ensure!((1..=MAX_CONNECTIONS).contains(&connections), "peers.connections must be 1 to {MAX_CONNECTIONS}");
    Ok(PeersConfig {
        identity: None,
        markets: Vec::new(),
        upload_bytes_per_second: cap(written.upload_bytes_per_second),
        download_bytes_per_second: cap(written.download_bytes_per_second),
        connections,
        quic: written.quic.unwrap_or(true),
    })
}

fn patience(written: Option<f64>) -> anyhow::Result<Patience> {
    match written.unwrap_or(1.5) {
        0.0 => Ok(Patience::Unlimited),
        times => Patience::times(times).context("jobs.patience must be 1 or more, or 0 for no limit"),
    }
}

/// A number of bytes of which 0 means that nothing is set.
fn cap(bytes: Option<u64>) -> Option<u64> {
    bytes.filter(|bytes| *bytes > 0)
}

fn api_listen(text: &str) -> anyhow::Result<Option<SocketAddr>> {
    if text.is_empty() {
        return Ok(None);
    }
    let local = text.strip_prefix("localhost:").and_then(|port| Some(SocketAddr::from((Ipv4Addr::LOCALHOST, port.parse().ok()?))));
    let address = local.or_else(|| text.parse().ok());
    let address = address.with_context(|| format!("{text:?} is no address with a port: write 127.0.0.1:7070"))?;
    ensure!(
        address.ip().is_loopback(),
        "{address} is no loopback address: whoever reaches the API commands this node, so it listens on this machine alone"
    );
    Ok(Some(address))
}

fn api_roots(text: &str) -> anyhow::Result<Vec<PathBuf>> {
    let roots: Vec<PathBuf> = text.split(',').map(str::trim).filter(|root| !root.is_empty()).map(PathBuf::from).collect();
    let is_plain = |root: &&PathBuf| root.is_absolute() && !root.components().any(|part| part == Component::ParentDir);
    if let Some(wrong) = roots.iter().find(|root| !is_plain(root)) {
        bail!("{wrong:?} is not written from the root, without `..`: write \"/srv/jobs, /data\"");
    }
    Ok(roots)
}

fn default_home() -> anyhow::Result<PathBuf> {
    let base = variable("XDG_DATA_HOME").map(PathBuf::from).or_else(|| Some(PathBuf::from(variable("HOME")?).join(".local/share")));
    Ok(base.context("neither LARDER_HOME nor HOME is set: say --home DIR")?.join("larder"))
}

fn read_text(path: &Path) -> anyhow::Result<String> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(text),
        // A home that is no folder is what the store tells of.
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(String::new()),
        Err(error) => Err(error).with_context(|| path.display().to_string()),
    }
}

/// A variable that is set to more than space.
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.trim().is_empty())
}

#[cfg(test)]
mod tests;
