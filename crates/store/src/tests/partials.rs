//! Files that come in pieces.

use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::atomic::{AtomicU64, Ordering};

use larder_content::{CHUNK_BYTES, ContentId, OriginFile, ProofKind, Scope};

use crate::testing::{all, bytes, chunks, content_of, file, md5, public, put, sha256, store_at, store_in, xet};
use crate::{Partial, SealError};

fn path_of(partial: &Partial) -> std::path::PathBuf {
    partial.store.home().join(crate::partial::file_name(&partial.key()))
}

#[test]
fn chunks_come_in_any_order_from_many_threads_while_the_proof_runs_behind() {
    let (_folder, store) = store_in();
    let data = bytes(1, 40 * CHUNK_BYTES + 77);
    let file = OriginFile { digests: vec![xet(&data)], ..public(&data) };
    let partial = store.partial(&file, Scope::Public).unwrap();
    let next = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    if at > 45 {
                        break;
                    }
                    // Each fifth is written by two threads, and runs overlap.
                    let first = at * 17 % 41;
                    partial.write(&chunks(&data, first, (first + 2).min(41))).unwrap();
                    partial.advance().unwrap();
                }
            });
        }
    });
    assert_eq!(partial.missing(), []);
    assert_eq!(partial.have_bytes(), file.size);
    let blob = partial.seal().unwrap();
    assert_eq!((content_of(&blob), blob.content(), blob.proof()), (data.to_vec(), ContentId::of(&data), ProofKind::Xet));
    assert_eq!(std::fs::metadata(blob.path()).unwrap().mode() & 0o777, 0o444);
    store.sync().unwrap();
    assert!(!path_of(&partial).exists(), "the other name stays after a sync");
    assert_eq!(store.shared.index.partials().unwrap().len(), 0);
    assert_eq!(std::fs::metadata(blob.path()).unwrap().nlink(), 1);
    assert!(store.find(&file.key(Scope::Public)).unwrap().is_some());
}

#[test]
fn recorded_chunks_are_there_when_the_store_is_opened_again() {
    let (folder, store) = store_in();
    let data = bytes(2, 5 * CHUNK_BYTES);
    let file = public(&data);
    let partial = store.partial(&file, Scope::Public).unwrap();
    partial.write(&chunks(&data, 1, 3)).unwrap();
    partial.write(&chunks(&data, 4, 5)).unwrap();
    assert!(matches!(partial.seal(), Err(SealError::Incomplete { missing: 2 })));
    drop((partial, store));
    let store = store_at(&folder.path().join("home"));
    let partial = store.partial(&file, Scope::Public).unwrap();
    assert_eq!((partial.missing(), partial.have_bytes()), (vec![0..1, 3..4], 3 * CHUNK_BYTES));
    assert_eq!(store.verify().unwrap().partial_bytes, 3 * CHUNK_BYTES);
    partial.write(&all(&data)).unwrap();
    assert_eq!(content_of(&partial.seal().unwrap()), data.to_vec());
}

#[test]
fn a_chunk_of_an_earlier_run_that_was_damaged_is_missing_again_and_blames_nobody() {
    let (folder, store) = store_in();
    let data = bytes(3, 3 * CHUNK_BYTES);
    let file = public(&data);
    let partial = store.partial(&file, Scope::Public).unwrap();
    partial.write(&all(&data)).unwrap();
    let path = path_of(&partial);
    drop((partial, store));
    std::fs::OpenOptions::new().write(true).open(path).unwrap().write_all_at(b"?", CHUNK_BYTES + 9).unwrap();
    let store = store_at(&folder.path().join("home"));
    let partial = store.partial(&file, Scope::Public).unwrap();
    assert!(matches!(partial.seal(), Err(SealError::Incomplete { missing: 1 })));
    assert_eq!(partial.missing(), vec![1..2]);
    partial.write(&chunks(&data, 1, 2)).unwrap();
    assert_eq!(content_of(&partial.seal().unwrap()), data.to_vec());
}

#[test]
fn what_does_not_match_makes_no_blob_and_can_be_dropped_and_begun_again() {
    let (_folder, store) = store_in();
    let (data, other) = (bytes(4, 2 * CHUNK_BYTES), bytes(5, 2 * CHUNK_BYTES));
    let partial = store.partial(&public(&data), Scope::Public).unwrap();
    partial.write(&all(&other)).unwrap();
    for _ in 0..2 {
        let error = partial.seal().unwrap_err();
        assert!(matches!(error, SealError::Mismatch { content, .. } if content == ContentId::of(&other)), "{error}");
        assert_eq!((partial.missing(), store.shared.index.blobs().unwrap().len()), (vec![], 0));
    }
    partial.discard().unwrap();
    assert!(!path_of(&partial).exists());
    partial.write(&all(&data)).unwrap();
    assert!(matches!(partial.seal(), Err(SealError::Incomplete { .. })), "what was dropped came back");
    let again = store.partial(&public(&data), Scope::Public).unwrap();
    assert_eq!(again.missing(), vec![0..2]);
    again.write(&all(&data)).unwrap();
    partial.discard().unwrap();
    assert!(again.seal().is_ok(), "who dropped a file drops the next one too");
}

#[test]
fn a_second_digest_proves_what_the_first_does_not_where_the_key_is_of_the_locator() {
    let (_folder, store) = store_in();
    let data = bytes(6, 2 * CHUNK_BYTES);
    let listed = file("w", data.len() as u64, vec![sha256(b"other"), md5(&data)]);
    let partial = store.partial(&listed, Scope::Private).unwrap();
    partial.write(&all(&data)).unwrap();
    assert_eq!(partial.seal().unwrap().proof().to_string(), "md5");
    let partial = store.partial(&listed, Scope::Public).unwrap();
    partial.write(&all(&data)).unwrap();
    assert!(matches!(partial.seal(), Err(SealError::Mismatch { .. })), "a claimed sha256 was bound to other bytes");
}

#[test]
fn what_is_kept_unproven_is_never_found_by_the_digest_it_does_not_match() {
    let (_folder, store) = store_in();
    let data = bytes(7, 2 * CHUNK_BYTES);
    let lying = file("w", data.len() as u64, vec![sha256(b"other")]);
    let partial = store.partial(&lying, Scope::Public).unwrap();
    partial.write(&all(&data)).unwrap();
    let blob = partial.seal_unproven().unwrap();
    assert_eq!((blob.proof(), content_of(&blob)), (ProofKind::None, data.to_vec()));
    assert!(store.find(&lying.key(Scope::Public)).unwrap().is_none());
    let plain = OriginFile { digests: vec![], ..lying };
    assert!(store.find(&plain.key(Scope::Public)).unwrap().is_some());
}

#[test]
fn a_file_that_turns_out_to_be_a_blob_is_bound_to_it() {
    let (_folder, store) = store_in();
    let data = bytes(8, 2 * CHUNK_BYTES);
    let first = put(&store, &public(&data), &data);
    let other = file("other", data.len() as u64, vec![md5(&data)]);
    let partial = store.partial(&other, Scope::Public).unwrap();
    partial.write(&all(&data)).unwrap();
    let second = partial.seal().unwrap();
    assert_eq!(first.path(), second.path());
    store.sync().unwrap();
    assert!(!path_of(&partial).exists());
    assert_eq!(store.space().unwrap().blob_bytes, 2 * CHUNK_BYTES);
}

#[test]
fn a_partial_file_that_shares_its_inode_is_never_written() {
    let (folder, store) = store_in();
    let data = bytes(9, 2 * CHUNK_BYTES);
    let file = public(&data);
    let partial = store.partial(&file, Scope::Public).unwrap();
    partial.write(&chunks(&data, 0, 1)).unwrap();
    let laid = folder.path().join("laid");
    std::fs::hard_link(path_of(&partial), &laid).unwrap();
    drop(partial);
    let before = std::fs::read(&laid).unwrap();
    let partial = store.partial(&file, Scope::Public).unwrap();
    assert_eq!(partial.missing(), vec![1..2]);
    partial.write(&chunks(&data, 1, 2)).unwrap();
    assert_eq!(content_of(&partial.seal().unwrap()), data.to_vec());
    assert!(std::fs::read(&laid).unwrap() == before, "the other name's bytes changed");
}

#[test]
fn a_blob_that_is_being_hashed_keeps_nobody_from_another_partial_file() {
    let (_folder, store) = store_in();
    let (data, other) = (bytes(1, 300_000), public(&bytes(2, 300_000)));
    let partial = store.partial(&public(&data), Scope::Public).unwrap();
    partial.write(&all(&data)).unwrap();
    let name = partial.seal().unwrap().name();
    drop(partial);
    std::thread::scope(|scope| {
        let (sender, receiver) = std::sync::mpsc::sync_channel(1);
        let (store, other) = (&store, &other);
        let hashing = store.shared.stripe(name);
        scope.spawn(|| store.sync().unwrap());
        scope.spawn(move || {
            // For as long as the sync may take to come to what is left of the first.
            for _ in 0..20 {
                drop(store.partial(other, Scope::Public).unwrap());
                std::thread::sleep(std::time::Duration::from_millis(10));
            }
            sender.send(()).unwrap();
        });
        let opened = receiver.recv_timeout(std::time::Duration::from_secs(60));
        drop(hashing);
        assert!(opened.is_ok(), "a partial file waits for the blob of another");
    });
}

#[test]
fn who_asks_twice_for_one_file_gets_the_same_and_a_discarded_one_is_gone() {
    let (_folder, store) = store_in();
    let data = bytes(10, 2 * CHUNK_BYTES);
    let (a, b) = (store.partial(&public(&data), Scope::Public).unwrap(), store.partial(&public(&data), Scope::Public).unwrap());
    a.write(&chunks(&data, 0, 1)).unwrap();
    assert_eq!(b.missing(), vec![1..2]);
    a.discard().unwrap();
    assert!(!path_of(&a).exists());
    assert_eq!(store.partial(&public(&data), Scope::Public).unwrap().missing(), vec![0..2]);
}

#[test]
fn an_empty_file_can_come_in_no_pieces() {
    let (_folder, store) = store_in();
    let partial = store.partial(&public(b""), Scope::Public).unwrap();
    assert_eq!(partial.missing(), []);
    assert_eq!(partial.seal().unwrap().size(), 0);
}
