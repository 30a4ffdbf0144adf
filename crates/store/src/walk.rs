//! Goes through the folders of a tree without ever following a symbolic link below its root.

use larder_content::RelativePath;

use crate::StoreError;
use crate::disk::Disk;
use crate::folder::Folder;

/// The folders of a tree, of which those on the way to the last file stay open.
///
/// Files are best visited in order of path: each step then opens only what the last one did not.
pub(crate) struct Walk {
    root: Folder,
    open: Vec<(String, Folder)>,
}

/// How folders that are missing are made.
#[derive(Clone, Copy)]
pub(crate) struct Make<'a> {
    pub(crate) disk: &'a dyn Disk,
    pub(crate) owner: Option<(u32, u32)>,
}

impl Walk {
    /// A walk below `root`.
    pub(crate) fn new(root: Folder) -> Self {
        Self { root, open: vec![] }
    }

    /// The tree's root.
    pub(crate) fn root(&self) -> &Folder {
        &self.root
    }

    /// Ends the walk.
    pub(crate) fn into_root(self) -> Folder {
        self.root
    }

    /// Closes the folders on the way, so that they can be removed and looked up again.
    pub(crate) fn close(&mut self) {
        self.open.clear();
    }

    /// The folder that `path` lies in; `None` if it is not there and is not to be made.
    pub(crate) fn folder_of(&mut self, path: &RelativePath, make: Option<Make<'_>>) -> Result<Option<&Folder>, StoreError> {
        let mut wanted: Vec<&str> = path.segments().collect();
        wanted.pop();
        let common = wanted.iter().zip(&self.open).take_while(|(wanted, (name, _))| *wanted == name).count();
        self.open.truncate(common);
        for name in &wanted[common..] {
            let parent = self.open.last().map_or(&self.root, |(_, folder)| folder);
            let entered = match (parent.enter(name)?, make) {
                (Some(folder), _) => Some(folder),
                (None, Some(make)) => {
                    make.disk.make_folder(parent, name, 0o755, make.owner).map_err(|error| parent.fault(name, error))?;
                    parent.enter(name)?
                }
                (None, None) => None,
            };
            match entered {
                Some(folder) => self.open.push(((*name).to_owned(), folder)),
                None => return Ok(None),
            }
        }
        Ok(Some(self.open.last().map_or(&self.root, |(_, folder)| folder)))
    }
}
