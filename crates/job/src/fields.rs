//! Reads the fields of one JSON object, with literals filled in.

use std::borrow::Cow;

use serde_json::{Map, Value};

use crate::JobError;
use crate::literal::{Literals, kind_of};

/// The fields of an object. A field that is `null` counts as absent; what is never asked for is passed over, literals and all.
pub(crate) struct Fields<'a> {
    map: Cow<'a, Map<String, Value>>,
    literals: &'a Literals<'a>,
}

impl<'a> Fields<'a> {
    pub(crate) fn new(object: &'a Value, literals: &'a Literals<'a>) -> Result<Self, JobError> {
        Ok(Self { map: literals.object(object)?, literals })
    }

    /// The object in field `name`.
    pub(crate) fn fields(&self, name: &str) -> Result<Option<Fields<'_>>, JobError> {
        let read = |value| Fields::new(value, self.literals);
        self.get(name).map(read).transpose().map_err(|error| error.in_field(name))
    }

    /// The items of the list in field `name`, each with its place; none if there is no such field.
    pub(crate) fn list(&self, name: &str) -> Result<Vec<(String, Value)>, JobError> {
        let read = |value| self.literals.items(value);
        Ok(self.get(name).map(read).transpose().map_err(|error| error.in_field(name))?.unwrap_or_default())
    }

    /// The text in field `name`, as written but for its literals.
    pub(crate) fn text(&self, name: &str) -> Result<Option<String>, JobError> {
        let read = |value: &Value| match value.as_str() {
            Some(text) => self.literals.text(text),
            None => Err(JobError::new(format!("is {}", kind_of(value)), "write text in double quotes")),
        };
        self.get(name).map(read).transpose().map_err(|error| error.in_field(name))
    }

    /// The text in field `name` without the space around it; absent if nothing is left.
    pub(crate) fn word(&self, name: &str) -> Result<Option<String>, JobError> {
        let text = self.text(name)?;
        Ok(text.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty()))
    }

    /// Whether field `name` is true; a literal can only write it as text.
    pub(crate) fn flag(&self, name: &str) -> Result<bool, JobError> {
        let wrong = |value: &Value| Err(JobError::new(format!("is {}", kind_of(value)), "write true or false").in_field(name));
        match self.get(name) {
            None => Ok(false),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(value @ Value::String(_)) => match self.word(name)?.as_deref() {
                Some("true") => Ok(true),
                Some("false") | None => Ok(false),
                Some(_) => wrong(value),
            },
            Some(other) => wrong(other),
        }
    }

    /// Answers the literals of what lies in it.
    pub(crate) fn literals(&self) -> &Literals<'a> {
        self.literals
    }

    fn get(&self, name: &str) -> Option<&Value> {
        self.map.get(name).filter(|value| !value.is_null())
    }
}
