//! Flow control: Receive Maximum and packet size in both directions, aliases out, and windows that are full.

use crate::support::wire::{self, PUBACK, PUBREC};
use crate::support::{Broker, Connect, Publish, VERSIONS, ms, prop};

#[test]
fn no_message_is_lost_because_a_window_was_full() {
    const N: usize = 500;
    let broker = Broker::with(&["session.max_inflight=10"]);
    for version in VERSIONS {
        for persistent in [false, true] {
            let mut connect = Connect::of(version, "s").manual();
            if persistent {
                connect = connect.persistent();
            }
            let mut s = connect.open(&broker);
            s.subscribe("t", 1);
            let mut p = broker.client(version, "p");
            for n in 0..N {
                p.publish("t", n.to_string(), 1);
            }
            let mut ids: Vec<u16> = (0..10).map(|n| s.expect_payload(n.to_string()).id).collect();
            s.expect_nothing();
            for n in 10..N {
                s.ack(PUBACK, ids.remove(0));
                ids.push(s.expect_payload(n.to_string()).id);
            }
            for id in ids {
                s.ack(PUBACK, id);
            }
            s.expect_nothing_for(ms(20));
            s.disconnect();
            Connect::of(version, "s").open(&broker).disconnect();
        }
    }
}

#[test]
fn the_clients_receive_maximum_counts_qos1_and_qos2_together_and_qos0_not() {
    let broker = Broker::start();
    let mut s = Connect::v5("s").receive_maximum(3).manual().open(&broker);
    s.subscribe("t", 2);
    let mut p = broker.v5("p");
    for (n, qos) in [1, 2, 1, 2, 1].into_iter().enumerate() {
        p.publish("t", n.to_string(), qos);
    }
    let m: Vec<Publish> = (0..3).map(|n| s.expect_payload(n.to_string())).collect();
    s.expect_nothing();
    p.publish("t", "zero", 0);
    s.expect_payload("zero");
    s.ack(PUBACK, m[0].id);
    let next = s.expect_payload("3");
    // A PUBREC with an error ends the exchange and gives the quota back [MQTT-4.9.0-2].
    let mut refusal = m[1].id.to_be_bytes().to_vec();
    refusal.extend([0x80, 0]);
    s.send(&wire::packet(0x50, &refusal));
    s.expect_payload("4");
    s.ack(PUBREC, next.id);
    assert_eq!(s.expect_ack(wire::PUBREL, next.id), 0);
    s.expect_nothing();
}

#[test]
fn receive_maximum_zero_and_packet_size_zero_are_protocol_errors() {
    let broker = Broker::start();
    for p in [prop::receive_maximum(0), prop::maximum_packet_size(0)] {
        let mut c = Connect::v5("c").prop(p).send_to(&broker);
        match c.expect_closed().as_slice() {
            [] | [crate::support::Packet::Connack { code: 0x82, .. }] => {}
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn the_brokers_own_packet_size_is_announced_and_kept() {
    let broker = Broker::with(&["mqtt.max_packet_size=2000"]);
    let mut s = broker.v311("s");
    s.subscribe("t", 0);
    let mut p = broker.v5("p");
    assert_eq!(wire::number(&p.connack, prop::MAXIMUM_PACKET_SIZE), Some(2000));
    // Fixed header 3, topic 3, properties 1.
    p.publish("t", "x".repeat(2000 - 7), 0);
    assert_eq!(s.expect_publish().payload.len(), 1993);
    p.send_publish(Publish::new("t", "x".repeat(2000 - 6)));
    p.expect_disconnect(&[0x95]);
    let mut old = broker.v311("old");
    old.send_publish(Publish::new("t", "x".repeat(2000)));
    assert_eq!(old.expect_closed(), []);
    s.expect_nothing();
}

#[test]
fn a_message_too_large_for_one_receiver_reaches_the_others() {
    let mut broker = Broker::start();
    let small = Connect::v5("small").persistent().prop(prop::maximum_packet_size(50));
    let mut s = small.open(&broker);
    s.subscribe("t", 1);
    let mut big = broker.v5("big");
    big.subscribe("t", 1);
    let mut p = broker.v5("p");
    p.publish("t", "x".repeat(100), 1);
    p.publish("t", "fits", 1);
    assert_eq!(big.expect_publish().payload.len(), 100);
    big.expect_payload("fits");
    s.expect_payload("fits");
    s.expect_nothing();
    // From a queue and as a retained message too; it counts as completed, not as waiting [MQTT-3.1.2-25].
    s.disconnect();
    p.retain("t", "y".repeat(100), 1);
    p.publish("t", "fits again", 1);
    broker.crash();
    let mut s = small.open(&broker);
    s.expect_payload("fits again");
    s.subscribe("t", 1);
    s.expect_nothing();
}

#[test]
fn aliases_to_a_client_stay_within_its_maximum() {
    let broker = Broker::start();
    let mut s = Connect::v5("s").prop(prop::topic_alias_maximum(2)).open(&broker);
    s.subscribe("#", 1);
    let mut p = broker.v5("p");
    let mut known: [Option<String>; 3] = Default::default();
    let mut used = 0;
    for round in 0..30 {
        let topic = ["long/topic/name/one", "long/topic/name/two", "long/topic/name/three"][round % 3 * round % 3];
        p.publish(topic, "x", (round % 2) as u8);
        let m = s.expect_payload("x");
        match m.number(prop::TOPIC_ALIAS) {
            None => assert_eq!(m.topic, topic),
            Some(alias) => {
                assert!((1..=2).contains(&alias), "alias {alias}");
                let slot = &mut known[alias as usize];
                if m.topic.is_empty() {
                    used += 1;
                    assert_eq!(slot.as_deref(), Some(topic));
                } else {
                    assert_eq!(m.topic, topic);
                    *slot = Some(m.topic);
                }
            }
        }
    }
    assert!(used > 0, "a client that allows aliases is sent some");
    // Who allows none gets none.
    let mut plain = broker.v5("plain");
    plain.subscribe("#", 1);
    for _ in 0..5 {
        p.publish("long/topic/name/one", "x", 1);
        let m = plain.expect_payload("x");
        assert_eq!((m.topic.as_str(), m.number(prop::TOPIC_ALIAS)), ("long/topic/name/one", None));
    }
}

#[test]
fn an_alias_is_a_matter_of_one_connection_only() {
    let broker = Broker::start();
    let mut s = Connect::v5("s").persistent().prop(prop::topic_alias_maximum(5)).open(&broker);
    s.subscribe("t", 1);
    let mut p = broker.v5("p");
    for n in 0..3 {
        let topic = if n == 0 { "t" } else { "" };
        p.publish_as(Publish::new(topic, n.to_string()).qos(1).prop(prop::topic_alias(1)));
        s.expect_payload(n.to_string());
    }
    s.rst();
    p.publish("t", "later", 1);
    let mut s = Connect::v5("s").persistent().prop(prop::topic_alias_maximum(5)).open(&broker);
    assert!(s.session_present);
    assert_eq!(s.expect_payload("later").topic, "t", "no alias is known yet on this connection");
}
