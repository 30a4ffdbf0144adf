//! Decides which chunks to read next, how many reads run at once, what to try again, and when to give up.
//!
//! The engine does no I/O and reads no clock: [`Engine::handle`] is told what happened and when, [`Engine::next_action`]
//! says what to do, [`Engine::next_deadline`] when to ask again although nothing happened. Time is how long the node
//! has been running.
//!
//! A chunk of a wanted file is in exactly one state:
//!
//! | state | where it is kept | leaves it by |
//! |---|---|---|
//! | waiting | `WantedFile::waiting` | [`Action::Read`] → reading; [`Event::Hashes`] that fit what is in the store → had |
//! | reading | the range of one `Read` | [`Event::Arrived`] → had; [`Event::Ended`] or [`Action::Cancel`] → waiting |
//! | had | in neither | [`Event::Hashes`], [`Event::Disproven`] or [`Event::Refuted`] that drop it → waiting; or its origin sends whole files only: then [`Action::Read`] takes it along → reading |
//!
//! A read that takes along what was had leaves it had up to the chunk that any such read came to, and the rest waiting.
//!
//! A wanted file is in exactly one place:
//!
//! | place | where it is kept | leaves it when |
//! |---|---|---|
//! | ready | `Turns` | nothing of it waits, as much of it is read at once as may be, or a read breaks off |
//! | resting | `Engine::resting` | its wait is over |
//! | aside | in neither | a read of it ends, or a look at what it shares with peers finds something to read |
//!
//! A file whose chunks are all had is [`Action::Complete`]; one that is shared stays, for those who follow it, until it is proven or
//! refuted. A read from an origin that brings nothing for [`Config::stalled_read`], and all that was asked of a peer that stalls, is
//! [`Action::Cancel`] and has broken off. Reports of a read that was cancelled change nothing.

mod asking;
mod chunks;
mod config;
mod content;
mod doubt;
mod extents;
mod file;
mod link;
mod message;
mod pace;
mod partner;
mod random;
mod readers;
mod relays;
mod ring;
mod runs;
mod share;
mod source;
mod swarm;
mod turns;
mod verdicts;
mod waiting;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Range;
use std::time::Duration;

use larder_content::FileKey;

use asking::SOON;
pub use config::Config;
use doubt::Doubt;
pub use doubt::Pieces;
use file::{Place, WantedFile};
use link::Link;
pub use link::Record;
pub use message::{Action, Compared, Event, From, Outcome, Peer, Sharing};
use pace::Paces;
use random::Random;
use share::Share;
use source::{Best, Source};
use turns::Turns;

/// How long the node has been running.
pub type Time = Duration;

/// A number for an origin's host: what one host refuses says nothing of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct OriginId(pub u64);

/// Files that are wanted for one purpose: groups take turns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct GroupId(pub u64);

/// A number for a market that the node is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MarketId(pub u64);

/// One read that the engine asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReadId(u64);

/// One read under way.
#[derive(Debug)]
struct Read {
    file: FileKey,
    /// The chunks that have not arrived.
    chunks: Range<u64>,
    began: Time,
    /// When it last brought a chunk, or began.
    heard: Time,
    /// Whether anything of it has come.
    begun: bool,
    from: From,
    /// Whether a peer had all of the file when it began.
    is_warm: bool,
}

/// Decides for all files that one node fetches.
#[derive(Debug)]
pub struct Engine {
    config: Config,
    files: BTreeMap<FileKey, WantedFile>,
    /// The ready files.
    turns: Turns,
    /// The resting files, and until when.
    resting: BTreeSet<(Time, FileKey)>,
    sources: BTreeMap<OriginId, Source>,
    /// What this node's line brings, of whatever source.
    line: Best,
    paces: Paces,
    reads: BTreeMap<ReadId, Read>,
    /// How many of them are from origins.
    origin_reads: usize,
    links: BTreeMap<Peer, Link>,
    /// The peers of whose bytes fewer are awaited than when it was last looked at who waits for them.
    freed: BTreeSet<Peer>,
    /// The peers that may be asked for more of a file than before, and are before it is looked at as a whole.
    more: BTreeSet<(Peer, FileKey)>,
    /// Before these times no read from an origin, and no peer, is found to stall: then all are looked through.
    reads_stall_from: Time,
    peers_stall_from: Time,
    /// When it was last asked what to do.
    looked_at: Time,
    /// When which shared file is looked at next.
    reviews: BTreeSet<(Time, FileKey)>,
    next_read: u64,
    next_file: u64,
    actions: VecDeque<Action>,
    random: Random,
}

impl Engine {
    /// An engine without work. `seed` decides how retries are spread.
    #[must_use]
    pub fn new(config: Config, seed: u64) -> Self {
        Self {
            config,
            files: BTreeMap::new(),
            turns: Turns::default(),
            resting: BTreeSet::new(),
            sources: BTreeMap::new(),
            line: Best::default(),
            paces: Paces::default(),
            reads: BTreeMap::new(),
            origin_reads: 0,
            links: BTreeMap::new(),
            freed: BTreeSet::new(),
            more: BTreeSet::new(),
            reads_stall_from: Time::ZERO,
            peers_stall_from: Time::ZERO,
            looked_at: Time::ZERO,
            reviews: BTreeSet::new(),
            next_read: 0,
            next_file: 0,
            actions: VecDeque::new(),
            random: Random(seed),
        }
    }

    /// Takes note of what happened at `now`.
    pub fn handle(&mut self, event: Event, now: Time) {
        match event {
            Event::Wanted { file, layout, missing, origin, group, sharing } => {
                let sharing = sharing.as_deref();
                let share = sharing.map(|with| Share::new(file, layout.count(), &missing, with, self.config.range_chunks, now));
                let mut wanted = WantedFile::new(self.next_file, layout, missing, origin, group);
                wanted.share = share.map(Box::new);
                wanted.doubt = Doubt::new(sharing.is_some_and(|with| with.samples), layout.size());
                self.next_file += 1;
                self.wanted(file, wanted, now);
                for (market, (node, holding)) in sharing.iter().flat_map(|with| with.known.iter().map(|known| (with.market, *known))) {
                    self.sighted(file, Peer { market, node }, holding, now);
                }
            }
            Event::Unwanted { file } => self.unwanted(file),
            Event::Arrived { read, chunks } => self.arrived(read, chunks, now),
            Event::Heard { read } => self.heard(read, true, now),
            Event::HeldUp { read } => self.heard(read, false, now),
            Event::Ended { read, outcome } => self.ended(read, outcome, now),
            Event::Sighted { file, peer, holding } => self.sighted(file, peer, holding, now),
            Event::Told { peer, message } => self.told(peer, message, now),
            Event::Lost { peer } => self.lost(peer, now),
            Event::Hashes { file, peer, content, compared } => self.hashes(file, peer, content, compared, now),
            Event::Contradicted { file, content } => self.contradicted(file, content, now),
            Event::Pieces { file, pieces } => self.heard_of_pieces(file, pieces, now),
            Event::Disproven { file, content, missing } => self.disproven(file, content, missing, now),
            Event::Proven { file, content, liars } => self.proven(file, content, liars),
            Event::Refuted { file, signers, missing } => self.refuted(file, &signers, missing, now),
        }
    }

    /// The next thing to do at `now`; `None` until something happens or [`Engine::next_deadline`] passes.
    pub fn next_action(&mut self, now: Time) -> Option<Action> {
        self.stop_stalled(now);
        self.stop_silent_peers(now);
        self.wake(now);
        self.review_due(now);
        self.actions.pop_front().or_else(|| self.next_read(now))
    }

    /// When [`Engine::next_action`] is to be asked again although nothing happened; never before `now`.
    #[must_use]
    pub fn next_deadline(&self, now: Time) -> Option<Time> {
        let retry = self.resting.first().map(|(until, _)| *until);
        let openings = self.sources.values().map(|source| source.closed_until);
        let reads = (self.origin_reads > 0).then(|| self.reads.values().filter(|read| read.from == From::Origin));
        let stalls = reads.into_iter().flatten().map(|read| self.stalls_at(read));
        openings.chain(stalls).chain(retry).chain(self.next_of_peers()).filter(|at| *at > now).min()
    }

    fn wanted(&mut self, key: FileKey, file: WantedFile, now: Time) {
        if self.files.contains_key(&key) {
            return;
        }
        if file.waiting.is_empty() && file.share.is_none() {
            return self.actions.push_back(Action::Complete { file: key });
        }
        self.sources.entry(file.origin).or_insert_with(|| Source::new(&self.config));
        self.turns.join(file.group);
        self.paces.join(file.group, file.waiting.chunks().saturating_mul(larder_content::CHUNK_BYTES), now);
        self.files.insert(key, file);
        self.review_at(key, now);
        self.place(key, now);
    }

    fn arrived(&mut self, id: ReadId, chunks: u64, now: Time) {
        let Some(read) = self.reads.get_mut(&id).filter(|_| chunks > 0) else { return };
        let first = read.chunks.start;
        read.chunks.start = first.saturating_add(chunks).min(read.chunks.end);
        (read.heard, read.begun) = (now, true);
        let (key, from, arrived) = (read.file, read.from, first..read.chunks.start);
        let Some(file) = self.files.get_mut(&key) else { return };
        let bytes = file.bytes(&arrived);
        self.paces.brought(file.group, bytes, now);
        self.line.add_but_for_pauses(bytes, now);
        if let Some(source) = self.sources.get_mut(&file.origin) {
            source.line_brought(bytes, now);
        }
        match from {
            From::Origin => {
                file.arrived(arrived.end);
                file.doubt.sampled();
                if let Some(source) = self.sources.get_mut(&file.origin) {
                    source.brought(bytes, now);
                }
            }
            From::Peer { peer, .. } => {
                file.asked.set(arrived.clone(), false);
                if let Some(link) = self.links.get_mut(&peer) {
                    link.brought(bytes, now);
                    link.settled(bytes);
                }
                self.freed.insert(peer);
            }
        }
        if let Some(share) = file.share.as_deref_mut() {
            if let From::Peer { peer, .. } = from
                && let Some(partner) = share.partners.get_mut(&peer.node)
            {
                partner.progress.beat(now);
                // Who says that it has all of it has nothing to refuse.
                partner.record.refusals = if partner.complete.is_some() { partner.record.refusals } else { 0 };
            }
            share.arrived(arrived, bytes, now);
            // What others are told next is gathered from now on; of what is moved whole nothing is.
            let was_held_back = file.doubt.came(bytes);
            if share.tell_at.is_none() || was_held_back {
                return self.review_at(key, now);
            }
            match from {
                From::Origin => self.review_at(key, now + SOON),
                From::Peer { peer, .. } => self.may_bring_more(key, peer, now),
            }
        }
    }

    fn ended(&mut self, id: ReadId, outcome: Outcome, now: Time) {
        let Some(read) = self.take_back(id) else { return };
        let key = read.file;
        if let From::Peer { .. } = read.from {
            self.ended_by_peer(read, outcome, now);
            return self.settle(key, now);
        }
        let Read { chunks, began, .. } = read;
        let Some(file) = self.files.get_mut(&key) else { return };
        file.doubt.sampled();
        let Some(source) = self.sources.get_mut(&file.origin) else { return };
        let mut hopeless = false;
        match outcome {
            Outcome::Complete if chunks.is_empty() => source.succeeded(&self.config),
            // A read that says it is complete and is not has broken off.
            Outcome::Complete | Outcome::Broken => {
                source.broke(began, now);
                hopeless = file.broke(&self.config, began, now, self.random.spread());
            }
            Outcome::Busy(after) => {
                hopeless = file.was_refused_for_now(&self.config, now, after);
                source.close(now, after, self.random.spread());
            }
            Outcome::RangeIgnored if file.whole => hopeless = true,
            // As long as a peer has all, what it would cost to read all is not paid.
            Outcome::RangeIgnored if file.share.is_some() && file.is_warm() => {
                file.share.iter_mut().for_each(|share| share.only_whole = true)
            }
            Outcome::RangeIgnored => file.whole = true,
            Outcome::Refused | Outcome::Lied | Outcome::Misled(_) => hopeless = true,
        }
        let whole = file.whole;
        if hopeless && self.is_hoped_for(key, now) {
            if let Some(share) = self.files.get_mut(&key).and_then(|file| file.share.as_deref_mut()) {
                share.hopeless = true;
            }
            self.cancel_reads_of(key, |read| read.from == From::Origin);
            return self.review_at(key, now);
        }
        if hopeless {
            self.forget(key);
            return self.actions.push_back(Action::GiveUp { file: key });
        }
        if whole {
            self.cancel_reads_of(key, |_| true);
        }
        self.review_at(key, now);
        self.settle(key, now);
    }

    /// Stops the reads that bring nothing: each has broken off, and was perhaps one too many for its origin.
    fn stop_stalled(&mut self, now: Time) {
        if now < self.reads_stall_from {
            return;
        }
        while let Some((id, read)) = self.reads.iter().find(|(_, read)| read.from == From::Origin && self.stalls_at(read) <= now) {
            let (id, began) = (*id, read.began);
            let origin = self.files.get(&read.file).map(|file| file.origin);
            if let Some(source) = origin.and_then(|origin| self.sources.get_mut(&origin)) {
                source.stalled(began, now);
            }
            self.actions.push_back(Action::Cancel { read: id });
            self.ended(id, Outcome::Broken, now);
        }
        // Whatever begins or is heard from now on stalls later.
        let stalls = self.reads.values().filter(|read| read.from == From::Origin).map(|read| self.stalls_at(read));
        self.reads_stall_from = stalls.min().unwrap_or(Time::MAX).min(now.saturating_add(self.config.stalled_read));
    }

    fn stalls_at(&self, read: &Read) -> Time {
        read.heard.saturating_add(self.config.stalled_read)
    }

    /// Completes the file if nothing of it is missing, or sees that it stands where it belongs.
    fn settle(&mut self, key: FileKey, now: Time) {
        let Some(file) = self.files.get_mut(&key) else { return };
        if !file.is_complete() {
            return self.place(key, now);
        }
        match file.share.as_deref_mut() {
            Some(share) if share.sealing => return,
            Some(share) => share.sealing = true,
            None => self.forget(key),
        }
        self.count_taken(key, now);
        self.place(key, now);
        self.actions.push_back(Action::Complete { file: key });
    }

    fn forget(&mut self, key: FileKey) {
        self.cancel_reads_of(key, |_| true);
        self.stand(key, Place::Aside);
        if let Some(file) = self.files.remove(&key) {
            self.turns.takes(file.group, file.taken, 0);
            self.turns.leave(file.group);
            self.paces.leave(file.group, file.share.as_ref().map_or(0, |share| share.extra));
            if let Some(at) = file.review_at {
                self.reviews.remove(&(at, key));
            }
        }
    }

    fn cancel_reads_of(&mut self, key: FileKey, which: impl Fn(&Read) -> bool) {
        self.cancel(|read| read.file == key && which(read));
    }

    /// Ends a read: what did not arrive waits again.
    fn take_back(&mut self, id: ReadId) -> Option<Read> {
        let read = self.reads.remove(&id)?;
        // A file that is not wanted any more has no reads.
        let file = self.files.get_mut(&read.file)?;
        file.put_back(read.chunks.clone());
        match read.from {
            From::Origin => {
                self.origin_reads -= 1;
                file.reading -= 1;
                self.turns.ended(file.group);
                if let Some(source) = self.sources.get_mut(&file.origin) {
                    source.ends(read.is_warm);
                }
            }
            From::Peer { peer, .. } => {
                file.asking.remove(&id);
                file.asked.set(read.chunks.clone(), false);
                if let Some(link) = self.links.get_mut(&peer) {
                    link.settled(file.bytes(&read.chunks));
                }
                self.freed.insert(peer);
            }
        }
        Some(read)
    }

    fn wake(&mut self, now: Time) {
        while let Some((_, key)) = self.resting.first().copied().filter(|(until, _)| *until <= now) {
            self.place(key, now);
        }
    }

    /// Sees that a file stands where it belongs.
    fn place(&mut self, key: FileKey, now: Time) {
        if let Some(file) = self.files.get(&key) {
            self.stand(key, file.belongs(&self.config, now));
        }
    }

    fn stand(&mut self, key: FileKey, place: Place) {
        let Some(file) = self.files.get_mut(&key).filter(|file| file.place != place) else { return };
        match std::mem::replace(&mut file.place, place) {
            Place::Aside => {}
            Place::Ready => self.turns.withdraw(key, file),
            Place::Resting(until) => drop(self.resting.remove(&(until, key))),
        }
        match place {
            Place::Aside => {}
            Place::Ready => self.turns.enter(key, file),
            Place::Resting(until) => drop(self.resting.insert((until, key))),
        }
    }

    fn next_read(&mut self, now: Time) -> Option<Action> {
        if self.origin_reads >= self.config.reads {
            return None;
        }
        let (key, chunks) = loop {
            let key = self.next_file(now)?;
            if let Some(chunks) = self.files.get_mut(&key)?.take(self.config.range_chunks) {
                break (key, chunks);
            }
            // Peers have, or were asked for, what it waited for: it stands aside.
            self.place(key, now);
        };
        self.read_of_origin(key, chunks, now);
        self.review_at(key, now);
        self.actions.pop_front()
    }

    /// Has chunks, which wait no more, read from the origin.
    fn read_of_origin(&mut self, key: FileKey, chunks: Range<u64>, now: Time) {
        let Some(file) = self.files.get_mut(&key) else { return };
        file.reading += 1;
        self.turns.began(file.group);
        self.origin_reads += 1;
        self.place(key, now);
        self.begin(key, chunks, From::Origin, now);
    }

    fn begin(&mut self, file: FileKey, chunks: Range<u64>, from: From, now: Time) -> ReadId {
        let read = ReadId(self.next_read);
        self.next_read += 1;
        let wanted = self.files.get(&file);
        let is_warm = wanted.is_some_and(WantedFile::is_warm);
        if from == From::Origin
            && let Some(source) = wanted.and_then(|wanted| self.sources.get_mut(&wanted.origin))
        {
            source.begins(is_warm, now);
        }
        self.reads.insert(read, Read { file, chunks: chunks.clone(), began: now, heard: now, begun: false, from, is_warm });
        self.actions.push_back(Action::Read { read, file, chunks, from });
        read
    }

    /// The file whose turn it is, of the origins that are open. One that holds three quarters of all reads lets others go first.
    fn next_file(&self, now: Time) -> Option<FileKey> {
        let share = self.config.reads - self.config.reads / 4;
        let open = self.turns.first_of_each().filter_map(|(origin, turn, key)| {
            let source = self.sources.get(&origin).filter(|source| source.is_open(now))?;
            Some((source.reads.under_way >= share, turn, key))
        });
        open.min().map(|(_, _, key)| key)
    }
}

#[cfg(test)]
mod tests;
