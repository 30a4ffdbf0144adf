//! The peers a node knows, as they are kept over a restart and passed on to others; and whom it banned, which it keeps for itself.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use larder_content::NodeId;
use larder_content::codec::{self, CodecError, Record};
use libp2p::Multiaddr;
use serde::{Deserialize, Serialize};

use crate::gate::{LONGEST_BAN, MOST_BANS};

/// The most peers in a book.
pub(crate) const MOST_KNOWN: usize = 4096;
/// The most addresses kept of a peer.
pub(crate) const MOST_ADDRESSES: usize = 8;
/// The longest address, in bytes.
pub(crate) const MOST_ADDRESS_BYTES: usize = 256;

/// A peer and where it was reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownPeer {
    /// Who.
    pub node: NodeId,
    /// Multiaddresses without the peer id, the best first; at most 8.
    pub addresses: Vec<String>,
}

/// Who is not let in for a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KnownBan {
    /// Who.
    pub node: NodeId,
    /// For how long from now on.
    pub left: Duration,
    /// How often it broke the protocol: each time it is banned for longer.
    pub offences: u32,
}

/// What a node knows of others, for keeping over a restart.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Book {
    /// The peers that it reached; at most 4096.
    pub peers: Vec<KnownPeer>,
    /// Those that it banned; at most 4096.
    pub bans: Vec<KnownBan>,
}

/// Writes a book at the time `now`; what is past the 4096th is left out.
#[must_use]
pub fn encode_book(book: &Book, now: SystemTime) -> Vec<u8> {
    let peers = book.peers.iter().take(MOST_KNOWN).map(KnownPeerRecord::from).collect();
    let until_s = |ban: &KnownBan| now.checked_add(ban.left)?.duration_since(UNIX_EPOCH).ok().map(|since| since.as_secs());
    let ban = |ban: &KnownBan| Some(BanRecord { node: ban.node.0, until_s: until_s(ban)?, offences: ban.offences });
    let bans = book.bans.iter().take(MOST_BANS).filter_map(ban).collect();
    codec::encode(&BookRecord { peers, bans }).unwrap_or_default()
}

/// Reads a kept book at the time `now`; addresses that are none are left out, and bans that are over. None is longer than an hour, whatever
/// the clock did meanwhile.
///
/// # Errors
/// Fails if it is of another version or malformed; a node then begins with its bootstraps.
pub fn decode_book(bytes: &[u8], now: SystemTime) -> Result<Book, CodecError> {
    let record: BookRecord = codec::decode(bytes)?;
    let now_s = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let ban = |ban: BanRecord| {
        let left = Duration::from_secs(ban.until_s.saturating_sub(now_s)).min(LONGEST_BAN);
        (!left.is_zero()).then_some(KnownBan { node: NodeId(ban.node), left, offences: ban.offences })
    };
    let peers = record.peers.into_iter().take(MOST_KNOWN).map(KnownPeer::from).collect();
    Ok(Book { peers, bans: record.bans.into_iter().take(MOST_BANS).filter_map(ban).collect() })
}

#[derive(Debug, Serialize, Deserialize)]
struct BookRecord {
    peers: Vec<KnownPeerRecord>,
    bans: Vec<BanRecord>,
}

impl Record for BookRecord {
    const VERSION: u8 = 2;
    const LIMIT_BYTES: usize = MOST_KNOWN * (40 + MOST_ADDRESSES * (MOST_ADDRESS_BYTES + 4)) + MOST_BANS * 46;
}

#[derive(Debug, Serialize, Deserialize)]
struct BanRecord {
    node: [u8; 32],
    until_s: u64,
    offences: u32,
}

/// A [`KnownPeer`] as it is stored and sent.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct KnownPeerRecord {
    node: [u8; 32],
    addresses: Vec<String>,
}

impl From<&KnownPeer> for KnownPeerRecord {
    fn from(peer: &KnownPeer) -> Self {
        let short = peer.addresses.iter().filter(|address| address.len() <= MOST_ADDRESS_BYTES);
        Self { node: peer.node.0, addresses: short.take(MOST_ADDRESSES).cloned().collect() }
    }
}

impl From<KnownPeerRecord> for KnownPeer {
    fn from(record: KnownPeerRecord) -> Self {
        let usable = |address: &String| address.len() <= MOST_ADDRESS_BYTES && address.parse::<Multiaddr>().is_ok();
        Self { node: NodeId(record.node), addresses: record.addresses.into_iter().filter(usable).take(MOST_ADDRESSES).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_book_comes_back_without_what_is_no_address() {
        let peer = |addresses: &[&str]| KnownPeer { node: NodeId([3; 32]), addresses: addresses.iter().map(ToString::to_string).collect() };
        let book = Book { peers: vec![peer(&["/ip4/1.2.3.4/tcp/5", "nonsense"])], bans: vec![] };
        let bytes = encode_book(&book, UNIX_EPOCH);
        assert_eq!(decode_book(&bytes, UNIX_EPOCH).unwrap().peers, [peer(&["/ip4/1.2.3.4/tcp/5"])]);
        assert!(decode_book(&[9], UNIX_EPOCH).is_err());
    }

    #[test]
    fn a_ban_goes_on_where_it_was_and_is_never_longer_than_an_hour() {
        let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        let ban = |left| KnownBan { node: NodeId([3; 32]), left: Duration::from_secs(left), offences: 2 };
        let bytes = encode_book(&Book { peers: vec![], bans: vec![ban(600)] }, at(10_000));
        let read = |now| decode_book(&bytes, at(now)).unwrap().bans;
        assert_eq!(read(10_100), [ban(500)]);
        assert_eq!(read(10_600), []);
        assert_eq!(read(10), [ban(3600)], "the clock was set back");
    }
}
