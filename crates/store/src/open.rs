//! Opens a store: takes the lock, opens the index or a new one, and lets recovery mend what is left of a crash.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use larder_content::Buffers;

use crate::disk::{Disk, RealDisk};
use crate::folder::{Folder, absolute};
use crate::hashes::recent_lists;
use crate::index::Index;
use crate::pieces::whole_lists;
use crate::read::{BUFFERS, open_blobs};
use crate::records::StateRow;
use crate::recovery::Recovery;
use crate::sync::{Groups, Keeper};
use crate::{Shared, Store, StoreConfig, StoreError, lock};

/// Group numbers that one process can use: the next begins after them, whatever it lost of the index.
const GROUPS_OF_A_PROCESS: u64 = 1 << 32;
/// The longest text about the holder that is read from the lock file.
const HOLDER_BYTES: u64 = 512;

impl Store {
    /// Opens the store at `home`, making it if it is not there. `holder` is what others are told who find it in use.
    ///
    /// After a crash it is mended first, which [`Store::recovery`] tells of: a second or two at most, unless the index is lost;
    /// then all blobs are hashed, and all copies that leases name.
    ///
    /// # Errors
    /// [`StoreError::InUse`] if another process has it open; [`StoreError::ReadOnly`], [`StoreError::Denied`] or
    /// [`StoreError::Blocked`] if the folder cannot be one.
    pub fn open(home: &Path, config: StoreConfig, holder: &str) -> Result<Self, StoreError> {
        Self::open_on(home, config, holder, Box::new(RealDisk), true)
    }

    /// As [`Store::open`], on any disk, with or without a thread that syncs.
    pub(crate) fn open_on(
        home: &Path,
        config: StoreConfig,
        holder: &str,
        disk: Box<dyn Disk>,
        with_thread: bool,
    ) -> Result<Self, StoreError> {
        let home = make_home(&absolute(home)?)?;
        let lock_file = take_lock(&home, holder)?;
        let mut recovery = Recovery::default();
        let (index, state) = open_index(&home, &mut recovery)?;
        let boot = disk.boot();
        let first_group = state.as_ref().map_or(0, |state| state.first_group.max(state.synced)) + GROUPS_OF_A_PROCESS;
        let mut shared = Shared {
            quota_bytes: 0,
            groups: Groups::new(first_group, boot.clone()),
            stripes: std::array::from_fn(|_| Mutex::default()),
            holds: Mutex::default(),
            keyless: Mutex::default(),
            partials: Mutex::default(),
            leases: Mutex::default(),
            reflinks: Mutex::default(),
            reserved_bytes: Arc::default(),
            blob_bytes: AtomicU64::new(0),
            temps: Mutex::default(),
            open_blobs: Mutex::new(open_blobs()),
            buffers: Buffers::new(BUFFERS),
            lists: Mutex::new(recent_lists()),
            whole_lists: Mutex::new(whole_lists()),
            making_list: Mutex::default(),
            kept_bytes: Arc::default(),
            served: AtomicU64::new(0),
            accounts: Mutex::default(),
            recovery: Recovery::default(),
            home,
            disk,
            config,
            index,
            _lock: lock_file,
        };
        for temp in shared.home.names("temp")? {
            shared.remove_file(&format!("temp/{temp}"))?;
            recovery.temps += 1;
        }
        recovery.leases_torn = shared.load_leases()?;
        shared.count_blobs()?;
        let power_cut = state.as_ref().is_none_or(|state| boot.is_empty() || state.boot != boot);
        match &state {
            None => shared.rebuild(&mut recovery)?,
            Some(state) if !state.clean => shared.mend(state, power_cut, &mut recovery)?,
            Some(_) => {}
        }
        if state.as_ref().is_none_or(|state| !state.clean) {
            // After a kill, what no sync covered is still in memory: the next round covers it, and there must be one.
            shared.sync_abroad()?;
            let _ = shared.groups.current();
        }
        let synced = match state {
            Some(state) if !state.clean && !power_cut => state.synced,
            Some(_) | None => first_group - 1,
        };
        shared.put_state(synced, false)?;
        shared.quota_bytes = shared.quota()?;
        shared.recovery = recovery;
        let shared = Arc::new(shared);
        Ok(Self { _keeper: Arc::new(Keeper::new(Arc::clone(&shared), with_thread)?), shared })
    }
}

impl Shared {
    /// The quota that is set, or half of what the store could have of the disk.
    fn quota(&self) -> Result<u64, StoreError> {
        let held = self.blob_bytes.load(Ordering::Relaxed) + self.coming_bytes()?.0;
        let default = || Ok(self.home.free_bytes()?.saturating_add(held) / 2);
        self.config.quota_bytes.map_or_else(default, Ok)
    }

    /// Adds up the blobs, and finds those without a key.
    fn count_blobs(&self) -> Result<(), StoreError> {
        for (name, row) in self.index.blobs()? {
            self.blob_bytes.fetch_add(row.fingerprint.size, Ordering::Relaxed);
            if row.keyless {
                lock(&self.keyless).entry(row.fingerprint.size).or_default().push(name);
            }
        }
        Ok(())
    }
}

/// Makes the folders of a store; none but `targets` may be looked into by others.
fn make_home(path: &Path) -> Result<Folder, StoreError> {
    let make = |path: &Path, mode: u32| {
        let made = std::fs::DirBuilder::new().recursive(true).mode(mode).create(path);
        match made {
            Err(_) if path.exists() && !path.is_dir() => Err(StoreError::Blocked { path: path.into(), why: "is not a folder" }),
            other => other.map_err(|error| StoreError::of(path.into(), error)),
        }
    };
    let restrict = |path: &Path, mode: u32| {
        let wrong = std::fs::metadata(path).is_ok_and(|found| found.permissions().mode() & 0o777 != mode);
        let fail = |error| StoreError::of(path.into(), error);
        if wrong { std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).map_err(fail) } else { Ok(()) }
    };
    make(path, 0o700)?;
    restrict(path, 0o700)?;
    for name in ["blobs", "private", "hashes", "pieces", "partial", "leases", "listings", "temp"] {
        make(&path.join(name), 0o700)?;
    }
    make(&path.join("targets"), 0o755)?;
    restrict(&path.join("targets"), 0o755)?;
    Folder::open(path)
}

/// Takes the lock, or says who holds it.
fn take_lock(home: &Folder, holder: &str) -> Result<File, StoreError> {
    let path = home.path_of("lock");
    let fail = |error| StoreError::of(path.clone(), error);
    let opened = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
    let mut file = opened.map_err(fail)?;
    match file.try_lock() {
        Ok(()) => {
            file.set_len(0).map_err(fail)?;
            file.rewind().map_err(fail)?;
            file.write_all(format!("{holder} (process {})\n", std::process::id()).as_bytes()).map_err(fail)?;
            Ok(file)
        }
        Err(TryLockError::WouldBlock) => {
            let mut text = String::new();
            let _ = file.take(HOLDER_BYTES).read_to_string(&mut text);
            let holder = if text.trim().is_empty() { "another process" } else { text.trim() };
            Err(StoreError::InUse { home: home.path().into(), holder: holder.into() })
        }
        Err(TryLockError::Error(error)) => Err(fail(error)),
    }
}

/// Opens the index and reads its state. One that cannot be read is moved aside, and a new one is made.
fn open_index(home: &Folder, recovery: &mut Recovery) -> Result<(Index, Option<StateRow>), StoreError> {
    let path = home.path_of("index");
    let read = || {
        let index = Index::open(&path)?;
        let state = index.state()?;
        index.blobs()?;
        index.partials()?;
        Ok((index, state))
    };
    let error = match read() {
        Ok(opened) => return Ok(opened),
        Err(error) if is_damage(&error) => error,
        Err(other) => return Err(other),
    };
    let numbers = home.names(".")?.into_iter().filter_map(|name| name.strip_prefix("index.damaged-")?.parse::<u64>().ok());
    let numbers: Vec<u64> = numbers.collect();
    let aside = format!("index.damaged-{}", numbers.iter().max().map_or(1, |last| last + 1));
    std::fs::rename(&path, home.path_of(&aside)).map_err(|rename| home.fault("index", rename))?;
    for number in numbers {
        let old = home.path_of(&format!("index.damaged-{number}"));
        let _ = if old.is_dir() { std::fs::remove_dir_all(&old) } else { std::fs::remove_file(&old) };
    }
    recovery.index_damaged = Some(format!("{error}; it is kept as {aside}"));
    Ok((Index::open(&path)?, None))
}

/// Whether the index is not what it should be, rather than out of reach for now.
fn is_damage(error: &StoreError) -> bool {
    const KINDS: [ErrorKind; 7] = [
        ErrorKind::UnexpectedEof,
        ErrorKind::InvalidData,
        ErrorKind::InvalidInput,
        ErrorKind::NotADirectory,
        ErrorKind::IsADirectory,
        ErrorKind::AlreadyExists,
        ErrorKind::NotFound,
    ];
    match error {
        StoreError::Damaged { .. } => true,
        StoreError::Io { source, .. } => KINDS.contains(&source.kind()),
        StoreError::InUse { .. }
        | StoreError::Full { .. }
        | StoreError::ReadOnly { .. }
        | StoreError::Denied { .. }
        | StoreError::Blocked { .. } => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use larder_content::Scope;

    use crate::testing::{bytes, config, content_of, public, put, store_at};

    #[test]
    fn a_second_holder_is_told_who_holds_the_store() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), config(), "larder prepare").unwrap();
        let error = Store::open(folder.path(), config(), "x").err().unwrap();
        assert!(matches!(error, StoreError::InUse { .. }));
        assert!(error.to_string().contains(&format!("larder prepare (process {})", std::process::id())), "{error}");
        drop(store);
        assert!(Store::open(folder.path(), config(), "x").is_ok());
    }

    #[test]
    fn a_home_that_is_a_file_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, "x").unwrap();
        let error = Store::open(&path, config(), "x").err().unwrap();
        assert!(matches!(&error, StoreError::Blocked { path: named, .. } if *named == path), "{error}");
    }

    #[test]
    fn only_targets_can_be_looked_into_once_home_is_entered() {
        let (folder, _store) = crate::testing::store_in();
        let mode = |name: &str| std::fs::metadata(folder.path().join("home").join(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!(
            [mode(""), mode("blobs"), mode("private"), mode("partial"), mode("leases"), mode("targets")],
            [0o700, 0o700, 0o700, 0o700, 0o700, 0o755]
        );
    }

    #[test]
    fn a_damaged_index_is_kept_aside_and_public_blobs_are_adopted_again() {
        let (folder, store) = crate::testing::store_in();
        let file = public(b"hello");
        let blob = put(&store, &file, b"hello");
        drop((blob, store));
        let home = folder.path().join("home");
        for round in 1..=2 {
            std::fs::remove_dir_all(home.join("index")).unwrap();
            std::fs::write(home.join("index"), "this is no index").unwrap();
            let store = store_at(&home);
            assert!(store.recovery().index_damaged.is_some());
            assert!(store.find(&file.key(Scope::Public)).unwrap().is_none());
            let blob = store.adopt(&file, Scope::Public).unwrap().unwrap();
            assert_eq!(content_of(&blob), b"hello");
            assert!(store.find(&file.key(Scope::Public)).unwrap().is_some());
            assert!(home.join(format!("index.damaged-{round}")).exists());
            assert!(!home.join(format!("index.damaged-{}", round - 1)).exists(), "more than the newest is kept");
        }
    }

    #[test]
    fn an_index_with_any_bytes_overwritten_is_used_or_made_anew_and_lays_nothing_wrong() {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path().join("home");
        let files: Vec<_> = (0..50u64).map(|seed| bytes(seed, 3_000 + seed)).collect();
        let mut made_anew = 0;
        for seed in 1..8u64 {
            let store = store_at(&home);
            files.iter().for_each(|data| drop(put(&store, &public(data), data)));
            drop(store);
            let path = home.join("index/db");
            let mut database = std::fs::read(&path).unwrap();
            let length = database.len();
            for at in 0..40 {
                let place = usize::try_from((at + 1) * seed * 7919 % 40_000).unwrap() % length;
                database[place] ^= 0x5a;
            }
            std::fs::write(&path, &database[..if seed == 7 { length / 2 } else { length }]).unwrap();
            let store = store_at(&home);
            made_anew += u32::from(store.recovery().index_damaged.is_some());
            for data in &files {
                let file = public(data);
                let found = store.find(&file.key(Scope::Public)).unwrap();
                let found = found.or_else(|| store.adopt(&file, Scope::Public).unwrap());
                let found = found.unwrap_or_else(|| put(&store, &file, data));
                assert!(content_of(&found) == **data);
            }
            assert_eq!(store.verify().unwrap().blobs, 50);
        }
        assert!(made_anew > 0, "nothing that matters was overwritten");
    }

    #[test]
    fn what_the_operating_system_says_becomes_what_the_operator_can_do() {
        let error = |kind: ErrorKind| StoreError::of("/x".into(), kind.into());
        assert!(matches!(error(ErrorKind::ReadOnlyFilesystem), StoreError::ReadOnly { .. }));
        assert!(matches!(error(ErrorKind::PermissionDenied), StoreError::Denied { .. }));
        assert!(matches!(error(ErrorKind::StorageFull).needing(7), StoreError::Full { needed: 7, .. }));
        assert!(error(ErrorKind::Interrupted).to_string().starts_with("/x: "));
    }
}
