//! What becomes of files whose origins break off, stall, are busy, or send what nobody asked for.

use super::*;

/// Goes from deadline to deadline until the engine gives file 1 up, and counts the rounds in which it starts reads. Each is
/// told to `report`: its number, its reads and the time.
fn rounds_until_given_up(engine: &mut Engine, mut report: impl FnMut(&mut Engine, usize, &[Started], Time)) -> usize {
    let (mut now, mut rounds) = (Time::ZERO, 0);
    for _ in 0..100 {
        let round = actions(engine, now);
        if round.contains(&Action::GiveUp { file: key(1) }) {
            return rounds;
        }
        let started = reads(&round);
        if !started.is_empty() {
            rounds += 1;
            report(engine, rounds, &started, now);
        }
        now = engine.next_deadline(now).unwrap_or(now);
    }
    panic!("it is never given up");
}

#[test]
fn a_broken_read_goes_on_where_it_broke() {
    let mut engine = Engine::new(Config::default(), 1);
    want(&mut engine, 1, 10, 1);
    let first = reads(&actions(&mut engine, Time::ZERO)).remove(0);
    engine.handle(Event::Arrived { read: first.0, chunks: 4 }, Time::ZERO);
    end(&mut engine, first.0, Outcome::Broken, Time::ZERO);
    assert!(actions(&mut engine, Time::ZERO).is_empty());
    let at = engine.next_deadline(Time::ZERO).unwrap();
    assert!(at > Time::ZERO && at < SECOND);
    assert_eq!(reads(&actions(&mut engine, at))[0].2, 4..10);
}

#[test]
fn a_file_is_given_up_after_failures_in_a_row_and_progress_starts_the_count_anew() {
    let mut engine = Engine::new(Config { failures: 3, ..Config::default() }, 1);
    want(&mut engine, 1, 1000, 1);
    let rounds = rounds_until_given_up(&mut engine, |engine, round, started, now| {
        if round == 2 {
            engine.handle(Event::Arrived { read: started[0].0, chunks: 1 }, now);
        }
        started.iter().for_each(|read| end(engine, read.0, Outcome::Broken, now));
    });
    assert_eq!(rounds, 5, "one before the progress, four after it");
}

#[test]
fn what_can_never_work_is_not_tried_again() {
    let mut engine = Engine::new(Config::default(), 1);
    want(&mut engine, 1, 1000, 1);
    let started = reads(&actions(&mut engine, Time::ZERO));
    end(&mut engine, started[3].0, Outcome::Refused, Time::ZERO);
    let after = actions(&mut engine, Time::ZERO);
    assert!(after.contains(&Action::GiveUp { file: key(1) }));
    assert_eq!(after.iter().filter(|action| matches!(action, Action::Cancel { .. })).count(), 15);
    end(&mut engine, started[4].0, Outcome::Complete, Time::ZERO);
    assert!(actions(&mut engine, Time::ZERO).is_empty(), "a late report changes nothing");
}

#[test]
fn a_busy_origin_is_left_alone_for_as_long_as_it_asks_and_then_asked_for_less() {
    let mut engine = Engine::new(Config::default(), 1);
    (0..200).for_each(|number| want(&mut engine, number, 1, 1));
    for read in reads(&actions(&mut engine, Time::ZERO)) {
        end(&mut engine, read.0, Outcome::Busy(Some(7 * SECOND)), Time::ZERO);
    }
    assert!(actions(&mut engine, 6 * SECOND).is_empty());
    assert_eq!(engine.next_deadline(6 * SECOND), Some(7 * SECOND));
    assert_eq!(reads(&actions(&mut engine, 7 * SECOND)).len(), 16);
}

#[test]
fn an_origin_that_stays_busy_for_too_long_is_given_up() {
    let mut engine = Engine::new(Config { busy: 60 * SECOND, ..Config::default() }, 1);
    want(&mut engine, 1, 1, 1);
    let mut now = Time::ZERO;
    for wait in [30, 25, 20] {
        let read = reads(&actions(&mut engine, now)).remove(0);
        end(&mut engine, read.0, Outcome::Busy(Some(wait * SECOND)), now);
        now += wait * SECOND;
    }
    assert_eq!(actions(&mut engine, now), [Action::GiveUp { file: key(1) }]);
}

#[test]
fn an_origin_without_ranges_is_left_alone_while_a_peer_has_all() {
    let mut engine = Engine::new(Config::default(), 1);
    want_shared(&mut engine, 1, 1000 * larder_content::CHUNK_BYTES, 1, sharing(vec![]));
    let read = from_origin(&actions(&mut engine, SECOND)).remove(0);
    holds(&mut engine, 1, key(1));
    let begun = actions(&mut engine, SECOND);
    show_hashes(&mut engine, &begun, SECOND);
    end(&mut engine, read.0, Outcome::RangeIgnored, SECOND);
    let after = actions(&mut engine, SECOND);
    assert!(from_origin(&after).is_empty() && !asked(&after).is_empty(), "{after:?}");
    engine.handle(Event::Lost { peer: peer(1) }, SECOND);
    let again: Vec<Started> = (2..12).flat_map(|second| from_origin(&actions(&mut engine, second * SECOND))).collect();
    end(&mut engine, again[0].0, Outcome::RangeIgnored, 12 * SECOND);
    assert_eq!(from_origin(&actions(&mut engine, 12 * SECOND))[0].2, 0..1000);
}

#[test]
fn an_origin_without_ranges_is_asked_for_whole_files_one_read_each() {
    let mut engine = Engine::new(Config::default(), 1);
    want(&mut engine, 1, 1000, 1);
    let started = reads(&actions(&mut engine, Time::ZERO));
    end(&mut engine, started[1].0, Outcome::RangeIgnored, Time::ZERO);
    let after = actions(&mut engine, Time::ZERO);
    let whole = reads(&after);
    assert_eq!(whole.len(), 1);
    assert_eq!(whole[0].2, 0..1000);
    finish(&mut engine, whole[0].clone(), SECOND);
    assert_eq!(actions(&mut engine, SECOND), [Action::Complete { file: key(1) }]);
}

#[test]
fn a_busy_origin_that_asks_for_no_wait_is_left_alone_all_the_same() {
    let mut engine = Engine::new(Config::default(), 1);
    want(&mut engine, 1, 1, 1);
    let mut now = Time::ZERO;
    let mut requests = 0;
    loop {
        let round = actions(&mut engine, now);
        if round == [Action::GiveUp { file: key(1) }] {
            break;
        }
        for read in reads(&round) {
            requests += 1;
            end(&mut engine, read.0, Outcome::Busy(Some(Duration::ZERO)), now);
        }
        now = engine.next_deadline(now).unwrap_or(now + SECOND / 100);
    }
    assert!(now >= 15 * 60 * SECOND);
    assert!(requests < 40, "{requests} requests in a quarter of an hour");
}

#[test]
fn an_origin_that_sends_the_same_start_of_a_whole_file_again_and_again_is_given_up() {
    let mut engine = Engine::new(Config { failures: 3, ..Config::default() }, 1);
    want(&mut engine, 1, 1000, 1);
    for read in reads(&actions(&mut engine, Time::ZERO)) {
        end(&mut engine, read.0, Outcome::RangeIgnored, Time::ZERO);
    }
    let rounds = rounds_until_given_up(&mut engine, |engine, round, started, now| {
        let [(read, _, chunks)] = started else { panic!("{started:?}") };
        assert_eq!(*chunks, 0..1000);
        // The third brings more than those before it.
        let arrived = if round == 3 { 500 } else { 400 };
        (0..arrived).for_each(|_| engine.handle(Event::Arrived { read: *read, chunks: 1 }, now));
        end(engine, *read, Outcome::Broken, now);
    });
    assert_eq!(rounds, 6, "two before the progress, one that made some, and after it the rest of four failures");
}

#[test]
fn a_report_of_no_chunks_is_no_progress() {
    let mut engine = Engine::new(Config { failures: 0, stalled_read: 60 * SECOND, ..Config::default() }, 1);
    want(&mut engine, 1, 10, 1);
    let read = reads(&actions(&mut engine, Time::ZERO)).remove(0);
    engine.handle(Event::Arrived { read: read.0, chunks: 0 }, 59 * SECOND);
    assert_eq!(actions(&mut engine, 60 * SECOND), [Action::Cancel { read: read.0 }, Action::GiveUp { file: key(1) }]);
}

#[test]
fn a_read_that_brings_no_chunk_for_too_long_is_stopped_and_its_chunks_are_read_again() {
    let mut engine = Engine::new(Config { stalled_read: 60 * SECOND, ..Config::default() }, 1);
    want(&mut engine, 1, 10, 1);
    let read = reads(&actions(&mut engine, Time::ZERO)).remove(0);
    engine.handle(Event::Arrived { read: read.0, chunks: 4 }, 50 * SECOND);
    assert_eq!(engine.next_deadline(50 * SECOND), Some(110 * SECOND), "each chunk starts the clock anew");
    assert!(actions(&mut engine, 109 * SECOND).is_empty());
    assert_eq!(actions(&mut engine, 110 * SECOND), [Action::Cancel { read: read.0 }]);
    continue_with(&mut engine, read.0, 6, Outcome::Complete, 110 * SECOND);
    assert!(actions(&mut engine, 110 * SECOND).is_empty(), "a late report changes nothing");
    let retry = engine.next_deadline(110 * SECOND).unwrap();
    assert_eq!(reads(&actions(&mut engine, retry))[0].2, 4..10);
}

#[test]
fn a_file_whose_reads_stall_again_and_again_is_given_up() {
    let mut engine = Engine::new(Config { failures: 3, ..Config::default() }, 1);
    want(&mut engine, 1, 1000, 1);
    let rounds = rounds_until_given_up(&mut engine, |_, _, _, _| {});
    assert_eq!(rounds, 4);
    assert!(engine.next_deadline(Time::MAX).is_none());
}

#[test]
fn reads_side_by_side_that_stall_one_after_the_other_count_once() {
    let mut engine = Engine::new(Config { failures: 1, ..Config::default() }, 1);
    want(&mut engine, 1, 1000, 1);
    for (second, read) in (0..).zip(reads(&actions(&mut engine, Time::ZERO))) {
        engine.handle(Event::Arrived { read: read.0, chunks: 1 }, second * SECOND);
    }
    let minutes = (120..136).flat_map(|second| actions(&mut engine, second * SECOND)).collect::<Vec<_>>();
    assert_eq!(minutes.iter().filter(|action| matches!(action, Action::Cancel { .. })).count(), 16);
    assert!(!minutes.contains(&Action::GiveUp { file: key(1) }));
}

#[test]
fn an_origin_whose_reads_stall_is_asked_for_less_at_once() {
    let mut engine = Engine::new(Config::default(), 1);
    (0..200).for_each(|number| want(&mut engine, number, 1, 1));
    assert_eq!(reads(&actions(&mut engine, Time::ZERO)).len(), 32);
    assert_eq!(reads(&actions(&mut engine, 120 * SECOND)).len(), 16);
}

#[test]
fn who_finds_an_origin_gone_leaves_to_others_what_they_read_until_they_have_tried_it_again() {
    // Of two files of one resource another reads the second, and the second half of the first; it brings none of them.
    let (mut engine, theirs) = (Engine::new(Config::default(), 1), 32..64);
    (1..=2).for_each(|file| want_shared(&mut engine, file, 64 * larder_content::CHUNK_BYTES, 1, sharing(vec![])));
    for (file, run) in [(1, theirs.clone()), (2, 0..64)] {
        (1..=2).for_each(|from| say(&mut engine, from, key(file), FileWord::Follow, Time::ZERO));
        say(&mut engine, 1, key(file), FileWord::Reading(vec![run]), Time::ZERO);
    }
    let (mut back, mut taken) = (None, None);
    for turn in 0..1200 {
        let now = Duration::from_millis(50) * turn;
        (1..=2).for_each(|file| say(&mut engine, 1, key(file), FileWord::Have(vec![]), now));
        for read in from_origin(&actions(&mut engine, now)) {
            let is_theirs = read.1 == key(2) || read.2.end > theirs.start;
            if now < 20 * SECOND {
                assert!(!is_theirs, "{read:?} at {now:?}, while the origin is gone");
                end(&mut engine, read.0, Outcome::Broken, now);
                continue;
            }
            back.get_or_insert(now);
            if is_theirs {
                taken.get_or_insert(now);
            }
            finish(&mut engine, read, now);
        }
    }
    let waited = taken.unwrap() - back.unwrap();
    assert!(waited >= 12 * SECOND && waited < 24 * SECOND, "{waited:?}");
}

#[test]
fn who_found_an_origin_gone_and_has_nothing_to_read_takes_over_what_others_only_say_that_they_read() {
    let mut engine = Engine::new(Config::default(), 1);
    want_shared(&mut engine, 1, 64 * larder_content::CHUNK_BYTES, 1, sharing(vec![]));
    let mut taken = None;
    for turn in 0..2400 {
        let now = Duration::from_millis(50) * turn;
        let is_back = now >= 5 * SECOND;
        if is_back {
            // Strangers come and declare all of it.
            for from in 1..=4 {
                say(&mut engine, from, key(1), FileWord::Follow, now);
                say(&mut engine, from, key(1), FileWord::Reading(vec![0..64]), now);
            }
        }
        for read in from_origin(&actions(&mut engine, now)) {
            if is_back {
                taken.get_or_insert(now);
                finish(&mut engine, read, now);
            } else {
                end(&mut engine, read.0, Outcome::Broken, now);
            }
        }
    }
    assert!(taken.is_some_and(|at| at < 60 * SECOND), "{taken:?}");
    assert!(engine.files.values().all(WantedFile::is_complete), "it waits for strangers for good");
}
