//! Figures of the whole broker.

use super::Time;
use crate::broker::{Handle, Totals};
use crate::store::{Durability, Health, Stats};
use nightjar_base::{Tick, Wall};
use serde::Serialize;
use std::sync::atomic::Ordering;
use utoipa::ToSchema;

/// Everything of one moment.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// When.
    pub now: Wall,
    /// The same by the clock that never jumps.
    pub tick: Tick,
    /// Connections and sessions.
    pub clients: Clients,
    /// Subscriptions, shared ones included.
    pub subscriptions: usize,
    /// Those of them that are shared.
    pub shared_subscriptions: usize,
    /// Retained messages.
    pub retained: Retained,
    /// Messages in the queues of persistent sessions.
    pub queued: Queued,
    /// The store's figures.
    pub store: Stats,
    /// Whether acknowledgements can be given.
    pub health: Health,
    /// Free bytes of the disk that the data folder is on, where the system tells.
    pub disk_free: Option<u64>,
    /// Memory of the process.
    pub memory: Memory,
    /// The counters.
    pub totals: Totals,
}

/// Connections and sessions.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
pub struct Clients {
    /// Connections now.
    pub connected: usize,
    /// The most there ever were at a time since the start.
    pub maximum: usize,
    /// Persistent sessions, connected or not.
    pub sessions: usize,
    /// Those of them without a connection.
    pub disconnected: usize,
    /// Sockets that have not sent CONNECT yet.
    pub half_open: usize,
}

/// Retained messages.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
pub struct Retained {
    /// How many.
    pub messages: usize,
    /// Their bytes.
    pub bytes: u64,
}

/// Messages in queues.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
pub struct Queued {
    /// How many.
    pub messages: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// The journal, by which an acknowledgement is true.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
pub struct Journal {
    /// Bytes that wait to be written.
    pub waiting_bytes: u64,
    /// Half of all writes with their syncs took no longer, in microseconds.
    pub sync_p50_us: u64,
    /// 99 of 100 took no longer.
    pub sync_p99_us: u64,
    /// Syncs so far.
    pub syncs: u64,
    /// Bytes that a restart would read.
    pub journal_bytes: u64,
    /// Free bytes of the disk; `null` where the system does not tell.
    pub disk_free_bytes: Option<u64>,
    /// The journal cannot be written any more in this process.
    pub poisoned: bool,
}

/// Memory of the process, as the system counts it.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
pub struct Memory {
    /// Resident bytes now.
    pub resident_bytes: u64,
    /// The most there ever were.
    pub maximum_bytes: u64,
    /// Resident bytes above which new work is refused.
    pub mark_bytes: u64,
}

impl Snapshot {
    /// The journal's figures.
    #[must_use]
    pub fn journal(&self) -> Journal {
        Journal {
            waiting_bytes: self.store.pending_bytes,
            sync_p50_us: self.store.sync_times.quantile(50),
            sync_p99_us: self.store.sync_times.quantile(99),
            syncs: self.store.syncs,
            journal_bytes: self.store.journal_bytes,
            disk_free_bytes: self.disk_free,
            poisoned: matches!(self.health, Health::Failed { .. }),
        }
    }
}

impl Handle {
    /// The figures of this moment.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let broker = &*self.broker;
        let stored = broker.stored();
        let (subscriptions, shared_subscriptions) = {
            let router = broker.router.read();
            (router.len(), router.shared_len())
        };
        let (resident_bytes, maximum_bytes) = crate::env::memory::resident();
        Snapshot {
            now: broker.clock.now(),
            tick: broker.clock.tick(),
            clients: Clients {
                connected: broker.registry.connected(),
                maximum: broker.registry.maximum(),
                sessions: stored.sessions,
                disconnected: stored.sessions.saturating_sub(stored.attached),
                half_open: broker.half_open.load(Ordering::Relaxed),
            },
            subscriptions,
            shared_subscriptions,
            retained: Retained { messages: stored.retained, bytes: stored.retained_bytes },
            queued: Queued { messages: stored.queued, bytes: stored.queued_bytes },
            store: broker.store.stats(),
            health: broker.store.health(),
            disk_free: broker.store.free_space(),
            memory: Memory { resident_bytes, maximum_bytes, mark_bytes: broker.limits.load().memory_mark },
            totals: broker.board.totals(),
        }
    }

    /// The counters alone, and when they were read.
    #[must_use]
    pub fn totals(&self) -> (Tick, Totals) {
        (self.broker.clock.tick(), self.broker.board.totals())
    }

    /// The present moment.
    #[must_use]
    pub fn now(&self) -> Time {
        Time(self.broker.clock.now())
    }

    /// Whether acknowledgements can be given.
    #[must_use]
    pub fn health(&self) -> Health {
        self.broker.store.health()
    }

    /// Whether the broker is being stopped.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.broker.is_stopping()
    }

    /// The node's id, in hexadecimal.
    #[must_use]
    pub fn node_id(&self) -> String {
        self.broker.node_id()
    }

    /// The data folder.
    #[must_use]
    pub fn data_folder(&self) -> String {
        self.broker.store.folder().display().to_string()
    }

    /// When an acknowledgement is given: `sync`, `interval` or `memory`.
    #[must_use]
    pub fn durability(&self) -> &'static str {
        match self.broker.store.durability() {
            Durability::Sync => "sync",
            Durability::Interval(_) => "interval",
            Durability::Memory => "memory",
        }
    }
}
