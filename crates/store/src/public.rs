//! What the store holds that anyone may read: what a node that was started again can tell others of.

use std::collections::{HashMap, HashSet};

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
            if known(&id).is_some_and(is_it) && self.shared.has_all(&manifest)? {
                complete.extend(wanted.remove(&id));
            }
        }
        complete.sort_unstable_by(|a, b| a.id.cmp(&b.id));
        Ok(complete)
    }
}

impl Store {
    /// Does for the files of public resources what the node that fetched them did not come to: holds what was proven by piece alone against the
    /// digest of its key, and lists the pieces of the rest. Reads each such file through. The keys that were bound.
    ///
    /// # Errors
    /// If a listing, a file or the index cannot be read.
    pub fn catch_up(&self) -> Result<Vec<FileKey>, StoreError> {
        let public: HashSet<String> = self.resources()?.into_iter().filter(|known| known.public).map(|known| known.id).collect();
        let mut bound = vec![];
        for listing in self.shared.home.names("listings")? {
            let Some((_, manifest)) = self.shared.manifest_of(&listing, &|id| public.contains(id))? else { continue };
            for file in manifest.files() {
                let Some(digest) = file.listable() else { continue };
                let key = file.key(Scope::Public);
                let by_pieces = || file.by_pieces().map_or(Ok(None), |short| self.find(&short.key(Scope::Public)));
                if let Some(blob) = self.find(&key)? {
                    // Of bytes that its digests do not match there is no list.
                    if blob.proof() != ProofKind::None {
                        self.list_pieces(&blob, digest)?;
                    }
                } else if let Some(blob) = by_pieces()? {
                    bound.extend(self.prove(&blob, file, Scope::Public)?.map(|_| key));
                }
            }
        }
        Ok(bound)
    }
}

impl Shared {
    /// Whether the public keys of all files lead to blobs.
    fn has_all(&self, manifest: &Manifest) -> Result<bool, StoreError> {
        for file in manifest.files() {
            let row = self.index.get::<KeyRow>(Row::Key(file.key(Scope::Public)))?;
            let blob = row.map(|row| self.index.get::<BlobRow>(Row::Blob(row.name.into()))).transpose()?;
            if blob.flatten().is_none() {
                return Ok(false);
            }
        }
        Ok(true)
    }
}
