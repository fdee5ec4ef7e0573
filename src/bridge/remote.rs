//! The connection to the remote: dialled, and introduced by CONNECT in the version that the remote takes.

use super::wire::{MOST_ANSWER, Wire, WireError};
use crate::broker::BRIDGE_PROPERTY;
use crate::config::{self, Bridge};
use crate::env::task;
use crate::transport::{DialError, DialTls, DialTlsSettings, Target, TlsProblem, dial};
use nightjar_mqtt::{ConnAck, Connect, Packet, PacketType, QoS, ReasonCode, Version, Will, frame};
use std::path::Path;

/// What MQTT 3.1 allows, in bytes; not all of its servers insist.
const LONGEST_ID_OF_31: usize = 23;

/// A way to speak to a remote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Speech {
    pub(super) version: Version,
    /// Whether the level carries the bit of bridges.
    pub(super) flag: bool,
}

/// The ways to try, the best first.
pub(super) fn speeches(bridge: &Bridge) -> Vec<Speech> {
    let plain = |version| Speech { version, flag: false };
    let before_5 = |version| {
        let flagged = bridge.bridge_flag.then_some(Speech { version, flag: true });
        flagged.into_iter().chain([plain(version)])
    };
    match bridge.version {
        config::Version::V5 => vec![plain(Version::V5)],
        config::Version::V311 => before_5(Version::V311).collect(),
        config::Version::V31 => before_5(Version::V31).collect(),
        config::Version::Auto => [plain(Version::V5)].into_iter().chain(before_5(Version::V311)).collect(),
    }
}

/// A remote that has taken us in.
pub(super) struct Reached {
    pub(super) wire: Wire,
    pub(super) connack: ConnAck,
    pub(super) speech: Speech,
    /// The id of the node, if the remote is a Nightjar.
    pub(super) nightjar: Option<String>,
}

/// Why a remote was not reached.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unreached {
    #[error(transparent)]
    Tls(#[from] TlsProblem),
    #[error("{0}: {1}")]
    Password(String, String),
    #[error(transparent)]
    Dial(#[from] DialError),
    #[error("no answer in time")]
    Timeout,
    #[error("refused: {0}")]
    Refused(String),
    /// The version is not the remote's, or it did not like the look of CONNECT.
    #[error("it does not speak {}", in_words(.0))]
    Version(Speech),
    #[error("closed without an answer to CONNECT{}", hint(.0))]
    Silent(Speech),
    #[error("{0}")]
    Wire(#[from] WireError),
    #[error("it answered CONNECT by {0:?}")]
    Answer(PacketType),
}

fn hint(speech: &Speech) -> &'static str {
    if speech.flag { " (it may not take the flag of bridges)" } else { "" }
}

/// A way to speak, for people.
pub(super) fn in_words(speech: &Speech) -> String {
    let version = match speech.version {
        Version::V31 => "3.1",
        Version::V311 => "3.1.1",
        Version::V5 => "5",
    };
    format!("MQTT {version}{}", if speech.flag { " with the flag of bridges" } else { "" })
}

/// What CONNECT says besides what the settings do.
pub(super) struct Introduction<'a> {
    pub(super) client_id: &'a str,
    pub(super) node: &'a str,
    /// The state topic at the remote, if the remote is told.
    pub(super) state_topic: Option<&'a str>,
    /// The largest packet that this broker takes.
    pub(super) max_packet: usize,
}

/// Where to dial for `address`.
pub(super) fn target(
    bridge: &Bridge,
    address: &config::Remote,
    speech: Speech,
    max_packet: usize,
) -> Result<Target, TlsProblem> {
    let tls = match address.scheme.tls {
        true => Some(DialTls::new(&tls_settings(bridge))?),
        false => None,
    };
    Ok(Target {
        authority: address.authority(),
        server_name: bridge.server_name.clone().unwrap_or_else(|| address.host.clone()),
        tls,
        path: address.scheme.websocket.then(|| address.path.clone()),
        // [MQTT-6.0.0-3]
        subprotocol: if speech.version == Version::V31 { "mqttv3.1" } else { "mqtt" },
        // A remote may put several packets into a frame; what is larger costs nobody any memory.
        largest_frame: max_packet.saturating_mul(2).saturating_add(MOST_ANSWER),
    })
}

/// The TLS of a bridge.
#[must_use]
pub fn tls_settings(bridge: &Bridge) -> DialTlsSettings {
    DialTlsSettings {
        ca: bridge.ca.clone(),
        pair: bridge.certificate.clone().zip(bridge.key.clone()),
        alpn: bridge.alpn.clone(),
        insecure: bridge.insecure,
    }
}

/// Reaches the remote at `address`, within the time that the settings give.
pub(super) async fn reach(
    bridge: &Bridge,
    address: &config::Remote,
    speech: Speech,
    introduction: &Introduction<'_>,
) -> Result<Reached, Unreached> {
    let target = target(bridge, address, speech, introduction.max_packet)?;
    let connect = connect(bridge, speech, introduction)?;
    let reaching = async {
        let mut wire = Wire::new(dial(&target).await?);
        wire.is_plain = !address.scheme.tls && !address.scheme.websocket;
        wire.send(&Packet::Connect(Box::new(connect)), speech.version).await.map_err(WireError::from)?;
        let connack = answer(&mut wire, speech).await?;
        Ok((wire, connack))
    };
    let (wire, connack) = task::timeout(bridge.connect_timeout, reaching).await.unwrap_or(Err(Unreached::Timeout))?;
    match connack.reason {
        ReasonCode::Success => {}
        ReasonCode::UnsupportedProtocolVersion => return Err(Unreached::Version(speech)),
        // Some refuse a level that they do not know as malformed.
        ReasonCode::MalformedPacket | ReasonCode::ProtocolError if speech.flag || speech.version == Version::V5 => {
            return Err(Unreached::Version(speech));
        }
        reason => {
            let said = connack.properties.reason_string.as_deref().unwrap_or_default();
            let said = if said.is_empty() { String::new() } else { format!(": {}", said.escape_debug()) };
            let is_long = speech.version == Version::V31 && introduction.client_id.len() > LONGEST_ID_OF_31;
            let said = match reason {
                ReasonCode::ClientIdentifierNotValid if is_long => {
                    format!(": MQTT 3.1 allows client identifiers of at most {LONGEST_ID_OF_31} bytes")
                }
                _ => said,
            };
            return Err(Unreached::Refused(format!("{reason:?} (0x{:02x}){said}", reason.as_u8())));
        }
    }
    let property = connack.properties.user_properties.iter().find(|(name, _)| name == BRIDGE_PROPERTY);
    let nightjar = property.map(|(_, node)| node.clone());
    Ok(Reached { wire, connack, speech, nightjar })
}

/// The answer to CONNECT.
async fn answer(wire: &mut Wire, speech: Speech) -> Result<ConnAck, Unreached> {
    loop {
        // A server that does not know MQTT 5 answers in its own words: without properties.
        if speech.version == Version::V5
            && let [0x20, 2, _, _, ..] = wire.input[..]
            && let Ok(Some(frame)) = frame::peek(&wire.input, MOST_ANSWER, Version::V311)
            && frame.size == 4
        {
            return Err(Unreached::Version(speech));
        }
        match frame::peek(&wire.input, MOST_ANSWER, speech.version).map_err(WireError::from)? {
            None => {
                wire.socket.readable().await.map_err(WireError::from)?;
                match wire.read() {
                    Err(WireError::Closed) => return Err(Unreached::Silent(speech)),
                    Err(WireError::Io(error)) if error.kind() == std::io::ErrorKind::ConnectionReset => {
                        return Err(Unreached::Silent(speech));
                    }
                    other => drop(other?),
                }
            }
            Some(_) => {
                return match wire.receive(speech.version).await? {
                    Packet::ConnAck(connack) => Ok(*connack),
                    other => Err(Unreached::Answer(other.kind())),
                };
            }
        }
    }
}

fn connect(bridge: &Bridge, speech: Speech, introduction: &Introduction<'_>) -> Result<Connect, Unreached> {
    let mut connect = Connect::new(speech.version, introduction.client_id);
    connect.bridge = speech.flag;
    connect.clean_start = bridge.clean_start;
    connect.keep_alive = bridge.keep_alive;
    connect.username.clone_from(&bridge.username);
    connect.password = password(bridge)?;
    connect.will = introduction.state_topic.map(|topic| Will {
        topic: topic.to_owned(),
        payload: b"0".to_vec(),
        qos: QoS::AtLeastOnce.min(QoS::from_bits(bridge.max_qos).unwrap_or_default()),
        retain: bridge.retain_available,
        ..Will::default()
    });
    let properties = &mut connect.properties;
    properties.session_expiry = session_expiry(bridge);
    properties.receive_maximum = bridge.receive_maximum;
    properties.maximum_packet_size = u32::try_from(introduction.max_packet).ok().filter(|size| *size < 268_435_455);
    properties.user_properties.push((BRIDGE_PROPERTY.to_owned(), introduction.node.to_owned()));
    Ok(connect)
}

/// For how many seconds the remote is to keep the session.
fn session_expiry(bridge: &Bridge) -> u32 {
    match bridge.session_expiry {
        _ if bridge.clean_start => 0,
        None => u32::MAX,
        Some(time) => u32::try_from(time.as_secs()).unwrap_or(u32::MAX),
    }
}

fn password(bridge: &Bridge) -> Result<Option<Vec<u8>>, Unreached> {
    let read = |path: &Path| {
        let text = config::access::read_text(path)
            .map_err(|problem| Unreached::Password(path.display().to_string(), problem))?;
        Ok(text.trim_end_matches(['\r', '\n']).as_bytes().to_vec())
    };
    match (&bridge.password, &bridge.password_file) {
        (Some(password), _) => Ok(Some(password.reveal().as_bytes().to_vec())),
        (None, Some(path)) => read(path).map(Some),
        (None, None) => Ok(None),
    }
}
