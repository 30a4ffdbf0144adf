//! Makes a blob of a partial file whose bytes were proven: the only way there for what is larger than memory.
//!
//! The blob begins as a second name of the partial file. The first, and the rows of its chunks, stay until a sync covers the
//! blob; so whatever a crash takes away, the chunks that were recorded are still there.

use std::collections::HashMap;
use std::io;
use std::sync::Weak;

use larder_content::{ContentId, FileKey, OriginFile, ProofKind, Prover};

use crate::blobs::{Blob, BlobName};
use crate::index::Row;
use crate::partial::{Coming, Partial, Proving, file_name, read_all};
use crate::records::{PartialRow, SealedRecord};
use crate::{SealError, Shared, StoreError, lock};

impl Partial {
    /// Ends the proof, and makes the file a blob.
    ///
    /// If the first digest does not match and the file's key is made of its locator, the others are tried, each with
    /// another pass over the file.
    ///
    /// # Errors
    /// [`SealError::Incomplete`] if chunks are missing; [`SealError::Mismatch`] if no digest matches: then nothing is kept.
    pub fn seal(&self) -> Result<Blob, SealError> {
        let mut proving = lock(&self.coming.proving);
        let content = self.content(&mut proving)?;
        let Some(trial) = std::mem::take(&mut *proving).trial else { return Err(SealError::Incomplete { missing: 0 }) };
        let proof = match trial.finish() {
            Ok(proof) => proof,
            Err(failed) => {
                let mut found = None;
                for digest in &failed.later {
                    let mut prover = Prover::for_digest(Some(digest), self.size());
                    self.read_back(&mut |bytes| prover.update(bytes))?;
                    found = prover.finish().ok();
                    if found.is_some() {
                        break;
                    }
                }
                let Some(proof) = found else {
                    self.discard()?;
                    return Err(SealError::Mismatch { mismatch: failed.mismatch, content });
                };
                proof.kind()
            }
        };
        Ok(self.become_blob(content, self.coming.key, proof)?)
    }

    /// Makes the file a blob although no digest matches: only for a file whose origin gives none, or whose own bytes were
    /// shown not to match what it lists.
    ///
    /// What is bound is the key of the file without its digests, so that nobody finds it by what it is not.
    ///
    /// # Errors
    /// [`SealError::Incomplete`] if chunks are missing.
    pub fn seal_unproven(&self) -> Result<Blob, SealError> {
        let mut proving = lock(&self.coming.proving);
        let content = self.content(&mut proving)?;
        *proving = Proving::default();
        let key = OriginFile { digests: vec![], ..self.coming.file.clone() }.key(self.coming.scope);
        Ok(self.become_blob(content, key, ProofKind::None)?)
    }

    /// Feeds the proof to the end, and returns what the chunks combine to.
    fn content(&self, proving: &mut Proving) -> Result<ContentId, SealError> {
        self.feed(proving)?;
        let chunks = lock(&self.coming.chunks);
        let missing = chunks.tree.layout().count() - chunks.tree.known();
        match chunks.tree.content_id() {
            Some(content) if !chunks.ended => Ok(content),
            Some(_) | None => Err(SealError::Incomplete { missing }),
        }
    }

    fn read_back(&self, take: &mut dyn FnMut(&[u8])) -> Result<(), StoreError> {
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
        drop(guard);
        let mut partials = lock(&shared.partials);
        lock(&self.coming.chunks).ended = true;
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
