//! The files themselves: where they are asked for, where small ones lie, and the CDN where large ones lie.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::header::{CONTENT_DISPOSITION, ETAG, IF_NONE_MATCH, LAST_MODIFIED, LINK, LOCATION, VARY};
use http::{Method, StatusCode};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::State;
use super::call::{Call, Viewer, encode, encode_path};
use super::commit::{Commit, File, Lfs};
use super::repo::Published;
use super::route::{Found, Refusal, error};
use crate::answer::Answer;

/// What the CDN's URLs are signed with. It keeps tests honest, nothing else.
const SIGNING_KEY: &str = "larder-harness";
/// When everything was made.
const MODIFIED: &str = "Mon, 01 Jan 2024 00:00:00 GMT";

/// What a signed URL opens.
#[derive(Debug, Serialize, Deserialize)]
struct Policy {
    repo: String,
    commit: String,
    path: String,
    expires: u64,
}

impl State {
    /// Answers `/{id}/resolve/{revision}/{path}`.
    pub(crate) fn resolve(&self, call: &Call, found: &Found, viewer: Viewer) -> Result<Answer, Refusal> {
        let nothing = || error(StatusCode::NOT_FOUND, None, "Sorry, we can't find the page you are looking for.", false);
        let Some(("resolve", rest)) = found.rest.split_first().map(|(first, rest)| (first.as_str(), rest)) else {
            return Err(nothing().into());
        };
        let (revision, path) = split_revision(rest).ok_or_else(nothing)?;
        found.let_in(viewer, false)?;
        let commit = found.commit(&revision, false)?;
        let file = commit.file(&path).ok_or_else(|| no_entry(&commit.sha, false))?;
        let answer = match &file.listed.lfs {
            Some(lfs) => self.to_cdn(call, &found.repo, commit, file, lfs),
            None if self.options.direct => small(call, commit, file),
            None => to_cache(call, &found.repo, commit, file),
        };
        Ok(answer.about(format!("{}/{path}", found.repo.name())))
    }

    /// Answers `/api/resolve-cache/{kind}/{id}/{commit}/{path}`.
    pub(crate) fn resolve_cache(&self, call: &Call, found: &Found, viewer: Viewer) -> Result<Answer, Refusal> {
        let (revision, path) = split_revision(&found.rest).ok_or_else(|| error(StatusCode::NOT_FOUND, None, "Not found", true))?;
        found.let_in(viewer, true)?;
        let commit = found.commit(&revision, true)?;
        let file = commit.file(&path).filter(|file| file.facts.lfs.is_none()).ok_or_else(|| no_entry(&commit.sha, true))?;
        Ok(small(call, commit, file).about(format!("{}/{path}", found.repo.name())))
    }

    fn to_cdn(&self, call: &Call, repo: &Published, commit: &Commit, file: &File, lfs: &Lfs) -> Answer {
        let etag = format!("\"{}\"", lfs.sha256);
        let expires = seconds_now() + self.options.url_seconds;
        let policy = Policy { repo: repo.name(), commit: commit.sha.clone(), path: file.path.clone(), expires };
        let policy = URL_SAFE_NO_PAD.encode(serde_json::to_vec(&policy).unwrap_or_default());
        let hash = if self.options.xet { &lfs.xet } else { &lfs.sha256 };
        let disposition = encode(&disposition(file));
        let place = format!(
            "{}/xet-bridge-us/{}/{hash}?response-content-disposition={disposition}&Expires={expires}&Policy={policy}&Signature={}&Key-Pair-Id=K0",
            self.cdn_endpoint,
            repo.number(),
            sign(&policy)
        );
        let mut answer = match matches_etag(call, &etag) {
            true => Answer::text(StatusCode::NOT_MODIFIED, ""),
            false => Answer::text(StatusCode::FOUND, format!("Found. Redirecting to {place}")).with(LOCATION, &place),
        };
        answer.header("x-repo-commit", &commit.sha);
        answer.header("x-linked-size", &file.listed.size.to_string());
        answer.header("x-linked-etag", &etag);
        answer.header("accept-ranges", "bytes");
        answer.header(VARY, "Origin, Accept");
        if self.options.xet {
            let (hash, endpoint) = (&lfs.xet, &self.endpoint);
            let token = format!("{endpoint}/api/{}/xet-read-token/{}", repo.name(), commit.sha);
            answer.header("x-xet-hash", hash);
            answer.header(
                LINK,
                &format!("<{token}>; rel=\"xet-auth\", <{endpoint}/v1/reconstructions/{hash}>; rel=\"xet-reconstruction-info\""),
            );
        }
        answer
    }

    /// Answers a request to the CDN.
    pub(crate) fn answer_cdn(&self, method: &Method, call: &Call) -> Answer {
        if call.header("authorization").is_some() {
            return Answer::xml_error(StatusCode::BAD_REQUEST, "InvalidArgument: only one way to sign in at a time");
        }
        let allowed = *method == Method::GET || *method == Method::HEAD;
        let Some(policy) = self.policy(call).filter(|_| allowed) else {
            return Answer::xml_error(StatusCode::FORBIDDEN, "AccessDenied");
        };
        let name = format!("{}/{}", policy.repo, policy.path);
        if policy.expires <= seconds_now() {
            return Answer::xml_error(StatusCode::FORBIDDEN, "AccessDenied").about(name);
        }
        let commit = self.repo(&policy.repo).and_then(|repo| repo.commits.get(&policy.commit).cloned());
        let Some((file, lfs)) =
            commit.as_ref().and_then(|commit| commit.file(&policy.path)).and_then(|file| Some((file, file.facts.lfs.as_ref()?)))
        else {
            return Answer::xml_error(StatusCode::NOT_FOUND, "NoSuchKey").about(name);
        };
        // An opaque value: what the CDN calls its objects is not the sha256 of their bytes.
        let etag = if self.options.xet {
            format!("\"{}\"", lfs.xet)
        } else {
            format!("\"{}-2\"", &hex::encode(Sha256::digest(&lfs.sha256))[..32])
        };
        let range = call.header("range").filter(|_| *method == Method::GET && call.header("if-range").is_none_or(|known| known == etag));
        let answer = match matches_etag(call, &etag) {
            true => Answer::text(StatusCode::NOT_MODIFIED, ""),
            false => Answer::content(&file.source, file.bytes, range),
        };
        answer.with(ETAG, &etag).with(LAST_MODIFIED, MODIFIED).with(CONTENT_DISPOSITION, &disposition(file)).about(name)
    }

    /// What the URL opens, if it is one that was signed here.
    fn policy(&self, call: &Call) -> Option<Policy> {
        let policy = call.parameter("Policy")?;
        let bytes = URL_SAFE_NO_PAD.decode(policy).ok().filter(|_| call.parameter("Signature") == Some(sign(policy).as_str()))?;
        serde_json::from_slice(&bytes).ok()
    }
}

/// A revision and the path after it. The revision may be one encoded segment, or `refs/pr/N` as it is.
pub(crate) fn split_revision(segments: &[String]) -> Option<(String, String)> {
    let refs = segments.first().is_some_and(|first| first == "refs") && segments.len() > 3;
    let (revision, path) = segments.split_at_checked(if refs { 3 } else { 1 })?;
    (!path.is_empty()).then(|| (revision.join("/"), path.join("/")))
}

/// There is no such file in the commit.
pub(crate) fn no_entry(commit: &str, api: bool) -> Answer {
    error(StatusCode::NOT_FOUND, Some("EntryNotFound"), "Entry not found", api).with("x-repo-commit", commit)
}

/// A redirect to where a small file lies.
fn to_cache(call: &Call, repo: &Published, commit: &Commit, file: &File) -> Answer {
    let etag = format!("\"{}\"", file.listed.git_oid);
    let asked = encode(&format!("/{}", call.segments.join("/")));
    let path = encode(&file.path);
    let place = format!("/api/resolve-cache/{}/{}/{path}?{asked}=&etag={}", repo.name(), commit.sha, encode(&etag));
    let answer = match matches_etag(call, &etag) {
        true => Answer::text(StatusCode::NOT_MODIFIED, "").with(ETAG, &etag),
        false => {
            let text = format!("Temporary Redirect. Redirecting to {place}");
            Answer::text(StatusCode::TEMPORARY_REDIRECT, text).with(LOCATION, &place)
        }
    };
    answer.with("x-repo-commit", &commit.sha).with(VARY, "Origin, Accept")
}

/// A small file.
fn small(call: &Call, commit: &Commit, file: &File) -> Answer {
    let etag = format!("\"{}\"", file.listed.git_oid);
    let answer = match matches_etag(call, &etag) {
        true => Answer::text(StatusCode::NOT_MODIFIED, ""),
        false => Answer::content(&file.source, file.bytes, call.header("range")).with("content-type", "text/plain; charset=utf-8"),
    };
    answer.with(ETAG, &etag).with("x-repo-commit", &commit.sha).with(CONTENT_DISPOSITION, &disposition(file)).with(VARY, "Origin")
}

fn matches_etag(call: &Call, etag: &str) -> bool {
    call.header(IF_NONE_MATCH.as_str()).is_some_and(|known| known.split(',').any(|one| one.trim().trim_start_matches("W/") == etag))
}

fn disposition(file: &File) -> String {
    let name = file.path.rsplit('/').next().unwrap_or(&file.path);
    let plain: String = name.chars().map(|c| if c.is_ascii_graphic() && !matches!(c, '"' | '\\') { c } else { '_' }).collect();
    format!("inline; filename*=UTF-8''{}; filename=\"{plain}\";", encode_path(name))
}

fn sign(policy: &str) -> String {
    hex::encode(Sha256::digest(format!("{SIGNING_KEY}\n{policy}")))
}

fn seconds_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
