//! From the remote to this broker.

use super::{Broken, Buffers, Event, Splice};
use crate::broker::bridge_of;
use nightjar_mqtt::{
    Delivery, Frame, PacketType, PublishParts, QoS, ReasonCode, Version, decode_publish_from_server, encode_ack,
    encode_publish, frame, publish_size, topic,
};
use nightjar_policy::Way;

impl Splice {
    /// PUBLISH of the remote.
    pub(super) fn publish_in(&mut self, frame: &Frame<'_>, out: &mut Buffers) -> Result<(), Broken> {
        let publish = decode_publish_from_server(frame, self.remote.version).map_err(Broken::Remote)?;
        let name = topic::validate_name(publish.topic).map_err(Broken::Remote)?;
        let Some((number, renamed)) = self.rules.map(Way::In, name) else {
            match bridge_of(name) {
                Some(client_id) => {
                    let (client_id, there) = (client_id.to_owned(), publish.payload == b"1");
                    self.events.push(Event::RemoteBridge { client_id, there });
                }
                // A subscription of a rule that is no more.
                None => self.counts.unmatched.add(1),
            }
            self.note_unwanted(name);
            self.answer(publish.packet_id, publish.qos, out);
            return Ok(());
        };
        let is_echo = |echoes: &mut super::Echoes| echoes.is_echo(name, publish.payload, self.now);
        if self.echoes.as_mut().is_some_and(is_echo) {
            self.counts.echoes.add(1);
            self.answer(publish.packet_id, publish.qos, out);
            return Ok(());
        }
        let retain = publish.retain && self.local.retain && !self.rules.rules()[number].drops_retain();
        let mut scratch = std::mem::take(&mut self.scratch);
        let parts = PublishParts {
            topic: renamed.as_bytes(),
            properties: self.passed_on(Way::In, &publish, &mut scratch),
            payload: publish.payload,
            expiry: publish.properties.message_expiry,
        };
        let delivery = Delivery {
            qos: publish.qos,
            retain,
            dup: publish.dup,
            packet_id: publish.packet_id,
            identifiers: &[],
            alias: None,
        };
        let fits = publish_size(Version::V5, &parts, &delivery) <= self.local.max_packet && renamed.len() <= 65_535;
        if fits {
            encode_publish(Version::V5, &parts, &delivery, &mut out.local);
        }
        self.scratch = scratch;
        if fits {
            self.brought = true;
            self.counts.rules[number].received.add(publish.payload.len());
        } else {
            let (topic, packet_id, qos) = (name.to_owned(), publish.packet_id, publish.qos);
            self.not_taken(topic, packet_id, qos, out);
        }
        Ok(())
    }

    /// The remote sends `name`, which no rule brings in. Where one carries it out, that rule has brought it in before: its
    /// direction was changed while the bridge was not connected, and the session there remembers.
    fn note_unwanted(&mut self, name: &str) {
        let rules = self.rules.rules();
        let brings = |filter: &str| rules.iter().any(|rule| rule.goes(Way::In) && rule.remote_filter() == filter);
        for filter in rules.iter().map(|rule| rule.remote_filter()) {
            if topic::matches(filter, name) && !brings(filter) && self.unwanted.insert(filter.to_owned()) {
                self.events.push(Event::Unwanted(filter.to_owned()));
            }
        }
    }

    /// PUBACK, PUBREC or PUBCOMP of this broker: what it says is durable.
    pub(super) fn answer_in(
        &mut self,
        kind: PacketType,
        packet_id: u16,
        reason: ReasonCode,
        out: &mut Buffers,
    ) -> Result<(), Broken> {
        let mut passed_on = reason;
        if reason.is_error() {
            if may_take_later(reason) {
                // Not acknowledged: the remote keeps it, and sends it again.
                return Err(Broken::LocalBusy(reason));
            }
            self.counts.refused_here.add(1);
            let why = format!("refused here: {reason:?} (0x{:02x})", reason.as_u8());
            self.events.push(Event::NotTaken { topic: String::new(), why });
        } else {
            passed_on = ReasonCode::Success;
        }
        encode_ack(kind, self.remote.version, packet_id, passed_on, &mut out.remote);
        Ok(())
    }

    /// Passes over a packet of the remote's that is too large to be held, at the beginning of `rest`: how many bytes are
    /// done with, which are none while too little of it is there. `None` if it is not too large.
    pub(super) fn pass_over(&mut self, rest: &[u8], out: &mut Buffers) -> Result<Option<usize>, Broken> {
        let Some(size) = frame::needed(rest) else { return Ok(None) };
        // What a mapping may add, and what a remote may say of its own, leaves the decision to the message itself.
        if size <= self.local.max_packet.saturating_add(SLACK) {
            return Ok(None);
        }
        if rest[0] >> 4 != PacketType::Publish as u8 {
            return Err(Broken::Misplaced(PacketType::from_u8(rest[0] >> 4).unwrap_or(PacketType::Connect)));
        }
        let header = rest.iter().skip(1).take_while(|byte| *byte & 0x80 != 0).count() + 2;
        let Some(length) = rest.get(header..header + 2) else { return Ok(Some(0)) };
        let end = header + 2 + usize::from(u16::from_be_bytes([length[0], length[1]]));
        let Some(packet_id) = rest.get(end..end + 2) else { return Ok(Some(0)) };
        let packet_id = u16::from_be_bytes([packet_id[0], packet_id[1]]);
        let topic = String::from_utf8_lossy(&rest[header + 2..end]).into_owned();
        let qos = QoS::from_bits(rest[0] >> 1 & 3).unwrap_or_default();
        self.not_taken(topic, packet_id, qos, out);
        let done = size.min(rest.len());
        self.skip = size - done;
        Ok(Some(done))
    }

    fn not_taken(&mut self, topic: String, packet_id: u16, qos: QoS, out: &mut Buffers) {
        self.counts.too_large_here.add(1);
        self.events.push(Event::NotTaken { topic, why: "it is larger than this broker takes".to_owned() });
        self.answer(packet_id, qos, out);
    }

    /// Acknowledges to the remote what is not for this broker. At QoS 2 PUBREL follows, which this broker answers: it
    /// does not know the identifier, and says so.
    fn answer(&self, packet_id: u16, qos: QoS, out: &mut Buffers) {
        let kind = match qos {
            QoS::AtMostOnce => return,
            QoS::AtLeastOnce => PacketType::PubAck,
            QoS::ExactlyOnce => PacketType::PubRec,
        };
        encode_ack(kind, self.remote.version, packet_id, ReasonCode::Success, &mut out.remote);
    }
}

/// Bytes by which a packet may be larger than what this broker takes, before it is not even looked at.
const SLACK: usize = 128 * 1024;

/// Whether this broker may take later what it refused so.
fn may_take_later(reason: ReasonCode) -> bool {
    matches!(reason, ReasonCode::UnspecifiedError | ReasonCode::ImplementationSpecificError | ReasonCode::QuotaExceeded)
}
