//! The orders of commands that found the store held: `POST /v1/orders`, at the store's socket alone.

use std::convert::Infallible;
use std::iter;
use std::time::Duration;

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::State;
use futures::{Stream, StreamExt, stream};
use larder_node::{Node, Progress};
use tokio_util::sync::CancellationToken;

use crate::command::{Order, Telling, execute};

/// How often progress is told.
const TELL_EVERY: Duration = Duration::from_millis(100);

/// Who carries out orders, and until when: orders under way end then, but for those that are as good as done. Whoever gave
/// another goes on with it by itself.
#[derive(Clone)]
pub(crate) struct Orders {
    pub(crate) node: Node,
    pub(crate) ending: CancellationToken,
}

pub(super) async fn take_order(State(Orders { node, ending }): State<Orders>, Json(order): Json<Order>) -> Body {
    let progress = Progress::default();
    let (watched, asked) = (progress.clone(), progress.clone());
    let brief = order.command.is_brief();
    let work = async move { execute(&node, order, &progress).await };
    let cut = async move {
        ending.cancelled_owned().await;
        if brief || asked.is_complete() {
            std::future::pending::<()>().await;
        }
    };
    Body::from_stream(tell(work, watched).take_until(cut).map(|telling| Ok::<_, Infallible>(line(&telling))))
}

fn line(telling: &Telling) -> Bytes {
    let mut line = serde_json::to_vec(telling).unwrap_or_default();
    line.push(b'\n');
    line.into()
}

/// Runs `work` and tells of its progress now and then and at its end, before what came of it.
pub(crate) fn tell(work: impl Future<Output = Telling> + Send + 'static, progress: Progress) -> impl Stream<Item = Telling> + Send {
    let work: futures::future::BoxFuture<'static, Telling> = Box::pin(work);
    let ticks = stream::unfold(Some(work), |work| async {
        let mut work = work?;
        match tokio::time::timeout(TELL_EVERY, &mut work).await {
            Ok(end) => Some((Some(end), None)),
            Err(_) => Some((None, Some(work))),
        }
    });
    ticks.flat_map(move |end| stream::iter(iter::once(Telling::Progress(progress.snapshot())).chain(end)))
}
