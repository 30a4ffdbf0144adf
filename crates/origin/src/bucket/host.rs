//! Hosts that are known to speak S3, and what their names say of bucket and region.

/// What the name of an S3 host says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct S3Host {
    /// Where to send requests; `None` is AWS itself, whose hosts follow from bucket and region.
    pub(super) endpoint: Option<String>,
    /// The bucket, where the host names it; else the path does.
    pub(super) bucket: Option<String>,
    /// The region, where the host names it.
    pub(super) region: Option<String>,
}

/// Reads the name of an S3 host, in lower case; `None` for hosts that could be anything.
pub(super) fn recognise(host: &str) -> Option<S3Host> {
    if let Some(rest) = host.strip_suffix(".r2.cloudflarestorage.com") {
        return r2(rest);
    }
    if let Some(rest) = host.strip_suffix(".amazonaws.com.cn") {
        let (bucket, region) = amazon(rest)?;
        let endpoint = format!("https://s3.{}.amazonaws.com.cn", region.as_deref()?);
        return Some(S3Host { endpoint: Some(endpoint), bucket, region });
    }
    let (bucket, region) = amazon(host.strip_suffix(".amazonaws.com")?)?;
    Some(S3Host { endpoint: None, bucket, region })
}

/// `account`, `account.eu`, `bucket.account` or `bucket.account.eu`.
fn r2(rest: &str) -> Option<S3Host> {
    const JURISDICTIONS: [&str; 3] = ["eu", "us", "fedramp"];
    let labels: Vec<&str> = rest.split('.').collect();
    let jurisdiction = usize::from(labels.len() > 1 && labels.last().is_some_and(|last| JURISDICTIONS.contains(last)));
    let at = labels.len() - jurisdiction - 1;
    let (bucket, account) = (labels[..at].join("."), labels[at..].join("."));
    Some(S3Host {
        endpoint: Some(format!("https://{account}.r2.cloudflarestorage.com")),
        bucket: Some(bucket).filter(|bucket| !bucket.is_empty()),
        region: Some("auto".into()),
    })
}

/// What stands before `.amazonaws.com`: `[bucket.]s3`, then `.region`, `-region` or `.dualstack.region`, or nothing.
fn amazon(rest: &str) -> Option<(Option<String>, Option<String>)> {
    let labels: Vec<&str> = rest.split('.').collect();
    let (at, region) = match labels.as_slice() {
        [.., "s3", "dualstack", region] if is_region(region) => (labels.len() - 3, Some(*region)),
        [.., "s3", region] if is_region(region) => (labels.len() - 2, Some(*region)),
        [.., "s3" | "s3-accelerate"] => (labels.len() - 1, None),
        [.., "s3-external-1"] => (labels.len() - 1, Some("us-east-1")),
        [.., last] => (labels.len() - 1, Some(last.strip_prefix("s3-").filter(|region| is_region(region))?)),
        [] => return None,
    };
    let bucket = labels[..at].join(".");
    Some((Some(bucket).filter(|bucket| !bucket.is_empty()), region.map(Into::into)))
}

/// `eu-west-1`, `us-gov-east-1`.
pub(super) fn is_region(text: &str) -> bool {
    let words: Vec<&str> = text.split('-').collect();
    let letters = |word: &&str| !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase());
    let number = |word: &&str| !word.is_empty() && word.bytes().all(|b| b.is_ascii_digit());
    match words.as_slice() {
        [place @ .., last] => (2..=3).contains(&place.len()) && place.iter().all(letters) && number(last) && !place.contains(&"website"),
        [] => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_an_s3_host_tells_bucket_and_region() {
        let table = [
            ("s3.amazonaws.com", None, None, None),
            ("s3.us-west-2.amazonaws.com", None, None, Some("us-west-2")),
            ("s3-us-west-2.amazonaws.com", None, None, Some("us-west-2")),
            ("b.s3.amazonaws.com", None, Some("b"), None),
            ("b.s3.eu-west-1.amazonaws.com", None, Some("b"), Some("eu-west-1")),
            ("b.s3-eu-west-1.amazonaws.com", None, Some("b"), Some("eu-west-1")),
            ("a.b.s3.dualstack.eu-west-1.amazonaws.com", None, Some("a.b"), Some("eu-west-1")),
            ("my.s3.s3.us-gov-east-1.amazonaws.com", None, Some("my.s3"), Some("us-gov-east-1")),
            ("b.s3-accelerate.amazonaws.com", None, Some("b"), None),
            ("b.s3.cn-north-1.amazonaws.com.cn", Some("https://s3.cn-north-1.amazonaws.com.cn"), Some("b"), Some("cn-north-1")),
            ("acct.r2.cloudflarestorage.com", Some("https://acct.r2.cloudflarestorage.com"), None, Some("auto")),
            ("acct.eu.r2.cloudflarestorage.com", Some("https://acct.eu.r2.cloudflarestorage.com"), None, Some("auto")),
            ("b.acct.r2.cloudflarestorage.com", Some("https://acct.r2.cloudflarestorage.com"), Some("b"), Some("auto")),
            ("b.acct.eu.r2.cloudflarestorage.com", Some("https://acct.eu.r2.cloudflarestorage.com"), Some("b"), Some("auto")),
        ];
        for (host, endpoint, bucket, region) in table {
            let text = |value: Option<&str>| value.map(str::to_owned);
            let expected = S3Host { endpoint: text(endpoint), bucket: text(bucket), region: text(region) };
            assert_eq!(recognise(host), Some(expected), "{host}");
        }
    }

    #[test]
    fn other_hosts_are_not_taken_for_s3() {
        for host in ["models.nosana.io", "b.s3-website-eu-west-1.amazonaws.com", "ec2.amazonaws.com", "s3.example.com", "pub-1.r2.dev"] {
            assert_eq!(recognise(host), None, "{host}");
        }
    }
}
