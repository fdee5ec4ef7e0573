//! What a client that got in can do with packets.

use crate::arena::{Arena, CANARY};
use crate::support::wire::{PUBACK, PUBREC, PUBREL, packet};
use crate::support::{Connect, Packet, Publish, Read, V5, V311, Will, ms, prop, secs};

/// Subscribes to everything and reads nothing.
#[test]
fn a_reader_that_does_not_read() {
    let arena = Arena::start("write_timeout = \"3s\"\noutbox_max = \"4MiB\"");
    let goes_on = arena.goes_on();
    let mut deaf: Vec<_> = (0..3).map(|number| arena.mallory(V5, &format!("deaf-{number}"))).collect();
    for (qos, client) in deaf.iter_mut().enumerate() {
        client.subscribe("#", qos as u8);
    }
    let mut loud = arena.mallory(V311, "loud");
    let payload = vec![b'x'; 50_000];
    let mut sent = 0;
    while goes_on() || sent < 400 {
        loud.publish("attack/loud", &payload, 1);
        sent += 1;
    }
    for number in 0..3 {
        arena.wait_log(&[&format!("deaf-{number}"), "disconnected", "reason"]);
    }
    arena.survived(160);
}

/// More than is allowed, in every field that has a length.
#[test]
fn oversize_everything() {
    let arena =
        Arena::with("", "[mqtt]\nmax_packet_size = \"256KiB\"\nmax_user_properties = 16\nmax_topic_levels = 32");
    let goes_on = arena.goes_on();
    let long = "u".repeat(65_535);
    loop {
        // CONNECT: larger than it may be as a whole, and as large as it may be in one field.
        for connect in [
            Connect::v5(&long).user(&long, Some(&[b'p'; 65_535])),
            Connect::v5("big").will(Will::new(&long, vec![0; 65_535])),
            Connect::v5("").user(&long, Some(CANARY.as_bytes())),
            (0..100).fold(Connect::v5("props"), |connect, _| connect.prop(prop::user("k", "v"))),
        ] {
            let mut client = arena.peer(V5);
            client.try_send(&connect.encode());
            match client.read_packet(secs(15)) {
                Read::Closed | Read::Packet(Packet::Connack { code: 0x80.., .. }) => {}
                other => panic!("{other:?}"),
            }
        }
        let deep = "a/".repeat(5_000);
        let many = (0..200).fold(Publish::new("attack/p", "x"), |publish, _| publish.prop(prop::user("k", "v")));
        for (bytes, codes) in [
            (Publish::new("attack/x", vec![0; 300 * 1024]).encode(V5), &[0x95][..]),
            (vec![0x30, 0xff, 0xff, 0xff, 0x7f], &[0x95]),
            (many.encode(V5), &[0x83, 0x95, 0x97]),
            (Publish::new(&deep, "x").encode(V5), &[0x90]),
            (Publish::new("attack/a", "x").prop(prop::topic_alias(65_535)).encode(V5), &[0x94]),
            (Publish::new("", "x").prop(prop::topic_alias(1)).encode(V5), &[0x82, 0x94]),
        ] {
            let mut client = arena.mallory(V5, "big");
            client.try_send(&bytes);
            match client.expect_closed().as_slice() {
                [] => {}
                [Packet::Disconnect { code, .. }] if codes.contains(code) => {}
                other => panic!("{:x?}… met {other:?}", &bytes[..8]),
            }
        }
        if !goes_on() {
            break;
        }
    }
    arena.wait_log(&["big", "0x94"]);
    arena.survived(160);
}

/// All the aliases that a client may have, each with a topic as long as can be.
#[test]
fn aliases_of_long_topics() {
    let arena = Arena::start("");
    let mut clients: Vec<_> = (0..20).map(|number| arena.mallory(V5, &format!("alias-{number}"))).collect();
    for client in &mut clients {
        for alias in 1..=64 {
            let topic = format!("attack/{alias}/{}", "t".repeat(60_000));
            client.send_publish(Publish::new(&topic, "x").prop(prop::topic_alias(alias)));
        }
        client.ping();
        client.send_publish(Publish::new("attack/x", "x").prop(prop::topic_alias(65)));
        client.expect_cut(&[0x94]);
    }
    // 64 topics of 60,000 bytes for 20 clients are 75 MiB, which the allocator may keep for the next ones.
    arena.survived(160);
}

/// As many subscriptions as fit through the door, and filters that match in many ways.
#[test]
fn a_subscription_bomb() {
    let arena = Arena::with("max_subscriptions_total = 3000", "[mqtt]\nmax_subscriptions = 1000");
    let mut codes = [0; 256];
    for bomber in 0..4 {
        let mut client = arena.mallory(V5, &format!("bomb-{bomber}"));
        for round in 0..15 {
            let filters: Vec<String> = (0..100)
                .map(|number| match number % 3 {
                    0 => format!("attack/{round}/{number}"),
                    1 => format!("{}{round}/{number}", "+/".repeat(1 + number % 30)),
                    _ => format!("$share/g{number}/+/{round}/#"),
                })
                .collect();
            let filters: Vec<_> = filters.iter().map(|filter| (filter.as_str(), 1)).collect();
            client.subscribe_many(&filters, &[]).iter().for_each(|code| codes[usize::from(*code)] += 1);
        }
        // It is not forbidden to be there.
        client.ping();
        std::mem::forget(client);
    }
    assert!(codes[0x97] >= 3_000, "{} refused", codes[0x97]);
    assert!(codes[1] <= 3_000 && codes[1] > 2_000, "{} granted", codes[1]);
    arena.survived(64);
}

/// A retained message on one new topic after the other.
#[test]
fn a_retained_bomb() {
    let arena = Arena::start("retained_messages = 1000");
    let goes_on = arena.goes_on();
    let mut client = arena.mallory(V5, "bomb");
    let mut codes = [0; 256];
    let mut number = 0;
    while goes_on() || codes[0x97] < 500 {
        let ids: Vec<_> = (0..100)
            .map(|_| {
                number += 1;
                client.send_publish(Publish::new(&format!("attack/r/{number}"), vec![0; 1_000]).qos(1).retain())
            })
            .collect();
        ids.into_iter().for_each(|id| codes[usize::from(client.wait_ack(PUBACK, id))] += 1);
        assert!(number < 10_000 || codes[0x97] > 0, "nothing is refused");
    }
    let kept: i32 = codes[..0x80].iter().sum();
    assert!(kept <= 1_200, "{kept} kept");
    let mut old = arena.mallory(V311, "old");
    old.send_publish(Publish::new("attack/r/old", "x").qos(1).retain());
    assert_eq!(old.expect_closed(), [], "before version 5 there is no word for it");
    arena.wait_log(&["\"old\"", "0x97"]);
    arena.survived(64);
}

/// Uses up packet identifiers, and answers what was never asked.
#[test]
fn packet_identifiers_used_up() {
    let arena = Arena::with("", "[mqtt]\nreceive_maximum = 100");
    let goes_on = arena.goes_on();
    loop {
        // QoS 2 without ever a PUBREL, beyond the receive maximum.
        let mut greedy = arena.mallory(V5, "greedy");
        for id in 1..=65_535_u16 {
            if !greedy.try_send(&Publish::new("attack/q2", "x").qos(2).id(id).encode(V5)) {
                break;
            }
        }
        let last = greedy.expect_closed().pop();
        assert!(matches!(last, None | Some(Packet::Disconnect { code: 0x93, .. })), "{last:?}");
        // The same identifier again and again.
        let mut same = arena.mallory(V5, "same");
        for _ in 0..5_000 {
            same.send(&Publish::new("attack/q2", "x").qos(2).id(7).dup().encode(V5));
        }
        for _ in 0..5_000 {
            assert!(same.wait_ack(PUBREC, 7) < 0x80);
        }
        // PUBREL for all that there is not.
        let mut unknown = arena.mallory(V5, "unknown");
        let release: Vec<u8> = (1..=65_535_u16).flat_map(|id| packet(0x62, &id.to_be_bytes())).collect();
        let mut writer = unknown.writer();
        let writing = std::thread::spawn(move || std::io::Write::write_all(&mut writer, &release).is_ok());
        let mut answers = 0;
        while let Read::Packet(packet) = unknown.read_packet(ms(500)) {
            assert!(matches!(packet, Packet::Ack { kind: 7, code: 0x92, .. }), "{packet:?}");
            answers += 1;
        }
        writing.join().unwrap();
        assert_eq!(answers, 65_535);
        unknown.ping();
        // Acknowledgements of nothing are no reason for anything.
        for kind in [PUBACK, PUBREC, PUBREL] {
            unknown.ack(kind, 9);
        }
        unknown.ping();
        if !goes_on() {
            break;
        }
    }
    arena.wait_log(&["greedy", "0x93"]);
    arena.survived(64);
}
