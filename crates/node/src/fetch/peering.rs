//! What the task that owns the engine does with peers.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::SystemTime;

use larder_content::{ChunkLayout, ContentId, FileKey, FileMessage, FileWord, Holding, Scope, Strength, Subject};
use larder_engine::{Compared, Event, MarketId, Peer, Sharing};
use larder_peers::{Book, Event as Happened, Sighting, Upload, encode_book};

use super::active::{Active, Body};
use super::driver::{Driver, Report};
use super::shared::SharedFile;
use super::{ask, serve};
use crate::market::{MarketEvent, SPOKEN_OF_BYTES};

/// The most peers that are remembered to have asked about a file before it is looked at.
const MOST_EARLY: usize = 64;

impl Driver {
    /// With whom a file is shared, if it is: not what few may read, nor what nothing proves.
    pub(super) fn share(&mut self, key: FileKey) -> Option<Box<Sharing>> {
        let active = self.active.get_mut(&key)?;
        let strong = active.source.file.strength().is_some_and(|strength| strength >= Strength::OneLocator);
        if active.scope != Scope::Public || !strong {
            return None;
        }
        let share = active.share.clone()?;
        let market = self.markets.get(share.market)?.clone();
        let layout = ChunkLayout::new(active.source.file.size);
        let company = market.has_peers();
        // Of a resource of many files most are wanted long after it was looked who is at it.
        let mut known = HashMap::new();
        for (node, holding) in share.known.into_iter().chain(market.holders(share.resource)) {
            let before = known.entry(node).or_insert(holding);
            *before = if holding == Holding::Complete { holding } else { *before };
        }
        let known = known.into_iter().collect();
        let sharing = Sharing {
            market: share.market,
            me: market.id(),
            patience: share.patience,
            whole: matches!(active.body, Body::Small(_)),
            known,
            looked: share.looked,
            company,
            samples: true,
        };
        tracing::debug!(file = %active.source.file.locator, known = sharing.known.len(), "it is fetched with others");
        if active.source.file.size >= SPOKEN_OF_BYTES {
            market.announce(Subject::from(key), Holding::Fetching);
        }
        active.shared = Some(Arc::new(SharedFile::new(key, layout, share.market, market)));
        Some(Box::new(sharing))
    }

    /// A file that was being shared is held, or is not.
    pub(super) fn announce(&self, active: &Active, key: FileKey, holding: Holding) {
        if active.shared.is_some() && active.source.file.size >= SPOKEN_OF_BYTES {
            self.markets.announce(Subject::from(key), holding);
        }
    }

    pub(super) fn happened(&mut self, (market, event): MarketEvent) {
        match event {
            Happened::Connected(node) => self.connected(Peer { market, node }),
            Happened::Disconnected(node) => self.engine.handle(Event::Lost { peer: Peer { market, node } }, self.now()),
            Happened::Told { from, message } => self.told(Peer { market, node: from }, message),
            Happened::Sighted(sighting) => self.sighted(market, sighting),
            Happened::Asked(upload) => self.asked(market, upload),
            Happened::Book(book) => self.keep_book(market, &book),
        }
    }

    /// Whoever comes is asked about what it is said to have.
    fn connected(&mut self, peer: Peer) {
        let Some(market) = self.markets.get(peer.market).cloned() else { return };
        let shared = self.active.iter().filter_map(|(key, active)| Some((*key, active.share.as_ref()?.resource)));
        let shared: Vec<(FileKey, Subject)> = shared.collect();
        let resources: HashSet<Subject> = shared.iter().map(|(_, resource)| *resource).collect();
        let holding =
            |subject: Subject| market.holders(subject).into_iter().find(|(node, _)| *node == peer.node).map(|(_, holding)| holding);
        let of_resource: Vec<(Subject, Holding)> = resources.into_iter().filter_map(|subject| Some((subject, holding(subject)?))).collect();
        let now = self.now();
        for (file, resource) in shared {
            let found = of_resource.iter().find(|(subject, _)| *subject == resource).map(|(_, holding)| *holding);
            if let Some(holding) = found.or_else(|| holding(Subject::from(file))) {
                self.engine.handle(Event::Sighted { file, peer, holding }, now);
            }
        }
    }

    fn sighted(&mut self, market: MarketId, Sighting { subject, node, holding }: Sighting) {
        let (now, peer) = (self.now(), Peer { market, node });
        let of = |key: &FileKey, active: &Active| {
            let of_resource = active.share.as_ref().is_some_and(|share| share.resource == subject);
            // What it has not of the resource any more it may have of another.
            Subject::from(*key) == subject || (of_resource && holding != Holding::Gone)
        };
        let files: Vec<FileKey> = self.active.iter().filter(|(key, active)| of(key, active)).map(|(key, _)| *key).collect();
        for file in files {
            self.engine.handle(Event::Sighted { file, peer, holding }, now);
        }
    }

    fn told(&mut self, peer: Peer, message: FileMessage) {
        let key = message.file;
        match self.active.get_mut(&key).filter(|active| active.share.is_some()) {
            // The engine does not know it yet.
            Some(active) if active.shared.is_none() => {
                let follows = message.body == FileWord::Follow && active.early.len() < MOST_EARLY;
                active.early.extend(follows.then_some(peer));
            }
            Some(_) => {
                let has_all = matches!(message.body, FileWord::Complete(_));
                self.engine.handle(Event::Told { peer, message }, self.now());
                if has_all {
                    self.may_list(key, peer);
                }
            }
            None if message.body == FileWord::Follow => self.answer_from_store(peer, key),
            None => {}
        }
    }

    /// Says whether the store has a file that is not being fetched.
    fn answer_from_store(&self, peer: Peer, file: FileKey) {
        let Some(market) = self.markets.get(peer.market).cloned() else { return };
        let (store, markets) = (self.store.clone(), self.markets.clone());
        tokio::task::spawn_blocking(move || {
            let found = serve::find_public(&store, &file);
            if found.is_none() {
                // It may have been announced and evicted since.
                markets.announce(Subject::from(file), Holding::Gone);
            }
            let body = found.map_or(FileWord::Nothing, |blob| FileWord::Complete(blob.content()));
            // Who has gone needs no answer.
            let _ = market.tell(peer.node, FileMessage { file, body });
        });
    }

    fn asked(&self, market: MarketId, upload: Upload) {
        let active = self.active.get(&upload.file);
        let coming = active.and_then(|active| match (&active.body, &active.shared) {
            (Body::Large(partial), Some(shared)) if shared.market_id == market => Some((partial.clone(), shared.clone())),
            (Body::Large(_) | Body::Small(_) | Body::Opening, _) => None,
        });
        tokio::spawn(serve::answer(self.store.clone(), coming, upload));
    }

    fn keep_book(&self, market: MarketId, book: &Book) {
        let Some(market) = self.markets.get(market) else { return };
        let (store, address, book) = (self.store.clone(), market.address().to_owned(), encode_book(book, SystemTime::now()));
        tokio::task::spawn_blocking(move || {
            if let Err(error) = store.put_peers(&address, &book) {
                tracing::warn!(%error, "the known peers are not kept");
            }
        });
    }

    pub(super) fn tell(&self, peer: Peer, message: FileMessage) {
        let Some(market) = self.markets.get(peer.market) else { return };
        if !market.tell(peer.node, message) {
            // Once it is there, it is sighted again.
            market.connect(peer.node);
        }
    }

    pub(super) fn ban(&self, peer: Peer, period: std::time::Duration) {
        tracing::warn!(peer = %peer.node, ?period, "it lied: it is left alone");
        if let Some(market) = self.markets.get(peer.market) {
            market.ban(peer.node, period);
        }
    }

    pub(super) fn fetch_hashes(&mut self, key: FileKey, peer: Peer, content: ContentId) {
        let Some((active, shared)) = self.active.get(&key).and_then(|active| Some((active, active.shared.clone()?))) else { return };
        let partial = match &active.body {
            Body::Large(partial) => Some(partial.clone()),
            Body::Small(_) | Body::Opening => None,
        };
        let (reading, reporter, question) = (active.reading, self.reporter.clone(), shared.asks());
        tokio::spawn(async move {
            let compared = ask::hashes(shared, partial, peer.node, content, question).await;
            let _ = reporter.send(Report::Compared { key, reading, peer, content, question, compared }).await;
        });
    }

    /// The answer to a question for a list came. One that is of before something was asked or refuted says nothing of who gave it.
    pub(super) fn compared(&mut self, key: FileKey, peer: Peer, content: ContentId, question: u64, compared: Compared) {
        let Some(active) = self.active.get_mut(&key) else { return };
        let is_last = active.shared.as_ref().is_some_and(|shared| shared.is_last(question));
        let dropped = if let Compared::Known { dropped, .. } = &compared { dropped.clone() } else { Vec::new() };
        active.take_back_runs(&dropped);
        if is_last {
            self.engine.handle(Event::Hashes { file: key, peer, content, compared }, self.now());
        } else if !dropped.is_empty() {
            self.engine.handle(Event::Disproven { file: key, content: None, missing: dropped }, self.now());
        }
    }

    /// What this node read from the origin is not what it took the file to be.
    pub(super) fn contradicted(&mut self, key: FileKey, content: ContentId) {
        if let Some(shared) = self.active.get(&key).and_then(|active| active.shared.clone()) {
            shared.forget_list(content);
            self.engine.handle(Event::Contradicted { file: key, content }, self.now());
        }
    }

    /// What came from peers was not the file, which was taken to be of `list`: what others gave comes anew.
    pub(super) fn refute(&mut self, key: FileKey, list: Option<ContentId>) {
        let Some((active, shared)) = self.active.get_mut(&key).and_then(|active| active.shared.clone().map(|shared| (active, shared)))
        else {
            return;
        };
        active.refuted += 1;
        if shared.list().map(|list| list.content()) != list {
            // What came to be known since may be right: what is there is held against that.
            return self.engine.handle(Event::Disproven { file: key, content: None, missing: Vec::new() }, self.now());
        }
        tracing::warn!(file = %active.source.file.locator, "what came from peers does not match: it is fetched anew");
        shared.disbelieve();
        let missing = shared.foreign();
        active.take_back_runs(&missing);
        self.engine.handle(Event::Refuted { file: key, signers: Vec::new(), missing }, self.now());
    }
}
