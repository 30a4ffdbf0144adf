//! What commands leave on the disk, as a test looks at it.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::node::{Finished, Node};

/// `count` bytes that do not repeat, others for each `seed`.
pub(crate) fn noise(count: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut word = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    let mut bytes: Vec<u8> = (0..count.div_ceil(8)).flat_map(|_| word()).collect();
    bytes.truncate(count);
    bytes
}

/// The content of every file below `folder`, by its path there; none if there is no folder.
pub(crate) fn files_below(folder: impl AsRef<Path>) -> BTreeMap<String, Vec<u8>> {
    let folder = folder.as_ref();
    let relative = |path: &Path| path.strip_prefix(folder).unwrap().to_str().unwrap().to_owned();
    files(folder).iter().map(|path| (relative(path), std::fs::read(path).unwrap())).collect()
}

/// As [`files_below`] would find them.
pub(crate) fn expected<const N: usize>(files: [(&str, &[u8]); N]) -> BTreeMap<String, Vec<u8>> {
    files.into_iter().map(|(path, bytes)| (path.to_owned(), bytes.to_vec())).collect()
}

/// Everything below `folder` is a folder of mode 0755 or a regular file of mode 0444, as containers need it.
#[track_caller]
pub(crate) fn assert_ready_to_mount(folder: impl AsRef<Path>) {
    for path in everything_below(folder.as_ref()) {
        let data = path.symlink_metadata().unwrap();
        let right = if data.is_dir() { 0o040_755 } else { 0o100_444 };
        assert_eq!(data.mode(), right, "{} has mode {:o}", path.display(), data.mode());
    }
}

/// The sizes of the blobs in a node's store, in order.
pub(crate) fn blob_sizes(node: &Node) -> Vec<u64> {
    let mut sizes: Vec<u64> = files(&node.home().join("blobs")).iter().map(|path| path.metadata().unwrap().len()).collect();
    sizes.sort_unstable();
    sizes
}

/// None of `secrets` shows in what was printed, in a file of the node's folder or in a file's name, but for definitions.
#[track_caller]
pub(crate) fn assert_kept(node: &Node, finished: &Finished, secrets: &[&str]) {
    for secret in secrets {
        assert!(!finished.stdout.contains(secret), "{secret} is printed: {}", finished.stdout);
        assert!(!finished.stderr.contains(secret), "{secret} is printed: {}", finished.stderr);
    }
    let is_definition = |path: &Path| path.parent() == Some(node.folder());
    for path in files(node.folder()).iter().filter(|path| !is_definition(path)) {
        let (name, bytes) = (path.to_string_lossy(), std::fs::read(path).unwrap());
        let text = String::from_utf8_lossy(&bytes);
        for secret in secrets {
            assert!(!text.contains(secret) && !name.contains(secret), "{secret} is in {name}");
        }
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    everything_below(folder)
        .into_iter()
        .filter(|path| path.symlink_metadata().is_ok_and(|data| data.is_file() || data.is_symlink()))
        .collect()
}

fn everything_below(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                folders.push(entry.path());
            }
            found.push(entry.path());
        }
    }
    found
}
