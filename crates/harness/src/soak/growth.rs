//! Whether a daemon grows: samples of what it uses, and what they may become.

use serde::Serialize;

/// How long a daemon gets warm at least, and which part of its time: samples of then do not count.
const WARM_S: f64 = 60.0;
const PART: f64 = 0.2;
/// The fewest samples that say something of a time.
const FEWEST: usize = 3;
const MIB: u64 = 1024 * 1024;

/// What one daemon uses at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub(super) struct Sample {
    /// Seconds since the soak began.
    pub(super) at_s: f64,
    /// Memory.
    pub(super) resident_bytes: u64,
    /// Open descriptors.
    pub(super) descriptors: u64,
    /// Threads.
    pub(super) threads: u64,
    /// What its home takes on disk, but for what the quota is for.
    pub(super) beside_bytes: u64,
    /// Files in its home, but for content and its hashes.
    pub(super) files: u64,
    /// What the quota is for: blobs, and files that are still coming.
    pub(super) content_bytes: u64,
}

/// The samples of one process.
#[derive(Debug, Clone, Default, Serialize)]
pub(super) struct Line {
    /// The node's name.
    pub(super) node: String,
    /// Whether the node was started before, and how often.
    pub(super) restarts: u32,
    /// In the order of their times.
    pub(super) samples: Vec<Sample>,
}

/// How much the last fifth may be over the fifth after the warm-up: what comes and goes with the work, which is another at each moment, and a
/// part of what was there. A node has 32 reads at once, each with a connection, a thread and 2 MiB, and connections to 16 peers.
struct Bound {
    what: &'static str,
    of: fn(&Sample) -> u64,
    /// The part that may come on top.
    part: f64,
    /// And so much more.
    more: u64,
}

const BOUNDS: [Bound; 5] = [
    Bound { what: "memory", of: |sample| sample.resident_bytes, part: 0.25, more: 64 * MIB },
    Bound { what: "descriptors", of: |sample| sample.descriptors, part: 0.0, more: 64 },
    Bound { what: "threads", of: |sample| sample.threads, part: 0.0, more: 32 },
    Bound { what: "disk beside content", of: |sample| sample.beside_bytes, part: 0.25, more: 16 * MIB },
    Bound { what: "files beside content", of: |sample| sample.files, part: 0.25, more: 200 },
];

/// What became of one thing that a daemon uses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Growth {
    /// What it is.
    pub(super) what: &'static str,
    /// The median of the fifth after the warm-up.
    pub(super) first: u64,
    /// The median of the last fifth.
    pub(super) last: u64,
    /// The most that the last may be.
    pub(super) most: u64,
}

impl Growth {
    pub(super) fn is_bounded(&self) -> bool {
        self.last <= self.most
    }
}

impl Line {
    /// What became of all that it uses; nothing if it was too short to tell.
    pub(super) fn growth(&self) -> Vec<Growth> {
        let (Some(begin), Some(end)) = (self.samples.first(), self.samples.last()) else { return Vec::new() };
        let fifth_s = (end.at_s - begin.at_s) * PART;
        let warm_s = begin.at_s + fifth_s.max(WARM_S);
        let last_s = end.at_s - fifth_s;
        let first: Vec<&Sample> = self.samples.iter().filter(|sample| (warm_s..=warm_s + fifth_s).contains(&sample.at_s)).collect();
        let last: Vec<&Sample> = self.samples.iter().filter(|sample| sample.at_s >= last_s).collect();
        if first.len() < FEWEST || last.len() < FEWEST || warm_s + fifth_s > last_s {
            return Vec::new();
        }
        let each = |bound: &Bound| {
            let (first, last) = (median(&first, bound.of), median(&last, bound.of));
            Growth { what: bound.what, first, last, most: first + (first as f64 * bound.part) as u64 + bound.more }
        };
        BOUNDS.iter().map(each).collect()
    }
}

fn median(samples: &[&Sample], of: fn(&Sample) -> u64) -> u64 {
    let mut values: Vec<u64> = samples.iter().map(|sample| of(sample)).collect();
    values.sort_unstable();
    values.get(values.len() / 2).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A sample every 10 s for five minutes.
    fn line(of: impl Fn(u64, &mut Sample)) -> Line {
        let sample = |number: u64| {
            let mut sample =
                Sample { at_s: number as f64 * 10.0, resident_bytes: 60 * MIB, descriptors: 80, threads: 12, ..Sample::default() };
            of(number, &mut sample);
            sample
        };
        Line { samples: (0..=30).map(sample).collect(), ..Line::default() }
    }

    fn unbounded(line: &Line) -> Vec<&'static str> {
        let growth = line.growth();
        assert_eq!(growth.len(), BOUNDS.len());
        growth.iter().filter(|growth| !growth.is_bounded()).map(|growth| growth.what).collect()
    }

    #[test]
    fn what_grows_without_end_is_found() {
        let leak = line(|number, sample| {
            sample.resident_bytes += number * 6 * MIB;
            sample.descriptors += 4 * number;
        });
        assert_eq!(unbounded(&leak), ["memory", "descriptors"]);
        assert_eq!(unbounded(&line(|number, sample| sample.threads += 2 * number)), ["threads"]);
        assert_eq!(unbounded(&line(|number, sample| sample.files = 1000 + 30 * number)), ["files beside content"]);
    }

    #[test]
    fn noise_peaks_and_the_warm_up_are_no_growth() {
        let noisy = line(|number, sample| {
            sample.resident_bytes += (number * 7919 % 13) * MIB;
            sample.descriptors += number * 31 % 17;
        });
        assert_eq!(unbounded(&noisy), Vec::<&str>::new());
        let peaks = line(|number, sample| sample.resident_bytes *= if number == 29 || number == 12 { 10 } else { 1 });
        assert_eq!(unbounded(&peaks), Vec::<&str>::new());
        let warming = line(|number, sample| sample.resident_bytes = 200 * MIB * number.min(6) / 6);
        assert_eq!(unbounded(&warming), Vec::<&str>::new());
    }

    #[test]
    fn a_process_that_did_not_last_says_nothing() {
        let mut short = line(|number, sample| sample.resident_bytes *= number);
        short.samples.truncate(10);
        assert_eq!(short.growth(), Vec::new());
        assert_eq!(Line::default().growth(), Vec::new());
    }
}
