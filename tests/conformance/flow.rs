//! Sections 4.3, 4.4 and 4.6: the exchanges of QoS 1 and 2, what is sent again, and order.

use crate::support::wire::{PUBACK, PUBCOMP, PUBREC, PUBREL, packet, prop};
use crate::support::{Broker, Connect, Packet, Publish, Read, V5, VERSIONS, ms, secs};

#[test]
fn mqtt_4_3_2_5_after_its_puback_an_identifier_is_a_new_message_whatever_dup_says() {
    let broker = Broker::start();
    for version in VERSIONS {
        let mut s = broker.client(version, "s");
        s.subscribe("t", 1);
        let mut p = broker.client(version, "p");
        for n in 0..4 {
            let m = Publish::new("t", n.to_string()).qos(1).id(77);
            p.send_publish(if n % 2 == 1 { m.dup() } else { m });
            assert_eq!(p.expect_ack(PUBACK, 77), 0);
            assert!(!s.expect_payload(n.to_string()).dup);
        }
        s.expect_nothing_for(ms(10));
    }
}

#[test]
fn mqtt_4_3_3_7_a_message_that_was_sent_does_not_expire_any_more() {
    let broker = Broker::start();
    for reconnect in [false, true] {
        let connect = Connect::v5("s").persistent().manual();
        let mut s = connect.open(&broker);
        s.subscribe("t", 2);
        let mut p = broker.v5("p");
        p.publish_as(Publish::new("t", "sent").qos(2).prop(prop::message_expiry(1)));
        let first = s.expect_payload("sent");
        std::thread::sleep(ms(2200));
        if reconnect {
            s.rst();
            s = connect.open(&broker);
            assert!(s.resumed());
            let again = s.expect_payload("sent");
            assert_eq!((again.id, again.dup), (first.id, true));
        }
        s.ack(PUBREC, first.id);
        assert_eq!(s.expect_ack(PUBREL, first.id), 0);
        s.ack(PUBCOMP, first.id);
        s.expect_nothing_for(ms(10));
        s.disconnect_with(0, &[prop::session_expiry(0)]);
    }
}

#[test]
fn mqtt_4_3_3_9_after_a_refusal_the_identifier_is_a_new_message() {
    let broker = Broker::start();
    let mut s = broker.v5("s");
    s.subscribe("t", 2);
    for connect in [Connect::v5("p"), Connect::v5("p").persistent()] {
        let mut p = connect.open(&broker);
        p.send_publish(Publish::new("t", [0xff]).qos(2).id(5).prop(prop::payload_format(1)));
        assert_eq!(p.expect_ack(PUBREC, 5), 0x99);
        p.send_publish(Publish::new("t", "good").qos(2).id(5).dup());
        assert_eq!(p.expect_ack(PUBREC, 5), 0);
        p.ack(PUBREL, 5);
        assert_eq!(p.expect_ack(PUBCOMP, 5), 0);
        s.expect_payload("good");
        s.expect_nothing_for(ms(10));
    }
}

#[test]
fn mqtt_4_3_3_13_an_expired_message_does_not_break_its_exchange() {
    let broker = Broker::start();
    let away = Connect::v5("away").persistent();
    let mut s = away.open(&broker);
    s.subscribe("t", 2);
    s.disconnect();
    let mut p = Connect::v5("p").persistent().open(&broker);
    p.send_publish(Publish::new("t", "short").qos(2).id(9).prop(prop::message_expiry(1)));
    assert_eq!(p.expect_ack(PUBREC, 9), 0);
    std::thread::sleep(ms(2200));
    p.send_publish(Publish::new("t", "short").qos(2).id(9).dup().prop(prop::message_expiry(1)));
    assert!(p.expect_ack(PUBREC, 9) < 0x80);
    p.ack(PUBREL, 9);
    assert_eq!(p.expect_ack(PUBCOMP, 9), 0);
    away.open(&broker).expect_nothing();
}

#[test]
fn mqtt_4_4_0_1_nothing_is_sent_again_on_a_connection_that_lives() {
    let broker = Broker::start();
    std::thread::scope(|scope| {
        for version in VERSIONS {
            let broker = &broker;
            scope.spawn(move || {
                let topic = format!("t/{version}");
                let mut s = Connect::of(version, &format!("s{version}")).persistent().manual().open(broker);
                s.subscribe(&topic, 2);
                let mut p = broker.client(version, &format!("p{version}"));
                p.publish(&topic, "one", 1);
                p.publish(&topic, "two", 2);
                p.publish(&topic, "three", 2);
                s.expect_payload("one");
                s.expect_payload("two");
                let three = s.expect_payload("three");
                s.ack(PUBREC, three.id);
                assert_eq!(s.expect_ack(PUBREL, three.id), 0);
                s.expect_nothing_for(secs(5));
            });
        }
    });
}

#[test]
fn mqtt_4_4_0_2_what_the_client_refused_is_not_sent_again() {
    let mut broker = Broker::start();
    let connect = Connect::v5("s").persistent().manual();
    let mut s = connect.open(&broker);
    s.subscribe("t", 2);
    let mut p = broker.v311("p");
    for (qos, first) in [(1, 0x40), (2, 0x50)] {
        p.publish("t", "unwanted", qos);
        let m = s.expect_payload("unwanted");
        s.send(&packet(first, &[(m.id >> 8) as u8, m.id as u8, 0x83]));
    }
    s.expect_nothing();
    s.rst();
    let mut s = connect.open(&broker);
    assert!(s.resumed());
    s.expect_nothing();
    broker.crash();
    let mut s = connect.open(&broker);
    assert!(s.resumed());
    s.expect_nothing();
}

#[test]
fn mqtt_4_6_0_2_acknowledgements_come_in_the_order_of_what_they_acknowledge() {
    let broker = Broker::start();
    // One subscriber whose queue must be durable, one topic without any: what waits must not be overtaken.
    let mut durable = Connect::v311("durable").persistent().open(&broker);
    durable.subscribe("kept", 2);
    durable.disconnect();
    for version in VERSIONS {
        let mut p = broker.client(version, "p");
        let ids: [u16; 6] = [900, 3, 77, 2, 65_535, 1];
        let topic = |n: usize| if n.is_multiple_of(2) { "kept" } else { "nobody" };
        for qos in 1..=2 {
            let messages = ids.iter().enumerate().map(|(n, id)| Publish::new(topic(n), "x").qos(qos).id(*id));
            let bytes: Vec<u8> = messages.flat_map(|m| m.encode(version)).collect();
            p.send(&bytes);
            let kind = if qos == 1 { PUBACK } else { PUBREC };
            ids.iter().for_each(|id| assert!(p.expect_ack(kind, *id) < 0x80));
        }
        ids.iter().rev().for_each(|id| p.ack(PUBREL, *id));
        ids.iter().rev().for_each(|id| assert_eq!(p.expect_ack(PUBCOMP, *id), 0));
    }
}

#[test]
fn mqtt_4_6_0_1_what_is_sent_again_keeps_its_order() {
    let mut broker = Broker::start();
    for version in VERSIONS {
        let connect = Connect::of(version, "s").persistent().manual();
        let mut s = connect.open(&broker);
        s.subscribe("t", 2);
        let mut p = broker.v311("p");
        let mut sent = Vec::new();
        for n in 0..12u8 {
            p.publish("t", n.to_string(), 1 + n % 2);
            sent.push(s.expect_payload(n.to_string()).id);
        }
        // PUBRELs in the order of the PUBRECs [MQTT-4.6.0-4].
        let received = [sent[7], sent[1], sent[5]];
        received.iter().for_each(|id| s.ack(PUBREC, *id));
        received.iter().for_each(|id| assert_eq!(s.expect_ack(PUBREL, *id), 0));
        for crash in [false, true] {
            if crash {
                broker.crash();
            } else {
                s.rst();
            }
            s = connect.open(&broker);
            assert!(s.resumed());
            let (mut publishes, mut releases) = (Vec::new(), Vec::new());
            for _ in 0..12 {
                match s.recv() {
                    Packet::Publish(m) => {
                        assert!(m.dup);
                        publishes.push(m.id);
                    }
                    Packet::Ack { kind: PUBREL, id, .. } => releases.push(id),
                    other => panic!("{other:?}"),
                }
            }
            let expected: Vec<u16> = sent.iter().copied().filter(|id| !received.contains(id)).collect();
            assert_eq!(publishes, expected, "version {version}");
            releases.sort_unstable();
            let mut expected = received.to_vec();
            expected.sort_unstable();
            assert_eq!(releases, expected);
            assert_eq!(s.read_packet(ms(50)), Read::Timeout);
        }
        drop(s);
        Connect::of(version, "s").open(&broker).disconnect();
        assert!(version <= V5);
    }
}
