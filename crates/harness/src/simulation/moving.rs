//! Content on its way: questions, chunks, and what comes of them.

use larder_content::CHUNK_BYTES;
use larder_engine::{Event, Outcome, ReadId, Time};

use super::assumptions::{ASK_BYTES, CLAIM_BYTES, FRAME_BYTES, HASH_BYTES, PIECE_CHUNKS, PIECE_HEAD_BYTES, SLOW_CHUNK};
use super::clock::Happening;
use super::server::{Ask, Delivery};
use super::world::{ORIGIN, World};

/// What can be said to a question.
enum Answer {
    Chunk,
    Nothing,
}

impl World<'_> {
    /// A question comes to who is to answer it.
    pub(super) fn asked(&mut self, number: u32, stream: u64, ask: Ask) {
        let now = self.clock.now;
        if number == ORIGIN {
            if !self.nodes[ask.node as usize].reads.contains_key(&ask.read) {
                // Taken back before it came.
                return;
            }
            self.origin.requests += 1;
            let wrong = match (self.origin.is_down, self.origin.is_busy) {
                (true, _) => Some(Outcome::Broken),
                (false, true) => Some(Outcome::Busy(None)),
                (false, false) => None,
            };
            if let Some(outcome) = wrong {
                let at = now + self.one_way(ask.node, ORIGIN);
                return self.clock.at(at, Happening::Ended { node: ask.node, read: ask.read, outcome });
            }
        } else {
            let Some(node) = self.nodes.get(number as usize).filter(|node| node.alive) else { return };
            if !node.is_linked(ask.node) {
                return self.clock.at(now, Happening::Ended { node: ask.node, read: ask.read, outcome: Outcome::Broken });
            }
        }
        if let Some(server) = self.server(number) {
            server.ask(stream, ask);
        }
        self.serve(number);
    }

    /// Whoever sends under that number sends the next chunk, if its line is free.
    pub(super) fn serve(&mut self, number: u32) {
        let now = self.clock.now;
        loop {
            let Some(server) = self.server(number) else { return };
            if server.is_busy {
                return;
            }
            if server.busy_until > now {
                server.is_busy = true;
                let free = server.busy_until;
                return self.clock.at(free, Happening::Free(number));
            }
            let Some((stream, ask)) = server.front() else { return };
            if number != ORIGIN && self.nodes[number as usize].is_mute {
                return;
            }
            match self.answer(number, &ask) {
                Answer::Chunk => self.send_chunk(number, stream, &ask),
                Answer::Nothing => {
                    let last = self.server(number).map_or(Time::ZERO, |server| server.drop_front(stream));
                    let at = last.max(now + self.one_way(number, ask.node));
                    self.clock.at(at, Happening::Ended { node: ask.node, read: ask.read, outcome: Outcome::Refused });
                }
            }
        }
    }

    fn answer(&self, number: u32, ask: &Ask) -> Answer {
        if number == ORIGIN {
            return Answer::Chunk;
        }
        let node = &self.nodes[number as usize];
        let of_blob = node.lies || node.blobs.contains(&ask.file);
        let coming = || node.active.get(&ask.file).is_some_and(|active| active.shared && active.have.has(ask.next));
        let small = self.files[ask.file as usize].is_small;
        if of_blob || !ask.proven && !small && coming() { Answer::Chunk } else { Answer::Nothing }
    }

    fn send_chunk(&mut self, number: u32, stream: u64, ask: &Ask) {
        let now = self.clock.now;
        let bytes = self.chunk_bytes(ask.file, ask.next);
        let way = self.one_way(number, ask.node);
        let is_piece_head = ask.next.is_multiple_of(self.piece());
        let Some(server) = self.server(number) else { return };
        let left = now + server.time_for(bytes);
        server.busy_until = left;
        let receiver = &mut self.nodes[ask.node as usize];
        let arrival = receiver.down.take(bytes, now + way, left + way);
        if number == ORIGIN {
            self.origin.body_bytes += bytes;
        } else {
            // A claim comes with each piece while nobody knows what the file is.
            let head = PIECE_HEAD_BYTES + if ask.proven { 0 } else { CLAIM_BYTES };
            let pieces = if self.scale == 1 { u64::from(is_piece_head) } else { self.scale.div_ceil(PIECE_CHUNKS) };
            let control = pieces * head;
            receiver.counts.control_received += control;
            // A large chunk stands for many, the first of which would be there in a moment.
            receiver.begun.extend((self.scale > 1).then_some(ask.read));
            let sender = &mut self.nodes[number as usize].counts;
            sender.control_sent += control;
            sender.served += bytes;
        }
        if let Some(server) = self.server(number) {
            server.send(stream, arrival);
        }
        self.clock
            .at(arrival, Happening::Delivered(Delivery { to: ask.node, server: number, stream, read: ask.read, file: ask.file, bytes }));
    }

    /// Chunks of the engine's that are reported together.
    pub(super) fn piece(&self) -> u32 {
        if self.scale == 1 { PIECE_CHUNKS as u32 } else { 1 }
    }

    /// The bytes that a chunk of the engine's stands for.
    pub(super) fn chunk_bytes(&self, file: u32, chunk: u32) -> u64 {
        let (size, each) = (self.files[file as usize].bytes, CHUNK_BYTES * self.scale);
        size.saturating_sub(u64::from(chunk) * each).min(each)
    }

    /// A chunk is there.
    pub(super) fn delivered(&mut self, delivery: &Delivery) {
        let Delivery { to, server, stream, read, file, bytes } = *delivery;
        let now = self.clock.now;
        if let Some(sender) = self.server(server) {
            sender.landed(stream);
        }
        self.serve(server);
        let piece = self.piece();
        let is_small = self.files[file as usize].is_small;
        let lies = server != ORIGIN && self.nodes[server as usize].lies;
        let node = &mut self.nodes[to as usize];
        if !node.alive {
            return;
        }
        if server != ORIGIN {
            *node.counts.by_peer.entry(server).or_default() += bytes;
            self.mark_used(to, server, Some(now));
        }
        let node = &mut self.nodes[to as usize];
        let Some(transfer) = node.reads.get_mut(&read) else {
            node.counts.duplicates += bytes;
            return;
        };
        if lies {
            node.counts.duplicates += bytes;
            return self.ended(to, read, Outcome::Lied);
        }
        transfer.come += 1;
        transfer.come_bytes += bytes;
        let is_last = transfer.next + transfer.come >= transfer.end;
        if !is_last && (is_small || transfer.come < transfer.together) {
            return;
        }
        if server == ORIGIN {
            let slow = now - transfer.reported_at > SLOW_CHUNK * transfer.come;
            (transfer.together, transfer.reported_at) = (if slow { 1 } else { piece }, now);
        }
        let (first, count, come_bytes) = (transfer.next, transfer.come, std::mem::take(&mut transfer.come_bytes));
        (transfer.next, transfer.come) = (first + count, 0);
        let mut new = 0;
        if let Some(active) = node.active.get_mut(&file) {
            new = (first..first + count).filter(|chunk| active.have.put(*chunk)).count() as u64;
        }
        if new == 0 {
            node.counts.duplicates += come_bytes;
        } else {
            self.count(to, file, come_bytes, server == ORIGIN);
        }
        let node = &mut self.nodes[to as usize];
        node.engine.handle(Event::Arrived { read, chunks: u64::from(count) }, now);
        if is_last {
            node.reads.remove(&read);
            node.engine.handle(Event::Ended { read, outcome: Outcome::Complete }, now);
        }
        self.look(to);
    }

    /// Counts bytes of a file for the node, and for the job that came first for it; the others take them from the store.
    fn count(&mut self, node: u32, file: u32, bytes: u64, of_origin: bool) {
        let first = self.nodes[node as usize].active.get(&file).and_then(|active| active.waiters.first().copied());
        let counts = &mut self.nodes[node as usize].counts.from;
        let (own, all) = if of_origin { (&mut counts.origin, &mut self.got.origin) } else { (&mut counts.peers, &mut self.got.peers) };
        (*own, *all) = (*own + bytes, *all + bytes);
        if let Some((job, _)) = first {
            let from = &mut self.jobs[job].from;
            if of_origin { from.origin += bytes } else { from.peers += bytes }
        }
    }

    /// A read ends without what it was for.
    pub(super) fn ended(&mut self, number: u32, read: ReadId, outcome: Outcome) {
        let now = self.clock.now;
        let node = &mut self.nodes[number as usize];
        if !node.alive || node.reads.remove(&read).is_none() {
            return;
        }
        node.engine.handle(Event::Ended { read, outcome }, now);
        self.look(number);
    }

    /// What asking costs beside content.
    pub(super) fn count_question(&mut self, from: u32, to: u32) {
        self.nodes[from as usize].counts.control_sent += ASK_BYTES + FRAME_BYTES;
        self.nodes[to as usize].counts.control_received += ASK_BYTES + FRAME_BYTES;
    }

    /// When the chunk hashes of a file come from a peer.
    pub(super) fn hashes_come(&mut self, number: u32, file: u32, peer: u32) -> Time {
        let bytes = self.files[file as usize].bytes.div_ceil(CHUNK_BYTES) * HASH_BYTES;
        let way = self.one_way(number, peer);
        let now = self.clock.now;
        let server = &mut self.nodes[peer as usize].up;
        server.is_taken_for(bytes, now + way);
        let sent = server.busy_until;
        self.nodes[peer as usize].counts.control_sent += bytes + FRAME_BYTES;
        self.nodes[number as usize].counts.control_received += bytes + FRAME_BYTES;
        self.count_question(number, peer);
        sent + way
    }
}
