//! Whose turn it is: of the groups with the fewest reads under way the one that was served longest ago, and of its files the
//! one that was wanted first.
//!
//! Invariant: a group stands in the line of an origin exactly while it has files of that origin ready.

use std::collections::{BTreeMap, BTreeSet};

use larder_content::FileKey;

use crate::file::WantedFile;
use crate::{GroupId, OriginId};

/// The groups, and the files of theirs that may be read as soon as their origin is open.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    groups: BTreeMap<GroupId, Group>,
    lines: BTreeMap<OriginId, BTreeSet<Turn>>,
    /// How often a group has joined or was served.
    count: u64,
}

/// A group's place in line: the least is next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Turn {
    /// Reads under way.
    reading: usize,
    /// When it was served last, or joined.
    served: u64,
    group: GroupId,
}

#[derive(Debug)]
struct Group {
    turn: Turn,
    /// Its files, ready or not.
    files: usize,
    /// The extents of shared files that are this node's to read.
    taken: usize,
    ready: BTreeMap<OriginId, BTreeSet<(u64, FileKey)>>,
}

impl Turns {
    /// Counts one more file of a group. A group joins at the end of the line.
    pub(crate) fn join(&mut self, group: GroupId) {
        let served = self.count;
        let fresh = || Group { turn: Turn { reading: 0, served, group }, files: 0, taken: 0, ready: BTreeMap::new() };
        self.groups.entry(group).or_insert_with(fresh).files += 1;
        self.count += 1;
    }

    /// Counts one file less, which is neither ready nor being read.
    pub(crate) fn leave(&mut self, group: GroupId) {
        let Some(left) = self.groups.get_mut(&group) else { return };
        left.files -= 1;
        if left.files == 0 {
            self.groups.remove(&group);
        }
    }

    /// Makes a file ready.
    pub(crate) fn enter(&mut self, key: FileKey, file: &WantedFile) {
        let Some(group) = self.groups.get_mut(&file.group) else { return };
        group.ready.entry(file.origin).or_default().insert((file.number, key));
        self.lines.entry(file.origin).or_default().insert(group.turn);
    }

    /// Makes a file not ready.
    pub(crate) fn withdraw(&mut self, key: FileKey, file: &WantedFile) {
        let Some(group) = self.groups.get_mut(&file.group) else { return };
        let Some(ready) = group.ready.get_mut(&file.origin) else { return };
        ready.remove(&(file.number, key));
        if !ready.is_empty() {
            return;
        }
        group.ready.remove(&file.origin);
        let Some(line) = self.lines.get_mut(&file.origin) else { return };
        line.remove(&group.turn);
        if line.is_empty() {
            self.lines.remove(&file.origin);
        }
    }

    /// Notes that a read of a group's file began.
    pub(crate) fn began(&mut self, group: GroupId) {
        let served = self.count;
        self.count += 1;
        self.change(group, |turn| Turn { reading: turn.reading + 1, served, ..turn });
    }

    /// Notes that a read of a group's file is over.
    pub(crate) fn ended(&mut self, group: GroupId) {
        self.change(group, |turn| Turn { reading: turn.reading - 1, ..turn });
    }

    /// How many extents of a group's files this node reads, or is about to read.
    pub(crate) fn taken(&self, group: GroupId) -> usize {
        self.groups.get(&group).map_or(0, |group| group.taken)
    }

    /// Of one file there are so many of them, after as many as `before`.
    pub(crate) fn takes(&mut self, group: GroupId, before: usize, now: usize) {
        if let Some(group) = self.groups.get_mut(&group) {
            group.taken = (group.taken + now).saturating_sub(before);
        }
    }

    /// The file whose turn it is at each origin, with what tells whose is first.
    pub(crate) fn first_of_each(&self) -> impl Iterator<Item = (OriginId, impl Ord + use<>, FileKey)> {
        self.lines.iter().filter_map(|(origin, line)| {
            let turn = line.first()?;
            let (number, key) = self.groups.get(&turn.group)?.ready.get(origin)?.first()?;
            Some((*origin, (*turn, *number), *key))
        })
    }

    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.groups.is_empty() && self.lines.is_empty()
    }

    fn change(&mut self, group: GroupId, change: impl FnOnce(Turn) -> Turn) {
        let Some(group) = self.groups.get_mut(&group) else { return };
        let before = group.turn;
        group.turn = change(before);
        for origin in group.ready.keys() {
            if let Some(line) = self.lines.get_mut(origin) {
                line.remove(&before);
                line.insert(group.turn);
            }
        }
    }
}
