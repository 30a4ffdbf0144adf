//! Leases: a job's hold on blobs, and the record of what was laid for it.
//!
//! Each is one file, so that what holds blobs and what has to be removed is known even without the index.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use larder_content::{ContentId, RelativePath, codec};

use crate::blobs::BlobName;
use crate::folder::absolute;
use crate::index::Row;
use crate::records::{BlobRow, LeaseRecord, TreeRecord};
use crate::{Shared, Store, StoreError, lock};

/// A job's hold on blobs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// Its name, 16 hex digits.
    pub id: String,
    /// What it is for, as whoever took it says.
    pub job: String,
    /// When it was taken.
    pub created: SystemTime,
    /// When it ends unless it is renewed.
    pub expires: SystemTime,
    /// The blobs it holds.
    pub blobs: BTreeSet<BlobName>,
    /// The trees laid for it.
    pub trees: Vec<Tree>,
}

/// A tree that was laid, or is about to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tree {
    /// The folder, or one above it, that may be reached through symbolic links, since an operator named it or it is the store's
    /// own. Below it no link is followed: a job may have put it there.
    pub root: PathBuf,
    /// The folder.
    pub path: PathBuf,
    /// The files laid in it.
    pub files: Vec<RelativePath>,
    /// Whether the job may write there.
    pub writable: bool,
}

impl Store {
    /// Takes a lease on `blobs` for `job`. Do this before laying `trees`.
    ///
    /// What older leases laid at the same places, and this one does not, is removed: it is of another revision.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn take_lease(&self, job: &str, blobs: BTreeSet<BlobName>, trees: Vec<Tree>, now: SystemTime) -> Result<Lease, StoreError> {
        let shared = &*self.shared;
        let in_full = |tree: Tree| Ok(Tree { root: absolute(&tree.root)?, path: absolute(&tree.path)?, ..tree });
        let trees = trees.into_iter().map(in_full).collect::<Result<Vec<_>, StoreError>>()?;
        let (created, expires) = (whole_seconds(now), whole_seconds(now + shared.config.lease));
        let mut leases = lock(&shared.leases);
        let ids = (0u64..).map(|count| ContentId::of(format!("{job}\n{now:?}\n{count}").as_bytes()).to_string()[..16].to_owned());
        let id = ids.into_iter().find(|id| !leases.contains_key(id)).unwrap_or_default();
        let lease = Lease { id: id.clone(), job: job.into(), created, expires, blobs, trees };
        shared.write_lease(&lease)?;
        leases.insert(id, lease.clone());
        let stale = stale_files(&leases, &lease);
        drop(leases);
        shared.touch(&lease.blobs, now)?;
        for tree in stale {
            shared.remove_laid(&tree)?;
        }
        Ok(lease)
    }

    /// Lets a lease hold for its whole time again; `None` if there is no such lease.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn renew(&self, id: &str, now: SystemTime) -> Result<Option<Lease>, StoreError> {
        let mut leases = lock(&self.shared.leases);
        let Some(lease) = leases.get_mut(id) else { return Ok(None) };
        let renewed = Lease { expires: whole_seconds(now + self.shared.config.lease), ..lease.clone() };
        self.shared.write_lease(&renewed)?;
        *lease = renewed.clone();
        drop(leases);
        self.shared.touch(&renewed.blobs, now)?;
        Ok(Some(renewed))
    }

    /// All leases, also those that have expired but were not removed.
    #[must_use]
    pub fn leases(&self) -> Vec<Lease> {
        lock(&self.shared.leases).values().cloned().collect()
    }
}

impl Tree {
    /// Whether one lies in the other, or both are one: then they may have files in common.
    pub(crate) fn meets(&self, other: &Self) -> bool {
        self.path.starts_with(&other.path) || other.path.starts_with(&self.path)
    }

    /// The tree with those of its files that none of `others` has at the same path.
    pub(crate) fn without(&self, others: &[&Self]) -> Self {
        let met = others.iter().filter(|other| other.meets(self));
        let kept: HashSet<PathBuf> = met.flat_map(|other| other.files.iter().map(|file| other.path_of(file))).collect();
        let files = self.files.iter().filter(|file| !kept.contains(&self.path_of(file))).cloned().collect();
        Self { files, ..self.place() }
    }

    /// The tree with no file yet.
    pub(crate) fn place(&self) -> Self {
        Self { root: self.root.clone(), path: self.path.clone(), files: vec![], writable: self.writable }
    }

    /// The whole path of a file.
    pub(crate) fn path_of(&self, file: &RelativePath) -> PathBuf {
        self.path.join(file.as_str())
    }
}

/// What older leases laid at the places of `new`, and neither `new` has nor, at another place, any other lease.
fn stale_files(leases: &BTreeMap<String, Lease>, new: &Lease) -> Vec<Tree> {
    let is_taken = |tree: &Tree| new.trees.iter().any(|other| other.path == tree.path);
    let older = || leases.values().filter(|lease| lease.id != new.id).flat_map(|lease| &lease.trees);
    let keepers: Vec<&Tree> = new.trees.iter().chain(older().filter(|tree| !is_taken(tree))).collect();
    let stale = older().filter(|tree| is_taken(tree)).map(|tree| tree.without(&keepers));
    stale.filter(|tree| !tree.files.is_empty()).collect()
}

impl Shared {
    /// Reads all leases; removes and counts those that a power cut tore.
    pub(crate) fn load_leases(&self) -> Result<u64, StoreError> {
        let mut torn = 0;
        for id in self.home.names("leases")? {
            let name = format!("leases/{id}");
            let bytes = std::fs::read(self.home.path_of(&name)).map_err(|error| self.home.fault(&name, error))?;
            match codec::decode(&bytes).ok().and_then(|record| lease_of(&id, record)) {
                Some(lease) => drop(lock(&self.leases).insert(id, lease)),
                None => {
                    self.remove_file(&name)?;
                    torn += 1;
                }
            }
        }
        Ok(torn)
    }

    fn write_lease(&self, lease: &Lease) -> Result<(), StoreError> {
        let name = format!("leases/{}", lease.id);
        let bytes = codec::encode(&record_of(lease))
            .map_err(|error| StoreError::Damaged { path: self.home.path_of(&name), why: error.to_string() })?;
        let temp = self.write_temp(&bytes)?;
        let renamed = self.disk.rename((&self.home, &temp), (&self.home, &name));
        let _ = self.groups.current();
        renamed.map_err(|error| self.home.fault(&name, error)).inspect_err(|_| self.drop_temp(&temp))
    }

    /// Notes that the blobs were used.
    pub(crate) fn touch(&self, blobs: &BTreeSet<BlobName>, now: SystemTime) -> Result<(), StoreError> {
        for name in blobs {
            let _guard = self.stripe(*name);
            if let Some(row) = self.index.get::<BlobRow>(Row::Blob(*name))? {
                self.index.put(Row::Blob(*name), &BlobRow { used: seconds(now), ..row })?;
            }
        }
        Ok(())
    }

    /// The blobs that leases hold which have not expired.
    pub(crate) fn leased(&self, now: SystemTime) -> HashSet<BlobName> {
        lock(&self.leases).values().filter(|lease| lease.expires > now).flat_map(|lease| lease.blobs.iter().copied()).collect()
    }
}

/// Seconds since 1970.
pub(crate) fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// The time that many seconds after the start of 1970; that start itself where it is none that the system knows.
pub(crate) fn time(seconds: u64) -> SystemTime {
    known_time(seconds).unwrap_or(UNIX_EPOCH)
}

fn known_time(seconds: u64) -> Option<SystemTime> {
    UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
}

fn whole_seconds(at: SystemTime) -> SystemTime {
    time(seconds(at))
}

pub(crate) fn record_of(lease: &Lease) -> LeaseRecord {
    let tree = |tree: &Tree| TreeRecord {
        root: tree.root.as_os_str().as_bytes().to_vec(),
        path: tree.path.as_os_str().as_bytes().to_vec(),
        files: tree.files.iter().map(|file| file.as_str().to_owned()).collect(),
        writable: tree.writable,
    };
    LeaseRecord {
        job: lease.job.clone(),
        created: seconds(lease.created),
        expires: seconds(lease.expires),
        blobs: lease.blobs.iter().map(|name| (*name).into()).collect(),
        trees: lease.trees.iter().map(tree).collect(),
    }
}

pub(crate) fn lease_of(id: &str, record: LeaseRecord) -> Option<Lease> {
    let tree = |tree: TreeRecord| {
        let files = tree.files.into_iter().map(RelativePath::new).collect::<Result<_, _>>().ok()?;
        let path = |bytes: &[u8]| PathBuf::from(OsStr::from_bytes(bytes));
        Some(Tree { root: path(&tree.root), path: path(&tree.path), files, writable: tree.writable })
    };
    Some(Lease {
        id: id.into(),
        job: record.job,
        created: known_time(record.created)?,
        expires: known_time(record.expires)?,
        blobs: record.blobs.into_iter().map(Into::into).collect(),
        trees: record.trees.into_iter().map(tree).collect::<Option<_>>()?,
    })
}
