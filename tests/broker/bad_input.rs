//! Malformed and illegal packets: what the specification says, for that connection only.

use crate::support::client::ack_bytes;
use crate::support::wire::{V5, V31, V311, VERSIONS_WITH_NAMES, field, packet, properties, varint};
use crate::support::{Broker, Connect, Packet, Publish, Random, Read, VERSIONS, ms, prop, secs};

/// Sends the bytes on a new, connected client; the broker must close, in v5 perhaps with one of these codes.
#[track_caller]
fn cut(broker: &Broker, version: u8, bytes: &[u8], codes: &[u8]) {
    let mut c = broker.client(version, "bad");
    c.try_send(bytes);
    c.expect_cut(codes);
}

#[test]
fn illegal_publishes() {
    let broker = Broker::start();
    let mut watcher = broker.v311("watcher");
    watcher.subscribe("#", 2);
    for version in VERSIONS {
        let body = |topic: &[u8], id: Option<u16>| {
            let mut b = field(topic);
            b.extend(id.map(u16::to_be_bytes).into_iter().flatten());
            if version == V5 {
                b.push(0);
            }
            b
        };
        let malformed = &[0x81, 0x82, 0x90][..];
        cut(&broker, version, &packet(0x36, &body(b"t", Some(1))), malformed); // QoS 3 [MQTT-3.3.1-4]
        if version > V31 {
            cut(&broker, version, &packet(0x38, &body(b"t", None)), malformed); // DUP at QoS 0 [MQTT-3.3.1-2]
        }
        cut(&broker, version, &packet(0x32, &body(b"t", Some(0))), malformed); // identifier 0 [MQTT-2.2.1-3]
        cut(&broker, version, &packet(0x34, &body(b"t", Some(0))), malformed);
        for topic in [&b"a/#"[..], b"+", b"a/+/b", b"#", b"", b"\xff\xfe", b"a\0b", b"\xed\xa0\x80"] {
            cut(&broker, version, &packet(0x30, &body(topic, None)), malformed);
        }
        cut(&broker, version, &packet(0x30, &[0, 9, 0x61]), malformed); // topic longer than the packet
        cut(&broker, version, &packet(0x32, &[0, 1, 0x61, 0]), malformed); // no room for the identifier
        cut(&broker, version, &packet(0x30, &[]), malformed);
    }
    watcher.expect_nothing();
}

#[test]
fn illegal_fixed_headers() {
    let broker = Broker::start();
    for version in VERSIONS {
        let malformed = &[0x81, 0x82, 0x95][..];
        cut(&broker, version, &[0x00, 0], malformed); // type 0
        cut(&broker, version, &[0xc0, 0xff, 0xff, 0xff, 0xff, 0x01], malformed); // five length bytes
        cut(&broker, version, &[0xc1, 0], malformed); // flags of PINGREQ
        cut(&broker, version, &[0xe1, 0], malformed);
        cut(&broker, version, &packet(0x80, &[0, 1, 0, 1, 0x61, 0]), malformed); // flags of SUBSCRIBE [MQTT-3.8.1-1]
        cut(&broker, version, &packet(0xa0, &[0, 1, 0, 1, 0x61]), malformed);
        cut(&broker, version, &packet(0x60, &[0, 1]), malformed); // flags of PUBREL [MQTT-3.6.1-1]
        cut(&broker, version, &packet(0x41, &[0, 1]), malformed);
        cut(&broker, version, &packet(0xc0, &[1]), malformed); // PINGREQ with a body
        if version != V5 {
            cut(&broker, version, &[0xf0, 0], malformed); // AUTH
            cut(&broker, version, &packet(0xe0, &[0]), malformed);
        }
        cut(&broker, version, &packet(0x40, &[0]), malformed); // half an identifier
        cut(&broker, version, &packet(0x40, &[0, 0]), malformed); // identifier 0
    }
}

#[test]
fn illegal_subscribes() {
    let broker = Broker::start();
    for version in VERSIONS {
        let with = |id: u16, rest: &[u8]| {
            let mut b = id.to_be_bytes().to_vec();
            if version == V5 {
                b.push(0);
            }
            b.extend(rest);
            b
        };
        let malformed = &[0x81, 0x82, 0x8f][..];
        cut(&broker, version, &packet(0x82, &with(0, &[0, 1, 0x61, 0])), malformed);
        cut(&broker, version, &packet(0xa2, &with(0, &[0, 1, 0x61])), malformed);
        cut(&broker, version, &packet(0x82, &with(1, &[0, 1, 0x61])), malformed); // no options byte
        cut(&broker, version, &packet(0x82, &with(1, &[0, 9, 0x61, 0])), malformed);
        cut(&broker, version, &packet(0x82, &with(1, &[0, 2, 0xc3, 0x28, 0])), malformed); // not UTF-8
        cut(&broker, version, &packet(0xa2, &with(1, &[0, 2, 0xff, 0xff])), malformed);
        cut(&broker, version, &packet(0xa2, &with(1, &[0])), malformed);
    }
}

#[test]
fn illegal_property_blocks() {
    let broker = Broker::start();
    let publish = |block: &[u8]| {
        let mut b = field(b"t");
        b.extend(block);
        packet(0x30, &b)
    };
    let malformed = &[0x81, 0x82][..];
    cut(&broker, V5, &publish(&[5]), malformed); // longer than the packet
    cut(&broker, V5, &publish(&[2, 0x7f, 0]), malformed); // unknown
    cut(&broker, V5, &publish(&[1, 0x01]), malformed); // no value
    cut(&broker, V5, &publish(&[3, 0x02, 0, 0]), malformed); // half a value
    cut(&broker, V5, &publish(&[0x80, 0x80, 0x80, 0x80, 0x01]), malformed);
    cut(&broker, V5, &publish(&[4, 0x03, 0, 9, 0x61]), malformed);
    cut(&broker, V5, &publish(&[5, 0x26, 0, 1, 0x61, 0]), malformed); // half a pair
    cut(&broker, V5, &publish(&[5, 0x03, 0, 2, 0xff, 0xff]), malformed);
    cut(&broker, V5, &publish(&[]), malformed); // no block at all
}

/// A CONNECT body by its parts.
fn connect(name: &[u8], level: u8, flags: u8, rest: &[u8]) -> Vec<u8> {
    let mut b = field(name);
    b.extend([level, flags, 0, 60]);
    if level & 0x7f == V5 {
        b.push(0);
    }
    b.extend(rest);
    packet(0x10, &b)
}

#[test]
fn illegal_connects() {
    let broker = Broker::start();
    let id = &[0, 1, 0x63][..];
    let refused = |version: u8, bytes: &[u8]| {
        let mut c = broker.socket_for(version);
        c.try_send(bytes);
        let first = c.read_packet(secs(15));
        assert!(!matches!(first, Read::Packet(Packet::Connack { code: 0, .. })), "accepted {bytes:x?}");
        assert_ne!(first, Read::Timeout, "neither answered nor closed: {bytes:x?}");
        let mut seen = c.expect_closed();
        if let Read::Packet(packet) = first {
            seen.insert(0, packet);
        }
        assert!(seen.len() <= 1, "{seen:?}");
        seen
    };
    for (level, name) in VERSIONS_WITH_NAMES {
        refused(level, &connect(b"MQTX", level, 2, id));
        refused(level, &connect(b"", level, 2, id));
        refused(level, &connect(b"mqtt", level, 2, id));
        refused(level, &connect(name, level, 2, &[])); // no client id
        refused(level, &connect(name, level, 2, &[0, 9, 0x63]));
        refused(level, &connect(name, level, 2, &[0, 1, 0xff]));
        refused(level, &connect(name, level, 2, &[0, 3, 0x61, 0, 0x62]));
        refused(level, &connect(name, level, 2 | 4 | 0x18, &[id, &[0, 1, 0x77, 0, 1, 0x78]].concat())); // Will QoS 3
        refused(level, &connect(name, level, 2 | 4, id)); // a will announced and missing
        refused(level, &connect(name, level, 2, &[id, &[0]].concat())); // a byte too many
        // Version 3.1 has unused bits here, and lets a user name be missing that is announced.
        if level > V31 {
            refused(level, &connect(name, level, 3, id)); // reserved flag [MQTT-3.1.2-3]
            refused(level, &connect(name, level, 2 | 8, id)); // Will QoS without a will [MQTT-3.1.2-13]
            refused(level, &connect(name, level, 2 | 0x20, id)); // Will Retain without a will [MQTT-3.1.2-15]
            refused(level, &connect(name, level, 2 | 0x80, id)); // a user name announced and missing
        }
        if level == V311 {
            refused(level, &connect(name, level, 2 | 0x40, &[id, &[0, 1, 0x70]].concat())); // [MQTT-3.1.2-22]
        }
        refused(level, &packet(0x10, &[]));
    }
    // A level that nobody knows is told so, in the form of 3.1.1 or of v5, or cut [MQTT-3.1.2-2].
    let mut c = broker.socket();
    c.try_send(&connect(b"MQTT", 6, 2, id));
    let bytes = c.bytes_until_closed();
    assert!(matches!(bytes.as_slice(), [] | [0x20, 2, 0, 1] | [0x20, _, 0, 0x84, ..]), "{bytes:x?}");
    refused(V311, &connect(b"MQTT", 3, 2, id));
    refused(V311, &connect(b"MQIsdp", 4, 2, id));
    refused(V311, &connect(b"MQTT", 0, 2, id));
    // The first byte's flags are reserved [MQTT-2.1.3-1]; 3.1 has them unused.
    for (level, name) in VERSIONS_WITH_NAMES {
        let mut bytes = connect(name, level, 2, id);
        bytes[0] |= 2;
        if level > V31 {
            refused(level, &bytes);
        } else {
            let mut c = broker.socket_for(level);
            c.send(&bytes);
            assert!(matches!(c.recv(), Packet::Connack { code: 0, .. }));
        }
    }
    broker.v311("c").ping();
}

#[test]
fn an_illegal_will_topic_is_refused() {
    let broker = Broker::start();
    for version in VERSIONS {
        for topic in ["w/#", "+", ""] {
            let will = crate::support::Will::new(topic, "x");
            let mut c = Connect::of(version, "c").will(will).send_to(&broker);
            let seen = c.expect_closed();
            assert!(!seen.iter().any(|p| matches!(p, Packet::Connack { code: 0, .. })), "{topic:?} in {version}");
        }
    }
}

#[test]
fn acknowledgements_of_nothing_do_no_harm() {
    let broker = Broker::start();
    for version in VERSIONS {
        let mut c = broker.client(version, "c");
        c.subscribe("t", 2);
        for bytes in ["40020bb8", "50020bb8", "70020bb8", "62020bb8"] {
            c.send_hex(bytes);
        }
        // PUBREC and PUBREL of unknown identifiers may be answered; the session goes on.
        c.ping();
        while let Read::Packet(Packet::Ack { .. }) = c.read_packet(ms(100)) {}
        c.publish("t", "x", 2);
        c.expect_payload("x");
        c.expect_nothing_for(ms(10));
    }
}

#[test]
fn an_acknowledgement_of_another_qos_ends_the_connection() {
    let broker = Broker::start();
    let mut publisher = broker.v311("publisher");
    for version in VERSIONS {
        // QoS of the message, and what may not answer it: PUBACK, PUBREC, PUBCOMP.
        for (qos, kinds) in [(1, [5, 7]), (2, [4, 7])] {
            for kind in kinds {
                let mut c = broker.client(version, "c");
                c.auto_ack = false;
                c.subscribe("t", qos);
                publisher.publish("t", "x", qos);
                let packet_id = c.expect_payload("x").id;
                c.send(&ack_bytes(kind, packet_id));
                c.expect_cut(&[0x82]);
            }
        }
    }
}

#[test]
fn random_bytes_cost_only_their_connection() {
    let broker = Broker::start();
    let mut bystander = broker.v311("bystander");
    bystander.subscribe("quiet", 1);
    let mut random = Random(7);
    broker.v311("warm").disconnect();
    let before = broker.resident_kib();
    for round in 0..300 {
        let version = VERSIONS[round % 3];
        let mut c = broker.client(version, &format!("fuzz{}", round % 10));
        let mut bytes: Vec<u8> = (0..random.below(200)).map(|_| random.next() as u8).collect();
        if round % 2 == 0 {
            // Or a good packet with one bit turned over.
            bytes = Publish::new("some/topic", "payload").qos(2).id(9).prop(prop::user("k", "v")).encode(version);
            let at = random.below(bytes.len() as u64) as usize;
            bytes[at] ^= 1 << random.below(8);
        }
        c.try_send(&bytes);
        c.fin();
    }
    bystander.ping();
    let grown = broker.resident_kib().saturating_sub(before);
    assert!(grown < 32 * 1024, "memory grew by {grown} KiB");
    broker.v5("after").ping();
    assert_eq!(varint(321), [0xc1, 0x02]);
    assert_eq!(properties(&[]), [0]);
}

#[test]
fn bytes_after_disconnect_are_not_read() {
    let broker = Broker::start();
    let mut watcher = broker.v311("watcher");
    watcher.subscribe("t", 0);
    for version in VERSIONS {
        let mut c = broker.client(version, "c");
        let mut bytes = vec![0xe0, 0];
        bytes.extend(Publish::new("t", "late").encode(version));
        c.send(&bytes);
        assert_eq!(c.expect_closed_within(secs(5)), []);
    }
    watcher.expect_nothing();
}
