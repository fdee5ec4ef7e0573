//! The packet model: one struct per packet, for all versions. What a version does not have is left out when encoded
//! and has its default value when decoded.

mod ack;
mod auth;
mod connack;
mod connect;
mod disconnect;
mod publish;
mod suback;
mod subscribe;
mod unsubscribe;

pub use ack::{Ack, AckProperties, encode_ack};
pub use auth::{Auth, AuthProperties};
pub use connack::{ConnAck, ConnAckProperties};
pub use connect::{Connect, ConnectProperties, Will, connect_version, decode_connect};
pub use disconnect::{Disconnect, DisconnectProperties};
pub use publish::Publish;
pub use suback::{SubAck, UnsubAck};
pub use subscribe::{Subscribe, SubscribeProperties};
pub use unsubscribe::Unsubscribe;

use crate::wire::{self, Cursor};
use crate::{DecodeError, Frame, PacketType, ReasonCode, Version};

/// A control packet of any version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Packet {
    /// CONNECT.
    Connect(Box<Connect>),
    /// CONNACK.
    ConnAck(Box<ConnAck>),
    /// PUBLISH, owned; the fast way is [`decode_publish`](crate::decode_publish).
    Publish(Publish),
    /// PUBACK.
    PubAck(Ack),
    /// PUBREC.
    PubRec(Ack),
    /// PUBREL.
    PubRel(Ack),
    /// PUBCOMP.
    PubComp(Ack),
    /// SUBSCRIBE.
    Subscribe(Subscribe),
    /// SUBACK.
    SubAck(SubAck),
    /// UNSUBSCRIBE.
    Unsubscribe(Unsubscribe),
    /// UNSUBACK.
    UnsubAck(UnsubAck),
    /// PINGREQ.
    PingReq,
    /// PINGRESP.
    PingResp,
    /// DISCONNECT.
    Disconnect(Disconnect),
    /// AUTH.
    Auth(Auth),
}

impl Packet {
    /// The packet's type.
    #[must_use]
    pub fn kind(&self) -> PacketType {
        match self {
            Self::Connect(_) => PacketType::Connect,
            Self::ConnAck(_) => PacketType::ConnAck,
            Self::Publish(_) => PacketType::Publish,
            Self::PubAck(_) => PacketType::PubAck,
            Self::PubRec(_) => PacketType::PubRec,
            Self::PubRel(_) => PacketType::PubRel,
            Self::PubComp(_) => PacketType::PubComp,
            Self::Subscribe(_) => PacketType::Subscribe,
            Self::SubAck(_) => PacketType::SubAck,
            Self::Unsubscribe(_) => PacketType::Unsubscribe,
            Self::UnsubAck(_) => PacketType::UnsubAck,
            Self::PingReq => PacketType::PingReq,
            Self::PingResp => PacketType::PingResp,
            Self::Disconnect(_) => PacketType::Disconnect,
            Self::Auth(_) => PacketType::Auth,
        }
    }
}

/// Decodes the packet in `frame`, whichever side sent it: which packets a peer may send is for its partner to judge.
///
/// A CONNECT names its own version; for it `version` is not looked at.
pub fn decode(frame: &Frame<'_>, version: Version) -> Result<Packet, DecodeError> {
    let body = Cursor::new(frame.body);
    Ok(match frame.kind {
        PacketType::Connect => Packet::Connect(Box::new(decode_connect(frame)?)),
        PacketType::ConnAck => Packet::ConnAck(Box::new(ConnAck::decode(body, version)?)),
        PacketType::Publish => Packet::Publish(Publish::decode(frame, version)?),
        PacketType::PubAck => Packet::PubAck(Ack::decode(frame.kind, body, version)?),
        PacketType::PubRec => Packet::PubRec(Ack::decode(frame.kind, body, version)?),
        PacketType::PubRel => Packet::PubRel(Ack::decode(frame.kind, body, version)?),
        PacketType::PubComp => Packet::PubComp(Ack::decode(frame.kind, body, version)?),
        PacketType::Subscribe => Packet::Subscribe(Subscribe::decode(body, version)?),
        PacketType::SubAck => Packet::SubAck(SubAck::decode(body, version)?),
        PacketType::Unsubscribe => Packet::Unsubscribe(Unsubscribe::decode(body, version)?),
        PacketType::UnsubAck => Packet::UnsubAck(UnsubAck::decode(body, version)?),
        PacketType::PingReq => body.finish().map(|()| Packet::PingReq)?,
        PacketType::PingResp => body.finish().map(|()| Packet::PingResp)?,
        PacketType::Disconnect => Packet::Disconnect(Disconnect::decode(body, version)?),
        PacketType::Auth => Packet::Auth(Auth::decode(body)?),
    })
}

/// Appends `packet` to `out` as `version` writes it. A CONNECT is written in its own version.
pub fn encode(packet: &Packet, version: Version, out: &mut Vec<u8>) {
    match packet {
        Packet::Publish(publish) => return publish.encode(version, out),
        other => out.push(other.kind().first_byte()),
    }
    wire::put_with_length(out, |out| match packet {
        Packet::Connect(connect) => connect.encode(out),
        Packet::ConnAck(connack) => connack.encode(version, out),
        Packet::PubAck(ack) | Packet::PubRec(ack) | Packet::PubRel(ack) | Packet::PubComp(ack) => {
            ack.encode(version, out);
        }
        Packet::Subscribe(subscribe) => subscribe.encode(version, out),
        Packet::SubAck(suback) => suback.encode(version, out),
        Packet::Unsubscribe(unsubscribe) => unsubscribe.encode(version, out),
        Packet::UnsubAck(unsuback) => unsuback.encode(version, out),
        Packet::Disconnect(disconnect) => disconnect.encode(version, out),
        Packet::Auth(auth) => auth.encode(out),
        Packet::PingReq | Packet::PingResp | Packet::Publish(_) => {}
    });
}

/// A v5 reason code that a packet of type `kind` may carry.
fn reason_code(kind: PacketType, cursor: &mut Cursor<'_>) -> Result<ReasonCode, DecodeError> {
    ReasonCode::from_u8(cursor.u8()?)
        .filter(|code| code.is_allowed_in(kind))
        .ok_or_else(|| DecodeError::malformed("reason code not allowed in this packet", "v5 2.4"))
}
