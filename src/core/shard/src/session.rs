//! A session's head: all of a session that stays in memory.

use crate::op::{QueueLimits, Will};
use crate::queue::Queue;
use nightjar_base::{SessionId, Wall};
use nightjar_mqtt::SubscriptionOptions;
use std::collections::BTreeMap;
use std::sync::Arc;

/// How far the replay of retained messages for a subscription has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cursor {
    /// Nothing was taken yet.
    Start,
    /// All topics up to this one were looked at.
    After(Arc<str>),
}

impl Cursor {
    /// The topic after which to go on.
    #[must_use]
    pub fn after(&self) -> Option<&str> {
        match self {
            Self::Start => None,
            Self::After(topic) => Some(topic),
        }
    }
}

/// A subscription as the session has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscribed {
    /// Its options.
    pub options: SubscriptionOptions,
    /// The pending replay of retained messages, if there is one.
    pub replay: Option<Cursor>,
    /// When the replay was asked for.
    pub since: Wall,
    /// The number of its row within the session's; 0 while it has none.
    pub(crate) row: u32,
    /// How many parts its row has in the tables.
    pub(crate) parts: u16,
    /// Whether it differs from its row.
    pub(crate) dirty: bool,
}

/// A persistent session's head.
#[derive(Debug)]
pub struct Session {
    pub(crate) id: SessionId,
    pub(crate) client_id: Arc<str>,
    pub(crate) user: Option<Arc<str>>,
    pub(crate) epoch: u64,
    pub(crate) attached: bool,
    /// Of the connection; `ALONE` while there is none.
    pub(crate) home: u64,
    pub(crate) expiry: u32,
    pub(crate) expires: Option<Wall>,
    pub(crate) will: Option<Box<Will>>,
    pub(crate) will_due: Option<Wall>,
    pub(crate) sent: u64,
    pub(crate) limits: QueueLimits,
    pub(crate) subscriptions: BTreeMap<Arc<str>, Subscribed>,
    pub(crate) queue: Queue,
    /// Packet identifiers of the client's QoS 2 messages between PUBLISH and PUBREL, ascending.
    pub(crate) inbound: Vec<u16>,
    pub(crate) rows: Rows,
}

/// What the tables hold of a session, and what of it is out of date there.
#[derive(Debug, Default)]
pub(crate) struct Rows {
    /// Whether the session is in the shard's list of what the next freeze looks at.
    pub(crate) listed: bool,
    /// Whether the identity row is out of date.
    pub(crate) identity_dirty: bool,
    /// How many parts the identity row has.
    pub(crate) identity_parts: u16,
    /// Whether the queue row is out of date.
    pub(crate) queue_dirty: bool,
    /// How many parts the queue row has.
    pub(crate) queue_parts: u16,
    /// The last row number given to a subscription.
    pub(crate) last_subscription: u32,
    /// Filters of subscriptions that differ from their rows.
    pub(crate) dirty_subscriptions: Vec<Arc<str>>,
    /// Subscription rows (number, parts) that are to go.
    pub(crate) removed_subscriptions: Vec<(u32, u16)>,
}

impl Session {
    /// The session's number.
    #[must_use]
    pub fn id(&self) -> SessionId {
        self.id
    }

    /// The client identifier.
    #[must_use]
    pub fn client_id(&self) -> &Arc<str> {
        &self.client_id
    }

    /// Who authenticated at the last attach.
    #[must_use]
    pub fn user(&self) -> Option<&Arc<str>> {
        self.user.as_ref()
    }

    /// The epoch of the last attach.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Whether a connection has it.
    #[must_use]
    pub fn attached(&self) -> bool {
        self.attached
    }

    /// The home of its connection; [`ALONE`](crate::ALONE) while it has none, and on a node alone.
    #[must_use]
    pub fn home(&self) -> u64 {
        self.home
    }

    /// The session expiry interval in seconds.
    #[must_use]
    pub fn expiry(&self) -> u32 {
        self.expiry
    }

    /// When it ends unless it is attached before.
    #[must_use]
    pub fn expires(&self) -> Option<Wall> {
        self.expires
    }

    /// The will.
    #[must_use]
    pub fn will(&self) -> Option<&Will> {
        self.will.as_deref()
    }

    /// When the will is to be published.
    #[must_use]
    pub fn will_due(&self) -> Option<Wall> {
        self.will_due
    }

    /// The first sequence that no connection of the past was sent.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.sent
    }

    /// The bounds of its queue.
    #[must_use]
    pub fn limits(&self) -> &QueueLimits {
        &self.limits
    }

    /// Its subscriptions, by filter as sent, in the filters' order.
    pub fn subscriptions(&self) -> impl Iterator<Item = (&Arc<str>, &Subscribed)> {
        self.subscriptions.iter()
    }

    /// Its subscription with this filter, as sent.
    #[must_use]
    pub fn subscription(&self, filter: &str) -> Option<&Subscribed> {
        self.subscriptions.get(filter)
    }

    /// How many subscriptions it has.
    #[must_use]
    pub fn subscription_count(&self) -> usize {
        self.subscriptions.len()
    }

    /// The lowest sequence that is not done with, received ones included; `next_sequence` if there is none.
    #[must_use]
    pub fn head(&self) -> u64 {
        self.queue.first_open()
    }

    /// The sequence that the next entry gets.
    #[must_use]
    pub fn next_sequence(&self) -> u64 {
        self.queue.next()
    }

    /// The sequences whose PUBREC was seen and whose PUBCOMP was not, ascending.
    pub fn received(&self) -> impl Iterator<Item = u64> {
        self.queue.received()
    }

    /// Packet identifiers of QoS 2 messages from the client whose PUBREL was not seen, ascending.
    #[must_use]
    pub fn inbound(&self) -> &[u16] {
        &self.inbound
    }

    /// Whether this packet identifier is of a QoS 2 message that was accepted already.
    #[must_use]
    pub fn has_inbound(&self, packet_id: u16) -> bool {
        self.inbound.binary_search(&packet_id).is_ok()
    }

    /// How many entries wait in its queue; received ones are not counted.
    #[must_use]
    pub fn queued(&self) -> u64 {
        self.queue.len()
    }

    /// Their bytes.
    #[must_use]
    pub fn queued_bytes(&self) -> u64 {
        self.queue.bytes()
    }

    /// Bytes of memory that its queue holds beside the messages.
    #[must_use]
    pub fn queue_memory(&self) -> usize {
        self.queue.memory()
    }

    /// Whether its time is over at `now`.
    #[must_use]
    pub fn is_expired(&self, now: Wall) -> bool {
        !self.attached && self.expires.is_some_and(|at| at <= now)
    }

    /// Whether the will of its last connection, or of one that it still has, is to be published before another connection
    /// may have it: one without a delay is due whatever the clock says, since it may be another one's that began the delay;
    /// and one is due with the session's end at the latest [MQTT-3.1.3-9].
    #[must_use]
    pub fn owes_will(&self, resumes: bool, now: Wall) -> bool {
        let is_due = |will: &Will| !resumes || will.delay == 0 || self.will_due.is_some_and(|due| due <= now);
        self.will.as_deref().is_some_and(is_due)
    }

    /// Nobody knows any more what the connection was sent: DUP is owed to what was, and harms none of the rest
    /// [MQTT-3.3.1-1].
    pub(crate) fn all_may_be_sent(&mut self) {
        self.sent = self.sent.max(self.queue.next());
    }
}
