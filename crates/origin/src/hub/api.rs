//! The hub's API: revisions, trees, and what it says of single paths.

use larder_content::{HubResource, Locator, MAX_FILES, OriginDigest, OriginFile, RelativePath, Secret};
use reqwest::Response;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use url::Url;

use super::Hub;
use crate::retry::retried;
use crate::{Access, OriginError};

/// The most bytes one page of an answer may have.
const MAX_PAGE_BYTES: usize = 64 * 1024 * 1024;
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
        loop {
            let next = next_page(&what, &page)?;
            let entries: Vec<EntryAnswer> = json(&what, page).await?;
            for entry in entries {
                files.extend(self.file(resource, commit, entry)?);
            }
            if files.len() > MAX_FILES {
                return Err(OriginError::Invalid { what, why: format!("it lists more than {MAX_FILES} files") });
            }
            let Some(next) = next else { return Ok((files, access)) };
            page = retried(|| self.get(resource, &what, &next, access)).await?;
        }
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
            let entries: Vec<EntryAnswer> = json(&what, answer.0).await?;
            for entry in entries {
                files.extend(self.file(resource, commit, entry)?);
            }
        }
        Ok((files, access))
    }

    /// Makes a request without the token, and with it where the hub denies the first and there is one.
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
        let error = match retried(|| request(access)).await {
            Ok(answer) => return Ok((answer, access)),
            Err(error) => error,
        };
        let token_may_help = matches!(
            error,
            OriginError::Denied { .. } | OriginError::Gated { .. } | OriginError::Missing { .. } | OriginError::Busy { .. }
        );
        if access == Access::Credentials || !token_may_help || self.token(resource)?.is_none() {
            return Err(error);
        }
        tracing::debug!(resource = what, "not to be listed without the token");
        Ok((retried(|| request(Access::Credentials)).await?, Access::Credentials))
    }

    async fn get(&self, resource: &HubResource, what: &str, url: &Url, access: Access) -> Result<Response, OriginError> {
        self.follow(resource, what, url, access, |url| self.client.get(url)).await
    }

    async fn post(&self, resource: &HubResource, what: &str, url: &Url, form: &str, access: Access) -> Result<Response, OriginError> {
        let request = |url| {
            let request = self.client.post(url).header(http::header::CONTENT_TYPE, "application/x-www-form-urlencoded");
            request.body(form.to_owned())
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
        request: impl Fn(Url) -> reqwest::RequestBuilder,
    ) -> Result<Response, OriginError> {
        let mut url = url.clone();
        let token = if access == Access::Credentials { self.token(resource)? } else { None };
        for _ in 0..=MAX_REDIRECTS {
            let request = self.with_token(request(url.clone()), &url, token);
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
            Some(token) if url.origin() == self.endpoint.origin() => request.bearer_auth(token.expose()),
            Some(_) | None => request,
        }
    }

    fn api_url<const N: usize>(&self, resource: &HubResource, rest: [&str; N]) -> Url {
        self.url(["api", resource.kind.plural()].into_iter().chain(resource.repo.as_str().split('/')).chain(rest))
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

/// The address of the next page: `Link: <…>; rel="next"`.
fn next_page(what: &str, page: &Response) -> Result<Option<Url>, OriginError> {
    let links = page.headers().get_all(http::header::LINK);
    let next = links.iter().filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(',')).find_map(|link| {
        let (address, rest) = link.trim().strip_prefix('<')?.split_once('>')?;
        rest.contains("rel=\"next\"").then(|| page.url().join(address))
    });
    next.transpose().map_err(|_| OriginError::Invalid { what: what.to_owned(), why: "the address of its next page cannot be read".into() })
}

/// A JSON body of bounded size.
async fn json<T: DeserializeOwned>(what: &str, mut answer: Response) -> Result<T, OriginError> {
    let mut body = Vec::new();
    while let Some(part) = answer.chunk().await.map_err(|error| crate::http::unreachable(what, error))? {
        body.extend_from_slice(&part);
        if body.len() > MAX_PAGE_BYTES {
            return Err(OriginError::Invalid { what: what.to_owned(), why: format!("a page of over {MAX_PAGE_BYTES} bytes") });
        }
    }
    serde_json::from_slice(&body).map_err(|error| OriginError::Invalid { what: what.to_owned(), why: format!("its JSON: {error}") })
}
