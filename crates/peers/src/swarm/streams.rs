//! Our own behaviour: opens and takes control and bulk streams, each on the connection that is asked for.

use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures::future::{Ready, ready};
use libp2p::core::transport::PortUse;
use libp2p::core::upgrade::{InboundUpgrade, OutboundUpgrade, UpgradeInfo};
use libp2p::core::{ConnectedPoint, Endpoint};
use libp2p::swarm::handler::{ConnectionEvent, FullyNegotiatedInbound, FullyNegotiatedOutbound};
use libp2p::swarm::{
    ConnectionDenied, ConnectionHandler, ConnectionHandlerEvent, ConnectionId, FromSwarm, NetworkBehaviour, NotifyHandler,
    SubstreamProtocol, THandlerInEvent, THandlerOutEvent, ToSwarm,
};
use libp2p::{Multiaddr, PeerId, Stream, StreamProtocol};

use crate::address::{Network, network_of};
use crate::identity::node_of;
use crate::pace::Buckets;
use crate::shared::{Shared, lock};

/// How long the opening of a stream may take.
const OPENING: Duration = Duration::from_secs(10);
/// The most streams that wait for the loop on one connection; what comes over that is closed.
const MOST_WAITING: usize = 8;

/// Connections that one network may begin in a second, and at once; each costs a handshake.
const CONNECTIONS_A_SECOND: f64 = 2.0;
const CONNECTIONS_AT_ONCE: f64 = 64.0;
/// The most networks of which that is counted.
const MOST_NETWORKS: usize = 4096;
/// The most connections that come from one network, which may be many hosts behind a router or one that has made up many ids; and
/// the same on a bootstrap.
const CONNECTIONS_OF_NETWORK: usize = 16;
const CONNECTIONS_OF_NETWORK_ON_BOOTSTRAP: usize = 64;

/// The kinds of stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Control,
    Bulk,
}

/// What the behaviour tells the loop.
#[derive(Debug)]
pub(crate) enum StreamEvent {
    /// A peer opened a stream.
    Inbound { connection: ConnectionId, kind: Kind, stream: Stream },
    /// A stream that was asked for is open.
    Outbound { connection: ConnectionId, kind: Kind, stream: Stream },
    /// A stream that was asked for could not be opened.
    Failed { connection: ConnectionId, kind: Kind },
}

#[derive(Clone)]
struct Names {
    control: StreamProtocol,
    bulk: StreamProtocol,
}

/// The behaviour.
pub(crate) struct Streams {
    shared: Arc<Shared>,
    names: Names,
    queue: VecDeque<ToSwarm<StreamEvent, Kind>>,
    waker: Option<Waker>,
    begun: Buckets<Network>,
    /// The connections from each network that are open.
    open: HashMap<Network, usize>,
}

impl Streams {
    /// None if the market's address makes no protocol name.
    pub(crate) fn new(shared: Arc<Shared>) -> Option<Self> {
        let name = |kind| StreamProtocol::try_from_owned(shared.protocol(kind)).ok();
        let names = Names { control: name("control")?, bulk: name("bulk")? };
        let begun = Buckets::new(CONNECTIONS_A_SECOND, CONNECTIONS_AT_ONCE, MOST_NETWORKS);
        Some(Self { shared, names, queue: VecDeque::new(), waker: None, begun, open: HashMap::new() })
    }

    /// Asks for a stream; an Outbound or Failed follows, unless the connection closes first.
    pub(crate) fn open(&mut self, peer_id: PeerId, connection: ConnectionId, kind: Kind) {
        self.queue.push_back(ToSwarm::NotifyHandler { peer_id, handler: NotifyHandler::One(connection), event: kind });
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    fn admit(&self, peer: &PeerId) -> Result<Handler, ConnectionDenied> {
        let node = node_of(peer).ok_or_else(|| ConnectionDenied::new(Refusal("its key is not an Ed25519 one")))?;
        lock(&self.shared.gate).admits(node).map_err(|reason| ConnectionDenied::new(Refusal(reason)))?;
        Ok(Handler { names: self.names.clone(), wanted: VecDeque::new(), events: VecDeque::new() })
    }
}

/// Why nobody more is let in from a network.
#[derive(Debug, thiserror::Error)]
#[error("{0} {1}")]
pub(crate) struct Crowded(Network, &'static str);

/// Why a peer is kept out.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Refusal(pub(crate) &'static str);

impl NetworkBehaviour for Streams {
    type ConnectionHandler = Handler;
    type ToSwarm = StreamEvent;

    fn handle_pending_inbound_connection(&mut self, _: ConnectionId, _: &Multiaddr, from: &Multiaddr) -> Result<(), ConnectionDenied> {
        match network_of(from) {
            Some(network) if !self.begun.try_take(network, 1.0) => Err(ConnectionDenied::new(Crowded(network, "connects too often"))),
            Some(_) | None => Ok(()),
        }
    }

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        from: &Multiaddr,
    ) -> Result<Handler, ConnectionDenied> {
        let most = if self.shared.is_bootstrap { CONNECTIONS_OF_NETWORK_ON_BOOTSTRAP } else { CONNECTIONS_OF_NETWORK };
        match network_of(from) {
            Some(network) if self.open.get(&network).is_some_and(|open| *open >= most) => {
                Err(ConnectionDenied::new(Crowded(network, "has as many connections as one network may have")))
            }
            Some(_) | None => self.admit(&peer),
        }
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<Handler, ConnectionDenied> {
        self.admit(&peer)
    }

    #[allow(clippy::wildcard_enum_match_arm, reason = "the library's enum may grow")]
    fn on_swarm_event(&mut self, event: FromSwarm) {
        let (endpoint, has_closed) = match &event {
            FromSwarm::ConnectionEstablished(established) => (established.endpoint, false),
            FromSwarm::ConnectionClosed(closed) => (closed.endpoint, true),
            _ => return,
        };
        let ConnectedPoint::Listener { send_back_addr, .. } = endpoint else { return };
        let Some(network) = network_of(send_back_addr) else { return };
        let open = self.open.entry(network).or_default();
        *open = if has_closed { open.saturating_sub(1) } else { *open + 1 };
        if *open == 0 {
            self.open.remove(&network);
        }
    }

    fn on_connection_handler_event(&mut self, _: PeerId, connection: ConnectionId, event: THandlerOutEvent<Self>) {
        let event = match event {
            HandlerEvent::Inbound(kind, stream) => StreamEvent::Inbound { connection, kind, stream },
            HandlerEvent::Outbound(kind, stream) => StreamEvent::Outbound { connection, kind, stream },
            HandlerEvent::Failed(kind) => StreamEvent::Failed { connection, kind },
        };
        self.queue.push_back(ToSwarm::GenerateEvent(event));
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<StreamEvent, THandlerInEvent<Self>>> {
        if let Some(event) = self.queue.pop_front() {
            return Poll::Ready(event);
        }
        self.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}

/// One connection's part of the behaviour.
pub(crate) struct Handler {
    names: Names,
    wanted: VecDeque<Kind>,
    events: VecDeque<HandlerEvent>,
}

/// What a connection tells the behaviour.
#[derive(Debug)]
pub(crate) enum HandlerEvent {
    Inbound(Kind, Stream),
    Outbound(Kind, Stream),
    Failed(Kind),
}

impl ConnectionHandler for Handler {
    type FromBehaviour = Kind;
    type ToBehaviour = HandlerEvent;
    type InboundProtocol = Offer;
    type OutboundProtocol = Offer;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = Kind;

    fn listen_protocol(&self) -> SubstreamProtocol<Offer> {
        SubstreamProtocol::new(Offer(vec![self.names.control.clone(), self.names.bulk.clone()]), ()).with_timeout(OPENING)
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ConnectionHandlerEvent<Offer, Kind, HandlerEvent>> {
        if let Some(event) = self.events.pop_front() {
            return Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour(event));
        }
        if let Some(kind) = self.wanted.pop_front() {
            let name = match kind {
                Kind::Control => self.names.control.clone(),
                Kind::Bulk => self.names.bulk.clone(),
            };
            let protocol = SubstreamProtocol::new(Offer(vec![name]), kind).with_timeout(OPENING);
            return Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest { protocol });
        }
        // Both queues are filled by the connection's own task, which polls again after it.
        Poll::Pending
    }

    fn on_behaviour_event(&mut self, kind: Kind) {
        self.wanted.push_back(kind);
    }

    #[allow(clippy::wildcard_enum_match_arm, reason = "the library's enum may grow")]
    fn on_connection_event(&mut self, event: ConnectionEvent<'_, Offer, Offer, (), Kind>) {
        match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound { protocol: (name, stream), .. }) => {
                let kind = if name == self.names.control { Kind::Control } else { Kind::Bulk };
                if self.events.len() < MOST_WAITING {
                    self.events.push_back(HandlerEvent::Inbound(kind, stream));
                }
            }
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound { protocol: (_, stream), info }) => {
                self.events.push_back(HandlerEvent::Outbound(info, stream));
            }
            ConnectionEvent::DialUpgradeError(error) => self.events.push_back(HandlerEvent::Failed(error.info)),
            // The enum may grow; nothing else in it concerns streams that are open.
            _ => {}
        }
    }
}

/// An upgrade that takes one of several names, and leaves the stream as it is.
#[derive(Debug, Clone)]
pub(crate) struct Offer(Vec<StreamProtocol>);

impl UpgradeInfo for Offer {
    type Info = StreamProtocol;
    type InfoIter = std::vec::IntoIter<StreamProtocol>;

    fn protocol_info(&self) -> Self::InfoIter {
        self.0.clone().into_iter()
    }
}

impl InboundUpgrade<Stream> for Offer {
    type Output = (StreamProtocol, Stream);
    type Error = Infallible;
    type Future = Ready<Result<Self::Output, Infallible>>;

    fn upgrade_inbound(self, stream: Stream, name: StreamProtocol) -> Self::Future {
        ready(Ok((name, stream)))
    }
}

impl OutboundUpgrade<Stream> for Offer {
    type Output = (StreamProtocol, Stream);
    type Error = Infallible;
    type Future = Ready<Result<Self::Output, Infallible>>;

    fn upgrade_outbound(self, stream: Stream, name: StreamProtocol) -> Self::Future {
        ready(Ok((name, stream)))
    }
}

#[cfg(test)]
mod tests {
    use libp2p::swarm::behaviour::{ConnectionClosed, ConnectionEstablished};

    use super::*;
    use crate::Identity;
    use crate::identity::peer_of;

    #[test]
    fn a_network_that_connects_too_often_is_named() {
        let mut streams = Streams::new(Arc::new(Shared::for_test().0)).unwrap();
        let from: Multiaddr = "/ip4/198.18.5.1/tcp/9".parse().unwrap();
        let mut refused = (0..100)
            .filter_map(|number| streams.handle_pending_inbound_connection(ConnectionId::new_unchecked(number), &from, &from).err());
        assert_eq!(refused.next().unwrap().downcast_ref::<Crowded>().unwrap().to_string(), "198.18.5.0/24 connects too often");
    }

    #[test]
    fn one_network_takes_some_of_the_connections_and_leaves_the_rest() {
        let mut streams = Streams::new(Arc::new(Shared::for_test().0)).unwrap();
        let here: Multiaddr = "/ip4/198.18.0.1/tcp/1".parse().unwrap();
        let peer_id = peer_of(Identity::generate().id()).unwrap();
        let mut comes = |from: &str| {
            let from: Multiaddr = from.parse().unwrap();
            let connection_id = ConnectionId::new_unchecked(1);
            let is_let_in = streams.handle_established_inbound_connection(connection_id, peer_id, &here, &from).is_ok();
            let endpoint = ConnectedPoint::Listener { local_addr: here.clone(), send_back_addr: from };
            let (failed_addresses, other_established) = (&[][..], 0);
            if is_let_in {
                let established =
                    ConnectionEstablished { peer_id, connection_id, endpoint: &endpoint, failed_addresses, other_established };
                streams.on_swarm_event(FromSwarm::ConnectionEstablished(established));
            }
            is_let_in
        };
        let of_network = (0..100).filter(|host| comes(&format!("/ip4/198.18.5.{host}/tcp/9"))).count();
        assert_eq!(of_network, CONNECTIONS_OF_NETWORK);
        assert!(comes("/ip4/198.18.6.1/tcp/9") && (0..100).all(|_| comes("/ip4/127.0.0.1/tcp/9")));
        let endpoint = ConnectedPoint::Listener { local_addr: here.clone(), send_back_addr: "/ip4/198.18.5.3/tcp/9".parse().unwrap() };
        let connection_id = ConnectionId::new_unchecked(1);
        let closed = ConnectionClosed { peer_id, connection_id, endpoint: &endpoint, cause: None, remaining_established: 0 };
        streams.on_swarm_event(FromSwarm::ConnectionClosed(closed));
        assert_eq!(streams.open.values().sum::<usize>(), CONNECTIONS_OF_NETWORK);
    }
}
