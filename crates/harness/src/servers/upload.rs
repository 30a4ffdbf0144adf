//! Puts objects into an S3 server. The one place of the harness that uses the AWS SDK.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use anyhow::Context;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region, RequestChecksumCalculation, ResponseChecksumValidation};
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{ChecksumAlgorithm, CompletedMultipartUpload, CompletedPart};

use super::Keys;
use crate::hub::Tree;
use crate::serve::Threads;

/// The object that shows whether a server is ready.
const PROBE: &str = "probe-of-the-harness";

/// Uploads to the buckets of one server. Its methods block, and may be called from asynchronous tests.
pub struct Bucket {
    client: Client,
    threads: Threads,
    sha256: bool,
}

impl Bucket {
    /// Uploads to the server at `endpoint` with `keys`.
    ///
    /// # Errors
    /// Fails if no thread can be started.
    pub fn new(endpoint: &str, keys: Keys) -> anyhow::Result<Self> {
        let config = aws_sdk_s3::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .http_client(aws_smithy_http_client::Builder::new().build_http())
            .region(Region::new("us-east-1"))
            .credentials_provider(Credentials::new(keys.id, keys.secret, None, None, "harness"))
            .endpoint_url(endpoint)
            .force_path_style(true)
            .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
            .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
            .build();
        Ok(Self { client: Client::from_conf(config), threads: Threads::new()?, sha256: false })
    }

    /// From here on uploads carry SHA-256 checksums: of the object, or of each part.
    #[must_use]
    pub fn with_sha256(mut self) -> Self {
        self.sha256 = true;
        self
    }

    /// Puts an object in one request.
    ///
    /// # Errors
    /// Fails if the server does not take it.
    pub fn put(&self, bucket: &str, key: &str, bytes: &[u8]) -> anyhow::Result<()> {
        let request = self.client.put_object().bucket(bucket).key(key).body(ByteStream::from(bytes.to_vec()));
        let request = request.set_checksum_algorithm(self.algorithm());
        self.threads.wait_for(request.send()).with_context(|| format!("{bucket}/{key} cannot be put"))?;
        Ok(())
    }

    /// Puts an object in parts of `part_bytes`: its ETag is that of a multipart upload, even if there is one part only.
    ///
    /// # Errors
    /// Fails if the server does not take it.
    pub fn put_parts(&self, bucket: &str, key: &str, bytes: &[u8], part_bytes: u64) -> anyhow::Result<()> {
        self.multipart(bucket, key, bytes, part_bytes)
    }

    /// Puts a file: in one request up to `part_bytes`, else in parts of that size.
    ///
    /// # Errors
    /// Fails if the file cannot be read, or the server does not take it.
    pub fn put_file(&self, bucket: &str, key: &str, file: &Path, part_bytes: u64) -> anyhow::Result<()> {
        let opened = File::open(file).with_context(|| format!("{} cannot be read", file.display()))?;
        if opened.metadata()?.len() <= part_bytes {
            return self.put(bucket, key, &std::fs::read(file)?);
        }
        self.multipart(bucket, key, opened, part_bytes)
    }

    /// Puts all files below `folder` under `prefix`, as [`Bucket::put_file`] does; says how many.
    ///
    /// # Errors
    /// Fails if a file cannot be read, or the server does not take it.
    pub fn put_folder(&self, bucket: &str, prefix: &str, folder: &Path, part_bytes: u64) -> anyhow::Result<u64> {
        let tree = Tree::folder(folder)?;
        for path in tree.files.keys() {
            let key = if prefix.is_empty() { path.clone() } else { format!("{}/{path}", prefix.trim_end_matches('/')) };
            self.put_file(bucket, &key, &folder.join(path), part_bytes)?;
        }
        Ok(tree.files.len() as u64)
    }

    /// Deletes an object.
    ///
    /// # Errors
    /// Fails if the server does not do it.
    pub fn remove(&self, bucket: &str, key: &str) -> anyhow::Result<()> {
        let request = self.client.delete_object().bucket(bucket).key(key);
        self.threads.wait_for(request.send()).with_context(|| format!("{bucket}/{key} cannot be deleted"))?;
        Ok(())
    }

    /// Makes `bucket` if it is not there, and lets an object go in and out.
    pub(crate) fn try_out(&self, bucket: &str) -> anyhow::Result<()> {
        let exists = self.threads.wait_for(self.client.head_bucket().bucket(bucket).send()).is_ok();
        if !exists {
            self.threads.wait_for(self.client.create_bucket().bucket(bucket).send())?;
        }
        self.put(bucket, PROBE, b"ready")?;
        self.threads.wait_for(self.client.get_object().bucket(bucket).key(PROBE).send())?;
        self.remove(bucket, PROBE)
    }

    fn algorithm(&self) -> Option<ChecksumAlgorithm> {
        self.sha256.then_some(ChecksumAlgorithm::Sha256)
    }

    fn multipart(&self, bucket: &str, key: &str, mut bytes: impl Read, part_bytes: u64) -> anyhow::Result<()> {
        let what = || format!("{bucket}/{key} cannot be put in parts");
        let create = self.client.create_multipart_upload().bucket(bucket).key(key).set_checksum_algorithm(self.algorithm());
        let upload = self.threads.wait_for(create.send()).with_context(what)?;
        let id = upload.upload_id().with_context(what)?;
        let mut parts = Vec::new();
        for number in 1.. {
            let mut part = Vec::new();
            bytes.by_ref().take(part_bytes).read_to_end(&mut part)?;
            if part.is_empty() && number > 1 {
                break;
            }
            let request = self.client.upload_part().bucket(bucket).key(key).upload_id(id).part_number(number).body(part.into());
            let sent = self.threads.wait_for(request.set_checksum_algorithm(self.algorithm()).send()).with_context(what)?;
            let part = CompletedPart::builder().part_number(number).set_e_tag(sent.e_tag).set_checksum_sha256(sent.checksum_sha256);
            parts.push(part.build());
        }
        let parts = CompletedMultipartUpload::builder().set_parts(Some(parts)).build();
        let complete = self.client.complete_multipart_upload().bucket(bucket).key(key).upload_id(id).multipart_upload(parts);
        self.threads.wait_for(complete.send()).with_context(what)?;
        Ok(())
    }
}
