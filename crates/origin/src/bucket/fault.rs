//! What an S3 server's refusal means.

use std::time::Duration;

use crate::OriginError;

/// Why a request gave nothing.
#[derive(Debug)]
pub(super) enum Fault {
    /// The server answered with another status than it should.
    Answer(Answer),
    /// The server answered with success, but with something that is no S3 listing.
    NotS3,
    /// The server leads to another host, which is not followed.
    Elsewhere(String),
    /// Anything else.
    Error(OriginError),
}

/// An answer that is no success.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Answer {
    /// The HTTP status.
    pub(super) status: u16,
    /// S3's own code, `NoSuchKey`; answers to HEAD have none.
    pub(super) code: Option<String>,
    /// The region the server says the bucket is in.
    pub(super) region: Option<String>,
    /// How long the server asks to wait.
    pub(super) after: Option<Duration>,
}

/// Codes that say that the keys themselves are not accepted.
const WRONG_KEYS: [&str; 6] =
    ["InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken", "ExpiredToken", "NotSignedUp", "InvalidSecurity"];

impl Answer {
    /// Whether the keys themselves are not accepted.
    pub(super) fn keys_are_wrong(&self) -> bool {
        self.code_is(&WRONG_KEYS)
    }

    /// Whether the bucket does not exist.
    pub(super) fn bucket_is_missing(&self) -> bool {
        self.code_is(&["NoSuchBucket"])
    }

    fn code_is(&self, codes: &[&str]) -> bool {
        self.code.as_deref().is_some_and(|code| codes.contains(&code))
    }

    fn is_busy(&self) -> bool {
        matches!(self.status, 429 | 503) || self.code_is(&["SlowDown", "TooManyRequests", "RequestLimitExceeded", "Throttling"])
    }

    fn may_pass(&self) -> bool {
        matches!(self.status, 408 | 500 | 502 | 504) || self.code_is(&["InternalError", "RequestTimeout"])
    }
}

impl Fault {
    /// A server's answer that contradicts its protocol.
    pub(super) fn invalid(what: &str, why: impl Into<String>) -> Self {
        Self::Error(OriginError::Invalid { what: what.to_owned(), why: why.into() })
    }

    /// The answer, if it is one.
    pub(super) fn answer(&self) -> Option<&Answer> {
        match self {
            Self::Answer(answer) => Some(answer),
            Self::NotS3 | Self::Elsewhere(_) | Self::Error(_) => None,
        }
    }

    /// Whether there is nothing under this name.
    pub(super) fn is_missing(&self) -> bool {
        self.answer().is_some_and(|answer| matches!(answer.status, 404 | 410) && !answer.bucket_is_missing())
    }

    /// Whether it says that reading is not allowed, without saying that the keys are wrong.
    pub(super) fn is_denied(&self) -> bool {
        self.answer().is_some_and(|answer| matches!(answer.status, 401 | 403) && !answer.keys_are_wrong())
    }

    /// Whether the same request may succeed after a wait no longer than `longest`.
    pub(super) fn passes_within(&self, longest: Duration) -> bool {
        match self {
            Self::Answer(answer) if answer.is_busy() => answer.after.is_none_or(|after| after <= longest),
            Self::Answer(_) | Self::NotS3 | Self::Elsewhere(_) | Self::Error(_) => self.passes(),
        }
    }

    /// Whether the same request may succeed later.
    pub(super) fn passes(&self) -> bool {
        match self {
            Self::Answer(answer) => answer.is_busy() || answer.may_pass(),
            Self::NotS3 | Self::Elsewhere(_) => false,
            Self::Error(error) => error.can_pass(),
        }
    }

    /// What it means to who asked for `what`; `signed` tells whether keys went along.
    pub(super) fn into_error(self, what: &str, signed: bool) -> OriginError {
        match self {
            Self::Answer(answer) => meaning(what, &answer, signed),
            Self::NotS3 => OriginError::Invalid { what: what.to_owned(), why: "it is no S3 listing".into() },
            Self::Elsewhere(host) => {
                OriginError::Invalid { what: what.to_owned(), why: format!("it leads to {host}: write the address there, if you trust it") }
            }
            Self::Error(error) => error,
        }
    }
}

fn meaning(what: &str, answer: &Answer, signed: bool) -> OriginError {
    let what = what.to_owned();
    let code = answer.code.as_deref().map_or(String::new(), |code| format!(", {code}"));
    let said = format!("it answered {}{code}", answer.status);
    if answer.is_busy() {
        return OriginError::Busy { what, after: answer.after };
    }
    if answer.may_pass() {
        return OriginError::Unreachable { what, why: said, source: None };
    }
    if answer.keys_are_wrong() {
        return OriginError::Denied {
            what,
            why: format!("the keys are not accepted ({said}): check the access key, its secret and the region in 'IAM'"),
        };
    }
    if answer.code_is(&["RequestTimeTooSkewed"]) {
        return OriginError::Denied { what, why: "the clock of this machine is wrong, so no signature holds: set it".into() };
    }
    match answer.status {
        404 | 410 if answer.bucket_is_missing() => OriginError::Missing { what, why: "there is no such bucket".into() },
        404 | 410 => OriginError::Missing { what, why: String::new() },
        412 | 416 => OriginError::Changed { what },
        401 | 403 if signed => {
            OriginError::Denied { what, why: format!("the keys may not read it, or it does not exist where they may not list ({said})") }
        }
        401 | 403 => OriginError::Denied { what, why: format!("it is not public, or it does not exist where nobody may list ({said})") },
        400 if answer.region.is_some() => {
            OriginError::Denied { what, why: format!("it is in the region '{}': set REGION", answer.region.as_deref().unwrap_or_default()) }
        }
        // Servers that know no anonymous requests refuse them as malformed.
        400 if !signed => OriginError::Denied { what, why: format!("it cannot be read without keys ({said})") },
        400 => {
            OriginError::Denied { what, why: format!("the signed request was refused ({said}): check the keys and the region in 'IAM'") }
        }
        300..=399 => OriginError::Invalid { what, why: format!("{said}, which leads elsewhere: write the address it leads to") },
        _ => OriginError::Invalid { what, why: said },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn means(status: u16, code: &str, signed: bool) -> OriginError {
        let code = Some(code.to_owned()).filter(|code| !code.is_empty());
        Fault::Answer(Answer { status, code, after: Some(Duration::from_secs(3)), ..Answer::default() }).into_error("s3://b/k", signed)
    }

    #[test]
    fn a_refusal_says_what_to_do() {
        let text = |status, code, signed| means(status, code, signed).to_string();
        assert!(text(403, "InvalidAccessKeyId", true).contains("keys are not accepted"));
        assert!(text(403, "SignatureDoesNotMatch", true).contains("keys are not accepted"));
        assert!(text(403, "AccessDenied", true).contains("may not read it, or it does not exist"));
        assert!(text(403, "", false).contains("not public"));
        assert!(text(404, "NoSuchBucket", true).contains("no such bucket"));
        assert!(text(400, "UnsupportedAlgorithm", false).contains("without keys"));
        let elsewhere = Answer { status: 400, region: Some("eu-west-1".into()), ..Answer::default() };
        assert!(Fault::Answer(elsewhere).into_error("x", true).to_string().contains("'eu-west-1'"));
    }

    #[test]
    fn what_can_pass_is_told_from_what_cannot() {
        for (status, code) in [(500, ""), (502, ""), (503, "SlowDown"), (504, ""), (429, ""), (400, "RequestTimeout")] {
            assert!(means(status, code, true).can_pass(), "{status} {code}");
        }
        for (status, code) in
            [(400, ""), (401, ""), (403, "AccessDenied"), (404, "NoSuchKey"), (405, ""), (412, ""), (501, "NotImplemented")]
        {
            assert!(!means(status, code, true).can_pass(), "{status} {code}");
        }
        assert!(matches!(means(503, "", true), OriginError::Busy { after: Some(_), .. }));
        assert!(matches!(means(412, "", true), OriginError::Changed { .. }));
    }
}
