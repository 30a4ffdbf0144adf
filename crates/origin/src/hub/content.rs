//! Ranges of a hub's files: small ones from the hub, large ones from the CDN it redirects to.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use larder_content::{HubKind, HubResource, Locator, OriginFile, Secret};
use reqwest::Response;
use tokio::sync::Mutex as TaskMutex;
use url::Url;

use super::Hub;
use super::api::{MAX_REDIRECTS, location};
use crate::error::plain;
use crate::{Access, ByteStream, OriginError};

/// The most links kept: beyond it all are forgotten and asked for again.
const MAX_LINKS: usize = 1024;

/// Who sends the bytes of files. That one token was shown a link says nothing of another.
///
/// Signed links serve many ranges, and a hub counts each time it is asked for one.
#[derive(Debug, Default)]
pub(super) struct Links(Mutex<HashMap<Asked, Arc<Link>>>);

/// What the hub is asked for, and with which token.
type Asked = (Locator, Option<Secret>);

/// One of them; locked while nothing is known and the hub is asked, so that it is asked once.
#[derive(Debug, Default)]
struct Link(TaskMutex<Sender>);

/// Who sends a file's bytes, as the hub said last.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
enum Sender {
    /// It was not asked yet, or its link has failed.
    #[default]
    Unknown,
    /// The hub itself.
    Hub,
    /// Whoever is behind this link.
    Elsewhere(Url),
}

impl Links {
    fn slot(&self, locator: &Locator, token: Option<&Secret>) -> Arc<Link> {
        let mut links = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if links.len() >= MAX_LINKS {
            links.clear();
        }
        links.entry((locator.clone(), token.cloned())).or_default().clone()
    }
}

/// What the hub did with a request for content.
enum Resolved {
    /// It, or a path of its own that it redirected to, sends the bytes.
    Sent(Response),
    /// It redirected to another host.
    Elsewhere(Url),
}

impl Hub {
    pub(super) async fn read_range(
        &self,
        resource: &HubResource,
        file: &OriginFile,
        range: Range<u64>,
        access: Access,
    ) -> Result<ByteStream, OriginError> {
        let what = plain(&file.locator.to_string());
        let token = if access == Access::Credentials { self.token(resource)? } else { None };
        let header = crate::http::range_header(&range, file.size);
        if header.is_none() {
            // A file that is read at once needs its link only once.
            let answer = match self.resolve(resource, file, None, token).await? {
                Resolved::Sent(answer) => answer,
                Resolved::Elsewhere(link) => self.fetch_link(&what, &link, None).await?,
            };
            return crate::http::ranged_body(&what, answer, range, file.size);
        }
        let slot = self.links.slot(&file.locator, token);
        let mut known = slot.0.lock().await;
        let resolved = match known.clone() {
            Sender::Elsewhere(link) => Resolved::Elsewhere(link),
            Sender::Unknown => self.resolve(resource, file, header.as_deref(), token).await?,
            Sender::Hub => {
                // There is no link to wait for: ranges are asked for side by side.
                drop(known);
                let resolved = self.resolve(resource, file, header.as_deref(), token).await?;
                known = slot.0.lock().await;
                resolved
            }
        };
        let link = match resolved {
            Resolved::Sent(answer) => {
                *known = Sender::Hub;
                return crate::http::ranged_body(&what, answer, range, file.size);
            }
            Resolved::Elsewhere(link) => link,
        };
        *known = Sender::Elsewhere(link.clone());
        drop(known);
        let answer = self.fetch_link(&what, &link, header.as_deref()).await;
        if answer.is_err() {
            // The link may have expired: who asks again asks the hub. Unless someone has already.
            let mut known = slot.0.lock().await;
            if *known == Sender::Elsewhere(link) {
                *known = Sender::Unknown;
            }
        }
        crate::http::ranged_body(&what, answer?, range, file.size)
    }

    /// Asks the hub for content, and follows it as long as it redirects to itself.
    async fn resolve(
        &self,
        resource: &HubResource,
        file: &OriginFile,
        range: Option<&str>,
        token: Option<&Secret>,
    ) -> Result<Resolved, OriginError> {
        let what = plain(&file.locator.to_string());
        let kind = match resource.kind {
            HubKind::Model => None,
            HubKind::Dataset | HubKind::Space => Some(resource.kind.plural()),
        };
        let repo = kind.into_iter().chain(resource.repo.as_str().split('/'));
        let mut url = self.url(repo.chain(["resolve", &file.locator.version]).chain(file.path.segments()));
        for _ in 0..=MAX_REDIRECTS {
            let answer = self.with_token(self.request(&what, &url, range)?, &url, token).send().await;
            let answer = answer.map_err(|error| crate::http::unreachable(&what, error))?;
            check_version(&what, &answer, file)?;
            if answer.status().is_success() {
                return Ok(Resolved::Sent(answer));
            }
            if !answer.status().is_redirection() {
                return Err(super::answer::error(&what, &answer, token.is_some()));
            }
            url = location(&what, &url, &answer)?;
            if url.origin() != self.endpoint.origin() {
                return Ok(Resolved::Elsewhere(url));
            }
        }
        Err(OriginError::Invalid { what, why: "it redirects in circles".into() })
    }

    /// Asks another host, to which no token goes. It may redirect further, but not back and forth for ever.
    async fn fetch_link(&self, what: &str, link: &Url, range: Option<&str>) -> Result<Response, OriginError> {
        let mut url = link.clone();
        for _ in 0..=MAX_REDIRECTS {
            let answer = self.request(what, &url, range)?.send().await.map_err(|error| crate::http::unreachable(what, error))?;
            if answer.status().is_success() {
                return Ok(answer);
            }
            if answer.status().is_redirection() {
                url = location(what, &url, &answer)?;
                continue;
            }
            return Err(match answer.status() {
                // Links expire, and the CDN is known to refuse bursts: neither says anything of the file.
                http::StatusCode::FORBIDDEN | http::StatusCode::UNAUTHORIZED | http::StatusCode::NOT_FOUND | http::StatusCode::GONE => {
                    let why = format!("the link that the hub gave was answered with {}", answer.status());
                    OriginError::Unreachable { what: what.to_owned(), why, source: None }
                }
                _ => super::answer::error(what, &answer, false),
            });
        }
        Err(OriginError::Invalid { what: what.to_owned(), why: "it redirects in circles".into() })
    }

    fn request(&self, what: &str, url: &Url, range: Option<&str>) -> Result<reqwest::RequestBuilder, OriginError> {
        let request = self.client.request(what, http::Method::GET, url.clone())?.header(http::header::ACCEPT_ENCODING, "identity");
        Ok(match range {
            Some(range) => request.header(http::header::RANGE, range),
            None => request,
        })
    }
}

/// Whether what the hub says of a file on the way to its bytes is what was listed.
fn check_version(what: &str, answer: &Response, file: &OriginFile) -> Result<(), OriginError> {
    let header = |name: &str| answer.headers().get(name).and_then(|value| value.to_str().ok());
    if header("x-repo-commit").is_some_and(|commit| commit != file.locator.version) {
        return Err(OriginError::Changed { what: what.to_owned() });
    }
    let size = header("x-linked-size").and_then(|size| size.parse::<u64>().ok());
    if let Some(size) = size.filter(|size| *size != file.size) {
        let why = format!("it was listed with {} bytes and is offered with {size}", file.size);
        return Err(OriginError::Invalid { what: what.to_owned(), why });
    }
    Ok(())
}
