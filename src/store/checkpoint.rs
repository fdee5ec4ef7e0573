//! The checkpoint's thread: the net result of a shard's overlay goes into the tables, and old journal goes.
//!
//! ```text
//! shard locked: freeze ──► checkpoint record, synced ──► tables, chunk by chunk, each synced ──► shard locked: thaw
//! ```
//! A crash after the record is finished by the recovery; a crash before it leaves tables that nothing has touched. A
//! segment goes when every shard has passed it at its checkpoint *before* the last.

use super::core::{Core, PartJob};
use super::engine::{EngineError, checkpoint_change, chunks};
use super::record::encode_parts;
use super::segment;
use super::stats::Counters;
use nightjar_base::ShardId;
use nightjar_shard::Change;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::sync::{Arc, mpsc};
use std::time::Duration;

const PART_BYTES: usize = 512 << 10;
/// Between two rounds, whatever asks for them.
const PAUSE: Duration = Duration::from_millis(5);
const FIRST_RETRY: Duration = Duration::from_millis(100);
/// How often a long pause looks whether the store stops.
const GLANCE: Duration = Duration::from_millis(25);
const LAST_RETRY: Duration = Duration::from_secs(5);

pub(crate) struct Checkpointer {
    core: Arc<Core>,
    /// By shard: the index at which it was last checkpointed, and the time before.
    last: Vec<u64>,
    previous: Vec<u64>,
}

/// The round cannot go on: the store stops or the journal is gone.
struct GivenUp;

impl Checkpointer {
    /// `last` is what the tables stand at.
    pub(crate) fn new(core: Arc<Core>, last: Vec<u64>) -> Self {
        let previous = vec![0; last.len()];
        Self { core, last, previous }
    }

    /// The thread.
    pub(crate) fn run(mut self) {
        if catch_unwind(AssertUnwindSafe(|| self.serve())).is_err() {
            self.core.fail("the checkpoint's thread panicked");
        }
    }

    fn serve(&mut self) {
        while self.wait() {
            if self.round().is_err() {
                return;
            }
            std::thread::sleep(PAUSE);
        }
        // What the last round leaves in the overlay is in the journal.
        let _ = self.round();
    }

    /// Until there is a reason for a round; false when it is the last one.
    fn wait(&self) -> bool {
        let mut signal = self.core.signal.lock();
        while !signal.asked && !signal.stop {
            if self.core.checkpoint.wait_for(&mut signal, self.core.config.checkpoint_interval).timed_out() {
                break;
            }
        }
        signal.asked = false;
        !signal.stop
    }

    fn round(&mut self) -> Result<(), GivenUp> {
        if self.must_hold() {
            // Asked for again and again, it would only ask the file system again and again.
            std::thread::sleep(FIRST_RETRY);
            return Ok(());
        }
        for number in 0..self.last.len() {
            let applied = self.core.shards[number].lock().applied();
            if applied > self.last[number] {
                self.shard(number)?;
            } else {
                // An idle shard pins no segment: what it has is in the tables since the round before.
                self.previous[number] = self.last[number];
            }
        }
        self.trim();
        Ok(())
    }

    /// Whether there is too little space: the full disk must be met by the journal, never by sled.
    fn must_hold(&self) -> bool {
        if self.core.is_memory() {
            return false;
        }
        let held = match self.core.files.free_space() {
            Ok(space) => space < self.core.config.free_space_floor,
            Err(error) => {
                tracing::warn!(%error, "cannot tell how much disk space is free");
                false
            }
        };
        if held != self.core.counters.checkpoint_held.swap(held, Ordering::Relaxed) {
            tracing::warn!(held, "free disk space crossed the floor: whether checkpoints wait has changed");
        }
        held
    }

    fn shard(&mut self, number: usize) -> Result<(), GivenUp> {
        let id = ShardId(u16::try_from(number).expect("there are at most 1024 shards"));
        let (index, changes) = self.freeze(number)?;
        if !self.core.is_memory() {
            self.record(id, index, &changes)?;
        }
        self.fill(id, index, &changes)?;
        {
            let mut shard = self.core.shards[number].lock();
            shard.thaw();
            self.core.note_overlay(&shard);
        }
        self.previous[number] = self.last[number];
        self.last[number] = index;
        Counters::add(&self.core.counters.checkpoints, 1);
        Counters::add(&self.core.counters.rows, changes.len() as u64);
        Ok(())
    }

    fn freeze(&self, number: usize) -> Result<(u64, Arc<Vec<Change>>), GivenUp> {
        let mut pause = FIRST_RETRY;
        loop {
            let error = {
                let mut shard = self.core.shards[number].lock();
                let index = shard.applied();
                match shard.freeze(&*self.core.engine) {
                    Ok(changes) => {
                        self.core.note_overlay(&shard);
                        return Ok((index, changes));
                    }
                    Err(error) => error,
                }
            };
            self.overcome(&error.to_string(), &mut pause)?;
        }
    }

    /// Puts the changes into the journal.
    fn record(&self, shard: ShardId, index: u64, changes: &[Change]) -> Result<(), GivenUp> {
        let base = self.last[usize::from(shard.0)];
        let payloads = encode_parts(base, changes, PART_BYTES);
        let parts = payloads.len();
        let (done, heard) = mpsc::sync_channel(parts);
        {
            let mut queue = self.core.queue.lock();
            if queue.closed {
                return Err(GivenUp);
            }
            let job = |payload| PartJob { shard, index, payload, done: done.clone() };
            queue.parts.extend(payloads.into_iter().map(job));
            self.core.wake.notify_one();
        }
        drop(done);
        if heard.iter().take(parts).count() == parts { Ok(()) } else { Err(GivenUp) }
    }

    /// Puts the changes into the tables. What they held of an earlier attempt is written over: changes are absolute.
    fn fill(&self, shard: ShardId, index: u64, changes: &[Change]) -> Result<(), GivenUp> {
        let last = [checkpoint_change(shard, index)];
        let mut pause = FIRST_RETRY;
        loop {
            let written = chunks(changes).chain([last.as_slice()]).try_for_each(|chunk| self.core.engine.write(chunk));
            match written {
                Ok(()) => return Ok(()),
                Err(EngineError::Retry(error)) => self.overcome(&error.to_string(), &mut pause)?,
                Err(EngineError::Lost(why)) => {
                    self.core.fail(&why);
                    return Err(GivenUp);
                }
            }
        }
    }

    /// After an error of the tables: opens them again, and waits a little longer each time.
    fn overcome(&self, error: &str, pause: &mut Duration) -> Result<(), GivenUp> {
        Counters::add(&self.core.counters.tables_errors, 1);
        tracing::error!(%error, "the tables failed: opening them again, the journal keeps what they lack");
        let mut waited = Duration::ZERO;
        while waited < *pause {
            if self.core.stopping.load(Ordering::Relaxed) || self.core.signal.lock().stop {
                return Err(GivenUp);
            }
            std::thread::sleep(GLANCE);
            waited += GLANCE;
        }
        *pause = (*pause * 2).min(LAST_RETRY);
        if let Err(error) = self.core.engine.revive() {
            tracing::error!(%error, "the tables do not open");
        }
        Ok(())
    }

    fn trim(&self) {
        while let Some(old) = self.core.shelf.take_passed(&self.previous) {
            let name = segment::name(old.first);
            if let Err(error) = self.core.spares.retire(&name, old.length) {
                // Recovery passes over it; it only takes up space, and the next start's journal begins with it.
                tracing::warn!(%error, segment = %name, "cannot remove a segment of the journal");
                self.core.shelf.put_back(old);
                break;
            }
        }
        self.core.journal_bytes.store(self.core.shelf.bytes(), Ordering::Relaxed);
    }
}
