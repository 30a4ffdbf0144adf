//! Why a peer that speaks something else is turned away, in words that its operator can act on.

use libp2p::StreamProtocol;

use crate::shared::{PROTOCOL_VERSION, Shared};

/// The longest part of a stranger's words that is repeated.
const MOST_CHARACTERS: usize = 64;

/// None if the peer speaks our protocols; else why it is turned away.
pub(super) fn reason_to_turn_away(shared: &Shared, protocols: &[StreamProtocol], agent: &str) -> Option<String> {
    let speaks = |name: &str| protocols.iter().any(|protocol| protocol.as_ref() == name);
    if speaks(&shared.protocol("control")) && speaks(&shared.protocol("bulk")) {
        return None;
    }
    let theirs = protocols.iter().find_map(|protocol| larder_protocol(protocol.as_ref()));
    Some(match theirs {
        Some((market, version)) if market == shared.address && version != PROTOCOL_VERSION.to_string() => {
            format!("speaks larder {}, this node speaks {PROTOCOL_VERSION}", short(version))
        }
        Some((market, _)) if market != shared.address => format!("is of market {}, this node is of {}", short(market), shared.address),
        Some(_) | None => format!("does not speak larder ({agent})"),
    })
}

/// The market and the version in the name of a control or bulk protocol.
fn larder_protocol(name: &str) -> Option<(&str, &str)> {
    let mut parts = name.strip_prefix("/larder/")?.split('/');
    let (market, kind, version) = (parts.next()?, parts.next()?, parts.next()?);
    // The older of a node's versions would mislead where one of its protocols is ours.
    (kind == "control" || kind == "bulk").then_some((market, version))
}

fn short(text: &str) -> String {
    text.chars().filter(|character| !character.is_control()).take(MOST_CHARACTERS).collect()
}
