//! What must hold of whatever a hub answers.

use std::sync::LazyLock;

use http::{HeaderMap, HeaderValue};
use larder_content::{HubKind, HubResource, Manifest, RepoId};
use url::Url;

use super::{Hub, HubConfig, page};

/// The JSON of a page of a tree, or of a revision: each file has digests, and all have a place in one tree or there is no list.
pub(crate) fn page(json: &[u8]) {
    const COMMIT: &str = "a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1";
    static HUB: LazyLock<Option<(Hub, HubResource)>> = LazyLock::new(|| {
        let repo = RepoId::new("org/name").ok()?;
        let resource = HubResource { kind: HubKind::Model, repo, revision: None, files: Vec::new(), token: None };
        Some((Hub::new(HubConfig::default()).ok()?, resource))
    });
    let Some((hub, resource)) = &*HUB else { panic!("there is no hub") };
    let (files, commit) = hub.read(resource, COMMIT, json);
    assert!(commit.is_none_or(|commit| commit.len() == 40));
    let Ok(files) = files else { return };
    let strays =
        files.iter().filter(|file| file.digests.is_empty() || file.locator.version != COMMIT || file.path.as_str() != file.locator.path);
    assert_eq!(strays.count(), 0);
    let count = files.len();
    if let Ok(manifest) = Manifest::new(files) {
        assert_eq!(manifest.files().len(), count);
    }
}

/// `Link` headers, one a line, as many as an answer may have: the next page is another page of the same hub.
pub(crate) fn link(bytes: &[u8]) {
    let Ok(here) = Url::parse("https://hub/api/tree?cursor=a") else { return };
    let lines = bytes.split(|byte| *byte == b'\n').filter_map(|line| HeaderValue::from_bytes(line).ok()).take(100);
    let headers: HeaderMap = lines.map(|value| (http::header::LINK, value)).collect();
    if let Ok(Some(next)) = page::next("page", &here, &headers) {
        assert!(next.origin() == here.origin() && next != here);
    }
}
