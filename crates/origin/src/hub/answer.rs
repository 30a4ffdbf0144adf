//! What the hub's answers mean.
//!
//! Source: the headers `X-Error-Code` and `X-Error-Message`, as huggingface_hub's `hf_raise_for_status` reads them.

use http::StatusCode;
use reqwest::Response;

use crate::OriginError;
use crate::error::plain;

/// The error that an answer other than success or redirect stands for.
pub(super) fn error(what: &str, response: &Response, with_token: bool) -> OriginError {
    let header = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let (code, message) = (header("x-error-code"), header("x-error-message"));
    let what = what.to_owned();
    let status = response.status();
    let said = format!("{} answered {status}", crate::http::host(response.url()));
    let passing = || OriginError::Unreachable { what: what.clone(), why: said.clone(), source: None };
    match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN if code == "GatedRepo" => {
            let why = if with_token {
                "the token's owner has no access: ask for it on the repository's page"
            } else {
                "give the token of an account that has access"
            };
            OriginError::Gated { what, why: why.into() }
        }
        StatusCode::NOT_FOUND => OriginError::Missing { what, why: plain(message) },
        StatusCode::UNAUTHORIZED if code == "RepoNotFound" => OriginError::Missing { what, why: plain(message) },
        StatusCode::UNAUTHORIZED if with_token => OriginError::Denied { what, why: "the hub does not accept the token".into() },
        StatusCode::UNAUTHORIZED => {
            OriginError::Denied { what, why: "it does not exist, or it is private and needs a token that may read it".into() }
        }
        StatusCode::FORBIDDEN => OriginError::Denied { what, why: plain(message) },
        StatusCode::TOO_MANY_REQUESTS => OriginError::Busy { what, after: crate::http::wait_asked(response.headers()) },
        StatusCode::SERVICE_UNAVAILABLE => match crate::http::wait_asked(response.headers()) {
            Some(after) => OriginError::Busy { what, after: Some(after) },
            None => passing(),
        },
        StatusCode::RANGE_NOT_SATISFIABLE => OriginError::Invalid { what, why: "it is shorter than it was listed".into() },
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY => passing(),
        _ if status.is_server_error() => passing(),
        _ => OriginError::Invalid { what, why: said },
    }
}
