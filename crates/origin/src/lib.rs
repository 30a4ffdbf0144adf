//! Lists files with digests, and reads ranges of them.
//!
//! Two kinds of origin stand behind one trait: [`Hub`], a HuggingFace hub, and [`Bucket`], S3 and plain https folders.
//! Invariants: a stream that ends without an error held exactly the bytes asked for, of the very version that was
//! listed; a credential goes to the host it is for and to no other; no error holds a credential; what a job names is
//! asked for at public addresses only, unless the operator allows others ([`PrivateHosts`]).

mod bucket;
mod error;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod http;
mod hub;
mod private_hosts;
mod retry;
mod stream;

use std::future::Future;
use std::ops::Range;

use larder_content::{Manifest, OriginFile, Resource};

pub use bucket::{Bucket, BucketConfig};
pub use error::OriginError;
pub use hub::{Hub, HubConfig};
pub use private_hosts::PrivateHosts;
pub use stream::ByteStream;

/// Where resources of one kind live.
pub trait Origin {
    /// What a job asks for of this origin.
    type Resource: Sync;

    /// The resource's name in reports, before the network was asked: `hf:models/org/name@main`.
    ///
    /// # Errors
    /// [`OriginError::Refused`] if the resource cannot be read as written.
    fn address(&self, resource: &Self::Resource) -> Result<String, OriginError>;

    /// Whether there are credentials to read the resource with.
    fn has_credentials(&self, resource: &Self::Resource) -> bool;

    /// Lists the resource's files with sizes and digests.
    ///
    /// What `previous`, an earlier listing of the same resource, says of a version that has not changed is taken from
    /// there instead of being asked again. Passing faults are retried inside.
    ///
    /// # Errors
    /// Says whether it is missing, denied, gated, busy, unreachable, or nonsense.
    fn list(&self, resource: &Self::Resource, previous: Option<&Listing>) -> impl Future<Output = Result<Listing, OriginError>> + Send;

    /// Reads `range` of `file`, which [`Origin::list`] listed for `resource`. One try: who calls it decides on more.
    ///
    /// # Errors
    /// As for listing; also [`OriginError::Changed`] if the file is not the version that was listed, and
    /// [`OriginError::RangeIgnored`] if the origin serves whole files only. The stream may end with an error too.
    fn read(
        &self,
        resource: &Self::Resource,
        file: &OriginFile,
        range: Range<u64>,
        access: Access,
    ) -> impl Future<Output = Result<ByteStream, OriginError>> + Send;
}

/// How a read is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Access {
    /// Without any credential, even if there is one.
    Anonymous,
    /// With the resource's credentials.
    Credentials,
}

/// The files of a resource at the version the origin had when it was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    /// The resource's name in reports, with the commit if there is one: `hf:models/org/name@<commit>`.
    pub id: String,
    /// The files.
    pub manifest: Manifest,
    /// Whether the resource names a version that never changes, so that the origin need not be asked again.
    pub pinned: bool,
    /// Whether it could be listed only with credentials; such a listing is kept for those who have them.
    pub needed_credentials: bool,
}

/// Every kind of origin, each asked for the resources that are its own.
#[derive(Debug, Clone)]
pub struct Origins {
    hub: Hub,
    bucket: Bucket,
}

impl Origins {
    /// Both origins, with their configurations.
    ///
    /// # Errors
    /// [`OriginError::Refused`] if a configuration cannot be used.
    pub fn new(hub: HubConfig, bucket: BucketConfig) -> Result<Self, OriginError> {
        Ok(Self { hub: Hub::new(hub)?, bucket: Bucket::new(bucket)? })
    }

    /// As [`Origin::address`].
    ///
    /// # Errors
    /// As [`Origin::address`].
    pub fn address(&self, resource: &Resource) -> Result<String, OriginError> {
        match resource {
            Resource::Hub(resource) => self.hub.address(resource),
            Resource::Bucket(resource) => self.bucket.address(resource),
            Resource::Ollama(resource) => Ok(format!("ollama:{}", resource.model)),
        }
    }

    /// Which of several origins of its kind the resource is asked of, where its address does not say: the hub.
    #[must_use]
    pub fn endpoint(&self, resource: &Resource) -> &str {
        match resource {
            Resource::Hub(_) => self.hub.endpoint_text(),
            Resource::Bucket(_) | Resource::Ollama(_) => "",
        }
    }

    /// As [`Origin::has_credentials`].
    #[must_use]
    pub fn has_credentials(&self, resource: &Resource) -> bool {
        match resource {
            Resource::Hub(resource) => self.hub.has_credentials(resource),
            Resource::Bucket(resource) => self.bucket.has_credentials(resource),
            Resource::Ollama(_) => false,
        }
    }

    /// As [`Origin::list`].
    ///
    /// # Errors
    /// As [`Origin::list`]; [`OriginError::Refused`] for Ollama models.
    pub async fn list(&self, resource: &Resource, previous: Option<&Listing>) -> Result<Listing, OriginError> {
        match resource {
            Resource::Hub(resource) => self.hub.list(resource, previous).await,
            Resource::Bucket(resource) => self.bucket.list(resource, previous).await,
            Resource::Ollama(_) => Err(ollama_comes_later()),
        }
    }

    /// As [`Origin::read`].
    ///
    /// # Errors
    /// As [`Origin::read`]; [`OriginError::Refused`] for Ollama models.
    pub async fn read(&self, resource: &Resource, file: &OriginFile, range: Range<u64>, access: Access) -> Result<ByteStream, OriginError> {
        match resource {
            Resource::Hub(resource) => self.hub.read(resource, file, range, access).await,
            Resource::Bucket(resource) => self.bucket.read(resource, file, range, access).await,
            Resource::Ollama(_) => Err(ollama_comes_later()),
        }
    }
}

fn ollama_comes_later() -> OriginError {
    OriginError::Refused { what: "type".into(), why: "Ollama models cannot be fetched by this version of Larder".into() }
}
