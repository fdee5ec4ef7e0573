//! Sessions: clean start, expiry, takeover, and what a resumed session holds.

use crate::support::wire::{PUBACK, PUBCOMP, PUBREC, PUBREL};
use crate::support::{Broker, Connect, Packet, Publish, V5, V311, VERSIONS, ms, prop, secs};

#[test]
fn a_persistent_session_queues_while_it_is_away() {
    let mut broker = Broker::start();
    for version in VERSIONS {
        let connect = Connect::of(version, "s").persistent();
        let mut s = connect.open(&broker);
        assert!(!s.session_present);
        s.subscribe("t", 2);
        s.disconnect();
        let mut p = broker.v311("p");
        for n in 0..9 {
            p.publish("t", n.to_string(), n % 3);
        }
        broker.crash();
        let mut s = connect.open(&broker);
        assert!(s.resumed());
        for n in (0..9).filter(|n| n % 3 > 0) {
            let m = s.expect_payload(n.to_string());
            assert_eq!((m.qos, m.dup), (n as u8 % 3, false), "QoS 0 is not queued");
        }
        s.expect_nothing_for(ms(20));
        s.disconnect();
        Connect::of(version, "s").open(&broker).disconnect();
    }
}

#[test]
fn qos0_is_queued_when_the_setting_says_so() {
    let broker = Broker::with(&["session.queue_qos0=true"]);
    let connect = Connect::v5("s").persistent();
    let mut s = connect.open(&broker);
    s.subscribe("t", 2);
    s.disconnect();
    // Or the message would still go to the socket that nobody reads any more.
    broker.wait_log(&["disconnected", "client=\"s\""]);
    broker.v311("p").publish("t", "zero", 0);
    let mut p = broker.v311("p");
    p.publish("t", "zero again", 0);
    p.ping();
    let mut s = connect.open(&broker);
    assert_eq!(s.expect_payload("zero").qos, 0);
    assert_eq!(s.expect_payload("zero again").qos, 0);
}

#[test]
fn clean_start_ends_the_old_session() {
    let mut broker = Broker::start();
    for version in VERSIONS {
        let connect = Connect::of(version, "s").persistent();
        let mut s = connect.open(&broker);
        s.subscribe("t", 2);
        s.disconnect();
        let mut p = broker.v311("p");
        p.publish("t", "old", 1);
        let s = Connect::of(version, "s").open(&broker);
        assert!(!s.session_present);
        s.disconnect();
        p.publish("t", "old", 1);
        broker.crash();
        let mut s = connect.open(&broker);
        assert!(!s.session_present, "ended for good");
        s.expect_nothing_for(ms(20));
        broker.v311("p").publish("t", "new", 1);
        s.expect_nothing_for(ms(20));
        s.disconnect();
        Connect::of(version, "s").open(&broker).disconnect();
    }
}

#[test]
fn a_v5_session_lives_as_long_as_it_asked_for() {
    let broker = Broker::start();
    let connect = |expiry| Connect::v5("s").clean(false).expiry(expiry);
    // Without an expiry interval it ends with the connection, clean start or not.
    Connect::v5("s").clean(false).open(&broker).disconnect();
    assert!(!connect(0).open(&broker).session_present);
    let mut s = connect(2).open(&broker);
    assert!(!s.session_present);
    s.subscribe("t", 1);
    s.rst();
    std::thread::sleep(ms(500));
    let s = connect(2).open(&broker);
    assert!(s.session_present);
    s.disconnect();
    std::thread::sleep(ms(3500));
    let mut s = connect(300).open(&broker);
    assert!(!s.session_present, "it expired");
    broker.v311("p").publish("t", "x", 1);
    s.expect_nothing();
    // Clean Start 1 with an expiry: new now, there later.
    s.disconnect();
    let s = Connect::v5("s").clean(true).expiry(300).open(&broker);
    assert!(!s.session_present);
    s.disconnect();
    assert!(connect(0).open(&broker).session_present);
}

#[test]
fn a_session_expires_while_the_broker_is_down() {
    let mut broker = Broker::start();
    for hard in [false, true] {
        let mut s = Connect::v5("s").clean(false).expiry(2).open(&broker);
        s.subscribe("t", 1);
        s.disconnect();
        Connect::v5("long").clean(false).expiry(300).open(&broker).disconnect();
        if hard {
            broker.kill()
        } else {
            broker.terminate()
        }
        std::thread::sleep(ms(2500));
        broker.again();
        assert!(!Connect::v5("s").clean(false).expiry(2).open(&broker).session_present);
        assert!(Connect::v5("long").clean(false).expiry(300).open(&broker).session_present);
    }
}

#[test]
fn disconnect_may_change_the_expiry() {
    let broker = Broker::start();
    let connect = |expiry| Connect::v5("s").clean(false).expiry(expiry);
    connect(300).open(&broker).disconnect_with(0, &[prop::session_expiry(0)]);
    assert!(!connect(2).open(&broker).session_present, "0 at DISCONNECT ends it");
    connect(2).open(&broker).disconnect_with(0, &[prop::session_expiry(300)]);
    std::thread::sleep(ms(3500));
    assert!(connect(300).open(&broker).session_present, "it was made longer");
    connect(300).open(&broker).disconnect_with(0, &[prop::session_expiry(1)]);
    std::thread::sleep(ms(2500));
    assert!(!connect(0).open(&broker).session_present, "it was made shorter");
    // From 0 nothing else may follow [MQTT-3.14.2-2].
    let mut s = connect(0).open(&broker);
    let mut body = vec![0];
    body.extend(crate::support::wire::properties(&[prop::session_expiry(10)]));
    s.send(&crate::support::wire::packet(0xe0, &body));
    s.expect_disconnect(&[0x82]);
}

#[test]
fn the_operator_may_limit_the_expiry_and_v5_is_told() {
    let broker = Broker::with(&["session.max_expiry=10s"]);
    let s = Connect::v5("s").clean(false).expiry(100).open(&broker);
    assert_eq!(crate::support::wire::number(&s.connack, prop::SESSION_EXPIRY), Some(10));
    let s = Connect::v5("t").clean(false).expiry(5).open(&broker);
    assert!(matches!(crate::support::wire::number(&s.connack, prop::SESSION_EXPIRY), None | Some(5)));
}

#[test]
fn the_sessions_of_old_clients_end_after_the_time_that_is_set() {
    let broker = Broker::with(&["session.expiry_v3=2s"]);
    for version in [3, V311] {
        let connect = Connect::of(version, "s").persistent();
        let mut s = connect.open(&broker);
        s.subscribe("t", 1);
        s.disconnect();
        std::thread::sleep(ms(3500));
        let mut s = connect.open(&broker);
        assert!(!s.session_present);
        broker.v311("p").publish("t", "x", 1);
        s.expect_nothing();
        drop(s);
        Connect::of(version, "s").open(&broker).disconnect();
    }
}

#[test]
fn a_takeover_closes_the_old_connection_and_keeps_the_session() {
    let broker = Broker::start();
    for (old, new) in VERSIONS.into_iter().flat_map(|o| VERSIONS.map(|n| (o, n))) {
        let mut s = Connect::of(old, "s").persistent().manual().open(&broker);
        s.subscribe("t", 1);
        let mut p = broker.v311("p");
        p.publish("t", "1", 1);
        let first = s.expect_payload("1");
        let mut taken = Connect::of(new, "s").persistent().manual().open(&broker);
        assert!(taken.resumed(), "{old} to {new}");
        s.expect_disconnect(&[0x8e]);
        let again = taken.expect_payload("1");
        assert_eq!((again.id, again.dup), (first.id, true));
        taken.ack(PUBACK, again.id);
        p.publish("t", "2", 1);
        let m = taken.expect_payload("2");
        taken.ack(PUBACK, m.id);
        taken.ping();
        taken.disconnect();
        Connect::of(new, "s").open(&broker).disconnect();
    }
}

#[test]
fn in_flight_state_of_both_directions_survives_a_crash() {
    let mut broker = Broker::start();
    for version in VERSIONS {
        let connect = Connect::of(version, "s").persistent().manual();
        let mut s = connect.open(&broker);
        s.subscribe("t", 2);
        let mut p = broker.v311("p");
        for n in 0..3 {
            p.publish("t", n.to_string(), 2);
        }
        let m: Vec<Publish> = (0..3).map(|n| s.expect_payload(n.to_string())).collect();
        s.ack(PUBREC, m[0].id);
        s.expect_ack(PUBREL, m[0].id);
        s.ack(PUBREC, m[1].id);
        s.expect_ack(PUBREL, m[1].id);
        s.ack(PUBCOMP, m[0].id);
        // Inbound: 7 received, 8 completed.
        s.send_publish(Publish::new("u", "seven").qos(2).id(7));
        assert!(s.expect_ack(PUBREC, 7) < 0x80);
        s.send_publish(Publish::new("u", "eight").qos(2).id(8));
        assert!(s.expect_ack(PUBREC, 8) < 0x80);
        s.ack(PUBREL, 8);
        assert_eq!(s.expect_ack(PUBCOMP, 8), 0);
        let mut watcher = Connect::v311("watcher").persistent().open(&broker);
        watcher.subscribe("u", 2);
        broker.crash();

        let mut s = connect.open(&broker);
        assert!(s.resumed());
        assert_eq!(s.expect_ack(PUBREL, m[1].id), 0, "received, so never PUBLISH again");
        let again = s.expect_payload("2");
        assert_eq!((again.id, again.dup, again.qos), (m[2].id, true, 2));
        let mut watcher = Connect::v311("watcher").persistent().open(&broker);
        assert!(watcher.session_present);
        s.send_publish(Publish::new("u", "seven").qos(2).id(7).dup());
        assert!(s.wait_ack(PUBREC, 7) < 0x80);
        s.ack(PUBREL, 7);
        assert_eq!(s.wait_ack(PUBCOMP, 7), 0);
        s.send_publish(Publish::new("u", "eight again").qos(2).id(8));
        assert!(s.wait_ack(PUBREC, 8) < 0x80);
        watcher.expect_payload("eight again");
        watcher.expect_nothing_for(ms(20));
        drop(watcher);
        s.disconnect();
        for id in ["s", "watcher"] {
            Connect::of(version, id).open(&broker).disconnect();
        }
    }
}

#[test]
fn messages_that_expire_in_a_queue_are_not_delivered() {
    let mut broker = Broker::start();
    let connect = Connect::v5("s").persistent();
    let mut s = connect.open(&broker);
    s.subscribe("t", 1);
    s.disconnect();
    let mut p = broker.v5("p");
    for (text, expiry) in [("short", 1), ("long", 100), ("short too", 1)] {
        p.publish_as(Publish::new("t", text).qos(1).prop(prop::message_expiry(expiry)));
    }
    p.publish("t", "for ever", 1);
    std::thread::sleep(ms(2200));
    broker.crash();
    let mut s = connect.open(&broker);
    let m = s.expect_payload("long");
    assert!((90..=98).contains(&m.number(prop::MESSAGE_EXPIRY).unwrap()));
    s.expect_payload("for ever");
    s.expect_nothing();
}

#[test]
fn sigterm_tells_v5_clients_and_keeps_their_sessions() {
    let mut broker = Broker::start();
    let connect = Connect::v5("s").persistent();
    let mut s = connect.open(&broker);
    s.subscribe("t", 1);
    let mut old = Connect::v311("old").persistent().open(&broker);
    old.subscribe("t", 1);
    let mut p = broker.v311("p");
    p.publish("t", "x", 1);
    s.expect_payload("x");
    old.expect_payload("x");
    broker.signal_term();
    s.expect_disconnect(&[0x8b]);
    assert_eq!(old.expect_closed(), []);
    assert_eq!(broker.wait_exit(secs(20)).code(), Some(0));
    broker.again();
    assert!(connect.open(&broker).session_present);
    assert!(Connect::v311("old").persistent().open(&broker).session_present);
}

#[test]
fn a_second_connect_on_one_connection_is_an_error() {
    let broker = Broker::start();
    for version in VERSIONS {
        let mut c = broker.client(version, "c");
        c.send(&Connect::of(version, "c").encode());
        c.expect_cut(&[0x82]);
    }
    let mut c = broker.v5("c");
    c.send(&Connect::of(V5, "other").encode());
    let seen = c.expect_closed();
    assert!(!seen.iter().any(|p| matches!(p, Packet::Connack { .. })));
}
