//! v5 properties: their identifiers, the walk over a block that checks what all properties have in common, and the
//! block that travels with a message from publisher to subscriber. Each packet's typed properties stand beside it.

use crate::wire::{self, Cursor};
use crate::{DecodeError, topic};

pub use crate::packet::{
    AckProperties, AuthProperties, ConnAckProperties, ConnectProperties, DisconnectProperties, SubscribeProperties,
};

/// Name and value pairs in the order in which they were sent; names may repeat.
pub type UserProperties = Vec<(String, String)>;

/// Property identifiers (v5 table 2-4). All of them fit into one byte of a variable byte integer.
pub(crate) mod id {
    pub(crate) const PAYLOAD_FORMAT: u8 = 0x01;
    pub(crate) const MESSAGE_EXPIRY: u8 = 0x02;
    pub(crate) const CONTENT_TYPE: u8 = 0x03;
    pub(crate) const RESPONSE_TOPIC: u8 = 0x08;
    pub(crate) const CORRELATION_DATA: u8 = 0x09;
    pub(crate) const SUBSCRIPTION_IDENTIFIER: u8 = 0x0B;
    pub(crate) const SESSION_EXPIRY: u8 = 0x11;
    pub(crate) const ASSIGNED_CLIENT_ID: u8 = 0x12;
    pub(crate) const SERVER_KEEP_ALIVE: u8 = 0x13;
    pub(crate) const AUTH_METHOD: u8 = 0x15;
    pub(crate) const AUTH_DATA: u8 = 0x16;
    pub(crate) const REQUEST_PROBLEM_INFORMATION: u8 = 0x17;
    pub(crate) const WILL_DELAY: u8 = 0x18;
    pub(crate) const REQUEST_RESPONSE_INFORMATION: u8 = 0x19;
    pub(crate) const RESPONSE_INFORMATION: u8 = 0x1A;
    pub(crate) const SERVER_REFERENCE: u8 = 0x1C;
    pub(crate) const REASON_STRING: u8 = 0x1F;
    pub(crate) const RECEIVE_MAXIMUM: u8 = 0x21;
    pub(crate) const TOPIC_ALIAS_MAXIMUM: u8 = 0x22;
    pub(crate) const TOPIC_ALIAS: u8 = 0x23;
    pub(crate) const MAXIMUM_QOS: u8 = 0x24;
    pub(crate) const RETAIN_AVAILABLE: u8 = 0x25;
    pub(crate) const USER: u8 = 0x26;
    pub(crate) const MAXIMUM_PACKET_SIZE: u8 = 0x27;
    pub(crate) const WILDCARD_AVAILABLE: u8 = 0x28;
    pub(crate) const IDENTIFIERS_AVAILABLE: u8 = 0x29;
    pub(crate) const SHARED_AVAILABLE: u8 = 0x2A;
}

/// A set of property identifiers, as bits.
pub(crate) type IdSet = u64;

/// User properties, the one kind that may always repeat.
pub(crate) const USER_REPEATS: IdSet = 1 << id::USER;

/// What a PUBLISH from a server may repeat [MQTT-3.3.4-3].
pub(crate) const USER_AND_IDENTIFIERS_REPEAT: IdSet = USER_REPEATS | 1 << id::SUBSCRIPTION_IDENTIFIER;

const KNOWN: IdSet = 1 << id::PAYLOAD_FORMAT
    | 1 << id::MESSAGE_EXPIRY
    | 1 << id::CONTENT_TYPE
    | 1 << id::RESPONSE_TOPIC
    | 1 << id::CORRELATION_DATA
    | 1 << id::SUBSCRIPTION_IDENTIFIER
    | 1 << id::SESSION_EXPIRY
    | 1 << id::ASSIGNED_CLIENT_ID
    | 1 << id::SERVER_KEEP_ALIVE
    | 1 << id::AUTH_METHOD
    | 1 << id::AUTH_DATA
    | 1 << id::REQUEST_PROBLEM_INFORMATION
    | 1 << id::WILL_DELAY
    | 1 << id::REQUEST_RESPONSE_INFORMATION
    | 1 << id::RESPONSE_INFORMATION
    | 1 << id::SERVER_REFERENCE
    | 1 << id::REASON_STRING
    | 1 << id::RECEIVE_MAXIMUM
    | 1 << id::TOPIC_ALIAS_MAXIMUM
    | 1 << id::TOPIC_ALIAS
    | 1 << id::MAXIMUM_QOS
    | 1 << id::RETAIN_AVAILABLE
    | 1 << id::USER
    | 1 << id::MAXIMUM_PACKET_SIZE
    | 1 << id::WILDCARD_AVAILABLE
    | 1 << id::IDENTIFIERS_AVAILABLE
    | 1 << id::SHARED_AVAILABLE;

/// Goes through a property block. `each` gets every identifier with the cursor at its value, which it must read;
/// unknown identifiers, and second occurrences of what is not in `repeatable`, do not get there (v5 section 2.2.2).
#[inline]
pub(crate) fn walk<'a>(
    block: &'a [u8],
    repeatable: IdSet,
    mut each: impl FnMut(u8, &mut Cursor<'a>) -> Result<(), DecodeError>,
) -> Result<(), DecodeError> {
    let mut cursor = Cursor::new(block);
    let mut seen: IdSet = 0;
    while !cursor.is_empty() {
        let id = cursor.u8()?;
        let bit = 1u64.checked_shl(u32::from(id)).unwrap_or(0) & KNOWN;
        if bit == 0 {
            return Err(DecodeError::malformed("unknown property", "v5 2.2.2.2"));
        }
        if seen & bit & !repeatable != 0 {
            return Err(DecodeError::protocol("property occurs twice", "v5 2.2.2.2"));
        }
        seen |= bit;
        each(id, &mut cursor)?;
    }
    Ok(())
}

/// The property is known, but not allowed in this packet (v5 table 2-4), which makes the packet malformed.
#[cold]
pub(crate) fn misplaced() -> DecodeError {
    DecodeError::malformed("property not allowed in this packet", "v5 2.2.2.2")
}

/// The value of a property that may not be 0.
pub(crate) fn not_zero<T: Default + PartialEq>(
    value: T,
    what: &'static str,
    clause: &'static str,
) -> Result<T, DecodeError> {
    if value == T::default() { Err(DecodeError::protocol(what, clause)) } else { Ok(value) }
}

/// A subscription identifier: 1 to 268,435,455 (v5 section 3.8.2.1.2).
#[inline]
pub(crate) fn subscription_identifier(cursor: &mut Cursor<'_>) -> Result<u32, DecodeError> {
    not_zero(cursor.varint()?, "subscription identifier 0", "v5 3.8.2.1.2")
}

/// Appends a user property, encoded, to forwarded properties.
pub fn append_user(name: &str, value: &str, properties: &mut Vec<u8>) {
    properties.push(id::USER);
    wire::put_string(properties, name);
    wire::put_string(properties, value);
}

/// A name and its value.
pub(crate) fn user(cursor: &mut Cursor<'_>, into: &mut UserProperties) -> Result<(), DecodeError> {
    let name = cursor.string()?.to_owned();
    into.push((name, cursor.string()?.to_owned()));
    Ok(())
}

/// The value of a forwarded property (v5 section 3.3.2.3), checked; `Ok(None)` if `id` is none of them.
pub(crate) fn forwarded<'a>(id: u8, cursor: &mut Cursor<'a>) -> Result<Option<Forwarded<'a>>, DecodeError> {
    Ok(Some(match id {
        id::PAYLOAD_FORMAT => Forwarded::PayloadFormat(payload_format(cursor)?),
        id::CONTENT_TYPE => Forwarded::ContentType(cursor.string()?),
        id::RESPONSE_TOPIC => Forwarded::ResponseTopic(response_topic(cursor)?),
        id::CORRELATION_DATA => Forwarded::CorrelationData(cursor.binary()?),
        id::USER => Forwarded::User(cursor.string()?, cursor.string()?),
        _ => return Ok(None),
    }))
}

/// Whether the payload is said to be UTF-8 text.
pub(crate) fn payload_format(cursor: &mut Cursor<'_>) -> Result<bool, DecodeError> {
    cursor.flag("payload format indicator is neither 0 nor 1", "v5 3.3.2.3.2")
}

/// A response topic is a topic name [MQTT-3.3.2-13], [MQTT-3.3.2-14].
pub(crate) fn response_topic<'a>(cursor: &mut Cursor<'a>) -> Result<&'a str, DecodeError> {
    let name = cursor.string()?;
    if topic::has_wildcard(name) {
        return Err(DecodeError::protocol("wildcard in a response topic", "MQTT-3.3.2-14"));
    }
    Ok(name)
}

/// A property that the server passes on unaltered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forwarded<'a> {
    /// Whether the payload is UTF-8 text.
    PayloadFormat(bool),
    /// What the payload is.
    ContentType(&'a str),
    /// Where an answer is expected.
    ResponseTopic(&'a str),
    /// What the answer must repeat.
    CorrelationData(&'a [u8]),
    /// A name and its value.
    User(&'a str, &'a str),
}

impl Forwarded<'_> {
    /// Appends the property to a block.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match *self {
            Self::PayloadFormat(is_utf8) => put_u8(out, id::PAYLOAD_FORMAT, Some(is_utf8.into())),
            Self::ContentType(text) => put_string(out, id::CONTENT_TYPE, Some(text)),
            Self::ResponseTopic(name) => put_string(out, id::RESPONSE_TOPIC, Some(name)),
            Self::CorrelationData(data) => put_binary(out, id::CORRELATION_DATA, Some(data)),
            Self::User(name, value) => put_pair(out, name, value),
        }
    }
}

/// The properties in a block of forwarded ones, as [`Message::properties`](crate::Message::properties) holds it. Ends
/// at the first byte that is none.
pub fn forwarded_in(block: &[u8]) -> impl Iterator<Item = Forwarded<'_>> {
    let mut cursor = Cursor::new(block);
    std::iter::from_fn(move || {
        let id = cursor.u8().ok()?;
        forwarded(id, &mut cursor).ok()?
    })
}

pub(crate) fn put_u8(out: &mut Vec<u8>, id: u8, value: Option<u8>) {
    if let Some(value) = value {
        out.extend_from_slice(&[id, value]);
    }
}

pub(crate) fn put_flag(out: &mut Vec<u8>, id: u8, value: Option<bool>) {
    put_u8(out, id, value.map(u8::from));
}

pub(crate) fn put_u16(out: &mut Vec<u8>, id: u8, value: Option<u16>) {
    if let Some(value) = value {
        out.push(id);
        wire::put_u16(out, value);
    }
}

pub(crate) fn put_u32(out: &mut Vec<u8>, id: u8, value: Option<u32>) {
    if let Some(value) = value {
        out.push(id);
        out.extend_from_slice(&value.to_be_bytes());
    }
}

pub(crate) fn put_varint(out: &mut Vec<u8>, id: u8, value: Option<u32>) {
    if let Some(value) = value {
        out.push(id);
        wire::put_varint(out, value as usize);
    }
}

pub(crate) fn put_string(out: &mut Vec<u8>, id: u8, value: Option<&str>) {
    if let Some(value) = value {
        out.push(id);
        wire::put_string(out, value);
    }
}

pub(crate) fn put_binary(out: &mut Vec<u8>, id: u8, value: Option<&[u8]>) {
    if let Some(value) = value {
        out.push(id);
        wire::put_binary(out, value);
    }
}

fn put_pair(out: &mut Vec<u8>, name: &str, value: &str) {
    out.push(id::USER);
    wire::put_string(out, name);
    wire::put_string(out, value);
}

pub(crate) fn put_user(out: &mut Vec<u8>, properties: &[(String, String)]) {
    for (name, value) in properties {
        put_pair(out, name, value);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::ReasonCode;

    #[test]
    fn a_forwarded_block_reads_back_as_written() {
        let all = [
            Forwarded::PayloadFormat(true),
            Forwarded::ContentType("text"),
            Forwarded::ResponseTopic("answer/1"),
            Forwarded::CorrelationData(&[0, 255]),
            Forwarded::User("a", "1"),
            Forwarded::User("a", ""),
        ];
        let mut block = Vec::new();
        all.iter().for_each(|property| property.encode(&mut block));
        assert_eq!(forwarded_in(&block).collect::<Vec<_>>(), all);
        assert_eq!(forwarded_in(&block[..block.len() - 1]).count(), 5);
    }

    #[test]
    fn unknown_properties_are_malformed() {
        for id in [0x00, 0x04, 0x2B, 0x3F, 0x40, 0x7F, 0x80, 0xFF] {
            let error = walk(&[id, 0, 0, 0, 0], USER_REPEATS, |_, _| panic!("{id} is no property")).unwrap_err();
            assert_eq!(error.reason, ReasonCode::MalformedPacket);
        }
    }
}
