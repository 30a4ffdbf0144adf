//! The object ids that git gives to files, folders and commits.
//!
//! Source: git's object format (git-scm.com/book, "Git Internals - Git Objects"); the pointer of Git LFS
//! (git-lfs/docs/spec.md).

use sha1::{Digest, Sha1};

/// The id of a git object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Oid([u8; 20]);

impl std::fmt::Display for Oid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

/// Computes the id of a file's bytes in order.
pub(crate) struct BlobHasher(Sha1);

impl BlobHasher {
    /// For a file of `size` bytes.
    pub(crate) fn new(size: u64) -> Self {
        Self(Sha1::new_with_prefix(format!("blob {size}\0")))
    }

    /// Takes the next bytes.
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The id.
    pub(crate) fn finish(self) -> Oid {
        Oid(self.0.finalize().into())
    }
}

/// What git holds in the place of a file that LFS holds.
pub(crate) fn lfs_pointer(sha256: &str, size: u64) -> String {
    format!("version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n")
}

/// The id of bytes at hand.
pub(crate) fn blob(bytes: &[u8]) -> Oid {
    let mut hasher = BlobHasher::new(bytes.len() as u64);
    hasher.update(bytes);
    hasher.finish()
}

/// The id of a folder, and of all folders below it with their paths, for `files` sorted by path.
pub(crate) fn tree(files: &[(&str, Oid)]) -> (Oid, Vec<(String, Oid)>) {
    let mut folders = Vec::new();
    let root = folder("", files, &mut folders);
    (root, folders)
}

fn folder(prefix: &str, files: &[(&str, Oid)], folders: &mut Vec<(String, Oid)>) -> Oid {
    // Git sorts folders as if their names ended in a slash.
    let mut rows: Vec<(String, Vec<u8>)> = Vec::new();
    let mut rest = files;
    while let Some((path, oid)) = rest.first() {
        let below = &path[prefix.len()..];
        let Some((name, _)) = below.split_once('/') else {
            rows.push((below.to_owned(), row("100644", below, *oid)));
            rest = &rest[1..];
            continue;
        };
        let inner = format!("{prefix}{name}/");
        let count = rest.iter().take_while(|(path, _)| path.starts_with(&inner)).count();
        let oid = folder(&inner, &rest[..count], folders);
        folders.push((format!("{prefix}{name}"), oid));
        rows.push((format!("{name}/"), row("40000", name, oid)));
        rest = &rest[count..];
    }
    rows.sort();
    let body: Vec<u8> = rows.into_iter().flat_map(|(_, row)| row).collect();
    object("tree", &body)
}

fn row(mode: &str, name: &str, oid: Oid) -> Vec<u8> {
    [mode.as_bytes(), b" ", name.as_bytes(), b"\0", &oid.0].concat()
}

/// The id of a commit of `tree` that says `message`, made by nobody at the start of 2024.
pub(crate) fn commit(tree: Oid, message: &str) -> Oid {
    let who = "Larder <larder@localhost> 1704067200 +0000";
    object("commit", format!("tree {tree}\nauthor {who}\ncommitter {who}\n\n{message}\n").as_bytes())
}

fn object(kind: &str, body: &[u8]) -> Oid {
    let mut sha1 = Sha1::new_with_prefix(format!("{kind} {}\0", body.len()));
    sha1.update(body);
    Oid(sha1.finalize().into())
}
