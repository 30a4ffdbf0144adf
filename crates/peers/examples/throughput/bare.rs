//! Streams of libp2p with nothing of ours: a transport, its encryption and its muxer, without a swarm.
//!
//! A stream begins with how many bytes are wanted, in eight, little end first; they follow in writes of 1 MiB.

use std::future::poll_fn;
use std::task::Poll;
use std::time::Instant;

use futures::{AsyncReadExt, AsyncWriteExt, StreamExt};
use libp2p::core::muxing::{StreamMuxerBox, StreamMuxerExt, SubstreamBox};
use libp2p::core::transport::{Boxed, DialOpts, ListenerId, PortUse, TransportEvent};
use libp2p::core::upgrade::Version;
use libp2p::core::{Endpoint, Transport};
use libp2p::{Multiaddr, PeerId, identity, quic, tcp, tls, yamux};
use tokio::sync::{mpsc, oneshot};

/// How much is written, and read, at a time.
const BLOCK_BYTES: usize = 1 << 20;

type Openings = mpsc::Receiver<oneshot::Sender<SubstreamBox>>;

fn transport() -> Boxed<(PeerId, StreamMuxerBox)> {
    let key = identity::Keypair::generate_ed25519();
    let tcp = tcp::tokio::Transport::new(tcp::Config::new())
        .upgrade(Version::V1Lazy)
        .authenticate(tls::Config::new(&key).unwrap())
        .multiplex(yamux::Config::default())
        .map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)));
    let mut config = quic::Config::new(&key);
    (config.max_stream_data, config.max_connection_data) = (16 << 20, 64 << 20);
    let quic = quic::tokio::Transport::new(config).map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)));
    tcp.or_transport(quic).map(|either, _| either.into_inner()).boxed()
}

/// Listens, gives for as long as the process lives, and says where.
pub(crate) async fn give(listen: &str) -> String {
    let mut transport = transport();
    transport.listen_on(ListenerId::next(), listen.parse().unwrap()).unwrap();
    let address = loop {
        if let TransportEvent::NewAddress { listen_addr, .. } = transport.select_next_some().await {
            break listen_addr.to_string();
        }
    };
    tokio::spawn(async move {
        loop {
            if let TransportEvent::Incoming { upgrade, .. } = transport.select_next_some().await {
                tokio::spawn(async move {
                    if let Ok((_, muxer)) = upgrade.await {
                        drive(muxer, None).await;
                    }
                });
            }
        }
    });
    address
}

/// Moves a connection on until it ends; streams that the other side opens are answered.
async fn drive(mut muxer: StreamMuxerBox, mut openings: Option<Openings>) {
    let mut opening: Option<oneshot::Sender<SubstreamBox>> = None;
    poll_fn(|context| {
        loop {
            if let (None, Some(openings)) = (&opening, &mut openings)
                && let Poll::Ready(wanted) = openings.poll_recv(context)
            {
                let Some(wanted) = wanted else { return Poll::Ready(()) };
                opening = Some(wanted);
            }
            if opening.is_some()
                && let Poll::Ready(stream) = muxer.poll_outbound_unpin(context)
            {
                let _ = opening.take().unwrap().send(stream.unwrap());
                continue;
            }
            match muxer.poll_inbound_unpin(context) {
                Poll::Ready(Ok(stream)) => drop(tokio::spawn(answer(stream))),
                Poll::Ready(Err(_)) => return Poll::Ready(()),
                Poll::Pending => match muxer.poll_unpin(context) {
                    Poll::Ready(Ok(_)) => {}
                    Poll::Ready(Err(_)) => return Poll::Ready(()),
                    Poll::Pending => return Poll::Pending,
                },
            }
        }
    })
    .await;
}

async fn answer(mut stream: SubstreamBox) -> std::io::Result<()> {
    let mut wanted = [0; 8];
    stream.read_exact(&mut wanted).await?;
    let mut left = u64::from_le_bytes(wanted);
    let block = vec![7; BLOCK_BYTES.min(left as usize)];
    while left > 0 {
        let length = left.min(BLOCK_BYTES as u64);
        stream.write_all(&block[..length as usize]).await?;
        left -= length;
    }
    stream.close().await
}

/// A connection to a giver; it ends when this is dropped.
#[derive(Clone)]
pub(crate) struct Connection(mpsc::Sender<oneshot::Sender<SubstreamBox>>);

impl Connection {
    pub(crate) async fn dial(address: &str) -> Self {
        let options = DialOpts { role: Endpoint::Dialer, port_use: PortUse::New };
        let (_, muxer) = transport().dial(address.parse::<Multiaddr>().unwrap(), options).unwrap().await.unwrap();
        let (wanted, openings) = mpsc::channel(8);
        tokio::spawn(drive(muxer, Some(openings)));
        Self(wanted)
    }

    /// The seconds from a question of eight bytes to its answer of one, by a stream that is open.
    pub(crate) async fn round_trip(&self) -> f64 {
        self.take(1).await;
        let began = Instant::now();
        self.take(1).await;
        began.elapsed().as_secs_f64()
    }

    async fn take(&self, bytes: u64) {
        let (reply, stream) = oneshot::channel();
        self.0.send(reply).await.unwrap();
        let mut stream = stream.await.unwrap();
        stream.write_all(&bytes.to_le_bytes()).await.unwrap();
        stream.flush().await.unwrap();
        let (mut buffer, mut received) = (vec![0; BLOCK_BYTES.min(bytes as usize)], 0);
        while received < bytes {
            match stream.read(&mut buffer).await.unwrap() {
                0 => panic!("the giver closed the stream"),
                length => received += length as u64,
            }
        }
    }
}

/// Takes bytes by a stream of each connection, all at once, from each an equal part.
pub(crate) async fn take(connections: &[Connection], bytes: u64) {
    let part = bytes / connections.len().max(1) as u64;
    let takes = connections.iter().map(|connection| {
        let connection = connection.clone();
        tokio::spawn(async move { connection.take(part).await })
    });
    for take in takes.collect::<Vec<_>>() {
        take.await.unwrap();
    }
}
