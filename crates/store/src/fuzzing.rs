//! The readers of what the store wrote, which a disk, a power cut or anyone else may have changed, for a fuzzer.

use larder_content::codec::{self, Record};
use larder_content::fuzzing::Target;
use larder_content::{ChunkHash, ChunkHashes, ChunkLayout, ChunkTree, ContentId, PieceRow};

use crate::blobs::BlobName;
use crate::hashes::{self, list_bytes};
use crate::lease::{lease_of, record_of};
use crate::listing;
use crate::pieces;
use crate::records::{
    AccountRow, BlobRow, ChunkRow, CopyRow, KeyRow, LeaseRecord, ListingRecord, OwnedKeyRow, PartialRow, PeersRow, PrivateResourceRow,
    ResourceRow, ServedRow, StateRow,
};

/// This crate's readers.
pub const TARGETS: &[Target] = &[
    Target::new("listing", listing).of_records(3),
    Target::new("hashes", hashes),
    Target::new("stored_pieces", stored_pieces),
    Target::new("lease", lease).of_records(2),
    Target::new("rows", rows).of_records(1),
    Target::new("names", names),
];

const ADDRESS: &str = "hf:m@main";

/// A stored listing without the hash at its end, which is right here: what is read is kept again as it is, and is of no other address.
fn listing(bytes: &[u8]) {
    let whole = [bytes, &ContentId::of(bytes).0].concat();
    assert_eq!(listing::decode("another", &whole), None);
    let Some(listing) = listing::decode(ADDRESS, &whole) else { return };
    let again = listing::encode(ADDRESS, &listing).ok().and_then(|bytes| listing::decode(ADDRESS, &bytes));
    assert_eq!(again, Some(listing));
}

/// The size of a file of at most 256 chunks in four bytes, and its list of chunk hashes: it is taken for the one content that it is of.
fn hashes(bytes: &[u8]) {
    let Some((size, list)) = bytes.split_first_chunk::<4>() else { return };
    let layout = ChunkLayout::new((u32::from_le_bytes(*size) % (64 << 20)).into());
    let mut tree = ChunkTree::new(layout);
    let all = list.get(1..).unwrap_or_default().as_chunks::<32>().0;
    (0..).zip(all).for_each(|(index, hash)| tree.insert(index, ChunkHash(*hash)));
    let Some(right) = ChunkHashes::of_tree(&tree) else { return };
    let (read, mut another) = (hashes::decode(layout, right.content(), list), right.content());
    another.0[0] ^= 1;
    assert_eq!(hashes::decode(layout, another, list), None);
    let fits = list.first() == Some(&1) && list.len() as u64 == list_bytes(layout);
    assert_eq!(read, Some(right).filter(|_| fits));
}

/// A stored list of pieces without the hash at its end, which is right here: what is whole is kept again as it is.
fn stored_pieces(bytes: &[u8]) {
    let whole = [bytes, &ContentId::of(bytes).0].concat();
    let is_whole = |bytes: &[u8]| pieces::is_whole(std::io::Cursor::new(bytes), bytes.len() as u64).is_ok_and(|whole| whole);
    assert!(whole.split_first().is_none_or(|(_, rest)| !is_whole(rest)));
    if is_whole(&whole) {
        assert_eq!(bytes.get(1..).and_then(PieceRow::decode).map(|rows| pieces::encode(&rows)), Some(whole));
    }
}

/// The file of a lease: what is read is kept again as it is.
fn lease(bytes: &[u8]) {
    let read = |bytes: &[u8]| codec::decode::<LeaseRecord>(bytes).ok().and_then(|record| lease_of("1", record));
    let Some(lease) = read(bytes) else { return };
    let again = codec::encode(&record_of(&lease)).ok().and_then(|bytes| read(&bytes));
    assert_eq!(again, Some(lease));
}

/// A byte for the kind of row, and the row.
fn rows(bytes: &[u8]) {
    let kinds = [
        row::<StateRow>,
        row::<BlobRow>,
        row::<KeyRow>,
        row::<OwnedKeyRow>,
        row::<PartialRow>,
        row::<ChunkRow>,
        row::<CopyRow>,
        row::<ResourceRow>,
        row::<PrivateResourceRow>,
        row::<AccountRow>,
        row::<ServedRow>,
        row::<PeersRow>,
        row::<ListingRecord>,
    ];
    if let Some((kind, row)) = bytes.split_first() {
        kinds[usize::from(*kind) % kinds.len()](row);
    }
}

/// A row is written as it was read.
fn row<R: Record>(bytes: &[u8]) {
    let Ok(record) = codec::decode::<R>(bytes) else { return };
    let bytes = codec::encode(&record);
    assert!(bytes.is_ok());
    assert_eq!(bytes.clone().and_then(|bytes| codec::decode::<R>(&bytes)).and_then(|record| codec::encode(&record)), bytes);
}

/// Names of blobs' files, one a line: what is a name is the name of that file.
fn names(bytes: &[u8]) {
    for file in String::from_utf8_lossy(bytes).lines() {
        if let Some(name) = BlobName::parse(file) {
            assert_eq!(name.file().rsplit('/').next(), Some(file));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::PathBuf;

    use super::*;
    use crate::folder::Fingerprint;
    use crate::lease::{Lease, Tree, time};
    use crate::listing::StoredListing;
    use crate::testing::{file, md5, sha256};
    use larder_content::{FileKey, Manifest, ProofKind, RelativePath, Scope};

    const CORPUS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz");

    #[test]
    fn every_seed_of_the_corpus_is_read() {
        larder_content::fuzzing::replay(TARGETS, CORPUS);
    }

    #[test]
    fn a_lease_of_a_time_that_no_system_knows_is_none() {
        let record = |expires| LeaseRecord { job: "j".into(), created: 0, expires, blobs: BTreeSet::new(), trees: Vec::new() };
        assert!(lease_of("1", record(u64::MAX)).is_none() && lease_of("1", record(1 << 33)).is_some());
        assert_eq!(time(u64::MAX), time(0));
    }

    fn keep(place: &str, bytes: &[u8]) {
        let path = std::path::Path::new(CORPUS).join(place);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }

    #[test]
    #[ignore = "writes the binary seeds anew, for another version of what is stored"]
    fn the_seeds_are_written() {
        let (key, content) = (FileKey([7; 32]), ContentId([9; 32]));
        let digests = vec![sha256(b"x"), md5(b"x")];
        let manifest = Manifest::new(vec![file("a", 1, digests.clone()), file("b/c", 300_000, digests)]).unwrap();
        let stored = StoredListing { id: "hf:m@c1".into(), pinned: true, scope: Scope::Private, listed: time(77), manifest };
        let bytes = listing::encode(ADDRESS, &stored).unwrap();
        keep("listing/two", &bytes[..bytes.len() - 32]);
        for (name, size) in [("none", 0u32), ("one", 5), ("three", 600_000)] {
            let chunks = ChunkLayout::new(size.into()).count();
            let list: Vec<u8> = (0..chunks).flat_map(|chunk| [chunk as u8; 32]).collect();
            keep(&format!("hashes/{name}"), &[&size.to_le_bytes()[..], &[1], &list].concat());
        }
        let rows = pieces::encode(&[PieceRow { bytes: 9, hash: [7; 32] }; 3]);
        keep("stored_pieces/three", &rows[..rows.len() - 32]);
        let names = [BlobName::Public(content), BlobName::Private { key, content }];
        let path = PathBuf::from("/srv/job7");
        let files = vec![RelativePath::new("a").unwrap(), RelativePath::new("b/c").unwrap()];
        let tree = Tree { root: path.clone(), path: path.join("t"), files, writable: true };
        let blobs = BTreeSet::from(names);
        let lease = Lease { id: "1".into(), job: "j".into(), created: time(7), expires: time(9), blobs, trees: vec![tree] };
        keep("lease/two", &codec::encode(&record_of(&lease)).unwrap());
        let lines: Vec<String> = names.iter().map(|name| name.file()).collect();
        keep("names/both", lines.iter().filter_map(|line| line.rsplit('/').next()).collect::<Vec<_>>().join("\n").as_bytes());
        let fingerprint = Fingerprint { inode: 1 << 33, size: 9, modified_ns: 1 << 60, changed_ns: -5 };
        let record = |name: &str, kind: u8, bytes: Vec<u8>| keep(&format!("rows/{name}"), &[&[kind], &bytes[..]].concat());
        let encoded = |bytes: Result<Vec<u8>, codec::CodecError>| bytes.unwrap();
        let state = StateRow { first_group: 3, synced: 2, boot: "b".into(), clean: true };
        record("state", 0, encoded(codec::encode(&state)));
        record("blob", 1, encoded(codec::encode(&BlobRow { fingerprint, used: 1 << 31, group: 7, keyless: false })));
        let bound = KeyRow { name: names[1].into(), proof: ProofKind::Xet.into() };
        record("key", 2, encoded(codec::encode(&bound)));
        record("copy", 6, encoded(codec::encode(&CopyRow { content: content.0, fingerprint, group: u64::MAX })));
        let resource = ResourceRow { id: "hf:m@c1".into(), address: ADDRESS.into(), bytes: 9, files: 2, public: true, used: 7 };
        record("resource", 7, encoded(codec::encode(&resource)));
        record("peers", 11, encoded(codec::encode(&PeersRow { market: "m".into(), book: vec![1, 0] })));
    }
}
