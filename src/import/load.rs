//! The work, done: ordinary ops into an ordinary store, in a folder beside the data folder that takes its name when all
//! of it is on the disk.

use super::work::{Entry, Session, Work};
use crate::store::{Health, Sink, Store, StoreConfig, StoreError};
use nightjar_base::{SessionId, ShardId, Wall};
use nightjar_mqtt::Message;
use nightjar_shard::{Effect, Op, QueueLimits, Target};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// What is gathered before it is written.
const BATCH_OPS: usize = 1024;
const BATCH_BYTES: usize = 1 << 20;
/// Empty places that one op makes.
const PLACES: u64 = 4096;
/// How long a batch may take before the store is asked how it is.
const PATIENCE: Duration = Duration::from_secs(1);
/// The epochs of the two connections that a session seems to have had.
const FIRST: u64 = 1;
const LAST: u64 = 2;

/// Why the data was not stored.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The store does not open.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The store cannot write.
    #[error("the store cannot write: {0}")]
    Stalled(String),
    /// What is in the store is not what was to be there.
    #[error("the store does not hold what was written to it: {0}")]
    Differs(String),
}

/// Makes a store of `config` with all of `work` in it; `limits` hold for the queues from then on.
pub(super) fn load(config: StoreConfig, work: &Work, limits: QueueLimits, now: Wall) -> Result<(), LoadError> {
    let dropped = Arc::new(AtomicU64::new(0));
    let store = Store::open(config)?.start(Box::new(Ear(Arc::clone(&dropped))))?;
    let mut loader = Loader { store: store.clone(), ops: Vec::new(), bytes: 0, now, ids: Vec::new() };
    let done = loader.all(work, limits).and_then(|()| match dropped.load(Ordering::Relaxed) {
        0 => loader.check(work),
        lost => Err(LoadError::Differs(format!("{lost} messages found no place in their queues"))),
    });
    store.stop();
    done
}

/// Counts what is dropped: nothing may be.
struct Ear(Arc<AtomicU64>);

impl Sink for Ear {
    fn effects(&mut self, _: ShardId, effects: &mut Vec<Effect>) {
        let lost = effects.drain(..).filter(|effect| matches!(effect, Effect::Dropped { .. })).count();
        self.0.fetch_add(lost as u64, Ordering::Relaxed);
    }

    fn applied(&mut self, _: nightjar_base::Position) {}
}

struct Loader {
    store: Store,
    ops: Vec<(ShardId, Op)>,
    bytes: usize,
    now: Wall,
    /// Each session's shard and number.
    ids: Vec<(ShardId, SessionId)>,
}

impl Loader {
    fn all(&mut self, work: &Work, limits: QueueLimits) -> Result<(), LoadError> {
        for session in &work.sessions {
            // Without bounds at first: empty places count while they are being made.
            self.attach(session, FIRST, QueueLimits::UNLIMITED)?;
        }
        self.flush()?;
        for session in &work.sessions {
            let shard = self.store.shard_of(&session.client_id);
            let id = self.store.lock(shard).session_of(&session.client_id);
            let id = id.ok_or_else(|| LoadError::Differs("a session is missing".to_owned()))?;
            self.ids.push((shard, id));
        }
        for (at, session) in work.sessions.iter().enumerate() {
            let (shard, id) = self.ids[at];
            let subscriptions = session.subscriptions.clone();
            self.put(shard, Op::Subscribe { session: id, subscriptions, now: self.now }, 0)?;
        }
        for shard in 0..self.store.shard_count() {
            self.queues(ShardId(shard), &work.sessions)?;
        }
        for (at, session) in work.sessions.iter().enumerate() {
            self.leave(self.ids[at], session, limits)?;
        }
        for message in &work.retained {
            let op = Op::Retain { message: Arc::clone(message), now: self.now };
            self.put(self.store.shard_of(message.topic()), op, message.size())?;
        }
        self.flush()
    }

    fn attach(&mut self, session: &Session, epoch: u64, limits: QueueLimits) -> Result<(), LoadError> {
        let op = Op::Attach {
            client_id: Arc::clone(&session.client_id),
            user: session.user.clone(),
            clean_start: false,
            expiry: session.expiry,
            epoch,
            will: None,
            limits,
            now: self.now,
        };
        self.put(self.store.shard_of(&session.client_id), op, 0)
    }

    /// Fills the queues of one shard. A message for many sessions is one op, as when it was published: of the sessions
    /// whose next message has the lowest number, all take it together.
    fn queues(&mut self, shard: ShardId, sessions: &[Session]) -> Result<(), LoadError> {
        let mut heads: BTreeMap<u64, Vec<(usize, usize)>> = BTreeMap::new();
        for (at, session) in sessions.iter().enumerate().filter(|(at, _)| self.ids[*at].0 == shard) {
            if let Some(first) = session.entries.first() {
                heads.entry(first.number).or_default().push((at, 0));
            }
        }
        while let Some((_, together)) = heads.pop_first() {
            let mut targets: Vec<(Arc<Message>, Vec<Target>)> = Vec::new();
            for (at, position) in together {
                let entries = &sessions[at].entries;
                let entry = &entries[position];
                let before = position.checked_sub(1).map_or(1, |before| entries[before].sequence + 1);
                self.leave_empty(self.ids[at], before, entry.sequence)?;
                let target = target(self.ids[at].1, entry);
                match targets.iter_mut().find(|(message, _)| Arc::ptr_eq(message, &entry.message)) {
                    Some((_, same)) => same.push(target),
                    None => targets.push((Arc::clone(&entry.message), vec![target])),
                }
                if let Some(next) = entries.get(position + 1) {
                    heads.entry(next.number).or_default().push((at, position + 1));
                }
            }
            for (message, targets) in targets {
                let bytes = message.size() + 64 * targets.len();
                self.put(shard, Op::Enqueue { message, targets, now: self.now }, bytes)?;
            }
        }
        Ok(())
    }

    /// Passes over the places from `from` to `to`.
    fn leave_empty(&mut self, (shard, session): (ShardId, SessionId), from: u64, to: u64) -> Result<(), LoadError> {
        let mut from = from;
        while from < to {
            let until = to.min(from + PLACES);
            let nothing = Target {
                session,
                qos: nightjar_mqtt::QoS::AtMostOnce,
                retain: false,
                identifiers: Vec::new(),
                share: None,
            };
            let targets = vec![nothing; usize::try_from(until - from).unwrap_or(0)];
            let bytes = 32 * targets.len();
            self.put(
                shard,
                Op::Enqueue { message: Arc::new(Message::new("", &[], &[])), targets, now: self.now },
                bytes,
            )?;
            self.put(shard, Op::Acknowledge { session, sequences: (from..until).collect() }, bytes)?;
            from = until;
        }
        Ok(())
    }

    /// What is left to be said of a session, and the end of its connection.
    fn leave(
        &mut self,
        (shard, id): (ShardId, SessionId),
        session: &Session,
        limits: QueueLimits,
    ) -> Result<(), LoadError> {
        let received: Vec<u64> =
            session.entries.iter().filter(|entry| entry.received).map(|entry| entry.sequence).collect();
        if !received.is_empty() {
            self.put(shard, Op::Received { session: id, sequences: received }, 0)?;
        }
        for &packet_id in &session.inbound {
            self.put(shard, Op::InboundReceived { session: id, packet_id }, 0)?;
        }
        self.attach(session, LAST, limits)?;
        let (sent, now) = (session.sent, session.detached);
        self.put(shard, Op::Detach { session: id, epoch: LAST, expiry: None, discard_will: true, sent, now }, 0)
    }

    fn put(&mut self, shard: ShardId, op: Op, bytes: usize) -> Result<(), LoadError> {
        self.ops.push((shard, op));
        self.bytes += bytes;
        if self.ops.len() >= BATCH_OPS || self.bytes >= BATCH_BYTES { self.flush() } else { Ok(()) }
    }

    /// Writes what was gathered, and waits until it is on the disk.
    fn flush(&mut self) -> Result<(), LoadError> {
        self.bytes = 0;
        let position = self.store.submit(&mut self.ops, None);
        loop {
            if self.store.wait_blocking(position, PATIENCE) {
                return Ok(());
            }
            if let Health::Stalled { why, .. } | Health::Failed { why } = self.store.health() {
                return Err(LoadError::Stalled(why));
            }
        }
    }

    /// Whether all is there.
    fn check(&self, work: &Work) -> Result<(), LoadError> {
        for (session, &(shard, id)) in work.sessions.iter().zip(&self.ids) {
            let shard = self.store.lock(shard);
            let found = shard.session(id).ok_or_else(|| differs(session, "is missing"))?;
            let waiting = session.entries.iter().filter(|entry| !entry.received).count() as u64;
            let received: Vec<u64> = found.received().collect();
            let expected = session.entries.iter().filter(|entry| entry.received).map(|entry| entry.sequence);
            let next = session.entries.last().map_or(1, |last| last.sequence + 1);
            if found.queued() != waiting || found.next_sequence() != next || !expected.eq(received.iter().copied()) {
                return Err(differs(session, "has another queue"));
            }
            if found.subscription_count() != distinct(session) || found.inbound() != session.inbound {
                return Err(differs(session, "has other subscriptions or packet identifiers"));
            }
        }
        let retained: usize =
            (0..self.store.shard_count()).map(|shard| self.store.lock(ShardId(shard)).retained_count()).sum();
        if retained != work.retained.len() {
            return Err(LoadError::Differs(format!(
                "expected {} retained messages, found {retained}",
                work.retained.len()
            )));
        }
        Ok(())
    }
}

fn distinct(session: &Session) -> usize {
    let mut filters: Vec<&str> = session.subscriptions.iter().map(|of| &*of.filter).collect();
    filters.sort_unstable();
    filters.dedup();
    filters.len()
}

fn differs(session: &Session, how: &str) -> LoadError {
    LoadError::Differs(format!("the session of {} {how}", crate::telemetry::escape(&session.client_id)))
}

fn target(session: SessionId, entry: &Entry) -> Target {
    Target { session, qos: entry.qos, retain: entry.retain, identifiers: entry.identifiers.clone(), share: None }
}

#[cfg(test)]
mod tests;
