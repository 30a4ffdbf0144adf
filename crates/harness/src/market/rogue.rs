//! Members of a market that keep none of its promises.

use std::io;
use std::ops::Range;
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::Context;
use larder_content::xet::XetHasher;
use larder_content::{
    CHUNK_BYTES, ChunkHash, ChunkLayout, ContentId, FileKey, FileMessage, FileWord, Holding, Locator, NodeId, OriginDigest, OriginFile,
    PieceRow, RelativePath, Scope, Subject, VerifiedChunks,
};
use larder_peers::{Book, Config, Event, Identity, Market, MarketConfig, Piece, Upload, Wanted};
use tokio::sync::oneshot;

use super::node::Place;
use crate::hub::HubServer;
use crate::source::Source;

/// How long one that dawdles takes for a chunk: less than what counts as a stall.
const DAWDLE: Duration = Duration::from_millis(1500);

/// Of how many chunks that one signs which is false in few, one is.
const SIGNED_FOR_ONE: u64 = 8;

/// What a rogue does when it is asked for chunks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rogue {
    /// Nothing.
    Stalls,
    /// Sends what is not the file.
    SendsFalse,
    /// Says that the file is another, whose hashes, pieces and bytes it has.
    SwearsFalse,
    /// The same of one that is false in a single chunk, another for each such rogue; in files of one chunk it is honest.
    SwearsNearly,
    /// Says that it has what it has not.
    Refuses,
    /// Sends what is right, a chunk every second and a half.
    Dawdles,
    /// Fetches the file too, signs what it says that it read from the origin, and sends something else.
    SendsOther,
    /// Fetches the file too, and signs what it sends as what it read from the origin: bytes of its own.
    SignsFalse,
    /// The same, but only each eighth chunk of what it says that it read is false.
    SignsNearly,
}

impl Rogue {
    /// Whether it poses as one that fetches the file, and not as one that has it.
    fn fetches(self) -> bool {
        matches!(self, Self::SendsOther | Self::SignsFalse | Self::SignsNearly)
    }
}

/// What a rogue speaks of: what origins list, byte for byte.
#[derive(Debug, Clone, Default)]
pub struct Known {
    resources: Vec<Subject>,
    files: Vec<KnownFile>,
}

#[derive(Debug, Clone)]
struct KnownFile {
    key: FileKey,
    size: u64,
    source: Source,
    /// What the rogue says that it is, once that was asked for.
    content: OnceLock<ContentId>,
    /// Of which pieces it says that is, in the same way.
    pieces: OnceLock<Vec<PieceRow>>,
    /// Which chunk of so many is false, if few are.
    false_chunk: OnceLock<u64>,
}

impl Known {
    /// All that `models/…` of these names hold at `main`.
    ///
    /// # Errors
    /// Fails if the hub has no such, or a file cannot be read.
    pub fn of(hub: &HubServer, names: &[&str]) -> anyhow::Result<Self> {
        let mut known = Self::default();
        for name in names {
            let id = name.strip_prefix("models/").unwrap_or(name);
            let commit = hub.commit(name, "main").with_context(|| format!("the hub has no {name}"))?;
            known.resources.push(Subject::of_resource(&format!("hf:{name}@{commit}")));
            for (path, size, sha256, source) in hub.contents(name, "main") {
                let digests = sha256.iter().filter_map(|sha256| OriginDigest::sha256(sha256).ok()).collect();
                let locator = Locator {
                    endpoint: hub.endpoint().into(),
                    container: format!("models/{id}"),
                    path: path.clone(),
                    version: commit.clone(),
                };
                let path = RelativePath::new(&path).with_context(|| format!("{name}: {path}"))?;
                let key = OriginFile { path, size, digests, locator }.key(Scope::Public);
                known.files.push(KnownFile::new(key, size, source));
            }
        }
        Ok(known)
    }

    /// A resource of which an origin lists these files, each with its bytes.
    #[must_use]
    pub fn of_files(id: &str, files: Vec<(OriginFile, Vec<u8>)>) -> Self {
        let known = |(file, bytes): (OriginFile, Vec<u8>)| KnownFile::new(file.key(Scope::Public), file.size, Source::Memory(bytes.into()));
        Self { resources: vec![Subject::of_resource(id)], files: files.into_iter().map(known).collect() }
    }

    fn file(&self, key: FileKey) -> Option<&KnownFile> {
        self.files.iter().find(|file| file.key == key)
    }
}

impl KnownFile {
    fn new(key: FileKey, size: u64, source: Source) -> Self {
        Self { key, size, source, content: OnceLock::new(), pieces: OnceLock::new(), false_chunk: OnceLock::new() }
    }

    fn bytes(&self, range: Range<u64>) -> io::Result<Vec<u8>> {
        let pieces: Vec<bytes::Bytes> = self.source.pieces(range)?.collect::<io::Result<_>>()?;
        Ok(pieces.concat())
    }

    /// What it says that bytes are, those from a chunk on.
    fn told(&self, kind: Rogue, first: u64, mut bytes: Vec<u8>) -> Vec<u8> {
        let count = self.size.div_ceil(CHUNK_BYTES);
        let every = match kind {
            Rogue::SwearsFalse | Rogue::SignsFalse => return falsified(&bytes),
            Rogue::SwearsNearly if count > 1 => count,
            Rogue::SignsNearly => SIGNED_FOR_ONE,
            Rogue::Stalls | Rogue::SendsFalse | Rogue::SwearsNearly | Rogue::Refuses | Rogue::Dawdles | Rogue::SendsOther => return bytes,
        };
        let place = *self.false_chunk.get_or_init(|| fastrand::u64(..every));
        for (_, chunk) in (first..).zip(bytes.chunks_mut(CHUNK_BYTES as usize)).filter(|(chunk, _)| chunk % every == place) {
            chunk[0] ^= 1;
        }
        bytes
    }

    /// Of how many chunks one that fetches it says that it has read them: a quarter of those of a large file.
    fn pretended(&self) -> u64 {
        self.size / CHUNK_BYTES / 4
    }

    fn content(&self, kind: Rogue) -> io::Result<ContentId> {
        if let Some(content) = self.content.get() {
            return Ok(*content);
        }
        let bytes = self.told(kind, 0, self.bytes(0..self.size)?);
        let content = ContentId::of(&bytes);
        if kind == Rogue::SwearsFalse {
            let mut hasher = XetHasher::new();
            hasher.update(&bytes);
            let _ = self.pieces.set(hasher.into_pieces());
        }
        Ok(*self.content.get_or_init(|| content))
    }
}

/// Lets a rogue take part in the market at `address`, listening at `listen`, until the market it gives is stopped.
///
/// # Errors
/// Fails if it cannot listen there.
pub async fn take_part(kind: Rogue, known: Known, address: &str, listen: Vec<String>, bootstrap: Vec<String>) -> anyhow::Result<Market> {
    if !kind.fetches() {
        // So that it answers as fast as those who know.
        known.files.iter().try_for_each(|file| file.content(kind).map(drop)).context("what it speaks of cannot be read")?;
    }
    let config = MarketConfig { address: address.to_owned(), listen, bootstrap, ..MarketConfig::default() };
    let (market, mut events) = Market::start(&Identity::generate(), config, Config::default(), Book::default(), Vec::new()).await?;
    let subjects = known.resources.iter().copied().chain(known.files.iter().map(|file| Subject::from(file.key)));
    let holding = if kind.fetches() { Holding::Fetching } else { Holding::Complete };
    subjects.for_each(|subject| market.announce(subject, holding));
    let own = market.clone();
    tokio::spawn(async move {
        while let Some(event) = events.recv().await {
            match event {
                Event::Told { from, message: FileMessage { file, body: FileWord::Follow } } => {
                    if let Some(file) = known.file(file) {
                        // Nothing is said of what cannot be read.
                        let _ = speak(&own, kind, from, file);
                    }
                }
                Event::Asked(upload) => {
                    if let Some(file) = known.file(upload.file) {
                        tokio::spawn(misbehave(own.clone(), kind, upload, file.clone()));
                    }
                }
                Event::Told { .. } | Event::Connected(_) | Event::Disconnected(_) | Event::Sighted(_) | Event::Book(_) => {}
            }
        }
    });
    Ok(market)
}

/// A rogue with a thread of its own, until it is dropped.
#[derive(Debug)]
pub struct RogueNode {
    peer: String,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl RogueNode {
    /// Starts it where `place` is.
    pub(crate) fn start(kind: Rogue, known: Known, place: &Place, address: &str, bootstrap: Vec<String>) -> anyhow::Result<Self> {
        let (listen, address) = (vec![place.listen()?], address.to_owned());
        let (stop, stopped) = oneshot::channel();
        let (tell, told) = std::sync::mpsc::sync_channel(1);
        let run = move || {
            let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => runtime,
                Err(error) => return drop(tell.send(Err(error.into()))),
            };
            runtime.block_on(async {
                match take_part(kind, known, &address, listen, bootstrap).await {
                    Ok(market) => {
                        let _ = tell.send(Ok(market.id().to_string()));
                        let _ = stopped.await;
                        market.stop().await;
                    }
                    Err(error) => drop(tell.send(Err(error))),
                }
            });
        };
        let thread = place.thread(run)?;
        let peer = told.recv().context("a rogue's thread ended")??;
        Ok(Self { peer, stop: Some(stop), thread: Some(thread) })
    }

    /// Its peer id.
    #[must_use]
    pub fn peer(&self) -> &str {
        &self.peer
    }
}

impl Drop for RogueNode {
    fn drop(&mut self) {
        let _ = self.stop.take().map(|stop| stop.send(()));
        let _ = self.thread.take().map(std::thread::JoinHandle::join);
    }
}

/// What it says of a file to one who follows.
fn speak(market: &Market, kind: Rogue, to: NodeId, file: &KnownFile) -> io::Result<()> {
    let run = 0..file.pretended();
    let words = match kind {
        _ if kind.fetches() && run.is_empty() => vec![FileWord::Nothing],
        Rogue::SendsOther | Rogue::SignsFalse | Rogue::SignsNearly => vec![FileWord::Reading(vec![run.clone()]), FileWord::Have(vec![run])],
        Rogue::Stalls | Rogue::SendsFalse | Rogue::Refuses | Rogue::SwearsFalse | Rogue::SwearsNearly | Rogue::Dawdles => {
            vec![FileWord::Complete(file.content(kind)?)]
        }
    };
    for body in words {
        let _ = market.tell(to, FileMessage { file: file.key, body });
    }
    Ok(())
}

/// What a rogue says that bytes are.
#[must_use]
pub fn falsified(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().map(|byte| byte ^ 0x55).collect()
}

async fn misbehave(market: Market, kind: Rogue, mut upload: Upload, file: KnownFile) {
    let bytes = |chunks: Range<u64>| file.bytes(chunks.start * CHUNK_BYTES..(chunks.end * CHUNK_BYTES).min(file.size)).unwrap_or_default();
    match (upload.wanted.clone(), kind) {
        (Wanted::Pieces(rows), Rogue::SwearsFalse) => {
            let pieces = file.pieces.get().map(Vec::as_slice).unwrap_or_default().iter().copied();
            let [first, count] = [rows.start, rows.end - rows.start].map(|number| usize::try_from(number).unwrap_or(usize::MAX));
            upload.send_pieces(pieces.skip(first).take(count).collect()).await;
        }
        (Wanted::Chunks(_) | Wanted::Pieces(_), Rogue::Stalls) => upload.gone().await,
        (_, Rogue::Refuses) | (Wanted::Pieces(_), _) => upload.refuse(),
        (Wanted::Hashes(run), _) => {
            let told = file.told(kind, run.start, bytes(run.clone()));
            upload.send_hashes(hashes(file.size, run.start, told)).await;
        }
        (Wanted::Chunks(run), _) => {
            for first in run {
                if kind == Rogue::Dawdles {
                    tokio::time::sleep(DAWDLE).await;
                }
                let told = file.told(kind, first, bytes(first..first + 1));
                let sent = if matches!(kind, Rogue::SendsFalse | Rogue::SendsOther) { falsified(&told) } else { told.clone() };
                let claim = kind.fetches().then(|| market.claim(upload.file, first, hashes(file.size, first, told)));
                let piece = Piece { first, bytes: sent.into(), claim, content: upload.content };
                if upload.send(piece).await.is_err() {
                    return;
                }
            }
        }
    }
}

/// The hashes of chunks from `first` on, of a file of this size; none if the bytes are not whole chunks of it.
fn hashes(size: u64, first: u64, bytes: Vec<u8>) -> Vec<ChunkHash> {
    VerifiedChunks::hashed(ChunkLayout::new(size), first, bytes.into()).map(|chunks| chunks.hashes().to_vec()).unwrap_or_default()
}
