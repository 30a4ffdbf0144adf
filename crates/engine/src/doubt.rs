//! How much of a file may be asked of peers before it is proven: little, as long as a list of pieces proves what comes, or may come.
//!
//! So a false binding, whoever swears to it, costs no more than what is in doubt: 1 MiB, or an eighth of what came and was right by
//! then. Pieces that are longer than that, a bucket's parts, are asked for in order: there it costs two parts or three, or that eighth and one, and
//! one more for each chunk that is late or refused.
//! Where no list is to be had, a chunk is read from the origin first, by chance any, of which a false binding would have to know that it is the one:
//! until it is there, 1 MiB may be in doubt, and then all is until the end.

use std::time::Duration;

use larder_content::CHUNK_BYTES;

use crate::Time;

/// What may be in doubt whatever was found to be right.
const LEAST: u64 = 1 << 20;
/// The part of what was found to be right that may be.
const PART: u64 = 8;
/// How long a list is waited for: whoever makes it reads the file once.
const WAIT: Duration = Duration::from_secs(2);
/// The least bytes of a file of which a chunk is read for that: 0.4 % of it. What is smaller is soon read again.
const WORTH_A_SAMPLE: u64 = 64 << 20;
/// How long it is waited until it is settled who is wrong: an origin that cannot tell keeps nobody from reading on.
const SETTLES: Duration = Duration::from_secs(5);

/// What is heard of the pieces of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pieces {
    /// Somebody was asked for their list.
    Asked,
    /// It is there: what comes is held against it before it is reported.
    Listed {
        /// The bytes of the longest piece.
        longest: u64,
    },
    /// It is not to be had.
    Unknown,
    /// What came does not fit it: the origin is asked who is wrong.
    Doubted,
}

/// What is in doubt of one file: all that peers were asked for while the list is awaited, and what they have not brought yet once it is there; of
/// long pieces also what came of those that are not whole.
#[derive(Debug, Clone, Default)]
pub(crate) struct Doubt {
    /// The bytes of the longest piece, if the list is there.
    longest: Option<u64>,
    /// Until when the list is waited for.
    awaited: Option<Time>,
    /// Bytes that peers were asked for before it was there.
    asked: u64,
    /// Bytes that came since it is.
    came: u64,
    /// Until when it is waited who is wrong.
    settles: Option<Time>,
    sample: Sample,
    /// Something was not asked for because too much is in doubt.
    holds_back: bool,
}

/// The chunk that is read to find out whether a content without a list is false.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Sample {
    Unread,
    /// It is waited for until then.
    Reading(Time),
    /// This node has chunks of its own, or cannot get any, or does without.
    #[default]
    Had,
}

impl Doubt {
    /// What is in doubt of a file of so many bytes, of which a chunk may be read first.
    pub(crate) fn new(samples: bool, size: u64) -> Self {
        let sample = if samples && size >= WORTH_A_SAMPLE { Sample::Unread } else { Sample::Had };
        Self { sample, ..Self::default() }
    }

    /// Whether a chunk is to be read from the origin before more is asked for.
    pub(crate) fn wants_sample(&self, now: Time) -> bool {
        self.sample == Sample::Unread && self.is_unlisted(now)
    }

    /// It is being read.
    pub(crate) fn samples(&mut self, now: Time) {
        self.sample = Sample::Reading(now + SETTLES);
    }

    /// The origin gave a chunk, or did not.
    pub(crate) fn sampled(&mut self) {
        self.sample = Sample::Had;
    }

    fn is_unlisted(&self, now: Time) -> bool {
        self.longest.is_none() && self.awaited.is_none_or(|until| now >= until)
    }

    /// Tells whether more may be asked for than before, or less.
    pub(crate) fn heard(&mut self, pieces: Pieces, now: Time) -> bool {
        match pieces {
            Pieces::Asked => {
                self.awaited.get_or_insert(now + WAIT);
            }
            Pieces::Listed { longest } => self.longest = Some(longest),
            Pieces::Unknown => (self.longest, self.awaited, self.settles) = (None, Some(now), None),
            Pieces::Doubted => self.settles = Some(now + SETTLES),
        }
        std::mem::take(&mut self.holds_back) || pieces == Pieces::Doubted
    }

    /// It is settled that what came was wrong.
    pub(crate) fn settled(&mut self) {
        self.settles = None;
    }

    /// Whether it is being settled who is wrong: what is asked of peers until then may be as wrong, and what is read as needless.
    pub(crate) fn is_being_settled(&self, now: Time) -> bool {
        self.settles.is_some_and(|until| now < until)
    }

    /// Whether a list proves what comes.
    pub(crate) fn is_listed(&self, now: Time) -> bool {
        self.longest.is_some() && !self.is_being_settled(now)
    }

    /// Bytes were asked of a peer.
    pub(crate) fn asks(&mut self, bytes: u64) {
        self.asked += if self.longest.is_some() { 0 } else { bytes };
    }

    /// Bytes came. Tells whether something waited for that.
    pub(crate) fn came(&mut self, bytes: u64) -> bool {
        self.came += if self.longest.is_some() { bytes } else { 0 };
        std::mem::take(&mut self.holds_back)
    }

    /// The chunk from which on nothing is asked for, given the first that is missing: of long pieces those are finished first that were begun.
    pub(crate) fn front(&self, first_missing: impl Fn() -> u64) -> u64 {
        let most = |longest: u64| first_missing().saturating_add((2 * longest).max(self.came / PART).div_ceil(CHUNK_BYTES));
        self.longest.filter(|longest| *longest > LEAST).map_or(u64::MAX, most)
    }

    /// Something is beyond the front.
    pub(crate) fn holds_back(&mut self) {
        self.holds_back = true;
    }

    /// Whether so many bytes more may be asked for, while peers have so many to bring.
    pub(crate) fn allows(&mut self, bytes: u64, to_come: impl FnOnce() -> u64, now: Time) -> bool {
        let allows = if self.is_being_settled(now) {
            false
        } else if let Some(longest) = self.longest {
            longest > LEAST || to_come() + bytes <= LEAST.max(self.came / PART)
        } else {
            let waits = matches!(self.sample, Sample::Reading(until) if now < until);
            self.asked + bytes <= LEAST || self.is_unlisted(now) && !waits
        };
        self.holds_back |= !allows;
        allows
    }

    /// When something is waited for no longer that something else waits for.
    pub(crate) fn ends(&self, now: Time) -> Time {
        let list = self.awaited.filter(|_| self.holds_back && self.longest.is_none());
        let sample = if let Sample::Reading(until) = self.sample { Some(until) } else { None };
        list.into_iter()
            .chain(sample.filter(|_| self.holds_back))
            .chain(self.settles)
            .filter(|until| *until > now)
            .min()
            .unwrap_or(Time::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;
    const SECOND: Duration = Duration::from_secs(1);
    const LISTED: Pieces = Pieces::Listed { longest: 128 * 1024 };

    #[test]
    fn little_is_in_doubt_while_pieces_prove_what_comes() {
        let mut doubt = Doubt::default();
        assert!(doubt.allows(100 * MIB, || 0, Time::ZERO), "nothing is known of pieces");
        doubt.heard(Pieces::Asked, Time::ZERO);
        assert!(doubt.allows(MIB, || 0, SECOND) && !doubt.allows(MIB + 1, || 0, SECOND));
        doubt.asks(MIB);
        assert!(!doubt.allows(1, || MIB, SECOND) && !doubt.allows(1, || 0, SECOND), "what came without a list is in doubt, too");
        assert_eq!((doubt.ends(SECOND), doubt.ends(2 * SECOND)), (2 * SECOND, Time::MAX));
        assert!(doubt.allows(100 * MIB, || MIB, 2 * SECOND), "the list is waited for no longer");
        assert!(doubt.heard(LISTED, 3 * SECOND), "what waited may be asked for");
        assert!(!doubt.allows(1, || MIB, 3 * SECOND));
        assert!(doubt.came(MIB), "what waited may be asked for");
        assert!(doubt.allows(MIB, || 0, 3 * SECOND) && !doubt.allows(MIB + 1, || 0, 3 * SECOND));
        doubt.came(79 * MIB);
        assert!(doubt.allows(4 * MIB, || 6 * MIB, 3 * SECOND) && !doubt.allows(4 * MIB + 1, || 6 * MIB, 3 * SECOND));
        doubt.heard(Pieces::Doubted, 3 * SECOND);
        assert!(!doubt.allows(1, || 0, 7 * SECOND) && doubt.is_being_settled(7 * SECOND));
        assert!(doubt.allows(1, || 0, 8 * SECOND), "an origin that does not say who is wrong is waited for");
        doubt.heard(Pieces::Unknown, 8 * SECOND);
        assert!(doubt.allows(100 * MIB, || 20 * MIB, 8 * SECOND));
    }

    #[test]
    fn without_a_list_a_chunk_of_the_origin_comes_before_all_else() {
        let sampling = || Doubt::new(true, 64 * MIB);
        let mut doubt = sampling();
        assert!(doubt.wants_sample(Time::ZERO) && !Doubt::new(true, 63 * MIB).wants_sample(Time::ZERO));
        doubt.samples(Time::ZERO);
        assert!(!doubt.wants_sample(Time::ZERO));
        assert!(doubt.allows(MIB, || 0, SECOND));
        doubt.asks(MIB);
        assert!(!doubt.allows(1, || MIB, SECOND));
        assert_eq!(doubt.ends(SECOND), SETTLES);
        assert!(doubt.clone().allows(100 * MIB, || MIB, SETTLES), "an origin that gives nothing keeps nobody from going on");
        doubt.sampled();
        assert!(doubt.allows(100 * MIB, || MIB, SECOND));
        let mut doubt = sampling();
        doubt.heard(Pieces::Asked, Time::ZERO);
        assert!(!doubt.wants_sample(SECOND) && doubt.wants_sample(2 * SECOND));
        doubt.heard(LISTED, 2 * SECOND);
        assert!(!doubt.wants_sample(2 * SECOND));
    }

    #[test]
    fn long_pieces_are_asked_for_one_after_the_other() {
        let mut doubt = Doubt::default();
        assert_eq!(doubt.front(|| 7), u64::MAX, "nothing is known of pieces");
        doubt.heard(Pieces::Listed { longest: 8 * MIB }, SECOND);
        assert_eq!(doubt.front(|| 7), 7 + 64);
        assert!(doubt.allows(8 * MIB, || 8 * MIB, SECOND));
        doubt.came(800 * MIB);
        assert_eq!(doubt.front(|| 3_200), 3_200 + 400);
    }
}
