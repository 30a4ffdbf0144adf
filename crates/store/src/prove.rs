//! Which of a file's digests must match before its key is bound.
//!
//! Invariant: a public key that is made of a digest is bound only when that very digest was proven. A listing may claim any
//! sha256, and the key it makes is shared by every resource that lists the same.

use larder_content::{Mismatch, OriginDigest, OriginFile, ProofKind, Prover, Scope, Strength};

/// The proof of one file while its bytes go by.
pub(crate) struct Trial {
    prover: Prover,
    later: Vec<OriginDigest>,
}

/// That the proof of the first pass did not hold.
pub(crate) struct Failed {
    pub(crate) mismatch: Mismatch,
    /// Digests that would do as well, each for another pass over the bytes.
    pub(crate) later: Vec<OriginDigest>,
}

impl Trial {
    /// The proof of `file`, which is kept under its key for `scope`.
    pub(crate) fn new(file: &OriginFile, scope: Scope) -> Self {
        if let Some(digest) = key_digest(file, scope) {
            return Self { prover: Prover::for_digest(Some(digest), file.size), later: vec![] };
        }
        let proofs = file.proofs();
        let later = proofs.iter().skip(1).filter(|digest| digest.strength() >= Strength::OneLocator);
        Self { prover: Prover::for_digest(proofs.first().copied(), file.size), later: later.copied().cloned().collect() }
    }

    /// Takes the next bytes of the file.
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.prover.update(bytes);
    }

    /// By what the file was proven.
    pub(crate) fn finish(self) -> Result<ProofKind, Failed> {
        let Self { prover, later } = self;
        prover.finish().map(larder_content::Proof::kind).map_err(|mismatch| Failed { mismatch, later })
    }
}

/// The digest that the file's key is made of; `None` where it is made of the locator.
fn key_digest(file: &OriginFile, scope: Scope) -> Option<&OriginDigest> {
    let key_with = |digests: Vec<OriginDigest>| OriginFile { digests, ..file.clone() }.key(scope);
    let key = file.key(scope);
    if key == key_with(vec![]) {
        return None;
    }
    file.digests.iter().find(|digest| key == key_with(vec![(*digest).clone()]))
}

/// Whether what matches the file's digests can be told from what was made to look like it.
pub(crate) fn is_provable(file: &OriginFile) -> bool {
    file.strength() >= Some(Strength::OneLocator)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{file, md5, sha256, xet};

    fn outcome(file: &OriginFile, scope: Scope, bytes: &[u8]) -> Result<ProofKind, usize> {
        let mut trial = Trial::new(file, scope);
        trial.update(bytes);
        trial.finish().map_err(|failed| failed.later.len())
    }

    #[test]
    fn a_key_made_of_a_digest_needs_that_digest_whatever_else_matches() {
        let evil = b"evil".as_slice();
        let lying = file("w", 4, vec![sha256(b"good"), xet(evil), md5(evil)]);
        assert_eq!(outcome(&lying, Scope::Public, evil), Err(0), "a false sha256 passed, or left another way open");
        let honest = file("w", 4, vec![sha256(evil), xet(evil)]);
        assert_eq!(outcome(&honest, Scope::Public, evil), Ok(ProofKind::Whole(larder_content::Algorithm::Sha256)));
        assert_eq!(outcome(&file("w", 4, vec![xet(evil)]), Scope::Public, evil), Ok(ProofKind::Xet));
    }

    #[test]
    fn a_key_made_of_the_locator_may_be_proven_by_the_next_digest() {
        let listed = file("w", 4, vec![sha256(b"good"), md5(b"evil")]);
        assert_eq!(outcome(&listed, Scope::Private, b"evil"), Err(1));
        assert_eq!(outcome(&file("w", 4, vec![]), Scope::Public, b"evil"), Ok(ProofKind::None));
        assert_eq!(outcome(&file("w", 5, vec![]), Scope::Public, b"evil"), Err(0));
    }
}
