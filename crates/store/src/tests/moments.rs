//! One crash, or one failure, at a moment that was chosen, and what must be left.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::time::SystemTime;

use bytes::Bytes;
use larder_content::{CHUNK_BYTES, RelativePath, Scope};

use super::crashes::{WRITABLE, lay_in, lease_in, open};
use crate::crash::{CrashDisk, Loss};
use crate::folder::Folder;
use crate::index::{Index, Row};
use crate::records::CopyRow;
use crate::testing::{all, bytes, chunks, content_of, file, public, put, store_at};
use crate::{Blob, Lay, SealError, Store, StoreError, Tree};

/// A folder on another disk than that of `folder`, if there is one.
fn abroad(folder: &Path) -> Option<tempfile::TempDir> {
    let device = |path: &Path| fs::metadata(path).unwrap().dev();
    let abroad = tempfile::tempdir_in("/dev/shm").ok()?;
    (device(abroad.path()) != device(folder)).then_some(abroad)
}

#[test]
fn a_kill_while_a_damaged_blob_is_dropped_leaves_no_link_of_it_once_it_was_asked_for_again() {
    for steps in 0.. {
        let folder = tempfile::tempdir().unwrap();
        let (home, grave, dest) = (folder.path().join("home"), folder.path().join("grave"), folder.path().join("target"));
        fs::create_dir(&grave).unwrap();
        let disk = CrashDisk::new(&grave, u64::MAX);
        let store = open(&home, &disk);
        let files = put_all(&store, &[("x", "12345")]);
        lease_in(&store, folder.path(), &dest, &files, false).unwrap();
        lay_in(&store, folder.path(), &dest, &files, Lay::ReadOnly).unwrap();
        tear(&dest.join("x"));
        disk.cut_in(steps);
        let key = public(b"12345").key(Scope::Public);
        let dropped = store.find(&key).is_ok_and(|found| found.is_none());
        disk.fail(Some(std::io::ErrorKind::Other));
        drop((store, files));
        disk.crash(Loss::Nothing);
        assert!(open(&home, &disk).find(&key).unwrap().is_none());
        assert!(!dest.join("x").exists(), "a damaged link stays after a kill at step {steps}");
        if dropped {
            return;
        }
    }
}

#[test]
fn a_damaged_link_goes_also_while_a_job_writes_to_it() {
    let folder = tempfile::tempdir().unwrap();
    let (home, grave, dest) = (folder.path().join("home"), folder.path().join("grave"), folder.path().join("target"));
    fs::create_dir(&grave).unwrap();
    let store = open(&home, &CrashDisk::new(&grave, u64::MAX));
    let files = put_all(&store, &[("x", "12345")]);
    lease_in(&store, folder.path(), &dest, &files, false).unwrap();
    lay_in(&store, folder.path(), &dest, &files, Lay::ReadOnly).unwrap();
    let (shared, name) = (&store.shared, files[0].1.name());
    let (row, seen) = (shared.index.get(Row::Blob(name)).unwrap().unwrap(), shared.home.status(&name.file()).unwrap());
    tear(&dest.join("x"));
    shared.drop_damaged(name, &row, seen, &shared.stripe(name)).unwrap();
    assert!(!dest.join("x").exists());
}

#[test]
fn a_kill_while_a_file_is_sealed_under_a_key_of_another_blob_loses_none_of_its_chunks() {
    // Without a digest the key is of the locator, whose content may change.
    let (old, new) = (bytes(1, 2 * CHUNK_BYTES), bytes(2, 2 * CHUNK_BYTES));
    let listed = file("w", old.len() as u64, vec![]);
    for steps in 0.. {
        let folder = tempfile::tempdir().unwrap();
        let (home, grave) = (folder.path().join("home"), folder.path().join("grave"));
        fs::create_dir(&grave).unwrap();
        let disk = CrashDisk::new(&grave, u64::MAX);
        let store = open(&home, &disk);
        store.put(&listed, Scope::Public, &all(&old)).unwrap();
        let partial = store.partial(&listed, Scope::Public).unwrap();
        partial.write(&all(&new)).unwrap();
        disk.cut_in(steps);
        let sealed = partial.seal().is_ok();
        disk.fail(Some(std::io::ErrorKind::Other));
        drop((store, partial));
        disk.crash(Loss::Nothing);
        let store = open(&home, &disk);
        store.sync().unwrap();
        let found = store.find(&listed.key(Scope::Public)).unwrap().map(|blob| content_of(&blob));
        if found != Some(new.to_vec()) {
            assert_eq!(store.partial(&listed, Scope::Public).unwrap().missing(), [], "chunks are gone after a kill at step {steps}");
        }
        if sealed {
            return;
        }
    }
}

/// Files with these contents, put into the store.
fn put_all(store: &Store, contents: &[(&'static str, &'static str)]) -> Vec<(&'static str, Blob)> {
    let blob = |bytes: &str| put(store, &public(bytes.as_bytes()), bytes.as_bytes());
    contents.iter().map(|(path, bytes)| (*path, blob(bytes))).collect()
}

/// Overwrites a file in place with as many other bytes.
fn tear(path: &Path) {
    fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
    fs::write(path, "0".repeat(fs::metadata(path).unwrap().len() as usize)).unwrap();
}

#[test]
fn copies_are_known_again_after_the_index_was_lost_and_torn_ones_go_where_no_job_writes() {
    let folder = tempfile::tempdir().unwrap();
    let Some(abroad) = abroad(folder.path()) else { return };
    let home = folder.path().join("home");
    let store = store_at(&home);
    let files = put_all(&store, &[("d/whole", "1"), ("torn", "2")]);
    let (read, written) = (abroad.path().join("read"), abroad.path().join("written"));
    let leases = [(&read, false), (&written, true)].map(|(dest, writable)| {
        let id = lease_in(&store, abroad.path(), dest, &files, writable).unwrap();
        lay_in(&store, abroad.path(), dest, &files, if writable { WRITABLE } else { Lay::ReadOnly }).unwrap();
        tear(&dest.join("torn"));
        id
    });
    drop((store, files));
    fs::remove_dir_all(home.join("index")).unwrap();
    let store = store_at(&home);
    assert_eq!(store.recovery().laid_torn, 1);
    assert_eq!((read.join("torn").exists(), written.join("torn").exists()), (false, true));
    for id in leases {
        assert_eq!(store.release(&id, SystemTime::now()).unwrap().unwrap().files, 1);
    }
    assert!(!read.exists() && !written.join("d").exists() && written.join("torn").exists());
}

#[test]
fn a_copy_that_a_power_cut_tore_is_not_taken_for_right_where_no_lease_names_it() {
    let folder = tempfile::tempdir().unwrap();
    let Some(abroad) = abroad(folder.path()) else { return };
    let (home, grave, dest) = (folder.path().join("home"), abroad.path().join("grave"), abroad.path().join("target"));
    fs::create_dir(&grave).unwrap();
    let disk = CrashDisk::new(&grave, u64::MAX);
    let store = open(&home, &disk);
    store.sync().unwrap();
    let lay_one = |store: &Store| lay_in(store, abroad.path(), &dest, &put_all(store, &[("x", "1")]), Lay::ReadOnly).unwrap();
    lay_one(&store);
    disk.fail(Some(std::io::ErrorKind::Other));
    drop(store);
    disk.crash(Loss::Bytes);
    // The time of the last write comes back as it was, though the bytes do not.
    let index = Index::open(&home.join("index")).unwrap();
    let (place, at) = (dest.join("x"), Folder::open(&dest).unwrap());
    let row: CopyRow = index.get(Row::Copy(&place)).unwrap().unwrap();
    let fingerprint = at.status("x").unwrap().unwrap().fingerprint;
    index.put(Row::Copy(&place), &CopyRow { fingerprint, ..row }).unwrap();
    drop(index);
    let store = open(&home, &disk);
    lay_one(&store);
    assert_eq!(fs::read_to_string(dest.join("x")).unwrap(), "1");
}

#[test]
fn copies_on_a_disk_that_is_away_after_a_power_cut_are_not_trusted_and_can_be_released() {
    for laid_again in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let Some(abroad) = abroad(folder.path()) else { return };
        let (home, grave) = (folder.path().join("home"), abroad.path().join("grave"));
        let (mounted, away) = (abroad.path().join("disk"), abroad.path().join("away"));
        let dest = mounted.join("target");
        [&grave, &mounted].into_iter().for_each(|path| fs::create_dir(path).unwrap());
        let disk = CrashDisk::new(&grave, u64::MAX);
        let store = open(&home, &disk);
        let files = put_all(&store, &[("x", "1")]);
        store.sync().unwrap();
        let id = lease_in(&store, &mounted, &dest, &files, false).unwrap();
        store.sync().unwrap();
        lay_in(&store, &mounted, &dest, &files, Lay::ReadOnly).unwrap();
        let row: CopyRow = store.shared.index.get(Row::Copy(&dest.join("x"))).unwrap().unwrap();
        disk.fail(Some(std::io::ErrorKind::Other));
        drop((store, files));
        // The disk kept all, and its power was cut nevertheless: the boot is another.
        disk.crash(Loss::Nothing);
        disk.restart();
        fs::rename(&mounted, &away).unwrap();
        let store = open(&home, &disk);
        fs::rename(&away, &mounted).unwrap();
        assert_eq!(Folder::open(&dest).unwrap().status("x").unwrap().unwrap().fingerprint, row.fingerprint);
        if laid_again {
            let files = put_all(&store, &[("x", "1")]);
            let tree = Tree { root: mounted.clone(), path: dest.clone(), files: vec![], writable: false };
            let files: Vec<_> = files.into_iter().map(|(path, blob)| (RelativePath::new(path).unwrap(), blob)).collect();
            let laid = [(); 2].map(|()| store.lay(&tree, &files, Lay::ReadOnly).unwrap());
            assert_eq!(laid.map(|laid| (laid.copied, laid.kept)), [(1, 0), (0, 1)]);
        }
        assert_eq!(store.release(&id, SystemTime::now()).unwrap().unwrap().files, 1);
        assert!(!dest.exists());
    }
}

#[test]
fn after_a_kill_the_disks_of_all_copies_are_synced_before_their_group_counts_as_such() {
    let folder = tempfile::tempdir().unwrap();
    let Some(abroad) = abroad(folder.path()) else { return };
    let (home, grave, dest) = (folder.path().join("home"), abroad.path().join("grave"), abroad.path().join("target"));
    fs::create_dir(&grave).unwrap();
    let disk = CrashDisk::new(&grave, u64::MAX);
    let store = open(&home, &disk);
    let files = put_all(&store, &[("x", "1")]);
    lease_in(&store, abroad.path(), &dest, &files, false).unwrap();
    lay_in(&store, abroad.path(), &dest, &files, Lay::ReadOnly).unwrap();
    disk.fail(Some(std::io::ErrorKind::Other));
    drop((store, files));
    disk.crash(Loss::Nothing);
    open(&home, &disk).sync().unwrap();
    let devices = [&home, &dest].map(|path| fs::metadata(path).unwrap().dev());
    assert_eq!(disk.synced(), BTreeSet::from(devices));
}

#[test]
fn a_disk_that_is_full_in_the_middle_loses_nothing_that_was_recorded() {
    let folder = tempfile::tempdir().unwrap();
    let (home, grave) = (folder.path().join("home"), folder.path().join("grave"));
    fs::create_dir(&grave).unwrap();
    let disk = CrashDisk::new(&grave, u64::MAX);
    let store = open(&home, &disk);
    let data = bytes(1, 3 * CHUNK_BYTES);
    let file = public(&data);
    let partial = store.partial(&file, Scope::Public).unwrap();
    partial.write(&chunks(&data, 0, 1)).unwrap();
    disk.fail(Some(std::io::ErrorKind::StorageFull));
    let error = partial.write(&chunks(&data, 1, 3)).unwrap_err();
    assert!(matches!(error, StoreError::Full { needed, .. } if needed == 2 * CHUNK_BYTES), "{error}");
    assert!(matches!(
        store.put(&public(b"x"), Scope::Public, &all(&Bytes::from_static(b"x"))),
        Err(SealError::Store(StoreError::Full { .. }))
    ));
    assert_eq!(partial.missing(), vec![1..3]);
    disk.fail(None);
    drop((partial, store));
    let store = open(&home, &disk);
    let partial = store.partial(&file, Scope::Public).unwrap();
    assert_eq!(partial.missing(), vec![1..3]);
    partial.write(&chunks(&data, 1, 3)).unwrap();
    assert_eq!(partial.seal().unwrap().size(), file.size);
}
