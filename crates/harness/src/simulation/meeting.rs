//! Who is connected to whom: dials, limits, bans, and those who leave.

use std::time::Duration;

use larder_engine::{Event, Time};

use super::assumptions::{FIRST_BACKOFF, LONGEST_BACKOFF, MOST_DIALS, MOST_WANTED, NO_ANSWER, SET_UP};
use super::clock::Happening;
use super::node::News;
use super::world::World;

impl World<'_> {
    /// A node wants a connection to another, soon. Who cannot be reached is not dialled: it may dial by itself.
    pub(super) fn want(&mut self, from: u32, to: u32) {
        let (now, reachable) = (self.clock.now, self.nodes[to as usize].reachable);
        self.free_places(from);
        let node = &mut self.nodes[from as usize];
        let waits = node.failed.get(&to).is_some_and(|(_, until)| *until > now) || node.banned.get(&to).is_some_and(|until| *until > now);
        if !reachable || waits || from == to || node.dials.contains(&to) || node.is_linked(to) || !node.has_place(false) {
            return;
        }
        if node.dials.len() >= MOST_DIALS {
            if !node.wanted.contains(&to) {
                node.wanted.push_back(to);
                if node.wanted.len() > MOST_WANTED {
                    node.wanted.pop_front();
                }
            }
            return;
        }
        node.dials.insert(to);
        let takes = if self.nodes[to as usize].alive { self.round_trips(from, to, SET_UP) } else { NO_ANSWER };
        self.clock.at(now + takes, Happening::Dialled { from, to });
    }

    /// A dial leads to a connection, or not.
    pub(super) fn dialled(&mut self, from: u32, to: u32) {
        let now = self.clock.now;
        self.nodes[from as usize].dials.remove(&to);
        if !self.nodes[from as usize].alive {
            return;
        }
        if self.nodes[to as usize].alive {
            self.free_places(to);
        }
        let other = &self.nodes[to as usize];
        let banned = other.banned.get(&from).is_some_and(|until| *until > now);
        let linked = self.nodes[from as usize].is_linked(to);
        if other.alive && !banned && !linked && other.has_place(true) && self.nodes[from as usize].has_place(false) {
            self.nodes[from as usize].failed.remove(&to);
            self.connect(from, to);
            let way = self.one_way(from, to);
            self.send(from, now + way, News::Met(to));
            self.send(to, now + way, News::Met(from));
        } else if !linked {
            let spread = 0.75 + self.random.f64() / 2.0;
            let (failures, until) = self.nodes[from as usize].failed.entry(to).or_default();
            *failures += 1;
            *until = now + FIRST_BACKOFF.saturating_mul(1 << (*failures - 1).min(6)).min(LONGEST_BACKOFF).mul_f64(spread);
        }
        while self.nodes[from as usize].dials.len() < MOST_DIALS
            && let Some(next) = self.nodes[from as usize].wanted.pop_front()
        {
            self.want(from, next);
        }
    }

    /// A node closes what is of no use if it has few places left.
    fn free_places(&mut self, number: u32) {
        for peer in self.nodes[number as usize].surplus(self.clock.now) {
            self.hang_up(number, peer);
        }
    }

    /// A connection was of use, or is of none.
    pub(super) fn mark_used(&mut self, one: u32, other: u32, at: Option<Time>) {
        for (near, far) in [(one, other), (other, one)] {
            if let Some(link) = self.nodes[near as usize].link(far) {
                link.used_at = at;
            }
        }
    }

    /// There is a connection from now on.
    pub(super) fn connect(&mut self, from: u32, to: u32) {
        let now = self.clock.now;
        [from, to].into_iter().for_each(|number| self.free_places(number));
        self.nodes[from as usize].join(to, true, now);
        self.nodes[to as usize].join(from, false, now);
    }

    /// Whoever comes is asked about what it is said to have.
    pub(super) fn met(&mut self, number: u32, other: u32) {
        let now = self.clock.now;
        if !self.nodes[number as usize].is_linked(other) {
            return;
        }
        let peer = self.peer(other);
        let files: Vec<u32> =
            self.nodes[number as usize].active.iter().filter(|(_, active)| active.shared).map(|(file, _)| *file).collect();
        for file in files {
            let subjects = self.files[file as usize].resources.iter().copied().chain([self.subject_of_file(file)]);
            let holding = subjects.filter_map(|subject| self.holding(subject, other)).next();
            if let Some(holding) = holding {
                let file = self.files[file as usize].key;
                self.nodes[number as usize].engine.handle(Event::Sighted { file, peer, holding }, now);
            }
        }
    }

    /// A node has nothing to do with another for so long.
    pub(super) fn ban(&mut self, number: u32, other: u32, period: Duration) {
        let now = self.clock.now;
        let node = &mut self.nodes[number as usize];
        node.counts.bans += 1;
        node.banned.insert(other, now + period);
        self.hang_up(number, other);
    }

    /// A node closes a connection.
    fn hang_up(&mut self, number: u32, other: u32) {
        let now = self.clock.now;
        let node = &mut self.nodes[number as usize];
        if node.part(other, now) {
            node.up.hang_up(u64::from(other));
            self.send(number, now, News::Lost(other));
            self.lose(other, number);
        }
    }

    /// A connection has ended at the other side.
    fn lose(&mut self, number: u32, other: u32) {
        let now = self.clock.now;
        let node = &mut self.nodes[number as usize];
        if node.part(other, now) {
            node.up.hang_up(u64::from(other));
            let at = now + self.one_way(number, other);
            self.send(number, at, News::Lost(other));
        }
    }

    /// The connections of a node end.
    pub(super) fn is_gone(&mut self, number: u32) {
        let now = self.clock.now;
        self.nodes[number as usize].count_links(now);
        let links = std::mem::take(&mut self.nodes[number as usize].links);
        for link in links {
            self.lose(link.peer, number);
        }
        for standing in &mut self.standings {
            standing.complete.remove(number);
            standing.fetching.remove(number);
            standing.at_work.remove(number);
        }
    }
}
