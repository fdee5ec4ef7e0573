//! F07 to F12: QoS 1 and 2 exchanges, packet identifiers, order.

use crate::support::wire::{PUBACK, PUBCOMP, PUBREC, PUBREL};
use crate::support::{Broker, Client, Connect, Publish, V5, VERSIONS, prop};

#[test]
fn f07_a_qos2_publish_may_be_repeated_any_number_of_times() {
    let broker = Broker::start();
    for version in VERSIONS {
        let mut s = broker.client(version, "s");
        s.subscribe("t", 2);
        let mut p = broker.client(version, "p");
        let first = Publish::new("t", "x").qos(2).id(1);
        p.send_publish(first.clone());
        assert!(p.expect_ack(PUBREC, 1) < 0x80);
        for _ in 0..4 {
            p.send_publish(first.clone().dup());
            assert!(p.expect_ack(PUBREC, 1) < 0x80);
        }
        p.ack(PUBREL, 1);
        assert_eq!(p.expect_ack(PUBCOMP, 1), 0);
        s.expect_payload("x");
        s.expect_nothing();
        p.ping();
    }
}

#[test]
fn f08_dup_on_a_publish_never_seen_before_is_no_reason_to_drop_it() {
    let broker = Broker::start();
    for version in VERSIONS {
        let mut s = broker.client(version, "s");
        s.subscribe("t", 2);
        let mut p = broker.client(version, "p");
        if version == V5 {
            p.send_hex("3c0700017400070078");
        } else {
            p.send_hex("3c06000174000778");
        }
        assert!(p.expect_ack(PUBREC, 7) < 0x80);
        p.send_hex("62020007");
        assert_eq!(p.expect_ack(PUBCOMP, 7), 0);
        assert!(!s.expect_payload("x").dup, "[MQTT-3.3.1-3]");
        p.send_publish(Publish::new("t", "y").qos(1).id(8).dup());
        assert_eq!(p.expect_ack(PUBACK, 8), 0);
        assert!(!s.expect_payload("y").dup);
        s.expect_nothing();
    }
}

#[test]
fn f09_the_two_directions_have_identifiers_of_their_own() {
    let broker = Broker::start();
    let mut b = broker.v311("b");
    for resumed in [false, true] {
        let connect = Connect::v5("a").clean(false).expiry(300).receive_maximum(1).manual();
        let mut a = connect.open(&broker);
        a.subscribe("t", 1);
        b.publish("t", "m1", 1);
        let n = a.expect_payload("m1").id;
        a.send_publish(Publish::new("u", "x").qos(2).id(n));
        assert!(a.expect_ack(PUBREC, n) < 0x80);
        a.ack(PUBREL, n);
        assert_eq!(a.expect_ack(PUBCOMP, n), 0);
        if resumed {
            a.rst();
            a = connect.open(&broker);
            assert!(a.resumed());
            let again = a.expect_payload("m1");
            assert_eq!((again.id, again.dup), (n, true));
        }
        a.ack(PUBACK, n);
        b.publish("t", "m2", 1);
        let m2 = a.expect_payload("m2");
        a.ack(PUBACK, m2.id);
        a.expect_nothing();
        a.disconnect_with(0, &[prop::session_expiry(0)]);
    }
}

#[test]
fn f10_a_resumed_session_keeps_dup_identifiers_and_pubrel() {
    let broker = Broker::start();
    for version in VERSIONS {
        let connect = Connect::of(version, "a").persistent().manual();
        let mut a = connect.open(&broker);
        a.subscribe("t", 1);
        let mut b = broker.v311("b");
        b.publish("t", "x", 1);
        let first = a.expect_payload("x");
        assert!(!first.dup);
        a.rst();
        let mut a = connect.open(&broker);
        assert!(a.resumed());
        let again = a.expect_payload("x");
        assert_eq!((again.id, again.dup), (first.id, true));
        a.ack(PUBACK, again.id);
        a.ping();
        a.unsubscribe("t");
        a.disconnect();

        let mut watcher = broker.v311("watcher");
        watcher.subscribe("q", 2);
        let connect = Connect::of(version, "p").persistent();
        let mut p = connect.open(&broker);
        p.send_publish(Publish::new("q", "y").qos(2).id(5));
        assert!(p.expect_ack(PUBREC, 5) < 0x80);
        p.rst();
        let mut p = connect.open(&broker);
        assert!(p.resumed());
        p.ack(PUBREL, 5);
        assert_eq!(p.expect_ack(PUBCOMP, 5), 0);
        watcher.expect_payload("y");
        watcher.expect_nothing();
        p.disconnect();
        Connect::of(version, "p").open(&broker).disconnect();
        Connect::of(version, "a").open(&broker).disconnect();
    }
}

#[test]
fn f11_retained_messages_go_through_the_in_flight_bookkeeping() {
    let broker = Broker::start();
    broker.v311("p").retain("t", "r", 2);
    for version in VERSIONS {
        let mut connect = Connect::of(version, "s").manual();
        if version == V5 {
            connect = connect.receive_maximum(10);
        }
        let mut s = connect.open(&broker);
        for round in 0..200 {
            assert_eq!(s.subscribe("t", 2), 2, "round {round}");
            let r = s.expect_payload("r");
            assert_eq!((r.qos, r.retain, r.dup), (2, true, false), "round {round}");
            s.ack(PUBREC, r.id);
            assert_eq!(s.expect_ack(PUBREL, r.id), 0, "round {round}");
            s.ack(PUBCOMP, r.id);
        }
        s.expect_nothing();
    }
}

#[test]
fn f12_a_backlog_larger_than_the_window_arrives_in_order() {
    let mut broker = Broker::with(&["session.max_inflight=10"]);
    for (version, cut) in VERSIONS.into_iter().flat_map(|v| [(v, "none"), (v, "rst"), (v, "kill")]) {
        let connect = Connect::of(version, "a").persistent().manual();
        let mut a = connect.open(&broker);
        a.subscribe("t", 1);
        a.disconnect();
        let mut p = broker.v311("p");
        for n in 1..=100 {
            p.publish("t", n.to_string(), 1);
        }
        let mut a = connect.open(&broker);
        assert!(a.resumed());
        let mut next = 1;
        let mut cut = Some(cut);
        while next <= 100 {
            let m = a.expect_publish();
            let n: u32 = m.text().parse().unwrap();
            assert_eq!(n, next, "version {version}, cut {cut:?}");
            a.ack(PUBACK, m.id);
            next = n + 1;
            if n == 37 {
                match cut.take() {
                    Some("rst") => a.rst(),
                    Some("kill") => broker.kill(),
                    _ => continue,
                }
                if !broker.is_running() {
                    broker.again();
                }
                a = connect.open(&broker);
                assert!(a.resumed());
                next = resumed(&mut a, n);
            }
        }
        a.ping();
        a.expect_nothing();
        drop(a);
        Connect::of(version, "a").open(&broker).disconnect();
    }
}

/// Reads the first message after a resume and acknowledges it. The broker may not have seen the last acknowledgements,
/// so it may begin earlier, but then with DUP. Gives the number that must come next.
fn resumed(a: &mut Client, last: u32) -> u32 {
    let m = a.expect_publish();
    let n: u32 = m.text().parse().unwrap();
    assert!(n <= last + 1, "{n} after {last}");
    assert!(m.dup || n > last, "{n} was sent before");
    a.ack(PUBACK, m.id);
    n + 1
}
