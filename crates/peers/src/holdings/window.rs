//! Which of a node's numbered messages were seen: a run of the node has a number greater than its runs before, and counts from one.
//!
//! Runs are numbered by the node's clock, which is compared with nothing but its own earlier word. Who was set back is not heard in
//! gossip until it has said its number itself, over a connection, or its clock has passed the old one.

/// How far a message may come behind later ones.
const WIDTH: u64 = 64;

/// The messages seen of one node.
#[derive(Debug, Default)]
pub(crate) struct Window {
    run: u64,
    highest: u64,
    /// Bit n: `highest - n` was seen.
    seen: u64,
}

impl Window {
    /// The node itself says which run it is in.
    pub(crate) fn begin(&mut self, run: u64) {
        if run != self.run {
            *self = Self { run, ..Self::default() };
        }
    }

    /// Whether message `sequence` of `run` is new; it counts as seen then. Those of earlier runs are not: anyone may repeat them.
    pub(crate) fn take(&mut self, run: u64, sequence: u64) -> bool {
        if run < self.run {
            return false;
        }
        self.begin(run);
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
    fn no_run_of_the_past_is_taken_for_a_new_one() {
        let mut window = Window::default();
        for run in [5, 6, 7, 8, 9, 10] {
            assert!(window.take(run, 1000));
        }
        assert!((5..10).all(|run| !window.take(run, 1001)), "a replay");
        assert!(window.take(10, 1001), "which changed nothing");
    }

    #[test]
    fn a_node_whose_clock_was_set_back_is_heard_when_it_says_so_itself() {
        let mut window = Window::default();
        assert!(window.take(10, 1000) && !window.take(3, 1));
        window.begin(3);
        assert!(window.take(3, 1) && !window.take(3, 1));
        window.begin(3);
        assert!(!window.take(3, 1), "saying it again changes nothing");
    }
}
