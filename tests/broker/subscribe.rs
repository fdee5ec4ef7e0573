//! SUBSCRIBE and UNSUBSCRIBE: matching, options, codes.

use crate::support::wire::{self, packet, prop};
use crate::support::{Broker, Connect, Packet, Publish, V5, VERSIONS, ms};
use std::time::Instant;

#[test]
fn filters_match_as_the_specification_says() {
    let broker = Broker::start();
    let table: &[(&str, &[&str], &[&str])] = &[
        ("a/b", &["a/b"], &["a", "a/b/", "/a/b", "a/B", "a/b/c"]),
        ("a/+", &["a/b", "a/"], &["a", "a/b/c", "b/a"]),
        ("+", &["a", "b"], &["/", "/a", "a/", "$x"]),
        ("+/+", &["/a", "a/", "a/b", "/"], &["a", "a/b/c", "$x/a"]),
        ("/+", &["/a", "/"], &["a", "/a/b"]),
        ("a/#", &["a", "a/", "a/b", "a/b/c"], &["ab", "b/a", "/a"]),
        ("#", &["a", "/", "a/b/c", "/a"], &["$x", "$x/a"]),
        ("+/b/#", &["a/b", "/b", "a/b/c/d"], &["b", "a/c/b", "$x/b"]),
        ("a/+/c", &["a/b/c", "a//c"], &["a/c", "a/b/b/c"]),
        ("$x/#", &["$x", "$x/a"], &["x", "x/a"]),
        ("$x/+", &["$x/a"], &["$x", "$x/a/b"]),
        ("ä ö/🦀/+", &["ä ö/🦀/x"], &["ä ö/x/x"]),
    ];
    for version in VERSIONS {
        let mut s = broker.client(version, "s");
        let mut p = broker.client(version, "p");
        for (filter, yes, no) in table {
            assert_eq!(s.subscribe(filter, 1), 1, "{filter}");
            for topic in yes.iter().chain(*no) {
                p.publish(topic, topic, 1);
            }
            for topic in *yes {
                assert_eq!(s.expect_payload(topic).topic, *topic, "{filter}");
            }
            s.expect_nothing_for(ms(10));
            assert_eq!(s.unsubscribe(filter), 0);
            p.publish(yes[0], "after", 1);
            s.expect_nothing_for(ms(10));
        }
    }
}

#[test]
fn invalid_filters_are_refused() {
    let broker = Broker::start();
    for version in VERSIONS {
        for filter in ["", "a/#/b", "a#", "#/a", "a+", "+a", "a/+b/c", "a/b+/c", "##", "++"] {
            let mut s = broker.client(version, "s");
            s.send_subscribe(&[(filter, 0)], &[]);
            match s.read_packet(ms(5000)) {
                crate::support::Read::Packet(Packet::Suback { codes, .. }) => assert!(codes[0] >= 0x80, "{filter:?}"),
                crate::support::Read::Packet(Packet::Disconnect { code: 0x81 | 0x82 | 0x8f, .. }) => {}
                crate::support::Read::Closed => {}
                other => panic!("{filter:?}: {other:?}"),
            }
        }
    }
}

#[test]
fn one_packet_may_hold_many_filters_and_codes_keep_their_order() {
    let broker = Broker::start();
    for version in VERSIONS {
        let mut s = broker.client(version, "s");
        let filters: Vec<(String, u8)> = (0..200).map(|n| (format!("m/{n}"), (n % 3) as u8)).collect();
        let filters: Vec<(&str, u8)> = filters.iter().map(|(f, q)| (f.as_str(), *q)).collect();
        let codes = s.subscribe_many(&filters, &[]);
        assert_eq!(codes, filters.iter().map(|f| f.1).collect::<Vec<_>>());
        let mut p = broker.v311("p");
        for n in [0, 1, 2, 199] {
            p.publish(&format!("m/{n}"), "x", 2);
            assert_eq!(s.expect_payload("x").qos, (n % 3) as u8);
        }
    }
}

#[test]
fn subscribing_again_replaces_the_subscription() {
    let broker = Broker::start();
    for version in VERSIONS {
        let mut s = broker.client(version, "s");
        let mut p = broker.v311("p");
        for qos in [2, 0, 1] {
            assert_eq!(s.subscribe("t", qos), qos);
            p.publish("t", "x", 2);
            assert_eq!(s.expect_payload("x").qos, qos);
        }
        s.expect_nothing_for(ms(20));
    }
}

#[test]
fn unsuback_tells_v5_what_was_not_there() {
    let broker = Broker::start();
    let mut s = broker.v5("s");
    s.subscribe("t", 1);
    assert_eq!(s.unsubscribe("t"), 0);
    assert_eq!(s.unsubscribe("t"), 0x11);
    assert_eq!(s.unsubscribe("$share/g/t"), 0x11);
    broker.v311("old").unsubscribe("never");
}

#[test]
fn no_local_keeps_a_clients_own_messages_from_it() {
    let broker = Broker::start();
    let connect = Connect::v5("c").persistent();
    let mut c = connect.open(&broker);
    let mut other = broker.v5("other");
    assert_eq!(c.subscribe("t", 2 | 4), 2);
    c.publish("t", "own", 2);
    other.publish("t", "foreign", 2);
    c.expect_payload("foreign");
    c.expect_nothing();
    // Once a second filter without it matches, the message is wanted.
    assert_eq!(c.subscribe("+", 1), 1);
    c.publish("t", "own", 1);
    c.expect_payload("own");
    c.expect_nothing();
    c.unsubscribe("+");
    c.disconnect();
    // The option belongs to the session.
    let mut c = connect.open(&broker);
    assert!(c.session_present);
    c.publish("t", "own", 2);
    c.expect_nothing();
}

#[test]
fn subscription_identifiers_come_with_every_copy() {
    let mut broker = Broker::start();
    let connect = Connect::v5("s").persistent();
    let mut s = connect.open(&broker);
    for (filter, id) in [("a/b", 1), ("a/+", 268_435_455), ("a/#", 300)] {
        s.subscribe_many(&[(filter, 1)], &[prop::subscription_id(id)]);
    }
    s.subscribe("#", 0);
    let mut p = broker.v311("p");
    let ids = |m: &Publish| {
        let mut ids = m.numbers(prop::SUBSCRIPTION_ID);
        ids.sort_unstable();
        ids
    };
    p.publish("a/b", "x", 1);
    assert_eq!(ids(&s.expect_payload("x")), [1, 300, 268_435_455]);
    p.publish("a", "x", 1);
    assert_eq!(ids(&s.expect_payload("x")), [300]);
    p.publish("b", "x", 1);
    assert_eq!(ids(&s.expect_payload("x")), [0; 0]);
    // Subscribing without an identifier takes the old one away [MQTT-3.8.4-3].
    s.subscribe("a/#", 1);
    p.publish("a", "x", 1);
    assert_eq!(ids(&s.expect_payload("x")), [0; 0]);
    s.disconnect();
    // Queued and after a crash the same.
    p.publish("a/b", "x", 1);
    broker.crash();
    let mut s = connect.open(&broker);
    assert_eq!(ids(&s.expect_payload("x")), [1, 268_435_455]);
    broker.v311("p").publish("a/b", "x", 1);
    assert_eq!(ids(&s.expect_payload("x")), [1, 268_435_455]);

    let mut s = broker.v5("zero");
    s.send_subscribe(&[("t", 0)], &[prop::subscription_id(0)]);
    s.expect_disconnect(&[0x82]);
}

#[test]
fn many_subscriptions_of_one_client_are_taken_quickly() {
    let broker = Broker::start();
    let mut s = broker.v5("s");
    let start = Instant::now();
    for chunk in 0..50 {
        let filters: Vec<String> = (0..100).map(|n| format!("d/{chunk}/{n}/+")).collect();
        let filters: Vec<(&str, u8)> = filters.iter().map(|f| (f.as_str(), 1)).collect();
        assert_eq!(s.subscribe_many(&filters, &[]), [1; 100]);
    }
    assert!(start.elapsed().as_secs() < 10, "{:?}", start.elapsed());
    broker.v311("p").publish("d/49/99/x", "x", 1);
    s.expect_payload("x");
}

#[test]
fn an_empty_subscribe_or_unsubscribe_is_an_error() {
    let broker = Broker::start();
    for version in VERSIONS {
        for first in [0x82, 0xa2] {
            let mut body = vec![0, 1];
            if version == V5 {
                body.extend(wire::properties(&[]));
            }
            let mut s = broker.client(version, "s");
            s.send(&packet(first, &body));
            s.expect_cut(&[0x81, 0x82]);
        }
    }
}
