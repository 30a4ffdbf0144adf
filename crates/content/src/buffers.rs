//! Memory for the bytes of chunks, taken up again once nobody holds what was in it: neither zeroed nor mapped anew.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use bytes::{Buf, Bytes, BytesMut};

/// Some processors copy to places that are not aligned at half the speed.
const ALIGNMENT: usize = 64;

/// The last buffers that were handed out.
#[derive(Debug)]
pub struct Buffers {
    most: usize,
    handed_out: Mutex<VecDeque<Bytes>>,
}

impl Buffers {
    /// Remembers at most so many buffers.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self { most, handed_out: Mutex::default() }
    }

    /// A buffer of `length` bytes, with anything in it.
    #[must_use]
    pub fn take(&self, length: usize) -> BytesMut {
        let free = {
            let mut buffers = self.handed_out.lock().unwrap_or_else(PoisonError::into_inner);
            let at = buffers.iter().position(|bytes| bytes.len() >= length && bytes.is_unique());
            at.and_then(|at| buffers.remove(at))
        };
        let free = free.and_then(|bytes| bytes.try_into_mut().ok());
        let mut buffer = free.unwrap_or_else(|| {
            let mut fresh = BytesMut::zeroed(length + ALIGNMENT);
            fresh.advance(fresh.as_ptr().align_offset(ALIGNMENT).min(ALIGNMENT));
            fresh
        });
        buffer.truncate(length);
        buffer
    }

    /// Remembers what was handed out, now that it is full.
    pub fn keep(&self, bytes: &Bytes) {
        let mut buffers = self.handed_out.lock().unwrap_or_else(PoisonError::into_inner);
        if buffers.len() >= self.most {
            buffers.pop_front();
        }
        buffers.push_back(bytes.clone());
    }

    /// Gives back the memory of those that nobody holds.
    pub fn clear(&self) {
        self.handed_out.lock().unwrap_or_else(PoisonError::into_inner).retain(|bytes| !bytes.is_unique());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_comes_back_only_when_its_bytes_were_let_go_and_is_aligned() {
        let buffers = Buffers::new(2);
        let first = buffers.take(100).freeze();
        let place = first.as_ptr();
        assert_eq!((first.len(), place.align_offset(ALIGNMENT)), (100, 0));
        buffers.keep(&first);
        assert_ne!(buffers.take(100).as_ptr(), place);
        drop(first);
        assert_ne!(buffers.take(101).as_ptr(), place, "it is too short");
        let again = buffers.take(90);
        assert_eq!((again.as_ptr(), again.len()), (place, 90));
    }

    #[test]
    fn no_more_are_remembered_than_was_said_and_none_that_is_free_after_it_was_cleared() {
        let buffers = Buffers::new(2);
        let held: Vec<Bytes> = (0..3).map(|_| buffers.take(10).freeze()).inspect(|bytes| buffers.keep(bytes)).collect();
        let count = || buffers.handed_out.lock().unwrap().len();
        assert_eq!(count(), 2);
        drop(held.into_iter().take(2));
        buffers.clear();
        assert_eq!(count(), 0);
    }
}
