//! Building a CONNECT and opening a connection with it.

use super::wire::{self, Packet, Prop, V5, V31, V311, prop};
use super::{Broker, Client, PATIENCE, Read, Stream};
use std::time::Duration;

/// A will message.
#[derive(Clone, Debug)]
pub struct Will {
    topic: String,
    payload: Vec<u8>,
    qos: u8,
    retain: bool,
    props: Vec<Prop>,
}

impl Will {
    /// A QoS 0 will.
    pub fn new(topic: &str, payload: impl AsRef<[u8]>) -> Self {
        Self { topic: topic.into(), payload: payload.as_ref().into(), qos: 0, retain: false, props: Vec::new() }
    }
    /// With this QoS.
    pub fn qos(mut self, qos: u8) -> Self {
        self.qos = qos;
        self
    }
    /// With Will Retain = 1.
    pub fn retain(mut self) -> Self {
        self.retain = true;
        self
    }
    /// With one more will property (v5).
    pub fn prop(mut self, prop: Prop) -> Self {
        self.props.push(prop);
        self
    }
    /// With a Will Delay Interval (v5).
    pub fn delay(self, seconds: u32) -> Self {
        self.prop(prop::will_delay(seconds))
    }
}

/// A CONNECT in the making. Unless told otherwise: clean, keep alive 60, acknowledges by itself.
#[derive(Clone, Debug)]
pub struct Connect {
    version: u8,
    id: String,
    clean: bool,
    keep_alive: u16,
    props: Vec<Prop>,
    will: Option<Will>,
    user: Option<(String, Option<Vec<u8>>)>,
    auto_ack: bool,
    receive_buffer: Option<usize>,
}

impl Connect {
    /// For this protocol level.
    pub fn of(version: u8, id: &str) -> Self {
        Self {
            version,
            id: id.into(),
            clean: true,
            keep_alive: 60,
            props: Vec::new(),
            will: None,
            user: None,
            auto_ack: true,
            receive_buffer: None,
        }
    }
    /// MQTT 3.1.
    pub fn v31(id: &str) -> Self {
        Self::of(V31, id)
    }
    /// MQTT 3.1.1.
    pub fn v311(id: &str) -> Self {
        Self::of(V311, id)
    }
    /// MQTT 5.0.
    pub fn v5(id: &str) -> Self {
        Self::of(V5, id)
    }
    /// Clean session 0; in v5 Clean Start 0 with an expiry of 300 s.
    pub fn persistent(mut self) -> Self {
        self.clean = false;
        if self.version == V5 { self.expiry(300) } else { self }
    }
    /// The clean session or Clean Start flag.
    pub fn clean(mut self, clean: bool) -> Self {
        self.clean = clean;
        self
    }
    /// Keep alive in seconds.
    pub fn keep_alive(mut self, seconds: u16) -> Self {
        self.keep_alive = seconds;
        self
    }
    /// With one more property (v5).
    pub fn prop(mut self, prop: Prop) -> Self {
        self.props.push(prop);
        self
    }
    /// Session Expiry Interval (v5), replacing an earlier one.
    pub fn expiry(mut self, seconds: u32) -> Self {
        self.props.retain(|p| p.0 != prop::SESSION_EXPIRY);
        self.prop(prop::session_expiry(seconds))
    }
    /// Receive Maximum (v5).
    pub fn receive_maximum(self, n: u16) -> Self {
        self.prop(prop::receive_maximum(n))
    }
    /// With a will.
    pub fn will(mut self, will: Will) -> Self {
        self.will = Some(will);
        self
    }
    /// With user name and, perhaps, password.
    pub fn user(mut self, name: &str, password: Option<&[u8]>) -> Self {
        self.user = Some((name.into(), password.map(Into::into)));
        self
    }
    /// Leaves every acknowledgement to the test.
    pub fn manual(mut self) -> Self {
        self.auto_ack = false;
        self
    }
    /// Limits the socket's receive buffer.
    pub fn receive_buffer(mut self, bytes: usize) -> Self {
        self.receive_buffer = Some(bytes);
        self
    }

    /// The protocol level.
    pub fn version(&self) -> u8 {
        self.version
    }

    /// The bytes of the packet.
    pub fn encode(&self) -> Vec<u8> {
        let name = if self.version == V31 { "MQIsdp" } else { "MQTT" };
        let mut body = wire::field(name.as_bytes());
        body.push(self.version);
        let mut flags = u8::from(self.clean) << 1;
        if let Some(w) = &self.will {
            flags |= 4 | w.qos << 3 | u8::from(w.retain) << 5;
        }
        if let Some((_, password)) = &self.user {
            flags |= 0x80 | if password.is_some() { 0x40 } else { 0 };
        }
        body.push(flags);
        body.extend(self.keep_alive.to_be_bytes());
        if self.version == V5 {
            body.extend(wire::properties(&self.props));
        }
        body.extend(wire::field(self.id.as_bytes()));
        if let Some(w) = &self.will {
            if self.version == V5 {
                body.extend(wire::properties(&w.props));
            }
            body.extend(wire::field(w.topic.as_bytes()));
            body.extend(wire::field(&w.payload));
        }
        if let Some((name, password)) = &self.user {
            body.extend(wire::field(name.as_bytes()));
            if let Some(password) = password {
                body.extend(wire::field(password));
            }
        }
        wire::packet(0x10, &body)
    }

    /// Opens a connection; the CONNACK must accept it.
    #[track_caller]
    pub fn open(&self, broker: &Broker) -> Client {
        let (client, code) = self.open_any(broker);
        assert_eq!(code, 0, "CONNACK refuses: {code:#x}");
        client
    }

    /// Opens a connection and gives the CONNACK's code, whatever it is.
    #[track_caller]
    pub fn open_any(&self, broker: &Broker) -> (Client, u8) {
        Self::answered(self.send_to(broker))
    }

    /// Opens a connection over this stream; the CONNACK must accept it.
    #[track_caller]
    pub fn open_over(&self, stream: Stream) -> Client {
        let (client, code) = self.open_any_over(stream);
        assert_eq!(code, 0, "CONNACK refuses: {code:#x}");
        client
    }

    /// Opens a connection over this stream and gives the CONNACK's code, whatever it is.
    #[track_caller]
    pub fn open_any_over(&self, stream: Stream) -> (Client, u8) {
        let mut client = Client::over(stream, self.version);
        client.auto_ack = self.auto_ack;
        client.send(&self.encode());
        Self::answered(client)
    }

    #[track_caller]
    fn answered(mut client: Client) -> (Client, u8) {
        match client.read_packet(PATIENCE) {
            Read::Packet(Packet::Connack { session_present, code, props }) => {
                client.session_present = session_present;
                client.connack = props;
                (client, code)
            }
            other => panic!("the first packet must be CONNACK [MQTT-3.2.0-1], got {other:?}"),
        }
    }

    /// Sends the CONNECT and reads nothing.
    #[track_caller]
    pub fn send_to(&self, broker: &Broker) -> Client {
        self.send_to_port(broker.port())
    }

    /// Sends the CONNECT to this port and reads nothing.
    #[track_caller]
    pub fn send_to_port(&self, port: u16) -> Client {
        let mut client = Client::raw_with(port, self.version, self.receive_buffer).expect("TCP connect");
        client.auto_ack = self.auto_ack;
        client.send(&self.encode());
        client
    }

    /// The same for a broker that may be away: no panic, `None` when there is no CONNACK with code 0 in time.
    pub fn try_open(&self, port: u16, limit: Duration) -> Option<Client> {
        let mut client = Client::raw_with(port, self.version, self.receive_buffer).ok()?;
        client.auto_ack = self.auto_ack;
        if !client.try_send(&self.encode()) {
            return None;
        }
        match client.read_packet(limit) {
            Read::Packet(Packet::Connack { session_present, code: 0, props }) => {
                client.session_present = session_present;
                client.connack = props;
                Some(client)
            }
            _ => None,
        }
    }
}
