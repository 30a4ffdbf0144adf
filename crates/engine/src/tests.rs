//! The engine's promises: what every file may count on here, whose turn it is, what origins do wrong, and random schedules.

use larder_content::{ChunkLayout, ContentId, FileMessage, FileWord, Holding, NodeId};

use super::*;

mod crowd;
mod doubt;
mod faults;
mod market;
mod oaths;
mod patience;
mod places;
mod schedules;
mod small;
mod strangers;
mod swarm;
mod turns;

const SECOND: Duration = Duration::from_secs(1);
const MARKET: MarketId = MarketId(1);
/// What files are.
const CONTENT: ContentId = ContentId([7; 32]);

fn key(number: u64) -> FileKey {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&number.to_be_bytes());
    FileKey(key)
}

fn want(engine: &mut Engine, number: u64, chunks: u64, group: u64) {
    want_from(engine, number, chunks, group, 1);
}

fn want_from(engine: &mut Engine, number: u64, chunks: u64, group: u64, origin: u64) {
    let layout = ChunkLayout::new(chunks * larder_content::CHUNK_BYTES);
    let event = Event::Wanted {
        file: key(number),
        layout,
        missing: vec![0..chunks],
        origin: OriginId(origin),
        group: GroupId(group),
        sharing: None,
    };
    engine.handle(event, Time::ZERO);
}

fn peer(number: u8) -> Peer {
    Peer { market: MARKET, node: NodeId([number; 32]) }
}

/// Shared in a market by a node that is connected to others, without a limit to patience.
fn sharing(known: Vec<(NodeId, Holding)>) -> Sharing {
    let me = NodeId([99; 32]);
    Sharing { market: MARKET, me, patience: None, whole: false, known, looked: Duration::ZERO, company: true, samples: false }
}

/// Wants a file of so many bytes with others.
fn want_shared(engine: &mut Engine, number: u64, bytes: u64, group: u64, sharing: Sharing) {
    let layout = ChunkLayout::new(bytes);
    let (origin, group, sharing) = (OriginId(1), GroupId(group), Some(Box::new(sharing)));
    engine.handle(Event::Wanted { file: key(number), layout, missing: vec![0..layout.count()], origin, group, sharing }, Time::ZERO);
}

fn say(engine: &mut Engine, from: u8, file: FileKey, body: FileWord, now: Time) {
    engine.handle(Event::Told { peer: peer(from), message: FileMessage { file, body } }, now);
}

/// A holder says that it has all of a file.
fn holds(engine: &mut Engine, from: u8, file: FileKey) {
    say(engine, from, file, FileWord::Follow, Time::ZERO);
    say(engine, from, file, FileWord::Complete(CONTENT), Time::ZERO);
}

/// The chunk hashes that were asked for come, and nothing contradicts them.
fn show_hashes(engine: &mut Engine, actions: &[Action], now: Time) {
    for action in actions {
        if let Action::FetchHashes { file, peer, content } = action {
            let compared = Compared::Known { fits: vec![], dropped: vec![], contradicted: vec![] };
            engine.handle(Event::Hashes { file: *file, peer: *peer, content: *content, compared }, now);
        }
    }
}

fn actions(engine: &mut Engine, now: Time) -> Vec<Action> {
    std::iter::from_fn(|| engine.next_action(now)).collect()
}

/// A read that was started: of which file, and which chunks.
type Started = (ReadId, FileKey, Range<u64>);

fn reads(actions: &[Action]) -> Vec<Started> {
    let read = |action: &Action| match action {
        Action::Read { read, file, chunks, .. } => Some((*read, *file, chunks.clone())),
        Action::Cancel { .. }
        | Action::Complete { .. }
        | Action::GiveUp { .. }
        | Action::Tell { .. }
        | Action::FetchHashes { .. }
        | Action::Ban { .. } => None,
    };
    actions.iter().filter_map(read).collect()
}

/// The reads from peers among actions.
fn asked(actions: &[Action]) -> Vec<Started> {
    let of_peer = |action: &&Action| matches!(action, Action::Read { from: From::Peer { .. }, .. });
    reads(&actions.iter().filter(of_peer).cloned().collect::<Vec<_>>())
}

/// The reads from the origin among actions.
fn from_origin(actions: &[Action]) -> Vec<Started> {
    let of_origin = |action: &&Action| matches!(action, Action::Read { from: From::Origin, .. });
    reads(&actions.iter().filter(of_origin).cloned().collect::<Vec<_>>())
}

/// What is known of the first file as one that others fetch too.
fn shared(engine: &Engine) -> &share::Share {
    engine.files[&key(1)].share.as_deref().unwrap()
}

/// What a peer was told.
fn tells(actions: &[Action], to: u8) -> Vec<FileWord> {
    let told = |action: &Action| if let Action::Tell { peer, message } = action { Some((*peer, message.body.clone())) } else { None };
    actions.iter().filter_map(told).filter(|(other, _)| *other == peer(to)).map(|(_, word)| word).collect()
}

fn end(engine: &mut Engine, read: ReadId, outcome: Outcome, now: Time) {
    engine.handle(Event::Ended { read, outcome }, now);
}

fn finish(engine: &mut Engine, (read, _, chunks): Started, now: Time) {
    engine.handle(Event::Arrived { read, chunks: chunks.end - chunks.start }, now);
    end(engine, read, Outcome::Complete, now);
}

fn continue_with(engine: &mut Engine, read: ReadId, arrived: u64, outcome: Outcome, now: Time) {
    engine.handle(Event::Arrived { read, chunks: arrived }, now);
    end(engine, read, outcome, now);
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
fn what_the_store_holds_is_not_read() {
    let mut engine = Engine::new(Config::default(), 1);
    let layout = ChunkLayout::new(10 * larder_content::CHUNK_BYTES);
    let wanted = |file, missing| Event::Wanted { file, layout, missing, origin: OriginId(1), group: GroupId(1), sharing: None };
    engine.handle(wanted(key(1), vec![2..3, 7..10]), Time::ZERO);
    engine.handle(wanted(key(2), vec![]), Time::ZERO);
    let actions = actions(&mut engine, Time::ZERO);
    assert!(actions.contains(&Action::Complete { file: key(2) }));
    assert_eq!(reads(&actions).into_iter().map(|read| read.2).collect::<Vec<_>>(), [2..3, 7..10]);
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
