//! Who gets the next place of a peer that is asked for enough.

use larder_content::CHUNK_BYTES;

use super::*;

/// Files that one holder has, each of a purpose of its own; it brings one run after the other. How much of each has come after `turns`.
fn brought(files: &[(u64, u64)], turns: usize) -> (Engine, BTreeMap<FileKey, u64>) {
    let mut engine = Engine::new(Config::default(), 1);
    for (number, (bytes, group)) in (1..).zip(files) {
        want_shared(&mut engine, number, *bytes, *group, sharing(vec![(peer(1).node, Holding::Complete)]));
        holds(&mut engine, 1, key(number));
    }
    let mut brought = BTreeMap::new();
    let mut open = VecDeque::new();
    for turn in (0..).take(turns) {
        let now = Duration::from_millis(turn);
        for _ in 0..2 {
            let actions = actions(&mut engine, now);
            open.extend(asked(&actions));
            show_hashes(&mut engine, &actions, now);
        }
        let Some((read, file, chunks)) = open.pop_front() else { break };
        *brought.entry(file).or_default() += chunks.end - chunks.start;
        finish(&mut engine, (read, file, chunks), now);
    }
    (engine, brought)
}

#[test]
fn purposes_take_turns_at_a_holder_whatever_they_began_first_and_have() {
    let large = 4096 * CHUNK_BYTES;
    let (_, all) = brought(&[(large, 1), (large, 1), (large, 1), (large, 2)], 400);
    let (others, second) = (all[&key(1)] + all[&key(2)] + all[&key(3)], all[&key(4)]);
    assert!(second * 3 > others && others * 3 > second * 2, "{others} chunks and {second}");
    let most = (1..4).map(|number| all[&key(number)]).max().unwrap();
    assert!((1..4).all(|number| all[&key(number)] * 2 > most), "{all:?}");
}

#[test]
fn places_are_given_back_to_the_last_byte() {
    let (mut engine, _) = brought(&[(1, 1), (CHUNK_BYTES + 1, 1), (5 * CHUNK_BYTES - 1, 1), (40 * CHUNK_BYTES + 7, 1)], 5);
    let now = SECOND;
    let asked = |engine: &Engine| engine.links[&peer(1)].asked;
    let reads: Vec<ReadId> = engine.reads.iter().filter(|(_, read)| read.peer().is_some()).map(|(id, _)| *id).collect();
    assert!(asked(&engine) > 0 && !reads.is_empty());
    end(&mut engine, reads[0], Outcome::Broken, now);
    (1..=4).for_each(|number| engine.handle(Event::Unwanted { file: key(number) }, now));
    assert_eq!(asked(&engine), 0);
}

#[test]
fn purposes_take_turns_at_slow_lines_too() {
    let mut engine = Engine::new(Config::default(), 1);
    for number in 1..=2 {
        want_shared(&mut engine, number, 400 * CHUNK_BYTES, number, sharing(vec![]));
        for from in 1..=2 {
            say(&mut engine, from, key(number), FileWord::Follow, Time::ZERO);
            say(&mut engine, from, key(number), FileWord::Have(vec![0..400]), Time::ZERO);
        }
    }
    let mut brought = BTreeMap::<FileKey, u64>::new();
    let mut open = VecDeque::new();
    for turn in 0..100 {
        // Each of the two brings a chunk in 1.4 s.
        let now = Duration::from_millis(700) * turn;
        open.extend(asked(&actions(&mut engine, now)));
        let Some((read, file, chunks)) = open.pop_front() else { continue };
        *brought.entry(file).or_default() += chunks.end - chunks.start;
        finish(&mut engine, (read, file, chunks), now);
    }
    let (first, second) = (brought[&key(1)], brought[&key(2)]);
    assert!(first + second > 60 && first * 2 > second && second * 2 > first, "{brought:?}");
}

#[test]
fn what_a_slow_holder_has_not_begun_goes_to_a_fast_one_at_the_end_and_what_it_has_begun_two_seconds_later() {
    let mut engine = Engine::new(Config::default(), 1);
    want_shared(&mut engine, 1, 64 * CHUNK_BYTES, 1, sharing(vec![]));
    (1..=2).for_each(|from| holds(&mut engine, from, key(1)));
    let known = actions(&mut engine, Time::ZERO);
    show_hashes(&mut engine, &known, Time::ZERO);
    let (mut slow, mut fast) = (VecDeque::new(), VecDeque::new());
    let (mut taken, mut completed) = (Vec::new(), None);
    for turn in 0..400 {
        let now = Duration::from_millis(10) * turn;
        for action in actions(&mut engine, now) {
            match action {
                Action::Read { read, file, chunks, from: From::Peer { peer: from, .. } } => {
                    if from == peer(1) {
                        slow.push_back(read)
                    } else {
                        fast.push_back((read, file, chunks))
                    }
                }
                Action::Cancel { read } if slow.contains(&read) => {
                    slow.retain(|other| *other != read);
                    taken.push(now);
                }
                Action::Complete { .. } => completed = Some(now),
                Action::Read { .. }
                | Action::Cancel { .. }
                | Action::GiveUp { .. }
                | Action::Tell { .. }
                | Action::FetchHashes { .. }
                | Action::Ban { .. } => {}
            }
        }
        // The slow one brings bytes and no chunk; the fast one a run every 10 ms.
        slow.front().into_iter().for_each(|read| engine.handle(Event::Heard { read: *read }, now));
        fast.pop_front().into_iter().for_each(|read| finish(&mut engine, read, now));
    }
    assert!(taken.len() > 1 && taken[0] < SECOND, "all that the slow one was asked for stays with it: {taken:?}");
    assert!(completed.is_some_and(|at| (2 * SECOND..3 * SECOND).contains(&at)), "{completed:?}");
}
