//! The peers a node knows, as they are kept over a restart and passed on to others.

use larder_content::NodeId;
use larder_content::codec::{self, CodecError, Record};
use libp2p::Multiaddr;
use serde::{Deserialize, Serialize};

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

/// Writes a book for keeping; peers past the 4096th are left out.
#[must_use]
pub fn encode_book(peers: &[KnownPeer]) -> Vec<u8> {
    let peers = peers.iter().take(MOST_KNOWN).map(KnownPeerRecord::from).collect();
    codec::encode(&BookRecord { peers }).unwrap_or_default()
}

/// Reads a kept book; addresses that are none are left out.
///
/// # Errors
/// Fails if it is of another version or malformed; a node then begins with its bootstraps.
pub fn decode_book(bytes: &[u8]) -> Result<Vec<KnownPeer>, CodecError> {
    let record: BookRecord = codec::decode(bytes)?;
    Ok(record.peers.into_iter().take(MOST_KNOWN).map(KnownPeer::from).collect())
}

#[derive(Debug, Serialize, Deserialize)]
struct BookRecord {
    peers: Vec<KnownPeerRecord>,
}

impl Record for BookRecord {
    const VERSION: u8 = 1;
    const LIMIT_BYTES: usize = MOST_KNOWN * (40 + MOST_ADDRESSES * (MOST_ADDRESS_BYTES + 4));
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
        let bytes = encode_book(&[peer(&["/ip4/1.2.3.4/tcp/5", "nonsense"])]);
        assert_eq!(decode_book(&bytes).unwrap(), [peer(&["/ip4/1.2.3.4/tcp/5"])]);
        assert!(decode_book(&[9]).is_err());
    }
}
