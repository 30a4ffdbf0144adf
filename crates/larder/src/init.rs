//! `larder init`: writes what a node needs before its first run.
//!
//! Nothing that is there is overwritten: a further market is added to the configuration, and the rest of it stays as it is.

use std::io::{ErrorKind, Write};
use std::path::Path;

use anyhow::{Context, bail, ensure};

use crate::arguments::InitArguments;
use crate::config::{self, Config, MarketFields};

/// What `init` is asked for, once it is known to make sense.
pub(crate) enum Init {
    /// A configuration that explains every field, unless there is one.
    Explained,
    /// A configuration with the table of a market, where there is none.
    New(String),
    /// The configuration that is there, with the table of a market.
    Grown { market: String, text: String },
}

/// What the arguments come down to.
///
/// # Errors
/// They are wrong, or the market is configured already.
pub(crate) fn plan(config: &Config, arguments: InitArguments) -> anyhow::Result<Init> {
    let there = config.path().exists();
    let InitArguments { market: Some(market), listen, bootstrap } = arguments else {
        return Ok(Init::Explained);
    };
    let markets = &config.node.peers.markets;
    if markets.iter().any(|known| known.address == market) {
        bail!(
            "the market {market} is in {} already, and stays as it is: change its table there, or take it out and run this again",
            config.path().display()
        );
    }
    let listen = if listen.is_empty() { config::default_listen(markets.len(), config.node.peers.quic) } else { listen };
    let table = config::table(&market, &MarketFields { listen, bootstrap, allow: Vec::new() });
    let mut text = if there { config.text()? } else { config::explained() };
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    text.push_str(&table);
    // What would not be understood afterwards is not written.
    Config::parse(config.home.clone(), &text)?;
    Ok(if there { Init::Grown { market, text } } else { Init::New(text) })
}

/// Writes the configuration, and the key if there is none, and tells what it did.
///
/// # Errors
/// Something cannot be written.
pub(crate) fn carry_out(config: &Config, init: &Init) -> anyhow::Result<[String; 2]> {
    config::make_home(&config.home)?;
    let path = config.path();
    let shown = path.display();
    let said = match init {
        Init::Explained => {
            if write_new(&path, &config::explained()).with_context(|| shown.to_string())? {
                format!("wrote {shown}")
            } else {
                format!("{shown} is there already, and stays")
            }
        }
        Init::New(text) => {
            ensure!(write_new(&path, text).with_context(|| shown.to_string())?, "{shown} has just been made by another: run this again");
            format!("wrote {shown}")
        }
        Init::Grown { market, text } => {
            replace(&path, text).with_context(|| shown.to_string())?;
            format!("added the market {market} to {shown}")
        }
    };
    let id = larder_node::peer_id(&config.identity()?);
    Ok([said, format!("the key of this node is in {}, its peer id is {id}", config.key.display())])
}

/// Writes a file unless it is there; whether it was not.
fn write_new(path: &Path, text: &str) -> anyhow::Result<bool> {
    match temporary(path, text)?.persist_noclobber(path) {
        Ok(_) => Ok(true),
        Err(failed) if failed.error.kind() == ErrorKind::AlreadyExists => Ok(false),
        Err(failed) => Err(failed.error.into()),
    }
}

/// Replaces a file as a whole, wherever a link leads to it, with the permissions it has.
fn replace(path: &Path, text: &str) -> anyhow::Result<()> {
    let path = std::fs::canonicalize(path)?;
    let file = temporary(&path, text)?;
    file.as_file().set_permissions(std::fs::metadata(&path)?.permissions())?;
    file.persist(&path)?;
    Ok(())
}

fn temporary(path: &Path, text: &str) -> anyhow::Result<tempfile::NamedTempFile> {
    let mut file = tempfile::NamedTempFile::new_in(path.parent().context("it is in no folder")?)?;
    file.write_all(text.as_bytes())?;
    file.as_file().sync_all()?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn init(home: &Path, market: Option<&str>, listen: &[&str]) -> anyhow::Result<[String; 2]> {
        let config = Config::load(Some(home.to_owned()))?;
        let listen = listen.iter().map(|listen| (*listen).to_owned()).collect();
        carry_out(&config, &plan(&config, InitArguments { market: market.map(str::to_owned), listen, bootstrap: Vec::new() })?)
    }

    fn text(home: &Path) -> String {
        std::fs::read_to_string(home.join("config.toml")).unwrap()
    }

    #[test]
    fn a_further_market_is_added_and_the_rest_stays_to_the_letter() {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path().join("home");
        init(&home, None, &[]).unwrap();
        assert_eq!(text(&home), config::explained());
        let own = "# Mine.\n[store]\nquota_bytes = 5 # small";
        std::fs::write(home.join("config.toml"), own).unwrap();
        let key = std::fs::read(home.join("identity.key")).unwrap();
        init(&home, Some("a.b"), &["/ip4/127.0.0.1/tcp/7"]).unwrap();
        init(&home, Some("c"), &[]).unwrap();
        assert!(text(&home).starts_with(&format!("{own}\n")));
        assert_eq!(std::fs::read(home.join("identity.key")).unwrap(), key);
        let config = Config::load(Some(home.clone())).unwrap();
        assert_eq!(config.store.quota_bytes, Some(5));
        let listen: Vec<_> = config.node.peers.markets.iter().map(|market| (market.address.as_str(), market.listen[0].as_str())).collect();
        assert_eq!(listen, [("a.b", "/ip4/127.0.0.1/tcp/7"), ("c", "/ip4/0.0.0.0/tcp/4002")]);
        let before = text(&home);
        let error = init(&home, Some("c"), &["/ip4/127.0.0.1/tcp/8"]).unwrap_err().to_string();
        assert!(error.contains("already") && error.contains("change its table"), "{error}");
        init(&home, None, &[]).unwrap();
        assert_eq!(text(&home), before);
        // Only the configuration and the key: nothing is left behind.
        assert_eq!(std::fs::read_dir(&home).unwrap().count(), 2);
    }

    #[test]
    fn what_would_not_be_understood_afterwards_is_not_written() {
        let folder = tempfile::tempdir().unwrap();
        for (market, listen) in [("a b", "/ip4/0.0.0.0/tcp/1"), ("a", "0.0.0.0:1"), ("a\"]\n[api", "/ip4/0.0.0.0/tcp/1")] {
            assert!(init(folder.path(), Some(market), &[listen]).is_err());
            assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        }
        std::fs::write(folder.path().join("config.toml"), "markets = {}").unwrap();
        assert!(init(folder.path(), Some("a"), &[]).is_err());
        assert_eq!(text(folder.path()), "markets = {}");
    }

    #[test]
    fn a_configuration_behind_a_link_is_added_to_where_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let (home, real) = (folder.path().join("home"), folder.path().join("real.toml"));
        std::fs::create_dir(&home).unwrap();
        std::fs::write(&real, "[store]\n").unwrap();
        std::os::unix::fs::symlink(&real, home.join("config.toml")).unwrap();
        init(&home, Some("a"), &[]).unwrap();
        assert!(home.join("config.toml").is_symlink());
        assert!(std::fs::read_to_string(&real).unwrap().contains("[markets.a]"));
    }
}
