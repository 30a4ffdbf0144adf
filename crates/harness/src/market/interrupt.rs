//! Being told to stop. Whatever waits for nodes looks here, so that they are ended and cleaned up after.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{bail, ensure};
use tokio::signal::unix::{SignalKind, signal};

/// How often a condition is looked at that is waited for.
const LOOK_EVERY: Duration = Duration::from_millis(4);
/// The exit code of a process that a second signal ends.
const INTERRUPTED: i32 = 130;

static TOLD: AtomicBool = AtomicBool::new(false);

/// From now on SIGTERM and Ctrl-C make everything in this module's fellows that waits fail, instead of ending this process. A
/// second one ends it at once, and its children with it.
///
/// # Errors
/// Fails if signals cannot be listened to.
pub fn stop_on_signals() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let inside = runtime.enter();
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    drop(inside);
    std::thread::spawn(move || {
        runtime.block_on(async {
            loop {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                }
                if TOLD.swap(true, Ordering::Relaxed) {
                    std::process::exit(INTERRUPTED);
                }
            }
        });
    });
    Ok(())
}

/// Waits until `look` finds something.
///
/// # Errors
/// Fails if `look` does, if it finds nothing within `limit`, or if this process is told to stop.
pub fn wait_for<T>(what: &str, limit: Duration, mut look: impl FnMut() -> anyhow::Result<Option<T>>) -> anyhow::Result<T> {
    let started = Instant::now();
    loop {
        if let Some(found) = look()? {
            return Ok(found);
        }
        ensure!(!TOLD.load(Ordering::Relaxed), "told to stop while waiting for {what}");
        if started.elapsed() > limit {
            bail!("{what}: not within {limit:?}");
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

/// Lets time pass.
///
/// # Errors
/// Fails if this process is told to stop meanwhile.
pub fn pass(time: Duration) -> anyhow::Result<()> {
    let until = Instant::now() + time;
    wait_for("time to pass", time * 2 + Duration::from_secs(1), || Ok((Instant::now() >= until).then_some(())))
}
