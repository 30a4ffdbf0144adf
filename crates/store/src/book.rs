//! What is known of the peers of each market, kept as the bytes that whoever speaks to them made of it.

use crate::index::Row;
use crate::records::PeersRow;
use crate::{Store, StoreError};

impl Store {
    /// Keeps what is known of the peers of a market, over what was known before: at most 16 MiB. Not synced: it is only a start.
    ///
    /// # Errors
    /// If the index cannot be written, or it is too large.
    pub fn put_peers(&self, market: &str, book: &[u8]) -> Result<(), StoreError> {
        self.shared.index.put(Row::Peers(market), &PeersRow { market: market.into(), book: book.into() })
    }

    /// What was last kept of the peers of a market.
    ///
    /// # Errors
    /// If the index cannot be read.
    pub fn peers(&self, market: &str) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.shared.index.get::<PeersRow>(Row::Peers(market))?.map(|row| row.book))
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::{store_at, store_in};

    #[test]
    fn each_market_has_its_own_book_which_outlives_the_process() {
        let (folder, store) = store_in();
        let large: Vec<u8> = (0..1_000_000u32).map(|at| at.to_le_bytes()[1]).collect();
        for (market, book) in [("a", &b"old"[..]), ("b", &large), ("a", b"new")] {
            store.put_peers(market, book).unwrap();
        }
        assert!(store.put_peers("c", &vec![0; 17 << 20]).is_err());
        drop(store);
        let store = store_at(&folder.path().join("home"));
        assert_eq!(["a", "b", "c"].map(|market| store.peers(market).unwrap()), [Some(b"new".to_vec()), Some(large), None]);
    }
}
