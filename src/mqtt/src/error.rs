//! Why bytes are not a packet.

use crate::ReasonCode;
use thiserror::Error;

/// The kind of fault, as far as the receiver must tell them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The bytes cannot be parsed (v5 "Malformed Packet").
    Malformed,
    /// They can be parsed, but are not allowed (v5 "Protocol Error").
    Protocol,
    /// The packet is larger than the receiver takes.
    TooLarge,
    /// A CONNECT of a protocol version that is not spoken here: 3.x is answered with return code 1, v5 with 0x84.
    UnsupportedVersion,
    /// A topic name or topic filter that the rules of section 4.7 forbid.
    Topic,
}

/// Bytes that are not a valid packet: what is wrong, the clause that says so, and what a v5 peer is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("{what} [{clause}]")]
pub struct DecodeError {
    /// The kind of fault.
    pub kind: ErrorKind,
    /// The reason code for CONNACK or DISCONNECT in v5.
    pub reason: ReasonCode,
    /// The fault in words.
    pub what: &'static str,
    /// The normative statement or section that forbids it.
    pub clause: &'static str,
}

impl DecodeError {
    #[cold]
    pub(crate) fn malformed(what: &'static str, clause: &'static str) -> Self {
        Self { kind: ErrorKind::Malformed, reason: ReasonCode::MalformedPacket, what, clause }
    }

    #[cold]
    pub(crate) fn protocol(what: &'static str, clause: &'static str) -> Self {
        Self { kind: ErrorKind::Protocol, reason: ReasonCode::ProtocolError, what, clause }
    }

    #[cold]
    pub(crate) fn too_large() -> Self {
        Self {
            kind: ErrorKind::TooLarge,
            reason: ReasonCode::PacketTooLarge,
            what: "packet larger than the maximum packet size",
            clause: "MQTT-3.2.2-15",
        }
    }

    #[cold]
    pub(crate) fn unsupported_version() -> Self {
        Self {
            kind: ErrorKind::UnsupportedVersion,
            reason: ReasonCode::UnsupportedProtocolVersion,
            what: "protocol version not supported",
            clause: "MQTT-3.1.2-2",
        }
    }

    #[cold]
    pub(crate) fn topic_name(what: &'static str, clause: &'static str) -> Self {
        Self { kind: ErrorKind::Topic, reason: ReasonCode::TopicNameInvalid, what, clause }
    }

    #[cold]
    pub(crate) fn topic_filter(what: &'static str, clause: &'static str) -> Self {
        Self { kind: ErrorKind::Topic, reason: ReasonCode::TopicFilterInvalid, what, clause }
    }

    #[cold]
    pub(crate) fn topic_alias(what: &'static str, clause: &'static str) -> Self {
        Self { kind: ErrorKind::Protocol, reason: ReasonCode::TopicAliasInvalid, what, clause }
    }
}
