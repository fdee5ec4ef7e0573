//! MQTT packets as bytes: an encoder and a decoder that know only what the tests need, written apart from the
//! broker's own.

/// MQTT 3.1 (`MQIsdp`).
pub const V31: u8 = 3;
/// MQTT 3.1.1.
pub const V311: u8 = 4;
/// MQTT 5.0.
pub const V5: u8 = 5;

/// The levels with the protocol names that go with them.
pub const VERSIONS_WITH_NAMES: [(u8, &[u8]); 3] = [(V31, b"MQIsdp"), (V311, b"MQTT"), (V5, b"MQTT")];

/// A property value, by its wire type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// One byte.
    Byte(u8),
    /// Two bytes.
    Two(u16),
    /// Four bytes.
    Four(u32),
    /// Variable byte integer.
    Var(u32),
    /// UTF-8 string.
    Text(String),
    /// Binary data.
    Bin(Vec<u8>),
    /// UTF-8 string pair.
    Pair(String, String),
}

/// One property: identifier and value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prop(pub u8, pub Value);

/// Property identifiers, and builders for those that tests send.
pub mod prop {
    use super::{Prop, Value};

    pub const PAYLOAD_FORMAT: u8 = 0x01;
    pub const MESSAGE_EXPIRY: u8 = 0x02;
    pub const CONTENT_TYPE: u8 = 0x03;
    pub const RESPONSE_TOPIC: u8 = 0x08;
    pub const CORRELATION_DATA: u8 = 0x09;
    pub const SUBSCRIPTION_ID: u8 = 0x0b;
    pub const SESSION_EXPIRY: u8 = 0x11;
    pub const ASSIGNED_CLIENT_ID: u8 = 0x12;
    pub const SERVER_KEEP_ALIVE: u8 = 0x13;
    pub const AUTH_METHOD: u8 = 0x15;
    pub const AUTH_DATA: u8 = 0x16;
    pub const REQUEST_PROBLEM: u8 = 0x17;
    pub const WILL_DELAY: u8 = 0x18;
    pub const REQUEST_RESPONSE: u8 = 0x19;
    pub const RESPONSE_INFORMATION: u8 = 0x1a;
    pub const REASON_STRING: u8 = 0x1f;
    pub const RECEIVE_MAXIMUM: u8 = 0x21;
    pub const TOPIC_ALIAS_MAXIMUM: u8 = 0x22;
    pub const TOPIC_ALIAS: u8 = 0x23;
    pub const MAXIMUM_QOS: u8 = 0x24;
    pub const RETAIN_AVAILABLE: u8 = 0x25;
    pub const USER: u8 = 0x26;
    pub const MAXIMUM_PACKET_SIZE: u8 = 0x27;

    /// Payload Format Indicator.
    pub fn payload_format(v: u8) -> Prop {
        Prop(PAYLOAD_FORMAT, Value::Byte(v))
    }
    /// Message Expiry Interval.
    pub fn message_expiry(seconds: u32) -> Prop {
        Prop(MESSAGE_EXPIRY, Value::Four(seconds))
    }
    /// Content Type.
    pub fn content_type(v: &str) -> Prop {
        Prop(CONTENT_TYPE, Value::Text(v.into()))
    }
    /// Response Topic.
    pub fn response_topic(v: &str) -> Prop {
        Prop(RESPONSE_TOPIC, Value::Text(v.into()))
    }
    /// Correlation Data.
    pub fn correlation(v: &[u8]) -> Prop {
        Prop(CORRELATION_DATA, Value::Bin(v.into()))
    }
    /// Subscription Identifier.
    pub fn subscription_id(v: u32) -> Prop {
        Prop(SUBSCRIPTION_ID, Value::Var(v))
    }
    /// Session Expiry Interval.
    pub fn session_expiry(seconds: u32) -> Prop {
        Prop(SESSION_EXPIRY, Value::Four(seconds))
    }
    /// Will Delay Interval.
    pub fn will_delay(seconds: u32) -> Prop {
        Prop(WILL_DELAY, Value::Four(seconds))
    }
    /// Request Problem Information.
    pub fn request_problem(v: u8) -> Prop {
        Prop(REQUEST_PROBLEM, Value::Byte(v))
    }
    /// Request Response Information.
    pub fn request_response(v: u8) -> Prop {
        Prop(REQUEST_RESPONSE, Value::Byte(v))
    }
    /// Receive Maximum.
    pub fn receive_maximum(v: u16) -> Prop {
        Prop(RECEIVE_MAXIMUM, Value::Two(v))
    }
    /// Topic Alias Maximum.
    pub fn topic_alias_maximum(v: u16) -> Prop {
        Prop(TOPIC_ALIAS_MAXIMUM, Value::Two(v))
    }
    /// Topic Alias.
    pub fn topic_alias(v: u16) -> Prop {
        Prop(TOPIC_ALIAS, Value::Two(v))
    }
    /// User Property.
    pub fn user(name: &str, value: &str) -> Prop {
        Prop(USER, Value::Pair(name.into(), value.into()))
    }
    /// Maximum Packet Size.
    pub fn maximum_packet_size(v: u32) -> Prop {
        Prop(MAXIMUM_PACKET_SIZE, Value::Four(v))
    }
}

/// Reads hex digits; spaces are skipped.
pub fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(|b| !b.is_ascii_whitespace()).collect();
    digits.chunks(2).map(|p| u8::from_str_radix(std::str::from_utf8(p).unwrap(), 16).unwrap()).collect()
}

/// A variable byte integer.
pub fn varint(mut n: usize) -> Vec<u8> {
    let mut out = Vec::new();
    loop {
        let more = n >= 128;
        out.push((n % 128) as u8 | if more { 128 } else { 0 });
        n /= 128;
        if !more {
            return out;
        }
    }
}

/// A string or binary data with its two-byte length.
pub fn field(bytes: &[u8]) -> Vec<u8> {
    let mut out = (bytes.len() as u16).to_be_bytes().to_vec();
    out.extend_from_slice(bytes);
    out
}

/// A whole packet: first byte, remaining length, body.
pub fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![first];
    out.extend(varint(body.len()));
    out.extend_from_slice(body);
    out
}

/// The property block with its length in front.
pub fn properties(props: &[Prop]) -> Vec<u8> {
    let mut body = Vec::new();
    for Prop(id, value) in props {
        body.push(*id);
        match value {
            Value::Byte(v) => body.push(*v),
            Value::Two(v) => body.extend(v.to_be_bytes()),
            Value::Four(v) => body.extend(v.to_be_bytes()),
            Value::Var(v) => body.extend(varint(*v as usize)),
            Value::Text(v) => body.extend(field(v.as_bytes())),
            Value::Bin(v) => body.extend(field(v)),
            Value::Pair(a, b) => {
                body.extend(field(a.as_bytes()));
                body.extend(field(b.as_bytes()));
            }
        }
    }
    let mut out = varint(body.len());
    out.extend(body);
    out
}

/// A PUBLISH, to send or as received.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Publish {
    pub dup: bool,
    pub qos: u8,
    pub retain: bool,
    pub topic: String,
    pub id: u16,
    pub payload: Vec<u8>,
    pub props: Vec<Prop>,
}

impl Publish {
    /// A QoS 0 message.
    pub fn new(topic: &str, payload: impl AsRef<[u8]>) -> Self {
        Self { topic: topic.into(), payload: payload.as_ref().into(), ..Self::default() }
    }
    /// With this QoS.
    pub fn qos(mut self, qos: u8) -> Self {
        self.qos = qos;
        self
    }
    /// With RETAIN = 1.
    pub fn retain(mut self) -> Self {
        self.retain = true;
        self
    }
    /// With DUP = 1.
    pub fn dup(mut self) -> Self {
        self.dup = true;
        self
    }
    /// With this packet identifier.
    pub fn id(mut self, id: u16) -> Self {
        self.id = id;
        self
    }
    /// With one more property (v5).
    pub fn prop(mut self, prop: Prop) -> Self {
        self.props.push(prop);
        self
    }
    /// The bytes of the packet.
    pub fn encode(&self, version: u8) -> Vec<u8> {
        let mut body = field(self.topic.as_bytes());
        if self.qos > 0 {
            body.extend(self.id.to_be_bytes());
        }
        if version == V5 {
            body.extend(properties(&self.props));
        }
        body.extend_from_slice(&self.payload);
        packet(0x30 | u8::from(self.dup) << 3 | self.qos << 1 | u8::from(self.retain), &body)
    }
    /// The payload as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.payload).into_owned()
    }
    /// The values of a property, as numbers.
    pub fn numbers(&self, id: u8) -> Vec<u32> {
        numbers(&self.props, id)
    }
    /// The value of a number property.
    pub fn number(&self, id: u8) -> Option<u32> {
        number(&self.props, id)
    }
}

/// A packet from the broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Packet {
    Connack {
        session_present: bool,
        code: u8,
        props: Vec<Prop>,
    },
    Publish(Publish),
    /// PUBACK 4, PUBREC 5, PUBREL 6, PUBCOMP 7, by `kind`.
    Ack {
        kind: u8,
        id: u16,
        code: u8,
        props: Vec<Prop>,
    },
    Suback {
        id: u16,
        codes: Vec<u8>,
        props: Vec<Prop>,
    },
    Unsuback {
        id: u16,
        codes: Vec<u8>,
        props: Vec<Prop>,
    },
    Pingresp,
    Disconnect {
        code: u8,
        props: Vec<Prop>,
    },
    Auth {
        code: u8,
        props: Vec<Prop>,
    },
}

/// PUBACK's packet type.
pub const PUBACK: u8 = 4;
/// PUBREC's packet type.
pub const PUBREC: u8 = 5;
/// PUBREL's packet type.
pub const PUBREL: u8 = 6;
/// PUBCOMP's packet type.
pub const PUBCOMP: u8 = 7;

/// All values of a number property.
pub fn numbers(props: &[Prop], id: u8) -> Vec<u32> {
    props
        .iter()
        .filter(|p| p.0 == id)
        .map(|p| match p.1 {
            Value::Byte(v) => u32::from(v),
            Value::Two(v) => u32::from(v),
            Value::Four(v) | Value::Var(v) => v,
            _ => panic!("property {id:#x} is no number"),
        })
        .collect()
}

/// The value of a number property.
pub fn number(props: &[Prop], id: u8) -> Option<u32> {
    numbers(props, id).first().copied()
}

/// The value of a text property.
pub fn text(props: &[Prop], id: u8) -> Option<&str> {
    props.iter().find_map(|p| match &p.1 {
        Value::Text(v) if p.0 == id => Some(v.as_str()),
        _ => None,
    })
}

/// Takes one whole packet off the front of the bytes, if there is one: its packet and its length.
pub fn decode(bytes: &[u8], version: u8) -> Option<(Packet, usize)> {
    let mut length = 0usize;
    let mut at = 1;
    loop {
        let byte = *bytes.get(at)?;
        length |= usize::from(byte & 127) << (7 * (at - 1));
        at += 1;
        if byte < 128 {
            break;
        }
        assert!(at < 5, "remaining length of more than four bytes");
    }
    let body = bytes.get(at..at + length)?;
    Some((parse(bytes[0], &mut Cursor { bytes: body, version }), at + length))
}

fn parse(first: u8, c: &mut Cursor<'_>) -> Packet {
    let flags = first & 15;
    let kind = first >> 4;
    if kind != 3 {
        let expected = if kind == 6 { 2 } else { 0 };
        assert_eq!(flags, expected, "reserved flags of packet type {kind}");
    }
    let packet = match kind {
        2 => {
            let flags = c.byte();
            assert!(flags < 2, "reserved connect acknowledge flags");
            Packet::Connack { session_present: flags == 1, code: c.byte(), props: c.props() }
        }
        3 => Packet::Publish(parse_publish(flags, c)),
        4..=7 => {
            let id = c.two();
            let code = if c.bytes.is_empty() { 0 } else { c.byte() };
            let props = if c.bytes.is_empty() { Vec::new() } else { c.props() };
            Packet::Ack { kind, id, code, props }
        }
        9 => Packet::Suback { id: c.two(), props: c.props(), codes: c.rest() },
        11 => Packet::Unsuback { id: c.two(), props: c.props(), codes: c.rest() },
        13 => Packet::Pingresp,
        14 => {
            assert_eq!(c.version, V5, "a 3.1.1 server sends no DISCONNECT");
            let code = if c.bytes.is_empty() { 0 } else { c.byte() };
            Packet::Disconnect { code, props: if c.bytes.is_empty() { Vec::new() } else { c.props() } }
        }
        15 => Packet::Auth { code: c.byte(), props: c.props() },
        _ => panic!("packet type {kind} from a server"),
    };
    assert!(c.bytes.is_empty(), "{} bytes left over after {packet:?}", c.bytes.len());
    packet
}

fn parse_publish(flags: u8, c: &mut Cursor<'_>) -> Publish {
    let (dup, qos, retain) = (flags & 8 != 0, flags >> 1 & 3, flags & 1 != 0);
    assert!(qos < 3, "QoS 3");
    assert!(!dup || qos > 0, "DUP at QoS 0 [MQTT-3.3.1-2]");
    let topic = String::from_utf8(c.field()).expect("topic is UTF-8");
    let id = if qos > 0 { c.two() } else { 0 };
    assert!(qos == 0 || id != 0, "packet identifier 0");
    Publish { dup, qos, retain, topic, id, props: c.props(), payload: c.rest() }
}

struct Cursor<'a> {
    bytes: &'a [u8],
    version: u8,
}

impl Cursor<'_> {
    fn take(&mut self, n: usize) -> Vec<u8> {
        let (head, tail) = self.bytes.split_at(n);
        self.bytes = tail;
        head.to_vec()
    }
    fn rest(&mut self) -> Vec<u8> {
        self.take(self.bytes.len())
    }
    fn byte(&mut self) -> u8 {
        self.take(1)[0]
    }
    fn two(&mut self) -> u16 {
        u16::from_be_bytes(self.take(2).try_into().expect("two bytes"))
    }
    fn four(&mut self) -> u32 {
        u32::from_be_bytes(self.take(4).try_into().expect("four bytes"))
    }
    fn var(&mut self) -> u32 {
        let mut value = 0;
        for shift in [0, 7, 14, 21] {
            let byte = self.byte();
            value |= u32::from(byte & 127) << shift;
            if byte < 128 {
                return value;
            }
        }
        panic!("variable byte integer of more than four bytes");
    }
    fn field(&mut self) -> Vec<u8> {
        let n = self.two();
        self.take(usize::from(n))
    }
    fn text(&mut self) -> String {
        String::from_utf8(self.field()).expect("string property is UTF-8")
    }
    fn props(&mut self) -> Vec<Prop> {
        if self.version != V5 {
            return Vec::new();
        }
        let n = self.var() as usize;
        let block = self.take(n);
        let mut c = Cursor { bytes: &block, version: V5 };
        let mut out = Vec::new();
        while !c.bytes.is_empty() {
            let id = c.byte();
            let value = match id {
                0x01 | 0x17 | 0x19 | 0x24 | 0x25 | 0x28 | 0x29 | 0x2a => Value::Byte(c.byte()),
                0x13 | 0x21 | 0x22 | 0x23 => Value::Two(c.two()),
                0x02 | 0x11 | 0x18 | 0x27 => Value::Four(c.four()),
                0x0b => Value::Var(c.var()),
                0x03 | 0x08 | 0x12 | 0x15 | 0x1a | 0x1c | 0x1f => Value::Text(c.text()),
                0x09 | 0x16 => Value::Bin(c.field()),
                0x26 => Value::Pair(c.text(), c.text()),
                _ => panic!("unknown property {id:#x}"),
            };
            out.push(Prop(id, value));
        }
        out
    }
}
