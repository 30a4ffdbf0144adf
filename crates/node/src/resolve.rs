//! From a resource to the list of its files.

use std::time::{Duration, SystemTime};

use larder_content::{ContentId, Scope};
use larder_origin::{Listing, Origins};
use larder_store::{Store, StoreError, StoredListing};

use crate::goal::Want;
use crate::{Node, NodeError};

/// How old a listing may be that is used because the origin does not answer.
const FRESH: Duration = Duration::from_secs(24 * 3600);

/// The name a resource's listing is kept under: its address, where that is asked, and for which files.
fn listing_name(origins: &Origins, want: &Want) -> String {
    let address = [origins.endpoint(&want.resource), &want.address].join(" ");
    if want.resource.files().is_empty() {
        return address;
    }
    let names: Vec<&str> = want.resource.files().iter().map(larder_content::RelativePath::as_str).collect();
    format!("{address} {}", ContentId::of(names.join("\0").as_bytes()))
}

/// Asks the origin for the list of a resource's files, and keeps it for the next time.
///
/// An earlier listing spares what it already says. Where the origin does not answer, one of the last day is enough if it
/// needed no credentials and all its files are here.
pub(crate) async fn resolve(node: &Node, origins: &Origins, want: &Want) -> Result<Listing, NodeError> {
    let name = listing_name(origins, want);
    let stored = node.blocking(move |store| store.listing(&name)).await?;
    let is_fresh = stored.as_ref().is_some_and(|stored| stored.listed.elapsed().is_ok_and(|age| age < FRESH));
    let previous = stored.map(listing);
    let error = match origins.list(&want.resource, previous.as_ref()).await {
        Ok(listing) => {
            drop(previous);
            return keep(node, origins, want, listing).await;
        }
        Err(error) => error,
    };
    if let Some(previous) = previous.filter(|previous| is_fresh && !previous.needed_credentials && error.can_pass()) {
        let complete = node.blocking(move |store| all_public(store, &previous).map(|complete| complete.then_some(previous))).await?;
        if let Some(previous) = complete {
            tracing::warn!(resource = want.address, %error, "its origin does not answer; all its files are here");
            return Ok(previous);
        }
    }
    Err(NodeError::List { place: want.place.clone(), source: error })
}

/// Asks the origin anew, as if it had never been asked: what it listed is not what it has.
pub(crate) async fn resolve_anew(node: &Node, origins: &Origins, want: &Want) -> Result<Listing, NodeError> {
    match origins.list(&want.resource, None).await {
        Ok(listing) => keep(node, origins, want, listing).await,
        Err(source) => Err(NodeError::List { place: want.place.clone(), source }),
    }
}

/// Keeps a listing for the next time, and gives it back.
async fn keep(node: &Node, origins: &Origins, want: &Want, anew: Listing) -> Result<Listing, NodeError> {
    let name = listing_name(origins, want);
    let Listing { id, manifest, pinned, needed_credentials } = anew;
    let scope = if needed_credentials { Scope::Private } else { Scope::Public };
    let stored = StoredListing { id, pinned, scope, listed: SystemTime::now(), manifest };
    let put = move |store: &Store| {
        if let Err(error) = store.put_listing(&name, &stored) {
            tracing::warn!(resource = stored.id, %error, "its listing is not kept: it will be asked for again");
        }
        Ok::<_, StoreError>(listing(stored))
    };
    node.blocking(put).await
}

/// A listing that was kept.
fn listing(stored: StoredListing) -> Listing {
    let StoredListing { id, pinned, scope, listed: _, manifest } = stored;
    Listing { id, manifest, pinned, needed_credentials: scope == Scope::Private }
}

fn all_public(store: &Store, listing: &Listing) -> Result<bool, StoreError> {
    for file in listing.manifest.files() {
        if store.find(&file.key(Scope::Public))?.is_none() {
            return Ok(false);
        }
    }
    Ok(true)
}
