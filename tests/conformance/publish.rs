//! Sections 3.3 to 3.7: PUBLISH and its acknowledgements.

use crate::raw::Raw;
use crate::support::wire::{PUBACK, PUBCOMP, PUBREC, PUBREL, V5, packet, prop, properties};
use crate::support::{Broker, Connect, Packet, Publish, VERSIONS, ms};

#[test]
fn mqtt_3_3_1_5_a_retained_message_replaces_the_one_before_whatever_their_qos() {
    let broker = Broker::start();
    let mut p = broker.v311("p");
    for first in 0..=2 {
        for second in 0..=2 {
            p.retain("t", "first", first);
            p.retain("t", "second", second);
            p.publish("t", "not retained", 2);
            p.ping();
            let mut s = broker.v5("s");
            s.subscribe("t", 2);
            assert_eq!(s.expect_payload("second").qos, second);
            s.expect_nothing_for(ms(10));
        }
    }
}

#[test]
fn mqtt_3_3_2_12_every_alias_up_to_the_maximum_is_taken() {
    let broker = Broker::with(&["mqtt.topic_alias_maximum=20"]);
    let mut s = broker.v311("s");
    s.subscribe("t/#", 1);
    let mut p = broker.v5("p");
    for alias in 1..=20 {
        p.publish_as(Publish::new(&format!("t/{alias}"), "set").qos(1).prop(prop::topic_alias(alias)));
        assert_eq!(s.expect_payload("set").topic, format!("t/{alias}"));
    }
    for alias in (1..=20).rev() {
        p.publish_as(Publish::new("", "used").qos(1).prop(prop::topic_alias(alias)));
        assert_eq!(s.expect_payload("used").topic, format!("t/{alias}"));
    }
}

#[test]
fn mqtt_3_3_4_6_no_subscription_identifier_from_a_client() {
    let broker = Broker::start();
    let mut w = broker.v5("w");
    w.subscribe("#", 2);
    for qos in 0..=2 {
        let mut c = broker.v5("c");
        c.send_publish(Publish::new("t", "x").qos(qos).prop(prop::subscription_id(7)));
        c.expect_disconnect(&[0x82]);
    }
    w.expect_nothing();
}

#[test]
fn mqtt_3_3_4_10_a_full_window_holds_up_nothing_but_publish() {
    let broker = Broker::start();
    let mut c = Connect::v5("c").receive_maximum(1).manual().open(&broker);
    c.subscribe("t", 2);
    let mut p = broker.v311("p");
    p.publish("t", "first", 2);
    p.publish("t", "second", 1);
    let m = c.expect_payload("first");
    c.expect_nothing_for(ms(50));
    assert_eq!(c.subscribe("u", 1), 1);
    assert_eq!(c.unsubscribe("u"), 0);
    assert_eq!(c.publish("u", "x", 1), 0x10);
    assert_eq!(c.publish("u", "x", 2), 0x10);
    c.ack(PUBREC, m.id);
    assert_eq!(c.expect_ack(PUBREL, m.id), 0);
    c.ping();
    c.ack(PUBCOMP, m.id);
    c.expect_payload("second");
}

#[test]
fn mqtt_v311_3_3_5_2_a_publish_that_is_not_allowed_is_acknowledged_or_ends_the_connection() {
    let broker = Broker::start();
    let mut w = broker.v311("w");
    w.subscribe("$SYS/forged", 2);
    for version in VERSIONS {
        for qos in 1..=2 {
            let mut c = broker.client(version, "c");
            let code = c.publish("$SYS/forged", "x", qos);
            assert_eq!(code, if version == V5 { 0x87 } else { 0 });
            c.ping();
        }
    }
    w.expect_nothing();
}

#[test]
fn mqtt_3_4_2_1_every_answer_uses_a_code_of_its_own_table() {
    const PUB: [u8; 9] = [0, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99];
    let broker = Broker::with(&["session.queue_messages=2", "session.queue_overflow=refuse"]);
    Connect::v5("full").persistent().open(&broker).subscribe("full", 2);
    let mut c = broker.v5("c");
    c.subscribe("t", 2);
    let wrong = |m: Publish| m.prop(prop::payload_format(1));
    let publishes = [
        Publish::new("t", "x"),
        Publish::new("none", "x"),
        Publish::new("$SYS/x", "x"),
        wrong(Publish::new("t", "\0")),
    ]
    .into_iter()
    .chain([wrong(Publish::new("t", [0xff]))])
    .chain((0..4).map(|_| Publish::new("full", "x")));
    for message in publishes {
        for qos in 1..=2 {
            let code = c.publish_as(message.clone().qos(qos));
            assert!(PUB.contains(&code), "{code:#x} at QoS {qos} for {message:?}");
        }
    }
    while let crate::support::Read::Packet(Packet::Publish(_)) = c.read_packet(ms(50)) {}
    c.auto_ack = false;
    // PUBREL for an unknown identifier, and PUBREC for one: PUBCOMP and PUBREL know two codes.
    c.ack(PUBREL, 999);
    assert!(matches!(c.expect_ack(PUBCOMP, 999), 0 | 0x92));
    c.ack(PUBREC, 999);
    assert!(matches!(c.expect_ack(PUBREL, 999), 0 | 0x92));
    let filters = ["t", "$share/g", "$share/g/t", "a#", "$SYS/#", "$share/+/t"];
    let filters: Vec<(&str, u8)> = filters.into_iter().zip([0, 1, 2].into_iter().cycle()).collect();
    for code in c.subscribe_many(&filters, &[]) {
        assert!([0, 1, 2, 0x80, 0x83, 0x87, 0x8f, 0x91, 0x97, 0x9e, 0xa1, 0xa2].contains(&code), "{code:#x}");
    }
    for (filter, _) in &filters {
        let code = c.unsubscribe(filter);
        assert!([0, 0x11, 0x80, 0x83, 0x87, 0x8f, 0x91].contains(&code), "{code:#x}");
    }
    let mut old = broker.v311("old");
    for code in old.subscribe_many(&filters[1..6], &[]) {
        assert!([0, 1, 2, 0x80].contains(&code), "{code:#x} [MQTT-3.9.3-2 of 3.1.1]");
    }
}

#[test]
fn mqtt_3_4_2_2_no_answer_outgrows_what_the_client_takes() {
    const MAXIMUM: usize = 32;
    let broker = Broker::start();
    let mut c = Raw::open(&broker, &Connect::v5("c").prop(prop::maximum_packet_size(MAXIMUM as u32)));
    let mut seen = c.packets();
    let refused = |qos| Publish::new("$SYS/x", "x").qos(qos).id(1).encode(V5);
    c.send(&refused(1));
    c.send(&refused(2));
    for unknown in [&[0x62, 2, 0, 99][..], &[0x50, 2, 0, 99]] {
        c.send(unknown);
    }
    c.send(&packet(0x82, &[0, 1, 0, 0, 8, b'$', b's', b'h', b'a', b'r', b'e', b'/', b'x', 0]));
    c.send(&packet(0xa2, &[0, 2, 0, 0, 4, b'n', b'o', b'n', b'e']));
    seen.extend(c.packets());
    c.send(&Publish::new("t", "x").prop(prop::subscription_id(1)).encode(V5));
    seen.extend(c.until_closed());
    let mut kinds: Vec<u8> = seen.iter().map(|p| p[0] >> 4).collect();
    kinds.sort_unstable();
    assert_eq!(kinds, [2, 4, 5, 6, 7, 9, 11, 14], "CONNACK, each answer, DISCONNECT");
    for packet in seen {
        assert!(packet.len() <= MAXIMUM, "{packet:x?}");
    }
}

#[test]
fn mqtt_3_4_2_1_a_client_may_explain_every_acknowledgement() {
    let broker = Broker::start();
    let mut c = Connect::v5("c").manual().open(&broker);
    c.subscribe("t", 2);
    let mut p = broker.v311("p");
    for code in [0u8, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99] {
        for (qos, first) in [(1, 0x40), (2, 0x50)] {
            p.publish("t", "x", qos);
            let m = c.expect_payload("x");
            let mut body = m.id.to_be_bytes().to_vec();
            body.push(code);
            body.extend(properties(&[prop::user("k", "v"), prop::user("k", "v")]));
            c.send(&packet(first, &body));
            if qos == 2 && code < 0x80 {
                assert_eq!(c.expect_ack(PUBREL, m.id), 0);
                c.ack(PUBCOMP, m.id);
            }
        }
        c.expect_nothing_for(ms(10));
    }
    // A code of another packet is none [MQTT-3.4.2-1].
    c.send(&packet(PUBACK << 4, &[0, 1, 0x92]));
    c.expect_disconnect(&[0x81, 0x82]);
}
