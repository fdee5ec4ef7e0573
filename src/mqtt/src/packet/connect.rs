//! CONNECT (v5 section 3.1).

use super::auth::check_method;
use super::connack::{maximum_packet_size, receive_maximum};
use crate::frame::wrong_flags;
use crate::property::{self, UserProperties, id};
use crate::wire::{self, Cursor};
use crate::{DecodeError, Frame, QoS, Version, topic};

/// A client introduces itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connect {
    /// The protocol version that is spoken from here on.
    pub version: Version,
    /// Whether the client is a bridge: the high bit of the protocol level, which mosquitto and others set so that the
    /// server forwards the retain flag and does not send the bridge's own messages back. Not in v5.
    pub bridge: bool,
    /// Clean Start; Clean Session before v5.
    pub clean_start: bool,
    /// Seconds; 0 turns it off.
    pub keep_alive: u16,
    /// The client identifier; may be empty.
    pub client_id: String,
    /// What is published when the connection ends without DISCONNECT.
    pub will: Option<Will>,
    /// The user name.
    pub username: Option<String>,
    /// The password; without a user name only in v5 and 3.1.
    pub password: Option<Vec<u8>>,
    /// The v5 properties.
    pub properties: ConnectProperties,
}

/// The message that is published for a client that is gone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Will {
    /// A valid topic name.
    pub topic: String,
    /// The payload.
    pub payload: Vec<u8>,
    /// The quality of service at which it is published.
    pub qos: QoS,
    /// The retain flag with which it is published.
    pub retain: bool,
    /// Seconds between the end of the connection and the publication (v5).
    pub delay: u32,
    /// Seconds until the message expires, from its publication on (v5).
    pub message_expiry: Option<u32>,
    /// The forwarded v5 properties, encoded, without a length.
    pub properties: Vec<u8>,
}

/// The properties of CONNECT; what the client left out has the value that the specification gives it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectProperties {
    /// Seconds that the session outlives the connection; 0 none, `u32::MAX` for ever.
    pub session_expiry: u32,
    /// How many QoS 1 and 2 publications the client takes at a time; not 0.
    pub receive_maximum: u16,
    /// The largest packet that the client takes; not 0.
    pub maximum_packet_size: Option<u32>,
    /// How many topic aliases the server may use.
    pub topic_alias_maximum: u16,
    /// Whether the client asks for response information.
    pub request_response_information: bool,
    /// Whether reason strings and user properties may be sent with failures.
    pub request_problem_information: bool,
    /// User properties.
    pub user_properties: UserProperties,
    /// The authentication method's name.
    pub authentication_method: Option<String>,
    /// What the method exchanges.
    pub authentication_data: Option<Vec<u8>>,
}

impl Default for ConnectProperties {
    fn default() -> Self {
        Self {
            session_expiry: 0,
            receive_maximum: u16::MAX,
            maximum_packet_size: None,
            topic_alias_maximum: 0,
            request_response_information: false,
            request_problem_information: true,
            user_properties: UserProperties::new(),
            authentication_method: None,
            authentication_data: None,
        }
    }
}

/// The version that a CONNECT speaks, if it can be made out: in which to answer when [`decode_connect`] failed.
#[must_use]
pub fn connect_version(frame: &Frame<'_>) -> Option<Version> {
    protocol(&mut Cursor::new(frame.body)).ok().map(|(version, _)| version)
}

/// Decodes a CONNECT, which says itself what version it is of.
pub fn decode_connect(frame: &Frame<'_>) -> Result<Connect, DecodeError> {
    let mut body = Cursor::new(frame.body);
    let (version, bridge) = protocol(&mut body)?;
    if frame.flags != 0 && version != Version::V31 {
        return Err(wrong_flags(frame.kind));
    }
    let flags = Flags::decode(body.u8()?, version)?;
    let keep_alive = body.u16()?;
    let properties = if version == Version::V5 {
        ConnectProperties::decode(body.properties()?)?
    } else {
        ConnectProperties::default()
    };
    let client_id = body.string()?.to_owned();
    let will = if flags.will { Some(Will::decode(&mut body, version, flags)?) } else { None };
    // In 3.1 "the remaining length takes precedence" over both flags: what is announced may be missing at the end.
    let missing = |body: &Cursor<'_>| version == Version::V31 && body.is_empty();
    let username = if flags.username && !missing(&body) { Some(body.string()?.to_owned()) } else { None };
    let password = if flags.password && !missing(&body) { Some(body.binary()?.to_vec()) } else { None };
    body.finish()?;
    Ok(Connect {
        version,
        bridge,
        clean_start: flags.clean_start,
        keep_alive,
        client_id,
        will,
        username,
        password,
        properties,
    })
}

/// Protocol name and level [MQTT-3.1.2-1], [MQTT-3.1.2-2].
fn protocol(body: &mut Cursor<'_>) -> Result<(Version, bool), DecodeError> {
    const BRIDGE: u8 = 0x80;
    let name = body.binary()?;
    if name != b"MQTT" && name != b"MQIsdp" {
        return Err(DecodeError::malformed("unknown protocol name", "MQTT-3.1.2-1"));
    }
    let level = body.u8()?;
    match (name, level & !BRIDGE) {
        (b"MQIsdp", 3) => Ok((Version::V31, level & BRIDGE != 0)),
        (b"MQTT", 4) => Ok((Version::V311, level & BRIDGE != 0)),
        (b"MQTT", 5) if level == 5 => Ok((Version::V5, false)),
        _ => Err(DecodeError::unsupported_version()),
    }
}

/// The connect flags (v5 section 3.1.2.3).
#[derive(Clone, Copy)]
struct Flags {
    clean_start: bool,
    will: bool,
    will_qos: QoS,
    will_retain: bool,
    password: bool,
    username: bool,
}

impl Flags {
    fn decode(bits: u8, version: Version) -> Result<Self, DecodeError> {
        if bits & 1 != 0 && version != Version::V31 {
            return Err(DecodeError::malformed("reserved connect flag", "MQTT-3.1.2-3"));
        }
        let will_qos =
            QoS::from_bits(bits >> 3).ok_or_else(|| DecodeError::malformed("will with QoS 3", "MQTT-3.1.2-12"))?;
        let flags = Self {
            clean_start: bits & 0x02 != 0,
            will: bits & 0x04 != 0,
            will_qos,
            will_retain: bits & 0x20 != 0,
            password: bits & 0x40 != 0,
            username: bits & 0x80 != 0,
        };
        // 3.1 says nothing of the flags of a will that is not there.
        if !flags.will && version != Version::V31 {
            if will_qos != QoS::AtMostOnce {
                return Err(DecodeError::malformed("will QoS without a will", "MQTT-3.1.2-11"));
            }
            if flags.will_retain {
                return Err(DecodeError::malformed("will retain without a will", "MQTT-3.1.2-13"));
            }
        }
        if flags.password && !flags.username && version == Version::V311 {
            return Err(DecodeError::malformed("password without a user name", "3.1.1 MQTT-3.1.2-22"));
        }
        Ok(flags)
    }
}

impl Will {
    fn decode(body: &mut Cursor<'_>, version: Version, flags: Flags) -> Result<Self, DecodeError> {
        let mut will = Self { qos: flags.will_qos, retain: flags.will_retain, ..Self::default() };
        if version == Version::V5 {
            will.decode_properties(body.properties()?)?;
        }
        topic::validate_name(body.binary()?)?.clone_into(&mut will.topic);
        will.payload = body.binary()?.to_vec();
        Ok(will)
    }

    /// Will delay and message expiry are the server's; the rest goes with the message (v5 section 3.1.3.2).
    fn decode_properties(&mut self, block: &[u8]) -> Result<(), DecodeError> {
        property::walk(block, property::USER_REPEATS, |id, cursor| {
            match id {
                id::WILL_DELAY => self.delay = cursor.u32()?,
                id::MESSAGE_EXPIRY => self.message_expiry = Some(cursor.u32()?),
                _ => match property::forwarded(id, cursor)? {
                    Some(property) => property.encode(&mut self.properties),
                    None => return Err(property::misplaced()),
                },
            }
            Ok(())
        })
    }

    fn encode(&self, version: Version, out: &mut Vec<u8>) {
        if version == Version::V5 {
            wire::put_with_length(out, |out| {
                property::put_u32(out, id::WILL_DELAY, Some(self.delay).filter(|&delay| delay != 0));
                property::put_u32(out, id::MESSAGE_EXPIRY, self.message_expiry);
                out.extend_from_slice(&self.properties);
            });
        }
        wire::put_string(out, &self.topic);
        wire::put_binary(out, &self.payload);
    }
}

impl ConnectProperties {
    fn decode(block: &[u8]) -> Result<Self, DecodeError> {
        let mut found = Self::default();
        property::walk(block, property::USER_REPEATS, |id, cursor| {
            match id {
                id::SESSION_EXPIRY => found.session_expiry = cursor.u32()?,
                id::RECEIVE_MAXIMUM => found.receive_maximum = receive_maximum(cursor)?,
                id::MAXIMUM_PACKET_SIZE => found.maximum_packet_size = Some(maximum_packet_size(cursor)?),
                id::TOPIC_ALIAS_MAXIMUM => found.topic_alias_maximum = cursor.u16()?,
                id::REQUEST_RESPONSE_INFORMATION => {
                    found.request_response_information =
                        cursor.flag("request response information is neither 0 nor 1", "v5 3.1.2.11.6")?;
                }
                id::REQUEST_PROBLEM_INFORMATION => {
                    found.request_problem_information =
                        cursor.flag("request problem information is neither 0 nor 1", "v5 3.1.2.11.7")?;
                }
                id::USER => property::user(cursor, &mut found.user_properties)?,
                id::AUTH_METHOD => found.authentication_method = Some(cursor.string()?.to_owned()),
                id::AUTH_DATA => found.authentication_data = Some(cursor.binary()?.to_vec()),
                _ => return Err(property::misplaced()),
            }
            Ok(())
        })?;
        check_method(found.authentication_method.as_deref(), found.authentication_data.as_deref())?;
        Ok(found)
    }

    fn encode(&self, out: &mut Vec<u8>) {
        let default = Self::default();
        wire::put_with_length(out, |out| {
            property::put_u32(out, id::SESSION_EXPIRY, Some(self.session_expiry).filter(|&seconds| seconds != 0));
            let receive_maximum = Some(self.receive_maximum).filter(|&count| count != default.receive_maximum);
            property::put_u16(out, id::RECEIVE_MAXIMUM, receive_maximum);
            property::put_u32(out, id::MAXIMUM_PACKET_SIZE, self.maximum_packet_size);
            let topic_alias_maximum = Some(self.topic_alias_maximum).filter(|&count| count != 0);
            property::put_u16(out, id::TOPIC_ALIAS_MAXIMUM, topic_alias_maximum);
            let response = self.request_response_information.then_some(true);
            property::put_flag(out, id::REQUEST_RESPONSE_INFORMATION, response);
            let problem = (!self.request_problem_information).then_some(false);
            property::put_flag(out, id::REQUEST_PROBLEM_INFORMATION, problem);
            property::put_user(out, &self.user_properties);
            property::put_string(out, id::AUTH_METHOD, self.authentication_method.as_deref());
            property::put_binary(out, id::AUTH_DATA, self.authentication_data.as_deref());
        });
    }
}

impl Connect {
    /// A CONNECT without will, credentials and properties.
    #[must_use]
    pub fn new(version: Version, client_id: impl Into<String>) -> Self {
        Self {
            version,
            bridge: false,
            clean_start: true,
            keep_alive: 60,
            client_id: client_id.into(),
            will: None,
            username: None,
            password: None,
            properties: ConnectProperties::default(),
        }
    }

    fn flags(&self) -> u8 {
        let will = self.will.as_ref().map_or(0, |will| 0x04 | (will.qos as u8) << 3 | u8::from(will.retain) << 5);
        u8::from(self.clean_start) << 1
            | will
            | u8::from(self.password.is_some()) << 6
            | u8::from(self.username.is_some()) << 7
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        wire::put_string(out, if self.version == Version::V31 { "MQIsdp" } else { "MQTT" });
        let bridge = self.bridge && self.version != Version::V5;
        out.extend_from_slice(&[self.version as u8 | u8::from(bridge) << 7, self.flags()]);
        wire::put_u16(out, self.keep_alive);
        if self.version == Version::V5 {
            self.properties.encode(out);
        }
        wire::put_string(out, &self.client_id);
        if let Some(will) = &self.will {
            will.encode(self.version, out);
        }
        if let Some(username) = &self.username {
            wire::put_string(out, username);
        }
        if let Some(password) = &self.password {
            wire::put_binary(out, password);
        }
    }
}
