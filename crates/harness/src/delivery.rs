//! The way of a body from its source to the socket: faults, rates and the count lie on it.

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;

use crate::counts::Meter;
use crate::faults::Fault;
use crate::serve::Body;
use crate::throttle::Throttle;

/// How long a cut waits, so that what was sent before it leaves.
const CUT_DELAY: Duration = Duration::from_millis(20);

/// What happens to a body on its way.
#[derive(Debug, Default)]
pub(crate) struct Way {
    /// Stops after so many bytes of this body.
    stall: Option<u64>,
    /// Fails after so many bytes of this body.
    cut: Option<u64>,
    /// Offsets in the file.
    flips: Vec<u64>,
    /// The offset in the file from which bytes are others.
    rewrite: Option<u64>,
    throttles: Vec<Arc<Throttle>>,
    /// The most bytes that go at once.
    piece_bytes: Option<usize>,
}

impl Way {
    /// The way of a body that is `content` of a file, with `faults` on it, at no more than the rate of `throttle`.
    pub(crate) fn new(faults: &[Fault], content: &Range<u64>, throttle: Option<&Arc<Throttle>>) -> Self {
        let mut way = Self { throttles: throttle.cloned().into_iter().collect(), ..Self::default() };
        for fault in faults {
            match fault {
                Fault::Stall { after } => way.stall = Some(*after),
                Fault::Cut { percent } => way.cut = Some((content.end - content.start) * u64::from(*percent).min(100) / 100),
                Fault::Flip { at } => way.flips.push(*at),
                Fault::Rewrite { from } => way.rewrite = Some(*from),
                Fault::Slow { bytes_per_second } => way.throttles.push(Arc::new(Throttle::new(*bytes_per_second))),
                Fault::Status { .. }
                | Fault::IgnoreRange
                | Fault::Length { .. }
                | Fault::DropHeader { .. }
                | Fault::SetHeader { .. }
                | Fault::RedirectLoop
                | Fault::RedirectTo { .. }
                | Fault::Refuse => {}
            }
        }
        way
    }

    /// The same, with no more than so many bytes at once.
    pub(crate) fn in_pieces(self, piece_bytes: Option<usize>) -> Self {
        Self { piece_bytes, ..self }
    }

    fn is_plain(&self) -> bool {
        let Self { stall, cut, flips, rewrite, throttles, piece_bytes } = self;
        let whole = stall.is_none() && cut.is_none() && piece_bytes.is_none();
        whole && flips.is_empty() && rewrite.is_none() && throttles.is_empty()
    }

    /// How many of the next `bytes` may go at once after `sent`.
    fn step(&self, sent: u64, bytes: usize) -> usize {
        let stops = [self.stall, self.cut].into_iter().flatten().map(|stop| usize::try_from(stop - sent).unwrap_or(usize::MAX));
        let pieces = self.throttles.iter().map(|throttle| throttle.piece()).chain(self.piece_bytes);
        stops.chain(pieces).fold(bytes, usize::min)
    }

    /// What becomes of `piece`, which lies at `offset` in the file.
    fn spoil(&self, offset: u64, piece: Bytes) -> Bytes {
        let end = offset + piece.len() as u64;
        let flips = self.flips.iter().filter(|at| (offset..end).contains(*at));
        let place = |at: u64| usize::try_from(at.saturating_sub(offset)).unwrap_or(usize::MAX);
        let rewritten = self.rewrite.filter(|from| *from < end).map(place);
        if flips.clone().next().is_none() && rewritten.is_none() {
            return piece;
        }
        let mut piece = piece.to_vec();
        flips.for_each(|at| piece[place(*at)] ^= 1);
        if let Some(start) = rewritten {
            piece[start..].iter_mut().for_each(|byte| *byte = !*byte);
        }
        piece.into()
    }
}

struct Delivery {
    source: BoxStream<'static, io::Result<Bytes>>,
    way: Way,
    meter: Meter,
    /// What the source gave and was not sent yet.
    rest: Bytes,
    /// Where in the file the body begins.
    start: u64,
    sent: u64,
}

/// Sends `source`, which lies at offset `start` of its file, along `way`.
pub(crate) fn deliver(source: BoxStream<'static, io::Result<Bytes>>, start: u64, way: Way, meter: Meter) -> Body {
    if way.is_plain() {
        let counted = source.map(move |piece| {
            piece.map(|piece| {
                meter.add(piece.len() as u64);
                Frame::data(piece)
            })
        });
        return StreamBody::new(counted).boxed_unsync();
    }
    let delivery = Delivery { source, way, meter, rest: Bytes::new(), start, sent: 0 };
    let frames = stream::unfold(delivery, |mut delivery| async { Some((delivery.next().await?.map(Frame::data), delivery)) });
    StreamBody::new(frames).boxed_unsync()
}

impl Delivery {
    async fn next(&mut self) -> Option<io::Result<Bytes>> {
        if self.way.stall == Some(self.sent) {
            std::future::pending::<()>().await;
        }
        if self.way.cut == Some(self.sent) {
            tokio::time::sleep(CUT_DELAY).await;
            return Some(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        while self.rest.is_empty() {
            match self.source.next().await? {
                Ok(bytes) => self.rest = bytes,
                Err(error) => return Some(Err(error)),
            }
        }
        let piece = self.rest.split_to(self.way.step(self.sent, self.rest.len()));
        let piece = self.way.spoil(self.start + self.sent, piece);
        for throttle in &self.way.throttles {
            throttle.pass(piece.len() as u64).await;
        }
        self.sent += piece.len() as u64;
        self.meter.add(piece.len() as u64);
        Some(Ok(piece))
    }
}
