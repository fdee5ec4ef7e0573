//! The broker: connections, and the verbs that join the pure rooms to the store.
//!
//! | file | its story |
//! | --- | --- |
//! | `listen`, `listener`, `handshake`, `authenticate`, `attach`, `connack` | from a socket to a session |
//! | `access`, `people`, `pressure` | who may do what, how much of it, and what is nearly used up |
//! | `connection`, `packets`, `pace` | reading, and what each packet leads to |
//! | `publish`, `durable`, `source` | from a message to all who receive it |
//! | `subscribe`, `replay` | subscriptions and the retained messages that follow them |
//! | `peer`, `sending`, `waiting`, `outbox`, `turn` | what waits to be sent, and who writes it when |
//! | `sink`, `feed` | from the journal to connected sessions, live or from the store |
//! | `leave`, `farewell`, `housekeeping` | the ends: of connections, sessions, wills |
//! | `registry`, `subscriber` | who is connected, who can receive |
//! | `wheel`, `stats`, `sys`, `limits` | time, counters, `$SYS`, bounds |
//! | `ports`, `far`, `moves` | what a cluster does for the broker; connections of other nodes; sessions between nodes |
//! | `emptying` | a node whose clients are to use another one |
//! | `handle` | the client on the inside |
//! | `bridges`, `loops` | the sessions of bridges; what goes around a circle of brokers |
//! | `inspect`, `drops` | what the admin door sees and does |

mod access;
mod attach;
mod authenticate;
mod bridges;
mod connack;
mod connection;
mod drops;
mod durable;
mod emptying;
mod far;
mod farewell;
mod feed;
mod handle;
mod handshake;
mod housekeeping;
pub mod inspect;
mod leave;
mod limits;
mod listen;
mod listener;
mod loops;
mod moves;
mod outbox;
mod pace;
mod packets;
mod peer;
mod people;
mod ports;
mod pressure;
mod publish;
mod registry;
mod replay;
mod sending;
mod sink;
mod source;
mod stats;
mod subscribe;
mod subscriber;
mod sys;
mod trace;
mod turn;
mod waiting;
mod wheel;

pub use access::{Access, DeniedPublish, OtherUser};
pub use bridges::{
    AGED_PROPERTY, BRIDGE_PREFIX, BRIDGE_PROPERTY, BridgeQueue, BridgeSession, Prepared, bridge_of, bridge_state_topic,
};
pub(crate) use far::count_dropped;
pub use handle::Handle;
pub use limits::Limits;
pub use listen::{Adopted, Thread};
pub use listener::{Listener, ListenerSettings};
#[cfg(test)]
pub(crate) use moves::bury_everywhere;
pub use ports::{BoxFuture, Census, Far, Forwarded, Others, Publication};
pub use stats::Totals;
pub use trace::{Event, Lens, Look, look};
pub(crate) use turn::flush as end_turn;

use crate::env::clock::Clock;
use crate::env::entropy;
use crate::store::Store;
use arc_swap::ArcSwap;
use nightjar_base::{ClientId, SessionId, ShardId};
use nightjar_mqtt::{SubscriptionOptions, topic};
use nightjar_router::Router;
use parking_lot::{Mutex, RwLock};
use people::People;
use registry::Registry;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use subscriber::Subscriber;

/// Everything that the connections of one node share.
pub struct Broker {
    pub(crate) store: Store,
    pub(crate) clock: Clock,
    pub(crate) limits: ArcSwap<Limits>,
    pub(crate) access: ArcSwap<Access>,
    pub(crate) pressure: pressure::Pressure,
    pub(crate) addresses: Arc<People<IpAddr>>,
    pub(crate) users: Arc<People<Arc<str>>>,
    pub(crate) router: RwLock<Router<Arc<Subscriber>>>,
    /// Counts changes of the router: who remembers a route looks whether it still stands.
    epoch: AtomicU64,
    pub(crate) registry: Registry,
    pub(crate) loops: loops::Loops,
    /// The subscribers of persistent sessions, by shard.
    sessions: Vec<Mutex<HashMap<SessionId, Arc<Subscriber>>>>,
    next_id: AtomicU64,
    next_epoch: AtomicU64,
    feeder: Arc<feed::Feeder>,
    pub(crate) board: stats::Board,
    pub(crate) sys: sys::Tree,
    /// The other nodes, in a cluster.
    pub(crate) others: Option<Arc<dyn Others>>,
    recent: far::Recent,
    far_turn: AtomicUsize,
    moves: moves::Moves,
    /// Bridges of our own by the client identifiers of their sessions: for how long a message waits, and whether QoS 0 does.
    expected_bridges: Mutex<HashMap<ClientId, (u64, bool)>>,
    emptying: emptying::Emptying,
    stopping: AtomicBool,
    /// Sockets that have not sent CONNECT yet.
    half_open: AtomicUsize,
}

impl Broker {
    /// A broker over `store`, whose sessions and routes are taken up; nothing listens yet.
    #[must_use]
    pub fn new(
        store: Store,
        clock: Clock,
        limits: Limits,
        access: Access,
        others: Option<Arc<dyn Others>>,
    ) -> Arc<Self> {
        let sessions = (0..store.shard_count()).map(|_| Mutex::default()).collect();
        // Epochs grow over restarts too, so that nothing of an earlier process can pass for the present connection.
        // In a cluster nothing but chance keeps those of two processes apart.
        let first_epoch = if others.is_some() { entropy::u64() } else { clock.now().0 << 16 };
        let broker = Arc::new(Self {
            store,
            clock,
            limits: ArcSwap::from_pointee(limits),
            access: ArcSwap::from_pointee(access),
            pressure: pressure::Pressure::default(),
            addresses: Arc::default(),
            users: Arc::default(),
            router: RwLock::new(Router::new()),
            epoch: AtomicU64::new(1),
            registry: Registry::new(),
            loops: loops::Loops::new(first_epoch),
            sessions,
            next_id: AtomicU64::new(1),
            next_epoch: AtomicU64::new(first_epoch),
            feeder: Arc::default(),
            board: stats::Board::default(),
            sys: sys::Tree::default(),
            others,
            recent: far::Recent::default(),
            far_turn: AtomicUsize::new(0),
            moves: moves::Moves::default(),
            expected_bridges: Mutex::default(),
            emptying: emptying::Emptying::default(),
            stopping: AtomicBool::new(false),
            half_open: AtomicUsize::new(0),
        });
        (0..broker.store.shard_count()).for_each(|shard| broker.take_up_sessions(ShardId(shard)));
        broker
    }

    /// Makes subscribers and routes of the sessions that a shard has.
    fn take_up_sessions(&self, shard: ShardId) {
        let store = self.store.lock(shard);
        for session in store.sessions().filter(|session| self.others.is_none() || moves::is_persistent(session)) {
            let subscriber = self.add_session(shard, session.id(), session.client_id(), session.user());
            subscriber.note_sent(self.may_be_sent(session), session.sent());
            self.note_place(&subscriber, session);
            for (filter, subscribed) in session.subscriptions() {
                self.add_route(&subscriber, filter, subscribed.options);
            }
        }
    }

    /// Takes back [`Self::take_up_sessions`]. Whose session it was must come again.
    fn forget_sessions(&self, shard: ShardId) {
        let sessions: Vec<(SessionId, Vec<Arc<str>>)> = {
            let store = self.store.lock(shard);
            let filters = |session: &nightjar_shard::Session| session.subscriptions().map(|(f, _)| f.clone()).collect();
            store.sessions().map(|session| (session.id(), filters(session))).collect()
        };
        for (session, filters) in sessions {
            let subscriber = self.session(shard, session);
            if let Some(peer) = subscriber.and_then(|subscriber| subscriber.peer().clone()) {
                peer.close(peer::Close::StoreFailed);
            }
            self.remove_session(shard, session, &filters);
        }
    }

    /// The subscriber of a persistent session; made if there is none yet.
    pub(crate) fn add_session(
        &self,
        shard: ShardId,
        session: SessionId,
        client_id: &Arc<str>,
        user: Option<&Arc<str>>,
    ) -> Arc<Subscriber> {
        let mut sessions = self.sessions[usize::from(shard.0)].lock();
        let make = || {
            let access = self.access.load();
            let rights = access.rights_of_absent(client_id, user.map(|user| &**user));
            let (place, granted) = (Some((shard, session)), access.auth.may_grant());
            let new = Subscriber::new(self.new_id(), Arc::clone(client_id), place, user.cloned(), rights, granted);
            self.keep_bridge(&new);
            Arc::new(new)
        };
        Arc::clone(sessions.entry(session).or_insert_with(make))
    }

    /// The subscriber of a persistent session.
    pub(crate) fn session(&self, shard: ShardId, session: SessionId) -> Option<Arc<Subscriber>> {
        self.sessions[usize::from(shard.0)].lock().get(&session).cloned()
    }

    /// Forgets the subscriber of a session that has ended, and its routes.
    pub(crate) fn remove_session(&self, shard: ShardId, session: SessionId, filters: &[Arc<str>]) {
        let removed = self.sessions[usize::from(shard.0)].lock().remove(&session);
        if let Some(subscriber) = removed {
            // What its connection has subscribed to may not be in the store yet.
            let own = std::mem::take(&mut *subscriber.filters());
            for filter in filters.iter().chain(own.keys()) {
                self.remove_route(&subscriber, filter);
            }
        }
    }

    /// Routes what matches `filter` (as sent, `$share/…/` included) to `subscriber`.
    pub(crate) fn add_route(&self, subscriber: &Arc<Subscriber>, filter: &str, options: SubscriptionOptions) {
        // Only filters that passed this check are ever stored.
        let Ok(parsed) = topic::parse_filter(filter) else { return };
        let is_new = self.router.write().subscribe(parsed.filter, parsed.share, subscriber.id, subscriber, options);
        self.epoch.fetch_add(1, Ordering::SeqCst);
        // Every node routes to persistent sessions by its own store.
        if let Some(others) = self.others.as_ref().filter(|_| is_new && subscriber.session.is_none()) {
            others.added(filter);
        }
    }

    /// Takes back [`Self::add_route`].
    pub(crate) fn remove_route(&self, subscriber: &Arc<Subscriber>, filter: &str) {
        let Ok(parsed) = topic::parse_filter(filter) else { return };
        if self.router.write().unsubscribe(parsed.filter, parsed.share, subscriber.id) {
            self.epoch.fetch_add(1, Ordering::SeqCst);
            if let Some(others) = self.others.as_ref().filter(|_| subscriber.session.is_none()) {
                others.removed(filter);
            }
        }
    }

    /// Something that routes depend on has changed besides subscriptions.
    pub(crate) fn routes_changed(&self) {
        self.epoch.fetch_add(1, Ordering::SeqCst);
    }

    /// Replaces the limits of the node; those of listeners are replaced with their settings.
    pub fn replace_limits(&self, limits: Limits) {
        self.limits.store(Arc::new(limits));
        self.routes_changed();
    }

    /// The count of changes to the routes.
    #[inline]
    pub(crate) fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::SeqCst)
    }

    /// A number that no subscriber of this process ever had.
    pub(crate) fn new_id(&self) -> u64 {
        self.next_id.fetch_add(1, Ordering::Relaxed)
    }

    /// An epoch for a new connection.
    pub(crate) fn new_epoch(&self) -> u64 {
        self.next_epoch.fetch_add(1, Ordering::Relaxed)
    }

    /// What this broker is called, as one of a cluster or alone: a number that no other broker has.
    pub(crate) fn number(&self) -> u64 {
        self.others.as_ref().map_or(self.store.node(), |others| others.cluster())
    }

    /// The same, as others are told it.
    pub(crate) fn node_id(&self) -> String {
        format!("{:016x}", self.number())
    }

    /// Whether the broker is being stopped.
    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// Tells every client that the broker stops [MQTT-3.1.4-2]-like, and lets no new one in.
    pub fn begin_stop(&self) {
        self.stopping.store(true, Ordering::Release);
        for peer in self.registry.peers() {
            peer.close(peer::Close::ShuttingDown);
        }
    }

    /// Connections now.
    #[must_use]
    pub fn connected(&self) -> usize {
        self.registry.connected()
    }
}

#[cfg(test)]
mod tests {
    /// What an idle connection holds besides its socket: the design allows 2 KiB with all the bookkeeping around it. Eight
    /// bytes of the socket are tokio's: openraft has its scheduler of several threads built in, and a handle says which.
    /// Eight more in each of the two are for what tells sessions of a cluster apart.
    #[test]
    fn an_idle_connection_is_small() {
        assert!(size_of::<super::connection::Connection>() <= 456, "{}", size_of::<super::connection::Connection>());
        assert!(size_of::<super::peer::Peer>() <= 648, "{}", size_of::<super::peer::Peer>());
        assert!(super::listen::task_size() <= 200, "{}", super::listen::task_size());
    }
}
