//! What an applied op lets the rest of the broker do, now that it is durable.

use nightjar_base::{SessionId, Wall};
use nightjar_mqtt::{Message, QoS, SubscriptionOptions};
use std::sync::Arc;

/// One consequence of an applied op.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// An `Attach` was applied.
    Attached {
        /// The session that the connection now has.
        session: SessionId,
        /// Its client identifier.
        client_id: Arc<str>,
        /// The home of the connection.
        home: u64,
        /// The connection's epoch.
        epoch: u64,
        /// Whether the session existed before.
        present: bool,
        /// The connection that had the client's session until now, which is to be closed; seldom there, so in a box.
        before: Option<Box<Holder>>,
    },
    /// A message is in the session's queue.
    Queued {
        /// The session.
        session: SessionId,
        /// What was put there.
        entry: Entry,
    },
    /// PUBREC is durable: PUBREL may be sent.
    Received {
        /// The session.
        session: SessionId,
        /// The entry.
        sequence: u64,
    },
    /// PUBREL is durable: PUBCOMP may be sent.
    InboundReleased {
        /// The session.
        session: SessionId,
        /// The packet identifier that is free again.
        packet_id: u16,
    },
    /// The queue was full.
    Dropped {
        /// The session.
        session: SessionId,
        /// The entry that went; `None` if it is the newcomer, which never got a sequence.
        sequence: Option<u64>,
        /// Which bound was reached.
        reason: DropReason,
    },
    /// The session is gone with all it had.
    Ended {
        /// The session.
        session: SessionId,
        /// Its client identifier.
        client_id: Arc<str>,
        /// Its filters, as they were subscribed: routes to remove.
        subscriptions: Vec<Arc<str>>,
    },
    /// On a replica: a subscription was made or replaced, by whichever node.
    Subscribed {
        /// The session.
        session: SessionId,
        /// The filter, as it was subscribed.
        filter: Arc<str>,
        /// The subscription's options.
        options: SubscriptionOptions,
    },
    /// On a replica: a subscription is gone, while the session stays.
    Unsubscribed {
        /// The session.
        session: SessionId,
        /// The filter, as it was subscribed.
        filter: Arc<str>,
    },
    /// In a cluster: the session's connection is over, whether it said so or its home is gone.
    Detached {
        /// The session.
        session: SessionId,
        /// Its client identifier.
        client_id: Arc<str>,
        /// The home that the connection was at.
        home: u64,
        /// The connection's epoch.
        epoch: u64,
    },
}

/// A connection that has a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Its home.
    pub home: u64,
    /// Its epoch.
    pub epoch: u64,
}

/// Which bound of a queue was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DropReason {
    /// The number of messages.
    Messages,
    /// The number of bytes.
    Bytes,
}

/// One message in a session's queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its place in the session's order; never reused.
    pub sequence: u64,
    /// The message. Of an entry that is `received` only an empty one: it is never sent again.
    pub message: Arc<Message>,
    /// The quality of service of this delivery.
    pub qos: QoS,
    /// The retain flag of this delivery.
    pub retain: bool,
    /// The subscription identifiers to send along; `None` if there are none.
    pub identifiers: Option<Arc<[u32]>>,
    /// `$share/group/filter`, if it came by a shared subscription.
    pub share: Option<Arc<str>>,
    /// Whether PUBREC was seen: PUBREL is to be sent, not PUBLISH.
    pub received: bool,
}

/// Something whose time has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Due {
    /// A will is to be published, then `WillDone`.
    Will {
        /// The session.
        session: SessionId,
        /// Its client identifier.
        client_id: Arc<str>,
        /// The epoch of the connection whose will it is.
        epoch: u64,
        /// The will.
        message: Arc<Message>,
    },
    /// A session's expiry interval has passed: `Expire`.
    Expired {
        /// The session.
        session: SessionId,
        /// Its client identifier.
        client_id: Arc<str>,
        /// When it expired.
        expires: Wall,
    },
    /// A retained message has expired: `Forget`.
    Retained {
        /// The topic.
        topic: Arc<str>,
        /// The index at which it was retained.
        index: u64,
    },
}
