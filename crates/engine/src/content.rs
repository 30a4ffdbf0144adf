//! What a shared file's content is taken to be, and by whose word.
//!
//! Invariants: a content that a proof refuted is never believed again; whoever swore to it is banned, also when it has left or says something
//! else by then; and once something was refuted, only those who swear are believed. So each that is refuted but the first costs its author an
//! identity.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::time::Duration;

use larder_content::{ContentId, NodeId};

use crate::Time;
use crate::partner::Partner;
use crate::runs::Runs;
use crate::share::Share;

/// How long the chunk hashes of a file may take to come, and how much longer for each: 320 kB/s.
const HASHES: Duration = Duration::from_secs(3);
const HASH: Duration = Duration::from_micros(100);
/// The most contents that are remembered as false beside those that a proof refuted, which are few: the next proof is of the origin's alone.
const MOST_DISOWNED: usize = 8;
/// The most nodes whose oath is remembered.
const MOST_OATHS: usize = 256;

/// What is known of the file's content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Content {
    Unknown,
    /// A partner was asked for its chunk hashes, at that time.
    Asked(NodeId, ContentId, Time),
    /// The chunk hashes are there, and fit this content id.
    Known(ContentId),
}

/// What others said that the file is.
#[derive(Debug, Default)]
pub(crate) struct Oaths {
    /// What it is not.
    refuted: Vec<ContentId>,
    /// What each who said that it has all says that it is.
    sworn: BTreeMap<NodeId, ContentId>,
    /// Whether a proof refuted any of it.
    was_disproven: bool,
    /// Whose word for a chunk was another than that of the content which is being fetched.
    pub(crate) suspects: BTreeSet<NodeId>,
}

impl Share {
    /// A partner has all, and what it is. Tells whether that may be: nobody has two.
    pub(crate) fn is_complete(&mut self, node: NodeId, content: ContentId, now: Time) -> bool {
        let oaths = &mut self.oaths.sworn;
        if oaths.len() >= MOST_OATHS && !oaths.contains_key(&node) {
            oaths.pop_first();
        }
        if *oaths.entry(node).or_insert(content) != content {
            return false;
        }
        self.count(node, false);
        self.ring.loses(node);
        let mut all = Runs::default();
        all.insert(0..self.count);
        self.gain(node, &all);
        if let Some(partner) = self.partners.get_mut(&node) {
            (partner.complete, partner.reading) = (Some(content), Runs::default());
            partner.progress.beat(now);
        }
        true
    }

    /// Whose chunk hashes are asked for next, and of which content: of those that were asked least, of one that has all.
    pub(crate) fn next_to_show(&mut self, mut any: impl FnMut() -> u64) -> Option<(NodeId, ContentId)> {
        let oaths = &self.oaths;
        let says = self.partners.iter_mut().filter(|(_, partner)| partner.live).filter_map(|(node, partner)| {
            let content = partner.complete.or(partner.knows.filter(|_| !oaths.was_disproven))?;
            (!oaths.refuted.contains(&content)).then_some((*node, content, partner))
        });
        let (node, content, partner) = says.min_by_key(|(.., partner)| (partner.record.tries, partner.complete.is_none(), any()))?;
        partner.record.tries += 1;
        Some((node, content))
    }

    /// What the content is: of what this node has, it can vouch for what fits.
    pub(crate) fn knows(&mut self, content: ContentId, fits: &[Range<u64>], dropped: &[Range<u64>]) {
        self.content = Content::Known(content);
        self.repairs = false;
        self.kept.clear();
        dropped.iter().for_each(|run| self.gone(run));
        fits.iter().for_each(|run| self.has_now(run.clone()));
    }

    /// It is not that content, as a proof showed; gives who swore that it is.
    pub(crate) fn disprove(&mut self, content: ContentId) -> Vec<NodeId> {
        let liars: Vec<NodeId> = self.oaths.sworn.iter().filter(|(_, sworn)| **sworn == content).map(|(node, _)| *node).collect();
        self.oaths.was_disproven = true;
        self.oaths.refuted.push(content);
        self.forget_content();
        liars
    }

    /// It is not that content, whoever says so; no word of blame, since an origin can serve one host something else.
    pub(crate) fn disown(&mut self, content: ContentId) {
        if self.oaths.refuted.len() < MOST_DISOWNED && !self.is_refuted(content) {
            self.oaths.refuted.push(content);
        }
        if matches!(self.content, Content::Known(other) | Content::Asked(_, other, _) if other == content) {
            self.forget_content();
        }
        self.partners.values_mut().for_each(|partner| partner.knows = partner.knows.filter(|known| *known != content));
        let says: Vec<NodeId> =
            self.partners.iter().filter(|(_, partner)| partner.complete == Some(content)).map(|(node, _)| *node).collect();
        says.into_iter().for_each(|node| self.part(node));
    }

    /// What the file is, is open again: whatever a partner had as something else may be it.
    fn forget_content(&mut self) {
        self.content = Content::Unknown;
        // They signed for something else than what it is not.
        self.oaths.suspects.clear();
        let misfits = self.partners.iter_mut().map(|(node, partner)| (*node, std::mem::take(&mut partner.misfits)));
        let misfits: Vec<(NodeId, Runs)> = misfits.collect();
        for (node, runs) in misfits {
            self.gain(node, &runs);
        }
    }

    /// A partner could not show the chunk hashes of what it said the file is.
    pub(crate) fn cannot_show(&mut self, node: NodeId) {
        self.content = Content::Unknown;
        match self.partners.get_mut(&node) {
            Some(partner) if partner.complete.is_none() => partner.knows = None,
            _ => self.cast_out(node),
        }
    }

    /// Whether too much was disowned for more of it to be remembered.
    pub(crate) fn has_disowned_much(&self) -> bool {
        self.oaths.refuted.len() >= MOST_DISOWNED
    }

    pub(crate) fn is_refuted(&self, content: ContentId) -> bool {
        self.oaths.refuted.contains(&content)
    }

    /// Whether a partner was deceived, and may be excused for it: as often as something was refuted.
    pub(crate) fn is_deceived(&self, partner: &Partner) -> bool {
        partner.knows.is_some_and(|content| self.is_refuted(content)) && partner.record.excused < self.oaths.refuted.len()
    }

    /// Whether a file of that content may be what is wanted, as far as is known.
    pub(crate) fn is_of_use(&self, content: ContentId) -> bool {
        match self.content {
            Content::Known(known) => known == content,
            Content::Unknown | Content::Asked(..) => !self.is_refuted(content),
        }
    }

    /// How long the chunk hashes may take.
    pub(crate) fn hashes_take(&self) -> Duration {
        HASHES + HASH.saturating_mul(u32::try_from(self.count).unwrap_or(u32::MAX))
    }

    /// Lets go of a content that nobody has any more where others have another, if the origin will not say.
    pub(crate) fn doubt(&mut self) {
        let Content::Known(known) = self.content else { return };
        let mut complete = self.partners.values().filter_map(|partner| partner.complete).peekable();
        if self.hopeless && complete.peek().is_some() && complete.all(|content| content != known && !self.is_refuted(content)) {
            self.disown(known);
        }
    }
}
