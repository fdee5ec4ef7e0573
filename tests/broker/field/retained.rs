//! F17 to F21: retained messages.

use super::CONNECT_V311;
use crate::support::wire::PUBACK;
use crate::support::{Broker, Connect, Packet, Publish, Read, V5, VERSIONS, hex, ms, prop, secs};
use std::collections::HashSet;
use std::time::{Duration, Instant};

#[test]
fn f17_an_empty_retained_message_is_forwarded_and_deletes() {
    let mut broker = Broker::start();
    for version in VERSIONS {
        for qos in 0..=2 {
            let mut s = broker.client(version, "s");
            s.subscribe("t", 2);
            let mut p = broker.client(version, "p");
            p.retain("t", "x", qos);
            assert!(!s.expect_payload("x").retain);
            if qos == 0 {
                p.send(&if version == V5 { hex("310400017400") } else { hex("3103000174") });
                p.ping();
            } else {
                p.retain("t", "", qos);
            }
            assert!(!s.expect_payload("").retain);
            let mut n = broker.client(version, "n");
            n.subscribe("t", 2);
            n.expect_nothing();
        }
    }
    broker.restart();
    let mut n = broker.v311("n");
    n.subscribe("t", 2);
    n.expect_nothing();
    broker.crash();
    let mut n = broker.v5("n");
    n.subscribe("#", 2);
    n.expect_nothing();
}

#[test]
fn f18_the_expiry_interval_counts_down_over_a_restart() {
    let mut broker = Broker::start();
    let start = Instant::now();
    let mut p = broker.v5("p");
    let queued = Connect::v5("queued").persistent();
    let mut s = queued.open(&broker);
    s.subscribe("q", 1);
    s.disconnect();
    p.publish_as(Publish::new("t", "x").qos(1).retain().prop(prop::message_expiry(100)));
    for n in 0..2 {
        p.publish_as(Publish::new("q", n.to_string()).qos(1).prop(prop::message_expiry(100)));
    }
    std::thread::sleep(secs(3));
    let left = |m: &Publish| m.number(prop::MESSAGE_EXPIRY).expect("expiry passed on");
    let check = |m: &Publish| {
        let gone = start.elapsed().as_secs() as u32;
        assert!((100 - gone - 1..=100 - gone + 1).contains(&left(m)), "{} left after {gone} s", left(m));
        assert!(left(m) <= 98);
    };
    let mut n = broker.v5("n");
    n.subscribe("t", 1);
    check(&n.expect_payload("x"));
    broker.terminate();
    std::thread::sleep(secs(4));
    broker.again();
    let mut n = broker.v5("n");
    n.subscribe("t", 1);
    let m = n.expect_payload("x");
    check(&m);
    assert!(left(&m) <= 94, "the time that the broker was down counts");
    let mut s = queued.open(&broker);
    for n in 0..2 {
        check(&s.expect_payload(n.to_string()));
    }
    // 3.1.1 subscribers get it without the property, and not after its time.
    let mut old = broker.v311("old");
    broker.v5("p").publish_as(Publish::new("short", "y").qos(1).retain().prop(prop::message_expiry(1)));
    std::thread::sleep(ms(2100));
    old.subscribe("short", 1);
    old.expect_nothing();
}

#[test]
fn f19_retain_handling_decides_about_each_copy() {
    let mut broker = Broker::start();
    broker.v311("r").retain("t", "x", 1);
    let connect = Connect::v5("a").persistent();
    let mut a = connect.open(&broker);
    let mut p = broker.v311("p");
    let mut try_handling = |a: &mut crate::support::Client, handling: u8, copy: bool| {
        assert_eq!(a.subscribe("t", handling << 4 | 1), 1);
        if copy {
            assert!(a.expect_payload("x").retain, "retain handling {handling}");
        }
        // The subscription goes on: one publication, one copy [MQTT-3.8.4-4].
        p.publish("t", "live", 1);
        assert!(!a.expect_payload("live").retain);
        a.expect_nothing_for(ms(20));
    };
    for (handling, copy) in [(0, true), (0, true), (1, false), (2, false)] {
        try_handling(&mut a, handling, copy);
    }
    a.unsubscribe("t");
    for (handling, copy) in [(1, true), (1, false)] {
        try_handling(&mut a, handling, copy);
    }
    a.unsubscribe("t");
    try_handling(&mut a, 2, false);
    a.disconnect();
    let mut a = connect.open(&broker);
    assert!(a.session_present);
    try_handling(&mut a, 1, false);
    a.disconnect();
    broker.restart();
    let mut a = connect.open(&broker);
    assert!(a.session_present);
    assert_eq!(a.subscribe("t", 0x11), 1);
    a.expect_nothing();
    assert_eq!(a.subscribe("t", 0x01), 1);
    a.expect_payload("x");
}

#[test]
fn f20_a_publish_just_before_an_abrupt_close_is_processed_whole() {
    let broker = Broker::start();
    let mut live = broker.v311("live");
    live.subscribe("t", 0);
    for round in 0..200 {
        let payload = format!("{round:03}");
        let mut client = broker.socket();
        let mut bytes = hex(CONNECT_V311);
        bytes.extend(Publish::new("t", &payload).retain().encode(4));
        client.send(&bytes);
        match round % 3 {
            0 => drop(client),
            1 => client.fin(),
            // An RST may overtake what the broker has not read: then neither side may have it.
            _ => client.rst(),
        }
        // A marker through the same broker: both answers are about the same state.
        let mut last = match live.read_packet(if round % 3 == 2 { ms(50) } else { secs(10) }) {
            Read::Packet(Packet::Publish(m)) => m.text(),
            Read::Timeout => String::new(),
            other => panic!("round {round}: {other:?}"),
        };
        if round % 3 != 2 {
            assert_eq!(last, payload, "round {round}");
        }
        let mut new = broker.v311("new");
        new.subscribe("t", 0);
        if last.is_empty() {
            let Read::Packet(Packet::Publish(m)) = live.read_packet(ms(20)) else { continue };
            last = m.text();
        }
        assert_eq!(new.expect_publish().text(), last, "round {round}");
    }
}

#[test]
fn f21_a_wildcard_subscribe_brings_every_retained_message() {
    const N: usize = 5000;
    let broker = Broker::start();
    let mut p = broker.v5("p");
    for chunk in 0..N / 500 {
        for n in 0..500 {
            p.send_publish(Publish::new(&format!("r/{}", chunk * 500 + n), "x".repeat(100)).qos(1).retain());
        }
        for _ in 0..500 {
            assert!(matches!(p.recv(), Packet::Ack { kind: PUBACK, code: 0 | 0x10, .. }));
        }
    }
    let before = broker.resident_kib();
    std::thread::scope(|scope| {
        let slow = scope.spawn(|| collect(&broker, Connect::v5("slow").manual(), 1, ms(1)));
        let small = scope.spawn(|| collect(&broker, Connect::v311("small").receive_buffer(16 * 1024), 0, ms(0)));
        let mut third = broker.v311("third");
        let mut waits = Vec::new();
        while !slow.is_finished() || !small.is_finished() {
            let start = Instant::now();
            third.ping();
            waits.push(start.elapsed());
            std::thread::sleep(ms(10));
        }
        slow.join().unwrap();
        small.join().unwrap();
        // A loaded machine may be late once or twice; the broker may not.
        waits.sort();
        let (typical, worst) = (waits[waits.len() * 95 / 100], waits[waits.len() - 1]);
        assert!(typical < ms(100) && worst < ms(1000), "a third client waited {typical:?}, at worst {worst:?}");
    });
    let grown = broker.resident_kib().saturating_sub(before);
    assert!(grown < 32 * 1024, "memory grew by {grown} KiB");

    fn collect(broker: &Broker, connect: Connect, qos: u8, pace: Duration) {
        let mut s = connect.open(broker);
        s.send_subscribe(&[("r/#", qos)], &[]);
        let mut seen = HashSet::new();
        while seen.len() < N {
            match s.recv() {
                Packet::Publish(m) => {
                    assert!(m.retain && m.qos == qos);
                    assert!(seen.insert(m.topic.clone()), "{} twice", m.topic);
                    std::thread::sleep(pace);
                    if qos > 0 {
                        s.ack(PUBACK, m.id);
                    }
                }
                Packet::Suback { codes, .. } => assert_eq!(codes, [qos]),
                other => panic!("{other:?}"),
            }
        }
        s.expect_nothing();
    }
}
