//! Ranges of objects, held to the version that was listed.

use std::ops::Range;

use futures::stream;
use larder_content::OriginFile;

use super::digest::same_version;
use super::reach::Reach;
use super::transport::{Body, ReadAsk};
use crate::http::parse_content_range;
use crate::{ByteStream, OriginError};

/// Reads `range` of `file`. One try.
pub(super) async fn range(reach: &Reach, file: &OriginFile, range: Range<u64>) -> Result<ByteStream, OriginError> {
    let (key, version) = (&file.locator.path, &file.locator.version);
    let what = reach.address.name(key);
    if reach.address.locator(key, version) != file.locator {
        return Err(OriginError::Refused { what, why: format!("it is no file of {}", reach.address) });
    }
    if range.start > range.end || range.end > file.size {
        return Err(OriginError::Refused { what, why: format!("it has no bytes {range:?}: it was listed with {} bytes", file.size) });
    }
    if range.is_empty() {
        // No range can ask for nothing: that it may be read is shown by its metadata.
        let facts = reach.head(key, None).await.map_err(|fault| fault.into_error(&what, reach.signed))?;
        check_version(&what, version, facts.etag.as_deref())?;
        return Ok(ByteStream::new(what, 0, stream::empty()));
    }
    // A weak ETag matches nothing, so it is only compared.
    let if_match = Some(version.clone()).filter(|version| !version.is_empty() && !version.starts_with("W/"));
    let ask = ReadAsk { what: what.clone(), key: key.clone(), range: range.clone(), if_match };
    let body = reach.get(&ask).await.map_err(|fault| fault.into_error(&what, reach.signed))?;
    check_version(&what, version, body.etag.as_deref())?;
    check_extent(&what, &body, &range, file.size)?;
    Ok(ByteStream::new(what, range.end - range.start, body.stream))
}

/// Servers that ignore `If-Match` are found out by what they send.
fn check_version(what: &str, listed: &str, sent: Option<&str>) -> Result<(), OriginError> {
    match sent {
        _ if listed.is_empty() => Ok(()),
        Some(sent) if same_version(listed, sent) => Ok(()),
        Some(_) => Err(OriginError::Changed { what: what.to_owned() }),
        None => Err(OriginError::Invalid { what: what.to_owned(), why: "it was listed with an ETag and is sent without".into() }),
    }
}

/// Whether what is sent is what was asked for. A `Content-Range` makes an answer partial, whatever its status.
fn check_extent(what: &str, body: &Body, range: &Range<u64>, size: u64) -> Result<(), OriginError> {
    let invalid = |why: String| Err(OriginError::Invalid { what: what.to_owned(), why });
    let changed = || Err(OriginError::Changed { what: what.to_owned() });
    let sent = match body.content_range.as_deref().map(parse_content_range) {
        Some(None) => return invalid("its Content-Range cannot be read".into()),
        Some(Some((_, Some(total)))) if total != size => return changed(),
        Some(Some((sent, _))) if sent != *range => return invalid(format!("bytes {range:?} were asked for and {sent:?} are sent")),
        Some(Some((sent, _))) => sent,
        None if body.content_length.is_some_and(|length| length != size) => return changed(),
        None if *range == (0..size) => 0..size,
        None => return Err(OriginError::RangeIgnored { what: what.to_owned() }),
    };
    match body.content_length {
        Some(length) if length != sent.end - sent.start => invalid(format!("{length} bytes are sent for {sent:?}")),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::StreamExt;

    fn outcome(content_range: Option<&str>, content_length: Option<u64>, range: Range<u64>) -> &'static str {
        let content_range = content_range.map(str::to_owned);
        let body = Body { etag: None, content_range, content_length, stream: stream::empty().boxed() };
        match check_extent("f", &body, &range, 100) {
            Ok(()) => "good",
            Err(OriginError::Changed { .. }) => "changed",
            Err(OriginError::RangeIgnored { .. }) => "ignored",
            Err(OriginError::Invalid { .. }) => "invalid",
            Err(other) => panic!("{other}"),
        }
    }

    #[test]
    fn only_the_bytes_asked_for_are_taken() {
        assert_eq!(outcome(Some("bytes 10-19/100"), Some(10), 10..20), "good");
        assert_eq!(outcome(Some("bytes 10-19/*"), None, 10..20), "good");
        assert_eq!(outcome(Some("bytes 10-18/100"), Some(9), 10..20), "invalid");
        assert_eq!(outcome(Some("bytes 11-20/100"), Some(10), 10..20), "invalid");
        assert_eq!(outcome(Some("bytes 10-19/100"), Some(11), 10..20), "invalid");
        assert_eq!(outcome(Some("10-19"), Some(10), 10..20), "invalid");
        assert_eq!(outcome(Some("bytes 10-19/90"), Some(10), 10..20), "changed");
    }

    #[test]
    fn a_whole_file_is_taken_only_where_the_whole_was_asked_for() {
        assert_eq!(outcome(None, Some(100), 0..100), "good");
        assert_eq!(outcome(None, None, 0..100), "good");
        assert_eq!(outcome(None, Some(100), 0..99), "ignored");
        assert_eq!(outcome(None, Some(100), 1..100), "ignored");
        assert_eq!(outcome(None, Some(101), 0..100), "changed");
    }

    #[test]
    fn the_version_sent_is_the_version_listed() {
        assert!(check_version("f", "a", Some("\"a\"")).is_ok());
        assert!(check_version("f", "", None).is_ok() && check_version("f", "", Some("\"a\"")).is_ok());
        assert!(matches!(check_version("f", "a", Some("\"b\"")), Err(OriginError::Changed { .. })));
        assert!(matches!(check_version("f", "a", None), Err(OriginError::Invalid { .. })));
    }
}
