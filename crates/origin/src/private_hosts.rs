//! Whom a job may have asked: hosts of the public internet, and others only where the operator says so.
//!
//! A job comes from a stranger and runs beside a network that is not his. What a job names is looked at twice: when it
//! is written as an address, before the request, and when it is a name, as the connection is made, so that a name server
//! cannot say one thing first and another later. A proxy of the operator's looks names up itself: there what it reaches
//! is its own affair.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use url::{Host, Url};

use crate::OriginError;
use crate::error::plain;
use crate::http::is_local;

/// Hosts that may be asked although their addresses are not public. Default: none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PrivateHosts {
    all: bool,
    hosts: Arc<[Host<String>]>,
}

impl PrivateHosts {
    /// Reads hosts with commas between them: addresses, and names, each of which stands for those below it too; `*` is any
    /// host.
    ///
    /// # Errors
    /// [`OriginError::Refused`] if one of them is no host.
    pub fn parse(text: &str) -> Result<Self, OriginError> {
        let hosts: Vec<&str> = text.split(',').map(str::trim).filter(|host| !host.is_empty()).collect();
        let all = hosts.contains(&"*");
        let read = |text: &str| {
            let refused = |_| {
                let why = "write names and addresses with commas between them, without schemes and ports, or *".into();
                OriginError::Refused { what: format!("the host {:?}", plain(text)), why }
            };
            text.parse().map(Host::Ipv6).or_else(|_| Host::parse(text)).map(rooted).map_err(refused)
        };
        let hosts = hosts.into_iter().filter(|host| *host != "*").map(read).collect::<Result<_, _>>()?;
        Ok(Self { all, hosts })
    }

    /// The same, and the host of `url`, if that is an http or https one: what the operator himself has written.
    #[must_use]
    pub fn with_host_of(self, url: &str) -> Self {
        let url = Url::parse(url).ok().filter(|url| url.scheme().starts_with("http"));
        let named = url.and_then(|url| Some(rooted(url.host()?.to_owned())));
        Self { hosts: self.hosts.iter().cloned().chain(named).collect(), ..self }
    }

    /// Refuses a URL whose host is no public one whatever a name server says.
    pub(crate) fn check(&self, url: &Url) -> Result<(), NotPublic> {
        let public = match url.host() {
            Some(Host::Domain(name)) => !is_local(name) || self.names(name) || self.admits(Ipv4Addr::LOCALHOST.into()),
            Some(Host::Ipv4(address)) => self.admits(address.into()),
            Some(Host::Ipv6(address)) => self.admits(address.into()),
            None => true,
        };
        if public { Ok(()) } else { Err(NotPublic(plain(url.host_str().unwrap_or_default()))) }
    }

    /// Those of the addresses that `name` stands for that may be connected to.
    pub(crate) fn choose(&self, name: &str, mut addresses: Vec<SocketAddr>) -> Result<Vec<SocketAddr>, NotPublic> {
        let found = !addresses.is_empty();
        if !self.names(name) {
            addresses.retain(|address| self.admits(address.ip()));
        }
        if found && addresses.is_empty() { Err(NotPublic(plain(name))) } else { Ok(addresses) }
    }

    fn names(&self, name: &str) -> bool {
        let name = name.strip_suffix('.').unwrap_or(name);
        let covers = |host: &Host<String>| match host {
            Host::Domain(known) => name.strip_suffix(known.as_str()).is_some_and(|below| below.is_empty() || below.ends_with('.')),
            Host::Ipv4(_) | Host::Ipv6(_) => false,
        };
        self.all || self.hosts.iter().any(covers)
    }

    fn admits(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        let is_it = |host: &Host<String>| match host {
            Host::Domain(_) => false,
            Host::Ipv4(known) => address == *known,
            Host::Ipv6(known) => address == IpAddr::from(*known).to_canonical(),
        };
        self.all || is_public(address) || self.hosts.iter().any(is_it)
    }
}

/// A name without the dot that may end it.
fn rooted(host: Host<String>) -> Host<String> {
    match host {
        Host::Domain(name) => Host::Domain(name.strip_suffix('.').map_or(name.clone(), str::to_owned)),
        Host::Ipv4(_) | Host::Ipv6(_) => host,
    }
}

/// A host without a public address. Which others it has is not told: it would tell a stranger of this network.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0} has no public address, and jobs look at no others; the operator can allow it with origin.private_hosts")]
pub(crate) struct NotPublic(pub(crate) String);

/// Whether an address is one of the public internet.
///
/// Source: the IANA special-purpose address registries (RFC 6890).
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let is_special = match a {
        // This network, this machine; multicast and all that is reserved.
        0 | 10 | 127 | 224.. => true,
        // Of a provider's own.
        100 => (64..128).contains(&b),
        // Link-local: where clouds tell a machine its secrets.
        169 => b == 254,
        172 => (16..32).contains(&b),
        192 => b == 168 || (b == 0 && (c == 0 || c == 2)) || (b == 88 && c == 99),
        198 => b == 18 || b == 19 || (b == 51 && c == 100),
        203 => b == 0 && c == 113,
        _ => false,
    };
    !is_special
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let [a, b, c, d, e, f, g, h] = address.segments();
    if [a, b, c, d, e, f] == [0x64, 0xff9b, 0, 0, 0, 0] {
        // Networks without IPv4 reach it so.
        let ([g, h], [i, j]) = (g.to_be_bytes(), h.to_be_bytes());
        return is_public_v4(Ipv4Addr::new(g, h, i, j));
    }
    // Of what is given out, not: tunnels, which hide an IPv4 address (2001::/23 and 2002::/16), and documentation.
    let is_special = (a == 0x2001 && (b < 0x200 || b == 0xdb8)) || a == 0x2002 || (a == 0x3fff && b < 0x1000);
    (0x2000..0x4000).contains(&a) && !is_special
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(text: &str) -> PrivateHosts {
        PrivateHosts::parse(text).unwrap()
    }

    fn allows(hosts: &PrivateHosts, url: &str) -> bool {
        hosts.check(&Url::parse(url).unwrap()).is_ok()
    }

    #[test]
    fn no_address_of_this_machine_or_its_networks_is_public() {
        for private in [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "100.64.0.1",
            "100.127.255.255",
            "127.0.0.1",
            "127.9.9.9",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.8",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.19.9.9",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::127.0.0.1",
            "fc00::1",
            "fd12:3456::1",
            "fe80::1",
            "fec0::1",
            "ff02::1",
            "64:ff9b::10.0.0.1",
            "64:ff9b::169.254.169.254",
            "64:ff9b:1::1",
            "100::1",
            "2001::1",
            "2001:db8::1",
            "2002:7f00:1::",
            "2002:a00:1::1",
            "3fff::1",
            "4000::1",
        ] {
            assert!(!PrivateHosts::default().admits(private.parse().unwrap()), "{private}");
        }
        for public in [
            "1.1.1.1",
            "9.255.255.255",
            "11.0.0.1",
            "100.63.0.1",
            "100.128.0.1",
            "126.0.0.1",
            "128.0.0.1",
            "169.253.0.1",
            "172.15.0.1",
            "172.32.0.1",
            "192.0.1.1",
            "192.167.0.1",
            "198.17.0.1",
            "198.20.0.1",
            "223.255.255.255",
            "::ffff:8.8.8.8",
            "64:ff9b::8.8.8.8",
            "2001:4860:4860::8888",
            "2606:4700::1",
            "2a00:1450::1",
            "2003::1",
        ] {
            assert!(PrivateHosts::default().admits(public.parse().unwrap()), "{public}");
        }
    }

    #[test]
    fn an_address_is_known_however_it_is_written() {
        let none = PrivateHosts::default();
        for private in [
            "http://127.1/x",
            "http://2130706433/",
            "http://0x7f.0.0.1/",
            "https://0251.0376.0251.0376/",
            "https://[::ffff:a9fe:a9fe]/",
            "https://[::1]:9/",
            "http://localhost/",
            "http://pub.s3.LOCALHOST./",
            "https://\u{ff11}\u{ff10}.0.0.1/",
        ] {
            assert!(!allows(&none, private), "{private}");
            assert!(allows(&hosts("*"), private), "{private}");
        }
        assert!(allows(&none, "https://8.8.8.8/") && allows(&none, "https://minio.lan/"), "a name is looked at as it is resolved");
    }

    #[test]
    fn what_the_operator_lists_may_be_asked_and_nothing_beside_it() {
        let some = hosts(" Minio.lan., 10.0.0.5,, ::1 ,[fd00::7]");
        for listed in ["https://10.0.0.5:9000/", "https://[::1]/", "https://[fd00::7]/", "https://[::ffff:10.0.0.5]/"] {
            assert!(allows(&some, listed), "{listed}");
        }
        for other in ["https://10.0.0.6/", "https://127.0.0.1/", "https://[fd00::8]/", "http://localhost/"] {
            assert!(!allows(&some, other), "{other}");
        }
        assert!(allows(&hosts("localhost"), "http://pub.s3.localhost/"), "a name stands for those below it");
        for bad in ["https://minio.lan", "minio.lan:9000", "a b", "10.0.0.0/8"] {
            assert!(PrivateHosts::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn of_what_a_name_stands_for_only_what_is_public_is_connected_to() {
        let addresses = |text: &[&str]| text.iter().map(|address| SocketAddr::new(address.parse().unwrap(), 0)).collect::<Vec<_>>();
        let (mixed, private) = (addresses(&["10.0.0.1", "8.8.8.8", "fd00::1"]), addresses(&["10.0.0.1", "127.0.0.1"]));
        let none = PrivateHosts::default();
        assert_eq!(none.choose("minio.lan", mixed.clone()).unwrap(), addresses(&["8.8.8.8"]));
        let refusal = none.choose("minio.lan", private.clone()).unwrap_err().to_string();
        assert!(refusal.contains("minio.lan") && refusal.contains("origin.private_hosts") && !refusal.contains("10.0"), "{refusal}");
        assert_eq!(hosts("127.0.0.1").choose("minio.lan", private.clone()).unwrap(), addresses(&["127.0.0.1"]));
        for name in ["minio.lan", "bucket.minio.lan."] {
            assert_eq!(hosts("minio.lan").choose(name, mixed.clone()).unwrap(), mixed, "{name}");
        }
        assert!(hosts("minio.lan").choose("evilminio.lan", private).is_err());
        assert_eq!(none.choose("nowhere", vec![]).unwrap(), vec![], "a name that stands for nothing is another fault");
    }
}
