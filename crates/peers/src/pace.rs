//! How fast something may go: a bucket that fills with time, and of which each act takes.

use std::collections::HashMap;
use std::hash::Hash;
use std::ops::RangeInclusive;
use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;

use crate::shared::lock;

/// A bucket filled at a rate up to a burst. It may go into debt, so that one taker never waits for more than it took.
#[derive(Debug)]
pub(crate) struct Bucket {
    rate: f64,
    burst: f64,
    level: f64,
    filled_at: Instant,
}

impl Bucket {
    pub(crate) fn new(rate: f64, burst: f64) -> Self {
        Self { rate, burst, level: burst, filled_at: Instant::now() }
    }

    /// Takes `amount` if the bucket is not in debt.
    pub(crate) fn try_take(&mut self, amount: f64) -> bool {
        self.fill();
        let can = self.level >= amount;
        if can {
            self.level -= amount;
        }
        can
    }

    /// Takes `amount` in any case and says how long to wait before going on.
    pub(crate) fn take(&mut self, amount: f64) -> Duration {
        self.fill();
        self.level -= amount;
        if self.level >= 0.0 { Duration::ZERO } else { Duration::from_secs_f64((-self.level / self.rate).min(3600.0)) }
    }

    fn fill(&mut self) {
        let now = Instant::now();
        let passed = now.duration_since(self.filled_at).as_secs_f64();
        self.level = (self.level + passed * self.rate).min(self.burst);
        self.filled_at = now;
    }
}

/// How many bytes go at once: a twentieth of what went in the last second, so that what is told in between waits for 50 ms of the line at
/// most. One with little to send passes for a slow line, and loses nothing by it.
#[derive(Debug)]
pub(crate) struct Portion {
    bounds: RangeInclusive<usize>,
    bytes: usize,
    /// What went, and since when.
    went: usize,
    since: Instant,
}

impl Portion {
    const MEASURED: Duration = Duration::from_secs(1);
    const OF_A_SECOND: f64 = 0.05;

    /// The least within `bounds`.
    pub(crate) fn new(bounds: RangeInclusive<usize>, now: Instant) -> Self {
        Self { bytes: *bounds.start(), bounds, went: 0, since: now }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// So many bytes went.
    pub(crate) fn went(&mut self, bytes: usize, now: Instant) {
        self.went += bytes;
        let time = now.saturating_duration_since(self.since);
        let portion = self.went as f64 * Self::OF_A_SECOND / time.max(Self::MEASURED).as_secs_f64();
        let portion = (portion as usize).clamp(*self.bounds.start(), *self.bounds.end());
        if time < Self::MEASURED {
            self.bytes = self.bytes.max(portion);
        } else {
            (self.bytes, self.went, self.since) = (portion, 0, now);
        }
    }
}

/// A bucket for each of many, at most so many at once.
#[derive(Debug)]
pub(crate) struct Buckets<K> {
    rate: f64,
    burst: f64,
    most: usize,
    all: HashMap<K, Bucket>,
}

impl<K: Copy + Eq + Hash> Buckets<K> {
    pub(crate) fn new(rate: f64, burst: f64, most: usize) -> Self {
        Self { rate, burst, most, all: HashMap::new() }
    }

    /// Takes `amount` of the bucket of `key` if it is there.
    pub(crate) fn try_take(&mut self, key: K, amount: f64) -> bool {
        if self.all.len() >= self.most && !self.all.contains_key(&key) {
            // That of who has taken the least is missed the least.
            let level = |bucket: &mut Bucket| {
                bucket.fill();
                bucket.level
            };
            let fullest = self.all.iter_mut().map(|(key, bucket)| (level(bucket), *key)).max_by(|one, two| one.0.total_cmp(&two.0));
            if let Some((_, key)) = fullest {
                self.all.remove(&key);
            }
        }
        self.all.entry(key).or_insert_with(|| Bucket::new(self.rate, self.burst)).try_take(amount)
    }
}

/// A cap on bytes a second that many tasks share; without one it costs nothing.
#[derive(Debug)]
pub(crate) struct Cap(Option<Mutex<Bucket>>);

/// The bytes that may pass at once after a pause, as a share of a second.
const BURST_SECONDS: f64 = 0.25;

impl Cap {
    pub(crate) fn new(bytes_per_second: Option<u64>) -> Self {
        Self(bytes_per_second.map(|rate| {
            let rate = (rate.max(1)) as f64;
            Mutex::new(Bucket::new(rate, rate * BURST_SECONDS))
        }))
    }

    /// Whether there is a cap, so that bytes should pass in small slices.
    pub(crate) fn is_set(&self) -> bool {
        self.0.is_some()
    }

    /// Accounts for `bytes` and waits until they may pass.
    pub(crate) async fn pass(&self, bytes: usize) {
        let Some(bucket) = &self.0 else { return };
        let wait = lock(bucket).take(bytes as f64);
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_portion_is_what_goes_in_a_twentieth_of_a_second() {
        let (mut portion, mut now) = (Portion::new(4_000..=64_000, Instant::now()), Instant::now());
        let mut pass = |bytes_per_second: usize, now: &mut Instant| {
            for _ in 0..3_000 {
                *now += Duration::from_millis(1);
                portion.went(bytes_per_second / 1000, *now);
            }
            portion.bytes()
        };
        assert_eq!(pass(10_000_000, &mut now), 64_000);
        let lately = pass(400_000, &mut now);
        assert!((19_000..=21_000).contains(&lately), "{lately}");
        assert_eq!(pass(15_000, &mut now), 4_000);
        // What goes in one go after a pause is no rate.
        now += Duration::from_secs(60);
        portion.went(64_000, now);
        portion.went(64_000, now);
        assert_eq!(portion.bytes(), 4_000);
    }

    #[test]
    fn a_bucket_in_debt_says_how_long_to_wait() {
        let mut bucket = Bucket::new(1000.0, 100.0);
        assert_eq!(bucket.take(100.0), Duration::ZERO);
        let wait = bucket.take(500.0);
        assert!(wait > Duration::from_millis(400) && wait <= Duration::from_millis(500), "{wait:?}");
        assert!(!bucket.try_take(1.0));
    }

    #[test]
    fn who_has_taken_most_is_remembered_when_many_come() {
        let mut buckets = Buckets::new(0.001, 2.0, 100);
        assert!(buckets.try_take(0, 1.0) && buckets.try_take(0, 1.0));
        for number in 1..10_000 {
            assert!(buckets.try_take(number, 1.0));
            assert!(buckets.all.len() <= 100 && !buckets.try_take(0, 1.0));
        }
    }
}
