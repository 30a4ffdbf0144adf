//! What is submitted to the API as a job.
//!
//! What is wrong with it is told without a word of it but the names of fields: it holds tokens and keys.

use std::path::PathBuf;

use larder_node::{Patience, Prepare};
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::arguments::owner;
use crate::config::{Config, suggestion};
use crate::request::MAX_DEFINITION_BYTES;

/// The longest name of a job.
const MAX_NAME_BYTES: usize = 256;
/// What is wrong with a folder that nobody may name over TCP.
const OUTSIDE: &str = "root: over TCP it must lie in a folder that api.roots of the configuration lists, and be written without `..`; \
    without root the job is laid in the store";
/// The fields that a submission may have.
const FIELDS: [&str; 7] = ["definition", "name", "root", "set", "owner", "patience", "market"];

/// A submission as it is written.
#[derive(Deserialize)]
struct Submission<'a> {
    /// The definition, as an object or as a string that holds one.
    #[serde(borrow)]
    definition: &'a RawValue,
    name: Option<String>,
    root: Option<PathBuf>,
    #[serde(default)]
    set: Vec<String>,
    /// `UID:GID`.
    owner: Option<String>,
    /// A number of at least 1, or `fastest`, or `none`.
    patience: Option<Value>,
    market: Option<String>,
}

/// Where a submission came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Door {
    /// The store's socket, which only the store's owner can reach: whoever names a folder there could write to it, too.
    Socket,
    /// TCP, where the token is all that was shown.
    Tcp,
}

/// Reads a submission.
///
/// # Errors
/// Says what is wrong, and shows nothing of what was sent.
pub(crate) fn read(config: &Config, door: Door, body: &[u8]) -> Result<Prepare, String> {
    check_names(body)?;
    let Submission { definition, name, root, set, owner: owned, patience, market } =
        serde_json::from_slice(body).map_err(|error| wrong(&error))?;
    let definition = text(definition)?;
    if definition.len() as u64 > MAX_DEFINITION_BYTES {
        return Err("definition: a job definition may have at most 4 MiB".into());
    }
    let name = name.filter(|name| !name.is_empty()).unwrap_or_else(|| "job".to_owned());
    if name.len() > MAX_NAME_BYTES || name.contains(char::is_control) {
        return Err(format!("name: it may have at most {MAX_NAME_BYTES} bytes, and no control characters"));
    }
    if root.as_ref().is_some_and(|root| !root.is_absolute()) {
        return Err("root: the folder must be written from the root, such as /srv/job7".into());
    }
    let within = match (door, &root) {
        (Door::Tcp, Some(root)) => Some(config.root_of(root).ok_or(OUTSIDE)?.to_owned()),
        (Door::Tcp, None) | (Door::Socket, _) => None,
    };
    if !set.iter().all(|pair| pair.contains('=')) {
        return Err("set: write each setting as KEY=VALUE".into());
    }
    let owner = owned.as_deref().map(owner).transpose().map_err(|error| format!("owner: {error}"))?;
    let patience = patience.as_ref().map(read_patience).transpose().map_err(|error| format!("patience: {error}"))?;
    market.iter().try_for_each(|market| config.check_market(market)).map_err(|error| format!("market: {error}"))?;
    Ok(Prepare { name, definition, set, root, within, owner, patience, market })
}

/// Refuses fields that mean nothing, by their names.
fn check_names(body: &[u8]) -> Result<(), String> {
    let fields: std::collections::BTreeMap<String, &RawValue> = serde_json::from_slice(body).map_err(|error| wrong(&error))?;
    match fields.keys().find(|name| !FIELDS.contains(&name.as_str())) {
        // A secret may stand where a name should.
        Some(name) if name.len() > 32 => Err(format!("there are no fields but {}", FIELDS.join(", "))),
        Some(name) => Err(format!("there is no field {name:?}{}", suggestion(name, FIELDS.into_iter()))),
        None => Ok(()),
    }
}

fn wrong(error: &serde_json::Error) -> String {
    // The error's own text may show a value.
    format!(
        "line {}, column {}: it must be a JSON object with the field definition, and may have {}",
        error.line(),
        error.column(),
        FIELDS[1..].join(", ")
    )
}

fn text(definition: &RawValue) -> Result<String, String> {
    let raw = definition.get();
    if raw.starts_with('"') {
        return serde_json::from_str(raw).map_err(|_| "definition: it is no string".into());
    }
    if raw.starts_with('{') { Ok(raw.to_owned()) } else { Err("definition: it must be an object, or a string that holds one".into()) }
}

fn read_patience(value: &Value) -> Result<Patience, String> {
    let patience = match value {
        Value::String(text) => text.parse(),
        Value::Number(number) => Patience::times(number.as_f64().unwrap_or(f64::NAN)),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => Patience::times(f64::NAN),
    };
    patience.map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_at(door: Door, body: &str) -> Result<Prepare, String> {
        let text = "[api]\nroots = \"/srv/jobs, /data\"\n[markets.here]\nlisten = [\"/ip4/127.0.0.1/tcp/0\"]";
        read(&Config::parse(PathBuf::from("/x"), text).unwrap(), door, body.as_bytes())
    }

    fn parse(body: &str) -> Result<Prepare, String> {
        parse_at(Door::Socket, body)
    }

    #[test]
    fn over_tcp_a_job_is_laid_below_the_folders_of_the_configuration_alone() {
        let with = |door, root: &str| parse_at(door, &format!(r#"{{"definition": {{}}, "root": "{root}"}}"#));
        for (root, within) in [("/srv/jobs/7", "/srv/jobs"), ("/data", "/data"), ("/data/./a//b", "/data")] {
            assert_eq!(with(Door::Tcp, root).unwrap().within, Some(within.into()), "{root}");
        }
        for outside in ["/", "/srv", "/srv/jobs2", "/srv/jobs/../../etc", "/data/..", "/etc/cron.d"] {
            assert!(with(Door::Tcp, outside).err().unwrap_or_default().contains("api.roots"), "{outside}");
            assert!(with(Door::Socket, outside).unwrap().within.is_none());
        }
        assert!(parse_at(Door::Tcp, r#"{"definition": {}}"#).unwrap().root.is_none());
    }

    #[test]
    fn a_definition_is_taken_as_an_object_or_as_text() {
        for body in [r#"{"definition": {"a": 1.00}}"#, r#"{"definition": "{\"a\": 1.00}"}"#] {
            let request = parse(body).unwrap();
            assert_eq!((request.definition.as_str(), request.name.as_str()), ("{\"a\": 1.00}", "job"));
        }
        let full = r#"{"definition": {}, "name": "n", "root": "/srv/j", "set": ["a=b"], "owner": "1:2", "patience": 3, "market": "here"}"#;
        let request = parse(full).unwrap();
        assert_eq!((request.owner, request.set), (Some((1, 2)), vec!["a=b".to_owned()]));
    }

    #[test]
    fn what_is_wrong_is_told_and_nothing_of_it_shown() {
        let cases = [
            ("", "JSON object"),
            ("[\"hidden\"]", "JSON object"),
            (r#"{"name": "hidden"}"#, "the field definition"),
            (r#"{"definition": {}, "name": {"hidden": "hidden"}}"#, "JSON object"),
            (r#"{"definition": {}, "sets": ["hidden"]}"#, "did you mean set?"),
            (r#"{"definition": {}, "hf_hiddenhiddenhiddenhiddenhiddenhidden": 1}"#, "no fields but"),
            (r#"{"definition": 5}"#, "an object, or a string"),
            (r#"{"definition": {}, "set": ["hidden"]}"#, "KEY=VALUE"),
            (r#"{"definition": {}, "root": "hidden"}"#, "from the root"),
            (r#"{"definition": {}, "owner": "hidden"}"#, "UID:GID"),
            (r#"{"definition": {}, "patience": "hidden"}"#, "at least 1"),
            (r#"{"definition": {}, "patience": 0.5}"#, "at least 1"),
            (r#"{"definition": {}, "patience": [1]}"#, "at least 1"),
            (r#"{"definition": {}, "market": "her"}"#, "did you mean here?"),
            (r#"{"definition": {}, "name": "a\nb"}"#, "control characters"),
        ];
        for (body, reason) in cases {
            let error = parse(body).err().unwrap_or_default();
            assert!(error.contains(reason) && !error.contains("hidden"), "{body}: {error}");
        }
        let long = format!(r#"{{"definition": "{}"}}"#, "x".repeat(5 << 20));
        assert!(parse(&long).err().unwrap().contains("4 MiB"));
    }
}
