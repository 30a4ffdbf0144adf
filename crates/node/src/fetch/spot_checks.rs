//! Spot checks: where the whole proves false in a cold swarm, some chunks, each of another who signed, are read from the origin.
//!
//! Whoever signed much that is false is found so in a moment, and only what it signed comes anew. Whoever is false in few chunks is not, most
//! often: then one node reads the file anew for all, and what differs is little. They are picked by chunk, so that a liar gains nothing by
//! more names.
//!
//! Invariants: only a proof that failed leads to spot checks, once a reading; nobody else's word says whom to look at; and a chunk that was read
//! takes the place of what is there.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use larder_content::{ChunkLayout, ContentId, FileKey, NodeId, VerifiedChunks};
use larder_engine::Event;
use larder_store::{Partial, StoreError};

use super::active::{Body, Supply};
use super::driver::{Driver, Report};
use super::shared::SharedFile;
use crate::read::{Source, write_over};

/// What all who signed for a file read for that together at the most, by the whole; and the most chunks of one.
const PART: u64 = 4;
const MOST_CHUNKS: u64 = 16;
/// How many are read at once, and how long that may take.
const AT_ONCE: usize = 4;
const TAKES: Duration = Duration::from_secs(10);

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// The chunks that were read, and the content that they say it is not, if it came to be taken for that meanwhile.
    read: Vec<u64>,
    contradicted: Option<ContentId>,
    /// Who signed for others, and what nobody else says to be what was there: it is there no more.
    signers: BTreeSet<NodeId>,
    missing: Vec<Range<u64>>,
}

impl Driver {
    /// Begins to look who signed for what is false, if nothing but signatures says what the file is; tells whether it does.
    pub(super) fn spot_check(&mut self, key: FileKey) -> bool {
        let Some(active) = self.active.get_mut(&key) else { return false };
        let (Body::Large(partial), Some(shared)) = (&active.body, &active.shared) else { return false };
        if active.checked.is_some() || active.listing.is_known() || shared.list().is_some() {
            return false;
        }
        let checked = active.checked.insert(Arc::default());
        let wanted = Arc::downgrade(checked);
        let (partial, shared, source) = (partial.clone(), shared.clone(), active.source.clone());
        let (reporter, reading) = (self.reporter.clone(), active.reading);
        tokio::spawn(async move {
            let found = look(source, partial, shared, wanted).await;
            let _ = reporter.send(Report::Checked { key, reading, found }).await;
        });
        true
    }

    pub(super) fn checked(&mut self, key: FileKey, found: Found) {
        let Found { read, contradicted, signers, missing } = found;
        contradicted.into_iter().for_each(|content| self.contradicted(key, content));
        let Some(active) = self.active.get_mut(&key) else { return };
        let layout = ChunkLayout::new(active.source.file.size);
        for chunk in read {
            let place = layout.bytes(chunk, chunk + 1);
            active.take_back(place.end - place.start);
            active.count(place.end - place.start, Supply::Origin);
        }
        if signers.is_empty() {
            return self.refute(key, None);
        }
        active.refuted += 1;
        active.take_back_runs(&missing);
        let (file, signers): (_, Vec<NodeId>) = (&active.source.file.locator, signers.into_iter().collect());
        tracing::warn!(%file, ?signers, "what came from peers does not match, and they signed for it: what nobody else signed comes anew");
        self.engine.handle(Event::Refuted { file: key, signers, missing }, self.now());
    }
}

/// Reads chunks from the origin.
async fn look(source: Source, partial: Partial, shared: Arc<SharedFile>, wanted: Weak<()>) -> Found {
    let layout = ChunkLayout::new(partial.size());
    let signed = {
        let (partial, shared) = (partial.clone(), shared.clone());
        tokio::task::spawn_blocking(move || shared.by_signer(&partial)).await.unwrap_or_default()
    };
    let read = futures::stream::iter(pick(&signed, layout.count())).map(|chunk| {
        let read = source.read_piece(layout.bytes(chunk, chunk + 1));
        async move { Some((chunk, read.await.ok()?)) }
    });
    let read = read.buffer_unordered(AT_ONCE).take_until(tokio::time::sleep(TAKES)).filter_map(std::future::ready);
    let read: Vec<(u64, Bytes)> = read.collect().await;
    let compared = tokio::task::spawn_blocking(move || match wanted.upgrade() {
        Some(_wanted) => compare(&partial, &shared, read),
        None => Ok(Found::default()),
    });
    compared.await.unwrap_or_else(|_| Ok(Found::default())).unwrap_or_else(|error| {
        tracing::warn!(%error, "what the origin says of chunks cannot be held against what is there");
        Found::default()
    })
}

/// Which chunks are read: any, each of one who signed and was not looked at yet.
fn pick(signed: &BTreeMap<NodeId, Vec<u64>>, count: u64) -> BTreeSet<u64> {
    let most = (count / (PART * (signed.len() as u64 + 1))).min(MOST_CHUNKS);
    let mut all: Vec<(&NodeId, u64)> =
        signed.iter().flat_map(|(signer, chunks)| chunks.iter().map(move |chunk| (signer, *chunk))).collect();
    fastrand::shuffle(&mut all);
    let mut seen = BTreeSet::new();
    let firsts = all.into_iter().filter(|(signer, _)| seen.insert(*signer)).map(|(_, chunk)| chunk);
    firsts.take(usize::try_from(most).unwrap_or(usize::MAX)).collect()
}

/// Finds who signed for something else than what was read, puts that in its place, and forgets what only they say.
fn compare(partial: &Partial, shared: &SharedFile, read: Vec<(u64, Bytes)>) -> Result<Found, StoreError> {
    let layout = ChunkLayout::new(partial.size());
    let mut found = Found::default();
    for (chunk, bytes) in read {
        let Ok(chunks) = VerifiedChunks::hashed(layout, chunk, bytes) else { continue };
        let there = partial.hash(chunk).filter(|there| [*there] != *chunks.hashes());
        there.into_iter().for_each(|there| found.signers.extend(shared.signers(chunk, there)));
        write_over(partial, &chunks, |_| false)?;
        found.contradicted = shared.read_own(partial, &chunks).or(found.contradicted);
        found.read.push(chunk);
    }
    if !found.signers.is_empty() {
        found.missing = shared.distrust(partial, &found.signers);
        found.missing.iter().try_for_each(|run| partial.forget(run.clone()))?;
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signed(signers: u8, chunks: u64) -> BTreeMap<NodeId, Vec<u64>> {
        let of = |signer| u64::from(signer) * chunks..(u64::from(signer) + 1) * chunks;
        (0..signers).map(|signer| (NodeId([signer; 32]), of(signer).collect())).collect()
    }

    #[test]
    fn all_who_signed_for_a_file_look_at_a_quarter_of_it_at_most() {
        for (signers, chunks, expected) in [(1, 512, 1), (7, 64, 7), (31, 64, 15), (31, 2000, 16), (200, 2, 0)] {
            let count = u64::from(signers) * chunks;
            let picked = pick(&signed(signers, chunks), count).len() as u64;
            assert_eq!(picked, expected, "{signers} signers, {chunks} chunks each");
            assert!(picked * (u64::from(signers) + 1) <= count / PART);
        }
    }

    #[test]
    fn each_who_signed_is_looked_at_once_and_by_how_much_it_signed() {
        let owners: Vec<u64> = pick(&signed(4, 100), 400).iter().map(|chunk| chunk / 100).collect();
        assert_eq!(owners, [0, 1, 2, 3]);
        // One of them signed nine tenths, and one is looked at.
        let mut all = signed(10, 10);
        all.insert(NodeId([99; 32]), (100..1000).collect());
        let picked = (0..100).filter(|_| pick(&all, 48).iter().all(|chunk| *chunk >= 100)).count();
        assert!(picked > 70, "{picked}");
    }
}
