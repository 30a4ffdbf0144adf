//! Holds what comes of a file against the pieces that its digest is made of, so that what is not the origin's is found at once.
//!
//! Invariant: a piece counts as right only as long as no chunk of it was taken away.

use std::ops::Range;
use std::sync::Arc;

use larder_content::{CHUNK_BYTES, Pieces, VerifiedChunks};

use crate::partial::{Chunks, Partial, file_name};
use crate::read::read;
use crate::{StoreError, lock};

/// How much of a piece is read back at a time.
const STEP_BYTES: usize = 1 << 20;

/// Which pieces of a coming file were found to be right.
pub(crate) struct Piecewise {
    pieces: Arc<Pieces>,
    right: Vec<bool>,
}

/// The chunks of which any byte lies in `place`.
fn chunks_of(place: &Range<u64>) -> Range<u64> {
    place.start / CHUNK_BYTES..place.end.div_ceil(CHUNK_BYTES)
}

impl Piecewise {
    /// Those of the pieces touched by `place` that are not known to be right, and that `is_there`.
    fn open(&self, place: &Range<u64>, is_there: impl Fn(u64) -> bool) -> Vec<usize> {
        let is_open = |index: &usize| !self.right.get(*index).is_some_and(|right| *right);
        let is_whole = |index: &usize| chunks_of(&self.pieces.place(*index)).all(&is_there);
        self.pieces.touched_by(place).filter(is_open).filter(is_whole).collect()
    }

    /// The list, if every piece of it was found to be right.
    pub(crate) fn proven(&self) -> Option<&Arc<Pieces>> {
        Some(&self.pieces).filter(|_| self.right.iter().all(|right| *right))
    }

    /// A chunk is taken away.
    pub(crate) fn loses(&mut self, chunk: u64) {
        let place = chunk * CHUNK_BYTES..(chunk + 1) * CHUNK_BYTES;
        for right in self.right.get_mut(self.pieces.touched_by(&place)).into_iter().flatten() {
            *right = false;
        }
    }
}

impl Partial {
    /// Has what is written held against these pieces from now on, while the proof of the whole waits; false if it is already.
    pub fn hold_against(&self, pieces: Arc<Pieces>) -> bool {
        let mut chunks = lock(&self.coming.chunks);
        if chunks.pieces.as_ref().is_some_and(|known| known.pieces.digest() == pieces.digest()) {
            return false;
        }
        chunks.pieces = Some(Piecewise { right: vec![false; pieces.count()], pieces });
        chunks.kept.clear();
        true
    }

    /// Has what is written held against no pieces any more: their list was false.
    pub fn drop_pieces(&self) {
        lock(&self.coming.chunks).pieces = None;
    }

    /// Holds the pieces that just `written` chunks complete against the list. Where those lie that are not as it says: either the chunks
    /// are not the origin's or the list is not. `None` if there is no list.
    ///
    /// # Errors
    /// If the file cannot be read back.
    pub fn check_pieces(&self, written: &VerifiedChunks) -> Result<Option<Vec<Range<u64>>>, StoreError> {
        let start = written.offset();
        let at_hand = |place: &Range<u64>| {
            let at = |position: u64| position.checked_sub(start).and_then(|at| usize::try_from(at).ok());
            written.bytes().get(at(place.start)?..at(place.end)?)
        };
        self.hold_against_pieces(&(start..start + written.bytes().len() as u64), at_hand)
    }

    /// The same for all chunks that are there.
    ///
    /// # Errors
    /// If the file cannot be read back.
    pub fn check_all_pieces(&self) -> Result<Option<Vec<Range<u64>>>, StoreError> {
        self.hold_against_pieces(&(0..self.size()), |_| None)
    }

    fn hold_against_pieces<'a>(
        &self,
        place: &Range<u64>,
        at_hand: impl Fn(&Range<u64>) -> Option<&'a [u8]>,
    ) -> Result<Option<Vec<Range<u64>>>, StoreError> {
        let mut wrong = vec![];
        let Some((pieces, open)) = lock(&self.coming.chunks).open_pieces(place) else { return Ok(None) };
        for index in open {
            let place = pieces.place(index);
            let (handle, epoch) = {
                let state = lock(&self.coming.chunks);
                (Arc::clone(&state.handle), state.epoch)
            };
            let fits = match at_hand(&place) {
                Some(bytes) => pieces.fits(index, bytes),
                None => {
                    let fail = |error| self.shared().home.fault(&file_name(&self.coming.key), error);
                    let mut prover = pieces.prover(index);
                    for start in place.clone().step_by(STEP_BYTES) {
                        let step = start..place.end.min(start + STEP_BYTES as u64);
                        prover.update(&read(&self.shared().buffers, &handle, &step).map_err(fail)?);
                    }
                    prover.fits()
                }
            };
            let mut state = lock(&self.coming.chunks);
            // What was taken away meanwhile is looked at when it has come again.
            if state.epoch != epoch {
                continue;
            }
            match state.pieces.as_mut().filter(|now| Arc::ptr_eq(&now.pieces, &pieces)) {
                Some(now) if fits => now.right[index] = true,
                Some(_) => wrong.push(place),
                None => return Ok(None),
            }
        }
        Ok(Some(wrong))
    }
}

impl Chunks {
    fn open_pieces(&self, place: &Range<u64>) -> Option<(Arc<Pieces>, Vec<usize>)> {
        let piecewise = self.pieces.as_ref()?;
        Some((Arc::clone(&piecewise.pieces), piecewise.open(place, |chunk| self.tree.get(chunk).is_some())))
    }
}
