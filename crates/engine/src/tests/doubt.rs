//! Files whose pieces prove what comes: how much is asked for before, and what follows what does not fit.

use larder_content::CHUNK_BYTES;

use super::*;
use crate::Pieces;

const CHUNKS: u64 = 400;
const LISTED: Pieces = Pieces::Listed { longest: 128 * 1024 };

fn heard(engine: &mut Engine, pieces: Pieces, now: Time) {
    engine.handle(Event::Pieces { file: key(1), pieces }, now);
}

/// A file that two hold, of whom the first is asked for the list of its pieces; and what is asked for at once.
fn begun() -> (Engine, VecDeque<Started>) {
    let mut engine = Engine::new(Config::default(), 1);
    want_shared(&mut engine, 1, CHUNKS * CHUNK_BYTES, 1, sharing(vec![]));
    (1..=2).for_each(|from| holds(&mut engine, from, key(1)));
    heard(&mut engine, Pieces::Asked, Time::ZERO);
    let known = actions(&mut engine, Time::ZERO);
    show_hashes(&mut engine, &known, Time::ZERO);
    let open = asked(&actions(&mut engine, Time::ZERO)).into();
    (engine, open)
}

fn bytes(reads: &VecDeque<Started>) -> u64 {
    reads.iter().map(|(_, _, chunks)| (chunks.end - chunks.start) * CHUNK_BYTES).sum()
}

/// Lets what was asked for come, a run every 10 ms, until nothing is asked for any more; whether the file was complete.
fn comes(engine: &mut Engine, mut open: VecDeque<Started>, from: Time) -> bool {
    let mut is_complete = false;
    for turn in 0..1000 {
        let now = from + Duration::from_millis(10) * turn;
        open.pop_front().into_iter().for_each(|read| finish(engine, read, now));
        let round = actions(engine, now);
        assert!(from_origin(&round).is_empty(), "the origin is asked for what peers have, at {now:?}: {round:?}");
        show_hashes(engine, &round, now);
        is_complete |= round.contains(&Action::Complete { file: key(1) });
        open.extend(asked(&round));
    }
    is_complete
}

#[test]
fn what_came_before_the_list_was_there_holds_nothing_back_once_it_is() {
    // All of it, a part, or nothing.
    for early in 0..=4 {
        let (mut engine, mut open) = begun();
        assert!((1..=1 << 20).contains(&bytes(&open)), "{} bytes are asked for without a list", bytes(&open));
        for read in open.drain(..early.min(open.len())).collect::<Vec<_>>() {
            finish(&mut engine, read, SECOND);
        }
        heard(&mut engine, LISTED, SECOND);
        assert!(comes(&mut engine, open, SECOND), "it stands still after {early} runs that came early");
    }
}

#[test]
fn a_list_that_never_comes_is_waited_for_no_longer_than_two_seconds() {
    let (mut engine, open) = begun();
    assert!(comes(&mut engine, open, SECOND * 2));
}

#[test]
fn while_it_is_settled_who_is_wrong_nothing_is_asked_for_or_read_and_afterwards_what_was_false_comes_again() {
    for (is_false, is_alone) in [(true, false), (true, true), (false, false)] {
        let (mut engine, mut open) = begun();
        // A third says that it is something else.
        say(&mut engine, 3, key(1), FileWord::Follow, Time::ZERO);
        say(&mut engine, 3, key(1), FileWord::Complete(ContentId([8; 32])), Time::ZERO);
        heard(&mut engine, LISTED, Time::ZERO);
        heard(&mut engine, Pieces::Doubted, Time::ZERO);
        let mut came: Vec<Started> = open.drain(..).collect();
        let first = came.remove(0);
        continue_with(&mut engine, first.0, first.2.end - first.2.start, Outcome::Broken, Time::ZERO);
        came.into_iter().for_each(|read| finish(&mut engine, read, Time::ZERO));
        if is_alone {
            engine.handle(Event::Lost { peer: peer(2) }, Time::ZERO);
        }
        for turn in 0..8 {
            let round = actions(&mut engine, Duration::from_millis(50) * turn);
            assert!(reads(&round).is_empty(), "{round:?}");
        }
        let now = Duration::from_millis(400);
        if is_false {
            engine.handle(Event::Disproven { file: key(1), content: Some(CONTENT), missing: vec![first.2] }, now);
        } else {
            heard(&mut engine, Pieces::Unknown, now);
        }
        assert!(comes(&mut engine, open, now), "it stands still where {is_false}");
    }
}

#[test]
fn an_origin_that_does_not_say_who_is_wrong_keeps_nobody_from_going_on() {
    let (mut engine, open) = begun();
    heard(&mut engine, LISTED, Time::ZERO);
    heard(&mut engine, Pieces::Doubted, Time::ZERO);
    assert!(comes(&mut engine, open, Time::ZERO));
}

#[test]
fn the_more_was_right_the_more_is_asked_for_however_seldom_it_comes() {
    let (mut engine, mut open) = begun();
    heard(&mut engine, LISTED, Time::ZERO);
    let mut most = bytes(&open);
    assert!(most <= 1 << 20);
    for turn in 1..200 {
        // Longer than what is told is gathered for.
        let now = Duration::from_millis(60) * turn;
        open.pop_front().into_iter().for_each(|read| finish(&mut engine, read, now));
        open.extend(asked(&actions(&mut engine, now)));
        most = most.max(bytes(&open));
    }
    assert!(most > 2 << 20, "{most} bytes at most");
}

#[test]
fn long_pieces_come_one_after_the_other_and_none_is_left_behind() {
    const PART: u64 = 8 << 20;
    for with_fetcher in [false, true] {
        let (mut engine, mut open) = begun();
        if with_fetcher {
            say(&mut engine, 3, key(1), FileWord::Follow, Time::ZERO);
        }
        heard(&mut engine, Pieces::Listed { longest: PART }, Time::ZERO);
        open.extend(asked(&actions(&mut engine, Time::ZERO)));
        let (mut came, mut is_complete) = (std::collections::BTreeSet::new(), false);
        // Some come late.
        for turn in 0..4000u64 {
            let now = Duration::from_millis(10) * u32::try_from(turn).unwrap();
            let next = open.iter().position(|(.., chunks)| turn % 16 == 0 || chunks.start / 4 % 3 != 0);
            let Some(read) = next.and_then(|at| open.remove(at)) else { continue };
            came.extend(read.2.clone());
            finish(&mut engine, read, now);
            let round = actions(&mut engine, now);
            let is_cancelled = |read: &ReadId| round.contains(&Action::Cancel { read: *read });
            open.retain(|(read, ..)| !is_cancelled(read));
            is_complete |= round.contains(&Action::Complete { file: key(1) });
            open.extend(asked(&round));
            let first_missing = (0..).find(|chunk| !came.contains(chunk)).unwrap();
            let right = came.len() as u64 * CHUNK_BYTES / 8;
            let most = first_missing + (2 * PART).max(right).div_ceil(CHUNK_BYTES);
            assert!(open.iter().all(|(.., chunks)| chunks.end <= most), "chunks are asked for that lie beyond {most}: {open:?}");
        }
        assert!(is_complete, "it stands still at {} chunks", came.len());
    }
}

#[test]
fn who_is_slow_by_far_holds_up_none_of_what_others_bring() {
    // Also if the fast one is heard of when the slow ones have been asked for all that may be: it is seen by what they bring that they are slow, or
    // by how long they take for it.
    for (longest, late, takes, within) in [(128 << 10, 0, 150, 4), (8 << 20, 0, 150, 4), (128 << 10, 10, 150, 8), (128 << 10, 10, 1500, 8)]
    {
        let mut engine = Engine::new(Config::default(), 1);
        want_shared(&mut engine, 1, CHUNKS * CHUNK_BYTES, 1, sharing(vec![]));
        (1..=3).for_each(|from| holds(&mut engine, from, key(1)));
        heard(&mut engine, Pieces::Listed { longest }, Time::ZERO);
        // Three of them bring a chunk in 1.5 s or 15 s each, the fourth a run every 10 ms.
        let mut open: [VecDeque<Started>; 4] = Default::default();
        let mut completed = None;
        for turn in 0..4000 {
            let now = Duration::from_millis(10) * turn;
            if turn == late {
                holds(&mut engine, 4, key(1));
            }
            let round = actions(&mut engine, now);
            show_hashes(&mut engine, &round, now);
            for action in round {
                match action {
                    Action::Read { read, file, chunks, from: From::Peer { peer: from, .. } } => {
                        let of = (1..=4).position(|number| peer(number) == from).unwrap();
                        open[of].push_back((read, file, chunks));
                    }
                    Action::Cancel { read } => open.iter_mut().for_each(|open| open.retain(|(other, ..)| *other != read)),
                    Action::Complete { .. } => completed = completed.or(Some(now)),
                    Action::Read { .. } | Action::GiveUp { .. } | Action::Tell { .. } | Action::FetchHashes { .. } | Action::Ban { .. } => {
                    }
                }
            }
            // What takes so long is heard to come.
            let beginning = open[..3].iter().filter_map(|open| open.front()).filter(|_| takes > 1000 && turn % 50 == 0);
            beginning.for_each(|(read, ..)| engine.handle(Event::Heard { read: *read }, now));
            let slow = turn % takes == takes - 1;
            for open in &mut open[if slow { 0 } else { 3 }..] {
                open.pop_front().into_iter().for_each(|read| finish(&mut engine, read, now));
            }
        }
        let left: Vec<_> = open.iter().map(|open| open.len()).collect();
        assert!(completed.is_some_and(|at| at < within * SECOND), "{completed:?} with pieces of {longest}, {late}, {takes}, {left:?}");
    }
}

#[test]
fn what_is_sworn_to_without_a_list_costs_a_mebibyte_until_a_chunk_of_the_origin_is_there() {
    for is_false in [false, true] {
        let mut engine = Engine::new(Config::default(), 1);
        want_shared(&mut engine, 1, CHUNKS * CHUNK_BYTES, 1, Sharing { samples: true, ..sharing(vec![]) });
        holds(&mut engine, 1, key(1));
        let known = actions(&mut engine, Time::ZERO);
        show_hashes(&mut engine, &known, Time::ZERO);
        let round = actions(&mut engine, Time::ZERO);
        let sample = from_origin(&round);
        assert!(matches!(&sample[..], [(.., chunks)] if chunks.end - chunks.start == 1), "{round:?}");
        let open: VecDeque<Started> = asked(&round).into();
        assert!((1..=1 << 20).contains(&bytes(&open)), "{} bytes are asked for before the chunk is there", bytes(&open));
        if is_false {
            engine.handle(Event::Contradicted { file: key(1), content: CONTENT }, SECOND);
        }
        finish(&mut engine, sample[0].clone(), SECOND);
        let round = actions(&mut engine, SECOND);
        if is_false {
            assert!(asked(&round).is_empty() && !from_origin(&round).is_empty(), "who swore falsely is asked: {round:?}");
        } else {
            let open = open.into_iter().chain(asked(&round)).collect();
            assert!(comes(&mut engine, open, SECOND), "it stands still");
        }
    }
}

#[test]
fn a_holder_that_refuses_a_chunk_of_each_part_is_left_alone_after_nine() {
    let (mut engine, mut open) = begun();
    engine.handle(Event::Lost { peer: peer(2) }, Time::ZERO);
    heard(&mut engine, Pieces::Listed { longest: 5 << 20 }, Time::ZERO);
    let (mut refused, mut came) = (0, 0);
    for turn in 0..400 {
        let now = Duration::from_millis(10) * turn;
        if let Some((read, file, chunks)) = open.pop_front() {
            if chunks.start % 2 == 0 {
                refused += 1;
                end(&mut engine, read, Outcome::Refused, now);
            } else {
                came += 1;
                finish(&mut engine, (read, file, chunks), now);
            }
        }
        let round = actions(&mut engine, now);
        show_hashes(&mut engine, &round, now);
        open.extend(asked(&round));
    }
    assert!((1..=9).contains(&refused) && came > 0, "{refused} refused, {came} came");
    assert!(open.is_empty(), "it is still asked: {open:?}");
}

#[test]
fn when_a_content_was_refuted_those_who_fetch_are_asked_for_what_they_claim_at_once() {
    let (mut engine, open) = begun();
    assert!(comes(&mut engine, open, SECOND * 2));
    let now = SECOND * 20;
    say(&mut engine, 3, key(1), FileWord::Follow, now);
    engine.handle(Event::Refuted { file: key(1), signers: vec![], missing: vec![0..CHUNKS] }, now);
    say(&mut engine, 3, key(1), FileWord::Have(vec![0..4]), now);
    let round: Vec<Action> = (0..10).flat_map(|turn| actions(&mut engine, now + Duration::from_millis(50) * turn)).collect();
    let is_of_three =
        |action: &Action| matches!(action, Action::Read { from: From::Peer { peer: from, content: None }, .. } if *from == peer(3));
    assert!(round.iter().any(is_of_three), "{round:?}");
}
