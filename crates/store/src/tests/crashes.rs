//! A crash at every step of a job, with every kind of loss, or an error of the disk there, and what must be left.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use larder_content::{CHUNK_BYTES, ContentId, OriginFile, RelativePath, Scope};

use crate::crash::{CrashDisk, Loss};
use crate::testing::{all, bytes, chunks, config, file, md5, public, rounds, sha256};
use crate::{Blob, BlobName, Lay, Store, Tree};

pub(super) const WRITABLE: Lay = Lay::Writable { owner: None };
const CHUNKS: u64 = 3;

/// What the job of this test fetches, and what it saw recorded.
struct Job {
    folder: PathBuf,
    small: (OriginFile, Bytes),
    /// Without a digest: nothing but what the store remembers can bring it back.
    large: (OriginFile, Bytes),
    private: (OriginFile, Bytes),
    /// Chunks of the large file that were recorded, and of those the ones that a sync covered.
    recorded: BTreeSet<u64>,
    synced: BTreeSet<u64>,
}

type Outcome = Result<(), Box<dyn std::error::Error>>;

impl Job {
    fn new(folder: &Path) -> Self {
        let data = [bytes(1, 20_000), bytes(2, CHUNKS * CHUNK_BYTES - 100), bytes(3, 30_000)];
        let [small, large, private] = data;
        Self {
            folder: folder.into(),
            small: (public(&small), small),
            large: (file("large", large.len() as u64, vec![]), large),
            private: (file("private", private.len() as u64, vec![sha256(&private), md5(&private)]), private),
            recorded: BTreeSet::new(),
            synced: BTreeSet::new(),
        }
    }

    fn sync(&mut self, store: &Store) -> Outcome {
        store.sync()?;
        self.synced = self.recorded.clone();
        copy_folder(&self.folder.join("home/index"), &self.folder.join("index-at-sync"));
        Ok(())
    }

    /// Gets all files, lays them twice, and goes on to another revision; stops at the first failure.
    fn run(&mut self, store: &Store) -> Outcome {
        let put = |(file, data): &(OriginFile, Bytes), scope| match store.find(&file.key(scope))? {
            Some(blob) => Ok(blob),
            None => store.put(file, scope, &all(data)),
        };
        let small = put(&self.small, Scope::Public)?;
        let large = self.large(store)?;
        store.chunk_hashes(&large)?;
        let private = put(&self.private, Scope::Private)?;
        let (read, written) = (store.targets().join("read"), store.targets().join("written"));
        let both = [("d/large", large.clone()), ("small", small.clone())];
        let first = lease(store, &read, &both, false)?;
        lay(store, &read, &both, Lay::ReadOnly)?;
        let others = [("p", private.clone()), ("w/large", large)];
        lease(store, &written, &others, true)?;
        lay(store, &written, &others, WRITABLE)?;
        let next = [("d/private", private), ("small", small)];
        lease(store, &read, &next, false)?;
        lay(store, &read, &next, Lay::ReadOnly)?;
        store.release(&first, SystemTime::now())?;
        self.sync(store)?;
        let late = SystemTime::now() + Duration::from_secs(30 * 24 * 3600);
        // What is held would stay.
        drop((both, others, next));
        assert_eq!(store.gc(late, true)?.blobs, 3);
        Ok(())
    }

    /// Gets the large file: with a sync in the middle, so that a part of it must outlive a power cut.
    fn large(&mut self, store: &Store) -> Result<Blob, Box<dyn std::error::Error>> {
        let (file, data) = self.large.clone();
        if let Some(blob) = store.find(&file.key(Scope::Public))? {
            return Ok(blob);
        }
        let partial = store.partial(&file, Scope::Public)?;
        for index in [2, 0] {
            partial.write(&chunks(&data, index, index + 1))?;
            self.recorded.insert(index);
        }
        self.sync(store)?;
        // Chunk 2 turns out to be wrong, and comes again as another: its old record must not come back beside new bytes.
        for known in [&mut self.recorded, &mut self.synced] {
            known.remove(&2);
        }
        partial.forget(2..3)?;
        copy_folder(&self.folder.join("home/index"), &self.folder.join("index-at-sync"));
        partial.write(&chunks(&bytes(4, data.len() as u64), 2, 3))?;
        partial.forget(2..3)?;
        copy_folder(&self.folder.join("home/index"), &self.folder.join("index-at-sync"));
        for index in [2, 1] {
            partial.write(&chunks(&data, index, index + 1))?;
            self.recorded.insert(index);
        }
        Ok(partial.seal()?)
    }

    /// What any file in a target must hold.
    fn contents(&self) -> BTreeMap<&'static str, &Bytes> {
        let (small, large, private) = (&self.small.1, &self.large.1, &self.private.1);
        [("read/d/large", large), ("read/small", small), ("read/d/private", private), ("written/p", private), ("written/w/large", large)]
            .into()
    }

    /// Checks what the crash left.
    fn check(&self, store: &Store, expected: &BTreeSet<u64>, evicting: bool) {
        for (path, data) in self.contents() {
            if let Ok(found) = fs::read(store.targets().join(path)) {
                assert!(found == **data, "{path} is torn in its target");
            }
        }
        for id in store.leases() {
            assert!(!id.trees.is_empty());
        }
        if store.find(&self.large.0.key(Scope::Public)).unwrap().is_none() && !evicting {
            let missing = store.partial(&self.large.0, Scope::Public).unwrap().missing();
            let lost = expected.iter().find(|index| missing.iter().any(|run| run.contains(index)));
            assert_eq!(lost, None, "a recorded chunk is gone; missing are {missing:?}");
        }
        for (name, row) in store.shared.index.blobs().unwrap() {
            assert_eq!(row.keyless, store.shared.is_keyless(name).unwrap(), "a blob can neither be found nor be adopted, or both");
        }
        for (key, row) in store.shared.index.partials().unwrap() {
            assert!(row.sealed_as.is_some() || store.find(&key).unwrap().is_none(), "a file that is a blob is taken for one still coming");
        }
        if let Some(large) = store.find(&self.large.0.key(Scope::Public)).unwrap() {
            assert_eq!(store.chunk_hashes(&large).unwrap().run(0..CHUNKS), all(&self.large.1).hashes());
        }
        let report = store.verify().unwrap();
        assert_eq!((report.damaged, report.damaged_chunks), (vec![], 0));
    }

    /// Checks that a store that was opened again has nothing that is of no use.
    fn check_tidy(&self, store: &Store) {
        for shard in fs::read_dir(store.home().join("hashes")).unwrap() {
            for list in fs::read_dir(shard.unwrap().path()).unwrap() {
                let name = list.unwrap().file_name().into_string().unwrap();
                let blob = ContentId::parse(&name).map(BlobName::Public).unwrap();
                let rows = store.shared.index.blobs().unwrap();
                assert!(rows.iter().any(|(name, _)| *name == blob), "chunk hashes of a blob that is gone stay");
            }
        }
        assert_eq!(fs::read_dir(store.home().join("temp")).unwrap().count(), 0);
    }
}

fn lease(store: &Store, dest: &Path, files: &[(&str, Blob)], writable: bool) -> Result<String, Box<dyn std::error::Error>> {
    lease_in(store, &store.targets(), dest, files, writable)
}

pub(super) fn lease_in(
    store: &Store,
    root: &Path,
    dest: &Path,
    files: &[(&str, Blob)],
    writable: bool,
) -> Result<String, Box<dyn std::error::Error>> {
    let blobs = files.iter().map(|(_, blob)| blob.name()).collect();
    let files = files.iter().map(|(path, _)| RelativePath::new(*path).unwrap()).collect();
    let tree = Tree { root: root.into(), path: dest.into(), files, writable };
    Ok(store.take_lease("job", blobs, vec![tree], SystemTime::now())?.id)
}

fn lay(store: &Store, dest: &Path, files: &[(&str, Blob)], how: Lay) -> Outcome {
    lay_in(store, &store.targets(), dest, files, how)
}

pub(super) fn lay_in(store: &Store, root: &Path, dest: &Path, files: &[(&str, Blob)], how: Lay) -> Outcome {
    let files: Vec<_> = files.iter().map(|(path, blob)| (RelativePath::new(*path).unwrap(), blob.clone())).collect();
    store.lay(&Tree { root: root.into(), path: dest.into(), files: vec![], writable: false }, &files, how)?;
    Ok(())
}

fn copy_folder(from: &Path, to: &Path) {
    let _ = fs::remove_dir_all(to);
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            copy_folder(&entry.path(), &to.join(entry.file_name()));
        } else {
            fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}

pub(super) fn open(home: &Path, disk: &CrashDisk) -> Store {
    let store = Store::open_on(home, config(), "test", Box::new(disk.clone()), false).unwrap();
    store.shared.index.power.set(disk.clone()).unwrap();
    store
}

/// Runs the job until effect `cut_at`, crashes, and checks what is left; then lets the job run to its end.
///
/// With `index_behind`, the index comes back as it was at the last sync; otherwise it has every row that was written.
/// Returns how many effects the job had.
fn crash_at(cut_at: u64, loss: Loss, index_behind: bool) -> u64 {
    let folder = tempfile::tempdir().unwrap();
    let (home, grave) = (folder.path().join("home"), folder.path().join("grave"));
    fs::create_dir(&grave).unwrap();
    let disk = CrashDisk::new(&grave, cut_at);
    let mut job = Job::new(folder.path());
    let store = open(&home, &disk);
    // Or its library writes while it is copied.
    store.flush().unwrap();
    copy_folder(&home.join("index"), &folder.path().join("index-at-sync"));
    let outcome = job.run(&store);
    drop(store);
    let steps = disk.steps();
    assert!(outcome.is_ok() || steps == cut_at, "{:?}", outcome.err());
    disk.crash(loss);
    if index_behind {
        // Its library ends behind the back of who closes it, and would write into what is put there.
        let file = fs::File::open(home.join("index/db")).unwrap();
        file.lock().unwrap();
        drop(file);
        copy_folder(&folder.path().join("index-at-sync"), &home.join("index"));
    }
    let expected = if loss == Loss::Nothing && !index_behind { job.recorded.clone() } else { job.synced.clone() };
    let store = open(&home, &disk);
    let blobs_had = job.recorded.len() as u64 == CHUNKS && job.synced.len() as u64 == CHUNKS;
    job.check(&store, &expected, blobs_had);
    job.check_tidy(&store);
    let outcome = job.run(&store);
    assert!(outcome.is_ok(), "the job does not end after the crash: {:?}", outcome.err());
    job.check(&store, &BTreeSet::new(), true);
    job.check_tidy(&store);
    steps
}

/// Lets effect `at` of the job fail, checks what is left in the same process, lets the job run to its end, and checks again once the
/// store was opened anew.
fn fail_at(at: u64, error: i32) {
    let folder = tempfile::tempdir().unwrap();
    let (home, grave) = (folder.path().join("home"), folder.path().join("grave"));
    fs::create_dir(&grave).unwrap();
    let disk = CrashDisk::new(&grave, u64::MAX);
    let mut job = Job::new(folder.path());
    let store = open(&home, &disk);
    disk.fail_at(at, error);
    // What can be done without is no reason to fail.
    let _ = job.run(&store);
    disk.fail_at(u64::MAX, error);
    let blobs_had = job.recorded.len() as u64 == CHUNKS && job.synced.len() as u64 == CHUNKS;
    job.check(&store, &job.recorded, blobs_had);
    let outcome = job.run(&store);
    assert!(outcome.is_ok(), "the job does not end after the error: {:?}", outcome.err());
    job.check(&store, &BTreeSet::new(), true);
    drop(store);
    let store = open(&home, &disk);
    job.check(&store, &BTreeSet::new(), true);
    job.check_tidy(&store);
}

fn crash_everywhere(losses: &[Loss], index_behind: bool) {
    let steps = crash_at(u64::MAX, Loss::Nothing, false);
    assert!(steps > 50, "the job has {steps} effects only");
    // Where the index keeps every row, it is the order of rows that is tested, and a crash is cheap.
    let every_step = losses == [Loss::Nothing] && !index_behind;
    let stride = (steps / rounds(if every_step { 1_000 } else { 20 })).max(1);
    let begin = u64::from(std::process::id()) % stride;
    for cut_at in (begin..steps).step_by(usize::try_from(stride).unwrap()) {
        for loss in losses {
            let loss = if let Loss::Some(seed) = loss { Loss::Some(seed + cut_at) } else { *loss };
            let run = std::panic::catch_unwind(|| crash_at(cut_at, loss, index_behind));
            assert!(run.is_ok(), "crashed at effect {cut_at} of {steps}, loss {loss:?}, index behind: {index_behind}");
        }
    }
}

#[test]
fn a_kill_at_any_step_tears_nothing_and_loses_no_recorded_chunk() {
    crash_everywhere(&[Loss::Nothing], false);
}

#[test]
fn a_kill_that_the_index_lags_behind_tears_nothing() {
    crash_everywhere(&[Loss::Nothing], true);
}

#[test]
fn a_power_cut_at_any_step_tears_nothing_and_loses_no_synced_chunk() {
    crash_everywhere(&[Loss::All, Loss::Bytes, Loss::Some(1_000), Loss::Some(2_000)], false);
}

#[test]
fn a_power_cut_that_the_index_lags_behind_tears_nothing() {
    crash_everywhere(&[Loss::All, Loss::Bytes, Loss::Some(3_000), Loss::Some(4_000)], true);
}

#[test]
fn an_error_of_the_disk_at_any_step_tears_nothing_and_the_job_ends_when_it_is_tried_again() {
    const INPUT_OUTPUT: i32 = 5;
    const NO_SPACE: i32 = 28;
    let steps = crash_at(u64::MAX, Loss::Nothing, false);
    for at in 0..steps {
        for error in [INPUT_OUTPUT, NO_SPACE] {
            let run = std::panic::catch_unwind(|| fail_at(at, error));
            assert!(run.is_ok(), "error {error} at effect {at} of {steps}");
        }
    }
}
