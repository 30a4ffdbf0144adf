//! The files of one resource, as a tree that can be laid.

use std::collections::BTreeMap;

use crate::{OriginFile, RelativePath};

/// The most files a resource may have: bounds the memory a listing takes to about 500 MB.
pub const MAX_FILES: usize = 1_000_000;

/// The most bytes a file may have: 1 PiB, far above what any origin stores and far below what arithmetic takes.
pub const MAX_FILE_BYTES: u64 = 1 << 50;

/// The files of one resource, ordered by path.
///
/// No path occurs twice and no file's path is another file's folder, so it can be laid as a tree.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Manifest(Vec<OriginFile>);

impl Manifest {
    /// Orders `files` and checks that they form a tree.
    ///
    /// # Errors
    /// Names the path that occurs twice or is both file and folder; or says that there are too many files.
    pub fn new(mut files: Vec<OriginFile>) -> Result<Self, ManifestError> {
        if files.len() > MAX_FILES {
            return Err(ManifestError::TooMany(files.len()));
        }
        if let Some(file) = files.iter().find(|file| file.size > MAX_FILE_BYTES) {
            return Err(ManifestError::TooLarge { path: file.path.clone(), bytes: file.size });
        }
        files.sort_by(|a, b| a.path.cmp(&b.path));
        if let Some(pair) = files.windows(2).find(|pair| pair[0].path == pair[1].path) {
            return Err(ManifestError::Twice(pair[0].path.clone()));
        }
        let paths: std::collections::HashSet<&str> = files.iter().map(|file| file.path.as_str()).collect();
        let folder = files.iter().flat_map(|file| file.path.ancestors()).find(|folder| paths.contains(folder));
        if let Some(folder) = folder.and_then(|folder| RelativePath::new(folder).ok()) {
            return Err(ManifestError::FileAndFolder(folder));
        }
        Ok(Self(files))
    }

    /// The files, ordered by path.
    #[must_use]
    pub fn files(&self) -> &[OriginFile] {
        &self.0
    }

    /// The bytes of all files.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.0.iter().fold(0, |sum, file| sum.saturating_add(file.size))
    }

    /// Keeps only the files named in `wanted`; keeps all if `wanted` is empty.
    ///
    /// # Errors
    /// Names the first wanted path that the manifest does not have.
    pub fn subset(self, wanted: &[RelativePath]) -> Result<Self, ManifestError> {
        if wanted.is_empty() {
            return Ok(self);
        }
        let mut by_path: BTreeMap<RelativePath, OriginFile> = self.0.into_iter().map(|file| (file.path.clone(), file)).collect();
        let wanted: std::collections::BTreeSet<_> = wanted.iter().collect();
        let take = |path: &RelativePath| by_path.remove(path).ok_or_else(|| ManifestError::NotThere(path.clone()));
        Ok(Self(wanted.into_iter().map(take).collect::<Result<_, _>>()?))
    }
}

/// Files that form no tree, or not the one asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// A path occurs twice.
    #[error("the origin lists {0} twice")]
    Twice(RelativePath),
    /// A path is a file, and a folder of other files.
    #[error("the origin lists {0} as a file and as a folder, which no file system can hold")]
    FileAndFolder(RelativePath),
    /// A file was asked for that the origin does not list.
    #[error("the origin has no file {0}")]
    NotThere(RelativePath),
    /// A file of more than [`MAX_FILE_BYTES`].
    #[error("the origin lists {path} with {bytes} bytes, which no file has")]
    TooLarge {
        /// The file.
        path: RelativePath,
        /// Its size as listed.
        bytes: u64,
    },
    /// More files than [`MAX_FILES`].
    #[error("the origin lists {0} files, more than the {MAX_FILES} that one resource may have")]
    TooMany(usize),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Locator;

    fn file(path: &str) -> OriginFile {
        let locator = Locator { endpoint: String::new(), container: String::new(), path: path.into(), version: String::new() };
        OriginFile { path: RelativePath::new(path).unwrap(), size: 1, digests: vec![], locator }
    }

    #[test]
    fn a_manifest_is_a_tree() {
        let ok = Manifest::new(vec![file("b"), file("a/x"), file("a-b"), file("a/y/z")]).unwrap();
        assert_eq!(ok.files().len(), 4);
        assert!(matches!(Manifest::new(vec![file("a"), file("a")]), Err(ManifestError::Twice(_))));
        assert!(matches!(Manifest::new(vec![file("a"), file("a-b"), file("a/y/z")]), Err(ManifestError::FileAndFolder(_))));
    }

    #[test]
    fn a_size_that_no_file_has_is_refused() {
        let large = OriginFile { size: u64::MAX / 4, ..file("a") };
        assert!(matches!(Manifest::new(vec![large]), Err(ManifestError::TooLarge { .. })));
    }

    #[test]
    fn a_subset_is_what_was_asked_for_or_an_error_that_names_the_missing_file() {
        let all = Manifest::new(vec![file("b"), file("a/x")]).unwrap();
        let wanted = |path: &str| RelativePath::new(path).unwrap();
        assert_eq!(all.clone().subset(&[]).unwrap(), all);
        assert_eq!(all.clone().subset(&[wanted("b"), wanted("b")]).unwrap().files().len(), 1);
        assert_eq!(all.subset(&[wanted("c")]), Err(ManifestError::NotThere(wanted("c"))));
    }
}
