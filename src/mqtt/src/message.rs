//! An application message as the broker keeps it: once, shared by all who receive it.

use crate::{PublishParts, QoS};
use nightjar_base::Wall;
use serde::{Deserialize, Serialize};

/// An application message: topic, forwarded v5 properties and payload in one allocation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Stored")]
pub struct Message {
    topic_length: u16,
    properties_length: u32,
    /// The quality of service at which it was published.
    pub qos: QoS,
    /// Whether it was published with the retain flag.
    pub retain: bool,
    /// When it expires, if it does (v5 Message Expiry Interval, made absolute on arrival).
    pub expires: Option<Wall>,
    #[serde(with = "serde_bytes")]
    body: Box<[u8]>,
}

/// A message as it was written, before its lengths are checked against its body.
#[derive(Deserialize)]
struct Stored {
    topic_length: u16,
    properties_length: u32,
    qos: QoS,
    retain: bool,
    expires: Option<Wall>,
    #[serde(with = "serde_bytes")]
    body: Box<[u8]>,
}

impl TryFrom<Stored> for Message {
    type Error = &'static str;

    fn try_from(stored: Stored) -> Result<Self, Self::Error> {
        let Stored { topic_length, properties_length, qos, retain, expires, body } = stored;
        let topic = body.get(..usize::from(topic_length)).ok_or("the topic is longer than the message")?;
        std::str::from_utf8(topic).map_err(|_| "the topic is not UTF-8")?;
        if body.len() < usize::from(topic_length) + properties_length as usize {
            return Err("the properties are longer than the message");
        }
        Ok(Self { topic_length, properties_length, qos, retain, expires, body })
    }
}

impl Message {
    /// A message of `topic`, `payload`, and `properties`: the encoded v5 properties that are forwarded unchanged
    /// (payload format, content type, response topic, correlation data, user properties), without a length.
    ///
    /// `topic` must be a valid topic name of at most 65,535 bytes; the codec has checked that.
    #[must_use]
    pub fn new(topic: &str, properties: &[u8], payload: &[u8]) -> Self {
        let mut body = Vec::with_capacity(topic.len() + properties.len() + payload.len());
        body.extend_from_slice(topic.as_bytes());
        body.extend_from_slice(properties);
        body.extend_from_slice(payload);
        Self {
            topic_length: u16::try_from(topic.len()).expect("a topic name is at most 65,535 bytes on the wire"),
            properties_length: u32::try_from(properties.len()).expect("a packet is at most 256 MiB on the wire"),
            qos: QoS::AtMostOnce,
            retain: false,
            expires: None,
            body: body.into_boxed_slice(),
        }
    }

    /// The topic name.
    #[must_use]
    pub fn topic(&self) -> &str {
        std::str::from_utf8(&self.body[..usize::from(self.topic_length)]).unwrap_or_default()
    }

    /// The topic name's bytes, without the check that `topic` makes.
    #[must_use]
    #[inline]
    pub fn topic_bytes(&self) -> &[u8] {
        &self.body[..usize::from(self.topic_length)]
    }

    /// What the encoder needs of it: the expiry interval as what is left at `now` [MQTT-3.3.2-6].
    #[must_use]
    #[inline]
    pub fn parts(&self, now: Wall) -> PublishParts<'_> {
        PublishParts {
            topic: self.topic_bytes(),
            properties: self.properties(),
            payload: self.payload(),
            expiry: self.expires.map(|at| u32::try_from(now.seconds_until(at)).unwrap_or(u32::MAX)),
        }
    }

    /// The encoded v5 properties to forward, without their length.
    #[must_use]
    pub fn properties(&self) -> &[u8] {
        let start = usize::from(self.topic_length);
        &self.body[start..start + self.properties_length as usize]
    }

    /// The payload.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        &self.body[usize::from(self.topic_length) + self.properties_length as usize..]
    }

    /// Bytes that this message holds in memory, its own struct included.
    #[must_use]
    pub fn size(&self) -> usize {
        self.body.len() + std::mem::size_of::<Self>() + 16
    }

    /// Whether the message is of no use any more at `now`.
    #[must_use]
    pub fn is_expired(&self, now: Wall) -> bool {
        self.expires.is_some_and(|at| at <= now)
    }
}
