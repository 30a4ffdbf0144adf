//! What markets of engines promise: one download for all, little time lost, and the file in the end.

use larder_content::CHUNK_BYTES;
use proptest::prelude::*;

use super::market::{Kind, Market};
use super::schedules::rounds;
use super::*;

/// The least time in which the file can be at all nodes.
fn least(bytes: f64, nodes: f64, up: f64, down: f64, origin: f64) -> f64 {
    (bytes / down).max(bytes / origin).max((nodes - 1.0) * bytes / (nodes * up))
}

#[test]
fn a_cold_swarm_shares_one_download_near_the_least_time() {
    for nodes in [2, 8, 16] {
        let mut market = Market::new(512, nodes, 10e6, 100e6, 10e6, 1);
        let took = market.run(200 * SECOND);
        let least = least(512.0 * CHUNK_BYTES as f64, nodes as f64, 10e6, 100e6, 10e6);
        assert!(market.copies() <= 1.05, "{} copies for {nodes} nodes", market.copies());
        assert!(took <= 1.3 * least, "{nodes} nodes took {took} s, at least {least}");
    }
}

#[test]
fn those_who_send_nothing_for_seconds_but_go_on_keep_what_they_read() {
    let mut market = Market::new(512, 8, 10e6, 100e6, 10e6, 1);
    market.nodes.iter_mut().for_each(|node| node.freezes = Duration::from_millis(2500));
    market.run(300 * SECOND);
    assert!(market.copies() <= 1.05, "{} copies", market.copies());
}

#[test]
fn many_who_send_in_gusts_on_slow_lines_are_not_given_up() {
    let mut market = Market::new(192, 16, 8e6, 100e6, 8e6, 1);
    market.nodes.iter_mut().for_each(|node| node.freezes = Duration::from_millis(3500));
    market.run(800 * SECOND);
    assert!(market.stalls() < 20, "{} stalls", market.stalls());
}

#[test]
fn those_who_have_not_heard_of_each_other_read_little_of_an_origin_that_is_fast() {
    let mut market = Market::new(512, 8, 200e6, 1e9, 1e9, 1);
    market.nodes.iter_mut().for_each(|node| (node.blind, node.wants_at) = (true, Time::ZERO));
    market.run(20 * SECOND);
    let left: u32 = market.left.iter().sum();
    assert!(left <= 540, "{left} chunks of 512");
}

#[test]
fn one_that_only_talks_is_not_waited_for() {
    let mut market = Market::new(512, 4, 10e6, 100e6, 10e6, 1);
    market.nodes[3].kind = Kind::Talks;
    market.nodes[3].wanted = true;
    let took = market.run(200 * SECOND);
    let least = least(512.0 * CHUNK_BYTES as f64, 3.0, 10e6, 100e6, 10e6);
    assert!(took <= 1.5 * least + 10.0, "took {took} s, at least {least}");
}

#[test]
fn home_lines_share_one_download_near_the_least_time() {
    let mut market = Market::new(512, 8, 5e6, 10e6, 40e6, 1);
    market.nodes.iter_mut().for_each(|node| node.patience = Some(3.0));
    let took = market.run(200 * SECOND);
    let least = least(512.0 * CHUNK_BYTES as f64, 8.0, 5e6, 10e6, 40e6);
    assert!(market.copies() <= 1.3, "{} copies", market.copies());
    assert!(took <= 1.3 * least, "took {took} s, at least {least}");
}

#[test]
fn slow_lines_among_fast_ones_hold_up_nobody() {
    let mut market = Market::new(1024, 12, 0.0, 100e6, 10e6, 1);
    market.nodes.iter_mut().zip(0..).for_each(|(node, place)| node.up = 3e6 * 8.0f64.powf(f64::from(place) / 11.0));
    let took = market.run(200 * SECOND);
    // The origin's line is the narrowest.
    let least = 1024.0 * CHUNK_BYTES as f64 / 10e6;
    assert!(market.copies() <= 1.05, "{} copies", market.copies());
    assert!(took <= 1.2 * least, "took {took} s, at least {least}");
}

#[test]
fn a_warm_swarm_reads_nothing_from_the_origin() {
    let mut market = Market::new(512, 6, 50e6, 100e6, 100e6, 1);
    market.has_all(0);
    let took = market.run(100 * SECOND);
    // The one that has it cannot send a copy of it sooner. Here it would cost nothing to move requests, which it does on real lines.
    assert!(took < 1.75 * 512.0 * CHUNK_BYTES as f64 / 50e6, "{took}");
    assert_eq!(market.copies(), 0.0);
}

#[test]
fn a_node_alone_takes_the_origins_time() {
    let mut market = Market::new(512, 1, 10e6, 100e6, 50e6, 1);
    let took = market.run(100 * SECOND);
    assert!(took < 1.1 * 512.0 * CHUNK_BYTES as f64 / 50e6, "{took}");
}

#[test]
fn peers_that_stall_cost_two_seconds_and_no_more() {
    let mut market = Market::new(2048, 5, 10e6, 100e6, 50e6, 1);
    for node in 1..5 {
        market.nodes[node].kind = Kind::Stalls;
        market.nodes[node].wanted = true;
        market.nodes[node].done_at = Some(Time::ZERO);
    }
    let took = market.run(100 * SECOND);
    assert!(took < 1.1 * 2048.0 * CHUNK_BYTES as f64 / 50e6 + 2.5, "{took}");
}

#[test]
fn peers_that_stall_in_the_middle_cost_two_seconds_and_no_more() {
    for from in [500, 1000, 1500] {
        let mut market = Market::new(1024, 4, 10e6, 100e6, 40e6, 1);
        (0..3).for_each(|holder| market.has_all(holder));
        while market.now < Duration::from_millis(from) {
            market.step();
        }
        (0..3).for_each(|holder| market.nodes[holder].kind = Kind::Stalls);
        let took = market.run(100 * SECOND);
        assert!(took < 1.1 * 1024.0 * CHUNK_BYTES as f64 / 40e6 + 2.0, "{took} s when they stall from {from} ms on");
    }
}

#[test]
fn patience_that_is_over_is_helped_by_the_origin() {
    let mut market = Market::new(512, 2, 2e6, 100e6, 50e6, 1);
    market.has_all(0);
    market.nodes[1].patience = Some(3.0);
    let straight = 512.0 * CHUNK_BYTES as f64 / 50e6;
    let took = market.run(100 * SECOND);
    // Some seconds until it is known how fast the origin is.
    assert!(market.copies() > 0.2 && took < 3.0 * straight + 5.0, "{took} s, {} copies", market.copies());
}

#[test]
fn an_origin_that_was_never_read_may_be_faster_than_is_assumed() {
    let play = |chunks, uplink| {
        let mut market = Market::new(chunks, 2, uplink, 200e6, 62e6, 1);
        market.has_all(0);
        market.nodes[1].patience = Some(1.5);
        let took = market.run(200 * SECOND);
        (market.copies(), took / (chunks as f64 * CHUNK_BYTES as f64 / 62e6))
    };
    // In time if the origin gave 12.5 MB/s; it gives what the line can take.
    let (_, by_straight) = play(6000, 13e6);
    assert!(by_straight < 1.7, "{by_straight} times what it takes straight from the origin");
    // As fast as the fastest lines would have it, and too short to be worth a look.
    for (chunks, uplink) in [(13_000, 45e6), (2000, 13e6)] {
        assert_eq!(play(chunks, uplink).0, 0.0, "{chunks} chunks at {uplink} bytes a second");
    }
}

#[test]
fn a_binding_that_is_false_costs_little_when_something_was_read() {
    let mut market = Market::new(256, 3, 10e6, 100e6, 50e6, 1);
    for liar in [1, 2] {
        market.nodes[liar].kind = [Kind::FalseBinding, Kind::SendsFalse][liar - 1];
        market.nodes[liar].wanted = true;
        market.nodes[liar].done_at = Some(Time::ZERO);
    }
    market.run(100 * SECOND);
}

#[test]
fn late_joiners_and_leavers_leave_the_origin_alone() {
    let mut market = Market::new(512, 9, 10e6, 100e6, 10e6, 3);
    for late in 5..9 {
        market.nodes[late].wants_at = SECOND * u32::try_from(late).unwrap();
    }
    while market.now < 4 * SECOND {
        market.step();
    }
    market.kill(0);
    market.run(200 * SECOND);
    assert!(market.copies() < 1.2, "{}", market.copies());
}

#[test]
fn one_that_signs_what_is_false_costs_one_more_copy_whatever_its_rank() {
    for liar in 0..6 {
        let mut market = Market::new(256, 6, 10e6, 100e6, 20e6, 1);
        market.nodes[liar].kind = Kind::SignsFalse;
        let took = market.run(200 * SECOND);
        assert!(market.nodes.iter().any(|node| node.refuted > 0), "nobody was lied to");
        assert!(market.nodes.iter().all(|node| node.refuted < 2), "lied to twice");
        assert!(market.copies() <= 2.05, "{} copies", market.copies());
        let least = least(256.0 * CHUNK_BYTES as f64, 6.0, 10e6, 100e6, 20e6);
        assert!(took <= 3.0 * least + 10.0, "took {took} s, at least {least}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: rounds(12), ..ProptestConfig::default() })]

    /// Whatever nodes come, go, stall and lie: who lives gets the file, as long as the origin lives.
    #[test]
    fn the_file_always_comes(
        seed in any::<u64>(),
        kinds in proptest::collection::vec(0u8..8, 2..7),
        starts in proptest::collection::vec(0u32..4000, 7),
        kills in proptest::collection::vec((0usize..7, 100u32..8000), 0..3),
        patience in proptest::option::of(1.0f64..4.0),
        chunks in 5u64..300,
    ) {
        let mut market = Market::new(chunks, kinds.len() + 1, 5e6, 50e6, 20e6, seed);
        for (number, kind) in kinds.iter().enumerate() {
            market.nodes[number].patience = patience;
            market.nodes[number].wants_at = Duration::from_millis(starts[number].into());
            market.nodes[number].blind = kind % 2 == 1;
            let kind = match kind { 0 => Kind::Stalls, 1 => Kind::SendsFalse, 2 => Kind::FalseBinding, _ => continue };
            market.nodes[number].kind = kind;
            market.nodes[number].wanted = true;
            market.nodes[number].done_at = Some(Time::ZERO);
        }
        for (number, at) in kills {
            if number < kinds.len() {
                while market.now < Duration::from_millis(at.into()) {
                    market.step();
                }
                market.kill(number);
            }
        }
        market.run(400 * SECOND);
    }

    /// An honest cold swarm reads each chunk once, but for what two read before they heard of each other.
    #[test]
    fn each_chunk_leaves_the_origin_once(seed in any::<u64>(), nodes in 2usize..10, chunks in 64u64..400) {
        let mut market = Market::new(chunks, nodes, 10e6, 100e6, 10e6, seed);
        market.run(400 * SECOND);
        let twice = market.left.iter().filter(|left| **left > 1).count();
        prop_assert!(twice * 20 <= market.left.len(), "{twice} of {chunks} left more than once");
    }
}
