//! A message on its way to its receivers: borrowed from the read buffer as long as nobody has to keep it.

use super::ports::Publication;
use nightjar_base::Wall;
use nightjar_mqtt::{Message, PublishParts, QoS};
use std::cell::OnceCell;
use std::sync::Arc;

/// One application message, with an `Arc` of it made only when somebody needs to keep it.
pub(crate) struct Source<'a> {
    topic: &'a [u8],
    properties: &'a [u8],
    payload: &'a [u8],
    pub(crate) qos: QoS,
    pub(crate) retain: bool,
    /// Set where it may have to be made again, on another node.
    pub(crate) publication: Option<Publication>,
    expiry: Option<u32>,
    expires: Option<Wall>,
    message: OnceCell<Arc<Message>>,
}

impl<'a> Source<'a> {
    /// A message that has just arrived; it expires `expiry` seconds after `now`.
    pub(crate) fn arrived(
        topic: &'a str,
        properties: &'a [u8],
        payload: &'a [u8],
        qos: QoS,
        retain: bool,
        expiry: Option<(u32, Wall)>,
    ) -> Self {
        Self {
            topic: topic.as_bytes(),
            properties,
            payload,
            qos,
            retain,
            publication: None,
            expiry: expiry.map(|(seconds, _)| seconds),
            expires: expiry.map(|(seconds, now)| now.plus_seconds(seconds.into())),
            message: OnceCell::new(),
        }
    }

    /// A message that was kept; what is left of its expiry interval at `now` is passed on [MQTT-3.3.2-6].
    pub(crate) fn of_message(message: &'a Arc<Message>, now: Wall) -> Self {
        let left = |at: Wall| u32::try_from(now.seconds_until(at)).unwrap_or(u32::MAX);
        Self {
            topic: message.topic_bytes(),
            properties: message.properties(),
            payload: message.payload(),
            qos: message.qos,
            retain: message.retain,
            publication: None,
            expiry: message.expires.map(left),
            expires: message.expires,
            message: OnceCell::from(Arc::clone(message)),
        }
    }

    /// The message as it is kept.
    pub(crate) fn message(&self) -> &Arc<Message> {
        self.message.get_or_init(|| {
            let mut message =
                Message::new(std::str::from_utf8(self.topic).unwrap_or_default(), self.properties, self.payload);
            message.qos = self.qos;
            message.retain = self.retain;
            message.expires = self.expires;
            Arc::new(message)
        })
    }

    /// Its parts, for the codec.
    #[inline]
    pub(crate) fn parts(&self) -> PublishParts<'a> {
        PublishParts { topic: self.topic, properties: self.properties, payload: self.payload, expiry: self.expiry }
    }
}
