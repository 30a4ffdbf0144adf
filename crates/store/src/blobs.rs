//! Blobs: whole files whose bytes were proven, found by the keys that are bound to them.
//!
//! Invariant: the row of a blob holds the fingerprint its file had when its bytes were last known to be right. Whoever
//! changes the file's links does it through [`Shared::relinking`], so that the fingerprint keeps up.

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard, Weak};

use larder_content::{ContentId, FileKey, ProofKind, Scope};

use crate::folder::{Fingerprint, Status};
use crate::index::Row;
use crate::records::{BlobRow, KeyRow, OwnedKeyRow};
use crate::{Shared, Store, StoreError, lock};

/// What a blob is kept as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BlobName {
    /// Content that anyone may read, kept by what it is.
    Public(ContentId),
    /// Content that only who shows access may have, kept by where it lives.
    Private {
        /// The key of its locator.
        key: FileKey,
        /// What it is.
        content: ContentId,
    },
}

impl BlobName {
    /// The name of `content`, which is kept under `key`.
    pub(crate) fn new(scope: Scope, key: FileKey, content: ContentId) -> Self {
        match scope {
            Scope::Public => Self::Public(content),
            Scope::Private => Self::Private { key, content },
        }
    }

    /// The BLAKE3 hash of its bytes.
    #[must_use]
    pub fn content(self) -> ContentId {
        match self {
            Self::Public(content) | Self::Private { content, .. } => content,
        }
    }

    /// Who may have it.
    #[must_use]
    pub fn scope(self) -> Scope {
        match self {
            Self::Public(_) => Scope::Public,
            Self::Private { .. } => Scope::Private,
        }
    }

    /// Its file below the store's home.
    pub(crate) fn file(self) -> String {
        match self {
            Self::Public(content) => format!("blobs/{:02x}/{content}", content.0[0]),
            Self::Private { key, content } => format!("private/{:02x}/{key}.{content}", key.0[0]),
        }
    }

    /// Reads the name of a file in `blobs/ab` or `private/ab`.
    pub(crate) fn parse(file: &str) -> Option<Self> {
        let Some((key, content)) = file.split_once('.') else {
            return ContentId::parse(file).map(Self::Public);
        };
        Some(Self::Private { key: FileKey(ContentId::parse(key)?.0), content: ContentId::parse(content)? })
    }
}

/// A blob that was found. While it lives in this process, the blob is not evicted.
#[derive(Debug, Clone)]
pub struct Blob {
    name: BlobName,
    size: u64,
    proof: ProofKind,
    path: PathBuf,
    _hold: Arc<()>,
}

impl Blob {
    /// What it is kept as.
    #[must_use]
    pub fn name(&self) -> BlobName {
        self.name
    }

    /// The BLAKE3 hash of its bytes.
    #[must_use]
    pub fn content(&self) -> ContentId {
        self.name.content()
    }

    /// Its size in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Who may have it.
    #[must_use]
    pub fn scope(&self) -> Scope {
        self.name.scope()
    }

    /// By what the file it was found for was proven.
    #[must_use]
    pub fn proof(&self) -> ProofKind {
        self.proof
    }

    /// The same, found for a file that was proven by `proof`.
    pub(crate) fn proven_by(self, proof: ProofKind) -> Self {
        Self { proof, ..self }
    }

    /// Its file. Read it; nothing else.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Store {
    /// The blob that `key` is bound to.
    ///
    /// If its file was touched since it was last verified, it is hashed again first; if it is not what it was, it is
    /// dropped with all that was laid as a link of it, and nothing is found.
    ///
    /// # Errors
    /// If the file or the index cannot be read.
    pub fn find(&self, key: &FileKey) -> Result<Option<Blob>, StoreError> {
        match self.shared.index.get::<KeyRow>(Row::Key(*key))? {
            Some(row) => self.shared.blob(row.name.into(), row.proof.into()),
            None => Ok(None),
        }
    }
}

impl Shared {
    /// The blob `name` if its bytes are right.
    pub(crate) fn blob(&self, name: BlobName, proof: ProofKind) -> Result<Option<Blob>, StoreError> {
        let hold = self.hold(name);
        let found = self.checked(name, &self.stripe(name))?;
        Ok(found.map(|fingerprint| self.blob_of(name, fingerprint.size, proof, hold)))
    }

    /// A handle on a blob that is known to be right, and is held.
    pub(crate) fn blob_of(&self, name: BlobName, size: u64, proof: ProofKind, hold: Arc<()>) -> Blob {
        Blob { name, size, proof, path: self.home.path_of(&name.file()), _hold: hold }
    }

    /// Keeps the blob from being evicted while the handle lives.
    pub(crate) fn hold(&self, name: BlobName) -> Arc<()> {
        let mut holds = lock(&self.holds);
        let entry = holds.entry(name).or_default();
        entry.upgrade().unwrap_or_else(|| {
            let hold = Arc::new(());
            *entry = Arc::downgrade(&hold);
            hold
        })
    }

    /// Whether a handle on the blob lives; forgets the entry if none does.
    pub(crate) fn is_held(&self, name: BlobName) -> bool {
        let mut holds = lock(&self.holds);
        let held = holds.get(&name).is_some_and(|hold: &Weak<()>| hold.strong_count() > 0);
        if !held {
            holds.remove(&name);
        }
        held
    }

    /// Whoever holds this guard alone looks at or changes the file and row of the blob.
    pub(crate) fn stripe(&self, name: BlobName) -> MutexGuard<'_, ()> {
        lock(&self.stripes[usize::from(name.content().0[0]) % self.stripes.len()])
    }

    /// The blob's fingerprint if its bytes are right; a blob that is not what it was is dropped.
    pub(crate) fn checked(&self, name: BlobName, guard: &MutexGuard<'_, ()>) -> Result<Option<Fingerprint>, StoreError> {
        let Some(row) = self.index.get::<BlobRow>(Row::Blob(name))? else { return Ok(None) };
        let status = self.home.status(&name.file())?;
        match status {
            Some(status) if status.fingerprint == row.fingerprint => Ok(Some(status.fingerprint)),
            Some(status) if self.hashes_right(name, status)? => {
                self.index.put(Row::Blob(name), &BlobRow { fingerprint: status.fingerprint, ..row })?;
                Ok(Some(status.fingerprint))
            }
            status => self.drop_damaged(name, &row, status, guard).map(|()| None),
        }
    }

    /// Removes a blob whose file is gone or not what it was, and what was laid as a link of it, which is as wrong.
    ///
    /// The links go first: as long as the blob has its file, nothing else can have its inode, and a kill leaves it to be found
    /// damaged again.
    pub(crate) fn drop_damaged(
        &self,
        name: BlobName,
        row: &BlobRow,
        status: Option<Status>,
        guard: &MutexGuard<'_, ()>,
    ) -> Result<(), StoreError> {
        // By its inode alone: a job that has a link may go on writing to it.
        let is_link = |own: Status, other: Status| own.device == other.device && own.fingerprint.inode == other.fingerprint.inode;
        let linked = status.filter(|status| status.has_other_links);
        let links = linked.map_or(0, |own| self.remove_torn(&|file| Ok(is_link(own, file.status))));
        self.forget(name, row, guard)?;
        tracing::warn!(blob = %name.content(), links, "dropped a blob whose file is gone or was changed");
        Ok(())
    }

    /// Hashes the blob's file and compares it with its name.
    pub(crate) fn hashes_right(&self, name: BlobName, status: Status) -> Result<bool, StoreError> {
        if !status.is_file {
            return Ok(false);
        }
        let file = self.home.file(&name.file(), false)?;
        let found = crate::verify::hash(file).map_err(|error| self.home.fault(&name.file(), error))?;
        Ok(found == name.content())
    }

    /// Does something that changes how many links the blob's file has, and renews its fingerprint.
    ///
    /// The blob was checked under the same guard. If its bytes changed meanwhile, the old fingerprint stays, so that the next
    /// look finds out.
    pub(crate) fn relinking<T>(
        &self,
        name: BlobName,
        _guard: &MutexGuard<'_, ()>,
        change: impl FnOnce() -> std::io::Result<T>,
    ) -> Result<std::io::Result<T>, StoreError> {
        let file = name.file();
        let before = self.home.status(&file)?;
        let row = self.index.get::<BlobRow>(Row::Blob(name))?;
        let changed = change();
        if let (Some(before), Some(row), Some(after)) = (before, row, self.home.status(&file)?)
            && before.fingerprint == row.fingerprint
            && before.fingerprint != after.fingerprint
            && before.fingerprint.same_bytes(&after.fingerprint)
        {
            self.index.put(Row::Blob(name), &BlobRow { fingerprint: after.fingerprint, ..row })?;
        }
        Ok(changed)
    }

    /// Gives the blob's file its name, by `give`, and returns its fingerprint. Makes the folder it lies in.
    pub(crate) fn place(&self, name: BlobName, give: impl Fn(&str) -> std::io::Result<()>) -> Result<Fingerprint, StoreError> {
        let file = name.file();
        self.give_name(&file, give)?;
        let status = self.home.status(&file)?;
        status.map(|status| status.fingerprint).ok_or_else(|| self.home.fault(&file, std::io::ErrorKind::NotFound.into()))
    }

    /// Gives a file of the home its name, by `give`. Makes the folder it lies in.
    pub(crate) fn give_name(&self, file: &str, give: impl Fn(&str) -> std::io::Result<()>) -> Result<(), StoreError> {
        let given = match give(file) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let folder = file.rsplit_once('/').map_or("", |(folder, _)| folder);
                let _ = self.disk.make_folder(&self.home, folder, 0o700, None);
                give(file)
            }
            other => other,
        };
        given.map_err(|error| self.home.fault(file, error))
    }

    /// Adds the row of a blob whose file is in place.
    pub(crate) fn insert(&self, name: BlobName, fingerprint: Fingerprint, keyless: bool) -> Result<(), StoreError> {
        let group = self.groups.current();
        self.index.put(Row::Blob(name), &BlobRow { fingerprint, used: fingerprint.modified_s(), group, keyless })?;
        self.blob_bytes.fetch_add(fingerprint.size, Ordering::Relaxed);
        if keyless {
            lock(&self.keyless).entry(fingerprint.size).or_default().push(name);
        }
        Ok(())
    }

    /// Binds `key` to the blob; `placed` is the fingerprint of its file if that is new.
    ///
    /// The blob's own row comes last: a kill before it leaves keys that lead nowhere and a blob to be taken in.
    pub(crate) fn bind(
        &self,
        name: BlobName,
        key: FileKey,
        proof: ProofKind,
        placed: Option<Fingerprint>,
        _guard: &MutexGuard<'_, ()>,
    ) -> Result<(), StoreError> {
        let before = self.index.get::<KeyRow>(Row::Key(key))?.map(|row| BlobName::from(row.name));
        self.index.put(Row::OwnedKey(name, key), &OwnedKeyRow)?;
        self.index.put(Row::Key(key), &KeyRow { name: name.into(), proof: proof.into() })?;
        if let Some(before) = before.filter(|before| *before != name) {
            self.index.remove(Row::OwnedKey(before, key))?;
        }
        match placed {
            Some(fingerprint) => self.insert(name, fingerprint, false),
            None => self.gained_key(name),
        }
    }

    /// Notes that a key was bound to the blob, in case it had none.
    fn gained_key(&self, name: BlobName) -> Result<(), StoreError> {
        let mut keyless = lock(&self.keyless);
        if !keyless.values().any(|names| names.contains(&name)) {
            return Ok(());
        }
        keyless.values_mut().for_each(|names| names.retain(|other| *other != name));
        keyless.retain(|_, names| !names.is_empty());
        match self.index.get::<BlobRow>(Row::Blob(name))? {
            Some(row) => self.index.put(Row::Blob(name), &BlobRow { keyless: false, ..row }),
            None => Ok(()),
        }
    }

    /// Removes a blob: its rows first, so that no key ever leads to a file that is gone. Of these its own is the first, so that
    /// a kill leaves a blob to be taken in, with the keys it has. Its chunk hashes go before its file, so that they never stay alone.
    pub(crate) fn forget(&self, name: BlobName, row: &BlobRow, guard: &MutexGuard<'_, ()>) -> Result<(), StoreError> {
        self.close_blob(name, guard);
        self.index.remove(Row::Blob(name))?;
        let less = |held: u64| Some(held.saturating_sub(row.fingerprint.size));
        let _ = self.blob_bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
        let mut keyless = lock(&self.keyless);
        keyless.values_mut().for_each(|names| names.retain(|other| *other != name));
        drop(keyless);
        for key in self.index.keys_of(name)? {
            if self.leads_to(key, name)? {
                self.index.remove(Row::Key(key))?;
            }
            self.index.remove(Row::OwnedKey(name, key))?;
        }
        self.drop_lists(name, row.fingerprint.size, guard)?;
        self.remove_file(&name.file())
    }

    /// Whether `key` is bound to the blob.
    pub(crate) fn leads_to(&self, key: FileKey, name: BlobName) -> Result<bool, StoreError> {
        Ok(self.index.get::<KeyRow>(Row::Key(key))?.is_some_and(|row| BlobName::from(row.name) == name))
    }

    /// Whether no key leads to the blob.
    pub(crate) fn is_keyless(&self, name: BlobName) -> Result<bool, StoreError> {
        for key in self.index.keys_of(name)? {
            if self.leads_to(key, name)? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}
