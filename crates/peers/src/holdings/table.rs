//! What is known of the holdings of other nodes, bounded for each and for all.
//!
//! A node's own word (over its connection, or in gossip it signed) stands above what others say of it, which is a hint that the
//! next look around replaces. Ids cost nothing, so whoever is not connected can only push out others that are not: the nodes that
//! were silent longest go first, and of the rows those of the node with the most.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::time::Duration;

use larder_content::{Holding, NodeId, Subject};

use super::digest_of;
use crate::event::Sighting;
use crate::pace::Bucket;

/// The most rows of one node.
pub(crate) const MOST_ROWS_A_NODE: usize = 65_536;
/// The most rows in all: about 100 MB.
const MOST_ROWS: usize = 800_000;
/// The most rows that nodes did not say of themselves.
const MOST_HEARD: usize = MOST_ROWS / 4;
/// The most nodes that are not connected and spoke themselves, and the most that only others spoke of. There is always room for
/// those that are connected.
const MOST_AUTHORS: usize = 12_288;
const MOST_HINTED: usize = 4096;
/// The most holders of one subject that are given out.
pub(crate) const MOST_HOLDERS_TOLD: usize = 32;
/// The most rows of a subject that are looked at for that, from a random one on.
const MOST_LOOKED_AT: usize = 256;
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

/// How a node came to be known, the least first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Standing {
    /// Others spoke of it.
    Hinted,
    /// It spoke itself, in gossip.
    Author,
    /// It is connected.
    Connected,
}

/// The table. Times are since the market's start.
#[derive(Debug, Default)]
pub(crate) struct Table {
    rows: BTreeMap<(u32, Subject), Entry>,
    holders: BTreeSet<(Subject, u32)>,
    nodes: HashMap<u32, Node>,
    numbers: HashMap<NodeId, u32>,
    next_number: u32,
    /// Those that are not connected, by when they last spoke or were spoken of.
    hinted: BTreeSet<(Duration, u32)>,
    authors: BTreeSet<(Duration, u32)>,
    /// The rows that nodes did not say of themselves, the oldest first, and some that are no more.
    heard: VecDeque<(u32, Subject)>,
    heard_rows: usize,
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
    standing: Standing,
    seen_at: Duration,
    rows: usize,
    /// Rows it said itself, and what they come to.
    said: u32,
    sum: u64,
    round: u8,
    pace: Bucket,
    muted_until: Duration,
}

impl Table {
    /// Takes what a node says of itself, over its connection or as an author. Gives what was not known; none of it if the node is muted.
    pub(crate) fn said(&mut self, id: NodeId, standing: Standing, rows: &[Row], now: Duration) -> Vec<Sighting> {
        let Some(number) = self.number(id, standing, now) else { return Vec::new() };
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

    /// A node is connected no more: it keeps its rows, but has to make room like others.
    pub(crate) fn has_left(&mut self, id: NodeId, now: Duration) {
        if let Some(number) = self.numbers.get(&id).copied() {
            self.stand(number, Standing::Author, now);
            self.make_room_for_nodes();
        }
    }

    /// A node that is connected begins to say all that it has.
    pub(crate) fn begin_all(&mut self, id: NodeId, now: Duration) {
        if let Some(number) = self.number(id, Standing::Connected, now)
            && let Some(node) = self.nodes.get_mut(&number)
        {
            node.round = node.round.wrapping_add(1);
        }
    }

    /// It has said all: what it did not say since it began is gone.
    pub(crate) fn end_all(&mut self, id: NodeId) -> Vec<Sighting> {
        let Some(number) = self.numbers.get(&id).copied() else { return Vec::new() };
        let round = self.round(number);
        let of_node = self.rows.range((number, Subject([0; 32]))..=(number, Subject([255; 32])));
        let over: Vec<Subject> = of_node.filter(|(_, entry)| entry.round != round).map(|((_, subject), _)| *subject).collect();
        over.iter().for_each(|subject| self.remove(*subject, number));
        over.into_iter().map(|subject| Sighting { subject, node: id, holding: Holding::Gone }).collect()
    }

    /// Takes what one node says of another. True if it was not known.
    pub(crate) fn heard(&mut self, sighting: &Sighting, now: Duration) -> bool {
        let Some(number) = self.number(sighting.node, Standing::Hinted, now) else { return false };
        let known = self.rows.get(&(number, sighting.subject));
        if known.is_some_and(|entry| entry.is_own_word) {
            return false;
        }
        if known.is_none() {
            self.make_room_for_heard();
            self.heard.push_back((number, sighting.subject));
        }
        let until_seconds = seconds(now.saturating_add(HEARD_FOR));
        let entry = Entry { until_seconds, holding: sighting.holding, is_own_word: false, round: self.round(number) };
        self.put(sighting.subject, number, entry, now)
    }

    /// Who holds or fetches a subject: at most `most`, those who have all of it first.
    pub(crate) fn holders(&self, subject: Subject, most: usize, now: Duration) -> Vec<(NodeId, Holding)> {
        let from = (subject, fastrand::u32(..self.next_number.max(1)));
        let around = self.holders.range(from..=(subject, u32::MAX)).chain(self.holders.range((subject, 0)..from));
        let live = |&(subject, number): &(Subject, u32)| {
            let entry = self.rows.get(&(number, subject)).filter(|entry| entry.until_seconds > seconds(now))?;
            Some((self.nodes.get(&number)?.id, entry.holding))
        };
        let mut found: Vec<(NodeId, Holding)> = around.take(MOST_LOOKED_AT).filter_map(live).collect();
        fastrand::shuffle(&mut found);
        found.sort_by_key(|(_, holding)| *holding);
        found.truncate(most);
        found
    }

    /// How a node stands to a subject.
    pub(crate) fn holding(&self, id: NodeId, subject: Subject, now: Duration) -> Option<Holding> {
        let entry = self.rows.get(&(*self.numbers.get(&id)?, subject))?;
        (entry.until_seconds > seconds(now)).then_some(entry.holding)
    }

    /// What a node has said of itself: the number of rows and what they come to.
    pub(crate) fn digest(&self, id: NodeId) -> (u32, u64) {
        let node = self.numbers.get(&id).and_then(|number| self.nodes.get(number));
        node.map_or((0, 0), |node| (node.said, node.sum))
    }

    /// Forgets what has run out, and the nodes of which nothing is left.
    pub(crate) fn expire(&mut self, now: Duration) {
        let now_seconds = seconds(now);
        let over: Vec<(u32, Subject)> =
            self.rows.iter().filter(|(_, entry)| entry.until_seconds <= now_seconds).map(|(key, _)| *key).collect();
        for (number, subject) in over {
            self.remove(subject, number);
        }
        let is_over = |node: &Node| node.rows == 0 && node.muted_until <= now && node.standing != Standing::Connected;
        let over: Vec<u32> = self.nodes.iter().filter(|(_, node)| is_over(node)).map(|(number, _)| *number).collect();
        over.into_iter().for_each(|number| self.forget(number));
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

    /// The number of a node, which stands no lower than `standing` from then on.
    fn number(&mut self, id: NodeId, standing: Standing, now: Duration) -> Option<u32> {
        let number = if let Some(number) = self.numbers.get(&id).copied() {
            let before = self.nodes.get(&number).map_or(standing, |node| node.standing);
            self.stand(number, standing.max(before), now);
            number
        } else {
            let number = self.next_number;
            self.next_number = self.next_number.checked_add(1)?;
            let pace = Bucket::new(ROWS_A_SECOND, ROWS_AT_ONCE);
            let (rows, said, sum, round, muted_until) = (0, 0, 0, 0, Duration::ZERO);
            self.nodes.insert(number, Node { id, standing, seen_at: now, rows, said, sum, round, pace, muted_until });
            self.numbers.insert(id, number);
            self.stand(number, standing, now);
            number
        };
        self.make_room_for_nodes();
        Some(number)
    }

    fn make_room_for_nodes(&mut self) {
        let first = |line: &BTreeSet<(Duration, u32)>, most| line.first().filter(|_| line.len() > most).map(|(_, number)| *number);
        while let Some(oldest) = first(&self.authors, MOST_AUTHORS).or_else(|| first(&self.hinted, MOST_HINTED)) {
            self.forget(oldest);
        }
    }

    fn stand(&mut self, number: u32, standing: Standing, now: Duration) {
        let Some(node) = self.nodes.get_mut(&number) else { return };
        let before = (std::mem::replace(&mut node.standing, standing), std::mem::replace(&mut node.seen_at, now));
        if let Some(line) = self.line(before.0) {
            line.remove(&(before.1, number));
        }
        if let Some(line) = self.line(standing) {
            line.insert((now, number));
        }
    }

    /// Those of a standing, if they can be pushed out.
    fn line(&mut self, standing: Standing) -> Option<&mut BTreeSet<(Duration, u32)>> {
        match standing {
            Standing::Hinted => Some(&mut self.hinted),
            Standing::Author => Some(&mut self.authors),
            Standing::Connected => None,
        }
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
        let before = self.rows.get(&(number, subject)).copied();
        let is_news = before.is_none_or(|before| before.until_seconds <= seconds(now) || before.holding != entry.holding);
        if entry.holding == Holding::Gone {
            self.remove(subject, number);
            return before.is_some();
        }
        if before.is_none() && !self.has_room(number) {
            return false;
        }
        self.remove(subject, number);
        self.rows.insert((number, subject), entry);
        self.holders.insert((subject, number));
        if let Some(node) = self.nodes.get_mut(&number) {
            node.rows += 1;
            if entry.is_own_word {
                node.said += 1;
                node.sum = node.sum.wrapping_add(digest_of(subject, entry.holding));
            } else {
                self.heard_rows += 1;
            }
        }
        is_news
    }

    fn has_room(&mut self, number: u32) -> bool {
        if self.nodes.get(&number).is_none_or(|node| node.rows >= MOST_ROWS_A_NODE) {
            return false;
        }
        if self.rows.len() >= MOST_ROWS {
            let weight = |node: &Node| (node.rows > 0, node.standing != Standing::Connected, node.rows);
            let heaviest = self.nodes.iter().max_by_key(|(_, node)| weight(node)).map(|(number, _)| *number);
            heaviest.into_iter().for_each(|heaviest| self.clear(heaviest));
        }
        self.rows.len() < MOST_ROWS
    }

    fn make_room_for_heard(&mut self) {
        while self.heard_rows >= MOST_HEARD || self.heard.len() >= 2 * MOST_HEARD {
            let Some((number, subject)) = self.heard.pop_front() else { return };
            if self.rows.get(&(number, subject)).is_some_and(|entry| !entry.is_own_word) {
                self.remove(subject, number);
            }
        }
    }

    /// Forgets a node with its rows.
    fn forget(&mut self, number: u32) {
        self.clear(number);
        let Some(node) = self.nodes.remove(&number) else { return };
        self.numbers.remove(&node.id);
        if let Some(line) = self.line(node.standing) {
            line.remove(&(node.seen_at, number));
        }
    }

    fn clear(&mut self, number: u32) {
        let of_node = self.rows.range((number, Subject([0; 32]))..=(number, Subject([255; 32])));
        let subjects: Vec<Subject> = of_node.map(|((_, subject), _)| *subject).collect();
        subjects.into_iter().for_each(|subject| self.remove(subject, number));
    }

    fn remove(&mut self, subject: Subject, number: u32) {
        let Some(entry) = self.rows.remove(&(number, subject)) else { return };
        self.holders.remove(&(subject, number));
        self.heard_rows -= usize::from(!entry.is_own_word);
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
        let mut bytes = [0; 32];
        bytes[..4].copy_from_slice(&number.to_be_bytes());
        Subject(bytes)
    }

    fn row(number: u32) -> Row {
        Row { subject: subject(number), holding: Holding::Complete, expires_in: HOUR }
    }

    #[test]
    fn a_nodes_own_word_stands_above_what_others_say() {
        let (mut table, node) = (Table::default(), NodeId([1; 32]));
        assert_eq!(table.said(node, Standing::Author, &[row(1)], NOW).len(), 1);
        assert!(table.said(node, Standing::Author, &[row(1)], NOW).is_empty(), "not news");
        assert!(!table.heard(&Sighting { subject: subject(1), node, holding: Holding::Gone }, NOW));
        assert_eq!(table.holders(subject(1), 9, NOW), [(node, Holding::Complete)]);
        assert!(table.holders(subject(1), 9, NOW + HOUR).is_empty(), "it runs out");
    }

    #[test]
    fn a_million_announcements_of_one_node_stay_bounded_and_mute_it() {
        let (mut table, liar, honest) = (Table::default(), NodeId([1; 32]), NodeId([2; 32]));
        table.said(honest, Standing::Author, &[row(7)], NOW);
        for first in (0..1_000_000).step_by(450) {
            let rows: Vec<Row> = (first..first + 450).map(row).collect();
            table.said(liar, Standing::Author, &rows, NOW);
        }
        assert!(table.len() <= MOST_ROWS_A_NODE + 1);
        assert!(table.is_muted(liar, NOW) && !table.is_muted(honest, NOW));
        assert!(table.holders(subject(7), 9, NOW).iter().any(|(node, _)| *node == honest));
    }

    #[test]
    fn the_heaviest_node_makes_room_for_the_others_unless_it_is_connected() {
        let (mut table, honest) = (Table::default(), NodeId([200; 32]));
        let rows = |most: usize| (0..most as u32).map(row).collect::<Vec<Row>>();
        table.said(honest, Standing::Connected, &rows(MOST_ROWS_A_NODE), NOW);
        for node in 0..13 {
            table.said(NodeId([node; 32]), Standing::Author, &rows(60_000), NOW);
        }
        assert!(table.len() <= MOST_ROWS && table.digest(honest).0 as usize == MOST_ROWS_A_NODE);
        assert_eq!(table.said(NodeId([99; 32]), Standing::Author, &[row(5)], NOW).len(), 1);
    }

    #[test]
    fn a_full_list_replaces_what_was_known_and_both_digests_agree() {
        let (mut table, mut own, node) = (Table::default(), Own::default(), NodeId([1; 32]));
        table.said(node, Standing::Author, &[row(1), row(2)], NOW);
        own.announce(subject(2), Holding::Complete, HOUR);
        own.announce(subject(3), Holding::Fetching, HOUR);
        assert_ne!(table.digest(node), own.digest());
        table.begin_all(node, NOW);
        table.said(node, Standing::Author, &own.after(None, 9, NOW), NOW);
        assert_eq!(table.end_all(node), [Sighting { subject: subject(1), node, holding: Holding::Gone }]);
        assert_eq!(table.digest(node), own.digest());
        table.expire(NOW + HOUR + HOUR);
        assert_eq!((table.len(), table.digest(node)), (0, (0, 0)));
    }

    #[test]
    fn made_up_nodes_push_out_each_other_and_nobody_that_is_connected() {
        let (mut table, honest) = (Table::default(), NodeId([1; 32]));
        let made_up = |number: u32| NodeId(subject(number).0);
        table.said(honest, Standing::Connected, &[row(7)], NOW);
        for number in 0..40_000 {
            let now = NOW + Duration::from_millis(number.into());
            table.said(made_up(number), Standing::Author, &[row(7)], now);
            table.heard(&Sighting { subject: subject(8), node: made_up(number + 50_000), holding: Holding::Complete }, now);
        }
        assert_eq!(table.nodes.len(), MOST_AUTHORS + MOST_HINTED + 1);
        assert_eq!((table.numbers.len(), table.len(), table.holders.len()), (table.nodes.len(), table.nodes.len(), table.nodes.len()));
        assert_eq!(table.holding(honest, subject(7), NOW), Some(Holding::Complete));
        assert_eq!(table.holding(made_up(39_999), subject(7), NOW), Some(Holding::Complete), "the newest stay");
        assert_eq!(table.said(NodeId([2; 32]), Standing::Connected, &[row(9)], NOW).len(), 1, "who comes is heard");
        table.has_left(honest, NOW + HOUR);
        assert_eq!(table.authors.len(), MOST_AUTHORS);
        assert!(table.nodes[&table.numbers[&honest]].standing == Standing::Author, "and makes room like others when it has left");
    }

    #[test]
    fn of_a_crowd_of_holders_a_few_are_looked_at_another_few_each_time() {
        let mut table = Table::default();
        for number in 0..2000_u32 {
            table.said(NodeId(subject(number).0), Standing::Author, &[row(7)], NOW);
        }
        let found: Vec<_> = (0..20).map(|_| table.holders(subject(7), 10_000, NOW)).collect();
        assert!(found.iter().all(|found| found.len() == MOST_LOOKED_AT));
        let all: std::collections::HashSet<NodeId> = found.into_iter().flatten().map(|(node, _)| node).collect();
        assert!(all.len() > 1000, "{}", all.len());
    }

    #[test]
    fn what_others_say_makes_room_for_what_others_say_later() {
        let mut table = Table::default();
        let hint =
            |number: u32| Sighting { subject: subject(number), node: NodeId([(number % 200) as u8; 32]), holding: Holding::Complete };
        for number in 0..MOST_HEARD as u32 + 1000 {
            assert!(table.heard(&hint(number), NOW));
        }
        assert_eq!((table.heard_rows, table.len()), (MOST_HEARD, MOST_HEARD));
        assert_eq!(table.holding(hint(0).node, subject(0), NOW), None);
    }
}
