//! One read from a peer: a run of chunks into the store.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use futures::future::BoxFuture;
use larder_content::{CHUNK_BYTES, ChunkHashes, ContentId, NodeId, OriginFile, Scope, VerifiedChunks};
use larder_engine::{Compared, Outcome};
use larder_peers::{ChunkRequest, ChunkStream, FetchError as PeerError, Piece};
use larder_store::{Blob, Partial, SealError, Store};

use super::shared::{SharedFile, Wrong};
use crate::read::{ReadError, defect, follow, write_over};

/// How often it is looked whether bytes come.
const LOOK: Duration = Duration::from_millis(500);

/// What a read from a peer tells while it goes on.
pub(super) enum Heard {
    /// So many chunks are in the store, of so many bytes.
    Chunks(u64, u64),
    /// Bytes come.
    Bytes,
    /// What its peer sends waits for this node.
    HeldUp,
    /// What lies there is not as the list of pieces says.
    Wrong(Range<u64>),
}

/// Whom to ask, and for what.
pub(super) struct Question {
    pub(super) shared: Arc<SharedFile>,
    pub(super) node: NodeId,
    pub(super) content: Option<ContentId>,
    pub(super) chunks: Range<u64>,
}

impl Question {
    async fn ask(&self) -> Result<ChunkStream, ReadError> {
        let request = ChunkRequest { file: self.shared.key, content: self.content, chunks: self.chunks.clone() };
        self.shared.market.fetch(self.node, request).await.map_err(of_peer)
    }

    /// Reads the chunks into the partial file.
    pub(super) async fn into_partial(
        self,
        partial: Partial,
        mut heard: impl FnMut(Heard) -> BoxFuture<'static, ()> + Send,
    ) -> Result<(), ReadError> {
        let mut stream = self.ask().await?;
        let mut next = self.chunks.start;
        while next < self.chunks.end {
            let piece = next_piece(&mut stream, next, &mut heard).await?;
            let (shared, partial) = (self.shared.clone(), partial.clone());
            let bytes = piece.bytes.len() as u64;
            let written = tokio::task::spawn_blocking(move || {
                let (chunks, claim) = shared.check(piece).map_err(of_wrong)?;
                // What is there may be what was refuted.
                shared.replaced(&write_over(&partial, &chunks, |chunk| shared.is_own(chunk))?);
                if !shared.fits(&chunks) {
                    partial.forget(chunks.indices())?;
                    return Err(of_wrong(claim.map_or(Wrong::Sender, |claim| Wrong::Signer(claim.signer))));
                }
                shared.keep(claim);
                let wrong = partial.check_pieces(&chunks)?;
                follow(&partial);
                Ok::<_, ReadError>((chunks.hashes().len() as u64, wrong))
            });
            let (count, wrong) = busy(written, &mut heard).await.map_err(|panic| defect(&panic))??;
            next += count;
            let wrong = wrong.into_iter().flatten().next();
            let is_wrong = wrong.is_some();
            // First: no more of it until it is known who is wrong.
            if let Some(place) = wrong {
                heard(Heard::Wrong(place)).await;
            }
            heard(Heard::Chunks(count, bytes)).await;
            if is_wrong {
                return Err(ReadError::Peer(Outcome::Broken));
            }
        }
        Ok(())
    }

    /// Reads a small file whole, and seals it.
    pub(super) async fn into_store(
        self,
        store: Store,
        file: Arc<OriginFile>,
        mut heard: impl FnMut(Heard) -> BoxFuture<'static, ()> + Send,
    ) -> Result<Blob, ReadError> {
        let mut stream = self.ask().await?;
        let mut whole = BytesMut::with_capacity(usize::try_from(file.size).unwrap_or_default());
        while (whole.len() as u64) < file.size {
            let piece = next_piece(&mut stream, whole.len() as u64 / CHUNK_BYTES, &mut heard).await?;
            whole.extend_from_slice(&piece.bytes);
        }
        let layout = self.shared.layout;
        let sealed = tokio::task::spawn_blocking(move || {
            // The store proves it before it is anything.
            let lied = || ReadError::Peer(Outcome::Lied);
            let chunks = VerifiedChunks::hashed(layout, 0, whole.freeze()).map_err(|_| lied())?;
            store.put(&file, Scope::Public, &chunks).map_err(|error| match error {
                SealError::Mismatch { .. } => lied(),
                other @ (SealError::Incomplete { .. } | SealError::Store(_)) => other.into(),
            })
        });
        sealed.await.map_err(|panic| defect(&panic))?
    }
}

/// The next piece, which begins at chunk `next`.
async fn next_piece(
    stream: &mut ChunkStream,
    next: u64,
    heard: &mut (impl FnMut(Heard) -> BoxFuture<'static, ()> + Send),
) -> Result<Piece, ReadError> {
    let signs = stream.signs();
    let mut seen = (signs.received_bytes(), signs.held_up());
    loop {
        let Ok(piece) = tokio::time::timeout(LOOK, stream.next()).await else {
            let before = std::mem::replace(&mut seen, (signs.received_bytes(), signs.held_up()));
            if seen.0 > before.0 {
                heard(Heard::Bytes).await;
            } else if seen.1 > before.1 {
                heard(Heard::HeldUp).await;
            }
            continue;
        };
        return match piece {
            Some(Ok(piece)) if piece.first == next => Ok(piece),
            Some(Ok(_)) => Err(ReadError::Peer(Outcome::Lied)),
            Some(Err(error)) => Err(of_peer(error)),
            // It has no more.
            None => Err(ReadError::Peer(Outcome::Refused)),
        };
    }
}

/// Waits for this node's own disk: for that its peer is not to blame.
async fn busy<T>(work: impl Future<Output = T>, heard: &mut (impl FnMut(Heard) -> BoxFuture<'static, ()> + Send)) -> T {
    tokio::pin!(work);
    loop {
        match tokio::time::timeout(LOOK, &mut work).await {
            Ok(done) => return done,
            Err(_) => heard(Heard::HeldUp).await,
        }
    }
}

/// Gets the chunk hashes of `content` from a peer, and compares what is in the store with them.
pub(super) async fn hashes(shared: Arc<SharedFile>, partial: Option<Partial>, node: NodeId, content: ContentId, question: u64) -> Compared {
    let count = shared.layout.count();
    let found = shared.market.fetch_hashes(node, shared.key, content, count).await;
    let compared = tokio::task::spawn_blocking(move || {
        let list = match found {
            Ok(hashes) => ChunkHashes::check(shared.layout, content, hashes),
            Err(error) => {
                tracing::debug!(peer = %node, %error, "no chunk hashes came");
                None
            }
        };
        let (Some(list), Some(partial)) = (list, partial) else { return Compared::Missing };
        shared.compare(&partial, &Arc::new(list), question).unwrap_or_else(|error| {
            tracing::warn!(%error, "the chunks that are there cannot be compared");
            Compared::Missing
        })
    });
    compared.await.unwrap_or(Compared::Missing)
}

fn of_wrong(wrong: Wrong) -> ReadError {
    ReadError::Peer(match wrong {
        Wrong::Unvouched => Outcome::Refused,
        Wrong::Sender => Outcome::Lied,
        Wrong::Signer(signer) => Outcome::Misled(signer),
    })
}

fn of_peer(error: PeerError) -> ReadError {
    ReadError::Peer(match error {
        PeerError::Unreachable | PeerError::Broken(_) => Outcome::Broken,
        PeerError::Refused => Outcome::Refused,
        PeerError::Lied(what) => {
            tracing::info!(%what, "a peer lied");
            Outcome::Lied
        }
    })
}
