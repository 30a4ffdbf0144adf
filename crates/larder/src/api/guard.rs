//! Who may ask the API over TCP: whoever has the token, under a name of this machine.
//!
//! A page in a browser can send requests to loopback under a name that its server makes point here; the `Host` gives it away, and the `Origin` a
//! page of another site.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use larder_content::{ContentId, Secret};

use super::answer::Refusal;

/// What is asked of whoever comes over TCP.
#[derive(Clone)]
pub(super) struct Guard(Arc<ContentId>);

impl Guard {
    pub(super) fn new(token: &Secret) -> Self {
        Self(Arc::new(ContentId::of(token.expose().as_bytes())))
    }

    /// Whether the value of a header `Authorization` holds the token. Hashes are compared, so that time tells nothing of it.
    fn knows(&self, authorization: &[u8]) -> bool {
        let (scheme, token) = authorization.split_at_checked(7).unwrap_or_default();
        scheme.eq_ignore_ascii_case(b"bearer ") && ContentId::of(token.trim_ascii()) == *self.0
    }
}

/// Paths that tell nothing but whether the node is well.
const OPEN: [&str; 2] = ["/healthz", "/readyz"];

pub(super) async fn check(State(guard): State<Guard>, request: Request, next: Next) -> Response {
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    if !host.is_some_and(is_this_machine) {
        return Refusal::new(StatusCode::FORBIDDEN, "the Host must be localhost or a loopback address").into_response();
    }
    // A page of another site can post here, though it cannot read the answer.
    if request.headers().get(header::ORIGIN).is_some_and(|origin| !origin.to_str().is_ok_and(is_page_of_this_machine)) {
        return Refusal::new(StatusCode::FORBIDDEN, "the Origin must be a page of this machine").into_response();
    }
    let known = request.headers().get(header::AUTHORIZATION).is_some_and(|value| guard.knows(value.as_bytes()));
    if known || OPEN.contains(&request.uri().path()) {
        return next.run(request).await;
    }
    let message = "send the header `Authorization: Bearer TOKEN` with the token in the file api-token of the store's folder";
    let mut refusal = Refusal::new(StatusCode::UNAUTHORIZED, message).into_response();
    refusal.headers_mut().insert(header::WWW_AUTHENTICATE, header::HeaderValue::from_static("Bearer"));
    refusal
}

/// Whether an `Origin` is that of a page from this machine.
fn is_page_of_this_machine(origin: &str) -> bool {
    let host = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
    host.is_some_and(is_this_machine)
}

/// Whether a `Host` names this machine: `localhost` or a loopback address, with any port.
fn is_this_machine(host: &str) -> bool {
    let address = |text: &str| text.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    let port = |text: &str| text.is_empty() || text.strip_prefix(':').is_some_and(|port| port.parse::<u16>().is_ok());
    if let Some(rest) = host.strip_prefix('[') {
        return rest.split_once(']').is_some_and(|(inside, rest)| address(inside) && port(rest));
    }
    let end = host.find(':').unwrap_or(host.len());
    let (name, rest) = host.split_at(end);
    port(rest) && (name.eq_ignore_ascii_case("localhost") || address(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_this_machine_are_taken() {
        for own in ["localhost", "LocalHost:7070", "127.0.0.1", "127.9.9.9:1", "[::1]", "[::1]:7070"] {
            assert!(is_this_machine(own), "{own}");
        }
        for other in [
            "",
            ":80",
            "evil.example",
            "evil.example:7070",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "10.0.0.1",
            "[::2]:1",
            "[::1",
            "[::1]x",
            "localhost:80:80",
            "0.0.0.0:7070",
            "localhost:x",
        ] {
            assert!(!is_this_machine(other), "{other}");
        }
    }

    #[test]
    fn only_pages_of_this_machine_may_ask() {
        for own in ["http://localhost:3000", "https://127.0.0.1", "http://[::1]:7070"] {
            assert!(is_page_of_this_machine(own), "{own}");
        }
        for other in ["null", "", "https://evil.example", "http://localhost.evil.example", "file://", "localhost:3000"] {
            assert!(!is_page_of_this_machine(other), "{other}");
        }
    }

    #[test]
    fn only_the_token_itself_opens() {
        let guard = Guard::new(&Secret::new("the-token"));
        for right in ["Bearer the-token", "bearer the-token", "Bearer  the-token "] {
            assert!(guard.knows(right.as_bytes()), "{right}");
        }
        for wrong in ["", "Bearer", "Bearer ", "Bearer the-toke", "Bearer the-token-", "the-token", "Basic the-token", "ätherer the-token"]
        {
            assert!(!guard.knows(wrong.as_bytes()), "{wrong}");
        }
    }
}
