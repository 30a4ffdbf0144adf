//! The hub's API: revisions, trees, and what it says of single paths.

use http::Method;
use larder_content::{HubResource, Locator, OriginDigest, OriginFile, RelativePath, Secret};
use reqwest::Response;
use serde::Deserialize;
use url::Url;

use super::Hub;
use super::page::{self, json};
use crate::error::plain;
use crate::retry::retried;
use crate::{Access, OriginError};

/// The most redirects that are followed for one request.
pub(super) const MAX_REDIRECTS: usize = 5;
/// How many paths are asked about in one request.
const PATHS_PER_REQUEST: usize = 200;

#[derive(Deserialize)]
struct RevisionAnswer {
    sha: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct EntryAnswer {
    #[serde(rename = "type")]
    kind: String,
    path: String,
    #[serde(default)]
    size: u64,
    #[serde(default)]
    oid: String,
    lfs: Option<LfsAnswer>,
    xet_hash: Option<String>,
}

#[derive(Deserialize)]
struct LfsAnswer {
    oid: String,
    size: u64,
}

impl Hub {
    /// The commit that `revision` stands for, and how the repository's metadata can be read.
    pub(super) async fn commit(&self, resource: &HubResource, revision: &str) -> Result<(String, Access), OriginError> {
        let url = self.api_url(resource, ["revision", revision]);
        let what = Self::name(resource, revision);
        let (answer, access) =
            self.first_page(resource, &what, Access::Anonymous, |access| self.get(resource, &what, &url, access)).await?;
        let answer: RevisionAnswer = json(&what, answer).await?;
        if !super::is_commit(&answer.sha) {
            return Err(OriginError::Invalid { what, why: "its commit is not 40 hex digits".into() });
        }
        Ok((answer.sha, access))
    }

    /// All files at `commit`, and how they could be listed.
    pub(super) async fn tree(
        &self,
        resource: &HubResource,
        commit: &str,
        access: Access,
    ) -> Result<(Vec<OriginFile>, Access), OriginError> {
        let mut url = self.api_url(resource, ["tree", commit]);
        url.query_pairs_mut().append_pair("recursive", "true").append_pair("expand", "false");
        let what = Self::name(resource, commit);
        let (mut page, access) = self.first_page(resource, &what, access, |access| self.get(resource, &what, &url, access)).await?;
        let mut files = Vec::new();
        for _ in 0..self.limits.pages {
            let next = page::next(&what, page.url(), page.headers())?;
            self.add(&mut files, resource, commit, json(&what, page).await?)?;
            let Some(next) = next else { return Ok((files, access)) };
            page = retried(|| self.get(resource, &what, &next, access)).await?;
        }
        Err(OriginError::Invalid { what, why: format!("its list has more than {} pages", self.limits.pages) })
    }

    /// The files at `commit` that `resource` names, and how they could be listed.
    pub(super) async fn paths_info(
        &self,
        resource: &HubResource,
        commit: &str,
        mut access: Access,
    ) -> Result<(Vec<OriginFile>, Access), OriginError> {
        let url = self.api_url(resource, ["paths-info", commit]);
        let what = Self::name(resource, commit);
        let mut files = Vec::new();
        for paths in resource.files.chunks(PATHS_PER_REQUEST) {
            let pairs = paths.iter().map(|path| ("paths", path.as_str())).chain([("expand", "false")]);
            let form = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish();
            let answer = self.first_page(resource, &what, access, |access| self.post(resource, &what, &url, &form, access)).await?;
            access = answer.1;
            self.add(&mut files, resource, commit, json(&what, answer.0).await?)?;
        }
        Ok((files, access))
    }

    /// Makes a request without the token; with it where there is one and the hub denies the first, or is too busy for
    /// those without.
    async fn first_page<F>(
        &self,
        resource: &HubResource,
        what: &str,
        access: Access,
        request: impl Fn(Access) -> F,
    ) -> Result<(Response, Access), OriginError>
    where
        F: Future<Output = Result<Response, OriginError>>,
    {
        if access == Access::Credentials || self.given_token(resource).is_none() {
            return Ok((retried(|| request(access)).await?, access));
        }
        // What the token may help with is not waited out first.
        let anonymous = retried(|| async {
            match request(Access::Anonymous).await {
                Ok(answer) => Ok(Some(answer)),
                Err(error) if token_may_help(&error) => Ok(None),
                Err(error) => Err(error),
            }
        });
        if let Some(answer) = anonymous.await? {
            return Ok((answer, Access::Anonymous));
        }
        tracing::debug!(resource = what, "not to be listed without the token");
        Ok((retried(|| request(Access::Credentials)).await?, Access::Credentials))
    }

    async fn get(&self, resource: &HubResource, what: &str, url: &Url, access: Access) -> Result<Response, OriginError> {
        self.follow(resource, what, url, access, |url| self.client.request(what, Method::GET, url)).await
    }

    async fn post(&self, resource: &HubResource, what: &str, url: &Url, form: &str, access: Access) -> Result<Response, OriginError> {
        let request = |url| {
            let request = self.client.request(what, Method::POST, url)?;
            Ok(request.header(http::header::CONTENT_TYPE, "application/x-www-form-urlencoded").body(form.to_owned()))
        };
        self.follow(resource, what, url, access, request).await
    }

    /// Makes a request of the API and follows its redirects: renamed repositories have them.
    async fn follow(
        &self,
        resource: &HubResource,
        what: &str,
        url: &Url,
        access: Access,
        request: impl Fn(Url) -> Result<reqwest::RequestBuilder, OriginError>,
    ) -> Result<Response, OriginError> {
        let mut url = url.clone();
        let token = if access == Access::Credentials { self.token(resource)? } else { None };
        for _ in 0..=MAX_REDIRECTS {
            let request = self.with_token(request(url.clone())?, &url, token);
            let answer = request.send().await.map_err(|error| crate::http::unreachable(what, error))?;
            if answer.status().is_success() {
                return Ok(answer);
            }
            if !answer.status().is_redirection() {
                return Err(super::answer::error(what, &answer, token.is_some()));
            }
            url = location(what, &url, &answer)?;
        }
        Err(OriginError::Invalid { what: what.to_owned(), why: "it redirects in circles".into() })
    }

    /// Adds the token, if `url` is of the hub itself.
    pub(super) fn with_token(&self, request: reqwest::RequestBuilder, url: &Url, token: Option<&Secret>) -> reqwest::RequestBuilder {
        match token {
            Some(token) if url.origin() == self.endpoint.origin() => request.bearer_auth(token.expose().trim()),
            Some(_) | None => request,
        }
    }

    fn api_url<const N: usize>(&self, resource: &HubResource, rest: [&str; N]) -> Url {
        self.url(["api", resource.kind.plural()].into_iter().chain(resource.repo.as_str().split('/')).chain(rest))
    }

    /// Adds the files of a page to those listed before.
    fn add(&self, files: &mut Vec<OriginFile>, resource: &HubResource, commit: &str, page: Vec<EntryAnswer>) -> Result<(), OriginError> {
        for entry in page {
            files.extend(self.file(resource, commit, entry)?);
        }
        if files.len() > self.limits.files {
            let why = format!("it lists more than {} files", self.limits.files);
            return Err(OriginError::Invalid { what: Self::name(resource, commit), why });
        }
        Ok(())
    }

    /// The files of a page's JSON, or the commit of a revision's, for a fuzzer.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(super) fn read(&self, resource: &HubResource, commit: &str, json: &[u8]) -> (Result<Vec<OriginFile>, OriginError>, Option<String>) {
        let mut files = Vec::new();
        let read = page::parse("page", json).and_then(|page| self.add(&mut files, resource, commit, page)).map(|()| files);
        (read, page::parse::<RevisionAnswer>("revision", json).ok().map(|answer| answer.sha).filter(|sha| super::is_commit(sha)))
    }

    /// An entry of a tree as a file; `None` for a folder.
    fn file(&self, resource: &HubResource, commit: &str, entry: EntryAnswer) -> Result<Option<OriginFile>, OriginError> {
        let invalid = |why: String| OriginError::Invalid { what: Self::name(resource, commit), why };
        if entry.kind != "file" {
            return Ok(None);
        }
        let path = RelativePath::new(entry.path).map_err(|error| invalid(error.to_string()))?;
        let mut digests = Vec::new();
        let parsed =
            |digest: Result<OriginDigest, larder_content::ParseDigestError>| digest.map_err(|error| invalid(format!("{path}: {error}")));
        match &entry.lfs {
            Some(lfs) if lfs.size != entry.size => {
                let path = plain(path.as_str());
                return Err(invalid(format!("{path} is listed with {} bytes and with {}", entry.size, lfs.size)));
            }
            Some(lfs) => digests.push(parsed(OriginDigest::sha256(&lfs.oid))?),
            None => digests.push(parsed(OriginDigest::git_sha1(&entry.oid))?),
        }
        if let Some(xet) = &entry.xet_hash {
            digests.push(parsed(OriginDigest::xet(xet))?);
        }
        let locator = Locator {
            endpoint: self.endpoint_text().to_owned(),
            container: format!("{}/{}", resource.kind.plural(), resource.repo),
            path: path.to_string(),
            version: commit.to_owned(),
        };
        Ok(Some(OriginFile { path, size: entry.size, digests, locator }))
    }
}

/// Whether the same request may succeed at once with a token.
fn token_may_help(error: &OriginError) -> bool {
    matches!(error, OriginError::Denied { .. } | OriginError::Gated { .. } | OriginError::Missing { .. } | OriginError::Busy { .. })
}

/// Where an answer redirects to. Never from https to http.
pub(super) fn location(what: &str, from: &Url, answer: &Response) -> Result<Url, OriginError> {
    let invalid = |why: &str| OriginError::Invalid { what: what.to_owned(), why: why.into() };
    let location = answer.headers().get(http::header::LOCATION).and_then(|value| value.to_str().ok());
    let location = location.ok_or_else(|| invalid("a redirect that does not say where to"))?;
    let url = from.join(location).map_err(|_| invalid("a redirect to what is no address"))?;
    match (from.scheme(), url.scheme()) {
        (_, "https") | ("http", "http") => Ok(url),
        (_, _) => Err(invalid("a redirect away from https")),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Read, Write};
    use std::net::TcpListener;

    use larder_content::{HubKind, RepoId};
    use serde_json::json;

    use super::*;
    use crate::HubConfig;
    use crate::hub::Limits;

    /// A hub, each page of whose lists has three files that no other had, and leads to one more.
    fn endless() -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let answer = move |number: usize| {
            let (mut connection, _) = listener.accept()?;
            let mut request = BufReader::new(connection.try_clone()?);
            let head = request.by_ref().lines().map_while(Result::ok).take_while(|line| !line.is_empty());
            let sizes = head.filter_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse::<u64>().ok());
            let size = sizes.sum();
            std::io::copy(&mut request.take(size), &mut std::io::sink())?;
            let file = |at: usize| json!({"type": "file", "path": format!("{number}/{at}"), "size": 1, "oid": "a1".repeat(20)});
            let body = json!([file(0), file(1), file(2)]).to_string();
            let headers = format!("Connection: close\r\nLink: </api/next/{number}>; rel=next\r\nContent-Length: {}", body.len());
            connection.write_all(format!("HTTP/1.1 200 OK\r\n{headers}\r\n\r\n{body}").as_bytes())
        };
        std::thread::spawn(move || (0..).try_for_each(answer));
        endpoint
    }

    #[test]
    fn a_hub_that_lists_without_end_is_left() {
        let paths = (0..PATHS_PER_REQUEST * 9).map(|number| RelativePath::new(number.to_string()).unwrap());
        let repo = RepoId::new("org/name").unwrap();
        let resource = HubResource { kind: HubKind::Model, repo, revision: None, files: paths.collect(), token: None };
        let commit = "a1".repeat(20);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let fault = |pages: usize, files: usize| {
            let mut hub = Hub::new(HubConfig { endpoint: endless(), ..HubConfig::default() }).unwrap();
            hub.limits = Limits { pages, files };
            let tree = runtime.block_on(hub.tree(&resource, &commit, Access::Anonymous)).unwrap_err();
            let named = runtime.block_on(hub.paths_info(&resource, &commit, Access::Anonymous)).map(|(files, _)| files.len());
            (tree.to_string(), named.map_err(|error| error.to_string()))
        };
        let of = format!("the origin's answer for hf:models/org/name@{commit} cannot be right");
        assert_eq!(fault(5, 100), (format!("{of}: its list has more than 5 pages"), Ok(27)));
        let too_many = format!("{of}: it lists more than 14 files");
        assert_eq!(fault(100, 14), (too_many.clone(), Err(too_many)));
    }
}
