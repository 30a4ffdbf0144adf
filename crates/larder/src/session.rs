//! Runs a command on the store: in this process if the store is free, else in the one that holds it.

use std::path::Path;
use std::time::{Duration, Instant};

use futures::StreamExt;
use larder_node::{Node, Progress};
use larder_store::{Store, StoreError};
use tokio_util::sync::CancellationToken;

use crate::api::{self, Orders};
use crate::command::{Order, Telling, execute};
use crate::config::Config;
use crate::socket::{self, Joined};

/// How long a command that is done finishes what it lays for others.
const FINISHING: Duration = Duration::from_secs(10);
/// How long a command that is done takes leave of its markets: nobody is to wait for that.
const LEAVING: Duration = Duration::from_millis(500);
/// How long a process that holds the store may take to answer: it may just be starting, or [finishing](FINISHING).
const HOLDER_ANSWERS: Duration = Duration::from_secs(12);
/// How often it is asked meanwhile.
const ASK_EVERY: Duration = Duration::from_millis(50);

/// Carries out an order, and passes on all that is told, the last of it `Done` or `Failed`.
///
/// The first command on a store opens it and serves others while it runs; one that comes later has the first carry it out,
/// and goes on by itself when the first has ended.
pub(crate) async fn run(config: &Config, order: Order, mut tell: impl FnMut(Telling)) {
    let failed = |message: String| Telling::Failed { message, wrong_input: false };
    let held = |holder: &str, fault: &str| failed(format!("the store {} is held by {holder}, which {fault}", config.home.display()));
    let mut asked_since = Instant::now();
    let mut dropped_by = None;
    loop {
        let holder = match open(config).await {
            Ok(store) => return own(config, store, order, tell).await,
            Err(StoreError::InUse { holder, .. }) => holder,
            Err(error) => return tell(failed(error.to_string())),
        };
        match socket::join(&config.home, &order, &mut tell).await {
            Joined::Answered => return,
            Joined::NotUnderstood => return tell(held(&holder, "is of another version of Larder: wait for it, or end it")),
            // A process that ends leaves the store to others. One that stays would drop the order again and again.
            Joined::Ended if dropped_by.as_ref() == Some(&holder) => {
                return tell(held(&holder, "drops this command without a result: see what it wrote, and end it"));
            }
            Joined::Ended => (dropped_by, asked_since) = (Some(holder), Instant::now()),
            Joined::Nobody if asked_since.elapsed() > HOLDER_ANSWERS => {
                return tell(held(&holder, "does not answer: end it, or wait for it"));
            }
            Joined::Nobody => {}
        }
        tokio::time::sleep(ASK_EVERY).await;
    }
}

/// Opens the store, in the name of this command, and says what had to be repaired.
///
/// # Errors
/// As [`Store::open`].
pub(crate) async fn open(config: &Config) -> Result<Store, StoreError> {
    let (home, settings) = (config.home.clone(), config.store.clone());
    let words = std::env::args_os().take(2).map(|word| word.to_string_lossy().into_owned());
    let holder = words.collect::<Vec<_>>().join(" ");
    let opened = tokio::task::spawn_blocking(move || Store::open(&home, settings, &holder)).await;
    let store = opened.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))?;
    if !store.recovery().is_nothing() {
        tracing::warn!(home = %config.home.display(), "the store was repaired: {}", store.recovery());
    }
    Ok(store)
}

async fn own(config: &Config, store: Store, order: Order, mut tell: impl FnMut(Telling)) {
    let failed = |message: String| Telling::Failed { message, wrong_input: false };
    // What takes moments needs no peers.
    let settings = if order.command.is_brief() { Ok(config.alone()) } else { config.joining() };
    let settings = match settings {
        Ok(settings) => settings,
        Err(error) => return tell(failed(format!("{error:#}"))),
    };
    let node = match Node::start(store, settings).await {
        Ok(node) => node,
        Err(error) => return tell(failed(error.to_string())),
    };
    let ending = CancellationToken::new();
    // However this ends, others hear of it.
    let _ended = ending.clone().drop_guard();
    let (kept, served) = (node.clone(), serve(&config.home, Orders { node: node.clone(), ending: ending.clone() }));
    let progress = Progress::default();
    let watched = progress.clone();
    let work = async move { execute(&node, order, &progress).await };
    let ours = async {
        let mut tellings = std::pin::pin!(api::tell(work, watched));
        while let Some(telling) = tellings.next().await {
            tell(telling);
        }
    };
    tokio::pin!(served);
    tokio::select! {
        () = ours => {}
        () = &mut served => {}
    }
    ending.cancel();
    let finished = async {
        // What is being laid for others belongs to leases that they are to be told of. Peers hear that this node goes.
        let _ = tokio::join!(served, tokio::time::timeout(LEAVING, kept.stop()));
        // The process may end then: what no sync has covered yet is hashed again if the power fails before the disk has it.
        if let Err(error) = kept.taking_back(Store::flush).await {
            tracing::warn!(%error, "the last moments may have to be done again");
        }
    };
    // What takes longer is cut off, as by a crash.
    let _ = tokio::time::timeout(FINISHING, finished).await;
    // The process ends now. To close the store is to sync it, and the end would wait for that.
    std::mem::forget(kept);
}

/// Serves the socket until `ending`. Without it others must wait, but this command need not.
async fn serve(home: &Path, orders: Orders) {
    let ending = orders.ending.clone();
    let served = async { api::serve_orders(socket::listen(home)?, orders).await };
    if let Err(error) = served.await {
        tracing::warn!(%error, "other commands cannot join this one");
        ending.cancelled().await;
    }
}
