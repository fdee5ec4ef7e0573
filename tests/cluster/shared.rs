//! Shared subscriptions with members at several nodes.

use crate::support::{Client, Connect, Packet, Read, V5, V311, ms};
use crate::{Cluster, Pen, drain, subscriber};
use std::collections::BTreeMap;

/// All that came to any of them, each with how often it came.
fn together(members: &mut [Client]) -> BTreeMap<String, usize> {
    let mut seen = BTreeMap::new();
    for member in members {
        for (text, count) in drain(member, ms(400)) {
            *seen.entry(text).or_default() += count;
        }
    }
    seen
}

fn once(texts: impl IntoIterator<Item = String>) -> BTreeMap<String, usize> {
    texts.into_iter().map(|text| (text, 1)).collect()
}

#[test]
fn each_message_goes_to_one_member_wherever_the_members_are() {
    let cluster = Cluster::start(3);
    for kept in [false, true] {
        let mut members: Vec<Client> = Vec::new();
        for node in 0..3 {
            for version in [V311, V5] {
                let connect = Connect::of(version, &format!("member {kept} {node} {version}"));
                let connect = if kept { connect.persistent() } else { connect };
                members.push(subscriber(&cluster, node, &connect, &format!("$share/group/s/{kept}")));
            }
        }
        let mut wanted = Vec::new();
        for node in 0..3 {
            let mut client = cluster[node].v5(&format!("publishes {node}"));
            for number in 0..90 {
                let text = format!("{number} from {node}");
                client.publish(&format!("s/{kept}"), &text, number % 3);
                wanted.push(text);
            }
            client.disconnect();
        }
        assert_eq!(together(&mut members), once(wanted), "kept: {kept}");
        members.into_iter().for_each(Client::disconnect);
    }
}

#[test]
fn what_a_member_leaves_unacknowledged_goes_to_one_at_another_node() {
    let cluster = Cluster::start(3);
    for (round, leaves) in ["by DISCONNECT", "without a word"].into_iter().enumerate() {
        let filter = format!("$share/group/l/{round}");
        let mut lazy = subscriber(&cluster, 0, &Connect::v5(&format!("lazy {round}")).manual(), &filter);
        let mut keen = subscriber(&cluster, 1, &Connect::v5(&format!("keen {round}")), &filter);
        let wanted: Vec<String> = (0..60).map(|number| format!("{number} {leaves}")).collect();
        let mut client = cluster[2].v5("publishes");
        // At QoS 2 what was sent to one may go to no other [MQTT-4.8.2-5].
        wanted.iter().for_each(|text| assert_eq!(client.publish(&format!("l/{round}"), text, 1), 0));
        client.disconnect();
        let first = drain(&mut keen, ms(300));
        let held = (0..).take_while(|_| matches!(lazy.read_packet(ms(100)), Read::Packet(Packet::Publish(_)))).count();
        println!("{leaves}: {} went to the one, {held} to the other", first.len());
        assert_eq!(first.len() + held, wanted.len(), "each to one of them");
        if round == 0 {
            lazy.disconnect()
        } else {
            lazy.fin()
        }
        let mut seen = first;
        for _ in 0..held {
            *seen.entry(keen.expect_publish().text()).or_default() += 1;
        }
        assert_eq!(seen, once(wanted), "{leaves}");
        keen.disconnect();
    }
}

#[test]
fn a_member_whose_node_is_lost_finds_at_another_what_it_did_not_acknowledge() {
    let mut cluster = Cluster::start(3);
    let connect = |node: usize| Connect::v5(&format!("member {node}")).persistent();
    let mut lazy = subscriber(&cluster, 0, &connect(0).manual(), "$share/group/t");
    let mut keen = subscriber(&cluster, 1, &connect(1), "$share/group/t");
    let mut pen = Pen::at(cluster.port(2), "pen");
    let wanted: Vec<String> = (0..60).map(|number| number.to_string()).collect();
    for (number, text) in wanted.iter().enumerate() {
        pen.publish("t", text, 1 + number as u8 % 2);
    }
    let mut seen = drain(&mut keen, ms(300));
    assert!(matches!(lazy.recv(), Packet::Publish(_)), "it has some");
    cluster.kill(0);
    let mut lazy = cluster.come_in(2, &connect(0));
    assert!(lazy.session_present);
    for (text, count) in drain(&mut lazy, ms(1_000)).into_iter().chain(drain(&mut keen, ms(300))) {
        *seen.entry(text).or_default() += count;
    }
    assert_eq!(seen, once(wanted));
}

#[test]
fn members_that_are_away_get_only_what_comes_when_none_is_there() {
    let cluster = Cluster::start(3);
    let connect = |node: usize| Connect::v5(&format!("member {node}")).persistent();
    let open = |node: usize| subscriber(&cluster, node, &connect(node), "$share/group/t");
    let (away, mut here) = (open(0), open(1));
    away.disconnect();
    // The node at which is published has seen it leave.
    connect(0).open(&cluster[2]).disconnect();
    let mut client = cluster[2].v5("publishes");
    let mut publish = |what: &str| {
        let texts: Vec<String> = (0..20).map(|number| format!("{what} {number}")).collect();
        for (number, text) in texts.iter().enumerate() {
            client.publish("t", text, 1 + number as u8 % 2);
        }
        texts
    };
    let texts = publish("one is there");
    assert_eq!(crate::payloads(&mut here, texts.len()), texts);
    here.disconnect();
    let texts = publish("none is there");
    let mut members: Vec<Client> = [2, 0].iter().zip([0, 1]).map(|(at, of)| connect(of).open(&cluster[*at])).collect();
    assert!(members.iter().all(|member| member.session_present));
    assert_eq!(together(&mut members), once(texts));
    let texts = publish("both are there");
    assert_eq!(together(&mut members), once(texts));
}
