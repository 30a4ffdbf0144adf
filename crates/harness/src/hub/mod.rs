//! A HuggingFace hub with a CDN on a host of its own.
//!
//! What it answers follows what the real hub was seen to answer: redirects, headers, errors, paging, git object ids.
//! It has no Xet storage: with Xet on it names the hashes, and clients that go there by themselves find nothing.

mod api;
mod call;
mod commit;
mod files;
mod repo;
mod route;
mod tree;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, PoisonError, RwLock};

use anyhow::Context;
use http::Request;
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;

use crate::answer::{Asking, Desk};
use crate::control::{self, control};
use crate::counts::Counts;
use crate::faults::{Faults, Side};
use crate::serve::{Listener, Refused, Reply, Threads};
use crate::source::Source;
use crate::throttle::Throttle;
use call::Call;
use repo::Published;

pub use repo::Repo;
pub(crate) use tree::BINARY_BYTES;
pub use tree::{Lie, Tree};

/// The most bytes of a request's body: the names of some hundred thousand files.
const MAX_REQUEST_BYTES: usize = 32 * 1024 * 1024;
/// The host of the CDN: another than the hub's, as clients tell the two apart by name.
const CDN_HOST: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

/// Describes a hub before it starts.
#[derive(Debug)]
pub struct HubBuilder {
    repos: Vec<Repo>,
    listen: SocketAddr,
    cdn_listen: SocketAddr,
    rate: Option<u64>,
    buffer_bytes: Option<usize>,
    options: Options,
}

/// What does not change while a hub runs.
#[derive(Debug)]
struct Options {
    readers: Vec<String>,
    strangers: Vec<String>,
    xet: bool,
    url_seconds: u64,
    page_size: Option<usize>,
    direct: bool,
}

impl Default for HubBuilder {
    fn default() -> Self {
        let options = Options { readers: Vec::new(), strangers: Vec::new(), xet: true, url_seconds: 3600, page_size: None, direct: false };
        let (listen, cdn_listen) = ((Ipv4Addr::LOCALHOST, 0).into(), (CDN_HOST, 0).into());
        Self { repos: Vec::new(), listen, cdn_listen, rate: None, buffer_bytes: None, options }
    }
}

impl HubBuilder {
    /// A hub without repositories.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Serves `repo`.
    #[must_use]
    pub fn repo(mut self, repo: Repo) -> Self {
        self.repos.push(repo);
        self
    }

    /// A token that may read everything.
    #[must_use]
    pub fn token(mut self, token: &str) -> Self {
        self.options.readers.push(token.to_owned());
        self
    }

    /// A valid token that may read nothing private or gated. Tokens that were not named are invalid.
    #[must_use]
    pub fn token_without_access(mut self, token: &str) -> Self {
        self.options.strangers.push(token.to_owned());
        self
    }

    /// Where the hub listens; 127.0.0.1 and any free port if not said.
    #[must_use]
    pub fn listen(mut self, address: SocketAddr) -> Self {
        self.listen = address;
        self
    }

    /// Where the CDN listens; 127.0.0.2 and any free port if not said.
    #[must_use]
    pub fn cdn_listen(mut self, address: SocketAddr) -> Self {
        self.cdn_listen = address;
        self
    }

    /// How many bytes of a body are counted before the socket takes them: 8 KiB at least, 1 MiB if not said. With fewer, what
    /// cancelled requests count is nearer to what was sent, and all takes longer.
    #[must_use]
    pub fn buffer_bytes(mut self, bytes: usize) -> Self {
        self.buffer_bytes = Some(bytes.max(8 * 1024));
        self
    }

    /// Whether Xet hashes are told; they are if not said.
    #[must_use]
    pub fn xet(mut self, on: bool) -> Self {
        self.options.xet = on;
        self
    }

    /// How long the signed URLs of the CDN hold, in seconds; 3600 if not said.
    #[must_use]
    pub fn url_seconds(mut self, seconds: u64) -> Self {
        self.options.url_seconds = seconds;
        self
    }

    /// How many entries a page of the tree has; 1000 if not said, and 50 of expanded ones.
    #[must_use]
    pub fn page_size(mut self, entries: usize) -> Self {
        self.options.page_size = Some(entries.max(1));
        self
    }

    /// Whether small files are served where they are asked for, without a redirect; they are not if not said.
    #[must_use]
    pub fn direct(mut self, on: bool) -> Self {
        self.options.direct = on;
        self
    }

    /// A rate, in bytes a second, that the contents of all files together keep to.
    #[must_use]
    pub fn rate(mut self, bytes_per_second: u64) -> Self {
        self.rate = Some(bytes_per_second);
        self
    }

    /// Hashes all files and starts the hub.
    ///
    /// # Errors
    /// Fails if a file cannot be read, or the address not be had.
    pub fn start(self) -> anyhow::Result<HubServer> {
        let throttle = self.rate.map(|rate| Arc::new(Throttle::new(rate)));
        let bind = |address| Ok::<_, anyhow::Error>(Listener::bind(address)?.buffering(self.buffer_bytes));
        let (front, cdn) = (bind(self.listen)?, bind(self.cdn_listen)?);
        let state = State {
            endpoint: format!("http://{}", front.address),
            cdn_endpoint: format!("http://{}", cdn.address),
            options: self.options,
            desk: Desk { throttle, piece_bytes: self.buffer_bytes, ..Desk::default() },
            repos: RwLock::default(),
        };
        for repo in &self.repos {
            state.publish(repo)?;
        }
        let (state, threads) = (Arc::new(state), Threads::new()?);
        for (listener, side) in [(front, Side::Hub), (cdn, Side::Cdn)] {
            let state = Arc::clone(&state);
            threads.serve(listener, move |request| State::handle(Arc::clone(&state), side, request))?;
        }
        Ok(HubServer { state, _threads: threads })
    }
}

/// A hub that runs until it is dropped.
pub struct HubServer {
    state: Arc<State>,
    _threads: Threads,
}

/// What the bytes of a file are, whatever its listing says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileFacts {
    /// Its path in the repository.
    pub path: String,
    /// Its size in bytes.
    pub size: u64,
    /// The id of its git object; for LFS that of the pointer.
    pub git_oid: String,
    /// Its sha256 in hex, if it is LFS.
    pub sha256: Option<String>,
    /// Its Xet hash as the hub spells it, if it is LFS.
    pub xet: Option<String>,
}

impl HubServer {
    /// What `HF_ENDPOINT` is set to.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        &self.state.endpoint
    }

    /// Where redirects of large files lead.
    #[must_use]
    pub fn cdn_endpoint(&self) -> &str {
        &self.state.cdn_endpoint
    }

    /// What goes wrong.
    #[must_use]
    pub fn faults(&self) -> &Faults {
        &self.state.desk.faults
    }

    /// What was asked for.
    #[must_use]
    pub fn counts(&self) -> &Counts {
        &self.state.desk.counts
    }

    /// Adds a repository, or puts it in the place of the one with its name. Earlier commits stay readable by their ids.
    ///
    /// # Errors
    /// Fails if a file cannot be read.
    pub fn publish(&self, repo: Repo) -> anyhow::Result<()> {
        self.state.publish(&repo)
    }

    /// Deletes `models/org/name`; says whether it was there.
    pub fn remove(&self, name: &str) -> bool {
        self.state.repos.write().unwrap_or_else(PoisonError::into_inner).remove(name).is_some()
    }

    /// The commit that a revision of `models/org/name` is at.
    #[must_use]
    pub fn commit(&self, name: &str, revision: &str) -> Option<String> {
        Some(self.state.repo(name)?.commit(revision)?.sha.clone())
    }

    /// What the files of `models/org/name` at a revision really are; nothing if there is no such.
    #[must_use]
    pub fn files(&self, name: &str, revision: &str) -> Vec<FileFacts> {
        let commit = self.state.repo(name).and_then(|repo| repo.commit(revision).cloned());
        let facts = |file: &commit::File| FileFacts {
            path: file.path.clone(),
            size: file.facts.size,
            git_oid: file.facts.git_oid.clone(),
            sha256: file.facts.lfs.as_ref().map(|lfs| lfs.sha256.clone()),
            xet: file.facts.lfs.as_ref().map(|lfs| lfs.xet.clone()),
        };
        commit.map(|commit| commit.files().map(facts).collect()).unwrap_or_default()
    }

    /// The sha256, in hex, of every file of `models/org/name` at a revision, by path; nothing if there is no such.
    ///
    /// # Errors
    /// Fails if a file cannot be read.
    pub fn sha256s(&self, name: &str, revision: &str) -> anyhow::Result<BTreeMap<String, String>> {
        let commit = self.state.repo(name).and_then(|repo| repo.commit(revision).cloned());
        commit.iter().flat_map(|commit| commit.files()).map(|file| Ok((file.path.clone(), file.sha256()?))).collect()
    }

    /// Path, size, sha256 (of LFS) and bytes of every file of `models/org/name` at a revision.
    pub(crate) fn contents(&self, name: &str, revision: &str) -> Vec<(String, u64, Option<String>, Source)> {
        let commit = self.state.repo(name).and_then(|repo| repo.commit(revision).cloned());
        let sha256 = |file: &commit::File| file.facts.lfs.as_ref().map(|lfs| lfs.sha256.clone());
        let each = |file: &commit::File| (file.path.clone(), file.facts.size, sha256(file), file.source.clone());
        commit.map(|commit| commit.files().map(each).collect()).unwrap_or_default()
    }

    /// All repositories, with the commits of their revisions.
    #[must_use]
    pub fn repos(&self) -> BTreeMap<String, BTreeMap<String, String>> {
        let repos = self.state.repos.read().unwrap_or_else(PoisonError::into_inner);
        let revisions = |repo: &Published| repo.revisions.iter().map(|(name, commit)| (name.clone(), commit.sha.clone())).collect();
        repos.iter().map(|(name, repo)| (name.clone(), revisions(repo))).collect()
    }
}

/// A running hub.
struct State {
    endpoint: String,
    cdn_endpoint: String,
    options: Options,
    desk: Desk,
    /// By name: `models/org/name`.
    repos: RwLock<BTreeMap<String, Arc<Published>>>,
}

impl State {
    fn publish(&self, repo: &Repo) -> anyhow::Result<()> {
        let name = repo.name();
        let previous = self.repo(&name);
        let published = Published::new(repo, previous.as_deref()).with_context(|| format!("{name} cannot be published"))?;
        self.repos.write().unwrap_or_else(PoisonError::into_inner).insert(name, Arc::new(published));
        Ok(())
    }

    fn repo(&self, name: &str) -> Option<Arc<Published>> {
        self.repos.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    /// The repository that once had this name.
    fn successor(&self, name: &str) -> Option<Arc<Published>> {
        let (kind, id) = name.split_once('/')?;
        let repos = self.repos.read().unwrap_or_else(PoisonError::into_inner);
        repos.values().find(|repo| repo.kind.plural() == kind && repo.former_ids.iter().any(|former| former == id)).cloned()
    }

    async fn handle(state: Arc<Self>, side: Side, request: Request<Incoming>) -> Reply {
        let (parts, body) = request.into_parts();
        let body = Limited::new(body, MAX_REQUEST_BYTES).collect().await.map_err(|_| Refused)?.to_bytes();
        let target = parts.uri.path_and_query().map_or_else(|| "/".to_owned(), ToString::to_string);
        if target.starts_with(control::PREFIX) {
            return Ok(control(&state.desk, &parts.method, &target, &body));
        }
        let header = |name: &str| parts.headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
        let asking = Asking {
            side,
            path: call::decode(parts.uri.path()),
            target: target.clone(),
            range: header("range"),
            authorized: parts.headers.contains_key("authorization"),
            method: parts.method,
        };
        let call = Call::new(&target, parts.headers, body);
        let answer = match side {
            Side::Hub => state.answer(&asking.method, &call),
            Side::Cdn => state.answer_cdn(&asking.method, &call),
        };
        state.desk.send(&asking, answer)
    }
}
