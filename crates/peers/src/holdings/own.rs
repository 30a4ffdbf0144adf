//! What this node has announced, and what of it is still to be told.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::time::Duration;

use larder_content::{Holding, Subject};

use super::digest_of;
use super::table::{MOST_ROWS_A_NODE, Row};

/// This node's own holdings. Times are since the market's start.
#[derive(Debug, Default)]
pub(crate) struct Own {
    rows: BTreeMap<Subject, (Holding, Duration)>,
    sum: u64,
    untold: BTreeSet<Subject>,
    is_urgent: bool,
}

impl Own {
    /// Takes an announcement, good until `until`. False if there are too many.
    pub(crate) fn announce(&mut self, subject: Subject, holding: Holding, until: Duration) -> bool {
        if holding == Holding::Gone {
            if self.remove(subject) {
                self.untold.insert(subject);
            }
            return true;
        }
        if self.rows.len() >= MOST_ROWS_A_NODE && !self.rows.contains_key(&subject) {
            return false;
        }
        // Who heard that this node fetches it would else fetch it beside this node, not from it.
        let is_done = self.get(&subject) == Some(Holding::Fetching);
        self.remove(subject);
        self.rows.insert(subject, (holding, until));
        self.sum = self.sum.wrapping_add(digest_of(subject, holding));
        self.untold.insert(subject);
        self.is_urgent |= holding == Holding::Fetching || is_done;
        true
    }

    /// Whether something is to be told without waiting for more.
    pub(crate) fn is_urgent(&self) -> bool {
        self.is_urgent
    }

    /// Up to `most` rows that are to be told, and are told with that.
    pub(crate) fn take_untold(&mut self, most: usize, now: Duration) -> Vec<Row> {
        self.is_urgent = false;
        let mut rows = Vec::new();
        while rows.len() < most
            && let Some(subject) = self.untold.pop_first()
        {
            rows.push(self.row(subject, now));
        }
        rows
    }

    /// Forgets what has run out.
    pub(crate) fn expire(&mut self, now: Duration) {
        let over: Vec<Subject> = self.rows.iter().filter(|(_, (_, until))| *until <= now).map(|(subject, _)| *subject).collect();
        for subject in over {
            self.remove(subject);
        }
    }

    /// Up to `most` rows that come after `last`, or the first.
    pub(crate) fn after(&self, last: Option<Subject>, most: usize, now: Duration) -> Vec<Row> {
        let after = (last.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded);
        self.rows.range(after).take(most).map(|(subject, _)| self.row(*subject, now)).collect()
    }

    /// How this node stands to a subject.
    pub(crate) fn get(&self, subject: &Subject) -> Option<Holding> {
        self.rows.get(subject).map(|(holding, _)| *holding)
    }

    /// The number of rows and what they come to.
    pub(crate) fn digest(&self) -> (u32, u64) {
        (u32::try_from(self.rows.len()).unwrap_or(u32::MAX), self.sum)
    }

    fn row(&self, subject: Subject, now: Duration) -> Row {
        let (holding, until) = self.rows.get(&subject).copied().unwrap_or((Holding::Gone, now));
        Row { subject, holding, expires_in: until.saturating_sub(now) }
    }

    fn remove(&mut self, subject: Subject) -> bool {
        let removed = self.rows.remove(&subject);
        if let Some((holding, _)) = removed {
            self.sum = self.sum.wrapping_sub(digest_of(subject, holding));
        }
        removed.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fetching_is_urgent_and_each_change_is_told_once() {
        let mut own = Own::default();
        let hour = Duration::from_secs(3600);
        assert!(own.announce(Subject([1; 32]), Holding::Complete, hour));
        assert!(!own.is_urgent());
        assert!(own.announce(Subject([2; 32]), Holding::Fetching, hour));
        assert!(own.is_urgent());
        assert_eq!(own.take_untold(10, Duration::ZERO).len(), 2);
        assert!(own.take_untold(10, Duration::ZERO).is_empty());
        assert!(own.announce(Subject([1; 32]), Holding::Gone, hour));
        assert_eq!(own.take_untold(10, Duration::ZERO)[0].holding, Holding::Gone);
        own.expire(hour);
        assert_eq!(own.digest(), (0, 0));
    }
}
