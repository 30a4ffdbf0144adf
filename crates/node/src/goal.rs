//! What a request comes down to: resources, the trees they are laid in, and the mounts that show them.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::path::PathBuf;

use larder_content::{BucketCredentials, BucketResource, HubKind, HubResource, RelativePath, RepoId, Resource, Secret};
use larder_job::{Layout, Settings};
use larder_origin::Origins;
use serde::{Deserialize, Serialize};

use crate::{NodeError, Patience};

/// A request to make a job ready.
#[derive(Clone, Serialize, Deserialize)]
pub struct Prepare {
    /// What the job is called in leases.
    pub name: String,
    /// The definition's JSON text.
    pub definition: String,
    /// `KEY=VALUE` for what only a running job knows.
    pub set: Vec<String>,
    /// The folder that targets are laid under; without it they are laid in the store, ready to mount.
    pub root: Option<PathBuf>,
    /// The folder that `root` lies in, from which on no symbolic link is followed; without it from `root` on.
    #[serde(default)]
    pub within: Option<PathBuf>,
    /// Who owns writable copies: user and group.
    pub owner: Option<(u32, u32)>,
    /// How long it may take beside straight from the origin; without it as the node's settings say.
    #[serde(default)]
    pub patience: Option<Patience>,
    /// The market that it is of; without it the node's first.
    #[serde(default)]
    pub market: Option<String>,
}

/// A request for one resource.
#[derive(Clone, Serialize, Deserialize)]
pub struct Pull {
    /// `hf:org/name[@revision][:file,…]`, `s3://…` or `https://…`.
    pub resource: String,
    /// The folder it is laid in; without it it is laid in the store.
    pub to: Option<PathBuf>,
    /// Keys for a bucket.
    pub keys: Option<PullKeys>,
    /// As of [`Prepare`].
    #[serde(default)]
    pub patience: Option<Patience>,
    /// As of [`Prepare`].
    #[serde(default)]
    pub market: Option<String>,
}

/// Keys for a bucket, by the AWS conventions.
#[derive(Clone, Serialize, Deserialize)]
pub struct PullKeys {
    /// `AWS_REGION`.
    pub region: Option<String>,
    /// `AWS_ACCESS_KEY_ID`.
    pub access_key_id: String,
    /// `AWS_SECRET_ACCESS_KEY`.
    pub secret_access_key: String,
}

impl fmt::Debug for Prepare {
    /// Leaves out the definition and its settings, which hold tokens and keys.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, root, owner, within: _, definition: _, set: _, patience: _, market: _ } = self;
        f.debug_struct("Prepare").field("name", name).field("root", root).field("owner", owner).finish_non_exhaustive()
    }
}

impl fmt::Debug for PullKeys {
    /// Leaves out the keys.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PullKeys").field("region", &self.region).finish_non_exhaustive()
    }
}

/// What a request comes down to.
#[derive(Debug)]
pub(crate) struct Goal {
    pub(crate) name: String,
    /// Each resource once.
    pub(crate) wants: Vec<Want>,
    pub(crate) trees: Vec<GoalTree>,
    /// One row of the report each.
    pub(crate) rows: Vec<Row>,
    pub(crate) mounts: Vec<GoalMount>,
    /// The folder that targets are laid under, below which nothing is to lead elsewhere.
    pub(crate) root: Option<PathBuf>,
    pub(crate) owner: Option<(u32, u32)>,
    pub(crate) patience: Option<Patience>,
    pub(crate) market: Option<String>,
    pub(crate) warnings: Vec<String>,
}

/// One resource, and the entry that asks for it.
#[derive(Debug, Clone)]
pub(crate) struct Want {
    pub(crate) place: String,
    pub(crate) resource: Resource,
    pub(crate) address: String,
}

/// A folder of files that is laid as one.
#[derive(Debug)]
pub(crate) struct GoalTree {
    /// Where it is laid; `None` for a place in the store.
    pub(crate) dest: Option<PathBuf>,
    /// Indices into [`Goal::wants`], each with the folder in the tree that its files lie below.
    pub(crate) parts: Vec<(usize, Option<RelativePath>)>,
    /// Which folders of it the job may write to.
    pub(crate) layout: larder_job::Tree,
}

/// One row of the report: an entry's resource at its mount.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) op: String,
    pub(crate) kind: &'static str,
    pub(crate) want: usize,
    pub(crate) mount: usize,
}

/// One mount: a tree, or a folder in it.
#[derive(Debug)]
pub(crate) struct GoalMount {
    pub(crate) op: String,
    pub(crate) target: String,
    pub(crate) tree: usize,
    pub(crate) below: Option<RelativePath>,
    pub(crate) writable: bool,
}

/// What a job definition comes down to.
pub(crate) fn of_job(request: &Prepare, origins: &Origins) -> Result<Goal, NodeError> {
    let job = larder_job::parse(&request.definition, &Settings::from_pairs(&request.set)?)?;
    let wants = wants(&job, origins)?;
    // What the layout and the entries name is what the job asks for, so it is there.
    let numbers: HashMap<&Resource, usize> = wants.iter().enumerate().map(|(number, want)| (&want.resource, number)).collect();
    let want_of = |resource: &Resource| numbers.get(resource).copied().unwrap_or_default();
    let trees = job.layout.trees.iter().map(|tree| GoalTree {
        dest: request.root.as_ref().map(|root| root.join(tree.folder.as_str())),
        parts: tree.parts.iter().map(|part| (want_of(&part.resource), part.below.clone())).collect(),
        layout: tree.clone(),
    });
    let trees = trees.collect();
    let mut rows = Vec::new();
    for (number, mount) in job.layout.mounts.iter().enumerate() {
        let op = &job.ops[mount.op];
        for entry in mount.entries.iter().map(|entry| &op.entries[*entry]) {
            let of_entry = entry.resources.iter();
            rows.extend(of_entry.map(|resource| Row {
                op: op.id.clone(),
                kind: entry.kind.as_str(),
                want: want_of(resource),
                mount: number,
            }));
        }
    }
    let mounts = job.layout.mounts.iter().map(|mount| GoalMount {
        op: job.ops[mount.op].id.clone(),
        target: mount.target.as_written().to_owned(),
        tree: mount.tree,
        below: below(&job.layout, mount),
        writable: mount.writable,
    });
    let mounts = mounts.collect();
    Ok(Goal {
        name: request.name.clone(),
        wants,
        trees,
        rows,
        mounts,
        root: request.within.clone().or_else(|| request.root.clone()),
        owner: request.owner,
        patience: request.patience,
        market: request.market.clone(),
        warnings: job.warnings,
    })
}

/// Each resource of a job once, with the first entry that asks for it. Resources that cannot be read as written are refused here.
fn wants(job: &larder_job::Job, origins: &Origins) -> Result<Vec<Want>, NodeError> {
    let entries = job.ops.iter().flat_map(|op| &op.entries);
    let asked_for = entries.flat_map(|entry| entry.resources.iter().map(move |resource| (entry, resource)));
    let want = |(entry, resource): (&larder_job::Entry, &Resource)| {
        let place = entry.label.clone();
        match origins.address(resource) {
            Ok(address) => Ok(Want { place, resource: resource.clone(), address }),
            Err(source) => Err(NodeError::List { place, source }),
        }
    };
    let mut seen = HashSet::new();
    asked_for.filter(|(_, resource)| seen.insert(*resource)).map(want).collect()
}

/// The folder of its tree that a mount shows; `None` for the tree itself.
fn below(layout: &Layout, mount: &larder_job::Mount) -> Option<RelativePath> {
    let tree = layout.trees[mount.tree].folder.as_str();
    let rest = mount.folder.as_str().strip_prefix(tree)?.strip_prefix('/')?;
    RelativePath::new(rest).ok()
}

/// What a single resource comes down to.
pub(crate) fn of_pull(request: &Pull, origins: &Origins) -> Result<Goal, NodeError> {
    let (resource, kind) = parse_resource(request)?;
    let place = "the resource".to_owned();
    let address = origins.address(&resource).map_err(|source| NodeError::List { place: place.clone(), source })?;
    let folder = RelativePath::new("pull").map_err(|error| NodeError::Defect(error.to_string()))?;
    let layout = larder_job::Tree { folder, parts: Vec::new(), writable: std::collections::BTreeSet::new() };
    let target = request.to.as_ref().map_or_else(String::new, |to| to.display().to_string());
    Ok(Goal {
        name: format!("pull {address}"),
        wants: vec![Want { place, resource, address }],
        trees: vec![GoalTree { dest: request.to.clone(), parts: vec![(0, None)], layout }],
        rows: vec![Row { op: "pull".into(), kind, want: 0, mount: 0 }],
        mounts: vec![GoalMount { op: "pull".into(), target, tree: 0, below: None, writable: false }],
        root: None,
        owner: None,
        patience: request.patience,
        market: request.market.clone(),
        warnings: Vec::new(),
    })
}

fn parse_resource(request: &Pull) -> Result<(Resource, &'static str), NodeError> {
    let text = request.resource.trim();
    if let Some(rest) = text.strip_prefix("hf:") {
        return Ok((Resource::Hub(parse_hub(rest)?), "HF"));
    }
    if text.starts_with("s3://") || text.starts_with("https://") || text.starts_with("http://") {
        let credentials = request.keys.as_ref().map(|keys| BucketCredentials {
            region: keys.region.clone(),
            keys: Some((Secret::new(keys.access_key_id.clone()), Secret::new(keys.secret_access_key.clone()))),
        });
        // AWS keys in the environment are for buckets: they are not offered to any web server.
        let credentials = credentials.filter(|_| text.starts_with("s3://"));
        let resource = BucketResource { url: text.to_owned(), bucket: None, files: Vec::new(), credentials };
        return Ok((Resource::Bucket(resource), "S3"));
    }
    // Behind a scheme there may be a password, and behind a question mark a signature.
    let (head, rest) = text.split_once("://").map_or((text, ""), |(scheme, _)| (scheme, "://…"));
    let head: String = head.split('?').next().unwrap_or_default().chars().take(80).collect();
    let shown = head + rest;
    Err(NodeError::Input(format!(
        "{shown:?} is no resource: write hf:org/name[@revision][:file,…], s3://bucket/prefix or https://host/prefix"
    )))
}

/// Reads `[datasets/|spaces/]org/name[@revision][:file,…]`.
fn parse_hub(text: &str) -> Result<HubResource, NodeError> {
    let input = |error: String| NodeError::Input(format!("hf:{text}: {error}"));
    let (name, files) = text.split_once(':').map_or((text, ""), |(name, files)| (name, files));
    let (repo, revision) = name.split_once('@').map_or((name, None), |(repo, revision)| (repo, Some(revision)));
    if revision == Some("") {
        return Err(input("there is no revision after the '@'".into()));
    }
    let kinds = [HubKind::Model, HubKind::Dataset, HubKind::Space];
    let named = |kind: &HubKind| repo.strip_prefix(kind.plural())?.strip_prefix('/').map(|repo| (*kind, repo));
    let (kind, repo) = kinds.iter().find_map(named).unwrap_or((HubKind::Model, repo));
    let repo = RepoId::new(repo).map_err(|error| input(error.to_string()))?;
    let files = files.split(',').filter(|file| !file.is_empty()).map(RelativePath::new);
    let files = files.collect::<Result<_, _>>().map_err(|error| input(error.to_string()))?;
    Ok(HubResource { kind, repo, revision: revision.map(str::to_owned), files, token: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hub_resource_is_read_as_its_users_write_it() {
        let plain = parse_hub("org/name").unwrap();
        assert_eq!((plain.kind, plain.repo.as_str(), plain.revision), (HubKind::Model, "org/name", None));
        let full = parse_hub("datasets/org/name@refs/pr/1:a.json,b/c.json").unwrap();
        assert_eq!((full.kind, full.repo.as_str()), (HubKind::Dataset, "org/name"));
        assert_eq!(full.revision.as_deref(), Some("refs/pr/1"));
        assert_eq!(full.files.iter().map(RelativePath::as_str).collect::<Vec<_>>(), ["a.json", "b/c.json"]);
        for bad in ["", "a/b/c", "org/name@", "org/name:../x", "org/name@main:/x"] {
            assert!(parse_hub(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn keys_of_the_environment_go_to_buckets_only() {
        let keys = PullKeys { region: None, access_key_id: "a".into(), secret_access_key: "b".into() };
        let credentials = |resource: &str| match parse_resource(&Pull {
            resource: resource.into(),
            to: None,
            keys: Some(keys.clone()),
            patience: None,
            market: None,
        }) {
            Ok((Resource::Bucket(bucket), _)) => bucket.credentials,
            other => panic!("{other:?}"),
        };
        assert!(credentials("s3://bucket/x").is_some());
        assert!(credentials("https://host/x").is_none());
    }

    #[test]
    fn a_request_does_not_show_the_credentials_in_it() {
        let (definition, set) = ("{\"accessToken\": \"hf_hidden\"}".into(), vec!["ops.x.results.token=hidden".into()]);
        let name = "job".into();
        let shown = format!("{:?}", Prepare { name, definition, set, root: None, within: None, owner: None, patience: None, market: None });
        assert!(shown.contains("job") && !shown.contains("hidden"), "{shown}");
        let region = Some("eu-west-1".into());
        let shown = format!("{:?}", PullKeys { region, access_key_id: "hidden".into(), secret_access_key: "hidden".into() });
        assert!(shown.contains("eu-west-1") && !shown.contains("hidden"), "{shown}");
        let wrong = |resource: &str| {
            parse_resource(&Pull { resource: resource.into(), to: None, keys: None, patience: None, market: None }).unwrap_err().to_string()
        };
        let shown = wrong("ftp://user:hidden@host/x");
        assert!(shown.contains("\"ftp://…\"") && !shown.contains("hidden"), "{shown}");
        assert!(wrong("org/name").contains("\"org/name\" is no resource"));
    }
}
