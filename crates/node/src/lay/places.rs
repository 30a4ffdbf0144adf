//! Which folders are being laid at the moment.
//!
//! Invariant: no two jobs lay in one folder at the same time, and nothing is taken back while anything is laid: who takes back
//! has looked which files others need, and who lays has looked which are there.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, PoisonError, RwLock, RwLockReadGuard};

/// Which folders are being laid at the moment. All that waits here blocks.
#[derive(Debug, Default)]
pub(crate) struct Places {
    /// Held for reading while something is laid, for writing while something is taken back.
    stillness: RwLock<()>,
    busy: Mutex<BTreeSet<PathBuf>>,
    freed: Condvar,
}

/// Folders that are one job's until this is dropped.
pub(crate) struct Taken<'a> {
    places: &'a Places,
    folders: BTreeSet<PathBuf>,
    _stillness: RwLockReadGuard<'a, ()>,
}

impl Places {
    /// Takes folders, once nobody lays in them, above or below.
    pub(crate) fn take(&self, folders: BTreeSet<PathBuf>) -> Taken<'_> {
        // Taken before any folder is: so whoever has a folder waits for nobody who takes back.
        let stillness = self.stillness.read().unwrap_or_else(PoisonError::into_inner);
        let busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        let meets = |busy: &mut BTreeSet<PathBuf>| busy.iter().any(|other| folders.iter().any(|folder| overlap(folder, other)));
        let mut busy = self.freed.wait_while(busy, meets).unwrap_or_else(PoisonError::into_inner);
        busy.extend(folders.iter().cloned());
        Taken { places: self, folders, _stillness: stillness }
    }

    /// Does `work`, which takes back what was laid, once nothing is being laid.
    pub(crate) fn undisturbed<T>(&self, work: impl FnOnce() -> T) -> T {
        let _stillness = self.stillness.write().unwrap_or_else(PoisonError::into_inner);
        work()
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        let mut busy = self.places.busy.lock().unwrap_or_else(PoisonError::into_inner);
        busy.retain(|folder| !self.folders.contains(folder));
        self.places.freed.notify_all();
    }
}

fn overlap(a: &Path, b: &Path) -> bool {
    a.starts_with(b) || b.starts_with(a)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::sync_channel;
    use std::time::Duration;

    /// Whether `folder` can be had while `taken` is.
    fn can_be_had(taken: &str, folder: &str) -> bool {
        let places = Places::default();
        let first = places.take(BTreeSet::from([taken.into()]));
        std::thread::scope(|scope| {
            let (sender, receiver) = sync_channel(1);
            let places = &places;
            scope.spawn(move || {
                drop(places.take(BTreeSet::from([folder.into()])));
                sender.send(())
            });
            let had = receiver.recv_timeout(Duration::from_millis(200)).is_ok();
            drop(first);
            had || receiver.recv_timeout(Duration::from_secs(60)).map(|()| false).unwrap()
        })
    }

    #[test]
    fn a_folder_is_one_jobs_at_a_time_with_all_above_and_below() {
        assert!(can_be_had("/a/b", "/a/c") && can_be_had("/a/b", "/a/bc"));
        assert!(!can_be_had("/a/b", "/a/b") && !can_be_had("/a/b", "/a") && !can_be_had("/a", "/a/b"));
    }

    #[test]
    fn nothing_is_taken_back_while_anything_is_laid() {
        let places = Places::default();
        let laid = Mutex::new(false);
        let taken = places.take(BTreeSet::from(["/a".into()]));
        std::thread::scope(|scope| {
            scope.spawn(|| places.undisturbed(|| assert!(*laid.lock().unwrap())));
            std::thread::sleep(Duration::from_millis(50));
            *laid.lock().unwrap() = true;
            drop(taken);
        });
    }
}
