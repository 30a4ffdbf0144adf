//! Who is read next, and that many groups or files cost little.

use super::*;

#[test]
fn every_entry_of_a_job_moves_from_the_start() {
    let mut engine = Engine::new(Config::default(), 1);
    want(&mut engine, 1, 9999, 1);
    want(&mut engine, 2, 9999, 1);
    want(&mut engine, 3, 9999, 2);
    want(&mut engine, 4, 1, 3);
    let started = reads(&actions(&mut engine, Time::ZERO));
    let of = |number| started.iter().filter(|read| read.1 == key(number)).count();
    assert_eq!((of(1) + of(2), of(3), of(4)), (16, 15, 1));
}

#[test]
fn a_small_group_that_joins_late_waits_for_one_round_of_the_others() {
    let mut engine = Engine::new(Config::default(), 1);
    (0..32).for_each(|group| (0..50).for_each(|file| want(&mut engine, group * 50 + file, 1, group)));
    let mut open = VecDeque::from(reads(&actions(&mut engine, Time::ZERO)));
    want(&mut engine, 9999, 1, 32);
    let mut ended = 0;
    while !open.iter().any(|read| read.1 == key(9999)) {
        finish(&mut engine, open.pop_front().unwrap(), Time::ZERO);
        ended += 1;
        open.extend(reads(&actions(&mut engine, Time::ZERO)));
    }
    assert!(ended <= 33, "{ended} reads ended before the first of the group that joined late");
}

#[test]
fn groups_that_never_run_dry_are_served_alike() {
    let mut engine = Engine::new(Config { reads: 4, ..Config::default() }, 1);
    (0..6).for_each(|group| (0..100).for_each(|file| want(&mut engine, group * 100 + file, 1, group)));
    let mut served = [0; 6];
    let mut open = VecDeque::new();
    for _ in 0..60 {
        for read in reads(&actions(&mut engine, Time::ZERO)) {
            let number = u64::from_be_bytes(read.1.0[..8].try_into().unwrap());
            served[usize::try_from(number / 100).unwrap()] += 1;
            open.push_back(read);
        }
        finish(&mut engine, open.pop_front().unwrap(), Time::ZERO);
    }
    assert!(served.iter().max().unwrap() - served.iter().min().unwrap() <= 1, "{served:?}");
}

#[test]
fn an_origin_leaves_a_quarter_of_the_reads_to_others_that_wait_and_takes_all_if_none_does() {
    let mut engine = Engine::new(Config::default(), 1);
    (0..100).for_each(|number| want_from(&mut engine, number, 1, 1, 1));
    (100..200).for_each(|number| want_from(&mut engine, number, 1, 1, 2));
    let started = reads(&actions(&mut engine, Time::ZERO));
    assert_eq!(started.iter().filter(|read| read.1 < key(100)).count(), 24);
    assert_eq!(started.len(), 32);
    (100..200).for_each(|number| engine.handle(Event::Unwanted { file: key(number) }, Time::ZERO));
    assert_eq!(reads(&actions(&mut engine, Time::ZERO)).len(), 8);
}

#[test]
fn a_file_that_rests_holds_up_neither_its_group_nor_itself_afterwards() {
    let mut engine = Engine::new(Config { reads: 1, ..Config::default() }, 1);
    (0..3).for_each(|number| want(&mut engine, number, 1, 1));
    let next = |engine: &mut Engine, now| reads(&actions(engine, now)).remove(0);
    let first = next(&mut engine, Time::ZERO);
    end(&mut engine, first.0, Outcome::Broken, Time::ZERO);
    let second = next(&mut engine, Time::ZERO);
    assert_eq!((first.1, second.1), (key(0), key(1)));
    finish(&mut engine, second, SECOND);
    assert_eq!(next(&mut engine, SECOND).1, key(0), "it is read in the order in which it was wanted");
}

/// Reads everything to the end, the oldest read first, and tells how many files were completed.
fn read_all(engine: &mut Engine) -> usize {
    let mut open = VecDeque::new();
    let mut complete = 0;
    loop {
        while let Some(action) = engine.next_action(Time::ZERO) {
            match action {
                Action::Read { read, file, chunks, .. } => open.push_back((read, file, chunks)),
                Action::Complete { .. } => complete += 1,
                Action::Cancel { .. } | Action::Tell { .. } | Action::FetchHashes { .. } | Action::Ban { .. } => {
                    panic!("there are no peers")
                }
                Action::GiveUp { .. } => panic!("nothing went wrong"),
            }
        }
        let Some(read) = open.pop_front() else { return complete };
        finish(engine, read, Time::ZERO);
    }
}

/// Quadratic work would take minutes here.
#[test]
fn ten_thousand_groups_and_a_hundred_thousand_files_are_no_burden() {
    let mut engine = Engine::new(Config::default(), 1);
    (0..10_000).for_each(|number| want(&mut engine, number, 1, number));
    assert_eq!(read_all(&mut engine), 10_000);
    (0..100_000).for_each(|number| want(&mut engine, number, 1, 1));
    assert_eq!(read_all(&mut engine), 100_000);
    assert!(
        engine.files.is_empty()
            && engine.reads.is_empty()
            && engine.resting.is_empty()
            && engine.turns.is_empty()
            && engine.paces.is_empty()
    );
}

/// Quadratic work would take minutes here.
#[test]
fn a_hundred_thousand_files_of_an_origin_that_is_busy_are_no_burden_to_another() {
    let mut engine = Engine::new(Config::default(), 1);
    (0..100_000).for_each(|number| want_from(&mut engine, number, 1, 1, 1));
    let refused = reads(&actions(&mut engine, Time::ZERO));
    refused.into_iter().for_each(|read| end(&mut engine, read.0, Outcome::Busy(Some(600 * SECOND)), Time::ZERO));
    (100_000..110_000).for_each(|number| want_from(&mut engine, number, 1, 2, 2));
    assert_eq!(read_all(&mut engine), 10_000);
    // From the last to the first: a job that is called off leaves in no order.
    (0..100_000).rev().for_each(|number| engine.handle(Event::Unwanted { file: key(number) }, Time::ZERO));
    assert!(engine.files.is_empty() && engine.turns.is_empty() && engine.paces.is_empty());
}
