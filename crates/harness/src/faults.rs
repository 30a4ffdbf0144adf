//! What can be made to go wrong at an origin, for which requests and how often.

use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures::stream::{BoxStream, StreamExt};
use serde::{Deserialize, Serialize};

/// Something that goes wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// An error instead of the answer.
    Status {
        /// The status; 429 comes with `RateLimit: r=0`.
        code: u16,
        /// `Retry-After` in seconds.
        #[serde(default)]
        retry_after: Option<u64>,
    },
    /// Nothing more comes after this many body bytes of the response; the connection stays.
    Stall {
        /// Body bytes of this response.
        after: u64,
    },
    /// The connection is closed in the middle of the body.
    Cut {
        /// The part of this response's body that is sent before.
        percent: u8,
    },
    /// One bit of one byte is flipped.
    Flip {
        /// The byte's offset in the file.
        at: u64,
    },
    /// All bytes from an offset on are others, under the same size, ETag and commit.
    Rewrite {
        /// The first such byte's offset in the file.
        from: u64,
    },
    /// A request with `Range` is answered with 200 and the whole file.
    ///
    /// A proxy can do so only where the header is not part of a signature.
    IgnoreRange,
    /// `Content-Length` is wrong, the body is not.
    Length {
        /// What is added to the true length.
        by: i64,
    },
    /// A header is left out.
    DropHeader {
        /// Its name.
        name: String,
    },
    /// A header says something else.
    SetHeader {
        /// Its name.
        name: String,
        /// What it says.
        value: String,
    },
    /// A redirect to the very URL that was asked.
    RedirectLoop,
    /// A redirect elsewhere instead of the answer.
    RedirectTo {
        /// The `Location`.
        url: String,
    },
    /// The body comes slowly.
    Slow {
        /// Its rate.
        bytes_per_second: u64,
    },
    /// The connection is closed without an answer.
    Refuse,
}

impl Fault {
    /// Whether it stands in for the whole answer.
    pub(crate) fn replaces(&self) -> bool {
        matches!(self, Self::Status { .. } | Self::RedirectLoop | Self::RedirectTo { .. } | Self::Refuse)
    }

    /// Whether it concerns only bodies that are a file's content.
    fn spoils_content(&self) -> bool {
        matches!(
            self,
            Self::Stall { .. }
                | Self::Cut { .. }
                | Self::Flip { .. }
                | Self::Rewrite { .. }
                | Self::IgnoreRange
                | Self::Length { .. }
                | Self::Slow { .. }
        )
    }

    /// Whether it would show in an answer that holds `content` of the file, cut out by a `Range` header or not.
    pub(crate) fn concerns(&self, content: Option<&Range<u64>>, ranged: bool) -> bool {
        let Some(content) = content else { return !self.spoils_content() };
        match self {
            Self::Flip { at } => content.contains(at),
            Self::Rewrite { from } => content.end > *from,
            Self::Stall { after } => content.end - content.start > *after,
            Self::IgnoreRange => ranged,
            Self::Status { .. }
            | Self::Cut { .. }
            | Self::Length { .. }
            | Self::DropHeader { .. }
            | Self::SetHeader { .. }
            | Self::RedirectLoop
            | Self::RedirectTo { .. }
            | Self::Slow { .. }
            | Self::Refuse => true,
        }
    }
}

/// The hosts of a hub.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// The hub's own host; a proxy has only this one.
    Hub,
    /// The host that redirects of large files lead to.
    Cdn,
}

/// A fault, and when it strikes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// A pattern in which `*` is any text. It strikes if it fits the URL's decoded path, or the file's name.
    pub path: String,
    /// Only at this host.
    #[serde(default)]
    pub side: Option<Side>,
    /// Only with this method.
    #[serde(default)]
    pub method: Option<String>,
    /// How many requests it lets pass first.
    #[serde(default)]
    pub skip: u32,
    /// How often it strikes; `None` is for ever.
    #[serde(default)]
    pub times: Option<u32>,
    /// What goes wrong.
    pub fault: Fault,
}

impl Rule {
    /// Lets `fault` strike every request whose path, or file name, fits `path`.
    #[must_use]
    pub fn new(path: &str, fault: Fault) -> Self {
        Self { path: path.to_owned(), side: None, method: None, skip: 0, times: None, fault }
    }

    /// Only at this host.
    #[must_use]
    pub fn on(mut self, side: Side) -> Self {
        self.side = Some(side);
        self
    }

    /// Only with this method.
    #[must_use]
    pub fn method(mut self, method: &str) -> Self {
        self.method = Some(method.to_owned());
        self
    }

    /// Only so often.
    #[must_use]
    pub fn times(mut self, times: u32) -> Self {
        self.times = Some(times);
        self
    }

    /// Only after this many requests that it would have struck.
    #[must_use]
    pub fn skip(mut self, requests: u32) -> Self {
        self.skip = requests;
        self
    }

    fn fits(&self, subject: &Subject<'_>) -> bool {
        self.side.is_none_or(|side| side == subject.side)
            && self.method.as_ref().is_none_or(|method| method.eq_ignore_ascii_case(subject.method))
            && (fits(&self.path, subject.path) || subject.file.is_some_and(|file| fits(&self.path, file)))
    }
}

/// The request that rules are held against.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Subject<'a> {
    pub(crate) side: Side,
    pub(crate) method: &'a str,
    /// The decoded path.
    pub(crate) path: &'a str,
    pub(crate) file: Option<&'a str>,
}

/// The faults of one origin; clones share them.
#[derive(Debug, Clone, Default)]
pub struct Faults {
    rules: Arc<Mutex<Rules>>,
    /// Whether the origin is down.
    down: Arc<AtomicBool>,
}

#[derive(Debug, Default)]
struct Rules {
    rules: Vec<Rule>,
    fired: u64,
}

impl Faults {
    /// Adds a rule. Rules are tried in the order they came, and each that fits strikes.
    pub fn set(&self, rule: Rule) {
        self.lock().rules.push(rule);
    }

    /// Makes everything go right again.
    pub fn clear(&self) {
        *self.lock() = Rules::default();
        self.set_down(false);
    }

    /// Whether the origin closes every connection without an answer, those too on which content is under way.
    pub fn set_down(&self, down: bool) {
        self.down.store(down, Ordering::Relaxed);
    }

    pub(crate) fn is_down(&self) -> bool {
        self.down.load(Ordering::Relaxed)
    }

    /// How many responses were spoilt since the last clear.
    #[must_use]
    pub fn fired(&self) -> u64 {
        self.lock().fired
    }

    /// The same bytes, until the origin is down.
    pub(crate) fn gate(&self, bytes: BoxStream<'static, io::Result<Bytes>>) -> BoxStream<'static, io::Result<Bytes>> {
        let faults = self.clone();
        bytes.map(move |piece| if faults.is_down() { Err(io::ErrorKind::ConnectionAborted.into()) } else { piece }).boxed()
    }

    /// The faults that strike `subject` out of those for which `concerns` holds; they count as used.
    ///
    /// A fault that replaces the answer comes last: those after it have nothing to strike.
    pub(crate) fn strike(&self, subject: Subject<'_>, concerns: impl Fn(&Fault) -> bool) -> Vec<Fault> {
        let mut rules = self.lock();
        if self.is_down() {
            rules.fired += 1;
            return vec![Fault::Refuse];
        }
        let mut struck = Vec::new();
        for rule in rules.rules.iter_mut().filter(|rule| rule.times != Some(0) && rule.fits(&subject) && concerns(&rule.fault)) {
            if rule.skip > 0 {
                rule.skip -= 1;
                continue;
            }
            rule.times = rule.times.map(|times| times - 1);
            struck.push(rule.fault.clone());
            if rule.fault.replaces() {
                break;
            }
        }
        rules.fired += u64::from(!struck.is_empty());
        struck
    }

    fn lock(&self) -> MutexGuard<'_, Rules> {
        self.rules.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether `text` fits `pattern`, in which `*` is any text.
fn fits(pattern: &str, text: &str) -> bool {
    let Some((head, mut rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(mut text) = text.strip_prefix(head) else { return false };
    while let Some((part, more)) = rest.split_once('*') {
        let Some(at) = text.find(part) else { return false };
        text = &text[at + part.len()..];
        rest = more;
    }
    text.ends_with(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subject<'a>(method: &'a str, path: &'a str) -> Subject<'a> {
        Subject { side: Side::Hub, method, path, file: Some("models/o/n/f.bin") }
    }

    fn any(_: &Fault) -> bool {
        true
    }

    #[test]
    fn a_star_is_any_text() {
        for (pattern, text) in [("*", ""), ("a", "a"), ("*.bin", "x/y.bin"), ("a*c*e", "abcde"), ("*b*", "abc"), ("a**", "a")] {
            assert!(fits(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in [("a", "ab"), ("*.bin", "x.bins"), ("a*a", "a"), ("a*c*e", "aecd"), ("", "a")] {
            assert!(!fits(pattern, text), "{pattern} {text}");
        }
    }

    #[test]
    fn a_rule_strikes_as_often_as_it_says_after_those_it_lets_pass() {
        let faults = Faults::default();
        faults.set(Rule::new("*f.bin", Fault::Refuse).skip(1).times(2));
        let struck: Vec<bool> = (0..5).map(|_| !faults.strike(subject("GET", "/x"), any).is_empty()).collect();
        assert_eq!(struck, [false, true, true, false, false]);
        assert_eq!(faults.fired(), 2);
    }

    #[test]
    fn a_rule_keeps_to_its_host_method_and_path() {
        let faults = Faults::default();
        faults.set(Rule::new("/only", Fault::Refuse).method("HEAD").on(Side::Hub));
        assert!(faults.strike(subject("GET", "/only"), any).is_empty());
        assert!(faults.strike(Subject { side: Side::Cdn, ..subject("HEAD", "/only") }, any).is_empty());
        assert!(faults.strike(subject("HEAD", "/other"), any).is_empty());
        assert_eq!(faults.strike(subject("HEAD", "/only"), any), [Fault::Refuse]);
    }

    #[test]
    fn a_fault_that_would_not_show_is_not_used_up() {
        let faults = Faults::default();
        faults.set(Rule::new("*", Fault::Flip { at: 100 }).times(1));
        let strike = |content: Range<u64>| faults.strike(subject("GET", "/x"), |fault| fault.concerns(Some(&content), true));
        assert!(strike(0..100).is_empty());
        assert_eq!(strike(100..200), [Fault::Flip { at: 100 }]);
        assert!(strike(100..200).is_empty());
    }

    #[test]
    fn rules_are_written_in_json_as_the_help_says() {
        let text = r#"[{"path":"*model.bin","fault":{"cut":{"percent":40}},"times":1,"side":"cdn"},{"path":"*","fault":"ignore_range"}]"#;
        let rules: Vec<Rule> = serde_json::from_str(text).unwrap();
        assert_eq!(rules[0], Rule::new("*model.bin", Fault::Cut { percent: 40 }).times(1).on(Side::Cdn));
        assert_eq!(rules[1].fault, Fault::IgnoreRange);
        assert!(serde_json::from_str::<Rule>(r#"{"path":"*","fault":"refuse","tims":1}"#).is_err());
    }
}
