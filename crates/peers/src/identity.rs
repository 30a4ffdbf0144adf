//! Who a node is: an Ed25519 key, its own or that of the host's Solana wallet.

use std::fmt;

use larder_content::NodeId;
use libp2p::PeerId;
use libp2p::identity::{Keypair, PublicKey, ed25519};

/// A node's key. Debug shows the peer id only.
#[derive(Clone)]
pub struct Identity {
    keypair: Keypair,
    node: NodeId,
}

impl Identity {
    /// Makes a key of random numbers of the system.
    #[must_use]
    pub fn generate() -> Self {
        Self::of(ed25519::Keypair::generate())
    }

    /// The key that these 32 secret bytes stand for.
    #[must_use]
    pub fn from_seed(mut seed: [u8; 32]) -> Self {
        match ed25519::SecretKey::try_from_bytes(&mut seed) {
            Ok(secret) => Self::of(ed25519::Keypair::from(secret)),
            Err(_) => unreachable!("32 bytes are always an Ed25519 secret"),
        }
    }

    /// Reads a Solana key file: a JSON array of 64 numbers, the secret half and the public half.
    ///
    /// # Errors
    /// Says what is wrong with the text, never what it holds.
    pub fn from_solana(json: &str) -> Result<Self, IdentityError> {
        let inner = json.trim().strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).ok_or(IdentityError::NoArray)?;
        let numbers: Vec<u8> =
            inner.split(',').map(|number| number.trim().parse()).collect::<Result<_, _>>().map_err(|_| IdentityError::NoBytes)?;
        let (seed, public) = numbers.split_at_checked(32).ok_or(IdentityError::Length(numbers.len()))?;
        let seed: [u8; 32] = seed.try_into().map_err(|_| IdentityError::Length(numbers.len()))?;
        if public.len() != 32 {
            return Err(IdentityError::Length(numbers.len()));
        }
        let identity = Self::from_seed(seed);
        if identity.node.0 != public { Err(IdentityError::Halves) } else { Ok(identity) }
    }

    /// The 32 secret bytes, to be kept where only the operator can read them.
    #[must_use]
    pub fn seed(&self) -> [u8; 32] {
        let mut seed = [0; 32];
        if let Ok(keypair) = self.keypair.clone().try_into_ed25519() {
            seed.copy_from_slice(keypair.secret().as_ref());
        }
        seed
    }

    /// The node's id.
    #[must_use]
    pub fn id(&self) -> NodeId {
        self.node
    }

    pub(crate) fn keypair(&self) -> &Keypair {
        &self.keypair
    }

    /// Signs 32 bytes.
    pub(crate) fn sign(&self, digest: &[u8; 32]) -> [u8; 64] {
        let signature = self.keypair.sign(digest).unwrap_or_default();
        signature.try_into().unwrap_or([0; 64])
    }

    fn of(keypair: ed25519::Keypair) -> Self {
        let node = NodeId(keypair.public().to_bytes());
        Self { keypair: keypair.into(), node }
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({})", self.node)
    }
}

/// A key file that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// Not an array.
    #[error("the key file is not a JSON array of 64 numbers")]
    NoArray,
    /// Not of bytes.
    #[error("the key file holds something that is not a number from 0 to 255")]
    NoBytes,
    /// Not 64.
    #[error("the key file holds {0} numbers; a Solana key has 64")]
    Length(usize),
    /// The public half is another key's.
    #[error("the halves of the key file do not belong together: its last 32 numbers are another key's public half")]
    Halves,
}

/// The node that a peer id names, if its key is an Ed25519 one.
pub(crate) fn node_of(peer: &PeerId) -> Option<NodeId> {
    NodeId::from_peer_id(&peer.to_bytes())
}

/// The peer id of a node; none if its bytes are no key.
pub(crate) fn peer_of(node: NodeId) -> Option<PeerId> {
    PeerId::from_bytes(&node.to_peer_id()).ok()
}

/// Whether `signature` is `signer`'s of these 32 bytes.
pub(crate) fn has_signed(signer: NodeId, digest: &[u8; 32], signature: &[u8; 64]) -> bool {
    ed25519::PublicKey::try_from_bytes(&signer.0).is_ok_and(|key| PublicKey::from(key).verify(digest, signature))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn solana(identity: &Identity) -> String {
        let numbers: Vec<String> = identity.seed().iter().chain(&identity.id().0).map(u8::to_string).collect();
        format!("[{}]\n", numbers.join(", "))
    }

    #[test]
    fn a_solana_key_file_gives_the_same_node_each_time() {
        let identity = Identity::generate();
        assert_eq!(Identity::from_solana(&solana(&identity)).unwrap().id(), identity.id());
        assert_eq!(Identity::from_seed(identity.seed()).id(), identity.id());
    }

    #[test]
    fn a_key_file_whose_halves_do_not_fit_is_refused() {
        let (one, two) = (Identity::generate(), Identity::generate());
        let numbers: Vec<String> = one.seed().iter().chain(&two.id().0).map(u8::to_string).collect();
        assert_eq!(Identity::from_solana(&format!("[{}]", numbers.join(","))).unwrap_err(), IdentityError::Halves);
        assert_eq!(Identity::from_solana("[1,2,3]").unwrap_err(), IdentityError::Length(3));
        assert_eq!(Identity::from_solana("[1,2,300]").unwrap_err(), IdentityError::NoBytes);
        assert_eq!(Identity::from_solana("{}").unwrap_err(), IdentityError::NoArray);
    }

    #[test]
    fn a_node_and_its_peer_id_are_written_alike() {
        let identity = Identity::generate();
        let peer = identity.keypair().public().to_peer_id();
        assert_eq!(peer.to_string(), identity.id().to_string());
        assert_eq!((node_of(&peer), peer_of(identity.id())), (Some(identity.id()), Some(peer)));
    }

    #[test]
    fn a_key_is_never_shown() {
        let identity = Identity::generate();
        assert_eq!(format!("{identity:?}"), format!("Identity({})", identity.id()));
    }
}
