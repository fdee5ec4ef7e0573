//! Published at any node, received at any node.

use crate::support::wire::PUBACK;
use crate::support::{Client, Connect, Packet, Publish, V5, V311};
use crate::{Cluster, subscriber};
use std::collections::BTreeMap;

/// Everything by what it was published to, in order.
fn by_topic(client: &mut Client, count: usize) -> BTreeMap<String, Vec<(String, u8)>> {
    let mut seen: BTreeMap<String, Vec<(String, u8)>> = BTreeMap::new();
    for _ in 0..count {
        let message = client.expect_publish();
        seen.entry(message.topic.clone()).or_default().push((message.text(), message.qos));
    }
    seen
}

#[test]
fn what_is_published_at_any_node_reaches_subscribers_of_all_nodes() {
    let cluster = Cluster::start(3);
    let mut subscribers = Vec::new();
    for node in 0..3 {
        for version in [V311, V5] {
            let name = |kind: &str| format!("{kind} {version} at {node}");
            let kinds = [Connect::of(version, &name("transient")), Connect::of(version, &name("kept")).persistent()];
            for connect in kinds {
                subscribers.push((format!("{connect:?}"), subscriber(&cluster, node, &connect, "t/#")));
            }
        }
    }
    let mut wanted: BTreeMap<String, Vec<(String, u8)>> = BTreeMap::new();
    for node in 0..3 {
        for version in [V311, V5] {
            let mut client = cluster[node].client(version, &format!("publishes {version} at {node}"));
            for qos in 0..=2 {
                let topic = format!("t/{node}/{version}/{qos}");
                for number in 0..10 {
                    assert_eq!(client.publish(&topic, number.to_string(), qos), 0);
                    wanted.entry(topic.clone()).or_default().push((number.to_string(), qos));
                }
            }
            client.disconnect();
        }
    }
    let count = wanted.values().map(Vec::len).sum();
    for (name, client) in &mut subscribers {
        assert_eq!(by_topic(client, count), wanted, "{name}");
        client.expect_nothing();
    }
}

#[test]
fn messages_of_one_publisher_keep_their_order_at_every_node() {
    const COUNT: usize = 400;
    let cluster = Cluster::start(3);
    let mut subscribers: Vec<Client> = Vec::new();
    for node in 0..3 {
        for connect in [Connect::v5(&format!("t{node}")), Connect::v311(&format!("p{node}")).persistent()] {
            subscribers.push(subscriber(&cluster, node, &connect, "t/#"));
        }
    }
    for node in 0..3 {
        let mut client = cluster[node].v5(&format!("publishes {node}"));
        let mut waiting = 0;
        for number in 0..COUNT {
            for qos in 0..=2 {
                client.send_publish(Publish::new(&format!("t/{qos}"), number.to_string()).qos(qos));
                waiting += usize::from(qos > 0);
            }
        }
        // Both acknowledgements come in the end; PUBREL is this client's to send.
        while waiting > 0 {
            if let Packet::Ack { kind, id, code, .. } = client.recv() {
                assert_eq!(code, 0);
                if kind == crate::support::wire::PUBREC {
                    client.ack(crate::support::wire::PUBREL, id);
                } else {
                    waiting -= 1;
                }
            }
        }
        let numbers: Vec<String> = (0..COUNT).map(|number| number.to_string()).collect();
        let wanted = |qos: u8| numbers.iter().map(|number| (number.clone(), qos)).collect::<Vec<_>>();
        for client in &mut subscribers {
            let seen = by_topic(client, 3 * COUNT);
            for qos in 0..=2 {
                assert_eq!(seen[&format!("t/{qos}")], wanted(qos), "from {node}");
            }
        }
    }
}

#[test]
fn after_suback_no_node_misses_a_message_f55() {
    let cluster = Cluster::start(3);
    let mut publishers: Vec<Client> = (0..3).map(|node| cluster[node].v5(&format!("publishes {node}"))).collect();
    for persistent in [false, true] {
        let connect = |node: usize| {
            let connect = Connect::v5(&format!("subscribes {persistent} {node}"));
            if persistent { connect.persistent() } else { connect }
        };
        let mut subscribers: Vec<Client> = (0..3).map(|node| connect(node).open(&cluster[node])).collect();
        for round in 0..150 {
            let (at, topic) = (round % 3, format!("fresh/{persistent}/{round}"));
            assert_eq!(subscribers[at].subscribe(&topic, 1), 1);
            let ids: Vec<u16> = publishers
                .iter_mut()
                .enumerate()
                .map(|(node, client)| client.send_publish(Publish::new(&topic, node.to_string()).qos(1)))
                .collect();
            for (client, id) in publishers.iter_mut().zip(ids) {
                assert_eq!(client.wait_ack(PUBACK, id), 0, "round {round}: a subscriber is known");
            }
            let mut seen: Vec<String> = (0..3).map(|_| subscribers[at].expect_publish().text()).collect();
            seen.sort();
            assert_eq!(seen, ["0", "1", "2"], "round {round}");
        }
    }
}

#[test]
fn after_unsuback_nothing_comes_from_any_node() {
    let cluster = Cluster::start(3);
    let mut client = subscriber(&cluster, 0, &Connect::v5("subscribes"), "t");
    let mut publishers: Vec<Client> = (0..3).map(|node| cluster[node].v5(&format!("publishes {node}"))).collect();
    publishers.iter_mut().for_each(|of| assert_eq!(of.publish("t", "before", 1), 0));
    (0..3).for_each(|_| drop(client.expect_payload("before")));
    assert_eq!(client.unsubscribe("t"), 0);
    for of in &mut publishers {
        // Another node may still think that there is somebody, and does no harm by it.
        assert!([0, 0x10].contains(&of.publish("t", "after", 1)));
    }
    client.expect_nothing();
}
