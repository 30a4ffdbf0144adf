//! What was used of late, up to a number and a weight.

use std::collections::VecDeque;

/// Values by key, of which those used last stay.
///
/// Looked through one by one: for a hundred entries at most.
#[derive(Debug)]
pub(crate) struct Recent<K, V> {
    /// The one used last is first.
    entries: VecDeque<Entry<K, V>>,
    most: usize,
    most_bytes: u64,
    bytes: u64,
}

#[derive(Debug)]
struct Entry<K, V> {
    key: K,
    value: V,
    bytes: u64,
}

impl<K: PartialEq, V: Clone> Recent<K, V> {
    /// Keeps at most `most` values of at most `most_bytes` bytes together; the newest stays however large it is.
    pub(crate) fn new(most: usize, most_bytes: u64) -> Self {
        Self { entries: VecDeque::new(), most, most_bytes, bytes: 0 }
    }

    /// The value of `key`, which counts as used.
    pub(crate) fn get(&mut self, key: &K) -> Option<V> {
        let place = self.entries.iter().position(|entry| entry.key == *key)?;
        let entry = self.entries.remove(place)?;
        let value = entry.value.clone();
        self.entries.push_front(entry);
        Some(value)
    }

    /// Keeps a value that takes `bytes`, over the one that `key` had.
    pub(crate) fn put(&mut self, key: K, value: V, bytes: u64) {
        self.remove(&key);
        self.entries.push_front(Entry { key, value, bytes });
        self.bytes += bytes;
        while self.entries.len() > 1 && (self.entries.len() > self.most || self.bytes > self.most_bytes) {
            self.bytes -= self.entries.pop_back().map_or(0, |entry| entry.bytes);
        }
    }

    /// Forgets the value of `key`.
    pub(crate) fn remove(&mut self, key: &K) {
        if let Some(place) = self.entries.iter().position(|entry| entry.key == *key) {
            self.bytes -= self.entries.remove(place).map_or(0, |entry| entry.bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_used_last_stays_within_number_and_weight() {
        let mut recent = Recent::new(3, 100);
        for key in 0..3 {
            recent.put(key, key * 10, 20);
        }
        assert_eq!(recent.get(&0), Some(0));
        recent.put(3, 30, 20);
        assert_eq!([0, 1, 2, 3].map(|key| recent.get(&key)), [Some(0), None, Some(20), Some(30)]);
        recent.put(4, 40, 70);
        assert_eq!([0, 2, 3, 4].map(|key| recent.get(&key)), [None, None, Some(30), Some(40)]);
        recent.put(5, 50, 1_000);
        assert_eq!([3, 4, 5].map(|key| recent.get(&key)), [None, None, Some(50)]);
        recent.remove(&5);
        recent.put(6, 60, 100);
        recent.put(7, 70, 0);
        assert_eq!([5, 6, 7].map(|key| recent.get(&key)), [None, Some(60), Some(70)]);
    }
}
