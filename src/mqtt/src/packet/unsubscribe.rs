//! UNSUBSCRIBE (v5 section 3.10).

use crate::property::{self, UserProperties, id};
use crate::wire::{self, Cursor};
use crate::{DecodeError, Version, topic};

/// A client wants no more messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsubscribe {
    /// The packet identifier.
    pub packet_id: u16,
    /// User properties, the only kind here (v5).
    pub user_properties: UserProperties,
    /// At least one filter as it was sent; only the string's form has been checked.
    pub filters: Vec<String>,
}

impl Unsubscribe {
    pub(super) fn decode(mut body: Cursor<'_>, version: Version) -> Result<Self, DecodeError> {
        let packet_id = body.packet_id("MQTT-2.2.1-3")?;
        let mut user_properties = UserProperties::new();
        if version == Version::V5 {
            property::walk(body.properties()?, property::USER_REPEATS, |id, cursor| match id {
                id::USER => property::user(cursor, &mut user_properties),
                _ => Err(property::misplaced()),
            })?;
        }
        let mut filters = Vec::new();
        while !body.is_empty() {
            filters.push(topic::not_empty(body.string()?)?.to_owned());
        }
        if filters.is_empty() {
            return Err(DecodeError::protocol("UNSUBSCRIBE without a filter", "MQTT-3.10.3-2"));
        }
        Ok(Self { packet_id, user_properties, filters })
    }

    pub(super) fn encode(&self, version: Version, out: &mut Vec<u8>) {
        wire::put_u16(out, self.packet_id);
        if version == Version::V5 {
            wire::put_with_length(out, |out| property::put_user(out, &self.user_properties));
        }
        for filter in &self.filters {
            wire::put_string(out, filter);
        }
    }
}
