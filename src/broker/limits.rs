//! The bounds that connections and sessions keep to, from the checked configuration.

use super::people::RateLimit;
use super::waiting::{self, Bounds};
use crate::config::{self, Config};
use crate::env::memory;
use nightjar_base::millis;
use nightjar_mqtt::{MAX_PACKET_SIZE, QoS, topic};
use nightjar_shard::{NEVER, Overflow, QueueLimits};
use std::sync::Arc;
use std::time::Duration;

/// The settings of the protocol, in the units that the connections use.
#[derive(Clone, Debug, PartialEq)]
pub struct Limits {
    pub(crate) connect_timeout: Duration,
    /// Milliseconds for one whole packet, once it has begun.
    pub(crate) packet_millis: u64,
    /// Milliseconds that a client may take no byte of what waits for it.
    pub(crate) write_millis: u64,
    pub(crate) outbox_high: usize,
    pub(crate) outbox_max: usize,
    pub(crate) max_connections: usize,
    pub(crate) half_open: usize,
    pub(crate) receive_maximum: u16,
    pub(crate) max_packet: usize,
    pub(crate) max_connect: usize,
    pub(crate) topic_alias_maximum: u16,
    pub(crate) topic_alias_maximum_out: u16,
    pub(crate) server_keep_alive: Option<u16>,
    pub(crate) max_keep_alive: Option<u16>,
    pub(crate) max_qos: QoS,
    pub(crate) retain_available: bool,
    pub(crate) max_topic_levels: usize,
    pub(crate) max_topic_length: usize,
    pub(crate) max_user_properties: usize,
    pub(crate) max_subscriptions: usize,
    pub(crate) max_client_id: usize,
    pub(crate) allow_empty_client_id: bool,
    pub(crate) allow_v31: bool,
    /// `%c` stands for the client identifier.
    pub(crate) response_information: Option<String>,
    /// Seconds that a session of 3.1 and 3.1.1 outlives its connection.
    pub(crate) expiry_v3: u32,
    /// The longest session expiry interval in seconds.
    pub(crate) max_expiry: u32,
    pub(crate) queue: QueueLimits,
    pub(crate) overflow: Overflow,
    pub(crate) queue_qos0: bool,
    /// The bounds of the queue of a transient session.
    pub(crate) waiting: Bounds,
    pub(crate) max_inflight: u16,
    pub(crate) connections_per_address: usize,
    pub(crate) connections_per_user: usize,
    /// New connections a second of one address; 0 for any number.
    pub(crate) connect_rate_per_address: u64,
    pub(crate) rate: RateLimit,
    pub(crate) user_rate: RateLimit,
    pub(crate) rate_policy: config::RatePolicy,
    pub(crate) max_will_size: usize,
    pub(crate) max_subscriptions_total: usize,
    pub(crate) retained_messages: u64,
    pub(crate) retained_bytes: u64,
    pub(crate) queued_messages: u64,
    pub(crate) queued_bytes: u64,
    /// Resident bytes above which new work is refused.
    pub(crate) memory_mark: u64,
    /// Free bytes of the disk below which nothing more is kept.
    pub(crate) disk_mark: u64,
    pub(crate) takeovers_per_minute: u64,
}

impl Limits {
    /// The limits that `config` sets, for connections of `listener` if one is given.
    #[must_use]
    pub fn new(config: &Config, listener: Option<&config::Listener>) -> Self {
        let node = Self::of_node(config);
        let Some(listener) = listener else { return node };
        Self {
            max_packet: listener.max_packet_size.map_or(node.max_packet, packet_size),
            max_inflight: listener.max_inflight.unwrap_or(node.max_inflight),
            max_subscriptions: listener.max_subscriptions.unwrap_or(node.max_subscriptions),
            max_topic_levels: listener.max_topic_levels.unwrap_or(node.max_topic_levels),
            rate: RateLimit {
                messages: listener.publish_rate.unwrap_or(node.rate.messages),
                bytes: listener.publish_bytes.unwrap_or(node.rate.bytes),
            },
            ..node
        }
    }

    /// The limits of a bridge's session and its connections. What bounds clients does not bound a bridge: the remote's
    /// clients are not ours, and what it sends must not end the bridge's connection.
    #[must_use]
    pub fn of_bridge(config: &Config, bridge: &config::Bridge) -> Self {
        let node = Self::of_node(config);
        let queue = QueueLimits {
            messages: bridge.queue_messages.unwrap_or(node.queue.messages),
            bytes: bridge.queue_bytes.unwrap_or(node.queue.bytes),
            policy: match bridge.queue_overflow {
                config::QueueOverflow::DropOldest => Overflow::DropOldest,
                config::QueueOverflow::DropNewest => Overflow::DropNewest,
            },
        };
        Self {
            queue,
            receive_maximum: u16::MAX,
            max_inflight: bridge.max_inflight,
            server_keep_alive: None,
            max_keep_alive: None,
            max_qos: QoS::ExactlyOnce,
            max_topic_levels: usize::MAX,
            max_topic_length: usize::MAX,
            max_user_properties: usize::MAX,
            max_subscriptions: usize::MAX,
            max_expiry: NEVER,
            rate: RateLimit::default(),
            user_rate: RateLimit::default(),
            connections_per_user: usize::MAX,
            ..node
        }
    }

    /// The bounds of its queues.
    #[must_use]
    pub fn queue(&self) -> QueueLimits {
        self.queue
    }

    /// The largest packet that is taken, in bytes.
    #[must_use]
    pub fn largest_packet(&self) -> usize {
        self.max_packet
    }

    /// These limits for a connection that was told `old`: what CONNACK has promised stays.
    pub(crate) fn after(self: &Arc<Self>, old: &Self) -> Arc<Self> {
        let promised = |limits: &Self| {
            let announced = (limits.receive_maximum, limits.max_packet, limits.topic_alias_maximum);
            (announced, limits.max_qos, limits.retain_available)
        };
        if promised(self) == promised(old) {
            return Arc::clone(self);
        }
        Arc::new(Self {
            receive_maximum: old.receive_maximum,
            max_packet: old.max_packet,
            topic_alias_maximum: old.topic_alias_maximum,
            max_qos: old.max_qos,
            retain_available: old.retain_available,
            ..Self::clone(self)
        })
    }

    /// The largest packet before CONNECT was read, in bytes.
    #[must_use]
    pub fn first_packet(&self) -> usize {
        self.max_connect
    }

    /// Whether a topic name or filter is neither too long nor too deep.
    pub(crate) fn takes_topic(&self, topic: &str) -> bool {
        topic.len() <= self.max_topic_length && topic::levels(topic).count() <= self.max_topic_levels
    }

    /// Whether the queues of all sessions together are bounded.
    pub(crate) fn bounds_queues(&self) -> bool {
        self.queued_messages != u64::MAX || self.queued_bytes != u64::MAX || self.disk_mark > 0
    }

    fn of_node(config: &Config) -> Self {
        let (mqtt, session, limits) = (&config.mqtt, &config.session, &config.limits);
        let overflow = match session.queue_overflow {
            config::Overflow::DropOldest => Overflow::DropOldest,
            config::Overflow::DropNewest => Overflow::DropNewest,
            config::Overflow::Refuse => Overflow::Refuse,
        };
        Self {
            connect_timeout: limits.connect_timeout,
            packet_millis: millis(limits.packet_timeout),
            write_millis: millis(limits.write_timeout),
            outbox_high: limits.outbox_high,
            outbox_max: limits.outbox_max,
            max_connections: limits.max_connections,
            half_open: limits.half_open,
            receive_maximum: mqtt.receive_maximum,
            max_packet: packet_size(mqtt.max_packet_size),
            max_connect: packet_size(mqtt.max_connect_size),
            topic_alias_maximum: mqtt.topic_alias_maximum,
            topic_alias_maximum_out: mqtt.topic_alias_maximum_out,
            server_keep_alive: mqtt.server_keep_alive,
            max_keep_alive: mqtt.max_keep_alive,
            max_qos: QoS::from_bits(mqtt.max_qos).unwrap_or(QoS::ExactlyOnce),
            retain_available: mqtt.retain_available,
            max_topic_levels: mqtt.max_topic_levels,
            max_topic_length: mqtt.max_topic_length,
            max_user_properties: mqtt.max_user_properties,
            max_subscriptions: mqtt.max_subscriptions,
            max_client_id: mqtt.max_client_id_length,
            allow_empty_client_id: mqtt.allow_empty_client_id,
            allow_v31: mqtt.allow_v31,
            response_information: mqtt.response_information.clone(),
            expiry_v3: session.expiry_v3.map_or(NEVER, seconds),
            max_expiry: session.max_expiry.map_or(NEVER, seconds),
            queue: QueueLimits { messages: session.queue_messages, bytes: session.queue_bytes, policy: overflow },
            overflow,
            queue_qos0: session.queue_qos0,
            waiting: Bounds {
                messages: session.transient_queue_messages,
                bytes: session.transient_queue_bytes,
                overflow: transient(overflow),
            },
            max_inflight: session.max_inflight,
            connections_per_address: limits.connections_per_address,
            connections_per_user: limits.connections_per_user,
            connect_rate_per_address: limits.connect_rate_per_address,
            rate: RateLimit { messages: limits.publish_rate, bytes: limits.publish_bytes },
            user_rate: RateLimit { messages: limits.user_publish_rate, bytes: limits.user_publish_bytes },
            rate_policy: limits.rate_policy,
            max_will_size: limits.max_will_size,
            max_subscriptions_total: limits.max_subscriptions_total,
            retained_messages: limits.retained_messages,
            retained_bytes: limits.retained_bytes,
            queued_messages: limits.queued_messages_total,
            queued_bytes: limits.queued_bytes_total,
            memory_mark: limits.memory_mark.unwrap_or_else(|| memory::available() / 5 * 4),
            disk_mark: limits.disk_mark,
            takeovers_per_minute: limits.takeovers_per_minute,
        }
    }
}

/// A transient session has nobody to refuse for: its client is told that it would miss messages.
fn transient(overflow: Overflow) -> waiting::Overflow {
    match overflow {
        Overflow::DropOldest => waiting::Overflow::DropOldest,
        Overflow::DropNewest => waiting::Overflow::DropNewest,
        Overflow::Refuse => waiting::Overflow::Disconnect,
    }
}

fn seconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_secs().max(1)).unwrap_or(NEVER)
}

/// A setting of the size of a whole packet; the largest stands for "unlimited".
fn packet_size(setting: u32) -> usize {
    match usize::try_from(setting) {
        Ok(size) if size < 268_435_455 => size,
        _ => MAX_PACKET_SIZE,
    }
}
