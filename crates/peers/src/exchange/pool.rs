//! Buffers for pieces, taken up again once nobody holds what was in them: neither zeroed nor mapped anew.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

use super::PIECE_BYTES;

/// The most buffers that wait for their piece to be let go, 1 MiB each.
const MOST_BUFFERS: usize = 8;

/// The last pieces handed out.
#[derive(Debug, Default)]
pub(super) struct Pool(VecDeque<Bytes>);

impl Pool {
    /// A buffer of `length` bytes, with anything in it.
    pub(super) fn take(&mut self, length: usize) -> BytesMut {
        let free = self.0.iter().position(Bytes::is_unique).and_then(|at| self.0.remove(at));
        match free.map(Bytes::try_into_mut) {
            Some(Ok(mut buffer)) => {
                buffer.resize(length, 0);
                buffer
            }
            Some(Err(_)) | None => {
                let mut buffer = BytesMut::zeroed(length.max(PIECE_BYTES));
                buffer.truncate(length);
                buffer
            }
        }
    }

    /// Remembers what was handed out.
    pub(super) fn keep(&mut self, bytes: &Bytes) {
        if self.0.len() == MOST_BUFFERS {
            self.0.pop_front();
        }
        self.0.push_back(bytes.clone());
    }

    /// Lets all memory go.
    pub(super) fn clear(&mut self) {
        self.0 = VecDeque::new();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_comes_back_only_when_its_piece_was_let_go() {
        let mut pool = Pool::default();
        let first = pool.take(100).freeze();
        let place = first.as_ptr();
        pool.keep(&first);
        assert_ne!(pool.take(100).as_ptr(), place);
        drop(first);
        let again = pool.take(PIECE_BYTES);
        assert_eq!((again.as_ptr(), again.len()), (place, PIECE_BYTES));
    }
}
