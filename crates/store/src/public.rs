//! What the store holds that anyone may read: what a node that was started again can tell others of.

use std::collections::HashMap;

use larder_content::{FileKey, Manifest, ProofKind, Scope};

use crate::blobs::{Blob, BlobName};
use crate::index::Row;
use crate::records::{BlobRow, KeyRow};
use crate::{KnownResource, Shared, Store, StoreError};

impl Store {
    /// The public blobs of at least `least_bytes` that were proven, each under every key that is bound to it.
    ///
    /// One whose file was touched is hashed again first. As long as the handles live, nothing of it is evicted.
    ///
    /// # Errors
    /// If a file or the index cannot be read.
    pub fn public_files(&self, least_bytes: u64) -> Result<Vec<(FileKey, Blob)>, StoreError> {
        let shared = &*self.shared;
        let mut files = vec![];
        for row in shared.index.keys::<KeyRow>() {
            let (key, row) = row?;
            let (name, proof) = (BlobName::from(row.name), ProofKind::from(row.proof));
            if name.scope() == Scope::Private || proof == ProofKind::None {
                continue;
            }
            let is_large = |row: BlobRow| row.fingerprint.size >= least_bytes;
            if shared.index.get::<BlobRow>(Row::Blob(name))?.is_some_and(is_large) {
                files.extend(shared.blob(name, proof)?.map(|blob| (key, blob)));
            }
        }
        Ok(files)
    }

    /// The public resources of which all files are here, by the listing that is kept of them.
    ///
    /// # Errors
    /// If a listing or the index cannot be read.
    pub fn public_resources(&self) -> Result<Vec<KnownResource>, StoreError> {
        let public = self.resources()?.into_iter().filter(|known| known.public);
        let mut wanted: HashMap<String, KnownResource> = public.map(|known| (known.id.clone(), known)).collect();
        let mut complete = vec![];
        for file in self.shared.home.names("listings")? {
            let known = |id: &str| wanted.get(id);
            let Some((id, manifest)) = self.shared.manifest_of(&file, &|id| known(id).is_some())? else { continue };
            // A part of a resource has the same id.
            let is_it = |known: &KnownResource| (known.files, known.bytes) == (manifest.files().len() as u64, manifest.bytes());
            if known(&id).is_some_and(is_it) && self.has_all(&manifest)? {
                complete.extend(wanted.remove(&id));
            }
        }
        complete.sort_unstable_by(|a, b| a.id.cmp(&b.id));
        Ok(complete)
    }

    /// Whether the public keys of all files lead to blobs. What was proven by piece alone, because this node ended too soon after that, is held
    /// against the digest of its key.
    fn has_all(&self, manifest: &Manifest) -> Result<bool, StoreError> {
        for file in manifest.files() {
            if self.shared.is_bound(file.key(Scope::Public))? {
                continue;
            }
            let by_pieces = file.by_pieces().map(|file| self.find(&file.key(Scope::Public))).transpose()?.flatten();
            if by_pieces.map(|blob| self.prove(&blob, file, Scope::Public)).transpose()?.flatten().is_none() {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

impl Shared {
    /// Whether `key` leads to a blob.
    fn is_bound(&self, key: FileKey) -> Result<bool, StoreError> {
        let row = self.index.get::<KeyRow>(Row::Key(key))?;
        let blob = row.map(|row| self.index.get::<BlobRow>(Row::Blob(row.name.into()))).transpose()?;
        Ok(blob.flatten().is_some())
    }
}
