//! The store: what makes an acknowledgement true.
//!
//! Ops are submitted from any thread, gathered by the journal's thread, written and synced as one record, applied to
//! their shards, and only then seen by anyone. A checkpoint moves what outlives a few seconds into the tables (sled).
//!
//! ```text
//! submit ──► queue ──► journal's thread: one write, one sync ──► Shard::apply ──► Sink::effects, waiters, Sink::applied
//!                                ▲ checkpoint records                │ overlay
//!                                └──────── checkpoint's thread ◄─────┘ ──► tables, chunk by chunk
//! ```
//! | file | its story |
//! | --- | --- |
//! | `record`, `segment` | the journal's format, and what counts as damage |
//! | `journal`, `spares` | writing it; files prepared in advance |
//! | `writer` | group commit |
//! | `checkpoint`, `engine`, `sled` | the tables, and the way into them |
//! | `recovery`, `export` | what a start finds; what can be saved from damage |
//! | `log`, `log_writer`, `replica`, `snapshot` | the same journal and states for the groups of a cluster |
//! | `stats`, `latency` | how it is doing |
//! | `files` | the disk, as little of it as is needed |

mod checkpoint;
mod codec;
mod config;
mod core;
mod engine;
mod error;
mod export;
mod files;
mod journal;
mod latency;
mod log;
mod log_writer;
mod open;
mod record;
mod recovery;
mod replica;
mod segment;
mod sled;
mod snapshot;
mod spares;
mod stats;
#[cfg(test)]
pub(crate) mod tests;
mod writer;

pub use config::{Durability, Fatal, StoreConfig};
pub use error::StoreError;
pub use export::{export, set_aside};
pub use latency::{BOUNDS, Latency};
pub use log::{Content, LogEntry, LogState, Point};
pub use open::{Founding, Opened, Replication, Unheard};
pub use replica::{Applied, Applier, Batch, GroupLog, Outgoing, Proposals, Received, Standing};
pub use stats::{Health, Stats};

pub use self::core::State;
use self::core::{Core, Submission};
use nightjar_base::{Position, ShardId};
use nightjar_shard::{Effect, Op, Shard, Tables};
use parking_lot::{Mutex, MutexGuard};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// What the broker wants to hear. Called on the journal's thread, after a batch is durable and applied: what it does
/// there, every acknowledgement waits for.
pub trait Sink: Send {
    /// The effects of a batch on one shard, in the order of its ops. The shard is not locked. What is left in `effects`
    /// is dropped.
    fn effects(&mut self, shard: ShardId, effects: &mut Vec<Effect>);

    /// Everything up to `position` is durable and applied, and its waiters were called: once a batch.
    fn applied(&mut self, position: Position);

    /// The state of `shard` is about to be replaced without effects that would lead from one to the other: this node was
    /// behind, and another has sent it a snapshot. Only in a cluster.
    fn replacing(&mut self, _shard: ShardId) {}

    /// It is another one now.
    fn replaced(&mut self, _shard: ShardId) {}
}

/// Whoever waits for a submission.
pub trait Waiter: Send + Sync {
    /// The submission at `position` is durable and applied. Called once for each submission it was given with, on the
    /// journal's thread.
    fn durable(self: Arc<Self>, position: Position);
}

/// Ops that wait for what was submitted before them.
struct InTurn {
    store: Store,
    ops: Mutex<Vec<(ShardId, Op)>>,
}

impl Waiter for InTurn {
    fn durable(self: Arc<Self>, _: Position) {
        let mut ops = std::mem::take(&mut *self.ops.lock());
        self.store.submit(&mut ops, None);
    }
}

/// The store: a cheap handle, to be cloned at will.
#[derive(Clone)]
pub struct Store {
    core: Arc<Core>,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("folder", &self.core.config.folder).finish_non_exhaustive()
    }
}

impl Store {
    /// Opens (or makes) the data folder and recovers what is in it. Nothing is written before [`Opened::start`].
    ///
    /// # Errors
    /// When the folder is in use, damaged, too new, or the system refuses.
    pub fn open(config: StoreConfig) -> Result<Opened, StoreError> {
        Opened::open(config)
    }

    /// Takes all of `ops`, to become durable together or not at all, and calls `waiter` when they are applied.
    ///
    /// Never waits for a disk. After [`Store::stop`] nothing is taken any more: `ops` are dropped and `waiter` is never
    /// called.
    pub fn submit(&self, ops: &mut Vec<(ShardId, Op)>, waiter: Option<Arc<dyn Waiter>>) -> Position {
        let bytes = ops.iter().map(|(_, op)| op.weight()).sum();
        self.core.pending.fetch_add(bytes, Ordering::Relaxed);
        let mut queue = self.core.queue.lock();
        queue.submitted += 1;
        let position = Position(queue.submitted);
        if queue.closed {
            ops.clear();
            return position;
        }
        if queue.submissions.is_empty() {
            queue.since = self.core.config.clock.micros();
        }
        queue.submissions.push_back(Submission { ops: ops.len(), bytes, waiter });
        queue.ops.extend(ops.drain(..));
        if let Some(replicated) = self.core.replicated.get() {
            let all_taken = std::mem::take(&mut queue.all_taken);
            drop(queue);
            if all_taken {
                (replicated.submitted)();
            }
            return position;
        }
        let wake = std::mem::take(&mut queue.asleep);
        drop(queue);
        if wake {
            self.core.wake.notify_one();
        }
        position
    }

    /// Calls `waiter` when all that was submitted before is applied.
    pub fn barrier(&self, waiter: Arc<dyn Waiter>) -> Position {
        self.submit(&mut Vec::new(), Some(waiter))
    }

    /// Submits `ops` when all that was submitted before them is applied.
    pub fn submit_in_turn(&self, ops: Vec<(ShardId, Op)>) {
        self.barrier(Arc::new(InTurn { store: self.clone(), ops: Mutex::new(ops) }));
    }

    /// The newest position that is durable and applied.
    #[must_use]
    pub fn applied(&self) -> Position {
        Position(self.core.applied.load(Ordering::Acquire))
    }

    /// The newest position given out.
    #[must_use]
    pub fn submitted(&self) -> Position {
        Position(self.core.queue.lock().submitted)
    }

    /// Returns when `position` is durable and applied; never, if the store ends before.
    pub async fn wait(&self, position: Position) {
        if self.applied() >= position {
            return;
        }
        let (sender, receiver) = tokio::sync::oneshot::channel();
        self.barrier(Arc::new(Once(Mutex::new(Some(sender)))));
        if receiver.await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// As [`Store::wait`], for threads that may block. False if the store ended before, or after `patience`.
    #[must_use]
    pub fn wait_blocking(&self, position: Position, patience: Duration) -> bool {
        if self.applied() >= position {
            return true;
        }
        let (sender, receiver) = std::sync::mpsc::sync_channel(1);
        self.barrier(Arc::new(Blocked(sender)));
        receiver.recv_timeout(patience).is_ok()
    }

    /// The shard of a client identifier or topic. Part of the format: never seeded, never changed.
    #[must_use]
    pub fn shard_of(&self, key: &str) -> ShardId {
        shard_of(key, self.shard_count())
    }

    /// The number of shards of this folder.
    #[must_use]
    pub fn shard_count(&self) -> u16 {
        u16::try_from(self.core.shards.len()).unwrap_or(u16::MAX)
    }

    /// This node's id: a random number, made with the folder.
    #[must_use]
    pub fn node(&self) -> u64 {
        self.core.node
    }

    /// A shard, to read from. The journal's thread waits meanwhile: hold it briefly, and never two of them.
    pub fn lock(&self, shard: ShardId) -> MutexGuard<'_, Shard> {
        self.core.shards[usize::from(shard.0)].lock()
    }

    /// The tables that the shards' reads take.
    #[must_use]
    pub fn tables(&self) -> &dyn Tables {
        &*self.core.engine
    }

    /// Whether publishers must not be read until this is false again: too much waits, the journal is over its budget,
    /// or it cannot be written.
    #[must_use]
    pub fn congested(&self) -> bool {
        self.core.pending.load(Ordering::Relaxed) > self.core.config.pending_bytes
            || self.core.journal_bytes.load(Ordering::Relaxed) > self.core.journal_budget()
            || self.core.is_overgrown()
            || !self.core.health.is_writable()
    }

    /// Free bytes of the disk that the folder is on; `None` where there is none, or the system does not tell.
    #[must_use]
    pub fn free_space(&self) -> Option<u64> {
        self.core.files.free_space().ok()
    }

    /// The folder.
    #[must_use]
    pub fn folder(&self) -> &std::path::Path {
        &self.core.config.folder
    }

    /// When an acknowledgement is given.
    #[must_use]
    pub fn durability(&self) -> Durability {
        self.core.config.durability
    }

    /// Whether acknowledgements can be given.
    #[must_use]
    pub fn health(&self) -> Health {
        self.core.health.get()
    }

    /// The figures.
    #[must_use]
    pub fn stats(&self) -> Stats {
        Stats {
            journal_bytes: self.core.journal_bytes.load(Ordering::Relaxed),
            journal_budget: self.core.journal_budget(),
            overlay_bytes: self.core.overlay.load(Ordering::Relaxed) as u64,
            pending_bytes: self.core.pending.load(Ordering::Relaxed) as u64,
            ..self.core.counters.read()
        }
    }

    /// Asks for a checkpoint of what is dirty, now.
    pub fn checkpoint(&self) {
        self.core.ask_checkpoint();
    }

    /// Writes what was submitted, makes a last checkpoint and ends the threads. What comes afterwards, through other
    /// handles, is not taken. If the disk is full, what was not yet written is given up: it was not acknowledged. In a
    /// cluster what was not agreed on is given up too, and the groups must have been stopped.
    pub fn stop(self) {
        let core = &self.core;
        loop {
            let queue = core.queue.lock();
            if queue.closed
                || core.replicated.get().is_some()
                || core.applied.load(Ordering::Acquire) >= queue.submitted
            {
                break;
            }
            drop(queue);
            if !core.health.is_writable() {
                core.stopping.store(true, Ordering::Relaxed);
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        core.signal.lock().stop = true;
        core.checkpoint.notify_all();
        let mut threads = std::mem::take(&mut *core.threads.lock());
        let join = |thread: Option<std::thread::JoinHandle<()>>| {
            // A panic in there was reported when it happened.
            let _ = thread.map(std::thread::JoinHandle::join);
        };
        // Started in the order spares, journal, checkpoint: ended in the opposite one, each needs those before it.
        join(threads.pop());
        core.queue.lock().stop = true;
        core.wake.notify_all();
        join(threads.pop());
        core.spares.stop();
        join(threads.pop());
        *core.lock.lock() = None;
    }
}

struct Once(Mutex<Option<tokio::sync::oneshot::Sender<()>>>);

impl Waiter for Once {
    fn durable(self: Arc<Self>, _: Position) {
        if let Some(sender) = self.0.lock().take() {
            // Whoever waited may have gone.
            let _ = sender.send(());
        }
    }
}

struct Blocked(std::sync::mpsc::SyncSender<()>);

impl Waiter for Blocked {
    fn durable(self: Arc<Self>, _: Position) {
        let _ = self.0.try_send(());
    }
}

/// FNV-1a, 64 bits, folded: short keys, one at a time, the same on every machine.
fn shard_of(key: &str, shards: u16) -> ShardId {
    if shards <= 1 {
        return ShardId(0);
    }
    let mix = |hash: u64, &byte: &u8| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    let hash = key.as_bytes().iter().fold(0xcbf2_9ce4_8422_2325, mix);
    let folded = hash ^ (hash >> 32);
    ShardId(u16::try_from(folded % u64::from(shards)).expect("a remainder is below its divisor, a u16"))
}
