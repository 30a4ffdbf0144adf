//! The reading half of a control stream: one task a link, which alone tells the node that the peer has come and gone.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use larder_content::{NodeId, Subject};
use libp2p::Stream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep, timeout};

use super::frame::{ControlRecord, HelloRecord, HolderRecord, ROWS_A_FRAME, RowRecord, SUBJECTS_A_FRAME};
use super::link::Link;
use super::{MOST_ADDRESSES_IN_HELLO, PEERS_A_FRAME};
use crate::address::told_by;
use crate::book::{KnownPeer, KnownPeerRecord};
use crate::event::{Event, Sighting};
use crate::frame::{self, FrameError};
use crate::holdings::{MOST_HOLDERS_TOLD, Row, Standing};
use crate::look::MOST_ANSWERS;
use crate::pace::Bucket;
use crate::shared::{Command, Shared, lock};

/// How long a peer may take to say hello.
const HELLO: Duration = Duration::from_secs(10);
/// Frames that a peer may send in a second, and at once. A frame that makes work counts for more.
const FRAMES_A_SECOND: f64 = 200.0;
const FRAMES_AT_ONCE: f64 = 2000.0;
/// The same beyond that, for one peer and for all of a market together: many small files take many words. Over that too, reading waits.
const MORE_FRAMES_A_SECOND: f64 = 1000.0;
const SPARE_FRAMES_A_SECOND: f64 = 2000.0;
const SPARE_FRAMES_AT_ONCE: f64 = 4000.0;
/// How long a peer may send more than that without a pause: who does makes this node hold what it has not read yet.
const LONGEST_FLOOD: Duration = Duration::from_secs(300);
/// So many subjects of a question make the work of a frame, and so many rows of an answer, and so many peers of an introduction.
const SUBJECTS_FOR_A_FRAME: usize = 16;
const HOLDERS_FOR_A_FRAME: usize = 64;
const PEERS_FOR_A_FRAME: usize = 2;
/// How often a peer may ask for all holdings, or for peers, in a second and at once; what comes sooner is not heard.
const BIG_QUESTIONS_A_SECOND: f64 = 0.1;
const BIG_QUESTIONS_AT_ONCE: f64 = 3.0;
/// Rows of news about others that a peer may tell in a second, and at once: a crowd that begins a job. More are not heard.
const HINTS_A_SECOND: f64 = 20.0;
const HINTS_AT_ONCE: f64 = 1024.0;
/// How long telling all waits for room in the queue to a peer.
const ROOM: Duration = Duration::from_millis(50);

/// Reads what a peer says until the stream breaks, the peer breaks the rules, or the link ends.
pub(crate) async fn hear(shared: Arc<Shared>, link: Arc<Link>, mut stream: Stream) {
    let ended = tokio::select! {
        biased;
        () = link.ends.cancelled() => Ok(()),
        hello = greet(&link, &mut stream) => match hello {
            Ok(hello) => stay(&shared, &link, hello, &mut stream).await,
            Err(error) => Err(error),
        },
    };
    link.ends.cancel();
    if let Err(error) = ended
        && error.is_offence()
    {
        let _ = shared.commands.send(Command::Offence { node: link.node, what: error.to_string() }).await;
    }
}

async fn greet(link: &Link, stream: &mut Stream) -> Result<HelloRecord, FrameError> {
    let read = timeout(HELLO, frame::read::<ControlRecord>(stream)).await;
    let (record, length) = read.map_err(|_| FrameError::Ended(std::io::ErrorKind::TimedOut.into()))??;
    link.traffic.received(length);
    if let ControlRecord::Hello(hello) = record
        && hello.addresses.len() <= MOST_ADDRESSES_IN_HELLO
    {
        return Ok(hello);
    }
    Err(FrameError::Unexpected("no hello at the beginning"))
}

/// From Connected to Disconnected.
async fn stay(shared: &Arc<Shared>, link: &Arc<Link>, hello: HelloRecord, stream: &mut Stream) -> Result<(), FrameError> {
    let turn = Arc::clone(&link.turn);
    let _turn = tokio::select! {
        turn = turn.lock() => turn,
        () = link.ends.cancelled() => return Ok(()),
    };
    link.is_bootstrap.store(hello.is_bootstrap, Ordering::Relaxed);
    link.learn_addresses(&hello.addresses);
    // First there, then greeted: a look that waits for a bootstrap no more must find it among the links.
    lock(&shared.links).insert(link.node, Arc::clone(link));
    // It may have been banned before it was there.
    if lock(&shared.gate).admits(link.node).is_err() {
        link.ends.cancel();
    }
    let _ = shared.commands.send(Command::Greeted { link: Arc::clone(link), hello }).await;
    shared.emit(Event::Connected(link.node)).await;
    link.is_told.cancel();
    shared.has_arrived();
    let (rows, sum) = lock(&shared.own).digest();
    link.send(&ControlRecord::Digest { rows, sum });
    let ended = tokio::select! {
        biased;
        () = link.ends.cancelled() => Ok(()),
        ended = listen(shared, link, stream) => ended,
    };
    lock(&shared.links).retain(|_, other| !Arc::ptr_eq(other, link));
    lock(&shared.table).has_left(link.node, shared.now());
    shared.has_arrived();
    shared.emit(Event::Disconnected(link.node)).await;
    ended
}

async fn listen(shared: &Arc<Shared>, link: &Arc<Link>, stream: &mut Stream) -> Result<(), FrameError> {
    let mut hearing = Hearing::new();
    loop {
        let (record, length) = frame::read::<ControlRecord>(stream).await?;
        link.traffic.received(length);
        let wait = hearing.pace(frames_of(&record), &shared.spare_frames)?;
        if !wait.is_zero() {
            sleep(wait).await;
        }
        take(shared, link, &mut hearing, record).await?;
    }
}

/// How many frames' work a frame makes.
fn frames_of(record: &ControlRecord) -> f64 {
    let more = match record {
        ControlRecord::WhoHas { subjects, .. } => subjects.len() / SUBJECTS_FOR_A_FRAME,
        ControlRecord::Holders { rows, .. } => rows.len() / HOLDERS_FOR_A_FRAME,
        ControlRecord::Peers(peers) => peers.len() / PEERS_FOR_A_FRAME,
        // Rows that a peer says of itself have a bound of their own, in the table.
        ControlRecord::News(_) | ControlRecord::All { .. } => 0,
        ControlRecord::Hello(_) | ControlRecord::Told(_) | ControlRecord::WhoIsThere | ControlRecord::Bye => 0,
        ControlRecord::Digest { .. } | ControlRecord::TellAll => 0,
    };
    1.0 + more as f64
}

/// What all peers together may send beyond what each may.
pub(crate) fn spare_frames() -> Bucket {
    Bucket::new(SPARE_FRAMES_A_SECOND, SPARE_FRAMES_AT_ONCE)
}

/// What may come of a peer next.
struct Hearing {
    frames: Bucket,
    more_frames: Bucket,
    flooded_since: Option<Instant>,
    /// For `TellAll` that comes, that goes out, and for `WhoIsThere`.
    asked_for_all: Bucket,
    asks_for_all: Bucket,
    asked_for_peers: Bucket,
    hints: Bucket,
    /// Whether it was asked to tell all, and has not told the last of it.
    awaits_all: bool,
    /// Held while it is being told all.
    telling: Arc<Semaphore>,
}

impl Hearing {
    fn new() -> Self {
        let seldom = || Bucket::new(BIG_QUESTIONS_A_SECOND, BIG_QUESTIONS_AT_ONCE);
        Self {
            frames: Bucket::new(FRAMES_A_SECOND, FRAMES_AT_ONCE),
            more_frames: Bucket::new(MORE_FRAMES_A_SECOND, FRAMES_AT_ONCE),
            flooded_since: None,
            asked_for_all: seldom(),
            asks_for_all: seldom(),
            asked_for_peers: seldom(),
            hints: Bucket::new(HINTS_A_SECOND, HINTS_AT_ONCE),
            awaits_all: false,
            telling: Arc::new(Semaphore::new(1)),
        }
    }

    /// How long to wait before a frame of that much work is taken.
    fn pace(&mut self, frames: f64, spare: &Mutex<Bucket>) -> Result<Duration, FrameError> {
        if self.frames.try_take(frames) {
            self.flooded_since = None;
            return Ok(Duration::ZERO);
        }
        if self.more_frames.try_take(frames) && lock(spare).try_take(frames) {
            return Ok(Duration::ZERO);
        }
        let wait = self.frames.take(frames);
        if self.flooded_since.get_or_insert_with(Instant::now).elapsed() > LONGEST_FLOOD {
            return Err(FrameError::Unexpected("more frames than are read, for too long"));
        }
        Ok(wait)
    }
}

async fn take(shared: &Arc<Shared>, link: &Arc<Link>, hearing: &mut Hearing, record: ControlRecord) -> Result<(), FrameError> {
    let wrong = |what| Err(FrameError::Unexpected(what));
    match record {
        ControlRecord::Told(message) => match message.into_message() {
            Some(message) => {
                link.passes(&message.body);
                shared.emit(Event::Told { from: link.node, message }).await;
            }
            None => return wrong("chunks that are no ranges"),
        },
        ControlRecord::WhoHas { question, subjects } => {
            if subjects.len() > SUBJECTS_A_FRAME {
                return wrong("too many subjects in a question");
            }
            answer(shared, link, question, &subjects.into_iter().map(Subject).collect());
        }
        ControlRecord::Holders { question, is_last, mut rows } => {
            if rows.len() > ROWS_A_FRAME {
                return wrong("too many holders in an answer");
            }
            if question == 0 {
                rows.retain(|_| hearing.hints.try_take(1.0));
            }
            take_holders(shared, link.node, question, is_last, rows);
        }
        ControlRecord::WhoIsThere if !hearing.asked_for_peers.try_take(1.0) => {}
        ControlRecord::WhoIsThere => {
            let mut nodes: Vec<_> = shared.links().iter().map(|link| link.node).collect();
            fastrand::shuffle(&mut nodes);
            shared.introduce(link, nodes.into_iter());
        }
        ControlRecord::Peers(peers) => {
            if peers.len() > PEERS_A_FRAME {
                return wrong("too many peers in an introduction");
            }
            take_peers(shared, link, peers).await;
        }
        ControlRecord::News(rows) => said(shared, link, rows),
        ControlRecord::Digest { rows, sum } => {
            let differs = lock(&shared.table).digest(link.node) != (rows, sum);
            if differs && hearing.asks_for_all.try_take(1.0) {
                hearing.awaits_all |= link.send(&ControlRecord::TellAll);
            }
        }
        ControlRecord::TellAll => {
            if hearing.asked_for_all.try_take(1.0)
                && let Ok(turn) = Arc::clone(&hearing.telling).try_acquire_owned()
            {
                shared.tasks.spawn(tell_all(Arc::clone(shared), Arc::clone(link), turn));
            }
        }
        // Nobody asked, or the answer to an earlier question has come since.
        ControlRecord::All { .. } if !hearing.awaits_all => {}
        ControlRecord::All { is_first, is_last, rows } => {
            if is_first {
                lock(&shared.table).begin_all(link.node, shared.now());
            }
            said(shared, link, rows);
            if is_last {
                hearing.awaits_all = false;
                let gone = lock(&shared.table).end_all(link.node);
                shared.spread(gone, link.node);
            }
        }
        ControlRecord::Bye => {
            let _ = shared.commands.send(Command::Leaves(link.connection)).await;
        }
        ControlRecord::Hello(_) => return wrong("a second hello"),
    }
    Ok(())
}

/// Takes where others are, as far as the peer may say.
async fn take_peers(shared: &Shared, link: &Link, peers: Vec<KnownPeerRecord>) {
    let peers = peers.into_iter().map(KnownPeer::from);
    let peers = peers.map(|peer| (peer.node, told_by(&link.address, &peer.addresses).collect())).collect();
    let _ = shared.commands.send(Command::Heard(peers)).await;
}

fn take_holders(shared: &Shared, from: NodeId, question: u32, is_last: bool, rows: Vec<HolderRecord>) {
    let rows = rows.into_iter().map(Sighting::from).collect();
    let mut asked_for = lock(&shared.questions).answer(question, from, is_last, rows);
    asked_for.retain(|sighting| sighting.node != shared.identity.id());
    let now = shared.now();
    asked_for.retain(|sighting| lock(&shared.table).heard(sighting, now));
    shared.spread(asked_for, from);
}

fn said(shared: &Shared, link: &Link, rows: Vec<RowRecord>) {
    let rows: Vec<Row> = rows.into_iter().map(|row| row.into_row(shared.config.expiry)).collect();
    let news = lock(&shared.table).said(link.node, Standing::Connected, &rows, shared.now());
    shared.spread(news, link.node);
}

fn answer(shared: &Shared, link: &Link, question: u32, subjects: &BTreeSet<Subject>) {
    link.wants(subjects);
    let most = (MOST_ANSWERS / subjects.len().max(1)).clamp(1, MOST_HOLDERS_TOLD);
    let mut found = Vec::new();
    for subject in subjects {
        let own = lock(&shared.own).get(subject);
        found.extend(own.map(|holding| Sighting { subject: *subject, node: shared.identity.id(), holding }));
        let others = shared.holders(*subject, most).into_iter().filter(|(node, _)| *node != link.node);
        found.extend(others.map(|(node, holding)| Sighting { subject: *subject, node, holding }));
    }
    let count = found.len().div_ceil(ROWS_A_FRAME).max(1);
    for at in 0..count {
        let rows = &found[at * ROWS_A_FRAME..found.len().min((at + 1) * ROWS_A_FRAME)];
        shared.introduce(link, rows.iter().map(|sighting| sighting.node));
        let rows = rows.iter().map(HolderRecord::from).collect();
        link.send(&ControlRecord::Holders { question, is_last: at + 1 == count, rows });
    }
}

/// Tells all of this node's own holdings, as the queue to the peer and the cap on uploads have room.
async fn tell_all(shared: Arc<Shared>, link: Arc<Link>, _turn: OwnedSemaphorePermit) {
    let mut last = None;
    let mut is_first = true;
    loop {
        let rows = lock(&shared.own).after(last, ROWS_A_FRAME, shared.now());
        last = rows.last().map(|row| row.subject);
        let is_last = rows.len() < ROWS_A_FRAME;
        shared.upload.pass(rows.len() * size_of::<RowRecord>()).await;
        let record = ControlRecord::All { is_first, is_last, rows: rows.iter().map(RowRecord::from).collect() };
        while !link.send(&record) {
            if timeout(ROOM, link.ends.cancelled()).await.is_ok() {
                return;
            }
        }
        if is_last {
            return;
        }
        is_first = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_counts_for_the_work_that_it_makes() {
        let (mut hearing, none) = (Hearing::new(), Mutex::new(Bucket::new(0.0, 0.0)));
        let question = ControlRecord::WhoHas { question: 1, subjects: vec![[0; 32]; SUBJECTS_A_FRAME] };
        for _ in 0..30 {
            assert_eq!(hearing.pace(frames_of(&question), &none).unwrap(), Duration::ZERO);
        }
        assert!(hearing.pace(frames_of(&question), &none).unwrap() > Duration::ZERO);
    }

    #[test]
    fn a_peer_that_floods_for_long_is_at_fault_and_one_that_pauses_is_not() {
        let (mut hearing, none) = (Hearing::new(), Mutex::new(Bucket::new(0.0, 0.0)));
        let flood = |hearing: &mut Hearing| hearing.pace(FRAMES_AT_ONCE + 1.0, &none);
        assert!(flood(&mut hearing).unwrap() > Duration::ZERO);
        hearing.flooded_since = Instant::now().checked_sub(LONGEST_FLOOD);
        assert!(hearing.pace(1.0, &none).unwrap_err().is_offence());
        hearing.frames = Bucket::new(FRAMES_A_SECOND, FRAMES_AT_ONCE);
        assert_eq!(hearing.pace(1.0, &none).unwrap(), Duration::ZERO);
        assert!(flood(&mut hearing).is_ok(), "the pause ended the flood");
    }

    #[test]
    fn one_that_has_much_to_say_uses_what_all_have_to_spare_and_then_waits() {
        let (mut hearing, spare) = (Hearing::new(), Mutex::new(spare_frames()));
        for _ in 0..(2.0 * FRAMES_AT_ONCE) as u32 {
            assert_eq!(hearing.pace(1.0, &spare).unwrap(), Duration::ZERO);
        }
        let mut other = Hearing::new();
        assert_eq!(other.pace(1.0, &spare).unwrap(), Duration::ZERO, "what is its own is not taken");
        let waits = (0..10_000).any(|_| !hearing.pace(1.0, &spare).unwrap().is_zero());
        assert!(waits);
    }
}
