//! Whole documents are read as the market means them.

use larder_content::{BucketCredentials, BucketResource, OllamaResource, Resource, Secret};
use larder_job::{Kind, Settings, parse, parse_required};

use super::{bucket, model, path};

fn secrets(id: &str, key: &str) -> Option<(Secret, Secret)> {
    Some((Secret::new(id), Secret::new(key)))
}

#[test]
fn a_chat_job_gives_its_entrypoint_its_model_and_its_voice() {
    let job = parse(include_str!("../definitions/serve-chat.json"), &Settings::default()).unwrap();
    assert_eq!((job.ops.len(), job.ops[0].id.as_str(), job.warnings.len()), (1, "chat", 0));
    let entries = &job.ops[0].entries;
    assert_eq!(entries[0].label, "ops[0] \"chat\", resources[0]");
    assert_eq!(entries[0].resources, [bucket("https://models.aspen.example/entrypoint", &[])]);
    assert_eq!(entries[1].resources, [Resource::Ollama(OllamaResource { model: "willow-instruct:7b-q4".into() })]);
    assert_eq!((entries[1].kind, entries[1].target.to_string().as_str()), (Kind::Ollama, "/root/.ollama/models"));
    assert_eq!(entries[2].resources, [Resource::Hub(model("aspen-lab/voice-small", &[]))]);
    assert!(entries.iter().all(|entry| !entry.writable));
    let mounts: Vec<_> = job.layout.mounts.iter().map(|mount| (mount.target.as_written(), mount.folder.as_str())).collect();
    let laid = [("/root/entrypoint", "root/entrypoint"), ("/root/.ollama/models", "root/.ollama/models"), ("/voices/", "voices")];
    assert_eq!(mounts, laid);
}

#[test]
fn files_of_one_repo_for_targets_inside_each_other_are_one_tree() {
    let job = parse(include_str!("../definitions/video-workflow.json"), &Settings::default()).unwrap();
    let loras = ["split_files/loras/steps_high.safetensors", "split_files/loras/steps_low.safetensors"];
    assert_eq!(job.ops[0].entries[2].resources, [Resource::Hub(model("birchworks/film_2.1_repackaged", &loras))]);
    assert_eq!(job.layout.trees.len(), 1);
    assert_eq!(job.layout.trees[0].folder, path("studio/models"));
    let below: Vec<_> = job.layout.trees[0].parts.iter().map(|part| part.below.clone()).collect();
    assert_eq!(below, [Some(path("text_encoders")), Some(path("vae")), None]);
    let folders: Vec<_> = job.layout.mounts.iter().map(|mount| mount.folder.as_str()).collect();
    assert_eq!(folders, ["studio/models/text_encoders", "studio/models/vae", "studio/models"]);
}

#[test]
fn what_one_op_writes_the_next_reads() {
    let job = parse(include_str!("../definitions/fold-and-report.json"), &Settings::default()).unwrap();
    assert_eq!(job.ops.iter().map(|op| op.entries.len()).collect::<Vec<_>>(), [0, 2, 2]);
    assert_eq!(job.resources().len(), 2);
    let mounts: Vec<_> =
        job.layout.mounts.iter().map(|mount| (mount.op, mount.target.as_written(), mount.folder.as_str(), mount.writable)).collect();
    let laid = [
        (1, "/config/", "config", true),
        (1, "/weights", "weights", false),
        (2, "/input", "config", false),
        (2, "/weights/", "weights", false),
    ];
    assert_eq!(mounts, laid);
    assert_eq!(job.layout.trees.len(), 2);
    assert!(job.layout.trees[0].is_writable(&path("any/file")) && !job.layout.trees[1].is_writable(&path("any/file")));
    assert_eq!(job.warnings, [""; 0]);
}

#[test]
fn a_confidential_job_keeps_its_credentials_with_their_resources() {
    let job = parse(include_str!("../definitions/confidential.json"), &Settings::default()).unwrap();
    let entries = &job.ops[0].entries;
    let mut repo = model("elm/secret-weights", &[]);
    repo.revision = Some("8f3c1f0e0d6b4c0f9a3b2d1e5f60718293a4b5c6".into());
    repo.token = Some(Secret::new("hf_elmHUSHtoken"));
    assert_eq!(entries[0].resources, [Resource::Hub(repo)]);
    assert_eq!(entries[0].target.to_string(), "/data-models/secret");
    let keys = BucketCredentials { region: None, keys: secrets("ELMHUSHID", "elmHUSHkey") };
    let url = "https://ac.r2.cloudflarestorage.com/elm-models/adapters".into();
    let adapters = BucketResource { url, bucket: Some("elm-models".into()), files: vec![], credentials: Some(keys) };
    assert_eq!(entries[1].resources, [Resource::Bucket(adapters)]);
    let region = BucketCredentials { region: Some("eu-central-1".into()), keys: None };
    let files = vec![path("a,b.bin"), path("sub/a.bin")];
    let stories = BucketResource { url: "s3://elm-corpus/stories/x".into(), bucket: None, files, credentials: Some(region) };
    assert_eq!(entries[2].resources, [Resource::Bucket(stories)]);
    let small = bucket("https://safetensor.elm.example/Elm+Supported+Small", &["one.safetensors"]);
    assert_eq!(entries[3].resources, [small, bucket("https://safetensor.elm.example/Elm+Supported+Large", &[])]);
    assert!(!format!("{job:?}").contains("HUSH"));
}

#[test]
fn what_an_earlier_op_picks_comes_from_the_caller() {
    let text = include_str!("../definitions/pick-then-run.json");
    let picked = r#"[{"type": "HF", "repo": "fir/%%ops.pick.results.prefix%%", "target": "/a"}, {"type": "Ollama", "model": "fir:1b"}]"#;
    let settings = Settings::from_pairs(["ops.pick.results.prefix=tiny".to_owned(), format!("ops.pick.results.resources_json={picked}")]);
    let job = parse(text, &settings.unwrap()).unwrap();
    let entries = &job.ops[1].entries;
    assert_eq!(entries[0].label, "ops[1] \"run\", resources[1][0]");
    assert_eq!(entries[0].resources, [Resource::Hub(model("fir/tiny", &[]))]);
    assert_eq!(entries[1].resources, [Resource::Ollama(OllamaResource { model: "fir:1b".into() })]);
    assert_eq!(entries[2].resources, [bucket("https://models.fir.example/tiny", &[])]);
    let nothing = Settings::from_pairs(["ops.pick.results.prefix=tiny", "ops.pick.results.resources_json="]).unwrap();
    assert_eq!(parse(text, &nothing).unwrap().ops[1].entries.len(), 1);
    let error = parse(text, &Settings::default()).unwrap_err().to_string();
    let open = "ops[1] \"run\", resources[1], __spread__: the literal \"%%ops.pick.results.resources_json%%\" has no value; \
                only a running job knows it: give it with --set ops.pick.results.resources_json=VALUE";
    assert_eq!(error, open);
}

#[test]
fn a_markets_required_resources_are_read_in_their_own_spelling() {
    let required = parse_required(include_str!("../definitions/required-resources.json")).unwrap();
    let resources: Vec<_> = required.entries.iter().flat_map(|entry| entry.resources.clone()).collect();
    let keys = Some(BucketCredentials { region: None, keys: secrets("idHUSHid", "keyHUSHkey") });
    let private = BucketResource { url: "s3://aspen/x".into(), bucket: None, files: vec![], credentials: keys };
    let expected = [
        bucket("https://models.aspen.example/diffusion/8", &[]),
        Resource::Hub(model("aspen-lab/Agents-4B", &[])),
        Resource::Bucket(private),
        Resource::Ollama(OllamaResource { model: "willow:7b".into() }),
    ];
    assert_eq!(resources, expected);
    assert_eq!(required.entries[1].label, "required_remote_resources[1]");
    assert!(!format!("{required:?}").contains("HUSH"));
}

#[test]
fn either_document_given_as_the_other_is_said_so() {
    let job = include_str!("../definitions/serve-chat.json");
    let required = include_str!("../definitions/required-resources.json");
    assert!(parse(required, &Settings::default()).unwrap_err().to_string().contains("required resources, not a job"));
    assert!(parse_required(job).unwrap_err().to_string().contains("job definition, not a market's"));
}
