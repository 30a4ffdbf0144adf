//! The hub as an origin: listings that are whole or an error, tokens that show access for themselves alone.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use larder_content::{HubKind, HubResource, Locator, OriginFile, RelativePath, RepoId, Secret};
use larder_harness::counts::Exchange;
use larder_harness::faults::{Fault, Rule, Side};
use larder_harness::hub::{HubBuilder, HubServer, Repo, Tree};
use larder_harness::proxy::Proxy;
use larder_origin::{Access, Hub, HubConfig, Listing, Origin, OriginError, PrivateHosts};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Barrier;

use crate::node::Node;
use crate::trees::noise;

const TOKEN: &str = "hf_thetokenofthetest";
const STRANGER: &str = "hf_atokenwithoutaccess";
const MIB: usize = 1024 * 1024;

fn tree() -> Tree {
    Tree::new().file("model.safetensors", noise(2 * MIB, 1)).file("config.json", noise(900, 2)).file("z.txt", noise(70, 3))
}

fn server(builder: HubBuilder) -> HubServer {
    let repo = |id| Repo::model(id).at("main", tree());
    let builder = builder.repo(repo("org/public")).repo(repo("org/private").private()).repo(repo("org/gated").gated());
    builder.token(TOKEN).token_without_access(STRANGER).start().unwrap()
}

fn hub(endpoint: &str) -> Hub {
    // The CDN of the tests is at an address of its own.
    let private_hosts = PrivateHosts::parse("127.0.0.2").unwrap();
    Hub::new(HubConfig { endpoint: endpoint.into(), private_hosts, ..HubConfig::default() }).unwrap()
}

fn repo(id: &str, token: Option<&str>) -> HubResource {
    HubResource { kind: HubKind::Model, repo: RepoId::new(id).unwrap(), revision: None, files: vec![], token: token.map(Secret::new) }
}

fn link(value: &str) -> Fault {
    Fault::SetHeader { name: "link".into(), value: value.into() }
}

fn paths(listing: &Listing) -> Vec<&str> {
    listing.manifest.files().iter().map(|file| file.path.as_str()).collect()
}

async fn read(hub: &Hub, resource: &HubResource, file: &OriginFile, range: std::ops::Range<u64>) -> Result<Vec<u8>, OriginError> {
    let mut stream = hub.read(resource, file, range, Access::Credentials).await?;
    let mut bytes = Vec::new();
    while let Some(part) = stream.next().await {
        bytes.extend_from_slice(&part?);
    }
    Ok(bytes)
}

fn asked(server: &HubServer) -> Vec<Exchange> {
    server.counts().snapshot().requests
}

#[tokio::test]
async fn a_listing_goes_on_wherever_a_link_leads_that_the_protocol_allows() {
    let server = server(HubBuilder::new().page_size(2));
    let sha = server.commit("models/org/public", "main").unwrap();
    let next = format!("/api/models/org/public/tree/{sha}?recursive=true&cursor=2&note=a,b;c");
    for written in [format!("<{next}>; rel=\"next\""), format!("</>; rel=first, <{next}>;rel=next")] {
        server.faults().clear();
        server.faults().set(Rule::new("/api/models/*/tree/*", link(&written)).times(1));
        let listing = hub(server.endpoint()).list(&repo("org/public", None), None).await.unwrap();
        assert_eq!(paths(&listing), ["config.json", "model.safetensors", "z.txt"], "{written}");
    }
}

#[tokio::test]
async fn a_listing_that_does_not_lead_to_its_end_is_an_error() {
    let server = server(HubBuilder::new().page_size(2));
    let sha = server.commit("models/org/public", "main").unwrap();
    let itself = format!("<{}/api/models/org/public/tree/{sha}?recursive=true&expand=false>; rel=next", server.endpoint());
    for (written, word) in [
        (itself.as_str(), "names itself"),
        ("<https://the.original.hub/api/models/org/public>; rel=next", "the.original.hub"),
        ("</api/models/org/public; rel=next", "cannot be read"),
    ] {
        server.faults().clear();
        server.counts().reset();
        server.faults().set(Rule::new("/api/models/*/tree/*", link(written)));
        let error = hub(server.endpoint()).list(&repo("org/public", None), None).await.unwrap_err();
        assert!(matches!(&error, OriginError::Invalid { .. }) && error.to_string().contains(word), "{error}");
        assert_eq!(asked(&server).len(), 2, "the revision and one page");
    }
}

#[tokio::test]
async fn a_token_is_tried_before_a_wait_that_is_for_those_without() {
    let server = server(HubBuilder::new());
    server.faults().set(Rule::new("/api/*", Fault::Status { code: 429, retry_after: Some(500) }).times(1));
    let hub = hub(server.endpoint());
    let with_token = repo("org/public", Some(TOKEN));
    let listed = tokio::time::timeout(Duration::from_secs(60), hub.list(&with_token, None)).await;
    assert!(listed.expect("the wait was for those without a token").unwrap().needed_credentials);
    let asked: Vec<_> = asked(&server).iter().map(|exchange| (exchange.status, exchange.authorized)).collect();
    assert_eq!(asked, [(429, false), (200, true), (200, true)]);
}

#[tokio::test]
async fn a_listing_that_needed_credentials_is_for_those_that_show_theirs() {
    let server = server(HubBuilder::new());
    let hub = hub(server.endpoint());
    let sha = server.commit("models/org/private", "main").unwrap();
    let pinned = |id, token| HubResource { revision: Some(sha.clone()), ..repo(id, token) };
    let private = hub.list(&pinned("org/private", Some(TOKEN)), None).await.unwrap();
    assert!(private.pinned && private.needed_credentials);
    for token in [None, Some(STRANGER)] {
        hub.list(&pinned("org/private", token), Some(&private)).await.unwrap_err();
    }
    server.counts().reset();
    assert_eq!(hub.list(&pinned("org/private", Some(TOKEN)), Some(&private)).await.unwrap(), private);
    assert_ne!(asked(&server).len(), 0);

    let sha = server.commit("models/org/public", "main").unwrap();
    let pinned = HubResource { revision: Some(sha), ..repo("org/public", Some(TOKEN)) };
    let public = hub.list(&pinned, None).await.unwrap();
    assert!(!public.needed_credentials);
    server.counts().reset();
    assert_eq!(hub.list(&pinned, Some(&public)).await.unwrap(), public);
    assert_eq!(asked(&server).len(), 0);
}

#[tokio::test]
async fn a_link_that_one_token_was_given_opens_nothing_to_another() {
    let server = server(HubBuilder::new());
    let hub = hub(server.endpoint());
    let friend = repo("org/gated", Some(TOKEN));
    let listing = hub.list(&friend, None).await.unwrap();
    let file = listing.manifest.files().iter().find(|file| file.path.as_str() == "model.safetensors").unwrap();
    for at in [0, 100] {
        assert_eq!(read(&hub, &friend, file, at..at + 9).await.unwrap().len(), 9);
    }
    let given = asked(&server).iter().filter(|exchange| exchange.target.contains("/resolve/")).count();
    assert_eq!(given, 1, "one link serves many ranges");
    for stranger in [Some(STRANGER), None] {
        let error = read(&hub, &repo("org/gated", stranger), file, 0..9).await.unwrap_err();
        assert!(matches!(error, OriginError::Gated { .. }), "{error}");
    }
}

/// A hub that sends files itself. It answers the first request at once, and those after it when all `others` are there.
async fn meeting(others: usize) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let barrier = Arc::new(Barrier::new(others));
        for number in 0.. {
            let (mut connection, _) = listener.accept().await.unwrap();
            let barrier = barrier.clone();
            tokio::spawn(async move {
                let mut request = vec![0; 8192];
                let len = connection.read(&mut request).await.unwrap();
                let request = String::from_utf8_lossy(&request[..len]).to_lowercase();
                let range = request.split_once("range: bytes=").unwrap().1.lines().next().unwrap();
                if number > 0 {
                    barrier.wait().await;
                }
                let head = format!("Connection: close\r\nContent-Length: 1\r\nContent-Range: bytes {range}/100");
                connection.write_all(format!("HTTP/1.1 206 Partial Content\r\n{head}\r\n\r\nx").as_bytes()).await.unwrap();
            });
        }
    });
    endpoint
}

#[tokio::test]
async fn ranges_that_the_hub_sends_itself_are_asked_for_side_by_side() {
    let endpoint = meeting(4).await;
    let hub = hub(&endpoint);
    let locator = Locator { endpoint, container: "models/org/name".into(), path: "f".into(), version: "a1".repeat(20) };
    let file = OriginFile { path: RelativePath::new("f").unwrap(), size: 100, digests: vec![], locator };
    let resource = repo("org/name", None);
    assert_eq!(read(&hub, &resource, &file, 0..1).await.unwrap(), b"x");
    let others = (1..5).map(|at| read(&hub, &resource, &file, at..at + 1));
    for read in futures::future::join_all(others).await {
        assert_eq!(read.unwrap(), b"x");
    }
}

#[tokio::test]
async fn a_hub_leads_to_no_private_host_but_those_of_its_operator() {
    let server = server(HubBuilder::new());
    let hub = Hub::new(HubConfig { endpoint: server.endpoint().into(), ..HubConfig::default() }).unwrap();
    let resource = repo("org/public", None);
    let listing = hub.list(&resource, None).await.unwrap();
    let file = |path: &str| listing.manifest.files().iter().find(|file| file.path.as_str() == path).unwrap();
    assert_eq!(read(&hub, &resource, file("config.json"), 0..900).await.unwrap().len(), 900, "its own host is the operator's word");
    for range in [0..9, 0..2 * MIB as u64] {
        let error = read(&hub, &resource, file("model.safetensors"), range).await.unwrap_err();
        assert!(matches!(&error, OriginError::Refused { why, .. } if why.contains("127.0.0.2 has no public address")), "{error}");
    }
    assert!(asked(&server).iter().all(|exchange| exchange.side == Side::Hub));
}

#[test]
fn a_proxy_hears_nothing_of_what_is_said_on_this_machine_and_serves_all_else() {
    let server = server(HubBuilder::new());
    let proxy = Proxy::start(server.endpoint().strip_prefix("http://").unwrap().parse().unwrap()).unwrap();
    let address = format!("http://{}", proxy.address());
    let proxied = |node: Node| node.with("HTTP_PROXY", &address).with("http_proxy", &address);
    let job = |id: &str, token: &str| json!([{"type": "HF", "repo": id, "target": "/data", "accessToken": token}]);

    proxied(Node::new(&server)).prepare(job("org/private", TOKEN), "root").ready();
    assert_eq!(proxy.counts().snapshot().requests, []);

    proxied(Node::of_endpoint("http://hub.invalid")).prepare(job("org/public", ""), "root").ready();
    assert_ne!(proxy.counts().snapshot().requests, []);
}
