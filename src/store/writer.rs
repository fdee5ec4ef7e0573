//! The journal's thread: group commit.
//!
//! While one batch is being synced the next gathers; a batch is one record, written and synced at once, then applied,
//! and only then is anything of it seen by anyone.

use super::codec::encode_ops;
use super::config::Durability;
use super::core::{Core, LogJob, PartJob, Queue, Submission};
use super::journal::{AppendError, Journal};
use super::log_writer::Jobs;
use super::record::{Kind, RecordBuilder};
use super::stats::Counters;
use super::{Sink, Waiter};
use nightjar_base::{Position, ShardId, Tick};
use nightjar_shard::{Effect, Op};
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// A record is closed when it holds about this much; a submission is never split.
pub(crate) const RECORD_BYTES: usize = 1 << 20;
/// The only term that a node alone has.
pub(crate) const TERM: u64 = 1;
const RETRY: Duration = Duration::from_millis(200);

pub(crate) struct Writer {
    core: Arc<Core>,
    sink: Box<dyn Sink>,
    /// None with `durability = "memory"`.
    journal: Option<Journal>,
    builder: RecordBuilder,
    taken: Taken,
    /// By shard: the index of its newest entry.
    indexes: Vec<u64>,
    /// By shard: its ops of the batch at hand.
    buckets: Vec<Vec<Op>>,
    /// The shards of the batch at hand, and the indexes of their entries.
    touched: Vec<(ShardId, u64)>,
    waiters: Vec<(Arc<dyn Waiter>, Position)>,
    jobs: Jobs,
    effects: Vec<Effect>,
    position: u64,
    last_sync: Tick,
}

/// What was taken from the queue and is not yet written.
#[derive(Default)]
struct Taken {
    ops: VecDeque<(ShardId, Op)>,
    submissions: VecDeque<Submission>,
    parts: VecDeque<PartJob>,
    jobs: VecDeque<LogJob>,
    /// When the oldest submission came.
    since: u64,
}

impl Taken {
    fn is_empty(&self) -> bool {
        self.submissions.is_empty() && self.parts.is_empty() && self.jobs.is_empty()
    }
}

/// Why the thread ends.
enum Stop {
    Asked,
    Broken(String),
}

impl Writer {
    pub(crate) fn new(core: Arc<Core>, sink: Box<dyn Sink>, journal: Option<Journal>) -> Self {
        let indexes: Vec<u64> = core.shards.iter().map(|shard| shard.lock().applied()).collect();
        Self {
            sink,
            journal,
            builder: RecordBuilder::default(),
            taken: Taken::default(),
            buckets: indexes.iter().map(|_| Vec::new()).collect(),
            indexes,
            touched: Vec::new(),
            waiters: Vec::new(),
            jobs: Jobs::default(),
            effects: Vec::new(),
            position: 0,
            last_sync: core.config.clock.tick(),
            core,
        }
    }

    /// The thread.
    pub(crate) fn run(mut self) {
        let stop = catch_unwind(AssertUnwindSafe(|| self.serve()));
        {
            let mut queue = self.core.queue.lock();
            queue.closed = true;
            queue.parts.clear();
            queue.jobs.clear();
        }
        self.taken.parts.clear();
        self.taken.jobs.clear();
        match stop {
            Ok(Stop::Asked) => {}
            Ok(Stop::Broken(why)) => self.core.fail(&why),
            Err(_) => self.core.fail("the journal's thread panicked"),
        }
    }

    fn serve(&mut self) -> Stop {
        loop {
            if !self.take() {
                return match self.sync() {
                    Ok(()) => Stop::Asked,
                    Err(stop) => stop,
                };
            }
            while !self.taken.is_empty() {
                if let Err(stop) = self.batch() {
                    return stop;
                }
            }
            if let Err(stop) = self.sync_in_time() {
                return stop;
            }
        }
    }

    /// Takes what has gathered; sleeps if there is nothing. False: there will be nothing more.
    fn take(&mut self) -> bool {
        let core = Arc::clone(&self.core);
        let mut queue = core.queue.lock();
        // In a cluster what was submitted goes to the groups, and comes back as entries of their logs.
        let replicated = core.replicated.get().is_some();
        while (replicated || queue.submissions.is_empty()) && queue.parts.is_empty() && queue.jobs.is_empty() {
            if queue.stop {
                return false;
            }
            queue.asleep = true;
            match self.until_sync() {
                None => core.wake.wait(&mut queue),
                Some(rest) => {
                    if core.wake.wait_for(&mut queue, rest).timed_out() {
                        queue.asleep = false;
                        return true;
                    }
                }
            }
            queue.asleep = false;
        }
        let Queue { ops, submissions, parts, jobs, since, .. } = &mut *queue;
        self.taken.since = *since;
        std::mem::swap(parts, &mut self.taken.parts);
        std::mem::swap(jobs, &mut self.taken.jobs);
        if !replicated {
            std::mem::swap(ops, &mut self.taken.ops);
            std::mem::swap(submissions, &mut self.taken.submissions);
        }
        true
    }

    /// Writes, syncs and applies one record's worth of what was taken.
    fn batch(&mut self) -> Result<(), Stop> {
        let submitted = !self.taken.submissions.is_empty();
        let (bytes, ops) = self.gather();
        let part = if self.journal.is_some() { self.taken.parts.pop_front() } else { None };
        self.encode(part.as_ref());
        let must_sync = self.jobs.encode(&mut self.taken.jobs, &mut self.builder, &mut self.touched);
        if !self.builder.is_empty() {
            self.write(part.is_some() || must_sync)?;
        }
        self.jobs.report();
        if self.core.replicated.get().is_some() {
            self.finish_part(part);
            return Ok(());
        }
        self.apply();
        self.core.applied.store(self.position, Ordering::Release);
        self.core.pending.fetch_sub(bytes, Ordering::Relaxed);
        self.finish_part(part);
        for (waiter, position) in self.waiters.drain(..) {
            waiter.durable(position);
        }
        self.sink.applied(Position(self.position));
        if submitted {
            let waited = self.core.config.clock.micros().saturating_sub(self.taken.since);
            self.core.counters.ack_times.note(waited);
        }
        Counters::add(&self.core.counters.batches, 1);
        Counters::add(&self.core.counters.ops, ops);
        Ok(())
    }

    fn finish_part(&self, part: Option<PartJob>) {
        if let Some(part) = part {
            // The checkpoint's thread may have given up waiting.
            let _ = part.done.try_send(());
        }
        if self.core.wants_checkpoint() {
            self.core.ask_checkpoint();
        }
    }

    /// Moves whole submissions into the shards' buckets until a record is full.
    fn gather(&mut self) -> (usize, u64) {
        let (mut bytes, mut count) = (0, 0);
        self.touched.clear();
        while let Some(submission) = self.taken.submissions.pop_front() {
            self.position += 1;
            bytes += submission.bytes;
            count += submission.ops as u64;
            for (shard, op) in self.taken.ops.drain(..submission.ops) {
                let bucket = &mut self.buckets[usize::from(shard.0)];
                if bucket.is_empty() {
                    let index = &mut self.indexes[usize::from(shard.0)];
                    *index += 1;
                    self.touched.push((shard, *index));
                }
                bucket.push(op);
            }
            if let Some(waiter) = submission.waiter {
                self.waiters.push((waiter, Position(self.position)));
            }
            if bytes >= RECORD_BYTES {
                break;
            }
        }
        (bytes, count)
    }

    fn encode(&mut self, part: Option<&PartJob>) {
        self.builder.begin();
        if self.journal.is_none() {
            return;
        }
        for &(shard, index) in &self.touched {
            let ops = &self.buckets[usize::from(shard.0)];
            self.builder.entry(shard, Kind::Ops, index, TERM, |out| encode_ops(ops, out));
        }
        if let Some(part) = part {
            let write = |out: &mut Vec<u8>| out.extend_from_slice(&part.payload);
            self.builder.entry(part.shard, Kind::Checkpoint, part.index, TERM, write);
            self.touched.push((part.shard, part.index));
        }
    }

    /// Appends the record, waiting for space if the disk is full, and syncs it if that is promised.
    fn write(&mut self, must_sync: bool) -> Result<(), Stop> {
        let Some(journal) = &mut self.journal else { return Ok(()) };
        let begun = self.core.config.clock.micros();
        let mut small = false;
        let place = loop {
            match self.jobs.append(&self.core, journal, &mut self.builder, &self.touched, small) {
                Ok(place) => break place,
                Err(AppendError::Broken(error)) => return Err(broken(&error)),
                Err(AppendError::Full(error)) => {
                    if !self.core.spares.give_up() {
                        self.core.health.stall(error.to_string(), self.core.config.clock.tick());
                        // A stop waits for the checkpoint's thread, which may be waiting for this very record.
                        if self.core.stopping.load(Ordering::Relaxed) || self.core.signal.lock().stop {
                            return Err(Stop::Asked);
                        }
                        std::thread::sleep(RETRY);
                    }
                    small = true;
                }
            }
        };
        self.jobs.placed(&self.core, place);
        self.core.health.recover(&self.core.config.clock);
        Counters::add(&self.core.counters.bytes, self.builder.len() as u64);
        self.core.journal_bytes.store(self.core.shelf.bytes(), Ordering::Relaxed);
        if must_sync || self.core.config.durability == Durability::Sync {
            self.sync()?;
            let took = self.core.config.clock.micros().saturating_sub(begun);
            self.core.counters.last_sync_millis.store(took / 1000, Ordering::Relaxed);
            self.core.counters.sync_times.note(took);
        }
        Ok(())
    }

    fn sync(&mut self) -> Result<(), Stop> {
        if let Some(journal) = &mut self.journal
            && !journal.is_synced()
        {
            journal.sync().map_err(|error| match error {
                AppendError::Full(error) | AppendError::Broken(error) => broken(&error),
            })?;
            Counters::add(&self.core.counters.syncs, 1);
            self.last_sync = self.core.config.clock.tick();
        }
        Ok(())
    }

    /// With `durability = "interval"`: how long what was written may wait for its sync.
    fn until_sync(&self) -> Option<Duration> {
        let Durability::Interval(interval) = self.core.config.durability else { return None };
        let journal = self.journal.as_ref()?;
        (!journal.is_synced()).then(|| {
            let passed = self.core.config.clock.tick().since(self.last_sync);
            interval.saturating_sub(Duration::from_millis(passed))
        })
    }

    fn sync_in_time(&mut self) -> Result<(), Stop> {
        if self.until_sync().is_some_and(|rest| rest.is_zero()) { self.sync() } else { Ok(()) }
    }

    fn apply(&mut self) {
        for &(id, index) in &self.touched {
            let bucket = &mut self.buckets[usize::from(id.0)];
            if bucket.is_empty() {
                continue;
            }
            {
                let mut shard = self.core.shards[usize::from(id.0)].lock();
                for op in bucket.drain(..) {
                    shard.apply(index, op, &mut self.effects);
                }
                self.core.note_overlay(usize::from(id.0), &*shard);
            }
            self.sink.effects(id, &mut self.effects);
            self.effects.clear();
        }
    }
}

fn broken(error: &std::io::Error) -> Stop {
    Stop::Broken(format!("the journal could not be written: {error}"))
}
