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
//! | waiting | `WantedFile::waiting` | [`Action::Read`] → reading |
//! | reading | the range of one [`Read`] | [`Event::Arrived`] → had; [`Event::Ended`] or [`Action::Cancel`] → waiting |
//! | had | in neither | never |
//!
//! A file whose chunks are all had is [`Action::Complete`]. Reports of a read that was cancelled change nothing.

mod config;
mod file;
mod source;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Range;
use std::time::Duration;

use larder_content::{ChunkLayout, FileKey};

pub use config::Config;
use file::WantedFile;
use source::Source;

/// How long the node has been running.
pub type Time = Duration;

/// A number for an origin's host: what one host refuses says nothing of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct OriginId(pub u64);

/// Files that are wanted for one purpose: groups take turns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct GroupId(pub u64);

/// One read that the engine asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReadId(u64);

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A file is to be fetched.
    Wanted {
        /// Its key.
        file: FileKey,
        /// How it is cut into chunks.
        layout: ChunkLayout,
        /// The runs of chunks that are not in the store.
        missing: Vec<Range<u64>>,
        /// Where it is read from.
        origin: OriginId,
        /// What it is wanted for.
        group: GroupId,
    },
    /// Nobody wants a file any more.
    Unwanted {
        /// Its key.
        file: FileKey,
    },
    /// The next chunks of a read are verified and in the store.
    Arrived {
        /// The read.
        read: ReadId,
        /// How many chunks, continuing where the last report ended.
        chunks: u64,
    },
    /// A read is over.
    Ended {
        /// The read.
        read: ReadId,
        /// How it went.
        outcome: Outcome,
    },
}

/// How a read ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// All that was asked for arrived.
    Complete,
    /// It broke off, and may work the next time.
    Broken,
    /// The origin asks to be left alone, for so long if it said how long.
    Busy(Option<Duration>),
    /// The origin sends whole files only.
    RangeIgnored,
    /// It can never work.
    Refused,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Read chunks of a file from its origin, and report what arrives.
    Read {
        /// The read's name in reports.
        read: ReadId,
        /// The file.
        file: FileKey,
        /// The chunks.
        chunks: Range<u64>,
    },
    /// Stop a read; nothing about it needs to be reported.
    Cancel {
        /// The read.
        read: ReadId,
    },
    /// Every chunk of the file is in the store.
    Complete {
        /// The file.
        file: FileKey,
    },
    /// The file cannot be had, for the reason that its last read reported.
    GiveUp {
        /// The file.
        file: FileKey,
    },
}

/// One read under way.
#[derive(Debug)]
struct Read {
    file: FileKey,
    /// The chunks that have not arrived.
    chunks: Range<u64>,
}

/// Decides for all files that one node fetches.
#[derive(Debug)]
pub struct Engine {
    config: Config,
    files: BTreeMap<FileKey, WantedFile>,
    /// The files of each group that still have chunks waiting, in the order in which they were wanted.
    groups: BTreeMap<GroupId, VecDeque<FileKey>>,
    /// The files whose reads broke off and that may have to wait.
    broken: BTreeSet<FileKey>,
    sources: BTreeMap<OriginId, Source>,
    reads: BTreeMap<ReadId, Read>,
    next_read: u64,
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
            groups: BTreeMap::new(),
            broken: BTreeSet::new(),
            sources: BTreeMap::new(),
            reads: BTreeMap::new(),
            next_read: 0,
            actions: VecDeque::new(),
            random: Random(seed),
        }
    }

    /// Takes note of what happened at `now`.
    pub fn handle(&mut self, event: Event, now: Time) {
        match event {
            Event::Wanted { file, layout, missing, origin, group } => self.wanted(file, WantedFile::new(layout, missing, origin, group)),
            Event::Unwanted { file } => self.unwanted(file),
            Event::Arrived { read, chunks } => self.arrived(read, chunks),
            Event::Ended { read, outcome } => self.ended(read, outcome, now),
        }
    }

    /// The next thing to do at `now`; `None` until something happens or [`Engine::next_deadline`] passes.
    pub fn next_action(&mut self, now: Time) -> Option<Action> {
        self.actions.pop_front().or_else(|| self.next_read(now))
    }

    /// When [`Engine::next_action`] is to be asked again although nothing happened; never before `now`.
    #[must_use]
    pub fn next_deadline(&self, now: Time) -> Option<Time> {
        let retries = self.broken.iter().filter_map(|key| self.files.get(key)).map(|file| file.retry_at);
        let openings = self.sources.values().map(|source| source.closed_until);
        retries.chain(openings).filter(|at| *at > now).min()
    }

    fn wanted(&mut self, key: FileKey, file: WantedFile) {
        if self.files.contains_key(&key) {
            return;
        }
        if file.waiting.is_empty() {
            self.actions.push_back(Action::Complete { file: key });
            return;
        }
        self.sources.entry(file.origin).or_insert_with(|| Source::new(&self.config));
        self.groups.entry(file.group).or_default().push_back(key);
        self.files.insert(key, file);
    }

    fn unwanted(&mut self, key: FileKey) {
        self.forget(key);
    }

    fn arrived(&mut self, read: ReadId, chunks: u64) {
        let Some(read) = self.reads.get_mut(&read) else { return };
        read.chunks.start = read.chunks.start.saturating_add(chunks).min(read.chunks.end);
        if let Some(file) = self.files.get_mut(&read.file) {
            file.failures = 0;
            file.busy_since = None;
        }
    }

    fn ended(&mut self, id: ReadId, outcome: Outcome, now: Time) {
        let Some(Read { file: key, chunks }) = self.reads.remove(&id) else { return };
        let Some(file) = self.files.get_mut(&key) else { return };
        file.reading -= 1;
        let source = self.sources.entry(file.origin).or_insert_with(|| Source::new(&self.config));
        source.reading -= 1;
        let mut hopeless = false;
        match outcome {
            Outcome::Complete if chunks.is_empty() => source.succeeded(&self.config),
            // A read that says it is complete and is not has broken off.
            Outcome::Complete | Outcome::Broken => {
                hopeless = file.broke(&self.config, now, self.random.spread());
                self.broken.insert(key);
            }
            Outcome::Busy(after) => {
                hopeless = file.was_refused_for_now(&self.config, now, after);
                source.close(now, after, self.random.spread());
            }
            Outcome::RangeIgnored if file.whole => hopeless = true,
            Outcome::RangeIgnored => file.whole = true,
            Outcome::Refused => hopeless = true,
        }
        if hopeless {
            self.forget(key);
            self.actions.push_back(Action::GiveUp { file: key });
            return;
        }
        file.put_back(chunks);
        if file.whole {
            self.cancel_reads_of(key);
        }
        self.settle(key);
    }

    /// Completes the file if nothing of it is missing, and sees that it stands in its group's queue if something waits.
    fn settle(&mut self, key: FileKey) {
        let Some(file) = self.files.get_mut(&key) else { return };
        if file.waiting.is_empty() {
            if file.reading == 0 {
                self.forget(key);
                self.actions.push_back(Action::Complete { file: key });
            }
            return;
        }
        if !std::mem::replace(&mut file.queued, true) {
            self.groups.entry(file.group).or_default().push_front(key);
        }
    }

    fn forget(&mut self, key: FileKey) {
        self.cancel_reads_of(key);
        self.broken.remove(&key);
        if self.files.get(&key).is_some_and(|file| file.queued) {
            self.leave_queue(key);
        }
        self.files.remove(&key);
    }

    fn leave_queue(&mut self, key: FileKey) {
        let Some(file) = self.files.get_mut(&key) else { return };
        file.queued = false;
        let Some(queue) = self.groups.get_mut(&file.group) else { return };
        // It stands near the front: files are read in the order of the queue.
        if let Some(at) = queue.iter().position(|queued| *queued == key) {
            queue.remove(at);
        }
        if queue.is_empty() {
            self.groups.remove(&file.group);
        }
    }

    fn cancel_reads_of(&mut self, key: FileKey) {
        let reads: Vec<ReadId> = self.reads.iter().filter(|(_, read)| read.file == key).map(|(id, _)| *id).collect();
        for id in reads {
            let Some(Read { chunks, .. }) = self.reads.remove(&id) else { continue };
            if let Some(file) = self.files.get_mut(&key) {
                file.reading -= 1;
                file.put_back(chunks);
                if let Some(source) = self.sources.get_mut(&file.origin) {
                    source.reading -= 1;
                }
            }
            self.actions.push_back(Action::Cancel { read: id });
        }
    }

    /// The next read: of the group with the fewest under way, its first file that may be read now.
    fn next_read(&mut self, now: Time) -> Option<Action> {
        if self.reads.len() >= self.config.reads {
            return None;
        }
        let mut groups: Vec<(usize, GroupId)> = self.groups.keys().map(|group| (self.reads_of_group(*group), *group)).collect();
        groups.sort_unstable();
        let key = groups.into_iter().find_map(|(_, group)| self.ready_file(group, now))?;
        let file = self.files.get_mut(&key)?;
        let chunks = file.take(self.config.range_chunks)?;
        file.reading += 1;
        if let Some(source) = self.sources.get_mut(&file.origin) {
            source.reading += 1;
        }
        if file.waiting.is_empty() {
            self.leave_queue(key);
        }
        let read = ReadId(self.next_read);
        self.next_read += 1;
        self.reads.insert(read, Read { file: key, chunks: chunks.clone() });
        Some(Action::Read { read, file: key, chunks })
    }

    fn reads_of_group(&self, group: GroupId) -> usize {
        self.reads.values().filter(|read| self.files.get(&read.file).is_some_and(|file| file.group == group)).count()
    }

    fn ready_file(&self, group: GroupId, now: Time) -> Option<FileKey> {
        let may_be_read = |key: &&FileKey| {
            self.files.get(key).is_some_and(|file| {
                let most = if file.whole { 1 } else { self.config.reads_per_file };
                file.reading < most && file.retry_at <= now && self.sources.get(&file.origin).is_some_and(|source| source.is_open(now))
            })
        };
        self.groups.get(&group)?.iter().find(may_be_read).copied()
    }
}

/// A small generator of spreads: retries need no better one (splitmix64).
#[derive(Debug)]
struct Random(u64);

impl Random {
    /// A number from 0.5 to 1.5.
    fn spread(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        let bits = u32::try_from((z ^ (z >> 31)) >> 32).unwrap_or(u32::MAX);
        0.5 + f64::from(bits) / f64::from(u32::MAX)
    }
}

#[cfg(test)]
mod tests;
