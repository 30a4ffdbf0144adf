//! The markets that a node is in.

use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, SystemTime};

use larder_content::{CHUNK_BYTES, Holding, NodeId, Subject};
use larder_engine::MarketId;
use larder_peers::{Config, Event, Identity, Market, MarketConfig, decode_book};
use larder_store::{Store, StoreError};
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use crate::NodeError;
use crate::settings::{MarketSettings, PeersConfig};

/// Files from this size on are spoken of one by one; smaller ones are found through their resource.
pub(crate) const SPOKEN_OF_BYTES: u64 = 32 * CHUNK_BYTES;
/// What happened in the markets and was not taken yet.
const EVENTS: usize = 1024;
/// When a node that runs ends what an earlier run began: a command is over by then.
const CATCH_UP_AFTER: Duration = Duration::from_secs(10);
/// How often what is held is announced anew: well before an announcement runs out, after a day.
const RENEW_EVERY: Duration = Duration::from_secs(11 * 3600);
/// How long the markets may take to end.
const STOP: Duration = Duration::from_secs(2);

/// Something that happened in a market.
pub(crate) type MarketEvent = (MarketId, Event);

/// The markets that a node is in, by number; cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Markets(Arc<Joined>);

#[derive(Debug, Default)]
struct Joined {
    markets: Vec<Market>,
    announcing: OnceLock<AbortOnDropHandle<()>>,
}

impl Markets {
    /// Joins all markets.
    ///
    /// # Errors
    /// Names the market and the address that is wrong.
    pub(crate) async fn join(store: &Store, config: &PeersConfig) -> Result<(Self, mpsc::Receiver<MarketEvent>), NodeError> {
        let (sender, events) = mpsc::channel(EVENTS);
        let mut markets = Vec::new();
        let Some(seed) = config.identity.filter(|_| !config.markets.is_empty()) else { return Ok((Self::default(), events)) };
        let identity = Identity::from_seed(seed);
        let from = store.clone();
        let held = tokio::task::spawn_blocking(move || held(&from)).await.map_err(|panic| NodeError::Defect(panic.to_string()))??;
        for (number, settings) in (0..).zip(&config.markets) {
            let input = |error: String| NodeError::Input(format!("market {}: {error}", settings.address));
            let (address, from) = (settings.address.clone(), store.clone());
            let book = tokio::task::spawn_blocking(move || from.peers(&address)).await;
            let book = book.map_err(|panic| NodeError::Defect(panic.to_string()))??;
            // A book of another version is of no use, and no loss: the bootstraps know all.
            let known = book.and_then(|book| decode_book(&book, SystemTime::now()).ok()).unwrap_or_default();
            let started = Market::start(&identity, read(settings).map_err(input)?, limits(config), known, held.clone()).await;
            let (market, mut happened) = started.map_err(|error| input(error.to_string()))?;
            markets.push(market);
            let sender = sender.clone();
            tokio::spawn(async move {
                while let Some(event) = happened.recv().await {
                    if sender.send((MarketId(number), event)).await.is_err() {
                        return;
                    }
                }
            });
        }
        let joined = Arc::new(Joined { markets, announcing: OnceLock::new() });
        let announcing = tokio::spawn(announce_all(Arc::downgrade(&joined), store.clone()));
        let _ = joined.announcing.set(AbortOnDropHandle::new(announcing));
        Ok((Self(joined), events))
    }

    pub(crate) fn get(&self, id: MarketId) -> Option<&Market> {
        self.0.markets.get(usize::try_from(id.0).ok()?)
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = (MarketId, &Market)> {
        (0..).map(MarketId).zip(self.0.markets.iter())
    }

    /// The market that a job asks for, or the first.
    ///
    /// # Errors
    /// Says which markets there are.
    pub(crate) fn named(&self, name: Option<&str>) -> Result<Option<MarketId>, NodeError> {
        let Some(name) = name else { return Ok(self.all().next().map(|(id, _)| id)) };
        let found = self.all().find(|(_, market)| market.address() == name).map(|(id, _)| id);
        let known = || self.all().map(|(_, market)| market.address().to_owned()).collect::<Vec<_>>().join(", ");
        found.map(Some).ok_or_else(|| NodeError::Input(format!("this node is not in the market {name}; it is in: {}", known())))
    }

    /// Announces something in every market: all of them share the store.
    pub(crate) fn announce(&self, subject: Subject, holding: Holding) {
        self.0.markets.iter().for_each(|market| market.announce(subject, holding));
    }

    /// Says goodbye everywhere.
    pub(crate) async fn stop(&self) {
        let stops = self.0.markets.iter().cloned().map(Market::stop);
        let _ = tokio::time::timeout(STOP, futures::future::join_all(stops)).await;
    }
}

/// Announces in every market what the store holds for all to have, before what was announced at the start runs out.
async fn announce_all(markets: Weak<Joined>, store: Store) {
    tokio::time::sleep(CATCH_UP_AFTER).await;
    catch_up(&markets, store.clone()).await;
    loop {
        tokio::time::sleep(RENEW_EVERY).await;
        let from = store.clone();
        let held = tokio::task::spawn_blocking(move || held(&from)).await;
        let Some(markets) = markets.upgrade().map(Markets) else { return };
        match held {
            Ok(Ok(subjects)) => subjects.into_iter().for_each(|subject| markets.announce(subject, Holding::Complete)),
            Ok(Err(error)) => tracing::warn!(%error, "what the store holds is not announced"),
            Err(panic) => tracing::error!(%panic, "what the store holds is not announced"),
        }
        drop(markets);
    }
}

/// Does what an earlier run of the node did not come to, and tells of what others can have since.
async fn catch_up(markets: &Weak<Joined>, store: Store) {
    match tokio::task::spawn_blocking(move || store.catch_up()).await {
        Ok(Ok(bound)) => {
            let markets = markets.upgrade().map(Markets);
            let subjects = bound.into_iter().map(Subject::from);
            markets.into_iter().for_each(|markets| subjects.clone().for_each(|subject| markets.announce(subject, Holding::Complete)));
        }
        Ok(Err(error)) => tracing::warn!(%error, "what was begun in an earlier run is not ended"),
        Err(panic) => tracing::error!(%panic, "what was begun in an earlier run is not ended"),
    }
}

/// What the store holds for all to have.
fn held(store: &Store) -> Result<Vec<Subject>, StoreError> {
    let resources = store.public_resources()?;
    let files = store.public_files(SPOKEN_OF_BYTES)?;
    let of_resources = resources.iter().map(|resource| Subject::of_resource(&resource.id));
    Ok(of_resources.chain(files.into_iter().map(|(key, _)| Subject::from(key))).collect())
}

fn read(settings: &MarketSettings) -> Result<MarketConfig, String> {
    let MarketSettings { address, listen, bootstrap, allow, is_bootstrap } = settings.clone();
    let node = |text: String| NodeId::parse(&text).ok_or_else(|| format!("{text} is no peer id: write it as `larder id` prints it"));
    let allow = allow.into_iter().map(node).collect::<Result<_, _>>()?;
    Ok(MarketConfig { address, listen, bootstrap, allow, is_bootstrap })
}

fn limits(config: &PeersConfig) -> Config {
    let default = Config::default();
    Config {
        connections: if config.connections == 0 { default.connections } else { config.connections },
        upload_bytes_per_second: config.upload_bytes_per_second,
        download_bytes_per_second: config.download_bytes_per_second,
        quic: config.quic,
        ..default
    }
}
