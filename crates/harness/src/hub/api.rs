//! What the hub tells about repositories, in JSON.

use http::header::LINK;
use http::{Method, StatusCode};
use larder_content::HubKind;
use serde_json::{Map, Value, json};

use super::State;
use super::call::{Call, Viewer, encode, encode_path, form};
use super::commit::{Commit, File, Item};
use super::files::no_entry;
use super::repo::Guard;
use super::route::{Found, OPERATIONS, Refusal, error};
use crate::answer::Answer;

/// Entries of a page of the tree.
const PAGE: usize = 1000;
/// The same, when they are expanded.
const EXPANDED_PAGE: usize = 50;
/// When everything was made.
const MADE: &str = "2024-01-01T00:00:00.000Z";

impl State {
    /// Answers `/api/{kind}/{id}...`.
    pub(crate) fn api(&self, method: &Method, call: &Call, found: &Found, viewer: Viewer) -> Result<Answer, Refusal> {
        let rest: Vec<&str> = found.rest.iter().map(String::as_str).collect();
        let reads = *method == Method::GET || *method == Method::HEAD;
        match rest.as_slice() {
            [] if reads => self.info(call, found, "main"),
            ["revision", revision @ ..] if reads && !revision.is_empty() => self.info(call, found, &revision.join("/")),
            ["tree", revision, ..] if reads => {
                let skip = if *revision == "refs" && rest.len() > 3 { 4 } else { 2 };
                let commit = found.commit(&rest[1..skip].join("/"), true)?;
                self.tree(call, found, commit, rest[skip..].join("/").trim_end_matches('/'))
            }
            ["paths-info", revision @ ..] if *method == Method::POST => {
                let commit = found.commit(&revision.join("/"), true)?;
                self.paths_info(call, commit)
            }
            ["refs"] if reads => Ok(refs(found)),
            ["commits", revision @ ..] if reads => {
                let commit = found.commit(&revision.join("/"), true)?;
                let entry = json!({"id": commit.sha, "title": "Publish", "message": "", "authors": [], "date": MADE});
                Ok(Answer::json(StatusCode::OK, &json!([entry])))
            }
            ["auth-check"] if reads => {
                found.let_in(viewer, true)?;
                Ok(Answer::text(StatusCode::OK, "OK"))
            }
            [operation, ..] if OPERATIONS.contains(operation) => Err(error(StatusCode::NOT_FOUND, None, "Not found", true).into()),
            // What was taken for the rest may be the name of a repository that does not exist.
            _ if viewer == Viewer::Anonymous => Err(error(StatusCode::UNAUTHORIZED, None, "Invalid username or password.", true).into()),
            _ => Err(error(StatusCode::NOT_FOUND, Some("RepoNotFound"), "Repository not found", true).into()),
        }
    }

    fn info(&self, call: &Call, found: &Found, revision: &str) -> Result<Answer, Refusal> {
        let (repo, commit) = (&found.repo, found.commit(revision, true)?);
        let siblings: Vec<Value> = commit.files().map(|file| sibling(file, call.flag("blobs"))).collect();
        let mut info = Map::new();
        let mut tell = |key: &str, value: Value| info.insert(key.to_owned(), value);
        tell("_id", json!(repo.number()));
        tell("id", json!(repo.id));
        if repo.kind == HubKind::Model {
            tell("modelId", json!(repo.id));
        }
        tell("author", json!(repo.id.split_once('/').map(|(author, _)| author)));
        tell("private", json!(repo.guard == Guard::Private));
        tell("disabled", json!(false));
        tell("gated", if repo.guard == Guard::Gated { json!("auto") } else { json!(false) });
        tell("sha", json!(commit.sha));
        tell("lastModified", json!(MADE));
        tell("createdAt", json!(MADE));
        tell("tags", json!([]));
        tell("downloads", json!(0));
        tell("likes", json!(0));
        tell("siblings", Value::Array(siblings));
        let expand = call.parameters("expand");
        if !expand.is_empty() {
            info.retain(|key, _| ["_id", "id"].contains(&key.as_str()) || expand.contains(&key.as_str()));
        }
        Ok(Answer::json(StatusCode::OK, &Value::Object(info)).with("x-repo-commit", &commit.sha))
    }

    fn tree(&self, call: &Call, found: &Found, commit: &Commit, folder: &str) -> Result<Answer, Refusal> {
        let (recursive, expand) = (call.flag("recursive"), call.flag("expand"));
        let items = commit.below(folder, recursive).ok_or_else(|| no_entry(&commit.sha, true))?;
        let most = self.options.page_size.unwrap_or(if expand { EXPANDED_PAGE } else { PAGE });
        let limit = call.parameter("limit").and_then(|limit| limit.parse::<usize>().ok()).map_or(most, |limit| limit.clamp(1, most));
        let start = call.parameter("cursor").and_then(|cursor| cursor.parse::<usize>().ok()).unwrap_or(0).min(items.len());
        let end = items.len().min(start + limit);
        let page: Vec<Value> = items[start..end].iter().map(|item| self.entry(item, commit, expand)).collect();
        let answer = Answer::json(StatusCode::OK, &Value::Array(page)).with("x-repo-commit", &commit.sha);
        if end == items.len() {
            return Ok(answer);
        }
        let folder = if folder.is_empty() { String::new() } else { format!("/{}", encode_path(folder)) };
        let next = format!(
            "{}/api/{}/tree/{}{folder}?recursive={recursive}&expand={expand}&limit={limit}&cursor={end}",
            self.endpoint,
            found.repo.name(),
            encode(&commit.sha)
        );
        Ok(answer.with(LINK, &format!("<{next}>; rel=\"next\"")))
    }

    fn paths_info(&self, call: &Call, commit: &Commit) -> Result<Answer, Refusal> {
        let (paths, expand) = asked_paths(call).ok_or_else(|| error(StatusCode::BAD_REQUEST, None, "paths: expected a list", true))?;
        let known = paths.iter().filter_map(|path| commit.item(path.trim_end_matches('/')));
        let entries: Vec<Value> = known.map(|item| self.entry(item, commit, expand)).collect();
        Ok(Answer::json(StatusCode::OK, &Value::Array(entries)).with("x-repo-commit", &commit.sha))
    }

    /// A row of the tree.
    fn entry(&self, item: &Item, commit: &Commit, expand: bool) -> Value {
        let mut entry = match item {
            Item::Folder { path, oid } => json!({"type": "directory", "oid": oid, "size": 0, "path": path}),
            Item::File(file) => {
                let listed = &file.listed;
                let mut entry = json!({"type": "file", "oid": listed.git_oid, "size": listed.size, "path": file.path});
                if let Some(lfs) = &listed.lfs {
                    entry["lfs"] = json!({"oid": lfs.sha256, "size": listed.size, "pointerSize": lfs.pointer_bytes});
                    if self.options.xet {
                        entry["xetHash"] = json!(lfs.xet);
                    }
                }
                if expand {
                    let unscanned = json!({"status": "unscanned"});
                    entry["securityFileStatus"] = json!({"status": "unscanned", "avScan": unscanned, "pickleImportScan": unscanned});
                }
                entry
            }
        };
        if expand {
            entry["lastCommit"] = json!({"id": commit.sha, "title": "Publish", "date": MADE});
        }
        entry
    }
}

fn sibling(file: &File, blobs: bool) -> Value {
    let mut sibling = json!({"rfilename": file.path});
    if blobs {
        sibling["size"] = json!(file.listed.size);
        sibling["blobId"] = json!(file.listed.git_oid);
        if let Some(lfs) = &file.listed.lfs {
            sibling["lfs"] = json!({"sha256": lfs.sha256, "size": file.listed.size, "pointerSize": lfs.pointer_bytes});
        }
    }
    sibling
}

/// Branches are told from the rest by what they are called: `v1` and `1.0` are tags.
fn refs(found: &Found) -> Answer {
    let is_tag = |name: &str| name.trim_start_matches('v').starts_with(|c: char| c.is_ascii_digit());
    let (mut branches, mut tags, mut converts, mut requests) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for (name, commit) in &found.repo.revisions {
        let (list, full) = match name {
            _ if name.starts_with("refs/pr/") => (&mut requests, name.clone()),
            _ if name.starts_with("refs/convert/") => (&mut converts, name.clone()),
            _ if is_tag(name) => (&mut tags, format!("refs/tags/{name}")),
            _ => (&mut branches, format!("refs/heads/{name}")),
        };
        list.push(json!({"name": name.trim_start_matches("refs/convert/"), "ref": full, "targetCommit": commit.sha}));
    }
    Answer::json(StatusCode::OK, &json!({"branches": branches, "converts": converts, "tags": tags, "pullRequests": requests}))
}

/// The paths that are asked for, and whether they are to be expanded: a form, as Python sends it, or JSON.
fn asked_paths(call: &Call) -> Option<(Vec<String>, bool)> {
    if call.header("content-type").is_some_and(|kind| kind.starts_with("application/json")) {
        let body: Value = serde_json::from_slice(&call.body).ok()?;
        let paths = body.get("paths")?;
        let paths = match paths.as_str() {
            Some(path) => vec![path.to_owned()],
            None => serde_json::from_value(paths.clone()).ok()?,
        };
        return Some((paths, body.get("expand").and_then(Value::as_bool).unwrap_or(false)));
    }
    let pairs = form(&call.body);
    let expand = pairs.iter().any(|(key, value)| key == "expand" && value.eq_ignore_ascii_case("true"));
    Some((pairs.into_iter().filter(|(key, _)| key == "paths").map(|(_, value)| value).collect(), expand))
}
