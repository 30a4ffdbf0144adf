//! What a configuration may say, and what it is told when it says something else.

use super::*;
use larder_node::MarketSettings;

fn parse(text: &str, variables: &[(&str, &str)]) -> anyhow::Result<FileConfig> {
    let mut table: toml::Table = text.parse()?;
    fields::check_names(&table)?;
    let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    fields::apply_environment(&mut table, &OTHER_VARIABLES, variables)?;
    Ok(table.try_into()?)
}

fn compose(text: &str) -> anyhow::Result<Config> {
    Config::compose(PathBuf::from("/x"), parse(text, &[])?)
}

fn message<T>(result: anyhow::Result<T>) -> String {
    result.err().map(|error| format!("{error:#}")).unwrap_or_default()
}

const PEER: &str = "12D3KooWBmAwcd4PJNJvfV89HwE48nwkRmAgo8Vy3uQEyNNHBox2";
/// The peer id of a key that is not Ed25519.
const OTHER_KIND: &str = "QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N";
const OTHER: &str = "12D3KooWQYV9dGMFoRzNStwpXztXaBUjtPqi6aU76ZgUriHhKust";

#[test]
fn the_explained_file_is_valid_and_every_field_in_it_can_be_set() {
    assert!(parse(&explained(), &[]).is_ok());
    for field in &fields::FIELDS {
        let set = format!("[{}]\n{} = {}", field.section, field.name, field.default);
        assert!(compose(&set).is_ok(), "{set}");
        let value = field.default.trim_matches('"');
        let name = format!("LARDER_{}_{}", field.section, field.name).to_uppercase();
        assert!(parse("", &[(&name, value)]).is_ok(), "{name}={value}");
    }
}

#[test]
fn what_the_explained_file_shows_is_what_holds_without_a_file() {
    let defaults: String = explained()
        .lines()
        .map(|line| line.strip_prefix("# ").filter(|line| line.contains(" = ")).unwrap_or(line))
        .filter(|line| !line.contains("[\"/"))
        .fold(String::new(), |text, line| text + line + "\n");
    let (shown, bare) = (compose(&defaults.replace("allow = []", "")).unwrap(), compose("").unwrap());
    let of = |config: &Config| {
        let NodeConfig { engine, patience, origin_bytes_per_second, peers } = &config.node;
        let peers = (peers.upload_bytes_per_second, peers.download_bytes_per_second, peers.connections, peers.quic, peers.markets.clone());
        (
            config.store.clone(),
            format!("{engine:?}"),
            *patience,
            *origin_bytes_per_second,
            peers,
            config.key.clone(),
            config.api_listen,
            config.hub.stall,
        )
    };
    assert_eq!(of(&shown), of(&bare));
}

#[test]
fn the_environment_goes_before_the_file() {
    let variables =
        [("LARDER_STORE_QUOTA_BYTES", "7"), ("LARDER_HOME", "/x"), ("LARDER_JOBS_PATIENCE", "2"), ("LARDER_PEERS_QUIC", "false")];
    let config = parse("[store]\nquota_bytes = 5\n[jobs]\npatience = 3", &variables).unwrap();
    assert_eq!((config.store.quota_bytes, config.jobs.patience, config.peers.quic), (Some(7), Some(2.0), Some(false)));
}

#[test]
fn unknown_names_are_refused_with_the_nearest_known_one() {
    assert!(message(parse("[store]\nquota_byte = 5", &[])).ends_with("did you mean quota_bytes?"));
    assert!(message(parse("[stores]", &[])).ends_with("did you mean store?"));
    assert!(message(parse("[market.x]", &[])).ends_with("did you mean markets?"));
    assert!(message(parse("[markets.x]\nlisten_at = []", &[])).ends_with("did you mean listen?"));
    assert!(message(parse("", &[("LARDER_STORE_QUOTA", "5")])).ends_with("did you mean LARDER_STORE_QUOTA_BYTES?"));
    assert!(message(parse("", &[("LARDER_ORIGIN_READS", "many")])).contains("whole number"));
    assert!(message(parse("", &[("LARDER_PEERS_QUIC", "yes")])).contains("true or false"));
    assert!(message(parse("", &[("LARDER_JOBS_PATIENCE", "long")])).contains("a number"));
    for no_section in ["store = 5", "markets = 5", "markets.x = 5"] {
        assert!(message(parse(no_section, &[])).contains("is a section"), "{no_section}");
    }
}

#[test]
fn times_that_no_clock_reaches_are_refused() {
    for field in ["keep_hours", "lease_hours"] {
        let error = message(compose(&format!("[store]\n{field} = 5_000_000_000_000_000")));
        assert_eq!(error, format!("store.{field} must be at most 87600: ten years"));
        assert!(compose(&format!("[store]\n{field} = 87600")).is_ok());
    }
}

#[test]
fn patience_is_a_number_of_times_or_without_limit() {
    let patience = |text: &str| compose(&format!("[jobs]\npatience = {text}")).map(|config| config.node.patience);
    assert_eq!(compose("").unwrap().node.patience, Patience::Times(1.5));
    assert_eq!(patience("1").unwrap(), Patience::Times(1.0));
    assert_eq!(patience("0").unwrap(), Patience::Unlimited);
    for wrong in ["0.5", "-1", "nan", "inf"] {
        assert!(message(patience(wrong)).contains("1 or more, or 0 for no limit"), "{wrong}");
    }
}

#[test]
fn the_api_listens_on_this_machine_alone() {
    let listen = |text: &str| compose(&format!("[api]\nlisten = {text:?}")).map(|config| config.api_listen);
    for (text, address) in [("127.0.0.1:7070", "127.0.0.1:7070"), ("localhost:80", "127.0.0.1:80"), ("[::1]:0", "[::1]:0")] {
        assert_eq!(listen(text).unwrap(), Some(address.parse().unwrap()));
    }
    assert_eq!(listen("").unwrap(), None);
    for open in ["0.0.0.0:7070", "192.168.1.5:7070", "[::]:7070"] {
        assert!(message(listen(open)).contains("commands this node"), "{open}");
    }
    for wrong in ["7070", "127.0.0.1", "node.lan:7070", "127.0.0.1:70700"] {
        assert!(message(listen(wrong)).contains("write 127.0.0.1:7070"), "{wrong}");
    }
}

#[test]
fn a_market_is_read_as_it_is_written() {
    let fields = MarketFields {
        listen: default_listen(0, true),
        bootstrap: vec![format!("/dns4/boot.example/tcp/4001/p2p/{OTHER}"), format!("/ip4/203.0.113.5/udp/4001/quic-v1/p2p/{PEER}")],
        allow: vec![PEER.to_owned(), OTHER.to_owned()],
    };
    let text = explained()
        + &table("market.one", &fields)
        + &table("two", &MarketFields { listen: default_listen(1, false), ..MarketFields::default() });
    let markets = compose(&text).unwrap().node.peers.markets;
    let one = MarketSettings {
        address: "market.one".into(),
        listen: vec!["/ip4/0.0.0.0/tcp/4001".into(), "/ip4/0.0.0.0/udp/4001/quic-v1".into()],
        bootstrap: fields.bootstrap.clone(),
        allow: fields.allow.clone(),
        is_bootstrap: false,
    };
    let (bootstrap, allow) = (Vec::new(), Vec::new());
    let two = MarketSettings { address: "two".into(), listen: vec!["/ip4/0.0.0.0/tcp/4002".into()], bootstrap, allow, is_bootstrap: false };
    assert_eq!(markets, [one, two]);
}

#[test]
fn a_market_that_is_half_said_or_wrong_is_refused_with_the_reason() {
    let market = |fields: &str| message(compose(&format!("[markets.x]\n{fields}")));
    let peer = format!("/ip4/127.0.0.1/tcp/1/p2p/{PEER}");
    let cases = [
        (String::new(), "set one of them"),
        ("listen = [\"127.0.0.1:4001\"]".into(), "write it as /ip4/"),
        ("listen = [\"/dns4/name/tcp/4001\"]".into(), "no IP address"),
        ("listen = [\"/ip4/0.0.0.0/udp/4001\"]".into(), "write it as /ip4/"),
        (format!("listen = [{peer:?}]"), "write it as /ip4/"),
        ("bootstrap = [\"/ip4/127.0.0.1/tcp/4001\"]".into(), "does not end in the node's peer id"),
        (format!("bootstrap = [\"/ip4/127.0.0.1/tcp/0/p2p/{PEER}\"]"), "port 0"),
        (format!("bootstrap = [\"/ip4/127.0.0.1/tcp/1/p2p/{OTHER_KIND}\"]"), "of no Larder node"),
        (format!("bootstrap = [{peer:?}]\nallow = [{OTHER_KIND:?}]"), "no peer id"),
        (format!("bootstrap = [\"/memory/5/p2p/{PEER}\"]"), "no host"),
        (format!("bootstrap = [{peer:?}]\nallow = [\"nobody\"]"), "no peer id"),
        (format!("bootstrap = [{peer:?}]\nallow = [{OTHER:?}]"), "not let in by allow"),
        ("listen = 5".into(), "invalid type"),
    ];
    for (fields, reason) in cases {
        assert!(market(&fields).contains(reason), "{fields}: {}", market(&fields));
    }
    assert_eq!(market(&format!("bootstrap = [{peer:?}]")), "");
    let quic = "[peers]\nquic = false\n[markets.x]\nlisten = [\"/ip4/0.0.0.0/udp/4001/quic-v1\"]";
    assert!(message(compose(quic)).contains("peers.quic is false"));
    let twice = "[markets.x]\nlisten = [\"/ip4/0.0.0.0/tcp/4001\"]\n[markets.y]\nlisten = [\"/ip4/0.0.0.0/tcp/4001\"]";
    assert!(message(compose(twice)).contains("a port of its own"));
    assert!(compose(&twice.replace("4001", "0")).is_ok());
}

#[test]
fn the_address_of_a_market_fits_everywhere_it_goes() {
    let market = |address: &str| message(compose(&format!("[markets.{address:?}]\nlisten = [\"/ip4/0.0.0.0/tcp/0\"]")));
    let longest = "a".repeat(64);
    for fits in ["7Xk", "a.b_c-d", &longest] {
        assert_eq!(market(fits), "");
    }
    let longer = "a".repeat(65);
    for wrong in ["", "a b", "a/b", "ä", "a\nb", &longer] {
        assert!(market(wrong).contains("names no market"), "{wrong:?}: {}", market(wrong));
    }
}

#[test]
fn half_a_setting_of_peers_is_refused() {
    assert!(message(compose("[peers]\nconnections = 0")).contains("peers.connections must be 1 to"));
    assert!(message(compose("[peers]\nkey = \"\"")).contains("names no file"));
    assert_eq!(compose("[peers]\nkey = \"/etc/solana.json\"").unwrap().key, Path::new("/etc/solana.json"));
    assert_eq!(compose("").unwrap().key, Path::new("/x/identity.key"));
}
