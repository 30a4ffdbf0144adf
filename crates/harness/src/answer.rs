//! An answer before it is sent: faults are put on it, and it is written down, in one place.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, HeaderName, LOCATION, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};
use http_body_util::{BodyExt, Full};

use crate::counts::{Counts, Exchange};
use crate::delivery::{Way, deliver};
use crate::faults::{Fault, Faults, Side, Subject};
use crate::serve::{Body, Refused, Reply};
use crate::source::Source;
use crate::throttle::Throttle;

/// An answer before it is sent.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) payload: Payload,
    /// The file it concerns, as it is counted.
    pub(crate) file: Option<String>,
}

/// The body of an answer.
#[derive(Debug)]
pub(crate) enum Payload {
    /// A page, a message, nothing.
    Text(Bytes),
    /// A range of a file of `size` bytes.
    Content { source: Source, size: u64, range: Range<u64> },
}

impl Answer {
    /// A short text.
    pub(crate) fn text(status: StatusCode, text: impl Into<Bytes>) -> Self {
        let text = text.into();
        let mut answer = Self { status, headers: HeaderMap::new(), payload: Payload::Text(Bytes::new()), file: None };
        answer.header(CONTENT_TYPE, "text/plain; charset=utf-8");
        answer.header(CONTENT_LENGTH, &text.len().to_string());
        answer.payload = Payload::Text(text);
        answer
    }

    /// A JSON document.
    pub(crate) fn json(status: StatusCode, value: &serde_json::Value) -> Self {
        Self::text(status, value.to_string()).with(CONTENT_TYPE, "application/json; charset=utf-8")
    }

    /// An error as S3 and its kin write it.
    pub(crate) fn xml_error(status: StatusCode, code: &str) -> Self {
        let text = format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code><Message>{code}</Message></Error>");
        Self::text(status, text).with(CONTENT_TYPE, "application/xml")
    }

    /// The content of a file of `size` bytes, or the range of it that `range`, a header, asks for.
    pub(crate) fn content(source: &Source, size: u64, range: Option<&str>) -> Self {
        let (status, range) = match range.map_or(Asked::All, |header| Asked::parse(header, size)) {
            Asked::All => (StatusCode::OK, 0..size),
            Asked::Part(range) => (StatusCode::PARTIAL_CONTENT, range),
            Asked::Outside => {
                let answer = Self::text(StatusCode::RANGE_NOT_SATISFIABLE, "");
                return answer.with(CONTENT_RANGE, &format!("bytes */{size}"));
            }
        };
        let payload = Payload::Content { source: source.clone(), size, range: range.clone() };
        let mut answer = Self { status, headers: HeaderMap::new(), payload, file: None };
        answer.header(CONTENT_TYPE, "application/octet-stream");
        answer.header(CONTENT_LENGTH, &(range.end - range.start).to_string());
        answer.header(ACCEPT_RANGES, "bytes");
        if status == StatusCode::PARTIAL_CONTENT {
            answer.header(CONTENT_RANGE, &format!("bytes {}-{}/{size}", range.start, range.end - 1));
        }
        answer
    }

    /// Sets a header. A value that no header can hold is left out.
    pub(crate) fn header(&mut self, name: impl TryInto<HeaderName>, value: &str) {
        if let (Ok(name), Ok(value)) = (name.try_into(), HeaderValue::from_bytes(value.as_bytes())) {
            self.headers.insert(name, value);
        }
    }

    /// With a header.
    pub(crate) fn with(mut self, name: impl TryInto<HeaderName>, value: &str) -> Self {
        self.header(name, value);
        self
    }

    /// About a file.
    pub(crate) fn about(mut self, file: String) -> Self {
        self.file = Some(file);
        self
    }

    fn ignore_range(&mut self) {
        if let Payload::Content { size, range, .. } = &mut self.payload {
            *range = 0..*size;
            let size = size.to_string();
            self.status = StatusCode::OK;
            self.headers.remove(CONTENT_RANGE);
            self.header(CONTENT_LENGTH, &size);
        }
    }
}

/// What a `Range` header asks of a file.
#[derive(Debug, PartialEq, Eq)]
enum Asked {
    /// Everything: what cannot be understood is ignored, as is a range of an empty file.
    All,
    Part(Range<u64>),
    Outside,
}

impl Asked {
    /// Source: RFC 9110 §14.1.2. Several ranges at once are ignored.
    fn parse(header: &str, size: u64) -> Self {
        let Some((first, last)) = header.trim().strip_prefix("bytes=").and_then(|range| range.split_once('-')) else { return Self::All };
        if size == 0 {
            return Self::All;
        }
        let range = match (first.trim().parse::<u64>(), last.trim().parse::<u64>()) {
            (Ok(first), Ok(last)) if first <= last => first..last.saturating_add(1).min(size),
            (Ok(first), Err(_)) if last.trim().is_empty() => first..size,
            (Err(_), Ok(count)) if first.trim().is_empty() => size.saturating_sub(count)..size,
            (Ok(_) | Err(_), Ok(_) | Err(_)) => return Self::All,
        };
        if range.start < range.end { Self::Part(range) } else { Self::Outside }
    }
}

/// The request that is being answered.
#[derive(Debug)]
pub(crate) struct Asking {
    pub(crate) side: Side,
    pub(crate) method: Method,
    /// Path and query as they came.
    pub(crate) target: String,
    /// The decoded path.
    pub(crate) path: String,
    pub(crate) range: Option<String>,
    pub(crate) authorized: bool,
}

impl Asking {
    pub(crate) fn subject<'a>(&'a self, file: Option<&'a str>) -> Subject<'a> {
        Subject { side: self.side, method: self.method.as_str(), path: &self.path, file }
    }

    pub(crate) fn exchange(&self, status: u16, file: Option<String>, content: bool, spoilt: bool) -> Exchange {
        Exchange {
            side: self.side,
            method: self.method.to_string(),
            target: self.target.clone(),
            range: self.range.clone(),
            status,
            authorized: self.authorized,
            file,
            content,
            body_bytes: 0,
            spoilt,
        }
    }
}

/// Where answers are spoilt, slowed and written down.
#[derive(Debug, Clone, Default)]
pub(crate) struct Desk {
    pub(crate) faults: Faults,
    pub(crate) counts: Counts,
    pub(crate) throttle: Option<Arc<Throttle>>,
    /// The most bytes of a body that go to the socket at once; as they are read if not said.
    pub(crate) piece_bytes: Option<usize>,
}

impl Desk {
    /// Sends `answer`, after what the faults make of it.
    pub(crate) fn send(&self, asking: &Asking, mut answer: Answer) -> Reply {
        let content = match &answer.payload {
            Payload::Content { range, .. } if asking.method == Method::GET => Some(range.clone()),
            Payload::Content { .. } | Payload::Text(_) => None,
        };
        let ranged = answer.status == StatusCode::PARTIAL_CONTENT;
        let struck = self.faults.strike(asking.subject(answer.file.as_deref()), |fault| fault.concerns(content.as_ref(), ranged));
        if let Some(fault) = struck.last().filter(|fault| fault.replaces()) {
            return self.replace(asking, answer.file, fault);
        }
        if struck.contains(&Fault::IgnoreRange) {
            answer.ignore_range();
        }
        spoil_headers(&struck, &mut answer.headers);
        let exchange = asking.exchange(answer.status.as_u16(), answer.file, content.is_some(), !struck.is_empty());
        let meter = self.counts.record(exchange);
        let body = match answer.payload {
            Payload::Content { source, range, .. } if content.is_some() => {
                let way = Way::new(&struck, &range, self.throttle.as_ref()).in_pieces(self.piece_bytes);
                deliver(self.faults.gate(source.stream(range.clone())), range.start, way, meter)
            }
            Payload::Content { .. } => full(Bytes::new()),
            Payload::Text(text) => {
                let text = if asking.method == Method::HEAD { Bytes::new() } else { text };
                meter.add(text.len() as u64);
                full(text)
            }
        };
        Ok(respond(answer.status, answer.headers, body))
    }

    /// Sends what `fault` puts in the place of the answer for `file`.
    pub(crate) fn replace(&self, asking: &Asking, file: Option<String>, fault: &Fault) -> Reply {
        let Some(answer) = replacement(fault, &asking.target) else {
            self.counts.record(asking.exchange(0, file, false, true));
            return Err(Refused);
        };
        let meter = self.counts.record(asking.exchange(answer.status.as_u16(), file, false, true));
        let text = match answer.payload {
            Payload::Text(text) if asking.method != Method::HEAD => text,
            Payload::Text(_) | Payload::Content { .. } => Bytes::new(),
        };
        meter.add(text.len() as u64);
        Ok(respond(answer.status, answer.headers, full(text)))
    }
}

/// Puts the faults that concern headers on them.
pub(crate) fn spoil_headers(struck: &[Fault], headers: &mut HeaderMap) {
    for fault in struck {
        match fault {
            Fault::Length { by } => {
                let length = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
                if let Some(length) = length {
                    headers.insert(CONTENT_LENGTH, length.saturating_add_signed(*by).into());
                }
            }
            Fault::DropHeader { name } => {
                headers.remove(name.as_str());
            }
            Fault::SetHeader { name, value } => {
                if let (Ok(name), Ok(value)) = (HeaderName::try_from(name.as_str()), HeaderValue::try_from(value.as_str())) {
                    headers.insert(name, value);
                }
            }
            Fault::Status { .. }
            | Fault::Stall { .. }
            | Fault::Cut { .. }
            | Fault::Flip { .. }
            | Fault::Rewrite { .. }
            | Fault::IgnoreRange
            | Fault::RedirectLoop
            | Fault::RedirectTo { .. }
            | Fault::Slow { .. }
            | Fault::Refuse => {}
        }
    }
}

/// What `fault` says instead of the answer; `None` is silence.
fn replacement(fault: &Fault, target: &str) -> Option<Answer> {
    let redirect = |url: &str| Answer::text(StatusCode::FOUND, "Found").with(LOCATION, url);
    match fault {
        Fault::RedirectLoop => Some(redirect(target)),
        Fault::RedirectTo { url } => Some(redirect(url)),
        Fault::Status { code, retry_after } => {
            let (status, name) = match StatusCode::from_u16(*code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR) {
                StatusCode::FORBIDDEN => (StatusCode::FORBIDDEN, "AccessDenied"),
                StatusCode::TOO_MANY_REQUESTS => (StatusCode::TOO_MANY_REQUESTS, "TooManyRequests"),
                StatusCode::SERVICE_UNAVAILABLE => (StatusCode::SERVICE_UNAVAILABLE, "SlowDown"),
                other => (other, "InternalError"),
            };
            let mut answer = Answer::xml_error(status, name);
            if let Some(seconds) = retry_after {
                answer.header(RETRY_AFTER, &seconds.to_string());
            }
            if status == StatusCode::TOO_MANY_REQUESTS {
                answer.header("ratelimit", &format!("\"resolvers\";r=0;t={}", retry_after.unwrap_or(1)));
            }
            Some(answer)
        }
        Fault::Refuse
        | Fault::Stall { .. }
        | Fault::Cut { .. }
        | Fault::Flip { .. }
        | Fault::Rewrite { .. }
        | Fault::IgnoreRange
        | Fault::Length { .. }
        | Fault::DropHeader { .. }
        | Fault::SetHeader { .. }
        | Fault::Slow { .. } => None,
    }
}

/// A response of these parts.
pub(crate) fn respond(status: StatusCode, headers: HeaderMap, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

/// A body of bytes at hand.
pub(crate) fn full(bytes: Bytes) -> Body {
    Full::new(bytes).map_err(|never| match never {}).boxed_unsync()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_clamped_to_the_file() {
        for (header, range) in [
            ("bytes=0-0", 0..1),
            ("bytes=2-5", 2..6),
            ("bytes=2-", 2..10),
            ("bytes=2-99", 2..10),
            ("bytes=-3", 7..10),
            ("bytes=-99", 0..10),
            ("bytes=0-18446744073709551615", 0..10),
        ] {
            assert_eq!(Asked::parse(header, 10), Asked::Part(range), "{header}");
        }
    }

    #[test]
    fn a_range_outside_is_refused_and_nonsense_is_ignored() {
        for header in ["bytes=10-", "bytes=10-20", "bytes=-0"] {
            assert_eq!(Asked::parse(header, 10), Asked::Outside, "{header}");
        }
        for header in ["bytes=5-2", "bytes=a-b", "bytes=-", "lines=1-2", "bytes=0-1,3-4", ""] {
            assert_eq!(Asked::parse(header, 10), Asked::All, "{header}");
        }
        assert_eq!(Asked::parse("bytes=0-0", 0), Asked::All);
    }
}
