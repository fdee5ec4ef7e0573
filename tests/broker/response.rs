//! Request and response: what the broker tells a client that asks where answers may be sent.

use crate::support::{Broker, Connect, Packet, V5, prop, wire};

#[test]
fn response_information_is_told_only_to_those_who_ask_and_only_if_it_is_set() {
    const RESPONSE_INFORMATION: u8 = 0x1a;
    let told = |broker: &Broker, asks: u8| {
        let mut client = broker.socket_for(V5);
        client.send(&Connect::v5("me").prop(prop::request_response(asks)).encode());
        let Packet::Connack { code: 0, props, .. } = client.recv() else { panic!("no CONNACK") };
        props.into_iter().find(|property| property.0 == RESPONSE_INFORMATION).map(|property| property.1)
    };
    let broker = Broker::with(&["mqtt.response_information=answers/%c/"]);
    assert_eq!(told(&broker, 1), Some(wire::Value::Text("answers/me/".into())));
    assert_eq!(told(&broker, 0), None);
    assert_eq!(told(&Broker::start(), 1), None);
}
