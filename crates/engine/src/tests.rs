//! The engine's promises: single ones by hand, the general ones over random schedules.

use super::*;
use proptest::prelude::*;

const SECOND: Duration = Duration::from_secs(1);

fn key(number: u8) -> FileKey {
    FileKey([number; 32])
}

fn want(engine: &mut Engine, number: u8, chunks: u64, group: u64) {
    let layout = ChunkLayout::new(chunks * larder_content::CHUNK_BYTES);
    let event = Event::Wanted { file: key(number), layout, missing: vec![0..chunks], origin: OriginId(1), group: GroupId(group) };
    engine.handle(event, Time::ZERO);
}

fn actions(engine: &mut Engine, now: Time) -> Vec<Action> {
    std::iter::from_fn(|| engine.next_action(now)).collect()
}

fn reads(actions: &[Action]) -> Vec<(ReadId, FileKey, Range<u64>)> {
    let read = |action: &Action| match action {
        Action::Read { read, file, chunks } => Some((*read, *file, chunks.clone())),
        Action::Cancel { .. } | Action::Complete { .. } | Action::GiveUp { .. } => None,
    };
    actions.iter().filter_map(read).collect()
}

fn end(engine: &mut Engine, read: ReadId, outcome: Outcome, now: Time) {
    engine.handle(Event::Ended { read, outcome }, now);
}

fn finish(engine: &mut Engine, (read, _, chunks): (ReadId, FileKey, Range<u64>), now: Time) {
    engine.handle(Event::Arrived { read, chunks: chunks.end - chunks.start }, now);
    end(engine, read, Outcome::Complete, now);
}

#[test]
fn a_large_file_is_read_in_sixteen_ranges_at_once_from_its_start() {
    let mut engine = Engine::new(Config::default(), 1);
    want(&mut engine, 1, 4096, 1);
    let started = reads(&actions(&mut engine, Time::ZERO));
    assert_eq!(started.len(), 16);
    assert_eq!(started[0].2, 0..32);
    assert_eq!(started[15].2, 480..512);
}

#[test]
fn small_files_are_read_side_by_side_under_one_limit() {
    let mut engine = Engine::new(Config::default(), 1);
    (0..200).for_each(|number| want(&mut engine, number, 1, 1));
    assert_eq!(reads(&actions(&mut engine, Time::ZERO)).len(), 32);
}

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
fn what_the_store_holds_is_not_read() {
    let mut engine = Engine::new(Config::default(), 1);
    let layout = ChunkLayout::new(10 * larder_content::CHUNK_BYTES);
    let wanted = |file, missing| Event::Wanted { file, layout, missing, origin: OriginId(1), group: GroupId(1) };
    engine.handle(wanted(key(1), vec![2..3, 7..10]), Time::ZERO);
    engine.handle(wanted(key(2), vec![]), Time::ZERO);
    let actions = actions(&mut engine, Time::ZERO);
    assert!(actions.contains(&Action::Complete { file: key(2) }));
    assert_eq!(reads(&actions).into_iter().map(|read| read.2).collect::<Vec<_>>(), [2..3, 7..10]);
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
    let mut now = Time::ZERO;
    let mut rounds = 0;
    loop {
        let round = actions(&mut engine, now);
        if round.contains(&Action::GiveUp { file: key(1) }) {
            break;
        }
        rounds += 1;
        for (at, read) in reads(&round).into_iter().enumerate() {
            if rounds == 2 && at == 0 {
                engine.handle(Event::Arrived { read: read.0, chunks: 1 }, now);
            }
            end(&mut engine, read.0, Outcome::Broken, now);
        }
        now = engine.next_deadline(now).unwrap_or(now);
    }
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
fn a_file_that_nobody_wants_is_not_read_further() {
    let mut engine = Engine::new(Config::default(), 1);
    want(&mut engine, 1, 1000, 1);
    actions(&mut engine, Time::ZERO);
    engine.handle(Event::Unwanted { file: key(1) }, Time::ZERO);
    let after = actions(&mut engine, Time::ZERO);
    assert_eq!(after.len(), 16);
    assert!(after.iter().all(|action| matches!(action, Action::Cancel { .. })));
}

/// One random turn of a schedule: which read, how far it comes, how it ends.
type Turn = (usize, u64, u8);

fn outcome(number: u8) -> Outcome {
    match number % 8 {
        0 => Outcome::Broken,
        1 => Outcome::Busy(None),
        2 => Outcome::Busy(Some(SECOND)),
        3 => Outcome::RangeIgnored,
        _ => Outcome::Complete,
    }
}

/// Plays a schedule against a plain model: which chunks arrived, which are being read.
fn play(seed: u64, sizes: &[u64], turns: &[Turn]) {
    let config = Config { failures: u32::MAX, busy: Duration::MAX, ..Config::default() };
    let mut engine = Engine::new(config.clone(), seed);
    let mut had: Vec<Vec<bool>> = sizes.iter().map(|chunks| vec![false; usize::try_from(*chunks).unwrap()]).collect();
    for (number, chunks) in (0u8..).zip(sizes) {
        want(&mut engine, number, *chunks, u64::from(number % 3));
    }
    let mut open: Vec<(ReadId, usize, Range<u64>)> = Vec::new();
    let mut complete = vec![false; sizes.len()];
    let mut now = Time::ZERO;
    let mut turns = turns.iter();
    while complete.contains(&false) {
        for action in actions(&mut engine, now) {
            match action {
                Action::Read { read, file, chunks } => {
                    let file = usize::from(file.0[0]);
                    let overlap =
                        open.iter().any(|(_, other, range)| *other == file && range.start < chunks.end && chunks.start < range.end);
                    assert!(!overlap, "a chunk is read twice at once");
                    open.push((read, file, chunks));
                }
                Action::Cancel { read } => open.retain(|open| open.0 != read),
                Action::Complete { file } => complete[usize::from(file.0[0])] = true,
                Action::GiveUp { .. } => panic!("gave up although the origin lives"),
            }
        }
        assert!(open.len() <= config.reads);
        if open.is_empty() {
            if complete.contains(&false) {
                now = engine.next_deadline(now).expect("nothing under way and nothing to wait for");
            }
            continue;
        }
        let (pick, progress, number) = turns.next().copied().unwrap_or((0, u64::MAX, 7));
        let (read, file, chunks) = open.swap_remove(pick % open.len());
        let outcome = outcome(number);
        let arrived = if outcome == Outcome::Complete { chunks.end - chunks.start } else { progress % (chunks.end - chunks.start + 1) };
        (chunks.start..chunks.start + arrived).for_each(|chunk| had[file][usize::try_from(chunk).unwrap()] = true);
        if outcome == Outcome::RangeIgnored && chunks == (0..sizes[file]) {
            continue_with(&mut engine, read, arrived, Outcome::Broken, now);
        } else {
            continue_with(&mut engine, read, arrived, outcome, now);
        }
    }
    assert!(had.iter().flatten().all(|had| *had), "a file is complete although chunks of it never arrived");
}

fn continue_with(engine: &mut Engine, read: ReadId, arrived: u64, outcome: Outcome, now: Time) {
    engine.handle(Event::Arrived { read, chunks: arrived }, now);
    end(engine, read, outcome, now);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(rounds(300)))]
    #[test]
    fn every_file_completes_while_its_origin_lives_and_no_chunk_is_read_twice_at_once(
        seed in any::<u64>(),
        sizes in proptest::collection::vec(1u64..700, 1..12),
        turns in proptest::collection::vec((any::<usize>(), any::<u64>(), any::<u8>()), 0..200),
    ) {
        play(seed, &sizes, &turns);
    }
}

/// How many schedules are played: few in daily tests, many when `LARDER_ROUNDS` says so.
fn rounds(default: u32) -> u32 {
    std::env::var("LARDER_ROUNDS").ok().and_then(|text| text.parse().ok()).map_or(default, |rounds: u32| rounds.saturating_mul(default))
}
