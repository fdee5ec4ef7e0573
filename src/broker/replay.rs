//! The retained messages that follow a SUBSCRIBE: a page at a time, as fast as the client takes them.
//!
//! A replay starts when the SUBACK goes and walks the shards in order, each in the order of topics. Nothing is held but
//! a cursor. What is published meanwhile reaches the client live, so the message of a topic that had none when the replay
//! began is left out; of one that had, the newest is sent. For a persistent session the messages at QoS 1 and 2 go through its queue, and the
//! cursor is durable with them: a session that is resumed gets the rest.

use super::Broker;
use super::peer::{Close, Peer};
use super::sending::{Copy, State};
use super::source::Source;
use nightjar_base::{Position, ShardId, Wall};
use nightjar_mqtt::{Message, QoS, SubscriptionOptions, topic};
use nightjar_shard::{Op, Replayed, RetainedMessage};
use std::sync::Arc;

/// Topics looked at in one step: some 50 us of work.
const SCANNED: usize = 1024;
/// Messages taken in one step.
const FOUND: usize = 256;

/// The retained messages of one filter, on their way to one connection.
pub(crate) struct Replay {
    filter: Arc<str>,
    options: SubscriptionOptions,
    /// The topic after which to go on; with it the shard.
    after: Option<Arc<str>>,
    shard: u16,
    /// Not before this is applied.
    position: Position,
    /// The index of each shard when the replay began: what is newer was delivered live.
    ceilings: Vec<u64>,
    /// The index of each shard when it was asked for: what is newer was delivered live, or was under way then.
    asked_at: Vec<u64>,
    durable: bool,
    /// The SUBSCRIBE of an earlier connection that this one goes on with: what was retained after it was queued too.
    asked: Option<Wall>,
}

/// What one step came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// There may be more.
    More,
    /// Nothing can be done before the client, or the journal, has done something.
    Wait,
    /// All retained messages were sent.
    Finished,
}

impl Broker {
    /// Whether no replay would find anything: nothing is retained, and nothing that may be is under way.
    pub(crate) fn nothing_retained(&self) -> bool {
        self.store.submitted() == self.store.applied()
            && (0..self.store.shard_count()).all(|shard| self.store.lock(ShardId(shard)).retained_count() == 0)
    }
}

impl Replay {
    /// A replay of `filter` (not a shared one). `durable`: for a persistent session.
    pub(crate) fn new(filter: Arc<str>, options: SubscriptionOptions, durable: bool) -> Self {
        let (after, position, ceilings) = (None, Position(0), Vec::new());
        let asked_at = Vec::new();
        Self { filter, options, after, shard: 0, position, ceilings, asked_at, durable, asked: None }
    }

    /// Goes on with a replay that an earlier connection did not finish, from `after` on; `asked` is when it began.
    pub(crate) fn resume(filter: Arc<str>, options: SubscriptionOptions, after: Option<Arc<str>>, asked: Wall) -> Self {
        Self { asked: Some(asked), after, ..Self::new(filter, options, true) }
    }

    pub(crate) fn filter(&self) -> &Arc<str> {
        &self.filter
    }

    /// The replay may begin when `position` is applied.
    pub(crate) fn wait_for(&mut self, position: Position) {
        self.position = position;
    }

    /// Whether it waits for nothing but the client.
    pub(crate) fn is_ready(&self, applied: Position) -> bool {
        self.position <= applied
    }

    /// The present index of each shard.
    pub(crate) fn ceilings(broker: &Broker) -> Vec<u64> {
        (0..broker.store.shard_count()).map(|shard| broker.store.lock(ShardId(shard)).applied()).collect()
    }

    /// It is asked for now.
    pub(crate) fn asked_at(&mut self, ceilings: &[u64]) {
        self.asked_at = ceilings.to_vec();
    }

    fn begin(&mut self, broker: &Broker) {
        self.ceilings = Self::ceilings(broker);
        if let Some(after) = &self.after {
            self.shard = broker.store.shard_of(after).0;
        } else if !topic::has_wildcard(&self.filter) {
            self.shard = broker.store.shard_of(&self.filter).0;
        }
    }

    /// Sends the next page to `peer`. Called by the feeder, one at a time for each peer.
    pub(crate) fn step(&mut self, broker: &Broker, peer: &Arc<Peer>) -> Step {
        if !self.is_ready(broker.store.applied()) {
            return Step::Wait;
        }
        {
            // The feeder may be here before the SUBACK of the same position was let go: it goes first.
            let mut state = peer.lock();
            if state.release(broker.store.applied()) {
                peer.schedule(&mut state);
            }
        }
        let now = broker.clock.now();
        if self.ceilings.is_empty() {
            self.begin(broker);
            if self.filter.starts_with('$') {
                self.send_sys(broker, peer, now);
            }
        }
        let room = {
            let state = peer.lock();
            if state.is_over() || state.stepping.is_none() {
                return Step::Finished;
            }
            if !state.has_room() || (self.durable && state.lagging) {
                return Step::Wait;
            }
            state.out.room().min(FOUND)
        };
        let mut page = Vec::new();
        let shard = ShardId(self.shard);
        let looked = {
            let shard = broker.store.lock(shard);
            shard.retained_page(broker.store.tables(), &self.filter, self.after.as_deref(), SCANNED, room, &mut page)
        };
        let next = match looked {
            Ok(next) => next,
            Err(error) => {
                tracing::error!(%error, filter = %crate::telemetry::escape(&self.filter), "retained messages cannot be read");
                peer.close(Close::StoreFailed);
                return Step::Finished;
            }
        };
        let complete = self.send_page(broker, peer, &page, now);
        if !complete {
            return Step::Wait;
        }
        let literal = !topic::has_wildcard(&self.filter);
        match next {
            Some(topic) => self.after = Some(topic),
            None if literal || self.shard + 1 >= broker.store.shard_count() => {
                self.finish(broker, peer);
                return Step::Finished;
            }
            None => {
                self.after = None;
                self.shard += 1;
            }
        }
        Step::More
    }

    /// Sends a page; false if the client could not take all of it: the cursor then stands behind what it took.
    fn send_page(&mut self, broker: &Broker, peer: &Arc<Peer>, page: &[RetainedMessage], now: Wall) -> bool {
        let of = |ceilings: &[u64]| ceilings.get(usize::from(self.shard)).copied().unwrap_or(u64::MAX);
        let (ceiling, asked_at) = (of(&self.ceilings), of(&self.asked_at));
        let mut entries = Vec::new();
        let mut state = peer.lock();
        let mut complete = true;
        for RetainedMessage { message, since, at } in page {
            let message = &state.freshest(message);
            let qos = message.qos.min(self.options.qos);
            // What came at QoS 0 while the session was away was not queued.
            let queued = qos > QoS::AtMostOnce && self.asked.is_some_and(|asked| *at > asked);
            let removed = message.payload().is_empty();
            let live = *since > ceiling || (*since > asked_at && state.is_fresh(message.topic()));
            if live || queued || removed || message.is_expired(now) || !state.may_receive(message.topic()) {
                continue;
            }
            if self.durable && qos > QoS::AtMostOnce {
                let identifiers = self.options.identifier.into_iter().collect();
                entries.push(Replayed { message: Arc::clone(message), qos, identifiers });
            } else if state.has_room() {
                self.send(&mut state, message, qos, now);
            } else {
                complete = false;
                break;
            }
            self.after = Some(message.topic().into());
        }
        if !state.outbox.is_empty() {
            peer.schedule(&mut state);
        }
        let session = state.session.filter(|_| state.stepping.is_some());
        // Submitted under the lock: a message that is retained from here on is queued behind this page.
        if let (Some((shard, session)), false) = (session, entries.is_empty()) {
            let filter = Arc::clone(&self.filter);
            let op = Op::Replay { session, filter, entries, after: self.after.clone() };
            self.position = broker.store.submit(&mut vec![(shard, op)], Some(Arc::clone(peer) as _));
        }
        complete
    }

    /// A message sent because of a new subscription carries the retain flag [MQTT-3.3.1-8].
    fn send(&self, state: &mut State, message: &Arc<Message>, qos: QoS, now: Wall) {
        let identifiers = self.options.identifier.as_slice();
        let copy = Copy { qos, retain: true, identifiers, share: None };
        state.deliver(&Source::of_message(message, now), &copy, true);
    }

    fn send_sys(&self, broker: &Broker, peer: &Arc<Peer>, now: Wall) {
        let mut state = peer.lock();
        for message in broker.sys.matching(&self.filter) {
            if !state.may_receive(message.topic()) {
                continue;
            }
            self.send(&mut state, &message, QoS::AtMostOnce, now);
        }
        if !state.outbox.is_empty() {
            peer.schedule(&mut state);
        }
    }

    /// The durable cursor goes.
    fn finish(&self, broker: &Broker, peer: &Arc<Peer>) {
        let session = {
            let state = peer.lock();
            // Not the cursor of another SUBSCRIBE that has replaced this replay.
            state.session.filter(|_| self.durable && state.stepping.is_some())
        };
        if let Some((shard, session)) = session {
            let filter = Arc::clone(&self.filter);
            let op = Op::Replay { session, filter, entries: Vec::new(), after: None };
            broker.store.submit(&mut vec![(shard, op)], None);
        }
    }
}
