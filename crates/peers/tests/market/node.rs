//! Nodes for the tests: a market's handle, and a task that answers what peers ask for.

use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use larder_content::{CHUNK_BYTES, ChunkHash, ChunkLayout, FileMessage, NodeId, PieceRow, Subject, VerifiedChunks};
use larder_peers::{Book, Config, Event, Identity, Market, MarketConfig, PIECE_CHUNKS, Piece, Sighting, Upload, Wanted};
use tokio::time::{Instant, sleep};

/// Long past what anything here takes.
const PATIENCE: Duration = Duration::from_secs(20);

/// The bytes of a file that every test node can serve.
pub(crate) const FILE_BYTES: u64 = 40 * CHUNK_BYTES + 1000;

/// A node of a test.
pub(crate) struct Node {
    pub(crate) market: Market,
    pub(crate) heard: Arc<Mutex<Heard>>,
}

/// What a node was told.
#[derive(Default)]
pub(crate) struct Heard {
    pub(crate) told: Vec<(NodeId, FileMessage)>,
    pub(crate) came_and_went: Vec<(NodeId, bool)>,
    pub(crate) sighted: Vec<Sighting>,
    pub(crate) books: Vec<Book>,
    pub(crate) cancelled: usize,
    /// Whether claims that it hands out are false.
    pub(crate) forges: bool,
}

/// How to start a node.
pub(crate) struct Start {
    pub(crate) identity: Identity,
    pub(crate) market: MarketConfig,
    pub(crate) config: Config,
    pub(crate) known: Book,
    pub(crate) held: Vec<Subject>,
}

impl Start {
    pub(crate) fn new() -> Self {
        let market = MarketConfig { address: "market".into(), listen: vec!["/ip4/127.0.0.1/tcp/0".into()], ..MarketConfig::default() };
        let config = Config { announce_every: Duration::from_millis(100), ..Config::default() };
        Self { identity: Identity::generate(), market, config, known: Book::default(), held: Vec::new() }
    }

    pub(crate) fn to(bootstraps: &[&Node]) -> Self {
        let mut start = Self::new();
        start.market.bootstrap = bootstraps.iter().map(|node| node.address()).collect();
        start
    }

    pub(crate) async fn go(self) -> Node {
        let (market, mut events) = Market::start(&self.identity, self.market, self.config, self.known, self.held).await.unwrap();
        let heard: Arc<Mutex<Heard>> = Arc::default();
        let (takes, gives) = (Arc::clone(&heard), market.clone());
        tokio::spawn(async move {
            while let Some(event) = events.recv().await {
                match event {
                    Event::Connected(node) => takes.lock().unwrap().came_and_went.push((node, true)),
                    Event::Disconnected(node) => takes.lock().unwrap().came_and_went.push((node, false)),
                    Event::Told { from, message } => takes.lock().unwrap().told.push((from, message)),
                    Event::Sighted(sighting) => takes.lock().unwrap().sighted.push(sighting),
                    Event::Book(book) => takes.lock().unwrap().books.push(book),
                    Event::Asked(upload) => {
                        tokio::spawn(answer(gives.clone(), Arc::clone(&takes), upload));
                    }
                }
            }
        });
        Node { market, heard }
    }
}

impl Node {
    pub(crate) fn id(&self) -> NodeId {
        self.market.id()
    }

    pub(crate) fn address(&self) -> String {
        self.market.listening()[0].clone()
    }

    pub(crate) async fn sees(&self, other: &Self) {
        wait_for("a connection", || self.market.is_connected(other.id())).await;
    }
}

/// Two nodes that are connected.
pub(crate) async fn pair() -> (Node, Node) {
    let one = Start::new().go().await;
    let two = Start::to(&[&one]).go().await;
    two.sees(&one).await;
    one.sees(&two).await;
    (one, two)
}

/// Waits until something holds.
pub(crate) async fn wait_for(what: &str, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "waited too long for {what}");
        sleep(Duration::from_millis(10)).await;
    }
}

/// The bytes of some chunks of the file.
pub(crate) fn bytes_of(first: u64, end: u64) -> Bytes {
    let range = ChunkLayout::new(FILE_BYTES).bytes(first, end);
    range.map(|at| (at / 7 % 251) as u8).collect::<Vec<u8>>().into()
}

/// The hashes of some chunks of the file.
pub(crate) fn hashes_of(first: u64, end: u64) -> Vec<ChunkHash> {
    VerifiedChunks::hashed(ChunkLayout::new(FILE_BYTES), first, bytes_of(first, end)).unwrap().hashes().to_vec()
}

/// What every test node gives for the hashes of some chunks, of however large a file.
pub(crate) fn made_up(chunks: Range<u64>) -> Vec<ChunkHash> {
    chunks.map(|number| ChunkHash(*blake3::hash(&number.to_le_bytes()).as_bytes())).collect()
}

/// How many pieces every test node gives, each of a thousand bytes.
pub(crate) const PIECES: u64 = 20_000;

/// Some of these.
pub(crate) fn pieces(rows: Range<u64>) -> Vec<PieceRow> {
    made_up(rows).into_iter().map(|hash| PieceRow { bytes: 1000, hash: hash.0 }).collect()
}

async fn answer(market: Market, heard: Arc<Mutex<Heard>>, mut upload: Upload) {
    let forges = heard.lock().unwrap().forges;
    match upload.wanted.clone() {
        Wanted::Hashes(range) => upload.send_hashes(made_up(range)).await,
        Wanted::Pieces(rows) => upload.send_pieces(pieces(rows.start..rows.end.min(PIECES))).await,
        Wanted::Chunks(range) if range.start >= 41 => upload.refuse(),
        Wanted::Chunks(range) => {
            let mut first = range.start;
            while first < range.end {
                let end = range.end.min(first + PIECE_CHUNKS);
                let mut claim = market.claim(upload.file, first, hashes_of(first, end));
                if forges {
                    claim.hashes[0].0[0] ^= 1;
                }
                let piece = Piece { first, bytes: bytes_of(first, end), claim: Some(claim), content: None };
                if upload.send(piece).await.is_err() {
                    heard.lock().unwrap().cancelled += 1;
                    return;
                }
                first = end;
            }
        }
    }
}
