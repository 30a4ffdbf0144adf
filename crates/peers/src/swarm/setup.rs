//! Transports, behaviours and their limits.

use std::collections::HashSet;
use std::num::NonZeroU8;
use std::sync::Arc;
use std::time::Duration;

use libp2p::connection_limits::{self, ConnectionLimits};
use libp2p::core::muxing::StreamMuxerBox;
use libp2p::core::transport::Boxed;
use libp2p::core::upgrade::Version;
use libp2p::gossipsub::{self, IdentTopic, MessageAuthenticity, MessageId, TopicHash, ValidationMode, WhitelistSubscriptionFilter};
use libp2p::swarm::{self, NetworkBehaviour};
use libp2p::{PeerId, Swarm, Transport, dns, identify, ping, quic, tcp};

use super::muxer::{self, MOST_STREAMS};
use super::security;
use super::streams::Streams;
use super::wire::Wire;
use crate::config::{BOOTSTRAP_CONNECTIONS, StartError};
use crate::shared::Shared;

/// How often a connection is tried with a ping. Idle cost: about 10 bytes a second and peer.
const PING_EVERY: Duration = Duration::from_secs(60);
/// How long a ping may take until the connection counts as dead.
const PING_TIMEOUT: Duration = Duration::from_secs(30);
/// How often a peer is asked what it is, which is said once at the start.
const IDENTIFY_EVERY: Duration = Duration::from_secs(24 * 3600);
/// How often gossip mends its mesh.
const HEARTBEAT: Duration = Duration::from_secs(7);
/// The most bytes in a gossip message with its envelope: more than the 16 KiB that one may have, or libp2p may take two for one.
const GOSSIP_TRANSMIT_BYTES: usize = 64 * 1024;
/// How long a gossip message is known again without being read; 165 bytes each. Later, the author's count says that it was heard.
const GOSSIP_MEMORY: Duration = Duration::from_secs(120);
/// How long a QUIC connection lives without a sign, in ms, and how often it gives one.
const QUIC_IDLE_MS: u32 = 60_000;
const QUIC_KEEP_ALIVE: Duration = Duration::from_secs(20);
/// The most unread bytes of a QUIC stream, and as many again of its connection's others: what a fast line with a long way has in
/// flight. Libp2p has one setting for what comes in and what goes out.
const QUIC_STREAM_BYTES: u32 = 8 * 1024 * 1024;
/// The same for a connection to a bootstrap, which has a thousand and few bytes on each.
const QUIC_STREAM_BYTES_OF_BOOTSTRAP: u32 = 1024 * 1024;
/// How long a connection may take to be made, and may be idle without any stream.
pub(super) const HANDSHAKE: Duration = Duration::from_secs(10);
const IDLE: Duration = Duration::from_secs(15);
/// The most connections that are being made, one way.
const MOST_PENDING: u32 = 64;

/// All that runs on a connection.
#[derive(NetworkBehaviour)]
pub(crate) struct Behaviour {
    pub(super) limits: connection_limits::Behaviour,
    pub(super) streams: Streams,
    pub(super) identify: identify::Behaviour,
    pub(super) ping: ping::Behaviour,
    pub(super) gossip: gossipsub::Behaviour<gossipsub::IdentityTransform, WhitelistSubscriptionFilter>,
}

/// The topic of a market's holdings.
pub(super) fn topic(shared: &Shared) -> IdentTopic {
    IdentTopic::new(format!("larder/{}/holdings/{}", shared.address, crate::shared::PROTOCOL_VERSION))
}

/// Sets a swarm up; it does not listen yet.
pub(super) fn swarm(shared: &Arc<Shared>) -> Result<Swarm<Behaviour>, StartError> {
    let transport = match dns::tokio::Transport::system(transport(shared)?) {
        Ok(transport) => transport.boxed(),
        // Without name servers, addresses with names cannot be dialled; the others can.
        Err(error) => {
            tracing::warn!(%error, "the system names no name servers: bootstraps given by name are not found");
            let (servers, options) = (dns::ResolverConfig::default(), dns::ResolverOpts::default());
            dns::tokio::Transport::custom(transport(shared)?, servers, options).boxed()
        }
    };
    let config = swarm::Config::with_tokio_executor()
        .with_idle_connection_timeout(IDLE)
        .with_max_negotiating_inbound_streams(16)
        .with_substream_upgrade_protocol_override(Version::V1Lazy)
        // One address after the other: two connections by one dial would each look like the newer to the peer.
        .with_dial_concurrency_factor(NonZeroU8::MIN);
    Ok(Swarm::new(transport, behaviour(shared)?, shared.identity.keypair().public().to_peer_id(), config))
}

/// TCP with TLS 1.3 and yamux, and QUIC.
fn transport(shared: &Shared) -> Result<Boxed<(PeerId, StreamMuxerBox)>, StartError> {
    let key = shared.identity.keypair();
    let security = security::Upgrade::new(key).map_err(|error| StartError::Setup(error.to_string()))?;
    let (most_unread, stream_bytes) = if shared.is_bootstrap {
        (muxer::MOST_UNREAD_BYTES_OF_BOOTSTRAP, QUIC_STREAM_BYTES_OF_BOOTSTRAP)
    } else {
        (muxer::MOST_UNREAD_BYTES, QUIC_STREAM_BYTES)
    };
    let tcp = tcp::tokio::Transport::new(tcp::Config::new().nodelay(true))
        .map(|stream, _| Wire::new(stream))
        .upgrade(Version::V1Lazy)
        .authenticate(security)
        .multiplex(muxer::Upgrade::new(most_unread))
        .timeout(HANDSHAKE)
        .map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)));
    if !shared.config.quic {
        return Ok(tcp.boxed());
    }
    let mut config = quic::Config::new(key);
    config.max_idle_timeout = QUIC_IDLE_MS;
    config.keep_alive_interval = QUIC_KEEP_ALIVE;
    config.max_stream_data = stream_bytes;
    config.max_connection_data = 2 * stream_bytes;
    config.max_concurrent_stream_limit = MOST_STREAMS as u32;
    let quic = quic::tokio::Transport::new(config).map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)));
    Ok(tcp.or_transport(quic).map(|either, _| either.into_inner()).boxed())
}

/// The most connections at once.
pub(super) fn most_connections(shared: &Shared) -> usize {
    let most = shared.config.most_connections;
    (if shared.is_bootstrap { most.max(BOOTSTRAP_CONNECTIONS) } else { most }) as usize
}

fn behaviour(shared: &Arc<Shared>) -> Result<Behaviour, StartError> {
    let key = shared.identity.keypair();
    let most = u32::try_from(most_connections(shared)).unwrap_or(u32::MAX);
    let limits = ConnectionLimits::default()
        .with_max_pending_incoming(Some(MOST_PENDING))
        .with_max_pending_outgoing(Some(MOST_PENDING))
        .with_max_established_per_peer(Some(2))
        .with_max_established_incoming(Some((most - most / 4).max(1)))
        .with_max_established(Some(most.max(1)));
    let mut limits = connection_limits::Behaviour::new(limits);
    for (node, _) in &shared.addresses.bootstrap {
        if let Some(peer) = crate::identity::peer_of(*node) {
            limits.bypass_peer_id(&peer);
        }
    }
    let identify = identify::Config::new(format!("larder/{}", shared.address), key.public())
        .with_agent_version(concat!("larder/", env!("CARGO_PKG_VERSION")).to_owned())
        .with_interval(IDENTIFY_EVERY)
        .with_hide_listen_addrs(true)
        .with_cache_size(0);
    let streams = Streams::new(Arc::clone(shared)).ok_or_else(|| StartError::Address(shared.address.clone()))?;
    Ok(Behaviour {
        limits,
        streams,
        identify: identify::Behaviour::new(identify),
        ping: ping::Behaviour::new(ping::Config::new().with_interval(PING_EVERY).with_timeout(PING_TIMEOUT)),
        gossip: gossip(shared)?,
    })
}

fn gossip(shared: &Shared) -> Result<gossipsub::Behaviour<gossipsub::IdentityTransform, WhitelistSubscriptionFilter>, StartError> {
    let config = gossipsub::ConfigBuilder::default()
        .protocol_id_prefix(format!("/larder/{}/gossip", shared.address))
        .heartbeat_interval(HEARTBEAT)
        .heartbeat_initial_delay(Duration::from_secs(1))
        .mesh_n(4)
        .mesh_n_low(3)
        .mesh_n_high(8)
        .mesh_outbound_min(1)
        .gossip_lazy(3)
        .gossip_factor(0.1)
        .history_length(4)
        .history_gossip(2)
        .flood_publish(false)
        .max_transmit_size(GOSSIP_TRANSMIT_BYTES)
        .max_control_message_size(GOSSIP_TRANSMIT_BYTES)
        .duplicate_cache_time(GOSSIP_MEMORY)
        .connection_handler_queue_len(256)
        .idontwant_message_size_threshold(GOSSIP_TRANSMIT_BYTES)
        .validation_mode(ValidationMode::Strict)
        .validate_messages()
        .message_id_fn(message_id)
        .build()
        .map_err(|error| StartError::Setup(error.to_string()))?;
    let only: HashSet<TopicHash> = HashSet::from([topic(shared).hash()]);
    let authenticity = MessageAuthenticity::Signed(shared.identity.keypair().clone());
    let mut gossip = gossipsub::Behaviour::new_with_subscription_filter(authenticity, config, WhitelistSubscriptionFilter(only))
        .map_err(|error| StartError::Setup(error.to_owned()))?;
    gossip.subscribe(&topic(shared)).map_err(|error| StartError::Setup(error.to_string()))?;
    Ok(gossip)
}

/// 16 bytes: ids are told far more often than messages.
fn message_id(message: &gossipsub::Message) -> MessageId {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&message.source.map(PeerId::to_bytes).unwrap_or_default());
    hasher.update(&message.sequence_number.unwrap_or_default().to_le_bytes());
    hasher.update(&message.data);
    MessageId::new(&hasher.finalize().as_bytes()[..16])
}
