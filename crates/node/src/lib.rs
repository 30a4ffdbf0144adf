//! Takes a job from its definition to its targets.
//!
//! One direction, each step in a file of its own: a definition becomes a `Goal`, its resources are resolved
//! to listings, what is at home is taken from the store, the rest is fetched under the engine's
//! direction, and the files are laid under a lease. [`Report`] says what came from where.
//!
//! Invariants: every file in a target was proven by the store against what the origin listed, or is reported as proven by
//! nothing; two jobs that want the same file share one fetch; private content is handed out only after it was read with the
//! job's own credentials.

mod error;
mod fetch;
mod goal;
mod home;
mod lay;
mod market;
mod pace;
mod plan;
mod prepare;
mod progress;
mod read;
mod report;
mod resolve;
mod settings;
mod status;

use std::sync::Arc;

use larder_origin::Origins;
use larder_store::Store;

pub use error::NodeError;
pub use goal::{Prepare, Pull, PullKeys};
pub use larder_engine::Config as EngineConfig;
pub use plan::{PlanReport, plan};
pub use progress::{Phase, Progress, ResourceProgress};
pub use report::{MountReport, Report, ResourceReport, Sources, Totals};
pub use settings::{MarketSettings, NodeConfig, Patience, PeersConfig, new_seed, peer_id, solana_seed};
pub use status::{Ledger, MarketStatus, PeerStatus, Status};

/// A node: a store, and what fetches into it. Cheap to clone; all clones share their fetches.
#[derive(Clone)]
pub struct Node {
    store: Store,
    fetcher: fetch::Fetcher,
    places: Arc<lay::Places>,
    markets: market::Markets,
    pace: Option<Arc<pace::Pace>>,
    patience: Patience,
    seed: Option<[u8; 32]>,
    started: std::time::Instant,
}

impl Node {
    /// A node on `store`. Must be called inside a tokio runtime; it works until the last clone is dropped.
    ///
    /// # Errors
    /// If a market cannot be joined: says which, and what is wrong.
    pub async fn start(store: Store, config: NodeConfig) -> Result<Self, NodeError> {
        let (markets, events) = market::Markets::join(&store, &config.peers).await?;
        let fetcher = fetch::Fetcher::start(store.clone(), config.engine, &markets, events);
        let pace = config.origin_bytes_per_second.map(|rate| Arc::new(pace::Pace::new(rate)));
        let (patience, seed) = (config.patience, config.peers.identity);
        Ok(Self { store, fetcher, places: Arc::default(), markets, pace, patience, seed, started: std::time::Instant::now() })
    }

    /// Says goodbye to the markets; takes 2 s at most.
    pub async fn stop(&self) {
        self.markets.stop().await;
    }

    /// What it tells of itself.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn status(&self) -> Result<Status, NodeError> {
        status::of(self).await
    }

    /// The store it keeps its files in.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Gets everything a job definition asks for, lays it, and takes a lease on it.
    ///
    /// # Errors
    /// Says what is wrong, where, and what to do. What was fetched by then is kept.
    pub async fn prepare(&self, origins: Arc<Origins>, request: &Prepare, progress: &Progress) -> Result<Report, NodeError> {
        let goal = goal::of_job(request, &origins)?;
        prepare::Pipeline::new(self, origins, progress, &goal)?.run(goal).await
    }

    /// Gets one resource.
    ///
    /// # Errors
    /// As for [`Node::prepare`].
    pub async fn pull(&self, origins: Arc<Origins>, request: &Pull, progress: &Progress) -> Result<Report, NodeError> {
        let goal = goal::of_pull(request, &origins)?;
        prepare::Pipeline::new(self, origins, progress, &goal)?.run(goal).await
    }

    /// As [`Node::blocking`] for work that takes back what was laid: it waits until nothing is being laid.
    ///
    /// # Errors
    /// As [`Node::blocking`].
    pub async fn taking_back<T, E>(&self, work: impl FnOnce(&Store) -> Result<T, E> + Send + 'static) -> Result<T, NodeError>
    where
        T: Send + 'static,
        E: Into<NodeError> + Send + 'static,
    {
        let places = self.places.clone();
        self.blocking(move |store| places.undisturbed(|| work(store))).await
    }

    /// Runs `work`, which blocks, beside the asynchronous tasks.
    ///
    /// # Errors
    /// Those of `work`, or that it panicked.
    pub async fn blocking<T, E>(&self, work: impl FnOnce(&Store) -> Result<T, E> + Send + 'static) -> Result<T, NodeError>
    where
        T: Send + 'static,
        E: Into<NodeError> + Send + 'static,
    {
        let store = self.store.clone();
        match tokio::task::spawn_blocking(move || work(&store)).await {
            Ok(result) => result.map_err(Into::into),
            // Only a process that ends cancels it, and with it whoever waits.
            Err(ended) if ended.is_cancelled() => std::future::pending().await,
            Err(panic) => Err(NodeError::Defect(panic.to_string())),
        }
    }
}
