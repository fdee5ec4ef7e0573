//! How the store is doing.

use super::latency::{Histogram, Latency};
use crate::env::clock::Clock;
use nightjar_base::Tick;
use parking_lot::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Whether acknowledgements can be given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// Yes.
    Writable,
    /// Not now: the disk is full. It is tried again all the time.
    Stalled {
        /// What the system said.
        why: String,
        /// Since when, by the store's clock.
        since: Tick,
    },
    /// Never again in this process.
    Failed {
        /// What happened.
        why: String,
    },
}

/// A moment's figures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Syncs of the journal.
    pub syncs: u64,
    /// Batches applied.
    pub batches: u64,
    /// Ops applied.
    pub ops: u64,
    /// Bytes written to the journal.
    pub bytes: u64,
    /// How long the last write and sync took, in milliseconds.
    pub last_sync_millis: u64,
    /// How long writing and syncing took, for each batch that was synced.
    pub sync_times: Latency,
    /// How long the first submission of each batch waited until it was durable and applied: the longest that anybody
    /// waited.
    pub ack_times: Latency,
    /// Checkpoints of a shard that were completed.
    pub checkpoints: u64,
    /// Rows that checkpoints wrote or removed.
    pub rows: u64,
    /// Errors of the tables that were overcome, or are being.
    pub tables_errors: u64,
    /// Whether checkpoints wait for disk space.
    pub checkpoint_held: bool,
    /// Bytes of journal that a recovery would read.
    pub journal_bytes: u64,
    /// The same above which publishers are slowed down.
    pub journal_budget: u64,
    /// Memory that the overlays of all shards hold.
    pub overlay_bytes: u64,
    /// Memory of what is submitted and not yet applied.
    pub pending_bytes: u64,
}

/// The figures as they are counted.
#[derive(Default)]
pub(crate) struct Counters {
    pub(crate) syncs: AtomicU64,
    pub(crate) batches: AtomicU64,
    pub(crate) ops: AtomicU64,
    pub(crate) bytes: AtomicU64,
    pub(crate) last_sync_millis: AtomicU64,
    pub(crate) sync_times: Histogram,
    pub(crate) ack_times: Histogram,
    pub(crate) checkpoints: AtomicU64,
    pub(crate) rows: AtomicU64,
    pub(crate) tables_errors: AtomicU64,
    pub(crate) checkpoint_held: AtomicBool,
}

impl Counters {
    pub(crate) fn add(counter: &AtomicU64, amount: u64) {
        counter.fetch_add(amount, Ordering::Relaxed);
    }

    pub(crate) fn read(&self) -> Stats {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Stats {
            syncs: get(&self.syncs),
            batches: get(&self.batches),
            ops: get(&self.ops),
            bytes: get(&self.bytes),
            last_sync_millis: get(&self.last_sync_millis),
            sync_times: self.sync_times.read(),
            ack_times: self.ack_times.read(),
            checkpoints: get(&self.checkpoints),
            rows: get(&self.rows),
            tables_errors: get(&self.tables_errors),
            checkpoint_held: self.checkpoint_held.load(Ordering::Relaxed),
            ..Stats::default()
        }
    }
}

/// The health, cheap to ask for.
pub(crate) struct HealthCell {
    writable: AtomicBool,
    state: Mutex<Health>,
}

impl Default for HealthCell {
    fn default() -> Self {
        Self { writable: AtomicBool::new(true), state: Mutex::new(Health::Writable) }
    }
}

impl HealthCell {
    pub(crate) fn is_writable(&self) -> bool {
        self.writable.load(Ordering::Relaxed)
    }

    pub(crate) fn get(&self) -> Health {
        self.state.lock().clone()
    }

    /// Notes that the disk is full; logs it the first time.
    pub(crate) fn stall(&self, why: String, since: Tick) {
        let mut state = self.state.lock();
        if *state == Health::Writable {
            tracing::error!(%why, "the journal cannot be written: nothing is acknowledged until it can");
            *state = Health::Stalled { why, since };
            self.writable.store(false, Ordering::Relaxed);
        }
    }

    pub(crate) fn recover(&self, clock: &Clock) {
        if self.is_writable() {
            return;
        }
        let mut state = self.state.lock();
        if let Health::Stalled { since, .. } = &*state {
            tracing::warn!(millis = clock.tick().since(*since), "the journal can be written again");
            *state = Health::Writable;
            self.writable.store(true, Ordering::Relaxed);
        }
    }

    pub(crate) fn fail(&self, why: String) {
        self.writable.store(false, Ordering::Relaxed);
        *self.state.lock() = Health::Failed { why };
    }
}
