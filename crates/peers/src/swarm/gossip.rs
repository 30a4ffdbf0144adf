//! What is gossiped of holdings: changes, in signed and numbered messages of at most 16 KiB.
//!
//! A message says for how long it is good, not until when, and a node's runs are compared with its own runs only, so that no two
//! clocks are compared. Anyone can make up authors: how many, and how much in all, is bounded for each network that brings them.

use std::collections::{BTreeSet, HashMap};
use std::time::SystemTime;

use larder_content::NodeId;
use larder_content::codec::{self, Record};
use libp2p::Multiaddr;
use libp2p::gossipsub::MessageAcceptance;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::address::{Network, network_of, told_by};
use crate::control::{ControlRecord, RowRecord};
use crate::holdings::{Row, Standing, Window};
use crate::pace::{Bucket, Buckets};
use crate::shared::{Shared, lock};

/// The most rows in a message.
const ROWS_A_MESSAGE: usize = 320;
/// The most addresses in a message.
const ADDRESSES_A_MESSAGE: usize = 4;
/// Messages of one author in a second, and at once; more are neither taken nor passed on.
const MESSAGES_A_SECOND: f64 = 0.5;
const MESSAGES_AT_ONCE: f64 = 40.0;
/// The most messages that this node makes at once; the rest follows.
const MOST_MADE: usize = 8;
/// The most authors that are remembered; those that were silent longest are forgotten first.
const MOST_REMEMBERED: usize = 16_384;
/// Messages from one network in a second, and at once: a market of 10,000 nodes that all begin a job. If there are more, whoever of
/// the network has brought many is at fault.
const MESSAGES_BROUGHT_A_SECOND: f64 = 100.0;
const MESSAGES_BROUGHT_AT_ONCE: f64 = 10_000.0;
const MANY_MESSAGES_AT_ONCE: f64 = 1000.0;
/// Messages that this node passes on in a second, and at once: fewer than it would be at fault for.
const PASSED_ON_A_SECOND: f64 = 80.0;
const PASSED_ON_AT_ONCE: f64 = 8000.0;
/// Authors from one network that were not known, in a second and at once.
const NEW_AUTHORS_A_SECOND: f64 = 2.0;
const NEW_AUTHORS_AT_ONCE: f64 = 512.0;
/// Malformed messages from one node in a second, and at once. Nobody passes such on, so who brings more is at fault.
const MALFORMED_A_SECOND: f64 = 0.01;
const MALFORMED_AT_ONCE: f64 = 10.0;
/// The most networks that are counted, and the most nodes.
const MOST_SOURCES: usize = 2048;

#[derive(Debug, Serialize, Deserialize)]
struct GossipRecord {
    run: u64,
    sequence: u64,
    /// Where the author listens.
    addresses: Vec<String>,
    rows: Vec<RowRecord>,
}

impl Record for GossipRecord {
    const VERSION: u8 = 1;
    const LIMIT_BYTES: usize = 16 * 1024;
}

/// This node's gossip, and whom it has heard.
#[derive(Debug)]
pub(super) struct Gossip {
    /// The number of this run: milliseconds since 1970 at its start.
    pub(super) run: u64,
    sequence: u64,
    authors: HashMap<NodeId, Author>,
    /// The authors by when they were last heard.
    silent: BTreeSet<(Instant, NodeId)>,
    brought: Buckets<Source>,
    brought_by: Buckets<NodeId>,
    malformed_by: Buckets<NodeId>,
    new_authors: Buckets<Source>,
    passed_on: Bucket,
}

/// Where messages come from: a network, or one of the nodes on this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Source {
    Network(Network),
    Node(NodeId),
}

/// What came of a message.
#[derive(Debug)]
pub(super) struct Taken {
    /// Whether it is to be passed on.
    pub(super) acceptance: MessageAcceptance,
    /// Where the author listens, as far as who brought it may say.
    pub(super) addresses: Vec<Multiaddr>,
    /// What who brought it is at fault for.
    pub(super) offence: Option<&'static str>,
}

impl From<MessageAcceptance> for Taken {
    fn from(acceptance: MessageAcceptance) -> Self {
        Self { acceptance, addresses: Vec::new(), offence: None }
    }
}

#[derive(Debug)]
struct Author {
    window: Window,
    pace: Bucket,
    heard_at: Instant,
}

impl Gossip {
    pub(super) fn new() -> Self {
        let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self {
            run: u64::try_from(since_1970.as_millis()).unwrap_or_default(),
            sequence: 0,
            authors: HashMap::new(),
            silent: BTreeSet::new(),
            brought: Buckets::new(MESSAGES_BROUGHT_A_SECOND, MESSAGES_BROUGHT_AT_ONCE, MOST_SOURCES),
            brought_by: Buckets::new(MESSAGES_BROUGHT_A_SECOND, MANY_MESSAGES_AT_ONCE, MOST_SOURCES),
            new_authors: Buckets::new(NEW_AUTHORS_A_SECOND, NEW_AUTHORS_AT_ONCE, MOST_SOURCES),
            malformed_by: Buckets::new(MALFORMED_A_SECOND, MALFORMED_AT_ONCE, MOST_SOURCES),
            passed_on: Bucket::new(PASSED_ON_A_SECOND, PASSED_ON_AT_ONCE),
        }
    }

    /// Tells connected peers what is untold, and gives the same as messages to be published.
    pub(super) fn make(&mut self, shared: &Shared) -> Vec<Vec<u8>> {
        let listening = shared.reachable_at(ADDRESSES_A_MESSAGE);
        let mut messages = Vec::new();
        while messages.len() < MOST_MADE {
            let rows = lock(&shared.own).take_untold(ROWS_A_MESSAGE, shared.now());
            if rows.is_empty() {
                break;
            }
            let rows: Vec<RowRecord> = rows.iter().map(RowRecord::from).collect();
            for link in shared.links() {
                link.send(&ControlRecord::News(rows.clone()));
            }
            self.sequence += 1;
            let record = GossipRecord { run: self.run, sequence: self.sequence, addresses: listening.clone(), rows };
            messages.extend(codec::encode(&record));
        }
        messages
    }

    /// A node says over its own connection which run it is in.
    pub(super) fn begins(&mut self, node: NodeId, run: u64) {
        self.author(node).window.begin(run);
    }

    /// Takes a message that `author` has signed and that `from`, connected from `at`, has brought.
    pub(super) fn take(&mut self, shared: &Shared, from: NodeId, at: &Multiaddr, author: Option<NodeId>, data: &[u8]) -> Taken {
        let source = network_of(at).map_or(Source::Node(from), Source::Network);
        let (of_network, of_node) = (self.brought.try_take(source, 1.0), self.brought_by.try_take(from, 1.0));
        if !of_network && !of_node {
            return Taken { offence: Some("more gossip than a market has"), ..MessageAcceptance::Ignore.into() };
        }
        let Some((author, record)) = author.zip(read(data)) else {
            let is_offence = !self.malformed_by.try_take(from, 1.0);
            return Taken { offence: is_offence.then_some("malformed gossip"), ..MessageAcceptance::Reject.into() };
        };
        let is_connected = shared.link(author).is_some();
        let is_let_in = author != shared.identity.id() && lock(&shared.gate).admits(author).is_ok();
        let is_known = is_connected || self.authors.contains_key(&author);
        if !is_let_in || !(is_known || self.new_authors.try_take(source, 1.0)) {
            return MessageAcceptance::Ignore.into();
        }
        let heard = self.author(author);
        if !heard.pace.try_take(1.0) || !heard.window.take(record.run, record.sequence) || !self.passed_on.try_take(1.0) {
            return MessageAcceptance::Ignore.into();
        }
        // A connected author says the same on its own stream, where nothing comes out of order.
        if !is_connected {
            let rows: Vec<Row> = record.rows.into_iter().map(|row| row.into_row(shared.config.expiry)).collect();
            let news = lock(&shared.table).said(author, Standing::Author, &rows, shared.now());
            shared.spread(news, author);
        }
        Taken { addresses: told_by(at, &record.addresses).collect(), ..MessageAcceptance::Accept.into() }
    }

    /// An author, heard just now.
    fn author(&mut self, author: NodeId) -> &mut Author {
        let now = Instant::now();
        if let Some(known) = self.authors.get(&author) {
            self.silent.remove(&(known.heard_at, author));
        } else if self.authors.len() >= MOST_REMEMBERED
            && let Some((_, longest)) = self.silent.pop_first()
        {
            self.authors.remove(&longest);
        }
        self.silent.insert((now, author));
        let pace = || Bucket::new(MESSAGES_A_SECOND, MESSAGES_AT_ONCE);
        let heard = self.authors.entry(author).or_insert_with(|| Author { window: Window::default(), pace: pace(), heard_at: now });
        heard.heard_at = now;
        heard
    }
}

fn read(data: &[u8]) -> Option<GossipRecord> {
    let record: GossipRecord = codec::decode(data).ok()?;
    (record.rows.len() <= ROWS_A_MESSAGE && record.addresses.len() <= ADDRESSES_A_MESSAGE).then_some(record)
}

/// A message with these rows.
#[cfg(test)]
pub(crate) fn of(rows: Vec<RowRecord>) -> Vec<u8> {
    let addresses = vec!["/ip4/255.255.255.255/udp/65535/quic-v1".to_owned(); ADDRESSES_A_MESSAGE];
    codec::encode(&GossipRecord { run: 7, sequence: 1, addresses, rows }).unwrap()
}

/// What must hold of any message, for a fuzzer.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn check(data: &[u8]) {
    let (shared, _to_obey, _to_take) = Shared::for_test();
    let at: Multiaddr = std::net::Ipv4Addr::new(198, 18, 0, 1).into();
    let taken = Gossip::new().take(&shared, NodeId([9; 32]), &at, Some(NodeId([1; 32])), data);
    assert!(taken.addresses.iter().all(|address| crate::address::reach_of(address) == crate::address::Reach::World));
    assert!(taken.addresses.len() <= ADDRESSES_A_MESSAGE && lock(&shared.table).len() <= ROWS_A_MESSAGE);
    let Some(record) = read(data) else {
        return assert!(matches!(taken.acceptance, MessageAcceptance::Reject) && lock(&shared.table).len() == 0);
    };
    let again = codec::encode(&record).ok().and_then(|data| codec::encode(&read(&data)?).ok().filter(|again| *again == data));
    assert!(again.is_some(), "it is written as it is read");
}

#[cfg(test)]
mod tests {
    use super::*;
    use larder_content::Holding;

    fn message(run: u64, sequence: u64, rows: usize) -> Vec<u8> {
        let row = |row: usize| RowRecord {
            subject: *blake3::hash(&(sequence * 1000 + row as u64).to_le_bytes()).as_bytes(),
            holding: Holding::Complete.into(),
            seconds: u32::MAX,
        };
        let addresses = vec!["/ip4/255.255.255.255/udp/65535/quic-v1".to_owned(); ADDRESSES_A_MESSAGE];
        codec::encode(&GossipRecord { run, sequence, addresses, rows: (0..rows).map(row).collect() }).unwrap()
    }

    const FROM: NodeId = NodeId([9; 32]);

    fn at() -> Multiaddr {
        "/ip4/198.18.0.1/tcp/1".parse().unwrap()
    }

    fn made_up(number: u32) -> NodeId {
        NodeId(*blake3::hash(&number.to_le_bytes()).as_bytes())
    }

    fn take(gossip: &mut Gossip, shared: &Shared, author: NodeId, data: &[u8]) -> MessageAcceptance {
        gossip.take(shared, FROM, &at(), Some(author), data).acceptance
    }

    #[test]
    fn an_author_that_floods_is_neither_heard_nor_passed_on() {
        let (shared, _to_obey, _to_take) = Shared::for_test();
        let (mut gossip, flood, honest) = (Gossip::new(), NodeId([1; 32]), NodeId([2; 32]));
        let mut passed_on = 0;
        for sequence in 1..3200 {
            let acceptance = take(&mut gossip, &shared, flood, &message(7, sequence, ROWS_A_MESSAGE));
            passed_on += usize::from(matches!(acceptance, MessageAcceptance::Accept));
        }
        assert!((40..60).contains(&passed_on), "{passed_on}");
        assert!(lock(&shared.table).len() <= 60 * ROWS_A_MESSAGE);
        assert!(matches!(take(&mut gossip, &shared, honest, &message(7, 1, 1)), MessageAcceptance::Accept));
    }

    #[test]
    fn what_is_malformed_is_rejected_and_what_was_heard_or_is_of_a_banned_author_is_ignored() {
        let (shared, _to_obey, _to_take) = Shared::for_test();
        let (mut gossip, author, banned) = (Gossip::new(), NodeId([1; 32]), NodeId([3; 32]));
        assert!(matches!(take(&mut gossip, &shared, author, b"nonsense"), MessageAcceptance::Reject));
        assert!(matches!(take(&mut gossip, &shared, author, &message(7, 1, ROWS_A_MESSAGE + 1)), MessageAcceptance::Reject));
        assert!(matches!(take(&mut gossip, &shared, author, &message(7, 1, 1)), MessageAcceptance::Accept));
        assert!(matches!(take(&mut gossip, &shared, author, &message(7, 1, 1)), MessageAcceptance::Ignore));
        assert!(matches!(take(&mut gossip, &shared, author, &message(6, 2, 1)), MessageAcceptance::Ignore), "of an earlier run");
        gossip.begins(author, 6);
        assert!(matches!(take(&mut gossip, &shared, author, &message(6, 2, 1)), MessageAcceptance::Accept), "it says so itself");
        lock(&shared.gate).ban(banned, std::time::Duration::from_secs(60));
        assert!(matches!(take(&mut gossip, &shared, banned, &message(7, 1, 1)), MessageAcceptance::Ignore));
    }

    #[test]
    fn made_up_authors_are_few_from_each_network_and_bounded_in_all() {
        let (shared, _to_obey, _to_take) = Shared::for_test();
        let mut gossip = Gossip::new();
        let heard =
            (0..5000).filter(|number| matches!(take(&mut gossip, &shared, made_up(*number), &message(1, 1, 1)), MessageAcceptance::Accept));
        let heard = heard.count() as f64;
        assert!((NEW_AUTHORS_AT_ONCE..NEW_AUTHORS_AT_ONCE + 100.0).contains(&heard), "{heard}");
        for number in 5000..30_000_u32 {
            let at = format!("/ip4/198.18.{}.1/tcp/1", number % 256).parse().unwrap();
            gossip.take(&shared, FROM, &at, Some(made_up(number)), &message(1, 1, 1));
        }
        assert!(gossip.authors.len() == MOST_REMEMBERED && gossip.silent.len() == MOST_REMEMBERED);
        assert!(gossip.authors.contains_key(&made_up(29_999)), "the silent are forgotten first");
    }

    #[test]
    fn who_brings_a_flood_or_malformed_gossip_is_at_fault() {
        let (shared, _to_obey, _to_take) = Shared::for_test();
        let mut gossip = Gossip::new();
        let (author, same) = (Some(NodeId([1; 32])), message(7, 1, 1));
        let mut offence = |from: NodeId, data: &[u8]| gossip.take(&shared, from, &at(), author, data).offence;
        assert!((0..10).all(|_| offence(FROM, b"nonsense").is_none()));
        assert_eq!(offence(FROM, b"nonsense"), Some("malformed gossip"));
        assert_eq!((0..20_000).find_map(|_| offence(FROM, &same)), Some("more gossip than a market has"));
        assert_eq!(offence(NodeId([8; 32]), &same), None, "its neighbour is not at fault");
    }

    #[test]
    fn nobody_tells_addresses_that_are_nearer_than_its_own() {
        let (shared, _to_obey, _to_take) = Shared::for_test();
        let addresses = ["/ip4/127.0.0.1/tcp/1", "/ip4/192.168.1.1/tcp/1", "/ip4/198.18.7.1/tcp/1"].map(str::to_owned);
        let said = |from: &str, sequence: u64| {
            let record = GossipRecord { run: 7, sequence, addresses: addresses.to_vec(), rows: Vec::new() };
            let data = codec::encode(&record).unwrap();
            Gossip::new().take(&shared, FROM, &from.parse().unwrap(), Some(NodeId([1; 32])), &data).addresses.len()
        };
        assert_eq!((said(&addresses[0], 1), said(&addresses[1], 2), said(&addresses[2], 3)), (3, 2, 1));
    }
}
