//! `$SYS`: the tree that mosquitto's users and exporters read.
//!
//! The values are retained but not durable: they live here, not in the store, and only filters that begin with `$SYS`
//! get them [MQTT-4.7.2-1].

use super::ports::Census;
use super::publish::Route;
use super::source::Source;
use super::stats::Totals;
use super::{Broker, turn};
use crate::env::task;
use nightjar_base::{ShardId, Tick};
use nightjar_mqtt::{Message, topic};
use parking_lot::RwLock;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// The present values.
#[derive(Default)]
pub(crate) struct Tree(RwLock<BTreeMap<Arc<str>, Arc<Message>>>);

impl Tree {
    /// The values whose topics match `filter`.
    pub(crate) fn matching(&self, filter: &str) -> Vec<Arc<Message>> {
        let values = self.0.read();
        values.iter().filter(|(name, _)| topic::matches(filter, name)).map(|(_, value)| Arc::clone(value)).collect()
    }

    /// Sets a value; the message to publish if it has changed.
    fn set(&self, name: &str, value: &str) -> Option<Arc<Message>> {
        let mut values = self.0.write();
        if values.get(name).is_some_and(|old| old.payload() == value.as_bytes()) {
            return None;
        }
        let mut message = Message::new(name, &[], value.as_bytes());
        message.retain = true;
        let message = Arc::new(message);
        values.insert(name.into(), Arc::clone(&message));
        Some(message)
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.0.read().len()
    }
}

/// Sums over all shards.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Stored {
    pub(crate) sessions: usize,
    pub(crate) attached: usize,
    pub(crate) retained: usize,
    pub(crate) retained_bytes: u64,
    pub(crate) queued: u64,
    pub(crate) queued_bytes: u64,
}

/// The task that publishes the tree every `interval`.
pub(crate) async fn run(broker: Arc<Broker>, interval: Duration) {
    let started = broker.clock.tick();
    let mut loads = Loads::default();
    let mut last = (started, Totals::default());
    broker.publish_sys(&loads, started);
    let mut ticks = task::interval(interval);
    loop {
        ticks.tick().await;
        let now = broker.clock.tick();
        let totals = broker.board.totals();
        loads.update(&last.1, &totals, now.since(last.0));
        last = (now, totals);
        broker.publish_sys(&loads, started);
    }
}

impl Broker {
    /// What the store holds now.
    pub(crate) fn stored(&self) -> Stored {
        let mut sum = Stored::default();
        for shard in 0..self.store.shard_count() {
            let shard = self.store.lock(ShardId(shard));
            sum.sessions += shard.session_count();
            sum.attached += shard.attached_count();
            sum.retained += shard.retained_count();
            sum.retained_bytes += shard.retained_bytes();
            sum.queued += shard.queued_messages();
            sum.queued_bytes += shard.queued_bytes();
        }
        sum
    }

    fn publish_sys(&self, loads: &Loads, started: Tick) {
        let totals = self.board.totals();
        let stored = self.stored();
        let uptime = self.clock.tick().since(started) / 1000;
        self.publish_value("version", &format!("nightjar version {}", env!("CARGO_PKG_VERSION")));
        self.publish_value("uptime", &format!("{uptime} seconds"));
        self.publish_clients(&totals, &stored);
        self.publish_traffic(&totals);
        self.publish_store(&stored);
        self.publish_cluster();
        for (name, averages) in loads.values() {
            for (minutes, average) in [1, 5, 15].iter().zip(averages) {
                self.publish_value(&format!("load/{name}/{minutes}min"), &format!("{average:.2}"));
            }
        }
        turn::flush();
    }

    /// Counted together, so that they never contradict each other.
    fn publish_clients(&self, totals: &Totals, stored: &Stored) {
        let connected = self.registry.connected();
        let disconnected = stored.sessions.saturating_sub(stored.attached);
        for name in ["clients/connected", "clients/active"] {
            self.publish_value(name, &connected.to_string());
        }
        for name in ["clients/disconnected", "clients/inactive"] {
            self.publish_value(name, &disconnected.to_string());
        }
        self.publish_value("clients/total", &(connected + disconnected).to_string());
        self.publish_value("clients/maximum", &self.registry.maximum().to_string());
        self.publish_value("clients/expired", &totals.sessions_expired.to_string());
    }

    fn publish_cluster(&self) {
        let Some(others) = &self.others else { return };
        let Census { nodes, up, leads } = others.census();
        for (name, value) in [("nodes", nodes), ("up", up), ("leads", leads)] {
            self.publish_value(&format!("cluster/{name}"), &value.to_string());
        }
    }

    fn publish_traffic(&self, totals: &Totals) {
        let dropped: u64 = totals.dropped().map(|(_, count)| count).sum();
        for (name, value) in [
            ("bytes/received", totals.bytes_received),
            ("bytes/sent", totals.bytes_sent),
            ("messages/received", totals.packets_received),
            ("messages/sent", totals.packets_sent),
            ("publish/messages/received", totals.publish_received),
            ("publish/messages/sent", totals.publish_sent),
            ("publish/messages/dropped", dropped),
            ("publish/bytes/received", totals.publish_bytes_received),
            ("publish/bytes/sent", totals.publish_bytes_sent),
        ] {
            self.publish_value(name, &value.to_string());
        }
    }

    fn publish_store(&self, stored: &Stored) {
        let (subscriptions, shared) = {
            let router = self.router.read();
            (router.len(), router.shared_len())
        };
        let sys = self.sys.len();
        for (name, value) in [
            ("subscriptions/count", subscriptions as u64),
            ("shared_subscriptions/count", shared as u64),
            ("retained messages/count", (stored.retained + sys) as u64),
            ("messages/stored", stored.queued + stored.retained as u64),
            ("store/messages/count", stored.queued + stored.retained as u64),
            ("store/messages/bytes", stored.queued_bytes + stored.retained_bytes),
        ] {
            self.publish_value(name, &value.to_string());
        }
        let (current, maximum) = crate::env::memory::resident();
        self.publish_value("heap/current", &current.to_string());
        self.publish_value("heap/maximum", &maximum.to_string());
    }

    /// Sets one value, and tells those who subscribed if it has changed.
    fn publish_value(&self, name: &str, value: &str) {
        let Some(message) = self.sys.set(&format!("$SYS/broker/{name}"), value) else { return };
        let now = self.clock.now();
        let mut source = Source::of_message(&message, now);
        source.retain = true;
        let route: Route = self.route(message.topic(), 0);
        let mut ops = Vec::new();
        self.deliver(&source, &route, &mut ops, now);
        // At QoS 0 there is nothing durable, unless the operator wants QoS 0 kept for absent sessions.
        if !ops.is_empty() {
            self.store.submit(&mut ops, None);
        }
    }
}

/// Moving averages of rates, per minute, over 1, 5 and 15 minutes.
#[derive(Default)]
struct Loads([[f64; 3]; 9]);

impl Loads {
    const NAMES: [&str; 9] = [
        "messages/received",
        "messages/sent",
        "publish/received",
        "publish/sent",
        "publish/dropped",
        "bytes/received",
        "bytes/sent",
        "sockets",
        "connections",
    ];

    fn update(&mut self, before: &Totals, now: &Totals, millis: u64) {
        let dropped = |t: &Totals| t.dropped().map(|(_, count)| count).sum::<u64>();
        let counts = [
            now.packets_received - before.packets_received,
            now.packets_sent - before.packets_sent,
            now.publish_received - before.publish_received,
            now.publish_sent - before.publish_sent,
            dropped(now) - dropped(before),
            now.bytes_received - before.bytes_received,
            now.bytes_sent - before.bytes_sent,
            now.sockets_opened - before.sockets_opened,
            now.connections - before.connections,
        ];
        #[allow(clippy::cast_precision_loss, reason = "a rate of 2^53 a minute is not measured to the last digit")]
        let minutes = (millis.max(1) as f64) / 60_000.0;
        for (averages, count) in self.0.iter_mut().zip(counts) {
            #[allow(clippy::cast_precision_loss, reason = "as above")]
            let rate = count as f64 / minutes;
            for (average, period) in averages.iter_mut().zip([1.0, 5.0, 15.0]) {
                let weight = (-minutes / period).exp();
                *average = *average * weight + rate * (1.0 - weight);
            }
        }
    }

    fn values(&self) -> impl Iterator<Item = (&'static str, [f64; 3])> {
        Self::NAMES.into_iter().zip(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_published_only_when_it_changes() {
        let tree = Tree::default();
        assert!(tree.set("$SYS/broker/uptime", "1 seconds").is_some());
        assert!(tree.set("$SYS/broker/uptime", "1 seconds").is_none());
        assert!(tree.set("$SYS/broker/uptime", "2 seconds").is_some());
        assert_eq!(tree.matching("$SYS/#").len(), 1);
        assert!(tree.matching("#").is_empty());
    }

    #[test]
    fn a_steady_rate_is_approached() {
        let mut loads = Loads::default();
        let mut totals = Totals::default();
        for _ in 0..600 {
            let before = totals;
            totals.publish_received += 100;
            loads.update(&before, &totals, 10_000);
        }
        let (_, averages) = loads.values().find(|(name, _)| *name == "publish/received").expect("it is listed");
        assert!(averages.iter().all(|average| (average - 600.0).abs() < 10.0), "{averages:?}");
    }
}
