//! What an address says of where a peer is: how near, and in whose network.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;

/// How far from here an address means the same host. A peer may tell addresses as far as its own, or farther: what is nearer would
/// have this node dial into its own network for a stranger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Reach {
    /// On this very machine.
    Machine,
    /// In this network, behind the same router.
    Site,
    /// Everywhere.
    World,
}

/// A network that is taken to be one party's: an IPv4 /24 or an IPv6 /64.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Network {
    V4([u8; 3]),
    V6([u8; 8]),
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::V4([a, b, c]) => write!(f, "{}/24", Ipv4Addr::new(*a, *b, *c, 0)),
            Self::V6(half) => write!(f, "{}/64", Ipv6Addr::from(u128::from(u64::from_be_bytes(*half)) << 64)),
        }
    }
}

/// How far the host of an address reaches; that of a name counts as everywhere.
pub(crate) fn reach_of(address: &Multiaddr) -> Reach {
    let (is_machine, is_site) = match ip_of(address) {
        Some(IpAddr::V4(ip)) => {
            let [first, second, ..] = ip.octets();
            // 0.0.0.0/8 is this host, and 100.64.0.0/10 is what providers share among their customers (RFC 6598).
            let is_shared = first == 100 && second & 0xc0 == 64;
            (ip.is_loopback() || first == 0, ip.is_private() || ip.is_link_local() || is_shared)
        }
        Some(IpAddr::V6(ip)) => (ip.is_loopback() || ip.is_unspecified(), ip.is_unique_local() || ip.is_unicast_link_local()),
        None => (false, false),
    };
    match (is_machine, is_site) {
        (true, _) => Reach::Machine,
        (false, true) => Reach::Site,
        (false, false) => Reach::World,
    }
}

/// Those of the addresses that `teller`, which is at that address, may tell: none that is nearer than its own.
pub(crate) fn told_by(teller: &Multiaddr, texts: &[String]) -> impl Iterator<Item = Multiaddr> {
    let nearest = reach_of(teller);
    texts.iter().filter_map(|text| text.parse().ok()).filter(move |address| reach_of(address) >= nearest)
}

/// Whether an address is of this very machine.
pub(crate) fn is_here(address: &Multiaddr) -> bool {
    reach_of(address) == Reach::Machine
}

/// The network of an address; none for this machine's own programs, which share one address and need no limit, and for names.
pub(crate) fn network_of(address: &Multiaddr) -> Option<Network> {
    match ip_of(address).filter(|ip| !ip.is_loopback())? {
        IpAddr::V4(ip) => ip.octets().first_chunk().copied().map(Network::V4),
        IpAddr::V6(ip) => ip.octets().first_chunk().copied().map(Network::V6),
    }
}

/// The host of an address, if it is given by number; an IPv4 address that is written as an IPv6 one is what it is.
pub(crate) fn ip_of(address: &Multiaddr) -> Option<IpAddr> {
    address.iter().find_map(|part| {
        if let Protocol::Ip4(ip) = part {
            return Some(IpAddr::V4(ip));
        }
        if let Protocol::Ip6(ip) = part { Some(IpAddr::V6(ip).to_canonical()) } else { None }
    })
}

/// The port of `listens` at the host of `connected`; none if `listens` is not just a host, a port and a protocol.
pub(crate) fn at_address_of(listens: &Multiaddr, connected: &Multiaddr) -> Option<Multiaddr> {
    let host = connected.iter().find(|part| matches!(part, Protocol::Ip4(_) | Protocol::Ip6(_)))?;
    let rest = listens.iter().filter(|part| matches!(part, Protocol::Tcp(1..) | Protocol::Udp(1..) | Protocol::QuicV1));
    let address: Multiaddr = std::iter::once(host).chain(rest).collect();
    (2..=3).contains(&address.iter().count()).then_some(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_reaches_as_far_as_its_host_does_however_it_is_written() {
        let reach = |text: &str| reach_of(&text.parse().unwrap());
        for text in ["/ip4/127.9.9.9/tcp/1", "/ip6/::1/tcp/1", "/ip6/::ffff:127.0.0.1/tcp/1"] {
            assert_eq!(reach(text), Reach::Machine, "{text}");
        }
        for text in
            ["/ip4/192.168.1.1/tcp/1", "/ip4/100.64.0.1/tcp/1", "/ip6/fd00::1/tcp/1", "/ip6/fe80::1/tcp/1", "/ip6/::ffff:10.0.0.1/tcp/1"]
        {
            assert_eq!(reach(text), Reach::Site, "{text}");
        }
        for text in ["/ip4/198.18.0.1/tcp/1", "/ip4/100.128.0.1/tcp/1", "/ip6/2001:db8::1/tcp/1"] {
            assert_eq!(reach(text), Reach::World, "{text}");
        }
    }

    #[test]
    fn a_peer_is_where_it_is_seen_at_the_port_that_it_says() {
        let at = |listens: &str| Some(at_address_of(&listens.parse().unwrap(), &"/ip4/198.18.0.1/tcp/9".parse().unwrap())?.to_string());
        assert_eq!(at("/ip4/10.0.0.1/udp/5/quic-v1").unwrap(), "/ip4/198.18.0.1/udp/5/quic-v1");
        assert_eq!((at("/ip4/10.0.0.1"), at(&"/tcp/5".repeat(1000))), (None, None));
    }

    #[test]
    fn a_network_is_a_24_or_a_64() {
        let network = |text: &str| network_of(&text.parse().unwrap());
        assert_eq!(network("/ip4/198.18.5.1/tcp/1"), network("/ip4/198.18.5.200/udp/2/quic-v1"));
        assert_ne!(network("/ip4/198.18.5.1/tcp/1"), network("/ip4/198.18.6.1/tcp/1"));
        assert_eq!(network("/ip6/2001:db8::1/tcp/1"), network("/ip6/2001:db8:0:0:ffff::1/tcp/1"));
        assert_eq!(network("/ip6/::ffff:198.18.5.7/tcp/1"), network("/ip4/198.18.5.1/tcp/1"));
        assert_eq!(network("/ip6/::1/tcp/1"), None);
        assert_eq!(network("/ip4/198.18.5.7/tcp/1").unwrap().to_string(), "198.18.5.0/24");
        assert_eq!(network("/ip6/2001:db8::7/tcp/1").unwrap().to_string(), "2001:db8::/64");
    }
}
