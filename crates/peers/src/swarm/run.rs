//! The loop that owns a market's swarm: takes its events, does what it is asked, and looks after it once a second.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::StreamExt;
use larder_content::NodeId;
use libp2p::core::ConnectedPoint;
use libp2p::multiaddr::Protocol;
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::swarm::{ConnectionId, DialError, ListenError, SwarmEvent};
use libp2p::{Multiaddr, PeerId, Swarm, gossipsub, identify, ping};
use tokio::sync::{Mutex, OwnedMutexGuard, mpsc};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};
use tokio_util::sync::DropGuard;

use super::care;
use super::connections::{Connections, Verdict};
use super::gossip::Gossip;
use super::listening::begin_to_listen;
use super::setup::{self, Behaviour, BehaviourEvent};
use super::strangers::reason_to_turn_away;
use super::streams::{Crowded, Kind, Refusal, StreamEvent};
use crate::address::{at_address_of, is_here, told_by};
use crate::config::StartError;
use crate::control::{HelloRecord, Link};
use crate::identity::{node_of, peer_of};
use crate::shared::{Command, Shared, lock};

/// How long announcements that cannot wait are gathered.
const GATHERED: Duration = Duration::from_millis(20);
/// The most addresses that bootstraps may tell this node it has.
const MOST_EXTERNAL: usize = 4;

/// A market's loop, listening.
pub(crate) struct EventLoop {
    pub(super) shared: Arc<Shared>,
    pub(super) swarm: Swarm<Behaviour>,
    pub(super) connections: Connections,
    pub(super) gossip: Gossip,
    pub(super) commands: OwnedMutexGuard<mpsc::Receiver<Command>>,
    pub(super) tell_at: Instant,
    pub(super) expire_at: Instant,
    pub(super) book_at: Instant,
    pub(super) ask_at: Instant,
    pub(super) compare_at: Instant,
    _ends: DropGuard,
}

impl EventLoop {
    /// Sets up a swarm that listens where `listen` says, and writes the real ports into it.
    pub(crate) async fn start(
        shared: Arc<Shared>,
        commands: &Arc<Mutex<mpsc::Receiver<Command>>>,
        listen: &mut [Multiaddr],
    ) -> Result<Self, StartError> {
        let commands = Arc::clone(commands).lock_owned().await;
        let mut swarm = setup::swarm(&shared)?;
        lock(&shared.listening).clear();
        for address in listen {
            *address = begin_to_listen(&shared, &mut swarm, address).await?;
        }
        let ends = shared.stopped.child_token();
        let now = Instant::now();
        Ok(Self {
            connections: Connections::new(Arc::clone(&shared), ends.clone()),
            swarm,
            gossip: Gossip::new(),
            commands,
            tell_at: now + shared.config.announce_every,
            expire_at: now + care::EXPIRE_EVERY,
            book_at: now + care::BOOK_EVERY,
            ask_at: now + Duration::from_secs(2),
            compare_at: now + shared.config.compare_every,
            shared,
            _ends: ends.drop_guard(),
        })
    }

    /// Runs until the market is to end.
    pub(crate) async fn run(mut self) {
        let shared = Arc::clone(&self.shared);
        let mut second = interval(Duration::from_secs(1));
        second.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.dial();
        loop {
            tokio::select! {
                event = self.swarm.select_next_some() => self.take(event),
                command = self.commands.recv() => match command {
                    Some(command) => self.obey(command),
                    None => break,
                },
                () = shared.announced.notified() => {
                    if lock(&shared.own).is_urgent() {
                        self.tell_at = self.tell_at.min(Instant::now() + GATHERED);
                    }
                }
                () = sleep_until(self.tell_at) => self.tell(),
                _ = second.tick() => self.look_after(),
                () = shared.stopping.cancelled() => break,
            }
        }
        self.say_goodbye().await;
    }

    #[allow(clippy::wildcard_enum_match_arm, reason = "the library's enum may grow")]
    fn take(&mut self, event: SwarmEvent<BehaviourEvent>) {
        match event {
            SwarmEvent::Behaviour(BehaviourEvent::Streams(event)) => self.take_stream(event),
            SwarmEvent::Behaviour(BehaviourEvent::Gossip(gossipsub::Event::Message { propagation_source, message_id, message })) => {
                self.take_gossip(propagation_source, &message_id, &message);
            }
            SwarmEvent::Behaviour(BehaviourEvent::Identify(identify::Event::Received { connection_id, info, .. })) => {
                self.identified(connection_id, &info);
            }
            SwarmEvent::Behaviour(BehaviourEvent::Ping(ping::Event { connection, result, .. })) => match result {
                Ok(round_trip) => {
                    if let Some(link) = self.connections.link(connection) {
                        lock(&link.about).round_trip = Some(round_trip);
                    }
                }
                Err(ping::Failure::Unsupported) => {}
                Err(ping::Failure::Timeout | ping::Failure::Other { .. }) => {
                    self.swarm.close_connection(connection);
                }
            },
            SwarmEvent::ConnectionEstablished { peer_id, connection_id, endpoint, .. } => {
                self.established(node_of(&peer_id), connection_id, &endpoint);
            }
            SwarmEvent::ConnectionClosed { connection_id, .. } => {
                if let Some((node, had_greeted)) = self.connections.closed(connection_id) {
                    let mut dialling = lock(&self.shared.dialling);
                    if had_greeted { dialling.has_left(node) } else { dialling.has_failed(node) }
                }
                self.note_awaited();
            }
            SwarmEvent::OutgoingConnectionError { peer_id: Some(peer), error, .. } => self.dial_failed(node_of(&peer), &error),
            SwarmEvent::IncomingConnectionError { peer_id, error: ListenError::Denied { cause }, .. } => {
                if let Some((node, refusal)) = peer_id.as_ref().and_then(node_of).zip(cause.downcast_ref::<Refusal>()) {
                    self.turn_away(format!("{node}: {refusal}"));
                } else if let Some(crowded) = cause.downcast_ref::<Crowded>() {
                    self.turn_away(crowded.to_string());
                }
            }
            SwarmEvent::NewListenAddr { address, .. } => {
                let mut listening = lock(&self.shared.listening);
                if !listening.contains(&address) {
                    listening.push(address);
                }
            }
            SwarmEvent::ExpiredListenAddr { address, .. } => lock(&self.shared.listening).retain(|other| *other != address),
            SwarmEvent::ListenerClosed { addresses, reason, .. } => {
                tracing::warn!(?addresses, ?reason, "no longer listening there");
                lock(&self.shared.listening).retain(|other| !addresses.contains(other));
            }
            // What is left is of no consequence here, and the enum may grow.
            _ => {}
        }
    }

    fn take_gossip(&mut self, source: PeerId, id: &gossipsub::MessageId, message: &gossipsub::Message) {
        let author = message.source.as_ref().and_then(node_of);
        let taken = match node_of(&source).and_then(|node| self.connections.link_to(node)) {
            Some(link) => self.gossip.take(&self.shared, link.node, &link.address, author, &message.data),
            // Who has gone meanwhile cannot answer for it.
            None => gossipsub::MessageAcceptance::Ignore.into(),
        };
        if let Some(author) = author {
            lock(&self.shared.dialling).learn(author, taken.addresses.into_iter());
        }
        self.swarm.behaviour_mut().gossip.report_message_validation_result(id, &source, taken.acceptance);
        if let Some((node, what)) = node_of(&source).zip(taken.offence) {
            self.offence(node, what);
        }
    }

    fn take_stream(&mut self, event: StreamEvent) {
        match event {
            StreamEvent::Inbound { connection, kind, stream } => self.connections.inbound(connection, kind, stream),
            StreamEvent::Outbound { connection, kind, stream } => self.connections.outbound(connection, kind, stream),
            StreamEvent::Failed { connection, kind } => self.connections.failed(connection, kind),
        }
    }

    fn established(&mut self, node: Option<NodeId>, connection: ConnectionId, endpoint: &ConnectedPoint) {
        let Some((node, peer)) = node.and_then(|node| Some((node, peer_of(node)?))) else { return };
        let (address, is_dialled) = match endpoint {
            ConnectedPoint::Dialer { address, .. } => {
                lock(&self.shared.dialling).has_connected(node);
                (without_peer(address), true)
            }
            ConnectedPoint::Listener { send_back_addr, .. } => (without_peer(send_back_addr), false),
        };
        match self.connections.established(node, connection, address, is_dialled, self.gossip.run) {
            Verdict::Use => {}
            Verdict::Instead(before) => {
                self.swarm.close_connection(before);
            }
            Verdict::Close => {
                self.swarm.close_connection(connection);
                return;
            }
        }
        self.swarm.behaviour_mut().streams.open(peer, connection, Kind::Control);
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::OpenBulk { connection, reply } => {
                if let Some(peer) = self.connections.wants_bulk(connection, reply) {
                    self.swarm.behaviour_mut().streams.open(peer, connection, Kind::Bulk);
                }
            }
            Command::Greeted { link, hello } => self.greeted(&link, &hello),
            Command::Dial(node) => {
                if lock(&self.shared.dialling).want(node) {
                    self.dial();
                }
            }
            Command::Heard(peers) => {
                let mut dialling = lock(&self.shared.dialling);
                for (node, addresses) in peers {
                    dialling.learn(node, addresses.into_iter());
                }
                drop(dialling);
                self.dial();
            }
            Command::Offence { node, what } => self.offence(node, &what),
            Command::Drop(node) => self.disconnect(node),
            Command::Leaves(connection) => {
                self.swarm.close_connection(connection);
            }
            #[allow(clippy::panic, reason = "the test of the restart asks for it")]
            Command::Crash => panic!("as asked"),
        }
    }

    fn greeted(&mut self, link: &Link, hello: &HelloRecord) {
        self.connections.greeted(link.connection);
        self.gossip.begins(link.node, hello.run);
        {
            let mut dialling = lock(&self.shared.dialling);
            dialling.has_greeted(link.node, link.is_dialled.then_some(&link.address));
            dialling.learn(link.node, lock(&link.about).addresses.clone().into_iter());
            dialling.learn(link.node, told_by(&link.address, &hello.addresses));
        }
        self.note_awaited();
        self.learn_own_address(link, &hello.seen_at);
    }

    /// Where a bootstrap sees this node, at the ports it listens on: how others may find it behind a router that passes them on.
    fn learn_own_address(&self, link: &Link, seen_at: &str) {
        let Ok(seen_at) = seen_at.parse::<Multiaddr>() else { return };
        if is_here(&seen_at) || !lock(&self.shared.dialling).is_bootstrap(link.node) {
            return;
        }
        let listening = lock(&self.shared.listening).clone();
        let mut external = lock(&self.shared.external);
        for address in listening.iter().filter(|address| !is_here(address)).filter_map(|address| at_address_of(address, &seen_at)) {
            if external.len() < MOST_EXTERNAL && !listening.contains(&address) && !external.contains(&address) {
                tracing::debug!(%address, "a bootstrap sees this node there");
                external.push(address);
            }
        }
    }

    fn identified(&mut self, connection: ConnectionId, info: &identify::Info) {
        let Some(link) = self.connections.link(connection) else { return };
        let agent: String = info.agent_version.chars().filter(|character| !character.is_control()).take(64).collect();
        if let Some(reason) = reason_to_turn_away(&self.shared, &info.protocols, &agent) {
            let node = link.node;
            link.ends.cancel();
            self.turn_away(format!("{node}: {reason}"));
            self.swarm.close_connection(connection);
        }
    }

    fn dial_failed(&mut self, node: Option<NodeId>, error: &DialError) {
        let Some(node) = node else { return };
        tracing::debug!(%node, %error, "cannot be dialled");
        if let DialError::WrongPeerId { obtained, address } = error
            && lock(&self.shared.dialling).is_bootstrap(node)
        {
            self.turn_away(format!("{node}: at {} another node answers: {obtained}", without_peer(address)));
        }
        if let DialError::Denied { cause } = error
            && let Some(refusal) = cause.downcast_ref::<Refusal>()
        {
            self.turn_away(format!("{node}: {refusal}"));
        }
        lock(&self.shared.dialling).has_failed(node);
        self.note_awaited();
    }

    pub(super) fn dial(&mut self) {
        let connected = self.connections.nodes();
        let dialled = self.connections.dialled();
        let dials = lock(&self.shared.dialling).next(&connected, dialled, self.shared.config.connections);
        for (node, addresses) in dials {
            let Some(peer) = peer_of(node) else { continue };
            let allowed = lock(&self.shared.gate).admits(node).is_ok();
            let options = DialOpts::peer_id(peer)
                .condition(PeerCondition::DisconnectedAndNotDialing)
                .addresses(addresses)
                .allocate_new_port()
                .build();
            if !allowed || self.swarm.dial(options).is_err() {
                lock(&self.shared.dialling).has_failed(node);
            }
        }
        self.note_awaited();
    }

    fn offence(&mut self, node: NodeId, what: &str) {
        lock(&self.shared.gate).offence(node);
        self.turn_away(format!("{node}: it broke the protocol: {what}"));
        self.disconnect(node);
    }

    fn disconnect(&mut self, node: NodeId) {
        if let Some(peer) = peer_of(node) {
            let _ = self.swarm.disconnect_peer_id(peer);
        }
    }

    fn turn_away(&self, reason: String) {
        let mut gate = lock(&self.shared.gate);
        if gate.turned_away(reason.clone()) {
            tracing::warn!(market = %self.shared.address, "turned away {reason}");
        }
    }

    fn note_awaited(&self) {
        let awaited = lock(&self.shared.dialling).awaited();
        if self.shared.awaited.swap(awaited, Ordering::Relaxed) != awaited {
            self.shared.has_arrived();
        }
    }
}

fn without_peer(address: &Multiaddr) -> Multiaddr {
    address.iter().filter(|part| !matches!(part, Protocol::P2p(_))).collect()
}
