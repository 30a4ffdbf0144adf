//! Which answer a request gets: the repository it means, and whether its sender may have it.

use std::sync::Arc;

use http::header::{LOCATION, WWW_AUTHENTICATE};
use http::{Method, StatusCode};
use serde_json::json;

use super::State;
use super::call::{Call, Viewer};
use super::commit::Commit;
use super::repo::{Guard, Published};
use crate::answer::Answer;

/// What a repository is asked for.
pub(crate) const OPERATIONS: &[&str] = &["revision", "tree", "paths-info", "refs", "commits", "auth-check", "resolve", "xet-read-token"];

/// The answer to a request that is not granted.
pub(crate) type Refusal = Box<Answer>;

/// The repository that a path means.
pub(crate) struct Found {
    pub(crate) repo: Arc<Published>,
    /// The segments after its id.
    pub(crate) rest: Vec<String>,
}

impl State {
    /// Answers a request to the hub's own host.
    pub(crate) fn answer(&self, method: &Method, call: &Call) -> Answer {
        let mut answer = match self.viewer(call) {
            Ok(viewer) => self.route(method, call, viewer).unwrap_or_else(|refusal| *refusal),
            Err(refusal) => *refusal,
        };
        let bucket = if call.segments.iter().any(|segment| segment == "resolve") { "resolvers" } else { "api" };
        answer.header("ratelimit", &format!("\"{bucket}\";r=499999;t=295"));
        answer.header("ratelimit-policy", &format!("\"fixed window\";\"{bucket}\";q=500000;w=300"));
        answer.header("access-control-expose-headers", "X-Repo-Commit,X-Request-Id,X-Error-Code,X-Error-Message,ETag,Link,X-Linked-Size");
        answer
    }

    fn route(&self, method: &Method, call: &Call, viewer: Viewer) -> Result<Answer, Refusal> {
        let segments: Vec<&str> = call.segments.iter().map(String::as_str).collect();
        let reads = method == Method::GET || method == Method::HEAD;
        match segments.as_slice() {
            ["api", "whoami-v2"] if viewer == Viewer::Anonymous => Err(bare_denial(true).into()),
            ["api", "whoami-v2"] => Ok(Answer::json(StatusCode::OK, &json!({"type": "user", "id": "0", "name": "harness", "orgs": []}))),
            ["api", "resolve-cache", kind @ ("models" | "datasets" | "spaces"), ..] if reads => {
                let found = self.find(call, kind, 3, viewer)?;
                self.resolve_cache(call, &found, viewer)
            }
            ["api", kind @ ("models" | "datasets" | "spaces"), _, ..] => {
                let found = self.find(call, kind, 2, viewer)?;
                self.api(method, call, &found, viewer)
            }
            ["api", ..] => Err(error(StatusCode::NOT_FOUND, None, "Sorry, we can't find the page you are looking for.", true).into()),
            [kind @ ("datasets" | "spaces"), _, ..] if reads => {
                let found = self.find(call, kind, 1, viewer)?;
                self.resolve(call, &found, viewer)
            }
            [_, _, ..] if reads => {
                let found = self.find(call, "models", 0, viewer)?;
                self.resolve(call, &found, viewer)
            }
            _ => Err(error(StatusCode::NOT_FOUND, None, "Sorry, we can't find the page you are looking for.", false).into()),
        }
    }

    fn viewer(&self, call: &Call) -> Result<Viewer, Refusal> {
        let Some(header) = call.header("authorization") else { return Ok(Viewer::Anonymous) };
        let token = header.strip_prefix("Bearer ").unwrap_or(header);
        let among = |tokens: &[String]| tokens.iter().any(|known| known == token);
        if among(&self.options.readers) {
            return Ok(Viewer::Reader);
        }
        if among(&self.options.strangers) {
            return Ok(Viewer::Stranger);
        }
        Err(error(StatusCode::UNAUTHORIZED, None, "Invalid credentials in Authorization header", is_api(call)).into())
    }

    /// The repository whose id begins at segment `start`, if `viewer` may know of it.
    fn find(&self, call: &Call, kind: &str, start: usize, viewer: Viewer) -> Result<Found, Refusal> {
        let rest = &call.segments[start..];
        for count in [2, 1] {
            let Some(id) = rest.get(..count).map(|id| id.join("/")) else { continue };
            let name = format!("{kind}/{id}");
            if let Some(repo) = self.repo(&name) {
                let missing = repo.guard == Guard::Private && viewer != Viewer::Reader;
                if missing {
                    break;
                }
                if repo.disabled {
                    return Err(error(StatusCode::FORBIDDEN, None, "Access to this resource is disabled.", is_api(call)).into());
                }
                return Ok(Found { repo, rest: rest[count..].to_vec() });
            }
            if let Some(successor) = self.successor(&name) {
                let place = call.moved(start, count, &successor.id);
                let message = format!("Temporary Redirect. Redirecting to {place}");
                return Err(Answer::text(StatusCode::TEMPORARY_REDIRECT, message).with(LOCATION, &place).into());
            }
        }
        if viewer == Viewer::Anonymous {
            return Err(bare_denial(is_api(call)).into());
        }
        Err(error(StatusCode::NOT_FOUND, Some("RepoNotFound"), "Repository not found", is_api(call)).into())
    }
}

impl Found {
    /// Whether `viewer` may read the files.
    pub(crate) fn let_in(&self, viewer: Viewer, api: bool) -> Result<(), Refusal> {
        if self.repo.guard != Guard::Gated || viewer == Viewer::Reader {
            return Ok(());
        }
        let id = &self.repo.id;
        if viewer == Viewer::Stranger {
            let message =
                format!("Access to model {id} is restricted and you are not in the authorized list. Visit its page to ask for access.");
            return Err(error(StatusCode::FORBIDDEN, Some("GatedRepo"), &message, api).into());
        }
        let message =
            format!("Access to model {id} is restricted. You must have access to it and be authenticated to access it. Please log in.");
        Err(error(StatusCode::UNAUTHORIZED, Some("GatedRepo"), &message, api)
            .with(WWW_AUTHENTICATE, "Bearer realm=\"Authentication required\", charset=\"UTF-8\"")
            .into())
    }

    /// The commit of a revision.
    pub(crate) fn commit(&self, revision: &str, api: bool) -> Result<&Arc<Commit>, Refusal> {
        let missing = || error(StatusCode::NOT_FOUND, Some("RevisionNotFound"), &format!("Invalid rev id: {revision}"), api);
        self.repo.commit(revision).ok_or_else(|| missing().into())
    }
}

/// What the hub answers where a login might help: no code says whether the repository exists.
fn bare_denial(api: bool) -> Answer {
    error(StatusCode::UNAUTHORIZED, None, "Invalid username or password.", api)
}

fn is_api(call: &Call) -> bool {
    call.segments.first().is_some_and(|segment| segment == "api")
}

/// An error as the hub puts it: in headers, and for the API in JSON.
pub(crate) fn error(status: StatusCode, code: Option<&str>, message: &str, api: bool) -> Answer {
    let mut answer = match api {
        true => Answer::json(status, &json!({"error": message})),
        false => Answer::text(status, message.to_owned()),
    };
    answer.header("x-error-message", message);
    if let Some(code) = code {
        answer.header("x-error-code", code);
    }
    answer
}
