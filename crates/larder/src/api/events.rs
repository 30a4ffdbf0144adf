//! What a job does, as server-sent events: `progress` whenever it has moved, and at last `ready`, `failed` or `cancelled`.
//!
//! Data is JSON: of `progress` `{"resources": […]}`, of `ready` the report, of `failed` `{"error": "…"}`.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::response::sse::{Event, KeepAlive, Sse};
use futures::{Stream, stream};
use larder_node::ResourceProgress;
use serde_json::json;
use tokio::sync::watch;

use super::jobs::{Job, State};

/// How often it is looked whether the job has moved.
const LOOK_EVERY: Duration = Duration::from_millis(200);

pub(super) fn of(job: Arc<Job>) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let (state, told) = (job.watch(), None);
    let events = stream::unfold(Some(Watch { job, state, told }), |watch| async {
        let mut watch = watch?;
        let (event, ended) = watch.next().await;
        Some((Ok(event), (!ended).then_some(watch)))
    });
    Sse::new(events).keep_alive(KeepAlive::default())
}

/// Someone who watches a job.
struct Watch {
    job: Arc<Job>,
    state: watch::Receiver<State>,
    /// The progress that was told last.
    told: Option<Vec<ResourceProgress>>,
}

impl Watch {
    /// The next event, and whether it is the last.
    async fn next(&mut self) -> (Event, bool) {
        loop {
            // Before the progress: what was told last is then how it ended.
            let state = self.state.borrow_and_update().clone();
            let progress = self.job.progress();
            if self.told.as_ref() != Some(&progress) {
                let event = Event::default().event("progress").data(json!({"resources": progress}).to_string());
                self.told = Some(progress);
                return (event, false);
            }
            if let Some(data) = last_word(&state) {
                return (Event::default().event(state.name()).data(data), true);
            }
            let _ = tokio::time::timeout(LOOK_EVERY, self.state.changed()).await;
        }
    }
}

/// The data of the event that a job ends with.
fn last_word(state: &State) -> Option<String> {
    match state {
        State::Queued | State::Running => None,
        State::Ready(report) => Some(report.get().to_owned()),
        State::Failed(message) => Some(json!({ "error": **message }).to_string()),
        State::Cancelled => Some(json!({}).to_string()),
    }
}
