//! Each fault does what it says, over real connections.

use std::time::Duration;

use larder_harness::faults::{Fault, Rule, Side};
use larder_harness::hub::HubServer;
use reqwest::Response;
use serde_json::json;

use crate::{bytes, client, fetch, get, header, hub, json, location, with};

const FILE: &str = "models/org/name/model.safetensors";
const SIZE: usize = 3_000_000;

/// Asks for the large file, or a range of it, at the CDN.
async fn read(hub: &HubServer, range: Option<&str>) -> Response {
    let place = location(&fetch(&format!("{}/org/name/resolve/main/model.safetensors", hub.endpoint())).await);
    range.into_iter().fold(get(&place), |request, range| request.header("range", range)).send().await.unwrap()
}

/// What arrives before the body fails, and whether it failed.
async fn drain(mut response: Response) -> (Vec<u8>, bool) {
    let mut body = Vec::new();
    loop {
        match response.chunk().await {
            Ok(Some(piece)) => body.extend_from_slice(&piece),
            Ok(None) => return (body, false),
            Err(_) => return (body, true),
        }
    }
}

fn spoilt(fault: Fault) -> HubServer {
    let hub = hub();
    hub.faults().set(Rule::new(FILE, fault).on(Side::Cdn));
    hub
}

#[tokio::test]
async fn a_status_comes_as_often_as_it_was_asked_for() {
    let hub = spoilt(Fault::Status { code: 503, retry_after: Some(2) });
    hub.faults().clear();
    hub.faults().set(Rule::new(FILE, Fault::Status { code: 503, retry_after: Some(2) }).on(Side::Cdn).times(2));
    for _ in 0..2 {
        let answer = read(&hub, None).await;
        assert_eq!((answer.status().as_u16(), header(&answer, "retry-after")), (503, "2"));
    }
    assert_eq!(read(&hub, None).await.status(), 200);
    assert_eq!(hub.faults().fired(), 2);
}

#[tokio::test]
async fn too_many_requests_names_the_wait() {
    let hub = hub();
    hub.faults().set(Rule::new("/api/models/*", Fault::Status { code: 429, retry_after: None }));
    let answer = fetch(&format!("{}/api/models/org/name", hub.endpoint())).await;
    assert_eq!((answer.status().as_u16(), header(&answer, "ratelimit")), (429, "\"resolvers\";r=0;t=1"));
}

#[tokio::test]
async fn a_cut_ends_the_body_where_it_says() {
    let (body, failed) = drain(read(&spoilt(Fault::Cut { percent: 40 }), None).await).await;
    assert!(failed);
    assert!(body == bytes(SIZE)[..SIZE * 40 / 100], "{}", body.len());
}

#[tokio::test]
async fn a_stall_keeps_the_connection_and_sends_no_more() {
    let hub = spoilt(Fault::Stall { after: 1_000_000 });
    let mut response = read(&hub, None).await;
    let mut arrived = 0;
    while arrived < 1_000_000 {
        arrived += response.chunk().await.unwrap().unwrap().len();
    }
    assert_eq!(arrived, 1_000_000);
    assert!(tokio::time::timeout(Duration::from_millis(200), response.chunk()).await.is_err());
    assert_eq!(hub.counts().file(FILE).body_bytes, 1_000_000);
}

#[tokio::test]
async fn a_flip_changes_one_byte_whichever_range_it_lies_in() {
    let hub = spoilt(Fault::Flip { at: 1_700_000 });
    let mut wrong = bytes(SIZE);
    wrong[1_700_000] ^= 1;
    assert!(drain(read(&hub, None).await).await == (wrong.clone(), false));
    assert!(drain(read(&hub, Some("bytes=1700000-1700009")).await).await.0 == wrong[1_700_000..1_700_010]);
    assert!(drain(read(&hub, Some("bytes=0-1699999")).await).await.0 == wrong[..1_700_000]);
}

#[tokio::test]
async fn a_rewritten_file_has_other_bytes_from_there_on() {
    let hub = spoilt(Fault::Rewrite { from: 1_000_001 });
    let body = drain(read(&hub, None).await).await.0;
    let old = bytes(SIZE);
    assert!(body.len() == SIZE && body[..1_000_001] == old[..1_000_001]);
    assert!(body[1_000_001..].iter().zip(&old[1_000_001..]).all(|(new, old)| new != old));
}

#[tokio::test]
async fn an_ignored_range_brings_the_whole_file_with_200() {
    let answer = read(&spoilt(Fault::IgnoreRange), Some("bytes=5-9")).await;
    assert_eq!((answer.status().as_u16(), header(&answer, "content-range"), header(&answer, "content-length")), (200, "", "3000000"));
    assert!(drain(answer).await == (bytes(SIZE), false));
}

#[tokio::test]
async fn a_wrong_length_is_too_long_or_too_short() {
    let answer = read(&spoilt(Fault::Length { by: 10 }), None).await;
    assert_eq!(header(&answer, "content-length"), "3000010");
    assert!(drain(answer).await == (bytes(SIZE), true));
    let answer = read(&spoilt(Fault::Length { by: -10 }), None).await;
    assert_eq!(header(&answer, "content-length"), "2999990");
    assert!(drain(answer).await.0 == bytes(SIZE)[..SIZE - 10]);
}

#[tokio::test]
async fn headers_can_be_missing_or_wrong() {
    let hub = hub();
    hub.faults().set(Rule::new(FILE, Fault::DropHeader { name: "X-Linked-ETag".into() }).on(Side::Hub));
    hub.faults().set(Rule::new(FILE, Fault::SetHeader { name: "X-Linked-Size".into(), value: "7".into() }).on(Side::Hub));
    let answer = fetch(&format!("{}/org/name/resolve/main/model.safetensors", hub.endpoint())).await;
    assert_eq!((answer.status().as_u16(), header(&answer, "x-linked-etag"), header(&answer, "x-linked-size")), (302, "", "7"));
    assert!(!header(&answer, "x-repo-commit").is_empty());
}

#[tokio::test]
async fn redirects_can_loop_or_lead_astray() {
    let hub = hub();
    let url = format!("{}/org/name/resolve/main/config.json?x=1", hub.endpoint());
    hub.faults().set(Rule::new("*/config.json", Fault::RedirectLoop).times(1));
    assert_eq!(location(&fetch(&url).await), url);
    hub.faults().set(Rule::new("*/config.json", Fault::RedirectTo { url: "http://127.0.0.3:9/elsewhere".into() }));
    assert_eq!(location(&fetch(&url).await), "http://127.0.0.3:9/elsewhere");
}

#[tokio::test]
async fn a_refused_request_gets_no_answer_and_is_written_down() {
    let hub = hub();
    hub.faults().set(Rule::new("*", Fault::Refuse).times(1));
    let url = format!("{}/api/models/org/name", hub.endpoint());
    assert!(get(&url).send().await.is_err());
    let log = hub.counts().snapshot().requests;
    assert_eq!((log[0].status, log[0].spoilt), (0, true));
}

#[tokio::test]
async fn a_slow_body_and_a_slow_origin_keep_to_their_rate() {
    let slow = spoilt(Fault::Slow { bytes_per_second: 1_000_000 });
    let limited = with(|hub| hub.rate(1_000_000));
    for hub in [slow, limited] {
        let started = std::time::Instant::now();
        let (body, failed) = drain(read(&hub, Some("bytes=0-299999")).await).await;
        assert!(!failed && body == bytes(SIZE)[..300_000]);
        assert!(started.elapsed() >= Duration::from_millis(250), "{:?}", started.elapsed());
    }
}

#[tokio::test]
async fn faults_and_counts_can_be_had_over_http() {
    let hub = hub();
    let told = |path: &str, body: serde_json::Value| client().post(format!("{}/_harness/{path}", hub.endpoint())).json(&body).send();
    let rule = json!({"path": "*.safetensors", "fault": {"status": {"code": 500}}, "times": 1, "side": "cdn"});
    assert_eq!(told("faults", rule).await.unwrap().status(), 200);
    assert_eq!(told("faults", json!({"path": "*", "fault": "nonsense"})).await.unwrap().status(), 400);
    assert_eq!(read(&hub, None).await.status(), 500);
    drain(read(&hub, None).await).await;
    let log = json(&format!("{}/_harness/log", hub.endpoint())).await;
    assert_eq!(log["files"][FILE], json!({"requests": 1, "body_bytes": SIZE}));
    assert_eq!((&log["metadata"]["requests"], &log["requests"][1]["status"]), (&json!(3), &json!(500)));
    told("reset", json!({})).await.unwrap();
    let log = json(&format!("{}/_harness/log", hub.endpoint())).await;
    assert_eq!((&log["requests"], &log["content"]["requests"]), (&json!([]), &json!(0)));
}
