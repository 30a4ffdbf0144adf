//! What a job asks for, before any origin was asked.

use std::fmt;

use crate::{RelativePath, Secret};

/// What a job asks for: files at an origin, and what is needed to read them.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Resource {
    /// A repository of a HuggingFace hub.
    Hub(HubResource),
    /// An object or prefix of an S3 bucket, or of a public https folder.
    Bucket(BucketResource),
    /// A model of the Ollama registry: read from job definitions, not fetched.
    Ollama(OllamaResource),
}

impl Resource {
    /// The files asked for; empty means all.
    #[must_use]
    pub fn files(&self) -> &[RelativePath] {
        match self {
            Self::Hub(hub) => &hub.files,
            Self::Bucket(bucket) => &bucket.files,
            Self::Ollama(_) => &[],
        }
    }
}

/// A repository of a HuggingFace hub at a revision, or some of its files.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HubResource {
    /// Which of the hub's three kinds of repository.
    pub kind: HubKind,
    /// Its name.
    pub repo: RepoId,
    /// A branch, tag, commit or `refs/pr/N`; `None` is the hub's `main`.
    pub revision: Option<String>,
    /// The files asked for; empty means all.
    pub files: Vec<RelativePath>,
    /// The token this resource is to be read with, if it is not public.
    pub token: Option<Secret>,
}

/// The kinds of repository a hub has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HubKind {
    /// Weights and configuration.
    Model,
    /// Data.
    Dataset,
    /// Applications.
    Space,
}

impl HubKind {
    /// The kind as the hub's API spells it in a path: `models`, `datasets`, `spaces`.
    #[must_use]
    pub fn plural(self) -> &'static str {
        match self {
            Self::Model => "models",
            Self::Dataset => "datasets",
            Self::Space => "spaces",
        }
    }
}

/// The name of a hub's repository: `name` or `organisation/name`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RepoId(String);

impl RepoId {
    /// Takes `name` or `organisation/name` of the characters a hub allows.
    ///
    /// # Errors
    /// Fails on anything else: other characters, more segments, `.` or `..`, over 96 bytes a segment.
    pub fn new(id: impl Into<String>) -> Result<Self, RepoIdError> {
        let id = id.into();
        let fits = |segment: &str| {
            !segment.is_empty()
                && segment.len() <= 96
                && !segment.starts_with('.')
                && segment.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
        };
        if id.split('/').count() <= 2 && id.split('/').all(fits) {
            return Ok(Self(id));
        }
        Err(RepoIdError(id))
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RepoId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for RepoId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// A text that names no repository.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a repository name: it is written 'organisation/name' or 'name', of letters, digits, '-', '_' and '.'")]
pub struct RepoIdError(String);

/// An object or prefix as a job definition writes it.
///
/// The text is mapped to endpoint, bucket and key where buckets are read, in the origin room.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct BucketResource {
    /// `s3://bucket/prefix` or `https://host/prefix`, trimmed. May carry a signature: not for display.
    pub url: String,
    /// The bucket, where the definition names it beside the URL.
    pub bucket: Option<String>,
    /// The files asked for, relative to the prefix; empty means the object, or all below the prefix.
    pub files: Vec<RelativePath>,
    /// The region and keys, where the definition has them and they are not all empty.
    pub credentials: Option<BucketCredentials>,
}

impl fmt::Debug for BucketResource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { url, bucket, files, credentials } = self;
        // What follows the '?' may be a signature.
        let url = url.split('?').next().unwrap_or_default();
        f.debug_struct("BucketResource")
            .field("url", &url)
            .field("bucket", bucket)
            .field("files", files)
            .field("credentials", credentials)
            .finish()
    }
}

/// The `IAM` part of a job definition's S3 resource.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct BucketCredentials {
    /// The region, if it was given and is not empty.
    pub region: Option<String>,
    /// The id of the access key, and the key; `None` where both are empty: a region alone.
    pub keys: Option<(Secret, Secret)>,
}

/// A model of the Ollama registry.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct OllamaResource {
    /// `name` or `name:tag`.
    pub model: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_in_a_url_cannot_be_printed() {
        let url = "https://host/x?X-Amz-Signature=abc".to_owned();
        let resource = BucketResource { url, bucket: None, files: vec![], credentials: None };
        assert!(!format!("{resource:?}").contains("abc"));
    }

    #[test]
    fn a_repo_id_is_a_name_or_an_organisation_and_a_name() {
        for good in ["gpt2", "org/name", "a-b_c.d/E.1"] {
            assert!(RepoId::new(good).is_ok(), "{good}");
        }
        for bad in ["", "/", "a/", "/a", "a/b/c", "..", "a/..", "a b", "a/b?c", "a/%2e"] {
            assert!(RepoId::new(bad).is_err(), "{bad}");
        }
    }
}
