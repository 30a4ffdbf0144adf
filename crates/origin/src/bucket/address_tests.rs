//! The table of cases, and what the rules refuse.

use super::*;

/// A resource of `url`, with bucket, region and keys where they are not empty.
fn resource(url: &str, bucket: &str, region: &str, keys: bool) -> BucketResource {
    let secrets = keys.then(|| (Secret::new("AKIDEXAMPLE"), Secret::new("top-secret")));
    let credentials = (keys || !region.is_empty())
        .then(|| BucketCredentials { region: Some(region.to_owned()).filter(|region| !region.is_empty()), keys: secrets });
    BucketResource { url: url.into(), bucket: Some(bucket.to_owned()).filter(|bucket| !bucket.is_empty()), files: vec![], credentials }
}

fn aws(bucket: &str, region: Option<&str>) -> Place {
    Place::Aws { bucket: bucket.into(), region: region.map(Into::into) }
}

fn path(endpoint: &str, bucket: &str, region: &str) -> Place {
    Place::Path { endpoint: endpoint.into(), bucket: bucket.into(), region: region.into() }
}

fn host(endpoint: &str) -> Place {
    Place::Host { endpoint: endpoint.into() }
}

const KEYS: bool = true;
const NONE: bool = false;

#[test]
fn every_case_of_the_table_maps_as_written() {
    let models = || host("https://models.nosana.io");
    let r2 = || path("https://ai.r2.cloudflarestorage.com", "ai-model", "auto");
    let minio = "https://minio.lan:9000";
    // case, url, bucket, region, keys; place, folder
    let table = [
        (1, "https://models.nosana.io/test", "", "", NONE, models(), "test/"),
        (2, "https://models.nosana.io/router/nginx", "", "", NONE, models(), "router/nginx/"),
        (3, "https://models.nosana.io/router/proto/src", "", "", NONE, models(), "router/proto/src/"),
        (4, "https://models.nosana.io/router", "", "", NONE, models(), "router/"),
        (5, "https://pub-5bc5.r2.dev/controlnets", "", "", NONE, host("https://pub-5bc5.r2.dev"), "controlnets/"),
        (7, "https://nosana.mypinata.cloud/ipfs/", "", "", NONE, host("https://nosana.mypinata.cloud"), "ipfs/"),
        (8, "s3://nos-ai-models-qllsn32u/ollama/llama3.1/8b", "", "", NONE, models(), "ollama/llama3.1/8b/"),
        (9, "s3://nos-ai-models-qllsn32uX/p", "", "", NONE, aws("nos-ai-models-qllsn32uX", None), "p/"),
        (10, "s3://nos-ai-models/x", "", "", NONE, aws("nos-ai-models", None), "x/"),
        (11, "https://ai.r2.cloudflarestorage.com/ai-model/entrypoint", "ai-model", "", KEYS, r2(), "entrypoint/"),
        (12, "https://ai.r2.cloudflarestorage.com/ai-model/entrypoint", "", "", KEYS, r2(), "entrypoint/"),
        (13, "https://h/ai-model/ai-model/x", "ai-model", "", KEYS, path("https://h", "ai-model", "us-east-1"), "ai-model/x/"),
        (
            14,
            "https://ai-model.A.r2.cloudflarestorage.com/e",
            "ai-model",
            "",
            KEYS,
            path("https://a.r2.cloudflarestorage.com", "ai-model", "auto"),
            "e/",
        ),
        (15, "https://minio.lan:9000/models/x", "data", "", KEYS, path(minio, "data", "us-east-1"), "models/x/"),
        (16, "https://minio.lan:9000/data/x", "", "", KEYS, path(minio, "data", "us-east-1"), "x/"),
        (17, "https://b.s3.eu-west-1.amazonaws.com/p", "", "us-east-1", KEYS, aws("b", Some("eu-west-1")), "p/"),
        (18, "https://s3.us-west-2.amazonaws.com/b/p", "", "", NONE, aws("b", Some("us-west-2")), "p/"),
        (19, "https://b.s3.amazonaws.com/p", "", "", NONE, aws("b", None), "p/"),
        (20, "s3://my-bucket/stories/x", "", "eu-central-1", KEYS, aws("my-bucket", Some("eu-central-1")), "stories/x/"),
        (21, "s3://b", "", "", NONE, aws("b", None), ""),
        (21, "https://models.nosana.io/", "", "", NONE, models(), ""),
        (34, "https://h/a%20b", "", "", NONE, host("https://h"), "a b/"),
        (38, "https://H.Example:443/p", "", "", NONE, host("https://h.example"), "p/"),
        (40, "https://h/data/x", "data", "", NONE, path("https://h", "data", "us-east-1"), "x/"),
    ];
    for (case, url, bucket, region, keys, place, folder) in table {
        let address = Address::parse(&resource(url, bucket, region, keys)).unwrap_or_else(|error| panic!("case {case}: {error}"));
        assert_eq!(address.place, place, "case {case}");
        assert_eq!(address.folder(), folder, "case {case}");
    }
}

#[test]
fn files_lie_below_the_prefix_under_their_literal_names() {
    let key = |url: &str, file: &str| {
        let address = Address::parse(&resource(url, "", "", NONE)).unwrap();
        address.key(&RelativePath::new(file).unwrap())
    };
    assert_eq!(key("https://pub-5bc5.r2.dev/controlnets", "c.safetensors"), "controlnets/c.safetensors");
    assert_eq!(key("https://nosana.mypinata.cloud/ipfs/", "Qm1"), "ipfs/Qm1");
    assert_eq!(key("https://h/P", "sub/a.bin"), "P/sub/a.bin");
    assert_eq!(key("https://h/P", "a,b.bin"), "P/a,b.bin");
    assert_eq!(encoded(&key("https://h/P", "a b.bin")), "P/a%20b.bin");
    assert_eq!(encoded(&key("https://h/P", "a%20b.bin")), "P/a%2520b.bin");
}

#[test]
fn only_a_path_without_a_slash_at_its_end_may_be_an_object() {
    let exact = |url: &str| Address::parse(&resource(url, "", "", NONE)).unwrap().exact().map(str::to_owned);
    assert_eq!(exact("https://h/p/model.safetensors").as_deref(), Some("p/model.safetensors"));
    assert_eq!(exact("https://h/p/"), None);
    assert_eq!(exact("https://h"), None);
}

#[test]
fn a_plus_means_itself_first_and_then_a_space() {
    let address = Address::parse(&resource("https://h/Sogni+Supported/a%2Bb", "", "", NONE)).unwrap();
    assert_eq!(address.folder(), "Sogni+Supported/a+b/");
    assert_eq!(address.spaced().unwrap().folder(), "Sogni Supported/a+b/");
    assert_eq!(Address::parse(&resource("https://h/a%2Bb", "", "", NONE)).unwrap().spaced(), None);
    assert_eq!(Address::parse(&resource("s3://b/a+b", "", "", NONE)).unwrap().spaced(), None);
}

#[test]
fn a_signed_url_is_one_object_and_its_signature_is_never_shown() {
    let signed = resource("https://h.example/b/m.bin?X-Amz-Credential=AKID&X-Amz-Signature=f00d", "", "", NONE);
    let address = Address::parse(&signed).unwrap();
    assert_eq!(address.exact(), Some("b/m.bin"));
    assert!(address.uses(None));
    let shown = format!("{address} {} {} {address:?}", address.name("b/m.bin"), address.locator("b/m.bin", "e"));
    assert!(!shown.contains("f00d") && !shown.contains("AKID"), "{shown}");
    let with_files = BucketResource { files: vec![RelativePath::new("x").unwrap()], ..signed };
    let error = Address::parse(&with_files).unwrap_err();
    assert!(!error.to_string().contains("f00d") && error.to_string().contains("signed URL"), "{error}");
}

#[test]
fn equal_resources_have_one_address() {
    let address = |url: &str, bucket: &str| Address::parse(&resource(url, bucket, "", KEYS)).unwrap().to_string();
    assert_eq!(address("https://H.Example:443/b/p", ""), "https://h.example/b/p");
    assert_eq!(address("s3://b/p", ""), "s3://b/p");
    for same in ["https://b.s3.amazonaws.com/p", "https://s3.eu-west-1.amazonaws.com/b/p", "https://b.s3-eu-west-1.amazonaws.com/p"] {
        assert_eq!(address(same, ""), "s3://b/p");
    }
    let r2 = "https://a.r2.cloudflarestorage.com/m/e";
    assert_eq!(address(r2, ""), r2);
    assert_eq!(address(r2, "m"), r2);
    assert_eq!(address("https://m.a.r2.cloudflarestorage.com/e", ""), r2);
    assert_eq!(address("https://m.minio.lan/e", "m"), "https://m.minio.lan/e");
}

#[test]
fn only_buckets_that_are_reached_with_keys_use_them() {
    let uses = |url: &str, keys: bool| {
        let resource = resource(url, "", "", keys);
        Address::parse(&resource).unwrap().uses(resource.credentials.as_ref())
    };
    assert!(uses("s3://b/p", KEYS) && uses("https://h/b/p", KEYS));
    assert!(!uses("s3://b/p", NONE) && !uses("https://models.nosana.io/p", KEYS));
}

#[test]
fn empty_keys_mean_none() {
    let credentials = BucketCredentials { region: None, keys: Some((Secret::new(""), Secret::new(""))) };
    let resource = BucketResource { credentials: Some(credentials), ..resource("https://h/b/p", "", "", NONE) };
    let address = Address::parse(&resource).unwrap();
    assert_eq!(address.place, host("https://h"));
    assert!(!address.uses(resource.credentials.as_ref()));
}

#[test]
fn what_cannot_be_read_safely_is_refused_with_how_to_write_it() {
    let table = [
        ("", "s3://bucket/prefix"),
        ("models/x", "s3://bucket/prefix"),
        ("ftp://h/x", "'s3' or 'https'"),
        ("file:///etc/passwd", "'s3' or 'https'"),
        ("http://h.example/x", "use https"),
        ("http://localhost.example/x", "use https"),
        ("http://128.0.0.1/x", "use https"),
        ("https://user:pw@h/x", "'IAM'"),
        ("https://h/a\nb", "control"),
        ("https://h/a%00b", "control"),
        ("https://h/a/../b", "'..'"),
        ("https://h/a/%2e%2E/b", "'..'"),
        ("https://h/a%2F..%2Fb", "'..'"),
        ("s3://b/../other/x", "'..'"),
        ("https://h/%ff", "UTF-8"),
        ("https://h/a#b", "%23"),
        ("https://h/a\\b", "%5C"),
        ("https://h/a?token=abc", "signature"),
        ("s3://", "no name of a bucket"),
        ("s3://b@d/x", "no name of a bucket"),
        ("s3://../x", "no name of a bucket"),
        ("https:///x", "host"),
    ];
    for (url, how) in table {
        let error = Address::parse(&resource(url, "", "", NONE)).unwrap_err();
        assert!(matches!(error, OriginError::Refused { .. }), "{url}: {error}");
        assert!(error.to_string().contains(how), "{url}: {error}");
        assert!(!error.to_string().contains("pw") && !error.to_string().contains("abc"), "{error}");
    }
    for (url, bucket) in [("https://minio.lan/", ""), ("s3://b/p", "other"), ("https://s3.amazonaws.com/b/p", "other")] {
        assert!(matches!(Address::parse(&resource(url, bucket, "", KEYS)), Err(OriginError::Refused { .. })), "{url}");
    }
}

#[test]
fn no_region_makes_a_bucket_of_another_owner_pass_for_one_of_aws() {
    let parse = |url: &str, region: &str| Address::parse(&resource(url, "", region, KEYS));
    for region in ["evil.example/#", "evil.example", "us-east-1.evil", "auto", "us-iso-east-1", "x"] {
        assert!(matches!(parse("s3://b/p", region), Err(OriginError::Refused { .. })), "{region}");
    }
    let home = parse("s3://b/p", "eu-west-1").unwrap().locator("k", "e");
    for region in ["cn-north-1", "us-gov-west-1"] {
        let by_region = parse("s3://b/p", region).unwrap();
        assert_ne!(by_region.locator("k", "e"), home, "{region}");
        assert!(by_region.to_string().starts_with("https://"), "{by_region}");
    }
    assert_eq!(parse("https://b.s3.us-gov-west-1.amazonaws.com/p", "").unwrap(), parse("s3://b/p", "us-gov-west-1").unwrap());
    assert_eq!(parse("https://b.s3.cn-north-1.amazonaws.com.cn/p", "").unwrap(), parse("s3://b/p", "cn-north-1").unwrap());
}

#[test]
fn plain_http_is_for_this_machine_only() {
    for url in ["http://127.0.0.1:9/x", "http://127.3.2.1/x", "http://[::1]:9/x", "http://localhost:9/x", "http://pub.s3.localhost:9/x"] {
        assert!(Address::parse(&resource(url, "", "", NONE)).is_ok(), "{url}");
    }
}

#[test]
fn a_host_that_is_the_bucket_and_a_dot_is_a_host() {
    let address = Address::parse(&resource("https://bucket./x", "bucket", "", KEYS)).unwrap();
    assert_eq!(address.place, path("https://bucket.", "bucket", "us-east-1"));
}
