//! Wills: content, QoS, retain, properties.

use crate::support::{Broker, Connect, Packet, V311, VERSIONS, Will, ms, prop};

#[test]
fn a_will_has_the_qos_and_retain_flag_that_it_was_given() {
    let broker = Broker::start();
    for version in VERSIONS {
        for qos in 0..=2 {
            for retain in [false, true] {
                let mut w = broker.client(version, "w");
                w.subscribe("w", 2);
                let mut will = Will::new("w", "text").qos(qos);
                if retain {
                    will = will.retain();
                }
                Connect::of(version, "x").will(will).open(&broker).rst();
                let m = w.expect_payload("text");
                assert_eq!((m.qos, m.retain), (qos, false));
                let mut late = broker.client(version, "late");
                late.subscribe("w", 2);
                if retain {
                    let m = late.expect_payload("text");
                    assert_eq!((m.qos, m.retain), (qos, true));
                    late.retain("w", "", 0);
                }
                late.ping();
                drop(w);
            }
        }
    }
}

#[test]
fn a_will_carries_its_properties() {
    let broker = Broker::start();
    let mut w = broker.v5("w");
    w.subscribe("w", 1);
    let props = [
        prop::payload_format(1),
        prop::content_type("text/plain"),
        prop::response_topic("answer/here"),
        prop::correlation(&[0, 1, 255]),
        prop::user("k", "1"),
        prop::user("a", "2"),
        prop::user("k", "3"),
    ];
    let will = props.iter().fold(Will::new("w", "text").qos(1), |w, p| w.prop(p.clone()));
    Connect::v5("x").will(will.prop(prop::message_expiry(60))).open(&broker).rst();
    let m = w.expect_payload("text");
    assert!(matches!(m.number(prop::MESSAGE_EXPIRY), Some(59 | 60)));
    for p in &props {
        assert!(m.props.contains(p), "{p:?}");
    }
    let users: Vec<_> = m.props.iter().filter(|p| p.0 == prop::USER).collect();
    assert_eq!(users, props.iter().filter(|p| p.0 == prop::USER).collect::<Vec<_>>(), "in their order");
    assert!(!m.props.iter().any(|p| p.0 == prop::WILL_DELAY));
}

#[test]
fn a_will_for_an_absent_session_is_queued() {
    let mut broker = Broker::start();
    let mut w = Connect::v311("w").persistent().open(&broker);
    w.subscribe("w", 2);
    w.disconnect();
    Connect::of(V311, "x").will(Will::new("w", "queued").qos(2)).open(&broker).rst();
    std::thread::sleep(ms(200));
    broker.crash();
    let mut w = Connect::v311("w").persistent().open(&broker);
    assert_eq!(w.expect_payload("queued").qos, 2);
    w.expect_nothing();
}

#[test]
fn the_will_of_a_resumed_connection_replaces_the_old_one() {
    let broker = Broker::start();
    let mut w = broker.v311("w");
    w.subscribe("w", 1);
    for version in VERSIONS {
        let connect = Connect::of(version, "x").persistent();
        connect.clone().will(Will::new("w", "first")).open(&broker).disconnect();
        connect.clone().will(Will::new("w", "second")).open(&broker).rst();
        w.expect_payload("second");
        connect.open(&broker).rst();
        w.expect_nothing();
        Connect::of(version, "x").open(&broker).disconnect();
    }
}

#[test]
fn sigterm_is_no_reason_for_silence() {
    // The server closes the connection: section 3.1.2.5 counts that among the reasons for a will.
    let mut broker = Broker::start();
    let mut w = Connect::v311("w").persistent().open(&broker);
    w.subscribe("w", 1);
    w.disconnect();
    let _x = Connect::v311("x").will(Will::new("w", "gone").qos(1)).open(&broker);
    broker.restart();
    let mut w = Connect::v311("w").persistent().open(&broker);
    assert!(matches!(w.recv(), Packet::Publish(m) if m.text() == "gone"));
    w.expect_nothing();
}

#[test]
fn a_disconnect_just_before_the_next_connect_publishes_no_will() {
    let broker = Broker::start();
    let mut w = broker.v311("w");
    w.subscribe("w", 1);
    let connect = Connect::v311("x").will(Will::new("w", "gone"));
    let mut old = Vec::new();
    for _ in 0..200 {
        let mut client = connect.open(&broker);
        // Whichever thread sees its packet first: the old one's DISCONNECT counts [MQTT-3.1.2-10].
        client.send_hex("e000");
        old.push(client);
    }
    let mut last = broker.v311("x");
    last.ping();
    last.publish("w", "the end", 1);
    assert_eq!(w.expect_publish().payload, b"the end");
}
