//! One node's engine is told what came, and obeyed: what the driver of a real node does.

use std::collections::HashSet;

use larder_content::{FileKey, FileMessage, FileWord, Holding};
use larder_engine::{Action, Compared, Event, From, MarketId, Outcome, Peer, ReadId, Time};

use super::assumptions::{FRAME_BYTES, LOOK, ORIGIN_SET_UP, PROOF};
use super::clock::Happening;
use super::names;
use super::node::{News, Transfer};
use super::server::Ask;
use super::world::{File, ORIGIN, World};

pub(super) const MARKET: MarketId = MarketId(0);

impl World<'_> {
    pub(super) fn peer(&self, node: u32) -> Peer {
        Peer { market: MARKET, node: self.nodes[node as usize].id }
    }

    /// A node looks at what has come, and does what its engine says.
    pub(super) fn decide(&mut self, number: u32) {
        let now = self.clock.now;
        for letter in self.nodes[number as usize].open(now) {
            self.take(number, letter.what);
        }
        self.hear(number);
        self.hear_of_crowd(number);
        while let Some(action) = self.nodes[number as usize].engine.next_action(now) {
            self.act(number, action);
        }
        let node = &self.nodes[number as usize];
        let letters = node.inbox.iter().map(|letter| letter.at).min();
        let due = node.engine.next_deadline(now).into_iter().chain(letters).min();
        self.nodes[number as usize].wakes_at = Time::MAX;
        if let Some(at) = due {
            self.wake(number, at);
        }
    }

    fn take(&mut self, number: u32, what: News) {
        let now = self.clock.now;
        match what {
            News::Told(from, message) => self.told(number, from, message),
            News::Sighted { subject, peer, holding } => self.sighted(number, subject, peer, holding),
            News::Met(peer) => self.met(number, peer),
            News::Lost(peer) => {
                let peer = self.peer(peer);
                self.nodes[number as usize].engine.handle(Event::Lost { peer }, now);
            }
            News::Hashes { file, peer } => self.hashes(number, file, peer),
        }
    }

    /// Bytes come of answers, though no whole piece yet: of each peer that answers, of the question that is first.
    fn hear(&mut self, number: u32) {
        let now = self.clock.now;
        let node = &mut self.nodes[number as usize];
        std::mem::take(&mut node.begun).into_iter().for_each(|read| node.engine.handle(Event::Heard { read }, now));
        if now < self.nodes[number as usize].heard_at + LOOK.max(self.look_every * 2) {
            return;
        }
        self.nodes[number as usize].heard_at = now;
        let mut seen: HashSet<u32> = HashSet::new();
        let mut heard: Vec<ReadId> = Vec::new();
        for (read, transfer) in &self.nodes[number as usize].reads {
            let peer = transfer.server;
            if peer == ORIGIN || !seen.insert(peer) {
                continue;
            }
            if self.nodes[peer as usize].alive && !self.nodes[peer as usize].is_mute && transfer.asked_at + LOOK <= now {
                heard.push(*read);
            }
        }
        let engine = &mut self.nodes[number as usize].engine;
        heard.into_iter().for_each(|read| engine.handle(Event::Heard { read }, now));
    }

    fn act(&mut self, number: u32, action: Action) {
        match action {
            Action::Read { read, file, chunks, from } => self.read(number, read, file, chunks, from),
            Action::Cancel { read } => self.cancel(number, read),
            Action::Tell { peer, message } => self.tell(number, names::number_of_node(peer.node), message),
            Action::FetchHashes { file, peer, .. } => {
                let (file, peer) = (names::number_of_file(file), names::number_of_node(peer.node));
                let at = self.hashes_come(number, file, peer);
                self.send(number, at, News::Hashes { file, peer });
            }
            Action::Ban { peer, period } => self.ban(number, names::number_of_node(peer.node), period),
            Action::Complete { file } => self.complete(number, names::number_of_file(file)),
            Action::GiveUp { file } => self.give_up(number, names::number_of_file(file)),
        }
    }

    fn read(&mut self, number: u32, read: ReadId, key: FileKey, chunks: std::ops::Range<u64>, from: From) {
        let now = self.clock.now;
        let file = names::number_of_file(key);
        let (next, end) = (u32::try_from(chunks.start).unwrap_or_default(), u32::try_from(chunks.end).unwrap_or_default());
        let (server, proven) = match from {
            From::Origin => (ORIGIN, true),
            From::Peer { peer, content } => (names::number_of_node(peer.node), content.is_some()),
        };
        if server != ORIGIN && !self.nodes[number as usize].is_linked(server) {
            return self.nodes[number as usize].engine.handle(Event::Ended { read, outcome: Outcome::Broken }, now);
        }
        let (stream, at) = if server == ORIGIN {
            self.origin.next_stream += 1;
            // Half of the way is that of the answer.
            (self.origin.next_stream, now + self.round_trips(number, ORIGIN, ORIGIN_SET_UP - 0.5))
        } else {
            self.count_question(number, server);
            (u64::from(number), now + self.one_way(number, server))
        };
        let together = if server == ORIGIN { 1 } else { self.piece() };
        let transfer = Transfer { server, stream, asked_at: now, next, come: 0, end, come_bytes: 0, together, reported_at: now };
        self.nodes[number as usize].reads.insert(read, transfer);
        let ask = Ask { node: number, read, file, next, end, proven };
        self.clock.at(at, Happening::Asked { server, stream, ask });
    }

    pub(super) fn cancel(&mut self, number: u32, read: ReadId) {
        let now = self.clock.now;
        let Some(transfer) = self.nodes[number as usize].reads.remove(&read) else { return };
        let Transfer { server, stream, come_bytes, .. } = transfer;
        self.nodes[number as usize].counts.duplicates += come_bytes;
        let at = now + self.one_way(number, server);
        self.clock.at(at, Happening::Withdrawn { server, stream, read });
    }

    pub(super) fn tell(&mut self, from: u32, to: u32, message: FileMessage) {
        let now = self.clock.now;
        let way = self.one_way(from, to);
        let mut spare = self.nodes[to as usize].spare_words;
        let Some(link) = self.nodes[from as usize].link(to) else { return self.want(from, to) };
        let at = now + way + link.say(&mut spare, now);
        self.nodes[to as usize].spare_words = spare;
        if message.body == FileWord::Unfollow {
            self.mark_used(from, to, None);
        }
        let bytes = word_bytes(&message.body) + FRAME_BYTES;
        self.nodes[from as usize].counts.control_sent += bytes;
        self.nodes[to as usize].counts.control_received += bytes;
        self.send(to, at, News::Told(from, message));
    }

    fn told(&mut self, number: u32, from: u32, message: FileMessage) {
        let (now, file) = (self.clock.now, names::number_of_file(message.file));
        let peer = self.peer(from);
        let node = &mut self.nodes[number as usize];
        match node.active.get(&file) {
            Some(active) if active.shared => return node.engine.handle(Event::Told { peer, message }, now),
            Some(_) => return,
            None if message.body != FileWord::Follow => return,
            None => {}
        }
        let has = node.lies || node.blobs.contains(&file);
        let body = if has { FileWord::Complete(self.files[file as usize].content) } else { FileWord::Nothing };
        self.tell(number, from, FileMessage { file: message.file, body });
    }

    fn hashes(&mut self, number: u32, file: u32, peer: u32) {
        let now = self.clock.now;
        let other = &self.nodes[peer as usize];
        let known =
            other.alive && (other.lies || other.blobs.contains(&file) || other.active.get(&file).is_some_and(|active| active.listed));
        let linked = self.nodes[number as usize].is_linked(peer);
        let File { key, content, layout, .. } = &self.files[file as usize];
        let (key, content, count) = (*key, *content, layout.count());
        let with = self.peer(peer);
        let node = &mut self.nodes[number as usize];
        let Some(active) = node.active.get_mut(&file) else { return };
        let compared = if known && linked {
            active.listed = true;
            Compared::Known { fits: active.have.runs(count), dropped: Vec::new(), contradicted: Vec::new() }
        } else {
            Compared::Missing
        };
        node.engine.handle(Event::Hashes { file: key, peer: with, content, compared }, now);
    }

    fn complete(&mut self, number: u32, file: u32) {
        let at = self.clock.now + if self.files[file as usize].is_small { Time::ZERO } else { PROOF };
        if let Some(active) = self.nodes[number as usize].active.get_mut(&file) {
            active.proving = true;
        }
        self.clock.at(at, Happening::Proven { node: number, file });
    }

    /// A node is said to hold or fetch something.
    pub(super) fn sighted(&mut self, number: u32, subject: u32, other: u32, holding: Holding) {
        let now = self.clock.now;
        let peer = self.peer(other);
        let spoken_of = |file: &u32| {
            let of_resource = holding != Holding::Gone && self.files[*file as usize].resources.contains(&subject);
            of_resource || self.subject_of_file(*file) == subject
        };
        let files: Vec<u32> = self.nodes[number as usize].active.keys().copied().filter(spoken_of).collect();
        let node = &mut self.nodes[number as usize];
        for file in files.into_iter().filter(|file| node.active.get(file).is_some_and(|active| active.shared)) {
            let file = self.files[file as usize].key;
            node.engine.handle(Event::Sighted { file, peer, holding }, now);
        }
    }
}

/// The bytes of a word with the name of its file: a version, two kinds, the file, and numbers of as many bytes as they take.
fn word_bytes(word: &FileWord) -> u64 {
    let number = |number: u64| match number {
        0..=250 => 1,
        251..=0xFFFF => 3,
        0x1_0000..=0xFFFF_FFFF => 5,
        _ => 9,
    };
    let runs =
        |runs: &[std::ops::Range<u64>]| number(runs.len() as u64) + runs.iter().map(|run| number(run.start) + number(run.end)).sum::<u64>();
    35 + match word {
        FileWord::Follow | FileWord::Unfollow | FileWord::Nothing => 0,
        FileWord::Complete(_) | FileWord::Knows(_) => 32,
        FileWord::Have(list) | FileWord::Reading(list) => runs(list),
    }
}
