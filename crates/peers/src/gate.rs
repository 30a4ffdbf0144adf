//! Who is let in: the allow list, bans, and why some were turned away.

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::Duration;

use larder_content::NodeId;
use tokio::time::Instant;

/// The most nodes whose bans and offences are remembered.
const MOST_BANS: usize = 4096;
/// The ban for a first offence; it doubles with each.
const FIRST_BAN: Duration = Duration::from_secs(60);
/// The longest ban for an offence.
const LONGEST_BAN: Duration = Duration::from_secs(3600);
/// How many reasons are kept for the status.
const MOST_REASONS: usize = 8;

/// The list of who may not come in.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    allow: HashSet<NodeId>,
    bans: HashMap<NodeId, Ban>,
    reasons: VecDeque<String>,
}

#[derive(Debug)]
struct Ban {
    until: Instant,
    offences: u32,
}

impl Gate {
    pub(crate) fn new(allow: &[NodeId]) -> Self {
        Self { allow: allow.iter().copied().collect(), ..Self::default() }
    }

    /// Whether a node may come in; else why not.
    pub(crate) fn admits(&self, node: NodeId) -> Result<(), &'static str> {
        if !self.allow.is_empty() && !self.allow.contains(&node) {
            return Err("it is not on the allow list");
        }
        match self.bans.get(&node) {
            Some(ban) if ban.until > Instant::now() => Err("it is banned for now"),
            Some(_) | None => Ok(()),
        }
    }

    /// Bans a node for a time, unless it is banned for longer.
    pub(crate) fn ban(&mut self, node: NodeId, period: Duration) {
        let until = Instant::now() + period.min(Duration::from_secs(365 * 24 * 3600));
        self.make_room();
        let ban = self.bans.entry(node).or_insert(Ban { until, offences: 0 });
        ban.until = ban.until.max(until);
    }

    /// Bans a node that broke the protocol, each time for longer.
    pub(crate) fn offence(&mut self, node: NodeId) {
        let before = self.bans.get(&node).map_or(0, |ban| ban.offences);
        self.ban(node, FIRST_BAN.saturating_mul(1 << before.min(10)).min(LONGEST_BAN));
        if let Some(ban) = self.bans.get_mut(&node) {
            ban.offences = before + 1;
        }
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

    fn make_room(&mut self) {
        if self.bans.len() < MOST_BANS {
            return;
        }
        let now = Instant::now();
        self.bans.retain(|_, ban| ban.until > now);
        if self.bans.len() >= MOST_BANS
            && let Some(soonest) = self.bans.iter().min_by_key(|(_, ban)| ban.until).map(|(node, _)| *node)
        {
            self.bans.remove(&soonest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_offends_again_is_banned_for_longer() {
        let (mut gate, node) = (Gate::new(&[]), NodeId([1; 32]));
        assert!(gate.admits(node).is_ok());
        gate.offence(node);
        let first = gate.bans[&node].until;
        gate.offence(node);
        assert!(gate.bans[&node].until > first + Duration::from_secs(50) && gate.admits(node).is_err());
    }

    #[test]
    fn bans_of_many_nodes_stay_bounded() {
        let mut gate = Gate::new(&[]);
        for number in 0..10_000_u32 {
            gate.ban(NodeId(*blake3::hash(&number.to_le_bytes()).as_bytes()), FIRST_BAN);
        }
        assert!(gate.bans.len() <= MOST_BANS);
    }
}
