//! Mosquitto has the bridge, and we are its remote.

use super::support::{Broker, Mosquitto, Publish, QUIET, V5, V311};
use super::{mosquitto_bridge, publish, subscriber, wait_joined};

/// A mosquitto that is joined to this broker by `topic # both 2`.
fn joined(broker: &Broker, version: &str, lines: &str) -> Mosquitto {
    let lines = format!("bridge_protocol_version {version}\ntopic # both 2\ncleansession false\n{lines}");
    let mosquitto = Mosquitto::with(&mosquitto_bridge(broker.port(), &lines));
    wait_joined(mosquitto.port(), broker.port(), "joined/1", "joined/1");
    wait_joined(broker.port(), mosquitto.port(), "joined/2", "joined/2");
    mosquitto
}

#[test]
fn each_message_arrives_once_on_each_side() {
    for version in ["mqttv311", "mqttv50", "mqttv31"] {
        let broker = Broker::start();
        let mosquitto = joined(&broker, version, "");
        let mut here = subscriber(broker.port(), "here", &["t/#"]);
        let mut there = subscriber(mosquitto.port(), "there", &["t/#"]);
        for (port, name) in [(broker.port(), "here"), (mosquitto.port(), "there")] {
            for qos in 0..=2 {
                publish(port, "t/x", &format!("{name} {qos}"), qos);
                here.expect_payload(format!("{name} {qos}"));
                there.expect_payload(format!("{name} {qos}"));
            }
        }
        here.expect_nothing_for(QUIET * 3);
        there.expect_nothing_for(QUIET * 3);
    }
}

#[test]
fn the_flag_of_bridges_keeps_retain_flags_and_sends_nothing_back() {
    let broker = Broker::start();
    let mosquitto = joined(&broker, "mqttv311", "");
    // A live message that was published as a retained one is retained on the other side.
    let mut probe = subscriber(mosquitto.port(), "probe", &["r/1"]);
    broker.client(V5, "out").retain("r/1", "x", 1);
    probe.expect_payload("x");
    let mut late = subscriber(mosquitto.port(), "late", &["r/1"]);
    assert!(late.expect_payload("x").retain);
    let log = mosquitto.log();
    assert!(!log.contains("Connection Refused"), "the flag was taken: {log}");
    // And without the flag a retained one comes as any other: that is what a client before MQTT 5 gets.
    let plain = Broker::start();
    let mosquitto = Mosquitto::with(&mosquitto_bridge(plain.port(), "try_private false\ntopic r/# in 1\n"));
    wait_joined(plain.port(), mosquitto.port(), "r/joined", "r/joined");
    let mut probe = subscriber(mosquitto.port(), "probe", &["r/1"]);
    plain.client(V5, "out").retain("r/1", "x", 1);
    probe.expect_payload("x");
    subscriber(mosquitto.port(), "late", &["r/1"]).expect_nothing();
}

#[test]
fn a_bridge_that_comes_may_tell_its_state() {
    let broker = Broker::start();
    let mut mosquitto = joined(&broker, "mqttv311", "remote_clientid theirs\n");
    let topic = "$SYS/broker/connection/theirs/state";
    let mut seen = subscriber(broker.port(), "seen", &[topic]);
    seen.expect_payload("1");
    mosquitto.kill();
    seen.expect_payload("0");
    // Nothing else below $SYS is anybody's to publish.
    let mut client = broker.client(V5, "client");
    for topic in ["$SYS/broker/connection/state", "$SYS/broker/connection/a/b/state", "$SYS/x", "$SYS"] {
        assert_eq!(client.publish_as(Publish::new(topic, "1").qos(1)), 0x87, "{topic}");
    }
    assert_eq!(broker.client(V311, "old").publish("$SYS/broker/uptime", "1", 1), 0);
}
