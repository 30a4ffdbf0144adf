//! What the hub tells about repositories.

use larder_harness::hub::{HubBuilder, Lie, Repo, Tree};
use serde_json::{Value, json};

use crate::{client, fetch, header, hub, json, location, with};

fn paths(tree: &Value) -> Vec<String> {
    tree.as_array().unwrap().iter().map(|entry| entry["path"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn info_names_the_commit_and_every_file() {
    let hub = hub();
    let info = json(&format!("{}/api/models/org/name", hub.endpoint())).await;
    assert_eq!(info["sha"], hub.commit("models/org/name", "main").unwrap());
    assert_eq!((&info["id"], &info["private"], &info["gated"]), (&json!("org/name"), &json!(false), &json!(false)));
    let files: Vec<&str> = info["siblings"].as_array().unwrap().iter().map(|sibling| sibling["rfilename"].as_str().unwrap()).collect();
    assert_eq!(files, ["a/b/c/deep.txt", "config.json", "empty.txt", "model.safetensors"]);
    let blobs = json(&format!("{}/api/models/org/name/revision/main?blobs=true", hub.endpoint())).await;
    assert_eq!(blobs["siblings"][3]["lfs"]["size"], 3_000_000);
    let some = json(&format!("{}/api/models/org/name?expand[]=sha", hub.endpoint())).await;
    assert_eq!(some.as_object().unwrap().keys().collect::<Vec<_>>(), ["_id", "id", "sha"]);
}

#[tokio::test]
async fn every_way_to_name_a_revision_leads_to_its_commit() {
    let hub = hub();
    let other = hub.commit("models/org/name", "refs/pr/1").unwrap();
    assert_ne!(Some(&other), hub.commit("models/org/name", "main").as_ref());
    for revision in ["feature%2Fx", "refs%2Fpr%2F1", "refs/pr/1", &other, &other[..8]] {
        let info = json(&format!("{}/api/models/org/name/revision/{revision}", hub.endpoint())).await;
        assert_eq!(info["sha"], *other, "{revision}");
        let tree = json(&format!("{}/api/models/org/name/tree/{revision}", hub.endpoint())).await;
        assert_eq!(paths(&tree), ["config.json"], "{revision}");
    }
}

#[tokio::test]
async fn a_tree_has_folders_true_ids_and_lfs() {
    let hub = hub();
    let tree = json(&format!("{}/api/models/org/name/tree/main", hub.endpoint())).await;
    assert_eq!(paths(&tree), ["a", "config.json", "empty.txt", "model.safetensors"]);
    assert_eq!((&tree[0]["type"], &tree[0]["size"]), (&json!("directory"), &json!(0)));
    // What `printf '{}' | git hash-object --stdin` prints.
    assert_eq!(tree[1]["oid"], "9e26dfeeb6e641a33dae4961196235bdb965b21b");
    let model = &hub.files("models/org/name", "main")[3];
    assert_eq!(tree[3]["lfs"]["oid"], *model.sha256.as_ref().unwrap());
    assert_eq!(tree[3]["xetHash"], *model.xet.as_ref().unwrap());
    let all = json(&format!("{}/api/models/org/name/tree/main?recursive=True", hub.endpoint())).await;
    assert_eq!(paths(&all)[..4], ["a", "a/b", "a/b/c", "a/b/c/deep.txt"]);
    let below = json(&format!("{}/api/models/org/name/tree/main/a%2Fb", hub.endpoint())).await;
    assert_eq!(paths(&below), ["a/b/c"]);
    let missing = fetch(&format!("{}/api/models/org/name/tree/main/nothing", hub.endpoint())).await;
    assert_eq!((missing.status().as_u16(), header(&missing, "x-error-code")), (404, "EntryNotFound"));
}

#[tokio::test]
async fn without_xet_no_hash_of_it_is_told() {
    let hub = with(|hub| hub.xet(false));
    let tree = json(&format!("{}/api/models/org/name/tree/main", hub.endpoint())).await;
    assert!(tree[3]["lfs"].is_object() && tree[3].get("xetHash").is_none());
    let answer = fetch(&format!("{}/org/name/resolve/main/model.safetensors", hub.endpoint())).await;
    assert_eq!((answer.status().as_u16(), header(&answer, "x-xet-hash"), header(&answer, "link")), (302, "", ""));
}

#[tokio::test]
async fn pages_follow_one_another_by_absolute_links() {
    let repo = Repo::dataset("org/many").at("main", Tree::synthetic(25, 3));
    let hub = HubBuilder::new().repo(repo).page_size(10).start().unwrap();
    let mut next = Some(format!("{}/api/datasets/org/many/tree/main?recursive=true", hub.endpoint()));
    let (mut seen, mut pages) = (Vec::new(), 0);
    while let Some(url) = next.take() {
        let answer = fetch(&url).await;
        let link = header(&answer, "link").to_owned();
        next = link.strip_suffix(">; rel=\"next\"").map(|link| link.trim_start_matches('<').to_owned());
        assert!(next.as_ref().is_none_or(|next| next.starts_with(hub.endpoint())), "{link}");
        seen.extend(paths(&answer.json().await.unwrap()));
        pages += 1;
    }
    // 25 files and their folder.
    assert_eq!((pages, seen.len()), (3, 26));
    seen.dedup();
    assert_eq!(seen.len(), 26);
}

#[tokio::test]
async fn paths_info_takes_forms_and_json_and_drops_what_is_missing() {
    let hub = hub();
    let url = format!("{}/api/models/org/name/paths-info/main", hub.endpoint());
    let form = "paths=config.json&paths=nothing&paths=a%2Fb&expand=false";
    let asked = [
        client().post(&url).header("content-type", "application/x-www-form-urlencoded").body(form),
        client().post(&url).json(&json!({"paths": ["config.json", "nothing", "a/b"]})),
    ];
    for request in asked {
        let found: Value = request.send().await.unwrap().json().await.unwrap();
        assert_eq!(paths(&found), ["config.json", "a/b"]);
    }
}

#[tokio::test]
async fn a_renamed_repository_redirects_and_keeps_the_query() {
    let hub = hub();
    let answer = fetch(&format!("{}/api/models/old/name/tree/main?recursive=true", hub.endpoint())).await;
    assert_eq!((answer.status().as_u16(), header(&answer, "location")), (307, "/api/models/org/name/tree/main?recursive=true"));
    let answer = fetch(&format!("{}/old/name/resolve/main/a/b/c/deep.txt", hub.endpoint())).await;
    assert_eq!(location(&answer), format!("{}/org/name/resolve/main/a/b/c/deep.txt", hub.endpoint()));
}

#[tokio::test]
async fn a_listing_may_hold_paths_and_facts_that_no_honest_one_would() {
    let long = "x".repeat(300);
    let tree = ["../x", "/abs", "", "a\0b", &long].iter().fold(Tree::new(), |tree, path| tree.file(path, "bad"));
    let sha256 = "0".repeat(64);
    let tree = tree.file("m.bin", "true").lie("m.bin", Lie::Sha256(sha256.clone())).lie("m.bin", Lie::Size(7));
    let hub = HubBuilder::new().repo(Repo::model("bad").at("main", tree)).start().unwrap();
    let listed = json(&format!("{}/api/models/bad/tree/main?recursive=true", hub.endpoint())).await;
    assert_eq!(paths(&listed), ["", "../x", "/abs", "a\0b", "m.bin", &long]);
    assert_eq!((&listed[4]["lfs"]["oid"], &listed[4]["size"]), (&json!(sha256), &json!(7)));
    assert_eq!(hub.files("models/bad", "main")[4].size, 4);
}

#[tokio::test]
async fn a_push_moves_the_branch_and_leaves_the_old_commit_readable() {
    let hub = hub();
    let before = hub.commit("models/org/name", "main").unwrap();
    hub.publish(Repo::model("org/name").at("main", Tree::new().file("new.txt", "new"))).unwrap();
    assert_eq!(paths(&json(&format!("{}/api/models/org/name/tree/main", hub.endpoint())).await), ["new.txt"]);
    assert_eq!(paths(&json(&format!("{}/api/models/org/name/tree/{before}", hub.endpoint())).await).len(), 4);
    assert!(hub.remove("models/org/name"));
    assert_eq!(fetch(&format!("{}/api/models/org/name", hub.endpoint())).await.status(), 401);
}
