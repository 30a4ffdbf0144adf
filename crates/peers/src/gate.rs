//! Who is let in: the allow list, bans, and why some were turned away.

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::Duration;

use larder_content::NodeId;
use tokio::time::Instant;

use crate::book::KnownBan;

/// The most nodes whose bans and offences are remembered, and the most whose stalls are.
pub(crate) const MOST_BANS: usize = 4096;
/// The ban for a first offence, or the time without answers for a first stall; it doubles with each.
const FIRST_BAN: Duration = Duration::from_secs(60);
/// The longest of those, and the longest that outlives a restart.
pub(crate) const LONGEST_BAN: Duration = Duration::from_secs(3600);
/// How many reasons are kept for the status.
const MOST_REASONS: usize = 8;

/// The list of who may not come in.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    allow: HashSet<NodeId>,
    bans: Bans,
    /// Who is connected, but is given no chunks.
    stalled: Bans,
    reasons: VecDeque<String>,
    /// Someone was banned since the bans were last kept.
    has_changed: bool,
}

impl Gate {
    /// One with the bans of an earlier run.
    pub(crate) fn new(allow: &[NodeId], kept: &[KnownBan]) -> Self {
        let mut gate = Self { allow: allow.iter().copied().collect(), ..Self::default() };
        kept.iter().for_each(|ban| gate.bans.add(ban.node, ban.left).offences = ban.offences);
        gate
    }

    /// Whether anyone was banned since this was last asked.
    pub(crate) fn takes_change(&mut self) -> bool {
        std::mem::take(&mut self.has_changed)
    }

    /// The bans that hold.
    pub(crate) fn kept(&self) -> Vec<KnownBan> {
        let now = Instant::now();
        let kept =
            |(node, ban): (&NodeId, &Ban)| KnownBan { node: *node, left: ban.until.saturating_duration_since(now), offences: ban.offences };
        self.bans.0.iter().map(kept).filter(|ban| !ban.left.is_zero()).collect()
    }

    /// Whether a node may come in; else why not.
    pub(crate) fn admits(&self, node: NodeId) -> Result<(), &'static str> {
        if !self.allow.is_empty() && !self.allow.contains(&node) {
            return Err("it is not on the allow list");
        }
        if self.bans.holds(node) { Err("it is banned for now") } else { Ok(()) }
    }

    /// Bans a node for a time, unless it is banned for longer.
    pub(crate) fn ban(&mut self, node: NodeId, period: Duration) {
        self.bans.add(node, period);
        self.has_changed = true;
    }

    /// Bans a node that broke the protocol, each time for longer.
    pub(crate) fn offence(&mut self, node: NodeId) {
        self.bans.add_longer(node);
        self.has_changed = true;
    }

    /// A node took nothing of an answer, and with that a place that others waited for: it is given none for a time, each time longer.
    pub(crate) fn has_stalled(&mut self, node: NodeId) {
        self.stalled.add_longer(node);
    }

    /// Whether a node's questions are answered.
    pub(crate) fn serves(&self, node: NodeId) -> bool {
        !self.stalled.holds(node)
    }

    /// Notes why a node was turned away. False if that was known.
    pub(crate) fn turned_away(&mut self, reason: String) -> bool {
        if self.reasons.contains(&reason) {
            return false;
        }
        if self.reasons.len() == MOST_REASONS {
            self.reasons.pop_front();
        }
        self.reasons.push_back(reason);
        true
    }

    /// The last reasons.
    pub(crate) fn reasons(&self) -> Vec<String> {
        self.reasons.iter().cloned().collect()
    }
}

/// Who is kept out of something until when, at most [`MOST_BANS`].
#[derive(Debug, Default)]
struct Bans(HashMap<NodeId, Ban>);

#[derive(Debug)]
struct Ban {
    until: Instant,
    offences: u32,
}

impl Bans {
    fn holds(&self, node: NodeId) -> bool {
        self.0.get(&node).is_some_and(|ban| ban.until > Instant::now())
    }

    fn add(&mut self, node: NodeId, period: Duration) -> &mut Ban {
        let until = Instant::now() + period.min(Duration::from_secs(365 * 24 * 3600));
        self.make_room();
        let ban = self.0.entry(node).or_insert(Ban { until, offences: 0 });
        ban.until = ban.until.max(until);
        ban
    }

    fn add_longer(&mut self, node: NodeId) {
        let before = self.0.get(&node).map_or(0, |ban| ban.offences);
        self.add(node, FIRST_BAN.saturating_mul(1 << before.min(10)).min(LONGEST_BAN)).offences = before + 1;
    }

    fn make_room(&mut self) {
        if self.0.len() < MOST_BANS {
            return;
        }
        let now = Instant::now();
        self.0.retain(|_, ban| ban.until > now);
        if self.0.len() >= MOST_BANS
            && let Some(soonest) = self.0.iter().min_by_key(|(_, ban)| ban.until).map(|(node, _)| *node)
        {
            self.0.remove(&soonest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_offends_again_is_banned_for_longer() {
        let (mut gate, node) = (Gate::new(&[], &[]), NodeId([1; 32]));
        assert!(gate.admits(node).is_ok());
        gate.offence(node);
        let first = gate.bans.0[&node].until;
        gate.offence(node);
        assert!(gate.bans.0[&node].until > first + Duration::from_secs(50) && gate.admits(node).is_err());
    }

    #[test]
    fn a_ban_outlives_a_restart_and_the_next_is_longer_still() {
        let (mut gate, node) = (Gate::new(&[], &[]), NodeId([1; 32]));
        assert!(!gate.takes_change());
        gate.offence(node);
        gate.offence(node);
        assert!(gate.takes_change() && !gate.takes_change());
        let mut again = Gate::new(&[], &gate.kept());
        assert!(again.admits(node).is_err() && !again.takes_change());
        again.offence(node);
        assert!(again.kept()[0].left > FIRST_BAN * 3, "it counts as a first one");
    }

    #[test]
    fn bans_of_many_nodes_stay_bounded() {
        let mut gate = Gate::new(&[], &[]);
        for number in 0..10_000_u32 {
            gate.ban(NodeId(*blake3::hash(&number.to_le_bytes()).as_bytes()), FIRST_BAN);
        }
        assert!(gate.bans.0.len() <= MOST_BANS);
    }

    #[test]
    fn a_node_that_stalls_is_let_in_but_given_nothing() {
        let (mut gate, node) = (Gate::new(&[], &[]), NodeId([1; 32]));
        assert!(gate.serves(node));
        gate.has_stalled(node);
        assert!(gate.admits(node).is_ok() && !gate.serves(node) && gate.serves(NodeId([2; 32])));
    }
}
