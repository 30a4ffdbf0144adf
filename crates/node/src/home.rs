//! What of a listing is in the store already.

use larder_content::{OriginFile, Scope};
use larder_store::{Blob, Store, StoreError};

/// Where a file stands before anything was fetched.
#[derive(Debug)]
pub(crate) enum Home {
    /// It is here, and anyone may have it.
    Public(Blob),
    /// It is here for those who show that they may read it.
    Private(Blob),
    /// It is not here, or only in part.
    Missing {
        /// The bytes of it that are still to come; 0 where they come for another.
        bytes: u64,
    },
}

/// Looks for each file. `private` says whether there are credentials with which access could be shown.
pub(crate) fn look(store: &Store, files: &[OriginFile], private: bool) -> Result<Vec<Home>, StoreError> {
    files.iter().map(|file| look_for(store, file, private)).collect()
}

fn look_for(store: &Store, file: &OriginFile, private: bool) -> Result<Home, StoreError> {
    if file.size == 0 {
        // It says nothing that its listing does not say.
        return Ok(store.find(&file.key(Scope::Public))?.map_or(Home::Missing { bytes: 0 }, Home::Public));
    }
    if let Some(blob) = find(store, file, Scope::Public)? {
        return Ok(Home::Public(blob));
    }
    if private && let Some(blob) = find(store, file, Scope::Private)? {
        return Ok(Home::Private(blob));
    }
    let scopes: &[Scope] = if private { &[Scope::Public, Scope::Private] } else { &[Scope::Public] };
    let recorded = scopes.iter().map(|scope| store.recorded_bytes(&file.key(*scope), file.size));
    let recorded = recorded.collect::<Result<Vec<_>, _>>()?.into_iter().max().unwrap_or_default();
    Ok(Home::Missing { bytes: file.size.saturating_sub(recorded) })
}

fn find(store: &Store, file: &OriginFile, scope: Scope) -> Result<Option<Blob>, StoreError> {
    if !file.is_pinned(scope) {
        return Ok(None);
    }
    if let Some(blob) = store.find(&file.key(scope))? {
        return Ok(Some(blob));
    }
    match find_by_pieces(store, file, scope)? {
        Some(blob) => Ok(Some(blob)),
        None => store.adopt(file, scope),
    }
}

/// What was proven by piece to be the file: others are not told of it before it was proven by the digest of the file's key, too.
pub(crate) fn find_by_pieces(store: &Store, file: &OriginFile, scope: Scope) -> Result<Option<Blob>, StoreError> {
    file.by_pieces().map_or(Ok(None), |file| store.find(&file.key(scope)))
}
