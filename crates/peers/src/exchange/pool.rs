//! Buffers for pieces, taken up again once nobody holds what was in them: neither zeroed nor mapped anew.

use std::collections::VecDeque;
use std::sync::Mutex;

use bytes::{Bytes, BytesMut};

use crate::shared::lock;

/// The most buffers that wait for their piece to be let go, 1 MiB each at most.
const MOST_BUFFERS: usize = 8;

/// The last pieces handed out, of all links of a market.
#[derive(Debug, Default)]
pub(crate) struct Pool(Mutex<VecDeque<Bytes>>);

impl Pool {
    /// A buffer of `length` bytes, with anything in it.
    pub(super) fn take(&self, length: usize) -> BytesMut {
        let free = {
            let mut pieces = lock(&self.0);
            pieces.iter().position(Bytes::is_unique).and_then(|at| pieces.remove(at))
        };
        match free.map(Bytes::try_into_mut) {
            Some(Ok(mut buffer)) => {
                buffer.resize(length, 0);
                buffer
            }
            Some(Err(_)) | None => BytesMut::zeroed(length),
        }
    }

    /// Remembers what was handed out.
    pub(super) fn keep(&self, bytes: &Bytes) {
        let mut pieces = lock(&self.0);
        if pieces.len() == MOST_BUFFERS {
            pieces.pop_front();
        }
        pieces.push_back(bytes.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_comes_back_only_when_its_piece_was_let_go() {
        let pool = Pool::default();
        let first = pool.take(100).freeze();
        let place = first.as_ptr();
        pool.keep(&first);
        assert_ne!(pool.take(100).as_ptr(), place);
        drop(first);
        let again = pool.take(90);
        assert_eq!((again.as_ptr(), again.len()), (place, 90));
    }
}
