//! The checkpoint's thread: the net result of a shard's overlay goes into the tables, and old journal goes.
//!
//! ```text
//! shard locked: freeze ──► checkpoint record, synced ──► tables, chunk by chunk, each synced ──► shard locked: thaw
//! ```
//! A crash after the record is finished by the recovery; a crash before it leaves tables that nothing has touched. A
//! segment goes when every shard has passed it at its checkpoint *before* the last.

use super::core::{Core, PartJob};
use super::engine::{EngineError, Stand, chunks};
use super::record::encode_parts;
use super::segment;
use super::stats::Counters;
use nightjar_base::ShardId;
use nightjar_shard::{Change, TablesError};
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
    /// By group: the index at which it was checkpointed the time before the last.
    previous: Vec<u64>,
}

/// The round cannot go on: the store stops or the journal is gone.
struct GivenUp;

impl Checkpointer {
    pub(crate) fn new(core: Arc<Core>) -> Self {
        let previous = vec![0; core.checkpointed.len()];
        Self { core, previous }
    }

    fn last(&self, group: usize) -> u64 {
        self.core.checkpointed[group].load(Ordering::Acquire)
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
        for group in 0..self.core.groups() {
            let applied = self.core.with_state(group, |state, _| state.applied());
            if applied <= self.last(group) {
                // An idle group pins no segment: what it has is in the tables since the round before.
                self.previous[group] = self.last(group);
            } else if self.core.begin_writing(group) {
                let done = self.group(group);
                self.core.end_writing(group);
                done?;
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

    fn group(&mut self, number: usize) -> Result<(), GivenUp> {
        let id = ShardId(u16::try_from(number).expect("there are at most 1025 groups"));
        let (stand, changes) = self.freeze(number)?;
        let stands = [stand.change(id)];
        if !self.core.is_memory() {
            // A node alone leaves out the row that follows from the index.
            let ends: &[Change] = if stand.members.is_empty() { &[] } else { &stands };
            self.record(id, stand.point.index, &changes, ends)?;
        }
        self.fill(&changes, &stands)?;
        self.core.with_state(number, |state, _| {
            state.thaw();
            self.core.note_overlay(number, state);
        });
        self.previous[number] = self.last(number);
        self.core.checkpointed[number].store(stand.point.index, Ordering::Release);
        Counters::add(&self.core.counters.checkpoints, 1);
        Counters::add(&self.core.counters.rows, changes.len() as u64);
        Ok(())
    }

    fn freeze(&self, number: usize) -> Result<(Stand, Arc<Vec<Change>>), GivenUp> {
        let replicated = self.core.replicated.get().is_some();
        let mut pause = FIRST_RETRY;
        loop {
            let frozen = self.core.with_state(number, |state, stand| {
                let stand = if replicated { stand.clone() } else { Stand::alone(state.applied()) };
                let changes = state.freeze(&*self.core.engine)?;
                self.core.note_overlay(number, state);
                Ok::<_, TablesError>((stand, changes))
            });
            match frozen {
                Ok(frozen) => return Ok(frozen),
                Err(error) => self.overcome(&error.to_string(), &mut pause)?,
            }
        }
    }

    /// Puts the changes into the journal.
    fn record(&self, shard: ShardId, index: u64, changes: &[Change], ends: &[Change]) -> Result<(), GivenUp> {
        let base = self.last(usize::from(shard.0));
        let payloads = encode_parts(base, changes.iter().chain(ends), PART_BYTES);
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
    fn fill(&self, changes: &[Change], last: &[Change]) -> Result<(), GivenUp> {
        let mut pause = FIRST_RETRY;
        loop {
            let written = chunks(changes).chain([last]).try_for_each(|chunk| self.core.engine.write(chunk));
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

    /// By group: up to where nothing needs the journal any more. What a log holds can be asked for by a follower.
    fn passed(&self) -> Vec<u64> {
        let Some(replicated) = self.core.replicated.get() else { return self.previous.clone() };
        let purged = replicated.logs.iter().map(|log| log.lock().surely_purged());
        self.previous.iter().zip(purged).map(|(previous, purged)| purged.min(*previous)).collect()
    }

    fn trim(&self) {
        while let Some(old) = self.core.shelf.take_passed(&self.passed()) {
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
