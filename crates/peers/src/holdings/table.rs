//! What is known of the holdings of other nodes, bounded for each and for all.
//!
//! A node's own word (over its connection, or in gossip it signed) stands above what others say of it, which is a hint that the
//! next look around replaces. A node that fills the table loses its rows first.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use larder_content::{Holding, NodeId, Subject};

use super::digest_of;
use crate::event::Sighting;
use crate::pace::Bucket;

/// The most rows of one node.
pub(crate) const MOST_ROWS_A_NODE: usize = 65_536;
/// The most rows in all: about 64 MB.
const MOST_ROWS: usize = 800_000;
/// The most rows that nodes did not say of themselves.
const MOST_HEARD: usize = MOST_ROWS / 4;
/// The most nodes with rows.
const MOST_NODES: usize = 16_384;
/// The most holders of one subject that are given out.
pub(crate) const MOST_HOLDERS: usize = 32;
/// How long what others say is good for.
const HEARD_FOR: Duration = Duration::from_secs(3600);
/// Rows that a node may say at once, all of them twice, and in a second.
const ROWS_AT_ONCE: f64 = 2.0 * MOST_ROWS_A_NODE as f64;
const ROWS_A_SECOND: f64 = 100.0;
/// How long a node that says more is not listened to.
const MUTE: Duration = Duration::from_secs(600);

/// A holding that a node says it has, and for how long that is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) subject: Subject,
    pub(crate) holding: Holding,
    pub(crate) expires_in: Duration,
}

/// The table. Times are since the market's start.
#[derive(Debug, Default)]
pub(crate) struct Table {
    rows: BTreeMap<(Subject, u32), Entry>,
    nodes: HashMap<u32, Node>,
    numbers: HashMap<NodeId, u32>,
    next_number: u32,
    heard: usize,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    until_seconds: u32,
    holding: Holding,
    is_own_word: bool,
    /// The round of full lists in which it was said.
    round: u8,
}

#[derive(Debug)]
struct Node {
    id: NodeId,
    rows: usize,
    /// Rows it said itself, and what they come to.
    said: u32,
    sum: u64,
    round: u8,
    pace: Bucket,
    muted_until: Duration,
}

impl Table {
    /// Takes what a node says of itself. Gives what was not known; none of it if the node is muted.
    pub(crate) fn said(&mut self, id: NodeId, rows: &[Row], now: Duration) -> Vec<Sighting> {
        let Some(number) = self.number(id) else { return Vec::new() };
        if !self.may_speak(number, rows.len(), now) {
            return Vec::new();
        }
        let mut news = Vec::new();
        for row in rows {
            let until_seconds = seconds(now.saturating_add(row.expires_in));
            let entry = Entry { until_seconds, holding: row.holding, is_own_word: true, round: self.round(number) };
            if self.put(row.subject, number, entry, now) {
                news.push(Sighting { subject: row.subject, node: id, holding: row.holding });
            }
        }
        news
    }

    /// A node begins to say all that it has.
    pub(crate) fn begin_all(&mut self, id: NodeId) {
        if let Some(number) = self.number(id)
            && let Some(node) = self.nodes.get_mut(&number)
        {
            node.round = node.round.wrapping_add(1);
        }
    }

    /// It has said all: what it did not say since it began is gone.
    pub(crate) fn end_all(&mut self, id: NodeId) -> Vec<Sighting> {
        let Some(number) = self.numbers.get(&id).copied() else { return Vec::new() };
        let round = self.round(number);
        let over = |(key, entry): (&(Subject, u32), &Entry)| (key.1 == number && entry.round != round).then_some(key.0);
        let over: Vec<Subject> = self.rows.iter().filter_map(over).collect();
        over.iter().for_each(|subject| self.remove(*subject, number));
        over.into_iter().map(|subject| Sighting { subject, node: id, holding: Holding::Gone }).collect()
    }

    /// Takes what one node says of another. True if it was not known.
    pub(crate) fn heard(&mut self, sighting: &Sighting, now: Duration) -> bool {
        let Some(number) = self.number(sighting.node) else { return false };
        let known = self.rows.get(&(sighting.subject, number));
        if known.is_some_and(|entry| entry.is_own_word) || (known.is_none() && self.heard >= MOST_HEARD) {
            return false;
        }
        let until_seconds = seconds(now.saturating_add(HEARD_FOR));
        let entry = Entry { until_seconds, holding: sighting.holding, is_own_word: false, round: self.round(number) };
        self.put(sighting.subject, number, entry, now)
    }

    /// Who holds or fetches a subject: at most `most`, those who have all of it first.
    pub(crate) fn holders(&self, subject: Subject, most: usize, now: Duration) -> Vec<(NodeId, Holding)> {
        let live = self.rows.range((subject, 0)..=(subject, u32::MAX)).filter(|(_, entry)| entry.until_seconds > seconds(now));
        let mut found: Vec<(NodeId, Holding)> =
            live.filter_map(|((_, number), entry)| Some((self.nodes.get(number)?.id, entry.holding))).collect();
        fastrand::shuffle(&mut found);
        found.sort_by_key(|(_, holding)| *holding);
        found.truncate(most);
        found
    }

    /// What a node has said of itself: the number of rows and what they come to.
    pub(crate) fn digest(&self, id: NodeId) -> (u32, u64) {
        let node = self.numbers.get(&id).and_then(|number| self.nodes.get(number));
        node.map_or((0, 0), |node| (node.said, node.sum))
    }

    /// Forgets what has run out, and the nodes of which nothing is left.
    pub(crate) fn expire(&mut self, now: Duration) {
        let now_seconds = seconds(now);
        let over: Vec<(Subject, u32)> =
            self.rows.iter().filter(|(_, entry)| entry.until_seconds <= now_seconds).map(|(key, _)| *key).collect();
        for (subject, number) in over {
            self.remove(subject, number);
        }
        self.nodes.retain(|_, node| node.rows > 0 || node.muted_until > now);
        self.numbers.retain(|_, number| self.nodes.contains_key(number));
    }

    /// The number of rows.
    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether a node is not listened to for a while.
    #[cfg(test)]
    fn is_muted(&self, id: NodeId, now: Duration) -> bool {
        self.numbers.get(&id).and_then(|number| self.nodes.get(number)).is_some_and(|node| node.muted_until > now)
    }

    fn round(&self, number: u32) -> u8 {
        self.nodes.get(&number).map_or(0, |node| node.round)
    }

    fn number(&mut self, id: NodeId) -> Option<u32> {
        if let Some(number) = self.numbers.get(&id) {
            return Some(*number);
        }
        if self.nodes.len() >= MOST_NODES {
            return None;
        }
        let number = self.next_number;
        self.next_number = self.next_number.checked_add(1)?;
        let pace = Bucket::new(ROWS_A_SECOND, ROWS_AT_ONCE);
        self.nodes.insert(number, Node { id, rows: 0, said: 0, sum: 0, round: 0, pace, muted_until: Duration::ZERO });
        self.numbers.insert(id, number);
        Some(number)
    }

    fn may_speak(&mut self, number: u32, rows: usize, now: Duration) -> bool {
        let Some(node) = self.nodes.get_mut(&number) else { return false };
        if node.muted_until > now {
            return false;
        }
        let may = node.pace.try_take(rows as f64);
        if !may {
            node.muted_until = now + MUTE;
            tracing::warn!(node = %node.id, "announces too much; it is not listened to for {} s", MUTE.as_secs());
        }
        may
    }

    /// Puts one row in its place. True if that changes how the node stands to the subject.
    fn put(&mut self, subject: Subject, number: u32, entry: Entry, now: Duration) -> bool {
        let before = self.rows.get(&(subject, number)).copied();
        let is_news = before.is_none_or(|before| before.until_seconds <= seconds(now) || before.holding != entry.holding);
        if entry.holding == Holding::Gone {
            self.remove(subject, number);
            return before.is_some();
        }
        if before.is_none() && !self.has_room(number) {
            return false;
        }
        self.remove(subject, number);
        self.rows.insert((subject, number), entry);
        if let Some(node) = self.nodes.get_mut(&number) {
            node.rows += 1;
            if entry.is_own_word {
                node.said += 1;
                node.sum = node.sum.wrapping_add(digest_of(subject, entry.holding));
            } else {
                self.heard += 1;
            }
        }
        is_news
    }

    fn has_room(&mut self, number: u32) -> bool {
        if self.nodes.get(&number).is_none_or(|node| node.rows >= MOST_ROWS_A_NODE) {
            return false;
        }
        if self.rows.len() >= MOST_ROWS {
            let heaviest = self.nodes.iter().max_by_key(|(_, node)| node.rows).map(|(number, _)| *number);
            self.rows.retain(|key, entry| {
                let goes = Some(key.1) == heaviest;
                self.heard -= usize::from(goes && !entry.is_own_word);
                !goes
            });
            if let Some(node) = heaviest.and_then(|heaviest| self.nodes.get_mut(&heaviest)) {
                (node.rows, node.said, node.sum) = (0, 0, 0);
            }
        }
        self.rows.len() < MOST_ROWS
    }

    fn remove(&mut self, subject: Subject, number: u32) {
        let Some(entry) = self.rows.remove(&(subject, number)) else { return };
        self.heard -= usize::from(!entry.is_own_word);
        if let Some(node) = self.nodes.get_mut(&number) {
            node.rows -= 1;
            if entry.is_own_word {
                node.said -= 1;
                node.sum = node.sum.wrapping_sub(digest_of(subject, entry.holding));
            }
        }
    }
}

fn seconds(time: Duration) -> u32 {
    u32::try_from(time.as_secs()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::holdings::Own;

    const HOUR: Duration = Duration::from_secs(3600);
    const NOW: Duration = Duration::from_secs(10);

    fn subject(number: u32) -> Subject {
        Subject(*blake3::hash(&number.to_le_bytes()).as_bytes())
    }

    fn row(number: u32) -> Row {
        Row { subject: subject(number), holding: Holding::Complete, expires_in: HOUR }
    }

    #[test]
    fn a_nodes_own_word_stands_above_what_others_say() {
        let (mut table, node) = (Table::default(), NodeId([1; 32]));
        assert_eq!(table.said(node, &[row(1)], NOW).len(), 1);
        assert!(table.said(node, &[row(1)], NOW).is_empty(), "not news");
        assert!(!table.heard(&Sighting { subject: subject(1), node, holding: Holding::Gone }, NOW));
        assert_eq!(table.holders(subject(1), 9, NOW), [(node, Holding::Complete)]);
        assert!(table.holders(subject(1), 9, NOW + HOUR).is_empty(), "it runs out");
    }

    #[test]
    fn a_million_announcements_of_one_node_stay_bounded_and_mute_it() {
        let (mut table, liar, honest) = (Table::default(), NodeId([1; 32]), NodeId([2; 32]));
        table.said(honest, &[row(7)], NOW);
        for first in (0..1_000_000).step_by(450) {
            let rows: Vec<Row> = (first..first + 450).map(row).collect();
            table.said(liar, &rows, NOW);
        }
        assert!(table.len() <= MOST_ROWS_A_NODE + 1);
        assert!(table.is_muted(liar, NOW) && !table.is_muted(honest, NOW));
        assert!(table.holders(subject(7), 9, NOW).iter().any(|(node, _)| *node == honest));
    }

    #[test]
    fn the_heaviest_node_makes_room_for_the_others() {
        let mut table = Table::default();
        for node in 0..13 {
            let rows: Vec<Row> = (0..MOST_ROWS_A_NODE as u32).map(row).collect();
            table.said(NodeId([node; 32]), &rows, NOW);
        }
        assert!(table.len() <= MOST_ROWS);
        assert_eq!(table.said(NodeId([99; 32]), &[row(5)], NOW).len(), 1);
    }

    #[test]
    fn a_full_list_replaces_what_was_known_and_both_digests_agree() {
        let (mut table, mut own, node) = (Table::default(), Own::default(), NodeId([1; 32]));
        table.said(node, &[row(1), row(2)], NOW);
        own.announce(subject(2), Holding::Complete, HOUR);
        own.announce(subject(3), Holding::Fetching, HOUR);
        assert_ne!(table.digest(node), own.digest());
        table.begin_all(node);
        table.said(node, &own.all(NOW), NOW);
        assert_eq!(table.end_all(node), [Sighting { subject: subject(1), node, holding: Holding::Gone }]);
        assert_eq!(table.digest(node), own.digest());
        table.expire(NOW + HOUR + HOUR);
        assert_eq!((table.len(), table.digest(node)), (0, (0, 0)));
    }
}
