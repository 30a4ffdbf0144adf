//! What each way to prove a file costs one core.

use std::path::Path;
use std::time::Instant;

use anyhow::Context;
use bytes::Bytes;
use larder_content::xet::XetHasher;
use larder_content::{Algorithm, CHUNK_BYTES, ChunkLayout, Lister, OriginDigest, Prover, VerifiedChunks};
use serde::Serialize;

/// The seconds that the bytes of one file took, each way by itself.
#[derive(Debug, Serialize)]
pub(crate) struct Proofs {
    bytes: usize,
    /// Each chunk by its BLAKE3 hash, as everything is that comes from peers.
    chunks: f64,
    /// By a list of the pieces of the Xet hash.
    pieces: f64,
    /// By the Xet hash without a list.
    xet: f64,
    /// By the sha256.
    sha256: f64,
    /// By the MD5, which a list of parts takes as long for.
    md5: f64,
}

/// Takes the times; the file is in memory by then.
pub(crate) fn measure(path: &Path) -> anyhow::Result<Proofs> {
    let bytes = Bytes::from(std::fs::read(path).with_context(|| path.display().to_string())?);
    let size = bytes.len() as u64;
    let mut hasher = XetHasher::new();
    hasher.update(&bytes);
    let xet = OriginDigest::Xet(hasher.finish());
    let mut lister = Lister::new(&xet, size).context("an empty file has no pieces")?;
    lister.update(&bytes);
    let pieces = lister.finish().context("the pieces do not make the hash")?;
    let whole = |digest: &OriginDigest| {
        let mut prover = Prover::for_digest(Some(digest), size);
        steps(&bytes).for_each(|step| prover.update(&step));
        prover.finish().is_ok()
    };
    let other = |algorithm: Algorithm| OriginDigest::whole(algorithm, &vec![0; algorithm.bytes()]);
    let (sha256, md5) = (other(Algorithm::Sha256)?, other(Algorithm::Md5)?);
    let layout = ChunkLayout::new(size);
    let is_whole = |(index, step): (u64, Bytes)| VerifiedChunks::hashed(layout, index, step).is_ok();
    let fits = |index: usize| {
        let place = pieces.place(index);
        let place = usize::try_from(place.start).ok()?..usize::try_from(place.end).ok()?;
        bytes.get(place).map(|piece| pieces.fits(index, piece))
    };
    let proofs = Proofs {
        bytes: bytes.len(),
        chunks: seconds(true, || (0..).zip(steps(&bytes)).all(is_whole))?,
        pieces: seconds(true, || (0..pieces.count()).all(|index| fits(index) == Some(true)))?,
        xet: seconds(true, || whole(&xet))?,
        // Of these the hash is not known before; it takes as long to find that it is another.
        sha256: seconds(false, || whole(&sha256))?,
        md5: seconds(false, || whole(&md5))?,
    };
    Ok(proofs)
}

fn steps(bytes: &Bytes) -> impl Iterator<Item = Bytes> + '_ {
    let step = usize::try_from(CHUNK_BYTES).unwrap_or(usize::MAX);
    (0..bytes.len()).step_by(step).map(move |start| bytes.slice(start..bytes.len().min(start + step)))
}

fn seconds(expected: bool, work: impl FnOnce() -> bool) -> anyhow::Result<f64> {
    let started = Instant::now();
    anyhow::ensure!(work() == expected, "a proof came to something else than it must");
    Ok(started.elapsed().as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_proves_the_file_itself() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, vec![7; 1_000_000]).unwrap();
        let proofs = measure(&path).unwrap();
        assert!(proofs.bytes == 1_000_000 && proofs.sha256 > 0.0);
        assert!(measure(&folder.path().join("none")).is_err());
    }
}
