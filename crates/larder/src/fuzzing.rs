//! The readers of what operators write and clients of the API send, for a fuzzer.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use larder_content::fuzzing::Target;
use larder_node::Prepare;
use larder_origin::PrivateHosts;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::api::{Door, read_submission};
use crate::command::{Order, Telling};
use crate::config::Config;

/// This crate's readers. A value of TOML keeps its place and how it was written: some 200 bytes where its text has two.
pub const TARGETS: &[Target] = &[
    Target::new("config", config).holding(256 << 10, 256),
    Target::new("submission", submission).holding(256 << 10, 128),
    Target::new("order", order).holding(256 << 10, 128),
];

/// A configuration file: each of its markets is one, and the API listens on this machine alone.
fn config(bytes: &[u8]) {
    let Ok(config) = Config::parse(PathBuf::from("/x"), &String::from_utf8_lossy(bytes)) else { return };
    assert!(config.api_listen.is_none_or(|address| address.ip().is_loopback()));
    assert!(config.node.peers.markets.iter().all(|market| config.check_market(&market.address).is_ok()));
    assert!(config.node.engine.reads > 0 && config.node.engine.range_chunks > 0 && PrivateHosts::parse(&config.private_hosts).is_ok());
}

/// A job that is submitted to the API: what is taken can be passed on as an order.
fn submission(body: &[u8]) {
    const TEXT: &str = "[api]\nroots = \"/srv\"\n[markets.here]\nlisten = [\"/ip4/127.0.0.1/tcp/0\"]";
    static CONFIG: LazyLock<Option<Config>> = LazyLock::new(|| Config::parse(PathBuf::from("/x"), TEXT).ok());
    let Some(config) = &*CONFIG else { panic!("there is no configuration") };
    if let Ok(Prepare { root: Some(root), within, .. }) = read_submission(config, Door::Tcp, body) {
        assert!(root.starts_with("/srv") && within.as_deref() == Some(Path::new("/srv")), "{} is outside", root.display());
        assert!(root.components().all(|part| part != std::path::Component::ParentDir), "{} leads outside", root.display());
    }
    match read_submission(config, Door::Socket, body) {
        Ok(request) => {
            assert!(request.name.len() <= 256 && request.root.as_ref().is_none_or(|root| root.is_absolute()));
            assert!(request.set.iter().all(|pair| pair.contains('=')) && request.market.as_ref().is_none_or(|market| market == "here"));
            comes_back::<Prepare>(&serde_json::to_vec(&request).unwrap_or_default());
        }
        Err(why) => assert!(why.len() < 1000, "{why}"),
    }
}

/// An order to the process that holds the store, or what it tells.
fn order(bytes: &[u8]) {
    comes_back::<Order>(bytes);
    comes_back::<Telling>(bytes);
}

/// What is read is written so that it is read again. The last digit of a fraction may be another then.
fn comes_back<T: Serialize + DeserializeOwned>(json: &[u8]) {
    let Ok(value) = serde_json::from_slice::<T>(json) else { return };
    let again = serde_json::to_vec(&value).and_then(|written| serde_json::from_slice::<T>(&written));
    assert!(again.is_ok(), "{:?}", again.err());
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_seed_of_the_corpus_is_read() {
        larder_content::fuzzing::replay(super::TARGETS, concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz"));
    }
}
