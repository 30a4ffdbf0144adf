//! One node: its engine, what it has, whom it is connected to, and what it counts.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::ops::Range;

use larder_content::{FileMessage, Holding, NodeId};
use larder_engine::{Engine, ReadId, Time};

use super::assumptions::{SPARE_WORDS_A_SECOND, SPARE_WORDS_AT_ONCE, WORDS_A_SECOND, WORDS_AT_ONCE};
use super::server::{Downlink, Server};
use crate::report::Sources;

/// One node.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) id: NodeId,
    /// Whether it does anything, and whether its connections stand though it does not.
    pub(super) alive: bool,
    pub(super) reachable: bool,
    pub(super) lies: bool,
    /// Whether it lies in that it answers nothing.
    pub(super) is_mute: bool,
    pub(super) engine: Engine,
    pub(super) up: Server,
    pub(super) down: Downlink,
    /// The files that it fetches.
    pub(super) active: BTreeMap<u32, Active>,
    /// The files that it has, and the resources, by when they were used last.
    pub(super) blobs: HashSet<u32>,
    pub(super) held: BTreeMap<u32, Time>,
    pub(super) stored: u64,
    pub(super) disk: Option<u64>,
    /// Jobs under way.
    pub(super) jobs: usize,
    pub(super) groups: u64,
    pub(super) reads: BTreeMap<ReadId, Transfer>,
    pub(super) inbox: Vec<Letter>,
    pub(super) wakes_at: Time,
    pub(super) eager_until: Time,
    pub(super) heard_at: Time,
    /// Reads whose next chunk a peer has begun to send.
    pub(super) begun: Vec<ReadId>,
    pub(super) links: Vec<Link>,
    /// What all of its peers may say beyond what each may.
    pub(super) spare_words: Words,
    pub(super) dials: BTreeSet<u32>,
    pub(super) wanted: VecDeque<u32>,
    pub(super) failed: HashMap<u32, (u32, Time)>,
    pub(super) banned: BTreeMap<u32, Time>,
    /// What is to be announced.
    pub(super) untold: Vec<(u32, Holding)>,
    pub(super) tells_at: Time,
    pub(super) counts: Counts,
}

/// What a node counts.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) from: Sources,
    pub(super) served: u64,
    pub(super) control_sent: u64,
    pub(super) control_received: u64,
    pub(super) duplicates: u64,
    pub(super) bans: u64,
    pub(super) by_peer: BTreeMap<u32, u64>,
    /// Connections, times the time that they stood.
    pub(super) link_seconds: f64,
    pub(super) links_counted_at: Time,
    pub(super) left_s: Option<f64>,
}

/// A connection to a peer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Link {
    pub(super) peer: u32,
    /// Whether this node dialled.
    pub(super) is_dialled: bool,
    /// When content moved last, or it was made; none if one side has no room for the other.
    pub(super) used_at: Option<Time>,
    words: Words,
}

/// How many words may go at once, and when that was so.
#[derive(Debug, Clone, Copy)]
pub(super) struct Words {
    level: f32,
    level_at_ms: u32,
}

impl Words {
    /// What all peers of a node together may say beyond what each may.
    pub(super) const SPARE: Self = Self { level: SPARE_WORDS_AT_ONCE, level_at_ms: 0 };

    fn fill(&mut self, a_second: f32, at_once: f32, now: Time) {
        let now_ms = u32::try_from(now.as_millis()).unwrap_or(u32::MAX);
        let passed = now_ms.saturating_sub(self.level_at_ms) as f32 / 1e3;
        (self.level, self.level_at_ms) = ((self.level + passed * a_second).min(at_once), now_ms);
    }

    fn try_take(&mut self) -> bool {
        let can = self.level >= 1.0;
        self.level -= if can { 1.0 } else { 0.0 };
        can
    }
}

impl Link {
    pub(super) fn new(peer: u32, is_dialled: bool, now: Time) -> Self {
        Self { peer, is_dialled, used_at: Some(now), words: Words { level: WORDS_AT_ONCE, level_at_ms: 0 } }
    }

    /// How long a word has to wait, if what is to `spare` at the other side does not do.
    pub(super) fn say(&mut self, spare: &mut Words, now: Time) -> Time {
        self.words.fill(WORDS_A_SECOND, WORDS_AT_ONCE, now);
        spare.fill(SPARE_WORDS_A_SECOND, SPARE_WORDS_AT_ONCE, now);
        if self.words.try_take() || spare.try_take() {
            return Time::ZERO;
        }
        self.words.level -= 1.0;
        Time::from_secs_f32(-self.words.level.min(0.0) / WORDS_A_SECOND)
    }
}

/// Something that comes to a node.
#[derive(Debug)]
pub(super) struct Letter {
    pub(super) at: Time,
    pub(super) number: u64,
    pub(super) what: News,
}

/// What comes to a node that is not content.
#[derive(Debug)]
pub(super) enum News {
    Told(u32, FileMessage),
    Sighted { subject: u32, peer: u32, holding: Holding },
    Met(u32),
    Lost(u32),
    Hashes { file: u32, peer: u32 },
}

/// A file that a node fetches. Chunks are the engine's.
#[derive(Debug)]
pub(super) struct Active {
    /// Which chunks are verified and written.
    pub(super) have: Bits,
    pub(super) shared: bool,
    /// Whether the list of its chunk hashes is there.
    pub(super) listed: bool,
    /// Of how many announcements of others at it this node has heard.
    pub(super) heard: usize,
    /// All is there, and is being proven.
    pub(super) proving: bool,
    /// Who waits for it: jobs, and which of their resources.
    pub(super) waiters: Vec<(usize, usize)>,
}

/// One read under way.
#[derive(Debug)]
pub(super) struct Transfer {
    pub(super) server: u32,
    pub(super) stream: u64,
    pub(super) asked_at: Time,
    /// The first chunk that is not reported, the chunks that are there beyond it, and the end.
    pub(super) next: u32,
    pub(super) come: u32,
    pub(super) end: u32,
    pub(super) come_bytes: u64,
    /// Chunks that are reported together, and when some were, or it was asked.
    pub(super) together: u32,
    pub(super) reported_at: Time,
}

/// A bit for each chunk.
#[derive(Debug, Default)]
pub(super) struct Bits(Vec<u64>);

impl Bits {
    pub(super) fn none(count: u64) -> Self {
        Self(vec![0; usize::try_from(count.div_ceil(64)).unwrap_or_default()])
    }

    pub(super) fn has(&self, at: u32) -> bool {
        self.0.get(at as usize / 64).is_some_and(|word| word & (1 << (at % 64)) != 0)
    }

    /// Whether it was not there before.
    pub(super) fn put(&mut self, at: u32) -> bool {
        let Some(word) = self.0.get_mut(at as usize / 64) else { return false };
        let before = *word;
        *word |= 1 << (at % 64);
        *word != before
    }

    /// All of the first `count`, as runs.
    pub(super) fn runs(&self, count: u64) -> Vec<Range<u64>> {
        let mut runs: Vec<Range<u64>> = Vec::new();
        for at in (0..count).filter(|at| u32::try_from(*at).is_ok_and(|at| self.has(at))) {
            match runs.last_mut() {
                Some(run) if run.end == at => run.end += 1,
                Some(_) | None => runs.push(at..at + 1),
            }
        }
        runs
    }
}

impl Node {
    /// The connection to a peer.
    pub(super) fn link(&mut self, peer: u32) -> Option<&mut Link> {
        let place = self.links.binary_search_by_key(&peer, |link| link.peer).ok()?;
        self.links.get_mut(place)
    }

    pub(super) fn is_linked(&self, peer: u32) -> bool {
        self.links.binary_search_by_key(&peer, |link| link.peer).is_ok()
    }

    /// Whether it can take one connection more.
    pub(super) fn has_place(&self, inbound: bool) -> bool {
        use super::assumptions::{MOST_CONNECTIONS, MOST_INBOUND};
        let came = || self.links.iter().filter(|link| !link.is_dialled).count();
        self.links.len() < MOST_CONNECTIONS && (!inbound || came() < MOST_INBOUND)
    }

    /// The peers whose connections are closed for others, since they are of no use.
    pub(super) fn surplus(&self, now: Time) -> Vec<u32> {
        use super::assumptions::{MOST_CONNECTIONS, OF_USE};
        let mut unused: Vec<&Link> = self.links.iter().filter(|link| link.used_at.is_none_or(|at| at + OF_USE <= now)).collect();
        unused.sort_unstable_by_key(|link| link.used_at);
        unused.truncate(self.links.len().saturating_sub(MOST_CONNECTIONS / 2));
        unused.into_iter().map(|link| link.peer).collect()
    }

    pub(super) fn join(&mut self, peer: u32, is_dialled: bool, now: Time) {
        if let Err(place) = self.links.binary_search_by_key(&peer, |link| link.peer) {
            self.count_links(now);
            self.links.insert(place, Link::new(peer, is_dialled, now));
        }
    }

    pub(super) fn part(&mut self, peer: u32, now: Time) -> bool {
        let found = self.links.binary_search_by_key(&peer, |link| link.peer);
        if let Ok(place) = found {
            self.count_links(now);
            self.links.remove(place);
        }
        found.is_ok()
    }

    pub(super) fn count_links(&mut self, now: Time) {
        self.counts.link_seconds += self.links.len() as f64 * now.saturating_sub(self.counts.links_counted_at).as_secs_f64();
        self.counts.links_counted_at = now;
    }

    /// What has come by `now`, in order.
    pub(super) fn open(&mut self, now: Time) -> Vec<Letter> {
        let (mut due, mut place) = (Vec::new(), 0);
        while place < self.inbox.len() {
            if self.inbox[place].at <= now {
                due.push(self.inbox.swap_remove(place));
            } else {
                place += 1;
            }
        }
        due.sort_unstable_by_key(|letter| (letter.at, letter.number));
        due
    }
}
