//! How fast the files of one purpose come together, and how many reads the origin adds when that is slower than the job's patience.
//!
//! They share one line, so that none of them says by itself whether they come in time.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::link::Rate;
use crate::{GroupId, Time};

/// How often it is judged.
pub(crate) const JUDGED: Duration = Duration::from_millis(500);
/// What it may take beyond patience to find the peers, and to find out that they are of no use.
const FIND_OUT: Duration = Duration::from_secs(2);
/// The part of the time that a job may take below which the origin helps less.
const ENOUGH: f64 = 0.8;
/// What an origin that was not measured may bring, bytes a second: 500 Mbit/s, as fast as lines of hosts are.
pub(crate) const FASTEST: f64 = 62.5e6;
/// How many reads find that out: some origins give each of them no more than a part.
const PROBES: usize = 4;
/// How much of a job is left when it is still worth to find out how fast its origin is.
const WORTH: f64 = 60.0;

/// Bytes a second that one purpose would get straight from its origin.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Straight {
    pub(crate) rate: f64,
    /// The most that it may be, if that is only assumed.
    pub(crate) may_be: Option<f64>,
}

/// The paces of all groups that have files.
#[derive(Debug, Default)]
pub(crate) struct Paces(BTreeMap<GroupId, Pace>);

/// How fast one group's files come.
#[derive(Debug)]
pub(crate) struct Pace {
    files: usize,
    began: Time,
    /// What all its files were missing when they were wanted.
    bytes: u64,
    rate: Rate,
    judged_at: Time,
    /// Reads from origins beyond each node's share, and how many of them its files have.
    extra: usize,
    given: usize,
    /// Whether it is worth to find out how fast its origin is.
    probes: bool,
}

impl Paces {
    /// Counts one more file, of which `bytes` are missing.
    pub(crate) fn join(&mut self, group: GroupId, bytes: u64, now: Time) {
        let fresh = || Pace { files: 0, began: now, bytes: 0, rate: Rate::default(), judged_at: now, extra: 0, given: 0, probes: false };
        let pace = self.0.entry(group).or_insert_with(fresh);
        pace.files += 1;
        pace.bytes = pace.bytes.saturating_add(bytes);
    }

    /// Counts one file less, which had so many of the extra reads.
    pub(crate) fn leave(&mut self, group: GroupId, extra: usize) {
        let Some(pace) = self.0.get_mut(&group) else { return };
        (pace.files, pace.given) = (pace.files - 1, pace.given - extra);
        if pace.files == 0 {
            self.0.remove(&group);
        }
    }

    pub(crate) fn brought(&mut self, group: GroupId, bytes: u64, now: Time) {
        if let Some(pace) = self.0.get_mut(&group) {
            pace.rate.add(bytes, now);
        }
    }

    /// The node itself was stopped: that nothing came meanwhile says nothing.
    pub(crate) fn slept(&mut self) {
        self.0.values_mut().for_each(|pace| pace.rate.idle());
    }

    /// The pace of a group, if it is to be judged, and the number of groups that share the line.
    pub(crate) fn due(&mut self, group: GroupId, now: Time) -> Option<(&mut Pace, usize)> {
        let groups = self.0.len();
        self.0.get_mut(&group).filter(|pace| now >= pace.judged_at + JUDGED).map(|pace| (pace, groups))
    }

    /// How many of the extra reads a file has from now on, which had `before`.
    pub(crate) fn share_out(&mut self, group: GroupId, before: usize, most: usize) -> usize {
        let Some(pace) = self.0.get_mut(&group) else { return 0 };
        let others = pace.given - before;
        let extra = pace.extra.saturating_sub(others).min(most);
        pace.given = others + extra;
        extra
    }

    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Pace {
    /// How fast its origin is, is not to be found out: the reads that did so end.
    pub(crate) fn finds_out_nothing(&mut self) {
        if std::mem::take(&mut self.probes) {
            self.extra = 0;
        }
    }

    /// Sees whether `left` bytes, the rest, come within `patience` times what all of it takes straight from the origin.
    ///
    /// How fast an origin is that was only assumed is found out by some reads, once the job is too slow for it, or may be.
    pub(crate) fn judge(&mut self, patience: f64, straight: Straight, left: u64, most: usize, now: Time) {
        self.judged_at = now;
        let may_take = |rate| patience * self.bytes as f64 / rate + FIND_OUT.as_secs_f64();
        // Before anything came, peers may be as fast as the origin: then it helps when it must.
        let rate = if self.rate.bytes_per_second > 0.0 { self.rate.lately(now) } else { straight.rate };
        let (took, rest_takes) = (now.saturating_sub(self.began), left as f64 / rate);
        let takes = took.as_secs_f64() + rest_takes;
        if let Some(may_be) = straight.may_be
            && took >= FIND_OUT
            && self.rate.bytes_per_second > 0.0
        {
            self.probes |= takes > may_take(if rest_takes > WORTH { may_be } else { straight.rate });
        }
        if takes > may_take(straight.rate) {
            self.extra = (self.extra * 2).clamp(1, most);
        } else if self.probes && straight.may_be.is_some() {
            self.extra = self.extra.max(PROBES.min(most));
        } else if takes < may_take(straight.rate) * ENOUGH {
            self.extra /= 2;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_that_find_out_how_fast_an_origin_is_end_when_that_is_not_to_be_found_out() {
        let (group, second) = (GroupId(1), Duration::from_secs(1));
        let mut paces = Paces::default();
        paces.join(group, 1_000_000_000, Time::ZERO);
        for step in 1..=30 {
            paces.brought(group, 100_000, second * step / 10);
        }
        let (pace, _) = paces.due(group, second * 3).unwrap();
        pace.judge(1.0, Straight { rate: 0.9e6, may_be: Some(FASTEST) }, 997_000_000, 16, second * 3);
        assert_eq!((pace.probes, pace.extra), (true, PROBES));
        pace.finds_out_nothing();
        pace.judge(1.0, Straight { rate: 0.9e6, may_be: None }, 997_000_000, 16, second * 4);
        assert_eq!((pace.probes, pace.extra), (false, 0));
    }
}
