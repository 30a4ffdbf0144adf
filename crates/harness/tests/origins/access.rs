//! Who is told what, in the hub's own words.

use larder_harness::hub::{HubBuilder, HubServer, Repo, Tree};
use reqwest::Response;

use crate::{get, header};

fn hub() -> HubServer {
    let tree = || Tree::new().file("f.txt", "content").file("m.bin", "weights");
    HubBuilder::new()
        .repo(Repo::model("org/open").at("main", tree()))
        .repo(Repo::model("org/private").at("main", tree()).private())
        .repo(Repo::dataset("org/gated").at("main", tree()).gated())
        .repo(Repo::space("org/down").at("main", tree()).disabled())
        .token("hf_reader")
        .token_without_access("hf_stranger")
        .start()
        .unwrap()
}

async fn ask(hub: &HubServer, path: &str, token: Option<&str>) -> Response {
    let request = get(&format!("{}/{path}", hub.endpoint()));
    token.into_iter().fold(request, |request, token| request.bearer_auth(token)).send().await.unwrap()
}

#[tokio::test]
async fn errors_are_those_of_the_real_hub() {
    let hub = hub();
    let (reader, stranger) = (Some("hf_reader"), Some("hf_stranger"));
    for (path, token, status, code, message) in [
        ("org/open/resolve/main/no.txt", None, 404, "EntryNotFound", "Entry not found"),
        ("org/open/resolve/no/f.txt", None, 404, "RevisionNotFound", "Invalid rev id: no"),
        ("api/models/org/open/revision/no", None, 404, "RevisionNotFound", "Invalid rev id: no"),
        ("api/models/org/none", None, 401, "", "Invalid username or password."),
        ("api/models/org/none", stranger, 404, "RepoNotFound", "Repository not found"),
        ("org/none/resolve/main/f.txt", None, 401, "", "Invalid username or password."),
        ("api/models/org/private", None, 401, "", "Invalid username or password."),
        ("api/models/org/private", stranger, 404, "RepoNotFound", "Repository not found"),
        ("org/private/resolve/main/f.txt", stranger, 404, "RepoNotFound", "Repository not found"),
        ("api/models/org/open", Some("hf_wrong"), 401, "", "Invalid credentials in Authorization header"),
        ("api/spaces/org/down", reader, 403, "", "Access to this resource is disabled."),
    ] {
        let answer = ask(&hub, path, token).await;
        let found = (answer.status().as_u16(), header(&answer, "x-error-code"), header(&answer, "x-error-message"));
        assert_eq!(found, (status, code, message), "{path} {token:?}");
        assert!(!header(&answer, "ratelimit").is_empty());
    }
    let missing = ask(&hub, "org/open/resolve/main/no.txt", None).await;
    assert_eq!(header(&missing, "x-repo-commit"), hub.commit("models/org/open", "main").unwrap());
    assert_eq!(missing.text().await.unwrap(), "Entry not found");
}

#[tokio::test]
async fn a_gated_repository_is_listed_for_all_and_read_by_those_let_in() {
    let hub = hub();
    for path in ["api/datasets/org/gated", "api/datasets/org/gated/tree/main"] {
        assert_eq!(ask(&hub, path, None).await.status(), 200, "{path}");
    }
    let commit = hub.commit("datasets/org/gated", "main").unwrap();
    let cached = format!("api/resolve-cache/datasets/org/gated/{commit}/f.txt");
    for path in ["datasets/org/gated/resolve/main/f.txt", "datasets/org/gated/resolve/main/m.bin", &cached] {
        let anonymous = ask(&hub, path, None).await;
        assert_eq!((anonymous.status().as_u16(), header(&anonymous, "x-error-code")), (401, "GatedRepo"), "{path}");
        assert!(header(&anonymous, "www-authenticate").starts_with("Bearer realm"));
        let stranger = ask(&hub, path, Some("hf_stranger")).await;
        assert_eq!((stranger.status().as_u16(), header(&stranger, "x-error-code")), (403, "GatedRepo"), "{path}");
        assert!(ask(&hub, path, Some("hf_reader")).await.status().as_u16() < 400, "{path}");
    }
}

#[tokio::test]
async fn a_private_repository_opens_to_a_token_with_access() {
    let hub = hub();
    assert_eq!(ask(&hub, "api/models/org/private", Some("hf_reader")).await.status(), 200);
    assert_eq!(ask(&hub, "api/whoami-v2", None).await.status(), 401);
    assert_eq!(ask(&hub, "api/whoami-v2", Some("hf_stranger")).await.status(), 200);
    let log = hub.counts().snapshot();
    assert_eq!(log.requests.iter().map(|exchange| exchange.authorized).collect::<Vec<_>>(), [true, false, true]);
}
