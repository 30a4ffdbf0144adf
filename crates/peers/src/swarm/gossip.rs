//! What is gossiped of holdings: changes, in signed and numbered messages of at most 16 KiB.
//!
//! A message says for how long it is good, not until when, and a node's runs have random numbers, so that no clock matters.

use std::collections::HashMap;

use larder_content::NodeId;
use larder_content::codec::{self, Record};
use libp2p::Multiaddr;
use libp2p::gossipsub::MessageAcceptance;
use serde::{Deserialize, Serialize};

use crate::control::{ControlRecord, RowRecord};
use crate::holdings::{Row, Standing, Window};
use crate::pace::Bucket;
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
/// The most authors that are remembered.
const MOST_AUTHORS: usize = 16_384;

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
    /// The random number of this run.
    pub(super) run: u64,
    sequence: u64,
    authors: HashMap<NodeId, Author>,
}

#[derive(Debug)]
struct Author {
    window: Window,
    pace: Bucket,
}

impl Gossip {
    pub(super) fn new() -> Self {
        Self { run: fastrand::u64(..), sequence: 0, authors: HashMap::new() }
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

    /// Takes a message that `author` has signed. Gives whether it is to be passed on, and where the author listens.
    pub(super) fn take(&mut self, shared: &Shared, author: NodeId, data: &[u8]) -> (MessageAcceptance, Vec<Multiaddr>) {
        let Ok(record) = codec::decode::<GossipRecord>(data) else { return (MessageAcceptance::Reject, Vec::new()) };
        if record.rows.len() > ROWS_A_MESSAGE || record.addresses.len() > ADDRESSES_A_MESSAGE {
            return (MessageAcceptance::Reject, Vec::new());
        }
        if author == shared.identity.id() || !self.may_speak(author, record.run, record.sequence) {
            return (MessageAcceptance::Ignore, Vec::new());
        }
        // A connected author says the same on its own stream, where nothing comes out of order.
        if shared.link(author).is_none() {
            let rows: Vec<Row> = record.rows.into_iter().map(|row| row.into_row(shared.config.expiry)).collect();
            let news = lock(&shared.table).said(author, Standing::Author, &rows, shared.now());
            shared.spread(news, author);
        }
        (MessageAcceptance::Accept, record.addresses.iter().filter_map(|text| text.parse().ok()).collect())
    }

    fn may_speak(&mut self, author: NodeId, run: u64, sequence: u64) -> bool {
        if self.authors.len() >= MOST_AUTHORS
            && !self.authors.contains_key(&author)
            && let Some(any) = self.authors.keys().next().copied()
        {
            self.authors.remove(&any);
        }
        let new = || Author { window: Window::default(), pace: Bucket::new(MESSAGES_A_SECOND, MESSAGES_AT_ONCE) };
        let heard = self.authors.entry(author).or_insert_with(new);
        heard.pace.try_take(1.0) && heard.window.take(run, sequence)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Addresses, Config, MarketConfig};
    use crate::shared::Command;
    use crate::{Event, Identity};
    use larder_content::Holding;
    use tokio::sync::mpsc;

    fn shared() -> (Shared, mpsc::Receiver<Command>, mpsc::Receiver<Event>) {
        let market = MarketConfig { address: "market".into(), ..MarketConfig::default() };
        let addresses = Addresses::read(&market, &Config::default()).unwrap();
        let ((commands, to_obey), (events, to_take)) = (mpsc::channel(16), mpsc::channel(2048));
        (Shared::new(Identity::generate(), market, Config::default(), addresses, &[], commands, events), to_obey, to_take)
    }

    fn message(run: u64, sequence: u64, rows: usize) -> Vec<u8> {
        let row = |row: usize| RowRecord {
            subject: *blake3::hash(&(sequence * 1000 + row as u64).to_le_bytes()).as_bytes(),
            holding: Holding::Complete.into(),
            seconds: u32::MAX,
        };
        let addresses = vec!["/ip4/255.255.255.255/udp/65535/quic-v1".to_owned(); ADDRESSES_A_MESSAGE];
        codec::encode(&GossipRecord { run, sequence, addresses, rows: (0..rows).map(row).collect() }).unwrap()
    }

    #[test]
    fn an_author_that_floods_is_neither_heard_nor_passed_on() {
        let (shared, _to_obey, _to_take) = shared();
        let (mut gossip, flood, honest) = (Gossip::new(), NodeId([1; 32]), NodeId([2; 32]));
        let mut passed_on = 0;
        for sequence in 1..3200 {
            let (acceptance, _) = gossip.take(&shared, flood, &message(7, sequence, ROWS_A_MESSAGE));
            passed_on += usize::from(matches!(acceptance, MessageAcceptance::Accept));
        }
        assert!((40..60).contains(&passed_on), "{passed_on}");
        assert!(lock(&shared.table).len() <= 60 * ROWS_A_MESSAGE);
        let (acceptance, _) = gossip.take(&shared, honest, &message(7, 1, 1));
        assert!(matches!(acceptance, MessageAcceptance::Accept));
    }

    #[test]
    fn what_is_malformed_is_rejected_and_what_was_heard_is_ignored() {
        let (shared, _to_obey, _to_take) = shared();
        let (mut gossip, author) = (Gossip::new(), NodeId([1; 32]));
        assert!(matches!(gossip.take(&shared, author, b"nonsense").0, MessageAcceptance::Reject));
        assert!(matches!(gossip.take(&shared, author, &message(7, 1, ROWS_A_MESSAGE + 1)).0, MessageAcceptance::Reject));
        assert!(matches!(gossip.take(&shared, author, &message(7, 1, 1)).0, MessageAcceptance::Accept));
        assert!(matches!(gossip.take(&shared, author, &message(7, 1, 1)).0, MessageAcceptance::Ignore));
    }

    #[test]
    fn many_authors_stay_bounded() {
        let (shared, _to_obey, _to_take) = shared();
        let mut gossip = Gossip::new();
        for number in 0..20_000_u32 {
            gossip.take(&shared, NodeId(*blake3::hash(&number.to_le_bytes()).as_bytes()), &message(1, 1, 1));
        }
        assert!(gossip.authors.len() <= MOST_AUTHORS);
    }
}
