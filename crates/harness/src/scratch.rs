//! A folder for each server and each market, which is gone afterwards even if this process is killed.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::Context;

/// The file that names what a server leaves outside its folder, one path a line.
const OUTSIDE: &str = "outside";

/// A folder that is removed when it is dropped. What a killed process left is removed by the next that makes one.
#[derive(Debug)]
pub struct Scratch(PathBuf);

impl Scratch {
    /// A new folder in `run`, which holds such folders and nothing else.
    ///
    /// # Errors
    /// Fails if it cannot be made.
    pub fn below(run: &Path) -> anyhow::Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let folder = run.join(format!("{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed)));
        std::fs::create_dir_all(run).with_context(|| format!("{} cannot be made", run.display()))?;
        sweep(run);
        std::fs::create_dir(&folder).with_context(|| format!("{} cannot be made", folder.display()))?;
        Ok(Self(folder))
    }

    /// Where it is.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.0
    }

    /// A path in it.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Leaves it where it is, until the next process makes one.
    #[must_use]
    pub fn keep(self) -> PathBuf {
        std::mem::take(&mut std::mem::ManuallyDrop::new(self).0)
    }

    /// Has these removed with it.
    pub(crate) fn and_outside(&self, paths: &[String]) -> anyhow::Result<()> {
        Ok(std::fs::write(self.path(OUTSIDE), paths.join("\n"))?)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        remove(&self.0);
    }
}

/// Removes the folders of processes that are no more.
fn sweep(run: &Path) {
    for entry in std::fs::read_dir(run).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let process = name.to_str().and_then(|name| name.split_once('-')).map(|(process, _)| process);
        if process.is_some_and(|process| !Path::new("/proc").join(process).exists()) {
            remove(&entry.path());
        }
    }
}

fn remove(folder: &Path) {
    for path in std::fs::read_to_string(folder.join(OUTSIDE)).unwrap_or_default().lines() {
        let _ = std::fs::remove_file(path);
    }
    let _ = std::fs::remove_dir_all(folder);
}
