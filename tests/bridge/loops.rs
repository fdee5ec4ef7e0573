//! Circles of brokers with `#` both ways: each message once, everywhere, and then silence.
//!
//! `NIGHTJAR_LOOP_SECONDS` makes each of them run for so long.

use super::support::{Broker, Client, Connect, Mosquitto, Packet, QUIET, Read, ms, wait_until};
use super::{PATIENCE, config, mosquitto_bridge, subscriber, wait_joined};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// A table for a bridge to this port, `#` both ways.
fn both(name: &str, port: u16, lines: &str) -> String {
    format!(
        "[bridges.{name}]\naddress = \"mqtt://127.0.0.1:{port}\"\ntopics = [\"# both 2\"]\nretry_base = \"100ms\"\n\
         retry_cap = \"500ms\"\n{lines}\n"
    )
}

fn time() -> Duration {
    let seconds = std::env::var("NIGHTJAR_LOOP_SECONDS").ok().and_then(|text| text.parse().ok());
    Duration::from_secs(seconds.unwrap_or(2))
}

/// What a client has seen so far.
struct Seen {
    client: Client,
    messages: BTreeMap<String, usize>,
    count: usize,
}

impl Seen {
    fn on(port: u16) -> Self {
        Self { client: subscriber(port, "counts", &["loop/#"]), messages: BTreeMap::new(), count: 0 }
    }

    /// Reads until nothing has come for as long as `patience` says, given how many have.
    fn read(&mut self, patience: impl Fn(usize) -> Duration) {
        loop {
            match self.client.read_packet(patience(self.count)) {
                Read::Packet(Packet::Publish(publish)) => {
                    let payload = String::from_utf8_lossy(&publish.payload).into_owned();
                    *self.messages.entry(format!("{} {payload}", publish.topic)).or_insert(0) += 1;
                    self.count += 1;
                }
                Read::Packet(_) => {}
                Read::Timeout => return,
                Read::Closed => panic!("a broker closed the connection of who counts"),
            }
        }
    }
}

/// Publishes on every broker for a while, at every QoS and also retained ones, and sees each message once on every one.
#[track_caller]
fn each_message_once(ports: &[u16]) {
    let mut seen: Vec<Seen> = ports.iter().map(|port| Seen::on(*port)).collect();
    let mut publishers: Vec<Client> =
        ports.iter().map(|port| super::support::mosquitto::open(*port, &Connect::v5("publishes"))).collect();
    let (begin, mut expected) = (Instant::now(), Vec::new());
    while begin.elapsed() < time() {
        for (place, publisher) in publishers.iter_mut().enumerate() {
            for qos in 0..=2 {
                let payload = format!("{place} {} {qos}", expected.len());
                // The same payload twice is two messages.
                for retain in [false, true, false] {
                    let topic = format!("loop/{}", if retain { "kept" } else { "live" });
                    if retain {
                        publisher.retain(&topic, &payload, qos);
                    } else {
                        publisher.publish(&topic, &payload, qos);
                    }
                    expected.push(format!("{topic} {payload}"));
                }
            }
        }
        seen.iter_mut().for_each(|seen| seen.read(|_| ms(5)));
    }
    println!("{} messages, each on {} brokers", expected.len(), ports.len());
    let mut wanted = BTreeMap::new();
    expected.iter().for_each(|message| *wanted.entry(message.clone()).or_insert(0) += 1);
    for (place, seen) in seen.iter_mut().enumerate() {
        // All of them, and then a while in which nothing more may come.
        seen.read(|count| if count < expected.len() { PATIENCE } else { QUIET * 5 });
        let Seen { messages, count, .. } = seen;
        let wrong: Vec<_> = wanted.iter().filter(|(message, times)| messages.get(*message) != Some(times)).collect();
        let found: Vec<_> = wrong.iter().map(|(message, _)| messages.get(*message)).collect();
        assert!(wrong.is_empty(), "at broker {place}, of {}: {wrong:?} came {found:?}", wanted.len());
        assert_eq!(
            *count,
            expected.len(),
            "broker {place}: {:?}",
            messages.keys().find(|message| !wanted.contains_key(*message))
        );
    }
}

fn nightjar(tables: &str) -> Broker {
    Broker::configured(&config(tables), &[])
}

/// Three brokers in a ring, each with a bridge to the next.
fn ring(version: &str) {
    let lines = format!("version = \"{version}\"");
    let (first, second, third) = (nightjar(""), nightjar(""), nightjar(""));
    for (from, to) in [(&first, &second), (&second, &third), (&third, &first)] {
        from.configure(&config(&both("next", to.port(), &lines)));
        from.reload();
    }
    let brokers = [&first, &second, &third];
    for broker in brokers {
        wait_until("the bridge is there", PATIENCE, || broker.log().contains("connected bridge="));
    }
    let ports = brokers.map(Broker::port);
    for (from, to) in [(0, 1), (1, 2), (2, 0), (1, 0), (2, 1), (0, 2)] {
        wait_joined(ports[from], ports[to], &format!("joined/{from}/{to}"), &format!("joined/{from}/{to}"));
    }
    each_message_once(&ports);
}

#[test]
fn a_ring_of_three_at_5() {
    ring("5");
}

#[test]
fn a_ring_of_three_at_3_1_1() {
    ring("3.1.1");
}

/// Two bridges of one broker to one hub.
fn twice_to_one_hub(version: &str) {
    let hub = nightjar("");
    let lines = format!("version = \"{version}\"");
    let broker = nightjar(&(both("one", hub.port(), &lines) + &both("two", hub.port(), &lines)));
    wait_until("both bridges are there", PATIENCE, || broker.log().matches("connected bridge=").count() > 1);
    wait_joined(broker.port(), hub.port(), "joined/1", "joined/1");
    wait_joined(hub.port(), broker.port(), "joined/2", "joined/2");
    each_message_once(&[broker.port(), hub.port()]);
}

#[test]
fn two_bridges_to_one_hub_at_5() {
    twice_to_one_hub("5");
}

#[test]
fn two_bridges_to_one_hub_at_3_1_1() {
    twice_to_one_hub("3.1.1");
}

/// Two brokers that each have a bridge to one mosquitto.
fn star_around_mosquitto(version: &str) {
    // Mosquitto would drop what waits for the one who counts.
    let hub = Mosquitto::with("max_queued_messages 0\nmax_inflight_messages 1000\n");
    let lines = format!("version = \"{version}\"");
    let brokers = [nightjar(&both("hub", hub.port(), &lines)), nightjar(&both("hub", hub.port(), &lines))];
    let ports = [brokers[0].port(), brokers[1].port(), hub.port()];
    for (from, to) in [(0, 2), (1, 2), (2, 0), (2, 1)] {
        wait_joined(ports[from], ports[to], &format!("joined/{from}/{to}"), &format!("joined/{from}/{to}"));
    }
    each_message_once(&ports);
}

#[test]
fn two_brokers_around_a_mosquitto() {
    star_around_mosquitto("5");
    star_around_mosquitto("3.1.1");
}

#[test]
fn both_ends_have_a_bridge_to_each_other() {
    let lines = "version = \"5\"";
    let first = nightjar("");
    let second = nightjar(&both("back", first.port(), lines));
    first.configure(&config(&both("there", second.port(), lines)));
    first.reload();
    let ports = [first.port(), second.port()];
    wait_joined(ports[0], ports[1], "joined/1", "joined/1");
    wait_joined(ports[1], ports[0], "joined/2", "joined/2");
    wait_until("both are there", PATIENCE, || [&first, &second].iter().all(|b| b.log().contains("connected bridge=")));
    each_message_once(&ports);
}

#[test]
fn a_mosquitto_that_has_a_bridge_to_us_while_we_have_one_to_it() {
    for (ours, theirs) in [("3.1.1", "mqttv311"), ("5", "mqttv50"), ("5", "mqttv311")] {
        let broker = nightjar("");
        let lines = format!("bridge_protocol_version {theirs}\ntopic # both 2\n");
        let limits = "max_queued_messages 0\nmax_inflight_messages 1000\n";
        let mosquitto = Mosquitto::with(&(limits.to_owned() + &mosquitto_bridge(broker.port(), &lines)));
        let ports = [broker.port(), mosquitto.port()];
        wait_joined(ports[0], ports[1], "joined/1", "joined/1");
        broker.configure(&config(&both("hub", mosquitto.port(), &format!("version = \"{ours}\""))));
        broker.reload();
        broker.wait_log(&["the remote has a bridge to here too"]);
        wait_joined(ports[1], ports[0], "joined/2", "joined/2");
        each_message_once(&ports);
    }
}
