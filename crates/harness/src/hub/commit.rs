//! A revision with everything hashed, as the hub lists it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use anyhow::Context;
use larder_content::xet::{self, XetHasher};
use sha2::{Digest, Sha256};

use super::tree::{Lie, Tree, is_proper};
use crate::git::{self, BlobHasher, Oid};
use crate::source::Source;

/// Above this size every file is LFS.
const LFS_BYTES: u64 = 1024 * 1024;
/// What the usual `.gitattributes` of the hub gives to LFS.
const LFS_SUFFIXES: &[&str] = &[
    "7z",
    "arrow",
    "bin",
    "bz2",
    "ckpt",
    "ftz",
    "gguf",
    "gz",
    "h5",
    "jpg",
    "joblib",
    "mlmodel",
    "model",
    "msgpack",
    "npy",
    "npz",
    "onnx",
    "ot",
    "parquet",
    "pb",
    "pickle",
    "pkl",
    "png",
    "pt",
    "pth",
    "rar",
    "safetensors",
    "tar",
    "tflite",
    "tgz",
    "wasm",
    "wav",
    "webp",
    "xz",
    "zip",
    "zst",
];

/// A revision with everything hashed.
#[derive(Debug)]
pub(crate) struct Commit {
    pub(crate) sha: String,
    /// Sorted by path.
    pub(crate) items: Vec<Item>,
    by_path: HashMap<String, usize>,
}

/// One row of the listing.
#[derive(Debug)]
pub(crate) enum Item {
    Folder { path: String, oid: String },
    File(File),
}

/// A file as it is listed, and where its bytes are.
#[derive(Debug)]
pub(crate) struct File {
    pub(crate) path: String,
    pub(crate) source: Source,
    /// How many bytes there really are.
    pub(crate) bytes: u64,
    pub(crate) facts: Facts,
    /// What is listed, which may be lies.
    pub(crate) listed: Facts,
}

/// What is said of a file.
#[derive(Debug, Clone)]
pub(crate) struct Facts {
    pub(crate) size: u64,
    pub(crate) git_oid: String,
    pub(crate) lfs: Option<Lfs>,
}

/// What is said of a file that LFS holds.
#[derive(Debug, Clone)]
pub(crate) struct Lfs {
    pub(crate) sha256: String,
    pub(crate) pointer_bytes: usize,
    pub(crate) xet: String,
}

impl File {
    /// The sha256 of its bytes, in hex.
    pub(crate) fn sha256(&self) -> anyhow::Result<String> {
        if let Some(lfs) = &self.facts.lfs {
            return Ok(lfs.sha256.clone());
        }
        let mut sha256 = Sha256::new();
        for piece in self.source.pieces(0..self.bytes)? {
            sha256.update(&piece?);
        }
        Ok(hex::encode(sha256.finalize()))
    }
}

impl Item {
    pub(crate) fn path(&self) -> &str {
        match self {
            Self::Folder { path, .. } => path,
            Self::File(file) => &file.path,
        }
    }
}

impl Commit {
    /// Hashes every file of `tree`, on all cores. The commit's id depends on the files and on `repo`.
    pub(crate) fn new(repo: &str, tree: &Tree) -> anyhow::Result<Self> {
        let mut files = hash_all(tree)?;
        let oids: Vec<Oid> = files.iter_mut().map(|(_, oid)| *oid).collect();
        let proper = files.iter().zip(&oids).filter(|((file, _), _)| is_proper(&file.path));
        let rows: Vec<(&str, Oid)> = proper.map(|((file, _), oid)| (file.path.as_str(), *oid)).collect();
        let (root, folders) = git::tree(&rows);
        let folders = folders.into_iter().map(|(path, oid)| Item::Folder { path, oid: oid.to_string() });
        let mut items: Vec<Item> = folders.chain(files.into_iter().map(|(file, _)| Item::File(file))).collect();
        items.sort_by(|a, b| a.path().cmp(b.path()));
        let by_path = items.iter().enumerate().map(|(index, item)| (item.path().to_owned(), index)).collect();
        Ok(Self { sha: git::commit(root, &format!("Publish {repo}")).to_string(), items, by_path })
    }

    /// The file at `path`.
    pub(crate) fn file(&self, path: &str) -> Option<&File> {
        match self.item(path)? {
            Item::File(file) => Some(file),
            Item::Folder { .. } => None,
        }
    }

    /// What lies at `path`.
    pub(crate) fn item(&self, path: &str) -> Option<&Item> {
        self.items.get(*self.by_path.get(path)?)
    }

    /// All files, by path.
    pub(crate) fn files(&self) -> impl Iterator<Item = &File> {
        self.items.iter().filter_map(|item| match item {
            Item::File(file) => Some(file),
            Item::Folder { .. } => None,
        })
    }

    /// What lies in `folder`, `""` for the root; all below it if `recursive`. `None` if there is no such folder.
    pub(crate) fn below(&self, folder: &str, recursive: bool) -> Option<Vec<&Item>> {
        let prefix = if folder.is_empty() { String::new() } else { format!("{folder}/") };
        if !folder.is_empty() && !matches!(self.item(folder), Some(Item::Folder { .. })) {
            return None;
        }
        let start = self.items.partition_point(|item| item.path() < prefix.as_str());
        let inside = self.items[start..].iter().take_while(|item| item.path().starts_with(&prefix));
        Some(inside.filter(|item| recursive || !item.path()[prefix.len()..].contains('/')).collect())
    }
}

/// Hashes the files of `tree`, in the order of their paths.
fn hash_all(tree: &Tree) -> anyhow::Result<Vec<(File, Oid)>> {
    let files: Vec<(&String, &Source)> = tree.files.iter().collect();
    let next = AtomicUsize::new(0);
    let hashed = Mutex::new(Vec::with_capacity(files.len()));
    let work = || -> anyhow::Result<()> {
        let mut own = Vec::new();
        while let Some((path, source)) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
            let lies = tree.lies.get(*path).map_or(&[][..], Vec::as_slice);
            own.push(hash(path, source, lies).with_context(|| format!("{path:?} cannot be served"))?);
        }
        hashed.lock().unwrap_or_else(PoisonError::into_inner).append(&mut own);
        Ok(())
    };
    let workers = std::thread::available_parallelism().map_or(1, usize::from).min(files.len());
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        workers.into_iter().try_for_each(|worker| worker.join().map_err(|_| anyhow::anyhow!("a hashing thread panicked"))?)
    })?;
    let mut hashed = hashed.into_inner().unwrap_or_else(PoisonError::into_inner);
    hashed.sort_by(|(a, _): &(File, Oid), (b, _)| a.path.cmp(&b.path));
    Ok(hashed)
}

fn hash(path: &str, source: &Source, lies: &[Lie]) -> anyhow::Result<(File, Oid)> {
    let bytes = source.size()?;
    let (oid, lfs) = if is_lfs(path, bytes) { hash_lfs(source, bytes)? } else { (hash_blob(source, bytes)?, None) };
    let facts = Facts { size: bytes, git_oid: oid.to_string(), lfs };
    let mut listed = facts.clone();
    for lie in lies {
        match (lie, &mut listed.lfs) {
            (Lie::Size(size), _) => listed.size = *size,
            (Lie::GitOid(oid), _) => listed.git_oid.clone_from(oid),
            (Lie::Sha256(sha256), Some(lfs)) => lfs.sha256.clone_from(sha256),
            (Lie::Xet(xet), Some(lfs)) => lfs.xet.clone_from(xet),
            (Lie::Sha256(_) | Lie::Xet(_), None) => anyhow::bail!("it is not LFS: nothing to lie about"),
        }
    }
    Ok((File { path: path.to_owned(), source: source.clone(), bytes, facts, listed }, oid))
}

fn is_lfs(path: &str, bytes: u64) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    bytes > LFS_BYTES || name.rsplit_once('.').is_some_and(|(_, suffix)| LFS_SUFFIXES.contains(&suffix))
}

fn hash_blob(source: &Source, bytes: u64) -> anyhow::Result<Oid> {
    let mut hasher = BlobHasher::new(bytes);
    for piece in source.pieces(0..bytes)? {
        hasher.update(&piece?);
    }
    Ok(hasher.finish())
}

fn hash_lfs(source: &Source, bytes: u64) -> anyhow::Result<(Oid, Option<Lfs>)> {
    let (mut sha256, mut xet) = (Sha256::new(), XetHasher::new());
    for piece in source.pieces(0..bytes)? {
        let piece = piece?;
        sha256.update(&piece);
        xet.update(&piece);
    }
    let sha256 = hex::encode(sha256.finalize());
    let pointer = git::lfs_pointer(&sha256, bytes);
    let lfs = Lfs { sha256, pointer_bytes: pointer.len(), xet: xet::format_hash(&xet.finish()) };
    Ok((git::blob(pointer.as_bytes()), Some(lfs)))
}
