//! The configuration: the one place that reads files and environment.
//!
//! Every field has a row in [`FIELDS`], with its unit, default and cost; `larder init` writes that table as a file. A field
//! `quota_bytes` of section `[store]` can also be set as `LARDER_STORE_QUOTA_BYTES`.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use larder_content::Secret;
use larder_node::{EngineConfig, PullKeys};
use larder_origin::{HubConfig, PrivateHosts};
use larder_store::StoreConfig;
use serde::Deserialize;

/// One field of the configuration file.
struct Field {
    section: &'static str,
    name: &'static str,
    default: &'static str,
    doc: &'static str,
}

const fn field(section: &'static str, name: &'static str, default: &'static str, doc: &'static str) -> Field {
    Field { section, name, default, doc }
}

const FIELDS: [Field; 10] = [
    field("store", "quota_bytes", "0", "Bytes the store may hold. 0 means half of the disk that is free."),
    field("store", "free_floor_bytes", "2147483648", "Bytes of the disk that are left free, whatever the quota."),
    field("store", "keep_hours", "24", "Hours that what no lease holds is kept after its last use, while there is room."),
    field("store", "lease_hours", "168", "Hours that a lease holds a job's files unless it is released before."),
    field("origin", "hub_endpoint", "\"https://huggingface.co\"", "The HuggingFace hub. HF_ENDPOINT goes before it."),
    field("origin", "stall_ms", "20000", "Milliseconds that an origin may send nothing before a request is made again."),
    field("origin", "reads", "32", "Reads at once, of all files together. Each costs a connection and about 2 MiB of memory."),
    field("origin", "reads_per_file", "16", "Reads at once of one file."),
    field("origin", "range_bytes", "8388608", "Bytes asked for in one read, in steps of 262144. Less costs more requests."),
    field("origin", "private_hosts", "\"\"", PRIVATE_HOSTS),
];

const PRIVATE_HOSTS: &str = "Hosts in private networks or on this machine that jobs may name, such as \"minio.lan, 10.0.0.5\"; \"*\" is any. \
    The hub's own host needs no word here. Each lets whoever writes jobs look at what it serves.";

/// The most hours that anything is kept or held: ten years.
const MAX_HOURS: u64 = 10 * 365 * 24;

/// Variables that begin as ours do and are no fields.
const OTHER_VARIABLES: [&str; 4] = ["LARDER_HOME", "LARDER_LOG", "LARDER_ROUNDS", "LARDER_SERVERS"];

/// What the command works with.
pub(crate) struct Config {
    pub(crate) home: PathBuf,
    pub(crate) store: StoreConfig,
    pub(crate) engine: EngineConfig,
    pub(crate) hub: HubConfig,
    /// As the field has it, so that it can be sent to the process that holds the store.
    pub(crate) private_hosts: String,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct FileConfig {
    store: StoreFields,
    origin: OriginFields,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct StoreFields {
    quota_bytes: Option<u64>,
    free_floor_bytes: Option<u64>,
    keep_hours: Option<u64>,
    lease_hours: Option<u64>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct OriginFields {
    hub_endpoint: Option<String>,
    stall_ms: Option<u64>,
    reads: Option<usize>,
    reads_per_file: Option<usize>,
    range_bytes: Option<u64>,
    private_hosts: Option<String>,
}

impl Config {
    /// Reads `config.toml` in the home folder, then the environment, which goes before it.
    pub(crate) fn load(home: Option<PathBuf>) -> anyhow::Result<Self> {
        let home = std::path::absolute(home.map_or_else(default_home, Ok)?)?;
        let path = home.join("config.toml");
        let mut table = read_table(&path)?;
        check_names(&table).with_context(|| path.display().to_string())?;
        apply_environment(
            &mut table,
            std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?))),
        )?;
        let fields: FileConfig = table.try_into().with_context(|| format!("{} or a LARDER_ variable", path.display()))?;
        Self::compose(home, fields)
    }

    fn compose(home: PathBuf, fields: FileConfig) -> anyhow::Result<Self> {
        let FileConfig { store: of_store, origin: of_origin } = fields;
        let hours = |name: &str, hours: u64| {
            ensure!(hours <= MAX_HOURS, "store.{name} must be at most {MAX_HOURS}: ten years");
            Ok(Duration::from_secs(hours * 3600))
        };
        let mut store = StoreConfig { quota_bytes: of_store.quota_bytes.filter(|bytes| *bytes > 0), ..StoreConfig::default() };
        store.free_floor_bytes = of_store.free_floor_bytes.unwrap_or(store.free_floor_bytes);
        store.keep = of_store.keep_hours.map_or(Ok(store.keep), |keep| hours("keep_hours", keep))?;
        store.lease = of_store.lease_hours.map_or(Ok(store.lease), |lease| hours("lease_hours", lease))?;
        let mut engine = EngineConfig::default();
        engine.reads = of_origin.reads.unwrap_or(engine.reads);
        engine.reads_per_file = of_origin.reads_per_file.unwrap_or(engine.reads_per_file);
        engine.range_chunks = of_origin.range_bytes.map_or(engine.range_chunks, |bytes| bytes / larder_content::CHUNK_BYTES);
        if engine.reads == 0 || engine.reads_per_file == 0 || engine.range_chunks == 0 {
            bail!("origin.reads and origin.reads_per_file must be at least 1, and origin.range_bytes at least 262144");
        }
        let stall = Duration::from_millis(of_origin.stall_ms.unwrap_or(20_000));
        if stall.is_zero() {
            bail!("origin.stall_ms must be at least 1");
        }
        let mut hub = HubConfig { stall, token: hub_token(), ..HubConfig::default() };
        hub.endpoint = variable("HF_ENDPOINT").or(of_origin.hub_endpoint).unwrap_or(hub.endpoint);
        let private_hosts = of_origin.private_hosts.unwrap_or_default();
        PrivateHosts::parse(&private_hosts).context("origin.private_hosts")?;
        Ok(Self { home, store, engine, hub, private_hosts })
    }
}

/// The text of a configuration file that changes nothing and explains everything.
pub(crate) fn explained() -> String {
    let mut text = "# The configuration of this Larder store. Every field is shown with its default; take away the # to set it.\n\
        # A field can also be set as LARDER_<SECTION>_<FIELD> in the environment, which goes before this file.\n"
        .to_owned();
    let mut section = "";
    for field in &FIELDS {
        if field.section != section {
            section = field.section;
            text.push_str(&format!("\n[{section}]\n"));
        }
        text.push_str(&format!("# {}\n# {} = {}\n", field.doc, field.name, field.default));
    }
    text
}

fn default_home() -> anyhow::Result<PathBuf> {
    let base = variable("XDG_DATA_HOME").map(PathBuf::from).or_else(|| Some(PathBuf::from(variable("HOME")?).join(".local/share")));
    Ok(base.context("neither LARDER_HOME nor HOME is set: say --home DIR")?.join("larder"))
}

fn read_table(path: &Path) -> anyhow::Result<toml::Table> {
    match std::fs::read_to_string(path) {
        Ok(text) => text.parse().with_context(|| path.display().to_string()),
        // A home that is no folder is what the store tells of.
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(toml::Table::new()),
        Err(error) => Err(error).with_context(|| path.display().to_string()),
    }
}

fn check_names(table: &toml::Table) -> anyhow::Result<()> {
    for (section, fields) in table {
        let sections = FIELDS.iter().map(|field| field.section);
        if !sections.clone().any(|known| known == section) {
            bail!("there is no section [{section}]{}", suggestion(section, sections));
        }
        let names = FIELDS.iter().filter(|field| field.section == section).map(|field| field.name);
        for name in fields.as_table().into_iter().flat_map(toml::Table::keys) {
            if !names.clone().any(|known| known == name) {
                bail!("there is no field {name} in [{section}]{}", suggestion(name, names));
            }
        }
    }
    Ok(())
}

fn suggestion<'a>(wrong: &str, known: impl Iterator<Item = &'a str>) -> String {
    let nearest = known.max_by(|a, b| strsim::jaro_winkler(a, wrong).total_cmp(&strsim::jaro_winkler(b, wrong)));
    nearest.map_or_else(String::new, |nearest| format!("; did you mean {nearest}?"))
}

/// Sets the fields that the environment sets.
fn apply_environment(table: &mut toml::Table, variables: impl Iterator<Item = (String, String)>) -> anyhow::Result<()> {
    let name_of = |field: &Field| format!("LARDER_{}_{}", field.section, field.name).to_uppercase();
    for (name, value) in variables.filter(|(name, _)| name.starts_with("LARDER_") && !OTHER_VARIABLES.contains(&name.as_str())) {
        let Some(field) = FIELDS.iter().find(|field| name_of(field) == name) else {
            let names: Vec<String> = FIELDS.iter().map(name_of).chain(OTHER_VARIABLES.map(str::to_owned)).collect();
            bail!("the variable {name} means nothing{}", suggestion(&name, names.iter().map(String::as_str)));
        };
        let value = if field.default.starts_with('"') {
            toml::Value::String(value)
        } else {
            toml::Value::Integer(value.parse().with_context(|| format!("{name} must be a whole number"))?)
        };
        let section = table.entry(field.section).or_insert_with(|| toml::Value::Table(toml::Table::new()));
        if let Some(section) = section.as_table_mut() {
            section.insert(field.name.to_owned(), value);
        }
    }
    Ok(())
}

/// `HF_TOKEN`, else the file that the hub's own tools store it in.
fn hub_token() -> Option<Secret> {
    if let Some(token) = variable("HF_TOKEN") {
        return Some(Secret::new(token.trim()));
    }
    if let Some(path) = variable("HF_TOKEN_PATH") {
        let text = std::fs::read_to_string(path).ok()?;
        return Some(Secret::new(text.trim())).filter(|token| !token.is_empty());
    }
    let cache = variable("XDG_CACHE_HOME").map(PathBuf::from).or_else(|| Some(PathBuf::from(variable("HOME")?).join(".cache")));
    let hf_home = variable("HF_HOME").map(PathBuf::from).or_else(|| cache.map(|cache| cache.join("huggingface")));
    HubConfig::stored_token(hf_home?)
}

/// The keys for `pull s3://…`, by the AWS conventions. Temporary ones are not used: no origin takes their session token.
///
/// # Errors
/// One key is set without the other.
pub(crate) fn aws_keys() -> anyhow::Result<Option<PullKeys>> {
    aws_keys_of(variable)
}

fn aws_keys_of(variable: impl Fn(&str) -> Option<String>) -> anyhow::Result<Option<PullKeys>> {
    if variable("AWS_SESSION_TOKEN").is_some() {
        tracing::warn!("AWS_SESSION_TOKEN is not supported: the bucket is read without the keys in the environment");
        return Ok(None);
    }
    let region = variable("AWS_REGION").or_else(|| variable("AWS_DEFAULT_REGION"));
    match (variable("AWS_ACCESS_KEY_ID"), variable("AWS_SECRET_ACCESS_KEY")) {
        (Some(access_key_id), Some(secret_access_key)) => Ok(Some(PullKeys { region, access_key_id, secret_access_key })),
        (None, None) => Ok(None),
        (Some(_), None) => bail!("AWS_ACCESS_KEY_ID is set without AWS_SECRET_ACCESS_KEY: set both, or neither to read without keys"),
        (None, Some(_)) => bail!("AWS_SECRET_ACCESS_KEY is set without AWS_ACCESS_KEY_ID: set both, or neither to read without keys"),
    }
}

/// A variable that is set to more than space.
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.trim().is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str, variables: &[(&str, &str)]) -> anyhow::Result<FileConfig> {
        let mut table: toml::Table = text.parse()?;
        check_names(&table)?;
        apply_environment(&mut table, variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())))?;
        Ok(table.try_into()?)
    }

    fn message(result: anyhow::Result<FileConfig>) -> String {
        result.err().map(|error| format!("{error:#}")).unwrap_or_default()
    }

    #[test]
    fn the_explained_file_is_valid_and_every_field_in_it_can_be_set() {
        assert!(parse(&explained(), &[]).is_ok());
        for field in &FIELDS {
            let set = format!("[{}]\n{} = {}", field.section, field.name, field.default);
            assert!(parse(&set, &[]).is_ok(), "{set}");
        }
    }

    #[test]
    fn the_environment_goes_before_the_file() {
        let config = parse("[store]\nquota_bytes = 5", &[("LARDER_STORE_QUOTA_BYTES", "7"), ("LARDER_HOME", "/x")]).unwrap();
        assert_eq!(config.store.quota_bytes, Some(7));
    }

    #[test]
    fn unknown_names_are_refused_with_the_nearest_known_one() {
        assert!(message(parse("[store]\nquota_byte = 5", &[])).ends_with("did you mean quota_bytes?"));
        assert!(message(parse("[stores]", &[])).ends_with("did you mean store?"));
        assert!(message(parse("", &[("LARDER_STORE_QUOTA", "5")])).ends_with("did you mean LARDER_STORE_QUOTA_BYTES?"));
        assert!(message(parse("", &[("LARDER_ORIGIN_READS", "many")])).contains("whole number"));
    }

    #[test]
    fn times_that_no_clock_reaches_are_refused() {
        let compose = |text: &str| Config::compose(PathBuf::from("/x"), parse(text, &[]).unwrap());
        for field in ["keep_hours", "lease_hours"] {
            let error = compose(&format!("[store]\n{field} = 5_000_000_000_000_000")).err().unwrap().to_string();
            assert_eq!(error, format!("store.{field} must be at most 87600: ten years"));
            assert!(compose(&format!("[store]\n{field} = 87600")).is_ok());
        }
    }

    #[test]
    fn keys_of_the_environment_are_used_whole_or_not_at_all() {
        let keys = |set: &[(&str, &str)]| {
            let find = |name: &str| set.iter().find(|(other, _)| *other == name).map(|(_, value)| (*value).to_owned());
            aws_keys_of(find).map(|keys| keys.map(|keys| (keys.region, keys.access_key_id, keys.secret_access_key)))
        };
        let (id, secret, token) = (("AWS_ACCESS_KEY_ID", "i"), ("AWS_SECRET_ACCESS_KEY", "s"), ("AWS_SESSION_TOKEN", "t"));
        assert_eq!(keys(&[]).unwrap(), None);
        assert_eq!(keys(&[id, secret, ("AWS_DEFAULT_REGION", "r")]).unwrap(), Some((Some("r".into()), "i".into(), "s".into())));
        assert!(keys(&[id]).unwrap_err().to_string().starts_with("AWS_ACCESS_KEY_ID is set without AWS_SECRET_ACCESS_KEY"));
        assert!(keys(&[secret]).unwrap_err().to_string().starts_with("AWS_SECRET_ACCESS_KEY is set without AWS_ACCESS_KEY_ID"));
        // With their token temporary keys would be others: a server would call them wrong.
        assert_eq!(keys(&[id, secret, token]).unwrap(), None);
    }
}
