//! Which chunks of a file a partner has: a bit each, so that no partner can make it grow.

use std::ops::Range;

use crate::runs::Runs;
use crate::waiting::Waiting;

/// A set of the chunks of one file.
#[derive(Debug, Clone)]
pub(crate) struct Chunks {
    words: Vec<u64>,
    count: u64,
}

const BITS: u64 = u64::BITS as u64;

fn place(chunk: u64) -> (usize, u64) {
    (usize::try_from(chunk / BITS).unwrap_or(usize::MAX), 1 << (chunk % BITS))
}

impl Chunks {
    /// None of `count` chunks.
    pub(crate) fn none(count: u64) -> Self {
        Self { words: vec![0; usize::try_from(count.div_ceil(BITS)).unwrap_or_default()], count }
    }

    pub(crate) fn contains(&self, chunk: u64) -> bool {
        let (word, bit) = place(chunk);
        chunk < self.count && self.words.get(word).is_some_and(|word| word & bit != 0)
    }

    /// How many there are.
    pub(crate) fn len(&self) -> u64 {
        self.words.iter().map(|word| u64::from(word.count_ones())).sum()
    }

    /// Adds those of a run that exist, and gives those that are new.
    pub(crate) fn insert(&mut self, run: Range<u64>) -> Vec<Range<u64>> {
        self.change(run, true)
    }

    /// Takes a run away, and gives those that were there.
    pub(crate) fn remove(&mut self, run: Range<u64>) -> Vec<Range<u64>> {
        self.change(run, false)
    }

    fn change(&mut self, run: Range<u64>, there: bool) -> Vec<Range<u64>> {
        let end = run.end.min(self.count);
        let (mut at, mut changed) = (run.start, Vec::new());
        while let Some(start) = self.first(at, !there).filter(|start| *start < end) {
            let stop = self.first(start, there).unwrap_or(end).min(end);
            for chunk in start..stop {
                let (word, bit) = place(chunk);
                if let Some(word) = self.words.get_mut(word) {
                    if there { *word |= bit } else { *word &= !bit }
                }
            }
            changed.push(start..stop);
            at = stop;
        }
        changed
    }

    /// The first from `from` on that is there, or is not.
    fn first(&self, from: u64, there: bool) -> Option<u64> {
        let (first, _) = place(from);
        let wanted = |word: u64| if there { word } else { !word };
        let word = wanted(*self.words.get(first)?) & (u64::MAX << (from % BITS));
        if word != 0 {
            return Some(from - from % BITS + u64::from(word.trailing_zeros()));
        }
        let rest = self.words.get(first + 1..)?;
        let (skipped, word) = (0u64..).zip(rest).find(|(_, word)| wanted(**word) != 0)?;
        Some((from / BITS + 1 + skipped) * BITS + u64::from(wanted(*word).trailing_zeros()))
    }

    /// All of it.
    pub(crate) fn runs(&self) -> Runs {
        let mut runs = Runs::default();
        let mut at = 0;
        while let Some(start) = self.first(at, true) {
            at = self.first(start, false).unwrap_or(self.count).min(self.count);
            runs.insert(start..at);
        }
        runs
    }

    /// The first run from `from` on, of at most `most` chunks, that is both here and waiting.
    pub(crate) fn shared_with(&self, waiting: &Waiting, from: u64, most: u64) -> Option<Range<u64>> {
        let start = self.first_of_both(waiting.bits(), from)?;
        let end = waiting.from(start)?.end.min(start.saturating_add(most.max(1)));
        Some(start..self.first(start, false).map_or(end, |gap| gap.min(end)))
    }

    /// Whether any chunk is in both.
    pub(crate) fn meets(&self, others: &Self) -> bool {
        self.words.iter().zip(&others.words).any(|(one, other)| one & other != 0)
    }

    /// Whether any chunk is in both and not in `except`.
    pub(crate) fn meets_but(&self, others: &Self, except: &Self) -> bool {
        let both = self.words.iter().zip(&others.words);
        both.zip(&except.words).any(|((one, other), except)| one & other & !except != 0)
    }

    /// Those of a run that exist are there from now on, or are not.
    pub(crate) fn set(&mut self, run: Range<u64>, there: bool) {
        let (mut at, end) = (run.start, run.end.min(self.count));
        while at < end {
            let stop = end.min((at / BITS + 1) * BITS);
            let mask = u64::MAX >> (BITS - (stop - at)) << (at % BITS);
            if let Some(word) = self.words.get_mut(place(at).0) {
                if there { *word |= mask } else { *word &= !mask }
            }
            at = stop;
        }
    }

    /// The first from `from` on that is in both.
    fn first_of_both(&self, others: &Self, from: u64) -> Option<u64> {
        let (first, _) = place(from);
        let mut words = (from / BITS..).zip(self.words.get(first..)?.iter().zip(others.words.get(first..)?));
        let beyond = u64::MAX << (from % BITS);
        let (at, word) = words.find_map(|(at, (one, other))| {
            let word = one & other & if at == from / BITS { beyond } else { u64::MAX };
            (word != 0).then_some((at, word))
        })?;
        Some(at * BITS + u64::from(word.trailing_zeros()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn they_are_what_a_plain_set_is(turns in proptest::collection::vec((any::<bool>(), 0u64..300, 0u64..90), 1..20), from in 0u64..300) {
            let (mut chunks, mut plain) = (Chunks::none(250), std::collections::BTreeSet::new());
            for (insert, start, length) in turns {
                let run = start..start + length;
                let expected: Vec<u64> = run.clone().filter(|chunk| *chunk < 250 && plain.contains(chunk) != insert).collect();
                let changed = if insert { chunks.insert(run) } else { chunks.remove(run) };
                if insert {
                    plain.extend(&expected);
                } else {
                    plain.retain(|chunk| !expected.contains(chunk));
                }
                prop_assert_eq!(changed.into_iter().flatten().collect::<Vec<_>>(), expected);
                prop_assert_eq!(chunks.len(), plain.len() as u64);
                prop_assert_eq!(chunks.runs().iter().flatten().collect::<Vec<_>>(), plain.iter().copied().collect::<Vec<_>>());
            }
            let mut runs = Waiting::none(250);
            [3..70, 100..101, 128..220].into_iter().for_each(|run| runs.insert(run));
            let both: Vec<u64> = plain.iter().copied().filter(|chunk| *chunk >= from && runs.contains(*chunk)).collect();
            prop_assert_eq!(chunks.shared_with(&runs, from, u64::MAX).map(|run| run.start), both.first().copied());
            let found = chunks.shared_with(&runs, from, 8);
            prop_assert_eq!(found.as_ref().map(|run| run.start), both.first().copied());
            if let Some(run) = found {
                prop_assert!(run.clone().all(|chunk| both.contains(&chunk)) && run.end - run.start <= 8);
                prop_assert!(run.end - run.start == 8 || !both.contains(&run.end));
            }
        }
    }
}
