//! How fast one node takes chunks from another over loopback, beside a bare libp2p stream: run it with `--release`.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a measurement for a person")]

#[allow(dead_code, reason = "of the tests' plain node only the streams are used")]
#[path = "../tests/market/raw.rs"]
mod raw;

use std::time::Instant;

use bytes::Bytes;
use larder_content::{CHUNK_BYTES, FileKey};
use larder_peers::{ChunkRequest, Config, Event, Identity, Market, MarketConfig, Piece, Wanted};
use tokio::sync::mpsc;

const BYTES: u64 = 2 << 30;

#[tokio::main]
async fn main() {
    let transport = std::env::args().nth(1).unwrap_or_else(|| "/ip4/127.0.0.1/tcp/0".into());
    let ours = exchange(&transport).await;
    let bare = raw::bare_stream(BYTES).await;
    println!("ours {ours:.0} MiB/s over {transport}, a bare stream over TCP {bare:.0} MiB/s, ratio {:.2}", ours / bare);
}

async fn exchange(listen: &str) -> f64 {
    let market = |bootstrap: Vec<String>| MarketConfig {
        address: "market".into(),
        listen: vec![listen.into()],
        bootstrap,
        ..MarketConfig::default()
    };
    let (one, events) = Market::start(&Identity::generate(), market(Vec::new()), Config::default(), Vec::new()).await.unwrap();
    tokio::spawn(give(events));
    let (two, mut events) = Market::start(&Identity::generate(), market(one.listening()), Config::default(), Vec::new()).await.unwrap();
    while !matches!(events.recv().await, Some(Event::Connected(_))) {}
    let began = Instant::now();
    let chunks = BYTES / CHUNK_BYTES;
    let (pipeline, mut streams) = mpsc::channel(8);
    let (asker, from) = (two.clone(), one.id());
    tokio::spawn(async move {
        for first in (0..chunks).step_by(16) {
            let request = ChunkRequest { file: FileKey([1; 32]), content: None, chunks: first..first + 16 };
            pipeline.send(asker.fetch(from, request).await.unwrap()).await.unwrap();
        }
    });
    let mut received = 0;
    while let Some(mut stream) = streams.recv().await {
        while let Some(piece) = stream.next().await {
            received += piece.unwrap().bytes.len() as u64;
        }
    }
    assert_eq!(received, BYTES);
    (BYTES >> 20) as f64 / began.elapsed().as_secs_f64()
}

async fn give(mut events: mpsc::Receiver<Event>) {
    let bytes = Bytes::from(vec![7; 1 << 20]);
    while let Some(event) = events.recv().await {
        if let Event::Asked(mut upload) = event
            && let Wanted::Chunks(range) = upload.wanted.clone()
        {
            let bytes = bytes.clone();
            tokio::spawn(async move {
                for first in range.step_by(4) {
                    let piece = Piece { first, bytes: bytes.clone(), claim: None, content: None };
                    if upload.send(piece).await.is_err() {
                        return;
                    }
                }
            });
        }
    }
}
