//! A connection's socket: MQTT bytes in and out, plain or through layers.
//!
//! Everything is without waiting and takes `&self`: any thread may write; the connection's task reads, and waits for
//! readiness.

use super::layers::Layers;
use crate::env::net::{self, TcpStream, UnixStream};
use parking_lot::Mutex;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::net::IpAddr;
use std::task::{Context, Poll};

/// A connection's socket.
pub struct Socket(Inner);

enum Inner {
    Tcp(TcpStream),
    Unix(UnixStream),
    Layered(Box<Layered>),
}

struct Layered {
    raw: Raw,
    layers: Mutex<Layers>,
}

/// However a connection ends, a layer that has a word for the end says it: who meets a bare end of the stream has to
/// take it for an attack (TLS) or a failure (WebSocket).
impl Drop for Layered {
    fn drop(&mut self) {
        self.layers.get_mut().farewell(&self.raw);
    }
}

/// The socket under the layers.
pub(super) enum Raw {
    Tcp(TcpStream),
    Unix(UnixStream),
}

macro_rules! each {
    ($raw:expr, $stream:ident => $body:expr) => {
        match $raw {
            Raw::Tcp($stream) => $body,
            Raw::Unix($stream) => $body,
        }
    };
}

impl Raw {
    pub(super) fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        each!(self, stream => net::receive(stream, buffer))
    }

    pub(super) fn receive_unannounced(&self, buffer: &mut [u8]) -> io::Result<usize> {
        each!(self, stream => net::receive_unannounced(stream, buffer))
    }

    pub(super) fn look(&self, buffer: &mut [u8]) -> io::Result<usize> {
        each!(self, stream => net::look(stream, buffer))
    }

    pub(super) fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        each!(self, stream => stream.try_write(bytes))
    }

    pub(super) async fn readable(&self) -> io::Result<()> {
        each!(self, stream => stream.readable().await)
    }

    pub(super) async fn writable(&self) -> io::Result<()> {
        each!(self, stream => stream.writable().await)
    }

    fn poll_read_ready(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, stream => stream.poll_read_ready(context))
    }

    fn poll_write_ready(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, stream => stream.poll_write_ready(context))
    }

    fn finish(&self) {
        each!(self, stream => net::finish(stream));
    }

    fn shutdown(&self) {
        each!(self, stream => net::shutdown(stream));
    }
}

impl Socket {
    /// One end of a connection within this process.
    #[must_use]
    pub fn unix(stream: UnixStream) -> Self {
        Self(Inner::Unix(stream))
    }

    /// The address of the other end, if it has one.
    #[must_use]
    pub fn peer_ip(&self) -> Option<IpAddr> {
        let stream = match &self.0 {
            Inner::Tcp(stream) => stream,
            Inner::Layered(layered) => match &layered.raw {
                Raw::Tcp(stream) => stream,
                Raw::Unix(_) => return None,
            },
            Inner::Unix(_) => return None,
        };
        stream.peer_addr().ok().map(|address| address.ip().to_canonical())
    }

    /// A socket whose bytes are MQTT's.
    pub(super) fn plain(raw: Raw) -> Self {
        Self(match raw {
            Raw::Tcp(stream) => Inner::Tcp(stream),
            Raw::Unix(stream) => Inner::Unix(stream),
        })
    }

    /// A socket with layers between it and MQTT.
    pub(super) fn layered(raw: Raw, layers: Layers) -> Self {
        Self(Inner::Layered(Box::new(Layered { raw, layers: Mutex::new(layers) })))
    }

    /// Reads MQTT bytes; `Ok(0)` is the end of the stream.
    #[inline]
    pub fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match &self.0 {
            Inner::Tcp(stream) => net::receive(stream, buffer),
            Inner::Unix(stream) => net::receive(stream, buffer),
            Inner::Layered(layered) => {
                let raw = &layered.raw;
                layered.layers.lock().read(raw, buffer, |raw, into| raw.receive(into))
            }
        }
    }

    /// As [`Self::try_read`], even if the runtime has not been told yet that something came.
    pub fn try_read_unannounced(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match &self.0 {
            Inner::Tcp(stream) => net::receive_unannounced(stream, buffer),
            Inner::Unix(stream) => net::receive_unannounced(stream, buffer),
            Inner::Layered(layered) => {
                let raw = &layered.raw;
                layered.layers.lock().read(raw, buffer, |raw, into| raw.receive_unannounced(into))
            }
        }
    }

    /// Writes MQTT bytes; how many were taken. What a layer took and could not write is written by
    /// [`Self::try_flush`].
    #[inline]
    pub fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match &self.0 {
            Inner::Tcp(stream) => stream.try_write(bytes),
            Inner::Unix(stream) => stream.try_write(bytes),
            Inner::Layered(layered) => layered.layers.lock().write(&layered.raw, &[IoSlice::new(bytes)]),
        }
    }

    /// As [`Self::try_write`], for bytes that lie apart.
    pub fn try_write_vectored(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match &self.0 {
            Inner::Tcp(stream) => stream.try_write_vectored(slices),
            Inner::Unix(stream) => stream.try_write_vectored(slices),
            Inner::Layered(layered) => layered.layers.lock().write(&layered.raw, slices),
        }
    }

    /// Writes what the layers hold back; `WouldBlock` if not all of it went.
    #[inline]
    pub fn try_flush(&self) -> io::Result<()> {
        match &self.0 {
            Inner::Layered(layered) => layered.layers.lock().flush(&layered.raw),
            _ => Ok(()),
        }
    }

    /// Whether the layers hold something back that is to be written.
    #[inline]
    #[must_use]
    pub fn holds_back(&self) -> bool {
        match &self.0 {
            Inner::Layered(layered) => layered.layers.lock().holds_back(),
            _ => false,
        }
    }

    /// Whether something came that is not whole enough to be MQTT bytes yet: part of a WebSocket message.
    #[inline]
    #[must_use]
    pub fn is_unfinished(&self) -> bool {
        match &self.0 {
            Inner::Layered(layered) => layered.layers.lock().is_unfinished(),
            _ => false,
        }
    }

    /// Ready when there may be something to read.
    #[inline]
    pub fn poll_read_ready(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &self.0 {
            Inner::Tcp(stream) => stream.poll_read_ready(context),
            Inner::Unix(stream) => stream.poll_read_ready(context),
            Inner::Layered(layered) if layered.layers.lock().has_read() => Poll::Ready(Ok(())),
            Inner::Layered(layered) => layered.raw.poll_read_ready(context),
        }
    }

    /// Ready when the socket takes bytes.
    pub fn poll_write_ready(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &self.0 {
            Inner::Tcp(stream) => stream.poll_write_ready(context),
            Inner::Unix(stream) => stream.poll_write_ready(context),
            Inner::Layered(layered) => layered.raw.poll_write_ready(context),
        }
    }

    /// Waits until there may be something to read.
    pub async fn readable(&self) -> io::Result<()> {
        poll_fn(|context| self.poll_read_ready(context)).await
    }

    /// Waits until the socket takes bytes.
    pub async fn writable(&self) -> io::Result<()> {
        poll_fn(|context| self.poll_write_ready(context)).await
    }

    /// Lets WebSocket frames of up to `bytes` in: before CONNECT little is allowed.
    pub fn allow_frames(&self, bytes: usize) {
        if let Inner::Layered(layered) = &self.0 {
            layered.layers.lock().allow_frames(bytes);
        }
    }

    /// Ends the direction to the peer, with what the layers have to say at the end.
    pub fn finish(&self) {
        match &self.0 {
            Inner::Tcp(stream) => net::finish(stream),
            Inner::Unix(stream) => net::finish(stream),
            Inner::Layered(layered) => {
                layered.layers.lock().farewell(&layered.raw);
                layered.raw.finish();
            }
        }
    }

    /// Ends both directions, whoever still holds the socket.
    pub fn shutdown(&self) {
        match &self.0 {
            Inner::Tcp(stream) => net::shutdown(stream),
            Inner::Unix(stream) => net::shutdown(stream),
            Inner::Layered(layered) => {
                layered.layers.lock().farewell(&layered.raw);
                layered.raw.shutdown();
            }
        }
    }
}
