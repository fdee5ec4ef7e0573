//! Chapters 1 and 2: strings, packet identifiers, property lengths.

use crate::raw::{Raw, connect};
use crate::support::wire::{PUBACK, PUBCOMP, PUBREC, PUBREL, V5, field, packet};
use crate::support::{Broker, Connect, Packet, Publish, VERSIONS, ms};

/// Byte sequences that are no UTF-8 encoded string of MQTT: broken, a surrogate, an overlong form, null.
const NO_STRINGS: [&[u8]; 6] = [b"\xff", b"a\xc3", b"\xed\xa0\x80", b"\xc0\x80", b"\xf4\x90\x80\x80", b"a\0b"];

#[test]
fn mqtt_1_5_4_1_every_string_of_a_packet_is_checked() {
    let broker = Broker::start();
    let mut bystander = broker.v311("bystander");
    for bad in NO_STRINGS.map(field) {
        // PUBLISH: content type, response topic, and both halves of a user property [MQTT-1.5.7-1].
        for (id, value) in [
            (0x03, bad.clone()),
            (0x08, bad.clone()),
            (0x26, [bad.clone(), field(b"v")].concat()),
            (0x26, [field(b"k"), bad.clone()].concat()),
        ] {
            let mut body = field(b"t");
            body.push(1 + value.len() as u8);
            body.push(id);
            body.extend(value);
            let mut c = broker.v5("c");
            c.send(&packet(0x30, &body));
            c.expect_disconnect(&[0x81, 0x82]);
        }
        // The reason string of an acknowledgement and of a DISCONNECT.
        for (first, head) in [(0x40, &[0, 1, 0][..]), (0xe0, &[0])] {
            let mut body = head.to_vec();
            body.push(1 + bad.len() as u8);
            body.push(0x1f);
            body.extend(&bad);
            let mut c = broker.v5("c");
            c.send(&packet(first, &body));
            c.expect_cut(&[0x81, 0x82]);
        }
        for version in VERSIONS {
            let will: &[u8] = if version == V5 { &[0] } else { &[] };
            let id = field(b"c");
            for bytes in [
                connect(version, 2, &[&bad]),
                connect(version, 0x06, &[&id, will, &bad, &field(b"x")]),
                connect(version, 0x82, &[&id, &bad]),
            ] {
                let mut c = broker.socket_for(version);
                c.try_send(&bytes);
                let seen = c.expect_closed();
                assert!(!seen.iter().any(|p| matches!(p, Packet::Connack { code: 0, .. })), "{bytes:x?}: {seen:?}");
            }
        }
    }
    bystander.expect_nothing();
}

#[test]
fn mqtt_1_5_4_3_a_byte_order_mark_is_a_character_like_any_other() {
    let broker = Broker::start();
    for version in VERSIONS {
        let mut s = broker.client(version, "s");
        s.subscribe("\u{feff}a/\u{feff}", 1);
        let mut p = broker.client(version, "p");
        p.publish("a/\u{feff}", "one is missing", 1);
        p.publish("\u{feff}a/", "the other is", 1);
        p.publish("\u{feff}a/\u{feff}", "both are there", 1);
        assert_eq!(s.expect_payload("both are there").topic, "\u{feff}a/\u{feff}");
        s.expect_nothing_for(ms(10));
        // Also in a client identifier: these are two clients.
        let (mut plain, mut marked) = (broker.client(version, "c"), broker.client(version, "\u{feff}c"));
        plain.ping();
        marked.ping();
    }
}

#[test]
fn mqtt_2_2_1_5_answers_carry_the_identifier_of_what_they_answer() {
    let broker = Broker::start();
    for version in VERSIONS {
        let mut c = broker.client(version, "c");
        let none: &[u8] = if version == V5 { &[0] } else { &[] };
        for id in [1u16, 255, 256, 65_535] {
            let bytes = id.to_be_bytes();
            c.send(&packet(0x82, &[&bytes, none, &field(b"t"), &[0]].concat()));
            assert!(matches!(c.recv(), Packet::Suback { id: i, codes, .. } if i == id && codes == [0]));
            // Even where nothing is left to unsubscribe from [MQTT-3.10.4-5].
            for _ in 0..2 {
                c.send(&packet(0xa2, &[&bytes, none, &field(b"t")].concat()));
                assert!(matches!(c.recv(), Packet::Unsuback { id: i, .. } if i == id));
            }
            c.send_publish(Publish::new("t", "x").qos(1).id(id));
            assert!(c.expect_ack(PUBACK, id) < 0x80);
            c.send_publish(Publish::new("t", "x").qos(2).id(id));
            assert!(c.expect_ack(PUBREC, id) < 0x80);
            c.ack(PUBREL, id);
            assert_eq!(c.expect_ack(PUBCOMP, id), 0);
        }
    }
}

#[test]
fn mqtt_2_2_2_1_packets_without_properties_say_so() {
    let broker = Broker::start();
    let mut c = Raw::open(&broker, &Connect::v5("c"));
    assert_eq!(c.packets()[0][0], 0x20);
    c.send(&[0x82, 7, 0, 1, 0, 0, 1, b't', 0]);
    assert_eq!(c.packets(), [[0x90, 4, 0, 1, 0, 0]]);
    c.send(&[0x30, 5, 0, 1, b't', 0, b'x']);
    assert_eq!(c.packets(), [[0x30, 5, 0, 1, b't', 0, b'x']]);
    c.send(&[0xa2, 6, 0, 1, 0, 0, 1, b't']);
    assert_eq!(c.packets(), [[0xb0, 4, 0, 1, 0, 0]]);
    // An older client gets no property block.
    let mut c = Raw::open(&broker, &Connect::v311("old"));
    assert_eq!(c.packets(), [[0x20, 2, 0, 0]]);
    c.send(&[0x82, 6, 0, 1, 0, 1, b't', 0]);
    assert_eq!(c.packets(), [[0x90, 3, 0, 1, 0]]);
    c.send(&[0x30, 4, 0, 1, b't', b'x']);
    assert_eq!(c.packets(), [[0x30, 4, 0, 1, b't', b'x']]);
}
