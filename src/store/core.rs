//! What the store's threads and its handle share.

use super::Waiter;
use super::config::{Durability, StoreConfig};
use super::engine::Engine;
use super::files::{Files, FolderLock};
use super::journal::Shelf;
use super::spares::Spares;
use super::stats::{Counters, HealthCell};
use nightjar_base::ShardId;
use nightjar_mqtt::Message;
use nightjar_shard::{Op, Shard, Target};
use parking_lot::{Condvar, Mutex};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::SyncSender;
use std::thread::JoinHandle;

/// Ops that become durable together.
pub(crate) struct Submission {
    pub(crate) ops: usize,
    pub(crate) bytes: usize,
    pub(crate) waiter: Option<Arc<dyn Waiter>>,
}

/// A part of a checkpoint on its way into the journal.
pub(crate) struct PartJob {
    pub(crate) shard: ShardId,
    pub(crate) index: u64,
    pub(crate) payload: Vec<u8>,
    /// Told when the part is on disk; dropped unheard when it never will be.
    pub(crate) done: SyncSender<()>,
}

/// What waits for the journal's thread.
#[derive(Default)]
pub(crate) struct Queue {
    pub(crate) ops: VecDeque<(ShardId, Op)>,
    pub(crate) submissions: VecDeque<Submission>,
    pub(crate) parts: VecDeque<PartJob>,
    /// When the oldest of the submissions came, in the clock's microseconds.
    pub(crate) since: u64,
    /// The position of the newest submission.
    pub(crate) submitted: u64,
    /// The journal's thread sleeps and must be woken.
    pub(crate) asleep: bool,
    pub(crate) stop: bool,
    /// The journal's thread is gone: what comes now is never acknowledged.
    pub(crate) closed: bool,
}

/// When the checkpoint's thread has work.
#[derive(Default)]
pub(crate) struct CheckpointSignal {
    pub(crate) asked: bool,
    pub(crate) stop: bool,
}

pub(crate) struct Core {
    pub(crate) config: StoreConfig,
    pub(crate) node: u64,
    pub(crate) files: Arc<dyn Files>,
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) spares: Arc<Spares>,
    pub(crate) shelf: Arc<Shelf>,
    pub(crate) shards: Box<[Mutex<Shard>]>,
    /// What each shard's overlay held when it was last looked at.
    pub(crate) overlays: Box<[AtomicUsize]>,
    pub(crate) overlay: AtomicUsize,
    pub(crate) queue: Mutex<Queue>,
    pub(crate) wake: Condvar,
    pub(crate) applied: AtomicU64,
    pub(crate) pending: AtomicUsize,
    pub(crate) journal_bytes: AtomicU64,
    pub(crate) signal: Mutex<CheckpointSignal>,
    pub(crate) checkpoint: Condvar,
    /// Nothing may wait for better times any more.
    pub(crate) stopping: AtomicBool,
    pub(crate) health: HealthCell,
    pub(crate) counters: Counters,
    pub(crate) threads: Mutex<Vec<JoinHandle<()>>>,
    pub(crate) lock: Mutex<Option<FolderLock>>,
}

impl Core {
    pub(crate) fn is_memory(&self) -> bool {
        self.config.durability == Durability::Memory
    }

    /// The budget that is kept: below four segments the journal could never be trimmed under it.
    pub(crate) fn journal_budget(&self) -> u64 {
        self.config.journal_budget.max(self.config.segment_bytes.saturating_mul(4))
    }

    /// Notes the overlay's size of a shard that is locked by the caller.
    pub(crate) fn note_overlay(&self, shard: &Shard) {
        let now = shard.overlay_bytes();
        let before = self.overlays[usize::from(shard.id().0)].swap(now, Ordering::Relaxed);
        // Wrapping, so that the sum is right whatever the order in which differences come in.
        self.overlay.fetch_add(now.wrapping_sub(before), Ordering::Relaxed);
    }

    /// Whether a checkpoint should begin before its time.
    pub(crate) fn wants_checkpoint(&self) -> bool {
        self.overlay.load(Ordering::Relaxed) > self.config.checkpoint_overlay_bytes
            || self.journal_bytes.load(Ordering::Relaxed) > self.journal_budget() / 2
    }

    /// Whether the overlays have grown to twice the size at which a checkpoint begins: what comes in is not moved to the
    /// tables as fast, and must not gather in memory instead.
    pub(crate) fn is_overgrown(&self) -> bool {
        !self.is_memory()
            && self.overlay.load(Ordering::Relaxed) > self.config.checkpoint_overlay_bytes.saturating_mul(2)
    }

    /// Asks for a checkpoint now.
    pub(crate) fn ask_checkpoint(&self) {
        let mut signal = self.signal.lock();
        if !signal.asked {
            signal.asked = true;
            self.checkpoint.notify_one();
        }
    }

    /// The promise cannot be kept any more.
    pub(crate) fn fail(&self, why: &str) {
        self.health.fail(why.to_owned());
        self.stopping.store(true, Ordering::Relaxed);
        (self.config.fatal)(why);
    }
}

/// Roughly what an op costs in memory while it waits.
pub(crate) fn weight(op: &Op) -> usize {
    const PLAIN: usize = size_of::<Op>() + 16;
    match op {
        Op::Enqueue { message, targets, .. } => PLAIN + copies(message, targets),
        Op::EnqueueFrom { message, targets, variants, .. } => {
            let variants = variants.iter().map(|(message, targets)| copies(message, targets));
            PLAIN + copies(message, targets) + variants.sum::<usize>()
        }
        Op::Retain { message, .. } | Op::RetainFrom { message, .. } => PLAIN + message.size(),
        Op::Replay { entries, .. } => PLAIN + entries.iter().map(|entry| entry.message.size() + 64).sum::<usize>(),
        Op::ForgetOrigins { tokens, .. } => PLAIN + tokens.len() * 8,
        Op::Subscribe { subscriptions, .. } => PLAIN + subscriptions.len() * 128,
        Op::Attach { will: Some(will), .. } => PLAIN + will.message.size(),
        Op::AttachFrom { will: Some(will), .. } => PLAIN + will.message.size(),
        _ => PLAIN,
    }
}

fn copies(message: &Message, targets: &[Target]) -> usize {
    message.size() + targets.len() * 64
}
