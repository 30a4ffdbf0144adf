//! The index: rows by kind and name, in sled, which only this file names.
//!
//! The disk is the truth and the index what is known of it: it can be thrown away and rebuilt. Rows change one by one and
//! reach the disk in that order, so whoever writes several orders them such that it may be cut off after each. (The library
//! can change several at once, but then writes and syncs its log twice each time.)

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use larder_content::codec::{self, CodecError, Record};
use larder_content::{ContentId, FileKey};

use crate::StoreError;
use crate::blobs::BlobName;
use crate::records::{BlobRow, PartialRow, StateRow};

/// Memory for pages of the index.
const CACHE_BYTES: u64 = 32 << 20;
/// How long a row may stay in memory only: what a kill loses.
const FLUSH_EVERY_MS: u64 = 200;
/// How long an index that was closed may take to be free.
const FREE_WITHIN: Duration = Duration::from_secs(5);

/// The name of a row. The first byte of its encoding is its kind, which no two kinds share.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Row<'a> {
    /// The one [`StateRow`].
    State,
    /// A blob: [`BlobRow`].
    Blob(BlobName),
    /// A key: `KeyRow`.
    Key(FileKey),
    /// A key of a blob: `OwnedKeyRow`.
    OwnedKey(BlobName, FileKey),
    /// A file that is still coming: [`PartialRow`].
    Partial(FileKey),
    /// One of its chunks: `ChunkRow`.
    Chunk(FileKey, u64),
    /// A copy at a path: `CopyRow`.
    Copy(&'a Path),
    /// A resource, by its id: `ResourceRow`.
    Resource(&'a str),
    /// The account of a resource, by its id: `AccountRow`.
    Account(&'a str),
    /// The one `ServedRow`.
    Served,
    /// The peers of a market, by its address: `PeersRow`.
    Peers(&'a str),
}

impl Row<'_> {
    fn encode(self) -> Vec<u8> {
        match self {
            Self::State => b"s".to_vec(),
            Self::Blob(name) => named(b'b', name, &[]),
            Self::Key(key) => [b"k", &key.0[..]].concat(),
            Self::OwnedKey(name, key) => named(b'o', name, &key.0),
            Self::Partial(key) => [b"p", &key.0[..]].concat(),
            Self::Chunk(key, chunk) => [b"c", &key.0[..], &chunk.to_be_bytes()].concat(),
            Self::Copy(path) => [b"f", path.as_os_str().as_bytes()].concat(),
            Self::Resource(id) => [b"r", &ContentId::of(id.as_bytes()).0[..]].concat(),
            Self::Account(id) => [b"a", &ContentId::of(id.as_bytes()).0[..]].concat(),
            Self::Served => b"u".to_vec(),
            Self::Peers(market) => [b"m", &ContentId::of(market.as_bytes()).0[..]].concat(),
        }
    }
}

fn named(kind: u8, name: BlobName, rest: &[u8]) -> Vec<u8> {
    match name {
        BlobName::Public(content) => [&[kind, 0], &content.0[..], rest].concat(),
        BlobName::Private { key, content } => [&[kind, 1], &key.0[..], &content.0[..], rest].concat(),
    }
}

/// The index, open.
#[derive(Debug)]
pub(crate) struct Index {
    rows: sled::Db,
    path: PathBuf,
    /// The disk whose power a test cuts: without power no row changes.
    #[cfg(test)]
    pub(crate) power: std::sync::OnceLock<crate::crash::CrashDisk>,
}

impl Index {
    /// Opens the index at `path`, making it if it is not there.
    ///
    /// The library panics on some damaged files; that counts as damage too.
    pub(crate) fn open(path: &Path) -> Result<Self, StoreError> {
        let config = sled::Config::new().path(path).cache_capacity(CACHE_BYTES).flush_every_ms(Some(FLUSH_EVERY_MS));
        let open = || {
            let opened = catch_unwind(AssertUnwindSafe(|| config.open()));
            opened.unwrap_or_else(|_| Err(sled::Error::Unsupported("its file cannot be read".into())))
        };
        let began = Instant::now();
        let mut rows = open();
        // The store's own lock is held, so it is this process that has just closed it, and the library has not ended yet.
        while is_locked(&rows) && began.elapsed() < FREE_WITHIN {
            std::thread::sleep(Duration::from_millis(5));
            rows = open();
        }
        let rows = rows.map_err(|error| fault(path, error))?;
        Ok(Self {
            rows,
            path: path.into(),
            #[cfg(test)]
            power: std::sync::OnceLock::new(),
        })
    }

    /// Fails if a test has cut the power; each row that changes is a step of its own.
    fn step(&self) -> Result<(), StoreError> {
        #[cfg(test)]
        if let Some(power) = self.power.get() {
            power.step().map_err(|error| StoreError::of(self.path.clone(), error))?;
        }
        Ok(())
    }

    /// Reads a row.
    pub(crate) fn get<R: Record>(&self, row: Row<'_>) -> Result<Option<R>, StoreError> {
        let found = self.rows.get(row.encode()).map_err(|error| fault(&self.path, error))?;
        found.map(|bytes| self.decode(&bytes)).transpose()
    }

    /// Writes one row.
    pub(crate) fn put<R: Record>(&self, row: Row<'_>, record: &R) -> Result<(), StoreError> {
        let bytes = codec::encode(record).map_err(|error| self.malformed(&error))?;
        self.step()?;
        self.rows.insert(row.encode(), bytes).map(drop).map_err(|error| fault(&self.path, error))
    }

    /// Removes a row.
    pub(crate) fn remove(&self, row: Row<'_>) -> Result<(), StoreError> {
        self.step()?;
        self.rows.remove(row.encode()).map(drop).map_err(|error| fault(&self.path, error))
    }

    /// Waits until all rows would survive a power cut.
    pub(crate) fn flush(&self) -> Result<(), StoreError> {
        self.rows.flush().map(drop).map_err(|error| fault(&self.path, error))
    }

    /// The state of the store; `None` in an index that was just made.
    pub(crate) fn state(&self) -> Result<Option<StateRow>, StoreError> {
        self.get(Row::State)
    }

    /// All blobs. As [`Index::open`], panics of the library count as damage.
    pub(crate) fn blobs(&self) -> Result<Vec<(BlobName, BlobRow)>, StoreError> {
        let scan = || self.scan(b"b".to_vec()).map(|row| row.and_then(|(name, record)| Ok((self.name(&name)?, record)))).collect();
        catch_unwind(AssertUnwindSafe(scan)).unwrap_or_else(|_| Err(self.malformed(&"its pages cannot be read")))
    }

    /// All files that are still coming.
    pub(crate) fn partials(&self) -> Result<Vec<(FileKey, PartialRow)>, StoreError> {
        self.scan(b"p".to_vec()).map(|row| row.and_then(|(key, record)| Ok((FileKey(self.bytes32(&key)?), record)))).collect()
    }

    /// The chunks of a file that is still coming, in order.
    pub(crate) fn chunks<R: Record>(&self, key: &FileKey) -> impl Iterator<Item = Result<(u64, R), StoreError>> {
        self.scan([b"c", &key.0[..]].concat()).map(|row| {
            let (chunk, record) = row?;
            let chunk = <[u8; 8]>::try_from(&chunk[..]).map_err(|error| self.malformed(&error))?;
            Ok((u64::from_be_bytes(chunk), record))
        })
    }

    /// The keys of a blob.
    pub(crate) fn keys_of(&self, name: BlobName) -> Result<Vec<FileKey>, StoreError> {
        let rows = self.rows.scan_prefix(named(b'o', name, &[])).keys();
        let skip = named(b'o', name, &[]).len();
        rows.map(|row| Ok(FileKey(self.bytes32(&row.map_err(|error| fault(&self.path, error))?[skip..])?))).collect()
    }

    /// The copies in a folder and below it, each with its path.
    pub(crate) fn copies<R: Record>(&self, folder: &Path) -> impl Iterator<Item = Result<(PathBuf, R), StoreError>> {
        // Joined to nothing, it ends in one slash, whichever folder it is.
        let prefix = Row::Copy(&folder.join("")).encode();
        let folder = folder.to_owned();
        self.scan(prefix).map(move |row| row.map(|(rest, record)| (folder.join(OsStr::from_bytes(&rest)), record)))
    }

    /// All keys, each with what it is bound to.
    pub(crate) fn keys<R: Record>(&self) -> impl Iterator<Item = Result<(FileKey, R), StoreError>> {
        self.scan(b"k".to_vec()).map(|row| row.and_then(|(key, record)| Ok((FileKey(self.bytes32(&key)?), record))))
    }

    /// All resources, also those of an earlier version.
    pub(crate) fn resources<R: Record + From<E>, E: Record>(&self) -> Result<Vec<R>, StoreError> {
        let decode = |bytes: &[u8]| match codec::decode::<R>(bytes) {
            Err(CodecError::Version { found, .. }) if found == E::VERSION => self.decode::<E>(bytes).map(R::from),
            decoded => decoded.map_err(|error| self.malformed(&error)),
        };
        let rows = self.rows.scan_prefix(b"r").values();
        rows.map(|bytes| decode(&bytes.map_err(|error| fault(&self.path, error))?)).collect()
    }

    /// All accounts of resources.
    pub(crate) fn accounts<R: Record>(&self) -> Result<Vec<R>, StoreError> {
        self.scan(b"a".to_vec()).map(|row| row.map(|(_, record)| record)).collect()
    }

    /// The rows whose names begin with `prefix`, each with the rest of its name.
    fn scan<R: Record>(&self, prefix: Vec<u8>) -> impl Iterator<Item = Result<(Vec<u8>, R), StoreError>> {
        let skip = prefix.len();
        self.rows.scan_prefix(prefix).map(move |row| {
            let (name, bytes) = row.map_err(|error| fault(&self.path, error))?;
            Ok((name[skip..].to_vec(), self.decode(&bytes)?))
        })
    }

    fn name(&self, bytes: &[u8]) -> Result<BlobName, StoreError> {
        match bytes.split_first() {
            Some((0, content)) => Ok(BlobName::Public(ContentId(self.bytes32(content)?))),
            Some((1, rest)) if rest.len() == 64 => {
                Ok(BlobName::Private { key: FileKey(self.bytes32(&rest[..32])?), content: ContentId(self.bytes32(&rest[32..])?) })
            }
            Some(_) | None => Err(self.malformed(&"a row has no name")),
        }
    }

    fn bytes32(&self, bytes: &[u8]) -> Result<[u8; 32], StoreError> {
        bytes.try_into().map_err(|_| self.malformed(&"a row has no name"))
    }

    fn decode<R: Record>(&self, bytes: &[u8]) -> Result<R, StoreError> {
        codec::decode(bytes).map_err(|error| self.malformed(&error))
    }

    fn malformed(&self, why: &dyn std::fmt::Display) -> StoreError {
        StoreError::Damaged { path: self.path.clone(), why: format!("{why}; it is rebuilt when the store is opened again") }
    }
}

/// Whether the file is open elsewhere; the library says so in words only.
fn is_locked(opened: &Result<sled::Db, sled::Error>) -> bool {
    matches!(opened, Err(sled::Error::Io(error)) if error.to_string().contains("could not acquire lock"))
}

/// The error for what the library said.
fn fault(path: &Path, error: sled::Error) -> StoreError {
    match error {
        sled::Error::Io(error) => StoreError::of(path.into(), error),
        error @ (sled::Error::Corruption { .. }
        | sled::Error::CollectionNotFound(_)
        | sled::Error::Unsupported(_)
        | sled::Error::ReportableBug(_)) => {
            StoreError::Damaged { path: path.into(), why: format!("{error}; it is rebuilt when the store is opened again") }
        }
    }
}
