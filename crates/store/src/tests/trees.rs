//! What lies in targets.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::time::SystemTime;

use larder_content::{RelativePath, Scope};

use crate::testing::{config, public, put, store_in};
use crate::{Blob, Laid, Lay, Store, StoreConfig, StoreError, Tree};

const WRITABLE: Lay = Lay::Writable { owner: None };

fn path(text: &str) -> RelativePath {
    RelativePath::new(text).unwrap()
}

/// The tree at `dest`, where whoever named it follows links.
fn tree(dest: &Path) -> Tree {
    Tree { root: dest.into(), path: dest.into(), files: vec![], writable: false }
}

fn files(store: &Store, contents: &[(&str, &str)]) -> Vec<(RelativePath, Blob)> {
    contents.iter().map(|(at, bytes)| (path(at), put(store, &public(bytes.as_bytes()), bytes.as_bytes()))).collect()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap()
}

#[test]
fn files_for_reading_share_their_blocks_and_are_kept_when_laid_again() {
    let (folder, store) = store_in();
    let dest = folder.path().join("a/b/target");
    let files = files(&store, &[("x/y/one", "1"), ("x/two", "2"), ("x-three", "3"), ("x/y/z/same", "1"), ("empty", "")]);
    let laid = store.lay(&tree(&dest), &files, Lay::ReadOnly).unwrap();
    assert_eq!((laid.linked + laid.reflinked, laid.copied), (5, 0));

    assert_eq!((read(&dest.join("x/y/one")), read(&dest.join("x-three")), mode(&dest.join("x/two"))), ("1".into(), "3".into(), 0o444));
    assert_eq!((mode(&dest), mode(&dest.join("x/y"))), (0o755, 0o755));
    if laid.linked > 0 {
        assert_eq!(fs::metadata(dest.join("x/two")).unwrap().ino(), fs::metadata(files[1].1.path()).unwrap().ino());
    }
    assert_eq!(store.lay(&tree(&dest), &files, Lay::ReadOnly).unwrap(), Laid { kept: 5, ..Laid::default() });
    for (_, blob) in &files {
        let row: crate::records::BlobRow = store.shared.index.get(crate::index::Row::Blob(blob.name())).unwrap().unwrap();
        let status = store.shared.home.status(&blob.name().file()).unwrap().unwrap();
        assert_eq!(row.fingerprint, status.fingerprint, "the blob would be hashed again for a link of our own");
    }
}

#[test]
fn wrong_files_are_replaced_and_foreign_ones_left() {
    let (folder, store) = store_in();
    let dest = folder.path().join("target");
    fs::create_dir_all(dest.join("d")).unwrap();
    fs::write(folder.path().join("outside"), "outside").unwrap();
    fs::write(dest.join("d/wrong"), "old").unwrap();
    fs::write(dest.join("d/foreign"), "mine").unwrap();
    symlink(folder.path().join("outside"), dest.join("d/link")).unwrap();
    let files = files(&store, &[("d/wrong", "new"), ("d/link", "file")]);
    store.lay(&tree(&dest), &files, Lay::ReadOnly).unwrap();
    assert_eq!(
        (read(&dest.join("d/wrong")), read(&dest.join("d/link")), read(&dest.join("d/foreign"))),
        ("new".into(), "file".into(), "mine".into())
    );
    assert_eq!(read(&folder.path().join("outside")), "outside");
    assert!(!fs::symlink_metadata(dest.join("d/link")).unwrap().is_symlink());
    assert_eq!(fs::read_dir(dest.join("d")).unwrap().count(), 3, "a temp is left");
}

#[test]
fn a_link_of_a_blob_that_was_touched_is_made_again_and_leaves_no_temp() {
    let (folder, store) = store_in();
    let dest = folder.path().join("target");
    let files = files(&store, &[("x", "1")]);
    store.lay(&tree(&dest), &files, Lay::ReadOnly).unwrap();
    fs::hard_link(dest.join("x"), folder.path().join("another")).unwrap();
    let laid = store.lay(&tree(&dest), &files, Lay::ReadOnly).unwrap();
    assert_eq!((read(&dest.join("x")), fs::read_dir(&dest).unwrap().count()), ("1".into(), 1));
    if laid.linked > 0 {
        assert_eq!(store.lay(&tree(&dest), &files, Lay::ReadOnly).unwrap().kept, 1, "the blob's fingerprint was not renewed");
    }
}

#[test]
fn no_way_leads_through_a_symbolic_link_below_the_target() {
    let (folder, store) = store_in();
    let (dest, outside) = (folder.path().join("target"), folder.path().join("outside"));
    fs::create_dir_all(&outside).unwrap();
    fs::create_dir_all(&dest).unwrap();
    symlink(&outside, dest.join("d")).unwrap();
    let files = files(&store, &[("d/x", "1")]);
    for how in [Lay::ReadOnly, WRITABLE] {
        let error = store.lay(&tree(&dest), &files, how).unwrap_err();
        assert!(matches!(&error, StoreError::Blocked { path, .. } if *path == dest.join("d")), "{error}");
    }
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
    fs::remove_file(dest.join("d")).unwrap();
    fs::create_dir_all(dest.join("d/x")).unwrap();
    assert!(matches!(store.lay(&tree(&dest), &files, Lay::ReadOnly), Err(StoreError::Blocked { .. })));
}

#[test]
fn no_way_leads_through_a_symbolic_link_between_the_root_and_the_target_or_out_of_the_root() {
    let (folder, store) = store_in();
    let (root, outside) = (folder.path().join("root"), folder.path().join("outside"));
    fs::create_dir_all(&root).unwrap();
    fs::create_dir_all(outside.join("data")).unwrap();
    symlink(&outside, root.join("job")).unwrap();
    let files = files(&store, &[("x", "1")]);
    let lay = |root: &Path, dest: &str| store.lay(&Tree { root: root.into(), ..tree(&root.join(dest)) }, &files, Lay::ReadOnly);
    for dest in ["job", "job/data", "job/new"] {
        let error = lay(&root, dest).unwrap_err();
        assert!(matches!(&error, StoreError::Blocked { path, .. } if *path == root.join("job")), "{error}");
    }
    for dest in ["../outside", "new/../../outside", "/elsewhere"] {
        assert!(matches!(lay(&root, dest), Err(StoreError::Blocked { .. })), "{dest}");
    }
    assert_eq!((fs::read_dir(&outside).unwrap().count(), fs::read_dir(outside.join("data")).unwrap().count()), (1, 0));
    assert_eq!(fs::read_dir(&root).unwrap().count(), 1);
    // The root is whoever's choice who named it.
    lay(&root.join("job"), "data").unwrap();
    assert_eq!(read(&outside.join("data/x")), "1");
}

#[test]
fn what_a_job_may_write_shares_nothing_and_is_laid_anew_for_the_next() {
    let (folder, store) = store_in();
    let dest = folder.path().join("target");
    let files = files(&store, &[("d/x", "1"), ("y", "2")]);
    let laid = store.lay(&tree(&dest), &files, WRITABLE).unwrap();
    assert_eq!(laid.copied + laid.reflinked, 2);
    assert_eq!((mode(&dest.join("d/x")), mode(&dest.join("d"))), (0o644, 0o755));
    fs::write(dest.join("d/x"), "the job's").unwrap();
    assert_eq!(store.find(&public(b"1").key(Scope::Public)).unwrap().map(|blob| read(blob.path())), Some("1".into()));
    assert_eq!(store.lay(&tree(&dest), &files, WRITABLE).unwrap().kept, 0);
    assert_eq!(read(&dest.join("d/x")), "1");
}

#[test]
fn copies_can_be_given_an_owner() {
    let (folder, store) = store_in();
    // Only root may give files away; anyone may give them to themselves.
    let own = fs::metadata(folder.path()).unwrap();
    let owner = if own.uid() == 0 { (1234, 2345) } else { (own.uid(), own.gid()) };
    let dest = folder.path().join("target");
    store.lay(&tree(&dest), &files(&store, &[("d/x", "1")]), Lay::Writable { owner: Some(owner) }).unwrap();
    for made in ["", "d", "d/x"] {
        let found = fs::metadata(dest.join(made)).unwrap();
        assert_eq!((found.uid(), found.gid()), owner, "{made:?}");
    }
}

#[test]
fn copies_that_do_not_fit_are_refused_before_the_first() {
    let folder = tempfile::tempdir().unwrap();
    let config = StoreConfig { free_floor_bytes: u64::MAX / 2, ..config() };
    let store = Store::open(&folder.path().join("home"), config, "test").unwrap();
    let dest = folder.path().join("target");
    let files = files(&store, &[("x", "12345")]);
    if store.lay(&tree(&folder.path().join("probe")), &files, Lay::ReadOnly).unwrap().reflinked > 0 {
        return;
    }
    let error = store.lay(&tree(&dest), &files, WRITABLE).unwrap_err();
    assert!(matches!(error, StoreError::Full { needed: 5, free: 0, .. }), "{error}");
    assert!(!dest.join("x").exists());
}

#[test]
fn on_another_disk_files_are_copied_once_and_a_changed_copy_is_replaced() {
    let Ok(abroad) = tempfile::tempdir_in("/dev/shm") else { return };
    let (folder, store) = store_in();
    if fs::metadata(abroad.path()).unwrap().dev() == fs::metadata(folder.path()).unwrap().dev() {
        return;
    }
    let dest = abroad.path().join("target");
    assert!(!store.shares_disk_with(&dest).unwrap());
    assert!(store.shares_disk_with(&folder.path().join("not/there/yet")).unwrap());
    let files = files(&store, &[("d/x", "1"), ("y", "22")]);
    let laid = store.lay(&tree(&dest), &files, Lay::ReadOnly).unwrap();
    assert_eq!((laid.copied, laid.bytes_copied), (2, 3));
    assert_eq!(mode(&dest.join("y")), 0o444);
    assert_eq!(store.lay(&tree(&dest), &files, Lay::ReadOnly).unwrap().kept, 2);
    fs::remove_file(dest.join("y")).unwrap();
    fs::write(dest.join("y"), "2?").unwrap();
    let laid = store.lay(&tree(&dest), &files, Lay::ReadOnly).unwrap();
    assert_eq!((laid.kept, laid.copied, read(&dest.join("y"))), (1, 1, "22".into()));
    store.sync().unwrap();
}

#[test]
fn a_blob_that_was_changed_is_not_laid() {
    let (folder, store) = store_in();
    let files = files(&store, &[("x", "12345")]);
    fs::remove_file(files[0].1.path()).unwrap();
    fs::write(files[0].1.path(), "1234?").unwrap();
    let dest = folder.path().join("target");
    assert!(matches!(store.lay(&tree(&dest), &files, Lay::ReadOnly), Err(StoreError::Damaged { .. })));
    assert!(!dest.join("x").exists());
}

#[test]
fn a_blob_that_was_written_through_its_link_is_neither_kept_there_nor_in_any_leased_tree() {
    for laid_again in [false, true] {
        let (folder, store) = store_in();
        let file = public(b"12345");
        let files = files(&store, &[("d/x", "12345"), ("d/y", "other")]);
        let trees = ["one", "two"].map(|name| Tree { files: vec![path("d/x"), path("d/y")], ..tree(&folder.path().join(name)) });
        let blobs = files.iter().map(|(_, blob)| blob.name()).collect();
        let lease = store.take_lease("job", blobs, trees.to_vec(), SystemTime::now()).unwrap();
        if lease.trees.iter().map(|tree| store.lay(tree, &files, Lay::ReadOnly).unwrap().linked).sum::<u64>() < 4 {
            return;
        }
        let link = trees[0].path.join("d/x");
        fs::set_permissions(&link, fs::Permissions::from_mode(0o644)).unwrap();
        fs::write(&link, "1234?").unwrap();
        if laid_again {
            assert!(matches!(store.lay(&trees[1], &files, Lay::ReadOnly), Err(StoreError::Damaged { .. })));
        } else {
            assert!(store.find(&file.key(Scope::Public)).unwrap().is_none());
        }
        for tree in &trees {
            assert_eq!((tree.path.join("d/x").exists(), read(&tree.path.join("d/y"))), (false, "other".into()));
        }
    }
}
