//! The account of bytes: where those of each resource came from, and how many were given to peers.
//!
//! It is kept with the index, not synced, and lost with it.

use std::sync::atomic::Ordering;

use crate::index::Row;
use crate::records::{AccountRow, ServedRow};
use crate::{Shared, Store, StoreError, lock};

/// The name of the account that has what the oldest accounts had.
pub const LEDGER_OTHERS: &str = "others";
/// The most accounts that are kept.
const MOST_ACCOUNTS: usize = 65_536;
/// How many of the oldest go when there are too many.
const FOLDED: usize = 4_096;

/// Bytes by where they came from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LedgerBytes {
    /// Bytes that were here.
    pub cache: u64,
    /// Bytes that peers sent.
    pub peers: u64,
    /// Bytes that the origin sent.
    pub origin: u64,
}

/// What is known of the accounts without looking through them.
#[derive(Debug)]
pub(crate) struct Accounts {
    count: usize,
    /// The turn of the next change: who has the least was not changed for longest.
    next_turn: u64,
}

impl Store {
    /// Adds to the account of a resource.
    ///
    /// # Errors
    /// If the index cannot be read or written.
    pub fn add_to_ledger(&self, resource: &str, bytes: LedgerBytes) -> Result<(), StoreError> {
        let shared = &*self.shared;
        let mut accounts = lock(&shared.accounts);
        let accounts = match &mut *accounts {
            Some(accounts) => accounts,
            unknown @ None => unknown.insert(shared.count_accounts()?),
        };
        let known = shared.index.get::<AccountRow>(Row::Account(resource))?;
        if known.is_none() {
            if accounts.count >= MOST_ACCOUNTS {
                shared.fold_accounts(accounts)?;
            }
            accounts.count += 1;
        }
        accounts.next_turn += 1;
        shared.add(resource, known, bytes, accounts.next_turn)
    }

    /// All accounts by resource, ordered by its name; [`LEDGER_OTHERS`] has what too many had.
    ///
    /// # Errors
    /// If the index cannot be read.
    pub fn ledger(&self) -> Result<Vec<(String, LedgerBytes)>, StoreError> {
        let account = |AccountRow { resource, cache, peers, origin, .. }| (resource, LedgerBytes { cache, peers, origin });
        let mut ledger: Vec<_> = self.shared.index.accounts::<AccountRow>()?.into_iter().map(account).collect();
        ledger.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        Ok(ledger)
    }

    /// Adds to the bytes that were given to peers: in memory, and to the index with the next sync, since it is done often.
    pub fn add_served(&self, bytes: u64) {
        self.shared.served.fetch_add(bytes, Ordering::Relaxed);
    }

    /// The bytes that were given to peers.
    ///
    /// # Errors
    /// If the index cannot be read or written.
    pub fn served(&self) -> Result<u64, StoreError> {
        self.shared.record_served()
    }
}

impl Shared {
    /// Records what was given to peers; gives all of it.
    pub(crate) fn record_served(&self) -> Result<u64, StoreError> {
        let _one = lock(&self.accounts);
        let before = self.index.get::<ServedRow>(Row::Served)?.map_or(0, |row| row.bytes);
        let more = self.served.load(Ordering::Relaxed);
        let bytes = before.saturating_add(more);
        if more > 0 {
            self.index.put(Row::Served, &ServedRow { bytes })?;
            self.served.fetch_sub(more, Ordering::Relaxed);
        }
        Ok(bytes)
    }

    fn count_accounts(&self) -> Result<Accounts, StoreError> {
        let rows: Vec<AccountRow> = self.index.accounts()?;
        Ok(Accounts { count: rows.len(), next_turn: rows.iter().map(|row| row.turn).max().unwrap_or(0) })
    }

    fn add(&self, resource: &str, known: Option<AccountRow>, bytes: LedgerBytes, turn: u64) -> Result<(), StoreError> {
        let LedgerBytes { cache, peers, origin } = bytes;
        let had = known.map_or_else(LedgerBytes::default, |row| LedgerBytes { cache: row.cache, peers: row.peers, origin: row.origin });
        let row = AccountRow {
            resource: resource.into(),
            cache: had.cache.saturating_add(cache),
            peers: had.peers.saturating_add(peers),
            origin: had.origin.saturating_add(origin),
            turn,
        };
        self.index.put(Row::Account(resource), &row)
    }

    /// Adds the oldest accounts to that of the others. A kill in between loses the bytes of one.
    fn fold_accounts(&self, accounts: &mut Accounts) -> Result<(), StoreError> {
        let mut rows: Vec<AccountRow> = self.index.accounts()?;
        rows.retain(|row| row.resource != LEDGER_OTHERS);
        rows.sort_unstable_by_key(|row| row.turn);
        for AccountRow { resource, cache, peers, origin, .. } in rows.into_iter().take(FOLDED) {
            self.index.remove(Row::Account(&resource))?;
            let others = self.index.get(Row::Account(LEDGER_OTHERS))?;
            accounts.count = (accounts.count - 1) + usize::from(others.is_none());
            self.add(LEDGER_OTHERS, others, LedgerBytes { cache, peers, origin }, accounts.next_turn)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{store_at, store_in};

    #[test]
    fn what_is_added_is_there_when_the_store_is_opened_again() {
        let (folder, store) = store_in();
        let bytes = |cache, peers, origin| LedgerBytes { cache, peers, origin };
        store.add_to_ledger("b", bytes(1, 2, 3)).unwrap();
        store.add_to_ledger("a", bytes(0, 0, 7)).unwrap();
        store.add_served(5);
        drop(store);
        let store = store_at(&folder.path().join("home"));
        store.add_to_ledger("b", bytes(10, 20, u64::MAX)).unwrap();
        store.add_served(6);
        assert_eq!(store.ledger().unwrap(), [("a".into(), bytes(0, 0, 7)), ("b".into(), bytes(11, 22, u64::MAX))]);
        assert_eq!(store.served().unwrap(), 11);
    }

    #[test]
    fn the_oldest_accounts_become_one_and_no_byte_is_lost() {
        let (_folder, store) = store_in();
        let one = LedgerBytes { cache: 1, peers: 2, origin: 3 };
        let count = MOST_ACCOUNTS as u64 + FOLDED as u64 + 2;
        for number in 0..count {
            store.add_to_ledger(&format!("hf:m{number}"), one).unwrap();
            // One that is used all the while is not old.
            store.add_to_ledger("hf:m0", LedgerBytes::default()).unwrap();
        }
        let ledger = store.ledger().unwrap();
        assert!(ledger.len() <= MOST_ACCOUNTS, "{} accounts", ledger.len());
        let sum = ledger.iter().fold((0, 0, 0), |sum, (_, b)| (sum.0 + b.cache, sum.1 + b.peers, sum.2 + b.origin));
        assert_eq!(sum, (count, 2 * count, 3 * count));
        let has = |name: &str| ledger.iter().any(|(resource, _)| resource == name);
        assert!(has(LEDGER_OTHERS) && has("hf:m0") && !has("hf:m1") && has(&format!("hf:m{}", count - 1)));
    }
}
