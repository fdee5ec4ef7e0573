//! Shared subscriptions, of clients of every version.

use crate::support::{Broker, Client, Connect, Packet, Publish, Read, VERSIONS, ms, prop};
use std::collections::BTreeMap;

/// Reads what is there on each; gives how many each got, and all payloads in the order of each.
fn collect(members: &mut [Client]) -> (Vec<usize>, BTreeMap<String, usize>) {
    let mut counts = Vec::new();
    let mut seen = BTreeMap::new();
    for member in members {
        let mut n = 0;
        loop {
            match member.read_packet(ms(200)) {
                Read::Packet(Packet::Publish(m)) => {
                    n += 1;
                    *seen.entry(m.text()).or_insert(0) += 1;
                }
                Read::Packet(Packet::Pingresp) => {}
                Read::Timeout => break,
                other => panic!("{other:?}"),
            }
        }
        counts.push(n);
    }
    (counts, seen)
}

#[test]
fn each_message_goes_to_one_member_of_each_group() {
    let broker = Broker::start();
    for qos in 0..=2 {
        let member = |id: &str, version, filter: &str| {
            let mut m = broker.client(version, id);
            assert_eq!(m.subscribe(filter, qos), qos);
            m
        };
        let mut g: Vec<Client> = VERSIONS.into_iter().map(|v| member(&format!("g{v}"), v, "$share/g/t/+")).collect();
        let mut h: Vec<Client> = (0..2).map(|n| member(&format!("h{n}"), 5, "$share/h/t/#")).collect();
        let mut plain = [member("plain", 4, "t/x")];
        let mut p = broker.v311("p");
        for n in 0..90 {
            p.publish("t/x", n.to_string(), qos);
        }
        p.ping();
        for members in [&mut g[..], &mut h[..], &mut plain[..]] {
            let (counts, seen) = collect(members);
            assert_eq!(seen.len(), 90, "QoS {qos}: {counts:?}");
            assert!(seen.values().all(|n| *n == 1), "QoS {qos}: once in each group");
            assert!(counts.iter().all(|n| *n > 0), "QoS {qos}: everyone has a share: {counts:?}");
        }
    }
}

#[test]
fn a_client_with_a_shared_and_a_plain_subscription_gets_both() {
    let broker = Broker::start();
    let mut c = broker.v5("c");
    c.subscribe_many(&[("$share/g/t", 1)], &[prop::subscription_id(7)]);
    c.subscribe_many(&[("t", 1)], &[prop::subscription_id(8)]);
    broker.v5("p").publish("t", "x", 1);
    let mut ids: Vec<Vec<u32>> = Vec::new();
    while let Read::Packet(Packet::Publish(m)) = c.read_packet(ms(300)) {
        assert_eq!(m.topic, "t");
        ids.push(m.numbers(prop::SUBSCRIPTION_ID));
    }
    let mut all: Vec<u32> = ids.concat();
    all.sort_unstable();
    assert_eq!(all, [7, 8], "as one copy or two: {ids:?}");
}

#[test]
fn a_shared_subscription_gets_no_retained_messages_at_subscribe_time() {
    let broker = Broker::start();
    broker.v311("p").retain("t", "kept", 1);
    for version in VERSIONS {
        let mut c = broker.client(version, "c");
        c.subscribe("$share/g/t", 1);
        c.expect_nothing();
    }
}

#[test]
fn connected_members_come_first_and_absent_ones_keep_what_nobody_takes() {
    let mut broker = Broker::start();
    let connect = Connect::v5("away").persistent();
    let mut away = connect.open(&broker);
    away.subscribe("$share/g/t", 1);
    away.disconnect();
    let mut here = broker.v311("here");
    here.subscribe("$share/g/t", 1);
    let mut p = broker.v5("p");
    for n in 0..20 {
        assert_eq!(p.publish("t", n.to_string(), 1), 0);
        here.expect_payload(n.to_string());
    }
    here.disconnect();
    for n in 20..40 {
        assert_eq!(p.publish("t", n.to_string(), 1), 0);
    }
    broker.crash();
    let mut away = connect.open(&broker);
    for n in 20..40 {
        away.expect_payload(n.to_string());
    }
    away.expect_nothing();
}

#[test]
fn unacknowledged_messages_of_a_member_that_leaves_are_given_to_another() {
    let broker = Broker::start();
    let mut gone = Connect::v311("gone").manual().open(&broker);
    gone.subscribe("$share/g/t", 1);
    let mut p = broker.v311("p");
    for n in 0..10 {
        p.publish("t", n.to_string(), 1);
        gone.expect_payload(n.to_string());
    }
    let mut stays = broker.v311("stays");
    stays.subscribe("$share/g/t", 1);
    gone.rst();
    let mut seen: Vec<usize> = (0..10).map(|_| stays.expect_publish().text().parse().unwrap()).collect();
    assert!(seen.is_sorted(), "in their order: {seen:?}");
    seen.dedup();
    assert_eq!(seen.len(), 10);
}

#[test]
fn unsubscribing_leaves_the_group() {
    let broker = Broker::start();
    let mut a = broker.v5("a");
    let mut b = broker.v5("b");
    a.subscribe("$share/g/t", 1);
    b.subscribe("$share/g/t", 1);
    assert_eq!(a.unsubscribe("$share/g/t"), 0);
    assert_eq!(b.unsubscribe("$share/other/t"), 0x11);
    let mut p = broker.v5("p");
    for n in 0..10 {
        p.publish_as(Publish::new("t", n.to_string()).qos(1));
        b.expect_payload(n.to_string());
    }
    a.expect_nothing();
    b.unsubscribe("$share/g/t");
    assert_eq!(p.publish("t", "x", 1), 0x10);
}
