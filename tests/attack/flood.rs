//! Very many connections at once, which do little or nothing.

use crate::arena::{Arena, WORDLESS, all_closed, client_hello, garbage, is_closed, pour};
use crate::support::{Connect, Packet, Random, Read, V5, V311, Will, ms, secs, wait_until};
use std::thread;
use std::time::Instant;

const HALF_A_REQUEST: &[u8] = b"GET /mqtt HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nX: ";

/// Connects and says nothing, or nothing whole: bare, half a WebSocket upgrade, half a TLS handshake.
#[test]
fn silent_sockets_by_the_thousand() {
    let arena = Arena::start("connect_timeout = \"2s\"\nhalf_open = 2000");
    let hello = client_hello();
    let goes_on = arena.goes_on();
    loop {
        let mut silent: Vec<_> = (0..1_500)
            .map(|number| match number % 3 {
                0 => arena.socket(arena.port),
                1 => {
                    let stream = arena.socket(arena.port);
                    pour(&stream, HALF_A_REQUEST);
                    stream
                }
                _ => {
                    let stream = arena.socket(arena.tls_port);
                    pour(&stream, &hello);
                    stream
                }
            })
            .collect();
        arena.honest_login("late");
        all_closed("silent sockets", secs(15), &mut silent);
        if !goes_on() {
            break;
        }
    }
    arena.wait_log(&["refused", "127.0.0.2", "no CONNECT within the time allowed"]);
    arena.survived(96);
}

/// One address may not take all the places of those who have not said who they are.
#[test]
fn silent_sockets_of_one_address_leave_room_for_others() {
    let arena = Arena::start("connect_timeout = \"20s\"\nhalf_open = 300\nconnections_per_address = 200");
    let silent: Vec<_> = (0..1_000).map(|_| arena.socket(arena.port)).collect();
    wait_until("those above the limit are closed", secs(15), || {
        silent.iter().filter(|stream| is_closed(stream)).count() == 800
    });
    for number in 0..10 {
        arena.honest_login(&format!("late-{number}"));
    }
    arena.wait_log(&["refused", "too many connections of this address"]);
    arena.survived(48);
}

/// A byte a second each: no byte is refused, and no packet ever whole.
#[test]
fn slow_dribblers() {
    let arena = Arena::start("connect_timeout = \"3s\"\npacket_timeout = \"2s\"");
    let connect = Connect::v311(&"d".repeat(2_000)).encode();
    // Half of them drip their CONNECT, the others get in and drip a PUBLISH.
    let mut drip: Vec<_> = (0..900).map(|_| arena.socket(arena.port)).collect();
    let mut inside: Vec<_> = (0..100).map(|n| arena.mallory(V311, &format!("drip-{n}"))).collect();
    let publish = [&[0x30, 0xff, 0x7f, 0, 8][..], &b"attack/1".repeat(100)].concat();
    for at in 0..6 {
        for stream in &drip {
            pour(stream, &connect[at..=at]);
        }
        for client in &mut inside {
            client.try_send(&publish[at..=at]);
        }
        thread::sleep(ms(if at < 3 { 1_000 } else { 300 }));
    }
    all_closed("dribblers", secs(10), &mut drip);
    for client in &mut inside {
        assert_eq!(client.expect_closed(), []);
    }
    arena.wait_log(&["127.0.0.2", "no CONNECT within the time allowed"]);
    arena.wait_log(&["drip-0", "one packet took too long to arrive"]);
    arena.survived(64);
}

/// A thousand clients with large wills, all killed in the same moment.
#[test]
fn a_flood_of_wills() {
    let arena = Arena::start("memory_mark = \"1GiB\"");
    let payload = vec![b'w'; 48 * 1024];
    let count = 1_000;
    let mut clients: Vec<_> = (0..count)
        .map(|number| {
            let will = Will::new(&format!("attack/will/{number}"), &payload).qos(1);
            arena.mallory_with(&Connect::v5(&format!("will-{number}")).will(will))
        })
        .collect();
    arena.honest_login("late");
    while let Some(client) = clients.pop() {
        client.rst();
    }
    wait_until("all are gone", secs(30), || arena.log().matches("reset by peer").count() >= count);
    arena.honest_login("later");
    arena.survived(200);
}

/// A will that is larger than wills may be is refused before it costs anything.
#[test]
fn wills_have_a_limit() {
    let arena = Arena::start("max_will_size = \"1KiB\"");
    for number in 0..200 {
        let will = Will::new("attack/will", vec![b'w'; 60 * 1024]).qos(1);
        let connect = Connect::v5(&format!("will-{number}")).will(will).user("mallory", Some(b"x"));
        let mut client = arena.peer(V5);
        client.try_send(&connect.encode());
        assert!(matches!(client.read_packet(secs(15)), Read::Packet(Packet::Connack { code: 0x95, .. })));
    }
    arena.survived(32);
}

/// Two sockets with one client identifier throw each other out, as fast as they can.
#[test]
fn takeover_ping_pong() {
    let arena = Arena::start("takeovers_per_minute = 30");
    let goes_on = arena.goes_on();
    let (mut taken, mut refused) = (0, 0);
    let mut last = None;
    let connect = Connect::v5("pong").user("mallory", Some(crate::arena::CANARY.as_bytes()));
    while goes_on() || refused == 0 {
        let mut client = arena.peer(V5);
        client.send(&connect.encode());
        match client.read_packet(secs(15)) {
            Read::Packet(Packet::Connack { code: 0, .. }) => {
                taken += 1;
                last = Some(client);
            }
            Read::Packet(Packet::Connack { code: 0x89, .. }) => refused += 1,
            other => panic!("{other:?}"),
        }
    }
    assert!(taken >= 2 && refused > 0, "{taken} takeovers, {refused} refused");
    last.unwrap().ping();
    arena.wait_log(&["two clients use one client id", "pong"]);
    arena.survived(48);
}

/// Bytes that mean nothing, before and after CONNECT, in every tongue.
#[test]
fn garbage_on_every_door() {
    let arena = Arena::start("connect_timeout = \"1s\"");
    let goes_on = arena.goes_on();
    let mut random = Random(11);
    let mut rounds = 0;
    while goes_on() || rounds < 50 {
        let port = [arena.port, arena.tls_port][rounds % 2];
        let stream = arena.socket(port);
        let mut bytes = garbage(&mut random, 3_000);
        match rounds % 5 {
            0 => bytes[0] = 0x10,
            1 => bytes[0] = b'G',
            2 => bytes[..3].copy_from_slice(&[0x16, 3, 1]),
            _ => {}
        }
        pour(&stream, &bytes);
        if rounds % 4 == 0 {
            let mut client = arena.mallory(WORDLESS, "garbage");
            client.try_send(&bytes);
            client.fin();
        }
        let start = Instant::now();
        while !is_closed(&stream) && start.elapsed() < secs(10) {
            thread::sleep(ms(2));
        }
        assert!(is_closed(&stream), "round {rounds}");
        rounds += 1;
    }
    arena.wait_log(&["refused", "127.0.0.2"]);
    arena.survived(64);
}
