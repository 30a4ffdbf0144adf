//! Engines of a whole market, with lines and an origin that share their bytes evenly: a fluid model in small steps.

use super::*;
use crate::runs::Runs;
use larder_content::CHUNK_BYTES;

const STEP: Duration = Duration::from_millis(5);
/// How long a message takes.
const DELAY: Duration = Duration::from_millis(10);
const FALSE_CONTENT: ContentId = ContentId([9; 32]);

/// What a node does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Honest,
    /// Answers, and sends nothing.
    Stalls,
    /// Says that it has everything, and sends what is false; the first chunk tells.
    SendsFalse,
    /// Says that the file is another.
    FalseBinding,
    /// Says again and again that it reads and has what nobody else has, and sends nothing.
    Talks,
    /// Takes part, and signs what is false for all that it reads from the origin.
    SignsFalse,
}

/// A transfer under way at a node.
struct Transfer {
    read: ReadId,
    chunks: Range<u64>,
    from: From,
    begins: Time,
    /// Bytes of the next chunk that are there.
    part: f64,
}

pub(super) struct Node {
    engine: Engine,
    pub(super) kind: Kind,
    alive: bool,
    pub(super) wants_at: Time,
    pub(super) wanted: bool,
    pub(super) done_at: Option<Time>,
    given_up: bool,
    had: Vec<bool>,
    /// Which of them are false, and which it read itself.
    bad: Vec<bool>,
    own: Vec<bool>,
    transfers: Vec<Transfer>,
    origin_bytes: f64,
    peer_bytes: f64,
    pub(super) up: f64,
    down: f64,
    pub(super) patience: Option<f64>,
    /// For how much of every four seconds it sends nothing.
    pub(super) freezes: Duration,
    /// What it does not see of the market when it begins.
    pub(super) blind: bool,
    /// How often the whole file turned out to be false.
    pub(super) refuted: u32,
    /// Which content's chunk hashes it has.
    believes: Option<ContentId>,
}

pub(super) struct Market {
    chunks: u64,
    origin_rate: f64,
    origin_alive: bool,
    pub(super) nodes: Vec<Node>,
    mail: Vec<(Time, usize, Event)>,
    pub(super) now: Time,
    /// How many times each chunk left the origin.
    pub(super) left: Vec<u32>,
}

fn id(number: usize) -> NodeId {
    let mut key = [0; 32];
    key[0] = u8::try_from(number + 1).unwrap();
    NodeId(key)
}

fn peer(number: usize) -> Peer {
    Peer { market: MARKET, node: id(number) }
}

fn number(node: NodeId) -> usize {
    usize::from(node.0[0]) - 1
}

/// What is noted of reads from peers is what they are.
fn check_accounts(engine: &Engine) {
    let mut of_peers = BTreeMap::<Peer, u64>::new();
    for (key, file) in &engine.files {
        let reads = || engine.reads.iter().filter(|(_, read)| read.file == *key && read.peer().is_some());
        assert!(reads().map(|(id, _)| *id).eq(file.asking.iter().copied()), "the reads of peers are not those that are noted");
        let asked: BTreeSet<u64> = reads().flat_map(|(_, read)| read.chunks.clone()).collect();
        assert!((0..file.layout.count()).filter(|chunk| file.asked.contains(*chunk)).eq(asked.iter().copied()), "{asked:?}");
        assert!(!asked.iter().any(|chunk| file.waiting.bits().contains(*chunk)), "what is asked for waits");
        reads().for_each(|(_, read)| *of_peers.entry(read.peer().unwrap()).or_default() += file.bytes(&read.chunks));
    }
    for (peer, link) in &engine.links {
        assert_eq!(link.asked, of_peers.get(peer).copied().unwrap_or_default(), "what {peer:?} was asked for");
    }
}

impl Market {
    pub(super) fn new(chunks: u64, nodes: usize, up: f64, down: f64, origin_rate: f64, seed: u64) -> Self {
        let node = |number: usize| Node {
            engine: Engine::new(Config::default(), seed ^ number as u64),
            kind: Kind::Honest,
            alive: true,
            wants_at: STEP * u32::try_from(number).unwrap(),
            wanted: false,
            done_at: None,
            given_up: false,
            had: vec![false; usize::try_from(chunks).unwrap()],
            bad: vec![false; usize::try_from(chunks).unwrap()],
            own: vec![false; usize::try_from(chunks).unwrap()],
            transfers: Vec::new(),
            origin_bytes: 0.0,
            peer_bytes: 0.0,
            up,
            down,
            patience: None,
            freezes: Duration::ZERO,
            blind: false,
            refuted: 0,
            believes: None,
        };
        let nodes = (0..nodes).map(node).collect();
        let left = vec![0; usize::try_from(chunks).unwrap()];
        Self { chunks, origin_rate, origin_alive: true, nodes, mail: Vec::new(), now: Time::ZERO, left }
    }

    pub(super) fn has_all(&mut self, node: usize) {
        self.nodes[node].had.fill(true);
        self.nodes[node].done_at = Some(Time::ZERO);
        self.nodes[node].wanted = true;
    }

    /// The same with nodes that share with so few others at once.
    pub(super) fn with_partners(mut self, partners: usize) -> Self {
        for (seed, node) in (1..).zip(&mut self.nodes) {
            node.engine = Engine::new(Config { partners, partners_in_crowd: partners, ..Config::default() }, seed);
        }
        self
    }

    fn begin(&mut self, number: usize) {
        let seen = |other: &usize| *other != number && self.nodes[*other].wanted && self.nodes[*other].alive;
        let known: Vec<(NodeId, Holding)> = (0..self.nodes.len())
            .filter(seen)
            .filter(|_| !self.nodes[number].blind)
            .map(|other| (id(other), if self.nodes[other].done_at.is_some() { Holding::Complete } else { Holding::Fetching }))
            .collect();
        let sharing = Sharing { me: id(number), patience: self.nodes[number].patience, ..sharing(known) };
        let event = Event::Wanted {
            file: key(1),
            layout: larder_content::ChunkLayout::new(self.chunks * CHUNK_BYTES),
            missing: vec![0..self.chunks],
            origin: OriginId(1),
            group: GroupId(1),
            sharing: Some(Box::new(sharing)),
        };
        self.nodes[number].wanted = true;
        let now = self.now;
        self.nodes[number].engine.handle(event, now);
        // Gossip: the others hear of it a little later.
        for other in (0..self.nodes.len()).filter(|other| *other != number) {
            self.mail.push((now + DELAY * 10, other, Event::Sighted { file: key(1), peer: peer(number), holding: Holding::Fetching }));
        }
    }

    fn act(&mut self, number: usize) {
        let now = self.now;
        while let Some(action) = self.nodes[number].engine.next_action(now) {
            match action {
                Action::Read { read, chunks, from, .. } => {
                    self.nodes[number].transfers.push(Transfer { read, chunks, from, begins: now + DELAY * 2, part: 0.0 });
                }
                Action::Cancel { read } => self.nodes[number].transfers.retain(|transfer| transfer.read != read),
                Action::Tell { peer: to, message } => self.post(number, to.node, message),
                Action::FetchHashes { file, peer, content } => {
                    let event = self.hashes(number, file, peer, content);
                    self.mail.push((now + DELAY * 2, number, event));
                }
                Action::Ban { .. } => {}
                Action::Complete { file } => {
                    let content = CONTENT;
                    let node = &mut self.nodes[number];
                    assert!(node.had.iter().all(|had| *had), "complete with chunks missing");
                    if node.kind == Kind::SignsFalse {
                        continue;
                    }
                    if node.bad.contains(&true) {
                        let missing: Vec<bool> = node.own.iter().map(|own| !own).collect();
                        node.had.clone_from(&node.own);
                        node.bad.fill(false);
                        node.refuted += 1;
                        node.engine.handle(Event::Refuted { file, signers: vec![], missing: Runs::of(&missing) }, now);
                        continue;
                    }
                    node.done_at = Some(now);
                    node.engine.handle(Event::Proven { file, content, liars: vec![] }, now);
                }
                Action::GiveUp { .. } => self.nodes[number].given_up = true,
            }
        }
    }

    fn hashes(&mut self, asker: usize, file: FileKey, peer: Peer, content: ContentId) -> Event {
        let other = &self.nodes[number(peer.node)];
        let known = other.alive
            && other.kind != Kind::Stalls
            && (other.kind != Kind::Honest || other.believes == Some(content) || other.done_at.is_some());
        let node = &self.nodes[asker];
        let right: Vec<bool> = node.had.iter().zip(&node.bad).map(|(had, bad)| *had && !*bad).collect();
        let (right, wrong) = (Runs::of(&right), Runs::of(&node.bad));
        let compared = if !known {
            Compared::Missing
        } else if content != CONTENT && self.nodes[asker].origin_bytes > 0.0 {
            Compared::Contradicted
        } else {
            self.nodes[asker].believes = Some(content);
            for chunk in wrong.iter().cloned().flatten() {
                self.nodes[asker].had[usize::try_from(chunk).unwrap()] = false;
            }
            self.nodes[asker].bad.fill(false);
            Compared::Known { fits: right, dropped: wrong, contradicted: Vec::new() }
        };
        Event::Hashes { file, peer, content, compared }
    }

    /// Posts a message; a node that is not fetching answers for its store.
    fn post(&mut self, sender: usize, to: NodeId, message: FileMessage) {
        let receiver = number(to);
        if !self.nodes[receiver].alive || !self.nodes[sender].alive {
            return;
        }
        let at = self.now + DELAY;
        let event = Event::Told { peer: peer(sender), message: message.clone() };
        self.mail.push((at, receiver, event));
        let node = &self.nodes[receiver];
        if node.kind == Kind::Talks {
            return;
        }
        let answers = message.body == FileWord::Follow && (node.done_at.is_some() || !node.takes_part());
        if answers {
            let content = if node.kind == Kind::FalseBinding { FALSE_CONTENT } else { CONTENT };
            let message = FileMessage { file: message.file, body: FileWord::Complete(content) };
            self.mail.push((at + DELAY, sender, Event::Told { peer: peer(receiver), message }));
        }
    }

    pub(super) fn step(&mut self) {
        self.now += STEP;
        for number in 0..self.nodes.len() {
            if !self.nodes[number].wanted && self.nodes[number].wants_at <= self.now && self.nodes[number].takes_part() {
                self.begin(number);
            }
        }
        self.talk();
        let (due, later) = std::mem::take(&mut self.mail).into_iter().partition(|(at, ..)| *at <= self.now);
        self.mail = later;
        let mut due: Vec<(Time, usize, Event)> = due;
        due.sort_by_key(|(at, ..)| *at);
        for (_, number, event) in due {
            if self.nodes[number].alive {
                let now = self.now;
                self.nodes[number].engine.handle(event, now);
            }
        }
        self.flow();
        for number in 0..self.nodes.len() {
            if self.nodes[number].alive {
                self.act(number);
            }
        }
        if self.now.as_millis().is_multiple_of(500) {
            self.nodes.iter().for_each(|node| check_accounts(&node.engine));
        }
    }

    /// What those say who only talk.
    fn talk(&mut self) {
        if !self.now.as_millis().is_multiple_of(500) {
            return;
        }
        for talker in (0..self.nodes.len()).filter(|node| self.nodes[*node].kind == Kind::Talks) {
            let told = u64::try_from(self.now.as_millis() / 500).unwrap_or(u64::MAX).min(self.chunks / 2);
            for body in [FileWord::Have(vec![0..told]), FileWord::Reading(vec![self.chunks / 2..self.chunks])] {
                for other in (0..self.nodes.len()).filter(|other| *other != talker && self.nodes[*other].wanted) {
                    let message = FileMessage { file: key(1), body: body.clone() };
                    self.mail.push((self.now + DELAY, other, Event::Told { peer: peer(talker), message }));
                }
            }
        }
    }

    /// Moves bytes: a line is shared evenly by what is under way on it.
    fn flow(&mut self) {
        let now = self.now;
        let moves = |transfer: &Transfer| transfer.begins <= now;
        let all = || self.nodes.iter().filter(|node| node.alive).flat_map(|node| &node.transfers).filter(|transfer| moves(transfer));
        let at_origin = all().filter(|transfer| transfer.from == From::Origin).count().max(1) as f64;
        let mut served = vec![0usize; self.nodes.len()];
        let mut received = vec![0usize; self.nodes.len()];
        for (receiver, node) in self.nodes.iter().enumerate().filter(|(_, node)| node.alive) {
            let mut senders = BTreeSet::new();
            for transfer in node.transfers.iter().filter(|transfer| moves(transfer)) {
                if let From::Peer { peer, .. } = transfer.from {
                    // A peer sends one after the other what one asker asked for.
                    if senders.insert(peer) {
                        served[number(peer.node)] += 1;
                        received[receiver] += 1;
                    }
                } else {
                    received[receiver] += 1;
                }
            }
        }
        for (receiver, received) in received.into_iter().enumerate() {
            let mut senders = BTreeSet::new();
            let mut transfers = std::mem::take(&mut self.nodes[receiver].transfers);
            if !self.nodes[receiver].alive {
                continue;
            }
            for transfer in transfers.iter_mut().filter(|transfer| transfer.begins <= now) {
                let down = self.nodes[receiver].down / received.max(1) as f64;
                let rate = match transfer.from {
                    From::Origin if !self.origin_alive => 0.0,
                    From::Origin => (self.origin_rate / at_origin).min(down),
                    From::Peer { peer, .. } => {
                        let sender = &self.nodes[number(peer.node)];
                        let frozen = (now.as_millis() % 4000) < sender.freezes.as_millis();
                        if !senders.insert(peer) || !sender.alive || frozen || matches!(sender.kind, Kind::Stalls | Kind::Talks) {
                            continue;
                        }
                        (sender.up / served[number(peer.node)].max(1) as f64).min(down)
                    }
                };
                self.bring(receiver, transfer, rate * STEP.as_secs_f64());
            }
            transfers.retain(|transfer| !transfer.chunks.is_empty());
            self.nodes[receiver].transfers = transfers;
        }
    }

    fn bring(&mut self, receiver: usize, transfer: &mut Transfer, bytes: f64) {
        let now = self.now;
        let node = &mut self.nodes[receiver];
        if transfer.from == From::Origin {
            node.origin_bytes += bytes;
        } else {
            node.peer_bytes += bytes;
        }
        transfer.part += bytes;
        if bytes > 0.0 {
            node.engine.handle(Event::Heard { read: transfer.read }, now);
        }
        while transfer.part >= CHUNK_BYTES as f64 && !transfer.chunks.is_empty() {
            let chunk = usize::try_from(transfer.chunks.start).unwrap();
            if let From::Peer { peer, .. } = transfer.from {
                let sender = &self.nodes[number(peer.node)];
                if !sender.takes_part() {
                    transfer.chunks = 0..0;
                    let outcome = Outcome::Lied;
                    return self.nodes[receiver].engine.handle(Event::Ended { read: transfer.read, outcome }, now);
                }
                if !sender.had[chunk] {
                    transfer.chunks = 0..0;
                    return self.nodes[receiver].engine.handle(Event::Ended { read: transfer.read, outcome: Outcome::Refused }, now);
                }
                let (ours, theirs) = (self.nodes[receiver].believes, sender.believes);
                if ours == Some(FALSE_CONTENT) && theirs != ours {
                    transfer.chunks = 0..0;
                    let outcome = Outcome::Misled(peer.node);
                    return self.nodes[receiver].engine.handle(Event::Ended { read: transfer.read, outcome }, now);
                }
            } else {
                self.left[chunk] += 1;
                if self.nodes[receiver].believes == Some(FALSE_CONTENT) {
                    self.nodes[receiver].believes = None;
                    self.nodes[receiver].engine.handle(Event::Contradicted { file: key(1), content: FALSE_CONTENT }, now);
                }
            }
            let (bad, own) = match transfer.from {
                From::Origin => (self.nodes[receiver].kind == Kind::SignsFalse, true),
                From::Peer { peer, .. } => (self.nodes[number(peer.node)].bad[chunk], false),
            };
            if bad && self.nodes[receiver].believes == Some(CONTENT) {
                transfer.chunks = 0..0;
                let outcome = Outcome::Misled(self.liar());
                return self.nodes[receiver].engine.handle(Event::Ended { read: transfer.read, outcome }, now);
            }
            (self.nodes[receiver].bad[chunk], self.nodes[receiver].own[chunk]) = (bad, own);
            transfer.part -= CHUNK_BYTES as f64;
            transfer.chunks.start += 1;
            let node = &mut self.nodes[receiver];
            node.had[chunk] = true;
            node.engine.handle(Event::Arrived { read: transfer.read, chunks: 1 }, now);
            if transfer.chunks.is_empty() {
                node.engine.handle(Event::Ended { read: transfer.read, outcome: Outcome::Complete }, now);
            }
        }
    }

    fn liar(&self) -> NodeId {
        id(self.nodes.iter().position(|node| node.kind == Kind::SignsFalse).unwrap())
    }

    pub(super) fn kill(&mut self, number: usize) {
        self.nodes[number].alive = false;
        for other in (0..self.nodes.len()).filter(|other| *other != number) {
            self.mail.push((self.now + DELAY, other, Event::Lost { peer: peer(number) }));
        }
    }

    /// Runs until all honest nodes that live are done; gives the time of the last.
    pub(super) fn run(&mut self, most: Duration) -> f64 {
        let open = |node: &Node| node.alive && node.kind == Kind::Honest && node.done_at.is_none();
        while self.nodes.iter().any(open) {
            assert!(self.now < most, "not done after {most:?}: {}", self.state());
            assert!(!self.nodes.iter().any(|node| node.given_up), "given up: {}", self.state());
            self.step();
        }
        self.nodes.iter().filter(|node| node.alive).filter_map(|node| node.done_at).max().unwrap_or_default().as_secs_f64()
    }

    fn state(&self) -> String {
        let had = self.nodes.iter().map(|node| node.had.iter().filter(|had| **had).count().to_string());
        let shares =
            self.nodes.iter().filter(|node| node.done_at.is_none()).filter_map(|node| node.engine.files.get(&key(1))).map(|file| {
                let share = file.share.as_deref().unwrap();
                let partners = share.partners.iter().map(|(node, partner)| {
                    format!(
                        "{}{}{}{:?}",
                        number(*node),
                        if partner.live { " live" } else { "" },
                        if partner.answered { " answered" } else { "" },
                        partner.complete.or(partner.knows)
                    )
                });
                format!(
                    "reading {} asking {} at once {} extra {} mine {:?} content {:?} only mine {} waiting {} partners {:?}",
                    file.reading,
                    file.asking.len(),
                    share.at_once,
                    share.extra,
                    share.mine,
                    share.content,
                    share.only_mine,
                    file.waiting.chunks(),
                    partners.collect::<Vec<_>>()
                )
            });
        let shares = shares.collect::<Vec<_>>().join("\n");
        format!(
            "at {:?}, had {:?} of {}, copies from the origin {:.3}\n{shares}",
            self.now,
            had.collect::<Vec<_>>(),
            self.chunks,
            self.copies()
        )
    }

    /// How often a peer was given up because it sent nothing.
    pub(super) fn stalls(&self) -> u64 {
        self.nodes.iter().flat_map(|node| node.engine.links.values()).map(|link| link.record.stalls).sum()
    }

    /// Bytes of the origin, beside the file's.
    pub(super) fn copies(&self) -> f64 {
        self.nodes.iter().map(|node| node.origin_bytes).sum::<f64>() / (self.chunks * CHUNK_BYTES) as f64
    }
}

impl Node {
    /// Whether it fetches the file as others do.
    fn takes_part(&self) -> bool {
        matches!(self.kind, Kind::Honest | Kind::SignsFalse)
    }
}

impl Runs {
    fn of(had: &[bool]) -> Vec<Range<u64>> {
        let mut runs = Runs::default();
        (0u64..).zip(had).filter(|(_, had)| **had).for_each(|(chunk, _)| runs.insert(chunk..chunk + 1));
        runs.iter().collect()
    }
}
