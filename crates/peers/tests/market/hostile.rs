//! What strangers send does not stop a node, and gets them thrown out with a reason.

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
async fn a_full_list_that_nobody_asked_for_changes_nothing() {
    let node = Start::new().go().await;
    let mut raw = Raw::connect(&node.address(), &[CONTROL, BULK]).await;
    let mut stream = raw.open(CONTROL).await;
    // What it says of itself, and then, unasked, that this is nothing.
    let all_of_nothing = frame(&[1, 9, 1, 1, 0]);
    stream.write_all(&[hello(), news(0), all_of_nothing, news(900)].concat()).await.unwrap();
    stream.flush().await.unwrap();
    wait_for("all that came", || node.market.status().holdings == 1800).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_others_say_of_an_honest_holder_does_not_end_it() {
    let holder = Start::new().go().await;
    let seeker = Start::to(&[&holder]).go().await;
    seeker.sees(&holder).await;
    let subject = Subject::from(FileKey([1; 32]));
    holder.market.announce(subject, Holding::Complete);
    assert_eq!(seeker.market.look(&[subject]).await.len(), 1);
    let mut raw = Raw::connect(&seeker.address(), &[CONTROL, BULK]).await;
    let mut stream = raw.open(CONTROL).await;
    // Of a node that is not known: that it has it, and then that it has not.
    let says = |node: [u8; 32], holding: u8| frame(&[&[1, 3, 0, 1, 1][..], &subject.0, &node, &[holding]].concat());
    let words = [hello(), says([7; 32], 0), says([7; 32], 2), says(holder.id().0, 2), news(0)].concat();
    stream.write_all(&words).await.unwrap();
    stream.flush().await.unwrap();
    wait_for("all that came", || seeker.market.status().holdings == 902).await;
    let sighted = seeker.heard.lock().unwrap().sighted.clone();
    assert!(sighted.iter().all(|sighting| sighting.holding != Holding::Gone));
    assert_eq!(seeker.market.holders(subject)[0], (holder.id(), Holding::Complete));
}
