//! What holds of crowds that are larger than a node can see.

use larder_content::CHUNK_BYTES;

use super::market::{Kind, Market};
use super::*;

/// An engine that was told of 64 others that fetch, as many as it has room for.
fn full() -> Engine {
    let mut engine = Engine::new(Config::default(), 1);
    let known = (1..65).map(|number| (peer(number).node, Holding::Fetching)).collect();
    want_shared(&mut engine, 1, 4096 * CHUNK_BYTES, 1, sharing(known));
    actions(&mut engine, Time::ZERO);
    engine
}

#[test]
fn one_that_follows_takes_the_place_of_one_that_has_not_answered() {
    let mut engine = full();
    say(&mut engine, 70, key(1), FileWord::Follow, SECOND / 10);
    let told = tells(&actions(&mut engine, SECOND / 10), 70);
    assert!(told.contains(&FileWord::Follow), "{told:?}");
}

#[test]
fn one_for_whom_there_is_no_room_is_told_so_and_does_not_count_on_this_node() {
    let mut engine = full();
    (1..65).for_each(|number| say(&mut engine, number, key(1), FileWord::Follow, SECOND / 10));
    actions(&mut engine, SECOND / 10);
    say(&mut engine, 70, key(1), FileWord::Follow, SECOND / 5);
    assert_eq!(tells(&actions(&mut engine, SECOND / 5), 70), [FileWord::Unfollow]);
    let mut other = Engine::new(Config::default(), 2);
    want_shared(&mut other, 1, 4096 * CHUNK_BYTES, 1, sharing(vec![(peer(99).node, Holding::Fetching)]));
    say(&mut other, 99, key(1), FileWord::Unfollow, SECOND);
    let share = other.files[&key(1)].share.as_deref().unwrap();
    assert_eq!(share.fetchers().count(), 0);
}

/// 60 nodes that each share with 6 others, and with their neighbours.
fn crowd(seed: u64) -> Market {
    let mut market = Market::new(256, 60, 10e6, 20e6, 100e6, seed).with_partners(6);
    market.nodes.iter_mut().for_each(|node| node.wants_at = Time::ZERO);
    market
}

#[test]
fn a_crowd_that_nobody_sees_whole_shares_one_download() {
    for seed in 1..3 {
        let mut market = crowd(seed);
        market.run(120 * SECOND);
        assert!(market.copies() < 1.15, "{} copies", market.copies());
    }
}

#[test]
fn a_crowd_whose_file_has_a_holder_does_not_find_out_how_fast_the_origin_is() {
    // It is in time if the origin gives what is assumed, and would not be if that gave as much as the fastest lines take.
    let mut market = Market::new(6000, 9, 13e6, 200e6, 62e6, 1).with_partners(2);
    market.has_all(0);
    market.nodes[1..].iter_mut().for_each(|node| (node.wants_at, node.patience) = (Time::ZERO, Some(1.5)));
    market.run(300 * SECOND);
    // What is read before the holder is heard of.
    assert!(market.copies() < 0.1, "{} copies", market.copies());
}

#[test]
fn who_leaves_a_crowd_is_stood_in_for() {
    let mut market = crowd(1);
    while market.now < 2 * SECOND {
        market.step();
    }
    (0..60).filter(|node| node % 3 == 0).for_each(|node| market.kill(node));
    let took = market.run(120 * SECOND);
    assert!(took < 30.0 && market.copies() < 1.6, "{took} s, {} copies", market.copies());
}

#[test]
fn one_that_only_talks_does_not_hold_up_a_crowd() {
    let mut market = crowd(1);
    (market.nodes[0].kind, market.nodes[0].wanted) = (Kind::Talks, true);
    let took = market.run(120 * SECOND);
    assert!(took < 30.0 && market.copies() < 1.6, "{took} s, {} copies", market.copies());
}
