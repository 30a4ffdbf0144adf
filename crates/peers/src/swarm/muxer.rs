//! Yamux with a bound on what a peer may have us hold unread, which libp2p's own upgrade leaves at 1 GiB a connection.
//!
//! Does what libp2p-yamux 0.48 does, with that bound, one on the streams that wait to be taken, and longer frames.

use std::collections::VecDeque;
use std::future::{Future, Ready, ready};
use std::io;
use std::iter;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use futures::{AsyncRead, AsyncWrite};
use libp2p::core::muxing::{StreamMuxer, StreamMuxerEvent};
use libp2p::core::upgrade::{InboundConnectionUpgrade, OutboundConnectionUpgrade, UpgradeInfo};
use tokio::time::{Sleep, sleep};
use yamux::{Connection, Mode, Stream};

/// The most streams on a connection, those of all protocols together: ours need 12.
pub(super) const MOST_STREAMS: usize = 32;
/// The longest frame of a stream: what the control stream may have to wait for.
pub(super) const MOST_FRAME_BYTES: usize = 64 * 1024;
/// What yamux grants each stream at the least.
const LEAST_WINDOW_BYTES: usize = 256 * 1024;
/// The most unread bytes of a connection: one stream may come to two thirds of it, which is what a gigabit with 130 ms
/// there and back has in flight.
pub(super) const MOST_UNREAD_BYTES: usize = 24 * 1024 * 1024;
/// The same for a connection to a bootstrap, which has a thousand and few bytes on each.
pub(super) const MOST_UNREAD_BYTES_OF_BOOTSTRAP: usize = 10 * 1024 * 1024;
const _: () = assert!(MOST_UNREAD_BYTES_OF_BOOTSTRAP >= MOST_STREAMS * LEAST_WINDOW_BYTES);
/// The most streams that a peer has opened and the connection has not taken up; more are closed.
const MOST_UNTAKEN: usize = 16;
/// How long a connection that is closed has for what waits to be sent on it: its place is taken meanwhile.
const CLOSES: Duration = Duration::from_secs(2);

/// The upgrade.
#[derive(Debug, Clone)]
pub(super) struct Upgrade(yamux::Config);

impl Upgrade {
    pub(super) fn new(most_unread_bytes: usize) -> Self {
        let mut config = yamux::Config::default();
        config.set_max_num_streams(MOST_STREAMS);
        config.set_split_send_size(MOST_FRAME_BYTES);
        config.set_max_connection_receive_window(Some(most_unread_bytes));
        Self(config)
    }
}

impl UpgradeInfo for Upgrade {
    type Info = &'static str;
    type InfoIter = iter::Once<&'static str>;

    fn protocol_info(&self) -> Self::InfoIter {
        iter::once("/yamux/1.0.0")
    }
}

impl<C: AsyncRead + AsyncWrite + Unpin> InboundConnectionUpgrade<C> for Upgrade {
    type Output = Muxer<C>;
    type Error = io::Error;
    type Future = Ready<io::Result<Muxer<C>>>;

    fn upgrade_inbound(self, socket: C, _: Self::Info) -> Self::Future {
        ready(Ok(Muxer::new(Connection::new(socket, self.0, Mode::Server))))
    }
}

impl<C: AsyncRead + AsyncWrite + Unpin> OutboundConnectionUpgrade<C> for Upgrade {
    type Output = Muxer<C>;
    type Error = io::Error;
    type Future = Ready<io::Result<Muxer<C>>>;

    fn upgrade_outbound(self, socket: C, _: Self::Info) -> Self::Future {
        ready(Ok(Muxer::new(Connection::new(socket, self.0, Mode::Client))))
    }
}

/// A connection.
#[derive(Debug)]
pub(super) struct Muxer<C> {
    connection: Connection<C>,
    /// Streams that came while the connection was polled for its own progress, for `poll_inbound` to give.
    waiting: VecDeque<Stream>,
    waker: Option<Waker>,
    /// When it is closed without what waits.
    closes: Option<Pin<Box<Sleep>>>,
}

impl<C: AsyncRead + AsyncWrite + Unpin> Muxer<C> {
    fn new(connection: Connection<C>) -> Self {
        Self { connection, waiting: VecDeque::new(), waker: None, closes: None }
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Stream>> {
        let next = ready!(self.connection.poll_next_inbound(cx));
        Poll::Ready(next.unwrap_or(Err(yamux::ConnectionError::Closed)).map_err(io::Error::other))
    }
}

impl<C: AsyncRead + AsyncWrite + Unpin> StreamMuxer for Muxer<C> {
    type Substream = Stream;
    type Error = io::Error;

    fn poll_inbound(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<Stream>> {
        if let Some(stream) = self.waiting.pop_front() {
            return Poll::Ready(Ok(stream));
        }
        let next = self.poll_next(cx);
        if next.is_pending() {
            self.waker = Some(cx.waker().clone());
        }
        next
    }

    fn poll_outbound(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<Stream>> {
        self.connection.poll_new_outbound(cx).map_err(io::Error::other)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.closes.get_or_insert_with(|| Box::pin(sleep(CLOSES))).as_mut().poll(cx).is_ready() {
            return Poll::Ready(Ok(()));
        }
        self.connection.poll_close(cx).map_err(io::Error::other)
    }

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<StreamMuxerEvent>> {
        let stream = ready!(self.poll_next(cx))?;
        if self.waiting.len() < MOST_UNTAKEN {
            self.waiting.push_back(stream);
            if let Some(waker) = self.waker.take() {
                waker.wake();
            }
        }
        // There may be more: others have their turn first.
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use futures::AsyncWriteExt;
    use libp2p::core::muxing::StreamMuxerExt;
    use tokio::time::timeout;
    use tokio_util::compat::TokioAsyncReadCompatExt;

    use super::*;

    #[tokio::test]
    async fn a_connection_whose_other_end_takes_nothing_is_closed_all_the_same() {
        let (near, _far) = tokio::io::duplex(1024);
        let mut muxer = Upgrade::new(MOST_UNREAD_BYTES).upgrade_outbound(near.compat(), "").await.unwrap();
        let mut stream = poll_fn(|cx| muxer.poll_outbound_unpin(cx)).await.unwrap();
        let sends = async { futures::join!(stream.write_all(&[0; 1 << 18]), poll_fn(|cx| muxer.poll_unpin(cx))) };
        assert!(timeout(Duration::from_millis(200), sends).await.is_err(), "all was taken");
        timeout(2 * CLOSES, muxer.close()).await.expect("it waits").unwrap();
    }
}
