//! What is given to others, and what comes of chunks that turned out to be wrong.

use std::fs;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use larder_content::{CHUNK_BYTES, ChunkHashes, ChunkTree, ContentId, Manifest, OriginFile, Scope};

use crate::index::Row;
use crate::records::BlobRow;
use crate::testing::{all, bytes, chunks, content_of, file, md5, public, put, sha256, store_at, store_in};
use crate::{Blob, KnownResource, MOST_READ_CHUNKS, SealError, Store, StoreError, StoredListing};

const CHUNKS: u64 = 5;

fn data() -> Bytes {
    bytes(1, CHUNKS * CHUNK_BYTES - 9)
}

/// The chunk hashes of a file of `data`.
fn hashes_of(data: &Bytes) -> ChunkHashes {
    let chunks = all(data);
    let mut tree = ChunkTree::new(chunks.layout());
    chunks.indices().zip(chunks.hashes()).for_each(|(index, hash)| tree.insert(index, *hash));
    ChunkHashes::of_tree(&tree).unwrap()
}

fn list_of(store: &Store, blob: &Blob) -> PathBuf {
    store.home().join(format!("hashes/{:02x}/{}", blob.content().0[0], blob.content()))
}

fn sealed(store: &Store, data: &Bytes) -> Blob {
    let partial = store.partial(&public(data), Scope::Public).unwrap();
    partial.write(&all(data)).unwrap();
    partial.seal().unwrap()
}

/// Changes one byte of a blob's file, and the time of its last write with it, however coarse the clock of the disk is.
fn change(blob: &Blob) {
    fs::set_permissions(blob.path(), fs::Permissions::from_mode(0o644)).unwrap();
    let file = fs::OpenOptions::new().write(true).open(blob.path()).unwrap();
    let modified = || file.metadata().unwrap().modified().unwrap();
    let (before, began) = (modified(), Instant::now());
    while modified() == before {
        assert!(began.elapsed() < Duration::from_secs(60));
        file.write_all_at(b"?", CHUNK_BYTES + 3).unwrap();
    }
}

#[test]
fn chunk_hashes_are_kept_when_a_file_is_sealed_and_made_when_those_of_one_that_was_put_are_asked_for() {
    let (_folder, store) = store_in();
    let blob = sealed(&store, &data());
    assert_eq!(fs::metadata(list_of(&store, &blob)).unwrap().len(), 1 + 32 * CHUNKS);
    let other = bytes(2, 3 * CHUNK_BYTES);
    let second = put(&store, &public(&other), &other);
    assert!(!list_of(&store, &second).exists());
    assert_eq!(*store.chunk_hashes(&second).unwrap(), hashes_of(&other));
    assert!(list_of(&store, &second).exists());
    assert_eq!(*store.chunk_hashes(&blob).unwrap(), hashes_of(&data()));
}

#[test]
fn a_file_of_one_chunk_or_none_and_a_private_one_have_no_list_on_disk() {
    let (_folder, store) = store_in();
    for small in [Bytes::new(), bytes(1, 10), bytes(1, CHUNK_BYTES)] {
        let blob = put(&store, &public(&small), &small);
        assert_eq!(store.chunk_hashes(&blob).unwrap().content(), ContentId::of(&small));
    }
    let partial = store.partial(&public(&data()), Scope::Private).unwrap();
    partial.write(&all(&data())).unwrap();
    let private = partial.seal().unwrap();
    assert_eq!(*store.chunk_hashes(&private).unwrap(), hashes_of(&data()));
    assert_eq!(fs::read_dir(store.home().join("hashes")).unwrap().count(), 0);
}

#[test]
fn a_list_that_is_not_right_is_made_anew() {
    let (folder, store) = store_in();
    let blob = sealed(&store, &data());
    let path = list_of(&store, &blob);
    let right = fs::read(&path).unwrap();
    drop((blob, store));
    let mut changed = right.clone();
    changed[40] ^= 1;
    let other_version = [&[9], &right[1..]].concat();
    for wrong in [changed, other_version, right[..right.len() - 32].to_vec(), vec![0; right.len()], vec![]] {
        fs::remove_file(&path).unwrap();
        fs::write(&path, wrong).unwrap();
        let store = store_at(&folder.path().join("home"));
        let blob = store.find(&public(&data()).key(Scope::Public)).unwrap().unwrap();
        assert_eq!(*store.chunk_hashes(&blob).unwrap(), hashes_of(&data()));
        assert_eq!(fs::read(&path).unwrap(), right);
    }
}

#[test]
fn a_blob_that_goes_takes_its_chunk_hashes_and_its_open_file_with_it() {
    let (_folder, store) = store_in();
    let late = SystemTime::now() + Duration::from_secs(30 * 24 * 3600);
    let blob = sealed(&store, &data());
    let (path, name) = (list_of(&store, &blob), blob.name());
    store.read_blob(&blob, 0..1).unwrap();
    store.chunk_hashes(&blob).unwrap();
    drop(blob);
    assert_eq!(store.gc(late, true).unwrap().blobs, 1);
    assert!(!path.exists(), "an evicted blob's chunk hashes stay");
    assert!(crate::lock(&store.shared.open_blobs).get(&name).is_none(), "an evicted blob's file stays open");
    assert!(crate::lock(&store.shared.lists).get(&name.content()).is_none());

    let blob = sealed(&store, &data());
    assert!(path.exists());
    change(&blob);
    assert_eq!(store.verify().unwrap().damaged.len(), 1);
    assert!(!path.exists(), "a damaged blob's chunk hashes stay");
}

#[test]
fn a_blob_whose_bytes_changed_unnoticed_is_dropped_when_its_chunk_hashes_are_made() {
    let (_folder, store) = store_in();
    let data = data();
    let blob = put(&store, &public(&data), &data);
    change(&blob);
    // As if its fingerprint had not changed.
    let row: BlobRow = store.shared.index.get(Row::Blob(blob.name())).unwrap().unwrap();
    let fingerprint = store.shared.home.status(&blob.name().file()).unwrap().unwrap().fingerprint;
    store.shared.index.put(Row::Blob(blob.name()), &BlobRow { fingerprint, ..row }).unwrap();
    assert!(matches!(store.chunk_hashes(&blob), Err(StoreError::Damaged { .. })));
    assert!(store.find(&public(&data).key(Scope::Public)).unwrap().is_none());
}

#[test]
fn chunks_of_a_blob_are_read_within_the_file_and_the_limit() {
    let (_folder, store) = store_in();
    let blob = sealed(&store, &data());
    let at = |chunk: u64| (chunk * CHUNK_BYTES).min(data().len() as u64) as usize;
    for (first, end) in [(0, 1), (1, 3), (4, 5), (0, 5), (3, 9), (5, 6), (7, u64::MAX), (2, 2), (u64::MAX, u64::MAX)] {
        let wanted = data().slice(at(first.min(5))..at(end.min(5)));
        assert!(store.read_blob(&blob, first..end).unwrap() == wanted, "{first}..{end}");
    }
    let large = bytes(3, (MOST_READ_CHUNKS + 2) * CHUNK_BYTES);
    let blob = sealed(&store, &large);
    assert_eq!(store.read_blob(&blob, 1..100).unwrap().len() as u64, MOST_READ_CHUNKS * CHUNK_BYTES);
    let empty = put(&store, &public(b""), b"");
    assert_eq!(store.read_blob(&empty, 0..1).unwrap().len(), 0);
}

#[test]
fn a_blob_that_was_touched_is_read_only_after_it_was_verified_again() {
    let (folder, store) = store_in();
    let blob = sealed(&store, &data());
    assert!(store.read_blob(&blob, 0..5).unwrap() == data());
    // Another name changes its fingerprint, and not its bytes.
    fs::hard_link(blob.path(), folder.path().join("link")).unwrap();
    assert!(store.read_blob(&blob, 0..5).unwrap() == data());
    store.sync().unwrap();
    assert!(store.read_blob(&blob, 0..5).unwrap() == data());
    change(&blob);
    assert!(matches!(store.read_blob(&blob, 4..5), Err(StoreError::Damaged { .. })), "bytes of a changed file were given out");
    assert!(store.find(&public(&data()).key(Scope::Public)).unwrap().is_none());
    assert!(store.read_blob(&blob, 4..5).is_err());
}

#[test]
fn chunks_of_a_coming_file_are_read_with_their_hashes_while_others_are_written() {
    let (_folder, store) = store_in();
    let data = bytes(4, 40 * CHUNK_BYTES + 5);
    let hashes = hashes_of(&data);
    let partial = store.partial(&public(&data), Scope::Public).unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for index in 0..41 {
                let index = index * 17 % 41;
                partial.write(&chunks(&data, index, index + 1)).unwrap();
                partial.advance().unwrap();
            }
            done.store(true, Ordering::SeqCst);
        });
        while !done.load(Ordering::SeqCst) {
            for run in partial.have() {
                let end = run.end.min(run.start + MOST_READ_CHUNKS);
                let (read, with) = partial.read(run.clone()).unwrap().expect("what it had is gone");
                let place = run.start as usize * CHUNK_BYTES as usize..data.len().min(end as usize * CHUNK_BYTES as usize);
                assert!(read == data.slice(place) && with == hashes.run(run.start..end));
            }
        }
    });
    assert_eq!((partial.have(), partial.hash(40), partial.hash(41)), (vec![0..41], Some(hashes.run(40..41)[0]), None));
    assert!(partial.seal().is_ok());
}

#[test]
fn what_a_coming_file_has_not_is_not_read() {
    let (_folder, store) = store_in();
    let data = data();
    let partial = store.partial(&public(&data), Scope::Public).unwrap();
    assert_eq!(partial.have(), []);
    partial.write(&chunks(&data, 1, 3)).unwrap();
    partial.write(&chunks(&data, 4, 5)).unwrap();
    assert_eq!(partial.have(), [1..3, 4..5]);
    assert!(partial.read(0..2).unwrap().is_none() && partial.read(2..5).unwrap().is_none());
    assert!(partial.read(1..3).unwrap().is_some() && partial.read(4..99).unwrap().is_some());
}

#[test]
fn a_chunk_of_an_earlier_run_is_checked_before_it_is_given_to_others() {
    let (folder, store) = store_in();
    let data = data();
    let partial = store.partial(&public(&data), Scope::Public).unwrap();
    partial.write(&all(&data)).unwrap();
    let path = store.home().join(crate::partial::file_name(&partial.key()));
    drop((partial, store));
    fs::OpenOptions::new().write(true).open(path).unwrap().write_all_at(b"?", 2 * CHUNK_BYTES + 9).unwrap();
    let store = store_at(&folder.path().join("home"));
    let partial = store.partial(&public(&data), Scope::Public).unwrap();
    partial.advance().unwrap();
    assert!(partial.read(0..2).unwrap().is_some());
    assert!(partial.read(1..4).unwrap().is_none(), "a damaged chunk was given out");
    assert_eq!(partial.missing(), [2..3]);
    assert!(partial.read(3..5).unwrap().is_some());
    partial.write(&chunks(&data, 2, 3)).unwrap();
    assert_eq!(content_of(&partial.seal().unwrap()), data.to_vec());
}

#[test]
fn after_a_mismatch_the_proven_chunks_are_kept_and_only_the_others_come_again() {
    let (folder, store) = store_in();
    let (data, lie) = (data(), bytes(7, CHUNKS * CHUNK_BYTES - 9));
    let partial = store.partial(&public(&data), Scope::Public).unwrap();
    for (from, first, end) in [(&data, 0, 1), (&lie, 1, 3), (&data, 3, 4), (&lie, 4, 5)] {
        partial.write(&chunks(from, first, end)).unwrap();
        partial.advance().unwrap();
    }
    assert!(matches!(partial.seal(), Err(SealError::Mismatch { .. })));
    partial.forget(1..3).unwrap();
    partial.forget(4..5).unwrap();
    assert_eq!((partial.missing(), partial.have()), (vec![1..3, 4..5], vec![0..1, 3..4]));
    assert!(matches!(partial.seal(), Err(SealError::Incomplete { missing: 3 })));
    // What was forgotten stays so.
    drop((partial, store));
    let store = store_at(&folder.path().join("home"));
    let partial = store.partial(&public(&data), Scope::Public).unwrap();
    assert_eq!(partial.missing(), [1..3, 4..5]);
    partial.write(&all(&data)).unwrap();
    assert_eq!(content_of(&partial.seal().unwrap()), data.to_vec());
}

#[test]
fn the_proof_begins_anew_when_chunks_that_it_saw_are_forgotten() {
    let (_folder, store) = store_in();
    let (data, lie) = (data(), bytes(7, CHUNKS * CHUNK_BYTES - 9));
    let partial = store.partial(&public(&data), Scope::Public).unwrap();
    partial.write(&all(&data)).unwrap();
    partial.advance().unwrap();
    partial.forget(1..2).unwrap();
    partial.write(&chunks(&lie, 1, 2)).unwrap();
    assert!(matches!(partial.seal(), Err(SealError::Mismatch { .. })), "the proof is of bytes that were forgotten");
    partial.forget(1..u64::MAX).unwrap();
    assert_eq!(partial.missing(), [1..5]);
    partial.write(&all(&data)).unwrap();
    let blob = partial.seal().unwrap();
    assert_eq!(content_of(&blob), data.to_vec());
    partial.forget(0..5).unwrap();
    partial.discard().unwrap();
    store.sync().unwrap();
    assert!(store.find(&public(&data).key(Scope::Public)).unwrap().is_some(), "what is done to a file that ended is done to its blob");
}

#[test]
fn chunks_can_be_forgotten_while_others_are_written_proven_and_read() {
    let (_folder, store) = store_in();
    let data = bytes(4, 30 * CHUNK_BYTES);
    let hashes = hashes_of(&data);
    let partial = store.partial(&public(&data), Scope::Public).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for round in 0..20 {
                partial.forget(round..round + 3).unwrap();
            }
        });
        for _ in 0..2 {
            scope.spawn(|| {
                for _ in 0..20 {
                    partial.write(&all(&data)).unwrap();
                    partial.advance().unwrap();
                    for run in partial.have() {
                        let end = run.end.min(run.start + MOST_READ_CHUNKS);
                        if let Some((_, with)) = partial.read(run.clone()).unwrap() {
                            assert_eq!(with, hashes.run(run.start..end));
                        }
                    }
                }
            });
        }
    });
    partial.write(&all(&data)).unwrap();
    assert_eq!(content_of(&partial.seal().unwrap()), data.to_vec());
}

#[test]
fn public_files_are_those_that_are_proven_large_enough_and_as_they_were() {
    let (_folder, store) = store_in();
    let (large, other) = (data(), bytes(2, 2 * CHUNK_BYTES));
    let known = sealed(&store, &large);
    let twin = file("twin", large.len() as u64, vec![md5(&large)]);
    store.put(&twin, Scope::Public, &all(&large)).unwrap();
    store.put(&public(&other), Scope::Private, &all(&other)).unwrap();
    store.put(&file("unproven", other.len() as u64, vec![]), Scope::Public, &all(&other)).unwrap();
    put(&store, &public(b"small"), b"small");
    let mut found: Vec<_> = store.public_files(100).unwrap().into_iter().map(|(key, blob)| (key, blob.content())).collect();
    let mut expected = [public(&large), twin].map(|file| (file.key(Scope::Public), known.content()));
    found.sort_unstable();
    expected.sort_unstable();
    assert_eq!(found, expected);
    assert_eq!(store.public_files(0).unwrap().len(), 3);
    change(&known);
    assert_eq!(store.public_files(100).unwrap().len(), 0, "a changed file is taken for what it was");
}

#[test]
fn public_resources_are_those_of_which_all_files_are_here() {
    let (_folder, store) = store_in();
    let contents = [data(), bytes(2, 2 * CHUNK_BYTES)];
    let listed = |path: &str, data: &Bytes| file(path, data.len() as u64, vec![sha256(data)]);
    let files: Vec<OriginFile> = contents.iter().zip(["a", "b"]).map(|(data, path)| listed(path, data)).collect();
    let listing = |id: &str, files: &[OriginFile]| StoredListing {
        id: id.into(),
        pinned: true,
        scope: Scope::Public,
        listed: SystemTime::now(),
        manifest: Manifest::new(files.to_vec()).unwrap(),
    };
    let known = |id: &str, files: &[OriginFile], public| KnownResource {
        id: id.into(),
        address: id.into(),
        bytes: files.iter().map(|file| file.size).sum(),
        files: files.len() as u64,
        public,
        used: SystemTime::UNIX_EPOCH,
    };
    for (file, data) in files.iter().zip(&contents) {
        store.put(file, Scope::Public, &all(data)).unwrap();
    }
    store.put_listing("whole", &listing("whole", &files)).unwrap();
    store.put_listing("whole, a part", &listing("whole", &files[..1])).unwrap();
    store.put_listing("private", &listing("private", &files)).unwrap();
    store.put_listing("other", &listing("other", &[listed("a", &bytes(9, 9))])).unwrap();
    for (id, files, public) in [("whole", &files[..], true), ("private", &files, false), ("unlisted", &files, true)] {
        store.record_resource(&known(id, files, public)).unwrap();
    }
    store.record_resource(&known("other", &[listed("a", &bytes(9, 9))], true)).unwrap();
    assert_eq!(store.public_resources().unwrap(), [known("whole", &files, true)]);
    change(&store.find(&files[1].key(Scope::Public)).unwrap().unwrap());
    assert!(store.find(&files[1].key(Scope::Public)).unwrap().is_none());
    assert_eq!(store.public_resources().unwrap(), [], "a resource that lacks a file is called complete");
}
