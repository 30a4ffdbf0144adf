//! What is proven by piece: lists of pieces for others, and files that come held against one.

use std::fs;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use larder_content::{Algorithm, CHUNK_BYTES, Lister, Manifest, OriginDigest, OriginFile, PartSizes, PieceRow, Pieces, ProofKind, Scope};
use md5::{Digest, Md5};

use crate::pieces::pieces_file;
use crate::testing::{all, chunks, public, put, sha256, store_at, store_in, xet};
use crate::{Blob, KnownResource, Partial, Store, StoredListing};

/// Bytes in which pieces end at all kinds of places.
fn data(len: u64) -> Bytes {
    let mut state = 5u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..len).map(|_| next()).collect()
}

fn rows(store: &Store, blob: &Blob, rows: Range<u64>) -> Option<Vec<PieceRow>> {
    store.pieces(blob, rows).unwrap()
}

fn list(data: &Bytes) -> Pieces {
    list_of(&xet(data), data)
}

fn list_of(digest: &OriginDigest, data: &Bytes) -> Pieces {
    let mut lister = Lister::new(digest, data.len() as u64).unwrap();
    lister.update(data);
    lister.finish().unwrap()
}

#[test]
fn the_list_of_a_blob_is_made_once_given_in_slices_and_removed_if_it_was_torn() {
    let (folder, store) = store_in();
    let data = data(5 * CHUNK_BYTES + 9);
    let (blob, root) = (put(&store, &public(&data), &data), xet(&data));
    let path = store.home().join(pieces_file(blob.content()));
    assert_eq!(rows(&store, &blob, 0..9), None);
    store.list_pieces(&blob, &OriginDigest::Xet([3; 32])).unwrap();
    assert!(!path.exists(), "a list that does not make the hash was kept");
    store.list_pieces(&blob, &root).unwrap();
    let all: Vec<PieceRow> = list(&data).rows().collect();
    assert_eq!(rows(&store, &blob, 0..u64::MAX).as_ref(), Some(&all));
    assert_eq!(rows(&store, &blob, 2..5), Some(all[2..5].to_vec()));
    assert_eq!(rows(&store, &blob, 4_000..5_000), Some(vec![]));
    let right = fs::read(&path).unwrap();
    drop((blob, store));
    let mut changed = right.clone();
    changed[40] ^= 1;
    for torn in [changed, right[..right.len() - 40].to_vec(), vec![], vec![1; 33], vec![0; right.len()]] {
        fs::remove_file(&path).unwrap();
        fs::write(&path, torn).unwrap();
        let store = store_at(&folder.path().join("home"));
        let blob = store.find(&public(&data).key(Scope::Public)).unwrap().unwrap();
        assert_eq!(rows(&store, &blob, 0..9), None);
        assert!(!path.exists(), "a torn list stays");
        store.list_pieces(&blob, &root).unwrap();
        assert_eq!(fs::read(&path).unwrap(), right);
    }
    let store = store_at(&folder.path().join("home"));
    assert_eq!(store.gc(SystemTime::now() + Duration::from_secs(30 * 24 * 3600), true).unwrap().blobs, 1);
    assert!(!path.exists(), "an evicted blob's list of pieces stays");
}

#[test]
fn of_what_is_private_no_list_is_made() {
    let (_folder, store) = store_in();
    let data = data(3 * CHUNK_BYTES);
    let blob = store.put(&public(&data), Scope::Private, &all(&data)).unwrap();
    store.list_pieces(&blob, &xet(&data)).unwrap();
    assert_eq!(rows(&store, &blob, 0..9), None);
    assert!(!store.home().join(pieces_file(blob.content())).exists());
}

/// A file that comes held against its list, all right bytes of which are `data`.
fn coming(store: &Store, data: &Bytes) -> Partial {
    let file = OriginFile { digests: vec![xet(data)], ..public(data) };
    let partial = store.partial(&file, Scope::Public).unwrap();
    assert!(partial.hold_against(Arc::new(list(data))));
    partial
}

fn write(partial: &Partial, data: &Bytes, first: u64, end: u64) -> Option<Vec<Range<u64>>> {
    let written = chunks(data, first, end);
    partial.write(&written).unwrap();
    partial.check_pieces(&written).unwrap()
}

#[test]
fn what_is_not_the_origins_is_found_with_the_chunk_that_completes_a_piece_of_it() {
    let (_folder, store) = store_in();
    let right = data(6 * CHUNK_BYTES);
    let mut wrong = right.to_vec();
    // The last byte of the third chunk, in a piece that goes on in the fourth.
    let at = (3 * CHUNK_BYTES - 1) as usize;
    wrong[at] ^= 1;
    let wrong = Bytes::from(wrong);
    let list = list(&right);
    let place = list.place(list.touched_by(&(at as u64..at as u64 + 1)).start);
    assert!(place.end > 3 * CHUNK_BYTES, "{place:?}");
    let partial = coming(&store, &right);
    assert_eq!(write(&partial, &wrong, 0, 3), Some(vec![]), "what is not whole yet is not wrong");
    assert_eq!(write(&partial, &right, 4, 6), Some(vec![]));
    assert_eq!(write(&partial, &right, 3, 4), Some(vec![place.clone()]));
    // It stays wrong until the chunk came anew.
    assert_eq!(partial.check_all_pieces().unwrap(), Some(vec![place.clone()]));
    partial.forget(2..3).unwrap();
    assert_eq!(partial.check_all_pieces().unwrap(), Some(vec![]));
    assert_eq!(write(&partial, &wrong, 2, 3), Some(vec![place]), "pieces of what was forgotten are held anew");
    partial.forget(2..3).unwrap();
    assert_eq!(write(&partial, &right, 2, 3), Some(vec![]));
    assert!(partial.seal().is_ok());
}

#[test]
fn what_was_there_before_the_list_is_held_against_it_too() {
    let (_folder, store) = store_in();
    let right = data(6 * CHUNK_BYTES + 5);
    let mut wrong = right.to_vec();
    wrong[9] ^= 1;
    let partial = coming(&store, &right);
    partial.drop_pieces();
    assert_eq!(write(&partial, &wrong.into(), 0, 4), None);
    assert!(partial.hold_against(Arc::new(list(&right))));
    assert_eq!(partial.check_all_pieces().unwrap(), Some(vec![list(&right).place(0)]));
    assert_eq!(write(&partial, &right, 4, 7), Some(vec![]));
}

/// The file as a hub lists it, with both digests.
fn listed(data: &Bytes, sha256_of: &[u8]) -> OriginFile {
    OriginFile { digests: vec![sha256(sha256_of), xet(data)], ..public(data) }
}

/// A blob of `file` that was proven by piece alone.
fn by_pieces(store: &Store, file: &OriginFile, data: &Bytes) -> Blob {
    let partial = store.partial(file, Scope::Public).unwrap();
    partial.hold_against(Arc::new(list(data)));
    partial.write(&all(data)).unwrap();
    assert_eq!(partial.check_all_pieces().unwrap(), Some(vec![]));
    partial.seal_by_pieces(file).unwrap().unwrap()
}

#[test]
fn what_is_proven_by_piece_has_its_own_key_only_once_it_was_held_against_its_digest() {
    let (_folder, store) = store_in();
    let data = data(5 * CHUNK_BYTES + 7);
    let file = listed(&data, &data);
    let (key, short) = (file.key(Scope::Public), file.by_pieces().unwrap().key(Scope::Public));
    let blob = by_pieces(&store, &file, &data);
    assert_eq!(blob.proof(), ProofKind::Xet);
    assert!(store.home().join(pieces_file(blob.content())).exists(), "the list that proved it was not kept");
    assert!(store.find(&key).unwrap().is_none(), "a key whose digest nothing was held against was bound");
    assert_eq!(store.find(&short).unwrap().map(|found| found.content()), Some(blob.content()));
    let proven = store.prove(&blob, &file, Scope::Public).unwrap().unwrap();
    assert_eq!(proven.proof(), sha256(&data).kind());
    assert_eq!(store.find(&key).unwrap().map(|found| found.proof()), Some(proven.proof()));
}

/// A bucket's object in parts of so many bytes.
fn in_parts(data: &Bytes, bytes: u64) -> OriginFile {
    let md5s: Vec<u8> = data.chunks(bytes as usize).flat_map(|part| Md5::digest(part).to_vec()).collect();
    let digest = OriginDigest::parts(Algorithm::Md5, &Md5::digest(md5s), PartSizes::Uniform { bytes }).unwrap();
    OriginFile { digests: vec![digest], ..public(data) }
}

#[test]
fn an_object_is_proven_by_its_parts_as_they_come_and_then_lists_them_for_others() {
    let (_folder, store) = store_in();
    let data = data(9 * CHUNK_BYTES + 5);
    // Parts that end within chunks.
    let file = in_parts(&data, 3 * CHUNK_BYTES + 11);
    let (key, list) = (file.key(Scope::Public), list_of(file.listable().unwrap(), &data));
    let partial = store.partial(&file, Scope::Public).unwrap();
    partial.hold_against(Arc::new(list.clone()));
    let mut wrong = data.to_vec();
    wrong[5 * CHUNK_BYTES as usize] ^= 1;
    let wrong = Bytes::from(wrong);
    let came = |from: u64, end: u64| {
        let some = chunks(&wrong, from, end);
        partial.write(&some).unwrap();
        partial.check_pieces(&some).unwrap()
    };
    assert_eq!(came(0, 3), Some(vec![]));
    assert_eq!(came(4, 7), Some(vec![]), "a part of which a chunk is missing was looked at");
    assert_eq!(came(3, 4), Some(vec![list.place(1)]));
    partial.forget(4..6).unwrap();
    partial.write(&chunks(&data, 4, 10)).unwrap();
    assert_eq!(partial.check_all_pieces().unwrap(), Some(vec![]));
    let blob = partial.seal_by_pieces(&file).unwrap().unwrap();
    assert_eq!(blob.proof(), ProofKind::Parts(Algorithm::Md5));
    assert_eq!(store.find(&key).unwrap().map(|found| found.content()), Some(blob.content()));
    assert!(rows(&store, &blob, 0..9).unwrap().into_iter().eq(list.rows()));
}

#[test]
fn a_sha256_that_its_origin_lists_beside_the_xet_hash_of_other_bytes_is_never_bound() {
    let (_folder, store) = store_in();
    let data = data(5 * CHUNK_BYTES);
    let file = listed(&data, b"what another file has");
    let blob = by_pieces(&store, &file, &data);
    assert!(store.prove(&blob, &file, Scope::Public).unwrap().is_none());
    assert!(store.find(&file.key(Scope::Public)).unwrap().is_none());
}

#[test]
fn no_blob_is_made_by_pieces_before_each_was_found_to_be_right() {
    let (_folder, store) = store_in();
    let data = data(6 * CHUNK_BYTES);
    let file = listed(&data, &data);
    let partial = store.partial(&file, Scope::Public).unwrap();
    let sealed = || partial.seal_by_pieces(&file).unwrap().is_some();
    partial.write(&all(&data)).unwrap();
    assert!(!sealed(), "without a list");
    assert!(partial.hold_against(Arc::new(list(&data))));
    assert!(!partial.hold_against(Arc::new(list(&data))), "a second list took the place of the first");
    assert!(!sealed(), "before anything was held against it");
    partial.check_all_pieces().unwrap();
    partial.forget(3..4).unwrap();
    assert!(!sealed(), "with a chunk missing");
    partial.write(&chunks(&data, 3, 4)).unwrap();
    assert!(!sealed(), "with a chunk that came again and was not held against it");
    partial.check_all_pieces().unwrap();
    // Another resource lists the same sha256 beside another Xet hash.
    let other = OriginFile { digests: vec![sha256(&data), xet(b"other")], ..file.clone() };
    assert!(partial.seal_by_pieces(&other).unwrap().is_none(), "by the list of another hash");
    partial.drop_pieces();
    assert!(!sealed(), "with a list that was false");
    // The proof of the whole goes on from where it was.
    assert_eq!(partial.seal().unwrap().proof(), sha256(&data).kind());
}

#[test]
fn what_was_proven_by_piece_before_the_node_ended_is_held_against_its_digest_when_it_is_started_again() {
    let (folder, store) = store_in();
    let data = data(5 * CHUNK_BYTES);
    let file = listed(&data, &data);
    drop(by_pieces(&store, &file, &data));
    let listing = StoredListing {
        id: "hf:models/m@c1".into(),
        pinned: true,
        scope: Scope::Public,
        listed: SystemTime::now(),
        manifest: Manifest::new(vec![file.clone()]).unwrap(),
    };
    let known = KnownResource {
        id: listing.id.clone(),
        address: "hf:m".into(),
        bytes: file.size,
        files: 1,
        public: true,
        used: SystemTime::UNIX_EPOCH,
    };
    store.put_listing("hf:m", &listing).unwrap();
    store.record_resource(&known).unwrap();
    drop(store);
    let store = store_at(&folder.path().join("home"));
    let key = file.key(Scope::Public);
    assert_eq!((store.public_resources().unwrap().len(), store.find(&key).unwrap().is_some()), (0, false));
    assert_eq!(store.catch_up().unwrap(), [key]);
    assert_eq!((store.public_resources().unwrap().len(), store.find(&key).unwrap().is_some()), (1, true));
    // What was proven otherwise has its list from then on.
    let path = store.home().join(pieces_file(store.find(&key).unwrap().unwrap().content()));
    fs::remove_file(&path).unwrap();
    assert_eq!(store.catch_up().unwrap(), []);
    assert!(path.exists());
}
