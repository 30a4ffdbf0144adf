//! The claims for chunks of one file, of all who signed any.
//!
//! They may contradict each other: of what came with a claim only its own chunks were held against it. So none stands for another's.

use std::collections::BTreeMap;

use larder_content::{ChunkHash, Claim, NodeId};

/// Claims, by their first chunk and who signed.
#[derive(Debug, Default)]
pub(super) struct Claims(BTreeMap<(u64, NodeId), Claim>);

impl Claims {
    pub(super) fn keep(&mut self, claim: Claim) {
        self.0.insert((claim.first, claim.signer), claim);
    }

    /// Takes out those of some signers.
    pub(super) fn take_of(&mut self, signers: impl Fn(NodeId) -> bool) -> Vec<Claim> {
        self.0.extract_if(.., |(_, signer), _| signers(*signer)).map(|(_, claim)| claim).collect()
    }

    /// Who says that a chunk has this hash.
    pub(super) fn signers(&self, chunk: u64, hash: ChunkHash) -> impl Iterator<Item = NodeId> {
        self.covering(chunk).filter(move |claim| claim.run(chunk..chunk + 1) == [hash]).map(|claim| claim.signer)
    }

    fn covering(&self, chunk: u64) -> impl Iterator<Item = &Claim> {
        let first = chunk.saturating_sub(Claim::MAX_CHUNKS as u64 - 1);
        self.0.range((first, NodeId([0; 32]))..=(chunk, NodeId([u8::MAX; 32]))).map(|(_, claim)| claim)
    }

    /// The claim that says most of `hashes`, which are those from chunk `at` on, and of how many it does.
    pub(super) fn of(&self, at: u64, hashes: &[ChunkHash]) -> Option<(&Claim, u64)> {
        let says = |claim: &Claim| {
            let claimed = claim.run(at..claim.chunks().end.max(at));
            claimed.iter().zip(hashes).take_while(|(one, other)| one == other).count() as u64
        };
        self.covering(at).map(|claim| (claim, says(claim))).max_by_key(|(_, fits)| *fits).filter(|(_, fits)| *fits > 0)
    }
}

#[cfg(test)]
mod tests {
    use larder_content::FileKey;

    use super::*;

    fn claim(signer: u8, first: u64, hashes: &[u8]) -> Claim {
        let hashes = hashes.iter().map(|hash| ChunkHash([*hash; 32])).collect();
        Claim { file: FileKey([0; 32]), first, hashes, signer: NodeId([signer; 32]), signature: [0; 64] }
    }

    fn of(claims: &Claims, at: u64, hashes: &[u8]) -> Option<(u8, u64)> {
        let hashes: Vec<ChunkHash> = hashes.iter().map(|hash| ChunkHash([*hash; 32])).collect();
        claims.of(at, &hashes).map(|(claim, fits)| (claim.signer.0[0], fits))
    }

    #[test]
    fn a_claim_that_is_half_false_neither_hides_nor_replaces_anothers() {
        let mut claims = Claims::default();
        claims.keep(claim(1, 0, &[10, 11, 12, 13]));
        claims.keep(claim(9, 0, &[10, 0, 0, 0]));
        claims.keep(claim(9, 2, &[12, 0]));
        assert_eq!(of(&claims, 0, &[10, 11, 12, 13]), Some((1, 4)));
        assert_eq!(of(&claims, 2, &[12, 13]), Some((1, 2)));
        assert_eq!(of(&claims, 3, &[13]), Some((1, 1)));
        assert_eq!(of(&claims, 3, &[0]), Some((9, 1)), "whoever signed for the false one is named for it");
        assert_eq!(of(&claims, 4, &[14]), None);
    }

    #[test]
    fn what_others_signed_can_be_set_aside() {
        let mut claims = Claims::default();
        claims.keep(claim(1, 0, &[10]));
        claims.keep(claim(2, 0, &[10]));
        let others: Vec<u8> = claims.take_of(|signer| signer != NodeId([1; 32])).into_iter().map(|claim| claim.signer.0[0]).collect();
        assert_eq!((others, of(&claims, 0, &[10])), (vec![2], Some((1, 1))));
    }

    #[test]
    fn all_who_say_a_hash_are_named_and_nobody_else() {
        let mut claims = Claims::default();
        claims.keep(claim(1, 0, &[10, 11]));
        claims.keep(claim(2, 1, &[11]));
        claims.keep(claim(3, 0, &[10, 0]));
        claims.keep(claim(4, 0, &[10]));
        let signers: Vec<u8> = claims.signers(1, ChunkHash([11; 32])).map(|signer| signer.0[0]).collect();
        assert_eq!(signers, [1, 2]);
    }
}
