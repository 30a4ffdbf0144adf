//! Larder's own exchange, without an engine or a store: the giver makes its chunks up, the taker drops them.

use bytes::Bytes;
use larder_content::{CHUNK_BYTES, FileKey, NodeId};
use larder_peers::{Book, ChunkRequest, Config, Event, Identity, Market, MarketConfig, Piece, Wanted};
use tokio::sync::mpsc;

/// Chunks in a question, and questions under way on a connection.
const QUESTION_CHUNKS: u64 = 16;
const QUESTIONS: usize = 16;
/// Chunks in a piece.
const PIECE_CHUNKS: usize = 4;
/// A giver of this many connections is not to refuse.
const CONNECTIONS: u32 = 1024;

async fn start(listen: Vec<String>, bootstrap: Vec<String>) -> (Market, mpsc::Receiver<Event>) {
    let is_bootstrap = bootstrap.is_empty();
    let market = MarketConfig { address: "market".into(), listen, bootstrap, is_bootstrap, ..MarketConfig::default() };
    let config = Config { most_connections: CONNECTIONS, ..Config::default() };
    Market::start(&Identity::generate(), market, config, Book::default(), Vec::new()).await.unwrap()
}

/// Listens, and gives until the market is dropped.
pub(crate) async fn give(listen: &str) -> Market {
    let (market, events) = start(vec![listen.to_owned()], Vec::new()).await;
    tokio::spawn(answer(events));
    market
}

async fn answer(mut events: mpsc::Receiver<Event>) {
    let bytes = Bytes::from(vec![7; PIECE_CHUNKS << 18]);
    while let Some(event) = events.recv().await {
        if let Event::Asked(mut upload) = event
            && let Wanted::Chunks(range) = upload.wanted.clone()
        {
            let bytes = bytes.clone();
            tokio::spawn(async move {
                for first in range.step_by(PIECE_CHUNKS) {
                    let piece = Piece { first, bytes: bytes.clone(), claim: None, content: None };
                    if upload.send(piece).await.is_err() {
                        return;
                    }
                }
            });
        }
    }
}

/// A node that is connected to givers.
pub(crate) struct Taker {
    market: Market,
    givers: Vec<NodeId>,
    _drained: tokio::task::JoinHandle<()>,
}

impl Taker {
    pub(crate) async fn connect(addresses: &[&str]) -> Self {
        let (market, mut events) = start(Vec::new(), addresses.iter().map(ToString::to_string).collect()).await;
        let mut givers = Vec::new();
        while givers.len() < addresses.len() {
            if let Some(Event::Connected(node)) = events.recv().await {
                givers.push(node);
            }
        }
        let drained = tokio::spawn(async move { while events.recv().await.is_some() {} });
        Self { market, givers, _drained: drained }
    }

    /// Takes bytes from all givers at once, from each an equal part.
    pub(crate) async fn take(&self, bytes: u64) {
        let part = bytes / CHUNK_BYTES / self.givers.len() as u64;
        let takes: Vec<_> = self.givers.iter().map(|giver| tokio::spawn(take(self.market.clone(), *giver, part))).collect();
        for take in takes {
            take.await.unwrap();
        }
    }
}

async fn take(market: Market, giver: NodeId, chunks: u64) {
    let (pipeline, mut streams) = mpsc::channel(QUESTIONS - 1);
    tokio::spawn(async move {
        for first in (0..chunks).step_by(QUESTION_CHUNKS as usize) {
            let chunks = first..(first + QUESTION_CHUNKS).min(chunks);
            let request = ChunkRequest { file: FileKey([1; 32]), content: None, chunks };
            pipeline.send(market.fetch(giver, request).await.unwrap()).await.unwrap();
        }
    });
    let mut received = 0;
    while let Some(mut stream) = streams.recv().await {
        while let Some(piece) = stream.next().await {
            received += piece.unwrap().bytes.len() as u64;
        }
    }
    assert_eq!(received, chunks * CHUNK_BYTES, "all that was asked for came");
}
