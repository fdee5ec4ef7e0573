//! Sections 3.8 to 3.11: SUBSCRIBE, UNSUBSCRIBE and their answers.

use crate::raw::Raw;
use crate::support::wire::{PUBCOMP, PUBREC, PUBREL, V5, V31, field, packet};
use crate::support::{Broker, Connect, Packet, Publish, Read, VERSIONS, ms, prop};
use std::sync::atomic::{AtomicBool, Ordering};

#[test]
fn mqtt_3_8_4_4_replacing_a_subscription_loses_nothing() {
    const N: usize = 400;
    let broker = Broker::start();
    for version in VERSIONS {
        for persistent in [false, true] {
            let connect = Connect::of(version, "s");
            let mut s = if persistent { connect.persistent() } else { connect }.open(&broker);
            s.subscribe("t", 1);
            let done = AtomicBool::new(false);
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    let mut p = broker.v311("p");
                    (0..N).for_each(|n| _ = p.publish("t", n.to_string(), 1));
                    done.store(true, Ordering::Relaxed);
                });
                let mut qos = 1;
                while !done.load(Ordering::Relaxed) {
                    qos = 3 - qos;
                    assert_eq!(s.subscribe("t", qos), qos);
                }
            });
            for n in 0..N {
                s.expect_payload(n.to_string());
            }
            s.expect_nothing_for(ms(10));
            s.disconnect();
            Connect::of(version, "s").open(&broker).disconnect();
        }
    }
}

#[test]
fn mqtt_3_8_4_5_many_filters_are_as_many_subscribes_with_one_answer() {
    let broker = Broker::start();
    broker.v311("r").retain("t", "kept", 2);
    for version in VERSIONS {
        let mut s = broker.client(version, "s");
        // The same filter three times: each is a new subscription that replaces the one before, and what was to be
        // sent for the one before may be replaced with it.
        assert_eq!(s.subscribe_many(&[("t", 2), ("t", 0), ("t", 1)], &[]), [2, 0, 1]);
        broker.v311("p").publish("t", "live", 2);
        let (mut kept, mut live) = (0, 0);
        while let Read::Packet(Packet::Publish(m)) = s.read_packet(ms(300)) {
            match m.retain {
                true => kept += 1,
                false => {
                    assert_eq!((m.text().as_str(), m.qos), ("live", 1), "the last of them holds");
                    live += 1;
                }
            }
        }
        assert!((1..=3).contains(&kept) && live == 1, "{kept} retained, {live} live");
        // The same with a filter that is refused between two that are granted.
        let codes = s.subscribe_many(&[("u", 1), ("u#", 1), ("t", 0)], &[]);
        assert!(matches!(codes[..], [1, 0x80 | 0x8f, 0]) || version == V31, "{codes:x?}");
    }
}

#[test]
fn mqtt_3_10_4_1_filters_are_compared_character_by_character() {
    let broker = Broker::start();
    for version in VERSIONS {
        let mut s = broker.client(version, "s");
        let mut p = broker.client(version, "p");
        for filter in ["a/+", "é", "a/#"] {
            s.subscribe(filter, 1);
        }
        // Each of them matches, or looks like, what is subscribed to, and is something else.
        for other in ["a/b", "A/+", "a/+/", "/a/+", "e\u{301}", "+/+", "#", "a", "$share/g/a/+"] {
            assert_eq!(s.unsubscribe(other), if version == V5 { 0x11 } else { 0 }, "{other}");
        }
        p.publish("a/b", "still", 1);
        p.publish("é", "there", 1);
        s.expect_payload("still");
        s.expect_payload("there");
        assert_eq!(s.unsubscribe("a/+"), 0);
        p.publish("a/b", "by the other", 1);
        s.expect_payload("by the other");
        assert_eq!(s.unsubscribe("a/#"), 0);
        p.publish("a/b", "no more", 1);
        s.expect_nothing_for(ms(20));
    }
}

#[test]
fn mqtt_3_10_4_3_what_is_under_way_is_completed_after_unsubscribe() {
    let broker = Broker::start();
    for version in VERSIONS {
        for persistent in [false, true] {
            let connect = Connect::of(version, "s").manual();
            let connect = if persistent { connect.persistent() } else { connect };
            let mut s = connect.open(&broker);
            s.subscribe("t", 2);
            let mut p = broker.v311("p");
            p.publish("t", "one", 2);
            p.publish("t", "two", 2);
            let (one, two) = (s.expect_payload("one"), s.expect_payload("two"));
            s.unsubscribe("t");
            p.publish("t", "three", 2);
            s.ack(PUBREC, one.id);
            assert_eq!(s.expect_ack(PUBREL, one.id), 0);
            s.ack(PUBCOMP, one.id);
            s.expect_nothing_for(ms(20));
            if persistent {
                s.rst();
                s = connect.open(&broker);
                assert_eq!(s.expect_payload("two").id, two.id, "started, so it must be completed");
            }
            s.ack(PUBREC, two.id);
            assert_eq!(s.expect_ack(PUBREL, two.id), 0);
            s.ack(PUBCOMP, two.id);
            s.expect_nothing_for(ms(20));
            s.disconnect();
            Connect::of(version, "s").open(&broker).disconnect();
        }
    }
}

#[test]
fn mqtt_3_10_4_6_many_filters_are_as_many_unsubscribes_with_one_answer() {
    let broker = Broker::start();
    for version in VERSIONS {
        let mut s = broker.client(version, "s");
        s.subscribe_many(&[("a", 1), ("b", 1), ("c", 1)], &[]);
        let mut body = vec![0x12, 0x34];
        if version == V5 {
            body.push(0);
        }
        for filter in ["c", "x", "a", "a"] {
            body.extend(field(filter.as_bytes()));
        }
        s.send(&packet(0xa2, &body));
        match s.recv() {
            Packet::Unsuback { id: 0x1234, codes, .. } => {
                let expected: &[u8] = if version == V5 { &[0, 0x11, 0, 0x11] } else { &[] };
                assert_eq!(codes, expected, "in the order of the filters [MQTT-3.11.3-1]");
            }
            other => panic!("{other:?}"),
        }
        let mut p = broker.v311("p");
        for topic in ["a", "b", "c"] {
            p.publish_as(Publish::new(topic, topic).qos(1));
        }
        s.expect_payload("b");
        s.expect_nothing_for(ms(10));
    }
}

#[test]
fn mqtt_3_1_2_24_an_answer_that_is_larger_than_the_client_takes_is_not_sent() {
    const MAXIMUM: usize = 64;
    let broker = Broker::start();
    for first in [0x82, 0xa2] {
        let mut c = Raw::open(&broker, &Connect::v5("c").prop(prop::maximum_packet_size(MAXIMUM as u32)));
        assert_eq!(c.packets().len(), 1);
        let mut body = vec![0, 1, 0];
        for n in 0..100 {
            body.extend(field(format!("a/{n}").as_bytes()));
            if first == 0x82 {
                body.push(1);
            }
        }
        c.send(&packet(first, &body));
        for packet in c.packets() {
            assert!(packet.len() <= MAXIMUM, "{} bytes to one who takes {MAXIMUM}: {packet:x?}", packet.len());
        }
    }
}
