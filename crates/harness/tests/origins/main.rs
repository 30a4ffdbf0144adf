//! What the test origins promise to those who test against them.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod access;
mod faults;
mod files;
mod hub;
mod proxy;
mod servers;

use std::time::Duration;

use larder_harness::hub::{HubBuilder, HubServer, Repo, Tree};
use reqwest::{Client, RequestBuilder, Response, redirect::Policy};

/// Longer than anything takes that is going to happen.
const DEADLINE: Duration = Duration::from_secs(20);

/// A client that follows no redirect, and keeps no connection that a fault may have spoilt.
fn client() -> Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    Client::builder().redirect(Policy::none()).pool_max_idle_per_host(0).timeout(DEADLINE).build().unwrap()
}

fn get(url: &str) -> RequestBuilder {
    client().get(url)
}

async fn fetch(url: &str) -> Response {
    get(url).send().await.unwrap()
}

async fn json(url: &str) -> serde_json::Value {
    fetch(url).await.json().await.unwrap()
}

fn header<'a>(response: &'a Response, name: &str) -> &'a str {
    response.headers().get(name).map_or("", |value| value.to_str().unwrap())
}

/// Where a redirect leads.
fn location(response: &Response) -> String {
    response.url().join(header(response, "location")).unwrap().to_string()
}

/// Bytes that are all different within 251.
fn bytes(count: usize) -> Vec<u8> {
    (0..count).map(|n| (n % 251) as u8).collect()
}

/// A hub with one repository: a small file, a large one, one three folders deep, an empty one.
fn hub() -> HubServer {
    with(|hub| hub)
}

fn with(change: impl FnOnce(HubBuilder) -> HubBuilder) -> HubServer {
    let tree = Tree::new()
        .file("config.json", "{}")
        .file("model.safetensors", bytes(3_000_000))
        .file("a/b/c/deep.txt", "deep")
        .file("empty.txt", "");
    let other = Tree::new().file("config.json", "{\"other\": true}");
    let repo = Repo::model("org/name").at("main", tree).at("feature/x", other.clone()).at("refs/pr/1", other).formerly("old/name");
    change(HubBuilder::new().repo(repo)).start().unwrap()
}
