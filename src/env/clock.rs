//! What time it is.

use nightjar_base::{Tick, Wall, millis};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A clock, cheap to clone: the machine's, or one that a test moves by hand.
#[derive(Clone, Debug)]
pub struct Clock(Source);

#[derive(Clone, Debug)]
enum Source {
    Machine { started: Instant },
    Manual(Arc<Hands>),
}

#[derive(Debug)]
struct Hands {
    wall: AtomicU64,
    tick: AtomicU64,
}

impl Clock {
    /// The machine's clock; ticks count from this call.
    #[must_use]
    pub fn machine() -> Self {
        Self(Source::Machine { started: Instant::now() })
    }

    /// A clock that stands at `wall` and tick 0 until it is moved.
    #[must_use]
    pub fn manual(wall: Wall) -> Self {
        Self(Source::Manual(Arc::new(Hands { wall: AtomicU64::new(wall.0), tick: AtomicU64::new(0) })))
    }

    /// Wall-clock time. May jump; for what outlives the process.
    #[must_use]
    pub fn now(&self) -> Wall {
        match &self.0 {
            // A machine whose clock stands before 1970 has no time that could be used; the epoch is as good as any.
            Source::Machine { .. } => wall(),
            Source::Manual(hands) => Wall(hands.wall.load(Ordering::SeqCst)),
        }
    }

    /// Monotonic time. For every deadline within the process.
    #[must_use]
    pub fn tick(&self) -> Tick {
        match &self.0 {
            Source::Machine { started } => Tick(millis(started.elapsed())),
            Source::Manual(hands) => Tick(hands.tick.load(Ordering::SeqCst)),
        }
    }

    /// Monotonic time in microseconds, from the same begin as ticks: for what is measured, not waited for.
    #[must_use]
    pub fn micros(&self) -> u64 {
        match &self.0 {
            Source::Machine { started } => u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX),
            Source::Manual(hands) => hands.tick.load(Ordering::SeqCst).saturating_mul(1000),
        }
    }

    /// Moves a manual clock forward, wall and ticks alike; the machine's clock takes no orders.
    pub fn advance(&self, by: Duration) {
        if let Source::Manual(hands) = &self.0 {
            hands.wall.fetch_add(millis(by), Ordering::SeqCst);
            hands.tick.fetch_add(millis(by), Ordering::SeqCst);
        }
    }

    /// Sets a manual clock's wall time alone, as an operator or NTP does: ticks stay.
    pub fn jump(&self, to: Wall) {
        if let Source::Manual(hands) = &self.0 {
            hands.wall.store(to.0, Ordering::SeqCst);
        }
    }
}

/// The machine's wall-clock time, for what is only ever shown to people.
#[must_use]
pub fn wall() -> Wall {
    Wall(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, millis))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manual_clock_moves_only_when_told() {
        let clock = Clock::manual(Wall(1_000));
        let same = clock.clone();
        clock.advance(Duration::from_millis(250));
        assert_eq!((same.now(), same.tick()), (Wall(1_250), Tick(250)));
        clock.jump(Wall(10));
        assert_eq!((same.now(), same.tick()), (Wall(10), Tick(250)));
    }

    #[test]
    fn the_machine_clock_never_ticks_backwards() {
        let clock = Clock::machine();
        let first = clock.tick();
        assert!(clock.tick() >= first);
        assert!(clock.now() > Wall(1_600_000_000_000));
    }
}
