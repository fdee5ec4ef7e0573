//! Where a packet begins and ends: the fixed header (v5 section 2.1).

use crate::{DecodeError, Version, wire};

/// The size of the largest packet that the format allows, its fixed header included.
pub const MAX_PACKET_SIZE: usize = wire::MAX_VARINT as usize + 5;

/// The type of a control packet; its number is the one on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum PacketType {
    /// CONNECT.
    Connect = 1,
    /// CONNACK.
    ConnAck = 2,
    /// PUBLISH.
    Publish = 3,
    /// PUBACK.
    PubAck = 4,
    /// PUBREC.
    PubRec = 5,
    /// PUBREL.
    PubRel = 6,
    /// PUBCOMP.
    PubComp = 7,
    /// SUBSCRIBE.
    Subscribe = 8,
    /// SUBACK.
    SubAck = 9,
    /// UNSUBSCRIBE.
    Unsubscribe = 10,
    /// UNSUBACK.
    UnsubAck = 11,
    /// PINGREQ.
    PingReq = 12,
    /// PINGRESP.
    PingResp = 13,
    /// DISCONNECT.
    Disconnect = 14,
    /// AUTH (v5).
    Auth = 15,
}

impl PacketType {
    const ALL: [Self; 15] = [
        Self::Connect,
        Self::ConnAck,
        Self::Publish,
        Self::PubAck,
        Self::PubRec,
        Self::PubRel,
        Self::PubComp,
        Self::Subscribe,
        Self::SubAck,
        Self::Unsubscribe,
        Self::UnsubAck,
        Self::PingReq,
        Self::PingResp,
        Self::Disconnect,
        Self::Auth,
    ];

    /// The type with the number `number`.
    #[must_use]
    #[inline]
    pub fn from_u8(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number).wrapping_sub(1)).copied()
    }

    /// The packet's name as the specification writes it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Connect => "CONNECT",
            Self::ConnAck => "CONNACK",
            Self::Publish => "PUBLISH",
            Self::PubAck => "PUBACK",
            Self::PubRec => "PUBREC",
            Self::PubRel => "PUBREL",
            Self::PubComp => "PUBCOMP",
            Self::Subscribe => "SUBSCRIBE",
            Self::SubAck => "SUBACK",
            Self::Unsubscribe => "UNSUBSCRIBE",
            Self::UnsubAck => "UNSUBACK",
            Self::PingReq => "PINGREQ",
            Self::PingResp => "PINGRESP",
            Self::Disconnect => "DISCONNECT",
            Self::Auth => "AUTH",
        }
    }

    /// The first byte of a packet of this type whose flags are fixed (all but PUBLISH).
    pub(crate) fn first_byte(self) -> u8 {
        let flags = match self {
            Self::PubRel | Self::Subscribe | Self::Unsubscribe => 2,
            _ => 0,
        };
        (self as u8) << 4 | flags
    }

    /// Whether the fixed header may have these flags [MQTT-2.1.3-1] (3.1.1: [MQTT-2.2.2-2]).
    ///
    /// 3.1 had DUP and QoS in every header: a repeated PUBREL, SUBSCRIBE or UNSUBSCRIBE carries DUP there, and those of
    /// CONNECT are unused, whatever they are.
    #[inline]
    fn takes_flags(self, flags: u8, version: Version) -> bool {
        match self {
            Self::Publish => flags & 6 != 6,
            Self::Connect => flags == 0 || version == Version::V31,
            Self::PubRel | Self::Subscribe | Self::Unsubscribe => {
                flags == 2 || (version == Version::V31 && flags == 0xa)
            }
            _ => flags == 0,
        }
    }
}

/// One whole packet in the buffer, its body not yet looked at.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    /// The packet's type.
    pub kind: PacketType,
    /// The low four bits of the first byte; checked.
    pub flags: u8,
    /// What follows the fixed header.
    pub body: &'a [u8],
    /// The size of the whole packet: as many bytes are to be taken off the buffer.
    pub size: usize,
}

/// Cuts the first packet off `buffer`; `Ok(None)` if it is not complete yet.
///
/// Whatever the fixed header alone shows to be wrong is refused at once, before the body has arrived: a reserved type,
/// AUTH before v5, wrong flags, a remaining length of more than four bytes, and a packet larger than `max_size`, which
/// counts the fixed header. Before CONNECT has named the version, 3.1 is the one that refuses nothing too early.
#[inline]
pub fn peek<'a>(buffer: &'a [u8], max_size: usize, version: Version) -> Result<Option<Frame<'a>>, DecodeError> {
    let Some(&first) = buffer.first() else { return Ok(None) };
    let Some(kind) = PacketType::from_u8(first >> 4) else {
        return Err(DecodeError::malformed("reserved packet type 0", "v5 2.1.2"));
    };
    let flags = first & 0xf;
    if !kind.takes_flags(flags, version) {
        return Err(wrong_flags(kind));
    }
    if kind == PacketType::Auth && version != Version::V5 {
        return Err(DecodeError::malformed("reserved packet type 15", "3.1.1 2.2.1"));
    }
    let Some((length, header)) = remaining_length(buffer, version)? else { return Ok(None) };
    let size = header + length;
    if size > max_size {
        return Err(DecodeError::too_large());
    }
    Ok(buffer.get(header..size).map(|body| Frame { kind, flags, body, size }))
}

/// The size of the whole packet at the start of `buffer`, if its fixed header is complete and well-formed.
#[must_use]
pub fn needed(buffer: &[u8]) -> Option<usize> {
    // Leniently: whether a length in more bytes than needed is an error depends on the version, and `peek` decides.
    let (length, header) = remaining_length(buffer, Version::V311).ok()??;
    Some(header + length)
}

/// The remaining length and the size of the fixed header.
#[inline]
fn remaining_length(buffer: &[u8], version: Version) -> Result<Option<(usize, usize)>, DecodeError> {
    let mut length = 0;
    for index in 1..=4 {
        let Some(&byte) = buffer.get(index) else { return Ok(None) };
        length |= usize::from(byte & 0x7f) << (7 * (index - 1));
        if byte & 0x80 == 0 {
            if byte == 0 && index > 1 && version == Version::V5 {
                return Err(DecodeError::malformed("remaining length in more bytes than needed", "MQTT-1.5.5-1"));
            }
            return Ok(Some((length, index + 1)));
        }
    }
    Err(DecodeError::malformed("remaining length in more than four bytes", "v5 2.1.4"))
}

#[cold]
pub(crate) fn wrong_flags(kind: PacketType) -> DecodeError {
    match kind {
        PacketType::Publish => DecodeError::malformed("PUBLISH with QoS 3", "MQTT-3.3.1-4"),
        _ => DecodeError::malformed("wrong flags in the fixed header", "MQTT-2.1.3-1"),
    }
}
