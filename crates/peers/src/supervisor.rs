//! Starts a market's loop, and starts it again when it dies: a bug or a trick in one protocol must not end the node.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use libp2p::Multiaddr;
use tokio::sync::{Mutex, mpsc};
use tokio::time::{Instant, sleep, timeout};

use crate::config::StartError;
use crate::shared::{Command, Shared, lock};
use crate::swarm::EventLoop;

/// The first wait before a restart; it doubles while the loop dies young.
const FIRST_WAIT: Duration = Duration::from_millis(100);
/// The longest wait.
const LONGEST_WAIT: Duration = Duration::from_secs(10);
/// A loop that lived so long did not die young.
const YOUTH: Duration = Duration::from_secs(60);
/// How long tasks may take to end at a stop.
const TASKS_END: Duration = Duration::from_millis(1000);

/// Starts the loop, and gives a task that keeps it running until the market stops.
pub(crate) async fn start(shared: Arc<Shared>, commands: mpsc::Receiver<Command>) -> Result<impl Future<Output = ()> + Send, StartError> {
    let commands = Arc::new(Mutex::new(commands));
    let mut listen = shared.addresses.listen.clone();
    let first = EventLoop::start(Arc::clone(&shared), &commands, &mut listen).await?;
    Ok(keep_running(shared, commands, listen, first))
}

async fn keep_running(shared: Arc<Shared>, commands: Arc<Mutex<mpsc::Receiver<Command>>>, mut listen: Vec<Multiaddr>, first: EventLoop) {
    let mut next = Some(first);
    let mut wait = FIRST_WAIT;
    while let Some(event_loop) = next.take() {
        let began = Instant::now();
        let ended = tokio::spawn(event_loop.run()).await;
        if shared.stopping.is_cancelled() {
            break;
        }
        let restarts = shared.restarts.fetch_add(1, Ordering::Relaxed) + 1;
        tracing::error!(market = %shared.address, restarts, died = ?ended.err(), "the event loop ended; starting it again");
        if began.elapsed() > YOUTH {
            wait = FIRST_WAIT;
        }
        next = start_again(&shared, &commands, &mut listen, &mut wait).await;
    }
    shared.tasks.close();
    let _ = timeout(TASKS_END, shared.tasks.wait()).await;
    shared.stopped.cancel();
}

async fn start_again(
    shared: &Arc<Shared>,
    commands: &Arc<Mutex<mpsc::Receiver<Command>>>,
    listen: &mut [Multiaddr],
    wait: &mut Duration,
) -> Option<EventLoop> {
    loop {
        tokio::select! {
            () = sleep(*wait) => {}
            () = shared.stopping.cancelled() => return None,
        }
        *wait = (*wait * 2).min(LONGEST_WAIT);
        lock(&shared.dialling).begin_again();
        match EventLoop::start(Arc::clone(shared), commands, listen).await {
            Ok(event_loop) => return Some(event_loop),
            Err(error) => tracing::error!(market = %shared.address, %error, "the event loop cannot be started again yet"),
        }
    }
}
