//! What v5 adds to packets, and how it is passed on, checked, or answered.

use crate::support::wire::{self, V5, packet, properties, text};
use crate::support::{Broker, Connect, Packet, Prop, Publish, V311, ms, prop};

#[test]
fn properties_are_forwarded_unchanged_and_in_order() {
    let mut broker = Broker::start();
    let props: Vec<Prop> = vec![
        prop::payload_format(1),
        prop::content_type("application/json; ä"),
        prop::response_topic("answer/to/🦀"),
        prop::correlation(&[0, 1, 2, 255, 254]),
        prop::user("k", "1"),
        prop::user("", ""),
        prop::user("k", "1"),
        prop::user("a", "2"),
    ];
    let connect = Connect::v5("queued").persistent();
    let mut queued = connect.open(&broker);
    queued.subscribe("t", 2);
    queued.disconnect();
    let mut live = broker.v5("live");
    live.subscribe("t", 2);
    let mut old = broker.v311("old");
    old.subscribe("t", 2);
    let mut p = broker.v5("p");
    let right = |m: &Publish| {
        let of = |id: u8| m.props.iter().filter(|p| p.0 == id).cloned().collect::<Vec<_>>();
        for id in [prop::PAYLOAD_FORMAT, prop::CONTENT_TYPE, prop::RESPONSE_TOPIC, prop::CORRELATION_DATA, prop::USER] {
            assert_eq!(of(id), props.iter().filter(|p| p.0 == id).cloned().collect::<Vec<_>>());
        }
        assert_eq!(m.props.len(), props.len());
    };
    for qos in 0..=2 {
        let m = props.iter().fold(Publish::new("t", "x").qos(qos), |m, p| m.prop(p.clone()));
        // With an alias, the block has to be rebuilt without it.
        p.publish_as(if qos == 1 { m.prop(prop::topic_alias(1)) } else { m });
        right(&live.expect_payload("x"));
        old.expect_payload("x");
    }
    broker.crash();
    let mut queued = connect.open(&broker);
    right(&queued.expect_payload("x"));
    right(&queued.expect_payload("x"));
    queued.expect_nothing();
}

#[test]
fn a_payload_that_is_not_the_utf8_it_claims_is_refused() {
    let broker = Broker::start();
    let mut s = broker.v5("s");
    s.subscribe("t", 2);
    let bad = |qos| Publish::new("t", [0xff, 0xfe]).qos(qos).prop(prop::payload_format(1));
    let mut p = broker.v5("p");
    assert_eq!(p.publish_as(bad(1)), 0x99);
    assert_eq!(p.publish_as(bad(2)), 0x99);
    p.send_publish(bad(0));
    p.expect_disconnect(&[0x99]);
    s.expect_nothing();
    let mut p = broker.v5("p");
    p.publish_as(Publish::new("t", [0xff, 0xfe]).qos(1).prop(prop::payload_format(0)));
    assert_eq!(s.expect_publish().payload, [0xff, 0xfe]);
    p.publish_as(Publish::new("t", "ä").qos(1).prop(prop::payload_format(1)));
    assert_eq!(s.expect_payload("ä").number(prop::PAYLOAD_FORMAT), Some(1));
    p.send_publish(Publish::new("t", "x").prop(prop::payload_format(2)));
    p.expect_disconnect(&[0x81, 0x82]);
}

#[test]
fn message_expiry_is_passed_on_live_and_never_to_old_clients() {
    let broker = Broker::start();
    let mut s = broker.v5("s");
    s.subscribe("t", 1);
    let mut old = broker.v311("old");
    old.subscribe("t", 1);
    let mut p = broker.v5("p");
    for expiry in [1, 100, u32::MAX] {
        p.publish_as(Publish::new("t", "x").qos(1).prop(prop::message_expiry(expiry)));
        let left = s.expect_payload("x").number(prop::MESSAGE_EXPIRY).unwrap();
        assert!(left == expiry || left == expiry - 1, "{left} of {expiry}");
        old.expect_payload("x");
    }
}

#[test]
fn response_information_is_given_only_on_request() {
    let broker = Broker::start();
    let plain = broker.v5("plain");
    assert_eq!(text(&plain.connack, prop::RESPONSE_INFORMATION), None);
    let asked = Connect::v5("asks").prop(prop::request_response(1)).open(&broker);
    if let Some(topic) = text(&asked.connack, prop::RESPONSE_INFORMATION) {
        assert!(!topic.is_empty() && !topic.contains(['#', '+']));
    }
    let mut bad = Connect::v5("bad").prop(Prop(prop::REQUEST_RESPONSE, wire::Value::Byte(2))).send_to(&broker);
    match bad.expect_closed().as_slice() {
        [] | [Packet::Connack { code: 0x81 | 0x82, .. }] => {}
        other => panic!("{other:?}"),
    }
}

#[test]
fn without_request_problem_information_there_is_no_reason_string() {
    let broker = Broker::start();
    let mut c = Connect::v5("c").prop(prop::request_problem(0)).open(&broker);
    c.send_publish(Publish::new("$SYS/x", "x").qos(1).id(1));
    match c.recv() {
        Packet::Ack { code: 0x87, props, .. } => {
            assert!(!props.iter().any(|p| matches!(p.0, prop::REASON_STRING | prop::USER)), "[MQTT-3.1.2-29]");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn connack_says_what_the_broker_can_do() {
    let broker = Broker::with(&["mqtt.receive_maximum=33", "mqtt.topic_alias_maximum=7"]);
    let c = Connect::v5("c").prop(prop::receive_maximum(5)).open(&broker);
    let number = |id| wire::number(&c.connack, id);
    assert_eq!(number(prop::RECEIVE_MAXIMUM), Some(33));
    assert_eq!(number(prop::TOPIC_ALIAS_MAXIMUM), Some(7));
    assert_eq!(number(prop::MAXIMUM_QOS), None, "absent means 2 [MQTT-3.2.2-9]");
    for (id, name) in [(prop::RETAIN_AVAILABLE, "retain"), (0x28, "wildcards"), (0x29, "identifiers"), (0x2a, "shared")]
    {
        assert!(matches!(number(id), None | Some(1)), "{name} available");
    }
    if let Some(size) = number(prop::MAXIMUM_PACKET_SIZE) {
        assert!(size <= 268_435_455, "paho takes no more");
    }
    assert_eq!(number(prop::SERVER_KEEP_ALIVE), None);
}

#[test]
fn an_unknown_authentication_method_is_refused() {
    let broker = Broker::start();
    let mut c = Connect::v5("c").prop(Prop(prop::AUTH_METHOD, wire::Value::Text("none".into()))).send_to(&broker);
    match c.expect_closed().as_slice() {
        [Packet::Connack { code: 0x8c, .. }] => {}
        other => panic!("{other:?}"),
    }
    // Authentication data without a method is a Protocol Error; AUTH without a method as well.
    let mut c = Connect::v5("c").prop(Prop(prop::AUTH_DATA, wire::Value::Bin(vec![1]))).send_to(&broker);
    match c.expect_closed().as_slice() {
        [] | [Packet::Connack { code: 0x82, .. }] => {}
        other => panic!("{other:?}"),
    }
    let mut c = broker.v5("c");
    c.send_hex("f000");
    c.expect_cut(&[0x82, 0x81]);
}

#[test]
fn acknowledgements_may_be_long_or_short() {
    let broker = Broker::start();
    let mut s = Connect::v5("s").manual().open(&broker);
    s.subscribe("t", 2);
    let mut p = broker.v5("p");
    for with_props in [false, true] {
        let mut tail = vec![0];
        if with_props {
            tail.extend(properties(&[
                Prop(prop::REASON_STRING, wire::Value::Text("fine".into())),
                prop::user("a", "b"),
            ]));
        }
        let send = |s: &mut crate::support::Client, first: u8, id: u16| {
            let mut body = id.to_be_bytes().to_vec();
            body.extend(&tail);
            s.send(&packet(first, &body));
        };
        p.publish("t", "one", 1);
        let id = s.expect_payload("one").id;
        send(&mut s, 0x40, id);
        p.publish("t", "two", 2);
        let id = s.expect_payload("two").id;
        send(&mut s, 0x50, id);
        assert_eq!(s.expect_ack(wire::PUBREL, id), 0);
        send(&mut s, 0x70, id);
        s.expect_nothing_for(ms(20));
    }
}

#[test]
fn properties_where_they_do_not_belong_are_errors() {
    let broker = Broker::start();
    for p in [prop::session_expiry(1), prop::receive_maximum(1), prop::will_delay(1), prop::subscription_id(1)] {
        let mut c = broker.v5("c");
        c.send_publish(Publish::new("t", "x").qos(1).prop(p.clone()));
        c.expect_disconnect(&[0x81, 0x82]);
    }
    for p in [prop::content_type("x"), prop::subscription_id(1), Prop(prop::SERVER_KEEP_ALIVE, wire::Value::Two(1))] {
        let mut c = Connect::v5("c").prop(p).send_to(&broker);
        match c.expect_closed().as_slice() {
            [] | [Packet::Connack { code: 0x81 | 0x82, .. }] => {}
            other => panic!("{other:?}"),
        }
    }
    let mut c = broker.v5("c");
    c.send_subscribe(&[("t", 0)], &[prop::topic_alias(1)]);
    c.expect_disconnect(&[0x81, 0x82]);
}

#[test]
fn a_v5_publish_reaches_311_without_a_trace_of_properties() {
    let broker = Broker::start();
    let mut s = broker.client(V311, "s");
    s.subscribe("t", 1);
    let mut p = broker.client(V5, "p");
    p.publish_as(Publish::new("t", "body").qos(1).prop(prop::user("a", "b")));
    assert_eq!(s.expect_publish().payload, b"body");
}
