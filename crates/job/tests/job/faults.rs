//! Bad input is refused with its place, its fault and what to do; odd input is read as the market reads it.

use larder_content::{BucketCredentials, HubKind, Resource, Secret};
use larder_job::{Settings, parse, parse_required};
use serde_json::{Value, json};

use super::{bucket, entry_of, job_of, model};

/// Whether the error for `resource` is in `field` and says `what`.
fn refused(resource: &Value, field: &str, what: &str) {
    let error = entry_of(resource).unwrap_err();
    assert_eq!(error.op.as_deref(), Some("ops[0] \"only\""), "{error}");
    assert_eq!(error.entry.as_deref(), Some("resources[0]"), "{error}");
    assert_eq!(error.field.as_deref(), Some(field), "{error}");
    let text = error.to_string();
    assert!(text.contains(what) && !error.advice.is_empty(), "{text}");
    assert!(!text.contains("HUSH"), "{text}");
}

#[test]
fn text_that_is_not_json_is_refused_with_line_and_column() {
    let whole = include_str!("../definitions/serve-chat.json");
    let error = parse(&whole[..whole.len() / 2], &Settings::default()).unwrap_err().to_string();
    assert!(error.contains("not JSON") && error.contains(" at line ") && error.contains(" column "), "{error}");
    let error = parse("{\"ops\": [}", &Settings::default()).unwrap_err().to_string();
    assert!(error.contains("line 1 column 10"), "{error}");
    for bad in ["", "[", "nul", "{\"ops\":", &"[".repeat(100_000)] {
        assert!(parse(bad, &Settings::default()).is_err() && parse_required(bad).is_err());
    }
    assert_eq!(parse("\u{feff}{\"ops\": []}", &Settings::default()).unwrap().ops, []);
}

#[test]
fn json_that_is_no_job_is_refused() {
    for bad in ["null", "7", "\"x\"", "[]", "{}", "{\"ops\": 7}", "{\"ops\": null}", "{\"ops\": {}}"] {
        let error = parse(bad, &Settings::default()).unwrap_err();
        assert_eq!(error.field.as_deref(), Some("ops"), "{error}");
        assert!(parse_required(bad).is_err());
    }
    for (op, field) in [
        (json!(7), None),
        (json!({}), Some("id")),
        (json!({"id": ""}), Some("id")),
        (json!({"id": 7}), Some("id")),
        (json!({"id": "a", "args": "x"}), Some("args")),
        (json!({"id": "a", "args": {"resources": {}}}), Some("args.resources")),
        (json!({"id": "a", "args": {"resources": "x"}}), Some("args.resources")),
    ] {
        let error = parse(&json!({"ops": [{"id": "b"}, op]}).to_string(), &Settings::default()).unwrap_err();
        assert!(error.op.as_deref().is_some_and(|label| label.starts_with("ops[1]")), "{error}");
        assert_eq!(error.field.as_deref(), field, "{error}");
    }
    let twice = job_of(&[("a", json!([])), ("a", json!([]))]).unwrap_err().to_string();
    assert!(twice.contains("ops[1] \"a\", id: is the id of an earlier op"), "{twice}");
}

#[test]
fn entries_without_a_known_type_are_refused() {
    refused(&json!({"type": "GCS", "target": "/t"}), "type", "\"GCS\" is no type of resource; the known types are HF, S3 and Ollama");
    refused(&json!({"target": "/t"}), "type", "missing");
    refused(&json!({"type": 7}), "type", "a number");
    let text = job_of(&[("a", json!(["S3"]))]).unwrap_err().to_string();
    assert_eq!(text, "ops[0] \"a\", resources[0]: is text; write an object in curly brackets");
}

#[test]
fn targets_that_are_no_place_in_the_container_are_refused() {
    for (target, what) in [("data", "relative"), ("", "empty"), ("/", "root"), ("/../x", "climbs"), ("/a\u{0}b", "control")] {
        refused(&json!({"type": "HF", "repo": "a/b", "target": target}), "target", what);
    }
    refused(&json!({"type": "S3", "url": "s3://b"}), "target", "missing");
    refused(&json!({"type": "S3", "url": "s3://b", "target": ["/t"]}), "target", "a list");
    let entry = entry_of(&json!({"type": "S3", "url": "s3://b", "target": "/root/../data-models/"})).unwrap();
    assert_eq!((entry.target.to_string().as_str(), entry.target.as_written()), ("/data-models", "/root/../data-models/"));
}

#[test]
fn files_that_are_no_path_below_the_resource_are_refused() {
    let long = "x".repeat(300);
    for bad in ["../x", "/abs", "", "a/./b", "a\\b", "a\nb", "a//b", "a/", &long, &"x/".repeat(10_000)] {
        refused(&json!({"type": "S3", "url": "s3://b", "target": "/t", "files": ["ok", bad]}), "files[1]", "");
        refused(&json!({"type": "HF", "repo": "a/b", "target": "/t", "files": [bad]}), "files[0]", "");
    }
    refused(&json!({"type": "S3", "target": "/t", "buckets": [{"url": "s3://b", "files": ["../x"]}]}), "buckets[0].files[0]", "..");
    refused(&json!({"type": "HF", "repo": "a/b", "target": "/t", "files": [7]}), "files[0]", "a number");
    refused(&json!({"type": "HF", "repo": "a/b", "target": "/t", "files": "x"}), "files", "is text");
}

#[test]
fn a_repository_is_a_name_and_may_say_its_kind() {
    let hub = |repo: &str| {
        let entry = entry_of(&json!({"type": "HF", "repo": repo, "target": "/t"})).unwrap();
        let [Resource::Hub(hub)] = &entry.resources[..] else { panic!("{entry:?}") };
        (hub.kind, hub.repo.to_string())
    };
    assert_eq!(hub("gpt2"), (HubKind::Model, "gpt2".into()));
    assert_eq!(hub("datasets/org/name"), (HubKind::Dataset, "org/name".into()));
    assert_eq!(hub("spaces/org/name"), (HubKind::Space, "org/name".into()));
    assert_eq!(hub("models/org/name"), (HubKind::Model, "org/name".into()));
    for bad in ["a/b/c", "a b", "../x", "datasets/", "org/name@main"] {
        refused(&json!({"type": "HF", "repo": bad, "target": "/t"}), "repo", "is not the name of a repository");
    }
    refused(&json!({"type": "HF", "repo": "", "target": "/t"}), "repo", "missing");
    refused(&json!({"type": "HF", "url": "https://u:HUSH@hf.example/a/b", "target": "/t"}), "url", "an address");
    refused(&json!({"type": "HF", "repo": "a/b", "accessToken": 7, "target": "/t"}), "accessToken", "a number");
    refused(&json!({"type": "Ollama", "model": " "}), "model", "missing");
    let both = entry_of(&json!({"type": "HF", "repo": "a/b", "url": "c/d", "target": "/t"})).unwrap();
    assert_eq!(both.resources, [Resource::Hub(model("a/b", &[]))]);
}

#[test]
fn an_s3_entry_needs_a_url_or_buckets() {
    let entry = |more: Value| {
        let mut entry = json!({"type": "S3", "target": "/t"});
        entry.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        entry
    };
    for bad in [json!({}), json!({"url": " "}), json!({"buckets": []}), json!({"bucket": "b"}), json!({"url": null})] {
        refused(&entry(bad), "url", "missing");
    }
    refused(&entry(json!({"buckets": [{"url": "s3://b"}, {}]})), "buckets[1].url", "missing");
    refused(&entry(json!({"buckets": ["s3://b"]})), "buckets[0]", "is text");
    refused(&entry(json!({"url": 7})), "url", "a number");
    refused(&entry(json!({"url": "s3://b", "allowWrite": "maybe"})), "allowWrite", "is text");
    assert_eq!(entry_of(&entry(json!({"url": "s3://b", "files": []}))).unwrap().resources, [bucket("s3://b", &[])]);
    let job = job_of(&[("a", json!([entry(json!({"url": "s3://u", "buckets": [{"url": "s3://b"}]}))]))]).unwrap();
    assert_eq!(job.resources(), [&bucket("s3://u", &[])]);
    assert_eq!(job.warnings, ["ops[0] \"a\", resources[0]: it has a url and buckets: the buckets are passed over"]);
    let job = job_of(&[("a", json!([entry(json!({"files": ["x"], "buckets": [{"url": "s3://b"}]}))]))]).unwrap();
    assert_eq!((job.resources(), job.warnings.len()), (vec![&bucket("s3://b", &[])], 1));
}

#[test]
fn credentials_are_whole_or_none() {
    let credentials = |iam: Value| {
        let entry = entry_of(&json!({"type": "S3", "url": "s3://b", "target": "/t", "IAM": iam})).unwrap();
        let [Resource::Bucket(bucket)] = &entry.resources[..] else { panic!("{entry:?}") };
        bucket.credentials.clone()
    };
    for none in [json!(null), json!({}), json!({"REGION": "", "ACCESS_KEY_ID": "", "SECRET_ACCESS_KEY": ""}), json!({"region": null})] {
        assert_eq!(credentials(none), None);
    }
    let region = Some(BucketCredentials { region: Some("r".into()), keys: None });
    assert_eq!(credentials(json!({"REGION": "r"})), region);
    let keys = Some(BucketCredentials { region: None, keys: Some((Secret::new("i"), Secret::new("k"))) });
    assert_eq!(credentials(json!({"ACCESS_KEY_ID": "i", "secret_access_key": "k"})), keys.clone());
    assert_eq!(credentials(json!({"ACCESS_KEY_ID": "i", "access_key_id": "i", "SECRET_ACCESS_KEY": "k"})), keys);
    let s3 = |iam: Value| json!({"type": "S3", "url": "s3://b?HUSH", "target": "/t", "IAM": iam});
    refused(&s3(json!({"ACCESS_KEY_ID": "HUSH"})), "IAM.SECRET_ACCESS_KEY", "missing");
    refused(&s3(json!({"secret_access_key": "HUSH"})), "IAM.ACCESS_KEY_ID", "missing");
    refused(&s3(json!({"ACCESS_KEY_ID": "HUSH1", "access_key_id": "HUSH2"})), "IAM.ACCESS_KEY_ID", "differ");
    refused(&s3(json!({"ACCESS_KEY_ID": ["HUSH"]})), "IAM.ACCESS_KEY_ID", "a list");
    refused(&s3(json!("HUSH")), "IAM", "is text");
}

#[test]
fn only_s3_can_be_written() {
    let job = job_of(&[("a", json!([{"type": "HF", "repo": "a/b", "target": "/t", "allowWrite": true}]))]).unwrap();
    assert!(!job.layout.mounts[0].writable && job.warnings[0].contains("S3 only"), "{:?}", job.warnings);
    let s3 = |allow: Value| entry_of(&json!({"type": "S3", "url": "s3://b", "target": "/t", "allowWrite": allow})).unwrap().writable;
    assert!(s3(json!(true)) && s3(json!("true")) && !s3(json!(false)) && !s3(json!("")) && !s3(json!(null)));
}

#[test]
fn input_is_bounded() {
    let padded = format!("{{\"ops\": []}}{}", " ".repeat(5 << 20));
    assert!(parse(&padded, &Settings::default()).unwrap_err().to_string().contains("more than the 4194304"));
    let entry = json!({"type": "S3", "url": "s3://b", "target": "/t"});
    assert_eq!(job_of(&[("a", vec![entry.clone(); 10_000].into())]).unwrap().ops[0].entries.len(), 10_000);
    let many = job_of(&[("a", vec![entry.clone(); 6_000].into()), ("b", vec![entry; 6_000].into())]).unwrap_err().to_string();
    assert!(many.contains("more than 10000 resources"), "{many}");
}
