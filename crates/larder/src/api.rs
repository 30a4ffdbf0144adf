//! The local HTTP API of a node, at the store's socket and, if told so, at a loopback address with a token.
//!
//! | request | answer |
//! |---|---|
//! | `POST /v1/jobs` | 202 and the job's id; its fields are those of [`submit`] |
//! | `GET /v1/jobs`, `GET /v1/jobs/{id}` | what is known of all jobs, or all of one |
//! | `GET /v1/jobs/{id}/events` | server-sent [`events`] |
//! | `DELETE /v1/jobs/{id}` | cancels it, and tells of it once it has ended |
//! | `POST /v1/leases/{lease}/release` | what was removed |
//! | `GET /v1/resources`, `/v1/status`, `/v1/peers`, `/v1/markets`, `/v1/ledger` | what the commands print with `--json` |
//! | `GET /healthz`, `/readyz`, `/metrics` | the process is alive; the node is ready; figures for Prometheus |
//!
//! Invariants: what goes wrong is answered as `{"error": "…"}`; no answer holds a definition, token or key. Orders of commands,
//! which bring settings of their own, are taken at the socket alone, and so are jobs for folders that `api.roots` does not list.

mod answer;
mod events;
mod guard;
mod jobs;
mod listener;
mod metrics;
mod orders;
mod submit;

use std::future::IntoFuture;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::{StatusCode, header};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use larder_content::Secret;
use larder_node::{Progress, Status};
use serde_json::{Value, json};
use tokio::net::{TcpListener, UnixListener};

use crate::command::{NodeCommand, Outcome, Telling, execute};
use crate::config::Config;
use crate::status::View;
use answer::Refusal;
use guard::Guard;
use jobs::{Job, MAX_ACTIVE};
use listener::Bounded;
use metrics::{Figures, Process};
pub(crate) use submit::Door;

pub(crate) use jobs::Jobs;
pub(crate) use orders::{Orders, tell};
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use submit::read as read_submission;

/// The largest request: a job definition of 4 MiB, escaped.
const MAX_REQUEST_BYTES: usize = 16 * 1024 * 1024;
/// How long a node may take to tell of itself.
const STATUS_WITHIN: Duration = Duration::from_secs(2);

/// What the API works with.
#[derive(Clone)]
pub(crate) struct Api {
    config: Arc<Config>,
    orders: Orders,
    jobs: Jobs,
}

impl Api {
    pub(crate) fn new(config: Arc<Config>, orders: Orders) -> Self {
        let jobs = Jobs::new(orders.node.clone(), orders.ending.clone());
        Self { config, orders, jobs }
    }

    /// The jobs that were submitted to it.
    pub(crate) fn jobs(&self) -> &Jobs {
        &self.jobs
    }

    /// What the node tells of itself.
    pub(crate) async fn status(&self) -> Result<Status, String> {
        match tokio::time::timeout(STATUS_WITHIN, self.orders.node.status()).await {
            Ok(status) => status.map_err(|error| error.to_string()),
            Err(_) => Err("the node does not answer".into()),
        }
    }

    /// The status of a node that is ready, which listens in all its markets; else what it waits for.
    pub(crate) async fn ready(&self) -> Result<Status, String> {
        let status = self.status().await?;
        for market in self.config.node.peers.markets.iter().filter(|market| !market.listen.is_empty()) {
            let listens = status.markets.iter().any(|joined| joined.market == market.address && !joined.listen.is_empty());
            if !listens {
                return Err(format!("it does not listen in the market {} yet", market.address));
            }
        }
        Ok(status)
    }

    /// Carries out a command of the daemon's own, and answers with what came of it. `wrong` is the status for wrong input.
    async fn answer(&self, command: NodeCommand, wrong: StatusCode) -> Result<Json<Value>, Refusal> {
        match execute(&self.orders.node, self.config.order(command), &Progress::default()).await {
            Telling::Done(outcome) => Ok(Json(match *outcome {
                Outcome::Ready(report) => json!(report),
                Outcome::Status(status) => json!(status),
                Outcome::Resources(inventory) => json!(inventory),
                Outcome::Verified(verified) => json!(verified),
                Outcome::Collected(collected) => json!(collected),
                Outcome::Released(released) => json!(released),
            })),
            Telling::Failed { message, wrong_input: true } => Err(Refusal::new(wrong, message)),
            Telling::Failed { message, .. } => Err(Refusal::failed(message)),
            Telling::Progress(_) => Err(Refusal::failed("it ended without a result")),
        }
    }

    async fn view(&self, view: View) -> Result<Json<Value>, Refusal> {
        self.status().await.map(|status| Json(view.document(&status))).map_err(Refusal::failed)
    }

    fn job(&self, id: &str) -> Result<Arc<Job>, Refusal> {
        self.jobs.find(id).ok_or_else(|| Refusal::missing("there is no such job: GET /v1/jobs lists those that are known"))
    }
}

/// Serves the orders of commands at the socket until they are to end.
pub(crate) async fn serve_orders(socket: UnixListener, orders: Orders) -> anyhow::Result<()> {
    let refusal = || async { Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "a command holds the store, and `larder run` serves the API") };
    let ending = orders.ending.clone();
    let router = order_routes(orders).fallback(refusal);
    axum::serve(Bounded::new(socket), router).with_graceful_shutdown(ending.cancelled_owned()).await?;
    Ok(())
}

/// Serves the orders of commands and the API at the socket, and the API at a loopback address for those who have the token,
/// until they are to end.
pub(crate) async fn serve(socket: UnixListener, tcp: Option<(TcpListener, Secret)>, api: Api) -> anyhow::Result<()> {
    let ending = || api.orders.ending.clone().cancelled_owned();
    let routes = routes(api.clone());
    let at_socket = routes.clone().layer(Extension(Door::Socket)).merge(order_routes(api.orders.clone()));
    let at_socket = axum::serve(Bounded::new(socket), at_socket).with_graceful_shutdown(ending()).into_future();
    let at_tcp = async {
        let Some((listener, token)) = tcp else { return Ok(()) };
        let guarded = routes.layer(Extension(Door::Tcp)).layer(from_fn_with_state(Guard::new(&token), guard::check));
        axum::serve(Bounded::new(listener), guarded).with_graceful_shutdown(ending()).await
    };
    tokio::try_join!(at_socket, at_tcp)?;
    Ok(())
}

fn order_routes(orders: Orders) -> Router {
    let take = post(orders::take_order).layer(DefaultBodyLimit::max(MAX_REQUEST_BYTES));
    Router::new().route("/v1/orders", take).with_state(orders)
}

fn routes(api: Api) -> Router {
    Router::new()
        .route("/v1/jobs", get(list).post(submit_job).layer(DefaultBodyLimit::max(MAX_REQUEST_BYTES)))
        .route("/v1/jobs/{id}", get(show).delete(cancel))
        .route("/v1/jobs/{id}/events", get(watch))
        .route("/v1/leases/{lease}/release", post(release))
        .route("/v1/resources", get(async |State(api): State<Api>| api.answer(NodeCommand::Resources, StatusCode::BAD_REQUEST).await))
        .route("/v1/status", get(async |State(api): State<Api>| api.view(View::Whole).await))
        .route("/v1/peers", get(async |State(api): State<Api>| api.view(View::Peers).await))
        .route("/v1/markets", get(async |State(api): State<Api>| api.view(View::Markets).await))
        .route("/v1/ledger", get(ledger))
        .route("/healthz", get(async || Json(json!({"state": "alive"}))))
        .route("/readyz", get(readiness))
        .route("/metrics", get(figures))
        .fallback(async || Refusal::missing("there is nothing at this path"))
        .method_not_allowed_fallback(async || Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "this cannot be done at this path"))
        .with_state(api)
}

async fn submit_job(
    State(api): State<Api>,
    Extension(door): Extension<Door>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Refusal> {
    let body = body.map_err(|rejection| Refusal::new(rejection.status(), "the request is too large, or was cut off"))?;
    let config = api.config.clone();
    // A definition may be large, and what is wrong with it is told at once.
    let read = tokio::task::spawn_blocking(move || {
        let request = submit::read(&config, door, &body)?;
        let origins = config.origin_settings().origins(None).map_err(|error| error.to_string())?;
        larder_node::plan(&request, &origins, &config.home).map_err(|error| error.to_string())?;
        Ok((request.name.clone(), config.order(NodeCommand::Prepare(request))))
    });
    let read = read.await.map_err(|panic| Refusal::failed(format!("a defect of Larder, please report it: {panic}")))?;
    let (name, order) = read.map_err(|message: String| Refusal::wrong(message))?;
    let job = api.jobs.submit(name, order).ok_or_else(|| {
        Refusal::new(
            StatusCode::TOO_MANY_REQUESTS,
            format!("{MAX_ACTIVE} jobs are at work, which is the most: submit it when one has ended"),
        )
    })?;
    Ok((StatusCode::ACCEPTED, Json(json!({"id": job.id()}))).into_response())
}

async fn list(State(api): State<Api>) -> Response {
    let jobs: Vec<_> = api.jobs.all().iter().map(|job| job.summary()).collect();
    Json(json!({ "jobs": jobs })).into_response()
}

async fn show(State(api): State<Api>, Path(id): Path<String>) -> Result<Response, Refusal> {
    api.job(&id).map(|job| Json(job.view()).into_response())
}

async fn watch(State(api): State<Api>, Path(id): Path<String>) -> Result<Response, Refusal> {
    api.job(&id).map(|job| events::of(job).into_response())
}

async fn cancel(State(api): State<Api>, Path(id): Path<String>) -> Result<Response, Refusal> {
    let job = api.job(&id)?;
    if api.jobs.cancel(&job).await {
        return Ok(Json(job.view()).into_response());
    }
    let message = format!("the job has ended: it is {}; what it laid goes with its lease", job.state().name());
    Err(Refusal::new(StatusCode::CONFLICT, message))
}

async fn release(State(api): State<Api>, Path(lease): Path<String>) -> Result<Json<Value>, Refusal> {
    api.answer(NodeCommand::Release { lease }, StatusCode::NOT_FOUND).await
}

async fn ledger(State(api): State<Api>) -> Result<Json<Value>, Refusal> {
    api.status().await.map(|status| Json(json!(status.ledger))).map_err(Refusal::failed)
}

async fn readiness(State(api): State<Api>) -> Result<Json<Value>, Refusal> {
    let ready = api.ready().await;
    ready.map(|_| Json(json!({"state": "ready"}))).map_err(|reason| Refusal::new(StatusCode::SERVICE_UNAVAILABLE, reason))
}

async fn figures(State(api): State<Api>) -> Result<Response, Refusal> {
    let status = api.status().await.map_err(Refusal::failed)?;
    let space = api.orders.node.blocking(|store| store.space()).await.map_err(|error| Refusal::failed(error.to_string()))?;
    let jobs: Vec<&str> = api.jobs.all().iter().map(|job| job.state().name()).collect();
    let text = metrics::text(&Figures { status: &status, space, jobs: &jobs, process: Process::of_self() });
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response())
}
