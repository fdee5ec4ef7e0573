//! Applying ops. Nothing here reads the tables or depends on when a freeze happened.

use crate::attach::Attachment;
use crate::deadlines::Deadline;
use crate::effect::{DropReason, Effect, Entry};
use crate::op::{ALONE, Op, Overflow, Replayed, Subscription, Target};
use crate::origins::Taken;
use crate::queue::{Queue, Weight};
use crate::session::{Cursor, Session, Subscribed};
use crate::shard::{Shard, Totals};
use nightjar_base::{SessionId, Wall};
use nightjar_mqtt::{Message, QoS};
use std::sync::Arc;

/// A message on its way into one queue.
struct Delivery {
    message: Arc<Message>,
    qos: QoS,
    retain: bool,
    identifiers: Vec<u32>,
    share: Option<Arc<str>>,
}

impl Shard {
    /// Applies one op of the batch `index`; the ops of one batch share it, and nothing may be frozen between them.
    ///
    /// Never fails: an op for a session or an epoch that is not there any more does nothing.
    pub fn apply(&mut self, index: u64, op: Op, effects: &mut Vec<Effect>) {
        self.applied = index;
        match op {
            Op::Enqueue { message, targets, now: _ } => self.enqueue(&message, targets, effects),
            Op::Acknowledge { session, sequences } => self.acknowledge(session, &sequences),
            Op::Received { session, sequences } => self.received(session, &sequences, effects),
            Op::InboundReceived { session, packet_id } => self.inbound_received(session, packet_id),
            Op::InboundReleased { session, packet_id } => self.inbound_released(session, packet_id, effects),
            Op::Attach { client_id, user, clean_start, expiry, epoch, will, limits, now } => {
                let attachment = Attachment { home: ALONE, user, expiry, epoch, will: will.map(Box::new), limits };
                self.attach(client_id, clean_start, attachment, now, effects);
            }
            Op::AttachFrom { home, client_id, user, clean_start, expiry, epoch, will, limits, now } => {
                let attachment = Attachment { home, user, expiry, epoch, will, limits };
                self.attach(client_id, clean_start, attachment, now, effects);
            }
            Op::Detach { session, epoch, expiry, discard_will, sent, now } => {
                self.note_sent(session, epoch, sent);
                self.detach(session, epoch, expiry, discard_will, now, effects);
            }
            Op::End { session } => self.end(session, effects),
            Op::WillDone { session, epoch } => self.will_done(session, epoch, effects),
            Op::Subscribe { session, subscriptions, now } => self.subscribe(session, subscriptions, now, effects),
            Op::Unsubscribe { session, filters } => self.unsubscribe(session, filters, effects),
            Op::Retain { message, now } => self.retain(message, index, now),
            Op::Forget { topic, index } => {
                if self.retained.index_of(&topic) == Some(index) {
                    self.forget(&topic);
                }
            }
            Op::Replay { session, filter, entries, after } => self.replay(session, &filter, entries, after, effects),
            Op::Expire { session, now } => {
                if self.sessions.get(&session).is_some_and(|session| session.is_expired(now)) {
                    self.end(session, effects);
                }
            }
            Op::DetachHome { home, now } => {
                self.detach_home(home, now, effects);
                self.proposers.bury(home, index);
            }
            Op::EnqueueFrom { origin, digest, message, targets, variants, now: _ } => {
                if self.origins.note(origin, Taken::Enqueued, digest) {
                    self.enqueue(&message, targets, effects);
                    for (message, targets) in variants {
                        self.enqueue(&message, targets, effects);
                    }
                }
            }
            Op::RetainFrom { origin, digest, message, now } => {
                if self.origins.note(origin, Taken::Retained, digest) {
                    self.retain(message, index, now);
                }
            }
            Op::ForgetOrigins { session, tokens } => self.origins.forget(session, &tokens),
        }
    }

    fn subscribe(&mut self, id: SessionId, subscriptions: Vec<Subscription>, now: Wall, effects: &mut Vec<Effect>) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        for Subscription { filter, options, replay } in subscriptions {
            if self.replicated {
                effects.push(Effect::Subscribed { session: id, filter: filter.clone(), options });
            }
            let subscribed = session.subscriptions.entry(filter.clone()).or_insert_with(|| Subscribed {
                options,
                replay: None,
                since: now,
                row: 0,
                parts: 0,
                dirty: false,
            });
            subscribed.options = options;
            if replay {
                subscribed.replay = Some(Cursor::Start);
                subscribed.since = now;
            }
            if !std::mem::replace(&mut subscribed.dirty, true) {
                session.rows.dirty_subscriptions.push(filter);
            }
        }
        list(&mut self.listed, session);
    }

    fn unsubscribe(&mut self, id: SessionId, filters: Vec<Arc<str>>, effects: &mut Vec<Effect>) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        for filter in filters {
            let Some(subscribed) = session.subscriptions.remove(&filter) else { continue };
            if subscribed.row != 0 {
                session.rows.removed_subscriptions.push((subscribed.row, subscribed.parts));
            }
            if self.replicated {
                effects.push(Effect::Unsubscribed { session: id, filter });
            }
        }
        list(&mut self.listed, session);
    }

    fn enqueue(&mut self, message: &Arc<Message>, targets: Vec<Target>, effects: &mut Vec<Effect>) {
        let weight = body_bytes(message);
        for Target { session, qos, retain, identifiers, share } in targets {
            let delivery = Delivery { message: message.clone(), qos, retain, identifiers, share };
            self.push(session, delivery, weight, effects);
        }
    }

    fn replay(
        &mut self,
        id: SessionId,
        filter: &str,
        entries: Vec<Replayed>,
        after: Option<Arc<str>>,
        effects: &mut Vec<Effect>,
    ) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let Some((filter, subscribed)) = session.subscriptions.get_key_value(filter) else { return };
        if subscribed.replay.is_none() {
            return;
        }
        let filter = filter.clone();
        if let Some(subscribed) = session.subscriptions.get_mut(&filter) {
            subscribed.replay = after.map(Cursor::After);
            if !std::mem::replace(&mut subscribed.dirty, true) {
                session.rows.dirty_subscriptions.push(filter);
            }
        }
        list(&mut self.listed, session);
        for Replayed { message, qos, identifiers } in entries {
            let weight = body_bytes(&message);
            self.push(id, Delivery { message, qos, retain: true, identifiers, share: None }, weight, effects);
        }
    }

    fn push(&mut self, id: SessionId, delivery: Delivery, body: u64, effects: &mut Vec<Effect>) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let Delivery { message, qos, retain, identifiers, share } = delivery;
        let weight = Weight::of(ENTRY_BYTES + body + 4 * identifiers.len() as u64);
        if !make_room(session, weight.bytes(), &mut self.totals, effects) {
            return;
        }
        let identifiers = (!identifiers.is_empty()).then(|| Arc::from(identifiers));
        let sequence = session.queue.next();
        let entry = Entry { sequence, message, qos, retain, identifiers, share, received: false };
        session.queue.push(entry.clone(), weight);
        self.totals.messages += 1;
        self.totals.bytes += weight.bytes();
        self.totals.young_bytes += weight.bytes();
        session.rows.queue_dirty = true;
        list(&mut self.listed, session);
        effects.push(Effect::Queued { session: id, entry });
    }

    fn acknowledge(&mut self, id: SessionId, sequences: &[u64]) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        for &sequence in sequences {
            if !release(session, sequence, &mut self.totals, Queue::release) {
                session.queue.complete(sequence);
            }
        }
        session.rows.queue_dirty = true;
        list(&mut self.listed, session);
    }

    fn received(&mut self, id: SessionId, sequences: &[u64], effects: &mut Vec<Effect>) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        for &sequence in sequences {
            // A PUBREC that comes again is answered by PUBREL again. An entry that overflow took while it was under way
            // is received all the same: the client has it, and waits for PUBREL.
            if release(session, sequence, &mut self.totals, Queue::receive) || session.queue.note_received(sequence) {
                effects.push(Effect::Received { session: id, sequence });
            }
        }
        session.rows.queue_dirty = true;
        list(&mut self.listed, session);
    }

    fn inbound_received(&mut self, id: SessionId, packet_id: u16) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        if let Err(at) = session.inbound.binary_search(&packet_id) {
            session.inbound.insert(at, packet_id);
        }
        session.rows.queue_dirty = true;
        list(&mut self.listed, session);
    }

    fn inbound_released(&mut self, id: SessionId, packet_id: u16, effects: &mut Vec<Effect>) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        if let Ok(at) = session.inbound.binary_search(&packet_id) {
            session.inbound.remove(at);
        }
        session.rows.queue_dirty = true;
        list(&mut self.listed, session);
        effects.push(Effect::InboundReleased { session: id, packet_id });
    }

    fn retain(&mut self, message: Arc<Message>, index: u64, now: Wall) {
        if message.payload().is_empty() {
            return self.forget(message.topic());
        }
        let expires = message.expires;
        let (topic, old) = self.retained.put(message, index, now);
        if let Some(at) = old {
            self.deadlines.clear(at, Deadline::Retained(topic.clone()));
        }
        if let Some(at) = expires {
            self.deadlines.set(at, Deadline::Retained(topic));
        }
    }

    fn forget(&mut self, topic: &str) {
        if let Some((topic, Some(at))) = self.retained.remove(topic) {
            self.deadlines.clear(at, Deadline::Retained(topic));
        }
    }
}

/// What an entry counts beside its message's topic, properties and payload.
const ENTRY_BYTES: u64 = 64;

/// The bytes of a message that are the same in every build of the program.
fn body_bytes(message: &Message) -> u64 {
    (message.topic().len() + message.properties().len() + message.payload().len()) as u64
}

/// Has the next freeze look at the session.
pub(crate) fn list(listed: &mut Vec<SessionId>, session: &mut Session) {
    if !std::mem::replace(&mut session.rows.listed, true) {
        listed.push(session.id);
    }
}

/// Takes one entry out of a queue by `how`, and out of the sums; whether it was there.
fn release(
    session: &mut Session,
    sequence: u64,
    totals: &mut Totals,
    how: impl FnOnce(&mut Queue, u64) -> Option<u64>,
) -> bool {
    let young = sequence >= session.queue.tail_start();
    let Some(bytes) = how(&mut session.queue, sequence) else { return false };
    totals.messages -= 1;
    totals.bytes -= bytes;
    if young {
        totals.young_bytes -= bytes;
    }
    true
}

/// Whether an entry of `bytes` may be added, after the oldest ones went if the policy says so.
fn make_room(session: &mut Session, bytes: u64, totals: &mut Totals, effects: &mut Vec<Effect>) -> bool {
    let limits = session.limits;
    let over = |queue: &Queue| {
        if queue.len() >= limits.messages {
            Some(DropReason::Messages)
        } else if bytes > limits.bytes.saturating_sub(queue.bytes()) {
            Some(DropReason::Bytes)
        } else {
            None
        }
    };
    let hopeless = limits.messages == 0 || bytes > limits.bytes;
    while let Some(reason) = over(&session.queue) {
        // The publisher was asked before, and told if it was refused: what slipped in since must not be lost.
        if limits.policy == Overflow::Refuse && !hopeless {
            return true;
        }
        if hopeless || limits.policy != Overflow::DropOldest {
            effects.push(Effect::Dropped { session: session.id, sequence: None, reason });
            return false;
        }
        let oldest = session.queue.head();
        release(session, oldest, totals, Queue::release);
        effects.push(Effect::Dropped { session: session.id, sequence: Some(oldest), reason });
    }
    true
}
