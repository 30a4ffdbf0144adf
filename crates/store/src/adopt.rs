//! Gives blobs keys, by what they can be proven to be: those that lost theirs with the index, and those that were proven by piece.

use bytes::Bytes;
use larder_content::{Mismatch, OriginFile, ProofKind, Prover, Scope};

use crate::blobs::{Blob, BlobName};
use crate::prove::{Trial, is_provable};
use crate::read::read_all;
use crate::{Shared, Store, StoreError, lock};

impl Store {
    /// Looks among the blobs that lost their keys with the index for one that `file` can be proven to be, and binds it.
    ///
    /// Public blobs are tried by size, private ones only at their own locator. Costs nothing when no blob is without a key.
    ///
    /// # Errors
    /// If a file or the index cannot be read.
    pub fn adopt(&self, file: &OriginFile, scope: Scope) -> Result<Option<Blob>, StoreError> {
        let key = file.key(scope);
        let candidates = lock(&self.shared.keyless).get(&file.size).cloned().unwrap_or_default();
        let fits = |name: &BlobName| match name {
            BlobName::Public(_) => scope == Scope::Public,
            BlobName::Private { key: own, .. } => scope == Scope::Private && *own == key,
        };
        if !is_provable(file) {
            return Ok(None);
        }
        for name in candidates.into_iter().filter(fits) {
            let found = self.shared.blob(name, ProofKind::None)?;
            if let Some(blob) = found.map(|blob| self.prove(&blob, file, scope)).transpose()?.flatten() {
                return Ok(Some(blob));
            }
        }
        Ok(None)
    }

    /// Holds a blob's bytes against what the origin says of `file`, and binds the file's key to it if they match; `None` if they do not, or
    /// the blob is gone. Reads it through.
    ///
    /// # Errors
    /// If the file or the index cannot be read.
    pub fn prove(&self, blob: &Blob, file: &OriginFile, scope: Scope) -> Result<Option<Blob>, StoreError> {
        let Ok(proof) = self.shared.prove_blob(file, scope, blob)? else { return Ok(None) };
        let guard = self.shared.stripe(blob.name());
        // Someone may have found it damaged meanwhile.
        if self.shared.checked(blob.name(), &guard)?.is_none() {
            return Ok(None);
        }
        self.shared.bind(blob.name(), file.key(scope), proof, None, &guard)?;
        Ok(Some(blob.clone().proven_by(proof)))
    }
}

impl Shared {
    /// Holds the blob's bytes against what the origin says of `file`.
    fn prove_blob(&self, file: &OriginFile, scope: Scope, blob: &Blob) -> Result<Result<ProofKind, Mismatch>, StoreError> {
        let name = blob.name().file();
        let opened = self.home.file(&name, false)?;
        let feed = |take: &mut dyn FnMut(Bytes)| read_all(&opened, file.size, take).map_err(|error| self.home.fault(&name, error));
        let mut trial = Trial::new(file, scope);
        feed(&mut |bytes| trial.update(&bytes))?;
        let failed = match trial.finish() {
            Ok(proof) => return Ok(Ok(proof)),
            Err(failed) => failed,
        };
        for digest in &failed.later {
            let mut prover = Prover::for_digest(Some(digest), file.size);
            feed(&mut |bytes| prover.update(&bytes))?;
            if let Ok(proof) = prover.finish() {
                return Ok(Ok(proof.kind()));
            }
        }
        Ok(Err(failed.mismatch))
    }
}
