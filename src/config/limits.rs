//! The settings of limits: what one client, one address, one user, or all of them together, may cost.

use super::kinds::{Count, Or, OrUnlimited, Size, Span, Word};
use super::reader::Reader;
use super::sections::{Described, Section, section};
use std::time::Duration;

const MILLISECOND: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3_600);

/// A number in a second; 0 is any.
const RATE: OrUnlimited<u64, Count<u64>> = OrUnlimited(0, Count(1..=1_000_000_000));
/// Bytes in a second; 0 is any.
const BYTE_RATE: OrUnlimited<u64, Size<u64>> = OrUnlimited(0, Size(128..=1 << 40));

/// What happens to a client that publishes more than it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RatePolicy {
    /// It is not read until its time has come.
    Throttle,
    /// It is disconnected.
    Disconnect,
}

const RATE_POLICY: Word<RatePolicy> =
    Word(&[("throttle", RatePolicy::Throttle), ("disconnect", RatePolicy::Disconnect)]);

section! {
    /// What one client, or all of them together, may cost.
    Limits = "limits" {
        /// How long a connection may take until its CONNECT is whole.
        connect_timeout: Duration = 10 * SECOND, Span(MILLISECOND, HOUR);
        /// How long a packet may take from its first byte to its last: who drips bytes holds memory.
        packet_timeout: Duration = 20 * SECOND, Span(MILLISECOND, HOUR);
        /// How long a client may take no byte while there is something to send to it.
        write_timeout: Duration = 20 * SECOND, Span(MILLISECOND, HOUR);
        /// Bytes that wait to be sent on one connection above which messages of QoS 0 are dropped for it.
        outbox_high: usize = 1 << 20, Size(1 << 10..=1 << 40);
        /// Bytes that wait to be sent on one connection above which it is closed.
        outbox_max: usize = 64 << 20, Size(1 << 10..=1 << 40);
        /// The most connections of the node, over all listeners. The limit on open files usually comes first.
        max_connections: usize = 1_000_000, OrUnlimited(usize::MAX, Count(1..=usize::MAX - 1));
        /// The most connections that have not been let in yet; beyond, the newest is closed.
        half_open: usize = 10_000, OrUnlimited(usize::MAX, Count(1..=usize::MAX - 1));
        /// How many connections the system keeps for a listener that has not accepted them yet. It bounds what a
        /// fleet that reconnects at once has to try again.
        backlog: u16 = 4_096, Count(1..=65_535);
        /// The most connections of one address, over all listeners. Unlimited, because many clients come from behind
        /// one router or balancer. Of IPv6 a network of 64 bits is one address. Further ones are closed as they come.
        connections_per_address: usize = usize::MAX, OrUnlimited(usize::MAX, Count(1..=usize::MAX - 1));
        /// The most connections of one user. Further ones are refused with 0x97 (0x03 before MQTT 5).
        connections_per_user: usize = usize::MAX, OrUnlimited(usize::MAX, Count(1..=usize::MAX - 1));
        /// New connections a second of one address; a second's worth may come at once. Further ones are closed.
        connect_rate_per_address: u64 = 0, RATE;
        /// Messages a second that one client may publish; a second's worth may come at once.
        publish_rate: u64 = 0, RATE;
        /// Payload bytes a second that one client may publish.
        publish_bytes: u64 = 0, BYTE_RATE;
        /// Messages a second that all clients of one user may publish together.
        user_publish_rate: u64 = 0, RATE;
        /// Payload bytes a second that all clients of one user may publish together.
        user_publish_bytes: u64 = 0, BYTE_RATE;
        /// What a client meets that publishes more: "throttle" (it is not read until its time has come, and nothing is
        /// lost) or "disconnect" (0x96).
        rate_policy: RatePolicy = RatePolicy::Throttle, RATE_POLICY;
        /// The largest will, topic and payload together. A CONNECT with a larger one is refused with 0x95. The default
        /// is what a CONNECT may have at most.
        max_will_size: usize = 128 << 10, Size(0..=256 << 10);
        /// The most subscriptions of all sessions together. Further ones get 0x97.
        max_subscriptions_total: usize = usize::MAX, OrUnlimited(usize::MAX, Count(1..=usize::MAX - 1));
        /// The most retained messages. A message that would be one more gets 0x97; before MQTT 5 its publisher is
        /// disconnected.
        retained_messages: u64 = u64::MAX, OrUnlimited(u64::MAX, Count(1..=u64::MAX - 1));
        /// The most bytes of all retained messages together.
        retained_bytes: u64 = u64::MAX, OrUnlimited(u64::MAX, Size(1 << 10..=1 << 50));
        /// The most messages in the queues of all persistent sessions together. Beyond, messages of QoS 1 and 2 that a
        /// session would have to keep get 0x97; before MQTT 5 their publisher is disconnected.
        queued_messages_total: u64 = u64::MAX, OrUnlimited(u64::MAX, Count(1..=u64::MAX - 1));
        /// The most bytes in the queues of all persistent sessions together.
        queued_bytes_total: u64 = u64::MAX, OrUnlimited(u64::MAX, Size(1 << 10..=1 << 50));
        /// Memory of the process above which new work is refused: connections (0x89), subscriptions and retained
        /// messages of new topics (0x97). "auto" is four fifths of what the machine, or the container, has.
        memory_mark: Option<u64> = None, Or("auto", Size(16 << 20..=1 << 50));
        /// Free space of the disk with the data below which messages that would have to be kept get 0x97. "0B" waits
        /// for the disk to be full: then nothing is acknowledged until there is space, and nothing is lost either.
        disk_mark: u64 = 0, Size(0..=1 << 50);
        /// How often in a minute a connection may be taken over by another one with its client identifier. Further
        /// ones are refused with 0x89 for a while: two devices with one identifier would throw each other out for ever.
        takeovers_per_minute: u64 = 600, Count(1..=1_000_000);
    }
}
