//! What a bridge has of the broker besides a connection: a persistent session that is there before the remote is ever
//! reached, with a queue of its own kind.

use super::moves::Attaching;
use super::subscriber::Subscriber;
use super::{Broker, Handle, turn};
use crate::auth::Identity;
use nightjar_base::{ClientId, SessionId, ShardId, Wall};
use nightjar_mqtt::property::append_user;
use nightjar_mqtt::{Connect, Message, RetainHandling, SubscriptionOptions};
use nightjar_shard::{NEVER, Op, QueueLimits, Session, Subscription};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What the client identifiers of bridges begin with. Nobody else may come in with such a one.
pub const BRIDGE_PREFIX: &str = "$bridge/";

/// The user property by which Nightjars know each other's bridges: CONNECT and CONNACK carry the node's id.
pub const BRIDGE_PROPERTY: &str = "nightjar-bridge";

/// Whether a client says by it that it is the bridge of a Nightjar.
pub(crate) fn is_nightjar(connect: &Connect) -> bool {
    connect.properties.user_properties.iter().any(|(name, _)| name == BRIDGE_PROPERTY)
}

/// What stands around the name of a bridge in the topic of its state.
const STATE_BEFORE: &str = "$SYS/broker/connection/";
const STATE_BEHIND: &str = "/state";

/// The topic on which the bridge called `name` tells its state, as mosquitto's bridges do; the filter for all of them, if
/// the name is `+`.
#[must_use]
pub fn bridge_state_topic(name: &str) -> String {
    format!("{STATE_BEFORE}{name}{STATE_BEHIND}")
}

/// The bridge that tells its state on `topic`, if it is such a topic.
#[must_use]
pub fn bridge_of(topic: &str) -> Option<&str> {
    let name = topic.strip_prefix(STATE_BEFORE)?.strip_suffix(STATE_BEHIND)?;
    Some(name).filter(|name| !name.is_empty() && !name.contains('/'))
}

/// Whether `client_id` is a bridge's.
pub(crate) fn is_bridge(client_id: &str) -> bool {
    client_id.starts_with(BRIDGE_PREFIX)
}

/// How the queue of a bridge differs from others.
#[derive(Debug, Default)]
pub(crate) struct Keeping {
    /// Milliseconds after which what waits is not worth sending; 0 for ever.
    max_age: AtomicU64,
    /// Whether QoS 0 waits too: 1 or 0.
    qos0: AtomicU64,
    /// Messages that were dropped because it was full.
    overflowed: AtomicU64,
}

impl Keeping {
    pub(crate) fn keeps_qos0(&self) -> bool {
        self.qos0.load(Ordering::Relaxed) != 0
    }

    /// When what is queued at `now` is too old.
    pub(crate) fn too_old(&self, now: Wall) -> Option<Wall> {
        let age = self.max_age.load(Ordering::Relaxed);
        (age > 0).then(|| Wall(now.0.saturating_add(age)))
    }

    pub(crate) fn note_overflow(&self) {
        self.overflowed.fetch_add(1, Ordering::Relaxed);
    }
}

/// The session that a bridge wants.
#[derive(Clone, Debug)]
pub struct BridgeSession {
    /// Its client identifier.
    pub client_id: String,
    /// As whom it may do what it does.
    pub identity: Arc<Identity>,
    /// What it subscribes to.
    pub filters: Vec<(String, SubscriptionOptions)>,
    /// The bounds of its queue.
    pub limits: QueueLimits,
    /// Milliseconds after which what waits is not worth sending; 0 for ever.
    pub max_age: u64,
    /// Whether QoS 0 waits too.
    pub queue_qos0: bool,
    /// Whether what is there of it is forgotten first.
    pub clean: bool,
}

/// What there is of a bridge's session.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Prepared {
    /// The sequence of the oldest message in its queue, or of the next.
    pub head: u64,
    /// The first sequence that was certainly never sent.
    pub sent: u64,
}

/// The queue of a bridge, as it is now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BridgeQueue {
    /// Messages in it, those under way included.
    pub messages: u64,
    /// Their bytes.
    pub bytes: u64,
    /// The sequence of the oldest.
    pub head: u64,
    /// The sequence that the next one gets.
    pub next: u64,
    /// Messages that were dropped because it was full, in this process.
    pub overflowed: u64,
}

impl Handle {
    /// Sees to it that there is a session as `wanted`, durably, before any connection has it. One that has it now ends.
    pub async fn prepare_bridge(&self, wanted: &BridgeSession) -> Prepared {
        let broker = &*self.broker;
        let client_id: ClientId = wanted.client_id.as_str().into();
        let claim = broker.registry.claim(&client_id).await;
        if let Some(peer) = claim.current() {
            peer.close(super::peer::Close::TakenOver);
            peer.wait_gone().await;
        }
        if let Err((_, why)) = broker.make_ours(&client_id).await {
            tracing::warn!(client = %client_id, why, "a bridge's session cannot be had");
        }
        let shard = broker.store.shard_of(&client_id);
        let sent = {
            let store = broker.store.lock(shard);
            let session = store.client(&client_id).filter(|_| !wanted.clean);
            session.map_or(1, |session| broker.may_be_sent(session))
        };
        let epoch = broker.new_epoch();
        let attach = Attaching {
            client_id: Arc::clone(&client_id),
            user: wanted.identity.owner().cloned(),
            clean_start: wanted.clean,
            expiry: NEVER,
            epoch,
            will: None,
            limits: wanted.limits,
        };
        let position = broker.store.submit(&mut vec![(shard, broker.attach_op(attach))], None);
        broker.store.wait(position).await;
        let Some(id) = broker.store.lock(shard).session_of(&client_id) else { return Prepared::default() };
        let subscriber = broker.add_session(shard, id, &client_id, wanted.identity.owner());
        subscriber.belongs_to(&wanted.identity, broker.access.load().rights(&client_id, &wanted.identity));
        subscriber.keep_as(wanted.max_age, wanted.queue_qos0);
        let mut ops = broker.resubscribe(shard, id, &subscriber, &wanted.filters);
        let now = broker.clock.now();
        ops.push((shard, Op::Detach { session: id, epoch, expiry: None, discard_will: true, sent, now }));
        broker.routes_changed();
        let position = broker.store.submit(&mut ops, None);
        turn::flush();
        broker.store.wait(position).await;
        let store = broker.store.lock(shard);
        let session = store.session(id);
        Prepared {
            head: session.map_or(1, |session| session.head()),
            sent: session.map_or(1, |session| broker.may_be_sent(session)),
        }
    }

    /// There is a bridge of our own that may have such a session, here or on another node: whatever is queued for it is kept
    /// as it wants.
    pub fn expect_bridge(&self, wanted: &BridgeSession) {
        let client_id: ClientId = wanted.client_id.as_str().into();
        self.broker.expected_bridges.lock().insert(Arc::clone(&client_id), (wanted.max_age, wanted.queue_qos0));
        let shard = self.broker.store.shard_of(&client_id);
        let session = self.broker.store.lock(shard).session_of(&client_id);
        if let Some(subscriber) = session.and_then(|session| self.broker.session(shard, session)) {
            self.broker.keep_bridge(&subscriber);
            self.broker.routes_changed();
        }
    }

    /// Whether there is a session of `client_id`.
    #[must_use]
    pub fn has_session(&self, client_id: &str) -> bool {
        self.of_session(client_id, |_| true)
    }

    /// There are so many bridges of our own, which want a message to be known by its content for `window` milliseconds (0:
    /// not at all), and to pass at most `hops` bridges.
    pub fn guard_loops(&self, bridges: usize, window: u64, hops: u8) {
        self.broker.loops.set(bridges, window, hops);
    }

    /// The queue of a bridge's session; nothing if there is none.
    #[must_use]
    pub fn bridge_queue(&self, client_id: &str) -> BridgeQueue {
        let (id, mut queue) = self.of_session(client_id, |session| {
            let queue = BridgeQueue {
                messages: session.queued(),
                bytes: session.queued_bytes(),
                head: session.head(),
                next: session.next_sequence(),
                overflowed: 0,
            };
            (Some(session.id()), queue)
        });
        let subscriber = id.and_then(|id| self.broker.session(self.broker.store.shard_of(client_id), id));
        if let Some(keeping) = subscriber.as_ref().and_then(|subscriber| subscriber.keeping()) {
            queue.overflowed = keeping.overflowed.load(Ordering::Relaxed);
        }
        queue
    }

    /// The filters of a bridge's session whose retained messages have still to be sent.
    #[must_use]
    pub fn bridge_replays(&self, client_id: &str) -> Vec<String> {
        self.of_session(client_id, |session| {
            let unsent = session.subscriptions().filter(|(_, of)| of.replay.is_some());
            unsent.map(|(filter, _)| filter.to_string()).collect()
        })
    }

    /// The QoS 2 messages that came in for a bridge's session and were not released.
    #[must_use]
    pub fn bridge_inbound(&self, client_id: &str) -> Vec<u16> {
        self.of_session(client_id, |session| session.inbound().to_vec())
    }

    /// What `look` finds in the session of `client_id`; nothing if there is none.
    fn of_session<T: Default>(&self, client_id: &str, look: impl FnOnce(&Session) -> T) -> T {
        let store = &self.broker.store;
        store.lock(store.shard_of(client_id)).client(client_id).map(look).unwrap_or_default()
    }
}

impl Broker {
    /// Keeps the queue of a bridge of our own as that wants it.
    pub(super) fn keep_bridge(&self, subscriber: &Subscriber) {
        if !is_bridge(&subscriber.client_id) {
            return;
        }
        if let Some((max_age, queue_qos0)) = self.expected_bridges.lock().get(&subscriber.client_id) {
            subscriber.keep_as(*max_age, *queue_qos0);
        }
    }

    /// Brings the subscriptions of a session that nobody is connected to into line with `wanted`: the ops for it. What is
    /// retained under a new filter is sent when a connection comes.
    fn resubscribe(
        &self,
        shard: ShardId,
        session: SessionId,
        subscriber: &Arc<Subscriber>,
        wanted: &[(String, SubscriptionOptions)],
    ) -> Vec<(ShardId, Op)> {
        let mut known: HashMap<Arc<str>, SubscriptionOptions> = {
            let store = self.store.lock(shard);
            let subscriptions = store.session(session).into_iter().flat_map(|session| session.subscriptions());
            subscriptions.map(|(filter, of)| (Arc::clone(filter), of.options)).collect()
        };
        let mut subscriptions = Vec::new();
        for (filter, options) in wanted {
            let options = SubscriptionOptions { retain_handling: RetainHandling::Never, ..*options };
            let before = known.remove(filter.as_str());
            // The route may be missing even where the subscription is there: a session that was forgotten and made anew.
            let filter: Arc<str> = filter.as_str().into();
            self.add_route(subscriber, &filter, options);
            let same = |known: SubscriptionOptions| {
                let known = SubscriptionOptions { retain_handling: options.retain_handling, ..known };
                known == options
            };
            if !before.is_some_and(same) {
                subscriptions.push(Subscription { filter, options, replay: before.is_none() });
            }
        }
        let mut ops = Vec::new();
        if !subscriptions.is_empty() {
            ops.push((shard, Op::Subscribe { session, subscriptions, now: self.clock.now() }));
        }
        let removed: Vec<Arc<str>> = known.into_keys().collect();
        removed.iter().for_each(|filter| self.remove_route(subscriber, filter));
        if !removed.is_empty() {
            ops.push((shard, Op::Unsubscribe { session, filters: removed }));
        }
        ops
    }
}

impl Subscriber {
    fn keep_as(&self, max_age: u64, queue_qos0: bool) {
        let keeping = self.keeping_or_default();
        self.set_link(true);
        keeping.max_age.store(max_age, Ordering::Relaxed);
        keeping.qos0.store(queue_qos0.into(), Ordering::Relaxed);
    }
}

/// The user property that tells when a message that waits for a bridge expires by itself, in milliseconds of wall-clock
/// time, or nothing if it does not: what it expires at in the queue is its age there. The bridge takes it off again.
pub const AGED_PROPERTY: &str = "nightjar-expires";

/// `message` as it is kept where it is too old at `too_old`.
pub(crate) fn aged(message: &Arc<Message>, too_old: Wall) -> Arc<Message> {
    if message.expires.is_some_and(|expires| expires <= too_old) {
        return Arc::clone(message);
    }
    let own = message.expires.map(|expires| expires.0.to_string()).unwrap_or_default();
    let mut properties = message.properties().to_vec();
    append_user(AGED_PROPERTY, &own, &mut properties);
    let mut aged = Message::new(message.topic(), &properties, message.payload());
    (aged.qos, aged.retain, aged.expires) = (message.qos, message.retain, Some(too_old));
    Arc::new(aged)
}
