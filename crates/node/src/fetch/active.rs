//! One file while it is being fetched.

use std::collections::HashMap;
use std::sync::Arc;

use larder_content::{ContentId, Mismatch, Resource, Scope};
use larder_engine::{GroupId, ReadId};
use larder_store::{Blob, Partial};
use tokio::sync::oneshot;
use tokio::task::AbortHandle;

use super::{FetchError, Fetched, Ticket, Wanted};
use crate::home::without_digests;
use crate::progress::Meter;
use crate::read::Source;

/// How often a file is read before bytes that match nothing are called corrupt.
const MAX_READINGS: usize = 3;

/// One file while it is being fetched.
pub(super) struct Active {
    pub(super) source: Source,
    pub(super) scope: Scope,
    pub(super) group: GroupId,
    pub(super) body: Body,
    pub(super) reads: HashMap<ReadId, AbortHandle>,
    /// What its last failed read reported.
    pub(super) last_error: Option<FetchError>,
    waiters: Vec<Waiter>,
    /// What earlier readings came to whose bytes did not match.
    mismatches: Vec<(ContentId, Mismatch)>,
    /// The bytes that came from the origin.
    origin_bytes: u64,
}

/// Where its bytes go.
pub(super) enum Body {
    /// Its partial file is being opened.
    Opening,
    /// It is small: read whole, and sealed at once into this.
    Small(Option<Blob>),
    /// Chunk by chunk into this file.
    Large(Partial),
}

struct Waiter {
    ticket: Ticket,
    meter: Arc<Meter>,
    answer: oneshot::Sender<Result<Fetched, Arc<FetchError>>>,
    /// Whether the bytes from the origin are this one's: the first's.
    pays: bool,
}

/// What to do after a reading whose bytes do not match.
pub(super) enum Next {
    /// Read it again.
    Again,
    /// Two readings were equal: what the origin lists says nothing of its bytes.
    TakeAsRead,
    /// It is corrupt.
    Corrupt(FetchError),
}

impl Active {
    pub(super) fn new(wanted: Wanted, ticket: Ticket, answer: oneshot::Sender<Result<Fetched, Arc<FetchError>>>) -> Self {
        let Wanted { file, scope, access, resource, origins, group, meter } = wanted;
        let source = Source { origins, resource, file: Arc::new(file), access };
        let waiters = vec![Waiter { ticket, meter, answer, pays: true }];
        let (reads, mismatches) = (HashMap::new(), Vec::new());
        Self { source, scope, group, body: Body::Opening, reads, last_error: None, waiters, mismatches, origin_bytes: 0 }
    }

    pub(super) fn join(&mut self, meter: Arc<Meter>, ticket: Ticket, answer: oneshot::Sender<Result<Fetched, Arc<FetchError>>>) {
        self.waiters.push(Waiter { ticket, meter, answer, pays: false });
    }

    /// Takes someone off the list; tells whether nobody is left.
    pub(super) fn leave(&mut self, ticket: &Ticket) -> bool {
        self.waiters.retain(|waiter| !Arc::ptr_eq(&waiter.ticket, ticket));
        if let Some(first) = self.waiters.first_mut() {
            first.pays = true;
        }
        self.waiters.is_empty()
    }

    /// Counts bytes that came from the origin. A file that is read again counts once.
    pub(super) fn count(&mut self, bytes: u64) {
        let bytes = bytes.min(self.source.file.size - self.origin_bytes);
        self.origin_bytes += bytes;
        for waiter in &self.waiters {
            if waiter.pays { waiter.meter.add_origin(bytes) } else { waiter.meter.add_cache(bytes) }
        }
    }

    /// Counts bytes that an earlier run left.
    pub(super) fn count_kept(&self, bytes: u64) {
        self.waiters.iter().for_each(|waiter| waiter.meter.add_cache(bytes));
    }

    /// Decides what follows a reading that came to `content` and did not match.
    ///
    /// An ETag that a bucket's own bytes do not match twice in a row, equal both times, is no digest. A hub's digests are
    /// what its files are made of, so there nothing else is taken.
    pub(super) fn mismatched(&mut self, content: ContentId, mismatch: Mismatch) -> Next {
        let repeated = self.mismatches.iter().any(|(earlier, _)| *earlier == content);
        self.mismatches.push((content, mismatch.clone()));
        let of_bucket = matches!(*self.source.resource, Resource::Bucket(_));
        if of_bucket && repeated {
            return Next::TakeAsRead;
        }
        let times = self.mismatches.len();
        if times < MAX_READINGS {
            return Next::Again;
        }
        Next::Corrupt(FetchError::Corrupt { what: self.source.file.locator.to_string(), mismatch, times })
    }

    /// Forgets what the origin lists of the bytes.
    pub(super) fn take_as_read(&mut self) {
        self.source.file = Arc::new(without_digests(&self.source.file));
    }

    /// Answers all who wait.
    pub(super) fn answer(self, result: Result<Blob, FetchError>) {
        let result = result.map_err(Arc::new);
        for waiter in self.waiters {
            let origin_bytes = if waiter.pays { self.origin_bytes } else { 0 };
            let answer = result.clone().map(|blob| Fetched { blob, origin_bytes });
            // Who has gone meanwhile needs no answer.
            let _ = waiter.answer.send(answer);
        }
    }
}
