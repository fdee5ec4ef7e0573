//! CONNECT: binding a connection to its session.
//!
//! ```text
//!  claim the client id -> old connection told and gone -> Attach durable -> CONNACK -> queue resumes
//! ```
//! A transient session without a will has nothing durable, and waits for nothing.

use super::access::{Access, OtherUser, belongs_to_another};
use super::authenticate::{Authenticated, Renewal};
use super::bridges::{BRIDGE_PROPERTY, is_bridge, is_nightjar};
use super::connection::{Connection, Durable};
use super::handshake::{Opening, Refusal, client_maximum, send_connack};
use super::leave::interval_as_expiry;
use super::limits::Limits;
use super::listener::Door;
use super::loops::is_link;
use super::moves::{Attaching, CUT_OFF, IN_USE, TRIES};
use super::peer::{About, Close, Peer};
use super::people::{Share, Throttle};
use super::publish::RouteCache;
use super::registry::Claim;
use super::replay::Replay;
use super::subscriber::{Filters, Subscriber};
use super::turn::Inbox;
use super::{Broker, feed, stats, trace};
use crate::env::entropy;
use crate::telemetry::escape;
use crate::transport::{Socket, TlsInfo};
use nightjar_base::ClientId;
use nightjar_mqtt::{ConnAck, Connect, Message, Packet, ReasonCode, Version, encode};
use nightjar_policy::Rights;
use nightjar_session::{Inbound, KeepAlive};
use nightjar_shard::{Op, Origin, Session, Shard, Subscribed, Will};
use std::sync::{Arc, Weak};

/// What the store knows of a session at attach.
pub(super) struct Taken {
    durable: Option<Durable>,
    pub(super) present: bool,
    pub(super) subscriber: Arc<Subscriber>,
    pub(super) head: u64,
    inbound: Vec<u16>,
    /// Those of `inbound` that all shards may not have.
    unsure: Vec<u16>,
    filters: Filters,
    replays: Vec<Replay>,
}

/// A client that was let in: all that its connection is made of.
struct Newcomer {
    socket: Socket,
    door: Door,
    tls: Option<TlsInfo>,
    inbox: Arc<Inbox>,
    connect: Box<Connect>,
    rest: Vec<u8>,
    limits: Arc<Limits>,
    access: Arc<Access>,
    authenticated: Authenticated,
    share: Option<Share<Arc<str>>>,
}

impl Newcomer {
    fn owner(&self) -> Option<&Arc<str>> {
        self.authenticated.identity.owner()
    }
}

impl Broker {
    /// Takes a connection from its CONNECT to the point where packets can flow.
    pub(crate) async fn attach(
        self: &Arc<Self>,
        socket: Socket,
        door: Door,
        tls: Option<TlsInfo>,
        inbox: &Arc<Inbox>,
        mut opening: Opening,
    ) -> Result<Connection, Refusal> {
        if self.is_emptying() && !door.at.settings().bridge {
            return Err(self.send_elsewhere(&socket, &opening.connect).await);
        }
        let (limits, access) = (door.at.limits(), self.access.load_full());
        let checked = self.check_connect(&opening.connect, &limits);
        let reserved = is_bridge(&opening.connect.client_id) && !door.at.settings().bridge;
        let checked = match reserved {
            true => Err((ReasonCode::ClientIdentifierNotValid, "client ids that begin so are those of bridges")),
            false => checked,
        };
        if let Err(refused) = checked {
            return Err(refuse(&socket, &opening.connect, refused).await);
        }
        let authenticated = self.authenticate(&access, &socket, &door, tls.as_ref(), &mut opening).await?;
        let Opening { connect, rest } = opening;
        socket.allow_frames(limits.max_packet);
        let share = match self.count_user(&authenticated, &limits) {
            Ok(share) => share,
            Err(refused) => return Err(refuse(&socket, &connect, refused).await),
        };
        let newcomer = Newcomer {
            socket,
            door,
            tls,
            inbox: Arc::clone(inbox),
            connect,
            rest,
            limits,
            access,
            authenticated,
            share,
        };
        self.take_in(newcomer).await
    }

    /// Binds an authenticated client to its session.
    async fn take_in(self: &Arc<Self>, newcomer: Newcomer) -> Result<Connection, Refusal> {
        let connect = &newcomer.connect;
        let assigned = connect.client_id.is_empty();
        let client_id: ClientId = if assigned { generated_id().into() } else { Arc::from(connect.client_id.as_str()) };
        let rights = newcomer.access.rights(&client_id, &newcomer.authenticated.identity);
        if let Some(will) = connect.will.as_ref().filter(|_| newcomer.access.refuses_wills())
            && !rights.publish(&will.topic, will.qos, will.retain)
        {
            stats::add(|s| &s.denied_publish, 1);
            let refused = (ReasonCode::NotAuthorized, "a will that it may not publish");
            return Err(refuse(&newcomer.socket, connect, refused).await);
        }
        let claim = self.registry.claim(&client_id).await;
        if let Err(refused) = self.may_take(&claim, &client_id, &newcomer) {
            return Err(refuse(&newcomer.socket, connect, refused).await);
        }
        if let Some(old) = claim.current() {
            old.close(Close::TakenOver);
            old.wait_gone().await;
        }
        if self.is_stopping() {
            let refused = (ReasonCode::ServerUnavailable, "the broker stops");
            return Err(refuse(&newcomer.socket, connect, refused).await);
        }
        let will = connect.will.as_ref().map(|will| self.keep_will(will));
        let taken = match self.take_session(&newcomer, &client_id, will.clone()).await {
            Ok(taken) => taken,
            Err(refused) => return Err(refuse(&newcomer.socket, connect, refused).await),
        };
        taken.subscriber.belongs_to(&newcomer.authenticated.identity, rights);
        Ok(self.connect(newcomer, &claim, assigned, will, taken))
    }

    /// Whether the newcomer may have what belongs to its client identifier: its session is its user's, and nobody is
    /// thrown out again and again.
    fn may_take(
        &self,
        claim: &Claim<'_>,
        client_id: &ClientId,
        newcomer: &Newcomer,
    ) -> Result<(), (ReasonCode, &'static str)> {
        let current = claim.current();
        let user = newcomer.owner().map(|user| &**user);
        if newcomer.access.other_user == OtherUser::Refuse {
            let stored = {
                let store = self.store.lock(self.store.shard_of(client_id));
                store.client(client_id).and_then(|session| session.user().cloned())
            };
            let online = current.as_ref().and_then(|current| current.about.identity.owner());
            let another = |owner: Option<&Arc<str>>| belongs_to_another(owner.map(|owner| &**owner), user);
            if another(stored.as_ref()) || another(online) {
                stats::add(|s| &s.refused_owner, 1);
                return Err((ReasonCode::NotAuthorized, "the client id belongs to another user"));
            }
        }
        let Some(current) = current else { return Ok(()) };
        if claim.may_take_over(self.limits.load().takeovers_per_minute, self.clock.tick()) {
            return Ok(());
        }
        stats::add(|s| &s.refused_takeover, 1);
        tracing::warn!(
            client = %escape(client_id), address = %newcomer.door.remote, connected = %current.about.door.remote,
            "two clients use one client id: takeovers are refused for a while"
        );
        Err((ReasonCode::ServerBusy, "taken over too often"))
    }

    /// The will as it is kept.
    fn keep_will(&self, will: &nightjar_mqtt::Will) -> Will {
        let mut message = Message::new(&will.topic, &will.properties, &will.payload);
        message.qos = will.qos;
        message.retain = will.retain;
        // [MQTT-3.3.2-6]: the will's expiry interval counts from its publication, see `leave`.
        message.expires = will.message_expiry.map(interval_as_expiry);
        Will { message: Arc::new(message), delay: will.delay }
    }

    /// Finds or makes the session, durably where it may outlive the connection.
    async fn take_session(
        self: &Arc<Self>,
        newcomer: &Newcomer,
        client_id: &ClientId,
        will: Option<Will>,
    ) -> Result<Taken, (ReasonCode, &'static str)> {
        for _ in 0..TRIES {
            if let Some(taken) = self.try_session(newcomer, client_id, will.clone()).await? {
                return Ok(taken);
            }
        }
        Err(IN_USE)
    }

    /// [`Self::take_session`], unless the client's last connection has only just ended, and its will is to be published first:
    /// then it is to be tried again.
    async fn try_session(
        self: &Arc<Self>,
        newcomer: &Newcomer,
        client_id: &ClientId,
        will: Option<Will>,
    ) -> Result<Option<Taken>, (ReasonCode, &'static str)> {
        self.make_ours(client_id).await?;
        let (connect, limits) = (&newcomer.connect, &newcomer.limits);
        let expiry = limits.expiry(connect);
        let shard = self.store.shard_of(client_id);
        let (existing, another) = {
            let store = self.store.lock(shard);
            let existing = store.session_of(client_id);
            let owner = existing.and_then(|id| store.session(id)?.user().cloned());
            (existing, belongs_to_another(owner.as_deref(), newcomer.owner().map(|user| &**user)))
        };
        // Where another user's session may be taken, nothing of it is.
        let clean_start = connect.clean_start || another;
        let resumes = existing.is_some() && !clean_start;
        let mut ops = Vec::new();
        if let Some(session) = existing {
            if !self.old_is_over(resumes).await {
                return Err(CUT_OFF);
            }
            self.settle(shard, session, resumes, &mut ops).await;
        }
        // In a cluster every connection is attached, so that there is one of each client.
        if self.others.is_none() && expiry == 0 && !resumes && will.is_none() {
            if let Some(session) = existing {
                ops.push((shard, Op::End { session }));
                let position = self.store.submit(&mut ops, None);
                self.store.wait(position).await;
            }
            return Ok(Some(self.transient(client_id, None)));
        }
        let epoch = self.new_epoch();
        let (client, user, queue) = (Arc::clone(client_id), newcomer.owner().cloned(), limits.queue);
        let attach = Attaching { client_id: client, user, clean_start, expiry, epoch, will, limits: queue };
        ops.push((shard, self.attach_op(attach)));
        let expected = self.moves.expect(epoch);
        let position = self.store.submit(&mut ops, None);
        let is_applied = self.attached_in_time(position).await;
        let is_ours = |session: &&Session| session.epoch() == epoch;
        if is_applied && expected.came().is_none() && self.store.lock(shard).client(client_id).filter(is_ours).is_none()
        {
            return Ok(None);
        }
        if !(is_applied && self.end_before(expected.came(), client_id).await) {
            self.detach_when_attached(client_id, shard, epoch, position);
            return Err(CUT_OFF);
        }
        let came = expected.came();
        let store = self.store.lock(shard);
        // The claim keeps everybody else on this node from the client's session meanwhile.
        let session = store.client(client_id).filter(is_ours).ok_or(IN_USE)?;
        let id = session.id();
        // What the log says counts: this node's store may have been behind when it was looked at.
        let present = came.map_or(existing == Some(id), |came| came.present);
        let durable = Durable { shard, session: id, epoch, queue: expiry > 0 || present };
        if !durable.queue {
            // Its row is there for its will, and to be found; everything else lives and dies with the connection.
            return Ok(Some(self.transient(client_id, Some(durable))));
        }
        let subscriptions = || session.subscriptions();
        let subscriber = self.add_session(shard, id, client_id, newcomer.owner());
        // Another node may have sent some of its queue.
        subscriber.note_sent(session.sent(), 0);
        Ok(Some(Taken {
            present,
            subscriber,
            head: session.head(),
            inbound: session.inbound().to_vec(),
            unsure: self.unsure(&store, session),
            filters: subscriptions().map(|(filter, of)| (Arc::clone(filter), of.options)).collect(),
            replays: subscriptions().filter_map(|(filter, of)| resumed(filter, of)).collect(),
            durable: Some(durable),
        }))
    }

    /// The QoS 2 messages that an earlier connection of the session brought in a cluster, so that all shards may not have
    /// them. What a node alone has taken it has taken as a whole, and without a note of its origin.
    fn unsure(&self, shard: &Shard, session: &Session) -> Vec<u16> {
        let place = (shard.id(), session.id());
        let noted = |id: &&u16| shard.has_origin(Origin { session: place, token: u64::from(**id) });
        session.inbound().iter().filter(noted).copied().collect()
    }

    fn transient(&self, client_id: &ClientId, durable: Option<Durable>) -> Taken {
        Taken {
            durable,
            present: false,
            subscriber: Arc::new(Subscriber::new(
                self.new_id(),
                Arc::clone(client_id),
                None,
                None,
                Rights::open(),
                false,
            )),
            head: 1,
            inbound: Vec::new(),
            unsure: Vec::new(),
            filters: Filters::default(),
            replays: Vec::new(),
        }
    }

    /// Makes the connection, sends CONNACK, and lets the session's messages follow it [MQTT-3.2.0-1].
    fn connect(
        self: &Arc<Self>,
        newcomer: Newcomer,
        claim: &Claim<'_>,
        assigned: bool,
        will: Option<Will>,
        taken: Taken,
    ) -> Connection {
        let Newcomer { socket, door, tls, inbox, connect, rest, limits, access, authenticated, share } = newcomer;
        let connect = &*connect;
        let version = connect.version;
        let session = taken.durable.as_ref().filter(|durable| durable.queue).map(|d| (d.shard, d.session));
        let mut state = limits.sending_state(connect, &taken, session);
        state.set_rights(&taken.subscriber.rights(), taken.subscriber.certainly_sent());
        let peer_id = taken.subscriber.id;
        let client_id = Arc::clone(&taken.subscriber.client_id);
        // A persistent session's subscriber outlives connections, so each connection gets a number of its own.
        let peer_id = if session.is_some() { self.new_id() } else { peer_id };
        let keep_alive = limits.keep_alive(connect);
        let identity = Arc::clone(&authenticated.identity);
        let about = About {
            door,
            tls: tls.map(Box::new),
            identity,
            keep_alive: keep_alive.unwrap_or(connect.keep_alive),
            clean_start: connect.clean_start,
            present: taken.present,
            expiry: limits.expiry(connect),
            epoch: taken.durable.as_ref().map_or(0, |durable| durable.epoch),
            since: self.clock.now(),
        };
        let peer = Arc::new_cyclic(|peer| {
            state.peer = Weak::clone(peer);
            Peer::new(
                peer_id,
                client_id,
                version,
                about,
                socket,
                inbox,
                Arc::clone(&self.feeder),
                &taken.subscriber,
                state,
            )
        });
        let mut bytes = Vec::new();
        let mut connack = limits.connack(connect, &taken, assigned.then_some(&*peer.client_id), keep_alive);
        connack.properties.authentication_method = authenticated.method.clone();
        if is_nightjar(connect) {
            connack.properties.user_properties.push((BRIDGE_PROPERTY.to_owned(), self.node_id()));
        }
        connack.properties.authentication_data = authenticated.data;
        encode(&Packet::ConnAck(Box::new(connack)), version, &mut bytes);
        {
            let mut state = peer.lock();
            // One that the client does not take cannot be sent [MQTT-3.1.2-24], and without it nothing can follow.
            if state.takes(bytes.len()) {
                state.packet(&bytes);
            } else {
                state.close = Some(Close::TooSmall);
            }
            state.lagging = session.is_some();
            state.replays.extend(taken.replays);
            peer.schedule(&mut state);
        }
        stats::add(|s| &s.connections, 1);
        tracing::info!(
            client = %escape(&peer.client_id), user = %escape(peer.about.identity.user.as_deref().unwrap_or_default()),
            address = %peer.about.door.remote, listener = %peer.about.door.at.name,
            transport = peer.about.door.kind.name(), version = version as u8, clean = connect.clean_start,
            present = taken.present, keep_alive = connect.keep_alive, expiry = peer.about.expiry, "connected"
        );
        if trace::on() {
            trace::connected(self.clock.now(), &peer, taken.present);
        }
        claim.connect(&peer);
        *taken.subscriber.filters() = taken.filters;
        taken.subscriber.connected(Arc::clone(&peer));
        if session.is_some() && !peer.lock().replays.is_empty() {
            // What is retained from here on comes live: a replay that goes on need not find it too.
            let ceilings = Replay::ceilings(self);
            peer.lock().replays.iter_mut().for_each(|replay| replay.asked_at(&ceilings));
        }
        self.catch_up(&peer, &access);
        let unusable = peer.lock().close;
        // The stop may have come while this connection was not yet among those that are told.
        let stopping = self.is_stopping().then_some(Close::ShuttingDown);
        // So may a connection of another node.
        let ours = |of: &Durable| self.others.is_none() || self.has_still(of.shard, of.session, of.epoch);
        let lost = taken.durable.as_ref().is_some_and(|of| !ours(of)).then_some(Close::TakenOver);
        if let Some(close) = unusable.or(stopping).or(lost) {
            peer.close(close);
        }
        if session.is_some() && !taken.subscriber.rights().is_open() {
            // While it was away its rights were not asked for.
            self.routes_changed();
        }
        if session.is_some() {
            feed::feed(self, &peer);
        }
        let now = self.clock.tick();
        let announced = if version == Version::V5 { limits.receive_maximum.into() } else { 65_535 };
        let alias_maximum = if version == Version::V5 { limits.topic_alias_maximum } else { 0 };
        let throttle = Throttle::new(limits.rate, share.as_ref().map(|share| (limits.user_rate, &share.rates)));
        let own = peer.about.door.at.settings().bridge;
        let is_link = own || is_link(connect);
        if is_link {
            self.loops.came(&peer.client_id, taken.subscriber.id, own);
        }
        if taken.subscriber.set_link(is_link) {
            self.routes_changed();
        }
        Connection {
            broker: Arc::clone(self),
            is_link,
            is_flagged: connect.bridge,
            subscriber: taken.subscriber,
            durable: taken.durable,
            expiry: peer.about.expiry,
            connect_expiry: if version == Version::V5 { connect.properties.session_expiry } else { 0 },
            unsure: (!taken.unsure.is_empty()).then(|| Box::new(taken.unsure.into_iter().collect())),
            settles: false,
            inbound: Inbound::new(announced, alias_maximum, taken.inbound),
            routes: RouteCache::default(),
            ops: Vec::new(),
            acks: Vec::new(),
            waits_for: None,
            new_replays: Vec::new(),
            opened: false,
            fills_store: false,
            now: self.clock.now(),
            many: false,
            had_turn: false,
            left: false,
            partial: rest,
            partial_since: None,
            scratch: Vec::new(),
            keep_alive: KeepAlive::new(keep_alive.unwrap_or(connect.keep_alive), now),
            noted: None,
            will,
            peer,
            congested: None,
            limits,
            throttle,
            share: share.map(Box::new),
            credentials_expire: authenticated.identity.expires,
            renewal: authenticated.method.map(|method| Box::new(Renewal::new(method))),
        }
    }
}

/// Tells a client why it is not let in, in the words of its version.
async fn refuse(socket: &Socket, connect: &Connect, (reason, why): (ReasonCode, &'static str)) -> Refusal {
    stats::add(|s| &s.refused_connect, 1);
    send_connack(socket, connect.version, client_maximum(connect), &ConnAck::new(false, reason)).await;
    Refusal::Refused(why)
}

/// The replay of a subscription that an earlier connection did not finish.
fn resumed(filter: &Arc<str>, subscribed: &Subscribed) -> Option<Replay> {
    let after = subscribed.replay.as_ref()?.after().map(Arc::from);
    Some(Replay::resume(Arc::clone(filter), subscribed.options, after, subscribed.since))
}

/// A client identifier for a client that has none: `auto-` and a random UUID, as mosquitto makes them.
fn generated_id() -> String {
    let (high, low) = (entropy::u64(), entropy::u64());
    let bits = |value: u64, shift: u32| (value >> shift) & 0xffff;
    // Version 4, variant 1: nothing but random bits (RFC 9562 section 5.4).
    let (version, variant) = (bits(high, 0) & 0x0fff | 0x4000, bits(low, 48) & 0x3fff | 0x8000);
    let node = low & 0xffff_ffff_ffff;
    format!("auto-{:08x}-{:04x}-{version:04x}-{variant:04x}-{node:012x}", high >> 32, bits(high, 16))
}
