//! The side that asks. One task a link opens the stream when it is first needed, writes questions and sorts the answers.

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures::io::WriteHalf;
use futures::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use larder_content::{CHUNK_BYTES, ChunkHash, Claim, ContentId, FileKey, PieceRow};
use libp2p::Stream;
use tokio::sync::{Notify, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

use super::fetched::{ChunkStream, Part, Signs};
use super::frame::{AnswerRecord, AskRecord, ClaimRecord};
use super::queue::Place;
use super::{ChunkRequest, FetchError, MOST_ASKS, MOST_CHUNKS, MOST_HASHES, MOST_ROWS, PIECE_BYTES, Piece, Queue, Wanted};
use crate::frame;
use crate::identity::has_signed;
use crate::shared::{Shared, Traffic, lock};

/// Bytes read at once when downloads are capped.
const CAPPED_SLICE: usize = 64 * 1024;

/// How often it is said that a peer lives of which no more is read because this node takes too little; and how often before one piece of the
/// link is read nevertheless, after 10 s.
const HOLD: Duration = Duration::from_millis(250);
const MOST_HOLDS: usize = 40;

/// A link's place to put questions.
#[derive(Debug, Clone)]
pub(crate) struct Asker {
    asks: mpsc::Sender<Ask>,
    changed: Arc<Notify>,
}

/// The other end of an [`Asker`].
#[derive(Debug)]
pub(crate) struct Asks {
    asks: mpsc::Receiver<Ask>,
    changed: Arc<Notify>,
}

#[derive(Debug)]
struct Ask {
    file: FileKey,
    content: Option<ContentId>,
    wanted: Wanted,
    parts: mpsc::Sender<Result<Part, FetchError>>,
    signs: Arc<Signs>,
    cancel_sent: bool,
}

impl Asker {
    pub(crate) fn new() -> (Self, Asks) {
        let (sender, asks) = mpsc::channel(MOST_ASKS);
        let changed = Arc::new(Notify::new());
        (Self { asks: sender, changed: Arc::clone(&changed) }, Asks { asks, changed })
    }

    /// Asks for chunks; waits while 256 questions wait before it.
    pub(crate) async fn chunks(&self, request: ChunkRequest) -> Result<ChunkStream, FetchError> {
        let count = request.chunks.end.saturating_sub(request.chunks.start);
        if count == 0 || count > MOST_CHUNKS {
            return Err(FetchError::Unreachable);
        }
        self.ask(request.file, request.content, Wanted::Chunks(request.chunks), count).await
    }

    /// Asks for chunk hashes.
    pub(crate) async fn hashes(&self, file: FileKey, content: Option<ContentId>, chunks: Range<u64>) -> Result<ChunkStream, FetchError> {
        let count = chunks.end.saturating_sub(chunks.start);
        if count == 0 || count > MOST_HASHES {
            return Err(FetchError::Unreachable);
        }
        self.ask(file, content, Wanted::Hashes(chunks), 1).await
    }

    /// Asks for pieces of whatever the peer has as that file.
    pub(crate) async fn pieces(&self, file: FileKey, rows: Range<u64>) -> Result<ChunkStream, FetchError> {
        let count = rows.end.saturating_sub(rows.start);
        if count == 0 || count > MOST_ROWS {
            return Err(FetchError::Unreachable);
        }
        self.ask(file, None, Wanted::Pieces(rows), 1).await
    }

    async fn ask(&self, file: FileKey, content: Option<ContentId>, wanted: Wanted, parts: u64) -> Result<ChunkStream, FetchError> {
        // Room for all parts, an error and the end: one answer that nobody takes never holds up the next.
        let (sender, receiver) = mpsc::channel(usize::try_from(parts).unwrap_or(1) + 2);
        let signs = Arc::<Signs>::default();
        let ask = Ask { file, content, wanted, parts: sender, signs: Arc::clone(&signs), cancel_sent: false };
        self.asks.send(ask).await.map_err(|_| FetchError::Unreachable)?;
        Ok(ChunkStream { parts: Some(receiver), signs, cancelled: Arc::clone(&self.changed) })
    }
}

/// Works off the questions of a link until the link ends. `open` opens a bulk stream to the peer.
pub(crate) async fn ask_all<O, F>(shared: Arc<Shared>, traffic: Arc<Traffic>, ends: CancellationToken, mut asks: Asks, open: O)
where
    O: Fn() -> F,
    F: Future<Output = Option<Stream>>,
{
    let left = || FetchError::Broken("the peer left".into());
    loop {
        let ask = tokio::select! {
            () = ends.cancelled() => break,
            ask = asks.asks.recv() => ask,
        };
        let Some(ask) = ask else { return };
        let stream = tokio::select! {
            () = ends.cancelled() => None,
            stream = open() => stream,
        };
        let Some(stream) = stream else {
            let _ = ask.parts.try_send(Err(FetchError::Unreachable));
            continue;
        };
        let (changed, overdue) = (Arc::clone(&asks.changed), Arc::new(Semaphore::new(1)));
        let session = Session { waiting: Mutex::default(), changed, overdue };
        let (mut input, output) = stream.split();
        let ended = tokio::select! {
            () = ends.cancelled() => left(),
            error = session.write(output, ask, &mut asks.asks, &traffic) => FetchError::Broken(error.to_string()),
            error = session.read(&mut input, &shared, &traffic) => error,
        };
        session.fail_all(&ended);
    }
    asks.asks.close();
    while let Ok(ask) = asks.asks.try_recv() {
        let _ = ask.parts.try_send(Err(left()));
    }
}

/// The questions on one stream that are not answered to the end.
struct Session {
    waiting: Mutex<Waiting>,
    changed: Arc<Notify>,
    /// Room for one piece when there has been none for long.
    overdue: Arc<Semaphore>,
}

#[derive(Default)]
struct Waiting {
    asks: VecDeque<Ask>,
    /// The number of the first of them.
    first: u64,
}

impl Session {
    async fn write(&self, mut output: WriteHalf<Stream>, first: Ask, asks: &mut mpsc::Receiver<Ask>, traffic: &Traffic) -> std::io::Error {
        let mut next = Some(first);
        loop {
            let mut bytes = Vec::new();
            while let Some(ask) = next.take() {
                bytes.extend(frame::encode(&ask.record()).unwrap_or_default());
                lock(&self.waiting).asks.push_back(ask);
                if lock(&self.waiting).asks.len() < MOST_ASKS {
                    next = asks.try_recv().ok();
                }
            }
            bytes.extend(self.cancels());
            if !bytes.is_empty() {
                traffic.sent(bytes.len());
                let sent = async {
                    output.write_all(&bytes).await?;
                    output.flush().await
                };
                if let Err(error) = sent.await {
                    return error;
                }
            }
            let has_room = lock(&self.waiting).asks.len() < MOST_ASKS;
            tokio::select! {
                () = self.changed.notified() => {}
                ask = asks.recv(), if has_room => match ask {
                    Some(ask) => next = Some(ask),
                    None => return std::io::ErrorKind::ConnectionAborted.into(),
                },
            }
        }
    }

    /// Frames for the questions whose askers have gone since.
    fn cancels(&self) -> Vec<u8> {
        let mut waiting = lock(&self.waiting);
        let first = waiting.first;
        let mut bytes = Vec::new();
        for (number, ask) in (first..).zip(&mut waiting.asks) {
            if !ask.cancel_sent && ask.parts.is_closed() {
                ask.cancel_sent = true;
                bytes.extend(frame::encode(&AskRecord::Cancel { ask: number }).unwrap_or_default());
            }
        }
        bytes
    }

    async fn read(&self, input: &mut (impl AsyncRead + Unpin), shared: &Shared, traffic: &Traffic) -> FetchError {
        let mut reading = Reading { claim: None, progress: None };
        loop {
            let (record, length) = match frame::read::<AnswerRecord>(input).await {
                Ok(read) => read,
                Err(error) if error.is_offence() => return FetchError::Lied(error.to_string()),
                Err(error) => return FetchError::Broken(error.to_string()),
            };
            traffic.received(length);
            let front = lock(&self.waiting).asks.front().map(|ask| {
                let Ask { file, wanted, parts, signs, .. } = ask;
                Front { file: *file, wanted: wanted.clone(), parts: parts.clone(), signs: Arc::clone(signs) }
            });
            let Some(front) = front else { return FetchError::Lied("an answer to nothing".into()) };
            match reading.take(input, record, &front, shared, traffic).await {
                Ok(Progress::Came(piece)) => {
                    let _place = self.room_for(&piece, &front, &shared.queue).await;
                    let _ = front.parts.try_send(Ok(Part::Piece { piece, _place }));
                }
                Ok(Progress::Goes) => {}
                Ok(Progress::Ends) => {
                    let mut waiting = lock(&self.waiting);
                    waiting.asks.pop_front();
                    waiting.first += 1;
                    drop(waiting);
                    self.changed.notify_one();
                }
                Err(error) => return error,
            }
        }
    }

    /// Waits until a piece more may wait for this node. Not if nobody waits for it; and after a while one piece of the link may wait beyond what
    /// there is room for, since its peer would take this node for stalled. All that the peer was asked for is held up meanwhile.
    async fn room_for(&self, piece: &Piece, front: &Front, queue: &Queue) -> Option<Place> {
        let place = queue.place(piece.bytes.len());
        tokio::pin!(place);
        let mut holds = 0;
        loop {
            tokio::select! {
                biased;
                () = front.parts.closed() => return None,
                place = &mut place => return place,
                place = Arc::clone(&self.overdue).acquire_owned(), if holds >= MOST_HOLDS => return place.ok(),
                () = tokio::time::sleep(HOLD) => {}
            }
            for ask in &lock(&self.waiting).asks {
                ask.signs.held_up.fetch_add(1, Ordering::Relaxed);
            }
            holds += 1;
        }
    }

    /// Only the question being answered is told of a lie; for the others the connection broke.
    fn fail_all(&self, error: &FetchError) {
        let mut error = error.clone();
        for ask in lock(&self.waiting).asks.drain(..) {
            let _ = ask.parts.try_send(Err(error.clone()));
            if let FetchError::Lied(what) = error {
                error = FetchError::Broken(what);
            }
        }
    }
}

impl Ask {
    fn record(&self) -> AskRecord {
        let (file, content) = (self.file.0, self.content.map(|content| content.0));
        match &self.wanted {
            Wanted::Chunks(chunks) => AskRecord::Chunks { file, content, first: chunks.start, count: chunks.end - chunks.start },
            Wanted::Hashes(chunks) => AskRecord::Hashes { file, content, first: chunks.start, count: chunks.end - chunks.start },
            Wanted::Pieces(rows) => AskRecord::Pieces { file, first: rows.start, count: rows.end - rows.start },
        }
    }
}

/// The question whose answer is coming.
struct Front {
    file: FileKey,
    wanted: Wanted,
    parts: mpsc::Sender<Result<Part, FetchError>>,
    signs: Arc<Signs>,
}

#[allow(clippy::large_enum_variant, reason = "nearly all are pieces")]
enum Progress {
    Came(Piece),
    Goes,
    Ends,
}

/// What is remembered from one answer to the next.
struct Reading {
    /// The last claim that was checked: it comes with each of its pieces.
    claim: Option<Claim>,
    /// Where the next piece of the present answer may begin.
    progress: Option<u64>,
}

impl Reading {
    async fn take(
        &mut self,
        input: &mut (impl AsyncRead + Unpin),
        record: AnswerRecord,
        front: &Front,
        shared: &Shared,
        traffic: &Traffic,
    ) -> Result<Progress, FetchError> {
        match (record, &front.wanted) {
            (AnswerRecord::Piece { first, bytes, claim, content }, Wanted::Chunks(wanted)) => {
                let length = bytes as usize;
                let end = first.saturating_add((length as u64).div_ceil(CHUNK_BYTES));
                let from = self.progress.unwrap_or(wanted.start);
                if length == 0 || length > PIECE_BYTES || first < from || end > wanted.end {
                    return Err(FetchError::Lied(format!("chunks {first}..{end} where {from}..{} were asked for", wanted.end)));
                }
                // Only a file's last chunk is short, so nothing comes after one.
                self.progress = Some(if (length as u64).is_multiple_of(CHUNK_BYTES) { end } else { wanted.end });
                let claim = claim.map(|claim| self.check(claim, front.file, first..end, &shared.address)).transpose()?;
                let bytes = self.fill(input, length, front, shared, traffic).await?;
                Ok(Progress::Came(Piece { first, bytes, claim, content: content.map(ContentId) }))
            }
            (AnswerRecord::Hashes { count }, Wanted::Hashes(wanted)) => {
                if self.progress.is_some() || u64::from(count) != wanted.end - wanted.start {
                    return Err(FetchError::Lied(format!("{count} hashes where {wanted:?} were asked for")));
                }
                self.progress = Some(wanted.end);
                let bytes = self.fill(input, count as usize * 32, front, shared, traffic).await?;
                let hash = |bytes: &[u8]| ChunkHash(bytes.try_into().unwrap_or([0; 32]));
                let _ = front.parts.try_send(Ok(Part::Hashes(bytes.chunks(32).map(hash).collect())));
                Ok(Progress::Goes)
            }
            (AnswerRecord::Pieces { count }, Wanted::Pieces(wanted)) => {
                if self.progress.is_some() || count == 0 || u64::from(count) > wanted.end - wanted.start {
                    return Err(FetchError::Lied(format!("{count} pieces where {wanted:?} were asked for")));
                }
                self.progress = Some(wanted.end);
                let bytes = self.fill(input, count as usize * PieceRow::BYTES, front, shared, traffic).await?;
                let _ = front.parts.try_send(Ok(Part::Pieces(PieceRow::decode(&bytes).unwrap_or_default())));
                Ok(Progress::Goes)
            }
            (AnswerRecord::Piece { .. } | AnswerRecord::Hashes { .. } | AnswerRecord::Pieces { .. }, _) => {
                Err(FetchError::Lied("an answer to another question".into()))
            }
            (AnswerRecord::End, _) => {
                self.progress = None;
                let _ = front.parts.try_send(Ok(Part::End));
                Ok(Progress::Ends)
            }
            (AnswerRecord::Refused, _) => {
                self.progress = None;
                let _ = front.parts.try_send(Err(FetchError::Refused));
                Ok(Progress::Ends)
            }
        }
    }

    async fn fill(
        &self,
        input: &mut (impl AsyncRead + Unpin),
        length: usize,
        front: &Front,
        shared: &Shared,
        traffic: &Traffic,
    ) -> Result<Bytes, FetchError> {
        let buffers = &shared.queue.buffers;
        let mut buffer = buffers.take(length);
        let mut filled = 0;
        while filled < length {
            let most = if shared.download.is_set() { CAPPED_SLICE.min(length - filled) } else { length - filled };
            let count = input.read(&mut buffer[filled..filled + most]).await.map_err(|error| FetchError::Broken(error.to_string()))?;
            if count == 0 {
                return Err(FetchError::Broken("the stream ended in a piece".into()));
            }
            filled += count;
            traffic.received(count);
            front.signs.received.fetch_add(count as u64, Ordering::Relaxed);
            shared.download.pass(count).await;
        }
        Ok(buffers.keep(buffer, length))
    }

    fn check(&mut self, record: ClaimRecord, file: FileKey, chunks: Range<u64>, market: &str) -> Result<Claim, FetchError> {
        let claim = record.into_claim(file);
        let covered = claim.chunks();
        if claim.hashes.len() > Claim::MAX_CHUNKS || covered.start > chunks.start || covered.end < chunks.end {
            return Err(FetchError::Lied("a claim for other chunks".into()));
        }
        if self.claim.as_ref() != Some(&claim) {
            let digest = Claim::digest(market, file, claim.first, &claim.hashes);
            if !has_signed(claim.signer, &digest, &claim.signature) {
                return Err(FetchError::Lied("a claim that its signer did not sign".into()));
            }
            self.claim = Some(claim.clone());
        }
        Ok(claim)
    }
}
