//! Settings that limit what a client may cost.

use crate::support::wire::{self, packet};
use crate::support::{Broker, Connect, Packet, Publish, Read, V5, V311, VERSIONS, ms, secs};
use std::io::Write as _;
use std::process::Stdio;
use std::time::Instant;

#[test]
fn a_silent_socket_is_closed_after_the_time_for_connect() {
    let broker = Broker::with(&["limits.connect_timeout=1s"]);
    let mut silent = broker.socket();
    let mut half = broker.socket();
    half.send_hex("100e00044d515454");
    let start = Instant::now();
    assert_eq!(silent.expect_closed(), []);
    assert_eq!(half.expect_closed(), []);
    let after = start.elapsed();
    assert!(after > ms(700) && after < secs(4), "{after:?}");
    broker.v311("c").ping();
}

#[test]
fn one_packet_may_not_take_for_ever() {
    let broker = Broker::with(&["limits.packet_timeout=1s"]);
    for version in VERSIONS {
        let mut slow = broker.client(version, "slow");
        slow.send_hex("30640001");
        let start = Instant::now();
        // Maximum connect time is the nearest that the standard has.
        slow.expect_cut(&[0xa0, 0x8d]);
        assert!(start.elapsed() > ms(700) && start.elapsed() < secs(4), "{:?}", start.elapsed());
    }
}

#[test]
fn a_connect_may_be_limited_to_less_than_a_publish() {
    let broker = Broker::with(&["mqtt.max_connect_size=1KiB"]);
    let mut c = Connect::v311(&"x".repeat(2000)).send_to(&broker);
    assert_eq!(c.expect_closed(), []);
    let mut p = broker.v311("p");
    p.publish("t", "x".repeat(100_000), 1);
}

#[test]
fn the_number_of_connections_is_limited() {
    let broker = Broker::with(&["limits.max_connections=5"]);
    let mut clients: Vec<_> = (0..5).map(|n| broker.v5(&format!("c{n}"))).collect();
    let mut more = Connect::v5("more").send_to(&broker);
    match more.expect_closed().as_slice() {
        [] | [Packet::Connack { code: 0x80.., .. }] => {}
        other => panic!("{other:?}"),
    }
    clients.iter_mut().for_each(|c| c.ping());
    clients.pop();
    crate::support::wait_until("a place is free", secs(5), || {
        Connect::v311("next").try_open(broker.port(), secs(2)).is_some()
    });
}

#[test]
fn topics_may_be_limited_in_levels_and_length() {
    let broker = Broker::with(&["mqtt.max_topic_levels=4", "mqtt.max_topic_length=20"]);
    let mut s = broker.v5("s");
    assert_eq!(s.subscribe("a/b/c/d", 0), 0);
    assert!(s.subscribe("a/b/c/d/e", 0) >= 0x80);
    assert!(s.subscribe(&"x".repeat(21), 0) >= 0x80);
    assert_eq!(s.publish("a/b/c/d", "x", 1), 0);
    s.expect_payload("x");
    for topic in ["a/b/c/d/e", &"x".repeat(21)] {
        let mut p = broker.v5("p");
        p.send_publish(Publish::new(topic, "x").qos(1).id(1));
        match p.recv() {
            Packet::Ack { code: 0x80.., .. } | Packet::Disconnect { code: 0x80.., .. } => {}
            other => panic!("{topic}: {other:?}"),
        }
    }
}

#[test]
fn subscriptions_of_one_session_are_limited() {
    let broker = Broker::with(&["mqtt.max_subscriptions=3"]);
    for version in VERSIONS {
        let mut s = broker.client(version, "s");
        for n in 0..3 {
            assert_eq!(s.subscribe(&format!("t/{n}"), 1), 1);
        }
        let code = s.subscribe("t/3", 1);
        assert_eq!(code, if version == V5 { 0x97 } else { 0x80 });
        assert_eq!(s.subscribe("t/2", 0), 0, "replacing one is not one more");
        s.unsubscribe("t/0");
        assert_eq!(s.subscribe("t/3", 1), 1);
    }
}

#[test]
fn old_versions_and_empty_ids_may_be_refused() {
    let broker = Broker::with(&["mqtt.allow_v31=false", "mqtt.allow_empty_client_id=false"]);
    let (_, code) = Connect::v31("c").open_any(&broker);
    assert_eq!(code, 1);
    let (_, code) = Connect::v311("").open_any(&broker);
    assert_eq!(code, 2);
    let (_, code) = Connect::v5("").open_any(&broker);
    assert_eq!(code, 0x85);
    broker.v311("c").ping();
}

#[test]
fn a_client_that_does_not_read_costs_bounded_memory_and_slows_nobody() {
    let broker = Broker::with(&["limits.write_timeout=3s"]);
    let mut deaf = Connect::v311("deaf").receive_buffer(8 * 1024).open(&broker);
    deaf.subscribe("t", 0);
    let mut deaf1 = Connect::v5("deaf1").receive_buffer(8 * 1024).open(&broker);
    deaf1.subscribe("t", 1);
    let mut reads = broker.v5("reads");
    reads.subscribe("t", 1);
    let mut p = broker.v311("p");
    p.publish("t", vec![1; 16], 1);
    reads.expect_publish();
    let before = broker.resident_kib();
    let payload = vec![7; 100_000];
    let mut worst = secs(0);
    for _ in 0..1500 {
        let start = Instant::now();
        p.publish("t", &payload, 1);
        assert_eq!(reads.expect_publish().payload.len(), payload.len());
        worst = worst.max(start.elapsed());
    }
    let grown = broker.resident_kib().saturating_sub(before);
    assert!(grown < 200 * 1024, "150 MB went past two deaf clients; memory grew by {grown} KiB");
    assert!(worst < secs(1), "a publish took {worst:?}");
    // They come to an end, whether by the write timeout or because they are too far behind. Reading would help them.
    broker.wait_log(&["\"deaf\"", "disconnected"]);
    broker.wait_log(&["\"deaf1\"", "disconnected"]);
    reads.ping();
}

#[test]
fn a_flood_of_pings_or_subscribes_is_answered_or_ended_but_never_hurts_others() {
    let broker = Broker::start();
    let mut other = broker.v311("other");
    for bytes in [[0xc0, 0].repeat(200_000), packet(0x82, &[0, 1, 0, 1, 0x61, 0]).repeat(50_000)] {
        let mut flood = Connect::v311("flood").receive_buffer(8 * 1024).open(&broker);
        let mut writer = flood.writer();
        std::thread::scope(|scope| {
            scope.spawn(move || writer.write_all(&bytes).ok());
            for _ in 0..20 {
                let start = Instant::now();
                other.ping();
                assert!(start.elapsed() < secs(1), "{:?}", start.elapsed());
                std::thread::sleep(ms(10));
            }
            while let Read::Packet(_) = flood.read_packet(ms(300)) {}
        });
        drop(flood);
    }
    assert!(broker.resident_kib() < 300 * 1024);
}

#[test]
fn a_second_process_on_one_data_folder_is_refused_by_name() {
    let broker = Broker::start();
    let mut command = broker.command();
    let port = crate::support::broker::free_port();
    command.args(["--listen", &format!("127.0.0.1:{port}")]).stdin(Stdio::null());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    crate::support::wait_until("the second process ends", secs(15), || child.try_wait().unwrap().is_some());
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(4), "{text}");
    assert!(text.contains(&*broker.data().to_string_lossy()), "the folder must be named: {text}");
    broker.v311("c").ping();
}

#[test]
fn a_listener_without_anonymous_access_takes_nobody_in() {
    let broker = Broker::prepare(&[]);
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_nightjar"));
    command.arg("serve").arg("--data").arg(broker.data()).args(["--listen", "0.0.0.0:0"]);
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("anonymous"));
}

#[test]
fn a_connection_that_never_finishes_its_first_packet_holds_no_memory() {
    let broker = Broker::start();
    broker.v311("warm").disconnect();
    let before = broker.resident_kib();
    let mut held: Vec<_> = (0..200)
        .map(|n| {
            let mut c = broker.client([V311, V5][n % 2], &format!("c{n}"));
            // The header of a large PUBLISH and little else.
            c.send(&[0x30, 0x80, 0x80, 0x80, 0x01, 0, 1, 0x61]);
            c
        })
        .collect();
    let grown = broker.resident_kib().saturating_sub(before);
    assert!(grown < 64 * 1024, "memory grew by {grown} KiB for what was only announced");
    held.clear();
    assert_eq!(wire::varint(2 * 1024 * 1024), [0x80, 0x80, 0x80, 0x01]);
}
