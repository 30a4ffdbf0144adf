//! What the engine makes of what was found out about a file: what it is, what came that it is not, and who said so.

use std::collections::BTreeSet;
use std::ops::Range;
use std::time::Duration;

use larder_content::{ContentId, FileKey, FileWord, NodeId};

use crate::content::Content;
use crate::message::Compared;
use crate::swarm::followers;
use crate::{Action, Engine, Peer, Time};

/// How long a peer that lied is left alone.
pub(crate) const BAN: Duration = Duration::from_secs(3600);

impl Engine {
    /// The hashes of a file's chunks came, or not.
    pub(crate) fn hashes(&mut self, key: FileKey, peer: Peer, content: ContentId, compared: Compared, now: Time) {
        let Some(file) = self.files.get_mut(&key) else { return };
        let Some(share) = file.share.as_deref_mut() else { return };
        let asked = matches!(share.content, Content::Asked(node, asked, _) if node == peer.node && asked == content);
        match compared {
            Compared::Known { fits, dropped, contradicted } => {
                dropped.iter().for_each(|run| file.waiting.insert(run.clone()));
                // Also from one that has gone since: a list that combines is one, whoever gave it.
                if !asked && (share.content != Content::Unknown || share.is_refuted(content)) {
                    dropped.iter().for_each(|run| share.gone(run));
                    return self.review_at(key, now);
                }
                share.knows(content, &fits, &dropped);
                share.oaths.suspects.extend(contradicted);
                fits.into_iter().for_each(|run| file.waiting.remove(run));
                let followers = followers(share);
                followers.into_iter().for_each(|peer| self.tell(peer, key, FileWord::Knows(content)));
            }
            Compared::Contradicted | Compared::Missing if !asked => return,
            Compared::Contradicted => {
                share.disown(content);
                if share.has_disowned_much() {
                    share.cast_out(peer.node);
                }
            }
            Compared::Missing => share.cannot_show(peer.node),
        }
        self.review_at(key, now);
        self.settle(key, now);
    }

    /// What this node reads from the origin is not what it took the file to be.
    pub(crate) fn contradicted(&mut self, key: FileKey, content: ContentId, now: Time) {
        if let Some(share) = self.files.get_mut(&key).and_then(|file| file.share.as_deref_mut()) {
            share.disown(content);
            self.review_at(key, now);
        }
    }

    /// Some chunks are not the origin's, and so the file is not what it was taken to be: they come anew. No word of blame, since an origin
    /// can list for one host what nobody else has.
    pub(crate) fn disproven(&mut self, key: FileKey, content: Option<ContentId>, missing: Vec<Range<u64>>, now: Time) {
        // What was asked of those who swear to it is of no use, and a chunk may be reported that is gone.
        self.cancel(|read| read.file == key);
        let Some(file) = self.files.get_mut(&key) else { return };
        file.doubt.settled();
        let Some(share) = file.share.as_deref_mut() else { return };
        content.into_iter().for_each(|content| share.disown(content));
        share.sealing = false;
        for run in missing {
            share.gone(&run);
            file.waiting.insert(run);
        }
        self.review_at(key, now);
        self.settle(key, now);
    }

    /// The file is proven: whoever follows hears what it is, and who signed for something else is banned.
    pub(crate) fn proven(&mut self, key: FileKey, content: ContentId, liars: Vec<NodeId>) {
        let Some(share) = self.files.get(&key).and_then(|file| file.share.as_deref()) else { return self.forget(key) };
        let (market, follow) = (share.market, followers(share));
        let mut suspects = if share.content == Content::Known(content) { share.oaths.suspects.clone() } else { BTreeSet::new() };
        suspects.extend(liars);
        follow.into_iter().for_each(|peer| self.tell(peer, key, FileWord::Complete(content)));
        suspects.into_iter().for_each(|node| self.ban(Peer { market, node }));
        self.forget(key);
    }

    /// What came is not the file, and comes anew in part: those are banned who swore to it; or if it is known who signed for what is false,
    /// these have no part in the file any more, and the others are believed as before.
    pub(crate) fn refuted(&mut self, key: FileKey, signers: &[NodeId], missing: Vec<Range<u64>>, now: Time) {
        self.cancel(|read| read.file == key);
        let Some(file) = self.files.get_mut(&key) else { return };
        let Some(share) = file.share.as_deref_mut() else { return };
        let market = share.market;
        let known = if let Content::Known(content) = share.content { Some(content) } else { None };
        // What came was held against the list of that content, whose word it is alone: nothing of what others claim is in doubt.
        let is_in_doubt = signers.is_empty() && (known.is_none() || share.repair.is_some());
        if matches!(share.content, Content::Asked(..)) {
            // Its answer is of before.
            share.content = Content::Unknown;
        }
        let liars = known.filter(|_| signers.is_empty()).map(|content| share.disprove(content)).unwrap_or_default();
        signers.iter().for_each(|node| share.cast_out(*node));
        (share.repair, share.repairs, share.sealing) = (is_in_doubt.then_some(now), false, false);
        share.mine.clear();
        for run in missing {
            share.gone(&run);
            file.waiting.insert(run);
        }
        liars.into_iter().for_each(|node| self.ban(Peer { market, node }));
        self.tell_anew(key);
        self.review_at(key, now);
    }

    /// What was told before holds no more: who counted on it begins anew with this node.
    fn tell_anew(&mut self, key: FileKey) {
        let follow = self.files.get(&key).and_then(|file| file.share.as_deref()).map(followers);
        for peer in follow.into_iter().flatten() {
            [FileWord::Nothing, FileWord::Follow].into_iter().for_each(|word| self.tell(peer, key, word));
            self.tell_all(peer, key);
        }
    }

    pub(crate) fn ban(&mut self, peer: Peer) {
        self.links.entry(peer).or_default().record.failures += 1;
        for file in self.files.values_mut() {
            if let Some(share) = file.share.as_deref_mut().filter(|share| share.market == peer.market) {
                share.is_gone(peer.node);
            }
        }
        self.cancel(|read| read.peer() == Some(peer));
        self.actions.push_back(Action::Ban { peer, period: BAN });
    }
}
