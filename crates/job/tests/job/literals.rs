//! Literals and markers are carried out, or refused by name.

use larder_content::Resource;
use larder_job::{Job, JobError, Settings, parse};
use serde_json::{Value, json};

use super::{bucket, model};

fn filled(variables: &Value, resources: &Value, pairs: &[&str]) -> Result<Job, JobError> {
    let definition = json!({"global": {"variables": variables}, "ops": [{"id": "a", "args": {"resources": resources}}]});
    parse(&definition.to_string(), &Settings::from_pairs(pairs).unwrap())
}

fn resources(variables: &Value, resources: &Value, pairs: &[&str]) -> Vec<Resource> {
    filled(variables, resources, pairs).unwrap().resources().into_iter().cloned().collect()
}

fn s3(url: &str) -> Value {
    json!({"type": "S3", "url": url, "target": "/t"})
}

#[test]
fn literals_may_sit_anywhere_in_text_and_in_each_other() {
    let variables = json!({"HOST": "h.example", "PREFIX": "%%globals.variables.KIND%%/v%%global.variables.N%%", "KIND": "flux", "N": 3});
    let url = "https://%%global.variables.HOST%%/%%global.variables.PREFIX%%/%%ops.x y.results.z%%";
    assert_eq!(resources(&variables, &json!([s3(url)]), &["ops.x y.results.z=q"]), [bucket("https://h.example/flux/v3/q", &[])]);
}

#[test]
fn what_the_caller_sets_goes_before_what_the_definition_says() {
    let variables = json!({"M": "org/written"});
    let entry = json!([{"type": "HF", "repo": "%%global.variables.M%%", "target": "/t"}]);
    assert_eq!(resources(&variables, &entry, &["globals.variables.M=org/set"]), [Resource::Hub(model("org/set", &[]))]);
}

#[test]
fn percent_signs_that_are_no_literal_stay() {
    for url in ["https://h/100%%", "https://h/%%%%", "https://h/a%%20b%%20c", "https://h/%% %%", "s3://b/%%é%%", "s3://b/%a%b%"] {
        assert_eq!(resources(&json!({}), &json!([s3(url)]), &[]), [bucket(url, &[])]);
    }
    assert_eq!(resources(&json!({"A": "x"}), &json!([s3("s3://b/%%%%global.variables.A%%%%")]), &[]), [bucket("s3://b/%%x%%", &[])]);
}

#[test]
fn a_literal_that_stays_open_is_named_with_the_setting_that_fills_it() {
    for (literal, advice) in [
        ("%%ops.x.results.y%%", "--set ops.x.results.y=VALUE"),
        ("%%globals.job%%", "--set global.job=VALUE"),
        ("%%global.variables.GONE%%", "add it to global.variables, or give it with --set global.variables.GONE=VALUE"),
        ("%%MODEL%%", "--set MODEL=VALUE"),
    ] {
        let error = filled(&json!({"NOTHING": null}), &json!([s3(&format!("s3://b/{literal}"))]), &[]).unwrap_err();
        assert_eq!((error.op.as_deref(), error.entry.as_deref()), (Some("ops[0] \"a\""), Some("resources[0]")));
        assert_eq!(error.field.as_deref(), Some("url"));
        assert!(error.what.contains(&literal.replace("globals", "global")) && error.advice.contains(advice), "{error}");
    }
}

#[test]
fn literals_outside_the_resources_need_no_value() {
    let definition = json!({"ops": [{"id": "a", "args": {
        "image": "%%ops.x.results.image%%", "env": {"__spread__": "%%ops.x.results.env%%"},
        "resources": [{"type": "HF", "repo": "a/b", "target": "/t", "comment": "%%ops.x.results.comment%%"}]}}]});
    assert_eq!(parse(&definition.to_string(), &Settings::default()).unwrap().resources().len(), 1);
}

#[test]
fn literals_that_stand_for_themselves_are_an_error_that_names_the_circle() {
    let circle = json!({"A": "%%global.variables.B%%", "B": "x%%globals.variables.A%%"});
    let error = filled(&circle, &json!([s3("%%global.variables.A%%")]), &[]).unwrap_err().to_string();
    assert!(error.contains("stands for itself") && error.contains("global.variables.A, global.variables.B"), "{error}");
    let chain: serde_json::Map<_, _> = (0..40)
        .map(|n| (format!("V{n}"), json!(format!("%%global.variables.V{}%%", n + 1))))
        .chain([("V40".to_owned(), json!("x"))])
        .collect();
    let deep = filled(&chain.clone().into(), &json!([s3("%%global.variables.V0%%")]), &[]).unwrap_err().to_string();
    assert!(deep.contains("more than 16 deep"), "{deep}");
    assert_eq!(resources(&chain.into(), &json!([s3("s3://%%global.variables.V30%%")]), &[]), [bucket("s3://x", &[])]);
}

#[test]
fn literals_that_multiply_are_stopped_before_they_fill_the_memory() {
    let bomb: serde_json::Map<_, _> = (0..12)
        .map(|n| (format!("V{n}"), json!(format!("%%global.variables.V{}%%", n + 1).repeat(100))))
        .chain([("V12".to_owned(), json!("x"))])
        .collect();
    let error = filled(&bomb.into(), &json!([s3("%%global.variables.V0%%")]), &[]).unwrap_err().to_string();
    assert!(error.contains("literals grow beyond all bounds"), "{error}");
}

#[test]
fn literals_of_a_short_definition_stay_short_and_those_of_a_long_one_may_be_longer() {
    let doubled: serde_json::Map<_, _> = (0..12)
        .map(|n| (format!("V{n}"), json!(format!("%%global.variables.V{}%%", n + 1).repeat(2))))
        .chain([("V12".to_owned(), json!("x/".repeat(10)))])
        .collect();
    let read = |passed_over: usize| {
        let entry = json!({"type": "S3", "url": "s3://b/%%global.variables.V0%%", "target": "/t", "passed over": "x".repeat(passed_over)});
        filled(&doubled.clone().into(), &json!([entry]), &[])
    };
    assert!(read(0).unwrap_err().to_string().contains("literals grow beyond all bounds"));
    assert!(read(300_000).is_ok());
}

#[test]
fn what_each_of_many_buckets_has_is_short() {
    let buckets: Vec<_> = (0..10_000).map(|n| json!({"url": format!("s3://b/{n}")})).collect();
    let of = |region: usize, key: usize| {
        let iam = json!({"REGION": "x".repeat(region), "ACCESS_KEY_ID": "id", "SECRET_ACCESS_KEY": "x".repeat(key)});
        filled(&json!({}), &json!([{"type": "S3", "buckets": buckets, "target": "/t", "IAM": iam}]), &[])
    };
    assert_eq!(of(9, 4_096).unwrap().resources().len(), 10_000);
    assert!(of(9, 4_097).unwrap_err().to_string().contains("IAM.SECRET_ACCESS_KEY: is longer"));
    assert!(of(256, 9).unwrap_err().to_string().contains("IAM.REGION: is longer"));
}

#[test]
fn a_spread_is_a_list_its_text_its_pieces_or_one_object() {
    let list = json!([s3("s3://b/1"), s3("s3://b/2")]);
    let text = list.to_string();
    let (head, tail) = text.split_at(9);
    let two = [bucket("s3://b/1", &[]), bucket("s3://b/2", &[])];
    let set = format!("ops.x.results.y={text}");
    for spread in [json!(text), list.clone(), json!("%%ops.x.results.y%%"), json!([list])] {
        assert_eq!(resources(&json!({}), &json!([{"__spread__": spread}]), &[&set]), two, "{spread}");
    }
    assert_eq!(resources(&json!({}), &json!([{"__spread__": [head, tail], "chunked": true}]), &[]), two);
    assert_eq!(resources(&json!({}), &json!([{"__spread__": s3("s3://b/1")}]), &[]), two[..1]);
    assert_eq!(resources(&json!({}), &json!(["%%ops.x.results.y%%", []]), &[&set]), two);
    assert_eq!(resources(&json!({}), &json!("%%ops.x.results.y%%"), &[&set]), two);
    let nested = json!([{"__spread__": [{"__spread__": text}]}]);
    assert_eq!(resources(&json!({}), &nested, &[]), two);
    for bad in [json!("[1"), json!("7"), json!(7), json!(null)] {
        let error = filled(&json!({}), &json!([{"__spread__": bad}]), &[]).unwrap_err();
        assert_eq!((error.entry.as_deref(), error.field.as_deref()), (Some("resources[0]"), Some("__spread__")), "{error}");
    }
}

#[test]
fn lists_in_lists_are_flattened_to_a_bounded_depth() {
    let nested = |depth| (0..depth).fold(s3("s3://b/1"), |inner, _| json!([inner]));
    assert_eq!(resources(&json!({}), &nested(16), &[]), [bucket("s3://b/1", &[])]);
    let error = filled(&json!({}), &nested(17), &[]).unwrap_err();
    assert!(error.entry.as_deref() == Some(&format!("resources{}", "[0]".repeat(16))) && error.what.contains("16 deep"), "{error}");
}

#[test]
fn files_take_literals_and_markers_too() {
    let entry = |files: Value| json!([{"type": "HF", "repo": "a/b", "target": "/t", "files": files}]);
    let set = ["ops.x.results.f=[\"q/1\", \"q/2\"]", "ops.x.results.none=", "ops.x.results.one=q/1"];
    let read = |files: Value| resources(&json!({}), &entry(files), &set);
    let both = [Resource::Hub(model("a/b", &["q/1", "q/2"]))];
    assert_eq!(read(json!(["%%ops.x.results.f%%"])), both);
    assert_eq!(read(json!([{"__spread__": "%%ops.x.results.f%%"}])), both);
    assert_eq!(read(json!("%%ops.x.results.f%%")), both);
    assert_eq!(read(json!(["%%ops.x.results.one%%", "q/2", "__remove-if-empty__"])), both);
    for empty in [json!(["__remove-if-empty__", "%%ops.x.results.none%%"]), json!([]), json!(null)] {
        assert_eq!(read(empty), [Resource::Hub(model("a/b", &[]))]);
    }
}

#[test]
fn an_object_spread_gives_an_op_its_resources() {
    let spread = json!({"resources": [s3("s3://b/1")]}).to_string();
    let definition = json!({"ops": [{"id": "a", "args": {"image": "x", "__spread__": "%%ops.x.results.args%%"}}]});
    let settings = Settings::from_pairs([format!("ops.x.results.args={spread}")]).unwrap();
    assert_eq!(parse(&definition.to_string(), &settings).unwrap().resources(), [&bucket("s3://b/1", &[])]);
    let empty = Settings::from_pairs(["ops.x.results.args="]).unwrap();
    assert!(parse(&definition.to_string(), &empty).unwrap().resources().is_empty());
    let list = Settings::from_pairs(["ops.x.results.args=[1]"]).unwrap();
    assert!(parse(&definition.to_string(), &list).unwrap_err().to_string().contains("args.__spread__: is a list"));
}

#[test]
fn markers_alone_leave_an_op_without_resources() {
    let job = filled(&json!({}), &json!(["__remove-if-empty__"]), &[]).unwrap();
    assert!(job.ops[0].entries.is_empty() && job.layout.mounts.is_empty());
}

const SECRET: &str = "hush//../\\<secret>";

/// The error of a job of one entry, which takes the value of `%%ops.x.results.key%%` from `--set`.
fn fault_with_secret(op: &str, entry: &Value, secret: &str) -> String {
    let definition = json!({"ops": [{"id": op, "args": {"resources": [entry]}}]});
    let settings = Settings::from_pairs([format!("ops.x.results.key={secret}")]).unwrap();
    let error = parse(&definition.to_string(), &settings).unwrap_err();
    let shown = format!("{error} {error:?}");
    assert!(!shown.contains("hush") && !shown.contains("secret"), "{shown}");
    error.to_string()
}

#[test]
fn a_value_that_was_set_shows_in_no_error_which_names_its_literal() {
    let literal = "%%ops.x.results.key%%";
    let entry = |field: &str, text: &str| {
        let mut entry = json!({"type": "HF", "repo": "org/name", "target": "/data"});
        entry[field] = json!(text);
        entry
    };
    for (field, text) in [
        ("type", literal.to_owned()),
        ("repo", literal.to_owned()),
        ("url", format!("datasets/{literal}")),
        ("target", literal.to_owned()),
        ("target", format!("/data/{literal}")),
        ("target", format!("/{literal}/../../..")),
    ] {
        let mut entry = entry(field, &text);
        if field == "url" {
            entry["repo"] = json!(null);
        }
        let fault = fault_with_secret("serve", &entry, SECRET);
        let start = format!("ops[0] \"serve\", resources[0], {field}: \"{text}\" is ");
        assert!(fault.starts_with(&start) || fault.starts_with(&start.replace(" is ", " climbs ")), "{fault}");
    }
    let files = |files: Value| json!({"type": "HF", "repo": "org/name", "target": "/data", "files": files});
    let fault = fault_with_secret("serve", &files(json!(["a", literal])), SECRET);
    assert!(fault.contains("files[1]: \"%%ops.x.results.key%%\" is no path"), "{fault}");
    // The op's id is what errors call it by.
    let fault = fault_with_secret(&format!("serve {literal}"), &entry("type", "FTP"), "hush");
    assert!(fault.starts_with("ops[0] \"serve %%ops.x.results.key%%\", resources[0], type: \"FTP\" is no type"), "{fault}");
}

#[test]
fn what_lies_in_a_value_that_was_set_shows_in_no_error() {
    let literal = "%%ops.x.results.key%%";
    let wrong = r#"[{"type": "HF", "repo": "hush/secret/x", "target": "/data"}]"#;
    let at_first = "ops[0] \"serve\", resources[0]";
    for (list, place) in [(json!(literal), "[0]"), (json!({"__spread__": literal}), "[0]"), (json!([literal]), "[0][0]")] {
        let fault = fault_with_secret("serve", &list, wrong);
        assert!(fault.starts_with(&format!("{at_first}{place}, repo: is not the name")), "{fault}");
    }
    let one = r#"{"type": "HF", "repo": "org/name", "target": "hush"}"#;
    let fault = fault_with_secret("serve", &json!({"__spread__": literal}), one);
    assert!(fault.starts_with(&format!("{at_first}, target: is a relative path")), "{fault}");
    let fault = fault_with_secret("serve", &json!({"type": "HF", "repo": "org/name", "files": literal}), r#"["../hush"]"#);
    assert!(fault.starts_with(&format!("{at_first}, files[0]: is no path")), "{fault}");
    let entry = json!({"type": "HF", "repo": literal, "target": "/data"});
    for inner in ["%%hush.secret%%", "%%globals.variables.hush%%", "%%ops.x.results.key%%"] {
        let fault = fault_with_secret("serve", &entry, inner);
        assert!(fault.contains("the literal in the value of \"%%ops.x.results.key%%\""), "{fault}");
    }
    let fault = fault_with_secret("serve", &json!({"__spread__": literal}), "no list, hush");
    assert!(fault.contains("its text is not JSON") || fault.contains("is text"), "{fault}");
}
