//! PUBLISH without allocation: borrowed from the read buffer on the way in, written in a few copies on the way out.

use crate::property::{self, id};
use crate::wire::{self, Cursor};
use crate::{DecodeError, Frame, QoS, Version};

/// A PUBLISH whose parts still lie in the read buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublishRef<'a> {
    /// Whether the sender may have sent it before. Says nothing about whether it arrived (v5 section 3.3.1.1).
    pub dup: bool,
    /// The quality of service.
    pub qos: QoS,
    /// Whether it is to become the topic's retained message.
    pub retain: bool,
    /// The topic name, *not yet validated* ([`topic::validate_name`](crate::topic::validate_name)), so that who knows
    /// the bytes already need not look at them again. Empty only with a topic alias.
    pub topic: &'a [u8],
    /// The packet identifier; 0 at QoS 0.
    pub packet_id: u16,
    /// The v5 properties; empty before.
    pub properties: PublishProperties<'a>,
    /// The payload.
    pub payload: &'a [u8],
}

/// The properties of a PUBLISH, all checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PublishProperties<'a> {
    /// The whole block as it was sent, without its length.
    pub raw: &'a [u8],
    /// Seconds until the message expires.
    pub message_expiry: Option<u32>,
    /// The topic alias; not 0.
    pub topic_alias: Option<u16>,
    /// Whether the sender says that the payload is UTF-8 text.
    pub payload_is_utf8: bool,
    /// Where an answer is expected; without wildcards.
    pub response_topic: Option<&'a str>,
    /// How many user properties there are.
    pub user_properties: usize,
    /// How many subscription identifiers there are; only a server sends them.
    pub identifiers: usize,
    /// The forwarded properties, if they lie together.
    run: &'a [u8],
    scattered: bool,
}

impl<'a> PublishProperties<'a> {
    /// The properties that are passed on to subscribers unaltered (v5 section 3.3.2.3), without a length. They are
    /// gathered in `scratch` only if others lie between them; what `scratch` held before is lost then.
    #[inline]
    pub fn forwarded<'b>(&self, scratch: &'b mut Vec<u8>) -> &'b [u8]
    where
        'a: 'b,
    {
        if !self.scattered {
            return self.run;
        }
        scratch.clear();
        for_each_part(self.raw, |part, forward| {
            if forward {
                scratch.extend_from_slice(part);
            }
        });
        scratch
    }

    /// As [`Self::forwarded`], with another response topic in the place of the one that is there.
    pub fn forwarded_answering_to<'b>(&self, response_topic: &str, scratch: &'b mut Vec<u8>) -> &'b [u8] {
        scratch.clear();
        for_each_part(self.raw, |part, forward| {
            if part.first() == Some(&id::RESPONSE_TOPIC) {
                property::put_string(scratch, id::RESPONSE_TOPIC, Some(response_topic));
            } else if forward {
                scratch.extend_from_slice(part);
            }
        });
        scratch
    }

    /// The value of the first user property with this name.
    #[must_use]
    pub fn user(&self, name: &str) -> Option<&'a str> {
        let mut value = None;
        if self.user_properties > 0 {
            for_each_part(self.raw, |part, _| {
                if value.is_none() {
                    value = user_of(part).filter(|(found, _)| *found == name).map(|(_, value)| value);
                }
            });
        }
        value
    }

    /// As [`Self::forwarded`], with this user property in the place of those with its name.
    pub fn forwarded_with<'b>(&self, name: &str, value: &str, scratch: &'b mut Vec<u8>) -> &'b [u8] {
        scratch.clear();
        for_each_part(self.raw, |part, forward| {
            if forward && user_of(part).is_none_or(|(found, _)| found != name) {
                scratch.extend_from_slice(part);
            }
        });
        property::append_user(name, value, scratch);
        scratch
    }

    /// The subscription identifiers in the order in which they were sent.
    pub fn identifiers(&self) -> impl Iterator<Item = u32> + use<'a> {
        let mut cursor = Cursor::new(self.raw);
        std::iter::from_fn(move || {
            while let Ok(id) = cursor.u8() {
                match id {
                    id::SUBSCRIPTION_IDENTIFIER => return cursor.varint().ok(),
                    id::MESSAGE_EXPIRY => drop(cursor.u32()),
                    id::TOPIC_ALIAS => drop(cursor.u16()),
                    _ => drop(property::forwarded(id, &mut cursor)),
                }
            }
            None
        })
    }
}

/// Appends `properties` (checked, without a length) to `into` without the user properties called `name`.
pub fn without_user(properties: &[u8], name: &str, into: &mut Vec<u8>) {
    for_each_part(properties, |part, _| {
        if user_of(part).is_none_or(|(found, _)| found != name) {
            into.extend_from_slice(part);
        }
    });
}

/// The user property that a checked part is, if it is one.
fn user_of(part: &[u8]) -> Option<(&str, &str)> {
    let (id::USER, rest) = part.split_first().map(|(id, rest)| (*id, rest))? else { return None };
    let mut cursor = Cursor::new(rest);
    Some((cursor.string().ok()?, cursor.string().ok()?))
}

/// Cuts a checked block into its properties; `each` is told of each whether it is forwarded.
fn for_each_part<'a>(block: &'a [u8], mut each: impl FnMut(&'a [u8], bool)) {
    let mut cursor = Cursor::new(block);
    let mut start = 0;
    while let Ok(id) = cursor.u8() {
        let forward = !matches!(id, id::SUBSCRIPTION_IDENTIFIER | id::MESSAGE_EXPIRY | id::TOPIC_ALIAS);
        match id {
            id::SUBSCRIPTION_IDENTIFIER => drop(cursor.varint()),
            id::MESSAGE_EXPIRY => drop(cursor.u32()),
            id::TOPIC_ALIAS => drop(cursor.u16()),
            _ => drop(property::forwarded(id, &mut cursor)),
        }
        let end = block.len() - cursor.remaining();
        each(&block[start..end], forward);
        start = end;
    }
}

/// Decodes a PUBLISH from a client, which never sends subscription identifiers [MQTT-3.3.4-6].
#[inline]
pub fn decode_publish<'a>(frame: &Frame<'a>, version: Version) -> Result<PublishRef<'a>, DecodeError> {
    let publish = decode_publish_from_server(frame, version)?;
    if publish.properties.identifiers != 0 {
        return Err(DecodeError::protocol("subscription identifier from a client", "MQTT-3.3.4-6"));
    }
    Ok(publish)
}

/// Decodes a PUBLISH from a server, which tells by subscription identifiers what it was matched by.
#[inline]
pub fn decode_publish_from_server<'a>(frame: &Frame<'a>, version: Version) -> Result<PublishRef<'a>, DecodeError> {
    let Some(qos) = QoS::from_bits(frame.flags >> 1) else {
        return Err(DecodeError::malformed("PUBLISH with QoS 3", "MQTT-3.3.1-4"));
    };
    let dup = frame.flags & 8 != 0;
    // 3.1 does not forbid it.
    if dup && qos == QoS::AtMostOnce && version != Version::V31 {
        return Err(DecodeError::malformed("DUP at QoS 0", "MQTT-3.3.1-2"));
    }
    let mut cursor = Cursor::new(frame.body);
    let topic = cursor.binary()?;
    let packet_id = if qos == QoS::AtMostOnce { 0 } else { cursor.packet_id("MQTT-2.2.1-3")? };
    let properties =
        if version == Version::V5 { decode_properties(cursor.properties()?)? } else { PublishProperties::default() };
    if topic.is_empty() && properties.topic_alias.is_none() {
        return Err(DecodeError::protocol("empty topic name without a topic alias", "v5 3.3.2.1"));
    }
    Ok(PublishRef { dup, qos, retain: frame.flags & 1 != 0, topic, packet_id, properties, payload: cursor.rest() })
}

#[inline]
fn decode_properties(raw: &[u8]) -> Result<PublishProperties<'_>, DecodeError> {
    if raw.is_empty() {
        return Ok(PublishProperties::default());
    }
    walk_properties(raw)
}

fn walk_properties(raw: &[u8]) -> Result<PublishProperties<'_>, DecodeError> {
    let mut found = PublishProperties { raw, ..PublishProperties::default() };
    // The one run of forwarded properties, as offsets, and whether a second one was met.
    let (mut run_start, mut run_end, mut scattered) = (0, 0, false);
    property::walk(raw, property::USER_AND_IDENTIFIERS_REPEAT, |id, cursor| {
        let start = raw.len() - cursor.remaining() - 1;
        if found.note(id, cursor)? {
            if run_end == 0 {
                run_start = start;
            } else if run_end != start {
                scattered = true;
            }
            run_end = raw.len() - cursor.remaining();
        }
        Ok(())
    })?;
    found.run = &raw[run_start..run_end];
    found.scattered = scattered;
    Ok(found)
}

impl<'a> PublishProperties<'a> {
    /// Checks one property and keeps what routing needs of it; says whether it is forwarded.
    #[inline]
    fn note(&mut self, id: u8, cursor: &mut Cursor<'a>) -> Result<bool, DecodeError> {
        match id {
            id::PAYLOAD_FORMAT => self.payload_is_utf8 = property::payload_format(cursor)?,
            id::CONTENT_TYPE => drop(cursor.text_bytes()?),
            id::RESPONSE_TOPIC => self.response_topic = Some(property::response_topic(cursor)?),
            id::CORRELATION_DATA => drop(cursor.binary()?),
            id::USER => {
                cursor.text_bytes()?;
                cursor.text_bytes()?;
                self.user_properties += 1;
            }
            _ => return self.note_own(id, cursor).map(|()| false),
        }
        Ok(true)
    }

    /// A property that belongs to this one transmission.
    fn note_own(&mut self, id: u8, cursor: &mut Cursor<'a>) -> Result<(), DecodeError> {
        match id {
            id::MESSAGE_EXPIRY => self.message_expiry = Some(cursor.u32()?),
            id::TOPIC_ALIAS => match cursor.u16()? {
                0 => return Err(DecodeError::topic_alias("topic alias 0", "MQTT-3.3.2-8")),
                alias => self.topic_alias = Some(alias),
            },
            id::SUBSCRIPTION_IDENTIFIER => {
                property::subscription_identifier(cursor)?;
                self.identifiers += 1;
            }
            _ => return Err(property::misplaced()),
        }
        Ok(())
    }
}

/// What all receivers of a message have in common.
#[derive(Clone, Copy, Debug, Default)]
pub struct PublishParts<'a> {
    /// The topic name.
    pub topic: &'a [u8],
    /// The forwarded properties, without a length; left out before v5.
    pub properties: &'a [u8],
    /// The payload.
    pub payload: &'a [u8],
    /// The seconds that the message has left [MQTT-3.3.2-6]; left out before v5.
    pub expiry: Option<u32>,
}

/// What is one receiver's own.
#[derive(Clone, Copy, Debug, Default)]
pub struct Delivery<'a> {
    /// The quality of service.
    pub qos: QoS,
    /// The retain flag.
    pub retain: bool,
    /// Whether it is sent again.
    pub dup: bool,
    /// The packet identifier; left out at QoS 0.
    pub packet_id: u16,
    /// The subscription identifiers of what matched; left out before v5.
    pub identifiers: &'a [u32],
    /// The topic alias, and whether the receiver knows it, so that the topic is left out; ignored before v5.
    pub alias: Option<(u16, bool)>,
}

/// The lengths that a PUBLISH is made of.
struct Layout<'a> {
    topic: &'a [u8],
    topic_length: u16,
    /// The property block without its length; `None` before v5.
    block: Option<usize>,
    remaining: usize,
}

impl<'a> Layout<'a> {
    #[inline]
    fn new(version: Version, parts: &PublishParts<'a>, delivery: &Delivery<'_>) -> Self {
        let known = version == Version::V5 && matches!(delivery.alias, Some((_, true)));
        let (topic, topic_length) = wire::fitting(if known { &[] } else { parts.topic });
        let mut remaining = 2 + topic.len() + parts.payload.len();
        if delivery.qos != QoS::AtMostOnce {
            remaining += 2;
        }
        let block = (version == Version::V5).then(|| {
            let identifiers: usize = delivery.identifiers.iter().map(|&id| 1 + wire::varint_size(id as usize)).sum();
            parts.properties.len()
                + if parts.expiry.is_some() { 5 } else { 0 }
                + if delivery.alias.is_some() { 3 } else { 0 }
                + identifiers
        });
        if let Some(block) = block {
            remaining += wire::varint_size(block) + block;
        }
        Self { topic, topic_length, block, remaining }
    }

    #[inline]
    fn size(&self) -> usize {
        1 + wire::varint_size(self.remaining) + self.remaining
    }
}

/// The size of the whole packet, its fixed header included: what Maximum Packet Size speaks of [MQTT-3.1.2-24].
#[must_use]
pub fn publish_size(version: Version, parts: &PublishParts<'_>, delivery: &Delivery<'_>) -> usize {
    Layout::new(version, parts, delivery).size()
}

/// What `put_short` may write beyond the end before it cuts it off.
const SLACK: usize = 8;

/// Appends the packet to `out`.
///
/// A packet of more than [`MAX_PACKET_SIZE`](crate::MAX_PACKET_SIZE) cannot be framed: compare [`publish_size`] first.
pub fn encode_publish(version: Version, parts: &PublishParts<'_>, delivery: &Delivery<'_>, out: &mut Vec<u8>) {
    let layout = Layout::new(version, parts, delivery);
    out.reserve(layout.size() + SLACK);
    put_head(&layout, parts, delivery, out);
    out.extend_from_slice(parts.payload);
}

/// Appends the packet without its payload, which must follow: for payloads that several receivers share.
pub fn encode_publish_head(version: Version, parts: &PublishParts<'_>, delivery: &Delivery<'_>, out: &mut Vec<u8>) {
    let layout = Layout::new(version, parts, delivery);
    out.reserve(layout.size() - parts.payload.len() + SLACK);
    put_head(&layout, parts, delivery, out);
}

#[inline]
fn put_head(layout: &Layout<'_>, parts: &PublishParts<'_>, delivery: &Delivery<'_>, out: &mut Vec<u8>) {
    let first = 0x30 | u8::from(delivery.dup) << 3 | (delivery.qos as u8) << 1 | u8::from(delivery.retain);
    let (length, used) = wire::varint(layout.remaining);
    let [high, low] = layout.topic_length.to_be_bytes();
    let mut start = [first, 0, 0, 0, 0, 0, 0, 0];
    start[1..5].copy_from_slice(&length);
    start[1 + used] = high;
    start[2 + used] = low;
    put_short(out, &start, 3 + used);
    out.extend_from_slice(layout.topic);
    if delivery.qos != QoS::AtMostOnce {
        out.extend_from_slice(&delivery.packet_id.to_be_bytes());
    }
    if let Some(block) = layout.block {
        let (length, used) = wire::varint(block);
        put_short(out, &length, used);
        if block == 0 {
            return;
        }
        out.extend_from_slice(parts.properties);
        property::put_u32(out, id::MESSAGE_EXPIRY, parts.expiry);
        property::put_u16(out, id::TOPIC_ALIAS, delivery.alias.map(|(alias, _)| alias));
        for &identifier in delivery.identifiers {
            property::put_varint(out, id::SUBSCRIPTION_IDENTIFIER, Some(identifier));
        }
    }
}

/// The first `used` bytes of `bytes`. A copy of fixed size is a move or two, one of variable size a call.
#[inline]
fn put_short<const N: usize>(out: &mut Vec<u8>, bytes: &[u8; N], used: usize) {
    let end = out.len() + used;
    out.extend_from_slice(bytes);
    out.truncate(end);
}
