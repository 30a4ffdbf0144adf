//! What is still to be read of one file, and how its reads have gone.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::time::Duration;

use larder_content::ChunkLayout;

use crate::chunks::Chunks;
use crate::doubt::Doubt;
use crate::share::Share;
use crate::waiting::Waiting;
use crate::{Config, GroupId, OriginId, Read, ReadId, Time};

/// The longest wait after reads that break off, half as much more or less: an origin that is back is not left alone for long.
pub(crate) const LONGEST_WAIT: Duration = Duration::from_secs(8);

/// After how long what was asked of a peer is late.
const LATE: Duration = Duration::from_secs(3);

/// A file that is being fetched.
#[derive(Debug)]
pub(crate) struct WantedFile {
    pub(crate) layout: ChunkLayout,
    /// How many files were wanted before it.
    pub(crate) number: u64,
    /// The chunks that are neither in the store nor being read.
    pub(crate) waiting: Waiting,
    /// Reads from the origin under way.
    pub(crate) reading: usize,
    /// The chunks that peers were asked for and have not brought.
    pub(crate) asked: Chunks,
    /// The reads from peers under way that are to bring them.
    pub(crate) asking: BTreeSet<ReadId>,
    /// What of it is not proven yet.
    pub(crate) doubt: Doubt,
    pub(crate) origin: OriginId,
    pub(crate) group: GroupId,
    pub(crate) place: Place,
    /// Whether its origin serves it only whole.
    pub(crate) whole: bool,
    /// If so, the chunk up to which all are had, although each read begins at the first.
    reached: u64,
    /// Times in a row that reads broke off without a chunk in between.
    failures: u32,
    /// No read begins before.
    retry_at: Time,
    /// Since when its origin has said nothing but that it is busy.
    busy_since: Option<Time>,
    /// What it has to do with peers.
    pub(crate) share: Option<Box<Share>>,
    /// How many of its extents count as taken by this node, in its group.
    pub(crate) taken: usize,
    /// When that is looked at next.
    pub(crate) review_at: Option<Time>,
}

/// Where a file stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// Nothing of it waits, or as much of it is being read at once as may be.
    Aside,
    /// It is read when its turn comes.
    Ready,
    /// Reads broke off: it is left alone until then.
    Resting(Time),
}

impl WantedFile {
    pub(crate) fn new(number: u64, layout: ChunkLayout, missing: Vec<Range<u64>>, origin: OriginId, group: GroupId) -> Self {
        let mut file = Self {
            layout,
            number,
            waiting: Waiting::none(layout.count()),
            asked: Chunks::none(layout.count()),
            reading: 0,
            asking: BTreeSet::new(),
            doubt: Doubt::default(),
            origin,
            group,
            place: Place::Aside,
            whole: false,
            reached: 0,
            failures: 0,
            retry_at: Time::ZERO,
            busy_since: None,
            share: None,
            taken: 0,
            review_at: None,
        };
        missing.into_iter().for_each(|run| file.put_back(run));
        file
    }

    pub(crate) fn is_complete(&self) -> bool {
        self.waiting.is_empty() && self.reading == 0 && self.asking.is_empty()
    }

    /// The chunk from which on one who has these is asked for nothing, since what comes before must be proven first.
    /// What others are long in bringing holds nobody back.
    pub(crate) fn front(&self, has: &Chunks, reads: &BTreeMap<ReadId, Read>, now: Time) -> u64 {
        let fresh = |read: &&Read| now.saturating_sub(read.began) < LATE;
        let asked = || self.asking.iter().filter_map(|id| reads.get(id)).filter(fresh).map(|read| read.chunks.start).min();
        let waiting = || has.shared_with(&self.waiting, 0, 1).map(|run| run.start);
        self.doubt.front(|| asked().into_iter().chain(waiting()).min().unwrap_or(u64::MAX))
    }

    /// How many bytes these chunks have.
    pub(crate) fn bytes(&self, chunks: &Range<u64>) -> u64 {
        let bytes = self.layout.bytes(chunks.start, chunks.end);
        bytes.end - bytes.start
    }

    /// Where it is to stand.
    pub(crate) fn belongs(&self, config: &Config, now: Time) -> Place {
        let shared = self.share.as_ref().filter(|_| !self.whole).map(|share| share.at_once);
        let most = if self.whole { 1 } else { shared.unwrap_or(config.reads_per_file).min(config.reads_per_file) };
        if self.reading >= most || self.next_of_origin().is_none() {
            Place::Aside
        } else if self.retry_at > now {
            Place::Resting(self.retry_at)
        } else {
            Place::Ready
        }
    }

    /// Whether it is not shared, or a peer has all of it, so that nobody reads it for others.
    pub(crate) fn is_warm(&self) -> bool {
        self.share.as_deref().is_none_or(|share| share.has_holder)
    }

    /// The first waiting chunks that this node is to read from the origin itself.
    fn next_of_origin(&self) -> Option<Range<u64>> {
        match self.share.as_ref().filter(|_| !self.whole) {
            Some(share) => share.next_of_origin(&self.waiting, !self.asking.is_empty()),
            None => self.waiting.from(0),
        }
    }

    /// Takes waiting chunks for a read from the origin: at most `most`, or the whole file if its origin serves only that.
    pub(crate) fn take(&mut self, most: u64) -> Option<Range<u64>> {
        let Range { start: first, end } = self.next_of_origin()?;
        if self.whole {
            self.waiting.clear();
            self.reached = self.reached.max(first);
            return Some(0..self.layout.count());
        }
        let most = self.share.as_ref().map_or(most, |share| share.range_chunks.min(most));
        let run = first..end.min(first.saturating_add(most.max(1)));
        self.waiting.remove(run.clone());
        Some(run)
    }

    /// Makes chunks that are not had wait again.
    pub(crate) fn put_back(&mut self, chunks: Range<u64>) {
        self.waiting.insert(chunks.start.max(self.reached)..chunks.end.min(self.layout.count()));
    }

    /// Notes that a read has come to chunk `end`. Only a chunk that was not had before is progress.
    pub(crate) fn arrived(&mut self, end: u64) {
        if self.whole {
            if end <= self.reached {
                return;
            }
            self.reached = end;
        }
        self.failures = 0;
        self.busy_since = None;
    }

    /// Notes that a read that began at `began` broke off; tells whether that was once too often.
    ///
    /// Reads that run side by side break together: they count once.
    pub(crate) fn broke(&mut self, config: &Config, began: Time, now: Time, spread: f64) -> bool {
        if began < self.retry_at {
            return false;
        }
        self.failures += 1;
        let wait = config.first_wait.saturating_mul(2u32.saturating_pow(self.failures - 1)).min(LONGEST_WAIT).mul_f64(spread);
        self.retry_at = now.saturating_add(wait);
        self.failures > config.failures
    }

    /// Notes that the origin is busy, and for how much longer if it said; tells whether that is too long.
    pub(crate) fn was_refused_for_now(&mut self, config: &Config, now: Time, after: Option<Duration>) -> bool {
        let since = *self.busy_since.get_or_insert(now);
        now.saturating_add(after.unwrap_or_default()).saturating_sub(since) > config.busy
    }
}
