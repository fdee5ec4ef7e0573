//! The small words of the protocol: versions and qualities of service.

use serde::{Deserialize, Serialize};

/// The protocol version of a connection; its number is the protocol level of the CONNECT packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[repr(u8)]
pub enum Version {
    /// MQTT 3.1 (`MQIsdp`, level 3).
    V31 = 3,
    /// MQTT 3.1.1 (`MQTT`, level 4).
    V311 = 4,
    /// MQTT 5.0 (`MQTT`, level 5).
    V5 = 5,
}

/// Quality of service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[repr(u8)]
pub enum QoS {
    /// At most once.
    #[default]
    AtMostOnce = 0,
    /// At least once.
    AtLeastOnce = 1,
    /// Exactly once.
    ExactlyOnce = 2,
}

impl QoS {
    /// The quality of service that the two low bits of `bits` name; `None` for 3.
    #[must_use]
    pub fn from_bits(bits: u8) -> Option<Self> {
        match bits & 3 {
            0 => Some(Self::AtMostOnce),
            1 => Some(Self::AtLeastOnce),
            2 => Some(Self::ExactlyOnce),
            _ => None,
        }
    }
}

/// What a subscriber asks for with one topic filter (v5 section 3.8.3.1).
///
/// In 3.1 and 3.1.1 only the quality of service exists; the rest is as `Default` gives it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubscriptionOptions {
    /// The highest quality of service at which messages are sent.
    pub qos: QoS,
    /// Messages are not sent to the connection that published them.
    pub no_local: bool,
    /// The retain flag is forwarded as it was published.
    pub retain_as_published: bool,
    /// When retained messages are sent on SUBSCRIBE.
    pub retain_handling: RetainHandling,
    /// The subscription identifier (1 to 268,435,455), if the client gave one.
    pub identifier: Option<u32>,
}

/// When the retained messages of a filter are sent to a new subscriber (v5 section 3.8.3.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[repr(u8)]
pub enum RetainHandling {
    /// At every SUBSCRIBE.
    #[default]
    Always = 0,
    /// Only if the subscription did not exist.
    IfNew = 1,
    /// Never.
    Never = 2,
}
