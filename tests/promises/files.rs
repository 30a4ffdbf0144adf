//! Files that a test knows byte for byte, and what of them lies in a folder.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use larder_harness::hub::{HubBuilder, HubServer, Repo, Tree};
use serde_json::{Value, json};

pub(crate) const MIB: u64 = 1024 * 1024;

/// The repository that [`Files::hub`] serves.
pub(crate) const REPO: &str = "models/org/name";

/// Files by their path.
#[derive(Clone)]
pub(crate) struct Files(pub(crate) BTreeMap<String, Vec<u8>>);

impl Files {
    /// Files of these sizes, no two with the same bytes unless path and size are the same.
    pub(crate) fn of_sizes<P: Into<String>>(sizes: impl IntoIterator<Item = (P, u64)>) -> Self {
        let file = |(path, size): (P, u64)| {
            let path: String = path.into();
            let bytes = noise(&path, size);
            (path, bytes)
        };
        Self(sizes.into_iter().map(file).collect())
    }

    /// The sum of their sizes.
    pub(crate) fn bytes(&self) -> u64 {
        self.0.values().map(|bytes| bytes.len() as u64).sum()
    }

    /// As a repository holds them.
    pub(crate) fn tree(&self) -> Tree {
        self.0.iter().fold(Tree::new(), |tree, (path, bytes)| tree.file(path, bytes.clone()))
    }

    /// A hub with a public repository of them, that sends so many bytes a second.
    pub(crate) fn hub(&self, rate: u64) -> HubServer {
        HubBuilder::new().repo(Repo::model("org/name").at("main", self.tree())).rate(rate).start().unwrap()
    }

    /// Whether `folder` holds these files and no others, byte for byte.
    #[track_caller]
    pub(crate) fn assert_laid(&self, folder: &Path) {
        assert_eq!(self.torn(folder), Vec::<String>::new(), "these are not as they should be");
        let laid: Vec<String> = names(folder);
        let wanted: Vec<String> = self.0.keys().cloned().collect();
        assert!(laid == wanted, "{} of {} files are laid in {}", laid.len(), wanted.len(), folder.display());
    }

    /// The first of those in `folder` that are none of these files, or not whole.
    pub(crate) fn torn(&self, folder: &Path) -> Vec<String> {
        let right =
            |name: &String| self.0.get(name).is_some_and(|bytes| std::fs::read(folder.join(name)).is_ok_and(|found| found == *bytes));
        names(folder).into_iter().filter(|name| !right(name)).take(10).collect()
    }
}

/// What a job says to have the repository of [`Files::hub`] at `/data`.
pub(crate) fn resource() -> Value {
    json!([{"type": "HF", "repo": "org/name", "target": "/data"}])
}

/// The regular files below `folder`, by their path in it, in order; what has a name that only a file on its way has is left out.
pub(crate) fn names(folder: &Path) -> Vec<String> {
    let name = |path: PathBuf| path.strip_prefix(folder).unwrap().to_str().unwrap().to_owned();
    let mut names: Vec<String> = paths(folder).into_iter().map(name).filter(|name| !is_temporary(name)).collect();
    names.sort();
    names
}

/// All that lies below `folder` and is no folder.
pub(crate) fn paths(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        // What is looked at may be on its way out.
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => folders.push(entry.path()),
                Ok(_) => found.push(entry.path()),
                Err(_) => {}
            }
        }
    }
    found
}

fn is_temporary(name: &str) -> bool {
    let name = name.rsplit('/').next().unwrap_or_default();
    name.starts_with(".larder-") && name.ends_with(".part")
}

/// Bytes that look random, and are the same for the same name.
fn noise(name: &str, size: u64) -> Vec<u8> {
    let seed = name.bytes().fold(size, |seed, byte| seed.wrapping_mul(31).wrapping_add(u64::from(byte)));
    let mut random = fastrand::Rng::with_seed(seed);
    let mut bytes = vec![0; usize::try_from(size).unwrap()];
    random.fill(&mut bytes);
    bytes
}
