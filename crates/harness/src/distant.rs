//! A hub on a host of its own, as far from all others as its link is slow.

use larder_harness::hub::{HubBuilder, HubServer};
use larder_harness::market::{Host, Network};

/// What is counted of a cancelled request before the socket takes it, and what the socket holds back.
const BUFFER_BYTES: usize = 64 * 1024;
/// The port of the hub and of its CDN.
const HTTP: u16 = 80;

/// A hub, and the host it is on. Its link has no limit yet.
pub(crate) struct DistantHub {
    pub(crate) hub: HubServer,
    pub(crate) host: Host,
}

impl DistantHub {
    /// Starts `hub` on host 0 of `network`.
    pub(crate) fn start(network: &Network, hub: HubBuilder) -> anyhow::Result<Self> {
        let host = network.host("origin", Network::address(0))?;
        let [a, b, c, d] = host.address().octets();
        let cdn = [a, b, c, d + 1].into();
        host.also_at(cdn)?;
        host.limit_unsent(BUFFER_BYTES as u64)?;
        let hub = hub.buffer_bytes(BUFFER_BYTES).listen((host.address(), HTTP).into()).cdn_listen((cdn, HTTP).into());
        let hub = host.inside(|| hub.start())?;
        Ok(Self { hub, host })
    }
}
