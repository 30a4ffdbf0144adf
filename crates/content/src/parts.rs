//! Part sizes that a multipart object may have been cut with, where the origin tells only how many parts there are.

const MIB: u64 = 1024 * 1024;
const MB: u64 = 1_000_000;

/// Part sizes in use: the defaults of common clients and their multiples.
const COMMON: [u64; 18] = [
    8 * MIB,
    5 * MIB,
    50 * MIB,
    15 * MIB,
    16 * MIB,
    10 * MIB,
    32 * MIB,
    64 * MIB,
    100 * MIB,
    128 * MIB,
    256 * MIB,
    512 * MIB,
    5 * MB,
    8 * MB,
    10 * MB,
    16 * MB,
    50 * MB,
    100 * MB,
];

/// The most sizes tried for one file: each costs a hash over the whole file.
const MAX_CANDIDATES: usize = 8;

/// The part sizes with which a file of `size` bytes has `count` parts, likeliest first.
///
/// Source: the default part sizes of aws-cli, s5cmd, s3cmd and rclone.
pub(crate) fn candidates(size: u64, count: u32) -> Vec<u64> {
    let count = u64::from(count);
    if count <= 1 {
        return vec![size.max(1)];
    }
    let fits = |part: &u64| *part > 0 && size.div_ceil(*part) == count;
    let least = size.div_ceil(count);
    let whole_mib = (least.div_ceil(MIB)..).map(|mib| mib * MIB).take(MAX_CANDIDATES);
    let mut found: Vec<u64> = Vec::new();
    for part in COMMON.into_iter().chain(whole_mib).filter(fits) {
        if !found.contains(&part) {
            found.push(part);
        }
    }
    found.truncate(MAX_CANDIDATES);
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_sizes_of_common_clients() {
        assert_eq!(candidates(4_265_146_304, 509)[0], 8 * MIB);
        assert!(candidates(1 << 30, 21).contains(&(50 * MIB)));
        assert!(candidates(100 * MIB + 1, 5).contains(&(21 * MIB)));
        assert_eq!(candidates(77, 1), [77]);
    }

    #[test]
    fn every_candidate_gives_the_number_of_parts() {
        for (size, count) in [(1 << 30, 128), (5 * MIB + 1, 2), (3, 3), (0, 2), (10, 7)] {
            assert!(candidates(size, count).iter().all(|part| size.div_ceil(*part) == u64::from(count)));
        }
    }
}
