//! Reads a job definition.

use std::collections::HashSet;

use larder_content::Resource;
use serde_json::Value;

use crate::error::quoted;
use crate::fields::Fields;
use crate::literal::{Item, Literals};
use crate::resource::Asked;
use crate::{JobError, Kind, Layout, Settings, TargetPath};

/// The longest definition that is read, in bytes; each may take 160 bytes of memory while it is.
pub const MAX_TEXT_BYTES: usize = 4 << 20;
/// The most resources that one definition may ask for; also the most items of one list in it.
pub const MAX_RESOURCES: usize = 10_000;

/// Where an Ollama entry lands that names no target.
const OLLAMA_TARGET: &str = "/root/.ollama/models";

/// What a job needs before it runs, and where it goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// The ops, in the definition's order; those without resources have no entries.
    pub ops: Vec<Op>,
    /// Where the files of all ops lie.
    pub layout: Layout,
    /// What was passed over or decided, for the operator to see.
    pub warnings: Vec<String>,
}

impl Job {
    /// The resources the job asks for, each once, in the definition's order.
    #[must_use]
    pub fn resources(&self) -> Vec<&Resource> {
        let mut seen = HashSet::new();
        let all = self.ops.iter().flat_map(|op| &op.entries).flat_map(|entry| &entry.resources);
        all.filter(|resource| seen.insert(*resource)).collect()
    }
}

/// One container of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Op {
    /// What errors call it, with its id as the definition writes it: `ops[0] "serve"`.
    pub label: String,
    /// Its name, unique in the job.
    pub id: String,
    /// Its resources, in the definition's order, with spreads carried out.
    pub entries: Vec<Entry>,
}

/// One entry of an op's resources.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Where it stands in the definition: `ops[0] "serve", resources[2]`.
    pub label: String,
    /// Its type.
    pub kind: Kind,
    /// Where in the container its files go.
    pub target: TargetPath,
    /// Whether the job may write there.
    pub writable: bool,
    /// What it asks for; more than one only with `buckets`.
    pub resources: Vec<Resource>,
}

/// Reads a job definition: JSON text of the market's shape, with `settings` for what only a running job knows.
///
/// Fields that are not needed here are passed over.
///
/// # Errors
/// Names the op, the entry and the field that is wrong, why, and what to do.
pub fn parse(text: &str, settings: &Settings) -> Result<Job, JobError> {
    let definition = json(text)?;
    let literals = Literals::new(&definition, text.len(), settings);
    let Some(ops) = definition.get("ops").and_then(Value::as_array) else { return Err(no_ops(&definition)) };
    let mut reader = Reader { literals: &literals, budget: Budget::default(), warnings: vec![] };
    let ops: Vec<Op> = ops.iter().enumerate().map(|(index, op)| reader.op(index, op)).collect::<Result<_, _>>()?;
    let mut ids = HashSet::new();
    if let Some(op) = ops.iter().find(|op| !ids.insert(&op.id)) {
        return Err(JobError::new("is the id of an earlier op too", "give every op its own id").in_field("id").in_op(&op.label));
    }
    let mut warnings = reader.warnings;
    let layout = Layout::new(&ops, &mut warnings)?;
    Ok(Job { ops, layout, warnings })
}

/// Reads JSON text of bounded length; a byte order mark before it is passed over.
pub(crate) fn json(text: &str) -> Result<Value, JobError> {
    if text.len() > MAX_TEXT_BYTES {
        let what = format!("the text has {} bytes, more than the {MAX_TEXT_BYTES} that are read", text.len());
        return Err(JobError::new(what, "check that it is the right file"));
    }
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    serde_json::from_str(text).map_err(|error| JobError::new(format!("the text is not JSON: {error}"), "mend it there"))
}

/// Counts the resources of a document.
#[derive(Default)]
pub(crate) struct Budget(usize);

impl Budget {
    /// Counts `more` resources.
    pub(crate) fn take(&mut self, more: usize) -> Result<(), JobError> {
        self.0 += more;
        if self.0 > MAX_RESOURCES {
            return Err(JobError::new(format!("the definition asks for more than {MAX_RESOURCES} resources"), "split the job"));
        }
        Ok(())
    }
}

fn no_ops(definition: &Value) -> JobError {
    let what = match definition.get("required_remote_resources") {
        Some(_) => "this is a market's list of required resources, not a job definition",
        None => "this is no job definition: it has no list \"ops\"",
    };
    JobError::new(what, "give a definition of the form {\"ops\": [{\"id\": …, \"args\": {\"resources\": […]}}]}").in_field("ops")
}

fn op_label(index: usize, id: Option<&str>) -> String {
    id.map_or_else(|| format!("ops[{index}]"), |id| format!("ops[{index}] {}", quoted(id.trim())))
}

/// Reads ops, and keeps count on the way.
struct Reader<'a> {
    literals: &'a Literals<'a>,
    budget: Budget,
    warnings: Vec<String>,
}

impl Reader<'_> {
    fn op(&mut self, index: usize, op: &Value) -> Result<Op, JobError> {
        let nameless = |error: JobError| error.in_op(&op_label(index, None));
        let fields = Fields::new(op, self.literals).map_err(nameless)?;
        let id = fields.word("id").map_err(nameless)?;
        let id = id.ok_or_else(|| nameless(JobError::new("is missing or empty", "name the op").in_field("id")))?;
        let label = op_label(index, fields.written("id"));
        let entries = self.entries(&fields, &label).map_err(|error| error.in_op(&label))?;
        Ok(Op { label, id, entries })
    }

    fn entries(&mut self, op: &Fields, op_label: &str) -> Result<Vec<Entry>, JobError> {
        let Some(args) = op.fields("args")? else { return Ok(vec![]) };
        let items = args.list("resources").map_err(in_entry_of_resources)?;
        let mut entries = Vec::new();
        for item in items {
            let place = format!("resources{}", item.place);
            let label = format!("{op_label}, {place}");
            entries.push(self.entry(&item, label).map_err(|error| error.in_entry(&place))?);
        }
        Ok(entries)
    }

    fn entry(&mut self, item: &Item, label: String) -> Result<Entry, JobError> {
        let fields = Fields::of_item(item, self.literals)?;
        let Asked { kind, resources, writable, warnings } = Asked::read(&fields)?;
        self.budget.take(resources.len())?;
        self.warnings.extend(warnings.iter().map(|warning| format!("{label}: {warning}")));
        let target = target(&fields, kind)?;
        Ok(Entry { label, kind, target, writable, resources })
    }
}

/// Says of a fault in the list of resources which entry it is in, as far as it is in one.
fn in_entry_of_resources(mut error: JobError) -> JobError {
    let field = error.field.take().unwrap_or_default();
    if !field.starts_with("resources[") {
        return error.in_field(&field).in_field("args");
    }
    match field.split_once('.') {
        Some((entry, field)) => error.in_field(field).in_entry(entry),
        None => error.in_entry(&field),
    }
}

fn target(entry: &Fields, kind: Kind) -> Result<TargetPath, JobError> {
    let missing = || JobError::new("is missing", "write where in the container its files go, such as /data-models");
    let target = match (entry.text("target")?, kind) {
        (Some(target), _) => target,
        (None, Kind::Ollama) => OLLAMA_TARGET.to_owned(),
        (None, Kind::Hf | Kind::S3) => return Err(missing().in_field("target")),
    };
    TargetPath::new(target).map_err(|error| entry.fault("target", &error.what, &error.advice))
}
