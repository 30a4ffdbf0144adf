//! What strangers send does not stop a node, and gets them thrown out with a reason.

use std::time::Duration;

use futures::AsyncWriteExt;
use larder_content::{FileKey, Holding, Subject};

use crate::frames::{BULK, CONTROL, frame, hello, news};
use crate::node::{Node, Start, wait_for};
use crate::raw::Raw;

/// The node still takes part: another comes, and hears of it.
async fn goes_on(node: &Node) {
    node.market.announce(Subject::from(FileKey([1; 32])), Holding::Complete);
    let other = Start::to(&[node]).go().await;
    other.sees(node).await;
    assert_eq!(other.market.look(&[Subject::from(FileKey([1; 32]))]).await.len(), 1);
}

async fn is_thrown_out_for(stream: &str, bytes: &[u8], reason: &str) {
    let node = Start::new().go().await;
    let mut raw = Raw::connect(&node.address(), &[CONTROL, BULK]).await;
    let mut control = None;
    if stream != CONTROL {
        let greeting = control.insert(raw.open(CONTROL).await);
        greeting.write_all(&hello()).await.unwrap();
        greeting.flush().await.unwrap();
    }
    let mut stream = raw.open(stream).await;
    stream.write_all(bytes).await.unwrap();
    stream.flush().await.unwrap();
    raw.is_thrown_out().await;
    let refused = node.market.status().refused;
    assert!(refused.len() == 1 && refused[0].contains(reason) && refused[0].starts_with(&raw.id.to_string()), "{refused:?}");
    goes_on(&node).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_as_control_frames() {
    is_thrown_out_for(CONTROL, &frame(b"\x01\xffnonsense"), "malformed").await;
    is_thrown_out_for(CONTROL, &frame(b"GET / HTTP/1.1"), "malformed").await;
    is_thrown_out_for(CONTROL, &news(0), "broke the protocol").await;
    is_thrown_out_for(CONTROL, &[hello(), hello()].concat(), "broke the protocol").await;
    is_thrown_out_for(CONTROL, &[hello(), frame(&[1, 6, 253, 255, 255, 255, 255, 255, 255, 255, 255])].concat(), "malformed").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn oversized_control_frames() {
    is_thrown_out_for(CONTROL, &u32::MAX.to_le_bytes(), "4294967295 bytes").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn questions_that_are_none() {
    let ask = |count: u8| frame(&[&[1, 0][..], &[7; 32], &[0, 0, count]].concat());
    is_thrown_out_for(BULK, &ask(0), "broke the protocol").await;
    is_thrown_out_for(BULK, &ask(65), "broke the protocol").await;
    is_thrown_out_for(BULK, &[0xff; 100], "broke the protocol").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_of_the_next_version_is_told_apart_from_a_stranger() {
    let node = Start::new().go().await;
    let mut next = Raw::connect(&node.address(), &["/larder/market/control/2", "/larder/market/bulk/2"]).await;
    next.is_thrown_out().await;
    let mut stranger = Raw::connect(&node.address(), &["/something/else"]).await;
    stranger.is_thrown_out().await;
    let expected = [format!("{}: speaks larder 2, this node speaks 1", next.id), format!("{}: does not speak larder (raw/1)", stranger.id)];
    assert_eq!(node.market.status().refused, expected);
    goes_on(&node).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_says_no_hello_does_not_stay() {
    let node = Start::new().go().await;
    let mut raw = Raw::connect(&node.address(), &[CONTROL, BULK]).await;
    let _silent = raw.open(CONTROL).await;
    raw.is_thrown_out().await;
    goes_on(&node).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_million_announcements_stay_bounded() {
    let node = Start::new().go().await;
    let mut raw = Raw::connect(&node.address(), &[CONTROL, BULK]).await;
    let mut stream = raw.open(CONTROL).await;
    stream.write_all(&hello()).await.unwrap();
    for first in (0..1_000_000).step_by(900) {
        stream.write_all(&news(first)).await.unwrap();
    }
    stream.flush().await.unwrap();
    wait_for("the announcements", || node.market.status().received_bytes > 36_000_000).await;
    assert!(node.market.status().holdings <= 65_536);
    goes_on(&node).await;
    let honest = Start::to(&[&node]).go().await;
    honest.market.announce(Subject([9; 32]), Holding::Complete);
    wait_for("an honest word", || node.market.holders(Subject([9; 32])).contains(&(honest.id(), Holding::Complete))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_offender_comes_back_no_sooner_than_its_ban_ends() {
    let node = Start::new().go().await;
    let mut start = Start::to(&[&node]);
    start.config.connections = 0;
    let peer = start.go().await;
    peer.sees(&node).await;
    node.market.ban(peer.id(), Duration::from_secs(3600));
    wait_for("the parting", || !peer.market.is_connected(node.id())).await;
    wait_for("a refused return", || node.market.status().refused.iter().any(|reason| reason.contains("banned"))).await;
    assert!(!peer.market.is_connected(node.id()));
}
