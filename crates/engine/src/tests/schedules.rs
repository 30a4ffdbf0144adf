//! Random schedules against a plain model: every file completes, and nothing is read twice at once.

use proptest::prelude::*;

use super::*;

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
    for (number, chunks) in (0u64..).zip(sizes) {
        want(&mut engine, number, *chunks, number % 3);
    }
    let mut open: Vec<(ReadId, usize, Range<u64>)> = Vec::new();
    let mut cancelled = Vec::new();
    let mut complete = vec![false; sizes.len()];
    let mut now = Time::ZERO;
    let mut turns = turns.iter();
    while complete.contains(&false) {
        for action in actions(&mut engine, now) {
            match action {
                Action::Read { read, file, chunks, .. } => {
                    let file = usize::from(file.0[7]);
                    let overlap =
                        open.iter().any(|(_, other, range)| *other == file && range.start < chunks.end && chunks.start < range.end);
                    assert!(!overlap, "a chunk is read twice at once");
                    open.push((read, file, chunks));
                }
                Action::Cancel { read } => {
                    open.retain(|open| open.0 != read);
                    cancelled.push(read);
                }
                Action::Complete { file } => complete[usize::from(file.0[7])] = true,
                Action::Tell { .. } | Action::FetchHashes { .. } | Action::Ban { .. } => panic!("there are no peers"),
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
        if number % 8 == 4 {
            now = engine.next_deadline(now).expect("a read may stall");
            continue;
        }
        if let Some(read) = cancelled.pop() {
            continue_with(&mut engine, read, progress, outcome(number), now);
        }
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
pub(super) fn rounds(default: u32) -> u32 {
    std::env::var("LARDER_ROUNDS").ok().and_then(|text| text.parse().ok()).map_or(default, |rounds: u32| rounds.saturating_mul(default))
}
