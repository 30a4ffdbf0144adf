//! Fills in literals, and carries out the markers of lists.
//!
//! A literal is a name between two `%%`. In the market it is looked up in what the running job knows; here in the
//! caller's [`Settings`], then in the definition's `global.variables`. Text that is a literal and nothing else, and whose
//! value looks like JSON, becomes that JSON, so that one literal can stand for a whole list.
//! In a list, a nested list is flattened; `{"__spread__": LIST}` gives the items of LIST, which is a list or its JSON
//! text (with `"chunked": true` a list of texts that are its JSON text in pieces); `"__remove-if-empty__"` asks that a
//! list that ends up empty count as absent, which an empty list does in any case here. In an object, `"__spread__"`
//! gives the fields of an object.
//!
//! Invariant: work and memory are bounded by [`MAX_DEPTH`] and [`MAX_FILLED_BYTES`], whatever the definition says.
//!
//! Source: the market's "Literals (Pipeline)" page, and `interpolateOperation`, `transformCollections` and
//! `stanatizeArrays` (applied in this order) of nosana-ci/nosana-cli, commit 1d3a04c.

use std::borrow::Cow;
use std::cell::Cell;
use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::error::quoted;
use crate::settings::{Settings, canonical};
use crate::{JobError, MAX_RESOURCES};

/// How deep values may hold literals, and lists hold lists.
const MAX_DEPTH: usize = 16;
/// What literals may add to one definition, in bytes of their values: so much to the shortest, more with each byte of it and of the
/// settings, and never more than the last. Their values may be JSON, which takes up many times its text.
const LEAST_FILLED_BYTES: usize = 64 << 10;
const FILLED_BYTES_A_BYTE: usize = 16;
const MAX_FILLED_BYTES: usize = 16 << 20;
/// What filling in a literal counts for beside its value, so that many short ones are bounded too.
const LITERAL_BYTES: usize = 256;
/// The longest name of a literal, in bytes.
const MAX_NAME_BYTES: usize = 512;

const SPREAD: &str = "__spread__";
const REMOVE_IF_EMPTY: &str = "__remove-if-empty__";

/// An item of a list, with its literals filled in if it is text.
pub(crate) struct Item {
    /// Where it stands: `[2]`, or `[2][0]` for the first that item 2 stands for.
    pub(crate) place: String,
    pub(crate) value: Value,
    /// The text that the definition has there, which errors may show; `None` if it comes out of a literal or a spread.
    pub(crate) written: Option<String>,
    /// Whether it is an object that stands in the definition as it is.
    pub(crate) is_written_object: bool,
}

/// Answers literals.
pub(crate) struct Literals<'a> {
    variables: BTreeMap<&'a str, Cow<'a, str>>,
    settings: &'a Settings,
    /// What literals may still add.
    left_bytes: Cell<usize>,
}

impl<'a> Literals<'a> {
    /// Answers from `settings`, then from the `global.variables` of `definition`, whose text has `text_bytes`.
    pub(crate) fn new(definition: &'a Value, text_bytes: usize, settings: &'a Settings) -> Self {
        let variables = definition.pointer("/global/variables").and_then(Value::as_object);
        let as_text = |value: &'a Value| match value {
            Value::String(text) => Cow::from(text),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => Cow::from(value.to_string()),
        };
        let variables = variables.into_iter().flatten().filter(|(_, value)| !value.is_null());
        let variables = variables.map(|(name, value)| (name.as_str(), as_text(value))).collect();
        let given_bytes = text_bytes.saturating_add(settings.bytes());
        let left_bytes = given_bytes.saturating_mul(FILLED_BYTES_A_BYTE).saturating_add(LEAST_FILLED_BYTES).min(MAX_FILLED_BYTES);
        Self { variables, settings, left_bytes: Cell::new(left_bytes) }
    }

    /// `text` with every literal in it filled in.
    pub(crate) fn text(&self, text: &str) -> Result<String, JobError> {
        self.fill(text, &mut Vec::new())
    }

    /// `value`, filled in if it is text.
    fn value<'v>(&self, value: &'v Value) -> Result<Cow<'v, Value>, JobError> {
        let Value::String(text) = value else { return Ok(Cow::Borrowed(value)) };
        let filled = self.text(text)?;
        if is_one_literal(text)
            && filled.trim_start().starts_with(['[', '{'])
            && let Ok(parsed) = serde_json::from_str(&filled)
        {
            return Ok(Cow::Owned(parsed));
        }
        Ok(Cow::Owned(Value::String(filled)))
    }

    /// The items of a list, which stands in the definition `as_written`, or in the value of a literal.
    pub(crate) fn items(&self, list: &Value, as_written: bool) -> Result<Vec<Item>, JobError> {
        let list = self.value(list)?;
        let Value::Array(items) = &*list else {
            return Err(JobError::new(format!("is {}", kind_of(&list)), "write a list in square brackets"));
        };
        let mut found = Vec::new();
        let as_written = as_written && matches!(list, Cow::Borrowed(_));
        self.expand(items, as_written, "", 0, &mut found)?;
        Ok(found)
    }

    /// The fields of an object, with what it spreads laid over what it has.
    pub(crate) fn object<'v>(&self, object: &'v Value) -> Result<Cow<'v, Map<String, Value>>, JobError> {
        let value = self.value(object)?;
        let wrong = JobError::new(format!("is {}", kind_of(&value)), "write an object in curly brackets");
        let fields = match value {
            Cow::Borrowed(Value::Object(fields)) => Cow::Borrowed(fields),
            Cow::Owned(Value::Object(fields)) => Cow::Owned(fields),
            Cow::Borrowed(_) | Cow::Owned(_) => return Err(wrong),
        };
        let Some(spread) = fields.get(SPREAD) else { return Ok(fields) };
        let more = self.spread(spread, false).map_err(|error| error.in_field(SPREAD))?;
        if more.as_array().is_some_and(Vec::is_empty) {
            return Ok(fields);
        }
        let Value::Object(more) = more else {
            return Err(JobError::new("is a list", "an object takes the fields of an object").in_field(SPREAD));
        };
        let mut fields = fields.into_owned();
        fields.extend(more);
        Ok(Cow::Owned(fields))
    }

    fn expand(&self, items: &[Value], as_written: bool, place: &str, depth: usize, found: &mut Vec<Item>) -> Result<(), JobError> {
        if depth == MAX_DEPTH {
            return Err(JobError::new(format!("lists lie more than {MAX_DEPTH} deep in each other"), "write one flat list").in_field(place));
        }
        for (index, item) in items.iter().enumerate() {
            let place = format!("{place}[{index}]");
            let Some(filled) = self.item(item).map_err(|error| error.in_field(&place))? else { continue };
            if let Value::Array(inner) = &*filled {
                self.expand(inner, as_written && holds_its_list(item), &place, depth + 1, found)?;
                continue;
            }
            if found.len() >= MAX_RESOURCES {
                return Err(JobError::new(format!("has more than {MAX_RESOURCES} items"), "split the job"));
            }
            let stands_there = as_written && item.get(SPREAD).is_none();
            let written = item.as_str().filter(|_| stands_there).map(str::to_owned);
            found.push(Item { place, value: filled.into_owned(), written, is_written_object: stands_there && item.is_object() });
        }
        Ok(())
    }

    /// What one item of a list stands for: nothing, a value, or a list of items.
    fn item<'v>(&self, item: &'v Value) -> Result<Option<Cow<'v, Value>>, JobError> {
        match item {
            Value::String(text) if text == REMOVE_IF_EMPTY => Ok(None),
            Value::String(text) => {
                let filled = self.value(item)?;
                Ok(Some(filled).filter(|filled| **filled != "" || !is_one_literal(text)))
            }
            Value::Object(object) => match object.get(SPREAD) {
                Some(spread) => {
                    let chunked = object.get("chunked") == Some(&Value::Bool(true));
                    self.spread(spread, chunked).map(|spread| Some(Cow::Owned(spread))).map_err(|error| error.in_field(SPREAD))
                }
                None => Ok(Some(Cow::Borrowed(item))),
            },
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) => Ok(Some(Cow::Borrowed(item))),
        }
    }

    /// The list or object that a `__spread__` stands for.
    fn spread(&self, spread: &Value, chunked: bool) -> Result<Value, JobError> {
        let mut value = self.value(spread)?.into_owned();
        if let Value::Array(pieces) = &value
            && chunked
            && let Some(texts) = pieces.iter().map(Value::as_str).collect::<Option<Vec<_>>>()
        {
            value = Value::String(texts.concat());
        }
        match value {
            Value::Array(_) | Value::Object(_) => Ok(value),
            Value::String(text) if text.trim().is_empty() => Ok(Value::Array(vec![])),
            Value::String(text) => match serde_json::from_str(&text) {
                Ok(parsed @ (Value::Array(_) | Value::Object(_))) => Ok(parsed),
                Ok(other) => Err(JobError::new(format!("is {}", kind_of(&other)), "give it a JSON list")),
                Err(error) => Err(JobError::new(format!("its text is not JSON: {error}"), "give it a JSON list")),
            },
            Value::Null | Value::Bool(_) | Value::Number(_) => {
                Err(JobError::new(format!("is {}", kind_of(&value)), "give it a list, or a literal that stands for one"))
            }
        }
    }

    fn fill(&self, text: &str, trail: &mut Vec<String>) -> Result<String, JobError> {
        let mut filled = String::new();
        let mut rest = text;
        while let Some((before, name, after)) = next_literal(rest) {
            filled.push_str(before);
            filled.push_str(&self.answer(name, trail)?);
            rest = after;
        }
        filled.push_str(rest);
        Ok(filled)
    }

    fn answer(&self, name: &str, trail: &mut Vec<String>) -> Result<String, JobError> {
        let name = canonical(name);
        // What a setting's value holds is not shown, not even the name of a literal.
        let setting = trail.iter().position(|outer| self.settings.get(outer).is_some());
        let shown = match setting {
            Some(at) => format!("the literal in the value of {}", quoted(&format!("%%{}%%", trail[at]))),
            None => format!("the literal {}", quoted(&format!("%%{name}%%"))),
        };
        if trail.contains(&name) {
            let circle = setting.map_or(&trail[..], |at| &trail[..=at]);
            return Err(JobError::new(format!("{shown} stands for itself"), format!("break the circle of {}", circle.join(", "))));
        }
        if trail.len() == MAX_DEPTH {
            return Err(JobError::new(
                format!("literals lie more than {MAX_DEPTH} deep in each other, at {shown}"),
                "write their values out",
            ));
        }
        let variable = || name.strip_prefix("global.variables.").and_then(|name| self.variables.get(name)).map(|value| &**value);
        let Some(value) = self.settings.get(&name).or_else(variable) else {
            let advice = match setting {
                Some(_) => "give it with --set too, or take it out of that value".to_owned(),
                None if name.starts_with("global.variables.") => {
                    format!("add it to global.variables, or give it with --set {name}=VALUE")
                }
                None => format!("only a running job knows it: give it with --set {name}=VALUE"),
            };
            return Err(JobError::new(format!("{shown} has no value"), advice));
        };
        trail.push(name.clone());
        let filled = self.fill(value, trail)?;
        trail.pop();
        let Some(left) = self.left_bytes.get().checked_sub(filled.len() + LITERAL_BYTES) else {
            return Err(JobError::new("the definition's literals grow beyond all bounds", "write fewer of them, with shorter values"));
        };
        self.left_bytes.set(left);
        Ok(filled)
    }
}

/// Whether the list that an item stands for lies in the item itself, and not in the value of a literal.
fn holds_its_list(item: &Value) -> bool {
    item.is_array() || item.get(SPREAD).is_some_and(Value::is_array)
}

/// What kind of JSON `value` is, for a message that must not show the value itself.
pub(crate) fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// The text before the first literal, the literal's name, and the text after it.
fn next_literal(text: &str) -> Option<(&str, &str, &str)> {
    let mut from = 0;
    loop {
        let start = from + text[from..].find("%%")?;
        let name_start = start + 2;
        let name_end = name_start + text[name_start..].find("%%")?;
        let name = &text[name_start..name_end];
        if is_name(name) {
            return Some((&text[..start], name, &text[name_end + 2..]));
        }
        from = start + 1;
    }
}

/// Whether `name` can be a literal's: of one of the market's namespaces, or a plain word; `100%% of %%` holds none.
fn is_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if name.len() > MAX_NAME_BYTES {
        return false;
    }
    let in_namespace = ["ops.", "global.", "globals."].iter().any(|space| name.starts_with(space));
    match in_namespace {
        true => !name.contains('%') && !name.chars().any(char::is_control),
        false => name.starts_with(|c: char| c.is_ascii_alphabetic()) && name.chars().all(plain),
    }
}

fn is_one_literal(text: &str) -> bool {
    matches!(next_literal(text), Some(("", _, "")))
}
