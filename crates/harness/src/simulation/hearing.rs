//! Announcements: what a node says of itself to all, who hears it when, and what that costs.

use std::time::Duration;

use larder_content::Holding;
use larder_engine::{Event, Time};

use super::assumptions::{ANNOUNCE_EVERY, FRAME_BYTES, GATHERED, GOSSIP_BYTES, HEARERS, HOLDERS_TOLD, MESH, MOST_ASKED, ROW_BYTES};
use super::clock::Happening;
use super::node::News;
use super::world::World;

/// What the mean way between two nodes is taken for.
const HOP: Duration = Duration::from_micros(22_500);

impl World<'_> {
    /// A node has something to announce: what it begins or has ended to fetch at once, other news later.
    pub(super) fn announce(&mut self, number: u32, subject: u32, holding: Holding) {
        if self.scenario.lone {
            return;
        }
        let now = self.clock.now;
        let was_fetching = self.standings[subject as usize].fetching.contains(number);
        let node = &mut self.nodes[number as usize];
        let is_urgent = holding == Holding::Fetching || holding == Holding::Complete && was_fetching;
        node.untold.retain(|(other, _)| *other != subject);
        node.untold.push((subject, holding));
        let at = now + if is_urgent { GATHERED } else { ANNOUNCE_EVERY };
        if node.tells_at > at {
            node.tells_at = at;
            self.clock.at(at, Happening::Announces(number));
        }
    }

    /// A node announces what is new of it, to its peers and in gossip, which every node is sent by all but one of its mesh.
    pub(super) fn announces(&mut self, number: u32) {
        let now = self.clock.now;
        let node = &mut self.nodes[number as usize];
        if !node.alive || node.tells_at != now {
            return;
        }
        node.tells_at = Time::MAX;
        let rows = std::mem::take(&mut node.untold);
        let bytes = rows.len() as u64 * ROW_BYTES + FRAME_BYTES;
        node.counts.control_sent += bytes * node.links.len() as u64;
        let peers: Vec<u32> = node.links.iter().map(|link| link.peer).collect();
        for peer in peers {
            self.nodes[peer as usize].counts.control_received += bytes;
        }
        self.gossip_bytes += (bytes + GOSSIP_BYTES) * (MESH - 1);
        let hop = self.hop();
        self.clock.at(now + hop, Happening::Heard { node: number, rows });
    }

    /// The market has heard: who asks is told of it, and those at work hear of it sooner or later.
    pub(super) fn heard(&mut self, number: u32, rows: &[(u32, Holding)]) {
        let now = self.clock.now;
        if !self.nodes[number as usize].alive {
            return;
        }
        for (subject, holding) in rows.iter().copied() {
            let standing = &mut self.standings[subject as usize];
            standing.complete.remove(number);
            standing.fetching.remove(number);
            match holding {
                Holding::Complete => standing.complete.insert(number),
                Holding::Fetching => {
                    standing.fetching.insert(number);
                    standing.said.push((now, number));
                }
                Holding::Gone => {}
            }
            for (hearer, is_near) in self.hearers(number, subject) {
                // Near ones and small markets hear by a connection or a bootstrap, the others from peer to peer.
                let hops = if is_near { 0.0 } else { self.random.f64() * (self.nodes.len() as f64).log(MESH as f64) };
                let at = now + self.hop().mul_f64(hops);
                self.send(hearer, at, News::Sighted { subject, peer: number, holding });
            }
        }
    }

    /// Who hears of a node that it is at a subject: all who are at it too, of a crowd its peers and some others.
    fn hearers(&mut self, number: u32, subject: u32) -> Vec<(u32, bool)> {
        let at_work = &self.standings[subject as usize].at_work;
        let is_near = |other: &u32| self.nodes[number as usize].is_linked(*other);
        let mut hearers: Vec<u32> = Vec::new();
        if at_work.len() > HEARERS {
            hearers.extend(self.nodes[number as usize].links.iter().map(|link| link.peer).filter(|peer| at_work.contains(*peer)));
        }
        let others = at_work.some(HEARERS - hearers.len(), &mut self.random);
        let is_small = self.nodes.len() <= HEARERS;
        let near: Vec<(u32, bool)> = hearers.iter().map(|peer| (*peer, true)).collect();
        let others = others.into_iter().filter(|other| *other != number && !hearers.contains(other));
        near.into_iter().chain(others.map(|other| (other, is_small || is_near(&other)))).collect()
    }

    /// A crowd hears of each that is at it too: from peer to peer, so in any order.
    pub(super) fn hear_of_crowd(&mut self, number: u32) {
        let now = self.clock.now;
        let is_through = |said: &(Time, u32)| said.0 + self.hop().mul_f64((self.nodes.len() as f64).log(MESH as f64)) <= now;
        let crowds = self.nodes[number as usize].active.iter().filter(|(_, active)| active.shared).map(|(file, active)| {
            let said = &self.standings[self.subject_of_file(*file) as usize].said;
            let new = said[active.heard..].iter().take_while(|said| is_through(said)).count();
            (*file, said.len() > HEARERS, active.heard..active.heard + new)
        });
        let crowds: Vec<(u32, bool, std::ops::Range<usize>)> = crowds.filter(|(_, _, new)| !new.is_empty()).collect();
        for (file, is_crowd, new) in crowds {
            if let Some(active) = self.nodes[number as usize].active.get_mut(&file) {
                active.heard = new.end;
            }
            if !is_crowd {
                continue;
            }
            let subject = self.subject_of_file(file) as usize;
            let mut others: Vec<u32> = self.standings[subject].said[new].iter().map(|(_, other)| *other).collect();
            self.random.shuffle(&mut others);
            let key = self.files[file as usize].key;
            for other in others {
                let peer = self.peer(other);
                self.nodes[number as usize].engine.handle(Event::Sighted { file: key, peer, holding: Holding::Fetching }, now);
            }
        }
    }

    fn hop(&self) -> Duration {
        let (least, more) = self.round_trip_us;
        HOP.min(Duration::from_micros((least + more) / 2))
    }

    /// Whom a look around finds for a subject: each that is asked names those who have all of it first, and not all of a crowd.
    pub(super) fn found(&mut self, number: u32, subject: u32) -> Vec<(u32, Holding)> {
        let asked = (self.nodes[number as usize].links.len() + 1).min(MOST_ASKED);
        let most = (asked * HOLDERS_TOLD).min(HEARERS);
        let standing = &self.standings[subject as usize];
        let complete = standing.complete.some(most, &mut self.random);
        // Who is told of enough holders is not told of those who fetch.
        let room = if standing.complete.len() >= HOLDERS_TOLD { 0 } else { most - complete.len() };
        let fetching = standing.fetching.some(room, &mut self.random);
        let complete = complete.into_iter().map(|node| (node, Holding::Complete));
        let mut found: Vec<(u32, Holding)> = complete.chain(fetching.into_iter().map(|node| (node, Holding::Fetching))).collect();
        found.retain(|(node, _)| *node != number);
        self.random.shuffle(&mut found);
        found
    }
}
