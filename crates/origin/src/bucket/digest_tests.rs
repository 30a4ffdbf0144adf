//! The decision table, row by row.

use super::*;

const MD5: &str = "0cc175b9c0f1b6a831c399e269772661";

fn facts(etag: &str) -> Facts {
    Facts { size: 17 << 20, etag: Some(etag.into()), ..Facts::default() }
}

fn base64(value: &[u8]) -> String {
    STANDARD.encode(value)
}

fn whole(algorithm: Algorithm, value: &[u8]) -> OriginDigest {
    OriginDigest::whole(algorithm, value).unwrap()
}

fn md5() -> [u8; 16] {
    let mut md5 = [0; 16];
    hex::decode_to_slice(MD5, &mut md5).unwrap();
    md5
}

#[test]
fn an_etag_of_one_piece_is_the_md5_of_the_whole() {
    for etag in [MD5.to_owned(), format!("\"{MD5}\""), MD5.to_uppercase()] {
        assert_eq!(digests(&facts(&etag), None), [whole(Algorithm::Md5, &md5())], "{etag}");
    }
}

#[test]
fn an_etag_of_a_sealed_object_says_nothing() {
    for etag in [MD5.to_owned(), format!("{MD5}-4")] {
        assert_eq!(digests(&Facts { sealed: true, ..facts(&etag) }, None), []);
    }
}

#[test]
fn an_etag_of_parts_is_proven_with_their_sizes_or_their_number() {
    let of = |sizes| OriginDigest::parts(Algorithm::Md5, &md5(), sizes).unwrap();
    let facts = facts(&format!("\"{MD5}-4\""));
    assert_eq!(digests(&facts, Some(&PartSizes::Uniform { bytes: 5 << 20 })), [of(PartSizes::Uniform { bytes: 5 << 20 })]);
    assert_eq!(digests(&facts, Some(&PartSizes::Listed(vec![1, 2, 3, 4]))), [of(PartSizes::Listed(vec![1, 2, 3, 4]))]);
    assert_eq!(digests(&facts, None), [of(PartSizes::Count(4))]);
}

#[test]
fn an_opaque_etag_says_nothing() {
    for etag in [
        "W/\"0cc175b9c0f1b6a831c399e269772661\"",
        "abc",
        "QmXYZ",
        "",
        "0cc1-4",
        &format!("{MD5}-0"),
        &format!("{MD5}-10001"),
        &format!("{MD5}-x"),
    ] {
        assert_eq!(digests(&facts(etag), None), [], "{etag}");
    }
    assert_eq!(digests(&Facts { size: 3, ..Facts::default() }, None), []);
}

#[test]
fn a_checksum_is_of_the_whole_only_where_that_is_sure() {
    let sha = vec![7; 32];
    let with = |etag: &str, composite| Facts { checksums: vec![(Algorithm::Sha256, base64(&sha))], composite, ..facts(etag) };
    let parts = OriginDigest::parts(Algorithm::Sha256, &sha, PartSizes::Count(4)).unwrap();
    let etag_of_parts = format!("{MD5}-4");
    assert!(digests(&with(MD5, None), None).contains(&whole(Algorithm::Sha256, &sha)));
    assert!(digests(&with(&etag_of_parts, Some(false)), None).contains(&whole(Algorithm::Sha256, &sha)));
    assert!(digests(&with(&etag_of_parts, Some(true)), None).contains(&parts));
    assert_eq!(digests(&with(&etag_of_parts, None), None).len(), 1, "a checksum of unknown extent was taken");
}

#[test]
fn a_composite_checksum_has_the_parts_of_the_etag() {
    let sha = vec![7; 32];
    let facts = Facts { checksums: vec![(Algorithm::Sha256, format!("{}-4", base64(&sha)))], ..facts(&format!("{MD5}-4")) };
    let sizes = PartSizes::Uniform { bytes: 5 << 20 };
    let expected = OriginDigest::parts(Algorithm::Sha256, &sha, sizes.clone()).unwrap();
    assert!(digests(&facts, Some(&sizes)).contains(&expected));
    let other_count = Facts { checksums: vec![(Algorithm::Sha256, format!("{}-3", base64(&sha)))], ..facts };
    assert!(digests(&other_count, Some(&sizes)).contains(&OriginDigest::parts(Algorithm::Sha256, &sha, PartSizes::Count(3)).unwrap()));
}

#[test]
fn crc64_is_always_of_the_whole() {
    let crc = vec![1; 8];
    let facts = Facts { checksums: vec![(Algorithm::Crc64Nvme, base64(&crc))], ..facts(&format!("{MD5}-4")) };
    assert!(digests(&facts, None).contains(&whole(Algorithm::Crc64Nvme, &crc)));
}

#[test]
fn a_checksum_that_cannot_be_read_is_left_out() {
    for value in ["", "!!", "AAAA", "AAAA-x", "-4"] {
        let facts = Facts { checksums: vec![(Algorithm::Sha256, value.into())], ..facts("x") };
        assert_eq!(digests(&facts, None), [], "{value}");
    }
}

#[test]
fn an_uploaders_note_stands_in_where_the_etag_is_no_md5() {
    let note = |etag: &str, sealed| digests(&Facts { noted_md5: Some(vec![9; 16]), sealed, ..facts(etag) }, None);
    assert!(note(&format!("{MD5}-4"), false).contains(&whole(Algorithm::Md5, &[9; 16])));
    assert_eq!(note(MD5, true), [whole(Algorithm::Md5, &[9; 16])]);
    assert_eq!(note(MD5, false), [whole(Algorithm::Md5, &md5())]);
    assert_eq!(noted_md5(Some(&base64(&[9; 16])), None), Some(vec![9; 16]));
    assert_eq!(noted_md5(None, Some(&format!("atime:1/md5:{MD5}/uid:0"))), Some(md5().to_vec()));
    assert_eq!(noted_md5(Some("short"), Some("atime:1")), None);
}

#[test]
fn parts_are_even_if_the_first_gives_their_number() {
    let first = |size| Facts { size, parts: Some(4), ..Facts::default() };
    assert_eq!(even_parts((16 << 20) + 123, 4, &first(5 << 20)), Some(PartSizes::Uniform { bytes: 5 << 20 }));
    assert_eq!(even_parts(16 << 20, 4, &first(9 << 20)), None);
    assert_eq!(even_parts(16 << 20, 4, &first(0)), None);
    assert!(is_part(&first(5), 4) && !is_part(&first(5), 3) && !is_part(&Facts::default(), 4));
}

#[test]
fn etags_are_compared_without_quotes_and_weakness() {
    assert!(same_version("\"a\"", "a") && same_version("W/\"a\"", "\"a\"") && same_version("W/a", "W/\"a\""));
    assert!(!same_version("a", "b") && !same_version("a", ""));
    assert_eq!((bare("\"a\""), bare("W/\"a\""), bare(" a ")), ("a".into(), "W/a".into(), "a".into()));
}

#[test]
fn an_etag_in_more_quotes_than_it_should_have_names_the_version_that_it_was_listed_with() {
    for sent in ["\"\"\"x\"\"\"", "W/\"W/\"\"x\"\"\"", "\"x\"", "x"] {
        assert!(same_version(sent, &bare(sent)) && same_version(sent, "x") && !same_version(sent, "y"), "{sent}");
    }
}
