//! A TCP connection, written in long pieces where its line is fast, and with little on this side of a slow one.
//!
//! TLS reads 4 KiB at a time, and yamux writes each frame's header by itself, each of which would be a call of the kernel. What was taken
//! to be sent cannot be cancelled, and what is told later waits behind it: on a slow line that is shared by many, for seconds.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures::io::BufReader;
use futures::{AsyncRead, AsyncWrite};
use libp2p::tcp::tokio::TcpStream;
#[cfg(target_os = "linux")]
use socket2::SockRef;
use tokio::time::Instant;

use super::muxer::MOST_FRAME_BYTES;
use crate::pace::Portion;

/// How much is read or written in one call at most: a frame of a stream, its header and what TLS adds.
const PIECE_BYTES: usize = MOST_FRAME_BYTES + 2 * 1024;
/// How much waits here at the least, and as much again in the kernel.
const LEAST_BYTES: usize = 4 * 1024;

/// A connection's end in the kernel.
pub(super) trait Kernel: AsyncRead + AsyncWrite + Unpin {
    /// Takes more only while it holds less than so many bytes that are not on their way.
    fn hold_back(&self, bytes: usize);
}

impl Kernel for TcpStream {
    /// Linux looks at it where a packet begins, so that it may hold 64 KiB nevertheless.
    fn hold_back(&self, bytes: usize) {
        #[cfg(target_os = "linux")]
        if let Err(error) = SockRef::from(&self.0).set_tcp_notsent_lowat(u32::try_from(bytes).unwrap_or(u32::MAX)) {
            tracing::debug!(%error, "the kernel holds back as much as it likes");
        }
        #[cfg(not(target_os = "linux"))]
        let _ = bytes;
    }
}

/// The connection.
#[derive(Debug)]
pub(super) struct Wire<S> {
    stream: BufReader<S>,
    /// What was taken, and how much of it the kernel has.
    taken: Vec<u8>,
    given: usize,
    /// Whether the kernel has no room for all of it.
    is_refused: bool,
    /// How much is taken before it is given.
    portion: Portion,
    held_back: usize,
}

impl<S: Kernel> Wire<S> {
    pub(super) fn new(stream: S) -> Self {
        let portion = Portion::new(LEAST_BYTES..=PIECE_BYTES, Instant::now());
        stream.hold_back(portion.bytes());
        Self {
            stream: BufReader::with_capacity(PIECE_BYTES, stream),
            taken: Vec::with_capacity(PIECE_BYTES),
            given: 0,
            is_refused: false,
            held_back: portion.bytes(),
            portion,
        }
    }

    /// Gives the kernel all that was taken.
    fn poll_give(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.given < self.taken.len() {
            let given = Pin::new(self.stream.get_mut()).poll_write(cx, &self.taken[self.given..]);
            self.is_refused = given.is_pending();
            match ready!(given)? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                bytes => self.given += bytes,
            }
        }
        self.portion.went(self.given, Instant::now());
        if self.held_back != self.portion.bytes() {
            self.held_back = self.portion.bytes();
            self.stream.get_ref().hold_back(self.held_back);
        }
        self.taken.clear();
        self.given = 0;
        Poll::Ready(Ok(()))
    }
}

impl<S: Kernel> AsyncRead for Wire<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_read(cx, into)
    }
}

impl<S: Kernel> AsyncWrite for Wire<S> {
    /// Takes nothing more while the kernel refuses what was taken before.
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.is_refused || self.taken.len() >= self.portion.bytes() {
            ready!(self.poll_give(cx))?;
        }
        let most = bytes.len().min(self.portion.bytes() - self.taken.len());
        self.taken.extend_from_slice(&bytes[..most]);
        Poll::Ready(Ok(most))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_give(cx))?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_give(cx))?;
        Pin::new(&mut self.stream).poll_close(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::task::Waker;
    use std::time::Duration;

    use super::*;

    const KIB: usize = 1024;

    /// A kernel with so much room.
    #[derive(Default)]
    struct Room {
        room: usize,
        has: Vec<u8>,
        held_back: Cell<usize>,
    }

    impl Kernel for Room {
        fn hold_back(&self, bytes: usize) {
            self.held_back.set(bytes);
        }
    }

    impl AsyncRead for Room {
        fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut [u8]) -> Poll<io::Result<usize>> {
            Poll::Pending
        }
    }

    impl AsyncWrite for Room {
        fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            let most = bytes.len().min(self.room);
            if most == 0 {
                return Poll::Pending;
            }
            self.room -= most;
            self.has.extend_from_slice(&bytes[..most]);
            Poll::Ready(Ok(most))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    fn write(wire: &mut Wire<Room>, bytes: &[u8]) -> usize {
        let cx = &mut Context::from_waker(Waker::noop());
        match Pin::new(wire).poll_write(cx, bytes) {
            Poll::Ready(taken) => taken.unwrap(),
            Poll::Pending => 0,
        }
    }

    #[test]
    fn nothing_is_taken_beside_what_the_kernel_refuses_and_all_comes_in_order() {
        let mut wire = Wire::new(Room { room: 2 * KIB, ..Room::default() });
        let sent: Vec<u8> = (0..100 * KIB).map(|at| (at / 7) as u8).collect();
        let cx = &mut Context::from_waker(Waker::noop());
        let mut taken = write(&mut wire, &sent[..3 * KIB]);
        assert!(Pin::new(&mut wire).poll_flush(cx).is_pending());
        assert_eq!((taken, wire.stream.get_ref().has.len()), (3 * KIB, 2 * KIB));
        // There is room here, and none there.
        assert_eq!(write(&mut wire, &sent[taken..]), 0);
        // Room for a part of it is no room for more.
        wire.stream.get_mut().room = KIB / 2;
        assert_eq!(write(&mut wire, &sent[taken..]), 0);
        wire.stream.get_mut().room = usize::MAX;
        while taken < sent.len() {
            taken += write(&mut wire, &sent[taken..]);
        }
        assert!(Pin::new(&mut wire).poll_flush(cx).is_ready());
        assert_eq!(wire.stream.get_ref().has, sent);
    }

    #[test]
    fn a_fast_line_is_given_long_pieces_and_what_has_become_slow_short_ones() {
        let mut wire = Wire::new(Room { room: usize::MAX, ..Room::default() });
        let piece = vec![0; PIECE_BYTES];
        for _ in 0..1000 {
            write(&mut wire, &piece);
        }
        assert_eq!(wire.portion.bytes(), PIECE_BYTES);
        assert_eq!(wire.stream.get_ref().held_back.get(), PIECE_BYTES);
        wire.portion.went(0, Instant::now() + Duration::from_secs(3600));
        write(&mut wire, &piece);
        assert_eq!(write(&mut wire, &piece), LEAST_BYTES);
        assert_eq!(wire.stream.get_ref().held_back.get(), LEAST_BYTES);
    }
}
