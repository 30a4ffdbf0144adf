//! Buckets by the S3 protocol: the one file that names the types of the AWS SDK.
//!
//! The SDK neither retries (callers do) nor validates checksums (a range may carry the checksum of something else),
//! and no answer but an object's bytes is held in memory beyond 8 MiB, whatever a server sends.
//! `GetObjectAttributes` is never asked: some servers answer it with the whole object.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::config::interceptors::BeforeDeserializationInterceptorContextMut;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{
    BehaviorVersion, ConfigBag, Credentials, Intercept, Region, RequestChecksumCalculation, ResponseChecksumValidation, RuntimeComponents,
    SharedHttpClient, StalledStreamProtectionConfig,
};
use aws_sdk_s3::error::{BoxError, ProvideErrorMetadata, SdkError};
use aws_sdk_s3::operation::head_object::HeadObjectOutput;
use aws_sdk_s3::primitives::SdkBody;
use aws_sdk_s3::types::{ChecksumMode, ChecksumType, EncodingType, ServerSideEncryption};
use aws_smithy_http_client::tls::Provider;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_runtime_api::client::dns::{DnsFuture, ResolveDns, ResolveDnsError};
use futures::{StreamExt, stream};
use larder_content::{Algorithm, Secret};

use super::fault::{Answer, Fault};
use super::transport::{Body, Facts, Listed, Page, PageAsk, ReadAsk};
use super::{digest, xml};
use crate::http::{self, CONNECT_TIMEOUT};
use crate::{OriginError, PrivateHosts};

/// The most clients that are kept: a job names a few buckets.
const MAX_CLIENTS: usize = 64;

/// Makes clients, which share their connections.
pub(super) struct Sdk {
    http: SharedHttpClient,
    stall: Duration,
    clients: Mutex<HashMap<Endpoint, Client>>,
}

/// All that tells one client from another.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Endpoint {
    /// Scheme, host and port; `None` is AWS.
    pub(super) url: Option<String>,
    /// Whether the bucket goes in the path and not in the host.
    pub(super) path_style: bool,
    /// What requests are signed for.
    pub(super) region: String,
    /// What they are signed with; `None` sends them unsigned.
    pub(super) keys: Option<(Secret, Secret)>,
}

/// A client and the bucket it asks.
#[derive(Clone)]
pub(super) struct BucketClient {
    client: Client,
    bucket: Arc<str>,
}

impl Sdk {
    /// With no connection yet. A server that sends nothing for as long as `stall` has ended the request.
    pub(super) fn new(stall: Duration, private_hosts: PrivateHosts) -> Self {
        let builder = aws_smithy_http_client::Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring));
        let http = builder.build_with_resolver(Resolver(private_hosts));
        Self { http, stall, clients: Mutex::default() }
    }

    /// A client for `bucket` at `endpoint`.
    pub(super) fn bucket(&self, endpoint: &Endpoint, bucket: &str) -> BucketClient {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if clients.len() >= MAX_CLIENTS && !clients.contains_key(endpoint) {
            clients.clear();
        }
        let client = clients.entry(endpoint.clone()).or_insert_with(|| self.client(endpoint)).clone();
        BucketClient { client, bucket: bucket.into() }
    }

    fn client(&self, endpoint: &Endpoint) -> Client {
        let timeouts = TimeoutConfig::builder().connect_timeout(CONNECT_TIMEOUT).read_timeout(self.stall).build();
        let mut config = aws_sdk_s3::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .http_client(self.http.clone())
            .region(Region::new(endpoint.region.clone()))
            .force_path_style(endpoint.path_style)
            .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
            .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
            .retry_config(RetryConfig::disabled())
            .timeout_config(timeouts)
            .stalled_stream_protection(StalledStreamProtectionConfig::enabled().grace_period(self.stall).build());
        config.set_endpoint_url(endpoint.url.clone());
        let config = match &endpoint.keys {
            Some((id, secret)) => config.credentials_provider(Credentials::new(id.expose(), secret.expose(), None, None, "larder")),
            None => config.allow_no_auth(),
        };
        Client::from_conf(config.build())
    }
}

impl BucketClient {
    /// As [`super::transport::Transport::page`].
    pub(super) async fn page(&self, what: &str, ask: &PageAsk) -> Result<Page, Fault> {
        let mut request = self.client.list_objects_v2().bucket(&*self.bucket).prefix(&ask.prefix).set_continuation_token(ask.token.clone());
        if ask.encoded {
            request = request.encoding_type(EncodingType::Url);
        }
        let request = request.set_max_keys(ask.most.map(i32::from)).customize().interceptor(Bounded { failures_only: false });
        let answer = request.send().await.map_err(|error| fault(what, error))?;
        let objects = answer.contents.unwrap_or_default().into_iter().map(|object| {
            let size = object.size.and_then(|size| u64::try_from(size).ok())?;
            Some(Listed { key: object.key?, size, etag: object.e_tag })
        });
        let objects = objects.collect::<Option<_>>().ok_or(Fault::NotS3)?;
        let truncated = answer.is_truncated == Some(true);
        let next = answer.next_continuation_token.filter(|_| truncated);
        Ok(Page { objects, cut: truncated && next.is_none(), next })
    }

    /// As [`super::transport::Transport::head`].
    pub(super) async fn head(&self, what: &str, key: &str, part: Option<u32>) -> Result<Facts, Fault> {
        let request = self.client.head_object().bucket(&*self.bucket).key(key).checksum_mode(ChecksumMode::Enabled);
        let request = request.set_part_number(part.and_then(|part| i32::try_from(part).ok()));
        let request = request.customize().interceptor(Bounded { failures_only: false });
        let answer = request.send().await.map_err(|error| fault(what, error))?;
        facts(answer).ok_or_else(|| Fault::invalid(what, "it does not tell the object's size"))
    }

    /// As [`super::transport::Transport::get`].
    pub(super) async fn get(&self, ask: &ReadAsk) -> Result<Body, Fault> {
        let range = format!("bytes={}-{}", ask.range.start, ask.range.end.saturating_sub(1));
        let request = self.client.get_object().bucket(&*self.bucket).key(&ask.key).range(range);
        let request = request.set_if_match(ask.if_match.as_ref().map(|etag| format!("\"{etag}\"")));
        let request = request.customize().interceptor(Bounded { failures_only: true });
        let answer = request.send().await.map_err(|error| fault(&ask.what, error))?;
        let what = ask.what.clone();
        let parts = stream::unfold(answer.body, |mut body| async move { Some((body.next().await?, body)) });
        let stream = parts.map(move |part| part.map_err(|error| http::unanswered(&what, error))).boxed();
        let content_length = answer.content_length.and_then(|length| u64::try_from(length).ok());
        Ok(Body { etag: answer.e_tag, content_range: answer.content_range, content_length, stream })
    }
}

fn facts(answer: HeadObjectOutput) -> Option<Facts> {
    use ServerSideEncryption::{AwsKms, AwsKmsDsse};
    let checksums = [
        (Algorithm::Sha256, answer.checksum_sha256),
        (Algorithm::Sha1, answer.checksum_sha1),
        (Algorithm::Crc32, answer.checksum_crc32),
        (Algorithm::Crc32C, answer.checksum_crc32_c),
        (Algorithm::Crc64Nvme, answer.checksum_crc64_nvme),
    ];
    let note = |name: &str| answer.metadata.as_ref().and_then(|notes| notes.get(name)).map(String::as_str);
    Some(Facts {
        size: u64::try_from(answer.content_length?).ok()?,
        noted_md5: digest::noted_md5(note("md5chksum"), note("s3cmd-attrs")),
        etag: answer.e_tag,
        sealed: matches!(answer.server_side_encryption, Some(AwsKms | AwsKmsDsse)) || answer.sse_customer_algorithm.is_some(),
        checksums: checksums.into_iter().filter_map(|(algorithm, value)| Some((algorithm, value?))).collect(),
        composite: answer.checksum_type.map(|kind| kind == ChecksumType::Composite),
        parts: answer.parts_count.and_then(|parts| u32::try_from(parts).ok()),
    })
}

fn fault<E>(what: &str, error: SdkError<E, HttpResponse>) -> Fault
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    if let SdkError::ConstructionFailure(_) = &error {
        return Fault::Error(OriginError::Refused {
            what: what.to_owned(),
            why: "no request can be made of it: check bucket and region".into(),
        });
    }
    let raw = error.raw_response();
    let status = raw.map_or(0, |raw| raw.status().as_u16());
    let body = raw.and_then(|raw| raw.body().bytes());
    if (200..300).contains(&status) {
        // A body that came whole, or never ends, is no S3 document; any other broke off.
        return if body.is_some() || is_too_long(&error) { Fault::NotS3 } else { Fault::Error(http::unanswered(what, error)) };
    }
    let Some(raw) = raw else {
        return Fault::Error(http::unanswered(what, error));
    };
    let (code, region) = xml::error(body.and_then(|body| std::str::from_utf8(body).ok()).unwrap_or_default());
    let header = |name: &str| raw.headers().get(name);
    Fault::Answer(Answer {
        status,
        code: error.as_service_error().and_then(|error| xml::word(error.code()?)).or(code),
        region: header("x-amz-bucket-region").and_then(xml::word).or(region),
        after: header("retry-after").and_then(|asked| http::retry_after(asked, header("date"))),
    })
}

fn is_too_long(error: &(dyn std::error::Error + 'static)) -> bool {
    std::iter::successors(Some(error), |error| error.source()).any(|cause| cause.is::<http_body_util::LengthLimitError>())
}

/// Ends answers that are longer than any S3 document.
#[derive(Debug)]
struct Bounded {
    /// Whether success carries an object, which may be as long as it likes.
    failures_only: bool,
}

impl Intercept for Bounded {
    fn name(&self) -> &'static str {
        "Bounded"
    }

    fn modify_before_deserialization(
        &self,
        context: &mut BeforeDeserializationInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let response = context.response_mut();
        if !(self.failures_only && response.status().is_success()) {
            let body = std::mem::replace(response.body_mut(), SdkBody::taken());
            *response.body_mut() = SdkBody::from_body_1_x(http_body_util::Limited::new(body, xml::MAX_BYTES));
        }
        Ok(())
    }
}

/// [`http::resolve`] for the SDK.
#[derive(Debug, Clone)]
struct Resolver(PrivateHosts);

impl ResolveDns for Resolver {
    fn resolve_dns<'a>(&'a self, name: &'a str) -> DnsFuture<'a> {
        DnsFuture::new(async move {
            let addresses = http::resolve(name, &self.0).await.map_err(ResolveDnsError::new)?;
            Ok(addresses.into_iter().map(|address| address.ip()).collect())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_without_a_public_address_is_not_connected_to() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let url = Some(format!("http://localhost:{}", listener.local_addr().unwrap().port()));
        let endpoint = Endpoint { url, path_style: true, region: "us-east-1".into(), keys: None };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let connect = |private_hosts: &str| {
            let sdk = Sdk::new(Duration::from_millis(100), PrivateHosts::parse(private_hosts).unwrap());
            let bucket = sdk.bucket(&endpoint, "b");
            (runtime.block_on(bucket.page("x", &PageAsk::default())).unwrap_err(), listener.accept().is_ok())
        };
        let (refusal, connected) = connect("");
        assert!(matches!(&refusal, Fault::Error(OriginError::Refused { .. })) && !connected, "{refusal:?}");
        let (silence, connected) = connect("localhost");
        assert!(matches!(&silence, Fault::Error(OriginError::Unreachable { .. })) && connected, "{silence:?}");
    }
}
