//! The fields of the configuration file: their names, defaults and meaning.
//!
//! Every field has a row in [`FIELDS`], with its unit, default and cost; `larder init` writes that table as a file. A name that
//! is none of them is refused, with the nearest that is.

use anyhow::{Context, bail};
use serde::Deserialize;

use super::market::{self, MarketFields};

/// One field of the configuration file.
pub(super) struct Field {
    pub(super) section: &'static str,
    pub(super) name: &'static str,
    /// As the file writes it; its type is the field's.
    pub(super) default: &'static str,
    pub(super) doc: &'static str,
}

const fn field(section: &'static str, name: &'static str, default: &'static str, doc: &'static str) -> Field {
    Field { section, name, default, doc }
}

pub(super) const FIELDS: [Field; 19] = [
    field("store", "quota_bytes", "0", "Bytes the store may hold. 0 means half of the disk that is free."),
    field("store", "free_floor_bytes", "2147483648", "Bytes of the disk that are left free, whatever the quota."),
    field("store", "keep_hours", "24", "Hours that what no lease holds is kept after its last use, while there is room."),
    field("store", "lease_hours", "168", "Hours that a lease holds a job's files unless it is released before."),
    field("origin", "hub_endpoint", "\"https://huggingface.co\"", "The HuggingFace hub. HF_ENDPOINT goes before it."),
    field("origin", "stall_ms", "20000", "Milliseconds that an origin may send nothing before a request is made again."),
    field("origin", "reads", "32", "Reads at once, of all files together. Each costs a connection and about 2 MiB of memory."),
    field("origin", "reads_per_file", "16", "Reads at once of one file."),
    field("origin", "range_bytes", "8388608", "Bytes asked for in one read, in steps of 262144. Less costs more requests."),
    field("origin", "bytes_per_second", "0", "The most bytes a second that are read from all origins together. 0 means no cap."),
    field("origin", "private_hosts", "\"\"", PRIVATE_HOSTS),
    field("jobs", "patience", "1.5", PATIENCE),
    field("peers", "key", "\"identity.key\"", KEY),
    field(
        "peers",
        "connections",
        "16",
        "Peers that connections are kept up to, in each market. Each costs about 0.1 MB of memory, and some MB while files move.",
    ),
    field("peers", "upload_bytes_per_second", "0", "The most bytes a second that are sent to peers, in each market. 0 means no cap."),
    field("peers", "download_bytes_per_second", "0", "The most bytes a second that are taken from peers, in each market. 0 means no cap."),
    field("peers", "quic", "true", "Whether QUIC is spoken beside TCP."),
    field("api", "listen", "\"\"", API_LISTEN),
    field("api", "roots", "\"\"", API_ROOTS),
];

const PRIVATE_HOSTS: &str = "Hosts in private networks or on this machine that jobs may name, such as \"minio.lan, 10.0.0.5\"; \"*\" is any. \
    The hub's own host needs no word here. Each lets whoever writes jobs look at what it serves.";

const PATIENCE: &str = "How many times longer than straight from the origin a job may take before the origin helps more: 1 is as fast as can be, \
    0 means no limit. More spares the origin.";

const KEY: &str = "The file of the key that makes this node known to others, in the store's folder unless a path leads elsewhere. \
    The host's Solana key file can be named here.";

const API_LISTEN: &str = "Where the local HTTP API of `larder run` listens beside the store's socket, such as \"127.0.0.1:7070\"; \"\" is nowhere. \
    It asks for the token in the file api-token of the store's folder.";

const API_ROOTS: &str = "Folders that jobs may be laid in by whoever asks over TCP, such as \"/srv/jobs, /data\"; \"\" is none but the store's own. \
    At the socket any folder can be named.";

/// The configuration file and the environment, as they are written.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct FileConfig {
    pub(super) store: StoreFields,
    pub(super) origin: OriginFields,
    pub(super) jobs: JobFields,
    pub(super) peers: PeerFields,
    pub(super) api: ApiFields,
    pub(super) markets: std::collections::BTreeMap<String, MarketFields>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct StoreFields {
    pub(super) quota_bytes: Option<u64>,
    pub(super) free_floor_bytes: Option<u64>,
    pub(super) keep_hours: Option<u64>,
    pub(super) lease_hours: Option<u64>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct OriginFields {
    pub(super) hub_endpoint: Option<String>,
    pub(super) stall_ms: Option<u64>,
    pub(super) reads: Option<usize>,
    pub(super) reads_per_file: Option<usize>,
    pub(super) range_bytes: Option<u64>,
    pub(super) bytes_per_second: Option<u64>,
    pub(super) private_hosts: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct JobFields {
    pub(super) patience: Option<f64>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct PeerFields {
    pub(super) key: Option<String>,
    pub(super) connections: Option<usize>,
    pub(super) upload_bytes_per_second: Option<u64>,
    pub(super) download_bytes_per_second: Option<u64>,
    pub(super) quic: Option<bool>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct ApiFields {
    pub(super) listen: Option<String>,
    pub(super) roots: Option<String>,
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
    text.push_str(market::EXPLAINED);
    text
}

/// Refuses names that mean nothing.
pub(super) fn check_names(table: &toml::Table) -> anyhow::Result<()> {
    for (section, fields) in table {
        let sections = FIELDS.iter().map(|field| field.section).chain([market::SECTION]);
        if !sections.clone().any(|known| known == section) {
            bail!("there is no section [{section}]{}", suggestion(section, sections));
        }
        let Some(fields) = fields.as_table() else { bail!("{section} is a section: its fields follow a line [{section}]") };
        if section == market::SECTION {
            market::check_names(fields)?;
            continue;
        }
        let names = FIELDS.iter().filter(|field| field.section == section).map(|field| field.name);
        for name in fields.keys() {
            if !names.clone().any(|known| known == name) {
                bail!("there is no field {name} in [{section}]{}", suggestion(name, names));
            }
        }
    }
    Ok(())
}

/// A question that names the nearest of what is known.
pub(crate) fn suggestion<'a>(wrong: &str, known: impl Iterator<Item = &'a str>) -> String {
    let nearest = known.max_by(|a, b| strsim::jaro_winkler(a, wrong).total_cmp(&strsim::jaro_winkler(b, wrong)));
    nearest.map_or_else(String::new, |nearest| format!("; did you mean {nearest}?"))
}

/// Sets the fields that the environment sets. `others` are variables that begin as ours do and are no fields.
pub(super) fn apply_environment(
    table: &mut toml::Table,
    others: &[&str],
    variables: impl Iterator<Item = (String, String)>,
) -> anyhow::Result<()> {
    let name_of = |field: &Field| format!("LARDER_{}_{}", field.section, field.name).to_uppercase();
    for (name, value) in variables.filter(|(name, _)| name.starts_with("LARDER_") && !others.contains(&name.as_str())) {
        let Some(field) = FIELDS.iter().find(|field| name_of(field) == name) else {
            let names: Vec<String> = FIELDS.iter().map(name_of).chain(others.iter().map(|other| (*other).to_owned())).collect();
            bail!("the variable {name} means nothing{}", suggestion(&name, names.iter().map(String::as_str)));
        };
        let value = value_of(field, &name, value)?;
        let section = table.entry(field.section).or_insert_with(|| toml::Value::Table(toml::Table::new()));
        if let Some(section) = section.as_table_mut() {
            section.insert(field.name.to_owned(), value);
        }
    }
    Ok(())
}

/// A variable's value, of the type that its field has.
fn value_of(field: &Field, name: &str, value: String) -> anyhow::Result<toml::Value> {
    if field.default.starts_with('"') {
        return Ok(toml::Value::String(value));
    }
    if field.default.parse::<bool>().is_ok() {
        return Ok(toml::Value::Boolean(value.parse().with_context(|| format!("{name} must be true or false"))?));
    }
    if field.default.contains('.') {
        return Ok(toml::Value::Float(value.parse().with_context(|| format!("{name} must be a number"))?));
    }
    Ok(toml::Value::Integer(value.parse().with_context(|| format!("{name} must be a whole number"))?))
}
