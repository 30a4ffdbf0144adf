//! The time that no scheme can beat.

/// What bounds the time in which nodes get the same bytes. Rates are in bytes a second, and none where there is no limit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bound {
    /// The bytes that each of them wants.
    pub bytes: u64,
    /// How many want them.
    pub cold: u64,
    /// How many copies leave the origin; at most `cold`.
    pub copies: u64,
    /// What each can be sent.
    pub downlink: Option<u64>,
    /// What the origin can send.
    pub origin: Option<u64>,
    /// What all nodes together can send, those included that hold the bytes already.
    pub uplinks: Option<u64>,
}

impl Bound {
    /// `T*`: the seconds after which the last node can be done at best.
    ///
    /// Source: Kumar and Ross 2006; Mundinger, Weber, Weiss 2008.
    #[must_use]
    pub fn seconds(&self) -> f64 {
        self.terms().into_iter().fold(0.0, f64::max)
    }

    /// The seconds that one downlink, the origin, and the nodes' uplinks take at least; the greatest of them is `T*`.
    #[must_use]
    pub fn terms(&self) -> [f64; 3] {
        let time = |copies: u64, rate: Option<u64>| rate.map_or(0.0, |rate| copies as f64 * self.bytes as f64 / rate as f64);
        [time(1, self.downlink), time(self.copies, self.origin), time(self.cold.saturating_sub(self.copies), self.uplinks)]
    }

    /// The seconds that one node alone takes straight from the origin.
    #[must_use]
    pub fn alone(&self) -> f64 {
        Self { cold: 1, copies: 1, ..*self }.seconds()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MB: u64 = 1_000_000;

    fn seconds(cold: u64, copies: u64, downlink: Option<u64>, origin: u64, uplinks: u64) -> f64 {
        Bound { bytes: 100 * MB, cold, copies, downlink, origin: Some(origin * MB), uplinks: Some(uplinks * MB) }.seconds()
    }

    fn near(a: f64, b: f64) -> bool {
        (a - b).abs() < 1e-9
    }

    #[test]
    fn the_narrowest_of_downlink_origin_and_uplinks_bounds_the_time() {
        assert!(near(seconds(8, 1, None, 10, 80), 10.0), "the origin sends the one copy");
        assert!(near(seconds(8, 1, Some(10 * MB), 40, 40), 17.5), "home lines: seven copies by uplinks of half the downlinks");
        assert!(near(seconds(8, 1, Some(2 * MB), 40, 80), 50.0), "a narrow downlink");
        assert!(near(seconds(8, 8, None, 10, 80), 80.0), "each alone: the origin sends every copy");
    }

    #[test]
    fn holders_lend_their_uplinks_and_the_origin_sends_nothing() {
        assert!(near(seconds(7, 0, None, 10, 80), 8.75));
        let unlimited = Bound { bytes: 5, cold: 7, copies: 1, downlink: None, origin: None, uplinks: None };
        assert!(near(unlimited.seconds(), 0.0), "no limit, no bound");
    }

    #[test]
    fn one_node_alone_is_bound_by_its_downlink_and_the_origin() {
        let bound = Bound { bytes: 100 * MB, cold: 8, copies: 1, downlink: Some(10 * MB), origin: Some(40 * MB), uplinks: Some(40 * MB) };
        assert!(near(bound.alone(), 10.0));
    }
}
