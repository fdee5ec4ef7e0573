//! F32 to F37: Receive Maximum, packet size, topic aliases.

use super::plain;
use crate::support::wire::{PUBACK, PUBCOMP, PUBREC, PUBREL};
use crate::support::{Broker, Client, Connect, Packet, Publish, Read, V5, hex, ms, prop};

#[test]
fn f32_beyond_the_servers_receive_maximum_is_a_disconnect_0x93() {
    let broker = Broker::with(&["mqtt.receive_maximum=1"]);
    let mut watcher = broker.v311("watcher");
    watcher.subscribe("t", 0);
    let mut p = broker.v5("p");
    assert_eq!(crate::support::wire::number(&p.connack, prop::RECEIVE_MAXIMUM), Some(1));
    p.send_publish(Publish::new("t", "x").qos(2).id(1));
    assert!(p.expect_ack(PUBREC, 1) < 0x80);
    // The quota is 0, yet QoS 0 and PINGREQ are always taken [MQTT-4.9.0-3].
    p.publish("t", "free", 0);
    p.ping();
    watcher.expect_payload("x");
    watcher.expect_payload("free");
    p.send_publish(Publish::new("t", "y").qos(2).id(2));
    p.expect_disconnect(&[0x93]);
    watcher.expect_nothing();

    // A repeat takes no further quota.
    let mut p = broker.v5("p");
    p.send_publish(Publish::new("t", "x").qos(2).id(1));
    assert!(p.expect_ack(PUBREC, 1) < 0x80);
    p.send_publish(Publish::new("t", "x").qos(2).id(1).dup());
    assert!(p.expect_ack(PUBREC, 1) < 0x80);
    p.ack(PUBREL, 1);
    assert_eq!(p.expect_ack(PUBCOMP, 1), 0);
    watcher.expect_payload("x");
    p.publish("t", "next", 2);
    watcher.expect_payload("next");
}

/// Takes what is there without acknowledging, and checks that no more comes.
fn take(client: &mut Client, n: usize) -> Vec<Publish> {
    let got: Vec<Publish> = (0..n).map(|_| client.expect_publish()).collect();
    client.expect_nothing();
    got
}

#[test]
fn f33_the_send_quota_belongs_to_the_connection() {
    let broker = Broker::start();
    let connect = |n| Connect::v5("s").clean(false).expiry(300).receive_maximum(n).manual();
    let mut s = connect(1).open(&broker);
    s.subscribe("t", 1);
    let mut p = broker.v311("p");
    p.publish("t", "m0", 1);
    s.expect_payload("m0");
    s.rst();
    for n in 1..=4 {
        p.publish("t", format!("m{n}"), 1);
    }
    let mut s = connect(4).open(&broker);
    assert!(s.session_present);
    let first = take(&mut s, 4);
    for (n, m) in first.iter().enumerate() {
        assert_eq!((m.text(), m.dup), (format!("m{n}"), n == 0));
        s.ack(PUBACK, m.id);
    }
    let last = s.expect_payload("m4");
    s.ack(PUBACK, last.id);
    s.expect_nothing();
}

#[test]
fn f34_maximum_packet_size_counts_the_whole_packet() {
    let broker = Broker::start();
    let mut p = broker.v5("p");
    let user = || prop::user("k", "v");
    for qos in 0..=2u8 {
        for (with_user, subscription_id) in [(false, None), (true, None), (false, Some(5)), (true, Some(300))] {
            let mut s = Connect::v5("s").prop(prop::maximum_packet_size(99)).open(&broker);
            let ids: Vec<_> = subscription_id.map(prop::subscription_id).into_iter().collect();
            s.subscribe_many(&[("a", qos)], &ids);
            // Fixed header 2, topic 3, property length 1, and what the variant adds.
            let id_bytes = match subscription_id {
                None => 0,
                Some(n) if n < 128 => 2,
                Some(_) => 3,
            };
            let overhead = 6 + if qos > 0 { 2 } else { 0 } + if with_user { 7 } else { 0 } + id_bytes;
            for (size, fits) in [(99 - overhead, true), (100 - overhead, false), (10, true)] {
                let mut m = Publish::new("a", "x".repeat(size)).qos(qos);
                if with_user {
                    m = m.prop(user());
                }
                assert!(p.publish_as(m) < 0x80);
                if fits {
                    let got = s.expect_publish();
                    assert_eq!(got.payload.len(), size, "QoS {qos}, {with_user}, {subscription_id:?}");
                    assert!(got.encode(V5).len() <= 99);
                }
            }
            s.expect_nothing_for(ms(20));
            s.disconnect();
        }
    }
}

#[test]
fn f35_a_smaller_window_than_what_is_in_flight() {
    let broker = Broker::start();
    let connect = |n| Connect::v5("s").clean(false).expiry(300).receive_maximum(n).manual();
    let mut s = connect(10).open(&broker);
    s.subscribe("t", 2);
    let mut p = broker.v311("p");
    for n in 0..10 {
        p.publish("t", n.to_string(), 2);
    }
    take(&mut s, 10);
    s.rst();
    let mut s = connect(3).open(&broker);
    assert!(s.session_present);
    let mut outstanding = take(&mut s, 3);
    for (n, m) in outstanding.iter().enumerate() {
        assert_eq!((m.text(), m.dup), (n.to_string(), true));
    }
    // PUBREC gives nothing back; PUBREL needs no quota; PUBCOMP gives one back [MQTT-4.9.0-2].
    let first = outstanding.remove(0);
    s.ack(PUBREC, first.id);
    assert_eq!(s.expect_ack(PUBREL, first.id), 0);
    s.expect_nothing();
    s.ack(PUBCOMP, first.id);
    outstanding.push(s.expect_payload("3"));
    s.expect_nothing();
    for n in 10..15 {
        p.publish("t", n.to_string(), 2);
    }
    s.expect_nothing();
    let mut next = 1;
    while next < 15 {
        let m = outstanding.remove(0);
        assert_eq!(m.text(), next.to_string());
        next += 1;
        s.ack(PUBREC, m.id);
        assert_eq!(s.expect_ack(PUBREL, m.id), 0);
        s.ack(PUBCOMP, m.id);
        if next + 2 < 15 {
            outstanding.push(s.expect_publish());
        }
        assert!(outstanding.len() <= 3);
    }
    s.expect_nothing();
}

#[test]
fn f36_an_alias_that_was_never_set_is_a_protocol_error() {
    let broker = Broker::start();
    let mut watcher = broker.v311("watcher");
    watcher.subscribe("#", 0);
    let mut p = plain(&broker, V5);
    p.send_hex("300700000323000378");
    p.expect_disconnect(&[0x82]);
    let mut p = plain(&broker, V5);
    p.send(&hex("30080001740323000378"));
    p.send(&hex("300700000323000378"));
    for _ in 0..2 {
        assert_eq!(watcher.expect_payload("x").topic, "t");
    }
    // An alias ends with its connection.
    p.rst();
    let mut p = plain(&broker, V5);
    p.send_hex("300700000323000378");
    p.expect_disconnect(&[0x82]);
    watcher.expect_nothing();
}

#[test]
fn f37_an_alias_above_the_maximum_is_invalid() {
    let with_alias =
        |topic: &str, alias: u16, payload: &str| Publish::new(topic, payload).prop(prop::topic_alias(alias));
    let broker = Broker::with(&["mqtt.topic_alias_maximum=2"]);
    let mut watcher = broker.v311("watcher");
    watcher.subscribe("#", 0);
    for alias in [3, 0, 65_535] {
        let mut p = broker.v5("p");
        assert_eq!(crate::support::wire::number(&p.connack, prop::TOPIC_ALIAS_MAXIMUM), Some(2));
        p.send_publish(with_alias("t", alias, "x"));
        p.expect_disconnect(&[0x94]);
    }
    let mut p = broker.v5("p");
    p.send_publish(with_alias("a", 2, "1"));
    p.send_publish(with_alias("b", 2, "2"));
    p.send_publish(with_alias("", 2, "3"));
    for (topic, payload) in [("a", "1"), ("b", "2"), ("b", "3")] {
        assert_eq!(watcher.expect_payload(payload).topic, topic);
    }

    let broker = Broker::with(&["mqtt.topic_alias_maximum=0"]);
    let mut p = broker.v5("p");
    assert_eq!(crate::support::wire::number(&p.connack, prop::TOPIC_ALIAS_MAXIMUM).unwrap_or(0), 0);
    p.send_publish(with_alias("t", 1, "x"));
    p.expect_disconnect(&[0x94]);
    watcher.expect_nothing();
}

#[test]
fn f35_a_window_of_one_in_every_resume() {
    let broker = Broker::start();
    let connect = Connect::v5("s").clean(false).expiry(300).receive_maximum(1).manual();
    let mut s = connect.open(&broker);
    s.subscribe("t", 2);
    let mut p = broker.v311("p");
    for n in 0..5 {
        p.publish("t", n.to_string(), 2);
    }
    for n in 0..5 {
        let m = s.expect_payload(n.to_string());
        s.ack(PUBREC, m.id);
        s.expect_ack(PUBREL, m.id);
        s.rst();
        s = connect.open(&broker);
        assert_eq!(s.recv(), Packet::Ack { kind: PUBREL, id: m.id, code: 0, props: vec![] });
        s.ack(PUBCOMP, m.id);
    }
    assert_eq!(s.read_packet(ms(100)), Read::Timeout);
}
