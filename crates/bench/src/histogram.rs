//! A histogram of times, with buckets that are at most about 3 % wide.

use std::time::Duration;

/// The number of buckets for each doubling.
const FINE: u64 = 32;

/// Counts of durations. Below 32 ns, each nanosecond has a bucket of its own.
#[derive(Debug, Clone)]
pub(crate) struct Histogram {
    counts: Vec<u64>,
    total: u64,
    longest: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: vec![0; 64 * FINE as usize], total: 0, longest: 0 }
    }
}

fn bucket(nanos: u64) -> usize {
    if nanos < FINE {
        return nanos as usize;
    }
    let doublings = u64::from(nanos.ilog2() - FINE.ilog2());
    ((doublings + 1) * FINE + ((nanos >> doublings) - FINE)) as usize
}

/// Returns the middle of a bucket in nanoseconds.
fn middle(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    if bucket < FINE {
        return bucket;
    }
    let doublings = bucket / FINE - 1;
    ((bucket % FINE + FINE) << doublings) + (1 << doublings) / 2
}

impl Histogram {
    pub(crate) fn record(&mut self, nanos: u64) {
        self.counts[bucket(nanos)] += 1;
        self.total += 1;
        self.longest = self.longest.max(nanos);
    }

    /// Returns the longest time, which is zero if nothing was counted.
    pub(crate) fn longest(&self) -> Duration {
        Duration::from_nanos(self.longest)
    }

    /// Returns the time at or below which this share (0 to 1) of all times lies, or `None` if nothing was counted.
    pub(crate) fn quantile(&self, share: f64) -> Option<Duration> {
        let rank = ((self.total as f64 * share).ceil() as u64).clamp(1, self.total.max(1));
        let mut seen = 0;
        let found = self.counts.iter().position(|count| {
            seen += count;
            seen >= rank
        });
        found.map(|bucket| Duration::from_nanos(middle(bucket)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_told_within_three_percent() {
        for nanos in [0, 1, 31, 32, 33, 63, 64, 65, 1000, 123_456, 98_765_432_101, u64::MAX / 3] {
            let told = middle(bucket(nanos));
            assert!(told.abs_diff(nanos) as f64 <= nanos as f64 * 0.03 + 0.5, "{nanos} is counted as {told}");
        }
    }

    #[test]
    fn buckets_rise_without_a_hole() {
        let mut last = 0;
        for nanos in 0..10_000 {
            let this = bucket(nanos);
            assert!(this == last || this == last + 1, "{nanos}");
            last = this;
        }
        assert!(bucket(u64::MAX) < Histogram::default().counts.len());
    }

    #[test]
    fn quantiles_are_ranks() {
        let mut times = Histogram::default();
        assert_eq!(times.quantile(0.5), None);
        (1..=20).for_each(|nanos| times.record(nanos));
        assert_eq!(times.quantile(0.5), Some(Duration::from_nanos(10)));
        assert_eq!(times.quantile(0.99), Some(Duration::from_nanos(20)));
        assert_eq!(times.quantile(0.0), Some(Duration::from_nanos(1)));
        times.record(123_456_789);
        assert_eq!(times.longest(), Duration::from_nanos(123_456_789));
    }
}
