//! What is wrong with a definition, where, and what to do about it.

use std::fmt;

/// A fault of a definition, or of the settings given with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobError {
    /// The op: `ops[0] "serve"`.
    pub op: Option<String>,
    /// The entry of its resources: `resources[2]`; `resources[2][1]` for the second that `resources[2]` spreads into.
    pub entry: Option<String>,
    /// The field, with its way down inside the entry: `buckets[1].url`.
    pub field: Option<String>,
    /// What is wrong. Never holds a credential.
    pub what: String,
    /// What to do about it.
    pub advice: String,
}

impl JobError {
    pub(crate) fn new(what: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { op: None, entry: None, field: None, what: what.into(), advice: advice.into() }
    }

    /// Says that the fault is in field `name`, or further down in it if it is placed already.
    pub(crate) fn in_field(mut self, name: &str) -> Self {
        self.field = Some(match self.field.take() {
            None => name.to_owned(),
            Some(inner) if inner.starts_with('[') => format!("{name}{inner}"),
            Some(inner) => format!("{name}.{inner}"),
        });
        self
    }

    pub(crate) fn in_entry(mut self, label: &str) -> Self {
        self.entry = Some(label.to_owned());
        self
    }

    pub(crate) fn in_op(mut self, label: &str) -> Self {
        self.op = Some(label.to_owned());
        self
    }
}

impl fmt::Display for JobError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place: Vec<&str> = [&self.op, &self.entry, &self.field].into_iter().flatten().map(String::as_str).collect();
        if !place.is_empty() {
            write!(f, "{}: ", place.join(", "))?;
        }
        write!(f, "{}; {}", self.what, self.advice)
    }
}

impl std::error::Error for JobError {}

/// `text` in quotes, short enough for a message.
pub(crate) fn quoted(text: &str) -> String {
    const SHOWN: usize = 80;
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{:?}…", &text[..end]),
        None => format!("{text:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_says_where_what_and_what_to_do() {
        let error = JobError::new("it is missing", "write one").in_field("url").in_field("[1]").in_field("buckets");
        let error = error.in_entry("resources[2]").in_op("ops[0] \"serve\"");
        assert_eq!(error.to_string(), "ops[0] \"serve\", resources[2], buckets[1].url: it is missing; write one");
    }
}
