//! PUBACK, PUBREC, PUBREL, PUBCOMP: four packets of one shape (v5 sections 3.4 to 3.7).

use super::reason_code;
use crate::property::{self, UserProperties, id};
use crate::wire::{self, Cursor};
use crate::{DecodeError, PacketType, ReasonCode, Version};

/// A packet that moves the exchange of one message on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ack {
    /// The packet identifier of the PUBLISH.
    pub packet_id: u16,
    /// The outcome; always a success before v5.
    pub reason: ReasonCode,
    /// The v5 properties.
    pub properties: AckProperties,
}

/// The properties of PUBACK, PUBREC, PUBREL, PUBCOMP, SUBACK and UNSUBACK.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AckProperties {
    /// The outcome in words, for people.
    pub reason_string: Option<String>,
    /// User properties.
    pub user_properties: UserProperties,
}

impl AckProperties {
    pub(super) fn decode(block: &[u8]) -> Result<Self, DecodeError> {
        let mut found = Self::default();
        property::walk(block, property::USER_REPEATS, |id, cursor| match id {
            id::REASON_STRING => {
                found.reason_string = Some(cursor.string()?.to_owned());
                Ok(())
            }
            id::USER => property::user(cursor, &mut found.user_properties),
            _ => Err(property::misplaced()),
        })?;
        Ok(found)
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        wire::put_with_length(out, |out| {
            property::put_string(out, id::REASON_STRING, self.reason_string.as_deref());
            property::put_user(out, &self.user_properties);
        });
    }

    fn is_empty(&self) -> bool {
        self.reason_string.is_none() && self.user_properties.is_empty()
    }
}

impl Ack {
    /// An acknowledgement without properties.
    #[must_use]
    pub fn new(packet_id: u16, reason: ReasonCode) -> Self {
        Self { packet_id, reason, properties: AckProperties::default() }
    }

    pub(super) fn decode(kind: PacketType, mut body: Cursor<'_>, version: Version) -> Result<Self, DecodeError> {
        let mut ack = Self::new(body.packet_id("MQTT-2.2.1-5")?, ReasonCode::Success);
        // In v5 reason code and property length may each be left out with all that follows (section 3.4.2.1).
        if version == Version::V5 && !body.is_empty() {
            ack.reason = reason_code(kind, &mut body)?;
            if !body.is_empty() {
                ack.properties = AckProperties::decode(body.properties()?)?;
            }
        }
        body.finish()?;
        Ok(ack)
    }

    pub(super) fn encode(&self, version: Version, out: &mut Vec<u8>) {
        wire::put_u16(out, self.packet_id);
        if version != Version::V5 {
            return;
        }
        let plain = self.properties.is_empty();
        if self.reason != ReasonCode::Success || !plain {
            out.push(self.reason.as_u8());
        }
        if !plain {
            self.properties.encode(out);
        }
    }
}

/// Appends a PUBACK, PUBREC, PUBREL or PUBCOMP without properties: in v5 in its short form if it is a success; before
/// v5 there is no reason.
#[inline]
pub fn encode_ack(kind: PacketType, version: Version, packet_id: u16, reason: ReasonCode, out: &mut Vec<u8>) {
    let first = kind.first_byte();
    let [high, low] = packet_id.to_be_bytes();
    if reason == ReasonCode::Success || version != Version::V5 {
        out.extend_from_slice(&[first, 2, high, low]);
    } else {
        out.extend_from_slice(&[first, 3, high, low, reason.as_u8()]);
    }
}
