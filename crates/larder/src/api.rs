//! The socket of a store: the process that holds the store carries out the commands of others.
//!
//! `POST /v1/orders` takes an order as JSON and answers with one JSON object a line: progress now and then, and what came of it
//! at the end. The socket lies in the store's folder, which only its owner can enter.

use std::convert::Infallible;
use std::iter;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, State};
use axum::routing::post;
use axum::{Json, Router};
use futures::{Stream, StreamExt, stream};
use larder_node::{Node, Progress};
use tokio::net::UnixListener;
use tokio_util::sync::CancellationToken;

use crate::command::{Order, Telling, execute};

/// The longest path that a socket can have.
const MAX_SOCKET_PATH: usize = 100;
/// The largest order: a job definition of 16 MiB, escaped.
const MAX_ORDER_BYTES: usize = 64 * 1024 * 1024;
/// How often progress is told.
const TELL_EVERY: Duration = Duration::from_millis(100);
/// How long a process that works on an order may tell nothing before it counts as gone.
const SILENCE: Duration = Duration::from_secs(5);

/// The place of a store's socket. It is reached through the open folder where its path would be too long.
struct Place {
    path: PathBuf,
    /// Keeps the folder open while the path leads through it.
    _folder: Option<std::fs::File>,
}

impl Place {
    fn of(home: &Path) -> std::io::Result<Self> {
        let path = home.join("socket");
        if path.as_os_str().len() <= MAX_SOCKET_PATH {
            return Ok(Self { path, _folder: None });
        }
        let folder = std::fs::File::open(home)?;
        let path = PathBuf::from(format!("/proc/self/fd/{}/socket", folder.as_raw_fd()));
        Ok(Self { path, _folder: Some(folder) })
    }
}

/// Serves the store's socket until `ending`, and then ends the orders that are under way: those that are as good as done are done,
/// and whoever gave another goes on with it by itself.
pub(crate) async fn serve(home: &Path, node: Node, ending: CancellationToken) -> anyhow::Result<()> {
    let place = Place::of(home)?;
    // Who holds the store's lock owns the socket: one that lies there is left over from a crash.
    let _ = std::fs::remove_file(&place.path);
    let listener = UnixListener::bind(&place.path).with_context(|| format!("the socket in {}", home.display()))?;
    let orders = post(take_order).layer(DefaultBodyLimit::max(MAX_ORDER_BYTES));
    let router = Router::new().route("/v1/orders", orders).with_state((node, ending.clone()));
    axum::serve(listener, router).with_graceful_shutdown(ending.cancelled_owned()).await?;
    Ok(())
}

async fn take_order(State((node, ending)): State<(Node, CancellationToken)>, Json(order): Json<Order>) -> Body {
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

/// How it ended that another process was asked to carry out an order.
pub(crate) enum Joined {
    /// The order is carried out, and its last word told.
    Answered,
    /// Nobody answers at the socket.
    Nobody,
    /// The answer ended without a last word: the process has ended, or something in it has.
    Ended,
    /// The answer is none that is known here.
    NotUnderstood,
}

/// Has the process that holds the store carry out an order, and passes on what it tells.
pub(crate) async fn join(home: &Path, order: &Order, tell: &mut impl FnMut(Telling)) -> Joined {
    let Ok((answer, _place)) = send(home, order).await else { return Joined::Nobody };
    if !answer.status().is_success() {
        return Joined::NotUnderstood;
    }
    let (mut body, mut buffer) = (answer.bytes_stream(), Vec::new());
    while let Some(Ok(bytes)) = body.next().await {
        buffer.extend_from_slice(&bytes);
        while let Some(end) = buffer.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = buffer.drain(..=end).collect();
            let Ok(telling) = serde_json::from_slice(&line) else { return Joined::NotUnderstood };
            let last = !matches!(telling, Telling::Progress(_));
            tell(telling);
            if last {
                return Joined::Answered;
            }
        }
    }
    Joined::Ended
}

async fn send(home: &Path, order: &Order) -> anyhow::Result<(reqwest::Response, Place)> {
    let place = Place::of(home)?;
    // No TLS is spoken on a socket, but a client is not made without someone who could.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder().unix_socket(place.path.as_path()).no_proxy().read_timeout(SILENCE).build()?;
    Ok((client.post("http://larder/v1/orders").json(order).send().await?, place))
}
