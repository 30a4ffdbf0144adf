//! Buckets and folders by plain https: the host is the bucket, or knows nothing of buckets.
//!
//! Plain requests, and not the SDK's, because those carry a query that keeps caches from answering.

use futures::StreamExt;
use http::header::{CONTENT_LENGTH, CONTENT_RANGE, ETAG, IF_MATCH, LOCATION, RANGE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use larder_content::{Algorithm, Secret};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::Response;
use url::Url;

use super::address::encoded;
use super::fault::{Answer, Fault};
use super::transport::{Body, Facts, Page, PageAsk, ReadAsk};
use super::{digest, xml};

/// The most redirects that one request follows.
const MAX_REDIRECTS: usize = 5;
/// The most bytes of an error that are read to find its code.
const MAX_ERROR_BYTES: usize = 64 * 1024;

/// A host, seen as a folder of objects.
#[derive(Clone)]
pub(super) struct Folder {
    client: crate::http::Client,
    endpoint: String,
    query: Option<Secret>,
}

impl Folder {
    /// The folder at the root of `endpoint`; `query` is a signature that goes with each request.
    pub(super) fn new(client: crate::http::Client, endpoint: String, query: Option<Secret>) -> Self {
        Self { client, endpoint, query }
    }

    /// As [`super::transport::Transport::page`].
    pub(super) async fn page(&self, what: &str, ask: &PageAsk) -> Result<Page, Fault> {
        let value = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
        let mut query = format!("list-type=2&prefix={}", value(&ask.prefix));
        if let Some(token) = &ask.token {
            query += &format!("&continuation-token={}", value(token));
        }
        if let Some(most) = ask.most {
            query += &format!("&max-keys={most}");
        }
        if ask.encoded {
            query += "&encoding-type=url";
        }
        let response = self.send(what, Method::GET, "", Some(&query), HeaderMap::new()).await?;
        let text = read(what, response, xml::MAX_BYTES).await?;
        xml::listing(&String::from_utf8_lossy(&text)).ok_or(Fault::NotS3)
    }

    /// As [`super::transport::Transport::head`]. Servers that answer no HEAD, or not with a size, are asked for one byte.
    pub(super) async fn head(&self, what: &str, key: &str, part: Option<u32>) -> Result<Facts, Fault> {
        if self.query.is_some() {
            // The signature is for GET, and for these very parameters.
            return self.first_byte(what, key).await;
        }
        let headers = HeaderMap::from_iter([(HeaderName::from_static("x-amz-checksum-mode"), HeaderValue::from_static("ENABLED"))]);
        let query = part.map(|part| format!("partNumber={part}"));
        match self.send(what, Method::HEAD, &encoded(key), query.as_deref(), headers).await {
            Ok(response) => match number(response.headers(), &CONTENT_LENGTH) {
                Some(size) => Ok(facts(response.headers(), size)),
                None => self.first_byte(what, key).await,
            },
            Err(Fault::Answer(Answer { status: 405 | 501, .. })) => self.first_byte(what, key).await,
            Err(fault) => Err(fault),
        }
    }

    /// The facts as the answer to a request for the first byte tells them.
    async fn first_byte(&self, what: &str, key: &str) -> Result<Facts, Fault> {
        let headers = HeaderMap::from_iter([(RANGE, HeaderValue::from_static("bytes=0-0"))]);
        let response = self.follow(what, Method::GET, &encoded(key), None, headers).await?;
        let headers = response.headers();
        let total = text(headers, &CONTENT_RANGE).and_then(|range| range.rsplit_once('/')?.1.parse().ok());
        let size = match response.status() {
            StatusCode::OK => total.or_else(|| number(headers, &CONTENT_LENGTH)),
            StatusCode::PARTIAL_CONTENT => total,
            // An empty object has no first byte.
            StatusCode::RANGE_NOT_SATISFIABLE => total.filter(|total| *total == 0),
            _ => return Err(refusal(what, response).await),
        };
        let size = size.ok_or_else(|| Fault::invalid(what, "it does not tell the object's size"))?;
        Ok(facts(headers, size))
    }

    /// As [`super::transport::Transport::get`].
    pub(super) async fn get(&self, ask: &ReadAsk) -> Result<Body, Fault> {
        let mut headers = HeaderMap::new();
        let range = format!("bytes={}-{}", ask.range.start, ask.range.end.saturating_sub(1));
        headers.extend(HeaderValue::try_from(range).map(|range| (RANGE, range)));
        headers.extend(ask.if_match.as_ref().and_then(|etag| Some((IF_MATCH, HeaderValue::try_from(format!("\"{etag}\"")).ok()?))));
        let response = self.send(&ask.what, Method::GET, &encoded(&ask.key), None, headers).await?;
        let headers = response.headers();
        let content_range = text(headers, &CONTENT_RANGE).map(str::to_owned);
        if response.status() == StatusCode::PARTIAL_CONTENT && content_range.is_none() {
            return Err(Fault::invalid(&ask.what, "a partial answer without Content-Range"));
        }
        let (etag, content_length) = (text(headers, &ETAG).map(str::to_owned), number(headers, &CONTENT_LENGTH));
        let stream = crate::http::body(ask.what.clone(), response).boxed();
        Ok(Body { etag, content_range, content_length, stream })
    }

    /// Makes a request; only 200 and 206 are success.
    async fn send(&self, what: &str, method: Method, path: &str, query: Option<&str>, headers: HeaderMap) -> Result<Response, Fault> {
        let response = self.follow(what, method, path, query, headers).await?;
        match response.status() {
            StatusCode::OK | StatusCode::PARTIAL_CONTENT => Ok(response),
            _ => Err(refusal(what, response).await),
        }
    }

    /// Makes a request, and follows redirects as long as they stay on the host.
    async fn follow(&self, what: &str, method: Method, path: &str, query: Option<&str>, headers: HeaderMap) -> Result<Response, Fault> {
        let mut url = Url::parse(&format!("{}/{path}", self.endpoint)).map_err(|error| Fault::invalid(what, error.to_string()))?;
        url.set_query(query.or(self.query.as_ref().map(Secret::expose)));
        for _ in 0..=MAX_REDIRECTS {
            let request = self.client.request(what, method.clone(), url.clone()).map_err(Fault::Error)?;
            let response =
                request.headers(headers.clone()).send().await.map_err(|error| Fault::Error(crate::http::unreachable(what, error)))?;
            let status = response.status();
            if !matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308) {
                return Ok(response);
            }
            let next = text(response.headers(), &LOCATION).and_then(|location| url.join(location).ok());
            let next = next.ok_or_else(|| Fault::invalid(what, format!("it answered {status} without saying where to")))?;
            if !same_host(&url, &next) {
                return Err(Fault::Elsewhere(next.origin().ascii_serialization()));
            }
            if next.path().strip_suffix('/') == Some(url.path()) {
                // What is a folder to the server is no object.
                return Err(Fault::Answer(Answer { status: 404, ..Answer::default() }));
            }
            url = next;
        }
        Err(Fault::invalid(what, "it redirects in circles"))
    }
}

/// Whether `next` is the same server, or the same by https instead of http.
fn same_host(url: &Url, next: &Url) -> bool {
    let upgrade = url.scheme() == "http" && next.scheme() == "https" && next.port().is_none();
    url.host() == next.host() && (url.origin() == next.origin() || upgrade) && next.username().is_empty() && next.password().is_none()
}

async fn refusal(what: &str, response: Response) -> Fault {
    let headers = response.headers();
    let status = response.status().as_u16();
    let region = text(headers, &HeaderName::from_static("x-amz-bucket-region")).and_then(xml::word);
    let after = crate::http::wait_asked(headers);
    // An error that cannot be read is an error all the same.
    let body = read(what, response, MAX_ERROR_BYTES).await.unwrap_or_default();
    let (code, named) = xml::error(&String::from_utf8_lossy(&body));
    Fault::Answer(Answer { status, code, region: region.or(named), after })
}

/// The whole body, unless it is longer than `limit`: then it is nothing that we understand.
async fn read(what: &str, mut response: Response, limit: usize) -> Result<Vec<u8>, Fault> {
    let mut body = Vec::new();
    while let Some(part) = response.chunk().await.map_err(|error| Fault::Error(crate::http::unreachable(what, error)))? {
        if body.len() + part.len() > limit {
            return Err(Fault::NotS3);
        }
        body.extend_from_slice(&part);
    }
    Ok(body)
}

fn facts(headers: &HeaderMap, size: u64) -> Facts {
    let named = |name: &'static str| text(headers, &HeaderName::from_static(name));
    let checksums = [
        (Algorithm::Sha256, named("x-amz-checksum-sha256")),
        (Algorithm::Sha1, named("x-amz-checksum-sha1")),
        (Algorithm::Crc32, named("x-amz-checksum-crc32")),
        (Algorithm::Crc32C, named("x-amz-checksum-crc32c")),
        (Algorithm::Crc64Nvme, named("x-amz-checksum-crc64nvme")),
    ];
    let encryption = named("x-amz-server-side-encryption").unwrap_or_default();
    Facts {
        size,
        etag: text(headers, &ETAG).map(str::to_owned),
        sealed: encryption.starts_with("aws:kms") || named("x-amz-server-side-encryption-customer-algorithm").is_some(),
        checksums: checksums.into_iter().filter_map(|(algorithm, value)| Some((algorithm, value?.to_owned()))).collect(),
        composite: named("x-amz-checksum-type").map(|kind| kind == "COMPOSITE"),
        noted_md5: digest::noted_md5(named("x-amz-meta-md5chksum"), named("x-amz-meta-s3cmd-attrs")),
        parts: named("x-amz-mp-parts-count").and_then(|count| count.parse().ok()),
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

fn number(headers: &HeaderMap, name: &HeaderName) -> Option<u64> {
    text(headers, name)?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redirect_stays_on_its_host() {
        let stays = |from: &str, to: &str| same_host(&Url::parse(from).unwrap(), &Url::parse(to).unwrap());
        assert!(stays("https://h/a", "https://h/b?x=1"));
        assert!(stays("http://localhost:80/a", "https://localhost/a"));
        for to in ["https://other/a", "http://h/a", "https://h:8443/a", "https://h.other/a", "https://user:pw@h/a"] {
            assert!(!stays("https://h/a", to), "{to}");
        }
    }
}
