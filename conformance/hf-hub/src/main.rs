//! Downloads from `larder-harness origin hub` with the unmodified hf-hub crate, and compares every byte.
//!
//! `conformance-hf-hub LARDER_HARNESS MODEL_FOLDER`
//!
//! hf-hub 0.5 cannot fetch empty files (it needs a `Content-Range`), nor names with `#` or `?` (it does not encode
//! them), so none are served to it. It sends its token to the CDN too, which ours refuses, as it would leak: the
//! gated repository holds no large file.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, bail, ensure};
use hf_hub::api::tokio::{Api, ApiBuilder};
use hf_hub::{Repo, RepoType};

const TOKEN: &str = "hf_reader";

/// Files by their paths.
type Files = BTreeMap<String, Vec<u8>>;

/// A running hub, stopped on drop.
struct Hub {
    process: Child,
    endpoint: String,
}

impl Hub {
    fn start(harness: &str, arguments: &[String]) -> anyhow::Result<Self> {
        let mut process = Command::new(harness).args(["origin", "hub"]).args(arguments).stdout(Stdio::piped()).spawn()?;
        let mut line = String::new();
        let output = process.stdout.take().context("the hub has no output")?;
        BufReader::new(output).read_line(&mut line)?;
        let said: serde_json::Value = serde_json::from_str(&line).context("the hub did not start")?;
        let endpoint = said["endpoint"].as_str().context("the hub named no endpoint")?.to_owned();
        Ok(Self { process, endpoint })
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, harness, model] = arguments.as_slice() else { bail!("usage: conformance-hf-hub LARDER_HARNESS MODEL_FOLDER") };
    let scratch = tempfile::tempdir()?;
    let odd = odd_files();
    let (odd_folder, other_folder) = (scratch.path().join("odd"), scratch.path().join("other"));
    write(&odd_folder, &odd)?;
    let other = Files::from([("r.txt".to_owned(), b"revision".to_vec())]);
    write(&other_folder, &other)?;

    let mut served = vec![format!("models/org/model={model}")];
    served.extend(
        ["models/org/odd", "datasets/org/data", "spaces/org/app", "models/single"].map(|name| format!("{name}={}", odd_folder.display())),
    );
    served.extend(["feature/x", "refs/pr/1", "v1.0"].map(|revision| format!("models/org/odd@{revision}={}", other_folder.display())));
    served.push(format!("models/org/gated={}", other_folder.display()));
    let mut options: Vec<String> = served.into_iter().flat_map(|repo| ["--repo".to_owned(), repo]).collect();
    options.extend(["--gated", "models/org/gated", "--token", TOKEN].map(str::to_owned));
    let hub = Hub::start(harness, &options)?;

    let api = api(&hub, &scratch.path().join("cache"), None)?;
    let whole = read(Path::new(model))?;
    compare(&api, Repo::model("org/model".into()), &whole).await?;
    compare(&api, Repo::model("org/odd".into()), &odd).await?;
    for revision in ["feature/x", "refs/pr/1", "v1.0"] {
        compare(&api, Repo::with_revision("org/odd".into(), RepoType::Model, revision.into()), &other).await?;
    }
    compare(&api, Repo::dataset("org/data".into()), &odd).await?;
    compare(&api, Repo::space("org/app".into()), &odd).await?;
    compare(&api, Repo::model("single".into()), &odd).await?;

    ensure!(api.model("org/odd".into()).download("nothing.txt").await.is_err(), "a missing file was downloaded");
    ensure!(api.model("org/gated".into()).download("r.txt").await.is_err(), "a gated file was downloaded without a token");
    let reader = self::api(&hub, &scratch.path().join("with-token"), Some(TOKEN))?;
    compare(&reader, Repo::model("org/gated".into()), &other).await?;
    eprintln!("hf-hub 0.5.0: everything is as it should be");
    Ok(())
}

fn api(hub: &Hub, cache: &Path, token: Option<&str>) -> anyhow::Result<Api> {
    let builder = ApiBuilder::new().with_endpoint(hub.endpoint.clone()).with_cache_dir(cache.to_owned()).with_progress(false);
    Ok(builder.with_token(token.map(str::to_owned)).build()?)
}

/// Downloads what `repo` lists, and compares it with what it should.
async fn compare(api: &Api, repo: Repo, wanted: &Files) -> anyhow::Result<()> {
    let name = format!("{} at {}", repo.url(), repo.revision());
    let repo = api.repo(repo);
    let info = repo.info().await.with_context(|| format!("{name} cannot be listed"))?;
    let mut found = Files::new();
    for sibling in info.siblings {
        let path = repo.get(&sibling.rfilename).await.with_context(|| format!("{} of {name} cannot be downloaded", sibling.rfilename))?;
        found.insert(sibling.rfilename, std::fs::read(path)?);
    }
    ensure!(found.keys().eq(wanted.keys()), "{name} holds {:?}", found.keys());
    let differing: Vec<&String> = wanted.iter().filter(|(path, bytes)| found.get(*path) != Some(*bytes)).map(|(path, _)| path).collect();
    ensure!(differing.is_empty(), "{name} differs in {differing:?}");
    Ok(())
}

fn odd_files() -> Files {
    let large: Vec<u8> = (0..12_000_000u32).map(|n| (n % 251) as u8).collect();
    let files = [
        ("sp ace.txt", b"space".to_vec()),
        ("plus+.txt", b"plus".to_vec()),
        ("üml.txt", b"umlaut".to_vec()),
        ("a/b/c/deep.txt", b"deep".to_vec()),
        ("small.bin", b"LFS by its suffix".to_vec()),
        ("a/large.bin", large),
    ];
    files.map(|(path, bytes)| (path.to_owned(), bytes)).into()
}

fn write(folder: &Path, files: &Files) -> anyhow::Result<()> {
    for (name, bytes) in files {
        let path = folder.join(name);
        std::fs::create_dir_all(path.parent().context("a file lies in a folder")?)?;
        std::fs::write(path, bytes)?;
    }
    Ok(())
}

fn read(folder: &Path) -> anyhow::Result<Files> {
    let mut files = Files::new();
    let mut folders: Vec<PathBuf> = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(next)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(folder)?.to_string_lossy().into_owned();
                files.insert(name, std::fs::read(&path)?);
            }
        }
    }
    Ok(files)
}
