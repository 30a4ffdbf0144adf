//! The two S3 documents that are read without the SDK: a listing, and an error.

use quick_xml::Reader;
use quick_xml::events::Event;

use super::transport::{Listed, Page};

/// The most bytes of an XML document that are read: a page of 1,000 keys of 1,024 bytes fits several times.
pub(super) const MAX_BYTES: usize = 8 * 1024 * 1024;

/// Reads a `ListBucketResult`; `None` if it is none, or broken.
pub(super) fn listing(text: &str) -> Option<Page> {
    let mut page = Page::default();
    let mut object = Entry::default();
    let (mut root, mut truncated, mut whole) = (false, false, true);
    leaves(text, |path, value| {
        root |= path.first().is_some_and(|name| name == "ListBucketResult");
        match path.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
            [_, "IsTruncated"] => truncated = value.trim() == "true",
            [_, "NextContinuationToken"] => page.next = Some(value),
            [_, "Contents", "Key"] => object.key = Some(value),
            [_, "Contents", "Size"] => object.size = value.trim().parse().ok(),
            [_, "Contents", "ETag"] => object.etag = Some(value),
            [_, "Contents"] => match std::mem::take(&mut object) {
                Entry { key: Some(key), size: Some(size), etag } => page.objects.push(Listed { key, size, etag }),
                Entry { .. } => whole = false,
            },
            _ => {}
        }
    })?;
    page.cut = truncated && page.next.is_none();
    page.next = page.next.filter(|_| truncated);
    (root && whole).then_some(page)
}

/// Reads `Code` and `Region` of an `Error`.
pub(super) fn error(text: &str) -> (Option<String>, Option<String>) {
    let (mut code, mut region) = (None, None);
    // What was read before the document broke still tells something.
    let _ = leaves(text, |path, value| match path.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["Error", "Code"] => code = word(&value),
        ["Error", "Region"] => region = word(&value),
        _ => {}
    });
    (code, region)
}

/// A word that may stand in an error: a server could put anything there.
pub(super) fn word(text: &str) -> Option<String> {
    let text = text.trim();
    let fits = !text.is_empty() && text.len() <= 64 && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
    fits.then(|| text.to_owned())
}

#[derive(Default)]
struct Entry {
    key: Option<String>,
    size: Option<u64>,
    etag: Option<String>,
}

/// Calls `seen` at the end of each element with the names that lead to it and its own text, kept to the byte.
fn leaves(text: &str, mut seen: impl FnMut(&[String], String)) -> Option<()> {
    const DEEPEST: usize = 16;
    let mut reader = Reader::from_str(text);
    let mut path: Vec<String> = Vec::new();
    let mut texts: Vec<String> = Vec::new();
    loop {
        match reader.read_event().ok()? {
            Event::Start(start) => {
                path.push(start.local_name().as_ref().to_string());
                texts.push(String::new());
                if path.len() > DEEPEST {
                    return None;
                }
            }
            Event::End(_) => {
                seen(&path, texts.pop()?);
                path.pop();
            }
            Event::Empty(start) => {
                path.push(start.local_name().as_ref().to_string());
                seen(&path, String::new());
                path.pop();
            }
            Event::Text(more) => push(&mut texts, &more),
            Event::CData(more) => push(&mut texts, &more),
            Event::GeneralRef(reference) => {
                let text = match reference.resolve_char_ref().ok()? {
                    Some(c) => c.to_string(),
                    None => quick_xml::escape::resolve_predefined_entity(&reference)?.to_owned(),
                };
                push(&mut texts, &text);
            }
            Event::Eof => return path.is_empty().then_some(()),
            Event::Comment(_) | Event::Decl(_) | Event::PI(_) | Event::DocType(_) => {}
        }
    }
}

fn push(texts: &mut [String], more: &str) {
    if let Some(text) = texts.last_mut() {
        text.push_str(more);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
        <ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>pub</Name><Prefix>a/</Prefix><IsTruncated>true</IsTruncated>
        <Contents><Key> a/x &amp; y&#x1;.bin </Key><ETag>&#34;0cc175b9c0f1b6a831c399e269772661&quot;</ETag><Size>12</Size></Contents>
        <Contents><ETag/><Key>a/z+1</Key><Size>0</Size><Owner><ID>1</ID></Owner></Contents>
        <NextContinuationToken>1/+=</NextContinuationToken></ListBucketResult>"#;

    #[test]
    fn a_listing_is_read_to_the_byte() {
        let page = listing(PAGE).unwrap();
        assert_eq!(page.next.as_deref(), Some("1/+="));
        assert_eq!(page.objects[0].key, " a/x & y\u{1}.bin ");
        assert_eq!(page.objects[0].etag.as_deref(), Some("\"0cc175b9c0f1b6a831c399e269772661\""));
        assert_eq!((page.objects[1].key.as_str(), page.objects[1].size), ("a/z+1", 0));
        assert!(!page.cut);
    }

    #[test]
    fn what_is_cut_short_or_no_listing_is_not_taken_for_one() {
        assert!(listing(&PAGE[..PAGE.len() - 30]).is_none());
        assert!(listing("<html><body>ListBucketResult</body></html>").is_none());
        assert!(listing("<ListAllMyBucketsResult></ListAllMyBucketsResult>").is_none());
        assert!(listing("").is_none() && listing("{}").is_none());
        assert!(listing(&"<a>".repeat(100_000)).is_none());
        assert!(listing(&PAGE.replace("<Size>12</Size>", "<Size>-1</Size>")).is_none(), "an object without a size was left out");
        let no_token = "<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>";
        assert!(listing(no_token).unwrap().cut);
    }

    #[test]
    fn an_error_yields_its_code_and_region_and_no_more() {
        let text = "<Error><Code>AuthorizationHeaderMalformed</Code><Message>m</Message><Region>eu-west-1</Region></Error>";
        assert_eq!(error(text), (Some("AuthorizationHeaderMalformed".into()), Some("eu-west-1".into())));
        assert_eq!(error("<Error><Code>no word, but \n a tale</Code></Error>"), (None, None));
        assert_eq!(error("<html>"), (None, None));
    }
}
