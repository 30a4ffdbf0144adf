//! What the hub of a soak has: many repositories of mixed sizes that anyone may read, and two that only the token opens.

use std::collections::BTreeMap;

use anyhow::Context;
use larder_harness::hub::{HubBuilder, HubServer, Repo, Tree};
use larder_harness::market::Known;
use serde_json::{Value, json};

use super::plan::PlannedJob;
use super::secrets::Secrets;

/// How many repositories anyone may read.
pub(super) const OPEN: usize = 40;
/// How many take the token.
pub(super) const GUARDED: usize = 2;
/// The numbers from which on an open repository has a file of 1 to 16 MiB, and one of 64 MiB.
const MIDDLE: usize = 20;
const LARGE: usize = 36;
const MIB: u64 = 1024 * 1024;
/// Bytes a second that the hub sends: fast, and yet slow enough that nodes are seen in the middle.
const RATE: u64 = 48 * MIB;
/// Which part of what is published a store may hold.
const QUOTA_PART: u64 = 3;
/// The folder of the root in which jobs have their files.
const TARGET: &str = "data";

/// One repository.
pub(super) struct Repository {
    /// `org/name`.
    id: String,
    /// What its files are: sha256 by path.
    pub(super) right: BTreeMap<String, String>,
    pub(super) bytes: u64,
    /// Whether it takes the token.
    pub(super) guarded: bool,
}

/// The hub, and what it has.
pub(super) struct Goods {
    pub(super) hub: HubServer,
    pub(super) repositories: Vec<Repository>,
    /// What liars speak of: all that is open.
    pub(super) known: Known,
    pub(super) quota_bytes: u64,
}

impl Goods {
    /// Publishes all of it.
    pub(super) fn new(secrets: &Secrets) -> anyhow::Result<Self> {
        let ids: Vec<String> = (0..OPEN + GUARDED).map(|number| format!("soak/r{number:02}")).collect();
        let repo = |(number, id): (usize, &String)| {
            let repo = Repo::model(id).at("main", tree(number, secrets));
            match number {
                ..OPEN => repo,
                OPEN => repo.private(),
                _ => repo.gated(),
            }
        };
        let hub = ids.iter().enumerate().map(repo).fold(HubBuilder::new(), HubBuilder::repo);
        let hub = hub.token(&secrets.token).rate(RATE).start()?;
        let describe = |(number, id): (usize, String)| {
            let name = format!("models/{id}");
            let bytes = hub.files(&name, "main").iter().map(|file| file.size).sum();
            Ok(Repository { right: hub.sha256s(&name, "main")?, bytes, id, guarded: number >= OPEN })
        };
        let repositories: Vec<Repository> = ids.into_iter().enumerate().map(describe).collect::<anyhow::Result<_>>()?;
        let names: Vec<&str> = repositories[..OPEN].iter().map(|repository| repository.id.as_str()).collect();
        let names: Vec<String> = names.iter().map(|id| format!("models/{id}")).collect();
        let known = Known::of(&hub, &names.iter().map(String::as_str).collect::<Vec<_>>())?;
        let published: u64 = repositories.iter().map(|repository| repository.bytes).sum();
        Ok(Self { hub, repositories, known, quota_bytes: published / QUOTA_PART })
    }

    /// What `larder` is told that a job wants.
    pub(super) fn definition(&self, job: &PlannedJob, secrets: &Secrets) -> Value {
        let mut resource = json!({"type": "HF", "repo": self.repositories[job.repository].id, "target": format!("/{TARGET}/")});
        if job.shows_token {
            resource["accessToken"] = json!(secrets.token);
        }
        let arguments = json!({"image": "ubuntu", "cmd": ["ls"], "gpu": true, "resources": [resource]});
        let ops = json!([{"type": "container/run", "id": "serve", "args": arguments}]);
        json!({"version": "0.1", "type": "container", "meta": {"trigger": "cli"}, "ops": ops})
    }

    /// The repository that has a file of this sha256.
    pub(super) fn holder_of(&self, sha256: &str) -> Option<usize> {
        self.repositories.iter().position(|repository| repository.right.values().any(|right| right == sha256))
    }

    /// Which files below `root` are not those of a repository; `whole`: or missing.
    pub(super) fn wrong(&self, repository: usize, root: &std::path::Path, whole: bool) -> anyhow::Result<Vec<String>> {
        let right = &self.repositories.get(repository).context("there is no such repository")?.right;
        let laid = larder_harness::market::laid(&root.join(TARGET))?;
        // What has no name yet, when it was cut off.
        let is_named = |path: &String| !path.rsplit('/').next().is_some_and(|name| name.starts_with(".larder-") && name.ends_with(".part"));
        let other = laid.iter().filter(|(path, hash)| is_named(path) && right.get(*path) != Some(hash)).map(|(path, _)| path);
        let missing = right.keys().filter(|path| whole && !laid.contains_key(*path));
        Ok(other.chain(missing).cloned().collect())
    }
}

/// The files of a repository. What is generated depends on the path: each has paths of its own.
fn tree(number: usize, secrets: &Secrets) -> Tree {
    let spread =
        |count: usize| (0..count).fold(Tree::new(), |tree, n| tree.generated(&format!("part-{number:02}-{n:03}.txt"), 1000 + n as u64));
    let weights = format!("weights-{number:02}.bin");
    match number {
        ..MIDDLE => spread(10 + 2 * number),
        MIDDLE..LARGE => spread(3).generated(&weights, (1 + (number - MIDDLE) as u64) * MIB + number as u64),
        LARGE..OPEN => spread(3).generated(&weights, 64 * MIB + number as u64),
        _ => {
            let file = |name: &str, bytes: usize| (format!("{name}-{number:02}"), bytes);
            let files = [file("model.safetensors", 3 * MIB as usize + number), file("config.json", 900), file("vocab.txt", 70_000)];
            files.iter().fold(Tree::new(), |tree, (path, bytes)| tree.file(path, secrets.marked(path, *bytes)))
        }
    }
}
