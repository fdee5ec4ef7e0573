//! Guessing who one might be.

use crate::arena::{ATTACKER, Arena, BALANCER, CANARY, from, is_closed, pour};
use crate::support::{Client, Connect, Packet, Read, Stream, V5, V311, ms, secs, wait_until};
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// Wrong passwords from many addresses, for users that there are and that there are not.
#[test]
fn a_flood_of_wrong_passwords() {
    let arena = Arena::with("", "");
    let goes_on = arena.goes_on();
    let codes: [AtomicUsize; 256] = std::array::from_fn(|_| AtomicUsize::new(0));
    let count = |code: usize| codes[code].load(Ordering::SeqCst);
    // Until somebody is banned, at least.
    let goes_on = || goes_on() || count(0x8a) == 0;
    thread::scope(|scope| {
        for thread in 0..8_u8 {
            let (arena, goes_on, codes) = (&arena, &goes_on, &codes);
            scope.spawn(move || {
                for number in 0_u32.. {
                    if !goes_on() {
                        break;
                    }
                    let source = Ipv4Addr::new(127, 0, 1 + thread, 1 + (number % 200) as u8);
                    let user = if number % 2 == 0 { "mallory".to_owned() } else { format!("nobody-{number}") };
                    let mut client = Client::over(Stream::Tcp(from(source, arena.port).unwrap()), V5);
                    let password = format!("{CANARY}-{number}");
                    client.try_send(&Connect::v5("guess").user(&user, Some(password.as_bytes())).encode());
                    match client.read_packet(secs(20)) {
                        Read::Packet(Packet::Connack { code, .. }) => {
                            codes[usize::from(code)].fetch_add(1, Ordering::SeqCst)
                        }
                        other => panic!("{other:?}"),
                    };
                }
            });
        }
        while goes_on() {
            arena.honest_login("late");
            thread::sleep(ms(50));
        }
    });
    assert_eq!(count(0), 0);
    assert!(count(0x86) > 0, "wrong");
    assert!(count(0x8a) > 0, "banned");
    arena.wait_log(&["refused", "127.0.", "mallory"]);
    // Two hashes at a time, of 19 MiB each, and what the allocator keeps of them.
    arena.survived(96);
}

/// User names of 64 KiB, each of them new: what is remembered of those who failed is small.
#[test]
fn long_names_that_are_wrong_are_not_kept() {
    let arena = Arena::start("");
    let goes_on = arena.goes_on();
    let name = "x".repeat(65_000);
    let mut number = 0_u32;
    while goes_on() || number < 2_000 {
        number += 1;
        let source = Ipv4Addr::new(127, 1, (number / 200) as u8, 1 + (number % 200) as u8);
        let mut client = Client::over(Stream::Tcp(from(source, arena.port).unwrap()), V311);
        client.try_send(&Connect::v311("long").user(&format!("{number}{name}"), None).encode());
        match client.read_packet(secs(20)) {
            Read::Packet(Packet::Connack { code: 1.., .. }) => {}
            other => panic!("{other:?}"),
        }
    }
    assert!(arena.log().len() < 4 * 1024 * 1024 + number as usize * 1_000, "long names fill the log");
    arena.survived(48);
}

/// PROXY headers that are forged, malformed, too long or never end.
#[test]
fn proxy_headers_that_are_forged() {
    let arena = Arena::start("connect_timeout = \"2s\"");
    let connect = Connect::v311("proxied").user("mallory", Some(CANARY.as_bytes())).encode();
    let header = b"PROXY TCP4 10.9.9.9 127.0.0.1 1000 1883\r\n";
    // From somebody who is not believed; where no header is expected; and from the balancer, in vain.
    for (source, port) in [(ATTACKER, arena.proxy_port), (BALANCER, arena.port)] {
        let stream = from(source, port).unwrap();
        pour(&stream, header);
        pour(&stream, &connect);
        wait_until("it is closed", secs(10), || is_closed(&stream));
    }
    let signature = b"\r\n\r\n\0\r\nQUIT\n";
    let long = [&signature[..], &[0x21, 0x11, 0xff, 0xff], &[0; 2_000]].concat();
    let short = [&signature[..], &[0x21, 0x11, 0, 4], &[10, 9, 9, 9]].concat();
    for header in
        [&long[..], &short, b"PROXY TCP4 \r\n", b"PROXY TCP4 10.9.9.9.9 1 2 3\r\n", &[b'P'; 600], b"PROXY", &connect]
    {
        let streams: Vec<_> = (0..50).map(|_| from(BALANCER, arena.proxy_port).unwrap()).collect();
        for stream in &streams {
            pour(stream, header);
        }
        wait_until("all are closed", secs(10), || streams.iter().all(is_closed));
    }
    // An honest one is believed.
    let mut client = Client::over(Stream::Tcp(from(BALANCER, arena.proxy_port).unwrap()), V311);
    client.send(header);
    client.send(&connect);
    assert!(matches!(client.read_packet(secs(10)), Read::Packet(Packet::Connack { code: 0, .. })));
    arena.wait_log(&["127.0.0.2", "only trusted_proxies may connect here"]);
    arena.wait_log(&["127.0.0.3", "PROXY protocol: its header is too long"]);
    arena.wait_log(&["10.9.9.9", "proxied"]);
    arena.survived(32);
}
