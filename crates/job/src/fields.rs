//! Reads the fields of one JSON object, with literals filled in.

use std::borrow::Cow;

use serde_json::{Map, Value};

use crate::JobError;
use crate::error::quoted;
use crate::literal::{Item, Literals, kind_of};

/// The fields of an object. A field that is `null` counts as absent; what is never asked for is passed over, literals and all.
pub(crate) struct Fields<'a> {
    map: Cow<'a, Map<String, Value>>,
    literals: &'a Literals<'a>,
    /// Whether the object stands in the definition as it is, so that errors may show the texts in it.
    as_written: bool,
}

impl<'a> Fields<'a> {
    pub(crate) fn new(object: &'a Value, literals: &'a Literals<'a>) -> Result<Self, JobError> {
        let map = literals.object(object)?;
        let as_written = matches!(map, Cow::Borrowed(_));
        Ok(Self { map, literals, as_written })
    }

    /// The fields of an item of a list.
    pub(crate) fn of_item(item: &'a Item, literals: &'a Literals<'a>) -> Result<Self, JobError> {
        let fields = Self::new(&item.value, literals)?;
        let as_written = fields.as_written && item.is_written_object;
        Ok(Self { as_written, ..fields })
    }

    /// The object in field `name`.
    pub(crate) fn fields(&self, name: &str) -> Result<Option<Fields<'_>>, JobError> {
        let read = |value| {
            let fields = Fields::new(value, self.literals)?;
            Ok(Fields { as_written: fields.as_written && self.as_written, ..fields })
        };
        self.get(name).map(read).transpose().map_err(|error: JobError| error.in_field(name))
    }

    /// The items of the list in field `name`; none if there is no such field.
    pub(crate) fn list(&self, name: &str) -> Result<Vec<Item>, JobError> {
        let read = |value| self.literals.items(value, self.as_written);
        Ok(self.get(name).map(read).transpose().map_err(|error| error.in_field(name))?.unwrap_or_default())
    }

    /// The text in field `name`, as written but for its literals. It holds no control character.
    pub(crate) fn text(&self, name: &str) -> Result<Option<String>, JobError> {
        self.filled(name)?.map(printable).transpose().map_err(|error| error.in_field(name))
    }

    /// The text in field `name` without the space around it; absent if nothing is left. It holds no control character.
    pub(crate) fn word(&self, name: &str) -> Result<Option<String>, JobError> {
        let word = self.filled(name)?.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
        word.map(printable).transpose().map_err(|error| error.in_field(name))
    }

    fn filled(&self, name: &str) -> Result<Option<String>, JobError> {
        let read = |value: &Value| match value.as_str() {
            Some(text) => self.literals.text(text),
            None => Err(JobError::new(format!("is {}", kind_of(value)), "write text in double quotes")),
        };
        self.get(name).map(read).transpose().map_err(|error| error.in_field(name))
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

    /// The text in field `name` with its literals' names in place of their values; `None` where it came out of a literal.
    pub(crate) fn written(&self, name: &str) -> Option<&str> {
        self.get(name).filter(|_| self.as_written)?.as_str()
    }

    /// A fault of the text in field `name`, which is shown [as written](Self::written): its value may be a secret.
    pub(crate) fn fault(&self, name: &str, what: &str, advice: &str) -> JobError {
        let what = self.written(name).map_or_else(|| what.to_owned(), |text| format!("{} {what}", quoted(text)));
        JobError::new(what, advice).in_field(name)
    }

    /// Answers the literals of what lies in it.
    pub(crate) fn literals(&self) -> &Literals<'a> {
        self.literals
    }

    fn get(&self, name: &str) -> Option<&Value> {
        self.map.get(name).filter(|value| !value.is_null())
    }
}

/// Refuses text that would command the terminal it is shown on. The text itself is not shown: it may be a key.
fn printable(text: String) -> Result<String, JobError> {
    if text.contains(char::is_control) {
        return Err(JobError::new("holds a control character", "take it out: no field needs one"));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::{Settings, parse};

    fn fault(id: &str, field: &str, text: &str) -> String {
        let mut entry = json!({"type": "HF", "repo": "org/name", "target": "/data"});
        entry[field] = json!(text);
        let definition = json!({"ops": [{"id": id, "args": {"resources": [entry]}}]});
        parse(&definition.to_string(), &Settings::default()).map_or_else(|error| error.to_string(), |_| String::new())
    }

    #[test]
    fn text_that_commands_a_terminal_is_refused_and_not_shown() {
        for text in ["a\u{1b}[2Jb", "a\u{9b}2Jb", "a\nb", "a\u{7f}b"] {
            let target = format!("/{text}/../data");
            for (id, field, text) in [
                (text, "target", "/data"),
                ("serve", "type", text),
                ("serve", "repo", text),
                ("serve", "revision", text),
                ("serve", "accessToken", text),
                ("serve", "target", &target),
            ] {
                let fault = fault(id, field, text);
                assert!(fault.contains("holds a control character") && !fault.contains(char::is_control), "{field} {text:?}: {fault}");
            }
        }
    }

    #[test]
    fn space_around_a_word_is_no_fault() {
        assert_eq!(fault("serve", "revision", "\tmain\r\n"), "");
    }
}
