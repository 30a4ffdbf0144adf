//! The readers of what origins answer, and of where jobs say that they are, for a fuzzer.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use larder_content::fuzzing::Target;

use crate::http::{parse_content_range, wait_asked};
use crate::{bucket, hub};

/// This crate's readers.
pub const TARGETS: &[Target] = &[
    Target::new("hub_page", hub::fuzzing::page),
    Target::new("hub_link", hub::fuzzing::link),
    Target::new("bucket_xml", bucket::fuzzing::xml),
    Target::new("bucket_address", bucket::fuzzing::address),
    Target::new("bucket_facts", bucket::fuzzing::facts),
    Target::new("headers", headers),
];

/// Headers, one a line, as many as an answer may have: no wait is longer than an hour, and a range is read as it is written.
fn headers(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let fields = text.lines().filter_map(|line| line.split_once(':'));
    let fields = fields.filter_map(|(name, value)| Some((HeaderName::try_from(name).ok()?, HeaderValue::try_from(value.trim()).ok()?)));
    let headers: HeaderMap = fields.take(100).collect();
    assert!(wait_asked(&headers).is_none_or(|wait| wait <= Duration::from_secs(3600)));
    let ranges = headers.get_all(http::header::CONTENT_RANGE).iter().filter_map(|value| value.to_str().ok());
    for (range, total) in ranges.filter_map(parse_content_range) {
        let total_text = total.map_or_else(|| "*".to_owned(), |total| total.to_string());
        let again = format!("bytes {}-{}/{total_text}", range.start, range.end - 1);
        assert_eq!(parse_content_range(&again), Some((range, total)));
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_seed_of_the_corpus_is_read() {
        larder_content::fuzzing::replay(super::TARGETS, concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz"));
    }
}
