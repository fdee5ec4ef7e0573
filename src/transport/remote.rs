//! Where a client is.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

/// The other end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remote {
    /// An address, as the socket or a trusted proxy tells it.
    Ip(SocketAddr),
    /// This machine, over a Unix socket.
    Unix,
}

impl Remote {
    /// The IP address, if there is one: what limits and back-off count by.
    #[must_use]
    pub fn ip(&self) -> Option<IpAddr> {
        match self {
            Self::Ip(address) => Some(address.ip()),
            Self::Unix => None,
        }
    }
}

impl fmt::Display for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(address) => address.fmt(f),
            Self::Unix => f.write_str("unix"),
        }
    }
}

/// What a connection's MQTT bytes are wrapped in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Nothing.
    Tcp,
    /// TLS.
    Tls,
    /// WebSocket frames.
    WebSocket,
    /// WebSocket frames in TLS.
    SecureWebSocket,
    /// Nothing, over a Unix socket.
    Unix,
}

impl Kind {
    /// Its name in logs, metrics and the API.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Tls => "tls",
            Self::WebSocket => "ws",
            Self::SecureWebSocket => "wss",
            Self::Unix => "unix",
        }
    }
}
