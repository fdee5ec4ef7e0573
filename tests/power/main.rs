//! What a disk can do to a broker: lose its power under load, fill up, come back damaged, and be read by a process that
//! is killed before it has finished. Afterwards everything that was acknowledged is counted.
//!
//! `cargo test --test power` runs short ones. The long ones:
//!
//! ```text
//! NIGHTJAR_CRASH_POWER_CUTS=100 cargo test --test power power_cut -- --nocapture
//! NIGHTJAR_CRASH_FULL_ROUNDS=20 cargo test --test power full_disk -- --nocapture
//! NIGHTJAR_CRASH_STARTUP_KILLS=500 cargo test --test power startup -- --nocapture
//! ```
//! `NIGHTJAR_CRASH_SEED=n` repeats a run's random choices. Cutting the power needs root, loop devices and python3;
//! filling a disk needs root. Where they are missing a test says by name that it was skipped, and passes.
// A test outside the program has no need of its doors to time and threads.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

#[path = "../crash/checker.rs"]
mod checker;
#[path = "../support/mod.rs"]
mod support;

mod cut;
mod damage;
mod disk;
mod full;
mod load;
mod startup;

use std::time::SystemTime;
use support::Random;

/// A number from the environment, for the long runs.
fn from_env(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|v| v.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

/// The seed of this run, printed, and a generator for one test of it.
fn random(test: &str) -> Random {
    let seed = from_env("NIGHTJAR_CRASH_SEED").unwrap_or_else(|| {
        SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_nanos() as u64 % 1_000_000
    });
    println!("{test}: seed {seed}");
    Random(test.bytes().fold(seed, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(byte))))
}

/// What a test says when the machine does not let it do its work.
fn skipped(test: &str, reason: &str) {
    println!("skipped: {test} ({reason})");
}
