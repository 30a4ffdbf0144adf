//! What an origin was asked for, and how many body bytes it handed out.
//!
//! Bytes count when they go to the socket, so those of cancelled requests count too.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;

use crate::faults::Side;

/// How many requests are remembered one by one; sums go on.
const MAX_EXCHANGES: usize = 100_000;

/// A number of requests and the bytes of their bodies.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// How many requests.
    pub requests: u64,
    /// Body bytes sent in answer.
    pub body_bytes: u64,
}

/// One request and what came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Exchange {
    /// Which host was asked.
    pub side: Side,
    /// The method.
    pub method: String,
    /// Path and query as they came.
    pub target: String,
    /// The `Range` header.
    pub range: Option<String>,
    /// The status of the answer; 0 if the connection was closed without one.
    pub status: u16,
    /// Whether an `Authorization` header came along.
    pub authorized: bool,
    /// The file it concerned: `models/org/name/path/in/repo`, or `bucket/key`.
    pub file: Option<String>,
    /// Whether the answer was the file's content.
    pub content: bool,
    /// Body bytes sent.
    pub body_bytes: u64,
    /// Whether a fault was put on it.
    pub spoilt: bool,
}

/// Everything counted until one moment.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize)]
pub struct Snapshot {
    /// GETs that were answered with a file's content.
    pub content: Tally,
    /// Everything else: API calls, HEAD, redirects, errors, listings.
    pub metadata: Tally,
    /// Content by file.
    pub files: BTreeMap<String, Tally>,
    /// The newest 100,000 requests, oldest first.
    pub requests: Vec<Exchange>,
}

/// The account of one origin; clones share it.
#[derive(Debug, Clone, Default)]
pub struct Counts {
    account: Arc<Mutex<Account>>,
}

#[derive(Debug, Default)]
struct Account {
    /// Grows with each reset, so that what was under way then is not counted afterwards.
    era: u64,
    content: Tally,
    metadata: Tally,
    files: BTreeMap<String, Tally>,
    exchanges: VecDeque<Exchange>,
    /// The number of the first exchange that is still remembered.
    first: u64,
}

impl Counts {
    /// Everything counted since the last reset.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let account = self.lock();
        Snapshot {
            content: account.content,
            metadata: account.metadata,
            files: account.files.clone(),
            requests: account.exchanges.iter().cloned().collect(),
        }
    }

    /// Starts from zero; what is under way is not counted any further.
    pub fn reset(&self) {
        let mut account = self.lock();
        *account = Account { era: account.era + 1, ..Account::default() };
    }

    /// The content of one file: `models/org/name/path/in/repo` at any commit, or `bucket/key`.
    #[must_use]
    pub fn file(&self, name: &str) -> Tally {
        self.lock().files.get(name).copied().unwrap_or_default()
    }

    /// The content of all files.
    #[must_use]
    pub fn content(&self) -> Tally {
        self.lock().content
    }

    /// All that was not content.
    #[must_use]
    pub fn metadata(&self) -> Tally {
        self.lock().metadata
    }

    /// Writes a request down; the meter takes the bytes of its body.
    pub(crate) fn record(&self, exchange: Exchange) -> Meter {
        let mut account = self.lock();
        let file = exchange.file.clone().filter(|_| exchange.content);
        if exchange.content {
            account.content.requests += 1;
        } else {
            account.metadata.requests += 1;
        }
        if let Some(file) = &file {
            account.files.entry(file.clone()).or_default().requests += 1;
        }
        if account.exchanges.len() == MAX_EXCHANGES {
            account.exchanges.pop_front();
            account.first += 1;
        }
        account.exchanges.push_back(exchange);
        let number = account.first + account.exchanges.len() as u64 - 1;
        Meter { counts: self.clone(), era: account.era, number, file }
    }

    fn lock(&self) -> MutexGuard<'_, Account> {
        self.account.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts the body of one answer.
#[derive(Debug)]
pub(crate) struct Meter {
    counts: Counts,
    era: u64,
    number: u64,
    file: Option<String>,
}

impl Meter {
    /// These bytes go to the socket.
    pub(crate) fn add(&self, bytes: u64) {
        let mut account = self.counts.lock();
        if account.era != self.era {
            return;
        }
        let index = self.number.checked_sub(account.first).and_then(|index| usize::try_from(index).ok());
        let exchange = index.and_then(|index| account.exchanges.get_mut(index));
        if let Some(exchange) = exchange {
            exchange.body_bytes += bytes;
        }
        match &self.file {
            Some(file) => {
                account.content.body_bytes += bytes;
                if let Some(tally) = account.files.get_mut(file) {
                    tally.body_bytes += bytes;
                }
            }
            None => account.metadata.body_bytes += bytes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get(file: &str, content: bool) -> Exchange {
        Exchange {
            side: Side::Hub,
            method: "GET".into(),
            target: format!("/{file}"),
            range: None,
            status: 200,
            authorized: false,
            file: Some(file.into()),
            content,
            body_bytes: 0,
            spoilt: false,
        }
    }

    #[test]
    fn content_is_counted_by_file_and_apart_from_metadata() {
        let counts = Counts::default();
        counts.record(get("a", true)).add(5);
        counts.record(get("a", true)).add(7);
        counts.record(get("a", false)).add(100);
        assert_eq!(counts.file("a"), Tally { requests: 2, body_bytes: 12 });
        assert_eq!(counts.content(), Tally { requests: 2, body_bytes: 12 });
        assert_eq!(counts.metadata(), Tally { requests: 1, body_bytes: 100 });
        assert_eq!(counts.snapshot().requests.iter().map(|exchange| exchange.body_bytes).collect::<Vec<_>>(), [5, 7, 100]);
    }

    #[test]
    fn bytes_of_before_a_reset_are_not_counted_after_it() {
        let counts = Counts::default();
        let meter = counts.record(get("a", true));
        counts.reset();
        counts.record(get("b", true));
        meter.add(5);
        assert_eq!(counts.content(), Tally { requests: 1, body_bytes: 0 });
        assert_eq!(counts.snapshot().requests[0].body_bytes, 0);
    }

    #[test]
    fn sums_go_on_when_old_requests_are_forgotten() {
        let counts = Counts::default();
        let first = counts.record(get("a", true));
        for _ in 0..MAX_EXCHANGES {
            counts.record(get("b", true));
        }
        first.add(3);
        let snapshot = counts.snapshot();
        assert_eq!((snapshot.requests.len(), snapshot.content.requests), (MAX_EXCHANGES, MAX_EXCHANGES as u64 + 1));
        assert_eq!((counts.file("a").body_bytes, snapshot.requests[0].body_bytes), (3, 0));
    }
}
