//! PUBLISH in both directions: QoS, payloads, order.

use crate::support::wire::{PUBACK, PUBCOMP, PUBREC, PUBREL};
use crate::support::{Broker, Client, Connect, Packet, Publish, V5, VERSIONS, ms};

#[test]
fn every_version_and_qos_reaches_every_version_and_qos() {
    let broker = Broker::start();
    for from in VERSIONS {
        for to in VERSIONS {
            let mut p = broker.client(from, "p");
            let mut s = broker.client(to, "s");
            for published in 0..=2 {
                for subscribed in 0..=2 {
                    assert_eq!(s.subscribe("a/b", subscribed), subscribed);
                    let text = format!("{from}{to}{published}{subscribed}");
                    assert_eq!(p.publish("a/b", &text, published), 0);
                    let m = s.expect_payload(&text);
                    assert_eq!(m.qos, published.min(subscribed), "[MQTT-3.8.4-8]");
                    assert_eq!((m.topic.as_str(), m.dup, m.retain), ("a/b", false, false));
                    assert!(m.props.is_empty());
                }
            }
            s.expect_nothing_for(ms(10));
        }
    }
}

#[test]
fn no_matching_subscriber_is_told_to_v5_only() {
    let broker = Broker::start();
    let mut p = broker.v5("p");
    assert_eq!(p.publish("nobody", "x", 1), 0x10);
    assert_eq!(p.publish("nobody", "x", 2), 0x10);
    let mut old = broker.v311("old");
    assert_eq!(old.publish("nobody", "x", 1), 0);
    assert_eq!(old.publish("nobody", "x", 2), 0);
}

#[test]
fn payloads_of_every_size_arrive_whole() {
    let broker = Broker::start();
    for version in VERSIONS {
        let mut s = broker.client(version, "s");
        s.subscribe("t", 2);
        let mut p = broker.client(version, "p");
        for (n, size) in
            [0, 1, 100, 121, 127, 128, 16_370, 16_384, 70_000, 1_000_000, 3_000_000].into_iter().enumerate()
        {
            let payload: Vec<u8> = (0..size).map(|i| (i * 7 + n) as u8).collect();
            for qos in 0..=2 {
                p.publish("t", &payload, qos);
                assert!(s.expect_publish().payload == payload, "{size} bytes at QoS {qos}");
            }
        }
    }
}

#[test]
fn packets_may_come_in_any_pieces() {
    let broker = Broker::start();
    for version in VERSIONS {
        let mut s = broker.client(version, "s");
        s.subscribe("t", 1);
        let mut bytes = Connect::of(version, "p").encode();
        for n in 0..5 {
            bytes.extend(Publish::new("t", n.to_string()).qos(1).id(n + 1).encode(version));
        }
        for piece in [1, 2, 3, 7, bytes.len()] {
            let mut p = broker.socket_for(version);
            for part in bytes.chunks(piece) {
                p.send(part);
            }
            p.recv();
            for n in 0..5u16 {
                assert_eq!(p.expect_ack(PUBACK, n + 1), 0);
                s.expect_payload(n.to_string());
            }
            p.disconnect();
        }
    }
}

#[test]
fn order_holds_for_each_qos_under_load() {
    const N: usize = 3000;
    let broker = Broker::start();
    for version in VERSIONS {
        let mut s = broker.client(version, "s");
        s.subscribe("t/#", 2);
        let mut p = Connect::of(version, "p").open(&broker);
        let mut next = [0; 3];
        for batch in 0..N / 100 {
            for n in 0..100 {
                let n = batch * 100 + n;
                p.send_publish(Publish::new("t/x", format!("{n}")).qos((n % 3) as u8));
            }
            finish_flows(&mut p, (batch * 100..batch * 100 + 100).filter(|n| n % 3 > 0).count());
        }
        for _ in 0..N {
            let m = s.expect_publish();
            let n: usize = m.text().parse().unwrap();
            assert_eq!(usize::from(m.qos), n % 3);
            assert!(n >= next[n % 3], "{n} after {} at QoS {}", next[n % 3], n % 3);
            next[n % 3] = n + 3;
        }
        assert_eq!(next.iter().max(), Some(&(N + 2)));
    }
}

/// Completes these exchanges of QoS 1 and 2.
fn finish_flows(p: &mut Client, mut open: usize) {
    while open > 0 {
        match p.recv() {
            Packet::Ack { kind: PUBACK | PUBCOMP, .. } => open -= 1,
            Packet::Ack { kind: PUBREC, id, .. } => p.ack(PUBREL, id),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn qos2_is_delivered_at_the_publish_or_the_pubrel_but_once() {
    let broker = Broker::start();
    for version in VERSIONS {
        let mut s = broker.client(version, "s");
        s.subscribe("t", 0);
        let mut p = broker.client(version, "p");
        for id in [1, 65_535] {
            p.send_publish(Publish::new("t", "x").qos(2).id(id));
            assert!(p.expect_ack(PUBREC, id) < 0x80);
            p.send_publish(Publish::new("t", "x").qos(2).id(id).dup());
            assert!(p.expect_ack(PUBREC, id) < 0x80);
            p.ack(PUBREL, id);
            assert_eq!(p.expect_ack(PUBCOMP, id), 0);
            // A PUBREL again is answered again; v5 may say that it knows no such identifier.
            p.ack(PUBREL, id);
            let code = p.expect_ack(PUBCOMP, id);
            assert!(code == 0 || version == V5 && code == 0x92);
            s.expect_payload("x");
            // The identifier is free: the same bytes are a new message now.
            p.send_publish(Publish::new("t", "y").qos(2).id(id));
            assert!(p.expect_ack(PUBREC, id) < 0x80);
            p.ack(PUBREL, id);
            assert_eq!(p.expect_ack(PUBCOMP, id), 0);
            s.expect_payload("y");
            s.expect_nothing_for(ms(20));
        }
    }
}

#[test]
fn a_publisher_hears_its_own_message() {
    let broker = Broker::start();
    for version in VERSIONS {
        let mut c = broker.client(version, "c");
        c.subscribe("t", 2);
        for qos in 0..=2 {
            c.publish("t", "self", qos);
            assert_eq!(c.expect_payload("self").qos, qos);
        }
        c.expect_nothing_for(ms(20));
    }
}

#[test]
fn the_highest_qos_may_be_lowered_by_a_setting() {
    let broker = Broker::with(&["mqtt.max_qos=1"]);
    let mut p = broker.v5("p");
    assert_eq!(crate::support::wire::number(&p.connack, crate::support::prop::MAXIMUM_QOS), Some(1));
    p.send_publish(Publish::new("t", "x").qos(2).id(1));
    p.expect_disconnect(&[0x9b]);
    let mut s = broker.v5("s");
    assert_eq!(s.subscribe("t", 2), 1);
    broker.v5("p").publish("t", "x", 1);
    assert_eq!(s.expect_payload("x").qos, 1);
}
