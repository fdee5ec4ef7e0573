//! F64 and F65: floods before CONNECT, and a backlog that nobody reads.

use crate::support::broker::free_port;
use crate::support::secrets::Authority;
use crate::support::{Broker, Client, Connect, Packet, Publish, Read, Stream, V311, ms, secs};
use std::time::{Duration, Instant};

#[test]
fn f64_nobody_makes_the_broker_hold_memory_before_connect() {
    const EACH: usize = 200;
    let broker = Broker::with(&["limits.connect_timeout=3s"]);
    broker.v311("warm").disconnect();
    let before = broker.resident_kib();
    let start = Instant::now();
    let mut floods: Vec<Client> = (0..EACH).map(|_| broker.socket()).collect();
    let mut silent: Vec<Client> = (0..EACH).map(|_| broker.socket()).collect();
    let piece = vec![0x61; 64 * 1024];
    let mut worst = Duration::ZERO;
    for round in 0..4 {
        for flood in &mut floods {
            if round == 0 {
                flood.send_hex("10ffffff7f");
            }
            // Once the broker has closed, the write fails: that is what is wanted.
            flood.try_send(&piece);
        }
        let asked = Instant::now();
        broker.v311("normal").disconnect();
        worst = worst.max(asked.elapsed());
        let grown = broker.resident_kib().saturating_sub(before);
        assert!(grown < 64 * 1024, "memory grew by {grown} KiB");
        std::thread::sleep(ms(300));
    }
    for flood in &mut floods {
        assert_eq!(flood.expect_closed_within(secs(2)), [], "closed on the header");
    }
    assert!(worst < secs(1), "a normal client waited {worst:?}");
    for client in &mut silent {
        assert_eq!(client.expect_closed_within(secs(10)), []);
    }
    assert!(start.elapsed() >= secs(3), "the silent ones have the time that the setting says");
}

#[test]
fn f64_the_same_within_websocket_and_tls() {
    const EACH: usize = 60;
    let authority = Authority::new();
    let server = authority.sign("localhost", 1);
    let port = free_port();
    let config = format!(
        "[listeners.main]\naddress = \"127.0.0.1:{{port}}\"\nanonymous = true\n\
         [listeners.tls]\naddress = \"127.0.0.1:{port}\"\nanonymous = true\ncertificate = \"{{folder}}/server.crt\"\n\
         key = \"{{folder}}/server.key\"\n[limits]\nconnect_timeout = \"3s\"\n"
    );
    let files = [("server.crt", server.certificate.as_str()), ("server.key", server.key.as_str())];
    let broker = Broker::configured(&config, &files);
    let ca = authority.certificate();
    broker.v311("warm").disconnect();
    let before = broker.resident_kib();
    let plain = || Stream::tcp(broker.port());
    let tls = || Stream::tcp(port).tls(&ca, None);
    let mut floods = Vec::new();
    let mut silent = Vec::new();
    for n in 0..EACH {
        let stream = match n % 3 {
            0 => plain().websocket(),
            1 => tls(),
            _ => tls().websocket(),
        };
        floods.push(Client::over(stream, V311));
        // Nothing at all, half a handshake, half a request, and an upgrade with nothing behind it.
        let stream = match n % 4 {
            0 => Stream::tcp(port),
            1 => Stream::tcp(port).after(&[0x16, 3, 1, 0x40, 0, 1]),
            2 => plain().after(b"GET /mqtt HTTP/1.1\r\nHost: x\r\n"),
            _ => plain().websocket(),
        };
        silent.push(Client::over(stream, V311));
    }
    // A frame that promises 256 MiB, and one that brings a CONNECT of that size.
    for (n, flood) in floods.iter_mut().enumerate() {
        if n % 3 == 0 {
            let head = [&[0x82, 0xff][..], &(1u64 << 28).to_be_bytes(), &[0; 4]].concat();
            flood.stream().frames().send_raw(&head);
        } else {
            flood.send_hex("10ffffff7f");
        }
        flood.try_send(&vec![0x61; 32 * 1024]);
    }
    let asked = Instant::now();
    broker.v311("normal").disconnect();
    assert!(asked.elapsed() < secs(1), "a normal client waited {:?}", asked.elapsed());
    let grown = broker.resident_kib().saturating_sub(before);
    assert!(grown < 64 * 1024, "memory grew by {grown} KiB");
    for flood in &mut floods {
        flood.expect_closed_within(secs(10));
    }
    for client in &mut silent {
        client.bytes_until_closed();
    }
    broker.v311("after").disconnect();
}

#[test]
fn f65_a_backlog_of_an_absent_session_slows_nobody() {
    const MESSAGES: usize = 20_000;
    const SIZE: usize = 1024;
    let broker = Broker::start();
    for id in ["s1", "s2"] {
        let mut s = Connect::v311(id).persistent().open(&broker);
        s.subscribe("t", 1);
        s.disconnect();
    }
    let mut s2 = Connect::v311("s2").persistent().open(&broker);
    let mut p = broker.v5("p");
    let body = "x".repeat(SIZE - 8);
    let mut tenths = Vec::new();
    let mut resident = Vec::new();
    for _ in 0..10 {
        let start = Instant::now();
        for batch in 0..MESSAGES / 10 / 100 {
            for n in 0..100 {
                let n = batch * 100 + n;
                p.send_publish(Publish::new("t", format!("{n:08}{body}")).qos(1));
            }
            for _ in 0..100 {
                assert!(matches!(p.recv(), Packet::Ack { code: 0, .. }));
            }
            for _ in 0..100 {
                s2.expect_publish();
            }
        }
        tenths.push(start.elapsed().as_secs_f64());
        resident.push(broker.resident_kib());
    }
    let rate = |n: usize| tenths[n].min(tenths[n.saturating_sub(1)]);
    assert!(rate(9) <= 2.0 * rate(1).max(0.05), "times of the tenths: {tenths:?}");
    let grown = resident[9].saturating_sub(resident[1]);
    println!("tenths {tenths:?}, resident KiB {resident:?}");
    // 16 MiB of messages were queued between the two readings and the journal's own buffers may move, but memory must
    // not follow the backlog over the time of several checkpoints.
    assert!(grown < 96 * 1024, "memory grew by {grown} KiB");

    let mut s1 = Connect::v311("s1").persistent().open(&broker);
    assert!(s1.session_present);
    for n in 0..MESSAGES {
        assert_eq!(s1.expect_publish().payload[..8], *format!("{:08}", n % (MESSAGES / 10)).as_bytes());
    }
    assert_eq!(s1.read_packet(ms(100)), Read::Timeout);
}

#[test]
fn f65_the_limit_of_a_queue_is_kept_as_configured() {
    for (policy, kept) in [("drop_oldest", 50..150), ("drop_newest", 0..100)] {
        let broker = Broker::with(&["session.queue_messages=100", &format!("session.queue_overflow={policy}")]);
        let mut s = Connect::v311("s1").persistent().open(&broker);
        s.subscribe("t", 1);
        s.disconnect();
        let mut p = broker.v5("p");
        for n in 0..150 {
            assert_eq!(p.publish("t", n.to_string(), 1), 0);
        }
        let mut s = Connect::v311("s1").persistent().open(&broker);
        for n in kept {
            s.expect_payload(n.to_string());
        }
        s.expect_nothing();
        broker.wait_log(&["s1", "queue"]);
    }
    let broker = Broker::with(&["session.queue_messages=100", "session.queue_overflow=refuse"]);
    let mut s = Connect::v311("s1").persistent().open(&broker);
    s.subscribe("t", 1);
    s.disconnect();
    let mut p = broker.v5("p");
    for n in 0..100 {
        assert_eq!(p.publish("t", n.to_string(), 1), 0);
    }
    assert_eq!(p.publish("t", "too many", 1), 0x97, "quota exceeded");
    let mut s = Connect::v311("s1").persistent().open(&broker);
    for n in 0..100 {
        s.expect_payload(n.to_string());
    }
    s.expect_nothing();
}
