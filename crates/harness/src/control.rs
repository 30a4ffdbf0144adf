//! What a running origin is told over HTTP, below `/_harness/`.

use bytes::Bytes;
use http::{Method, Response, StatusCode};
use serde::Deserialize;
use serde_json::json;

use crate::answer::{Answer, Desk, Payload, full, respond};
use crate::faults::Rule;
use crate::serve::Body;

/// Where the harness' own paths begin.
pub(crate) const PREFIX: &str = "/_harness/";

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMore {
    More(Vec<Rule>),
    One(Rule),
}

/// Answers a request below [`PREFIX`]; `target` is its path and query. It is counted nowhere.
pub(crate) fn control(desk: &Desk, method: &Method, target: &str, body: &Bytes) -> Response<Body> {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let done = || Answer::json(StatusCode::OK, &json!({"ok": true}));
    let answer = match (method.as_str(), path.trim_start_matches(PREFIX)) {
        ("GET", "log") => {
            let mut snapshot = desk.counts.snapshot();
            if query.contains("requests=false") {
                snapshot.requests.clear();
            }
            Answer::json(StatusCode::OK, &serde_json::to_value(snapshot).unwrap_or_default())
        }
        ("POST", "faults") => match serde_json::from_slice::<OneOrMore>(body) {
            Ok(OneOrMore::More(rules)) => {
                rules.into_iter().for_each(|rule| desk.faults.set(rule));
                done()
            }
            Ok(OneOrMore::One(rule)) => {
                desk.faults.set(rule);
                done()
            }
            Err(_) => {
                let example = r#"{"path":"*model.bin","fault":{"cut":{"percent":40}},"times":1,"side":"cdn"}"#;
                Answer::text(StatusCode::BAD_REQUEST, format!("That is no rule and no list of rules. A rule is written {example}\n"))
            }
        },
        ("POST", "reset") => {
            desk.counts.reset();
            desk.faults.clear();
            done()
        }
        _ => Answer::text(StatusCode::NOT_FOUND, "There are: GET /_harness/log, POST /_harness/faults, POST /_harness/reset\n"),
    };
    let text = match answer.payload {
        Payload::Text(text) => text,
        Payload::Content { .. } => Bytes::new(),
    };
    respond(answer.status, answer.headers, full(text))
}
