//! Makes the index and the disk agree again after a crash, or after the index was lost.
//!
//! The table in the crate's documentation says what each step leaves, and how it is mended here.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt;
use std::path::Path;

use larder_content::{ChunkHash, ChunkLayout, FileKey, VerifiedChunks};

use crate::blobs::BlobName;
use crate::folder::Status;
use crate::index::Row;
use crate::lease::Tree;
use crate::partial::file_name;
use crate::read::read;
use crate::records::{BlobRow, ChunkRow, CopyRow, PartialRow, SealedRecord, StateRow, UNSEEN_GROUP};
use crate::release::LaidFile;
use crate::verify::{hash, in_parallel};
use crate::{Shared, StoreError, lock};

/// What opening a store repaired.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Why the index had to be made anew, and where the old one is.
    pub index_damaged: Option<String>,
    /// Blobs that were found on disk without a row, and are kept with the keys they have.
    pub blobs_found: u64,
    /// Blobs whose bytes or file were lost, and that were removed.
    pub blobs_torn: u64,
    /// Chunks that were recorded, but whose bytes were lost.
    pub chunks_lost: u64,
    /// Files that were coming, and of which nothing can be kept.
    pub partials_removed: u64,
    /// Files that were removed from targets because their bytes were lost.
    pub laid_torn: u64,
    /// Trees in `targets` that no lease names, and that were removed.
    pub trees_removed: u64,
    /// Leases whose file was torn.
    pub leases_torn: u64,
    /// Files that had no name yet.
    pub temps: u64,
}

impl Recovery {
    /// Whether nothing had to be repaired.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        *self == Self::default()
    }
}

impl fmt::Display for Recovery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(why) = &self.index_damaged {
            write!(f, "the index was made anew ({why}); ")?;
        }
        let Self { blobs_found, blobs_torn, chunks_lost, partials_removed, laid_torn, trees_removed, leases_torn, temps, .. } = self;
        write!(
            f,
            "{blobs_found} blobs found without a row, {blobs_torn} torn blobs, {chunks_lost} lost chunks, {partials_removed} \
             partial files, {laid_torn} torn files in targets, {trees_removed} trees without a lease, {leases_torn} torn leases and {temps} stale temps removed"
        )
    }
}

impl Shared {
    /// Fills a new index from the disk: blobs are hashed, since their name is their hash, and so are the copies that leases
    /// name; partial files cannot be kept.
    pub(crate) fn rebuild(&self, recovery: &mut Recovery) -> Result<(), StoreError> {
        let torn = self.find_blobs(&HashSet::new(), recovery)?;
        self.drop_stray_lists()?;
        for file in self.home.names("partial")? {
            self.remove_file(&format!("partial/{file}"))?;
            recovery.partials_removed += 1;
        }
        self.remove_torn_links(&torn, recovery)?;
        recovery.trees_removed += self.remove_unleased()?;
        self.check_copies(&|_| true, true, recovery)
    }

    /// Mends what a kill left, or a power cut.
    pub(crate) fn mend(&self, state: &StateRow, power_cut: bool, recovery: &mut Recovery) -> Result<(), StoreError> {
        let is_unsure = |group: u64| power_cut && group > state.synced;
        let mut torn = self.check_blobs(&is_unsure, recovery)?;
        let partials = self.check_partial_files(recovery)?;
        torn.extend(self.find_blobs(&partials, recovery)?);
        self.drop_stray_lists()?;
        self.remove_torn_links(&torn, recovery)?;
        recovery.trees_removed += self.remove_unleased()?;
        for (key, row) in self.index.partials()? {
            self.mend_partial(&key, &row, &is_unsure, recovery)?;
        }
        self.check_copies(&is_unsure, false, recovery)
    }

    /// Hashes the copies in leased trees that `is_unsure` says so of, removes those that are torn, and forgets those that no
    /// lease names. What has no row and is no link counts as of no synced group; if it is right it gets a row. In a tree that cannot
    /// be opened, since its disk may not be mounted, rows are kept so that `release` finds the copies, and `lay` trusts none.
    ///
    /// If the index was lost, nothing tells a torn copy from one that a job wrote to: where jobs may write, it stays.
    fn check_copies(&self, is_unsure: &dyn Fn(u64) -> bool, index_lost: bool, recovery: &mut Recovery) -> Result<(), StoreError> {
        let (blobs, device) = (self.blobs_by_inode()?, self.home.own_status()?.device);
        let is_link = |status: &Status| status.device == device && blobs.contains_key(&status.fingerprint.inode);
        recovery.laid_torn += self.remove_torn(&|LaidFile { lease, tree, path, folder, status }| {
            let place = tree.path_of(path);
            let row = self.index.get::<CopyRow>(Row::Copy(&place))?;
            let group = row.as_ref().map_or(UNSEEN_GROUP, |row| row.group);
            if !is_unsure(group) || (row.is_none() && is_link(&status)) {
                return Ok(false);
            }
            let renew = |row: CopyRow| self.index.put(Row::Copy(&place), &CopyRow { group: self.groups.current(), ..row });
            // What is no copy of ours any more, because a job changed it, is the job's.
            if let Some(row) = row.clone().filter(|row| tree.writable && !row.fingerprint.same_bytes(&status.fingerprint)) {
                return renew(row).map(|()| false);
            }
            let found = hash(folder.file(path.file_name(), false)?).map_err(|error| folder.fault(path.file_name(), error))?;
            let is_leased = || lease.blobs.iter().any(|blob| blob.content() == found);
            if row.map_or_else(is_leased, |row| row.content == found.0) {
                return renew(CopyRow { content: found.0, fingerprint: status.fingerprint, group }).map(|()| false);
            }
            Ok(!(index_lost && tree.writable))
        });
        let leased: Vec<Tree> = lock(&self.leases).values().flat_map(|lease| lease.trees.iter().map(Tree::place)).collect();
        let away: Vec<Tree> = leased.into_iter().filter(|tree| !matches!(tree.open(None), Ok(Some(_)))).collect();
        for copy in self.index.copies::<CopyRow>(Path::new("/")) {
            let (place, row) = copy?;
            let seen = row.group != UNSEEN_GROUP && row.group >= self.groups.first();
            if seen || !is_unsure(row.group) {
                continue;
            }
            if away.iter().any(|tree| place.starts_with(&tree.path)) {
                self.index.put(Row::Copy(&place), &CopyRow { group: UNSEEN_GROUP, ..row })?;
            } else {
                self.index.remove(Row::Copy(&place))?;
            }
        }
        Ok(())
    }

    /// Has the next sync cover the disks that leased trees lie on.
    pub(crate) fn sync_abroad(&self) -> Result<(), StoreError> {
        let device = self.home.own_status()?.device;
        let trees: Vec<Tree> = lock(&self.leases).values().flat_map(|lease| lease.trees.iter().map(Tree::place)).collect();
        // A tree that cannot be opened is checked again after a power cut.
        for folder in trees.iter().filter_map(|tree| tree.open(None).ok().flatten()) {
            if folder.own_status()?.device != device {
                self.groups.also(folder)?;
            }
        }
        Ok(())
    }

    /// Looks at all blobs that have a row; hashes those that may be torn. Returns the inodes of those that were.
    fn check_blobs(&self, is_unsure: &dyn Fn(u64) -> bool, recovery: &mut Recovery) -> Result<HashSet<u64>, StoreError> {
        let mut suspects = vec![];
        for (name, row) in self.index.blobs()? {
            match self.home.status(&name.file())? {
                Some(status) if status.is_file && !is_unsure(row.group) => {}
                status => suspects.push((name, row, status)),
            }
        }
        let right = |(name, _, status): &(BlobName, BlobRow, Option<Status>)| match status {
            Some(status) => self.hashes_right(*name, *status),
            None => Ok(false),
        };
        let mut torn = HashSet::new();
        for (found, (name, row, status)) in in_parallel(&suspects, right).into_iter().zip(&suspects) {
            if found? {
                let Some(status) = status else { continue };
                self.index.put(Row::Blob(*name), &BlobRow { fingerprint: status.fingerprint, ..row.clone() })?;
            } else {
                torn.extend(status.map(|status| status.fingerprint.inode));
                self.forget(*name, row, &self.stripe(*name))?;
                recovery.blobs_torn += 1;
            }
        }
        Ok(torn)
    }

    /// Removes partial files without a row and rows without a file. Returns the inodes of the rest.
    fn check_partial_files(&self, recovery: &mut Recovery) -> Result<HashSet<u64>, StoreError> {
        let rows: HashMap<String, FileKey> = self.index.partials()?.into_iter().map(|(key, _)| (key.to_string(), key)).collect();
        let mut inodes = HashSet::new();
        let mut there = BTreeSet::new();
        for file in self.home.names("partial")? {
            let name = format!("partial/{file}");
            if rows.contains_key(&file) {
                inodes.extend(self.home.status(&name)?.map(|status| status.fingerprint.inode));
                there.insert(file);
            } else {
                self.remove_file(&name)?;
                recovery.partials_removed += 1;
            }
        }
        for (_, key) in rows.into_iter().filter(|(file, _)| !there.contains(file)) {
            self.drop_partial(&key)?;
            recovery.partials_removed += 1;
        }
        Ok(inodes)
    }

    /// Takes in the blobs that lie on disk without a row. Returns the inodes of those that are torn.
    ///
    /// One that is the second name of a partial file goes: the partial file has the same bytes, and knows what it is for.
    fn find_blobs(&self, partials: &HashSet<u64>, recovery: &mut Recovery) -> Result<HashSet<u64>, StoreError> {
        let mut found = vec![];
        for kind in ["blobs", "private"] {
            for shard in self.home.names(kind)? {
                for file in self.home.names(&format!("{kind}/{shard}"))? {
                    let name = BlobName::parse(&file).filter(|name| name.file() == format!("{kind}/{shard}/{file}"));
                    let Some(name) = name else { continue };
                    let Some(status) = self.home.status(&name.file())? else { continue };
                    if self.index.get::<BlobRow>(Row::Blob(name))?.is_some() {
                        continue;
                    }
                    found.push((name, status));
                }
            }
        }
        let mut torn = HashSet::new();
        let right = in_parallel(&found, |(name, status)| self.hashes_right(*name, *status));
        for (right, (name, status)) in right.into_iter().zip(&found) {
            let right = right?;
            if right && !partials.contains(&status.fingerprint.inode) {
                self.insert(*name, status.fingerprint, self.is_keyless(*name)?)?;
                recovery.blobs_found += 1;
                continue;
            }
            self.remove_file(&name.file())?;
            if !right {
                torn.insert(status.fingerprint.inode);
                recovery.blobs_torn += 1;
            }
        }
        Ok(torn)
    }

    /// Removes the links of torn blobs from the trees of all leases, and from `targets`.
    fn remove_torn_links(&self, torn: &HashSet<u64>, recovery: &mut Recovery) -> Result<(), StoreError> {
        if torn.is_empty() {
            return Ok(());
        }
        let device = self.home.own_status()?.device;
        let is_torn = |status: &Status| status.device == device && torn.contains(&status.fingerprint.inode);
        recovery.laid_torn += self.remove_torn(&|file| Ok(is_torn(&file.status)));
        recovery.laid_torn += self.remove_torn_strays(&is_torn)?;
        Ok(())
    }

    /// Drops the chunks whose bytes were lost; a file that is a blob by now waits for its blob to be synced.
    fn mend_partial(
        &self,
        key: &FileKey,
        row: &PartialRow,
        is_unsure: &dyn Fn(u64) -> bool,
        recovery: &mut Recovery,
    ) -> Result<(), StoreError> {
        if let Some(SealedRecord { key: bound, name }) = row.sealed_as {
            let name = BlobName::from(name);
            if self.leads_to(FileKey(bound), name)? && self.index.get::<BlobRow>(Row::Blob(name))?.is_some() {
                self.groups.leave(*key, name);
                return Ok(());
            }
            self.index.put(Row::Partial(*key), &PartialRow { sealed_as: None, ..row.clone() })?;
        }
        recovery.chunks_lost += self.drop_lost_chunks(key, row.size, &|chunk| is_unsure(chunk.group))?;
        Ok(())
    }

    /// Hashes the chunks of a partial file that `is_unsure` names, drops those whose bytes are not what was recorded, and
    /// returns how many.
    pub(crate) fn drop_lost_chunks(&self, key: &FileKey, size: u64, is_unsure: &dyn Fn(&ChunkRow) -> bool) -> Result<u64, StoreError> {
        let layout = ChunkLayout::new(size);
        let file = self.home.file(&file_name(key), false)?;
        let mut lost = vec![];
        for row in self.index.chunks::<ChunkRow>(key) {
            let (index, row) = row?;
            if !is_unsure(&row) {
                continue;
            }
            let bytes = read(&self.buffers, &file, &layout.bytes(index, index + 1)).ok();
            let right = bytes.is_some_and(|bytes| VerifiedChunks::check(layout, index, bytes, &[ChunkHash(row.hash)]).is_ok());
            if !right {
                lost.push(index);
            }
        }
        lost.iter().try_for_each(|index| self.index.remove(Row::Chunk(*key, *index)))?;
        Ok(lost.len() as u64)
    }
}
