//! A plain libp2p node that opens whatever stream it likes.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::StreamExt;
use futures::future::{Ready, ready};
use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::core::upgrade::{InboundUpgrade, OutboundUpgrade, UpgradeInfo, Version};
use libp2p::swarm::handler::{ConnectionEvent, FullyNegotiatedInbound, FullyNegotiatedOutbound};
use libp2p::swarm::{
    ConnectionDenied, ConnectionHandler, ConnectionHandlerEvent, ConnectionId, FromSwarm, NetworkBehaviour, NotifyHandler,
    SubstreamProtocol, SwarmEvent, THandlerInEvent, THandlerOutEvent, ToSwarm,
};
use libp2p::{Multiaddr, PeerId, Stream, StreamProtocol, Swarm, SwarmBuilder, identify, tls, yamux};
use tokio::sync::{mpsc, watch};

/// A plain node, connected to one other.
pub(crate) struct Raw {
    pub(crate) id: PeerId,
    wanted: mpsc::Sender<StreamProtocol>,
    opened: mpsc::Receiver<Stream>,
    connected: watch::Receiver<Option<bool>>,
}

impl Raw {
    /// Connects to `address`, and says that it speaks `names`.
    pub(crate) async fn connect(address: &str, names: &[&str]) -> Self {
        let mut swarm = swarm(names);
        let id = *swarm.local_peer_id();
        swarm.dial(address.parse::<Multiaddr>().unwrap()).unwrap();
        let (wanted, to_open) = mpsc::channel(8);
        let (streams, opened) = mpsc::channel(8);
        let (state, connected) = watch::channel(None);
        tokio::spawn(run(swarm, to_open, streams, state));
        let mut raw = Self { id, wanted, opened, connected };
        raw.connected.wait_for(Option::is_some).await.unwrap();
        raw
    }

    /// Opens a stream.
    pub(crate) async fn open(&mut self, name: &str) -> Stream {
        self.wanted.send(StreamProtocol::try_from_owned(name.to_owned()).unwrap()).await.unwrap();
        self.opened.recv().await.unwrap()
    }

    /// Waits until the other side closes the connection.
    pub(crate) async fn is_thrown_out(&mut self) {
        let closed = self.connected.wait_for(|connected| *connected == Some(false));
        tokio::time::timeout(Duration::from_secs(20), closed).await.expect("thrown out in time").unwrap();
    }
}

fn swarm(names: &[&str]) -> Swarm<Behaviour> {
    let offer = Offer(names.iter().map(|name| StreamProtocol::try_from_owned((*name).to_owned()).unwrap()).collect());
    SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_tcp(Default::default(), tls::Config::new, yamux::Config::default)
        .unwrap()
        .with_behaviour(|key| Behaviour {
            identify: identify::Behaviour::new(identify::Config::new("raw".into(), key.public()).with_agent_version("raw/1".into())),
            plain: Plain { offer, queue: VecDeque::new() },
        })
        .unwrap()
        .with_swarm_config(|config| {
            config.with_idle_connection_timeout(Duration::from_secs(60)).with_substream_upgrade_protocol_override(Version::V1Lazy)
        })
        .build()
}

#[allow(clippy::wildcard_enum_match_arm, reason = "the library's enum may grow")]
async fn run(
    mut swarm: Swarm<Behaviour>,
    mut wanted: mpsc::Receiver<StreamProtocol>,
    streams: mpsc::Sender<Stream>,
    state: watch::Sender<Option<bool>>,
) {
    let mut connection = None;
    loop {
        tokio::select! {
            event = swarm.select_next_some() => match event {
                SwarmEvent::ConnectionEstablished { peer_id, connection_id, .. } => {
                    connection = Some((peer_id, connection_id));
                    state.send_replace(Some(true));
                }
                SwarmEvent::ConnectionClosed { .. } | SwarmEvent::OutgoingConnectionError { .. } => {
                    state.send_replace(Some(false));
                }
                SwarmEvent::Behaviour(BehaviourEvent::Plain(stream)) => streams.send(stream).await.unwrap(),
                _ => {}
            },
            name = wanted.recv() => {
                let (Some(name), Some((peer_id, id))) = (name, connection) else { return };
                let event = ToSwarm::NotifyHandler { peer_id, handler: NotifyHandler::One(id), event: name };
                swarm.behaviour_mut().plain.queue.push_back(event);
            }
        }
    }
}

#[derive(NetworkBehaviour)]
struct Behaviour {
    identify: identify::Behaviour,
    plain: Plain,
}

struct Plain {
    offer: Offer,
    queue: VecDeque<ToSwarm<Stream, StreamProtocol>>,
}

impl Plain {
    fn handler(&self) -> Handler {
        Handler { offer: self.offer.clone(), wanted: VecDeque::new(), opened: VecDeque::new(), held: Vec::new() }
    }
}

impl NetworkBehaviour for Plain {
    type ConnectionHandler = Handler;
    type ToSwarm = Stream;

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<Handler, ConnectionDenied> {
        Ok(self.handler())
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<Handler, ConnectionDenied> {
        Ok(self.handler())
    }

    fn on_swarm_event(&mut self, _: FromSwarm) {}

    fn on_connection_handler_event(&mut self, _: PeerId, _: ConnectionId, stream: THandlerOutEvent<Self>) {
        self.queue.push_back(ToSwarm::GenerateEvent(stream));
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Stream, THandlerInEvent<Self>>> {
        self.queue.pop_front().map_or(Poll::Pending, Poll::Ready)
    }
}

struct Handler {
    offer: Offer,
    wanted: VecDeque<StreamProtocol>,
    opened: VecDeque<Stream>,
    /// Streams that the other side opened.
    held: Vec<Stream>,
}

impl ConnectionHandler for Handler {
    type FromBehaviour = StreamProtocol;
    type ToBehaviour = Stream;
    type InboundProtocol = Offer;
    type OutboundProtocol = Offer;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = ();

    fn listen_protocol(&self) -> SubstreamProtocol<Offer> {
        SubstreamProtocol::new(self.offer.clone(), ())
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ConnectionHandlerEvent<Offer, (), Stream>> {
        if let Some(stream) = self.opened.pop_front() {
            return Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour(stream));
        }
        match self.wanted.pop_front() {
            Some(name) => {
                let protocol = SubstreamProtocol::new(Offer(vec![name]), ());
                Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest { protocol })
            }
            None => Poll::Pending,
        }
    }

    fn on_behaviour_event(&mut self, name: StreamProtocol) {
        self.wanted.push_back(name);
    }

    #[allow(clippy::wildcard_enum_match_arm, reason = "the library's enum may grow")]
    fn on_connection_event(&mut self, event: ConnectionEvent<'_, Offer, Offer, (), ()>) {
        match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound { protocol, .. }) => self.held.push(protocol),
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound { protocol, .. }) => self.opened.push_back(protocol),
            _ => {}
        }
    }
}

#[derive(Debug, Clone)]
struct Offer(Vec<StreamProtocol>);

impl UpgradeInfo for Offer {
    type Info = StreamProtocol;
    type InfoIter = std::vec::IntoIter<StreamProtocol>;

    fn protocol_info(&self) -> Self::InfoIter {
        self.0.clone().into_iter()
    }
}

impl InboundUpgrade<Stream> for Offer {
    type Output = Stream;
    type Error = Infallible;
    type Future = Ready<Result<Stream, Infallible>>;

    fn upgrade_inbound(self, stream: Stream, _: StreamProtocol) -> Self::Future {
        ready(Ok(stream))
    }
}

impl OutboundUpgrade<Stream> for Offer {
    type Output = Stream;
    type Error = Infallible;
    type Future = Ready<Result<Stream, Infallible>>;

    fn upgrade_outbound(self, stream: Stream, _: StreamProtocol) -> Self::Future {
        ready(Ok(stream))
    }
}
