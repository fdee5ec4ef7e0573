//! Applying ops. Nothing here reads the tables or depends on when a freeze happened.

use crate::deadlines::Deadline;
use crate::effect::{DropReason, Effect, Entry};
use crate::op::{NEVER, Op, Overflow, QueueLimits, Replayed, Subscription, Target, Will};
use crate::queue::{Queue, Weight};
use crate::session::{Cursor, Rows, Session, Subscribed};
use crate::shard::{Shard, Totals};
use nightjar_base::{SessionId, Wall};
use nightjar_mqtt::{Message, QoS};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What a connection brings to its session.
struct Attachment {
    user: Option<Arc<str>>,
    expiry: u32,
    epoch: u64,
    will: Option<Will>,
    limits: QueueLimits,
}

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
                let attachment = Attachment { user, expiry, epoch, will, limits };
                self.attach(client_id, clean_start, attachment, now, effects);
            }
            Op::Detach { session, epoch, expiry, discard_will, sent, now } => {
                self.note_sent(session, epoch, sent);
                self.detach(session, epoch, expiry, discard_will, now, effects);
            }
            Op::End { session } => self.end(session, effects),
            Op::WillDone { session, epoch } => self.will_done(session, epoch, effects),
            Op::Subscribe { session, subscriptions, now } => self.subscribe(session, subscriptions, now),
            Op::Unsubscribe { session, filters } => self.unsubscribe(session, &filters),
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
        }
    }

    fn attach(
        &mut self,
        client_id: Arc<str>,
        clean_start: bool,
        attachment: Attachment,
        now: Wall,
        effects: &mut Vec<Effect>,
    ) {
        let Attachment { user, expiry, epoch, will, limits } = attachment;
        let will = will.map(Box::new);
        if let Some(&id) = self.by_client.get(&client_id)
            && let Some(session) = self.sessions.get_mut(&id)
        {
            // A session without an expiry interval ends with its connection: there is nothing to resume
            // [MQTT-3.1.2-6 in 3.1.1].
            if !clean_start && session.expiry != 0 && !session.is_expired(now) {
                if let Some(at) = session.will_due.take() {
                    self.deadlines.clear(at, Deadline::Will(id));
                }
                if let Some(at) = session.expires.take() {
                    self.deadlines.clear(at, Deadline::Expiry(id));
                }
                (session.user, session.expiry, session.epoch) = (user, expiry, epoch);
                (session.will, session.limits, session.attached) = (will, limits, true);
                session.rows.identity_dirty = true;
                list(&mut self.listed, session);
                effects.push(Effect::Attached { session: id, client_id, epoch, present: true });
                return;
            }
            self.end(id, effects);
        }
        let id = SessionId(self.next_session);
        self.next_session += 1;
        let mut session = Box::new(Session {
            id,
            client_id: client_id.clone(),
            user,
            epoch,
            attached: true,
            expiry,
            expires: None,
            will,
            will_due: None,
            sent: 0,
            limits,
            subscriptions: BTreeMap::new(),
            queue: Queue::new(),
            inbound: Vec::new(),
            rows: Rows { identity_dirty: true, queue_dirty: true, ..Rows::default() },
        });
        list(&mut self.listed, &mut session);
        self.sessions.insert(id, session);
        self.by_client.insert(client_id.clone(), id);
        effects.push(Effect::Attached { session: id, client_id, epoch, present: false });
    }

    fn note_sent(&mut self, id: SessionId, epoch: u64, sent: u64) {
        if let Some(session) = self.sessions.get_mut(&id).filter(|session| session.attached && session.epoch == epoch) {
            session.sent = session.sent.max(sent);
        }
    }

    fn detach(
        &mut self,
        id: SessionId,
        epoch: u64,
        expiry: Option<u32>,
        discard_will: bool,
        now: Wall,
        effects: &mut Vec<Effect>,
    ) {
        let Some(session) = self.sessions.get_mut(&id).filter(|session| session.attached && session.epoch == epoch)
        else {
            return;
        };
        session.attached = false;
        session.expiry = expiry.unwrap_or(session.expiry);
        if discard_will {
            session.will = None;
        }
        if session.expiry == 0 && session.will.is_none() {
            return self.end(id, effects);
        }
        session.expires = (session.expiry != NEVER).then(|| now.plus_seconds(session.expiry.into()));
        // Published after its delay or when the session ends, whichever is first [MQTT-3.1.2-8].
        session.will_due = session.will.as_ref().map(|will| {
            let delayed = now.plus_seconds(will.delay.into());
            session.expires.map_or(delayed, |end| end.min(delayed))
        });
        if let Some(at) = session.will_due {
            self.deadlines.set(at, Deadline::Will(id));
        }
        // Without an expiry interval the session is kept for its will alone, and ends with `WillDone`.
        if let Some(at) = session.expires.filter(|_| session.expiry != 0) {
            self.deadlines.set(at, Deadline::Expiry(id));
        }
        session.rows.identity_dirty = true;
        list(&mut self.listed, session);
    }

    fn will_done(&mut self, id: SessionId, epoch: u64, effects: &mut Vec<Effect>) {
        let Some(session) = self.sessions.get_mut(&id).filter(|session| session.epoch == epoch) else { return };
        session.will = None;
        if let Some(at) = session.will_due.take() {
            self.deadlines.clear(at, Deadline::Will(id));
        }
        if session.expiry == 0 && !session.attached {
            return self.end(id, effects);
        }
        session.rows.identity_dirty = true;
        list(&mut self.listed, session);
    }

    fn end(&mut self, id: SessionId, effects: &mut Vec<Effect>) {
        let Some(session) = self.sessions.remove(&id) else { return };
        self.by_client.remove(&session.client_id);
        if let Some(at) = session.will_due {
            self.deadlines.clear(at, Deadline::Will(id));
        }
        if let Some(at) = session.expires {
            self.deadlines.clear(at, Deadline::Expiry(id));
        }
        self.totals.messages -= session.queue.len();
        self.totals.bytes -= session.queue.bytes();
        self.totals.young_bytes -= session.queue.tail_bytes();
        self.graves.bury(&session);
        effects.push(Effect::Ended {
            session: id,
            client_id: session.client_id,
            subscriptions: session.subscriptions.into_keys().collect(),
        });
    }

    fn subscribe(&mut self, id: SessionId, subscriptions: Vec<Subscription>, now: Wall) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        for Subscription { filter, options, replay } in subscriptions {
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

    fn unsubscribe(&mut self, id: SessionId, filters: &[Arc<str>]) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        for filter in filters {
            let Some(subscribed) = session.subscriptions.remove(filter) else { continue };
            if subscribed.row != 0 {
                session.rows.removed_subscriptions.push((subscribed.row, subscribed.parts));
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
fn list(listed: &mut Vec<SessionId>, session: &mut Session) {
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
