//! Something that happens a thousand times a second is logged once in a while, with a count.

use nightjar_base::{Tick, millis};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Lets one of many equal events through per period, and counts those that it held back.
///
/// ```
/// # use nightjar::telemetry::Repeats;
/// # use nightjar_base::Tick;
/// # use std::time::Duration;
/// static REFUSED: Repeats = Repeats::new(Duration::from_secs(10));
/// # let now = Tick(0);
/// if let Some(held_back) = REFUSED.admit(now) {
///     tracing::warn!(held_back, "too many connections");
/// }
/// ```
#[derive(Debug)]
pub struct Repeats {
    period: u64,
    /// The tick from which on the next one is let through.
    open_at: AtomicU64,
    held_back: AtomicU64,
}

impl Repeats {
    /// Lets one through per `period`.
    #[must_use]
    pub const fn new(period: Duration) -> Self {
        Self { period: millis(period), open_at: AtomicU64::new(0), held_back: AtomicU64::new(0) }
    }

    /// `Some` if it may be logged now, with the number of those since the last one that were not.
    pub fn admit(&self, now: Tick) -> Option<u64> {
        let open_at = self.open_at.load(Ordering::Relaxed);
        let next = now.0.saturating_add(self.period);
        let first = now.0 >= open_at
            && self.open_at.compare_exchange(open_at, next, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        if first {
            return Some(self.held_back.swap(0, Ordering::Relaxed));
        }
        self.held_back.fetch_add(1, Ordering::Relaxed);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_let_through_per_period_and_the_others_are_counted() {
        let repeats = Repeats::new(Duration::from_secs(1));
        let seen: Vec<_> = [0, 1, 999, 1_000, 1_001, 5_000].map(|tick| repeats.admit(Tick(tick))).into();
        assert_eq!(seen, [Some(0), None, None, Some(2), None, Some(1)]);
    }
}
