//! What the sending to one client is made of.

use crate::broker::waiting::Bounds;
use nightjar_mqtt::{Message, PacketType, QoS, ReasonCode};
use std::sync::Arc;

/// What bounds the sending to one client.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SendLimits {
    /// The client's Maximum Packet Size [MQTT-3.1.2-24].
    pub(crate) packet: usize,
    /// Above it QoS 0 is dropped and nothing else is added but acknowledgements.
    pub(crate) outbox_high: usize,
    /// Above it the connection is closed.
    pub(crate) outbox_max: usize,
    /// Bounds of a transient session's queue.
    pub(crate) waiting: Bounds,
}

/// An acknowledgement that waits until what it says is durable.
pub(crate) enum Pending {
    Ack {
        kind: PacketType,
        packet_id: u16,
        reason: ReasonCode,
    },
    /// A whole packet: SUBACK, UNSUBACK.
    Packet(Box<[u8]>),
}

/// A message of a shared subscription that the client has not acknowledged.
pub(crate) struct SharedUnderWay {
    pub(crate) message: Arc<Message>,
    pub(crate) qos: QoS,
    pub(crate) share: Arc<str>,
}

/// How one delivery is to look.
pub(crate) struct Copy<'a> {
    pub(crate) qos: QoS,
    pub(crate) retain: bool,
    pub(crate) identifiers: &'a [u32],
    pub(crate) share: Option<&'a Arc<str>>,
}

/// Whether a member of a shared subscription can take a message now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Readiness {
    /// Connected, with room in its window.
    Ready,
    /// Connected, but behind.
    Busy,
    /// Not connected; its session may keep messages.
    Absent,
}

/// What became of a queue entry that was offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fed {
    /// Sent, or sent before: nothing to do.
    Sent,
    /// Not now; offer it again when there is room.
    Later,
    /// It is done with without an acknowledgement of the client (expired, too large, QoS 0).
    Done,
}
