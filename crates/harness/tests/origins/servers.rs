//! The real S3 servers start, hold what is put into them, and do not outlive their owner.

use std::sync::LazyLock;

use larder_harness::servers::{RcloneS3, SeaweedFs, VIRTUAL_HOST_DOMAIN};

use crate::{DEADLINE, bytes, fetch, get, header};

/// One for all tests; the kernel ends it with this process.
pub(crate) static SEAWEED: LazyLock<SeaweedFs> = LazyLock::new(|| SeaweedFs::start().unwrap());

#[tokio::test]
async fn buckets_are_as_open_as_they_say() {
    let weed = &*SEAWEED;
    let store = weed.store().unwrap();
    for bucket in ["pub", "publist0", "priv"] {
        store.put(bucket, "open/a b+c.txt", b"text").unwrap();
    }
    for (bucket, read, list) in [("pub", 200, 200), ("publist0", 200, 403), ("priv", 403, 403)] {
        let object = fetch(&format!("{}/{bucket}/open/a%20b+c.txt", weed.endpoint())).await;
        assert_eq!(object.status(), read, "{bucket}");
        let listing = fetch(&format!("{}/{bucket}?list-type=2&prefix=open/", weed.endpoint())).await;
        assert_eq!(listing.status(), list, "{bucket}");
    }
    let host = get(&format!("{}/open/a%20b+c.txt", weed.endpoint())).header("host", format!("pub.{VIRTUAL_HOST_DOMAIN}"));
    assert_eq!(host.send().await.unwrap().text().await.unwrap(), "text");
}

#[tokio::test]
async fn parts_show_in_the_etag() {
    let weed = &*SEAWEED;
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("sub")).unwrap();
    std::fs::write(folder.path().join("sub/large.bin"), bytes(12_000_000)).unwrap();
    std::fs::write(folder.path().join("small.txt"), "small").unwrap();
    let store = weed.store().unwrap();
    assert_eq!(store.put_folder("pub", "parts", folder.path(), 5 << 20).unwrap(), 2);
    let large = fetch(&format!("{}/pub/parts/sub/large.bin", weed.endpoint())).await;
    assert!(header(&large, "etag").ends_with("-3\""), "{:?}", large.headers());
    assert!(large.bytes().await.unwrap() == bytes(12_000_000));
    // What `printf small | md5sum` prints.
    let small = fetch(&format!("{}/pub/parts/small.txt", weed.endpoint())).await;
    assert_eq!(header(&small, "etag"), "\"eb5c1399a871211c7e7ed732d15e3a8b\"");
    store.put_parts("pub", "parts/one.bin", b"one", 5 << 20).unwrap();
    assert!(header(&fetch(&format!("{}/pub/parts/one.bin", weed.endpoint())).await, "etag").ends_with("-1\""));
    store.remove("pub", "parts/one.bin").unwrap();
    assert_eq!(fetch(&format!("{}/pub/parts/one.bin", weed.endpoint())).await.status(), 404);
}

#[tokio::test]
async fn uploads_can_carry_sha256() {
    let store = SEAWEED.store().unwrap().with_sha256();
    store.put("pub", "summed/a.txt", b"small").unwrap();
    store.put_parts("pub", "summed/b.bin", &bytes(6_000_000), 5 << 20).unwrap();
    let ask = |key: &str| get(&format!("{}/pub/summed/{key}", SEAWEED.endpoint())).header("x-amz-checksum-mode", "ENABLED").send();
    // What `printf small | sha256sum` prints, in base64.
    assert_eq!(header(&ask("a.txt").await.unwrap(), "x-amz-checksum-sha256"), "gduOu7vGnGxq1KaqkrduDAivVH2iNrniydvh2ChagTA=");
    assert!(header(&ask("b.bin").await.unwrap(), "x-amz-checksum-sha256").ends_with("-2"));
}

#[tokio::test]
async fn rclone_serves_each_folder_as_a_bucket() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("bucket")).unwrap();
    std::fs::write(folder.path().join("bucket/a.txt"), "text").unwrap();
    let open = RcloneS3::start(folder.path(), None).unwrap();
    assert_eq!(fetch(&format!("{}/bucket/a.txt", open.endpoint())).await.text().await.unwrap(), "text");
    let locked = RcloneS3::start(folder.path(), Some(SeaweedFs::ADMIN)).unwrap();
    assert!(fetch(&format!("{}/bucket/a.txt", locked.endpoint())).await.status().is_client_error());
    let address = open.address();
    drop(open);
    let closed = async { while std::net::TcpStream::connect(address).is_ok() {} };
    tokio::time::timeout(DEADLINE, closed).await.unwrap();
}
