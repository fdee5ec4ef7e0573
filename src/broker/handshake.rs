//! From a fresh socket to an accepted CONNECT.

use super::limits::Limits;
use super::publish::is_reserved;
use super::{Broker, stats};
use crate::env::task;
use crate::transport::{self, Socket};
use nightjar_mqtt::{
    ConnAck, Connect, DecodeError, ErrorKind, MAX_PACKET_SIZE, Packet, PacketType, ReasonCode, Version,
    connect_version, decode_connect, encode, frame,
};
use std::io;

/// Bytes read at a time before CONNECT is complete: most are far smaller.
const READ: usize = 2048;

/// Why a socket never became a connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("no CONNECT within the time allowed")]
    Timeout,
    #[error("closed before CONNECT")]
    Closed,
    #[error("first packet is not CONNECT [MQTT-3.1.0-1]")]
    NotConnect,
    #[error("{0}")]
    Decode(#[from] DecodeError),
    #[error("socket: {0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Transport(#[from] transport::Refused),
    #[error("{0}")]
    TooMany(&'static str),
    #[error("{0}")]
    Refused(&'static str),
    #[error("{reason}, user {user:?}", user = user.as_deref().unwrap_or_default())]
    Denied { user: Option<String>, reason: String },
}

impl Refusal {
    /// Whether there is nothing to tell an operator: a balancer looked whether the door is open, or a flood is cut.
    pub(crate) fn is_quiet(&self) -> bool {
        match self {
            Self::Transport(refused) => refused.is_quiet(),
            Self::TooMany(_) => true,
            _ => false,
        }
    }
}

/// A CONNECT, and what came behind it in the same read.
pub(crate) struct Opening {
    pub(crate) connect: Box<Connect>,
    pub(crate) rest: Vec<u8>,
}

impl Broker {
    /// Reads CONNECT; the caller bounds the time.
    ///
    /// The buffer grows with what has come, never with what a length promises; a packet that is larger than a CONNECT
    /// may be is refused as soon as its header is there.
    pub(crate) async fn receive_connect(&self, socket: &Socket, limits: &Limits) -> Result<Opening, Refusal> {
        let mut buffer = Vec::new();
        loop {
            read_some(socket, &mut buffer).await?;
            if buffer.first().is_some_and(|first| first >> 4 != PacketType::Connect as u8) {
                return Err(Refusal::NotConnect);
            }
            let Some(frame) = frame::peek(&buffer, limits.max_connect, Version::V31)? else { continue };
            let size = frame.size;
            stats::add(|s| &s.packets_received, 1);
            let connect = match decode_connect(&frame) {
                Ok(connect) => connect,
                Err(error) => {
                    // Whoever gets even the fixed header wrong speaks no version that could be answered.
                    if frame.flags == 0 {
                        self.answer_bad_connect(socket, connect_version(&frame), &error).await;
                    }
                    return Err(error.into());
                }
            };
            return Ok(Opening { connect: Box::new(connect), rest: buffer.split_off(size) });
        }
    }

    /// Tells the client of a CONNECT that cannot be read what is wrong, as far as its version has words for it.
    async fn answer_bad_connect(&self, stream: &Socket, version: Option<Version>, error: &DecodeError) {
        let version = match (version, error.kind) {
            (Some(version), _) => version,
            // [MQTT-3.1.2-2]; 3.1.1 [MQTT-3.1.2-2]: the return code that every version before 5 understands.
            (None, ErrorKind::UnsupportedVersion) => Version::V311,
            _ => return,
        };
        if version == Version::V5 || error.kind == ErrorKind::UnsupportedVersion {
            send_connack(stream, version, usize::MAX, &ConnAck::new(false, error.reason)).await;
        }
    }

    /// What a CONNECT may not ask for under the settings.
    pub(crate) fn check_connect(&self, connect: &Connect, limits: &Limits) -> Result<(), (ReasonCode, &'static str)> {
        if connect.version == Version::V31 && !limits.allow_v31 {
            return Err((ReasonCode::UnsupportedProtocolVersion, "MQTT 3.1 is turned off"));
        }
        if connect.client_id.is_empty() {
            // [MQTT-3.1.3-8]: before v5 nobody could ever resume a session under an id that the client is not told.
            if connect.version != Version::V5 && !connect.clean_start {
                return Err((ReasonCode::ClientIdentifierNotValid, "empty client id without clean session"));
            }
            if !limits.allow_empty_client_id || connect.version == Version::V31 {
                return Err((ReasonCode::ClientIdentifierNotValid, "empty client id"));
            }
        }
        if connect.client_id.len() > limits.max_client_id {
            return Err((ReasonCode::ClientIdentifierNotValid, "client id too long"));
        }
        if let Some(will) = &connect.will {
            if will.qos > limits.max_qos {
                return Err((ReasonCode::QoSNotSupported, "will QoS above the maximum"));
            }
            if will.retain && !limits.retain_available {
                return Err((ReasonCode::RetainNotSupported, "will retain, but retain is turned off"));
            }
            if will.payload.len() + will.topic.len() > limits.max_will_size {
                return Err((ReasonCode::PacketTooLarge, "will larger than limits.max_will_size"));
            }
            if is_reserved(&will.topic) {
                return Err((ReasonCode::NotAuthorized, "will topic in $SYS"));
            }
            if !limits.takes_topic(&will.topic) {
                return Err((ReasonCode::TopicNameInvalid, "will topic too long or too deep"));
            }
        }
        if self.is_stopping() {
            return Err((ReasonCode::ServerUnavailable, "the broker stops"));
        }
        if self.connected() >= limits.max_connections {
            return Err((ReasonCode::ServerBusy, "too many connections"));
        }
        if self.pressure.memory() {
            return Err((ReasonCode::ServerBusy, "memory is above limits.memory_mark"));
        }
        Ok(())
    }
}

/// Appends what comes next to `buffer`; the end of the stream is an error.
pub(crate) async fn read_some(socket: &Socket, buffer: &mut Vec<u8>) -> Result<(), Refusal> {
    let mut rounds = 0_u32;
    loop {
        // Whose layers are busy and bring nothing keeps nobody else from being served.
        if rounds > 1 {
            task::pause().await;
        }
        rounds = rounds.saturating_add(1);
        let length = buffer.len();
        buffer.resize(length + READ, 0);
        let result = socket.try_read(&mut buffer[length..]);
        buffer.truncate(length + *result.as_ref().unwrap_or(&0));
        match result {
            Ok(0) => return Err(Refusal::Closed),
            Ok(count) => {
                stats::add(|s| &s.bytes_received, count as u64);
                return Ok(());
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => socket.readable().await?,
            Err(error) => return Err(error.into()),
        }
    }
}

/// Sends a CONNACK that refuses; whether it arrives does not matter any more.
pub(crate) async fn send_connack(stream: &Socket, version: Version, maximum: usize, connack: &ConnAck) {
    let mut bytes = Vec::new();
    encode(&Packet::ConnAck(Box::new(connack.clone())), version, &mut bytes);
    // [MQTT-3.1.2-24]. A fresh socket has room for these few bytes: if not, it is no loss.
    if bytes.len() <= maximum && stream.writable().await.is_ok() && stream.try_write(&bytes).is_ok() {
        let _ = stream.try_flush();
        stats::add(|s| &s.packets_sent, 1);
        stats::add(|s| &s.bytes_sent, bytes.len() as u64);
    }
}

/// The largest packet that a client takes.
pub(crate) fn client_maximum(connect: &Connect) -> usize {
    match connect.properties.maximum_packet_size.map(usize::try_from) {
        Some(Ok(size)) if size < MAX_PACKET_SIZE => size,
        _ => usize::MAX,
    }
}
