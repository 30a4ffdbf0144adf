//! Paths that cannot leave their folder.

use std::fmt;
use std::str::FromStr;

/// The longest name of one folder or file, in bytes: what Linux file systems take.
const MAX_SEGMENT_BYTES: usize = 255;
/// The longest whole path, in bytes: room below Linux's 4,096 for the folder it is laid in.
const MAX_PATH_BYTES: usize = 3_072;
/// The most characters of a path that an error shows.
const MAX_SHOWN: usize = 80;

/// A path of a file inside a resource, with `/` between its segments.
///
/// It is never empty or absolute, and no segment is empty, `.`, `..`, longer than 255 bytes,
/// or holds a control character or a backslash. So joining it to a folder stays in that folder.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RelativePath(String);

impl RelativePath {
    /// Takes `path` if it is one that cannot leave its folder.
    ///
    /// # Errors
    /// Says which rule the path breaks.
    pub fn new(path: impl Into<String>) -> Result<Self, PathError> {
        let path = path.into();
        let refuse = |why| Err(PathError { path: shown(&path), why });
        if path.is_empty() {
            return refuse("it is empty");
        }
        if path.len() > MAX_PATH_BYTES {
            return refuse("it is longer than 3072 bytes");
        }
        if path.starts_with('/') {
            return refuse("it is absolute");
        }
        for segment in path.split('/') {
            if let Some(why) = segment_fault(segment) {
                return refuse(why);
            }
        }
        Ok(Self(path))
    }

    /// The path as text, with `/` between segments.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The segments, outermost folder first.
    pub fn segments(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.0.split('/')
    }

    /// The folders this path lies in, outermost first: `a`, then `a/b`, for `a/b/c`.
    pub fn ancestors(&self) -> impl Iterator<Item = &str> {
        self.0.match_indices('/').map(|(at, _)| &self.0[..at])
    }

    /// The last segment.
    #[must_use]
    pub fn file_name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or(&self.0)
    }

    /// This path below `folder`.
    ///
    /// # Errors
    /// Fails if the joined path is too long.
    pub fn below(&self, folder: &Self) -> Result<Self, PathError> {
        Self::new(format!("{}/{}", folder.0, self.0))
    }
}

/// The path, or its beginning if it is long.
fn shown(path: &str) -> String {
    if path.chars().nth(MAX_SHOWN).is_none() {
        return path.to_owned();
    }
    path.chars().take(MAX_SHOWN - 1).chain(['\u{2026}']).collect()
}

fn segment_fault(segment: &str) -> Option<&'static str> {
    match segment {
        "" => return Some("a segment of it is empty"),
        "." => return Some("a segment of it is '.'"),
        ".." => return Some("a segment of it is '..'"),
        _ => {}
    }
    if segment.len() > MAX_SEGMENT_BYTES {
        return Some("a segment of it is longer than 255 bytes");
    }
    if segment.contains('\\') {
        return Some("it holds a backslash");
    }
    if segment.chars().any(char::is_control) {
        return Some("it holds a control character");
    }
    None
}

impl FromStr for RelativePath {
    type Err = PathError;

    fn from_str(path: &str) -> Result<Self, PathError> {
        Self::new(path)
    }
}

impl fmt::Display for RelativePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for RelativePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// A path that could leave its folder, or that no file system takes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the path {path:?} cannot be used: {why}")]
pub struct PathError {
    path: String,
    why: &'static str,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn refuses_every_path_that_could_leave_its_folder() {
        let long = "x".repeat(256);
        for bad in ["", "/a", "../a", "a/../b", "a/./b", "./a", "a//b", "a/", "a\0b", "a\nb", "a\\b", "..", ".", &long] {
            assert!(RelativePath::new(bad).is_err(), "{bad:?} was taken");
        }
        assert!(RelativePath::new("x/".repeat(1600) + "x").is_err());
    }

    #[test]
    fn an_error_shows_only_the_beginning_of_a_long_path() {
        let error = |path: String| RelativePath::new(path).unwrap_err().to_string();
        assert!(error(format!("/{}", "é".repeat(79))).contains(&format!("\"/{}\"", "é".repeat(79))));
        assert!(error(format!("/{}", "é".repeat(9000))).contains(&format!("\"/{}…\"", "é".repeat(78))));
    }

    #[test]
    fn takes_odd_but_harmless_names() {
        for good in ["a", "a/b.bin", "...", "a b", "#?[x]", "é/日本", ".git/x", "..a", &"x".repeat(255)] {
            assert_eq!(RelativePath::new(good).unwrap().as_str(), good);
        }
    }

    #[test]
    fn lists_the_folders_a_path_lies_in() {
        let path = RelativePath::new("a/b/c").unwrap();
        assert_eq!(path.ancestors().collect::<Vec<_>>(), ["a", "a/b"]);
        assert_eq!(path.file_name(), "c");
    }

    proptest! {
        #[test]
        fn joining_a_path_stays_inside(text in "[a-z./\\\\\u{0}]{0,24}") {
            if let Ok(path) = RelativePath::new(text) {
                let joined = std::path::Path::new("/root").join(path.as_str());
                prop_assert!(joined.components().all(|c| !matches!(c, std::path::Component::ParentDir)));
                prop_assert!(joined.starts_with("/root") && joined != std::path::Path::new("/root"));
            }
        }
    }
}
