//! One resource's bucket, with what is needed to ask it: the right region, keys or none, and patience.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};

use larder_content::{BucketResource, Locator, Secret};
use tokio::sync::Semaphore;

use super::BucketConfig;
use super::address::{Address, DEFAULT_REGION, Place, keys};
use super::fault::Fault;
use super::host::is_region;
use super::plain::Folder;
use super::sdk::{Endpoint, Sdk};
use super::transport::{Body, Facts, Page, PageAsk, ReadAsk, Transport};
use crate::retry::retried;
use crate::{Access, OriginError};

/// The most regions that are remembered.
const MAX_REGIONS: usize = 1024;

/// What all resources share.
pub(super) struct Shared {
    pub(super) config: BucketConfig,
    sdk: Sdk,
    client: crate::http::Client,
    /// Where buckets were found to be, by endpoint and bucket.
    regions: Mutex<HashMap<Locator, String>>,
    /// A permit for each request for metadata.
    gate: Semaphore,
}

impl Shared {
    /// # Errors
    /// [`OriginError::Refused`] if the configuration allows no request.
    pub(super) fn new(config: BucketConfig) -> Result<Self, OriginError> {
        if config.metadata_requests == 0 {
            return Err(OriginError::Refused { what: "metadata_requests = 0".into(), why: "it must be at least 1".into() });
        }
        let gate = Semaphore::new(config.metadata_requests);
        let sdk = Sdk::new(config.stall, config.private_hosts.clone());
        let client = crate::http::Client::new(config.stall, config.private_hosts.clone())?;
        Ok(Self { config, sdk, client, regions: Mutex::default(), gate })
    }
}

/// A resource's bucket, asked with or without its credentials.
#[derive(Clone)]
pub(super) struct Reach {
    shared: Arc<Shared>,
    pub(super) address: Arc<Address>,
    /// Whether credentials go along: keys, or the URL's own signature.
    pub(super) signed: bool,
    keys: Option<(Secret, Secret)>,
}

impl Reach {
    pub(super) fn new(shared: Arc<Shared>, address: Address, resource: &BucketResource, access: Access) -> Self {
        let signed = access == Access::Credentials && address.uses(resource.credentials.as_ref());
        let keys = keys(resource.credentials.as_ref()).filter(|_| signed).cloned();
        Self { shared, address: Arc::new(address), signed, keys }
    }

    /// How many requests for metadata are worth starting.
    pub(super) fn width(&self) -> usize {
        self.shared.config.metadata_requests
    }

    /// Whether parts can be asked for: a signature is for the whole object.
    pub(super) fn can_ask_parts(&self) -> bool {
        !matches!(self.address.place, Place::Signed { .. })
    }

    /// One page of a listing.
    pub(super) async fn page(&self, ask: &PageAsk) -> Result<Page, Fault> {
        let what = self.address.name(&ask.prefix);
        self.metadata(&what, |transport| {
            let what = &what;
            async move { transport.page(what, ask).await }
        })
        .await
    }

    /// The facts of an object, or of one of its parts.
    pub(super) async fn head(&self, key: &str, part: Option<u32>) -> Result<Facts, Fault> {
        let what = &self.address.name(key);
        let head = |transport: Transport| async move { transport.head(what, key, part).await };
        let fault = match self.metadata(what, head).await {
            Err(fault)
                if self.signed && fault.answer().is_some_and(|answer| matches!(answer.status, 400 | 403) && answer.code.is_none()) =>
            {
                fault
            }
            done => return done,
        };
        // The answer to a HEAD cannot say what is wrong: the answer to another request can.
        let probe = PageAsk { prefix: self.address.folder(), most: Some(1), ..PageAsk::default() };
        let region = self.region();
        match self.page(&probe).await {
            Err(Fault::Answer(answer)) if answer.keys_are_wrong() || answer.bucket_is_missing() => Err(Fault::Answer(answer)),
            _ if self.region() != region => self.metadata(what, head).await,
            _ => Err(fault),
        }
    }

    /// The bytes of a range. One try, but for the region.
    pub(super) async fn get(&self, ask: &ReadAsk) -> Result<Body, Fault> {
        match self.transport().get(ask).await {
            Err(fault) if self.learn_region(&fault) => self.transport().get(ask).await,
            done => done,
        }
    }

    /// Asks until there is an answer that stands.
    async fn metadata<T, F>(&self, what: &str, request: impl Fn(Transport) -> F) -> Result<T, Fault>
    where
        F: Future<Output = Result<T, Fault>>,
    {
        let config = &self.shared.config;
        let once = || async {
            let _permit = self.shared.gate.acquire().await;
            tokio::time::timeout(config.metadata_timeout, request(self.transport())).await.unwrap_or_else(|_| {
                let why = format!("no answer within {} s", config.metadata_timeout.as_secs());
                Err(Fault::Error(OriginError::Unreachable { what: what.to_owned(), why, source: None }))
            })
        };
        // What can pass is an error to the loop; what stands is an answer to it.
        let answer = retried(|| async {
            let answer = match once().await {
                Err(fault) if self.learn_region(&fault) => once().await,
                done => done,
            };
            match answer {
                Err(fault) if fault.passes_within(config.longest_wait) => Err(fault.into_error(what, self.signed)),
                stands => Ok(stands),
            }
        });
        answer.await.unwrap_or_else(|error| Err(Fault::Error(error)))
    }

    fn transport(&self) -> Transport {
        let region = self.region();
        let bucket = |url: Option<&String>, path_style, bucket: &str| {
            let endpoint = Endpoint { url: url.cloned(), path_style, region, keys: self.keys.clone() };
            Transport::Sdk(self.shared.sdk.bucket(&endpoint, bucket))
        };
        let folder = |endpoint: &str, query| Transport::Plain(Folder::new(self.shared.client.clone(), endpoint.to_owned(), query));
        match &self.address.place {
            Place::Aws { bucket: name, .. } => bucket(None, false, name),
            Place::Path { endpoint, bucket: name, .. } => bucket(Some(endpoint), true, name),
            Place::Virtual { endpoint, bucket: name, .. } => bucket(Some(endpoint), false, name),
            Place::Host { endpoint } => folder(endpoint, None),
            Place::Signed { endpoint, query } => folder(endpoint, Some(query.clone()).filter(|_| self.signed)),
        }
    }

    fn region(&self) -> String {
        let found = self.shared.regions.lock().unwrap_or_else(PoisonError::into_inner).get(&self.address.locator("", "")).cloned();
        found.unwrap_or_else(|| match &self.address.place {
            Place::Aws { region, .. } => region.clone().unwrap_or_else(|| DEFAULT_REGION.into()),
            Place::Path { region, .. } | Place::Virtual { region, .. } => region.clone(),
            Place::Host { .. } | Place::Signed { .. } => String::new(),
        })
    }

    /// Remembers the region that a refusal names; tells whether asking again makes sense.
    fn learn_region(&self, fault: &Fault) -> bool {
        let by_region = matches!(self.address.place, Place::Aws { .. } | Place::Path { .. } | Place::Virtual { .. });
        let refused = fault.answer().filter(|answer| by_region && matches!(answer.status, 301 | 307 | 400 | 403));
        let is_aws = matches!(self.address.place, Place::Aws { .. });
        let named = refused.and_then(|answer| answer.region.clone()).filter(|region| *region != self.region());
        let Some(named) = named.filter(|region| !is_aws || is_region(region)) else { return false };
        tracing::debug!(bucket = %self.address, region = named, "the bucket is in another region");
        let mut regions = self.shared.regions.lock().unwrap_or_else(PoisonError::into_inner);
        if regions.len() >= MAX_REGIONS {
            regions.clear();
        }
        regions.insert(self.address.locator("", ""), named);
        true
    }
}
