//! What a node can be told to do, and what it answers: the same whether it runs here or in another process.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use larder_content::Secret;
use larder_node::{Node, NodeError, Prepare, Progress, Pull, Report, ResourceProgress, Status};
use larder_origin::{BucketConfig, HubConfig, OriginError, Origins, PrivateHosts};
use larder_store::StoreError;
use serde::{Deserialize, Serialize};

/// A command with the settings of whoever gave it.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) command: NodeCommand,
    pub(crate) settings: OriginSettings,
}

/// What origins are asked with.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct OriginSettings {
    /// The hub to ask.
    pub(crate) hub_endpoint: String,
    /// The hub's token. It travels in the store's own socket only, which none but its owner can open.
    pub(crate) hub_token: Option<String>,
    /// Milliseconds that an origin may send nothing.
    pub(crate) stall_ms: u64,
    /// The hosts that may be asked although their addresses are not public.
    pub(crate) private_hosts: String,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum NodeCommand {
    Prepare(Prepare),
    Pull(Pull),
    Status,
    Resources,
    Verify,
    Gc { all: bool },
    Release { lease: String },
}

impl NodeCommand {
    /// Whether it takes moments, and is not to be done twice.
    pub(crate) fn is_brief(&self) -> bool {
        match self {
            Self::Status | Self::Resources | Self::Gc { .. } | Self::Release { .. } => true,
            Self::Prepare(_) | Self::Pull(_) | Self::Verify => false,
        }
    }
}

/// What is told while a command runs; the last is `Done` or `Failed`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Telling {
    Progress(Vec<ResourceProgress>),
    Done(Box<Outcome>),
    Failed { message: String, wrong_input: bool },
}

/// What came of a command.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Outcome {
    Ready(Report),
    Status(Status),
    Resources(Inventory),
    Verified(Verified),
    Collected(Collected),
    Released(Released),
}

/// What `larder resources` prints.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Inventory {
    pub(crate) resources: Vec<InventoryResource>,
    pub(crate) leases: Vec<InventoryLease>,
    pub(crate) blob_bytes: u64,
    pub(crate) partial_bytes: u64,
    pub(crate) quota_bytes: u64,
    pub(crate) free_bytes: u64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct InventoryResource {
    pub(crate) id: String,
    pub(crate) files: u64,
    pub(crate) bytes: u64,
    /// Seconds since 1970.
    pub(crate) used: u64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct InventoryLease {
    pub(crate) lease: String,
    pub(crate) job: String,
    /// Seconds since 1970.
    pub(crate) expires: u64,
    pub(crate) trees: Vec<String>,
}

/// What `larder verify` prints.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Verified {
    pub(crate) files: u64,
    pub(crate) bytes: u64,
    /// What was damaged, and is now removed.
    pub(crate) damaged: Vec<String>,
    /// Files that are still coming.
    pub(crate) partial_files: u64,
    /// Bytes of them that are recorded.
    pub(crate) partial_bytes: u64,
}

/// What `larder gc` prints.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Collected {
    pub(crate) files: u64,
    pub(crate) bytes: u64,
    pub(crate) leases: Vec<String>,
}

/// What `larder release` prints.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Released {
    pub(crate) lease: String,
    pub(crate) files: u64,
    pub(crate) trees: u64,
}

/// Carries out a command.
pub(crate) async fn execute(node: &Node, order: Order, progress: &Progress) -> Telling {
    match carry_out(node, order, progress).await {
        Ok(outcome) => Telling::Done(Box::new(outcome)),
        Err(error) => Telling::Failed { wrong_input: error.is_wrong_input(), message: error.to_string() },
    }
}

async fn carry_out(node: &Node, order: Order, progress: &Progress) -> Result<Outcome, NodeError> {
    match &order.command {
        NodeCommand::Prepare(request) => Ok(Outcome::Ready(node.prepare(order.settings.origins(None)?, request, progress).await?)),
        NodeCommand::Pull(request) => {
            let origins = order.settings.origins(Some(&request.resource))?;
            Ok(Outcome::Ready(node.pull(origins, request, progress).await?))
        }
        NodeCommand::Status => node.status().await.map(Outcome::Status),
        NodeCommand::Resources => node.blocking(inventory).await.map(Outcome::Resources),
        NodeCommand::Verify => node.blocking(verify).await.map(Outcome::Verified),
        NodeCommand::Gc { all } => {
            let all = *all;
            node.taking_back(move |store| collect(store, all)).await.map(Outcome::Collected)
        }
        NodeCommand::Release { lease } => {
            let id = lease.clone();
            let released = node.taking_back(move |store| store.release(&id, SystemTime::now())).await?;
            let released = released.ok_or_else(|| NodeError::Input(format!("there is no lease {lease}: `larder resources` lists them")))?;
            Ok(Outcome::Released(Released { lease: lease.clone(), files: released.files, trees: released.trees }))
        }
    }
}

impl Order {
    /// Another command with the same settings.
    pub(crate) fn with(&self, command: NodeCommand) -> Self {
        Self { command, settings: self.settings.clone() }
    }
}

impl OriginSettings {
    /// The origins. The host of `own`, which no stranger wrote, may be a private one.
    pub(crate) fn origins(&self, own: Option<&str>) -> Result<Arc<Origins>, NodeError> {
        let input = |error: OriginError| NodeError::Input(error.to_string());
        let stall = Duration::from_millis(self.stall_ms);
        let mut private_hosts = PrivateHosts::parse(&self.private_hosts).map_err(input)?;
        if let Some(own) = own {
            private_hosts = private_hosts.with_host_of(own.trim());
        }
        let (endpoint, token) = (self.hub_endpoint.clone(), self.hub_token.clone().map(Secret::new));
        let hub = HubConfig { endpoint, token, stall, private_hosts: private_hosts.clone() };
        let bucket = BucketConfig { stall, private_hosts, ..BucketConfig::default() };
        Origins::new(hub, bucket).map(Arc::new).map_err(input)
    }
}

fn inventory(store: &larder_store::Store) -> Result<Inventory, StoreError> {
    let space = store.space()?;
    let mut resources: Vec<InventoryResource> = store
        .resources()?
        .into_iter()
        .map(|known| InventoryResource { id: known.id, files: known.files, bytes: known.bytes, used: seconds(known.used) })
        .collect();
    resources.sort_by(|a, b| b.used.cmp(&a.used).then_with(|| a.id.cmp(&b.id)));
    let leases = store.leases().into_iter().map(|lease| InventoryLease {
        lease: lease.id,
        job: lease.job,
        expires: seconds(lease.expires),
        trees: lease.trees.iter().map(|tree| tree.path.display().to_string()).collect(),
    });
    Ok(Inventory {
        resources,
        leases: leases.collect(),
        blob_bytes: space.blob_bytes,
        partial_bytes: space.partial_bytes,
        quota_bytes: space.quota_bytes,
        free_bytes: space.free_bytes,
    })
}

fn verify(store: &larder_store::Store) -> Result<Verified, StoreError> {
    let report = store.verify()?;
    let damaged = report.damaged.iter().map(|path| path.display().to_string()).collect();
    Ok(Verified {
        files: report.blobs,
        bytes: report.blob_bytes,
        damaged,
        partial_files: report.partials,
        partial_bytes: report.partial_bytes,
    })
}

fn collect(store: &larder_store::Store, all: bool) -> Result<Collected, StoreError> {
    let report = store.gc(SystemTime::now(), all)?;
    let leases = report.released.iter().map(|released| released.lease.id.clone()).collect();
    Ok(Collected { files: report.blobs, bytes: report.blob_bytes, leases })
}

/// Seconds since 1970.
pub(crate) fn seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
