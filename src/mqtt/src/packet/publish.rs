//! PUBLISH with its parts owned, for where speed is of no concern (v5 section 3.3).

use crate::{
    DecodeError, Delivery, Frame, PublishParts, QoS, Version, decode_publish_from_server, encode_publish, topic,
};

/// A message on its way.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Publish {
    /// Whether it may have been sent before.
    pub dup: bool,
    /// The quality of service.
    pub qos: QoS,
    /// The retain flag.
    pub retain: bool,
    /// A valid topic name; empty only with a topic alias.
    pub topic: String,
    /// The packet identifier; 0 at QoS 0.
    pub packet_id: u16,
    /// The forwarded v5 properties, encoded, without a length
    /// ([`property::forwarded_in`](crate::property::forwarded_in) reads them).
    pub properties: Vec<u8>,
    /// Seconds until it expires (v5).
    pub message_expiry: Option<u32>,
    /// The topic alias (v5).
    pub topic_alias: Option<u16>,
    /// The subscription identifiers of what matched (v5); only a server sends them.
    pub identifiers: Vec<u32>,
    /// The payload.
    pub payload: Vec<u8>,
}

impl Publish {
    pub(super) fn decode(frame: &Frame<'_>, version: Version) -> Result<Self, DecodeError> {
        let publish = decode_publish_from_server(frame, version)?;
        let topic = if publish.topic.is_empty() { "" } else { topic::validate_name(publish.topic)? };
        let properties = publish.properties;
        Ok(Self {
            dup: publish.dup,
            qos: publish.qos,
            retain: publish.retain,
            topic: topic.to_owned(),
            packet_id: publish.packet_id,
            properties: properties.forwarded(&mut Vec::new()).to_vec(),
            message_expiry: properties.message_expiry,
            topic_alias: properties.topic_alias,
            identifiers: properties.identifiers().collect(),
            payload: publish.payload.to_vec(),
        })
    }

    pub(super) fn encode(&self, version: Version, out: &mut Vec<u8>) {
        let parts = PublishParts {
            topic: self.topic.as_bytes(),
            properties: &self.properties,
            payload: &self.payload,
            expiry: self.message_expiry,
        };
        let delivery = Delivery {
            qos: self.qos,
            retain: self.retain,
            dup: self.dup,
            packet_id: self.packet_id,
            identifiers: &self.identifiers,
            alias: self.topic_alias.map(|alias| (alias, self.topic.is_empty())),
        };
        encode_publish(version, &parts, &delivery, out);
    }
}
