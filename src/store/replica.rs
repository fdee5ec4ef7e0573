//! The store as the groups of a cluster use it: their logs in the journal, and their states, to which only what they have
//! agreed on is applied.
//!
//! ```text
//! submit ─► Proposals ─► (the groups) ─► GroupLog::append ─► journal, synced ─► (agreed) ─► Applier ─► state, Sink
//!                                                                                            └─► Proposals::complete
//! ```

use super::codec;
use super::core::{Core, Done, LogJob, LogWrite, State, Submission};
use super::engine::Stand;
use super::log::{LogEntry, LogState, Point};
use super::snapshot::{self, Incoming, Piece};
use super::stats::Counters;
use super::{Sink, Store, Waiter};
use bytes::Bytes;
use nightjar_base::{Position, ShardId};
use nightjar_shard::{Effect, Op};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// The log of one group. What is told here is in force at once; it is on disk when `done` is called, on the journal's
/// thread. If the journal fails, the process ends.
#[derive(Clone)]
pub struct GroupLog {
    core: Arc<Core>,
    group: ShardId,
}

impl GroupLog {
    pub(crate) fn new(core: Arc<Core>, group: ShardId) -> Self {
        Self { core, group }
    }

    fn log(&self) -> parking_lot::MutexGuard<'_, super::log::Log> {
        let replicated = self.core.replicated.get().expect("made only for a store that is replicated");
        replicated.logs[usize::from(self.group.0)].lock()
    }

    fn push(&self, what: LogWrite, done: Option<Done>) -> io::Result<()> {
        let job = LogJob { group: self.group, what, done };
        if self.core.push_job(job) { Ok(()) } else { Err(io::Error::other("the store has stopped")) }
    }

    /// Where the log begins and ends, and the last vote.
    #[must_use]
    pub fn state(&self) -> LogState {
        self.log().state()
    }

    /// Appends entries, of which the first follows the last one that is there.
    ///
    /// # Errors
    /// When one does not follow, or the store has stopped.
    pub fn append(&self, entries: Vec<LogEntry>, done: Done) -> io::Result<()> {
        // The lock is held until the job is in line, so that jobs are in the order of the log.
        let mut log = self.log();
        for entry in &entries {
            if !log.push(entry, None) {
                let (at, last) = (entry.point.index, log.last().index);
                return Err(io::Error::other(format!("group {}: entry {at} does not follow {last}", self.group)));
            }
        }
        self.push(LogWrite::Append(entries), Some(done))
    }

    /// Takes back what is behind `index`.
    ///
    /// # Errors
    /// When the store has stopped.
    pub fn truncate(&self, index: u64, done: Done) -> io::Result<()> {
        let mut log = self.log();
        log.truncate(index);
        self.push(LogWrite::Truncate(index), Some(done))
    }

    /// Remembers the vote.
    ///
    /// # Errors
    /// When the store has stopped.
    pub fn save_vote(&self, vote: Bytes, done: Done) -> io::Result<()> {
        let mut log = self.log();
        log.set_vote(vote.clone());
        self.push(LogWrite::Vote(vote), Some(done))
    }

    /// Nobody asks for what is up to `point` any more.
    ///
    /// # Errors
    /// When the store has stopped.
    pub fn purge(&self, point: Point) -> io::Result<()> {
        let note = note_purged(&self.core, self.group, point);
        let mut log = self.log();
        log.purge(point);
        self.push(LogWrite::Purge(point), Some(note))
    }

    /// Entries of `from <= index < to`: at least one, and no more than `most` bytes of them if they are several.
    ///
    /// # Errors
    /// When one is not there, or cannot be read.
    pub fn read(&self, from: u64, to: u64, most: usize) -> io::Result<Vec<LogEntry>> {
        self.log().read(&*self.core.files, from, to, most)
    }

    /// The term of the entry at `index`, if it is known.
    #[must_use]
    pub fn term_at(&self, index: u64) -> Option<u64> {
        self.log().term_at(index)
    }

    /// Up to where the state is in the tables, so that the log could begin there.
    #[must_use]
    pub fn checkpointed(&self) -> u64 {
        self.core.checkpointed[usize::from(self.group.0)].load(Ordering::Acquire)
    }
}

/// Notes, when it is on disk, that a log was purged: only then may segments go that hold what it had.
fn note_purged(core: &Arc<Core>, group: ShardId, point: Point) -> Done {
    let core = Arc::downgrade(core);
    Box::new(move || {
        let Some(core) = core.upgrade() else { return };
        if let Some(replicated) = core.replicated.get() {
            replicated.logs[usize::from(group.0)].lock().note_purged(point.index);
        }
    })
}

/// Where a group's state stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// What was applied last.
    pub point: Point,
    /// The group's members as of then, as whoever runs the group encodes them.
    pub members: Bytes,
}

/// What of a batch was done.
pub use nightjar_shard::BatchOutcome as Applied;

/// Applies what the groups have agreed on. There is one, and it belongs to the thread that runs the groups.
pub struct Applier {
    core: Arc<Core>,
    sink: Box<dyn Sink>,
    effects: Vec<Effect>,
}

impl Applier {
    pub(crate) fn new(core: Arc<Core>, sink: Box<dyn Sink>) -> Self {
        Self { core, sink, effects: Vec::new() }
    }

    /// Applies an entry of a shard's group. `each` is told what became of each batch in it.
    ///
    /// # Errors
    /// When the entry is not what [`encode_batch`](Store::encode_batch) made: then nothing of it was applied.
    pub fn batches(
        &mut self,
        shard: ShardId,
        entry: &LogEntry,
        mut each: impl FnMut(Batch, Applied),
    ) -> io::Result<()> {
        let invalid = |error: bincode::Error| io::Error::new(io::ErrorKind::InvalidData, error);
        let batches = codec::decode_batches(&entry.payload).map_err(invalid)?;
        let at = usize::from(shard.0);
        {
            let mut state = self.core.shards[at].lock();
            // An entry may have no batches, and counts all the same.
            state.note_index(entry.point.index);
            for (batch, ops) in batches {
                Counters::add(&self.core.counters.ops, ops.len() as u64);
                let Batch { home, sequence } = batch;
                let outcome = state.apply_batch(entry.point.index, home, sequence, ops, &mut self.effects);
                each(batch, outcome);
            }
            self.core.stands[at].lock().point = entry.point;
            self.core.note_overlay(at, &*state);
        }
        self.sink.effects(shard, &mut self.effects);
        self.effects.clear();
        Counters::add(&self.core.counters.batches, 1);
        Ok(())
    }

    /// Notes an entry that does nothing to the state; with `members`, these are the group's from then on.
    pub fn note(&mut self, group: ShardId, point: Point, members: Option<Bytes>) {
        self.core.with_state(usize::from(group.0), |state, stand| {
            state.note_index(point.index);
            stand.point = point;
            if let Some(members) = members {
                stand.members = members;
            }
        });
    }

    /// Has `work` apply the entry at `point` to `control`, which is the control group's state. A checkpoint finds both the
    /// state and where it stands before that, or behind.
    pub fn control<C: State>(&mut self, control: &Mutex<C>, point: Point, work: impl FnOnce(&mut C)) {
        let at = self.core.shards.len();
        let mut state = control.lock();
        work(&mut state);
        self.core.stands[at].lock().point = point;
        self.core.note_overlay(at, &*state);
    }

    /// Everything that was applied in this turn can be seen: once a turn.
    pub fn end_turn(&mut self) {
        self.sink.applied(Position(self.core.applied.load(Ordering::Acquire)));
        if self.core.wants_checkpoint() {
            self.core.ask_checkpoint();
        }
    }
}

/// A snapshot that is being received.
pub struct Received {
    core: Arc<Core>,
    group: ShardId,
    incoming: Incoming,
    point: Point,
}

impl Received {
    /// Takes the next piece.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn piece(&mut self, piece: &[u8]) -> io::Result<()> {
        self.incoming.write(piece)
    }

    /// Puts the snapshot, which is whole, in the place of the group's state, and the group's log behind it. Blocks for as
    /// long as that takes; the applier is locked only for moments, and must apply nothing of this group meanwhile.
    ///
    /// # Errors
    /// When the snapshot is damaged, or the store cannot be written: that is told as fatal, too.
    pub fn install(self, applier: &Mutex<Applier>) -> io::Result<Standing> {
        let Self { core, group, incoming, point } = self;
        let at = usize::from(group.0);
        let is_shard = at < core.shards.len();
        let install = incoming.end(&*core.files, point)?;
        write_install(&core, group, install.clone())?;
        while !core.begin_writing(at) {
            std::thread::sleep(PAUSE);
        }
        if is_shard {
            applier.lock().sink.replacing(group);
        }
        // Nobody reads the tables through a state that they do not belong to.
        core.with_state(at, |state, _| state.clear());
        let finished = snapshot::finish(&*core.files, &*core.engine, group, &install).map_err(io::Error::other);
        let standing = finished.and_then(|()| reload(&core, group)).inspect_err(|error| {
            // The journal says that it is there: the next start puts it in place, or says what is wrong.
            core.fail(&format!("a snapshot of group {group} cannot be put in place: {error}"));
        })?;
        core.end_writing(at);
        // The next one would write over it.
        let _ = core.files.remove(install.file());
        if is_shard {
            applier.lock().sink.replaced(group);
        }
        Ok(standing)
    }
}

/// How long to wait for a checkpoint that is writing the rows.
const PAUSE: Duration = Duration::from_millis(1);

fn write_install(core: &Arc<Core>, group: ShardId, install: snapshot::Install) -> io::Result<()> {
    let replicated = core.replicated.get().expect("snapshots are received only for a store that is replicated");
    let (sender, receiver) = std::sync::mpsc::sync_channel(1);
    let note = note_purged(core, group, install.point());
    let done: Done = Box::new(move || {
        note();
        let _ = sender.send(());
    });
    {
        let mut log = replicated.logs[usize::from(group.0)].lock();
        log.purge(install.point());
        log.truncate(install.point().index);
        core.push_job(LogJob { group, what: LogWrite::Install(install), done: Some(done) });
    }
    receiver.recv().map_err(|_| io::Error::other("the store has stopped"))
}

fn reload(core: &Core, group: ShardId) -> io::Result<Standing> {
    let (at, engine) = (usize::from(group.0), &*core.engine);
    let stand = Stand::read(engine, group).map_err(io::Error::other)?;
    core.with_state(at, |state, now| {
        state.reload(engine).map_err(io::Error::other)?;
        *now = stand.clone();
        core.note_overlay(at, state);
        Ok::<_, io::Error>(())
    })?;
    core.checkpointed[at].store(stand.point.index, Ordering::Release);
    Ok(Standing { point: stand.point, members: stand.members })
}

/// A snapshot that is being sent: the group's rows in the tables, which stay as they are meanwhile.
pub struct Outgoing {
    core: Arc<Core>,
    group: ShardId,
    stand: Stand,
    after: Vec<u8>,
    ended: bool,
}

impl Outgoing {
    /// What the snapshot is that of.
    #[must_use]
    pub fn standing(&self) -> Standing {
        Standing { point: self.stand.point, members: self.stand.members.clone() }
    }

    /// The next piece; `None` behind the last. Reads the disk.
    ///
    /// # Errors
    /// When the tables cannot be read.
    pub fn piece(&mut self) -> io::Result<Option<Vec<u8>>> {
        if self.ended {
            return Ok(None);
        }
        let Piece { rows, last } =
            snapshot::piece(&*self.core.engine, self.group, &self.after).map_err(io::Error::other)?;
        if rows.is_empty() {
            self.ended = true;
            return Ok(Some(snapshot::last_piece(self.group, &self.stand)));
        }
        self.after = last;
        Ok(Some(rows))
    }
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        self.core.end_reading(usize::from(self.group.0));
    }
}

/// Which batch of whose: those of one home, for one shard, are numbered from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batch {
    /// The process that proposed it.
    pub home: u64,
    /// Its number.
    pub sequence: u64,
}

/// What was submitted and has to be agreed on. There is one, and whoever has it sees to it that all of it is.
pub struct Proposals {
    core: Arc<Core>,
    waiting: VecDeque<(usize, Option<Arc<dyn Waiter>>)>,
}

impl Proposals {
    pub(crate) fn new(core: Arc<Core>) -> Self {
        Self { core, waiting: VecDeque::new() }
    }

    /// Takes what was submitted since: the number of ops of each submission goes to `counts`, the ops to `ops`. Returns
    /// the position of the last of them.
    pub fn take(&mut self, counts: &mut Vec<usize>, ops: &mut VecDeque<(ShardId, Op)>) -> Position {
        let mut queue = self.core.queue.lock();
        queue.all_taken = true;
        ops.append(&mut queue.ops);
        for Submission { ops, bytes, waiter } in queue.submissions.drain(..) {
            counts.push(ops);
            self.waiting.push_back((bytes, waiter));
        }
        Position(queue.submitted)
    }

    /// All submissions up to `position` are applied here: their waiters are told.
    pub fn complete(&mut self, position: Position) {
        let before = self.core.applied.load(Ordering::Acquire);
        self.core.applied.store(position.0, Ordering::Release);
        for number in before + 1..=position.0 {
            let Some((bytes, waiter)) = self.waiting.pop_front() else { return };
            self.core.pending.fetch_sub(bytes, Ordering::Relaxed);
            if let Some(waiter) = waiter {
                waiter.durable(Position(number));
            }
        }
    }
}

impl Store {
    /// The log of `group`, which is a shard's or, with the number behind the last shard, the control group's.
    #[must_use]
    pub fn group_log(&self, group: ShardId) -> GroupLog {
        GroupLog::new(Arc::clone(&self.core), group)
    }

    /// Begins to send the state of `group` as the tables have it; `None` while a checkpoint is writing it.
    #[must_use]
    pub fn send_snapshot(&self, group: ShardId) -> Option<Outgoing> {
        if !self.core.begin_reading(usize::from(group.0)) {
            return None;
        }
        let core = Arc::clone(&self.core);
        let outgoing = |stand| Outgoing { core, group, stand, after: Vec::new(), ended: false };
        match Stand::read(&*self.core.engine, group) {
            Ok(stand) => Some(outgoing(stand)),
            Err(error) => {
                tracing::error!(%error, group = group.0, "no snapshot can be sent");
                self.core.end_reading(usize::from(group.0));
                None
            }
        }
    }

    /// Begins to receive the state of `group` as of `point`.
    ///
    /// # Errors
    /// When the file for it cannot be made.
    pub fn receive_snapshot(&self, group: ShardId, point: Point) -> io::Result<Received> {
        let core = Arc::clone(&self.core);
        Ok(Received { core, group, incoming: Incoming::begin(&*self.core.files, group)?, point })
    }

    /// Where the state of `group` stands.
    #[must_use]
    pub fn standing(&self, group: ShardId) -> Standing {
        let Stand { point, members } = self.core.stands[usize::from(group.0)].lock().clone();
        Standing { point, members }
    }

    /// How many batches of `home` were applied to the shard of this group; 0 if it is no shard's.
    #[must_use]
    pub fn proposed(&self, group: ShardId, home: u64) -> u64 {
        self.core.shards.get(usize::from(group.0)).map_or(0, |shard| shard.lock().proposed(home))
    }

    /// The ops of an entry that [`encode_batch`](Self::encode_batch) has made in this process; none of any other.
    #[must_use]
    pub fn decode_batch(entry: &Bytes) -> Vec<Op> {
        let batches = codec::decode_batches(entry).unwrap_or_default();
        batches.into_iter().flat_map(|(_, ops)| ops).collect()
    }

    /// Appends a batch of ops to an entry of a shard's log.
    pub fn encode_batch(batch: Batch, ops: &[Op], out: &mut Vec<u8>) {
        codec::encode_batch(batch, ops, out);
    }
}
