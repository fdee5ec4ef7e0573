//! CONNACK (v5 section 3.2).

use super::auth::check_method;
use super::reason_code;
use crate::property::{self, UserProperties, id};
use crate::wire::{self, Cursor};
use crate::{DecodeError, PacketType, QoS, ReasonCode, Version};

/// The answer to a CONNECT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnAck {
    /// Whether the session existed. 3.1 cannot say it.
    pub session_present: bool,
    /// The outcome; before v5 written as the nearest of the six return codes.
    pub reason: ReasonCode,
    /// The v5 properties.
    pub properties: ConnAckProperties,
}

/// The properties of CONNACK; `None` where the server leaves the value to the specification.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConnAckProperties {
    /// The session expiry that is used instead of the one asked for.
    pub session_expiry: Option<u32>,
    /// How many QoS 1 and 2 publications the server takes at a time; absent: 65,535.
    pub receive_maximum: Option<u16>,
    /// The highest quality of service; absent: 2.
    pub maximum_qos: Option<QoS>,
    /// Whether retained messages are supported; absent: yes.
    pub retain_available: Option<bool>,
    /// The largest packet that the server takes; absent: no limit.
    pub maximum_packet_size: Option<u32>,
    /// The client identifier that the server gave.
    pub assigned_client_id: Option<String>,
    /// How many topic aliases the client may use; absent: none.
    pub topic_alias_maximum: Option<u16>,
    /// The outcome in words, for people.
    pub reason_string: Option<String>,
    /// User properties.
    pub user_properties: UserProperties,
    /// Whether wildcard subscriptions are supported; absent: yes.
    pub wildcard_available: Option<bool>,
    /// Whether subscription identifiers are supported; absent: yes.
    pub identifiers_available: Option<bool>,
    /// Whether shared subscriptions are supported; absent: yes.
    pub shared_available: Option<bool>,
    /// The keep alive that is used instead of the one asked for.
    pub server_keep_alive: Option<u16>,
    /// The basis of response topics.
    pub response_information: Option<String>,
    /// Another server to use.
    pub server_reference: Option<String>,
    /// The authentication method's name.
    pub authentication_method: Option<String>,
    /// What the method exchanges.
    pub authentication_data: Option<Vec<u8>>,
}

impl ConnAckProperties {
    fn decode(block: &[u8]) -> Result<Self, DecodeError> {
        let mut found = Self::default();
        property::walk(block, property::USER_REPEATS, |id, cursor| found.take(id, cursor))?;
        check_method(found.authentication_method.as_deref(), found.authentication_data.as_deref())?;
        Ok(found)
    }

    fn take(&mut self, id: u8, cursor: &mut Cursor<'_>) -> Result<(), DecodeError> {
        match id {
            id::SESSION_EXPIRY => self.session_expiry = Some(cursor.u32()?),
            id::RECEIVE_MAXIMUM => self.receive_maximum = Some(receive_maximum(cursor)?),
            id::MAXIMUM_QOS => {
                let above_0 = cursor.flag("maximum QoS is neither 0 nor 1", "v5 3.2.2.3.4")?;
                self.maximum_qos = Some(if above_0 { QoS::AtLeastOnce } else { QoS::AtMostOnce });
            }
            id::RETAIN_AVAILABLE => self.retain_available = Some(available(cursor)?),
            id::MAXIMUM_PACKET_SIZE => self.maximum_packet_size = Some(maximum_packet_size(cursor)?),
            id::ASSIGNED_CLIENT_ID => self.assigned_client_id = Some(cursor.string()?.to_owned()),
            id::TOPIC_ALIAS_MAXIMUM => self.topic_alias_maximum = Some(cursor.u16()?),
            id::REASON_STRING => self.reason_string = Some(cursor.string()?.to_owned()),
            id::USER => property::user(cursor, &mut self.user_properties)?,
            id::WILDCARD_AVAILABLE => self.wildcard_available = Some(available(cursor)?),
            id::IDENTIFIERS_AVAILABLE => self.identifiers_available = Some(available(cursor)?),
            id::SHARED_AVAILABLE => self.shared_available = Some(available(cursor)?),
            id::SERVER_KEEP_ALIVE => self.server_keep_alive = Some(cursor.u16()?),
            id::RESPONSE_INFORMATION => self.response_information = Some(cursor.string()?.to_owned()),
            id::SERVER_REFERENCE => self.server_reference = Some(cursor.string()?.to_owned()),
            id::AUTH_METHOD => self.authentication_method = Some(cursor.string()?.to_owned()),
            id::AUTH_DATA => self.authentication_data = Some(cursor.binary()?.to_vec()),
            _ => return Err(property::misplaced()),
        }
        Ok(())
    }

    fn encode(&self, out: &mut Vec<u8>) {
        wire::put_with_length(out, |out| {
            // Any order will do (v5 2.2.2.2); the first three come as mosquitto sends them, which suites compare by byte.
            property::put_u16(out, id::TOPIC_ALIAS_MAXIMUM, self.topic_alias_maximum);
            property::put_string(out, id::ASSIGNED_CLIENT_ID, self.assigned_client_id.as_deref());
            property::put_u16(out, id::RECEIVE_MAXIMUM, self.receive_maximum);
            property::put_u32(out, id::SESSION_EXPIRY, self.session_expiry);
            // QoS 2 is what absence says; there is no value for it (section 3.2.2.3.4).
            let maximum_qos = self.maximum_qos.filter(|&qos| qos != QoS::ExactlyOnce);
            property::put_u8(out, id::MAXIMUM_QOS, maximum_qos.map(|qos| qos as u8));
            property::put_flag(out, id::RETAIN_AVAILABLE, self.retain_available);
            property::put_u32(out, id::MAXIMUM_PACKET_SIZE, self.maximum_packet_size);
            property::put_string(out, id::REASON_STRING, self.reason_string.as_deref());
            property::put_user(out, &self.user_properties);
            property::put_flag(out, id::WILDCARD_AVAILABLE, self.wildcard_available);
            property::put_flag(out, id::IDENTIFIERS_AVAILABLE, self.identifiers_available);
            property::put_flag(out, id::SHARED_AVAILABLE, self.shared_available);
            property::put_u16(out, id::SERVER_KEEP_ALIVE, self.server_keep_alive);
            property::put_string(out, id::RESPONSE_INFORMATION, self.response_information.as_deref());
            property::put_string(out, id::SERVER_REFERENCE, self.server_reference.as_deref());
            property::put_string(out, id::AUTH_METHOD, self.authentication_method.as_deref());
            property::put_binary(out, id::AUTH_DATA, self.authentication_data.as_deref());
        });
    }
}

fn available(cursor: &mut Cursor<'_>) -> Result<bool, DecodeError> {
    cursor.flag("availability is neither 0 nor 1", "v5 3.2.2.3")
}

pub(super) fn receive_maximum(cursor: &mut Cursor<'_>) -> Result<u16, DecodeError> {
    property::not_zero(cursor.u16()?, "receive maximum 0", "v5 3.1.2.11.3")
}

pub(super) fn maximum_packet_size(cursor: &mut Cursor<'_>) -> Result<u32, DecodeError> {
    property::not_zero(cursor.u32()?, "maximum packet size 0", "v5 3.1.2.11.4")
}

impl ConnAck {
    /// A CONNACK without properties.
    #[must_use]
    pub fn new(session_present: bool, reason: ReasonCode) -> Self {
        Self { session_present, reason, properties: ConnAckProperties::default() }
    }

    pub(super) fn decode(mut body: Cursor<'_>, version: Version) -> Result<Self, DecodeError> {
        let flags = body.u8()?;
        if flags & 0xfe != 0 && version != Version::V31 {
            return Err(DecodeError::malformed("reserved bits in the acknowledge flags", "MQTT-3.2.2-1"));
        }
        // 3.1 calls the byte reserved and does not ask for zeroes.
        let session_present = flags & 1 != 0 && version != Version::V31;
        let mut connack = Self::new(session_present, ReasonCode::Success);
        if version == Version::V5 {
            connack.reason = reason_code(PacketType::ConnAck, &mut body)?;
            connack.properties = ConnAckProperties::decode(body.properties()?)?;
        } else {
            connack.reason = ReasonCode::from_connack_v3(body.u8()?)
                .ok_or_else(|| DecodeError::malformed("unknown return code in CONNACK", "3.1.1 3.2.2.3"))?;
        }
        body.finish()?;
        Ok(connack)
    }

    pub(super) fn encode(&self, version: Version, out: &mut Vec<u8>) {
        out.push((self.session_present && version != Version::V31).into());
        if version == Version::V5 {
            out.push(self.reason.as_u8());
            self.properties.encode(out);
        } else {
            out.push(self.reason.to_connack_v3());
        }
    }
}
