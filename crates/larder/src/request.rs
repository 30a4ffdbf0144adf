//! What a person writes on the command line, as a request to the node.

use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::Context;
use larder_node::{Prepare, Pull};

use crate::arguments::{JobArguments, PrepareArguments, PullArguments, Wishes};
use crate::config::{self, Config};

/// The longest job definition that is read.
pub(crate) const MAX_DEFINITION_BYTES: u64 = 4 * 1024 * 1024;

/// A request to make a job ready, as its node is to carry it out.
pub(crate) fn prepare(config: &Config, arguments: &PrepareArguments) -> anyhow::Result<Prepare> {
    let request = job(&arguments.job)?;
    let Wishes { patience, market } = arguments.wishes.clone();
    market.iter().try_for_each(|market| config.check_market(market))?;
    Ok(Prepare { patience, market, ..request })
}

/// A request to make a job ready, without wishes.
pub(crate) fn job(job: &JobArguments) -> anyhow::Result<Prepare> {
    // Before the file: what should be a value may have been read as its name, and is not to show.
    anyhow::ensure!(job.set.iter().all(|pair| pair.contains('=')), "write each setting as one word: --set KEY=VALUE");
    let name = job.definition.file_stem().map_or_else(|| "job".to_owned(), |stem| stem.to_string_lossy().into_owned());
    let root = job.root.as_deref().map(absolute).transpose()?;
    let (definition, set) = (read_definition(&job.definition)?, job.set.clone());
    Ok(Prepare { name, definition, set, root, within: None, owner: job.owner, patience: None, market: None })
}

/// A request for one resource.
pub(crate) fn pull(config: &Config, arguments: PullArguments) -> anyhow::Result<Pull> {
    let PullArguments { resource, to, wishes, .. } = arguments;
    let to = to.as_deref().map(absolute).transpose()?;
    let keys = if resource.trim().starts_with("s3://") { config::aws_keys()? } else { None };
    let Wishes { patience, market } = wishes;
    market.iter().try_for_each(|market| config.check_market(market))?;
    Ok(Pull { resource, to, keys, patience, market })
}

/// The path as seen from anywhere: another process may do the work.
fn absolute(path: &Path) -> anyhow::Result<PathBuf> {
    std::path::absolute(path).with_context(|| path.display().to_string())
}

fn read_definition(path: &Path) -> anyhow::Result<String> {
    let name = path.display().to_string();
    let input: Box<dyn Read> = if path == Path::new("-") {
        Box::new(std::io::stdin())
    } else {
        Box::new(std::fs::File::open(path).with_context(|| name.clone())?)
    };
    let mut bytes = Vec::new();
    input.take(MAX_DEFINITION_BYTES + 1).read_to_end(&mut bytes).with_context(|| name.clone())?;
    anyhow::ensure!(bytes.len() as u64 <= MAX_DEFINITION_BYTES, "{name}: a job definition may have at most 4 MiB");
    String::from_utf8(bytes).with_context(|| format!("{name} is not text in UTF-8"))
}
