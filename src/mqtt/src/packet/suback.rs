//! SUBACK and UNSUBACK (v5 sections 3.9 and 3.11).

use super::{AckProperties, reason_code};
use crate::wire::{self, Cursor};
use crate::{DecodeError, PacketType, ReasonCode, Version};

/// The answer to a SUBSCRIBE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubAck {
    /// The packet identifier of the SUBSCRIBE.
    pub packet_id: u16,
    /// The v5 properties.
    pub properties: AckProperties,
    /// One code for each filter, in order [MQTT-3.8.4-6]. Before v5 every failure is written as 0x80.
    pub codes: Vec<ReasonCode>,
}

/// The answer to an UNSUBSCRIBE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnsubAck {
    /// The packet identifier of the UNSUBSCRIBE.
    pub packet_id: u16,
    /// The v5 properties.
    pub properties: AckProperties,
    /// One code for each filter, in order [MQTT-3.11.3-1]; there are none before v5.
    pub codes: Vec<ReasonCode>,
}

impl SubAck {
    pub(super) fn decode(mut body: Cursor<'_>, version: Version) -> Result<Self, DecodeError> {
        let packet_id = body.packet_id("MQTT-2.2.1-6")?;
        let properties = properties(&mut body, version)?;
        let codes = if version == Version::V5 {
            codes(PacketType::SubAck, body)?
        } else {
            body.rest().iter().map(|&code| v3_code(code)).collect::<Result<_, _>>()?
        };
        Ok(Self { packet_id, properties, codes })
    }

    pub(super) fn encode(&self, version: Version, out: &mut Vec<u8>) {
        wire::put_u16(out, self.packet_id);
        if version == Version::V5 {
            self.properties.encode(out);
            out.extend(self.codes.iter().map(|code| code.as_u8()));
        } else {
            // [MQTT-3.9.3-2] of 3.1.1: no other failure code than 0x80.
            out.extend(self.codes.iter().map(|code| if code.is_error() { 0x80 } else { code.as_u8() }));
        }
    }
}

impl UnsubAck {
    pub(super) fn decode(mut body: Cursor<'_>, version: Version) -> Result<Self, DecodeError> {
        let packet_id = body.packet_id("MQTT-2.2.1-6")?;
        let properties = properties(&mut body, version)?;
        let codes = if version == Version::V5 {
            codes(PacketType::UnsubAck, body)?
        } else {
            body.finish()?;
            Vec::new()
        };
        Ok(Self { packet_id, properties, codes })
    }

    pub(super) fn encode(&self, version: Version, out: &mut Vec<u8>) {
        wire::put_u16(out, self.packet_id);
        if version == Version::V5 {
            self.properties.encode(out);
            out.extend(self.codes.iter().map(|code| code.as_u8()));
        }
    }
}

fn properties(body: &mut Cursor<'_>, version: Version) -> Result<AckProperties, DecodeError> {
    if version == Version::V5 { AckProperties::decode(body.properties()?) } else { Ok(AckProperties::default()) }
}

fn codes(kind: PacketType, mut body: Cursor<'_>) -> Result<Vec<ReasonCode>, DecodeError> {
    let mut codes = Vec::with_capacity(body.remaining());
    while !body.is_empty() {
        codes.push(reason_code(kind, &mut body)?);
    }
    Ok(codes)
}

fn v3_code(code: u8) -> Result<ReasonCode, DecodeError> {
    ReasonCode::from_u8(code)
        .filter(|_| matches!(code, 0..=2 | 0x80))
        .ok_or_else(|| DecodeError::malformed("unknown return code in SUBACK", "3.1.1 MQTT-3.9.3-2"))
}
