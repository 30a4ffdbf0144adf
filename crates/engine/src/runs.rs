//! Sets of chunks, kept as runs that do not touch.

use std::collections::BTreeMap;
use std::ops::Range;

/// A set of chunks: from the first of each run to, not with, its end.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Runs(BTreeMap<u64, u64>);

impl Runs {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = Range<u64>> + '_ {
        self.0.iter().map(|(start, end)| *start..*end)
    }

    pub(crate) fn chunks(&self) -> u64 {
        self.iter().map(|run| run.end - run.start).sum()
    }

    /// Adds a run, joined to its neighbours.
    pub(crate) fn insert(&mut self, run: Range<u64>) {
        let Range { mut start, mut end } = run;
        if start >= end {
            return;
        }
        if let Some((before, before_end)) = self.0.range(..start).next_back().map(|(first, end)| (*first, *end))
            && before_end >= start
        {
            self.0.remove(&before);
            start = before;
            end = end.max(before_end);
        }
        while let Some((after, after_end)) = self.0.range(start..=end).next().map(|(first, end)| (*first, *end)) {
            self.0.remove(&after);
            end = end.max(after_end);
        }
        self.0.insert(start, end);
    }

    /// Takes a run away.
    pub(crate) fn remove(&mut self, run: Range<u64>) {
        if run.start >= run.end {
            return;
        }
        if let Some((first, end)) = self.0.range(..run.start).next_back().map(|(first, end)| (*first, *end))
            && end > run.start
        {
            self.0.insert(first, run.start);
            if end > run.end {
                self.0.insert(run.end, end);
            }
        }
        while let Some((first, end)) = self.0.range(run.start..run.end).next().map(|(first, end)| (*first, *end)) {
            self.0.remove(&first);
            if end > run.end {
                self.0.insert(run.end, end);
            }
        }
    }

    pub(crate) fn contains(&self, chunk: u64) -> bool {
        self.0.range(..=chunk).next_back().is_some_and(|(_, end)| *end > chunk)
    }

    /// Whether any of these chunks is there.
    pub(crate) fn meets(&self, run: &Range<u64>) -> bool {
        self.from(run.start).is_some_and(|first| first.start < run.end)
    }

    /// What there is of the first run that reaches `from` or comes after it.
    pub(crate) fn from(&self, from: u64) -> Option<Range<u64>> {
        if let Some((_, end)) = self.0.range(..=from).next_back()
            && *end > from
        {
            return Some(from..*end);
        }
        self.0.range(from..).next().map(|(start, end)| *start..*end)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn runs_are_what_a_plain_set_is(turns in proptest::collection::vec((any::<bool>(), 0u64..60, 0u64..12), 1..60), at in 0u64..70) {
            let (mut runs, mut plain) = (Runs::default(), std::collections::BTreeSet::new());
            for (insert, start, length) in turns {
                let run = start..start + length;
                if insert {
                    plain.extend(run.clone());
                    runs.insert(run);
                } else {
                    plain.retain(|chunk| !run.contains(chunk));
                    runs.remove(run);
                }
                prop_assert_eq!(runs.iter().flatten().collect::<Vec<_>>(), plain.iter().copied().collect::<Vec<_>>());
                prop_assert!(runs.iter().zip(runs.iter().skip(1)).all(|(one, next)| one.end < next.start));
            }
            prop_assert_eq!(runs.contains(at), plain.contains(&at));
            prop_assert_eq!(runs.from(at).map(|run| run.start), plain.range(at..).next().copied());
            prop_assert_eq!(runs.chunks(), plain.len() as u64);
        }
    }
}
