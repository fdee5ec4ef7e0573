//! What each packet of a client leads to.

use super::access::{DeniedPublish, MayPublish};
use super::connection::{Ack, Connection, End};
use super::loops::Passage;
use super::ports::Publication;
use super::publish::{Outcome, Route};
use super::sending::Pending;
use super::source::Source;
use super::{stats, trace};
use nightjar_base::ShardId;
use nightjar_mqtt::{
    Disconnect, Frame, Message, Packet, PacketType, PublishRef, QoS, ReasonCode, Version, decode, decode_publish, topic,
};
use nightjar_session::{Acked, Arrival, Violation};
use nightjar_shard::{Op, Origin};
use std::sync::Arc;

impl From<Violation> for End {
    fn from(violation: Violation) -> Self {
        match violation {
            Violation::ReceiveMaximum => {
                Self::Violation(ReasonCode::ReceiveMaximumExceeded, "more under way than the receive maximum")
            }
            Violation::AliasInvalid => Self::Violation(ReasonCode::TopicAliasInvalid, "topic alias out of range"),
            Violation::AliasUnknown => Self::Violation(ReasonCode::ProtocolError, "topic alias that was never set"),
        }
    }
}

impl From<nightjar_mqtt::DecodeError> for End {
    fn from(error: nightjar_mqtt::DecodeError) -> Self {
        Self::Decode(error)
    }
}

impl Connection {
    /// Handles one packet. What it leads to is gathered and leaves at the end of the read.
    pub(crate) fn handle(&mut self, frame: &Frame<'_>) -> Result<(), End> {
        if trace::on() {
            trace::received(self.now, &self.peer, frame);
        }
        if frame.kind == PacketType::Publish {
            let publish = decode_publish(frame, self.peer.version)?;
            return self.publish(&publish);
        }
        if frame.kind == PacketType::PingReq && frame.body.is_empty() {
            return self.pong();
        }
        // Whether the rest of them is well-formed is no question: by their type they are a protocol error.
        match frame.kind {
            PacketType::Connect => return Err(protocol("a second CONNECT [MQTT-3.1.0-2]")),
            PacketType::ConnAck | PacketType::SubAck | PacketType::UnsubAck | PacketType::PingResp => {
                return Err(protocol("a packet that only a server may send"));
            }
            _ => {}
        }
        match decode(frame, self.peer.version)? {
            Packet::PubAck(ack) => self.acked(|state| state.out.puback(ack.packet_id)),
            Packet::PubRec(ack) => self.pubrec(ack.packet_id, ack.reason),
            Packet::PubRel(ack) => self.pubrel(ack.packet_id),
            Packet::PubComp(ack) => self.acked(|state| state.out.pubcomp(ack.packet_id)),
            Packet::Subscribe(subscribe) => self.subscribe(&subscribe),
            Packet::Unsubscribe(unsubscribe) => self.unsubscribe(&unsubscribe),
            Packet::Disconnect(disconnect) => Err(self.disconnect(&disconnect)),
            Packet::Auth(auth) => self.auth(&auth),
            // Answered or refused above; PINGREQ with a body, and whatever else is malformed, by the decoder.
            _ => Err(protocol("a packet out of place")),
        }
    }

    /// PINGRESP, which waits for nothing.
    fn pong(&self) -> Result<(), End> {
        let mut state = self.peer.lock();
        state.packet(&[0xd0, 0]);
        self.peer.schedule(&mut state);
        Ok(())
    }

    fn publish(&mut self, publish: &PublishRef<'_>) -> Result<(), End> {
        self.peer.count_received();
        stats::add(|s| &s.publish_received, 1);
        stats::add(|s| &s.publish_bytes_received, publish.payload.len() as u64);
        if let Some(throttle) = &mut self.throttle {
            throttle.note(publish.payload.len());
        }
        self.check_publish(publish)?;
        let route = self.resolve(publish)?;
        if publish.qos == QoS::ExactlyOnce {
            let arrival = self.inbound.exactly_once(publish.packet_id);
            self.check_quota(0)?;
            if arrival == Arrival::Repeat && !self.makes_again(publish.packet_id) {
                // Behind whatever still waits for the first one's durability.
                return self.acknowledge(PacketType::PubRec, publish.packet_id, ReasonCode::Success, false);
            }
        }
        let before = self.ops.len();
        let mut passage = Passage::Plain;
        let cut_off = publish.qos > QoS::AtMostOnce && self.broker.is_cut_off();
        let reason = if cut_off {
            if self.peer.version != Version::V5 {
                return Err(End::Violation(
                    ReasonCode::ServerUnavailable,
                    "this node cannot reach the rest of the cluster",
                ));
            }
            ReasonCode::ImplementationSpecificError
        } else if route.reserved || !route.may_publish.allows(publish.qos, publish.retain) {
            self.denied()?
        } else {
            if self.is_link || route.linked {
                passage = self.pass_guard(publish, &route);
            }
            self.accept(publish, &route, &passage)?
        };
        if trace::on() {
            trace::routed(self.now, &self.peer, &route.topic, publish, reason, route.receivers());
        }
        if reason == ReasonCode::QuotaExceeded && self.peer.version != Version::V5 {
            // Before v5 an acknowledgement can only say that the message was taken.
            return Err(End::Violation(reason, "a queue or store that must take it is full"));
        }
        // What came here before is acknowledged when it is durable, as it was then.
        let durable = self.ops.len() > before || self.waits_for.is_some() || matches!(passage, Passage::Known);
        match publish.qos {
            QoS::AtMostOnce => Ok(()),
            QoS::AtLeastOnce => {
                self.acknowledge(PacketType::PubAck, publish.packet_id, reason, durable)?;
                self.check_quota(1)
            }
            QoS::ExactlyOnce => self.received(publish.packet_id, reason, durable),
        }
    }

    /// The client has no right to publish this.
    fn denied(&self) -> Result<ReasonCode, End> {
        stats::add(|s| &s.denied_publish, 1);
        let disconnects = self.broker.access.load().denied_publish == DeniedPublish::Disconnect;
        if self.peer.version != Version::V5 && disconnects {
            return Err(End::Violation(ReasonCode::NotAuthorized, "published what it may not"));
        }
        Ok(ReasonCode::NotAuthorized)
    }

    /// What the settings do not allow, each with its reason code.
    fn check_publish(&self, publish: &PublishRef<'_>) -> Result<(), End> {
        let limits = &self.limits;
        if publish.qos > limits.max_qos {
            return Err(End::Violation(ReasonCode::QoSNotSupported, "QoS above the maximum [MQTT-3.2.2-11]"));
        }
        if publish.retain && !limits.retain_available {
            return Err(End::Violation(ReasonCode::RetainNotSupported, "retain is turned off [MQTT-3.2.2-14]"));
        }
        // The stamp of a bridge is nobody's property.
        if publish.properties.user_properties > limits.max_user_properties.saturating_add(self.is_link.into()) {
            return Err(End::Violation(ReasonCode::ImplementationSpecificError, "too many user properties"));
        }
        Ok(())
    }

    /// The route of the message's topic, by name or by alias.
    fn resolve(&mut self, publish: &PublishRef<'_>) -> Result<Arc<Route>, End> {
        if publish.retain {
            // So that `accept` can tell whether the route still stands; others keep the one of the read's begin.
            self.see_epoch();
        }
        let Some(alias) = publish.properties.topic_alias else { return self.route_of(publish.topic) };
        if publish.topic.is_empty() {
            let topic = self.inbound.alias(alias)?;
            return self.route_of(topic.as_bytes());
        }
        let route = self.route_of(publish.topic)?;
        self.inbound.set_alias(alias, &route.topic)?;
        Ok(route)
    }

    #[inline]
    fn route_of(&mut self, bytes: &[u8]) -> Result<Arc<Route>, End> {
        if let Some(route) = self.routes.get(bytes) {
            return Ok(route);
        }
        let name = topic::validate_name(bytes)?;
        if !self.limits.takes_topic(name) {
            return Err(End::Violation(ReasonCode::TopicNameInvalid, "topic too long or too deep"));
        }
        let mut route = self.broker.route(name, self.subscriber.id);
        route.may_publish = MayPublish::of(&self.subscriber.rights(), name);
        let route = Arc::new(route);
        self.routes.insert(&route);
        Ok(route)
    }

    /// Routes a message that is accepted.
    fn accept(&mut self, publish: &PublishRef<'_>, route: &Arc<Route>, passage: &Passage) -> Result<ReasonCode, End> {
        if matches!(passage, Passage::Known) {
            return Ok(ReasonCode::Success);
        }
        let broker = &*self.broker;
        if publish.properties.payload_is_utf8 && std::str::from_utf8(publish.payload).is_err() {
            return match publish.qos {
                // A bridge is not to suffer for a client of the remote's.
                QoS::AtMostOnce if self.is_link => Ok(ReasonCode::PayloadFormatInvalid),
                QoS::AtMostOnce => Err(End::Violation(ReasonCode::PayloadFormatInvalid, "payload is not UTF-8")),
                _ => Ok(ReasonCode::PayloadFormatInvalid),
            };
        }
        if publish.retain && !broker.may_retain(&route.topic, publish.payload.is_empty()) {
            stats::add(|s| &s.refused_quota, 1);
            return Ok(ReasonCode::QuotaExceeded);
        }
        let now = self.now;
        let before = self.ops.len();
        let mut scratch = std::mem::take(&mut self.scratch);
        let outcome = {
            let properties = match passage {
                Passage::Stamped(properties) => properties,
                _ => publish.properties.forwarded(&mut scratch),
            };
            let expiry = publish.properties.message_expiry.map(|seconds| (seconds, now));
            let mut source =
                Source::arrived(&route.topic, properties, publish.payload, publish.qos, publish.retain, expiry);
            source.publication = self.publication(publish, &source);
            let mut route = Arc::clone(route);
            if publish.retain {
                // Submitted first and routed after: whoever subscribes in between finds it among the retained ones.
                let mut retained = Vec::with_capacity(1);
                broker.retain(&source, &mut retained, now);
                self.waits_for = Some(broker.store.submit(&mut retained, None));
                self.fills_store = true;
                if !self.routes.is_current(broker.epoch()) {
                    route = Arc::new(broker.route(&route.topic, self.subscriber.id));
                }
            }
            broker.deliver(&source, &route, &mut self.ops, now)
        };
        if outcome == Outcome::NoSubscribers {
            stats::add(|s| &s.unmatched, 1);
        }
        self.scratch = scratch;
        self.fills_store |= self.ops.len() > before || route.far.is_some();
        Ok(if publish.retain && outcome == Outcome::NoSubscribers { ReasonCode::Success } else { outcome.reason() })
    }

    /// A new QoS 2 message was accepted or refused: PUBREC, when it and its packet identifier are durable.
    fn received(&mut self, packet_id: u16, reason: ReasonCode, mut durable: bool) -> Result<(), End> {
        if reason.is_error() {
            // [MQTT-4.3.3-9]: refused, so the exchange is over.
            self.inbound.release(packet_id);
            return self.acknowledge(PacketType::PubRec, packet_id, reason, false);
        }
        if let Some(of) = self.durable.filter(|of| of.queue) {
            self.note_publication(of, packet_id);
            self.ops.push((of.shard, Op::InboundReceived { session: of.session, packet_id }));
            durable = true;
        }
        self.acknowledge(PacketType::PubRec, packet_id, reason, durable)
    }

    fn pubrel(&mut self, packet_id: u16) -> Result<(), End> {
        let known = self.inbound.release(packet_id);
        let reason = if known { ReasonCode::Success } else { ReasonCode::PacketIdentifierNotFound };
        self.forget_publication(packet_id, known);
        if let (Some(durable), true) = (self.durable.filter(|durable| durable.queue), known) {
            self.ops.push((durable.shard, Op::InboundReleased { session: durable.session, packet_id }));
            return self.acknowledge(PacketType::PubComp, packet_id, reason, true);
        }
        let durable = !self.ops.is_empty() && self.broker.others.is_some();
        self.acknowledge(PacketType::PubComp, packet_id, reason, durable)
    }

    /// Whether a QoS 2 message that an earlier connection brought is published once more: of several shards only some may
    /// have it, and those that do know it again.
    fn makes_again(&mut self, packet_id: u16) -> bool {
        self.unsure.as_mut().is_some_and(|unsure| unsure.remove(&packet_id))
    }

    /// Which publication this is, where it may be made again on another node.
    fn publication(&self, publish: &PublishRef<'_>, source: &Source<'_>) -> Option<Publication> {
        self.broker.others.as_ref()?;
        let durable = self.durable.filter(|durable| durable.queue && publish.qos == QoS::ExactlyOnce)?;
        let place = (durable.shard, durable.session);
        Some(Publication::new(place, publish.packet_id.into(), source.message(), publish.dup))
    }

    /// The session's own shard knows of the publication, too, if only by its origin: so that whoever takes the session up
    /// can tell that it was made in a cluster.
    fn note_publication(&mut self, of: super::connection::Durable, packet_id: u16) {
        let origin = Origin { session: (of.shard, of.session), token: packet_id.into() };
        let noted = |op: &(ShardId, Op)| {
            op.0 == of.shard && matches!(&op.1, Op::EnqueueFrom { origin: noted, .. } if *noted == origin)
        };
        if self.broker.others.is_some() && !self.ops.iter().rev().any(noted) {
            let message = Arc::new(Message::new("", &[], &[]));
            let (targets, variants) = (Vec::new(), Box::default());
            // Of no message: one that does have receivers here is another one.
            let note = Op::EnqueueFrom { origin, digest: 0, message, targets, variants, now: self.now };
            self.ops.push((of.shard, note));
        }
    }

    /// A QoS 2 message is complete: its identifier stands for another one from now on.
    fn forget_publication(&mut self, packet_id: u16, known: bool) {
        let Some(durable) = self.durable.filter(|durable| durable.queue && self.broker.others.is_some()) else {
            return;
        };
        // Of one that this connection brought, all that was made is in this node's store.
        let unsure = self.makes_again(packet_id) || !known;
        let session = (durable.shard, durable.session);
        for shard in (0..self.broker.store.shard_count()).map(ShardId) {
            if unsure || self.broker.store.lock(shard).has_publisher(session) {
                self.ops.push((shard, Op::ForgetOrigins { session, tokens: vec![packet_id.into()] }));
            }
        }
    }

    fn acknowledge(&mut self, kind: PacketType, packet_id: u16, reason: ReasonCode, durable: bool) -> Result<(), End> {
        self.acks.push(Ack { durable, pending: Pending::Ack { kind, packet_id, reason } });
        Ok(())
    }

    /// Ends the connection if the client has more under way than it was allowed. `more` of it is in this read.
    fn check_quota(&self, more: usize) -> Result<(), End> {
        if self.peer.version != Version::V5 {
            return Ok(());
        }
        let in_this_read = self.acks.len();
        if self.inbound.held() + in_this_read < usize::from(self.limits.receive_maximum) {
            // Most reads bring less than the quota: what earlier ones left behind need not be counted.
            if self.limits.receive_maximum > 256 {
                return Ok(());
            }
        }
        let pending = self.peer.lock().pending_pubacks();
        let here = if more == 0 { 0 } else { self.pubacks_in_this_read() };
        Ok(self.inbound.check_quota(pending + here, self.peer.about.door.strict)?)
    }

    fn pubacks_in_this_read(&self) -> usize {
        let is_durable_puback =
            |ack: &&Ack| ack.durable && matches!(ack.pending, Pending::Ack { kind: PacketType::PubAck, .. });
        self.acks.iter().filter(is_durable_puback).count()
    }

    /// PUBACK or PUBCOMP of the client.
    fn acked(&mut self, ack: impl FnOnce(&mut super::sending::State) -> Acked) -> Result<(), End> {
        let acked = {
            let mut state = self.peer.lock();
            let acked = ack(&mut state);
            if let Acked::Complete(sequence) = acked {
                state.shared_done(sequence);
            }
            acked
        };
        self.follow(acked)
    }

    fn pubrec(&mut self, packet_id: u16, reason: ReasonCode) -> Result<(), End> {
        let mut state = self.peer.lock();
        if reason.is_error() {
            let acked = state.out.pubrec_refused(packet_id);
            if let Acked::Complete(sequence) = acked {
                state.shared_done(sequence);
            }
            drop(state);
            return self.follow(acked);
        }
        let acked = state.out.pubrec(packet_id);
        let durable = state.session.is_some();
        match acked {
            Acked::Received(sequence) if !durable => {
                state.shared_done(sequence);
                if let Some(packet_id) = state.out.released(sequence) {
                    state.acknowledge(PacketType::PubRel, packet_id, ReasonCode::Success);
                }
            }
            Acked::Again(_) => state.acknowledge(PacketType::PubRel, packet_id, ReasonCode::Success),
            Acked::Unknown => {
                // [MQTT-4.3.3-4] asks for PUBREL; with v5 the client also learns that the identifier is unknown.
                let reason = ReasonCode::PacketIdentifierNotFound;
                state.acknowledge(PacketType::PubRel, packet_id, reason);
            }
            _ => {}
        }
        self.peer.schedule(&mut state);
        drop(state);
        self.follow(acked)
    }

    /// Makes durable what an acknowledgement of the client means, and uses the room that it made.
    fn follow(&mut self, acked: Acked) -> Result<(), End> {
        match (acked, self.durable.filter(|durable| durable.queue)) {
            (Acked::Complete(sequence), Some(durable)) => {
                self.note_sequence(durable, sequence, false);
                self.opened = true;
            }
            (Acked::Complete(_), None) => self.opened = true,
            (Acked::Received(sequence), Some(durable)) => self.note_sequence(durable, sequence, true),
            (Acked::Misplaced, _) => return Err(protocol("an acknowledgement that belongs to another QoS")),
            _ => {}
        }
        Ok(())
    }

    /// Adds `sequence` to the last op, if that is of the same kind: one op for all acknowledgements in a row.
    fn note_sequence(&mut self, durable: super::connection::Durable, sequence: u64, received: bool) {
        let session = durable.session;
        match self.ops.last_mut() {
            Some((_, Op::Acknowledge { sequences, session: of })) if !received && *of == session => {
                sequences.push(sequence);
            }
            Some((_, Op::Received { sequences, session: of })) if received && *of == session => {
                sequences.push(sequence);
            }
            _ => {
                let sequences = vec![sequence];
                let op =
                    if received { Op::Received { session, sequences } } else { Op::Acknowledge { session, sequences } };
                self.ops.push((durable.shard, op));
            }
        }
    }

    fn disconnect(&mut self, disconnect: &Disconnect) -> End {
        if let Some(expiry) = disconnect.properties.session_expiry {
            // [MQTT-3.14.2-2]
            if self.connect_expiry == 0 && expiry > 0 {
                return protocol("session expiry interval above 0 after 0 at CONNECT");
            }
            self.expiry = expiry.min(self.limits.max_expiry);
        }
        if disconnect.reason == ReasonCode::DisconnectWithWill { End::WithWill } else { disconnected(disconnect) }
    }
}

/// Any DISCONNECT but 0x00 leaves the will in force [MQTT-3.1.2-10].
fn disconnected(disconnect: &Disconnect) -> End {
    if disconnect.reason == ReasonCode::Success { End::Disconnected } else { End::WithWill }
}

fn protocol(what: &'static str) -> End {
    End::Violation(ReasonCode::ProtocolError, what)
}
