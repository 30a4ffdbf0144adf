//! How the engine goes over a shared file: whom to ask for what, what to read itself, what to tell.

use std::collections::BTreeSet;
use std::ops::Range;
use std::time::Duration;

use larder_content::{CHUNK_BYTES, ContentId, FileKey, FileWord, NodeId};

use crate::content::Content;
use crate::file::{Place, WantedFile};
use crate::link::Link;
use crate::pace::Straight;
use crate::partner::Partner;
use crate::share::{Share, Standing, Surroundings};
use crate::swarm::{followers, have};
use crate::{Action, Engine, From, Peer, Read, Time};

/// Positions that are looked at to find a rare chunk.
const SAMPLES: usize = 16;
/// Files at work from which on each is told of less often.
const FILES_TOLD: usize = 4;
/// Followers of one file from twice as many on, they are told less often, down to a fourth.
const FOLLOWERS_TOLD: usize = 5;
const MOST_SELDOM: usize = 4;
/// The most peers whose record is kept.
const MOST_LINKS: usize = 8192;
/// How long an origin may bring nothing and still counts as moving.
const MOVES: Duration = Duration::from_secs(1);
/// When a file is looked at as a whole after something that is of one peer.
pub(crate) const SOON: Duration = Duration::from_millis(20);
/// How much faster another must be for a request to be moved to it, at the end, and as long as there is other work: what was asked for is
/// on its way then, and is sent for nothing.
const STEAL_MARGIN: Duration = Duration::from_millis(200);
const EARLY_STEAL_MARGIN: Duration = Duration::from_secs(1);
/// How much slower one that has begun has to be.
const BEGUN: u32 = 10;

impl Engine {
    pub(crate) fn review_at(&mut self, key: FileKey, at: Time) {
        let Some(file) = self.files.get_mut(&key).filter(|file| file.share.is_some()) else { return };
        if file.review_at.is_none_or(|before| before > at) {
            if let Some(before) = file.review_at.replace(at) {
                self.reviews.remove(&(before, key));
            }
            self.reviews.insert((at, key));
        }
    }

    /// A peer has more of a file, or brought what it was asked for: it is asked for more at once, and the rest is looked at soon.
    pub(crate) fn may_bring_more(&mut self, key: FileKey, peer: Peer, now: Time) {
        self.more.insert((peer, key));
        self.review_at(key, now + SOON);
    }

    pub(crate) fn review_due(&mut self, now: Time) {
        loop {
            // Those that wait for a place first: else who has it keeps it.
            while let Some(peer) = self.freed.pop_first() {
                let Some(link) = self.links.get(&peer) else { continue };
                let mut turn = link.turn;
                // Each once: it may wait again at once.
                for _ in 0..link.files_waiting() {
                    let link = self.links.get_mut(&peer).filter(|link| link.has_room(now));
                    let Some(key) = link.and_then(|link| link.next_waiting(&mut turn)) else { break };
                    self.ask_partner(key, peer, now);
                }
            }
            if let Some((peer, key)) = self.more.pop_first() {
                self.ask_partner(key, peer, now);
                continue;
            }
            let Some((_, key)) = self.reviews.first().copied().filter(|(at, _)| *at <= now) else { break };
            self.review(key, now);
        }
        if self.links.len() > MOST_LINKS {
            self.links.retain(|_, link| link.asked > 0 || !link.is_usable(now));
        }
    }

    /// Looks at one file anew: whom to ask for what, what to read from the origin, what to tell.
    fn review(&mut self, key: FileKey, now: Time) {
        let Some(file) = self.files.get_mut(&key) else { return };
        if let Some(at) = file.review_at.take() {
            self.reviews.remove(&(at, key));
        }
        let Some(mut share) = file.share.take() else { return };
        if !share.sealing {
            self.leave_the_mute(&mut share, now);
            self.follow_neighbours(key, &mut share, now);
            self.look_about(key, &mut share, now);
            self.judge(key, &mut share, now);
            self.learn_content(key, &mut share, now);
            self.sample(key, &share, now);
            self.ask(key, &share, now);
            self.take_extents(key, &mut share, now);
            self.wait_for_none_in_doubt(key, &share, now);
        }
        self.tell_followers(key, &mut share, now);
        let next = share
            .tell_at
            .unwrap_or(Time::MAX)
            .min(self.files.get(&key).map_or(Time::MAX, |file| file.doubt.ends(now)))
            .min(if share.sealing { Time::MAX } else { share.next_step(now) });
        if let Some(file) = self.files.get_mut(&key) {
            file.share = Some(share);
        }
        self.count_taken(key, now);
        if next < Time::MAX {
            self.review_at(key, next);
        }
        self.give_up_if_hopeless(key, now);
        self.settle(key, now);
    }

    /// Counts the extents of a file that this node reads, or is about to; where they are fewer than before, the other files of its group
    /// may have more.
    pub(crate) fn count_taken(&mut self, key: FileKey, now: Time) {
        let Some(file) = self.files.get_mut(&key) else { return };
        let rests = matches!(file.place, Place::Resting(_));
        let reads = |share: &&Share| !share.whole && !share.sealing && !share.hopeless && share.at_once > 0 && !rests;
        let taken = file.share.as_deref().filter(reads).map_or(0, |share| share.mine.len());
        let (before, group) = (std::mem::replace(&mut file.taken, taken), file.group);
        self.turns.takes(group, before, taken);
        if taken < before {
            let waits = |file: &WantedFile| file.group == group && file.share.is_some() && !file.waiting.is_empty();
            let others: Vec<FileKey> =
                self.files.iter().filter(|(other, file)| **other != key && waits(file)).map(|(key, _)| *key).collect();
            others.into_iter().for_each(|other| self.review_at(other, now));
        }
    }

    fn look_about(&self, key: FileKey, share: &mut Share, now: Time) {
        let Some(file) = self.files.get(&key) else { return };
        let market = share.market;
        let stands = |node| {
            let link = self.links.get(&Peer { market, node });
            Standing {
                usable: link.is_none_or(|link| link.is_usable(now)),
                doubtful: link.is_some_and(Link::is_doubtful),
                only_talks: link.is_some_and(Link::only_talks),
            }
        };
        share.look_about(stands, &self.around(file, now));
    }

    /// Relies no more, for no file, on those who were said to have all of this one and do not answer.
    fn leave_the_mute(&mut self, share: &mut Share, now: Time) {
        for node in share.mute(now) {
            let spread = self.random.spread();
            self.links.entry(Peer { market: share.market, node }).or_default().stalled(&self.config, now, spread);
        }
    }

    /// In a crowd: those who read what is next to what this node reads.
    fn follow_neighbours(&mut self, key: FileKey, share: &mut Share, now: Time) {
        for node in share.look_up_neighbours(self.config.partners_in_crowd, now) {
            self.tell(Peer { market: share.market, node }, key, FileWord::Follow);
        }
    }

    fn around<'a>(&self, file: &'a WantedFile, now: Time) -> Surroundings<'a> {
        let source = self.sources.get(&file.origin);
        let origin_moves = source.and_then(|source| source.heard).is_some_and(|at| now.saturating_sub(at) < MOVES);
        Surroundings {
            now,
            waiting: &file.waiting,
            origin_moves,
            others_try_until: source.map_or(Time::ZERO, |source| source.others_try_until),
            is_settling: file.doubt.is_being_settled(now),
            asking: !file.asking.is_empty(),
            others: self.turns.taken(file.group).saturating_sub(file.taken),
            stagger: self.config.stagger,
        }
    }

    /// Whether the job's patience is over: then the origin helps more, else less.
    fn judge(&mut self, key: FileKey, share: &mut Share, now: Time) {
        let Some(patience) = share.patience else { return };
        let Some(WantedFile { group, origin, .. }) = self.files.get(&key) else { return };
        let group = *group;
        let Some(source) = self.sources.get(origin) else { return };
        let straight = source.straight(&self.config, &self.line, share.has_holder, now);
        if let Some((pace, groups)) = self.paces.due(group, now) {
            let reads = self.reads.values().map(|read| (read.file, read.chunks.end - read.chunks.start));
            let waiting = self.files.iter().map(|(key, file)| (*key, file.waiting.chunks()));
            let of_group = |key: &FileKey| self.files.get(key).is_some_and(|file| file.group == group);
            let left: u64 = reads.chain(waiting).filter(|(key, _)| of_group(key)).map(|(_, chunks)| chunks).sum();
            let left = left.saturating_mul(CHUNK_BYTES);
            let of_group = |rate: f64| rate / groups as f64;
            // All of a crowd would find the same, each by reads of its own.
            let finds_out = !share.hopeless && !share.only_whole && !share.is_crowd;
            let may_be = straight.may_be.filter(|_| finds_out).map(of_group);
            if !finds_out {
                pace.finds_out_nothing();
            }
            let straight = Straight { rate: of_group(straight.rate), may_be };
            pace.judge(patience, straight, left, self.config.reads_per_file, now);
        }
        let most = if share.hopeless { 0 } else { self.config.reads_per_file };
        share.extra = self.paces.share_out(group, share.extra, most);
    }

    /// Asks for the chunk hashes of what a partner says the file is.
    fn learn_content(&mut self, key: FileKey, share: &mut Share, now: Time) {
        if let Content::Asked(node, _, at) = share.content
            && now >= at + share.hashes_take()
        {
            let spread = self.random.spread();
            self.links.entry(Peer { market: share.market, node }).or_default().stalled(&self.config, now, spread);
            share.content = Content::Unknown;
        }
        if share.content != Content::Unknown || share.whole {
            return;
        }
        let Some((node, content)) = share.next_to_show(|| self.random.below(u64::MAX)) else { return };
        share.content = Content::Asked(node, content, now);
        self.actions.push_back(Action::FetchHashes { file: key, peer: Peer { market: share.market, node }, content });
    }

    /// Has a chunk of a file read from the origin, any by chance, if nothing but the word of others tells what it is: where what they hold is
    /// something else, that shows.
    fn sample(&mut self, key: FileKey, share: &Share, now: Time) {
        let Some(file) = self.files.get_mut(&key) else { return };
        let is_told = matches!(share.content, Content::Known(_)) && !share.whole && !share.hopeless && !share.only_whole;
        if !is_told || file.whole || file.reading > 0 || !file.doubt.wants_sample(now) {
            return;
        }
        let any = self.random.below(file.layout.count());
        let Some(run) = file.waiting.from(any).or_else(|| file.waiting.from(0)) else { return };
        if !self.sources.get(&file.origin).is_some_and(|source| source.is_open(now)) {
            return;
        }
        file.doubt.samples(now);
        let chunk = run.start..run.start + 1;
        file.waiting.remove(chunk.clone());
        self.read_of_origin(key, chunk, now);
    }

    /// Asks one partner for as many chunks as it may be asked for.
    fn ask_partner(&mut self, key: FileKey, peer: Peer, now: Time) {
        let Some(share) = self.files.get_mut(&key).and_then(|file| file.share.take()) else { return };
        let partner = share.partners.get(&peer.node).filter(|_| !share.sealing && share.market == peer.market);
        let content = partner.and_then(|partner| may_ask(&share, partner));
        while content.is_some_and(|content| self.ask_one(key, &share, peer.node, content, now)) {}
        if let Some(file) = self.files.get_mut(&key) {
            file.share = Some(share);
        }
        if content.is_none() {
            // It waited for one that is none any more.
            self.review_at(key, now + SOON);
        }
    }

    /// Asks partners for chunks, a run of each in turn, as long as there is something to ask.
    fn ask(&mut self, key: FileKey, share: &Share, now: Time) {
        let mut nodes: Vec<(NodeId, Option<ContentId>)> =
            share.partners.iter().filter_map(|(node, partner)| Some((*node, may_ask(share, partner)?))).collect();
        if nodes.is_empty() {
            return;
        }
        let first = usize::try_from(self.random.below(nodes.len() as u64)).unwrap_or_default();
        nodes.rotate_left(first);
        while !nodes.is_empty() {
            nodes.retain(|(node, content)| self.ask_one(key, share, *node, *content, now));
        }
    }

    /// Asks one partner for one run; tells whether there may be more to ask of it.
    fn ask_one(&mut self, key: FileKey, share: &Share, node: NodeId, content: Option<ContentId>, now: Time) -> bool {
        let peer = Peer { market: share.market, node };
        let Some(partner) = share.partners.get(&node) else { return false };
        let Some(file) = self.files.get_mut(&key) else { return false };
        let link = self.links.entry(peer).or_default();
        if !link.has_room(now) {
            if !link.is_waited_for(file.group, key) && partner.has.shared_with(&file.waiting, 0, 1).is_some() {
                link.waits(file.group, key);
            }
            return false;
        }
        // Where all have all of it nothing is rare, and the proof follows what comes in order.
        let by_rarity = !share.whole && share.fetchers().next().is_some();
        let rare_only = by_rarity && share.is_kept_for_rare(partner, link, file, now);
        let (most, own) = (if share.whole { u64::MAX } else { link.run() }, link.time_for(CHUNK_BYTES));
        let front = file.front(&partner.has, &self.reads, now);
        let before = |run: Range<u64>| Some(run.start..run.end.min(front)).filter(|run| !run.is_empty());
        let mut run = partner.has.shared_with(&file.waiting, 0, most).and_then(before);
        if run.is_none() {
            self.steal(key, share, node, own, false, now);
            let Some(file) = self.files.get_mut(&key) else { return false };
            run = partner.has.shared_with(&file.waiting, 0, most).and_then(before);
            if run.is_none() && front < u64::MAX {
                file.doubt.holds_back();
            }
        } else if rare_only && !partner.has.meets_but(file.waiting.bits(), &share.common) {
            link.waits(file.group, key);
            return false;
        } else if by_rarity {
            let samples =
                (0..SAMPLES).filter_map(|_| partner.has.shared_with(&file.waiting, self.random.below(share.count.min(front)), most));
            let may = |chunk: &u64| share.is_to_ask(*chunk) && !(rare_only && share.common.contains(*chunk));
            let its_turn = |run: Range<u64>| {
                let start = run.clone().find(may)?;
                Some(start..(start..run.end).find(|chunk| !may(chunk)).unwrap_or(run.end))
            };
            run = samples.filter_map(before).chain(run).filter_map(its_turn).min_by_key(|run| share.available(run.start));
            if run.is_none() && rare_only {
                link.waits(file.group, key);
            }
        }
        let Some(mut chunks) = run else { return false };
        // As much of it as may be in doubt. If that is nothing, who is slow leaves some.
        while !self.may_be_asked(key, &chunks, now) {
            chunks.end = chunks.start + (chunks.end - chunks.start) / 2;
            if chunks.is_empty() {
                let is_listed = self.files.get(&key).is_some_and(|file| file.doubt.is_listed(now));
                if !is_listed || !self.steal(key, share, node, own, true, now) {
                    return false;
                }
                chunks.end = chunks.start + 1;
            }
        }
        let Some(file) = self.files.get_mut(&key) else { return false };
        let bytes = file.bytes(&chunks);
        file.doubt.asks(bytes);
        file.waiting.remove(chunks.clone());
        file.asked.set(chunks.clone(), true);
        let group = file.group;
        let turn_takes = self.turn_takes(now);
        self.links.entry(peer).or_default().asked_for(group, bytes, turn_takes, now);
        let read = self.begin(key, chunks, From::Peer { peer, content }, now);
        if let Some(file) = self.files.get_mut(&key) {
            file.asking.insert(read);
        }
        true
    }

    fn may_be_asked(&mut self, key: FileKey, chunks: &Range<u64>, now: Time) -> bool {
        let Some(file) = self.files.get_mut(&key) else { return false };
        let bytes = file.bytes(chunks);
        file.doubt.allows(bytes, || file.asked.len().saturating_mul(CHUNK_BYTES), now)
    }

    /// Takes from the slowest peer a run that it has not begun, if `node` can bring it much sooner; at the end, or if nothing more may be in doubt,
    /// also one that it has begun, of which something is lost then, if that takes it very long. Tells whether there was one.
    fn steal(&mut self, key: FileKey, share: &Share, node: NodeId, own: Duration, is_full: bool, now: Time) -> bool {
        let Some(partner) = share.partners.get(&node) else { return false };
        let Some(file) = self.files.get(&key).filter(|file| partner.has.meets(&file.asked)) else { return false };
        let at_end = file.waiting.is_empty();
        let thief = self.links.get(&Peer { market: share.market, node });
        let counts_begun = at_end || is_full;
        let is_proven = counts_begun && thief.is_some_and(|link| link.rate.bytes_per_second > 0.0 && !link.is_doubtful());
        let slow = file.asking.iter().filter_map(|id| {
            let read = self.reads.get(id)?;
            let peer = read.peer().filter(|peer| (is_proven || !read.begun) && peer.node != node)?;
            let has = read.chunks.clone().all(|chunk| partner.has.contains(chunk));
            let takes = has.then(|| self.links.get(&peer)).flatten()?.time_for(0);
            // As long as it has taken it will take at least.
            let takes = if counts_begun { takes.max(now.saturating_sub(read.heard)) } else { takes };
            Some((if read.begun { takes / BEGUN } else { takes }, *id))
        });
        let margin = if at_end { STEAL_MARGIN } else { EARLY_STEAL_MARGIN };
        // The one asked for last is the last to come.
        let Some((takes, id)) = slow.max() else { return false };
        let is_old = self.reads.get(&id).is_some_and(|read| now.saturating_sub(read.began) > STEAL_MARGIN);
        if takes <= own * 2 + margin || !is_old {
            return false;
        }
        self.cancel_one(id);
        true
    }

    /// Gives up what was asked of peers that stalled before when it is all that the origin could still bring.
    fn wait_for_none_in_doubt(&mut self, key: FileKey, share: &Share, now: Time) {
        if share.at_once == 0 || self.files.get(&key).is_none_or(|file| !file.waiting.is_empty()) {
            return;
        }
        let old = |read: &&Read| read.file == key && read.heard == read.began && now.saturating_sub(read.began) > STEAL_MARGIN;
        let peers: BTreeSet<Peer> = self.reads.values().filter(old).filter_map(Read::peer).collect();
        for peer in peers {
            if let Some(link) = self.links.get_mut(&peer).filter(|link| link.is_doubtful()) {
                link.stalled(&self.config, now, self.random.spread());
                self.cancel(|read| read.file == key && read.peer() == Some(peer));
            }
        }
    }

    fn take_extents(&mut self, key: FileKey, share: &mut Share, now: Time) {
        let Some(file) = self.files.get(&key).filter(|file| !file.whole) else { return };
        let reads = self.reads.values().filter(|read| read.file == key && read.from == From::Origin);
        let reads: Vec<Range<u64>> = reads.map(|read| read.chunks.clone()).collect();
        share.take_extents(&self.around(file, now), &reads);
    }

    /// Tells those who follow what came, and what is read.
    fn tell_followers(&mut self, key: FileKey, share: &mut Share, now: Time) {
        if share.whole {
            share.untold.clear();
        }
        if !share.untold.is_empty() && share.tell_at.is_none() {
            // Many files share the line on which it is told, and each word to many costs a word to each.
            let told = |file: &&WantedFile| file.share.as_ref().is_some_and(|share| !share.whole);
            let files = self.files.values().filter(told).count() / FILES_TOLD;
            let many = (followers(share).len() / FOLLOWERS_TOLD).min(MOST_SELDOM).max(files);
            share.tell_at = Some(now + self.config.tell_every.saturating_mul(u32::try_from(many).unwrap_or(u32::MAX).max(1)));
        }
        if !share.undeclared && share.tell_at.is_none_or(|at| at > now) {
            return;
        }
        share.tell_at = None;
        let mut words: Vec<FileWord> = have(&share.untold).collect();
        share.untold.clear();
        // What is moved whole is there in a moment, and that is told.
        if std::mem::take(&mut share.undeclared) && !(share.whole && share.had.chunks() == share.count) {
            words.push(FileWord::Reading(share.declared()));
        }
        for peer in followers(share) {
            words.iter().for_each(|word| self.tell(peer, key, word.clone()));
        }
    }

    /// Gives up a file that its origin will not give when no peer brings it either.
    fn give_up_if_hopeless(&mut self, key: FileKey, now: Time) {
        let Some(file) = self.files.get(&key) else { return };
        let hopeless = file.share.as_ref().is_some_and(|share| share.hopeless && !share.sealing);
        if hopeless && file.asking.is_empty() && file.reading == 0 && !self.is_hoped_for(key, now) {
            self.forget(key);
            self.actions.push_back(Action::GiveUp { file: key });
        }
    }

    /// Whether a peer may yet bring what the origin of a file does not: one that counts, or one that only rests or is busy with others.
    pub(crate) fn is_hoped_for(&self, key: FileKey, now: Time) -> bool {
        let Some((file, share)) = self.files.get(&key).and_then(|file| Some((file, file.share.as_deref()?))) else { return false };
        share.partners.iter().any(|(node, partner)| {
            let link = self.links.get(&Peer { market: share.market, node: *node });
            partner.live && !partner.is_to_come && !partner.stuck_at(now)
                || link.is_some_and(|link| link.is_hopeful(now)) && partner.has.shared_with(&file.waiting, 0, 1).is_some()
        })
    }
}

/// Whether a partner may be asked, and if so by what content it is asked.
fn may_ask(share: &Share, partner: &Partner) -> Option<Option<ContentId>> {
    let known = matches!(share.content, Content::Known(_));
    if !partner.live || !partner.answered {
        return None;
    }
    match partner.complete {
        Some(complete) => (share.is_of_use(complete) && (known || share.whole)).then_some(Some(complete)),
        None => (known || share.repair.is_none() && !share.whole).then_some(None),
    }
}
