//! Retained messages, set at one node and seen at another.

use crate::Cluster;
use crate::support::wire::PUBACK;
use crate::support::{Connect, Publish, Random};

#[test]
fn a_retained_message_is_seen_at_every_node_once_it_is_acknowledged_f52() {
    let cluster = Cluster::start(3);
    let mut random = Random(52);
    for round in 0..150 {
        let (at, topic) = (round % 3, format!("status/{round}"));
        let mut writer = cluster[at].v5("writes");
        let mut reader = cluster[(at + 1 + random.below(2) as usize) % 3].v5("reads");
        writer.retain(&topic, "offline", 1);
        let id = writer.send_publish(Publish::new(&topic, "online").qos(1).retain());
        if round % 3 == 0 {
            // Not acknowledged yet: whatever comes first, the last is what was published last.
            reader.subscribe(&topic, 1);
            writer.wait_ack(PUBACK, id);
            let first = reader.expect_publish();
            if first.text() == "offline" {
                reader.expect_payload("online");
            }
            reader.ping();
        } else {
            writer.wait_ack(PUBACK, id);
            reader.subscribe(&topic, 1);
            let first = reader.expect_publish();
            assert_eq!((first.text().as_str(), first.retain), ("online", true), "round {round}");
        }
        reader.disconnect();
        writer.disconnect();
    }
}

#[test]
fn a_retained_message_that_was_removed_is_gone_at_every_node() {
    let cluster = Cluster::start(3);
    let mut writers: Vec<_> = (0..3).map(|node| cluster[node].v311(&format!("writes {node}"))).collect();
    let mut readers: Vec<_> = (0..3).map(|node| cluster[node].v5(&format!("reads {node}"))).collect();
    for round in 0..60 {
        let at = round % 3;
        let (topic, mark) = (format!("r/{round}/a"), format!("r/{round}/b"));
        writers[at].retain(&topic, "there", 1);
        // Another node takes it away.
        writers[(at + 1) % 3].retain(&topic, "", 1 + round as u8 % 2);
        writers[at].retain(&mark, "mark", 1);
        for reader in &mut readers {
            reader.subscribe_many(&[(&topic, 1), (&mark, 1)], &[]);
            reader.expect_payload("mark");
        }
    }
    readers.iter_mut().for_each(crate::support::Client::expect_nothing);
}

#[test]
fn nodes_agree_on_the_last_of_what_several_retain_at_once() {
    let cluster = Cluster::start(3);
    let mut writers: Vec<_> = (0..3).map(|node| cluster[node].v5(&format!("writes {node}"))).collect();
    for round in 0..20 {
        let topic = format!("last/{round}");
        let ids: Vec<u16> = writers
            .iter_mut()
            .enumerate()
            .map(|(node, client)| client.send_publish(Publish::new(&topic, node.to_string()).qos(1).retain()))
            .collect();
        for (client, id) in writers.iter_mut().zip(ids) {
            client.wait_ack(PUBACK, id);
        }
        let read = |node: usize| {
            let mut reader = Connect::v5(&format!("reads {node}")).open(&cluster[node]);
            reader.subscribe(&topic, 1);
            let text = reader.expect_publish().text();
            reader.disconnect();
            text
        };
        assert_eq!(read(0), read(1));
        assert_eq!(read(0), read(2));
    }
}
