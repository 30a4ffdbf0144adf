//! Files whose pieces prove what comes: how much is asked for before, and what follows what does not fit.

use larder_content::CHUNK_BYTES;

use super::*;
use crate::Pieces;

const CHUNKS: u64 = 400;

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
        heard(&mut engine, Pieces::Listed, SECOND);
        assert!(comes(&mut engine, open, SECOND), "it stands still after {early} runs that came early");
    }
}

#[test]
fn a_list_that_never_comes_is_waited_for_no_longer_than_two_seconds() {
    let (mut engine, open) = begun();
    assert!(comes(&mut engine, open, SECOND * 2));
}

#[test]
fn while_it_is_settled_who_is_wrong_nothing_is_asked_for_and_afterwards_what_was_false_comes_again() {
    for verdict in [Some(CONTENT), None] {
        let (mut engine, mut open) = begun();
        heard(&mut engine, Pieces::Listed, Time::ZERO);
        heard(&mut engine, Pieces::Doubted, Time::ZERO);
        let first = open.pop_front().unwrap();
        let gone = first.2.clone();
        continue_with(&mut engine, first.0, gone.end - gone.start, Outcome::Broken, Time::ZERO);
        for turn in 0..8 {
            let round = actions(&mut engine, Duration::from_millis(50) * turn);
            assert!(reads(&round).is_empty(), "{round:?}");
        }
        let now = Duration::from_millis(400);
        match verdict {
            Some(content) => {
                // Another says what it is.
                engine.handle(Event::Disproven { file: key(1), content: Some(content), missing: vec![gone] }, now);
                say(&mut engine, 3, key(1), FileWord::Follow, now);
                say(&mut engine, 3, key(1), FileWord::Complete(ContentId([8; 32])), now);
                open.clear();
            }
            None => heard(&mut engine, Pieces::Unknown, now),
        }
        assert!(comes(&mut engine, open, now), "{verdict:?}");
    }
}
