//! What origins listed, and which resources were prepared here.
//!
//! A listing is a file of its own, replaced as a whole, that ends in the hash of the rest: one that a power cut tore is
//! not there. So a listing of a million files costs the index nothing.

use std::time::SystemTime;

use larder_content::codec::{self, CodecError, ManifestRecord};
use larder_content::{ContentId, Manifest, Scope};

use crate::index::Row;
use crate::lease::{seconds, time};
use crate::records::{ListingRecord, PrivateResourceRow, ResourceRow};
use crate::{Shared, Store, StoreError};

/// What an origin listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredListing {
    /// The resource's name in reports, with its commit.
    pub id: String,
    /// Whether it names a version that never changes.
    pub pinned: bool,
    /// Whether it may be listed without credentials.
    pub scope: Scope,
    /// When the origin listed it.
    pub listed: SystemTime,
    /// The files.
    pub manifest: Manifest,
}

/// A resource that was prepared here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownResource {
    /// Its name in reports, with its commit.
    pub id: String,
    /// Its name as jobs write it.
    pub address: String,
    /// Bytes of all its files.
    pub bytes: u64,
    /// How many files it has.
    pub files: u64,
    /// Whether anyone may list and read it.
    pub public: bool,
    /// When it was last prepared.
    pub used: SystemTime,
}

impl Store {
    /// Keeps what an origin listed for `address`, over what it listed before.
    ///
    /// # Errors
    /// If it cannot be written, or is larger than a stored listing may be.
    pub fn put_listing(&self, address: &str, listing: &StoredListing) -> Result<(), StoreError> {
        let shared = &*self.shared;
        let name = file_name(address);
        let fail = |error: CodecError| StoreError::Damaged { path: shared.home.path_of(&name), why: error.to_string() };
        let bytes = encode(address, listing).map_err(fail)?;
        let temp = shared.write_temp(&bytes)?;
        let renamed = shared.disk.rename((&shared.home, &temp), (&shared.home, &name));
        let _ = shared.groups.current();
        renamed.map_err(|error| shared.home.fault(&name, error)).inspect_err(|_| shared.drop_temp(&temp))
    }

    /// What an origin last listed for `address`, if that is known.
    ///
    /// # Errors
    /// If it cannot be read. One that is damaged, or of another version of this program, is removed instead.
    pub fn listing(&self, address: &str) -> Result<Option<StoredListing>, StoreError> {
        let shared = &*self.shared;
        let name = file_name(address);
        let bytes = match std::fs::read(shared.home.path_of(&name)) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(shared.home.fault(&name, error)),
        };
        let listing = decode(address, &bytes);
        if listing.is_none() {
            shared.remove_file(&name)?;
        }
        Ok(listing)
    }

    /// Notes that a resource was prepared, over what was noted of it before.
    ///
    /// # Errors
    /// If the index cannot be written.
    pub fn record_resource(&self, resource: &KnownResource) -> Result<(), StoreError> {
        let KnownResource { id, address, bytes, files, public, used } = resource;
        let (public, used) = (*public, seconds(*used));
        let row = ResourceRow { id: id.clone(), address: address.clone(), bytes: *bytes, files: *files, public, used };
        self.shared.index.put(Row::Resource(id), &row)
    }

    /// The resources that were prepared here, ordered by id.
    ///
    /// # Errors
    /// If the index cannot be read.
    pub fn resources(&self) -> Result<Vec<KnownResource>, StoreError> {
        let rows = self.shared.index.resources::<ResourceRow, PrivateResourceRow>()?;
        let resource = |row: ResourceRow| {
            let ResourceRow { id, address, bytes, files, public, used } = row;
            KnownResource { id, address, bytes, files, public, used: time(used) }
        };
        let mut resources: Vec<_> = rows.into_iter().map(resource).collect();
        resources.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(resources)
    }
}

impl Shared {
    /// The id and the files of the listing in a file, if it is whole and `is_wanted` says so of its id.
    pub(crate) fn manifest_of(&self, file: &str, is_wanted: &dyn Fn(&str) -> bool) -> Result<Option<(String, Manifest)>, StoreError> {
        let name = format!("listings/{file}");
        let bytes = match std::fs::read(self.home.path_of(&name)) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(self.home.fault(&name, error)),
        };
        let wanted = open(&bytes).filter(|(header, _)| is_wanted(&header.id));
        Ok(wanted.and_then(|(header, manifest)| Some((header.id, manifest_in(manifest)?))))
    }

    /// Removes listings that were last written before `limit`, and returns how many.
    pub(crate) fn drop_listings_before(&self, limit: SystemTime) -> Result<u64, StoreError> {
        let mut dropped = 0;
        for file in self.home.names("listings")? {
            let name = format!("listings/{file}");
            let written = self.home.status(&name)?.map(|status| status.fingerprint.modified_s());
            if written.is_some_and(|written| written < seconds(limit)) {
                self.remove_file(&name)?;
                dropped += 1;
            }
        }
        Ok(dropped)
    }
}

fn file_name(address: &str) -> String {
    format!("listings/{}", ContentId::of(address.as_bytes()))
}

/// The file of a listing: the header's length, the header, the manifest, and the hash of all that.
pub(crate) fn encode(address: &str, listing: &StoredListing) -> Result<Vec<u8>, CodecError> {
    let header = ListingRecord {
        address: address.into(),
        id: listing.id.clone(),
        pinned: listing.pinned,
        private: listing.scope == Scope::Private,
        listed: seconds(listing.listed),
    };
    let header = codec::encode(&header)?;
    let manifest = codec::encode(&ManifestRecord::from(&listing.manifest))?;
    let mut bytes = Vec::with_capacity(header.len() + manifest.len() + 40);
    bytes.extend((header.len() as u64).to_le_bytes());
    bytes.extend(header);
    bytes.extend(manifest);
    let hash = ContentId::of(&bytes);
    bytes.extend(hash.0);
    Ok(bytes)
}

pub(crate) fn decode(address: &str, bytes: &[u8]) -> Option<StoredListing> {
    let (ListingRecord { address: own, id, pinned, private, listed }, manifest) = open(bytes)?;
    let manifest = manifest_in(manifest)?;
    let scope = if private { Scope::Private } else { Scope::Public };
    (own == address).then_some(StoredListing { id, pinned, scope, listed: time(listed), manifest })
}

/// The header of a listing's file and the bytes of the manifest, if the file is whole.
fn open(bytes: &[u8]) -> Option<(ListingRecord, &[u8])> {
    let (bytes, hash) = bytes.split_last_chunk::<32>()?;
    if ContentId::of(bytes).0 != *hash {
        return None;
    }
    let (length, rest) = bytes.split_first_chunk::<8>()?;
    let (header, manifest) = rest.split_at_checked(usize::try_from(u64::from_le_bytes(*length)).ok()?)?;
    Some((codec::decode(header).ok()?, manifest))
}

fn manifest_in(bytes: &[u8]) -> Option<Manifest> {
    Manifest::try_from(codec::decode::<ManifestRecord>(bytes).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{file, sha256, store_in};

    #[test]
    fn a_listing_of_a_hundred_thousand_files_comes_back_and_a_torn_one_does_not() {
        let (_folder, store) = store_in();
        let files = (0..100_000).map(|n| file(&format!("shard/{n:06}.bin"), n, vec![sha256(&[1])])).collect();
        let (listed, manifest) = (time(77), Manifest::new(files).unwrap());
        let listing = StoredListing { id: "hf:m@c1".into(), pinned: true, scope: Scope::Private, listed, manifest };
        store.put_listing("hf:m@main", &listing).unwrap();
        assert_eq!(store.listing("hf:m@main").unwrap().as_ref(), Some(&listing));
        assert_eq!(store.listing("hf:n@main").unwrap(), None);
        let path = store.home().join(file_name("hf:m@main"));
        let bytes = std::fs::read(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, &bytes[..bytes.len() - 40]).unwrap();
        assert_eq!(store.listing("hf:m@main").unwrap(), None);
        assert!(!path.exists());
    }

    #[test]
    fn resources_are_listed_once_each_with_what_was_noted_last() {
        let (_folder, store) = store_in();
        let resource =
            |id: &str, bytes| KnownResource { id: id.into(), address: id.into(), bytes, files: 1, public: id == "a", used: time(7) };
        for known in [resource("b", 1), resource("a", 2), resource("b", 3)] {
            store.record_resource(&known).unwrap();
        }
        assert_eq!(store.resources().unwrap(), [resource("a", 2), resource("b", 3)]);
    }
    #[test]
    fn a_resource_that_an_earlier_version_noted_is_not_public() {
        let (_folder, store) = store_in();
        let before = PrivateResourceRow { id: "a".into(), address: "b".into(), bytes: 1, files: 2, used: 3 };
        store.shared.index.put(Row::Resource("a"), &before).unwrap();
        let known = KnownResource { id: "a".into(), address: "b".into(), bytes: 1, files: 2, public: false, used: time(3) };
        assert_eq!(store.resources().unwrap(), [known]);
    }
}
