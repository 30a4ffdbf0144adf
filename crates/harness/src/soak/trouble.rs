//! What goes wrong around the daemons of a soak: the origin, liars, and bits on their disks.

use std::fs::OpenOptions;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::Context;
use fastrand::Rng;
use larder_harness::faults::{Fault, Rule};
use larder_harness::market::{Place, Rogue, RogueNode, sha256};

use super::Soak;
use super::plan::{Failing, PlannedJob};
use super::secrets::files_below;

/// How many blobs are looked at to find one whose bits may be flipped.
const TRIES: usize = 8;

/// What is wrong now.
pub(super) struct Trouble {
    rng: Rng,
    /// Until when the origin fails.
    origin_until_s: Option<f64>,
    /// Liars that take part, and until when.
    liars: Vec<(RogueNode, f64)>,
}

impl Trouble {
    pub(super) fn new(seed: u64) -> Self {
        Self { rng: Rng::with_seed(seed), origin_until_s: None, liars: Vec::new() }
    }

    pub(super) fn origin_fails(&self) -> bool {
        self.origin_until_s.is_some()
    }
}

impl Soak {
    /// Lets the origin fail, unless it does so already.
    pub(super) fn fail_origin(&mut self, failing: Failing, for_s: f64) {
        if self.trouble.origin_fails() {
            return;
        }
        let faults = self.goods.hub.faults();
        match failing {
            Failing::Unavailable => faults.set(Rule::new("*", Fault::Status { code: 503, retry_after: None })),
            Failing::TooMany => faults.set(Rule::new("*", Fault::Status { code: 429, retry_after: Some(1) })),
            Failing::Cut => faults.set(Rule::new("*", Fault::Cut { percent: 50 })),
            Failing::Down => faults.set_down(true),
        }
        self.trouble.origin_until_s = Some(self.now_s() + for_s);
        self.did(&format!("origin failed, {failing:?}"), &format!("for {for_s:.1} s"));
    }

    /// Lets a liar take part.
    pub(super) fn let_in(&mut self, kind: Rogue, for_s: f64) -> anyhow::Result<()> {
        let liar = self.market.start_rogue(kind, self.goods.known.clone(), &Place::Loopback)?;
        self.did(&format!("liars, {kind:?}"), &format!("{} for {for_s:.1} s", liar.peer()));
        self.trouble.liars.push((liar, self.now_s() + for_s));
        Ok(())
    }

    /// Ends what is over.
    pub(super) fn step_trouble(&mut self) -> anyhow::Result<()> {
        let now_s = self.now_s();
        if self.trouble.origin_until_s.is_some_and(|until_s| now_s >= until_s) {
            self.goods.hub.faults().clear();
            self.trouble.origin_until_s = None;
        }
        self.trouble.liars.retain(|(_, until_s)| now_s < *until_s);
        Ok(())
    }

    /// Ends all of it.
    pub(super) fn end_trouble(&mut self) {
        self.goods.hub.faults().clear();
        self.trouble.origin_until_s = None;
        self.trouble.liars.clear();
        self.bring_back();
    }

    /// Flips a bit of a blob that no job of the node uses, and has a job want it: that gets right bytes all the same.
    pub(super) fn flip(&mut self, number: usize) -> anyhow::Result<()> {
        if self.members[number].is_frozen() {
            return Ok(());
        }
        let home = self.node(number)?.home();
        let mut blobs: Vec<PathBuf> = [home.join("blobs"), home.join("private")]
            .iter()
            .map(|folder| files_below(folder))
            .collect::<anyhow::Result<Vec<_>>>()?
            .concat();
        blobs.sort();
        self.trouble.rng.shuffle(&mut blobs);
        for blob in blobs.into_iter().take(TRIES) {
            // It may be evicted meanwhile.
            let Ok(hash) = sha256(&blob) else { continue };
            let Some(repository) = self.goods.holder_of(&hash).filter(|repository| !self.uses(number, *repository)) else { continue };
            let bit = self.trouble.rng.u64(..);
            if !flip_bit(&blob, bit)? {
                continue;
            }
            self.did("bits flipped", &blob.display().to_string());
            let shows_token = self.goods.repositories[repository].guarded;
            let wants = PlannedJob { node: number, repository, shows_token, command: false, cancel_after_s: None, hold_s: 1.0 };
            self.later.push(wants);
            return Ok(());
        }
        Ok(())
    }
}

/// Flips the bit of a file that `chance` picks; whether it could be done. A file that has another name, as one that is laid has, is let be.
fn flip_bit(path: &Path, chance: u64) -> anyhow::Result<bool> {
    let flipped = || -> std::io::Result<bool> {
        let status = std::fs::metadata(path)?;
        if status.nlink() != 1 || status.len() == 0 {
            return Ok(false);
        }
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o644))?;
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        let (mut byte, at) = ([0], chance / 8 % status.len());
        file.read_exact_at(&mut byte, at)?;
        file.write_all_at(&[byte[0] ^ (1 << (chance % 8))], at)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o444))?;
        Ok(true)
    };
    match flipped() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        other => other.with_context(|| path.display().to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_bit_is_flipped_and_never_in_what_is_laid() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("blob");
        std::fs::write(&path, [0; 100]).unwrap();
        assert!(flip_bit(&path, 8 * 130 + 3).unwrap());
        let bytes = std::fs::read(&path).unwrap();
        assert_eq!((bytes[30], bytes.iter().filter(|byte| **byte != 0).count()), (8, 1));
        std::fs::hard_link(&path, folder.path().join("laid")).unwrap();
        assert!(!flip_bit(&path, 0).unwrap());
        assert!(!flip_bit(&folder.path().join("gone"), 0).unwrap());
    }
}
