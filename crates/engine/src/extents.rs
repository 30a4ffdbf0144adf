//! Which extents of a shared file this node reads from the origin, and when.
//!
//! Invariant: what a live partner has declared, and delivers, is not taken.

use std::ops::Range;
use std::time::Duration;

use larder_content::NodeId;

use crate::partner::Partner;
use crate::runs::Runs;
use crate::share::{SILENCE, Share, Surroundings};
use crate::{Time, readers};

/// The most extents that a partner may say it reads.
const MOST_READ: u64 = 32;
/// How often it is looked whether nobody began something.
pub(crate) const SCAN: Duration = Duration::from_millis(100);

impl Share {
    pub(crate) fn extents(&self) -> u64 {
        self.count.div_ceil(self.extent)
    }

    fn run_of(&self, extent: u64) -> Range<u64> {
        extent * self.extent..((extent + 1) * self.extent).min(self.count)
    }

    /// The chunks of an extent that wait for the origin: those that no partner has, or, with `all`, any that wait.
    fn wants(&self, extent: u64, waiting: &Runs, all: bool) -> Option<Range<u64>> {
        let Range { start: mut at, end } = self.run_of(extent);
        while let Some(run) = waiting.from(at).filter(|run| run.start < end) {
            let run = run.start..run.end.min(end);
            if all {
                return Some(run);
            }
            if let Some(start) = run.clone().find(|chunk| self.available(*chunk) == 0) {
                let stop = (start..run.end).find(|chunk| self.available(*chunk) > 0).unwrap_or(run.end);
                return Some(start..stop);
            }
            at = run.end;
        }
        None
    }

    /// The first waiting chunks that this node is to read from the origin itself.
    pub(crate) fn next_of_origin(&self, waiting: &Runs, asking: bool) -> Option<Range<u64>> {
        let needed = |all| move |extent: &u64| self.wants(*extent, waiting, all);
        let spare = self.spare.iter().find_map(needed(true)).filter(|_| self.extra > 0);
        let open = || if asking { None } else { self.mine.iter().find_map(needed(true)) };
        self.mine.iter().find_map(needed(self.repairs)).or(spare).or_else(open)
    }

    /// Takes the extents that are this node's to read as long as it may read more, and gives up those that are done.
    pub(crate) fn take_extents(&mut self, around: &Surroundings<'_>, reads: &[Range<u64>]) {
        let (waiting, now) = (around.waiting, around.now);
        let (extent, count) = (self.extent, self.mine.len());
        let under_way = |number: &u64| reads.iter().any(|read| read.start / extent <= *number && *number < read.end.div_ceil(extent));
        let waits = |number: &u64| waiting.meets(&(number * extent..(number + 1) * extent));
        self.mine.retain(|number| waits(number) || under_way(number));
        self.spare.retain(waits);
        self.undeclared |= self.mine.len() != count;
        // For all files of a group together: a chunk of each of many would come late of a slow origin, and pass for one that does not.
        let is_alone = self.fetchers().next().is_none() && !self.ramps(now);
        let others = if self.whole || self.repairs || is_alone { 0 } else { around.others };
        let mut free = self.at_once.saturating_sub(self.extra + others) + self.extra.min(self.at_once);
        free = free.saturating_sub(reads.len());
        let ready =
            self.mine.iter().filter_map(|extent| self.wants(*extent, waiting, self.repairs)).map(|run| run.end - run.start).sum::<u64>();
        free = free.saturating_sub(usize::try_from(ready.div_ceil(self.range_chunks.min(self.extent))).unwrap_or(usize::MAX));
        if free == 0 || waiting.is_empty() {
            self.idle_since = None;
            return;
        }
        if now < self.scan_at {
            return;
        }
        while free > 0 {
            if self.begun + others as u64 >= self.most_begun(now) {
                return;
            }
            let Some(extent) = self.next_extent(around) else { break };
            self.mine.insert(extent);
            self.undeclared = true;
            self.begun += 1;
            free -= 1;
        }
        if free == 0 {
            self.idle_since = None;
        } else {
            self.scan_at = now + SCAN;
            self.idle_since.get_or_insert(now);
            if self.extra > 0 {
                let mut extents: Vec<u64> = (0..self.extents())
                    .filter(|extent| !self.mine.contains(extent) && self.wants(*extent, waiting, true).is_some())
                    .collect();
                extents.sort_by_key(|extent| readers::rank(self.key, self.me, *extent));
                self.spare.extend(extents.into_iter().take(free));
            }
        }
    }

    /// Whether something of an extent waits for the origin, and nobody reads it; with `all`, also what partners have.
    pub(crate) fn is_free(&self, extent: u64, waiting: &Runs, all: bool) -> bool {
        let run = self.run_of(extent);
        let read = |partner: &Partner| partner.live && !partner.stuck && partner.reading.meets(&run);
        !self.mine.contains(&extent) && self.wants(extent, waiting, all).is_some() && !self.partners.values().any(read)
    }

    /// The next extent that this node is to read, if there is one now.
    fn next_extent(&mut self, around: &Surroundings<'_>) -> Option<u64> {
        let (waiting, now) = (around.waiting, around.now);
        if self.repairs {
            // What the others have and read is what is in doubt.
            let mut extents = 0..self.extents();
            return extents.find(|extent| !self.mine.contains(extent) && self.wants(*extent, waiting, true).is_some());
        }
        let mut nodes: Vec<NodeId> = self.fetchers().collect();
        let crowd = !nodes.is_empty();
        // What nobody has taken yet is enough for the others: more would only wait here. Unless they take nothing.
        let takes = |partner: &Partner| partner.live && partner.complete.is_none() && !partner.silent;
        if self.partners.values().any(takes) && self.extra == 0 && self.only_mine > self.extent {
            return None;
        }
        if self.shares_by_ring(crowd, now) {
            return self.next_in_crowd(around);
        }
        nodes.push(self.me);
        nodes.sort_unstable();
        if self.assigned.0 != nodes {
            self.assigned = (nodes.clone(), readers::assign(self.key, self.extents(), &nodes));
        }
        let all = !around.asking && !crowd;
        let own = |extent: &u64| self.assigned.1.get(usize::try_from(*extent).unwrap_or(usize::MAX)) == Some(&self.me);
        let mut candidates = (0..self.extents()).filter(|extent| self.is_free(*extent, waiting, all)).peekable();
        candidates.peek()?;
        if !crowd {
            // From the start, so that the proof follows; but where others may begin at the same time, first where nobody else does.
            return if self.ramps(now) {
                candidates.min_by_key(|extent| readers::rank(self.key, self.me, *extent))
            } else {
                candidates.next()
            };
        }
        let candidates: Vec<u64> = candidates.collect();
        let by_rank = |extent: &&u64| readers::rank(self.key, self.me, **extent);
        // From the start, so that all come to the same parts of the file at the same time, and their proofs follow.
        if let Some(extent) = candidates.iter().find(|extent| own(extent)) {
            return Some(*extent);
        }
        let idle = now.saturating_sub(*self.idle_since.get_or_insert(now));
        let turn = |extent: &&u64| {
            let mine = readers::rank(self.key, self.me, **extent);
            let before = nodes.iter().filter(|node| readers::rank(self.key, **node, **extent) < mine).count();
            self.extra > 0 || idle >= around.stagger * u32::try_from(before + 1).unwrap_or(u32::MAX)
        };
        candidates.iter().filter(turn).min_by_key(by_rank).copied()
    }

    /// What this node declares to read.
    pub(crate) fn declared(&self) -> Vec<Range<u64>> {
        let mut runs = Runs::default();
        self.mine.iter().for_each(|extent| runs.insert(self.run_of(*extent)));
        runs.iter().collect()
    }

    /// A partner declares what it reads. Gives the extents that this node leaves to it.
    pub(crate) fn declares(&mut self, node: NodeId, runs: Vec<Range<u64>>, now: Time) -> Vec<Range<u64>> {
        let Some(partner) = self.partners.get_mut(&node) else { return Vec::new() };
        let mut reading = Runs::default();
        // Nobody reads more at once, and what is said to be read is left alone.
        let mut left = MOST_READ * self.extent;
        for run in runs {
            let run = run.start..run.end.min(self.count).min(run.start.saturating_add(left));
            left -= run.end.saturating_sub(run.start);
            reading.insert(run);
        }
        partner.reads(reading, now);
        if self.repairs || now >= partner.delivery.silent_at(SILENCE, SILENCE * 4) {
            return Vec::new();
        }
        let both = |extent: &u64| self.partners[&node].reading.meets(&self.run_of(*extent));
        let left: Vec<u64> =
            self.mine.iter().copied().filter(both).filter(|extent| readers::goes_before(self.key, *extent, node, self.me)).collect();
        self.leaves(left)
    }

    /// Leaves extents that it had taken to others; gives their chunks.
    pub(crate) fn leaves(&mut self, extents: Vec<u64>) -> Vec<Range<u64>> {
        for extent in &extents {
            self.mine.remove(extent);
            self.undeclared = true;
            self.begun -= 1;
        }
        extents.into_iter().map(|extent| self.run_of(extent)).collect()
    }
}
