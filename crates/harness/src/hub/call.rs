//! A request to the hub, taken apart, and who sent it.

use bytes::Bytes;
use http::HeaderMap;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

/// What is not encoded in one segment of a path.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// A request to the hub.
#[derive(Debug)]
pub(crate) struct Call {
    /// The segments of the path as they came.
    pub(crate) raw: Vec<String>,
    /// The same, decoded: one may hold a slash.
    pub(crate) segments: Vec<String>,
    /// The query as it came.
    pub(crate) raw_query: Option<String>,
    query: Vec<(String, String)>,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// Who sent a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Viewer {
    /// No token.
    Anonymous,
    /// A valid token that was let in nowhere.
    Stranger,
    /// A token that may read everything.
    Reader,
}

impl Call {
    /// Takes a request apart; `target` is its path and query.
    pub(crate) fn new(target: &str, headers: HeaderMap, body: Bytes) -> Self {
        let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
        let raw: Vec<String> = path.trim_start_matches('/').split('/').map(str::to_owned).collect();
        let segments = raw.iter().map(|segment| decode(segment)).collect();
        Self { raw, segments, raw_query: query.map(str::to_owned), query: form(query.unwrap_or("").as_bytes()), headers, body }
    }

    /// A parameter of the query.
    pub(crate) fn parameter(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Whether a parameter says yes, in any spelling that clients use.
    pub(crate) fn flag(&self, name: &str) -> bool {
        self.parameter(name).is_some_and(|value| value.eq_ignore_ascii_case("true") || value == "1")
    }

    /// All values of a parameter that may be repeated, with `[]` after its name or not.
    pub(crate) fn parameters(&self, name: &str) -> Vec<&str> {
        let fits = |key: &str| key.strip_suffix("[]").unwrap_or(key) == name;
        self.query.iter().filter(|(key, _)| fits(key)).map(|(_, value)| value.as_str()).collect()
    }

    /// A header.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The path and query with `count` segments from `start` on replaced by `with`.
    pub(crate) fn moved(&self, start: usize, count: usize, with: &str) -> String {
        let mut raw = self.raw.clone();
        raw.splice(start..start + count, [with.to_owned()]);
        let query = self.raw_query.as_ref().map(|query| format!("?{query}")).unwrap_or_default();
        format!("/{}{query}", raw.join("/"))
    }
}

/// Decodes percent signs.
pub(crate) fn decode(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

/// Encodes one segment of a path; slashes too.
pub(crate) fn encode(text: &str) -> String {
    utf8_percent_encode(text, SEGMENT).to_string()
}

/// Encodes a path and keeps its slashes.
pub(crate) fn encode_path(path: &str) -> String {
    path.split('/').map(encode).collect::<Vec<_>>().join("/")
}

/// The pairs of a query or a form.
pub(crate) fn form(text: &[u8]) -> Vec<(String, String)> {
    url::form_urlencoded::parse(text).into_owned().collect()
}
