//! What the suites against the real process share: a broker to start and stop, and a scripted MQTT peer.
//!
//! Nothing here uses Nightjar's own codec: the peer reads and writes bytes by itself, so that an error in the codec
//! cannot hide on both sides at once.

// Each suite includes this folder as a module of its own and uses a part of it.
#![allow(dead_code, unused_imports, unreachable_pub, clippy::unwrap_used)]

pub mod broker;
pub mod client;
pub mod connect;
pub mod mosquitto;
pub mod persist;
pub mod proxy;
pub mod secrets;
pub mod stream;
pub mod wire;

use std::time::{Duration, Instant};

pub use broker::Broker;
pub use client::{Client, Read};
pub use connect::{Connect, Will};
pub use mosquitto::Mosquitto;
pub use proxy::Proxy;
pub use stream::Stream;
pub use wire::{Packet, Prop, Publish, V5, V31, V311, hex, prop};

/// The versions that most tests run through.
pub const VERSIONS: [u8; 3] = [V31, V311, V5];

/// How long a condition may take before a test gives up; far above what a loaded machine needs.
pub const PATIENCE: Duration = Duration::from_secs(15);

/// How long the absence of something is watched. Absence cannot be waited for, only watched.
pub const QUIET: Duration = Duration::from_millis(150);

/// Polls until the condition holds; panics with `what` when it does not within `limit`.
pub fn wait_until(what: &str, limit: Duration, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < limit, "gave up after {limit:?} waiting: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Milliseconds as a duration.
pub const fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// Seconds as a duration.
pub const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// A small seeded generator (splitmix64), so that a failing run can be repeated by its seed.
#[derive(Clone, Debug)]
pub struct Random(pub u64);

impl Random {
    /// The next value.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A value below `n`.
    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n.max(1)
    }
}
