//! A HuggingFace hub: listings from its API, bytes from its resolve paths and the CDN behind them.
//!
//! The bytes come through plain HTTP and not through the `hf-hub` crate's downloader, which stores error pages as files
//! and checks no digest; that crate gives the token's place by convention ([`HubConfig::stored_token`]).
//!
//! Invariant: the token goes to the hub's own scheme, host and port, and nowhere else.

mod answer;
mod api;
mod content;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod page;
mod stored_token;

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use larder_content::{HubResource, Manifest, OriginFile, Secret};
use url::Url;

use crate::error::plain;
use crate::http::{Client, is_loopback};
use crate::{Access, ByteStream, Listing, Origin, OriginError, PrivateHosts};
use content::Links;

/// The longest name of a revision, in bytes: what a hub can store as the name of one.
const MAX_REVISION_BYTES: usize = 255;

/// Which hub, and with what token.
#[derive(Debug, Clone)]
pub struct HubConfig {
    /// Scheme, host, port and path of the hub. Default: `https://huggingface.co`.
    pub endpoint: String,
    /// The token for resources that bring none of their own. Default: none.
    pub token: Option<Secret>,
    /// How long it may send nothing before a request is given up. Default: 20 s.
    pub stall: Duration,
    /// Hosts beside the endpoint's own that it may lead to although their addresses are not public. Default: none.
    pub private_hosts: PrivateHosts,
}

impl Default for HubConfig {
    fn default() -> Self {
        Self {
            endpoint: "https://huggingface.co".into(),
            token: None,
            stall: Duration::from_secs(20),
            private_hosts: PrivateHosts::default(),
        }
    }
}

/// A HuggingFace hub.
#[derive(Debug, Clone)]
pub struct Hub {
    client: Client,
    endpoint: Url,
    token: Option<Secret>,
    links: Arc<Links>,
    limits: Limits,
}

/// How much a hub may list: one that lists without end is no hub.
#[derive(Debug, Clone, Copy)]
struct Limits {
    pages: usize,
    files: usize,
}

impl Hub {
    /// A hub at the configured endpoint.
    ///
    /// # Errors
    /// [`OriginError::Refused`] if the endpoint is no http or https URL, or would carry the token in the clear.
    pub fn new(config: HubConfig) -> Result<Self, OriginError> {
        // What stands before an '@' or behind a '?' may be a secret.
        let shown = config.endpoint.rsplit('@').next().unwrap_or_default().split('?').next().unwrap_or_default();
        let refused = |why: &str| OriginError::Refused { what: format!("the hub endpoint {shown:?}"), why: why.into() };
        let endpoint = Url::parse(&config.endpoint).map_err(|error| refused(&error.to_string()))?;
        if !matches!(endpoint.scheme(), "http" | "https") || endpoint.host_str().is_none() {
            return Err(refused("it is written https://HOST"));
        }
        if !endpoint.username().is_empty() || endpoint.password().is_some() || endpoint.query().is_some() {
            return Err(refused("it may hold no user, password or query"));
        }
        let private_hosts = config.private_hosts.with_host_of(endpoint.as_str());
        let limits = Limits { pages: page::MAX_PAGES, files: larder_content::MAX_FILES };
        Ok(Self { client: Client::new(config.stall, private_hosts)?, endpoint, token: config.token, links: Arc::default(), limits })
    }

    /// The token that there is for `resource`; one of nothing but spaces is none.
    fn given_token<'a>(&'a self, resource: &'a HubResource) -> Option<&'a Secret> {
        let is_given = |token: &&Secret| !token.expose().trim().is_empty();
        resource.token.as_ref().filter(is_given).or(self.token.as_ref().filter(is_given))
    }

    /// The token that `resource` is read with, where credentials are used at all.
    ///
    /// # Errors
    /// [`OriginError::Refused`] if it would travel in the clear.
    fn token<'a>(&'a self, resource: &'a HubResource) -> Result<Option<&'a Secret>, OriginError> {
        let token = self.given_token(resource);
        if token.is_some() && self.endpoint.scheme() == "http" && !is_loopback(&self.endpoint) {
            let why = "a token would travel to it in the clear: use https".into();
            return Err(OriginError::Refused { what: format!("the hub endpoint {}", self.endpoint), why });
        }
        Ok(token)
    }

    /// The scheme, host, port and path, without a slash at the end.
    pub(crate) fn endpoint_text(&self) -> &str {
        self.endpoint.as_str().trim_end_matches('/')
    }

    /// A URL below the endpoint, each segment percent-encoded.
    fn url<'a>(&self, segments: impl IntoIterator<Item = &'a str>) -> Url {
        let mut url = self.endpoint.clone();
        // An http URL always has segments.
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(segments);
        }
        url
    }
}

impl Origin for Hub {
    type Resource = HubResource;

    fn address(&self, resource: &HubResource) -> Result<String, OriginError> {
        Ok(Self::name(resource, revision(resource)?))
    }

    fn has_credentials(&self, resource: &HubResource) -> bool {
        self.given_token(resource).is_some()
    }

    async fn list(&self, resource: &HubResource, previous: Option<&Listing>) -> Result<Listing, OriginError> {
        let revision = revision(resource)?;
        let pinned = is_commit(revision);
        let (commit, access) = if pinned { (revision.to_owned(), Access::Anonymous) } else { self.commit(resource, revision).await? };
        let id = Self::name(resource, &commit);
        // What only credentials could list is for those that showed theirs just now.
        let may_have = |previous: &&Listing| !previous.needed_credentials || access == Access::Credentials;
        if let Some(previous) = previous.filter(|previous| previous.id == id).filter(may_have) {
            return Ok(Listing { pinned, needed_credentials: access == Access::Credentials, ..previous.clone() });
        }
        let (files, access) = if resource.files.is_empty() {
            self.tree(resource, &commit, access).await?
        } else {
            self.paths_info(resource, &commit, access).await?
        };
        let invalid = |error: larder_content::ManifestError| OriginError::Invalid { what: id.clone(), why: plain(&error.to_string()) };
        let manifest = Manifest::new(files).map_err(invalid)?;
        let missing = |error: larder_content::ManifestError| OriginError::Missing { what: id.clone(), why: plain(&error.to_string()) };
        let manifest = manifest.subset(&resource.files).map_err(missing)?;
        Ok(Listing { id, manifest, pinned, needed_credentials: access == Access::Credentials })
    }

    async fn read(&self, resource: &HubResource, file: &OriginFile, range: Range<u64>, access: Access) -> Result<ByteStream, OriginError> {
        self.read_range(resource, file, range, access).await
    }
}

impl Hub {
    fn name(resource: &HubResource, revision: &str) -> String {
        format!("hf:{}/{}@{revision}", resource.kind.plural(), resource.repo)
    }
}

/// Whether a revision is a whole commit id, which never means anything else later.
fn is_commit(revision: &str) -> bool {
    revision.len() == 40 && revision.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// The revision that is asked for: what a hub could have, so that errors can show it. What is refused is not shown.
fn revision(resource: &HubResource) -> Result<&str, OriginError> {
    let revision = resource.revision.as_deref().unwrap_or("main");
    let fits = revision.len() <= MAX_REVISION_BYTES && !revision.chars().any(char::is_control) && !matches!(revision, "" | "." | "..");
    if fits {
        return Ok(revision);
    }
    let why = format!("write a branch, tag or commit, of at most {MAX_REVISION_BYTES} bytes");
    Err(OriginError::Refused { what: "revision".into(), why })
}

#[cfg(test)]
mod tests {
    use super::*;
    use larder_content::{HubKind, RepoId};

    fn hub(endpoint: &str) -> Result<Hub, OriginError> {
        Hub::new(HubConfig { endpoint: endpoint.into(), token: Some(Secret::new("hf_secret")), ..HubConfig::default() })
    }

    fn resource() -> HubResource {
        HubResource { kind: HubKind::Model, repo: RepoId::new("org/name").unwrap(), revision: None, files: vec![], token: None }
    }

    #[test]
    fn segments_are_encoded_so_that_none_can_become_two() {
        let url = hub("https://hub/base/").unwrap().url(["a", "refs/pr/1", "b c#?%.bin"]);
        assert_eq!(url.as_str(), "https://hub/base/a/refs%2Fpr%2F1/b%20c%23%3F%25.bin");
    }

    #[test]
    fn a_token_never_travels_in_the_clear() {
        assert!(hub("http://10.0.0.1").unwrap().token(&resource()).is_err());
        assert!(hub("http://127.0.0.1:8080").unwrap().token(&resource()).unwrap().is_some());
        assert!(hub("https://hub").unwrap().token(&resource()).unwrap().is_some());
    }

    #[test]
    fn an_endpoint_that_is_no_web_address_is_refused() {
        for bad in ["", "hub", "ftp://hub", "https://user:pass@hub", "file:///x"] {
            assert!(hub(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn only_a_whole_commit_id_is_pinned() {
        assert!(is_commit(&"a1".repeat(20)));
        assert!(!is_commit("main") && !is_commit(&"a1".repeat(19)) && !is_commit(&"G1".repeat(20)));
    }

    #[test]
    fn a_token_of_nothing_but_spaces_is_none() {
        let without = |token: &str| {
            let config = HubConfig { token: Some(Secret::new(token)), ..HubConfig::default() };
            Hub::new(config).unwrap().has_credentials(&HubResource { token: Some(Secret::new(" ")), ..resource() })
        };
        assert!(!without("") && !without(" \n") && without("hf_secret"));
    }

    #[test]
    fn a_revision_that_no_hub_has_is_refused() {
        let of = |revision: &str| HubResource { revision: Some(revision.into()), ..resource() };
        let hub = hub("https://hub").unwrap();
        for bad in ["", "..", "a\u{1b}[2J", &"x".repeat(256)] {
            let refusal = hub.address(&of(bad)).unwrap_err();
            assert!(matches!(&refusal, OriginError::Refused { .. }) && refusal.to_string().len() < 400, "{refusal}");
            assert!(!refusal.to_string().contains('\u{1b}'));
        }
        assert_eq!(hub.address(&of("refs/pr/1")).unwrap(), "hf:models/org/name@refs/pr/1");
    }
}
