//! The chunks of a file that wait to be read: as runs, and as bits beside those that a partner has.
//!
//! Invariant: both say the same.

use std::ops::{Deref, Range};

use crate::chunks::Chunks;
use crate::runs::Runs;

/// The chunks that are neither in the store nor being read.
#[derive(Debug)]
pub(crate) struct Waiting {
    runs: Runs,
    bits: Chunks,
}

impl Waiting {
    /// None of `count` chunks.
    pub(crate) fn none(count: u64) -> Self {
        Self { runs: Runs::default(), bits: Chunks::none(count) }
    }

    pub(crate) fn bits(&self) -> &Chunks {
        &self.bits
    }

    pub(crate) fn insert(&mut self, run: Range<u64>) {
        self.bits.set(run.clone(), true);
        self.runs.insert(run);
    }

    pub(crate) fn remove(&mut self, run: Range<u64>) {
        self.bits.set(run.clone(), false);
        self.runs.remove(run);
    }

    pub(crate) fn clear(&mut self) {
        self.bits.set(0..u64::MAX, false);
        self.runs.clear();
    }
}

impl Deref for Waiting {
    type Target = Runs;

    fn deref(&self) -> &Runs {
        &self.runs
    }
}
