//! F01 to F06: malformed packets, and packets that only a server may send.

use super::{CONNECT_V5, plain};
use crate::support::wire::{self, packet, properties};
use crate::support::{Broker, Connect, Packet, Publish, V5, V311, hex, prop};

#[test]
fn f01_connect_with_fixed_header_flags_is_closed_without_an_answer() {
    let broker = Broker::start();
    for first in 0x11..=0x1f {
        for (version, body) in [(V311, "0f00044d5154540402000a0003636964"), (V5, "1000044d5154540502000a000003636964")]
        {
            let mut client = broker.socket_for(version);
            let mut bytes = vec![first];
            bytes.extend(hex(body));
            client.try_send(&bytes);
            assert_eq!(client.expect_closed(), [], "first byte {first:#x}");
        }
    }
    broker.v311("next").ping();
    broker.v5("next").ping();
}

#[test]
fn f02_server_only_packets_after_connect_cost_only_their_connection() {
    let mut broker = Broker::start();
    let mut bystander = broker.v311("bystander");
    let pid = broker.pid();

    let mut client = broker.socket_for(V5);
    client.send_hex("101000044d5154540502003c03210014000029020001e000");
    after_connack(&client.expect_closed());

    for bytes in ["20020000", "2003000000", "9003000100", "900400010000", "b003000100", "b00400010000", "d000"] {
        let mut client = broker.socket_for(V5);
        client.send_hex(&format!("{CONNECT_V5}{bytes}"));
        after_connack(&client.expect_closed());
        bystander.ping();

        let mut client = plain(&broker, V311);
        client.send_hex(bytes);
        assert_eq!(client.expect_closed(), [], "3.1.1 after {bytes}");
    }
    bystander.ping();
    assert!(broker.is_running());
    assert_eq!(broker.pid(), pid);
}

fn after_connack(seen: &[Packet]) {
    match seen {
        [Packet::Connack { code: 0, .. }] => {}
        [Packet::Connack { code: 0, .. }, Packet::Disconnect { code: 0x81 | 0x82, .. }] => {}
        other => panic!("expected CONNACK and close, got {other:?}"),
    }
}

#[test]
fn f03_a_packet_before_connect_is_closed_without_an_answer() {
    let broker = Broker::start();
    let mut watcher = broker.v311("watcher");
    watcher.subscribe("a/b", 2);
    for bytes in ["c000", "e000", "30050003612f62", "3207 0003 612f62 0001", "820800010003612f6200", "f000", "40020001"]
    {
        for version in [V311, V5] {
            let mut client = broker.socket_for(version);
            client.send_hex(bytes);
            assert_eq!(client.expect_closed(), [], "after {bytes}");
        }
    }
    watcher.expect_nothing();
}

#[test]
fn f04_a_property_given_twice_is_a_protocol_error() {
    let broker = Broker::start();
    let mut client = broker.socket_for(V5);
    client.send_hex("101900044d5154540502003c0a2700000834270000040000027431");
    refused(&client.expect_closed());

    let doubles = [
        prop::maximum_packet_size(9000),
        prop::session_expiry(1),
        prop::receive_maximum(9),
        prop::topic_alias_maximum(9),
        prop::request_problem(1),
        prop::request_response(1),
    ];
    for double in doubles {
        let mut client = Connect::v5("twice").prop(double.clone()).prop(double).send_to(&broker);
        refused(&client.expect_closed());
    }

    let mut watcher = broker.v5("watcher");
    watcher.subscribe("a/b", 0);
    let doubles = [
        prop::message_expiry(9),
        prop::payload_format(1),
        prop::content_type("x"),
        prop::response_topic("x"),
        prop::correlation(b"x"),
        prop::topic_alias(1),
    ];
    for double in doubles {
        let mut client = broker.v5("twice");
        client.send_publish(Publish::new("a/b", "x").prop(double.clone()).prop(double));
        client.expect_disconnect(&[0x82]);
    }
    watcher.expect_nothing();

    // User Property may come any number of times.
    let mut client = Connect::v5("twice").prop(prop::user("a", "b")).prop(prop::user("a", "b")).open(&broker);
    client.publish_as(Publish::new("a/b", "x").prop(prop::user("a", "b")).prop(prop::user("a", "b")));
    assert_eq!(watcher.expect_payload("x").props.len(), 2);
}

fn refused(seen: &[Packet]) {
    match seen {
        [] | [Packet::Connack { code: 0x82, session_present: false, .. }] => {}
        other => panic!("expected CONNACK 0x82 or close, got {other:?}"),
    }
}

#[test]
fn f05_reserved_bits_in_subscription_options_are_malformed() {
    let broker = Broker::start();
    for (options, codes) in
        [("c0", &[0x81][..]), ("03", &[0x82, 0x81]), ("30", &[0x82, 0x81]), ("40", &[0x81]), ("80", &[0x81])]
    {
        let mut client = plain(&broker, V5);
        client.send_hex(&format!("82090001000003612f62{options}"));
        broker.v311("publisher").publish("a/b", "x", 1);
        client.expect_disconnect(codes);
    }
    for options in ["04", "08", "10", "20", "40", "80", "03"] {
        let mut client = plain(&broker, V311);
        client.send_hex(&format!("820800010003612f62{options}"));
        broker.v311("publisher").publish("a/b", "x", 1);
        assert_eq!(client.expect_closed(), [], "3.1.1 options {options}");
    }
}

#[test]
fn f06_a_response_topic_with_a_wildcard_is_refused() {
    let broker = Broker::start();
    let mut watcher = broker.v5("watcher");
    watcher.subscribe("a/b", 2);
    let mut client = plain(&broker, V5);
    client.send_hex("300c0003612f6206080003612f23");
    client.expect_disconnect(&[0x82, 0x81, 0x90]);
    for topic in ["a/+", "#", "+/b"] {
        let mut client = plain(&broker, V5);
        client.send_publish(Publish::new("a/b", "x").qos(1).prop(prop::response_topic(topic)));
        client.expect_disconnect(&[0x82, 0x81, 0x90]);
    }
    watcher.expect_nothing();

    // The same in a will: the CONNECT is refused.
    let mut body = hex("00044d5154540506003c");
    body.extend(properties(&[]));
    body.extend(wire::field(b"willing"));
    body.extend(properties(&[prop::response_topic("a/#")]));
    body.extend(wire::field(b"a/b"));
    body.extend(wire::field(b"x"));
    let mut client = broker.socket_for(V5);
    client.send(&packet(0x10, &body));
    match client.expect_closed().as_slice() {
        [] | [Packet::Connack { code: 0x80.., .. }] => {}
        other => panic!("expected a refusal, got {other:?}"),
    }
    watcher.expect_nothing();
}
