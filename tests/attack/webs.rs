//! WebSocket frames and HTTP as no browser sends them.

use crate::arena::{Arena, CANARY, all_closed, is_closed, pour};
use crate::support::wire::packet;
use crate::support::{Connect, Publish, V311, ms, secs, wait_until};
use std::io::Read as _;
use std::net::TcpStream;
use std::thread;
use std::time::Instant;

const UPGRADE: &[u8] = b"GET /mqtt HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";

const TEXT: u8 = 0x81;
const BINARY: u8 = 0x82;
const PING: u8 = 0x89;

/// A masked frame (RFC 6455 section 5.2); the mask is zero, which is as good as any.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = header(first, payload.len() as u64);
    bytes.extend_from_slice(payload);
    bytes
}

fn header(first: u8, length: u64) -> Vec<u8> {
    let mut bytes = vec![first];
    match length {
        0..126 => bytes.push(0x80 | length as u8),
        126..=0xffff => {
            bytes.push(0x80 | 126);
            bytes.extend((length as u16).to_be_bytes());
        }
        _ => {
            bytes.push(0x80 | 127);
            bytes.extend(length.to_be_bytes());
        }
    }
    bytes.extend([0; 4]);
    bytes
}

/// Past the upgrade.
fn upgraded(arena: &Arena) -> TcpStream {
    let stream = arena.socket(arena.port);
    pour(&stream, UPGRADE);
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        (&stream).read_exact(&mut byte).unwrap();
        answer.push(byte[0]);
    }
    assert!(answer.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&answer));
    stream
}

/// Past CONNECT too.
fn inside(arena: &Arena, id: &str) -> TcpStream {
    let stream = upgraded(arena);
    pour(&stream, &frame(BINARY, &Connect::v311(id).user("mallory", Some(CANARY.as_bytes())).encode()));
    let mut answer = [0; 6];
    (&stream).read_exact(&mut answer).unwrap();
    assert_eq!(answer, [0x82, 4, 0x20, 2, 0, 0]);
    stream
}

/// Frames that are no frames.
#[test]
fn frames_that_break_the_rules() {
    let arena = Arena::start("connect_timeout = \"2s\"");
    let goes_on = arena.goes_on();
    let connect = Connect::v311("frames").user("mallory", Some(CANARY.as_bytes())).encode();
    let mut unmasked = frame(BINARY, &connect);
    unmasked[1] &= 0x7f;
    let bad: Vec<(&str, Vec<u8>)> = vec![
        ("unmasked", unmasked),
        ("of 2^63 bytes", header(BINARY, 1 << 63)),
        ("of 2^63 - 1 bytes", header(BINARY, (1 << 63) - 1)),
        ("a gigabyte", header(BINARY, 1 << 30)),
        ("text", frame(TEXT, b"CONNECT, please")),
        ("a fragmented ping", frame(PING & 0x7f, b"x")),
        ("a ping of 126 bytes", frame(PING, &[0; 126])),
        ("a continuation of nothing", frame(0x80, b"x")),
        ("a reserved opcode", frame(0x83, b"x")),
        ("reserved bits", frame(BINARY | 0x70, b"x")),
        ("a second beginning", [frame(2, b"x"), frame(2, b"x")].concat()),
        ("garbage within", frame(BINARY, &[0xff; 100])),
        ("a close of one byte", frame(0x88, &[3])),
    ];
    loop {
        for (what, bytes) in &bad {
            for stream in [upgraded(&arena), inside(&arena, "frames")] {
                pour(&stream, bytes);
                wait_until(what, secs(10), || is_closed(&stream));
            }
        }
        if !goes_on() {
            break;
        }
    }
    arena.wait_log(&["a WebSocket protocol error"]);
    arena.wait_log(&["a WebSocket frame larger than a packet may be"]);
    arena.wait_log(&["a WebSocket text frame [MQTT-6.0.0-1]"]);
    arena.survived(32);
}

/// Pings by the million, and nobody who reads the pongs.
#[test]
fn a_flood_of_pings_without_reading() {
    let arena = Arena::start("connect_timeout = \"3s\"\nwrite_timeout = \"2s\"");
    let goes_on = arena.goes_on();
    let pings = frame(PING, &[7; 125]).repeat(2_000);
    let streams: Vec<_> = (0..6)
        .map(|number| if number < 3 { upgraded(&arena) } else { inside(&arena, &format!("pings-{number}")) })
        .collect();
    thread::scope(|scope| {
        for stream in &streams {
            let (pings, goes_on) = (&pings, &goes_on);
            stream.set_write_timeout(Some(ms(500))).unwrap();
            scope.spawn(move || while goes_on() && pour(stream, pings) {});
        }
        arena.honest_login("late");
    });
    let mut streams = streams;
    all_closed("who pings and does not read", secs(10), &mut streams);
    arena.wait_log(&["WebSocket pings, whose answers it does not read"]);
    arena.survived(48);
}

/// Bytes that mean nothing, as fast as they go, from clients that are let in: each has its turn and no more.
#[test]
fn torrents_from_within() {
    let arena = Arena::start("");
    let goes_on = arena.goes_on();
    let framed = frame(BINARY, &packet(0xc0, &[]).repeat(30_000));
    let plain = packet(0x70, &[0, 9]).repeat(20_000);
    thread::scope(|scope| {
        for number in 0..2 {
            let (arena, goes_on, framed, plain) = (&arena, &goes_on, &framed, &plain);
            scope.spawn(move || {
                let id = format!("torrent-{number}");
                if number % 2 == 0 {
                    let stream = inside(arena, &id);
                    let reader = stream.try_clone().unwrap();
                    thread::spawn(move || std::io::copy(&mut &reader, &mut std::io::sink()));
                    while goes_on() && pour(&stream, framed) {}
                } else {
                    let mut client = arena.mallory(V311, &id);
                    while goes_on() && client.try_send(plain) {}
                }
            });
        }
        arena.honest_login("late");
    });
    arena.survived(128);
}

/// A request whose header does not end, and bodies behind requests that are refused.
#[test]
fn http_without_end() {
    let arena = Arena::start("connect_timeout = \"3s\"");
    let goes_on = arena.goes_on();
    let fields = b"X-Filler: ffffffffffffffffffffffff\r\n".repeat(100);
    let long = [&b"X-Filler: "[..], &[b'f'; 9_000]].concat();
    loop {
        let mut streams = Vec::new();
        for begin in [&b"GET /mqtt HTTP/1.1\r\n"[..], b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"POST /"] {
            for number in 0..20 {
                let stream = arena.socket(arena.port);
                pour(&stream, begin);
                pour(&stream, if number % 2 == 0 { &fields } else { &long });
                streams.push(stream);
            }
        }
        all_closed("HTTP without end", secs(10), &mut streams);
        if !goes_on() {
            break;
        }
    }
    arena.wait_log(&["HTTP: the request's header is too long"]);
    arena.survived(32);
}

/// A request that is refused, and then bytes as fast as they go: the thread that refused it has others to serve.
#[test]
fn a_torrent_behind_a_refusal() {
    let arena = Arena::start("connect_timeout = \"2s\"");
    let torrent = vec![b'x'; 1 << 20];
    let start = Instant::now();
    thread::scope(|scope| {
        for _ in 0..4 {
            let (arena, torrent) = (&arena, &torrent);
            scope.spawn(move || {
                let stream = arena.socket(arena.port);
                pour(&stream, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n");
                // As long as anybody takes it, and at most as long as it takes to see that nothing stops it.
                while pour(&stream, torrent) && start.elapsed() < secs(6) {}
            });
        }
    });
    assert!(start.elapsed() < secs(5), "the torrent was taken for {:?}", start.elapsed());
    arena.honest_login("late");
    arena.survived(32);
}

/// Frames that are begun and never finished: within, one packet may not take for ever either.
#[test]
fn frames_that_are_never_finished() {
    let arena = Arena::start("packet_timeout = \"2s\"");
    let publish = Publish::new("attack/x", vec![0; 100_000]).encode(V311);
    let mut streams: Vec<_> = (0..20).map(|number| inside(&arena, &format!("half-{number}"))).collect();
    for (number, stream) in streams.iter().enumerate() {
        // A frame that is whole with half a packet in it; half a frame; and a first fragment.
        let bytes = match number % 3 {
            0 => frame(BINARY, &publish[..50_000]),
            1 => [header(BINARY, publish.len() as u64), publish[..50_000].to_vec()].concat(),
            _ => frame(BINARY & 0x7f, &publish[..50_000]),
        };
        assert!(pour(stream, &bytes));
    }
    // A ping now and then is no packet.
    for _ in 0..4 {
        for stream in &streams {
            pour(stream, &frame(PING, b"?"));
        }
        thread::sleep(ms(300));
    }
    all_closed("half frames", secs(10), &mut streams);
    arena.wait_log(&["half-1", "one packet took too long to arrive"]);
    // What is small and whole is as good as ever.
    let good = inside(&arena, "good");
    pour(&good, &frame(BINARY, &packet(0xc0, &[])));
    let mut answer = [0; 4];
    (&good).read_exact(&mut answer).unwrap();
    assert_eq!(answer, [0x82, 2, 0xd0, 0]);
    arena.survived(32);
}
