//! What the metadata of an object says of its bytes. Pure.
//!
//! | the origin gives | it is a digest of |
//! |---|---|
//! | ETag of 32 hex digits, no encryption with keys of KMS or the customer | the whole, by MD5 |
//! | ETag `hex-N` | the MD5s of N parts |
//! | checksum without `-N`, said to be of the full object or of an object in one piece | the whole |
//! | checksum with `-N`, or said to be composite | the checksums of N parts |
//! | the uploader's note of an MD5 | the whole, by MD5 |
//! | any other ETag | nothing |
//!
//! Source: the S3 documentation of ETags and of object integrity; AWS adds CRC64NVME always for the full object.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use larder_content::{Algorithm, OriginDigest, PartSizes};

use super::transport::Facts;

/// The most parts an object can have.
const MAX_PARTS: u32 = 10_000;
/// The size from which a listed MD5 is not enough: a HEAD may tell a checksum that names the content everywhere.
pub(super) const WORTH_A_HEAD: u64 = 8 * 1024 * 1024;

/// What the form of an ETag says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Etag {
    /// It looks like the MD5 of the whole.
    Md5([u8; 16]),
    /// It looks like the MD5 of the MD5s of so many parts.
    Parts([u8; 16], u32),
    /// It tells versions apart, or not even that.
    Opaque,
}

impl Etag {
    /// Reads an ETag as sent or as [`bare`] leaves it.
    pub(super) fn read(etag: &str) -> Self {
        let md5 = |text: &str| {
            let mut md5 = [0; 16];
            hex::decode_to_slice(text, &mut md5).ok().map(|()| md5)
        };
        let etag = bare(etag);
        let Some((digits, count)) = etag.split_once('-') else {
            return md5(&etag).map_or(Self::Opaque, Self::Md5);
        };
        match (md5(digits), count.parse()) {
            (Some(md5), Ok(count @ 1..=MAX_PARTS)) => Self::Parts(md5, count),
            _ => Self::Opaque,
        }
    }
}

/// An ETag without its quotes; a weak one keeps its `W/`.
pub(super) fn bare(etag: &str) -> String {
    let etag = etag.trim();
    let (weak, tag) = etag.strip_prefix("W/").map_or(("", etag), |tag| ("W/", tag));
    let tag = tag.strip_prefix('"').and_then(|tag| tag.strip_suffix('"')).unwrap_or(tag);
    format!("{weak}{tag}")
}

/// Whether two ETags, as sent or bare, name one version.
pub(super) fn same_version(a: &str, b: &str) -> bool {
    tag(a) == tag(b)
}

/// What is left of an ETag when nothing more of its quotes and its `W/` can be taken away, however often a server put them there.
fn tag(etag: &str) -> String {
    let (mut tag, mut less) = (String::new(), bare(etag));
    while less != tag {
        tag = less;
        less = bare(tag.trim_start_matches("W/"));
    }
    tag
}

/// The digests of an object, given how it was cut where its ETag says that it was.
pub(super) fn digests(facts: &Facts, sizes: Option<&PartSizes>) -> Vec<OriginDigest> {
    let etag = facts.etag.as_deref().map_or(Etag::Opaque, Etag::read);
    let mut digests: Vec<OriginDigest> =
        facts.checksums.iter().filter_map(|(algorithm, value)| checksum(facts, &etag, *algorithm, value, sizes)).collect();
    match &etag {
        _ if facts.sealed => {}
        Etag::Md5(md5) => digests.extend(OriginDigest::whole(Algorithm::Md5, md5)),
        Etag::Parts(md5, count) => {
            let sizes = sizes.cloned().unwrap_or(PartSizes::Count(*count));
            digests.extend(OriginDigest::parts(Algorithm::Md5, md5, sizes));
        }
        Etag::Opaque => {}
    }
    let has_md5 = matches!(etag, Etag::Md5(_)) && !facts.sealed;
    digests.extend(facts.noted_md5.as_ref().filter(|_| !has_md5).and_then(|md5| OriginDigest::whole(Algorithm::Md5, md5).ok()));
    digests
}

fn checksum(facts: &Facts, etag: &Etag, algorithm: Algorithm, value: &str, sizes: Option<&PartSizes>) -> Option<OriginDigest> {
    let (value, named_count) = match value.split_once('-') {
        Some((value, count)) => (value, Some(count.parse::<u32>().ok()?)),
        None => (value, None),
    };
    let value = STANDARD.decode(value).ok()?;
    let cut = match etag {
        Etag::Parts(_, count) => Some(*count),
        Etag::Md5(_) | Etag::Opaque => None,
    };
    let composite = match (named_count, facts.composite) {
        (Some(_), _) | (None, Some(true)) => true,
        (None, Some(false)) => false,
        // Without a word on it, only an object in one piece has a checksum that is surely of the whole.
        (None, None) if cut.is_none() || algorithm == Algorithm::Crc64Nvme => false,
        (None, None) => return None,
    };
    if !composite {
        return OriginDigest::whole(algorithm, &value).ok();
    }
    let count = named_count.or(cut).filter(|count| (1..=MAX_PARTS).contains(count))?;
    // Part sizes were asked for the ETag's parts.
    let sizes = sizes.filter(|_| cut == Some(count)).cloned().unwrap_or(PartSizes::Count(count));
    OriginDigest::parts(algorithm, &value, sizes).ok()
}

/// How an object of `size` bytes in `count` parts was cut, given its first part; `None` if the parts are not even.
pub(super) fn even_parts(size: u64, count: u32, first: &Facts) -> Option<PartSizes> {
    let even = first.size > 0 && size.div_ceil(first.size) == u64::from(count);
    even.then_some(PartSizes::Uniform { bytes: first.size })
}

/// Whether the answer to a HEAD of a part is of that part: servers that know no parts answer for the whole.
pub(super) fn is_part(part: &Facts, count: u32) -> bool {
    part.parts == Some(count)
}

/// The MD5 of the whole that rclone and s3cmd note beside what they upload.
pub(super) fn noted_md5(md5chksum: Option<&str>, s3cmd_attrs: Option<&str>) -> Option<Vec<u8>> {
    let rclone = md5chksum.and_then(|text| STANDARD.decode(text.trim()).ok());
    let s3cmd = || hex::decode(s3cmd_attrs?.split('/').find_map(|field| field.strip_prefix("md5:"))?).ok();
    rclone.or_else(s3cmd).filter(|md5| md5.len() == Algorithm::Md5.bytes())
}

#[cfg(test)]
#[path = "digest_tests.rs"]
mod tests;
