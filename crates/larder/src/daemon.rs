//! `larder run`: a node that holds the store, in the foreground, until a signal.
//!
//! After the signal it ends within [`CLOSING`]: what is as good as done is done, all else is cut off as by a crash, which
//! loses nothing that was recorded.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use larder_content::Secret;
use larder_node::{Node, NodeConfig, Status};
use larder_store::{Store, StoreError};
use tokio::net::{TcpListener, UnixListener};
use tokio_util::sync::CancellationToken;

use crate::api::{self, Api, Orders};
use crate::config::Config;
use crate::session;
use crate::signals;
use crate::socket;
use crate::terminal::remark;

/// How long a command that holds the store may take to end.
const HOLDER_ENDS: Duration = Duration::from_secs(2);
/// How often it is tried meanwhile.
const TRY_EVERY: Duration = Duration::from_millis(50);
/// How long what is under way may take to end.
const FINISHING: Duration = Duration::from_secs(3);
/// How long all of the end may take.
const CLOSING: Duration = Duration::from_millis(4500);
/// How often it is looked whether the node is ready.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// How long it may take to be ready before a warning.
const READY_WITHIN: Duration = Duration::from_secs(10);

/// What the node is to work with.
///
/// # Errors
/// It cannot be a bootstrap node, or its key cannot be read.
pub(crate) fn plan(config: &Config, bootstrap: bool) -> anyhow::Result<NodeConfig> {
    let mut node = config.joining()?;
    if bootstrap {
        let markets = &mut node.peers.markets;
        ensure!(!markets.is_empty(), "--bootstrap needs a market: `larder init --market ADDRESS` adds one");
        for market in markets {
            ensure!(
                !market.listen.is_empty(),
                "--bootstrap needs an address at which others find this node: set listen of {}",
                market.address
            );
            market.is_bootstrap = true;
        }
    }
    Ok(node)
}

/// Runs the node until a signal.
///
/// # Errors
/// It cannot start, or the API broke.
pub(crate) async fn run(config: Arc<Config>, node: NodeConfig) -> anyhow::Result<()> {
    // One for all of the start and the work: a signal that came between two would be lost.
    let mut asked = std::pin::pin!(signals::ending());
    let started = tokio::select! {
        started = start(config, node) => started?,
        // As by a crash, which loses nothing.
        () = &mut asked => return Ok(()),
    };
    work(started, asked).await
}

/// A node that has started, and where its API is.
struct Started {
    socket: UnixListener,
    tcp: Option<(TcpListener, Secret)>,
    api: Api,
    node: Node,
    ending: CancellationToken,
}

async fn start(config: Arc<Config>, node: NodeConfig) -> anyhow::Result<Started> {
    let store = open(&config).await?;
    let tcp = match config.api_listen {
        None => None,
        Some(address) => {
            let listener = TcpListener::bind(address).await.with_context(|| format!("api.listen: {address}"))?;
            Some((listener, config.api_token()?))
        }
    };
    let node = Node::start(store, node).await?;
    let ending = CancellationToken::new();
    let orders = Orders { node: node.clone(), ending: ending.clone() };
    let socket = socket::listen(&config.home)?;
    if let Some((listener, _)) = &tcp {
        remark([format!("larder: the API is at http://{}", listener.local_addr()?)]);
    }
    Ok(Started { socket, tcp, api: Api::new(config, orders), node, ending })
}

/// Serves until it is asked to end, and ends.
async fn work(started: Started, asked: impl Future<Output = ()>) -> anyhow::Result<()> {
    let Started { socket, tcp, api, node, ending } = started;
    // However this ends, others hear of it.
    let _ended = ending.clone().drop_guard();
    let mut served = std::pin::pin!(api::serve(socket, tcp, api.clone()));
    let broke = tokio::select! {
        end = &mut served => Some(end),
        () = announce(&api) => None,
        () = asked => None,
    };
    ending.cancel();
    if let Some(end) = broke {
        end.context("the API")?;
        bail!("the API ended");
    }
    let finished = async {
        let settle = async { tokio::join!(served, api.jobs().settled(), node.stop()) };
        let _ = tokio::time::timeout(FINISHING, settle).await;
        if let Err(error) = node.taking_back(Store::flush).await {
            tracing::warn!(%error, "the last moments may have to be done again");
        }
    };
    tokio::select! {
        _ = tokio::time::timeout(CLOSING, finished) => {}
        // Asked a second time.
        () = signals::ending() => {}
    }
    // The process ends now. To close the store is to sync it, and the end would wait for that.
    std::mem::forget(node);
    Ok(())
}

/// Opens the store, which a command may hold for some moments more.
async fn open(config: &Config) -> anyhow::Result<Store> {
    let asked_since = Instant::now();
    loop {
        match session::open(config).await {
            Ok(store) => return Ok(store),
            Err(StoreError::InUse { .. }) if asked_since.elapsed() < HOLDER_ENDS => tokio::time::sleep(TRY_EVERY).await,
            Err(error) => return Err(error.into()),
        }
    }
}

/// Says once when the node is ready. Never ends.
async fn announce(api: &Api) {
    let (started, mut warned) = (Instant::now(), false);
    let status = loop {
        match api.ready().await {
            Ok(status) => break status,
            Err(reason) if !warned && started.elapsed() > READY_WITHIN => {
                tracing::warn!("the node is not ready: {reason}");
                warned = true;
            }
            Err(_) => {}
        }
        tokio::time::sleep(LOOK_EVERY).await;
    };
    remark([ready_line(&status)]);
    std::future::pending().await
}

fn ready_line(status: &Status) -> String {
    if status.markets.is_empty() {
        return "larder: ready, in no market".to_owned();
    }
    let listen: Vec<&str> = status.markets.iter().flat_map(|market| market.listen.iter().map(String::as_str)).collect();
    let listen = if listen.is_empty() { "nothing".to_owned() } else { listen.join(", ") };
    format!("larder: ready, {}, listening on {listen}", status.id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use larder_node::MarketStatus;

    #[test]
    fn the_line_of_a_node_that_is_ready_names_it_and_where_it_listens() {
        let market =
            |listen: &[&str]| MarketStatus { listen: listen.iter().map(|text| (*text).into()).collect(), ..MarketStatus::default() };
        let of = |markets| ready_line(&Status { id: "12D3".into(), markets, ..Status::default() });
        assert_eq!(of(vec![market(&["/a", "/b"]), market(&["/c"])]), "larder: ready, 12D3, listening on /a, /b, /c");
        assert_eq!(of(vec![market(&[])]), "larder: ready, 12D3, listening on nothing");
        assert_eq!(of(Vec::new()), "larder: ready, in no market");
    }

    #[test]
    fn a_bootstrap_node_is_in_a_market_and_listens() {
        let folder = tempfile::tempdir().unwrap();
        let of = |text: &str| plan(&Config::parse(folder.path().to_owned(), text).unwrap(), true);
        let message = |text: &str| of(text).err().map(|error| error.to_string()).unwrap_or_default();
        assert!(message("").contains("needs a market"));
        let peer = "12D3KooWBmAwcd4PJNJvfV89HwE48nwkRmAgo8Vy3uQEyNNHBox2";
        assert!(message(&format!("[markets.a]\nbootstrap = [\"/ip4/127.0.0.1/tcp/1/p2p/{peer}\"]")).contains("set listen of a"));
        let node = of("[markets.a]\nlisten = [\"/ip4/127.0.0.1/tcp/0\"]").unwrap();
        assert!(node.peers.markets[0].is_bootstrap && node.peers.identity.is_some());
    }
}
