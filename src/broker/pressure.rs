//! What is nearly used up: memory, the disk, the room for retained and queued messages. Looked at once a second, and
//! counted with every batch of the journal; asked on the way of every message, so it is cheap to ask.

use super::Broker;
use super::limits::Limits;
use nightjar_base::ShardId;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// How it stands.
#[derive(Debug, Default)]
pub(crate) struct Pressure {
    memory: AtomicBool,
    disk: AtomicBool,
    retained: AtomicU64,
    retained_bytes: AtomicU64,
    queued: AtomicU64,
    queued_bytes: AtomicU64,
}

impl Pressure {
    /// Whether memory is above its mark.
    #[inline]
    pub(crate) fn memory(&self) -> bool {
        self.memory.load(Ordering::Relaxed)
    }

    /// Whether the disk is below its mark.
    #[inline]
    pub(crate) fn disk(&self) -> bool {
        self.disk.load(Ordering::Relaxed)
    }

    /// Whether no message may be queued any more.
    #[inline]
    pub(crate) fn queues_full(&self, limits: &Limits) -> bool {
        self.queued.load(Ordering::Relaxed) >= limits.queued_messages
            || self.queued_bytes.load(Ordering::Relaxed) >= limits.queued_bytes
            || self.disk()
    }

    /// Whether no new topic may have a retained message.
    #[inline]
    pub(crate) fn retained_full(&self, limits: &Limits) -> bool {
        self.retained.load(Ordering::Relaxed) >= limits.retained_messages
            || self.retained_bytes.load(Ordering::Relaxed) >= limits.retained_bytes
            || self.memory()
            || self.disk()
    }
}

impl Broker {
    /// Whether anything that is stored is bounded.
    fn bounds_stored(limits: &Limits) -> bool {
        [limits.retained_messages, limits.retained_bytes, limits.queued_messages, limits.queued_bytes]
            .iter()
            .any(|limit| *limit != u64::MAX)
    }

    /// Counts what is stored, where that is bounded. Called when a batch was applied.
    pub(crate) fn count_stored(&self) {
        if !Self::bounds_stored(&self.limits.load()) {
            return;
        }
        let (mut retained, mut retained_bytes, mut queued, mut queued_bytes) = (0, 0, 0, 0);
        for shard in 0..self.store.shard_count() {
            let shard = self.store.lock(ShardId(shard));
            retained += shard.retained_count() as u64;
            retained_bytes += shard.retained_bytes();
            queued += shard.queued_messages();
            queued_bytes += shard.queued_bytes();
        }
        let pressure = &self.pressure;
        pressure.retained.store(retained, Ordering::Relaxed);
        pressure.retained_bytes.store(retained_bytes, Ordering::Relaxed);
        pressure.queued.store(queued, Ordering::Relaxed);
        pressure.queued_bytes.store(queued_bytes, Ordering::Relaxed);
    }

    /// Looks at memory and disk, and says so when a mark is passed. Called once a second.
    pub(crate) fn look_at_marks(&self) {
        let limits = self.limits.load();
        let (resident, _) = crate::env::memory::resident();
        let memory = resident > limits.memory_mark;
        if self.pressure.memory.swap(memory, Ordering::Relaxed) != memory {
            if memory {
                tracing::warn!(
                    resident,
                    mark = limits.memory_mark,
                    "memory is above limits.memory_mark: no new connections, subscriptions and retained topics"
                );
            } else {
                tracing::info!(resident, "memory is below limits.memory_mark again");
            }
        }
        let disk = limits.disk_mark > 0 && self.store.free_space().is_some_and(|free| free < limits.disk_mark);
        if self.pressure.disk.swap(disk, Ordering::Relaxed) != disk {
            if disk {
                tracing::warn!(
                    mark = limits.disk_mark,
                    "free space is below limits.disk_mark: no more messages are kept"
                );
            } else {
                tracing::info!("free space is above limits.disk_mark again");
            }
        }
    }
}
