//! Sections 4.1, 4.7 and 4.8: sessions, topics, shared subscriptions.

use crate::support::wire::{PUBCOMP, PUBREC, PUBREL, packet};
use crate::support::{Broker, Connect, VERSIONS, ms};

#[test]
fn mqtt_4_1_0_1_a_session_is_not_discarded_while_its_client_is_connected() {
    let broker = Broker::with(&["session.expiry_v3=1s"]);
    let open = |version| {
        let connect = Connect::of(version, &format!("s{version}")).persistent();
        if version == 5 { connect.expiry(1) } else { connect }
    };
    let mut all = VERSIONS.map(|version| open(version).open(&broker));
    for s in &mut all {
        s.subscribe("t", 1);
    }
    std::thread::sleep(ms(3000));
    broker.v311("p").publish("t", "x", 1);
    for s in &mut all {
        s.expect_payload("x");
        s.ping();
    }
    for (s, version) in all.into_iter().zip(VERSIONS) {
        s.rst();
        assert!(open(version).open(&broker).resumed(), "{version}: its time begins with the end of the connection");
    }
}

#[test]
fn mqtt_4_7_3_3_names_and_filters_may_have_65535_bytes() {
    let broker = Broker::with(&["mqtt.max_topic_length=65535", "mqtt.max_topic_levels=200"]);
    let name = "x".repeat(65_535);
    for version in VERSIONS {
        let mut s = broker.client(version, "s");
        assert_eq!(s.subscribe(&name, 1), 1);
        broker.client(version, "p").publish(&name, "long", 1);
        assert_eq!(s.expect_payload("long").topic.len(), 65_535);
    }
}

#[test]
fn mqtt_4_7_3_4_nothing_is_normalized() {
    let broker = Broker::start();
    let names = [
        "é",
        "e\u{301}",
        "É",
        "a",
        "A",
        "ａ",
        "a/",
        "/a",
        "//a",
        " a",
        "a ",
        "a%2Fb",
        "a/b",
        "a/./b",
        "a/../b",
        "a\\b",
        "ß",
        "ss",
        "\u{212b}",
        "\u{c5}",
        "\u{e000}",
        "\u{10ffff}",
        "*",
        "a/*",
    ];
    for version in VERSIONS {
        let mut p = broker.client(version, "p");
        for filter in names {
            let mut s = broker.client(version, "s");
            s.subscribe(filter, 0);
            for name in names {
                p.publish(name, name, 1);
            }
            let m = s.expect_payload(filter);
            assert_eq!(m.topic, filter);
            s.expect_nothing_for(ms(1));
        }
    }
}

#[test]
fn mqtt_4_8_2_3_each_member_has_its_own_granted_qos() {
    let broker = Broker::start();
    let mut members: Vec<_> = (0..3u8)
        .map(|qos| {
            let mut m = broker.v5(&format!("m{qos}"));
            assert_eq!(m.subscribe("$share/g/t", qos), qos);
            m
        })
        .collect();
    let mut p = broker.v5("p");
    for n in 0..30 {
        p.publish("t", n.to_string(), 2);
    }
    for (qos, member) in members.iter_mut().enumerate() {
        let mut seen = 0;
        while let crate::support::Read::Packet(packet) = member.read_packet(ms(200)) {
            if let crate::support::Packet::Publish(m) = packet {
                assert_eq!(usize::from(m.qos), qos);
                seen += 1;
            }
        }
        assert!(seen > 0, "QoS {qos}");
    }
}

#[test]
fn mqtt_4_8_2_4_a_qos_2_message_to_a_member_is_completed_when_it_is_back() {
    let broker = Broker::start();
    let connect = Connect::v5("member").persistent().manual();
    let mut member = connect.open(&broker);
    member.subscribe("$share/g/t", 2);
    let mut p = broker.v311("p");
    p.publish("t", "one", 2);
    p.publish("t", "two", 2);
    let (one, two) = (member.expect_payload("one"), member.expect_payload("two"));
    member.ack(PUBREC, one.id);
    assert_eq!(member.expect_ack(PUBREL, one.id), 0);
    let mut other = broker.v5("other");
    other.subscribe("$share/g/t", 2);
    member.rst();
    other.expect_nothing_for(ms(500));
    let mut member = connect.open(&broker);
    assert!(member.resumed());
    assert_eq!(member.wait_ack(PUBREL, one.id), 0);
    member.ack(PUBCOMP, one.id);
    let again = member.expect_payload("two");
    assert_eq!((again.id, again.dup), (two.id, true));
    member.ack(PUBREC, two.id);
    assert_eq!(member.expect_ack(PUBREL, two.id), 0);
    member.ack(PUBCOMP, two.id);
    member.expect_nothing_for(ms(20));
    other.expect_nothing_for(ms(20));
}

#[test]
fn mqtt_4_8_2_6_what_a_member_refuses_goes_to_nobody_else() {
    let broker = Broker::start();
    for connect in [Connect::v5("member"), Connect::v5("member").persistent()] {
        let mut member = connect.manual().open(&broker);
        member.subscribe("$share/g/t", 2);
        let mut p = broker.v311("p");
        let mut other = None;
        for (qos, first) in [(1, 0x40), (2, 0x50)] {
            p.publish("t", "unwanted", qos);
            let m = member.expect_payload("unwanted");
            if qos == 2 {
                let mut o = broker.v5("other");
                o.subscribe("$share/g/t", 2);
                other = Some(o);
            }
            member.send(&packet(first, &[(m.id >> 8) as u8, m.id as u8, 0x80]));
        }
        member.expect_nothing();
        let mut other = other.unwrap();
        other.expect_nothing();
        member.rst();
        other.expect_nothing_for(ms(300));
        Connect::v5("member").open(&broker).disconnect();
        other.disconnect();
    }
}
