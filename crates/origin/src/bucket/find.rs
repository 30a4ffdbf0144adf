//! Finds the objects that a resource means: the files it names, one object, or all below a prefix.

use futures::future;
use larder_content::{MAX_FILES, RelativePath};
use percent_encoding::percent_decode_str;

use super::address::{Address, Place};
use super::fault::Fault;
use super::reach::Reach;
use super::transport::{Facts, Listed, Page, PageAsk};
use crate::OriginError;

/// The most pages a listing may have: servers may send pages of few keys, but not of none for ever.
const MAX_PAGES: usize = 10_000;
/// The longest key of an object, as AWS has it.
const MAX_KEY_BYTES: usize = 1024;
/// The longest text that tells where a listing goes on.
const MAX_TOKEN_BYTES: usize = 64 * 1024;

/// An object that belongs to the resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Candidate {
    pub(super) key: String,
    pub(super) path: RelativePath,
    /// What a listing or a HEAD told.
    pub(super) facts: Option<Facts>,
    /// Whether it was a HEAD.
    pub(super) asked: bool,
}

/// The objects of a resource: all or an error.
pub(super) async fn candidates(reach: &Reach, wanted: &[RelativePath]) -> Result<Vec<Candidate>, OriginError> {
    let address = &reach.address;
    if !wanted.is_empty() {
        let named = |path: &RelativePath| Candidate { key: address.key(path), path: path.clone(), facts: None, asked: false };
        let wanted: std::collections::BTreeSet<&RelativePath> = wanted.iter().collect();
        return Ok(wanted.into_iter().map(named).collect());
    }
    if let (Place::Signed { .. }, Some(key)) = (&address.place, address.exact()) {
        let facts = reach.head(key, None).await.map_err(|fault| fault.into_error(&address.to_string(), reach.signed))?;
        return Ok(vec![object(address, key, facts)?]);
    }
    let exact = async {
        match address.exact() {
            Some(key) => Some(reach.head(key, None).await),
            None => None,
        }
    };
    let (listing, exact) = future::join(everything(reach, address.folder()), exact).await;
    choose(address, listing, exact, reach.signed)
}

/// All that a listing of `folder` has, whether page by page or at once.
async fn everything(reach: &Reach, folder: String) -> Result<Vec<Listed>, Fault> {
    let what = reach.address.to_string();
    let mut ask = PageAsk { prefix: folder, ..PageAsk::default() };
    let mut all: Vec<Listed> = Vec::new();
    for _ in 0..MAX_PAGES {
        let page = readable_page(reach, &what, &ask).await?;
        if let Some(stray) = page.objects.iter().find(|object| !object.key.starts_with(&ask.prefix)) {
            return Err(Fault::invalid(&what, format!("it lists {:?}, which is not below it", stray.key)));
        }
        if page.objects.iter().any(|object| object.key.len() > MAX_KEY_BYTES)
            || page.next.as_ref().is_some_and(|next| next.len() > MAX_TOKEN_BYTES)
        {
            return Err(Fault::invalid(&what, "it lists a key that is longer than any bucket takes"));
        }
        all.extend(page.objects);
        if all.len() > MAX_FILES {
            return Err(Fault::invalid(&what, format!("it has more than the {MAX_FILES} objects that one resource may have")));
        }
        if page.cut || (page.next.is_some() && page.next == ask.token) {
            return Err(Fault::invalid(&what, "its listing goes on, but the server does not say where"));
        }
        match page.next {
            Some(next) => ask.token = Some(next),
            None => return Ok(all),
        }
    }
    Err(Fault::invalid(&what, format!("its listing has more than {MAX_PAGES} pages")))
}

/// A page whose keys are what they are.
///
/// XML cannot hold control characters: servers put U+FFFD in their place, or send what is no XML. Where that may have
/// happened, the page is asked for in the encoding of URLs. It is not from the start, because in it servers disagree
/// about what `+` means; here all that matters is to see the bad key.
async fn readable_page(reach: &Reach, what: &str, ask: &PageAsk) -> Result<Page, Fault> {
    let plain = reach.page(ask).await;
    let doubtful = match &plain {
        Ok(page) => page.objects.iter().any(|object| object.key.contains('\u{fffd}')),
        Err(fault) => matches!(fault, Fault::NotS3),
    };
    if !doubtful {
        return plain;
    }
    let mut page = match reach.page(&PageAsk { encoded: true, ..ask.clone() }).await {
        Ok(page) => page,
        Err(fault) => return Err(plain.err().unwrap_or(fault)),
    };
    for object in &mut page.objects {
        let spaced = object.key.replace('+', " ");
        let decoded = percent_decode_str(&spaced);
        match decoded.clone().decode_utf8() {
            Ok(key) if !key.chars().any(char::is_control) => object.key = key.into_owned(),
            Ok(_) | Err(_) => {
                let key = decoded.decode_utf8_lossy();
                return Err(Fault::invalid(what, format!("the key {key:?} cannot be a file's name, so none of it is taken")));
            }
        }
    }
    Ok(plain.unwrap_or(page))
}

/// Puts together what the listing and the exact key gave.
fn choose(
    address: &Address,
    listing: Result<Vec<Listed>, Fault>,
    exact: Option<Result<Facts, Fault>>,
    signed: bool,
) -> Result<Vec<Candidate>, OriginError> {
    let what = address.to_string();
    let (listing, unlistable) = match listing {
        Ok(listing) => (listing, None),
        Err(fault) if may_hold_objects(&fault) => (Vec::new(), Some(fault)),
        Err(fault) => return Err(fault.into_error(&what, signed)),
    };
    let mut found = Vec::with_capacity(listing.len() + 1);
    match exact.zip(address.exact()) {
        Some((Ok(facts), key)) => found.push(object(address, key, facts)?),
        // Where the listing tells something, a key that is refused or nonsense is no object.
        Some((Err(Fault::Answer(answer)), _)) if !listing.is_empty() && !Fault::Answer(answer.clone()).passes() => {}
        Some((Err(fault), _)) if fault.is_missing() => {}
        Some((Err(fault), _)) => return Err(fault.into_error(&what, signed)),
        None => {}
    }
    let is_folder = !listing.is_empty();
    for object in listing {
        found.extend(below(address, object)?);
    }
    if !found.is_empty() || is_folder {
        return Ok(found);
    }
    Err(match unlistable {
        None => OriginError::Missing { what, why: "no object has this name, and none lies below it".into() },
        Some(fault) if fault.is_denied() => {
            OriginError::Denied { what, why: "it may not be listed, and no object has this name: name the files in 'files'".into() }
        }
        Some(_) => OriginError::Refused {
            what,
            why: "listing is not available there, and no object has this name: name the files in 'files'".into(),
        },
    })
}

/// Whether a server that answers a listing so may have objects all the same.
fn may_hold_objects(fault: &Fault) -> bool {
    match fault {
        Fault::Answer(answer) => !answer.keys_are_wrong() && !answer.bucket_is_missing() && !fault.passes(),
        Fault::NotS3 => true,
        Fault::Elsewhere(_) => true,
        Fault::Error(_) => false,
    }
}

fn object(address: &Address, key: &str, facts: Facts) -> Result<Candidate, OriginError> {
    let name = key.rsplit('/').next().unwrap_or(key);
    Ok(Candidate { key: key.to_owned(), path: path(address, key, name)?, facts: Some(facts), asked: true })
}

/// The file that a listed object is; `None` for the marker of a folder.
pub(super) fn below(address: &Address, object: Listed) -> Result<Option<Candidate>, OriginError> {
    let folder = address.folder();
    if object.key.ends_with('/') || object.key.is_empty() {
        return Ok(None);
    }
    let path = path(address, &object.key, object.key.strip_prefix(&folder).unwrap_or(&object.key))?;
    let facts = Facts { size: object.size, etag: object.etag, ..Facts::default() };
    Ok(Some(Candidate { key: object.key, path, facts: Some(facts), asked: false }))
}

fn path(address: &Address, key: &str, name: &str) -> Result<RelativePath, OriginError> {
    RelativePath::new(name).map_err(|error| OriginError::Invalid {
        what: address.to_string(),
        why: format!("the key {key:?} cannot be laid as a file, so none of it is taken: {error}"),
    })
}

#[cfg(test)]
#[path = "find_tests.rs"]
mod tests;
