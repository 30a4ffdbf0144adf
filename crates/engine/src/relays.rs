//! What one node alone has goes to a few others first, who pass it on; and while one with a slow line has such, that is for nothing else.
//!
//! Else all would wait on that one's line, however slow it is, for the same chunks, or for what they can have of others. Rules of this
//! node for itself: who sees the crowd in another way asks a little sooner or later.

use std::ops::Range;
use std::time::Duration;

use crate::file::WantedFile;
use crate::link::Link;
use crate::partner::Partner;
use crate::share::Share;
use crate::{Time, readers};

/// To how many nodes a chunk that only one has goes first.
const RELAYS: usize = 4;
/// The same in a crowd, on average: that it goes to none must be rare.
const RELAYS_IN_CROWD: u64 = 8;
/// How long the others wait until one of them has it: as long as readers of late take for four chunks, between these. Who gives up too soon has
/// the one send it to all.
const LEAST_RELAYED: Duration = Duration::from_secs(10);
const MOST_RELAYED: Duration = Duration::from_secs(30);
/// How long a partner that is kept for what it alone has sends this node nothing before it is asked for something else: as long as it takes for four
/// chunks, between these.
const LEAST_OPENED: Duration = Duration::from_secs(5);
const MOST_OPENED: Duration = Duration::from_secs(15);
/// The most chunks that are known to be new: what is older counts as known long.
const MOST_NEW: usize = 1024;

impl Share {
    /// A partner has chunks that it had not: of those that nobody else has, some nodes are first.
    pub(crate) fn has_news(&mut self, runs: &[Range<u64>], now: Time) {
        for chunk in runs.iter().cloned().flatten() {
            if self.available(chunk) == 1 && !self.new.insert(chunk..chunk + 1).is_empty() {
                self.news.push_back((now, chunk));
            }
        }
        self.forget_news(now);
    }

    /// What is known for long is for all.
    pub(crate) fn forget_news(&mut self, now: Time) {
        let relayed = self.relayed();
        let is_old = |(since, _): &(Time, u64)| now.saturating_sub(*since) >= relayed;
        while self.news.len() > MOST_NEW || self.news.front().is_some_and(is_old) {
            let old = self.news.pop_front();
            old.into_iter().for_each(|(_, chunk)| drop(self.new.remove(chunk..chunk + 1)));
        }
    }

    /// Whether a partner is asked for nothing but what nobody else has: its line is slow, and has that to send, or something else that this
    /// node asked for. One that has sent nothing for long is asked for anything, since what others say they have they may not give.
    pub(crate) fn is_kept_for_rare(&self, partner: &Partner, link: &Link, file: &WantedFile, now: Time) -> bool {
        let Some(takes) = link.slow_chunk().filter(|_| !self.has_holder) else { return false };
        let relayed = self.relayed();
        let is_new = |(since, _): &&(Time, u64)| now.saturating_sub(*since) < (takes * 4).min(relayed);
        let is_open = |chunk: u64| file.waiting.bits().contains(chunk) || file.asked.contains(chunk);
        let has = |(_, chunk): &(Time, u64)| partner.has.contains(*chunk) && self.new.contains(*chunk) && is_open(*chunk);
        let has_news = || self.news.iter().rev().take_while(is_new).any(has);
        let opened = (takes * 4).clamp(LEAST_OPENED, MOST_OPENED);
        link.asked > 0 || now.saturating_sub(link.pulse.last()) < opened && has_news()
    }

    /// How long it is waited until one of those to whom a chunk went first has it.
    fn relayed(&self) -> Duration {
        self.readers_take.map_or(LEAST_RELAYED, |take| (take * 4).clamp(LEAST_RELAYED, MOST_RELAYED))
    }

    /// Whether this node is to ask for a chunk now.
    pub(crate) fn is_to_ask(&self, chunk: u64) -> bool {
        self.has_holder || self.available(chunk) != 1 || !self.new.contains(chunk) || self.relays(chunk)
    }

    /// Whether this node is one of those to whom a chunk goes first. In a crowd, where none sees all, that is left to chance.
    fn relays(&self, chunk: u64) -> bool {
        if self.is_crowd {
            let each = u64::MAX / (self.partners.len() as u64 + 1);
            return readers::rank(self.key, self.me, chunk) < each.saturating_mul(RELAYS_IN_CROWD);
        }
        let nodes = &self.assigned.0;
        let relays = |me| readers::is_relay(self.key, chunk, me, nodes.len(), RELAYS);
        nodes.len() <= RELAYS || nodes.binary_search(&self.me).is_ok_and(relays)
    }
}

#[cfg(test)]
mod tests {
    use larder_content::{ChunkLayout, FileKey, NodeId};

    use super::*;
    use crate::partner::Met;
    use crate::runs::Runs;
    use crate::{GroupId, MarketId, OriginId, Sharing};

    const SECOND: Duration = Duration::from_secs(1);

    /// A file of 64 chunks that waits for all, a node that has the first eight, and another that has the first four.
    fn shared() -> (Share, WantedFile, [NodeId; 2]) {
        let (layout, nodes) = (ChunkLayout::new(64 * larder_content::CHUNK_BYTES), [NodeId([1; 32]), NodeId([2; 32])]);
        let me = NodeId([3; 32]);
        let (market, known, looked) = (MarketId(0), Vec::new(), Duration::ZERO);
        let with = Sharing { market, me, patience: None, whole: false, known, looked, company: true, samples: false };
        let mut share = Share::new(FileKey([7; 32]), 64, &[0..64], &with, 16, Time::ZERO);
        for (node, has) in nodes.into_iter().zip([8, 4]) {
            share.meet(node, Met::Follows, 64, Time::ZERO);
            share.count(node, true);
            let mut runs = Runs::default();
            runs.insert(0..has);
            let new = share.gain(node, &runs);
            share.has_news(&new, Time::ZERO);
        }
        (share, WantedFile::new(0, layout, vec![0..64], OriginId(0), GroupId(0)), nodes)
    }

    /// A link that brings so many bytes a second.
    fn link(rate: u64) -> Link {
        let mut link = Link::default();
        link.start(Time::ZERO);
        link.rate.add(0, Time::ZERO);
        link.rate.add(rate, SECOND);
        link
    }

    #[test]
    fn a_slow_line_is_for_what_it_alone_has_until_that_is_old_or_it_sends_nothing() {
        let (mut share, file, [alone, other]) = shared();
        let kept = |share: &Share, node: NodeId, link: &Link, at: Time| share.is_kept_for_rare(&share.partners[&node], link, &file, at);
        assert!(kept(&share, alone, &link(200_000), SECOND));
        assert!(!kept(&share, other, &link(200_000), SECOND), "it has nothing alone");
        assert!(!kept(&share, alone, &link(2_000_000), SECOND) && !kept(&share, alone, &Link::default(), SECOND));
        let mut talks = link(50_000);
        assert!(kept(&share, alone, &talks, 9 * SECOND) && !kept(&share, alone, &talks, 11 * SECOND));
        let (mut later, mut runs) = (shared().0, Runs::default());
        runs.insert(8..12);
        let new = later.gain(alone, &runs);
        later.has_news(&new, 10 * SECOND);
        assert!(kept(&later, alone, &talks, 14 * SECOND) && !kept(&later, alone, &talks, 16 * SECOND), "it only talks");
        talks.asked_for(GroupId(0), 1, Duration::ZERO, 6 * SECOND);
        assert!(kept(&share, alone, &talks, 6 * SECOND) && kept(&share, other, &talks, 6 * SECOND));
        let mut slow = link(200_000);
        slow.start(6 * SECOND);
        assert!(!kept(&share, alone, &slow, 6 * SECOND), "it should have sent it to others by now");
        share.arrived(4..8, 0, SECOND);
        assert!(!kept(&share, alone, &link(200_000), SECOND));
    }
}
