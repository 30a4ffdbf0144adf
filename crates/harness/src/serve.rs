//! Listening, and HTTP/1.1 on each connection.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};

use anyhow::{Context, ensure};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::runtime::{Handle, Runtime};

/// How much of a body hyper may hold before the socket takes it, where the listener does not say.
const BUFFER_BYTES: usize = 1024 * 1024;

/// The body of an answer.
pub(crate) type Body = UnsyncBoxBody<Bytes, io::Error>;
/// An answer, or none: then the connection is closed.
pub(crate) type Reply = Result<Response<Body>, Refused>;

/// The connection is to be closed without an answer.
#[derive(Debug)]
pub(crate) struct Refused;

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("refused")
    }
}

impl std::error::Error for Refused {}

/// A port that listens, and does not answer yet.
pub(crate) struct Listener {
    listener: TcpListener,
    pub(crate) address: SocketAddr,
    buffer_bytes: usize,
}

impl Listener {
    /// Listens at `address`, which must be on loopback, or in the range that networks of namespaces have.
    pub(crate) fn bind(address: SocketAddr) -> anyhow::Result<Self> {
        ensure!(is_of_this_machine(address.ip()), "{address} is not on loopback: test origins are for this machine only");
        Self::on(TcpListener::bind(address).with_context(|| format!("cannot listen at {address}"))?)
    }

    /// Takes a socket that listens already, at such an address, whatever namespace it is of.
    pub(crate) fn on(listener: TcpListener) -> anyhow::Result<Self> {
        let address = listener.local_addr()?;
        ensure!(is_of_this_machine(address.ip()), "{address} is not on loopback: test origins are for this machine only");
        listener.set_nonblocking(true)?;
        Ok(Self { listener, address, buffer_bytes: BUFFER_BYTES })
    }

    /// The same, with so much of a body that waits for the socket; none if not said.
    pub(crate) fn buffering(self, bytes: Option<usize>) -> Self {
        Self { buffer_bytes: bytes.unwrap_or(self.buffer_bytes), ..self }
    }
}

/// Whether an address leads nowhere else: loopback, or 198.18.0.0/15.
///
/// Source: RFC 2544 appendix C.2.2, the range for benchmarks, which no router passes on.
pub(crate) fn is_of_this_machine(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(four) => four.is_loopback() || (four.octets()[0] == 198 && four.octets()[1] & 0xFE == 18),
        IpAddr::V6(six) => six.is_loopback(),
    }
}

/// The threads that servers run on. Dropping it closes all their connections.
pub(crate) struct Threads {
    handle: Handle,
    runtime: Option<Runtime>,
}

impl Threads {
    pub(crate) fn new() -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).thread_name("origin").enable_all().build()?;
        Ok(Self { handle: runtime.handle().clone(), runtime: Some(runtime) })
    }

    /// Answers what comes to `listener` with `handler`.
    pub(crate) fn serve<H, F>(&self, listener: Listener, handler: H) -> anyhow::Result<()>
    where
        H: Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Reply> + Send + 'static,
    {
        let _inside = self.handle.enter();
        let buffer_bytes = listener.buffer_bytes;
        let listener = tokio::net::TcpListener::from_std(listener.listener)?;
        self.handle.spawn(async move {
            loop {
                // Out of file descriptors: it passes.
                let Ok((stream, _)) = listener.accept().await else {
                    tokio::task::yield_now().await;
                    continue;
                };
                let _ = stream.set_nodelay(true);
                let handler = handler.clone();
                tokio::spawn(async move {
                    let connection = hyper::server::conn::http1::Builder::new()
                        .max_buf_size(buffer_bytes)
                        .serve_connection(TokioIo::new(stream), service_fn(handler));
                    // It fails when the client goes away or a fault closes it: both are the tests' business.
                    let _ = connection.await;
                });
            }
        });
        Ok(())
    }

    /// Waits for `future`, which runs on these threads. Asynchronous code may call it, and waits as well.
    pub(crate) fn wait_for<F>(&self, future: F) -> F::Output
    where
        F: Future + Send,
        F::Output: Send,
    {
        // A thread that already runs a runtime may not wait for another.
        let waited = std::thread::scope(|scope| scope.spawn(|| self.handle.block_on(future)).join());
        waited.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
