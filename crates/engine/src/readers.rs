//! Who reads which part of a file from its origin when nobody has it: rendezvous hashing with bounded load.
//!
//! Every node computes this from what it sees of the others. Nodes that see the same come to the same; where they do not, two
//! read the same extent for a moment, until they hear of each other: [`goes_before`] says who goes on.

use larder_content::{FileKey, NodeId};

use crate::random::mix;

/// About how many extents a file is cut into: several for each reader of a usual crowd, so that who is slow takes fewer.
const EXTENTS: u64 = 128;
/// Half as many where that makes them of no more than these chunks, 2 MiB: smaller reads cost requests.
const SMALL_EXTENT_CHUNKS: u64 = 8;
/// The fewest and the most chunks of an extent: 1 to 64 MiB.
const EXTENT_CHUNKS: std::ops::RangeInclusive<u64> = 4..=256;

/// How many chunks each extent of a file of `chunks` has.
pub(crate) fn extent_chunks(chunks: u64) -> u64 {
    let small = chunks.div_ceil(EXTENTS / 2).min(SMALL_EXTENT_CHUNKS);
    chunks.div_ceil(EXTENTS).max(small).next_power_of_two().clamp(*EXTENT_CHUNKS.start(), *EXTENT_CHUNKS.end())
}

/// What a node's ranks in a file are drawn from.
pub(crate) fn seed(file: FileKey, node: NodeId) -> u64 {
    let words = file.0.chunks_exact(8).chain(node.0.chunks_exact(8));
    words.fold(0, |seed, word| mix(seed ^ u64::from_le_bytes(word.try_into().unwrap_or_default())))
}

/// A node's rank for an extent: the least is first.
pub(crate) fn rank(file: FileKey, node: NodeId, extent: u64) -> u64 {
    mix(seed(file, node) ^ mix(extent))
}

/// Whether `one` goes on reading an extent that both read.
pub(crate) fn goes_before(file: FileKey, extent: u64, one: NodeId, other: NodeId) -> bool {
    (rank(file, one, extent), one) < (rank(file, other, extent), other)
}

/// Whether the node at place `me` of `count` is one of the `relays` to which a chunk goes first.
pub(crate) fn is_relay(file: FileKey, chunk: u64, me: usize, count: usize, relays: usize) -> bool {
    let seed = file.0.first_chunk().copied().map_or(0, u64::from_le_bytes);
    let first = usize::try_from(mix(seed ^ mix(chunk)) % count.max(1) as u64).unwrap_or_default();
    (me + count - first) % count.max(1) < relays
}

/// Who is to read each extent: the first by rank that has not its fair share yet, or a tenth more where that makes a whole extent.
pub(crate) fn assign(file: FileKey, extents: u64, nodes: &[NodeId]) -> Vec<NodeId> {
    let count = nodes.len().max(1) as u64;
    let most = extents.div_ceil(count).max(extents * 11 / (count * 10));
    let seeds: Vec<u64> = nodes.iter().map(|node| seed(file, *node)).collect();
    let mut loads = vec![0; nodes.len()];
    let mut reader = |extent: u64| {
        let free = (0..nodes.len()).filter(|place| loads[*place] < most);
        let first = free.min_by_key(|place| (mix(seeds[*place] ^ mix(extent)), nodes[*place]))?;
        loads[first] += 1;
        Some(nodes[first])
    };
    (0..extents).filter_map(&mut reader).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn nodes(count: u8) -> Vec<NodeId> {
        (1..=count).map(|number| NodeId([number; 32])).collect()
    }

    #[test]
    fn nobody_reads_more_than_a_tenth_above_a_fair_share() {
        for count in 1..=40 {
            for file in 0..20 {
                let readers = assign(FileKey([file; 32]), 64, &nodes(count));
                assert_eq!(readers.len(), 64);
                let mut loads = BTreeMap::<NodeId, u64>::new();
                readers.iter().for_each(|reader| *loads.entry(*reader).or_default() += 1);
                let fair = 64f64 / f64::from(count);
                let most = *loads.values().max().unwrap() as f64;
                assert!(most <= (fair * 1.1).max(fair.ceil()), "{count} nodes: {most} of {fair}");
            }
        }
    }

    #[test]
    fn a_chunk_goes_first_to_as_many_as_are_to_pass_it_on_and_each_has_its_share() {
        let mut shares = [0; 16];
        for chunk in 0..1600 {
            let first: Vec<usize> = (0..16).filter(|me| is_relay(FileKey([3; 32]), chunk, *me, 16, 4)).collect();
            assert_eq!(first.len(), 4, "chunk {chunk}: {first:?}");
            first.iter().for_each(|me| shares[*me] += 1);
        }
        assert!(shares.iter().all(|share| (300..500).contains(share)), "{shares:?}");
    }

    #[test]
    fn a_node_more_moves_few_extents_between_the_others() {
        let file = FileKey([7; 32]);
        let (before, after) = (assign(file, 64, &nodes(8)), assign(file, 64, &nodes(9)));
        let moved = before.iter().zip(&after).filter(|(one, other)| one != other).count();
        assert!(moved < 32, "{moved} of 64 moved, 7 had to");
    }

    #[test]
    fn an_extent_is_from_one_to_sixty_four_mebibytes() {
        assert_eq!([1, 256, 512].map(extent_chunks), [4, 4, 8]);
        assert_eq!(extent_chunks(1024), 8);
        assert_eq!(extent_chunks(8192), 64);
        assert_eq!(extent_chunks(600_000), 256);
    }
}
