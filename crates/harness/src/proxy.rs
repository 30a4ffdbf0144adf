//! A counting proxy before a real server.
//!
//! Host, path and headers go on as they came, since signatures cover them; bodies stream. It knows S3 well enough to
//! tell an object's content from everything else.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures::StreamExt;
use http::header::{AUTHORIZATION, CONNECTION, CONTENT_LENGTH, CONTENT_RANGE, HOST, RANGE};
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, BodyStream};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::answer::{Answer, Asking, Desk, respond, spoil_headers};
use crate::control::{self, control};
use crate::counts::Counts;
use crate::delivery::{Way, deliver};
use crate::faults::{Fault, Faults, Side};
use crate::serve::{Listener, Refused, Reply, Threads};
use crate::servers::VIRTUAL_HOST_DOMAIN;
use crate::throttle::Throttle;

/// Idle connections that are kept to the server.
const MAX_IDLE: usize = 64;
/// Parts of a query that ask for something about an object rather than for its content.
const SUBRESOURCES: &[&str] = &["acl", "attributes", "legal-hold", "retention", "tagging", "uploadId", "uploads"];

/// A proxy that runs until it is dropped.
pub struct Proxy {
    endpoint: String,
    address: SocketAddr,
    desk: Desk,
    _threads: Threads,
}

impl Proxy {
    /// Starts a proxy before the server at `upstream`, at a free port of 127.0.0.1.
    ///
    /// # Errors
    /// Fails if no port can be had.
    pub fn start(upstream: SocketAddr) -> anyhow::Result<Self> {
        Self::start_at((Ipv4Addr::LOCALHOST, 0).into(), upstream, None)
    }

    /// Starts a proxy at an address; the contents of all objects together keep to `rate` bytes a second.
    ///
    /// # Errors
    /// Fails if the address cannot be had.
    pub fn start_at(listen: SocketAddr, upstream: SocketAddr, rate: Option<u64>) -> anyhow::Result<Self> {
        Self::before(Listener::bind(listen)?, upstream, rate)
    }

    /// Starts a proxy on a socket that listens already, such as one of a network's host; the server may be elsewhere.
    ///
    /// # Errors
    /// Fails if the socket cannot be used.
    pub fn start_on(listener: TcpListener, upstream: SocketAddr) -> anyhow::Result<Self> {
        Self::before(Listener::on(listener)?, upstream, None)
    }

    fn before(listener: Listener, upstream: SocketAddr, rate: Option<u64>) -> anyhow::Result<Self> {
        let address = listener.address;
        let desk = Desk { throttle: rate.map(|rate| Arc::new(Throttle::new(rate))), ..Desk::default() };
        let state = Arc::new(State { upstream, desk: desk.clone(), idle: Mutex::default() });
        let threads = Threads::new()?;
        threads.serve(listener, move |request| State::handle(Arc::clone(&state), request))?;
        Ok(Self { endpoint: format!("http://{address}"), address, desk, _threads: threads })
    }

    /// Where it listens, as a URL.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What goes wrong.
    #[must_use]
    pub fn faults(&self) -> &Faults {
        &self.desk.faults
    }

    /// What was asked for.
    #[must_use]
    pub fn counts(&self) -> &Counts {
        &self.desk.counts
    }
}

struct State {
    upstream: SocketAddr,
    desk: Desk,
    idle: Mutex<Vec<SendRequest<Incoming>>>,
}

impl State {
    async fn handle(state: Arc<Self>, mut request: Request<Incoming>) -> Reply {
        let target = request.uri().path_and_query().map_or_else(|| "/".to_owned(), ToString::to_string);
        if target.starts_with(control::PREFIX) {
            let (parts, body) = request.into_parts();
            let body = body.collect().await.map_err(|_| Refused)?.to_bytes();
            return Ok(control(&state.desk, &parts.method, &target, &body));
        }
        let asking = asking(&request, &target);
        let file = object(request.headers(), &target);
        let ranged = request.headers().contains_key(RANGE);
        let loose = asking.method == Method::GET && ranged && !signs_range(request.headers());
        let before = |fault: &Fault| fault.replaces() || (*fault == Fault::IgnoreRange && loose);
        let mut struck = state.desk.faults.strike(asking.subject(file.as_deref()), before);
        if let Some(fault) = struck.last().filter(|fault| fault.replaces()) {
            return state.desk.replace(&asking, file, fault);
        }
        if struck.contains(&Fault::IgnoreRange) {
            request.headers_mut().remove(RANGE);
        }
        let response = match state.forward(request, &target).await {
            Ok(response) => response,
            Err(error) => {
                let answer = Answer::text(StatusCode::BAD_GATEWAY, format!("the server at {} did not answer: {error}", state.upstream));
                return state.desk.send(&asking, answer);
            }
        };
        let (mut parts, body) = response.into_parts();
        parts.headers.remove(CONNECTION);
        let delivers = asking.method == Method::GET && matches!(parts.status, StatusCode::OK | StatusCode::PARTIAL_CONTENT);
        let content = (delivers && is_content(&target)).then(|| content_of(&parts.headers, &body)).filter(|_| file.is_some());
        let after = |fault: &Fault| !before(fault) && *fault != Fault::IgnoreRange && fault.concerns(content.as_ref(), ranged);
        struck.extend(state.desk.faults.strike(asking.subject(file.as_deref()), after));
        spoil_headers(&struck, &mut parts.headers);
        let exchange = asking.exchange(parts.status.as_u16(), file, content.is_some(), !struck.is_empty());
        let meter = state.desk.counts.record(exchange);
        let way = content.as_ref().map(|content| Way::new(&struck, content, state.desk.throttle.as_ref())).unwrap_or_default();
        let pieces = BodyStream::new(body).filter_map(|frame| async {
            match frame {
                Ok(frame) => frame.into_data().ok().map(Ok),
                Err(error) => Some(Err(std::io::Error::other(error))),
            }
        });
        let start = content.map_or(0, |content| content.start);
        Ok(respond(parts.status, parts.headers, deliver(state.desk.faults.gate(pieces.boxed()), start, way, meter)))
    }

    async fn forward(&self, mut request: Request<Incoming>, target: &str) -> anyhow::Result<Response<Incoming>> {
        *request.uri_mut() = target.parse::<Uri>()?;
        request.headers_mut().remove(CONNECTION);
        let mut sender = match self.idle_connection() {
            Some(sender) => sender,
            None => self.connect().await?,
        };
        let response = sender.send_request(request).await?;
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < MAX_IDLE {
            idle.push(sender);
        }
        Ok(response)
    }

    /// A connection whose last answer was read to its end.
    fn idle_connection(&self) -> Option<SendRequest<Incoming>> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|sender| !sender.is_closed());
        let free = idle.iter().position(SendRequest::is_ready)?;
        Some(idle.swap_remove(free))
    }

    async fn connect(&self) -> anyhow::Result<SendRequest<Incoming>> {
        let stream = TcpStream::connect(self.upstream).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(sender)
    }
}

fn asking(request: &Request<Incoming>, target: &str) -> Asking {
    let range = request.headers().get(RANGE).map(|range| String::from_utf8_lossy(range.as_bytes()).into_owned());
    Asking {
        side: Side::Hub,
        method: request.method().clone(),
        target: target.to_owned(),
        path: decoded_path(target),
        range,
        authorized: request.headers().contains_key(AUTHORIZATION),
    }
}

fn decoded_path(target: &str) -> String {
    let path = target.split_once('?').map_or(target, |(path, _)| path);
    percent_encoding::percent_decode_str(path).decode_utf8_lossy().into_owned()
}

/// The object a request is for, as `bucket/key`: the bucket is in the path, or before our domain in the host.
fn object(headers: &HeaderMap, target: &str) -> Option<String> {
    let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or("");
    let host = host.split_once(':').map_or(host, |(name, _)| name);
    let path = decoded_path(target);
    let path = path.trim_start_matches('/');
    let name = match host.strip_suffix(VIRTUAL_HOST_DOMAIN).and_then(|rest| rest.strip_suffix('.')) {
        Some(bucket) => format!("{bucket}/{path}"),
        None => path.to_owned(),
    };
    name.split_once('/').is_some_and(|(_, key)| !key.is_empty()).then_some(name)
}

/// Whether a GET of an object asks for its content.
fn is_content(target: &str) -> bool {
    let query = target.split_once('?').map_or("", |(_, query)| query);
    url::form_urlencoded::parse(query.as_bytes()).all(|(key, _)| !SUBRESOURCES.contains(&key.as_ref()))
}

/// Whether the `Range` header is part of the signature, so that taking it away would break that.
fn signs_range(headers: &HeaderMap) -> bool {
    let signed = headers.get(AUTHORIZATION).and_then(|header| header.to_str().ok()?.split_once("SignedHeaders=").map(|(_, rest)| rest));
    signed.is_some_and(|list| list.split([',', ' ']).next().unwrap_or("").split(';').any(|name| name == "range"))
}

/// Which part of the object an answer holds.
fn content_of(headers: &HeaderMap, body: &impl hyper::body::Body<Data = Bytes>) -> Range<u64> {
    let text = |name| headers.get(name).and_then(|value: &http::HeaderValue| value.to_str().ok());
    let start = text(CONTENT_RANGE).and_then(|range| range.strip_prefix("bytes ")?.split_once('-')?.0.parse().ok()).unwrap_or(0);
    let length = text(CONTENT_LENGTH).and_then(|length| length.parse().ok()).or(body.size_hint().exact());
    start..length.map_or(u64::MAX, |length: u64| start.saturating_add(length))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn headers(name: http::HeaderName, value: &'static str) -> HeaderMap {
        [(name, HeaderValue::from_static(value))].into_iter().collect()
    }

    #[test]
    fn an_object_is_named_by_path_or_by_host() {
        let plain = headers(HOST, "127.0.0.1:9000");
        assert_eq!(object(&plain, "/pub/a%20b/c?x-id=GetObject").as_deref(), Some("pub/a b/c"));
        assert_eq!(object(&plain, "/pub/?list-type=2"), None);
        assert_eq!(object(&plain, "/pub"), None);
        assert_eq!(object(&headers(HOST, "pub.s3.localhost:9000"), "/a").as_deref(), Some("pub/a"));
        assert_eq!(object(&headers(HOST, "pub.s3.localhost"), "/?list-type=2"), None);
    }

    #[test]
    fn asking_about_an_object_is_not_asking_for_its_content() {
        assert!(is_content("/b/k?x-id=GetObject&partNumber=1") && is_content("/b/k"));
        assert!(!is_content("/b/k?attributes") && !is_content("/b/k?uploadId=1"));
    }

    #[test]
    fn a_signed_range_is_told_from_a_loose_one() {
        let signed = "AWS4-HMAC-SHA256 Credential=a/b, SignedHeaders=host;range;x-amz-date, Signature=c";
        assert!(signs_range(&headers(AUTHORIZATION, signed)));
        assert!(!signs_range(&headers(AUTHORIZATION, "AWS4-HMAC-SHA256 Credential=a, SignedHeaders=host;x-range, Signature=range")));
        assert!(!signs_range(&HeaderMap::new()));
    }
}
