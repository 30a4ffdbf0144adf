//! What is kept, and what is found again.

use larder_content::{ContentId, OriginFile, ProofKind, Scope};

use crate::index::Row;
use crate::records::BlobRow;
use crate::testing::{all, bytes, chunks, content_of, file, md5, public, put, sha256, store_at, store_in};
use crate::{BlobName, SealError, Store};

fn files_in(store: &Store, folder: &str) -> usize {
    let shards = std::fs::read_dir(store.home().join(folder)).unwrap();
    shards.map(|shard| std::fs::read_dir(shard.unwrap().path()).unwrap().count()).sum()
}

/// Whether the blob's fingerprint is that of its file, so that it is not hashed at its next use.
fn is_fresh(store: &Store, name: BlobName) -> bool {
    let row: BlobRow = store.shared.index.get(Row::Blob(name)).unwrap().unwrap();
    store.shared.home.status(&name.file()).unwrap().unwrap().fingerprint == row.fingerprint
}

#[test]
fn what_was_put_is_found_after_the_store_was_closed() {
    let (folder, store) = store_in();
    let file = public(b"hello");
    assert_eq!(put(&store, &file, b"hello").proof().to_string(), "sha256");
    drop(store);
    let store = store_at(&folder.path().join("home"));
    assert!(store.recovery().is_nothing(), "{}", store.recovery());
    let blob = store.find(&file.key(Scope::Public)).unwrap().unwrap();
    assert_eq!((content_of(&blob), blob.content(), blob.size()), (b"hello".to_vec(), ContentId::of(b"hello"), 5));
    assert_eq!(store.verify().unwrap().blobs, 1);
}

#[test]
fn an_empty_file_is_kept_like_any_other() {
    let (_folder, store) = store_in();
    let file = public(b"");
    assert_eq!(store.put_empty(&file, Scope::Public).unwrap().size(), 0);
    assert!(store.find(&file.key(Scope::Public)).unwrap().is_some());
}

#[test]
fn the_same_content_under_two_keys_is_one_blob() {
    let (_folder, store) = store_in();
    let a = file("a", 5, vec![md5(b"hello")]);
    let b = file("b", 5, vec![md5(b"hello")]);
    assert_ne!(a.key(Scope::Public), b.key(Scope::Public));
    put(&store, &a, b"hello");
    put(&store, &b, b"hello");
    assert_eq!(files_in(&store, "blobs"), 1);
    for file in [a, b] {
        assert!(store.find(&file.key(Scope::Public)).unwrap().is_some());
    }
    assert_eq!(store.space().unwrap().blob_bytes, 5);
}

#[test]
fn private_content_is_found_by_its_locator_only_also_after_the_index_was_lost() {
    let (folder, store) = store_in();
    let secret = public(b"hello");
    let other = OriginFile { path: secret.path.clone(), ..file("elsewhere", 5, vec![sha256(b"hello")]) };
    store.put(&secret, Scope::Private, &all(&bytes_of(b"hello"))).unwrap();
    assert!(store.find(&secret.key(Scope::Private)).unwrap().is_some());
    assert!(store.find(&secret.key(Scope::Public)).unwrap().is_none());
    let home = folder.path().join("home");
    drop(store);
    std::fs::remove_dir_all(home.join("index")).unwrap();
    let store = store_at(&home);
    assert!(store.find(&secret.key(Scope::Public)).unwrap().is_none());
    assert!(store.adopt(&secret, Scope::Public).unwrap().is_none(), "a digest opened a private blob");
    assert!(store.adopt(&other, Scope::Private).unwrap().is_none(), "another locator opened a private blob");
    assert_eq!(store.adopt(&secret, Scope::Private).unwrap().unwrap().scope(), Scope::Private);
}

#[test]
fn what_does_not_match_leaves_nothing() {
    let (_folder, store) = store_in();
    let file = public(b"hello");
    let error = store.put(&file, Scope::Public, &all(&bytes_of(b"jello"))).unwrap_err();
    assert!(matches!(error, SealError::Mismatch { content, .. } if content == ContentId::of(b"jello")), "{error}");
    assert!(store.find(&file.key(Scope::Public)).unwrap().is_none());
    assert_eq!((files_in(&store, "blobs"), std::fs::read_dir(store.home().join("temp")).unwrap().count()), (0, 0));
}

#[test]
fn half_a_file_is_not_put() {
    let (_folder, store) = store_in();
    let data = bytes(1, 600_000);
    let error = store.put(&public(&data), Scope::Public, &chunks(&data, 0, 2)).unwrap_err();
    assert!(matches!(error, SealError::Incomplete { missing: 1 }), "{error}");
}

#[test]
fn a_blob_that_was_changed_on_disk_is_not_found_again_and_one_that_was_touched_is() {
    let (_folder, store) = store_in();
    let (good, bad) = (public(b"hello"), public(b"world"));
    let (kept, spoilt) = (put(&store, &good, b"hello"), put(&store, &bad, b"world"));
    // Both have another inode now, which is all that can be seen without reading them.
    for (blob, bytes) in [(&kept, b"hello"), (&spoilt, b"w0rld")] {
        std::fs::remove_file(blob.path()).unwrap();
        std::fs::write(blob.path(), bytes).unwrap();
    }
    assert!(!is_fresh(&store, kept.name()));
    assert!(store.find(&good.key(Scope::Public)).unwrap().is_some());
    assert!(is_fresh(&store, kept.name()));
    assert!(store.find(&bad.key(Scope::Public)).unwrap().is_none());
    assert!(!spoilt.path().exists());
    assert_eq!(store.space().unwrap().blob_bytes, 5);
    put(&store, &bad, b"world");
    assert!(store.find(&bad.key(Scope::Public)).unwrap().is_some());
}

#[test]
fn verify_names_what_is_damaged_and_removes_it() {
    let (_folder, store) = store_in();
    let (good, bad) = (public(b"hello"), public(b"world"));
    let (_kept, spoilt) = (put(&store, &good, b"hello"), put(&store, &bad, b"world"));
    std::fs::remove_file(spoilt.path()).unwrap();
    std::fs::write(spoilt.path(), b"w0rld").unwrap();
    let report = store.verify().unwrap();
    assert_eq!((report.blobs, report.damaged), (1, vec![spoilt.path().to_owned()]));
    assert_eq!(store.verify().unwrap().damaged, Vec::<std::path::PathBuf>::new());
}

#[test]
fn a_file_without_any_digest_is_kept_as_unproven() {
    let (_folder, store) = store_in();
    let file = file("w", 5, vec![]);
    put(&store, &file, b"hello");
    assert_eq!(store.find(&file.key(Scope::Public)).unwrap().unwrap().proof(), ProofKind::None);
}

fn bytes_of(bytes: &[u8]) -> bytes::Bytes {
    bytes::Bytes::copy_from_slice(bytes)
}
