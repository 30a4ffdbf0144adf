//! Memory for the bytes of chunks, taken up again once nobody holds what was in it: neither zeroed nor mapped anew.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::{Buf, Bytes, BytesMut};

/// Some processors copy to places that are not aligned at half the speed.
const ALIGNMENT: usize = 64;

/// What is larger is not remembered: those who want many such buffers would leave as many behind.
const LARGEST: usize = 1 << 20;

/// The last buffers that were handed out, of 1 MiB at most.
#[derive(Debug)]
pub struct Buffers {
    most: usize,
    handed_out: Mutex<VecDeque<Bytes>>,
}

impl Buffers {
    /// Remembers at most so many buffers, and as many again as long as they are held.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self { most, handed_out: Mutex::default() }
    }

    /// A buffer of at least `length` bytes, with anything in them.
    #[must_use]
    pub fn take(&self, length: usize) -> BytesMut {
        if length == 0 {
            return BytesMut::new();
        }
        let free = {
            let mut buffers = self.lock();
            // Not one that is much larger: who counts the bytes that are held counts `length`.
            let fits = |bytes: &Bytes| bytes.len() >= length && bytes.len() / 2 <= length && bytes.is_unique();
            // What was let go last may still be in the processor's cache.
            let fitting = buffers.iter().enumerate().rev().filter(|(_, bytes)| fits(bytes));
            let best = fitting.min_by_key(|(_, bytes)| bytes.len()).map(|(at, _)| at);
            best.and_then(|at| buffers.remove(at))
        };
        free.and_then(|bytes| bytes.try_into_mut().ok()).unwrap_or_else(|| {
            let mut fresh = BytesMut::zeroed(length.saturating_add(ALIGNMENT));
            fresh.advance(fresh.as_ptr().align_offset(ALIGNMENT).min(ALIGNMENT));
            fresh.truncate(length);
            fresh
        })
    }

    /// The first `length` bytes of a buffer that was taken and is full now; remembers it.
    ///
    /// # Panics
    /// If it has fewer.
    #[must_use]
    pub fn keep(&self, buffer: BytesMut, length: usize) -> Bytes {
        let whole = buffer.freeze();
        let bytes = whole.slice(..length);
        if length > 0 && whole.len() <= LARGEST {
            let mut buffers = self.lock();
            buffers.push_back(whole);
            while buffers.len() > self.most {
                // One that is held takes no more memory for being remembered, and would be missing when it is free.
                let free = buffers.iter().position(Bytes::is_unique);
                if free.is_none() && buffers.len() <= 2 * self.most {
                    break;
                }
                buffers.remove(free.unwrap_or(0));
            }
        }
        bytes
    }

    /// Gives back the memory of those that nobody holds.
    pub fn clear(&self) {
        self.lock().retain(|bytes| !bytes.is_unique());
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Bytes>> {
        self.handed_out.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full(buffers: &Buffers, length: usize) -> Bytes {
        buffers.keep(buffers.take(length), length)
    }

    #[test]
    fn a_buffer_comes_back_whole_when_its_bytes_were_let_go_for_what_is_not_much_smaller() {
        let buffers = Buffers::new(2);
        let first = full(&buffers, 100);
        let place = first.as_ptr();
        assert_eq!((first.len(), place.align_offset(ALIGNMENT)), (100, 0));
        assert_ne!(buffers.take(100).as_ptr(), place);
        drop(first);
        assert!(buffers.take(101).as_ptr() != place && buffers.take(49).as_ptr() != place);
        let smaller = full(&buffers, 60);
        assert_eq!((smaller.as_ptr(), smaller.len()), (place, 60));
        drop(smaller);
        assert_eq!(full(&buffers, 100).as_ptr(), place);
        assert!(full(&buffers, 0).is_empty());
        drop(full(&buffers, LARGEST + 1));
        assert!(buffers.lock().iter().all(|bytes| bytes.len() <= LARGEST));
    }

    #[test]
    fn no_more_are_remembered_than_was_said_and_only_those_that_are_held_after_it_was_cleared() {
        let buffers = Buffers::new(2);
        let mut held: Vec<Bytes> = (0..5).map(|_| full(&buffers, 10)).collect();
        let count = || buffers.lock().len();
        assert_eq!(count(), 4);
        held.truncate(3);
        held.push(full(&buffers, 20));
        assert_eq!(count(), 3);
        let last = held.pop();
        drop(held);
        buffers.clear();
        assert_eq!(count(), 1);
        drop(last);
        buffers.clear();
        assert_eq!(count(), 0);
    }
}
