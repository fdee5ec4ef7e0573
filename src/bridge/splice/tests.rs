use super::*;
use nightjar_mqtt::{Ack, Delivery, PublishParts, decode_publish_from_server, encode, encode_publish};

const V5: Version = Version::V5;

fn splice(lines: &[&str], remote: Remote) -> Splice {
    let rules = lines.iter().map(|line| line.parse().expect("a rule")).collect();
    let rules = TopicRules::new(rules).expect("they can stand together");
    let counts = Arc::new(Counts::new(rules.rules().len()));
    Splice::new(Arc::new(rules), counts, remote, Local { max_packet: 1_000, retain: true })
}

fn remote(version: Version) -> Remote {
    Remote {
        version,
        max_packet: 500,
        max_qos: QoS::ExactlyOnce,
        takes_pubrel: true,
        retain: true,
        max_topic_length: 100,
        max_topic_levels: 8,
        echoes: None,
    }
}

fn publish(version: Version, topic: &str, qos: QoS, packet_id: u16, payload: &[u8]) -> Vec<u8> {
    let parts = PublishParts { topic: topic.as_bytes(), properties: &[], payload, expiry: None };
    let delivery = Delivery { qos, retain: false, dup: false, packet_id, identifiers: &[], alias: None };
    let mut bytes = Vec::new();
    encode_publish(version, &parts, &delivery, &mut bytes);
    bytes
}

fn ack(kind: PacketType, packet_id: u16, reason: ReasonCode) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode_ack(kind, V5, packet_id, reason, &mut bytes);
    bytes
}

/// What lies in `bytes`, each packet in words.
fn words(mut bytes: &[u8], version: Version) -> Vec<String> {
    let mut all = Vec::new();
    while let Some(frame) = frame::peek(bytes, nightjar_mqtt::MAX_PACKET_SIZE, version).expect("whole packets") {
        let of = |name: &str, ack: &Ack| {
            let error = if ack.reason.is_error() { format!(" {:?}", ack.reason) } else { String::new() };
            format!("{name} {}{error}", ack.packet_id)
        };
        all.push(match frame.kind {
            PacketType::Publish => {
                let publish = decode_publish_from_server(&frame, version).expect("a message");
                let topic = String::from_utf8_lossy(publish.topic);
                format!("PUBLISH {} q{} {topic}", publish.packet_id, publish.qos as u8)
            }
            _ => match decode(&frame, version).expect("a packet") {
                Packet::PubAck(ack) => of("PUBACK", &ack),
                Packet::PubRec(ack) => of("PUBREC", &ack),
                Packet::PubRel(ack) => of("PUBREL", &ack),
                Packet::PubComp(ack) => of("PUBCOMP", &ack),
                other => format!("{other:?}"),
            },
        });
        bytes = &bytes[frame.size..];
    }
    all
}

/// What both sides get after this broker, or the remote, sent `bytes`.
fn pass(splice: &mut Splice, from_local: bool, bytes: &[u8]) -> (Vec<String>, Vec<String>) {
    let mut out = Buffers::default();
    let taken = if from_local { splice.take_local(bytes, &mut out) } else { splice.take_remote(bytes, &mut out) };
    assert_eq!(taken.expect("spliced"), bytes.len());
    (words(&out.local, V5), words(&out.remote, splice.remote.version))
}

#[test]
fn a_message_goes_out_under_its_identifier_and_its_acknowledgements_come_back() {
    let mut splice = splice(&["a/# both 2 here/ there/"], remote(Version::V311));
    let (local, away) = pass(&mut splice, true, &publish(V5, "here/a/x", QoS::ExactlyOnce, 7, b"p"));
    assert_eq!((local, away), (vec![], vec!["PUBLISH 7 q2 there/a/x".to_owned()]));
    assert_eq!(splice.suspect(), Some(7));
    assert_eq!(pass(&mut splice, false, &ack(PacketType::PubRec, 7, ReasonCode::Success)).0, ["PUBREC 7"]);
    assert_eq!(splice.suspect(), None);
    assert_eq!(pass(&mut splice, true, &ack(PacketType::PubRel, 7, ReasonCode::Success)).1, ["PUBREL 7"]);
    assert_eq!(pass(&mut splice, false, &ack(PacketType::PubComp, 7, ReasonCode::Success)).0, ["PUBCOMP 7"]);
}

#[test]
fn a_message_comes_in_under_its_identifier_and_is_acknowledged_when_this_broker_has_it() {
    let mut splice = splice(&["a/# both 2 here/ there/"], remote(V5));
    let (local, away) = pass(&mut splice, false, &publish(V5, "there/a/x", QoS::AtLeastOnce, 9, b"p"));
    assert_eq!((local, away), (vec!["PUBLISH 9 q1 here/a/x".to_owned()], vec![]));
    // That nobody is subscribed here is no business of the remote's.
    let none = ack(PacketType::PubAck, 9, ReasonCode::NoMatchingSubscribers);
    assert_eq!(pass(&mut splice, true, &none).1, ["PUBACK 9"]);
}

#[test]
fn what_the_remote_takes_no_more_of_is_sent_lower_and_still_ends_as_it_began() {
    let mut splice = splice(&["# out 2"], Remote { max_qos: QoS::AtLeastOnce, takes_pubrel: false, ..remote(V5) });
    assert_eq!(pass(&mut splice, true, &publish(V5, "a", QoS::ExactlyOnce, 7, b"")).1, ["PUBLISH 7 q1 a"]);
    assert_eq!(pass(&mut splice, false, &ack(PacketType::PubAck, 7, ReasonCode::Success)).0, ["PUBREC 7"]);
    let (local, away) = pass(&mut splice, true, &ack(PacketType::PubRel, 7, ReasonCode::Success));
    assert_eq!((local, away), (vec!["PUBCOMP 7".to_owned()], vec![]));
}

#[test]
fn what_can_never_be_sent_is_set_aside_and_blocks_nothing() {
    let mut splice = splice(&["# out 2"], remote(V5));
    splice.keep_copies();
    let mut bytes = publish(V5, "a", QoS::ExactlyOnce, 1, &[0; 600]);
    bytes.extend(publish(V5, "1/2/3/4/5/6/7/8/9", QoS::AtLeastOnce, 2, b""));
    bytes.extend(publish(V5, "b", QoS::AtLeastOnce, 3, b"kept"));
    let (local, away) = pass(&mut splice, true, &bytes);
    assert_eq!((local, away), (vec![], vec!["PUBLISH 3 q1 b".to_owned()]));
    let refused = ack(PacketType::PubAck, 3, ReasonCode::NotAuthorized);
    pass(&mut splice, false, &refused);
    let events = std::mem::take(&mut splice.events);
    let [large, deep, refused] = &events[..] else { panic!("{events:?}") };
    assert!(matches!(large, Event::SetAside { packet_id: 1, why: Why::TooLarge, message: Some(_), .. }));
    assert!(matches!(deep, Event::SetAside { packet_id: 2, why: Why::TooLarge, .. }));
    let Event::SetAside { packet_id: 3, why: Why::Refused(_), message: Some(message), .. } = refused else {
        panic!("{refused:?}")
    };
    assert_eq!((message.topic(), message.payload()), ("b", &b"kept"[..]));
    let mut out = Buffers::default();
    Splice::settle(1, QoS::ExactlyOnce, &mut out);
    Splice::settle(3, QoS::AtLeastOnce, &mut out);
    assert_eq!(words(&out.local, V5), ["PUBREC 1 UnspecifiedError", "PUBACK 3"]);
    assert_eq!(splice.counts.set_aside(), 3);
}

#[test]
fn a_remote_that_takes_nothing_at_present_keeps_the_message_in_the_queue() {
    let mut splice = splice(&["# out 2"], remote(V5));
    pass(&mut splice, true, &publish(V5, "a", QoS::AtLeastOnce, 3, b""));
    let busy = ack(PacketType::PubAck, 3, ReasonCode::QuotaExceeded);
    let mut out = Buffers::default();
    assert!(matches!(splice.take_remote(&busy, &mut out), Err(Broken::RemoteBusy(_))));
    assert!(out.local.is_empty());
}

#[test]
fn a_broker_that_takes_nothing_at_present_does_not_acknowledge_to_the_remote() {
    let mut splice = splice(&["# in 2"], remote(V5));
    pass(&mut splice, false, &publish(V5, "a", QoS::AtLeastOnce, 3, b""));
    let mut out = Buffers::default();
    let full = ack(PacketType::PubAck, 3, ReasonCode::QuotaExceeded);
    assert!(matches!(splice.take_local(&full, &mut out), Err(Broken::LocalBusy(_))));
    assert!(out.remote.is_empty());
    let denied = ack(PacketType::PubRec, 4, ReasonCode::NotAuthorized);
    assert_eq!(pass(&mut splice, true, &denied).1, ["PUBREC 4 NotAuthorized"]);
}

#[test]
fn what_no_rule_carries_any_more_is_acknowledged_and_dropped() {
    let mut splice = splice(&["x out 2"], remote(V5));
    assert_eq!(pass(&mut splice, true, &publish(V5, "a", QoS::AtLeastOnce, 3, b"")).0, ["PUBACK 3"]);
    assert_eq!(pass(&mut splice, false, &publish(V5, "a", QoS::ExactlyOnce, 4, b"")).1, ["PUBREC 4"]);
    assert_eq!(pass(&mut splice, false, &ack(PacketType::PubRel, 4, ReasonCode::Success)).0, ["PUBREL 4"]);
    let unknown = ack(PacketType::PubComp, 4, ReasonCode::PacketIdentifierNotFound);
    assert_eq!(pass(&mut splice, true, &unknown).1, ["PUBCOMP 4"]);
    assert_eq!(splice.counts.unmatched.get(), 2);
    assert!(splice.events.is_empty(), "no rule was ever about it");
}

#[test]
fn a_remote_that_sends_a_wildcard_as_a_topic_is_left() {
    for version in [Version::V311, V5] {
        let mut splice = splice(&["# both 2"], remote(version));
        let bytes = publish(version, "++++++", QoS::AtLeastOnce, 4, b"3");
        assert!(matches!(splice.take_remote(&bytes, &mut Buffers::default()), Err(Broken::Remote(_))), "{version:?}");
    }
}

#[test]
fn what_comes_by_a_rule_that_only_carries_out_is_asked_for_no_more_once() {
    let mut splice = splice(&["x/# out 1", "y/# out 1 a/ b/", "z in 1"], remote(V5));
    for topic in ["x/1", "x/2", "b/y/1", "z", "other"] {
        pass(&mut splice, false, &publish(V5, topic, QoS::AtLeastOnce, 5, b""));
    }
    let filters = splice.events.iter().map(|event| match event {
        Event::Unwanted(filter) => filter.as_str(),
        other => panic!("{other:?}"),
    });
    assert_eq!(filters.collect::<Vec<_>>(), ["x/#", "b/y/#"]);
}

#[test]
fn a_session_that_the_remote_has_forgotten_is_released_here_without_its_knowing() {
    let mut splice = splice(&["# in 2"], remote(V5));
    let mut out = Buffers::default();
    splice.release(&[5, 6], &mut out);
    assert_eq!(words(&out.local, V5), ["PUBREL 5", "PUBREL 6"]);
    let (_, away) = pass(&mut splice, true, &ack(PacketType::PubComp, 5, ReasonCode::Success));
    assert_eq!(away, [""; 0]);
    assert_eq!(pass(&mut splice, true, &ack(PacketType::PubComp, 5, ReasonCode::Success)).1, ["PUBCOMP 5"]);
}

#[test]
fn a_packet_that_is_too_large_is_passed_over_piece_by_piece() {
    let mut splice = splice(&["# in 2"], remote(Version::V311));
    let mut bytes = publish(Version::V311, "big", QoS::AtLeastOnce, 8, &vec![0; 1_000_000]);
    bytes.extend(publish(Version::V311, "small", QoS::AtLeastOnce, 9, b""));
    let mut out = Buffers::default();
    let (mut held, mut most) = (Vec::new(), 0);
    for piece in bytes.chunks(10_000) {
        held.extend_from_slice(piece);
        let taken = splice.take_remote(&held, &mut out).expect("spliced");
        held.drain(..taken);
        most = most.max(held.len());
    }
    assert_eq!((held.len(), most), (0, 0), "nothing of it is held");
    assert_eq!(words(&out.remote, Version::V311), ["PUBACK 8"]);
    assert_eq!(words(&out.local, V5), ["PUBLISH 9 q1 small"]);
    assert!(matches!(&splice.events[..], [Event::NotTaken { topic, .. }] if topic == "big"));
}

#[test]
fn packets_that_only_a_client_sends_end_it() {
    let mut splice = splice(&["# in 2"], remote(V5));
    let mut bytes = Vec::new();
    encode(&Packet::PingReq, V5, &mut bytes);
    assert!(matches!(splice.take_remote(&bytes, &mut Buffers::default()), Err(Broken::Misplaced(PacketType::PingReq))));
    // A length of 200 MB that announces no message.
    let lie = [0x40, 0x80, 0x84, 0xaf, 0x5f];
    assert!(matches!(splice.take_remote(&lie, &mut Buffers::default()), Err(Broken::Misplaced(PacketType::PubAck))));
}

#[test]
fn a_remote_that_sends_back_what_it_got_is_not_believed() {
    let mut splice = splice(&["# both 1"], Remote { echoes: Some(1_000), ..remote(Version::V311) });
    pass(&mut splice, true, &publish(V5, "a", QoS::AtLeastOnce, 3, b"x"));
    let (local, away) = pass(&mut splice, false, &publish(Version::V311, "a", QoS::AtLeastOnce, 1, b"x"));
    assert_eq!((local, away), (vec![], vec!["PUBACK 1".to_owned()]));
    assert_eq!(pass(&mut splice, false, &publish(Version::V311, "a", QoS::AtLeastOnce, 2, b"x")).0, ["PUBLISH 2 q1 a"]);
}

#[test]
fn an_answer_is_asked_for_under_its_name_on_the_other_side() {
    let mut splice = splice(&["ask out 1 \"\" hub/", "answer/# in 1 here/ hub/"], remote(V5));
    let mut properties = vec![8, 0, 13];
    properties.extend(b"here/answer/7");
    properties.extend([9, 0, 1, 5]);
    let parts = PublishParts { topic: b"ask", properties: &properties, payload: b"?", expiry: Some(9) };
    let delivery =
        Delivery { qos: QoS::AtLeastOnce, retain: false, dup: false, packet_id: 3, identifiers: &[4], alias: None };
    let (mut bytes, mut out) = (Vec::new(), Buffers::default());
    encode_publish(V5, &parts, &delivery, &mut bytes);
    splice.take_local(&bytes, &mut out).expect("spliced");
    let frame = frame::peek(&out.remote, 1_000, V5).expect("well-formed").expect("whole");
    let publish = decode_publish_from_server(&frame, V5).expect("a message");
    assert_eq!(publish.properties.response_topic, Some("hub/answer/7"));
    assert_eq!((publish.properties.message_expiry, publish.properties.identifiers), (Some(9), 0));
    assert!(publish.properties.raw.windows(4).any(|part| part == [9, 0, 1, 5]), "the correlation data");
}
