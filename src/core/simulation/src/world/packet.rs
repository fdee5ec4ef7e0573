//! MQTT packets as values: what clients and nodes say to each other. The codec has tests of its own.

use nightjar_mqtt::QoS;
use std::sync::Arc;

/// One packet, in either direction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Packet {
    Connect(Connect),
    ConnAck { present: bool, accepted: bool },
    Publish(Publish),
    PubAck(u16),
    PubRec(u16),
    PubRel(u16),
    PubComp(u16),
    Subscribe { id: u16, filter: Arc<str>, qos: QoS },
    SubAck { id: u16, granted: bool },
    Unsubscribe { id: u16, filter: Arc<str> },
    UnsubAck(u16),
    Disconnect,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Connect {
    pub(crate) client_id: Arc<str>,
    pub(crate) clean: bool,
    pub(crate) will: Option<Will>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Will {
    pub(crate) topic: Arc<str>,
    pub(crate) qos: QoS,
    pub(crate) number: u64,
    pub(crate) delay: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Publish {
    pub(crate) topic: Arc<str>,
    pub(crate) qos: QoS,
    pub(crate) retain: bool,
    pub(crate) dup: bool,
    pub(crate) id: u16,
    /// The message's number is all of its payload.
    pub(crate) number: u64,
}
