//! One HTTP client for all plain requests, and what its failures mean.

use std::error::Error;
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures::{Stream, StreamExt};
use hyper_util::client::proxy::matcher::Matcher;
use url::{Host, Url};

use crate::error::{BoxError, plain};
use crate::private_hosts::NotPublic;
use crate::{ByteStream, OriginError, PrivateHosts};

/// How long a connection may take to stand, in seconds.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// What the node calls itself.
const USER_AGENT: &str = concat!("larder/", env!("CARGO_PKG_VERSION"));

/// A client that follows no redirect by itself: each is looked at, so that no credential goes along.
///
/// HTTP/1.1 only: ranges of one file are to come over connections of their own. What is on this machine is asked
/// directly: only that far may plain http carry a credential. All else goes through the proxies of the environment, which
/// may be in a private network themselves.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    direct: reqwest::Client,
    proxied: reqwest::Client,
    proxies: Arc<Matcher>,
    private_hosts: PrivateHosts,
}

impl Client {
    /// A server that sends nothing for as long as `stall` has ended the request.
    pub(crate) fn new(stall: Duration, private_hosts: PrivateHosts) -> Result<Self, OriginError> {
        // Whoever installed a provider first has chosen the same one.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let builder = || {
            reqwest::Client::builder()
                .user_agent(USER_AGENT)
                .redirect(reqwest::redirect::Policy::none())
                .connect_timeout(CONNECT_TIMEOUT)
                .read_timeout(stall)
                .pool_idle_timeout(Duration::from_secs(20))
                .http1_only()
        };
        let failed = |error: reqwest::Error| OriginError::Refused { what: "the HTTP client".into(), why: error.to_string() };
        let direct = builder().no_proxy().dns_resolver(Resolver(private_hosts.clone())).build().map_err(failed)?;
        let proxied = builder().build().map_err(failed)?;
        // As the library finds them itself.
        Ok(Self { direct, proxied, proxies: Arc::new(Matcher::from_system()), private_hosts })
    }

    /// Begins a request for `what`.
    ///
    /// # Errors
    /// [`OriginError::Refused`] if the host is none that may be asked.
    pub(crate) fn request(&self, what: &str, method: http::Method, url: Url) -> Result<reqwest::RequestBuilder, OriginError> {
        self.private_hosts.check(&url).map_err(|refusal| refused(what, &refusal))?;
        let is_proxied = || url.as_str().parse().is_ok_and(|url| self.proxies.intercept(&url).is_some());
        let client = if is_loopback(&url) || !is_proxied() { &self.direct } else { &self.proxied };
        Ok(client.request(method, url))
    }
}

fn refused(what: &str, refusal: &NotPublic) -> OriginError {
    OriginError::Refused { what: what.to_owned(), why: refusal.to_string() }
}

/// Whether a URL's host is this machine, whatever a name server says: see [`resolve`].
pub(crate) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => is_local(name),
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

pub(crate) fn is_local(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    name == "localhost" || name.ends_with(".localhost")
}

/// The addresses of a host that may be connected to. Names below `localhost` are this machine whatever a name server says,
/// since plain http is spoken to them.
///
/// Source: RFC 6761 §6.3.
pub(crate) async fn resolve(name: &str, private_hosts: &PrivateHosts) -> Result<Vec<SocketAddr>, BoxError> {
    let addresses = match is_local(name) {
        true => vec![(Ipv4Addr::LOCALHOST, 0).into()],
        false => tokio::net::lookup_host((name, 0)).await?.collect(),
    };
    Ok(private_hosts.choose(name, addresses)?)
}

struct Resolver(PrivateHosts);

impl reqwest::dns::Resolve for Resolver {
    fn resolve(&self, name: reqwest::dns::Name) -> reqwest::dns::Resolving {
        let private_hosts = self.0.clone();
        Box::pin(async move {
            let addresses: reqwest::dns::Addrs = Box::new(resolve(name.as_str(), &private_hosts).await?.into_iter());
            Ok(addresses)
        })
    }
}

/// A request that failed without an answer, if only because nobody may be asked.
pub(crate) fn unreachable(what: &str, error: reqwest::Error) -> OriginError {
    if let Some(refusal) = not_public(&error) {
        return refused(what, refusal);
    }
    let host = error.url().map_or_else(String::new, |url| format!("{}: ", host(url)));
    // The URL may be signed.
    let error = error.without_url();
    OriginError::Unreachable { what: what.to_owned(), why: format!("{host}{}", chain(&error)), source: Some(Box::new(error)) }
}

/// The host of a URL, with its port if it has one: what an error may show of it.
pub(crate) fn host(url: &Url) -> String {
    let port = url.port().map_or_else(String::new, |port| format!(":{port}"));
    format!("{}{port}", plain(url.host_str().unwrap_or_default()))
}

/// As [`unreachable`], for the error of any library; it must hold no credential.
pub(crate) fn unanswered(what: &str, error: impl Error + Send + Sync + 'static) -> OriginError {
    if let Some(refusal) = not_public(&error) {
        return refused(what, refusal);
    }
    OriginError::Unreachable { what: what.to_owned(), why: chain(&error), source: Some(Box::new(error)) }
}

fn not_public<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a NotPublic> {
    std::iter::successors(Some(error), |&error| error.source()).find_map(|cause| cause.downcast_ref())
}

/// The body as a stream of our errors.
pub(crate) fn body(what: String, response: reqwest::Response) -> impl Stream<Item = Result<Bytes, OriginError>> + Send + 'static {
    response.bytes_stream().map(move |part| part.map_err(|error| unreachable(&what, error)))
}

/// The body of an answer to a request for `range` of a file of `size` bytes, once its head is found to be right.
///
/// The status must be 200 or 206: who calls has dealt with all others.
pub(crate) fn ranged_body(what: &str, response: reqwest::Response, range: Range<u64>, size: u64) -> Result<ByteStream, OriginError> {
    let invalid = |why: String| OriginError::Invalid { what: what.to_owned(), why };
    let content_range = response.headers().get(http::header::CONTENT_RANGE).and_then(|value| value.to_str().ok());
    let expected = match content_range.map(parse_content_range) {
        Some(Some((sent, total))) => {
            if total.is_some_and(|total| total != size) {
                return Err(invalid(format!("it was listed with {size} bytes and is sent with {}", total.unwrap_or_default())));
            }
            if sent != range {
                return Err(invalid(format!("bytes {range:?} were asked for and {sent:?} are sent")));
            }
            range.end - range.start
        }
        Some(None) => return Err(invalid("its Content-Range cannot be read".into())),
        None if response.status() == http::StatusCode::PARTIAL_CONTENT => {
            return Err(invalid("a partial answer without Content-Range".into()));
        }
        None if range == (0..size) => size,
        None => return Err(OriginError::RangeIgnored { what: what.to_owned() }),
    };
    if response.content_length().is_some_and(|sent| sent != expected) {
        return Err(invalid(format!("{expected} bytes were to come and {} are sent", response.content_length().unwrap_or_default())));
    }
    Ok(ByteStream::new(what.to_owned(), expected, body(what.to_owned(), response)))
}

/// Reads `bytes a-b/total`, or `bytes a-b/*`, into a half-open range.
pub(crate) fn parse_content_range(value: &str) -> Option<(Range<u64>, Option<u64>)> {
    let (range, total) = value.trim().strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let total = if total == "*" { None } else { Some(total.parse().ok()?) };
    Some((first.parse().ok()?..last.parse::<u64>().ok()?.checked_add(1)?, total))
}

/// The `Range` header for a part of a file; `None` for the whole, which is asked for plainly.
pub(crate) fn range_header(range: &Range<u64>, size: u64) -> Option<String> {
    (*range != (0..size)).then(|| format!("bytes={}-{}", range.start, range.end.saturating_sub(1)))
}

/// An error and its causes in one line.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}

/// How long a 429 or 503 asks to wait: `Retry-After`, else `t` of `RateLimit`.
///
/// Source: RFC 9110 §10.2.3; the hub's `RateLimit: "api";r=0;t=295` (huggingface.co/docs/hub/rate-limits).
pub(crate) fn wait_asked(headers: &http::HeaderMap) -> Option<Duration> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let seconds = text("retry-after").and_then(|asked| retry_after(asked, text("date")));
    let window = || {
        let limit = text("ratelimit")?;
        let field = |name: &str| limit.split(';').find_map(|part| part.trim().strip_prefix(name)?.parse::<u64>().ok());
        (field("r=") == Some(0)).then(|| field("t=").map(|t| believed(t.saturating_add(1)))).flatten()
    };
    seconds.or_else(window)
}

/// Reads `Retry-After`, seconds or a date. The date counts from the answer's own `Date`: our clock may be another.
pub(crate) fn retry_after(asked: &str, date: Option<&str>) -> Option<Duration> {
    let asked = asked.trim();
    if let Ok(seconds) = asked.parse() {
        return Some(believed(seconds));
    }
    let until = httpdate::parse_http_date(asked).ok()?;
    let now = date.and_then(|date| httpdate::parse_http_date(date).ok()).unwrap_or_else(SystemTime::now);
    Some(believed(until.duration_since(now).unwrap_or_default().as_secs()))
}

/// An hour is the longest wait that is believed: both windows in use are five minutes.
fn believed(seconds: u64) -> Duration {
    Duration::from_secs(seconds.min(3600))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> http::HeaderMap {
        pairs.iter().map(|(name, value)| (http::HeaderName::from_static(name), http::HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn a_name_without_a_public_address_is_not_connected_to() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let url = format!("http://localhost:{}/", listener.local_addr().unwrap().port());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let connect = |private_hosts: &str| {
            let client = Client::new(Duration::from_millis(100), PrivateHosts::parse(private_hosts).unwrap()).unwrap();
            // Past the look at the URL: a name server may say what it likes.
            let failed = runtime.block_on(async { client.direct.get(&url).send().await }).unwrap_err();
            (unreachable("x", failed), listener.accept().is_ok())
        };
        let (refusal, connected) = connect("");
        assert!(matches!(&refusal, OriginError::Refused { why, .. } if why.contains("localhost has no public")) && !connected, "{refusal}");
        let (silence, connected) = connect("localhost");
        assert!(matches!(silence, OriginError::Unreachable { .. }) && connected, "{silence}");
    }

    #[test]
    fn a_url_without_a_public_address_is_not_asked_for() {
        let client = Client::new(Duration::from_secs(1), PrivateHosts::default()).unwrap();
        let request = |url: &str| client.request("x", http::Method::GET, Url::parse(url).unwrap());
        assert!(matches!(request("https://169.254.169.254/latest/"), Err(OriginError::Refused { .. })));
        assert!(request("https://hub.example/").is_ok());
    }

    #[test]
    fn a_content_range_is_read_half_open() {
        assert_eq!(parse_content_range("bytes 5-9/20"), Some((5..10, Some(20))));
        assert_eq!(parse_content_range("bytes 5-9/*"), Some((5..10, None)));
        for bad in ["", "bytes */20", "bytes 5-/20", "items 5-9/20", "bytes 5-18446744073709551615/20"] {
            assert_eq!(parse_content_range(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_wait_is_what_the_origin_asks_for() {
        assert_eq!(wait_asked(&headers(&[("retry-after", "7")])), Some(Duration::from_secs(7)));
        assert_eq!(wait_asked(&headers(&[("ratelimit", "\"api\";r=0;t=295")])), Some(Duration::from_secs(296)));
        assert_eq!(wait_asked(&headers(&[("ratelimit", "\"api\";r=12;t=295")])), None);
        assert_eq!(wait_asked(&headers(&[("retry-after", "99999999")])), Some(Duration::from_secs(3600)));
    }

    #[test]
    fn a_date_to_wait_for_counts_from_the_answers_own_date() {
        let until = ("retry-after", "Wed, 21 Oct 2015 07:28:00 GMT");
        assert_eq!(wait_asked(&headers(&[until, ("date", "Wed, 21 Oct 2015 07:26:30 GMT")])), Some(Duration::from_secs(90)));
        assert_eq!(wait_asked(&headers(&[until])), Some(Duration::ZERO), "it is past");
        assert_eq!(wait_asked(&headers(&[("retry-after", "Fri, 31 Dec 9999 23:59:59 GMT")])), Some(Duration::from_secs(3600)));
        assert_eq!(wait_asked(&headers(&[("retry-after", "soon")])), None);
    }

    #[test]
    fn this_machine_is_known_by_any_of_its_names() {
        let is_loopback = |url: &str| is_loopback(&Url::parse(url).unwrap());
        for here in
            ["http://127.0.0.1:80", "http://127.9.9.9", "http://[::1]:1", "http://localhost", "http://LOCALHOST.", "http://a.localhost"]
        {
            assert!(is_loopback(here), "{here}");
        }
        for elsewhere in ["http://128.0.0.1", "http://[::2]", "http://localhost.example.org", "http://notlocalhost", "http://0.0.0.0"] {
            assert!(!is_loopback(elsewhere), "{elsewhere}");
        }
    }
}
