//! The codec's properties: nothing panics, what is encoded decodes to itself, and a part of a packet is none.
#![allow(clippy::unwrap_used, missing_docs, unreachable_pub)]

mod strategies;

use nightjar_mqtt::{
    DecodeError, Delivery, ErrorKind, MAX_PACKET_SIZE, Packet, PacketType, PublishParts, QoS, ReasonCode, Version,
    decode, decode_connect, decode_publish, decode_publish_from_server, encode, encode_ack, encode_publish,
    encode_publish_head, frame, publish_size,
};
use proptest::prelude::*;
use strategies::{forwarded, packet, publish, topic_name, version};

fn read(bytes: &[u8], version: Version) -> Result<Option<Packet>, DecodeError> {
    frame::peek(bytes, MAX_PACKET_SIZE, version)?.map(|frame| decode(&frame, version)).transpose()
}

fn written(packet: &Packet, version: Version) -> Vec<u8> {
    let mut out = Vec::new();
    encode(packet, version, &mut out);
    out
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_encoded_decodes_to_itself((version, packet) in packet()) {
        let bytes = written(&packet, version);
        prop_assert_eq!(frame::needed(&bytes), Some(bytes.len()));
        let decoded = read(&bytes, version);
        prop_assert_eq!(decoded, Ok(Some(packet)));
    }

    #[test]
    fn a_prefix_of_a_packet_is_only_incomplete((version, packet) in packet()) {
        let bytes = written(&packet, version);
        let step = (bytes.len() / 200).max(1);
        for end in (0..bytes.len()).step_by(step) {
            prop_assert_eq!(read(&bytes[..end], version), Ok(None));
        }
    }

    #[test]
    fn what_follows_a_packet_is_left_alone((version, packet) in packet(), more in any::<[u8; 3]>()) {
        let mut bytes = written(&packet, version);
        let size = bytes.len();
        bytes.extend(more);
        let frame = frame::peek(&bytes, size, version).unwrap().unwrap();
        prop_assert_eq!(frame.size, size);
        prop_assert_eq!(decode(&frame, version), Ok(packet));
    }

    #[test]
    fn a_packet_larger_than_the_maximum_is_refused_by_its_header((version, packet) in packet()) {
        let bytes = written(&packet, version);
        let header = bytes.iter().skip(1).take_while(|&&byte| byte & 0x80 != 0).count() + 2;
        let error = frame::peek(&bytes[..header], bytes.len() - 1, version).unwrap_err();
        prop_assert_eq!(error.kind, ErrorKind::TooLarge);
        prop_assert_eq!(error.reason, ReasonCode::PacketTooLarge);
    }

    #[test]
    fn a_body_that_is_cut_short_never_panics_and_never_gains((version, packet) in packet()) {
        let bytes = written(&packet, version);
        let whole = frame::peek(&bytes, MAX_PACKET_SIZE, version).unwrap().unwrap();
        let step = (whole.body.len() / 200).max(1);
        for end in (0..whole.body.len()).step_by(step) {
            let cut = frame::Frame { body: &whole.body[..end], ..whole };
            if let Ok(decoded) = decode(&cut, version) {
                prop_assert_ne!(decoded, packet.clone());
            }
        }
    }

    #[test]
    fn a_changed_byte_never_panics((version, packet) in packet(), at in any::<prop::sample::Index>(), to in any::<u8>()) {
        let mut bytes = written(&packet, version);
        let at = at.index(bytes.len());
        bytes[at] = to;
        if let Ok(Some(decoded)) = read(&bytes, version) {
            // What was accepted is a packet like any other, so it survives the way out and in.
            let own = if let Packet::Connect(connect) = &decoded { connect.version } else { version };
            prop_assert_eq!(read(&written(&decoded, own), own), Ok(Some(decoded)));
        }
    }

    #[test]
    fn any_bytes_are_refused_or_survive_the_way_out_and_in(
        version in version(),
        first in any::<u8>(),
        body in prop::collection::vec(any::<u8>(), 0..127),
    ) {
        let mut bytes = vec![first, u8::try_from(body.len()).unwrap()];
        bytes.extend(&body);
        if let Ok(Some(frame)) = frame::peek(&bytes, MAX_PACKET_SIZE, version) {
            let _ = (decode_connect(&frame), decode_publish(&frame, version));
        }
        if let Ok(Some(decoded)) = read(&bytes, version) {
            let own = if let Packet::Connect(connect) = &decoded { connect.version } else { version };
            prop_assert_eq!(read(&written(&decoded, own), own), Ok(Some(decoded)));
        }
        let _ = (read(&body, version), frame::needed(&body));
    }

    #[test]
    fn the_borrowed_publish_is_the_owned_one((version, publish) in version().prop_flat_map(|v| (Just(v), publish(v)))) {
        let bytes = written(&Packet::Publish(publish.clone()), version);
        let frame = frame::peek(&bytes, MAX_PACKET_SIZE, version).unwrap().unwrap();
        let found = decode_publish_from_server(&frame, version).unwrap();
        prop_assert_eq!(found.topic, publish.topic.as_bytes());
        prop_assert_eq!(found.payload, &publish.payload[..]);
        prop_assert_eq!((found.qos, found.retain, found.dup), (publish.qos, publish.retain, publish.dup));
        prop_assert_eq!(found.packet_id, publish.packet_id);
        let mut scratch = vec![1, 2, 3];
        prop_assert_eq!(found.properties.forwarded(&mut scratch), &publish.properties[..]);
        prop_assert_eq!(found.properties.identifiers().collect::<Vec<_>>(), publish.identifiers.clone());
        prop_assert_eq!(found.properties.identifiers, publish.identifiers.len());
        let as_client = decode_publish(&frame, version);
        if publish.identifiers.is_empty() {
            prop_assert_eq!(as_client, Ok(found));
        } else {
            prop_assert_eq!(as_client.unwrap_err().reason, ReasonCode::ProtocolError);
        }
    }

    #[test]
    fn forwarded_properties_are_gathered_from_between_others(
        version in Just(Version::V5),
        blocks in [forwarded_user(), forwarded_user(), forwarded_user()],
    ) {
        // Expiry, alias and identifier lie between user properties; the order of the forwarded ones is kept
        // [MQTT-3.3.2-18].
        let mut body = b"\x00\x01t".to_vec();
        let own: [&[u8]; 3] = [&[0x02, 0, 0, 0, 9], &[0x23, 0, 1], &[0x0b, 5]];
        let block: Vec<u8> = blocks.iter().zip(own).flat_map(|(block, own)| [block, own].concat()).collect();
        prop_assume!(block.len() < 128);
        body.push(u8::try_from(block.len()).unwrap());
        body.extend(&block);
        body.push(b'x');
        let frame = frame::Frame { kind: PacketType::Publish, flags: 0, body: &body, size: body.len() + 2 };
        let found = decode_publish_from_server(&frame, version).unwrap();
        let mut scratch = vec![1];
        prop_assert_eq!(found.properties.forwarded(&mut scratch), blocks.concat());
        prop_assert_eq!(found.properties.message_expiry, Some(9));
        prop_assert_eq!(found.properties.topic_alias, Some(1));
        prop_assert_eq!(found.payload, b"x");
    }

    #[test]
    fn sizes_are_those_of_the_written_packet(
        version in version(),
        topic in topic_name(),
        properties in forwarded(),
        payload in prop::collection::vec(any::<u8>(), 0..300),
        expiry in any::<Option<u32>>(),
        alias in prop::option::of((1..=u16::MAX, any::<bool>())),
        identifiers in prop::collection::vec(1..=268_435_455u32, 0..3),
        qos in 0..3u8,
    ) {
        let parts = PublishParts { topic: topic.as_bytes(), properties: &properties, payload: &payload, expiry };
        let qos = QoS::from_bits(qos).unwrap();
        let delivery = Delivery { qos, packet_id: 9, identifiers: &identifiers, alias, ..Delivery::default() };
        let (mut whole, mut head) = (Vec::new(), Vec::new());
        encode_publish(version, &parts, &delivery, &mut whole);
        encode_publish_head(version, &parts, &delivery, &mut head);
        prop_assert_eq!(whole.len(), publish_size(version, &parts, &delivery));
        prop_assert_eq!(frame::needed(&whole), Some(whole.len()));
        head.extend(&payload);
        prop_assert_eq!(head, whole);
    }
}

/// A block of one user property.
fn forwarded_user() -> impl Strategy<Value = Vec<u8>> {
    "[a-z]{0,9}".prop_map(|value| {
        let mut block = Vec::new();
        nightjar_mqtt::property::Forwarded::User("k", &value).encode(&mut block);
        block
    })
}

#[test]
fn short_acks_are_what_the_packet_encoder_writes() {
    use nightjar_mqtt::Ack;
    for packet in [Packet::PubAck, Packet::PubRec, Packet::PubRel, Packet::PubComp] {
        for version in [Version::V31, Version::V311, Version::V5] {
            for reason in [ReasonCode::Success, ReasonCode::QuotaExceeded] {
                let packet = packet(Ack::new(0x1234, reason));
                let mut short = Vec::new();
                encode_ack(packet.kind(), version, 0x1234, reason, &mut short);
                assert_eq!(short, written(&packet, version));
            }
        }
    }
}
