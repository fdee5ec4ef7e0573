//! From the journal to the connected sessions: what became durable becomes visible.

use super::drops::Reason;
use super::moves::{AttachedSession, Came};
use super::peer::Peer;
use super::sending::Fed;
use super::subscriber::Subscriber;
use super::{Broker, stats, turn};
use crate::store::Sink;
use crate::telemetry::escape;
use nightjar_base::{Position, SessionId, ShardId, Wall};
use nightjar_mqtt::{PacketType, ReasonCode, SubscriptionOptions};
use nightjar_shard::{Effect, Entry, Holder, Op};
use std::collections::HashSet;
use std::sync::Arc;

/// The broker's ear at the journal. It runs on the journal's thread, so everything waits for what it does.
pub(crate) struct JournalSink {
    broker: Arc<Broker>,
    /// The last session looked up: a batch often has many messages for one.
    last: Option<(ShardId, SessionId, Arc<Subscriber>)>,
    done: Vec<(ShardId, Op)>,
    overflowed: HashSet<(ShardId, SessionId)>,
    entered: bool,
}

/// Sessions whose overflow was logged; beyond it the log starts again.
const REMEMBERED_OVERFLOWS: usize = 10_000;

impl JournalSink {
    pub(crate) fn new(broker: Arc<Broker>) -> Self {
        Self { broker, last: None, done: Vec::new(), overflowed: HashSet::new(), entered: false }
    }

    fn subscriber(&mut self, shard: ShardId, session: SessionId) -> Option<&Arc<Subscriber>> {
        if !matches!(&self.last, Some((s, id, _)) if (*s, *id) == (shard, session)) {
            let subscriber = self.broker.session(shard, session)?;
            self.last = Some((shard, session, subscriber));
        }
        self.last.as_ref().map(|(_, _, subscriber)| subscriber)
    }

    fn queued(&mut self, shard: ShardId, session: SessionId, entry: &Entry, now: Wall) {
        let Some(subscriber) = self.subscriber(shard, session) else { return };
        let fed = subscriber.peer().as_ref().map(|peer| feed_live(peer, entry, now));
        if fed == Some(Fed::Done) {
            let sequences = vec![entry.sequence];
            self.done.push((shard, Op::Acknowledge { session, sequences }));
        }
    }

    fn received(&mut self, shard: ShardId, session: SessionId, sequence: u64) {
        let Some(subscriber) = self.subscriber(shard, session) else { return };
        let peer = subscriber.peer();
        let Some(peer) = &*peer else { return };
        let mut state = peer.lock();
        if let Some(packet_id) = state.out.released(sequence) {
            state.acknowledge(PacketType::PubRel, packet_id, ReasonCode::Success);
            peer.schedule(&mut state);
        }
    }

    /// Counted, and remembered for whoever asks why a connected client misses something.
    fn note_overflow(&mut self, shard: ShardId, session: SessionId) {
        let subscriber = self.subscriber(shard, session);
        if let Some(keeping) = subscriber.and_then(|subscriber| subscriber.keeping()) {
            keeping.note_overflow();
        }
        let peer = self.subscriber(shard, session).and_then(|subscriber| subscriber.peer().clone());
        match peer {
            Some(peer) => peer.lock().drops.note(Reason::QueueFull, b""),
            None => stats::add(|s| &s.dropped_queue_full, 1),
        }
    }

    /// A subscription of a persistent session, made by a connection of whichever node.
    fn subscribed(&mut self, shard: ShardId, session: SessionId, filter: &str, options: SubscriptionOptions) {
        let subscriber = self.broker.session(shard, session).or_else(|| {
            let store = self.broker.store.lock(shard);
            let session = store.session(session)?;
            let subscriber = self.broker.add_session(shard, session.id(), session.client_id(), session.user());
            self.broker.note_place(&subscriber, session);
            Some(subscriber)
        });
        if let Some(subscriber) = subscriber {
            self.broker.add_route(&subscriber, filter, options);
        }
    }

    fn overflowed(&mut self, shard: ShardId, session: SessionId) {
        self.note_overflow(shard, session);
        if self.overflowed.len() >= REMEMBERED_OVERFLOWS {
            self.overflowed.clear();
        }
        if self.overflowed.insert((shard, session))
            && let Some(subscriber) = self.subscriber(shard, session)
        {
            tracing::warn!(client = %escape(&subscriber.client_id), "queue full: messages are dropped as its policy says");
        }
    }
}

/// Sends a message that has just been queued, if the connection is not behind.
fn feed_live(peer: &Arc<Peer>, entry: &Entry, now: Wall) -> Fed {
    let mut state = peer.lock();
    if state.lagging || state.feeding {
        state.lagging = true;
        return Fed::Later;
    }
    let fed = state.feed(entry, now);
    match fed {
        Fed::Later => state.lagging = true,
        Fed::Sent | Fed::Done => peer.schedule(&mut state),
    }
    fed
}

impl Sink for JournalSink {
    fn effects(&mut self, shard: ShardId, effects: &mut Vec<Effect>) {
        if !self.entered {
            self.entered = true;
            stats::enter(self.broker.board.join());
        }
        let now = self.broker.clock.now();
        for effect in effects.drain(..) {
            match effect {
                Effect::Queued { session, entry } => self.queued(shard, session, &entry, now),
                Effect::Received { session, sequence } => self.received(shard, session, sequence),
                Effect::Dropped { session, .. } => self.overflowed(shard, session),
                Effect::Ended { session, subscriptions, .. } => {
                    self.last = None;
                    self.overflowed.remove(&(shard, session));
                    self.broker.remove_session(shard, session, &subscriptions);
                }
                Effect::Attached { session, client_id, home, epoch, present, before } => {
                    let (at, came) = (Holder { home, epoch }, Came { present, before: before.map(|before| *before) });
                    self.broker.attached(&AttachedSession { shard, session, client_id: &client_id, at, came });
                }
                Effect::Detached { session, home, .. } => self.broker.detached(shard, session, home),
                Effect::Subscribed { session, filter, options } => self.subscribed(shard, session, &filter, options),
                Effect::Unsubscribed { session, filter } => {
                    if let Some(subscriber) = self.broker.session(shard, session) {
                        self.broker.remove_route(&subscriber, &filter);
                    }
                }
                // Whoever waits for it waits for the position.
                Effect::InboundReleased { .. } => {}
            }
        }
    }

    fn replacing(&mut self, shard: ShardId) {
        self.last = None;
        self.broker.forget_sessions(shard);
    }

    fn replaced(&mut self, shard: ShardId) {
        self.broker.take_up_sessions(shard);
    }

    fn applied(&mut self, _position: Position) {
        self.last = None;
        self.broker.count_stored();
        if !self.done.is_empty() {
            self.broker.store.submit(&mut self.done, None);
        }
        turn::flush();
    }
}
