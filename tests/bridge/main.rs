//! Bridges: real processes on both sides, and a link between them that can be cut.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

#[path = "../support/mod.rs"]
mod support;

mod crash;
mod field;
mod loops;
mod lying;
mod measure;
mod nightjars;
mod promises;
mod remotes;
mod reverse;

use support::{Broker, Client, Connect, PATIENCE, wait_until};

/// A broker with bridges as this part of a config file says.
#[track_caller]
fn bridged(tables: &str) -> Broker {
    Broker::configured(&config(tables), &[])
}

/// A config file with one listener and these tables.
fn config(tables: &str) -> String {
    format!("[listeners.main]\naddress = \"127.0.0.1:{{port}}\"\n{tables}")
}

/// A table for a bridge `hub` to this port of this machine, with these lines more.
fn hub(port: u16, topics: &str, lines: &str) -> String {
    format!(
        "[bridges.hub]\naddress = \"mqtt://127.0.0.1:{port}\"\ntopics = {topics}\nretry_base = \"100ms\"\n\
         retry_cap = \"500ms\"\n{lines}\n"
    )
}

/// Waits until the state topic of the bridge `hub` of `broker` says so.
#[track_caller]
fn wait_state(broker: &Broker, state: &str) {
    let mut client = broker.v5(&format!("state-{state}-{}", support::broker::free_port()));
    client.subscribe("$SYS/broker/connection/hub/state", 1);
    client.recv_where(&format!("state {state}"), |packet| match packet {
        support::Packet::Publish(publish) if publish.payload == state.as_bytes() => Some(()),
        _ => None,
    });
}

/// How many messages wait for the remote of the bridge `hub`, as the operator sees it.
fn queued(broker: &Broker) -> u64 {
    let mut ctl = std::process::Command::new(env!("CARGO_BIN_EXE_nightjar"));
    let ctl = ctl.args(["ctl", "--json", "--data"]).arg(broker.data()).args(["sessions", "show", "$bridge/hub"]);
    let output = ctl.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let rest = text.split("\"queued\":").nth(1).unwrap_or_else(|| panic!("{output:?}"));
    rest.trim_start().chars().take_while(char::is_ascii_digit).collect::<String>().parse().unwrap()
}

/// The payloads of the next `count` messages.
#[track_caller]
fn payloads(client: &mut Client, count: usize) -> Vec<String> {
    (0..count).map(|_| String::from_utf8(client.expect_publish().payload).unwrap()).collect()
}

/// A session on `port` with these subscriptions, at QoS 2.
#[track_caller]
fn subscriber(port: u16, id: &str, filters: &[&str]) -> Client {
    let mut client = support::mosquitto::open(port, &Connect::v5(id));
    for filter in filters {
        client.subscribe(filter, 2);
    }
    client
}

/// Publishes and waits for the acknowledgement.
#[track_caller]
fn publish(port: u16, topic: &str, payload: &str, qos: u8) {
    let mut client = support::mosquitto::open(port, &Connect::v5(&format!("pub-{}", support::broker::free_port())));
    client.publish(topic, payload, qos);
    client.disconnect();
}

/// A bridge in a mosquitto.conf, to this port.
fn mosquitto_bridge(port: u16, lines: &str) -> String {
    format!("connection nightjar\naddress 127.0.0.1:{port}\nrestart_timeout 1\n{lines}\n")
}

/// Waits until a message published on one side is seen on the other, so that both know each other.
#[track_caller]
fn wait_joined(from: u16, to: u16, topic: &str, as_topic: &str) {
    let mut probe = subscriber(to, &format!("joined-{}", support::broker::free_port()), &[as_topic]);
    let mut number = 0;
    wait_until("the two are joined", PATIENCE, || {
        number += 1;
        publish(from, topic, &format!("joined {number}"), 0);
        matches!(probe.read_packet(support::ms(100)), support::Read::Packet(support::Packet::Publish(_)))
    });
}
