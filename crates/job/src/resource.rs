//! Reads one entry of a list of resources, in the spelling of job definitions or of a market's required resources.
//!
//! The two spellings differ in a repository's field (`repo`, `url`) and in the case of `IAM` keys; both are read in both
//! documents. An empty string means "none" in every field that may be absent: definitions write "no credentials" so.

use larder_content::{BucketCredentials, BucketResource, HubKind, HubResource, OllamaResource, RelativePath, RepoId, Resource, Secret};

use crate::JobError;
use crate::error::quoted;
use crate::fields::Fields;
use crate::literal::{Item, kind_of};

/// The longest region, and the longest key or key id, in bytes: each of an entry's buckets has them.
const MAX_REGION_BYTES: usize = 255;
const MAX_KEY_BYTES: usize = 4_096;

/// The market's types of resources.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A repository of a HuggingFace hub.
    Hf,
    /// An object or prefix of an S3 bucket or of a public https folder.
    S3,
    /// A model of the Ollama registry: read, but not yet fetched.
    Ollama,
}

impl Kind {
    /// The type as definitions write it: `HF`, `S3`, `Ollama`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hf => "HF",
            Self::S3 => "S3",
            Self::Ollama => "Ollama",
        }
    }

    fn read(entry: &Fields) -> Result<Self, JobError> {
        const KNOWN: &str = "the known types are HF, S3 and Ollama";
        match entry.word("type")?.as_deref() {
            Some("HF") => Ok(Self::Hf),
            Some("S3") => Ok(Self::S3),
            Some("Ollama") => Ok(Self::Ollama),
            Some(_) => Err(entry.fault("type", "is no type of resource", KNOWN)),
            None => Err(missing(KNOWN).in_field("type")),
        }
    }
}

/// What an entry asks for, wherever it goes.
pub(crate) struct Asked {
    pub(crate) kind: Kind,
    pub(crate) resources: Vec<Resource>,
    /// Whether the job may write where it lies.
    pub(crate) writable: bool,
    /// What was passed over, in words.
    pub(crate) warnings: Vec<String>,
}

impl Asked {
    pub(crate) fn read(entry: &Fields) -> Result<Self, JobError> {
        let mut warnings = Vec::new();
        let kind = Kind::read(entry)?;
        let allow_write = entry.flag("allowWrite")?;
        if allow_write && kind != Kind::S3 {
            warnings.push("allowWrite counts for S3 only: it is mounted read-only".to_owned());
        }
        let resources = match kind {
            Kind::Hf => vec![Resource::Hub(hub(entry)?)],
            Kind::S3 => buckets(entry, &mut warnings)?.into_iter().map(Resource::Bucket).collect(),
            Kind::Ollama => vec![Resource::Ollama(ollama(entry)?)],
        };
        Ok(Self { kind, resources, writable: allow_write && kind == Kind::S3, warnings })
    }
}

/// `org/name` or `name` is a model; `datasets/…`, `spaces/…` and `models/…`, as in the hub's own addresses, say the kind.
fn hub(entry: &Fields) -> Result<HubResource, JobError> {
    let field = if entry.word("repo")?.is_some() { "repo" } else { "url" };
    let Some(text) = entry.word(field)? else {
        return Err(missing("name the repository: \"org/name\"").in_field("repo"));
    };
    let kinds = [HubKind::Model, HubKind::Dataset, HubKind::Space].into_iter();
    let prefixed = kinds.filter_map(|kind| Some((kind, text.strip_prefix(kind.plural())?.strip_prefix('/')?))).next();
    let (kind, name) = prefixed.unwrap_or((HubKind::Model, &text));
    let repo = RepoId::new(name).map_err(|_| {
        const ADVICE: &str = "write 'org/name' or 'name', of letters, digits, '-', '_' and '.'";
        match name.contains("://") {
            // An address may hold a password.
            true => JobError::new("is an address, not the name of a repository", ADVICE).in_field(field),
            false => entry.fault(field, "is not the name of a repository", ADVICE),
        }
    })?;
    let token = entry.word("accessToken")?.map(Secret::new);
    Ok(HubResource { kind, repo, revision: entry.word("revision")?, files: files(entry)?, token })
}

fn ollama(entry: &Fields) -> Result<OllamaResource, JobError> {
    let model = entry.word("model")?.map_or_else(|| entry.word("url"), |model| Ok(Some(model)))?;
    let model = model.ok_or_else(|| missing("name the model: \"name\" or \"name:tag\"").in_field("model"))?;
    Ok(OllamaResource { model })
}

/// The objects and prefixes of an S3 entry. A `url` goes before `buckets`, as in the market's own software.
fn buckets(entry: &Fields, warnings: &mut Vec<String>) -> Result<Vec<BucketResource>, JobError> {
    let credentials = credentials(entry)?;
    let bucket = entry.word("bucket")?;
    let items = entry.list("buckets")?;
    if let Some(url) = entry.word("url")? {
        if !items.is_empty() {
            warnings.push("it has a url and buckets: the buckets are passed over".to_owned());
        }
        return Ok(vec![BucketResource { url, bucket, files: files(entry)?, credentials }]);
    }
    if items.is_empty() {
        let advice = "write where the files are: \"url\": \"https://…\" or \"s3://bucket/prefix\"";
        return Err(missing(advice).in_field("url"));
    }
    if bucket.is_some() || !entry.list("files")?.is_empty() {
        warnings.push("bucket and files beside buckets are passed over: they belong to a url".to_owned());
    }
    let read = |item: Item| {
        let read = |item| {
            let item = Fields::of_item(item, entry.literals())?;
            let url = item.word("url")?.ok_or_else(|| missing("write where the files are").in_field("url"))?;
            Ok(BucketResource { url, bucket: None, files: files(&item)?, credentials: credentials.clone() })
        };
        read(&item).map_err(|error: JobError| error.in_field(&item.place).in_field("buckets"))
    };
    items.into_iter().map(read).collect()
}

fn credentials(entry: &Fields) -> Result<Option<BucketCredentials>, JobError> {
    let Some(iam) = entry.fields("IAM")? else { return Ok(None) };
    let in_iam = |error: JobError| error.in_field("IAM");
    let region = one_of(&iam, "REGION", "region", MAX_REGION_BYTES).map_err(in_iam)?.map(|region| region.trim().to_owned());
    let region = region.filter(|region| !region.is_empty());
    let id = one_of(&iam, "ACCESS_KEY_ID", "access_key_id", MAX_KEY_BYTES).map_err(in_iam)?.map(Secret::new);
    let key = one_of(&iam, "SECRET_ACCESS_KEY", "secret_access_key", MAX_KEY_BYTES).map_err(in_iam)?.map(Secret::new);
    let half_set = |field, other| {
        let advice = format!("give both, or leave {other} empty too to read without credentials");
        Err(in_iam(missing(&advice).in_field(field)))
    };
    let keys = match (id, key) {
        (Some(id), Some(key)) => Some((id, key)),
        (None, None) => None,
        (None, Some(_)) => return half_set("ACCESS_KEY_ID", "SECRET_ACCESS_KEY"),
        (Some(_), None) => return half_set("SECRET_ACCESS_KEY", "ACCESS_KEY_ID"),
    };
    Ok((region.is_some() || keys.is_some()).then_some(BucketCredentials { region, keys }))
}

/// The text of a field with two spellings, unless it is empty.
fn one_of(fields: &Fields, upper: &str, lower: &str, most_bytes: usize) -> Result<Option<String>, JobError> {
    let too_long = |name| Err(JobError::new("is longer than such a text can be", "write what the bucket's owner gave").in_field(name));
    let full = |name| match fields.text(name)?.filter(|text| !text.is_empty()) {
        Some(text) if text.len() > most_bytes => too_long(name),
        text => Ok(text),
    };
    match (full(upper)?, full(lower)?) {
        (Some(one), Some(other)) if one != other => {
            Err(JobError::new(format!("{upper} and {lower} differ"), "write one of them").in_field(upper))
        }
        (one, other) => Ok(one.or(other)),
    }
}

/// The paths in `files`, ordered and each once: their order says nothing, so that equal resources are equal.
fn files(fields: &Fields) -> Result<Vec<RelativePath>, JobError> {
    let read = |Item { place, value, written, .. }: Item| {
        let path = match value.as_str() {
            Some(text) => RelativePath::new(text).map_err(|error| match written {
                Some(written) if written == text => error.to_string(),
                Some(written) => format!("{} is no path of a file", quoted(&written)),
                None => "is no path of a file".to_owned(),
            }),
            None => Err(format!("is {}", kind_of(&value))),
        };
        let advice = "write a file's path below the repository or the url, such as \"folder/model.safetensors\"";
        path.map_err(|what| JobError::new(what, advice).in_field(&place).in_field("files"))
    };
    let mut files: Vec<RelativePath> = fields.list("files")?.into_iter().map(read).collect::<Result<_, _>>()?;
    files.sort();
    files.dedup();
    Ok(files)
}

fn missing(advice: &str) -> JobError {
    JobError::new("is missing or empty", advice)
}
