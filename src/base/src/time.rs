//! Time as values: a pure room is told what time it is.

use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Wall-clock time, in milliseconds since the Unix epoch. Survives a restart; may jump.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Wall(pub u64);

/// Monotonic time, in milliseconds since the process started. Never jumps; means nothing to another process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tick(pub u64);

impl Wall {
    /// This time plus `seconds`, saturating.
    #[must_use]
    pub fn plus_seconds(self, seconds: u64) -> Self {
        Self(self.0.saturating_add(seconds.saturating_mul(1000)))
    }

    /// Whole seconds from `self` until `later`, rounded up; 0 if `later` is not later.
    #[must_use]
    pub fn seconds_until(self, later: Self) -> u64 {
        later.0.saturating_sub(self.0).div_ceil(1000)
    }
}

impl Tick {
    /// This time plus `millis`, saturating.
    #[must_use]
    pub fn plus_millis(self, millis: u64) -> Self {
        Self(self.0.saturating_add(millis))
    }

    /// Milliseconds from `earlier` to `self`; 0 if `earlier` is not earlier.
    #[must_use]
    pub fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// `duration` in whole milliseconds, which are what [`Wall`] and [`Tick`] count; saturating.
#[must_use]
pub const fn millis(duration: Duration) -> u64 {
    let millis = duration.as_millis();
    // `const` knows no `try_from`.
    if millis > u64::MAX as u128 { u64::MAX } else { millis as u64 }
}
