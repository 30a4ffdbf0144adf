//! Where in its container a job wants its files.

use std::fmt;
use std::hash::{Hash, Hasher};

use larder_content::RelativePath;

use crate::JobError;

/// The longest text that is looked at, in bytes: what Linux takes as a path.
const MAX_WRITTEN_BYTES: usize = 4_096;

const ADVICE: &str = "write an absolute path inside the container, such as /data-models";

/// An absolute path inside a container, below its root and never the root itself.
///
/// Compared as normalised: `/root/../data//x/` is `/data/x`. The text as written is kept for reports.
#[derive(Clone)]
pub struct TargetPath {
    written: String,
    path: RelativePath,
}

impl TargetPath {
    /// Normalises `text`.
    ///
    /// # Errors
    /// Says why it cannot be a target, without showing it: relative, empty, `/` itself, climbing above `/`, or not a path a file system takes.
    pub fn new(text: impl Into<String>) -> Result<Self, JobError> {
        let written = text.into();
        let refuse = |what: &str| Err(JobError::new(what, ADVICE));
        if written.is_empty() {
            return refuse("is empty");
        }
        if !written.starts_with('/') {
            return refuse("is a relative path");
        }
        if written.len() > MAX_WRITTEN_BYTES {
            return refuse("is longer than a path can be");
        }
        // Here and not in the segments that are left: the text as written is reported.
        if written.contains(char::is_control) {
            return refuse("holds a control character");
        }
        let mut segments = Vec::new();
        for segment in written.split('/') {
            match segment {
                "" | "." => {}
                ".." => {
                    if segments.pop().is_none() {
                        return refuse("climbs above the root");
                    }
                }
                name => segments.push(name),
            }
        }
        if segments.is_empty() {
            return refuse("is the container's root");
        }
        match RelativePath::new(segments.join("/")) {
            Ok(path) => Ok(Self { written, path }),
            Err(_) => refuse("is no path that a file system takes: it holds a backslash, or a name of more than 255 bytes, or is too long"),
        }
    }

    /// The text as the definition writes it.
    #[must_use]
    pub fn as_written(&self) -> &str {
        &self.written
    }

    /// The same place relative to the container's root: `data/x` for `/data/x/`.
    #[must_use]
    pub fn below_root(&self) -> &RelativePath {
        &self.path
    }

    /// Whether `other` is this target or lies inside it.
    #[must_use]
    pub fn contains(&self, other: &Self) -> bool {
        *self == *other || other.below(self).is_some()
    }

    /// This target relative to `outer`, if it lies inside it and is not the same.
    #[must_use]
    pub fn below(&self, outer: &Self) -> Option<RelativePath> {
        let rest = self.path.as_str().strip_prefix(outer.path.as_str())?.strip_prefix('/')?;
        RelativePath::new(rest).ok()
    }
}

impl PartialEq for TargetPath {
    fn eq(&self, other: &Self) -> bool {
        self.path == other.path
    }
}

impl Eq for TargetPath {}

impl Hash for TargetPath {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.path.hash(state);
    }
}

impl fmt::Display for TargetPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/{}", self.path)
    }
}

impl fmt::Debug for TargetPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.to_string(), f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn target(text: &str) -> TargetPath {
        TargetPath::new(text).unwrap()
    }

    #[test]
    fn a_target_is_compared_as_normalised_and_reported_as_written() {
        for (written, means) in [
            ("/root/../data-models/x", "/data-models/x"),
            ("/data/", "/data"),
            ("//a/./b//", "/a/b"),
            ("/a/b/..", "/a"),
            ("/a b/é", "/a b/é"),
        ] {
            assert_eq!(target(written), target(means));
            assert_eq!((target(written).to_string().as_str(), target(written).as_written()), (means, written));
        }
    }

    #[test]
    fn what_is_no_place_inside_the_container_is_refused() {
        let long = format!("/{}", "x".repeat(256));
        for (bad, why) in [
            ("", "empty"),
            ("data", "relative"),
            ("./data", "relative"),
            ("../data", "relative"),
            (" /data", "relative"),
            ("/", "root"),
            ("//.", "root"),
            ("/a/..", "root"),
            ("/../x", "climbs"),
            ("/a/../../x", "climbs"),
            ("/a\0b", "control"),
            ("/a\nb", "control"),
            ("/\u{1b}[2J/../data", "control"),
            ("/data/\u{9b}2J/..", "control"),
            ("/a\\b", "backslash"),
            (&long, "255"),
            (&"/x".repeat(3_000), "longer"),
        ] {
            let error = TargetPath::new(bad).unwrap_err().to_string();
            assert!(error.contains(why) && error.contains("such as /data-models"), "{bad:?}: {error}");
        }
    }

    #[test]
    fn a_target_contains_itself_and_what_lies_inside_it() {
        assert!(target("/data").contains(&target("/data/")) && target("/data").contains(&target("/data/sub/x")));
        assert!(!target("/data").contains(&target("/data2")) && !target("/data/sub").contains(&target("/data")));
        assert_eq!(target("/data/sub/x/").below(&target("/data")).unwrap().as_str(), "sub/x");
        assert_eq!(target("/data").below(&target("/data")), None);
    }

    proptest! {
        #[test]
        fn a_target_laid_below_a_folder_stays_there(text in "[a-c./\\\\\u{0}]{0,24}") {
            if let Ok(target) = TargetPath::new(text) {
                let laid = std::path::Path::new("/laid").join(target.below_root().as_str());
                prop_assert!(laid.components().all(|c| !matches!(c, std::path::Component::ParentDir)));
                prop_assert!(laid.starts_with("/laid") && laid != std::path::Path::new("/laid"));
            }
        }
    }
}
