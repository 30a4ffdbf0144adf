//! Jobs: what a node wants is listed, looked for at home and around, fetched, and laid.

use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use larder_content::Holding;
use larder_engine::{Event, GroupId, OriginId, Sharing, Time};

use super::assumptions::{COMMAND, FILES_AT_ONCE, LISTING, LOOK_FOR, MOST_ASKED};
use super::clock::Happening;
use super::deciding::MARKET;
use super::node::{Active, Bits};
use super::world::{File, ORIGIN, World};
use crate::report::Sources;
use crate::scenario::Patience;

/// What jobs have that say nothing of it.
const DEFAULT_PATIENCE: f64 = 1.5;
/// The first wait for an origin that does not list; it doubles up to the longest.
const FIRST_WAIT: Duration = Duration::from_millis(200);
const LONGEST_WAIT: Duration = Duration::from_secs(6);
/// How long a node in a large market looks more often at what comes.
const EAGER_FOR: Duration = Duration::from_secs(10);
/// How often a listing is asked for.
const TRIES: u32 = 6;

/// One job.
#[derive(Debug, Default)]
pub(super) struct Job {
    pub(super) node: u32,
    pub(super) resources: Vec<u32>,
    pub(super) at: Time,
    pub(super) has_come: bool,
    pub(super) bytes: u64,
    pub(super) from: Sources,
    pub(super) ready_at: Option<Time>,
    pub(super) has_failed: bool,
    tries: u32,
    gathers: Vec<Gather>,
    /// Resources that are not complete.
    left: usize,
}

/// One resource of a job, on its way into the store.
#[derive(Debug, Default)]
struct Gather {
    resource: u32,
    waiting: VecDeque<u32>,
    left: usize,
    group: u64,
    looked: Duration,
}

impl Job {
    pub(super) fn new(node: u32, resources: Vec<u32>, at: Time, bytes: u64) -> Self {
        Self { node, resources, at, bytes, ..Self::default() }
    }

    pub(super) fn is_open(&self) -> bool {
        self.ready_at.is_none() && !self.has_failed
    }
}

/// The patience of a scenario's jobs.
pub(super) fn patience(of: Option<Patience>) -> Option<f64> {
    of.map_or(Some(DEFAULT_PATIENCE), Patience::times)
}

impl World<'_> {
    pub(super) fn job_comes(&mut self, job: usize) {
        let node = self.jobs[job].node;
        self.jobs[job].has_come = true;
        if !self.nodes[node as usize].alive {
            return self.fail(job);
        }
        self.nodes[node as usize].jobs += 1;
        let at = self.clock.now + COMMAND / 2 + self.round_trips(node, ORIGIN, LISTING);
        self.clock.at(at, Happening::Listed(job));
    }

    /// The origin has told what the resources are; what is complete in the store is known without it.
    pub(super) fn listed(&mut self, job: usize) {
        let (node, now) = (self.jobs[job].node, self.clock.now);
        if !self.nodes[node as usize].alive || !self.jobs[job].is_open() {
            return;
        }
        let resources = self.jobs[job].resources.clone();
        let is_held = resources.iter().all(|resource| self.nodes[node as usize].held.contains_key(resource));
        if (self.origin.is_down || self.origin.is_busy) && !is_held {
            self.jobs[job].tries += 1;
            let tries = self.jobs[job].tries;
            if tries >= TRIES {
                return self.fail(job);
            }
            let wait = FIRST_WAIT.saturating_mul(1 << tries).min(LONGEST_WAIT).mul_f64(0.5 + self.random.f64());
            return self.clock.at(now + wait, Happening::Listed(job));
        }
        let mut gathers = Vec::new();
        let mut wanted: Vec<u32> = Vec::new();
        for resource in resources {
            let missing = |file: &u32| !self.nodes[node as usize].blobs.contains(file);
            let waiting: VecDeque<u32> = self.resources[resource as usize].iter().copied().filter(missing).collect();
            wanted.extend(waiting.iter().filter(|file| !self.nodes[node as usize].active.contains_key(file)));
            gathers.push(Gather { resource, left: waiting.len(), waiting, ..Gather::default() });
        }
        wanted.sort_unstable();
        wanted.dedup();
        let bytes = wanted.iter().map(|file| self.files[*file as usize].bytes).sum();
        if !self.make_room(node, bytes, job) {
            return self.fail(job);
        }
        self.jobs[job].left = gathers.iter().filter(|gather| gather.left > 0).count();
        self.jobs[job].gathers = gathers;
        if self.jobs[job].left == 0 {
            return self.laid(job);
        }
        for gather in 0..self.jobs[job].gathers.len() {
            self.look_around(job, gather);
        }
    }

    /// Says that a resource is fetched, and asks who else has it or is at it.
    fn look_around(&mut self, job: usize, gather: usize) {
        let (node, now) = (self.jobs[job].node, self.clock.now);
        let Gather { resource, left, .. } = self.jobs[job].gathers[gather];
        if left == 0 {
            return;
        }
        self.jobs[job].gathers[gather].group = self.nodes[node as usize].groups;
        self.nodes[node as usize].groups += 1;
        if self.scenario.lone {
            return self.looked(job, gather);
        }
        self.announce(node, resource, Holding::Fetching);
        self.standings[resource as usize].at_work.insert(node);
        let peers = self.nodes[node as usize].links.iter().take(MOST_ASKED).map(|link| link.peer);
        let takes = peers.map(|peer| self.round_trips(node, peer, 1.0)).max().unwrap_or_default().min(LOOK_FOR);
        self.jobs[job].gathers[gather].looked = takes;
        self.clock.at(now + takes, Happening::Looked { job, gather });
    }

    pub(super) fn looked(&mut self, job: usize, gather: usize) {
        let node = self.jobs[job].node;
        if !self.nodes[node as usize].alive || !self.jobs[job].is_open() {
            return;
        }
        for _ in 0..FILES_AT_ONCE {
            self.want_next(job, gather);
        }
        self.nodes[node as usize].eager_until = self.clock.now + EAGER_FOR;
        self.decide(node);
    }

    /// The next file of a resource is wanted.
    fn want_next(&mut self, job: usize, gather: usize) {
        let Some(file) = self.jobs[job].gathers[gather].waiting.pop_front() else { return };
        let number = self.jobs[job].node;
        if self.nodes[number as usize].blobs.contains(&file) {
            // It came for another meanwhile.
            return self.has_file(job, gather);
        }
        if let Some(active) = self.nodes[number as usize].active.get_mut(&file) {
            return active.waiters.push((job, gather));
        }
        let now = self.clock.now;
        let sharing = (!self.scenario.lone).then(|| Box::new(self.sharing(job, gather, file)));
        let shared = sharing.is_some();
        let subject = self.subject_of_file(file);
        if shared && self.files[file as usize].is_spoken_of {
            self.announce(number, subject, Holding::Fetching);
        }
        if shared {
            self.standings[subject as usize].at_work.insert(number);
        }
        let found = &self.files[file as usize];
        let have = Bits::none(found.layout.count());
        let group = GroupId(self.jobs[job].gathers[gather].group);
        let missing = vec![0..found.layout.count()];
        let event = Event::Wanted { file: found.key, layout: found.layout, missing, origin: OriginId(0), group, sharing };
        let node = &mut self.nodes[number as usize];
        let heard = self.standings[subject as usize].said.len();
        let active = Active { have, shared, listed: false, heard, proving: false, waiters: vec![(job, gather)] };
        node.active.insert(file, active);
        node.engine.handle(event, now);
    }

    fn sharing(&mut self, job: usize, gather: usize, file: u32) -> Sharing {
        let number = self.jobs[job].node;
        let mut found = if self.files[file as usize].is_spoken_of { self.found(number, self.subject_of_file(file)) } else { Vec::new() };
        let seen: HashSet<u32> = found.iter().map(|(other, _)| *other).collect();
        let of_resource = self.found(number, self.jobs[job].gathers[gather].resource);
        found.extend(of_resource.into_iter().filter(|(other, _)| !seen.contains(other)));
        let known = found.into_iter().map(|(other, holding)| (self.nodes[other as usize].id, holding)).collect();
        Sharing {
            market: MARKET,
            me: self.nodes[number as usize].id,
            patience: patience(self.scenario.patience),
            whole: self.files[file as usize].is_small,
            known,
            looked: self.jobs[job].gathers[gather].looked,
            company: self.nodes.len() > 1,
            // Holders have listed the pieces of what they hold.
            samples: false,
        }
    }

    /// The proof of a file has ended: it is what it should be, since liars were found out by the first piece.
    pub(super) fn proven(&mut self, number: u32, file: u32) {
        let now = self.clock.now;
        let File { key, content, bytes, is_spoken_of, .. } = self.files[file as usize];
        let node = &mut self.nodes[number as usize];
        if !node.alive || !node.active.get(&file).is_some_and(|active| active.proving) {
            return;
        }
        let Some(active) = node.active.remove(&file) else { return };
        node.engine.handle(Event::Proven { file: key, content, liars: Vec::new() }, now);
        node.blobs.insert(file);
        node.stored += bytes;
        let subject = self.subject_of_file(file);
        self.standings[subject as usize].at_work.remove(number);
        if active.shared && is_spoken_of {
            self.announce(number, subject, Holding::Complete);
        }
        for (job, gather) in active.waiters {
            self.has_file(job, gather);
        }
        self.look(number);
    }

    fn has_file(&mut self, job: usize, gather: usize) {
        if !self.jobs[job].is_open() {
            return;
        }
        let found = &mut self.jobs[job].gathers[gather];
        found.left -= 1;
        if found.left > 0 {
            return self.want_next(job, gather);
        }
        let resource = found.resource;
        let node = self.jobs[job].node;
        self.standings[resource as usize].at_work.remove(node);
        self.announce(node, resource, Holding::Complete);
        self.jobs[job].left -= 1;
        if self.jobs[job].left == 0 {
            self.laid(job);
        }
    }

    fn laid(&mut self, job: usize) {
        let at = self.clock.now + COMMAND / 2;
        self.clock.at(at, Happening::Ready(job));
    }

    /// All of a job is in the store, and laid.
    pub(super) fn ready(&mut self, job: usize) {
        let (number, now) = (self.jobs[job].node, self.clock.now);
        if !self.jobs[job].is_open() || !self.nodes[number as usize].alive {
            return;
        }
        let Job { bytes, from, .. } = self.jobs[job];
        let cache = bytes - (from.peers + from.origin).min(bytes);
        self.jobs[job].from.cache = cache;
        self.jobs[job].ready_at = Some(now);
        self.got.cache += cache;
        let node = &mut self.nodes[number as usize];
        node.counts.from.cache += cache;
        node.jobs -= 1;
        self.open_jobs -= 1;
        for resource in self.jobs[job].resources.clone() {
            self.nodes[number as usize].held.insert(resource, now);
            if let Some(expiry) = self.expiry {
                self.clock.at(now + expiry, Happening::Expires { node: number, resource });
            }
        }
    }

    /// A job will not be ready.
    pub(super) fn fail(&mut self, job: usize) {
        if !self.jobs[job].is_open() {
            return;
        }
        self.jobs[job].has_failed = true;
        self.open_jobs -= 1;
        let node = &mut self.nodes[self.jobs[job].node as usize];
        node.jobs = node.jobs.saturating_sub(1);
    }

    /// A file cannot be had.
    pub(super) fn give_up(&mut self, number: u32, file: u32) {
        let (now, key) = (self.clock.now, self.files[file as usize].key);
        let Some(active) = self.nodes[number as usize].active.remove(&file) else { return };
        self.nodes[number as usize].engine.handle(Event::Unwanted { file: key }, now);
        let subject = self.subject_of_file(file);
        self.standings[subject as usize].at_work.remove(number);
        self.announce(number, subject, Holding::Gone);
        for (job, _) in active.waiters {
            self.fail(job);
        }
    }

    /// A resource is dropped if nobody has used it for as long as it is kept.
    pub(super) fn expires(&mut self, number: u32, resource: u32) {
        let (now, Some(expiry)) = (self.clock.now, self.expiry) else { return };
        let node = &self.nodes[number as usize];
        if node.alive && node.held.get(&resource).is_some_and(|used| *used + expiry <= now) {
            self.drop_resource(number, resource);
        }
    }

    /// Makes room for so many bytes, by what was used longest ago and no job is at; false if there is none.
    fn make_room(&mut self, number: u32, bytes: u64, job: usize) -> bool {
        let Some(disk) = self.nodes[number as usize].disk else { return true };
        while self.nodes[number as usize].stored + bytes > disk {
            let needed = |resource: &u32| {
                let at_it = |other: &Job| other.node == number && other.has_come && other.is_open() && other.resources.contains(resource);
                self.jobs[job].resources.contains(resource) || self.nodes[number as usize].jobs > 1 && self.jobs.iter().any(at_it)
            };
            let idle = self.nodes[number as usize].held.iter().filter(|(resource, _)| !needed(resource));
            let Some(resource) = idle.min_by_key(|(_, used)| **used).map(|(resource, _)| *resource) else { return false };
            self.drop_resource(number, resource);
        }
        true
    }

    fn drop_resource(&mut self, number: u32, resource: u32) {
        self.nodes[number as usize].held.remove(&resource);
        for file in self.resources[resource as usize].clone() {
            let kept = self.files[file as usize].resources.iter().any(|other| self.nodes[number as usize].held.contains_key(other));
            if !kept && self.nodes[number as usize].blobs.remove(&file) {
                self.nodes[number as usize].stored -= self.files[file as usize].bytes;
                if self.files[file as usize].is_spoken_of {
                    self.announce(number, self.subject_of_file(file), Holding::Gone);
                }
            }
        }
        self.announce(number, resource, Holding::Gone);
    }
}
