//! What the node moves, and how it is proven.
//!
//! The base of the workspace: no I/O, no clock, no randomness. Everything that passes a door between
//! two rooms is one of these types, and what they guarantee holds wherever they are held:
//! a [`RelativePath`] cannot leave its folder, a [`Secret`] cannot be printed, a [`VerifiedChunks`]
//! was hashed, a [`Proof`] exists only if the bytes matched what the origin said of them.

mod buffers;
mod chunk;
pub mod codec;
mod digest;
mod file;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod manifest;
mod parts;
mod path;
mod pieces;
mod prover;
mod resource;
mod secret;
mod swarm;
pub mod xet;

pub use buffers::Buffers;
pub use chunk::{CHUNK_BYTES, ChunkHash, ChunkHashes, ChunkLayout, ChunkTree, ContentId, VerifiedChunks, WrongChunk};
pub use digest::{Algorithm, OriginDigest, ParseDigestError, PartSizes, ProofKind, Strength};
pub use file::{FileKey, Locator, OriginFile, Scope};
pub use manifest::{MAX_FILE_BYTES, MAX_FILES, Manifest, ManifestError};
pub use path::{PathError, RelativePath};
pub use pieces::{Lister, PieceProver, PieceRow, Pieces};
pub use prover::{Mismatch, Proof, Prover};
pub use resource::{BucketCredentials, BucketResource, HubKind, HubResource, OllamaResource, RepoId, RepoIdError, Resource};
pub use secret::Secret;
pub use swarm::{Claim, FileMessage, FileWord, Holding, NodeId, Subject};
