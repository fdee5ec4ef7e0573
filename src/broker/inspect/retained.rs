//! Retained messages.

use super::{Page, Time};
use crate::broker::Handle;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use nightjar_base::ShardId;
use nightjar_mqtt::property::{Forwarded, forwarded_in};
use nightjar_mqtt::topic;
use nightjar_shard::{Op, RetainedMessage, TablesError};
use serde::Serialize;
use utoipa::ToSchema;

/// Topics looked at under one lock.
const SCANNED: usize = 1024;
/// Topics looked at for one page; a page may be short of items, and still not the last.
const SCANNED_A_PAGE: usize = 64 * SCANNED;
/// Bytes of a payload that a list shows.
const PREVIEW: usize = 120;

/// A retained message.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct RetainedSummary {
    /// Its topic.
    pub topic: String,
    /// Bytes of its payload.
    pub bytes: usize,
    /// Its quality of service.
    pub qos: u8,
    /// The beginning of its payload, if that is text.
    pub payload_preview: Option<String>,
    /// When it was retained.
    pub retained_at: Time,
    /// When it expires, if it does.
    pub expires_at: Option<Time>,
}

/// All of a retained message.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct RetainedDetail {
    /// Its topic.
    pub topic: String,
    /// Its payload.
    pub payload_base64: String,
    /// Its payload as text, if it is text.
    pub payload_text: Option<String>,
    /// Its quality of service.
    pub qos: u8,
    /// When it expires, if it does.
    pub expires_at: Option<Time>,
    /// Whether its publisher said that the payload is UTF-8 text.
    pub payload_is_utf8: bool,
    /// What its publisher said that the payload is.
    pub content_type: Option<String>,
    /// Where an answer is expected.
    pub response_topic: Option<String>,
    /// What an answer must repeat.
    pub correlation_data_base64: Option<String>,
    /// Names and values that its publisher added.
    pub user_properties: Vec<UserProperty>,
}

/// A name and its value.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct UserProperty {
    /// The name.
    pub name: String,
    /// The value.
    pub value: String,
}

impl Handle {
    /// Retained messages whose topics match `filter`, shard by shard, each in the order of its topics.
    ///
    /// # Errors
    /// When the tables cannot be read.
    pub fn retained(
        &self,
        filter: &str,
        cursor: Option<&str>,
        limit: usize,
    ) -> Result<Page<RetainedSummary>, TablesError> {
        let store = &self.broker.store;
        let (mut shard, mut after) = match cursor.and_then(|cursor| cursor.split_once(':')) {
            Some((shard, after)) => (shard.parse().unwrap_or(0), Some(after.to_owned()).filter(|t| !t.is_empty())),
            None if topic::has_wildcard(filter) => (0, None),
            None => (store.shard_of(filter).0, None),
        };
        let now = self.broker.clock.now();
        let mut items: Vec<RetainedSummary> = Vec::new();
        for _ in 0..SCANNED_A_PAGE / SCANNED {
            if shard >= store.shard_count() {
                return Ok(Page { items, next: None });
            }
            let mut page = Vec::new();
            let room = limit - items.len();
            let looked = {
                let shard = store.lock(ShardId(shard));
                shard.retained_page(store.tables(), filter, after.as_deref(), SCANNED, room, &mut page)?
            };
            items.extend(page.iter().filter(|found| !found.message.is_expired(now)).map(RetainedSummary::new));
            match looked {
                Some(topic) => after = Some(topic.to_string()),
                None if !topic::has_wildcard(filter) => return Ok(Page { items, next: None }),
                None => (shard, after) = (shard + 1, None),
            }
            if items.len() >= limit {
                break;
            }
        }
        let next = (shard < store.shard_count()).then(|| format!("{shard}:{}", after.unwrap_or_default()));
        Ok(Page { items, next })
    }

    /// The retained message of a topic.
    ///
    /// # Errors
    /// When the tables cannot be read.
    pub fn retained_message(&self, topic: &str) -> Result<Option<RetainedDetail>, TablesError> {
        let store = &self.broker.store;
        let now = self.broker.clock.now();
        let found = store.lock(store.shard_of(topic)).retained(store.tables(), topic)?;
        Ok(found.filter(|(message, _)| !message.is_expired(now)).map(|(message, _)| {
            let mut detail = RetainedDetail {
                topic: topic.to_owned(),
                payload_base64: STANDARD.encode(message.payload()),
                payload_text: std::str::from_utf8(message.payload()).ok().map(str::to_owned),
                qos: message.qos as u8,
                expires_at: message.expires.map(Time),
                payload_is_utf8: false,
                content_type: None,
                response_topic: None,
                correlation_data_base64: None,
                user_properties: Vec::new(),
            };
            for property in forwarded_in(message.properties()) {
                detail.take(property);
            }
            detail
        }))
    }

    /// Forgets the retained message of a topic; nobody is sent anything. False if there is none. Returns when that is
    /// durable.
    ///
    /// # Errors
    /// When the tables cannot be read.
    pub async fn forget_retained(&self, topic: &str) -> Result<bool, TablesError> {
        let store = &self.broker.store;
        let shard = store.shard_of(topic);
        let found = store.lock(shard).retained(store.tables(), topic)?;
        let Some((_, index)) = found else { return Ok(false) };
        let position = store.submit(&mut vec![(shard, Op::Forget { topic: topic.into(), index })], None);
        store.wait(position).await;
        Ok(true)
    }
}

impl RetainedSummary {
    fn new(found: &RetainedMessage) -> Self {
        let message = &found.message;
        Self {
            topic: message.topic().to_owned(),
            bytes: message.payload().len(),
            qos: message.qos as u8,
            payload_preview: preview(message.payload()),
            retained_at: Time(found.at),
            expires_at: message.expires.map(Time),
        }
    }
}

impl RetainedDetail {
    fn take(&mut self, property: Forwarded<'_>) {
        match property {
            Forwarded::PayloadFormat(is_utf8) => self.payload_is_utf8 = is_utf8,
            Forwarded::ContentType(text) => self.content_type = Some(text.to_owned()),
            Forwarded::ResponseTopic(name) => self.response_topic = Some(name.to_owned()),
            Forwarded::CorrelationData(data) => self.correlation_data_base64 = Some(STANDARD.encode(data)),
            Forwarded::User(name, value) => {
                self.user_properties.push(UserProperty { name: name.to_owned(), value: value.to_owned() });
            }
        }
    }
}

/// The beginning of a payload, if it is text; a character that is cut in two is left out.
fn preview(payload: &[u8]) -> Option<String> {
    let begin = &payload[..payload.len().min(PREVIEW)];
    match std::str::from_utf8(begin) {
        Ok(text) => Some(text.to_owned()),
        Err(error) if error.error_len().is_none() && begin.len() < payload.len() => {
            std::str::from_utf8(&begin[..error.valid_up_to()]).ok().map(str::to_owned)
        }
        Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_preview_is_whole_characters_of_text() {
        assert_eq!(preview(b"21.5").as_deref(), Some("21.5"));
        assert_eq!(preview(&[0xff, 0xfe]), None);
        assert_eq!(preview(&[0xc3]), None);
        let long = "ä".repeat(100);
        assert_eq!(preview(format!("x{long}").as_bytes()).map(|text| text.chars().count()), Some(60));
    }
}
