//! DISCONNECT (v5 section 3.14).

use super::reason_code;
use crate::property::{self, UserProperties, id};
use crate::wire::{self, Cursor};
use crate::{DecodeError, PacketType, ReasonCode, Version};

/// The last packet of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disconnect {
    /// Why; always the normal end before v5.
    pub reason: ReasonCode,
    /// The v5 properties.
    pub properties: DisconnectProperties,
}

/// The properties of DISCONNECT.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DisconnectProperties {
    /// The seconds that the session has now; `None` leaves them as CONNECT set them. Only a client sends it.
    pub session_expiry: Option<u32>,
    /// The reason in words, for people.
    pub reason_string: Option<String>,
    /// Another server to use.
    pub server_reference: Option<String>,
    /// User properties.
    pub user_properties: UserProperties,
}

impl DisconnectProperties {
    fn decode(block: &[u8]) -> Result<Self, DecodeError> {
        let mut found = Self::default();
        property::walk(block, property::USER_REPEATS, |id, cursor| {
            match id {
                id::SESSION_EXPIRY => found.session_expiry = Some(cursor.u32()?),
                id::REASON_STRING => found.reason_string = Some(cursor.string()?.to_owned()),
                id::SERVER_REFERENCE => found.server_reference = Some(cursor.string()?.to_owned()),
                id::USER => property::user(cursor, &mut found.user_properties)?,
                _ => return Err(property::misplaced()),
            }
            Ok(())
        })?;
        Ok(found)
    }

    fn encode(&self, out: &mut Vec<u8>) {
        wire::put_with_length(out, |out| {
            property::put_u32(out, id::SESSION_EXPIRY, self.session_expiry);
            property::put_string(out, id::REASON_STRING, self.reason_string.as_deref());
            property::put_string(out, id::SERVER_REFERENCE, self.server_reference.as_deref());
            property::put_user(out, &self.user_properties);
        });
    }
}

impl Disconnect {
    /// A DISCONNECT without properties.
    #[must_use]
    pub fn new(reason: ReasonCode) -> Self {
        Self { reason, properties: DisconnectProperties::default() }
    }

    pub(super) fn decode(mut body: Cursor<'_>, version: Version) -> Result<Self, DecodeError> {
        let mut disconnect = Self::new(ReasonCode::Success);
        // In v5 reason code and property length may each be left out with all that follows (section 3.14.2.2.1).
        if version == Version::V5 && !body.is_empty() {
            disconnect.reason = reason_code(PacketType::Disconnect, &mut body)?;
            if !body.is_empty() {
                disconnect.properties = DisconnectProperties::decode(body.properties()?)?;
            }
        }
        body.finish()?;
        Ok(disconnect)
    }

    pub(super) fn encode(&self, version: Version, out: &mut Vec<u8>) {
        if version != Version::V5 {
            return;
        }
        let plain = self.properties == DisconnectProperties::default();
        if self.reason != ReasonCode::Success || !plain {
            out.push(self.reason.as_u8());
        }
        if !plain {
            self.properties.encode(out);
        }
    }
}
