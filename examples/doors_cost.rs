//! What a message costs a broker by each of its doors: CPU time per message that it delivers.
//!
//! ```text
//! cargo run --release --example doors_cost -- PID KIND PORT [CA] [MESSAGES] [SIZE]
//! ```
//! `KIND` is tcp, tls, ws or wss. Ten publishers send at QoS 1, fifty at a time, each to a subscriber of its own. The
//! broker is any one, on this machine: its CPU time is read from /proc/PID/stat.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, missing_docs, reason = "a tool to measure with")]

use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Instant;
use tungstenite::client::IntoClientRequest as _;
use tungstenite::{Message, WebSocket};

const PAIRS: usize = 10;
const WINDOW: usize = 50;

type Tls = StreamOwned<ClientConnection, TcpStream>;

enum Wire {
    Tcp(TcpStream),
    Tls(Box<Tls>),
    Ws(Box<WebSocket<TcpStream>>),
    Wss(Box<WebSocket<Tls>>),
}

impl Wire {
    fn open(kind: &str, port: u16, tls: Option<&Arc<ClientConfig>>) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_nodelay(true).unwrap();
        let encrypt = |stream| {
            let name = ServerName::try_from("localhost").unwrap();
            StreamOwned::new(ClientConnection::new(Arc::clone(tls.unwrap()), name).unwrap(), stream)
        };
        let request = || {
            let mut request = "ws://localhost/mqtt".into_client_request().unwrap();
            request.headers_mut().insert("Sec-WebSocket-Protocol", "mqtt".parse().unwrap());
            request
        };
        match kind {
            "tcp" => Self::Tcp(stream),
            "tls" => Self::Tls(Box::new(encrypt(stream))),
            "ws" => Self::Ws(Box::new(tungstenite::client(request(), stream).unwrap().0)),
            "wss" => Self::Wss(Box::new(tungstenite::client(request(), encrypt(stream)).unwrap().0)),
            other => panic!("no such kind: {other}"),
        }
    }

    fn send(&mut self, bytes: &[u8]) {
        match self {
            Self::Tcp(stream) => stream.write_all(bytes).unwrap(),
            Self::Tls(stream) => {
                stream.write_all(bytes).unwrap();
                stream.flush().unwrap();
            }
            Self::Ws(socket) => socket.send(Message::Binary(bytes.to_vec().into())).unwrap(),
            Self::Wss(socket) => socket.send(Message::Binary(bytes.to_vec().into())).unwrap(),
        }
    }

    fn receive(&mut self, into: &mut Vec<u8>) {
        let mut buffer = [0; 16 * 1024];
        match self {
            Self::Tcp(stream) => {
                let count = stream.read(&mut buffer).unwrap();
                into.extend_from_slice(&buffer[..count]);
            }
            Self::Tls(stream) => {
                let count = stream.read(&mut buffer).unwrap();
                into.extend_from_slice(&buffer[..count]);
            }
            Self::Ws(socket) => into.extend_from_slice(&socket.read().unwrap().into_data()),
            Self::Wss(socket) => into.extend_from_slice(&socket.read().unwrap().into_data()),
        }
    }

    /// Takes whole packets until `enough` of the kind `wanted` have come; calls `each` with them.
    fn packets(&mut self, left: &mut Vec<u8>, wanted: u8, enough: usize, mut each: impl FnMut(&[u8])) {
        let mut seen = 0;
        while seen < enough {
            let mut at = 0;
            while let Some((start, end)) = frame(&left[at..]) {
                if left[at] >> 4 == wanted {
                    each(&left[at + start..at + end]);
                    seen += 1;
                }
                at += end;
            }
            left.drain(..at);
            if seen < enough {
                self.receive(left);
            }
        }
    }
}

/// Where the body of the first packet begins and ends, if it is whole.
fn frame(bytes: &[u8]) -> Option<(usize, usize)> {
    let (mut length, mut shift) = (0, 0);
    for (at, byte) in bytes.iter().enumerate().skip(1) {
        length |= usize::from(byte & 0x7f) << shift;
        shift += 7;
        if byte & 0x80 == 0 {
            let end = at + 1 + length;
            return (bytes.len() >= end).then_some((at + 1, end));
        }
    }
    None
}

fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let (mut packet, mut length) = (vec![first], body.len());
    loop {
        let byte = u8::try_from(length % 128).unwrap();
        length /= 128;
        packet.push(if length > 0 { byte | 0x80 } else { byte });
        if length == 0 {
            break;
        }
    }
    packet.extend_from_slice(body);
    packet
}

fn text(text: &str) -> Vec<u8> {
    [&u16::try_from(text.len()).unwrap().to_be_bytes()[..], text.as_bytes()].concat()
}

fn connected(kind: &str, port: u16, tls: Option<&Arc<ClientConfig>>, id: &str) -> (Wire, Vec<u8>) {
    let (mut wire, mut left) = (Wire::open(kind, port, tls), Vec::new());
    wire.send(&packet(0x10, &[&text("MQTT")[..], &[4, 2, 0, 60], &text(id)].concat()));
    wire.packets(&mut left, 2, 1, |_| {});
    (wire, left)
}

/// CPU time of the process so far, in microseconds.
fn cpu(pid: &str) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    ticks * 10_000
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [pid, kind, port, rest @ ..] = &arguments[..] else { panic!("PID KIND PORT [CA] [MESSAGES] [SIZE]") };
    let port: u16 = port.parse().unwrap();
    let tls = rest.first().filter(|ca| ca.as_str() != "-").map(|ca| {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(ca).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        Arc::new(builder.with_root_certificates(roots).with_no_client_auth())
    });
    let messages: usize = rest.get(1).map_or(20_000, |count| count.parse().unwrap());
    let size: usize = rest.get(2).map_or(16, |size| size.parse().unwrap());
    let rounds = messages / WINDOW;
    let mut pairs = Vec::new();
    for number in 0..PAIRS {
        let topic = format!("cost/{number}");
        let (mut subscriber, mut left) = connected(kind, port, tls.as_ref(), &format!("s{number}"));
        subscriber.send(&packet(0x82, &[&[0, 1][..], &text(&topic), &[1]].concat()));
        subscriber.packets(&mut left, 9, 1, |_| {});
        pairs.push((subscriber, left, connected(kind, port, tls.as_ref(), &format!("p{number}")), topic));
    }
    let (before, started) = (cpu(pid), Instant::now());
    let threads: Vec<_> = pairs
        .into_iter()
        .flat_map(|(mut subscriber, mut taken, (mut publisher, mut left), topic)| {
            let publish = std::thread::spawn(move || {
                for _ in 0..rounds {
                    let mut burst = Vec::new();
                    for id in 1..=WINDOW {
                        let id = u16::try_from(id).unwrap().to_be_bytes();
                        burst.extend(packet(0x32, &[&text(&topic)[..], &id, &vec![b'x'; size]].concat()));
                    }
                    publisher.send(&burst);
                    publisher.packets(&mut left, 4, WINDOW, |_| {});
                }
            });
            let subscribe = std::thread::spawn(move || {
                let mut seen = 0;
                while seen < rounds * WINDOW {
                    let mut acks = Vec::new();
                    let mut count = 0;
                    subscriber.packets(&mut taken, 3, 1, |body| {
                        let topic = usize::from(u16::from_be_bytes([body[0], body[1]]));
                        acks.extend([0x40, 2, body[2 + topic], body[3 + topic]]);
                        count += 1;
                    });
                    seen += count;
                    subscriber.send(&acks);
                }
            });
            [publish, subscribe]
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    let delivered = PAIRS * rounds * WINDOW;
    let cost = (cpu(pid) - before) as f64 / delivered as f64;
    println!("{kind}: {cost:.2} us of CPU per message, {delivered} messages of {size} B in {:.1?}", started.elapsed());
}
