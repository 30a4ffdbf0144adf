//! S3 buckets and plain https folders.
//!
//! Invariants: what is listed is whole or an error; a read gives bytes of the listed ETag or an error; keys go to the
//! bucket they are for and to no other.

mod address;
mod digest;
mod fault;
mod find;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod host;
mod list;
mod plain;
mod reach;
mod read;
mod sdk;
mod transport;
mod xml;

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use larder_content::{BucketResource, Manifest, OriginFile};
use url::Url;

use crate::private_hosts::NotPublic;
use crate::{Access, ByteStream, Listing, Origin, OriginError, PrivateHosts};
use address::Address;
use reach::{Reach, Shared};

/// How buckets are asked.
#[derive(Debug, Clone)]
pub struct BucketConfig {
    /// The most requests for metadata that are open at a time, over all buckets. Default 16. More list many objects of
    /// unknown digest sooner, and are refused sooner.
    pub metadata_requests: usize,
    /// How long one request for metadata may take, in all. Default 60 s.
    pub metadata_timeout: Duration,
    /// The longest wait that a busy server may ask for before listing gives up with [`OriginError::Busy`]. Default 10 s.
    pub longest_wait: Duration,
    /// How long a server may send nothing before a request is given up. Default 20 s.
    pub stall: Duration,
    /// Hosts that may be asked although their addresses are not public. Default: none.
    pub private_hosts: PrivateHosts,
}

impl Default for BucketConfig {
    fn default() -> Self {
        Self {
            metadata_requests: 16,
            metadata_timeout: Duration::from_secs(60),
            longest_wait: Duration::from_secs(10),
            stall: Duration::from_secs(20),
            private_hosts: PrivateHosts::default(),
        }
    }
}

/// S3 buckets and plain https folders, as one origin.
#[derive(Clone)]
pub struct Bucket {
    shared: Arc<Shared>,
}

impl Bucket {
    /// An origin that has asked nothing yet.
    ///
    /// # Errors
    /// [`OriginError::Refused`] if the configuration allows no request.
    pub fn new(config: BucketConfig) -> Result<Self, OriginError> {
        Ok(Self { shared: Arc::new(Shared::new(config)?) })
    }

    /// Where a resource lives, which is known to be a place that may be asked.
    fn locate(&self, resource: &BucketResource) -> Result<Address, OriginError> {
        let address = Address::parse(resource)?;
        if let Some(endpoint) = address.endpoint() {
            let refused = |why: String| OriginError::Refused { what: "url".into(), why };
            let endpoint = Url::parse(endpoint).map_err(|error| refused(error.to_string()))?;
            // The host may be the value of a setting.
            self.shared.config.private_hosts.check(&endpoint).map_err(|_| refused(NotPublic("its host".into()).to_string()))?;
        }
        Ok(address)
    }

    async fn list_at(&self, address: Address, resource: &BucketResource, previous: Option<&Listing>) -> Result<Listing, OriginError> {
        let id = address.to_string();
        // Whoever has keys lists with them: whether it could be listed without is not known.
        let needed_credentials = address.uses(resource.credentials.as_ref());
        let reach = Reach::new(self.shared.clone(), address, resource, Access::Credentials);
        let files = list::files(&reach, &resource.files, previous).await?;
        let manifest = Manifest::new(files).map_err(|error| OriginError::Invalid { what: id.clone(), why: error.to_string() })?;
        Ok(Listing { id, manifest, pinned: false, needed_credentials })
    }
}

impl Origin for Bucket {
    type Resource = BucketResource;

    fn address(&self, resource: &BucketResource) -> Result<String, OriginError> {
        Ok(self.locate(resource)?.to_string())
    }

    fn has_credentials(&self, resource: &BucketResource) -> bool {
        self.locate(resource).is_ok_and(|address| address.uses(resource.credentials.as_ref()))
    }

    async fn list(&self, resource: &BucketResource, previous: Option<&Listing>) -> Result<Listing, OriginError> {
        let address = self.locate(resource)?;
        let spaced = address.spaced();
        let first = match self.list_at(address, resource, previous).await {
            Err(error @ (OriginError::Missing { .. } | OriginError::Refused { .. })) => error,
            done => return done,
        };
        // A `+` in a URL may have been meant as a space.
        let Some(spaced) = spaced else { return Err(first) };
        self.list_at(spaced, resource, previous).await.map_err(|_| first)
    }

    async fn read(
        &self,
        resource: &BucketResource,
        file: &OriginFile,
        range: Range<u64>,
        access: Access,
    ) -> Result<ByteStream, OriginError> {
        let address = self.locate(resource)?;
        let reach = Reach::new(self.shared.clone(), address, resource, access);
        read::range(&reach, file, range).await
    }
}

impl fmt::Debug for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bucket").field("config", &self.shared.config).finish_non_exhaustive()
    }
}
