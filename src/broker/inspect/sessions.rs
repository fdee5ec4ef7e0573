//! Persistent sessions, with and without a connection.

use super::page::Paging;
use super::{Page, SubscriptionOfClient, Time};
use crate::broker::peer::Close;
use crate::broker::subscriber::Subscriber;
use crate::broker::{Broker, Handle};
use nightjar_base::ClientId;
use nightjar_shard::{NEVER, Op, Will};
use serde::Serialize;
use std::sync::Arc;
use utoipa::ToSchema;

/// A persistent session.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct SessionSummary {
    /// The client identifier.
    pub client_id: String,
    /// Whose it is, if anybody's.
    pub user: Option<String>,
    /// Whether a connection has it.
    pub connected: bool,
    /// When it ends unless its client comes back; `null` while it is connected, or if it never ends.
    pub expires_at: Option<Time>,
    /// Messages in its queue, sent and not acknowledged ones included.
    pub queued: u64,
    /// Their bytes.
    pub queued_bytes: u64,
    /// How many subscriptions it has.
    pub subscriptions: usize,
}

/// Everything about a persistent session.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct SessionDetail {
    /// What a list says of it.
    #[serde(flatten)]
    pub summary: SessionSummary,
    /// For how many seconds it outlives a connection; `null` for ever.
    pub expiry_seconds: Option<u32>,
    /// How many messages may be in its queue.
    pub queue_messages: u64,
    /// How many bytes.
    pub queue_bytes: u64,
    /// QoS 2 messages of the client between PUBLISH and PUBREL.
    pub inflight_in: usize,
    /// What it has subscribed to.
    pub subscriptions: Vec<SubscriptionOfClient>,
    /// What is published if its client does not come back.
    pub will: Option<WillSummary>,
    /// When that is due.
    pub will_due: Option<Time>,
}

/// A will.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct WillSummary {
    /// Its topic.
    pub topic: String,
    /// Its quality of service.
    pub qos: u8,
    /// Whether it is retained.
    pub retain: bool,
    /// For how many seconds it is held back.
    pub delay_seconds: u32,
    /// Bytes of its payload.
    pub payload_bytes: usize,
}

impl WillSummary {
    pub(super) fn new(will: &Will) -> Self {
        Self {
            topic: will.message.topic().to_owned(),
            qos: will.message.qos as u8,
            retain: will.message.retain,
            delay_seconds: will.delay,
            payload_bytes: will.message.payload().len(),
        }
    }
}

impl Broker {
    /// The subscribers of all persistent sessions, those that are there when their shard's turn comes.
    pub(super) fn persistent(&self) -> impl Iterator<Item = Arc<Subscriber>> {
        self.sessions.iter().flat_map(|shard| shard.lock().values().cloned().collect::<Vec<_>>())
    }
}

impl Handle {
    /// Persistent sessions, sorted by client identifier.
    #[must_use]
    pub fn sessions(&self, cursor: Option<&str>, limit: usize) -> Page<SessionSummary> {
        let mut paging = Paging::new(cursor, limit);
        for subscriber in self.broker.persistent() {
            if paging.wants(&subscriber.client_id) {
                paging.offer(&Arc::clone(&subscriber.client_id), subscriber);
            }
        }
        let page = paging.page();
        // One that has ended since is left out.
        let next = page.next;
        let items = page.items.iter().filter_map(|of| self.session_detail(of)).map(|detail| detail.summary);
        Page { items: items.collect(), next }
    }

    /// One persistent session.
    #[must_use]
    pub fn session(&self, client_id: &str) -> Option<SessionDetail> {
        let shard = self.broker.store.shard_of(client_id);
        let id = self.broker.store.lock(shard).session_of(client_id)?;
        self.session_detail(&*self.broker.session(shard, id)?)
    }

    fn session_detail(&self, subscriber: &Subscriber) -> Option<SessionDetail> {
        let (shard, id) = subscriber.session?;
        let store = self.broker.store.lock(shard);
        let session = store.session(id)?;
        let subscriptions = session.subscriptions();
        Some(SessionDetail {
            summary: SessionSummary {
                client_id: session.client_id().to_string(),
                user: session.user().map(ToString::to_string),
                connected: session.attached(),
                expires_at: session.expires().filter(|_| !session.attached()).map(Time),
                queued: session.queued(),
                queued_bytes: session.queued_bytes(),
                subscriptions: session.subscription_count(),
            },
            expiry_seconds: Some(session.expiry()).filter(|expiry| *expiry != NEVER),
            queue_messages: session.limits().messages,
            queue_bytes: session.limits().bytes,
            inflight_in: session.inbound().len(),
            subscriptions: subscriptions.map(|(filter, of)| SubscriptionOfClient::new(filter, of.options)).collect(),
            will: session.will().map(WillSummary::new),
            will_due: session.will_due().map(Time),
        })
    }

    /// Ends a session with its queue and its subscriptions, for good; a connection of its client ends too. False if
    /// there is none. Returns when that is durable.
    pub async fn end_session(&self, client_id: &str) -> bool {
        let broker = &*self.broker;
        let client_id: ClientId = client_id.into();
        let claim = broker.registry.claim(&client_id).await;
        if let Some(peer) = claim.current() {
            peer.close(Close::Kicked);
            peer.wait_gone().await;
        }
        // What the connection did last must be applied before its session can be settled.
        broker.store.wait(broker.store.submitted()).await;
        let shard = broker.store.shard_of(&client_id);
        let Some(session) = broker.store.lock(shard).session_of(&client_id) else { return false };
        let mut ops = Vec::new();
        broker.settle(shard, session, false, &mut ops).await;
        ops.push((shard, Op::End { session }));
        let position = broker.store.submit(&mut ops, None);
        crate::broker::turn::flush();
        broker.store.wait(position).await;
        true
    }
}
