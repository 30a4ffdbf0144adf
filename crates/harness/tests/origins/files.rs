//! How files are read from the hub and its CDN.

use std::time::Duration;

use larder_harness::counts::Tally;
use larder_harness::hub::{HubBuilder, Repo, Tree};

use crate::{DEADLINE, bytes, client, fetch, get, header, hub, location, with};

const MODEL: &str = "org/name/resolve/main/model.safetensors";

#[tokio::test]
async fn a_large_file_lies_at_the_cdn_under_a_signed_url() {
    let hub = hub();
    let answer = fetch(&format!("{}/{MODEL}", hub.endpoint())).await;
    let facts = &hub.files("models/org/name", "main")[3];
    assert_eq!(answer.status(), 302);
    assert_eq!(header(&answer, "x-linked-etag"), format!("\"{}\"", facts.sha256.as_ref().unwrap()));
    assert_eq!(header(&answer, "x-linked-size"), "3000000");
    assert_eq!(header(&answer, "x-xet-hash"), facts.xet.as_ref().unwrap());
    assert_eq!(header(&answer, "x-repo-commit"), hub.commit("models/org/name", "main").unwrap());
    let place = location(&answer);
    assert!(place.starts_with(hub.cdn_endpoint()) && place.starts_with("http://127.0.0.2:"), "{place}");
    let content = fetch(&place).await;
    assert_eq!(header(&content, "etag"), format!("\"{}\"", facts.xet.as_ref().unwrap()));
    assert_eq!(header(&content, "x-repo-commit"), "");
    assert!(content.bytes().await.unwrap() == bytes(3_000_000));
    assert_eq!(fetch(&place.replace("Signature=", "Signature=0")).await.status(), 403);
    assert_eq!(get(&place).bearer_auth("hf_leaked").send().await.unwrap().status(), 400);
}

#[tokio::test]
async fn a_signed_url_expires() {
    let hub = with(|hub| hub.url_seconds(0));
    let place = location(&fetch(&format!("{}/{MODEL}", hub.endpoint())).await);
    assert_eq!(fetch(&place).await.status(), 403);
}

#[tokio::test]
async fn a_small_file_is_one_relative_redirect_away_or_none() {
    let hub = hub();
    let answer = fetch(&format!("{}/org/name/resolve/main/a/b/c/deep.txt", hub.endpoint())).await;
    assert_eq!(answer.status(), 307);
    assert!(header(&answer, "location").starts_with("/api/resolve-cache/models/org/name/"));
    let content = fetch(&location(&answer)).await;
    let oid = &hub.files("models/org/name", "main")[0].git_oid;
    assert_eq!(header(&content, "etag"), format!("\"{oid}\""));
    assert_eq!(header(&content, "x-repo-commit"), hub.commit("models/org/name", "main").unwrap());
    assert_eq!(content.text().await.unwrap(), "deep");

    let direct = with(|hub| hub.direct(true));
    let content = fetch(&format!("{}/org/name/resolve/main/a/b/c/deep.txt", direct.endpoint())).await;
    assert_eq!((content.status().as_u16(), header(&content, "content-length")), (200, "4"));
}

#[tokio::test]
async fn head_tells_the_length_and_sends_nothing() {
    let hub = with(|hub| hub.direct(true));
    let answer = client().head(format!("{}/org/name/resolve/main/config.json", hub.endpoint())).send().await.unwrap();
    assert_eq!((answer.status().as_u16(), header(&answer, "content-length")), (200, "2"));
    assert_eq!(hub.counts().content(), Tally::default());
    assert_eq!(hub.counts().metadata(), Tally { requests: 1, body_bytes: 0 });
}

#[tokio::test]
async fn what_a_client_has_is_not_sent_again() {
    let hub = hub();
    let etag = format!("\"{}\"", hub.files("models/org/name", "main")[1].git_oid);
    let url = format!("{}/org/name/resolve/main/config.json", hub.endpoint());
    assert_eq!(get(&url).header("if-none-match", &etag).send().await.unwrap().status(), 304);
    assert_eq!(get(&url).header("if-none-match", "\"other\"").send().await.unwrap().status(), 307);
}

#[tokio::test]
async fn ranges_are_served_clamped_and_refused() {
    let hub = hub();
    let place = location(&fetch(&format!("{}/{MODEL}", hub.endpoint())).await);
    let whole = bytes(3_000_000);
    for (range, start, end) in [
        ("bytes=0-0", 0, 1),
        ("bytes=5-1999999", 5, 2_000_000),
        ("bytes=2999990-9999999", 2_999_990, 3_000_000),
        ("bytes=-7", 2_999_993, 3_000_000),
    ] {
        let answer = get(&place).header("range", range).send().await.unwrap();
        assert_eq!(answer.status(), 206, "{range}");
        assert_eq!(header(&answer, "content-range"), format!("bytes {start}-{}/3000000", end - 1));
        assert_eq!(header(&answer, "content-length"), (end - start).to_string());
        assert!(answer.bytes().await.unwrap() == whole[start..end], "{range}");
    }
    let outside = get(&place).header("range", "bytes=3000000-").send().await.unwrap();
    assert_eq!((outside.status().as_u16(), header(&outside, "content-range")), (416, "bytes */3000000"));
    let empty = location(&fetch(&format!("{}/org/name/resolve/main/empty.txt", hub.endpoint())).await);
    assert_eq!(get(&empty).header("range", "bytes=0-0").send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn odd_names_single_names_and_other_kinds_are_served() {
    let tree =
        || ["sp ace.txt", "ha#sh?.txt", "br[1].txt", "ü/é%.txt"].iter().fold(Tree::new(), |tree, path| tree.file(path, path.to_string()));
    let repos = [Repo::model("gpt2"), Repo::dataset("org/data"), Repo::space("org/app")];
    let hub = repos.into_iter().fold(HubBuilder::new(), |hub, repo| hub.repo(repo.at("main", tree()))).start().unwrap();
    for prefix in ["gpt2", "datasets/org/data", "spaces/org/app"] {
        for (path, encoded) in [
            ("sp ace.txt", "sp%20ace.txt"),
            ("ha#sh?.txt", "ha%23sh%3F.txt"),
            ("br[1].txt", "br[1].txt"),
            ("ü/é%.txt", "%C3%BC/%C3%A9%25.txt"),
        ] {
            let answer = fetch(&format!("{}/{prefix}/resolve/main/{encoded}", hub.endpoint())).await;
            assert_eq!(fetch(&location(&answer)).await.text().await.unwrap(), path, "{prefix}");
        }
    }
}

#[tokio::test]
async fn bytes_are_counted_by_file_and_only_as_far_as_they_were_sent() {
    let hub = HubBuilder::new().repo(Repo::model("o/n").at("main", Tree::new().generated("big.bin", 200_000_000))).start().unwrap();
    let place = location(&fetch(&format!("{}/o/n/resolve/main/big.bin", hub.endpoint())).await);
    get(&place).header("range", "bytes=10-19").send().await.unwrap().bytes().await.unwrap();
    assert_eq!(hub.counts().file("models/o/n/big.bin"), Tally { requests: 1, body_bytes: 10 });
    let mut cancelled = fetch(&place).await;
    cancelled.chunk().await.unwrap();
    drop(cancelled);
    let mut last = 0;
    let still = async {
        loop {
            tokio::time::sleep(Duration::from_millis(50)).await;
            let sent = hub.counts().file("models/o/n/big.bin").body_bytes;
            if sent == last {
                break;
            }
            last = sent;
        }
    };
    tokio::time::timeout(DEADLINE, still).await.unwrap();
    assert!((11..100_000_000).contains(&last), "{last}");
}

#[test]
fn a_hub_may_be_used_and_dropped_without_a_runtime() {
    let hub = hub();
    let address = hub.endpoint().trim_start_matches("http://").to_owned();
    std::net::TcpStream::connect(&address).unwrap();
    drop(hub);
    let deadline = std::time::Instant::now() + DEADLINE;
    while std::net::TcpStream::connect(&address).is_ok() {
        assert!(std::time::Instant::now() < deadline, "it still listens");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[tokio::test]
async fn the_sha256_of_every_file_is_told_whatever_lists_it() {
    let hub = hub();
    let told = hub.sha256s("models/org/name", "main").unwrap();
    let files = [
        ("config.json", b"{}".to_vec()),
        ("model.safetensors", bytes(3_000_000)),
        ("a/b/c/deep.txt", b"deep".to_vec()),
        ("empty.txt", vec![]),
    ];
    let right = files.map(|(path, bytes)| (path.to_owned(), hex::encode(<sha2::Sha256 as sha2::Digest>::digest(bytes))));
    assert_eq!(told, right.into());
    assert!(hub.sha256s("models/org/name", "nothing").unwrap().is_empty());
}

#[tokio::test]
async fn a_hub_of_small_buffers_sends_the_same_and_counts_it() {
    let hub = with(|hub| hub.buffer_bytes(1));
    let answer = fetch(&location(&fetch(&format!("{}/org/name/resolve/main/model.safetensors", hub.endpoint())).await)).await;
    assert_eq!(answer.bytes().await.unwrap(), bytes(3_000_000));
    assert_eq!(hub.counts().content().body_bytes, 3_000_000);
}
