//! A TCP connection, written in long pieces where its line is fast, and with little on this side of a slow one.
//!
//! TLS reads 4 KiB at a time, and yamux writes each frame's header by itself, each of which would be a call of the kernel. What was taken
//! to be sent cannot be cancelled, and what is told later waits behind it: on a slow line that is shared by many, for seconds.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures::io::BufReader;
use futures::{AsyncRead, AsyncWrite};
use tokio::time::Instant;

use super::muxer::MOST_FRAME_BYTES;

/// How much is read or written in one call at most: a frame of a stream, its header and what TLS adds.
const PIECE_BYTES: usize = MOST_FRAME_BYTES + 2 * 1024;
/// What waits here, and as much again in the kernel, is what the line carries in that time.
const HELD_BACK: Duration = Duration::from_millis(50);
const LEAST_HELD_BYTES: usize = 4 * 1024;
/// Before the line is known.
const FIRST_HELD_BYTES: usize = 16 * 1024;
/// How long a line is measured before it counts.
const MEASURE: Duration = Duration::from_millis(200);

/// The connection.
#[derive(Debug)]
pub(super) struct Wire<S> {
    stream: BufReader<S>,
    /// What was taken, and how much of it the kernel has.
    taken: Vec<u8>,
    given: usize,
    line: Line,
    /// How much the kernel was told to hold back.
    told: usize,
    /// Has the kernel hold back so many bytes at most that are not on their way.
    hold_back: fn(&S, usize),
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    pub(super) fn new(stream: S, hold_back: fn(&S, usize)) -> Self {
        hold_back(&stream, FIRST_HELD_BYTES);
        let stream = BufReader::with_capacity(PIECE_BYTES, stream);
        Self { stream, taken: Vec::with_capacity(PIECE_BYTES), given: 0, line: Line::default(), told: FIRST_HELD_BYTES, hold_back }
    }

    /// Gives the kernel all that was taken.
    fn poll_give(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.given < self.taken.len() {
            match Pin::new(&mut self.stream).poll_write(cx, &self.taken[self.given..]) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(bytes)) => {
                    self.given += bytes;
                    self.line.took(bytes);
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {
                    self.line.refused(Instant::now());
                    self.tell_kernel();
                    return Poll::Pending;
                }
            }
        }
        self.line.goes_on(self.taken.len(), Instant::now());
        self.tell_kernel();
        self.taken.clear();
        self.given = 0;
        Poll::Ready(Ok(()))
    }

    fn tell_kernel(&mut self) {
        if self.told != self.line.held {
            self.told = self.line.held;
            (self.hold_back)(self.stream.get_ref(), self.told);
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Wire<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_read(cx, into)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Wire<S> {
    /// Takes nothing more while the kernel refuses what was taken before.
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.line.is_refusing() || self.taken.len() >= self.line.held {
            ready!(self.poll_give(cx))?;
        }
        let most = bytes.len().min(self.line.held - self.taken.len());
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

/// What the line carries, as far as it is what holds up: from one refusal of the kernel to another.
#[derive(Debug)]
struct Line {
    /// The most bytes that are held on this side.
    held: usize,
    /// Bytes since a refusal, and how long it refused since.
    since: Option<Instant>,
    bytes: usize,
    refusing: Option<Instant>,
    waited: Duration,
}

impl Default for Line {
    fn default() -> Self {
        Self { held: FIRST_HELD_BYTES, since: None, bytes: 0, refusing: None, waited: Duration::ZERO }
    }
}

impl Line {
    fn is_refusing(&self) -> bool {
        self.refusing.is_some()
    }

    fn took(&mut self, bytes: usize) {
        self.bytes += bytes;
    }

    /// The kernel takes no more.
    fn refused(&mut self, now: Instant) {
        if self.refusing.is_some() {
            return;
        }
        self.refusing = Some(now);
        let measured = self.since.map_or(Duration::MAX, |since| now - since);
        if measured < MEASURE {
            return;
        }
        // Else it was this node that had nothing to send.
        if self.waited >= measured / 2 {
            let carried = self.bytes as f64 * HELD_BACK.as_secs_f64() / measured.as_secs_f64();
            self.held = (carried as usize).clamp(LEAST_HELD_BYTES, PIECE_BYTES);
        }
        (self.since, self.bytes, self.waited) = (Some(now), 0, Duration::ZERO);
    }

    /// It has taken all of so many bytes.
    fn goes_on(&mut self, bytes: usize, now: Instant) {
        if let Some(at) = self.refusing.take() {
            self.waited += now - at;
        } else if bytes >= self.held && self.since.is_none_or(|since| now - since > MEASURE) {
            // It has taken them at once, and all before them of late.
            self.held = (self.held * 2).min(PIECE_BYTES);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    const KIB: usize = 1024;

    /// A stream always has more to send, and its line carries so much, for 5 s.
    fn pass(line: &mut Line, bytes_per_second: usize, now: &mut Instant) {
        let end = *now + Duration::from_secs(5);
        while *now < end {
            line.refused(*now);
            let bytes = line.held;
            *now += Duration::from_secs_f64(bytes as f64 / bytes_per_second as f64);
            line.took(bytes);
            line.goes_on(bytes, *now);
        }
    }

    #[test]
    fn what_is_held_is_what_the_line_carries_in_a_twentieth_of_a_second() {
        let (mut line, mut now) = (Line::default(), Instant::now());
        pass(&mut line, 15_000, &mut now);
        assert_eq!(line.held, LEAST_HELD_BYTES);
        pass(&mut line, 400_000, &mut now);
        assert!((19_000..=21_000).contains(&line.held), "{}", line.held);
        pass(&mut line, 10_000_000, &mut now);
        assert_eq!(line.held, PIECE_BYTES);
        pass(&mut line, 15_000, &mut now);
        // A line that takes all at once is not known to be slow any more.
        now += Duration::from_secs(60);
        for _ in 0..5 {
            line.took(line.held);
            line.goes_on(line.held, now);
        }
        assert_eq!(line.held, PIECE_BYTES);
    }

    #[test]
    fn who_has_little_to_send_does_not_pass_for_a_slow_line() {
        let (mut line, mut now) = (Line::default(), Instant::now());
        for _ in 0..100 {
            line.refused(now);
            now += Duration::from_millis(10);
            line.took(8 * KIB);
            line.goes_on(8 * KIB, now);
            now += Duration::from_secs(1);
        }
        assert_eq!(line.held, FIRST_HELD_BYTES);
    }

    /// A kernel with so much room.
    struct Kernel<'a> {
        room: usize,
        has: Vec<u8>,
        told: &'a Mutex<Vec<usize>>,
    }

    impl AsyncRead for Kernel<'_> {
        fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut [u8]) -> Poll<io::Result<usize>> {
            Poll::Pending
        }
    }

    impl AsyncWrite for Kernel<'_> {
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

    #[test]
    fn nothing_is_taken_beside_what_the_kernel_refuses_and_all_comes_in_order() {
        let told = Mutex::new(Vec::new());
        let kernel = Kernel { room: 10 * KIB, has: Vec::new(), told: &told };
        let mut wire = Wire::new(kernel, |kernel, bytes| kernel.told.lock().unwrap().push(bytes));
        let cx = &mut Context::from_waker(std::task::Waker::noop());
        let sent: Vec<u8> = (0..100 * KIB).map(|at| (at / 7) as u8).collect();
        let mut write = |wire: &mut Wire<_>, from: usize| match Pin::new(wire).poll_write(cx, &sent[from..]) {
            Poll::Ready(taken) => taken.unwrap(),
            Poll::Pending => 0,
        };
        let mut taken = write(&mut wire, 0);
        assert_eq!(taken, FIRST_HELD_BYTES);
        assert_eq!(write(&mut wire, taken), 0);
        assert_eq!(wire.stream.get_ref().has.len(), 10 * KIB);
        // Room for a part of it is no room for more.
        wire.stream.get_mut().room = KIB;
        assert_eq!(write(&mut wire, taken), 0);
        wire.stream.get_mut().room = usize::MAX;
        while taken < sent.len() {
            taken += write(&mut wire, taken);
        }
        assert!(Pin::new(&mut wire).poll_flush(cx).is_ready());
        assert_eq!(wire.stream.get_ref().has, sent);
        assert_eq!(told.lock().unwrap().first(), Some(&FIRST_HELD_BYTES));
    }
}
