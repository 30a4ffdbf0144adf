//! Pages of the API's answers: how large one may be, and the way to the next.
//!
//! Invariant: a listing is whole or an error. What says that there is more, and cannot be followed, is not passed over.

use http::HeaderMap;
use reqwest::Response;
use serde::de::DeserializeOwned;
use url::Url;

use crate::OriginError;
use crate::error::plain;

/// The most pages of one listing: a million files, fifty to a page.
pub(super) const MAX_PAGES: usize = 20_000;
/// The most bytes of one page: a thousand entries take some 300 kB.
const MAX_PAGE_BYTES: usize = 16 * 1024 * 1024;

/// The address of the page after `page`, from its `Link` headers: `<…>; rel="next"`.
pub(super) fn next(what: &str, page: &Url, headers: &HeaderMap) -> Result<Option<Url>, OriginError> {
    let invalid = |why: String| OriginError::Invalid { what: what.to_owned(), why };
    let unreadable = || invalid("the address of its next page cannot be read".into());
    let mut next = None;
    for header in headers.get_all(http::header::LINK) {
        let header = std::str::from_utf8(header.as_bytes()).map_err(|_| unreadable())?;
        let links = links(header).ok_or_else(unreadable)?;
        next = next.or(links.into_iter().find(|link| link.is_next).map(|link| link.address));
    }
    let Some(next) = next else { return Ok(None) };
    let next = page.join(next).map_err(|_| unreadable())?;
    if next.origin() != page.origin() {
        let [here, there] = [page, &next].map(|url| plain(&url.origin().ascii_serialization()));
        return Err(invalid(format!(
            "its next page is said to be at {there}, but {here} was asked: a mirror must name itself in its links"
        )));
    }
    if next == *page {
        return Err(invalid("a page names itself as the next".into()));
    }
    Ok(Some(next))
}

/// One link of a `Link` header.
struct Link<'a> {
    address: &'a str,
    is_next: bool,
}

/// The links of a header; `None` if it is not written as it should be.
///
/// Source: RFC 8288 §3. A comma or semicolon may stand in an address, and in a quoted value.
fn links(header: &str) -> Option<Vec<Link<'_>>> {
    let mut links = Vec::new();
    let mut rest = header.trim_start_matches(is_gap);
    while !rest.is_empty() {
        let (address, parameters) = rest.strip_prefix('<')?.split_once('>')?;
        let (relation, after) = relation(parameters)?;
        let is_next = relation.is_some_and(|types| types.split_ascii_whitespace().any(|name| name.eq_ignore_ascii_case("next")));
        links.push(Link { address, is_next });
        rest = after.trim_start_matches(is_gap);
    }
    Some(links)
}

fn is_gap(c: char) -> bool {
    matches!(c, ' ' | '\t' | ',')
}

/// The first `rel` among a link's parameters, and what follows the last of them.
fn relation(mut rest: &str) -> Option<(Option<&str>, &str)> {
    let mut relation = None;
    loop {
        rest = rest.trim_start();
        if rest.is_empty() || rest.starts_with(',') {
            return Some((relation, rest));
        }
        rest = rest.strip_prefix(';')?;
        let (name, after) = rest.split_at(rest.find(['=', ';', ',']).unwrap_or(rest.len()));
        rest = after;
        if let Some(after) = rest.strip_prefix('=') {
            let (value, after) = value(after.trim_start())?;
            rest = after;
            if name.trim().eq_ignore_ascii_case("rel") {
                relation = relation.or(Some(value));
            }
        }
    }
}

/// A parameter's value, quoted or not, and what follows it.
fn value(text: &str) -> Option<(&str, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        return Some(text.split_at(text.find([';', ',']).unwrap_or(text.len())));
    };
    let mut escaped = false;
    let end = quoted.find(|c| {
        let ends = c == '"' && !escaped;
        escaped = c == '\\' && !escaped;
        ends
    })?;
    Some((&quoted[..end], &quoted[end + 1..]))
}

/// A JSON body of bounded size.
pub(super) async fn json<T: DeserializeOwned>(what: &str, mut answer: Response) -> Result<T, OriginError> {
    let mut body = Vec::new();
    while let Some(part) = answer.chunk().await.map_err(|error| crate::http::unreachable(what, error))? {
        body.extend_from_slice(&part);
        if body.len() > MAX_PAGE_BYTES {
            return Err(OriginError::Invalid { what: what.to_owned(), why: format!("a page of over {MAX_PAGE_BYTES} bytes") });
        }
    }
    parse(what, &body)
}

/// Reads the JSON of a body.
pub(super) fn parse<T: DeserializeOwned>(what: &str, body: &[u8]) -> Result<T, OriginError> {
    let invalid = |error: serde_json::Error| OriginError::Invalid { what: what.to_owned(), why: plain(&format!("its JSON: {error}")) };
    serde_json::from_slice(body).map_err(invalid)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    const PAGE: &str = "https://hub/api/tree?cursor=a";

    fn after(headers: &[&[u8]]) -> Result<Option<String>, String> {
        let headers = headers.iter().map(|value| (http::header::LINK, HeaderValue::from_bytes(value).unwrap())).collect();
        match next("x", &Url::parse(PAGE).unwrap(), &headers) {
            Ok(url) => Ok(url.map(String::from)),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn the_next_page_is_found_however_its_link_is_written() {
        for header in [
            "<https://hub/p?cursor=x,y;z>; rel=\"next\"",
            "</p?cursor=x,y;z>;rel=next",
            "</p?cursor=x,y;z> ; REL = \"prev Next\"",
            "</q>; rel=\"first\"; title=\"a, \\\"b\\\"; rel=next <c>\", </p?cursor=x,y;z>; crossorigin; rel=next; rel=prev",
            ",, </q>, </p?cursor=x,y;z>; title=\"\"; rel=\"next\",",
        ] {
            assert_eq!(after(&[header.as_bytes()]), Ok(Some("https://hub/p?cursor=x,y;z".into())), "{header}");
        }
        assert_eq!(after(&[b"</q>; rel=prev", "</p?c=é>; rel=next".as_bytes()]), Ok(Some("https://hub/p?c=%C3%A9".into())));
    }

    #[test]
    fn a_link_to_something_else_is_not_the_next_page() {
        for header in ["", "</p>", "</p>; rel=prev", "</p>; rel=prev; rel=next", "</p>; rel=\"nextone\"", "</p>; title=\"; rel=next\""] {
            assert_eq!(after(&[header.as_bytes()]), Ok(None), "{header}");
        }
        assert_eq!(after(&[]), Ok(None));
    }

    #[test]
    fn a_link_that_cannot_be_read_or_followed_is_an_error_and_no_end() {
        for header in ["https://hub/p; rel=next", "</p; rel=next", "</p>; rel=\"next", "</p> rel=next", "<https://[>; rel=next"] {
            assert!(after(&[header.as_bytes()]).unwrap_err().contains("cannot be read"), "{header}");
        }
        assert!(after(&[b"</p?c=\xff>; rel=next"]).unwrap_err().contains("cannot be read"));
        assert!(after(&[format!("<{PAGE}>; rel=next").as_bytes()]).unwrap_err().contains("names itself"));
        for header in ["<https://original.hub/p>; rel=next", "<http://hub/p>; rel=next", "<https://hub:8443/p>; rel=next"] {
            assert!(after(&[header.as_bytes()]).unwrap_err().contains("mirror"), "{header}");
        }
    }
}
