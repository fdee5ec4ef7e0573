//! Strategies for every packet of every version, in the form in which decoding gives it back.

use nightjar_mqtt::property::{
    AckProperties, AuthProperties, ConnAckProperties, ConnectProperties, DisconnectProperties, Forwarded,
    SubscribeProperties,
};
use nightjar_mqtt::{
    Ack, Auth, ConnAck, Connect, Disconnect, Packet, PacketType, Publish, QoS, ReasonCode, RetainHandling, SubAck,
    Subscribe, SubscriptionOptions, UnsubAck, Unsubscribe, UserProperties, Version, Will,
};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

/// Any version.
pub fn version() -> impl Strategy<Value = Version> {
    prop_oneof![Just(Version::V31), Just(Version::V311), Just(Version::V5)]
}

/// A string of the wire: any characters but U+0000, now and then long enough for a two-byte length.
pub fn text() -> impl Strategy<Value = String> {
    prop_oneof![8 => "[^\\x00]{0,12}", 1 => "[a-z]{120,140}"]
}

/// A valid topic name.
pub fn topic_name() -> impl Strategy<Value = String> {
    "[^\\x00+#]{1,16}"
}

fn binary() -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 0..16)
}

fn payload() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![6 => vec(any::<u8>(), 0..40), 1 => vec(any::<u8>(), 100..300), 1 => Just(vec![7; 17_000])]
}

fn qos() -> impl Strategy<Value = QoS> {
    prop_oneof![Just(QoS::AtMostOnce), Just(QoS::AtLeastOnce), Just(QoS::ExactlyOnce)]
}

fn packet_id() -> impl Strategy<Value = u16> {
    1..=u16::MAX
}

fn identifier() -> impl Strategy<Value = u32> {
    prop_oneof![1..=127u32, 128..=268_435_455u32]
}

fn user_properties() -> impl Strategy<Value = UserProperties> {
    vec((text(), text()), 0..4)
}

fn reason(kind: PacketType) -> impl Strategy<Value = ReasonCode> {
    let allowed: Vec<_> = (0..=255).filter_map(ReasonCode::from_u8).filter(|code| code.is_allowed_in(kind)).collect();
    prop::sample::select(allowed)
}

/// `value` in v5, its default before: what decoding gives for what the version does not have.
fn only_v5<T: Clone + std::fmt::Debug + 'static>(
    version: Version,
    value: impl Strategy<Value = T> + 'static,
    before: T,
) -> BoxedStrategy<T> {
    if version == Version::V5 { value.boxed() } else { Just(before).boxed() }
}

/// A block of forwarded properties, each kind but the user properties at most once.
pub fn forwarded() -> impl Strategy<Value = Vec<u8>> {
    let parts = (option::of(any::<bool>()), option::of(text()), option::of(topic_name()), option::of(binary()));
    (parts, user_properties()).prop_map(|((format, content, response, correlation), user)| {
        let mut block = Vec::new();
        let mut put = |property: Forwarded<'_>| property.encode(&mut block);
        format.into_iter().for_each(|is_utf8| put(Forwarded::PayloadFormat(is_utf8)));
        user.iter().take(1).for_each(|(name, value)| put(Forwarded::User(name, value)));
        content.iter().for_each(|content| put(Forwarded::ContentType(content)));
        response.iter().for_each(|name| put(Forwarded::ResponseTopic(name)));
        correlation.iter().for_each(|data| put(Forwarded::CorrelationData(data)));
        user.iter().skip(1).for_each(|(name, value)| put(Forwarded::User(name, value)));
        block
    })
}

fn will(version: Version) -> impl Strategy<Value = Will> {
    (
        topic_name(),
        binary(),
        qos(),
        any::<bool>(),
        only_v5(version, any::<u32>(), 0),
        only_v5(version, option::of(any::<u32>()), None),
        only_v5(version, forwarded(), Vec::new()),
    )
        .prop_map(|(topic, payload, qos, retain, delay, message_expiry, properties)| Will {
            topic,
            payload,
            qos,
            retain,
            delay,
            message_expiry,
            properties,
        })
}

/// A method, and data only beside it.
fn authentication() -> impl Strategy<Value = (Option<String>, Option<Vec<u8>>)> {
    option::of((text(), option::of(binary()))).prop_map(|both| match both {
        Some((method, data)) => (Some(method), data),
        None => (None, None),
    })
}

fn connect_properties() -> impl Strategy<Value = ConnectProperties> {
    (
        any::<u32>(),
        1..=u16::MAX,
        option::of(1..=u32::MAX),
        any::<u16>(),
        any::<(bool, bool)>(),
        user_properties(),
        authentication(),
    )
        .prop_map(|(session_expiry, receive_maximum, maximum_packet_size, aliases, request, user, auth)| {
            ConnectProperties {
                session_expiry,
                receive_maximum,
                maximum_packet_size,
                topic_alias_maximum: aliases,
                request_response_information: request.0,
                request_problem_information: request.1,
                user_properties: user,
                authentication_method: auth.0,
                authentication_data: auth.1,
            }
        })
}

fn connect(version: Version) -> impl Strategy<Value = Connect> {
    (
        any::<(bool, bool, u16)>(),
        text(),
        option::of(will(version)),
        option::of(text()),
        option::of(binary()),
        only_v5(version, connect_properties(), ConnectProperties::default()),
    )
        .prop_map(move |((bridge, clean_start, keep_alive), client_id, will, username, password, properties)| {
            Connect {
                version,
                bridge: bridge && version != Version::V5,
                clean_start,
                keep_alive,
                client_id,
                will,
                password: password.filter(|_| username.is_some() || version != Version::V311),
                username,
                properties,
            }
        })
}

fn connack_properties() -> impl Strategy<Value = ConnAckProperties> {
    let numbers = (
        option::of(any::<u32>()),
        option::of(1..=u16::MAX),
        option::of(prop_oneof![Just(QoS::AtMostOnce), Just(QoS::AtLeastOnce)]),
        option::of(1..=u32::MAX),
        option::of(any::<u16>()),
        option::of(any::<u16>()),
    );
    let flags = any::<[Option<bool>; 4]>();
    let texts = [option::of(text()), option::of(text()), option::of(text()), option::of(text())];
    (numbers, flags, texts, user_properties(), authentication()).prop_map(|(numbers, flags, texts, user, auth)| {
        let [assigned_client_id, reason_string, response_information, server_reference] = texts;
        ConnAckProperties {
            session_expiry: numbers.0,
            receive_maximum: numbers.1,
            maximum_qos: numbers.2,
            retain_available: flags[0],
            maximum_packet_size: numbers.3,
            assigned_client_id,
            topic_alias_maximum: numbers.4,
            reason_string,
            user_properties: user,
            wildcard_available: flags[1],
            identifiers_available: flags[2],
            shared_available: flags[3],
            server_keep_alive: numbers.5,
            response_information,
            server_reference,
            authentication_method: auth.0,
            authentication_data: auth.1,
        }
    })
}

fn connack(version: Version) -> impl Strategy<Value = ConnAck> {
    let v3: Vec<_> = (0..=5).filter_map(ReasonCode::from_connack_v3).collect();
    let reason =
        if version == Version::V5 { reason(PacketType::ConnAck).boxed() } else { prop::sample::select(v3).boxed() };
    (any::<bool>(), reason, only_v5(version, connack_properties(), ConnAckProperties::default())).prop_map(
        move |(present, reason, properties)| ConnAck {
            session_present: present && version != Version::V31,
            reason,
            properties,
        },
    )
}

/// Any PUBLISH that a server may send.
pub fn publish(version: Version) -> impl Strategy<Value = Publish> {
    (
        (any::<(bool, bool)>(), qos(), packet_id()),
        topic_name(),
        payload(),
        only_v5(version, option::of((1..=u16::MAX, any::<bool>())), None),
        only_v5(version, option::of(any::<u32>()), None),
        only_v5(version, vec(identifier(), 0..4), Vec::new()),
        only_v5(version, forwarded(), Vec::new()),
    )
        .prop_map(|(((dup, retain), qos, packet_id), topic, payload, alias, expiry, identifiers, properties)| {
            let acknowledged = qos != QoS::AtMostOnce;
            Publish {
                dup: dup && acknowledged,
                qos,
                retain,
                topic: if matches!(alias, Some((_, true))) { String::new() } else { topic },
                packet_id: if acknowledged { packet_id } else { 0 },
                properties,
                message_expiry: expiry,
                topic_alias: alias.map(|(alias, _)| alias),
                identifiers,
                payload,
            }
        })
}

fn ack_properties() -> impl Strategy<Value = AckProperties> {
    (option::of(text()), user_properties())
        .prop_map(|(reason_string, user_properties)| AckProperties { reason_string, user_properties })
}

fn ack(kind: PacketType, version: Version) -> impl Strategy<Value = Ack> {
    let reason = only_v5(version, reason(kind), ReasonCode::Success);
    (packet_id(), reason, only_v5(version, ack_properties(), AckProperties::default()))
        .prop_map(|(packet_id, reason, properties)| Ack { packet_id, reason, properties })
}

fn options() -> impl Strategy<Value = SubscriptionOptions> {
    let handling = prop::sample::select(vec![RetainHandling::Always, RetainHandling::IfNew, RetainHandling::Never]);
    (qos(), any::<(bool, bool)>(), handling).prop_map(|(qos, (no_local, as_published), retain_handling)| {
        SubscriptionOptions { qos, no_local, retain_as_published: as_published, retain_handling, identifier: None }
    })
}

/// Any text but the empty one, which makes the packet malformed.
fn filter() -> impl Strategy<Value = String> {
    text().prop_filter("not empty", |text| !text.is_empty())
}

fn subscribe(version: Version) -> impl Strategy<Value = Subscribe> {
    let identifier = only_v5(version, option::of(identifier()), None);
    let user = only_v5(version, user_properties(), UserProperties::new());
    (packet_id(), identifier, user, vec((filter(), options()), 1..5)).prop_map(
        move |(packet_id, identifier, user_properties, mut filters)| {
            for (filter, options) in &mut filters {
                if version != Version::V5 {
                    *options = SubscriptionOptions { qos: options.qos, ..SubscriptionOptions::default() };
                }
                options.no_local &= !filter.starts_with("$share/");
                options.identifier = identifier;
            }
            Subscribe { packet_id, properties: SubscribeProperties { identifier, user_properties }, filters }
        },
    )
}

fn suback(version: Version) -> impl Strategy<Value = SubAck> {
    let v3 = vec![ReasonCode::Success, ReasonCode::GrantedQoS1, ReasonCode::GrantedQoS2, ReasonCode::UnspecifiedError];
    let code =
        if version == Version::V5 { reason(PacketType::SubAck).boxed() } else { prop::sample::select(v3).boxed() };
    (packet_id(), only_v5(version, ack_properties(), AckProperties::default()), vec(code, 1..5))
        .prop_map(|(packet_id, properties, codes)| SubAck { packet_id, properties, codes })
}

fn unsubscribe(version: Version) -> impl Strategy<Value = Unsubscribe> {
    (packet_id(), only_v5(version, user_properties(), UserProperties::new()), vec(filter(), 1..5))
        .prop_map(|(packet_id, user_properties, filters)| Unsubscribe { packet_id, user_properties, filters })
}

fn unsuback(version: Version) -> impl Strategy<Value = UnsubAck> {
    let codes = only_v5(version, vec(reason(PacketType::UnsubAck), 1..5), Vec::new());
    (packet_id(), only_v5(version, ack_properties(), AckProperties::default()), codes)
        .prop_map(|(packet_id, properties, codes)| UnsubAck { packet_id, properties, codes })
}

fn disconnect(version: Version) -> impl Strategy<Value = Disconnect> {
    let properties = (option::of(any::<u32>()), option::of(text()), option::of(text()), user_properties()).prop_map(
        |(session_expiry, reason_string, server_reference, user_properties)| DisconnectProperties {
            session_expiry,
            reason_string,
            server_reference,
            user_properties,
        },
    );
    (
        only_v5(version, reason(PacketType::Disconnect), ReasonCode::Success),
        only_v5(version, properties, DisconnectProperties::default()),
    )
        .prop_map(|(reason, properties)| Disconnect { reason, properties })
}

fn auth() -> impl Strategy<Value = Auth> {
    (reason(PacketType::Auth), authentication(), option::of(text()), user_properties()).prop_map(
        |(reason, auth, reason_string, user_properties)| Auth {
            reason,
            properties: AuthProperties {
                authentication_method: auth.0,
                authentication_data: auth.1,
                reason_string,
                user_properties,
            },
        },
    )
}

/// A version, and any packet as decoding gives it back in that version.
pub fn packet() -> impl Strategy<Value = (Version, Packet)> {
    version().prop_flat_map(|version| (Just(version), packet_of(version)))
}

/// Any packet of `version`.
pub fn packet_of(version: Version) -> BoxedStrategy<Packet> {
    let common = prop_oneof![
        3 => connect(version).prop_map(|connect| Packet::Connect(Box::new(connect))),
        2 => connack(version).prop_map(|connack| Packet::ConnAck(Box::new(connack))),
        4 => publish(version).prop_map(Packet::Publish),
        1 => ack(PacketType::PubAck, version).prop_map(Packet::PubAck),
        1 => ack(PacketType::PubRec, version).prop_map(Packet::PubRec),
        1 => ack(PacketType::PubRel, version).prop_map(Packet::PubRel),
        1 => ack(PacketType::PubComp, version).prop_map(Packet::PubComp),
        2 => subscribe(version).prop_map(Packet::Subscribe),
        1 => suback(version).prop_map(Packet::SubAck),
        1 => unsubscribe(version).prop_map(Packet::Unsubscribe),
        1 => unsuback(version).prop_map(Packet::UnsubAck),
        1 => disconnect(version).prop_map(Packet::Disconnect),
        1 => Just(Packet::PingReq),
        1 => Just(Packet::PingResp),
    ];
    if version == Version::V5 {
        prop_oneof![14 => common, 1 => auth().prop_map(Packet::Auth)].boxed()
    } else {
        common.boxed()
    }
}
