//! What the tests of this crate build stores and files with.

use std::path::Path;

use bytes::Bytes;
use larder_content::xet::XetHasher;
use larder_content::{Algorithm, CHUNK_BYTES, ChunkLayout, Locator, OriginDigest, OriginFile, RelativePath, Scope, VerifiedChunks};
use md5::Md5;
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use crate::disk::RealDisk;
use crate::{Blob, Store, StoreConfig};

/// How often a loop of tries is done: `default` times, and `LARDER_ROUNDS` times as often if that is set.
pub(crate) fn rounds(default: u64) -> u64 {
    std::env::var("LARDER_ROUNDS").ok().and_then(|text| text.parse().ok()).map_or(default, |rounds: u64| rounds.saturating_mul(default))
}

pub(crate) fn sha256(bytes: &[u8]) -> OriginDigest {
    OriginDigest::whole(Algorithm::Sha256, &Sha256::digest(bytes)).unwrap()
}

pub(crate) fn md5(bytes: &[u8]) -> OriginDigest {
    OriginDigest::whole(Algorithm::Md5, &Md5::digest(bytes)).unwrap()
}

pub(crate) fn xet(bytes: &[u8]) -> OriginDigest {
    let mut hasher = XetHasher::new();
    hasher.update(bytes);
    OriginDigest::Xet(hasher.finish())
}

pub(crate) fn file(path: &str, size: u64, digests: Vec<OriginDigest>) -> OriginFile {
    let locator = Locator { endpoint: "https://hub".into(), container: "models/m".into(), path: path.into(), version: "c1".into() };
    OriginFile { path: RelativePath::new(path).unwrap(), size, digests, locator }
}

/// A file of these bytes with their sha256.
pub(crate) fn public(bytes: &[u8]) -> OriginFile {
    file("w.bin", bytes.len() as u64, vec![sha256(bytes)])
}

/// Bytes that differ from chunk to chunk and from seed to seed.
pub(crate) fn bytes(seed: u64, len: u64) -> Bytes {
    (0..len).map(|at| ((at * 31 + at / CHUNK_BYTES + seed * 7) % 251) as u8).collect()
}

/// The chunks `first..end` of a file of `data`.
pub(crate) fn chunks(data: &Bytes, first: u64, end: u64) -> VerifiedChunks {
    let layout = ChunkLayout::new(data.len() as u64);
    let place = layout.bytes(first, end);
    VerifiedChunks::hashed(layout, first, data.slice(place.start as usize..place.end as usize)).unwrap()
}

/// All chunks of a file of `data`.
pub(crate) fn all(data: &Bytes) -> VerifiedChunks {
    chunks(data, 0, ChunkLayout::new(data.len() as u64).count())
}

pub(crate) fn put(store: &Store, file: &OriginFile, bytes: &[u8]) -> Blob {
    if bytes.is_empty() {
        return store.put_empty(file, Scope::Public).unwrap();
    }
    store.put(file, Scope::Public, &all(&Bytes::copy_from_slice(bytes))).unwrap()
}

pub(crate) fn content_of(blob: &Blob) -> Vec<u8> {
    std::fs::read(blob.path()).unwrap()
}

pub(crate) fn config() -> StoreConfig {
    StoreConfig { free_floor_bytes: 0, ..StoreConfig::default() }
}

/// A store without a thread: what is synced is up to the test.
pub(crate) fn store_at(home: &Path) -> Store {
    Store::open_on(home, config(), "test", Box::new(RealDisk), false).unwrap()
}

/// A store in `home` of a folder that goes with the test.
pub(crate) fn store_in() -> (TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = store_at(&folder.path().join("home"));
    (folder, store)
}
