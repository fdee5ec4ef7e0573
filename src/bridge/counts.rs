//! What a bridge has carried, and what became of the rest.

use std::sync::atomic::{AtomicU64, Ordering};

/// A count that only grows.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// One more.
    #[inline]
    pub(super) fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    /// How many there are.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Messages and bytes of their payloads.
#[derive(Debug, Default)]
pub struct Carried {
    /// Messages.
    pub messages: Count,
    /// Bytes of their payloads.
    pub bytes: Count,
}

impl Carried {
    pub(super) fn add(&self, payload: usize) {
        self.messages.add(1);
        self.bytes.add(payload as u64);
    }
}

/// The counts of one rule.
#[derive(Debug, Default)]
pub struct RuleCounts {
    /// Sent to the remote, repetitions included.
    pub sent: Carried,
    /// Taken from the remote, repetitions included.
    pub received: Carried,
}

/// The counts of one bridge since it was started.
#[derive(Debug, Default)]
pub struct Counts {
    /// By rule, in their order.
    pub rules: Vec<RuleCounts>,
    /// Messages of QoS 1 and 2 that the remote has acknowledged.
    pub acknowledged: Count,
    /// Messages that were larger, or whose topics were longer or deeper, than the remote takes.
    pub too_large: Count,
    /// Messages that the remote refused by a reason code.
    pub refused: Count,
    /// Messages at which the remote closed the connection again and again.
    pub closed_at: Count,
    /// Messages of the remote that were larger than this broker takes.
    pub too_large_here: Count,
    /// Messages of the remote that this broker refused.
    pub refused_here: Count,
    /// Messages that no rule carries any more.
    pub unmatched: Count,
    /// Messages that the remote sent back.
    pub echoes: Count,
    /// Connections to the remote that came to CONNACK.
    pub connects: Count,
    /// Connections that were lost, or never came to be.
    pub failures: Count,
}

impl Counts {
    pub(super) fn new(rules: usize) -> Self {
        Self { rules: (0..rules).map(|_| RuleCounts::default()).collect(), ..Self::default() }
    }

    /// Messages that the remote will never take.
    #[must_use]
    pub fn set_aside(&self) -> u64 {
        self.too_large.get() + self.refused.get() + self.closed_at.get()
    }
}
