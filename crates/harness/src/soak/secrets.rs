//! What must stay where it is: the token, and the bytes that it opens.

use std::path::{Path, PathBuf};

use anyhow::Context;
use fastrand::Rng;

/// How far apart the marks are in what the token opens.
const MARK_EVERY: usize = 512;

/// What must show nowhere else.
pub(super) struct Secrets {
    /// What opens the guarded repositories.
    pub(super) token: String,
    /// What their files hold again and again.
    mark: String,
}

impl Secrets {
    pub(super) fn new(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let mut letters = |count: usize| (0..count).map(|_| rng.alphanumeric()).collect::<String>();
        Self { token: format!("hf_{}", letters(34)), mark: format!("guarded-{}", letters(24)) }
    }

    /// `bytes` bytes that hold the mark, and are others for each path.
    pub(super) fn marked(&self, path: &str, bytes: usize) -> Vec<u8> {
        let mut rng = Rng::with_seed(path.bytes().fold(7, |hash: u64, byte| hash.wrapping_mul(31).wrapping_add(u64::from(byte))));
        let mut out = Vec::with_capacity(bytes + MARK_EVERY);
        while out.len() < bytes {
            out.extend_from_slice(self.mark.as_bytes());
            out.extend((self.mark.len()..MARK_EVERY).map(|_| rng.u8(..)));
        }
        out.truncate(bytes);
        out
    }

    /// Whether `bytes` hold the token.
    pub(super) fn token_in(&self, bytes: &[u8]) -> bool {
        holds(bytes, self.token.as_bytes())
    }

    /// The files below `folder` that hold the token, or, where `is_guarded` does not say that they may, bytes of what it opens. What `skip` says
    /// is not read.
    ///
    /// # Errors
    /// Fails if a folder cannot be read for another reason than that it is gone.
    pub(super) fn shown_below(
        &self,
        folder: &Path,
        skip: &dyn Fn(&Path) -> bool,
        is_guarded: &dyn Fn(&Path) -> bool,
    ) -> anyhow::Result<Vec<PathBuf>> {
        let mut shown = Vec::new();
        for path in files_below(folder)?.into_iter().filter(|path| !skip(path)) {
            // It may go meanwhile, and a socket cannot be read.
            let Ok(bytes) = std::fs::read(&path) else { continue };
            if self.token_in(&bytes) || (!is_guarded(&path) && holds(&bytes, self.mark.as_bytes())) {
                shown.push(path);
            }
        }
        Ok(shown)
    }
}

/// All files below a folder; what goes meanwhile is left out.
///
/// # Errors
/// Fails if a folder cannot be read for another reason than that it is gone.
pub(super) fn files_below(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let (mut found, mut folders) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(folder) = folders.pop() {
        let entries = match std::fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error).with_context(|| folder.display().to_string()),
        };
        for entry in entries.flatten() {
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => folders.push(entry.path()),
                Ok(kind) if kind.is_file() => found.push(entry.path()),
                Ok(_) | Err(_) => {}
            }
        }
    }
    Ok(found)
}

fn holds(bytes: &[u8], needle: &[u8]) -> bool {
    bytes.windows(needle.len()).any(|window| window[0] == needle[0] && window == needle)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_and_guarded_bytes_are_found_wherever_they_are() {
        let (folder, secrets) = (tempfile::tempdir().unwrap(), Secrets::new(1));
        let write = |name: &str, bytes: &[u8]| {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, bytes).unwrap();
        };
        write("a/log", format!("x{}y", secrets.token).as_bytes());
        write("b/private/blob", &secrets.marked("p", 2000));
        write("b/blob", &secrets.marked("p", 2000)[300..1500]);
        write("c", b"guarded-");
        write("skipped", secrets.token.as_bytes());
        let is_guarded = |path: &Path| path.to_string_lossy().contains("/private/");
        let mut shown = secrets.shown_below(folder.path(), &|path| path.ends_with("skipped"), &is_guarded).unwrap();
        shown.sort();
        assert_eq!(shown, ["a/log", "b/blob"].map(|name| folder.path().join(name)));
    }
}
