//! Sections 3.1 and 3.2: CONNECT and CONNACK.

use crate::raw::{Raw, connect};
use crate::support::wire::{self, V5, V31, V311, Value, field, packet, prop};
use crate::support::{Broker, Connect, Packet, Prop, Publish, VERSIONS, Will, ms};

/// Sends bytes on a fresh socket; gives what comes before the broker closes.
#[track_caller]
fn refused(broker: &Broker, version: u8, bytes: &[u8]) -> Vec<Packet> {
    let mut c = broker.socket_for(version);
    c.try_send(bytes);
    let seen = c.expect_closed();
    assert!(seen.len() <= 1 && !seen.iter().any(|p| matches!(p, Packet::Connack { code: 0, .. })), "{seen:?}");
    seen
}

#[test]
fn mqtt_3_1_2_16_user_name_and_password_are_there_exactly_when_their_flags_say_so() {
    let broker = Broker::start();
    let (id, user, password) = (field(b"c"), field(b"u"), field(b"p\0\xff"));
    for version in VERSIONS {
        let accepted = |flags: u8, rest: &[&[u8]]| {
            let mut c = broker.socket_for(version);
            c.send(&connect(version, flags, rest));
            assert!(matches!(c.recv(), Packet::Connack { code: 0, .. }), "flags {flags:#x} in {version}");
        };
        accepted(0x02, &[&id]);
        accepted(0x82, &[&id, &user]);
        accepted(0xc2, &[&id, &user, &password]);
        refused(&broker, version, &connect(version, 0x02, &[&id, &user]));
        refused(&broker, version, &connect(version, 0x82, &[&id, &user, &password]));
        if version != V31 {
            refused(&broker, version, &connect(version, 0x82, &[&id]));
            refused(&broker, version, &connect(version, 0xc2, &[&id, &user]));
        }
        if version == V5 {
            accepted(0x42, &[&id, &password]);
        } else if version == V311 {
            refused(&broker, version, &connect(version, 0x42, &[&id, &password]));
        }
    }
}

#[test]
fn mqtt_3_1_2_11_without_a_will_flag_there_is_no_will() {
    let broker = Broker::start();
    let mut w = broker.v311("w");
    w.subscribe("#", 2);
    for version in VERSIONS {
        let id = field(b"c");
        // MQTT 3.1 says nothing of the flags of a will that is not there.
        for flags in [0x02 | 8, 0x02 | 0x10, 0x02 | 0x20].into_iter().filter(|_| version != V31) {
            refused(&broker, version, &connect(version, flags, &[&id]));
        }
        // Will fields without the flag are bytes too many; Will QoS 3 is none.
        let will: &[u8] = if version == V5 { &[0] } else { &[] };
        let fields = [&id[..], will, &field(b"w"), &field(b"x")];
        refused(&broker, version, &connect(version, 0x02, &fields));
        refused(&broker, version, &connect(version, 0x06 | 0x18, &fields));
        broker.client(version, "c").rst();
    }
    w.expect_nothing();
}

#[test]
fn mqtt_3_1_3_1_the_fields_of_the_payload_come_in_their_order() {
    let broker = Broker::start();
    let mut w = broker.v5("w");
    w.subscribe("the/will/topic", 1);
    for version in VERSIONS {
        let will: &[u8] = if version == V5 { &[0] } else { &[] };
        let mut c = broker.socket_for(version);
        let fields = [
            &field(b"theclientid")[..],
            will,
            &field(b"the/will/topic"),
            &field(b"the will"),
            &field(b"user"),
            &field(b"word"),
        ];
        c.send(&connect(version, 0xc6, &fields));
        assert!(matches!(c.recv(), Packet::Connack { code: 0, .. }));
        let mut other = broker.client(version, "theclientid");
        c.expect_cut(&[0x8e]);
        assert_eq!(w.expect_payload("the will").topic, "the/will/topic");
        other.ping();
    }
}

#[test]
fn mqtt_3_1_3_5_plain_client_identifiers_up_to_23_bytes_are_taken() {
    let broker = Broker::start();
    let all = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    for version in VERSIONS {
        for id in ["0", &all[..23], &all[23..46], &all[39..62]] {
            broker.client(version, id).ping();
        }
    }
    for length in 1..=23 {
        broker.v311(&all[all.len() - length..]).ping();
    }
}

#[test]
fn mqtt_3_1_4_6_nothing_behind_a_refused_connect_is_processed() {
    let broker = Broker::start();
    let mut w = broker.v311("w");
    w.subscribe("t", 2);
    for version in VERSIONS {
        let connects = [
            Connect::of(version, "c").will(Will::new("$SYS/x", "x")).encode(),
            connect(version, 0x1e, &[&field(b"c")]),
            connect(version, 0x82, &[&field(b"c")[..2]]),
            if version == V5 {
                Connect::v5("c").prop(Prop(prop::AUTH_METHOD, Value::Text("none".into()))).encode()
            } else {
                Connect::of(version, "").clean(false).encode()
            },
        ];
        for mut bytes in connects {
            bytes.extend(Publish::new("t", "unheard").retain().encode(version));
            refused(&broker, version, &bytes);
        }
    }
    w.expect_nothing();
}

#[test]
fn mqtt_3_2_2_6_a_refusal_claims_no_session_and_closes() {
    let broker = Broker::start();
    for version in VERSIONS {
        let connect = Connect::of(version, "s").persistent();
        let mut s = connect.open(&broker);
        s.subscribe("t", 1);
        s.disconnect();
        let seen = refused(&broker, version, &connect.clone().will(Will::new("$SYS/x", "x")).encode());
        let expected = if version == V5 { 0x87 } else { 5 };
        assert!(
            matches!(seen.as_slice(), [Packet::Connack { session_present: false, code, .. }] if *code == expected),
            "{seen:?}"
        );
        // It was a refusal, not an end: the session is still there.
        let mut s = connect.open(&broker);
        assert!(s.resumed());
        broker.v311("p").publish("t", "kept", 1);
        s.expect_payload("kept");
    }
}

#[test]
fn mqtt_3_2_2_12_a_will_beyond_what_the_server_can_is_refused() {
    let broker = Broker::with(&["mqtt.max_qos=1", "mqtt.retain_available=false"]);
    let asks = |version, will| Connect::of(version, "c").will(will).encode();
    for (will, code) in [(Will::new("w", "x").qos(2), 0x9b), (Will::new("w", "x").retain(), 0x9a)] {
        let seen = refused(&broker, V5, &asks(V5, will.clone()));
        assert!(matches!(seen.as_slice(), [Packet::Connack { code: c, .. }] if *c == code), "{seen:?}");
        for version in [V31, V311] {
            // No return code of theirs says it [MQTT-3.2.2-6 of 3.1.1].
            let seen = refused(&broker, version, &asks(version, will.clone()));
            assert!(seen.is_empty() || matches!(seen.as_slice(), [Packet::Connack { code: 1..=5, .. }]), "{seen:?}");
        }
    }
    // A SUBSCRIBE may ask for any QoS all the same [MQTT-3.2.2-10].
    let mut s = broker.v5("s");
    assert_eq!(s.subscribe_many(&[("a", 0), ("b", 1), ("c", 2)], &[]), [0, 1, 1]);
}

#[test]
fn mqtt_v311_3_1_4_1_a_connect_against_the_rules_is_closed_without_an_answer() {
    let broker = Broker::start();
    let id = field(b"c");
    for bytes in [
        connect(V311, 0x03, &[&id]),
        connect(V311, 0x02, &[]),
        connect(V311, 0x0a, &[&id]),
        connect(V311, 0x42, &[&id, &field(b"p")]),
        connect(V311, 0x02, &[&field(b"\xff")]),
        connect(V311, 0x02, &[&id, b"more"]),
    ] {
        assert_eq!(refused(&broker, V311, &bytes), [], "{bytes:x?}");
    }
    // A level that is not supported has its return code [MQTT-3.1.2-2].
    let mut body = field(b"MQTT");
    body.extend([9, 2, 0, 60]);
    body.extend(id);
    let seen = refused(&broker, V311, &packet(0x10, &body));
    assert_eq!(seen, [Packet::Connack { session_present: false, code: 1, props: vec![] }]);
}

#[test]
fn mqtt_3_1_2_24_not_even_connack_is_larger_than_the_client_takes() {
    let broker = Broker::with(&["mqtt.server_keep_alive=50s"]);
    let long = "x".repeat(60);
    for maximum in [1u32, 4, 5, 10, 20, 30, 40, 100] {
        for connect in [
            Connect::v5(""),
            Connect::v5("c"),
            Connect::v5(&long).prop(Prop(prop::AUTH_METHOD, Value::Text("none".into()))),
        ] {
            let mut c = Raw::open(&broker, &connect.prop(prop::maximum_packet_size(maximum)));
            for packet in c.packets() {
                assert!(packet.len() <= maximum as usize, "{packet:x?} to one who takes {maximum} bytes");
            }
        }
    }
}

#[test]
fn mqtt_3_1_2_29_without_problem_information_no_answer_explains_itself() {
    let broker = Broker::start();
    let mut c = Connect::v5("c").prop(prop::request_problem(0)).manual().open(&broker);
    let silent = |p: Packet| {
        let (Packet::Ack { props, .. } | Packet::Suback { props, .. } | Packet::Unsuback { props, .. }) = p else {
            panic!("{p:?}")
        };
        assert!(!props.iter().any(|p| matches!(p.0, prop::REASON_STRING | prop::USER)), "{props:?}");
    };
    c.send_publish(Publish::new("$SYS/x", "x").qos(1).id(1));
    silent(c.recv());
    c.send_publish(Publish::new("$SYS/x", "x").qos(2).id(1));
    silent(c.recv());
    c.send_subscribe(&[("$share/x", 0), ("a#", 0)], &[]);
    silent(c.recv());
    c.send(&packet(0xa2, &[0, 9, 0, 0, 1, b't']));
    silent(c.recv());
    for unknown in [&[0x62, 2, 0, 99][..], &[0x50, 2, 0, 99]] {
        c.send(unknown);
        silent(c.recv());
    }
    c.expect_nothing_for(ms(10));
}

#[test]
fn mqtt_3_1_2_28_response_information_and_authentication_are_never_unasked_for() {
    let broker = Broker::start();
    for connect in [Connect::v5("c"), Connect::v5("c").prop(prop::request_response(0)), Connect::v5("")] {
        let c = connect.open(&broker);
        assert_eq!(wire::text(&c.connack, prop::RESPONSE_INFORMATION), None);
        assert!(!c.connack.iter().any(|p| matches!(p.0, prop::AUTH_METHOD | prop::AUTH_DATA)), "[MQTT-4.12.0-6]");
    }
}
