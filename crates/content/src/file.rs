//! A file as its origin lists it, and the names it goes by.

use std::fmt;

use crate::{Algorithm, OriginDigest, Pieces, ProofKind, RelativePath, Strength};

/// One file as an origin lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OriginFile {
    /// Where it lies in its resource, and so in the job's target.
    pub path: RelativePath,
    /// Its size in bytes.
    pub size: u64,
    /// What the origin says of its bytes; may be empty.
    pub digests: Vec<OriginDigest>,
    /// Where exactly it lives.
    pub locator: Locator,
}

/// Where exactly a file lives, and in which version it was listed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Locator {
    /// Scheme, host and port: `https://huggingface.co`.
    pub endpoint: String,
    /// The repository with its kind, `models/org/name`, or the bucket; empty where the host is the bucket.
    pub container: String,
    /// The path in the repository, or the key in the bucket.
    pub path: String,
    /// The commit or ETag it was listed with; empty where the origin gives neither.
    pub version: String,
}

impl fmt::Display for Locator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.endpoint)?;
        if !self.container.is_empty() {
            write!(f, "/{}", self.container)?;
        }
        write!(f, "/{}", self.path)
    }
}

/// Whether a file's content may be read without credentials.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// Anyone may read it, so it is kept and found by what it is.
    Public,
    /// Only who shows access may have it, so it is kept and found by where it lives.
    Private,
}

/// The name of a file's content before its content id is known.
///
/// Public files with a digest that names content share a key wherever they live. All others, and all private
/// ones, have a key of their locator. 32 bytes: BLAKE3 in key derivation mode over the fields.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileKey(pub [u8; 32]);

impl OriginFile {
    /// The key this file is kept and found by.
    #[must_use]
    pub fn key(&self, scope: Scope) -> FileKey {
        match scope {
            Scope::Public => self.public_key(),
            Scope::Private => {
                let size = self.size.to_le_bytes();
                let mut fields = self.locator_fields();
                fields.push(&size);
                FileKey::derive("larder 2026 private file key v1", &fields)
            }
        }
    }

    /// The file with its Xet hash alone: the key of that is bound to what was proven by piece, whatever else is listed. `None` where no Xet
    /// hash is listed.
    #[must_use]
    pub fn by_pieces(&self) -> Option<Self> {
        self.xet().map(|root| Self { digests: vec![OriginDigest::Xet(root)], ..self.clone() })
    }

    /// The digest that a list of pieces may prove it by, each by itself: its Xet hash, else that of its parts if it proves no less than
    /// whatever else is listed, and how they were cut is, too.
    #[must_use]
    pub fn listable(&self) -> Option<&OriginDigest> {
        // A key that is made of a sha256 is bound to what that proved, and nothing else.
        let has_sha256 = self.digests.iter().any(|digest| digest.kind() == ProofKind::Whole(Algorithm::Sha256));
        let may = |digest: &&OriginDigest| !has_sha256 && Pieces::most(digest, self.size) > 0;
        let proves = |digest: &&OriginDigest| digest.strength() > Strength::Accident && Some(digest.strength()) == self.strength();
        let xet = self.digests.iter().find(|digest| matches!(digest, OriginDigest::Xet(_)));
        xet.or_else(|| self.digests.iter().filter(may).find(proves))
    }

    /// Its Xet hash, if one is listed.
    #[must_use]
    pub fn xet(&self) -> Option<[u8; 32]> {
        self.digests.iter().find_map(|digest| match digest {
            OriginDigest::Xet(root) => Some(*root),
            OriginDigest::Whole { .. } | OriginDigest::Parts { .. } | OriginDigest::GitSha1(_) => None,
        })
    }

    /// Whether its key names one version of its bytes: by a digest that names content, or by the version its locator holds.
    ///
    /// What has neither may be other bytes the next time, so what was kept of it is of no use.
    #[must_use]
    pub fn is_pinned(&self, scope: Scope) -> bool {
        !self.locator.version.is_empty() || (scope == Scope::Public && self.strength() == Some(Strength::Content))
    }

    /// The digests in the order in which a proof is tried.
    ///
    /// Those that name content come first, then those that hold for one locator, then those that find accidents.
    /// SHA-256 of the whole goes first: public keys are made of it, so it must hold whatever else does.
    #[must_use]
    pub fn proofs(&self) -> Vec<&OriginDigest> {
        let mut proofs: Vec<_> = self.digests.iter().collect();
        proofs.sort_by_key(|digest| (std::cmp::Reverse(digest.strength()), digest.kind()));
        proofs
    }

    /// What the best of its digests proves; `None` where it has none.
    #[must_use]
    pub fn strength(&self) -> Option<Strength> {
        self.digests.iter().map(OriginDigest::strength).max()
    }

    fn public_key(&self) -> FileKey {
        const CONTEXT: &str = "larder 2026 public file key v1";
        let content = |wanted: fn(&OriginDigest) -> Option<&[u8]>| self.digests.iter().find_map(wanted);
        let sha256 = content(|digest| match digest {
            OriginDigest::Whole { algorithm: crate::Algorithm::Sha256, value } => Some(value),
            OriginDigest::Whole { .. } | OriginDigest::Parts { .. } | OriginDigest::GitSha1(_) | OriginDigest::Xet(_) => None,
        });
        let xet = content(|digest| match digest {
            OriginDigest::Xet(root) => Some(root),
            OriginDigest::Whole { .. } | OriginDigest::Parts { .. } | OriginDigest::GitSha1(_) => None,
        });
        let size = self.size.to_le_bytes();
        if let Some(value) = sha256 {
            return FileKey::derive(CONTEXT, &[b"sha256", &size, value]);
        }
        if let Some(value) = xet {
            return FileKey::derive(CONTEXT, &[b"xet", &size, value]);
        }
        let mut fields = self.locator_fields();
        fields.insert(0, b"locator");
        fields.push(&size);
        FileKey::derive(CONTEXT, &fields)
    }

    fn locator_fields(&self) -> Vec<&[u8]> {
        let Locator { endpoint, container, path, version } = &self.locator;
        [endpoint, container, path, version].map(|field| field.as_bytes()).to_vec()
    }
}

impl FileKey {
    fn derive(context: &str, fields: &[&[u8]]) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key(context);
        for field in fields {
            hasher.update(&(field.len() as u64).to_le_bytes());
            hasher.update(field);
        }
        Self(*hasher.finalize().as_bytes())
    }
}

impl fmt::Display for FileKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for FileKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FileKey({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(container: &str, digests: Vec<OriginDigest>) -> OriginFile {
        OriginFile {
            path: RelativePath::new("w.bin").unwrap(),
            size: 7,
            digests,
            locator: Locator { endpoint: "https://hub".into(), container: container.into(), path: "w.bin".into(), version: "c1".into() },
        }
    }

    #[test]
    fn the_same_weights_in_two_repos_have_one_public_key_and_two_private_ones() {
        let sha = OriginDigest::sha256(&"ab".repeat(32)).unwrap();
        let (a, b) = (file("models/a", vec![sha.clone()]), file("models/b", vec![sha]));
        assert_eq!(a.key(Scope::Public), b.key(Scope::Public));
        assert_ne!(a.key(Scope::Private), b.key(Scope::Private));
        assert_ne!(a.key(Scope::Private), a.key(Scope::Public));
    }

    #[test]
    fn digests_for_which_twins_can_be_made_hold_for_one_locator() {
        for digest in [OriginDigest::git_sha1(&"ab".repeat(20)).unwrap(), OriginDigest::whole(crate::Algorithm::Md5, &[1; 16]).unwrap()] {
            assert_eq!(digest.strength(), Strength::OneLocator);
            let (a, b) = (file("models/a", vec![digest.clone()]), file("models/b", vec![digest]));
            assert_ne!(a.key(Scope::Public), b.key(Scope::Public));
        }
    }

    #[test]
    fn what_has_neither_version_nor_digest_is_not_pinned() {
        let mut plain = file("a", vec![]);
        assert!(plain.is_pinned(Scope::Public) && plain.is_pinned(Scope::Private));
        plain.locator.version.clear();
        assert!(!plain.is_pinned(Scope::Public) && !plain.is_pinned(Scope::Private));
        plain.digests.push(OriginDigest::sha256(&"ab".repeat(32)).unwrap());
        assert!(plain.is_pinned(Scope::Public) && !plain.is_pinned(Scope::Private));
    }

    #[test]
    fn parts_prove_by_a_list_where_their_sizes_are_known_and_nothing_proves_more() {
        use crate::PartSizes;
        let parts = |algorithm, sizes| OriginDigest::parts(algorithm, &vec![1; Algorithm::bytes(algorithm)], sizes).unwrap();
        let (known, counted) = (PartSizes::Uniform { bytes: 5 }, PartSizes::Count(2));
        let md5 = parts(Algorithm::Md5, known.clone());
        let of = |digests: Vec<OriginDigest>| file("a", digests).listable().cloned();
        assert_eq!(of(vec![OriginDigest::whole(Algorithm::Md5, &[2; 16]).unwrap(), md5.clone()]), Some(md5.clone()));
        assert_eq!(of(vec![parts(Algorithm::Md5, counted)]), None);
        assert_eq!(of(vec![parts(Algorithm::Crc32, known.clone())]), None);
        assert_eq!(of(vec![parts(Algorithm::Sha256, known), md5.clone()]).map(|digest| digest.strength()), Some(Strength::Content));
        let sha256 = OriginDigest::sha256(&"ab".repeat(32)).unwrap();
        assert_eq!(of(vec![sha256.clone(), md5.clone()]), None);
        assert_eq!(of(vec![sha256, parts(Algorithm::Sha256, PartSizes::Uniform { bytes: 5 })]), None);
        let xet = OriginDigest::xet(&"cd".repeat(32)).unwrap();
        assert_eq!(of(vec![md5, xet.clone()]), Some(xet));
    }

    #[test]
    fn a_xet_root_names_content_where_no_sha256_is_listed() {
        let xet = OriginDigest::xet(&"cd".repeat(32)).unwrap();
        let sha = OriginDigest::sha256(&"ab".repeat(32)).unwrap();
        assert_eq!(file("a", vec![xet.clone()]).key(Scope::Public), file("b", vec![xet.clone()]).key(Scope::Public));
        assert_eq!(file("a", vec![xet.clone(), sha.clone()]).key(Scope::Public), file("b", vec![sha.clone()]).key(Scope::Public));
        let both = file("a", vec![xet.clone(), sha.clone()]);
        assert_eq!(both.proofs()[0], &sha);
        assert_eq!(both.by_pieces(), Some(file("a", vec![xet])));
        assert_eq!(file("a", vec![sha]).by_pieces(), None);
    }
}
