//! TLS and WebSocket between a socket and MQTT.
//!
//! ```text
//! socket ─ bytes ─> TLS ─ bytes ─> WebSocket ─ payloads ─> MQTT
//!        <─ bytes ─     <─ frames ─          <─ payloads ─
//! ```
//! Either may be missing. Neither does I/O of its own: bytes go through in pieces of a shared buffer, so an idle
//! connection holds no buffer but what its layer needs between two reads.

use super::frames::Framer;
use super::socket::Raw;
use rustls::Connection;
use std::cell::RefCell;
use std::io::{self, IoSlice, Read, Write};
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::protocol::{CloseFrame, Role, WebSocketConfig, WebSocketContext};
use tungstenite::{Error, Message};

/// Bytes read at a time.
const READ: usize = 64 * 1024;
/// Reads that may bring nothing for MQTT before others have their turn.
const READS: usize = 4;
/// Most bytes taken by one write, and so most that are held back when the socket is full.
const WRITE: usize = 64 * 1024;
/// What the WebSocket layer reads at a time, and keeps while idle: the default of the library would be 128 KiB.
const FRAME_BUFFER: usize = 1024;
/// What is held back at most: one write and as much again, which only answers to pings can add.
const MOST_HELD: usize = WRITE * 2;
/// Bytes of a control frame besides its payload: the header and the mask (RFC 6455 section 5.2).
const CONTROL_HEADER: usize = 6;
/// Room for the control frames of a WebSocket.
const CONTROL: usize = 4 * 1024;

thread_local! {
    static INPUT: RefCell<Vec<u8>> = RefCell::new(vec![0; READ]);
    static PLAIN: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// The layers of one connection.
pub(super) struct Layers {
    tls: Option<Box<Connection>>,
    web: Option<Box<WebSocketContext>>,
    /// Frames to the other end.
    framer: Framer,
    /// MQTT bytes that came and were not taken yet, from `taken` on.
    inbox: Vec<u8>,
    taken: usize,
    /// Bytes for TLS, or for the socket where there is none, that were not taken yet.
    outbox: Vec<u8>,
    /// Bytes of a WebSocket message that is not whole yet, or fewer.
    unfinished: usize,
    over: Option<Over>,
}

/// Why nothing more can be read.
#[derive(Clone, Copy)]
enum Over {
    /// The stream has ended.
    Ended,
    /// The layer met something that it does not take.
    Broken(&'static str),
}

impl Layers {
    pub(super) fn new(tls: Option<Box<Connection>>) -> Self {
        Self {
            tls,
            web: None,
            framer: Framer::default(),
            inbox: Vec::new(),
            taken: 0,
            outbox: Vec::new(),
            unfinished: 0,
            over: None,
        }
    }

    /// From now on bytes are WebSocket frames of at most `bytes`; `rest` came already.
    pub(super) fn upgrade(&mut self, role: Role, bytes: usize, rest: &[u8]) {
        if role == Role::Client {
            self.framer = Framer::masking();
        }
        let config = WebSocketConfig::default()
            .read_buffer_size(FRAME_BUFFER)
            .write_buffer_size(0)
            .max_write_buffer_size(WRITE * 2)
            .max_message_size(Some(bytes))
            .max_frame_size(Some(bytes));
        self.web = Some(Box::new(WebSocketContext::new(role, Some(config))));
        self.unframe(rest);
    }

    pub(super) fn allow_frames(&mut self, bytes: usize) {
        if let Some(web) = &mut self.web {
            web.set_config(|config| {
                config.max_message_size = Some(bytes);
                config.max_frame_size = Some(bytes);
            });
        }
    }

    /// Whether a read would find something that has come through already.
    pub(super) fn has_read(&self) -> bool {
        self.taken < self.inbox.len() || self.over.is_some()
    }

    /// Whether a WebSocket message has begun that is not whole yet.
    pub(super) fn is_unfinished(&self) -> bool {
        self.unfinished > 0
    }

    /// Whether something is to be written.
    pub(super) fn holds_back(&self) -> bool {
        !self.outbox.is_empty() || self.tls.as_ref().is_some_and(|tls| tls.wants_write())
    }

    /// Reads MQTT bytes into `buffer`; `receive` takes them from the socket.
    pub(super) fn read(
        &mut self,
        raw: &Raw,
        buffer: &mut [u8],
        receive: impl Fn(&Raw, &mut [u8]) -> io::Result<usize>,
    ) -> io::Result<usize> {
        let mut reads = 0;
        while !self.has_read() {
            if reads == READS {
                // Nothing but pings and the like: others have their turn.
                return Err(io::ErrorKind::WouldBlock.into());
            }
            reads += 1;
            let received = INPUT.with_borrow_mut(|input| {
                let count = receive(raw, input)?;
                self.take_in(&input[..count])?;
                Ok::<_, io::Error>(count)
            });
            // Whatever came may ask for an answer: an alert, a pong. If it cannot go now, the next write takes it along.
            match self.flush(raw) {
                Err(error) if error.kind() != io::ErrorKind::WouldBlock && received.is_ok() => return Err(error),
                _ => {}
            }
            received?;
        }
        let there = &self.inbox[self.taken..];
        let count = there.len().min(buffer.len());
        buffer[..count].copy_from_slice(&there[..count]);
        self.taken += count;
        if self.taken == self.inbox.len() {
            // Given up whole: an idle connection holds none.
            self.inbox = Vec::new();
            self.taken = 0;
        }
        match self.over {
            Some(Over::Broken(why)) if count == 0 => Err(io::Error::new(io::ErrorKind::InvalidData, why)),
            _ => Ok(count),
        }
    }

    /// Takes bytes of the socket; none are its end.
    pub(super) fn take_in(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        if bytes.is_empty() {
            self.over = Some(Over::Ended);
            return Ok(());
        }
        let Some(mut tls) = self.tls.take() else {
            self.pass(bytes);
            return Ok(());
        };
        let result = PLAIN.with_borrow_mut(|plain| {
            while !bytes.is_empty() {
                tls.read_tls(&mut bytes)?;
                let state =
                    tls.process_new_packets().map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
                let count = state.plaintext_bytes_to_read();
                plain.resize(count, 0);
                tls.reader().read_exact(plain)?;
                self.pass(plain);
                if state.peer_has_closed() {
                    self.over.get_or_insert(Over::Ended);
                    break;
                }
            }
            Ok(())
        });
        self.tls = Some(tls);
        result
    }

    /// Passes decrypted bytes on: to the WebSocket layer, or on to MQTT.
    fn pass(&mut self, bytes: &[u8]) {
        if self.web.is_some() { self.unframe(bytes) } else { self.inbox.extend_from_slice(bytes) }
    }

    /// Takes the payloads out of WebSocket frames; packets may lie across them as they like [MQTT-6.0.0-2].
    fn unframe(&mut self, bytes: &[u8]) {
        let Some(web) = &mut self.web else { return };
        if self.over.is_some() {
            return;
        }
        self.unfinished += bytes.len();
        let mut pipe = Pipe { input: bytes, output: self.framer.control(&mut self.outbox) };
        self.over = loop {
            match web.read(&mut pipe) {
                Ok(Message::Binary(payload)) => {
                    self.unfinished = 0;
                    self.inbox.extend_from_slice(&payload);
                }
                Ok(Message::Ping(payload) | Message::Pong(payload)) => {
                    // These may come between the parts of a message, and are no part of it.
                    self.unfinished = self.unfinished.saturating_sub(CONTROL_HEADER + payload.len());
                    if pipe.output.len() > MOST_HELD {
                        break Some(Over::Broken("WebSocket pings, whose answers it does not read"));
                    }
                }
                Ok(Message::Text(_)) => {
                    // [MQTT-6.0.0-1]
                    let frame = CloseFrame { code: CloseCode::Unsupported, reason: "MQTT is binary".into() };
                    let _ = web.close(&mut pipe, Some(frame));
                    break Some(Over::Broken("a WebSocket text frame [MQTT-6.0.0-1]"));
                }
                Ok(_) => {}
                Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => break None,
                Err(Error::ConnectionClosed | Error::AlreadyClosed) => break Some(Over::Ended),
                Err(Error::Capacity(_)) => {
                    let frame = CloseFrame { code: CloseCode::Size, reason: "frame too large".into() };
                    let _ = web.close(&mut pipe, Some(frame));
                    break Some(Over::Broken("a WebSocket frame larger than a packet may be"));
                }
                Err(_) => {
                    let frame = CloseFrame { code: CloseCode::Protocol, reason: "protocol error".into() };
                    let _ = web.close(&mut pipe, Some(frame));
                    break Some(Over::Broken("a WebSocket protocol error"));
                }
            }
        };
    }

    /// Takes MQTT bytes to be written, as many as one frame is to hold; what was held back goes first.
    pub(super) fn write(&mut self, raw: &Raw, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.flush(raw)?;
        let mut count = 0;
        let mut payload = Vec::new();
        for slice in slices {
            let part = &slice[..slice.len().min(WRITE - count)];
            count += part.len();
            if self.web.is_some() { payload.extend_from_slice(part) } else { self.pass_down(part)? }
        }
        if let Some(web) = &self.web {
            if !web.can_write() {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            let mut frames = Vec::with_capacity(payload.len() + payload.len() / 8 + 16);
            count = self.framer.frame(&payload, &mut frames);
            self.pass_down(&frames)?;
        }
        match self.flush(raw) {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
            _ => Ok(count),
        }
    }

    /// Bytes for TLS, or for the socket.
    pub(super) fn pass_down(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.tls {
            Some(tls) => tls.writer().write_all(bytes),
            None => {
                self.outbox.extend_from_slice(bytes);
                Ok(())
            }
        }
    }

    /// Writes what is held back; `WouldBlock` if not all of it goes.
    pub(super) fn flush(&mut self, raw: &Raw) -> io::Result<()> {
        if let Some(tls) = &mut self.tls {
            // TLS gets more when it has written what it had: so what is held back stays bounded.
            loop {
                while tls.wants_write() {
                    tls.write_tls(&mut Down(raw))?;
                }
                if self.outbox.is_empty() {
                    return Ok(());
                }
                tls.writer().write_all(&std::mem::take(&mut self.outbox))?;
            }
        }
        let mut sent = 0;
        let result = loop {
            if sent == self.outbox.len() {
                break Ok(());
            }
            match raw.send(&self.outbox[sent..]) {
                Ok(count) => sent += count,
                Err(error) => break Err(error),
            }
        };
        if sent == self.outbox.len() {
            self.outbox = Vec::new();
        } else {
            self.outbox.drain(..sent);
        }
        result
    }

    /// The last words of the layers, as far as they can be written now.
    pub(super) fn farewell(&mut self, raw: &Raw) {
        if let Some(web) = self.web.as_mut().filter(|_| !self.framer.is_within()) {
            let mut pipe = Pipe { input: &[], output: &mut self.outbox };
            let _ = web.close(&mut pipe, Some(CloseFrame { code: CloseCode::Normal, reason: "".into() }));
        }
        let _ = self.flush(raw);
        if let Some(tls) = &mut self.tls {
            tls.send_close_notify();
            let _ = self.flush(raw);
        }
    }

    /// TLS, while the handshake is under way.
    pub(super) fn tls(&mut self) -> Option<&mut Connection> {
        self.tls.as_deref_mut()
    }

    /// What has come through so far and is nobody's yet.
    pub(super) fn take_inbox(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.inbox)
    }

    pub(super) fn is_over(&self) -> bool {
        self.over.is_some()
    }

    pub(super) fn inbox(&self) -> &[u8] {
        &self.inbox
    }
}

/// The WebSocket layer's idea of a stream: bytes that came, and a place for those that are to go.
struct Pipe<'a> {
    input: &'a [u8],
    output: &'a mut Vec<u8>,
}

impl Read for Pipe<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.input.is_empty() { Err(io::ErrorKind::WouldBlock.into()) } else { self.input.read(buffer) }
    }
}

impl Write for Pipe<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // Who sends pings and reads no pongs is not answered for ever.
        if self.output.len() > MOST_HELD + CONTROL {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.output.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The socket as TLS writes to it.
struct Down<'a>(&'a Raw);

impl Write for Down<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.send(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Bytes that the layers of an idle WebSocket take, besides its frame buffer.
#[cfg(test)]
pub(super) fn size() -> usize {
    size_of::<Layers>() + size_of::<WebSocketContext>()
}
