//! What is laid for a job, and taken back.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use larder_content::RelativePath;

use crate::records::CopyRow;
use crate::testing::{public, put, store_at, store_in};
use crate::{Blob, Lay, Lease, Store, Tree};

fn now() -> SystemTime {
    SystemTime::now()
}

/// A tree whose own folder, but none above it, may be a job's to move.
fn tree(dest: &Path, files: Vec<RelativePath>, writable: bool) -> Tree {
    Tree { root: dest.parent().unwrap().into(), path: dest.into(), files, writable }
}

/// Takes a lease for files of these contents, and lays them.
fn prepare(store: &Store, dest: &Path, contents: &[(&str, &str)], writable: bool) -> Lease {
    let file = |(at, bytes): &(&str, &str)| (RelativePath::new(*at).unwrap(), put(store, &public(bytes.as_bytes()), bytes.as_bytes()));
    let files: Vec<(RelativePath, Blob)> = contents.iter().map(file).collect();
    let blobs: BTreeSet<_> = files.iter().map(|(_, blob)| blob.name()).collect();
    let laid = files.iter().map(|(path, _)| path.clone()).collect();
    let lease = store.take_lease("job", blobs, vec![tree(dest, laid, writable)], now()).unwrap();
    let how = if writable { Lay::Writable { owner: None } } else { Lay::ReadOnly };
    store.lay(&lease.trees[0], &files, how).unwrap();
    lease
}

fn all_below(folder: &Path) -> Vec<PathBuf> {
    let mut found = vec![];
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        if fs::symlink_metadata(&path).unwrap().is_dir() {
            found.extend(all_below(&path));
        }
        found.push(path);
    }
    found.sort();
    found
}

#[test]
fn a_release_removes_what_was_laid_and_nothing_else() {
    let (folder, store) = store_in();
    let (dest, outside) = (folder.path().join("target"), folder.path().join("outside"));
    let lease = prepare(&store, &dest, &[("a/b/x", "1"), ("a/y", "2"), ("c/z", "3"), ("d/w", "4")], false);
    fs::write(dest.join("a/mine"), "mine").unwrap();
    fs::remove_file(dest.join("c/z")).unwrap();
    fs::write(dest.join("c/z"), "replaced by someone").unwrap();
    fs::rename(dest.join("d"), &outside).unwrap();
    symlink(&outside, dest.join("d")).unwrap();
    let released = store.release(&lease.id, now()).unwrap().unwrap();
    assert_eq!(released.files, 2);
    let left = ["a", "a/mine", "c", "c/z", "d"].map(|name| dest.join(name));
    assert_eq!(all_below(&dest), left);
    assert!(outside.join("w").exists(), "a release went through a symbolic link");
    assert_eq!(store.leases(), []);
    assert!(store.release(&lease.id, now()).unwrap().is_none());
    let blobs = store.shared.index.blobs().unwrap();
    for (name, row) in blobs.iter().filter(|(name, _)| name.content() != larder_content::ContentId::of(b"3")) {
        assert_eq!(store.shared.home.status(&name.file()).unwrap().unwrap().fingerprint, row.fingerprint);
    }
}

#[test]
fn a_tree_that_is_empty_after_the_release_is_gone() {
    let (_folder, store) = store_in();
    let (read, written) = (store.targets().join("r"), store.targets().join("w"));
    let leases = [prepare(&store, &read, &[("a/b/x", "1")], false), prepare(&store, &written, &[("x", "1")], true)];
    fs::write(written.join("output"), "of the job").unwrap();
    for lease in leases {
        assert_eq!(store.release(&lease.id, now()).unwrap().unwrap().trees, 1);
    }
    assert_eq!(all_below(&store.targets()), Vec::<PathBuf>::new());
}

#[test]
fn what_a_job_wrote_outside_of_the_store_stays() {
    let (folder, store) = store_in();
    let dest = folder.path().join("target");
    let lease = prepare(&store, &dest, &[("x", "1"), ("y", "2")], true);
    fs::write(dest.join("x"), "changed by the job").unwrap();
    fs::write(dest.join("output"), "of the job").unwrap();
    store.release(&lease.id, now()).unwrap();
    assert_eq!(all_below(&dest), [dest.join("output"), dest.join("x")]);
}

#[test]
fn what_another_lease_has_laid_at_the_same_place_stays_until_that_ends() {
    let (folder, store) = store_in();
    let dest = folder.path().join("target");
    let first = prepare(&store, &dest, &[("a", "1"), ("b", "2")], false);
    let second = prepare(&store, &dest, &[("a", "1"), ("b", "2")], false);
    assert_ne!(first.id, second.id);
    store.release(&first.id, now()).unwrap();
    assert_eq!(all_below(&dest), [dest.join("a"), dest.join("b")]);
    store.release(&second.id, now()).unwrap();
    assert!(!dest.exists());
}

#[test]
fn a_release_goes_through_no_link_that_was_put_between_the_root_and_the_tree() {
    let (folder, store) = store_in();
    let (dest, outside) = (folder.path().join("root/job/data"), folder.path().join("outside"));
    let blobs = BTreeSet::from([put(&store, &public(b"1"), b"1").name()]);
    let laid = Tree { root: folder.path().join("root"), ..tree(&dest, vec![RelativePath::new("x").unwrap()], false) };
    let lease = store.take_lease("job", blobs, vec![laid], now()).unwrap();
    store.lay(&lease.trees[0], &[(RelativePath::new("x").unwrap(), put(&store, &public(b"1"), b"1"))], Lay::ReadOnly).unwrap();
    fs::rename(folder.path().join("root/job"), &outside).unwrap();
    symlink(&outside, folder.path().join("root/job")).unwrap();
    assert_eq!(store.shared.remove_torn(&|_| Ok(true)), 0, "a file was found torn through a link");
    assert_eq!(store.release(&lease.id, now()).unwrap().unwrap().files, 0);
    assert_eq!(all_below(&outside), ["data", "data/x"].map(|name| outside.join(name)));
    assert_eq!(all_below(&folder.path().join("root")), [folder.path().join("root/job")]);
}

#[test]
fn what_a_lease_has_laid_in_a_folder_of_anothers_tree_stays_until_both_end() {
    for writable in [false, true] {
        let (folder, store) = store_in();
        let (dest, inside) = (folder.path().join("target"), folder.path().join("target/d"));
        let outer = || prepare(&store, &dest, &[("d/x", "1"), ("y", "2")], writable);
        let inner = || prepare(&store, &inside, &[("x", "1"), ("z", "3")], writable);
        let leases = [outer(), inner()];
        store.release(&leases[0].id, now()).unwrap();
        assert_eq!(all_below(&dest), ["d", "d/x", "d/z"].map(|name| dest.join(name)));
        store.release(&leases[1].id, now()).unwrap();
        assert!(!inside.exists());
        let leases = [outer(), inner()];
        store.release(&leases[1].id, now()).unwrap();
        assert_eq!(all_below(&dest), ["d", "d/x", "y"].map(|name| dest.join(name)));
        store.release(&leases[0].id, now()).unwrap();
        assert!(!dest.exists());
        let kept = [outer(), inner()];
        let next = prepare(&store, &dest, &[("w", "4")], writable);
        assert_eq!(all_below(&dest), ["d", "d/x", "d/z", "w"].map(|name| dest.join(name)), "another revision took what was not its own");
        for lease in kept.iter().chain([&next]) {
            store.release(&lease.id, now()).unwrap();
        }
        assert!(!dest.exists());
    }
}

#[test]
fn another_revision_replaces_what_it_does_not_have() {
    let (folder, store) = store_in();
    let dest = folder.path().join("target");
    let old = prepare(&store, &dest, &[("a", "1"), ("gone/b", "2"), ("c", "3")], false);
    fs::write(dest.join("foreign"), "mine").unwrap();
    prepare(&store, &dest, &[("a", "1"), ("c/d", "4")], false);
    assert_eq!(all_below(&dest), ["a", "c", "c/d", "foreign"].map(|name| dest.join(name)));
    store.release(&old.id, now()).unwrap();
    assert_eq!(all_below(&dest), ["a", "c", "c/d", "foreign"].map(|name| dest.join(name)));
}

#[test]
fn a_tree_that_no_lease_names_goes_with_the_rows_of_its_copies() {
    let (_folder, store) = store_in();
    let dest = store.targets().join("tree");
    let lease = prepare(&store, &dest, &[("a", "1"), ("d/b", "2")], true);
    fs::write(dest.join("a"), "the job's").unwrap();
    let rows = || store.shared.index.copies::<CopyRow>(&dest).count();
    assert_eq!(rows(), 2);
    // As a power cut that took the lease leaves it.
    store.shared.leases.lock().unwrap().remove(&lease.id);
    assert_eq!(store.gc(now(), false).unwrap().trees, 1);
    assert_eq!((rows(), dest.exists()), (0, false));
}

#[test]
fn leases_outlive_the_index_and_end_when_they_expire() {
    let (folder, store) = store_in();
    let dest = folder.path().join("target");
    let lease = prepare(&store, &dest, &[("a", "1")], false);
    drop(store);
    let home = folder.path().join("home");
    fs::remove_dir_all(home.join("index")).unwrap();
    let store = store_at(&home);
    assert_eq!(store.leases(), std::slice::from_ref(&lease));
    let week = Duration::from_secs(7 * 24 * 3600);
    assert_eq!(store.expire(now()).len(), 0);
    store.renew(&lease.id, now() + week / 2).unwrap().unwrap();
    assert_eq!(store.expire(now() + week).len(), 0, "a renewed lease ended");
    assert_eq!(store.expire(now() + week * 2).len(), 1);
    assert!(!dest.exists());
}
