//! CONNECT: binding a connection to its session.
//!
//! ```text
//!  claim the client id -> old connection told and gone -> Attach durable -> CONNACK -> queue resumes
//! ```
//! A transient session without a will has nothing durable, and waits for nothing.

use super::connection::{Connection, Durable};
use super::handshake::{Opening, Refusal, client_maximum, send_connack};
use super::leave::{interval_as_expiry, publication};
use super::peer::{About, Close, Peer};
use super::publish::RouteCache;
use super::registry::Claim;
use super::replay::Replay;
use super::sending::{SendLimits, State};
use super::subscriber::Subscriber;
use super::turn::Inbox;
use super::{Broker, feed, stats};
use crate::env::entropy;
use crate::env::net::TcpStream;
use crate::telemetry::escape;
use crate::transport::{Kind, Remote};
use nightjar_base::{ClientId, SessionId, ShardId};
use nightjar_mqtt::property::ConnAckProperties;
use nightjar_mqtt::{ConnAck, Connect, Message, Packet, QoS, ReasonCode, SubscriptionOptions, Version, encode};
use nightjar_session::{Aliases, Inbound, KeepAlive, Outbound};
use nightjar_shard::{Op, Subscribed, Will};
use std::collections::HashMap;
use std::sync::Arc;

/// Where a connection came in, and what that door allows.
#[derive(Clone, Debug)]
pub(crate) struct Door {
    pub(crate) listener: Arc<str>,
    pub(crate) strict: bool,
    pub(crate) remote: Remote,
    pub(crate) kind: Kind,
}

/// What the store knows of a session at attach.
struct Taken {
    durable: Option<Durable>,
    present: bool,
    subscriber: Arc<Subscriber>,
    head: u64,
    inbound: Vec<u16>,
    filters: HashMap<Arc<str>, SubscriptionOptions>,
    replays: Vec<Replay>,
}

impl Broker {
    /// Takes a connection from its CONNECT to the point where packets can flow.
    pub(crate) async fn attach(
        self: &Arc<Self>,
        stream: TcpStream,
        door: Door,
        inbox: &Arc<Inbox>,
        opening: Opening,
    ) -> Result<Connection, Refusal> {
        let Opening { connect, rest } = opening;
        if let Err((reason, why)) = self.check_connect(&connect) {
            send_connack(&stream, connect.version, client_maximum(&connect), &ConnAck::new(false, reason)).await;
            return Err(Refusal::Refused(why));
        }
        let assigned = connect.client_id.is_empty();
        let client_id: ClientId = if assigned { generated_id().into() } else { Arc::from(connect.client_id.as_str()) };
        let claim = self.registry.claim(&client_id).await;
        if let Some(old) = claim.current() {
            old.close(Close::TakenOver);
            old.wait_gone().await;
        }
        if self.is_stopping() {
            send_connack(
                &stream,
                connect.version,
                client_maximum(&connect),
                &ConnAck::new(false, ReasonCode::ServerUnavailable),
            )
            .await;
            return Err(Refusal::Refused("the broker stops"));
        }
        let will = connect.will.as_ref().map(|will| self.keep_will(will));
        let taken = self.take_session(&connect, &client_id, will.clone()).await;
        Ok(self.connect(stream, door, inbox, &claim, &connect, rest, assigned, will, taken))
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

    /// The session expiry interval that the connection gets, in seconds.
    fn expiry(&self, connect: &Connect) -> u32 {
        let asked = match connect.version {
            Version::V5 => connect.properties.session_expiry,
            _ if connect.clean_start => 0,
            _ => self.limits.expiry_v3,
        };
        asked.min(self.limits.max_expiry)
    }

    /// Finds or makes the session, durably where it may outlive the connection.
    async fn take_session(self: &Arc<Self>, connect: &Connect, client_id: &ClientId, will: Option<Will>) -> Taken {
        let expiry = self.expiry(connect);
        let shard = self.store.shard_of(client_id);
        let existing = self.store.lock(shard).session_of(client_id);
        let resumes = existing.is_some() && !connect.clean_start;
        let mut ops = Vec::new();
        if let Some(session) = existing {
            if !resumes {
                // What the old connection did last must be applied before its session can be settled.
                self.store.wait(self.store.submitted()).await;
            }
            self.settle(shard, session, resumes, &mut ops).await;
        }
        if expiry == 0 && !resumes && will.is_none() {
            if let Some(session) = existing {
                ops.push((shard, Op::End { session }));
                let position = self.store.submit(&mut ops, None);
                self.store.wait(position).await;
            }
            return self.transient(client_id, None);
        }
        let epoch = self.new_epoch();
        let attach = Op::Attach {
            client_id: Arc::clone(client_id),
            user: None,
            clean_start: connect.clean_start,
            expiry,
            epoch,
            will,
            limits: self.limits.queue,
            now: self.clock.now(),
        };
        ops.push((shard, attach));
        let position = self.store.submit(&mut ops, None);
        self.store.wait(position).await;
        let store = self.store.lock(shard);
        // Applied: the claim keeps everybody else from this client's session meanwhile.
        let Some(session) = store.session_of(client_id).and_then(|id| store.session(id)) else {
            return self.transient(client_id, None);
        };
        let id = session.id();
        let durable = Durable { shard, session: id, epoch, queue: expiry > 0 || existing == Some(id) };
        if !durable.queue {
            // Its row is there for the will alone; everything else lives and dies with the connection.
            return self.transient(client_id, Some(durable));
        }
        let subscriptions = || session.subscriptions();
        Taken {
            present: existing == Some(id),
            subscriber: self.add_session(shard, id, client_id),
            head: session.head(),
            inbound: session.inbound().to_vec(),
            filters: subscriptions().map(|(filter, of)| (Arc::clone(filter), of.options)).collect(),
            replays: subscriptions().filter_map(|(filter, of)| resumed(filter, of)).collect(),
            durable: Some(durable),
        }
    }

    /// Settles what an earlier connection left behind before its session is resumed or ended: a will that is due is
    /// published, and so is one whose session ends now [MQTT-3.1.3-9]; other members of its groups get what the queue
    /// of an ending session holds of shared subscriptions.
    async fn settle(&self, shard: ShardId, session: SessionId, resumes: bool, ops: &mut Vec<(ShardId, Op)>) {
        if !resumes {
            self.redistribute_queue(shard, session).await;
        }
        let now = self.clock.now();
        let will = {
            let store = self.store.lock(shard);
            let fires = |session: &&nightjar_shard::Session| {
                !session.attached() && (!resumes || session.will_due().is_some_and(|due| due <= now))
            };
            let session = store.session(session).filter(fires);
            session.and_then(|session| Some((Arc::clone(&session.will()?.message), session.epoch())))
        };
        if let Some((will, epoch)) = will {
            self.publish_message(&publication(&will, now), ops, now);
            ops.push((shard, Op::WillDone { session, epoch }));
        }
    }

    fn transient(&self, client_id: &ClientId, durable: Option<Durable>) -> Taken {
        Taken {
            durable,
            present: false,
            subscriber: Arc::new(Subscriber::new(self.new_id(), Arc::clone(client_id), None)),
            head: 1,
            inbound: Vec::new(),
            filters: HashMap::new(),
            replays: Vec::new(),
        }
    }

    /// Makes the connection, sends CONNACK, and lets the session's messages follow it [MQTT-3.2.0-1].
    #[allow(clippy::too_many_arguments, reason = "the parts of a connection meet here, once")]
    fn connect(
        self: &Arc<Self>,
        stream: TcpStream,
        door: Door,
        inbox: &Arc<Inbox>,
        claim: &Claim<'_>,
        connect: &Connect,
        rest: Vec<u8>,
        assigned: bool,
        will: Option<Will>,
        taken: Taken,
    ) -> Connection {
        let version = connect.version;
        let session = taken.durable.as_ref().filter(|durable| durable.queue).map(|d| (d.shard, d.session));
        let state = self.sending_state(connect, &taken, session);
        let peer_id = taken.subscriber.id;
        let client_id = Arc::clone(&taken.subscriber.client_id);
        // A persistent session's subscriber outlives connections, so each connection gets a number of its own.
        let peer_id = if session.is_some() { self.new_id() } else { peer_id };
        let keep_alive = self.keep_alive(connect);
        let about = About {
            door,
            user: None,
            method: "anonymous",
            keep_alive: keep_alive.unwrap_or(connect.keep_alive),
            clean_start: connect.clean_start,
            expiry: self.expiry(connect),
            since: self.clock.now(),
        };
        let peer = Arc::new(Peer::new(
            peer_id,
            client_id,
            version,
            about,
            stream,
            Arc::clone(inbox),
            Arc::clone(&self.feeder),
            state,
        ));
        let mut bytes = Vec::new();
        let connack = self.connack(connect, &taken, assigned.then_some(&*peer.client_id), keep_alive);
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
            client = %escape(&peer.client_id), address = %peer.about.door.remote, listener = %peer.about.door.listener,
            version = version as u8, clean = connect.clean_start, present = taken.present,
            keep_alive = connect.keep_alive, expiry = self.expiry(connect), "connected"
        );
        claim.connect(&peer);
        let unusable = peer.lock().close;
        // The stop may have come while this connection was not yet among those that are told.
        let stopping = self.is_stopping().then_some(Close::ShuttingDown);
        if let Some(close) = unusable.or(stopping) {
            peer.close(close);
        }
        taken.subscriber.connected(Arc::clone(&peer));
        if session.is_some() {
            feed::feed(self, &peer);
        }
        let now = self.clock.tick();
        let announced = if version == Version::V5 { self.limits.receive_maximum.into() } else { 65_535 };
        let alias_maximum = if version == Version::V5 { self.limits.topic_alias_maximum } else { 0 };
        Connection {
            broker: Arc::clone(self),
            subscriber: taken.subscriber,
            durable: taken.durable,
            expiry: self.expiry(connect),
            connect_expiry: if version == Version::V5 { connect.properties.session_expiry } else { 0 },
            inbound: Inbound::new(announced, alias_maximum, taken.inbound),
            filters: taken.filters,
            routes: RouteCache::default(),
            ops: Vec::new(),
            acks: Vec::new(),
            waits_for: None,
            new_replays: Vec::new(),
            opened: false,
            fills_store: false,
            now: self.clock.now(),
            left: false,
            partial: rest,
            partial_since: None,
            scratch: Vec::new(),
            keep_alive: KeepAlive::new(keep_alive.unwrap_or(connect.keep_alive), now),
            noted: None,
            will,
            peer,
            congested: None,
        }
    }

    fn sending_state(&self, connect: &Connect, taken: &Taken, session: Option<(ShardId, SessionId)>) -> State {
        let receive_maximum = if connect.version == Version::V5 { connect.properties.receive_maximum } else { 65_535 };
        let window = receive_maximum.min(self.limits.max_inflight);
        let out = Outbound::new(window, taken.head, taken.subscriber.sent());
        let limits = SendLimits {
            packet: client_maximum(connect),
            outbox_high: self.limits.outbox_high,
            outbox_max: self.limits.outbox_max,
            waiting: self.limits.waiting,
        };
        // No client before v5 has any.
        let aliases = connect.properties.topic_alias_maximum.min(self.limits.topic_alias_maximum_out);
        let aliases = (aliases > 0).then(|| Aliases::new(aliases));
        State::new(connect.version, out, aliases, limits, session)
    }

    /// The keep alive that the client is told instead of its own [MQTT-3.2.2-21]; clients before v5 cannot be told.
    fn keep_alive(&self, connect: &Connect) -> Option<u16> {
        if connect.version != Version::V5 {
            return None;
        }
        let too_long = |max: u16| (connect.keep_alive == 0 || connect.keep_alive > max).then_some(max);
        self.limits.server_keep_alive.or_else(|| self.limits.max_keep_alive.and_then(too_long))
    }

    fn connack(&self, connect: &Connect, taken: &Taken, assigned: Option<&str>, keep_alive: Option<u16>) -> ConnAck {
        let mut connack = ConnAck::new(taken.present, ReasonCode::Success);
        if connect.version != Version::V5 {
            return connack;
        }
        let limits = &self.limits;
        let expiry = self.expiry(connect);
        connack.properties = ConnAckProperties {
            session_expiry: (expiry != connect.properties.session_expiry).then_some(expiry),
            receive_maximum: (limits.receive_maximum != u16::MAX).then_some(limits.receive_maximum),
            maximum_qos: (limits.max_qos < QoS::ExactlyOnce).then_some(limits.max_qos),
            retain_available: (!limits.retain_available).then_some(false),
            // Some clients refuse what is above the largest remaining length; unlimited is said by silence.
            maximum_packet_size: u32::try_from(limits.max_packet).ok().filter(|size| *size < 268_435_455),
            assigned_client_id: assigned.map(str::to_owned),
            topic_alias_maximum: (limits.topic_alias_maximum > 0).then_some(limits.topic_alias_maximum),
            server_keep_alive: keep_alive,
            // [MQTT-3.1.2-28]: only to a client that asks.
            response_information: limits
                .response_information
                .as_ref()
                .filter(|_| connect.properties.request_response_information)
                .map(|prefix| prefix.replace("%c", &taken.subscriber.client_id)),
            ..ConnAckProperties::default()
        };
        connack
    }
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
