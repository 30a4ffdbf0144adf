//! How much one origin bears at once.

use std::time::Duration;

use crate::file::LONGEST_WAIT;
use crate::link::Rate;
use crate::pace::{FASTEST, Straight};
use crate::{Config, Time};

/// The least wait when an origin is busy, whatever it asks: doubled while it stays so.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest wait of that kind.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// How long it is looked how much comes, so that what comes in one go passes for no more than it is.
const SEEN: Duration = Duration::from_millis(1500);

/// After how long nothing seems to be wanted any more.
const LONG_PAUSE: Duration = Duration::from_secs(10);

/// How long others may take to try an origin that was gone: half as much again as the longest wait, and what a read takes to bring something.
const OTHERS_TRY: Duration = LONGEST_WAIT.saturating_add(Duration::from_secs(6));

/// An origin's host, and how much it bears: half as much after each refusal and each round of stalls, one read more after
/// each round that went well.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) reads: Reads,
    /// Those for files of which peers have all. Others are of a crowd that shares the origin, and each the line with all that it takes of the others.
    warm: Reads,
    /// No read begins before.
    pub(crate) closed_until: Time,
    /// Reads that it bears at once, and since when it is known not to bear more.
    most: usize,
    halved_at: Time,
    succeeded: usize,
    pause: Duration,
    /// When bytes of content came from it last.
    pub(crate) heard: Option<Time>,
    /// Times in a row that reads broke off with nothing in between, and when one did last.
    breaks: u32,
    broke_at: Option<Time>,
    /// Until when others may not have tried it since it was gone.
    pub(crate) others_try_until: Time,
}

/// Reads under way, and the most that they brought.
#[derive(Debug, Default)]
pub(crate) struct Reads {
    pub(crate) under_way: usize,
    best: Best,
}

impl Reads {
    fn begins(&mut self, now: Time) {
        self.under_way += 1;
        self.best.over.busy(now);
    }

    fn ends(&mut self) {
        self.under_way -= 1;
        if self.under_way == 0 {
            self.best.over.idle();
        }
    }
}

/// The most bytes a second that something was seen to bring; falls slowly.
#[derive(Debug, Default)]
pub(crate) struct Best {
    over: Rate,
    /// 0 until it was measured.
    rate: f64,
}

impl Best {
    /// The bytes a second that were measured last, if that was before no long pause.
    pub(crate) fn recent(&self, now: Time) -> Option<f64> {
        Some(self.over.bytes_per_second).filter(|rate| *rate > 0.0 && !self.over.is_still_since(LONG_PAUSE, now))
    }

    /// The same as [`Best::add`], where it is not told when something is under way: in a long pause nothing is.
    pub(crate) fn add_but_for_pauses(&mut self, bytes: u64, now: Time) {
        if self.over.is_still_since(LONG_PAUSE, now) {
            self.over.idle();
        }
        self.add(bytes, now);
    }

    /// Bytes of content came.
    pub(crate) fn add(&mut self, bytes: u64, now: Time) {
        self.over.add_over(SEEN, bytes, now);
        self.rate = self.over.bytes_per_second.max(self.rate * 0.9999);
    }
}

impl Source {
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            reads: Reads::default(),
            warm: Reads::default(),
            closed_until: Time::ZERO,
            most: config.reads,
            halved_at: Time::ZERO,
            succeeded: 0,
            pause: FIRST_PAUSE,
            heard: None,
            breaks: 0,
            broke_at: None,
            others_try_until: Time::ZERO,
        }
    }

    pub(crate) fn is_open(&self, now: Time) -> bool {
        self.closed_until <= now && self.reads.under_way < self.most
    }

    /// Closes the origin for as long as it asks and at least for a wait of our own, and halves what is read from it at once.
    ///
    /// Reads that run side by side are refused together: while it is closed, only a longer wait that it asks for counts.
    pub(crate) fn close(&mut self, now: Time, after: Option<Duration>, spread: f64) {
        let mut pause = after.unwrap_or_default();
        if self.closed_until <= now {
            pause = pause.max(self.pause.mul_f64(spread));
            self.pause = (self.pause * 2).min(LONGEST_PAUSE);
            self.halve(now);
        }
        self.closed_until = self.closed_until.max(now.saturating_add(pause));
    }

    /// Notes that a read that began at `began` stalls: reads that run side by side stall together, and count once.
    pub(crate) fn stalled(&mut self, began: Time, now: Time) {
        if began >= self.halved_at {
            self.halve(now);
        }
    }

    /// Notes that a read that began at `began` broke off: reads that run side by side break together, and count once.
    pub(crate) fn broke(&mut self, began: Time, now: Time) {
        if self.broke_at.is_none_or(|at| began > at) {
            self.breaks += 1;
            self.broke_at = Some(now);
        }
        self.others_try(now);
    }

    /// From more than one break in a row on it is gone. Who does not try it any more finds out nothing of it.
    fn others_try(&mut self, now: Time) {
        if self.breaks > 1 {
            self.others_try_until = now.saturating_add(OTHERS_TRY);
        }
    }

    fn halve(&mut self, now: Time) {
        self.most = (self.most / 2).max(1);
        self.halved_at = now;
        self.succeeded = 0;
    }

    /// Bytes of content came of a read of it.
    pub(crate) fn brought(&mut self, bytes: u64, now: Time) {
        self.heard = Some(now);
        self.others_try(now);
        self.breaks = 0;
        self.reads.best.add(bytes, now);
    }

    /// Bytes of content that it has came, of it or of a peer: what takes the line beside a read of it could be its own.
    pub(crate) fn line_brought(&mut self, bytes: u64, now: Time) {
        if self.warm.under_way > 0 {
            self.warm.best.add(bytes, now);
        }
    }

    /// A read of it begins, for a file of which a peer has all or not.
    pub(crate) fn begins(&mut self, is_warm: bool, now: Time) {
        self.reads.begins(now);
        if is_warm {
            self.warm.begins(now);
        }
    }

    /// A read of it is over.
    pub(crate) fn ends(&mut self, was_warm: bool) {
        self.reads.ends();
        if was_warm {
            self.warm.ends();
        }
    }

    /// Bytes a second that this node would get straight from it, as far as its own reads tell, for a file of which a peer has all or not; else
    /// half of the most that its `line` was seen to bring, or what reads that have brought nothing yet can bring at most.
    pub(crate) fn straight(&self, config: &Config, line: &Best, is_warm: bool, now: Time) -> Straight {
        let Reads { under_way, best } = if is_warm { &self.warm } else { &self.reads };
        if best.rate > 0.0 {
            return Straight { rate: best.rate.max(self.reads.best.rate), may_be: None };
        }
        let least = config.assumed_origin_rate.max(line.rate / 2.0).max(self.reads.best.rate);
        Straight { rate: least.min(best.over.at_most(*under_way, now)), may_be: is_warm.then_some(FASTEST) }
    }

    pub(crate) fn succeeded(&mut self, config: &Config) {
        self.pause = FIRST_PAUSE;
        self.succeeded += 1;
        if self.succeeded >= self.most {
            self.succeeded = 0;
            self.most = (self.most + 1).min(config.reads);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn for_warm_files_an_origin_gives_what_the_line_brings_beside_reads_of_such() {
        let (config, second) = (Config::default(), Duration::from_secs(1));
        let mut source = Source::new(&config);
        let play = |source: &mut Source, is_warm, from: u32| {
            source.begins(is_warm, second * from);
            for step in 1..=40 {
                let now = second * from + second * step / 20;
                source.brought(100_000, now);
                // Peers bring nine times as much.
                source.line_brought(1_000_000, now);
            }
            source.ends(is_warm);
        };
        let straight = |source: &Source, is_warm| source.straight(&config, &Best::default(), is_warm, second * 60);
        play(&mut source, false, 0);
        assert!(straight(&source, false).rate < 3e6 && straight(&source, false).may_be.is_none());
        assert!(straight(&source, true).rate == config.assumed_origin_rate && straight(&source, true).may_be.is_some());
        play(&mut source, true, 10);
        assert!(straight(&source, true).rate > 15e6 && straight(&source, true).may_be.is_none());
        assert!(straight(&source, false).rate < 3e6);
    }

    #[test]
    fn what_a_line_brings_is_not_taken_for_slow_because_there_were_pauses() {
        let (mut line, second) = (Best::default(), Duration::from_secs(1));
        for job in 0..10 {
            (0..40).for_each(|step| line.add_but_for_pauses(1_000_000, second * 3600 * job + second * step / 20));
        }
        let end = second * 3600 * 9 + second * 2;
        assert!(line.recent(end).is_some_and(|rate| rate > 15e6), "{:?}", line.recent(end));
        assert_eq!(line.recent(end + LONG_PAUSE + second), None);
    }
}
