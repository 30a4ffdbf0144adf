//! Lists a resource's objects, and asks for the details that a listing does not have.

use std::collections::HashMap;

use futures::{StreamExt, TryStreamExt, stream};
use larder_content::{OriginFile, PartSizes, RelativePath};

use super::address::{Address, Place};
use super::digest::{Etag, WORTH_A_HEAD, bare, digests, even_parts, is_part, same_version};
use super::fault::Fault;
use super::find::{Candidate, candidates};
use super::reach::Reach;
use super::transport::Facts;
use crate::{Listing, OriginError};

/// What an earlier listing says, by key.
type Known<'a> = HashMap<&'a str, &'a OriginFile>;

/// The resource's files, in any order.
pub(super) async fn files(reach: &Reach, wanted: &[RelativePath], previous: Option<&Listing>) -> Result<Vec<OriginFile>, OriginError> {
    let known = known(&reach.address, previous);
    let (mut files, mut clear, mut unclear) = (Vec::new(), Vec::new(), Vec::new());
    for candidate in candidates(reach, wanted).await? {
        match candidate.facts.as_ref().filter(|_| !candidate.asked) {
            Some(facts) => match unchanged(&known, &candidate, facts) {
                Some(file) => files.push(file),
                None if is_clear(facts) => clear.push(candidate),
                None => unclear.push(candidate),
            },
            None => unclear.push(candidate),
        }
    }
    if unclear.is_empty() && files.is_empty() && matches!(reach.address.place, Place::Aws { .. }) {
        // Encryption, which makes ETags no MD5, is not listed. Mostly it is one for all of a bucket.
        unclear.extend(clear.pop());
    }
    let mut asked = ask_all(reach, unclear, &known).await?;
    if asked.iter().any(|(_, sealed)| *sealed) {
        asked.extend(ask_all(reach, std::mem::take(&mut clear), &known).await?);
    }
    files.extend(asked.into_iter().map(|(file, _)| file));
    files.extend(clear.into_iter().map(|candidate| {
        let facts = candidate.facts.clone().unwrap_or_default();
        file(&reach.address, candidate, &facts, None)
    }));
    Ok(files)
}

/// Whether the listing alone tells all that is worth knowing.
fn is_clear(facts: &Facts) -> bool {
    let md5 = facts.etag.as_deref().is_some_and(|etag| matches!(Etag::read(etag), Etag::Md5(_)));
    md5 && facts.size < WORTH_A_HEAD
}

fn known<'a>(address: &Address, previous: Option<&'a Listing>) -> Known<'a> {
    let files = previous.map_or(&[][..], |listing| listing.manifest.files());
    let here = |file: &&OriginFile| address.locator(&file.locator.path, &file.locator.version) == file.locator;
    files.iter().filter(here).map(|file| (file.locator.path.as_str(), file)).collect()
}

/// What was known of an object, if it is the same version still.
fn unchanged(known: &Known<'_>, candidate: &Candidate, facts: &Facts) -> Option<OriginFile> {
    let file = known.get(candidate.key.as_str())?;
    let etag = facts.etag.as_deref().filter(|etag| !etag.is_empty())?;
    let same = file.size == facts.size && file.locator.version == bare(etag);
    same.then(|| OriginFile { path: candidate.path.clone(), ..(*file).clone() })
}

/// Asks for the details of all `candidates`, and tells of each whether it is encrypted so that its ETag is no MD5.
async fn ask_all(reach: &Reach, candidates: Vec<Candidate>, known: &Known<'_>) -> Result<Vec<(OriginFile, bool)>, OriginError> {
    let mut answers = Vec::with_capacity(candidates.len());
    let mut asking = stream::iter(candidates.into_iter().map(|candidate| ask(reach.clone(), candidate))).buffer_unordered(reach.width());
    let mut in_parts = Vec::new();
    while let Some((candidate, facts)) = asking.try_next().await? {
        match (unchanged(known, &candidate, &facts), facts.etag.as_deref().map(Etag::read)) {
            (Some(file), _) => answers.push((file, facts.sealed)),
            (None, Some(Etag::Parts(_, count))) if reach.can_ask_parts() => in_parts.push((candidate, facts, count)),
            (None, _) => answers.push((file(&reach.address, candidate, &facts, None), facts.sealed)),
        }
    }
    let cut = in_parts.into_iter().map(|(candidate, facts, count)| cut(reach.clone(), candidate, facts, count));
    let mut cutting = stream::iter(cut).buffer_unordered(reach.width());
    while let Some((candidate, facts, sizes)) = cutting.try_next().await? {
        answers.push((file(&reach.address, candidate, &facts, sizes.as_ref()), facts.sealed));
    }
    Ok(answers)
}

async fn ask(reach: Reach, candidate: Candidate) -> Result<(Candidate, Facts), OriginError> {
    if let Some(facts) = candidate.facts.clone().filter(|_| candidate.asked) {
        return Ok((candidate, facts));
    }
    let facts = reach.head(&candidate.key, None).await;
    let facts = facts.map_err(|fault| fault.into_error(&reach.address.name(&candidate.key), reach.signed))?;
    Ok((candidate, facts))
}

/// Finds out how an object was cut into `count` parts, as far as the server tells.
async fn cut(reach: Reach, candidate: Candidate, facts: Facts, count: u32) -> Result<(Candidate, Facts, Option<PartSizes>), OriginError> {
    let first = match part(&reach, &candidate.key, &facts, 1, count).await? {
        Some(first) => first,
        None => return Ok((candidate, facts, None)),
    };
    let mut sizes = even_parts(facts.size, count, &first);
    if sizes.is_none() {
        let rest = (2..=count).map(|number| part(&reach, &candidate.key, &facts, number, count));
        let rest: Vec<Option<Facts>> = stream::iter(rest).buffered(reach.width()).try_collect().await?;
        let all = std::iter::once(Some(first)).chain(rest).map(|part| Some(part?.size)).collect::<Option<Vec<u64>>>();
        let fits = |all: &Vec<u64>| all.iter().fold(0_u64, |sum, size| sum.saturating_add(*size)) == facts.size;
        sizes = all.filter(fits).map(PartSizes::Listed);
    }
    Ok((candidate, facts, sizes))
}

/// The facts of one part; `None` where the server knows no parts, or the object is another by now.
async fn part(reach: &Reach, key: &str, facts: &Facts, number: u32, count: u32) -> Result<Option<Facts>, OriginError> {
    match reach.head(key, Some(number)).await {
        Ok(part) => {
            let etags = facts.etag.as_deref().zip(part.etag.as_deref());
            let same = etags.is_some_and(|(whole, part)| same_version(whole, part));
            Ok(Some(part).filter(|part| same && is_part(part, count)))
        }
        Err(Fault::Error(error)) => Err(error),
        Err(Fault::Answer(_) | Fault::NotS3 | Fault::Elsewhere(_)) => Ok(None),
    }
}

fn file(address: &Address, candidate: Candidate, facts: &Facts, sizes: Option<&PartSizes>) -> OriginFile {
    let version = facts.etag.as_deref().map(bare).unwrap_or_default();
    let locator = address.locator(&candidate.key, &version);
    OriginFile { path: candidate.path, size: facts.size, digests: digests(facts, sizes), locator }
}

#[cfg(test)]
mod tests {
    use super::*;
    use larder_content::{BucketResource, Manifest};

    fn facts(size: u64, etag: &str) -> Facts {
        Facts { size, etag: Some(etag.into()), ..Facts::default() }
    }

    #[test]
    fn small_objects_with_an_md5_are_not_asked_for_again() {
        let md5 = "0cc175b9c0f1b6a831c399e269772661";
        assert!(is_clear(&facts(1, md5)));
        assert!(!is_clear(&facts(WORTH_A_HEAD, md5)));
        assert!(!is_clear(&facts(1, &format!("{md5}-1"))) && !is_clear(&facts(1, "W/\"x\"")) && !is_clear(&Facts::default()));
    }

    #[test]
    fn what_was_known_holds_only_for_the_same_version_at_the_same_place() {
        let resource = |url: &str| BucketResource { url: url.into(), bucket: None, files: vec![], credentials: None };
        let address = Address::parse(&resource("s3://b/p")).unwrap();
        let path = RelativePath::new("x").unwrap();
        let candidate = Candidate { key: "p/x".into(), path, facts: None, asked: false };
        let old = file(&address, candidate.clone(), &facts(7, "\"e1\""), None);
        let previous =
            Listing { id: String::new(), manifest: Manifest::new(vec![old.clone()]).unwrap(), pinned: false, needed_credentials: false };
        let before = known(&address, Some(&previous));
        assert_eq!(unchanged(&before, &candidate, &facts(7, "e1")), Some(old));
        assert_eq!(unchanged(&before, &candidate, &facts(7, "e2")), None);
        assert_eq!(unchanged(&before, &candidate, &facts(8, "e1")), None);
        assert_eq!(unchanged(&before, &candidate, &Facts { size: 7, ..Facts::default() }), None);
        let elsewhere = Address::parse(&resource("s3://other/p")).unwrap();
        assert!(known(&elsewhere, Some(&previous)).is_empty());
    }
}
