//! The `$SYS` tree that dashboards and exporters read.

use crate::support::{Broker, Client, Connect, Packet, Read, ms, secs, wait_until};
use std::collections::BTreeMap;

/// The names that mosquitto's exporters look for.
const NAMES: &[&str] = &[
    "bytes/received",
    "bytes/sent",
    "clients/active",
    "clients/connected",
    "clients/disconnected",
    "clients/expired",
    "clients/inactive",
    "clients/maximum",
    "clients/total",
    "heap/current",
    "heap/maximum",
    "load/bytes/received/1min",
    "load/bytes/sent/15min",
    "load/connections/5min",
    "load/messages/received/1min",
    "load/messages/sent/5min",
    "load/publish/dropped/1min",
    "load/publish/received/1min",
    "load/publish/sent/1min",
    "load/sockets/1min",
    "messages/received",
    "messages/sent",
    "messages/stored",
    "publish/bytes/received",
    "publish/bytes/sent",
    "publish/messages/dropped",
    "publish/messages/received",
    "publish/messages/sent",
    "retained messages/count",
    "shared_subscriptions/count",
    "store/messages/bytes",
    "store/messages/count",
    "subscriptions/count",
    "uptime",
    "version",
];

/// Reads the tree until every name is there.
fn read_tree(client: &mut Client, tree: &mut BTreeMap<String, String>) {
    client.send_subscribe(&[("$SYS/#", 0)], &[]);
    wait_until("all names of the tree", secs(10), || {
        while let Read::Packet(packet) = client.read_packet(ms(100)) {
            if let Packet::Publish(m) = packet {
                let name = m.topic.strip_prefix("$SYS/broker/").unwrap_or(&m.topic).to_owned();
                tree.insert(name, m.text());
            }
        }
        NAMES.iter().all(|n| tree.contains_key(*n)) || {
            let missing: Vec<_> = NAMES.iter().filter(|n| !tree.contains_key(**n)).collect();
            println!("missing: {missing:?}");
            false
        }
    });
}

fn number(tree: &BTreeMap<String, String>, name: &str) -> f64 {
    let text = tree.get(name).unwrap_or_else(|| panic!("{name} is missing"));
    text.split_whitespace().next().and_then(|t| t.parse().ok()).unwrap_or_else(|| panic!("{name} is {text:?}"))
}

#[test]
fn the_tree_has_the_names_and_forms_that_exporters_know() {
    let broker = Broker::with(&["sys.interval=1s"]);
    let mut tree = BTreeMap::new();
    read_tree(&mut broker.v311("reader"), &mut tree);
    assert!(tree["version"].to_lowercase().contains("nightjar"), "{}", tree["version"]);
    assert!(tree["uptime"].ends_with(" seconds"), "{}", tree["uptime"]);
    for name in NAMES.iter().filter(|n| **n != "version") {
        assert!(number(&tree, name) >= 0.0, "{name}");
    }
}

#[test]
fn the_values_follow_what_happens() {
    let broker = Broker::with(&["sys.interval=1s"]);
    let mut s = broker.v311("s");
    s.subscribe("t/#", 1);
    s.subscribe("$share/g/t", 1);
    Connect::v311("away").persistent().open(&broker).disconnect();
    let mut p = broker.v311("p");
    p.retain("kept/1", "x", 1);
    p.retain("kept/2", "x", 1);
    for _ in 0..10 {
        p.publish("t/x", "0123456789", 1);
        s.expect_publish();
    }
    let mut reader = broker.v311("reader");
    let mut tree = BTreeMap::new();
    let right = |tree: &BTreeMap<String, String>| {
        number(tree, "clients/connected") == 3.0
            && number(tree, "clients/disconnected") == 1.0
            && number(tree, "retained messages/count") >= 2.0
            && number(tree, "subscriptions/count") >= 2.0
            && number(tree, "shared_subscriptions/count") == 1.0
            && number(tree, "publish/messages/received") >= 12.0
            && number(tree, "publish/messages/sent") >= 10.0
            && number(tree, "publish/bytes/received") >= 100.0
            && number(tree, "messages/received") >= 20.0
            && number(tree, "bytes/sent") >= 100.0
    };
    read_tree(&mut reader, &mut tree);
    wait_until("the values are right", secs(10), || {
        while let Read::Packet(packet) = reader.read_packet(ms(100)) {
            if let Packet::Publish(m) = packet {
                tree.insert(m.topic["$SYS/broker/".len()..].to_owned(), m.text());
            }
        }
        let ok = right(&tree);
        if !ok {
            println!("{tree:?}");
        }
        ok
    });
}

#[test]
fn the_values_are_retained_and_may_be_switched_off() {
    let broker = Broker::with(&["sys.interval=1s"]);
    std::thread::sleep(ms(1500));
    let mut c = broker.v311("c");
    c.subscribe("$SYS/broker/uptime", 0);
    assert!(c.expect_publish().retain);
    assert!(!c.expect_publish().retain, "the next value, live");
    let broker = Broker::with(&["sys.interval=off"]);
    let mut c = broker.v311("c");
    c.subscribe("$SYS/#", 0);
    c.expect_nothing_for(ms(1500));
}
