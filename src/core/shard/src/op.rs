//! The ops: every change to a shard's durable state, as plain values that carry their own time.
//!
//! They are what the journal holds, so variants and fields are only ever appended, never changed or reordered.

use nightjar_base::{SessionId, ShardId, Wall};
use nightjar_mqtt::{Message, QoS, SubscriptionOptions};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Session expiry interval that means "never" (v5 section 3.1.2.11.2).
pub const NEVER: u32 = u32::MAX;

/// The home of a node alone. Any other home is the random number of one process of a cluster.
pub const ALONE: u64 = 0;

/// One change to a shard's durable state.
///
/// An op that names a session or an epoch that is not there any more is ignored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Op {
    /// A connection takes its session, which is made if there is none.
    Attach {
        /// The client identifier.
        client_id: Arc<str>,
        /// Who authenticated, if anybody did.
        user: Option<Arc<str>>,
        /// Whether an existing session is to be ended first.
        clean_start: bool,
        /// Session expiry interval in seconds; [`NEVER`]; 0 ends with the connection (kept only for its will).
        expiry: u32,
        /// The connection's number; what is done under an older one is refused from now on.
        epoch: u64,
        /// The connection's will.
        will: Option<Will>,
        /// The bounds of the session's queue.
        limits: QueueLimits,
        /// When.
        now: Wall,
    },
    /// The connection with this epoch is over.
    Detach {
        /// Its session.
        session: SessionId,
        /// Its epoch.
        epoch: u64,
        /// The expiry interval, if DISCONNECT changed it.
        expiry: Option<u32>,
        /// Whether the will is not to be sent (normal DISCONNECT, or published in the same submission).
        discard_will: bool,
        /// The first sequence of the queue that was never sent: what lies before carries DUP if it is sent again
        /// [MQTT-3.3.1-1].
        sent: u64,
        /// When.
        now: Wall,
    },
    /// Drops the session with all it has.
    End {
        /// The session.
        session: SessionId,
    },
    /// The session's will has been published (by ops of the same submission).
    WillDone {
        /// The session.
        session: SessionId,
        /// The epoch whose will it was.
        epoch: u64,
    },
    /// Adds or replaces subscriptions.
    Subscribe {
        /// The session.
        session: SessionId,
        /// What it subscribes to.
        subscriptions: Vec<Subscription>,
        /// When: read after the routes were there, so that what is retained later also came by them.
        now: Wall,
    },
    /// Removes subscriptions.
    Unsubscribe {
        /// The session.
        session: SessionId,
        /// Filters, as they were subscribed.
        filters: Vec<Arc<str>>,
    },
    /// Puts one message into the queues of sessions.
    Enqueue {
        /// The message.
        message: Arc<Message>,
        /// Who gets it, and how.
        targets: Vec<Target>,
        /// When.
        now: Wall,
    },
    /// Queue entries are done with: PUBACK or PUBCOMP seen, or dropped by the sender (expired, too large).
    Acknowledge {
        /// The session.
        session: SessionId,
        /// The entries.
        sequences: Vec<u64>,
    },
    /// PUBREC seen: from now on PUBREL is sent, never PUBLISH again [MQTT-4.3.3-6].
    Received {
        /// The session.
        session: SessionId,
        /// The entries.
        sequences: Vec<u64>,
    },
    /// A QoS 2 PUBLISH of this session was accepted; its packet identifier is remembered.
    InboundReceived {
        /// The session.
        session: SessionId,
        /// The packet identifier.
        packet_id: u16,
    },
    /// PUBREL seen: the packet identifier is free again.
    InboundReleased {
        /// The session.
        session: SessionId,
        /// The packet identifier.
        packet_id: u16,
    },
    /// Makes this the retained message of its topic; an empty payload removes [MQTT-3.3.1-6].
    Retain {
        /// The message.
        message: Arc<Message>,
        /// When.
        now: Wall,
    },
    /// Removes an expired retained message, if it is still the one stored at `index`.
    Forget {
        /// The topic.
        topic: Arc<str>,
        /// The index at which it was retained.
        index: u64,
    },
    /// Puts a page of retained messages into the queue of a session that subscribed.
    ///
    /// Ignored, entries included, when the subscription is gone or has no replay pending.
    Replay {
        /// The session.
        session: SessionId,
        /// The subscription's filter, as subscribed.
        filter: Arc<str>,
        /// The messages of this page.
        entries: Vec<Replayed>,
        /// The topic of the last one looked at; `None` when the replay is finished.
        after: Option<Arc<str>>,
    },
    /// Ends the session if it is still detached and its time is over: what follows on `Due::Expired`.
    ///
    /// Safer than [`Op::End`] there, since an `Attach` may have come in between.
    Expire {
        /// The session.
        session: SessionId,
        /// When.
        now: Wall,
    },
    /// [`Op::Attach`] in a cluster, where it matters which node the connection is at.
    ///
    /// It does nothing as long as the session's last connection owes a will: see [`Session::owes_will`](crate::Session::owes_will).
    AttachFrom {
        /// The process that has the connection.
        home: u64,
        /// The client identifier.
        client_id: Arc<str>,
        /// Who authenticated, if anybody did.
        user: Option<Arc<str>>,
        /// Whether an existing session is to be ended first.
        clean_start: bool,
        /// Session expiry interval in seconds; [`NEVER`]; 0 ends with the connection (kept only for its will).
        expiry: u32,
        /// The connection's number, unique among all homes: wills and ends of connections are told apart by it alone.
        epoch: u64,
        /// The connection's will; in a box, so that the queues of ops need no more room for each.
        will: Option<Box<Will>>,
        /// The bounds of the session's queue.
        limits: QueueLimits,
        /// When.
        now: Wall,
    },
    /// A process is gone for good: each session that it was attached from has lost its connection, and none of its
    /// batches that may still be under way is applied.
    DetachHome {
        /// The process.
        home: u64,
        /// When.
        now: Wall,
    },
    /// [`Op::Enqueue`] that may be made again, after a crash or by a client that sends again: nothing is done if this
    /// shard has had the same digest under this origin.
    ///
    /// One publication makes one of it for a shard, with all who get it there: a second one would be taken for the first.
    EnqueueFrom {
        /// Which publication it is.
        origin: Origin,
        /// Of the message: another one under a known origin is a new publication.
        digest: u64,
        /// The message.
        message: Arc<Message>,
        /// Who gets it, and how.
        targets: Vec<Target>,
        /// The same for those who get it in another form, with another expiry.
        variants: Box<[(Arc<Message>, Vec<Target>)]>,
        /// When.
        now: Wall,
    },
    /// [`Op::Retain`] that may be made again, as [`Op::EnqueueFrom`]; each is remembered apart from the other.
    RetainFrom {
        /// Which publication it is.
        origin: Origin,
        /// Of the message: another one under a known origin is a new publication.
        digest: u64,
        /// The message.
        message: Arc<Message>,
        /// When.
        now: Wall,
    },
    /// These publications of a session are complete, or the session is gone: they are not made again.
    ForgetOrigins {
        /// The session that published them.
        session: (ShardId, SessionId),
        /// Their tokens; none are all that the session has.
        tokens: Vec<u64>,
    },
}

impl Op {
    /// Bytes that it costs in memory while it waits, roughly.
    #[must_use]
    pub fn weight(&self) -> usize {
        const PLAIN: usize = size_of::<Op>() + 16;
        match self {
            Self::Enqueue { message, targets, .. } => PLAIN + copies(message, targets),
            Self::EnqueueFrom { message, targets, variants, .. } => {
                let variants = variants.iter().map(|(message, targets)| copies(message, targets));
                PLAIN + copies(message, targets) + variants.sum::<usize>()
            }
            Self::Retain { message, .. } | Self::RetainFrom { message, .. } => PLAIN + message.size(),
            Self::Replay { entries, .. } => {
                PLAIN + entries.iter().map(|entry| entry.message.size() + 64).sum::<usize>()
            }
            Self::ForgetOrigins { tokens, .. } => PLAIN + tokens.len() * 8,
            Self::Subscribe { subscriptions, .. } => PLAIN + subscriptions.len() * 128,
            Self::Attach { will: Some(will), .. } => PLAIN + will.message.size(),
            Self::AttachFrom { will: Some(will), .. } => PLAIN + will.message.size(),
            _ => PLAIN,
        }
    }
}

fn copies(message: &Message, targets: &[Target]) -> usize {
    message.size() + targets.len() * 64
}

/// Where a publication comes from that may have to be made again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Origin {
    /// The session that published it, of this or another shard.
    pub session: (ShardId, SessionId),
    /// Which of the session's publications: of the session's packet identifier, say, or its will.
    pub token: u64,
}

/// A will: what is published when a connection ends without a normal DISCONNECT.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Will {
    /// The message; quality of service and retain flag inside.
    pub message: Arc<Message>,
    /// Will delay interval in seconds.
    pub delay: u32,
}

/// One subscription, as a client asked for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subscription {
    /// The filter as sent, `$share/…/` included.
    pub filter: Arc<str>,
    /// Its options.
    pub options: SubscriptionOptions,
    /// Whether retained messages are to be sent: starts (or restarts) the replay cursor.
    pub replay: bool,
}

/// One session that gets a message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// The session.
    pub session: SessionId,
    /// The quality of service of this delivery.
    pub qos: QoS,
    /// The retain flag of this delivery.
    pub retain: bool,
    /// The subscription identifiers to send along.
    pub identifiers: Vec<u32>,
    /// `$share/group/filter`, if it came by a shared subscription.
    pub share: Option<Arc<str>>,
}

/// One retained message for a session that subscribed; its retain flag is set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replayed {
    /// The message.
    pub message: Arc<Message>,
    /// The quality of service of this delivery.
    pub qos: QoS,
    /// The subscription identifiers to send along.
    pub identifiers: Vec<u32>,
}

/// The bounds of one session's queue; `u64::MAX` is unlimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueLimits {
    /// Most entries.
    pub messages: u64,
    /// Most bytes.
    pub bytes: u64,
    /// What happens beyond.
    pub policy: Overflow,
}

impl QueueLimits {
    /// No bounds.
    pub const UNLIMITED: Self = Self { messages: u64::MAX, bytes: u64::MAX, policy: Overflow::DropNewest };
}

/// What happens when a queue is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Overflow {
    /// The oldest entry goes.
    DropOldest,
    /// The newcomer is not taken.
    DropNewest,
    /// The publisher is told. That is decided before an op is made; an op that comes nevertheless was accepted, and is
    /// taken beyond the bound.
    Refuse,
}
