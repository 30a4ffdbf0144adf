//! Buckets and plain https folders, listed and read from real servers.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use futures::StreamExt;
use larder_content::{BucketCredentials, BucketResource, OriginDigest, OriginFile, PartSizes, ProofKind, Prover, RelativePath, Secret};
use larder_harness::faults::{Fault, Rule};
use larder_harness::hub::{HubBuilder, Repo, Tree};
use larder_harness::proxy::Proxy;
use larder_harness::servers::{self, Keys, RcloneS3, SeaweedFs};
use larder_origin::{Access, Bucket, BucketConfig, Listing, Origin, OriginError, PrivateHosts};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const MIB: u64 = 1024 * 1024;
const RCLONE_KEYS: Keys = Keys { id: "labrclone", secret: "labrclonesecret" };

/// One SeaweedFS for all tests: each has prefixes of its own.
pub(crate) fn seaweed() -> &'static SeaweedFs {
    static SERVER: OnceLock<SeaweedFs> = OnceLock::new();
    SERVER.get_or_init(|| SeaweedFs::start().unwrap())
}

fn counted() -> Proxy {
    Proxy::start(seaweed().address()).unwrap()
}

fn put(bucket: &str, key: &str, bytes: &[u8]) {
    seaweed().store().unwrap().put(bucket, key, bytes).unwrap();
}

/// An rclone that serves one bucket, `b`, of these files.
fn rclone(files: &[(&str, &[u8])]) -> (RcloneS3, TempDir) {
    let root = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        let path = root.path().join("b").join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
    (RcloneS3::start(root.path(), Some(RCLONE_KEYS)).unwrap(), root)
}

fn bucket() -> Bucket {
    let private_hosts = PrivateHosts::parse("127.0.0.1, localhost").unwrap();
    Bucket::new(BucketConfig { private_hosts, ..BucketConfig::default() }).unwrap()
}

/// What is at `endpoint/path`, the first segment of which is a bucket, read without keys.
pub(crate) fn open(endpoint: &str, path: &str) -> BucketResource {
    let named = path.split('/').next().map(str::to_owned);
    BucketResource { url: format!("{endpoint}/{path}"), bucket: named, files: vec![], credentials: None }
}

/// As [`open`] for `path` in the bucket `pub`, where the host is the bucket.
fn by_host(proxy: &Proxy, path: &str) -> BucketResource {
    let endpoint = format!("http://pub.{}:{}", servers::VIRTUAL_HOST_DOMAIN, proxy.address().port());
    BucketResource { bucket: None, ..open(&endpoint, path) }
}

fn keyed(endpoint: &str, path: &str, keys: Keys) -> BucketResource {
    let keys = Some((Secret::new(keys.id), Secret::new(keys.secret)));
    BucketResource { credentials: Some(BucketCredentials { region: None, keys }), ..open(endpoint, path) }
}

fn naming(resource: BucketResource, files: &[&str]) -> BucketResource {
    BucketResource { files: files.iter().map(|file| RelativePath::new(*file).unwrap()).collect(), ..resource }
}

fn bytes_of(len: u64, seed: u8) -> Vec<u8> {
    (0..len).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8 ^ seed).collect()
}

const LISTING: &str =
    "<ListBucketResult><Contents><Key>p/x</Key><Size>1</Size><ETag>9dd4e461268c8034f5c8564e155c67a6</ETag></Contents></ListBucketResult>";

/// The endpoint of a server that gives `reply`, a status and a body, to the head of each request.
async fn answering(reply: fn(&str) -> (&'static str, String)) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut connection, _)) = listener.accept().await {
            let mut request = vec![0; 8192];
            let len = connection.read(&mut request).await.unwrap();
            let request = String::from_utf8_lossy(&request[..len]);
            let (status, text) = reply(&request);
            let head = format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", text.len());
            let body = if request.starts_with("HEAD") { String::new() } else { text };
            // Who asked may have heard enough before the end.
            let _ = connection.write_all(format!("{head}{body}").as_bytes()).await;
        }
    });
    endpoint
}

pub(crate) async fn list(resource: &BucketResource) -> Listing {
    bucket().list(resource, None).await.unwrap()
}

async fn refused(resource: &BucketResource) -> OriginError {
    bucket().list(resource, None).await.map(|listing| listing.id).unwrap_err()
}

async fn read(resource: &BucketResource, file: &OriginFile, range: std::ops::Range<u64>, access: Access) -> Result<Vec<u8>, OriginError> {
    let mut stream = bucket().read(resource, file, range, access).await?;
    let mut bytes = Vec::new();
    while let Some(part) = stream.next().await {
        bytes.extend_from_slice(&part?);
    }
    Ok(bytes)
}

fn paths(listing: &Listing) -> Vec<&str> {
    listing.manifest.files().iter().map(|file| file.path.as_str()).collect()
}

/// By what `bytes` are proven to be the file's, the best first.
fn proofs(file: &OriginFile, bytes: &[u8]) -> Vec<ProofKind> {
    let prove = |digest: &OriginDigest| {
        let mut prover = Prover::for_digest(Some(digest), file.size);
        prover.update(bytes);
        prover.finish().unwrap_or_else(|mismatch| panic!("{}: {mismatch}", file.path)).kind()
    };
    file.proofs().into_iter().map(prove).collect()
}

#[tokio::test]
async fn a_prefix_is_what_lies_below_it_and_no_neighbour() {
    for key in ["near/router/nginx/e.sh", "near/router/a", "near/router2/x", "near/router-old.sh"] {
        put("pub", key, key.as_bytes());
    }
    let proxy = counted();
    let (by_path, by_host) = (open(proxy.endpoint(), "pub/near/router"), by_host(&proxy, "near/router"));
    let credentials = keyed("", "", SeaweedFs::ADMIN).credentials;
    let with_keys = BucketResource { bucket: Some("pub".into()), credentials, ..by_host.clone() };
    for resource in [by_path, by_host, with_keys] {
        let listing = list(&resource).await;
        assert_eq!(paths(&listing), ["a", "nginx/e.sh"], "{}", listing.id);
        for file in listing.manifest.files() {
            let bytes = read(&resource, file, 0..file.size, Access::Anonymous).await.unwrap();
            assert_eq!(bytes, file.locator.path.as_bytes());
            assert!(proofs(file, &bytes).contains(&ProofKind::Whole(larder_content::Algorithm::Md5)));
            assert_eq!(read(&resource, file, 3..7, Access::Credentials).await.unwrap(), bytes[3..7]);
        }
    }
}

#[tokio::test]
async fn small_objects_take_one_request_for_a_thousand() {
    let files: BTreeMap<String, Vec<u8>> = (0..1000).map(|n| (format!("many/f{n:04}"), format!("{n}").into_bytes())).collect();
    let files: Vec<(&str, &[u8])> = files.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect();
    let (server, _root) = rclone(&files);
    let proxy = Proxy::start(server.address()).unwrap();
    let all = keyed(proxy.endpoint(), "b/many/", RCLONE_KEYS);
    assert_eq!(list(&all).await.manifest.files().len(), 1000);
    assert_eq!(proxy.counts().metadata().requests, 1);
    proxy.counts().reset();
    let some = naming(all, &["f0001", "f0999"]);
    assert_eq!(list(&some).await.manifest.files().len(), 2);
    let requests = proxy.counts().snapshot().requests;
    assert!(requests.len() == 2 && requests.iter().all(|request| request.method == "HEAD"), "{requests:?}");
}

#[tokio::test]
async fn a_listing_of_many_pages_is_whole() {
    let store = seaweed().store().unwrap();
    for number in 0..1001 {
        store.put("pub", &format!("pages/{number:04}"), b"x").unwrap();
    }
    let proxy = counted();
    for resource in [open(proxy.endpoint(), "pub/pages/"), by_host(&proxy, "pages/")] {
        assert_eq!(list(&resource).await.manifest.files().len(), 1001);
    }
    assert_eq!(proxy.counts().metadata().requests, 4);
}

#[tokio::test]
async fn a_listing_longer_than_any_is_given_up() {
    let endpoint = answering(|_| ("200 OK", format!("{}{LISTING}", " ".repeat(16 << 20)))).await;
    for resource in [open(&endpoint, "b/p/"), BucketResource { bucket: None, ..open(&endpoint, "p/") }] {
        let error = refused(&resource).await;
        assert!(error.to_string().contains("'files'"), "{error}");
    }
}

#[tokio::test]
async fn an_object_in_parts_is_proven_by_its_parts() {
    let bytes = bytes_of(12 * MIB + 123, 1);
    seaweed().store().unwrap().with_sha256().put_parts("priv", "parts/big.bin", &bytes, 5 * MIB).unwrap();
    let proxy = counted();
    let resource = keyed(proxy.endpoint(), "priv/parts/", SeaweedFs::READER);
    let known = list(&resource).await;
    let file = &known.manifest.files()[0];
    let sizes: Vec<_> = file
        .digests
        .iter()
        .map(|digest| {
            let OriginDigest::Parts { sizes, .. } = digest else { panic!("{digest:?}") };
            sizes.clone()
        })
        .collect();
    assert_eq!(sizes, [PartSizes::Uniform { bytes: 5 * MIB }, PartSizes::Uniform { bytes: 5 * MIB }]);
    assert_eq!(proofs(file, &bytes).len(), 2);
    assert_eq!(proxy.counts().metadata().requests, 3, "LIST, HEAD, HEAD of a part");

    proxy.counts().reset();
    assert_eq!(bucket().list(&resource, Some(&known)).await.unwrap(), known);
    assert_eq!(proxy.counts().metadata().requests, 1, "what has not changed was asked for again");

    proxy.faults().set(Rule::new("*big.bin*", Fault::DropHeader { name: "x-amz-mp-parts-count".into() }));
    let unknown = list(&resource).await;
    let file = &unknown.manifest.files()[0];
    assert!(
        file.digests.iter().all(|digest| matches!(digest, OriginDigest::Parts { sizes: PartSizes::Count(3), .. })),
        "{:?}",
        file.digests
    );
    assert_eq!(proofs(file, &bytes).len(), 2);
}

#[tokio::test]
async fn a_refusal_says_what_it_is_and_never_shows_a_key() {
    put("priv", "denied/x", b"x");
    put("publist0", "shut/x", b"x");
    let at = seaweed().endpoint();
    let wrong = Keys { id: "labadmin", secret: "not-the-secret" };
    let unknown = Keys { id: "nobody-at-all", secret: "not-the-secret" };
    let cases = [
        (open(at, "priv/denied"), "may not be read"),
        (keyed(at, "pub/x", SeaweedFs::READER), "may not be read"),
        (keyed(at, "priv/denied", wrong), "keys are not accepted"),
        (keyed(at, "priv/denied", unknown), "keys are not accepted"),
        (naming(keyed(at, "priv/denied", wrong), &["x"]), "keys are not accepted"),
        (keyed(at, "no-such-bucket/x", SeaweedFs::ADMIN), "does not exist"),
        (open(at, "pub/no-such-thing"), "does not exist"),
        (naming(open(at, "pub/no-such"), &["thing"]), "does not exist"),
        (open(at, "publist0/shut/"), "'files'"),
        (open("http://127.0.0.1:9", "pub/x/"), "did not answer"),
    ];
    for (resource, expected) in cases {
        let error = refused(&resource).await;
        let text = format!("{error} {error:?}");
        assert!(error.to_string().contains(expected), "{}: {error}", resource.url);
        assert!(!text.contains("not-the-secret") && !text.contains("labreadersecret") && !text.contains("nobody-at-all"), "{text}");
    }
    let named = naming(open(at, "publist0/shut"), &["x"]);
    assert_eq!(paths(&list(&named).await), ["x"]);
}

#[tokio::test]
async fn keys_go_along_only_where_they_are_asked_for() {
    put("priv", "mine/x", b"secret content");
    let proxy = counted();
    let resource = keyed(proxy.endpoint(), "priv/mine/", SeaweedFs::READER);
    let file = list(&resource).await.manifest.files()[0].clone();
    proxy.counts().reset();
    let denied = read(&resource, &file, 0..4, Access::Anonymous).await.unwrap_err();
    assert!(matches!(denied, OriginError::Denied { .. }), "{denied}");
    assert_eq!(read(&resource, &file, 0..4, Access::Credentials).await.unwrap(), b"secr");
    let authorized: Vec<bool> = proxy.counts().snapshot().requests.iter().map(|request| request.authorized).collect();
    assert_eq!(authorized, [false, true]);
}

#[tokio::test]
async fn an_object_that_changes_between_two_reads_is_found_out() {
    let (weak, root) = rclone(&[("p/x", b"")]);
    let upload = |seed: u8| {
        put("priv", "change/x", &bytes_of(100_000, seed));
        std::fs::write(root.path().join("b/p/x"), bytes_of(100_000, seed)).unwrap();
    };
    let strong = keyed(seaweed().endpoint(), "priv/change/", SeaweedFs::READER);
    let weak = keyed(weak.endpoint(), "b/p/", RCLONE_KEYS);
    for resource in [&strong, &weak] {
        upload(1);
        let file = list(resource).await.manifest.files()[0].clone();
        assert!(read(resource, &file, 0..50_000, Access::Credentials).await.unwrap() == bytes_of(100_000, 1)[..50_000]);
        upload(2);
        let error = read(resource, &file, 50_000..100_000, Access::Credentials).await.unwrap_err();
        assert!(matches!(error, OriginError::Changed { .. }), "{}: {error}", resource.url);
    }
}

#[tokio::test]
async fn a_weak_server_is_read_as_exactly_as_a_strong_one() {
    let bytes = bytes_of(9 * MIB, 3);
    let (server, _root) = rclone(&[("p/big.bin", &bytes), ("p/sub/a b+c%20.txt", b"odd"), ("p2/x", b"x"), ("p/empty", b"")]);
    let resource = keyed(server.endpoint(), "b/p", RCLONE_KEYS);
    let listing = list(&resource).await;
    assert_eq!(paths(&listing), ["big.bin", "empty", "sub/a b+c%20.txt"]);
    let [big, empty, odd] = listing.manifest.files() else { panic!("three files") };
    assert_eq!(read(&resource, big, 5 * MIB..5 * MIB + 1000, Access::Credentials).await.unwrap(), bytes[5 << 20..(5 << 20) + 1000]);
    assert!(read(&resource, big, 0..big.size, Access::Credentials).await.unwrap() == bytes);
    assert_eq!(read(&resource, empty, 0..0, Access::Credentials).await.unwrap(), b"");
    assert!(read(&resource, empty, 0..0, Access::Anonymous).await.is_err(), "an empty file of a closed bucket passed for public");
    assert_eq!(read(&resource, odd, 0..3, Access::Credentials).await.unwrap(), b"odd");
    assert!(proofs(big, &bytes).contains(&ProofKind::Whole(larder_content::Algorithm::Md5)));
    assert!(matches!(refused(&keyed(server.endpoint(), "b/p", SeaweedFs::READER)).await, OriginError::Denied { .. }));
    assert!(matches!(refused(&open(server.endpoint(), "b/p")).await, OriginError::Denied { .. }));
    assert!(matches!(refused(&keyed(server.endpoint(), "b/nothing", RCLONE_KEYS)).await, OriginError::Missing { .. }));
}

#[tokio::test]
async fn a_key_that_cannot_be_a_file_refuses_the_whole_resource() {
    let proxy = counted();
    for (folder, bad) in [("bad1", "a\u{1}b"), ("bad2", "a\nb"), ("bad3", "\u{7f}")] {
        put("pub", &format!("{folder}/good"), b"x");
        put("pub", &format!("{folder}/{bad}"), b"x");
        for resource in [open(proxy.endpoint(), &format!("pub/{folder}/")), by_host(&proxy, &format!("{folder}/"))] {
            let error = refused(&resource).await;
            assert!(matches!(error, OriginError::Invalid { .. }), "{bad:?}: {error}");
            assert!(error.to_string().contains(&format!("{:?}", format!("{folder}/{bad}"))), "{error}");
        }
    }
}

#[tokio::test]
async fn what_can_pass_is_asked_again_and_what_cannot_is_not() {
    put("pub", "again/x", b"0123456789");
    let proxy = counted();
    let resource = open(proxy.endpoint(), "pub/again/");
    proxy.faults().set(Rule::new("*", Fault::Status { code: 500, retry_after: None }).times(2));
    proxy.faults().set(Rule::new("*", Fault::Refuse).times(1));
    assert_eq!(paths(&list(&resource).await), ["x"]);
    proxy.faults().clear();
    proxy.counts().reset();
    proxy.faults().set(Rule::new("*", Fault::Status { code: 503, retry_after: Some(3000) }));
    let busy = refused(&resource).await;
    assert!(matches!(busy, OriginError::Busy { after: Some(after), .. } if after.as_secs() == 3000), "{busy}");
    assert_eq!(proxy.counts().metadata().requests, 1);
}

#[tokio::test]
async fn a_bucket_elsewhere_is_asked_in_its_region() {
    const REFUSAL: &str = "<Error><Code>AuthorizationHeaderMalformed</Code><Region>garage</Region></Error>";
    let endpoint = answering(|request| match request.contains("/garage/s3/aws4_request") {
        true => ("200 OK", LISTING.to_owned()),
        false => ("400 Bad Request", REFUSAL.to_owned()),
    });
    let resource = keyed(&endpoint.await, "b/p/", SeaweedFs::ADMIN);
    assert_eq!(paths(&list(&resource).await), ["x"]);
    // The answer to a HEAD names no region: it has no body.
    assert_eq!(paths(&list(&naming(resource, &["x"])).await), ["x"]);
}

#[tokio::test]
async fn only_the_bytes_asked_for_are_handed_on() {
    put("pub", "range/x", &bytes_of(1000, 7));
    let proxy = counted();
    for resource in [open(proxy.endpoint(), "pub/range/"), by_host(&proxy, "range/")] {
        let file = list(&resource).await.manifest.files()[0].clone();
        let spoilt = async |fault: Fault, range: std::ops::Range<u64>| {
            proxy.faults().clear();
            proxy.faults().set(Rule::new("*range/x", fault));
            read(&resource, &file, range, Access::Anonymous).await
        };
        assert!(matches!(spoilt(Fault::IgnoreRange, 10..20).await, Err(OriginError::RangeIgnored { .. })));
        assert_eq!(spoilt(Fault::IgnoreRange, 0..1000).await.unwrap(), bytes_of(1000, 7));
        assert!(matches!(spoilt(Fault::Cut { percent: 40 }, 0..1000).await, Err(OriginError::Unreachable { .. })));
        let etag = Fault::SetHeader { name: "etag".into(), value: "\"another\"".into() };
        assert!(matches!(spoilt(etag, 0..10).await, Err(OriginError::Changed { .. })));
        assert!(spoilt(Fault::DropHeader { name: "etag".into() }, 0..10).await.is_err());
        let range = Fault::SetHeader { name: "content-range".into(), value: "bytes 1-10/1000".into() };
        assert!(matches!(spoilt(range, 0..10).await, Err(OriginError::Invalid { .. })));
        proxy.faults().clear();
    }
}

#[tokio::test]
async fn a_host_that_knows_no_buckets_gives_objects_by_their_names() {
    let tree = Tree::new().file("config.json", b"{\"a\":1}".to_vec()).file("a+b c.txt", b"odd".to_vec());
    let hub = HubBuilder::new().repo(Repo::model("org/name").at("main", tree)).direct(true).start().unwrap();
    let folder = BucketResource { bucket: None, ..open(hub.endpoint(), "org/name/resolve/main") };
    let named = naming(folder.clone(), &["config.json", "a+b c.txt"]);
    let listing = list(&named).await;
    assert_eq!(paths(&listing), ["a+b c.txt", "config.json"]);
    assert_eq!(read(&named, &listing.manifest.files()[1], 1..4, Access::Anonymous).await.unwrap(), b"\"a\"");
    assert!(refused(&folder).await.to_string().contains("'files'"));

    let signed = BucketResource { url: format!("{}/config.json?X-Amz-Signature=f00d", folder.url), ..folder };
    assert!(bucket().has_credentials(&signed));
    let listing = list(&signed).await;
    assert!(!format!("{listing:?}").contains("f00d"), "{listing:?}");
    hub.counts().reset();
    for access in [Access::Anonymous, Access::Credentials] {
        assert_eq!(read(&signed, &listing.manifest.files()[0], 0..7, access).await.unwrap(), b"{\"a\":1}");
    }
    let with_signature: Vec<bool> = hub.counts().snapshot().requests.iter().map(|request| request.target.contains("f00d")).collect();
    assert_eq!(with_signature, [false, true]);

    hub.faults().set(Rule::new("*", Fault::RedirectLoop));
    assert!(refused(&named).await.to_string().contains("circles"));
    hub.faults().clear();
    hub.faults().set(Rule::new("*", Fault::RedirectTo { url: "http://127.0.0.2:9/x?token=abc".into() }));
    let elsewhere = refused(&named).await.to_string();
    assert!(elsewhere.contains("127.0.0.2:9") && !elsewhere.contains("abc"), "{elsewhere}");
}

#[tokio::test]
async fn a_plus_is_read_as_a_space_where_it_is_not_there_as_itself() {
    put("pub", "plus/Sogni Supported/x", b"space");
    put("pub", "plus/a+b/x", b"plus");
    let at = seaweed().endpoint();
    for (path, expected) in [("pub/plus/Sogni+Supported", "plus/Sogni Supported/x"), ("pub/plus/a+b", "plus/a+b/x")] {
        let resource = open(at, path);
        let listing = list(&resource).await;
        assert_eq!(listing.manifest.files()[0].locator.path, expected);
        assert!(read(&resource, &listing.manifest.files()[0], 0..4, Access::Anonymous).await.is_ok());
    }
}
