//! A token bucket: so much a second, and so much at once.

use nightjar_base::Tick;

/// Thousandths, so that a millisecond's worth of any rate is a whole number.
const UNIT: u64 = 1_000;

/// A token bucket. Time comes in as a value.
#[derive(Clone, Debug)]
pub struct Bucket {
    /// Per second; so many thousandths per millisecond.
    rate: u64,
    burst: i64,
    /// Thousandths that are there; below zero is debt.
    level: i64,
    last: Tick,
}

impl Bucket {
    /// A full bucket that gains `rate_per_second` (at least 1) and holds `burst` at most.
    #[must_use]
    pub fn new(rate_per_second: u64, burst: u64) -> Self {
        let burst = i64::try_from(burst.max(1).saturating_mul(UNIT)).unwrap_or(i64::MAX);
        Self { rate: rate_per_second.max(1), burst, level: burst, last: Tick(0) }
    }

    fn refill(&mut self, now: Tick) {
        let gained = now.since(self.last).saturating_mul(self.rate);
        self.level = self.level.saturating_add_unsigned(gained).min(self.burst);
        self.last = self.last.max(now);
    }

    /// Takes `amount`, which may leave a debt; the milliseconds until the debt is paid, 0 if there is none.
    pub fn take(&mut self, amount: u64, now: Tick) -> u64 {
        self.refill(now);
        self.level = self.level.saturating_sub_unsigned(amount.saturating_mul(UNIT));
        if self.level >= 0 { 0 } else { self.level.unsigned_abs().div_ceil(self.rate) }
    }

    /// Takes `amount` if it is there, and nothing if it is not.
    pub fn try_take(&mut self, amount: u64, now: Tick) -> bool {
        self.refill(now);
        let amount = i64::try_from(amount.saturating_mul(UNIT)).unwrap_or(i64::MAX);
        let there = self.level >= amount;
        if there {
            self.level -= amount;
        }
        there
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn debt_is_paid_by_time() {
        let mut bucket = Bucket::new(10, 10);
        assert_eq!(bucket.take(10, Tick(0)), 0);
        assert_eq!(bucket.take(5, Tick(0)), 500);
        assert!(!bucket.try_take(1, Tick(500)));
        assert!(bucket.try_take(1, Tick(600)));
        assert!(!bucket.try_take(1, Tick(600)), "what was refused cost nothing, what was given is gone");
    }

    #[test]
    fn a_clock_that_goes_back_gives_nothing() {
        let mut bucket = Bucket::new(1, 1);
        assert!(bucket.try_take(1, Tick(5_000)));
        assert!(!bucket.try_take(1, Tick(0)));
        assert!(!bucket.try_take(1, Tick(5_000)));
    }

    proptest! {
        #[test]
        fn never_more_than_rate_and_burst(
            rate in 1_u64..1_000, burst in 1_u64..1_000,
            steps in prop::collection::vec((0_u64..2_000, 1_u64..50), 1..200),
        ) {
            let mut bucket = Bucket::new(rate, burst);
            let (mut now, mut given) = (0, 0);
            for (pause, amount) in steps {
                now += pause;
                if bucket.try_take(amount, Tick(now)) {
                    given += amount;
                }
                prop_assert!(given * 1_000 <= burst * 1_000 + now * rate);
            }
        }

        #[test]
        fn whoever_waits_as_told_keeps_the_rate(
            rate in 1_u64..10_000, amounts in prop::collection::vec(1_u64..500, 1..100),
        ) {
            let mut bucket = Bucket::new(rate, rate);
            let (mut now, mut given) = (0, 0);
            for amount in amounts {
                now += bucket.take(amount, Tick(now));
                given += amount;
                prop_assert!(given * 1_000 <= rate * 1_000 + now * rate);
            }
        }
    }
}
