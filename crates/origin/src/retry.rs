//! Asking again for metadata, when what went wrong can pass.

use std::future::Future;
use std::time::Duration;

use crate::OriginError;

/// How often a request is made in all.
const TRIES: u32 = 6;
/// The wait after the first try; it doubles with each, to about six seconds before the last.
const FIRST_WAIT: Duration = Duration::from_millis(200);

/// The longest wait that an origin may ask for: twice the hub's own window.
const LONGEST_WAIT: Duration = Duration::from_secs(600);

/// Makes a request until it succeeds, fails for good, or was tried six times.
///
/// Waits twice as long each time, spread by a random half so that many nodes do not ask at once; or as long as a busy
/// origin asks for, where that is longer.
pub(crate) async fn retried<T, F>(mut request: impl FnMut() -> F) -> Result<T, OriginError>
where
    F: Future<Output = Result<T, OriginError>>,
{
    let mut wait = FIRST_WAIT;
    for _ in 1..TRIES {
        let error = match request().await {
            Ok(answer) => return Ok(answer),
            Err(error) if error.can_pass() => error,
            Err(error) => return Err(error),
        };
        let asked = if let OriginError::Busy { after, .. } = &error { *after } else { None };
        if asked.is_some_and(|asked| asked > LONGEST_WAIT) {
            return Err(error);
        }
        if let Some(asked) = asked {
            tracing::warn!(%error, "asked to wait {} s", asked.as_secs());
        }
        let pause = wait.mul_f64(0.5 + fastrand::f64()).max(asked.unwrap_or_default());
        tracing::debug!(%error, pause_ms = pause.as_millis(), "asking again");
        tokio::time::sleep(pause).await;
        wait *= 2;
    }
    request().await
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    fn outcome(error: fn() -> OriginError, good_at: u32) -> (Result<u32, OriginError>, u32) {
        let tries = Cell::new(0);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let result = runtime.block_on(retried(|| async {
            tries.set(tries.get() + 1);
            if tries.get() == good_at { Ok(tries.get()) } else { Err(error()) }
        }));
        (result, tries.get())
    }

    #[test]
    fn what_can_pass_is_tried_again_and_what_cannot_is_not() {
        let busy = || OriginError::Busy { what: "x".into(), after: Some(Duration::from_secs(300)) };
        let missing = || OriginError::Missing { what: "x".into(), why: String::new() };
        assert_eq!(outcome(busy, 3).1, 3);
        assert_eq!(outcome(busy, 99).1, TRIES);
        assert_eq!(outcome(missing, 3).1, 1);
        let for_too_long = || OriginError::Busy { what: "x".into(), after: Some(LONGEST_WAIT * 2) };
        assert_eq!(outcome(for_too_long, 3).1, 1);
    }

    #[test]
    fn who_asks_for_no_wait_is_not_asked_at_once() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let waited = runtime.block_on(async {
            let start = tokio::time::Instant::now();
            let busy = || async { Err::<(), _>(OriginError::Busy { what: "x".into(), after: Some(Duration::ZERO) }) };
            retried(busy).await.unwrap_err();
            start.elapsed()
        });
        assert!(waited >= FIRST_WAIT * 31 / 2, "{waited:?}");
    }
}
