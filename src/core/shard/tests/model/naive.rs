//! The shard's rules once more, with nothing but plain collections: slow, and easy to believe.

use nightjar_base::{SessionId, Wall};
use nightjar_mqtt::{Message, QoS};
use nightjar_shard::{ALONE, BatchOutcome, NEVER, Op, Origin, Overflow, QueueLimits, Will};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

#[derive(Clone, Debug, PartialEq)]
pub struct NaiveEntry {
    pub message: Arc<Message>,
    pub qos: QoS,
    pub retain: bool,
    pub identifiers: Vec<u32>,
    pub share: Option<Arc<str>>,
}

#[derive(Clone, Debug)]
pub struct NaiveSession {
    pub client_id: Arc<str>,
    pub epoch: u64,
    pub attached: bool,
    pub home: u64,
    pub expiry: u32,
    pub expires: Option<Wall>,
    pub will: Option<Will>,
    pub will_due: Option<Wall>,
    pub sent: u64,
    pub limits: QueueLimits,
    /// Filter to replay state.
    pub subscriptions: BTreeMap<Arc<str>, Option<Option<Arc<str>>>>,
    pub next: u64,
    pub queue: BTreeMap<u64, NaiveEntry>,
    pub received: BTreeSet<u64>,
    pub inbound: BTreeSet<u16>,
}

/// A connection that comes.
struct Come {
    home: u64,
    client_id: Arc<str>,
    clean_start: bool,
    expiry: u32,
    epoch: u64,
    will: Option<Will>,
    limits: QueueLimits,
}

#[derive(Clone, Debug, Default)]
pub struct Naive {
    pub sessions: BTreeMap<u64, NaiveSession>,
    pub retained: BTreeMap<String, (Arc<Message>, u64)>,
    pub last_session: u64,
    /// The last sequence of each home.
    pub proposed: BTreeMap<u64, u64>,
    /// Homes that are gone, with the index at which they were declared so.
    pub gone: BTreeSet<(u64, u64)>,
    /// Digests, by origin and by what was taken.
    pub origins: BTreeMap<(Origin, char), u64>,
}

/// An entry of the log.
#[derive(Clone, Debug)]
pub struct Batch {
    pub home: u64,
    pub sequence: u64,
    pub ops: Vec<Op>,
}

/// Below 2048 a weight is exact, so the model's limits on bytes hold for small messages.
pub fn weight(entry: &NaiveEntry) -> u64 {
    let message = &entry.message;
    (64 + message.topic().len() + message.properties().len() + message.payload().len() + 4 * entry.identifiers.len())
        as u64
}

impl Naive {
    pub fn of_client(&self, client: &str) -> Option<u64> {
        self.sessions.iter().find(|(_, session)| &*session.client_id == client).map(|(&id, _)| id)
    }

    fn push(&mut self, id: SessionId, entry: NaiveEntry) {
        let Some(session) = self.sessions.get_mut(&id.0) else { return };
        let limits = session.limits;
        loop {
            let bytes: u64 = session.queue.values().map(weight).sum();
            if (session.queue.len() as u64) < limits.messages && bytes + weight(&entry) <= limits.bytes {
                break;
            }
            if limits.policy == Overflow::Refuse && limits.messages != 0 && weight(&entry) <= limits.bytes {
                break;
            }
            if limits.policy != Overflow::DropOldest || limits.messages == 0 || weight(&entry) > limits.bytes {
                return;
            }
            session.queue.pop_first();
        }
        session.queue.insert(session.next, entry);
        session.next += 1;
    }

    fn attach(&mut self, come: Come, now: Wall) {
        let Come { home, client_id, clean_start, expiry, epoch, will, limits } = come;
        if let Some(id) = self.of_client(&client_id) {
            let old = self.sessions.get_mut(&id).unwrap();
            let over = !old.attached && old.expires.is_some_and(|at| at <= now);
            let resumes = !clean_start && !over && old.expiry != 0;
            let owes = |will: &Will| !resumes || will.delay == 0 || old.will_due.is_some_and(|due| due <= now);
            if home != ALONE && old.will.as_ref().is_some_and(owes) {
                return;
            }
            if resumes {
                if old.attached && old.home != home {
                    old.sent = old.sent.max(old.next);
                }
                (old.home, old.epoch, old.expiry, old.will, old.limits) = (home, epoch, expiry, will, limits);
                (old.attached, old.expires, old.will_due) = (true, None, None);
                return;
            }
            self.sessions.remove(&id);
        }
        self.last_session += 1;
        let session = NaiveSession {
            client_id,
            epoch,
            attached: true,
            home,
            expiry,
            expires: None,
            will,
            will_due: None,
            sent: 0,
            limits,
            subscriptions: BTreeMap::new(),
            next: 1,
            queue: BTreeMap::new(),
            received: BTreeSet::new(),
            inbound: BTreeSet::new(),
        };
        self.sessions.insert(self.last_session, session);
    }

    fn detach(&mut self, id: u64, epoch: u64, sent: u64, now: Wall, last_words: impl FnOnce(&mut NaiveSession)) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        if !session.attached || session.epoch != epoch {
            return;
        }
        (session.attached, session.home) = (false, ALONE);
        session.sent = session.sent.max(sent);
        last_words(session);
        if session.expiry == 0 && session.will.is_none() {
            self.sessions.remove(&id);
            return;
        }
        let end = now.plus_seconds(session.expiry.into());
        session.expires = (session.expiry != NEVER).then_some(end);
        session.will_due = session.will.as_ref().map(|will| {
            let at = now.plus_seconds(will.delay.into());
            if session.expiry == NEVER { at } else { at.min(end) }
        });
    }

    pub fn apply_batch(&mut self, index: u64, batch: &Batch) -> BatchOutcome {
        let Batch { home, sequence, ref ops } = *batch;
        if self.gone.iter().any(|&(_, gone)| gone == home) {
            return BatchOutcome::Gone;
        }
        if home != ALONE {
            let expected = self.proposed.get(&home).copied().unwrap_or(0) + 1;
            if sequence > expected {
                return BatchOutcome::Gap { expected };
            }
            if sequence < expected {
                return BatchOutcome::Repeated;
            }
            self.proposed.insert(home, sequence);
        }
        ops.iter().for_each(|op| self.apply(index, op));
        BatchOutcome::Applied
    }

    pub fn apply(&mut self, index: u64, op: &Op) {
        match op.clone() {
            Op::Attach { client_id, user: _, clean_start, expiry, epoch, will, limits, now } => {
                let come = Come { home: ALONE, client_id, clean_start, expiry, epoch, will, limits };
                self.attach(come, now);
            }
            Op::AttachFrom { home, client_id, user: _, clean_start, expiry, epoch, will, limits, now } => {
                let will = will.map(|will| *will);
                self.attach(Come { home, client_id, clean_start, expiry, epoch, will, limits }, now);
            }
            Op::Detach { session, epoch, expiry, discard_will, sent, now } => {
                self.detach(session.0, epoch, sent, now, |session| {
                    session.expiry = expiry.unwrap_or(session.expiry);
                    if discard_will {
                        session.will = None;
                    }
                });
            }
            Op::DetachHome { home, now } => {
                for id in self.sessions.keys().copied().collect::<Vec<_>>() {
                    let session = &self.sessions[&id];
                    if session.attached && session.home == home {
                        self.detach(id, session.epoch, session.next, now, |_| ());
                    }
                }
                if home != ALONE && !self.gone.iter().any(|&(_, gone)| gone == home) {
                    self.proposed.remove(&home);
                    self.gone.insert((index, home));
                    if self.gone.len() > 1000 {
                        self.gone.pop_first();
                    }
                }
            }
            Op::EnqueueFrom { origin, digest, message, targets, variants, now } => {
                if self.origins.insert((origin, 'q'), digest) != Some(digest) {
                    self.apply(index, &Op::Enqueue { message, targets, now });
                    for (message, targets) in variants {
                        self.apply(index, &Op::Enqueue { message, targets, now });
                    }
                }
            }
            Op::RetainFrom { origin, digest, message, now } => {
                if self.origins.insert((origin, 'r'), digest) != Some(digest) {
                    self.apply(index, &Op::Retain { message, now });
                }
            }
            Op::ForgetOrigins { session, tokens } => self.origins.retain(|(origin, _), _| {
                origin.session != session || !tokens.is_empty() && !tokens.contains(&origin.token)
            }),
            Op::End { session } => {
                self.sessions.remove(&session.0);
            }
            Op::WillDone { session: id, epoch } => {
                let Some(session) = self.sessions.get_mut(&id.0).filter(|session| session.epoch == epoch) else {
                    return;
                };
                (session.will, session.will_due) = (None, None);
                if session.expiry == 0 && !session.attached {
                    self.sessions.remove(&id.0);
                }
            }
            Op::Subscribe { session, subscriptions, .. } => {
                let Some(session) = self.sessions.get_mut(&session.0) else { return };
                for new in subscriptions {
                    let replay = session.subscriptions.entry(new.filter).or_default();
                    if new.replay {
                        *replay = Some(None);
                    }
                }
            }
            Op::Unsubscribe { session, filters } => {
                let Some(session) = self.sessions.get_mut(&session.0) else { return };
                for filter in filters {
                    session.subscriptions.remove(&filter);
                }
            }
            Op::Enqueue { message, targets, .. } => {
                for target in targets {
                    let entry = NaiveEntry {
                        message: message.clone(),
                        qos: target.qos,
                        retain: target.retain,
                        identifiers: target.identifiers,
                        share: target.share,
                    };
                    self.push(target.session, entry);
                }
            }
            Op::Acknowledge { session, sequences } => {
                let Some(session) = self.sessions.get_mut(&session.0) else { return };
                for sequence in sequences {
                    session.queue.remove(&sequence);
                    session.received.remove(&sequence);
                }
            }
            Op::Received { session, sequences } => {
                let Some(session) = self.sessions.get_mut(&session.0) else { return };
                for sequence in sequences {
                    session.queue.remove(&sequence);
                    if sequence < session.next {
                        session.received.insert(sequence);
                    }
                }
            }
            Op::InboundReceived { session, packet_id } => {
                let Some(session) = self.sessions.get_mut(&session.0) else { return };
                session.inbound.insert(packet_id);
            }
            Op::InboundReleased { session, packet_id } => {
                let Some(session) = self.sessions.get_mut(&session.0) else { return };
                session.inbound.remove(&packet_id);
            }
            Op::Retain { message, .. } => {
                if message.payload().is_empty() {
                    self.retained.remove(message.topic());
                } else {
                    self.retained.insert(message.topic().to_owned(), (message, index));
                }
            }
            Op::Forget { topic, index } => {
                if self.retained.get(&*topic).is_some_and(|&(_, at)| at == index) {
                    self.retained.remove(&*topic);
                }
            }
            Op::Replay { session: id, filter, entries, after } => {
                let Some(session) = self.sessions.get_mut(&id.0) else { return };
                let Some(replay) = session.subscriptions.get_mut(&filter).filter(|replay| replay.is_some()) else {
                    return;
                };
                *replay = after.map(Some);
                for new in entries {
                    let (message, qos, identifiers) = (new.message, new.qos, new.identifiers);
                    self.push(id, NaiveEntry { message, qos, retain: true, identifiers, share: None });
                }
            }
            Op::Expire { session, now } => {
                let over = |session: &NaiveSession| !session.attached && session.expires.is_some_and(|at| at <= now);
                if self.sessions.get(&session.0).is_some_and(over) {
                    self.sessions.remove(&session.0);
                }
            }
        }
    }
}
