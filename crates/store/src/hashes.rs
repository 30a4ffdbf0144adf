//! The chunk hashes of blobs, each list a file beside the blobs: what it takes to give chunks of a blob to others.
//!
//! A list is checked against the content id whenever it is read, so what a power cut or anyone else made of it is of no matter:
//! it is made anew from the blob. Of private blobs, which are given to nobody, none is kept on disk, and of files of a single chunk
//! none is needed.

use std::sync::{Arc, MutexGuard};

use larder_content::{CHUNK_BYTES, ChunkHash, ChunkHashes, ChunkLayout, ChunkTree, ContentId, Scope, VerifiedChunks};

use crate::blobs::{Blob, BlobName};
use crate::index::Row;
use crate::pieces::pieces_file;
use crate::read::{read, read_all};
use crate::recent::Recent;
use crate::records::BlobRow;
use crate::{Shared, Store, StoreError, lock};

/// The first byte of a list's file.
const VERSION: u8 = 1;
/// The most lists that are kept in memory.
const LISTS: usize = 64;
/// The most bytes that they take together.
const LIST_BYTES: u64 = 64 << 20;

/// The lists that were asked for of late.
pub(crate) fn recent_lists() -> Recent<ContentId, Arc<ChunkHashes>> {
    Recent::new(LISTS, LIST_BYTES)
}

impl Store {
    /// The chunk hashes of a blob. Made from its bytes if they are not known, which takes a second for some gigabytes.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] if the blob turns out not to be what it was: it is gone then. Also if it cannot be read.
    pub fn chunk_hashes(&self, blob: &Blob) -> Result<Arc<ChunkHashes>, StoreError> {
        let shared = &*self.shared;
        let (content, layout) = (blob.content(), ChunkLayout::new(blob.size()));
        let recent = || lock(&shared.lists).get(&content);
        if let Some(list) = short_list(layout, content).map(Arc::new).or_else(recent) {
            return Ok(list);
        }
        let list = match shared.stored_list(layout, content)? {
            Some(list) => list,
            None => {
                // However many ask, one blob is read at a time, and once.
                let _turn = lock(&shared.making_list);
                if let Some(list) = recent() {
                    return Ok(list);
                }
                shared.make_list(blob.name(), layout)?
            }
        };
        let (list, bytes) = (Arc::new(list), list_bytes(layout));
        lock(&shared.lists).put(content, Arc::clone(&list), bytes);
        Ok(list)
    }
}

impl Shared {
    /// Reads the list of a content; `None` if there is none that is right.
    fn stored_list(&self, layout: ChunkLayout, content: ContentId) -> Result<Option<ChunkHashes>, StoreError> {
        let name = list_file(content);
        let status = self.home.status(&name)?;
        if !status.is_some_and(|status| status.is_file && status.fingerprint.size == list_bytes(layout)) {
            return Ok(None);
        }
        let bytes = self.home.file(&name, false).ok().and_then(|file| read(&self.buffers, &file, &(0..list_bytes(layout))).ok());
        Ok(bytes.and_then(|bytes| decode(layout, content, &bytes)))
    }

    /// Makes the list of a blob from its bytes, and keeps it.
    fn make_list(&self, name: BlobName, layout: ChunkLayout) -> Result<ChunkHashes, StoreError> {
        let list = self.read_through(name, layout, &mut |_| {})?;
        self.keep_list(name, &list, &self.stripe(name));
        Ok(list)
    }

    /// Reads a blob through, and gives the list of its chunks. A blob that is not what its name says is dropped.
    pub(crate) fn read_through(&self, name: BlobName, layout: ChunkLayout, take: &mut dyn FnMut(&[u8])) -> Result<ChunkHashes, StoreError> {
        let file = self.home.file(&name.file(), false)?;
        let (mut tree, mut next) = (ChunkTree::new(layout), 0);
        let hashed = read_all(&file, layout.size(), &mut |bytes| {
            take(&bytes);
            if let Ok(chunks) = VerifiedChunks::hashed(layout, next, bytes) {
                chunks.indices().zip(chunks.hashes()).for_each(|(index, hash)| tree.insert(index, *hash));
                next = chunks.indices().end;
            }
        });
        let list = ChunkHashes::of_tree(&tree).filter(|list| list.content() == name.content());
        match (hashed, list) {
            (Ok(()), Some(list)) => Ok(list),
            (Err(error), _) if error.kind() != std::io::ErrorKind::UnexpectedEof => Err(self.home.fault(&name.file(), error)),
            (Ok(()) | Err(_), _) => {
                let guard = self.stripe(name);
                if let Some(row) = self.index.get::<BlobRow>(Row::Blob(name))? {
                    let status = self.home.status(&name.file())?;
                    self.drop_damaged(name, &row, status, &guard)?;
                }
                Err(self.not_as_it_was(name))
            }
        }
    }

    /// Keeps the list of a public blob that has its row, if it has none. If that cannot be done, it is made when it is asked for.
    pub(crate) fn keep_list(&self, name: BlobName, list: &ChunkHashes, _guard: &MutexGuard<'_, ()>) {
        if name.scope() == Scope::Private || list.layout().count() <= 1 {
            return;
        }
        let (file, layout) = (list_file(name.content()), list.layout());
        let keep = || {
            let has_row = self.index.get::<BlobRow>(Row::Blob(name))?.is_some();
            if !has_row || self.stored_list(layout, name.content())?.is_some() {
                return Ok(());
            }
            let mut bytes = Vec::with_capacity(usize::try_from(list_bytes(layout)).unwrap_or_default());
            bytes.push(VERSION);
            list.run(0..layout.count()).iter().for_each(|hash| bytes.extend(hash.0));
            self.keep_beside(&file, &bytes)
        };
        if let Err(error) = keep() {
            tracing::debug!(content = %name.content(), %error, "its chunk hashes are not kept: they will be made again");
        }
    }

    /// Writes a file that lies beside a blob.
    pub(crate) fn keep_beside(&self, file: &str, bytes: &[u8]) -> Result<(), StoreError> {
        let temp = self.write_temp(bytes)?;
        let renamed = self.give_name(file, |to| self.disk.rename((&self.home, &temp), (&self.home, to)));
        renamed.inspect_err(|_| self.drop_temp(&temp))
    }

    /// Removes the lists of a blob that goes.
    pub(crate) fn drop_lists(&self, name: BlobName, size: u64, _guard: &MutexGuard<'_, ()>) -> Result<(), StoreError> {
        if name.scope() == Scope::Private || size <= CHUNK_BYTES {
            return Ok(());
        }
        lock(&self.lists).remove(&name.content());
        lock(&self.whole_lists).remove(&name.content());
        self.remove_file(&list_file(name.content()))?;
        self.remove_file(&pieces_file(name.content()))
    }

    /// Removes the lists of what is no public blob here.
    pub(crate) fn drop_stray_lists(&self) -> Result<(), StoreError> {
        for folder in ["hashes", "pieces"] {
            for shard in self.home.names(folder)? {
                for file in self.home.names(&format!("{folder}/{shard}"))? {
                    let name = ContentId::parse(&file).map(BlobName::Public);
                    let row = name.map(|name| self.index.get::<BlobRow>(Row::Blob(name))).transpose()?.flatten();
                    if row.is_none() {
                        self.remove_file(&format!("{folder}/{shard}/{file}"))?;
                    }
                }
            }
        }
        Ok(())
    }
}

/// The file of a content's list, below the store's home.
fn list_file(content: ContentId) -> String {
    format!("hashes/{:02x}/{content}", content.0[0])
}

/// The size of a list's file.
pub(crate) fn list_bytes(layout: ChunkLayout) -> u64 {
    1 + 32 * layout.count()
}

/// The list of a file of at most one chunk, which is its content id.
fn short_list(layout: ChunkLayout, content: ContentId) -> Option<ChunkHashes> {
    let hashes = (0..layout.count().min(2)).map(|_| ChunkHash(content.0)).collect();
    ChunkHashes::check(layout, content, hashes)
}

pub(crate) fn decode(layout: ChunkLayout, content: ContentId, bytes: &[u8]) -> Option<ChunkHashes> {
    let (VERSION, rest) = bytes.split_first().map(|(version, rest)| (*version, rest))? else { return None };
    let (hashes, []) = rest.as_chunks::<32>() else { return None };
    ChunkHashes::check(layout, content, hashes.iter().copied().map(ChunkHash).collect())
}
