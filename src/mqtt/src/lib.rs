//! MQTT 3.1, 3.1.1 and 5.0 as values: one packet model, and the version as a parameter of the codec.
//!
//! Bytes come in as a buffer that the caller owns and go out into a `Vec` that the caller reuses. [`frame::peek`] cuts a
//! packet off the buffer, [`decode`] makes a [`Packet`] of it, [`encode`] is the way back. The publish path has forms
//! of its own that allocate nothing: [`decode_publish`], [`encode_publish`], [`encode_ack`].

mod error;
pub mod frame;
mod message;
mod packet;
pub mod property;
mod publish;
pub mod reason;
pub mod topic;
mod types;
mod wire;

pub use error::{DecodeError, ErrorKind};
pub use frame::{Frame, MAX_PACKET_SIZE, PacketType};
pub use message::Message;
pub use packet::{
    Ack, Auth, ConnAck, Connect, Disconnect, Packet, Publish, SubAck, Subscribe, UnsubAck, Unsubscribe, Will,
    connect_version, decode, decode_connect, encode, encode_ack,
};
pub use property::UserProperties;
pub use publish::{
    Delivery, PublishParts, PublishProperties, PublishRef, decode_publish, decode_publish_from_server, encode_publish,
    encode_publish_head, publish_size, without_user,
};
pub use reason::ReasonCode;
pub use types::{QoS, RetainHandling, SubscriptionOptions, Version};
