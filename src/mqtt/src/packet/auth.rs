//! AUTH (v5 section 3.15).

use super::reason_code;
use crate::property::{self, UserProperties, id};
use crate::wire::{self, Cursor};
use crate::{DecodeError, PacketType, ReasonCode};

/// A step of an extended authentication.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Auth {
    /// Success, continue, or authenticate again.
    pub reason: ReasonCode,
    /// The properties.
    pub properties: AuthProperties,
}

/// The properties of AUTH.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuthProperties {
    /// The method's name.
    pub authentication_method: Option<String>,
    /// What the method exchanges.
    pub authentication_data: Option<Vec<u8>>,
    /// The reason in words, for people.
    pub reason_string: Option<String>,
    /// User properties.
    pub user_properties: UserProperties,
}

impl AuthProperties {
    fn decode(block: &[u8]) -> Result<Self, DecodeError> {
        let mut found = Self::default();
        property::walk(block, property::USER_REPEATS, |id, cursor| {
            match id {
                id::AUTH_METHOD => found.authentication_method = Some(cursor.string()?.to_owned()),
                id::AUTH_DATA => found.authentication_data = Some(cursor.binary()?.to_vec()),
                id::REASON_STRING => found.reason_string = Some(cursor.string()?.to_owned()),
                id::USER => property::user(cursor, &mut found.user_properties)?,
                _ => return Err(property::misplaced()),
            }
            Ok(())
        })?;
        check_method(found.authentication_method.as_deref(), found.authentication_data.as_deref())?;
        Ok(found)
    }

    fn encode(&self, out: &mut Vec<u8>) {
        wire::put_with_length(out, |out| {
            property::put_string(out, id::AUTH_METHOD, self.authentication_method.as_deref());
            property::put_binary(out, id::AUTH_DATA, self.authentication_data.as_deref());
            property::put_string(out, id::REASON_STRING, self.reason_string.as_deref());
            property::put_user(out, &self.user_properties);
        });
    }
}

/// Data without a method belongs to nothing (v5 section 3.1.2.11.10).
pub(super) fn check_method(method: Option<&str>, data: Option<&[u8]>) -> Result<(), DecodeError> {
    if method.is_none() && data.is_some() {
        return Err(DecodeError::protocol("authentication data without a method", "v5 3.1.2.11.10"));
    }
    Ok(())
}

impl Auth {
    pub(super) fn decode(mut body: Cursor<'_>) -> Result<Self, DecodeError> {
        let mut auth = Self { reason: ReasonCode::Success, properties: AuthProperties::default() };
        // Both may be left out, but only together (section 3.15.2.1).
        if !body.is_empty() {
            auth.reason = reason_code(PacketType::Auth, &mut body)?;
            auth.properties = AuthProperties::decode(body.properties()?)?;
        }
        body.finish()?;
        Ok(auth)
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        if self.reason != ReasonCode::Success || self.properties != AuthProperties::default() {
            out.push(self.reason.as_u8());
            self.properties.encode(out);
        }
    }
}
