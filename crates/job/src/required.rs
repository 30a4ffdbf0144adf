//! Reads what a market wants its hosts to hold at all times.

use larder_content::Resource;
use serde_json::Value;

use crate::definition::{Budget, json};
use crate::fields::Fields;
use crate::literal::Literals;
use crate::resource::Asked;
use crate::{JobError, Kind, Settings};

const LIST: &str = "required_remote_resources";

/// The resources a market wants its hosts to hold; they have no target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Required {
    /// The entries, in the document's order.
    pub entries: Vec<RequiredEntry>,
    /// What was passed over, for the operator to see.
    pub warnings: Vec<String>,
}

/// One entry of a market's required resources.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequiredEntry {
    /// Where it stands in the document: `required_remote_resources[2]`.
    pub label: String,
    /// Its type.
    pub kind: Kind,
    /// What it asks for; more than one only with `buckets`.
    pub resources: Vec<Resource>,
}

/// Reads the answer of a market's `required-resources`: `{"required_images": […], "required_remote_resources": […]}`.
///
/// Images, and targets if there are any, are passed over.
///
/// # Errors
/// Names the entry and the field that is wrong, why, and what to do.
pub fn parse_required(text: &str) -> Result<Required, JobError> {
    let document = json(text)?;
    let settings = Settings::default();
    let literals = Literals::new(&Value::Null, text.len(), &settings);
    if document.get(LIST).is_none() {
        let what = match document.get("ops") {
            Some(_) => "this is a job definition, not a market's list of required resources",
            None => "this is no list of required resources",
        };
        return Err(JobError::new(what, "give the market's answer, with its list of resources").in_field(LIST));
    }
    let mut required = Required { entries: vec![], warnings: vec![] };
    let mut budget = Budget::default();
    for entry in Fields::new(&document, &literals)?.list(LIST)? {
        let label = format!("{LIST}{}", entry.place);
        let mut read = || {
            let asked = Asked::read(&Fields::of_item(&entry, &literals)?)?;
            budget.take(asked.resources.len())?;
            Ok(asked)
        };
        let asked = read().map_err(|error: JobError| error.in_entry(&label))?;
        required.warnings.extend(asked.warnings.iter().map(|warning| format!("{label}: {warning}")));
        required.entries.push(RequiredEntry { label, kind: asked.kind, resources: asked.resources });
    }
    Ok(required)
}
