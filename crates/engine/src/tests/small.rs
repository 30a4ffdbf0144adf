//! Files so small that they are moved whole.

use super::*;

/// Wants a file of four chunks that is moved whole.
fn want_small(engine: &mut Engine, number: u64) {
    want_shared(engine, number, 4 * larder_content::CHUNK_BYTES, 1, Sharing { whole: true, ..sharing(vec![]) });
}

#[test]
fn a_small_file_is_not_cut_by_what_someone_says_it_has() {
    let mut engine = Engine::new(Config::default(), 1);
    want_small(&mut engine, 1);
    say(&mut engine, 1, key(1), FileWord::Follow, Time::ZERO);
    say(&mut engine, 1, key(1), FileWord::Have(vec![1..2, 3..4]), Time::ZERO);
    let started = (0..100).flat_map(|tick| reads(&actions(&mut engine, SECOND * tick / 10)));
    assert_eq!(started.map(|read| read.2).collect::<Vec<_>>(), [0..4]);
}

#[test]
fn a_small_file_that_many_have_is_asked_for_whole() {
    let mut engine = Engine::new(Config::default(), 1);
    want_small(&mut engine, 1);
    (1..9).for_each(|holder| holds(&mut engine, holder, key(1)));
    for turn in 0..10 {
        let now = SECOND * turn / 10;
        let asked = asked(&actions(&mut engine, now));
        assert_eq!(asked.iter().map(|read| read.2.clone()).collect::<Vec<_>>(), [0..4]);
        end(&mut engine, asked[0].0, Outcome::Broken, now);
    }
}

#[test]
fn a_holder_is_asked_for_the_next_files_as_soon_as_it_has_brought_some() {
    let mut engine = Engine::new(Config::default(), 1);
    for number in 0..40 {
        want_small(&mut engine, number);
        holds(&mut engine, 1, key(number));
    }
    let mut brought = BTreeSet::new();
    while let Some(read) = asked(&actions(&mut engine, Time::ZERO)).pop() {
        brought.insert(read.1);
        finish(&mut engine, read, Time::ZERO);
    }
    assert_eq!(brought.len(), 40);
}
