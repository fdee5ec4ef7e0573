//! A peer that shows the bytes as they came, for statements about sizes and lengths.

use crate::support::wire::{field, packet};
use crate::support::{Broker, Connect, ms, secs};
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

/// A socket without a decoder.
pub(crate) struct Raw(TcpStream);

impl Raw {
    /// Connects, sends the CONNECT, and reads nothing.
    pub(crate) fn open(broker: &Broker, connect: &Connect) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", broker.port())).unwrap();
        stream.set_nodelay(true).unwrap();
        let mut raw = Self(stream);
        raw.send(&connect.encode());
        raw
    }

    /// Sends; a broker that has already closed is no error.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).ok();
    }

    /// The packets that come until it is quiet for a while, each with its fixed header.
    pub(crate) fn packets(&mut self) -> Vec<Vec<u8>> {
        let mut bytes = Vec::new();
        let mut patience = secs(5);
        while self.read(&mut bytes, patience) {
            patience = ms(150);
        }
        split(&bytes)
    }

    /// The packets that come until the broker closes.
    #[track_caller]
    pub(crate) fn until_closed(&mut self) -> Vec<Vec<u8>> {
        let mut bytes = Vec::new();
        while self.read(&mut bytes, secs(10)) {}
        let mut one = [0];
        assert!(!matches!(self.0.read(&mut one), Err(e) if e.kind() == ErrorKind::WouldBlock), "still open");
        split(&bytes)
    }

    fn read(&mut self, bytes: &mut Vec<u8>, limit: Duration) -> bool {
        let mut chunk = [0; 4096];
        self.0.set_read_timeout(Some(limit)).unwrap();
        match self.0.read(&mut chunk) {
            Ok(0) | Err(_) => false,
            Ok(n) => {
                bytes.extend_from_slice(&chunk[..n]);
                true
            }
        }
    }
}

fn split(mut bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut packets = Vec::new();
    while !bytes.is_empty() {
        let digits = bytes[1..].iter().take_while(|b| **b >= 128).count() + 1;
        let length: usize = bytes[1..=digits].iter().rev().fold(0, |n, b| n << 7 | usize::from(b & 127));
        let (packet, rest) = bytes.split_at(1 + digits + length);
        packets.push(packet.to_vec());
        bytes = rest;
    }
    packets
}

/// A CONNECT by its parts: flags, and what follows keep alive (and, in v5, an empty property block).
pub(crate) fn connect(version: u8, flags: u8, rest: &[&[u8]]) -> Vec<u8> {
    let mut body = field(if version == 3 { b"MQIsdp" } else { b"MQTT" });
    body.extend([version, flags, 0, 60]);
    if version == 5 {
        body.push(0);
    }
    rest.iter().for_each(|part| body.extend_from_slice(part));
    packet(0x10, &body)
}
