//! Sets of nodes, of which some are picked at random.

use std::collections::HashMap;

/// A set of nodes.
#[derive(Debug, Default)]
pub(super) struct Crowd {
    members: Vec<u32>,
    places: HashMap<u32, usize>,
}

impl Crowd {
    pub(super) fn insert(&mut self, node: u32) {
        if !self.contains(node) {
            self.places.insert(node, self.members.len());
            self.members.push(node);
        }
    }

    pub(super) fn remove(&mut self, node: u32) {
        let Some(place) = self.places.remove(&node) else { return };
        self.members.swap_remove(place);
        if let Some(moved) = self.members.get(place) {
            self.places.insert(*moved, place);
        }
    }

    pub(super) fn contains(&self, node: u32) -> bool {
        self.places.contains_key(&node)
    }

    pub(super) fn len(&self) -> usize {
        self.members.len()
    }

    /// At most `most` of them, in random order.
    pub(super) fn some(&self, most: usize, random: &mut fastrand::Rng) -> Vec<u32> {
        let count = self.members.len();
        if count <= most.saturating_mul(2) {
            let mut some = self.members.clone();
            random.shuffle(&mut some);
            some.truncate(most);
            return some;
        }
        let mut some = Vec::with_capacity(most);
        let mut seen = std::collections::HashSet::with_capacity(most);
        while some.len() < most {
            let node = self.members[random.usize(0..count)];
            if seen.insert(node) {
                some.push(node);
            }
        }
        some
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_of_a_crowd_are_different_members_of_it() {
        let (mut crowd, mut random) = (Crowd::default(), fastrand::Rng::with_seed(1));
        (0..100).for_each(|node| crowd.insert(node));
        (0..50).for_each(|node| crowd.remove(node * 2));
        for most in [5, 24, 26, 60] {
            let mut some = crowd.some(most, &mut random);
            assert!(some.iter().all(|node| node % 2 == 1 && crowd.contains(*node)));
            some.sort_unstable();
            some.dedup();
            assert_eq!(some.len(), most.min(50));
        }
    }
}
