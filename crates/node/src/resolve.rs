//! From a resource to the list of its files.

use std::time::{Duration, SystemTime};

use larder_content::{ContentId, Resource, Scope};
use larder_origin::{Listing, Origins};
use larder_store::{StoreError, StoredListing};

use crate::goal::Want;
use crate::{Node, NodeError};

/// How old a listing may be that is used because the origin does not answer.
const FRESH: Duration = Duration::from_secs(24 * 3600);

/// The name a resource's listing is kept under: its address, where that is asked, and for which files.
fn listing_name(origins: &Origins, want: &Want) -> String {
    let address = [origins.endpoint(&want.resource), &want.address].join(" ");
    let files = match &want.resource {
        Resource::Hub(hub) => &hub.files,
        Resource::Bucket(bucket) => &bucket.files,
        Resource::Ollama(_) => return address,
    };
    if files.is_empty() {
        return address;
    }
    let names: Vec<&str> = files.iter().map(larder_content::RelativePath::as_str).collect();
    format!("{address} {}", ContentId::of(names.join("\0").as_bytes()))
}

/// Asks the origin for the list of a resource's files.
///
/// An earlier listing spares what it already says. Where the origin does not answer, one of the last day is enough if the
/// resource is public and all its files are here.
pub(crate) async fn resolve(node: &Node, origins: &Origins, want: &Want) -> Result<Listing, NodeError> {
    let name = listing_name(origins, want);
    let stored = node.blocking(move |store| store.listing(&name)).await?;
    let is_fresh = stored.as_ref().is_some_and(|stored| stored.listed.elapsed().is_ok_and(|age| age < FRESH));
    let previous = stored.and_then(|stored| usable(stored, origins.has_credentials(&want.resource)));
    let error = match origins.list(&want.resource, previous.as_ref()).await {
        Ok(listing) => return Ok(listing),
        Err(error) => error,
    };
    if let Some(previous) = previous.filter(|_| is_fresh && error.can_pass()) {
        let files = previous.manifest.files().to_vec();
        let complete = node.blocking(move |store| all_public(store, &files)).await?;
        if complete {
            tracing::warn!(resource = want.address, %error, "its origin does not answer; all its files are here");
            return Ok(previous);
        }
    }
    Err(NodeError::List { place: want.place.clone(), source: error })
}

/// Asks the origin anew, as if it had never been asked: what it listed has changed.
pub(crate) async fn resolve_anew(origins: &Origins, want: &Want) -> Result<Listing, NodeError> {
    origins.list(&want.resource, None).await.map_err(|source| NodeError::List { place: want.place.clone(), source })
}

/// Keeps a listing for the next time.
pub(crate) async fn keep(node: &Node, origins: &Origins, want: &Want, listing: &Listing, scope: Scope) -> Result<(), NodeError> {
    let name = listing_name(origins, want);
    let Listing { id, manifest, pinned, .. } = listing.clone();
    node.blocking(move |store| store.put_listing(&name, &StoredListing { id, pinned, scope, listed: SystemTime::now(), manifest })).await
}

/// A listing that may be used again. What only credentials could list is asked for again by whoever has them.
fn usable(stored: StoredListing, has_credentials: bool) -> Option<Listing> {
    let StoredListing { id, pinned, scope, listed: _, manifest } = stored;
    match scope {
        Scope::Public => Some(Listing { id, manifest, pinned, needed_credentials: false }),
        Scope::Private if has_credentials && !pinned => Some(Listing { id, manifest, pinned, needed_credentials: true }),
        Scope::Private => None,
    }
}

fn all_public(store: &larder_store::Store, files: &[larder_content::OriginFile]) -> Result<bool, StoreError> {
    for file in files {
        if store.find(&file.key(Scope::Public))?.is_none() {
            return Ok(false);
        }
    }
    Ok(true)
}
