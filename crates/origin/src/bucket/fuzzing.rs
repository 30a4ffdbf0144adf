//! What must hold of whatever a bucket answers, and of any address of one.

use larder_content::{Algorithm, BucketCredentials, BucketResource, OriginDigest, PartSizes, RelativePath, Secret};
use url::Url;

use super::address::Address;
use super::digest::{Etag, bare, digests, even_parts, noted_md5, same_version};
use super::transport::Facts;
use super::{find, xml};

/// A listing or an error as XML: what is listed lies below its folder, and no more of an error than two words is taken.
pub(crate) fn xml(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let (code, region) = xml::error(&text);
    assert!([code, region].into_iter().flatten().all(|word| (1..=64).contains(&word.len()) && !word.contains(char::is_whitespace)));
    let Some(page) = xml::listing(&text) else { return };
    assert!(!(page.cut && page.next.is_some()));
    let resource = BucketResource { url: "s3://bucket/a".into(), bucket: None, files: Vec::new(), credentials: None };
    let Ok(address) = Address::parse(&resource) else { panic!("it is an address") };
    for object in page.objects {
        let key = object.key.clone();
        if let Ok(Some(found)) = find::below(&address, object) {
            assert!(found.key == key && (address.key(&found.path) == key || found.path.as_str() == key), "{key:?}");
        }
    }
}

/// A URL, and in lines of their own a bucket, a region, a key's id, a key and files, each of which may be missing.
pub(crate) fn address(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let mut lines = text.lines().map(str::to_owned);
    let (url, bucket, region) = (lines.next().unwrap_or_default(), lines.next(), lines.next());
    let keys = lines.next().zip(lines.next()).map(|(id, key)| (Secret::new(id), Secret::new(key)));
    let files = lines.filter_map(|file| RelativePath::new(file).ok()).collect();
    let credentials = (region.is_some() || keys.is_some()).then_some(BucketCredentials { region, keys });
    let resource = BucketResource { url, bucket, files, credentials };
    let Ok(address) = Address::parse(&resource) else { return };
    for address in address.spaced().iter().chain([&address]) {
        let (shown, folder) = (address.to_string(), address.folder());
        assert!(!shown.contains(char::is_control) && (folder.is_empty() || folder.ends_with('/')));
        assert!(address.exact().is_none_or(|key| folder == format!("{key}/")));
        assert!(
            address
                .endpoint()
                .is_none_or(|endpoint| Url::parse(endpoint).is_ok_and(|url| url.username().is_empty() && url.query().is_none()))
        );
        assert_eq!(address.locator("key", "version").path, "key");
        assert!(address.name("a b").starts_with(shown.split_once("://").map_or("", |(scheme, _)| scheme)));
        assert!(resource.files.iter().all(|file| address.key(file).ends_with(file.as_str())));
    }
}

/// What a HEAD tells, one a line: size, ETag, notes of an MD5, parts, and checksums.
pub(crate) fn facts(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let mut lines = text.lines();
    let mut next = || lines.next().unwrap_or_default();
    let (size, etag, rclone, s3cmd) = (next().parse().unwrap_or(0), next(), next(), next());
    let (parts, composite) = (next().parse().ok(), next().parse().ok());
    let noted = noted_md5(Some(rclone), Some(s3cmd));
    assert!(noted.as_ref().is_none_or(|md5| md5.len() == 16));
    let kinds = [Algorithm::Sha256, Algorithm::Sha1, Algorithm::Crc32, Algorithm::Crc32C, Algorithm::Crc64Nvme];
    let checksums = kinds.into_iter().zip(lines.map(str::to_owned)).collect();
    let facts = Facts { size, etag: Some(etag.to_owned()), sealed: false, checksums, composite, noted_md5: noted, parts };
    let sizes = match Etag::read(etag) {
        Etag::Parts(_, count) => even_parts(size, count, &Facts { size: size / u64::from(count), ..Facts::default() }),
        Etag::Md5(_) | Etag::Opaque => None,
    };
    assert!(same_version(etag, &bare(etag)));
    for digest in digests(&facts, sizes.as_ref()).into_iter().chain(digests(&Facts { sealed: true, ..facts }, None)) {
        match digest {
            OriginDigest::Whole { algorithm, value } => assert_eq!(value.len(), algorithm.bytes()),
            OriginDigest::Parts { algorithm, value, sizes } => {
                assert_eq!(value.len(), algorithm.bytes());
                assert!(matches!(sizes, PartSizes::Count(1..=10_000)) || matches!(sizes, PartSizes::Uniform { bytes: 1.. }));
            }
            OriginDigest::GitSha1(_) | OriginDigest::Xet(_) => panic!("no bucket tells such a digest"),
        }
    }
}
