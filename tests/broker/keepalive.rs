//! Keep alive beyond the field cases.

use crate::support::{Broker, Connect, VERSIONS, ms, secs, wire};
use std::time::Instant;

#[test]
fn silence_beyond_one_and_a_half_keep_alives_ends_the_connection() {
    let broker = Broker::start();
    std::thread::scope(|scope| {
        for version in VERSIONS {
            let broker = &broker;
            scope.spawn(move || {
                let mut c = Connect::of(version, &format!("c{version}")).keep_alive(1).open(broker);
                let start = Instant::now();
                c.expect_cut(&[0x8d]);
                let after = start.elapsed();
                assert!(after >= ms(1400) && after < secs(4), "cut after {after:?}");
            });
            scope.spawn(move || {
                let mut c = Connect::of(version, &format!("never{version}")).keep_alive(0).open(broker);
                std::thread::sleep(secs(4));
                c.ping();
            });
        }
    });
}

#[test]
fn deliveries_do_not_keep_a_silent_client_alive() {
    let broker = Broker::start();
    let mut c = Connect::v311("c").keep_alive(2).open(&broker);
    c.subscribe("t", 0);
    let mut p = broker.v311("p");
    let start = Instant::now();
    loop {
        p.publish("t", "x", 0);
        match c.read_packet(ms(200)) {
            crate::support::Read::Closed => break,
            _ => assert!(start.elapsed() < secs(8), "only what the client sends counts"),
        }
    }
    assert!(start.elapsed() > ms(2500));
}

#[test]
fn the_operator_may_limit_the_keep_alive_of_v5_clients() {
    let broker = Broker::with(&["mqtt.max_keep_alive=5s"]);
    let c = Connect::v5("c").keep_alive(100).open(&broker);
    assert_eq!(wire::number(&c.connack, wire::prop::SERVER_KEEP_ALIVE), Some(5));
    let c = Connect::v5("c").keep_alive(0).open(&broker);
    assert_eq!(wire::number(&c.connack, wire::prop::SERVER_KEEP_ALIVE), Some(5));
    let c = Connect::v5("c").keep_alive(3).open(&broker);
    assert_eq!(wire::number(&c.connack, wire::prop::SERVER_KEEP_ALIVE), None);
    Connect::v311("old").keep_alive(100).open(&broker).ping();
}
