//! The side that answers. One task a stream reads questions, has the node prepare a few at once, and writes the answers in order.

use std::collections::VecDeque;
use std::io;
use std::ops::{Range, RangeInclusive};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::io::WriteHalf;
use futures::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use larder_content::{ContentId, FileKey, PieceRow};
use libp2p::Stream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::frame::{AnswerRecord, AskRecord};
use super::upload::{Given, Upload, Wanted};
use super::{MOST_ASKS, MOST_CHUNKS, MOST_HASHES, MOST_ROWS};
use crate::event::Event;
use crate::frame::{self, FrameError};
use crate::pace::Portion;
use crate::shared::{Shared, Traffic, lock};

/// The most answers that are prepared for one peer at once.
pub(crate) const UPLOADS_A_PEER: usize = 4;
/// The most for all peers of a market together; each holds up to 2 MiB.
pub(crate) const UPLOADS_AT_ONCE: usize = 64;
/// How long an asker may take for a slice of an answer: it holds a place that others wait for.
const STALL: Duration = Duration::from_secs(30);
/// How long an asker may take for a whole answer: so long, and longer for each byte, the less so while others wait for a place.
const WHOLE: Duration = Duration::from_secs(60);
const LEAST_BYTES_PER_SECOND: f64 = 32.0 * 1024.0;
/// The same while nobody waits.
const LEAST_ALONE: f64 = 4.0 * 1024.0;
/// Bytes written at once: between two slices the cap and the stall are looked at, and what else is told to the asker waits for the frame that a slice
/// becomes.
const SLICE: RangeInclusive<usize> = 4 * 1024..=64 * 1024;

/// Answers what comes over `stream` until it ends, and says how it ended.
pub(crate) async fn serve(shared: Arc<Shared>, traffic: Arc<Traffic>, of_peer: Arc<Semaphore>, stream: Stream) -> FrameError {
    let (input, output) = stream.split();
    let (asked, asks) = mpsc::channel(MOST_ASKS);
    let (prepared, answers) = mpsc::channel(UPLOADS_A_PEER);
    let waiting = Mutex::<Waiting>::default();
    let writer =
        Writer { shared: &shared, traffic: &traffic, output, waited: Waited::default(), slice: Portion::new(SLICE, Instant::now()) };
    let ended = tokio::try_join!(
        read(input, &waiting, asked, &traffic),
        prepare(&shared, of_peer, asks, prepared),
        writer.write(answers, &waiting),
    );
    ended.err().unwrap_or_else(|| FrameError::Ended(io::ErrorKind::UnexpectedEof.into()))
}

struct Ask {
    file: FileKey,
    content: Option<ContentId>,
    wanted: Wanted,
    cancelled: CancellationToken,
}

/// The questions whose answers are not written to the end.
#[derive(Default)]
struct Waiting {
    asks: VecDeque<CancellationToken>,
    /// The number of the first of them.
    first: u64,
}

impl Waiting {
    fn cancel(&self, ask: u64) {
        let at = ask.checked_sub(self.first).and_then(|at| usize::try_from(at).ok());
        if let Some(token) = at.and_then(|at| self.asks.get(at)) {
            token.cancel();
        }
    }
}

async fn read(
    mut input: impl AsyncRead + Unpin,
    waiting: &Mutex<Waiting>,
    asked: mpsc::Sender<Ask>,
    traffic: &Traffic,
) -> Result<(), FrameError> {
    loop {
        let (record, length) = frame::read::<AskRecord>(&mut input).await?;
        traffic.received(length);
        let (file, content, wanted) = match record {
            AskRecord::Cancel { ask } => {
                lock(waiting).cancel(ask);
                continue;
            }
            AskRecord::Chunks { file, content, first, count } => (file, content, Wanted::Chunks(range(first, count, MOST_CHUNKS)?)),
            AskRecord::Hashes { file, content, first, count } => (file, content, Wanted::Hashes(range(first, count, MOST_HASHES)?)),
            AskRecord::Pieces { file, first, count } => (file, None, Wanted::Pieces(range(first, count, MOST_ROWS)?)),
        };
        let cancelled = CancellationToken::new();
        {
            let mut waiting = lock(waiting);
            if waiting.asks.len() >= MOST_ASKS {
                return Err(FrameError::Unexpected("more open questions than are allowed"));
            }
            waiting.asks.push_back(cancelled.clone());
        }
        let ask = Ask { file: FileKey(file), content: content.map(ContentId), wanted, cancelled };
        if asked.send(ask).await.is_err() {
            return Ok(());
        }
    }
}

/// The questions in what an asker sends, and how it ends.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) async fn read_asks(sent: &[u8]) -> (Vec<Wanted>, FrameError) {
    let (asked, mut asks) = mpsc::channel(MOST_ASKS);
    let end = read(sent, &Mutex::default(), asked, &Traffic::default()).await;
    let all = std::iter::from_fn(|| asks.try_recv().ok()).map(|ask| ask.wanted).collect();
    (all, end.err().unwrap_or(FrameError::Stalled))
}

fn range(first: u64, count: u64, most: u64) -> Result<Range<u64>, FrameError> {
    match first.checked_add(count) {
        Some(end) if (1..=most).contains(&count) => Ok(first..end),
        Some(_) | None => Err(FrameError::Unexpected("a question for no chunks, or too many")),
    }
}

struct Answer {
    parts: mpsc::Receiver<Given>,
    cancelled: CancellationToken,
    /// Held until the answer is written: what waits in memory is bounded by it.
    _places: (OwnedSemaphorePermit, OwnedSemaphorePermit),
}

async fn prepare(
    shared: &Shared,
    of_peer: Arc<Semaphore>,
    mut asks: mpsc::Receiver<Ask>,
    prepared: mpsc::Sender<Answer>,
) -> Result<(), FrameError> {
    let closed = || FrameError::Ended(io::ErrorKind::ConnectionAborted.into());
    while let Some(ask) = asks.recv().await {
        let of_peer = Arc::clone(&of_peer).acquire_owned().await.map_err(|_| closed())?;
        let of_market = Arc::clone(&shared.uploads).acquire_owned().await.map_err(|_| closed())?;
        let (answer, parts) = mpsc::channel(1);
        let Ask { file, content, wanted, cancelled } = ask;
        let upload = Upload { file, content, wanted, answer, cancelled: cancelled.clone() };
        if prepared.send(Answer { parts, cancelled: cancelled.clone(), _places: (of_peer, of_market) }).await.is_err() {
            return Ok(());
        }
        if !cancelled.is_cancelled() {
            shared.emit(Event::Asked(upload)).await;
        }
    }
    Ok(())
}

struct Writer<'a> {
    shared: &'a Shared,
    traffic: &'a Traffic,
    output: WriteHalf<Stream>,
    waited: Waited,
    slice: Portion,
}

impl Writer<'_> {
    async fn write(mut self, mut answers: mpsc::Receiver<Answer>, waiting: &Mutex<Waiting>) -> Result<(), FrameError> {
        while let Some(mut answer) = answers.recv().await {
            let mut any = false;
            self.waited.begins_another();
            loop {
                let part = tokio::select! {
                    biased;
                    () = answer.cancelled.cancelled() => None,
                    part = answer.parts.recv() => part,
                };
                let Some(part) = part else { break };
                any = true;
                self.part(part).await?;
            }
            // Both sides count questions by their ends, so this comes before the end is on the wire.
            {
                let mut waiting = lock(waiting);
                waiting.first += 1;
                waiting.asks.pop_front();
            }
            self.frame(&if any { AnswerRecord::End } else { AnswerRecord::Refused }).await?;
            if answers.is_empty() {
                tokio::time::timeout(STALL, self.output.flush()).await.map_err(|_| FrameError::Stalled)??;
            }
        }
        Ok(())
    }

    async fn part(&mut self, part: Given) -> Result<(), FrameError> {
        match part {
            Given::Piece(piece) => {
                let claim = piece.claim.as_ref().map(Into::into);
                let bytes = u32::try_from(piece.bytes.len()).unwrap_or(u32::MAX);
                let content = piece.content.map(|content| content.0);
                self.frame(&AnswerRecord::Piece { first: piece.first, bytes, claim, content }).await?;
                self.payload(&piece.bytes).await
            }
            Given::Hashes(hashes) => {
                let bytes: Vec<u8> = hashes.iter().flat_map(|hash| hash.0).collect();
                self.frame(&AnswerRecord::Hashes { count: u32::try_from(hashes.len()).unwrap_or(u32::MAX) }).await?;
                self.payload(&bytes).await
            }
            Given::Pieces(rows) => {
                self.frame(&AnswerRecord::Pieces { count: u32::try_from(rows.len()).unwrap_or(u32::MAX) }).await?;
                self.payload(&PieceRow::encode(&rows)).await
            }
        }
    }

    async fn frame(&mut self, record: &AnswerRecord) -> Result<(), FrameError> {
        let bytes = frame::encode(record)?;
        self.slice(&bytes).await
    }

    async fn payload(&mut self, bytes: &[u8]) -> Result<(), FrameError> {
        let mut left = bytes;
        while !left.is_empty() {
            let (slice, rest) = left.split_at(self.slice.bytes().min(left.len()));
            self.shared.upload.pass(slice.len()).await;
            self.slice(slice).await?;
            self.slice.went(slice.len(), Instant::now());
            left = rest;
        }
        Ok(())
    }

    async fn slice(&mut self, bytes: &[u8]) -> Result<(), FrameError> {
        let began = Instant::now();
        tokio::time::timeout(STALL, self.output.write_all(bytes)).await.map_err(|_| FrameError::Stalled)??;
        self.traffic.sent(bytes.len());
        self.waited.took(bytes.len(), began.elapsed());
        let others_wait = self.shared.uploads.available_permits() == 0;
        if self.waited.is_too_long(others_wait) { Err(FrameError::Stalled) } else { Ok(()) }
    }
}

/// How long an asker has let this node wait with an answer, and for how many bytes.
#[derive(Default)]
struct Waited {
    time: Duration,
    bytes: usize,
}

impl Waited {
    fn took(&mut self, bytes: usize, time: Duration) {
        (self.time, self.bytes) = (self.time + time, self.bytes + bytes);
    }

    /// Another answer begins, to which is added what those before took too long; a short one may have waited behind others.
    fn begins_another(&mut self) {
        self.time = self.time.saturating_sub(Duration::from_secs_f64(self.bytes.max(*SLICE.start()) as f64 / LEAST_ALONE));
        self.bytes = 0;
    }

    /// Whether so many bytes should have been taken sooner.
    fn is_too_long(&self, others_wait: bool) -> bool {
        let least = if others_wait { LEAST_BYTES_PER_SECOND } else { LEAST_ALONE };
        self.time > WHOLE + Duration::from_secs_f64(self.bytes as f64 / least)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slice_in_29_seconds_is_too_slow_in_the_long_run_and_a_slow_line_is_not() {
        let slices_of = |seconds, bytes: usize, others_wait| {
            move |slices: u32| {
                Waited { time: Duration::from_secs(seconds) * slices, bytes: bytes * slices as usize }.is_too_long(others_wait)
            }
        };
        let trickle = slices_of(29, *SLICE.end(), true);
        assert!(!trickle(2) && trickle(3));
        let half_a_megabit = slices_of(1, *SLICE.end(), true);
        assert!(!(1..64).any(half_a_megabit));
        // While nobody waits, one of 30 who share an uplink of 2 Mbit/s is no trickle.
        let (trickle, share) = (slices_of(29, *SLICE.start(), false), slices_of(8, *SLICE.end(), false));
        assert!(trickle(3) && !(1..64).any(share));
    }

    #[test]
    fn short_answers_are_no_leave_to_trickle() {
        let too_long_after = |bytes_per_second: f64| {
            let mut waited = Waited::default();
            (1..1000).find(|_| {
                waited.begins_another();
                waited.took(256 * 1024, Duration::from_secs_f64(256.0 * 1024.0 / bytes_per_second));
                waited.is_too_long(true)
            })
        };
        assert!(too_long_after(3_900.0).is_some_and(|answers| answers <= 3) && too_long_after(4_200.0).is_none());
        // A refusal that waits behind others' bytes is none either.
        let mut waited = Waited::default();
        for _ in 0..1000 {
            waited.begins_another();
            waited.took(10, Duration::from_millis(900));
        }
        assert!(!waited.is_too_long(true));
    }
}
