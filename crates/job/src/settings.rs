//! What the caller knows of a running job.

use std::collections::BTreeMap;
use std::fmt;

use crate::JobError;

/// Values for literals that the definition itself cannot answer: the pairs of `--set KEY=VALUE`.
///
/// A key is a literal's name without its percent signs, `ops.pick.results.path`; `global.` and `globals.` are one.
/// A value for a spread is JSON text. A pair given here goes before what the definition says.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Settings(BTreeMap<String, String>);

impl Settings {
    /// Reads pairs as the command line writes them, each `KEY=VALUE`; of two with one key the last counts.
    ///
    /// # Errors
    /// Names the pair that has no `=` or no key.
    pub fn from_pairs<T: AsRef<str>>(pairs: impl IntoIterator<Item = T>) -> Result<Self, JobError> {
        let read = |pair: T| match pair.as_ref().split_once('=') {
            Some((key, value)) if !key.trim().is_empty() => Ok((key.trim().to_owned(), value.to_owned())),
            Some(_) => Err(JobError::new("a setting has no key", "write it as --set KEY=VALUE")),
            // It may be a value without its key, and so a secret.
            None => Err(JobError::new("a setting has no '='", "write it as --set KEY=VALUE")),
        };
        pairs.into_iter().map(read).collect()
    }

    /// The bytes of all values.
    pub(crate) fn bytes(&self) -> usize {
        self.0.values().map(String::len).sum()
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(&*canonical(name)).map(String::as_str)
    }
}

impl FromIterator<(String, String)> for Settings {
    fn from_iter<T: IntoIterator<Item = (String, String)>>(pairs: T) -> Self {
        Self(pairs.into_iter().map(|(key, value)| (canonical(key.trim_matches('%')), value)).collect())
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// The one spelling of a literal's name: definitions write `global.` and `globals.` alike.
pub(crate) fn canonical(name: &str) -> String {
    match name.strip_prefix("globals.") {
        Some(rest) => format!("global.{rest}"),
        None => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_read_as_the_command_line_writes_them() {
        let settings = Settings::from_pairs(["ops.a.results.b=c=d", "globals.job= x", "%%ops.e.host%%="]).unwrap();
        assert_eq!(settings.get("ops.a.results.b"), Some("c=d"));
        assert_eq!((settings.get("global.job"), settings.get("globals.job")), (Some(" x"), Some(" x")));
        assert_eq!(settings.get("ops.e.host"), Some(""));
        for bad in ["", "novalue", "=x", " =x"] {
            let error = Settings::from_pairs([bad]).unwrap_err().to_string();
            assert!(error.contains("--set KEY=VALUE"), "{error}");
        }
    }

    #[test]
    fn a_value_that_may_be_a_secret_is_not_printed() {
        let settings = Settings::from_pairs(["ops.a.results.token=hf_secret"]).unwrap();
        assert_eq!(format!("{settings:?}"), "{\"ops.a.results.token\"}");
    }
}
