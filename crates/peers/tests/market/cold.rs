//! Nodes find each other from one bootstrap, or when it comes late, or from what they knew.

use std::time::Duration;

use larder_content::{FileKey, Holding, Subject};
use larder_peers::{Identity, KnownPeer};

use crate::node::{Node, Start, wait_for};

#[tokio::test(flavor = "multi_thread")]
async fn a_bootstrap_that_comes_later_is_found() {
    let identity = Identity::generate();
    let first = Start::new().go().await;
    let address = first.address().split("/p2p/").next().unwrap().to_owned();
    first.market.stop().await;
    let mut start = Start::new();
    start.market.bootstrap = vec![format!("{address}/p2p/{}", identity.id())];
    let node = start.go().await;
    assert!(node.market.status().peers.is_empty());
    let mut start = Start::new();
    (start.identity, start.market.listen, start.market.is_bootstrap) = (identity, vec![address], true);
    let bootstrap = start.go().await;
    node.sees(&bootstrap).await;
    wait_for("its kind", || node.market.status().peers.iter().any(|peer| peer.is_bootstrap)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_of_one_bootstrap_are_introduced_to_each_other() {
    let bootstrap = Start::new().go().await;
    let mut nodes = Vec::new();
    for _ in 0..5 {
        nodes.push(Start::to(&[&bootstrap]).go().await);
    }
    for node in &nodes {
        wait_for("all others", || node.market.status().peers.len() == 5).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_returns_to_the_peers_it_knew() {
    let one = Start::new().go().await;
    let mut start = Start::new();
    start.known.peers = vec![KnownPeer { node: one.id(), addresses: vec![one.address().split("/p2p/").next().unwrap().to_owned()] }];
    let two = start.go().await;
    two.sees(&one).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn all_that_start_together_see_each_other_fetch() {
    let bootstrap = Start::new().go().await;
    let subject = Subject::from(FileKey([8; 32]));
    let begin = || async {
        let node = Start::to(&[&bootstrap]).go().await;
        node.market.announce(subject, Holding::Fetching);
        node.market.look(&[subject]).await;
        node
    };
    let nodes: Vec<Node> = futures::future::join_all((0..8).map(|_| begin())).await;
    for node in &nodes {
        wait_for("all fetchers", || node.market.holders(subject).len() == 7).await;
    }
    for node in &nodes {
        wait_for("connections", || nodes.iter().filter(|other| node.market.is_connected(other.id())).count() == 7).await;
    }
    tokio::time::timeout(Duration::from_secs(2), nodes[0].market.clone().stop()).await.unwrap();
}
