//! What a stranger can say or leave undone, and what it costs at most.

use super::*;

const CHUNKS: u64 = 512;
const TICK: Duration = Duration::from_millis(100);

/// An engine that wants one file of [`CHUNKS`] beside the peers of `known`.
fn engine(known: &[(u8, Holding)]) -> Engine {
    let mut engine = Engine::new(Config::default(), 1);
    let known = known.iter().map(|(number, holding)| (peer(*number).node, *holding)).collect();
    want_shared(&mut engine, 1, CHUNKS * larder_content::CHUNK_BYTES, 1, sharing(known));
    engine
}

/// A holder says that it has all, and can show the hashes.
fn complete(engine: &mut Engine, from: u8, now: Time) {
    say(engine, from, key(1), FileWord::Complete(CONTENT), now);
    let actions = actions(engine, now);
    assert!(actions.iter().any(|action| matches!(action, Action::FetchHashes { peer: asked, .. } if *asked == peer(from))), "{actions:?}");
    show_hashes(engine, &actions, now);
}

/// Plays on until `until`: the origin gives all it is asked for within a tick, and `play` says what peers do with what they are
/// asked, at each tick. Gives the chunks that came from the origin.
fn go_on(engine: &mut Engine, from: Time, until: Time, mut play: impl FnMut(&mut Engine, &[Action], Time)) -> u64 {
    let (mut now, mut from_origin) = (from, 0);
    let mut open: Vec<Started> = Vec::new();
    while now < until {
        let actions = actions(engine, now);
        for (read, _, chunks) in std::mem::take(&mut open) {
            if !actions.contains(&Action::Cancel { read }) {
                from_origin += chunks.end - chunks.start;
                finish(engine, (read, key(1), chunks), now);
            }
        }
        open.extend(super::from_origin(&actions));
        play(engine, &actions, now);
        now += TICK;
    }
    from_origin
}

#[test]
fn a_holder_whose_bytes_trickle_holds_up_nothing_for_long() {
    let mut engine = engine(&[(1, Holding::Complete)]);
    complete(&mut engine, 1, Time::ZERO);
    let mut under_way = BTreeSet::new();
    let from_origin = go_on(&mut engine, Time::ZERO, 60 * SECOND, |engine, actions, now| {
        under_way.extend(asked(actions).into_iter().map(|(read, ..)| read));
        under_way.iter().for_each(|read| engine.handle(Event::Heard { read: *read }, now));
    });
    assert_eq!(from_origin, CHUNKS);
}

#[test]
fn a_holder_that_keeps_a_part_to_itself_does_not_keep_it_from_the_origin() {
    let mut engine = engine(&[(1, Holding::Complete)]);
    complete(&mut engine, 1, Time::ZERO);
    let from_origin = go_on(&mut engine, Time::ZERO, 60 * SECOND, |engine, actions, now| {
        for (read, file, chunks) in asked(actions) {
            if chunks.end > CHUNKS - 2 {
                end(engine, read, Outcome::Refused, now);
            } else {
                finish(engine, (read, file, chunks), now);
            }
        }
    });
    assert!((2..20).contains(&from_origin), "{from_origin}");
    assert!(engine.files[&key(1)].is_complete());
}

#[test]
fn one_that_only_follows_or_only_talks_stops_no_reading() {
    let mut engine = engine(&[]);
    say(&mut engine, 1, key(1), FileWord::Follow, Time::ZERO);
    say(&mut engine, 2, key(1), FileWord::Follow, Time::ZERO);
    let all: Range<u64> = 0..CHUNKS;
    let from_origin = go_on(&mut engine, Time::ZERO, 30 * SECOND, |engine, _, now| {
        say(engine, 2, key(1), FileWord::Have(vec![]), now);
        let reading = if now.as_millis().is_multiple_of(200) { vec![all.clone()] } else { vec![] };
        say(engine, 2, key(1), FileWord::Reading(reading), now);
    });
    assert_eq!(from_origin, CHUNKS);
}

#[test]
fn nodes_that_never_answer_make_room_for_one_that_does() {
    let made_up: Vec<(u8, Holding)> = (1..65).map(|number| (number, Holding::Complete)).collect();
    let mut engine = engine(&made_up);
    actions(&mut engine, Time::ZERO);
    let later = 3 * SECOND;
    say(&mut engine, 70, key(1), FileWord::Follow, later);
    complete(&mut engine, 70, later);
    let asked = asked(&actions(&mut engine, later));
    assert!(!asked.is_empty());
}

#[test]
fn one_that_cannot_show_what_it_says_is_not_asked_again_and_another_is() {
    let mut engine = engine(&[(1, Holding::Complete), (2, Holding::Complete)]);
    let now = SECOND / 10;
    say(&mut engine, 1, key(1), FileWord::Complete(ContentId([1; 32])), now);
    let first = actions(&mut engine, now);
    assert!(first.iter().any(|action| matches!(action, Action::FetchHashes { .. })));
    say(&mut engine, 2, key(1), FileWord::Complete(CONTENT), now);
    let missing = Event::Hashes { file: key(1), peer: peer(1), content: ContentId([1; 32]), compared: Compared::Missing };
    engine.handle(missing, now);
    say(&mut engine, 1, key(1), FileWord::Follow, now);
    say(&mut engine, 1, key(1), FileWord::Complete(ContentId([3; 32])), now);
    let next = actions(&mut engine, now);
    assert!(next.iter().any(|action| matches!(action, Action::FetchHashes { peer: asked, .. } if *asked == peer(2))), "{next:?}");
    assert!(!next.iter().any(|action| matches!(action, Action::FetchHashes { peer: asked, .. } if *asked == peer(1))), "{next:?}");
}

#[test]
fn what_a_list_dropped_comes_again_though_its_giver_is_gone() {
    let mut engine = engine(&[(1, Holding::Complete)]);
    say(&mut engine, 1, key(1), FileWord::Follow, Time::ZERO);
    say(&mut engine, 1, key(1), FileWord::Have(vec![0..CHUNKS]), Time::ZERO);
    let came = asked(&actions(&mut engine, Time::ZERO))[0].clone();
    finish(&mut engine, came.clone(), SECOND);
    say(&mut engine, 1, key(1), FileWord::Knows(CONTENT), SECOND);
    assert!(actions(&mut engine, SECOND).iter().any(|action| matches!(action, Action::FetchHashes { .. })));
    say(&mut engine, 1, key(1), FileWord::Nothing, SECOND);
    let dropped = vec![came.2.clone()];
    let compared = Compared::Known { fits: vec![], dropped, contradicted: vec![] };
    engine.handle(Event::Hashes { file: key(1), peer: peer(1), content: CONTENT, compared }, SECOND);
    assert!(came.2.clone().all(|chunk| engine.files[&key(1)].waiting.contains(chunk)));
}

#[test]
fn a_file_of_which_nothing_is_in_doubt_is_proven_again() {
    let mut engine = engine(&[]);
    go_on(&mut engine, Time::ZERO, 10 * SECOND, |_, _, _| {});
    engine.handle(Event::Refuted { file: key(1), signers: vec![], missing: vec![] }, 10 * SECOND);
    let again = actions(&mut engine, 10 * SECOND);
    assert!(again.contains(&Action::Complete { file: key(1) }), "{again:?}");
}

#[test]
fn a_false_list_after_the_whole_was_refuted_does_not_have_what_others_sign_believed_again() {
    let mut engine = engine(&[]);
    let has_all = |engine: &mut Engine, now| {
        say(engine, 1, key(1), FileWord::Follow, now);
        say(engine, 1, key(1), FileWord::Have(vec![0..CHUNKS]), now);
    };
    has_all(&mut engine, Time::ZERO);
    assert!(!asked(&actions(&mut engine, Time::ZERO)).is_empty());
    engine.handle(Event::Refuted { file: key(1), signers: vec![], missing: vec![0..CHUNKS] }, SECOND);
    say(&mut engine, 3, key(1), FileWord::Follow, SECOND);
    complete(&mut engine, 3, SECOND);
    engine.handle(Event::Refuted { file: key(1), signers: vec![], missing: vec![0..CHUNKS] }, 2 * SECOND);
    has_all(&mut engine, 2 * SECOND);
    assert_eq!(asked(&actions(&mut engine, 2 * SECOND)), []);
}

#[test]
fn whoever_counts_on_what_was_refuted_hears_that_it_holds_no_more() {
    let mut engine = engine(&[]);
    say(&mut engine, 1, key(1), FileWord::Follow, Time::ZERO);
    say(&mut engine, 1, key(1), FileWord::Have(vec![0..8]), Time::ZERO);
    let mut now = Time::ZERO;
    let has = |engine: &Engine| shared(engine).had.clone();
    while has(&engine).chunks() < 16 {
        let actions = actions(&mut engine, now);
        reads(&actions).into_iter().for_each(|read| finish(&mut engine, read, now));
        now += TICK;
    }
    actions(&mut engine, now);
    engine.handle(Event::Refuted { file: key(1), signers: vec![], missing: vec![0..8] }, now);
    let left: Vec<Range<u64>> = has(&engine).iter().collect();
    let told = tells(&actions(&mut engine, now), 1);
    assert_eq!(told[..3], [FileWord::Nothing, FileWord::Follow, FileWord::Have(left)]);
}

#[test]
fn whoever_has_nothing_any_more_is_not_waited_for() {
    let mut engine = engine(&[]);
    say(&mut engine, 1, key(1), FileWord::Follow, Time::ZERO);
    say(&mut engine, 1, key(1), FileWord::Have(vec![0..CHUNKS]), Time::ZERO);
    let of_it: Vec<ReadId> = asked(&actions(&mut engine, Time::ZERO)).into_iter().map(|(read, ..)| read).collect();
    assert!(!of_it.is_empty());
    say(&mut engine, 1, key(1), FileWord::Nothing, SECOND);
    let after = actions(&mut engine, SECOND);
    assert!(of_it.iter().all(|read| after.contains(&Action::Cancel { read: *read })), "{after:?}");
}

#[test]
fn what_is_refused_side_by_side_counts_once_and_again_and_again_ends_it() {
    let mut engine = engine(&[]);
    say(&mut engine, 1, key(1), FileWord::Follow, Time::ZERO);
    say(&mut engine, 1, key(1), FileWord::Have(vec![0..CHUNKS]), Time::ZERO);
    let is_out = |engine: &Engine| !shared(engine).partners.contains_key(&peer(1).node);
    // A partner that brings much is asked for much at once.
    let mut asked_at_once = Vec::new();
    for turn in 0..40 {
        asked_at_once = asked(&actions(&mut engine, TICK * turn));
        if asked_at_once.len() > 12 {
            break;
        }
        std::mem::take(&mut asked_at_once).into_iter().for_each(|read| finish(&mut engine, read, TICK * turn + TICK / 2));
    }
    assert!(asked_at_once.len() > 12, "{asked_at_once:?}");
    asked_at_once.into_iter().for_each(|(read, ..)| end(&mut engine, read, Outcome::Refused, 5 * SECOND));
    assert!(!is_out(&engine));
    let rounds = (0..40).position(|turn| {
        let now = 6 * SECOND + TICK * turn;
        say(&mut engine, 1, key(1), FileWord::Have(vec![0..CHUNKS]), now);
        let asked = asked(&actions(&mut engine, now));
        asked.into_iter().for_each(|(read, ..)| end(&mut engine, read, Outcome::Refused, now + TICK / 2));
        is_out(&engine)
    });
    assert!(rounds.is_some_and(|rounds| rounds < 20), "{rounds:?}");
}

#[test]
fn partners_that_were_misled_stay_partners() {
    let mut engine = engine(&[(1, Holding::Complete), (2, Holding::Fetching)]);
    complete(&mut engine, 1, Time::ZERO);
    say(&mut engine, 2, key(1), FileWord::Follow, Time::ZERO);
    say(&mut engine, 2, key(1), FileWord::Have(vec![0..CHUNKS]), Time::ZERO);
    let mut refused = 0;
    for turn in 0..40 {
        let now = TICK * turn;
        let actions = actions(&mut engine, now);
        for action in &actions {
            if let Action::Read { read, from: From::Peer { peer: from, .. }, .. } = action
                && *from == peer(2)
            {
                refused += 1;
                end(&mut engine, *read, Outcome::Misled(peer(2).node), now);
            }
        }
    }
    assert!(refused > 9, "{refused}");
    let share = |engine: &Engine| engine.files[&key(1)].share.as_ref().map(|share| share.partners[&peer(2).node].has.runs());
    let before = share(&engine).unwrap().chunks();
    engine.handle(Event::Contradicted { file: key(1), content: CONTENT }, 4 * SECOND);
    assert!(before < CHUNKS && share(&engine).unwrap().chunks() == CHUNKS);
}

#[test]
fn who_signed_otherwise_than_a_false_list_says_is_not_banned_when_the_true_one_is_proven() {
    let mut engine = engine(&[(1, Holding::Complete), (2, Holding::Fetching), (3, Holding::Complete)]);
    complete(&mut engine, 1, Time::ZERO);
    say(&mut engine, 2, key(1), FileWord::Follow, Time::ZERO);
    say(&mut engine, 2, key(1), FileWord::Have(vec![0..CHUNKS]), Time::ZERO);
    let of_two = |action: &Action| {
        if let Action::Read { read, from: From::Peer { peer: from, .. }, .. } = action { (*from == peer(2)).then_some(*read) } else { None }
    };
    let read = (0..40).find_map(|turn| actions(&mut engine, TICK * turn).iter().find_map(of_two)).unwrap();
    end(&mut engine, read, Outcome::Misled(peer(2).node), 4 * SECOND);
    engine.handle(Event::Contradicted { file: key(1), content: CONTENT }, 5 * SECOND);
    let content = ContentId([9; 32]);
    say(&mut engine, 3, key(1), FileWord::Complete(content), 5 * SECOND);
    let asked = actions(&mut engine, 5 * SECOND);
    show_hashes(&mut engine, &asked, 5 * SECOND);
    engine.handle(Event::Proven { file: key(1), content, liars: vec![] }, 6 * SECOND);
    let bans = actions(&mut engine, 6 * SECOND).into_iter().filter(|action| matches!(action, Action::Ban { .. }));
    assert_eq!(bans.collect::<Vec<_>>(), []);
}

#[test]
fn ranges_that_overlap_and_end_nowhere_are_the_chunks_that_there_are() {
    let mut engine = engine(&[]);
    say(&mut engine, 1, key(1), FileWord::Follow, Time::ZERO);
    let all = vec![0..u64::MAX; 1000];
    (0..1000).for_each(|_| say(&mut engine, 1, key(1), FileWord::Have(all.clone()), Time::ZERO));
    let share = shared(&engine);
    assert_eq!(share.partners[&peer(1).node].has.runs().chunks(), CHUNKS);
}

#[test]
fn one_that_tells_of_new_chunks_is_waited_for_twice_as_long_and_no_longer() {
    let mut engine = engine(&[(1, Holding::Fetching)]);
    say(&mut engine, 1, key(1), FileWord::Follow, Time::ZERO);
    say(&mut engine, 1, key(1), FileWord::Have(vec![0..1]), Time::ZERO);
    let read = asked(&actions(&mut engine, Time::ZERO))[0].0;
    let stops_at = (1..100).map(|turn| TICK * turn).find(|now| {
        if now.as_millis().is_multiple_of(500) {
            let chunk = u64::try_from(now.as_millis() / 500).unwrap();
            say(&mut engine, 1, key(1), FileWord::Have(vec![chunk..chunk + 1]), *now);
        }
        actions(&mut engine, *now).contains(&Action::Cancel { read })
    });
    assert_eq!(stops_at, Some(4 * SECOND));
}

#[test]
fn a_holder_that_breaks_off_is_hoped_for_when_the_origin_has_nothing() {
    let mut engine = engine(&[(1, Holding::Complete)]);
    complete(&mut engine, 1, Time::ZERO);
    let mut brought = 0;
    let mut open: VecDeque<Started> = VecDeque::new();
    for turn in 0..600 {
        let now = TICK * turn;
        for action in actions(&mut engine, now) {
            match action {
                Action::GiveUp { .. } => panic!("given up after {now:?} with {brought} chunks"),
                Action::Read { read, from: From::Origin, .. } => end(&mut engine, read, Outcome::Refused, now),
                Action::Read { read, file, chunks, .. } => open.push_back((read, file, chunks)),
                Action::Cancel { read } => open.retain(|(open, ..)| *open != read),
                Action::Tell { .. } | Action::FetchHashes { .. } | Action::Ban { .. } | Action::Complete { .. } => {}
            }
        }
        for (number, next) in open.drain(..).enumerate() {
            if turn % 10 == 9 && number == 0 {
                end(&mut engine, next.0, Outcome::Broken, now);
            } else {
                brought += next.2.end - next.2.start;
                finish(&mut engine, next, now);
            }
        }
    }
    assert_eq!(brought, CHUNKS);
}

#[test]
fn one_that_only_follows_stops_none_of_the_files_of_a_resource() {
    let mut engine = Engine::new(Config::default(), 1);
    // Each file has taken all that it may before anyone is heard of, and more than is being read at once.
    let alone = || Sharing { company: false, ..sharing(vec![]) };
    (1..3).for_each(|number| want_shared(&mut engine, number, 8192 * larder_content::CHUNK_BYTES, 1, alone()));
    let (mut now, mut open, mut complete) = (Time::ZERO, VecDeque::new(), 0);
    while complete < 2 {
        assert!(now < 60 * SECOND, "{complete} of 2 files after a minute");
        if now == SECOND {
            (1..3).for_each(|number| say(&mut engine, 9, key(number), FileWord::Follow, now));
        }
        let actions = actions(&mut engine, now);
        open.extend(reads(&actions));
        open.retain(|(read, ..)| !actions.contains(&Action::Cancel { read: *read }));
        complete += actions.iter().filter(|action| matches!(action, Action::Complete { .. })).count();
        let done = if now < SECOND { 0 } else { open.len() };
        let done: Vec<Started> = open.drain(..done).collect();
        done.into_iter().for_each(|read| finish(&mut engine, read, now));
        now += TICK;
    }
}

#[test]
fn holders_that_never_answer_keep_nobody_from_the_origin_for_long() {
    let mut engine = Engine::new(Config::default(), 1);
    want_shared(&mut engine, 1, 400 * larder_content::CHUNK_BYTES, 1, sharing(vec![]));
    (1..=3).for_each(|from| holds(&mut engine, from, key(1)));
    let known = actions(&mut engine, Time::ZERO);
    // Neither for the hashes nor, after those, for chunks.
    let shown = (0..100).find_map(|turn| {
        let now = Duration::from_millis(100) * turn;
        let round = if turn == 0 { known.clone() } else { actions(&mut engine, now) };
        assert!(from_origin(&round).is_empty(), "{round:?}");
        (turn > 0 && round.iter().any(|action| matches!(action, Action::FetchHashes { .. }))).then_some((now, round))
    });
    let (at, round) = shown.expect("nobody else is asked for the hashes");
    assert!(at <= SECOND * 4, "the hashes are waited for until {at:?}");
    show_hashes(&mut engine, &round, at);
    let read = (0..100).map(|turn| at + Duration::from_millis(100) * turn).find(|now| !from_origin(&actions(&mut engine, *now)).is_empty());
    assert!(read.is_some_and(|read| read <= at + SECOND * 3), "{read:?}");
}
