//! A node that holds or fetches a file, as the engine sees it; how such nodes come and go.

use std::ops::Range;
use std::time::Duration;

use larder_content::{ContentId, NodeId};

use crate::Time;
use crate::chunks::Chunks;
use crate::content::Content;
use crate::link::Pulse;
use crate::runs::Runs;
use crate::share::{ANSWER, Share};

/// How long a partner may bring nothing and still is the hope of a file that its origin does not give.
pub(crate) const HOPE: Duration = Duration::from_secs(30);
/// The most nodes that are remembered to be of no use for the file, and of which a record is kept.
const MOST_OUTCASTS: usize = 256;
const MOST_RECORDS: usize = 256;
/// The most refusals in a row. A node that was deceived says no more often that it has nothing, and then what it has.
const MOST_REFUSALS: u32 = 8;

/// A node that holds or fetches the file.
#[derive(Debug)]
pub(crate) struct Partner {
    pub(crate) has: Chunks,
    /// Chunks that it has, but not as the content that the file is taken to be.
    pub(crate) misfits: Runs,
    pub(crate) complete: Option<ContentId>,
    /// The content that it goes by, without proof.
    pub(crate) knows: Option<ContentId>,
    pub(crate) reading: Runs,
    /// Words alone give it no more time before, unless it has delivered something since they last did.
    excused_until: Time,
    has_delivered: bool,
    /// When it was sighted first.
    pub(crate) since: Time,
    pub(crate) answered: bool,
    /// When it said anything last.
    pub(crate) spoke: Time,
    /// Whether it is said to have all, though it has not said so itself.
    pub(crate) said_complete: bool,
    /// Whether it has said that it has nothing of the file, though it fetches what that is part of.
    pub(crate) is_to_come: bool,
    /// Whether it is told what comes.
    pub(crate) follows: bool,
    /// What is new of it, for anyone; and of that, what it said that it reads.
    pub(crate) progress: Pulse,
    pub(crate) delivery: Pulse,
    /// Whether nothing is new of it for long, whether it counts, and whether what it reads is open to others.
    pub(crate) silent: bool,
    pub(crate) live: bool,
    pub(crate) stuck: bool,
    /// Whether the origin is left alone because of it: it has not stalled of late.
    pub(crate) relied_on: bool,
    /// Whether its chunks count as available: it is live, and not complete.
    pub(crate) counted: bool,
    pub(crate) record: Record,
}

/// What is remembered of a node that was a partner, should it come again.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Record {
    /// How often it refused what it was asked for, or had nothing any more, in a row; and when that counted last.
    pub(crate) refusals: u32,
    pub(crate) refused_at: Time,
    /// How often it was excused for that, since it was deceived.
    pub(crate) excused: usize,
    /// How often it was asked for chunk hashes.
    pub(crate) tries: u32,
}

impl Record {
    fn says_something(&self) -> bool {
        self.refusals > 0 || self.excused > 0 || self.tries > 0
    }
}

impl Partner {
    pub(crate) fn new(count: u64, now: Time) -> Self {
        let mut progress = Pulse::default();
        progress.start(now);
        Self {
            has: Chunks::none(count),
            misfits: Runs::default(),
            complete: None,
            knows: None,
            reading: Runs::default(),
            excused_until: now,
            has_delivered: false,
            since: now,
            answered: false,
            spoke: now,
            said_complete: false,
            is_to_come: false,
            follows: false,
            delivery: progress.clone(),
            progress,
            silent: false,
            live: true,
            stuck: false,
            relied_on: true,
            counted: false,
            record: Record::default(),
        }
    }

    /// It says that it reads other chunks than before: it has time to deliver from then on, but not again and again.
    pub(crate) fn reads(&mut self, reading: Runs, now: Time) {
        if self.reading != reading && (now >= self.excused_until || self.has_delivered) {
            self.start(now);
            (self.excused_until, self.has_delivered) = (now + HOPE, false);
        }
        self.reading = reading;
    }

    /// It has time from now on.
    pub(crate) fn start(&mut self, now: Time) {
        self.progress.start(now);
        self.delivery.start(now);
    }

    /// It has chunks that it had not. If it was to read some of them, gives how long they took.
    pub(crate) fn gets_on(&mut self, new: &[Range<u64>], now: Time) -> Option<Duration> {
        self.progress.beat(now);
        if !new.iter().any(|run| self.reading.meets(run)) {
            return None;
        }
        let took = now.saturating_sub(self.delivery.last());
        self.delivery.beat(now);
        self.has_delivered = true;
        Some(took)
    }

    /// Whether it said that it has or reads some of the file.
    pub(crate) fn has_said_something(&self) -> bool {
        self.complete.is_some() || self.has.len() > 0 || !self.reading.is_empty()
    }

    /// Whether nothing has come of it for so long that nothing is to be expected.
    pub(crate) fn stuck_at(&self, now: Time) -> bool {
        now.saturating_sub(self.progress.last()) > HOPE
    }
}

/// How a node comes to be known for a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Met {
    /// It follows.
    Follows,
    /// It is said to fetch it, or to have it.
    IsSaidToFetch,
    IsSaidToHold,
}

impl Share {
    /// Takes note of a partner; tells whether it is new. At most `most` are kept, and neighbours in a crowd: one that never answered makes
    /// room, for one that speaks itself at once.
    pub(crate) fn meet(&mut self, node: NodeId, how: Met, most: usize, now: Time) -> bool {
        if node == self.me || self.outcasts.contains(&node) {
            return false;
        }
        let speaks = how == Met::Follows;
        if how != Met::IsSaidToHold {
            self.ring.sees(node, speaks);
        }
        if self.partners.contains_key(&node) {
            return false;
        }
        if self.partners.len() >= most {
            let waited = |partner: &Partner| now.saturating_sub(partner.since) >= ANSWER || speaks && !partner.said_complete;
            let mute = |partner: &Partner| !partner.answered && waited(partner);
            let mute = self.partners.iter().find(|(_, partner)| mute(partner)).map(|(node, _)| *node);
            if let Some(mute) = mute {
                self.part(mute);
            } else {
                self.is_crowd |= how != Met::IsSaidToHold;
                if !self.lets_in(node, most, now) {
                    return false;
                }
            }
        }
        let record = self.records.remove(&node).unwrap_or_default();
        self.partners.insert(node, Partner { record, ..Partner::new(self.count, now) });
        true
    }

    /// Forgets a partner, but for its record.
    pub(crate) fn part(&mut self, node: NodeId) {
        self.count(node, false);
        if let Some(Partner { record, .. }) = self.partners.remove(&node).filter(|partner| partner.record.says_something()) {
            self.records.insert(node, record);
        }
        if self.records.len() > MOST_RECORDS {
            let least = self.records.iter().min_by_key(|(_, record)| (record.excused, record.refusals)).map(|(node, _)| *node);
            least.and_then(|node| self.records.remove(&node));
        }
        if matches!(self.content, Content::Asked(asked, ..) if asked == node) {
            self.content = Content::Unknown;
        }
    }

    /// Forgets a partner that is not at it any more.
    pub(crate) fn is_gone(&mut self, node: NodeId) {
        self.part(node);
        self.ring.loses(node);
    }

    /// A partner refused what was asked of it, or says that it has nothing any more. Whoever does so again and again has no part in the file any
    /// more, unless it was deceived: then it may come anew.
    pub(crate) fn refuses(&mut self, node: NodeId, now: Time) {
        let Some(partner) = self.partners.get_mut(&node) else { return };
        partner.record.refusals += 1;
        partner.record.refused_at = now;
        if partner.record.refusals <= MOST_REFUSALS {
            return;
        }
        let is_deceived = self.partners.get(&node).is_some_and(|partner| self.is_deceived(partner));
        match self.partners.get_mut(&node).filter(|_| is_deceived) {
            Some(partner) => {
                (partner.record.excused, partner.record.refusals) = (partner.record.excused + 1, 0);
                self.is_gone(node);
            }
            None => self.cast_out(node),
        }
    }

    /// Parts with a node for good.
    pub(crate) fn cast_out(&mut self, node: NodeId) {
        self.is_gone(node);
        if self.outcasts.len() < MOST_OUTCASTS {
            self.outcasts.insert(node);
        }
    }

    /// Those who were said to have all and have not answered in time: each is named once.
    pub(crate) fn mute(&mut self, now: Time) -> Vec<NodeId> {
        let mute = |partner: &mut Partner| partner.said_complete && !partner.answered && now >= partner.since + ANSWER;
        let mute = self.partners.iter_mut().filter_map(|(node, partner)| mute(partner).then_some((node, partner)));
        let name = |(node, partner): (&NodeId, &mut Partner)| {
            partner.said_complete = false;
            *node
        };
        mute.map(name).collect()
    }

    /// Live partners that fetch the file.
    pub(crate) fn fetchers(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.partners.iter().filter(|(_, partner)| partner.live && partner.complete.is_none()).map(|(node, _)| *node)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_delivered_has_time_for_what_it_reads_next_and_who_has_not_gets_none_by_words() {
        let second = Duration::from_secs(1);
        let runs = |run: Range<u64>| {
            let mut runs = Runs::default();
            runs.insert(run);
            runs
        };
        let mut partner = Partner::new(64, Time::ZERO);
        partner.reads(runs(0..8), Time::ZERO);
        assert_eq!(partner.gets_on(&[7..9], second), Some(second));
        assert_eq!(partner.gets_on(&[20..30], 9 * second), None);
        partner.reads(runs(8..16), 10 * second);
        assert_eq!(partner.delivery.last(), 10 * second);
        assert_eq!(partner.gets_on(&[16..20], 11 * second), None);
        partner.reads(runs(30..40), 12 * second);
        assert_eq!(partner.delivery.last(), 10 * second);
    }
}
