//! The reading half of a control stream: one task a link, which alone tells the node that the peer has come and gone.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use larder_content::{Holding, Subject};
use libp2p::Stream;
use tokio::time::{sleep, timeout};

use super::frame::{ControlRecord, HelloRecord, HolderRecord, ROWS_A_FRAME, RowRecord, SUBJECTS_A_FRAME};
use super::link::{Link, is_loopback};
use super::{MOST_ADDRESSES_IN_HELLO, PEERS_A_FRAME};
use crate::book::KnownPeer;
use crate::event::{Event, Sighting};
use crate::frame::{self, FrameError};
use crate::holdings::{MOST_HOLDERS, Row};
use crate::look::MOST_ANSWERS;
use crate::pace::Bucket;
use crate::shared::{Command, Shared, lock};

/// How long a peer may take to say hello.
const HELLO: Duration = Duration::from_secs(10);
/// Frames that a peer may send in a second, and at once. Over that, reading waits.
const FRAMES_A_SECOND: f64 = 200.0;
const FRAMES_AT_ONCE: f64 = 2000.0;

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
    shared.has_arrived();
    shared.emit(Event::Disconnected(link.node)).await;
    ended
}

async fn listen(shared: &Shared, link: &Arc<Link>, stream: &mut Stream) -> Result<(), FrameError> {
    let mut pace = Bucket::new(FRAMES_A_SECOND, FRAMES_AT_ONCE);
    loop {
        let (record, length) = frame::read::<ControlRecord>(stream).await?;
        link.traffic.received(length);
        let wait = pace.take(1.0);
        if !wait.is_zero() {
            sleep(wait).await;
        }
        take(shared, link, record).await?;
    }
}

async fn take(shared: &Shared, link: &Arc<Link>, record: ControlRecord) -> Result<(), FrameError> {
    let wrong = |what| Err(FrameError::Unexpected(what));
    match record {
        ControlRecord::Told(message) => match message.into_message() {
            Some(message) => shared.emit(Event::Told { from: link.node, message }).await,
            None => return wrong("chunks that are no ranges"),
        },
        ControlRecord::WhoHas { question, subjects } => {
            if subjects.len() > SUBJECTS_A_FRAME {
                return wrong("too many subjects in a question");
            }
            answer(shared, link, question, &subjects.into_iter().map(Subject).collect::<Vec<_>>());
        }
        ControlRecord::Holders { question, is_last, rows } => {
            if rows.len() > ROWS_A_FRAME {
                return wrong("too many holders in an answer");
            }
            let rows = rows.into_iter().map(Sighting::from).collect();
            let mut asked_for = lock(&shared.questions).answer(question, link.node, is_last, rows);
            asked_for.retain(|sighting| sighting.node != shared.identity.id());
            let now = shared.now();
            asked_for.retain(|sighting| lock(&shared.table).heard(sighting, now));
            shared.spread(asked_for, link.node);
        }
        ControlRecord::WhoIsThere => {
            let mut nodes: Vec<_> = shared.links().iter().map(|link| link.node).collect();
            fastrand::shuffle(&mut nodes);
            shared.introduce(link, nodes.into_iter());
        }
        ControlRecord::Peers(peers) => {
            if peers.len() > PEERS_A_FRAME {
                return wrong("too many peers in an introduction");
            }
            let is_near = is_loopback(&link.address);
            let mut peers: Vec<KnownPeer> = peers.into_iter().map(KnownPeer::from).collect();
            for peer in &mut peers {
                peer.addresses.retain(|text| is_near || text.parse().is_ok_and(|address| !is_loopback(&address)));
            }
            let _ = shared.commands.send(Command::Heard(peers)).await;
        }
        ControlRecord::News(rows) => said(shared, link, &rows),
        ControlRecord::Digest { rows, sum } => {
            if lock(&shared.table).digest(link.node) != (rows, sum) {
                link.send(&ControlRecord::TellAll);
            }
        }
        ControlRecord::TellAll => tell_all(shared, link),
        ControlRecord::All { is_first, is_last, rows } => {
            if is_first {
                lock(&shared.table).begin_all(link.node);
            }
            said(shared, link, &rows);
            if is_last {
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

fn said(shared: &Shared, link: &Link, rows: &[RowRecord]) {
    let longest = shared.config.expiry;
    let row = |row: &RowRecord| Row {
        subject: Subject(row.subject),
        holding: row.holding.into(),
        expires_in: Duration::from_secs(row.seconds.into()).min(longest),
    };
    let rows: Vec<Row> = rows.iter().map(row).collect();
    let news = lock(&shared.table).said(link.node, &rows, shared.now());
    shared.spread(news, link.node);
}

fn answer(shared: &Shared, link: &Link, question: u32, subjects: &[Subject]) {
    link.wants(subjects);
    let most = (MOST_ANSWERS / subjects.len().max(1)).clamp(1, MOST_HOLDERS);
    let mut found = Vec::new();
    for subject in subjects {
        let own = lock(&shared.own).get(subject);
        found.extend(own.map(|holding| Sighting { subject: *subject, node: shared.identity.id(), holding }));
        let others = shared.holders(*subject, most).into_iter().filter(|(node, _)| *node != link.node);
        found.extend(others.map(|(node, holding): (_, Holding)| Sighting { subject: *subject, node, holding }));
    }
    found.truncate(MOST_ANSWERS);
    // The last frame comes in any case, also when there is nothing to say.
    let count = found.len().div_ceil(ROWS_A_FRAME).max(1);
    for at in 0..count {
        let rows = &found[at * ROWS_A_FRAME..found.len().min((at + 1) * ROWS_A_FRAME)];
        shared.introduce(link, rows.iter().map(|sighting| sighting.node));
        let rows = rows.iter().map(HolderRecord::from).collect();
        link.send(&ControlRecord::Holders { question, is_last: at + 1 == count, rows });
    }
}

fn tell_all(shared: &Shared, link: &Link) {
    let rows: Vec<RowRecord> = lock(&shared.own).all(shared.now()).iter().map(RowRecord::from).collect();
    let count = rows.len().div_ceil(ROWS_A_FRAME).max(1);
    for at in 0..count {
        let rows = rows[at * ROWS_A_FRAME..rows.len().min((at + 1) * ROWS_A_FRAME)].to_vec();
        if !link.send(&ControlRecord::All { is_first: at == 0, is_last: at + 1 == count, rows }) {
            return;
        }
    }
}
