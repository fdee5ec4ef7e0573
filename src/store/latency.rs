//! How long things took, as counts in buckets: cheap to note, and enough for quantiles.

use std::sync::atomic::{AtomicU64, Ordering};

/// The upper bounds of the buckets in microseconds; what is above the last is counted in one more.
pub const BOUNDS: [u64; 16] = [
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000,
    5_000_000, 10_000_000,
];

/// The counts as they grow; written by one thread.
#[derive(Default)]
pub(crate) struct Histogram {
    counts: [AtomicU64; BOUNDS.len() + 1],
    sum: AtomicU64,
}

impl Histogram {
    /// Counts one that took this long.
    pub(crate) fn note(&self, micros: u64) {
        let bucket = BOUNDS.partition_point(|bound| *bound < micros);
        self.counts[bucket].fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add(micros, Ordering::Relaxed);
    }

    pub(crate) fn read(&self) -> Latency {
        Latency {
            counts: std::array::from_fn(|bucket| self.counts[bucket].load(Ordering::Relaxed)),
            sum_micros: self.sum.load(Ordering::Relaxed),
        }
    }
}

/// How long things took so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Latency {
    /// How many fell into each bucket of [`BOUNDS`]; the last are those above all of them.
    pub counts: [u64; BOUNDS.len() + 1],
    /// All of it together.
    pub sum_micros: u64,
}

impl Latency {
    /// How many there were.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The time in microseconds that `percent` of them did not exceed, as far as buckets tell; 0 if there were none.
    #[must_use]
    pub fn quantile(&self, percent: u64) -> u64 {
        let total = self.count();
        let wanted = (total * percent).div_ceil(100);
        let mut below = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            if *count > 0 && below + count >= wanted {
                let low = bucket.checked_sub(1).map_or(0, |before| BOUNDS[before]);
                // Nothing is known of how far the last bucket reaches.
                let high = BOUNDS.get(bucket).copied().unwrap_or(low);
                return low + (high - low) * (wanted - below) / count;
            }
            below += count;
        }
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_within_their_buckets() {
        let times = Histogram::default();
        assert_eq!(times.read().quantile(99), 0);
        for micros in 1..=100 {
            times.note(micros * 10);
        }
        let latency = times.read();
        assert_eq!((latency.count(), latency.sum_micros), (100, 50_500));
        assert_eq!(latency.quantile(50), 500);
        assert!((900..=1_000).contains(&latency.quantile(99)), "{}", latency.quantile(99));
        times.note(60_000_000);
        assert_eq!(times.read().quantile(100), 10_000_000);
    }

    #[test]
    fn a_bound_belongs_to_its_bucket() {
        let times = Histogram::default();
        times.note(100);
        times.note(101);
        assert_eq!(times.read().counts[..2], [1, 1]);
    }
}
