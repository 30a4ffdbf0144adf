//! What the engine does with peers: hears them, asks them, tells them, and believes them or not.

use std::ops::Range;
use std::time::Duration;

use larder_content::{CHUNK_BYTES, FileKey, FileMessage, FileWord, Holding};

use crate::content::Content;
use crate::doubt::Pieces;
use crate::partner::Met;
use crate::runs::Runs;
use crate::share::Share;
use crate::verdicts::BAN;
use crate::{Action, Config, Engine, From, Outcome, Peer, Read, ReadId, Time};

/// The most runs of chunks in one message.
const MOST_RUNS: usize = 1000;

/// A node that did not come to look for that long was stopped itself: while anything is asked of peers, it looks twice a second.
const ASLEEP: Duration = Duration::from_millis(1500);

impl Engine {
    /// Nobody here wants a file any more: whoever is at it with this node hears that.
    pub(crate) fn unwanted(&mut self, key: FileKey) {
        if let Some(share) = self.files.get(&key).and_then(|file| file.share.as_deref()) {
            let market = share.market;
            let partners: Vec<Peer> = share.partners.keys().map(|node| Peer { market, node: *node }).collect();
            partners.into_iter().for_each(|peer| self.tell(peer, key, FileWord::Unfollow));
        }
        self.forget(key);
    }

    pub(crate) fn sighted(&mut self, key: FileKey, peer: Peer, holding: Holding, now: Time) {
        let Some(share) = self.share_with(key, peer) else { return };
        match holding {
            Holding::Gone => share.is_gone(peer.node),
            Holding::Complete | Holding::Fetching => {
                let how = if holding == Holding::Complete { Met::IsSaidToHold } else { Met::IsSaidToFetch };
                self.meet(key, peer, how, now);
                let Some(share) = self.share_with(key, peer) else { return };
                // It may not have been there when it was asked before.
                if let Some(partner) = share.partners.get_mut(&peer.node).filter(|partner| !partner.answered) {
                    partner.said_complete |= holding == Holding::Complete;
                    self.tell(peer, key, FileWord::Follow);
                }
            }
        }
        self.review_at(key, now);
    }

    fn share_with(&mut self, key: FileKey, peer: Peer) -> Option<&mut Share> {
        self.files.get_mut(&key)?.share.as_deref_mut().filter(|share| share.market == peer.market)
    }

    /// Takes note of a partner; tells whether it is new. Who finds that it is in a crowd leaves to the others what is theirs.
    fn meet(&mut self, key: FileKey, peer: Peer, how: Met, now: Time) -> bool {
        let Config { partners, partners_in_crowd, .. } = self.config;
        let Some(share) = self.share_with(key, peer) else { return false };
        let was_crowd = share.is_crowd;
        let is_new = share.meet(peer.node, how, if was_crowd { partners_in_crowd } else { partners }, now);
        if share.is_crowd && !was_crowd {
            let (left, shed) = (share.leaves_to_crowd(), share.sheds(partners_in_crowd));
            self.leave_to_another(key, &left);
            for node in shed {
                self.cancel(|read| read.file == key && read.peer().is_some_and(|peer| peer.node == node));
                self.tell(Peer { node, ..peer }, key, FileWord::Unfollow);
            }
        }
        is_new
    }

    pub(crate) fn tell(&mut self, peer: Peer, file: FileKey, body: FileWord) {
        self.actions.push_back(Action::Tell { peer, message: FileMessage { file, body } });
    }

    pub(crate) fn told(&mut self, peer: Peer, message: FileMessage, now: Time) {
        let (key, node) = (message.file, peer.node);
        let is_new = message.body == FileWord::Follow && self.meet(key, peer, Met::Follows, now);
        let Some(share) = self.share_with(key, peer) else { return };
        let Some(partner) = share.partners.get_mut(&node) else {
            // There is no room for it: it is not to count on this node.
            if message.body == FileWord::Follow {
                self.tell(peer, key, FileWord::Unfollow);
            }
            return;
        };
        let had_answered = std::mem::replace(&mut partner.answered, true);
        let spoke = std::mem::replace(&mut partner.spoke, now);
        let was_to_come = std::mem::take(&mut partner.is_to_come);
        match message.body {
            FileWord::Follow => {
                partner.follows = true;
                // One that has come to it since has not kept what it was told before.
                if was_to_come || is_new {
                    self.tell(peer, key, FileWord::Follow);
                }
                self.tell_all(peer, key);
            }
            FileWord::Unfollow => {
                partner.follows = false;
                if partner.complete.is_none() {
                    share.part(node);
                }
            }
            FileWord::Complete(content) => {
                if share.is_refuted(content) {
                    share.part(node);
                } else if !share.is_complete(node, content, now) {
                    self.ban(peer);
                }
            }
            FileWord::Knows(content) => partner.knows = Some(content),
            // What is moved whole is asked of those only who have all of it.
            FileWord::Have(_) if share.whole => {}
            FileWord::Have(runs) => {
                let mut has = Runs::default();
                runs.into_iter().take(MOST_RUNS).for_each(|run| has.insert(run));
                let new = share.gain(node, &has);
                if share.partners.get(&node).is_some_and(|partner| partner.counted) {
                    share.has_news(&new, now);
                }
                if let Some(partner) = share.partners.get_mut(&node).filter(|_| !new.is_empty()) {
                    let took = partner.gets_on(&new, now);
                    took.into_iter().for_each(|took| share.readers_take(took));
                    if let Some(link) = self.links.get_mut(&peer) {
                        link.says_more(now);
                    }
                }
                if had_answered {
                    return self.may_bring_more(key, peer, now);
                }
            }
            FileWord::Reading(runs) => {
                let left = share.declares(node, runs.into_iter().take(MOST_RUNS).collect(), now);
                self.leave_to_another(key, &left);
            }
            // Of many small files it may come to this one yet: what is its turn to read is its turn until it is late.
            FileWord::Nothing if share.whole && !partner.said_complete => {
                (partner.is_to_come, partner.reading) = (true, Runs::default());
            }
            FileWord::Nothing => {
                // What is cut off with it has counted.
                if partner.has_said_something() && partner.record.refused_at <= spoke {
                    share.refuses(node, now);
                }
                share.is_gone(node);
                self.cancel(|read| read.file == key && read.peer() == Some(peer));
            }
        }
        self.review_at(key, now);
    }

    /// Stops reading from the origin what another reads.
    fn leave_to_another(&mut self, key: FileKey, left: &[Range<u64>]) {
        let within = |read: &Read| left.iter().any(|run| read.chunks.start < run.end && run.start < read.chunks.end);
        let stops = |read: &Read| read.file == key && read.from == From::Origin && within(read);
        self.cancel(|read| stops(read));
    }

    /// Tells someone who has begun to follow everything so far.
    pub(crate) fn tell_all(&mut self, peer: Peer, key: FileKey) {
        let Some(share) = self.files.get(&key).and_then(|file| file.share.as_deref()) else { return };
        let mut words = Vec::new();
        if let Content::Known(content) = share.content {
            words.push(FileWord::Knows(content));
        }
        if !share.whole {
            words.extend(have(&share.had));
        }
        let declared = share.declared();
        if !declared.is_empty() {
            words.push(FileWord::Reading(declared));
        }
        words.into_iter().for_each(|word| self.tell(peer, key, word));
    }

    pub(crate) fn lost(&mut self, peer: Peer, now: Time) {
        let shared: Vec<FileKey> = self.files.keys().copied().collect();
        for key in shared {
            if let Some(share) = self.share_with(key, peer)
                && share.partners.contains_key(&peer.node)
            {
                // It may be at it as before: a crowd closes what it has no room for.
                share.part(peer.node);
                self.review_at(key, now);
            }
        }
        self.cancel(|read| read.peer() == Some(peer));
    }

    /// Stops reads; what did not arrive waits again.
    pub(crate) fn cancel(&mut self, which: impl Fn(&Read) -> bool) {
        let reads: Vec<ReadId> = self.reads.iter().filter(|(_, read)| which(read)).map(|(id, _)| *id).collect();
        reads.into_iter().for_each(|id| self.cancel_one(id));
    }

    pub(crate) fn cancel_one(&mut self, id: ReadId) {
        self.take_back(id);
        self.actions.push_back(Action::Cancel { read: id });
    }

    /// Where more may be asked for than before, or less, that is so at once.
    pub(crate) fn heard_of_pieces(&mut self, key: FileKey, pieces: Pieces, now: Time) {
        if self.files.get_mut(&key).is_some_and(|file| file.doubt.heard(pieces, now)) {
            self.review_at(key, now);
        }
    }

    /// Its peer is heard, though no whole chunk came.
    pub(crate) fn heard(&mut self, id: ReadId, has_begun: bool, now: Time) {
        let Some(read) = self.reads.get_mut(&id) else { return };
        read.begun |= has_begun;
        if let Some(link) = read.peer().and_then(|peer| self.links.get_mut(&peer)) {
            link.pulse.beat(now);
        }
    }

    /// A read from a peer is over, but for its chunks.
    pub(crate) fn ended_by_peer(&mut self, read: Read, outcome: Outcome, now: Time) {
        let Read { file: key, chunks, began, from: From::Peer { peer, content }, .. } = read else { return };
        let spread = self.random.spread();
        let link = self.links.entry(peer).or_default();
        match outcome {
            Outcome::Complete if chunks.is_empty() => return self.may_bring_more(key, peer, now),
            Outcome::Complete | Outcome::Broken => link.rests_until = now + self.config.first_wait.mul_f64(spread),
            Outcome::Busy(after) => link.rests_until = now + after.unwrap_or(self.config.first_wait).min(BAN),
            Outcome::Lied => self.ban(peer),
            Outcome::Misled(signer) => {
                let Some(share) = self.share_with(key, peer) else { return };
                // Nothing is held against anyone that was held against a list which is none by now.
                if matches!(share.content, Content::Known(_)) {
                    share.oaths.suspects.insert(signer);
                }
                share.misfits(peer.node, chunks);
            }
            Outcome::Refused | Outcome::RangeIgnored => {
                let Some(share) = self.share_with(key, peer) else { return };
                let Some(partner) = share.partners.get(&peer.node) else { return };
                let (is_complete, refused_at) = (partner.complete.is_some(), partner.record.refused_at);
                if partner.complete.is_none() || partner.complete == content {
                    share.lose(peer.node, chunks);
                }
                // What one that fetches it was asked for side by side is refused together: it counts once.
                if is_complete || began >= refused_at {
                    share.refuses(peer.node, now);
                }
            }
        }
        self.review_at(key, now);
    }

    /// Stops what was asked of peers that send nothing.
    pub(crate) fn stop_silent_peers(&mut self, now: Time) {
        let asleep = now.saturating_sub(self.looked_at) > ASLEEP;
        self.looked_at = now;
        if asleep {
            // So was everything else here: what they sent meanwhile is not seen yet.
            self.paces.slept();
            self.links.values_mut().for_each(|link| link.start(now));
            let shares = self.files.values_mut().filter_map(|file| file.share.as_deref_mut());
            shares.flat_map(|share| share.partners.values_mut()).for_each(|partner| partner.start(now));
            return;
        }
        if now < self.peers_stall_from {
            return;
        }
        let silent = self.links.iter().filter(|(_, link)| link.stalls_at(&self.config).is_some_and(|at| at <= now));
        let silent: Vec<Peer> = silent.map(|(peer, _)| *peer).collect();
        for peer in silent {
            let spread = self.random.spread();
            if let Some(link) = self.links.get_mut(&peer) {
                link.stalled(&self.config, now, spread);
            }
            let files: Vec<FileKey> = self.reads.values().filter(|read| read.peer() == Some(peer)).map(|read| read.file).collect();
            self.cancel(|read| read.peer() == Some(peer));
            files.into_iter().for_each(|key| self.review_at(key, now));
        }
        let stalls = self.links.values().filter_map(|link| link.stalls_from(&self.config)).min();
        self.peers_stall_from = stalls.unwrap_or(Time::MAX).min(now + self.config.peer_stall.min(self.config.longest_chunk));
    }
}

/// Those who are told what comes.
pub(crate) fn followers(share: &Share) -> Vec<Peer> {
    let follow = share.partners.iter().filter(|(_, partner)| partner.follows && partner.complete.is_none());
    follow.map(|(node, _)| Peer { market: share.market, node: *node }).collect()
}

/// The messages that say which chunks there are.
pub(crate) fn have(runs: &Runs) -> impl Iterator<Item = FileWord> + use<> {
    let runs: Vec<Range<u64>> = runs.iter().collect();
    let messages: Vec<FileWord> = runs.chunks(MOST_RUNS).map(|some| FileWord::Have(some.to_vec())).collect();
    messages.into_iter()
}

impl Read {
    /// The peer that it is from.
    pub(crate) fn peer(&self) -> Option<Peer> {
        match self.from {
            From::Peer { peer, .. } => Some(peer),
            From::Origin => None,
        }
    }
}

impl Engine {
    /// What is remembered of a peer.
    #[must_use]
    pub fn record(&self, peer: Peer) -> crate::Record {
        self.links.get(&peer).map(|link| link.record).unwrap_or_default()
    }

    /// How long a chunk of each read under way takes this node's line.
    pub(crate) fn turn_takes(&self, now: Time) -> Duration {
        let bytes = self.reads.len() as u64 * CHUNK_BYTES;
        self.line.recent(now).map_or(Duration::ZERO, |rate| Duration::from_secs_f64(bytes as f64 / rate.max(1.0)))
    }

    /// The time until which a stalled peer is noticed next.
    pub(crate) fn next_of_peers(&self) -> impl Iterator<Item = Time> + '_ {
        let stalls = self.links.values().filter_map(|link| link.stalls_at(&self.config));
        stalls.chain(self.reviews.first().map(|(at, _)| *at))
    }
}
