//! Which of a node's numbered messages were seen, with no clock: a run of the node has a random number, and counts from one.

use std::collections::VecDeque;

/// How far a message may come behind later ones.
const WIDTH: u64 = 64;
/// How many earlier runs are remembered, so that their messages are not taken again.
const PAST_RUNS: usize = 4;

/// The messages seen of one node.
#[derive(Debug, Default)]
pub(crate) struct Window {
    run: Option<u64>,
    past: VecDeque<u64>,
    highest: u64,
    /// Bit n: `highest - n` was seen.
    seen: u64,
}

impl Window {
    /// Whether message `sequence` of `run` is new; it counts as seen then.
    pub(crate) fn take(&mut self, run: u64, sequence: u64) -> bool {
        if self.run != Some(run) {
            if self.past.contains(&run) {
                return false;
            }
            if let Some(before) = self.run.replace(run) {
                self.past.push_back(before);
                while self.past.len() > PAST_RUNS {
                    self.past.pop_front();
                }
            }
            (self.highest, self.seen) = (sequence, 1);
            return true;
        }
        if sequence > self.highest {
            let step = sequence - self.highest;
            self.seen = if step < WIDTH { (self.seen << step) | 1 } else { 1 };
            self.highest = sequence;
            return true;
        }
        let behind = self.highest - sequence;
        let is_new = behind < WIDTH && self.seen & (1 << behind) == 0;
        if is_new {
            self.seen |= 1 << behind;
        }
        is_new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_taken_once_in_whatever_order() {
        let mut window = Window::default();
        assert!([3, 1, 2, 70].iter().all(|sequence| window.take(9, *sequence)));
        assert!([3, 1, 2, 70, 5].iter().all(|sequence| !window.take(9, *sequence)), "seen, or too far behind");
        assert!(window.take(9, 69));
    }

    #[test]
    fn a_node_that_starts_again_is_heard_whatever_its_clock_and_its_past_is_not() {
        let mut window = Window::default();
        assert!(window.take(9, 1000));
        assert!(window.take(8, 1));
        assert!(!window.take(9, 1001), "a replay of the run before");
    }
}
