//! Makes a blob of a partial file whose bytes were proven: the only way there for what is larger than memory.
//!
//! The blob begins as a second name of the partial file. The first, and the rows of its chunks, stay until a sync covers the
//! blob; so whatever a crash takes away, the chunks that were recorded are still there.

use std::collections::HashMap;
use std::io;
use std::sync::Weak;

use bytes::Bytes;
use larder_content::{ChunkHashes, ContentId, FileKey, OriginDigest, OriginFile, ProofKind, Prover};

use crate::blobs::{Blob, BlobName};
use crate::index::Row;
use crate::partial::{Coming, Partial, file_name};
use crate::piecewise::Piecewise;
use crate::prove::{Failed, Trial};
use crate::read::read_all;
use crate::records::{PartialRow, SealedRecord};
use crate::{SealError, Shared, StoreError, lock};

impl Partial {
    /// Ends the proof, and makes the file a blob.
    ///
    /// If the first digest does not match and the file's key is made of its locator, the others are tried, each with
    /// another pass over the file.
    ///
    /// # Errors
    /// [`SealError::Incomplete`] if chunks are missing; [`SealError::Mismatch`] if no digest matches: then all chunks stay, until
    /// [`Partial::discard`] or [`Partial::forget`] says which of them go.
    pub fn seal(&self) -> Result<Blob, SealError> {
        self.at_end(|content, trial| {
            let proof = match trial.finish() {
                Ok(proof) => proof,
                Err(Failed { mismatch, later }) => match self.prove_by(&later)? {
                    Some(proof) => proof,
                    None => return Err(SealError::Mismatch { mismatch, content }),
                },
            };
            Ok(self.become_blob(content, self.coming.key, proof)?)
        })
    }

    /// Makes the file a blob if all pieces of the digest that `listed` has were found to be right; `None` if one was not, or what came is not
    /// held against that digest: whoever began the file may have had it listed with another.
    ///
    /// By a Xet hash the key of that alone is bound. If the file's own key is made of another digest,
    /// [`Store::prove`](crate::Store::prove) binds that.
    ///
    /// # Errors
    /// If the blob cannot be made.
    pub fn seal_by_pieces(&self, listed: &OriginFile) -> Result<Option<Blob>, StoreError> {
        let Some(digest) = listed.listable() else { return Ok(None) };
        let key = listed.by_pieces().map_or(self.coming.key, |short| short.key(self.coming.scope));
        let _proving = self.hold_proof();
        let content = {
            let mut chunks = lock(&self.coming.chunks);
            let proven = chunks.pieces.as_ref().and_then(Piecewise::proven);
            let is_proven = proven.is_some_and(|pieces| pieces.digest() == digest);
            let Some(content) = chunks.tree.content_id().filter(|_| is_proven && !chunks.ended) else { return Ok(None) };
            chunks.sealing = true;
            content
        };
        let blob = self.become_blob(content, key, digest.kind());
        lock(&self.coming.chunks).sealing = false;
        blob.map(Some)
    }

    /// Makes the file a blob although no digest matches: only for a file whose origin gives none, or whose own bytes were
    /// shown not to match what it lists.
    ///
    /// What is bound is the key of the file without its digests, so that nobody finds it by what it is not.
    ///
    /// # Errors
    /// [`SealError::Incomplete`] if chunks are missing.
    pub fn seal_unproven(&self) -> Result<Blob, SealError> {
        let key = OriginFile { digests: vec![], ..self.coming.file.clone() }.key(self.coming.scope);
        self.at_end(|content, _| Ok(self.become_blob(content, key, ProofKind::None)?))
    }

    /// Feeds the proof to its end, and gives `end` what the chunks combine to. Until that has returned, they stay as they are.
    fn at_end(&self, end: impl FnOnce(ContentId, Trial) -> Result<Blob, SealError>) -> Result<Blob, SealError> {
        let mut proving = lock(&self.coming.proving);
        let content = loop {
            self.feed(&mut proving)?;
            let mut chunks = lock(&self.coming.chunks);
            let count = chunks.tree.layout().count();
            match chunks.tree.content_id() {
                Some(content) if !chunks.ended => {
                    // Otherwise a chunk came, or was lost and came again, after the proof had been there.
                    if (proving.fed, proving.epoch) == (count, chunks.epoch) {
                        chunks.sealing = true;
                        break content;
                    }
                }
                Some(_) | None => return Err(SealError::Incomplete { missing: count - chunks.tree.known() }),
            }
        };
        let trial = std::mem::take(&mut *proving).trial.unwrap_or_else(|| Trial::new(&self.coming.file, self.coming.scope));
        let ended = end(content, trial);
        // A failed proof begins anew, with the epoch that there is by then.
        let mut chunks = lock(&self.coming.chunks);
        proving.epoch = chunks.epoch;
        chunks.sealing = false;
        ended
    }

    /// The first of `digests` that the file's bytes match.
    fn prove_by(&self, digests: &[OriginDigest]) -> Result<Option<ProofKind>, StoreError> {
        for digest in digests {
            let mut prover = Prover::for_digest(Some(digest), self.size());
            self.read_back(&mut |bytes| prover.update(&bytes))?;
            if let Ok(proof) = prover.finish() {
                return Ok(Some(proof.kind()));
            }
        }
        Ok(None)
    }

    fn read_back(&self, take: &mut dyn FnMut(Bytes)) -> Result<(), StoreError> {
        let handle = lock(&self.coming.chunks).handle.clone();
        read_all(&handle, self.size(), take).map_err(|error| self.shared().home.fault(&file_name(&self.coming.key), error))
    }

    fn become_blob(&self, content: ContentId, key: FileKey, proof: ProofKind) -> Result<Blob, StoreError> {
        let shared = self.shared();
        let (own, name) = (file_name(&self.coming.key), BlobName::new(self.coming.scope, key, content));
        let hold = shared.hold(name);
        let guard = shared.stripe(name);
        let placed = if shared.checked(name, &guard)?.is_none() {
            let handle = lock(&self.coming.chunks).handle.clone();
            shared.disk.set_mode(&handle, 0o444, None).map_err(|error| shared.home.fault(&own, error))?;
            Some(shared.place(name, |to| shared.second_name(&own, to))?)
        } else {
            None
        };
        // First, since it says nothing until the key leads to the blob, and that has its row.
        let sealed_as = Some(SealedRecord { key: key.0, name: name.into() });
        shared.index.put(Row::Partial(self.coming.key), &PartialRow { size: self.size(), sealed_as })?;
        shared.bind(name, key, proof, placed, &guard)?;
        let (list, pieces) = {
            let chunks = lock(&self.coming.chunks);
            (ChunkHashes::of_tree(&chunks.tree), chunks.pieces.as_ref().and_then(Piecewise::proven).cloned())
        };
        if let Some(list) = list {
            shared.keep_list(name, &list, &guard);
        }
        if let Some(pieces) = pieces {
            shared.keep_pieces(name, &pieces, &guard);
        }
        drop(guard);
        let mut partials = lock(&shared.partials);
        lock(&self.coming.chunks).end();
        partials.remove(&self.coming.key);
        shared.groups.leave(self.coming.key, name);
        Ok(shared.blob_of(name, self.size(), proof, hold))
    }
}

impl Shared {
    /// Gives the file `from` the name `to` as well; where the file system has no links, instead.
    fn second_name(&self, from: &str, to: &str) -> io::Result<()> {
        let link = || self.disk.link((&self.home, from), (&self.home, to));
        match link() {
            // No row leads to what is there, so nobody vouches for it.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                self.disk.remove_file(&self.home, to)?;
                link()
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::Unsupported | io::ErrorKind::PermissionDenied) => {
                self.disk.rename((&self.home, from), (&self.home, to))
            }
            other => other,
        }
    }

    /// Whether nobody has the partial file open, and it is what is left of one that became the blob.
    pub(crate) fn is_leftover(&self, partials: &HashMap<FileKey, Weak<Coming>>, key: FileKey, name: BlobName) -> Result<bool, StoreError> {
        let sealed_as = self.index.get::<PartialRow>(Row::Partial(key))?.and_then(|row| row.sealed_as);
        let open = partials.get(&key).is_some_and(|coming| coming.strong_count() > 0);
        Ok(!open && sealed_as.is_some_and(|sealed| BlobName::from(sealed.name) == name))
    }

    /// Removes what is left of a partial file that became a blob, which a sync has covered since.
    pub(crate) fn clear_leftover(&self, key: FileKey, name: BlobName) -> Result<(), StoreError> {
        // The rows of a large file take a while: in between, others open their partial files, or take this one up again.
        loop {
            let partials = lock(&self.partials);
            if !self.is_leftover(&partials, key, name)? {
                return Ok(());
            }
            if self.drop_some_chunk_rows(&key)? == 0 {
                break;
            }
            drop(partials);
            std::thread::yield_now();
        }
        // In this order: whoever holds the blob may be hashing it, and nobody else's partial file waits for that.
        let guard = self.stripe(name);
        let partials = lock(&self.partials);
        if !self.is_leftover(&partials, key, name)? {
            return Ok(());
        }
        self.drop_partial_rows(&key)?;
        let file = file_name(&key);
        let removed = self.relinking(name, &guard, || self.disk.remove_file(&self.home, &file))?;
        match removed {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(self.home.fault(&file, error)),
            Ok(()) | Err(_) => Ok(()),
        }
    }
}
