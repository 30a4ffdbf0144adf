//! What a listing and an exact key come to, together.

use super::super::fault::Answer;
use super::*;
use larder_content::BucketResource;

fn address(url: &str) -> Address {
    Address::parse(&BucketResource { url: url.into(), bucket: None, files: vec![], credentials: None }).unwrap()
}

fn listed(keys: &[&str]) -> Result<Vec<Listed>, Fault> {
    Ok(keys.iter().map(|key| Listed { key: (*key).to_owned(), size: 1, etag: None }).collect())
}

fn refused<T>(status: u16, code: &str) -> Result<T, Fault> {
    let code = Some(code.to_owned()).filter(|code| !code.is_empty());
    Err(Fault::Answer(Answer { status, code, ..Answer::default() }))
}

fn object_there() -> Option<Result<Facts, Fault>> {
    Some(Ok(Facts { size: 5, ..Facts::default() }))
}

fn paths(url: &str, listing: Result<Vec<Listed>, Fault>, exact: Option<Result<Facts, Fault>>) -> Result<Vec<String>, OriginError> {
    let found = choose(&address(url), listing, exact, false)?;
    Ok(found.into_iter().map(|candidate| candidate.path.to_string()).collect())
}

#[test]
fn a_prefix_is_stripped_and_its_folders_are_kept() {
    let found =
        paths("https://models.nosana.io/router/proto/src", listed(&["router/proto/src/ray/protobuf/x.proto"]), Some(refused(404, "")));
    assert_eq!(found.unwrap(), ["ray/protobuf/x.proto"]);
    assert_eq!(paths("s3://b", listed(&["a/b"]), None).unwrap(), ["a/b"]);
}

#[test]
fn an_object_and_what_lies_below_its_name_are_both_taken() {
    assert_eq!(paths("s3://b/d/P", listed(&["d/P/x"]), object_there()).unwrap(), ["P", "x"]);
    assert_eq!(paths("https://h/p/model.safetensors", listed(&[]), object_there()).unwrap(), ["model.safetensors"]);
}

#[test]
fn markers_of_folders_are_no_files() {
    assert_eq!(paths("s3://b/test", listed(&["test/", "test/dir/", "test/a"]), Some(refused(404, ""))).unwrap(), ["a"]);
    assert_eq!(paths("s3://b/test", listed(&["test/"]), Some(refused(404, ""))).unwrap(), Vec::<String>::new());
}

#[test]
fn one_bad_key_refuses_the_whole_resource_and_is_named() {
    for bad in ["test/../../etc/x", "test//x", "test/./x", "test/a\\b", "test/a\u{1}b"] {
        let error = paths("s3://b/test", listed(&["test/good", bad]), Some(refused(404, ""))).unwrap_err();
        assert!(matches!(error, OriginError::Invalid { .. }), "{error}");
        assert!(error.to_string().contains(&format!("{bad:?}")), "{error}");
    }
}

#[test]
fn a_host_that_cannot_list_gives_the_object_or_says_to_name_files() {
    for listing in
        [|| Err(Fault::NotS3), || refused(404, ""), || refused(403, "AccessDenied"), || Err(Fault::Elsewhere("https://x".into()))]
    {
        assert_eq!(paths("https://h/m.bin", listing(), object_there()).unwrap(), ["m.bin"]);
        for nothing in [Some(refused(404, "")), None] {
            let error = paths("https://h/m.bin", listing(), nothing).unwrap_err();
            assert!(error.to_string().contains("'files'"), "{error}");
        }
    }
}

#[test]
fn nothing_found_is_missing_and_a_refusal_is_told_as_one() {
    assert!(matches!(paths("s3://b/x", listed(&[]), Some(refused(404, ""))), Err(OriginError::Missing { .. })));
    assert!(matches!(paths("s3://b/x", listed(&[]), Some(refused(403, ""))), Err(OriginError::Denied { .. })));
    assert!(matches!(paths("s3://b/x", refused(404, "NoSuchBucket"), Some(refused(404, ""))), Err(OriginError::Missing { .. })));
    let keys = paths("s3://b/x", refused(403, "InvalidAccessKeyId"), Some(refused(403, ""))).unwrap_err();
    assert!(keys.to_string().contains("keys are not accepted"), "{keys}");
}

#[test]
fn a_listing_that_fails_for_a_moment_is_never_taken_for_none() {
    for status in [500, 503, 429] {
        assert!(paths("s3://b/x", refused(status, ""), object_there()).unwrap_err().can_pass());
        assert!(paths("s3://b/x", listed(&["x/a"]), Some(refused(status, ""))).unwrap_err().can_pass());
    }
}
