//! The pieces that the Xet roots of blobs are made of, each list a file beside the blobs: what others need to prove by piece.
//!
//! A list is kept from the proof by piece, or made of the blob's bytes when it is first asked for. Nobody here says that it makes the root that an origin lists, since
//! whoever asks finds that out by it. Of private blobs none is made.

use std::sync::{Arc, MutexGuard};

use larder_content::xet::XetHasher;
use larder_content::{ChunkLayout, ContentId, PieceRow, Scope};

use crate::blobs::{Blob, BlobName};
use crate::index::Row;
use crate::read::read;
use crate::recent::Recent;
use crate::records::BlobRow;
use crate::{Shared, Store, StoreError, lock};

/// The first byte of a list's file.
const VERSION: u8 = 1;
/// What ends the file: the BLAKE3 hash of all before.
const SEAL_BYTES: usize = 32;
/// The most lists that are kept in memory.
const LISTS: usize = 16;
/// The most bytes that they take together.
const LIST_BYTES: u64 = 64 << 20;

/// The lists that were asked for of late.
pub(crate) fn recent_pieces() -> Recent<ContentId, Arc<Vec<PieceRow>>> {
    Recent::new(LISTS, LIST_BYTES)
}

impl Store {
    /// The pieces that the Xet root of a blob is made of; none of a private one. Made from its bytes if they are not known, which takes a
    /// second for a gigabyte or two.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] if the blob turns out not to be what it was: it is gone then. Also if it cannot be read.
    pub fn pieces(&self, blob: &Blob) -> Result<Option<Arc<Vec<PieceRow>>>, StoreError> {
        if blob.scope() == Scope::Private {
            return Ok(None);
        }
        let shared = &*self.shared;
        let content = blob.content();
        let recent = || lock(&shared.pieces).get(&content);
        if let Some(rows) = recent() {
            return Ok(Some(rows));
        }
        let rows = match shared.stored_pieces(content)? {
            Some(rows) => rows,
            None => {
                // However many ask, one blob is read at a time, and once.
                let _turn = lock(&shared.making_list);
                if let Some(rows) = recent() {
                    return Ok(Some(rows));
                }
                shared.make_pieces(blob.name(), ChunkLayout::new(blob.size()))?
            }
        };
        let (bytes, rows) = ((PieceRow::BYTES * rows.len()) as u64, Arc::new(rows));
        lock(&shared.pieces).put(content, Arc::clone(&rows), bytes);
        Ok(Some(rows))
    }
}

impl Shared {
    /// Reads the list of a content; `None` if there is none that is whole.
    fn stored_pieces(&self, content: ContentId) -> Result<Option<Vec<PieceRow>>, StoreError> {
        let name = pieces_file(content);
        let Some(status) = self.home.status(&name)?.filter(|status| status.is_file) else { return Ok(None) };
        let bytes = self.home.file(&name, false).ok().and_then(|file| read(&self.buffers, &file, &(0..status.fingerprint.size)).ok());
        Ok(bytes.and_then(|bytes| decode(&bytes)))
    }

    fn make_pieces(&self, name: BlobName, layout: ChunkLayout) -> Result<Vec<PieceRow>, StoreError> {
        let mut hasher = XetHasher::new();
        self.read_through(name, layout, &mut |bytes| hasher.update(bytes))?;
        let rows = hasher.into_pieces();
        self.keep_pieces(name, &rows, &self.stripe(name));
        Ok(rows)
    }

    /// Keeps the list of a public blob that has its row. If that cannot be done, it is made when it is asked for.
    pub(crate) fn keep_pieces(&self, name: BlobName, rows: &[PieceRow], _guard: &MutexGuard<'_, ()>) {
        let keep = || {
            let has_row = self.index.get::<BlobRow>(Row::Blob(name))?.is_some();
            if name.scope() == Scope::Private || !has_row {
                return Ok(());
            }
            self.keep_beside(&pieces_file(name.content()), &encode(rows))
        };
        let kept: Result<(), StoreError> = keep();
        if let Err(error) = kept {
            tracing::debug!(content = %name.content(), %error, "its pieces are not kept: they will be made again");
        }
    }
}

/// The file of a content's pieces, below the store's home.
pub(crate) fn pieces_file(content: ContentId) -> String {
    format!("pieces/{:02x}/{content}", content.0[0])
}

pub(crate) fn encode(rows: &[PieceRow]) -> Vec<u8> {
    let mut bytes = vec![VERSION];
    bytes.extend(PieceRow::encode(rows));
    let seal = ContentId::of(&bytes);
    bytes.extend(seal.0);
    bytes
}

pub(crate) fn decode(bytes: &[u8]) -> Option<Vec<PieceRow>> {
    let (listed, seal) = bytes.split_last_chunk::<SEAL_BYTES>()?;
    let (VERSION, rows) = listed.split_first().map(|(version, rows)| (*version, rows))? else { return None };
    PieceRow::decode(rows).filter(|_| ContentId::of(listed).0 == *seal)
}
