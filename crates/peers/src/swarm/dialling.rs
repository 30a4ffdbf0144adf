//! Whom to dial, when, and where: the peers that are known, with their backoff. Decides only; the loop dials.

use std::collections::{HashMap, HashSet};
use std::net::Ipv4Addr;
use std::time::Duration;

use larder_content::NodeId;
use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;
use tokio::time::Instant;

use crate::address::ip_of;
use crate::book::{KnownPeer, MOST_ADDRESS_BYTES, MOST_ADDRESSES, MOST_KNOWN};

/// The first wait after a failure; it doubles, and varies by a quarter.
const FIRST_BACKOFF: Duration = Duration::from_secs(1);
/// The longest wait.
const LONGEST_BACKOFF: Duration = Duration::from_secs(60);
/// After so many failures in a row a peer is forgotten, unless it is a bootstrap.
const MOST_FAILURES: u32 = 8;
/// The most dials at once.
const MOST_DIALS: usize = 16;
/// How long a node that is wanted is dialled again.
const WANTED: Duration = Duration::from_secs(120);
/// The most nodes that are wanted at once.
const MOST_WANTED: usize = 256;

/// The peers that are known.
#[derive(Debug, Default)]
pub(crate) struct Dialling {
    own: Option<NodeId>,
    known: HashMap<NodeId, Known>,
    under_way: HashSet<NodeId>,
    wanted: HashMap<NodeId, Instant>,
    /// Bootstraps whose first dial has not ended.
    awaited: HashSet<NodeId>,
    has_changed: bool,
}

#[derive(Debug, Default)]
struct Known {
    addresses: Vec<Multiaddr>,
    is_bootstrap: bool,
    /// Whether it was ever there when this node dialled: only then its addresses are more than a word.
    was_reached: bool,
    failures: u32,
    not_before: Option<Instant>,
}

impl Dialling {
    pub(crate) fn new(own: NodeId, bootstraps: &[(NodeId, Multiaddr)], book: &[KnownPeer]) -> Self {
        let mut dialling = Self { own: Some(own), ..Self::default() };
        for (node, address) in bootstraps.iter().filter(|(node, _)| *node != own) {
            let known = dialling.known.entry(*node).or_default();
            known.is_bootstrap = true;
            known.addresses.push(address.clone());
            dialling.awaited.insert(*node);
        }
        for peer in book {
            dialling.learn(peer.node, peer.addresses.iter().filter_map(|text| text.parse().ok()));
        }
        dialling
    }

    /// Takes addresses of a peer; those that came first stay. A peer without any is not known.
    pub(crate) fn learn(&mut self, node: NodeId, addresses: impl Iterator<Item = Multiaddr>) {
        let mut addresses = addresses.filter(is_dialable).peekable();
        if Some(node) == self.own || addresses.peek().is_none() || (!self.known.contains_key(&node) && !self.make_room()) {
            return;
        }
        let known = self.known.entry(node).or_default();
        for address in addresses {
            if known.addresses.len() < MOST_ADDRESSES && !known.addresses.contains(&address) {
                known.addresses.push(address);
                self.has_changed = true;
            }
        }
    }

    /// Asks for a connection to a node, soon and for a while. False if it is not known yet where it is.
    pub(crate) fn want(&mut self, node: NodeId) -> bool {
        let now = Instant::now();
        self.wanted.retain(|_, until| *until > now);
        if Some(node) == self.own {
            return false;
        }
        if self.wanted.len() >= MOST_WANTED
            && let Some(oldest) = self.wanted.iter().min_by_key(|(_, until)| **until).map(|(node, _)| *node)
        {
            self.wanted.remove(&oldest);
        }
        self.wanted.insert(node, now + WANTED);
        self.known.contains_key(&node)
    }

    /// Whom to dial, given who is connected, how many of them this node has dialled, and how many should be connected; half of them
    /// should be dialled, so that those who come cannot be all that there is. They count as being dialled from then on.
    pub(crate) fn next(&mut self, connected: &HashSet<NodeId>, dialled: usize, wanted: usize) -> Vec<(NodeId, Vec<Multiaddr>)> {
        let now = Instant::now();
        let due: Vec<NodeId> =
            self.known.iter().filter(|(node, known)| self.is_due(**node, known, connected, now)).map(|(n, _)| *n).collect();
        let is_bootstrap = |node: &NodeId| self.known.get(node).is_some_and(|known| known.is_bootstrap);
        let is_wanted = |node: &NodeId| self.wanted.get(node).is_some_and(|until| *until > now);
        let (mut first, mut others): (Vec<NodeId>, Vec<NodeId>) = due.into_iter().partition(|node| is_bootstrap(node) || is_wanted(node));
        fastrand::shuffle(&mut others);
        let coming = self.under_way.len() + first.len();
        let missing = wanted.saturating_sub(connected.len() + coming).max((wanted / 2).saturating_sub(dialled + coming));
        first.extend(others.into_iter().take(missing));
        first.truncate(MOST_DIALS.saturating_sub(self.under_way.len()));
        let addresses = |node: NodeId| self.known.get(&node).map(|known| (node, known.addresses.clone()));
        let dials: Vec<_> = first.into_iter().filter_map(addresses).collect();
        self.under_way.extend(dials.iter().map(|(node, _)| *node));
        dials
    }

    fn is_due(&self, node: NodeId, known: &Known, connected: &HashSet<NodeId>, now: Instant) -> bool {
        let is_free = !connected.contains(&node) && !self.under_way.contains(&node) && !known.addresses.is_empty();
        is_free && known.not_before.is_none_or(|time| time <= now)
    }

    /// A dial has led to a connection; whether it is good for anything shows when the peer says hello.
    pub(crate) fn has_connected(&mut self, node: NodeId) {
        self.under_way.remove(&node);
    }

    /// A peer has said hello.
    pub(crate) fn has_greeted(&mut self, node: NodeId, dialled_at: Option<&Multiaddr>) {
        self.awaited.remove(&node);
        self.wanted.remove(&node);
        if let Some(known) = self.known.get_mut(&node) {
            (known.failures, known.not_before) = (0, None);
        }
        let Some(address) = dialled_at else { return };
        if !self.known.contains_key(&node) && !self.make_room() {
            return;
        }
        let known = self.known.entry(node).or_default();
        self.has_changed |= !known.was_reached;
        known.was_reached = true;
        known.addresses.retain(|other| other != address);
        known.addresses.insert(0, address.clone());
        known.addresses.truncate(MOST_ADDRESSES);
    }

    /// A dial has failed, or the peer did not say hello.
    pub(crate) fn has_failed(&mut self, node: NodeId) {
        self.under_way.remove(&node);
        self.awaited.remove(&node);
        let Some(known) = self.known.get_mut(&node) else { return };
        known.failures += 1;
        if known.failures >= MOST_FAILURES && !known.is_bootstrap {
            self.known.remove(&node);
            self.has_changed = true;
            return;
        }
        let wait = FIRST_BACKOFF.saturating_mul(1 << (known.failures - 1).min(10)).min(LONGEST_BACKOFF);
        known.not_before = Some(Instant::now() + wait.mul_f64(0.75 + fastrand::f64() / 2.0));
    }

    /// A peer that had said hello has gone: it may be tried again soon.
    pub(crate) fn has_left(&mut self, node: NodeId) {
        if let Some(known) = self.known.get_mut(&node) {
            known.not_before = Some(Instant::now() + FIRST_BACKOFF.mul_f64(fastrand::f64()));
        }
    }

    /// Nothing is being dialled any more: the loop starts anew.
    pub(crate) fn begin_again(&mut self) {
        self.under_way.clear();
        self.awaited.clear();
    }

    /// The number of bootstraps whose first dial has not ended.
    pub(crate) fn awaited(&self) -> usize {
        self.awaited.len()
    }

    pub(crate) fn is_bootstrap(&self, node: NodeId) -> bool {
        self.known.get(&node).is_some_and(|known| known.is_bootstrap)
    }

    pub(crate) fn len(&self) -> usize {
        self.known.len()
    }

    /// Whether what is to be kept over a restart has changed since this was last asked.
    pub(crate) fn takes_change(&mut self) -> bool {
        std::mem::take(&mut self.has_changed)
    }

    /// The peers to be kept over a restart.
    pub(crate) fn reached(&self) -> Vec<KnownPeer> {
        let reached = self.known.iter().filter(|(_, known)| known.was_reached && !known.addresses.is_empty());
        let peer = |(node, known): (&NodeId, &Known)| KnownPeer {
            node: *node,
            addresses: known.addresses.iter().map(ToString::to_string).collect(),
        };
        reached.map(peer).collect()
    }

    fn make_room(&mut self) -> bool {
        if self.known.len() < MOST_KNOWN {
            return true;
        }
        // Any one: of those that were never reached nobody can say who is real, and by chance most of them go that there are most of.
        let strangers = self.known.iter().filter(|(_, known)| !known.is_bootstrap && !known.was_reached);
        let any = strangers.min_by_key(|_| fastrand::u64(..)).map(|(node, _)| *node);
        any.is_some_and(|node| self.known.remove(&node).is_some())
    }
}

/// Whether it is the address of one host, by number, and a port: names are for bootstraps, which the operator gives.
fn is_dialable(address: &Multiaddr) -> bool {
    let host = ip_of(address).is_some_and(|ip| !ip.is_unspecified() && !ip.is_multicast() && ip != Ipv4Addr::BROADCAST);
    let port = address.iter().any(|part| matches!(part, Protocol::Tcp(1..) | Protocol::Udp(1..)));
    let is_plain = address.iter().all(|part| !matches!(part, Protocol::P2pCircuit | Protocol::P2p(_)));
    host && port && is_plain && address.len() <= MOST_ADDRESS_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(number: u32) -> NodeId {
        NodeId(*blake3::hash(&number.to_le_bytes()).as_bytes())
    }

    fn address(number: u32) -> Multiaddr {
        format!("/ip4/10.0.0.1/tcp/{}", number + 1).parse().unwrap()
    }

    #[test]
    fn a_bootstrap_is_tried_for_ever_and_a_stranger_is_forgotten() {
        let mut dialling = Dialling::new(node(0), &[(node(1), address(1))], &[]);
        dialling.learn(node(2), [address(2)].into_iter());
        for _ in 0..20 {
            dialling.has_failed(node(1));
            dialling.has_failed(node(2));
        }
        assert_eq!((dialling.len(), dialling.is_bootstrap(node(1))), (1, true));
        assert!(dialling.next(&HashSet::new(), 0, 16).is_empty(), "not before its time");
    }

    #[test]
    fn a_peer_is_dialled_once_at_a_time_and_no_more_than_are_wanted() {
        let mut dialling = Dialling::new(node(0), &[], &[]);
        for number in 1..50 {
            dialling.learn(node(number), [address(number)].into_iter());
        }
        let first = dialling.next(&HashSet::new(), 0, 4);
        assert_eq!((first.len(), dialling.next(&HashSet::new(), 0, 4).len()), (4, 0));
        dialling.want(node(49));
        let is_under_way = first.iter().any(|(other, _)| *other == node(49));
        assert!(is_under_way || dialling.next(&HashSet::new(), 0, 4).iter().any(|(other, _)| *other == node(49)));
    }

    #[test]
    fn what_strangers_say_stays_bounded() {
        let mut dialling = Dialling::new(node(0), &[(node(1), address(1))], &[]);
        dialling.has_greeted(node(2), Some(&address(2)));
        for number in 3..10_000 {
            dialling.learn(node(number), (0..100).map(address));
        }
        assert!(dialling.len() <= MOST_KNOWN);
        assert!(dialling.known.values().all(|known| known.addresses.len() <= MOST_ADDRESSES));
        assert!(dialling.known.contains_key(&node(1)) && dialling.known.contains_key(&node(2)));
        assert!(dialling.takes_change());
        assert_eq!(dialling.reached(), [KnownPeer { node: node(2), addresses: vec![address(2).to_string()] }]);
    }

    #[test]
    fn half_of_the_connections_are_dialled_however_many_come() {
        let mut dialling = Dialling::new(node(0), &[], &[]);
        for number in 1..50 {
            dialling.learn(node(number), [address(number)].into_iter());
        }
        let came: HashSet<NodeId> = (100..200).map(node).collect();
        assert_eq!(dialling.next(&came, 5, 16).len(), 3);
        assert!(dialling.next(&came, 5, 16).is_empty(), "three are under way");
    }

    #[test]
    fn who_only_came_by_or_was_named_without_an_address_is_not_known() {
        let mut dialling = Dialling::new(node(0), &[], &[]);
        dialling.has_greeted(node(1), None);
        let refused = ["/dns4/localhost/tcp/1", "/ip4/0.0.0.0/tcp/1", "/ip4/10.0.0.1", "/ip4/10.0.0.1/tcp/0"];
        dialling.learn(node(2), refused.iter().map(|text| text.parse().unwrap()));
        let long = (0..100).fold(address(1), |long, _| long.with(Protocol::Tcp(1)));
        dialling.learn(node(3), [long].into_iter());
        assert_eq!(dialling.len(), 0);
        dialling.learn(node(4), [address(4)].into_iter());
        dialling.has_greeted(node(4), None);
        assert!(dialling.takes_change() && dialling.reached().is_empty(), "it may not be there for who dials");
    }

    #[test]
    fn of_many_that_are_wanted_the_last_are_dialled() {
        let mut dialling = Dialling::new(node(0), &[], &[]);
        assert!((1..10_000).all(|number| !dialling.want(node(number))));
        assert!(dialling.wanted.len() <= MOST_WANTED && dialling.wanted.contains_key(&node(9999)));
    }
}
