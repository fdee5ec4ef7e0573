//! A scripted MQTT peer over a plain socket: sends exactly what it is told to, reads packet by packet.

use super::wire::{self, PUBACK, PUBCOMP, PUBREC, PUBREL, Packet, Prop, Publish, V5, V31};
use super::{PATIENCE, QUIET, Stream, secs};
use socket2::{Domain, Socket, Type};
use std::collections::VecDeque;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// What a read brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Read {
    /// A whole packet.
    Packet(Packet),
    /// The connection is closed, by FIN or RST.
    Closed,
    /// Nothing whole within the time.
    Timeout,
}

/// One connection to the broker.
#[derive(Debug)]
pub struct Client {
    stream: Stream,
    bytes: Vec<u8>,
    version: u8,
    /// Packets that came while another was awaited.
    inbox: VecDeque<Packet>,
    next_id: u16,
    /// Answers PUBLISH and PUBREL as they are read off the socket.
    pub auto_ack: bool,
    /// From the CONNACK.
    pub session_present: bool,
    /// The CONNACK's properties.
    pub connack: Vec<Prop>,
}

impl Client {
    /// A TCP connection on which nothing was sent yet.
    #[track_caller]
    pub fn raw(port: u16, version: u8) -> Self {
        Self::raw_with(port, version, None).expect("TCP connect")
    }

    /// The same with a small receive buffer, or the error.
    pub fn raw_with(port: u16, version: u8, receive_buffer: Option<usize>) -> std::io::Result<Self> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        if let Some(n) = receive_buffer {
            socket.set_recv_buffer_size(n)?;
        }
        socket.connect_timeout(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into(), secs(5))?;
        socket.set_tcp_nodelay(true)?;
        let stream: TcpStream = socket.into();
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self::over(Stream::Tcp(stream), version))
    }

    /// A peer at the end of this stream.
    pub fn over(stream: Stream, version: u8) -> Self {
        Self {
            stream,
            bytes: Vec::new(),
            version,
            inbox: VecDeque::new(),
            next_id: 0,
            auto_ack: true,
            session_present: false,
            connack: Vec::new(),
        }
    }

    /// What it reads and writes.
    pub fn stream(&mut self) -> &mut Stream {
        &mut self.stream
    }

    /// Sends these bytes.
    #[track_caller]
    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("write to the broker");
    }

    /// Sends these bytes; false when the connection is gone.
    pub fn try_send(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).is_ok()
    }

    /// Sends the bytes given as hex digits; a broker that has already closed is no error.
    pub fn send_hex(&mut self, digits: &str) {
        self.try_send(&wire::hex(digits));
    }

    /// A packet identifier that was not used on this connection yet.
    pub fn fresh_id(&mut self) -> u16 {
        self.next_id = self.next_id % 65_535 + 1;
        self.next_id
    }

    /// The next packet: first those put aside, then from the socket.
    pub fn read_packet(&mut self, limit: Duration) -> Read {
        match self.inbox.pop_front() {
            Some(packet) => Read::Packet(packet),
            None => self.read_socket(limit),
        }
    }

    fn read_socket(&mut self, limit: Duration) -> Read {
        let deadline = Instant::now() + limit;
        loop {
            if let Some((packet, used)) = decode_front(&self.bytes, self.version) {
                self.bytes.drain(..used);
                if self.auto_ack && self.answer(&packet) {
                    continue;
                }
                return Read::Packet(packet);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Read::Timeout;
            }
            let mut chunk = [0; 16 * 1024];
            self.stream.socket().set_read_timeout(Some(left.max(Duration::from_millis(1)))).ok();
            match self.stream.read(&mut chunk) {
                Ok(0) => return Read::Closed,
                Ok(n) => self.bytes.extend_from_slice(&chunk[..n]),
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted) => {}
                Err(_) => return Read::Closed,
            }
        }
    }

    /// Acknowledges; true when the packet needs no one else's attention.
    fn answer(&mut self, packet: &Packet) -> bool {
        match packet {
            Packet::Publish(p) if p.qos == 1 => self.try_send(&ack_bytes(PUBACK, p.id)),
            Packet::Publish(p) if p.qos == 2 => self.try_send(&ack_bytes(PUBREC, p.id)),
            Packet::Ack { kind: PUBREL, id, .. } => {
                self.try_send(&ack_bytes(PUBCOMP, *id));
                return true;
            }
            _ => return false,
        };
        false
    }

    /// The next packet; panics when none comes or the connection is closed.
    #[track_caller]
    pub fn recv(&mut self) -> Packet {
        match self.read_packet(PATIENCE) {
            Read::Packet(packet) => packet,
            other => panic!("expected a packet, got {other:?}"),
        }
    }

    /// The first packet that the filter takes; others are put aside for later reads.
    #[track_caller]
    pub fn recv_where<T>(&mut self, what: &str, mut take: impl FnMut(&Packet) -> Option<T>) -> T {
        for at in 0..self.inbox.len() {
            if let Some(found) = take(&self.inbox[at]) {
                self.inbox.remove(at);
                return found;
            }
        }
        loop {
            match self.read_socket(PATIENCE) {
                Read::Packet(packet) => match take(&packet) {
                    Some(found) => return found,
                    None => self.inbox.push_back(packet),
                },
                other => panic!("waiting for {what}: {other:?}; put aside: {:?}", self.inbox),
            }
        }
    }

    /// The next packet, which must be a PUBLISH.
    #[track_caller]
    pub fn expect_publish(&mut self) -> Publish {
        match self.recv() {
            Packet::Publish(publish) => publish,
            other => panic!("expected PUBLISH, got {other:?}"),
        }
    }

    /// The next packet, which must be a PUBLISH with this payload.
    #[track_caller]
    pub fn expect_payload(&mut self, payload: impl AsRef<[u8]>) -> Publish {
        let publish = self.expect_publish();
        let expected = String::from_utf8_lossy(payload.as_ref()).into_owned();
        assert_eq!(publish.text(), expected, "payload on {}", publish.topic);
        publish
    }

    /// The next packet, which must be this acknowledgement; gives its code.
    #[track_caller]
    pub fn expect_ack(&mut self, kind: u8, id: u16) -> u8 {
        match self.recv() {
            Packet::Ack { kind: k, id: i, code, .. } if (k, i) == (kind, id) => code,
            other => panic!("expected acknowledgement {kind} of {id}, got {other:?}"),
        }
    }

    /// Nothing but a PINGRESP comes, neither before it nor for a while after.
    #[track_caller]
    pub fn expect_nothing(&mut self) {
        self.expect_nothing_for(QUIET);
    }

    /// The same, watched for this long.
    #[track_caller]
    pub fn expect_nothing_for(&mut self, time: Duration) {
        self.send(&[0xc0, 0]);
        assert_eq!(self.recv(), Packet::Pingresp, "expected nothing but PINGRESP");
        let got = self.read_packet(time);
        assert_eq!(got, Read::Timeout, "expected nothing");
    }

    /// PINGREQ and its answer; other packets are put aside.
    #[track_caller]
    pub fn ping(&mut self) {
        self.send(&[0xc0, 0]);
        self.recv_where("PINGRESP", |p| (*p == Packet::Pingresp).then_some(()));
    }

    /// The broker closes; gives what it sent before. At most one DISCONNECT may be among it, as the last.
    #[track_caller]
    pub fn expect_closed(&mut self) -> Vec<Packet> {
        self.expect_closed_within(PATIENCE)
    }

    /// The same within a given time.
    #[track_caller]
    pub fn expect_closed_within(&mut self, limit: Duration) -> Vec<Packet> {
        let deadline = Instant::now() + limit;
        let mut seen = Vec::new();
        loop {
            match self.read_packet(deadline.saturating_duration_since(Instant::now())) {
                Read::Packet(packet) => seen.push(packet),
                Read::Closed => return seen,
                Read::Timeout => panic!("the broker did not close within {limit:?}; it sent {seen:?}"),
            }
        }
    }

    /// Reads until the broker closes, and gives the bytes as they are.
    #[track_caller]
    pub fn bytes_until_closed(&mut self) -> Vec<u8> {
        self.stream.socket().set_read_timeout(Some(PATIENCE)).expect("set the timeout");
        let mut bytes = std::mem::take(&mut self.bytes);
        match self.stream.read_to_end(&mut bytes) {
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                panic!("not closed: {bytes:x?}")
            }
            _ => bytes,
        }
    }

    /// The broker closes, in v5 after a DISCONNECT with one of these codes; nothing else is sent.
    #[track_caller]
    pub fn expect_disconnect(&mut self, codes: &[u8]) {
        let seen = self.expect_closed();
        match seen.as_slice() {
            [Packet::Disconnect { code, .. }] => assert!(codes.contains(code), "code {code:#x}, not of {codes:x?}"),
            [] if self.version != V5 => {}
            other => panic!("expected DISCONNECT {codes:x?} and close, got {other:?}"),
        }
    }

    /// The broker closes; a DISCONNECT may come before, if it has one of these codes.
    #[track_caller]
    pub fn expect_cut(&mut self, codes: &[u8]) {
        match self.expect_closed().as_slice() {
            [] => {}
            [Packet::Disconnect { code, .. }] if codes.contains(code) => {}
            other => panic!("expected a closed connection, perhaps after DISCONNECT {codes:x?}, got {other:?}"),
        }
    }

    /// SUBSCRIBE with one filter; `options` is the QoS or the whole options byte. Gives the SUBACK's code.
    #[track_caller]
    pub fn subscribe(&mut self, filter: &str, options: u8) -> u8 {
        self.subscribe_many(&[(filter, options)], &[])[0]
    }

    /// SUBSCRIBE with several filters and properties.
    #[track_caller]
    pub fn subscribe_many(&mut self, filters: &[(&str, u8)], props: &[Prop]) -> Vec<u8> {
        let id = self.send_subscribe(filters, props);
        self.recv_where("SUBACK", |p| match p {
            Packet::Suback { id: i, codes, .. } if *i == id => Some(codes.clone()),
            _ => None,
        })
    }

    /// Sends a SUBSCRIBE and does not wait; gives its identifier.
    pub fn send_subscribe(&mut self, filters: &[(&str, u8)], props: &[Prop]) -> u16 {
        let id = self.fresh_id();
        let mut body = id.to_be_bytes().to_vec();
        if self.version == V5 {
            body.extend(wire::properties(props));
        }
        for (filter, options) in filters {
            body.extend(wire::field(filter.as_bytes()));
            body.push(*options);
        }
        self.try_send(&wire::packet(0x82, &body));
        id
    }

    /// UNSUBSCRIBE with one filter; gives the UNSUBACK's code (0 for 3.1.1, which has none).
    #[track_caller]
    pub fn unsubscribe(&mut self, filter: &str) -> u8 {
        let id = self.fresh_id();
        let mut body = id.to_be_bytes().to_vec();
        if self.version == V5 {
            body.push(0);
        }
        body.extend(wire::field(filter.as_bytes()));
        self.send(&wire::packet(0xa2, &body));
        let codes = self.recv_where("UNSUBACK", |p| match p {
            Packet::Unsuback { id: i, codes, .. } if *i == id => Some(codes.clone()),
            _ => None,
        });
        codes.first().copied().unwrap_or(0)
    }

    /// Publishes and completes the exchange; gives the code of PUBACK or PUBREC (0 at QoS 0).
    #[track_caller]
    pub fn publish(&mut self, topic: &str, payload: impl AsRef<[u8]>, qos: u8) -> u8 {
        self.publish_as(Publish::new(topic, payload).qos(qos))
    }

    /// Publishes a retained message and completes the exchange.
    #[track_caller]
    pub fn retain(&mut self, topic: &str, payload: impl AsRef<[u8]>, qos: u8) -> u8 {
        self.publish_as(Publish::new(topic, payload).qos(qos).retain())
    }

    /// Publishes this and completes the exchange.
    #[track_caller]
    pub fn publish_as(&mut self, publish: Publish) -> u8 {
        let id = self.send_publish(publish.clone());
        match publish.qos {
            0 => 0,
            1 => self.wait_ack(PUBACK, id),
            _ => {
                let code = self.wait_ack(PUBREC, id);
                if code < 0x80 {
                    self.send(&ack_bytes(PUBREL, id));
                    assert_eq!(self.wait_ack(PUBCOMP, id), 0, "code of PUBCOMP");
                }
                code
            }
        }
    }

    /// Sends a PUBLISH, with a fresh identifier unless it has one, and does not wait.
    pub fn send_publish(&mut self, mut publish: Publish) -> u16 {
        if publish.qos > 0 && publish.id == 0 {
            publish.id = self.fresh_id();
        }
        self.try_send(&publish.encode(self.version));
        publish.id
    }

    /// Waits for this acknowledgement, whatever comes before it; gives its code.
    #[track_caller]
    pub fn wait_ack(&mut self, kind: u8, id: u16) -> u8 {
        self.recv_where(&format!("acknowledgement {kind} of {id}"), |p| match p {
            Packet::Ack { kind: k, id: i, code, .. } if (*k, *i) == (kind, id) => Some(*code),
            _ => None,
        })
    }

    /// Sends an acknowledgement.
    pub fn ack(&mut self, kind: u8, id: u16) {
        self.try_send(&ack_bytes(kind, id));
    }

    /// DISCONNECT and close; waits until the broker has closed too.
    #[track_caller]
    pub fn disconnect(mut self) {
        self.send(&[0xe0, 0]);
        self.expect_closed();
    }

    /// DISCONNECT with a code and properties (v5), then waits for the end.
    #[track_caller]
    pub fn disconnect_with(mut self, code: u8, props: &[Prop]) {
        let mut body = vec![code];
        body.extend(wire::properties(props));
        self.send(&wire::packet(0xe0, &body));
        self.expect_closed();
    }

    /// Closes with linger 0, so that the broker gets an RST.
    pub fn rst(self) {
        self.stream.socket().set_linger(Some(Duration::ZERO)).expect("set linger");
    }

    /// Closes without a DISCONNECT.
    pub fn fin(self) {
        self.stream.socket().shutdown(Shutdown::Both).ok();
    }

    /// Whether the session was there. MQTT 3.1 has no flag for it, so there the test has to see by other means.
    pub fn resumed(&self) -> bool {
        self.session_present || self.version == V31
    }

    /// The protocol version that this peer speaks.
    pub fn version(&self) -> u8 {
        self.version
    }

    /// Another handle on the same socket, for a thread that only writes.
    pub fn writer(&self) -> TcpStream {
        self.stream.try_clone()
    }
}

/// `decode`, with the bytes shown when they make no sense.
fn decode_front(bytes: &[u8], version: u8) -> Option<(Packet, usize)> {
    if bytes.len() < 2 {
        return None;
    }
    wire::decode(bytes, version)
}

/// An acknowledgement of two bytes, which every version knows.
pub fn ack_bytes(kind: u8, id: u16) -> Vec<u8> {
    let flags = if kind == PUBREL { 2 } else { 0 };
    wire::packet(kind << 4 | flags, &id.to_be_bytes())
}
