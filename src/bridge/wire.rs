//! A connection as a bridge uses it: bytes that came and were not taken yet, bytes that wait to go.

use crate::transport::Socket;
use nightjar_mqtt::{DecodeError, Packet, Version, decode, encode, frame};
use std::io;

/// Bytes read at a time.
const READ: usize = 64 * 1024;
/// Bytes of small messages that are written at a time to a remote, less than a packet of the network holds. One that reads
/// a message field by field, as mosquitto does, spends the less on it the less waits behind: measured, 5.4 us instead of 6.3.
const SEGMENT: usize = 1000;
/// The most bytes of an answer to a packet of ours.
pub(super) const MOST_ANSWER: usize = 1 << 20;

/// One of the two connections of a bridge.
pub(super) struct Wire {
    pub(super) socket: Socket,
    /// What came and was not taken yet.
    pub(super) input: Vec<u8>,
    /// What waits to go, from `sent` on.
    pub(super) output: Vec<u8>,
    sent: usize,
    in_segments: bool,
    /// There is no layer that makes packets of its own of what is written.
    pub(super) is_plain: bool,
}

/// Why a packet that was waited for did not come.
#[derive(Debug, thiserror::Error)]
pub(super) enum WireError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("the connection was closed")]
    Closed,
    #[error("no MQTT came: {0}")]
    Decode(#[from] DecodeError),
}

impl Wire {
    pub(super) fn new(socket: Socket) -> Self {
        Self { socket, input: Vec::new(), output: Vec::new(), sent: 0, in_segments: false, is_plain: false }
    }

    /// Reads what has come; whether anything had.
    pub(super) fn read(&mut self) -> Result<bool, WireError> {
        let length = self.input.len();
        self.input.resize(length + READ, 0);
        let result = self.socket.try_read(&mut self.input[length..]);
        self.input.truncate(length + *result.as_ref().unwrap_or(&0));
        match result {
            Ok(0) => Err(WireError::Closed),
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Takes `count` bytes off what came. A large packet that was waited for leaves no large buffer behind.
    pub(super) fn take(&mut self, count: usize) {
        self.input.drain(..count);
        if self.input.is_empty() && self.input.capacity() > READ * 4 {
            self.input = Vec::new();
        }
    }

    /// Whether what waits is written in small pieces, over a plain connection.
    pub(super) fn set_in_segments(&mut self, in_segments: bool) {
        self.in_segments = in_segments;
    }

    /// Bytes that wait to go.
    pub(super) fn waiting(&self) -> usize {
        self.output.len() - self.sent
    }

    /// Whether anything waits to go, here or in a layer below.
    pub(super) fn wants_write(&self) -> bool {
        self.waiting() > 0 || self.socket.holds_back()
    }

    /// Writes as much as goes now.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        let most = if self.in_segments && self.is_plain { SEGMENT } else { usize::MAX };
        while self.waiting() > 0 {
            let end = self.sent + self.waiting().min(most);
            match self.socket.try_write(&self.output[self.sent..end]) {
                Ok(count) => self.sent += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        if self.waiting() == 0 {
            self.sent = 0;
            self.output.clear();
            self.output.shrink_to(READ * 4);
        }
        match self.socket.try_flush() {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
            _ => Ok(()),
        }
    }

    /// Writes a packet, and waits until it went.
    pub(super) async fn send(&mut self, packet: &Packet, version: Version) -> io::Result<()> {
        encode(packet, version, &mut self.output);
        self.drain().await
    }

    /// Waits until everything went.
    pub(super) async fn drain(&mut self) -> io::Result<()> {
        loop {
            self.flush()?;
            if !self.wants_write() {
                return Ok(());
            }
            self.socket.writable().await?;
        }
    }

    /// Waits for the next packet, which answers one of ours and so is small.
    pub(super) async fn receive(&mut self, version: Version) -> Result<Packet, WireError> {
        loop {
            if let Some(frame) = frame::peek(&self.input, MOST_ANSWER, version)? {
                let (packet, size) = (decode(&frame, version)?, frame.size);
                self.take(size);
                return Ok(packet);
            }
            self.socket.readable().await?;
            self.read()?;
        }
    }
}
