//! The one table of all metrics. `/metrics`, the page of the manual and the checks of dashboard and alerts come from it.
//!
//! Labels are reasons, listeners, bridges and the like, whose number the operator chooses: never a client or a topic.

use super::{BRIDGE_STATES, BridgeRule, BridgeStatus, Carried, ListenerStatus};
use crate::broker::inspect::Snapshot;
use crate::cluster::Status;
use crate::store::{Health, Latency};
use std::fmt::Write as _;

/// What kind of metric it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It only grows, until the process starts anew.
    Counter,
    /// It goes up and down.
    Gauge,
    /// Counts in buckets.
    Histogram,
    /// Always 1; what it says is in its labels.
    Info,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
            Self::Info => "info",
        }
    }
}

/// One row of the table.
pub struct Metric {
    /// Its whole name.
    pub name: &'static str,
    /// What kind of metric it is.
    pub kind: Kind,
    /// Its unit, as in its name; empty for plain numbers.
    pub unit: &'static str,
    /// What tells its series apart.
    pub label: &'static str,
    /// What it tells.
    pub help: &'static str,
    pub(super) read: fn(&Facts) -> Values,
}

/// What metrics are read from.
#[derive(Debug)]
pub(super) struct Facts {
    pub(super) snapshot: Snapshot,
    pub(super) listeners: Vec<ListenerStatus>,
    pub(super) bridges: Vec<BridgeStatus>,
    pub(super) cluster: Option<Status>,
    pub(super) ready: bool,
    pub(super) uptime_seconds: u64,
    pub(super) node_id: String,
    pub(super) durability: &'static str,
}

/// The values of one metric.
pub(super) enum Values {
    One(f64),
    /// By the value of its label.
    Each(Vec<(String, f64)>),
    /// By the values of its labels.
    Series(Vec<(Vec<(&'static str, String)>, f64)>),
    Times(Latency),
    Labels(Vec<(&'static str, String)>),
}

#[allow(clippy::cast_precision_loss, reason = "metrics are floating point, to 2^53")]
fn one(value: u64) -> Values {
    Values::One(value as f64)
}

fn size(value: usize) -> Values {
    one(value as u64)
}

/// What there is in a cluster alone.
#[allow(clippy::cast_precision_loss, reason = "metrics are floating point, to 2^53")]
fn in_cluster(facts: &Facts, value: impl Fn(&Status) -> u64) -> Values {
    Values::Series(facts.cluster.iter().map(|cluster| (Vec::new(), value(cluster) as f64)).collect())
}

fn flag(value: bool) -> Values {
    one(u64::from(value))
}

#[allow(clippy::cast_precision_loss, reason = "metrics are floating point, to 2^53")]
fn each(values: impl Iterator<Item = (&'static str, u64)>) -> Values {
    Values::Each(values.map(|(label, value)| (label.to_owned(), value as f64)).collect())
}

#[allow(clippy::cast_precision_loss, reason = "metrics are floating point, to 2^53")]
fn by_listener(facts: &Facts, value: impl Fn(&ListenerStatus) -> Option<u64>) -> Values {
    let values = facts.listeners.iter().filter_map(|listener| Some((listener.name.clone(), value(listener)? as f64)));
    Values::Each(values.collect())
}

#[allow(clippy::cast_precision_loss, reason = "metrics are floating point, to 2^53")]
fn by_bridge(facts: &Facts, value: impl Fn(&BridgeStatus) -> u64) -> Values {
    Values::Each(facts.bridges.iter().map(|bridge| (bridge.name.clone(), value(bridge) as f64)).collect())
}

/// The series of all bridges, each with its labels besides `bridge`.
#[allow(clippy::cast_precision_loss, reason = "metrics are floating point, to 2^53")]
fn of_bridges(facts: &Facts, of: impl Fn(&BridgeStatus) -> Vec<(Vec<(&'static str, String)>, u64)>) -> Values {
    let mut series = Vec::new();
    for bridge in &facts.bridges {
        series.extend(of(bridge).into_iter().map(|(labels, value)| {
            let name = [("bridge", bridge.name.clone())];
            (name.into_iter().chain(labels).collect(), value as f64)
        }));
    }
    Values::Series(series)
}

fn bridge_states(facts: &Facts) -> Values {
    of_bridges(facts, |bridge| {
        let state = |state: &&str| (vec![("state", (*state).to_owned())], u64::from(bridge.state == *state));
        BRIDGE_STATES.iter().map(state).collect()
    })
}

fn by_reason(facts: &Facts, values: impl Fn(&BridgeStatus) -> Vec<(&'static str, u64)>) -> Values {
    of_bridges(facts, |bridge| {
        values(bridge).into_iter().map(|(reason, value)| (vec![("reason", reason.to_owned())], value)).collect()
    })
}

fn by_rule(facts: &Facts, value: impl Fn(&Carried) -> u64) -> Values {
    of_bridges(facts, |bridge| {
        let series = |(number, rule): (usize, &BridgeRule)| {
            let labels = |way: &str| vec![("rule", (number + 1).to_string()), ("direction", way.to_owned())];
            [(labels("out"), value(&rule.sent)), (labels("in"), value(&rule.received))]
        };
        bridge.rules.iter().enumerate().flat_map(series).collect()
    })
}

macro_rules! metrics {
    ($($name:literal $kind:ident $unit:literal $label:literal $help:literal $read:expr;)*) => {
        /// All metrics.
        pub const METRICS: &[Metric] = &[$(Metric {
            name: $name, kind: Kind::$kind, unit: $unit, label: $label, help: $help, read: $read,
        },)*];
    };
}

metrics! {
    "nightjar_build_info" Info "" "version, node, durability" "The program, the node and what an acknowledgement means."
        |f| Values::Labels(vec![
            ("version", env!("CARGO_PKG_VERSION").to_owned()),
            ("node", f.node_id.clone()),
            ("durability", f.durability.to_owned()),
        ]);
    "nightjar_uptime_seconds" Gauge "seconds" "" "How long the broker runs." |f| one(f.uptime_seconds);
    "nightjar_ready" Gauge "" "" "1 if clients can be served as was promised (`/readyz`), else 0." |f| flag(f.ready);

    "nightjar_clients_connected" Gauge "" "" "Connections now." |f| size(f.snapshot.clients.connected);
    "nightjar_sessions" Gauge "" "" "Persistent sessions, connected or not." |f| size(f.snapshot.clients.sessions);
    "nightjar_sessions_disconnected" Gauge "" "" "Persistent sessions without a connection." |f| size(f.snapshot.clients.disconnected);
    "nightjar_sessions_expired_total" Counter "" "" "Persistent sessions that ended because their time was over." |f| one(f.snapshot.totals.sessions_expired);
    "nightjar_connections_half_open" Gauge "" "" "Sockets that have not been let in yet." |f| size(f.snapshot.clients.half_open);
    "nightjar_sockets_accepted_total" Counter "" "" "Sockets accepted at listeners." |f| one(f.snapshot.totals.sockets_opened);
    "nightjar_connects_total" Counter "" "" "CONNECT packets accepted." |f| one(f.snapshot.totals.connections);
    "nightjar_disconnects_total" Counter "" "" "Connections that ended." |f| one(f.snapshot.totals.disconnections);
    "nightjar_refused_total" Counter "" "reason" "What was refused: connections, and what clients asked for that is limited." |f| each(f.snapshot.totals.refused());
    "nightjar_denied_total" Counter "" "action" "What clients had no right to." |f| each(f.snapshot.totals.denied());
    "nightjar_throttled_total" Counter "" "" "Times that a client was not read because it published too much." |f| one(f.snapshot.totals.throttled);
    "nightjar_listener_connections" Gauge "" "listener" "Connections that came in by this listener."
        |f| by_listener(f, |listener| Some(listener.connections as u64));
    "nightjar_certificate_expiry_timestamp_seconds" Gauge "seconds" "listener" "When the first certificate of this listener expires, in seconds since 1970."
        |f| by_listener(f, |listener| Some(listener.certificate_expires?.0.0 / 1000));

    "nightjar_received_bytes_total" Counter "bytes" "" "Bytes read from clients." |f| one(f.snapshot.totals.bytes_received);
    "nightjar_sent_bytes_total" Counter "bytes" "" "Bytes written to clients." |f| one(f.snapshot.totals.bytes_sent);
    "nightjar_packets_received_total" Counter "" "" "Control packets of any kind received." |f| one(f.snapshot.totals.packets_received);
    "nightjar_packets_sent_total" Counter "" "" "Control packets of any kind sent." |f| one(f.snapshot.totals.packets_sent);
    "nightjar_messages_received_total" Counter "" "" "PUBLISH packets received." |f| one(f.snapshot.totals.publish_received);
    "nightjar_messages_sent_total" Counter "" "" "PUBLISH packets sent." |f| one(f.snapshot.totals.publish_sent);
    "nightjar_payload_received_bytes_total" Counter "bytes" "" "Payload bytes of the PUBLISH packets received." |f| one(f.snapshot.totals.publish_bytes_received);
    "nightjar_payload_sent_bytes_total" Counter "bytes" "" "Payload bytes of the PUBLISH packets sent." |f| one(f.snapshot.totals.publish_bytes_sent);
    "nightjar_messages_dropped_total" Counter "" "reason" "Messages that a receiver did not get." |f| each(f.snapshot.totals.dropped());
    "nightjar_messages_unmatched_total" Counter "" "" "Messages that clients published and nobody had subscribed to." |f| one(f.snapshot.totals.unmatched);

    "nightjar_subscriptions" Gauge "" "" "Subscriptions, shared ones included." |f| size(f.snapshot.subscriptions);
    "nightjar_subscriptions_shared" Gauge "" "" "Shared subscriptions." |f| size(f.snapshot.shared_subscriptions);
    "nightjar_retained_messages" Gauge "" "" "Retained messages." |f| size(f.snapshot.retained.messages);
    "nightjar_retained_bytes" Gauge "bytes" "" "Their bytes." |f| one(f.snapshot.retained.bytes);
    "nightjar_queue_messages" Gauge "" "" "Messages in the queues of persistent sessions." |f| one(f.snapshot.queued.messages);
    "nightjar_queue_bytes" Gauge "bytes" "" "Their bytes." |f| one(f.snapshot.queued.bytes);

    "nightjar_bridge_connected" Gauge "" "bridge" "1 if the bridge is connected to its remote, else 0."
        |f| by_bridge(f, |bridge| u64::from(bridge.is_connected()));
    "nightjar_bridge_state" Gauge "" "bridge, state" "1 for the state that the bridge is in, else 0." bridge_states;
    "nightjar_bridge_queue_messages" Gauge "" "bridge" "Messages that wait for the remote, those under way included."
        |f| by_bridge(f, |bridge| bridge.queue.messages);
    "nightjar_bridge_queue_bytes" Gauge "bytes" "bridge" "Their bytes." |f| by_bridge(f, |bridge| bridge.queue.bytes);
    "nightjar_bridge_oldest_waiting_seconds" Gauge "seconds" "bridge" "How long the oldest of them has waited, to a second; 0 if none waits."
        |f| by_bridge(f, |bridge| bridge.queue.oldest_ms.unwrap_or(0) / 1000);
    "nightjar_bridge_under_way" Gauge "" "bridge" "Messages on their way to the remote." |f| by_bridge(f, |bridge| bridge.queue.under_way as u64);
    "nightjar_bridge_messages_total" Counter "" "bridge, rule, direction" "Messages sent to the remote (`out`) and taken from it (`in`) by this rule, counted from 1 as in the configuration; repetitions included."
        |f| by_rule(f, |carried| carried.messages);
    "nightjar_bridge_payload_bytes_total" Counter "bytes" "bridge, rule, direction" "Bytes of their payloads." |f| by_rule(f, |carried| carried.bytes);
    "nightjar_bridge_acknowledged_total" Counter "" "bridge" "Messages of QoS 1 and 2 that the remote has acknowledged." |f| by_bridge(f, |bridge| bridge.acknowledged);
    "nightjar_bridge_dropped_total" Counter "" "bridge, reason" "Messages that were dropped because the queue was full (`queue_full`)."
        |f| by_reason(f, |bridge| vec![("queue_full", bridge.queue.dropped)]);
    "nightjar_bridge_set_aside_total" Counter "" "bridge, reason" "Messages that the remote will never take: `too_large`, `refused`, or it closed the connection at them again and again (`closed_at`)."
        |f| by_reason(f, |bridge| vec![
            ("too_large", bridge.set_aside.too_large),
            ("refused", bridge.set_aside.refused),
            ("closed_at", bridge.set_aside.closed_at),
        ]);
    "nightjar_bridge_not_taken_total" Counter "" "bridge, reason" "Messages of the remote that were not taken here: `too_large`, `refused`."
        |f| by_reason(f, |bridge| vec![("too_large", bridge.not_taken.too_large), ("refused", bridge.not_taken.refused)]);
    "nightjar_bridge_unmatched_total" Counter "" "bridge" "Messages that no rule carries any more." |f| by_bridge(f, |bridge| bridge.unmatched);
    "nightjar_bridge_echoes_total" Counter "" "bridge" "Messages that the remote sent back." |f| by_bridge(f, |bridge| bridge.echoes);
    "nightjar_bridge_connects_total" Counter "" "bridge" "Connections to the remote that came to be." |f| by_bridge(f, |bridge| bridge.connects);
    "nightjar_bridge_failures_total" Counter "" "bridge" "Connections to the remote that were lost, or never came to be." |f| by_bridge(f, |bridge| bridge.failures);

    "nightjar_cluster_nodes" Gauge "" "" "Nodes of the cluster. This and what follows is there in a cluster alone." |f| in_cluster(f, |cluster| cluster.nodes.len() as u64);
    "nightjar_cluster_nodes_up" Gauge "" "" "Those of them that are up, as far as this node knows." |f| in_cluster(f, |cluster| cluster.nodes_up() as u64);
    "nightjar_cluster_in_touch" Gauge "" "" "1 if this node has heard from a majority lately and may acknowledge, else 0." |f| in_cluster(f, |cluster| u64::from(cluster.in_touch));
    "nightjar_cluster_shards_led" Gauge "" "" "Shards that this node leads." |f| in_cluster(f, |cluster| cluster.shards_led as u64);
    "nightjar_cluster_shards_without_leader" Gauge "" "" "Shards of which this node knows no leader." |f| in_cluster(f, |cluster| cluster.shards_without_leader.len() as u64);
    "nightjar_cluster_behind_entries" Gauge "" "" "Entries of all groups that have come to this node and are not applied here yet." |f| in_cluster(f, |cluster| cluster.behind_entries);
    "nightjar_cluster_forward_waiting_bytes" Gauge "bytes" "" "Bytes of messages that wait to be sent to other nodes." |f| in_cluster(f, |cluster| cluster.forward_waiting_bytes);

    "nightjar_ack_latency_seconds" Histogram "seconds" "" "For each batch of the journal, how long its first submission waited until it was durable: the longest that any acknowledgement waited." |f| Values::Times(f.snapshot.store.ack_times);
    "nightjar_journal_sync_seconds" Histogram "seconds" "" "How long writing and syncing a batch took." |f| Values::Times(f.snapshot.store.sync_times);
    "nightjar_journal_syncs_total" Counter "" "" "Syncs of the journal." |f| one(f.snapshot.store.syncs);
    "nightjar_journal_batches_total" Counter "" "" "Batches applied." |f| one(f.snapshot.store.batches);
    "nightjar_journal_ops_total" Counter "" "" "Changes applied." |f| one(f.snapshot.store.ops);
    "nightjar_journal_written_bytes_total" Counter "bytes" "" "Bytes written to the journal." |f| one(f.snapshot.store.bytes);
    "nightjar_journal_bytes" Gauge "bytes" "" "Bytes of journal that a restart would read." |f| one(f.snapshot.store.journal_bytes);
    "nightjar_journal_budget_bytes" Gauge "bytes" "" "The same above which publishers are slowed down (`store.journal_budget`)." |f| one(f.snapshot.store.journal_budget);
    "nightjar_journal_waiting_bytes" Gauge "bytes" "" "Bytes that wait to be written to the journal." |f| one(f.snapshot.store.pending_bytes);
    "nightjar_journal_writable" Gauge "" "" "1 if acknowledgements can be given, else 0." |f| flag(f.snapshot.health == Health::Writable);
    "nightjar_store_overlay_bytes" Gauge "bytes" "" "Memory of what is durable and not yet in the tables." |f| one(f.snapshot.store.overlay_bytes);
    "nightjar_store_checkpoints_total" Counter "" "" "Checkpoints of a shard that were completed." |f| one(f.snapshot.store.checkpoints);
    "nightjar_store_checkpoint_held" Gauge "" "" "1 if checkpoints wait for disk space, else 0." |f| flag(f.snapshot.store.checkpoint_held);
    "nightjar_store_errors_total" Counter "" "" "Errors of the tables that were overcome, or are being." |f| one(f.snapshot.store.tables_errors);
    "nightjar_disk_free_bytes" Gauge "bytes" "" "Free bytes of the disk that the data folder is on." |f| one(f.snapshot.disk_free.unwrap_or(0));
    "nightjar_memory_resident_bytes" Gauge "bytes" "" "Resident memory of the process." |f| one(f.snapshot.memory.resident_bytes);
    "nightjar_memory_resident_maximum_bytes" Gauge "bytes" "" "The most resident memory that there ever was." |f| one(f.snapshot.memory.maximum_bytes);
    "nightjar_memory_mark_bytes" Gauge "bytes" "" "Resident memory above which new work is refused (`limits.memory_mark`)." |f| one(f.snapshot.memory.mark_bytes);
}

/// The page of the manual about all metrics.
#[must_use]
pub fn manual() -> String {
    let mut text = String::from(include_str!("metrics.md"));
    for Metric { name, kind, unit, label, help, .. } in METRICS {
        let labels: Vec<String> = label.split(", ").filter(|l| !l.is_empty()).map(|l| format!("`{l}`")).collect();
        let _ = writeln!(text, "| `{name}` | {} | {unit} | {} | {help} |", kind.name(), labels.join(", "));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::Totals;

    #[test]
    fn names_say_kind_and_unit() {
        let mut names = std::collections::BTreeSet::new();
        for metric in METRICS {
            assert!(names.insert(metric.name), "{} is there twice", metric.name);
            assert!(metric.name.starts_with("nightjar_"), "{}", metric.name);
            assert_eq!(metric.kind == Kind::Counter, metric.name.ends_with("_total"), "{}", metric.name);
            let bare = metric.name.trim_end_matches("_total");
            assert!(bare.ends_with(metric.unit), "{} is in {}", metric.name, metric.unit);
            assert!(metric.help.ends_with('.') && !metric.help.contains('|'), "{}", metric.name);
            let grows = metric.label.split(", ").any(|label| ["client", "topic", "user", "address"].contains(&label));
            assert!(!grows, "{} grows", metric.name);
        }
    }

    /// A counter that is added to the broker must be seen here.
    #[test]
    fn every_counter_of_the_broker_is_in_the_table() {
        let source = include_str!("metrics.rs");
        for (name, _) in Totals::default().each() {
            let grouped = ["dropped_", "refused_", "denied_"].iter().any(|group| name.starts_with(group));
            assert!(grouped || source.contains(&format!("totals.{name})")), "no metric shows {name}");
        }
    }
}
