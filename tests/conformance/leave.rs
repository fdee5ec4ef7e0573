//! Sections 3.12 to 3.15: PINGREQ, DISCONNECT, AUTH.

use crate::raw::{Raw, connect};
use crate::support::wire::{V5, Value, field, packet, prop};
use crate::support::{Broker, Connect, Packet, Prop, Publish, VERSIONS, hex, secs};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

#[test]
fn mqtt_3_12_4_1_every_pingreq_has_its_pingresp() {
    let broker = Broker::start();
    for version in VERSIONS {
        let mut c = broker.client(version, "c");
        c.send(&[0xc0, 0].repeat(50));
        for _ in 0..50 {
            assert_eq!(c.recv(), Packet::Pingresp);
        }
        c.expect_nothing_for(crate::support::ms(10));
    }
}

#[test]
fn mqtt_3_14_0_1_no_disconnect_before_connack() {
    let broker = Broker::start();
    let id = field(b"c");
    let mut tries = vec![
        hex("c000"),
        hex("e000"),
        hex("f000"),
        hex("00"),
        hex("30050001740078"),
        connect(V5, 3, &[&id]),
        connect(V5, 2, &[]),
        connect(V5, 6, &[&id]),
        Connect::v5("c").prop(prop::receive_maximum(0)).encode(),
        Connect::v5("c").prop(prop::topic_alias(1)).encode(),
        Connect::v5("c").prop(Prop(prop::AUTH_METHOD, Value::Text("none".into()))).encode(),
    ];
    let whole = Connect::v5("c").encode();
    tries.push([&whole[..1], &[0xff, 0xff, 0xff, 0x7f], &whole[2..]].concat());
    for bytes in tries {
        let mut c = broker.socket_for(V5);
        c.try_send(&bytes);
        let seen = c.expect_closed_within(secs(30));
        assert!(seen.is_empty() || matches!(seen.as_slice(), [Packet::Connack { code: 0x80.., .. }]), "{seen:?}");
    }
}

#[test]
fn mqtt_3_14_1_1_reserved_bits_of_disconnect_are_malformed() {
    let broker = Broker::start();
    for version in VERSIONS {
        for first in 0xe1..=0xef {
            let mut c = broker.client(version, "c");
            c.send(&[first, 0]);
            c.expect_disconnect(&[0x81]);
        }
    }
}

#[test]
fn mqtt_3_14_2_2_the_broker_sends_no_session_expiry_when_it_disconnects() {
    let mut broker = Broker::start();
    let open = |broker: &Broker| Connect::v5("c").persistent().open(broker);
    let code = |c: &mut crate::support::Client| match c.expect_closed().as_slice() {
        [Packet::Disconnect { code, props }] => {
            assert!(!props.iter().any(|p| p.0 == prop::SESSION_EXPIRY), "{props:?}");
            *code
        }
        other => panic!("{other:?}"),
    };
    let mut old = open(&broker);
    let mut c = open(&broker);
    assert_eq!(code(&mut old), 0x8e);
    c.send_publish(Publish::new("t", "x").prop(prop::subscription_id(1)));
    assert_eq!(code(&mut c), 0x82);
    let mut c = open(&broker);
    broker.signal_term();
    assert_eq!(code(&mut c), 0x8b);
    broker.wait_exit(secs(20));
}

#[test]
fn mqtt_3_14_4_1_nothing_comes_behind_a_disconnect_and_the_connection_ends() {
    let broker = Broker::start();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut p = broker.v311("p");
            let start = Instant::now();
            while !done.load(Ordering::Relaxed) && start.elapsed() < secs(30) {
                (0..50).for_each(|_| _ = p.send_publish(Publish::new("t", "x")));
                p.ping();
            }
        });
        let mut ends = Vec::new();
        for round in 0..300 {
            let connect = Connect::v5("c");
            let mut c = Raw::open(&broker, &if round % 2 == 0 { connect } else { connect.persistent() });
            c.send(&[0x82, 7, 0, 1, 0, 0, 1, b't', 1]);
            c.wait_for(9);
            c.send(&packet(0x30, &[0, 0, 0]));
            let seen = c.until_closed();
            if let Some(at) = seen.iter().position(|p| p[0] == 0xe0) {
                ends.push(seen.len() - at - 1);
            }
        }
        done.store(true, Ordering::Relaxed);
        assert!(ends.len() > 100, "a DISCONNECT tells why: {} of 300", ends.len());
        let behind: Vec<_> = ends.iter().filter(|n| **n > 0).collect();
        assert!(behind.is_empty(), "packets behind {} of {}: {behind:?}", behind.len(), ends.len());
    });
}

#[test]
fn mqtt_3_15_1_1_auth_with_flags_or_without_a_method_ends_the_connection() {
    let broker = Broker::start();
    for first in 0xf1..=0xff {
        let mut c = broker.v5("c");
        c.send(&[first, 0]);
        c.expect_disconnect(&[0x81]);
    }
    // Nobody who did not begin with enhanced authentication may send AUTH [MQTT-4.12.0-7].
    for bytes in ["f000", "f0021800", "f0021900", "f008190615000378 6f6f"] {
        let mut c = broker.v5("c");
        c.send_hex(bytes);
        c.expect_disconnect(&[0x81, 0x82]);
    }
}
