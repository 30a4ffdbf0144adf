//! A repository: who may read it, and what its revisions hold.

use std::collections::BTreeMap;
use std::sync::Arc;

use larder_content::HubKind;
use sha1::{Digest, Sha1};

use super::commit::Commit;
use super::tree::Tree;

/// The fewest digits of a commit id that name it.
const SHORTEST_SHA: usize = 7;

/// A repository as a test describes it.
#[derive(Debug, Clone)]
pub struct Repo {
    pub(crate) kind: HubKind,
    pub(crate) id: String,
    pub(crate) revisions: BTreeMap<String, Tree>,
    pub(crate) guard: Guard,
    pub(crate) disabled: bool,
    pub(crate) former_ids: Vec<String>,
}

/// Who may read a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Guard {
    Public,
    /// Others do not learn that it exists.
    Private,
    /// Everyone may list it; content is for those who were let in.
    Gated,
}

impl Repo {
    /// A public repository without revisions.
    #[must_use]
    pub fn new(kind: HubKind, id: &str) -> Self {
        Self { kind, id: id.to_owned(), revisions: BTreeMap::new(), guard: Guard::Public, disabled: false, former_ids: Vec::new() }
    }

    /// A public model without revisions.
    #[must_use]
    pub fn model(id: &str) -> Self {
        Self::new(HubKind::Model, id)
    }

    /// A public dataset without revisions.
    #[must_use]
    pub fn dataset(id: &str) -> Self {
        Self::new(HubKind::Dataset, id)
    }

    /// A public space without revisions.
    #[must_use]
    pub fn space(id: &str) -> Self {
        Self::new(HubKind::Space, id)
    }

    /// Lets `revision`, a branch, a tag or `refs/pr/N`, hold `tree`.
    #[must_use]
    pub fn at(mut self, revision: &str, tree: Tree) -> Self {
        self.revisions.insert(revision.to_owned(), tree);
        self
    }

    /// Only tokens with access see it.
    #[must_use]
    pub fn private(mut self) -> Self {
        self.guard = Guard::Private;
        self
    }

    /// Everyone may list it, only tokens with access may read its files.
    #[must_use]
    pub fn gated(mut self) -> Self {
        self.guard = Guard::Gated;
        self
    }

    /// Taken down: every request for it answers 403.
    #[must_use]
    pub fn disabled(mut self) -> Self {
        self.disabled = true;
        self
    }

    /// It had this id once: requests for it are redirected.
    #[must_use]
    pub fn formerly(mut self, old_id: &str) -> Self {
        self.former_ids.push(old_id.to_owned());
        self
    }

    /// `models/org/name`.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}/{}", self.kind.plural(), self.id)
    }
}

/// A repository as the hub serves it.
#[derive(Debug)]
pub(crate) struct Published {
    pub(crate) kind: HubKind,
    pub(crate) id: String,
    pub(crate) guard: Guard,
    pub(crate) disabled: bool,
    pub(crate) former_ids: Vec<String>,
    pub(crate) revisions: BTreeMap<String, Arc<Commit>>,
    /// Commits by their full id, also those that no revision names any more.
    pub(crate) commits: BTreeMap<String, Arc<Commit>>,
}

impl Published {
    /// Hashes all of `repo`; commits of `previous`, what had its name, can still be asked for by id.
    pub(crate) fn new(repo: &Repo, previous: Option<&Self>) -> anyhow::Result<Self> {
        let mut revisions = BTreeMap::new();
        let mut commits = previous.map(|previous| previous.commits.clone()).unwrap_or_default();
        for (revision, tree) in &repo.revisions {
            let commit = Arc::new(Commit::new(&repo.name(), tree)?);
            commits.insert(commit.sha.clone(), Arc::clone(&commit));
            revisions.insert(revision.clone(), commit);
        }
        let (kind, id, former_ids) = (repo.kind, repo.id.clone(), repo.former_ids.clone());
        Ok(Self { kind, id, guard: repo.guard, disabled: repo.disabled, former_ids, revisions, commits })
    }

    /// `models/org/name`.
    pub(crate) fn name(&self) -> String {
        format!("{}/{}", self.kind.plural(), self.id)
    }

    /// The hub's own number for it, 24 hex digits.
    pub(crate) fn number(&self) -> String {
        hex::encode(&Sha1::digest(self.name())[..12])
    }

    /// The commit that a branch, a tag, a ref or a commit id names.
    pub(crate) fn commit(&self, revision: &str) -> Option<&Arc<Commit>> {
        let by_sha = || {
            let mut fitting = self.commits.range(revision.to_owned()..);
            let (sha, commit) = fitting.next()?;
            (revision.len() >= SHORTEST_SHA && sha.starts_with(revision)).then_some(commit)
        };
        self.revisions.get(revision).or_else(by_sha)
    }
}
