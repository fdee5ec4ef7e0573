//! F38 and F39: keep alive.

use crate::support::wire::{self, packet};
use crate::support::{Broker, Client, Connect, Packet, Publish, Read, V5, V311, ms, prop, secs};
use std::time::{Duration, Instant};

/// Does something every `pace`, `times` over; the connection must stay.
fn keep_alive_by(client: &mut Client, pace: Duration, times: usize, mut sign: impl FnMut(&mut Client)) {
    for n in 0..times {
        std::thread::sleep(pace);
        sign(client);
        match client.read_packet(ms(300)) {
            Read::Packet(Packet::Pingresp) | Read::Timeout => {}
            other => panic!("after sign {n}: {other:?}"),
        }
    }
}

fn pingreq(client: &mut Client) {
    client.send(&[0xc0, 0]);
}

#[test]
fn f38_a_server_keep_alive_binds_only_those_who_can_be_told() {
    let broker = Broker::with(&["mqtt.server_keep_alive=3s"]);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut old = Connect::v311("old").keep_alive(10).open(&broker);
            keep_alive_by(&mut old, secs(9), 2, pingreq);
        });
        scope.spawn(|| {
            let mut new = Connect::v5("new").keep_alive(10).open(&broker);
            assert_eq!(wire::number(&new.connack, prop::SERVER_KEEP_ALIVE), Some(3));
            keep_alive_by(&mut new, ms(2200), 3, pingreq);
            let start = Instant::now();
            new.expect_cut(&[0x8d]);
            let after = start.elapsed() + ms(300);
            assert!(after > ms(4300) && after < ms(7500), "cut after {after:?}");
        });
    });
}

#[test]
fn f39_nobody_is_cut_before_one_and_a_half_keep_alives() {
    let broker = Broker::with(&["limits.packet_timeout=8s"]);
    let broker = &broker;
    std::thread::scope(|scope| {
        for version in [V311, V5] {
            scope.spawn(move || {
                let mut pings = Connect::of(version, &format!("pings{version}")).keep_alive(4).open(broker);
                keep_alive_by(&mut pings, ms(5200), 3, pingreq);
            });
            scope.spawn(move || {
                let mut publishes = Connect::of(version, &format!("publishes{version}")).keep_alive(4).open(broker);
                keep_alive_by(&mut publishes, ms(5200), 3, |c| {
                    c.send_publish(Publish::new("t", "x"));
                });
            });
            scope.spawn(move || {
                let mut drips = Connect::of(version, &format!("drips{version}")).keep_alive(4).open(broker);
                let bytes = packet(0x30, &[0; 1000]);
                let start = Instant::now();
                for byte in bytes {
                    if !drips.try_send(&[byte]) {
                        break;
                    }
                    match drips.read_packet(secs(1)) {
                        Read::Closed | Read::Packet(Packet::Disconnect { .. }) => break,
                        Read::Timeout => {}
                        other => panic!("{other:?}"),
                    }
                    assert!(start.elapsed() < secs(14), "half a packet was waited for too long");
                }
                assert!(start.elapsed() > ms(5500), "cut after {:?}", start.elapsed());
            });
        }
    });
}
