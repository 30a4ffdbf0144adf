//! Makes a blob of a file that is whole in memory, in one go.

use larder_content::{ChunkTree, ContentId, OriginFile, Prover, Scope, VerifiedChunks};

use crate::blobs::{Blob, BlobName};
use crate::prove::Trial;
use crate::{SealError, Store, lock};

impl Store {
    /// Keeps a small file that is whole in memory: proves it, and writes it in one go.
    ///
    /// # Errors
    /// [`SealError`] if chunks are missing, no digest matches, or it cannot be written.
    pub fn put(&self, file: &OriginFile, scope: Scope, chunks: &VerifiedChunks) -> Result<Blob, SealError> {
        let mut tree = ChunkTree::new(chunks.layout());
        for (index, hash) in chunks.indices().zip(chunks.hashes()) {
            tree.insert(index, *hash);
        }
        match tree.content_id() {
            Some(content) if chunks.layout().size() == file.size => self.put_bytes(file, scope, content, chunks.bytes()),
            Some(_) | None => Err(SealError::Incomplete { missing: (tree.layout().count() - tree.known()).max(1) }),
        }
    }

    /// Keeps an empty file.
    ///
    /// # Errors
    /// As [`Store::put`].
    pub fn put_empty(&self, file: &OriginFile, scope: Scope) -> Result<Blob, SealError> {
        self.put_bytes(file, scope, ContentId::of(&[]), &[])
    }

    fn put_bytes(&self, file: &OriginFile, scope: Scope, content: ContentId, bytes: &[u8]) -> Result<Blob, SealError> {
        let mut trial = Trial::new(file, scope);
        trial.update(bytes);
        let again = |digest| {
            let mut prover = Prover::for_digest(Some(&digest), file.size);
            prover.update(bytes);
            prover.finish().ok()
        };
        let proof = match trial.finish() {
            Ok(proof) => proof,
            Err(failed) => match failed.later.into_iter().find_map(again) {
                Some(proof) => proof.kind(),
                None => return Err(SealError::Mismatch { mismatch: failed.mismatch, content }),
            },
        };
        let shared = &*self.shared;
        let (key, name) = (file.key(scope), BlobName::new(scope, file.key(scope), content));
        let hold = shared.hold(name);
        let size = bytes.len() as u64;
        let guard = shared.stripe(name);
        let placed = if shared.checked(name, &guard)?.is_none() {
            let temp = shared.write_temp(bytes)?;
            let placed = shared.place(name, |to| {
                let _turn = lock(&shared.temps);
                shared.disk.rename((&shared.home, &temp), (&shared.home, to))
            });
            let fingerprint = placed.inspect_err(|_| shared.drop_temp(&temp))?;
            Some(fingerprint)
        } else {
            None
        };
        shared.bind(name, key, proof, placed, &guard)?;
        Ok(shared.blob_of(name, size, proof, hold))
    }
}
