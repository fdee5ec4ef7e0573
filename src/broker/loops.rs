//! Messages that bridges bring, and those that go to bridges: stamped, and taken once.
//!
//! Who publishes here what a bridge will carry away gets a stamp on it; what a bridge brings is looked at. A *link* is a
//! bridge's connection: of our own, or of another broker's that says what it is, by the flag of bridges before MQTT 5 or
//! a user property from then on.

use super::bridges::{bridge_of, is_nightjar};
use super::connection::Connection;
use super::publish::{Route, is_reserved};
use super::subscriber::Subscriber;
use super::{Broker, Handle, stats};
use crate::telemetry::escape;
use nightjar_base::{ClientId, Tick};
use nightjar_mqtt::property::append_user;
use nightjar_mqtt::{Connect, Message, PublishRef, without_user};
use nightjar_policy::{Bringer, LoopGuard, Stamp};
use nightjar_router::{Plan, Receiver};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// The user property that carries a stamp.
pub(crate) const STAMP_PROPERTY: &str = "nightjar-stamp";

/// For how many milliseconds a message is known by its content, and how many bridges it may pass, where no bridge of ours
/// says otherwise.
const WINDOW: u64 = 10_000;
const HOPS: u8 = 8;

/// Two links to one broker: a bridge of our own to it, and one of its own to us.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Twins {
    /// The client identifier here of our bridge.
    ours: ClientId,
    /// That of theirs.
    theirs: ClientId,
}

/// What the node remembers of what links brought.
pub(crate) struct Loops {
    guard: Mutex<LoopGuard>,
    twins: Mutex<Vec<Twins>>,
    /// How many there are, to be asked without a lock.
    has_twins: AtomicUsize,
    /// Bridges of our own.
    own: AtomicUsize,
    /// Connections of bridges of others.
    incoming: AtomicUsize,
    /// Milliseconds; 0 for not at all.
    window: AtomicU64,
    hops: AtomicU64,
    next: AtomicU64,
    /// Connected links by client identifier, with the numbers of their subscribers.
    link_ids: Mutex<HashMap<ClientId, u64>>,
}

/// What became of a message at the guard.
pub(crate) enum Passage {
    /// It goes on as it is.
    Plain,
    /// It goes on with these properties.
    Stamped(Vec<u8>),
    /// It was here before.
    Known,
}

impl Loops {
    /// Nothing is remembered yet. `first` grows over restarts.
    pub(crate) fn new(first: u64) -> Self {
        Self {
            guard: Mutex::default(),
            twins: Mutex::default(),
            has_twins: AtomicUsize::new(0),
            own: AtomicUsize::new(0),
            incoming: AtomicUsize::new(0),
            window: AtomicU64::new(WINDOW),
            hops: AtomicU64::new(HOPS.into()),
            next: AtomicU64::new(first),
            link_ids: Mutex::default(),
        }
    }

    /// There are so many bridges of our own, and they want it so.
    pub(crate) fn set(&self, bridges: usize, window: u64, hops: u8) {
        self.own.store(bridges, Ordering::Relaxed);
        self.window.store(if bridges == 0 { WINDOW } else { window }, Ordering::Relaxed);
        self.hops.store(if bridges == 0 { HOPS } else { hops }.into(), Ordering::Relaxed);
    }

    /// A bridge came, or left: one of our own, or another broker's.
    pub(crate) fn came(&self, client_id: &ClientId, subscriber: u64, own: bool) {
        self.link_ids.lock().insert(Arc::clone(client_id), subscriber);
        if !own {
            self.incoming.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn left(&self, client_id: &ClientId, subscriber: u64, own: bool) {
        let mut ids = self.link_ids.lock();
        if ids.get(client_id) == Some(&subscriber) {
            ids.remove(client_id);
            // Whoever is left carries everything again.
            let mut twins = self.twins.lock();
            twins.retain(|twins| twins.ours != *client_id && twins.theirs != *client_id);
            self.has_twins.store(twins.len(), Ordering::Relaxed);
        }
        if !own {
            self.incoming.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Of two links to one broker, one carries a message there: ours, where its rules do. What came by one does not go
    /// back by the other.
    pub(crate) fn keep_one_way(&self, plan: &mut Plan<Arc<Subscriber>>, publisher: u64) {
        if self.has_twins.load(Ordering::Relaxed) == 0 {
            return;
        }
        for Twins { ours, theirs } in &*self.twins.lock() {
            let is = |receiver: &Receiver<Arc<Subscriber>>, id: &ClientId| receiver.handle.client_id == *id;
            let came_by = |id: &ClientId, links: &HashMap<ClientId, u64>| links.get(id) == Some(&publisher);
            let links = self.link_ids.lock();
            if came_by(theirs, &links) {
                plan.receivers.retain(|receiver| !is(receiver, ours));
            } else if came_by(ours, &links) || plan.receivers.iter().any(|receiver| is(receiver, ours)) {
                plan.receivers.retain(|receiver| !is(receiver, theirs));
            }
        }
    }

    /// Remembers, or forgets, that two links are to one broker; whether that is news.
    fn pair(&self, twins: &Twins, there: bool) -> bool {
        let mut all = self.twins.lock();
        let before = all.len();
        all.retain(|known| known != twins);
        let known = all.len() < before;
        if there {
            all.push(twins.clone());
        }
        self.has_twins.store(all.len(), Ordering::Relaxed);
        known != there
    }

    fn links(&self) -> usize {
        self.own.load(Ordering::Relaxed) + self.incoming.load(Ordering::Relaxed)
    }

    fn window(&self) -> u64 {
        self.window.load(Ordering::Relaxed)
    }

    fn stamp(&self, node: u64, payload: &[u8]) -> Stamp {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        Stamp { node, number, hops: 0, mark: Stamp::mark_of(payload) }
    }

    /// Whether the content says that the message came on another way already. With one link there is no other way.
    fn is_known(&self, content: (&str, &[u8]), by: Bringer, stamped: bool, now: Tick) -> bool {
        let window = self.window();
        if window == 0 || self.links() <= 1 {
            return false;
        }
        let mut guard = self.guard.lock();
        let known = guard.is_known(content, by, stamped, now, window);
        if guard.is_news() {
            tracing::warn!(
                topic = %escape(content.0),
                "messages come by several ways: bridges make a circle; of messages without a stamp that are alike, one is \
                 taken from now on"
            );
        }
        known
    }
}

/// Whether a client that connects so is a bridge of another broker. Mosquitto's has nothing else to say so in MQTT 5, but
/// its will is on the topic of its state.
pub(crate) fn is_link(connect: &Connect) -> bool {
    let tells_state = connect.will.as_ref().is_some_and(|will| bridge_of(&will.topic).is_some());
    connect.bridge || tells_state || is_nightjar(connect)
}

impl Connection {
    /// Looks at a message that a bridge brought, or that goes to one, or that carries a stamp.
    pub(crate) fn pass_guard(&self, publish: &PublishRef<'_>, route: &Route) -> Passage {
        let broker = &*self.broker;
        let (loops, now) = (&broker.loops, broker.clock.tick());
        let (topic, content) = (&*route.topic, (&*route.topic, publish.payload));
        let by = if self.is_link { Bringer::Link(self.subscriber.id) } else { Bringer::Client };
        // Only a bridge is believed, and only for the message that it was put on.
        let carried = if self.is_link { publish.properties.user(STAMP_PROPERTY) } else { None };
        let stamp = carried.and_then(|text| text.parse::<Stamp>().ok());
        let stamp = stamp.filter(|stamp| stamp.mark == Stamp::mark_of(publish.payload));
        let known = match &stamp {
            Some(stamp) => {
                // What this node has published is no news here, whoever brings it.
                stamp.node == broker.number() || u64::from(stamp.hops) >= loops.hops.load(Ordering::Relaxed) || {
                    let (id, window) = (self.subscriber.id, loops.window().max(WINDOW));
                    loops.guard.lock().has_had(stamp, topic, id, now, window)
                }
            }
            None => false,
        };
        // A repetition is no other message.
        let counts = !publish.dup && (self.is_link || route.linked);
        if known || (counts && loops.is_known(content, by, stamp.is_some(), now)) {
            stats::add(|s| &s.dropped_loop, 1);
            return Passage::Known;
        }
        let stamp = match stamp {
            Some(stamp) => Stamp { hops: stamp.hops.saturating_add(1), ..stamp },
            None if route.linked => loops.stamp(broker.number(), publish.payload),
            None => return Passage::Plain,
        };
        let mut properties = Vec::new();
        publish.properties.forwarded_with(STAMP_PROPERTY, &stamp.to_string(), &mut properties);
        Passage::Stamped(properties)
    }
}

impl Handle {
    /// A remote took so many milliseconds to answer.
    pub fn note_round_trip(&self, time: u64) {
        self.broker.loops.guard.lock().note_round_trip(time, self.broker.clock.tick());
    }

    /// The remote of our bridge `ours`, which is at `address`, says that a bridge of its own, by which it may have come
    /// here as `theirs`, is connected or not. It is believed of what came here from its own address.
    pub fn note_twin(&self, ours: &str, theirs: &str, there: bool, address: Option<IpAddr>) {
        let loops = &self.broker.loops;
        let peer = self.broker.registry.find(theirs).filter(|peer| !peer.about.door.at.settings().bridge);
        let same = peer.is_some_and(|peer| address.is_some() && peer.about.door.remote.ip() == address);
        let known = same && loops.link_ids.lock().contains_key(theirs);
        let twins = Twins { ours: ours.into(), theirs: theirs.into() };
        if (known || !there) && loops.pair(&twins, there) {
            if there {
                loops.guard.lock().believe(self.broker.clock.tick());
                tracing::warn!(
                    bridge = ours, client = %escape(theirs),
                    "the remote has a bridge to here too: one of the two would do; ours carries what both could"
                );
            }
            self.broker.routes_changed();
        }
    }
}

impl Broker {
    /// A message from inside (a will, an operator's), stamped if bridges may carry it away.
    pub(crate) fn stamped(&self, message: &Arc<Message>) -> Arc<Message> {
        if self.loops.links() == 0 || is_reserved(message.topic()) {
            return Arc::clone(message);
        }
        let mut properties = Vec::new();
        without_user(message.properties(), STAMP_PROPERTY, &mut properties);
        let stamp = self.loops.stamp(self.number(), message.payload());
        append_user(STAMP_PROPERTY, &stamp.to_string(), &mut properties);
        let mut stamped = Message::new(message.topic(), &properties, message.payload());
        (stamped.qos, stamped.retain, stamped.expires) = (message.qos, message.retain, message.expires);
        Arc::new(stamped)
    }
}
