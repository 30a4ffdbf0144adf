//! Gathers the targets of one op that lie inside each other.

use std::collections::{BTreeSet, HashMap, HashSet};

use larder_content::{RelativePath, Resource};

use super::Part;
use crate::TargetPath;
use crate::definition::Op;

/// The targets of one op that lie in one outermost target.
pub(super) struct Group {
    pub(super) op: usize,
    pub(super) outermost: TargetPath,
    pub(super) members: Vec<Member>,
    /// What it holds: for each resource, by its number in the job, the folder its files lie below.
    pub(super) holds: BTreeSet<(Option<RelativePath>, usize)>,
}

/// One target of one op.
pub(super) struct Member {
    pub(super) target: TargetPath,
    /// The target relative to the outermost one, unless it is that.
    pub(super) below: Option<RelativePath>,
    pub(super) entries: Vec<usize>,
    pub(super) writable: bool,
}

impl Group {
    pub(super) fn is_writable(&self) -> bool {
        self.members.iter().any(|member| member.writable)
    }

    /// The resources of all members, each once a folder.
    pub(super) fn parts(&self, ops: &[Op]) -> Vec<Part> {
        let entries = self.members.iter().flat_map(|member| member.entries.iter().map(|&entry| (&member.below, entry)));
        let resources = |entry: usize| ops[self.op].entries[entry].resources.iter();
        let all = entries.flat_map(|(below, entry)| resources(entry).map(move |resource| (below, resource)));
        let mut seen = HashSet::new();
        let new = all.filter(|part| seen.insert(*part));
        new.map(|(below, resource)| Part { below: below.clone(), resource: resource.clone() }).collect()
    }
}

/// The groups of all ops, in their order; warns of targets that are asked for both writable and not.
pub(super) fn groups(ops: &[Op], warnings: &mut Vec<String>) -> Vec<Group> {
    let mut numbers: HashMap<&Resource, usize> = HashMap::new();
    let mut groups = Vec::new();
    for (index, op) in ops.iter().enumerate() {
        let mut by_outermost: HashMap<RelativePath, usize> = HashMap::new();
        for (outermost, member) in members(op, warnings) {
            let group = *by_outermost.entry(outermost.below_root().clone()).or_insert(groups.len());
            if group == groups.len() {
                groups.push(Group { op: index, outermost, members: vec![], holds: BTreeSet::new() });
            }
            for resource in member.entries.iter().flat_map(|&entry| &op.entries[entry].resources) {
                let next = numbers.len();
                let number = *numbers.entry(resource).or_insert(next);
                groups[group].holds.insert((member.below.clone(), number));
            }
            groups[group].members.push(member);
        }
    }
    groups
}

/// The targets of one op, each with the outermost target it lies in.
fn members(op: &Op, warnings: &mut Vec<String>) -> Vec<(TargetPath, Member)> {
    let mut by_target: HashMap<&RelativePath, usize> = HashMap::new();
    let mut members: Vec<Member> = Vec::new();
    for (index, entry) in op.entries.iter().enumerate() {
        let member = *by_target.entry(entry.target.below_root()).or_insert(members.len());
        match members.get_mut(member) {
            None => {
                let (target, writable) = (entry.target.clone(), entry.writable);
                members.push(Member { target, below: None, entries: vec![index], writable });
            }
            Some(member) => {
                if member.writable != entry.writable {
                    let first = &op.entries[member.entries[0]].label;
                    warnings.push(format!("{}: only one of it and {first} has allowWrite for their target: it is writable", entry.label));
                }
                member.entries.push(index);
                member.writable |= entry.writable;
            }
        }
    }
    let by_path: HashMap<String, TargetPath> =
        members.iter().map(|member| (member.target.below_root().to_string(), member.target.clone())).collect();
    let place = |mut member: Member| {
        let outermost = member.target.below_root().ancestors().find_map(|folder| by_path.get(folder));
        let outermost = outermost.unwrap_or(&member.target).clone();
        member.below = member.target.below(&outermost);
        (outermost, member)
    };
    members.into_iter().map(place).collect()
}
