//! Runs a command on the store: in this process if the store is free, else in the one that holds it.

use std::path::Path;
use std::time::{Duration, Instant};

use futures::StreamExt;
use larder_node::{Node, Progress};
use larder_store::{Store, StoreError};

use crate::api;
use crate::command::{Order, Telling, execute};
use crate::config::Config;

/// How long a process that holds the store may take to answer: it may just be starting, or ending.
const HOLDER_ANSWERS: Duration = Duration::from_secs(5);
/// How often it is asked meanwhile.
const ASK_EVERY: Duration = Duration::from_millis(50);

/// Carries out an order, and passes on all that is told, the last of it `Done` or `Failed`.
///
/// The first command on a store opens it and serves others while it runs; one that comes later has the first carry it out,
/// and goes on by itself when the first has ended.
pub(crate) async fn run(config: &Config, order: Order, mut tell: impl FnMut(Telling)) {
    let mut asked_since = Instant::now();
    loop {
        let holder = match open(config).await {
            Ok(store) => return own(config, store, order, tell).await,
            Err(StoreError::InUse { holder, .. }) => holder,
            Err(error) => return tell(Telling::Failed { message: error.to_string(), wrong_input: false }),
        };
        if let Ok(mut tellings) = api::order(&config.home, &order).await.map(Box::pin) {
            while let Some(telling) = tellings.next().await {
                let last = !matches!(telling, Telling::Progress(_));
                tell(telling);
                if last {
                    return;
                }
            }
            asked_since = Instant::now();
        }
        if asked_since.elapsed() > HOLDER_ANSWERS {
            let message = format!("the store {} is held by {holder}, which does not answer: end it, or wait for it", config.home.display());
            return tell(Telling::Failed { message, wrong_input: false });
        }
        tokio::time::sleep(ASK_EVERY).await;
    }
}

async fn open(config: &Config) -> Result<Store, StoreError> {
    let (home, settings) = (config.home.clone(), config.store.clone());
    let holder = std::env::args().take(2).collect::<Vec<_>>().join(" ");
    let opened = tokio::task::spawn_blocking(move || Store::open(&home, settings, &holder)).await;
    opened.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
}

async fn own(config: &Config, store: Store, order: Order, mut tell: impl FnMut(Telling)) {
    if !store.recovery().is_nothing() {
        tracing::warn!(home = %config.home.display(), "the store was repaired: {}", store.recovery());
    }
    let node = Node::start(store, config.engine.clone());
    let (kept, served) = (node.clone(), serve(&config.home, node.clone()));
    let progress = Progress::default();
    let watched = progress.clone();
    let work = async move { execute(&node, order, &progress).await };
    let mut tellings = std::pin::pin!(api::tell(work, watched));
    tokio::pin!(served);
    loop {
        tokio::select! {
            telling = tellings.next() => match telling {
                Some(telling) => tell(telling),
                None => break,
            },
            () = &mut served => {}
        }
    }
    // The process may end now: what no sync has covered yet is hashed again if the power fails before the disk has it.
    if let Err(error) = kept.blocking(larder_store::Store::flush).await {
        tracing::warn!(%error, "the last moments may have to be done again");
    }
}

/// Serves the socket for as long as this is polled. Without it others must wait, but this command need not.
async fn serve(home: &Path, node: Node) {
    if let Err(error) = api::serve(home, node).await {
        tracing::warn!(%error, "other commands cannot join this one");
    }
    std::future::pending().await
}
