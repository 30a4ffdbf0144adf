//! What is known of the chunks of a file that others fetch too: who read which, and the list of their hashes once there is one.
//!
//! Invariant: a chunk from a peer is checked against the list if there is one, else against the claim that came with it, before it
//! is written; a chunk is shown only with one of the two.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use larder_content::{ChunkHashes, ChunkLayout, Claim, FileKey, NodeId, VerifiedChunks};
use larder_engine::{Compared, MarketId};
use larder_peers::{Market, Piece};
use larder_store::{Partial, StoreError};

/// A file that is fetched together with others of a market.
pub(crate) struct SharedFile {
    pub(crate) key: FileKey,
    pub(crate) layout: ChunkLayout,
    pub(crate) market_id: MarketId,
    pub(crate) market: Market,
    state: Mutex<State>,
}

struct State {
    /// By their first chunk; they do not overlap but where one says more than another.
    claims: BTreeMap<u64, Claim>,
    list: Option<Arc<ChunkHashes>>,
    /// The chunks that this node read from the origin itself.
    own: Vec<bool>,
}

/// Why a piece is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wrong {
    /// Nothing vouches for it.
    Unvouched,
    /// Its sender is at fault.
    Sender,
    /// Who signed for it is.
    Signer(NodeId),
}

fn place(chunk: u64) -> usize {
    usize::try_from(chunk).unwrap_or(usize::MAX)
}

impl SharedFile {
    pub(crate) fn new(key: FileKey, layout: ChunkLayout, market_id: MarketId, market: Market) -> Self {
        let state = State { claims: BTreeMap::new(), list: None, own: vec![false; place(layout.count())] };
        Self { key, layout, market_id, market, state: Mutex::new(state) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The hashes of the content that the file is taken to be.
    pub(crate) fn list(&self) -> Option<Arc<ChunkHashes>> {
        self.state().list.clone()
    }

    /// Forgets the list, which was false, and all claims but this node's own.
    pub(crate) fn disbelieve(&self) {
        let me = self.market.id();
        let mut state = self.state();
        state.list = None;
        state.claims.retain(|_, claim| claim.signer == me);
    }

    /// Notes chunks that this node read from the origin; tells whether they fit the list.
    pub(crate) fn read_own(&self, chunks: &VerifiedChunks) -> bool {
        let run = chunks.indices();
        {
            let mut state = self.state();
            if let Some(own) = state.own.get_mut(place(run.start)..place(run.end)) {
                own.fill(true);
            }
            if let Some(list) = &state.list {
                return list.run(run) == chunks.hashes();
            }
        }
        let claims = (run.start..).step_by(Claim::MAX_CHUNKS).zip(chunks.hashes().chunks(Claim::MAX_CHUNKS));
        for (first, hashes) in claims {
            let claim = self.market.claim(self.key, first, hashes.to_vec());
            self.state().claims.insert(first, claim);
        }
        true
    }

    /// Checks what a peer sent.
    pub(crate) fn check(&self, piece: Piece) -> Result<(VerifiedChunks, Option<Claim>), Wrong> {
        let Piece { first, bytes, claim, content } = piece;
        let found = VerifiedChunks::read_from_origin(self.layout, first, bytes).map_err(|_| Wrong::Sender)?;
        let run = found.indices();
        if claim.as_ref().is_some_and(|claim| claim.run(run.clone()) != found.hashes()) {
            return Err(Wrong::Sender);
        }
        match (self.list(), claim) {
            (Some(list), claim) if list.run(run) != found.hashes() => Err(match claim {
                Some(claim) => Wrong::Signer(claim.signer),
                // It was misled about what the file is.
                None if content.is_some_and(|content| content != list.content()) => Wrong::Unvouched,
                None => Wrong::Sender,
            }),
            (None, None) => Err(Wrong::Unvouched),
            (_, claim) => Ok((found, claim)),
        }
    }

    /// Keeps the claim for chunks that were written, to pass it on.
    pub(crate) fn keep(&self, claim: Option<Claim>) {
        if let Some(claim) = claim {
            self.state().claims.insert(claim.first, claim);
        }
    }

    /// The claim for a chunk.
    pub(crate) fn claim_for(&self, chunk: u64) -> Option<Claim> {
        let first = chunk.saturating_sub(Claim::MAX_CHUNKS as u64 - 1);
        self.state().claims.range(first..=chunk).rev().map(|(_, claim)| claim).find(|claim| claim.chunks().contains(&chunk)).cloned()
    }

    /// The runs of chunks that others gave.
    pub(crate) fn foreign(&self) -> Vec<Range<u64>> {
        let state = self.state();
        let others = (0u64..).zip(&state.own).filter(|(_, own)| !**own).map(|(chunk, _)| chunk);
        runs(others)
    }

    /// Whether nothing that is known by now says that chunks are others.
    pub(crate) fn fits(&self, chunks: &VerifiedChunks) -> bool {
        self.list().is_none_or(|list| list.run(chunks.indices()) == chunks.hashes())
    }

    /// Takes `list` for the file's, and drops what does not fit it; unless what this node read itself does not.
    pub(crate) fn compare(&self, partial: &Partial, list: &Arc<ChunkHashes>) -> Result<Compared, StoreError> {
        // First: what is written from now on is held against it by those who write it.
        self.state().list = Some(list.clone());
        let (mut fits, mut wrong) = (Vec::new(), Vec::new());
        for chunk in partial.have().into_iter().flatten() {
            let same = partial.hash(chunk).is_some_and(|hash| list.run(chunk..chunk + 1) == [hash]);
            if same { fits.push(chunk) } else { wrong.push(chunk) }
        }
        let contradicted: Vec<NodeId> = wrong.iter().filter_map(|chunk| self.claim_for(*chunk)).map(|claim| claim.signer).collect();
        {
            let mut state = self.state();
            if wrong.iter().any(|chunk| state.own.get(place(*chunk)) == Some(&true)) {
                state.list = None;
                return Ok(Compared::Contradicted);
            }
        }
        let dropped = runs(wrong.into_iter());
        for run in &dropped {
            partial.forget(run.clone())?;
        }
        Ok(Compared::Known { fits: runs(fits.into_iter()), dropped, contradicted })
    }
}

/// Ascending chunks as runs.
fn runs(chunks: impl Iterator<Item = u64>) -> Vec<Range<u64>> {
    let mut runs: Vec<Range<u64>> = Vec::new();
    for chunk in chunks {
        match runs.last_mut() {
            Some(run) if run.end == chunk => run.end += 1,
            Some(_) | None => runs.push(chunk..chunk + 1),
        }
    }
    runs
}
