//! One file while it is being fetched, and those who wait for it.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use larder_content::{Algorithm, ChunkLayout, ContentId, Mismatch, NodeId, OriginDigest, OriginFile, PartSizes, Resource, Scope};
use larder_engine::{GroupId, Peer, ReadId};
use larder_store::{Blob, Partial};
use tokio::sync::oneshot;
use tokio::task::AbortHandle;

use super::pieces::Listing;
use super::shared::SharedFile;
use super::{FetchError, Fetched, Room, ShareWith, Ticket, Wanted};
use crate::progress::Meter;
use crate::read::Source;

/// How often a file is read before bytes that match nothing are called corrupt.
const MAX_READINGS: usize = 3;
/// How often what came of peers may be refuted, each time for the word of others, before the origin alone is asked.
const MOST_REFUTED: usize = 8;

/// One file while it is being fetched.
pub(super) struct Active {
    /// What is read: the way to the file of the one who is [`Active::reader`].
    pub(super) source: Source,
    pub(super) scope: Scope,
    pub(super) group: GroupId,
    /// Tells this reading's reports from those of earlier ones.
    pub(super) reading: u64,
    pub(super) body: Body,
    pub(super) reads: HashMap<ReadId, AbortHandle>,
    /// What the last failed read reported.
    pub(super) last_error: Option<FetchError>,
    reader: Ticket,
    waiters: Vec<Waiter>,
    /// What earlier readings from this source came to whose bytes did not match.
    mismatches: Vec<(ContentId, Mismatch)>,
    /// Readings from this source that ended with chunks missing.
    incomplete: usize,
    /// Bytes of this reading that are there, wherever they came from.
    had: u64,
    /// With whom it may be fetched together.
    pub(super) share: Option<ShareWith>,
    /// Since it is: what is known of its chunks.
    pub(super) shared: Option<Arc<SharedFile>>,
    /// Whether chunks of this reading came from peers.
    pub(super) from_peers: bool,
    /// Times that what came from peers was refuted.
    pub(super) refuted: usize,
    /// Once it is looked who signed for what is false: that is of no use without it.
    pub(super) checked: Option<Arc<()>>,
    /// The list of its pieces.
    pub(super) listing: Listing,
    /// What jobs have of it already, while it is held against the digest of its key.
    pub(super) ready: Option<Ready>,
    /// Peers that asked about it before the engine knew it.
    pub(super) early: Vec<Peer>,
}

/// A file that was proven by piece.
pub(super) struct Ready {
    pub(super) blob: Blob,
    /// The Xet hash that proved it: who has the file listed with another waits.
    pub(super) root: [u8; 32],
    /// Who signed for what it is not.
    pub(super) liars: Vec<NodeId>,
}

/// Where its bytes go.
pub(super) enum Body {
    /// It is looked for in the store, and its partial file opened.
    Opening,
    /// It is small: read whole, and sealed at once into this.
    Small(Option<Blob>),
    /// Chunk by chunk into this file.
    Large(Partial),
}

struct Waiter {
    ticket: Ticket,
    source: Source,
    group: GroupId,
    meter: Arc<Meter>,
    room: Arc<Room>,
    answer: oneshot::Sender<Result<Fetched, Arc<FetchError>>>,
    /// Bytes that its meter has counted: never more than the file has.
    counted: u64,
    /// Those of them that came from peers and from the origin for it.
    peer_bytes: u64,
    origin_bytes: u64,
}

/// Where bytes came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Supply {
    /// They were here, or came for someone else.
    Cache,
    Peers,
    Origin,
}

impl Waiter {
    fn count(&mut self, bytes: u64, supply: Supply) {
        let bytes = bytes.min(self.source.file.size - self.counted);
        self.counted += bytes;
        match supply {
            Supply::Cache => self.meter.add_cache(bytes),
            Supply::Peers => {
                self.peer_bytes += bytes;
                self.meter.add_peers(bytes);
            }
            Supply::Origin => {
                self.origin_bytes += bytes;
                self.meter.add_origin(bytes);
            }
        }
        self.room.follow(self.source.file.size - self.counted);
    }

    /// So many bytes are not there after all; those that came from peers did not.
    fn take_back(&mut self, bytes: u64) {
        let bytes = bytes.min(self.peer_bytes);
        self.counted -= bytes;
        self.peer_bytes -= bytes;
        self.meter.take_back_peers(bytes);
    }
}

/// What to do after a reading whose bytes do not match.
pub(super) enum Next {
    /// Read it again.
    Again,
    /// Two readings were equal: an ETag says nothing of the bytes.
    TakeAsRead,
    /// It is corrupt.
    Corrupt(FetchError),
}

impl Active {
    pub(super) fn new(wanted: Wanted, ticket: Ticket, answer: oneshot::Sender<Result<Fetched, Arc<FetchError>>>) -> Self {
        let (scope, share) = (wanted.scope, wanted.share.clone());
        let waiter = Waiter::new(wanted, ticket, answer);
        Self {
            source: waiter.source.clone(),
            scope,
            group: waiter.group,
            reading: 0,
            body: Body::Opening,
            reads: HashMap::new(),
            last_error: None,
            reader: waiter.ticket.clone(),
            waiters: vec![waiter],
            mismatches: Vec::new(),
            incomplete: 0,
            had: 0,
            share,
            shared: None,
            from_peers: false,
            refuted: 0,
            checked: None,
            listing: Listing::default(),
            ready: None,
            early: Vec::new(),
        }
    }

    /// Whether what came of peers comes anew if the whole is not the file.
    pub(super) fn may_refute(&self) -> bool {
        let is_of_others = || self.shared.as_ref().is_some_and(|shared| !shared.foreign().is_empty());
        self.from_peers && self.refuted < MOST_REFUTED && is_of_others()
    }

    pub(super) fn join(&mut self, wanted: Wanted, ticket: Ticket, answer: oneshot::Sender<Result<Fetched, Arc<FetchError>>>) {
        let mut waiter = Waiter::new(wanted, ticket, answer);
        waiter.count(self.had, Supply::Cache);
        self.waiters.push(waiter);
        if let Some(Ready { blob, root, .. }) = &self.ready {
            let (blob, root) = (blob.clone(), *root);
            self.hand_out(&blob, |file| file.xet() == Some(root));
        }
    }

    /// Takes someone off the list; tells whether it is of no use any more.
    pub(super) fn leave(&mut self, ticket: &Ticket) -> bool {
        self.waiters.retain(|waiter| !Arc::ptr_eq(&waiter.ticket, ticket));
        self.waiters.is_empty() && self.ready.is_none()
    }

    /// Begins to read from the start, or from what is on the disk.
    pub(super) fn begin(&mut self, reading: u64) {
        self.reading = reading;
        self.body = Body::Opening;
        self.take_back(self.had);
        (self.shared, self.from_peers, self.checked, self.listing) = (None, false, None, Listing::default());
    }

    /// Counts bytes that came, for whoever is first in line; for the others they come from here.
    pub(super) fn count(&mut self, bytes: u64, supply: Supply) {
        self.had += bytes;
        for (place, waiter) in self.waiters.iter_mut().enumerate() {
            waiter.count(bytes, if place == 0 { supply } else { Supply::Cache });
        }
    }

    /// So many bytes were thrown away.
    pub(super) fn take_back(&mut self, bytes: u64) {
        self.had = self.had.saturating_sub(bytes);
        self.waiters.iter_mut().for_each(|waiter| waiter.take_back(bytes));
    }

    /// Runs of chunks were thrown away.
    pub(super) fn take_back_runs(&mut self, runs: &[Range<u64>]) {
        let layout = ChunkLayout::new(self.source.file.size);
        let places = runs.iter().map(|run| layout.bytes(run.start, run.end));
        self.take_back(places.map(|place| place.end - place.start).sum());
    }

    /// Decides what follows a reading that came to `content` and did not match.
    ///
    /// An ETag that a bucket's own bytes do not match, though they come to the same each time, is no digest. What a hub lists,
    /// and checksums that a bucket calls so, mean what they say: there nothing else is taken.
    pub(super) fn mismatched(&mut self, content: ContentId, mismatch: Mismatch) -> Next {
        let repeated = self.mismatches.iter().any(|(earlier, _)| *earlier == content);
        self.mismatches.push((content, mismatch.clone()));
        let of_bucket = matches!(*self.source.resource, Resource::Bucket(_));
        if of_bucket && repeated && self.source.file.digests.iter().any(may_say_nothing) {
            return Next::TakeAsRead;
        }
        let times = self.mismatches.len();
        if times < MAX_READINGS {
            return Next::Again;
        }
        Next::Corrupt(FetchError::Corrupt { what: self.source.file.locator.to_string(), mismatch, times })
    }

    /// Notes a reading that ended with chunks missing; tells whether to read on.
    pub(super) fn was_incomplete(&mut self) -> bool {
        self.incomplete += 1;
        self.incomplete < MAX_READINGS
    }

    /// Forgets what the origin lists that may say nothing of the bytes. Keys are not made of it, so who else waits for this key
    /// waits for this very file.
    pub(super) fn take_as_read(&mut self) {
        Arc::make_mut(&mut self.source.file).digests.retain(|digest| !may_say_nothing(digest));
    }

    /// Gives those who wait what they wait for, if it is what they have `listed`.
    pub(super) fn hand_out(&mut self, blob: &Blob, listed: impl Fn(&OriginFile) -> bool) {
        for mut waiter in self.waiters.extract_if(.., |waiter| listed(&waiter.source.file)) {
            waiter.count(u64::MAX, Supply::Cache);
            // Who has gone meanwhile needs no answer.
            let _ =
                waiter.answer.send(Ok(Fetched { blob: blob.clone(), peer_bytes: waiter.peer_bytes, origin_bytes: waiter.origin_bytes }));
        }
    }

    /// Tells the reader, if it still waits, that its way to the file leads nowhere. The next in line becomes the reader, by its own
    /// way; `None` if there is none.
    pub(super) fn fail(mut self, error: FetchError) -> Option<Self> {
        if let Some(place) = self.waiters.iter().position(|waiter| Arc::ptr_eq(&waiter.ticket, &self.reader)) {
            let _ = self.waiters.remove(place).answer.send(Err(Arc::new(error)));
        }
        self.pass_on()
    }

    /// The same file for the next in line, by its own way; `None` if nobody waits.
    pub(super) fn pass_on(mut self) -> Option<Self> {
        let next = self.waiters.first()?;
        (self.source, self.group, self.reader) = (next.source.clone(), next.group, next.ticket.clone());
        (self.mismatches, self.incomplete, self.last_error) = (Vec::new(), 0, None);
        Some(self)
    }
}

impl Waiter {
    fn new(wanted: Wanted, ticket: Ticket, answer: oneshot::Sender<Result<Fetched, Arc<FetchError>>>) -> Self {
        let Wanted { file, scope: _, access, resource, origins, pace, share: _, group, meter, room } = wanted;
        let source = Source { origins, resource, file: Arc::new(file), access, pace };
        Self { ticket, source, group, meter, room, answer, counted: 0, peer_bytes: 0, origin_bytes: 0 }
    }
}

/// Whether a bucket's digest may be none: ETags are what the server likes, and parts may be of sizes that nobody told.
fn may_say_nothing(digest: &OriginDigest) -> bool {
    match digest {
        OriginDigest::Whole { algorithm, .. } => *algorithm == Algorithm::Md5,
        OriginDigest::Parts { algorithm, sizes, .. } => *algorithm == Algorithm::Md5 || matches!(sizes, PartSizes::Count(_)),
        OriginDigest::GitSha1(_) | OriginDigest::Xet(_) => false,
    }
}
