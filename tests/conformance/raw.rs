//! A peer that shows the bytes as they came, for statements about sizes and lengths.

use crate::support::wire::{field, packet};
use crate::support::{Broker, Connect, ms, secs};
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

/// A socket without a decoder.
pub(crate) struct Raw {
    stream: TcpStream,
    bytes: Vec<u8>,
}

impl Raw {
    /// Connects, sends the CONNECT, and reads nothing.
    pub(crate) fn open(broker: &Broker, connect: &Connect) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", broker.port())).unwrap();
        stream.set_nodelay(true).unwrap();
        let mut raw = Self { stream, bytes: Vec::new() };
        raw.send(&connect.encode());
        raw
    }

    /// Sends; a broker that has already closed is no error.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).ok();
    }

    /// The packets that come until it is quiet for a while, each with its fixed header.
    pub(crate) fn packets(&mut self) -> Vec<Vec<u8>> {
        let mut patience = secs(5);
        while self.read(patience) {
            patience = ms(150);
        }
        self.whole()
    }

    /// Waits for a packet of this kind; others that come are dropped.
    #[track_caller]
    pub(crate) fn wait_for(&mut self, kind: u8) {
        while !self.whole().iter().any(|packet| packet[0] >> 4 == kind) {
            assert!(self.read(secs(10)), "no packet of kind {kind}");
        }
    }

    /// The packets that come until the broker closes.
    #[track_caller]
    pub(crate) fn until_closed(&mut self) -> Vec<Vec<u8>> {
        while self.read(secs(10)) {}
        let mut one = [0];
        assert!(!matches!(self.stream.read(&mut one), Err(e) if e.kind() == ErrorKind::WouldBlock), "still open");
        self.whole()
    }

    fn read(&mut self, limit: Duration) -> bool {
        let mut chunk = [0; 4096];
        self.stream.set_read_timeout(Some(limit)).unwrap();
        match self.stream.read(&mut chunk) {
            Ok(0) | Err(_) => false,
            Ok(n) => {
                self.bytes.extend_from_slice(&chunk[..n]);
                true
            }
        }
    }

    /// Takes the packets that are there in full.
    fn whole(&mut self) -> Vec<Vec<u8>> {
        let mut packets = Vec::new();
        while let Some(size) = size(&self.bytes) {
            packets.push(self.bytes.drain(..size).collect());
        }
        packets
    }
}

/// The size of the packet at the front, if it is there in full.
fn size(bytes: &[u8]) -> Option<usize> {
    let (mut length, mut at) = (0, 1);
    loop {
        let byte = *bytes.get(at)?;
        length |= usize::from(byte & 127) << (7 * (at - 1));
        at += 1;
        if byte < 128 {
            return (bytes.len() >= at + length).then_some(at + length);
        }
    }
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
