//! Where a token is stored by the hub's own tools.

use std::path::PathBuf;

use larder_content::Secret;

use super::HubConfig;

impl HubConfig {
    /// The token that `hf auth login` has stored below `hf_home`, if there is one.
    #[must_use]
    pub fn stored_token(hf_home: PathBuf) -> Option<Secret> {
        // The crate's cache folder is `hub` in that folder, and the token lies beside it.
        hf_hub::Cache::new(hf_home.join("hub")).token().map(Secret::new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_token_where_the_hubs_tools_store_it() {
        let home = tempfile::tempdir().unwrap();
        assert_eq!(HubConfig::stored_token(home.path().into()), None);
        std::fs::write(home.path().join("token"), "hf_abc\n").unwrap();
        assert_eq!(HubConfig::stored_token(home.path().into()), Some(Secret::new("hf_abc")));
    }
}
