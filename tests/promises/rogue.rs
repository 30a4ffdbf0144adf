//! Members of a market that keep none of its promises.

use larder_content::{
    CHUNK_BYTES, ChunkHash, ChunkLayout, ContentId, FileKey, FileMessage, FileWord, Holding, Locator, NodeId, OriginDigest, OriginFile,
    RelativePath, Scope, Subject, VerifiedChunks,
};
use larder_harness::hub::{FileFacts, HubServer};
use larder_peers::{Config, Event, Identity, Market, MarketConfig, Piece, Upload, Wanted};
use tokio::runtime::Runtime;

use crate::files::{Files, REPO};
use crate::member::{ANYWHERE, MARKET};

/// What a rogue does when it is asked for chunks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rogue {
    /// Nothing.
    Stalls,
    /// Sends what is not the file.
    SendsFalse,
    /// Says that the file is another, whose hashes and bytes it has.
    SwearsFalse,
    /// Says that it has what it has not.
    Refuses,
    /// Fetches the file too, signs what it says that it read from the origin, and sends something else.
    SendsOther,
    /// Fetches the file too, and signs what it sends as what it read from the origin: bytes of its own.
    SignsFalse,
}

impl Rogue {
    /// Whether it poses as one that fetches the file, and not as one that has it.
    fn fetches(self) -> bool {
        matches!(self, Self::SendsOther | Self::SignsFalse)
    }
}

/// What a rogue speaks of: the repository of the hub, byte for byte.
#[derive(Clone)]
pub(crate) struct Known {
    resource: Subject,
    files: Vec<(FileKey, Vec<u8>)>,
}

impl Known {
    pub(crate) fn of(files: &Files, hub: &HubServer) -> Self {
        let commit = hub.commit(REPO, "main").unwrap();
        let file = |facts: FileFacts| (key(&facts, hub, &commit), files.0[&facts.path].clone());
        let resource = Subject::of_resource(&format!("hf:{REPO}@{commit}"));
        Self { resource, files: hub.files(REPO, "main").into_iter().map(file).collect() }
    }

    fn file(&self, key: FileKey) -> Option<&[u8]> {
        self.files.iter().find(|(other, _)| *other == key).map(|(_, bytes)| &bytes[..])
    }
}

/// Lets a rogue take part in the market until it is stopped.
pub(crate) fn rogue(runtime: &Runtime, bootstrap: &str, kind: Rogue, known: Known) -> Market {
    let config = MarketConfig {
        address: MARKET.into(),
        listen: vec![ANYWHERE.into()],
        bootstrap: vec![bootstrap.into()],
        ..MarketConfig::default()
    };
    let started = runtime.block_on(Market::start(&Identity::generate(), config, Config::default(), Vec::new(), Vec::new()));
    let (market, mut events) = started.unwrap();
    let subjects = std::iter::once(known.resource).chain(known.files.iter().map(|(key, _)| Subject::from(*key)));
    let holding = if kind.fetches() { Holding::Fetching } else { Holding::Complete };
    subjects.for_each(|subject| market.announce(subject, holding));
    let own = market.clone();
    runtime.spawn(async move {
        while let Some(event) = events.recv().await {
            match event {
                Event::Told { from, message: FileMessage { file, body: FileWord::Follow } } => {
                    if let Some(bytes) = known.file(file) {
                        speak(&own, kind, from, file, bytes);
                    }
                }
                Event::Asked(upload) => {
                    if let Some(bytes) = known.file(upload.file) {
                        tokio::spawn(misbehave(own.clone(), kind, upload, bytes.to_vec()));
                    }
                }
                Event::Told { .. } | Event::Connected(_) | Event::Disconnected(_) | Event::Sighted(_) | Event::Book(_) => {}
            }
        }
    });
    market
}

/// What it says of a file to one who follows.
fn speak(market: &Market, kind: Rogue, to: NodeId, file: FileKey, bytes: &[u8]) {
    let run = 0..pretended(bytes);
    let words = match kind {
        Rogue::SendsOther | Rogue::SignsFalse if run.is_empty() => vec![FileWord::Nothing],
        Rogue::SendsOther | Rogue::SignsFalse => vec![FileWord::Reading(vec![run.clone()]), FileWord::Have(vec![run])],
        Rogue::SwearsFalse => vec![FileWord::Complete(ContentId::of(&falsified(bytes)))],
        Rogue::Stalls | Rogue::SendsFalse | Rogue::Refuses => vec![FileWord::Complete(ContentId::of(bytes))],
    };
    for body in words {
        let _ = market.tell(to, FileMessage { file, body });
    }
}

/// Of how many chunks one that fetches a file says that it has read them: a quarter of those of a large file.
fn pretended(bytes: &[u8]) -> u64 {
    bytes.len() as u64 / CHUNK_BYTES / 4
}

fn falsified(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().map(|byte| byte ^ 0x55).collect()
}

async fn misbehave(market: Market, kind: Rogue, mut upload: Upload, bytes: Vec<u8>) {
    let size = bytes.len() as u64;
    match (upload.wanted.clone(), kind) {
        (_, Rogue::Refuses) => upload.refuse(),
        (Wanted::Chunks(_), Rogue::Stalls) => upload.gone().await,
        (Wanted::Hashes(run), _) => {
            let hashes = hashes(size, 0, if kind == Rogue::SwearsFalse { falsified(&bytes) } else { bytes });
            let at = |index: u64| usize::try_from(index).unwrap().min(hashes.len());
            upload.send_hashes(hashes[at(run.start)..at(run.end)].to_vec()).await;
        }
        (Wanted::Chunks(run), Rogue::SendsFalse | Rogue::SwearsFalse | Rogue::SendsOther | Rogue::SignsFalse) => {
            for index in run {
                let (place, chunk) = (usize::try_from(index).unwrap(), usize::try_from(CHUNK_BYTES).unwrap());
                let right = &bytes[place * chunk..((place + 1) * chunk).min(bytes.len())];
                let signed = || hashes(size, index, if kind == Rogue::SignsFalse { falsified(right) } else { right.to_vec() });
                let claim = kind.fetches().then(|| market.claim(upload.file, index, signed()));
                let piece = Piece { first: index, bytes: falsified(right).into(), claim, content: upload.content };
                if upload.send(piece).await.is_err() {
                    return;
                }
            }
        }
    }
}

/// The hashes of chunks from `first` on, of a file of this size.
fn hashes(size: u64, first: u64, bytes: Vec<u8>) -> Vec<ChunkHash> {
    VerifiedChunks::hashed(ChunkLayout::new(size), first, bytes.into()).unwrap().hashes().to_vec()
}

/// The key that the market has for a file of the hub's repository.
fn key(facts: &FileFacts, hub: &HubServer, commit: &str) -> FileKey {
    let digests = facts.sha256.iter().map(|sha256| OriginDigest::sha256(sha256).unwrap()).collect();
    let path = RelativePath::new(&facts.path).unwrap();
    let locator = Locator { endpoint: hub.endpoint().into(), container: REPO.into(), path: facts.path.clone(), version: commit.into() };
    OriginFile { path, size: facts.size, digests, locator }.key(Scope::Public)
}
