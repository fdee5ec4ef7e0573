//! From this broker to the remote.

use super::{Broken, Buffers, Event, Splice, Why};
use crate::broker::AGED_PROPERTY;
use nightjar_base::Wall;
use nightjar_mqtt::{
    Delivery, Frame, Message, PacketType, PublishParts, PublishRef, QoS, ReasonCode, Version,
    decode_publish_from_server, encode_ack, encode_publish, publish_size, topic, without_user,
};
use nightjar_policy::Way;
use std::borrow::Cow;

impl Splice {
    /// PUBLISH of this broker.
    pub(super) fn publish_out(&mut self, frame: &Frame<'_>, out: &mut Buffers) -> Result<(), Broken> {
        let publish = decode_publish_from_server(frame, Version::V5).map_err(Broken::Local)?;
        let name = String::from_utf8_lossy(publish.topic);
        let Some((number, renamed)) = self.rules.map(Way::Out, &name) else {
            // It was queued for a rule that is no more.
            self.counts.unmatched.add(1);
            Self::settle(publish.packet_id, publish.qos, out);
            return Ok(());
        };
        let condemned = publish.qos != QoS::AtMostOnce && self.condemned.take() == Some(publish.packet_id);
        // The first message of the connection: if it is another, the condemned one is gone.
        if condemned {
            self.counts.closed_at.add(1);
            self.set_aside(&publish, &name, Why::ClosedAt);
            return Ok(());
        }
        let qos = publish.qos.min(self.remote.max_qos);
        let retain = publish.retain && self.remote.retain && !self.rules.rules()[number].drops_retain();
        let mut scratch = std::mem::take(&mut self.scratch);
        let properties = self.passed_on(Way::Out, &publish, &mut scratch);
        let (properties, expiry) = match publish.properties.user(AGED_PROPERTY) {
            Some(own) => {
                let mut young = Vec::new();
                without_user(properties, AGED_PROPERTY, &mut young);
                (Cow::Owned(young), own.parse().ok().map(|at| left_until(at, self.wall)))
            }
            None => (Cow::Borrowed(properties), publish.properties.message_expiry),
        };
        let parts =
            PublishParts { topic: renamed.as_bytes(), properties: &properties, payload: publish.payload, expiry };
        let delivery = Delivery {
            qos,
            retain,
            dup: publish.dup && qos != QoS::AtMostOnce,
            packet_id: publish.packet_id,
            identifiers: &[],
            alias: None,
        };
        let remote = &self.remote;
        let fits = publish_size(remote.version, &parts, &delivery) <= remote.max_packet
            && renamed.len() <= remote.max_topic_length
            && topic::levels(&renamed).count() <= remote.max_topic_levels;
        if fits {
            encode_publish(remote.version, &parts, &delivery, &mut out.remote);
        }
        drop(properties);
        self.scratch = scratch;
        if !fits {
            self.counts.too_large.add(1);
            self.set_aside(&publish, &name, Why::TooLarge);
            return Ok(());
        }
        self.counts.rules[number].sent.add(publish.payload.len());
        if let Some(echoes) = &mut self.echoes {
            echoes.sent(&renamed, publish.payload, self.now);
        }
        if qos == QoS::AtMostOnce {
            // Nobody will acknowledge what had to be sent at QoS 0.
            Self::settle(publish.packet_id, publish.qos, out);
            return Ok(());
        }
        if qos < publish.qos {
            self.lowered.insert(publish.packet_id);
        }
        self.unacknowledged.push_back(publish.packet_id);
        self.timed.get_or_insert((publish.packet_id, self.now));
        if let Some(copies) = &mut self.copies {
            copies.insert(publish.packet_id, copy(&publish, &name));
        }
        Ok(())
    }

    /// PUBREL of this broker.
    pub(super) fn release_out(&mut self, packet_id: u16, out: &mut Buffers) {
        if self.remote.takes_pubrel {
            encode_ack(PacketType::PubRel, self.remote.version, packet_id, ReasonCode::Success, &mut out.remote);
        } else {
            // What the remote got was of QoS 1, and is over.
            encode_ack(PacketType::PubComp, Version::V5, packet_id, ReasonCode::Success, &mut out.local);
        }
    }

    /// PUBACK or PUBREC of the remote.
    pub(super) fn answer_out(
        &mut self,
        kind: PacketType,
        packet_id: u16,
        reason: ReasonCode,
        out: &mut Buffers,
    ) -> Result<(), Broken> {
        if reason.is_error() && !is_for_good(reason) {
            return Err(Broken::RemoteBusy(reason));
        }
        if let Some(place) = self.unacknowledged.iter().position(|sent| *sent == packet_id) {
            self.unacknowledged.remove(place);
        }
        if let Some((_, sent)) = self.timed.take_if(|(timed, _)| *timed == packet_id) {
            self.round_trip = Some(self.now.since(sent));
        }
        let copy = self.copies.as_mut().and_then(|copies| copies.remove(&packet_id));
        let kind = if self.lowered.remove(&packet_id) { PacketType::PubRec } else { kind };
        let qos = if kind == PacketType::PubRec { QoS::ExactlyOnce } else { QoS::AtLeastOnce };
        if reason.is_error() {
            self.counts.refused.add(1);
            let topic = copy.as_ref().map(|message| message.topic().to_owned()).unwrap_or_default();
            self.events.push(Event::SetAside { packet_id, qos, topic, why: Why::Refused(reason), message: copy });
            return Ok(());
        }
        self.counts.acknowledged.add(1);
        self.acknowledged = true;
        encode_ack(kind, Version::V5, packet_id, ReasonCode::Success, &mut out.local);
        Ok(())
    }

    fn set_aside(&mut self, publish: &PublishRef<'_>, name: &str, why: Why) {
        let message = self.copies.is_some().then(|| copy(publish, name));
        let (packet_id, qos) = (publish.packet_id, publish.qos);
        self.events.push(Event::SetAside { packet_id, qos, topic: name.to_owned(), why, message });
    }
}

/// Seconds from `now` until `at`, in milliseconds of wall-clock time.
fn left_until(at: u64, now: Wall) -> u32 {
    u32::try_from(now.seconds_until(Wall(at))).unwrap_or(u32::MAX)
}

/// The message as it was in this broker.
fn copy(publish: &PublishRef<'_>, name: &str) -> Message {
    let mut scratch = Vec::new();
    let mut message = Message::new(name, publish.properties.forwarded(&mut scratch), publish.payload);
    message.qos = publish.qos;
    message
}

/// Whether the remote will never take a message that it refused so: another try would end alike.
fn is_for_good(reason: ReasonCode) -> bool {
    !matches!(
        reason,
        ReasonCode::UnspecifiedError
            | ReasonCode::ImplementationSpecificError
            | ReasonCode::QuotaExceeded
            | ReasonCode::PacketIdentifierInUse
    )
}
