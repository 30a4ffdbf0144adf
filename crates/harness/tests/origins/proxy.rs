//! The proxy counts and spoils what real servers send, and changes nothing else.

use std::time::Duration;

use larder_harness::counts::Tally;
use larder_harness::faults::{Fault, Rule};
use larder_harness::proxy::Proxy;
use larder_harness::servers::{Bucket, SeaweedFs};

use crate::servers::SEAWEED;
use crate::{bytes, client, fetch, get, header};

fn proxy() -> Proxy {
    Proxy::start(SEAWEED.address()).unwrap()
}

#[tokio::test]
async fn objects_are_counted_by_name_apart_from_listings() {
    SEAWEED.store().unwrap().put("pub", "counted/a b.bin", &bytes(2_000_000)).unwrap();
    let proxy = proxy();
    let url = format!("{}/pub/counted/a%20b.bin", proxy.endpoint());
    assert!(fetch(&url).await.bytes().await.unwrap() == bytes(2_000_000));
    let part = get(&url).header("range", "bytes=100-199").send().await.unwrap();
    assert!(part.status() == 206 && part.bytes().await.unwrap() == bytes(200)[100..]);
    assert_eq!(client().head(&url).send().await.unwrap().headers()["content-length"], "2000000");
    fetch(&format!("{}/pub?list-type=2&prefix=counted/", proxy.endpoint())).await.bytes().await.unwrap();
    assert_eq!(proxy.counts().file("pub/counted/a b.bin"), Tally { requests: 2, body_bytes: 2_000_100 });
    let metadata = proxy.counts().metadata();
    assert!(metadata.requests == 2 && metadata.body_bytes > 100, "{metadata:?}");
}

#[tokio::test]
async fn signatures_survive_the_way_through() {
    let proxy = proxy();
    let store = Bucket::new(proxy.endpoint(), SeaweedFs::ADMIN).unwrap();
    store.put("priv", "through/a+b c.bin", &bytes(1_000)).unwrap();
    store.put_parts("priv", "through/parts.bin", &bytes(6_000_000), 5 << 20).unwrap();
    let wrong = Bucket::new(proxy.endpoint(), larder_harness::servers::Keys { id: "labadmin", secret: "wrong" }).unwrap();
    assert!(wrong.put("priv", "through/x", b"").is_err());
    let log = proxy.counts().snapshot().requests;
    assert!(log.iter().all(|exchange| exchange.authorized) && log.len() >= 5, "{log:?}");
}

#[tokio::test]
async fn faults_strike_what_a_real_server_sends() {
    SEAWEED.store().unwrap().put("pub", "faults/f.bin", &bytes(1_000_000)).unwrap();
    let proxy = proxy();
    let url = format!("{}/pub/faults/f.bin", proxy.endpoint());
    let ranged = || get(&url).header("range", "bytes=500000-").send();
    let strike = |fault: Fault| proxy.faults().set(Rule::new("pub/faults/*", fault).times(1));

    strike(Fault::Status { code: 503, retry_after: None });
    let answer = fetch(&url).await;
    assert!(answer.status() == 503 && answer.text().await.unwrap().contains("<Code>SlowDown</Code>"));

    strike(Fault::Flip { at: 500_001 });
    let mut wrong = bytes(1_000_000);
    wrong[500_001] ^= 1;
    assert!(ranged().await.unwrap().bytes().await.unwrap() == wrong[500_000..]);

    strike(Fault::IgnoreRange);
    let answer = ranged().await.unwrap();
    assert!(answer.status() == 200 && answer.bytes().await.unwrap() == bytes(1_000_000));

    strike(Fault::DropHeader { name: "etag".into() });
    assert_eq!(header(&fetch(&url).await, "etag"), "");

    strike(Fault::Cut { percent: 40 });
    assert!(fetch(&url).await.bytes().await.is_err());

    strike(Fault::Stall { after: 10 });
    assert!(tokio::time::timeout(Duration::from_millis(300), async { ranged().await.unwrap().bytes().await }).await.is_err());

    assert!(fetch(&url).await.bytes().await.unwrap() == bytes(1_000_000));
    assert_eq!(proxy.faults().fired(), 6);
}

#[tokio::test]
async fn a_server_that_is_gone_is_a_bad_gateway() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let proxy = Proxy::start(address).unwrap();
    assert_eq!(fetch(&format!("{}/pub/a", proxy.endpoint())).await.status(), 502);
}
