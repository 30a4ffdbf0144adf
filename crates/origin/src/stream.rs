//! The bytes of one range, held to their length.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::Stream;

use crate::OriginError;

/// The bytes of the range asked for: it ends without an error only after exactly that many.
///
/// Dropping it ends the request.
pub struct ByteStream {
    what: String,
    left: u64,
    inner: Pin<Box<dyn Stream<Item = Result<Bytes, OriginError>> + Send>>,
}

impl ByteStream {
    /// Holds `inner` to `len` bytes; `what` names the file in errors.
    ///
    /// A body that is shorter ends in [`OriginError::Unreachable`]. What comes after `len` bytes is not read: servers that
    /// ignore `Range` send more.
    pub(crate) fn new(what: String, len: u64, inner: impl Stream<Item = Result<Bytes, OriginError>> + Send + 'static) -> Self {
        Self { what, left: len, inner: Box::pin(inner) }
    }
}

impl Stream for ByteStream {
    type Item = Result<Bytes, OriginError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if self.left == 0 {
                return Poll::Ready(None);
            }
            match std::task::ready!(self.inner.as_mut().poll_next(context)) {
                Some(Ok(mut bytes)) => {
                    bytes.truncate(usize::try_from(self.left).unwrap_or(usize::MAX));
                    self.left -= bytes.len() as u64;
                    if !bytes.is_empty() {
                        return Poll::Ready(Some(Ok(bytes)));
                    }
                }
                Some(Err(error)) => {
                    self.left = 0;
                    return Poll::Ready(Some(Err(error)));
                }
                None => {
                    let why = format!("the body ended {} bytes early", self.left);
                    self.left = 0;
                    return Poll::Ready(Some(Err(OriginError::Unreachable { what: self.what.clone(), why, source: None })));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::{StreamExt, executor::block_on, stream};

    fn run(len: u64, parts: &[&'static str]) -> Result<Vec<u8>, String> {
        let parts: Vec<_> = parts.iter().map(|part| Ok(Bytes::from_static(part.as_bytes()))).collect();
        let mut stream = ByteStream::new("f".into(), len, stream::iter(parts));
        block_on(async {
            let mut out = Vec::new();
            while let Some(part) = stream.next().await {
                out.extend_from_slice(&part.map_err(|error| error.to_string())?);
            }
            Ok(out)
        })
    }

    #[test]
    fn gives_exactly_the_bytes_asked_for() {
        assert_eq!(run(5, &["ab", "cde"]), Ok(b"abcde".to_vec()));
        assert_eq!(run(4, &["ab", "cdefg"]), Ok(b"abcd".to_vec()));
    }

    #[test]
    fn a_short_body_is_an_error() {
        assert!(run(6, &["ab", "cde"]).unwrap_err().contains("ended 1 bytes early"));
    }
}
