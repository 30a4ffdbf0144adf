//! What can go wrong at an origin, by what the caller does next.

use std::time::Duration;

/// The library's own error, kept as the cause.
pub(crate) type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The most characters of a text from outside that an error shows.
const MAX_SHOWN: usize = 200;

/// What went wrong at an origin. `what` names the resource or file, never a credential.
#[derive(Debug, thiserror::Error)]
pub enum OriginError {
    /// The origin does not have it. Asking again is of no use.
    #[error("{what} does not exist at the origin{}", because(.why))]
    Missing {
        /// What was asked for.
        what: String,
        /// What the origin said, if it said more.
        why: String,
    },
    /// It may not be read with the credentials there are. The operator or the job must act.
    #[error("{what} may not be read{}", because(.why))]
    Denied {
        /// What was asked for.
        what: String,
        /// What to do: give a token, check the keys.
        why: String,
    },
    /// The repository is gated: access is granted on its page.
    #[error("{what} is gated{}", because(.why))]
    Gated {
        /// What was asked for.
        what: String,
        /// What to do.
        why: String,
    },
    /// The origin asks to be left alone for a while.
    #[error("the origin of {what} is busy{}", after.map_or(String::new(), |after| format!(", for {} s more", after.as_secs())))]
    Busy {
        /// What was asked for.
        what: String,
        /// How long the origin asked to wait.
        after: Option<Duration>,
    },
    /// The origin did not answer, or not to the end. It may the next time.
    #[error("the origin of {what} did not answer as it should: {why}")]
    Unreachable {
        /// What was asked for.
        what: String,
        /// What happened.
        why: String,
        /// The library's error.
        #[source]
        source: Option<BoxError>,
    },
    /// What lies there now is another version than the one that was listed.
    #[error("{what} changed at its origin while it was being read")]
    Changed {
        /// What was asked for.
        what: String,
    },
    /// The origin sends whole files only.
    #[error("the origin of {what} does not serve ranges")]
    RangeIgnored {
        /// What was asked for.
        what: String,
    },
    /// What the origin sent contradicts itself or its protocol. Asking again is of no use.
    #[error("the origin's answer for {what} cannot be right: {why}")]
    Invalid {
        /// What was asked for.
        what: String,
        /// What is wrong with it.
        why: String,
    },
    /// The resource cannot be asked for as it is written.
    #[error("{what} cannot be used: {why}")]
    Refused {
        /// What was written.
        what: String,
        /// What is wrong with it, and how it is written right.
        why: String,
    },
}

impl OriginError {
    /// Whether the same request may succeed later without anyone acting.
    #[must_use]
    pub fn can_pass(&self) -> bool {
        match self {
            Self::Busy { .. } | Self::Unreachable { .. } => true,
            Self::Missing { .. }
            | Self::Denied { .. }
            | Self::Gated { .. }
            | Self::Changed { .. }
            | Self::RangeIgnored { .. }
            | Self::Invalid { .. }
            | Self::Refused { .. } => false,
        }
    }
}

/// A text from outside as an error may show it on a terminal: no control characters, and 200 characters at most, of which
/// the first and the last are those of the text.
pub(crate) fn plain(text: &str) -> String {
    let text: Vec<char> = text.chars().filter(|c| !c.is_control()).collect();
    if text.len() <= MAX_SHOWN {
        return text.into_iter().collect();
    }
    let (head, tail) = (&text[..MAX_SHOWN / 2], &text[text.len() + 1 - MAX_SHOWN / 2..]);
    head.iter().chain(&['\u{2026}']).chain(tail).collect()
}

fn because(why: &str) -> String {
    if why.is_empty() { String::new() } else { format!(": {why}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_from_outside_is_short_and_moves_no_cursor() {
        assert_eq!(plain("no \u{1b}[31msuch\r\n file\u{9b}"), "no [31msuch file");
        assert_eq!(plain(&"é".repeat(MAX_SHOWN)), "é".repeat(MAX_SHOWN));
        let long = plain(&format!("begin{}end", "é".repeat(9000)));
        assert!(long.starts_with("begin") && long.ends_with("end") && long.contains('…'), "{long}");
        assert_eq!(long.chars().count(), MAX_SHOWN);
    }
}
