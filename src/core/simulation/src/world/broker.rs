//! What a node's broker holds: connections, subscribers, routes, turns. Mirrors `broker/mod.rs`, `peer.rs`, `subscriber.rs`,
//! `registry.rs` and `moves.rs`, with the real router and the real halves of a connection's protocol state.

use super::Process;
use super::far::Recent;
use super::network::Link;
use super::packet::Packet;
use crate::bugs::Bug;
use nightjar_base::{HomeId, SessionId, ShardId};
use nightjar_mqtt::{Message, QoS, SubscriptionOptions, topic};
use nightjar_router::Router;
use nightjar_session::{Inbound, Outbound};
use nightjar_shard::{Holder, Session};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;
use std::sync::Arc;

/// Who can receive: a session, connected or not, or a transient connection.
pub(crate) struct Subscriber {
    pub(crate) session: Option<(ShardId, SessionId)>,
    pub(crate) filters: BTreeMap<Arc<str>, SubscriptionOptions>,
    /// Its connection here.
    pub(crate) peer: Option<u64>,
    /// The process that has its connection, if it is another.
    pub(crate) elsewhere: Option<HomeId>,
    pub(crate) sent: u64,
}

/// Where a connection is attached.
#[derive(Clone, Copy)]
pub(crate) struct Durable {
    pub(crate) shard: ShardId,
    pub(crate) session: SessionId,
    pub(crate) epoch: u64,
    /// Whether what it does outlives it.
    pub(crate) queue: bool,
}

/// A message that waits until a transient connection has room.
pub(crate) struct Waiting {
    pub(crate) message: Arc<Message>,
    pub(crate) qos: QoS,
    pub(crate) retain: bool,
}

/// A connection.
pub(crate) struct Peer {
    pub(crate) link: Rc<Link>,
    pub(crate) client_id: Arc<str>,
    pub(crate) subscriber: u64,
    pub(crate) durable: Durable,
    pub(crate) expiry: u32,
    pub(crate) inbound: Inbound,
    /// QoS 2 messages of earlier connections that all shards may not have.
    pub(crate) unsure: BTreeSet<u16>,
    pub(crate) out: Outbound,
    /// Acknowledgements, each with the position that it waits for.
    pub(crate) pending: VecDeque<(u64, Packet)>,
    /// The queue holds messages that were not offered yet.
    pub(crate) lagging: bool,
    pub(crate) waiting: VecDeque<Waiting>,
    /// It is to end.
    pub(crate) is_closing: bool,
    /// By what packet identifiers are off, if they are to be wrong.
    pub(crate) shift: u16,
}

impl Peer {
    /// The session that feeds it, if it is persistent.
    pub(crate) fn session(&self) -> Option<(ShardId, SessionId)> {
        self.durable.queue.then_some((self.durable.shard, self.durable.session))
    }
}

/// What an attachment of this node came to.
#[derive(Clone, Copy, Default)]
pub(crate) struct Came {
    pub(crate) present: bool,
    pub(crate) before: Option<Holder>,
}

/// A node's broker.
pub(crate) struct Broker {
    pub(crate) is_ready: bool,
    pub(crate) router: Router<u64>,
    pub(crate) subscribers: BTreeMap<u64, Subscriber>,
    pub(crate) sessions: BTreeMap<(ShardId, SessionId), u64>,
    /// By the numbers of their links.
    pub(crate) peers: BTreeMap<u64, Peer>,
    /// The connection of each client.
    pub(crate) current: BTreeMap<Arc<str>, u64>,
    /// Clients whose turn somebody has.
    pub(crate) turns: BTreeSet<Arc<str>>,
    /// Attachments under way, by epoch.
    pub(crate) moves: BTreeMap<u64, Option<Came>>,
    pub(crate) recent: Recent,
    next_id: u64,
    next_epoch: u64,
}

impl Broker {
    pub(crate) fn new(chance: u64) -> Self {
        Self {
            is_ready: false,
            router: Router::new(),
            subscribers: BTreeMap::new(),
            sessions: BTreeMap::new(),
            peers: BTreeMap::new(),
            current: BTreeMap::new(),
            turns: BTreeSet::new(),
            moves: BTreeMap::new(),
            recent: Recent::default(),
            next_id: 1,
            // No two processes may ever number connections alike.
            next_epoch: chance >> 8 << 8,
        }
    }

    pub(crate) fn new_epoch(&mut self) -> u64 {
        self.next_epoch += 2;
        self.next_epoch
    }

    pub(crate) fn add_subscriber(&mut self, session: Option<(ShardId, SessionId)>) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        let (filters, peer, elsewhere) = (BTreeMap::new(), None, None);
        let subscriber = Subscriber { session, filters, peer, elsewhere, sent: 0 };
        self.subscribers.insert(id, subscriber);
        id
    }

    /// The subscriber of a persistent session; made if there is none yet.
    pub(crate) fn add_session(&mut self, place: (ShardId, SessionId)) -> u64 {
        if let Some(id) = self.sessions.get(&place) {
            return *id;
        }
        let id = self.add_subscriber(Some(place));
        self.sessions.insert(place, id);
        id
    }
}

/// A client's turn: nobody else changes its session from outside its connection meanwhile.
pub(crate) struct Claim {
    process: Rc<Process>,
    client_id: Arc<str>,
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.process.broker.borrow_mut().turns.remove(&self.client_id);
        self.process.turns.notify();
    }
}

/// Whether a session may outlive its connection.
pub(crate) fn is_persistent(session: &Session) -> bool {
    session.expiry() > 0 || session.subscription_count() > 0
}

impl Process {
    /// Waits for the client's turn.
    pub(crate) async fn claim(self: &Rc<Self>, client_id: &Arc<str>) -> Claim {
        let is_free = || self.broker.borrow_mut().turns.insert(Arc::clone(client_id));
        self.turns.until(is_free).await;
        Claim { process: Rc::clone(self), client_id: Arc::clone(client_id) }
    }

    pub(crate) fn add_route(&self, subscriber: u64, filter: &str, options: SubscriptionOptions) {
        let Ok(parsed) = topic::parse_filter(filter) else { return };
        let mut broker = self.broker.borrow_mut();
        let is_new = broker.router.subscribe(parsed.filter, parsed.share, subscriber, &subscriber, options);
        let is_transient = broker.subscribers.get(&subscriber).is_some_and(|of| of.session.is_none());
        // Every node routes to persistent sessions by its own store.
        if is_new && is_transient && self.local.borrow_mut().added(filter) {
            self.local_changed.notify();
        }
    }

    pub(crate) fn remove_route(&self, subscriber: u64, filter: &str) {
        let Ok(parsed) = topic::parse_filter(filter) else { return };
        let mut broker = self.broker.borrow_mut();
        let is_transient = broker.subscribers.get(&subscriber).is_some_and(|of| of.session.is_none());
        let is_gone = broker.router.unsubscribe(parsed.filter, parsed.share, subscriber);
        if is_gone && is_transient && self.local.borrow_mut().removed(filter) {
            self.local_changed.notify();
        }
    }

    /// Forgets the subscriber of a session that has ended, and its routes.
    pub(crate) fn remove_session(&self, place: (ShardId, SessionId), filters: &[Arc<str>]) {
        let removed = self.broker.borrow_mut().sessions.remove(&place);
        let Some(id) = removed else { return };
        filters.iter().for_each(|filter| self.remove_route(id, filter));
        // What a connection has subscribed to may not be in the store yet.
        let own = match self.broker.borrow_mut().subscribers.get_mut(&id) {
            Some(subscriber) if !self.has(Bug::LeaveRoutesBehind) => std::mem::take(&mut subscriber.filters),
            _ => BTreeMap::new(),
        };
        own.keys().for_each(|filter| self.remove_route(id, filter));
    }

    /// Makes subscribers of all persistent sessions of a shard.
    pub(crate) fn take_up_sessions(&self, shard: ShardId) {
        let shards = self.shards.borrow();
        for session in shards[usize::from(shard.0)].sessions().filter(|session| is_persistent(session)) {
            let id = {
                let mut broker = self.broker.borrow_mut();
                let id = broker.add_session((shard, session.id()));
                let elsewhere =
                    (session.attached() && session.home() != self.home.get()).then(|| HomeId(session.home()));
                if let Some(subscriber) = broker.subscribers.get_mut(&id) {
                    subscriber.sent = subscriber.sent.max(session.sent());
                    subscriber.elsewhere = elsewhere;
                }
                id
            };
            for (filter, subscribed) in session.subscriptions() {
                self.add_route(id, filter, subscribed.options);
            }
        }
    }

    /// Takes back [`Self::take_up_sessions`]. Whose session it was must come again.
    pub(crate) fn forget_sessions(self: &Rc<Self>, shard: ShardId) {
        let sessions: Vec<(SessionId, Vec<Arc<str>>)> = {
            let shards = self.shards.borrow();
            let filters = |session: &Session| session.subscriptions().map(|(filter, _)| Arc::clone(filter)).collect();
            shards[usize::from(shard.0)].sessions().map(|session| (session.id(), filters(session))).collect()
        };
        for (session, filters) in sessions {
            let peer = {
                let broker = self.broker.borrow();
                broker.sessions.get(&(shard, session)).and_then(|id| broker.subscribers.get(id)?.peer)
            };
            if let Some(link) = peer {
                self.close(link);
            }
            self.remove_session((shard, session), &filters);
        }
    }
}
