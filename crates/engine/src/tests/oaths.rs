//! What is believed of the word of others about what a file is, and what a false word costs whoever gave it.

use super::*;

const CHUNKS: u64 = 512;
const OTHER: ContentId = ContentId([8; 32]);

fn engine() -> Engine {
    let mut engine = Engine::new(Config::default(), 1);
    want_shared(&mut engine, 1, CHUNKS * larder_content::CHUNK_BYTES, 1, sharing(vec![]));
    engine
}

/// A partner says that it follows, and something more.
fn comes(engine: &mut Engine, from: u8, word: FileWord, now: Time) {
    say(engine, from, key(1), FileWord::Follow, now);
    say(engine, from, key(1), word, now);
}

fn has_all() -> FileWord {
    FileWord::Have(vec![0..CHUNKS])
}

fn is_out(engine: &Engine, node: u8) -> bool {
    engine.files[&key(1)].share.as_ref().unwrap().outcasts.contains(&peer(node).node)
}

fn is_partner(engine: &Engine, node: u8) -> bool {
    engine.files[&key(1)].share.as_ref().unwrap().partners.contains_key(&peer(node).node)
}

/// Whose chunk hashes are asked for; they are shown.
fn shows(engine: &mut Engine, now: Time) -> Vec<Peer> {
    let actions = actions(engine, now);
    show_hashes(engine, &actions, now);
    let asked = |action: &Action| if let Action::FetchHashes { peer, .. } = action { Some(*peer) } else { None };
    actions.iter().filter_map(asked).collect()
}

/// The whole proves false; gives who is banned for it.
fn refuted(engine: &mut Engine, now: Time) -> Vec<Peer> {
    engine.handle(Event::Refuted { file: key(1), missing: vec![0..CHUNKS] }, now);
    let banned = |action: &Action| if let Action::Ban { peer, .. } = action { Some(*peer) } else { None };
    actions(engine, now).iter().filter_map(banned).collect()
}

/// All that a partner is asked for, for so long, is refused; gives after how many rounds it is one no more, if it is not.
fn refuses(engine: &mut Engine, from: u8, rounds: std::ops::Range<u32>) -> Option<u32> {
    rounds.into_iter().find(|round| {
        let now = SECOND * *round;
        say(engine, from, key(1), has_all(), now);
        let asked = asked(&actions(engine, now));
        asked.into_iter().for_each(|(read, ..)| end(engine, read, Outcome::Refused, now + SECOND / 2));
        !is_partner(engine, from)
    })
}

#[test]
fn whoever_swore_is_banned_though_it_has_gone_or_swears_to_another_by_then() {
    let left = |engine: &mut Engine| engine.handle(Event::Lost { peer: peer(1) }, SECOND);
    let has_nothing = |engine: &mut Engine| say(engine, 1, key(1), FileWord::Nothing, SECOND);
    let swears_anew = |engine: &mut Engine| say(engine, 1, key(1), FileWord::Complete(OTHER), SECOND);
    let stays = |_: &mut Engine| {};
    for then in [left, has_nothing, swears_anew, stays] as [fn(&mut Engine); 4] {
        let mut engine = engine();
        comes(&mut engine, 1, FileWord::Complete(CONTENT), Time::ZERO);
        assert_eq!(shows(&mut engine, Time::ZERO), [peer(1)]);
        then(&mut engine);
        assert_eq!(refuted(&mut engine, SECOND), [peer(1)]);
    }
}

#[test]
fn whoever_swears_to_two_contents_has_no_part_in_the_file() {
    let mut engine = engine();
    comes(&mut engine, 1, FileWord::Complete(CONTENT), Time::ZERO);
    say(&mut engine, 1, key(1), FileWord::Complete(CONTENT), Time::ZERO);
    assert!(!is_out(&engine, 1));
    say(&mut engine, 1, key(1), FileWord::Nothing, Time::ZERO);
    comes(&mut engine, 1, FileWord::Complete(OTHER), Time::ZERO);
    assert!(is_out(&engine, 1));
}

#[test]
fn whoever_showed_a_list_that_is_false_has_another_believed_only_if_it_swears_to_it() {
    let mut engine = engine();
    comes(&mut engine, 1, FileWord::Knows(CONTENT), Time::ZERO);
    assert_eq!(shows(&mut engine, Time::ZERO), [peer(1)]);
    assert_eq!(refuted(&mut engine, SECOND), [], "it may have been deceived itself");
    comes(&mut engine, 1, FileWord::Knows(OTHER), SECOND);
    assert_eq!(shows(&mut engine, SECOND), []);
    comes(&mut engine, 2, FileWord::Knows(OTHER), SECOND);
    assert_eq!(shows(&mut engine, SECOND), [peer(2)]);
    refuted(&mut engine, 2 * SECOND);
    comes(&mut engine, 1, FileWord::Complete(ContentId([9; 32])), 2 * SECOND);
    assert_eq!(shows(&mut engine, 2 * SECOND), [peer(1)]);
}

#[test]
fn a_content_that_was_refuted_stays_so_however_many_others_are_disowned() {
    let mut engine = engine();
    for number in 20..60 {
        comes(&mut engine, number, FileWord::Complete(ContentId([number; 32])), Time::ZERO);
        assert_eq!(shows(&mut engine, Time::ZERO).len(), 1);
        engine.handle(Event::Contradicted { file: key(1), content: ContentId([number; 32]) }, Time::ZERO);
    }
    comes(&mut engine, 1, FileWord::Complete(CONTENT), Time::ZERO);
    assert_eq!(shows(&mut engine, Time::ZERO), [peer(1)]);
    assert_eq!(refuted(&mut engine, SECOND), [peer(1)]);
    comes(&mut engine, 2, FileWord::Complete(CONTENT), SECOND);
    assert!(!is_partner(&engine, 2));
}

#[test]
fn a_partner_that_was_deceived_too_is_excused_once_for_what_it_refuses() {
    let mut engine = engine();
    comes(&mut engine, 1, FileWord::Complete(CONTENT), Time::ZERO);
    shows(&mut engine, Time::ZERO);
    comes(&mut engine, 2, FileWord::Knows(CONTENT), Time::ZERO);
    refuted(&mut engine, SECOND);
    assert!(refuses(&mut engine, 2, 2..30).is_some());
    assert!(!is_out(&engine, 2));
    // It has found out, and begins anew.
    say(&mut engine, 2, key(1), FileWord::Nothing, 40 * SECOND);
    comes(&mut engine, 2, has_all(), 40 * SECOND);
    assert!(!asked(&actions(&mut engine, 40 * SECOND)).is_empty());
    // It only says so.
    comes(&mut engine, 2, FileWord::Knows(CONTENT), 41 * SECOND);
    assert!(refuses(&mut engine, 2, 42..80).is_some());
    assert!(is_out(&engine, 2));
}

#[test]
fn each_chunk_that_one_which_has_all_refuses_counts_however_many_at_once() {
    let mut engine = engine();
    comes(&mut engine, 1, FileWord::Complete(CONTENT), Time::ZERO);
    shows(&mut engine, Time::ZERO);
    let mut refused = 0;
    for turn in 1..10 {
        let now = SECOND * turn;
        let asked = asked(&actions(&mut engine, now));
        assert!(!asked.is_empty());
        refused += asked.len();
        asked.into_iter().for_each(|(read, ..)| end(&mut engine, read, Outcome::Refused, now + SECOND / 2));
        if is_out(&engine, 1) {
            break;
        }
    }
    assert!(is_out(&engine, 1) && refused < 16, "{refused}");
}

#[test]
fn whoever_says_again_and_again_that_it_has_nothing_any_more_has_no_part_in_the_file() {
    let mut engine = engine();
    for turn in 0..9 {
        assert!(!is_out(&engine, 1), "{turn}");
        comes(&mut engine, 1, FileWord::Reading(vec![0..CHUNKS]), SECOND * turn);
        say(&mut engine, 1, key(1), FileWord::Nothing, SECOND * turn);
    }
    assert!(is_out(&engine, 1));
}

#[test]
fn who_repairs_waits_anew_once_what_was_taken_for_the_file_is_not_it() {
    let mut engine = engine();
    let get_on = |engine: &mut Engine, now: Time| {
        (1..9).for_each(|number| comes(engine, number, FileWord::Have(vec![0..1 + now.as_secs()]), now));
        actions(engine, now)
    };
    get_on(&mut engine, SECOND);
    refuted(&mut engine, SECOND);
    let repairs = |engine: &Engine| engine.files[&key(1)].share.as_ref().unwrap().repairs;
    assert!(!repairs(&engine), "it is not the first by rank");
    comes(&mut engine, 10, FileWord::Complete(CONTENT), SECOND);
    shows(&mut engine, SECOND);
    for turn in 2..100 {
        get_on(&mut engine, SECOND * turn);
    }
    engine.handle(Event::Contradicted { file: key(1), content: CONTENT }, 99 * SECOND);
    actions(&mut engine, 99 * SECOND);
    assert!(!repairs(&engine));
}
