//! Listening: where the operator says, and nowhere that another program listens.

use std::error::Error;
use std::io;
use std::net::{IpAddr, TcpListener, UdpSocket};
use std::time::Duration;

use futures::StreamExt;
use libp2p::multiaddr::Protocol;
use libp2p::swarm::SwarmEvent;
use libp2p::{Multiaddr, Swarm};
use tokio::time::timeout;

use super::setup::Behaviour;
use crate::config::StartError;
use crate::shared::{Shared, lock};

/// How long listening may take to begin.
const LISTENING: Duration = Duration::from_secs(5);

/// Begins to listen, and gives the address with the real port.
pub(super) async fn begin_to_listen(shared: &Shared, swarm: &mut Swarm<Behaviour>, address: &Multiaddr) -> Result<Multiaddr, StartError> {
    let wrong = |reason: String| StartError::Listen { address: address.to_string(), reason };
    try_port(address).map_err(|error| wrong(error.to_string()))?;
    let listener = swarm.listen_on(address.clone()).map_err(|error| wrong(root_cause(&error)))?;
    #[allow(clippy::wildcard_enum_match_arm, reason = "the library's enum may grow")]
    let first = async {
        loop {
            // What else happens before the first address is known is taken up by the loop's first look around.
            match swarm.select_next_some().await {
                SwarmEvent::NewListenAddr { listener_id, address } if listener_id == listener => return Ok(address),
                SwarmEvent::ListenerClosed { listener_id, reason, .. } if listener_id == listener => {
                    return Err(wrong(reason.err().map_or_else(|| "the listener closed".to_owned(), |error| error.to_string())));
                }
                SwarmEvent::NewListenAddr { address, .. } => lock(&shared.listening).push(address),
                _ => {}
            }
        }
    };
    let real = timeout(LISTENING, first).await.map_err(|_| wrong("the system gave no address within 5 s".to_owned()))??;
    lock(&shared.listening).push(real.clone());
    let port = real.iter().find_map(|part| if let Protocol::Tcp(port) | Protocol::Udp(port) = part { Some(port) } else { None });
    let with_port = address.iter().map(|part| match (part, port) {
        (Protocol::Tcp(0), Some(port)) => Protocol::Tcp(port),
        (Protocol::Udp(0), Some(port)) => Protocol::Udp(port),
        (part, _) => part,
    });
    Ok(with_port.collect())
}

/// Fails if another program has the port: libp2p opens ports such that two programs can share one, each with half of the peers.
fn try_port(address: &Multiaddr) -> io::Result<()> {
    let mut host = None;
    for part in address {
        match (part, host) {
            (Protocol::Ip4(ip), _) => host = Some(IpAddr::V4(ip)),
            (Protocol::Ip6(ip), _) => host = Some(IpAddr::V6(ip)),
            (Protocol::Tcp(port), Some(host)) => return TcpListener::bind((host, port)).map(drop),
            (Protocol::Udp(port), Some(host)) => return UdpSocket::bind((host, port)).map(drop),
            _ => {}
        }
    }
    Ok(())
}

/// What lies at the bottom of a library's error, which is what the system said.
fn root_cause(error: &dyn Error) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}
