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
    shared(engine).outcasts.contains(&peer(node).node)
}

fn is_partner(engine: &Engine, node: u8) -> bool {
    shared(engine).partners.contains_key(&peer(node).node)
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
    engine.handle(Event::Refuted { file: key(1), signers: vec![], missing: vec![0..CHUNKS] }, now);
    banned(engine, now)
}

fn banned(engine: &mut Engine, now: Time) -> Vec<Peer> {
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
        assert!(refuted(&mut engine, SECOND).contains(&peer(1)));
    }
}

#[test]
fn whoever_swears_to_two_contents_is_banned() {
    let mut engine = engine();
    comes(&mut engine, 1, FileWord::Complete(CONTENT), Time::ZERO);
    say(&mut engine, 1, key(1), FileWord::Complete(CONTENT), Time::ZERO);
    say(&mut engine, 1, key(1), FileWord::Nothing, Time::ZERO);
    assert_eq!(banned(&mut engine, Time::ZERO), []);
    comes(&mut engine, 1, FileWord::Complete(OTHER), Time::ZERO);
    assert_eq!(banned(&mut engine, Time::ZERO), [peer(1)]);
}

#[test]
fn once_a_list_proved_false_only_those_who_swear_are_believed() {
    let mut engine = engine();
    comes(&mut engine, 1, FileWord::Knows(CONTENT), Time::ZERO);
    assert_eq!(shows(&mut engine, Time::ZERO), [peer(1)]);
    assert_eq!(refuted(&mut engine, SECOND), [], "it may have been deceived itself");
    // The same again, or one that passes on what the same told it.
    comes(&mut engine, 1, FileWord::Knows(OTHER), SECOND);
    comes(&mut engine, 2, FileWord::Knows(OTHER), SECOND);
    assert_eq!(shows(&mut engine, SECOND), []);
    comes(&mut engine, 3, FileWord::Complete(OTHER), SECOND);
    assert_eq!(shows(&mut engine, SECOND), [peer(3)]);
}

#[test]
fn an_answer_to_what_was_asked_before_the_whole_proved_false_is_awaited_no_more() {
    let mut engine = engine();
    comes(&mut engine, 1, FileWord::Complete(CONTENT), Time::ZERO);
    let asks = |engine: &mut Engine| actions(engine, SECOND).iter().any(|action| matches!(action, Action::FetchHashes { .. }));
    assert!(asks(&mut engine));
    assert!(!asks(&mut engine));
    engine.handle(Event::Refuted { file: key(1), signers: vec![], missing: vec![0..CHUNKS] }, SECOND);
    assert!(asks(&mut engine));
}

#[test]
fn who_is_known_to_have_signed_what_is_false_has_no_part_in_the_file_and_the_others_are_asked_as_before() {
    let mut engine = engine();
    comes(&mut engine, 1, has_all(), Time::ZERO);
    comes(&mut engine, 2, has_all(), Time::ZERO);
    actions(&mut engine, Time::ZERO);
    engine.handle(Event::Refuted { file: key(1), signers: vec![peer(1).node], missing: vec![0..8] }, SECOND);
    let actions = actions(&mut engine, SECOND);
    assert!(is_out(&engine, 1));
    assert!(!actions.iter().any(|action| matches!(action, Action::Ban { .. })), "it is judged by the file itself");
    let of: Vec<From> =
        actions.iter().filter_map(|action| if let Action::Read { from, .. } = action { Some(*from) } else { None }).collect();
    assert!(of.contains(&From::Peer { peer: peer(2), content: None }), "{of:?}");
    assert_eq!(tells(&actions, 2)[..2], [FileWord::Nothing, FileWord::Follow]);
}

#[test]
fn of_many_records_those_of_who_refused_most_are_kept() {
    let mut engine = engine();
    comes(&mut engine, 1, has_all(), Time::ZERO);
    say(&mut engine, 1, key(1), FileWord::Nothing, Time::ZERO);
    say(&mut engine, 1, key(1), FileWord::Follow, SECOND);
    say(&mut engine, 1, key(1), has_all(), SECOND);
    say(&mut engine, 1, key(1), FileWord::Nothing, SECOND);
    let share = |engine: &mut Engine| engine.files.get_mut(&key(1)).unwrap().share.take().unwrap();
    let mut share = share(&mut engine);
    for number in 0..2000u32 {
        let mut node = [1; 32];
        node[..4].copy_from_slice(&number.to_be_bytes());
        share.meet(NodeId(node), crate::partner::Met::Follows, 64, Time::ZERO);
        share.refuses(NodeId(node), Time::ZERO);
        share.part(NodeId(node));
    }
    assert!(share.records.len() <= 256);
    assert_eq!(share.records[&peer(1).node].refusals, 2);
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
fn one_that_goes_by_ever_other_contents_which_what_this_node_read_contradicts_is_asked_for_few_lists() {
    let mut engine = engine();
    comes(&mut engine, 1, has_all(), Time::ZERO);
    let shown = (20..60).filter(|number| {
        let content = ContentId([*number; 32]);
        say(&mut engine, 1, key(1), FileWord::Knows(content), Time::ZERO);
        let actions = actions(&mut engine, Time::ZERO);
        let is_asked = actions.iter().any(|action| matches!(action, Action::FetchHashes { .. }));
        engine.handle(Event::Hashes { file: key(1), peer: peer(1), content, compared: Compared::Contradicted }, Time::ZERO);
        is_asked
    });
    assert!((1..=9).contains(&shown.count()));
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
    assert_eq!(shared(&engine).records[&peer(2).node].refusals, 0);
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
fn who_never_said_that_it_has_anything_may_say_so_as_often_as_it_likes() {
    let mut engine = engine();
    for turn in 0..30 {
        comes(&mut engine, 1, FileWord::Nothing, SECOND * turn);
    }
    assert!(!is_out(&engine, 1));
}

#[test]
fn what_is_refused_because_nothing_is_there_any_more_counts_once_with_that_word() {
    let mut engine = engine();
    comes(&mut engine, 1, has_all(), Time::ZERO);
    let asked = asked(&actions(&mut engine, Time::ZERO));
    asked.into_iter().for_each(|(read, ..)| end(&mut engine, read, Outcome::Refused, SECOND));
    say(&mut engine, 1, key(1), FileWord::Nothing, SECOND);
    assert_eq!(shared(&engine).records[&peer(1).node].refusals, 1);
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
    let repairs = |engine: &Engine| shared(engine).repairs;
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
