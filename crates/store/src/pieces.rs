//! The pieces that digests of blobs are made of, each list a file beside the blobs: what others need to prove by piece.
//!
//! A list is kept from the proof by piece, or made of the blob's bytes for one whose origin lists such a digest; never because a stranger asks.
//! There is one for a blob, even if two origins list it with two such digests.
//! What a power cut made of it is found once a run of the node, when it is first asked for; whoever gets rows of it holds them against what
//! their own origin lists. Of private blobs there is none.

use std::io::{Read, Seek, SeekFrom};
use std::ops::Range;
use std::sync::MutexGuard;

use larder_content::{ChunkLayout, ContentId, Lister, OriginDigest, PieceRow, Pieces, Scope};

use crate::blobs::{Blob, BlobName};
use crate::index::Row;
use crate::read::read;
use crate::recent::Recent;
use crate::records::BlobRow;
use crate::{Shared, Store, StoreError, lock};

/// The first byte of a list's file.
const VERSION: u8 = 1;
/// What ends the file: the BLAKE3 hash of all before.
const SEAL_BYTES: u64 = 32;
/// The most lists that are remembered to be whole.
const LISTS: usize = 64;

/// The lists that were found to be whole.
pub(crate) fn whole_lists() -> Recent<ContentId, ()> {
    Recent::new(LISTS, 0)
}

impl Store {
    /// Those of `rows` that the list of a blob's pieces has; `None` if there is no list.
    ///
    /// # Errors
    /// If the list cannot be read.
    pub fn pieces(&self, blob: &Blob, rows: Range<u64>) -> Result<Option<Vec<PieceRow>>, StoreError> {
        let (shared, name) = (&*self.shared, pieces_file(blob.content()));
        let Some(bytes) = shared.list_length(blob.name())? else { return Ok(None) };
        let count = bytes.saturating_sub(1 + SEAL_BYTES) / PieceRow::BYTES as u64;
        let at = |row: u64| 1 + row.min(count) * PieceRow::BYTES as u64;
        let file = shared.home.file(&name, false)?;
        if lock(&shared.whole_lists).get(&blob.content()).is_none() {
            if !is_whole(&file, bytes).map_err(|error| shared.home.fault(&name, error))? {
                tracing::warn!(content = %blob.content(), "the list of its pieces is torn: it is removed");
                return shared.remove_file(&name).map(|()| None);
            }
            lock(&shared.whole_lists).put(blob.content(), (), 0);
        }
        let place = at(rows.start)..at(rows.end.max(rows.start));
        let found = read(&shared.buffers, &file, &place).map_err(|error| shared.home.fault(&name, error))?;
        Ok(PieceRow::decode(&found))
    }

    /// Lists the pieces of a public blob of which there is no list, if they make the `digest` that its origin lists. Reads it through,
    /// a gigabyte or two a second.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] if the blob turns out not to be what it was: it is gone then. Also if it cannot be read.
    pub fn list_pieces(&self, blob: &Blob, digest: &OriginDigest) -> Result<(), StoreError> {
        let (shared, name) = (&*self.shared, blob.name());
        if name.scope() == Scope::Private || shared.list_length(name)?.is_some() {
            return Ok(());
        }
        let Some(mut lister) = Lister::new(digest, blob.size()) else { return Ok(()) };
        shared.read_through(name, ChunkLayout::new(blob.size()), &mut |bytes| lister.update(bytes))?;
        if let Some(pieces) = lister.finish() {
            shared.keep_pieces(name, &pieces, &shared.stripe(name));
        }
        Ok(())
    }
}

impl Shared {
    /// The bytes of the file of a blob's list, if there is one.
    fn list_length(&self, name: BlobName) -> Result<Option<u64>, StoreError> {
        let status = self.home.status(&pieces_file(name.content()))?;
        Ok(status.filter(|status| status.is_file && name.scope() == Scope::Public).map(|status| status.fingerprint.size))
    }

    /// Keeps the list of a public blob that has its row. If that cannot be done, there is none.
    pub(crate) fn keep_pieces(&self, name: BlobName, pieces: &Pieces, _guard: &MutexGuard<'_, ()>) {
        let keep = || {
            let has_row = self.index.get::<BlobRow>(Row::Blob(name))?.is_some();
            if name.scope() == Scope::Private || !has_row {
                return Ok(());
            }
            self.keep_beside(&pieces_file(name.content()), &encode(&pieces.rows().collect::<Vec<_>>()))
        };
        let kept: Result<(), StoreError> = keep();
        if let Err(error) = kept {
            tracing::debug!(content = %name.content(), %error, "its pieces are not kept");
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

/// Whether a list of so many bytes is as it was written.
pub(crate) fn is_whole(mut file: impl Read + Seek, bytes: u64) -> std::io::Result<bool> {
    let Some(listed) = bytes.checked_sub(SEAL_BYTES).filter(|listed| listed % PieceRow::BYTES as u64 == 1) else { return Ok(false) };
    let mut version = [0];
    file.read_exact(&mut version)?;
    file.seek(SeekFrom::Start(0))?;
    let found = crate::verify::hash((&mut file).take(listed))?;
    let mut seal = [0; SEAL_BYTES as usize];
    file.read_exact(&mut seal)?;
    Ok(version == [VERSION] && found.0 == seal)
}
