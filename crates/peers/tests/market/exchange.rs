//! Chunks and hashes go from peer to peer.

use std::time::Duration;

use larder_content::{ContentId, FileKey, FileMessage, FileWord};
use larder_peers::{ChunkRequest, ChunkStream, FetchError, Piece};

use crate::node::{Node, PIECES, Start, bytes_of, hashes_of, made_up, pair, pieces, wait_for};

const FILE: FileKey = FileKey([5; 32]);

fn request(first: u64, end: u64) -> ChunkRequest {
    ChunkRequest { file: FILE, content: None, chunks: first..end }
}

async fn fetch(node: &Node, from: &Node, first: u64, end: u64) -> Result<Vec<Piece>, FetchError> {
    let mut stream = node.market.fetch(from.id(), request(first, end)).await?;
    let (signs, mut pieces) = (stream.signs(), Vec::new());
    while let Some(piece) = stream.next().await {
        pieces.push(piece?);
    }
    assert_eq!(signs.received_bytes(), pieces.iter().map(|piece| piece.bytes.len() as u64).sum::<u64>());
    Ok(pieces)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_fetches_pieces_with_claims_that_were_checked() {
    let (one, two) = pair().await;
    let pieces = fetch(&two, &one, 0, 41).await.unwrap();
    assert_eq!(pieces.iter().flat_map(|piece| piece.bytes.to_vec()).collect::<Vec<u8>>(), bytes_of(0, 41));
    let claim = pieces[0].claim.as_ref().unwrap();
    assert_eq!((claim.signer, claim.file, &claim.hashes), (one.id(), FILE, &hashes_of(0, 4)));
    assert!(two.market.status().received_bytes >= bytes_of(0, 41).len() as u64);
    // The other way over the same connection.
    assert_eq!(fetch(&one, &two, 40, 41).await.unwrap()[0].bytes, bytes_of(40, 41));
}

#[tokio::test(flavor = "multi_thread")]
async fn quic_carries_the_same() {
    let mut start = Start::new();
    start.market.listen = vec!["/ip4/127.0.0.1/udp/0/quic-v1".into()];
    let one = start.go().await;
    let two = Start::to(&[&one]).go().await;
    two.sees(&one).await;
    let pieces = fetch(&two, &one, 3, 41).await.unwrap();
    assert_eq!(pieces.iter().flat_map(|piece| piece.bytes.to_vec()).collect::<Vec<u8>>(), bytes_of(3, 41));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_node_does_not_take_waits_with_the_peer_which_counts_as_alive() {
    let (one, two) = pair().await;
    // The first two fill what there is room for, so that the third is held up, and the fourth behind it.
    let mut answers = Vec::new();
    for end in [32, 32, 41, 4] {
        answers.push(two.market.fetch(one.id(), request(0, end)).await.unwrap());
    }
    let received = || two.market.status().received_bytes;
    let room = 16 << 20;
    wait_for("a piece more than there is room for", || received() > room + (1 << 20)).await;
    let signs: Vec<_> = answers.iter().map(ChunkStream::signs).collect();
    let held_up = |answer: usize| signs[answer].held_up();
    let before = [2, 3].map(held_up);
    wait_for("signs of life", || held_up(2) > before[0] && held_up(3) > before[1]).await;
    assert_eq!(signs[3].received_bytes(), 0, "what waits behind another counts as begun");
    assert!(received() < room + (2 << 20), "{} bytes came, and nobody took them", received());
    // What nobody waits for holds up nothing.
    drop(answers.remove(2));
    let fourth = wait_for("the fourth", || signs[3].received_bytes() >= 1 << 20);
    tokio::time::timeout(Duration::from_secs(5), fourth).await.unwrap();
    for (mut answer, chunks) in answers.into_iter().zip([32, 32, 4]) {
        let mut bytes = 0;
        while let Some(piece) = answer.next().await {
            bytes += piece.unwrap().bytes.len();
        }
        assert_eq!(bytes, bytes_of(0, chunks).len());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hashes_come_in_slices_and_a_refusal_is_told() {
    let (one, two) = pair().await;
    let hashes = two.market.fetch_hashes(one.id(), FILE, ContentId([1; 32]), 40_000).await.unwrap();
    assert!(hashes == made_up(0..40_000));
    assert_eq!(fetch(&two, &one, 50, 51).await.unwrap_err(), FetchError::Refused);
    assert_eq!(fetch(&two, &one, 0, 1).await.unwrap().len(), 1, "a refusal is no break");
    let stranger = Start::new().go().await;
    assert_eq!(two.market.fetch(stranger.id(), request(0, 1)).await.unwrap_err(), FetchError::Unreachable);
}

#[tokio::test(flavor = "multi_thread")]
async fn pieces_come_in_slices_until_they_cover_the_file_and_no_other_number_of_bytes() {
    let (one, two) = pair().await;
    let fetched = |size, most| two.market.fetch_pieces(one.id(), FILE, size, most);
    assert!(fetched(PIECES * 1000, 30_000).await.unwrap() == pieces(0..PIECES));
    let lies = |found: Result<Vec<_>, FetchError>| matches!(found.unwrap_err(), FetchError::Lied(_));
    assert!(lies(fetched(1_000_500, 30_000).await), "more than the file has");
    assert!(fetched(PIECES * 1000, 17_000).await.unwrap() == pieces(0..17_000));
    assert!(lies(fetched(PIECES * 1000 + 1, 30_000).await), "less than the file has");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forged_claim_is_a_lie() {
    let (one, two) = pair().await;
    one.heard.lock().unwrap().forges = true;
    assert!(matches!(fetch(&two, &one, 0, 4).await.unwrap_err(), FetchError::Lied(_)));
    one.heard.lock().unwrap().forges = false;
    assert_eq!(fetch(&two, &one, 0, 4).await.unwrap().len(), 1, "the next question begins on a new stream");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_cancelled_leaves_the_rest_in_step() {
    let (one, two) = pair().await;
    for round in 0..20 {
        let mut cancelled = two.market.fetch(one.id(), request(0, 40)).await.unwrap();
        let kept = two.market.fetch(one.id(), request(round, round + 4)).await.unwrap();
        if round % 2 == 0 {
            assert_eq!(cancelled.next().await.unwrap().unwrap().bytes, bytes_of(0, 4));
        }
        drop(cancelled);
        let mut kept = kept;
        assert_eq!(kept.next().await.unwrap().unwrap().bytes, bytes_of(round, round + 4));
        assert!(kept.next().await.is_none());
    }
    wait_for("the other side to notice", || one.heard.lock().unwrap().cancelled > 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_leaves_in_the_middle_breaks_what_was_asked() {
    let (one, two) = pair().await;
    let mut streams = Vec::new();
    for _ in 0..40 {
        streams.push(two.market.fetch(one.id(), request(0, 40)).await.unwrap());
    }
    let id = one.id();
    one.market.stop().await;
    let mut broken = 0;
    for mut stream in streams {
        while let Some(piece) = stream.next().await {
            broken += usize::from(matches!(piece, Err(FetchError::Broken(_) | FetchError::Unreachable)));
        }
    }
    assert!(broken > 0);
    wait_for("the parting", || !two.market.is_connected(id)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_told_comes_in_order() {
    let (one, two) = pair().await;
    let words = || (1..200_u64).map(|at| FileMessage { file: FILE, body: FileWord::Have(vec![at..at + 1]) });
    for message in words() {
        assert!(two.market.tell(one.id(), message));
    }
    wait_for("all words", || one.heard.lock().unwrap().told.len() == 199).await;
    let told = one.heard.lock().unwrap().told.clone();
    assert!(told.into_iter().eq(words().map(|message| (two.id(), message))));
    assert_eq!(one.heard.lock().unwrap().came_and_went[0], (two.id(), true));
}
