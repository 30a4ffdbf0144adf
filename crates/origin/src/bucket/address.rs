//! Maps what a job definition writes to endpoint, bucket and key.
//!
//! Pure. Source: the rules and the table of cases that the tests hold; where a text can be read in two ways, the rule
//! that was settled on is named beside it.

use std::fmt;

use larder_content::{BucketCredentials, BucketResource, Locator, RelativePath, Secret};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use url::Url;

use super::host::{is_region, recognise};
use crate::OriginError;

/// The market's own bucket, which is public at [`PUBLIC_HOST`].
const PUBLIC_BUCKET: &str = "nos-ai-models-qllsn32u";
const PUBLIC_HOST: &str = "models.nosana.io";
/// The region where none is given and the host names none.
pub(super) const DEFAULT_REGION: &str = "us-east-1";

/// What a key is not spelled with in a URL.
const KEY: &AsciiSet = &NON_ALPHANUMERIC.remove(b'/').remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// As [`KEY`], for paths whose `+` may mean itself or a space.
const KEY_WITH_PLUS: &AsciiSet = &KEY.remove(b'+');

/// Parameters that make a URL a signed one: AWS, CloudFront and old S3, Google, Azure.
const SIGNATURES: [&str; 4] = ["x-amz-signature", "signature", "x-goog-signature", "sig"];

/// Where a resource lives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Address {
    pub(super) place: Place,
    /// The key or prefix as written, without the slash before it.
    path: String,
    /// The path with its `+` read as spaces, where it has any.
    spaced: Option<String>,
}

/// How a bucket is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// A bucket of AWS; without a region it is to be found out.
    Aws { bucket: String, region: Option<String> },
    /// `endpoint/bucket/key`, by the S3 protocol.
    Path { endpoint: String, bucket: String, region: String },
    /// `bucket.host/key`, by the S3 protocol and with keys: `endpoint` is without the bucket.
    Virtual { endpoint: String, bucket: String, region: String },
    /// `endpoint/key`, by plain https: the host is the bucket, or no bucket at all.
    Host { endpoint: String },
    /// One object at a signed URL. The query is the credential.
    Signed { endpoint: String, query: Secret },
}

impl Address {
    /// Maps `resource`.
    ///
    /// # Errors
    /// [`OriginError::Refused`] names the field that is wrong, and how it is written right. It shows none of the text,
    /// which may have come out of a literal and hold a secret.
    pub(super) fn parse(resource: &BucketResource) -> Result<Self, OriginError> {
        parse(resource.url.trim(), resource).map_err(|Wrong { field, why }| OriginError::Refused { what: field.into(), why })
    }

    /// Scheme and host that are asked, where the text says; those of AWS follow from bucket and region.
    pub(super) fn endpoint(&self) -> Option<&str> {
        match &self.place {
            Place::Aws { .. } => None,
            Place::Path { endpoint, .. } | Place::Virtual { endpoint, .. } | Place::Host { endpoint } | Place::Signed { endpoint, .. } => {
                Some(endpoint)
            }
        }
    }

    /// The prefix that all keys of the folder begin with: empty or with a slash at its end.
    pub(super) fn folder(&self) -> String {
        if self.path.is_empty() || self.path.ends_with('/') { self.path.clone() } else { format!("{}/", self.path) }
    }

    /// The key that the path is if it is an object.
    pub(super) fn exact(&self) -> Option<&str> {
        Some(self.path.as_str()).filter(|path| !path.is_empty() && !path.ends_with('/'))
    }

    /// The key of `file` in the folder.
    pub(super) fn key(&self, file: &RelativePath) -> String {
        format!("{}{file}", self.folder())
    }

    /// The same with each `+` of the path read as a space, where it has any.
    pub(super) fn spaced(&self) -> Option<Self> {
        let path = self.spaced.clone()?;
        Some(Self { place: self.place.clone(), path, spaced: None })
    }

    /// What an object of this bucket is called in reports.
    pub(super) fn name(&self, key: &str) -> String {
        match &self.place {
            Place::Aws { bucket, .. } => format!("s3://{bucket}/{key}"),
            Place::Path { .. } | Place::Virtual { .. } | Place::Host { .. } | Place::Signed { .. } => {
                format!("{}/{}", self.root(), encoded(key))
            }
        }
    }

    /// Where exactly an object of this bucket lives.
    pub(super) fn locator(&self, key: &str, version: &str) -> Locator {
        let (endpoint, container) = match &self.place {
            Place::Aws { bucket, .. } => ("https://s3.amazonaws.com".to_owned(), bucket.clone()),
            Place::Path { endpoint, bucket, .. } => (endpoint.clone(), bucket.clone()),
            Place::Virtual { .. } | Place::Host { .. } | Place::Signed { .. } => (self.root(), String::new()),
        };
        Locator { endpoint, container, path: key.to_owned(), version: version.to_owned() }
    }

    /// Whether reading with `credentials` is another thing than reading without.
    pub(super) fn uses(&self, credentials: Option<&BucketCredentials>) -> bool {
        match &self.place {
            Place::Aws { .. } | Place::Path { .. } | Place::Virtual { .. } => keys(credentials).is_some(),
            Place::Host { .. } => false,
            Place::Signed { .. } => true,
        }
    }

    /// The URL that keys are appended to.
    fn root(&self) -> String {
        match &self.place {
            Place::Aws { bucket, .. } => format!("s3://{bucket}"),
            Place::Path { endpoint, bucket, .. } => format!("{endpoint}/{bucket}"),
            Place::Virtual { endpoint, bucket, .. } => endpoint.replacen("://", &format!("://{bucket}."), 1),
            Place::Host { endpoint } | Place::Signed { endpoint, .. } => endpoint.clone(),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let set = if self.spaced.is_some() { KEY_WITH_PLUS } else { KEY };
        match &self.place {
            Place::Aws { bucket, .. } if self.path.is_empty() => write!(f, "s3://{bucket}"),
            Place::Aws { bucket, .. } => write!(f, "s3://{bucket}/{}", self.path),
            Place::Path { .. } | Place::Virtual { .. } | Place::Host { .. } | Place::Signed { .. } => {
                write!(f, "{}/{}", self.root(), utf8_percent_encode(&self.path, set))
            }
        }
    }
}

/// A key as it is spelled in a URL.
pub(super) fn encoded(key: &str) -> String {
    utf8_percent_encode(key, KEY).to_string()
}

/// The keys, where there are any: empty ones mean none.
pub(super) fn keys(credentials: Option<&BucketCredentials>) -> Option<&(Secret, Secret)> {
    credentials?.keys.as_ref().filter(|(id, secret)| !id.is_empty() && !secret.is_empty())
}

/// What is wrong with a resource as it is written.
struct Wrong {
    field: &'static str,
    why: String,
}

impl<T: Into<String>> From<T> for Wrong {
    /// It is the URL, unless something else is said.
    fn from(why: T) -> Self {
        Self { field: "url", why: why.into() }
    }
}

fn parse(url: &str, resource: &BucketResource) -> Result<Address, Wrong> {
    if url.chars().any(char::is_control) {
        return Err("it holds a control character".into());
    }
    let (scheme, rest) = url.split_once("://").ok_or("it is written 's3://bucket/prefix' or 'https://host/prefix'")?;
    match scheme.to_ascii_lowercase().as_str() {
        "s3" => from_s3(rest, resource),
        scheme @ ("https" | "http") => from_web(scheme, rest, resource),
        _ => Err("its scheme is not known: use 's3' or 'https'".into()),
    }
}

/// `s3://bucket/key`: the key is taken literally, as the AWS tools do.
fn from_s3(rest: &str, resource: &BucketResource) -> Result<Address, Wrong> {
    let (bucket, path) = rest.split_once('/').unwrap_or((rest, ""));
    check_path(path)?;
    let place = if bucket == PUBLIC_BUCKET {
        Place::Host { endpoint: format!("https://{PUBLIC_HOST}") }
    } else {
        check_bucket("url", bucket)?;
        agree(bucket, resource)?;
        amazon(bucket.into(), given_region(resource))?
    };
    Ok(Address { place, path: path.into(), spaced: None })
}

fn from_web(scheme: &str, rest: &str, resource: &BucketResource) -> Result<Address, Wrong> {
    let at = rest.find(['/', '?', '#', '\\']).unwrap_or(rest.len());
    let (authority, tail) = rest.split_at(at);
    if authority.contains('@') {
        return Err("it holds a user name or password: give keys in 'IAM'".into());
    }
    if tail.contains('#') || tail.contains('\\') {
        return Err("it holds '#' or '\\': write them as %23 and %5C".into());
    }
    let url = Url::parse(&format!("{scheme}://{authority}/")).map_err(|error| format!("its host cannot be read: {error}"))?;
    if scheme == "http" && !crate::http::is_loopback(&url) {
        return Err("it is plain http, which anyone on the way can change: use https".into());
    }
    let (raw, query) = tail.split_once('?').unwrap_or((tail, ""));
    let raw = raw.strip_prefix('/').unwrap_or(raw);
    let path = decoded(raw)?;
    if !query.is_empty() {
        return signed(&url, path, query, resource);
    }
    let (place, path) = place(&url, &path, resource)?;
    let spaced = if raw.contains('+') { Some(self::place(&url, &decoded(&raw.replace('+', "%20"))?, resource)?.1) } else { None };
    Ok(Address { place, path, spaced })
}

/// One object, at the very URL. Its own signature is the credential, so `IAM` has no say.
fn signed(url: &Url, path: String, query: &str, resource: &BucketResource) -> Result<Address, Wrong> {
    let mut parameters = query.split('&').map(|pair| pair.split('=').next().unwrap_or(pair).to_ascii_lowercase());
    if !parameters.any(|name| SIGNATURES.contains(&name.as_str())) {
        return Err("it has a query that is no signature: leave out what follows the '?', or write '?' as %3F".into());
    }
    if path.is_empty() || path.ends_with('/') {
        return Err("it is signed, but names no object".into());
    }
    if !resource.files.is_empty() {
        let why = "a signed URL is one object: leave 'files' out, or give the prefix without a signature".into();
        return Err(Wrong { field: "files", why });
    }
    let place = Place::Signed { endpoint: url.origin().ascii_serialization(), query: Secret::new(query) };
    Ok(Address { place, path, spaced: None })
}

/// Finds the bucket in host and path; gives also what the path is inside the bucket.
fn place(url: &Url, path: &str, resource: &BucketResource) -> Result<(Place, String), Wrong> {
    let endpoint = url.origin().ascii_serialization();
    let host = url.host_str().unwrap_or_default();
    let (first, rest) = path.split_once('/').unwrap_or((path, ""));
    let signs = keys(resource.credentials.as_ref()).is_some();
    let region = || given_region(resource).unwrap_or_else(|| DEFAULT_REGION.into());

    if let Some(found) = recognise(host).filter(|_| url.port().is_none()) {
        let (field, bucket, path) = match (found.bucket, named_bucket(resource)) {
            (Some(bucket), _) => ("url", bucket, path),
            (None, Some(bucket)) if path.is_empty() => ("bucket", bucket.to_owned(), path),
            (None, _) => ("url", first.to_owned(), rest),
        };
        check_bucket(field, &bucket)?;
        agree(&bucket, resource)?;
        let place = match found.endpoint {
            // The host's region goes before the one given: it is where the request goes.
            None => amazon(bucket, found.region.or_else(|| given_region(resource)))?,
            Some(endpoint) => Place::Path { endpoint, bucket, region: found.region.unwrap_or_else(region) },
        };
        return Ok((place, path.to_owned()));
    }
    if host == PUBLIC_HOST {
        return Ok((Place::Host { endpoint }, path.to_owned()));
    }
    if let Some(bucket) = named_bucket(resource) {
        check_bucket("bucket", bucket)?;
        let bucket = bucket.to_owned();
        if first == bucket {
            return Ok((Place::Path { endpoint, bucket, region: region() }, rest.to_owned()));
        }
        let bare = url.domain().and_then(|host| host.strip_prefix(&bucket)?.strip_prefix('.'));
        if let Some(bare) = bare.filter(|bare| !bare.is_empty()) {
            // Without keys the host is all that is needed.
            let virtual_host = Place::Virtual { endpoint: endpoint.replacen(host, bare, 1), bucket, region: region() };
            return Ok((if signs { virtual_host } else { Place::Host { endpoint } }, path.to_owned()));
        }
        // Neither host nor path names the bucket: the whole path lies inside it.
        return Ok((Place::Path { endpoint, bucket, region: region() }, path.to_owned()));
    }
    if signs {
        // Keys are for an S3 endpoint: the path begins with the bucket.
        if first.is_empty() {
            return Err("it names no bucket: write 'https://host/bucket/prefix', or give 'bucket'".into());
        }
        check_bucket("url", first)?;
        return Ok((Place::Path { endpoint, bucket: first.into(), region: region() }, rest.to_owned()));
    }
    Ok((Place::Host { endpoint }, path.to_owned()))
}

/// A bucket of AWS. Its name is unique within a partition only, so those apart from the public one are endpoints of their own.
fn amazon(bucket: String, region: Option<String>) -> Result<Place, Wrong> {
    let Some(region) = region else { return Ok(Place::Aws { bucket, region }) };
    let wrong = |why: &str| Err(Wrong { field: "IAM.REGION", why: why.into() });
    if !is_region(&region) {
        return wrong("it is no region of AWS, which is written as 'eu-west-1'");
    }
    let partition = |prefix: &str| region.starts_with(prefix);
    Ok(if partition("cn-") {
        Place::Path { endpoint: format!("https://s3.{region}.amazonaws.com.cn"), bucket, region }
    } else if partition("us-gov-") {
        Place::Path { endpoint: format!("https://s3.{region}.amazonaws.com"), bucket, region }
    } else if partition("us-iso") || partition("eusc-") {
        return wrong("that region is on a network of its own: write 'https://host/bucket/prefix' with its host as the url");
    } else {
        Place::Aws { bucket, region: Some(region) }
    })
}

fn named_bucket(resource: &BucketResource) -> Option<&str> {
    resource.bucket.as_deref().filter(|bucket| !bucket.is_empty())
}

fn given_region(resource: &BucketResource) -> Option<String> {
    resource.credentials.as_ref()?.region.clone().filter(|region| !region.is_empty())
}

/// Keys are for one bucket. Without them the market's own tool does not look at `bucket` either.
fn agree(bucket: &str, resource: &BucketResource) -> Result<(), Wrong> {
    match named_bucket(resource) {
        Some(named) if named != bucket && keys(resource.credentials.as_ref()).is_some() => {
            Err(Wrong { field: "bucket", why: "it is another bucket than the one that 'url' names: leave one of them out".into() })
        }
        _ => Ok(()),
    }
}

fn check_bucket(field: &'static str, bucket: &str) -> Result<(), Wrong> {
    let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    let dots = bucket.starts_with('.') || bucket.ends_with('.') || bucket.contains("..");
    if bucket.is_empty() || bucket.len() > 255 || dots || !bucket.bytes().all(fits) {
        let whose = if field == "bucket" { "it" } else { "its bucket" };
        return Err(Wrong { field, why: format!("{whose} is no name of a bucket, which has letters, digits, '-', '_' and '.'") });
    }
    Ok(())
}

fn decoded(raw: &str) -> Result<String, Wrong> {
    let path = percent_decode_str(raw).decode_utf8().map_err(|_| "its path is not UTF-8")?;
    check_path(&path)?;
    Ok(path.into_owned())
}

fn check_path(path: &str) -> Result<(), Wrong> {
    if path.chars().any(char::is_control) {
        return Err("its path holds a control character".into());
    }
    if path.split('/').any(|segment| matches!(segment, "." | "..")) {
        return Err("its path holds '.' or '..' as a segment: write where it leads".into());
    }
    Ok(())
}

#[cfg(test)]
#[path = "address_tests.rs"]
mod tests;
