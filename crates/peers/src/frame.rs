//! Frames on a stream: a length of four bytes, little end first, then a record.

use std::io;

use futures::{AsyncRead, AsyncReadExt};
use larder_content::codec::{self, CodecError, Record};

/// Why a stream cannot go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FrameError {
    /// The stream ended or broke: nobody's fault.
    #[error("the stream ended: {0}")]
    Ended(#[from] io::Error),
    /// The peer takes what it asked for too slowly, or not at all: no breach, but nothing to go on with.
    #[error("the peer does not take what it asked for")]
    Stalled,
    /// What came is no frame: the sender's fault.
    #[error("a frame of {0} bytes")]
    TooLong(usize),
    /// What came is no record: the sender's fault.
    #[error("a malformed frame: {0}")]
    Malformed(#[from] CodecError),
    /// What came has no place there: the sender's fault.
    #[error("{0}")]
    Unexpected(&'static str),
}

impl FrameError {
    /// Whether the sender is at fault.
    pub(crate) fn is_offence(&self) -> bool {
        match self {
            Self::Ended(_) | Self::Stalled => false,
            Self::TooLong(_) | Self::Malformed(_) | Self::Unexpected(_) => true,
        }
    }
}

/// Reads a frame; also gives its length on the wire.
pub(crate) async fn read<R: Record>(stream: &mut (impl AsyncRead + Unpin)) -> Result<(R, usize), FrameError> {
    let mut length = [0; 4];
    stream.read_exact(&mut length).await?;
    let length = u32::from_le_bytes(length) as usize;
    if length > R::LIMIT_BYTES {
        return Err(FrameError::TooLong(length));
    }
    let mut bytes = vec![0; length];
    stream.read_exact(&mut bytes).await?;
    Ok((codec::decode(&bytes)?, length + 4))
}

/// The bytes of a frame.
pub(crate) fn encode<R: Record>(record: &R) -> Result<Vec<u8>, CodecError> {
    let body = codec::encode(record)?;
    let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
    Ok([&length.to_le_bytes()[..], &body[..]].concat())
}
