//! From a fresh socket to an accepted CONNECT.

use super::{Broker, stats};
use crate::env::net::{self, TcpStream};
use crate::env::task;
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
    Refused(&'static str),
}

/// A CONNECT, and what came behind it in the same read.
pub(crate) struct Opening {
    pub(crate) connect: Box<Connect>,
    pub(crate) rest: Vec<u8>,
}

impl Broker {
    /// Reads CONNECT within the time that the settings allow.
    ///
    /// The buffer grows with what has come, never with what a length promises; a packet that is larger than a CONNECT
    /// may be is refused as soon as its header is there.
    pub(crate) async fn receive_connect(&self, stream: &TcpStream) -> Result<Opening, Refusal> {
        let work = task::timeout(self.limits.connect_timeout, self.read_connect(stream));
        work.await.unwrap_or(Err(Refusal::Timeout))
    }

    async fn read_connect(&self, stream: &TcpStream) -> Result<Opening, Refusal> {
        let mut buffer = Vec::new();
        loop {
            stream.readable().await?;
            if read_some(stream, &mut buffer)? == Some(0) {
                return Err(Refusal::Closed);
            }
            if buffer.first().is_some_and(|first| first >> 4 != PacketType::Connect as u8) {
                return Err(Refusal::NotConnect);
            }
            let Some(frame) = frame::peek(&buffer, self.limits.max_connect, Version::V31)? else { continue };
            let size = frame.size;
            stats::add(|s| &s.packets_received, 1);
            let connect = match decode_connect(&frame) {
                Ok(connect) => connect,
                Err(error) => {
                    // Whoever gets even the fixed header wrong speaks no version that could be answered.
                    if frame.flags == 0 {
                        self.answer_bad_connect(stream, connect_version(&frame), &error).await;
                    }
                    return Err(error.into());
                }
            };
            return Ok(Opening { connect: Box::new(connect), rest: buffer.split_off(size) });
        }
    }

    /// Tells the client of a CONNECT that cannot be read what is wrong, as far as its version has words for it.
    async fn answer_bad_connect(&self, stream: &TcpStream, version: Option<Version>, error: &DecodeError) {
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
    pub(crate) fn check_connect(&self, connect: &Connect) -> Result<(), (ReasonCode, &'static str)> {
        if connect.version == Version::V31 && !self.limits.allow_v31 {
            return Err((ReasonCode::UnsupportedProtocolVersion, "MQTT 3.1 is turned off"));
        }
        if connect.client_id.is_empty() {
            // [MQTT-3.1.3-8]: before v5 nobody could ever resume a session under an id that the client is not told.
            if connect.version != Version::V5 && !connect.clean_start {
                return Err((ReasonCode::ClientIdentifierNotValid, "empty client id without clean session"));
            }
            if !self.limits.allow_empty_client_id || connect.version == Version::V31 {
                return Err((ReasonCode::ClientIdentifierNotValid, "empty client id"));
            }
        }
        if connect.client_id.len() > self.limits.max_client_id {
            return Err((ReasonCode::ClientIdentifierNotValid, "client id too long"));
        }
        if connect.properties.authentication_method.is_some() {
            return Err((ReasonCode::BadAuthenticationMethod, "no enhanced authentication here"));
        }
        if let Some(will) = &connect.will {
            if will.qos > self.limits.max_qos {
                return Err((ReasonCode::QoSNotSupported, "will QoS above the maximum"));
            }
            if will.retain && !self.limits.retain_available {
                return Err((ReasonCode::RetainNotSupported, "will retain, but retain is turned off"));
            }
            if will.topic.starts_with("$SYS/") {
                return Err((ReasonCode::NotAuthorized, "will topic in $SYS"));
            }
        }
        if self.is_stopping() {
            return Err((ReasonCode::ServerUnavailable, "the broker stops"));
        }
        if self.connected() >= self.limits.max_connections {
            return Err((ReasonCode::ServerBusy, "too many connections"));
        }
        Ok(())
    }
}

/// Reads once; `None` if nothing was there.
fn read_some(stream: &TcpStream, buffer: &mut Vec<u8>) -> io::Result<Option<usize>> {
    let length = buffer.len();
    buffer.resize(length + READ, 0);
    let result = net::receive(stream, &mut buffer[length..]);
    let count = *result.as_ref().unwrap_or(&0);
    buffer.truncate(length + count);
    match result {
        Ok(count) => {
            stats::add(|s| &s.bytes_received, count as u64);
            Ok(Some(count))
        }
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}

/// Sends a CONNACK that refuses; whether it arrives does not matter any more.
pub(crate) async fn send_connack(stream: &TcpStream, version: Version, maximum: usize, connack: &ConnAck) {
    let mut bytes = Vec::new();
    encode(&Packet::ConnAck(Box::new(connack.clone())), version, &mut bytes);
    // [MQTT-3.1.2-24]. A fresh socket has room for these few bytes: if not, it is no loss.
    if bytes.len() <= maximum && stream.writable().await.is_ok() && stream.try_write(&bytes).is_ok() {
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
