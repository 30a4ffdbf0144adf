//! The three requests a bucket is asked, over either of the two ways to ask them.

use std::ops::Range;

use bytes::Bytes;
use futures::stream::BoxStream;
use larder_content::Algorithm;

use super::fault::Fault;
use super::{plain, sdk};
use crate::OriginError;

/// A way to one bucket.
#[derive(Clone)]
pub(super) enum Transport {
    /// The S3 protocol, signed or not.
    Sdk(sdk::BucketClient),
    /// Plain https.
    Plain(plain::Folder),
}

/// One page of a listing.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Page {
    /// What it lists.
    pub(super) objects: Vec<Listed>,
    /// What to ask the next page with.
    pub(super) next: Option<String>,
    /// Whether there is more, but the server does not say how to ask for it.
    pub(super) cut: bool,
}

/// An object as a listing has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Listed {
    pub(super) key: String,
    pub(super) size: u64,
    /// As sent: quoted or not.
    pub(super) etag: Option<String>,
}

/// Which page of a listing is wanted.
#[derive(Debug, Clone, Default)]
pub(super) struct PageAsk {
    /// What keys begin with.
    pub(super) prefix: String,
    /// The `next` of the page before.
    pub(super) token: Option<String>,
    /// Whether keys are to come in the encoding of URLs, which can hold any key.
    pub(super) encoded: bool,
    /// The most keys wanted; the server's own limit if `None`.
    pub(super) most: Option<u16>,
}

/// What a HEAD tells of an object, or of one part of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Facts {
    /// Bytes of the object or part.
    pub(super) size: u64,
    /// As sent: quoted or not.
    pub(super) etag: Option<String>,
    /// Whether it is encrypted in a way that makes its ETag no MD5.
    pub(super) sealed: bool,
    /// The `x-amz-checksum-…` values, as sent.
    pub(super) checksums: Vec<(Algorithm, String)>,
    /// Whether they are of the parts' checksums, where the server says so.
    pub(super) composite: Option<bool>,
    /// The MD5 of the whole that the uploader noted.
    pub(super) noted_md5: Option<Vec<u8>>,
    /// The number of parts, where the server says so.
    pub(super) parts: Option<u32>,
}

/// The answer to a read.
pub(super) struct Body {
    /// As sent: quoted or not.
    pub(super) etag: Option<String>,
    /// `Content-Range`, as sent.
    pub(super) content_range: Option<String>,
    /// The bytes that follow, where the server says so.
    pub(super) content_length: Option<u64>,
    /// The bytes.
    pub(super) stream: BoxStream<'static, Result<Bytes, OriginError>>,
}

/// Which bytes of which object are wanted. `what` names it in errors.
#[derive(Debug, Clone)]
pub(super) struct ReadAsk {
    pub(super) what: String,
    pub(super) key: String,
    pub(super) range: Range<u64>,
    /// The ETag it must have, unquoted, where it has a strong one.
    pub(super) if_match: Option<String>,
}

impl Transport {
    /// One page of a listing.
    pub(super) async fn page(&self, what: &str, ask: &PageAsk) -> Result<Page, Fault> {
        match self {
            Self::Sdk(client) => client.page(what, ask).await,
            Self::Plain(folder) => folder.page(what, ask).await,
        }
    }

    /// The facts of an object, or of one of its parts.
    pub(super) async fn head(&self, what: &str, key: &str, part: Option<u32>) -> Result<Facts, Fault> {
        match self {
            Self::Sdk(client) => client.head(what, key, part).await,
            Self::Plain(folder) => folder.head(what, key, part).await,
        }
    }

    /// The bytes of a range.
    pub(super) async fn get(&self, ask: &ReadAsk) -> Result<Body, Fault> {
        match self {
            Self::Sdk(client) => client.get(ask).await,
            Self::Plain(folder) => folder.get(ask).await,
        }
    }
}
