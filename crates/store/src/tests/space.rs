//! Room, and who has to go.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use larder_content::Scope;

use crate::disk::RealDisk;
use crate::testing::{chunks, config, public, put};
use crate::{Limit, Store, StoreConfig, StoreError};

const KB: u64 = 1000;

fn store_of(quota_bytes: u64) -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let config = StoreConfig { quota_bytes: Some(quota_bytes), ..config() };
    let store = Store::open(&folder.path().join("home"), config, "test").unwrap();
    (folder, store)
}

fn data(seed: u64, len: u64) -> bytes::Bytes {
    crate::testing::bytes(seed, len)
}

fn is_there(store: &Store, seed: u64) -> bool {
    store.find(&public(&data(seed, 10 * KB)).key(Scope::Public)).unwrap().is_some()
}

fn hours(count: u64) -> Duration {
    Duration::from_secs(3600 * count)
}

#[test]
fn what_was_not_used_for_longest_goes_first_and_never_what_is_leased_or_held() {
    let (_folder, store) = store_of(50 * KB);
    let written = SystemTime::now();
    let mut blobs: Vec<_> = (0..5).map(|seed| put(&store, &public(&data(seed, 10 * KB)), &data(seed, 10 * KB))).collect();
    let names: Vec<_> = blobs.iter().map(|blob| blob.name()).collect();
    let lease = |seed: usize, at| store.take_lease("job", BTreeSet::from([names[seed]]), vec![], at).unwrap();
    lease(0, written);
    for (seed, hour) in [(1, 3), (2, 2), (3, 1)] {
        let ended = lease(seed, written);
        store.release(&ended.id, written + hours(hour)).unwrap();
    }
    let _held = blobs.pop();
    drop(blobs);
    let error = store.admit(10 * KB, &[], written + hours(10)).unwrap_err();
    assert!(matches!(error, StoreError::Full { free: 0, .. }), "what was used of late was to go: {error}");
    let kept = store.admit(15 * KB, &[], written + hours(100)).unwrap();
    assert_eq!([0, 1, 2, 3, 4].map(|seed| is_there(&store, seed)), [true, true, false, false, true]);
    drop(kept);
    let error = store.admit(31 * KB, &[], written + hours(100)).unwrap_err();
    assert!(matches!(error, StoreError::Full { needed: 31_000, free: 30_000, limit: Limit::Quota(50_000) }), "{error}");
    assert!(is_there(&store, 1), "something went although it was of no use");
}

#[test]
fn room_that_is_kept_for_one_job_is_not_given_to_another() {
    let (_folder, store) = store_of(100 * KB);
    let now = SystemTime::now();
    let first = store.admit(60 * KB, &[], now).unwrap();
    assert!(matches!(store.admit(50 * KB, &[], now), Err(StoreError::Full { free: 40_000, .. })));
    put(&store, &public(&data(1, 10 * KB)), &data(1, 10 * KB));
    first.spent(10 * KB);
    assert_eq!((store.space().unwrap().reserved_bytes, first.bytes()), (50 * KB, 50 * KB));
    assert!(store.admit(40 * KB, &[], now).is_ok());
    drop(first);
    assert!(store.admit(90 * KB, &[], now).is_ok());
    assert_eq!(store.space().unwrap().reserved_bytes, 0);
}

#[test]
fn what_is_still_coming_counts_with_the_bytes_it_has() {
    let (_folder, store) = store_of(2_000 * KB);
    let big = data(1, 1_000 * KB);
    let partial = store.partial(&public(&big), Scope::Public).unwrap();
    assert!(store.admit(2_000 * KB, &[], SystemTime::now()).is_ok(), "a hole was counted");
    partial.write(&chunks(&big, 0, 2)).unwrap();
    assert_eq!(store.space().unwrap().partial_bytes, 512 * 1024);
    assert!(matches!(store.admit(1_600 * KB, &[], SystemTime::now()), Err(StoreError::Full { .. })));
}

#[test]
fn what_was_begun_and_nobody_goes_on_with_makes_room_but_not_for_who_wants_it() {
    let (_folder, store) = store_of(1_500 * KB);
    let [left, open] = [1, 2].map(|seed| {
        let big = data(seed, 700 * KB);
        let partial = store.partial(&public(&big), Scope::Public).unwrap();
        partial.write(&chunks(&big, 0, 2)).unwrap();
        partial
    });
    let key = left.key();
    drop(left);
    let (now, later) = (SystemTime::now(), SystemTime::now() + hours(25));
    assert!(store.admit(1_000 * KB, &[], now).is_err(), "what was begun of late went");
    assert!(store.admit(1_000 * KB, &[key], later).is_err(), "what is wanted went");
    assert_eq!(store.recorded_bytes(&key, 700 * KB).unwrap(), 512 * 1024);
    assert!(store.admit(1_300 * KB, &[], later).is_err(), "what is being fetched was to go");
    let _kept = store.admit(900 * KB, &[], later).unwrap();
    assert_eq!((store.recorded_bytes(&key, 700 * KB).unwrap(), open.have_bytes()), (0, 512 * 1024));
    assert_eq!(store.space().unwrap().partial_bytes, 512 * 1024);
}

#[test]
fn the_disk_keeps_its_floor() {
    let folder = tempfile::tempdir().unwrap();
    let config = StoreConfig { quota_bytes: Some(u64::MAX), free_floor_bytes: u64::MAX / 2, ..config() };
    let store = Store::open(folder.path(), config, "test").unwrap();
    let error = store.admit(1, &[], SystemTime::now()).unwrap_err();
    assert!(matches!(error, StoreError::Full { needed: 1, free: 0, limit: Limit::Disk { .. } }), "{error}");
}

#[test]
fn a_blob_whose_partial_file_no_sync_cleared_makes_room_on_a_full_disk() {
    let folder = tempfile::tempdir().unwrap();
    let full = StoreConfig { quota_bytes: Some(u64::MAX), free_floor_bytes: u64::MAX / 2, ..config() };
    let store = Store::open_on(&folder.path().join("home"), full, "test", Box::new(RealDisk), false).unwrap();
    let big = data(1, 1_000 * KB);
    let partial = store.partial(&public(&big), Scope::Public).unwrap();
    partial.write(&chunks(&big, 0, 4)).unwrap();
    drop((partial.seal().unwrap(), partial));
    let later = SystemTime::now() + hours(25);
    let error = store.admit(1_001 * KB, &[], later).unwrap_err();
    assert!(matches!(error, StoreError::Full { free: 1_000_000, limit: Limit::Disk { .. }, .. }), "{error}");
    assert_eq!(store.space().unwrap().blob_bytes, 1_000 * KB, "something went although it was of no use");
    let _kept = store.admit(1_000 * KB, &[], later).unwrap();
    assert_eq!(store.space().unwrap().blob_bytes, 0);
}

#[test]
fn what_is_evicted_leaves_nothing_of_the_partial_file_it_was() {
    let (_folder, store) = store_of(10_000 * KB);
    let big = data(1, 1_000 * KB);
    let partial = store.partial(&public(&big), Scope::Public).unwrap();
    partial.write(&chunks(&big, 0, 4)).unwrap();
    drop((partial.seal().unwrap(), partial));
    assert_eq!(store.gc(SystemTime::now(), true).unwrap().blobs, 1);
    let space = store.space().unwrap();
    assert_eq!((space.blob_bytes, space.partial_bytes), (0, 0));
    let files = std::fs::read_dir(store.home().join("partial")).unwrap().count();
    assert_eq!(files, 0);
    assert_eq!(store.recorded_bytes(&public(&big).key(Scope::Public), 1_000 * KB).unwrap(), 0);
}

#[test]
fn collecting_removes_what_nobody_goes_on_with() {
    let (_folder, store) = store_of(10_000 * KB);
    let big = data(1, 1_000 * KB);
    put(&store, &public(&data(2, 10 * KB)), &data(2, 10 * KB));
    put(&store, &public(&data(3, 20 * KB)), &data(3, 20 * KB));
    let partial = store.partial(&public(&big), Scope::Public).unwrap();
    partial.write(&chunks(&big, 0, 1)).unwrap();
    let later = SystemTime::now() + hours(25);
    assert_eq!(store.gc(SystemTime::now(), false).unwrap(), crate::GcReport::default(), "what was used of late went");
    let report = store.gc(later, false).unwrap();
    assert_eq!((report.partials, report.blobs, report.blob_bytes), (0, 2, 30 * KB), "a file that is open went");
    drop(partial);
    put(&store, &public(&data(2, 10 * KB)), &data(2, 10 * KB));
    let report = store.gc(SystemTime::now(), true).unwrap();
    assert_eq!((report.partials, report.blobs), (1, 1), "what was used of late stayed although all was to go");
    assert_eq!(store.space().unwrap().blob_bytes, 0);
}
