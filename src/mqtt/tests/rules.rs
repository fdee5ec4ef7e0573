//! What the specifications forbid and allow on the wire, rule by rule.
#![allow(clippy::unwrap_used, missing_docs)]

use nightjar_mqtt::{
    Connect, DecodeError, ErrorKind, MAX_PACKET_SIZE, Packet, ReasonCode, Version, connect_version, decode, frame,
};

const ALL: [Version; 3] = [Version::V31, Version::V311, Version::V5];

fn read(bytes: &[u8], version: Version) -> Result<Packet, DecodeError> {
    let frame = frame::peek(bytes, MAX_PACKET_SIZE, version)?.unwrap();
    decode(&frame, version)
}

fn reason(bytes: &[u8], version: Version) -> ReasonCode {
    read(bytes, version).unwrap_err().reason
}

/// A packet of `first` and `body`.
fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    [&[first, u8::try_from(body.len()).unwrap()], body].concat()
}

/// A CONNECT with this name, level, flags, and what follows the keep alive.
fn connect(name: &[u8], level: u8, flags: u8, rest: &[u8]) -> Vec<u8> {
    let length = [0, u8::try_from(name.len()).unwrap()];
    packet(0x10, &[&length, name, &[level, flags, 0, 60], rest].concat())
}

fn read_connect(bytes: &[u8]) -> Result<Connect, DecodeError> {
    read(bytes, Version::V311).map(|packet| match packet {
        Packet::Connect(connect) => *connect,
        other => panic!("{other:?}"),
    })
}

#[test]
fn reserved_types_are_refused_by_the_first_byte() {
    for version in ALL {
        assert_eq!(frame::peek(&[0x00], MAX_PACKET_SIZE, version).unwrap_err().kind, ErrorKind::Malformed);
    }
    assert!(frame::peek(&[0xf0, 0], MAX_PACKET_SIZE, Version::V311).is_err());
    assert!(matches!(read(&[0xf0, 0], Version::V5), Ok(Packet::Auth(_))));
}

#[test]
fn flags_of_the_fixed_header_are_fixed() {
    for version in ALL {
        for kind in 1..=15u8 {
            for flags in 0..16u8 {
                let due = match kind {
                    3 => flags & 6 != 6,
                    6 | 8 | 10 => flags == 2 || (version == Version::V31 && flags == 0xa),
                    1 => flags == 0 || version == Version::V31,
                    15 => flags == 0 && version == Version::V5,
                    _ => flags == 0,
                };
                assert_eq!(frame::peek(&[kind << 4 | flags], 99, version).is_ok(), due, "{version:?} {kind} {flags}");
            }
        }
    }
}

#[test]
fn the_remaining_length_has_four_bytes_at_most() {
    assert!(frame::peek(&[0x30, 0xff, 0xff, 0xff], MAX_PACKET_SIZE, Version::V311).unwrap().is_none());
    assert!(frame::peek(&[0x30, 0xff, 0xff, 0xff, 0x7f], MAX_PACKET_SIZE, Version::V311).unwrap().is_none());
    for version in ALL {
        let error = frame::peek(&[0x30, 0xff, 0xff, 0xff, 0xff], MAX_PACKET_SIZE, version).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Malformed);
    }
    assert_eq!(frame::needed(&[0x30, 0xff, 0xff, 0xff, 0x7f]), Some(MAX_PACKET_SIZE));
    assert_eq!(frame::needed(&[0x30, 0xff, 0xff, 0xff, 0xff]), None);
    // [MQTT-1.5.5-1] is of v5.
    assert!(frame::peek(&[0xc0, 0x80, 0x00], 99, Version::V5).is_err());
    assert!(frame::peek(&[0xc0, 0x80, 0x00], 99, Version::V311).unwrap().is_some());
}

#[test]
fn a_huge_connect_is_refused_before_its_body_arrives() {
    let error = frame::peek(&[0x10, 0xff, 0xff, 0xff, 0x7f], 128 << 10, Version::V311).unwrap_err();
    assert_eq!((error.kind, error.reason), (ErrorKind::TooLarge, ReasonCode::PacketTooLarge));
}

#[test]
fn protocol_name_and_level_choose_the_version() {
    let id = b"\0\x01c";
    for (name, level, version, bridge) in [
        (&b"MQIsdp"[..], 3, Version::V31, false),
        (b"MQIsdp", 0x83, Version::V31, true),
        (b"MQTT", 4, Version::V311, false),
        (b"MQTT", 0x84, Version::V311, true),
    ] {
        let connect = read_connect(&connect(name, level, 2, id)).unwrap();
        assert_eq!((connect.version, connect.bridge), (version, bridge));
    }
    for (name, level) in [(&b"MQTT"[..], 6), (b"MQTT", 3), (b"MQTT", 0), (b"MQTT", 0x85), (b"MQIsdp", 4)] {
        let bytes = connect(name, level, 2, id);
        let error = read_connect(&bytes).unwrap_err();
        assert_eq!(error.kind, ErrorKind::UnsupportedVersion, "{level}");
        assert_eq!(error.reason, ReasonCode::UnsupportedProtocolVersion);
    }
    for name in [&b"mqtt"[..], b"", b"HTTP"] {
        assert_eq!(read_connect(&connect(name, 4, 2, id)).unwrap_err().kind, ErrorKind::Malformed);
    }
    // A CONNECT that fails further on can still be answered in its version.
    let bytes = connect(b"MQTT", 5, 0x03, b"\0\0\0");
    let frame = frame::peek(&bytes, MAX_PACKET_SIZE, Version::V311).unwrap().unwrap();
    assert_eq!(connect_version(&frame), Some(Version::V5));
}

#[test]
fn connect_flags_fit_together() {
    let id = b"\0\x01c";
    // Reserved bit, will QoS 3, will QoS and will retain without a will, password without a user name.
    let will = b"\0\x01c\0\x01t\0\x01x";
    assert!(read_connect(&connect(b"MQTT", 4, 0x03, id)).is_err());
    assert!(read_connect(&connect(b"MQTT", 4, 0x1e, will)).is_err());
    assert!(read_connect(&connect(b"MQTT", 4, 0x0a, id)).is_err());
    assert!(read_connect(&connect(b"MQTT", 4, 0x22, id)).is_err());
    assert!(read_connect(&connect(b"MQTT", 4, 0x42, b"\0\x01c\0\x01p")).is_err());
    assert!(read_connect(&connect(b"MQTT", 4, 0x36, will)).unwrap().will.unwrap().retain);
    // v5 allows a password alone.
    let connect = read_connect(&connect(b"MQTT", 5, 0x42, b"\0\0\x01c\0\x01p")).unwrap();
    assert_eq!((connect.username, connect.password), (None, Some(b"p".to_vec())));
}

#[test]
fn in_3_1_announced_credentials_may_be_missing() {
    let plain = read_connect(&connect(b"MQIsdp", 3, 0xc2, b"\0\x01c")).unwrap();
    assert_eq!((plain.username, plain.password), (None, None));
    let named = read_connect(&connect(b"MQIsdp", 3, 0xc2, b"\0\x01c\0\x01u")).unwrap();
    assert_eq!((named.username.as_deref(), named.password), (Some("u"), None));
    assert!(read_connect(&connect(b"MQTT", 4, 0xc2, b"\0\x01c")).is_err());
}

#[test]
fn a_will_topic_is_a_topic_name() {
    for (topic, reason) in [
        (&b"\0\x03a/#"[..], ReasonCode::TopicNameInvalid),
        (b"\0\x00", ReasonCode::TopicNameInvalid),
        (b"\0\x01\0", ReasonCode::MalformedPacket),
    ] {
        let rest = [b"\0\x01c", topic, b"\0\x01x"].concat();
        assert_eq!(read_connect(&connect(b"MQTT", 4, 0x06, &rest)).unwrap_err().reason, reason);
    }
}

#[test]
fn connect_properties_have_their_ranges() {
    let with = |block: &[u8]| {
        let length = [u8::try_from(block.len()).unwrap()];
        read_connect(&connect(b"MQTT", 5, 2, &[&length, block, b"\0\x01c"].concat()))
    };
    for block in [
        &[0x21, 0, 0][..],   // receive maximum 0
        &[0x27, 0, 0, 0, 0], // maximum packet size 0
        &[0x19, 2],          // request response information 2
        &[0x17, 2],          // request problem information 2
        &[0x16, 0, 1, 9],    // authentication data without a method
    ] {
        assert_eq!(with(block).unwrap_err().reason, ReasonCode::ProtocolError, "{block:?}");
    }
    for block in [
        &[0x7e, 0][..],
        &[0x21, 0],
        &[0x80, 0x01],
        &[0x26, 0, 1, 0xff, 0, 0],
        &[0x24, 1],          // maximum QoS is the server's
        &[0x02, 0, 0, 0, 1], // message expiry belongs into the will
        &[0x18, 0, 0, 0, 1], // so does the will delay
    ] {
        assert_eq!(with(block).unwrap_err().reason, ReasonCode::MalformedPacket, "{block:?}");
    }
    assert_eq!(with(&[]).unwrap().properties, nightjar_mqtt::property::ConnectProperties::default());
    assert_eq!(with(&[0x11, 0xff, 0xff, 0xff, 0xff]).unwrap().properties.session_expiry, u32::MAX);
}

#[test]
fn packet_identifiers_are_not_0() {
    for version in ALL {
        for first in [0x40, 0x50, 0x62, 0x70] {
            assert_eq!(reason(&packet(first, &[0, 0]), version), ReasonCode::ProtocolError);
        }
    }
    assert_eq!(reason(&packet(0x32, b"\0\x01t\0\0x"), Version::V311), ReasonCode::ProtocolError);
    assert_eq!(reason(&packet(0x82, b"\0\0\0\x01t\0"), Version::V311), ReasonCode::ProtocolError);
    assert_eq!(reason(&packet(0xa2, b"\0\0\0\x01t"), Version::V311), ReasonCode::ProtocolError);
}

#[test]
fn subscribe_and_unsubscribe_name_a_filter() {
    for first in [0x82, 0xa2] {
        assert_eq!(reason(&packet(first, &[0, 1]), Version::V311), ReasonCode::ProtocolError);
        assert_eq!(reason(&packet(first, &[0, 1, 0]), Version::V5), ReasonCode::ProtocolError);
    }
}

#[test]
fn a_subscription_identifier_is_not_0_and_never_a_publishers() {
    assert_eq!(reason(&packet(0x82, b"\0\x01\x02\x0b\0\0\x01t\0"), Version::V5), ReasonCode::ProtocolError);
    assert_eq!(reason(&packet(0x82, b"\0\x01\x04\x0b\x01\x0b\x02\0\x01t\0"), Version::V5), ReasonCode::ProtocolError);
    let publish = packet(0x30, b"\0\x01t\x02\x0b\x05x");
    let frame = frame::peek(&publish, 99, Version::V5).unwrap().unwrap();
    assert_eq!(nightjar_mqtt::decode_publish(&frame, Version::V5).unwrap_err().reason, ReasonCode::ProtocolError);
    assert!(nightjar_mqtt::decode_publish_from_server(&frame, Version::V5).is_ok());
}

#[test]
fn dup_needs_an_acknowledged_publish() {
    let publish = packet(0x38, b"\0\x01t");
    assert_eq!(reason(&publish, Version::V311), ReasonCode::MalformedPacket);
    assert!(read(&publish, Version::V31).is_ok());
}

#[test]
fn nothing_follows_the_end_of_a_packet() {
    for version in ALL {
        for bytes in [&[0xc0, 1, 0][..], &[0xd0, 1, 0]] {
            assert_eq!(reason(bytes, version), ReasonCode::MalformedPacket);
        }
    }
    for bytes in [&[0xe0, 1, 0][..], &[0x40, 3, 0, 1, 0], &[0x20, 3, 0, 0, 0], &[0xb0, 3, 0, 1, 0]] {
        assert_eq!(reason(bytes, Version::V311), ReasonCode::MalformedPacket);
    }
    assert!(read_connect(&connect(b"MQTT", 4, 2, b"\0\x01c\0")).is_err());
    assert_eq!(reason(&packet(0xe0, &[0, 0, 0]), Version::V5), ReasonCode::MalformedPacket);
}

#[test]
fn short_forms_of_v5_leave_out_what_is_a_success() {
    for (bytes, code) in [
        (&[0x40, 2, 0, 1][..], ReasonCode::Success),
        (&[0x40, 3, 0, 1, 0x10], ReasonCode::NoMatchingSubscribers),
        (&[0x40, 4, 0, 1, 0x10, 0], ReasonCode::NoMatchingSubscribers),
    ] {
        assert!(matches!(read(bytes, Version::V5).unwrap(), Packet::PubAck(ack) if ack.reason == code));
    }
    for (bytes, code) in [(&[0xe0, 0][..], ReasonCode::Success), (&[0xe0, 1, 4], ReasonCode::DisconnectWithWill)] {
        assert!(matches!(read(bytes, Version::V5).unwrap(), Packet::Disconnect(end) if end.reason == code));
    }
}

#[test]
fn reason_codes_belong_to_their_packet() {
    for bytes in [&[0x40, 3, 0, 1, 0x92][..], &[0x62, 3, 0, 1, 0x10], &[0xe0, 1, 0x01], &[0xe0, 1, 0x7f]] {
        assert_eq!(reason(bytes, Version::V5), ReasonCode::MalformedPacket);
    }
}
