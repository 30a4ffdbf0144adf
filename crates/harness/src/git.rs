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
    // Git sorts folders as if their names ended in a slash: the order of the paths below them.
    let mut rows = Vec::new();
    let mut rest = files;
    while let Some((path, oid)) = rest.first() {
        let below = &path[prefix.len()..];
        let Some((name, _)) = below.split_once('/') else {
            rows.extend(row("100644", below, *oid));
            rest = &rest[1..];
            continue;
        };
        let inner = format!("{prefix}{name}/");
        let count = rest.iter().take_while(|(path, _)| path.starts_with(&inner)).count();
        let oid = folder(&inner, &rest[..count], folders);
        folders.push((format!("{prefix}{name}"), oid));
        rows.extend(row("40000", name, oid));
        rest = &rest[count..];
    }
    object("tree", &rows)
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

#[cfg(test)]
mod tests {
    use super::*;

    /// The ids are what git 2.39 printed: `git hash-object`, `git ls-tree -rt`, `git write-tree`, `git commit-tree`.
    #[test]
    fn ids_are_those_that_git_gives() {
        let files = [("a-b/q", "q"), ("a.txt", "x"), ("a/b/c", "hi"), ("a0", "z"), ("empty", "")];
        let files: Vec<(&str, Oid)> = files.iter().map(|(path, text)| (*path, blob(text.as_bytes()))).collect();
        assert_eq!(files[2].1.to_string(), "32f95c0d1244a78b2be1bab8de17906fabb2c4a8");
        assert_eq!(files[4].1.to_string(), "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391");
        let (root, folders) = tree(&files);
        assert_eq!(root.to_string(), "6aa6f39dbcc625bf4512c0c938c70fb8a34a3a9c");
        let folders: Vec<(String, String)> = folders.into_iter().map(|(path, oid)| (path, oid.to_string())).collect();
        for (path, oid) in [
            ("a-b", "0b9c79f2295549fdb96743a9f55b4a148e75a18f"),
            ("a/b", "b39583c5b5b5f3bffea36ff5d33e046b38f7e325"),
            ("a", "cf59410efb9abd13b48257f14bd17baf62b7f73a"),
        ] {
            assert!(folders.contains(&(path.to_owned(), oid.to_owned())), "{path} {folders:?}");
        }
        assert_eq!(commit(root, "Publish models/o/n").to_string(), "906cc96cce183bfd133589cc00499c799afe9a32");
    }

    #[test]
    fn a_pointer_of_lfs_is_what_git_lfs_writes() {
        let pointer = lfs_pointer("8f434346648f6b96df89dda901c5176b10a6d83961dd3c1ac88b59b2dc327aa4", 2);
        assert_eq!(blob(pointer.as_bytes()).to_string(), "81b70cd3a0822bc56510406a4feeeff7957694ae");
    }
}
