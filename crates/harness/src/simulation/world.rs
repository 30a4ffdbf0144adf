//! All nodes, the origin and the clock; what happens to whom.

use larder_content::{ChunkLayout, ContentId, FileKey, Holding};
use larder_engine::{ReadId, Time};

use super::clock::{Clock, Happening};
use super::crowd::Crowd;
use super::node::{Letter, News, Node};
use super::server::Server;
use super::wanting::Job;
use crate::report::{Moment, Sources};
use crate::scenario::{Halt, OriginFaultKind, Plan, Scenario};

/// The number of the origin among those who send.
pub(super) const ORIGIN: u32 = u32::MAX;
/// After how many things that happened progress is told.
const TOLD_EVERY: u64 = 1 << 22;
/// How many times more often nodes look at first.
const EAGER: u32 = 4;
/// The most moments in a timeline: then every second one goes.
const MOST_MOMENTS: usize = 600;

/// One file.
#[derive(Debug)]
pub(super) struct File {
    pub(super) key: FileKey,
    pub(super) content: ContentId,
    pub(super) bytes: u64,
    /// As the engine sees it.
    pub(super) layout: ChunkLayout,
    pub(super) is_small: bool,
    pub(super) is_spoken_of: bool,
    /// The resources that hold it.
    pub(super) resources: Vec<u32>,
}

/// What the market has heard of a subject: a resource, or a file. And who is at it now.
#[derive(Debug, Default)]
pub(super) struct Standing {
    pub(super) complete: Crowd,
    pub(super) fetching: Crowd,
    pub(super) at_work: Crowd,
    /// Who was announced to fetch it, and when.
    pub(super) said: Vec<(Time, u32)>,
}

/// The origin.
#[derive(Debug)]
pub(super) struct Origin {
    pub(super) server: Server,
    pub(super) is_down: bool,
    pub(super) is_busy: bool,
    pub(super) body_bytes: u64,
    pub(super) requests: u64,
    pub(super) next_stream: u64,
}

/// Everything.
#[derive(Debug)]
pub(super) struct World<'a> {
    pub(super) scenario: &'a Scenario,
    pub(super) plan: &'a Plan,
    /// How many real chunks one of the engine's stands for.
    pub(super) scale: u64,
    pub(super) seed: u64,
    pub(super) clock: Clock,
    pub(super) random: fastrand::Rng,
    pub(super) nodes: Vec<Node>,
    pub(super) origin: Origin,
    pub(super) files: Vec<File>,
    /// The files of each resource.
    pub(super) resources: Vec<Vec<u32>>,
    /// Of resources, then of files.
    pub(super) standings: Vec<Standing>,
    pub(super) jobs: Vec<Job>,
    pub(super) open_jobs: usize,
    /// How often a node looks at what has come, in large markets; it looks at once if that is zero.
    pub(super) look_every: Time,
    /// The round trips of pairs: the least, and how much more, in microseconds.
    pub(super) round_trip_us: (u64, u64),
    pub(super) give_up_at: Time,
    pub(super) expiry: Option<Time>,
    pub(super) timeline: Vec<Moment>,
    pub(super) sample_every: Time,
    pub(super) sample_at: Time,
    pub(super) got: Sources,
    /// Bytes of gossip that each node has passed on and been sent.
    pub(super) gossip_bytes: u64,
    pub(super) happened: u64,
}

impl World<'_> {
    /// Plays until all jobs are ready, or it is given up.
    pub(super) fn run(&mut self, progress: &mut dyn FnMut(&str)) {
        while self.open_jobs > 0
            && let Some(what) = self.clock.next()
        {
            if self.clock.now > self.give_up_at {
                break;
            }
            self.sample();
            self.happened += 1;
            if self.happened.is_multiple_of(TOLD_EVERY) {
                progress(&self.state());
            }
            self.happen(what);
        }
        self.sample_at = Time::ZERO;
        self.sample();
    }

    fn happen(&mut self, what: Happening) {
        match what {
            Happening::Job(job) => self.job_comes(job),
            Happening::Listed(job) => self.listed(job),
            Happening::Looked { job, gather } => self.looked(job, gather),
            Happening::Ready(job) => self.ready(job),
            Happening::Wake(node) => {
                if self.nodes[node as usize].alive && self.nodes[node as usize].wakes_at == self.clock.now {
                    self.nodes[node as usize].wakes_at = Time::MAX;
                    self.decide(node);
                }
            }
            Happening::Asked { server, stream, ask } => self.asked(server, stream, ask),
            Happening::Withdrawn { server, stream, read } => {
                if let Some(server) = self.server(server) {
                    server.withdraw(stream, read);
                }
            }
            Happening::Free(server) => {
                if let Some(found) = self.server(server) {
                    found.is_busy = false;
                }
                self.serve(server);
            }
            Happening::Delivered(delivery) => self.delivered(&delivery),
            Happening::Ended { node, read, outcome } => self.ended(node, read, outcome),
            Happening::Dialled { from, to } => self.dialled(from, to),
            Happening::Announces(node) => self.announces(node),
            Happening::Heard { node, rows } => self.heard(node, &rows),
            Happening::Proven { node, file } => self.proven(node, file),
            Happening::Expires { node, resource } => self.expires(node, resource),
            Happening::Leaves { node, how } => self.leaves(node, how),
            Happening::FoundOut(node) => self.is_gone(node),
            Happening::Fault(kind, on) => self.fault(kind, on),
        }
    }

    /// Whoever sends under that number, if it still does.
    pub(super) fn server(&mut self, number: u32) -> Option<&mut Server> {
        if number == ORIGIN {
            return Some(&mut self.origin.server);
        }
        self.nodes.get_mut(number as usize).filter(|node| node.alive).map(|node| &mut node.up)
    }

    /// How long a word takes between two nodes, or a node and the origin.
    pub(super) fn one_way(&self, one: u32, other: u32) -> Time {
        let (low, high) = (one.min(other), one.max(other));
        let mut z = self.seed ^ (u64::from(low) << 32 | u64::from(high)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        let (least, more) = self.round_trip_us;
        Time::from_micros((least + (z ^ (z >> 31)) % (more + 1)) / 2)
    }

    /// So many round trips.
    pub(super) fn round_trips(&self, one: u32, other: u32, count: f64) -> Time {
        (self.one_way(one, other) * 2).mul_f64(count)
    }

    /// Something comes to a node, which looks at it soon.
    pub(super) fn send(&mut self, node: u32, at: Time, what: News) {
        let number = self.clock.number();
        let Some(receiver) = self.nodes.get_mut(node as usize).filter(|node| node.alive) else { return };
        receiver.inbox.push(Letter { at, number, what });
        self.wake(node, at);
    }

    /// A node looks at what has come by now.
    pub(super) fn look(&mut self, node: u32) {
        if self.look_every.is_zero() { self.decide(node) } else { self.wake(node, self.clock.now) }
    }

    /// A node looks at what is due at that time, if it does not before.
    pub(super) fn wake(&mut self, node: u32, at: Time) {
        let at = self.look_after(node, at.max(self.clock.now));
        let Some(sleeper) = self.nodes.get_mut(node as usize).filter(|node| node.wakes_at > at) else { return };
        sleeper.wakes_at = at;
        self.clock.at(at, Happening::Wake(node));
    }

    /// When a node looks next from that time on: each at times of its own, and more often at first.
    fn look_after(&self, node: u32, at: Time) -> Time {
        if self.look_every.is_zero() {
            return at;
        }
        let is_eager = self.nodes.get(node as usize).is_some_and(|node| at < node.eager_until);
        let every = if is_eager { self.look_every / EAGER } else { self.look_every };
        let (every, at) = (every.as_nanos().max(1), at.as_nanos());
        let own = u128::from(node).wrapping_mul(0x9E37_79B9) % every;
        let turns = (at + every - own).div_ceil(every);
        Time::from_nanos(u64::try_from(turns * every + own - every).unwrap_or(u64::MAX))
    }

    pub(super) fn subject_of_file(&self, file: u32) -> u32 {
        file + u32::try_from(self.resources.len()).unwrap_or(u32::MAX)
    }

    fn fault(&mut self, kind: OriginFaultKind, on: bool) {
        match kind {
            OriginFaultKind::Busy => self.origin.is_busy = on,
            OriginFaultKind::Down => {
                self.origin.is_down = on;
                if on {
                    for ask in self.origin.server.hang_up_on_all() {
                        let at = self.clock.now + self.one_way(ask.node, ORIGIN);
                        self.clock.at(at, Happening::Ended { node: ask.node, read: ask.read, outcome: larder_engine::Outcome::Broken });
                    }
                }
            }
        }
    }

    fn leaves(&mut self, number: u32, how: Halt) {
        let now = self.clock.now;
        let node = &mut self.nodes[number as usize];
        (node.alive, node.counts.left_s) = (false, Some(now.as_secs_f64()));
        node.inbox.clear();
        node.up.hang_up_on_all();
        for job in 0..self.jobs.len() {
            if self.jobs[job].node == number && self.jobs[job].is_open() && self.jobs[job].has_come {
                self.fail(job);
            }
        }
        match how {
            Halt::Killed => {
                let reads: Vec<ReadId> = self.nodes[number as usize].reads.keys().copied().collect();
                reads.into_iter().for_each(|read| self.cancel(number, read));
                self.is_gone(number);
            }
            Halt::Frozen => self.clock.at(now + super::assumptions::PING_FINDS_OUT, Happening::FoundOut(number)),
        }
    }

    /// Takes note of what all have got by now.
    fn sample(&mut self) {
        if self.clock.now < self.sample_at {
            return;
        }
        self.timeline.push(Moment { at_s: self.clock.now.as_secs_f64(), from: self.got });
        self.sample_at = self.clock.now + self.sample_every;
        if self.timeline.len() > MOST_MOMENTS {
            let mut place = 0;
            self.timeline.retain(|_| {
                place += 1;
                place % 2 == 1
            });
            self.sample_every *= 2;
        }
    }

    fn state(&self) -> String {
        let wanted: u64 = self.jobs.iter().map(|job| job.bytes).sum();
        let got = self.got.cache + self.got.peers + self.got.origin;
        format!(
            "{:.0} s: {:.1} % of {:.3} TB, {} of {} jobs are open, the origin has sent {:.1} GB",
            self.clock.now.as_secs_f64(),
            got as f64 * 100.0 / wanted.max(1) as f64,
            wanted as f64 / 1e12,
            self.open_jobs,
            self.jobs.len(),
            self.origin.body_bytes as f64 / 1e9
        )
    }

    /// How a node stands to a subject, as the market has heard.
    pub(super) fn holding(&self, subject: u32, node: u32) -> Option<Holding> {
        let standing = &self.standings[subject as usize];
        if standing.complete.contains(node) {
            return Some(Holding::Complete);
        }
        standing.fetching.contains(node).then_some(Holding::Fetching)
    }
}
