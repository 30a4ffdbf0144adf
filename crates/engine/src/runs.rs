//! Sets of chunks, kept as runs that do not touch.

use std::ops::Range;

/// A set of chunks: from the first of each run to, not with, its end; in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Runs(Vec<(u64, u64)>);

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
        let Range { start, end } = run;
        if start >= end {
            return;
        }
        let (first, last) = (self.0.partition_point(|run| run.1 < start), self.0.partition_point(|run| run.0 <= end));
        let touched = self.0.get(first..last).unwrap_or_default();
        let (Some((first_start, _)), Some((_, last_end))) = (touched.first(), touched.last()) else {
            return self.0.insert(first, (start, end));
        };
        let joined = (start.min(*first_start), end.max(*last_end));
        self.0.splice(first..last, [joined]);
    }

    /// Takes a run away.
    pub(crate) fn remove(&mut self, run: Range<u64>) {
        let Range { start, end } = run;
        if start >= end {
            return;
        }
        let (first, last) = (self.0.partition_point(|run| run.1 <= start), self.0.partition_point(|run| run.0 < end));
        let met = self.0.get(first..last).unwrap_or_default();
        let (Some((first_start, _)), Some((_, last_end))) = (met.first(), met.last()) else { return };
        let (before, after) = ((*first_start, start), (end, *last_end));
        self.0.splice(first..last, [before, after].into_iter().filter(|(start, end)| start < end));
    }

    pub(crate) fn contains(&self, chunk: u64) -> bool {
        self.tail(chunk).first().is_some_and(|(start, _)| *start <= chunk)
    }

    /// Whether any of these chunks is there.
    pub(crate) fn meets(&self, run: &Range<u64>) -> bool {
        self.from(run.start).is_some_and(|first| first.start < run.end)
    }

    /// What there is of the first run that reaches `from` or comes after it.
    pub(crate) fn from(&self, from: u64) -> Option<Range<u64>> {
        self.tail(from).first().map(|(start, end)| from.max(*start)..*end)
    }

    /// The runs that reach `from` or come after it.
    pub(crate) fn tail(&self, from: u64) -> &[(u64, u64)] {
        let (_, tail) = self.0.split_at(self.0.partition_point(|(_, end)| *end <= from));
        tail
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
