//! Who has subscribed to what.

use super::Page;
use super::page::Paging;
use crate::broker::Handle;
use crate::broker::subscriber::Subscriber;
use nightjar_mqtt::{RetainHandling, SubscriptionOptions, topic};
use serde::Serialize;
use std::sync::Arc;
use utoipa::ToSchema;

/// What separates client identifier and filter in a cursor. No client identifier holds it [MQTT-1.5.4-2].
const SEPARATOR: char = '\0';

/// One subscription of a client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct SubscriptionOfClient {
    /// The filter as the client sent it, `$share/…/` included.
    pub filter: String,
    /// The group, of a shared subscription.
    pub share: Option<String>,
    /// The highest quality of service at which messages are sent.
    pub qos: u8,
    /// What the client publishes itself is not sent to it.
    pub no_local: bool,
    /// The retain flag is sent as it was published.
    pub retain_as_published: bool,
    /// When retained messages are sent: 0 always, 1 if the subscription is new, 2 never.
    pub retain_handling: u8,
    /// The subscription identifier, if the client gave one.
    pub identifier: Option<u32>,
}

/// One subscription, and whose it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct SubscriptionSummary {
    /// The client identifier.
    pub client_id: String,
    /// The subscription.
    #[serde(flatten)]
    pub subscription: SubscriptionOfClient,
}

impl SubscriptionOfClient {
    pub(super) fn new(filter: &str, options: SubscriptionOptions) -> Self {
        let share = topic::parse_filter(filter).ok().and_then(|parsed| parsed.share.map(str::to_owned));
        Self {
            filter: filter.to_owned(),
            share,
            qos: options.qos as u8,
            no_local: options.no_local,
            retain_as_published: options.retain_as_published,
            retain_handling: match options.retain_handling {
                RetainHandling::Always => 0,
                RetainHandling::IfNew => 1,
                RetainHandling::Never => 2,
            },
            identifier: options.identifier,
        }
    }
}

impl Handle {
    /// Subscriptions, sorted by client identifier and filter: all, those of one client, or those that match a topic.
    #[must_use]
    pub fn subscriptions(
        &self,
        client: Option<&str>,
        topic: Option<&str>,
        cursor: Option<&str>,
        limit: usize,
    ) -> Page<SubscriptionSummary> {
        let mut paging = Paging::new(cursor, limit);
        // Whole clients that lie before the cursor need not be looked into.
        let begun = cursor.and_then(|cursor| cursor.split(SEPARATOR).next()).unwrap_or_default();
        for subscriber in self.subscribers(client, topic) {
            let client_id = &subscriber.client_id;
            if **client_id < *begun {
                continue;
            }
            for subscription in self.filters_of(&subscriber) {
                let parsed = topic::parse_filter(&subscription.filter);
                if topic.is_some_and(|name| !parsed.is_ok_and(|parsed| topic::matches(parsed.filter, name))) {
                    continue;
                }
                let key = format!("{client_id}{SEPARATOR}{}", subscription.filter);
                if paging.wants(&key) {
                    let summary = SubscriptionSummary { client_id: client_id.to_string(), subscription };
                    paging.offer(&key.into(), summary);
                }
            }
        }
        paging.page()
    }

    /// The subscribers that have to be looked at.
    fn subscribers(&self, client: Option<&str>, topic: Option<&str>) -> Vec<Arc<Subscriber>> {
        let broker = &*self.broker;
        if let Some(client) = client {
            return self.subscriber_of(client).into_iter().collect();
        }
        if let Some(topic) = topic {
            let plan = broker.router.read().plan(topic, 0);
            let members = plan.groups.iter().flat_map(|group| group.members.iter());
            let mut found: Vec<Arc<Subscriber>> =
                plan.receivers.iter().chain(members).map(|receiver| Arc::clone(&receiver.handle)).collect();
            found.sort_by_key(|subscriber| subscriber.id);
            found.dedup_by_key(|subscriber| subscriber.id);
            return found;
        }
        let mut found: Vec<Arc<Subscriber>> = broker.persistent().collect();
        broker.registry.each(|peer| {
            found.extend(peer.subscriber.upgrade().filter(|subscriber| subscriber.session.is_none()));
        });
        found
    }

    /// The subscriber of a client, connected or not.
    fn subscriber_of(&self, client: &str) -> Option<Arc<Subscriber>> {
        let broker = &*self.broker;
        if let Some(subscriber) = broker.registry.find(client).and_then(|peer| peer.subscriber.upgrade()) {
            return Some(subscriber);
        }
        let shard = broker.store.shard_of(client);
        let session = broker.store.lock(shard).session_of(client)?;
        broker.session(shard, session)
    }

    /// What one subscriber has subscribed to, sorted by filter.
    pub(super) fn filters_of(&self, subscriber: &Arc<Subscriber>) -> Vec<SubscriptionOfClient> {
        if let Some((shard, session)) = subscriber.session {
            let store = self.broker.store.lock(shard);
            let session = store.session(session);
            let all = session.into_iter().flat_map(nightjar_shard::Session::subscriptions);
            return all.map(|(filter, of)| SubscriptionOfClient::new(filter, of.options)).collect();
        }
        let filters = subscriber.filters();
        let mut all: Vec<_> =
            filters.iter().map(|(filter, options)| SubscriptionOfClient::new(filter, *options)).collect();
        all.sort_by(|one, other| one.filter.cmp(&other.filter));
        all
    }
}
