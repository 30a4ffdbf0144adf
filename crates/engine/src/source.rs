//! How much one origin bears at once.

use std::time::Duration;

use crate::{Config, Time};

/// The wait where a busy origin does not say how long: doubled while it stays so.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest wait of that kind.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// An origin's host, and how much it bears: half as much after each refusal, one read more after each round that went well.
#[derive(Debug)]
pub(crate) struct Source {
    /// Reads under way.
    pub(crate) reading: usize,
    /// No read begins before.
    pub(crate) closed_until: Time,
    most: usize,
    succeeded: usize,
    pause: Duration,
}

impl Source {
    pub(crate) fn new(config: &Config) -> Self {
        Self { reading: 0, closed_until: Time::ZERO, most: config.reads, succeeded: 0, pause: FIRST_PAUSE }
    }

    pub(crate) fn is_open(&self, now: Time) -> bool {
        self.closed_until <= now && self.reading < self.most
    }

    /// Closes the origin for as long as it asks, and halves what is read from it at once.
    ///
    /// Reads that run side by side are refused together: while it is closed, only a longer wait counts.
    pub(crate) fn close(&mut self, now: Time, after: Option<Duration>, spread: f64) {
        let first = self.closed_until <= now;
        let pause = after.unwrap_or_else(|| self.pause.mul_f64(spread));
        self.closed_until = self.closed_until.max(now + pause);
        if first {
            self.most = (self.most / 2).max(1);
            self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        }
        self.succeeded = 0;
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
