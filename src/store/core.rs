//! What the store's threads and its handle share.

use super::Waiter;
use super::config::{Durability, StoreConfig};
use super::engine::{Engine, Stand};
use super::files::{Files, FolderLock};
use super::journal::Shelf;
use super::log::{Log, LogEntry, Point};
use super::spares::Spares;
use super::stats::{Counters, HealthCell};
use bytes::Bytes;
use nightjar_base::ShardId;
use nightjar_control::Control;
use nightjar_shard::{Change, Op, Shard, Tables, TablesError};
use parking_lot::{Condvar, Mutex};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, OnceLock};
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

/// Called on the journal's thread when what it was given with is on disk; dropped unheard when it never will be.
pub(crate) type Done = Box<dyn FnOnce() + Send>;

/// Something about a group's log that is to be written to the journal.
pub(crate) struct LogJob {
    pub(crate) group: ShardId,
    pub(crate) what: LogWrite,
    pub(crate) done: Option<Done>,
}

pub(crate) enum LogWrite {
    Append(Vec<LogEntry>),
    /// What is behind this index is taken back.
    Truncate(u64),
    Vote(Bytes),
    Purge(Point),
    Install(super::snapshot::Install),
}

impl LogWrite {
    /// Roughly the bytes that it takes in a record.
    pub(crate) fn size(&self) -> usize {
        match self {
            Self::Append(entries) => entries.iter().map(|entry| entry.payload.len() + 24).sum(),
            Self::Vote(vote) => vote.len() + 24,
            Self::Truncate(_) | Self::Purge(_) | Self::Install(_) => 64,
        }
    }

    /// Whether it must be on disk when it is reported, whatever the durability: somebody may be promised something by it
    /// that no other node could make good.
    pub(crate) fn must_sync(&self) -> bool {
        matches!(self, Self::Vote(_) | Self::Install(_))
    }
}

/// A deterministic state machine whose state is rows: a shard, or what the control group agrees on.
pub trait State: Send {
    /// The index of what was applied last.
    fn applied(&self) -> u64;
    /// The entry at `index` does nothing to it.
    fn note_index(&mut self, index: u64);
    /// The net absolute changes since the last freeze.
    ///
    /// # Errors
    /// When the tables cannot be read; nothing has changed then.
    fn freeze(&mut self, tables: &dyn Tables) -> Result<Arc<Vec<Change>>, TablesError>;
    /// The frozen changes are in the tables now.
    fn thaw(&mut self);
    /// What is held in memory since the last freeze, roughly.
    fn overlay_bytes(&self) -> usize;
    /// Becomes what it was at first.
    fn clear(&mut self);
    /// Becomes what the tables hold.
    ///
    /// # Errors
    /// When they cannot be read or are damaged; nothing has changed then.
    fn reload(&mut self, tables: &dyn Tables) -> Result<(), TablesError>;
}

impl State for Shard {
    fn applied(&self) -> u64 {
        Self::applied(self)
    }

    fn note_index(&mut self, index: u64) {
        Self::note_index(self, index);
    }

    fn freeze(&mut self, tables: &dyn Tables) -> Result<Arc<Vec<Change>>, TablesError> {
        Self::freeze(self, tables)
    }

    fn thaw(&mut self) {
        Self::thaw(self);
    }

    fn overlay_bytes(&self) -> usize {
        Self::overlay_bytes(self)
    }

    fn clear(&mut self) {
        *self = Self::new(self.id());
        self.set_replicated(true);
    }

    fn reload(&mut self, tables: &dyn Tables) -> Result<(), TablesError> {
        Self::reload(self, tables)
    }
}

impl State for Control {
    fn applied(&self) -> u64 {
        Self::applied(self)
    }

    fn note_index(&mut self, index: u64) {
        Self::note_index(self, index);
    }

    fn freeze(&mut self, _: &dyn Tables) -> Result<Arc<Vec<Change>>, TablesError> {
        Ok(Self::freeze(self))
    }

    fn thaw(&mut self) {
        Self::thaw(self);
    }

    fn overlay_bytes(&self) -> usize {
        Self::overlay_bytes(self)
    }

    fn clear(&mut self) {
        *self = Self::new(self.group());
    }

    fn reload(&mut self, tables: &dyn Tables) -> Result<(), TablesError> {
        *self = Self::load(self.group(), tables)?;
        Ok(())
    }
}

/// What a node of a cluster has beside the shards.
pub(crate) struct Replicated {
    /// What the control group agrees on.
    pub(crate) control: Arc<Mutex<dyn State>>,
    /// By group: its log.
    pub(crate) logs: Box<[Mutex<Log>]>,
    /// Called when something was submitted.
    pub(crate) submitted: Box<dyn Fn() + Send + Sync>,
    /// The most bytes of all logs that are held in memory.
    pub(crate) most_held: usize,
}

/// What waits for the journal's thread.
#[derive(Default)]
pub(crate) struct Queue {
    pub(crate) ops: VecDeque<(ShardId, Op)>,
    pub(crate) submissions: VecDeque<Submission>,
    pub(crate) parts: VecDeque<PartJob>,
    pub(crate) jobs: VecDeque<LogJob>,
    /// When the oldest of the submissions came, in the clock's microseconds.
    pub(crate) since: u64,
    /// The position of the newest submission.
    pub(crate) submitted: u64,
    /// The journal's thread sleeps and must be woken.
    pub(crate) asleep: bool,
    /// In a cluster: all that was submitted has been taken, and whoever takes it must be told of more.
    pub(crate) all_taken: bool,
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
    /// By group: where its state stands. Locked only by whoever has the state's own lock.
    pub(crate) stands: Box<[Mutex<Stand>]>,
    /// By group: the index at which it was last checkpointed.
    pub(crate) checkpointed: Box<[AtomicU64]>,
    /// By group: how many read its rows for a snapshot; [`WRITING`] while they are written.
    pub(crate) readers: Box<[AtomicU32]>,
    /// Set when the groups are run by a cluster.
    pub(crate) replicated: OnceLock<Replicated>,
    /// By group: what the state's overlay held when it was last looked at.
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

/// Instead of a number of readers.
const WRITING: u32 = u32::MAX;

impl Core {
    /// Puts a job before the journal's thread; false if there is none any more.
    pub(crate) fn push_job(&self, job: LogJob) -> bool {
        let mut queue = self.queue.lock();
        if queue.closed {
            return false;
        }
        queue.jobs.push_back(job);
        let wake = std::mem::take(&mut queue.asleep);
        drop(queue);
        if wake {
            self.wake.notify_one();
        }
        true
    }

    /// Whether the rows of `group` are the caller's to write, until [`Self::end_writing`].
    pub(crate) fn begin_writing(&self, group: usize) -> bool {
        self.readers[group].compare_exchange(0, WRITING, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    pub(crate) fn end_writing(&self, group: usize) {
        self.readers[group].store(0, Ordering::Release);
    }

    /// Whether the rows of `group` stay as they are, until [`Self::end_reading`].
    pub(crate) fn begin_reading(&self, group: usize) -> bool {
        let more = |readers: u32| (readers != WRITING).then(|| readers + 1);
        self.readers[group].fetch_update(Ordering::Acquire, Ordering::Relaxed, more).is_ok()
    }

    pub(crate) fn end_reading(&self, group: usize) {
        self.readers[group].fetch_sub(1, Ordering::Release);
    }

    /// How many groups there are: the shards, and in a cluster the control group.
    pub(crate) fn groups(&self) -> usize {
        self.shards.len() + usize::from(self.replicated.get().is_some())
    }

    /// Works on the state of a group, and on where it stands, while both are locked.
    pub(crate) fn with_state<T>(&self, group: usize, work: impl FnOnce(&mut dyn State, &mut Stand) -> T) -> T {
        match self.shards.get(group) {
            Some(shard) => work(&mut *shard.lock(), &mut self.stands[group].lock()),
            None => {
                let replicated = self.replicated.get().expect("only a cluster has a group behind the shards");
                work(&mut *replicated.control.lock(), &mut self.stands[group].lock())
            }
        }
    }

    pub(crate) fn is_memory(&self) -> bool {
        self.config.durability == Durability::Memory
    }

    /// The budget that is kept: below four segments the journal could never be trimmed under it.
    pub(crate) fn journal_budget(&self) -> u64 {
        self.config.journal_budget.max(self.config.segment_bytes.saturating_mul(4))
    }

    /// Notes the overlay's size of a group's state, which is locked by the caller.
    pub(crate) fn note_overlay(&self, group: usize, state: &dyn State) {
        let now = state.overlay_bytes();
        let before = self.overlays[group].swap(now, Ordering::Relaxed);
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
