//! What is still to be read of one file, and how its reads have gone.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use larder_content::ChunkLayout;

use crate::{Config, GroupId, OriginId, Time};

/// A file that is being fetched.
#[derive(Debug)]
pub(crate) struct WantedFile {
    layout: ChunkLayout,
    /// The chunks that are neither in the store nor being read: from their first to, not with, their end.
    pub(crate) waiting: BTreeMap<u64, u64>,
    /// Reads under way.
    pub(crate) reading: usize,
    pub(crate) origin: OriginId,
    pub(crate) group: GroupId,
    /// Whether it stands in its group's queue.
    pub(crate) queued: bool,
    /// Whether its origin serves it only whole.
    pub(crate) whole: bool,
    /// Times in a row that reads broke off without a chunk in between.
    pub(crate) failures: u32,
    /// No read begins before.
    pub(crate) retry_at: Time,
    /// Since when its origin has said nothing but that it is busy.
    pub(crate) busy_since: Option<Time>,
}

impl WantedFile {
    pub(crate) fn new(layout: ChunkLayout, missing: Vec<Range<u64>>, origin: OriginId, group: GroupId) -> Self {
        let mut file = Self {
            layout,
            waiting: BTreeMap::new(),
            reading: 0,
            origin,
            group,
            queued: true,
            whole: false,
            failures: 0,
            retry_at: Time::ZERO,
            busy_since: None,
        };
        missing.into_iter().for_each(|run| file.put_back(run));
        file
    }

    /// Takes the first waiting chunks for a read: at most `most`, or the whole file if its origin serves only that.
    pub(crate) fn take(&mut self, most: u64) -> Option<Range<u64>> {
        if self.whole {
            self.waiting.clear();
            return Some(0..self.layout.count());
        }
        let (first, end) = self.waiting.pop_first()?;
        let cut = end.min(first.saturating_add(most.max(1)));
        if cut < end {
            self.waiting.insert(cut, end);
        }
        Some(first..cut)
    }

    /// Makes chunks wait again, joined to their neighbours.
    pub(crate) fn put_back(&mut self, chunks: Range<u64>) {
        let Range { mut start, mut end } = chunks;
        end = end.min(self.layout.count());
        if start >= end {
            return;
        }
        if let Some((before, before_end)) = self.waiting.range(..start).next_back().map(|(first, end)| (*first, *end))
            && before_end >= start
        {
            self.waiting.remove(&before);
            start = before;
            end = end.max(before_end);
        }
        while let Some((after, after_end)) = self.waiting.range(start..=end).next().map(|(first, end)| (*first, *end)) {
            self.waiting.remove(&after);
            end = end.max(after_end);
        }
        self.waiting.insert(start, end);
    }

    /// Notes that a read broke off; tells whether that was once too often.
    ///
    /// Reads that run side by side break together: within one wait they count once.
    pub(crate) fn broke(&mut self, config: &Config, now: Time, spread: f64) -> bool {
        if now < self.retry_at {
            return false;
        }
        self.failures += 1;
        self.retry_at = now + config.first_wait.mul_f64(f64::from(2u32.saturating_pow(self.failures - 1)) * spread);
        self.failures > config.failures
    }

    /// Notes that the origin is busy, and for how much longer if it said; tells whether that is too long.
    pub(crate) fn was_refused_for_now(&mut self, config: &Config, now: Time, after: Option<Duration>) -> bool {
        let since = *self.busy_since.get_or_insert(now);
        (now + after.unwrap_or_default()).saturating_sub(since) > config.busy
    }
}
