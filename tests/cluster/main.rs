//! Several nodes as one broker: real processes, killed, stopped, paused and cut off from each other.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

#[path = "../support/mod.rs"]
mod support;

#[path = "../crash/checker.rs"]
mod checker;

mod anywhere;
mod cluster;
mod crash;
mod first;
mod formation;
mod links;
mod load;
mod loss;
mod minority;
mod pen;
mod restarts;
mod retained;
mod shared;
mod takeover;
mod twice;
mod wills;

use cluster::Cluster;
use pen::Pen;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use support::{Client, Connect, PATIENCE, Packet, Publish, Read, ms};

/// The payloads of the next `count` messages.
#[track_caller]
fn payloads(client: &mut Client, count: usize) -> Vec<String> {
    (0..count).map(|_| client.expect_publish().text()).collect()
}

/// These come, in their order. What was acknowledged too late to be seen at QoS 1 may have been published again at once.
#[track_caller]
fn expect_in_order(client: &mut Client, wanted: &[String]) {
    let mut seen: Vec<String> = Vec::new();
    while seen.last() != wanted.last() {
        let message = client.expect_publish();
        let is_repeated = message.qos == 1 && seen.last() == Some(&message.text());
        if !is_repeated {
            seen.push(message.text());
        }
    }
    assert_eq!(seen, wanted);
}

/// How often each payload came to a client that acknowledges by itself, until nothing came for this long.
#[track_caller]
fn drain(client: &mut Client, quiet: Duration) -> BTreeMap<String, usize> {
    let mut seen = BTreeMap::new();
    loop {
        match client.read_packet(quiet) {
            Read::Packet(Packet::Publish(message)) => *seen.entry(message.text()).or_default() += 1,
            Read::Packet(_) => {}
            Read::Timeout => return seen,
            Read::Closed => panic!("closed while draining; {seen:?}"),
        }
    }
}

/// A client of this node that is subscribed with QoS 2.
#[track_caller]
fn subscriber(cluster: &Cluster, node: usize, connect: &Connect, filter: &str) -> Client {
    let mut client = connect.open(&cluster[node]);
    assert_eq!(client.subscribe(filter, 2), 2, "{filter}");
    client
}

/// Makes a persistent session with one subscription, and leaves it alone.
#[track_caller]
fn leave_session(cluster: &Cluster, node: usize, connect: &Connect, filter: &str) {
    subscriber(cluster, node, connect, filter).disconnect();
}

/// Takes messages until one has this payload.
#[track_caller]
fn wait_payload(client: &mut Client, payload: &str) -> Publish {
    loop {
        let message = client.expect_publish();
        if message.text() == payload {
            return message;
        }
    }
}

/// Whether a client can publish a message at QoS 1 within this time. Whatever is not taken is not sent again.
fn is_taken(port: u16, topic: &str, limit: Duration) -> bool {
    let connect = Connect::v5(&format!("asks-{}", support::broker::free_port()));
    let begin = Instant::now();
    let Some(mut client) = connect.try_open(port, limit) else { return false };
    let id = client.send_publish(Publish::new(topic, "?").qos(1));
    while begin.elapsed() < limit {
        match client.read_packet(ms(50)) {
            Read::Packet(Packet::Ack { id: of, code, .. }) if of == id => return code < 0x80,
            Read::Closed => return false,
            _ => {}
        }
    }
    false
}
