//! One file as the nodes that fetch it together see it: who has what, who reads what from the origin, what this node reads.
//!
//! Each chunk of the file comes from one of three: a *complete* partner (the file is warm), a partner that is fetching it too,
//! or the origin. The origin is read by extents:
//!
//! | who is there | what this node reads from the origin |
//! |---|---|
//! | a complete partner that answers | nothing |
//! | partners that fetch it | the extents that are its own by [`readers::assign`]; when those are done, what nobody began |
//! | nobody | everything, at first from where its rank is |
//!
//! Invariants: an extent is declared before it is read; of what a live partner declared nothing is read, unless the job's patience
//! is over.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Range;
use std::time::Duration;

use larder_content::{CHUNK_BYTES, FileKey, NodeId};

use crate::chunks::Chunks;
use crate::content::{Content, Oaths};
use crate::extents::SCAN;
use crate::link::Rate;
use crate::partner::{Partner, Record};
use crate::ring::Ring;
use crate::runs::Runs;
use crate::waiting::Waiting;
use crate::{MarketId, Sharing, Time, readers};

/// How long a node that was sighted may take to answer before it no longer counts.
pub(crate) const ANSWER: Duration = Duration::from_secs(2);
/// How long a reader may deliver nothing, at least, before its extents may be read by others.
pub(crate) const SILENCE: Duration = Duration::from_secs(2);
/// The longest that a reader may deliver nothing before others read in its place.
const SLOWEST: Duration = Duration::from_secs(30);
/// How long a node in a market takes until it reads all that it may: another that began at the same time is heard of by then.
pub(crate) const RAMP: Duration = Duration::from_millis(750);
/// Ranges of the origin that all who fetch one file have under way together.
const RANGES: usize = 16;
/// The most chunks of one read when others fetch the file too: what is lost when it turns out that another reads them.
const SHARED_RANGE_CHUNKS: u64 = 16;

/// One file, shared.
#[derive(Debug)]
pub(crate) struct Share {
    pub(crate) key: FileKey,
    pub(crate) market: MarketId,
    pub(crate) me: NodeId,
    pub(crate) whole: bool,
    pub(crate) patience: Option<f64>,
    /// Since when it is looked for.
    pub(crate) began: Time,
    /// Until when those who are said to have all of it are waited for.
    answers_until: Time,
    pub(crate) company: bool,
    pub(crate) count: u64,
    pub(crate) extent: u64,
    pub(crate) partners: BTreeMap<NodeId, Partner>,
    pub(crate) ring: Ring,
    /// Whether more are at it than this node shares it with.
    pub(crate) is_crowd: bool,
    /// How long readers take of late to have more of what they read.
    pub(crate) readers_take: Option<Duration>,
    /// Since when there is nothing to ask of partners, in a crowd.
    pub(crate) starves_since: Option<Time>,
    /// Those that are no partners any more, whatever they say: they had not what they said they have.
    pub(crate) outcasts: BTreeSet<NodeId>,
    /// Of those that were partners.
    pub(crate) records: BTreeMap<NodeId, Record>,
    pub(crate) content: Content,
    pub(crate) oaths: Oaths,
    /// Since when what came is known to be false: nothing is believed but proven content; and whether it is this node that reads
    /// the file anew, for all.
    pub(crate) repair: Option<Time>,
    pub(crate) repairs: bool,
    /// The chunks that this node has and can vouch for, and those of them that it has not told yet.
    pub(crate) had: Runs,
    pub(crate) untold: Runs,
    /// The chunks of an earlier run, for which it cannot vouch before it knows the content.
    pub(crate) kept: Runs,
    /// How many partners have each chunk.
    availability: Vec<u16>,
    /// What more than one of them has.
    pub(crate) common: Chunks,
    /// Whether a live partner has all.
    pub(crate) has_holder: bool,
    /// What only one partner has since it was heard of, and this node has not; and since when.
    pub(crate) new: Chunks,
    pub(crate) news: VecDeque<(Time, u64)>,
    /// Chunks that this node has and no partner.
    pub(crate) only_mine: u64,
    /// The extents that this node reads from the origin, declared; and those that it reads beside others, out of patience.
    pub(crate) mine: BTreeSet<u64>,
    pub(crate) spare: BTreeSet<u64>,
    /// How many extents it has begun to read.
    pub(crate) begun: u64,
    /// Whether what is declared is not told yet.
    pub(crate) undeclared: bool,
    pub(crate) assigned: (Vec<NodeId>, Vec<NodeId>),
    pub(crate) idle_since: Option<Time>,
    pub(crate) scan_at: Time,
    /// Reads from the origin that may run at once, and the most chunks of each.
    pub(crate) at_once: usize,
    pub(crate) range_chunks: u64,
    /// Reads beyond that, out of patience.
    pub(crate) extra: usize,
    pub(crate) rate: Rate,
    pub(crate) tell_at: Option<Time>,
    /// The origin will not give it.
    pub(crate) hopeless: bool,
    /// Whether its origin gives no parts: it is left alone as long as a partner has all.
    pub(crate) only_whole: bool,
    /// All is had, and is being proven.
    pub(crate) sealing: bool,
}

/// How a partner stands as a peer, whatever the file.
pub(crate) struct Standing {
    /// It may be asked.
    pub(crate) usable: bool,
    /// It stalled, and has sent nothing since.
    pub(crate) doubtful: bool,
    /// It stalls again and again.
    pub(crate) only_talks: bool,
}

/// What all that is shared depends on beyond the file itself.
pub(crate) struct Surroundings<'a> {
    pub(crate) now: Time,
    pub(crate) waiting: &'a Waiting,
    /// Whether reads of this node's own from the origin bring bytes.
    pub(crate) origin_moves: bool,
    /// Until when others may not have tried an origin that was gone.
    pub(crate) others_try_until: Time,
    /// Whether it is being settled if what came is wrong.
    pub(crate) is_settling: bool,
    /// Whether anything is being asked of peers.
    pub(crate) asking: bool,
    /// Extents of other files of the group that this node reads.
    pub(crate) others: usize,
    /// Between those who may take what nobody began: each in its turn, so that they do not take the same.
    pub(crate) stagger: Duration,
}

impl Share {
    pub(crate) fn new(key: FileKey, count: u64, missing: &[Range<u64>], sharing: &Sharing, range_chunks: u64, now: Time) -> Self {
        let Sharing { market, me, patience, whole, known: _, looked, company, samples: _ } = *sharing;
        let mut kept = Runs::default();
        kept.insert(0..count);
        missing.iter().for_each(|run| kept.remove(run.clone()));
        Self {
            key,
            market,
            me,
            whole,
            patience,
            began: now.saturating_sub(looked),
            answers_until: (now + ANSWER).saturating_sub(looked),
            company,
            count,
            extent: readers::extent_chunks(count),
            partners: BTreeMap::new(),
            ring: Ring::new(key, me),
            is_crowd: false,
            readers_take: None,
            starves_since: None,
            outcasts: BTreeSet::new(),
            records: BTreeMap::new(),
            content: Content::Unknown,
            oaths: Oaths::default(),
            repair: None,
            repairs: false,
            only_mine: 0,
            untold: Runs::default(),
            had: Runs::default(),
            kept,
            has_holder: false,
            new: Chunks::none(count),
            news: VecDeque::new(),
            availability: vec![0; usize::try_from(count).unwrap_or_default()],
            common: Chunks::none(count),
            mine: BTreeSet::new(),
            spare: BTreeSet::new(),
            begun: 0,
            undeclared: false,
            assigned: (Vec::new(), Vec::new()),
            idle_since: None,
            scan_at: Time::ZERO,
            at_once: 0,
            range_chunks,
            extra: 0,
            rate: Rate::default(),
            tell_at: None,
            hopeless: false,
            only_whole: false,
            sealing: false,
        }
    }

    /// A partner has chunks; gives those that are new.
    pub(crate) fn gain(&mut self, node: NodeId, runs: &Runs) -> Vec<Range<u64>> {
        let Some(partner) = self.partners.get_mut(&node) else { return Vec::new() };
        let new: Vec<Range<u64>> = runs.iter().flat_map(|run| partner.has.insert(run)).collect();
        if partner.counted {
            self.available_at(&new, true);
        }
        new
    }

    /// A partner has chunks no more.
    pub(crate) fn lose(&mut self, node: NodeId, run: Range<u64>) {
        let Some(partner) = self.partners.get_mut(&node) else { return };
        let gone = partner.has.remove(run);
        if partner.counted {
            self.available_at(&gone, false);
        }
    }

    /// A partner has chunks that do not fit what the file is taken to be: it is not asked for them until that is refuted.
    pub(crate) fn misfits(&mut self, node: NodeId, run: Range<u64>) {
        if let Some(partner) = self.partners.get_mut(&node) {
            partner.misfits.insert(run.clone());
            self.lose(node, run);
        }
    }

    /// Whether a partner's chunks count as available.
    pub(crate) fn count(&mut self, node: NodeId, counts: bool) {
        let Some(partner) = self.partners.get_mut(&node).filter(|partner| partner.counted != counts) else { return };
        partner.counted = counts;
        let has: Vec<Range<u64>> = partner.has.runs().iter().collect();
        self.available_at(&has, counts);
    }

    /// One partner more, or less, has these chunks.
    fn available_at(&mut self, runs: &[Range<u64>], more: bool) {
        for chunk in runs.iter().cloned().flatten() {
            let Some(count) = usize::try_from(chunk).ok().and_then(|place| self.availability.get_mut(place)) else { continue };
            *count = if more { count.saturating_add(1) } else { count.saturating_sub(1) };
            self.common.set(chunk..chunk + 1, *count > 1);
            if *count > 1 {
                self.new.set(chunk..chunk + 1, false);
            }
            if self.had.contains(chunk) {
                match (*count, more) {
                    (1, true) => self.only_mine -= 1,
                    (0, false) => self.only_mine += 1,
                    _ => {}
                }
            }
        }
    }

    /// This node has chunks more.
    pub(crate) fn arrived(&mut self, run: Range<u64>, bytes: u64, now: Time) {
        self.rate.add(bytes, now);
        self.has_now(run);
    }

    pub(crate) fn has_now(&mut self, run: Range<u64>) {
        for chunk in run.clone() {
            if !self.had.contains(chunk) && self.available(chunk) == 0 {
                self.only_mine += 1;
            }
        }
        self.new.set(run.clone(), false);
        self.had.insert(run.clone());
        self.untold.insert(run);
    }

    /// This node has these chunks no more.
    pub(crate) fn gone(&mut self, run: &Range<u64>) {
        for chunk in run.clone() {
            if self.had.contains(chunk) && self.available(chunk) == 0 {
                self.only_mine -= 1;
            }
        }
        self.had.remove(run.clone());
        self.untold.remove(run.clone());
    }

    pub(crate) fn available(&self, chunk: u64) -> u16 {
        usize::try_from(chunk).ok().and_then(|place| self.availability.get(place)).copied().unwrap_or_default()
    }

    /// Whether a live partner has all that is missing, or may say so in a moment: for that a file waits once, when it is wanted.
    fn is_warm(&self, around: &Surroundings<'_>) -> bool {
        let waits = around.now < self.answers_until;
        let brings = |partner: &Partner| around.asking || partner.has.shared_with(around.waiting, 0, 1).is_some();
        let complete = |partner: &Partner| match partner.complete {
            Some(content) => self.is_of_use(content) && brings(partner),
            None => partner.said_complete && !partner.answered && waits,
        };
        self.partners.values().filter(|partner| partner.live && partner.relied_on).any(complete)
    }

    /// Sees who counts, and so how much is read from the origin at once.
    pub(crate) fn look_about(&mut self, stands: impl Fn(NodeId) -> Standing, around: &Surroundings<'_>) {
        let now = around.now;
        let alone = self.partners.len() < 2;
        // What takes this node long takes others long.
        let rate = self.rate.bytes_per_second;
        let own_chunk = if rate > 0.0 { Duration::from_secs_f64(CHUNK_BYTES as f64 / rate.max(1e4)) } else { Duration::ZERO };
        // And each of many sends one to each of the others in turn.
        let others = u32::try_from(self.fetchers().count()).unwrap_or(u32::MAX);
        let silence = SILENCE.max(own_chunk.saturating_mul(others.saturating_mul(2).max(4))).min(SLOWEST);
        let unread = self.unread(silence);
        for (node, partner) in &mut self.partners {
            partner.silent = now >= partner.progress.silent_at(silence, silence * 4);
            // One that is slow to send, but is heard to go on, is still one of those who share the work.
            let goes_on = partner.complete.is_none() && !partner.silent;
            let standing = stands(*node);
            let counts = standing.usable || goes_on && !standing.only_talks;
            partner.relied_on = !standing.doubtful;
            partner.live = counts && (partner.answered || now.saturating_sub(partner.since) < ANSWER);
            // A reader that delivers nothing while the origin does not move for this node either waits for the origin.
            let delivers =
                now < partner.delivery.silent_at(silence, silence * 4).max(partner.delivery.last() + unread).max(around.others_try_until);
            partner.stuck = !delivers && (around.origin_moves || alone || !around.asking);
        }
        let counts: Vec<(NodeId, bool)> =
            self.partners.iter().map(|(node, partner)| (*node, partner.live && partner.complete.is_none())).collect();
        counts.into_iter().for_each(|(node, counts)| self.count(node, counts));
        let brings_all = |partner: &Partner| partner.live && partner.complete.is_some_and(|content| self.is_of_use(content));
        self.has_holder = self.partners.values().any(brings_all);
        self.forget_news(now);
        self.doubt();
        let fetchers = self.fetchers().count();
        let is_known = matches!(self.content, Content::Known(_));
        // That is what is repaired, should it prove false.
        self.repair = self.repair.map(|since| if is_known { now } else { since });
        let base = if self.hopeless || self.is_warm(around) {
            0
        } else if let Some(since) = self.repair.filter(|_| !is_known) {
            self.repairs |= self.is_turn_to_repair(since, now);
            if self.repairs { RANGES } else { 0 }
        } else {
            (RANGES / (fetchers + 1)).max(1)
        };
        self.at_once = if self.hopeless || around.is_settling || self.only_whole && self.has_holder { 0 } else { base + self.extra };
        self.range_chunks = if fetchers > 0 { SHARED_RANGE_CHUNKS } else { u64::MAX };
    }

    /// A reader has more of what it reads, after so long.
    pub(crate) fn readers_take(&mut self, took: Duration) {
        self.readers_take = Some(self.readers_take.map_or(took, |before| (before * 7 + took) / 8));
    }

    /// How long a reader may deliver nothing, at least `silence`: how long it takes is seen by what other readers take. In a crowd many read at
    /// once.
    fn unread(&self, silence: Duration) -> Duration {
        let unknown = if self.is_crowd { SLOWEST } else { silence * 4 };
        self.readers_take.map_or(unknown, |take| (take * 4).min(SLOWEST)).max(silence)
    }

    /// Whether it is for this node to read anew what was false: after a wait for each node that comes before it by rank, a short one
    /// unless someone is seen to read.
    fn is_turn_to_repair(&self, since: Time, now: Time) -> bool {
        let mine = readers::rank(self.key, self.me, u64::MAX);
        let before = self.fetchers().filter(|node| readers::rank(self.key, *node, u64::MAX) < mine).count();
        let before = u32::try_from(before).unwrap_or(u32::MAX);
        let whole = self.count as f64 * CHUNK_BYTES as f64 / self.rate.bytes_per_second.max(1e6);
        let reads = |partner: &Partner| partner.live && !partner.reading.is_empty() && now < partner.spoke + SILENCE * 2;
        let waited = now.saturating_sub(since);
        // That it says so is enough: it holds up the others no longer than the reading takes.
        waited >= (SILENCE + Duration::from_secs_f64(2.0 * whole)).saturating_mul(before)
            || waited >= SILENCE.saturating_mul(before) && !self.partners.values().any(reads)
    }

    /// Whether nothing is to be waited for.
    pub(crate) fn hurries(&self) -> bool {
        self.patience.is_some_and(|patience| patience <= 1.0)
    }

    /// Whether another that began at the same time may not have been heard of yet.
    pub(crate) fn ramps(&self, now: Time) -> bool {
        self.company && !self.hurries() && now < self.began + RAMP
    }

    /// How many extents this node may have begun until then: few at first, since others may begin the same.
    pub(crate) fn most_begun(&self, now: Time) -> u64 {
        let part = now.saturating_sub(self.began).as_secs_f64() / RAMP.as_secs_f64();
        // A float becomes the nearest number there is.
        if self.ramps(now) { 1 + (part * part * RANGES as f64) as u64 } else { u64::MAX }
    }

    /// When the ramp or a turn takes the next step, or the wait for answers is over.
    pub(crate) fn next_step(&self, now: Time) -> Time {
        let next = now
            + if self.at_once > 0 && self.begun >= self.most_begun(now) {
                RAMP / 16
            } else if self.idle_since.is_some() {
                SCAN
            } else {
                Duration::from_millis(500)
            };
        if now < self.answers_until { next.min(self.answers_until) } else { next }
    }
}
