//! A peer as its deliveries show it: how fast it is, how much to ask of it at once, and whether it can be relied on.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use larder_content::{CHUNK_BYTES, FileKey};

use crate::partner::HOPE;
use crate::{Config, GroupId, Time};

/// How long a rate is measured before it counts.
const MEASURE: Duration = Duration::from_millis(200);
/// How much of the peer's delivery is asked for ahead.
const AHEAD: Duration = Duration::from_millis(500);
/// The fewest and the most bytes that are asked of one peer at once.
const WINDOW: std::ops::RangeInclusive<u64> = 2 * CHUNK_BYTES..=256 * CHUNK_BYTES;
/// In what time half of a pause is forgotten.
const FORGETS: Duration = Duration::from_secs(10);
/// What may be on its way although nothing of it is reported: chunks of an origin are written four at a time, but for the first and slow ones.
const AT_ONCE: u64 = 4 * CHUNK_BYTES;
/// After how long without bytes a rate is what came since.
const STALE: Duration = Duration::from_secs(1);
/// The longest that a peer is left alone after stalls.
const LONGEST_REST: Duration = Duration::from_secs(300);

/// Bytes a second, over the time that something was under way.
#[derive(Debug, Clone, Default)]
pub(crate) struct Rate {
    /// 0 until it was measured.
    pub(crate) bytes_per_second: f64,
    bytes: u64,
    /// Since when something is under way, and until when it was seen to move.
    since: Option<Time>,
    moved: Time,
    /// The time before that in which something was.
    before: Duration,
}

impl Rate {
    /// Something is under way from `now` on, if it was not before.
    pub(crate) fn busy(&mut self, now: Time) {
        self.since.get_or_insert(now);
    }

    /// Nothing is under way any more.
    pub(crate) fn idle(&mut self) {
        if let Some(since) = self.since.take() {
            self.before += self.moved.saturating_sub(since);
        }
    }

    /// Whether nothing moved for so long.
    pub(crate) fn is_still_since(&self, long: Duration, now: Time) -> bool {
        now.saturating_sub(self.moved) > long
    }

    /// What so many reads under way bring at most, if that can be told.
    pub(crate) fn at_most(&self, reads: usize, now: Time) -> f64 {
        let time = self.before + self.since.map_or(Duration::ZERO, |since| now.saturating_sub(since));
        if time < STALE { f64::INFINITY } else { (self.bytes + reads as u64 * CHUNK_BYTES) as f64 / time.as_secs_f64() }
    }

    /// The rate, or what is left of it if less has come since it was measured.
    pub(crate) fn lately(&self, now: Time) -> f64 {
        let time = self.before + self.since.map_or(Duration::ZERO, |since| now.saturating_sub(since));
        if time < STALE {
            return self.bytes_per_second;
        }
        self.bytes_per_second.min((self.bytes + AT_ONCE) as f64 / time.as_secs_f64())
    }

    pub(crate) fn add(&mut self, bytes: u64, now: Time) {
        self.add_over(MEASURE, bytes, now);
    }

    /// The same, measured over so long.
    pub(crate) fn add_over(&mut self, measure: Duration, bytes: u64, now: Time) {
        self.bytes += bytes;
        let since = *self.since.get_or_insert(now);
        self.moved = now;
        let time = self.before + now.saturating_sub(since);
        if time < measure {
            return;
        }
        let found = self.bytes as f64 / time.as_secs_f64();
        self.bytes_per_second = if self.bytes_per_second == 0.0 { found } else { 0.6 * self.bytes_per_second + 0.4 * found };
        (self.since, self.before, self.bytes) = (Some(now), Duration::ZERO, 0);
    }
}

/// Signs of life, and how long there was none between them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Pulse {
    last: Time,
    /// The longest pause of late: half of it is forgotten every [`FORGETS`].
    pause: Duration,
}

impl Pulse {
    /// It starts to be felt.
    pub(crate) fn start(&mut self, now: Time) {
        self.last = now;
    }

    /// A sign of life.
    pub(crate) fn beat(&mut self, now: Time) {
        let pause = now.saturating_sub(self.last);
        let left = 0.5f64.powf(pause.as_secs_f64() / FORGETS.as_secs_f64());
        self.pause = pause.max(self.pause.mul_f64(left));
        self.last = now;
    }

    pub(crate) fn last(&self) -> Time {
        self.last
    }

    /// When it will have been silent for longer than `usual`, and than it ever is, on a busy line or processor; at the latest after `most`.
    pub(crate) fn silent_at(&self, usual: Duration, most: Duration) -> Time {
        self.last.saturating_add((self.pause * 3).clamp(usual, most.max(usual)))
    }
}

/// One peer of one market.
#[derive(Debug, Clone, Default)]
pub(crate) struct Link {
    pub(crate) rate: Rate,
    /// Bytes that it was asked for and that have not come.
    pub(crate) asked: u64,
    /// The files of which it was not asked for more because it was asked for enough; their groups take turns.
    waiting: BTreeMap<GroupId, VecDeque<FileKey>>,
    /// That which began to wait last, if it waits still.
    waits_last: Option<FileKey>,
    /// The group of what it was asked for last.
    pub(crate) turn: Option<GroupId>,
    /// Bytes that came from it, or the first that were asked for.
    pub(crate) pulse: Pulse,
    /// When the last whole chunk came, or the first was asked for.
    chunk: Time,
    /// How long it would take until its turn if all that this node asked for came in turn, when it was asked last.
    turn_takes: Duration,
    /// When it said last that it has more.
    said: Time,
    /// It is not relied on before.
    pub(crate) rests_until: Time,
    stalls_in_a_row: u32,
    pub(crate) record: Record,
}

/// What is remembered of a peer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Record {
    /// Verified bytes that it sent.
    pub verified_bytes: u64,
    /// Times that it sent what was not what it should have been.
    pub failures: u64,
    /// Times that it sent nothing for too long.
    pub stalls: u64,
}

impl Link {
    pub(crate) fn is_usable(&self, now: Time) -> bool {
        self.rests_until <= now
    }

    /// Whether it may be asked for more.
    pub(crate) fn has_room(&self, now: Time) -> bool {
        self.is_usable(now) && self.asked < self.window()
    }

    /// How long a chunk takes its line, if that is longer than what is asked ahead.
    pub(crate) fn slow_chunk(&self) -> Option<Duration> {
        self.chunk_takes().filter(|takes| *takes >= AHEAD)
    }

    fn chunk_takes(&self) -> Option<Duration> {
        let rate = self.rate.bytes_per_second;
        (rate > 0.0).then(|| Duration::from_secs_f64(CHUNK_BYTES as f64 / rate.max(1.0)))
    }

    /// Whether it brought something of late, so that it is to be hoped for although it rests or is busy.
    pub(crate) fn is_hopeful(&self, now: Time) -> bool {
        self.record.verified_bytes > 0 && !self.is_doubtful() && now.saturating_sub(self.pulse.last()) < HOPE
    }

    /// A file waits until it may be asked for more.
    pub(crate) fn waits(&mut self, group: GroupId, file: FileKey) {
        if !self.is_waited_for(group, file) {
            self.waiting.entry(group).or_default().push_back(file);
        }
        self.waits_last = Some(file);
    }

    pub(crate) fn files_waiting(&self) -> usize {
        self.waiting.values().map(VecDeque::len).sum()
    }

    /// Whether a file waits.
    pub(crate) fn is_waited_for(&self, group: GroupId, file: FileKey) -> bool {
        self.waits_last == Some(file) || self.waiting.get(&group).is_some_and(|files| files.contains(&file))
    }

    /// The waiting file whose turn it is after that of a group; it waits no more.
    pub(crate) fn next_waiting(&mut self, turn: &mut Option<GroupId>) -> Option<FileKey> {
        let after = self.waiting.keys().find(|group| Some(**group) > *turn);
        let group = *after.or_else(|| self.waiting.keys().next())?;
        let files = self.waiting.get_mut(&group)?;
        let next = files.pop_front();
        self.waits_last = self.waits_last.filter(|last| Some(*last) != next);
        if files.is_empty() {
            self.waiting.remove(&group);
        }
        *turn = Some(group);
        next
    }

    /// It is asked for more; all that this node has asked for takes its line so long.
    pub(crate) fn asked_for(&mut self, group: GroupId, bytes: u64, turn_takes: Duration, now: Time) {
        self.turn = Some(group);
        self.turn_takes = turn_takes;
        if self.asked == 0 {
            self.start(now);
        }
        self.asked += bytes;
        self.rate.busy(now);
    }

    /// Whatever it did before, it has time from now on.
    pub(crate) fn start(&mut self, now: Time) {
        self.pulse.start(now);
        self.chunk = now;
    }

    /// Bytes that were asked for came, or will not come.
    pub(crate) fn settled(&mut self, bytes: u64) {
        debug_assert!(bytes <= self.asked, "{bytes} bytes settle {}", self.asked);
        self.asked = self.asked.saturating_sub(bytes);
        if self.asked == 0 {
            self.rate.idle();
        }
    }

    pub(crate) fn brought(&mut self, bytes: u64, now: Time) {
        self.pulse.beat(now);
        self.chunk = now;
        self.stalls_in_a_row = 0;
        self.record.verified_bytes += bytes;
        self.rate.add(bytes, now);
    }

    /// It says that it has more: it lives, so that what it sends may only be held up.
    pub(crate) fn says_more(&mut self, now: Time) {
        self.said = now;
    }

    /// When it will have sent nothing of what it was asked for too long, or no whole chunk for much longer.
    pub(crate) fn stalls_at(&self, config: &Config) -> Option<Time> {
        let silent = self.pulse.silent_at(self.patience(config), config.peer_stall * 4);
        // For words it is waited twice as long, and no longer.
        let talking = (self.said + config.peer_stall).min(self.pulse.last() + config.peer_stall * 2);
        (self.asked > 0).then(|| silent.max(talking).min(self.chunk.saturating_add(config.longest_chunk)))
    }

    /// How long it may be silent at least: one that sends to many at once sends to each what its line has left for that, in gusts, and what a gust
    /// brings passes for its rate. One that stalled has little of such credit.
    fn patience(&self, config: &Config) -> Duration {
        let of_rate = self.chunk_takes().unwrap_or_default().saturating_mul(2);
        let stall = config.peer_stall;
        if self.is_doubtful() {
            return of_rate.clamp(stall, stall * 2);
        }
        // A rate is known once there were some chunks.
        let most = if self.record.verified_bytes >= 4 * CHUNK_BYTES { stall * 8 } else { stall * 4 };
        self.turn_takes.saturating_mul(2).min(stall * 4).max(of_rate.clamp(stall, most))
    }

    /// Before when that cannot be, whatever it sends or says until then.
    pub(crate) fn stalls_from(&self, config: &Config) -> Option<Time> {
        (self.asked > 0).then(|| (self.pulse.last() + self.patience(config)).min(self.chunk + config.longest_chunk))
    }

    /// Whether it stalled and has sent nothing since: it is tried again, and nothing is left to it.
    pub(crate) fn is_doubtful(&self) -> bool {
        self.stalls_in_a_row > 0
    }

    /// Whether it stalled again and again: what it says is no sign of life then.
    pub(crate) fn only_talks(&self) -> bool {
        self.stalls_in_a_row > 1
    }

    /// Leaves it alone for a while, the longer the more often it stalled.
    pub(crate) fn stalled(&mut self, config: &Config, now: Time, spread: f64) {
        self.record.stalls += 1;
        self.waiting.clear();
        self.waits_last = None;
        let rest = (config.peer_stall * 2).saturating_mul(2u32.saturating_pow(self.stalls_in_a_row)).min(LONGEST_REST);
        self.stalls_in_a_row += 1;
        self.rests_until = now.saturating_add(rest.mul_f64(spread));
    }

    /// How many bytes it may be asked for at once: the question that reaches that is the last.
    fn window(&self) -> u64 {
        if self.is_doubtful() {
            return 1;
        }
        let ahead = self.rate.bytes_per_second * AHEAD.as_secs_f64();
        // A float becomes the nearest number there is.
        (ahead as u64).clamp(*WINDOW.start(), *WINDOW.end())
    }

    /// How many chunks to ask for in one go: an eighth of a second's delivery, so that what it holds up can move elsewhere.
    pub(crate) fn run(&self) -> u64 {
        (self.window() / CHUNK_BYTES / 4).clamp(1, 16)
    }

    /// How long it takes, as far as its rate tells, until so many bytes more have come.
    pub(crate) fn time_for(&self, more: u64) -> Duration {
        let rate = if self.rate.bytes_per_second > 0.0 { self.rate.bytes_per_second } else { 1e6 };
        Duration::from_secs_f64((self.asked + more) as f64 / rate.max(1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_of_many_who_share_a_slow_line_has_the_time_of_its_turn_and_eight_seconds_at_most() {
        let (config, second) = (Config::default(), Duration::from_secs(1));
        let asked = |turn_takes| {
            let mut link = Link::default();
            link.asked_for(GroupId(0), CHUNK_BYTES, turn_takes, second);
            link
        };
        let stalls_at = |link: &Link| link.stalls_at(&config).unwrap();
        assert_eq!(stalls_at(&asked(Duration::ZERO)), second * 3);
        assert_eq!(stalls_at(&asked(second * 3)), second * 7);
        let mut link = asked(second * 60);
        assert_eq!(stalls_at(&link), second * 9);
        assert!(link.stalls_from(&config) <= link.stalls_at(&config));
        // After a long pause, no longer.
        link.pulse.beat(second * 8);
        assert_eq!(stalls_at(&link), second * 16);
        link.stalled(&config, second * 16, 1.0);
        link.asked_for(GroupId(0), CHUNK_BYTES, second * 60, second * 20);
        link.pulse = Pulse::default();
        link.start(second * 20);
        assert_eq!(stalls_at(&link), second * 22);
    }

    #[test]
    fn one_that_is_known_to_be_slow_has_the_time_of_two_chunks_and_little_once_it_stalled() {
        let (config, second) = (Config::default(), Duration::from_secs(1));
        let of_rate = |bytes_per_second| {
            let mut link = Link::default();
            (link.rate.bytes_per_second, link.record.verified_bytes) = (bytes_per_second, 4 * CHUNK_BYTES);
            link.asked_for(GroupId(0), CHUNK_BYTES, Duration::ZERO, second);
            link
        };
        let stalls_at = |link: &Link| link.stalls_at(&config).unwrap();
        assert_eq!(stalls_at(&of_rate(CHUNK_BYTES as f64 / 6.0)), second * 13);
        assert_eq!(stalls_at(&of_rate(1.0)), second * 17);
        let mut hardly_known = of_rate(1.0);
        hardly_known.record.verified_bytes = 3 * CHUNK_BYTES;
        assert_eq!(stalls_at(&hardly_known), second * 9);
        let mut stalled = of_rate(1.0);
        stalled.stalled(&config, second, 1.0);
        assert_eq!(stalls_at(&stalled), second * 5);
    }
}
