//! Bytes that broke other brokers, as far as the codec alone decides about them. The names begin with the case's id.
#![allow(clippy::unwrap_used, missing_docs)]

use nightjar_mqtt::{
    Connect, DecodeError, Delivery, ErrorKind, MAX_PACKET_SIZE, Packet, PublishParts, QoS, ReasonCode, Version, decode,
    decode_publish, encode_publish, frame, publish_size, topic,
};

const V3: [Version; 2] = [Version::V31, Version::V311];
const ALL: [Version; 3] = [Version::V31, Version::V311, Version::V5];

fn bytes(hex: &str) -> Vec<u8> {
    let hex = hex.replace(' ', "");
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

/// The packet in `hex`, which must be whole.
fn read(hex: &str, version: Version) -> Result<Packet, DecodeError> {
    let bytes = bytes(hex);
    let frame = frame::peek(&bytes, MAX_PACKET_SIZE, version)?.unwrap();
    decode(&frame, version)
}

fn refused(hex: &str, version: Version) -> ReasonCode {
    read(hex, version).unwrap_err().reason
}

fn connect(hex: &str) -> Connect {
    match read(hex, Version::V311).unwrap() {
        Packet::Connect(connect) => *connect,
        other => panic!("{other:?}"),
    }
}

#[test]
fn f01_connect_with_flags_in_the_fixed_header_is_refused() {
    for version in ALL {
        assert_eq!(refused("1f0f00044d5154540402000a0003636964", version), ReasonCode::MalformedPacket);
        assert_eq!(refused("1f1000044d5154540502000a000003636964", version), ReasonCode::MalformedPacket);
    }
}

#[test]
fn f02_a_server_packet_with_flags_is_refused_by_its_first_byte() {
    let stream = bytes("101000044d5154540502003c03210014000029020001e000");
    let first = frame::peek(&stream, MAX_PACKET_SIZE, Version::V5).unwrap().unwrap();
    let Packet::Connect(connect) = decode(&first, Version::V5).unwrap() else { panic!() };
    assert_eq!((connect.properties.receive_maximum, &connect.client_id[..]), (20, ""));
    let error = frame::peek(&stream[first.size..], MAX_PACKET_SIZE, Version::V5).unwrap_err();
    assert_eq!(error.reason, ReasonCode::MalformedPacket);
    // Whole server packets are the broker's to refuse, by their type; without a property length they are malformed.
    assert_eq!(refused("20020000", Version::V5), ReasonCode::MalformedPacket);
    assert!(matches!(read("9003000100", Version::V5), Ok(Packet::SubAck(_))));
    assert!(matches!(read("b003000100", Version::V5), Ok(Packet::UnsubAck(_))));
    assert!(matches!(read("d000", Version::V5), Ok(Packet::PingResp)));
}

#[test]
fn f03_packets_that_may_not_come_first_are_known_by_their_type() {
    assert!(matches!(read("c000", Version::V311), Ok(Packet::PingReq)));
    assert!(matches!(read("e000", Version::V311), Ok(Packet::Disconnect(_))));
    assert!(matches!(read("30050003612f62", Version::V311), Ok(Packet::Publish(_))));
    assert!(matches!(read("820800010003612f6200", Version::V311), Ok(Packet::Subscribe(_))));
}

#[test]
fn f04_a_property_occurs_once() {
    assert_eq!(
        refused("101900044d5154540502003c0a2700000834270000040000027431", Version::V5),
        ReasonCode::ProtocolError
    );
    // Session Expiry Interval, Receive Maximum, Topic Alias Maximum, each twice.
    for (length, properties) in
        [("19", "0a1100000001 1100000001"), ("15", "06210001 210001"), ("15", "06220001 220001")]
    {
        let hex = format!("10{length}00044d5154540502003c{}00027431", properties);
        assert_eq!(refused(&hex, Version::V5), ReasonCode::ProtocolError, "{hex}");
    }
    // Message Expiry Interval twice in a PUBLISH.
    assert_eq!(refused("300f0001740a0200000001020000000178", Version::V5), ReasonCode::ProtocolError);
    // User Property is the exception.
    let Packet::Publish(publish) = read("30130001740e26000161000162260001610001 6278", Version::V5).unwrap() else {
        panic!()
    };
    assert_eq!((publish.properties.len(), &publish.payload[..]), (14, &b"x"[..]));
}

#[test]
fn f05_reserved_subscription_options_are_refused() {
    let subscribe = |options: &str| format!("82090001000003612f62{options}");
    for (options, reason) in [
        ("c0", ReasonCode::MalformedPacket),
        ("40", ReasonCode::MalformedPacket),
        ("80", ReasonCode::MalformedPacket),
        ("03", ReasonCode::ProtocolError),
        ("30", ReasonCode::ProtocolError),
    ] {
        assert_eq!(refused(&subscribe(options), Version::V5), reason, "{options}");
    }
    assert!(read(&subscribe("2e"), Version::V5).is_ok());
    assert_eq!(refused("820800010003612f6204", Version::V311), ReasonCode::MalformedPacket);
    assert_eq!(refused("820800010003612f6203", Version::V311), ReasonCode::MalformedPacket);
    assert_eq!(refused("820800010003612f6203", Version::V31), ReasonCode::MalformedPacket);
}

#[test]
fn f06_a_response_topic_has_no_wildcard() {
    assert_eq!(refused("300c0003612f6206080003612f23", Version::V5), ReasonCode::ProtocolError);
    assert_eq!(refused("300c0003612f6206080003612f2b", Version::V5), ReasonCode::ProtocolError);
    assert!(read("300c0003612f6206080003612f62", Version::V5).is_ok());
    // In a will as well.
    assert_eq!(
        refused("101c00044d5154540506003c0000027431060800 03612f23000174000178", Version::V5),
        ReasonCode::ProtocolError
    );
}

#[test]
fn f08_dup_at_qos_2_is_a_publish_like_any_other() {
    let Packet::Publish(publish) = read("3c06000174000778", Version::V311).unwrap() else { panic!() };
    assert!(publish.dup && publish.qos == QoS::ExactlyOnce && publish.packet_id == 7);
    assert_eq!((&publish.topic[..], &publish.payload[..]), ("t", &b"x"[..]));
    let Packet::PubRel(ack) = read("62020007", Version::V311).unwrap() else { panic!() };
    assert_eq!(ack.packet_id, 7);
}

#[test]
fn f15_an_empty_client_identifier_is_left_to_the_broker() {
    for (hex, version, clean_start) in [
        ("100c00044d5154540400003c0000", Version::V311, false),
        ("100d00044d5154540500003c000000", Version::V5, false),
        ("100c00044d5154540402003c0000", Version::V311, true),
    ] {
        let connect = connect(hex);
        assert_eq!((&connect.client_id[..], connect.version, connect.clean_start), ("", version, clean_start));
    }
}

#[test]
fn f27_no_local_on_a_shared_subscription_is_refused() {
    let hex = "8210000100000a2473686172652f672f7404";
    assert_eq!(refused(hex, Version::V5), ReasonCode::ProtocolError);
    // A faulty $share filter arrives as it was sent, for a reason code of its own; it is no plain filter.
    let Packet::Subscribe(subscribe) = read("820e00010000082473686172652f6700", Version::V5).unwrap() else { panic!() };
    let filter = &subscribe.filters[0].0;
    assert_eq!(topic::parse_filter(filter).unwrap_err().reason, ReasonCode::TopicFilterInvalid);
}

#[test]
fn f29_null_in_a_topic_or_filter_is_malformed() {
    for version in V3 {
        for hex in ["82080001000361006200", "a20700010003610062", "30050003610062"] {
            assert_eq!(refused(hex, version), ReasonCode::MalformedPacket, "{hex}");
        }
    }
    for hex in ["8209000100000361006200", "a2080001000003610062", "3006000361006200"] {
        assert_eq!(refused(hex, Version::V5), ReasonCode::MalformedPacket, "{hex}");
    }
    // The borrowed form leaves the topic to `validate_name`.
    let raw = bytes("30050003610062");
    let frame = frame::peek(&raw, MAX_PACKET_SIZE, Version::V311).unwrap().unwrap();
    let publish = decode_publish(&frame, Version::V311).unwrap();
    assert_eq!(topic::validate_name(publish.topic).unwrap_err().reason, ReasonCode::MalformedPacket);
}

#[test]
fn f34_the_packet_size_counts_the_fixed_header() {
    let size = |payload: usize, qos, properties: &[u8], identifiers: &[u32]| {
        let payload = vec![0; payload];
        let parts = PublishParts { topic: b"a", properties, payload: &payload, expiry: None };
        let delivery = Delivery { qos, packet_id: 1, identifiers, ..Delivery::default() };
        let mut out = Vec::new();
        encode_publish(Version::V5, &parts, &delivery, &mut out);
        assert_eq!(out.len(), publish_size(Version::V5, &parts, &delivery));
        out.len()
    };
    assert_eq!(size(91, QoS::ExactlyOnce, &[], &[]), 99);
    assert_eq!(size(92, QoS::ExactlyOnce, &[], &[]), 100);
    assert_eq!(size(91, QoS::AtMostOnce, &[], &[]), 97);
    assert_eq!(size(91, QoS::AtLeastOnce, &[0x26, 0, 0, 0, 0], &[]), 104);
    assert_eq!(size(91, QoS::AtLeastOnce, &[], &[127, 128]), 104);
    // And on the way in: 99 bytes pass a maximum of 99.
    let mut packet = vec![0x30, 97, 0, 1, b'a'];
    packet.resize(99, 0);
    assert!(frame::peek(&packet, 99, Version::V5).unwrap().is_some());
    assert_eq!(frame::peek(&packet, 98, Version::V5).unwrap_err().kind, ErrorKind::TooLarge);
}

#[test]
fn f36_an_alias_may_stand_for_the_topic() {
    let raw = bytes("300700000323000378");
    let frame = frame::peek(&raw, MAX_PACKET_SIZE, Version::V5).unwrap().unwrap();
    let publish = decode_publish(&frame, Version::V5).unwrap();
    assert_eq!((publish.topic, publish.properties.topic_alias), (&b""[..], Some(3)));
    assert_eq!(publish.properties.forwarded(&mut Vec::new()), b"");
    let Packet::Publish(control) = read("30080001740323000378", Version::V5).unwrap() else { panic!() };
    assert_eq!((&control.topic[..], control.topic_alias), ("t", Some(3)));
    // Neither topic nor alias.
    assert_eq!(refused("300400000078", Version::V5), ReasonCode::ProtocolError);
    for version in V3 {
        assert!(read("3003000078", version).is_err());
    }
}

#[test]
fn f37_alias_0_is_invalid() {
    assert_eq!(refused("30080001740323000078", Version::V5), ReasonCode::TopicAliasInvalid);
}
