//! What is still to happen, in order: of two things at one moment, the one that was thought of first.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use larder_engine::{Outcome, ReadId, Time};

use super::server::{Ask, Delivery};
use crate::scenario::{Halt, OriginFaultKind};

/// Something that happens at a moment.
#[derive(Debug)]
pub(super) enum Happening {
    /// A job comes.
    Job(usize),
    /// The origin has told, or not, what a job's resources are.
    Listed(usize),
    /// A job has looked around for one of its resources.
    Looked { job: usize, gather: usize },
    /// All of a job is in the store, and laid.
    Ready(usize),
    /// A node looks at what has come and what is due.
    Wake(u32),
    /// A question comes to who is to answer it.
    Asked { server: u32, stream: u64, ask: Ask },
    /// Who asked wants no answer any more.
    Withdrawn { server: u32, stream: u64, read: ReadId },
    /// A line is free to send the next chunk.
    Free(u32),
    /// A chunk is there.
    Delivered(Delivery),
    /// A read ends without what it was for.
    Ended { node: u32, read: ReadId, outcome: Outcome },
    /// A dial leads to a connection, or not.
    Dialled { from: u32, to: u32 },
    /// A node announces what is new of it.
    Announces(u32),
    /// The market has heard of it.
    Heard { node: u32, rows: Vec<(u32, larder_content::Holding)> },
    /// The proof of a file has ended.
    Proven { node: u32, file: u32 },
    /// A resource may have been unused for long.
    Expires { node: u32, resource: u32 },
    /// A node leaves.
    Leaves { node: u32, how: Halt },
    /// It is found out that a node does nothing any more.
    FoundOut(u32),
    /// Something begins to be wrong with the origin, or is right again.
    Fault(OriginFaultKind, bool),
}

#[derive(Debug)]
struct Entry {
    at: Time,
    number: u64,
    what: Happening,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.number) == (other.at, other.number)
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

/// The clock, and all that is to come.
#[derive(Debug, Default)]
pub(super) struct Clock {
    pub(super) now: Time,
    coming: BinaryHeap<Reverse<Entry>>,
    number: u64,
}

impl Clock {
    /// Something is to happen, at once if its time has passed.
    pub(super) fn at(&mut self, at: Time, what: Happening) {
        self.number += 1;
        self.coming.push(Reverse(Entry { at: at.max(self.now), number: self.number, what }));
    }

    /// A number greater than those before, for what has an order of its own.
    pub(super) fn number(&mut self) -> u64 {
        self.number += 1;
        self.number
    }

    /// The next thing; its time is now.
    pub(super) fn next(&mut self) -> Option<Happening> {
        let Reverse(entry) = self.coming.pop()?;
        self.now = entry.at;
        Some(entry.what)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn things_happen_in_the_order_of_their_times_and_else_as_they_were_thought_of() {
        let mut clock = Clock::default();
        for (at, node) in [(5, 0), (3, 1), (5, 2), (3, 3)] {
            clock.at(Duration::from_secs(at), Happening::Wake(node));
        }
        let mut order = Vec::new();
        while let Some(Happening::Wake(node)) = clock.next() {
            order.push(node);
        }
        assert_eq!((order, clock.now), (vec![1, 3, 0, 2], Duration::from_secs(5)));
    }
}
