//! A real process that is killed at any moment, its index with it.

use std::process::{Command, Stdio};
use std::time::Duration;

use larder_content::{CHUNK_BYTES, Scope};

use crate::testing::{bytes, chunks, config, public, put, rounds, store_at};
use crate::{Recovery, Store};

/// Names the store of the process that is to be killed.
const HOME: &str = "LARDER_TEST_KILLED_HOME";
const CHUNKS: u64 = 64;

#[test]
#[ignore = "runs until it is killed: the test below starts it"]
fn writes_until_it_is_killed() {
    let Some(home) = std::env::var_os(HOME) else { return };
    let store = Store::open(home.as_ref(), config(), "killed").unwrap();
    for seed in 0.. {
        let small = bytes(seed, 5_000 + seed);
        put(&store, &public(&small), &small);
        let large = bytes(seed, CHUNKS * CHUNK_BYTES + seed);
        let partial = store.partial(&public(&large), Scope::Public).unwrap();
        for run in partial.missing() {
            run.for_each(|index| partial.write(&chunks(&large, index, index + 1)).unwrap());
            partial.advance().unwrap();
        }
        partial.seal().unwrap();
        if seed % 3 == 2 {
            store.sync().unwrap();
        }
    }
}

#[test]
fn a_process_that_is_killed_leaves_nothing_torn_and_its_store_free() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().join("home");
    let mut blobs = 0;
    for round in 0..rounds(5) {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "tests::kills::writes_until_it_is_killed"])
            .env(HOME, &home)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        // Any moment will do: what is asserted holds at all of them.
        std::thread::sleep(Duration::from_millis(50 + round * 7919 % 700));
        child.kill().unwrap();
        child.wait().unwrap();
        let store = store_at(&home);
        let Recovery { index_damaged, chunks_lost, .. } = store.recovery();
        assert_eq!((index_damaged, chunks_lost), (&None, &0), "round {round}");
        let report = store.verify().unwrap();
        assert_eq!((report.damaged, report.damaged_chunks), (vec![], 0), "round {round}");
        assert!(report.blobs >= blobs, "round {round}: blobs of an earlier round are gone");
        blobs = report.blobs;
    }
    assert!(blobs > 0, "every process was killed before it wrote anything");
}
