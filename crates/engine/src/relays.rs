//! What one node alone has goes to a few others first, who pass it on; and while it has such, its line is for nothing else.
//!
//! Else all would wait on that one's line, however slow it is, for the same chunks, or for what they can have of others. Rules of this
//! node for itself: who sees the crowd in another way asks a little sooner or later.

use std::ops::Range;
use std::time::Duration;

use crate::link::Link;
use crate::partner::Partner;
use crate::share::Share;
use crate::{Time, readers};

/// To how many nodes a chunk that only one has goes first, and how long the others wait at most until one of them has it.
const RELAYS: usize = 4;
const RELAYED: Duration = Duration::from_secs(10);
/// The most chunks that are known to be new: what is older counts as known long.
const MOST_NEW: usize = 1024;

impl Share {
    /// A partner has chunks that it had not: of those that nobody else has, some nodes are first.
    pub(crate) fn has_news(&mut self, runs: &[Range<u64>], now: Time) {
        for chunk in runs.iter().cloned().flatten() {
            if self.available(chunk) == 1 && !self.had.contains(chunk) {
                self.new.insert(chunk..chunk + 1);
                self.news.push_back((now, chunk));
            }
        }
        self.forget_news(now);
    }

    /// What is known for long is for all.
    pub(crate) fn forget_news(&mut self, now: Time) {
        let is_old = |(since, _): &(Time, u64)| now.saturating_sub(*since) >= RELAYED;
        while self.news.len() > MOST_NEW || self.news.front().is_some_and(is_old) {
            let old = self.news.pop_front();
            old.into_iter().for_each(|(_, chunk)| drop(self.new.remove(chunk..chunk + 1)));
        }
    }

    /// Whether a partner is to be asked for that only which few others have.
    pub(crate) fn is_kept_for_rare(&self, partner: &Partner, link: &Link) -> bool {
        !self.has_holder && (partner.has.meets(&self.new) || link.has_enough())
    }

    /// Whether this node is to ask for a chunk now.
    pub(crate) fn is_to_ask(&self, chunk: u64) -> bool {
        let nodes = &self.assigned.0;
        let relays = || nodes.binary_search(&self.me).is_ok_and(|me| readers::is_relay(self.key, chunk, me, nodes.len(), RELAYS));
        self.has_holder || self.available(chunk) != 1 || !self.new.contains(chunk) || nodes.len() <= RELAYS || relays()
    }
}
