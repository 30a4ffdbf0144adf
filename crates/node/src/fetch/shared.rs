//! What is known of the chunks of a file that others fetch too: who read which, and the list of their hashes once there is one.
//!
//! Invariant: a chunk from a peer is checked against the list if there is one, else against the claim that came with it, before it
//! is written; a chunk is shown only with one of the two.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use larder_content::{ChunkHash, ChunkHashes, ChunkLayout, Claim, ContentId, FileKey, NodeId, VerifiedChunks};
use larder_engine::{Compared, MarketId};
use larder_peers::{Market, Piece};
use larder_store::{Partial, StoreError};

use super::claims::Claims;

/// A file that is fetched together with others of a market.
pub(crate) struct SharedFile {
    pub(crate) key: FileKey,
    pub(crate) layout: ChunkLayout,
    pub(crate) market_id: MarketId,
    pub(crate) market: Market,
    state: Mutex<State>,
}

struct State {
    claims: Claims,
    /// Those of others that were there when the whole was refuted: what the file is shows who signed for what is false.
    doubted: Vec<Claim>,
    /// Whose word for chunks counts no more: they signed for one that is false.
    distrusted: BTreeSet<NodeId>,
    list: Option<Arc<ChunkHashes>>,
    /// The number of the question for a list whose answer is awaited.
    question: u64,
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
        let (claims, doubted, distrusted) = (Claims::default(), Vec::new(), BTreeSet::new());
        let state = State { claims, doubted, distrusted, list: None, question: 0, own: vec![false; place(layout.count())] };
        Self { key, layout, market_id, market, state: Mutex::new(state) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The hashes of the content that the file is taken to be.
    pub(crate) fn list(&self) -> Option<Arc<ChunkHashes>> {
        self.state().list.clone()
    }

    /// A list is asked for: only the answer to this question counts from now on.
    pub(crate) fn asks(&self) -> u64 {
        let mut state = self.state();
        state.question += 1;
        state.question
    }

    /// Whether nothing was asked or refuted since that question.
    pub(crate) fn is_last(&self, question: u64) -> bool {
        self.state().question == question
    }

    /// Forgets the list if it is that of `content`, which was false.
    pub(crate) fn forget_list(&self, content: ContentId) {
        let mut state = self.state();
        state.list.take_if(|list| list.content() == content);
    }

    /// Forgets the list, which was false or made of what is, and all claims but this node's own.
    pub(crate) fn disbelieve(&self) {
        let me = self.market.id();
        let mut state = self.state();
        state.list = None;
        state.question += 1;
        let others = state.claims.take_of(|signer| signer != me);
        state.doubted.extend(others);
    }

    /// The chunks that are there by the word of others, by who signed for them.
    pub(crate) fn by_signer(&self, partial: &Partial) -> BTreeMap<NodeId, Vec<u64>> {
        let state = self.state();
        let mut signed: BTreeMap<NodeId, Vec<u64>> = BTreeMap::new();
        for (chunk, hash) in foreign(&state).filter_map(|chunk| Some((chunk, partial.hash(chunk)?))) {
            let others = state.claims.signers(chunk, hash).filter(|signer| *signer != self.market.id());
            others.for_each(|signer| signed.entry(signer).or_default().push(chunk));
        }
        signed
    }

    /// Who signed that a chunk has this hash.
    pub(crate) fn signers(&self, chunk: u64, hash: ChunkHash) -> Vec<NodeId> {
        self.state().claims.signers(chunk, hash).collect()
    }

    /// Believes nothing of what these signed; gives the chunks that are there by their word and by nothing else.
    pub(crate) fn distrust(&self, partial: &Partial, signers: &BTreeSet<NodeId>) -> Vec<Range<u64>> {
        let mut state = self.state();
        let theirs = state.claims.take_of(|signer| signers.contains(&signer));
        let is_own = |chunk: u64| state.own.get(place(chunk)) == Some(&true);
        let is_listed = |chunk: u64, hash| state.list.as_ref().is_some_and(|list| list.run(chunk..chunk + 1) == [hash]);
        let is_vouched = |chunk, hash| is_own(chunk) || is_listed(chunk, hash) || state.claims.signers(chunk, hash).next().is_some();
        let said = theirs.iter().flat_map(|claim| claim.chunks().zip(&claim.hashes));
        let there = said.filter(|(chunk, hash)| partial.hash(*chunk) == Some(**hash) && !is_vouched(*chunk, **hash));
        let there: BTreeSet<u64> = there.map(|(chunk, _)| chunk).collect();
        state.doubted.extend(theirs);
        state.distrusted.extend(signers);
        runs(there.into_iter())
    }

    /// Whether there are claims that the file itself will judge.
    pub(crate) fn doubts(&self) -> bool {
        !self.state().doubted.is_empty()
    }

    /// Who signed for something else than what the file is.
    pub(crate) fn liars(&self, list: &ChunkHashes) -> Vec<NodeId> {
        let false_claim = |claim: &&Claim| list.run(claim.chunks()) != claim.hashes;
        let liars: BTreeSet<NodeId> = self.state().doubted.iter().filter(false_claim).map(|claim| claim.signer).collect();
        liars.into_iter().collect()
    }

    /// Notes chunks that this node read from the origin; gives the content that they do not fit, if the file was taken to be that.
    pub(crate) fn read_own(&self, partial: &Partial, chunks: &VerifiedChunks) -> Option<ContentId> {
        let run = chunks.indices();
        let claims = (run.start..).step_by(Claim::MAX_CHUNKS).zip(chunks.hashes().chunks(Claim::MAX_CHUNKS));
        let claims: Vec<Claim> = claims.map(|(first, hashes)| self.market.claim(self.key, first, hashes.to_vec())).collect();
        let mut state = self.state();
        for (chunk, _) in run.clone().zip(chunks.hashes()).filter(|(chunk, hash)| partial.hash(*chunk) == Some(**hash)) {
            if let Some(own) = state.own.get_mut(place(chunk)) {
                *own = true;
            }
        }
        claims.into_iter().for_each(|claim| state.claims.keep(claim));
        state.list.as_ref().filter(|list| list.run(run) != chunks.hashes()).map(|list| list.content())
    }

    /// Checks what a peer sent.
    pub(crate) fn check(&self, piece: Piece) -> Result<(VerifiedChunks, Option<Claim>), Wrong> {
        let Piece { first, bytes, claim, content } = piece;
        let found = VerifiedChunks::hashed(self.layout, first, bytes).map_err(|_| Wrong::Sender)?;
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
            // Its sender may not have found out yet.
            (None, Some(claim)) if self.state().distrusted.contains(&claim.signer) => Err(Wrong::Signer(claim.signer)),
            (_, claim) => Ok((found, claim)),
        }
    }

    /// Keeps the claim for chunks that were written, to pass it on.
    pub(crate) fn keep(&self, claim: Option<Claim>) {
        if let Some(claim) = claim {
            self.state().claims.keep(claim);
        }
    }

    /// The claim that says most of what is there from chunk `at` on, and up to where it does, at most up to `end`.
    pub(crate) fn claim_for(&self, at: u64, end: u64, there: impl Fn(u64) -> Option<ChunkHash>) -> Option<(Claim, u64)> {
        let end = end.min(at.saturating_add(Claim::MAX_CHUNKS as u64));
        let hashes: Vec<ChunkHash> = (at..end).map_while(there).collect();
        self.state().claims.of(at, &hashes).map(|(claim, fits)| (claim.clone(), at + fits))
    }

    /// Whether this node read a chunk from the origin itself.
    pub(crate) fn is_own(&self, chunk: u64) -> bool {
        self.state().own.get(place(chunk)) == Some(&true)
    }

    /// What lies there now is what others gave, though this node may have read something else since it was looked.
    pub(crate) fn replaced(&self, chunks: &[u64]) {
        let mut state = self.state();
        for chunk in chunks {
            state.own.get_mut(place(*chunk)).into_iter().for_each(|own| *own = false);
        }
    }

    /// The runs of chunks that others gave.
    pub(crate) fn foreign(&self) -> Vec<Range<u64>> {
        runs(foreign(&self.state()))
    }

    /// Whether nothing that is known by now says that chunks are others.
    pub(crate) fn fits(&self, chunks: &VerifiedChunks) -> bool {
        self.list().is_none_or(|list| list.run(chunks.indices()) == chunks.hashes())
    }

    /// Takes `list`, the answer to `question`, for the file's, and drops what does not fit it; unless what this node read itself
    /// does not, or something else is asked meanwhile.
    pub(crate) fn compare(&self, partial: &Partial, list: &Arc<ChunkHashes>, question: u64) -> Result<Compared, StoreError> {
        {
            let mut state = self.state();
            if state.question != question {
                return Ok(Compared::Missing);
            }
            // First: what is written from now on is held against it by those who write it.
            state.list = Some(list.clone());
        }
        let (mut fits, mut wrong) = (Vec::new(), Vec::new());
        for chunk in partial.have().into_iter().flatten() {
            let same = partial.hash(chunk).is_some_and(|hash| list.run(chunk..chunk + 1) == [hash]);
            if same { fits.push(chunk) } else { wrong.push(chunk) }
        }
        let signed = |chunk: &u64| self.claim_for(*chunk, *chunk + 1, |chunk| partial.hash(chunk)).map(|(claim, _)| claim.signer);
        let contradicted: Vec<NodeId> = wrong.iter().filter_map(signed).collect();
        {
            let mut state = self.state();
            if state.question != question {
                return Ok(Compared::Missing);
            }
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

/// The chunks that others gave.
fn foreign(state: &State) -> impl Iterator<Item = u64> {
    (0u64..).zip(&state.own).filter(|(_, own)| !**own).map(|(chunk, _)| chunk)
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
