//! SUBSCRIBE (v5 section 3.8).

use crate::property::{self, UserProperties, id};
use crate::wire::{self, Cursor};
use crate::{DecodeError, QoS, RetainHandling, SubscriptionOptions, Version, topic};

/// A client asks for messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscribe {
    /// The packet identifier.
    pub packet_id: u16,
    /// The v5 properties.
    pub properties: SubscribeProperties,
    /// At least one filter as it was sent, with its options. Only the string's form has been checked: a filter that
    /// [`topic::parse_filter`] refuses is answered in its place of the SUBACK.
    ///
    /// When decoded, each option holds the packet's subscription identifier; when encoded, the one in `properties` is
    /// written.
    pub filters: Vec<(String, SubscriptionOptions)>,
}

/// The properties of SUBSCRIBE.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SubscribeProperties {
    /// The subscription identifier of all filters of the packet: 1 to 268,435,455.
    pub identifier: Option<u32>,
    /// User properties.
    pub user_properties: UserProperties,
}

impl SubscribeProperties {
    fn decode(block: &[u8]) -> Result<Self, DecodeError> {
        let mut found = Self::default();
        property::walk(block, property::USER_REPEATS, |id, cursor| {
            match id {
                id::SUBSCRIPTION_IDENTIFIER => found.identifier = Some(property::subscription_identifier(cursor)?),
                id::USER => property::user(cursor, &mut found.user_properties)?,
                _ => return Err(property::misplaced()),
            }
            Ok(())
        })?;
        Ok(found)
    }

    fn encode(&self, out: &mut Vec<u8>) {
        wire::put_with_length(out, |out| {
            property::put_varint(out, id::SUBSCRIPTION_IDENTIFIER, self.identifier);
            property::put_user(out, &self.user_properties);
        });
    }
}

impl Subscribe {
    pub(super) fn decode(mut body: Cursor<'_>, version: Version) -> Result<Self, DecodeError> {
        let packet_id = body.packet_id("MQTT-2.2.1-3")?;
        let properties = if version == Version::V5 {
            SubscribeProperties::decode(body.properties()?)?
        } else {
            SubscribeProperties::default()
        };
        let mut filters = Vec::new();
        while !body.is_empty() {
            let filter = topic::not_empty(body.string()?)?;
            let mut options = decode_options(body.u8()?, version)?;
            options.identifier = properties.identifier;
            if options.no_local && topic::is_shared(filter) {
                return Err(DecodeError::protocol("no local on a shared subscription", "MQTT-3.8.3-4"));
            }
            filters.push((filter.to_owned(), options));
        }
        if filters.is_empty() {
            return Err(DecodeError::protocol("SUBSCRIBE without a filter", "MQTT-3.8.3-2"));
        }
        Ok(Self { packet_id, properties, filters })
    }

    pub(super) fn encode(&self, version: Version, out: &mut Vec<u8>) {
        wire::put_u16(out, self.packet_id);
        if version == Version::V5 {
            self.properties.encode(out);
        }
        for (filter, options) in &self.filters {
            wire::put_string(out, filter);
            out.push(encode_options(options, version));
        }
    }
}

/// Subscription options: in v5 `00 retain-handling(2) retain-as-published no-local qos(2)`, before only the QoS.
fn decode_options(bits: u8, version: Version) -> Result<SubscriptionOptions, DecodeError> {
    let reserved = match version {
        // 3.1 calls the upper bits unused and does not ask for zeroes.
        Version::V31 => 0,
        Version::V311 => 0xfc,
        Version::V5 => 0xc0,
    };
    if bits & reserved != 0 {
        return Err(DecodeError::malformed("reserved bits in the subscription options", "MQTT-3.8.3-5"));
    }
    let qos = QoS::from_bits(bits).ok_or_else(|| match version {
        Version::V5 => DecodeError::protocol("SUBSCRIBE with QoS 3", "v5 3.8.3.1"),
        _ => DecodeError::malformed("SUBSCRIBE with QoS 3", "3.1.1 MQTT-3-8.3-4"),
    })?;
    if version != Version::V5 {
        return Ok(SubscriptionOptions { qos, ..SubscriptionOptions::default() });
    }
    let retain_handling = match bits >> 4 & 3 {
        0 => RetainHandling::Always,
        1 => RetainHandling::IfNew,
        2 => RetainHandling::Never,
        _ => return Err(DecodeError::protocol("retain handling 3", "v5 3.8.3.1")),
    };
    Ok(SubscriptionOptions {
        qos,
        no_local: bits & 4 != 0,
        retain_as_published: bits & 8 != 0,
        retain_handling,
        identifier: None,
    })
}

fn encode_options(options: &SubscriptionOptions, version: Version) -> u8 {
    let qos = options.qos as u8;
    if version != Version::V5 {
        return qos;
    }
    (options.retain_handling as u8) << 4
        | u8::from(options.retain_as_published) << 3
        | u8::from(options.no_local) << 2
        | qos
}
