//! Who reads what in a crowd of which each node sees a part only: consistent hashing.
//!
//! Somebody would be first by rank in each part of such a crowd, and every part would read the whole file. Here nodes and extents have
//! places on a ring, and an extent is that node's which comes next on it. For that a node need know but those next to it: with them it
//! shares the file beside those who came first, so that they see of each other who reads what, and stand in for each other. Anyone else
//! hears of what was read as it is passed on, and reads itself only when nothing has come for long: at first one of the crowd, then twice
//! as many with each step of time.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::time::Duration;

use larder_content::{FileKey, NodeId};

use crate::partner::{Met, Partner};
use crate::random::mix;
use crate::share::{ANSWER, RAMP, SILENCE, Share, Surroundings};
use crate::{Time, readers};

/// Neighbours to each side; those that are remembered, since some may not be there; and how often one is looked up that does not answer.
const NEIGHBOURS: usize = 6;
const KEPT: usize = 4 * NEIGHBOURS;
const LOOK_UPS: u8 = 3;
/// How long after a file was wanted it is read in a crowd at first: all who began with it have been heard of by then.
const SETTLE: Duration = RAMP.saturating_mul(2);
/// After how long without anything to ask of partners one of a crowd reads what nobody it sees has, and twice as many each so much later.
const STARVES: Duration = Duration::from_secs(20);
const DOUBLES: Duration = Duration::from_secs(5);
/// The largest crowd that is reckoned with: however near to a node others are, nobody waits for longer than that takes.
const LARGEST: u64 = 1 << 16;

/// What a node sees of the ring: those next to it.
#[derive(Debug)]
pub(crate) struct Ring {
    file: FileKey,
    place: u64,
    before: Side,
    after: Side,
    /// When those next to this node are looked up next that have not answered.
    look_up_at: Time,
}

/// The nearest to one side, with how far each is.
type Side = BTreeMap<(u64, NodeId), Neighbour>;

#[derive(Debug, Clone, Copy, Default)]
struct Neighbour {
    /// It has said that it is not at it any more, or is done.
    has_gone: bool,
    /// How often it was looked up in vain.
    looked_up: u8,
}

impl Neighbour {
    /// Whether it counts. Who does not keeps its place among those who are kept: what is beyond them is the others'.
    fn is_there(&self) -> bool {
        !self.has_gone && self.looked_up < LOOK_UPS
    }
}

impl Ring {
    pub(crate) fn new(file: FileKey, me: NodeId) -> Self {
        Self { file, place: readers::seed(file, me), before: Side::new(), after: Side::new(), look_up_at: Time::ZERO }
    }

    /// Another is on the ring, as is said or as it says itself.
    pub(crate) fn sees(&mut self, node: NodeId, speaks: bool) {
        let place = readers::seed(self.file, node);
        for (side, distance) in [(&mut self.before, self.place.wrapping_sub(place)), (&mut self.after, place.wrapping_sub(self.place))] {
            if side.len() < KEPT || side.last_key_value().is_some_and(|(last, _)| (distance, node) <= *last) {
                let neighbour = side.entry((distance, node)).or_default();
                neighbour.has_gone = false;
                neighbour.looked_up = if speaks { 0 } else { neighbour.looked_up };
            }
            if side.len() > KEPT {
                side.pop_last();
            }
        }
    }

    /// Another is on the ring no more.
    pub(crate) fn loses(&mut self, node: NodeId) {
        self.each(node, |neighbour| neighbour.has_gone = true);
    }

    fn each(&mut self, node: NodeId, change: impl Fn(&mut Neighbour)) {
        let sides = self.before.iter_mut().chain(&mut self.after);
        sides.filter(|((_, other), _)| *other == node).for_each(|(_, neighbour)| change(neighbour));
    }

    pub(crate) fn is_near(&self, node: NodeId) -> bool {
        self.neighbours().any(|other| other == node)
    }

    fn neighbours(&self) -> impl Iterator<Item = NodeId> + '_ {
        let near = |side: &'_ Side| {
            side.iter().filter(|(_, neighbour)| neighbour.is_there()).map(|((_, node), _)| *node).take(NEIGHBOURS).collect()
        };
        let (before, after): (Vec<NodeId>, Vec<NodeId>) = (near(&self.before), near(&self.after));
        before.into_iter().chain(after)
    }

    /// Those who come before this node for something at that place; `None` if so many do that it is none of its business.
    fn before(&self, place: u64) -> Option<Vec<NodeId>> {
        let distance = self.place.wrapping_sub(place);
        if self.before.len() == KEPT && self.before.last_key_value().is_some_and(|((last, _), _)| *last <= distance) {
            return None;
        }
        let before = self.before.iter().take_while(|((other, _), _)| *other <= distance);
        let before: Vec<NodeId> =
            before.filter(|(_, neighbour)| neighbour.is_there()).map(|((_, node), _)| *node).take(NEIGHBOURS).collect();
        (before.len() < NEIGHBOURS).then_some(before)
    }

    /// The part of the ring that is one node's, on average.
    fn gap(&self) -> u64 {
        let span = |side: &Side| side.last_key_value().map_or(u64::MAX / 2, |((distance, _), _)| distance / side.len() as u64);
        (span(&self.before) / 2 + span(&self.after) / 2).max(u64::MAX / LARGEST)
    }
}

impl Share {
    /// Whether the ring says what this node reads; `crowd` tells whether any of those who fetch the file answer.
    pub(crate) fn shares_by_ring(&self, crowd: bool, now: Time) -> bool {
        let answers = crowd || now < self.began + SETTLE + ANSWER;
        self.is_crowd && answers && self.extra == 0 && !self.hurries()
    }

    /// Takes those for partners who are next to this node in a crowd, once all are heard of; gives those who are to be told so, again if
    /// they have not answered.
    pub(crate) fn look_up_neighbours(&mut self, most: usize, now: Time) -> Vec<NodeId> {
        if !self.is_crowd || now < self.ring.look_up_at.max(self.began + RAMP) {
            return Vec::new();
        }
        self.ring.look_up_at = now + SILENCE;
        let is_met = |node: &NodeId| self.outcasts.contains(node) || self.partners.get(node).is_some_and(|partner| partner.answered);
        let unmet: BTreeSet<NodeId> = self.ring.neighbours().filter(|node| !is_met(node)).collect();
        let is_let_in = |node: &NodeId| {
            self.ring.each(*node, |neighbour| neighbour.looked_up = neighbour.looked_up.saturating_add(1));
            self.meet(*node, Met::IsSaidToFetch, most, now);
            self.partners.contains_key(node)
        };
        unmet.into_iter().filter(is_let_in).collect()
    }

    /// Whether a node is let in beside the `most` that there is room for, since it is next to this one; another makes way for it that is not,
    /// if there are as many beside them as there may be.
    pub(crate) fn lets_in(&mut self, node: NodeId, most: usize, now: Time) -> bool {
        if now < self.began + RAMP || !self.ring.is_near(node) {
            return false;
        }
        if self.partners.len() >= most + 2 * NEIGHBOURS {
            let others = self.partners.iter().filter(|(other, partner)| partner.complete.is_none() && !self.ring.is_near(**other));
            let Some(other) = others.min_by_key(|(_, partner)| partner.answered).map(|(other, _)| *other) else { return false };
            self.part(other);
        }
        true
    }

    /// Where an extent is on the ring.
    fn place_of(&self, extent: u64) -> u64 {
        extent.saturating_mul(u64::MAX / self.extents().max(1))
    }

    /// How long the nodes that come before this one have for an extent until it is this node's turn; `None` if it never is.
    fn waits_in_crowd(&self, extent: u64, stagger: Duration) -> Option<Duration> {
        let fetches = |node: NodeId| self.partners.get(&node).map(|partner| partner.live && partner.complete.is_none());
        let wait = |node| match fetches(node) {
            Some(true) => stagger,
            // It may be there for others.
            Some(false) | None => SILENCE,
        };
        let before = self.ring.before(self.place_of(extent))?;
        Some(before.into_iter().map(wait).sum())
    }

    /// Which extent this node is to read next in a crowd, if any now.
    pub(crate) fn next_in_crowd(&mut self, around: &Surroundings<'_>) -> Option<u64> {
        let now = around.now;
        if now < self.began + SETTLE {
            return None;
        }
        let starves = if around.asking {
            self.starves_since = None;
            Duration::ZERO
        } else {
            now.saturating_sub(*self.starves_since.get_or_insert(now))
        };
        let is_free = |extent: &u64| self.is_free(*extent, around.waiting, false);
        let waits = |extent: u64| Some((self.waits_in_crowd(extent, around.stagger)?, extent));
        let mut near: Vec<(Duration, u64)> = (0..self.extents()).filter_map(waits).filter(|(_, extent)| is_free(extent)).collect();
        near.sort_unstable();
        if let Some((wait, extent)) = near.first().copied() {
            let idle = now.saturating_sub((*self.idle_since.get_or_insert(now)).max(self.began + SETTLE));
            if wait.is_zero() || idle >= wait + around.stagger {
                return Some(extent);
            }
        }
        let steps = u32::try_from(starves.checked_sub(STARVES)?.as_secs() / DOUBLES.as_secs()).unwrap_or(u32::MAX);
        let is_first = |extent: &u64| readers::rank(self.key, self.me, *extent).checked_shr(steps).unwrap_or_default() < self.ring.gap();
        (0..self.extents()).filter(is_first).find(|extent| self.is_free(*extent, around.waiting, false))
    }

    /// Parts with all but so many of those who fetch the file too and are not next to this node, those first that have not answered; gives
    /// those that had.
    pub(crate) fn sheds(&mut self, most: usize) -> Vec<NodeId> {
        let fetches = |partner: &Partner| partner.complete.is_none() && !partner.said_complete;
        let fetchers = self.partners.iter().filter(|(node, partner)| fetches(partner) && !self.ring.is_near(**node));
        let mut fetchers: Vec<(bool, u64, NodeId)> =
            fetchers.map(|(node, partner)| (partner.answered, mix(self.ring.place ^ readers::seed(self.key, *node)), *node)).collect();
        fetchers.sort_unstable();
        fetchers.truncate(fetchers.len().saturating_sub(most));
        fetchers.iter().for_each(|(.., node)| self.part(*node));
        fetchers.into_iter().filter(|(answered, ..)| *answered).map(|(.., node)| node).collect()
    }

    /// Leaves to a crowd what is not this node's to read in it; gives what it leaves.
    pub(crate) fn leaves_to_crowd(&mut self) -> Vec<Range<u64>> {
        let mine = |extent: &u64| self.ring.before(self.place_of(*extent)).is_some_and(|before| before.is_empty());
        let left: Vec<u64> = self.mine.iter().copied().filter(|extent| !mine(extent)).collect();
        self.leaves(left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(number: u64) -> NodeId {
        let mut id = [0; 32];
        id[..8].copy_from_slice(&number.to_le_bytes());
        NodeId(id)
    }

    fn rings(nodes: u64) -> Vec<Ring> {
        let ring = |me| {
            let mut ring = Ring::new(FileKey([3; 32]), node(me));
            (0..nodes).filter(|other| *other != me).for_each(|other| ring.sees(node(other), false));
            ring
        };
        (0..nodes).map(ring).collect()
    }

    /// Whose each of 256 places is when those who have `gone` have gone.
    fn owners(rings: &[Ring], gone: &[NodeId]) -> Vec<Vec<u64>> {
        let is_gone = |number: u64| gone.contains(&node(number));
        let owns = |ring: &Ring, place| ring.before(place).is_some_and(|before| before.iter().all(|other| gone.contains(other)));
        let is_owner = |number: u64, ring: &Ring, place| !is_gone(number) && owns(ring, place);
        let owners = |place| (0..).zip(rings).filter(|(number, ring)| is_owner(*number, ring, place)).map(|(number, _)| number).collect();
        (0..256).map(|place: u64| owners(place << 56)).collect()
    }

    #[test]
    fn each_place_is_one_nodes_and_the_next_ones_when_that_has_gone() {
        let rings = rings(300);
        for (place, before) in owners(&rings, &[]).into_iter().enumerate() {
            assert_eq!(before.len(), 1, "{before:?} at {place}");
            let first = node(before[0]);
            let then = owners(&rings, &[first]).swap_remove(place);
            assert_eq!(then.len(), 1, "{then:?} at {place}");
            assert!(rings[usize::try_from(then[0]).unwrap()].is_near(first), "they know each other");
        }
    }

    #[test]
    fn invented_neighbours_that_never_answer_make_way_for_those_who_are_there() {
        let mut ring = rings(40).swap_remove(0);
        let real: Vec<NodeId> = ring.neighbours().collect();
        let mut invented = (1000..).map(node).filter(|node| {
            let mut all = rings(40).swap_remove(0);
            all.sees(*node, false);
            all.neighbours().next() == Some(*node)
        });
        let invented: Vec<NodeId> = invented.by_ref().take(3).collect();
        invented.iter().for_each(|node| ring.sees(*node, false));
        assert!(ring.is_near(invented[0]));
        for _ in 0..LOOK_UPS {
            invented.iter().for_each(|node| ring.each(*node, |neighbour| neighbour.looked_up += 1));
        }
        assert_eq!(ring.neighbours().collect::<Vec<_>>(), real);
        ring.sees(invented[0], false);
        assert!(!ring.is_near(invented[0]), "what others say of it is not its word");
        ring.sees(invented[0], true);
        assert!(ring.is_near(invented[0]));
    }

    #[test]
    fn of_all_that_are_seen_few_are_kept_and_their_number_is_known_from_them() {
        let rings = rings(1000);
        assert!(rings.iter().all(|ring| ring.neighbours().count() == 2 * NEIGHBOURS && ring.before.len() == KEPT));
        let gaps = rings.iter().map(|ring| ring.gap() as f64).sum::<f64>() / 1000.0;
        let seen = u64::MAX as f64 / gaps;
        assert!((700.0..1400.0).contains(&seen), "{seen} for 1000");
    }
}
