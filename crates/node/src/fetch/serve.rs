//! Answers what peers ask for: from the store, or from a file that is still coming.

use std::ops::Range;
use std::sync::Arc;

use larder_content::{ContentId, FileKey, Scope};
use larder_peers::{PIECE_CHUNKS, Piece, Upload, Wanted};
use larder_store::{Blob, Partial, Store, StoreError};

use super::shared::SharedFile;

/// A public file that is complete in the store.
pub(super) fn find_public(store: &Store, key: &FileKey) -> Option<Blob> {
    match store.find(key) {
        Ok(blob) => blob.filter(|blob| blob.scope() == Scope::Public),
        Err(error) => {
            tracing::warn!(file = %key, %error, "the store cannot say whether it has it");
            None
        }
    }
}

/// Answers one question. What cannot be answered is refused by dropping it.
pub(super) async fn answer(store: Store, coming: Option<(Partial, Arc<SharedFile>)>, mut upload: Upload) {
    let run = match upload.wanted.clone() {
        Wanted::Hashes(run) => return hashes(&store, coming, upload, run).await,
        Wanted::Pieces(rows) => return pieces(&store, upload, rows).await,
        Wanted::Chunks(run) => run,
    };
    let (mut at, mut sent) = (run.start, 0);
    if let Some((partial, shared)) = &coming {
        (at, sent) = of_coming(partial, shared, &mut upload, run.clone()).await;
    }
    // It may have become complete meanwhile.
    sent += of_blob(&store, &mut upload, at..run.end).await;
    store.add_served(sent);
}

async fn hashes(store: &Store, coming: Option<(Partial, Arc<SharedFile>)>, upload: Upload, run: Range<u64>) {
    let known = coming.and_then(|(_, shared)| shared.list()).filter(|list| upload.content == Some(list.content()));
    let list = match known {
        Some(list) => Some(list),
        None => {
            let (store, key, content) = (store.clone(), upload.file, upload.content);
            blocking(move || match find_public(&store, &key).filter(|blob| Some(blob.content()) == content) {
                Some(blob) => store.chunk_hashes(&blob).map(Some),
                None => Ok(None),
            })
            .await
        }
    };
    if let Some(list) = list {
        upload.send_hashes(list.run(run).to_vec()).await;
    }
}

/// Sends the pieces of a file that is complete and listed; whoever has only a part of it cannot know them.
async fn pieces(store: &Store, upload: Upload, rows: Range<u64>) {
    let (store, key) = (store.clone(), upload.file);
    let found = blocking(move || match find_public(&store, &key) {
        Some(blob) => store.pieces(&blob, rows),
        None => Ok(None),
    });
    if let Some(pieces) = found.await {
        upload.send_pieces(pieces).await;
    }
}

/// Sends what there is of a file that is still coming, from the start of the run on; gives the chunk up to which it was sent, and the bytes.
async fn of_coming(partial: &Partial, shared: &SharedFile, upload: &mut Upload, run: Range<u64>) -> (u64, u64) {
    let (mut at, mut sent) = (run.start, 0);
    while at < run.end && upload.room().await.is_ok() {
        let list = shared.list();
        let content = list.as_ref().map(|list| list.content());
        if upload.content.is_some_and(|wanted| content != Some(wanted)) {
            break;
        }
        let end = run.end.min(at.saturating_add(PIECE_CHUNKS));
        // Who does not know what the file is needs one, if there is one.
        let needs_none = list.is_some() && upload.content.is_some();
        let claimed = if needs_none { None } else { shared.claim_for(at, end, |chunk| partial.hash(chunk)) };
        let (claim, end) = claimed.map_or((None, end), |(claim, end)| (Some(claim), end));
        let partial = partial.clone();
        let Some((bytes, hashes)) = blocking(move || partial.read(at..end)).await else { break };
        // What is there may be what a list that came meanwhile says is false.
        let vouched = match (&list, &claim) {
            (Some(list), _) => list.run(at..end) == hashes,
            (None, Some(claim)) => claim.run(at..end) == hashes,
            (None, None) => false,
        };
        if !vouched {
            break;
        }
        let length = bytes.len() as u64;
        if upload.send(Piece { first: at, bytes, claim, content }).await.is_err() {
            break;
        }
        (at, sent) = (end, sent + length);
    }
    (at, sent)
}

/// Sends a run of a file that is complete; gives the bytes that were sent.
async fn of_blob(store: &Store, upload: &mut Upload, run: Range<u64>) -> u64 {
    let (mut at, mut sent) = (run.start, 0);
    if at >= run.end {
        return sent;
    }
    let (from, key, wanted) = (store.clone(), upload.file, upload.content);
    let found = blocking(move || Ok(find_public(&from, &key))).await;
    let Some(blob) = found.filter(|blob| wanted.is_none_or(|wanted| wanted == blob.content())) else { return sent };
    let content: ContentId = blob.content();
    while at < run.end && upload.room().await.is_ok() {
        let end = run.end.min(at.saturating_add(PIECE_CHUNKS));
        let (store, blob) = (store.clone(), blob.clone());
        let Some(bytes) = blocking(move || store.read_blob(&blob, at..end).map(Some)).await else { break };
        let length = bytes.len() as u64;
        if upload.send(Piece { first: at, bytes, claim: None, content: Some(content) }).await.is_err() {
            break;
        }
        (at, sent) = (end, sent + length);
    }
    sent
}

/// Does what blocks beside the asynchronous tasks; a fault is logged, and is as good as nothing.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<Option<T>, StoreError> + Send + 'static) -> Option<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(Ok(found)) => found,
        Ok(Err(error)) => {
            tracing::warn!(%error, "a peer's question cannot be answered");
            None
        }
        Err(_) => None,
    }
}
